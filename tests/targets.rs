//! Fleets and times through the real `bootstrap` against the local cloud with its real guest.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use appsnap::local::cloud::{ACCOUNT, INSTANCE, REGION};
use appsnap::local::world::{Instance, Policy, Role, Settings, Tags, Trust};
use appsnap::report::{Level, Report, Status};
use bench::{Bench, HOLD, NEEDS, kill, read, request, tick, vendor_tags, verdict};
use common::need;
use serde_json::json;

const AT: &str = "2026-11-22T03:00:00Z";
const OTHER: &str = "2345678901234567";
const SHANGHAI: &str = "cn-shanghai";

/// The guest is in one of two accounts and regions, as it is; the others' agents are dead.
fn populate(bench: &Bench) {
    bench.cloud.server.cloud.look(|world, _| {
        let tags = |value: &str| Tags([("backup".to_string(), value.to_string())].into());
        world.add_region(SHANGHAI);
        for (id, account, region, value) in [
            ("i-2", ACCOUNT, SHANGHAI, "weekly"),
            ("i-3", OTHER, REGION, "weekly"),
            ("i-4", OTHER, REGION, "never"),
        ] {
            world.add_instance(Instance {
                id: id.into(),
                account_id: account.into(),
                region_id: region.into(),
                zone_id: format!("{region}-k"),
                status: "Running".into(),
                os_type: "linux".into(),
                tags: tags(value),
                ..Instance::default()
            });
        }
        // The function may assume all of them.
        for (account, name, external_id) in [
            (OTHER, "appsnap", Some("orders")),
            (ACCOUNT, "appsnap-strict", Some("orders")),
            (ACCOUNT, "appsnap-function", None),
        ] {
            let (account_id, name, policy) = (account.into(), name.into(), Policy::full());
            let external_id = external_id.map(str::to_owned);
            world.add_role(Role { account_id, name, trust: Trust::open(), external_id, policy });
        }
    });
}

fn codes(report: &Report, unit: usize) -> Vec<&str> {
    report.units[unit].reasons.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_fleet_by_tags_is_done_with_the_role_of_each_scope() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings { page_limit: 2, ..Settings::default() }, "true").await;
    populate(&bench);
    let own = format!("acs:ram::{ACCOUNT}:role/appsnap-strict");
    let other = format!("acs:ram::{OTHER}:role/appsnap");
    let targets = json!({
        "tags": { "backup": ["nightly", "weekly"] },
        // The guest's own session has to be assumed with the ExternalId too.
        "scope": [{ "roleArn": own, "externalId": "orders", "regionIds": [REGION, SHANGHAI] },
                  { "roleArn": other, "externalId": "orders" }],
    });
    let report = bench.send(tick(AT, json!({ "targets": targets }))).await.report;
    let units: Vec<_> =
        report.units.iter().map(|u| (&*u.instance_ids[0], &*u.account_id, &*u.region_id, u.level)).collect();
    assert_eq!(
        units,
        [
            (INSTANCE, ACCOUNT, REGION, Level::Application),
            ("i-2", ACCOUNT, SHANGHAI, Level::None),
            ("i-3", OTHER, REGION, Level::None),
        ]
    );
    // They have no disks either.
    assert!((1..3).all(|unit| codes(&report, unit).contains(&"agent.offline")), "{:?}", report.units);
    assert_eq!(report.status, Status::Refused, "a fleet is as its worst unit");
    assert_eq!(report.summary, [("refused".to_string(), 2), ("succeeded".to_string(), 1)].into());
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    bench.close().await;
}

#[tokio::test]
async fn a_function_killed_in_mid_run_is_settled_in_a_blackout_window_and_no_other_run_begins_there() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), HOLD).await;
    populate(&bench);
    let targets = json!({ "tags": { "backup": ["nightly"] } });
    let killed = bench.send_off(tick(AT, json!({ "targets": targets })));
    bench.until("[ -e /run/at-work ]").await;
    kill(&bench);
    killed.await.unwrap();
    bench.until("touch /run/go-on; [ -e /run/appsnap/a-*/end ]").await;
    // The same event finds that the policy has a window now, and the instance has lost its tag.
    bench.cloud.server.cloud.look(|world, _| world.instance_mut(INSTANCE).unwrap().tags.0.remove("backup"));
    let windows = json!([{ "from": "00:00", "to": "12:00", "timezone": "UTC" },
                         { "from": "12:00", "to": "00:00", "timezone": "UTC" }]);
    let later = json!({ "targets": targets, "notDuring": windows });
    let mut last = bench.send(tick(AT, later.clone())).await.report;
    for _ in 0..10 {
        if last.status != Status::Pending {
            break;
        }
        // The agent tells the end a little later.
        bench.until("sleep 0.3").await;
        last = bench.send(tick(AT, later.clone())).await.report;
    }
    assert_eq!(verdict(&last), (Status::Degraded, Level::Crash, vec!["group.unproven"]));
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    let next = bench.send(tick("2026-11-23T03:00:00Z", later)).await;
    assert_eq!(
        (next.report.status, next.report.exit_code(), next.report.units.len()),
        (Status::Missed, 6, 0)
    );
    assert_eq!(next.outcome.error_type, None);
    assert_eq!(next.report.notifications[0].status, "delivered");
    assert_eq!((bench.groups().await.len(), bench.trace().await.len()), (1, 2));
    bench.close().await;
}

#[tokio::test]
async fn the_example_by_tags_finds_the_guest() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let report = bench.send(include_bytes!("../events/by-tags.json").to_vec()).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    assert_eq!(report.units[0].instance_ids, [INSTANCE]);
    bench.close().await;
}

#[tokio::test]
async fn an_event_that_is_handed_on_still_knows_when_it_was_due() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let event = json!({
        "id": "7f0d4b52", "source": "orders.release", "specversion": "1.0", "type": "orders:Release:Planned",
        "time": AT, "data": request(json!({ "startWithinSeconds": 3600 })),
    });
    let first = bench.send(event.to_string().into_bytes()).await.report;
    assert_eq!(first.status, Status::Pending);
    let handed_on = bench.cloud.function.finish_queue().await;
    let report = read(handed_on.into_iter().next().unwrap()).report;
    assert_eq!((report.status, &report.run), (Status::Missed, &first.run));
    assert_eq!(report.error.unwrap().code, "schedule.late");
    assert_eq!((bench.groups().await.len(), bench.trace().await.len()), (0, 0));
    bench.close().await;
}
