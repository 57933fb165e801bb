//! Rules about the chosen disks, one by one and as a group.

use super::facts::DiskFacts;
use super::{finding, matrix};
use crate::report::{Finding, Severity};

pub(super) fn findings(instance_id: &str, disks: &[DiskFacts]) -> Vec<Finding> {
    if disks.is_empty() {
        return vec![finding(
            "disk.none",
            Severity::Blocker,
            instance_id,
            "no disk of the instance is chosen",
            "look at targets.disks, targets.diskIds and targets.excludeDiskIds",
        )];
    }
    let mut found: Vec<_> = disks.iter().flat_map(single).collect();
    found.extend(mixed(instance_id, disks));
    found.extend(zones(instance_id, disks));
    found.extend(size(instance_id, disks));
    found
}

const LEAVE_OUT: &str = "leave it out by targets.excludeDiskIds";

fn single(disk: &DiskFacts) -> Vec<Finding> {
    let blocker =
        |code, message: String, cure: String| finding(code, Severity::Blocker, &disk.disk_id, message, cure);
    let mut found = Vec::new();
    if category(disk).is_none() {
        found.push(blocker(
            "disk.category",
            format!("snapshot groups do not take disks of category {:?}", disk.category),
            format!("change the disk to an ESSD (cloud_essd, cloud_auto), or {LEAVE_OUT}"),
        ));
    }
    if !matrix::DISK_STATES.contains(&disk.status.as_str()) {
        found.push(blocker(
            "disk.state",
            format!("the disk is {:?}, not In_use or Available", disk.status),
            "wait until the operation on the disk has ended and repeat".into(),
        ));
    }
    if disk.multi_attach {
        found.push(blocker(
            "disk.multi_attach",
            "snapshot groups do not take disks with multi-attach".into(),
            LEAVE_OUT.into(),
        ));
    }
    found
}

fn category(disk: &DiskFacts) -> Option<&'static matrix::Category> {
    matrix::CATEGORIES.iter().find(|category| category.name == disk.category)
}

fn mixed(instance_id: &str, disks: &[DiskFacts]) -> Option<Finding> {
    let regional = |wanted| disks.iter().filter_map(category).any(|category| category.regional == wanted);
    (regional(true) && regional(false)).then(|| {
        finding(
            "disk.category",
            Severity::Blocker,
            instance_id,
            "regional disks and others cannot be in one group",
            "protect them by two policies, each with its targets.diskIds",
        )
    })
}

fn zones(instance_id: &str, disks: &[DiskFacts]) -> Option<Finding> {
    let mut zones: Vec<_> =
        disks.iter().map(|disk| disk.zone_id.as_str()).filter(|z| !z.is_empty()).collect();
    zones.sort_unstable();
    zones.dedup();
    (zones.len() > 1).then(|| {
        finding(
            "disk.zone",
            Severity::Blocker,
            instance_id,
            format!("the disks of a group must be in one zone, these are in {}", zones.join(", ")),
            "protect them by one policy for each zone, each with its targets.diskIds",
        )
    })
}

fn size(instance_id: &str, disks: &[DiskFacts]) -> Option<Finding> {
    let size = (disks.len(), disks.iter().fold(0u64, |sum, disk| sum.saturating_add(disk.size_gib)));
    let above = |limit: (usize, u64)| size.0 > limit.0 || size.1 > limit.1;
    let told = |limit: (usize, u64)| {
        format!("{} disks with {} GiB; the limit is {} disks and {} GiB", size.0, size.1, limit.0, limit.1)
    };
    let cure = "choose fewer disks for one group by targets.diskIds";
    if above(matrix::GROUP_AT_MOST) {
        let message = told(matrix::GROUP_AT_MOST);
        Some(finding("group.size", Severity::Blocker, instance_id, message, cure))
    } else if above(matrix::GROUP_EVERYWHERE) {
        let message = format!("{} in some regions", told(matrix::GROUP_EVERYWHERE));
        Some(finding("group.size", Severity::Note, instance_id, message, cure))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(count: usize) -> Vec<DiskFacts> {
        (0..count).map(|i| DiskFacts::good(&format!("d-{i}"), "data")).collect()
    }

    #[test]
    fn each_rule_has_a_world_that_fails_it() {
        type Change = fn(&mut Vec<DiskFacts>);
        let table: [(Change, &str, Severity, &str); 12] = [
            (Vec::clear, "disk.none", Severity::Blocker, "i-1"),
            (|d| d[0].category = "cloud_efficiency".into(), "disk.category", Severity::Blocker, "d-0"),
            (|d| d[0].category = "local_ssd_pro".into(), "disk.category", Severity::Blocker, "d-0"),
            (
                |d| d[1].category = "cloud_regional_disk_auto".into(),
                "disk.category",
                Severity::Blocker,
                "i-1",
            ),
            (|d| d[1].status = "ReIniting".into(), "disk.state", Severity::Blocker, "d-1"),
            (|d| d[1].status.clear(), "disk.state", Severity::Blocker, "d-1"),
            (|d| d[0].multi_attach = true, "disk.multi_attach", Severity::Blocker, "d-0"),
            (|d| d[0].zone_id = "cn-hangzhou-i".into(), "disk.zone", Severity::Blocker, "i-1"),
            (|d| *d = disks(17), "group.size", Severity::Note, "i-1"),
            (|d| *d = disks(129), "group.size", Severity::Blocker, "i-1"),
            (|d| d[0].size_gib = 32 << 10, "group.size", Severity::Note, "i-1"),
            (|d| d[0].size_gib = 256 << 10, "group.size", Severity::Blocker, "i-1"),
        ];
        for (change, code, severity, resource) in table {
            let mut world = disks(2);
            change(&mut world);
            let found = findings("i-1", &world);
            assert_eq!(found.len(), 1, "{found:?}");
            let got = (found[0].code.as_str(), found[0].severity, found[0].resource.as_str());
            assert_eq!(got, (code, severity, resource));
        }
    }

    #[test]
    fn good_worlds_pass() {
        let table: [fn(&mut Vec<DiskFacts>); 6] = [
            |_| {},
            |d| d[0].category = "cloud_auto".into(),
            |d| d[0].category = "cloud_essd_entry".into(),
            |d| d[0].status = "Available".into(),
            |d| *d = disks(16),
            |d| {
                for disk in d {
                    disk.category = "cloud_regional_disk_auto".into();
                    disk.zone_id.clear();
                }
            },
        ];
        for change in table {
            let mut world = disks(2);
            change(&mut world);
            assert_eq!(findings("i-1", &world), vec![]);
        }
    }
}
