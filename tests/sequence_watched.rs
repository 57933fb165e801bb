//! A daemon that decides about every exec (fanotify, as fapolicyd and virus scanners do) and logs to a disk of the group.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use victim::{Guest, SOON, codes, whole};

/// Allows whatever is started from the root mount, after a line in its log.
const DAEMON: &str = r#"
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
fan = libc.fanotify_init(4, 0)  # FAN_CLASS_CONTENT
mask = ctypes.c_uint64(0x40000)  # FAN_OPEN_EXEC_PERM
assert fan >= 0 and libc.fanotify_mark(fan, 0x11, mask, -100, b"/usr") == 0, os.strerror(ctypes.get_errno())
open("/run/watching", "w").close()
while True:
    data = os.read(fan, 4096)
    while data:
        length, _, _, _, _, fd, _ = struct.unpack("=IBBHQii", data[:24])
        with open("/mnt/d/audit.log", "a") as log:
            log.write("one more\n")
        os.write(fan, struct.pack("=iI", fd, 1))  # FAN_ALLOW
        os.close(fd)
        data = data[length:]
"#;

/// A guest with that daemon at work.
fn watched() -> Option<Guest> {
    if !common::need(&["python3"]) {
        return None;
    }
    let mut guest = Guest::new(SOON)?;
    guest.rig.write("/run/daemon.py", DAEMON, "600");
    guest.sh(
        "python3 /run/daemon.py >/run/w/daemon.log 2>&1 & echo $! >/run/daemon.pid; until_ /run/watching",
    );
    assert_eq!(guest.sh("ls /run/watching"), "/run/watching\n", "{}", guest.sh("cat /run/w/daemon.log"));
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
