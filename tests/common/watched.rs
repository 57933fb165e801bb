//! A daemon that decides about every exec (fanotify), in a guest.

use super::victim::Guest;

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

/// Lets that daemon work in the guest; `/run/daemon.pid` names it.
pub fn watch(guest: &mut Guest) {
    guest.rig.write("/run/daemon.py", DAEMON, "600");
    guest.sh(
        "python3 /run/daemon.py >/run/w/daemon.log 2>&1 & echo $! >/run/daemon.pid; until_ /run/watching",
    );
    assert_eq!(guest.sh("ls /run/watching"), "/run/watching\n", "{}", guest.sh("cat /run/w/daemon.log"));
}
