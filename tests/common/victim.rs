//! A guest for attacks on the sequence: the rig, an endpoint, and what the lines of an attack may use.

use appsnap::guest::render::Plan;
use appsnap::guest::told::Told;
use std::time::Duration;

#[path = "endpoint.rs"]
pub mod endpoint;
#[path = "rig.rs"]
pub mod rig;

use endpoint::{Endpoint, Manners};
use rig::{DISKS, Rig};

pub const TOOLS: [&str; 9] =
    ["root", "mkfs.xfs", "mkfs.ext4", "losetup", "unshare", "fsfreeze", "curl", "openssl", "busybox"];
pub const SOON: Manners = Manners { visible_after: Duration::from_millis(300), hang: false };

/// What the lines of an attack may use: `disk NAME SERIAL` is a new loop device (in L) as a disk of the guest,
/// `wrap TOOL LINE` runs a line before the tool wherever the sequence uses it, `until_ FILE` waits for a file.
const LIBRARY: &str = r#"
A=/run/appsnap/a1
disk() {
  truncate -s 64M /run/w/$1.img; L=$(losetup -f --show /run/w/$1.img); l=${L##*/}
  exec 8<$L; losetup -d $L; sleep 100 <&8 & exec 8<&-
  mkdir /sys/block/$1; echo $2 >/sys/block/$1/serial; ln -s /sys/class/block/$l/dev /sys/class/block/$l/stat /sys/block/$1
}
wrap() {
  [ -e /usr/local/sbin/.mine ] || { mount -t tmpfs none /usr/local/sbin; : >/usr/local/sbin/.mine; }
  printf '#!/bin/sh\n%s\nexec %s "$@"\n' "$2" "$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v $1)" >/usr/local/sbin/$1
  chmod 755 /usr/local/sbin/$1
}
until_() { n=0; while ! ls $1* >/dev/null 2>&1 && [ $((n += 1)) -lt 1000 ]; do sleep 0.01; done; }
"#;

pub struct Guest {
    pub rig: Rig,
    pub endpoint: Endpoint,
}

impl Guest {
    pub fn new(manners: Manners) -> Option<Guest> {
        super::common::need(&TOOLS).then(|| {
            let mut rig = Rig::start();
            rig.scripts("", "");
            rig.write("/run/lib.sh", LIBRARY, "600");
            rig.sh(&format!("ln -s {} /run/w", rig.dir.display()));
            Guest { rig, endpoint: Endpoint::start(manners, &DISKS) }
        })
    }

    /// The cloud's group shows these disks too.
    pub fn shows(&mut self, more: &[&str]) {
        self.endpoint = Endpoint::start(SOON, &[&DISKS[..], more].concat());
    }

    /// Lines of shell with the library at hand.
    pub fn sh(&mut self, lines: &str) -> String {
        self.rig.sh(&format!(". /run/lib.sh; {lines}")).0
    }

    /// Both commands, as the agent runs them, with `during` beside the second (`$p` is its process group).
    pub fn run(&mut self, edit: impl Fn(&mut Plan), during: &str) -> (Told, String) {
        self.run_after(edit, ":", during)
    }

    /// As `run`, with `between` after the first command: what `find` saw is old then.
    pub fn run_after(&mut self, edit: impl Fn(&mut Plan), between: &str, during: &str) -> (Told, String) {
        let mut plan = self.rig.plan("a1");
        edit(&mut plan);
        self.rig.load(&plan, self.endpoint.port, &self.endpoint.ca_pem);
        let found = self.sh("sh /run/w/find");
        let told = Told::read(&found).unwrap_or_else(|| panic!("no report of find in: {found}"));
        if told.phase == "refused" {
            return (told, found);
        }
        self.sh(between);
        let out = self.sh(&format!(
            "setsid sh /run/w/go >/run/w/out & p=$!; (:; {during}) >/dev/null 2>&1; wait $p; cat /run/w/out"
        ));
        let line = out.lines().last().unwrap_or_default();
        assert!(line.len() < 4096, "{} bytes: {out}", line.len());
        (Told::read(&out).unwrap_or_default(), out)
    }

    pub fn settle(&mut self) -> Told {
        for _ in 0..60 {
            let out = self.sh("sh /run/w/settle");
            let told = Told::read(&out).unwrap_or_else(|| panic!("no report of settle in: {out}"));
            if told.phase != "running" {
                return told;
            }
            self.sh("sleep 0.1");
        }
        panic!("still running");
    }

    /// Nothing is frozen, no process is left, and the postscript ran this often.
    pub fn clean(&mut self, postscripts: usize, what: &str) {
        assert_eq!(self.rig.left_frozen(), "", "{what}");
        let ran = self.sh("cat /run/post.a1 2>/dev/null").lines().count();
        assert_eq!(ran, postscripts, "{what}: how often the postscript ran");
        let left = self.rig.processes();
        assert!(!left.contains("appsnap") && !left.contains("curl"), "{what}: {left}");
    }
}

pub fn codes(told: &Told) -> Vec<&str> {
    told.reasons.iter().map(|(code, _)| code.as_str()).collect()
}

pub fn whole(told: &Told, file_systems: u32) -> bool {
    told.freeze.is_some_and(|f| (f.frozen, f.thawed, f.wanted) == (file_systems, file_systems, file_systems))
}
