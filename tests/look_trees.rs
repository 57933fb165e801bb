//! The look of a check on recorded trees, under each shell that is here: what it tells, and that it leaves nothing.

#[path = "common/tree.rs"]
#[allow(dead_code)] // each test file uses its part
mod tree;

use appsnap::guest::look::{self, Looked};
use tree::Tree;

/// What the look tells, with these settings on top of a run that freezes and has no endpoint.
fn look(tree: &Tree, data: &str) -> Looked {
    let plain = "RUN=l1 POLICY=p WANT=filesystem MIN=crash PRE= POST= LIMIT=10 FREEZE=1 WINDOW=5 THAWON=visible \
                 VISTIME=3 TOTAL=60 CA= SEQUENCE=x HOST= ENGINE=sequence DISKS=";
    let runs = tree.run("look", &look::script(), &format!("{plain}\n{data}\n"));
    let told = runs.into_iter().map(|(shell, text, _)| {
        let mut looked = Looked::read(&text).unwrap_or_else(|| panic!("{shell}: {text}"));
        assert_eq!((looked.said.take(), text.lines().count()), (None, 1), "{shell}: {text}");
        assert_eq!(looked.told.phase, "looked", "{shell}: {text}");
        assert!(looked.room_kib.take() > Some(0), "{shell}: {text}");
        looked.told.steps.clear(); // times differ
        (shell, looked)
    });
    let told: Vec<_> = told.collect();
    assert!(!tree.run_dir().exists(), "the look left its directory behind");
    for (shell, again) in &told {
        assert_eq!(*again, told[0].1, "{shell}");
    }
    told[0].1.clone()
}

/// A UEFI system disk with swap, and a data disk.
fn machine() -> Tree {
    let tree = Tree::new();
    for (disk, dev, serial) in [("vda", "253:0", "bp1sys"), ("vdb", "253:16", "bp1data")] {
        tree.device(disk, dev);
        tree.file(&format!("sys/block/{disk}/serial"), serial);
    }
    for (part, dev) in [("vda/vda1", "253:1"), ("vda/vda2", "253:2"), ("vda/vda3", "253:3")] {
        tree.device(part, dev);
    }
    tree.mounts(&[
        ("253:3", "ext4", "/dev/vda3", "/"),
        ("253:1", "vfat", "/dev/vda1", "/boot/efi"),
        ("253:16", "xfs", "/dev/vdb", "/data"),
        ("0:50", "nfs4", "10.0.0.1:/share", "/nas"),
    ]);
    tree.file(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/vda2 partition 8388604 0 -2\n/swapfile file 10 0 -3\n",
    );
    tree
}

fn codes(looked: &Looked) -> Vec<&str> {
    looked.told.reasons.iter().map(|(code, _)| code.as_str()).collect()
}

#[test]
fn what_a_run_would_freeze_and_what_has_to_stay_quiet_is_told() {
    let looked = look(&machine(), "DISKS='d-bp1sys d-bp1data'");
    let mounts: Vec<&str> = looked.told.file_systems.iter().map(|fs| fs.mount.as_str()).collect();
    assert_eq!((mounts, codes(&looked)), (vec!["/data", "/"], vec![]));
    assert_eq!((looked.quiet.join(" "), looked.calm.join(" ")), ("vda1 vda2".into(), "/boot/efi".into()));
    assert_eq!(looked.swap, ["vda2"]);
    assert_eq!(looked.told.notes, [("fs.network".into(), "nfs4 on /nas".into())]);
    let looked = look(&machine(), "DISKS=d-bp1data");
    assert!(looked.quiet.is_empty() && looked.calm.is_empty() && looked.swap.is_empty(), "{looked:?}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let tree = machine();
    tree.device("vdc", "253:32");
    tree.file("sys/block/vdc/serial", "bp1more");
    tree.mounts(&[("253:16", "gfs2", "/dev/vdb", "/shared"), ("253:32", "ext4", "/dev/vdc", "/more")]);
    let looked = look(
        &tree,
        "DISKS='d-bp1data d-bp1more d-bp1nowhere' WANT=application MIN=application PRE=/nowhere/pre.sh POST=/nowhere/post.sh",
    );
    assert_eq!(codes(&looked), ["disk.not_found", "fs.shared", "script.missing", "script.missing"]);
    assert!(looked.told.reasons[1].1.contains("gfs2 on /shared"), "{looked:?}");
}

#[test]
fn what_would_be_too_much_for_an_answer_is_left_out_the_least_first() {
    let tree = machine();
    let shares: Vec<String> = (0..30).map(|n| format!("/home/u/{n}/{}", "a".repeat(2000))).collect();
    let mut mounts = vec![("253:3", "ext4", "/dev/vda3", "/")];
    mounts.extend(shares.iter().map(|at| ("0:60", "fuse.sshfs", "u@host:", at.as_str())));
    tree.mounts(&mounts);
    let looked = look(&tree, "DISKS=d-bp1sys");
    assert_eq!((looked.told.notes.len(), looked.told.file_systems.len()), (9, 1), "{looked:?}");
    // Reasons without end, and file systems with them.
    let nowhere: Vec<String> = (0..300).map(|n| format!("d-nowhere{n:030}")).collect();
    let looked = look(&tree, &format!("DISKS='d-bp1sys {}'", nowhere.join(" ")));
    assert_eq!(
        (codes(&looked), looked.told.file_systems.len(), looked.cut),
        (vec!["disk.not_found"], 0, true)
    );
    assert!(!look(&machine(), "").cut);
}

#[test]
fn the_system_is_read_from_os_release_and_not_run() {
    let tree = machine();
    assert_eq!(look(&tree, "").os, None);
    tree.file("usr/lib/os-release", "ID=ubuntu\nVERSION_ID=\"22.04\"\n");
    assert_eq!(look(&tree, "").os, Some(("ubuntu".into(), "22.04".into())));
    let touched = std::env::temp_dir().join(format!("appsnap-touched-{}", std::process::id()));
    let text = format!(
        "PRETTY_NAME=\"$(touch {})\"\nVERSION_ID='3'\nID=\"alinux\"\nID_LIKE=\"rhel\"\n",
        touched.display()
    );
    tree.file("etc/os-release", &text);
    assert_eq!(look(&tree, "").os, Some(("alinux".into(), "3".into())));
    assert!(!touched.exists());
}

#[test]
fn selinux_is_told_where_it_is_enforcing() {
    let tree = machine();
    tree.file("proc/self/attr/current", "system_u:system_r:virt_qemu_ga_t:s0\0");
    assert_eq!(look(&tree, "").selinux, None);
    tree.file("sys/fs/selinux/enforce", "0");
    assert_eq!(look(&tree, "").selinux, None);
    tree.file("sys/fs/selinux/enforce", "1");
    assert_eq!(look(&tree, "").selinux.as_deref(), Some("system_u:system_r:virt_qemu_ga_t:s0"));
}

#[test]
fn a_daemon_that_decides_about_opens_is_named_and_one_that_only_listens_is_not() {
    let tree = machine();
    let mark = |mask: &str| {
        format!(
            "pos:\t0\nflags:\t02\nfanotify flags:4 event-flags:0\nfanotify mnt_id:4e mflags:0 mask:{mask} ignored_mask:0\n"
        )
    };
    tree.file("proc/70/comm", "listener\n");
    tree.file("proc/70/fdinfo/3", &mark("3b"));
    assert_eq!(codes(&look(&tree, "")), Vec::<&str>::new());
    tree.file("proc/71/comm", "fapolicyd\n");
    tree.file("proc/71/fdinfo/4", &mark("40000"));
    tree.file("proc/71/fdinfo/5", &mark("10000"));
    let looked = look(&tree, "");
    assert_eq!(looked.told.reasons, [("freeze.watched".into(), "fapolicyd (71)".into())]);
    assert_eq!(codes(&look(&tree, "FREEZE=0")), Vec::<&str>::new(), "nothing would be frozen");
}
