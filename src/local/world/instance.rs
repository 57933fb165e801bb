//! Regions, instances and the heartbeat of their agents.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::params::Params;
use super::reply::{ApiError, page};
use super::tag::Tags;
use super::{Context, World, seconds};

/// A tag filter shows so many instances at most.
const SHOWN_BY_TAG: usize = 1000;

/// An ECS instance.
#[derive(Debug, Clone, Default)]
pub struct Instance {
    /// `i-…`
    pub id: String,
    /// Its name.
    pub name: String,
    /// Owner.
    pub account_id: String,
    /// Region.
    pub region_id: String,
    /// Zone.
    pub zone_id: String,
    /// `Running`, `Stopped`, …
    pub status: String,
    /// How it was stopped: `KeepCharging` or `StopCharging`; empty while it is not.
    pub stopped_mode: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// E.g. `Debian  12.5 64 bit`.
    pub os_name: String,
    /// Reasons of locks (`financial`, `security`, …).
    pub locks: Vec<String>,
    /// Whether the agent's heartbeat is fresh.
    pub agent_alive: bool,
    /// The agent's version.
    pub agent_version: String,
    /// When the agent was heard last.
    pub last_heartbeat: Option<Timestamp>,
    /// Its RAM role, with which programs in the guest call the API.
    pub ram_role: Option<String>,
    /// Cloud Assistant's plugins in it: name and version.
    pub plugins: Vec<(String, String)>,
    /// The image that it was started from.
    pub image_id: String,
    /// E.g. `ecs.g7.large`.
    pub instance_type: String,
    /// What its system calls itself.
    pub host_name: String,
    /// `vsw-…`
    pub vswitch_id: String,
    /// `sg-…`
    pub security_group_id: String,
    /// Tags.
    pub tags: Tags,
}

impl Instance {
    /// What is done with an instance takes one of these states.
    pub(super) fn is_any_of(&self, states: &[&str]) -> Result<(), ApiError> {
        if states.contains(&self.status.as_str()) {
            return Ok(());
        }
        let why = format!("The instance {} is {}.", self.id, self.status);
        Err(ApiError::new(403, "IncorrectInstanceStatus", why))
    }

    /// A locked instance is not to be touched.
    pub(super) fn unlocked(&self) -> Result<(), ApiError> {
        let lock = |why: &str| self.locks.iter().any(|lock| lock == why);
        let code = match () {
            _ if lock("security") => "InstanceLockedForSecurity",
            _ if lock("financial") => "InstanceExpiredOrInArrears",
            _ => return Ok(()),
        };
        Err(ApiError::new(
            403,
            code,
            format!("The instance {} is locked: {}.", self.id, self.locks.join(", ")),
        ))
    }
}

impl World {
    /// Adds an instance.
    pub fn add_instance(&mut self, instance: Instance) {
        self.instances.insert(instance.id.clone(), instance);
    }

    /// An instance, to look at or to change (stop it, lock it).
    pub fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.get_mut(id)
    }

    pub(super) fn describe_regions(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        params.optional("RegionId"); // the vendor's older SDKs send it with every call
        params.optional("AcceptLanguage");
        params.optional("ResourceType");
        params.optional("InstanceChargeType");
        params.finish()?;
        context.require("ecs:DescribeRegions", "*")?;
        let shown = |id: &String| json!({ "RegionId": id, "RegionEndpoint": format!("ecs.{id}.aliyuncs.com"), "LocalName": id, "Status": "available" });
        Ok(json!({ "Regions": { "Region": self.regions.iter().map(shown).collect::<Vec<_>>() } }))
    }

    /// The instance `id` where the caller's account has it.
    pub(super) fn own_instance(
        &self,
        context: &Context,
        region: &str,
        id: &str,
    ) -> Result<&Instance, ApiError> {
        let own = |i: &&Instance| i.account_id == context.caller.account_id && i.region_id == region;
        self.instances.get(id).filter(own).ok_or_else(|| ApiError::not_found("InstanceId", id))
    }

    pub(super) fn describe_instances(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let ids = params.json_list("InstanceIds")?;
        let status = params.one_of("Status", &["Pending", "Running", "Starting", "Stopping", "Stopped"])?;
        let zone = params.optional("ZoneId");
        let tags = params.tags()?;
        let (size, token) = params.paging(100, Some(10))?;
        params.finish()?;
        let wanted = |i: &&Instance| {
            ids.as_ref().is_none_or(|ids| ids.contains(&i.id)) // the sharpest test first: there may be thousands
                && i.account_id == context.caller.account_id
                && i.region_id == region
                && status.as_ref().is_none_or(|status| *status == i.status)
                && zone.as_ref().is_none_or(|zone| *zone == i.zone_id)
                && i.tags.match_filter(&tags)
                && context.may("ecs:DescribeInstances", &context.arn(&region, "instance", &i.id), &i.tags)
        };
        let mut found: Vec<Value> = self.instances.values().filter(wanted).map(show_instance).collect();
        if !tags.0.is_empty() {
            found.truncate(SHOWN_BY_TAG);
        }
        let total = found.len();
        let (found, next) = page(found, size.min(self.settings.page_limit), token.as_deref())?;
        Ok(
            json!({ "Instances": { "Instance": found }, "NextToken": next, "TotalCount": total, "PageNumber": 1, "PageSize": size }),
        )
    }

    pub(super) fn describe_instance_ram_role(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let ids = params.json_list("InstanceIds")?.unwrap_or_default();
        let number = params.number("PageNumber")?.unwrap_or(1);
        let size = params.number("PageSize")?.unwrap_or(10);
        params.finish()?;
        context.require("ecs:DescribeInstanceRamRole", "*")?; // documented as not resource-level
        let mut found = Vec::new();
        for id in &ids {
            let instance = self.own_instance(context, &region, id)?;
            found.push(
                json!({ "InstanceId": id, "RamRoleName": instance.ram_role.clone().unwrap_or_default() }),
            );
        }
        let total = found.len();
        Ok(json!({
            "RegionId": region, "InstanceRamRoleSets": { "InstanceRamRoleSet": found },
            "TotalCount": total, "PageNumber": number, "PageSize": size,
        }))
    }

    pub(super) fn describe_cloud_assistant_status(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let ids = params.list("InstanceId", 100)?;
        let os = params.optional("OSType").map(|os| os.to_lowercase());
        let (size, token) = params.paging(50, None)?;
        params.finish()?;
        for id in &ids {
            self.own_instance(context, &region, id)?;
        }
        let wanted = |i: &&Instance| {
            (ids.is_empty() || ids.contains(&i.id))
                && i.account_id == context.caller.account_id
                && i.region_id == region
                && os.as_ref().is_none_or(|os| *os == i.os_type)
                && context.may(
                    "ecs:DescribeCloudAssistantStatus",
                    &context.arn(&region, "instance", &i.id),
                    &i.tags,
                )
        };
        let show = |i: &Instance| {
            let heard = i.last_heartbeat.map(seconds).unwrap_or_default();
            let version = if i.last_heartbeat.is_some() { i.agent_version.as_str() } else { "" };
            json!({
                "InstanceId": i.id, "CloudAssistantStatus": i.agent_alive.to_string(), "CloudAssistantVersion": version,
                "LastHeartbeatTime": heard, "OSType": i.os_type, "ActiveTaskCount": self.active(&i.id), "SupportSessionManager": true,
            })
        };
        let found: Vec<Value> = self.instances.values().filter(wanted).map(show).collect();
        let total = found.len();
        let size = if ids.is_empty() { size } else { 100 };
        let (found, next) = page(found, size.min(self.settings.page_limit), token.as_deref())?;
        Ok(json!({
            "InstanceCloudAssistantStatusSet": { "InstanceCloudAssistantStatus": found },
            "NextToken": next, "TotalCount": total, "PageNumber": 1, "PageSize": size,
        }))
    }
}

pub(super) fn locked(locks: &[String]) -> Vec<Value> {
    locks.iter().map(|why| json!({ "LockReason": why })).collect()
}

fn show_instance(i: &Instance) -> Value {
    let running = i.status != "Stopped" || i.stopped_mode.is_empty();
    let stopped_mode = if running { "Not-applicable" } else { &i.stopped_mode };
    json!({
        "InstanceId": i.id, "InstanceName": i.name, "RegionId": i.region_id, "ZoneId": i.zone_id, "Status": i.status,
        "OSType": i.os_type, "OSName": i.os_name, "OSNameEn": i.os_name, "StoppedMode": stopped_mode,
        "ImageId": i.image_id, "InstanceType": i.instance_type, "HostName": i.host_name,
        "VpcAttributes": { "VSwitchId": i.vswitch_id }, "SecurityGroupIds": { "SecurityGroupId": [i.security_group_id] },
        "OperationLocks": { "LockReason": locked(&i.locks) }, "Tags": i.tags.shown(),
    })
}
