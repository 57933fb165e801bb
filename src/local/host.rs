//! Tools of this machine (mount, losetup, nsenter, …), run in child processes with a bound on their time.
//!
//! No thread of this process ever touches a file system that can be frozen: a thread in D state would keep the whole
//! process from dying, and the reaper's lifeline with it. Children do that, and they are never waited for without a bound.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Something on this machine did not work; the text names what, where and the cure.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// What a child process left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; `None` when a signal ended it or it did not end in time.
    pub status: Option<i32>,
    /// Its standard output, as far as it came before the end.
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
    /// It had to be killed; it may still be there, in D state.
    pub timed_out: bool,
}

impl Output {
    /// Exit code 0.
    pub fn ok(&self) -> bool {
        self.status == Some(0)
    }

    /// Standard output as text, without the last newline.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// `self` when the exit code is 0, else an error that says what was attempted and what the tool said.
    pub fn checked(self, what: &str) -> Result<Self, Failure> {
        if self.ok() {
            return Ok(self);
        }
        let said = [&self.stderr[..], &self.stdout[..]].concat();
        let how = match self.status {
            _ if self.timed_out => "did not end in time".to_owned(),
            Some(code) => format!("exit code {code}"),
            None => "ended by a signal".to_owned(),
        };
        Err(Failure(format!("{what}: {how}: {}", String::from_utf8_lossy(&said).trim())))
    }
}

/// Those of `tools` that are in no directory of `PATH`.
pub fn missing<'a>(tools: &[&'a str]) -> Vec<&'a str> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = |tool: &str| path.split(':').any(|dir| !dir.is_empty() && Path::new(dir).join(tool).exists());
    tools.iter().copied().filter(|tool| !found(tool)).collect()
}

/// Whether this process may mount and make namespaces.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `command` with `input` on its standard input; after `limit` its process groups are killed and not waited for.
pub async fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Output, Failure> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| Failure(format!("cannot start {name}: {error}")))?;
    let (stdout, stderr) = (Collector::new(child.stdout.take()), Collector::new(child.stderr.take()));
    let mut stdin = child.stdin.take();
    let ended = tokio::time::timeout(limit, async {
        if let Some(stdin) = &mut stdin {
            let _ = stdin.write_all(input).await; // a child that does not want it has the say
        }
        drop(stdin.take());
        child.wait().await
    })
    .await;
    let (status, timed_out) = match ended {
        Ok(waited) => {
            let status = waited.map_err(|error| Failure(format!("cannot wait for {name}: {error}")))?;
            (status.code(), false)
        }
        Err(_) => {
            kill_groups(&child);
            (None, true)
        }
    };
    // A background child may hold the pipes open for ever: what is in them arrives at once, or not at all.
    Ok(Output { status, stdout: stdout.finish().await, stderr: stderr.finish().await, timed_out })
}

/// The group of the child, and those of its own children: below `nsenter` a guest's command leads a group of its own.
fn kill_groups(child: &Child) {
    let Some(child) = child.id() else { return };
    for group in children(child).into_iter().chain([child]).filter_map(pid) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL); // not a leader, or gone
    }
}

/// A process id in the form that signals take.
pub fn pid(raw: u32) -> Option<rustix::process::Pid> {
    i32::try_from(raw).ok().and_then(rustix::process::Pid::from_raw)
}

/// Reads a pipe to its end in the background.
struct Collector(Arc<Mutex<Vec<u8>>>, Option<JoinHandle<()>>);

impl Collector {
    fn new(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = bytes.clone();
        let reader = pipe.map(|mut pipe| {
            tokio::spawn(async move {
                let mut part = [0; 8192];
                while let Ok(length @ 1..) = pipe.read(&mut part).await {
                    lock(&kept).extend_from_slice(&part[..length]);
                }
            })
        });
        Self(bytes, reader)
    }

    async fn finish(self) -> Vec<u8> {
        if let Some(mut reader) = self.1
            && tokio::time::timeout(Duration::from_millis(200), &mut reader).await.is_err()
        {
            reader.abort();
        }
        std::mem::take(&mut *lock(&self.0))
    }
}

/// A lock whose holder panicked holds what it held.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// State, parent and start time (clock ticks since boot) of a process, from `/proc/PID/stat`; `None` when it is gone.
pub fn process(pid: u32) -> Option<(char, u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// The direct children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| process(*pid).is_some_and(|(_, its, _)| its == parent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_child_gets_its_input_and_its_output_is_kept_apart() {
        let output = run(sh("cat; echo oops >&2; exit 3"), b"in", Duration::from_secs(20)).await.unwrap();
        assert_eq!(
            (output.status, &output.stdout[..], &output.stderr[..]),
            (Some(3), &b"in"[..], &b"oops\n"[..])
        );
        assert_eq!(output.checked("test").unwrap_err().0, "test: exit code 3: oops\nin");
    }

    #[tokio::test]
    async fn the_whole_group_is_killed_at_the_limit() {
        let script = "sleep 77 & echo $!; sleep 77";
        let output = run(sh(script), b"", Duration::from_millis(400)).await.unwrap();
        assert!(output.timed_out && output.status.is_none());
        let sleeper: u32 = output.text().parse().unwrap();
        for _ in 0..100 {
            if process(sleeper).is_none_or(|(state, ..)| state == 'Z') {
                return;
            }
            crate::clock::Clock::system().sleep(Duration::from_millis(20)).await;
        }
        panic!("the sleeper lives");
    }

    #[tokio::test]
    async fn a_background_child_with_the_pipe_does_not_hold_us() {
        let output = run(sh("sleep 3 & echo done"), b"", Duration::from_secs(20));
        let output =
            tokio::time::timeout(Duration::from_secs(2), output).await.expect("returns early").unwrap();
        assert_eq!(output.text(), "done");
    }

    #[test]
    fn processes_know_their_parent() {
        let own = std::process::id();
        let (_, parent, start) = process(own).unwrap();
        assert!(start > 0 && children(parent).contains(&own));
    }
}
