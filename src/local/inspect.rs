//! Judges a copy of a disk: was its file system at rest when the copy was made, or does its journal have to be replayed?
//!
//! ext4: the feature `needs_recovery`, which a freeze clears (`e2fsck -fn` passes on both and tells nothing). XFS: a
//! freeze leaves a dirty log on purpose: the superblock by itself last, and before it at most the one record whose
//! contents were put in place just before (a writer that was busy until the freeze leaves it). A copy of a live one
//! has more in it, or ends otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::Command;

use super::host::{self, Failure};
use super::store::{self, Filesystem, Store};

/// What an image showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Nothing has to be replayed.
    pub clean: bool,
    /// Why, in a sentence.
    pub evidence: String,
}

/// Judges an image that nobody writes to: a snapshot's.
pub async fn judge(image: &Path, filesystem: Filesystem) -> Result<Verdict, Failure> {
    let (tool, option, read): (_, _, fn(&str) -> Verdict) = match filesystem {
        Filesystem::Ext4 => ("dumpe2fs", "-h", judge_ext4),
        Filesystem::Xfs => ("xfs_logprint", "-t", judge_xfs),
        Filesystem::None => return Err(Failure(format!("{} has no file system to judge", image.display()))),
    };
    let mut command = Command::new(tool);
    command.arg(option).arg(image).env("LC_ALL", "C");
    let output = host::run(command, b"", Duration::from_secs(60)).await?;
    let output = output.checked(&format!("cannot judge {} with {tool}", image.display()))?;
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

fn judge_ext4(superblock: &str) -> Verdict {
    let features = superblock.lines().find_map(|line| line.strip_prefix("Filesystem features:"));
    let (clean, evidence) =
        match features.map(|all| all.split_whitespace().any(|one| one == "needs_recovery")) {
            Some(false) => (true, "needs_recovery is not set: the journal is empty"),
            Some(true) => (false, "needs_recovery is set: the journal has to be replayed"),
            None => (false, "no superblock of ext4 found"),
        };
    Verdict { clean, evidence: evidence.to_owned() }
}

/// Reads what `xfs_logprint -t` prints: tail and head of the log, then what a replay would write.
fn judge_xfs(log: &str) -> Verdict {
    let after = |name: &str| log.split_once(name)?.1.split_whitespace().next();
    let number = |name: &str| after(name)?.parse::<u64>().ok();
    let (Some(tail), Some(head), Some(state)) = (number("log tail:"), number("head:"), after("state:"))
    else {
        return Verdict { clean: false, evidence: "no log of XFS found".to_owned() };
    };
    let place = format!("log tail at block {tail}, head at {head}");
    if state == "<CLEAN>" {
        return Verdict { clean: true, evidence: format!("{place}: the log is clean") };
    }
    // `INO: cnt:3 …` opens an item; a buffer's next line tells its block: 0x0 is the superblock's.
    let items =
        log.lines().filter(|line| line.split_once(": cnt:").is_some_and(|(kind, _)| !kind.contains(' ')));
    let (buffers, others): (Vec<&str>, Vec<&str>) = items.partition(|line| line.starts_with("BUF:"));
    let elsewhere =
        log.lines().filter_map(|line| line.split_once("start blkno:")?.1.split_whitespace().next());
    let elsewhere = elsewhere.filter(|block| *block != "0x0").count();
    let length = number("length:").unwrap_or(u64::MAX);
    let blocks = if head >= tail { head - tail } else { (head + length).saturating_sub(tail) };
    let alone = others.is_empty() && elsewhere == 0 && !buffers.is_empty();
    let clean = alone || blocks <= LAST_RECORDS && ends_with_superblock(log);
    let evidence = match clean {
        true if alone => format!("{place}: nothing in the log but the superblock, as a freeze leaves it"),
        true => format!(
            "{place}: the superblock last, by itself, and one record before it, as a freeze leaves it"
        ),
        false => format!(
            "{place}: {} inodes and other items and {elsewhere} buffers have to be replayed",
            others.len()
        ),
    };
    Verdict { clean, evidence }
}

/// Two small records: what a freeze puts in place last, and the superblock.
const LAST_RECORDS: u64 = 4;

/// Whether the last record holds the superblock and nothing else.
fn ends_with_superblock(log: &str) -> bool {
    let last = log.rsplit("LOG REC AT LSN").next().unwrap_or_default();
    let mut items = last.lines().filter(|line| line.contains(": cnt:"));
    let blocks: Vec<&str> = last
        .lines()
        .filter_map(|line| line.split_once("start blkno:")?.1.split_whitespace().next())
        .collect();
    items.all(|line| line.starts_with("BUF:")) && blocks == ["0x0"]
}

/// A scratch copy of an image, mounted; [`Mounted::unmount`] it.
#[derive(Debug)]
pub struct Mounted {
    store: Arc<Store>,
    name: String,
}

static COPIES: AtomicU64 = AtomicU64::new(0);

/// Clones an image and mounts the clone: with `replay` as a restored disk would be, else read-only and without looking
/// at the journal, so that only what was at rest shows.
pub async fn mount(
    store: &Arc<Store>,
    image: &Path,
    filesystem: Filesystem,
    replay: bool,
) -> Result<Mounted, Failure> {
    let name = format!("copy-{}", COPIES.fetch_add(1, Ordering::Relaxed));
    store::clone(image, &store.scratch(&format!("{name}.img")))?;
    let options = match (filesystem, replay) {
        (Filesystem::Xfs, true) => "nouuid", // it may be next to its original
        (Filesystem::Xfs, false) => "ro,norecovery,nouuid",
        (_, true) => "rw",
        (_, false) => "ro,noload",
    };
    let mounted = Mounted { store: store.clone(), name };
    let at = mounted.inside();
    let script = r#"mkdir "$1" && loop=$(losetup --find --show "$1.img") || exit
        mount -t "$2" -o "$3" "$loop" "$1"; code=$?
        losetup --detach "$loop" # it goes with its mount
        exit "$code""#;
    let done = store.inside(script, &[&at, filesystem.name(), options]).await?;
    match done.checked(&format!("cannot mount a copy of {}", image.display())) {
        Ok(_) => Ok(mounted),
        Err(failure) => {
            let _ = mounted.unmount().await;
            Err(failure)
        }
    }
}

impl Mounted {
    fn inside(&self) -> String {
        self.store.inner_top().join("scratch").join(&self.name).display().to_string()
    }

    /// A path in the copy, as this process can open it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.store.scratch(&self.name).join(relative.trim_start_matches('/'))
    }

    /// Unmounts and deletes the copy.
    pub async fn unmount(self) -> Result<(), Failure> {
        let script =
            r#"if grep -q " $1 " /proc/self/mountinfo; then umount "$1" || exit; fi; rm -rf "$1" "$1.img""#;
        self.store.inside(script, &[&self.inside()]).await?.checked("cannot unmount a copy").map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROZEN: &str = "    log tail: 898 head: 902 state: <DIRTY>\n\nLOG REC AT LSN cycle 1 block 898 (0x1, 0x382)\n\
        TRANS: tid:0x839657b2  #items:2  trans:0x839657b2  q:0x55e3a9466a80\n\
        BUF: cnt:2 total:2 a:0x55e3a9452ba0 len:24 a:0x55e3a9466b00 len:384 \n\
        \tBUF:  #regs:2   start blkno:0x0   len:1   bmap size:1   flags:0x9000\n\tSUPER Block Buffer:\n";

    #[test]
    fn a_frozen_xfs_log_holds_only_the_superblock() {
        assert!(judge_xfs(FROZEN).clean);
        let inode = "INO: cnt:2 total:2 a:0x564da26ddd90 len:56 a:0x564da26f1cf0 len:176 \n";
        assert!(!judge_xfs(&format!("{FROZEN}{inode}")).clean);
        assert!(!judge_xfs(&FROZEN.replace("blkno:0x0 ", "blkno:0x80 ")).clean);
        assert!(!judge_xfs("    log tail: 2 head: 886 state: <DIRTY>\n").clean);
        assert!(judge_xfs("    log tail: 2 head: 2 state: <CLEAN>\n").clean);
        assert!(!judge_xfs("xfs_logprint: /dev/zero is not XFS\n").clean);
    }

    /// As seen of a file system that was frozen under a busy writer.
    const BUSY: &str = "    log device: 0xffffffffffffffff daddr: 327728 length: 131072\n\n    log tail: 15 head: 19 state: <DIRTY>\n\n\
        LOG REC AT LSN cycle 1 block 15 (0x1, 0xf)\nTRANS: tid:0x76e03d63  #items:2  trans:0x76e03d63  q:0x55d0b7cc8990\n\
        INO: cnt:2 total:2 a:0x55d0b7cb6d90 len:56 a:0x55d0b7cc8a10 len:176 \n\tINODE: #regs:2   ino:0x83  flags:0x1   dsize:0\n\n\
        LOG REC AT LSN cycle 1 block 17 (0x1, 0x11)\nTRANS: tid:0xb4e8e4bc  #items:2  trans:0xb4e8e4bc  q:0x55d0b7cc8990\n\
        BUF: cnt:2 total:2 a:0x55d0b7cb6ba0 len:24 a:0x55d0b7cc8b10 len:384 \n\
        \tBUF:  #regs:2   start blkno:0x0   len:1   bmap size:1   flags:0x9000\n\tSUPER Block Buffer:\n";

    #[test]
    fn a_freeze_under_a_busy_writer_leaves_one_record_before_the_superblock() {
        assert!(judge_xfs(BUSY).clean, "{:?}", judge_xfs(BUSY));
        assert!(!judge_xfs(&BUSY.replace("tail: 15", "tail: 13")).clean, "more than two records");
        assert!(judge_xfs(&BUSY.replace("tail: 15 head: 19", "tail: 131070 head: 2")).clean, "round the end");
        assert!(!judge_xfs(&BUSY.replace("blkno:0x0 ", "blkno:0x80 ")).clean, "it ends otherwise");
        assert!(!judge_xfs(&format!("{BUSY}INO: cnt:2 total:2 a:0x1 len:56 a:0x2 len:176 \n")).clean);
    }

    #[test]
    fn ext4_is_judged_by_needs_recovery() {
        assert!(judge_ext4("Filesystem features:      has_journal extent 64bit\n").clean);
        assert!(!judge_ext4("Filesystem features:      has_journal needs_recovery extent\n").clean);
        assert!(!judge_ext4("").clean);
    }
}
