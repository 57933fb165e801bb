//! The dry run of a unit: everything is judged, nothing is touched. What the survey found, what the cloud says of a
//! command that it is not to run (RunCommand's DryRun), what the guest tells of itself ([`crate::guest::look`]), and for
//! the vendor's plugin the instance's role. No group, no tag, no signature for the guest; and no trace that a run could
//! take for its own.

use std::time::Duration;

use super::at_rest::ENGINE;
use super::command::{DELIVERY, soon, undelivered, wait};
use super::facts::count_snapshots;
use super::saga::plan;
use super::stop::{silent, unfit};
use super::survey::Surveyed;
use super::{Outcome, Task, add_finding, attempts, blank, mark, order, plugin, reasons, session, tell};
use crate::acs::{Error, past_limits};
use crate::api::assistant::{self, RunCommand};
use crate::api::preflight;
use crate::eligibility;
use crate::eligibility::guest::{self, GuestFacts};
use crate::eligibility::rules::STOPPED;
use crate::guest::look::{self, Look, Looked};
use crate::guest::render::Plan;
use crate::policy::{Engine, ids};
use crate::report::{ErrorReport, Finding, Level, Severity, Status, Unit};

/// The command's time; its own limits are far below.
const LIMIT: Duration = Duration::from_secs(120);

/// Judges a unit.
pub async fn check(task: &Task, surveyed: Surveyed) -> Outcome {
    let mut unit = Unit { findings: surveyed.findings.clone(), ..blank(task) };
    if task.at_rest {
        unit.engine = ENGINE.into();
    } else if task.engine() == Engine::Sequence {
        session::findings(task).into_iter().for_each(|finding| add_finding(&mut unit.findings, finding));
    }
    unit.findings.extend(asked_for(task));
    let mut disks = surveyed.disks.clone();
    count_snapshots(&task.client, &task.region_id, &mut disks).await;
    unit.findings.extend(eligibility::snapshot_findings(&disks));
    if at_hand(&unit.findings)
        && let Err(error) = ask(task, &surveyed, &mut unit).await
    {
        unit.error = Some(error);
    }
    let (wanted, minimum) = (task.request.consistency, task.request.minimum_level);
    for finding in unit.findings.iter_mut().filter(|finding| finding.severity == Severity::Downgrade) {
        if guest::expected(std::slice::from_ref(finding), wanted) < minimum {
            finding.severity = Severity::Blocker;
        }
    }
    let level = guest::expected(&unit.findings, wanted);
    // What could not be asked may lower it further.
    unit.expected_level = (unit.error.is_none() || level == Level::None).then_some(level);
    unit.reasons = lowered_by(&unit.findings);
    let status = match unit.expected_level {
        None => Status::Failed,
        Some(Level::None) => Status::Refused,
        // More cannot be had of it, and that is no alarm.
        Some(_) if unit.reasons == [STOPPED.code] => Status::Succeeded,
        Some(level) if level < wanted => Status::Degraded,
        Some(_) => Status::Succeeded,
    };
    Outcome { status, settled: None, again: false, unit }
}

/// Whether there is a running guest with a living agent.
fn at_hand(findings: &[Finding]) -> bool {
    !findings.iter().any(|finding| {
        let about = |start: &str| finding.code.starts_with(start);
        finding.code == STOPPED.code
            || finding.severity == Severity::Blocker && (about("instance.") || about("agent."))
    })
}

/// What the request itself forgoes. (That it forgoes its own minimum is the plugin's to tell, or no request.)
fn asked_for(task: &Task) -> Option<Finding> {
    let (request, windows) = (&task.request, task.os_type == "windows");
    let application = request.consistency == Level::Application && request.minimum_level < Level::Application;
    let code = match () {
        _ if task.at_rest => return None,
        _ if windows && application && !request.enable_writers => "writers.off",
        _ if !windows && request.consistency > Level::Crash && !request.linux.enable_fs_freeze => {
            "freeze.off"
        }
        _ => return None,
    };
    Some(reasons::finding(code, "", &task.instance_id, Severity::Downgrade))
}

/// Codes of what lowers the level, the worst first, each once.
fn lowered_by(findings: &[Finding]) -> Vec<String> {
    let mut worst: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity > Severity::Note).collect();
    worst.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut seen = std::collections::HashSet::new();
    worst.iter().map(|finding| finding.code.clone()).filter(|code| seen.insert(code.clone())).collect()
}

/// Asks cloud and guest; an error is what could not be asked.
async fn ask(task: &Task, surveyed: &Surveyed, unit: &mut Unit) -> Result<(), ErrorReport> {
    if task.pinned {
        return registered(task, unit).await;
    }
    let windows = task.os_type == "windows";
    let kind = if windows { "RunPowerShellScript" } else { "RunShellScript" };
    let from = task.client.clock().now();
    let answer = past_limits(task.client.clock(), task.deadline, || {
        preflight::dry_run(&task.client, &task.region_id, &task.instance_id, kind)
    })
    .await;
    mark(task, unit, "dry-run", from, if answer.is_ok() { "ok" } else { "refused" }, "RunCommand");
    if let Err(error) = answer {
        unit.findings.push(refused(task, &error)?);
        return Ok(());
    }
    if task.engine() == Engine::Plugin {
        let ahead = plugin::ahead(task).await.map_err(|error| ErrorReport::from(&error))?;
        ahead.findings.into_iter().for_each(|finding| add_finding(&mut unit.findings, finding));
        unit.findings.extend(plugin_there(task).await);
    }
    if windows { Ok(()) } else { look(task, surveyed, unit).await }
}

/// In pinned mode the dry run of a command and the look are out of reach: both are RunCommand's. What a run would invoke is
/// looked for all the same.
async fn registered(task: &Task, unit: &mut Unit) -> Result<(), ErrorReport> {
    let (code, severity) = match task.engine() {
        Engine::Plugin => ("pinned.engine", Severity::Blocker),
        Engine::Sequence => {
            order::find(task, &plan(task, &attempts::id(task, 1))).await?;
            ("look.pinned", Severity::Note)
        }
    };
    add_finding(&mut unit.findings, reasons::finding(code, "", &task.instance_id, severity));
    Ok(())
}

/// What the cloud says against a command; an error that says nothing about it stays one.
fn refused(task: &Task, error: &Error) -> Result<Finding, ErrorReport> {
    let said = error.status.is_some_and(|status| (400..500).contains(&status)) && !error.is_throttled();
    if !said {
        return Err(ErrorReport::from(error));
    }
    let detail = format!("{}: {}", error.code, error.message);
    let mut finding = guest::REFUSED.finding(&task.instance_id, &detail);
    if let Some(cure) = error.cure() {
        finding.cure = cure;
    }
    Ok(finding)
}

/// A note where the vendor's plugin is not in the guest yet. A role need not be allowed to ask.
async fn plugin_there(task: &Task) -> Option<Finding> {
    let name = "app-snapshot-plugin";
    let status =
        preflight::plugin_status(&task.client, &task.region_id, &task.instance_id, name).await.ok()?;
    let status = status.map_or("NotInstalled".to_owned(), |plugin| plugin.status);
    let there = ["Installed", "Running", "Stopped"].contains(&status.as_str());
    (!there).then(|| guest::PLUGIN.finding(&task.instance_id, &status))
}

/// Lets the guest tell of itself.
async fn look(task: &Task, surveyed: &Surveyed, unit: &mut Unit) -> Result<(), ErrorReport> {
    let plugin = task.engine() == Engine::Plugin;
    // Never the same twice: every check looks anew, and no run has this name.
    let nonce = task.client.clock().nonce();
    let attempt = format!("l-{}", nonce.get(..16).unwrap_or(&nonce));
    let host = if plugin { None } else { Some(session::endpoint(task)?.host().to_owned()) };
    let look = Look { plan: Plan { attempt: attempt.clone(), ..plan(task, &attempt) }, host, plugin };
    let content = look::render(&look).map_err(unfit)?;
    let failed = |error: &Error| ErrorReport::from(error);
    let command = RunCommand {
        region_id: &task.region_id,
        instance_id: &task.instance_id,
        name: &format!("appsnap-look-{}", task.request.policy),
        kind: "RunShellScript",
        content: &content,
        timeout: LIMIT,
        client_token: &ids::client_token(&attempt),
        tags: &[],
    };
    let run = || assistant::run_command(&task.client, &command);
    let started =
        past_limits(task.client.clock(), task.deadline, run).await.map_err(|error| failed(&error))?;
    unit.invoke_id = Some(started.invoke_id.clone());
    let until = soon(task, DELIVERY + LIMIT.as_secs());
    let result = wait(task, &started.invoke_id, until).await.map_err(|error| failed(&error))?;
    let told = result.as_ref().and_then(|result| Looked::read(&result.output));
    let Some(looked) = told.filter(|looked| looked.told.attempt == attempt) else {
        let why = result.as_ref().map_or("no answer in time".into(), undelivered);
        return Err(silent(task, "tell what it is like", &started.invoke_id, &why));
    };
    fill(task, surveyed, unit, looked);
    Ok(())
}

/// What the guest told, into the report.
fn fill(task: &Task, surveyed: &Surveyed, unit: &mut Unit, mut looked: Looked) {
    let id = &task.instance_id;
    let reasons = std::mem::take(&mut looked.told.reasons);
    let plugin = task.engine() == Engine::Plugin;
    let bad_script = reasons.iter().any(|(code, _)| code.starts_with("script."));
    for (code, detail) in reasons.iter().filter(|(code, _)| !plugin || guest::concerns_plugin(code)) {
        add_finding(&mut unit.findings, reasons::finding(code, detail, id, guest::weight(code)));
    }
    let scripts = [&looked.told.pre_script, &looked.told.post_script];
    let facts = GuestFacts {
        instance_id: id.clone(),
        os_name: surveyed.os_name.clone(),
        os: looked.os.take(),
        scripts: if bad_script {
            Vec::new()
        } else {
            scripts.iter().filter_map(|(path, _)| path.clone()).collect()
        },
        quiet: if plugin { Vec::new() } else { looked.quiet },
        calm: if plugin { Vec::new() } else { looked.calm },
        swap: looked.swap,
        selinux: looked.selinux.take(),
        room_kib: looked.room_kib,
    };
    let freezes: Vec<String> = looked
        .told
        .file_systems
        .iter()
        .map(|fs| format!("{} ({}) of {}", fs.mount, fs.kind, fs.disk_id))
        .collect();
    for step in looked.told.steps.iter_mut().filter(|step| step.name == "look") {
        step.detail = match freezes.is_empty() {
            true if looked.cut => "too many file systems to name".into(),
            true => "no file system to freeze".into(),
            false => format!("to freeze: {}", freezes.join(", ")),
        };
    }
    tell::fill(task, unit, &looked.told);
    unit.findings.extend(guest::findings(&facts));
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
