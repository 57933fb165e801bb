//! Rarer coincidences on the guest sequence: a thaw that fails, a freeze that lands late, somebody else's freeze beside ours,
//! a disk that is mounted meanwhile, a successor that comes in the middle.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use std::time::Duration;

use victim::endpoint::Manners;
use victim::{Guest, SOON, codes};

const SLOW: Manners = Manners { visible_after: Duration::from_secs(9), ..SOON };
/// `fs I`: where file system I of the run is mounted, in the order of its freezing.
const FS: &str = "fs() { sed -n ${1}p /run/appsnap/a1/fs | cut -d' ' -f6; };";

#[test]
fn a_thaw_that_fails_after_the_last_freeze_is_tried_until_it_succeeds() {
    let Some(mut guest) = Guest::new(SLOW) else { return };
    guest.sh("wrap fsfreeze 'case $1 in --unfreeze) [ ! -e /run/failing ] || exit 1;; esac'");
    guest.run(
        |_| {},
        "until_ $A/armed; sleep 0.5; touch /run/failing; env kill -s KILL -- -$p; sleep 2; rm /run/failing; sleep 2",
    );
    assert_eq!(guest.settle().phase, "lost");
    guest.sh("sleep 1");
    guest.clean(1, "thaw failed for 2 s");
}

#[test]
fn somebody_elses_freeze_that_was_not_reached_yet_is_left_alone_when_the_watchdog_fires() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts(&format!("{FS} /usr/sbin/fsfreeze --freeze $(fs 2)"), "");
    guest.sh("wrap fsfreeze 'case $1$(readlink $2) in --freeze$(sed -n 1p /run/appsnap/a1/fs | cut -d\" \" -f6)) sleep 4;; esac'");
    let during = format!(
        "until_ $A/fired; sleep 0.7; {FS} /usr/sbin/fsfreeze --unfreeze $(fs 2) && touch /run/kept; sleep 4"
    );
    guest.run(|plan| plan.window = 2, &during);
    assert_eq!(guest.sh("ls /run/kept"), "/run/kept\n", "it was still frozen");
    guest.clean(1, "foreign");
}

#[test]
fn freezers_that_are_out_are_waited_for_when_the_watchdog_fires() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do disk vdn$i bp1n$i; mkfs.ext4 -qF $L; mkdir /mnt/$i; mount $L /mnt/$i; done");
    guest.sh("wrap fsfreeze 'if [ $1 = --freeze ] && mkdir /run/once 2>/dev/null; then read -r m _ </run/appsnap/a1/main; kill -STOP $m; until [ -e /run/appsnap/a1/fired ]; do sleep 0.05; done; (sleep 0.3; kill -CONT $m) 9>&- & sleep 2; fi'");
    let (told, out) = guest.run(
        |plan| {
            plan.window = 2;
            plan.disks.extend((1..=12).map(|i| format!("d-bp1n{i}")));
        },
        "",
    );
    assert!(codes(&told).contains(&"watchdog.fired"), "{out}");
    guest.sh("sleep 3");
    let left = guest
        .sh("for m in 1 2 3 4 5 6 7 8 9 10 11 12; do /usr/sbin/fsfreeze --unfreeze /mnt/$m 2>/dev/null && echo $m; done; :");
    assert_eq!(left, "", "{out}");
    guest.clean(1, "freezers in flight");
}

#[test]
fn a_freezer_that_is_killed_together_with_its_holder_leaves_nothing() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap fsfreeze 'case $1 in --freeze) if mkdir /run/once 2>/dev/null; then /usr/sbin/fsfreeze \"$@\"; h=${2#/proc/}; kill -9 ${h%/cwd}; kill -9 $$; fi;; esac'");
    let (told, out) = guest.run(|plan| plan.window = 3, "");
    assert!(codes(&told).contains(&"freeze.failed"), "{out}");
    guest.sh("sleep 1");
    guest.clean(1, "freezer and holder");
}

#[test]
fn after_a_run_whose_watchdog_died_late_nobody_thaws_any_more() {
    let Some(mut guest) = Guest::new(SLOW) else { return };
    guest.run(
        |plan| (plan.window, plan.visible) = (2, 2),
        "until_ $A/fired; read -r w _ <$A/watch; kill -s KILL $w",
    );
    guest.sh("sleep 1");
    let kept = guest
        .sh("/usr/sbin/fsfreeze --freeze /mnt/x; sleep 1; /usr/sbin/fsfreeze --unfreeze /mnt/x && echo kept");
    assert_eq!(kept, "kept\n", "somebody else's freeze after our run");
    guest.clean(1, "watchdog killed after firing");
}

#[test]
fn where_the_watchdog_is_dead_and_a_thaw_fails_another_watchdog_thaws() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap fsfreeze 'case $1 in --unfreeze) mkdir /run/t1 2>/dev/null && exit 1;; esac'");
    let (told, out) =
        guest.run(|plan| plan.window = 3, "until_ $A/armed; read -r w _ <$A/watch; kill -s KILL $w");
    assert!(codes(&told).contains(&"thaw.failed"), "{out}");
    guest.sh("sleep 3");
    guest.clean(1, "watchdog dead, thaw failed");
}

#[test]
fn a_disk_that_the_prescript_mounts_lowers_the_level() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.shows(&["d-bp1more"]);
    guest.rig.scripts("mkdir -p /mnt/q; mount /run/raw /mnt/q; echo unsaved >/mnt/q/f", "");
    guest.sh("disk vdx bp1more; mkfs.ext4 -qF $L; ln -s $L /run/raw");
    let (told, out) = guest.run(|plan| plan.disks.push("d-bp1more".into()), "");
    assert_eq!(codes(&told), ["fs.changed"], "{out}");
    guest.sh("umount /mnt/q");
    guest.clean(1, "mounted meanwhile");
}

#[test]
fn a_btrfs_under_another_btrfs_is_out_of_reach_and_the_other_is_not_touched() {
    if !common::need(&["fs:btrfs", "mkfs.btrfs"]) {
        return;
    }
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.shows(&["d-bp1b1"]);
    guest.sh("truncate() { command truncate -s 200M \"$3\"; }; for n in 1 2; do disk vd$n bp1b$n; eval L$n=$L; mv /sys/block/vd$n /sys/block/${L##*/}; mkfs.btrfs -qf $L; done; mkdir -p /mnt/b; mount $L1 /mnt/b; mount $L2 /mnt/b; touch /mnt/b/foreign; wrap fsfreeze 'echo $1 $(ls $2 2>/dev/null) >>/run/touched'");
    let (told, out) = guest.run(|plan| plan.disks.push("d-bp1b1".into()), "");
    assert!(codes(&told).contains(&"fs.hidden"), "{out}");
    assert!(!guest.sh("cat /run/touched").contains("foreign"), "{out}");
    guest.sh("umount /mnt/b; umount /mnt/b");
    guest.clean(1, "btrfs over btrfs");
}

#[test]
fn a_postscript_that_the_watchdog_runs_can_be_terminated() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    let ign = "grep SigIgn /proc/self/status >>/run/ign";
    guest.rig.scripts(&format!("{ign}; sleep 0.4"), ign);
    guest.run(|_| {}, "until_ /run/ign; kill -s KILL $p");
    guest.settle();
    let masks = guest.sh("cut -f2 /run/ign");
    let term = |mask: &str| u64::from_str_radix(mask, 16).unwrap() & (1 << 14) != 0;
    assert!(masks.lines().count() == 2 && !masks.lines().any(term), "{masks}");
}

#[test]
fn without_curl_a_silent_cloud_after_a_failed_freeze_is_not_waited_for() {
    let Some(mut guest) = Guest::new(Manners { hang: true, ..SOON }) else { return };
    guest.sh("printf '#!/bin/sh\\nexit 1\\n' >/run/none; chmod 755 /run/none; mount --bind /run/none $(command -v curl)");
    guest.rig.scripts("/usr/sbin/fsfreeze --freeze /mnt/x", "/usr/sbin/fsfreeze --unfreeze /mnt/x");
    let (told, out) = guest.run(
        |plan| plan.window = 3,
        "until_ $A/over; sleep 30; [ -e $A/end ] || { touch /run/hung; kill -s KILL -- -$p; }",
    );
    assert_eq!(guest.sh("ls /run/hung 2>/dev/null"), "", "{out}");
    assert!(codes(&told).contains(&"freeze.busy") && codes(&told).contains(&"create.failed"), "{out}");
    guest.clean(1, "silent cloud");
}

#[test]
fn a_successor_does_not_wait_for_a_freezer_that_outlived_its_window() {
    let Some(mut guest) = Guest::new(SLOW) else { return };
    // The second freezer is in a session of its own and slow; both groups die while it is out.
    guest.sh("wrap fsfreeze 's=$(sed -n 2p /run/appsnap/a1/fs | cut -d\" \" -f6); case $1$(readlink $2) in --freeze$s) setsid sh -c \"sleep 9; exec /usr/sbin/fsfreeze --freeze $s\"; exit;; esac'");
    let during = format!(
        "{FS} until_ $A/armed; sleep 0.5; read -r w _ <$A/watch; env kill -s KILL -- -$p; env kill -s KILL -- -$w; sh /run/w/settle & sleep 4; /usr/sbin/fsfreeze --unfreeze $(fs 1) && touch /run/still; sleep 8"
    );
    guest.run(|plan| plan.window = 3, &during);
    assert_eq!(guest.sh("ls /run/still 2>/dev/null"), "", "still frozen 4 s later");
    guest.settle();
    guest.sh("sleep 1");
    assert_eq!(guest.rig.left_frozen(), "");
}

#[test]
fn a_run_directory_without_an_inode_for_the_lock_is_told() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("mount -o remount,nr_inodes=300 /run; wrap ln 'i=0; while true 2>/dev/null >/run/fill.$i; do i=$((i+1)); done'");
    let (told, out) = guest.run(
        |_| {},
        "sleep 12; [ -e $A/end ] || [ -s /run/w/out ] || touch /run/w/hung; kill -s KILL -- -$p",
    );
    assert_eq!(guest.sh("ls /run/w/hung 2>/dev/null"), "", "{out}");
    assert!(codes(&told).contains(&"state.space"), "{out}");
    assert_eq!(guest.rig.left_frozen(), "");
}

#[test]
fn somebody_elses_freeze_while_the_watchdog_runs_the_postscript_is_left_alone() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("", "touch /run/posting; sleep 8");
    guest.sh("wrap fsfreeze 'case $1 in --freeze) mkdir /run/once 2>/dev/null && sleep 5;; esac'");
    guest.run(
        |plan| plan.window = 2,
        "until_ /run/posting; sleep 4; /usr/sbin/fsfreeze --freeze /mnt/x; sleep 1; /usr/sbin/fsfreeze --unfreeze /mnt/x && touch /run/kept",
    );
    assert_eq!(guest.sh("ls /run/kept"), "/run/kept\n");
    guest.sh("sleep 1");
    guest.clean(1, "postscript by the watchdog");
}

#[test]
fn a_sequence_that_is_killed_between_its_end_and_its_lock_leaves_no_lock() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap readlink '[ ! -e /run/appsnap/a1/end ] || { read -r m _ </run/appsnap/a1/main; kill -s KILL $m; }'");
    guest.run(|_| {}, "");
    guest.sh("sleep 1");
    assert_eq!(guest.sh("ls /run/appsnap"), "a1\n");
    assert_eq!(guest.settle().phase, "done");
    guest.clean(1, "killed at the end");
}
