//! Gathers the facts for a plan. Only looks.

use super::facts::{Facts, Machine};
use crate::acs::{Client, Error};
use crate::api::ecs::{self, GroupFilter, Instance};

/// Why there are no facts.
#[derive(Debug)]
pub enum Trouble {
    /// A call failed.
    Call(Error),
    /// What was asked for is not there: the thing, the place, the cure.
    Absent(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

/// Looks at a group, at what is left of its disks and instance, and at the instance that is to take them.
///
/// # Errors
/// Those of the calls; a group or a named instance that is not shown.
pub async fn look(
    client: &Client,
    region_id: &str,
    group_id: &str,
    to: Option<&str>,
) -> Result<Facts, Trouble> {
    let ids = [group_id.to_owned()];
    let filter = GroupFilter { ids: &ids, ..GroupFilter::default() };
    let found = ecs::describe_snapshot_groups(client, region_id, &filter).await?;
    let Some(group) = found.into_iter().find(|one| one.snapshot_group_id == group_id) else {
        return Err(Trouble::Absent(format!(
            "{group_id} is not shown in {region_id}: it is of another region (--region), was deleted, or the key may not \
             call ecs:DescribeSnapshotGroups (a denial is an empty list); `appsnap groups` lists what is there"
        )));
    };
    let ids: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let snapshots = ecs::describe_snapshots(client, region_id, &ids).await?;
    let ids: Vec<String> = group.snapshots.iter().map(|one| one.source_disk_id.clone()).collect();
    let disks = ecs::describe_disks(client, region_id, &ids).await?;
    let mut of: Vec<&str> = match group.instance_id.as_str() {
        "" => disks.iter().map(|disk| disk.instance_id.as_str()).filter(|id| !id.is_empty()).collect(),
        id => vec![id],
    };
    of.sort_unstable();
    of.dedup();
    if let ([_, _, ..], None) = (of.as_slice(), to) {
        return Err(Trouble::Absent(format!(
            "the disks of {group_id} are of several instances ({}), which one plan does not bring back together; --to \
             INSTANCE attaches copies of all of them to one",
            of.join(", ")
        )));
    }
    let instance = match of.as_slice() {
        [id] => machine(client, region_id, id).await?,
        _ => None,
    };
    let to = match to {
        None => None,
        Some(id) => Some(machine(client, region_id, id).await?.ok_or_else(|| {
            Trouble::Absent(format!(
                "--to: {id} is not shown in {region_id}: it does not exist there, or the key may not call \
                 ecs:DescribeInstances (a denial is an empty list)"
            ))
        })?),
    };
    Ok(Facts { region_id: region_id.into(), group, snapshots, disks, instance, to })
}

async fn machine(client: &Client, region_id: &str, id: &str) -> Result<Option<Machine>, Error> {
    let found = ecs::describe_instances(client, region_id, &[id.to_owned()], &[]).await?;
    let Some(instance) = found.into_iter().find(|one: &Instance| one.instance_id == id) else {
        return Ok(None);
    };
    let disks = ecs::describe_disks_of(client, region_id, id).await?;
    Ok(Some(Machine { instance, disks }))
}
