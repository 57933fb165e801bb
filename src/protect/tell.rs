//! What the report and the tags say of a unit: the guest's words and the cloud's, put into ours. Pure.

use super::label::Missing;
use super::{Task, add_finding, exits, reasons};
use crate::acs::is_denied;
use crate::api::ecs::{self, SnapshotGroup};
use crate::eligibility::refused;
use crate::guest::told::{FileSystem, Told};
use crate::ram;
use crate::report::{Scripts, Severity, SnapshotReport, TimelineStep, Unit};

/// How many marks of the scripts become tags.
const MARKS: usize = 6;
/// Which come first, where there are more: what a verification and a restore read, and then positions (LSN, GTID, …).
const FIRST: [&str; 4] = ["engine", "version", "datadir", "logdir"];

/// The reasons of the guest, and the label's own where the guest gave none that explains them; each once. What kept a
/// group or its freeze from being good comes before what concerns scripts only: it weighs more.
pub fn why(told: Option<&Told>, missing: &[Missing]) -> Vec<String> {
    let of_script = |code: &str| code.starts_with("script.");
    let mut codes: Vec<&str> = told.iter().flat_map(|told| &told.reasons).map(|(code, _)| &**code).collect();
    let (scripts, others): (Vec<&str>, Vec<&str>) = codes.iter().partition(|code| of_script(code));
    let unexplained = |missing: &&Missing| match missing {
        Missing::Group => codes.is_empty(),
        // What the cloud says of its group no reason of the guest explains.
        Missing::Failed => true,
        Missing::Prescript | Missing::Postscript => scripts.is_empty(),
        // Whose group it is no reason of the guest explains.
        Missing::FirstUse => told.is_some_and(|told| told.group.is_some()) || others.is_empty(),
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
        status: if group.failed() { "failed" } else { status(&s.progress) }.into(),
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
        let whole = said(told, code, detail);
        let mut finding = reasons::finding(code, &whole, &task.instance_id, Severity::Downgrade);
        if let Some(addition) = lacking(task, code, detail) {
            finding.cure = addition;
        }
        if let Some((meaning, cure)) = exits::of_exit(code, detail) {
            // Last: a chat cuts long lines, and the script's own words say more.
            finding.message = format!("{}; {meaning}", finding.message);
            finding.cure = cure.into();
        }
        add_finding(&mut unit.findings, finding);
    }
    // Why the cloud refused it, with the cure of the rule that it names.
    if told.group.is_none()
        && let Some((code, rule)) = told.tries.iter().find_map(|one| Some((&one.code, refused(&one.code)?)))
    {
        add_finding(&mut unit.findings, rule.finding(&task.instance_id, code));
    }
    for (code, detail) in &told.notes {
        add_finding(&mut unit.findings, reasons::finding(code, detail, &task.instance_id, Severity::Note));
    }
    for step in &told.steps {
        // By the guest's clock, set beside ours: good to whatever the two differ.
        let since = |micros: i64| micros / 1000 - task.started.as_millisecond();
        unit.timeline.push(TimelineStep {
            step: format!("guest.{}", step.name),
            start_ms: since(step.start),
            end_ms: since(step.end),
            outcome: step.outcome.clone(),
            detail: step.detail.clone(),
        });
    }
    unit.timeline.sort_by_key(|step| (step.start_ms, -step.end_ms));
}

/// The detail of a script's reason, with the last line that the script printed.
fn said(told: &Told, code: &str, detail: &str) -> String {
    let line = match code {
        "script.failed" | "script.declined" => &told.pre_said,
        "script.post" => &told.post_said,
        "script.timeout" if detail.starts_with("post") => &told.post_said,
        "script.timeout" => &told.pre_said,
        _ => &None,
    };
    line.as_ref().map_or_else(|| detail.to_string(), |line| format!("{detail}, its last words: {line}"))
}

/// What the role lacks where the cloud denied the guest's own call, which its session's policy allows.
fn lacking(task: &Task, code: &str, detail: &str) -> Option<String> {
    let action = match code {
        "create.failed" => "ecs:CreateSnapshotGroup",
        "connect.failed" => "ecs:DescribeSnapshotGroups",
        _ => return None,
    };
    detail.split_whitespace().find(|word| is_denied(word))?;
    let on = format!("{} {}", task.instance_id, task.disk_ids().join(" "));
    let addition = ram::addition(action, &task.region_id, &on);
    Some(format!(
        "allow {action} for {}: {addition}",
        task.role_arn.as_deref().unwrap_or("the function's role")
    ))
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

/// Marks of the scripts as tags. What might be too many (20 are allowed, and the group's own may have reached the
/// snapshot) or refused by the API stays in the report only: a mark must not cost the label.
pub fn mark_tags(unit: &Unit, of_user: usize) -> Vec<(String, String)> {
    let fit = |key: &str, value: &str| {
        let text = format!("{key} {value}").to_lowercase();
        key.chars().count() <= 100
            && value.chars().count() <= 128
            && !["http://", "https://"].iter().any(|link| text.contains(link))
            && !["acs:", "aliyun"].iter().any(|own| value.to_lowercase().starts_with(own))
    };
    let mut marks: Vec<_> = unit.marks.iter().filter(|(key, value)| fit(key, value)).collect();
    marks.sort_by_key(|(key, _)| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
    marks
        .into_iter()
        .take(MARKS.min(13_usize.saturating_sub(of_user)))
        .map(|(key, value)| (format!("appsnap:mark:{key}"), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(codes: &[&str]) -> Told {
        let reasons = codes.iter().map(|code| (code.to_string(), String::new())).collect();
        Told { reasons, ..Told::default() }
    }

    #[test]
    fn reasons_explain_the_level_and_what_weighs_most_comes_first() {
        use Missing::*;
        type Case = (&'static [&'static str], &'static [Missing], &'static [&'static str]);
        let table: [Case; 8] = [
            (&["script.mode"], &[Prescript, Postscript], &["script.mode"]),
            // The guest knows nothing of a disk that is missing in the group.
            (&["script.mode"], &[Disks, Prescript, Postscript], &["group.disks", "script.mode"]),
            (&["script.failed", "create.failed"], &[Group], &["create.failed", "script.failed"]),
            (&["script.failed"], &[Group], &["script.failed"]),
            (&[], &[Group], &["group.none"]),
            (&["freeze.busy", "script.mode"], &[Failed], &["freeze.busy", "group.failed", "script.mode"]),
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
        let keys = ["aof", "binlog", "datadir", "engine", "gtid", "logdir", "note", "version"];
        let unit = Unit { marks: keys.map(|key| mark(key, "v")).into(), ..Unit::default() };
        let kept: Vec<String> = mark_tags(&unit, 0).into_iter().map(|(key, _)| key).collect();
        let first = ["engine", "version", "datadir", "logdir", "aof", "binlog"];
        assert_eq!(kept, first.map(|key| format!("appsnap:mark:{key}")));
        let unit = Unit { marks: (0..30).map(|n| mark(&n.to_string(), "v")).collect(), ..Unit::default() };
        assert_eq!((mark_tags(&unit, 0).len(), mark_tags(&unit, 12).len()), (MARKS, 1));
    }

    #[test]
    fn a_recipes_exit_code_and_its_last_words_are_told() {
        let (task, _) = crate::protect::testing::scripted(|_| None);
        let mut unit = crate::protect::blank(&task);
        let said = Some("appsnap: /data: 2 transactions open".to_string());
        fill(
            &task,
            &mut unit,
            &Told {
                reasons: vec![("script.failed".into(), "exit 10".into())],
                pre_said: said,
                ..Told::default()
            },
        );
        let told = &unit.findings[0];
        let words = "exit 10, its last words: appsnap: /data: 2 transactions open; a recipe: transactions";
        assert!(told.message.contains(words), "{told:?}");
        assert!(told.cure.contains("its conf"), "{told:?}");
    }
}
