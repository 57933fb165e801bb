//! Not my turn (exit 75): two nodes of a cluster under one policy, of which one declines, or both.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use appsnap::local::cloud::{INSTANCE, REGION};
use appsnap::local::guest::{DiskSpec, Guest};
use appsnap::local::store::Filesystem;
use appsnap::local::world::{Disk, Settings};
use appsnap::report::{Level, Report, Status, Unit};
use bench::{Bench, NEEDS, tick};
use common::need;
use serde_json::{Value, json};

const OTHER: &str = "i-bp1demo00000000000b";

/// A second node beside the one that every local cloud has.
async fn second(bench: &Bench) -> Arc<Guest> {
    bench.cloud.cloud.look(|world, _| {
        let mut instance = world.instance_mut(INSTANCE).unwrap().clone();
        instance.id = OTHER.into();
        let (account_id, zone_id) = (instance.account_id.clone(), instance.zone_id.clone());
        world.add_instance(instance);
        for (n, kind) in ["system", "data"].into_iter().enumerate() {
            world.add_disk(Disk {
                id: format!("d-bp1other{n}"),
                account_id: account_id.clone(),
                region_id: REGION.into(),
                zone_id: zone_id.clone(),
                instance_id: Some(OTHER.into()),
                category: "cloud_essd".into(),
                performance_level: "PL1".into(),
                size: 40,
                status: "In_use".into(),
                kind: kind.into(),
                ..Disk::default()
            });
        }
    });
    let disk = |n: usize, mount: &str| DiskSpec {
        disk_id: format!("d-bp1other{n}"),
        size_mib: 48,
        filesystem: Filesystem::Ext4,
        mount: Some(mount.into()),
    };
    let wanted = vec![(OTHER.to_owned(), vec![disk(0, "/"), disk(1, "/data")])];
    bench.cloud.add_guests(wanted).await.unwrap().remove(OTHER).unwrap()
}

async fn scripts(guest: &Guest, pre: &str) {
    for (phase, what) in [("pre", pre), ("post", "true")] {
        let text = format!("#!/bin/sh\necho {phase} >>/run/trace\n{what}\n");
        guest.write_file(&format!("/tmp/{phase}script.sh"), text.as_bytes(), "700").await.unwrap();
    }
}

fn both(time: &str, fields: Value) -> Vec<u8> {
    let mut all = json!({ "targets": { "instanceIds": [INSTANCE, OTHER] } });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    tick(time, all)
}

fn of<'a>(report: &'a Report, id: &str) -> &'a Unit {
    report.units.iter().find(|unit| unit.instance_ids == [id]).unwrap()
}

fn summary(report: &Report) -> Vec<(&str, u32)> {
    report.summary.iter().map(|(status, count)| (status.as_str(), *count)).collect()
}

#[tokio::test]
async fn of_a_cluster_who_declines_is_skipped_and_if_all_do_the_run_has_failed() {
    if !need(&NEEDS) {
        return;
    }
    const DECLINE: &str = "echo 'here the primary is served' >&2; exit 75";
    let bench = Bench::start(Settings::default(), DECLINE).await;
    let other = second(&bench).await;
    scripts(&other, "true").await;
    // A check runs no script: nobody knows who will decline.
    let check =
        bench.send(both("2026-11-21T03:00:00Z", json!({ "dryRun": true, "atLeast": 2 }))).await.report;
    assert_eq!((check.status, &check.error), (Status::Succeeded, &None), "{check:#?}");
    const AT: &str = "2026-11-22T03:00:00Z";
    let report = bench.send(both(AT, json!({}))).await.report;
    assert_eq!(
        (report.status, report.exit_code(), &report.error),
        (Status::Succeeded, 0, &None),
        "{report:#?}"
    );
    assert_eq!(summary(&report), [("skipped", 1), ("succeeded", 1)]);
    let unit = of(&report, INSTANCE);
    assert!(unit.declined() && unit.snapshots.is_empty() && unit.frozen_ms.is_none(), "{unit:#?}");
    let told = unit.findings.iter().find(|finding| finding.code == "script.declined").unwrap();
    assert!(told.message.ends_with("its last words: here the primary is served"), "{told:?}");
    assert_eq!(of(&report, OTHER).level, Level::Application);
    assert_eq!(bench.trace().await, ["pre", "post none"]);
    assert!(bench.groups().await.is_empty());
    assert_eq!(bench.records().await.len(), 2);
    // The same event again: nobody is asked, and it came to the same.
    let again = bench.send(both(AT, json!({}))).await.report;
    assert_eq!((again.status, again.outcome), (Status::Skipped, Some(Status::Succeeded)), "{again:#?}");
    assert_eq!((summary(&again), &again.error), (vec![("skipped", 2)], &None));
    assert!(of(&again, INSTANCE).declined() && of(&again, OTHER).level == Level::Application);
    assert_eq!(bench.trace().await.len(), 2);
    // One is too few.
    let report = bench.send(both("2026-11-23T03:00:00Z", json!({ "atLeast": 2 }))).await.report;
    assert_eq!((report.status, summary(&report)), (Status::Failed, vec![("skipped", 1), ("succeeded", 1)]));
    assert_eq!(report.error.unwrap().code, "units.few");
    // All decline.
    scripts(&other, "exit 75").await;
    for (status, outcome) in [(Status::Failed, None), (Status::Skipped, Some(Status::Failed))] {
        let report = bench.send(both("2026-11-24T03:00:00Z", json!({}))).await.report;
        assert_eq!((report.status, report.outcome, report.exit_code()), (status, outcome, 1), "{report:#?}");
        assert_eq!(summary(&report), [("skipped", 2)]);
        let error = report.error.unwrap();
        assert_eq!(error.code, "units.few");
        assert!(error.message.starts_with("of 2 instances 0 are done and 2 declined"), "{error:?}");
    }
    let message: Value = serde_json::from_slice(&bench.cloud.sink.deliveries().last().unwrap().body).unwrap();
    assert_eq!(message["error"]["code"], "units.few");
    let seen = other.exec("cat /run/trace", &[], b"", Duration::from_secs(5)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout).lines().filter(|line| *line == "post").count(), 3);
    for mount in other.mounts() {
        assert!(!other.is_frozen(mount).await.unwrap());
    }
    bench.close().await;
}
