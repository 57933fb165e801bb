//! Instances come from an image (RunInstances, one at a time) and go (DeleteInstance).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::disk::{Disk, named_well, performance};
use super::image::{Mapped, letter};
use super::instance::Instance;
use super::params::{Params, invalid};
use super::reply::ApiError;
use super::tag::Tags;
use super::{Asked, Context, Effect, World};

/// What is read of `DataDisk.N`.
const DATA: [&str; 6] =
    ["SnapshotId", "Category", "PerformanceLevel", "Size", "Device", "DeleteWithInstance"];

/// Where a VSwitch and the security groups of its VPC are.
#[derive(Debug, Clone)]
pub struct Network {
    /// Owner.
    pub account_id: String,
    /// Region.
    pub region_id: String,
    /// The VSwitch's zone.
    pub zone_id: String,
    /// `sg-…`
    pub security_group_id: String,
}

/// A disk of the instance that is to be.
struct Wanted {
    from: Mapped,
    category: String,
    level: String,
    delete_with_instance: bool,
}

impl World {
    /// Adds a VSwitch (`vsw-…`) with the security group of its VPC.
    pub fn add_network(&mut self, vswitch_id: &str, network: Network) {
        self.networks.insert(vswitch_id.into(), network);
    }

    pub(super) fn run_instances(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let image_id = params.required("ImageId")?;
        let instance_type = params.required("InstanceType")?;
        let vswitch_id = params.required("VSwitchId")?;
        let security_group_id = params.required("SecurityGroupId")?;
        let zone_id = params.optional("ZoneId");
        let name = params.optional("InstanceName").unwrap_or_default();
        let host_name = params.optional("HostName").unwrap_or_default();
        let system = ["Category", "PerformanceLevel", "Size"].map(|field| {
            (field.to_owned(), params.optional(&format!("SystemDisk.{field}")).unwrap_or_default())
        });
        let data = params.records("DataDisk", &DATA)?;
        let tags = params.tags()?;
        let amount = params.number("Amount")?.unwrap_or(1);
        let dry_run = params.boolean("DryRun")?.unwrap_or(false);
        params.one_of("InstanceChargeType", &["PostPaid"])?;
        params.finish()?;
        if amount != 1 {
            let why = "The local cloud starts one instance at a time.";
            return Err(ApiError::new(403, "InvalidParam.Amount", why));
        }
        named_well(&name, "InvalidInstanceName.Malformed")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let fits = (2..=64).contains(&host_name.len()) && host_name.chars().all(plain);
        if !host_name.is_empty() && !fits {
            let why = format!("The HostName {host_name:?} is not valid.");
            return Err(ApiError::new(400, "InvalidHostName.Malformed", why));
        }
        if !instance_type.starts_with("ecs.") {
            let why = format!("The InstanceType {instance_type} does not exist.");
            return Err(ApiError::new(400, "InvalidInstanceType.ValueNotSupported", why));
        }
        let own = |account: &str, at: &str| account == context.caller.account_id && at == region;
        let network = self.networks.get(&vswitch_id).filter(|one| own(&one.account_id, &one.region_id));
        let network = network.ok_or_else(|| ApiError::not_found("VSwitchId", &vswitch_id))?.clone();
        if network.security_group_id != security_group_id {
            return Err(ApiError::not_found("SecurityGroupId", &security_group_id));
        }
        if zone_id.is_some_and(|zone| zone != network.zone_id) {
            let why = format!("{vswitch_id} is in {}.", network.zone_id);
            return Err(ApiError::new(400, "InvalidParameter.Mismatch", why));
        }
        let image = self.images.get(&image_id).filter(|one| own(&one.account_id, &one.region_id));
        let image = image.ok_or_else(|| ApiError::not_found("ImageId", &image_id))?;
        let (ready, mapped) = (image.available, image.disks.clone());
        for (kind, id) in [("instance", "*"), ("image", &image_id), ("securitygroup", &security_group_id)] {
            let (resource, none) = (context.arn(&region, kind, id), Tags::default());
            let asked = Asked { action: "ecs:RunInstances", resource: &resource, tags: &none, sent: &tags };
            context.require_asked(&asked)?;
        }
        if !ready {
            let why = format!("The image {image_id} is not available yet.");
            return Err(ApiError::new(403, "OperationDenied.ImageNotValid", why));
        }
        let disks = self.disks_wanted(context, &region, mapped, system.into(), data)?;
        if disks.len() > self.settings.disk_limit {
            let why = format!("{} disks are more than an instance takes.", disks.len());
            return Err(ApiError::new(403, "InstanceDiskNumLimitExceed", why));
        }
        if dry_run {
            return Err(ApiError::dry_run());
        }
        let id = self.dice.id("i");
        let host_name = if host_name.is_empty() { format!("iZ{}Z", &id[2..]) } else { host_name };
        let mut ids = Vec::new();
        for wanted in disks {
            let kind = if wanted.from.letter == 'a' { "system" } else { "data" };
            let snapshot = &self.snapshots[&wanted.from.snapshot_id];
            let (encrypted, kms_key_id) = (snapshot.encrypted, snapshot.kms_key_id.clone());
            let disk = Disk {
                id: self.dice.id("d"),
                zone_id: network.zone_id.clone(),
                instance_id: Some(id.clone()),
                category: wanted.category,
                performance_level: wanted.level,
                size: wanted.from.size,
                kind: kind.into(),
                device: format!("/dev/xvd{}", wanted.from.letter),
                delete_with_instance: wanted.delete_with_instance,
                encrypted,
                kms_key_id,
                tags: tags.clone(), // those of the call go onto the disks too
                ..Disk::default()
            };
            ids.push(self.disk_from(context, &region, &wanted.from.snapshot_id, disk));
        }
        self.add_instance(Instance {
            id: id.clone(),
            name: if name.is_empty() { id.clone() } else { name },
            account_id: context.caller.account_id.clone(),
            region_id: region,
            zone_id: network.zone_id,
            status: "Pending".into(),
            os_type: "linux".into(),
            os_name: "Alibaba Cloud Linux  3.2104 LTS 64 bit".into(),
            agent_version: "2.2.4.900".into(),
            image_id,
            instance_type,
            host_name: host_name.clone(),
            vswitch_id,
            security_group_id,
            tags,
            ..Instance::default()
        });
        self.effects.push(Effect::RunInstance { instance_id: id.clone(), host_name, disk_ids: ids });
        Ok(json!({ "InstanceIdSets": { "InstanceIdSet": [id] } }))
    }

    /// The image's disks, as the call changes them, and those that it adds; the system disk first.
    fn disks_wanted(
        &self,
        context: &Context,
        region: &str,
        mapped: Vec<Mapped>,
        system: BTreeMap<String, String>,
        data: Vec<BTreeMap<String, String>>,
    ) -> Result<Vec<Wanted>, ApiError> {
        let refused = |status, code: &str, why: String| Err(ApiError::new(status, code, why));
        let mut changes: BTreeMap<char, BTreeMap<String, String>> = BTreeMap::from([('a', system)]);
        let mut disks = mapped;
        for disk in data {
            let given = |name: &str| disk.get(name).filter(|value| !value.is_empty());
            let free = || ('b'..='z').find(|one| disks.iter().all(|disk| disk.letter != *one));
            let letter = match given("Device") {
                None => free(),
                Some(device) => letter(device).filter(|letter| *letter != 'a'),
            };
            let Some(letter) = letter else {
                return refused(400, "InvalidDataDevice.Malformed", "DataDisk.n.Device is not valid.".into());
            };
            if let Some(id) = given("SnapshotId") {
                let snapshot = self
                    .own_snapshot(context, region, id)
                    .map_err(|_| ApiError::not_found("DataDiskSnapshotId", id))?;
                if !snapshot.available() {
                    return refused(
                        403,
                        "InvalidSnapshotId.NotReady",
                        format!("{id} has not completed yet."),
                    );
                }
                if snapshot.disk_kind == "system" {
                    let why = format!("{id} is a system disk snapshot.");
                    return refused(403, "InvalidSnapshotId.NotDataDiskSnapshot", why);
                }
                disks.retain(|disk| disk.letter != letter);
                disks.push(Mapped { letter, snapshot_id: id.clone(), size: snapshot.size });
            } else if !disks.iter().any(|disk| disk.letter == letter) {
                return Err(invalid("DataDisk", "the local cloud makes no empty disks"));
            }
            if changes.insert(letter, disk).is_some() {
                return refused(403, "InvalidDevice.InUse", format!("/dev/xvd{letter} has been occupied."));
            }
        }
        disks.sort_by_key(|disk| disk.letter);
        let mut wanted = Vec::new();
        for mut from in disks {
            let change = changes.remove(&from.letter).unwrap_or_default();
            let given = |name: &str| change.get(name).filter(|value| !value.is_empty()).cloned();
            let is_system = from.letter == 'a';
            let category = given("Category").unwrap_or_else(|| "cloud_essd".into());
            let level = performance(&category, given("PerformanceLevel")).map_err(|error| {
                let of = if is_system { "System" } else { "Data" };
                match error.code.starts_with("InvalidDataDiskCategory") {
                    true => ApiError::new(
                        400,
                        format!("Invalid{of}DiskCategory.ValueNotSupported"),
                        error.message,
                    ),
                    false => error,
                }
            })?;
            if let Some(size) = given("Size") {
                let larger = size.parse().ok().filter(|size| *size >= from.size);
                let small = if is_system {
                    (404, "InvalidSystemDiskSize.LessThanImageSize")
                } else {
                    (403, "InvalidDiskSize.TooSmall")
                };
                let why = format!("{size} GiB is less than the snapshot's {}.", from.size);
                from.size = larger.ok_or_else(|| ApiError::new(small.0, small.1, why))?;
            }
            let delete_with_instance = given("DeleteWithInstance").is_none_or(|said| said == "true");
            wanted.push(Wanted { from, category, level, delete_with_instance });
        }
        Ok(wanted)
    }

    pub(super) fn delete_instance(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let force = params.boolean("Force")?.unwrap_or(false);
        params.boolean("ForceStop")?; // a released instance takes its memory with it either way
        let dry_run = params.boolean("DryRun")?.unwrap_or(false);
        let instance = self.instance_to_act_on(context, params, "ecs:DeleteInstance")?;
        if ["Pending", "Starting", "Stopping"].contains(&instance.status.as_str()) {
            let why = format!("The instance {} is {}.", instance.id, instance.status);
            return Err(ApiError::new(403, "IncorrectInstanceStatus.Initializing", why));
        }
        let locked = instance.locks.iter().any(|lock| lock == "security");
        match (locked, force) {
            (true, _) => instance.unlocked()?,
            (false, true) => {}
            (false, false) => instance.is_any_of(&["Stopped"])?,
        }
        if dry_run {
            return Err(ApiError::dry_run());
        }
        let instance_id = instance.id.clone();
        self.instances.remove(&instance_id);
        let own = self.disks.values_mut().filter(|disk| disk.instance_id.as_ref() == Some(&instance_id));
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for disk in own {
            if disk.delete_with_instance {
                gone.push(disk.id.clone());
            } else {
                disk.status = "Detaching".into();
                kept.push(disk.id.clone());
            }
        }
        gone.iter().for_each(|id| self.remove_disk(id));
        self.effects.push(Effect::DeleteInstance { instance_id, kept });
        Ok(json!({}))
    }
}
