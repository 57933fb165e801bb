//! Scripts that are not what they seem, and scripts that behave badly.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use std::time::{Duration, Instant};

use appsnap::report::Level;
use victim::endpoint::Manners;
use victim::{Guest, SOON, codes, whole};

/// What the postscript was told.
fn outcome(guest: &mut Guest) -> String {
    guest.sh("cat /run/post.a1").trim_end().to_string()
}

/// `(lines that spoil, where the prescript is named, code)`
const SPOILED: [(&str, &str, &str); 15] = [
    ("chmod 770 /run/scripts/pre.sh", "/run/scripts/pre.sh", "script.mode"),
    ("chmod 4700 /run/scripts/pre.sh", "/run/scripts/pre.sh", "script.mode"),
    ("chgrp 1 /run/scripts; chmod 775 /run/scripts", "/run/scripts/pre.sh", "script.parent"),
    ("ln /run/scripts/pre.sh /run/other", "/run/scripts/pre.sh", "script.links"),
    ("ln -sf gone /run/scripts/pre.sh", "/run/scripts/pre.sh", "script.symlink"),
    ("rm /run/scripts/pre.sh; mkdir -m 700 /run/scripts/pre.sh", "/run/scripts/pre.sh", "script.type"),
    ("rm /run/scripts/pre.sh; mkfifo -m 700 /run/scripts/pre.sh", "/run/scripts/pre.sh", "script.type"),
    ("rm -r /run/scripts", "/run/scripts/pre.sh", "script.missing"),
    // A directory above, up to the root of it all.
    ("mkdir -p /run/u/s; chown 1 /run/u; cp -p /run/scripts/* /run/u/s", "/run/u/s/pre.sh", "script.parent"),
    (
        "mkdir -p /run/u/s/t; chmod 777 /run/u; cp -p /run/scripts/* /run/u/s/t",
        "/run/u/s/t/pre.sh",
        "script.parent",
    ),
    (
        "mkdir -p /run/u/s; chmod 2775 /run/u; cp -p /run/scripts/* /run/u/s",
        "/run/u/s/pre.sh",
        "script.parent",
    ),
    (
        "mkdir -p /run/u/s; chown 1 /run/u; chmod 1777 /run/u; cp -p /run/scripts/* /run/u/s",
        "/run/u/s/pre.sh",
        "script.parent",
    ),
    // Who owns the link decides what runs.
    ("mkdir -m 755 /run/u; ln -s /run/scripts /run/u/s", "/run/u/s/pre.sh", "script.symlink"),
    ("ln -s scripts /run/s", "/run/s/../scripts/pre.sh", "script.symlink"),
    ("chmod 757 /run", "/run/scripts/pre.sh", "script.parent"),
];

#[test]
fn a_script_that_others_could_have_put_there_does_not_run() {
    for (spoil, at, code) in SPOILED {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.rig.scripts("touch /run/ran", "");
        guest.sh(spoil);
        let strict = |plan: &mut appsnap::guest::render::Plan| {
            (plan.pre_script, plan.minimum) = (Some(at.into()), Level::Application);
        };
        let (told, out) = guest.run(strict, "");
        assert_eq!((told.phase.as_str(), codes(&told)[0]), ("refused", code), "{spoil}: {out}");
        assert!(told.reasons[0].1.contains("/run"), "names the place: {out}");
        let (told, out) =
            guest.run(|plan| (plan.attempt, plan.pre_script) = ("a2".into(), Some(at.into())), "");
        assert!(codes(&told).contains(&code) && whole(&told, 2) && told.pre_exit.is_none(), "{spoil}: {out}");
        assert_eq!(guest.sh("ls /run/ran /run/post.a2 2>/dev/null"), "", "{spoil}: one of the scripts ran");
        guest.clean(0, spoil);
    }
}

#[test]
fn a_script_in_a_sticky_directory_of_root_is_trusted() {
    for mode in ["1777", "3777", "2755", "711"] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.sh(&format!("mkdir /run/t; cp -p /run/scripts/* /run/t; chmod {mode} /run/t"));
        let (told, out) = guest.run(
            |plan| {
                plan.pre_script = Some("/run/t/pre.sh".into());
                plan.post_script = Some("/run/t/post.sh".into());
            },
            "",
        );
        assert!(codes(&told).is_empty() && told.pre_exit.as_deref() == Some("0"), "{mode}: {out}");
        guest.clean(1, mode);
    }
}

#[test]
fn scripts_hold_none_of_the_sequences_descriptors() {
    // 3 to 9 are the sequence's; what is above came with the test.
    let list = "ls /proc/$$/fd >/run/fd; echo $(grep -x [0-9] /run/fd) >>/run/fds";
    for shell in ["dash", "bash", "busybox sh"] {
        for kill in ["", "until_ /run/fds; kill -s KILL $p"] {
            let Some(mut guest) = Guest::new(SOON) else { return };
            // A shell may hold its script open (dash, descriptor 10; bash, 255): run as `sh -c`.
            let script = format!("exec sh -c '{list}; [ $APPSNAP_PHASE = post ] || sleep 0.5'");
            guest.rig.scripts("", "");
            guest.rig.write("/run/scripts/pre.sh", &format!("#!/bin/sh\n{script}\n"), "700");
            guest.rig.write(
                "/run/scripts/post.sh",
                &format!("#!/bin/sh\necho >/run/post.a1\n{script}\n"),
                "700",
            );
            guest.sh(&format!("mount -t tmpfs none /usr/local/sbin; printf '#!/bin/sh\\nexec {shell} \"$@\"\\n' >/usr/local/sbin/sh; chmod 755 /usr/local/sbin/sh"));
            let (_, out) = guest.run(|_| {}, kill);
            if !kill.is_empty() {
                assert_eq!(guest.settle().phase, "lost"); // the watchdog ran the postscript
            }
            assert_eq!(guest.sh("cat /run/fds"), "0 1 2\n0 1 2\n", "{shell} {kill}: {out}");
            guest.clean(1, shell);
        }
    }
}

/// What a child of the prescript does not let go of keeps nobody waiting: not the agent, not the watchdog.
#[test]
fn a_child_that_stays_keeps_neither_the_agent_nor_the_watchdog_waiting() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("setsid sleep 300 & echo $! >/run/stays; sleep 300 & echo $! >>/run/stays", "");
    let plan = guest.rig.plan("a1");
    guest.rig.load(&plan, guest.endpoint.port, &guest.endpoint.ca_pem);
    let begin = Instant::now();
    // The agent reads the command's output up to its end: whoever holds the pipe keeps it waiting.
    let out = guest.sh("sh /run/w/find | cat >/dev/null; sh /run/w/go | cat");
    assert!(begin.elapsed() < Duration::from_secs(60), "{out}");
    let told = appsnap::guest::told::Told::read(&out).unwrap();
    assert!(codes(&told).is_empty() && whole(&told, 2), "{out}");
    assert_eq!(guest.sh("for p in $(cat /run/stays); do kill $p && echo lived; done"), "lived\nlived\n");
    guest.clean(1, "stays");
}

#[test]
fn a_script_that_cannot_be_asked_to_end_is_ended() {
    for hang in
        ["trap '' TERM INT HUP; sleep 300 & wait; sleep 300; sleep 300", "kill -s STOP $$", "exec sleep 300"]
    {
        for (pre, post, code) in [(hang, "", "pre"), ("", hang, "post")] {
            let Some(mut guest) = Guest::new(SOON) else { return };
            // The trace of the postscript comes first here: it does not get to its end.
            guest.rig.scripts(pre, &format!("echo >>/run/post.a1; {post}"));
            let begin = Instant::now();
            let (told, out) = guest.run(|plan| plan.script_timeout = 2, "");
            assert_eq!(codes(&told), ["script.timeout"], "{hang}: {out}");
            assert!(
                whole(&told, 2) && told.visible && begin.elapsed() < Duration::from_secs(60),
                "{hang}: {out}"
            );
            let exit = if code == "pre" { &told.pre_exit } else { &told.post_exit };
            assert_eq!(exit.as_deref(), Some("timeout"), "{hang}: {out}");
            guest.clean(if code == "pre" { 2 } else { 1 }, hang);
        }
    }
}

#[test]
fn a_child_that_prints_for_ever_is_not_listened_to_for_ever() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("yes 'appsnap-mark: loud=1' & seq 200000; echo \"$(seq 400000)\" >&2", "seq 200000");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    assert_eq!(guest.sh("sleep 0.5; pgrep -x yes; du -k /run/appsnap/a1/pre.out | cut -f1"), "16\n");
    guest.clean(1, "yes");
}

#[test]
fn writers_to_the_frozen_file_systems_wait_and_go_on() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    // One writes all the time, one starts in the window, one holds a file open and syncs it.
    guest.rig.scripts(
        "for m in d x; do (n=0; while :; do n=$((n+1)); echo $n >>/mnt/$m/log; mkdir /mnt/$m/dir.$n; done) & echo $! >>/run/w.pid; done; \
         (until [ -e /run/appsnap/a1/armed ]; do :; done; echo born >/mnt/d/in-window; touch /run/late) & dd if=/dev/zero of=/mnt/x/big bs=64k count=800 conv=fsync 2>/dev/null",
        "kill $(cat /run/w.pid); n=0; until [ -e /run/late ] || [ $n -gt 100 ]; do n=$((n+1)); sleep 0.05; done; cat /mnt/d/in-window",
    );
    // Of each file system by whoever thaws it: the other one may be thawed a moment earlier.
    guest.sh(
        "wrap fsfreeze 'case $1 in --unfreeze) f=/run/lines.$(stat -L -c %d \"$2\"); for n in 1 2; do wc -l <\"$2/log\" >>$f; sleep 0.1; done;; esac'",
    );
    let (told, out) = guest.run(|plan| plan.window = 20, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    let came = guest.sh("for f in /run/lines.*; do head -n 2 $f | uniq | wc -l; done");
    assert_eq!(came, "1\n1\n", "a line came while frozen");
    assert_eq!(guest.sh("cat /mnt/d/in-window; ls /run/late"), "born\n/run/late\n");
    assert_eq!(outcome(&mut guest), "application");
    guest.clean(1, "writers");
}

#[test]
fn scripts_may_live_on_the_disk_that_is_frozen() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("chmod 755 /mnt /mnt/d; mount -o remount,strictatime /mnt/d; mkdir -m 700 /mnt/d/s; cp -p /run/scripts/* /mnt/d/s");
    let (told, out) = guest.run(
        |plan| {
            plan.pre_script = Some("/mnt/d/s/pre.sh".into());
            plan.post_script = Some("/mnt/d/s/post.sh".into());
        },
        "",
    );
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    guest.clean(1, "on the disk");
}

#[test]
fn a_script_that_freezes_by_itself_keeps_what_it_froze() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    let arm = "(sleep 20; fsfreeze --unfreeze /mnt/x) >/dev/null 2>&1 & echo $! >/run/armed.pid";
    guest.rig.scripts(
        &format!("{arm}; fsfreeze --freeze /mnt/x"),
        "fsfreeze --unfreeze /mnt/x && touch /run/was-frozen; kill $(cat /run/armed.pid); pkill -x sleep",
    );
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).contains(&"freeze.busy") && told.group.is_some(), "{out}");
    assert_eq!(
        (guest.sh("ls /run/was-frozen"), outcome(&mut guest)),
        ("/run/was-frozen\n".into(), "crash".into())
    );
    guest.clean(1, "script freezes");
}

/// It would have to open it on purpose. The end of file never comes then: the watchdog's clock does.
#[test]
fn a_child_that_takes_the_lifeline_delays_nothing_beyond_the_window() {
    for signal in ["KILL", "STOP"] {
        let Some(mut guest) = Guest::new(Manners { visible_after: Duration::from_secs(60), hang: false })
        else {
            return;
        };
        guest.rig.scripts("setsid sh -c 'exec sleep 300' 3>/run/appsnap/a1/life & echo $! >/run/taken", "");
        let held = "kill -0 $(cat /run/taken) && [ -e /proc/$(cat /run/taken)/fd/3 ] && touch /run/held";
        let during = format!(
            "until_ $A/armed; sleep 0.5; {held}; kill -s {signal} -- -$p; sleep 6; fsfreeze --unfreeze /mnt/d || fsfreeze --unfreeze /mnt/x || touch /run/free; kill -s CONT -- -$p"
        );
        guest.run(|plan| (plan.window, plan.visible) = (3, 3), &during);
        assert_eq!(
            guest.sh("ls /run/free /run/held"),
            "/run/free\n/run/held\n",
            "{signal}: frozen past the window"
        );
        guest.sh("kill $(cat /run/taken)");
        let told = guest.settle();
        assert!(told.fired || told.phase == "lost", "{signal}: {told:?}");
        guest.clean(1, signal);
    }
}

#[test]
fn a_prescript_that_ends_every_process_leaves_nothing_frozen_and_the_postscript_runs() {
    let all = "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || kill -s KILL $p; done";
    // At once, or from a child, in the window.
    let later = format!("setsid sh -c 'until [ -e /run/appsnap/a1/armed ]; do :; done; sleep 0.2; {all}' &");
    for pre in [all, &later] {
        let slow = Manners { visible_after: Duration::from_secs(60), hang: false };
        let Some(mut guest) = Guest::new(slow) else { return };
        guest.rig.scripts(pre, "");
        guest.run(|plan| plan.window = 3, "");
        let told = guest.settle();
        assert_eq!((told.phase.as_str(), told.pre_exit.is_some()), ("lost", pre.ends_with('&')), "{told:?}");
        // What the watchdog forked while it was being killed may sleep on, at a gate that nobody opens.
        assert_eq!(guest.rig.left_frozen(), "", "{pre}");
        assert_eq!(outcome(&mut guest), "none", "{pre}");
    }
}

#[test]
fn a_postscript_that_the_prescript_took_away_is_told() {
    for (pre, exit) in [("rm /run/scripts/post.sh", "127"), ("chmod 600 /run/scripts/post.sh", "126")] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.rig.scripts(pre, "");
        let (told, out) = guest.run(|_| {}, "");
        assert_eq!((codes(&told), told.post_exit.as_deref()), (vec!["script.post"], Some(exit)), "{out}");
        assert!(whole(&told, 2) && told.visible, "{out}");
        guest.clean(0, pre);
    }
}

#[test]
fn a_prescript_that_declines_ends_the_run_before_anything_is_frozen() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("exit 75", "");
    let (told, out) = guest.run(|_| {}, "");
    assert_eq!(
        (codes(&told), told.freeze, told.group.is_none()),
        (vec!["script.declined"], None, true),
        "{out}"
    );
    assert_eq!(outcome(&mut guest), "none");
    guest.clean(1, "declined");
}

/// Everything of ours dies in the window, holders too, and the machine is slow when the next watchdog starts new ones.
#[test]
fn a_run_is_not_over_before_slow_new_holders_have_thawed() {
    let slow = Manners { visible_after: Duration::from_secs(60), hang: false };
    let Some(mut guest) = Guest::new(slow) else { return };
    guest.sh("wrap stat '[ ! -e /run/killed ] || sleep 1'");
    let during = "until_ $A/armed; sleep 0.5; touch /run/killed; read -r w _ <$A/watch; env kill -s KILL -- -$w; env kill -s KILL -- -$p";
    guest.run(|plan| plan.window = 4, during);
    let told = guest.settle();
    assert_eq!(told.phase, "lost", "{told:?}");
    guest.sh("sleep 4");
    guest.clean(1, "slow holders");
}
