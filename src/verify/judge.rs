//! What an engine that was started on a copy told of itself, judged. Pure: text in, verdict out. Each engine has a file of
//! its own, which knows that engine's words.

pub mod mariadb;
pub mod postgresql;
pub mod redis;
pub mod sqlite;

use std::collections::BTreeMap;

/// How a copy came up; also the value of the tag `appsnap:verified`. From best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As after a clean shutdown, or with a redo of hardly more than the checkpoint's own record.
    Clean,
    /// It had some log to replay, and rolled nothing back.
    RedoSmall,
    /// Transactions were rolled back, or much had to be replayed: what a crash leaves.
    Rollback,
    /// It did not start, or lost something, or its data does not check.
    Broken,
}

impl State {
    /// As tags and reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::RedoSmall => "redo-small",
            Self::Rollback => "rollback",
            Self::Broken => "broken",
        }
    }
}

/// The verdict on one engine on one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it came up.
    pub state: State,
    /// Bytes of log that were replayed, where the engine tells.
    pub redo_bytes: Option<u64>,
    /// Transactions that were rolled back, where the engine tells.
    pub rolled_back: Option<u64>,
    /// Why this state, in a sentence.
    pub why: String,
    /// The engine's own lines that show it.
    pub evidence: Vec<String>,
    /// What it answered to the query that was put to it, if there was one.
    pub answer: Option<String>,
}

/// Who judges this engine.
pub fn of(engine: &str) -> Option<fn(&Told) -> Verdict> {
    let verdict: fn(&Told) -> Verdict = match engine {
        "mariadb" | "mysql" => mariadb::verdict,
        "postgresql" => postgresql::verdict,
        "redis" => redis::verdict,
        "sqlite" => sqlite::verdict,
        _ => return None,
    };
    Some(verdict)
}

/// What the guest's script told: lines `fact: key=value` and `log: line`; anything else says nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told<'a> {
    /// By key; the last of a key counts.
    pub facts: BTreeMap<&'a str, &'a str>,
    /// In their order.
    pub log: Vec<&'a str>,
}

impl<'a> Told<'a> {
    /// Reads the script's output.
    pub fn read(output: &'a str) -> Self {
        let mut told = Self::default();
        for line in output.lines() {
            if let Some((key, value)) = line.strip_prefix("fact: ").and_then(|fact| fact.split_once('=')) {
                told.facts.insert(key, value);
            } else if let Some(line) = line.strip_prefix("log: ") {
                told.log.push(line);
            }
        }
        told
    }

    /// Whether the engine came up and answered.
    pub fn started(&self) -> bool {
        self.facts.get("started") == Some(&"yes")
    }

    /// A fact that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.facts.get(key)?.parse().ok()
    }

    /// The lines of the log that contain one of these words.
    pub fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let has = |line: &&&str| words.iter().any(|word| line.contains(word));
        self.log.iter().filter(has).map(|line| line.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_and_log_lines_are_read_and_all_else_is_left_out() {
        let told = Told::read(
            "noise\nfact: started=yes\nfact: query=a=b\nlog: redo done at 0/1\nfact: nothing\nlog:x\n",
        );
        assert_eq!(told.facts, [("started", "yes"), ("query", "a=b")].into());
        assert_eq!(told.log, ["redo done at 0/1"]);
        assert!(told.started() && told.number("query").is_none());
        assert_eq!(told.lines_with(&["redo"]), ["redo done at 0/1"]);
    }

    #[test]
    fn states_are_ordered_from_best_to_worst() {
        let all = [State::Clean, State::RedoSmall, State::Rollback, State::Broken];
        assert!(all.is_sorted());
        assert_eq!(all.map(State::as_str), ["clean", "redo-small", "rollback", "broken"]);
    }
}
