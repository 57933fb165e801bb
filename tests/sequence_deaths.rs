//! Deaths of parts of the guest sequence: whoever dies, stops or hangs, somebody else thaws, the postscript runs once,
//! and no process, lock or kernel setting is left.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use std::time::{Duration, Instant};

use victim::endpoint::Manners;
use victim::{Guest, SOON, codes, whole};

/// A group that shows late: the window is long enough to be hit.
const SLOW: Manners = Manners { visible_after: Duration::from_secs(9), ..SOON };
/// The rig's own setting in the place of the kernel's.
const OWN_RCU: &str = "echo 0 >/run/rcu; mount --bind /run/rcu /sys/kernel/rcu_expedited";

fn rcu(guest: &mut Guest) -> String {
    guest.sh("cat /sys/kernel/rcu_expedited")
}

#[test]
fn a_holder_that_died_is_replaced_when_the_watchdog_fires() {
    let Some(mut guest) = Guest::new(SLOW) else { return };
    let during = "until_ $A/armed; sleep 0.3; for h in $A/held.*; do read -r h _ <$h; kill -s KILL $h; done; kill -s KILL -- -$p";
    guest.run(|_| {}, during);
    guest.sh("sleep 1.5");
    guest.clean(1, "holders and sequence killed in the window");
    assert_eq!(guest.settle().phase, "lost");
}

#[test]
fn a_holder_that_died_before_the_freeze_is_told_and_nothing_of_anybody_else_is_touched() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("for h in /run/appsnap/a1/held.*; do read -r h _ <$h; kill -s KILL $h; done", "");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).contains(&"watchdog.lost") && told.group.is_some(), "{out}");
    assert_eq!(told.freeze.unwrap().frozen, 0, "{out}");
    guest.clean(1, "holders killed early");
}

#[test]
fn a_second_run_is_told_busy_at_once_also_when_only_the_watchdog_of_the_first_lives() {
    for kill in ["", "read -r m _ <$A/main; kill -s KILL $m; "] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.rig.scripts("sleep 0.5", "sleep 4");
        let first = guest.rig.plan("a1");
        guest.rig.load(&first, guest.endpoint.port, &guest.endpoint.ca_pem);
        guest.sh("sh /run/w/find >/dev/null; cp /run/w/go /run/w/go1; cp /run/w/settle /run/w/settle1");
        let mut plan = guest.rig.plan("a2");
        plan.script_timeout = 5;
        guest.rig.load(&plan, guest.endpoint.port, &guest.endpoint.ca_pem);
        let begun = Instant::now();
        let out = guest.sh(&format!(
            "setsid sh /run/w/go1 >/dev/null 2>&1 & until_ $A/pre.started; {kill} until_ $A/post.started; sh /run/w/find >/dev/null; sh /run/w/go; echo $?; wait"
        ));
        assert!(out.contains("busy") && out.contains("\n21\n"), "{kill}: {out}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        guest.sh("sleep 5; sh /run/w/settle1");
        guest.clean(1, kill);
    }
}

#[test]
fn settle_leaves_a_living_watchdog_to_its_work() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("", "sleep 7");
    guest.run(|_| {}, "until_ $A/pre.started; read -r m _ <$A/main; kill -s KILL $m; until_ $A/post.started");
    let out = guest.sh("sh /run/w/settle; echo $?; ls -d $A/end 2>&1");
    assert!(out.contains("\"phase\":\"running\"") && out.contains("\n23\n"), "{out}");
    assert_eq!(guest.settle().phase, "lost");
    guest.clean(1, "settled beside the watchdog");
}

#[test]
fn two_settles_at_once_and_a_stopped_watchdog_end_in_one_report() {
    let Some(mut guest) = Guest::new(SLOW) else { return };
    let during = "until_ $A/armed; sleep 0.3; read -r w _ <$A/watch; kill -s STOP $w; kill -s KILL -- -$p";
    guest.run(|_| {}, during);
    guest.sh("sh /run/w/settle >/run/one & sh /run/w/settle >/run/two; wait");
    assert_eq!(guest.settle().phase, "lost");
    guest.sh("sleep 0.5");
    guest.clean(1, "two settles");
}

#[test]
fn a_thaw_that_hangs_is_not_killed_by_settle() {
    let Some(mut guest) = Guest::new(SLOW) else { return };
    // Every thaw takes its time, and the one who waits for it is asked meanwhile.
    guest.sh("wrap fsfreeze 'case $1 in --unfreeze) sleep 3;; esac'");
    guest.run(|_| {}, "until_ $A/armed; sleep 0.4; kill -s KILL -- -$p");
    guest.sh("sh /run/w/settle; sleep 4");
    assert_eq!(guest.settle().phase, "lost");
    guest.sh("sleep 3.5");
    guest.clean(1, "slow thaw");
}

#[test]
fn where_no_fork_is_to_be_had_what_is_frozen_is_thawed() {
    let Some(mut guest) = Guest::new(SLOW) else { return };
    // The sequence dies in the window, when no process id is free any more: the holders' own thaws need none.
    // (Each pid namespace has its own pid_max.)
    let during = "until_ $A/armed; sleep 0.4; (until [ -e $A/fired ]; do :; done; echo x >/mnt/d/w; echo x >/mnt/x/w; read -r u _ </proc/uptime; echo $u >/run/thawed) & \
         (sleep 1; kill -s KILL -- -$p) & read -r u _ </proc/uptime; echo $u >/run/full; \
         echo 400 >/proc/sys/kernel/pid_max; (n=0; while [ $((n += 1)) -le 500 ]; do sleep 6 & done; touch /run/not-full); \
         end=$((${u%.*} + 9)); while read -r u _ </proc/uptime && [ ${u%.*} -lt $end ]; do :; done";
    guest.run(|plan| plan.window = 30, during);
    assert_eq!(guest.sh("ls /run/not-full $A/fired 2>/dev/null"), "/run/appsnap/a1/fired\n");
    let at = |path: &str, guest: &mut Guest| guest.sh(&format!("cat {path}")).trim().parse::<f64>().unwrap();
    let (full, thawed) = (at("/run/full", &mut guest), at("/run/thawed", &mut guest));
    assert!(thawed - full < 5.5, "{full} {thawed}: thawed while no fork was to be had");
    guest.settle();
    guest.sh("sleep 0.5");
    guest.clean(1, "no fork");
}

#[test]
fn a_prescript_never_starts_after_the_postscript() {
    // The one who launches the prescript is held between its session and its token, and everybody else dies.
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap mv 'case $* in *pre.todo*pre.started*) touch /run/at-token; sleep 2;; esac'");
    guest.rig.scripts("touch /run/pre-ran", "");
    guest.run(|_| {}, "until_ /run/at-token; kill -s KILL -- -$p");
    guest.settle();
    guest.sh("sleep 2.5");
    assert_eq!(guest.sh("ls /run/pre-ran 2>/dev/null"), "", "the token had been taken away");
    guest.clean(0, "no prescript, no postscript");
}

#[test]
fn fast_freeze_sets_the_kernel_and_puts_it_back_on_every_path() {
    let until_set = "n=0; while [ ! -s /run/seen ] && [ $((n += 1)) -lt 500 ]; do sleep 0.01; done";
    for (manners, what) in [
        (SOON, String::new()),
        (SLOW, format!("{until_set}; kill -s KILL -- -$p; sleep 1.5")),
        (SLOW, format!("{until_set}; read -r m _ <$A/main; kill -s STOP $m; sleep 5; kill -s CONT $m")),
        (
            SLOW,
            format!(
                "{until_set}; read -r w _ <$A/watch; kill -s KILL $w; kill -s KILL -- -$p; sh /run/w/settle"
            ),
        ),
    ] {
        let Some(mut guest) = Guest::new(manners) else { return };
        guest.sh(OWN_RCU);
        guest.sh("cat >/run/seen <<E\nE\n");
        guest.sh("wrap fsfreeze 'cat /run/rcu >>/run/seen'");
        let (told, out) =
            guest.run(|plan| (plan.fast_freeze, plan.window, plan.visible) = (true, 3, 2), &what);
        if what.is_empty() {
            assert!(codes(&told).is_empty() && whole(&told, 2), "{out}");
            assert!(
                told.notes.iter().any(|(code, detail)| code == "fast.used" && detail.contains("was 0")),
                "{out}"
            );
        }
        assert!(guest.sh("cat /run/seen").starts_with("1\n"), "{what}: set before the first freeze");
        assert_eq!(rcu(&mut guest), "0\n", "{what}");
        guest.settle();
        guest.sh("sleep 0.5");
        assert_eq!(rcu(&mut guest), "0\n", "{what}");
        guest.clean(1, &what);
    }
    // A kernel without the setting, or one that is set already.
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("echo 1 >/run/rcu; mount --bind /run/rcu /sys/kernel/rcu_expedited");
    let (told, out) = guest.run(|plan| plan.fast_freeze = true, "");
    assert!(codes(&told).is_empty() && told.notes.iter().any(|(code, _)| code == "fast.used"), "{out}");
    assert_eq!(rcu(&mut guest), "1\n", "it was set before");
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("mount -t tmpfs none /sys/kernel");
    let (told, out) = guest.run(|plan| plan.fast_freeze = true, "");
    assert!(codes(&told).is_empty() && told.notes.iter().any(|(code, _)| code == "fast.none"), "{out}");
}

#[test]
fn without_the_option_the_kernel_is_not_touched() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh(OWN_RCU);
    guest.sh("wrap fsfreeze 'cat /run/rcu >>/run/seen'");
    guest.run(|_| {}, "");
    assert_eq!(guest.sh("sort -u /run/seen"), "0\n");
}

#[test]
fn a_watchdogs_timer_and_a_scripts_timer_do_not_outlive_the_run() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("sleep 3", "");
    guest.run(
        |plan| plan.script_timeout = 300,
        "until_ $A/pre.started; read -r m _ <$A/main; kill -s KILL $m",
    );
    assert_eq!(guest.settle().phase, "lost");
    guest.sh("sleep 1.2");
    guest.clean(1, "timers");
    assert_eq!(guest.rig.processes(), "");
}

#[test]
fn no_child_that_is_not_a_freezer_holds_the_lifeline() {
    // While the prescript runs, while the connection is made, and inside the window.
    let Some(mut guest) = Guest::new(SLOW) else { return };
    guest.rig.scripts("sleep 0.6", "");
    let look = "for d in /proc/[0-9]*; do for f in $d/fd/*; do [ \"$(readlink $f)\" = $A/life ] && echo \"${d#/proc/} $(tr '\\0' ' ' <$d/cmdline)\"; done; done | grep -v \"^$m \" | grep -v ' watch ' >>/run/holders";
    guest.run(
        |plan| (plan.window, plan.visible) = (3, 2),
        &format!("until_ $A/pre.started; sleep 0.2; read -r m _ <$A/main; {look}; until_ $A/armed; sleep 0.3; {look}; sleep 0.5; {look}"),
    );
    assert_eq!(guest.sh("cat /run/holders"), "");
    guest.clean(1, "lifeline");
}

#[test]
fn a_tag_that_names_a_disk_is_no_member() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    // The endpoint's group has a snapshot of one disk, and tags that name the other.
    guest.endpoint = victim::endpoint::Endpoint::start(SOON, &["d-bp1ext4\",\"Tag\":\"d-bp1xfs"]);
    let (told, out) = guest.run(|plan| plan.visible = 1, "");
    assert_eq!((codes(&told), told.visible), (vec!["group.not_visible"], false), "{out}");
    guest.clean(1, "tag");
}

#[test]
fn a_watchdog_all_of_whose_children_are_dead_still_thaws() {
    // Everything but the watchdog itself: the sequence, holders, clocks, and who reads the lifeline.
    let Some(mut guest) = Guest::new(SLOW) else { return };
    let during = "until_ $A/armed; sleep 0.3; read -r w _ <$A/watch; for q in /proc/[0-9]*; do q=${q#/proc/}; read -r _ _ _ _ g _ 2>/dev/null </proc/$q/stat; [ $q = $w ] || { [ \"$g\" = $w ] && kill -s KILL $q; }; done; env kill -s KILL -- -$p";
    guest.run(|_| {}, during);
    guest.sh("sleep 0.7");
    assert_eq!(guest.rig.left_frozen(), "");
    assert_eq!(guest.settle().phase, "lost");
    guest.sh("sleep 0.5");
    guest.clean(1, "all but the watchdog");
}

#[test]
fn a_run_that_died_before_its_watchdog_is_settled_without_one() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap mkfifo 'read -r m _ </run/appsnap/a1/main; kill -s KILL $m'");
    guest.run(|_| {}, "");
    assert_eq!(guest.settle().phase, "lost");
    guest.clean(0, "killed before the watchdog");
    assert_eq!(guest.rig.processes(), "");
}

#[test]
fn a_freeze_slower_than_the_limit_still_gets_a_crash_consistent_copy_and_is_told_as_what_it_was() {
    for tool in ["curl", "openssl"] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        if tool == "openssl" {
            guest.sh("printf '#!/bin/sh\\nexit 1\\n' >/run/none; chmod 755 /run/none; mount --bind /run/none $(command -v curl)");
        }
        guest.sh("wrap fsfreeze 'case $1 in --freeze) sleep 3;; esac'");
        let (told, out) = guest.run(|plan| (plan.window, plan.visible) = (2, 1), "");
        assert_eq!(codes(&told), ["watchdog.fired"], "{tool}: {out}");
        assert!(told.group.is_some() && !told.visible && told.fired, "{tool}: {out}");
        guest.clean(1, tool);
    }
}
