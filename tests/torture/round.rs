//! One round: an event, a crime at its instant, the event again until it is settled, then the invariants.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use appsnap::local::fc::Outcome;
use appsnap::report::{Level, Report, Status};
use serde_json::Value;

use super::crime::{self, Aftermath};
use super::plan::{Crime, Plan, When, Whom};
use super::site::Site;
use super::truth;

/// Time for an answer of the function: three windows with the pauses between them, and their settling.
const ANSWER: Duration = Duration::from_secs(200);

/// What a flaw offends against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    LeftFrozen,
    Overstated,
    PostscriptMissed,
    /// The report does not tell what happened, something stays in the guest, or the run never ends.
    Other,
}

/// What became of a round.
#[derive(Debug)]
pub struct Record {
    pub plan: Plan,
    /// Whether the crime found its victim.
    pub committed: bool,
    /// Whether the window was open then.
    pub inside: bool,
    pub level: Level,
    pub reasons: Vec<String>,
    pub flaws: Vec<(Law, String)>,
    /// All reports, for a failure.
    pub reports: Vec<Report>,
    /// A freeze that landed after the limit was seen.
    pub landed_late: bool,
    /// How another event fared.
    pub rival: Option<(Status, Vec<String>)>,
    pub took: Duration,
}

/// What was seen of freezes while a round ran.
#[derive(Default)]
struct Watched {
    /// By mount: how long past its limit, at most.
    past: BTreeMap<String, Duration>,
    /// `/` was frozen, though its disk is not in the group.
    stranger: bool,
    /// The trap has sprung, and whether the window was open then.
    sprung: Option<bool>,
    landed_late: bool,
}

pub async fn run(site: &Site, plan: &Plan) -> Record {
    let begun = SystemTime::now();
    site.probe.forget();
    crime::set(site, plan).await;
    site.ready(plan);
    let mut record = Record {
        plan: plan.clone(),
        committed: false,
        inside: false,
        level: Level::None,
        reasons: Vec::new(),
        flaws: Vec::new(),
        reports: Vec::new(),
        landed_late: false,
        rival: None,
        took: Duration::ZERO,
    };
    let watched = RefCell::new(Watched::default());
    tokio::select! {
        () = act(site, &mut record) => {}
        () = watch(site, plan, &watched) => {}
        () = nap(120_000) => record.flaws.push((Law::Other, "not over after 120 s".into())),
    }
    let watched = watched.into_inner();
    record.landed_late = watched.landed_late;
    if plan.when == When::Set {
        (record.committed, record.inside) = (watched.sprung.is_some(), watched.sprung == Some(true));
    }
    if watched.stranger {
        record.flaws.push((Law::Other, "/ was frozen, though its disk is not in the group".into()));
    }
    for (mount, past) in watched.past {
        record.flaws.push((Law::LeftFrozen, format!("{mount} frozen {past:?} past its limit and a second")));
    }
    record.took = begun.elapsed().unwrap_or_default();
    record
}

async fn nap(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Nothing may be frozen later than a second after the limit, counted from the arming. A freeze that lands after the
/// limit (of a freezer that was stopped, or is slow) cannot be thawed before it lands: it has a second from there.
async fn watch(site: &Site, plan: &Plan, watched: &RefCell<Watched>) {
    let second = Duration::from_secs(1);
    let limit = match plan.crime {
        Crime::Both => Duration::from_secs(3600), // only `settle` is left to thaw
        // What is frozen below is theirs until their own thaw.
        Crime::Jam => Duration::from_secs(plan.limit + 2).max(Duration::from_millis(plan.millis / 3 + 500)),
        _ => Duration::from_secs(plan.limit),
    };
    loop {
        let now = SystemTime::now();
        if plan.when == When::Set && watched.borrow().sprung.is_none() && crime::sprung(site, plan) {
            watched.borrow_mut().sprung = Some(site.inside.window_is_open());
        }
        let attempts = site.inside.attempts();
        let armed =
            attempts.iter().filter_map(|one| site.inside.written_at(&format!("appsnap/{one}/armed"))).max();
        if let Some(armed) = armed {
            for (mount, frozen_since) in site.probe.frozen() {
                let last = (armed + limit).max(frozen_since) + second + site.probe.noise(armed);
                let mut watched = watched.borrow_mut();
                watched.stranger |= mount == "/" && !plan.root;
                watched.landed_late |= frozen_since > armed + limit;
                if let Ok(past) = now.duration_since(last) {
                    let most = watched.past.entry(mount).or_default();
                    *most = past.max(*most);
                }
            }
        }
        nap(25).await;
    }
}

async fn act(site: &Site, record: &mut Record) {
    let plan = record.plan.clone();
    let mut sent = vec![site.bench.send_off(plan.event())];
    if plan.crime == Crime::TwoEvents {
        sent.push(site.bench.send_off(plan.event()));
    }
    let came = come(site, plan.when, &sent).await;
    let mut after = None;
    let mut open = false;
    for _ in 0..60 {
        if !came || plan.when == When::Set {
            break;
        }
        open = site.inside.window_is_open();
        after = crime::commit(site, &plan).await;
        // A freezer is there for some milliseconds only: it is looked for.
        let freezer = matches!(plan.crime, Crime::Kill(Whom::Freezer) | Crime::Stop(Whom::Freezer));
        if after.is_some() || !freezer || !open {
            break;
        }
        nap(1).await;
    }
    record.committed = after.is_some();
    record.inside = record.committed && open;
    let after = after.unwrap_or_default();
    if plan.crime == Crime::Both && plan.which & 2 == 2 {
        site.bench
            .cloud
            .function
            .pids()
            .iter()
            .for_each(|pid| super::inside::signal(*pid, rustix::process::Signal::KILL));
    }
    if !after.stopped.is_empty() {
        nap(plan.millis).await;
        crime::go_on(&after, site);
    }
    if let Crime::Rival(_) = plan.crime {
        // Whoever is second is refused, or comes after; its own run obeys the same laws.
        match tokio::time::timeout(ANSWER, site.bench.send_off(plan.rival())).await {
            Ok(Ok(outcome)) => truth::rival(record, read(&outcome)),
            _ => record.flaws.push((Law::Other, "the rival got no answer in time".into())),
        }
    }
    for one in sent {
        match tokio::time::timeout(ANSWER, one).await {
            Ok(Ok(outcome)) => keep(record, &outcome),
            _ => return record.flaws.push((Law::Other, "the function gave no answer in time".into())),
        }
    }
    let settled = settle(site, record).await;
    if let Some(innocent) = &after.innocent {
        if !site.inside.processes().iter().any(|one| one.pid == innocent.pid && one.state != 'Z') {
            record.flaws.push((
                Law::Other,
                format!("an innocent process with the id of a dead {:?} was killed", plan.crime),
            ));
        }
        super::inside::signal(innocent.pid, rustix::process::Signal::KILL);
    }
    quiet(site, record, &after).await;
    if let Some(settled) = settled {
        truth::check(site, record, &settled).await;
    }
    if let Err(why) = crime::unset(site, &plan).await {
        record.flaws.push((Law::Other, why));
    }
    if !site.same_mounts() {
        record.flaws.push((Law::Other, "the guest has other mounts than before".into()));
    }
}

/// Waits for the instant; false: it never came.
async fn come(site: &Site, when: When, sent: &[tokio::task::JoinHandle<Outcome>]) -> bool {
    let inside = &site.inside;
    let (file, millis) = match when {
        When::Set => return true,
        When::Sent(millis) => {
            nap(millis).await;
            return true;
        }
        When::Started(millis) => ("main", millis),
        When::Prescript(millis) => ("", millis),
        When::Launch(millis) => ("pre.todo", millis),
        When::Armed(millis) => ("armed", millis),
        When::Over(millis) => ("over", millis),
    };
    let is_there = || match when {
        When::Prescript(_) => inside.attempts().iter().any(|attempt| inside.begun(attempt, "pre").is_some()),
        _ => inside.of_attempt(file).is_some_and(|path| inside.has(&path)),
    };
    while !is_there() {
        if sent.iter().all(|one| one.is_finished()) {
            return false;
        }
        nap(2).await;
    }
    nap(millis).await;
    true
}

/// Keeps a report that tells of the run itself.
fn keep(record: &mut Record, outcome: &Outcome) {
    if let Some(report) = read(outcome)
        && !matches!(report.status, Status::Pending | Status::Skipped)
    {
        record.reports.push(report);
    }
}

/// The report in an answer, plain or inside an error; none where the function died.
fn read(outcome: &Outcome) -> Option<Report> {
    let body: Value = serde_json::from_slice(&outcome.body).ok()?;
    serde_json::from_value(body.get("report").unwrap_or(&body).clone()).ok()
}

/// Sends the event again until it is settled: the answer that says so.
async fn settle(site: &Site, record: &mut Record) -> Option<Report> {
    for _ in 0..60 {
        let outcome = site.bench.send_off(record.plan.event()).await.unwrap();
        keep(record, &outcome);
        if let Some(report) = read(&outcome)
            && report.status == Status::Skipped
        {
            record.level = report.units[0].level;
            record.reasons =
                record.reports.last().map(|one| one.units[0].reasons.clone()).unwrap_or_default();
            return Some(report);
        }
        nap(300).await;
    }
    record.flaws.push((Law::Other, "never settled, though the event was sent 60 times again".into()));
    None
}

/// Waits until the guest is as it was; what stays is a flaw, also what is frozen.
async fn quiet(site: &Site, record: &mut Record, after: &Aftermath) {
    let mut left = Vec::new();
    for _ in 0..80 {
        left = site.left(&record.plan);
        if left.is_empty() {
            break;
        }
        nap(150).await;
    }
    let stopped = if after.stopped.is_empty() { "" } else { " (after SIGCONT)" };
    record.flaws.extend(left.into_iter().map(|what| (Law::Other, format!("left{stopped}: {what}"))));
    let mut mounts = site.bench.cloud.guest.mounts().to_vec();
    if record.plan.crime == Crime::Jam {
        mounts.push("/mnt/jam".into());
    }
    for mount in mounts {
        match site.bench.cloud.guest.is_frozen(&mount).await {
            Ok(false) => {}
            Ok(true) => record.flaws.push((Law::LeftFrozen, format!("{mount} is frozen at the end"))),
            Err(failure) => record.flaws.push((Law::Other, failure.0)),
        }
    }
}
