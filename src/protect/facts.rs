//! What the Describe calls tell, as the plain facts that the rules judge.

use crate::acs::Client;
use crate::api::{assistant, ecs};
use crate::eligibility::{AgentFacts, DiskFacts, InstanceFacts, Snapshots};

/// From DescribeInstances.
pub(super) fn instance_facts(instance: &ecs::Instance) -> InstanceFacts {
    InstanceFacts {
        instance_id: instance.instance_id.clone(),
        region_id: instance.region_id.clone(),
        status: instance.status.clone(),
        os_type: instance.os_type.clone(),
        os_name: if instance.os_name_en.is_empty() { &instance.os_name } else { &instance.os_name_en }
            .clone(),
        locks: reasons(&instance.operation_locks),
    }
}

/// From DescribeDisks.
pub(super) fn disk_facts(disk: &ecs::Disk) -> DiskFacts {
    DiskFacts {
        disk_id: disk.disk_id.clone(),
        disk_type: disk.disk_type.clone(),
        category: disk.category.clone(),
        status: disk.status.clone(),
        multi_attach: matches!(disk.multi_attach.as_str(), "Enabled" | "LegacyShared"),
        size_gib: disk.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        zone_id: disk.zone_id.clone(),
        locks: reasons(&disk.operation_locks),
        key_id: disk.encrypted.then(|| disk.kms_key_id.clone()),
        snapshots: Snapshots::NotAsked,
    }
}

fn reasons(locks: &[ecs::OperationLock]) -> Vec<String> {
    locks.iter().map(|lock| lock.lock_reason.clone()).collect()
}

/// From DescribeCloudAssistantStatus.
pub(super) fn agent_facts(agent: Option<&assistant::AgentStatus>) -> AgentFacts {
    let text = |value: &str| Some(value.to_string()).filter(|value| !value.is_empty());
    AgentFacts {
        online: agent.map(|agent| agent.alive),
        version: agent.and_then(|agent| text(&agent.version)),
        last_heartbeat: agent.and_then(|agent| text(&agent.last_heartbeat_time)),
    }
}

/// Counts each disk's snapshots, by two calls for a disk and up to four where it has many. A run does not pay for that:
/// a full disk is refused by the create. Whoever only looks asks before the rules judge.
pub async fn count_snapshots(client: &Client, region_id: &str, disks: &mut [DiskFacts]) {
    for disk in disks {
        let count = async |which| {
            let found = ecs::describe_snapshots_of(client, region_id, &disk.disk_id, which).await?;
            Ok::<_, crate::acs::Error>(found.len())
        };
        let counted = match count(ecs::Which::UnderWay).await {
            Ok(under_way) => count(ecs::Which::Manual).await.map(|manual| (under_way, manual)),
            Err(error) => Err(error),
        };
        disk.snapshots = match counted {
            Ok((under_way, manual)) => Snapshots::Counted { under_way, manual },
            Err(error) => Snapshots::Refused(error.code.clone(), error.message.clone()),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protect::testing::{calls, ok, refuse, scripted, scripted_with};

    #[tokio::test(start_paused = true)]
    async fn snapshots_are_counted_by_state_and_by_kind() {
        let (task, asked) = scripted_with(|_, params| {
            let of = |name: &str| params.get(name).map(String::as_str);
            let count = match (of("DiskId"), of("Status"), of("NextToken")) {
                (Some("d-2"), ..) => 0,
                (_, Some("progressing"), _) => 3,
                (_, _, None) => 100,
                _ => 7,
            };
            let snapshots: Vec<_> = (0..count).map(|n| json!({ "SnapshotId": format!("s-{n}") })).collect();
            let next = if count == 100 { "2" } else { "" };
            Some(ok(json!({ "Snapshots": { "Snapshot": snapshots }, "NextToken": next })))
        });
        let mut disks = [DiskFacts::named("d-1"), DiskFacts::named("d-2")];
        count_snapshots(&task.client, "cn-hangzhou", &mut disks).await;
        assert_eq!(disks[0].snapshots, Snapshots::Counted { under_way: 3, manual: 107 });
        assert_eq!(disks[1].snapshots, Snapshots::Counted { under_way: 0, manual: 0 });
        assert_eq!(calls(&asked, "DescribeSnapshots").len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_look_is_told() {
        let (task, _) = scripted(|_| Some(refuse("Forbidden.RAM")));
        let mut disks = [DiskFacts::named("d-1")];
        count_snapshots(&task.client, "cn-hangzhou", &mut disks).await;
        assert_eq!(disks[0].snapshots, Snapshots::Refused("Forbidden.RAM".into(), "no".into()));
    }
}
