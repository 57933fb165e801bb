//! Which instances and which of their disks.

use std::collections::BTreeSet;

use super::fields::{Object, quoted};
use crate::eligibility::{DiskKind, DiskSelection};

/// What is to be protected: each instance is a unit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// 1 to 50 instances, each once.
    pub instance_ids: Vec<String>,
    /// Which of their disks.
    pub disks: DiskSelection,
}

const MAX_INSTANCES: usize = 50;
/// Limit of `DiskId.N` and `ExcludeDiskId.N` of CreateSnapshotGroup.
const MAX_DISKS: usize = 128;

pub(super) fn parse(targets: &Object) -> Targets {
    let instance_ids = ids(targets, "instanceIds", "i-", MAX_INSTANCES);
    if targets.value("instanceIds").is_none_or(|value| value.as_array().is_some_and(Vec::is_empty)) {
        targets.problem("instanceIds", "name at least one instance, e.g. [\"i-bp1…\"]");
    }
    let kinds =
        [("all", Some(DiskKind::All)), ("data", Some(DiskKind::Data)), ("system", Some(DiskKind::System))];
    let disks = DiskSelection {
        kind: targets.word("disks", DiskKind::All, &kinds),
        disk_ids: ids(targets, "diskIds", "d-", MAX_DISKS),
        exclude_disk_ids: ids(targets, "excludeDiskIds", "d-", MAX_DISKS),
    };
    if !disks.disk_ids.is_empty() && disks.kind != DiskKind::All {
        targets.problem("disks", "diskIds names the disks already: leave one of the two out");
    }
    if !disks.disk_ids.is_empty() && !disks.exclude_disk_ids.is_empty() {
        targets.problem("excludeDiskIds", "diskIds names the disks already: leave one of the two out");
    }
    Targets { instance_ids, disks }
}

fn ids(object: &Object, field: &str, prefix: &str, max: usize) -> Vec<String> {
    let items = object.list(field);
    if items.len() > max {
        object.problem(field, format!("has {} entries, at most {max} are possible", items.len()));
    }
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate().take(max) {
        let place = format!("{field}[{i}]");
        match item.as_str() {
            Some(id) if !is_id(id, prefix) => {
                object.problem(&place, format!("must be an id like {prefix}bp1…, not {}", quoted(id)));
            }
            Some(id) if !seen.insert(id) => object.problem(&place, format!("{id} is listed twice")),
            Some(_) => {}
            None => object.problem(&place, format!("must be a string like \"{prefix}bp1…\"")),
        }
    }
    items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
}

fn is_id(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| {
        (1..=40).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}
