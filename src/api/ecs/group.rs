//! Snapshot groups and snapshots. The create of a running instance is only built here: it is signed ahead and let go by
//! the guest.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Tag, call};
use crate::acs::{Call, Client, Error, Kind, json_list};
use crate::api::answer::{flag, listed, named, pages, read};

/// A snapshot group to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshotGroup<'a> {
    /// Where the disks are.
    pub region_id: &'a str,
    /// Of the one instance that all disks belong to; without it disks may come from several.
    pub instance_id: Option<&'a str>,
    /// 1 to 128, of one zone; how many really depends on the region.
    pub disk_ids: &'a [String],
    /// 2 to 128 characters: a letter, then letters, digits, `.`, `_`, `-`, `:`.
    pub name: &'a str,
    /// 2 to 256 characters.
    pub description: &'a str,
    /// At most 64 ASCII characters; the same for all variants within one freeze window.
    pub client_token: &'a str,
    /// At most 20.
    pub tags: &'a [(String, String)],
    /// Where the group is to be filed.
    pub resource_group_id: Option<&'a str>,
}

/// CreateSnapshotGroup, for [`presign`](crate::acs::presign). Its answer holds `SnapshotGroupId` (`ssg-…`) only.
pub fn create_snapshot_group_call(wanted: &CreateSnapshotGroup) -> Call {
    let resource = wanted.instance_id.map_or_else(|| named(wanted.disk_ids), str::to_owned);
    call("CreateSnapshotGroup", wanted.region_id, Kind::Idempotent)
        .on(resource)
        .maybe("InstanceId", wanted.instance_id)
        .list("DiskId", wanted.disk_ids)
        .param("Name", wanted.name)
        .param("Description", wanted.description)
        .param("ClientToken", wanted.client_token)
        .maybe("ResourceGroupId", wanted.resource_group_id)
        .tags(wanted.tags)
}

/// Makes the group at once and gives its id, `ssg-…`.
///
/// # Errors
/// Those of the call. With `unknown_outcome` the group may be there all the same.
pub async fn create_snapshot_group(
    client: &Client,
    wanted: &CreateSnapshotGroup<'_>,
) -> Result<String, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Created {
        snapshot_group_id: String,
    }
    let call = create_snapshot_group_call(wanted);
    let created = read(&call, client.call(&call).await?);
    let created: Created = created.map_err(|mut error: Error| {
        error.unknown_outcome = true;
        error
    })?;
    Ok(created.snapshot_group_id)
}

/// Which groups: all conditions have to hold. Without any: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupFilter<'a> {
    /// `ssg-…`, any number.
    pub ids: &'a [String],
    /// Of this instance.
    pub instance_id: Option<&'a str>,
    /// With this name.
    pub name: Option<&'a str>,
    /// With all of these tags, at most 20.
    pub tags: &'a [(String, String)],
}

/// DescribeSnapshotGroups, first page only, for [`presign`](crate::acs::presign); at most 10 ids.
pub fn describe_snapshot_groups_call(region_id: &str, filter: &GroupFilter) -> Call {
    let resource = filter.instance_id.or(filter.name).or(filter.ids.first().map(String::as_str));
    call("DescribeSnapshotGroups", region_id, Kind::Read)
        .on(resource.unwrap_or(region_id))
        .list("SnapshotGroupId", filter.ids)
        .maybe("InstanceId", filter.instance_id)
        .maybe("Name", filter.name)
        .tags(filter.tags)
        .param("MaxResults", 100)
}

/// A snapshot group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotGroup {
    /// `ssg-…`
    pub snapshot_group_id: String,
    /// As it was created.
    pub name: String,
    /// UTC, e.g. `2026-11-22T03:00:00Z`; see [`created_at`](Self::created_at).
    pub creation_time: String,
    /// `progressing`, `accomplished` or `failed`.
    pub status: String,
    /// Empty when the disks come from several.
    pub instance_id: String,
    /// Those of the group.
    #[serde(deserialize_with = "listed")]
    pub tags: Vec<Tag>,
    /// A group under way may not list all of them yet.
    #[serde(deserialize_with = "listed")]
    pub snapshots: Vec<GroupSnapshot>,
}

impl SnapshotGroup {
    /// When it was created, by the cloud's clock, to the second.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.creation_time.parse().ok()
    }

    /// Whether its members are the snapshots of just these disks, one of each.
    pub fn holds_exactly(&self, disk_ids: &[String]) -> bool {
        let mut held: Vec<&str> = self.snapshots.iter().map(|one| one.source_disk_id.as_str()).collect();
        let mut wanted: Vec<&str> = disk_ids.iter().map(String::as_str).collect();
        held.sort_unstable();
        wanted.sort_unstable();
        held == wanted
    }

    /// Whether the cloud says that the group, or a member, failed: nothing can be made of it.
    pub fn failed(&self) -> bool {
        let members = self.snapshots.iter().map(|member| &member.status);
        members.chain([&self.status]).any(|status| status.eq_ignore_ascii_case("failed"))
    }
}

/// A member as its group tells of it; state and time of creation are told by [`describe_snapshots`] only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GroupSnapshot {
    /// `s-…`
    pub snapshot_id: String,
    /// `d-…`
    pub source_disk_id: String,
    /// `system` or `data`.
    pub source_disk_type: String,
    /// As of a snapshot, where the cloud tells it here; the vendor's page does not list it.
    pub status: String,
    /// Of the upload, e.g. `100%`.
    pub progress: String,
    /// Whether disks can be made from it.
    #[serde(deserialize_with = "flag")]
    pub available: bool,
    /// Those of the snapshot.
    #[serde(deserialize_with = "listed")]
    pub tags: Vec<Tag>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Snapshot {
    /// `s-…`
    pub snapshot_id: String,
    /// `progressing`, `accomplished` or `failed`: of the upload, which takes minutes to hours.
    pub status: String,
    /// e.g. `100%`
    pub progress: String,
    /// UTC.
    pub creation_time: String,
    /// `d-…`
    pub source_disk_id: String,
    /// GiB.
    pub source_disk_size: String,
    /// `system` or `data`.
    pub source_disk_type: String,
    /// A disk made from it is encrypted too.
    #[serde(deserialize_with = "flag")]
    pub encrypted: bool,
    /// The KMS key, where it is encrypted by one.
    #[serde(rename = "KMSKeyId")]
    pub kms_key_id: String,
    /// Whether disks can be made from it.
    #[serde(deserialize_with = "flag")]
    pub available: bool,
    /// Its tags.
    #[serde(deserialize_with = "listed")]
    pub tags: Vec<Tag>,
}

/// The groups that meet the filter. A group shows only some 0.4 s after its creation, and a caller without
/// permission gets an empty list: absence proves nothing by itself.
///
/// # Errors
/// Those of the first call that fails.
pub async fn describe_snapshot_groups(
    client: &Client,
    region_id: &str,
    filter: &GroupFilter<'_>,
) -> Result<Vec<SnapshotGroup>, Error> {
    let (list, next) = ("/SnapshotGroups/SnapshotGroup", "/NextToken");
    if *filter == GroupFilter::default() {
        return Ok(Vec::new());
    }
    if filter.ids.is_empty() {
        return pages(client, describe_snapshot_groups_call(region_id, filter), list, next).await;
    }
    let mut found = Vec::new();
    for ids in filter.ids.chunks(10) {
        let call = describe_snapshot_groups_call(region_id, &GroupFilter { ids, ..*filter });
        found.extend(pages::<SnapshotGroup>(client, call, list, next).await?);
    }
    Ok(found)
}

/// All groups of a region, or of an instance in it, newest first as the cloud gives them. A caller without permission
/// gets an empty list.
///
/// # Errors
/// Those of the call.
pub async fn list_snapshot_groups(
    client: &Client,
    region_id: &str,
    instance_id: Option<&str>,
) -> Result<Vec<SnapshotGroup>, Error> {
    let filter = GroupFilter { instance_id, ..GroupFilter::default() };
    let call = describe_snapshot_groups_call(region_id, &filter);
    pages(client, call, "/SnapshotGroups/SnapshotGroup", "/NextToken").await
}

/// The snapshots of these ids, asked a hundred at a time; those unknown or not to be seen are just missing.
///
/// # Errors
/// Those of the first call that fails.
pub async fn describe_snapshots(
    client: &Client,
    region_id: &str,
    ids: &[String],
) -> Result<Vec<Snapshot>, Error> {
    let mut found = Vec::new();
    for ids in ids.chunks(100) {
        let call = call("DescribeSnapshots", region_id, Kind::Read)
            .on(named(ids))
            .param("SnapshotIds", json_list(ids))
            .param("MaxResults", 100);
        found.extend(pages::<Snapshot>(client, call, "/Snapshots/Snapshot", "/NextToken").await?);
    }
    Ok(found)
}

/// Which of a disk's snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Under way, of whatever kind.
    UnderWay,
    /// Made by hand or by a call, not by an automatic policy.
    Manual,
}

/// The snapshots of a disk, a hundred at a time; none may mean that the caller may not see them.
///
/// # Errors
/// Those of the first call that fails.
pub async fn describe_snapshots_of(
    client: &Client,
    region_id: &str,
    disk_id: &str,
    which: Which,
) -> Result<Vec<Snapshot>, Error> {
    let call = call("DescribeSnapshots", region_id, Kind::Read).on(disk_id).param("DiskId", disk_id);
    let call = match which {
        Which::UnderWay => call.param("Status", "progressing"),
        Which::Manual => call.param("SnapshotType", "user"),
    };
    pages(client, call.param("MaxResults", 100), "/Snapshots/Snapshot", "/NextToken").await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::{answering, flat, strings};

    #[test]
    fn the_create_call_carries_what_the_guest_will_send() {
        let call = create_snapshot_group_call(&CreateSnapshotGroup {
            region_id: "cn-hangzhou",
            instance_id: Some("i-1"),
            disk_ids: &strings(&["d-1", "d-2"]),
            name: "orders-db",
            description: "by appsnap",
            client_token: "t-1",
            tags: &[("appsnap:level".into(), "crash".into())],
            resource_group_id: None,
        });
        let flat: Vec<_> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "RegionId=cn-hangzhou",
            "InstanceId=i-1",
            "DiskId.1=d-1",
            "DiskId.2=d-2",
            "Name=orders-db",
            "Description=by appsnap",
            "ClientToken=t-1",
            "Tag.1.Key=appsnap:level",
            "Tag.1.Value=crash",
        ];
        assert_eq!(flat, expected);
        assert_eq!((call.resource.as_str(), call.kind), ("i-1", Kind::Idempotent));
    }

    #[tokio::test]
    async fn a_group_is_made_and_its_id_read() {
        let wanted = CreateSnapshotGroup {
            region_id: "cn-hangzhou",
            instance_id: Some("i-1"),
            disk_ids: &strings(&["d-1"]),
            name: "n1",
            description: "by appsnap",
            client_token: "t",
            tags: &[],
            resource_group_id: None,
        };
        let (client, seen) = answering(json!({"SnapshotGroupId": "ssg-1", "RequestId": "R"}));
        assert_eq!(create_snapshot_group(&client, &wanted).await.unwrap(), "ssg-1");
        assert_eq!(seen.lock().unwrap()[0]["ClientToken"], "t");
        let (client, _) = answering(json!({"RequestId": "R"}));
        let error = create_snapshot_group(&client, &wanted).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.unknown_outcome), ("answer.malformed", true));
    }

    #[tokio::test]
    async fn the_snapshots_of_a_disk_are_asked_by_state_or_by_kind() {
        let (client, seen) = answering(json!({"Snapshots": {"Snapshot": [{"SnapshotId": "s-1"}]}}));
        for (which, asked) in [(Which::UnderWay, "Status=progressing"), (Which::Manual, "SnapshotType=user")]
        {
            let found = describe_snapshots_of(&client, "cn-hangzhou", "d-1", which).await.unwrap();
            assert_eq!(found.len(), 1);
            let seen = flat(seen.lock().unwrap().last().unwrap());
            assert!(seen.contains(&asked.to_string()) && seen.contains(&"DiskId=d-1".into()), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn groups_are_read_with_their_members() {
        let (client, seen) = answering(json!({"SnapshotGroups": {"SnapshotGroup": [{
            "SnapshotGroupId": "ssg-1", "Name": "n", "CreationTime": "2026-11-22T03:00:00Z", "Status": "progressing",
            "InstanceId": "i-1", "Tags": {"Tag": [{"Key": "appsnap:run", "Value": "r"}]},
            "Snapshots": {"Snapshot": [{"SnapshotId": "s-1", "SourceDiskId": "d-1", "Progress": "0%",
                "Available": true, "Tags": {"Tag": [{"Key": "FsConsistent", "Value": "True"}]}}]},
        }]}}));
        let ids: Vec<String> = (0..11).map(|n| format!("ssg-{n}")).collect();
        let filter = GroupFilter { ids: &ids, ..GroupFilter::default() };
        let groups = describe_snapshot_groups(&client, "cn-hangzhou", &filter).await.unwrap();
        assert_eq!((groups.len(), seen.lock().unwrap().len()), (2, 2)); // one from each chunk of ten
        let group = &groups[0];
        assert_eq!(group.created_at(), "2026-11-22T03:00:00Z".parse().ok());
        assert_eq!((group.tags[0].value.as_str(), group.snapshots[0].available), ("r", true));
        assert_eq!(group.snapshots[0].tags[0].key, "FsConsistent");
        assert_eq!(seen.lock().unwrap()[1]["SnapshotGroupId.1"], "ssg-10");
    }

    #[tokio::test]
    async fn an_empty_filter_does_not_list_the_account() {
        let (client, seen) = answering(json!({}));
        let found = describe_snapshot_groups(&client, "cn-hangzhou", &GroupFilter::default()).await.unwrap();
        assert!(found.is_empty() && seen.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn snapshots_spell_their_tags_differently() {
        let (client, _) = answering(json!({"Snapshots": {"Snapshot": [{
            "SnapshotId": "s-1", "Status": "accomplished", "CreationTime": "2026-11-22T03:00Z",
            "SourceDiskId": "d-1", "SourceDiskSize": "40", "Available": "true",
            "Tags": {"Tag": [{"TagKey": "APPConsistent", "TagValue": "True"}]},
        }]}}));
        let found = describe_snapshots(&client, "cn-hangzhou", &strings(&["s-1"])).await.unwrap();
        assert_eq!((found[0].tags[0].key.as_str(), found[0].available), ("APPConsistent", true));
        let group = SnapshotGroup { creation_time: found[0].creation_time.clone(), ..Default::default() };
        assert_eq!(group.created_at(), "2026-11-22T03:00:00Z".parse().ok());
    }
}
