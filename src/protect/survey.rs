//! What is there: the cloud's view of instances, disks and agents, turned into facts, judged, and cut into units.

use super::reasons;
use crate::acs::{Client, Error};
use crate::api::{assistant, ecs};
use crate::eligibility::{self, AgentFacts, DiskFacts, Facts, InstanceFacts};
use crate::policy::Request;
use crate::ram;
use crate::report::{Finding, Severity};

/// An instance with its chosen disks and all that was found about it.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// `i-…`
    pub instance_id: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// The chosen disks.
    pub disks: Vec<DiskFacts>,
    /// What was found; a blocker forbids to go on.
    pub findings: Vec<Finding>,
}

/// Looks at every instance of the request; one that the cloud does not show has a blocker.
pub async fn survey(client: &Client, region_id: &str, request: &Request) -> Result<Vec<Surveyed>, Error> {
    let ids = &request.targets.instance_ids;
    let instances = ecs::describe_instances(client, region_id, ids, &[]).await?;
    // Only of those that are there: one unknown id fails the whole call.
    let known: Vec<String> = instances.iter().map(|instance| instance.instance_id.clone()).collect();
    let agents = assistant::describe_cloud_assistant_status(client, region_id, &known).await?;
    let mut all_disks = Vec::new();
    let mut found = Vec::new();
    for id in ids {
        let Some(instance) = instances.iter().find(|instance| instance.instance_id == *id) else {
            found.push(missing(id, region_id));
            continue;
        };
        let disks: Vec<DiskFacts> =
            ecs::describe_disks_of(client, region_id, id).await?.iter().map(disk_facts).collect();
        let (chosen, mut findings) = eligibility::pick_disks(&disks, &request.targets.disks);
        let attached = disks.len();
        all_disks.extend(disks);
        let agent = agents.iter().find(|agent| agent.instance_id == *id);
        let facts = Facts { instance: instance_facts(instance), disks: chosen, agent: agent_facts(agent) };
        findings.extend(eligibility::findings(&facts));
        if agent.is_none() {
            hint(&mut findings, "agent.unknown", "ecs:DescribeCloudAssistantStatus", region_id);
        }
        if attached == 0 {
            hint(&mut findings, "disk.none", "ecs:DescribeDisks", region_id);
        }
        let windows = facts.instance.os_type == "windows";
        let unused = request.unused(windows);
        if !unused.is_empty() {
            let detail = format!("{} on {}", unused.join(", "), if windows { "Windows" } else { "Linux" });
            findings.push(reasons::finding("option.unused", &detail, id, Severity::Note));
        }
        found.push(Surveyed {
            instance_id: id.clone(),
            os_type: facts.instance.os_type,
            disks: facts.disks,
            findings,
        });
    }
    let unknown = eligibility::unknown_disks(&all_disks, &request.targets.disks);
    if let Some(first) = found.first_mut() {
        first.findings.extend(unknown);
    }
    Ok(found)
}

/// A list that is empty where something must be is a denial.
fn hint(findings: &mut [Finding], code: &str, action: &str, region_id: &str) {
    for finding in findings.iter_mut().filter(|finding| finding.code == code) {
        let addition = ram::addition(action, region_id, &finding.resource);
        finding.cure += &format!("; without the right to {action} the list is empty: {addition}");
    }
}

/// A caller without permission gets an empty list, so this may also be a denial.
fn missing(instance_id: &str, region_id: &str) -> Surveyed {
    let addition = ram::addition("ecs:DescribeInstances", region_id, instance_id);
    let finding = Finding {
        code: "instance.unknown".into(),
        severity: Severity::Blocker,
        resource: instance_id.into(),
        message: "the cloud does not show this instance".into(),
        cure: format!(
            "check id and regionId; without the right to ecs:DescribeInstances the list is empty: {addition}"
        ),
    };
    Surveyed {
        instance_id: instance_id.into(),
        os_type: String::new(),
        disks: Vec::new(),
        findings: vec![finding],
    }
}

fn instance_facts(instance: &ecs::Instance) -> InstanceFacts {
    InstanceFacts {
        instance_id: instance.instance_id.clone(),
        region_id: instance.region_id.clone(),
        status: instance.status.clone(),
        os_type: instance.os_type.clone(),
        os_name: if instance.os_name_en.is_empty() { &instance.os_name } else { &instance.os_name_en }
            .clone(),
        locks: instance.operation_locks.iter().map(|lock| lock.lock_reason.clone()).collect(),
    }
}

fn disk_facts(disk: &ecs::Disk) -> DiskFacts {
    DiskFacts {
        disk_id: disk.disk_id.clone(),
        disk_type: disk.disk_type.clone(),
        category: disk.category.clone(),
        status: disk.status.clone(),
        multi_attach: matches!(disk.multi_attach.as_str(), "Enabled" | "LegacyShared"),
        size_gib: disk.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        zone_id: disk.zone_id.clone(),
    }
}

fn agent_facts(agent: Option<&assistant::AgentStatus>) -> AgentFacts {
    let text = |value: &str| Some(value.to_string()).filter(|value| !value.is_empty());
    AgentFacts {
        online: agent.map(|agent| agent.alive),
        version: agent.and_then(|agent| text(&agent.version)),
        last_heartbeat: agent.and_then(|agent| text(&agent.last_heartbeat_time)),
    }
}
