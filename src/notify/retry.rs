//! When to try again: three tries within twenty seconds, or as the receiver asks, if the function's time allows.

use std::time::Duration;

use jiff::Timestamp;

pub(super) const TRIES: u32 = 3;
/// A function pays for every second that it waits.
pub(super) const TOTAL: Duration = Duration::from_secs(20);
/// The same where the receiver names its time: the robots count by the minute.
pub(super) const PATIENCE: Duration = Duration::from_secs(80);
/// Limit of one try, and what a last one gets at least.
pub(super) const TRY: Duration = Duration::from_secs(8);
const LAST: Duration = Duration::from_secs(1);

/// Whether an answer can change by itself.
pub(super) fn worth_repeating(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// The wait before the next try, or `None` when there is none: `attempt` tries were made and `elapsed` has
/// passed of `left`, the time that the function has; `jitter` in 0..1.
pub(super) fn wait(
    attempt: u32,
    elapsed: Duration,
    left: Duration,
    asked: Option<Duration>,
    jitter: f64,
) -> Option<Duration> {
    let own = Duration::from_secs(1 << attempt.min(8).saturating_sub(1)).mul_f64(0.5 + jitter);
    let wait = asked.unwrap_or(own);
    let total = total(asked.is_some(), left);
    (attempt < TRIES && elapsed.saturating_add(wait) < total).then_some(wait)
}

/// The limit of a try; `asked`: it comes when the receiver asked for it.
pub(super) fn limit(elapsed: Duration, left: Duration, asked: bool) -> Duration {
    TRY.min(total(asked, left).saturating_sub(elapsed)).max(LAST)
}

fn total(asked: bool, left: Duration) -> Duration {
    if asked { PATIENCE } else { TOTAL }.min(left)
}

/// `Retry-After`: seconds or an HTTP date.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let secs = Duration::from_secs;
        let table = [
            (1, 0, 25, None, Some(secs(1))),
            (2, 3, 25, None, Some(secs(2))),
            (3, 3, 25, None, None),
            (1, 0, 25, Some(0), Some(secs(0))),
            (1, 5, 20, Some(14), Some(secs(14))),
            (1, 5, 20, Some(15), None),
            (1, 5, 3600, Some(60), Some(secs(60))),
            (1, 5, 3600, Some(75), None),
            (2, 70, 3600, Some(1), Some(secs(1))),
            (1, 0, 3600, Some(u64::MAX), None),
            (2, 19, 3600, None, None),
            (1, 0, 0, None, None),
        ];
        for (attempt, elapsed, left, asked, expected) in table {
            let got = wait(attempt, secs(elapsed), secs(left), asked.map(secs), 0.5);
            assert_eq!(got, expected, "{attempt} {elapsed} {left} {asked:?}");
        }
    }

    #[test]
    fn a_try_has_its_time_also_after_a_wait_that_was_asked_for() {
        let table = [
            (0, 25, false, 8),
            (15, 25, false, 5),
            (70, 3600, true, 8),
            (70, 72, true, 2),
            (70, 72, false, 1),
        ];
        for (elapsed, left, asked, expected) in table {
            let got = limit(Duration::from_secs(elapsed), Duration::from_secs(left), asked);
            assert_eq!(got.as_secs(), expected, "{elapsed} {left} {asked}");
        }
    }

    #[test]
    fn retry_after_has_two_forms() {
        let now = "2026-11-22T03:00:00Z".parse().unwrap();
        let table = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 22 Nov 2026 03:00:09 GMT", Some(9)),
            ("Sun, 22 Nov 2026 02:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ];
        for (value, expected) in table {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_refusal_is_final_and_a_failure_is_not() {
        assert!([408, 429, 500, 502, 503, 504].into_iter().all(worth_repeating));
        assert!(![301, 400, 401, 403, 404, 410, 413].into_iter().any(worth_repeating));
    }
}
