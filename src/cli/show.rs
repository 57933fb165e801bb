//! Reports for people. Pure: values in, text out.

use std::fmt::Write;

use serde_json::Value;

use super::demo::Received;
use crate::report::{ErrorReport, Report, Severity, Unit};

/// The demo, whole.
pub(super) fn demo(demo: &Value, report: &Report, received: Option<&Received>, seed: u64) -> String {
    let mut out = run(report, received);
    let disks = demo["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !disks.is_empty() {
        line(
            &mut out,
            format_args!(
                "\nDisks made from the group, beside an equally atomic copy taken without a freeze:"
            ),
        );
    }
    for disk in disks {
        let word = |copy: &str| if disk[copy]["clean"] == true { "clean" } else { "NOT clean" };
        let evidence = |copy: &str| disk[copy]["evidence"].as_str().unwrap_or_default().to_string();
        line(&mut out, format_args!("  {} ({})", text(&disk["diskId"]), text(&disk["filesystem"])));
        let tags = disk["tags"].as_object().into_iter().flatten();
        let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={}", text(value))).collect();
        line(&mut out, format_args!("    tags: {}", tags.join("  ")));
        line(
            &mut out,
            format_args!("    from the group: {:<9} {}", word("snapshotCopy"), evidence("snapshotCopy")),
        );
        line(
            &mut out,
            format_args!("    without freeze: {:<9} {}", word("plainCopy"), evidence("plainCopy")),
        );
        line(
            &mut out,
            format_args!(
                "    writer: {} acknowledged before the tick, {} kept in the snapshot",
                disk["acknowledgedBefore"], disk["keptInSnapshot"]
            ),
        );
    }
    line(&mut out, format_args!("\n(seed {seed})"));
    out
}

/// A report, and what came by the webhook.
pub(super) fn run(report: &Report, received: Option<&Received>) -> String {
    let mut out = self::report(report);
    match received {
        None => line(&mut out, format_args!("\nWebhook: none arrived")),
        Some(Received { bytes, fault, text }) => {
            let signature = fault.as_deref().unwrap_or("signature good");
            let start: String = text.chars().take(240).collect();
            line(&mut out, format_args!("\nWebhook as received ({bytes} bytes, {signature}):\n  {start}..."));
        }
    }
    out
}

/// A report.
pub(super) fn report(report: &Report) -> String {
    let mut out = String::new();
    let repeats =
        report.outcome.map(|outcome| format!(", as it was: {}", outcome.as_str())).unwrap_or_default();
    let status = report.status.as_str().to_uppercase();
    if let Some(error) = report.error.as_ref().filter(|error| error.code == "event.ignored") {
        // No run: it has neither policy nor units.
        let words = format_args!("{status}: {} ({}, {})", error.message, report.trigger, error.code);
        line(&mut out, words);
        return out;
    }
    // Of an event that could not be read no policy is known.
    let policy = if report.policy.is_empty() { "not known" } else { &report.policy };
    let dry = if report.dry_run { "dry run, nothing was touched; " } else { "" };
    line(
        &mut out,
        format_args!(
            "{status}: {dry}policy {policy}, run {}, {} ({} ms, {} API calls){repeats}",
            report.run, report.trigger, report.duration_ms, report.api_calls
        ),
    );
    if let Some(error) = &report.error {
        self::error(&mut out, "  ", error);
    }
    report.units.iter().for_each(|one| unit(&mut out, one));
    for notification in &report.notifications {
        let error = notification.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        line(&mut out, format_args!("  told by {}: {}{error}", notification.channel, notification.status));
    }
    out
}

fn unit(out: &mut String, unit: &Unit) {
    if unit.instance_ids.is_empty() {
        // An account and region that could not be looked into.
        line(out, format_args!("\n  account {} in {}:", unit.account_id, unit.region_id));
        unit.error.iter().for_each(|error| self::error(out, "    ", error));
        return;
    }
    let group = unit.snapshot_group_id.as_deref().unwrap_or("no group");
    let (ids, wanted) = (unit.instance_ids.join(", "), unit.wanted.as_str());
    match unit.expected_level {
        Some(level) => {
            line(out, format_args!("\n  {ids}: expected level {} (wanted {wanted})", level.as_str()))
        }
        None => {
            line(out, format_args!("\n  {ids}: level {} (wanted {wanted}), {group}", unit.level.as_str()))
        }
    }
    if !unit.reasons.is_empty() {
        line(out, format_args!("    because: {}", unit.reasons.join(", ")));
    }
    if let Some(error) = &unit.error {
        self::error(out, "    ", error);
    }
    if unit.findings.is_empty() {
        line(out, format_args!("    findings: none"));
    }
    for finding in &unit.findings {
        let weight = match finding.severity {
            Severity::Note => "note",
            Severity::Downgrade => "lowers the level",
            Severity::Blocker => "blocks",
        };
        line(out, format_args!("    {} ({weight}) {}: {}", finding.code, finding.resource, finding.message));
        line(out, format_args!("      cure: {}", finding.cure));
    }
    for snapshot in &unit.snapshots {
        line(out, format_args!("    {} of {}: {}", snapshot.snapshot_id, snapshot.disk_id, snapshot.status));
    }
    let figures = [("quiesced", unit.quiesced_ms), ("frozen", unit.frozen_ms), ("api", unit.api_ms)];
    let figures: Vec<String> =
        figures.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {ms:.0} ms"))).collect();
    if !figures.is_empty() {
        line(out, format_args!("    {}", figures.join(", ")));
    }
    if !unit.timeline.is_empty() {
        line(out, format_args!("    timeline, ms since the start:"));
    }
    for step in &unit.timeline {
        line(
            out,
            format_args!(
                "    {:>8} .. {:>6}  {:<20} {:<8} {}",
                step.start_ms, step.end_ms, step.step, step.outcome, step.detail
            ),
        );
    }
}

/// An error.
pub(super) fn error(out: &mut String, indent: &str, error: &ErrorReport) {
    line(out, format_args!("{indent}error {}: {}", error.code, error.message));
    let parts = [
        ("action", &error.action),
        ("on", &error.resource),
        ("RequestId", &error.request_id),
        ("cure", &error.cure),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            line(out, format_args!("{indent}  {name}: {value}"));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn line(out: &mut String, words: std::fmt::Arguments) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{words}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_event_that_concerns_no_run_is_told_in_one_line() {
        let show = |status: &str, code: &str| {
            let report = json!({ "schema": 1, "version": "1", "run": "r-1", "policy": "", "occurrence": "o",
                "trigger": "manual", "status": status, "summary": {}, "startedAt": "", "finishedAt": "",
                "durationMs": 3, "apiCalls": 0, "units": [], "notifications": [],
                "error": { "code": code, "message": "it is nobody's" } });
            super::report(&serde_json::from_value(report).unwrap())
        };
        assert_eq!(show("skipped", "event.ignored"), "SKIPPED: it is nobody's (manual, event.ignored)\n");
        let wrong = show("failed", "InvalidEvent");
        assert!(wrong.starts_with("FAILED: policy not known, run r-1, manual (3 ms"), "{wrong}");
        assert!(wrong.contains("error InvalidEvent: it is nobody's"), "{wrong}");
    }
}
