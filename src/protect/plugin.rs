//! The vendor's app-snapshot-plugin as the engine of a unit: for Linux by choice, for Windows always (VSS needs the
//! vendor's provider). The plugin freezes, asks for the group with the instance's own role, thaws and tags; what came of
//! it is confirmed here, and nothing is believed that the cloud does not show.
//!
//! One command is the whole saga: its content is the same for each delivery of an event, so that a start of unknown
//! outcome may be repeated. The group carries the attempt's id in its name, the only mark that the plugin can set.

mod evidence;
pub mod label;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use self::evidence::{End, Seen, look, named};
use self::label::Shown;
use super::command::{DELIVERY, sequence_seconds, watched};
use super::repeat::{self, State};
use super::saga::Next;
use super::settle::{extra, note, write};
use super::stop::{stopped, unfit};
use super::tell::members;
use super::{Outcome, Stop, Task, add_finding, attempts, blank, mark, reasons, status_of};
use crate::acs::{Error, past_limits};
use crate::api::assistant::{self, RunCommand};
use crate::api::ecs::{self, SnapshotGroup};
use crate::guest::plugin::{Order, Os, PluginTold, render};
use crate::policy::ids;
use crate::report::{ErrorReport, Finding, Level, Severity, Status, Unit};

/// Of the command's time, what is left for the download of the plugin and for our guard, in seconds.
const AROUND: u64 = 90;
/// What it means that the record of the command does not show.
const UNKNOWN: &str = "the plugin may be at work in the guest, and nothing is known of it";

/// What an earlier delivery of the same event leaves to do, settled where its function died.
pub async fn earlier(task: &Task) -> Next {
    let mut unit = blank(task);
    let latest = match repeat::find(task).await {
        Ok(Some(latest)) => latest,
        Ok(None) => return Next::Attempt(unit),
        Err(stop) => return Next::Over(stopped(task, unit, stop)),
    };
    let over = |status, settled, unit| Next::Over(Outcome { status, settled, again: false, unit });
    match latest.state {
        State::Settled(status, level) => {
            unit.level = level;
            if level > Level::None
                && let Ok(groups) = named(task, &group_name(task, &attempts::id(task, 1))).await
                && let Some(group) = groups.first()
            {
                unit.snapshot_group_id = Some(group.snapshot_group_id.clone());
                unit.snapshots = members(group);
            }
            over(Status::Skipped, Some(status), unit)
        }
        State::Running => {
            unit.invoke_id = Some(latest.invoke_id);
            over(Status::Pending, None, unit)
        }
        // The plugin has one attempt only.
        State::Died | State::Again => Next::Over(finish(task, unit, &latest.invoke_id).await),
    }
}

/// Protects a unit, by one attempt: whether another may help is not known of the plugin's exit codes.
pub async fn protect(task: &Task, mut unit: Unit) -> Outcome {
    let attempt = attempts::id(task, unit.attempt);
    let from = task.client.clock().now();
    let started = start(task, &mut unit, &attempt).await;
    mark(task, &mut unit, "start", from, if started.is_ok() { "ok" } else { "failed" }, "");
    match started {
        Ok(invoke_id) => finish(task, unit, &invoke_id).await,
        Err(stop) => stopped(task, unit, stop),
    }
}

/// Waits for the command, also of a function that died in between, and settles its attempt.
pub async fn finish(task: &Task, unit: Unit, invoke_id: &str) -> Outcome {
    settle(task, unit, &attempts::id(task, 1), invoke_id).await
}

/// At most 128 characters, and no other group has it.
fn group_name(task: &Task, attempt: &str) -> String {
    let own = format!("appsnap-{}", task.request.policy);
    let base = task.request.snapshot.name.as_deref().unwrap_or(&own);
    format!("{}-{attempt}", base.chars().take(127 - attempt.len()).collect::<String>())
}

/// When it has to have begun.
fn latest(task: &Task) -> Timestamp {
    task.deadline - SignedDuration::from_secs((sequence_seconds(task) + DELIVERY) as i64)
}

/// What is known before the plugin runs.
pub struct Ahead {
    /// The instance's own RAM role.
    role: Option<String>,
    /// Attached disks that are not chosen.
    excluded: Vec<String>,
    /// A blocker forbids to run it.
    pub findings: Vec<Finding>,
}

/// Looks up the instance's role and its attached disks; changes nothing.
pub async fn ahead(task: &Task) -> Result<Ahead, Error> {
    if task.pinned {
        let finding = reasons::finding("pinned.engine", "", &task.instance_id, Severity::Blocker);
        return Ok(Ahead { role: None, excluded: Vec::new(), findings: vec![finding] });
    }
    let limit = latest(task);
    let (client, region_id, instance_id) = (&task.client, &*task.region_id, &*task.instance_id);
    let disks = || ecs::describe_disks_of(client, region_id, instance_id);
    let attached = past_limits(client.clock(), limit, disks).await?;
    let role = || ecs::instance_ram_role(client, region_id, instance_id);
    let role = past_limits(client.clock(), limit, role).await?;
    let chosen = task.disk_ids();
    let excluded: Vec<String> =
        attached.into_iter().map(|disk| disk.disk_id).filter(|id| !chosen.contains(id)).collect();
    let mut findings = Vec::new();
    let mut tell = |code: &str, detail: &str, severity| {
        findings.push(reasons::finding(code, detail, &task.instance_id, severity));
    };
    let windows = task.os_type == "windows";
    let out_of_reach = windows && !writers(task) && task.request.minimum_level == Level::Application;
    let blockers = [
        (role.is_none(), "plugin.role_none", String::new()),
        (excluded.len() > 1, "plugin.disks", excluded.join(" ")),
        (out_of_reach, "writers.off", String::new()),
    ];
    for (_, code, detail) in blockers.iter().filter(|(hit, ..)| *hit) {
        tell(code, detail, Severity::Blocker);
    }
    let left_behind = left_behind(task);
    if !left_behind.is_empty() {
        tell("plugin.options", &left_behind.join(", "), Severity::Note);
    }
    if !excluded.is_empty() && task.disks.iter().any(|disk| !disk.category.starts_with("cloud_essd")) {
        tell("plugin.category", "", Severity::Note);
    }
    Ok(Ahead { role, excluded, findings })
}

/// Sends the command; what forbids it is told in `unit` as findings.
async fn start(task: &Task, unit: &mut Unit, attempt: &str) -> Result<String, Stop> {
    let Ahead { role, excluded, findings } = ahead(task).await?;
    let (client, limit) = (&task.client, latest(task));
    let blockers = findings.iter().filter(|finding| finding.severity == Severity::Blocker);
    unit.reasons.extend(blockers.map(|finding| finding.code.clone()));
    findings.into_iter().for_each(|finding| add_finding(&mut unit.findings, finding));
    let (Some(role), true) = (role, unit.reasons.is_empty()) else { return Err(Stop::Refused) };
    let windows = task.os_type == "windows";
    let order = Order {
        attempt: attempt.into(),
        role,
        name: group_name(task, attempt),
        exclude: excluded.first().cloned(),
        limit: sequence_seconds(task) - AROUND,
        want: task.request.consistency,
        minimum: task.request.minimum_level,
        os: if windows { Os::Windows { writers: writers(task) } } else { linux(task) },
    };
    let content = render(&order).map_err(|error| Stop::Failed(unfit(error)))?;
    let mut tags = repeat::tags(task, attempt);
    // What whoever settles this run has to know, if it is not us.
    let more = [
        ("appsnap:engine", "plugin"),
        ("appsnap:os", &task.os_type),
        ("appsnap:writers", if writers(task) { "true" } else { "false" }),
        ("appsnap:freeze", if task.request.linux.enable_fs_freeze { "true" } else { "false" }),
        ("appsnap:name", &order.name),
        ("appsnap:excluded", excluded.first().map_or("none", String::as_str)),
    ];
    tags.extend(more.map(|(key, value)| (key.to_string(), value.to_string())));
    let command = RunCommand {
        region_id: &task.region_id,
        instance_id: &task.instance_id,
        name: &format!("appsnap-plugin-{}", task.request.policy),
        kind: if windows { "RunPowerShellScript" } else { "RunShellScript" },
        content: &content,
        timeout: Duration::from_secs(sequence_seconds(task)),
        client_token: &ids::client_token(&format!("plugin-{attempt}")),
        tags: &tags,
    };
    let run = || assistant::run_command(&task.client, &command);
    match past_limits(client.clock(), limit, run).await {
        Ok(started) => Ok(started.invoke_id),
        // Another delivery started it, when other disks were attached.
        Err(error) if error.code == "IdempotentParameterMismatch" => Err(Stop::Pending),
        Err(error) if error.unknown_outcome => match repeat::find(task).await? {
            Some(latest) => Ok(latest.invoke_id),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Whether applications are to be asked on Windows.
fn writers(task: &Task) -> bool {
    task.request.enable_writers && task.request.consistency == Level::Application
}

fn linux(task: &Task) -> Os {
    let linux = &task.request.linux;
    Os::Linux {
        freeze: freezes(task),
        window: linux.timeout_in_seconds,
        scripts: linux.script_timeout_in_seconds,
        pre: linux.pre_script_path.clone(),
        post: linux.post_script_path.clone(),
    }
}

fn freezes(task: &Task) -> bool {
    task.os_type == "windows"
        || task.request.linux.enable_fs_freeze && task.request.consistency > Level::Crash
}

/// Options of the group for which the plugin has no parameter that was ever seen.
fn left_behind(task: &Task) -> Vec<&'static str> {
    let snapshot = &task.request.snapshot;
    let options = [
        (snapshot.description.is_some(), "snapshot.description"),
        (snapshot.resource_group_id.is_some(), "snapshot.resourceGroupId"),
        (!snapshot.tags.is_empty(), "snapshot.tags (on the snapshots, not on the group)"),
    ];
    options.into_iter().filter(|(given, _)| *given).map(|(_, name)| name).collect()
}

/// Waits for the command, confirms, labels, and marks the unit as settled.
async fn settle(task: &Task, mut unit: Unit, attempt: &str, invoke_id: &str) -> Outcome {
    unit.invoke_id = Some(invoke_id.to_string());
    let from = task.client.clock().now();
    let result = watched(task, invoke_id, sequence_seconds(task) + DELIVERY, UNKNOWN).await;
    let (result, mut settled) = match result {
        Ok(Some(result)) => (Some(result), true),
        Ok(None) => {
            unit.error = Some(silent(task, invoke_id));
            (None, false)
        }
        Err(Stop::Failed(error)) => {
            unit.error = Some(error);
            (None, false)
        }
        Err(_) => (None, false),
    };
    let end = End::of(result.as_ref(), attempt);
    // A repeat looks again: a group may show late.
    settled &= end.reason != "report.lost";
    mark(task, &mut unit, "plugin", from, if end.well { "ok" } else { "failed" }, end.detail.clone());
    for (code, detail) in end.told.iter().flat_map(PluginTold::reasons) {
        let weight = if end.refused { Severity::Blocker } else { Severity::Downgrade };
        add_finding(&mut unit.findings, reasons::finding(code, detail, &task.instance_id, weight));
        unit.reasons.push(code.into());
    }
    if end.told.as_ref().is_some_and(PluginTold::thawed_by_guard) {
        let finding = reasons::finding("plugin.thawed", "", &task.instance_id, Severity::Downgrade);
        add_finding(&mut unit.findings, finding);
    }
    if end.refused {
        return closed(task, unit, Status::Refused, true).await;
    }
    let mut lowered = std::mem::take(&mut unit.reasons);
    if task.os_type == "windows" && !writers(task) {
        lowered.push("writers.off".into());
    }
    // Whoever settles a run of which only the command is left knows it from the command's tags.
    let kept = |key: &str| {
        let tag = result.iter().flat_map(|result| &result.tags).find(|tag| tag.key == key);
        tag.map(|tag| tag.value.as_str())
    };
    let name = kept("appsnap:name").map_or_else(|| group_name(task, attempt), str::to_owned);
    let mut task = task.clone();
    let from = task.client.clock().now();
    let (seen, confirmed) = match look(&mut task, &name, attempt, kept("appsnap:excluded"), end.well).await {
        Ok(seen) => (seen, "ok"),
        Err(error) => {
            unit.error.get_or_insert(ErrorReport::from(&error));
            settled = false;
            (Seen::default(), "failed")
        }
    };
    let found = seen.group.as_ref().map_or("no group", |group| &group.snapshot_group_id);
    mark(&task, &mut unit, "confirm", from, confirmed, found);
    let shown = Shown {
        ended_well: end.well,
        undisturbed: end.told.as_ref().is_some_and(|told| !told.thawed_by_guard()),
        freeze_asked: freezes(&task),
        application_possible: lowered.is_empty(),
        ..seen.shown
    };
    let (level, codes) = label::decide(&shown, end.reason, &lowered);
    (unit.level, unit.reasons) = (level, codes);
    for code in unit.reasons.clone() {
        if !unit.findings.iter().any(|finding| finding.code == code) {
            let detail = if code == end.reason { &end.detail } else { "" };
            let finding = reasons::finding(&code, detail, &task.instance_id, Severity::Downgrade);
            add_finding(&mut unit.findings, finding);
        }
    }
    if shown.tag.is_some_and(|told| told > level) {
        let detail =
            format!("they say {}, shown is {}", shown.tag.unwrap_or_default().as_str(), level.as_str());
        add_finding(
            &mut unit.findings,
            reasons::finding("plugin.tag", &detail, &task.instance_id, Severity::Note),
        );
    }
    if level >= unit.wanted {
        unit.reasons.clear();
    }
    unit.snapshots = seen.group.as_ref().map(members).unwrap_or_default();
    unit.snapshot_group_id = seen.group.as_ref().map(|group| group.snapshot_group_id.clone());
    if let Some(group) = &seen.group {
        let from = task.client.clock().now();
        match tag(&task, attempt, group, &unit).await {
            Ok(()) => mark(&task, &mut unit, "label", from, "ok", level.as_str()),
            Err(error) => {
                mark(&task, &mut unit, "label", from, "failed", error.to_string());
                unit.error.get_or_insert(ErrorReport::from(&error));
                unit.reasons.push("tag.failed".into());
                let (detail, on) = (error.to_string(), &group.snapshot_group_id);
                let finding = reasons::finding("tag.failed", &detail, on, Severity::Downgrade);
                add_finding(&mut unit.findings, finding);
                unit.level = level.min(Level::Crash);
                settled = false;
            }
        }
    }
    // Other groups of the same name: nobody knows which of them the plugin made.
    settled &= extra(&task, &mut unit, &seen.others).await;
    let status = match &result {
        // Nobody knows how the guest stands.
        None => Status::Failed,
        Some(_) => status_of(unit.level, unit.wanted, task.request.minimum_level),
    };
    closed(&task, unit, status, settled).await
}

/// The user's tags, which the plugin cannot set; then the label, last.
async fn tag(task: &Task, attempt: &str, group: &SnapshotGroup, unit: &Unit) -> Result<(), Error> {
    let ids: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let mut tags: Vec<(String, String)> = task.request.snapshot.tags.clone().into_iter().collect();
    tags.push(("appsnap:attempt".into(), attempt.into()));
    let own = || ecs::tag_resources(&task.client, &task.region_id, "snapshot", &ids, &tags);
    past_limits(task.client.clock(), task.deadline, own).await?;
    write(task, group, unit, None).await
}

async fn closed(task: &Task, mut unit: Unit, status: Status, settled: bool) -> Outcome {
    let invoke_id = unit.invoke_id.clone().unwrap_or_default();
    if settled && let Err(error) = note(task, &invoke_id, &repeat::outcome_tags(status, unit.level)).await {
        // A repeat will settle it once more, with the same result.
        let finding: Finding = reasons::finding("tag.failed", &error.to_string(), &invoke_id, Severity::Note);
        add_finding(&mut unit.findings, finding);
    }
    Outcome { status, settled: None, again: false, unit }
}

fn silent(task: &Task, invoke_id: &str) -> ErrorReport {
    ErrorReport {
        code: "plugin.silent".into(),
        message: format!(
            "the plugin's command {invoke_id} did not end in time: the guest may be frozen until its guard thaws it"
        ),
        action: Some("RunCommand".into()),
        resource: Some(task.instance_id.clone()),
        request_id: None,
        cure: Some("look at the guest; then send the event again: it settles the run".into()),
    }
}

#[cfg(test)]
mod tests;
