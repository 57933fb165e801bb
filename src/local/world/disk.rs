//! Disks: what they are, CreateDisk, DescribeDisks.

use serde_json::{Value, json};

use super::instance::locked;
use super::params::{Params, missing};
use super::reply::{ApiError, page};
use super::tag::Tags;
use super::{Asked, Context, Effect, World};

/// A cloud disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// `d-…`
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the user says of it.
    pub description: String,
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
    /// `In_use`, `Available`, `Creating`, `Attaching`, `Detaching` or `ReIniting`.
    pub status: String,
    /// `system` or `data`.
    pub kind: String,
    /// `/dev/xvda`, … as the API says; the guest's name differs.
    pub device: String,
    /// Whether it goes when its instance is released.
    pub delete_with_instance: bool,
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
    /// Adds a disk.
    pub fn add_disk(&mut self, disk: Disk) {
        self.disks.insert(disk.id.clone(), disk);
    }

    /// A disk, to look at or to change.
    pub fn disk_mut(&mut self, id: &str) -> Option<&mut Disk> {
        self.disks.get_mut(id)
    }

    /// The disk `id` where the caller's account has it.
    pub(super) fn own_disk(&self, context: &Context, region: &str, id: &str) -> Result<&Disk, ApiError> {
        let own = |d: &&Disk| d.account_id == context.caller.account_id && d.region_id == region;
        self.disks.get(id).filter(own).ok_or_else(|| ApiError::not_found("DiskId", id))
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

    pub(super) fn create_disk(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let snapshot_id = params.required("SnapshotId")?; // an empty disk is of no use in this cloud
        let (zone_id, instance_id) = (params.optional("ZoneId"), params.optional("InstanceId"));
        let category = params.optional("DiskCategory").unwrap_or_else(|| "cloud".into());
        let size = params.number("Size")?;
        let level = params.optional("PerformanceLevel");
        let name = params.text("DiskName", 2..=128)?.unwrap_or_default();
        let description = params.text("Description", 2..=256)?.unwrap_or_default();
        let (encrypted, key) = (params.boolean("Encrypted")?, params.optional("KMSKeyId"));
        let tags = params.tags()?;
        params.finish()?;
        named_well(&name, "InvalidDiskName.Malformed")?;
        let zone_id = self.zone_for(context, &region, zone_id, instance_id)?;
        let level = performance(&category, level)?;
        if key.is_some() && encrypted != Some(true) {
            let why = "Encrypted has to be true where a KMSKeyId is given.";
            return Err(ApiError::new(400, "InvalidParameter.EncryptedIllegal", why));
        }
        let snapshot = self.own_snapshot(context, &region, &snapshot_id)?;
        if !snapshot.available() {
            let why = "The specified snapshot has not completed yet.";
            return Err(ApiError::new(403, "InvalidSnapshotId.NotReady", why));
        }
        let least = snapshot.size;
        let size = size.unwrap_or(least);
        if size < least {
            let why = "Specified disk size is less than the size of snapshot.";
            return Err(ApiError::new(403, "InvalidDiskSize.TooSmall", why));
        }
        // A disk that is not there yet has no tags but those of the request.
        for (resource, there) in [
            (context.arn(&region, "snapshot", &snapshot_id), &snapshot.tags),
            (context.arn(&region, "disk", "*"), &Tags::default()),
        ] {
            let asked = Asked { action: "ecs:CreateDisk", resource: &resource, tags: there, sent: &tags };
            context.require_asked(&asked)?;
        }
        let encrypted = snapshot.encrypted || encrypted == Some(true);
        // An encrypted snapshot gives an encrypted disk, by the snapshot's key if by no other.
        let kms_key_id = key.unwrap_or_else(|| snapshot.kms_key_id.clone());
        let disk = Disk {
            id: self.dice.id("d"),
            name,
            description,
            zone_id,
            category,
            performance_level: level,
            size,
            kind: "data".into(),
            encrypted,
            kms_key_id,
            tags,
            ..Disk::default()
        };
        Ok(json!({ "DiskId": self.disk_from(context, &region, &snapshot_id, disk) }))
    }

    /// Begins to make a disk from a snapshot.
    pub(super) fn disk_from(
        &mut self,
        context: &Context,
        region: &str,
        snapshot_id: &str,
        disk: Disk,
    ) -> String {
        let disk_id = disk.id.clone();
        self.add_disk(Disk {
            account_id: context.caller.account_id.clone(),
            region_id: region.into(),
            status: "Creating".into(),
            source_snapshot_id: Some(snapshot_id.into()),
            ..disk
        });
        let snapshot_id = snapshot_id.into();
        self.effects.push(Effect::DiskFromSnapshot { snapshot_id, disk_id: disk_id.clone() });
        disk_id
    }

    /// Where a disk is to be made.
    fn zone_for(
        &self,
        context: &Context,
        region: &str,
        zone_id: Option<String>,
        instance_id: Option<String>,
    ) -> Result<String, ApiError> {
        match (zone_id, instance_id) {
            (Some(zone), None) if zone.starts_with(region) => Ok(zone),
            (Some(zone), None) => Err(ApiError::not_found("ZoneId", &zone)),
            (None, None) => Err(missing("ZoneId")),
            (Some(_), Some(_)) => {
                let why = "ZoneId and InstanceId cannot be given together.";
                Err(ApiError::new(400, "InvalidParameter.Conflict", why))
            }
            // It is for subscription disks, which come attached; here all instances are pay-as-you-go.
            (None, Some(id)) => {
                self.own_instance(context, region, &id)?;
                let why = format!("{id} is no subscription instance.");
                Err(ApiError::new(403, "InvalidPayMethod", why))
            }
        }
    }
}

/// The performance level that a disk of this category gets: only the ESSD family is in the local cloud.
pub(super) fn performance(category: &str, wanted: Option<String>) -> Result<String, ApiError> {
    let malformed = |why: String| Err(ApiError::new(400, "InvalidPerformanceLevel.Malformed", why));
    match (category, wanted) {
        ("cloud_essd", None) => Ok("PL1".into()),
        ("cloud_essd", Some(level)) if ["PL0", "PL1", "PL2", "PL3"].contains(&level.as_str()) => Ok(level),
        ("cloud_essd", Some(level)) => malformed(format!("The PerformanceLevel {level} is not valid.")),
        ("cloud_auto" | "cloud_essd_entry", None) => Ok(String::new()),
        ("cloud_auto" | "cloud_essd_entry", Some(_)) => {
            malformed(format!("A {category} has no PerformanceLevel."))
        }
        _ => {
            let why =
                format!("The disk category {category} is not in the local cloud, but the ESSD family is.");
            Err(ApiError::new(403, "InvalidDataDiskCategory.NotSupported", why))
        }
    }
}

/// Names of disks, images and instances: 2 to 128 characters, a letter first, then letters, digits and `.:_-`.
pub(super) fn named_well(name: &str, code: &str) -> Result<(), ApiError> {
    let good = name.is_empty()
        || (2..=128).contains(&name.chars().count())
            && name.starts_with(char::is_alphabetic)
            && name.chars().all(|c| c.is_alphanumeric() || ".:_-".contains(c));
    if good { Ok(()) } else { Err(ApiError::new(400, code, format!("The name {name:?} is wrongly formed."))) }
}

fn show_disk(d: &Disk) -> Value {
    let attached = d.instance_id.clone().unwrap_or_default();
    let attachments: Vec<Value> =
        d.instance_id.iter().map(|id| json!({ "InstanceId": id, "Device": d.device })).collect();
    json!({
        "DiskId": d.id, "DiskName": d.name, "Description": d.description, "RegionId": d.region_id, "ZoneId": d.zone_id, "Category": d.category, "PerformanceLevel": d.performance_level,
        "Size": d.size, "Status": d.status, "Type": d.kind, "Device": d.device, "SerialNumber": d.serial(),
        "Portable": d.kind == "data", "DeleteWithInstance": d.delete_with_instance, "DiskChargeType": "PostPaid",
        "InstanceId": if d.multi_attach { "" } else { attached.as_str() },
        "Attachments": { "Attachment": attachments },
        "MultiAttach": if d.multi_attach { "Enabled" } else { "Disabled" }, "Encrypted": d.encrypted, "KMSKeyId": d.kms_key_id,
        "SourceSnapshotId": d.source_snapshot_id.clone().unwrap_or_default(),
        "OperationLocks": { "OperationLock": locked(&d.locks) }, "Tags": d.tags.shown(),
    })
}
