//! Confirms with the cloud what the guest told, decides the level, writes it on the snapshots, then marks the unit as
//! settled. A tag that could not be written lowers the run, and leaves the unit unsettled for a repeat.

use std::time::Duration;

use jiff::SignedDuration;

use super::label::{self, decide, vendor_tag};
use super::{Outcome, Task, add_finding, evidence, mark, reasons, status_of};
use crate::acs::{Error, Pace, wait_until};
use crate::api::ecs::{self, GroupFilter, SnapshotGroup};
use crate::guest::told::{FileSystem, Told};
use crate::policy::ThawOn;
use crate::report::{ErrorReport, Level, Scripts, Severity, SnapshotReport, Status, Unit};

/// How long a group that must be there is looked for.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);

/// How many marks of the scripts become tags.
const MARKS: usize = 4;

/// From what the guest told (or not) to the unit's outcome.
pub async fn settle(
    task: &Task,
    mut unit: Unit,
    attempt: &str,
    invoke_id: &str,
    told: Option<&Told>,
) -> Outcome {
    let from = task.client.clock().now();
    unit.invoke_id = Some(invoke_id.to_string()).filter(|id| !id.is_empty());
    let mut settled = told.is_some();
    let group = match confirm(task, attempt, told).await {
        Ok(group) => {
            mark(
                task,
                &mut unit,
                "confirm",
                from,
                "ok",
                group.as_ref().map_or("no group", |g| g.snapshot_group_id.as_str()).to_string(),
            );
            group
        }
        Err(error) => {
            mark(task, &mut unit, "confirm", from, "failed", error.to_string());
            unit.error.get_or_insert(ErrorReport::from(&error));
            settled = false;
            None
        }
    };
    if let Some(told) = told {
        fill(task, &mut unit, told);
    }
    let accepted = task.request.linux.thaw_on == ThawOn::Accepted;
    let shown = evidence::gather(told, group.as_ref(), &task.disk_ids(), !accepted);
    let (level, missing) = decide(&shown);
    unit.level = level;
    unit.snapshot_group_id =
        group.as_ref().map(|g| g.snapshot_group_id.clone()).or_else(|| told.and_then(|t| t.group.clone()));
    unit.snapshots = group.as_ref().map(members).unwrap_or_default();
    unit.reasons = why(told, &missing);
    if group.is_none() && told.is_some_and(|told| told.group.is_some()) {
        // Accepted, and not seen yet: a repeat looks again and writes the tags.
        settled = false;
        unit.reasons = why(told, &[label::Missing::Visible]);
    }
    if level >= unit.wanted {
        unit.reasons.clear();
    }
    if accepted && level >= Level::Filesystem {
        add_finding(&mut unit.findings, reasons::accepted(&task.instance_id));
    }
    if let Some(group) = &group {
        let from = task.client.clock().now();
        match write(task, group, &unit, told).await {
            Ok(()) => mark(task, &mut unit, "label", from, "ok", level.as_str()),
            Err(error) => {
                mark(task, &mut unit, "label", from, "failed", error.to_string());
                unit.error.get_or_insert(ErrorReport::from(&error));
                unit.reasons.push("tag.failed".into());
                unit.level = level.min(Level::Crash);
                settled = false;
            }
        }
    }
    let status = match told {
        // Stuck: nobody knows how the guest stands, whatever the copy is good for.
        None => Status::Failed,
        Some(told) if unit.level == Level::None && untouched(told) => Status::Refused,
        _ => status_of(unit.level, unit.wanted, task.request.minimum_level),
    };
    if settled
        && !invoke_id.is_empty()
        && let Err(error) = close(task, invoke_id, status, unit.level).await
    {
        // A repeat will settle it once more, with the same result.
        add_finding(
            &mut unit.findings,
            reasons::finding("tag.failed", &error.to_string(), invoke_id, Severity::Note),
        );
    }
    Outcome { status, settled: None, unit }
}

/// Whether the guest refused before anything was touched, or its prescript declined.
pub fn untouched(told: &Told) -> bool {
    matches!(told.phase.as_str(), "refused" | "busy")
        || told.reasons.iter().any(|(code, _)| code == "script.declined")
}

/// The group of the attempt, by the attempt's tag, and by its id where the guest knows it. One that was accepted is
/// waited for until all its disks show.
pub async fn confirm(
    task: &Task,
    attempt: &str,
    told: Option<&Told>,
) -> Result<Option<SnapshotGroup>, Error> {
    let id: Vec<String> = told.and_then(|told| told.group.clone()).into_iter().collect();
    let tags = [("appsnap:attempt".to_string(), attempt.to_string())];
    // Always by the tag, which only a request signed for this attempt can have set: a guest may tell any id.
    let filter = GroupFilter { ids: &id, tags: &tags, ..GroupFilter::default() };
    // A sequence that was killed could not tell any more what it had sent.
    let asked = told.is_none_or(|told| told.created.is_some() || told.phase == "lost");
    let pace = Pace { first: Duration::from_millis(200), factor: 1.5, longest: Duration::from_secs(2) };
    // A group that may exist is waited for; one that was never asked for is looked up once.
    let patience = match (id.is_empty(), asked) {
        (false, _) => PATIENCE,
        (true, true) => SignedDuration::from_secs(3),
        (true, false) => SignedDuration::ZERO,
    };
    let until = (task.client.clock().now() + patience).min(task.deadline);
    let look = || async {
        let groups = ecs::describe_snapshot_groups(&task.client, &task.region_id, &filter).await?;
        let group = groups.into_iter().next();
        let whole = group.as_ref().is_some_and(|group| group.snapshots.len() >= task.disks.len());
        // At the end of the patience what there is has to do.
        Ok::<_, Error>((whole || task.client.clock().now() >= until).then_some(group))
    };
    Ok(wait_until(task.client.clock(), pace, until, look).await?.flatten())
}

/// The reasons of the guest, and the label's own where the guest gave none that explains them; each once. What kept a
/// group or its freeze from being good comes before what concerns scripts only: it weighs more.
pub fn why(told: Option<&Told>, missing: &[label::Missing]) -> Vec<String> {
    use label::Missing;
    let of_script = |code: &str| code.starts_with("script.");
    let mut codes: Vec<&str> = told.iter().flat_map(|told| &told.reasons).map(|(code, _)| &**code).collect();
    let (scripts, others): (Vec<&str>, Vec<&str>) = codes.iter().partition(|code| of_script(code));
    let unexplained = |missing: &&Missing| match missing {
        Missing::Group => codes.is_empty(),
        Missing::Prescript | Missing::Postscript => scripts.is_empty(),
        _ => others.is_empty(),
    };
    // Without the guest's report nothing else is shown: that is one reason, not ten.
    let missing = if missing.contains(&Missing::Report) { &[Missing::Report] } else { missing };
    let own: Vec<&str> = missing.iter().filter(unexplained).map(|missing| missing.code()).collect();
    codes.extend(own);
    codes.sort_by_key(|code| of_script(code));
    let mut seen = std::collections::HashSet::new();
    codes.retain(|code| seen.insert(*code));
    codes.into_iter().map(str::to_string).collect()
}

/// The members, as the report tells them.
pub fn members(group: &SnapshotGroup) -> Vec<SnapshotReport> {
    let status = |progress: &str| if progress == "100%" { "accomplished" } else { "progressing" };
    let member = |s: &ecs::GroupSnapshot| SnapshotReport {
        snapshot_id: s.snapshot_id.clone(),
        disk_id: s.source_disk_id.clone(),
        status: if group.status == "failed" { "failed" } else { status(&s.progress) }.into(),
    };
    group.snapshots.iter().map(member).collect()
}

/// What the guest told, into the report.
pub fn fill(task: &Task, unit: &mut Unit, told: &Told) {
    let ms = |micros: i64| micros as f64 / 1000.0;
    unit.frozen_ms = told.freeze.filter(|freeze| freeze.frozen > 0).map(|freeze| ms(freeze.micros));
    unit.quiesced_ms = told.quiesced_micros.filter(|_| told.pre_exit.is_some()).map(ms);
    unit.api_ms = told.api_micros.map(ms);
    // Inside the window the shell reads the kernel's uptime, in steps of 10 ms; around it, `date` where it is fine.
    let coarse = unit.api_ms.is_some() || !told.fine_clock;
    unit.precision_ms = unit.api_ms.or(unit.quiesced_ms).map(|_| if coarse { 10.0 } else { 1.0 });
    unit.marks = told.marks.clone();
    unit.scripts = Scripts { pre: told.pre_script.1.clone(), post: told.post_script.1.clone() };
    unit.sequence = told.sequence.clone();
    unit.request_id = told.created.as_ref().map(|(_, id)| id.clone()).filter(|id| !id.is_empty());
    for (code, detail) in &told.reasons {
        add_finding(
            &mut unit.findings,
            reasons::finding(code, detail, &task.instance_id, Severity::Downgrade),
        );
    }
    for (code, detail) in &told.notes {
        add_finding(&mut unit.findings, reasons::finding(code, detail, &task.instance_id, Severity::Note));
    }
    for step in &told.steps {
        // By the guest's clock, set beside ours: good to whatever the two differ.
        let since = |micros: i64| micros / 1000 - task.started.as_millisecond();
        unit.timeline.push(crate::report::TimelineStep {
            step: format!("guest.{}", step.name),
            start_ms: since(step.start),
            end_ms: since(step.end),
            outcome: step.outcome.clone(),
            detail: step.detail.clone(),
        });
    }
    unit.timeline.sort_by_key(|step| (step.start_ms, -step.end_ms));
}

/// Where a disk lived, for tags: mount point, type, UUID; at most 128 characters.
pub fn place(file_systems: &[FileSystem], disk_id: &str) -> Option<String> {
    let on: Vec<String> = file_systems
        .iter()
        .filter(|fs| fs.disk_id == disk_id)
        .map(|fs| format!("{} {} {}", fs.mount, fs.kind, fs.uuid.as_deref().unwrap_or("-")))
        .collect();
    Some(on.join(", ").chars().take(128).collect()).filter(|text: &String| !text.is_empty())
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
            let tags = [("appsnap:mount".to_string(), place)];
            ecs::tag_resources(
                &task.client,
                &task.region_id,
                "snapshot",
                std::slice::from_ref(&member.snapshot_id),
                &tags,
            )
            .await?;
        }
    }
    let ids: Vec<String> = group.snapshots.iter().map(|s| s.snapshot_id.clone()).collect();
    let reason: String = unit.reasons.join(" ").chars().take(128).collect();
    let mut tags: Vec<(String, String)> = [
        ("appsnap:policy", task.request.policy.as_str()),
        ("appsnap:run", &task.run),
        ("appsnap:reason", &reason),
        ("appsnap:level", unit.level.as_str()),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into();
    tags.extend(mark_tags(unit, task.request.snapshot.tags.len()));
    tags.extend(vendor_tag(unit.level).map(|(key, value)| (key.to_string(), value.to_string())));
    ecs::tag_resources(&task.client, &task.region_id, "snapshot", &ids, &tags).await
}

/// Marks of the scripts as tags. What might be too many (20 are allowed, and the group's own may have reached the
/// snapshot) or refused by the API stays in the report only: a mark must not cost the label.
fn mark_tags(unit: &Unit, of_user: usize) -> Vec<(String, String)> {
    let fit = |key: &str, value: &str| {
        let text = format!("{key} {value}").to_lowercase();
        key.chars().count() <= 100
            && value.chars().count() <= 128
            && !["http://", "https://"].iter().any(|link| text.contains(link))
            && !["acs:", "aliyun"].iter().any(|own| value.to_lowercase().starts_with(own))
    };
    let marks = unit.marks.iter().filter(|(key, value)| fit(key, value));
    marks
        .take(MARKS.min(13_usize.saturating_sub(of_user)))
        .map(|(key, value)| (format!("appsnap:mark:{key}"), value.clone()))
        .collect()
}

/// The unit is settled from here on: a repeat answers with this.
pub(super) async fn close(task: &Task, invoke_id: &str, status: Status, level: Level) -> Result<(), Error> {
    let tags = [
        ("appsnap:outcome".to_string(), status.as_str().to_string()),
        ("appsnap:level".to_string(), level.as_str().to_string()),
    ];
    ecs::tag_resources(&task.client, &task.region_id, "invocation", &[invoke_id.to_string()], &tags).await
}

#[cfg(test)]
mod tests {
    use super::label::Missing;
    use super::*;

    fn told(codes: &[&str]) -> Told {
        let reasons = codes.iter().map(|code| (code.to_string(), String::new())).collect();
        Told { reasons, ..Told::default() }
    }

    #[test]
    fn reasons_explain_the_level_and_what_weighs_most_comes_first() {
        use Missing::*;
        type Case = (&'static [&'static str], &'static [Missing], &'static [&'static str]);
        let table: [Case; 7] = [
            (&["script.mode"], &[Prescript, Postscript], &["script.mode"]),
            // The guest knows nothing of a disk that is missing in the group.
            (&["script.mode"], &[Disks, Prescript, Postscript], &["group.disks", "script.mode"]),
            (&["script.failed", "create.failed"], &[Group], &["create.failed", "script.failed"]),
            (&["script.failed"], &[Group], &["script.failed"]),
            (&[], &[Group], &["group.none"]),
            (&["freeze.busy", "freeze.busy"], &[Accepted, Frozen, Thawed], &["freeze.busy"]),
            (&[], &[Report, Absent, Born, Watchdog, Prescript], &["report.lost"]),
        ];
        for (codes, missing, expected) in table {
            assert_eq!(why(Some(&told(codes)), missing), expected, "{codes:?} {missing:?}");
        }
    }

    #[test]
    fn a_mark_becomes_a_tag_only_where_the_api_takes_it() {
        let mark = |key: &str, value: &str| (key.to_string(), value.to_string());
        let unit = Unit {
            marks: [
                mark("gtid", "a:1-9"),
                mark("see", "https://x"),
                mark("who", "acs:y"),
                mark("long", &"x".repeat(129)),
            ]
            .into(),
            ..Unit::default()
        };
        assert_eq!(mark_tags(&unit, 0), [mark("appsnap:mark:gtid", "a:1-9")]);
        let unit = Unit { marks: (0..30).map(|n| mark(&n.to_string(), "v")).collect(), ..Unit::default() };
        assert_eq!((mark_tags(&unit, 0).len(), mark_tags(&unit, 12).len()), (MARKS, 1));
    }
}
