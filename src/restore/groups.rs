//! Groups as a list: which one for a point in time and a level. Pure.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use super::facts::missing;
use super::said::Said;
use crate::api::ecs::{Snapshot, SnapshotGroup};
use crate::report::Level;

/// A group in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// UTC.
    pub creation_time: String,
    /// `ssg-…`
    pub snapshot_group_id: String,
    /// Empty where its disks are of several.
    pub instance_id: String,
    /// `progressing`, `accomplished` or `failed`.
    pub status: String,
    /// How many snapshots it shows.
    pub disks: usize,
    /// Disks that it was made with, and of which no snapshot is shown any more.
    pub missing: Vec<String>,
    /// What their tags say.
    #[serde(flatten)]
    pub said: Said,
}

/// Which ones; what is not given does not count.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this policy.
    pub policy: Option<String>,
    /// Of each instance the last one at or before this time.
    pub at: Option<Timestamp>,
    /// At least this level.
    pub level: Option<Level>,
    /// Verified, and not as broken.
    pub verified: bool,
}

/// Those that are wanted, newest first.
pub fn rows(groups: &[SnapshotGroup], snapshots: &[Snapshot], wanted: &Wanted) -> Vec<Row> {
    let mut groups: Vec<&SnapshotGroup> = groups.iter().collect();
    // All of them are UTC in one form, so that text sorts as time.
    groups.sort_by(|a, b| b.creation_time.cmp(&a.creation_time));
    // There may be thousands.
    let by_id: HashMap<&str, &Snapshot> =
        snapshots.iter().map(|one| (one.snapshot_id.as_str(), one)).collect();
    let all = groups.into_iter().map(|group| {
        let own = group.snapshots.iter().filter_map(|one| by_id.get(one.snapshot_id.as_str()));
        let own: Vec<Snapshot> = own.map(|one| Snapshot::clone(one)).collect();
        let row = Row {
            creation_time: group.creation_time.clone(),
            snapshot_group_id: group.snapshot_group_id.clone(),
            instance_id: group.instance_id.clone(),
            status: group.status.clone(),
            disks: group.snapshots.len(),
            missing: missing(group, &own),
            said: Said::of(group, &own),
        };
        (group.created_at(), row)
    });
    let fits = |(created, row): &(Option<Timestamp>, Row)| {
        let good = row.said.verified.as_deref().is_some_and(|word| word != "broken");
        wanted.policy.as_ref().is_none_or(|policy| row.said.policy.as_ref() == Some(policy))
            && wanted.level.is_none_or(|level| row.said.level >= level)
            && (!wanted.verified || good)
            && wanted.at.is_none_or(|at| created.is_some_and(|created| created <= at))
    };
    let fitting = all.filter(fits).map(|(_, row)| row);
    // At a point in time there is one answer for each instance, which has to be usable.
    if wanted.at.is_some() {
        let mut answered = HashSet::new();
        let usable = fitting.filter(|row| row.said.level > Level::None && row.missing.is_empty());
        usable.filter(|row| answered.insert(row.instance_id.clone())).collect()
    } else {
        fitting.collect()
    }
}

/// As a table.
pub fn table(rows: &[Row]) -> String {
    let head = ["time", "group", "instance", "level", "verified", "disks", "policy", "run", "reasons"];
    let mut lines: Vec<[String; 9]> = vec![head.map(str::to_owned)];
    for row in rows {
        let said = &row.said;
        let dash = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
        let mut reasons = said.reasons.clone();
        if !said.lost.is_empty() {
            reasons.push(format!("(tags lost on {} of {})", said.lost.len(), row.disks));
        }
        if !row.missing.is_empty() {
            reasons.push(format!("(no snapshot any more of {})", row.missing.join(", ")));
        }
        if said.by == "vendor" {
            reasons.push("(by the vendor's plugin)".into());
        }
        if row.status != "accomplished" {
            reasons.push(format!("({})", row.status));
        }
        lines.push([
            row.creation_time.clone(),
            row.snapshot_group_id.clone(),
            dash(Some(&row.instance_id)),
            said.level.as_str().into(),
            dash(said.verified.as_deref()),
            row.disks.to_string(),
            dash(said.policy.as_deref()),
            dash(said.run.as_deref()),
            reasons.join(" "),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String; 9]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}
