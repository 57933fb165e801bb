//! A stopped instance: nothing runs in it, so nothing can be frozen, and nothing has to be. The function makes the group
//! itself, at `crash`, since nothing shows how the instance was shut down; that is the best there is to have of it, and no
//! alarm.
//!
//! There is no invocation that could be the record of the attempt, so the group is: by its tags a repeat finds it, and
//! labels it where the function died before. Deliveries at the same moment send the same create with the same ClientToken,
//! and all get the one group. Should the instance start in between, the group holds what a crash would leave, and that a
//! running one was not frozen is an alarm (`instance.started`).

use super::groups::{self, PATIENCE};
use super::saga::Next;
use super::session::{group_description, group_name, group_tags};
use super::settle::{labelled, others};
use super::tell::members;
use super::{Outcome, Task, add_finding, attempts, mark, reasons, status_of};
use crate::acs::{Error, past_limits};
use crate::api::ecs::{self, CreateSnapshotGroup, SnapshotGroup};
use crate::eligibility::refused;
use crate::eligibility::rules::STOPPED;
use crate::policy::ids;
use crate::report::{ErrorReport, Level, Severity, Status, Unit};

/// What the report names as the engine.
pub const ENGINE: &str = "none";
/// Why a group of an instance at rest is an alarm all the same.
const STARTED: &str = "instance.started";
/// The tag that a group is born with here and nowhere else.
const MARK: (&str, &str) = ("appsnap:reason", STOPPED.code);

/// What an earlier delivery of the same event has made, whatever the instance does by now.
pub async fn earlier(task: &Task, mut unit: Unit) -> Next {
    let group = match groups::of_unit(task).await {
        Ok(found) => found.into_iter().find(is_ours),
        Err(error) => {
            unit.error = Some(ErrorReport::from(&error));
            return Next::Over(over(Status::Failed, unit));
        }
    };
    let Some(group) = group else { return Next::Attempt(unit) };
    unit.engine = ENGINE.into();
    let attempt = group.tags.iter().find(|tag| tag.key == "appsnap:attempt");
    unit.attempt = attempts::number(task, attempt.map_or("", |tag| &tag.value));
    let Some(written) = groups::labelled(&group) else {
        return Next::Over(settle(task, unit, &group, false).await);
    };
    let (level, mut reasons) = judge(task, &group);
    if level > Level::None {
        reasons = told(&group).unwrap_or(reasons);
    }
    let status = status(task, level, &reasons);
    unit.level = level.min(written);
    unit.snapshots = members(&group);
    unit.snapshot_group_id = Some(group.snapshot_group_id);
    Next::Over(Outcome { settled: Some(status), ..over(Status::Skipped, unit) })
}

/// Makes the group, and settles it.
pub async fn protect(task: &Task, mut unit: Unit) -> Outcome {
    unit.engine = ENGINE.into();
    let attempt = attempts::id(task, unit.attempt);
    let from = task.client.clock().now();
    let made = create(task, &attempt).await;
    let detail = made.as_ref().map_or_else(Error::to_string, String::clone);
    mark(task, &mut unit, "create", from, if made.is_ok() { "ok" } else { "failed" }, detail);
    if let Err(error) = &made
        && !error.unknown_outcome
        && !is_busy(error)
    {
        return not_made(task, unit, error);
    }
    let from = task.client.clock().now();
    let looked = groups::look_for(task, &attempt, made.as_deref().ok(), PATIENCE).await;
    let found = match &looked {
        Ok(group) => group.as_ref().map_or("no group".into(), |group| group.snapshot_group_id.clone()),
        Err(error) => error.to_string(),
    };
    mark(task, &mut unit, "confirm", from, if looked.is_ok() { "ok" } else { "failed" }, found);
    match (looked, made) {
        (Ok(Some(group)), _) if is_ours(&group) => {
            let started = unit.wanted > Level::Crash && started(task).await;
            settle(task, unit, &group, started).await
        }
        (looked, Ok(id)) => {
            unit.error = looked.err().map(|error| ErrorReport::from(&error));
            unseen(task, unit, id)
        }
        // Another delivery is at it: by the guest, with other disks, or just now.
        (_, Err(error)) if is_busy(&error) => over(Status::Pending, unit),
        (_, Err(error)) => {
            tell(task, &mut unit, "group.unseen", &format!("appsnap:run={}", task.run), Severity::Note);
            not_made(task, unit, &error)
        }
    }
}

async fn create(task: &Task, attempt: &str) -> Result<String, Error> {
    let mut tags = group_tags(task, attempt, &[]);
    tags.push((MARK.0.into(), MARK.1.into()));
    let wanted = CreateSnapshotGroup {
        region_id: &task.region_id,
        instance_id: Some(&task.instance_id),
        disk_ids: &task.disk_ids(),
        name: &group_name(task),
        description: &group_description(task),
        client_token: &ids::client_token(attempt),
        tags: &tags,
        resource_group_id: task.request.snapshot.resource_group_id.as_deref(),
    };
    // Nothing waits for it frozen; what is left then is for finding the group and labelling it.
    let limit = task.deadline - PATIENCE - PATIENCE;
    let create = || ecs::create_snapshot_group(&task.client, &wanted);
    past_limits(task.client.clock(), limit, create).await
}

/// Whether the ClientToken is somebody else's by now.
fn is_busy(error: &Error) -> bool {
    error.code.starts_with("Idempotent")
}

fn is_ours(group: &SnapshotGroup) -> bool {
    group.tags.iter().any(|tag| (tag.key.as_str(), tag.value.as_str()) == MARK)
}

/// The level, and what keeps it from being higher.
fn judge(task: &Task, group: &SnapshotGroup) -> (Level, Vec<String>) {
    if group.failed() {
        return (Level::None, vec!["group.failed".into()]);
    }
    let other = (!group.holds_exactly(&task.disk_ids())).then_some("group.disks");
    (Level::Crash, [STOPPED.code].into_iter().chain(other).map(str::to_string).collect())
}

/// That the instance is stopped is no alarm by itself: more cannot be had of it.
fn status(task: &Task, level: Level, reasons: &[String]) -> Status {
    match status_of(level, task.request.consistency, task.request.minimum_level) {
        Status::Degraded if *reasons == [STOPPED.code] => Status::Succeeded,
        status => status,
    }
}

/// The reasons that the label tells: a repeat may find other disks attached, or none.
fn told(group: &SnapshotGroup) -> Option<Vec<String>> {
    let mut tags = group.snapshots.iter().flat_map(|snapshot| &snapshot.tags);
    let reason = tags.find(|tag| tag.key == MARK.0)?;
    Some(reason.value.split_whitespace().map(str::to_owned).collect())
}

/// Whether it runs by now, or is about to: then it may have run when its disks were snapshotted.
async fn started(task: &Task) -> bool {
    let ids = std::slice::from_ref(&task.instance_id);
    let look = || ecs::describe_instances(&task.client, &task.region_id, ids, &[]);
    let found = past_limits(task.client.clock(), task.deadline - PATIENCE, look).await;
    // Where that is not shown, the survey's word stands.
    found.is_ok_and(|found| found.iter().any(|one| one.status != "Stopped"))
}

async fn settle(task: &Task, mut unit: Unit, group: &SnapshotGroup, started: bool) -> Outcome {
    (unit.level, unit.reasons) = judge(task, group);
    unit.reasons.extend(started.then(|| STARTED.to_string()));
    if unit.level >= unit.wanted && unit.reasons == [STOPPED.code] {
        unit.reasons.clear();
    }
    for code in unit.reasons.clone() {
        tell(task, &mut unit, &code, "", Severity::Downgrade);
    }
    unit.snapshots = members(group);
    unit.snapshot_group_id = Some(group.snapshot_group_id.clone());
    labelled(task, &mut unit, group, None).await;
    others(task, &mut unit, group).await;
    over(status(task, unit.level, &unit.reasons), unit)
}

/// Accepted, and not seen yet: a repeat looks again and writes the tags. What nobody has seen is no success.
fn unseen(task: &Task, mut unit: Unit, group_id: String) -> Outcome {
    unit.level = Level::Crash;
    tell(task, &mut unit, STOPPED.code, "", Severity::Downgrade);
    tell(task, &mut unit, "group.unseen", &format!("appsnap:run={}", task.run), Severity::Downgrade);
    unit.reasons = vec![STOPPED.code.into(), "group.unseen".into()];
    unit.snapshot_group_id = Some(group_id);
    let status = status_of(unit.level, unit.wanted, task.request.minimum_level);
    over(status.max(Status::Degraded), unit)
}

/// There is no group, or none is known.
fn not_made(task: &Task, mut unit: Unit, error: &Error) -> Outcome {
    match refused(&error.code) {
        Some(rule) => {
            add_finding(&mut unit.findings, rule.finding(&task.instance_id, &error.code));
            unit.reasons = vec![rule.code.into()];
        }
        None => {
            tell(task, &mut unit, "group.none", &error.code, Severity::Downgrade);
            unit.reasons = vec!["group.none".into()];
        }
    }
    unit.error = Some(ErrorReport::from(error));
    over(Status::Failed, unit)
}

fn tell(task: &Task, unit: &mut Unit, code: &str, detail: &str, severity: Severity) {
    add_finding(&mut unit.findings, reasons::finding(code, detail, &task.instance_id, severity));
}

fn over(status: Status, unit: Unit) -> Outcome {
    Outcome { status, settled: None, again: false, unit }
}

#[cfg(test)]
#[path = "at_rest_tests.rs"]
mod tests;
