//! StopInstance, StartInstance, and what takes a stopped instance: ResetDisk. Their pages list no RegionId either.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::instance::Instance;
use super::params::Params;
use super::reply::ApiError;
use super::{Context, Effect, World};

impl World {
    pub(super) fn stop_instance(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let mode = params.one_of("StoppedMode", &["KeepCharging", "StopCharging"])?;
        let force = params.boolean("ForceStop")?.unwrap_or(false);
        params.boolean("ConfirmStop")?; // says nothing any more
        let instance_id = self.power(context, params, "ecs:StopInstance", "Running")?;
        if let Some(instance) = self.instances.get_mut(&instance_id) {
            instance.status = "Stopping".into();
            instance.stopped_mode = mode.unwrap_or_else(|| "KeepCharging".into());
        }
        self.effects.push(Effect::StopInstance { instance_id, force });
        Ok(json!({}))
    }

    pub(super) fn start_instance(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        params.boolean("InitLocalDisk")?; // there are no local disks
        let instance_id = self.power(context, params, "ecs:StartInstance", "Stopped")?;
        if let Some(instance) = self.instances.get_mut(&instance_id) {
            instance.status = "Starting".into();
        }
        self.effects.push(Effect::StartInstance { instance_id });
        Ok(json!({}))
    }

    /// The instance that is to be stopped or started, if it can be.
    fn power(
        &mut self,
        context: &Context,
        params: &mut Params,
        action: &str,
        from: &str,
    ) -> Result<String, ApiError> {
        let dry_run = params.boolean("DryRun")?.unwrap_or(false);
        let instance = self.instance_to_act_on(context, params, action)?;
        instance.unlocked()?;
        instance.is_any_of(&[from])?;
        let own = self.disks.values().filter(|disk| disk.instance_id.as_ref() == Some(&instance.id));
        for disk in own {
            if disk.status != "In_use" {
                let why = format!("IncorrectDiskStatus: {} is {}.", disk.id, disk.status);
                return Err(ApiError::new(403, "DiskError", why));
            }
            if disk.locks.iter().any(|lock| lock == "financial") {
                return Err(ApiError::new(403, "DiskInArrears", format!("{} is not paid for.", disk.id)));
            }
        }
        if dry_run { Err(ApiError::dry_run()) } else { Ok(instance.id.clone()) }
    }

    /// The instance that a call without RegionId names, where the caller may do this with it.
    pub(super) fn instance_to_act_on(
        &self,
        context: &Context,
        params: &mut Params,
        action: &str,
    ) -> Result<&Instance, ApiError> {
        let id = params.required("InstanceId")?;
        let own = || self.instances.get(&id).map(|instance| instance.region_id.clone());
        let region = params.optional("RegionId").or_else(own).unwrap_or_default();
        params.finish()?;
        let instance = self.own_instance(context, &region, &id);
        let tags = instance.as_ref().map_or_else(|_| Default::default(), |one| one.tags.clone());
        context.require_on(action, &context.arn(&region, "instance", &id), &tags)?;
        instance
    }

    /// What carries out effects says that the instance runs now, or does not.
    pub(super) fn instance_settled(&mut self, now: Timestamp, instance_id: &str, running: bool) {
        let Some(instance) = self.instances.get_mut(instance_id) else { return };
        instance.status = if running { "Running" } else { "Stopped" }.into();
        instance.agent_alive = running;
        if running {
            instance.last_heartbeat = Some(now);
            instance.stopped_mode.clear();
        }
    }

    pub(super) fn reset_disk(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let (disk_id, snapshot_id) = (params.required("DiskId")?, params.required("SnapshotId")?);
        let region = self.region_of_disk(params, &disk_id);
        let dry_run = params.boolean("DryRun")?.unwrap_or(false);
        params.finish()?;
        let (disk, snapshot) =
            (self.own_disk(context, &region, &disk_id), self.own_snapshot(context, &region, &snapshot_id));
        let tags = disk.as_ref().map_or_else(|_| Default::default(), |disk| disk.tags.clone());
        context.require_on("ecs:ResetDisk", &context.arn(&region, "disk", &disk_id), &tags)?;
        let tags = snapshot.as_ref().map_or_else(|_| Default::default(), |one| one.tags.clone());
        context.require_on("ecs:ResetDisk", &context.arn(&region, "snapshot", &snapshot_id), &tags)?;
        let (disk, snapshot) = (disk?, snapshot?);
        let refused = |code: &str, why: String| Err(ApiError::new(403, code, why));
        if !["In_use", "Available"].contains(&disk.status.as_str()) {
            return refused("IncorrectDiskStatus", format!("The disk {disk_id} is {}.", disk.status));
        }
        if let Some(instance) = disk.instance_id.as_ref().and_then(|id| self.instances.get(id)) {
            instance.unlocked()?;
            instance.is_any_of(&["Stopped"])?;
        }
        if snapshot.disk_id != disk_id {
            return refused("InvalidParameter.Mismatch", format!("{snapshot_id} is not of {disk_id}."));
        }
        if !snapshot.available() {
            return refused("InvalidSnapshotId.NotReady", format!("{snapshot_id} has not completed yet."));
        }
        if self.snapshots.values().any(|one| one.disk_id == disk_id && one.status == "progressing") {
            let why = format!("A snapshot of {disk_id} is not completed yet.");
            return refused("Operation.Conflict", why);
        }
        if dry_run {
            return Err(ApiError::dry_run());
        }
        if let Some(disk) = self.disks.get_mut(&disk_id) {
            disk.status = "ReIniting".into();
        }
        self.effects.push(Effect::ResetDisk { disk_id, snapshot_id });
        Ok(json!({}))
    }
}
