//! Events through the real `bootstrap` against the local cloud with its real guest: repeats, deaths, faults.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use appsnap::local::world::{Mishap, Settings};
use appsnap::report::{Level, Severity, Status};
use bench::{Bench, HOLD, NEEDS, fault, kill, read, request, tick, vendor_tags, verdict};
use common::need;
use serde_json::{Value, json};

const AT: &str = "2026-11-22T03:00:00Z";

#[tokio::test]
async fn the_same_event_twice_gives_one_group_and_the_second_answer_is_skipped() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let first = bench.send(tick(AT, json!({}))).await;
    assert_eq!(verdict(&first.report), (Status::Succeeded, Level::Application, vec![]));
    let second = bench.send(tick(AT, json!({}))).await;
    assert_eq!(second.outcome.error_type, None);
    let report = second.report;
    assert_eq!((report.status, report.outcome), (Status::Skipped, Some(Status::Succeeded)));
    assert_eq!(report.repeats, Some(first.report.run));
    assert_eq!((report.exit_code(), report.units[0].level), (0, Level::Application));
    // A repeat is a repeat, whatever has become of the instance since.
    bench.cloud.server.cloud.report(appsnap::local::world::Happening::Agent {
        instance_id: appsnap::local::cloud::INSTANCE.into(),
        alive: false,
    });
    let third = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!((third.status, third.outcome), (Status::Skipped, Some(Status::Succeeded)), "{third:?}");
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    let record = bench.record().await;
    assert_eq!((&*record["appsnap:outcome"], &*record["appsnap:level"]), ("succeeded", "application"));
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    bench.close().await;
}

#[tokio::test]
async fn a_function_killed_in_mid_run_is_settled_by_the_same_event() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), HOLD).await;
    let killed = bench.send_off(tick(AT, json!({})));
    bench.until("[ -e /run/at-work ]").await;
    kill(&bench);
    assert_eq!(killed.await.unwrap().error_type, Some("UnhandledInvocationError"));
    let meanwhile = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!((meanwhile.status, meanwhile.exit_code()), (Status::Pending, 5));
    bench.until("touch /run/go-on; [ -e /run/appsnap/a-*/end ]").await;
    let mut last = bench.send(tick(AT, json!({}))).await.report;
    for _ in 0..10 {
        if last.status != Status::Pending {
            break;
        }
        // The agent tells the end a little later.
        bench.until("sleep 0.3").await;
        last = bench.send(tick(AT, json!({}))).await.report;
    }
    // With the function its session's key is gone, and nobody can ask whether others fired its creates.
    assert_eq!(verdict(&last), (Status::Degraded, Level::Crash, vec!["group.unproven"]));
    let again = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!((again.status, again.outcome), (Status::Skipped, Some(Status::Degraded)));
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    assert_eq!(bench.record().await["appsnap:outcome"], "degraded");
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    bench.close().await;
}

#[tokio::test]
async fn the_end_of_a_command_settles_the_run_whose_function_died() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), HOLD).await;
    let linux = json!({ "scriptTimeoutInSeconds": 30, "thawOn": "accepted" });
    let killed = bench.send_off(tick(AT, json!({ "linux": linux })));
    bench.until("[ -e /run/at-work ]").await;
    kill(&bench);
    killed.await.unwrap();
    bench.until("touch /run/go-on; [ -e /run/appsnap/a-*/end ]").await;
    let ended = bench.task_completed().await;
    let report = bench.send(ended.clone()).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Crash, vec!["group.unproven"]));
    let again = bench.send(ended).await.report;
    assert_eq!((again.status, again.exit_code()), (Status::Skipped, 0));
    let repeat = bench.send(tick(AT, json!({ "linux": linux }))).await.report;
    assert_eq!((repeat.outcome, &repeat.run), (Some(Status::Degraded), &report.run));
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    bench.close().await;
}

#[tokio::test]
async fn two_equal_events_at_the_same_moment_give_one_group() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "sleep 1").await;
    let (one, two) = tokio::join!(bench.send(tick(AT, json!({}))), bench.send(tick(AT, json!({}))));
    let mut both = [one.report.status, two.report.status];
    both.sort();
    assert_eq!(both[0], Status::Succeeded);
    assert!([Status::Pending, Status::Skipped].contains(&both[1]), "{both:?}");
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    bench.close().await;
}

#[tokio::test]
async fn a_report_that_the_agent_lost_is_fetched_by_a_second_command() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), HOLD).await;
    let under_way = bench.send_off(tick(AT, json!({})));
    bench.until("[ -e /run/at-work ]").await;
    bench.cloud.agent.restart();
    bench.until("touch /run/go-on").await;
    let report = read(under_way.await.unwrap()).report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    let step = report.units[0].timeline.iter().find(|step| step.step == "settle-in-guest");
    assert_eq!(step.map(|step| &*step.outcome), Some("undone"), "{:?}", report.units[0].timeline);
    assert!(report.duration_ms < 60_000, "{} ms", report.duration_ms);
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    bench.close().await;
}

#[tokio::test]
async fn a_look_at_the_result_that_fails_hides_no_group() {
    if !need(&NEEDS) {
        return;
    }
    let mut begun = 0;
    // The looks at the first command are some three or four: the failing one comes while the sequence has yet to begin,
    // or is at work.
    for nth in [5, 6, 7] {
        let refused = Mishap::Code(403, "Forbidden.RAM".into());
        let bench = Bench::start(fault("DescribeInvocationResults", Some(nth), refused), "true").await;
        let report = bench.send(tick(AT, json!({}))).await.report;
        let unit = &report.units[0];
        let steps: Vec<&str> = unit.timeline.iter().map(|step| &*step.step).collect();
        if steps.contains(&"quiesce") {
            begun += 1;
            assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]), "{nth}: {unit:?}");
            assert!(!steps.contains(&"settle-in-guest"), "{nth}: {steps:?}");
            assert_eq!(vendor_tags(&bench).await, ["APPConsistent"], "{nth}");
            assert_eq!(bench.trace().await, ["pre", "post application"], "{nth}");
        } else {
            assert_eq!(bench.groups().await, [], "{nth}: {unit:?}");
        }
        bench.close().await;
    }
    assert!(begun > 0, "no look at the sequence has failed");
}

#[tokio::test]
async fn a_refused_create_fails_the_run_and_leaves_the_guest_as_it_was() {
    if !need(&NEEDS) {
        return;
    }
    let settings = fault("CreateSnapshotGroup", Some(1), Mishap::Code(403, "QuotaExceed.Snapshot".into()));
    let bench = Bench::start(settings, "true").await;
    let answer = bench.send(tick(AT, json!({}))).await;
    assert_eq!(verdict(&answer.report), (Status::Failed, Level::None, vec!["create.failed"]));
    assert_eq!(answer.outcome.error_type, Some("HandledInvocationError"));
    let finding = answer.report.units[0].findings.iter().find(|finding| finding.code == "create.failed");
    assert!(finding.unwrap().message.contains("QuotaExceed.Snapshot"), "{finding:?}");
    let rule = answer.report.units[0].findings.iter().find(|finding| finding.code == "disk.quota");
    assert!(rule.unwrap().cure.contains("delete old groups"), "{rule:?}");
    let body: Value = serde_json::from_slice(&answer.outcome.body).unwrap();
    assert!(body["errorMessage"].as_str().unwrap().contains("create.failed"), "{body}");
    assert_eq!(bench.groups().await, []);
    assert_eq!(bench.trace().await, ["pre", "post none"]);
    let again = bench.send(tick(AT, json!({}))).await;
    assert_eq!((again.report.status, again.report.outcome), (Status::Skipped, Some(Status::Failed)));
    assert_eq!((again.outcome.error_type, again.report.exit_code()), (Some("HandledInvocationError"), 1));
    bench.close().await;
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_asked_again_and_gives_one_group() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(fault("CreateSnapshotGroup", Some(1), Mishap::DropReply), "true").await;
    let answer = bench.send(tick(AT, json!({}))).await;
    // The group may be ours or that of somebody who fired the first variant before: that cannot be told apart. Whether
    // the second try gets its answer in time is the guest's matter.
    let (status, level, reasons) = verdict(&answer.report);
    assert_eq!((status, level), (Status::Degraded, Level::Crash));
    assert!(reasons.iter().any(|code| ["group.unproven", "create.failed"].contains(code)), "{reasons:?}");
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    bench.close().await;
}

#[tokio::test]
async fn a_group_that_does_not_show_is_crash_consistent_and_has_no_vendor_tag() {
    if !need(&NEEDS) {
        return;
    }
    let late = std::time::Duration::from_secs(4);
    let bench = Bench::start(Settings { visible_after: late, ..Settings::default() }, "true").await;
    let linux = json!({ "scriptTimeoutInSeconds": 30, "visibleTimeoutInSeconds": 1 });
    let answer = bench.send(tick(AT, json!({ "linux": linux }))).await;
    assert_eq!(verdict(&answer.report), (Status::Degraded, Level::Crash, vec!["group.not_visible"]));
    assert_eq!((answer.report.exit_code(), answer.outcome.error_type), (3, None));
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    assert!(bench.tags().await.iter().all(|tags| tags["appsnap:level"] == "crash"));
    assert_eq!(bench.trace().await, ["pre", "post crash"]);
    bench.close().await;
}

#[tokio::test]
async fn a_tag_that_is_denied_lowers_the_run_until_a_repeat_writes_it() {
    if !need(&NEEDS) {
        return;
    }
    let settings = fault("TagResources", Some(1), Mishap::Code(403, "Forbidden.RAM".into()));
    let bench = Bench::start(settings, "true").await;
    let first = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&first), (Status::Degraded, Level::Crash, vec!["tag.failed"]));
    assert_eq!(first.units[0].error.as_ref().unwrap().code, "Forbidden.RAM");
    assert_eq!(vendor_tags(&bench).await, [] as [&str; 0]);
    assert!(!bench.record().await.contains_key("appsnap:outcome"));
    let second = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&second), (Status::Succeeded, Level::Application, vec![]));
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    bench.close().await;
}

#[tokio::test]
async fn a_bad_script_below_the_minimum_is_refused_and_no_group_exists() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    bench.until("chmod 0755 /tmp/prescript.sh").await;
    let answer = bench.send(tick(AT, json!({ "minimumLevel": "application" }))).await;
    assert_eq!(verdict(&answer.report), (Status::Refused, Level::None, vec!["script.mode"]));
    assert_eq!((answer.report.exit_code(), answer.outcome.error_type), (4, None));
    let finding = answer.report.units[0].findings.iter().find(|finding| finding.code == "script.mode");
    assert_eq!(finding.unwrap().severity, Severity::Blocker);
    assert_eq!((bench.groups().await.len(), bench.trace().await.len()), (0, 0));
    // Put right, the same event does its work.
    bench.until("chmod 0700 /tmp/prescript.sh").await;
    let answer = bench.send(tick(AT, json!({ "minimumLevel": "application" }))).await;
    assert_eq!(verdict(&answer.report), (Status::Succeeded, Level::Application, vec![]));
    bench.close().await;
}

#[tokio::test]
async fn thaw_on_accepted_is_told_and_a_silent_webhook_changes_no_status() {
    if !need(&NEEDS) {
        return;
    }
    // All the tags that there may be at once.
    let settings = Settings { tags_reach_members: true, ..Settings::default() };
    let tags: Value =
        (0..12).map(|n| (format!("team{n}"), json!("ops"))).collect::<serde_json::Map<_, _>>().into();
    let bench = Bench::start(settings, "for n in 1 2 3; do echo appsnap-mark: lsn$n=4$n; done").await;
    bench.cloud.sink.answer_with(&[503, 503, 503]);
    let linux = json!({ "scriptTimeoutInSeconds": 30, "thawOn": "accepted" });
    let report = bench.send(tick(AT, json!({ "linux": linux, "snapshot": { "tags": tags } }))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    let told = report.units[0].findings.iter().find(|finding| finding.code == "window.accepted");
    assert_eq!(told.map(|finding| finding.severity), Some(Severity::Note), "{:?}", report.units[0].findings);
    let [notification] = &report.notifications[..] else { panic!("{:?}", report.notifications) };
    assert_eq!((&*notification.status, notification.attempts), ("failed", 3));
    assert!(notification.error.as_ref().unwrap().contains("503"), "{notification:?}");
    assert_eq!(report.units[0].marks["lsn3"], "43");
    assert!(
        bench.tags().await.iter().all(|tags| tags["appsnap:mark:lsn1"] == "41" && tags["team11"] == "ops")
    );
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    bench.close().await;
}

#[tokio::test]
async fn an_eventbridge_request_is_handed_on_and_its_repeat_gives_no_second_group() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let event = json!({
        "id": "7f0d4b52", "source": "orders.release", "specversion": "1.0", "type": "orders:Release:Planned",
        "time": AT, "data": request(json!({})),
    });
    let body = json!([event]).to_string().into_bytes();
    let first = bench.send(body.clone()).await.report;
    assert_eq!((first.status, &*first.trigger), (Status::Pending, "eventbridge"));
    let second = bench.send(body.clone()).await.report;
    assert_eq!(second.status, Status::Pending);
    let handed_on = bench.cloud.function.finish_queue().await;
    assert_eq!(handed_on.len(), 1);
    let report = read(handed_on.into_iter().next().unwrap()).report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    assert_eq!(report.run, first.run, "a run has one id");
    bench.send(body).await;
    assert!(bench.cloud.function.finish_queue().await.is_empty());
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    bench.close().await;
}
