//! Disks.

use serde::Deserialize;

use super::{OperationLock, Tag, call};
use crate::acs::{Client, Error, Kind, json_list};
use crate::api::answer::{flag, listed, named, number, pages};

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Disk {
    /// `d-…`
    pub disk_id: String,
    /// As the user named it.
    pub disk_name: String,
    /// `cloud_essd`, `cloud_auto`, `cloud_efficiency`, …
    pub category: String,
    /// `PL0` to `PL3`; empty where the category has none.
    pub performance_level: String,
    /// `In_use`, `Available`, `Attaching`, `Detaching`, `Creating` or `ReIniting`.
    pub status: String,
    /// Empty for a disk that may be attached to several; see [`attachments`](Self::attachments).
    pub instance_id: String,
    /// `system` or `data`.
    #[serde(rename = "Type")]
    pub disk_type: String,
    /// Where it is.
    pub region_id: String,
    /// Where in the region; all disks of a group have to share it.
    pub zone_id: String,
    /// GiB.
    #[serde(deserialize_with = "number")]
    pub size: Option<i64>,
    /// `/dev/xvda`, `/dev/xvdb`, …: tells the order of a disk among an instance's, not what the guest calls it.
    pub device: String,
    /// What the guest finds as the serial of its block device.
    pub serial_number: String,
    /// `Disabled`, `Enabled` or `LegacyShared`.
    pub multi_attach: String,
    /// By KMS or the service's key.
    #[serde(deserialize_with = "flag")]
    pub encrypted: bool,
    /// The KMS key, where the disk is encrypted by one.
    #[serde(rename = "KMSKeyId")]
    pub kms_key_id: String,
    /// Whether it can be detached and outlive the instance.
    #[serde(deserialize_with = "flag")]
    pub portable: bool,
    /// Whether it goes when its instance is released.
    #[serde(deserialize_with = "flag")]
    pub delete_with_instance: bool,
    /// The snapshot that it was made from, if any.
    pub source_snapshot_id: String,
    /// To which instances.
    #[serde(deserialize_with = "listed")]
    pub attachments: Vec<Attachment>,
    /// Not empty when the cloud has locked it.
    #[serde(deserialize_with = "listed")]
    pub operation_locks: Vec<OperationLock>,
    /// Its tags.
    #[serde(deserialize_with = "listed")]
    pub tags: Vec<Tag>,
}

/// One of a disk's attachments.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attachment {
    /// `i-…`
    pub instance_id: String,
}

/// The disks attached to an instance; none may mean that the caller may not see them.
///
/// # Errors
/// Those of the call.
pub async fn describe_disks_of(
    client: &Client,
    region_id: &str,
    instance_id: &str,
) -> Result<Vec<Disk>, Error> {
    let call = call("DescribeDisks", region_id, Kind::Read)
        .on(instance_id)
        .param("InstanceId", instance_id)
        .param("MaxResults", 100);
    pages(client, call, "/Disks/Disk", "/NextToken").await
}

/// The disks of these ids, asked a hundred at a time; those unknown or not to be seen are just missing.
///
/// # Errors
/// Those of the first call that fails.
pub async fn describe_disks(client: &Client, region_id: &str, ids: &[String]) -> Result<Vec<Disk>, Error> {
    let mut found = Vec::new();
    for ids in ids.chunks(100) {
        let call = call("DescribeDisks", region_id, Kind::Read)
            .on(named(ids))
            .param("DiskIds", json_list(ids))
            .param("MaxResults", 100);
        found.extend(pages::<Disk>(client, call, "/Disks/Disk", "/NextToken").await?);
    }
    Ok(found)
}

/// The disks that have all of these tags (at most 20); with none: none, and nothing is asked.
///
/// # Errors
/// Those of the call.
pub async fn describe_disks_tagged(
    client: &Client,
    region_id: &str,
    tags: &[(String, String)],
) -> Result<Vec<Disk>, Error> {
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    let call = call("DescribeDisks", region_id, Kind::Read).tags(tags).param("MaxResults", 100);
    pages(client, call, "/Disks/Disk", "/NextToken").await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::{answering, flat, strings};

    #[tokio::test]
    async fn disks_are_read_as_the_cloud_writes_them() {
        let (client, seen) = answering(json!({"TotalCount": 1, "Disks": {"Disk": [{
            "DiskId": "d-1", "Category": "cloud_essd", "Status": "In_use", "InstanceId": "i-1", "Type": "data",
            "ZoneId": "cn-hangzhou-b", "Size": 40, "SerialNumber": "bp1abc", "MultiAttach": "Disabled",
            "Encrypted": true, "KMSKeyId": "key-1", "Portable": true,
            "OperationLocks": {"OperationLock": [{"LockReason": "financial"}]},
            "Attachments": {"Attachment": [{"InstanceId": "i-1", "Device": "/dev/xvdb"}]},
            "Tags": {"Tag": [{"TagKey": "k", "TagValue": ""}]},
        }]}}));
        let disks = describe_disks_of(&client, "cn-hangzhou", "i-1").await.unwrap();
        let disk = &disks[0];
        assert_eq!((disk.size, disk.disk_type.as_str(), disk.portable), (Some(40), "data", true));
        assert_eq!(
            (disk.kms_key_id.as_str(), disk.operation_locks[0].lock_reason.as_str()),
            ("key-1", "financial")
        );
        assert_eq!((disk.attachments[0].instance_id.as_str(), disk.tags[0].key.as_str()), ("i-1", "k"));
        describe_disks(&client, "cn-hangzhou", &strings(&["d-1", "d-2"])).await.unwrap();
        assert!(describe_disks(&client, "cn-hangzhou", &[]).await.unwrap().is_empty());
        describe_disks_tagged(&client, "cn-hangzhou", &[("k".into(), "v".into())]).await.unwrap();
        assert!(describe_disks_tagged(&client, "cn-hangzhou", &[]).await.unwrap().is_empty());
        let seen = seen.lock().unwrap();
        assert_eq!(flat(&seen[0]), ["Action=DescribeDisks", "InstanceId=i-1", "MaxResults=100"]);
        assert_eq!(flat(&seen[1]), ["Action=DescribeDisks", r#"DiskIds=["d-1","d-2"]"#, "MaxResults=100"]);
        assert_eq!(
            flat(&seen[2]),
            ["Action=DescribeDisks", "MaxResults=100", "Tag.1.Key=k", "Tag.1.Value=v"]
        );
        assert_eq!(seen.len(), 3);
    }
}
