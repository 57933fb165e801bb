//! What lies on a chosen disk and cannot be frozen, and what can be but is special: squashfs, swap, vfat, FUSE, btrfs.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use common::need;
use victim::{Guest, SOON, codes, whole};

/// `fuse NAME SERIAL` makes a disk with an NTFS under FUSE at /mnt/NAME; its block device is /dev/NAME too.
const NTFS: &str = "fuse() { disk $1 $2; mkntfs -qF $L; mkdir -p /run/dev /run/devwork /mnt/$1; mount -t overlay overlay -o lowerdir=/dev,upperdir=/run/dev,workdir=/run/devwork /dev; ln -s $L /dev/$1; ntfs-3g $L /mnt/$1; }; ";

fn chosen(plan: &mut appsnap::guest::render::Plan) {
    plan.disks.push("d-bp1more".into());
}

#[test]
fn an_image_that_is_mounted_read_only_does_not_spoil_the_freeze() {
    if !need(&["mksquashfs", "fs:squashfs"]) {
        return;
    }
    // As snapd does it: squashfs on a loop device over a file on the disk.
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh(
        "mkdir /run/snap /mnt/snap; echo x >/run/snap/x; mksquashfs /run/snap /mnt/d/core.snap -quiet -no-progress; \
         K=$(losetup -f --show -r /mnt/d/core.snap); mount -t squashfs $K /mnt/snap; losetup -d $K; k=${K##*/}; mkdir /sys/block/$k; ln -s /sys/class/block/$k/dev /sys/class/block/$k/stat /sys/class/block/$k/loop /sys/block/$k",
    );
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    guest.clean(1, "squashfs");
}

#[test]
fn swap_and_an_unmounted_vfat_have_to_stay_quiet() {
    if !need(&["mkswap", "mkfs.vfat"]) {
        return;
    }
    for make in ["mkswap", "mkfs.vfat", "mkfs.ext4 -qF"] {
        for (line, quiet) in
            [("", true), ("dd if=/dev/zero of=/run/raw bs=4k seek=900 count=1 conv=fsync,notrunc", false)]
        {
            let Some(mut guest) = Guest::new(SOON) else { return };
            guest.sh(&format!(
                "disk vdx bp1more; {make} $L; ln -s $L /run/raw; wrap fsfreeze '[ $1 = --unfreeze ] && {line} 2>/dev/null'"
            ));
            guest.shows(&["d-bp1more"]);
            let (told, out) = guest.run(chosen, "");
            assert_eq!(!codes(&told).contains(&"fs.not_quiet"), quiet, "{make} {line}: {out}");
            assert!(whole(&told, 2), "{out}");
            guest.clean(1, make);
        }
    }
}

#[test]
fn a_file_system_that_cannot_be_frozen_has_to_stay_quiet() {
    if !need(&["ntfs-3g", "mkntfs", "fs:fuseblk"]) {
        return;
    }
    for (line, quiet) in [(":", true), ("echo y >/mnt/vdx/y; sync /dev/vdx", false)] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.shows(&["d-bp1more"]);
        guest.sh(&format!("{NTFS} fuse vdx bp1more; wrap fsfreeze '[ $1 = --unfreeze ] && {{ {line}; }}'"));
        let (told, out) = guest.run(chosen, "");
        assert!(whole(&told, 2), "{line}: {out}");
        assert_eq!(codes(&told).contains(&"fs.not_quiet"), !quiet, "{line}: {out}");
        guest.sh("umount /mnt/vdx; umount /dev; sleep 0.2");
        guest.clean(1, line);
    }
}

#[test]
fn what_cannot_be_frozen_is_on_its_disk_before_the_freeze() {
    if !need(&["ntfs-3g", "mkntfs", "fs:fuseblk"]) {
        return;
    }
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("yes in-the-cache-only | head -c 50000 >/mnt/vdx/kept", "");
    guest.sh(&format!(
        "{NTFS} fuse vdx bp1more; wrap fsfreeze '[ $1 = --unfreeze ] && cp /run/w/vdx.img /run/w/copy'"
    ));
    let (told, out) = guest.run(chosen, "");
    assert!(whole(&told, 2) && !codes(&told).contains(&"fs.not_quiet"), "{out}");
    let there = guest.sh("grep -q in-the-cache-only /run/w/copy && echo there");
    assert_eq!(there, "there\n", "the copy lacks what the prescript wrote");
    guest.sh("umount /mnt/vdx; umount /dev; sleep 0.2");
    guest.clean(1, "cache");
}

/// Disks under the kernel's own names: /sys/fs/btrfs knows them by those.
const BTRFS: &str = "truncate() { command truncate -s 200M \"$3\"; }; pool() { for n in 1 2; do disk vd$n bp1b$n; eval L$n=$L; mv /sys/block/vd$n /sys/block/${L##*/}; done; eval mkfs.btrfs -qf $1; mkdir -p /mnt/b; mount $L1 /mnt/b; }; ";

#[test]
fn a_btrfs_is_frozen_once_with_all_its_subvolumes_and_devices() {
    if !need(&["mkfs.btrfs", "fs:btrfs"]) {
        return;
    }
    for (make, disks) in [("-m single $L1", 1), ("-m raid1 $L1 $L2", 2)] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        // A subvolume where it cannot be seen, one where it can, and a writer on it.
        guest.shows(&["d-bp1b1", "d-bp1b2"][..disks]);
        guest.sh(&format!(
            "{BTRFS} pool '{make}'; btrfs subvolume create /mnt/b/sub; mkdir /mnt/s /mnt/hid; mount -o subvol=sub $L1 /mnt/hid; mount -t tmpfs none /mnt/hid; mount -o subvol=sub $L1 /mnt/s; \
             (while sleep 0.01; do date >/mnt/s/now; sync -f /mnt/s; done) >/dev/null 2>&1 & echo $! >/run/load"
        ));
        let more = |plan: &mut appsnap::guest::render::Plan| {
            plan.disks.extend((1..=disks).map(|n| format!("d-bp1b{n}")));
        };
        let (told, out) = guest.run(more, "");
        assert!(codes(&told).is_empty() && whole(&told, 3) && told.visible, "{make}: {out}");
        guest.sh("kill $(cat /run/load); fsfreeze --unfreeze /mnt/b && touch /run/frozen");
        assert_eq!(guest.sh("ls /run/frozen 2>/dev/null"), "");
        guest.clean(1, make);
    }
}

#[test]
fn a_btrfs_that_also_stands_on_a_disk_outside_of_the_group_lowers_the_level() {
    if !need(&["mkfs.btrfs", "fs:btrfs"]) {
        return;
    }
    for disk in ["d-bp1b1", "d-bp1b2"] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.sh(&format!("{BTRFS} pool '-m raid1 $L1 $L2'"));
        let (told, out) = guest.run(|plan| plan.disks.push(disk.into()), "");
        assert!(codes(&told).contains(&"fs.spans") && whole(&told, 3), "{disk}: {out}");
        guest.clean(1, disk);
    }
}
