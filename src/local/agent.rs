//! The Cloud Assistant agent of a guest, as rude as the real one: the script stays on the disk for all to read, stdin is
//! /dev/null, SIGKILL goes to the direct child only, output is streamed in small ticks and capped, a restart loses
//! results, and while the file system with its log is frozen it neither answers nor kills.
//!
//! It writes a line to its log before most of what it does, and waits for that: so what blocks it is the real freeze.

mod log;
mod output;

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use self::log::Log;
use self::output::Report;
use super::guest::Guest;
use super::host::{self, lock};
use crate::clock::Clock;

/// Where the agent keeps scripts and log: on the root file system, so that it freezes with it.
pub const HOME: &str = "/usr/local/share/aliyun-assist";

/// A command to run.
#[derive(Debug, Clone)]
pub struct Command {
    /// `t-…`; names the script file.
    pub invoke_id: String,
    /// The script, decoded.
    pub content: String,
    /// After this long the direct child is killed.
    pub timeout: Duration,
    /// Where it starts; `/root` by default.
    pub working_dir: Option<String>,
}

/// What the agent reports, in order; the last one is `Failed`, `Finished`, `TimedOut`, `Stopped` or `Lost`, but for a
/// power event after `Finished`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It runs.
    Started,
    /// New output while it runs, at most 2,048 bytes at once and about 6,000 in all.
    Output(Vec<u8>),
    /// It could not start: `ScriptFileExisted`, `DirectoryNotExists` or `ExecutionException`, and why.
    Failed(&'static str, String),
    /// It ended by itself. `exit_code` is −1 after a signal. `output` is all that the server keeps (24 KB), `dropped`
    /// the bytes missing from its middle.
    Finished {
        /// As the shell ended.
        exit_code: i32,
        /// Head and tail.
        output: Vec<u8>,
        /// Bytes.
        dropped: u64,
    },
    /// Its time was up: the direct child was killed, others may live on.
    TimedOut {
        /// Head and tail.
        output: Vec<u8>,
        /// Bytes.
        dropped: u64,
    },
    /// Stopped on request; told before the direct child is killed.
    Stopped,
    /// The agent was restarted: the script lives on, its result will never be known.
    Lost,
    /// It ended with 193: the instance powers off.
    PowerOff,
    /// It ended with 194: the instance reboots.
    Reboot,
}

/// The agent of one guest; cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    guest: Arc<Guest>,
    clock: Clock,
    interval: Duration,
    log: Mutex<Arc<Log>>,
    running: Mutex<HashMap<String, Orders>>,
}

struct Orders {
    stop: Option<oneshot::Sender<()>>,
    forget: oneshot::Sender<()>,
}

enum End {
    Exited(Option<i32>),
    Late,
    Stopped,
}

impl Agent {
    /// An agent that streams output every `interval` (the real one: at least 1 s).
    pub fn new(clock: &Clock, guest: &Arc<Guest>, interval: Duration) -> Self {
        Self(Arc::new(Inner {
            guest: guest.clone(),
            clock: clock.clone(),
            interval,
            log: Mutex::new(Arc::new(Log::new(guest.clone()))),
            running: Mutex::default(),
        }))
    }

    /// Whose agent it is.
    pub fn guest(&self) -> &Arc<Guest> {
        &self.0.guest
    }

    /// Starts a command and returns at once; what becomes of it comes through `events`. An id that is running already
    /// is ignored, as a repeated fetch is.
    pub fn run(&self, command: Command, events: mpsc::Sender<Event>) {
        let ((stop, stopped), (forget, forgotten)) = (oneshot::channel(), oneshot::channel());
        {
            let mut running = lock(&self.0.running);
            if running.contains_key(&command.invoke_id) {
                return;
            }
            running.insert(command.invoke_id.clone(), Orders { stop: Some(stop), forget });
        }
        let agent = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = agent.perform(&command, &events, stopped) => {
                    lock(&agent.running).remove(&command.invoke_id);
                }
                _ = forgotten => tell(&events, Event::Lost).await,
            }
        });
    }

    /// Stops a command: `Stopped` is reported first, then its direct child is killed.
    pub fn stop(&self, invoke_id: &str) {
        if let Some(stop) = lock(&self.0.running).get_mut(invoke_id).and_then(|orders| orders.stop.take()) {
            let _ = stop.send(()); // it may just have ended
        }
    }

    /// The agent dies and comes back: scripts live on without a reader of their output, results are lost.
    pub fn restart(&self) {
        for (_, orders) in lock(&self.0.running).drain() {
            let _ = orders.forget.send(());
        }
        *lock(&self.0.log) = Arc::new(Log::new(self.0.guest.clone()));
    }
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    let _ = events.send(event).await; // nobody listens any more: as good as a lost report
}

impl Inner {
    async fn note(&self, line: &str) {
        let log = lock(&self.log).clone();
        log.line(line).await;
    }

    async fn perform(&self, command: &Command, events: &mpsc::Sender<Event>, stop: oneshot::Receiver<()>) {
        let id = &command.invoke_id;
        self.note(&format!("Fetched to be run: {id}")).await;
        let path = match self.save(command).await {
            Ok(path) => path,
            Err((code, why)) => return tell(events, Event::Failed(code, why)).await,
        };
        let dir = command.working_dir.as_deref().unwrap_or("/root");
        // In its own process group (here: session), so that its number in the guest is its own pid.
        let launch = r#"cd -- "$1" && exec setsid sh -c "$2" 2>&1"#;
        let mut child = self.guest.command(&["sh", "-c", launch, "sh", dir, &path]);
        let child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return tell(events, Event::Failed("ExecutionException", error.to_string())).await,
        };
        tell(events, Event::Started).await;
        let direct = child.id();
        let report = Arc::new(Mutex::new(Report::default()));
        let reader = Reader::start(&mut child, &report);
        let end = tokio::select! {
            end = self.wait(&mut child, command.timeout, stop) => end,
            () = self.stream(&report, events) => return, // it never ends by itself
        };
        match end {
            End::Exited(_) => {}
            End::Late => {
                self.note(&format!("Timeout in run command: {id}")).await;
                kill_direct(direct);
            }
            End::Stopped => {
                self.note(&format!("Fetched to be canceled: {id}")).await;
                tell(events, Event::Stopped).await;
                kill_direct(direct);
            }
        }
        self.clock.sleep(Duration::from_millis(200)).await; // for the last output; children that live on are not waited for
        drop(reader);
        self.note(&format!("Finished: {id}")).await;
        let (output, dropped) = std::mem::take(&mut *lock(&report)).finish();
        match end {
            End::Exited(code) => {
                tell(events, Event::Finished { exit_code: code.unwrap_or(-1), output, dropped }).await;
                match code {
                    Some(193) => tell(events, Event::PowerOff).await,
                    Some(194) => tell(events, Event::Reboot).await,
                    _ => {}
                }
            }
            End::Late => tell(events, Event::TimedOut { output, dropped }).await,
            End::Stopped => {}
        }
    }

    async fn wait(&self, child: &mut Child, timeout: Duration, stop: oneshot::Receiver<()>) -> End {
        tokio::select! {
            status = child.wait() => End::Exited(status.ok().and_then(|status| status.code())),
            () = self.clock.sleep(timeout) => End::Late,
            Ok(()) = stop => End::Stopped,
        }
    }

    async fn stream(&self, report: &Mutex<Report>, events: &mpsc::Sender<Event>) {
        loop {
            self.clock.sleep(self.interval).await;
            let part = lock(report).tick();
            if !part.is_empty() {
                tell(events, Event::Output(part)).await;
            }
            self.note("Running output sent").await; // an empty tick logs as well
        }
    }

    /// Writes the script file, readable for all and never deleted; what to hand to `sh -c`.
    async fn save(&self, command: &Command) -> Result<String, (&'static str, String)> {
        let path = format!("{HOME}/work/script/{}.sh", command.invoke_id);
        let dir = command.working_dir.as_deref().unwrap_or("/root");
        let script = r#"[ -d "$2" ] || exit 16
            [ ! -e "$1" ] || exit 17
            mkdir -p "${1%/*}" && cat >"$1" && chmod 0755 "$1""#;
        // It waits as long as the file system is frozen.
        let day = Duration::from_secs(86_400);
        let saved = self.guest.exec(script, &[&path, dir], command.content.as_bytes(), day).await;
        match saved.map(|output| output.status) {
            Ok(Some(0)) => Ok(path),
            Ok(Some(16)) => Err(("DirectoryNotExists", format!("working directory {dir} does not exist"))),
            Ok(Some(17)) => Err(("ScriptFileExisted", format!("script file {path} exists"))),
            Ok(Some(_)) => Ok(command.content.clone()), // a full disk, say: it runs the content itself
            Ok(None) => Err(("ExecutionException", "the guest went away".to_owned())),
            Err(failure) => Err(("ExecutionException", failure.0)),
        }
    }
}

/// SIGKILL to the shell itself, neither to its group nor to its children.
fn kill_direct(nsenter: Option<u32>) {
    for shell in nsenter.map(host::children).unwrap_or_default().into_iter().filter_map(host::pid) {
        let _ = rustix::process::kill_process(shell, rustix::process::Signal::KILL);
    }
}

/// Drains the script's output; dropped, it closes the pipe.
struct Reader(tokio::task::JoinHandle<()>);

impl Reader {
    fn start(child: &mut Child, report: &Arc<Mutex<Report>>) -> Self {
        let (stdout, report) = (child.stdout.take(), report.clone());
        Self(tokio::spawn(async move {
            let Some(mut stdout) = stdout else { return };
            let mut part = [0; 8192];
            while let Ok(length @ 1..) = stdout.read(&mut part).await {
                lock(&report).push(&part[..length]);
            }
        }))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}
