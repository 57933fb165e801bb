//! The reaper: a process in a session of its own that holds the store's mount namespace and, when the owner is done or
//! dead (SIGKILL included), thaws, kills, unmounts, detaches and removes everything of one state directory.
//!
//! It knows the owner's end by EOF on its standard input, whose other end only the owner holds. It is a shell script
//! (`reaper.sh`), so that tests need no binary and an operator can read what it does.

use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::host::{self, Failure, Output};

const SCRIPT: &str = include_str!("reaper.sh");

/// The running reaper of one state directory.
#[derive(Debug)]
pub struct Reaper {
    child: tokio::sync::Mutex<Child>,
    lifeline: Mutex<Option<ChildStdin>>,
    pid: u32,
}

impl Reaper {
    /// Starts it for an existing state directory; it makes and mounts a store of `size_mib` (sparse).
    pub async fn start(state: &Path, size_mib: u64) -> Result<Self, Failure> {
        let mut command = Command::new("setsid");
        command.args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            SCRIPT,
            "appsnap-reaper",
        ]);
        command.arg("hold").arg(state).arg(size_mib.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let failed = |why: String| Failure(format!("cannot make the store in {}: {why}", state.display()));
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let lifeline = child.stdin.take();
        let (Some(pid), Some(stdout)) = (child.id(), child.stdout.take()) else {
            return Err(failed("its reaper is gone".to_owned()));
        };
        let mut stdout = BufReader::new(stdout);
        let mut said = String::new();
        let _ = stdout.read_line(&mut said).await;
        if said.trim() != "ready" {
            let _ = stdout.read_to_string(&mut said).await;
            let hint = if host::is_root() { "" } else { " (root is needed)" };
            return Err(failed(format!("{}{hint}", said.trim())));
        }
        Ok(Self { child: tokio::sync::Mutex::new(child), lifeline: Mutex::new(lifeline), pid })
    }

    /// Its process id; `/proc/PID/root` is the way into the store's mount namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it clean up and waits for that.
    pub async fn finish(&self) {
        drop(host::lock(&self.lifeline).take());
        let _ = self.child.lock().await.wait().await;
    }
}

/// Ends one guest from within the store's namespace (entered through `reaper`): thaw, kill, unmount, detach.
pub async fn end_guest(reaper: u32, state: &Path, instance_id: &str) -> Result<Output, Failure> {
    let mut command = super::store::enter(reaper);
    command.args(["sh", "-c", SCRIPT, "appsnap-reaper", "guest"]).arg(state).arg(instance_id);
    host::run(command, b"", Duration::from_secs(40)).await
}

/// Cleans up a state directory whose owner and reaper are both gone.
pub async fn sweep(state: &Path) -> Result<Output, Failure> {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "appsnap-reaper", "sweep"])
        .arg(state);
    host::run(command, b"", Duration::from_secs(40)).await
}
