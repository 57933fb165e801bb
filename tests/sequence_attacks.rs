//! Attacks on the guest sequence: whatever dies, fills up or lies, nothing stays frozen, the postscript runs once,
//! and the report is one line of JSON that does not overstate.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use std::time::{Duration, Instant};

use appsnap::guest::told::Told;
use victim::endpoint::Manners;
use victim::{Guest, SOON, codes, whole};

#[test]
fn busybox_applets_do_as_well() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("mount -t tmpfs none /usr/local/sbin && busybox --install -s /usr/local/sbin");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    guest.clean(1, "busybox");
}

#[test]
fn a_thaw_that_fails_is_tried_until_it_succeeds() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap fsfreeze 'case $1 in --unfreeze) mkdir /run/t1 2>/dev/null && { echo no memory >&2; exit 1; };; esac'");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).contains(&"thaw.failed"), "{out}");
    guest.sh("sleep 2");
    guest.clean(1, "thaw failed once");
}

#[test]
fn a_freezer_that_is_killed_after_its_freeze_leaves_nothing() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap fsfreeze 'case $1 in --freeze) mkdir /run/t1 2>/dev/null && { /usr/sbin/fsfreeze \"$@\"; kill -9 $$; };; esac'");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).contains(&"freeze.failed"), "{out}");
    guest.clean(1, "freezer killed");
}

#[test]
fn a_watchdog_that_dies_or_stops_is_told() {
    for (signal, when) in
        [("KILL", "pre.started"), ("STOP", "pre.started"), ("KILL", "armed"), ("STOP", "armed")]
    {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.rig.scripts("sleep 0.5", "");
        let during = format!("until_ $A/{when}; read -r w _ <$A/watch; kill -s {signal} $w");
        let (told, out) = guest.run(|_| {}, &during);
        assert!(codes(&told).contains(&"watchdog.lost"), "{signal} {when}: {out}");
        guest.clean(1, &format!("{signal} {when}"));
    }
}

#[test]
fn when_watchdog_and_sequence_both_die_the_settle_command_thaws() {
    let slow = Manners { visible_after: Duration::from_secs(9), ..SOON };
    let Some(mut guest) = Guest::new(slow) else { return };
    let during = "until_ $A/armed; sleep 0.3; read -r w _ <$A/watch; kill -s KILL $w; kill -s KILL -- -$p";
    guest.run(|_| {}, during);
    let told = guest.settle();
    assert_eq!(told.phase, "lost", "{told:?}");
    assert!(told.freeze.is_none());
    guest.sh("sleep 0.5");
    guest.clean(1, "both dead");
}

#[test]
fn a_curl_that_is_killed_parked_costs_a_connection_and_no_window() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap fsfreeze 'mkdir /run/t1 2>/dev/null && read -r c _ </run/appsnap/a1/conn && kill -9 $c'");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && told.group.is_some() && told.visible, "{out}");
    guest.clean(1, "curl killed");
}

#[test]
fn a_postscript_outlives_the_sequence_and_starts_without_it() {
    // The whole process group dies in the instant in which the postscript is to be started.
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("wrap setsid 'case $* in *post.sh*) if mkdir /run/t1 2>/dev/null; then read -r _ _ _ _ g _ </proc/$$/stat; kill -s KILL -- -$g; fi;; esac'");
    guest.run(|_| {}, "");
    assert_eq!(guest.settle().phase, "lost");
    guest.clean(1, "group killed at the claim");
    // It dies while the postscript is at work and about to print.
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("", "touch /run/begun; sleep 0.7; seq 30000");
    guest.run(|_| {}, "until_ /run/begun; kill -s KILL -- -$p");
    assert_eq!(guest.settle().phase, "lost");
    guest.clean(1, "group killed under the postscript");
}

#[test]
fn a_lock_that_nobody_holds_is_taken() {
    for left in
        ["mkdir -p /run/appsnap/lock", "mkdir -p /run/appsnap; ln -s '999999 1 gone' /run/appsnap/lock"]
    {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.sh(left);
        let (told, out) = guest.run(|_| {}, "");
        assert!(codes(&told).is_empty() && whole(&told, 2), "{left}: {out}");
        assert_eq!(guest.sh("ls /run/appsnap"), "a1\n");
        guest.clean(1, left);
    }
}

#[test]
fn odd_mount_points_and_stacks_are_all_frozen() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    // Spaces, %, quotes, a backslash, a tab, unicode; a loop file on it; a nested mount; double, bind and hidden mounts.
    guest.sh(
        "disk vdx bp1odd; mkfs.ext4 -qF $L; m=\"/mnt/a  b%d\\\"q'\\\\ü$(printf '\\t')x\"; mkdir \"$m\"; mount $L \"$m\"; \
         truncate -s 20M \"$m/in ner\"; mkfs.ext4 -qF \"$m/in ner\"; mkdir -p /mnt/n; K=$(losetup -f --show \"$m/in ner\"); mount $K /mnt/n; losetup -d $K; mkdir /sys/block/${K##*/}; ln -s /sys/class/block/${K##*/}/dev /sys/class/block/${K##*/}/loop /sys/block/${K##*/}; \
         disk vdy bp1nest; mkfs.ext4 -qF $L; mkdir /mnt/d/sub /mnt/two; mount $L /mnt/d/sub; mount $L /mnt/two; mount -t tmpfs none /mnt/d/sub; \
         mkdir /mnt/x/dir /mnt/bind; mount --bind /mnt/x/dir /mnt/bind; mount -o remount,ro /mnt/x",
    );
    let (told, out) = guest.run(
        |plan| plan.disks = ["d-bp1ext4", "d-bp1xfs", "d-bp1odd", "d-bp1nest"].map(String::from).to_vec(),
        "",
    );
    assert!(whole(&told, 5), "{out}");
    assert_eq!(codes(&told), ["group.not_visible"], "the endpoint's group has two disks: {out}");
    assert_eq!(told.file_systems[0].mount, "/mnt/n", "the loop file's file system goes first");
    assert!(told.file_systems.iter().any(|fs| fs.mount.contains("a\\040\\040b%d\"q'\\134ü\\011x")), "{out}");
    guest.clean(1, "odd mounts");
}

#[test]
fn a_raw_disk_is_watched_across_the_window() {
    for (line, quiet) in [
        ("", true),
        ("[ $1 = --unfreeze ] && dd if=/dev/zero of=/run/raw bs=4k count=1 conv=fsync 2>/dev/null", false),
    ] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.sh(&format!("disk vdx bp1raw; ln -s $L /run/raw; wrap fsfreeze '{line}'"));
        let (told, out) = guest.run(|plan| plan.disks.push("d-bp1raw".into()), "");
        assert_eq!(!codes(&told).contains(&"fs.not_quiet"), quiet, "{out}");
        guest.clean(1, line);
    }
}

#[test]
fn a_mount_that_goes_in_mid_run_is_told_and_thawed() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("umount -l /mnt/d", "");
    let (told, out) = guest.run(|_| {}, "");
    assert_eq!((codes(&told), told.freeze), (vec!["fs.changed"], None), "{out}");
    guest.clean(1, "unmounted in the prescript");
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("cd /mnt/d; sleep 60 & cd /; wrap fsfreeze 'case $1 in --unfreeze) umount -l /mnt/d 2>/dev/null;; esac'; echo $! >/run/in.d");
    let (told, out) = guest.run(|_| {}, "");
    assert!(whole(&told, 2), "{out}");
    assert_eq!(guest.sh("fsfreeze --unfreeze /proc/$(cat /run/in.d)/cwd 2>/dev/null; echo $?"), "1\n");
    guest.clean(1, "unmounted in the window");
}

#[test]
fn scripts_may_be_loud_and_leave_a_lock_holder_behind() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts(
        "head -c 3000000 /dev/zero | tr '\\0' x; echo; printf 'appsnap-mark: a=\\377\\303\\n'; (sleep 300; echo late) & echo $! >/run/one; setsid sleep 300 & echo $! >/run/two",
        "kill -0 $(cat /run/one) && kill -0 $(cat /run/two) && touch /run/both; kill $(cat /run/one /run/two)",
    );
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && told.visible, "{out}");
    assert_eq!(guest.sh("ls /run/both"), "/run/both\n", "both holders lived until the postscript");
    guest.clean(1, "loud");
}

#[test]
fn scripts_get_back_the_default_of_sigpipe_from_every_shell() {
    for shell in ["dash", "bash", "busybox sh"] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        let ignored = "grep SigIgn /proc/self/status >>/run/ign";
        guest.rig.scripts(&format!("{ignored}; sleep 0.4"), ignored);
        guest.sh(&format!("mount -t tmpfs none /usr/local/sbin; printf '#!/bin/sh\\nexec {shell} \"$@\"\\n' >/usr/local/sbin/sh; chmod 755 /usr/local/sbin/sh"));
        // The sequence dies, so that the watchdog runs the postscript.
        guest.run(|_| {}, "until_ /run/ign; kill -s KILL $p");
        assert_eq!(guest.settle().phase, "lost");
        let out = guest.sh("cat /run/ign");
        let masks: Vec<u64> = out.lines().map(|l| u64::from_str_radix(l[7..].trim(), 16).unwrap()).collect();
        assert!(masks.len() == 2 && masks.iter().all(|m| m & 0x1001 == 0), "{shell}: {out}");
        guest.clean(1, shell);
    }
}

#[test]
fn a_full_run_directory_is_told_and_never_overstated() {
    let fill = "cat /dev/zero >/run/fill 2>/dev/null; true";
    for (before_find, pre) in [(true, ""), (false, ""), (false, fill)] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.rig.scripts(pre, "rm -f /run/fill");
        guest.sh("mount -o remount,size=1m /run");
        if before_find {
            guest.sh(fill);
        } else if pre.is_empty() {
            guest.sh(&format!("wrap mkfifo '{fill}'"));
        }
        let (told, out) = guest.run(|_| {}, "");
        let known = codes(&told).iter().any(|code| ["state.space", "connect.failed"].contains(code));
        assert!(known && !told.visible, "{before_find} {pre}: {out}");
        guest.clean(usize::from(!pre.is_empty() && told.pre_exit.is_some()), "full");
    }
}

#[test]
fn a_command_that_comes_twice_disturbs_nothing() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("sleep 0.5", "");
    let (told, out) =
        guest.run(|_| {}, "until_ $A/pre.started; sh /run/w/find >/run/w/again; sh /run/w/go >>/run/w/again");
    assert!(codes(&told).is_empty() && whole(&told, 2), "{out}");
    let again = guest.sh("cat /run/w/again");
    assert!(again.lines().all(|line| codes(&Told::read(line).unwrap()) == ["busy"]), "{again}");
    guest.clean(1, "twice");
}

#[test]
fn a_dead_sequence_that_nobody_has_waited_for_is_not_running() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("sleep 5", "");
    let plan = guest.rig.plan("a1");
    guest.rig.load(&plan, guest.endpoint.port, &guest.endpoint.ca_pem);
    guest.sh("sh /run/w/find; sh -c 'sh /run/w/go & exec sleep 100' >/dev/null 2>&1 & echo $! >/run/parent; until_ $A/pre.started; read -r m _ <$A/main; kill -s KILL $m");
    assert_eq!(guest.settle().phase, "lost");
    guest.clean(1, "zombie");
}

#[test]
fn an_openssl_that_gets_no_answer_is_ended_before_the_freeze() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    guest.endpoint.port = deaf.local_addr().unwrap().port();
    guest.sh("printf '#!/bin/sh\\nexit 1\\n' >/run/none; chmod 755 /run/none; mount --bind /run/none /usr/bin/curl");
    let begin = Instant::now();
    let (told, out) = guest.run(|_| {}, "");
    assert_eq!((codes(&told), told.freeze), (vec!["connect.failed"], None), "{out}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    guest.clean(1, "deaf");
}

#[test]
fn many_reasons_stay_below_four_kilobytes_and_a_users_directory_is_not_trusted() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("chown 1 /run/scripts; chmod 1777 /run/scripts");
    let (told, out) = guest.run(|plan| plan.disks.extend((0..126).map(|i| format!("d-bp1{i:017}"))), "");
    assert!(codes(&told).contains(&"script.parent") && codes(&told).contains(&"disk.not_found"), "{out}");
    guest.clean(0, "many");
}

/// The prescript takes the last inodes of /run, or they go in the window: `wrap fsfreeze` runs before the first freeze.
#[test]
fn a_run_directory_without_inodes_leaves_nothing_frozen() {
    let fill = "i=0; while true 2>/dev/null >/run/fill.$i; do i=$((i+1)); done; true";
    for (pre, window) in [(fill, false), ("", true)] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.rig.scripts(pre, "rm -f /run/fill.*");
        guest.sh("mount -o remount,nr_inodes=300 /run");
        if window {
            guest.sh(&format!("wrap fsfreeze '{fill}'"));
        }
        let start = Instant::now();
        let (told, out) = guest.run(|plan| plan.window = 3, "");
        assert!(start.elapsed() < Duration::from_secs(30), "{pre}: {out}");
        assert!(!told.visible || codes(&told).is_empty() || whole(&told, 2), "{pre}: {out}");
        guest.sh("rm -f /run/fill.*; sleep 3.5");
        guest.clean(1, "no inodes");
    }
}
