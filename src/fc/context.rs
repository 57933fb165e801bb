//! What the platform tells about an invocation, in `x-fc-*` headers. An absent header and an empty one mean the
//! same: Function Compute 3.0 sends many leftovers of 2.0 empty, and empty credentials when there is no role.

use std::str::FromStr;
use std::time::Duration;

use hyper::HeaderMap;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::secret::Secret;

/// The platform's longest timeout, in seconds; also what counts when none is told.
const MAX_TIMEOUT: u32 = 86_400;

/// The circumstances of one invocation.
#[derive(Debug, Clone)]
pub struct Context {
    /// The id by which the platform files the invocation and its log. In FC 3.0 not a UUID
    /// (`1-<8 hex>-<8 hex>-<12 hex>`). `local-…` when the caller sent none.
    pub request_id: String,
    /// Temporary credentials of the function's role; `None` without a role, or if injection is off.
    pub credentials: Option<Credentials>,
    /// The region, such as `cn-hangzhou`.
    pub region: Option<String>,
    /// The id of the account that owns the function.
    pub account_id: Option<String>,
    /// The function's name.
    pub function_name: Option<String>,
    /// The version or alias that was called, `LATEST` by default.
    pub qualifier: Option<String>,
    /// The instance's memory in MB.
    pub memory_mb: Option<u32>,
    /// The function's timeout; the platform's maximum, 24 h, if it told none.
    pub timeout: Duration,
    /// When the platform kills the invocation: its arrival plus the timeout.
    pub deadline: Timestamp,
    /// How often the platform has tried this asynchronous invocation before.
    pub retry_count: u32,
    /// The id of the asynchronous task, if it is one.
    pub async_task_id: Option<String>,
}

/// Temporary credentials (STS) of the function's role.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub access_key_secret: Secret,
    /// The security token that goes with them.
    pub security_token: Option<Secret>,
}

impl Context {
    /// Reads the headers of a request that arrived now.
    pub fn from_headers(headers: &HeaderMap, clock: &Clock) -> Self {
        let text = |name| text(headers, name);
        let timeout = match number(headers, "x-fc-function-timeout") {
            Some(seconds @ 1..=MAX_TIMEOUT) => seconds,
            _ => MAX_TIMEOUT,
        };
        let credentials = match (text("x-fc-access-key-id"), text("x-fc-access-key-secret")) {
            (Some(access_key_id), Some(secret)) => Some(Credentials {
                access_key_id,
                access_key_secret: Secret::new(secret),
                security_token: text("x-fc-security-token").map(Secret::new),
            }),
            _ => None,
        };
        Self {
            request_id: text("x-fc-request-id").unwrap_or_else(|| format!("local-{}", clock.nonce())),
            credentials,
            region: text("x-fc-region"),
            account_id: text("x-fc-account-id"),
            function_name: text("x-fc-function-name"),
            qualifier: text("x-fc-qualifier"),
            memory_mb: number(headers, "x-fc-function-memory"),
            timeout: Duration::from_secs(timeout.into()),
            deadline: clock.now() + SignedDuration::from_secs(timeout.into()),
            retry_count: number(headers, "x-fc-retry-count").unwrap_or(0),
            async_task_id: text("x-fc-async-task-id"),
        }
    }
}

/// A header that is there, readable and not empty.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty()).map(str::to_owned)
}

fn number<T: FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    text(headers, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn context(headers: &[(&'static str, &'static str)]) -> Context {
        let map =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        Context::from_headers(&map.collect(), &Clock::seeded("2026-11-22T03:00:00Z".parse().unwrap(), 1))
    }

    #[tokio::test(start_paused = true)]
    async fn the_headers_of_an_event_invocation_are_read() {
        let context = context(&[
            ("x-fc-request-id", "1-6739f0a1-15a3f2b1-0a1b2c3d4e5f"),
            ("x-fc-access-key-id", "STS.id"),
            ("x-fc-access-key-secret", "hunter2"),
            ("x-fc-security-token", "token"),
            ("x-fc-region", "cn-hangzhou"),
            ("x-fc-account-id", "1234"),
            ("x-fc-function-name", "snapshots"),
            ("x-fc-qualifier", "LATEST"),
            ("x-fc-function-memory", "512"),
            ("x-fc-function-timeout", "3600"),
            ("x-fc-retry-count", "2"),
            ("x-fc-async-task-id", "orders_i1_0300"),
        ]);
        assert_eq!(context.request_id, "1-6739f0a1-15a3f2b1-0a1b2c3d4e5f");
        let credentials = context.credentials.as_ref().unwrap();
        assert_eq!(credentials.access_key_id, "STS.id");
        assert_eq!(credentials.access_key_secret.expose(), "hunter2");
        assert_eq!(credentials.security_token.as_ref().unwrap().expose(), "token");
        assert_eq!(context.region.as_deref(), Some("cn-hangzhou"));
        assert_eq!(context.account_id.as_deref(), Some("1234"));
        assert_eq!(context.function_name.as_deref(), Some("snapshots"));
        assert_eq!(context.qualifier.as_deref(), Some("LATEST"));
        assert_eq!(context.memory_mb, Some(512));
        assert_eq!(context.deadline.to_string(), "2026-11-22T04:00:00Z");
        assert_eq!(context.retry_count, 2);
        assert_eq!(context.async_task_id.as_deref(), Some("orders_i1_0300"));
        assert!(!format!("{context:?}").contains("hunter2"));
    }

    #[tokio::test(start_paused = true)]
    async fn empty_is_absent() {
        let empty = context(&[
            ("x-fc-request-id", ""),
            ("x-fc-access-key-id", ""),
            ("x-fc-access-key-secret", ""),
            ("x-fc-security-token", ""),
            ("x-fc-region", ""),
            ("x-fc-retry-count", ""),
        ]);
        let absent = context(&[]);
        assert_eq!(format!("{empty:?}"), format!("{absent:?}"));
        assert_eq!(empty.credentials, None);
        assert!(empty.request_id.starts_with("local-"));
        assert_eq!((empty.region, empty.retry_count), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_a_key_is_none_and_a_token_is_optional() {
        assert_eq!(context(&[("x-fc-access-key-id", "id"), ("x-fc-security-token", "t")]).credentials, None);
        let long_lived = context(&[("x-fc-access-key-id", "id"), ("x-fc-access-key-secret", "s")]);
        assert_eq!(long_lived.credentials.unwrap().security_token, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unusable_timeout_is_the_platforms_longest() {
        for bad in ["", "0", "86401", "-5", "soon"] {
            let map =
                HeaderMap::from_iter([("x-fc-function-timeout".parse().unwrap(), bad.parse().unwrap())]);
            let clock = Clock::seeded("2026-11-22T03:00:00Z".parse().unwrap(), 1);
            assert_eq!(
                Context::from_headers(&map, &clock).deadline.to_string(),
                "2026-11-23T03:00:00Z",
                "{bad}"
            );
        }
    }
}
