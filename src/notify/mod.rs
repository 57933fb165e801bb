//! Tells people: the report goes to each channel of the policy that asked for its status.
//!
//! A message that cannot be delivered is told in the report's `notifications` and never changes the run's
//! status. Channels are served side by side, so a silent one delays no other; each has 20 seconds at most.

mod retry;
mod signature;
mod webhook;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::policy::{Channel, Env, Invalid};
use crate::report::{NotificationReport, Report};

/// The channels of a request: its own, else those of env `APPSNAP_NOTIFY` (same shape), else none.
pub fn channels(of_request: Option<&[Channel]>, env: Env) -> Result<Vec<Channel>, Invalid> {
    match (of_request, env("APPSNAP_NOTIFY")) {
        (Some(channels), _) => Ok(channels.to_vec()),
        (None, Some(json)) if !json.trim().is_empty() => Channel::parse_list(&json),
        (None, _) => Ok(vec![]),
    }
}

/// Sends `report` to the channels whose `on` names its status; one entry for each of them, in their order.
///
/// `client` should not follow redirects: a message that was redirected counts as failed.
pub async fn send(
    report: &Report,
    channels: &[Channel],
    env: Env<'_>,
    client: &reqwest::Client,
    clock: &Clock,
) -> Vec<NotificationReport> {
    let asked = channels.iter().filter(|channel| channel.on.contains(&report.status));
    let targets: Vec<_> = asked.map(|channel| webhook::Target::resolve(channel, env)).collect();
    let message = match serde_json::to_string(report) {
        // A receiver that has seen an id drops the message, so each status of a run has its own.
        Ok(body) => {
            Arc::new(webhook::Message { id: format!("{}-{}", report.run, report.status.as_str()), body })
        }
        Err(error) => {
            return targets.iter().map(|_| entry(0, Some(format!("the report: {error}")))).collect();
        }
    };
    let mut reports: Vec<_> =
        targets.iter().map(|_| entry(0, Some("the delivery broke off".into()))).collect();
    let mut deliveries = JoinSet::new();
    for (i, target) in targets.into_iter().enumerate() {
        match target {
            Err(error) => reports[i] = entry(0, Some(error)),
            Ok(target) => {
                let (client, clock, message) = (client.clone(), clock.clone(), message.clone());
                deliveries
                    .spawn(async move { (i, webhook::deliver(&target, &message, &client, &clock).await) });
            }
        }
    }
    while let Some(done) = deliveries.join_next().await {
        if let Ok((i, (attempts, error))) = done {
            reports[i] = entry(attempts, error);
        }
    }
    reports
}

fn entry(attempts: u32, error: Option<String>) -> NotificationReport {
    let status = if error.is_none() { "delivered" } else { "failed" };
    NotificationReport { channel: "webhook".into(), status: status.into(), attempts, error }
}

#[cfg(test)]
mod tests;
