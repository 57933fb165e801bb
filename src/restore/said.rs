//! What the tags of a group's snapshots say of it. Nothing is believed above what all of them say together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::is_path;
use crate::api::ecs::{Snapshot, SnapshotGroup, Tag};
use crate::protect::label::VENDOR_KEYS;
use crate::protect::repeat::level_of;
use crate::report::Level;

/// A group as its snapshots' tags tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// What all members together carry.
    pub level: Level,
    /// `appsnap`, or `vendor` where only the tags of the vendor's plugin tell; empty where nothing does.
    pub by: &'static str,
    /// Members that lack tags which others of the group have, or all lack what the group was born with.
    pub lost: Vec<String>,
    /// Codes of [docs/reasons.md](reasons.md), why the level is not higher.
    pub reasons: Vec<String>,
    /// `clean`, `redo-small`, `rollback` or `broken`, where it was verified.
    pub verified: Option<String>,
    /// The policy.
    pub policy: Option<String>,
    /// The run.
    pub run: Option<String>,
    /// What the prescript noted: engine, version, datadir, positions.
    pub marks: BTreeMap<String, String>,
}

/// Tags of a member by key: its own, else as the group shows them.
pub fn tags_of(group: &SnapshotGroup, snapshots: &[Snapshot], snapshot_id: &str) -> BTreeMap<String, String> {
    let map = |tags: &[Tag]| tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect();
    let own = snapshots.iter().find(|one| one.snapshot_id == snapshot_id).map(|one| map(&one.tags));
    let shown =
        || group.snapshots.iter().find(|one| one.snapshot_id == snapshot_id).map(|one| map(&one.tags));
    own.filter(|tags: &BTreeMap<_, _>| !tags.is_empty()).or_else(shown).unwrap_or_default()
}

impl Said {
    /// Reads the tags of a group and of its members, whose own are asked for separately.
    pub fn of(group: &SnapshotGroup, snapshots: &[Snapshot]) -> Self {
        let members: Vec<(&str, BTreeMap<String, String>)> = group
            .snapshots
            .iter()
            .map(|one| (one.snapshot_id.as_str(), tags_of(group, snapshots, &one.snapshot_id)))
            .collect();
        let born = |key: &str| group.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.clone());
        let any = |key: &str| members.iter().find_map(|(_, tags)| tags.get(key).cloned());
        let lacking = |has: &dyn Fn(&BTreeMap<String, String>) -> bool| -> Vec<String> {
            members.iter().filter(|(_, tags)| !has(tags)).map(|(id, _)| id.to_string()).collect()
        };
        let ours = any("appsnap:level").is_some();
        let vendor = |tags: &BTreeMap<String, String>| {
            let says = |key: &str| tags.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
            match () {
                _ if says(VENDOR_KEYS[0]) || says(VENDOR_KEYS[1]) => Level::Application,
                _ if says(VENDOR_KEYS[2]) => Level::Filesystem,
                _ => Level::Crash,
            }
        };
        let (by, lost, level) = if ours {
            let lost = lacking(&|tags| tags.contains_key("appsnap:level"));
            let lowest =
                members.iter().filter_map(|(_, tags)| tags.get("appsnap:level")).map(|word| level_of(word));
            ("appsnap", lost, lowest.min())
        } else if born("appsnap:run").is_some() {
            ("appsnap", lacking(&|_| false), None)
        } else if members.iter().any(|(_, tags)| vendor(tags) > Level::Crash) {
            let lost = lacking(&|tags| vendor(tags) > Level::Crash);
            ("vendor", lost, members.iter().map(|(_, tags)| vendor(tags)).min())
        } else {
            ("", Vec::new(), None)
        };
        // Less than crash, which one that has its tags says, stays less.
        let most = if lost.is_empty() { Level::Application } else { Level::Crash };
        let level = level.unwrap_or(Level::Crash).min(most);
        let level =
            level.min(if group.failed() || members.is_empty() { Level::None } else { Level::Application });
        let mark = |(key, value): (&String, &String)| {
            let key = key.strip_prefix("appsnap:mark:")?;
            (!key.ends_with("dir") || is_path(value)).then(|| (line(key), line(value)))
        };
        let verified: Vec<String> =
            members.iter().filter_map(|(_, tags)| tags.get("appsnap:verified").cloned()).collect();
        Self {
            level,
            by,
            lost,
            reasons: any("appsnap:reason").iter().flat_map(|all| all.split_whitespace()).map(line).collect(),
            // As good as its worst member; one that was not looked at is not told of.
            verified: WORST_LAST
                .iter()
                .rev()
                .find(|one| verified.iter().any(|of| of == *one))
                .map(|one| one.to_string()),
            policy: any("appsnap:policy").or_else(|| born("appsnap:policy")).as_deref().map(line),
            run: any("appsnap:run").or_else(|| born("appsnap:run")).as_deref().map(line),
            marks: members.iter().flat_map(|(_, tags)| tags.iter().filter_map(mark)).collect(),
        }
    }

    /// A mark.
    pub fn mark(&self, key: &str) -> Option<&str> {
        self.marks.get(key).map(String::as_str)
    }
}

/// What a tag holds is printed among lines of ours: it makes none, and moves no cursor.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The values of `appsnap:verified`.
const WORST_LAST: [&str; 4] = ["clean", "redo-small", "rollback", "broken"];
