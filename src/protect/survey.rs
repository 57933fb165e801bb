//! What is there: the cloud's view of instances, disks and agents, turned into facts, judged, and cut into units.

use super::facts::{agent_facts, disk_facts, instance_facts};
use super::reasons;
use crate::acs::{Client, Error};
use crate::api::{assistant, ecs};
use crate::eligibility::{self, DiskFacts, Facts, Support};
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

impl Surveyed {
    /// Whether it lies still: then nothing can be frozen, and nothing has to be.
    pub fn at_rest(&self) -> bool {
        self.findings.iter().any(|finding| finding.code == eligibility::rules::STOPPED.code)
    }
}

/// Looks at every instance of the request; one that the cloud does not show has a blocker. How many snapshots a disk has
/// is not asked for: see [`super::facts::count_snapshots`].
pub async fn survey(
    client: &Client,
    region_id: &str,
    request: &Request,
    support: &Support,
) -> Result<Vec<Surveyed>, Error> {
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
        findings.extend(eligibility::findings(&facts, support, request.minimum_level));
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
    let mut findings = vec![eligibility::finding("instance.unknown", instance_id, "")];
    hint(&mut findings, "instance.unknown", "ecs:DescribeInstances", region_id);
    Surveyed { instance_id: instance_id.into(), os_type: String::new(), disks: Vec::new(), findings }
}
