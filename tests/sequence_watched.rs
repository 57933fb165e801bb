//! A daemon that decides about every exec (fanotify, as fapolicyd and virus scanners do) and logs to a disk of the group.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use std::process::Command;
use std::time::{Duration, Instant};

use appsnap::guest::told::Told;
use victim::{Guest, SOON, codes};

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

#[test]
fn a_daemon_that_decides_about_every_exec_cannot_keep_a_guest_frozen() {
    if !common::need(&["python3"]) {
        return;
    }
    let Some(mut guest) = Guest::new(SOON) else { return };
    let plan = appsnap::guest::render::Plan { window: 3, ..guest.rig.plan("a1") };
    guest.rig.load(&plan, guest.endpoint.port, &guest.endpoint.ca_pem);
    guest.rig.write("/run/daemon.py", DAEMON, "600");
    guest.sh(
        "python3 /run/daemon.py >/run/w/daemon.log 2>&1 & echo $! >/run/daemon.pid; until_ /run/watching",
    );
    assert_eq!(guest.sh("ls /run/watching"), "/run/watching\n", "{}", guest.sh("cat /run/w/daemon.log"));
    guest.sh("setsid sh -c 'sh /run/w/find && exec sh /run/w/go' >/run/w/out 2>&1 &");
    let root = format!("/proc/{}/root", guest.rig.pid());
    let begin = Instant::now();
    while !std::path::Path::new(&format!("{root}/run/appsnap/a1/end")).exists() {
        if begin.elapsed() > Duration::from_secs(20) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // From outside of the guest's mounts nobody is asked. A thaw that succeeds tells that it was frozen, and mends it.
    let thaw =
        |mount: &str| Command::new("fsfreeze").args(["--unfreeze", &format!("{root}/mnt/{mount}")]).output();
    let frozen: Vec<&str> =
        ["x", "d"].into_iter().filter(|m| thaw(m).is_ok_and(|out| out.status.success())).collect();
    assert!(frozen.is_empty(), "still frozen 20 s later, with a window of 3 s: {frozen:?}");
    let out = guest.sh("kill -KILL $(cat /run/daemon.pid); cat /run/w/out");
    let told = Told::read(&out).unwrap_or_else(|| panic!("{out}"));
    assert!(codes(&told).contains(&"freeze.watched") && told.group.is_some(), "a copy, and no claim: {out}");
    assert_eq!(told.freeze.unwrap().frozen, 0, "{out}");
    guest.clean(1, "watched");
}
