//! Events through the whole handler against the local cloud's world: fleets, accounts, times.

use serde_json::json;

use super::*;
use crate::local::world::Settings;
use crate::protect::realm::{EXTERNAL_ID, REGIONS, ROLES, Realm};
use crate::report::{Level, Severity};

const DUE: &str = "2026-11-22T03:00:00Z";

fn app(realm: &Realm, role: &str) -> App {
    let env = [("APPSNAP_ROLE_ARN", role)].map(|(name, value)| (name.to_string(), value.to_string()));
    App {
        clock: realm.clock.clone(),
        transport: realm.transport(),
        endpoints: Endpoints::default(),
        identities: Arc::default(),
        http: https_client(None).unwrap(),
        support: Default::default(),
        pinned: false,
        env: env.into(),
    }
}

/// Sends one event and gives its report.
async fn send(realm: &Realm, event: serde_json::Value) -> Report {
    send_to(app(realm, ROLES[0]), realm, event).await
}

async fn send_to(app: App, realm: &Realm, event: serde_json::Value) -> Report {
    let invocation = Invocation {
        request_id: "1-1".into(),
        async_task_id: None,
        region_id: Some(REGIONS[0].into()),
        account_id: Some("1".into()),
        function: None,
        credentials: Some(realm.credentials()),
        deadline: realm.deadline(),
    };
    let mut reports = app.handle(event.to_string().as_bytes(), &invocation).await;
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

fn request(fields: serde_json::Value) -> serde_json::Value {
    let mut request = json!({
        "policy": "p", "targets": { "tags": { "backup": ["nightly"] } },
        "consistency": "application", "linux": { "scriptTimeoutInSeconds": 30 },
    });
    for (key, value) in fields.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

/// A timer tick that was due at [`DUE`].
fn tick(fields: serde_json::Value) -> serde_json::Value {
    json!({ "triggerTime": DUE, "triggerName": "nightly", "payload": request(fields).to_string() })
}

fn nightly(realm: &Realm, id: &str, account: &str, region: &str) {
    realm.add(id, account, region, &[("backup", "nightly")]);
}

/// Nothing but reads was asked.
fn nothing_was_touched(realm: &Realm) {
    for action in ["RunCommand", "CreateSnapshotGroup", "TagResources"] {
        assert_eq!(realm.calls(action), 0, "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_in_two_accounts_is_judged_unit_by_unit() {
    let realm = Realm::new(Settings { page_limit: 1, ..Settings::default() });
    nightly(&realm, "i-1", "1", REGIONS[0]);
    nightly(&realm, "i-2", "1", REGIONS[1]);
    nightly(&realm, "i-3", "2", REGIONS[0]);
    realm.add("i-4", "2", REGIONS[0], &[]);
    let scope = json!([
        { "regionIds": REGIONS }, { "roleArn": ROLES[1], "externalId": EXTERNAL_ID, "regionIds": [REGIONS[0]] },
        { "regionIds": [REGIONS[0]] },
    ]);
    let report =
        send(&realm, tick(json!({ "targets": { "tags": { "backup": ["nightly"] }, "scope": scope } }))).await;
    assert_eq!((report.status, report.error.clone()), (Status::Refused, None));
    let units: Vec<_> =
        report.units.iter().map(|u| (&*u.instance_ids[0], &*u.account_id, &*u.region_id)).collect();
    assert_eq!(units, [("i-1", "1", REGIONS[0]), ("i-2", "1", REGIONS[1]), ("i-3", "2", REGIONS[0])]);
    assert!(report.units.iter().all(|unit| unit.reasons == ["agent.offline"] && unit.disk_ids.len() == 1));
    assert_eq!(report.summary, [("refused".to_string(), 3)].into());
    nothing_was_touched(&realm);
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_fails_is_a_unit_without_an_instance_and_the_run_has_failed() {
    let realm = Realm::new(Settings::default());
    nightly(&realm, "i-1", "1", REGIONS[0]);
    let scope = json!([{ "roleArn": ROLES[1], "externalId": "wrong" }, {}]);
    let targets = json!({ "tags": { "backup": ["nightly"] }, "scope": scope });
    let report = send(&realm, tick(json!({ "targets": targets }))).await;
    assert_eq!((report.status, report.exit_code()), (Status::Failed, 1));
    assert_eq!(report.units[0].reasons, ["agent.offline"]);
    let failed = &report.units[1];
    assert_eq!((failed.instance_ids.len(), &*failed.account_id, &*failed.region_id), (0, "2", REGIONS[0]));
    assert_eq!(failed.error.as_ref().unwrap().code, "NoPermission");
    // A scope that is the only one is the whole run.
    let targets = json!({ "tags": { "backup": ["nightly"] }, "scope": [scope[0]] });
    let report = send(&realm, tick(json!({ "targets": targets }))).await;
    assert_eq!((report.status, report.units.len()), (Status::Failed, 0));
    assert_eq!(report.error.unwrap().code, "NoPermission");
}

#[tokio::test(start_paused = true)]
async fn an_external_id_without_a_role_is_refused_by_its_path() {
    let realm = Realm::new(Settings::default());
    let targets = json!({ "instanceIds": ["i-1"], "scope": [{}, { "externalId": "orders" }] });
    let report = send_to(app(&realm, ""), &realm, tick(json!({ "targets": targets }))).await;
    let error = report.error.unwrap();
    assert_eq!((report.status, error.code.as_str()), (Status::Failed, "InvalidRequest"));
    assert!(error.message.starts_with("targets.scope[1].externalId: there is no role"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_matches_nothing_fails_the_run() {
    let realm = Realm::new(Settings::default());
    let report = send(&realm, tick(json!({}))).await;
    assert_eq!((report.status, report.exit_code(), report.units.len()), (Status::Failed, 1, 0));
    assert_eq!(report.error.unwrap().code, "targets.none");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_comes_too_late_is_missed_and_touches_nothing() {
    let late = json!({ "startWithinSeconds": 3600 });
    for (hours, missed) in [(0, false), (5, true)] {
        let realm = Realm::new(Settings::default());
        nightly(&realm, "i-1", "1", REGIONS[0]);
        realm.clock.sleep(std::time::Duration::from_secs(hours * 3600)).await;
        let report = send(&realm, tick(late.clone())).await;
        nothing_was_touched(&realm);
        if !missed {
            assert_eq!(report.status, Status::Refused);
            continue;
        }
        assert_eq!((report.status, report.exit_code(), report.units.len()), (Status::Missed, 6, 0));
        let error = report.error.unwrap();
        assert_eq!((error.code.as_str(), realm.calls("DescribeInstances")), ("schedule.late", 0));
        assert!(error.message.contains("due at 2026-11-22T03:00:00Z, 18000 s ago"), "{error:?}");
        // A manual request was never due, one that was handed on still knows when.
        assert_eq!(send(&realm, request(late.clone())).await.status, Status::Refused);
        let handed_on = event::handed_on(&request(late.clone()), Some(DUE.parse().unwrap()));
        assert_eq!(send(&realm, handed_on).await.status, Status::Missed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blackout_window_holds_for_every_kind_of_event() {
    let realm = Realm::new(Settings::default());
    nightly(&realm, "i-1", "1", REGIONS[0]);
    // Eleven o'clock there.
    let window = json!({ "notDuring": [{ "from": "08:00", "to": "20:00", "timezone": "Asia/Shanghai" }] });
    for event in [tick(window.clone()), request(window.clone())] {
        let report = send(&realm, event).await;
        assert_eq!((report.status, report.units.len()), (Status::Missed, 0));
        assert_eq!(report.error.unwrap().code, "schedule.blackout");
    }
    nothing_was_touched(&realm);
    realm.clock.sleep(std::time::Duration::from_secs(9 * 3600)).await;
    assert_eq!(send(&realm, tick(window)).await.status, Status::Refused, "at eight in the evening");
}

/// Sixty guests that never end their command.
fn slow_fleet(settings: Settings) -> Realm {
    let realm = Realm::new(settings);
    for n in 0..60 {
        let id = format!("i-{n:02}");
        nightly(&realm, &id, "1", REGIONS[0]);
        realm.enliven(&id);
    }
    realm
}

#[tokio::test(start_paused = true)]
async fn fifty_units_are_at_work_at_once_and_the_others_wait_for_their_turn() {
    let realm = slow_fleet(Settings::default());
    let (run, looked) = tokio::join!(send(&realm, tick(json!({}))), async {
        realm.clock.sleep(std::time::Duration::from_secs(50)).await;
        realm.calls("RunCommand")
    });
    assert_eq!((looked, realm.calls("RunCommand")), (50, 60));
    assert_eq!((run.status, run.units.len()), (Status::Failed, 60));
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_turn_comes_in_a_blackout_window_is_missed() {
    let realm = slow_fleet(Settings::default());
    let window = json!({ "notDuring": [{ "from": "03:01", "to": "04:00", "timezone": "UTC" }] });
    let report = send(&realm, tick(window)).await;
    assert_eq!((report.status, realm.calls("RunCommand")), (Status::Failed, 50));
    let missed: Vec<&Unit> =
        report.units.iter().filter(|unit| unit.reasons == ["schedule.blackout"]).collect();
    assert_eq!((missed.len(), report.summary["missed"]), (10, 10));
    let told = missed[0].findings.iter().find(|finding| finding.code == "schedule.blackout").unwrap();
    assert_eq!(told.severity, Severity::Blocker);
    assert!(told.message.contains("notDuring is 03:01 to 04:00"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_meets_rate_limits_is_slower_and_loses_nobody() {
    // Those that come once or twice for each.
    let often = [
        "DescribeInvocations",
        "DescribeSnapshotGroups",
        "RunCommand",
        "TagResources",
        "DescribeDisks",
        "DescribeInstanceRamRole",
    ];
    let limits = often.map(|action| (action.to_string(), 25)).into();
    let realm = slow_fleet(Settings { limits, ..Settings::default() });
    let report = send(&realm, tick(json!({}))).await;
    assert_eq!(report.units.len(), 60);
    let throttled = |unit: &&Unit| format!("{unit:?}").contains("Throttling");
    let lost: Vec<_> = report.units.iter().filter(throttled).collect();
    assert!(lost.is_empty(), "{} units, e.g. {:?}", lost.len(), lost[0]);
    assert!(report.duration_ms > 120_000, "{} ms", report.duration_ms);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_of_a_fleet_is_a_success_and_its_repeat_is_one_at_any_time() {
    let realm = Realm::new(Settings::default());
    nightly(&realm, "i-1", "1", REGIONS[0]);
    realm.world.lock().unwrap().instance_mut("i-1").unwrap().status = "Stopped".into();
    let event = tick(json!({ "startWithinSeconds": 3600 }));
    let report = send(&realm, event.clone()).await;
    assert_eq!((report.status, report.units[0].level), (Status::Succeeded, Level::Crash));
    assert_eq!((&report.units[0].reasons[0][..], realm.calls("RunCommand")), ("instance.stopped", 0));
    // Too late for a run, with another tag, and up again: it is a repeat all the same.
    realm.world.lock().unwrap().instance_mut("i-1").unwrap().status = "Running".into();
    realm.world.lock().unwrap().instance_mut("i-1").unwrap().tags.0.clear();
    realm.clock.sleep(std::time::Duration::from_secs(5 * 3600)).await;
    let again = send(&realm, event).await;
    assert_eq!((again.status, again.outcome), (Status::Skipped, Some(Status::Succeeded)));
    assert_eq!((realm.calls("CreateSnapshotGroup"), realm.calls("RunCommand")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_is_seen_to_though_its_fleet_takes_too_long_by_now() {
    let realm = Realm::new(Settings::default());
    nightly(&realm, "i-x", "1", REGIONS[0]);
    realm.world.lock().unwrap().instance_mut("i-x").unwrap().status = "Stopped".into();
    // One wave fits, two do not.
    let event = tick(json!({ "linux": { "scriptTimeoutInSeconds": 780 } }));
    assert_eq!(send(&realm, event.clone()).await.status, Status::Succeeded);
    (0..60).for_each(|n| nightly(&realm, &format!("i-{n}"), "1", REGIONS[0]));
    let again = send(&realm, event.clone()).await;
    assert_eq!((again.status, again.units.len(), &again.error), (Status::Failed, 2, &None));
    assert_eq!((&*again.units[0].instance_ids[0], again.units[0].level), ("i-x", Level::Crash));
    let error = again.units[1].error.as_ref().unwrap();
    assert!(error.message.contains("61 instances, 50 at a time"), "{error:?}");
    // Of another tick nothing has begun.
    let other = json!({ "triggerTime": "2026-11-22T03:00:01Z", "triggerName": "nightly", "payload": event["payload"] });
    let other = send(&realm, other).await;
    assert_eq!((other.units.len(), &*other.error.unwrap().code), (0, "InvalidRequest"));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_that_cannot_be_read_is_told_as_one() {
    let realm = Realm::new(Settings::default());
    for dry in [json!(true), json!("true"), json!(false)] {
        let told = send(&realm, tick(json!({ "dryRun": dry, "minimumLevel": "best" }))).await;
        assert_eq!(told.error.unwrap().code, "InvalidRequest");
        assert_eq!((told.dry_run, told.occurrence.starts_with("dry run of ")), (dry != false, dry != false));
    }
}
