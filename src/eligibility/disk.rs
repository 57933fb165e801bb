//! Rules about the chosen disks, one by one and as a group.

use super::facts::{DiskFacts, InstanceFacts, Snapshots};
use super::instance::locks;
use super::rules::{Rule, refused};
use super::support::Support;
use super::{finding, matrix};
use crate::report::Finding;

/// Snapshots of a disk that may be under way, and that may be made by hand or by a call.
/// Source: Alibaba Cloud, API reference, CreateSnapshot.
const TASKS: usize = 10;
const MANUAL: usize = 256;

pub(super) fn findings(instance: &InstanceFacts, disks: &[DiskFacts], support: &Support) -> Vec<Finding> {
    let id = instance.instance_id.as_str();
    if disks.is_empty() {
        return vec![finding("disk.none", id, "")];
    }
    let mut found: Vec<_> = disks.iter().flat_map(single).collect();
    found.extend(mixed(id, disks));
    found.extend(zones(id, disks));
    found.extend(size(instance, disks, support));
    found
}

fn single(disk: &DiskFacts) -> Vec<Finding> {
    let tell = |code, detail: &str| finding(code, &disk.disk_id, detail);
    let mut found = Vec::new();
    if matrix::LOCAL.iter().any(|beginning| disk.category.starts_with(beginning)) {
        found.push(tell("disk.local", &disk.category));
    } else if category(disk).is_none() {
        found.push(tell("disk.category", &format!("{:?}", disk.category)));
    }
    if !matrix::DISK_STATES.contains(&disk.status.as_str()) {
        found.push(tell("disk.state", &format!("it is {:?}", disk.status)));
    }
    found.extend(locks("disk.locked", &disk.disk_id, &disk.locks));
    if disk.multi_attach {
        found.push(tell("disk.multi_attach", ""));
    }
    found.extend(disk.key_id.as_ref().map(|key| match key.as_str() {
        "" => tell("disk.encrypted", "by the service's own key"),
        key => tell("disk.encrypted", &format!("by {key}")),
    }));
    found.extend(snapshots(disk));
    found
}

pub(super) fn snapshots(disk: &DiskFacts) -> Vec<Finding> {
    let tell = |code, detail: &str| finding(code, &disk.disk_id, detail);
    let mut found = Vec::new();
    match &disk.snapshots {
        Snapshots::NotAsked => {}
        Snapshots::Refused(code, message) => {
            let rule = match refused(code) {
                // Of the account as a whole the describe says the same as the create.
                Some(Rule { code, .. }) if ["account.arrears", "snapshot.service"].contains(code) => code,
                _ => "disk.snapshots_unknown",
            };
            found.push(tell(rule, &format!("{code}: {message}")));
        }
        Snapshots::Counted { under_way, manual } => {
            if *under_way >= TASKS {
                found.push(tell("disk.tasks", &format!("{under_way} are")));
            }
            if *manual >= MANUAL {
                found.push(tell("disk.quota", &format!("it has {manual}")));
            }
        }
    }
    found
}

fn category(disk: &DiskFacts) -> Option<&'static matrix::Category> {
    matrix::CATEGORIES.iter().find(|category| category.name == disk.category)
}

fn mixed(instance_id: &str, disks: &[DiskFacts]) -> Option<Finding> {
    let of = |regional: bool| -> Vec<&str> {
        let of_kind = |disk: &&DiskFacts| category(disk).is_some_and(|one| one.regional == regional);
        disks.iter().filter(of_kind).map(|disk| disk.disk_id.as_str()).collect()
    };
    let (regional, zonal) = (of(true), of(false));
    (!regional.is_empty() && !zonal.is_empty()).then(|| {
        let detail = format!("zone-redundant are {}, not {}", regional.join(", "), zonal.join(", "));
        finding("disk.regional", instance_id, &detail)
    })
}

fn zones(instance_id: &str, disks: &[DiskFacts]) -> Option<Finding> {
    let mut zones: Vec<_> =
        disks.iter().map(|disk| disk.zone_id.as_str()).filter(|z| !z.is_empty()).collect();
    zones.sort_unstable();
    zones.dedup();
    (zones.len() > 1)
        .then(|| finding("disk.zone", instance_id, &format!("these are in {}", zones.join(", "))))
}

fn size(instance: &InstanceFacts, disks: &[DiskFacts], support: &Support) -> Option<Finding> {
    let size = (disks.len(), disks.iter().fold(0u64, |sum, disk| sum.saturating_add(disk.size_gib)));
    let above = |limit: (usize, u64)| size.0 > limit.0 || size.1 > limit.1;
    let tell = |code, limit: (usize, u64)| {
        let detail = format!(
            "{} disks with {} GiB; the limit is {} disks and {} GiB",
            size.0, size.1, limit.0, limit.1
        );
        finding(code, &instance.instance_id, &detail)
    };
    let (own, documented) =
        (support.group_limit(&instance.region_id), matrix::group_limit(&instance.region_id));
    let most = own.unwrap_or(matrix::GROUP_AT_MOST);
    match () {
        _ if above(most) => Some(tell("group.size", most)),
        _ if own.is_none() && above(documented) => Some(tell("group.region", documented)),
        _ => None,
    }
}
