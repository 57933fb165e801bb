//! Several attempts at one unit, through the real `bootstrap` and the local cloud with its real guest.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use appsnap::local::world::{Fault, Mishap, Settings};
use appsnap::report::{Level, Status};
use bench::{Bench, HOLD, NEEDS, fault, kill, tick, vendor_tags, verdict};
use common::need;
use serde_json::json;

const AT: &str = "2026-11-22T03:00:00Z";

#[tokio::test]
async fn a_throttled_window_is_followed_by_one_with_a_new_token() {
    if !need(&NEEDS) {
        return;
    }
    let settings = fault("CreateSnapshotGroup", Some(1), Mishap::Code(400, "Throttling.User".into()));
    let bench = Bench::start(settings, "true").await;
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    let unit = &report.units[0];
    let note = unit.findings.iter().find(|finding| finding.code == "attempt.failed").unwrap();
    assert!(note.message.contains("attempt 1") && note.message.contains("Throttling.User"), "{note:?}");
    // Whoever sends a token a second time gets the first one's answer: so the token is a new one.
    assert_eq!((unit.attempt, bench.groups().await.len()), (2, 1));
    assert_eq!(bench.trace().await, ["pre", "post none", "pre", "post application"]);
    let records = bench.records().await;
    let outcomes: Vec<_> = records.iter().map(|tags| tags["appsnap:outcome"].as_str()).collect();
    assert_eq!(outcomes, ["again", "succeeded"]);
    assert_ne!(records[0]["appsnap:attempt"], records[1]["appsnap:attempt"]);
    assert!(bench.tags().await.iter().all(|tags| tags["appsnap:run"] == report.run));
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    let repeat = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!((repeat.status, repeat.units[0].attempt), (Status::Skipped, 2));
    bench.close().await;
}

#[tokio::test]
async fn a_cloud_that_fails_each_create_of_a_window_gets_another_one() {
    if !need(&NEEDS) {
        return;
    }
    let failing = |nth| Fault {
        action: "CreateSnapshotGroup".into(),
        nth: Some(nth),
        what: Mishap::Code(503, "ServiceUnavailable".into()),
    };
    let settings = Settings { faults: (1..=3).map(failing).collect(), ..Settings::default() };
    let bench = Bench::start(settings, "true").await;
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    assert_eq!((report.units[0].attempt, bench.groups().await.len()), (2, 1));
    let note = report.units[0].findings.iter().find(|finding| finding.code == "attempt.failed").unwrap();
    assert!(note.message.contains("c1: HTTP 503 ServiceUnavailable"), "{note:?}");
    bench.close().await;
}

#[tokio::test]
async fn a_create_that_seemed_to_fail_is_looked_for_and_no_second_group_is_made() {
    if !need(&NEEDS) {
        return;
    }
    let what = Mishap::DoneBut(500, "InternalError".into());
    let late = Duration::from_secs(6);
    let settings = Settings { visible_after: late, ..fault("CreateSnapshotGroup", None, what) };
    let bench = Bench::start(settings, "true").await;
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Crash, vec!["create.failed"]));
    assert_eq!((report.units[0].attempt, bench.groups().await.len()), (1, 1));
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    assert!(bench.tags().await.iter().all(|tags| tags["appsnap:level"] == "crash"));
    assert_eq!(bench.trace().await, ["pre", "post none"]);
    bench.close().await;
}

#[tokio::test]
async fn a_function_killed_in_its_second_attempt_is_settled_by_the_same_event() {
    if !need(&NEEDS) {
        return;
    }
    let settings = fault("CreateSnapshotGroup", Some(1), Mishap::Code(400, "Throttling.User".into()));
    let hold_the_second = format!("[ -e /run/first ] || {{ touch /run/first; exit 0; }}\n{HOLD}");
    let bench = Bench::start(settings, &hold_the_second).await;
    let killed = bench.send_off(tick(AT, json!({})));
    bench.until("[ -e /run/at-work ]").await;
    kill(&bench);
    assert_eq!(killed.await.unwrap().error_type, Some("UnhandledInvocationError"));
    let meanwhile = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!((meanwhile.status, meanwhile.units[0].attempt), (Status::Pending, 2));
    bench.until("touch /run/go-on; set -- /run/appsnap/a-*/end; [ $# = 2 ] && [ -e $2 ]").await;
    let mut last = bench.send(tick(AT, json!({}))).await.report;
    for _ in 0..20 {
        if last.status != Status::Pending {
            break;
        }
        // The agent tells the end a little later.
        bench.until("sleep 0.3").await;
        last = bench.send(tick(AT, json!({}))).await.report;
    }
    assert_eq!(verdict(&last), (Status::Degraded, Level::Crash, vec!["group.unproven"]));
    assert_eq!((last.units[0].attempt, bench.groups().await.len()), (2, 1));
    assert_eq!(bench.trace().await, ["pre", "post none", "pre", "post application"]);
    let outcomes: Vec<_> = bench.records().await.iter().map(|tags| tags["appsnap:outcome"].clone()).collect();
    assert_eq!(outcomes, ["again", "degraded"]);
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    bench.close().await;
}
