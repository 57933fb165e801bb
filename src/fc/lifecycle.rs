//! What is in flight, and whether the instance is to stop. A stop lets every invocation finish, at most until the
//! latest deadline among them: then the platform would kill it anyway.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;

/// Shared by all connections of a server.
pub(super) struct Lifecycle {
    state: watch::Sender<State>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    stopping: bool,
    running: usize,
    /// The latest deadline of any invocation so far.
    latest: Timestamp,
}

/// An invocation in flight, until dropped.
pub(super) struct Running(Arc<Lifecycle>);

impl Lifecycle {
    pub(super) fn new(clock: Clock) -> Self {
        Self { state: watch::Sender::new(State::default()), clock }
    }

    /// Counts an invocation in.
    pub(super) fn begin(self: &Arc<Self>, deadline: Timestamp) -> Running {
        self.state.send_modify(|state| {
            state.running += 1;
            state.latest = state.latest.max(deadline);
        });
        Running(self.clone())
    }

    /// Asks everybody to stop.
    pub(super) fn stop(&self) {
        self.state.send_modify(|state| state.stopping = true);
    }

    /// Resolves once [`stop`](Self::stop) was called.
    pub(super) async fn stopping(&self) {
        // It errs only without a sender, and we are the sender.
        let _ = self.state.subscribe().wait_for(|state| state.stopping).await;
    }

    /// Waits until nothing is in flight, or `limit`, or the latest deadline; tells how many still run.
    pub(super) async fn drained(&self, limit: Timestamp) -> usize {
        let mut state = self.state.subscribe();
        let until = limit.min(state.borrow().latest);
        let left = Duration::try_from(until.duration_since(self.clock.now())).unwrap_or_default();
        tokio::select! {
            biased;
            _ = state.wait_for(|state| state.running == 0) => 0,
            () = self.clock.sleep(left) => self.state.borrow().running,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    fn started() -> (Arc<Lifecycle>, Timestamp) {
        let now = "2026-11-22T03:00:00Z".parse().unwrap();
        (Arc::new(Lifecycle::new(Clock::seeded(now, 1))), now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_what_is_in_flight() {
        let (lifecycle, now) = started();
        assert_eq!(lifecycle.drained(Timestamp::MAX).await, 0);
        let running = lifecycle.begin(now + 1.hour());
        let clock = lifecycle.clock.clone();
        tokio::spawn(async move {
            clock.sleep(Duration::from_secs(60)).await;
            drop(running);
        });
        assert_eq!(lifecycle.drained(Timestamp::MAX).await, 0);
        assert_eq!(lifecycle.clock.now(), now + 1.minute());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_no_longer_than_the_latest_deadline_or_its_own() {
        let (lifecycle, now) = started();
        let _running = [lifecycle.begin(now + 1.hour()), lifecycle.begin(now + 1.minute())];
        assert_eq!(lifecycle.drained(now + 10.seconds()).await, 2);
        assert_eq!(lifecycle.clock.now(), now + 10.seconds());
        assert_eq!(lifecycle.drained(Timestamp::MAX).await, 2);
        assert_eq!(lifecycle.clock.now(), now + 1.hour());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_seen_by_those_who_come_later() {
        let (lifecycle, _) = started();
        lifecycle.stop();
        lifecycle.stopping().await;
    }
}
