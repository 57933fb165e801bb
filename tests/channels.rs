//! The channels against robots that check what DingTalk, Feishu and WeCom check: through the whole function, and alone.
#![allow(clippy::disallowed_methods)] // time is stopped here

#[allow(dead_code)] // each test file uses its part
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use appsnap::acs::https_client;
use appsnap::clock::Clock;
use appsnap::handler::{App, Invocation};
use appsnap::local::robot::{BRANDS, Brand, Mood};
use appsnap::local::sink::Sink;
use appsnap::local::world::{Mishap, Settings};
use appsnap::notify;
use appsnap::policy::Channel;
use appsnap::report::{NotificationReport, Report, Status};
use appsnap::secret::Secret;
use bench::{Bench, NEEDS, fault};
use common::need;
use jiff::SignedDuration;
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The text that a person would see, title first.
fn seen(brand: Brand, body: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    match brand {
        Brand::DingTalk => text(&body["markdown"]["text"]),
        Brand::WeCom => text(&body["markdown"]["content"]),
        Brand::Feishu => {
            let card = &body["card"];
            let title = text(&card["header"]["title"]["content"]);
            title + "\n" + &text(&card["elements"][0]["text"]["content"])
        }
    }
}

/// The event of `events/notify.json`; `fields` go on top.
fn event(fields: Value) -> Vec<u8> {
    let mut request: Value = serde_json::from_str(include_str!("../events/notify.json")).unwrap();
    request["linux"] = json!({ "scriptTimeoutInSeconds": 30 });
    for (key, value) in fields.as_object().unwrap() {
        request[key] = value.clone();
    }
    request.to_string().into_bytes()
}

#[tokio::test]
async fn every_channel_is_told_of_every_end_of_a_run() {
    if !need(&NEEDS) {
        return;
    }
    let refused = Mishap::Code(403, "QuotaExceed.Snapshot".into());
    let bench = Bench::start(fault("CreateSnapshotGroup", Some(1), refused), "true").await;
    let application = json!({ "minimumLevel": "application" });
    let runs = [
        ("true", json!({}), Status::Failed, "create.failed", "QuotaExceed.Snapshot"),
        ("true", json!({}), Status::Succeeded, "Level", "application"),
        ("chmod 0755 /tmp/prescript.sh", json!({}), Status::Degraded, "script.mode", "chmod 0700 the script"),
        ("true", application, Status::Refused, "script.mode", "nothing was touched"),
    ];
    for (before, fields, status, reason, words) in runs {
        bench.until(before).await;
        let report = bench.send(event(fields)).await.report;
        assert_eq!(report.status, status, "{:?}", report.units[0]);
        // The webhook of the fixture asks for what is not good.
        let told: Vec<_> = report.notifications.iter().map(|it| it.channel.as_str()).collect();
        let webhook = (status != Status::Succeeded).then_some("webhook");
        let robots = ["dingtalk", "feishu", "wecom"];
        assert_eq!(told, robots.into_iter().chain(webhook).collect::<Vec<_>>());
        assert!(report.notifications.iter().all(|it| it.status == "delivered"), "{:?}", report.notifications);
        for brand in BRANDS {
            let robot = bench.cloud.sink.robot(brand);
            let last = robot.received.last().unwrap();
            assert_eq!(last.code, Some(0));
            let text = seen(brand, &last.body).replace('\\', "");
            let unit = &report.units[0];
            let step = if status == Status::Succeeded { "" } else { "Step:" };
            let disks = unit.disk_ids.join(", ");
            assert_eq!(unit.disk_ids.len(), 3);
            for word in [
                &format!("appsnap: orders-db {}", status.as_str()),
                &unit.instance_ids[0],
                &disks,
                &report.run,
                unit.snapshot_group_id.as_deref().unwrap_or("none is known"),
                step,
                reason,
                words,
            ] {
                assert!(text.contains(word), "{brand:?} lacks {word}:\n{text}");
            }
        }
    }
    bench.close().await;
}

#[tokio::test]
async fn a_channel_that_fails_is_told_and_changes_no_status() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let busy = json!({ "code": 11232, "msg": "frequency limited" }).to_string();
    bench.cloud.sink.robot(Brand::Feishu).moods.push_back(Mood::Answer(200, busy));
    bench.cloud.sink.robot(Brand::WeCom).moods.extend(vec![Mood::Silent; 3]);
    let channel = |channel: &str, url: &str| json!({ "channel": channel, "url": url, "on": ["succeeded"] });
    let mut notify = json!([
        channel("dingtalk", "env:APPSNAP_DEMO_DINGTALK_URL"),
        channel("feishu", "env:APPSNAP_DEMO_FEISHU_URL"),
        channel("wecom", "env:APPSNAP_DEMO_WECOM_URL"),
        channel("wecom", "env:APPSNAP_NOT_SET"),
    ]);
    // The one's secret with the other's robot.
    notify[0]["secret"] = json!("env:APPSNAP_DEMO_FEISHU_SECRET");
    notify[1]["secret"] = json!("env:APPSNAP_DEMO_FEISHU_SECRET");
    let report = bench.send(event(json!({ "notify": notify }))).await.report;
    assert_eq!(report.status, Status::Succeeded);
    let expected = [
        ("failed", "answered code 310000 (sign not match): `secret` is not this robot's"),
        ("delivered", ""),
        ("failed", "timed out"),
        ("failed", "env:APPSNAP_NOT_SET is not set"),
    ];
    assert_eq!(report.notifications.len(), expected.len());
    for (told, (status, error)) in report.notifications.iter().zip(expected) {
        let message = told.error.as_deref().unwrap_or_default();
        assert!(told.status == status && message.contains(error), "{told:?}");
        assert!(!message.contains("token") && !message.contains("key="), "{message}");
    }
    assert_eq!(report.notifications[1].attempts, 2, "throttled once");
    bench.close().await;
}

fn report(status: Status) -> Report {
    serde_json::from_value(json!({
        "schema": 1, "version": "0.1.0", "run": "r-1", "policy": "orders-db", "occurrence": "o", "trigger": "timer",
        "status": status, "summary": {}, "startedAt": "", "finishedAt": "", "durationMs": 0, "apiCalls": 0,
        "units": [], "notifications": [],
    }))
    .unwrap()
}

/// Sends a failed report to a robot of each brand; `secrets` of DingTalk and Feishu.
async fn send(sink: &Sink, clock: &Clock, secrets: [&str; 2], left: i64) -> Vec<NotificationReport> {
    let urls = BRANDS.map(|brand| sink.robot_url(brand));
    let env = |name: &str| {
        let value = match name {
            "DING" => &urls[0],
            "FEISHU" => &urls[1],
            "WECOM" => &urls[2],
            "DS" => secrets[0],
            _ => secrets[1],
        };
        Some(value.to_owned())
    };
    let channels = r#"[{ "channel": "dingtalk", "url": "env:DING", "secret": "env:DS" },
        { "channel": "feishu", "url": "env:FEISHU", "secret": "env:FS" }, { "channel": "wecom", "url": "env:WECOM" }]"#;
    let (channels, client) = (Channel::parse_list(channels).unwrap(), https_client(None).unwrap());
    let deadline = clock.now() + SignedDuration::from_secs(left);
    notify::send(&report(Status::Failed), &channels, &env, &client, clock, deadline).await
}

/// A sink at a quarter past, and its clock.
async fn sink() -> (Sink, Clock) {
    let clock = Clock::seeded("2026-11-22T03:15:00Z".parse().unwrap(), 1);
    let sink = Sink::start(Secret::new(SECRET), clock.clone()).await.unwrap();
    sink.robot(Brand::DingTalk).secret = Some(Secret::new("SECone"));
    sink.robot(Brand::Feishu).secret = Some(Secret::new("two"));
    (sink, clock)
}

#[tokio::test]
async fn a_wrong_secret_and_a_missing_keyword_are_told_with_code_and_cure() {
    let (sink, clock) = sink().await;
    let told = send(&sink, &clock, ["SECone", "two"], 25).await;
    assert!(told.iter().all(|it| (&*it.status, it.attempts) == ("delivered", 1)), "{told:?}");

    let told = send(&sink, &clock, ["two", "SECone"], 25).await;
    let errors: Vec<_> = told.iter().map(|it| it.error.clone().unwrap_or_default()).collect();
    assert!(errors[0].contains("code 310000 (sign not match): `secret` is not this robot's"), "{errors:?}");
    assert!(errors[1].contains("code 19021 (sign match fail") && errors[1].contains("is not this bot's"));
    assert_eq!((told[0].attempts, told[1].attempts, errors[2].as_str()), (1, 1, ""));

    for brand in BRANDS {
        sink.robot(brand).keyword = Some("snapshots".into());
    }
    let told = send(&sink, &clock, ["SECone", "two"], 25).await;
    for (told, code) in told.iter().zip(["310000", "19024"]) {
        let error = told.error.as_deref().unwrap();
        assert!(error.contains(code) && error.contains("add `appsnap` to its keywords"), "{error}");
        assert_eq!(told.attempts, 1);
    }
}

#[tokio::test]
async fn what_is_no_answer_of_a_robot_is_no_delivery() {
    let (sink, clock) = sink().await;
    let answers = [
        (200, "ok", "answered 200 OK without a code"),
        (200, "", "answered 200 OK without a code"),
        (400, r#"{"StatusCode":0,"code":9499,"errcode":40035}"#, "with 400 Bad Request"),
        (403, "<html>", "answered 403 Forbidden"),
        (302, r#"{"errcode":0,"code":0}"#, "redirected (302"),
    ];
    for (status, body, expected) in answers {
        for brand in BRANDS {
            sink.robot(brand).moods.push_back(Mood::Answer(status, body.into()));
        }
        for told in send(&sink, &clock, ["SECone", "two"], 25).await {
            assert!(told.error.as_deref().unwrap_or_default().contains(expected), "{body}: {told:?}");
            assert_eq!((&*told.status, told.attempts), ("failed", 1));
        }
    }
}

/// Messages of others have used up what the robots take.
fn crowd(sink: &Sink, clock: &Clock) {
    for (brand, messages) in BRANDS.into_iter().zip([20, 5, 20]) {
        sink.robot(brand).busy(messages, clock.now());
    }
}

/// Time passes while nothing is on its way.
async fn pass(clock: &Clock, seconds: u64) {
    clock.sleep(std::time::Duration::from_secs(2)).await; // answers arrive
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_throttled_robot_is_waited_for_if_the_functions_time_allows() {
    let (sink, clock) = sink().await;
    crowd(&sink, &clock);
    let sending = async { send(&sink, &clock, ["SECone", "two"], 3600).await };
    let passing = async {
        while !BRANDS.iter().all(|brand| !sink.robot(*brand).received.is_empty()) {
            clock.sleep(std::time::Duration::from_millis(20)).await;
        }
        pass(&clock, 15).await;
        pass(&clock, 60).await;
    };
    let (told, ()) = tokio::join!(sending, passing);
    let ends: Vec<_> = told.iter().map(|it| (&*it.status, it.attempts)).collect();
    // DingTalk blocks for ten minutes, which is too long for a function to wait.
    assert_eq!(ends, [("failed", 1), ("delivered", 2), ("delivered", 2)], "{told:?}");
    let error = told[0].error.as_deref().unwrap();
    assert!(error.contains("code 130101") && error.contains("name fewer statuses in `on`"), "{error}");
}

#[tokio::test]
async fn a_wait_that_the_functions_time_does_not_allow_is_not_begun() {
    let (sink, clock) = sink().await;
    crowd(&sink, &clock);
    // DingTalk's gateway names a second.
    let soon = json!({ "errcode": 130101, "errmsg": "send too fast", "wait": 1, "punish": "deny" });
    sink.robot(Brand::DingTalk).moods.extend(vec![Mood::Answer(200, soon.to_string()); 3]);
    let before = clock.now();
    let told = send(&sink, &clock, ["SECone", "two"], 12).await;
    assert!(clock.now().duration_since(before) < SignedDuration::from_secs(40));
    let ends: Vec<_> = told.iter().map(|it| (&*it.status, it.attempts)).collect();
    assert_eq!(ends, [("failed", 3), ("failed", 1), ("failed", 1)], "{told:?}");
    assert!(told[1].error.as_deref().unwrap().contains("Feishu throttles"), "{told:?}");
}

#[tokio::test]
async fn a_throttled_robot_takes_no_time_from_the_next_run_of_the_same_event() {
    for (event, attempts) in
        [(r#"[{"policy": 1}, {"policy": 2}]"#, vec![1, 1]), (r#"[{"policy": 1}]"#, vec![2])]
    {
        let (sink, clock) = sink().await;
        crowd(&sink, &clock);
        let url = sink.robot_url(Brand::WeCom);
        let env = [("APPSNAP_NOTIFY", r#"[{"channel": "wecom", "url": "env:WECOM"}]"#), ("WECOM", &url)];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let app = App::new(clock.clone(), env.into()).unwrap();
        let invocation = Invocation {
            request_id: "1".into(),
            async_task_id: None,
            region_id: None,
            account_id: None,
            function: None,
            credentials: None,
            deadline: clock.now() + SignedDuration::from_hours(1),
        };
        let handled = app.handle(event.as_bytes(), &invocation);
        let (reports, ()) = tokio::join!(handled, pass(&clock, 75));
        let tries: Vec<_> = reports.iter().map(|report| report.notifications[0].attempts).collect();
        assert_eq!(tries, attempts, "{reports:?}");
    }
}

#[tokio::test]
async fn silent_robots_end_in_time() {
    let (sink, clock) = sink().await;
    for brand in BRANDS {
        sink.robot(brand).moods.extend(vec![Mood::Silent; 3]);
    }
    let before = clock.now();
    tokio::time::pause(); // nobody answers, so nothing but the timers can move
    let told = send(&sink, &clock, ["SECone", "two"], 3600).await;
    assert!(clock.now().duration_since(before) < SignedDuration::from_secs(21));
    for told in told {
        assert!(told.status == "failed" && told.attempts >= 2, "{told:?}");
        assert!(told.error.as_deref().unwrap().contains("timed out"), "{told:?}");
    }
}
