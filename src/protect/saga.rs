//! The table of steps and the walk along it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::repeat::{self, Found};
use super::settle::{fill, place, settle, why};
use super::{Outcome, Stop, Task, add_finding, blank, mark, session};
use crate::acs::{Error, Pace, wait_until};
use crate::api::assistant::{self, InvocationResult, InvocationStatus, RunCommand};
use crate::eligibility::DiskFacts;
use crate::guest::render::{self, Plan, RenderError, Signed};
use crate::guest::told::Told;
use crate::policy::{ThawOn, ids};
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

/// Time for a command to reach the guest and for its result to come back, beside what it does.
const DELIVERY: u64 = 75;
/// How often the result of a command is asked for.
const PACE: Pace = Pace { first: Duration::from_millis(250), factor: 1.3, longest: Duration::from_secs(2) };

/// What the steps hand on.
#[derive(Default)]
struct Progress {
    found: Option<Told>,
    signed: Option<Signed>,
    invoke_id: Option<String>,
    told: Option<Told>,
}

/// Protects a unit: finds what an earlier delivery of the same event left, or walks the steps.
pub async fn protect(task: &Task) -> Outcome {
    let mut unit = blank(task);
    let attempt = ids::attempt_id(&task.run, &task.instance_id, unit.attempt);
    match repeat::find(task).await {
        Ok(Found::Fresh) => walk(task, unit, &attempt).await,
        Ok(Found::Settled(status, level)) => {
            unit.level = level;
            Outcome { status: Status::Skipped, settled: Some(status), unit }
        }
        Ok(Found::Running(invoke_id)) => {
            unit.invoke_id = Some(invoke_id);
            Outcome { status: Status::Pending, settled: None, unit }
        }
        Ok(Found::Died(invoke_id)) => finish(task, &attempt, &invoke_id).await,
        Err(stop) => stopped(task, unit, stop),
    }
}

/// Settles an attempt whose function died in between. A task that does not know its disks takes the guest's word.
pub async fn finish(task: &Task, attempt: &str, invoke_id: &str) -> Outcome {
    let mut unit = blank(task);
    let told = match result(task, attempt, invoke_id, task.client.clock().now()).await {
        Ok(told) => Some(told),
        Err(lost) => take_back(task, &mut unit, attempt, &lost).await,
    };
    let mut task = task.clone();
    if task.disks.is_empty() {
        let named = told.iter().flat_map(|told| &told.disks);
        task.disks = named.map(|id| DiskFacts::named(id)).collect();
    }
    settle(&task, unit, attempt, invoke_id, told.as_ref()).await
}

async fn walk(task: &Task, mut unit: Unit, attempt: &str) -> Outcome {
    let mut progress = Progress::default();
    for (step, name, undo) in STEPS {
        let from = task.client.clock().now();
        let done = act(task, &mut unit, attempt, step, &mut progress).await;
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
                progress.told = take_back(task, &mut unit, attempt, &detail).await;
            }
            Err(stop) => return stopped(task, unit, stop),
        }
    }
    let invoke_id = progress.invoke_id.unwrap_or_default();
    settle(task, unit, attempt, &invoke_id, progress.told.as_ref()).await
}

async fn act(
    task: &Task,
    unit: &mut Unit,
    attempt: &str,
    step: Step,
    progress: &mut Progress,
) -> Result<(), Stop> {
    let plan = plan(task, attempt);
    match step {
        Step::Find => {
            let command = render::find(&plan).map_err(unfit)?;
            let invoke_id = run(task, "find", attempt, &command, 60, &[]).await?;
            let deadline = soon(task, DELIVERY + 60);
            let Some(result) = wait(task, &invoke_id, deadline).await? else {
                return Err(silent(task, &invoke_id, "no answer"));
            };
            let told =
                Told::read(&result.output).ok_or_else(|| silent(task, &invoke_id, &undelivered(&result)))?;
            if told.phase == "refused" || !told.reasons.is_empty() && result.exit_code == Some(20) {
                fill(task, unit, &told);
                unit.reasons = why(Some(&told), &[]);
                return Err(Stop::Refused);
            }
            progress.found = Some(told);
        }
        Step::Sign => {
            let file_systems =
                progress.found.as_ref().map(|told| told.file_systems.clone()).unwrap_or_default();
            let mounts: Vec<(String, String)> = task
                .disk_ids()
                .into_iter()
                .filter_map(|id| place(&file_systems, &id).map(|place| (id, place)))
                .collect();
            let (signed, findings) = session::sign(task, attempt, &mounts).await?;
            findings.into_iter().for_each(|finding| add_finding(&mut unit.findings, finding));
            progress.signed = Some(signed);
        }
        Step::Quiesce => {
            let Some(signed) = &progress.signed else { return Err(Stop::Refused) };
            let command = render::go(attempt, signed).map_err(unfit)?;
            let from = task.client.clock().now();
            let invoke_id = match run(
                task,
                "go",
                attempt,
                &command,
                sequence_seconds(task),
                &repeat::tags(task, attempt),
            )
            .await
            {
                Ok(invoke_id) => invoke_id,
                // Never the same bytes twice: somebody else started this attempt first.
                Err(error) if error.code == "IdempotentParameterMismatch" => return Err(Stop::Pending),
                Err(error) if error.unknown_outcome => match repeat::find(task).await? {
                    Found::Running(id) | Found::Died(id) => id,
                    _ => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            };
            progress.invoke_id = Some(invoke_id.clone());
            progress.told = Some(result(task, attempt, &invoke_id, from).await.map_err(Stop::Lost)?);
        }
    }
    Ok(())
}

/// The report of the sequence from its output; else why it is lost.
async fn result(task: &Task, attempt: &str, invoke_id: &str, from: Timestamp) -> Result<Told, String> {
    let deadline =
        (from + SignedDuration::from_secs((sequence_seconds(task) + DELIVERY) as i64)).min(task.deadline);
    match wait(task, invoke_id, deadline).await {
        Ok(Some(result)) => match Told::read(&result.output) {
            Some(told) if told.attempt == attempt && told.phase != "running" => Ok(told),
            _ => Err(undelivered(&result)),
        },
        Ok(None) => Err("the result did not come in time".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The undo of `quiesce`. `None`: stuck, told loudly.
async fn take_back(task: &Task, unit: &mut Unit, attempt: &str, lost: &str) -> Option<Told> {
    let from = task.client.clock().now();
    match settle_in_guest(task, attempt).await {
        Ok(told) => {
            let detail = format!("{lost}; the second command found: {}", told.phase);
            mark(task, unit, "settle-in-guest", from, "undone", detail);
            Some(told)
        }
        Err(error) => {
            mark(task, unit, "settle-in-guest", from, "stuck", format!("{lost}; {error}"));
            unit.error = Some(ErrorReport {
                code: "guest.stuck".into(),
                message: format!("nobody knows how the guest stands: {lost}; {error}"),
                action: Some("RunCommand".into()),
                resource: Some(task.instance_id.clone()),
                cure: Some("the guest's own watchdog thaws by itself; check the instance, then send the event again: it settles the run".into()),
                ..ErrorReport::default()
            });
            None
        }
    }
}

async fn settle_in_guest(task: &Task, attempt: &str) -> Result<Told, String> {
    let command = render::settle(attempt).map_err(|error| error.to_string())?;
    let mut n = 0;
    loop {
        n += 1;
        let token = format!("settle-{n}-{}", task.client.clock().nonce().get(..8).unwrap_or_default());
        let invoke_id = run(task, &token, attempt, &command, 60 + u64::from(script_seconds(task)), &[])
            .await
            .map_err(|error| error.to_string())?;
        let deadline = soon(task, DELIVERY + 60 + u64::from(script_seconds(task)));
        let result = wait(task, &invoke_id, deadline).await.map_err(|error| error.to_string())?;
        let Some(result) = result else { return Err("the second command was not answered either".into()) };
        match Told::read(&result.output) {
            // Still at work: its own limits end it.
            Some(told) if told.phase == "running" => {
                if task.client.clock().now() >= task.deadline {
                    return Err("the sequence is still running in the guest".into());
                }
                task.client.clock().sleep(Duration::from_secs(2)).await;
            }
            Some(told) => return Ok(told),
            None => return Err(format!("the second command told nothing: {}", undelivered(&result))),
        }
    }
}

async fn run(
    task: &Task,
    kind: &str,
    attempt: &str,
    content: &[u8],
    seconds: u64,
    tags: &[(String, String)],
) -> Result<String, Error> {
    let token = ids::client_token(&format!("{kind}-{attempt}"));
    let started = assistant::run_command(
        &task.client,
        &RunCommand {
            region_id: &task.region_id,
            instance_id: &task.instance_id,
            name: &format!("appsnap-{}-{}", kind.split('-').next().unwrap_or(kind), task.request.policy),
            content,
            timeout: Duration::from_secs(seconds),
            client_token: &token,
            tags,
        },
    )
    .await?;
    Ok(started.invoke_id)
}

/// Waits for the end of an invocation.
async fn wait(task: &Task, invoke_id: &str, deadline: Timestamp) -> Result<Option<InvocationResult>, Error> {
    let look = || async {
        let seen =
            assistant::invocation_result(&task.client, &task.region_id, invoke_id, &task.instance_id).await?;
        Ok(seen.filter(|result| result.invocation_status.is_end()))
    };
    wait_until(task.client.clock(), PACE, deadline, look).await
}

fn plan(task: &Task, attempt: &str) -> Plan {
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
    }
}

fn script_seconds(task: &Task) -> u32 {
    if task.request.consistency == Level::Application {
        task.request.linux.script_timeout_in_seconds as u32
    } else {
        0
    }
}

/// Above the sum of all limits in the guest, so that the agent's kill never comes first.
fn sequence_seconds(task: &Task) -> u64 {
    2 * u64::from(script_seconds(task)) + task.request.linux.timeout_in_seconds + 150
}

fn soon(task: &Task, seconds: u64) -> Timestamp {
    (task.client.clock().now() + SignedDuration::from_secs(seconds as i64)).min(task.deadline)
}

fn undelivered(result: &InvocationResult) -> String {
    let status = format!("{:?}", result.invocation_status);
    match result.invocation_status {
        InvocationStatus::Success | InvocationStatus::Failed => {
            format!("{status}, exit {:?}, and no report in the output", result.exit_code)
        }
        _ => format!("{status} {} {}", result.error_code, result.error_info).trim().to_string(),
    }
}

fn silent(task: &Task, invoke_id: &str, detail: &str) -> Stop {
    Stop::Failed(ErrorReport {
        code: "guest.silent".into(),
        message: format!(
            "the guest did not answer the first command ({invoke_id}): {detail}; nothing was touched"
        ),
        action: Some("RunCommand".into()),
        resource: Some(task.instance_id.clone()),
        cure: Some(
            "check that Cloud Assistant works on the instance, e.g. by a command `true` in the console"
                .into(),
        ),
        ..ErrorReport::default()
    })
}

fn unfit(error: RenderError) -> Stop {
    Stop::Failed(ErrorReport {
        code: "guest.command".into(),
        message: error.to_string(),
        ..ErrorReport::default()
    })
}

fn stopped(task: &Task, mut unit: Unit, stop: Stop) -> Outcome {
    let status = match stop {
        Stop::Refused => {
            // What stopped the run weighs as much as a blocker.
            for finding in unit.findings.iter_mut().filter(|finding| unit.reasons.contains(&finding.code)) {
                finding.severity = Severity::Blocker;
                finding.resource.clone_from(&task.instance_id);
            }
            Status::Refused
        }
        Stop::Pending => Status::Pending,
        Stop::Lost(detail) => {
            unit.error =
                Some(ErrorReport { code: "guest.lost".into(), message: detail, ..ErrorReport::default() });
            Status::Failed
        }
        Stop::Failed(error) => {
            unit.error = Some(error);
            Status::Failed
        }
    };
    Outcome { status, settled: None, unit }
}
