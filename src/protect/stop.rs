//! Why a unit stopped before its end, and what its report says then.

use super::{Outcome, Task, order};
use crate::acs::Error;
use crate::guest::render::RenderError;
use crate::report::{ErrorReport, Severity, Status, Unit};

/// Why a saga stopped.
#[derive(Debug, Clone)]
pub enum Stop {
    /// The guest refused before anything was touched.
    Refused,
    /// Somebody else is at this unit.
    Pending,
    /// A step started and is not known to have finished, for this reason: it has to be undone.
    Lost(String),
    /// An error before anything was touched.
    Failed(ErrorReport),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(ErrorReport::from(&error))
    }
}

/// The outcome of a unit that stopped.
pub(super) fn stopped(task: &Task, mut unit: Unit, stop: Stop) -> Outcome {
    let status = match stop {
        Stop::Refused => {
            // What stopped the run weighs as much as a blocker.
            for finding in unit.findings.iter_mut().filter(|finding| unit.reasons.contains(&finding.code)) {
                finding.severity = Severity::Blocker;
                finding.resource.clone_from(&task.instance_id);
            }
            // An earlier attempt has touched the guest.
            if unit.attempt == 1 { Status::Refused } else { Status::Failed }
        }
        Stop::Pending => Status::Pending,
        Stop::Lost(detail) => {
            unit.error = Some(lost(task, detail));
            Status::Failed
        }
        Stop::Failed(error) => {
            unit.error = Some(error);
            Status::Failed
        }
    };
    Outcome { status, settled: None, again: false, unit }
}

/// Nobody knows whether the command began.
pub(super) fn lost(task: &Task, detail: String) -> ErrorReport {
    ErrorReport {
        code: "guest.lost".into(),
        message: detail,
        action: Some(order::action(task).into()),
        resource: Some(task.instance_id.clone()),
        cure: Some("check that the instance is up and Cloud Assistant works on it, then send the event again: it settles the run".into()),
        ..ErrorReport::default()
    }
}

/// A command that only looks was not answered, or not by a report; `missed` is what the guest did not do.
pub(super) fn silent(task: &Task, missed: &str, invoke_id: &str, why: &str) -> ErrorReport {
    ErrorReport {
        code: "guest.silent".into(),
        message: format!("the guest did not {missed} ({invoke_id}): {why}; nothing was touched"),
        action: Some(order::action(task).into()),
        resource: Some(task.instance_id.clone()),
        cure: Some(
            "check that Cloud Assistant works on the instance, e.g. by a command `true` in the console"
                .into(),
        ),
        ..ErrorReport::default()
    }
}

/// A command that cannot be made; the error names the value, or the size.
pub(super) fn unfit(error: RenderError) -> ErrorReport {
    ErrorReport {
        code: "guest.command".into(),
        message: error.to_string(),
        cure: Some("correct the value that is named, or choose fewer disks and shorter paths".into()),
        ..ErrorReport::default()
    }
}
