//! The generic webhook: the report as JSON, signed after Standard Webhooks.

use std::error::Error;
use std::time::Duration;

use reqwest::Url;

use super::retry;
use super::signature::Key;
use crate::clock::Clock;
use crate::policy::{Channel, Env};

/// Where to send, with its secrets resolved.
pub(super) struct Target {
    url: Url,
    key: Key,
}

/// What is sent.
pub(super) struct Message {
    /// `webhook-id`: the receiver's key against repeats; without dots.
    pub id: String,
    /// JSON.
    pub body: String,
}

/// Why one try failed.
struct Failure {
    message: String,
    again: bool,
    asked: Option<Duration>,
}

impl Target {
    /// Resolves a channel's references; errors name the variable, never its value.
    pub fn resolve(channel: &Channel, env: Env) -> Result<Self, String> {
        let url = channel.url.resolve(env)?;
        let url = Url::parse(url.expose())
            .map_err(|_| format!("{} is no URL: write https://host/path", channel.url))?;
        let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(format!("{} must be an https URL (plain http only to loopback)", channel.url));
        }
        let key = Key::parse(&channel.secret.resolve(env)?)
            .map_err(|message| format!("{} {message}", channel.secret))?;
        Ok(Self { url, key })
    }

    /// Scheme and host; the rest of the URL may hold a token.
    fn shown(&self) -> String {
        format!("{}://{}", self.url.scheme(), self.url.host_str().unwrap_or("?"))
    }
}

/// Tries until it is delivered or the tries or the time are used up; tells the tries and the last error.
pub(super) async fn deliver(
    target: &Target,
    message: &Message,
    client: &reqwest::Client,
    clock: &Clock,
) -> (u32, Option<String>) {
    let start = clock.now();
    let elapsed = || Duration::try_from(clock.now().duration_since(start)).unwrap_or_default();
    let mut attempt = 1;
    loop {
        let limit = retry::TRY.min(retry::TOTAL.saturating_sub(elapsed()));
        let Err(failure) = once(target, message, client, clock, limit).await else { return (attempt, None) };
        let wait = retry::wait(attempt, elapsed(), failure.asked, clock.jitter());
        match wait.filter(|_| failure.again) {
            Some(wait) => clock.sleep(wait).await,
            None => return (attempt, Some(format!("{}: {}", target.shown(), failure.message))),
        }
        attempt += 1;
    }
}

async fn once(
    target: &Target,
    message: &Message,
    client: &reqwest::Client,
    clock: &Clock,
    limit: Duration,
) -> Result<(), Failure> {
    // Signed anew for each try: receivers refuse timestamps older than five minutes.
    let timestamp = clock.now().as_second();
    let response = client
        .post(target.url.clone())
        .header("content-type", "application/json")
        .header("user-agent", concat!("appsnap/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", target.key.sign(&message.id, timestamp, &message.body))
        .body(message.body.clone())
        .timeout(limit)
        .send()
        .await
        .map_err(|error| Failure { message: causes(error), again: true, asked: None })?;
    let status = response.status();
    if *response.url() != target.url || status.is_redirection() {
        let message = format!("redirected ({status}): name the final address");
        return Err(Failure { message, again: false, asked: None });
    }
    if status.is_success() {
        return Ok(());
    }
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let asked = header.and_then(|value| retry::retry_after(value, clock.now()));
    let message = match asked {
        Some(asked) => format!("answered {status}, retry after {} s", asked.as_secs()),
        None => format!("answered {status}"),
    };
    Err(Failure { message, again: retry::worth_repeating(status.as_u16()), asked })
}

/// The error and its causes on one line, without the URL.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
