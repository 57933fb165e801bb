//! From what the instance told to a verdict, and what of it becomes tags. Pure.

use jiff::Timestamp;

use super::TAG;
use super::judge::{self, State};
use super::subject::Subject;
use crate::guest::verify::{FileSystem, Journal, Told};
use crate::report::Verified;

/// Most lines of evidence in a report.
const EVIDENCE: usize = 40;

/// The verdict on all copies together: as the worst of them. What was not shown does not count as good. An error says
/// why nothing can be said.
pub fn of(subject: &Subject, told: &Told, output: &str) -> Result<Verified, String> {
    if let Some(why) = &told.refused {
        return Err(why.clone());
    }
    if !told.done {
        return Err("the work on the instance was ended before it was through".into());
    }
    // `SOURCE: …` of what was not looked into: of that nothing is known, good or bad.
    let of_code = |wanted: &str| -> Vec<&str> {
        let notes = told.notes.iter().filter(|(code, _)| code == wanted);
        notes.map(|(_, words)| words.as_str()).collect()
    };
    let (missing, stacked) = (of_code("disk.not_found"), of_code("verify.stacked"));
    if told.file_systems.is_empty() && missing.is_empty() && stacked.is_empty() {
        return Err("the disks hold no file system that is known here".into());
    }
    let mut judged: Vec<(State, String)> = told.file_systems.iter().map(file_system).collect();
    for place in &subject.places {
        // Without its UUID it cannot be told from others on the disk.
        let there = |one: &FileSystem| {
            one.source_disk_id == place.source_disk_id && (one.mount == place.mount || place.uuid == "-")
        };
        let unseen = |words: &&str| words.split(':').next() == Some(&place.source_disk_id);
        if !missing.iter().chain(&stacked).any(unseen) && !told.file_systems.iter().any(there) {
            judged.push((
                State::Broken,
                format!("{} of {} is not on its copy", place.mount, place.source_disk_id),
            ));
        }
    }
    let broken = judged.iter().any(|(state, _)| *state == State::Broken);
    if !broken && (!missing.is_empty() || subject.marked.is_none() && !stacked.is_empty()) {
        return Err(format!("not all of it was looked into: {}", [missing, stacked].concat().join("; ")));
    }
    judged.extend(missing.iter().chain(&stacked).map(|words| (State::RedoSmall, words.to_string())));
    judged.retain(|(state, _)| *state > State::Clean);
    let mut state = judged.iter().map(|(state, _)| *state).max().unwrap_or(State::Clean);
    let mut verified = Verified { group_id: subject.group_id.clone(), ..Verified::default() };
    verified.evidence = told.file_systems.iter().map(seen).collect();
    let count = told.file_systems.len();
    let summary = match &subject.marked {
        None => {
            let checked = told.file_systems.iter().filter(|one| one.check == "good").count();
            format!("file systems only, no engine was started: {count} mounted, {checked} checked whole")
        }
        Some(marked) => {
            let engine = engine(&marked.engine, told, output)?;
            state = state.max(engine.state);
            verified.engine = Some(marked.engine.clone());
            verified.redo_bytes = engine.redo_bytes;
            verified.rolled_back = engine.rolled_back;
            verified.evidence.extend(engine.evidence);
            let layer = judge::Told::read(output).facts.get("layer").copied();
            verified.evidence.extend(layer.map(|at| format!("the engine's writes went to: {at}")));
            verified.answer = engine.answer;
            let unchecked = told.file_systems.iter().filter(|one| one.check == "-").count();
            format!("{}: {}; {unchecked} file systems mounted, not checked", marked.engine, engine.why)
        }
    };
    let whys = judged.into_iter().map(|(_, why)| why);
    verified.why = std::iter::once(summary).chain(whys).collect::<Vec<_>>().join("; ");
    verified.state = state.as_str().into();
    verified.evidence.truncate(EVIDENCE);
    Ok(verified)
}

/// What the engine told of itself, judged by those who know its words.
fn engine(name: &str, told: &Told, output: &str) -> Result<judge::Verdict, String> {
    let words = judge::Told::read(output);
    let notes = told.notes.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>().join("; ");
    match (words.number("engineExit"), judge::of(name)) {
        (Some(1), _) if words.facts.get("late") == Some(&"yes") => {
            Err(format!("{name} had not come up when the time was up, and was still at it: give it more"))
        }
        (Some(0 | 1), Some(verdict)) => Ok(verdict(&words)),
        (Some(2), _) => {
            let why = words.facts.get("unable").or(words.facts.get("why")).copied();
            Err(format!("{name} cannot be started there: {}", why.unwrap_or("it is not installed")))
        }
        (Some(code), _) => Err(format!("what was to start {name} ended with {code} {notes}")),
        (None, _) => Err(format!("{name} was not started: {notes}")),
    }
}

/// A file system alone.
fn file_system(one: &FileSystem) -> (State, String) {
    let name =
        if one.mount == "-" { format!("a file system of {}", one.source_disk_id) } else { one.mount.clone() };
    match (&one.journal, one.mounted, one.check.as_str()) {
        (_, false, _) => (State::Broken, format!("{name} does not mount: {}", one.said)),
        (_, _, "bad") => (State::Broken, format!("{name} is damaged: {}", one.said)),
        (Journal::Replay(how), ..) => {
            (State::RedoSmall, format!("the journal of {name} had to be replayed, as after a crash ({how})"))
        }
        (Journal::Unknown, ..) => {
            (State::RedoSmall, format!("the journal of {name} was not read: its tool is not there"))
        }
        (_, _, "late" | "unknown") => {
            (State::RedoSmall, format!("{name} was not checked whole: no tool, or no time"))
        }
        _ => (State::Clean, String::new()),
    }
}

fn seen(one: &FileSystem) -> String {
    let journal = match &one.journal {
        Journal::Rest(how) => format!("at rest: {how}"),
        Journal::Replay(how) => format!("to be replayed: {how}"),
        Journal::None => "no journal".into(),
        Journal::Unknown => "journal not read".into(),
    };
    let mounted = if one.mounted { "mounted" } else { "not mounted" };
    let check = if one.check == "-" { String::new() } else { format!(", check {}", one.check) };
    format!("{} {} of {}: {journal}; {mounted}{check}", one.mount, one.kind, one.source_disk_id)
}

/// The tags of the members: the state, and the figures in at most 128 characters.
pub fn tags(verified: &Verified, at: Timestamp) -> [(String, String); 2] {
    let figure = |name: &str, figure: Option<u64>| figure.map(|n| format!(" {name}={n}")).unwrap_or_default();
    let engine = verified.engine.as_deref().unwrap_or("file systems");
    let at = at.strftime("%Y-%m-%dT%H:%MZ");
    let mut detail = format!(
        "{at} {engine}{}{}: {}",
        figure("redo", verified.redo_bytes),
        figure("rolledBack", verified.rolled_back),
        verified.why
    );
    // Nothing that a tag may not hold.
    detail = detail.replace("http://", "").replace("https://", "");
    detail = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(128).collect();
    [(TAG.into(), verified.state.clone()), (format!("{TAG}:detail"), detail)]
}

/// The exit code of a verdict: 0 for what restores as it should, 3 where a crash shows, 1 where it does not restore.
pub fn exit_code(verified: &Verified) -> u8 {
    match verified.state.as_str() {
        "clean" | "redo-small" => 0,
        "rollback" => 3,
        _ => 1,
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
