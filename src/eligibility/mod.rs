//! May we, and how far: facts in, findings out. No call, no clock, no environment.
//!
//! The caller describes one instance with its chosen disks as plain [`Facts`]; every condition that is not
//! met comes back as a finding with its cure. What is supported stands in the tables of `matrix`.

mod agent;
mod disk;
mod facts;
mod instance;
mod matrix;
mod selection;

pub use facts::{AgentFacts, DiskFacts, Facts, InstanceFacts};
pub use selection::{DiskKind, DiskSelection, pick_disks, unknown_disks};

use crate::report::{Finding, Severity};

/// Everything that stands against a snapshot of these disks, or is worth knowing; empty is best.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = instance::findings(&facts.instance);
    found.extend(disk::findings(&facts.instance.instance_id, &facts.disks));
    found.extend(agent::findings(&facts.instance.instance_id, &facts.agent));
    found
}

/// Whether one of the findings forbids to go on.
pub fn blocked(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Blocker)
}

fn finding(
    code: &str,
    severity: Severity,
    resource: &str,
    message: impl Into<String>,
    cure: impl Into<String>,
) -> Finding {
    Finding {
        code: code.into(),
        severity,
        resource: resource.into(),
        message: message.into(),
        cure: cure.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_world_has_no_findings() {
        assert_eq!(findings(&Facts::good()), vec![]);
    }

    #[test]
    fn every_rule_is_asked_and_every_finding_has_a_cure() {
        let mut facts = Facts::good();
        facts.instance.region_id = "cn-nowhere".into();
        facts.disks[0].category = "cloud_ssd".into();
        facts.agent.online = Some(false);
        let found = findings(&facts);
        let codes: Vec<_> = found.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["region.unknown", "disk.category", "agent.offline"]);
        assert!(found.iter().all(|finding| !finding.cure.is_empty() && !finding.message.is_empty()));
        assert!(blocked(&found) && !blocked(&found[..1]));
    }
}
