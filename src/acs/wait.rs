//! Waiting for the cloud: ask, step back, ask again, until it is so or the time is up.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::error::Error;
use crate::clock::Clock;

/// How fast to ask.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The first pause.
    pub first: Duration,
    /// Each pause is longer by this factor, …
    pub factor: f64,
    /// … up to this one.
    pub longest: Duration,
}

/// Asks at once and then at the pace until `check` has a value; `None` when the deadline comes first. The last
/// question is put at the deadline.
///
/// # Errors
/// The first of `check`; what should not end the wait has to become `Ok(None)` there.
pub async fn wait_until<T, E, F: Future<Output = Result<Option<T>, E>>>(
    clock: &Clock,
    pace: Pace,
    deadline: Timestamp,
    mut check: impl FnMut() -> F,
) -> Result<Option<T>, E> {
    let mut pause = pace.first;
    loop {
        if let Some(value) = check().await? {
            return Ok(Some(value));
        }
        let left = Duration::try_from(deadline.duration_since(clock.now())).unwrap_or_default();
        if left.is_zero() {
            return Ok(None);
        }
        clock.sleep(pause.min(left)).await;
        pause = pause.mul_f64(pace.factor).min(pace.longest);
    }
}

/// Asks again in the next minute where a rate limit was the answer: it opens then, for the account and all its users.
/// Up to ten seconds later by chance, five times at most, and not where `deadline` would come first. Only for calls that may
/// wait, so not while anything is frozen.
///
/// # Errors
/// The last of `ask`.
pub async fn past_limits<T, F: Future<Output = Result<T, Error>>>(
    clock: &Clock,
    deadline: Timestamp,
    ask: impl Fn() -> F,
) -> Result<T, Error> {
    for _ in 0..5 {
        let answer = ask().await;
        if !answer.as_ref().is_err_and(|error| error.is_throttled()) {
            return answer;
        }
        let now = clock.now();
        let left = 60 - now.as_second().rem_euclid(60) as u64;
        let pause = Duration::from_secs(left) + Duration::from_secs(10).mul_f64(clock.jitter());
        if now + SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX) >= deadline {
            return answer;
        }
        clock.sleep(pause).await;
    }
    ask().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acs::Detail;

    const PACE: Pace = Pace { first: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(4) };

    async fn asked_at(deadline_secs: i64, ready_after: usize) -> (Option<usize>, Vec<i64>) {
        let start: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        let clock = Clock::seeded(start, 1);
        let asked = std::cell::RefCell::new(Vec::new());
        let deadline = start + SignedDuration::from_secs(deadline_secs);
        let found = wait_until(&clock, PACE, deadline, || async {
            let mut asked = asked.borrow_mut();
            asked.push((clock.now() - start).get_seconds());
            Ok::<_, ()>((asked.len() > ready_after).then_some(asked.len()))
        })
        .await
        .unwrap();
        (found, asked.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn it_steps_back_and_stops_when_it_is_so() {
        assert_eq!(asked_at(60, 5).await, (Some(6), vec![0, 1, 3, 7, 11, 15]));
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_a_last_time_at_the_deadline() {
        assert_eq!(asked_at(5, 99).await, (None, vec![0, 1, 3, 5]));
        assert_eq!(asked_at(-5, 99).await, (None, vec![0]));
    }

    #[tokio::test]
    async fn an_error_ends_the_wait_and_the_future_can_be_spawned() {
        let clock = Clock::system();
        let wait = async move {
            wait_until(&clock, PACE, clock.now(), || async { Err::<Option<()>, _>("no") }).await
        };
        assert_eq!(tokio::spawn(wait).await.unwrap(), Err("no"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_is_asked_again_in_the_next_minute_and_nothing_else_is() {
        let start: Timestamp = "2026-11-22T03:00:20Z".parse().unwrap();
        let asked = async |code: &'static str, refusals: usize, minutes: i64| {
            let clock = Clock::seeded(start, 1);
            let seen = std::cell::RefCell::new(Vec::new());
            let deadline = start + SignedDuration::from_mins(minutes);
            let answer = past_limits(&clock, deadline, || async {
                seen.borrow_mut().push((clock.now() - start).get_seconds());
                let refused = seen.borrow().len() <= refusals;
                let error = Error::new(Detail { code: code.into(), ..Detail::default() });
                if refused { Err(error) } else { Ok(()) }
            });
            (answer.await.is_ok(), seen.into_inner())
        };
        let (ok, at) = asked("Throttling.User", 1, 10).await;
        assert!(ok && at.len() == 2 && (40..51).contains(&at[1]), "{at:?}");
        let (ok, at) = asked("Throttling.User", 9, 10).await;
        assert!(!ok && at.len() == 6 && at[5] >= 280, "{at:?}");
        assert_eq!(asked("Throttling.User", 1, 0).await, (false, vec![0]), "no time is left");
        assert_eq!(asked("Forbidden.RAM", 1, 10).await, (false, vec![0]));
    }
}
