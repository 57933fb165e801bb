//! Thaw under every death: random crimes against the sequence, its helpers, the agent, the function and the cloud, at
//! random instants of a whole run in the local cloud, most of them while the guest is frozen.
//!
//!     KILLS=500 cargo test --release --test torture -- --ignored --nocapture
//!
//! `SEED=` takes a printed seed back, `ONLY=kind` has one kind of crime only, `ROUND=` has one round only (of that seed
//! and kind), `CLOUDS=` says how many local clouds work side by side (4).
#![allow(clippy::disallowed_methods)] // tests measure real time

#[path = "common/bench.rs"]
#[allow(dead_code)] // other tests ask it more
mod bench;
#[path = "common/mod.rs"]
mod common;
#[path = "torture/crime.rs"]
mod crime;
#[path = "torture/inside.rs"]
mod inside;
#[path = "torture/plan.rs"]
mod plan;
#[path = "torture/probe.rs"]
mod probe;
#[path = "torture/round.rs"]
mod round;
#[path = "torture/site.rs"]
mod site;
#[path = "torture/truth.rs"]
mod truth;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use appsnap::report::Level;
use plan::Plan;
use round::{Law, Record};
use site::Site;

/// After so many rounds a cloud is given up for a new one: a disk may have 256 snapshots.
const LIFE: u64 = 40;

#[test]
fn a_few_dozen_crimes_leave_nothing_frozen_and_no_lie() {
    torture(24);
}

#[test]
#[ignore = "the long one: KILLS=500 cargo test --release --test torture -- --ignored --nocapture"]
fn any_number_of_crimes_leaves_nothing_frozen_and_no_lie() {
    torture(setting("KILLS").unwrap_or(100));
}

/// The watch itself: it sees a freeze while it lasts, of that file system only, and not a moment longer.
#[tokio::test]
async fn the_probe_sees_a_freeze_where_and_while_it_is() {
    if !common::need(&bench::NEEDS) {
        return;
    }
    let site = Site::start().await;
    assert_eq!(site.probe.frozen(), []);
    let mount = |name: &str| [String::from(name)];
    // The thaw is armed first.
    site.bench.cloud.guest.spawn("sleep 1.5; exec fsfreeze --unfreeze /data", &[]).await.unwrap();
    site.sh("fsfreeze --freeze /data").await.unwrap();
    let (mut seen, mut at) = (Vec::new(), SystemTime::now());
    while seen.is_empty() {
        (seen, at) = (site.probe.frozen(), SystemTime::now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seen.iter().map(|(mount, _)| mount.as_str()).collect::<Vec<_>>(), ["/data"]);
    while !site.probe.frozen().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = SystemTime::now();
    assert!(site.probe.waited(&mount("/data"), at) && !site.probe.waited(&mount("/data"), after));
    assert!(!site.probe.waited(&[mount("/data"), mount("/logs")].concat(), at));
    close(Some(site)).await;
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// What all workers share.
struct Work {
    seed: u64,
    only: Option<String>,
    kills: u64,
    next: AtomicU64,
    /// Crimes that nobody is at yet.
    open: AtomicU64,
    records: Mutex<Vec<Record>>,
}

fn torture(kills: u64) {
    if !common::need(&[&bench::NEEDS[..], &["dumpe2fs", "xfs_logprint"]].concat()) {
        return;
    }
    let only: Option<String> = setting("ONLY");
    let round: Option<u64> = setting("ROUND");
    let seed = setting("SEED").unwrap_or_else(|| {
        let nonce = appsnap::clock::Clock::system().nonce();
        u64::from_str_radix(&nonce[..12], 16).unwrap()
    });
    println!("SEED={seed}");
    let begun = Instant::now();
    let work = Work {
        seed,
        only,
        kills,
        next: AtomicU64::new(round.unwrap_or(0)),
        open: AtomicU64::new(if round.is_some() { 1 } else { kills }),
        records: Mutex::default(),
    };
    let clouds = if round.is_some() { 1 } else { setting("CLOUDS").unwrap_or(4) };
    std::thread::scope(|scope| {
        for _ in 0..clouds {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(work.labour(round.is_some()));
            });
        }
    });
    let records = work.records.into_inner().unwrap();
    println!("{} rounds in {:?}", records.len(), begun.elapsed());
    sum_up(&records, kills, work.seed, round.is_none(), work.only.is_none());
}

impl Work {
    /// Round after round until there are enough crimes; one that found no victim does not count.
    async fn labour(&self, once: bool) {
        let (mut site, mut rounds) = (None, 0);
        let one_less = |open: u64| open.checked_sub(1);
        while self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            if !once && number >= self.kills * 2 {
                break; // most crimes find nobody: said at the end
            }
            if rounds == LIFE {
                close(site.take()).await;
            }
            if site.is_none() {
                (site, rounds) = (Some(Site::start().await), 0);
            }
            rounds += 1;
            let (plan, here) = (Plan::draw(self.seed, number, self.only.as_deref()), site.as_ref().unwrap());
            let record = round::run(here, &plan).await;
            self.open.fetch_add(u64::from(!record.committed && !once), Ordering::SeqCst);
            show(&record);
            if record.flaws.is_empty() {
                here.sh("rm -rf /run/appsnap/*").await.unwrap();
            } else {
                println!("FAILED {}\n  {}", plan.replay(self.seed, self.only.as_deref()), plan.told());
                record.flaws.iter().for_each(|(law, flaw)| println!("  {law:?}: {flaw}"));
                record
                    .reports
                    .iter()
                    .for_each(|one| println!("  report: {}", serde_json::to_string(one).unwrap()));
                println!("{}", here.seen());
                close(site.take()).await; // the next round begins with a guest that nothing happened to
            }
            self.records.lock().unwrap().push(record);
            if once {
                break;
            }
        }
        close(site.take()).await;
    }
}

async fn close(site: Option<Site>) {
    if let Some(site) = site {
        let Site { bench, probe, .. } = site;
        bench.cloud.guest.thaw_all().await.unwrap();
        drop(probe);
        bench.cloud.close().await.unwrap();
    }
}

fn show(record: &Record) {
    let victim = if record.committed { "" } else { ", nobody there" };
    let place = if record.inside { ", in the window" } else { "" };
    println!(
        "round {} {} {:?}{place}{victim}: {} {:?}{} ({:.1} s)",
        record.plan.round,
        record.plan.kind,
        record.plan.when,
        record.level.as_str(),
        record.reasons,
        record.rival.as_ref().map(|rival| format!(", rival {rival:?}")).unwrap_or_default(),
        record.took.as_secs_f64()
    );
}

/// `counted`: it was no replay of one round; `all`: of all kinds.
fn sum_up(records: &[Record], kills: u64, seed: u64, counted: bool, all: bool) {
    let committed: Vec<&Record> = records.iter().filter(|one| one.committed).collect();
    let mut kinds: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for one in &committed {
        let (all, inside) = kinds.entry(one.plan.kind).or_default();
        *all += 1;
        *inside += u32::from(one.inside);
    }
    let kinds: Vec<String> =
        kinds.iter().map(|(kind, (all, inside))| format!("{kind} {all} ({inside})")).collect();
    println!("by kind (in the window): {}", kinds.join(", "));
    let count = |so: &dyn Fn(&&&Record) -> bool| committed.iter().filter(so).count();
    let inside = count(&|one| one.inside);
    println!(
        "in the window: {inside} of {}; nobody to hit: {}; claimed: {} application, {} filesystem, {} crash; freezes that landed after the limit: {}; fastFreeze in {}",
        committed.len(),
        records.len() - committed.len(),
        count(&|one| one.level == Level::Application),
        count(&|one| one.level == Level::Filesystem),
        count(&|one| one.level == Level::Crash),
        count(&|one| one.landed_late),
        count(&|one| one.plan.fast),
    );
    let flawed = |law: Law| records.iter().filter(|one| one.flaws.iter().any(|(is, _)| *is == law)).count();
    let (frozen, overstated, missed) =
        (flawed(Law::LeftFrozen), flawed(Law::Overstated), flawed(Law::PostscriptMissed));
    println!(
        "torture: kills={} left_frozen={frozen} overstated={overstated} postscript_missed={missed}",
        committed.len()
    );
    let bad: Vec<u64> =
        records.iter().filter(|one| !one.flaws.is_empty()).map(|one| one.plan.round).collect();
    assert!(bad.is_empty(), "SEED={seed}: see FAILED above: rounds {bad:?}");
    if counted {
        let found = committed.len();
        assert!(found as u64 >= kills, "SEED={seed}: only {found} crimes found a victim");
    }
    if counted && all {
        // Half of them; of a few, some.
        let enough = if kills >= 100 { committed.len() / 2 } else { 1 };
        assert!(inside >= enough, "SEED={seed}: only {inside} fell into the window: this proves little");
    }
}
