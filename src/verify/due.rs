//! Which group a policy's verification takes, from the tags alone: the newest one that is whole, if none of the last
//! ones was verified.

use super::TAG;
use crate::acs::{Client, Error};
use crate::api::ecs::{self, GroupFilter, Snapshot, SnapshotGroup};

/// The group of policy and instance that is to be verified now, if any is.
///
/// # Errors
/// Those of the calls.
pub async fn due(
    client: &Client,
    region_id: &str,
    policy: &str,
    instance_id: &str,
    every: u32,
) -> Result<Option<String>, Error> {
    let tags = [("appsnap:policy".to_owned(), policy.to_owned())];
    let filter = GroupFilter { instance_id: Some(instance_id), tags: &tags, ..GroupFilter::default() };
    let groups = newest_first(ecs::describe_snapshot_groups(client, region_id, &filter).await?);
    // What the group tells of its members' tags may be as old as the group: the snapshots themselves are asked.
    let first = |group: &SnapshotGroup| group.snapshots.first().map(|one| one.snapshot_id.clone());
    let asked = groups.iter().take(every as usize).chain(candidate(&groups)).filter_map(first);
    let asked: Vec<String> = asked.collect();
    let seen = ecs::describe_snapshots(client, region_id, &asked).await?;
    Ok(chosen(&groups, &seen, every))
}

fn newest_first(mut groups: Vec<SnapshotGroup>) -> Vec<SnapshotGroup> {
    groups.sort_by_key(|group| std::cmp::Reverse(group.created_at()));
    groups
}

fn candidate(groups: &[SnapshotGroup]) -> Option<&SnapshotGroup> {
    groups
        .iter()
        .find(|group| group.status == "accomplished" && !group.failed() && !group.snapshots.is_empty())
}

fn chosen(groups: &[SnapshotGroup], seen: &[Snapshot], every: u32) -> Option<String> {
    let candidate = candidate(groups)?;
    let verified = |group: &SnapshotGroup| {
        let has = |one: &Snapshot| one.tags.iter().any(|tag| tag.key == TAG);
        let mine =
            |one: &Snapshot| group.snapshots.iter().any(|member| member.snapshot_id == one.snapshot_id);
        seen.iter().any(|one| mine(one) && has(one))
    };
    let recent = groups.iter().take(every as usize).any(verified);
    (!recent && !verified(candidate)).then(|| candidate.snapshot_group_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ecs::{GroupSnapshot, Tag};

    fn group(day: u32, status: &str) -> SnapshotGroup {
        SnapshotGroup {
            snapshot_group_id: format!("ssg-{day}"),
            creation_time: format!("2026-11-{day:02}T03:00:00Z"),
            status: status.into(),
            snapshots: vec![GroupSnapshot { snapshot_id: format!("s-{day}"), ..GroupSnapshot::default() }],
            ..SnapshotGroup::default()
        }
    }

    #[test]
    fn the_newest_whole_group_is_due_when_none_of_the_last_ones_was_verified() {
        let days = [
            (10, "accomplished"),
            (12, "progressing"),
            (11, "accomplished"),
            (9, "accomplished"),
            (8, "failed"),
        ];
        let groups = newest_first(days.map(|(day, status)| group(day, status)).to_vec());
        let with = |day: u32| Snapshot {
            snapshot_id: format!("s-{day}"),
            tags: vec![Tag { key: TAG.into(), value: "clean".into() }],
            ..Snapshot::default()
        };
        let table: [(&[u32], u32, Option<&str>); 7] = [
            (&[], 7, Some("ssg-11")),
            (&[9], 7, None),
            (&[9], 4, None),
            (&[9], 3, Some("ssg-11")),
            (&[10], 2, Some("ssg-11")),
            (&[10], 3, None),
            // Not one twice, though it is not among the last.
            (&[11], 1, None),
        ];
        for (verified, every, due) in table {
            let seen: Vec<Snapshot> = verified.iter().map(|day| with(*day)).collect();
            assert_eq!(chosen(&groups, &seen, every).as_deref(), due, "{verified:?} {every}");
        }
        assert_eq!(chosen(&[group(8, "failed"), group(9, "progressing")], &[], 7), None);
    }
}
