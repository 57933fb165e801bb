//! One delivery: tries until the channel has taken the message, or the tries or the time are used up.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;

use super::answer::{Again, Answer, Meaning};
use super::target::Target;
use super::{Letter, retry};
use crate::clock::Clock;

/// What is kept of the function's time.
const MARGIN: Duration = Duration::from_secs(2);
/// More of an answer is not read.
const ANSWER: usize = 16 << 10;

/// Why one try failed.
struct Failure {
    message: String,
    again: bool,
    asked: Option<Duration>,
}

/// Tells the tries and the last error.
pub(super) async fn deliver(
    target: &Target,
    letter: &Letter,
    client: &reqwest::Client,
    clock: &Clock,
    deadline: Timestamp,
) -> (u32, Option<String>) {
    let between =
        |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
    let put_off = target.put_off(clock.now(), clock.jitter());
    if put_off + MARGIN + retry::TRY < between(clock.now(), deadline) {
        clock.sleep(put_off).await;
    }
    let start = clock.now();
    let left = between(start, deadline).saturating_sub(MARGIN);
    let (mut attempt, mut asked) = (1, false);
    loop {
        let elapsed = || between(start, clock.now());
        let limit = retry::limit(elapsed(), left, asked);
        let Err(failure) = once(target, letter, client, clock, limit).await else { return (attempt, None) };
        let wait = retry::wait(attempt, elapsed(), left, failure.asked, clock.jitter());
        match wait.filter(|_| failure.again) {
            Some(wait) => clock.sleep(wait).await,
            None => return (attempt, Some(format!("{}: {}", target.shown(), failure.message))),
        }
        attempt += 1;
        asked = failure.asked.is_some();
    }
}

async fn once(
    target: &Target,
    letter: &Letter,
    client: &reqwest::Client,
    clock: &Clock,
    limit: Duration,
) -> Result<(), Failure> {
    let post = target.post(letter, clock.now());
    let mut request = client
        .post(post.url.clone())
        .header("content-type", "application/json")
        .header("user-agent", concat!("appsnap/", env!("CARGO_PKG_VERSION")))
        .timeout(limit);
    for (name, value) in &post.headers {
        request = request.header(*name, value);
    }
    let broken = |error| Failure { message: causes(error), again: true, asked: None };
    let mut response = request.body(post.body).send().await.map_err(broken)?;
    let status = response.status();
    if *response.url() != post.url || status.is_redirection() {
        let message = format!("redirected ({status}): name the final address");
        return Err(Failure { message, again: false, asked: None });
    }
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let asked = header.and_then(|value| retry::retry_after(value, clock.now()));
    let Some(meaning) = target.meaning() else { return by_status(status, asked) };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)?.filter(|_| body.len() < ANSWER) {
        body.extend_from_slice(&chunk);
    }
    match Answer::read(&body) {
        Some(answer) if answer.code != 0 => {
            let Meaning { again, cure } = meaning(answer.code, &answer.said);
            let asked = match again {
                // Many functions may have been throttled at the same moment.
                Again::After(wait) => Some(wait.mul_f64(1.0 + clock.jitter() / 5.0)),
                Again::Soon | Again::Never => None,
            };
            let with = if status.is_success() { String::new() } else { format!(" with {status}") };
            let message = format!("answered code {}{with} ({}): {cure}", answer.code, answer.said);
            let asked = answer.wait.filter(|_| asked.is_some()).or(asked);
            Err(Failure { message, again: again != Again::Never, asked })
        }
        None if status.is_success() => {
            let message = format!("answered {status} without a code: is this the robot's webhook address?");
            Err(Failure { message, again: false, asked: None })
        }
        _ => by_status(status, asked),
    }
}

fn by_status(status: StatusCode, asked: Option<Duration>) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
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
