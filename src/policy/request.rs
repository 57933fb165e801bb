//! The request as a whole.

use std::time::Duration;

use serde_json::Value;

use super::channel::{self, Channel};
use super::fields::{Invalid, Object, Problem, Problems, Section, kind, quoted};
use super::linux::{self, Linux};
use super::schedule::{self, Schedule};
use super::secretref::Env;
use super::sections;
use super::snapshot::{self, Snapshot};
use super::targets::{self, MAX_UNITS, Targets};
use super::verify::{self, Verify};
use crate::report::Level;

/// What the user wants, checked; defaults filled in but for what only the function knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `[a-z0-9-]{1,40}`
    pub policy: String,
    /// `None`: the function's own region.
    pub region_id: Option<String>,
    /// `None`: env `APPSNAP_ROLE_ARN`, else the function's own role.
    pub role_arn: Option<String>,
    /// What is protected.
    pub targets: Targets,
    /// The level that is wanted; default application.
    pub consistency: Level,
    /// Below it the unit has failed; default crash. What falls short is kept (`belowMinimum: keep`).
    pub minimum_level: Level,
    /// `atLeast`, default 1: so many units have to be done (reach the minimum), whoever declines.
    pub at_least: usize,
    /// When an attempt may begin.
    pub schedule: Schedule,
    /// How a Linux guest is quiesced.
    pub linux: Linux,
    /// `windows.enableWriters`, default true: VSS asks the applications' writers too; without them a copy is
    /// consistent for the file systems only.
    pub enable_writers: bool,
    /// Name and tags of the group.
    pub snapshot: Snapshot,
    /// `None`: the channels of env `APPSNAP_NOTIFY`. An empty list: nobody.
    pub notify: Option<Vec<Channel>>,
    /// The verification of groups; `None`: none.
    pub verify: Option<Verify>,
    /// Everything is judged, nothing is touched.
    pub dry_run: bool,
}

/// Until the command runs in the guest: the agent polls, and wakes late on a busy machine.
const DELIVERY_SECONDS: u64 = 60;
/// Survey, roles, sync before the freeze, tags, notification.
const MARGIN_SECONDS: u64 = 60;
/// Units that are at work side by side: each asks the cloud every second or two, and the cloud's rate limits count per
/// account and region.
pub const UNITS_AT_ONCE: usize = 50;

impl Request {
    /// Checks `value` and lists everything that is wrong with it.
    pub fn parse(value: &Value) -> Result<Self, Invalid> {
        if !value.is_object() {
            let message = format!("must be an object, not {}", kind(value));
            return Err(Invalid(vec![Problem { path: String::new(), message }]));
        }
        let problems = Problems::default();
        let top = Object::open(Some(value), String::new(), &sections::TOP, &sections::ALL, &problems);
        let open = |section: &Section| {
            Object::open(top.value(section.name), section.name.into(), section, &sections::ALL, &problems)
        };
        let levels = [
            ("application", Some(Level::Application)),
            ("filesystem", Some(Level::Filesystem)),
            ("crash", Some(Level::Crash)),
        ];
        if top.value("policy").is_none() {
            top.problem("policy", "required: a name for what is protected, e.g. \"orders-db\"");
        }
        let request = Self {
            policy: top.checked("policy", policy_name).unwrap_or_default(),
            region_id: top.checked("regionId", region_id),
            role_arn: top.checked("roleArn", role_arn),
            targets: targets::parse(&open(&sections::TARGETS)),
            consistency: top.word("consistency", Level::Application, &levels),
            minimum_level: top.word("minimumLevel", Level::Crash, &levels),
            at_least: top.number("atLeast", 1, 1..=MAX_UNITS as u64, "a whole number of instances") as usize,
            schedule: schedule::parse(&top),
            linux: linux::parse(&open(&sections::LINUX)),
            enable_writers: open(&sections::WINDOWS).flag("enableWriters", true),
            snapshot: snapshot::parse(&open(&sections::SNAPSHOT)),
            notify: channel::parse(&top, "notify"),
            verify: verify::parse(&top, &open(&sections::VERIFY), &open(&sections::ROLES)),
            dry_run: top.flag("dryRun", false),
        };
        top.word("belowMinimum", (), &[("keep", Some(())), ("delete", None)]);
        if request.minimum_level > request.consistency {
            let (minimum, wanted) = (request.minimum_level.as_str(), request.consistency.as_str());
            top.problem("minimumLevel", format!("{minimum} is above consistency ({wanted})"));
        }
        if request.minimum_level > Level::Crash && !request.linux.enable_fs_freeze {
            let minimum = request.minimum_level.as_str();
            top.problem("minimumLevel", format!("{minimum} cannot be reached with linux.enableFsFreeze off"));
        }
        let named = request.targets.instance_ids.len();
        if request.targets.tags.is_empty() && (1..request.at_least).contains(&named) {
            let message = format!("{} is more than targets.instanceIds names ({named})", request.at_least);
            top.problem("atLeast", message);
        }
        problems.finish().map(|()| request)
    }

    /// Fields that are set to something of their own and say nothing to an instance of this system.
    pub fn unused(&self, windows: bool) -> Vec<&'static str> {
        match windows {
            true => self.linux.given(),
            false if self.enable_writers => Vec::new(),
            false => vec!["windows.enableWriters"],
        }
    }

    /// The role to assume: the request's, else that of env `APPSNAP_ROLE_ARN`; `None`: the function's own
    /// role does the work, and nothing can be narrowed.
    pub fn role(&self, env: Env) -> Result<Option<String>, Invalid> {
        let from_env = || env("APPSNAP_ROLE_ARN").filter(|arn| !arn.trim().is_empty());
        let Some(arn) = self.role_arn.clone().or_else(from_env) else { return Ok(None) };
        match role_arn(arn.trim()) {
            Ok(()) => Ok(Some(arn.trim().to_owned())),
            Err(message) => Err(Invalid(vec![Problem { path: "APPSNAP_ROLE_ARN".into(), message }])),
        }
    }

    /// The time a unit may take if everything uses its limit, in seconds.
    pub fn seconds_needed(&self) -> u64 {
        self.seconds_of_work() + MARGIN_SECONDS
    }

    /// The same without what comes before and after.
    pub fn seconds_of_work(&self) -> u64 {
        DELIVERY_SECONDS + self.script_seconds() + self.freeze_seconds()
    }

    /// Prescript and postscript run for an application-consistent copy only.
    fn script_seconds(&self) -> u64 {
        if self.consistency == Level::Application { 2 * self.linux.script_timeout_in_seconds } else { 0 }
    }

    fn freeze_seconds(&self) -> u64 {
        let freezes = self.linux.enable_fs_freeze && self.consistency > Level::Crash;
        if freezes { self.linux.timeout_in_seconds } else { 0 }
    }

    /// Refuses a run of so many units that the platform would kill in the middle; [`UNITS_AT_ONCE`] run side by side,
    /// and the next wave waits for the one before.
    pub fn check_deadline(&self, remaining: Duration, units: usize) -> Result<(), Invalid> {
        let waves = units.div_ceil(UNITS_AT_ONCE).max(1) as u64;
        let needed = waves * self.seconds_of_work() + MARGIN_SECONDS;
        if Duration::from_secs(needed) <= remaining {
            return Ok(());
        }
        let (scripts, freeze) = (self.script_seconds(), self.freeze_seconds());
        let (fleet, cure) = match waves {
            1 => (String::new(), ""),
            _ => (
                format!("; {waves} times all but the margin: {units} instances, {UNITS_AT_ONCE} at a time"),
                ", or name fewer instances",
            ),
        };
        let message = format!(
            "the limits add up to {needed} s (delivery {DELIVERY_SECONDS}, both scripts {scripts}, freeze \
             {freeze}, margin {MARGIN_SECONDS}{fleet}) and the function has {} s left: lower \
             scriptTimeoutInSeconds or raise the function's timeout{cure}",
            remaining.as_secs(),
        );
        Err(Invalid(vec![Problem { path: "linux".into(), message }]))
    }
}

fn policy_name(name: &str) -> Result<(), String> {
    let good = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good && (1..=40).contains(&name.len()) {
        Ok(())
    } else {
        Err(format!("must be 1 to 40 of a-z, 0-9 and -, not {}", quoted(name)))
    }
}

/// The region becomes part of a host name.
pub(super) fn region_id(id: &str) -> Result<(), String> {
    let good = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good && (3..=40).contains(&id.len()) && id.contains('-') && !id.starts_with('-') && !id.ends_with('-')
    {
        Ok(())
    } else {
        Err(format!("must be a region like cn-hangzhou, not {}", quoted(id)))
    }
}

pub(super) fn role_arn(arn: &str) -> Result<(), String> {
    let parts = arn.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(":role/"));
    let good = parts.is_some_and(|(account, role)| {
        (1..=20).contains(&account.len())
            && account.bytes().all(|b| b.is_ascii_digit())
            && (1..=64).contains(&role.len())
            && role.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    });
    if good { Ok(()) } else { Err(format!("must be like acs:ram::123456:role/appsnap, not {}", quoted(arn))) }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
