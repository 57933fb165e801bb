//! Confirms with the cloud what the guest told, decides the level, writes it on the snapshots, then marks the attempt:
//! as settled, or as one that another may follow. A tag that could not be written lowers the run, and leaves the
//! attempt unsettled for a repeat.

use super::label::{self, decide, vendor_tag};
use super::nonces::Witness;
use super::tell::{fill, mark_tags, members, place, why};
use super::{Outcome, Task, add_finding, attempts, evidence, groups, mark, reasons, repeat, status_of};
use crate::acs::{Error, past_limits};
use crate::api::ecs::{self, SnapshotGroup};
use crate::guest::told::Told;
use crate::policy::ThawOn;
use crate::report::{DECLINED, ErrorReport, Level, Severity, Status, Unit};

/// From what the guest told (or not) to the outcome of the unit's attempt.
pub async fn settle(
    task: &Task,
    mut unit: Unit,
    invoke_id: &str,
    told: Option<&Told>,
    witness: Witness<'_>,
) -> Outcome {
    let attempt = attempts::id(task, unit.attempt);
    unit.invoke_id = Some(invoke_id.to_string()).filter(|id| !id.is_empty());
    let unused = first_use(task, &mut unit, told, &witness).await;
    let mut settled = told.is_some();
    let group = confirmed(task, &mut unit, &attempt, told).await;
    settled &= group.is_ok();
    let group = group.unwrap_or_default();
    if let Some(told) = told {
        fill(task, &mut unit, told);
    }
    let accepted = task.request.linux.thaw_on == ThawOn::Accepted;
    let shown = evidence::gather(told, group.as_ref(), &task.disk_ids(), !accepted, unused.is_ok());
    let (level, mut missing) = decide(&shown);
    missing.retain(|missing| missing.concerns(unit.wanted));
    unit.level = level;
    unit.snapshot_group_id =
        group.as_ref().map(|g| g.snapshot_group_id.clone()).or_else(|| told.and_then(|t| t.group.clone()));
    unit.snapshots = group.as_ref().map(members).unwrap_or_default();
    unit.reasons = why(told, &missing);
    let unseen = group.is_none() && told.is_some_and(|told| told.group.is_some());
    if unseen {
        // Accepted, and not seen yet: a repeat looks again and writes the tags.
        settled = false;
        unit.reasons = why(told, &[label::Missing::Visible]);
    } else if level >= unit.wanted {
        unit.reasons.clear();
    }
    explain(task, &mut unit, unused.as_ref().err());
    if unit.declined() {
        decline(task, &mut unit);
    }
    if accepted && level >= Level::Filesystem {
        let finding = reasons::finding("window.accepted", "", &task.instance_id, Severity::Note);
        add_finding(&mut unit.findings, finding);
    }
    let again = settled && group.is_none() && told.is_some_and(attempts::hopeful);
    let again = again && unit.attempt < attempts::ATTEMPTS;
    if again {
        let how = told.map(attempts::in_words).unwrap_or_default();
        add_finding(&mut unit.findings, attempts::note(task, unit.attempt, &how));
    }
    if let Some(group) = &group {
        settled &= labelled(task, &mut unit, group, told).await;
        settled &= others(task, &mut unit, group).await;
    } else if told.is_none_or(attempts::in_doubt) {
        unseen_yet(task, &mut unit, "");
    }
    let status = match told {
        // Stuck: nobody knows how the guest stands, whatever the copy is good for.
        None => Status::Failed,
        Some(_) if unit.declined() => Status::Skipped,
        // An earlier attempt has touched it.
        Some(told) if unit.level == Level::None && untouched(told) && unit.attempt == 1 => Status::Refused,
        // What nobody has seen is no success, however little was wanted.
        Some(_) if unseen => {
            status_of(unit.level, unit.wanted, task.request.minimum_level).max(Status::Degraded)
        }
        Some(_) => status_of(unit.level, unit.wanted, task.request.minimum_level),
    };
    let tags = match (settled, again) {
        (true, true) => repeat::again_tags(),
        (true, false) => repeat::outcome_tags(status, unit.level),
        // Whoever settles it later cannot ask any more.
        (false, _) if unused.is_ok() => repeat::first_use_tags(),
        (false, _) => Vec::new(),
    };
    if !invoke_id.is_empty()
        && let Err(error) = note(task, invoke_id, &tags).await
    {
        // A repeat will settle it once more.
        let detail = error.to_string();
        add_finding(&mut unit.findings, reasons::finding("tag.failed", &detail, invoke_id, Severity::Note));
    }
    Outcome { status, settled: None, again, unit }
}

/// Whether the guest refused before anything was touched.
pub fn untouched(told: &Told) -> bool {
    matches!(told.phase.as_str(), "refused" | "busy")
}

/// The reason of a unit that declined: it lowers nothing, and stands beside what the others came to.
fn decline(task: &Task, unit: &mut Unit) {
    unit.reasons = vec![DECLINED.into()];
    match unit.findings.iter_mut().find(|finding| finding.code == DECLINED) {
        Some(told) => told.severity = Severity::Note,
        None => unit.findings.push(reasons::finding(DECLINED, "", &task.instance_id, Severity::Note)),
    }
}

/// Whether nobody fired our signed creates before the guest did; else why that is not shown.
async fn first_use(
    task: &Task,
    unit: &mut Unit,
    told: Option<&Told>,
    witness: &Witness<'_>,
) -> Result<(), String> {
    let Some(told) = told.filter(|told| told.group.is_some()) else {
        return Err("no create was answered".into());
    };
    if !evidence::first_try(told) {
        return Err(attempts::in_words(told));
    }
    let from = task.client.clock().now();
    let shown = witness.unused(task).await;
    let (outcome, detail) = match &shown {
        Ok(()) => ("ok", "nobody fired a signed create"),
        Err(why) => ("failed", why.as_str()),
    };
    mark(task, unit, "first-use", from, outcome, detail);
    shown
}

/// The group, looked for; an error is in the unit.
async fn confirmed(
    task: &Task,
    unit: &mut Unit,
    attempt: &str,
    told: Option<&Told>,
) -> Result<Option<SnapshotGroup>, ()> {
    let from = task.client.clock().now();
    match groups::confirm(task, attempt, told).await {
        Ok(group) => {
            let born = |g: &SnapshotGroup| format!("{}, created {}", g.snapshot_group_id, g.creation_time);
            mark(task, unit, "confirm", from, "ok", group.as_ref().map_or("no group".into(), born));
            Ok(group)
        }
        Err(error) => {
            mark(task, unit, "confirm", from, "failed", error.to_string());
            unit.error.get_or_insert(ErrorReport::from(&error));
            Err(())
        }
    }
}

/// A finding for each reason that the guest did not tell itself: every reason comes with its cure.
fn explain(task: &Task, unit: &mut Unit, unproven: Option<&String>) {
    for code in unit.reasons.clone() {
        if unit.findings.iter().any(|finding| finding.code == code) {
            continue;
        }
        let detail = unproven.filter(|_| code == label::Missing::FirstUse.code()).map_or("", |why| why);
        let finding = reasons::finding(&code, detail, &task.instance_id, Severity::Downgrade);
        add_finding(&mut unit.findings, finding);
    }
}

/// Writes the level; whether that was done.
pub(super) async fn labelled(
    task: &Task,
    unit: &mut Unit,
    group: &SnapshotGroup,
    told: Option<&Told>,
) -> bool {
    let from = task.client.clock().now();
    let Err(error) = write(task, group, unit, told).await else {
        mark(task, unit, "label", from, "ok", unit.level.as_str());
        return true;
    };
    mark(task, unit, "label", from, "failed", error.to_string());
    unit.error.get_or_insert(ErrorReport::from(&error));
    unit.reasons.push("tag.failed".into());
    let resource = &group.snapshot_group_id;
    let finding = reasons::finding("tag.failed", &error.to_string(), resource, Severity::Downgrade);
    add_finding(&mut unit.findings, finding);
    unit.level = unit.level.min(Level::Crash);
    false
}

/// Where each disk lived first; the level and the vendor's tag last, on all members in one call.
pub(super) async fn write(
    task: &Task,
    group: &SnapshotGroup,
    unit: &Unit,
    told: Option<&Told>,
) -> Result<(), Error> {
    for member in &group.snapshots {
        let place = told.and_then(|told| place(&told.file_systems, &member.source_disk_id));
        if let Some(place) = place {
            let id = std::slice::from_ref(&member.snapshot_id);
            let tags = [("appsnap:mount".to_string(), place)];
            let place = || ecs::tag_resources(&task.client, &task.region_id, "snapshot", id, &tags);
            past_limits(task.client.clock(), task.deadline, place).await?;
        }
    }
    let mut tags = level_tags(task, unit.level, &unit.reasons.join(" "));
    tags.extend(mark_tags(unit, task.request.snapshot.tags.len()));
    tags.extend(vendor_tag(unit.level).map(|(key, value)| (key.to_string(), value.to_string())));
    groups::tag(task, group, unit.level, &tags).await
}

fn level_tags(task: &Task, level: Level, reason: &str) -> Vec<(String, String)> {
    let reason: String = reason.chars().take(128).collect();
    [
        ("appsnap:policy", task.request.policy.as_str()),
        ("appsnap:run", &task.run),
        ("appsnap:reason", &reason),
        ("appsnap:level", level.as_str()),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into()
}

/// A note that a repeat may find a group; until then one knows by which tag.
fn unseen_yet(task: &Task, unit: &mut Unit, why: &str) {
    let detail = format!("appsnap:run={} {why}", task.run);
    let finding = reasons::finding("group.unseen", detail.trim(), &task.instance_id, Severity::Note);
    add_finding(&mut unit.findings, finding);
}

/// Looks for other groups of this unit; whether that was done and all of them are labelled.
pub(super) async fn others(task: &Task, unit: &mut Unit, own: &SnapshotGroup) -> bool {
    match groups::of_unit(task).await {
        Ok(mut found) => {
            found.retain(|group| group.snapshot_group_id != own.snapshot_group_id);
            extra(task, unit, &found).await
        }
        Err(error) => {
            mark(task, unit, "extra", task.client.clock().now(), "failed", error.to_string());
            unseen_yet(task, unit, &error.to_string());
            false
        }
    }
}

/// Other groups with the tags of this unit: of an attempt whose create seemed to fail, or made by somebody else. They
/// are told, and labelled as crash; whether all of them were.
pub(super) async fn extra(task: &Task, unit: &mut Unit, groups: &[SnapshotGroup]) -> bool {
    const CODE: &str = "group.extra";
    let mut all = true;
    for group in groups {
        let id = &group.snapshot_group_id;
        let level = if group.failed() { Level::None } else { Level::Crash };
        let written = groups::tag(task, group, level, &level_tags(task, level, CODE)).await;
        add_finding(&mut unit.findings, reasons::finding(CODE, id, id, Severity::Note));
        if let Err(error) = written {
            let finding = reasons::finding("tag.failed", &error.to_string(), id, Severity::Note);
            add_finding(&mut unit.findings, finding);
            all = false;
        }
    }
    all
}

/// What a repeat tells of an attempt that is settled with this status. Groups that showed only later are told and
/// labelled; `Err`: one of them is the result of a unit that had none, and settles it once more.
pub async fn repeated(
    task: &Task,
    mut unit: Unit,
    mut status: Status,
    level: Level,
) -> Result<Outcome, Unit> {
    unit.level = level;
    let from = task.client.clock().now();
    let found = groups::of_unit(task).await;
    if let Err(error) = &found {
        mark(task, &mut unit, "confirm", from, "failed", error.to_string());
    }
    let found = found.unwrap_or_default();
    if level == Level::None && found.iter().any(|group| !group.failed()) {
        return Err(unit);
    }
    if status == Status::Skipped {
        decline(task, &mut unit);
    }
    let attempt = attempts::id(task, unit.attempt);
    let (labelled, mut late): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|group| groups::labelled(group).is_some());
    let known = match labelled.is_empty() {
        true => late.iter().filter(|group| groups::is_of(group, &attempt)).cloned().collect(),
        false => labelled,
    };
    // Without one that is known nothing is labelled: it might be the result, and better than that.
    if let Some(own) = groups::chosen(known, &attempt) {
        // Two that settled it at once may have written the one here and the other there: the lower counts.
        if let Some(written) = groups::labelled(&own).filter(|written| *written < level) {
            unit.level = written;
            status = status.max(status_of(written, unit.wanted, task.request.minimum_level));
        }
        late.retain(|other| other.snapshot_group_id != own.snapshot_group_id);
        extra(task, &mut unit, &late).await;
        unit.snapshots = members(&own);
        unit.snapshot_group_id = Some(own.snapshot_group_id);
    }
    Ok(Outcome { status: Status::Skipped, settled: Some(status), again: false, unit })
}

/// Writes on the invocation how it stands: that is what a repeat reads.
pub(super) async fn note(task: &Task, invoke_id: &str, tags: &[(String, String)]) -> Result<(), Error> {
    let ids = [invoke_id.to_string()];
    let write = || ecs::tag_resources(&task.client, &task.region_id, "invocation", &ids, tags);
    past_limits(task.client.clock(), task.deadline, write).await
}
