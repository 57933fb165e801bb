//! Instances.

use serde::Deserialize;

use super::{OperationLock, Tag, call};
use crate::acs::{Client, Error, Kind, json_list};
use crate::api::answer::{listed, named, pages};

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Instance {
    /// `i-…`
    pub instance_id: String,
    /// As the user named it.
    pub instance_name: String,
    /// `Pending`, `Running`, `Starting`, `Stopping` or `Stopped`.
    pub status: String,
    /// `KeepCharging`, `StopCharging`, or `Not-applicable` while it runs.
    pub stopped_mode: String,
    /// `linux` or `windows`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// e.g. `Ubuntu  22.04 64位`; the language is the account's.
    #[serde(rename = "OSName")]
    pub os_name: String,
    /// The same in English.
    #[serde(rename = "OSNameEn")]
    pub os_name_en: String,
    /// Where it is.
    pub region_id: String,
    /// Where in the region.
    pub zone_id: String,
    /// Its resource group, if any.
    pub resource_group_id: String,
    /// Not empty when the cloud has locked it.
    #[serde(deserialize_with = "listed")]
    pub operation_locks: Vec<OperationLock>,
    /// Its tags.
    #[serde(deserialize_with = "listed")]
    pub tags: Vec<Tag>,
}

/// Those of `ids` (asked a hundred at a time) that have all of `tags` (at most 20). Without ids: all with these
/// tags. With neither: none, and nothing is asked. Ids that are unknown, or that the caller may not see, are just
/// missing.
///
/// # Errors
/// Those of the first call that fails.
pub async fn describe_instances(
    client: &Client,
    region_id: &str,
    ids: &[String],
    tags: &[(String, String)],
) -> Result<Vec<Instance>, Error> {
    let all = || call("DescribeInstances", region_id, Kind::Read).param("MaxResults", 100).tags(tags);
    let (list, next) = ("/Instances/Instance", "/NextToken");
    if ids.is_empty() {
        return if tags.is_empty() { Ok(Vec::new()) } else { pages(client, all(), list, next).await };
    }
    let mut found = Vec::new();
    for ids in ids.chunks(100) {
        let call = all().on(named(ids)).param("InstanceIds", json_list(ids));
        found.extend(pages::<Instance>(client, call, list, next).await?);
    }
    Ok(found)
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RamRole {
    instance_id: String,
    ram_role_name: String,
}

/// Name of the RAM role of an instance; `None`: it has none, or the caller may not see it.
///
/// # Errors
/// Those of the call.
pub async fn instance_ram_role(
    client: &Client,
    region_id: &str,
    instance_id: &str,
) -> Result<Option<String>, Error> {
    let call = call("DescribeInstanceRamRole", region_id, Kind::Read)
        .on(instance_id)
        .param("InstanceIds", json_list(&[instance_id.to_owned()]))
        .param("PageSize", 50);
    let found: Vec<RamRole> =
        pages(client, call, "/InstanceRamRoleSets/InstanceRamRoleSet", "/NextToken").await?;
    let own = found.into_iter().find(|role| role.instance_id == instance_id);
    Ok(own.map(|role| role.ram_role_name).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::{answering, cloud, flat, strings};

    #[tokio::test]
    async fn instances_are_asked_by_id_or_by_tag() {
        let (client, seen) = answering(json!({"Instances": {"Instance": [{
            "InstanceId": "i-1", "Status": "Running", "OSType": "linux", "OSName": "Ubuntu", "OSNameEn": "Ubuntu 22.04",
            "RegionId": "cn-hangzhou", "ZoneId": "cn-hangzhou-b", "Memory": 1024,
            "OperationLocks": {"LockReason": [{"LockReason": "security"}]},
            "Tags": {"Tag": [{"TagKey": "backup", "TagValue": "nightly"}]},
        }]}}));
        let found = describe_instances(&client, "cn-hangzhou", &strings(&["i-1"]), &[]).await.unwrap();
        assert_eq!((found[0].os_type.as_str(), found[0].os_name_en.as_str()), ("linux", "Ubuntu 22.04"));
        assert_eq!((found[0].operation_locks[0].lock_reason.as_str(), found[0].tags.len()), ("security", 1));
        describe_instances(&client, "cn-hangzhou", &[], &[("backup".into(), "nightly".into())])
            .await
            .unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(flat(&seen[0]), ["Action=DescribeInstances", "InstanceIds=[\"i-1\"]", "MaxResults=100"]);
        let by_tag =
            ["Action=DescribeInstances", "MaxResults=100", "Tag.1.Key=backup", "Tag.1.Value=nightly"];
        assert_eq!(flat(&seen[1]), by_tag);
    }

    #[tokio::test]
    async fn asking_for_nothing_does_not_list_the_account() {
        let (client, seen) = answering(json!({}));
        assert!(describe_instances(&client, "cn-hangzhou", &[], &[]).await.unwrap().is_empty());
        assert!(seen.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn many_ids_are_asked_a_hundred_at_a_time() {
        let (client, _) = cloud(|wire| {
            let ids: Vec<String> = serde_json::from_str(wire.param("InstanceIds").unwrap()).unwrap();
            assert!(ids.len() <= 100);
            let found: Vec<_> = ids.iter().map(|id| json!({ "InstanceId": id })).collect();
            json!({"Instances": {"Instance": found}})
        });
        let ids: Vec<String> = (0..250).map(|n| format!("i-{n}")).collect();
        assert_eq!(describe_instances(&client, "cn-hangzhou", &ids, &[]).await.unwrap().len(), 250);
    }

    #[tokio::test]
    async fn an_instance_has_a_role_or_none() {
        let (client, seen) = answering(json!({"InstanceRamRoleSets": {"InstanceRamRoleSet": [
            {"InstanceId": "i-1", "RamRoleName": "snap"}, {"InstanceId": "i-2", "RamRoleName": ""},
        ]}}));
        let role = |id: &'static str| instance_ram_role(&client, "cn-hangzhou", id);
        assert_eq!(role("i-1").await.unwrap().as_deref(), Some("snap"));
        assert_eq!((role("i-2").await.unwrap(), role("i-3").await.unwrap()), (None, None));
        assert_eq!(seen.lock().unwrap()[0]["InstanceIds"], r#"["i-1"]"#);
    }
}
