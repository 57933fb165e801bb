//! Watches from outside whether the guest's file systems are frozen: a process for each mount does a tiny write (it
//! truncates an empty file) every few milliseconds and says so; one that is silent and waits in the kernel where writers
//! wait for a thaw shows a freeze. One more does the same on tmpfs: how late that is, is the machine's own noise.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::inside::waits_for;

const PAUSE: Duration = Duration::from_millis(12);
/// A write that took longer is kept.
const LONG: Duration = Duration::from_millis(4);
const WRITER: &str = r#"while read -r _; do : >"$1/.appsnap-probe" && echo; done"#;

/// A write that did not pass at once.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// When the last write that passed before it was begun: then it was not frozen yet.
    pub free: SystemTime,
    pub begun: SystemTime,
    /// `None`: it still waits.
    pub passed: Option<SystemTime>,
}

#[derive(Default)]
struct Seen {
    waiting: Option<Stall>,
    stalls: Vec<Stall>,
}

struct Sampler {
    mount: String,
    pid: u32,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

pub struct Probe {
    samplers: Vec<Sampler>,
    stop: Arc<AtomicBool>,
}

impl Probe {
    /// Starts it for mounts of the guest whose first process is `init`.
    pub fn start(init: u32, mounts: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let all = mounts.iter().cloned().chain([String::from("/run")]);
        let samplers = all.map(|mount| Sampler::start(init, mount, &stop)).collect();
        Self { samplers, stop }
    }

    /// The mounts that are frozen at this moment, each with the beginning of the write that waits.
    pub fn frozen(&self) -> Vec<(String, SystemTime)> {
        let waits = |one: &Sampler| {
            let begun = one.seen.lock().unwrap().waiting?.begun;
            // `percpu_rwsem_wait` is where the kernel keeps writers of a frozen file system.
            let frozen = waits_for(one.pid) == "percpu_rwsem_wait"
                && one.seen.lock().unwrap().waiting.is_some_and(|stall| stall.begun == begun);
            frozen.then(|| (one.mount.clone(), begun))
        };
        self.samplers.iter().filter_map(waits).collect()
    }

    /// The longest wait on tmpfs since then: what the machine itself is late by.
    pub fn noise(&self, since: SystemTime) -> Duration {
        let Some(tmpfs) = self.samplers.last() else { return Duration::ZERO };
        let seen = tmpfs.seen.lock().unwrap();
        let all = seen.stalls.iter().filter(|stall| stall.begun >= since);
        let waited = |stall: &Stall| stall.passed.unwrap_or(stall.begun).duration_since(stall.begun).ok();
        let still = seen.waiting.and_then(|stall| stall.begun.elapsed().ok());
        all.filter_map(waited).chain(still).max().unwrap_or_default()
    }

    /// Whether a write to each of `mounts` waited at that instant: only then it may have been frozen.
    pub fn waited(&self, mounts: &[String], at: SystemTime) -> bool {
        let covers = |stall: &Stall| stall.free < at && stall.passed.is_none_or(|passed| at < passed);
        let held = |one: &Sampler| {
            let seen = one.seen.lock().unwrap();
            // One that has only just begun is no wait yet.
            let waiting = seen.waiting.filter(|stall| stall.begun.elapsed().is_ok_and(|since| since > LONG));
            seen.stalls.iter().chain(&waiting).any(covers)
        };
        self.samplers.iter().filter(|one| mounts.contains(&one.mount)).all(held)
    }

    /// Forgets what is over.
    pub fn forget(&self) {
        self.samplers.iter().for_each(|one| one.seen.lock().unwrap().stalls.clear());
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for one in &mut self.samplers {
            super::inside::signal(one.pid, rustix::process::Signal::KILL); // in vain while frozen: it goes with the thaw
            drop(one.thread.take()); // it ends with its process
        }
    }
}

impl Sampler {
    fn start(init: u32, mount: String, stop: &Arc<AtomicBool>) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["-t", &init.to_string(), "-m", "-r", "--", "sh", "-c", WRITER, "appsnap-probe"]);
        command.arg(if mount == "/" { "" } else { &mount }).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let (pid, seen) = (child.id(), Arc::<Mutex<Seen>>::default());
        let (kept, stop) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || sample(child, &kept, &stop));
        Self { mount, pid, seen, thread: Some(thread) }
    }
}

fn sample(mut child: Child, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut free = SystemTime::now();
    while !stop.load(Ordering::Relaxed) {
        let begun = SystemTime::now();
        let stall = Stall { free, begun, passed: None };
        seen.lock().unwrap().waiting = Some(stall);
        if input.write_all(b"\n").is_err() || !matches!(output.read(&mut [0; 1]), Ok(1)) {
            break; // its process is gone
        }
        let passed = SystemTime::now();
        let mut seen = seen.lock().unwrap();
        seen.waiting = None;
        if passed.duration_since(begun).is_ok_and(|took| took > LONG) {
            seen.stalls.push(Stall { passed: Some(passed), ..stall });
        }
        drop(seen);
        free = begun;
        std::thread::sleep(PAUSE);
    }
    drop(input);
    let _ = child.wait();
}
