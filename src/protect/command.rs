//! Commands in the guest: starts them, waits for them, fetches a report that was lost.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::order::{self, Order, Sending};
use super::{Stop, Task, mark, stop};
use crate::acs::{Error, Pace, past_limits, wait_until};
use crate::api::assistant::{self, InvocationResult, InvocationStatus};
use crate::guest::told::Told;
use crate::policy::ids;
use crate::ram;
use crate::report::{ErrorReport, Level, Unit};

/// Time for a command to reach the guest and for its result to come back, beside what it does, in seconds.
pub const DELIVERY: u64 = 75;
/// How often the result of a command is asked for.
const PACE: Pace = Pace { first: Duration::from_millis(250), factor: 1.3, longest: Duration::from_secs(2) };
/// When the guest itself is asked for the first time, in seconds; then after twice as long, and so on.
const DOUBT: i64 = 20;
/// How long the record of a command is looked for that was just started, in seconds.
const SHOWS: u64 = 10;
/// What it means that the record of the first command does not show.
const UNTOUCHED: &str = "a repeat of this event would not be known as one, so nothing was touched";
/// Of the task's time, what is kept for the undo, in seconds.
const RESERVE: i64 = 40;

/// The report of the sequence from its output; else why it is lost. An agent that was restarted keeps silent for good:
/// the guest itself is asked now and then whether the sequence is over.
pub async fn result(task: &Task, attempt: &str, invoke_id: &str, from: Timestamp) -> Result<Told, String> {
    let clock = task.client.clock();
    let limit = from + SignedDuration::from_secs((sequence_seconds(task) + DELIVERY) as i64);
    let limit = limit.min(task.deadline - SignedDuration::from_secs(RESERVE));
    let mut doubt = SignedDuration::from_secs(DOUBT);
    loop {
        let until = (clock.now() + doubt).min(limit);
        match patient(task, invoke_id, until).await {
            Ok(Some(result)) => {
                return match Told::read(&result.output) {
                    Some(told) if told.attempt == attempt && told.phase != "running" => Ok(told),
                    _ => Err(undelivered(&result)),
                };
            }
            Ok(None) if clock.now() >= limit => return Err("the result did not come in time".into()),
            Err(error) if clock.now() >= limit => return Err(error.to_string()),
            Ok(None) | Err(_) => {}
        }
        // No answer, or a sequence that has not begun, proves nothing: on with the wait.
        if let Ok(told) = ask(task, attempt, DOUBT as u64).await
            && matches!(told.phase.as_str(), "done" | "lost")
        {
            return Err("the sequence is over, and the agent tells nothing of it".into());
        }
        doubt = doubt + doubt;
    }
}

/// The undo of `quiesce`. `None`: stuck, or it may begin yet; told loudly, and left for a repeat.
pub async fn take_back(
    task: &Task,
    unit: &mut Unit,
    attempt: &str,
    invoke_id: &str,
    lost: &str,
) -> Option<Told> {
    let from = task.client.clock().now();
    // Before the guest is asked: what begins and ends in between is not idle.
    let over = invoke_id.is_empty() || matches!(wait(task, invoke_id, from).await, Ok(Some(_)));
    match settle_in_guest(task, attempt).await {
        Ok(told) => {
            let detail = format!("{lost}; `settle` in the guest found: {}", told.phase);
            let idle = matches!(told.phase.as_str(), "idle" | "absent");
            if idle && !over {
                mark(task, unit, "settle-in-guest", from, "pending", detail.clone());
                unit.error = Some(ErrorReport {
                    code: "guest.late".into(),
                    message: format!("{detail}, and the command may begin yet"),
                    action: Some(order::action(task).into()),
                    resource: Some(invoke_id.into()),
                    cure: Some("send the event again when the command has ended: it settles the run".into()),
                    ..ErrorReport::default()
                });
                return None;
            }
            if idle {
                unit.error = Some(stop::lost(task, detail.clone()));
            }
            mark(task, unit, "settle-in-guest", from, "undone", detail);
            Some(told)
        }
        Err(error) => {
            mark(task, unit, "settle-in-guest", from, "stuck", format!("{lost}; {error}"));
            unit.error = Some(ErrorReport {
                code: "guest.stuck".into(),
                message: format!("nobody knows how the guest stands: {lost}; {error}"),
                action: Some(order::action(task).into()),
                resource: Some(task.instance_id.clone()),
                cure: Some("the guest's own watchdog thaws by itself; check the instance, then send the event again: it settles the run".into()),
                ..ErrorReport::default()
            });
            None
        }
    }
}

async fn settle_in_guest(task: &Task, attempt: &str) -> Result<Told, String> {
    let clock = task.client.clock();
    let mut pause = Duration::from_secs(2);
    loop {
        let told = ask(task, attempt, DELIVERY + 60 + u64::from(script_seconds(task))).await?;
        // Still at work: its own limits end it.
        if told.phase != "running" {
            return Ok(told);
        }
        if clock.now() + SignedDuration::try_from(pause).unwrap_or_default() >= task.deadline {
            return Err("the sequence is still running in the guest".into());
        }
        clock.sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// The command that fetches the kept report, thaws what is ours and runs an overdue postscript.
async fn ask(task: &Task, attempt: &str, seconds: u64) -> Result<Told, String> {
    let order = order::settle(task, attempt).await?;
    let kind = format!("settle-{}", task.client.clock().nonce().get(..8).unwrap_or_default());
    let invoke_id = run(task, &kind, attempt, &order, 60 + u64::from(script_seconds(task)), &[])
        .await
        .map_err(|error| error.to_string())?;
    let result = patient(task, &invoke_id, soon(task, seconds)).await.map_err(|error| error.to_string())?;
    let Some(result) = result else { return Err("`settle` was not answered either".into()) };
    Told::read(&result.output).ok_or_else(|| format!("`settle` told nothing: {}", undelivered(&result)))
}

/// Starts a command; the same `kind` and attempt are the same command.
pub async fn run(
    task: &Task,
    kind: &str,
    attempt: &str,
    order: &Order,
    seconds: u64,
    tags: &[(String, String)],
) -> Result<String, Error> {
    let token = ids::client_token(&format!("{kind}-{attempt}"));
    let sending = Sending {
        name: &format!("appsnap-{}-{}", kind.split('-').next().unwrap_or(kind), task.request.policy),
        timeout: Duration::from_secs(seconds),
        client_token: &token,
        tags,
    };
    // Nothing is frozen yet, or it thaws by itself: a fleet's rate limit is waited for.
    let limit = task.deadline - SignedDuration::from_secs(RESERVE + seconds as i64);
    past_limits(task.client.clock(), limit, || order::send(task, order, &sending)).await
}

/// Waits for the end of an invocation.
pub async fn wait(
    task: &Task,
    invoke_id: &str,
    deadline: Timestamp,
) -> Result<Option<InvocationResult>, Error> {
    let look = || async {
        let seen =
            assistant::invocation_result(&task.client, &task.region_id, invoke_id, &task.instance_id).await?;
        Ok(seen.filter(|result| result.invocation_status.is_end()))
    };
    wait_until(task.client.clock(), PACE, deadline, look).await
}

/// Waits for the end of the first command. Whoever may not see a record gets an empty list, not an error: then the run
/// ends here, before anything is touched, since neither its result nor a repeat of its event would be recognized.
pub async fn first(task: &Task, invoke_id: &str, seconds: u64) -> Result<Option<InvocationResult>, Stop> {
    let clock = task.client.clock();
    let record = || assistant::invocation(&task.client, &task.region_id, invoke_id);
    if wait_until(clock, PACE, soon(task, SHOWS), record).await?.is_none() {
        return Err(unseen(task, invoke_id, "DescribeInvocations", UNTOUCHED));
    }
    watched(task, invoke_id, seconds, UNTOUCHED).await
}

/// Waits for the end of a command; where not even its record is to be seen, it does not wait for long.
pub async fn watched(
    task: &Task,
    invoke_id: &str,
    seconds: u64,
    so: &str,
) -> Result<Option<InvocationResult>, Stop> {
    let until = soon(task, seconds);
    if let Some(result) = wait(task, invoke_id, soon(task, SHOWS).min(until)).await? {
        return Ok(Some(result));
    }
    let (client, region_id) = (&task.client, &task.region_id);
    if assistant::invocation_result(client, region_id, invoke_id, &task.instance_id).await?.is_none() {
        return Err(unseen(task, invoke_id, "DescribeInvocationResults", so));
    }
    Ok(wait(task, invoke_id, until).await?)
}

fn unseen(task: &Task, invoke_id: &str, action: &str, so: &str) -> Stop {
    let addition = ram::addition(&format!("ecs:{action}"), &task.region_id, &task.instance_id);
    Stop::Failed(ErrorReport {
        code: "record.unseen".into(),
        message: format!("{action} does not show the command {invoke_id} (a denial is an empty list): {so}"),
        action: Some(action.into()),
        resource: Some(task.instance_id.clone()),
        request_id: None,
        cure: Some(format!("allow ecs:{action} for the role that calls: {addition}")),
    })
}

/// As [`wait`]; an error of the look proves nothing, and is told only if nothing better comes in time.
async fn patient(
    task: &Task,
    invoke_id: &str,
    deadline: Timestamp,
) -> Result<Option<InvocationResult>, Error> {
    let clock = task.client.clock();
    loop {
        match wait(task, invoke_id, deadline).await {
            Err(_) if clock.now() < deadline => clock.sleep(PACE.longest).await,
            seen => return seen,
        }
    }
}

/// The limit of one script, where scripts run.
fn script_seconds(task: &Task) -> u32 {
    if task.request.consistency == Level::Application {
        task.request.linux.script_timeout_in_seconds as u32
    } else {
        0
    }
}

/// Above the sum of all limits in the guest, so that the agent's kill never comes first.
pub fn sequence_seconds(task: &Task) -> u64 {
    2 * u64::from(script_seconds(task)) + task.request.linux.timeout_in_seconds + 150
}

/// So much later, within the task's time.
pub fn soon(task: &Task, seconds: u64) -> Timestamp {
    (task.client.clock().now() + SignedDuration::from_secs(seconds as i64)).min(task.deadline)
}

/// Why an invocation has no report.
pub fn undelivered(result: &InvocationResult) -> String {
    let status = format!("{:?}", result.invocation_status);
    match result.invocation_status {
        InvocationStatus::Success | InvocationStatus::Failed => {
            format!("{status}, exit {:?}, and no report in the output", result.exit_code)
        }
        _ => format!("{status} {} {}", result.error_code, result.error_info).trim().to_string(),
    }
}
