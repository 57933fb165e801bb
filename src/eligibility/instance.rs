//! Rules about the region, the instance and its operating system.

use super::facts::InstanceFacts;
use super::{finding, matrix};
use crate::report::{Finding, Severity};

pub(super) fn findings(instance: &InstanceFacts) -> Vec<Finding> {
    let id = instance.instance_id.as_str();
    let mut found = Vec::new();
    if !matrix::REGIONS.contains(&instance.region_id.as_str()) {
        found.push(finding(
            "region.unknown",
            Severity::Note,
            &instance.region_id,
            "the vendor's list of regions for application-consistent snapshots does not name this one",
            "none needed if a first run succeeds: newer vendor pages carry no list",
        ));
    }
    match instance.status.as_str() {
        "Running" => {}
        "Stopped" => found.push(finding(
            "instance.state",
            Severity::Blocker,
            id,
            "the instance is Stopped: nothing in the guest can be quiesced",
            "start the instance; disks of a stopped one can be snapshotted by CreateSnapshotGroup directly",
        )),
        other => found.push(finding(
            "instance.state",
            Severity::Blocker,
            id,
            format!(
                "the instance is {}, not Running",
                if other.is_empty() { "in no known state" } else { other }
            ),
            "wait until it is Running and repeat",
        )),
    }
    if !instance.locks.is_empty() {
        found.push(finding(
            "instance.locked",
            Severity::Blocker,
            id,
            format!("the instance is locked: {}", instance.locks.join(", ")),
            "settle the lock's reason (overdue payment, security) in the ECS console",
        ));
    }
    found.extend(os(instance));
    found
}

fn os(instance: &InstanceFacts) -> Option<Finding> {
    let id = instance.instance_id.as_str();
    match instance.os_type.as_str() {
        "linux" if matrix::lists_linux(&instance.os_name) => None,
        "windows" => Some(finding(
            "os.windows",
            Severity::Note,
            id,
            "a Windows guest is protected by the vendor's plugin (VSS), whose arguments there were never observed",
            "do a first run on a test instance with minimumLevel application, and read its report",
        )),
        // The guest itself shows whether it can be frozen, so this is no reason to stop.
        _ => Some(finding(
            "os.unsupported",
            Severity::Note,
            id,
            format!("{:?} is not among the systems that the vendor lists", instance.os_name),
            "listed are CentOS 7.6 and later, Ubuntu 18.04 and later, Alibaba Cloud Linux 2 and 3; on another \
             Linux try a first run and read its report",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::*;

    #[test]
    fn each_rule_has_a_world_that_fails_it() {
        type Change = fn(&mut InstanceFacts);
        let table: [(Change, &str, Severity); 9] = [
            (|i| i.region_id = "me-central-1".into(), "region.unknown", Severity::Note),
            (|i| i.status = "Stopped".into(), "instance.state", Severity::Blocker),
            (|i| i.status = "Starting".into(), "instance.state", Severity::Blocker),
            (|i| i.status.clear(), "instance.state", Severity::Blocker),
            (|i| i.locks = vec!["security".into()], "instance.locked", Severity::Blocker),
            (|i| i.os_type = "windows".into(), "os.windows", Severity::Note),
            (|i| i.os_name = "Debian  12.5 64 bit".into(), "os.unsupported", Severity::Note),
            (|i| i.os_name = "CentOS  7.5 64 bit".into(), "os.unsupported", Severity::Note),
            (|i| i.os_type.clear(), "os.unsupported", Severity::Note),
        ];
        let good = Facts::good().instance;
        assert_eq!(findings(&good), vec![]);
        for (change, code, severity) in table {
            let mut instance = good.clone();
            change(&mut instance);
            let found = findings(&instance);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].code.as_str(), found[0].severity), (code, severity));
        }
    }
}
