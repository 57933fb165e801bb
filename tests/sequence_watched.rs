//! A daemon that decides about every exec (fanotify, as fapolicyd and virus scanners do) and logs to a disk of the group.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;
#[path = "common/watched.rs"]
mod watched;

use victim::{Guest, SOON, codes, whole};

/// A guest with that daemon at work.
fn watched() -> Option<Guest> {
    if !common::need(&["python3"]) {
        return None;
    }
    let mut guest = Guest::new(SOON)?;
    watched::watch(&mut guest);
    Some(guest)
}

/// Frozen under it, nobody could start the program that thaws: seen, until the sequence looked for such a daemon.
#[test]
fn under_a_daemon_that_decides_about_every_exec_nothing_is_frozen() {
    let Some(mut guest) = watched() else { return };
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).contains(&"freeze.watched") && told.group.is_some(), "{out}");
    assert_eq!((told.freeze.unwrap().frozen, guest.sh("cat /run/post.a1")), (0, "crash\n".into()), "{out}");
    guest.sh("kill -KILL $(cat /run/daemon.pid)");
    guest.clean(1, "watched");
}

#[test]
fn a_prescript_may_end_such_a_daemon() {
    let Some(mut guest) = watched() else { return };
    guest.rig.scripts("kill -KILL $(cat /run/daemon.pid); sleep 0.2", "");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    guest.clean(1, "no longer watched");
}
