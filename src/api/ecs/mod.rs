//! ECS 2014-05-26: regions and tags here; instances, disks and snapshots in their own files.
//!
//! Source of parameters, fields and limits:
//! <https://www.alibabacloud.com/help/en/ecs/developer-reference/api-ecs-2014-05-26-overview>.

mod attach;
mod disk;
mod group;
mod instance;
mod wait;

use serde::Deserialize;

pub use self::attach::{CreateDisk, attach_disk, create_disk, delete_disk, detach_disk};
pub use self::disk::{Attachment, Disk, describe_disks, describe_disks_of, describe_disks_tagged};
pub use self::group::{
    CreateSnapshotGroup, GroupFilter, GroupSnapshot, Snapshot, SnapshotGroup, Which, create_snapshot_group,
    create_snapshot_group_call, describe_snapshot_groups, describe_snapshot_groups_call, describe_snapshots,
    describe_snapshots_of, list_snapshot_groups,
};
pub use self::instance::{Instance, describe_instances, instance_ram_role};
pub use self::wait::disk_becomes;
pub use super::answer::{OperationLock, Tag};
use super::answer::{named, pages};
use crate::acs::{Call, Client, Error, Kind, Product};

/// The Elastic Compute Service.
pub static ECS: Product = Product {
    name: "ecs",
    version: "2014-05-26",
    public: "ecs.{region}.aliyuncs.com",
    vpc: "ecs-vpc.{region}.aliyuncs.com",
};

/// An ECS call with its region.
pub(super) fn call(action: &'static str, region_id: &str, kind: Kind) -> Call {
    bare(action, region_id, kind).param("RegionId", region_id)
}

/// One of the calls that have no such parameter: only the endpoint says the region.
fn bare(action: &'static str, region_id: &str, kind: Kind) -> Call {
    Call::new(&ECS, action, region_id, kind)
}

/// A region that the account can use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Region {
    /// e.g. `cn-hangzhou`
    pub region_id: String,
    /// `available` or `soldOut`
    pub status: String,
}

/// All regions, asked in the client's own.
///
/// # Errors
/// Those of the call.
pub async fn describe_regions(client: &Client) -> Result<Vec<Region>, Error> {
    let call = call("DescribeRegions", client.region_id(), Kind::Read);
    pages(client, call, "/Regions/Region", "/NextToken").await
}

/// Sets up to 20 tags (key and value up to 128 characters) on any number of resources of one type: `snapshot`,
/// `disk`, `instance`, …; groups can be tagged at creation only, as far as is documented. In chunks of 50: after
/// an error some may be tagged. It overwrites, so that a repeat does no harm.
///
/// # Errors
/// Those of the first call that fails.
pub async fn tag_resources(
    client: &Client,
    region_id: &str,
    resource_type: &str,
    ids: &[String],
    tags: &[(String, String)],
) -> Result<(), Error> {
    if tags.is_empty() {
        return Ok(());
    }
    for ids in ids.chunks(50) {
        let call = call("TagResources", region_id, Kind::Idempotent)
            .on(named(ids))
            .param("ResourceType", resource_type)
            .list("ResourceId", ids)
            .tags(tags);
        client.call(&call).await?;
    }
    Ok(())
}

/// Removes tags by key, as [`tag_resources`] sets them; one that is not there is no error.
///
/// # Errors
/// Those of the first call that fails.
pub async fn untag_resources(
    client: &Client,
    region_id: &str,
    resource_type: &str,
    ids: &[String],
    keys: &[String],
) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    for ids in ids.chunks(50) {
        let call = call("UntagResources", region_id, Kind::Idempotent)
            .on(named(ids))
            .param("ResourceType", resource_type)
            .list("ResourceId", ids)
            .list("TagKey", keys);
        client.call(&call).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::{answering, flat, strings};

    #[tokio::test]
    async fn regions_are_read() {
        let (client, _) = answering(json!({"Regions": {"Region": [
            {"RegionId": "cn-hangzhou", "Status": "available", "LocalName": "x"}, {"RegionId": "eu-central-1"},
        ]}}));
        let regions = describe_regions(&client).await.unwrap();
        assert_eq!((regions.len(), regions[0].status.as_str()), (2, "available"));
    }

    #[tokio::test]
    async fn tags_are_set_on_fifty_at_a_time() {
        let (client, seen) = answering(json!({}));
        let ids: Vec<String> = (0..51).map(|n| format!("s-{n}")).collect();
        let tags = [("APPConsistent".to_owned(), "True".to_owned())];
        tag_resources(&client, "cn-hangzhou", "snapshot", &ids, &tags).await.unwrap();
        let seen = seen.lock().unwrap();
        let expected = strings(&[
            "Action=TagResources",
            "ResourceId.1=s-50",
            "ResourceType=snapshot",
            "Tag.1.Key=APPConsistent",
            "Tag.1.Value=True",
        ]);
        assert_eq!((seen.len(), flat(&seen[1])), (2, expected));
    }

    #[tokio::test]
    async fn tags_are_removed_by_key() {
        let (client, seen) = answering(json!({}));
        let keys = strings(&["APPConsistent"]);
        untag_resources(&client, "r", "snapshot", &strings(&["s-1"]), &keys).await.unwrap();
        let expected = strings(&[
            "Action=UntagResources",
            "ResourceId.1=s-1",
            "ResourceType=snapshot",
            "TagKey.1=APPConsistent",
        ]);
        assert_eq!(flat(&seen.lock().unwrap()[0]), expected);
    }

    #[tokio::test]
    async fn nothing_to_tag_is_no_call() {
        let (client, seen) = answering(json!({}));
        tag_resources(&client, "r", "snapshot", &[], &[("k".into(), "v".into())]).await.unwrap();
        tag_resources(&client, "r", "snapshot", &strings(&["s-1"]), &[]).await.unwrap();
        untag_resources(&client, "r", "snapshot", &strings(&["s-1"]), &[]).await.unwrap();
        assert!(seen.lock().unwrap().is_empty());
    }
}
