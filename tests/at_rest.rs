//! A stopped instance, through the real `bootstrap` and the local cloud.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use appsnap::local::cloud::INSTANCE;
use appsnap::local::world::{Mishap, Settings};
use appsnap::report::{Level, Status};
use bench::{Bench, NEEDS, fault, tick, vendor_tags, verdict};
use common::need;
use serde_json::json;

const AT: &str = "2026-11-22T03:00:00Z";
const LATER: &str = "2026-11-22T04:00:00Z";

fn turn(bench: &Bench, status: &str) {
    bench.cloud.server.cloud.look(|world, _| world.instance_mut(INSTANCE).unwrap().status = status.into());
}

fn calls(bench: &Bench, action: &str) -> u64 {
    bench.cloud.server.cloud.look(|world, _| world.calls(action))
}

#[tokio::test]
async fn a_stopped_instance_gets_its_copy_and_nobody_is_alarmed() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    turn(&bench, "Stopped");
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Crash, vec!["instance.stopped"]));
    let unit = &report.units[0];
    assert_eq!((report.exit_code(), &*unit.engine, unit.snapshots.len()), (0, "none", 3));
    let told: Vec<_> = unit.findings.iter().filter(|finding| finding.code == "instance.stopped").collect();
    assert_eq!(told.len(), 1, "{:?}", unit.findings);
    assert_eq!((calls(&bench, "RunCommand"), calls(&bench, "CreateSnapshotGroup")), (0, 1));
    let tags = bench.tags().await;
    assert!(tags.iter().all(|tags| tags["appsnap:level"] == "crash"), "{tags:?}");
    assert!(tags.iter().all(|tags| tags["appsnap:reason"] == "instance.stopped"), "{tags:?}");
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    // A repeat is one, whatever the instance does by now.
    for status in ["Running", "Starting", "Stopped"] {
        turn(&bench, status);
        let again = bench.send(tick(AT, json!({}))).await.report;
        assert_eq!((again.status, again.outcome), (Status::Skipped, Some(Status::Succeeded)), "{status}");
        assert_eq!((again.units[0].level, bench.groups().await.len()), (Level::Crash, 1));
    }
    assert_eq!((calls(&bench, "RunCommand"), calls(&bench, "CreateSnapshotGroup")), (0, 1));
    assert_eq!(bench.trace().await, [] as [&str; 0]);
    // The next event finds it running: all there is to have.
    turn(&bench, "Running");
    let report = bench.send(tick(LATER, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    bench.close().await;
}

#[tokio::test]
async fn two_equal_events_at_the_same_moment_give_one_group_of_a_stopped_instance() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    turn(&bench, "Stopped");
    let (one, two) = tokio::join!(bench.send(tick(AT, json!({}))), bench.send(tick(AT, json!({}))));
    for report in [&one.report, &two.report] {
        assert_eq!(report.outcome.unwrap_or(report.status), Status::Succeeded, "{report:?}");
    }
    let groups = bench.groups().await;
    assert_eq!(groups.len(), 1, "{groups:?}");
    for report in [&one.report, &two.report] {
        assert_eq!(report.units[0].snapshot_group_id.as_ref(), Some(&groups[0].snapshot_group_id));
    }
    bench.close().await;
}

#[tokio::test]
async fn what_a_stopped_instance_cannot_give_is_refused_untouched() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    for (status, reason, minimum) in [
        ("Stopped", "instance.stopped", "filesystem"),
        ("Stopping", "instance.state", "crash"),
        ("Starting", "instance.state", "crash"),
        ("Pending", "instance.state", "crash"),
    ] {
        turn(&bench, status);
        let report = bench.send(tick(AT, json!({ "minimumLevel": minimum }))).await.report;
        assert_eq!(verdict(&report), (Status::Refused, Level::None, vec![reason]), "{status}");
    }
    assert_eq!((calls(&bench, "RunCommand"), calls(&bench, "CreateSnapshotGroup")), (0, 0));
    bench.close().await;
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_gives_one_group_and_its_refusal_names_the_rule() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(fault("CreateSnapshotGroup", Some(1), Mishap::DropReply), "true").await;
    turn(&bench, "Stopped");
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Crash, vec!["instance.stopped"]));
    assert_eq!((calls(&bench, "CreateSnapshotGroup"), bench.groups().await.len()), (2, 1));
    let status = Some("SnapshotServiceUnavailable".into());
    bench
        .cloud
        .server
        .cloud
        .look(|world, _| world.change(Settings { account_status: status, ..Settings::default() }));
    let report = bench.send(tick(LATER, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Failed, Level::None, vec!["snapshot.service"]));
    let error = report.units[0].error.as_ref().unwrap();
    assert_eq!(error.code, "InvalidAccountStatus.SnapshotServiceUnavailable");
    bench.close().await;
}
