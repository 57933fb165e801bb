//! What is to be proven: the group as the cloud shows it, and what the tags of its snapshots say of the disks and of the
//! engine on them.

use jiff::SignedDuration;

use super::{Job, until};
use crate::acs::Error;
use crate::api::ecs::{self, GroupFilter, Snapshot, SnapshotGroup, Tag};
use crate::guest::verify::{Place, engine_script, fit};
use crate::ram;
use crate::report::{ErrorReport, Level};

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `s-…`
    pub snapshot_id: String,
    /// `d-…`
    pub source_disk_id: String,
    /// GiB.
    pub size: i64,
}

/// Engine, its data and its log, as the prescript marked them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// `postgresql`, …
    pub engine: String,
    /// Absolute.
    pub data_dir: String,
    /// Where the log lies elsewhere.
    pub log_dir: Option<String>,
}

/// The group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `ssg-…`
    pub group_id: String,
    /// Of which instance.
    pub instance_id: String,
    /// The policy that made it.
    pub policy: Option<String>,
    /// The level that its tags claim.
    pub level: Level,
    /// Its snapshots.
    pub members: Vec<Member>,
    /// Where its file systems were mounted.
    pub places: Vec<Place>,
    /// `None`: no engine is marked, or none that can be started here.
    pub marked: Option<Marked>,
    /// What the tags say and cannot be used, in words.
    pub left_out: Vec<String>,
}

impl Subject {
    fn of(group: SnapshotGroup, snapshots: &[Snapshot]) -> Self {
        let mut subject = Self {
            group_id: group.snapshot_group_id,
            instance_id: group.instance_id,
            policy: value(&group.tags, "appsnap:policy")
                .or_else(|| snapshots.iter().find_map(|one| value(&one.tags, "appsnap:policy"))),
            level: Level::None,
            members: Vec::new(),
            places: Vec::new(),
            marked: None,
            left_out: Vec::new(),
        };
        let known = [Level::Filesystem, Level::Application];
        let levels = snapshots.iter().map(|one| value(&one.tags, "appsnap:level"));
        let levels: Vec<_> = levels.collect();
        // What all of them say together: one that has lost its tag lowers it.
        let of = |text: &Option<String>| known.into_iter().find(|one| Some(one.as_str()) == text.as_deref());
        if levels.iter().any(Option::is_some) {
            subject.level =
                levels.iter().map(|text| of(text).unwrap_or(Level::Crash)).min().unwrap_or_default();
        }
        for snapshot in snapshots {
            subject.members.push(Member {
                snapshot_id: snapshot.snapshot_id.clone(),
                source_disk_id: snapshot.source_disk_id.clone(),
                size: snapshot.source_disk_size.parse().unwrap_or(0),
            });
            let text = value(&snapshot.tags, "appsnap:mount").unwrap_or_default();
            subject.read_places(&snapshot.source_disk_id, &text);
        }
        let mark = |key: &str| {
            let key = format!("appsnap:mark:{key}");
            snapshots.iter().find_map(|one| value(&one.tags, &key))
        };
        if let Some(engine) = mark("engine") {
            let path = |key: &str| mark(key).map(|path| path.trim_end_matches('/').to_owned());
            subject.read_marks(engine, path("datadir"), path("logdir"));
        }
        subject
    }

    /// `MOUNT TYPE UUID, …`; a tag holds 128 characters, so that the last of many may be cut.
    fn read_places(&mut self, source_disk_id: &str, text: &str) {
        for one in text.split(", ").filter(|one| !one.is_empty()) {
            let words: Vec<&str> = one.split(' ').collect();
            let cut = text.chars().count() == 128 && text.ends_with(one);
            match words[..] {
                [mount, kind, uuid] if fit(mount) && !cut => self.places.push(Place {
                    source_disk_id: source_disk_id.into(),
                    mount: mount.into(),
                    kind: kind.into(),
                    uuid: uuid.into(),
                }),
                _ => self.left_out.push(format!("{source_disk_id}: the tag appsnap:mount ends with {one:?}")),
            }
        }
    }

    fn read_marks(&mut self, engine: String, data_dir: Option<String>, log_dir: Option<String>) {
        let why = match &data_dir {
            _ if log_dir.as_ref().is_some_and(|path| !fit(path)) => {
                format!("{log_dir:?} cannot be handed to the instance")
            }
            _ if engine_script(&engine).is_none() => format!("{engine} is not started on copies"),
            None => format!("{engine} is marked, and not where its data is (appsnap-mark: datadir=…)"),
            Some(path) if !fit(path) => format!("{path:?} cannot be handed to the instance"),
            Some(data_dir) => {
                self.marked = Some(Marked { engine, data_dir: data_dir.clone(), log_dir });
                return;
            }
        };
        self.left_out.push(why);
    }
}

fn value(tags: &[Tag], key: &str) -> Option<String> {
    tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.clone())
}

/// Reads the group, and waits until disks can be made of all of its snapshots.
pub(super) async fn read(job: &Job) -> Result<Subject, ErrorReport> {
    let failed = |error: Error| ErrorReport::from(&error);
    let ids = [job.group_id.clone()];
    let filter = GroupFilter { ids: &ids, ..GroupFilter::default() };
    let found = ecs::describe_snapshot_groups(&job.client, &job.region_id, &filter).await.map_err(failed)?;
    let Some(group) = found.into_iter().next() else {
        return Err(unseen(job, "DescribeSnapshotGroups", &job.group_id));
    };
    if group.failed() {
        return Err(ErrorReport {
            code: "verify.group".into(),
            message: format!("the cloud says that {} or a snapshot of it failed", job.group_id),
            resource: Some(job.group_id.clone()),
            cure: Some("nothing can be restored from it: verify another group".into()),
            ..ErrorReport::default()
        });
    }
    let ids: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let deadline = job.client.clock().now() + job.patience;
    let ready = |one: &Snapshot| one.available || one.status == "accomplished";
    let look = || async {
        let seen = ecs::describe_snapshots(&job.client, &job.region_id, &ids).await?;
        // What does not show is not waited for: that is a right.
        Ok((seen.len() < ids.len() || seen.iter().all(ready)).then_some(seen))
    };
    let seen = until(job, deadline.min(super::soon(job, i64::from(u32::MAX))), look).await.map_err(failed)?;
    match seen {
        Some(seen) if seen.is_empty() || seen.len() < ids.len() => {
            Err(unseen(job, "DescribeSnapshots", &job.group_id))
        }
        Some(seen) => Ok(Subject::of(group, &seen)),
        None => Err(ErrorReport {
            code: "verify.progressing".into(),
            message: format!("the snapshots of {} are not uploaded yet", job.group_id),
            resource: Some(job.group_id.clone()),
            cure: Some("verify it later: an upload takes minutes to hours".into()),
            ..ErrorReport::default()
        }),
    }
}

/// A denial is an empty list.
pub(super) fn unseen(job: &Job, action: &str, what: &str) -> ErrorReport {
    let addition = ram::addition(&format!("ecs:{action}"), &job.region_id, what);
    ErrorReport {
        code: "verify.unseen".into(),
        message: format!("{action} does not show {what} in {}, or not all of it", job.region_id),
        action: Some(action.into()),
        resource: Some(what.into()),
        request_id: None,
        cure: Some(format!("check id and region; if they are right, {addition}")),
    }
}

/// How long somebody who asks for it by hand waits for an upload.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(disk: &str, tags: &[(&str, &str)]) -> Snapshot {
        let tag = |(key, value): &(&str, &str)| Tag { key: key.to_string(), value: value.to_string() };
        Snapshot {
            snapshot_id: format!("s-{disk}"),
            source_disk_id: disk.into(),
            source_disk_size: "40".into(),
            tags: tags.iter().map(tag).collect(),
            ..Snapshot::default()
        }
    }

    fn subject(snapshots: &[Snapshot]) -> Subject {
        let group = SnapshotGroup { snapshot_group_id: "ssg-1".into(), ..SnapshotGroup::default() };
        Subject::of(group, snapshots)
    }

    #[test]
    fn places_are_read_from_the_tags_and_what_was_cut_is_told() {
        let long = format!("/a ext4 u-1, /b xfs {}", "u".repeat(108));
        assert_eq!(long.len(), 128);
        let read = subject(&[
            snapshot("d-1", &[("appsnap:mount", "/ ext4 u-0, /data xfs -"), ("appsnap:policy", "p")]),
            snapshot("d-2", &[("appsnap:mount", &long)]),
            snapshot("d-3", &[("appsnap:mount", "/x\\040y ext4 u-3")]),
            snapshot("d-4", &[]),
        ]);
        let mounts: Vec<&str> = read.places.iter().map(|place| place.mount.as_str()).collect();
        assert_eq!((mounts, read.left_out.len()), (vec!["/", "/data", "/a"], 2), "{:?}", read.left_out);
        assert_eq!((read.policy.as_deref(), read.members.len(), read.members[0].size), (Some("p"), 4, 40));
    }

    #[test]
    fn the_level_is_what_all_snapshots_say_together() {
        for (first, second, level) in [
            ("application", "application", Level::Application),
            ("application", "", Level::Crash),
            ("application", "filesystem", Level::Filesystem),
            ("", "", Level::None),
        ] {
            let snapshots = [first, second].map(|text| match text {
                "" => snapshot("d-1", &[]),
                text => snapshot("d-1", &[("appsnap:level", text)]),
            });
            assert_eq!(subject(&snapshots).level, level, "{first} {second}");
        }
    }

    #[test]
    fn an_engine_is_started_only_where_it_is_known_and_its_data_is_marked() {
        let marks = |tags: &[(&str, &str)]| subject(&[snapshot("d-1", &[]), snapshot("d-2", tags)]);
        let good = marks(&[("appsnap:mark:engine", "redis"), ("appsnap:mark:datadir", "/data/redis/")]);
        assert_eq!(good.marked.unwrap().data_dir, "/data/redis");
        let log = [("appsnap:mark:engine", "redis"), ("appsnap:mark:datadir", "/d")];
        let table: [(&[(&str, &str)], usize); 5] = [
            (&[], 0),
            (&[("appsnap:mark:engine", "oracle"), ("appsnap:mark:datadir", "/u01")], 1),
            (&[("appsnap:mark:engine", "redis")], 1),
            (&[("appsnap:mark:engine", "redis"), ("appsnap:mark:datadir", "/a b")], 1),
            (&[log[0], log[1], ("appsnap:mark:logdir", "/a b")], 1),
        ];
        for (tags, told) in table {
            let read = marks(tags);
            assert_eq!((read.marked, read.left_out.len()), (None, told), "{tags:?}");
        }
    }
}
