//! The snapshot groups of a unit: the one that an attempt made, and those that nobody waited for.

use std::time::Duration;

use jiff::SignedDuration;

use super::label::VENDOR_KEYS;
use super::repeat::level_of;
use super::{Task, attempts};
use crate::acs::{Error, Pace, past_limits, wait_until};
use crate::api::ecs::{self, GroupFilter, SnapshotGroup};
use crate::guest::told::Told;
use crate::report::Level;

/// How long a group is looked for that must be there, or may be. Shorter than what another delivery waits before it
/// takes this function for dead.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// How long after a create that the cloud refused for good.
const SHORT: SignedDuration = SignedDuration::from_secs(3);
const PACE: Pace = Pace { first: Duration::from_millis(200), factor: 1.5, longest: Duration::from_secs(2) };

/// The group of an attempt: by the id that the guest knows and the attempt's tag, and waited for until all its disks
/// show. Where the guest knows none: any group of this unit, since a create of unknown outcome may have made one.
pub async fn confirm(
    task: &Task,
    attempt: &str,
    told: Option<&Told>,
) -> Result<Option<SnapshotGroup>, Error> {
    let id = told.and_then(|told| told.group.as_deref());
    let patience = match told {
        // A sequence that was killed could not tell any more what it had sent.
        Some(told) if id.is_none() && told.phase != "lost" => match told.created {
            None => SignedDuration::ZERO, // never asked for
            Some(_) if attempts::in_doubt(told) => PATIENCE,
            Some(_) => SHORT,
        },
        _ => PATIENCE,
    };
    look_for(task, attempt, id, patience).await
}

/// The group of an attempt by its id; where none is known, any group of this unit.
pub async fn look_for(
    task: &Task,
    attempt: &str,
    id: Option<&str>,
    patience: SignedDuration,
) -> Result<Option<SnapshotGroup>, Error> {
    let id: Vec<String> = id.map(str::to_owned).into_iter().collect();
    // Always by a tag, which only a request signed for this run can have set: a guest may tell any id.
    let tags = match id.is_empty() {
        true => [("appsnap:run".to_string(), task.run.clone())],
        false => [("appsnap:attempt".to_string(), attempt.to_string())],
    };
    let instance_id = id.is_empty().then_some(&*task.instance_id);
    let filter = GroupFilter { ids: &id, tags: &tags, instance_id, ..GroupFilter::default() };
    let until = (task.client.clock().now() + patience).min(task.deadline);
    let look = || async {
        let groups = shown(task, &filter).await?;
        let group = chosen(groups, attempt);
        let shows = |group: &SnapshotGroup, id: &str| group.snapshots.iter().any(|s| s.source_disk_id == id);
        let whole = group.as_ref().is_some_and(|g| task.disks.iter().all(|disk| shows(g, &disk.disk_id)));
        // At the end of the patience what there is has to do.
        Ok::<_, Error>((whole || task.client.clock().now() >= until).then_some(group))
    };
    Ok(wait_until(task.client.clock(), PACE, until, look).await?.flatten())
}

/// The group of an attempt: rather one with its own tag; any other may be of an attempt before.
pub fn chosen(groups: Vec<SnapshotGroup>, attempt: &str) -> Option<SnapshotGroup> {
    let (own, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| is_of(group, attempt));
    own.into_iter().chain(others).next()
}

/// Whether it carries the attempt's own tag.
pub fn is_of(group: &SnapshotGroup, attempt: &str) -> bool {
    group.tags.iter().any(|tag| tag.key == "appsnap:attempt" && tag.value == attempt)
}

/// The lowest level that the tags of its snapshots name; `None`: they name none.
pub fn labelled(group: &SnapshotGroup) -> Option<Level> {
    let tags = group.snapshots.iter().flat_map(|snapshot| &snapshot.tags);
    tags.filter(|tag| tag.key == "appsnap:level").map(|tag| level_of(&tag.value)).min()
}

/// Every group that carries the run's tag and holds disks of this instance, whichever attempt made it, and whoever.
pub async fn of_unit(task: &Task) -> Result<Vec<SnapshotGroup>, Error> {
    let tags = [("appsnap:run".to_string(), task.run.clone())];
    let filter = GroupFilter { instance_id: Some(&task.instance_id), tags: &tags, ..GroupFilter::default() };
    shown(task, &filter).await
}

async fn shown(task: &Task, filter: &GroupFilter<'_>) -> Result<Vec<SnapshotGroup>, Error> {
    let look = || ecs::describe_snapshot_groups(&task.client, &task.region_id, filter);
    past_limits(task.client.clock(), task.deadline, look).await
}

/// Writes tags on all members; a vendor's tag of another level than this one's is removed before.
pub async fn tag(
    task: &Task,
    group: &SnapshotGroup,
    level: Level,
    tags: &[(String, String)],
) -> Result<(), Error> {
    let own = super::label::vendor_tag(level).map(|(key, _)| key);
    let there = |key: &&str| group.snapshots.iter().flat_map(|s| &s.tags).any(|tag| tag.key == **key);
    let wrong = VENDOR_KEYS.iter().copied().filter(|key| Some(*key) != own).filter(there);
    let wrong: Vec<String> = wrong.map(str::to_string).collect();
    let ids: Vec<String> = group.snapshots.iter().map(|s| s.snapshot_id.clone()).collect();
    let (client, region_id) = (&task.client, &task.region_id);
    let removed = ecs::untag_resources(client, region_id, "snapshot", &ids, &wrong).await;
    // The true level is written all the same: a reader then sees that the two do not agree.
    let write = || ecs::tag_resources(client, region_id, "snapshot", &ids, tags);
    past_limits(client.clock(), task.deadline, write).await?;
    removed
}
