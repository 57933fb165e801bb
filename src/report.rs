//! What happened, once, for machines and for people: the answer of the function, the body of the generic
//! webhook and `--json` of every verb. Field names are the public face: they keep name and meaning.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a copy is good for, from worst to best; decided last, from evidence (`protect::label`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// There is no group.
    #[default]
    None,
    /// The group exists; nothing else is claimed.
    Crash,
    /// Every file system of the disks was frozen around the cut.
    Filesystem,
    /// As `Filesystem`, with prescript and postscript good.
    Application,
}

impl Level {
    /// The word used in tags and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Crash => "crash",
            Level::Filesystem => "filesystem",
            Level::Application => "application",
        }
    }
}

/// How a run ended; a fleet is as its worst unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every unit reached the wanted level, or all that a stopped instance can give.
    Succeeded,
    /// A run: a repeat of a settled occurrence, see `repeats` and `outcome`. A unit: settled earlier, or its prescript
    /// declined (`script.declined`).
    Skipped,
    /// Started, will be settled later.
    Pending,
    /// Every unit reached the minimum, some not the wanted level.
    Degraded,
    /// Too late or in a blackout window; nothing was touched.
    Missed,
    /// Not eligible; nothing was touched.
    Refused,
    /// Below the minimum, or an error.
    Failed,
}

impl Status {
    /// The word used in reports and tags.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Succeeded => "succeeded",
            Status::Skipped => "skipped",
            Status::Pending => "pending",
            Status::Degraded => "degraded",
            Status::Missed => "missed",
            Status::Refused => "refused",
            Status::Failed => "failed",
        }
    }

    /// The status that a word from a tag stands for.
    pub fn parse(word: &str) -> Option<Self> {
        serde_json::from_value(word.into()).ok()
    }

    /// The exit code of the verbs (2 is wrong usage).
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Succeeded | Status::Skipped => 0,
            Status::Failed => 1,
            Status::Degraded => 3,
            Status::Refused => 4,
            Status::Pending => 5,
            Status::Missed => 6,
        }
    }
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Lowers the level that can be reached.
    Downgrade,
    /// Nothing can be done here.
    Blocker,
}

/// One condition that was judged, with its cure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code, e.g. `disk.category`.
    pub code: String,
    /// How much it weighs.
    pub severity: Severity,
    /// The instance, disk or region that it is about.
    pub resource: String,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

/// An error that tells the whole story, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorReport {
    /// The cloud's `Code`, or one of ours.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What was attempted.
    pub action: Option<String>,
    /// On which resource.
    pub resource: Option<String>,
    /// The cloud's RequestId.
    pub request_id: Option<String>,
    /// What to do about it.
    pub cure: Option<String>,
}

/// One snapshot of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotReport {
    /// `s-…`
    pub snapshot_id: String,
    /// `d-…`
    pub disk_id: String,
    /// `progressing`, `accomplished` or `failed`.
    pub status: String,
}

/// One step of a unit, in milliseconds since the run's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineStep {
    /// Name of the step, e.g. `prescript`, `freeze`.
    pub step: String,
    /// Start, ms since the run's start.
    pub start_ms: i64,
    /// End, ms since the run's start.
    pub end_ms: i64,
    /// `ok`, `failed`, `undone`, `stuck`, …
    pub outcome: String,
    /// In words.
    pub detail: String,
}

impl TimelineStep {
    /// One that lasted from one time to another, in a run that started at `started`.
    pub fn new(step: &str, started: Timestamp, (from, to): (Timestamp, Timestamp), outcome: &str) -> Self {
        let since = |time: Timestamp| time.duration_since(started).as_millis() as i64;
        Self {
            step: step.into(),
            start_ms: since(from),
            end_ms: since(to),
            outcome: outcome.into(),
            detail: String::new(),
        }
    }
}

/// sha256 of the scripts that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Scripts {
    /// The prescript's sha256 (hex).
    pub pre: Option<String>,
    /// The postscript's.
    pub post: Option<String>,
}

/// How a copy came up when it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Verified {
    /// `clean`, `redo-small`, `rollback` or `broken`.
    pub state: String,
    /// The engine that was started on it; `None`: its file systems alone were looked at.
    pub engine: Option<String>,
    /// Bytes of log that the engine replayed, where it tells.
    pub redo_bytes: Option<u64>,
    /// Transactions that it rolled back, where it tells.
    pub rolled_back: Option<u64>,
    /// Why this state, in a sentence.
    pub why: String,
    /// Journals as they were found, and the engine's own lines.
    pub evidence: Vec<String>,
    /// What the engine answered to the query that was put to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// `ssg-…`: the group that was tried, which need not be that of the run.
    pub group_id: String,
}

/// One group of disks that is snapshotted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Unit {
    /// Account of the instance.
    pub account_id: String,
    /// Region of the instance.
    pub region_id: String,
    /// The instances (one, today).
    pub instance_ids: Vec<String>,
    /// The chosen disks, whether a group came of them or not.
    pub disk_ids: Vec<String>,
    /// `linux` or `windows`.
    pub os_type: String,
    /// `sequence`, `plugin`, or `none`: the instance was stopped, and nothing ran in it.
    pub engine: String,
    /// Counted from 1.
    pub attempt: u32,
    /// The level asked for.
    pub wanted: Level,
    /// The level reached and shown.
    pub level: Level,
    /// Of a dry run: the level that a run would reach, as far as can be told beforehand; `None`: nobody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_level: Option<Level>,
    /// Why the level is not higher: codes.
    pub reasons: Vec<String>,
    /// `ssg-…`
    pub snapshot_group_id: Option<String>,
    /// The members.
    pub snapshots: Vec<SnapshotReport>,
    /// What was judged.
    pub findings: Vec<Finding>,
    /// From the start of the prescript to the end of the postscript, ms.
    pub quiesced_ms: Option<f64>,
    /// From just before the first freeze ioctl to just after the last thaw, ms.
    pub frozen_ms: Option<f64>,
    /// From the moment the request was let go to the moment `thawOn` was met, ms.
    pub api_ms: Option<f64>,
    /// How precise these figures are, ms, where a tool in the guest limits it.
    pub precision_ms: Option<f64>,
    /// What the scripts told (`appsnap-mark: key=value`).
    pub marks: BTreeMap<String, String>,
    /// Hashes of the scripts.
    pub scripts: Scripts,
    /// sha256 of the guest sequence.
    pub sequence: Option<String>,
    /// Cloud Assistant's `t-…`.
    pub invoke_id: Option<String>,
    /// RequestId of the create call.
    pub request_id: Option<String>,
    /// How a copy of the instance came up, where one was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// The steps.
    pub timeline: Vec<TimelineStep>,
    /// What stopped the unit.
    pub error: Option<ErrorReport>,
}

/// The reason of a unit whose prescript said "not my turn" (exit 75).
pub const DECLINED: &str = "script.declined";

impl Unit {
    /// Nothing was made here, since the prescript declined; and nothing is wrong.
    pub fn declined(&self) -> bool {
        self.level == Level::None && self.error.is_none() && self.reasons == [DECLINED]
    }
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationReport {
    /// `webhook`, `dingtalk`, …
    pub channel: String,
    /// `delivered` or `failed`.
    pub status: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The last error.
    pub error: Option<String>,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this shape: 1.
    pub schema: u32,
    /// Version of appsnap.
    pub version: String,
    /// Id of the run, from policy and occurrence.
    pub run: String,
    /// The policy's name.
    pub policy: String,
    /// What made this run the one it is (trigger name and time, event id, request id).
    pub occurrence: String,
    /// `timer`, `eventbridge` or `manual`.
    pub trigger: String,
    /// A check: everything was judged, nothing was touched. Left out where false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// How it ended.
    pub status: Status,
    /// Of a skipped run: the run it repeats.
    pub repeats: Option<String>,
    /// Of a skipped run: the status of that run.
    pub outcome: Option<Status>,
    /// Units by status.
    pub summary: BTreeMap<String, u32>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// Milliseconds.
    pub duration_ms: i64,
    /// Calls to the cloud's API, retries counted.
    pub api_calls: u64,
    /// One per unit.
    pub units: Vec<Unit>,
    /// One per channel.
    pub notifications: Vec<NotificationReport>,
    /// What stopped the run as a whole.
    pub error: Option<ErrorReport>,
}

impl Report {
    /// The exit code of the verbs: a repeat exits as its outcome.
    pub fn exit_code(&self) -> u8 {
        self.outcome.unwrap_or(self.status).exit_code()
    }

    /// Whether the platform should count the invocation as failed (`x-fc-status: 404`).
    pub fn is_failure(&self) -> bool {
        self.outcome.unwrap_or(self.status) == Status::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_by_what_they_promise() {
        assert!(Level::None < Level::Crash && Level::Crash < Level::Filesystem);
        assert!(Level::Filesystem < Level::Application);
    }

    #[test]
    fn every_status_has_its_documented_exit_code() {
        let table =
            [("succeeded", 0), ("failed", 1), ("degraded", 3), ("refused", 4), ("pending", 5), ("missed", 6)];
        for (word, code) in table {
            let status = Status::parse(word).unwrap();
            assert_eq!((status.as_str(), status.exit_code()), (word, code));
        }
    }
}
