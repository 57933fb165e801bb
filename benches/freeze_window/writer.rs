//! Who suffers from a freeze: a process in the rig that writes and fsyncs a few bytes on each file system, over and
//! over, and tells its longest gap between two completions when it is asked.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::rig::Rig;

/// Between an fsync and the next write: a light load, and how precise a stall is.
const REST: Duration = Duration::from_millis(1);

/// The writer of one rig, as its owner sees it.
pub struct Writer {
    ask: File,
    told: BufReader<File>,
}

impl Writer {
    /// Starts this very program inside the rig.
    pub fn start(rig: &mut Rig, mounts: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap().display().to_string();
        let dir = rig.dir.display().to_string();
        let files: Vec<String> = mounts.iter().map(|mount| format!("{mount}/writer")).collect();
        let (out, status) = rig.sh(&format!(
            "mkfifo {dir}/ask {dir}/told; '{program}' writer {} <{dir}/ask >{dir}/told 2>{dir}/writer.err & :",
            files.join(" ")
        ));
        assert_eq!(status, 0, "{out}");
        let ask = File::options().write(true).open(rig.dir.join("ask")).unwrap();
        let told = BufReader::new(File::open(rig.dir.join("told")).unwrap());
        Writer { ask, told }
    }

    /// The longest gap since the last time.
    pub fn longest(&mut self) -> Duration {
        self.ask.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        Duration::from_micros(line.trim().parse().expect("the writer is gone"))
    }
}

/// The writer itself; it ends with its standard input.
pub fn run(files: &[String]) {
    static LONGEST: AtomicU64 = AtomicU64::new(0);
    for path in files {
        let mut file = File::create(path).unwrap();
        std::thread::spawn(move || {
            let mut last = Instant::now();
            let mut written = 0;
            loop {
                if written % 4096 == 0 {
                    file.set_len(0).unwrap(); // the file stays small
                }
                file.write_all(b"appsnap\n").unwrap();
                file.sync_all().unwrap();
                written += 1;
                let now = Instant::now();
                let gap = u64::try_from(now.duration_since(last).as_micros()).unwrap();
                LONGEST.fetch_max(gap, Ordering::Relaxed);
                last = now;
                std::thread::sleep(REST);
            }
        });
    }
    for _ in std::io::stdin().lines() {
        println!("{}", LONGEST.swap(0, Ordering::Relaxed));
    }
}
