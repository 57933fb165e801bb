//! Which failures are tried again, when, and how often: pure rules over what the cloud said and what a repeat of
//! the call would mean, and a budget that keeps retries of one client from becoming a storm.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::call::Kind;
use super::transport::{Reply, Stage};

/// What kind of failure an attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The cloud's considered answer; the same call gets the same answer.
    Permanent,
    /// A rate limit: not processed.
    Throttled,
    /// Never left this process.
    NotSent,
    /// An earlier call with this ClientToken is still at work.
    Busy,
    /// The cloud failed, or nobody answered: it may have been processed.
    Uncertain,
    /// The gateway has seen this very request before: it may have been processed.
    NonceUsed,
}

/// The class of an answer that is no success. Throttling is known by its code, since sources give different HTTP
/// statuses for it.
pub(super) fn classify(status: u16, code: &str) -> Class {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| code.starts_with(prefix));
    if starts(&["Throttling"]) || status == 429 {
        Class::Throttled
    } else if starts(&["SignatureNonceUsed"]) {
        Class::NonceUsed
    } else if starts(&["IdempotentProcessing", "LastTokenProcessing"]) {
        Class::Busy
    } else if status >= 500 || starts(&["ServiceUnavailable", "InternalError", "UnknownError"]) {
        Class::Uncertain
    } else {
        Class::Permanent
    }
}

/// Whether an answer tells of something that passes by itself: a rate limit, or a failure on the cloud's side.
pub fn is_passing(status: u16, code: &str) -> bool {
    matches!(classify(status, code), Class::Throttled | Class::Uncertain)
}

/// Whether the cloud no longer knows the key: a session was revoked, or a clock has jumped.
pub(super) fn is_dead_key(code: &str) -> bool {
    code.starts_with("InvalidSecurityToken") || code.starts_with("InvalidAccessKeyId")
}

/// The class of an attempt without an answer.
pub(super) fn classify_failure(stage: Stage) -> Class {
    match stage {
        Stage::Connect => Class::NotSent,
        Stage::Trust => Class::Permanent,
        Stage::Answer => Class::Uncertain,
    }
}

/// Whether such a call may be sent again after such a failure.
pub(super) fn may_repeat(kind: Kind, class: Class) -> bool {
    match class {
        Class::Permanent => false,
        Class::Throttled | Class::NotSent => true,
        Class::Busy | Class::Uncertain | Class::NonceUsed => kind != Kind::Once,
    }
}

/// Whether, after such a failure, the call may have happened.
pub(super) fn leaves_doubt(kind: Kind, class: Class) -> bool {
    kind != Kind::Read && matches!(class, Class::Busy | Class::Uncertain | Class::NonceUsed)
}

/// How long the cloud asks to wait: `x-acs-retry-after` in ms, or `TimeLeft` in ms of the rate headers
/// (`Limit:1,Remain:0,TimeLeft:2000,Reset:1234`); the longest counts.
pub(super) fn asked_pause(reply: &Reply) -> Option<Duration> {
    let time_left = |name| {
        let fields = reply.header(name)?.split(',');
        fields.filter_map(|field| field.trim().strip_prefix("TimeLeft:")).next()?.trim().parse().ok()
    };
    let after = reply.header("x-acs-retry-after").and_then(|value| value.trim().parse().ok());
    let asked = [after, time_left("x-ratelimit-user-api"), time_left("x-ratelimit-user")];
    asked.into_iter().flatten().max().map(|ms: u64| Duration::from_millis(ms))
}

/// How long to wait after the attempt of this number (from 1): doubling, half of it by chance, 20 s at most, but
/// never shorter than what the cloud asked for.
pub(super) fn pause(class: Class, attempt: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let first = if class == Class::Throttled { 500 } else { 150 };
    let full = Duration::from_millis(first << (attempt - 1).min(10)).min(Duration::from_secs(20));
    full.mul_f64(0.5 + jitter / 2.0).max(asked.unwrap_or_default())
}

/// A bucket of retries, shared by the clones of a client: each retry takes [`Budget::COST`], each success gives
/// one back.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Budget {
    const FULL: u32 = 100;
    const COST: u32 = 5;

    pub(super) fn full() -> Self {
        Self(AtomicU32::new(Self::FULL))
    }

    /// Whether another retry is allowed.
    pub(super) fn take(&self) -> bool {
        let less = |left: u32| left.checked_sub(Self::COST);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    pub(super) fn give_back(&self) {
        let more = |left: u32| (left < Self::FULL).then_some(left + 1);
        // An Err means that it is full.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_meets_every_failure() {
        use Class::*;
        //              class, Read, Token, Once repeat, Token doubt, Once doubt
        let table = [
            (Permanent, false, false, false, false, false),
            (Throttled, true, true, true, false, false),
            (NotSent, true, true, true, false, false),
            (Busy, true, true, false, true, true),
            (Uncertain, true, true, false, true, true),
            (NonceUsed, true, true, false, true, true),
        ];
        for (class, read, token, once, token_doubt, once_doubt) in table {
            assert_eq!(may_repeat(Kind::Read, class), read, "{class:?}");
            assert_eq!(may_repeat(Kind::Idempotent, class), token, "{class:?}");
            assert_eq!(may_repeat(Kind::Once, class), once, "{class:?}");
            assert!(!leaves_doubt(Kind::Read, class), "{class:?}");
            assert_eq!(leaves_doubt(Kind::Idempotent, class), token_doubt, "{class:?}");
            assert_eq!(leaves_doubt(Kind::Once, class), once_doubt, "{class:?}");
        }
    }

    #[test]
    fn codes_weigh_more_than_statuses() {
        let table = [
            (400, "Throttling", Class::Throttled),
            (403, "Throttling.User", Class::Throttled),
            (503, "Throttling.Api", Class::Throttled),
            (429, "HTTP 429", Class::Throttled),
            (400, "SignatureNonceUsed", Class::NonceUsed),
            (403, "IdempotentProcessing", Class::Busy),
            (403, "IdempotentParameterMismatch", Class::Permanent),
            (400, "ServiceUnavailable", Class::Uncertain),
            (500, "InternalError", Class::Uncertain),
            (502, "HTTP 502", Class::Uncertain),
            (403, "Forbidden.RAM", Class::Permanent),
        ];
        for (status, code, class) in table {
            assert_eq!(classify(status, code), class, "{status} {code}");
        }
    }

    #[test]
    fn the_longest_pause_that_the_cloud_asks_for_counts() {
        let with = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            asked_pause(&Reply { headers, ..Reply::new(400, "") })
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("x-acs-retry-after", "1500")]), Some(Duration::from_millis(1500)));
        let user = ("x-ratelimit-user", "Limit:1,Remain:0,TimeLeft:900,Reset:1");
        let api = ("x-ratelimit-user-api", "Limit:1,Remain:0,TimeLeft:2000,Reset:1234");
        assert_eq!(with(&[user, api]), Some(Duration::from_secs(2)));
        assert_eq!(with(&[("x-ratelimit-user", "soon"), ("x-acs-retry-after", "-1")]), None);
    }

    #[test]
    fn pauses_double_within_bounds() {
        assert_eq!(pause(Class::NotSent, 1, None, 0.0), Duration::from_millis(75));
        assert_eq!(pause(Class::Throttled, 3, None, 0.5), Duration::from_millis(1500));
        assert_eq!(pause(Class::Throttled, 30, None, 0.999_999).as_secs(), 19);
        assert_eq!(pause(Class::Throttled, 1, Some(Duration::from_secs(3)), 0.5), Duration::from_secs(3));
    }

    #[test]
    fn the_budget_runs_dry_and_fills_by_successes() {
        let budget = Budget::full();
        assert_eq!((0..100).filter(|_| budget.take()).count(), 20);
        (0..4).for_each(|_| budget.give_back());
        assert!(!budget.take());
        budget.give_back();
        assert!(budget.take());
        (0..1000).for_each(|_| budget.give_back());
        assert_eq!((0..100).filter(|_| budget.take()).count(), 20);
    }
}
