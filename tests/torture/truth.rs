//! What is true of a round, by what the test itself saw, against what the report and the tags claim.

use std::time::SystemTime;

use appsnap::api::ecs::{self, GroupFilter};
use appsnap::local::cloud::{DISKS, REGION};
use appsnap::local::inspect;
use appsnap::report::{Level, Report, Status};

use super::plan::{Crime, Plan, Whom};
use super::round::{Law, Record};
use super::site::Site;

/// Sets the claims beside the truth; `settled` is the answer to the last repeat of the event.
pub async fn check(site: &Site, record: &mut Record, settled: &Report) {
    let mut flaws = scripts(site, &record.plan);
    flaws.extend(copies(site, &record.plan, settled).await);
    flaws.extend(told(record, settled));
    if record.committed
        && matches!(record.plan.crime, Crime::Kill(Whom::Prescript | Whom::PrescriptGroup))
        && record.level == Level::Application
        && !site.inside.read("trace").unwrap_or_default().contains("quiet ")
    // struck after its work was done
    {
        flaws.push((Law::Overstated, "application, although the prescript was killed".into()));
    }
    record.flaws.extend(flaws);
}

/// The postscript ran once, and after the prescript, if that started; else not at all.
fn scripts(site: &Site, plan: &Plan) -> Vec<(Law, String)> {
    let trace = site.inside.read("trace").unwrap_or_default();
    let mut flaws = Vec::new();
    for attempt in site.inside.attempts() {
        let lines: Vec<&str> =
            trace.lines().filter(|line| line.split(' ').nth(1) == Some(attempt.as_str())).collect();
        let at = |word: &str| {
            let found = lines.iter().enumerate().filter(|(_, line)| line.split(' ').next() == Some(word));
            found.map(|(at, _)| at).collect::<Vec<_>>()
        };
        let (pre, post, posted) = (at("pre"), at("post"), at("posted"));
        // One that was killed before its first line has started too.
        let started = !pre.is_empty() || site.inside.begun(&attempt, "pre").is_some();
        let expected = usize::from(started);
        let ordered = pre.iter().all(|pre| post.iter().all(|post| pre < post));
        if pre.len() > 1 || post.len() != expected || posted.len() != expected || !ordered {
            flaws.push((
                Law::PostscriptMissed,
                format!("prescript started: {started}, and the scripts did: {lines:?}"),
            ));
        }
        if plan.consistency != "application" && started {
            flaws.push((Law::Other, "a script ran though none was asked for".into()));
        }
    }
    flaws
}

/// Each disk of the group was cut while all its file systems were frozen, and its copy was at rest, if that is claimed;
/// the vendor's tags say the same as the report.
async fn copies(site: &Site, plan: &Plan, settled: &Report) -> Vec<(Law, String)> {
    let mut flaws = Vec::new();
    let unit = &settled.units[0];
    let tags = [("appsnap:run".to_owned(), settled.run.clone())];
    let filter = GroupFilter { tags: &tags, ..GroupFilter::default() };
    let groups = ecs::describe_snapshot_groups(&site.bench.client, REGION, &filter).await.unwrap();
    if unit.level == Level::None && !groups.is_empty() {
        flaws.push((Law::Other, "a group exists that the report does not tell of".into()));
    }
    let group = groups.iter().find(|group| Some(&group.snapshot_group_id) == unit.snapshot_group_id.as_ref());
    if unit.level > Level::None && group.is_none() {
        flaws.push((Law::Overstated, format!("{:?}, and the cloud shows no such group", unit.level)));
    }
    // Also of a group that the report does not claim, no tag may say more than it.
    for other in &groups {
        let ids: Vec<String> = other.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
        let claimed = if group.is_some_and(|group| group.snapshot_group_id == other.snapshot_group_id) {
            unit.level
        } else {
            Level::Crash
        };
        for seen in ecs::describe_snapshots(&site.bench.client, REGION, &ids).await.unwrap() {
            let tag = |key: &str| seen.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
            let vendor = (tag("APPConsistent"), tag("FsConsistent"));
            let expected = match claimed {
                Level::Application => (Some("True"), None),
                Level::Filesystem => (None, Some("True")),
                _ => (None, None),
            };
            if vendor != expected || claimed > Level::Crash && tag("appsnap:level") != Some(claimed.as_str())
            {
                let law = if expected == (None, None) { Law::Overstated } else { Law::Other };
                flaws.push((
                    law,
                    format!(
                        "{}: tags {vendor:?} {:?}, the report says {claimed:?}",
                        seen.snapshot_id,
                        tag("appsnap:level")
                    ),
                ));
            }
        }
    }
    if unit.level < Level::Filesystem {
        return flaws;
    }
    let chosen: Vec<_> = DISKS.iter().filter(|(_, _, mount, _)| plan.root || *mount != "/").collect();
    let mounts: Vec<String> = chosen.iter().map(|(_, _, mount, _)| (*mount).to_owned()).collect();
    let members = group.map(|group| group.snapshots.clone()).unwrap_or_default();
    if members.len() != chosen.len() {
        flaws
            .push((Law::Overstated, format!("{} of {} disks are in the group", members.len(), chosen.len())));
    }
    for (disk_id, filesystem, ..) in chosen {
        let Some(member) = members.iter().find(|one| one.source_disk_id == *disk_id) else { continue };
        let image = site.bench.cloud.store.snapshot(&member.snapshot_id);
        // The store makes the file at the cut.
        let cut = image.metadata().and_then(|seen| seen.created()).unwrap();
        if unit.level == Level::Application && !between_scripts(site, cut) {
            flaws.push((Law::Overstated, format!("{disk_id} was not cut between prescript and postscript")));
        }
        if !site.probe.waited(&mounts, cut) {
            flaws.push((
                Law::Overstated,
                format!("{disk_id} was cut while not all of {mounts:?} were frozen"),
            ));
        }
        let verdict = inspect::judge(&image, *filesystem).await.unwrap();
        if !verdict.clean {
            flaws.push((Law::Overstated, format!("{disk_id}: {}", verdict.evidence)));
        }
    }
    flaws
}

/// Whether a prescript had come to its end before that instant, and its postscript not begun.
fn between_scripts(site: &Site, cut: SystemTime) -> bool {
    let trace = site.inside.read("trace").unwrap_or_default();
    let cut = cut.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let lines: Vec<Vec<&str>> = trace.lines().map(|line| line.split(' ').collect()).collect();
    let at = |what: &str, attempt: &str| -> Option<u128> {
        let line = lines.iter().find(|line| line[0] == what && line.get(1) == Some(&attempt))?;
        line.get(2)?.parse().ok()
    };
    // The store's clock has steps of 4 ms.
    let slack = 5_000_000;
    site.inside.attempts().iter().any(|attempt| {
        at("quiet", attempt).is_some_and(|quiet| quiet < cut + slack)
            && at("post", attempt).is_some_and(|post| cut < post + slack)
    })
}

/// The report names what happened.
fn told(record: &Record, settled: &Report) -> Vec<(Law, String)> {
    let mut flaws = Vec::new();
    let Some(last) = record.reports.last() else {
        // Who was killed after it had settled the run and before it could answer: the repeat tells what is left.
        return flaws;
    };
    let unit = &last.units[0];
    if settled.outcome != Some(last.status) || settled.units[0].level != unit.level {
        let (then, now) = ((last.status, unit.level), (settled.outcome, settled.units[0].level));
        flaws.push((Law::Other, format!("first told {then:?}, later {now:?}")));
    }
    let mut codes: Vec<&str> = unit.reasons.iter().map(String::as_str).collect();
    codes.extend(unit.error.iter().map(|error| error.code.as_str()));
    if unit.level < unit.wanted && codes.is_empty() {
        flaws.push((
            Law::Other,
            format!("{:?} instead of {:?}, and no reason is told", unit.level, unit.wanted),
        ));
    }
    // Whatever the report tells of, in codes and in steps that went wrong.
    codes.extend(unit.findings.iter().map(|finding| finding.code.as_str()));
    codes.extend(unit.timeline.iter().filter(|step| step.outcome != "ok").map(|step| step.step.as_str()));
    let fitting = super::plan::fitting(record.plan.crime);
    if record.committed
        && unit.level < unit.wanted
        && !codes.iter().any(|code| fitting.iter().any(|word| code.starts_with(word)))
    {
        flaws.push((Law::Other, format!("what is told does not fit the crime: {codes:?}")));
    }
    flaws
}

/// Another event that came while the guest was at work: refused, or done after.
pub fn rival(record: &mut Record, report: Option<Report>) {
    let Some(report) = report else {
        return record.flaws.push((Law::Other, "the rival got no report".into()));
    };
    let unit = &report.units[0];
    if unit.level < unit.wanted && unit.reasons.is_empty() && unit.error.is_none() {
        record.flaws.push((Law::Other, format!("the rival is {:?}, and no reason is told", report.status)));
    }
    if unit.reasons.iter().any(|code| code == "busy")
        && (report.status != Status::Refused || unit.reasons.len() > 1)
    {
        record.flaws.push((
            Law::Other,
            format!("the guest was busy, and yet: {:?} {:?}", report.status, unit.reasons),
        ));
    }
    record.rival = Some((report.status, unit.reasons.clone()));
}
