//! The vendor's plugin as engine, through the real `bootstrap`: on a Linux guest that its stand-in really freezes, and on
//! a simulated Windows guest.
#![allow(clippy::disallowed_methods)] // real time is measured

#[allow(dead_code)] // some of it is for tests/end_to_end.rs only
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use appsnap::api::assistant;
use appsnap::api::ecs::{self, GroupFilter};
use appsnap::guest::plugin::{Order, Os, PluginTold, render};
use appsnap::local::cloud::{DISKS, INSTANCE, REGION};
use appsnap::local::windows;
use appsnap::local::world::{Fault, Mishap, PluginFault, Settings};
use appsnap::report::{Level, Report, Severity, Status, Unit};
use bench::{Bench, HOLD, NEEDS, read, tick};
use common::need;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const AT: &str = "2026-11-22T03:00:00Z";
/// Thaws whatever is frozen much later, should the guard fail: a test leaves nothing frozen.
const RESCUE: &str = "sleep 90; for at in /logs /data /; do fsfreeze --unfreeze $at; done";

fn needs() -> bool {
    need(&[&NEEDS[..], &["openssl", "awk"]].concat())
}

/// The times of the one known trace: the create took 319 ms, the group showed 414 ms later.
fn traced(plugin_faults: &[PluginFault]) -> Settings {
    Settings {
        create_delay: Duration::from_millis(319),
        visible_after: Duration::from_millis(733),
        plugin_faults: plugin_faults.to_vec(),
        ..Settings::default()
    }
}

fn linux(more: Value) -> Vec<u8> {
    let mut fields =
        json!({ "linux": { "engine": "plugin", "scriptTimeoutInSeconds": 30, "timeoutInSeconds": 20 } });
    for (key, value) in more.as_object().unwrap() {
        fields[key] = value.clone();
    }
    tick(AT, fields)
}

fn on_windows(more: Value) -> Vec<u8> {
    let mut fields = json!({ "targets": { "instanceIds": [windows::INSTANCE] } });
    for (key, value) in more.as_object().unwrap() {
        fields[key] = value.clone();
    }
    tick(AT, fields)
}

fn verdict(report: &Report) -> (Status, Level, Vec<&str>) {
    let unit = &report.units[0];
    assert_eq!(unit.engine, "plugin");
    (report.status, unit.level, unit.reasons.iter().map(String::as_str).collect())
}

fn finding<'a>(unit: &'a Unit, code: &str) -> (Severity, &'a str, &'a str) {
    let found = unit.findings.iter().find(|finding| finding.code == code);
    let found = found.unwrap_or_else(|| panic!("no {code} in {:?}", unit.findings));
    (found.severity, &found.message, &found.cure)
}

/// The tags of the snapshots of the only group of an instance.
async fn tags(bench: &Bench, instance: &str) -> Vec<BTreeMap<String, String>> {
    let filter = GroupFilter { instance_id: Some(instance), ..GroupFilter::default() };
    let groups = ecs::describe_snapshot_groups(&bench.client, REGION, &filter).await.unwrap();
    assert_eq!(groups.len(), 1, "{groups:?}");
    let ids: Vec<String> = groups[0].snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let seen = ecs::describe_snapshots(&bench.client, REGION, &ids).await.unwrap();
    assert_eq!(seen.len(), ids.len());
    seen.into_iter().map(|one| one.tags.into_iter().map(|tag| (tag.key, tag.value)).collect()).collect()
}

/// The keys that tell of consistency, which are the same on all members.
async fn consistent(bench: &Bench, instance: &str) -> Vec<String> {
    let all = tags(bench, instance).await;
    let of = |tags: &BTreeMap<String, String>| -> Vec<String> {
        tags.keys().filter(|key| key.ends_with("Consistent")).cloned().collect()
    };
    assert!(all.iter().all(|one| of(one) == of(&all[0])), "{all:?}");
    of(&all[0])
}

/// What the plugin logged in the guest.
async fn log(bench: &Bench) -> String {
    let path = "/usr/local/share/aliyun-assist/plugin/app-snapshot-plugin/1.8/log/app_snapshot_plugin.log";
    String::from_utf8(bench.cloud.guest.read_file(path).await.unwrap()).unwrap()
}

#[tokio::test]
async fn linux_by_the_plugin_reaches_application_once() {
    if !needs() {
        return;
    }
    let bench = Bench::start(traced(&[]), "true").await;
    let first = bench
        .send(linux(json!({ "snapshot": { "tags": { "team": "ops" }, "description": "of it" },
                             "windows": { "enableWriters": false } })))
        .await
        .report;
    assert_eq!(verdict(&first), (Status::Succeeded, Level::Application, vec![]), "{}", log(&bench).await);
    let unit = &first.units[0];
    assert_eq!((unit.os_type.as_str(), unit.snapshots.len()), ("linux", 3));
    assert_eq!(consistent(&bench, INSTANCE).await, ["APPConsistent"]);
    let tags = tags(&bench, INSTANCE).await;
    assert!(tags.iter().all(|one| one["appsnap:level"] == "application" && one["team"] == "ops"), "{tags:?}");
    let (severity, message, _) = finding(unit, "plugin.options");
    assert!(severity == Severity::Note && message.contains("snapshot.description"), "{message}");
    assert!(finding(unit, "option.unused").1.contains("windows.enableWriters"));
    assert_eq!(bench.trace().await, ["pre", "post "]);
    // As it was traced: `/` first, thawed in reverse, and a window of nearly a second or more.
    let log = log(&bench).await;
    let steps: Vec<&str> =
        log.lines().filter(|line| line.contains("frozen /") || line.starts_with("thawed")).collect();
    assert_eq!(
        steps,
        ["frozen /", "frozen /data", "frozen /logs", "thawed /logs", "thawed /data", "thawed /"],
        "{log}"
    );
    let window =
        log.lines().find_map(|line| line.strip_prefix("window ")?.split(' ').next()?.parse::<u64>().ok());
    assert!(window.unwrap() >= 733, "{log}");
    eprintln!("the stand-in's window: {} ms", window.unwrap());
    let second = bench.send(linux(json!({}))).await.report;
    assert_eq!((second.status, second.outcome), (Status::Skipped, Some(Status::Succeeded)));
    assert_eq!(second.units[0].snapshot_group_id, unit.snapshot_group_id);
    assert_eq!(consistent(&bench, INSTANCE).await, ["APPConsistent"], "and no second group");
    bench.close().await;
}

#[tokio::test]
async fn a_disk_that_is_excluded_is_frozen_by_the_plugin_all_the_same() {
    if !needs() {
        return;
    }
    let bench = Bench::start(traced(&[]), "true").await;
    let targets = json!({ "instanceIds": [INSTANCE], "excludeDiskIds": [DISKS[2].0] });
    let report = bench.send(linux(json!({ "targets": targets, "consistency": "filesystem" }))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Filesystem, vec![]));
    assert_eq!(report.units[0].snapshots.len(), 2);
    assert_eq!(consistent(&bench, INSTANCE).await, ["FsConsistent"]);
    assert_eq!(bench.trace().await, [""; 0], "scripts are for application");
    assert!(log(&bench).await.contains("frozen /logs"));
    let targets = json!({ "instanceIds": [INSTANCE], "diskIds": [DISKS[1].0] });
    let report = bench
        .send(tick("2026-11-22T04:00:00Z", json!({ "targets": targets, "linux": { "engine": "plugin" } })))
        .await
        .report;
    assert_eq!(verdict(&report), (Status::Refused, Level::None, vec!["plugin.disks"]));
    assert_eq!(finding(&report.units[0], "plugin.disks").0, Severity::Blocker);
    bench.close().await;
}

#[tokio::test]
async fn what_the_plugin_lowers_in_silence_is_told() {
    if !needs() {
        return;
    }
    let bench = Bench::start(traced(&[]), "exit 1").await;
    let report = bench.send(linux(json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Filesystem, vec!["plugin.lowered"]));
    assert!(finding(&report.units[0], "plugin.lowered").2.contains("exit 0"));
    let at = |time: &str, minimum: &str| {
        let linux = json!({ "engine": "plugin", "scriptTimeoutInSeconds": 30, "timeoutInSeconds": 20 });
        tick(time, json!({ "linux": linux, "minimumLevel": minimum }))
    };
    // A sequence holds the guest: nothing is touched, and the lock is not ours to take away.
    let lock = "mkdir -p /run/appsnap; ln -sfn \"1 $(sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20) a-1\" /run/appsnap/lock";
    bench.until(lock).await;
    let report = bench.send(at("2026-11-22T03:30:00Z", "crash")).await.report;
    assert_eq!(verdict(&report), (Status::Refused, Level::None, vec!["busy"]));
    // Its owner is dead, and its watchdog not through yet; then it is.
    let dead = "mkdir -p /run/appsnap/a-0; echo exit 23 >/run/appsnap/a-0/sequence.sh; ln -sfn '999999 1 a-0' /run/appsnap/lock";
    bench.until(dead).await;
    let report = bench.send(at("2026-11-22T03:40:00Z", "crash")).await.report;
    assert_eq!(verdict(&report), (Status::Refused, Level::None, vec!["busy"]));
    bench
        .until(
            "[ -L /run/appsnap/lock ] && echo exit 0 >/run/appsnap/a-0/sequence.sh && rm /tmp/postscript.sh",
        )
        .await;
    let report = bench.send(at("2026-11-22T04:00:00Z", "crash")).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Filesystem, vec!["script.missing"]));
    assert!(finding(&report.units[0], "script.missing").1.contains("/tmp/postscript.sh"));
    let report = bench.send(at("2026-11-22T05:00:00Z", "application")).await.report;
    assert_eq!(verdict(&report), (Status::Refused, Level::None, vec!["script.missing"]));
    assert_eq!(finding(&report.units[0], "script.missing").0, Severity::Blocker);
    assert_eq!(bench.groups().await.len(), 2, "nothing was touched");
    bench.close().await;
}

#[tokio::test]
async fn the_managers_exit_code_is_named_with_its_cure() {
    if !needs() {
        return;
    }
    let bench = Bench::start(traced(&[PluginFault::Exit(240)]), "true").await;
    let report = bench.send(linux(json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Failed, Level::None, vec!["plugin.download"]));
    let (_, message, cure) = finding(&report.units[0], "plugin.download");
    assert!(message.contains("exit 240, DOWNLOAD_FAIL") && cure.contains("OSS"), "{message}; {cure}");
    // A code that is not the manager's is the plugin's own: told, and not explained.
    appsnap::local::plugin::set_faults(&bench.cloud.guest, &[PluginFault::Exit(77)]).await.unwrap();
    let again =
        |time: &str| tick(time, json!({ "linux": { "engine": "plugin", "scriptTimeoutInSeconds": 30 } }));
    let report = bench.send(again("2026-11-22T04:00:00Z")).await.report;
    assert_eq!(verdict(&report), (Status::Failed, Level::None, vec!["plugin.failed"]));
    assert!(finding(&report.units[0], "plugin.failed").1.contains("exit 77"));
    // No plugin manager at all, then no role to call the API with.
    bench.until("rm /usr/local/share/aliyun-assist/acs-plugin-manager").await;
    let report = bench.send(again("2026-11-22T05:00:00Z")).await.report;
    assert_eq!(verdict(&report), (Status::Failed, Level::None, vec!["plugin.manager_missing"]));
    bench.cloud.server.cloud.look(|world, _| world.instance_mut(INSTANCE).unwrap().ram_role = None);
    let report = bench.send(again("2026-11-22T06:00:00Z")).await.report;
    assert_eq!(verdict(&report), (Status::Refused, Level::None, vec!["plugin.role_none"]));
    assert_eq!(bench.groups().await.len(), 0);
    assert_eq!(bench.trace().await, [""; 0]);
    bench.close().await;
}

#[tokio::test]
async fn the_command_runs_under_dash_bash_and_busybox_and_never_powers_off() {
    if !needs() || !need(&["dash", "bash", "busybox"]) {
        return;
    }
    let bench = Bench::start(traced(&[PluginFault::Exit(193)]), "true").await;
    let os = Os::Linux { freeze: true, window: 5, scripts: 30, pre: None, post: None };
    let (attempt, name) = ("a-1".to_string(), "n-a-1".to_string());
    let (want, minimum) = (Level::Application, Level::Crash);
    let order =
        Order { attempt, role: "AppSnapshotRole".into(), name, exclude: None, limit: 60, want, minimum, os };
    let script = render(&order).unwrap();
    for shell in ["dash", "bash", "busybox sh"] {
        let limit = Duration::from_secs(30);
        let output = bench.cloud.guest.exec(&format!("{shell} -s"), &[], &script, limit).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = PluginTold::read(&said, "a-1").unwrap_or_else(|| panic!("{shell}: {said}"));
        // 193 would make the agent power the instance off.
        assert_eq!((told.exit(), output.status), (Some(193), Some(1)), "{shell}: {said}");
        assert!(told.reasons().next().is_none() && !told.thawed_by_guard(), "{shell}: {said}");
    }
    bench.until("[ ! -L /run/appsnap/lock ] && [ -z \"$(ls /run/appsnap-plugin)\" ]").await;
    bench.close().await;
}

#[tokio::test]
async fn a_freeze_that_comes_too_late_for_the_plugin_is_thawed_by_our_guard() {
    if !needs() {
        return;
    }
    let bench = Bench::start(traced(&[PluginFault::SlowFreeze(Duration::from_secs(4))]), "true").await;
    // Whatever becomes of the guard: this guest will not stay frozen.
    bench
        .cloud
        .guest
        .spawn("sleep 90; for at in /logs /data /; do fsfreeze --unfreeze $at; done", &[])
        .await
        .unwrap();
    let late = json!({ "engine": "plugin", "scriptTimeoutInSeconds": 30, "timeoutInSeconds": 2 });
    let under_way = bench.send_off(tick(AT, json!({ "linux": late })));
    let (mut frozen, clock) = (false, appsnap::clock::Clock::system());
    for _ in 0..200 {
        if !frozen {
            frozen = bench.cloud.guest.is_frozen("/").await.unwrap();
        }
        if under_way.is_finished() {
            break;
        }
        clock.sleep(Duration::from_millis(200)).await;
    }
    assert!(frozen, "the stand-in's freezer was to finish after the plugin had given up");
    let report = read(under_way.await.unwrap()).report;
    assert_eq!(verdict(&report), (Status::Failed, Level::None, vec!["plugin.failed"]), "{report:?}");
    assert!(report.duration_ms < 60_000, "{} ms", report.duration_ms);
    assert!(finding(&report.units[0], "plugin.thawed").2.contains("timeoutInSeconds"));
    assert!(log(&bench).await.contains("interrupted by cancel or timeout"));
    bench.close().await; // nothing is frozen
}

#[tokio::test]
async fn whoever_is_killed_while_the_plugin_freezes_nothing_stays_frozen() {
    if !needs() {
        return;
    }
    let late = Settings { visible_after: Duration::from_secs(8), ..traced(&[]) };
    let bench = Bench::start(late, "true").await;
    bench.cloud.guest.spawn(RESCUE, &[]).await.unwrap();
    let under_way = bench.send_off(linux(json!({})));
    let clock = appsnap::clock::Clock::system();
    while !bench.cloud.guest.is_frozen("/").await.unwrap() {
        assert!(!under_way.is_finished(), "it never froze");
        clock.sleep(Duration::from_millis(100)).await;
    }
    // Once our guard has seen the freezer: plugin and freezer, by SIGKILL; the agent's child, as at a stop.
    clock.sleep(Duration::from_secs(3)).await;
    let tags = [("appsnap:policy".to_owned(), "orders-db".to_owned())];
    let started = assistant::invocations_by_tag(&bench.client, REGION, &tags).await.unwrap();
    bench.cloud.agent.stop(&started[0].invoke_id);
    bench.until("pkill -KILL 'fsfreezer|app-snapshot-pl'").await;
    let killed = std::time::Instant::now();
    for mount in ["/", "/data", "/logs"] {
        while bench.cloud.guest.is_frozen(mount).await.unwrap() {
            assert!(killed.elapsed() < Duration::from_secs(40), "{mount} stays frozen");
        }
    }
    let report = read(under_way.await.unwrap()).report;
    let (_, level, reasons) = verdict(&report);
    // The group shows late, so it may have been found or not.
    assert!(level <= Level::Crash && reasons[0] == "report.lost", "{report:?}");
    bench.close().await;
}

#[tokio::test]
async fn windows_with_writers_is_application_and_without_them_filesystem() {
    if !needs() {
        return;
    }
    let bench = Bench::start(traced(&[PluginFault::Misspelt]), "true").await;
    // Twice at the same moment: one start, and both may settle it, to the same end.
    let (one, two) = tokio::join!(bench.send(on_windows(json!({}))), bench.send(on_windows(json!({}))));
    assert!([two.report.status, one.report.status].contains(&Status::Succeeded), "{two:?}", two = two.report);
    let report = if one.report.status == Status::Succeeded { one.report } else { two.report };
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]), "{report:?}");
    assert_eq!((report.units[0].os_type.as_str(), report.units[0].snapshots.len()), ("windows", 2));
    assert_eq!(finding(&report.units[0], "os.windows").0, Severity::Note);
    // The plugin wrote `AppConsistent`; it is read, and the right one takes its place.
    assert_eq!(consistent(&bench, windows::INSTANCE).await, ["APPConsistent"]);
    let again = bench.send(on_windows(json!({}))).await.report;
    assert_eq!((again.status, again.outcome), (Status::Skipped, Some(Status::Succeeded)));
    assert_eq!(tags(&bench, windows::INSTANCE).await.len(), 2, "and no second group");
    bench.close().await;

    let bench = Bench::start(traced(&[]), "true").await;
    let fields = json!({ "windows": { "enableWriters": false }, "linux": { "thawOn": "accepted" } });
    let report = bench.send(on_windows(fields)).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Filesystem, vec!["writers.off"]));
    assert!(finding(&report.units[0], "option.unused").1.contains("linux.thawOn"));
    assert_eq!(consistent(&bench, windows::INSTANCE).await, ["FsConsistent"]);
    let fields = json!({ "targets": { "instanceIds": [windows::INSTANCE] }, "minimumLevel": "application",
                         "windows": { "enableWriters": false } });
    let report = bench.send(tick("2026-11-22T04:00:00Z", fields)).await.report;
    assert_eq!(verdict(&report), (Status::Refused, Level::None, vec!["writers.off"]));
    bench.close().await;
}

#[tokio::test]
async fn without_the_plugins_tag_a_group_is_crash_consistent() {
    if !needs() {
        return;
    }
    let bench = Bench::start(traced(&[PluginFault::Untagged]), "true").await;
    let report = bench.send(on_windows(json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Crash, vec!["plugin.untagged"]), "{report:?}");
    assert_eq!(consistent(&bench, windows::INSTANCE).await, [""; 0]);
    bench.close().await;
}

#[tokio::test]
async fn a_plugin_run_whose_function_died_is_settled_once() {
    if !needs() {
        return;
    }
    // The first TagResources is the plugin's, the second ours.
    let fault = Fault {
        action: "TagResources".into(),
        nth: Some(2),
        what: Mishap::Code(403, "Forbidden.RAM".into()),
    };
    let bench = Bench::start(Settings { faults: vec![fault], ..traced(&[]) }, HOLD).await;
    let name = json!({ "snapshot": { "name": "nightly" } });
    let killed = bench.send_off(linux(name.clone()));
    bench.until("[ -e /run/at-work ]").await;
    for pid in bench.cloud.function.pids() {
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    }
    killed.await.unwrap();
    let meanwhile = bench.send(linux(name.clone())).await.report;
    assert_eq!((meanwhile.status, meanwhile.exit_code()), (Status::Pending, 5));
    bench.until("touch /run/go-on; [ -z \"$(ls /run/appsnap-plugin)\" ]").await;
    // By the event of the command's end, which knows neither disks nor names; its label cannot be written.
    let report = bench.send(bench.task_completed().await).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Crash, vec!["tag.failed"]), "{report:?}");
    // So a repeat settles it.
    let report = bench.send(linux(name)).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    assert_eq!(consistent(&bench, INSTANCE).await, ["APPConsistent"]);
    assert!(bench.groups().await[0].name.starts_with("nightly-a-"));
    assert_eq!(bench.trace().await, ["pre", "post "]);
    bench.close().await;
}
