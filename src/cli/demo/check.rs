//! Whether a fault was survived, asked of the guest and the cloud themselves: no word of the report is taken for it.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;

use super::diary::{Diary, Wait};
use super::strike::{THEIRS, in_guest, window};
use crate::acs::Client;
use crate::api::ecs::{self, GroupFilter, SnapshotGroup};
use crate::cli::Failure;
use crate::cli::fault::{Fault, Kind};
use crate::clock::Clock;
use crate::local::cloud::{INSTANCE, LocalCloud, REGION};
use crate::report::{Level, Report};

/// One thing that has to be so.
#[derive(Debug, serde::Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    pub(super) ok: bool,
    pub(super) evidence: String,
}

fn check(check: &'static str, ok: bool, evidence: impl Into<String>) -> Check {
    Check { check, ok, evidence: evidence.into() }
}

/// After a run: what it came to.
pub(super) struct Seen<'a> {
    pub(super) clock: &'a Clock,
    pub(super) cloud: &'a LocalCloud,
    pub(super) client: &'a Client,
    pub(super) fault: &'static Fault,
    pub(super) report: &'a Report,
    pub(super) diary: &'a Diary,
    /// What was done in mid-run, or why it was not.
    pub(super) struck: Result<String, String>,
    pub(super) disks: &'a [Value],
    /// The demo had to thaw from outside.
    pub(super) rescued: bool,
}

impl Seen<'_> {
    /// All checks. Somebody else's freeze is looked at first, and then ended as they would end it.
    pub(super) async fn checks(&self) -> Result<Vec<Check>, Failure> {
        let mut checks = vec![self.struck()];
        if self.fault.kind == Kind::FreezeForeign {
            let still = self.cloud.guest.is_frozen(THEIRS).await?;
            checks.push(check(
                "what is theirs stays theirs",
                still,
                if still { format!("{THEIRS} is still frozen") } else { format!("{THEIRS} was thawed") },
            ));
            if still {
                in_guest(&self.cloud.guest, "fsfreeze --unfreeze \"$1\"", &[THEIRS]).await?;
                self.diary.note(format!("the other backup tool thaws {THEIRS}"));
            }
        }
        checks.push(self.frozen().await?);
        checks.push(self.in_time());
        checks.push(self.scripts().await?);
        checks.push(self.alone().await?);
        let groups = self.groups().await?;
        checks.push(self.label(&groups).await?);
        checks.push(self.known(&groups));
        if self.level() >= Level::Filesystem {
            checks.push(self.copies());
        }
        checks.push(self.told());
        Ok(checks)
    }

    fn level(&self) -> Level {
        self.report.units.iter().map(|unit| unit.level).max().unwrap_or_default()
    }

    fn longest(&self) -> Option<Wait> {
        let ours = |wait: &Wait| self.fault.kind != Kind::FreezeForeign || wait.mount != THEIRS;
        self.diary.waits().into_iter().filter(ours).max_by_key(|wait| wait.long)
    }

    /// A fault that did not happen was not survived.
    fn struck(&self) -> Check {
        match &self.struck {
            Ok(what) => check("the fault happened", true, what),
            Err(why) => check("the fault happened", false, why),
        }
    }

    async fn frozen(&self) -> Result<Check, Failure> {
        let (mut ok, mut evidence) = (!self.rescued, Vec::new());
        if self.rescued {
            evidence.push("it was, until the demo thawed it from outside".to_owned());
        }
        for mount in self.cloud.guest.mounts() {
            if self.cloud.guest.is_frozen(mount).await? {
                ok = false;
                evidence.push(format!("{mount} IS FROZEN"));
                continue;
            }
            let from = self.clock.now();
            let script = "echo . >\"$1/.appsnap-asked\" && rm \"$1/.appsnap-asked\"";
            let written = self.cloud.guest.exec(script, &[mount], b"", Duration::from_secs(10)).await?.ok();
            ok &= written;
            let ms = self.clock.now().duration_since(from).as_millis();
            evidence.push(format!("{mount} took a write {}in {ms} ms", if written { "" } else { "NOT " }));
        }
        Ok(check("nothing is frozen", ok, evidence.join(", ")))
    }

    /// A writer from outside waited no longer than the window may be open; a second is promised beyond it, another one
    /// is for a busy machine. A freeze that hangs in the kernel cannot be thawed before the kernel lets go.
    fn in_time(&self) -> Check {
        const NAME: &str = "thawed in time";
        let Some(longest) = self.longest() else { return check(NAME, true, "no writer had to wait") };
        let waited = format!("a writer on {} waited {} ms at most", longest.mount, longest.long.as_millis());
        if self.fault.kind == Kind::FreezeTooSlow {
            let went_on = self.diary.lines().into_iter().rfind(|(_, line)| self.struck.as_ref() == Ok(line));
            let late = went_on.map(|(at, _)| longest.until.duration_since(at).as_millis());
            let evidence =
                format!("{waited}, until {} ms after the disks went on", late.unwrap_or(i128::MAX));
            return check(NAME, late.is_some_and(|ms| ms <= 2000), evidence);
        }
        let limit = Duration::from_secs(window(self.fault.kind));
        let evidence = format!("{waited}; timeoutInSeconds is {}", limit.as_secs());
        check(NAME, longest.long <= limit + Duration::from_secs(2), evidence)
    }

    /// From the trace that the scripts themselves leave: each prescript is followed by one postscript.
    async fn scripts(&self) -> Result<Check, Failure> {
        let trace = in_guest(&self.cloud.guest, "cat /run/trace 2>/dev/null || :", &[]).await?;
        let (ran, paired) = pairs(&trace);
        let evidence = match (ran, paired) {
            (0, true) => "the prescript never started".to_owned(),
            _ => format!("the scripts' own trace: {}", trace.lines().collect::<Vec<_>>().join(", ")),
        };
        Ok(check("the postscript ran, once", paired, evidence))
    }

    /// Nothing of the run lives on in the guest, and the next one may start.
    async fn alone(&self) -> Result<Check, Failure> {
        const SCRIPT: &str = "[ ! -L /run/appsnap/lock ] || echo the lock
            for p in /proc/[0-9]*; do
                line=$(tr '\\0' ' ' 2>/dev/null <\"$p/cmdline\")
                case ${p#/proc/}:$line in
                $$:*) ;;
                *'/sequence.sh '* | *:curl\\ * | *' /tmp/p'*script.sh* | *:sleep\\ 4711*) echo \"process ${p#/proc/} $line\" ;;
                esac
            done";
        let from = self.clock.now();
        loop {
            let left = in_guest(&self.cloud.guest, SCRIPT, &[]).await?;
            // The watchdog has some seconds to go home.
            let late = self.clock.now().duration_since(from) > SignedDuration::from_secs(15);
            if left.is_empty() || late {
                let evidence = if left.is_empty() {
                    "no process and no lock of the run is left in the guest".to_owned()
                } else {
                    format!("left: {}", left.lines().collect::<Vec<_>>().join(", "))
                };
                return Ok(check("the guest is free", left.is_empty(), evidence));
            }
            self.clock.sleep(Duration::from_millis(200)).await;
        }
    }

    /// All groups of the instance.
    async fn groups(&self) -> Result<Vec<SnapshotGroup>, Failure> {
        let filter = GroupFilter { instance_id: Some(INSTANCE), ..GroupFilter::default() };
        let found = ecs::describe_snapshot_groups(self.client, REGION, &filter).await;
        found.map_err(|error| Failure::new(error.to_string()))
    }

    /// The group that the report names.
    fn named(&self) -> Option<&str> {
        self.report.units.iter().find_map(|unit| unit.snapshot_group_id.as_deref())
    }

    /// The report's level and every tag in the cloud against what can be true at most.
    async fn label(&self, groups: &[SnapshotGroup]) -> Result<Check, Failure> {
        let (level, ceiling) = (self.level(), self.fault.ceiling);
        let there = groups.iter().any(|group| self.named() == Some(&group.snapshot_group_id));
        let mut ok = level <= ceiling && (level == Level::None || there);
        let mut evidence = vec![format!("level {}; at most {} is true", level.as_str(), ceiling.as_str())];
        for group in groups {
            let id = &group.snapshot_group_id;
            let allowed = if self.named() == Some(id) { level } else { Level::Crash };
            let claimed = self.claimed(group).await?;
            ok &= claimed.iter().all(|claim| *claim <= allowed);
            let highest = claimed.iter().max().copied().unwrap_or_default();
            evidence.push(format!("{id}: {} snapshots, tagged {} at most", claimed.len(), highest.as_str()));
        }
        Ok(check("the label is not overstated", ok, evidence.join("; ")))
    }

    /// A group that the report does not name would stay for ever.
    fn known(&self, groups: &[SnapshotGroup]) -> Check {
        let ids = groups.iter().map(|group| group.snapshot_group_id.as_str());
        let (known, lost): (Vec<&str>, Vec<&str>) = ids.partition(|id| self.named() == Some(*id));
        let evidence = match (&lost[..], &known[..]) {
            ([], []) => "the cloud has no group".to_owned(),
            ([], _) => format!("the cloud has {}, and the report names it", known.join(", ")),
            _ => format!("the report does not name {}", lost.join(", ")),
        };
        check("no copy is lost", lost.is_empty(), evidence)
    }

    /// What the tags of each snapshot claim.
    async fn claimed(&self, group: &SnapshotGroup) -> Result<Vec<Level>, Failure> {
        let ids: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
        let seen = ecs::describe_snapshots(self.client, REGION, &ids).await;
        let seen = seen.map_err(|error| Failure::new(error.to_string()))?;
        let highest = |one: &ecs::Snapshot| {
            one.tags.iter().map(|tag| claim(&tag.key, &tag.value)).max().unwrap_or(Level::Crash)
        };
        Ok(seen.iter().map(highest).collect())
    }

    /// What is called consistent has nothing to replay.
    fn copies(&self) -> Check {
        let clean = |disk: &&Value| disk["snapshotCopy"]["clean"] == true;
        let bad: Vec<String> = self
            .disks
            .iter()
            .filter(|disk| !clean(disk))
            .map(|disk| {
                format!(
                    "{}: {}",
                    disk["diskId"].as_str().unwrap_or_default(),
                    disk["snapshotCopy"]["evidence"]
                )
            })
            .collect();
        let evidence = if bad.is_empty() {
            format!("{} disks made from the group have no journal to replay", self.disks.len())
        } else {
            bad.join(", ")
        };
        check("the copies are what the label says", bad.is_empty() && !self.disks.is_empty(), evidence)
    }

    /// A lower level has its reason.
    fn told(&self) -> Check {
        let short = |unit: &&crate::report::Unit| unit.level < unit.wanted;
        let reasons: Vec<&str> = self
            .report
            .units
            .iter()
            .filter(short)
            .flat_map(|unit| &unit.reasons)
            .map(String::as_str)
            .collect();
        let lower = self.report.units.iter().any(|unit| short(&unit));
        let evidence = match (lower, self.report.units.is_empty()) {
            (_, true) => "the report has no unit".to_owned(),
            (false, _) => "the wanted level is reached: there is nothing to explain".to_owned(),
            (true, _) => format!("reasons: {}", reasons.join(", ")),
        };
        check("the reason is told", !self.report.units.is_empty() && lower != reasons.is_empty(), evidence)
    }
}

/// What a tag claims for its snapshot.
fn claim(key: &str, value: &str) -> Level {
    match (key, value) {
        ("APPConsistent", _) | ("appsnap:level", "application") => Level::Application,
        ("FsConsistent", _) | ("appsnap:level", "filesystem") => Level::Filesystem,
        _ => Level::Crash,
    }
}

/// How many prescripts a trace has, and whether exactly one postscript follows each.
fn pairs(trace: &str) -> (usize, bool) {
    let lines: Vec<&str> = trace.lines().collect();
    let pair = |pair: &[&str]| matches!(pair, ["pre", post] if post.starts_with("post "));
    (lines.iter().filter(|line| **line == "pre").count(), lines.chunks(2).all(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prescript_wants_one_postscript() {
        assert_eq!(pairs(""), (0, true));
        assert_eq!(pairs("pre\npost none\npre\npost crash\n"), (2, true));
        for bad in ["pre", "post none", "pre\npre\npost none", "pre\npost none\npost none"] {
            assert!(!pairs(bad).1, "{bad}");
        }
    }

    #[test]
    fn a_vendors_tag_claims_whatever_stands_in_it() {
        assert_eq!(claim("APPConsistent", "False"), Level::Application);
        assert_eq!(claim("appsnap:level", "filesystem"), Level::Filesystem);
        assert_eq!(claim("team", "application"), Level::Crash);
    }
}
