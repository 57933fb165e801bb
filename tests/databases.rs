//! Real servers under load, and three copies of each: of the running disks (crash), of the frozen ones, and with the
//! recipe (application). The engine is started on every copy, and its own log is judged. One line a copy on stderr.
#![allow(clippy::disallowed_methods)] // tests wait in real time

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[path = "common/database.rs"]
mod database;

use std::io::Write;

use appsnap::local::engine::{Engine, Load};
use appsnap::local::world::Settings;
use appsnap::report::{Level, Report};
use appsnap::verify::judge::State;
use bench::NEEDS;
use common::need;
use database::{Copy, Field, Layout, Seen, frozen_only};
use serde_json::json;

/// No more than two at once, also on a large machine: their disks are one file system's.
static TURNS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(2);

/// What PostgreSQL may have to replay of an application copy: its checkpoint's record, and a word of a background process.
const REDO: u64 = 1024;

#[tokio::test]
async fn copies_of_postgresql_on_one_disk_are_what_their_level_says() {
    all_loads(Engine::PostgreSql, Layout::One).await;
}

#[tokio::test]
async fn copies_of_postgresql_on_two_disks_are_what_their_level_says() {
    all_loads(Engine::PostgreSql, Layout::Two).await;
}

#[tokio::test]
async fn copies_of_mariadb_on_one_disk_are_what_their_level_says() {
    all_loads(Engine::MariaDb, Layout::One).await;
}

#[tokio::test]
async fn copies_of_mariadb_on_two_disks_are_what_their_level_says() {
    all_loads(Engine::MariaDb, Layout::Two).await;
}

/// Redis keeps data and log in one file system, or does not start.
#[tokio::test]
async fn copies_of_redis_are_what_their_level_says() {
    all_loads(Engine::Redis, Layout::One).await;
}

async fn all_loads(engine: Engine, layout: Layout) {
    if !(need(&NEEDS) && need(&engine.missing())) {
        return;
    }
    let _turn = TURNS.acquire().await.unwrap();
    let field = Field::start(engine, layout, Settings::default()).await;
    let settings = field.settings().await;
    let mut lowered = 0;
    for (n, load) in Load::ALL.into_iter().enumerate() {
        field.server.load(load, 300).await.unwrap();
        let crash = field.crash_copy(load).await;
        let frozen = field.run(load, &format!("2026-11-22T03:{n}0:00Z"), frozen_only()).await;
        let application = field.run(load, &format!("2026-11-22T03:{n}5:00Z"), json!({})).await;
        let what = format!("{} {}, {}", engine.name(), load.name(), layout.name());
        // Of Redis, that load is a script, and nobody is served as long as it runs.
        let served = load != Load::Idle && (engine, load) != (Engine::Redis, Load::OpenTransaction);
        assert!(!served || field.writes().await, "{what}: no client can write any more");
        field.server.unload().await.unwrap();
        assert_eq!(field.left(&settings).await, Vec::<String>::new(), "{what}: left in the guest");

        tell(&what, "crash", &crash, &field.prove(&crash).await);
        let seen = field.prove(&frozen).await;
        tell(&what, "frozen", &frozen, &seen);
        assert_eq!(level(&frozen), (Level::Filesystem, &[] as &[String]), "{what}");
        file_system(engine, &what, &seen);
        let seen = field.prove(&application).await;
        tell(&what, "application", &application, &seen);
        if load == Load::OpenTransaction {
            let report = application.report.as_ref().unwrap();
            assert_eq!(level(&application), (Level::Filesystem, &["script.failed".to_owned()][..]), "{what}");
            assert!(finding(report).contains("exit 10"), "{what}: {}", finding(report));
            file_system(engine, &what, &seen);
        } else if level(&application).0 == Level::Filesystem {
            // Seldom, InnoDB writes of its own accord under the lock; then it is told.
            let told = finding(application.report.as_ref().unwrap());
            lowered += 1;
            assert!(engine == Engine::MariaDb && told.contains("log of its own"), "{what}: {told}");
            assert!(lowered < 3, "{what}: again and again: {told}");
            file_system(engine, &what, &seen);
        } else {
            assert_eq!(level(&application), (Level::Application, &[] as &[String]), "{what}");
            as_promised(engine, &what, &seen);
        }
    }
    field.server.stop().await.unwrap();
    field.bench.close().await;
}

/// A frozen copy: it starts, and whatever was acknowledged is in it after a recovery. Not so with Redis: while an fsync
/// of everysec is at work, what it has acknowledged may be in its memory alone.
fn file_system(engine: Engine, what: &str, seen: &Seen) {
    let lost = if engine == Engine::Redis { 0 } else { seen.lost };
    assert!(seen.verdict.state < State::Broken && lost == 0, "{what}: {:?}", seen.verdict);
}

/// A copy at the level `application`.
fn as_promised(engine: Engine, what: &str, seen: &Seen) {
    let verdict = &seen.verdict;
    assert_eq!((verdict.state, seen.lost), (State::Clean, 0), "{what}: {verdict:?}");
    assert_eq!(verdict.rolled_back.unwrap_or(0), 0, "{what}: {verdict:?}");
    let says = |words: &str| verdict.evidence.iter().any(|line| line.contains(words));
    match engine {
        Engine::PostgreSql => assert!(verdict.redo_bytes.unwrap() <= REDO, "{what}: {verdict:?}"),
        Engine::MariaDb => assert!(!says("Starting crash recovery"), "{what}: {verdict:?}"),
        Engine::Redis => assert!(!says("truncat"), "{what}: {verdict:?}"),
    }
}

fn level(copy: &Copy) -> (Level, &[String]) {
    let unit = &copy.report.as_ref().unwrap().units[0];
    (unit.level, &unit.reasons)
}

/// Why the level is not higher, in words.
fn finding(report: &Report) -> String {
    let unit = &report.units[0];
    let reasons = unit.findings.iter().filter(|finding| unit.reasons.contains(&finding.code));
    reasons.map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// Straight to the descriptor: the test harness keeps what the macros of a passing test print.
fn tell(what: &str, copy: &str, made: &Copy, seen: &Seen) {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let unit = made.report.as_ref().map(|report| &report.units[0]);
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
    let line = format!(
        "{what:<40} {copy:<11}: level {:<11} {:<10} redo {:>9} B, rolled back {:>2}, lost {:>5}, up after {:>5} ms, \
         quiesced {:>5} ms, frozen {:>4} ms\n",
        unit.map_or("crash", |unit| unit.level.as_str()),
        seen.verdict.state.as_str(),
        number(seen.verdict.redo_bytes),
        number(seen.verdict.rolled_back),
        seen.lost,
        number(seen.start_ms),
        ms(unit.and_then(|unit| unit.quiesced_ms)),
        ms(unit.and_then(|unit| unit.frozen_ms)),
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}
