//! Tells people: the report goes to each channel of the policy that asked for its status.
//!
//! A message that cannot be delivered is told in the report's `notifications` and never changes the run's
//! status. Channels are served side by side, so a silent one delays no other. Each has 20 seconds, or 80 where it
//! throttles and names its time, and never more than the function has left.

mod answer;
mod delivery;
mod dingtalk;
mod feishu;
mod message;
mod retry;
mod signature;
mod target;
mod webhook;
mod wecom;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::policy::{Channel, ChannelKind, Env, Invalid};
use crate::report::{NotificationReport, Report};
use message::Message;
use target::Target;

/// What is sent, for each kind of channel.
struct Letter {
    /// The receiver's key against repeats; without dots.
    id: String,
    /// For programs: JSON.
    report: String,
    /// For people.
    message: Message,
}

/// The channels of a request: its own, else those of env `APPSNAP_NOTIFY` (same shape), else none.
pub fn channels(of_request: Option<&[Channel]>, env: Env) -> Result<Vec<Channel>, Invalid> {
    match (of_request, env("APPSNAP_NOTIFY")) {
        (Some(channels), _) => Ok(channels.to_vec()),
        (None, Some(json)) if !json.trim().is_empty() => Channel::parse_list(&json),
        (None, _) => Ok(vec![]),
    }
}

/// Sends `report` to the channels whose `on` names its status, before `deadline`, which ends the function; one entry
/// for each of them, in their order.
///
/// `client` should not follow redirects: a message that was redirected counts as failed.
pub async fn send(
    report: &Report,
    channels: &[Channel],
    env: Env<'_>,
    client: &reqwest::Client,
    clock: &Clock,
    deadline: Timestamp,
) -> Vec<NotificationReport> {
    let asked: Vec<_> = channels.iter().filter(|channel| channel.on.contains(&report.status)).collect();
    let tell = |error: &str| asked.iter().map(|it| entry(it.kind, 0, Some(error.into()))).collect();
    let letter = match serde_json::to_string(report) {
        Ok(json) => Arc::new(Letter {
            // A receiver that has seen an id drops the message, so each status of a run has its own.
            id: format!("{}-{}", report.run, report.status.as_str()),
            report: json,
            message: Message::of(report),
        }),
        Err(error) => return tell(&format!("the report: {error}")),
    };
    let mut reports: Vec<_> = tell("the delivery broke off");
    let mut deliveries = JoinSet::new();
    for (i, channel) in asked.into_iter().enumerate() {
        match Target::resolve(channel, env) {
            Err(error) => reports[i] = entry(channel.kind, 0, Some(error)),
            Ok(target) => {
                let (client, clock, letter) = (client.clone(), clock.clone(), letter.clone());
                deliveries.spawn(async move {
                    (i, delivery::deliver(&target, &letter, &client, &clock, deadline).await)
                });
            }
        }
    }
    while let Some(done) = deliveries.join_next().await {
        if let Ok((i, (attempts, error))) = done {
            let told = &mut reports[i];
            (told.attempts, told.status) = (attempts, status(&error));
            told.error = error;
        }
    }
    reports
}

fn entry(kind: ChannelKind, attempts: u32, error: Option<String>) -> NotificationReport {
    NotificationReport { channel: kind.as_str().into(), status: status(&error), attempts, error }
}

fn status(error: &Option<String>) -> String {
    if error.is_none() { "delivered" } else { "failed" }.into()
}

#[cfg(test)]
mod tests;
