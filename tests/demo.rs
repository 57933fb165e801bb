//! `appsnap demo` as its users run it: what it prints, and that nothing is left of it, however it ends.
#![allow(clippy::disallowed_methods)] // tests wait in real time

mod common;
#[path = "common/left.rs"]
mod left;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::need;
use left::{left, own_states};
use serde_json::Value;

const TOOLS: [&str; 8] =
    ["root", "mkfs.xfs", "mkfs.ext4", "losetup", "unshare", "fsfreeze", "curl", "setpriv"];

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appsnap"));
    command
        .args(["demo", "--json"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> (Value, i32) {
    let output = demo(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (json, output.status.code().unwrap())
}

#[test]
fn a_tick_ends_application_consistent_and_the_copies_show_it() {
    if !need(&TOOLS) {
        return;
    }
    let (demo, code) = run(&[]);
    let report = &demo["report"];
    assert_eq!(
        (code, &report["status"], &report["units"][0]["level"]),
        (0, &"succeeded".into(), &"application".into()),
        "{demo:#}"
    );
    let disks = demo["disks"].as_array().unwrap();
    assert_eq!(disks.len(), 2);
    for disk in disks {
        assert_eq!(disk["tags"]["APPConsistent"], "True", "{disk:#}");
        assert_eq!(
            (&disk["snapshotCopy"]["clean"], &disk["plainCopy"]["clean"]),
            (&true.into(), &false.into()),
            "{disk:#}"
        );
        assert!(disk["keptInSnapshot"].as_u64() >= disk["acknowledgedBefore"].as_u64(), "{disk:#}");
    }
    assert_eq!(demo["webhook"]["run"], report["run"]);
}

#[test]
fn a_fast_freeze_hurries_the_guest_and_not_this_machine() {
    const RCU: &str = "/sys/kernel/rcu_expedited";
    if !need(&TOOLS) || !need(&[RCU]) {
        return;
    }
    let rcu = || std::fs::read_to_string(RCU).unwrap();
    let before = rcu();
    let mut child = demo(&["--fast-freeze"]).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        assert_eq!(rcu(), before);
        std::thread::sleep(Duration::from_millis(5));
    }
    let demo: Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    let unit = &demo["report"]["units"][0];
    let used = |finding: &Value| finding["code"] == "fast.used" && finding["severity"] == "note";
    assert!(unit["findings"].as_array().unwrap().iter().any(used), "{demo:#}");
    assert_eq!(unit["level"], "application");
}

#[test]
fn what_the_demo_cannot_do_yet_is_said_in_its_help_and_refused() {
    let help = Command::new(env!("CARGO_BIN_EXE_appsnap")).args(["demo", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let after = help.split("--html").nth(1).unwrap().split("--").next().unwrap();
    assert!(after.contains("not supported yet"), "{after}");
    let refused = demo(&["--html", "x"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && said.contains("not supported yet"), "{said}");
}

#[test]
fn a_wrong_mode_lowers_the_level_or_is_refused_by_the_minimum() {
    if !need(&TOOLS) {
        return;
    }
    let (demo, code) = run(&["--script-mode", "0755"]);
    let unit = &demo["report"]["units"][0];
    assert_eq!(
        (code, &unit["level"], &unit["reasons"][0]),
        (3, &"filesystem".into(), &"script.mode".into()),
        "{demo:#}"
    );
    for disk in demo["disks"].as_array().unwrap() {
        assert_eq!(
            (&disk["tags"]["FsConsistent"], &disk["tags"]["APPConsistent"]),
            (&"True".into(), &Value::Null)
        );
    }
    let (demo, code) = run(&["--script-mode", "0755", "--minimum-level", "application"]);
    assert_eq!((code, &demo["report"]["status"]), (4, &"refused".into()), "{demo:#}");
    assert_eq!(
        (&demo["report"]["units"][0]["snapshotGroupId"], demo["disks"].as_array().map(Vec::len)),
        (&Value::Null, Some(0))
    );
}

#[test]
fn nothing_is_left_of_a_demo_that_is_killed_or_interrupted() {
    if !need(&TOOLS) {
        return;
    }
    for (signal, after) in [("KILL", 600), ("KILL", 1800), ("KILL", 2600), ("INT", 1500)] {
        let mut child = demo(&[]).spawn().unwrap();
        let start = Instant::now();
        while own_states(&child).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(120), "the demo does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(after));
        let state = own_states(&child);
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success() && !state.is_empty());
        child.wait().unwrap();
        let killed = Instant::now();
        while !left(&state).is_empty() && killed.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(left(&state), Vec::<String>::new(), "{signal} after {after} ms");
    }
}
