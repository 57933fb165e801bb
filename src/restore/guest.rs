//! The scripts for a guest: finding what was attached, mounting it where it belongs.

use super::facts::{Member, Place, in_order};
use super::plan::Step;

/// What every mount step begins with.
const MOUNT: &str = include_str!("mount.sh");

/// How file systems are to be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How<'a> {
    /// Where they were; the guest's own fstab has most likely done it.
    Booted,
    /// Where they were, on an instance that has not known them; of a system disk, and what is not recorded, below this
    /// directory.
    Moved(&'a str),
    /// Below this directory.
    Beside {
        /// The directory.
        dir: &'a str,
        /// The originals are here too.
        same: bool,
    },
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Where something that lay at `path` on this member's disk is found again.
pub fn again(how: How, member: &Member, path: &str) -> String {
    let dir = match how {
        How::Moved(dir) if member.system => dir,
        How::Beside { dir, .. } => dir,
        How::Booted | How::Moved(_) => return path.to_owned(),
    };
    // What is mounted on / has a directory of its own, beside those of the other mount points.
    match member.place(path) {
        Some(place) if place.mount == "/" => format!("{dir}/rootfs{}", path.trim_end_matches('/')),
        _ => format!("{dir}{path}"),
    }
}

/// The step that mounts, on instance `on`; `disks` are the members with the names of their disks there, `-` for one that
/// is found by its file system's UUID alone. None where there is nothing to mount.
pub fn mounts(on: &str, disks: &[(String, &Member)], how: How) -> Option<Step> {
    let mut named: Vec<&str> = disks.iter().map(|(disk, _)| disk.as_str()).collect();
    named.dedup(); // of many `-`
    let copy = matches!(how, How::Beside { .. });
    let (mut lines, mut left) = (Vec::new(), Vec::new());
    let name =
        |member: &Member| disks.iter().find(|(_, one)| one.disk_id == member.disk_id).map(|(disk, _)| disk);
    for (member, Place { mount, kind, uuid }) in in_order(disks.iter().map(|(_, member)| *member)) {
        let Some(disk) = name(member) else { continue };
        if kind == "btrfs" && matches!(how, How::Beside { same: true, .. }) {
            left.push(mount.as_str());
            continue;
        }
        let options = if kind == "xfs" && copy { "rw,nouuid" } else { "rw" };
        let dir = quoted(&again(how, member, mount));
        lines.push(format!("put {disk} {uuid} {kind} {dir} {options}"));
        if matches!(how, How::Moved(_)) && !member.system && uuid != "-" {
            lines.push(format!("keep {uuid} {kind} {dir}"));
        }
    }
    if let How::Moved(dir) | How::Beside { dir, .. } = how {
        let unrecorded = disks.iter().filter(|(_, member)| member.places.is_empty());
        lines.extend(unrecorded.map(|(disk, member)| {
            format!("every {disk} {} rw", quoted(&format!("{dir}/{}", member.disk_id)))
        }));
    }
    if lines.is_empty() && left.is_empty() {
        return None;
    }
    // What shellcheck is told is nothing to whoever pastes it.
    let text: Vec<&str> =
        MOUNT.lines().filter(|line| !line.trim_start().starts_with("# shellcheck")).collect();
    let first = format!("volumes {} {}", if copy { "copy" } else { "own" }, named.join(" "));
    let shell = format!("{}\n{first}\n{}\n", text.join("\n"), lines.join("\n"));
    Some(match how {
        How::Booted => Step::runs(
            "See that everything is mounted",
            "The guest's own fstab mounts it at the start; what it did not mount is mounted now.",
            on,
            shell,
        ),
        How::Moved(_) => Step::runs(
            "Mount the file systems where they were",
            "Mount points, types and UUIDs are those that the snapshots' tags recorded; fstab keeps them.",
            on,
            shell,
        ),
        How::Beside { dir, .. } => {
            let step = Step::runs(
                format!("Mount the copies below {dir}"),
                "By the disks' serials, since UUIDs and LVM's names may now exist twice: XFS takes nouuid, LVM new names.",
                on,
                shell,
            )
            .note(
                "do not restart the instance while both are attached: an fstab line with a UUID may mount the copy in \
                 place of the original; unmount and DetachDisk the copies first, or give them UUIDs of their own \
                 (unmounted: tune2fs -U random, xfs_admin -U generate)",
            );
            match left.is_empty() {
                true => step,
                false => step.note(format!(
                    "not mounted: {}; btrfs must not see two copies of itself, so take another instance: --to INSTANCE",
                    left.join(", ")
                )),
            }
        }
    })
}
