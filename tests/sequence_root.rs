//! The root file system in the group: frozen with all the rest, and without room.

#[path = "common/bench.rs"]
#[allow(dead_code)] // each test file uses its part
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use appsnap::local::agent::{Command, Event};
use appsnap::local::world::Settings;
use appsnap::report::{Level, Status};
use bench::{Bench, NEEDS, tick};
use common::need;
use serde_json::json;

const AT: &str = "2026-11-22T03:00:00Z";

#[tokio::test]
async fn while_the_root_is_frozen_the_agent_is_silent_and_the_run_does_not_need_it() {
    if !need(&NEEDS) {
        return;
    }
    let settings = Settings { visible_after: Duration::from_secs(4), ..Settings::default() };
    let bench = Bench::start(settings, "true").await;
    let linux =
        json!({ "scriptTimeoutInSeconds": 30, "timeoutInSeconds": 20, "visibleTimeoutInSeconds": 15 });
    let under_way = bench.send_off(tick(AT, json!({ "linux": linux })));
    bench.until("[ -e /run/appsnap/a-*/armed ]").await;
    let (sender, mut events) = tokio::sync::mpsc::channel(100);
    for _ in 0..50 {
        if bench.cloud.guest.is_frozen("/").await.unwrap() {
            break;
        }
    }
    let rescue = Command {
        invoke_id: "t-meanwhile".into(),
        content: "[ -e /run/appsnap/a-*/over ] && echo thawed".into(),
        timeout: Duration::from_secs(60),
        working_dir: None,
    };
    bench.cloud.agent.run(rescue, sender);
    assert!(bench.cloud.guest.is_frozen("/").await.unwrap(), "the root is frozen with its disk");
    assert!(events.try_recv().is_err(), "the agent cannot start anything meanwhile");
    let report = bench::read(under_way.await.unwrap()).report;
    assert_eq!((report.status, report.units[0].level), (Status::Succeeded, Level::Application), "{report:?}");
    let mut last = None;
    while let Some(event) = events.recv().await {
        last = Some(event);
    }
    let Some(Event::Finished { exit_code: 0, output, .. }) = last else { panic!("{last:?}") };
    assert_eq!(output, b"thawed\n", "it started after the thaw");
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    bench.close().await;
}

#[tokio::test]
async fn a_root_without_room_is_no_reason_to_fail() {
    if !need(&NEEDS) {
        return;
    }
    let fill = "for size in 1M 4k; do dd if=/dev/zero of=/var/fill.$size bs=$size 2>/dev/null; done; \
                [ $(df --output=avail / | tail -n 1) -lt 64 ]";
    // Full from the start: the agent cannot even keep the command; or filled by the prescript.
    for before in [true, false] {
        let bench = Bench::start(Settings::default(), if before { "true" } else { fill }).await;
        if before {
            bench.until(fill).await;
        }
        let report = bench.send(tick(AT, json!({}))).await.report;
        let unit = &report.units[0];
        assert_eq!(
            (report.status, unit.level),
            (Status::Succeeded, Level::Application),
            "{before}: {report:?}"
        );
        assert_eq!(bench.trace().await, ["pre", "post application"], "{before}");
        bench.close().await;
    }
}
