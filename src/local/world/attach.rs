//! Disks come and go while instances run: AttachDisk, DetachDisk, DeleteDisk. All of them only begin something; what
//! carries out effects tells when it is done.
//!
//! Their pages list no RegionId, since the endpoint says it; here it is that of the disk.

use serde_json::{Value, json};

use super::disk::Disk;
use super::instance::Instance;
use super::params::{Params, invalid};
use super::reply::ApiError;
use super::{Context, Effect, World};

/// As attachable names: the first is the system disk's.
const LETTERS: std::ops::RangeInclusive<char> = 'b'..='z';

impl World {
    pub(super) fn attach_disk(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let (disk_id, instance_id) = (params.required("DiskId")?, params.required("InstanceId")?);
        let region = self.region_of_disk(params, &disk_id);
        let wanted = params.optional("Device");
        let delete_with_instance = params.boolean("DeleteWithInstance")?.unwrap_or(false);
        let bootable = params.boolean("Bootable")?.unwrap_or(false);
        params.finish()?;
        let (disk, instance) =
            self.disk_and_instance(context, "ecs:AttachDisk", &region, &disk_id, &instance_id)?;
        if bootable {
            return Err(invalid("Bootable", "the local cloud attaches data disks"));
        }
        // Here, and here only, by 400.
        instance.is_any_of(&["Running", "Stopped"]).map_err(|error| ApiError { status: 400, ..error })?;
        let refused = |code: &str, why: String| Err(ApiError::new(403, code, why));
        if disk.multi_attach {
            let why = format!("The instance type of {instance_id} attaches no multi-attach disk.");
            return refused("InvalidInstanceType.NotSupportMultiAttachDisk", why);
        }
        if disk.status != "Available" {
            return refused("IncorrectDiskStatus", format!("The disk {disk_id} is {}.", disk.status));
        }
        if disk.zone_id != instance.zone_id {
            let why = format!("{disk_id} is in {}, {instance_id} in {}.", disk.zone_id, instance.zone_id);
            return refused("ResourcesNotInSameZone", why);
        }
        if disk.locks.iter().any(|lock| lock == "financial") {
            return refused("DiskInArrears", format!("The disk {disk_id} is not paid for."));
        }
        if !disk.kms_refusal.is_empty() {
            let why = format!("The key {} of {disk_id} cannot be used.", disk.kms_key_id);
            return refused(&format!("InvalidParameter.KMSKeyId.{}", disk.kms_refusal), why);
        }
        let there: Vec<&Disk> =
            self.disks.values().filter(|one| one.instance_id.as_ref() == Some(&instance_id)).collect();
        if there.len() >= self.settings.disk_limit {
            let why = format!("{instance_id} has {} disks.", there.len());
            return refused("InstanceDiskLimitExceeded", why);
        }
        let taken = |device: &String| there.iter().any(|one| one.device == *device);
        let mut names = LETTERS.map(|letter| format!("/dev/xvd{letter}"));
        let device = match wanted {
            None => names.find(|name| !taken(name)).unwrap_or_default(),
            Some(name) if !names.any(|known| known == name) => {
                let why = format!("The device {name} is not valid: /dev/xvdb to /dev/xvdz are.");
                return Err(ApiError::new(400, "InvalidDevice.Malformed", why));
            }
            Some(name) if taken(&name) => {
                return refused("InvalidDevice.InUse", format!("The device {name} has been occupied."));
            }
            Some(name) => name,
        };
        if let Some(disk) = self.disks.get_mut(&disk_id) {
            disk.status = "Attaching".into();
            disk.instance_id = Some(instance_id.clone());
            disk.device = device;
            disk.delete_with_instance = delete_with_instance;
        }
        self.effects.push(Effect::AttachDisk { disk_id, instance_id });
        Ok(json!({}))
    }

    pub(super) fn detach_disk(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let (disk_id, instance_id) = (params.required("DiskId")?, params.required("InstanceId")?);
        let region = self.region_of_disk(params, &disk_id);
        params.boolean("DeleteWithInstance")?; // of a disk that has an instance no more, it says nothing
        params.finish()?;
        let (disk, instance) =
            self.disk_and_instance(context, "ecs:DetachDisk", &region, &disk_id, &instance_id)?;
        let refused = |code: &str, why: String| Err(ApiError::new(403, code, why));
        match &disk.instance_id {
            None => {
                let why = format!("The disk {disk_id} has been detached.");
                return Err(ApiError::new(404, "InvalidDisk.AlreadyDetached", why));
            }
            Some(other) if *other != instance_id => {
                return refused(
                    "DependencyViolation",
                    format!("{disk_id} is not attached to {instance_id}."),
                );
            }
            Some(_) => {}
        }
        if disk.kind == "system" {
            return refused("DiskTypeViolation", format!("The disk {disk_id} is a system disk."));
        }
        if disk.status != "In_use" {
            return refused("IncorrectDiskStatus", format!("The disk {disk_id} is {}.", disk.status));
        }
        instance.is_any_of(&["Running", "Stopped"])?;
        if let Some(disk) = self.disks.get_mut(&disk_id) {
            disk.status = "Detaching".into();
        }
        self.effects.push(Effect::DetachDisk { disk_id, instance_id });
        Ok(json!({}))
    }

    /// One that is not there is no error, but the right to delete it is asked for first.
    pub(super) fn delete_disk(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let disk_id = params.required("DiskId")?;
        let region = self.region_of_disk(params, &disk_id);
        params.finish()?;
        let there = self.own_disk(context, &region, &disk_id).ok();
        let tags = there.map(|disk| disk.tags.clone()).unwrap_or_default();
        context.require_on("ecs:DeleteDisk", &context.arn(&region, "disk", &disk_id), &tags)?;
        let Some(disk) = there else { return Ok(json!({})) };
        let refused = |code: &str, why: String| Err(ApiError::new(403, code, why));
        if disk.kind == "system" && disk.instance_id.is_some() {
            return refused("DiskTypeViolation", format!("The disk {disk_id} is a system disk."));
        }
        if disk.status != "Available" {
            return refused("IncorrectDiskStatus", format!("The disk {disk_id} is {}.", disk.status));
        }
        if self.snapshots.values().any(|one| one.disk_id == disk_id && one.status == "progressing") {
            return refused("DiskCreatingSnapshot", format!("A snapshot of {disk_id} is not completed yet."));
        }
        self.remove_disk(&disk_id);
        Ok(json!({}))
    }

    /// It is gone, and what carries out effects takes its image away.
    pub(super) fn remove_disk(&mut self, disk_id: &str) {
        self.disks.remove(disk_id);
        self.effects.push(Effect::DeleteDisk { disk_id: disk_id.into() });
    }

    /// What was begun with the disk is done, or failed: then it is as before.
    pub(super) fn disk_settled(&mut self, disk_id: &str, done: bool) {
        let Some(disk) = self.disks.get_mut(disk_id) else { return };
        let attached = match (disk.status.as_str(), done) {
            ("Attaching", done) => done,
            ("Detaching", done) => !done,
            ("Creating" | "ReIniting", true) => disk.instance_id.is_some(),
            _ => return, // a disk that could not be made never becomes available, as a restore that fails
        };
        if attached {
            disk.status = "In_use".into();
        } else {
            disk.status = "Available".into();
            disk.instance_id = None;
            disk.device.clear();
            disk.delete_with_instance = false;
        }
    }

    /// Of a call without RegionId.
    pub(super) fn region_of_disk(&self, params: &mut Params, disk_id: &str) -> String {
        let own = || self.disks.get(disk_id).map(|disk| disk.region_id.clone());
        params.optional("RegionId").or_else(own).unwrap_or_default()
    }

    /// Both, where the caller may do it on both and the instance is not locked.
    fn disk_and_instance(
        &self,
        context: &Context,
        action: &str,
        region: &str,
        disk_id: &str,
        instance_id: &str,
    ) -> Result<(&Disk, &Instance), ApiError> {
        let (disk, instance) =
            (self.own_disk(context, region, disk_id), self.own_instance(context, region, instance_id));
        let tags = disk.as_ref().map_or_else(|_| Default::default(), |disk| disk.tags.clone());
        context.require_on(action, &context.arn(region, "disk", disk_id), &tags)?;
        let tags = instance.as_ref().map_or_else(|_| Default::default(), |one| one.tags.clone());
        context.require_on(action, &context.arn(region, "instance", instance_id), &tags)?;
        let (disk, instance) = (disk?, instance?);
        instance.unlocked()?;
        Ok((disk, instance))
    }
}
