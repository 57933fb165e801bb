//! Rules about the Cloud Assistant client, which carries the sequence into the guest.

use super::facts::AgentFacts;
use super::{finding, matrix};
use crate::report::Finding;

pub(super) fn findings(instance_id: &str, agent: &AgentFacts) -> Vec<Finding> {
    let version = agent.version.as_deref().unwrap_or("unknown");
    let state = match agent.online {
        Some(true) => None,
        Some(false) => {
            let seen = agent.last_heartbeat.as_deref().unwrap_or("never");
            Some(finding(
                "agent.offline",
                instance_id,
                &format!("last heartbeat: {seen}, version: {version}"),
            ))
        }
        None => Some(finding("agent.unknown", instance_id, "")),
    };
    let old = matrix::old_agent(version).then(|| finding("agent.old", instance_id, version));
    state.into_iter().chain(old).collect()
}
