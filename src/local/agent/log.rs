//! The agent's log on the guest's root file system. One line at a time, and whoever writes one waits until it is
//! written: this is what makes the agent deaf while that file system is frozen.

use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use super::super::guest::Guest;

/// Writes in a process of the guest, since this one must not touch what can freeze.
pub(super) struct Log {
    guest: Arc<Guest>,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Writer {
    pipes: Option<(ChildStdin, BufReader<ChildStdout>)>,
    lines: u64,
}

impl Log {
    pub(super) fn new(guest: Arc<Guest>) -> Self {
        Self { guest, writer: Mutex::default() }
    }

    /// Returns when the line is in the file; at once when there is no guest to write it.
    pub(super) async fn line(&self, text: &str) {
        let mut writer = self.writer.lock().await;
        let Writer { pipes, lines } = &mut *writer;
        if pipes.is_none() {
            *pipes = self.start();
        }
        let Some((stdin, stdout)) = pipes else { return };
        *lines += 1;
        let _ = stdin.write_all(format!("{lines} {text}\n").as_bytes()).await;
        // Someone before us may have given up on an answer: skip it.
        let mut answer = String::new();
        while let Ok(1..) = stdout.read_line(&mut answer).await {
            if answer.trim().parse().is_ok_and(|written: u64| written >= *lines) {
                return;
            }
            answer.clear();
        }
        *pipes = None; // the writer died with the guest
    }

    fn start(&self) -> Option<(ChildStdin, BufReader<ChildStdout>)> {
        let script =
            r#"mkdir -p "$1" && while read -r n line; do echo "$line" >>"$1/agent.log"; echo "$n"; done"#;
        let mut command = self.guest.command(&["sh", "-c", script, "aliyun-assist"]);
        command.arg(format!("{}/log", super::HOME));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        Some((child.stdin.take()?, BufReader::new(child.stdout.take()?)))
    }
}
