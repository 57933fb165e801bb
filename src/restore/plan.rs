//! A plan as a machine follows it. Names in `${…}` are bound by the step that yields them, or filled in by the operator;
//! each has a dot in it, which no name of the shell has.

use std::collections::BTreeMap;

use serde::Serialize;

use super::said::Said;

/// The plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `ssg-…`
    pub snapshot_group_id: String,
    /// Every call goes there.
    pub region_id: String,
    /// UTC, of the group.
    pub creation_time: String,
    /// `in-place`, `beside`, `onto` (another instance) or `anew` (a new one).
    pub way: &'static str,
    /// What the group's tags say.
    pub said: Said,
    /// Read them first.
    pub warnings: Vec<Warning>,
    /// Names that the operator has to fill in, with what they stand for.
    pub fill: BTreeMap<String, String>,
    /// In this order, each after the one before it is done.
    pub steps: Vec<Step>,
    /// What whoever follows it has to be allowed to call.
    pub actions: Vec<String>,
}

/// What may be less than expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What is so.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its number, from 1.
    pub number: usize,
    /// What it does.
    pub title: String,
    /// Why, in a sentence.
    pub why: String,
    /// A call of ECS 2014-05-26, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// … or a script for a guest: it has worked if it exits with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// What its answer binds: a name, and where it stands in the answer (a JSON pointer).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub yields: BTreeMap<String, String>,
    /// How to see that it worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// What else to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A call with all its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// e.g. `ResetDisk`
    pub action: &'static str,
    /// By name, lists flattened from one (`DiskId.1`).
    pub parameters: BTreeMap<String, String>,
}

/// A script of POSIX sh for root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The instance.
    pub on: String,
    /// The script.
    pub shell: String,
}

/// A read that is repeated until it says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Until {
    /// The read.
    #[serde(flatten)]
    pub call: Call,
    /// Where to look in its answer (a JSON pointer).
    pub at: &'static str,
    /// What has to stand there.
    pub is: &'static str,
    /// How long that may take.
    pub within_seconds: u32,
}

/// A call of these parameters.
pub fn call(action: &'static str, parameters: &[(&str, &str)]) -> Call {
    let owned = parameters.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Call { action, parameters: owned.collect() }
}

impl Step {
    /// A step that calls the cloud.
    pub fn calls(title: impl Into<String>, why: impl Into<String>, call: Call) -> Self {
        Self { call: Some(call), ..Self::new(title.into(), why.into()) }
    }

    /// A step in a guest.
    pub fn runs(title: impl Into<String>, why: impl Into<String>, on: &str, shell: String) -> Self {
        let command = Command { on: on.into(), shell };
        Self { command: Some(command), ..Self::new(title.into(), why.into()) }
    }

    fn new(title: String, why: String) -> Self {
        let (yields, notes) = (BTreeMap::new(), Vec::new());
        Self { number: 0, title, why, call: None, command: None, yields, until: None, notes }
    }

    /// What it makes, `disk.1` say, and where its id stands in the answer.
    pub fn yields(mut self, name: &str, at: &str) -> Self {
        self.yields.insert(name.into(), at.into());
        self
    }

    /// Seen by this read.
    pub fn until(mut self, call: Call, at: &'static str, is: &'static str, within_seconds: u32) -> Self {
        self.until = Some(Until { call, at, is, within_seconds });
        self
    }

    /// Something else to know.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// Steps with their numbers, and the actions that they take.
pub fn numbered(steps: Vec<Step>) -> (Vec<Step>, Vec<String>) {
    let number = |(step, number): (Step, usize)| Step { number, ..step };
    let steps: Vec<Step> = steps.into_iter().zip(1..).map(number).collect();
    let calls =
        steps.iter().flat_map(|step| step.call.iter().chain(step.until.iter().map(|until| &until.call)));
    let actions: std::collections::BTreeSet<String> =
        calls.map(|call| format!("ecs:{}", call.action)).collect();
    (steps, actions.into_iter().collect())
}
