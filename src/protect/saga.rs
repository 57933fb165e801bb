//! The table of steps and the walk along it.

use jiff::SignedDuration;

use super::command::{DELIVERY, first, result, run, sequence_seconds, take_back, undelivered, wait};
use super::nonces::{Nonces, Witness};
use super::repeat::{self, State};
use super::settle::{repeated, settle};
use super::stop::{silent, stopped};
use super::tell::{fill, place, why};
use super::{Outcome, Stop, Task, add_finding, attempts, blank, groups, mark, order, reasons, session};
use crate::api::assistant::InvocationResult;
use crate::eligibility::DiskFacts;
use crate::guest::render::{self, Plan, Signed};
use crate::guest::told::Told;
use crate::policy::ThawOn;
use crate::report::{ErrorReport, Level, Severity, Status, Unit};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first command: brings the sequence to tmpfs and looks; changes nothing.
    Find,
    /// Assumes the narrowed role and signs.
    Sign,
    /// The second command: the sequence itself.
    Quiesce,
}

/// What takes a step back that started and is not known to have finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// Nothing was changed.
    Nothing,
    /// The command that fetches the kept report, thaws what is ours and runs an overdue postscript.
    SettleInGuest,
}

/// Steps in order, each with its name in the timeline and its undo. Confirming and labelling follow, whatever came
/// of these: see [`settle`].
pub const STEPS: [(Step, &str, Undo); 3] = [
    (Step::Find, "find", Undo::Nothing),
    (Step::Sign, "sign", Undo::Nothing),
    (Step::Quiesce, "quiesce", Undo::SettleInGuest),
];

/// How many refusals of earlier deliveries are passed over.
const REFUSALS: u32 = 10;

/// What a guest without an answer to `find` did not do.
const MISSED: &str = "answer the first command";

/// What the steps hand on.
#[derive(Default)]
struct Progress {
    found: Option<Told>,
    signed: Option<Signed>,
    nonces: Option<Nonces>,
    invoke_id: Option<String>,
    told: Option<Told>,
}

/// What is to be done with a unit.
pub enum Next {
    /// This attempt.
    Attempt(Unit),
    /// Nothing more.
    Over(Outcome),
}

/// What an earlier delivery of the same event leaves to do, settled where its function died.
pub async fn earlier(task: &Task) -> Next {
    let mut unit = blank(task);
    let latest = match repeat::find(task).await {
        Ok(Some(latest)) => latest,
        Ok(None) => return Next::Attempt(unit),
        Err(stop) => return Next::Over(stopped(task, unit, stop)),
    };
    unit.attempt = latest.number;
    match latest.state {
        State::Settled(status, level) => match repeated(task, unit, status, level).await {
            Ok(outcome) => Next::Over(outcome),
            Err(unit) => Next::Over(finish(task, unit, &latest.invoke_id, latest.first_use).await),
        },
        State::Running => {
            unit.invoke_id = Some(latest.invoke_id);
            Next::Over(Outcome { status: Status::Pending, settled: None, again: false, unit })
        }
        State::Died => {
            let outcome = finish(task, unit, &latest.invoke_id, latest.first_use).await;
            next(task, outcome, true).await
        }
        State::Again => {
            unit.invoke_id = Some(latest.invoke_id);
            unit.findings.push(attempts::note(task, latest.number, "in an earlier delivery of this event"));
            next(task, Outcome { status: Status::Failed, settled: None, again: true, unit }, false).await
        }
    }
}

/// Protects a unit, from this attempt on.
pub async fn protect(task: &Task, mut unit: Unit) -> Outcome {
    loop {
        let outcome = walk(task, unit).await;
        match next(task, outcome, true).await {
            Next::Attempt(another) => unit = another,
            Next::Over(outcome) => return outcome,
        }
    }
}

/// What follows an attempt: another one, where it may help, time is left for a whole one, the schedule lets it begin, and
/// still no group shows.
async fn next(task: &Task, mut outcome: Outcome, pausing: bool) -> Next {
    if !outcome.again {
        return Next::Over(outcome);
    }
    let clock = task.client.clock();
    let (from, number) = (clock.now(), outcome.unit.attempt);
    let pause =
        if pausing { attempts::pause(number, clock.jitter()) } else { std::time::Duration::default() };
    let needed = pause + std::time::Duration::from_secs(task.request.seconds_needed());
    if from + SignedDuration::try_from(needed).unwrap_or(SignedDuration::MAX) > task.deadline {
        mark(task, &mut outcome.unit, "pause", from, "failed", "no time is left for another attempt");
        return Next::Over(outcome);
    }
    let begin = from + SignedDuration::try_from(pause).unwrap_or_default();
    if let Some(why) = task.request.schedule.forbids(begin, task.due) {
        mark(task, &mut outcome.unit, "pause", from, "failed", "no other attempt may begin now");
        let finding = reasons::finding(why.code, &why.detail, &task.instance_id, Severity::Note);
        add_finding(&mut outcome.unit.findings, finding);
        return Next::Over(outcome);
    }
    clock.sleep(pause).await;
    match groups::of_unit(task).await {
        Ok(found) if found.is_empty() => {
            let mut unit = Unit { attempt: number + 1, ..blank(task) };
            unit.timeline = outcome.unit.timeline;
            unit.findings =
                outcome.unit.findings.into_iter().filter(|f| f.code == "attempt.failed").collect();
            mark(task, &mut unit, "pause", from, "ok", format!("before attempt {}", number + 1));
            Next::Attempt(unit)
        }
        // It shows only now.
        Ok(_) => {
            let invoke_id = outcome.unit.invoke_id.clone().unwrap_or_default();
            let unit = Unit { attempt: number, timeline: outcome.unit.timeline, ..blank(task) };
            Next::Over(Outcome { again: false, ..finish(task, unit, &invoke_id, false).await })
        }
        Err(error) => {
            mark(task, &mut outcome.unit, "pause", from, "failed", error.to_string());
            outcome.unit.error = Some(ErrorReport::from(&error));
            Next::Over(outcome)
        }
    }
}

/// Settles an attempt whose function died in between; `first_use`: that function noted that nobody had fired its signed
/// creates. A task that does not know its disks takes the guest's word.
pub async fn finish(task: &Task, mut unit: Unit, invoke_id: &str, first_use: bool) -> Outcome {
    let attempt = attempts::id(task, unit.attempt);
    let told = match result(task, &attempt, invoke_id, task.client.clock().now()).await {
        Ok(told) => Some(told),
        Err(lost) => take_back(task, &mut unit, &attempt, invoke_id, &lost).await,
    };
    let mut task = task.clone();
    if task.disks.is_empty() {
        let named = told.iter().flat_map(|told| &told.disks);
        task.disks = named.map(|id| DiskFacts::named(id)).collect();
        unit.disk_ids = task.disk_ids();
    }
    let witness = if first_use { Witness::Noted } else { Witness::Nobody };
    settle(&task, unit, invoke_id, told.as_ref(), witness).await
}

async fn walk(task: &Task, mut unit: Unit) -> Outcome {
    let mut progress = Progress::default();
    let attempt = attempts::id(task, unit.attempt);
    for (step, name, undo) in STEPS {
        let from = task.client.clock().now();
        let done = act(task, &mut unit, &attempt, step, &mut progress).await;
        let outcome = match &done {
            Ok(()) => "ok",
            Err(Stop::Refused) => "refused",
            Err(Stop::Pending) => "pending",
            Err(Stop::Lost(_)) => "lost",
            Err(Stop::Failed(_)) => "failed",
        };
        mark(task, &mut unit, name, from, outcome, "");
        match done {
            Ok(()) => {}
            // Started, and not known to have finished.
            Err(Stop::Lost(detail)) if undo == Undo::SettleInGuest => {
                let invoke_id = progress.invoke_id.as_deref().unwrap_or_default();
                progress.told = take_back(task, &mut unit, &attempt, invoke_id, &detail).await;
            }
            Err(stop) => return stopped(task, unit, stop),
        }
    }
    let witness = progress.nonces.as_ref().map_or(Witness::Nobody, Witness::Nonces);
    settle(task, unit, &progress.invoke_id.unwrap_or_default(), progress.told.as_ref(), witness).await
}

async fn act(
    task: &Task,
    unit: &mut Unit,
    attempt: &str,
    step: Step,
    progress: &mut Progress,
) -> Result<(), Stop> {
    match step {
        Step::Find => {
            let told = look(task, attempt).await?;
            if refused(&told) {
                fill(task, unit, &told.0);
                unit.reasons = why(Some(&told.0), &[]);
                return Err(Stop::Refused);
            }
            progress.found = Some(told.0);
        }
        Step::Sign => {
            let file_systems =
                progress.found.as_ref().map(|told| told.file_systems.clone()).unwrap_or_default();
            let mounts: Vec<(String, String)> = task
                .disk_ids()
                .into_iter()
                .filter_map(|id| place(&file_systems, &id).map(|place| (id, place)))
                .collect();
            let (signed, nonces, findings) = session::sign(task, attempt, &mounts).await?;
            findings.into_iter().for_each(|finding| add_finding(&mut unit.findings, finding));
            (progress.signed, progress.nonces) = (Some(signed), Some(nonces));
        }
        Step::Quiesce => {
            let Some(signed) = &progress.signed else { return Err(Stop::Refused) };
            let order = order::go(task, attempt, signed).await.map_err(Stop::Failed)?;
            let invoke_id =
                match run(task, "go", attempt, &order, sequence_seconds(task), &repeat::tags(task, attempt))
                    .await
                {
                    Ok(invoke_id) => invoke_id,
                    // Never the same bytes twice: somebody else started this attempt first.
                    Err(error) if error.code == "IdempotentParameterMismatch" => return Err(Stop::Pending),
                    // It may have been started, so the guest is asked.
                    Err(error) if error.unknown_outcome => match repeat::find(task).await {
                        Ok(Some(latest)) if latest.number == unit.attempt => latest.invoke_id,
                        _ => return Err(Stop::Lost(error.to_string())),
                    },
                    Err(error) => return Err(error.into()),
                };
            progress.invoke_id = Some(invoke_id.clone());
            let from = task.client.clock().now();
            progress.told = Some(result(task, attempt, &invoke_id, from).await.map_err(Stop::Lost)?);
        }
    }
    Ok(())
}

/// The first command's report. Its token is the same for each delivery of an event, so that only one at a time writes
/// to the attempt's directory; a refusal of an earlier delivery is no answer today, so a token made from it follows.
async fn look(task: &Task, attempt: &str) -> Result<(Told, InvocationResult), Stop> {
    let order = order::find(task, &plan(task, attempt)).await.map_err(Stop::Failed)?;
    let mut kind = "find".to_string();
    let mut tries = 0;
    loop {
        tries += 1;
        let invoke_id = run(task, &kind, attempt, &order, 60, &[]).await?;
        let old = tries < REFUSALS && wait(task, &invoke_id, task.client.clock().now()).await?.is_some();
        let Some(result) = first(task, &invoke_id, DELIVERY + 60).await? else {
            return Err(Stop::Failed(silent(task, MISSED, &invoke_id, "no answer")));
        };
        match Told::read(&result.output) {
            Some(told) => {
                let told = (told, result);
                if !old || !refused(&told) {
                    return Ok(told);
                }
            }
            None if !old => {
                return Err(Stop::Failed(silent(task, MISSED, &invoke_id, &undelivered(&result))));
            }
            None => {}
        }
        kind = format!("find-{invoke_id}");
    }
}

fn refused((told, result): &(Told, InvocationResult)) -> bool {
    told.phase == "refused" || !told.reasons.is_empty() && result.exit_code == Some(20)
}

/// What the guest is to do.
pub(super) fn plan(task: &Task, attempt: &str) -> Plan {
    let (request, linux) = (&task.request, &task.request.linux);
    Plan {
        attempt: attempt.to_string(),
        policy: request.policy.clone(),
        disks: task.disk_ids(),
        want: request.consistency,
        minimum: request.minimum_level,
        pre_script: linux.pre_script_path.clone(),
        post_script: linux.post_script_path.clone(),
        script_timeout: linux.script_timeout_in_seconds as u32,
        freeze: linux.enable_fs_freeze && request.consistency > Level::Crash,
        window: linux.timeout_in_seconds as u32,
        thaw_on: if linux.thaw_on == ThawOn::Visible {
            render::ThawOn::Visible
        } else {
            render::ThawOn::Accepted
        },
        visible: linux.visible_timeout_in_seconds as u32,
        ca_bundle: linux.ca_bundle.clone(),
        fast_freeze: linux.fast_freeze,
    }
}

#[cfg(test)]
#[path = "saga_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod attempts_tests;

#[cfg(test)]
#[path = "proof_tests.rs"]
mod proof_tests;

#[cfg(test)]
#[path = "deliveries_tests.rs"]
mod deliveries_tests;
