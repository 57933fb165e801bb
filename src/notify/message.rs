//! What a person reads in a chat: what happened, where, what was reached, why not more, with cures, and what to do
//! next. Plain text; each channel puts it into its own markup and cuts it to its own limit.

use jiff::Timestamp;

use crate::report::{ErrorReport, Level, Report, Status, Unit};

/// How many units, and how many reasons of each, are told in full.
const UNITS: usize = 4;
const REASONS: usize = 3;
/// Characters of a line.
const LINE: usize = 320;

/// How it looks at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Neutral,
    Warning,
    Bad,
}

/// One labelled line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub label: &'static str,
    /// Without control characters, at most `LINE` characters.
    pub text: String,
}

/// The message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub title: String,
    pub tone: Tone,
    /// The last one names the run.
    pub lines: Vec<Line>,
}

impl Message {
    pub fn of(report: &Report) -> Self {
        let status = report.outcome.unwrap_or(report.status);
        let what = if report.policy.is_empty() { "a request" } else { report.policy.as_str() };
        let dry = if report.dry_run { "dry run: " } else { "" };
        let mut title = format!("{dry}appsnap: {what} {}", report.status.as_str());
        if let [unit] = &report.units[..]
            && matches!(report.status, Status::Succeeded | Status::Degraded)
        {
            title = format!("{title}, {}", level(unit).as_str());
        }
        let mut lines = Vec::new();
        body(report, &mut Lines(&mut lines));
        Self { title: shortened(&title, 100), tone: tone(status), lines }
    }

    /// The text with as many lines as fit into `limit` bytes; the last line and the title always stand.
    pub fn fitting(&self, limit: usize, render: impl Fn(&[Line]) -> String) -> String {
        let whole = render(&self.lines);
        let Some((last, lines)) = self.lines.split_last().filter(|_| whole.len() > limit) else {
            return whole;
        };
        let cut = |kept: usize| {
            let text = format!("{} more lines; the function's answer and log have them", lines.len() - kept);
            render(&[&lines[..kept], &[Line { label: "Left out", text }, last.clone()]].concat())
        };
        let fits = (1..lines.len()).rev().map(cut).find(|text| text.len() <= limit);
        fits.unwrap_or_else(|| cut(0))
    }
}

/// Collects lines.
struct Lines<'a>(&'a mut Vec<Line>);

impl Lines<'_> {
    fn add(&mut self, label: &'static str, text: impl AsRef<str>) {
        self.0.push(Line { label, text: shortened(text.as_ref(), LINE) });
    }

    fn error(&mut self, label: &'static str, error: &ErrorReport) {
        let mut text = format!("{}: {}", error.code, error.message);
        let aside = [("in", &error.action), ("on", &error.resource), ("RequestId", &error.request_id)];
        for (word, value) in aside {
            // Most messages name them already.
            if let Some(value) = value.as_ref().filter(|value| !error.message.contains(value.as_str())) {
                text = format!("{text}, {word} {value}");
            }
        }
        self.add(label, text);
        if let Some(cure) = &error.cure {
            self.add("Cure", cure);
        }
    }
}

fn tone(status: Status) -> Tone {
    match status {
        Status::Succeeded => Tone::Good,
        Status::Skipped | Status::Pending => Tone::Neutral,
        Status::Degraded | Status::Missed => Tone::Warning,
        Status::Refused | Status::Failed => Tone::Bad,
    }
}

fn body(report: &Report, lines: &mut Lines) {
    if let Some(error) = &report.error {
        lines.error(if report.status == Status::Missed { "Why" } else { "Error" }, error);
    }
    if let (Some(run), Some(outcome)) = (&report.repeats, report.outcome) {
        lines.add("Repeat", format!("of {run}, which {}", past(outcome)));
    }
    if report.units.len() > 1 {
        let counts = report.summary.iter().map(|(status, count)| format!("{count} {status}"));
        lines.add("Instances", counts.collect::<Vec<_>>().join(", "));
    }
    // The worst first; a good one is told only where nothing is bad.
    let bad = |unit: &&Unit| {
        !unit.declined() && (unit.error.is_some() || level(unit) < unit.wanted) || broken(unit)
    };
    let mut units: Vec<&Unit> = report.units.iter().filter(bad).collect();
    if units.is_empty() {
        units = report.units.iter().collect();
    }
    units.sort_by_key(|unit| (unit.declined(), level(unit)));
    for one in units.iter().take(UNITS) {
        unit(one, report, lines);
    }
    if units.len() > UNITS {
        let others = units[UNITS..].iter().map(|unit| match unit.instance_ids.is_empty() {
            true => place(unit),
            false => unit.instance_ids.join(" "),
        });
        lines.add("Also", listed(others.collect(), 6));
    }
    if let Some(next) = next(report) {
        lines.add("Next", next);
    }
    let started = report.started_at.parse::<Timestamp>().ok();
    let started =
        started.map(|at| format!(" at {}", at.strftime("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
    let occurrence = shortened(&report.occurrence, 80);
    lines.add("Run", format!("{}{started}, {} {occurrence}", report.run, report.trigger));
}

/// Whether a copy of it was tried, and does not restore.
fn broken(unit: &Unit) -> bool {
    unit.verified.as_ref().is_some_and(|verified| verified.state == "broken")
}

/// What was reached, or by a dry run would be.
fn level(unit: &Unit) -> Level {
    unit.expected_level.unwrap_or(unit.level)
}

fn unit(unit: &Unit, report: &Report, lines: &mut Lines) {
    lines.add(if unit.instance_ids.is_empty() { "Scope" } else { "Instance" }, place(unit));
    if unit.instance_ids.is_empty() {
        unit.error.iter().for_each(|error| lines.error("Error", error));
        return;
    }
    if !unit.disk_ids.is_empty() {
        lines.add("Disks", listed(unit.disk_ids.clone(), 6));
    }
    if unit.declined() {
        lines.add("Level", "none: the prescript declined (exit 75), it is not this instance's turn");
        return;
    }
    let words = match level(unit) {
        level if level >= unit.wanted => level.as_str().to_string(),
        level => format!("{}, wanted {}", level.as_str(), unit.wanted.as_str()),
    };
    lines.add(if report.dry_run { "Expected" } else { "Level" }, words);
    let frozen = unit.frozen_ms.map(|ms| format!(", frozen for {ms:.0} ms")).unwrap_or_default();
    match &unit.snapshot_group_id {
        _ if report.dry_run => {}
        Some(group) => lines.add("Copy", format!("{group}, {} snapshots{frozen}", unit.snapshots.len())),
        None => lines.add("Copy", format!("none is known{frozen}")),
    }
    if !report.dry_run
        && matches!(report.status, Status::Degraded | Status::Refused | Status::Failed)
        && let Some(step) = step(unit)
    {
        lines.add("Step", step);
    }
    if let Some(verified) = &unit.verified {
        lines.add("Verified", format!("{} {}: {}", verified.group_id, verified.state, verified.why));
    }
    for code in unit.reasons.iter().take(REASONS) {
        let findings: Vec<_> = unit.findings.iter().filter(|finding| finding.code == *code).collect();
        let messages = findings.iter().map(|finding| match finding.resource.as_str() {
            resource if unit.instance_ids.iter().any(|id| id == resource) => finding.message.clone(),
            resource => format!("{resource}: {}", finding.message),
        });
        lines.add("Why", format!("{code}: {}", messages.collect::<Vec<_>>().join("; ")));
        if let Some(finding) = findings.first() {
            lines.add("Cure", &finding.cure);
        }
    }
    if unit.reasons.len() > REASONS {
        lines.add("Also", listed(unit.reasons[REASONS..].to_vec(), 6));
    }
    if let Some(error) = &unit.error {
        lines.error("Error", error);
    }
}

/// A unit without an instance is an account and region that could not be looked into.
fn place(unit: &Unit) -> String {
    match unit.instance_ids.is_empty() {
        true => format!("account {} in {}", unit.account_id, unit.region_id),
        false => format!("{} in {}", unit.instance_ids.join(", "), unit.region_id),
    }
}

/// Where reasons come from, by the beginning of their code; the first that fits.
const STEPS: [(&str, &str); 20] = [
    ("schedule.", "before the start"),
    ("script.pre", "prescript"),
    ("script.failed", "prescript"),
    ("script.declined", "prescript"),
    ("script.post", "postscript"),
    ("script.timeout", "scripts"),
    ("fs.changed", "freeze"),
    ("fs.not_quiet", "freeze"),
    ("freeze.", "freeze"),
    ("watchdog.", "freeze"),
    ("create.", "create, while frozen"),
    ("group.not_visible", "create, while frozen"),
    ("thaw.", "thaw"),
    ("connect.", "connect"),
    ("request.", "connect"),
    ("group.", "confirm"),
    ("tag.", "label"),
    ("report.", "report of the guest"),
    ("busy", "start in the guest"),
    // Scripts, disks, file systems, tools, state: looked at before anything is touched.
    ("", "look before the start"),
];

/// The step that did not end well, else the one that the first reason belongs to.
fn step(unit: &Unit) -> Option<String> {
    if let Some(step) = unit.timeline.iter().find(|step| step.outcome != "ok") {
        let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
        return Some(format!("{} {}{detail}", step.step, step.outcome));
    }
    let code = unit.reasons.first()?;
    STEPS.iter().find(|(start, _)| code.starts_with(start)).map(|(_, step)| step.to_string())
}

/// What to do, beside the cures.
fn next(report: &Report) -> Option<String> {
    let took_part = report.units.iter().filter(|unit| !unit.declined());
    let worst = took_part.map(|unit| unit.level).min().unwrap_or_default();
    // Of a fleet others may be done.
    let untouched = match report.summary.len() {
        0 | 1 => "nothing was touched".to_string(),
        _ => format!("what was {} was not touched", report.status.as_str()),
    };
    let text = match report.status {
        Status::Succeeded if report.dry_run => return None,
        _ if report.dry_run => "nothing was touched; mend the causes, then check again".into(),
        Status::Succeeded | Status::Skipped => return None,
        Status::Degraded if report.units.iter().any(broken) => {
            "do not count on the copy that was verified; find what damaged it, and verify an older one".into()
        }
        Status::Degraded => format!(
            "the copy restores {}; with the causes mended, the next run reaches more",
            match worst {
                Level::Filesystem | Level::Application =>
                    "with clean file systems, without the scripts' work",
                Level::Crash | Level::None => "as after a power failure",
            }
        ),
        Status::Refused => format!("{untouched}; mend the causes, then send the event again"),
        Status::Pending => "it goes on; the same event, sent again later, settles it".into(),
        Status::Missed => format!("{untouched}; start a run by hand if this copy is needed"),
        // Its cure is to send the event again.
        Status::Failed
            if report.units.iter().any(|unit| unit.reasons.iter().any(|it| it == "report.lost")) =>
        {
            return None;
        }
        Status::Failed => "do not count on this run; mend the causes, then start a new one".into(),
    };
    Some(text)
}

fn past(status: Status) -> &'static str {
    match status {
        Status::Refused => "was refused",
        Status::Degraded => "was degraded",
        Status::Skipped => "was skipped",
        Status::Pending => "is pending",
        Status::Missed => "was missed",
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
    }
}

/// A list in words, with at most `most` entries.
fn listed(mut all: Vec<String>, most: usize) -> String {
    let more = all.len().saturating_sub(most);
    all.truncate(most);
    let text = all.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

/// Text from elsewhere on one line, without what would hide or turn it around, cut at a character.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let seen = |c: char| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { ' ' } else { c };
    let mut text: String = text.trim().chars().filter(|c| !hidden(*c)).map(seen).collect();
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
#[path = "message_tests.rs"]
pub(super) mod tests;
