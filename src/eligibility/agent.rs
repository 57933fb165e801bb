//! Rules about the Cloud Assistant client, which carries the sequence into the guest.

use super::facts::AgentFacts;
use super::finding;
use crate::report::{Finding, Severity};

pub(super) fn findings(instance_id: &str, agent: &AgentFacts) -> Vec<Finding> {
    let seen = agent.last_heartbeat.as_deref().unwrap_or("never");
    let version = agent.version.as_deref().unwrap_or("unknown");
    match agent.online {
        Some(true) => vec![],
        Some(false) => vec![finding(
            "agent.offline",
            Severity::Blocker,
            instance_id,
            format!(
                "Cloud Assistant is offline (last heartbeat: {seen}, version: {version}): no command arrives"
            ),
            "start or install the client in the guest (service aliyun), and let it reach 100.100.100.200 and \
             the region's axt endpoint",
        )],
        None => vec![finding(
            "agent.unknown",
            Severity::Note,
            instance_id,
            "Cloud Assistant's state is not known: the instance is missing in the answer",
            "check that the instance is in this region, and what the role may see",
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::*;

    #[test]
    fn offline_blocks_and_unknown_is_told() {
        let table = [
            (Some(true), None),
            (Some(false), Some(("agent.offline", Severity::Blocker))),
            (None, Some(("agent.unknown", Severity::Note))),
        ];
        for (online, expected) in table {
            let found = findings("i-1", &AgentFacts { online, ..Facts::good().agent });
            assert_eq!(found.first().map(|finding| (finding.code.as_str(), finding.severity)), expected);
        }
    }

    #[test]
    fn the_last_heartbeat_is_in_the_message() {
        let agent = AgentFacts {
            online: Some(false),
            version: None,
            last_heartbeat: Some("2026-11-22T02:00:00Z".into()),
        };
        assert!(findings("i-1", &agent)[0].message.contains("2026-11-22T02:00:00Z"));
    }
}
