//! A plan for people: numbered steps, with lines to paste. Pure.

use std::fmt::Write;

use super::guest::quoted;
use super::plan::{Call, Plan, Step};

/// What `--waiter` of the Alibaba Cloud CLI takes as a timeout, in seconds.
const WAITER: u32 = 600;

/// The plan as text.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let said = &plan.said;
    let way = match plan.way {
        "in-place" => "rolled back in place",
        "beside" => "as copies beside what is there",
        "onto" => "on another instance",
        _ => "as a new instance",
    };
    line(
        &mut out,
        &format!("{} of {} in {}, {way}", plan.snapshot_group_id, plan.creation_time, plan.region_id),
    );
    let mut about = vec![format!("level {}", said.level.as_str())];
    about.extend(said.verified.iter().map(|word| format!("verified: {word}")));
    about.extend(said.policy.iter().map(|policy| format!("policy {policy}")));
    about.extend(said.run.iter().map(|run| format!("run {run}")));
    line(&mut out, &format!("  {}", about.join(", ")));
    if !plan.warnings.is_empty() {
        line(&mut out, "\nRead first:");
    }
    for warning in &plan.warnings {
        line(&mut out, &format!("  ! {}\n    {}", warning.message, warning.cure));
    }
    if !plan.fill.is_empty() {
        line(&mut out, "\nFill in, in the shell from which the lines with `aliyun` are run:");
    }
    for (name, what) in &plan.fill {
        line(&mut out, &format!("    {}=   # {what}", variable(name)));
    }
    for step in &plan.steps {
        show(&mut out, plan, step);
    }
    line(&mut out, &format!("\nWhoever follows it has to be allowed: {}", plan.actions.join(", ")));
    out
}

fn show(out: &mut String, plan: &Plan, step: &Step) {
    line(out, &format!("\n{}. {}\n   {}", step.number, step.title, step.why));
    if let Some(call) = &step.call {
        let command = aliyun(plan, call);
        match step.yields.keys().next() {
            Some(name) => {
                let (name, kind) = (variable(name), kind(name));
                line(
                    out,
                    &format!(
                        "       {name}=$({command} |\n           grep -o '\"{kind}-[0-9a-z]*\"' | head -n 1 | tr -d '\"')"
                    ),
                );
                line(out, &format!("       echo {name}=\"${name}\""));
            }
            // Together: a call that failed leaves the thing in the state that is waited for, and nobody would see it.
            None if step.until.is_some() => line(out, &format!("       {command} &&")),
            None => line(out, &format!("       {command}")),
        }
    }
    if let Some(until) = &step.until {
        let expression = until.at.trim_start_matches('/').replace("/0/", "[0].").replace('/', ".");
        let seconds = until.within_seconds.min(WAITER);
        // As a string: to what is not there yet (null) the waiter would say that it is none, and end.
        let waits =
            format!("--waiter expr='to_string({expression})' to={} timeout={seconds} interval=5", until.is);
        let done = format!("echo 'step {} is done'", step.number);
        line(out, &format!("       {} {waits} >/dev/null && {done}", aliyun(plan, &until.call)));
        if until.within_seconds > WAITER {
            line(
                out,
                &format!(
                    "   it may take hours: repeat the last line until it finds {}, and says so",
                    until.is
                ),
            );
        }
    }
    if let Some(command) = &step.command {
        let mut names: Vec<&str> =
            command.shell.split("${").skip(1).filter_map(|rest| rest.split('}').next()).collect();
        names.retain(|name| bound(name));
        names.sort_unstable();
        names.dedup();
        line(out, &format!("   on {}, as root, in a shell of POSIX:", shell(&command.on).replace(":?", "")));
        for name in names {
            line(out, &format!("       {}=   # fill in what was printed above", variable(name)));
        }
        // In parentheses, so that `set -e` does not end the shell that it is pasted into.
        let script = format!("(\n{})", shell(&command.shell));
        script.lines().for_each(|text| line(out, format!("       {text}").trim_end()));
    }
    step.notes.iter().for_each(|note| line(out, &format!("   note: {note}")));
}

/// The line for the Alibaba Cloud CLI.
fn aliyun(plan: &Plan, call: &Call) -> String {
    // In some versions the parameter RegionId does not choose the endpoint: that is the profile's region, if not told.
    let mut line = format!("aliyun ecs {} --region {}", call.action, quoted(&plan.region_id));
    for (name, value) in &call.parameters {
        let word = match value.contains("${") {
            true => format!("\"{}\"", shell(&value.replace('"', "\\\""))),
            false => quoted(value),
        };
        line += &format!(" --{name} {word}");
    }
    line
}

/// Whether it is a name of a plan: those of the shell have no dot.
fn bound(name: &str) -> bool {
    name.contains('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
}

/// `disk.1` as the shell can call it.
fn variable(name: &str) -> String {
    name.strip_prefix("fill.").unwrap_or(name).replace('.', "_")
}

/// A text with its names as variables of the shell. Empty ones end the line: to a call without an id the cloud would
/// show whatever there is, and the first of it may well be in the state that is waited for.
fn shell(text: &str) -> String {
    let mut parts = text.split("${");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((name, rest)) if bound(name) => {
                let _ = write!(out, "${{{}:?}}{rest}", variable(name)); // writing to a String does not fail
            }
            _ => {
                let _ = write!(out, "${{{part}");
            }
        }
    }
    out
}

/// What ids of such a thing begin with.
fn kind(name: &str) -> &'static str {
    match name.split('.').next() {
        Some("disk") => "d",
        Some("instance") => "i",
        Some("image") => "m",
        _ => "ssg",
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}
