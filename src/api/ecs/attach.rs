//! Disks made, attached, detached and deleted. The cloud goes on after its answer: wait with
//! [`disk_becomes`](super::disk_becomes) before the next step.

use serde::Deserialize;

use super::{bare, call};
use crate::acs::{Client, Error, Kind};
use crate::api::answer::read;

/// A disk to be made from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateDisk<'a> {
    /// Where.
    pub region_id: &'a str,
    /// Where in the region.
    pub zone_id: &'a str,
    /// `s-…`, available.
    pub snapshot_id: &'a str,
    /// e.g. `cloud_essd`; the ESSD family, while the snapshot is not uploaded yet.
    pub category: &'a str,
    /// e.g. `PL1`; `cloud_essd` has one, `PL1` by default.
    pub performance_level: Option<&'a str>,
    /// GiB, at least the source's.
    pub size: i64,
    /// Encrypts it by this key of KMS. A disk of an encrypted snapshot is encrypted by the snapshot's, unless one is given.
    pub kms_key_id: Option<&'a str>,
    /// 2 to 128 characters.
    pub name: &'a str,
    /// At most 64 ASCII characters.
    pub client_token: &'a str,
    /// At most 20.
    pub tags: &'a [(String, String)],
}

/// Begins to make a disk and gives its id; it can be attached when it is `Available`.
///
/// # Errors
/// Those of the call.
pub async fn create_disk(client: &Client, wanted: &CreateDisk<'_>) -> Result<String, Error> {
    let call = call("CreateDisk", wanted.region_id, Kind::Idempotent)
        .on(wanted.snapshot_id)
        .param("ZoneId", wanted.zone_id)
        .param("SnapshotId", wanted.snapshot_id)
        .param("DiskCategory", wanted.category)
        .maybe("PerformanceLevel", wanted.performance_level)
        .param("Size", wanted.size)
        .maybe("Encrypted", wanted.kms_key_id.map(|_| true))
        .maybe("KMSKeyId", wanted.kms_key_id)
        .param("DiskName", wanted.name)
        .param("ClientToken", wanted.client_token)
        .tags(wanted.tags);
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Created {
        disk_id: String,
    }
    let created: Created = read(&call, client.call(&call).await?)?;
    Ok(created.disk_id)
}

/// Begins to attach an available disk to a running or stopped instance of its zone; then it is `In_use`. The guest finds
/// it by its serial. There is no ClientToken: after an error of unknown outcome the disk's state tells.
///
/// # Errors
/// Those of the call.
pub async fn attach_disk(
    client: &Client,
    region_id: &str,
    disk_id: &str,
    instance_id: &str,
    delete_with_instance: bool,
) -> Result<(), Error> {
    let call = bare("AttachDisk", region_id, Kind::Once)
        .on(format!("{disk_id} to {instance_id}"))
        .param("DiskId", disk_id)
        .param("InstanceId", instance_id)
        .param("DeleteWithInstance", delete_with_instance);
    client.call(&call).await.map(|_| ())
}

/// Begins to detach a data disk, mounted or not; then it is `Available`, after a minute or so.
///
/// # Errors
/// Those of the call; `InvalidDisk.AlreadyDetached` where there is nothing to detach.
pub async fn detach_disk(
    client: &Client,
    region_id: &str,
    disk_id: &str,
    instance_id: &str,
) -> Result<(), Error> {
    let call = bare("DetachDisk", region_id, Kind::Once)
        .on(format!("{disk_id} from {instance_id}"))
        .param("DiskId", disk_id)
        .param("InstanceId", instance_id);
    client.call(&call).await.map(|_| ())
}

/// Deletes an available disk for good; its snapshots stay. For one that is not there the cloud says nothing, unless the
/// caller's right depends on the disk's tags: then it is denied.
///
/// # Errors
/// Those of the call.
pub async fn delete_disk(client: &Client, region_id: &str, disk_id: &str) -> Result<(), Error> {
    let call = bare("DeleteDisk", region_id, Kind::Idempotent).on(disk_id).param("DiskId", disk_id);
    client.call(&call).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::{answering, flat};

    #[tokio::test]
    async fn a_disk_is_made_from_a_snapshot() {
        let wanted = CreateDisk {
            region_id: "cn-hangzhou",
            zone_id: "cn-hangzhou-b",
            snapshot_id: "s-1",
            category: "cloud_essd",
            size: 40,
            name: "restored",
            client_token: "t",
            ..CreateDisk::default()
        };
        let (client, seen) = answering(json!({"DiskId": "d-9", "RequestId": "R"}));
        assert_eq!(create_disk(&client, &wanted).await.unwrap(), "d-9");
        let sealed = CreateDisk {
            kms_key_id: Some("key-1"),
            performance_level: Some("PL2"),
            tags: &[("k".into(), "v".into())],
            ..wanted.clone()
        };
        create_disk(&client, &sealed).await.unwrap();
        let seen = seen.lock().unwrap().clone();
        assert_eq!(
            flat(&seen[0]),
            [
                "Action=CreateDisk",
                "ClientToken=t",
                "DiskCategory=cloud_essd",
                "DiskName=restored",
                "Size=40",
                "SnapshotId=s-1",
                "ZoneId=cn-hangzhou-b",
            ]
        );
        let more: Vec<String> =
            flat(&seen[1]).into_iter().filter(|one| !flat(&seen[0]).contains(one)).collect();
        assert_eq!(
            more,
            ["Encrypted=true", "KMSKeyId=key-1", "PerformanceLevel=PL2", "Tag.1.Key=k", "Tag.1.Value=v"]
        );
        let (client, _) = answering(json!({"RequestId": "R"}));
        let error = create_disk(&client, &wanted).await.unwrap_err();
        assert!(error.to_string().contains("DiskId"), "{error}");
    }
    #[tokio::test]
    async fn disks_come_and_go_by_calls_without_a_region() {
        let (client, seen) = answering(json!({"RequestId": "R"}));
        attach_disk(&client, "cn-hangzhou", "d-1", "i-1", true).await.unwrap();
        detach_disk(&client, "cn-hangzhou", "d-1", "i-1").await.unwrap();
        delete_disk(&client, "cn-hangzhou", "d-1").await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|params| !params.contains_key("RegionId")));
        assert_eq!(
            flat(&seen[0]),
            ["Action=AttachDisk", "DeleteWithInstance=true", "DiskId=d-1", "InstanceId=i-1"]
        );
        assert_eq!(flat(&seen[1]), ["Action=DetachDisk", "DiskId=d-1", "InstanceId=i-1"]);
        assert_eq!(flat(&seen[2]), ["Action=DeleteDisk", "DiskId=d-1"]);
    }
}
