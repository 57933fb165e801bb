//! What a plan is made of: the group, its snapshots, and what is left of disks and instance.

use std::collections::{BTreeMap, BTreeSet};

use super::said::tags_of;
use crate::api::ecs::{Disk, Instance, Snapshot, SnapshotGroup};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Where.
    pub region_id: String,
    /// The group.
    pub group: SnapshotGroup,
    /// Its members by themselves; those deleted, or not to be seen, are missing.
    pub snapshots: Vec<Snapshot>,
    /// Those source disks that are still there, wherever they are attached.
    pub disks: Vec<Disk>,
    /// The instance that they were of, if it is still there, with what is attached to it now.
    pub instance: Option<Machine>,
    /// The instance that is named to take them.
    pub to: Option<Machine>,
}

/// An instance and its disks.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The instance.
    pub instance: Instance,
    /// What is attached to it.
    pub disks: Vec<Disk>,
}

impl Machine {
    /// `i-…`
    pub fn id(&self) -> &str {
        &self.instance.instance_id
    }
}

/// What the operator asks for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The copy beside what is there, which stays as it is.
    pub beside: bool,
    /// Where copies are mounted beside.
    pub mount_under: String,
    /// Makes names and ClientTokens of one plan its own.
    pub nonce: String,
    /// How the engine is started, if not by its systemd unit.
    pub start: Option<String>,
    /// For a new instance: its InstanceType.
    pub instance_type: Option<String>,
    /// Its VSwitchId.
    pub vswitch: Option<String>,
    /// Its SecurityGroupId.
    pub security_group: Option<String>,
}

/// Where a file system was mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Mount point.
    pub mount: String,
    /// `ext4`, `xfs`, …
    pub kind: String,
    /// Of the file system; `-` where it is not known.
    pub uuid: String,
}

/// One snapshot to bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `s-…`
    pub snapshot_id: String,
    /// The disk that it is of.
    pub disk_id: String,
    /// Of the system disk.
    pub system: bool,
    /// GiB.
    pub size: i64,
    /// Whether its upload is over.
    pub accomplished: bool,
    /// Whether disks can be made from it already.
    pub available: bool,
    /// A disk made from it is encrypted too.
    pub encrypted: bool,
    /// By this key of KMS; empty: by the service's own.
    pub kms_key_id: String,
    /// What was mounted from it, as far as it is recorded.
    pub places: Vec<Place>,
    /// The record was cut at a tag's 128 characters.
    pub cut: bool,
}

impl Member {
    /// Which of its file systems a path lies on: the deepest mount point above it.
    pub fn place(&self, path: &str) -> Option<&Place> {
        let above = |mount: &str| mount == "/" || path == mount || path.starts_with(&format!("{mount}/"));
        self.places.iter().filter(|place| above(&place.mount)).max_by_key(|place| place.mount.len())
    }
}

/// A tag's value may have so many characters.
const TAG: usize = 128;
/// Of a UUID in full.
const UUID: usize = 36;

impl Facts {
    /// The members that are shown, in the order in which they have to be attached: the system disk, then by the device's
    /// name where the disk still tells it, then as the group has them.
    pub fn members(&self) -> Vec<Member> {
        let mut members: Vec<(String, Member)> = self
            .group
            .snapshots
            .iter()
            .filter_map(|shown| {
                let own = self.snapshots.iter().find(|one| one.snapshot_id == shown.snapshot_id)?;
                let tags = tags_of(&self.group, &self.snapshots, &own.snapshot_id);
                let born = format!("appsnap:mount:{}", own.source_disk_id);
                let born = self.group.tags.iter().find(|tag| tag.key == born).map(|tag| tag.value.as_str());
                let place = tags.get("appsnap:mount").map(String::as_str).or(born).unwrap_or_default();
                let (places, cut) = places(place);
                let device = self.disks.iter().find(|disk| disk.disk_id == own.source_disk_id);
                let device = device.map(|disk| disk.device.clone()).unwrap_or_default();
                let system = own.source_disk_type == "system";
                // `/dev/xvdz` comes before `/dev/xvdaa`; without a name last.
                let order =
                    if device.is_empty() { "~".into() } else { format!("{:03}{device}", device.len()) };
                let order = if system { String::new() } else { order };
                Some((
                    order,
                    Member {
                        snapshot_id: own.snapshot_id.clone(),
                        disk_id: own.source_disk_id.clone(),
                        system,
                        size: own.source_disk_size.parse().unwrap_or_default(),
                        accomplished: own.status == "accomplished",
                        available: own.available || own.status == "accomplished",
                        encrypted: own.encrypted,
                        kms_key_id: own.kms_key_id.clone(),
                        places,
                        cut,
                    },
                ))
            })
            .collect();
        members.sort_by(|a, b| a.0.cmp(&b.0));
        members.into_iter().map(|(_, member)| member).collect()
    }

    /// The source disk, if it is still there.
    pub fn disk(&self, disk_id: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.disk_id == disk_id)
    }

    /// Disks that the group was born with, and of which no snapshot is shown.
    pub fn missing(&self) -> Vec<String> {
        missing(&self.group, &self.snapshots)
    }
}

/// Disks that a group was born with, by its tags and its list, and of which no snapshot is shown.
pub fn missing(group: &SnapshotGroup, snapshots: &[Snapshot]) -> Vec<String> {
    let shown = |id: &str| snapshots.iter().any(|one| one.snapshot_id == id);
    let there = group.snapshots.iter().filter(|one| shown(&one.snapshot_id));
    let there: BTreeSet<&str> = there.map(|one| one.source_disk_id.as_str()).collect();
    let named = group.tags.iter().filter_map(|tag| tag.key.strip_prefix("appsnap:mount:"));
    let listed = group.snapshots.iter().map(|one| one.source_disk_id.as_str());
    let all: BTreeSet<&str> = named.chain(listed).collect();
    all.difference(&there).map(|id| id.to_string()).collect()
}

/// What the tag `appsnap:mount` says, and whether it was cut.
fn places(text: &str) -> (Vec<Place>, bool) {
    let full = text.chars().count() >= TAG;
    let (mut found, mut cut) = (Vec::new(), full);
    for entry in text.split(", ").filter(|entry| !entry.is_empty()) {
        let mut words = entry.rsplitn(3, ' ');
        let place = match (words.next(), words.next(), words.next()) {
            (Some(uuid), Some(kind), Some(mount)) => place(&unescaped(mount), kind, uuid),
            _ => None,
        };
        cut |= place.is_none();
        found.extend(place);
    }
    // Of the last one the end may be missing.
    if full && found.last().is_some_and(|last| last.uuid.len() < UUID) {
        found.pop();
    }
    (found, cut)
}

/// Whoever may tag snapshots writes what becomes words of a script that root runs.
fn place(mount: &str, kind: &str, uuid: &str) -> Option<Place> {
    // No dot: for `fuse.NAME` mount would run a program NAME.
    let word =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let good = is_path(mount) && word(kind) && word(uuid);
    good.then(|| Place { mount: mount.into(), kind: kind.into(), uuid: uuid.into() })
}

/// Whether a text out of a tag is an absolute path that stays where it begins, is one line, and is no name of a plan's.
pub fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.split('/').all(|part| part != "..")
        && !text.contains("${")
        && !text.chars().any(char::is_control)
}

/// As mountinfo writes what would end a word.
fn unescaped(mount: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(mount.to_owned(), |text, (octal, plain)| text.replace(octal, plain))
}

/// All places of these members, outer mount points first, with the disk of each.
pub fn in_order<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<(&'a Member, &'a Place)> {
    let places =
        members.into_iter().flat_map(|member| member.places.iter().map(move |place| (member, place)));
    let all: BTreeMap<&str, (&Member, &Place)> = places.map(|one| (one.1.mount.as_str(), one)).collect();
    all.into_values().collect()
}
