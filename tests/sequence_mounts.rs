//! Mounts in the guest's way: what lies over, under, beside or nowhere, on real ext4 and XFS.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use appsnap::report::Level;
use victim::{Guest, SOON, codes, whole};

/// Lines that run when all is frozen and before any thaw (they go side by side), once.
fn in_the_window(guest: &mut Guest, lines: &str) {
    guest.sh(&format!(
        "wrap fsfreeze 'case $1 in --unfreeze) mkdir /run/once 2>/dev/null && {{ {lines}; touch /run/through; }} >/dev/null 2>&1;
         until [ -e /run/through ]; do sleep 0.01; done;; esac'"
    ));
}

/// What the postscript was told.
fn outcome(guest: &mut Guest) -> String {
    guest.sh("cat /run/post.a1").trim_end().to_string()
}

#[test]
fn a_bind_mount_of_a_file_is_not_a_second_file_system() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("echo x >/mnt/d/file; touch /mnt/f; mount --bind /mnt/d/file /mnt/f");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    guest.clean(1, "bound file");
    // Where that file is all that can be seen of the disk, the disk cannot be frozen, and that is told.
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("echo x >/mnt/d/file; touch /mnt/f; mount --bind /mnt/d/file /mnt/f; umount /mnt/d");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).contains(&"fs.hidden") && told.group.is_some(), "{out}");
    assert_eq!(outcome(&mut guest), "crash");
    guest.clean(1, "only a bound file");
}

#[test]
fn a_mount_point_that_something_lies_over_is_told() {
    let overlay = "mkdir /run/up /run/wk; mount -t overlay overlay -o lowerdir=/mnt/d,upperdir=/run/up,workdir=/run/wk /mnt/d";
    for over in ["mount -t tmpfs none /mnt/d", overlay, "mount --bind /mnt/x /mnt/d"] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.sh(over);
        let (told, out) = guest.run(|_| {}, "");
        assert!(codes(&told).contains(&"fs.hidden") && told.group.is_some(), "{over}: {out}");
        assert_eq!(outcome(&mut guest), "crash", "{over}");
        guest.clean(1, over);
        let (told, out) =
            guest.run(|plan| (plan.attempt, plan.minimum) = ("a2".into(), Level::Filesystem), "");
        assert_eq!((told.phase.as_str(), codes(&told)), ("refused", vec!["fs.hidden"]), "{over}: {out}");
    }
}

#[test]
fn an_overlay_that_writes_to_a_frozen_disk_stands_still_with_it() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("mkdir /mnt/d/up /mnt/d/wk /mnt/o; mount -t overlay overlay -o lowerdir=/mnt/x,upperdir=/mnt/d/up,workdir=/mnt/d/wk /mnt/o");
    in_the_window(
        &mut guest,
        "(echo late >/mnt/o/late && touch /run/written) & sleep 0.3; [ -e /run/written ] || touch /run/stood",
    );
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    assert_eq!(guest.sh("until_ /run/written; cat /mnt/o/late; ls /run/stood"), "late\n/run/stood\n");
    guest.clean(1, "overlay");
}

#[test]
fn what_is_hidden_after_the_first_command_is_told_and_later_it_is_frozen_all_the_same() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    let (told, out) = guest.run_after(|_| {}, "mount -t tmpfs none /mnt/x", "");
    assert!(codes(&told).contains(&"fs.hidden") && told.freeze.unwrap().wanted == 1, "{out}");
    assert_eq!(outcome(&mut guest), "crash");
    guest.clean(1, "hidden after find");
    // Its holder is inside already when the prescript hides it.
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("mount -t tmpfs none /mnt/x", "");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    guest.sh("umount /mnt/x");
    guest.clean(1, "hidden by the prescript");
}

#[test]
fn a_mount_that_comes_or_goes_in_mid_run_is_told_and_nothing_is_frozen() {
    for (lines, undo) in [
        ("umount -l /mnt/x", ""),
        ("mkdir /mnt/again; mount --bind /mnt/d /mnt/again", "umount /mnt/again"),
        ("mount --move /mnt/d /mnt/y", ""),
    ] {
        let Some(mut guest) = Guest::new(SOON) else { return };
        guest.sh("mkdir /mnt/y");
        guest.rig.scripts(lines, undo);
        let (told, out) = guest.run(|_| {}, "");
        assert_eq!((codes(&told), told.freeze), (vec!["fs.changed"], None), "{lines}: {out}");
        guest.clean(1, lines);
    }
    // Between the two commands it is only looked at again.
    let Some(mut guest) = Guest::new(SOON) else { return };
    let (told, out) = guest.run_after(|_| {}, "umount /mnt/x", "");
    assert!(codes(&told).is_empty() && whole(&told, 1) && told.visible, "{out}");
    guest.clean(1, "unmounted after find");
}

#[test]
fn full_disks_and_read_only_ones_freeze_like_others() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("for m in d x; do cat /dev/zero >/mnt/$m/fill; echo x >/mnt/$m/none; done 2>/dev/null; mount -o remount,ro /mnt/x");
    assert_eq!(guest.sh("df --output=avail /mnt/d | tail -n 1").trim(), "0");
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    guest.clean(1, "full");
}

#[test]
fn a_disk_that_is_attached_later_is_left_alone_unless_it_was_chosen() {
    let attach = "disk vdz bp1late; mkfs.ext4 -qF $L; mkdir /mnt/z; mount $L /mnt/z";
    let Some(mut guest) = Guest::new(SOON) else { return };
    in_the_window(&mut guest, "(touch /mnt/z/free && touch /run/free) & sleep 0.3");
    let (told, out) = guest.run_after(|_| {}, attach, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    assert_eq!(guest.sh("ls /run/free"), "/run/free\n", "a disk that nobody chose was frozen");
    guest.clean(1, "attached, not chosen");
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.shows(&["d-bp1late"]);
    let (told, out) = guest.run_after(|plan| plan.disks.push("d-bp1late".into()), attach, "");
    assert!(codes(&told).is_empty() && whole(&told, 3) && told.visible, "{out}");
    guest.clean(1, "attached, chosen");
}

#[test]
fn disks_are_known_by_serial_whatever_their_names_are() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh("cd /sys/block; mv vdb tmp; mv vdc vdb; mv tmp xvdc; mkdir vda; echo 7:9999 >vda/dev; echo bp1other >vda/serial");
    let (told, out) = guest.run(|_| {}, "");
    let on: Vec<_> = told.file_systems.iter().map(|fs| (fs.disk_id.as_str(), fs.mount.as_str())).collect();
    assert!(on.contains(&("d-bp1ext4", "/mnt/d")) && on.contains(&("d-bp1xfs", "/mnt/x")), "{out}");
    assert!(codes(&told).is_empty() && whole(&told, 2), "{out}");
    guest.clean(1, "names");
}

/// The inner file system has dirty data all the time: in the wrong order its freeze would hang in the kernel.
#[test]
fn a_loop_file_under_load_is_frozen_before_the_file_system_that_holds_it() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.sh(
        "truncate -s 40M /mnt/x/in.img; mkfs.ext4 -qF /mnt/x/in.img; mkdir /mnt/n; K=$(losetup -f --show /mnt/x/in.img); mount $K /mnt/n; losetup -d $K; k=${K##*/}; \
         mkdir /sys/block/$k; ln -s /sys/class/block/$k/dev /sys/class/block/$k/loop /sys/block/$k; \
         (while echo $$ >/mnt/n/f && dd if=/dev/zero of=/mnt/n/fill bs=64k count=100 conv=notrunc; do :; done) >/dev/null 2>&1 & echo $! >/run/load",
    );
    let (told, out) = guest.run(|plan| plan.window = 20, "");
    assert!(codes(&told).is_empty() && whole(&told, 3) && told.visible, "{out}");
    assert_eq!(told.file_systems[0].mount, "/mnt/n", "{out}");
    guest.sh("kill -9 $(cat /run/load); sleep 0.2; fsfreeze --unfreeze /mnt/n && echo frozen");
    guest.clean(1, "loop file");
}
