//! What became of a fault, for people. Pure: values in, text out.

use jiff::Timestamp;

use super::check::Check;
use super::diary::{Diary, Wait};
use crate::cli::fault::{Fault, wrapped};
use crate::protect::reasons;
use crate::report::{Report, Severity};

const WIDTH: usize = 110;

pub(super) fn tell(
    fault: &Fault,
    diary: &Diary,
    report: &Report,
    checks: &[Check],
    survived: bool,
) -> String {
    let mut out = format!("FAULT {}: {}\n", fault.name, fault.happens);
    out += "\nWhat happened, ms since the tick (*: by the demo; function, guest: as reported; writers: from outside)\n";
    let start = diary.start;
    for (at, end, line) in lines(diary, report) {
        let ms = |time: Timestamp| time.duration_since(start).as_millis();
        let span = end.map_or(String::new(), |end| format!(".. {}", ms(end)));
        out += &format!("  {:>6} {span:<9} {line}\n", ms(at));
    }
    for unit in &report.units {
        out += &format!(
            "\n{}: level {} (wanted {}), {}\n",
            report.status.as_str().to_uppercase(),
            unit.level.as_str(),
            unit.wanted.as_str(),
            unit.snapshot_group_id.as_deref().unwrap_or("no group")
        );
        for code in &unit.reasons {
            let told = unit.findings.iter().find(|finding| finding.code == *code).cloned();
            let finding = told.unwrap_or_else(|| reasons::finding(code, "", "", Severity::Downgrade));
            out += &format!("  {code}: {}\n    cure: {}\n", finding.message, finding.cure);
        }
    }
    if let Some(error) = &report.error {
        out += &format!("  error {}: {}\n", error.code, error.message);
    }
    out += "\nAsked of the guest and the cloud themselves\n";
    for check in checks {
        let word = if check.ok { "yes" } else { "NO" };
        out += &format!("  {word:<4} {}\n", check.check);
        wrapped(&check.evidence, WIDTH - 10).iter().for_each(|line| out += &format!("         {line}\n"));
    }
    for (title, text) in [("Others", fault.victims), ("appsnap", fault.answer)] {
        out += "\n";
        for (n, line) in wrapped(text, WIDTH - 10).into_iter().enumerate() {
            out += &format!("{:<9}{line}\n", if n == 0 { title } else { "" });
        }
    }
    out += &format!("\n{}: {}\n", if survived { "SURVIVED" } else { "NOT SURVIVED" }, fault.name);
    out
}

/// What was done, what writers felt and what the report tells, in order.
fn lines(diary: &Diary, report: &Report) -> Vec<(Timestamp, Option<Timestamp>, String)> {
    let done = diary.lines().into_iter().map(|(at, line)| (at, None, format!("* {line}")));
    let waited = diary.waits().into_iter().filter_map(|Wait { mount, long, until }| {
        let from = until.checked_sub(long).ok()?;
        Some((from, Some(until), format!("a writer on {mount} waits {} ms", long.as_millis())))
    });
    let start: Option<Timestamp> = report.started_at.parse().ok();
    let steps = report.units.iter().flat_map(|unit| &unit.timeline).filter_map(|step| {
        let since = |ms: i64| start?.checked_add(jiff::SignedDuration::from_millis(ms)).ok();
        let (place, name) = step.step.split_once('.').unwrap_or(("function", &step.step));
        let line = format!("{place}: {name} {} {}", step.outcome, step.detail);
        Some((since(step.start_ms)?, since(step.end_ms), line.trim_end().to_owned()))
    });
    let mut all: Vec<_> = done.chain(waited).chain(steps).collect();
    all.sort_by_key(|(at, end, _)| (*at, std::cmp::Reverse(*end)));
    all
}
