//! The one place that knows the time, sleeps and draws randomness; everything else is handed a [`Clock`].
//!
//! [`Clock::system`] is the real one. [`Clock::seeded`] starts at a given time and follows tokio's clock, so
//! under `start_paused` a whole run passes in no time and the same seed gives the same nonces.
#![allow(clippy::disallowed_methods)] // this is the place that the ban in clippy.toml points to

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Time, sleep, nonces and jitter, cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System,
    Seeded { start: Timestamp, origin: tokio::time::Instant, state: Mutex<u64> },
}

impl Clock {
    /// Wall-clock time and the kernel's randomness.
    pub fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// Starts at `start`, moves with tokio's (pausable) clock, draws from `seed`. Call inside a tokio runtime.
    pub fn seeded(start: Timestamp, seed: u64) -> Self {
        Self(Arc::new(Source::Seeded { start, origin: tokio::time::Instant::now(), state: Mutex::new(seed) }))
    }

    /// The time now (UTC). Read afresh each time: an instance of Function Compute may have slept in between.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System => Timestamp::now(),
            Source::Seeded { start, origin, .. } => {
                *start + SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::MAX)
            }
        }
    }

    /// Sleeps; cancelled when dropped.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// 32 hexadecimal digits that were never handed out before.
    pub fn nonce(&self) -> String {
        format!("{:016x}{:016x}", self.random(), self.random())
    }

    /// Evenly spread in 0..1, for back-off.
    pub fn jitter(&self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn random(&self) -> u64 {
        match &*self.0 {
            Source::System => {
                let mut bytes = [0; 8];
                // The kernel's generator fails only before the system is up; a function cannot run then.
                getrandom::fill(&mut bytes).expect("the kernel has randomness");
                u64::from_ne_bytes(bytes)
            }
            Source::Seeded { state, .. } => {
                let mut state = state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                // splitmix64
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seeded_clock_follows_paused_time_and_its_seed() {
        let start: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        let (a, b) = (Clock::seeded(start, 7), Clock::seeded(start, 7));
        assert_eq!(a.nonce(), b.nonce());
        assert_ne!(a.nonce(), a.nonce());
        a.sleep(Duration::from_secs(3600)).await;
        assert_eq!(a.now().to_string(), "2026-11-22T04:00:00Z");
    }

    #[test]
    fn jitter_stays_in_its_range() {
        let clock = Clock::system();
        assert!((0..1000).all(|_| (0.0..1.0).contains(&clock.jitter())));
    }
}
