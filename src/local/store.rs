//! The store: disks and snapshots as image files on one sparse XFS with reflinks, on a loop device that is mounted only
//! in the reaper's mount namespace.
//!
//! A snapshot is one FICLONE of the whole image: atomic for whoever writes to it, a few milliseconds at any size. Disks
//! are on loop devices with direct I/O, so that what a guest has flushed is in the image.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::host::{self, Failure, Output};
use super::reaper::{self, Reaper};
use super::sweep;
use crate::clock::Clock;

/// What a guest of the local cloud needs on this machine.
pub const TOOLS: [&str; 18] = [
    "sh",
    "awk",
    "mkfs.xfs",
    "mkfs.ext4",
    "dumpe2fs",
    "xfs_logprint",
    "xfs_io",
    "mount",
    "umount",
    "losetup",
    "fsfreeze",
    "nsenter",
    "unshare",
    "setsid",
    "pivot_root",
    "chroot",
    "truncate",
    "grep",
];

/// A disk's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// ext4.
    Ext4,
    /// XFS; at least 300 MiB.
    Xfs,
    /// A raw disk.
    None,
}

impl Filesystem {
    /// As mount(8) names it; `-` for none.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::None => "-",
        }
    }
}

/// Disks and snapshots of one local cloud. Call [`Store::close`] at the end; if nobody does, the reaper cleans up
/// as soon as this value is dropped or the process dies.
#[derive(Debug)]
pub struct Store {
    state: PathBuf,
    reaper: Reaper,
    /// Guests start and stop one at a time: a starting one holds copies of all mounts for a moment.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Store {
    /// Sweeps what dead owners left under `base` (default `/var/tmp`), then makes a store of `size_mib` (sparse, so
    /// larger than the disk is fine; at least 300).
    pub async fn create(base: Option<&Path>, size_mib: u64) -> Result<Self, Failure> {
        let lacking = host::missing(&TOOLS);
        if !lacking.is_empty() {
            return Err(Failure(format!(
                "the local cloud needs {} (packages util-linux, e2fsprogs, xfsprogs)",
                lacking.join(", ")
            )));
        }
        let base = base.unwrap_or(Path::new("/var/tmp"));
        sweep::sweep(base).await?;
        let state = make_state(base)?;
        match Reaper::start(&state, size_mib).await {
            Ok(reaper) => {
                let store = Self { state, reaper, turn: tokio::sync::Mutex::new(()) };
                for kind in ["disks", "snapshots", "scratch"] {
                    let path = store.top().join(kind);
                    std::fs::create_dir(&path).map_err(|error| at("make", &path, &error))?;
                }
                Ok(store)
            }
            Err(failure) => {
                let _ = std::fs::remove_dir_all(&state); // nothing is mounted below it on our side
                Err(failure)
            }
        }
    }

    /// Where everything of this local cloud lies, as the host sees it.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The process that holds the mount namespace.
    pub fn reaper(&self) -> u32 {
        self.reaper.pid()
    }

    /// A path of the reaper's namespace, as this process can open it.
    pub(super) fn outside(&self, inside: &Path) -> PathBuf {
        let inside = inside.strip_prefix("/").unwrap_or(inside);
        Path::new("/proc").join(self.reaper().to_string()).join("root").join(inside)
    }

    /// The store's directory, as seen inside. The state's name comes twice, for the sake of the sweep (see reaper.sh).
    pub(super) fn inner_top(&self) -> PathBuf {
        self.state.join("store").join(self.state.file_name().unwrap_or_default())
    }

    /// The image of a disk, as seen inside.
    pub(super) fn inner_disk(&self, disk_id: &str) -> PathBuf {
        self.inner_top().join("disks").join(format!("{disk_id}.img"))
    }

    fn top(&self) -> PathBuf {
        self.outside(&self.inner_top())
    }

    /// The image of a disk, as this process can open it.
    pub fn disk(&self, disk_id: &str) -> PathBuf {
        self.outside(&self.inner_disk(disk_id))
    }

    /// The image of a snapshot, as this process can open it.
    pub fn snapshot(&self, snapshot_id: &str) -> PathBuf {
        self.top().join("snapshots").join(format!("{snapshot_id}.img"))
    }

    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.top().join("scratch").join(name)
    }

    /// Makes an empty disk with a file system on it (sparse).
    pub async fn create_disk(
        &self,
        disk_id: &str,
        size_mib: u64,
        filesystem: Filesystem,
    ) -> Result<(), Failure> {
        let path = named(disk_id, self.disk(disk_id))?;
        let file = new_file(&path)?;
        file.set_len(size_mib << 20).map_err(|error| at("size", &path, &error))?;
        let mut command = match filesystem {
            Filesystem::None => return Ok(()),
            Filesystem::Ext4 => Command::new("mkfs.ext4"),
            Filesystem::Xfs => Command::new("mkfs.xfs"),
        };
        match filesystem {
            Filesystem::Ext4 => command.args(["-q", "-F", "-b", "4096", "-E", "nodiscard"]),
            _ => command.args(["-q", "-K"]),
        };
        command.arg(&path);
        let made = host::run(command, b"", Duration::from_secs(60)).await.and_then(|output| {
            output.checked(&format!("cannot make {} on disk {disk_id} of {size_mib} MiB", filesystem.name()))
        });
        if made.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        made.map(|_| ())
    }

    /// Takes a snapshot of a disk: one atomic clone of its image, whoever writes to it or has it frozen.
    pub fn take_snapshot(&self, disk_id: &str, snapshot_id: &str) -> Result<(), Failure> {
        clone(&named(disk_id, self.disk(disk_id))?, &named(snapshot_id, self.snapshot(snapshot_id))?)
    }

    /// Makes a disk from a snapshot.
    pub fn disk_from_snapshot(&self, snapshot_id: &str, disk_id: &str) -> Result<(), Failure> {
        clone(&named(snapshot_id, self.snapshot(snapshot_id))?, &named(disk_id, self.disk(disk_id))?)
    }

    /// Makes a disk, which no guest runs with, what the snapshot is; it is the one or the other at any moment.
    pub fn reset_disk(&self, disk_id: &str, snapshot_id: &str) -> Result<(), Failure> {
        let (disk, new) = (named(disk_id, self.disk(disk_id))?, self.disk(&format!("{disk_id}-new")));
        clone(&named(snapshot_id, self.snapshot(snapshot_id))?, &new)?;
        std::fs::rename(&new, &disk).map_err(|error| at("reset", &disk, &error))
    }

    /// Deletes a disk's image. A guest that has it goes on with the deleted file until it stops.
    pub fn delete_disk(&self, disk_id: &str) -> Result<(), Failure> {
        remove(&named(disk_id, self.disk(disk_id))?)
    }

    /// Deletes a snapshot.
    pub fn delete_snapshot(&self, snapshot_id: &str) -> Result<(), Failure> {
        remove(&named(snapshot_id, self.snapshot(snapshot_id))?)
    }

    /// Runs a script of sh in the store's mount namespace, at most 30 s.
    pub(super) async fn inside(&self, script: &str, args: &[&str]) -> Result<Output, Failure> {
        let mut command = enter(self.reaper());
        command.args(["sh", "-c", script, "appsnap-store"]).args(args);
        host::run(command, b"", Duration::from_secs(30)).await
    }

    /// All disks stall for so long (25 s at most), as a cloud disk does on a bad day: whoever writes waits. Returns when
    /// they go on. What lets them go on is under way before, in a process that does not need this one.
    pub async fn stall(&self, length: Duration) -> Result<(), Failure> {
        let script = r#"cd "$1" || exit; (sleep "$2"; fsfreeze --unfreeze .) & fsfreeze --freeze .; code=$?; wait; exit $code"#;
        let top = self.inner_top().display().to_string();
        let length = length.min(Duration::from_secs(25)).as_secs_f64().to_string();
        self.inside(script, &[&top, &length]).await?.checked("the disks do not stall").map(|_| ())
    }

    /// Ends all guests (frozen ones too), unmounts, detaches and removes everything. The store is of no use afterwards.
    pub async fn close(&self) -> Result<(), Failure> {
        self.reaper.finish().await;
        if self.state.exists() {
            reaper::sweep(&self.state).await?; // the reaper itself was killed
        }
        match self.state.exists() {
            true => Err(Failure(format!("cannot clean up {}: see `losetup -l`", self.state.display()))),
            false => Ok(()),
        }
    }
}

/// A command that will run in the mount namespace of process `pid`.
pub(super) fn enter(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--mount=/proc/{pid}/ns/mnt")).arg("--");
    command
}

/// Made under another name and renamed, so that no sweep ever sees one without its owner.
fn make_state(base: &Path) -> Result<PathBuf, Failure> {
    let random = &Clock::system().nonce()[..12]; // also under a seeded clock two stores never share a name
    let (new, state) =
        (base.join(format!(".appsnap-{random}")), base.join(format!("{}{random}", sweep::PREFIX)));
    std::fs::DirBuilder::new().mode(0o700).create(&new).map_err(|error| at("make", &new, &error))?;
    let owner = sweep::owner(std::process::id()).unwrap_or_default();
    std::fs::write(new.join("owner"), owner).map_err(|error| at("write", &new, &error))?;
    std::fs::rename(&new, &state).map_err(|error| at("make", &state, &error))?;
    Ok(state)
}

fn at(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure(format!("cannot {what} {}: {error}", path.display()))
}

/// Ids become file names.
fn named(id: &str, path: PathBuf) -> Result<PathBuf, Failure> {
    let fine = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fine {
        Ok(path)
    } else {
        Err(Failure(format!("{id:?} is no id: letters, digits and hyphens, at most 64")))
    }
}

fn new_file(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| at("make", path, &error))
}

/// Clones a whole image at once.
pub(super) fn clone(from: &Path, to: &Path) -> Result<(), Failure> {
    let source = File::open(from).map_err(|error| at("read", from, &error))?;
    let target = new_file(to)?;
    rustix::fs::ioctl_ficlone(&target, &source).map_err(|error| {
        let _ = std::fs::remove_file(to);
        at("clone", from, &error.into())
    })
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path).map_err(|error| at("delete", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_the_store() {
        for id in ["", "../x", "a/b", "a b", "ü", &"x".repeat(65)] {
            assert!(named(id, PathBuf::new()).is_err(), "{id:?}");
        }
        assert!(named("d-bp1abc", PathBuf::new()).is_ok());
    }
}
