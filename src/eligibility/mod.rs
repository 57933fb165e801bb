//! May we, and how far: facts in, findings out. No call, no clock, no environment.
//!
//! The caller describes one instance with its chosen disks as plain [`Facts`]; every condition that is not
//! met comes back as a finding with its cure. The conditions stand in the tables of [`rules`], what is supported in
//! those of `matrix`, and what the operator knows better in [`Support`].

mod agent;
mod disk;
mod facts;
pub mod guest;
mod instance;
mod matrix;
pub mod rules;
mod selection;
mod support;

pub use facts::{AgentFacts, DiskFacts, Facts, InstanceFacts, Snapshots};
pub use rules::{Rule, refused, rule};
pub use selection::{DiskKind, DiskSelection, pick_disks, unknown_disks};
pub use support::{GroupLimit, Support};

use crate::report::{Finding, Level, Severity};

/// Everything that stands against a snapshot of these disks, or is worth knowing; empty is best. What keeps it from
/// reaching `minimum` is a blocker.
pub fn findings(facts: &Facts, support: &Support, minimum: Level) -> Vec<Finding> {
    let instance = &facts.instance;
    let mut found = instance::findings(instance, support);
    found.extend(disk::findings(instance, &facts.disks, support));
    if !instance.stopped() {
        found.extend(agent::findings(&instance.instance_id, &facts.agent));
    }
    for finding in &mut found {
        // From outside no condition is seen that would leave file systems consistent.
        if finding.severity == Severity::Downgrade && minimum > Level::Crash {
            finding.severity = Severity::Blocker;
        }
    }
    found
}

/// What the disks' snapshots say, where they were counted after the other findings.
pub fn snapshot_findings(disks: &[DiskFacts]) -> Vec<Finding> {
    disks.iter().flat_map(disk::snapshots).collect()
}

/// Whether one of the findings forbids to go on.
pub fn blocked(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Blocker)
}

/// The finding of a rule's code about a resource; a code without a row would be a bug, and is told as it is.
pub fn finding(code: &str, resource: &str, detail: &str) -> Finding {
    match rule(code) {
        Some(rule) => rule.finding(resource, detail),
        None => Finding {
            code: code.into(),
            severity: Severity::Blocker,
            resource: resource.into(),
            message: detail.into(),
            cure: "report this: the code has no rule".into(),
        },
    }
}
