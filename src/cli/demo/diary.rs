//! What was done and seen from outside during a run, with its time; and how long writers had to wait meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::local::guest::Guest;
use crate::local::host::lock;

/// Between two writers that ask. A shorter wait than this is the machine's.
const PAUSE: Duration = Duration::from_millis(50);
pub(super) const WORTH_TELLING: Duration = Duration::from_millis(150);

/// One wait of a writer.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) mount: String,
    pub(super) long: Duration,
    pub(super) until: Timestamp,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Diary {
    clock: Clock,
    pub(super) start: Timestamp,
    lines: Arc<Mutex<Vec<(Timestamp, String)>>>,
    waits: Arc<Mutex<Vec<Wait>>>,
    asking: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

impl Diary {
    pub(super) fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            start: clock.now(),
            lines: Arc::default(),
            waits: Arc::default(),
            asking: Arc::default(),
        }
    }

    pub(super) fn note(&self, line: impl Into<String>) {
        lock(&self.lines).push((self.clock.now(), line.into()));
    }

    pub(super) fn lines(&self) -> Vec<(Timestamp, String)> {
        lock(&self.lines).clone()
    }

    /// Writers that ask all the time, one at a time on each of `mounts`, until the set is dropped.
    pub(super) fn writers(&self, guest: &Arc<Guest>, mounts: Vec<String>) -> JoinSet<()> {
        let mut writers = JoinSet::new();
        for mount in mounts {
            let (diary, guest) = (self.clone(), guest.clone());
            writers.spawn(async move {
                loop {
                    lock(&diary.asking).insert(mount.clone(), diary.clock.now());
                    if let Ok(long) = guest.wait_of_a_writer(&mount).await
                        && long >= WORTH_TELLING
                    {
                        let until = diary.clock.now();
                        lock(&diary.waits).push(Wait { mount: mount.clone(), long, until });
                    }
                    lock(&diary.asking).remove(&mount);
                    diary.clock.sleep(PAUSE).await;
                }
            });
        }
        writers
    }

    /// How long the writer on `mount` that asks now has been waiting.
    pub(super) fn waiting(&self, mount: &str) -> Duration {
        let since = lock(&self.asking).get(mount).copied();
        since.map(|since| self.clock.now().duration_since(since).unsigned_abs()).unwrap_or_default()
    }

    /// Those that were longer than a busy machine explains.
    pub(super) fn waits(&self) -> Vec<Wait> {
        lock(&self.waits).clone()
    }
}
