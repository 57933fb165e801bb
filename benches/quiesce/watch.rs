//! Who waits: a client that commits one row after another, and notes each on tmpfs when it is acknowledged. Watched from
//! outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use appsnap::local::engine::Engine;
use appsnap::local::guest::Guest;

/// How precise a wait is; the kernel's own times of a file are some ms apart.
const LOOK: Duration = Duration::from_millis(1);

/// The watch over one guest.
pub struct Watch {
    longest: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    /// Looks at the notes of the load's client.
    pub fn start(guest: &Guest, engine: Engine) -> Self {
        let notes = format!("/proc/{}/root/run/appsnap-engine/{}/acked", guest.init(), engine.name());
        let (longest, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (told, end) = (longest.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let look = || std::fs::metadata(&notes).and_then(|file| Ok((file.modified()?, file.len()))).ok();
            let (mut seen, mut since) = (look(), Instant::now());
            while !end.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                let now = look();
                let gap = u64::try_from(since.elapsed().as_micros()).unwrap();
                told.fetch_max(gap, Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, Instant::now());
                }
            }
        });
        Self { longest, over, thread: Some(thread) }
    }

    /// The longest wait since the last time, one that goes on included.
    pub fn longest(&mut self) -> Duration {
        Duration::from_micros(self.longest.swap(0, Ordering::Relaxed))
    }

    /// Ends it, so that it has nothing of the guest open.
    pub fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}
