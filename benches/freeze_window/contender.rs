//! Who freezes: appsnap's sequence and its peers, each with its preparation outside of the window.

use std::time::Duration;

use appsnap::guest::told::Told;
use appsnap::report::Level;

use crate::endpoint::Endpoint;
use crate::rig::Rig;

/// One way to freeze, ask, thaw.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// As a user gets it.
    Default,
    /// With `fastFreeze`.
    Fast,
    /// (a) `fsfreeze`, `curl`, `fsfreeze` in a script.
    Script,
    /// (b) Bare ioctls, a connection prepared ahead.
    Bare,
    /// (c) qemu-ga, its client with a connection prepared ahead.
    Agent,
}

/// In the order of the table.
pub const ALL: [Contender; 5] =
    [Contender::Default, Contender::Fast, Contender::Script, Contender::Bare, Contender::Agent];

/// A file system under test.
pub struct Target {
    /// `ext4`, `xfs`, `both`.
    pub name: &'static str,
    /// Of the rig.
    pub disks: &'static [&'static str],
    /// Outermost first.
    pub mounts: &'static [&'static str],
}

impl Contender {
    /// In the table.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Default => "appsnap",
            Contender::Fast => "appsnap, fastFreeze",
            Contender::Script => "(a) fsfreeze, curl",
            Contender::Bare => "(b) bare ioctls",
            Contender::Agent => "(c) qemu-ga",
        }
    }

    /// What it takes beside the rig's own tools.
    pub fn lacks(self, rig: &mut Rig) -> Option<&'static str> {
        let (test, lack) = match self {
            Contender::Default | Contender::Fast | Contender::Script => ("command -v curl", "curl"),
            Contender::Bare => ("[ -x $W/peer ]", "cc and the headers of OpenSSL (libssl-dev)"),
            Contender::Agent => {
                ("[ -x $W/peer ] && command -v qemu-ga", "qemu-ga, cc and the headers of OpenSSL")
            }
        };
        (rig.sh(&format!("{test} >/dev/null")).1 != 0).then_some(lack)
    }

    /// Whether it thaws only when the group shows; the others do not look.
    pub fn waits_for_visible(self) -> bool {
        matches!(self, Contender::Default | Contender::Fast)
    }

    /// What is done before the run, and not in the guest.
    pub fn load(self, rig: &mut Rig, endpoint: &Endpoint, target: &Target, id: &str) {
        if self.waits_for_visible() {
            let mut plan = rig.plan(id);
            plan.disks = target.disks.iter().map(|disk| disk.to_string()).collect();
            plan.fast_freeze = self == Contender::Fast;
            (plan.window, plan.minimum) = (10, Level::Application);
            rig.load(&plan, endpoint.port, &endpoint.ca_pem);
        }
    }

    /// One run: from just before its first freeze to just after its last thaw by its own stamps.
    pub fn run(self, rig: &mut Rig, port: u16, target: &Target, id: &str) -> Result<Duration, String> {
        let mounts = target.mounts.join(" ");
        match self {
            Contender::Default | Contender::Fast => sequence(rig, target),
            Contender::Script => measured(rig, &format!("sh $W/script {port} $W/ca.pem {id} {mounts}")),
            Contender::Bare => measured(rig, &format!("$W/peer bare {port} $W/ca.pem {id} {mounts}")),
            Contender::Agent => measured(rig, &format!("$W/peer /run/qga {port} $W/ca.pem {id} {mounts}")),
        }
    }
}

/// Runs the loaded sequence, which must have reached the top.
fn sequence(rig: &mut Rig, target: &Target) -> Result<Duration, String> {
    let output = rig.sh("sh $W/find; sh $W/go").0;
    let told = Told::read(&output).ok_or_else(|| format!("no report in {output:?}"))?;
    let freeze = told.freeze.ok_or_else(|| output.clone())?;
    let all = u32::try_from(target.mounts.len()).unwrap();
    if told.reasons.is_empty() && told.visible && [freeze.wanted, freeze.frozen, freeze.thawed] == [all; 3] {
        let micros = u64::try_from(freeze.micros).map_err(|_| "the clock was set back")?;
        return Ok(Duration::from_micros(micros));
    }
    Err(output)
}

/// Runs a peer with a thaw armed before it starts; it prints its microseconds.
fn measured(rig: &mut Rig, command: &str) -> Result<Duration, String> {
    let (output, status) = rig.sh(&format!(
        "sh -c 'sleep 15; fsfreeze -u /mnt/x; fsfreeze -u /mnt/d' >/dev/null 2>&1 & guard=$!; \
         timeout -s KILL 20 {command}; s=$?; kill -KILL $guard; exit $s"
    ));
    let left = rig.left_frozen();
    let micros: Option<u64> = output.trim().parse().ok();
    match micros {
        Some(micros) if status == 0 && left.is_empty() => Ok(Duration::from_micros(micros)),
        _ => Err(format!("exit {status}, left frozen: {left:?}, {output:?}")),
    }
}

/// What contenders find in a fresh rig: the peers' programs, qemu-ga, scripts for the sequence.
pub fn prepare(rig: &mut Rig, endpoint: &Endpoint) {
    rig.scripts("", "");
    let dir = rig.dir.clone();
    std::fs::write(dir.join("ca.pem"), &endpoint.ca_pem).unwrap();
    std::fs::write(dir.join("script"), SCRIPT).unwrap();
    std::fs::write(dir.join("peer.c"), include_str!("peer.c")).unwrap();
    rig.sh("cc -O2 -D_GNU_SOURCE -o $W/peer $W/peer.c -lssl -lcrypto >$W/cc.log 2>&1");
    // guest-fsfreeze-freeze would freeze the machine's own root: this qemu-ga does not know it.
    rig.sh("qemu-ga -m unix-listen -p /run/qga -t /run -f /run/qga.pid -b guest-fsfreeze-freeze >/run/qga.log 2>&1 &");
    rig.sh("for i in 1 2 3 4 5 6 7 8 9 10; do [ -S /run/qga ] && break; sleep 0.1; done");
}

/// (a), as one would write it; flushed ahead like the others.
const SCRIPT: &str = r#"port=$1 ca=$2 run=$3
shift 3
for m in "$@"; do sync -f "$m"; thaw="$m $thaw"; done
s=$(date +%s%N)
for m in "$@"; do fsfreeze --freeze "$m" || fault=1; done
curl -sf --cacert "$ca" -X POST -H 'x-acs-action: CreateSnapshotGroup' \
  "https://localhost:$port/?RegionId=cn-hangzhou&Run=$run" >/run/answer || fault=1
for m in $thaw; do fsfreeze --unfreeze "$m" || fault=1; done
e=$(date +%s%N)
[ ! "$fault" ] && echo $(((e - s) / 1000))
"#;
