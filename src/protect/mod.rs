//! Protects one unit: the disks of one instance that are snapshotted together.
//!
//! A saga in the order of [`saga::STEPS`]: look into the guest, sign ahead, quiesce (the guest does the work of the
//! window), confirm with the cloud, label. Only `quiesce` touches the guest, so only it has an undo: a second command
//! that fetches the kept report and finishes what was left. An undo that fails is told as `stuck`. An attempt that came
//! to no group by something that passes is followed by another: [`attempts`].
//!
//! With the vendor's plugin as engine the saga is [`plugin`]'s: one command, then confirm and label. A stopped instance has
//! nothing to be quiesced: [`at_rest`]. A dry run is [`check`]'s: it only judges.
//!
//! Everything comes at least once. The working state is in the cloud: the invocation of each attempt carries the ids of
//! run, unit and attempt as tags, and `appsnap:outcome` once it is settled; [`repeat`] reads them.

pub mod at_rest;
pub mod attempts;
pub mod check;
mod command;
pub mod evidence;
pub mod exits;
pub mod facts;
mod groups;
pub mod label;
mod nonces;
pub mod order;
pub mod plugin;
#[cfg(test)]
pub(crate) mod realm;
pub mod reasons;
pub mod repeat;
pub mod saga;
pub mod session;
pub mod settle;
mod stop;
pub mod survey;
pub mod targets;
mod tell;
#[cfg(test)]
pub(crate) mod testing;

use jiff::Timestamp;

use self::saga::Next;
pub use self::stop::Stop;
use crate::acs::Client;
use crate::eligibility::DiskFacts;
use crate::policy::{Engine, Request};
use crate::report::{Finding, Level, Status, TimelineStep, Unit};

/// One unit and all that its saga needs to know; nothing in it changes while it runs.
#[derive(Clone)]
pub struct Task {
    /// Signs as the function's role, or as the role of the request.
    pub client: Client,
    /// The role of the request, to be narrowed for the guest.
    pub role_arn: Option<String>,
    /// What that role's trust policy asks for.
    pub external_id: Option<String>,
    /// What the user wants.
    pub request: Request,
    /// Id of the run.
    pub run: String,
    /// Id of the unit within the run.
    pub unit: String,
    /// Where the instance is.
    pub region_id: String,
    /// Whose it is.
    pub account_id: String,
    /// `i-…`
    pub instance_id: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// It is stopped.
    pub at_rest: bool,
    /// The chosen disks.
    pub disks: Vec<DiskFacts>,
    /// Nothing but the operator's registered commands is run in the guest: see [`order`].
    pub pinned: bool,
    /// When the run was due, where that is known.
    pub due: Option<Timestamp>,
    /// When the run started; the timeline counts from here.
    pub started: Timestamp,
    /// When all has to be over.
    pub deadline: Timestamp,
}

impl Task {
    /// Ids of the chosen disks.
    pub fn disk_ids(&self) -> Vec<String> {
        self.disks.iter().map(|disk| disk.disk_id.clone()).collect()
    }

    /// VSS needs the vendor's provider, so there is a choice for Linux only.
    pub fn engine(&self) -> Engine {
        if self.os_type == "windows" { Engine::Plugin } else { self.request.linux.engine }
    }
}

/// The unit's part of the report, and its status.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How the unit ended.
    pub status: Status,
    /// Of a repeat: the status that was settled earlier.
    pub settled: Option<Status>,
    /// There is no group, and another attempt may follow.
    pub again: bool,
    /// The details.
    pub unit: Unit,
}

/// What an earlier delivery of the same event leaves to do, settled where its function died.
pub async fn earlier(task: &Task) -> Next {
    let next = match task.engine() {
        Engine::Sequence => saga::earlier(task).await,
        Engine::Plugin => plugin::earlier(task).await,
    };
    match next {
        // The instance may have been stopped then.
        Next::Attempt(unit) => at_rest::earlier(task, unit).await,
        over => over,
    }
}

/// Protects a unit, from this attempt on.
pub async fn protect(task: &Task, unit: Unit) -> Outcome {
    match task.engine() {
        _ if task.at_rest => at_rest::protect(task, unit).await,
        Engine::Sequence => saga::protect(task, unit).await,
        Engine::Plugin => plugin::protect(task, unit).await,
    }
}

/// Settles an attempt whose function died in between; `first_use` is of the sequence.
pub async fn finish(task: &Task, unit: Unit, invoke_id: &str, first_use: bool) -> Outcome {
    match task.engine() {
        Engine::Sequence => saga::finish(task, unit, invoke_id, first_use).await,
        Engine::Plugin => plugin::finish(task, unit, invoke_id).await,
    }
}

/// The status that a reached level means for a request.
pub fn status_of(level: Level, wanted: Level, minimum: Level) -> Status {
    match level {
        level if level >= wanted && level > Level::None => Status::Succeeded,
        level if level >= minimum && level > Level::None => Status::Degraded,
        _ => Status::Failed,
    }
}

/// The report of a unit of which nothing is known yet.
pub fn blank(task: &Task) -> Unit {
    Unit {
        account_id: task.account_id.clone(),
        region_id: task.region_id.clone(),
        instance_ids: vec![task.instance_id.clone()],
        disk_ids: task.disk_ids(),
        os_type: task.os_type.clone(),
        engine: if task.engine() == Engine::Plugin { "plugin" } else { "sequence" }.into(),
        attempt: 1,
        wanted: task.request.consistency,
        ..Unit::default()
    }
}

/// Adds a step to the timeline, in milliseconds since the start of the run.
fn mark(task: &Task, unit: &mut Unit, step: &str, from: Timestamp, outcome: &str, detail: impl Into<String>) {
    let step = TimelineStep::new(step, task.started, (from, task.client.clock().now()), outcome);
    unit.timeline.push(TimelineStep { detail: detail.into(), ..step });
}

/// Adds a finding once.
pub fn add_finding(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.contains(&finding) {
        findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_judged_by_what_was_wanted_and_what_is_enough() {
        let table = [
            (Level::Application, Level::Application, Level::Crash, Status::Succeeded),
            (Level::Filesystem, Level::Application, Level::Crash, Status::Degraded),
            (Level::Crash, Level::Application, Level::Filesystem, Status::Failed),
            (Level::Crash, Level::Crash, Level::Crash, Status::Succeeded),
            (Level::None, Level::Crash, Level::Crash, Status::Failed),
        ];
        for (level, wanted, minimum, status) in table {
            assert_eq!(
                status_of(level, wanted, minimum),
                status,
                "{level:?} of {wanted:?}, {minimum:?} at least"
            );
        }
    }
}
