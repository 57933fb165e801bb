//! Snapshot groups: creation, visibility, deletion.
//!
//! A group is born when the call is received; each disk's cut falls at a drawn instant after that, and the group
//! shows only when its time has come *and* every cut is made. So a thaw on the create's answer can be too early.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::disk::Disk;
use super::params::{Params, invalid};
use super::reply::{ApiError, page};
use super::snapshot::Snapshot;
use super::tag::Tags;
use super::{Context, Effect, Timer, World, seconds};

#[derive(Debug)]
pub(super) struct Group {
    account_id: String,
    region_id: String,
    name: String,
    description: String,
    instance_id: Option<String>,
    resource_group_id: String,
    created: Timestamp,
    visible_at: Timestamp,
    tags: Tags,
    members: Vec<String>,
}

impl World {
    pub(super) fn shows(&self, now: Timestamp, group_id: &str) -> bool {
        self.groups.get(group_id).is_some_and(|group| {
            let cut = |id: &String| {
                self.snapshots.get(id).is_none_or(|s| s.cloned.is_some() || s.status == "failed")
            };
            group.visible_at <= now && group.members.iter().all(cut)
        })
    }

    pub(super) fn create_snapshot_group(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let instance_id = params.optional("InstanceId");
        let disk_ids = params.list("DiskId", 128)?;
        let excluded = params.list("ExcludeDiskId", 128)?;
        let name = params.optional("Name").unwrap_or_default();
        let description = params.text("Description", 2..=256)?.unwrap_or_default();
        let resource_group_id = params.optional("ResourceGroupId").unwrap_or_default();
        let tags = params.tags()?;
        params.boolean("InstantAccess")?; // a no-op of the real one too
        params.number("InstantAccessRetentionDays")?;
        params.finish()?;
        check_name(&name)?;
        if description.starts_with("http://") || description.starts_with("https://") {
            return Err(invalid("Description", "it must not start with http:// or https://"));
        }
        if !disk_ids.is_empty() && !excluded.is_empty() {
            let why = "DiskId and ExcludeDiskId cannot be given together.";
            return Err(ApiError::new(400, "InvalidParam.ExcludeDiskIdsAndDiskIds.Conflict", why));
        }
        if instance_id.is_none() && disk_ids.is_empty() {
            return Err(ApiError::new(
                400,
                "MissingParamter.InstanceId",
                "InstanceId or DiskId is required.",
            )); // sic
        }
        let create = "ecs:CreateSnapshotGroup";
        let untagged = Tags::default();
        if let Some(id) = &instance_id {
            let there = self.own_instance(context, &region, id).map_or(&untagged, |instance| &instance.tags);
            context.require_on(create, &context.arn(&region, "instance", id), there)?;
            let instance = self.own_instance(context, &region, id)?;
            if instance.locks.iter().any(|lock| lock == "security") {
                return Err(ApiError::new(
                    403,
                    "InstanceLockedForSecurity",
                    "The instance is locked for security.",
                ));
            }
            if !["Running", "Stopped"].contains(&instance.status.as_str()) {
                return Err(ApiError::new(
                    400,
                    "IncorrectInstanceStatus",
                    "The instance is neither Running nor Stopped.",
                ));
            }
        }
        for id in &disk_ids {
            let there = self.own_disk(context, &region, id).map_or(&untagged, |disk| &disk.tags);
            context.require_on(create, &context.arn(&region, "disk", id), there)?;
            let disk = self.own_disk(context, &region, id)?;
            if instance_id.is_some() && disk.instance_id != instance_id {
                return Err(ApiError::not_found("DiskId", id));
            }
        }
        self.account_in_order()?;
        let disks: Vec<Disk> = if disk_ids.is_empty() {
            let chosen = |d: &&Disk| d.instance_id == instance_id && !excluded.contains(&d.id);
            self.disks.values().filter(chosen).cloned().collect()
        } else {
            disk_ids.iter().filter_map(|id| self.disks.get(id)).cloned().collect()
        };
        self.check_disks(&disks)?;
        let id = self.dice.id("ssg");
        let visible_at = self.later(context.now, self.settings.visible_after.as_millis() as u64);
        let mut members = Vec::new();
        for disk in &disks {
            let member = self.dice.id("s");
            let wait = self.dice.below(self.settings.visible_after.as_millis() as u64);
            self.arm(self.later(context.now, wait), Timer::Cut(member.clone()));
            let snapshot = Snapshot {
                account_id: disk.account_id.clone(),
                region_id: region.clone(),
                size: disk.size,
                encrypted: disk.encrypted,
                kms_key_id: disk.kms_key_id.clone(),
                tags: if self.settings.tags_reach_members { tags.clone() } else { Tags::default() },
                group_id: id.clone(),
                automatic: false,
                name: name.clone(),
                disk_id: disk.id.clone(),
                disk_kind: disk.kind.clone(),
                instance_id: disk.instance_id.clone(),
                created: context.now,
                cloned: None,
                status: "progressing",
            };
            self.snapshots.insert(member.clone(), snapshot);
            members.push(member);
        }
        let one = disks.iter().all(|disk| disk.instance_id == disks[0].instance_id);
        let group = Group {
            account_id: context.caller.account_id.clone(),
            region_id: region,
            name,
            description,
            instance_id: disks[0].instance_id.clone().filter(|_| one),
            resource_group_id,
            created: context.now,
            visible_at,
            tags,
            members,
        };
        self.groups.insert(id.clone(), group);
        Ok(json!({ "SnapshotGroupId": id }))
    }

    /// `millis` later.
    pub(super) fn later(&self, now: Timestamp, millis: u64) -> Timestamp {
        now + SignedDuration::from_millis(millis as i64)
    }

    fn check_disks(&self, disks: &[Disk]) -> Result<(), ApiError> {
        let refuse = |status, code: &str, why: String| Err(ApiError::new(status, code, why));
        let Some(first) = disks.first() else {
            return refuse(403, "InvalidInstance.NoDisk", "There is no disk to be snapshotted.".into());
        };
        let (most, capacity) = self.settings.group_limit;
        if disks.len() > most {
            return refuse(403, "NumberExceed.TooManyDisks", format!("At most {most} disks are allowed."));
        }
        if disks.iter().map(|disk| disk.size).sum::<u64>() > capacity {
            return refuse(
                403,
                "CapacityExceed.TooManyDisks",
                format!("At most {capacity} GiB are allowed."),
            );
        }
        for disk in disks {
            let id = &disk.id;
            let regional = |disk: &Disk| disk.category == "cloud_regional_disk_auto";
            if !matches!(disk.category.as_str(), "cloud_essd" | "cloud_auto" | "cloud_essd_entry")
                && !regional(disk)
            {
                return refuse(
                    400,
                    "DiskCategory.OperationNotSupported",
                    format!("{id} is a {}.", disk.category),
                );
            }
            if regional(disk) != regional(first) {
                return refuse(
                    403,
                    "InvalidDisk.DiskCategoryInconsistent",
                    format!("{id} and {} differ.", first.id),
                );
            }
            if disk.multi_attach {
                return refuse(
                    403,
                    "InvalidOperation.MultiAttachDisk",
                    format!("{id} is a multi-attach disk."),
                );
            }
            if disk.zone_id != first.zone_id {
                return refuse(400, "InvalidDiskIds.NotInSameZone", format!("{id} is in {}.", disk.zone_id));
            }
            if !["In_use", "Available"].contains(&disk.status.as_str()) {
                return refuse(403, "IncorrectDiskStatus", format!("{id} is {}.", disk.status));
            }
            if disk.locks.iter().any(|lock| lock == "financial") {
                return refuse(403, "DiskInArrears", format!("{id} is not paid for."));
            }
            if !disk.kms_refusal.is_empty() {
                let code = format!("InvalidParameter.KMSKeyId.{}", disk.kms_refusal);
                return refuse(403, &code, format!("The key {} of {id} cannot be used.", disk.kms_key_id));
            }
            let own = self.snapshots.values().filter(|snapshot| snapshot.disk_id == *id);
            if own.clone().filter(|snapshot| !snapshot.automatic).count() >= 256 {
                return refuse(403, "QuotaExceed.Snapshot", format!("{id} has 256 snapshots."));
            }
            if own.filter(|snapshot| snapshot.status == "progressing").count() >= 10 {
                return refuse(
                    403,
                    "QuotaExceed.ConcurrentSnapshotQuota",
                    format!("{id} has 10 snapshots under way."),
                );
            }
        }
        Ok(())
    }

    pub(super) fn describe_snapshot_groups(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let ids = params.list("SnapshotGroupId", 10)?;
        let (instance, name) = (params.optional("InstanceId"), params.optional("Name"));
        let states = params.list("Status", 3)?;
        let tags = params.tags()?;
        let (size, token) = params.paging(100, None)?;
        params.finish()?;
        if states.iter().any(|one| !["progressing", "accomplished", "failed"].contains(&one.as_str())) {
            return Err(ApiError::new(
                403,
                "InvalidStatus.ValueNotSupported",
                "The specified Status is not supported.",
            ));
        }
        let wanted = |(id, g): &(&String, &Group)| {
            (ids.is_empty() || ids.contains(id)) // the sharpest test first: there may be thousands
                && instance.as_ref().is_none_or(|wanted| g.instance_id.as_ref() == Some(wanted))
                && g.account_id == context.caller.account_id
                && g.region_id == region
                && self.shows(context.now, id)
                && name.as_ref().is_none_or(|wanted| *wanted == g.name)
                && (states.is_empty() || states.iter().any(|state| state == self.group_status(g)))
                && g.tags.match_filter(&tags)
                && context.may(
                    "ecs:DescribeSnapshotGroups",
                    &context.arn(&region, "snapshotgroup", id),
                    &g.tags,
                )
        };
        let mut found: Vec<(&String, &Group)> = self.groups.iter().filter(wanted).collect();
        found.sort_by_key(|(_, group)| std::cmp::Reverse(group.created));
        let (found, next) = page(found, size.min(self.settings.page_limit), token.as_deref())?;
        let show = |(id, g): (&String, &Group)| {
            let members = g.members.iter().filter_map(|id| Some((id, self.snapshots.get(id)?)));
            let members: Vec<Value> = members.map(|(id, s)| json!({
                "SnapshotId": id, "SourceDiskId": s.disk_id, "SourceDiskType": s.disk_kind, "Progress": self.progress(context.now, s),
                "Available": s.available(), "InstantAccess": false, "InstantAccessRetentionDays": 0, "Tags": s.tags.shown_in_groups(),
            })).collect();
            let mut shown = json!({
                "SnapshotGroupId": id, "Name": g.name, "Description": g.description, "CreationTime": seconds(g.created),
                "Status": self.group_status(g), "ResourceGroupId": g.resource_group_id, "Tags": g.tags.shown_in_groups(), "Snapshots": { "Snapshot": members },
            });
            if let Some(instance) = &g.instance_id {
                shown["InstanceId"] = instance.as_str().into();
            }
            shown
        };
        Ok(
            json!({ "SnapshotGroups": { "SnapshotGroup": found.into_iter().map(show).collect::<Vec<_>>() }, "NextToken": next }),
        )
    }

    fn group_status(&self, group: &Group) -> &'static str {
        let states: Vec<&str> =
            group.members.iter().filter_map(|id| Some(self.snapshots.get(id)?.status)).collect();
        match () {
            _ if states.contains(&"failed") => "failed",
            _ if states.contains(&"progressing") => "progressing",
            _ => "accomplished",
        }
    }

    pub(super) fn delete_snapshot_group(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let id = params.required("SnapshotGroupId")?;
        params.finish()?;
        let own = self
            .groups
            .get(&id)
            .is_some_and(|g| g.account_id == context.caller.account_id && g.region_id == region);
        if !own || !self.shows(context.now, &id) {
            return Err(ApiError::not_found("SnapshotGroupId", &id));
        }
        let tags = self.groups.get(&id).map(|group| group.tags.clone()).unwrap_or_default();
        context.require_on("ecs:DeleteSnapshotGroup", &context.arn(&region, "snapshotgroup", &id), &tags)?;
        let members = self.groups.remove(&id).map(|group| group.members).unwrap_or_default();
        let mut progress = Vec::new();
        for snapshot_id in members {
            // The group goes all the same; what an image needs stays, on its own.
            let imaged = self.is_imaged(&snapshot_id);
            let (status, code) = if imaged { ("Failed", "SnapshotCreatedImage") } else { ("Success", "") };
            progress.push(json!({
                "OperationStatus": status, "ErrorCode": code, "ErrorMsg": "",
                "RelatedItemSet": { "RelatedItem": [ { "Name": "SnapshotId", "Value": snapshot_id } ] },
            }));
            match self.snapshots.get_mut(&snapshot_id) {
                Some(snapshot) if imaged => snapshot.group_id.clear(),
                _ => {
                    self.snapshots.remove(&snapshot_id);
                    self.effects.push(Effect::DeleteSnapshot { snapshot_id });
                }
            }
        }
        Ok(json!({ "OperationProgressSet": { "OperationProgress": progress } }))
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let good = name.is_empty()
        || (2..=128).contains(&name.chars().count())
            && name.chars().next().is_some_and(char::is_alphabetic)
            && name.chars().all(|c| c.is_alphanumeric() || "._-:".contains(c));
    match good {
        true => Ok(()),
        false => Err(ApiError::new(400, "InvalidSnapshotName.Malformed", "The specified Name is not valid.")),
    }
}
