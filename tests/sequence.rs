//! The guest sequence on real ext4 and XFS, against a minimal HTTPS endpoint.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/endpoint.rs"]
mod endpoint;
#[path = "common/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use appsnap::guest::told::Told;
use common::need;
use endpoint::{Endpoint, Manners};
use rig::{DISKS, Rig};

const TOOLS: [&str; 8] =
    ["root", "mkfs.xfs", "mkfs.ext4", "losetup", "unshare", "fsfreeze", "curl", "openssl"];
const GOOD: Manners = Manners { visible_after: Duration::from_millis(200), hang: false };

fn told(output: &str) -> Told {
    Told::read(output).unwrap_or_else(|| panic!("no report in: {output}"))
}

fn codes(told: &Told) -> Vec<&str> {
    told.reasons.iter().map(|(code, _)| code.as_str()).collect()
}

#[test]
fn a_good_run_is_frozen_visible_and_thawed_under_every_shell() {
    for (shell, tool) in [("dash", "dash"), ("bash", "bash"), ("busybox sh", "busybox")] {
        if !need(&[&TOOLS[..], &[tool]].concat()) {
            continue;
        }
        let endpoint = Endpoint::start(GOOD, &DISKS);
        let mut rig = Rig::start();
        rig.scripts("echo 'appsnap-mark: lsn=0/16B3748'", "");
        rig.load(&rig.plan("a1"), endpoint.port, &endpoint.ca_pem);
        // The sequence starts itself with `sh`: make that the shell in question.
        let dir = rig.dir.display().to_string();
        rig.sh(&format!(
            "mkdir /run/sh && printf '#!/bin/sh\\nexec {shell} \"$@\"\\n' >/run/sh/sh && chmod 755 /run/sh/sh"
        ));
        let path = "PATH=/run/sh:$PATH";
        let (found, status) = rig.sh(&format!("{path} {shell} {dir}/find"));
        assert_eq!((told(&found).phase.as_str(), status), ("found", 0), "{found}");
        let (output, status) = rig.sh(&format!("{path} {shell} {dir}/go"));
        let told = told(&output);
        assert_eq!((told.phase.as_str(), status), ("done", 0), "{shell}: {output}");
        assert!(codes(&told).is_empty(), "{shell}: {output}");
        let freeze = told.freeze.unwrap();
        assert_eq!((freeze.frozen, freeze.thawed, freeze.wanted), (2, 2, 2));
        assert!(told.visible && !told.fired && told.group.as_deref() == Some("ssg-1"));
        assert_eq!(told.marks["lsn"], "0/16B3748");
        assert_eq!(told.sequence.as_deref(), Some(appsnap::guest::render::sequence_sha256().as_str()));
        assert!(output.trim_end().len() < 4096);
        assert_eq!(rig.sh("cat /run/post.a1").0, "application\n");
        assert_eq!(rig.left_frozen(), "");
        // Kept in tmpfs, nothing signed with it; no process is left; all requests went over one connection.
        assert_eq!(rig.sh("cat /run/appsnap/a1/report").0, output);
        assert_eq!(rig.sh("grep -rl -e token+ /run/appsnap").0, "");
        assert_eq!(rig.processes(), "");
        let seen = endpoint.seen();
        assert!(
            seen.iter().all(|s| s.connection == 1)
                && seen.iter().filter(|s| s.action == "CreateSnapshotGroup").count() == 1
        );
        let mut nonces: Vec<_> = seen.iter().map(|s| &s.nonce).collect();
        nonces.sort();
        nonces.dedup();
        assert_eq!(nonces.len(), seen.len());
    }
}

/// Runs both commands in a fresh rig; the report of `go` and how long it took.
fn run(
    rig: &mut Rig,
    endpoint: &Endpoint,
    edit: impl Fn(&mut appsnap::guest::render::Plan),
) -> (Told, Duration) {
    let mut plan = rig.plan("a1");
    edit(&mut plan);
    rig.load(&plan, endpoint.port, &endpoint.ca_pem);
    let dir = rig.dir.display().to_string();
    let found = rig.sh(&format!("sh {dir}/find")).0;
    if told(&found).phase == "refused" {
        return (told(&found), Duration::ZERO);
    }
    let start = Instant::now();
    let output = rig.sh(&format!("sh {dir}/go")).0;
    (told(&output), start.elapsed())
}

#[test]
fn a_cloud_that_never_answers_is_thawed_in_time() {
    if !need(&TOOLS) {
        return;
    }
    let endpoint = Endpoint::start(Manners { hang: true, ..GOOD }, &DISKS);
    let mut rig = Rig::start();
    rig.scripts("", "");
    let (told, took) = run(&mut rig, &endpoint, |plan| plan.window = 3);
    assert!(codes(&told).contains(&"create.failed"), "{told:?}");
    assert!(told.freeze.unwrap().micros < 4_000_000 && took < Duration::from_secs(10), "{told:?}");
    assert_eq!(told.group, None);
    assert_eq!((rig.sh("cat /run/post.a1").0.as_str(), rig.left_frozen().as_str()), ("none\n", ""));
}

#[test]
fn a_group_that_never_shows_bounds_the_window_and_lowers_the_level() {
    if !need(&TOOLS) {
        return;
    }
    let endpoint = Endpoint::start(Manners { visible_after: Duration::from_secs(600), ..GOOD }, &DISKS);
    let mut rig = Rig::start();
    rig.scripts("", "");
    let (told, _) = run(&mut rig, &endpoint, |plan| plan.visible = 1);
    assert_eq!(codes(&told), ["group.not_visible"]);
    let freeze = told.freeze.unwrap();
    assert!(freeze.micros < 3_000_000 && freeze.thawed == 2, "{told:?}");
    assert_eq!(rig.sh("cat /run/post.a1").0, "crash\n");
}

#[test]
fn openssl_stands_in_for_curl_and_neither_is_a_finding() {
    if !need(&TOOLS) {
        return;
    }
    let endpoint = Endpoint::start(GOOD, &DISKS);
    let mut rig = Rig::start();
    rig.scripts("", "");
    rig.sh("printf '#!/bin/sh\\nexit 1\\n' >/run/none && chmod 755 /run/none && mount --bind /run/none $(command -v curl)");
    let (told, _) = run(&mut rig, &endpoint, |_| {});
    assert_eq!(
        (codes(&told), told.visible, told.steps.iter().any(|s| s.detail == "openssl 200")),
        (vec![], true, true),
        "{told:?}"
    );
    assert_eq!(rig.processes(), "");
    let mut rig = Rig::start();
    rig.scripts("", "");
    // A tmpfs over the whole directory would hide the shell; PATH without both tools does not exist, so hide each.
    rig.sh("mkdir /run/usrbin; for t in /usr/bin/*; do case $t in */curl|*/openssl) ;; *) ln -s /run/real/${t##*/} /run/usrbin/;; esac; done; mkdir /run/real; mount --bind /usr/bin /run/real; mount --bind /run/usrbin /usr/bin");
    let (told, _) = run(&mut rig, &endpoint, |_| {});
    assert_eq!((told.phase.as_str(), codes(&told)), ("refused", vec!["tool.https"]), "{told:?}");
}

#[test]
fn a_wrong_script_lowers_the_level_or_stops_the_run_untouched() {
    if !need(&TOOLS) {
        return;
    }
    for (spoil, code) in [
        ("chmod 755 /run/scripts/pre.sh", "script.mode"),
        ("chown 1 /run/scripts/post.sh", "script.owner"),
        ("rm /run/scripts/pre.sh", "script.missing"),
        ("mv /run/scripts/pre.sh /run/scripts/p && ln -s p /run/scripts/pre.sh", "script.symlink"),
        ("chmod 777 /run/scripts", "script.parent"),
    ] {
        let endpoint = Endpoint::start(GOOD, &DISKS);
        let mut rig = Rig::start();
        rig.scripts("", "");
        rig.sh(spoil);
        let (told, _) = run(&mut rig, &endpoint, |plan| plan.minimum = appsnap::report::Level::Application);
        assert_eq!(told.phase, "refused", "{spoil}: {told:?}");
        assert!(codes(&told).contains(&code), "{spoil}: {told:?}");
        let (told, _) = run(&mut rig, &endpoint, |plan| plan.attempt = "a2".into());
        assert!(codes(&told).contains(&code) && told.visible && told.pre_exit.is_none(), "{spoil}: {told:?}");
        assert_eq!(told.freeze.unwrap().thawed, 2);
    }
}

#[test]
fn a_file_system_frozen_by_somebody_else_is_theirs() {
    if !need(&TOOLS) {
        return;
    }
    let endpoint = Endpoint::start(GOOD, &DISKS);
    let mut rig = Rig::start();
    rig.scripts("", "");
    rig.sh("(sleep 20; fsfreeze --unfreeze /mnt/d) >/dev/null 2>&1 & fsfreeze --freeze /mnt/d");
    let (told, _) = run(&mut rig, &endpoint, |_| {});
    assert!(codes(&told).contains(&"freeze.busy"), "{told:?}");
    assert_eq!(rig.sh("cat /run/post.a1").0, "crash\n", "a crash-consistent copy is better than none");
    assert_eq!(rig.left_frozen(), "d\n", "theirs stays frozen, ours does not");
}

#[test]
fn a_script_that_hangs_is_ended_with_its_children_and_told() {
    if !need(&TOOLS) {
        return;
    }
    let endpoint = Endpoint::start(GOOD, &DISKS);
    let mut rig = Rig::start();
    rig.scripts("sleep 300 & sleep 300", "");
    let (told, took) = run(&mut rig, &endpoint, |plan| plan.script_timeout = 1);
    assert_eq!(codes(&told), ["script.timeout"]);
    assert!(took < Duration::from_secs(15));
    assert_eq!((rig.sh("cat /run/post.a1").0.as_str(), rig.processes().as_str()), ("filesystem\n", ""));
}

/// SIGKILL and SIGSTOP of the sequence and of its process group at random instants.
#[test]
fn no_kill_leaves_anything_frozen_and_the_postscript_always_runs() {
    if !need(&TOOLS) {
        return;
    }
    let rounds: u32 = std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()));
    println!("SEED={seed}");
    let workers: Vec<_> =
        (0..4).map(|w| std::thread::spawn(move || kill_rounds(seed + w, rounds / 4))).collect();
    let frozen_when_hit: u32 = workers.into_iter().map(|w| w.join().unwrap()).sum();
    println!("sequence: kills={rounds} left_frozen=0 of which inside the window={frozen_when_hit}");
    assert!(frozen_when_hit > 0, "SEED={seed}: no kill fell into the window: the test proves nothing");
}

fn kill_rounds(seed: u64, rounds: u32) -> u32 {
    let endpoint = Endpoint::start(Manners { visible_after: Duration::from_millis(700), ..GOOD }, &DISKS);
    let mut rig = Rig::start();
    rig.scripts("sleep 0.1", "");
    let (mut state, mut inside) = (seed, 0);
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..rounds {
        let attempt = format!("k{round}");
        let mut plan = rig.plan(&attempt);
        plan.window = 2;
        plan.visible = 1;
        rig.load(&plan, endpoint.port, &endpoint.ca_pem);
        let (signal, whole_group, millis) =
            (["KILL", "STOP"][random(2) as usize], random(2) == 0, random(1600));
        let what = format!("seed {seed} round {round}: {signal} group={whole_group} after {millis} ms");
        let target = if whole_group { "-- -$p" } else { "$p" };
        let dir = rig.dir.display().to_string();
        // As the agent does: a process group of its own, `sh -c file`, standard output to a pipe that may close.
        let line = format!(
            "sh {dir}/find >/dev/null; setsid sh -c {dir}/go >/dev/null 2>&1 & p=$!; sleep {}.{:03}; env kill -s {signal} {target} 2>/dev/null; [ -e /run/appsnap/{attempt}/armed ] && [ ! -e /run/appsnap/{attempt}/end ] && echo inside; echo $p",
            millis / 1000,
            millis % 1000
        );
        std::fs::set_permissions(rig.dir.join("go"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let out = rig.sh(&line).0;
        inside += u32::from(out.contains("inside"));
        let pid: u32 = out.lines().last().unwrap().parse().unwrap();
        // Nothing frozen past the window and one second more (and the time that this machine takes to notice).
        rig.sh("sleep 3.3");
        assert_eq!(rig.left_frozen(), "", "{what}");
        // What is stopped goes on, or is ended as the agent ends it at its timeout.
        rig.sh(&format!("env kill -s CONT -- -{pid}; env kill -s CONT {pid}; sleep 0.3"));
        let mut output = String::new();
        for _ in 0..40 {
            output = rig.sh(&format!("sh {dir}/settle")).0;
            if Told::read(&output).is_some_and(|told| told.phase != "running") {
                break;
            }
            rig.sh("sleep 0.25");
        }
        let told = Told::read(&output).unwrap_or_else(|| panic!("{what}: {output}"));
        assert!(["done", "lost", "refused", "idle"].contains(&told.phase.as_str()), "{what}: {output}");
        let started = rig.sh(&format!("ls /run/appsnap/{attempt}/pre.started.*")).1 == 0;
        let out = rig.sh(&format!("cat /run/post.{attempt}")).0;
        let ran = out.lines().filter(|line| !line.starts_with("cat")).count();
        assert_eq!(
            usize::from(started),
            ran,
            "{what}: the postscript runs once, when and only when the prescript started: {output}"
        );
        assert_eq!(rig.left_frozen(), "", "{what}");
        assert_eq!(rig.processes(), "", "{what}: {output}");
    }
    inside
}
