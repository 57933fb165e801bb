//! Custom images: disks of one instance, as snapshots, from which new instances start.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::command::after;
use super::disk::named_well;
use super::params::{Params, invalid};
use super::reply::ApiError;
use super::tag::Tags;
use super::{Asked, Context, Timer, World, seconds};

/// From CreateImage to `Available`, where nothing has to be copied first.
const MAKING: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Image {
    pub(super) account_id: String,
    pub(super) region_id: String,
    name: String,
    description: String,
    platform: String,
    architecture: String,
    created: Timestamp,
    pub(super) available: bool,
    /// The system disk first.
    pub(super) disks: Vec<Mapped>,
    tags: Tags,
}

/// A disk of an image.
#[derive(Debug, Clone)]
pub(super) struct Mapped {
    /// `a` is the system disk's.
    pub(super) letter: char,
    pub(super) snapshot_id: String,
    /// GiB.
    pub(super) size: u64,
}

/// The letter of a device as calls name it: `/dev/xvdb`, or `/dev/vdb`.
pub(super) fn letter(device: &str) -> Option<char> {
    let rest = device.strip_prefix("/dev/xvd").or_else(|| device.strip_prefix("/dev/vd"))?;
    rest.parse().ok().filter(char::is_ascii_lowercase)
}

impl World {
    pub(super) fn create_image(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let single = params.optional("SnapshotId");
        let mappings = params.records("DiskDeviceMapping", &["SnapshotId", "Device", "DiskType", "Size"])?;
        let name = params.optional("ImageName").unwrap_or_default();
        let description = params.text("Description", 2..=256)?.unwrap_or_default();
        let platform = params.optional("Platform").unwrap_or_else(|| "Others Linux".into());
        let architecture =
            params.one_of("Architecture", &["x86_64", "arm64"])?.unwrap_or_else(|| "x86_64".into());
        params.one_of("BootMode", &["BIOS", "UEFI", "UEFI-Preferred"])?; // guests here boot by neither
        let tags = params.tags()?;
        params.finish()?;
        named_well(&name, "InvalidImageName.Malformed")?;
        let own = |image: &&Image| image.account_id == context.caller.account_id && image.region_id == region;
        if !name.is_empty() && self.images.values().filter(own).any(|image| image.name == name) {
            let why = format!("The image name {name} has been used.");
            return Err(ApiError::new(400, "InvalidImageName.Duplicated", why));
        }
        let mut wanted = Vec::new();
        for mut mapping in mappings {
            let mut field = |name: &str| mapping.remove(name).filter(|value| !value.is_empty());
            let id = field("SnapshotId")
                .ok_or_else(|| invalid("DiskDeviceMapping", "the local cloud makes no empty disks"))?;
            wanted.push((id, field("Device"), field("DiskType"), field("Size")));
        }
        wanted.extend(single.map(|id| (id, None, None, None)));
        if wanted.is_empty() {
            let why = "SnapshotId or DiskDeviceMapping is mandatory.";
            return Err(ApiError::new(400, "MissingParameter", why));
        }
        let asked = |resource: &str, there: &Tags| {
            let asked = Asked { action: "ecs:CreateImage", resource, tags: there, sent: &tags };
            context.require_asked(&asked)
        };
        asked(&context.arn(&region, "image", "*"), &Tags::default())?;
        let mut disks: Vec<Mapped> = Vec::new();
        for (id, device, kind, size) in wanted {
            let snapshot = self.own_snapshot(context, &region, &id)?;
            asked(&context.arn(&region, "snapshot", &id), &snapshot.tags)?;
            if snapshot.status != "accomplished" {
                let why = format!("The snapshot {id} has not completed yet.");
                return Err(ApiError::new(403, "InvalidSnapshotId.NotReady", why));
            }
            let system = snapshot.disk_kind == "system";
            match (kind.as_deref(), system) {
                (None, _) | (Some("system"), true) | (Some("data"), false) => {}
                (Some("system"), false) => {
                    let why = "The user is not in the white list of create image by data disk snapshot.";
                    return Err(ApiError::new(403, "UserNotInTheWhiteList", why));
                }
                _ => {
                    let why = format!("The disk type of {id} is not that of its snapshot.");
                    return Err(ApiError::new(400, "InvalidDiskType.ValueNotSupported", why));
                }
            }
            let free = ('b'..='z').find(|one| disks.iter().all(|disk| disk.letter != *one)).unwrap_or('z');
            let letter = match device {
                None => Some(if system { 'a' } else { free }),
                Some(name) => letter(&name).filter(|letter| (*letter == 'a') == system),
            };
            let Some(letter) = letter else {
                let why = format!("The device of {id} is not valid.");
                return Err(ApiError::new(400, "InvalidDevice.Malformed", why));
            };
            let size = size.map_or(Some(snapshot.size), |size| size.parse().ok());
            let Some(size) = size.filter(|size| *size >= snapshot.size) else {
                let why = format!("The size for {id} is beyond the permitted range.");
                return Err(ApiError::new(400, "InvalidSize.ValueNotSupported", why));
            };
            disks.push(Mapped { letter, snapshot_id: id, size });
        }
        let denied = |why: &str| Err(ApiError::new(400, "OperationDenied", why));
        match disks.iter().filter(|disk| disk.letter == 'a').count() {
            0 => return denied("There is no system disk snapshot."),
            1 => {}
            _ => return denied("There are two or more system disk snapshots."),
        }
        disks.sort_by_key(|disk| disk.letter);
        if let Some(pair) = disks.windows(2).find(|pair| pair[0].letter == pair[1].letter) {
            let why = format!("The device of {} has been occupied.", pair[1].snapshot_id);
            return Err(ApiError::new(400, "InvalidDevice.InUse", why));
        }
        let id = self.dice.id("m");
        let image = Image {
            account_id: context.caller.account_id.clone(),
            region_id: region,
            name,
            description,
            platform,
            architecture,
            created: context.now,
            available: false,
            disks,
            tags,
        };
        self.images.insert(id.clone(), image);
        self.arm(after(context.now, MAKING), Timer::ImageMade(id.clone()));
        Ok(json!({ "ImageId": id }))
    }

    pub(super) fn image_made(&mut self, id: &str) {
        if let Some(image) = self.images.get_mut(id) {
            image.available = true;
        }
    }

    /// Whether an image needs the snapshot.
    pub(super) fn is_imaged(&self, snapshot_id: &str) -> bool {
        let has = |image: &Image| image.disks.iter().any(|disk| disk.snapshot_id == snapshot_id);
        self.images.values().any(has)
    }

    pub(super) fn describe_images(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let (id, name) = (params.optional("ImageId"), params.optional("ImageName"));
        let owner = params.one_of("ImageOwnerAlias", &["self", "system", "others", "marketplace"])?;
        let states = ["Creating", "Waiting", "Available", "UnAvailable", "CreateFailed", "Deprecated"];
        let status = params.one_of("Status", &states)?.unwrap_or_else(|| "Available".into());
        let snapshot = params.optional("SnapshotId");
        let tags = params.tags()?;
        let number = params.number("PageNumber")?.unwrap_or(1).max(1) as usize;
        let size = params.number("PageSize")?.unwrap_or(10) as usize;
        params.finish()?;
        if !(1..=100).contains(&size) {
            return Err(invalid("PageSize", "it has to be within 1 and 100"));
        }
        let state = |image: &Image| if image.available { "Available" } else { "Creating" };
        let wanted = |(own, image): &(&String, &Image)| {
            image.account_id == context.caller.account_id
                && image.region_id == region
                && id.as_ref().is_none_or(|ids| ids.split(',').any(|id| id == own.as_str()))
                && name.as_ref().is_none_or(|name| *name == image.name)
                && owner.as_ref().is_none_or(|owner| owner == "self")
                && status == state(image)
                && snapshot.as_ref().is_none_or(|id| image.disks.iter().any(|disk| disk.snapshot_id == *id))
                && image.tags.match_filter(&tags)
                && context.may("ecs:DescribeImages", &context.arn(&region, "image", own), &image.tags)
        };
        let found: Vec<(&String, &Image)> = self.images.iter().filter(wanted).collect();
        let show = |(id, image): &(&String, &Image)| {
            let mapped = |disk: &Mapped| {
                json!({
                    "Device": format!("/dev/xvd{}", disk.letter), "SnapshotId": disk.snapshot_id, "Size": disk.size.to_string(),
                    "Type": if disk.letter == 'a' { "system" } else { "data" }, "Progress": "", "RemainTime": 0,
                })
            };
            json!({
                "ImageId": id, "ImageName": image.name, "Description": image.description, "Status": state(image),
                "Progress": if image.available { "100%" } else { "0%" }, "ImageOwnerAlias": "self", "OSType": "linux",
                "Platform": image.platform, "Architecture": image.architecture, "CreationTime": seconds(image.created),
                "Size": image.disks.first().map(|disk| disk.size), "Tags": image.tags.shown(),
                "DiskDeviceMappings": { "DiskDeviceMapping": image.disks.iter().map(mapped).collect::<Vec<_>>() },
            })
        };
        let shown: Vec<Value> = found.iter().skip((number - 1) * size).take(size).map(show).collect();
        Ok(json!({
            "Images": { "Image": shown }, "TotalCount": found.len(), "PageNumber": number, "PageSize": size, "RegionId": region,
        }))
    }

    pub(super) fn delete_image(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let id = params.required("ImageId")?;
        params.boolean("Force")?; // its instances have disks of their own
        params.finish()?;
        let own = |image: &&Image| image.account_id == context.caller.account_id && image.region_id == region;
        let there = self.images.get(&id).filter(own);
        let tags = there.map(|image| image.tags.clone()).unwrap_or_default();
        context.require_on("ecs:DeleteImage", &context.arn(&region, "image", &id), &tags)?;
        if there.is_none() {
            return Err(ApiError::not_found("ImageId", &id));
        }
        self.images.remove(&id);
        Ok(json!({}))
    }
}
