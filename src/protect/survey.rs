//! What is there: the cloud's view of instances, disks and agents, turned into facts, judged, and cut into units.

use super::facts::{agent_facts, disk_facts, instance_facts};
use super::reasons;
use super::targets::{Place, side_by_side};
use crate::acs::{Error, past_limits};
use crate::api::{assistant, ecs};
use crate::eligibility::{self, DiskFacts, Facts};
use crate::policy::Request;
use crate::ram;
use crate::report::{Finding, Severity};

/// An instance with its chosen disks and all that was found about it.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// `i-…`
    pub instance_id: String,
    /// `linux` or `windows`; empty where the cloud does not show the instance.
    pub os_type: String,
    /// The system, as the cloud names it.
    pub os_name: String,
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

/// Looks at these instances of a place, in their order. Also gives all their disks, chosen or not. How many snapshots a
/// disk has is not asked for: see [`super::facts::count_snapshots`].
pub async fn survey(
    place: &Place,
    request: &Request,
    instances: &[ecs::Instance],
) -> Result<(Vec<Surveyed>, Vec<DiskFacts>), Error> {
    let (client, region_id) = (&place.client, place.region_id.as_str());
    let ids: Vec<String> = instances.iter().map(|instance| instance.instance_id.clone()).collect();
    let agents = || assistant::describe_cloud_assistant_status(client, region_id, &ids);
    let agents = past_limits(client.clock(), place.deadline, agents).await?;
    // The API lists the disks of one instance at a time.
    let disks = side_by_side(ids, |id| {
        let place = place.clone();
        async move {
            let look = || ecs::describe_disks_of(&place.client, &place.region_id, &id);
            past_limits(place.client.clock(), place.deadline, look).await
        }
    });
    let (mut found, mut all_disks) = (Vec::new(), Vec::new());
    for (instance, disks) in instances.iter().zip(disks.await) {
        let id = &instance.instance_id;
        let disks: Vec<DiskFacts> = disks?.iter().map(disk_facts).collect();
        let (chosen, mut findings) = eligibility::pick_disks(&disks, &request.targets.disks);
        let attached = disks.len();
        all_disks.extend(disks);
        let agent = agents.iter().find(|agent| agent.instance_id == *id);
        let facts = Facts { instance: instance_facts(instance), disks: chosen, agent: agent_facts(agent) };
        findings.extend(eligibility::findings(&facts, &place.support, request.minimum_level));
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
            os_name: facts.instance.os_name,
            disks: facts.disks,
            findings,
        });
    }
    Ok((found, all_disks))
}

/// A list that is empty where something must be is a denial.
fn hint(findings: &mut [Finding], code: &str, action: &str, region_id: &str) {
    for finding in findings.iter_mut().filter(|finding| finding.code == code) {
        let addition = ram::addition(action, region_id, &finding.resource);
        finding.cure += &format!("; without the right to {action} the list is empty: {addition}");
    }
}

/// An instance that is not shown, in these places; `region_id` is the first one's. A caller without permission gets an
/// empty list, so this may also be a denial.
pub fn missing(instance_id: &str, region_id: &str, places: &str) -> Surveyed {
    let mut findings = vec![eligibility::finding("instance.unknown", instance_id, &format!("in {places}"))];
    hint(&mut findings, "instance.unknown", "ecs:DescribeInstances", region_id);
    Surveyed {
        instance_id: instance_id.into(),
        os_type: String::new(),
        os_name: String::new(),
        disks: Vec::new(),
        findings,
    }
}
