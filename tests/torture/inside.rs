//! A look into the guest from the host: its processes by /proc, its /run by a descriptor, so that nothing of it is
//! touched that may be frozen.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::SystemTime;

use appsnap::local::host;

/// A process of the guest.
#[derive(Debug, Clone)]
pub struct Process {
    /// As the host counts.
    pub pid: u32,
    /// As the guest counts.
    pub guest_pid: u32,
    pub parent: u32,
    pub group: u32,
    pub state: char,
    pub name: String,
    pub arguments: String,
}

pub struct Inside {
    init: u32,
    namespace: PathBuf,
    run: File,
}

fn namespace(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

impl Inside {
    pub fn new(init: u32) -> Self {
        let run = File::open(format!("/proc/{init}/root/run")).unwrap();
        Self { init, namespace: namespace(init).unwrap(), run }
    }

    /// A path below the guest's /run, as this process can open it.
    pub fn path(&self, relative: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{relative}", self.run.as_raw_fd()))
    }

    pub fn read(&self, relative: &str) -> Option<String> {
        let bytes = std::fs::read(self.path(relative)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn has(&self, relative: &str) -> bool {
        self.path(relative).symlink_metadata().is_ok()
    }

    pub fn written_at(&self, relative: &str) -> Option<SystemTime> {
        self.path(relative).metadata().ok()?.modified().ok()
    }

    /// Ids of the attempts whose directories are there, the youngest last.
    pub fn attempts(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("appsnap")).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut all: Vec<(SystemTime, String)> = directories
            .filter_map(|entry| {
                let made = entry.metadata().ok()?.created().ok()?;
                Some((made, entry.file_name().into_string().ok()?))
            })
            .collect();
        all.sort();
        all.into_iter().map(|(_, name)| name).collect()
    }

    /// Path of a file of the youngest attempt.
    pub fn of_attempt(&self, file: &str) -> Option<String> {
        Some(format!("appsnap/{}/{file}", self.attempts().pop()?))
    }

    /// The id (as the guest counts) of the process that took the token of a script (`pre`, `post`), if one did: the token
    /// is named `pre.started.ID.…`.
    pub fn begun(&self, attempt: &str, phase: &str) -> Option<u32> {
        let entries = std::fs::read_dir(self.path(&format!("appsnap/{attempt}"))).ok()?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let prefix = format!("{phase}.started.");
        names.filter_map(|name| name.strip_prefix(&prefix)?.split('.').next()?.parse().ok()).next()
    }

    /// Whether the window of the youngest attempt is open: armed, and neither over nor thawed.
    pub fn window_is_open(&self) -> bool {
        let has = |file: &str| self.of_attempt(file).is_some_and(|path| self.has(&path));
        has("armed") && !["thawed", "over", "end"].into_iter().any(has)
    }

    /// All processes of the guest, but for its first one, that one's sleep and the agent's log.
    pub fn processes(&self) -> Vec<Process> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut all: Vec<Process> = pids.filter_map(|pid| self.process(pid)).collect();
        all.retain(|one| {
            one.pid != self.init
                && !(one.parent == self.init && one.arguments == "sleep 86400 ")
                && !one.arguments.contains(" aliyun-assist ")
        });
        all
    }

    fn process(&self, pid: u32) -> Option<Process> {
        if namespace(pid)? != self.namespace {
            return None;
        }
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let status = String::from_utf8(read("status")?).ok()?;
        let guest_pid = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let guest_pid = guest_pid.split_whitespace().last()?.parse().ok()?;
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        let (head, tail) = stat.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let arguments = String::from_utf8_lossy(&read("cmdline")?).replace('\0', " ");
        Some(Process {
            pid,
            guest_pid,
            state,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            name: head.split_once('(')?.1.to_owned(),
            arguments,
        })
    }

    /// The process whose id (as the guest counts) is the first word of a file of the youngest attempt.
    pub fn named(&self, all: &[Process], file: &str) -> Option<Process> {
        let text = self.read(&self.of_attempt(file)?)?;
        let guest_pid: u32 = text.split_whitespace().next()?.parse().ok()?;
        all.iter().find(|one| one.guest_pid == guest_pid).cloned()
    }

    /// The guest's mounts.
    pub fn mounts(&self) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.init)).unwrap_or_default();
        // Of a line all but the ids.
        let mut lines: Vec<&str> =
            text.lines().filter_map(|line| Some(line.splitn(3, ' ').nth(2)?.trim())).collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

/// What a process waits for in the kernel.
pub fn waits_for(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default()
}

/// Sends a signal; one that is gone does not mind.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let _ = host::pid(pid).map(|pid| rustix::process::kill_process(pid, signal));
}
