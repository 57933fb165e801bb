//! The sequence's walk from disk to mount, on recorded trees: what a test machine's kernel cannot have (NVMe, LVM, md,
//! multipath, NFS) is walked in a copy of /sys and /proc. It needs no root and skips nothing.
#![allow(clippy::disallowed_methods)] // one test measures real time

#[path = "common/tree.rs"]
mod tree;

use std::time::{Duration, Instant};

use appsnap::guest::render;
use appsnap::guest::told::Told;
use tree::Tree;

/// What `find` tells of the disks, under each shell that is here.
fn find(tree: &Tree, disks: &str) -> Told {
    let data = "RUN=t1 POLICY=p WANT=filesystem MIN=crash PRE= POST= LIMIT=10 FREEZE=1 WINDOW=5 THAWON=visible \
                VISTIME=3 TOTAL=60 CA= SEQUENCE=x";
    let runs = tree.run("find", &render::sequence(), &format!("{data} DISKS='{disks}'\n"));
    let told = runs.into_iter().map(|(shell, text, log)| {
        assert_eq!(log, "", "{shell}: the sequence said something on its error output");
        assert!(text.len() < 24 * 1024, "{shell}: the cloud would cut {} bytes", text.len());
        let mut told = Told::read(&text).unwrap_or_else(|| panic!("{shell}: {text}"));
        told.steps.clear(); // times differ
        (shell, told)
    });
    let told: Vec<_> = told.collect();
    for (shell, again) in &told {
        assert_eq!(*again, told[0].1, "{shell}");
    }
    told[0].1.clone()
}

fn mounts(told: &Told) -> Vec<(&str, &str)> {
    told.file_systems.iter().map(|fs| (fs.disk_id.as_str(), fs.mount.as_str())).collect()
}

fn codes(told: &Told) -> Vec<&str> {
    told.reasons.iter().map(|(code, _)| code.as_str()).collect()
}

#[test]
fn an_nvme_disk_is_known_by_its_controllers_serial_and_its_partitions_are_found() {
    let tree = Tree::new();
    tree.device("nvme0n1", "259:0");
    tree.file("sys/block/nvme0n1/device/serial", "bp1system00000000000\n");
    tree.device("nvme1n1", "259:1");
    tree.file("sys/block/nvme1n1/device/serial", "bp1data0000000000000\n");
    tree.device("nvme1n1/nvme1n1p1", "259:2");
    tree.mounts(&[("259:0", "ext4", "/dev/nvme0n1", "/"), ("259:2", "xfs", "/dev/nvme1n1p1", "/data")]);
    let told = find(&tree, "d-bp1data0000000000000");
    assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1data0000000000000", "/data")], vec![]));
    let told = find(&tree, "d-bp1nowhere0000000000");
    assert_eq!(codes(&told), ["disk.not_found"]);
}

fn lvm() -> Tree {
    let tree = Tree::new();
    for (disk, dev, serial) in [("vdb", "253:16", "bp1one"), ("vdc", "253:32", "bp1two")] {
        tree.device(disk, dev);
        tree.file(&format!("sys/block/{disk}/serial"), serial); // virtio: without a newline
        tree.stack(disk, "dm-0");
    }
    tree.device("dm-0", "252:0");
    tree.mounts(&[("252:0", "xfs", "/dev/mapper/vg-lv", "/db")]);
    tree
}

#[test]
fn a_logical_volume_over_two_disks_is_frozen_once() {
    let told = find(&lvm(), "d-bp1one d-bp1two");
    assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1one", "/db")], vec![]));
}

#[test]
fn a_volume_that_also_stands_on_a_disk_outside_of_the_group_lowers_the_level() {
    let told = find(&lvm(), "d-bp1two");
    assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1two", "/db")], vec!["fs.spans"]));
}

#[test]
fn an_md_mirror_on_partitions_is_followed() {
    let tree = Tree::new();
    let parts =
        [("vdb", "vdb1", "253:16", "253:17", "bp1one"), ("vdc", "vdc1", "253:32", "253:33", "bp1two")];
    for (disk, part, dev, part_dev, serial) in parts {
        tree.device(disk, dev);
        tree.file(&format!("sys/block/{disk}/serial"), serial);
        tree.device(&format!("{disk}/{part}"), part_dev);
        tree.stack(&format!("{disk}/{part}"), "md0");
    }
    tree.device("md0", "9:0");
    tree.mounts(&[("9:0", "ext4", "/dev/md0", "/mirror")]);
    let told = find(&tree, "d-bp1one d-bp1two");
    assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1one", "/mirror")], vec![]));
    assert_eq!(codes(&find(&tree, "d-bp1one")), ["fs.spans"]);
}

#[test]
fn both_paths_of_a_multipath_disk_are_one_disk() {
    let tree = Tree::new();
    for (path, dev) in [("sda", "8:0"), ("sdb", "8:16")] {
        tree.device(path, dev);
        tree.file(&format!("sys/block/{path}/device/wwid"), "t10.ALIYUN  CLOUDDISK bp1multi\n");
        tree.stack(path, "dm-3");
    }
    tree.device("dm-3", "252:3");
    tree.mounts(&[("252:3", "ext4", "/dev/mapper/mpatha", "/san")]);
    let told = find(&tree, "d-bp1multi");
    assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1multi", "/san")], vec![]));
}

#[test]
fn a_network_file_system_elsewhere_is_a_note_and_a_shared_one_on_a_chosen_disk_refuses() {
    let tree = Tree::new();
    tree.device("vdb", "253:16");
    tree.file("sys/block/vdb/serial", "bp1one\n");
    tree.mounts(&[("253:16", "ext4", "/dev/vdb", "/data"), ("0:50", "nfs4", "10.0.0.1:/share", "/nas")]);
    let told = find(&tree, "d-bp1one");
    assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1one", "/data")], vec![]));
    assert_eq!(told.notes[0].0, "fs.network");
    tree.mounts(&[("253:16", "gfs2", "/dev/vdb", "/shared")]);
    let told = find(&tree, "d-bp1one");
    assert_eq!(codes(&told), ["fs.shared"]);
}

#[test]
fn an_ordinary_uefi_system_disk_is_no_drama() {
    let tree = Tree::new();
    tree.device("vda", "253:0");
    tree.file("sys/block/vda/serial", "bp1sys");
    for (part, dev) in [("vda/vda1", "253:1"), ("vda/vda2", "253:2"), ("vda/vda3", "253:3")] {
        tree.device(part, dev);
    }
    tree.mounts(&[("253:3", "ext4", "/dev/vda3", "/"), ("253:1", "vfat", "/dev/vda1", "/boot/efi")]);
    let told = find(&tree, "d-bp1sys");
    assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1sys", "/")], vec![]));
}

#[test]
fn a_btrfs_is_found_by_each_of_its_devices_and_by_a_volumes_name() {
    let tree = lvm();
    tree.file("sys/class/block/dm-0/dm/name", "vg-lv\n");
    tree.device("vdd", "253:48");
    tree.file("sys/block/vdd/serial", "bp1three\n");
    for device in ["dm-0", "vdd"] {
        tree.file(&format!("sys/fs/btrfs/0c5e/devices/{device}"), "");
    }
    for source in ["/dev/mapper/vg-lv", "/dev/vdd"] {
        tree.mounts(&[("0:40", "btrfs", source, "/pool"), ("0:41", "tmpfs", "/dev/vdd", "/tmp")]);
        let told = find(&tree, "d-bp1one d-bp1two d-bp1three");
        assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1one", "/pool")], vec![]), "{source}");
        let told = find(&tree, "d-bp1three");
        assert_eq!((mounts(&told), codes(&told)), (vec![("d-bp1three", "/pool")], vec!["fs.spans"]));
    }
    // Mounted, but not here: /sys shows it in every mount namespace.
    tree.mounts(&[]);
    assert_eq!(codes(&find(&tree, "d-bp1one d-bp1two d-bp1three")), ["fs.namespace", "fs.namespace"]);
}

#[test]
fn what_stands_on_top_is_frozen_first_and_the_root_last() {
    let tree = Tree::new();
    tree.device("vda", "253:0");
    tree.file("sys/block/vda/serial", "bp1sys");
    tree.device("loop0", "7:0");
    tree.file("sys/block/loop0/loop/backing_file", "/srv/images/disk.img\n");
    tree.device("vdb", "253:16");
    tree.file("sys/block/vdb/serial", "bp1one");
    tree.mounts(&[
        ("253:0", "ext4", "/dev/vda", "/"),
        ("253:16", "xfs", "/dev/vdb", "/srv"),
        ("7:0", "ext4", "/dev/loop0", "/mnt"),
        ("253:16", "xfs", "/dev/vdb", "/a/very/long/bind/mount"),
    ]);
    let told = find(&tree, "d-bp1sys d-bp1one");
    let order: Vec<&str> = told.file_systems.iter().map(|fs| fs.mount.as_str()).collect();
    assert_eq!((order, codes(&told)), (vec!["/mnt", "/srv", "/"], vec![]));
}

#[test]
fn an_image_is_found_under_a_mount_point_with_blanks() {
    for (at, file, found) in [
        (r"/srv/my\040\134images", r"/srv/my \images/disk.img", 2),
        (r"/srv/my\040images", "/srv/my other/disk.img", 1),
        (r"/srv/my\040images", "/srv/disk.img", 1),
    ] {
        let tree = Tree::new();
        tree.device("loop0", "7:0");
        tree.file("sys/block/loop0/loop/backing_file", &format!("{file}\n"));
        tree.device("vdb", "253:16");
        tree.file("sys/block/vdb/serial", "bp1one");
        tree.mounts(&[
            ("253:0", "ext4", "/dev/vda", "/"),
            ("253:16", "xfs", "/dev/vdb", at),
            ("7:0", "ext4", "/dev/loop0", "/mnt"),
        ]);
        let told = find(&tree, "d-bp1one");
        assert_eq!((told.file_systems.len(), codes(&told)), (found, vec![]), "{file}");
    }
}

#[test]
fn shares_by_the_hundred_do_not_fill_the_answer() {
    let tree = Tree::new();
    tree.device("vda", "253:0");
    tree.file("sys/block/vda/serial", "bp1sys");
    let shares: Vec<String> = (0..400).map(|n| format!("/home/u/a-share-of-the-user/{n}")).collect();
    let mut mounts = vec![("253:0", "ext4", "/dev/vda", "/")];
    mounts.extend(shares.iter().map(|at| ("0:60", "fuse.sshfs", "u@host:", at.as_str())));
    tree.mounts(&mounts);
    let told = find(&tree, "d-bp1sys");
    assert_eq!((self::mounts(&told), told.notes.len()), (vec![("d-bp1sys", "/")], 9));
}

/// An Ubuntu with snaps and containers: the walk takes its time before anything is frozen, but not for ever.
#[test]
fn many_images_and_mounts_are_walked() {
    let tree = Tree::new();
    tree.device("vda", "253:0");
    tree.file("sys/block/vda/serial", "bp1sys");
    let mut mounts: Vec<(String, &str, String, String)> =
        vec![("253:0".into(), "ext4", "/dev/vda".into(), "/".into())];
    for n in 0..25 {
        tree.device(&format!("loop{n}"), &format!("7:{n}"));
        tree.file(
            &format!("sys/block/loop{n}/loop/backing_file"),
            &format!("/var/lib/snapd/snaps/s{n}.snap\n"),
        );
        mounts.push((format!("7:{n}"), "squashfs", format!("/dev/loop{n}"), format!("/snap/s{n}/1")));
    }
    for n in 0..200 {
        let at = format!("/var/lib/docker/overlay2/{n:064x}/merged");
        mounts.push((format!("0:{}", 100 + n), "overlay", "overlay".into(), at));
        // As any user can make them.
        let at = format!(r"/home/u/my\040mount\040{n}");
        mounts.push((format!("0:{}", 300 + n), "fuse.x", "x".into(), at));
    }
    let lines: Vec<_> = mounts.iter().map(|(a, b, c, d)| (&**a, *b, &**c, &**d)).collect();
    tree.mounts(&lines);
    let begin = Instant::now();
    let told = find(&tree, "d-bp1sys");
    assert_eq!((self::mounts(&told), codes(&told)), (vec![("d-bp1sys", "/")], vec![]));
    // Four shells in 2 s; with a fork for each mount and image it was 65 s.
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
}
