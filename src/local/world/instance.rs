//! Regions, instances, disks and the heartbeat of their agents.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::params::{Params, invalid};
use super::reply::{ApiError, page};
use super::tag::Tags;
use super::{Asked, Context, Effect, World, seconds};

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
    /// Tags.
    pub tags: Tags,
}

/// A cloud disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// `d-…`
    pub id: String,
    /// Owner.
    pub account_id: String,
    /// Region.
    pub region_id: String,
    /// Zone.
    pub zone_id: String,
    /// The instance it is attached to.
    pub instance_id: Option<String>,
    /// `cloud_essd`, `cloud_auto`, …
    pub category: String,
    /// `PL0` … `PL3`, empty where the category has none.
    pub performance_level: String,
    /// GiB.
    pub size: u64,
    /// `In_use`, `Available`, `Creating`, …
    pub status: String,
    /// `system` or `data`.
    pub kind: String,
    /// `/dev/xvda`, … as the API says; the guest's name differs.
    pub device: String,
    /// Whether several instances may attach it.
    pub multi_attach: bool,
    /// Reasons of locks (`financial`, …).
    pub locks: Vec<String>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// By this key of KMS; empty: by the service's own.
    pub kms_key_id: String,
    /// Why the key cannot be used (`CMKNotEnabled`, `KMSUnauthorized`, `CMKUnauthorized`); empty: it can.
    pub kms_refusal: String,
    /// The snapshot that it was made from.
    pub source_snapshot_id: Option<String>,
    /// Tags.
    pub tags: Tags,
}

impl Disk {
    /// The serial number that the guest sees: the id without `d-`.
    pub fn serial(&self) -> &str {
        self.id.strip_prefix("d-").unwrap_or(&self.id)
    }
}

impl World {
    /// Adds an instance.
    pub fn add_instance(&mut self, instance: Instance) {
        self.instances.insert(instance.id.clone(), instance);
    }

    /// Adds a disk.
    pub fn add_disk(&mut self, disk: Disk) {
        self.disks.insert(disk.id.clone(), disk);
    }

    /// An instance, to look at or to change (stop it, lock it).
    pub fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.get_mut(id)
    }

    /// A disk, to look at or to change.
    pub fn disk_mut(&mut self, id: &str) -> Option<&mut Disk> {
        self.disks.get_mut(id)
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

    /// The disk `id` where the caller's account has it.
    pub(super) fn own_disk(&self, context: &Context, region: &str, id: &str) -> Result<&Disk, ApiError> {
        let own = |d: &&Disk| d.account_id == context.caller.account_id && d.region_id == region;
        self.disks.get(id).filter(own).ok_or_else(|| ApiError::not_found("DiskId", id))
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

    pub(super) fn describe_disks(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let ids = params.json_list("DiskIds")?;
        let instance = params.optional("InstanceId");
        let category = params.optional("Category").filter(|one| one != "all");
        let kind = params.one_of("DiskType", &["all", "system", "data"])?.filter(|one| one != "all");
        let states = ["In_use", "Available", "Attaching", "Detaching", "Creating", "ReIniting", "All"];
        let status = params.one_of("Status", &states)?.filter(|one| one != "All");
        let multi = params.one_of("MultiAttach", &["Disabled", "Enabled", "LegacyShared"])?;
        let zone = params.optional("ZoneId");
        let tags = params.tags()?;
        let (size, token) = params.paging(500, Some(10))?;
        params.finish()?;
        let wanted = |d: &&Disk| {
            ids.as_ref().is_none_or(|ids| ids.contains(&d.id)) // the sharpest test first: there may be thousands
                && instance.as_ref().is_none_or(|id| d.instance_id.as_ref() == Some(id))
                && d.account_id == context.caller.account_id
                && d.region_id == region
                && category.as_ref().is_none_or(|category| *category == d.category)
                && kind.as_ref().is_none_or(|kind| *kind == d.kind)
                && status.as_ref().is_none_or(|status| *status == d.status)
                && multi
                    .as_ref()
                    .is_none_or(|multi| (multi == "Enabled") == d.multi_attach && multi != "LegacyShared")
                && zone.as_ref().is_none_or(|zone| *zone == d.zone_id)
                && d.tags.match_filter(&tags)
                && context.may("ecs:DescribeDisks", &context.arn(&region, "disk", &d.id), &d.tags)
        };
        let found: Vec<Value> = self.disks.values().filter(wanted).map(show_disk).collect();
        let total = found.len();
        let (found, next) = page(found, size.min(self.settings.page_limit), token.as_deref())?;
        Ok(
            json!({ "Disks": { "Disk": found }, "NextToken": next, "TotalCount": total, "PageNumber": 1, "PageSize": size }),
        )
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

    pub(super) fn create_disk(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let snapshot_id = params.required("SnapshotId")?; // an empty disk is of no use in this cloud
        let zone_id = params.required("ZoneId")?;
        let category = params.required("DiskCategory")?;
        let size = params.number("Size")?;
        let performance_level = params.one_of("PerformanceLevel", &["PL0", "PL1", "PL2", "PL3"])?;
        params.text("DiskName", 2..=128)?;
        params.text("Description", 2..=256)?;
        let tags = params.tags()?;
        params.finish()?;
        if !matches!(category.as_str(), "cloud_essd" | "cloud_auto" | "cloud_essd_entry") {
            return Err(invalid("DiskCategory", "only the ESSD family is in the local cloud"));
        }
        if !zone_id.starts_with(&region) {
            return Err(ApiError::not_found("ZoneId", &zone_id));
        }
        let snapshot = self.own_snapshot(context, &region, &snapshot_id)?;
        if !snapshot.available() {
            return Err(ApiError::new(
                403,
                "InvalidSnapshotId.NotReady",
                "The specified snapshot has not completed yet.",
            ));
        }
        let (least, encrypted) = (snapshot.size, snapshot.encrypted);
        let size = size.unwrap_or(least);
        if size < least {
            return Err(ApiError::new(
                403,
                "InvalidDiskSize.TooSmall",
                "Specified disk size is less than the size of snapshot.",
            ));
        }
        // A disk that is not there yet has no tags but those of the request.
        for (resource, there) in [
            (context.arn(&region, "snapshot", &snapshot_id), &snapshot.tags),
            (context.arn(&region, "disk", "*"), &Tags::default()),
        ] {
            let asked = Asked { action: "ecs:CreateDisk", resource: &resource, tags: there, sent: &tags };
            context.require_asked(&asked)?;
        }
        let id = self.dice.id("d");
        self.add_disk(Disk {
            id: id.clone(),
            account_id: context.caller.account_id.clone(),
            region_id: region,
            zone_id,
            performance_level: performance_level.unwrap_or(if category == "cloud_essd" {
                "PL1".into()
            } else {
                String::new()
            }),
            category,
            size,
            status: "Creating".into(),
            kind: "data".into(),
            encrypted,
            source_snapshot_id: Some(snapshot_id.clone()),
            tags,
            ..Disk::default()
        });
        self.effects.push(Effect::DiskFromSnapshot { snapshot_id, disk_id: id.clone() });
        Ok(json!({ "DiskId": id }))
    }
}

fn locked(locks: &[String]) -> Vec<Value> {
    locks.iter().map(|why| json!({ "LockReason": why })).collect()
}

fn show_instance(i: &Instance) -> Value {
    json!({
        "InstanceId": i.id, "InstanceName": i.name, "RegionId": i.region_id, "ZoneId": i.zone_id, "Status": i.status,
        "OSType": i.os_type, "OSName": i.os_name, "OSNameEn": i.os_name, "StoppedMode": "Not-applicable",
        "OperationLocks": { "LockReason": locked(&i.locks) }, "Tags": i.tags.shown(),
    })
}

fn show_disk(d: &Disk) -> Value {
    let attached = d.instance_id.clone().unwrap_or_default();
    let attachments: Vec<Value> =
        d.instance_id.iter().map(|id| json!({ "InstanceId": id, "Device": d.device })).collect();
    json!({
        "DiskId": d.id, "RegionId": d.region_id, "ZoneId": d.zone_id, "Category": d.category, "PerformanceLevel": d.performance_level,
        "Size": d.size, "Status": d.status, "Type": d.kind, "Device": d.device, "SerialNumber": d.serial(),
        "InstanceId": if d.multi_attach { "" } else { attached.as_str() },
        "Attachments": { "Attachment": attachments },
        "MultiAttach": if d.multi_attach { "Enabled" } else { "Disabled" }, "Encrypted": d.encrypted, "KMSKeyId": d.kms_key_id,
        "SourceSnapshotId": d.source_snapshot_id.clone().unwrap_or_default(),
        "OperationLocks": { "OperationLock": locked(&d.locks) }, "Tags": d.tags.shown(),
    })
}
