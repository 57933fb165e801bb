//! Real guests of the local cloud on this machine: isolation, freeze, snapshot, restore, and that nothing stays behind.

mod common;
#[path = "common/guests.rs"]
mod guests;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use appsnap::clock::Clock;
use appsnap::local::guest::{DiskSpec, Guest};
use appsnap::local::inspect;
use appsnap::local::store::{Filesystem, Store};
use appsnap::local::{sweep, writer};
use guests::{SHORT, assert_gone, freeze, needs, spec, start, text, wait_until};

/// The names of this machine's loop devices that carry something of `state`, as `MAJ:MIN`.
fn own_devices(state: &Path) -> Vec<String> {
    let name = format!("/{}/", state.file_name().unwrap().to_str().unwrap());
    let loops = std::fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path());
    let own = loops.filter(|at| {
        std::fs::read_to_string(at.join("loop/backing_file")).is_ok_and(|file| file.contains(&name))
    });
    own.map(|at| std::fs::read_to_string(at.join("dev")).unwrap().trim().to_owned()).collect()
}

#[tokio::test]
async fn root_becomes_any_user_in_a_guest_and_nobody_has_a_password() {
    if !needs() {
        return;
    }
    let (store, guest) = start("i-users").await;
    for line in ["runuser -u daemon -- id -un", "su -s /bin/sh -c 'id -un' daemon"] {
        assert_eq!(text(&guest, line).await, "daemon", "{line}");
    }
    assert_eq!(text(&guest, "cut -d: -f2 /etc/shadow | sort -u; stat -c %a /etc/shadow").await, "*\n600");
    store.close().await.unwrap();
}

#[tokio::test]
async fn no_path_in_a_guest_leads_to_the_hosts_superblocks() {
    if !needs() {
        return;
    }
    let (store, guest) = start("i-alone").await;
    let own = own_devices(store.state());
    assert_eq!(own.len(), 4, "store, system disk, two data disks");
    let mut seen = 0;
    for line in text(&guest, "cat /proc/self/mountinfo").await.lines() {
        let (mount, kind) = line.split_once(" - ").unwrap();
        let (mount, kind): (Vec<&str>, Vec<&str>) = (mount.split(' ').collect(), kind.split(' ').collect());
        match kind[0] {
            "ext4" | "xfs" => {
                assert!(own.iter().any(|dev| dev == mount[2]) && kind[1].starts_with("/dev/vd"), "{line}");
                seen += 1;
            }
            "overlay" => assert!(mount[5].split(',').any(|option| option == "ro"), "{line}"),
            "tmpfs" | "proc" | "sysfs" => {}
            other => panic!("{other} in a guest: {line}"),
        }
    }
    assert_eq!(seen, 4, "/, the agent's directory on it, /data, /logs");
    let nodes = text(&guest, "find / -xdev -type b; find /dev -type b -exec stat -c '%t:%T' {} +").await;
    for node in nodes.lines().filter(|line| line.contains(':')) {
        let (major, minor) = node.split_once(':').unwrap();
        let dev = format!(
            "{}:{}",
            u32::from_str_radix(major, 16).unwrap(),
            u32::from_str_radix(minor, 16).unwrap()
        );
        assert!(own.contains(&dev), "device node {dev}");
    }
    assert_eq!(nodes.lines().filter(|line| line.starts_with('/')).count(), 0, "{nodes}");
    // No process of the guest has anything of the host open, not even as its program.
    let links =
        "for p in /proc/[0-9]*; do for l in exe root cwd fd/0; do stat -Lc %d $p/$l 2>/dev/null; done; done";
    let host = std::os::linux::fs::MetadataExt::st_dev(&std::fs::metadata("/").unwrap());
    let devices = text(&guest, links).await;
    assert!(devices.lines().count() > 4 && devices.lines().all(|dev| dev != host.to_string()), "{devices}");
    for outside in ["/usr/x", "/bin/x", "/lib/x"] {
        assert_eq!(text(&guest, &format!("touch {outside} 2>/dev/null || echo no")).await, "no");
    }
    assert!(text(&guest, "fsfreeze --freeze /usr 2>&1").await.contains("not supported"));
    assert!(text(&guest, "ls /proc").await.lines().filter(|name| name.parse::<u32>().is_ok()).count() < 12);
    guest.stop().await.unwrap();
    assert_eq!(own_devices(store.state()).len(), 1, "the store's own");
    let state = store.state().to_owned();
    drop((guest, store)); // nobody says goodbye: the reaper sees it all the same
    assert_gone(&state, &[]).await;
}

#[tokio::test]
async fn a_guest_looks_like_an_instance() {
    if !needs() {
        return;
    }
    let began = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let (store, guest) = start("i-looks").await;
    let took = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - began;
    assert!(took < Duration::from_secs(10), "{took:?} for store and guest"); // 0.4 s when the machine is idle
    assert_eq!(
        text(&guest, "cat /sys/block/vdb/serial /sys/block/vdc/serial; hostname").await,
        "bp1data\nbp1logs\ni-looks"
    );
    assert_eq!(text(&guest, "cd /sys/block; echo *").await, "vda vdb vdc");
    assert_eq!(text(&guest, "cat /sys/dev/block/$(cat /sys/block/vdb/dev)/serial").await, "bp1data");
    assert_eq!(
        text(&guest, "cat /etc/ssl/certs/ca-certificates.crt; grep -c ecs.test /etc/hosts").await,
        "PEM\n1"
    );
    assert_eq!(
        text(&guest, "echo a b | awk '{print $2}'; id -un; findmnt -no SOURCE /logs").await,
        "b\nroot\n/dev/vdc"
    );
    guest.write_file("/tmp/prescript.sh", b"#!/bin/sh\nexit 7\n", "700").await.unwrap();
    assert_eq!(guest.exec("/tmp/prescript.sh", &[], b"", SHORT).await.unwrap().status, Some(7));
    assert_eq!(guest.read_file("/tmp/prescript.sh").await.unwrap(), b"#!/bin/sh\nexit 7\n");
    let stuck = guest.exec("sleep 66 & sleep 66", &[], b"", Duration::from_millis(300)).await.unwrap();
    assert!(stuck.timed_out);
    wait_until(async || text(&guest, "pgrep -x sleep -a | grep -c 66; true").await == "0").await;
    let twice = Guest::start(&Clock::system(), &store, &spec("i-looks", "bp1")).await;
    assert!(twice.is_err_and(|failure| failure.0.contains("runs already")));
    let thief = Guest::start(&Clock::system(), &store, &spec("i-thief", "bp1")).await;
    assert!(thief.is_err_and(|failure| failure.0.contains("disk d-bp1root is attached already")));
    // A stopped instance starts again from its disks.
    guest.stop().await.unwrap();
    assert!(guest.exec("true", &[], b"", SHORT).await.is_ok_and(|output| !output.ok()), "it is gone");
    let mut more = spec("i-looks", "bp1");
    let raw =
        DiskSpec { disk_id: "d-bp1raw".to_owned(), size_mib: 16, filesystem: Filesystem::None, mount: None };
    more.disks.push(raw);
    let guest = Guest::start(&Clock::system(), &store, &more).await.unwrap();
    assert_eq!(guest.read_file("/tmp/prescript.sh").await.unwrap(), b"#!/bin/sh\nexit 7\n");
    // What it mounts and freezes itself, where only it can see it, does not keep the store from closing, not even
    // when its namespace is gone before and no mount leads to the frozen superblock any more.
    let own = "cat /sys/block/vdd/size; mkfs.ext4 -q /dev/vdd && mount /dev/vdd /mnt && echo mounted";
    assert_eq!(text(&guest, own).await, "32768\nmounted");
    freeze(&guest, "/mnt").await;
    let init = appsnap::local::host::pid(guest.init()).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    wait_until(async || !guest.exec("true", &[], b"", SHORT).await.is_ok_and(|output| output.ok())).await;
    let state = store.state().to_owned();
    store.close().await.unwrap();
    assert_gone(&state, &[guest.init()]).await;
}

#[tokio::test]
async fn snapshots_of_frozen_disks_need_no_replay_and_hold_what_was_acknowledged() {
    if !needs() {
        return;
    }
    let (store, guest) = start("i-snap").await;
    for mount in ["/data", "/logs"] {
        writer::start(&guest, mount).await.unwrap();
    }
    for mount in ["/data", "/logs"] {
        wait_until(async || writer::acknowledged(&guest, mount).await.is_ok_and(|count| count > 20)).await;
    }
    for (mount, disk, filesystem) in
        [("/data", "d-bp1data", Filesystem::Ext4), ("/logs", "d-bp1logs", Filesystem::Xfs)]
    {
        let plain = format!("s-plain-{disk}");
        let frozen = format!("s-frozen-{disk}");
        store.take_snapshot(disk, &plain).unwrap();
        assert!(!guest.is_frozen(mount).await.unwrap());
        freeze(&guest, mount).await;
        assert!(guest.is_frozen(mount).await.unwrap());
        let acknowledged = writer::acknowledged(&guest, mount).await.unwrap();
        store.take_snapshot(disk, &frozen).unwrap();
        guest.thaw_all().await.unwrap();
        assert!(!guest.is_frozen(mount).await.unwrap());

        let verdict = inspect::judge(&store.snapshot(&frozen), filesystem).await.unwrap();
        assert!(verdict.clean, "{disk}: {}", verdict.evidence);
        let verdict = inspect::judge(&store.snapshot(&plain), filesystem).await.unwrap();
        assert!(!verdict.clean, "{disk}: {}", verdict.evidence);
        for replay in [false, true] {
            let copy = inspect::mount(&store, &store.snapshot(&frozen), filesystem, replay).await.unwrap();
            let count = writer::count(&std::fs::read(copy.path(writer::FILE)).unwrap()).unwrap();
            copy.unmount().await.unwrap();
            // One more may have been written, but not acknowledged.
            assert!(
                (acknowledged..=acknowledged + 1).contains(&count),
                "{disk}: {acknowledged} then {count}"
            );
        }
        store.disk_from_snapshot(&frozen, &format!("d-bp2{}", &mount[1..])).unwrap();
    }
    // A second guest with the restored disks, beside the first one.
    let mut other = spec("i-restored", "bp2");
    other.disks[0].disk_id = "d-bp2root".to_owned();
    let other = Guest::start(&Clock::system(), &store, &other).await.unwrap();
    for mount in ["/data", "/logs"] {
        let kept = other.read_file(&format!("{mount}/{}", writer::FILE)).await.unwrap();
        assert!(writer::count(&kept).unwrap() > 20);
    }
    guest.stop().await.unwrap();
    other.stop().await.unwrap();
    let state = store.state().to_owned();
    store.close().await.unwrap();
    assert_gone(&state, &[]).await;
}

#[tokio::test]
async fn a_device_that_a_guest_let_go_of_is_not_ended_with_it_when_another_has_it() {
    if !needs() {
        return;
    }
    let (store, guest) = start("i-first").await;
    let mut second = spec("i-second", "bp2");
    second.disks.truncate(1);
    let second = Guest::start(&Clock::system(), &store, &second).await.unwrap();
    assert_eq!(text(&guest, "umount /data && echo ok").await, "ok");
    // Its number is free, and might have become that of the second one's disk: as if it had, since others make devices too.
    let device = text(&second, "cat /sys/block/vda/dev").await;
    let device = std::fs::read_link(format!("/sys/dev/block/{device}")).unwrap();
    let list = store.state().join("guests/i-first.loops");
    let lines = std::fs::read_to_string(&list).unwrap();
    let line = lines.lines().find(|line| line.ends_with(" d-bp1data.img")).unwrap();
    let reused = format!("{} d-bp1data.img", device.file_name().unwrap().to_str().unwrap());
    std::fs::write(&list, lines.replace(line, &reused)).unwrap();
    guest.stop().await.unwrap();
    assert_eq!(text(&second, "echo lives").await, "lives");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_frozen_guest_with_stuck_writers_stops() {
    if !needs() {
        return;
    }
    let (store, guest) = start("i-stuck").await;
    for mount in ["/data", "/logs"] {
        writer::start(&guest, mount).await.unwrap();
    }
    for mount in ["/data", "/logs", "/"] {
        freeze(&guest, mount).await;
    }
    guest.stop().await.unwrap();
    assert_eq!(own_devices(store.state()).len(), 1, "the store's own");
    let (state, init) = (store.state().to_owned(), guest.init());
    store.close().await.unwrap();
    assert_gone(&state, &[init]).await;
}

/// Not a test: owns a guest with frozen file systems and waits to be killed; see the two tests below.
#[tokio::test]
#[ignore = "a helper process of other tests"]
async fn an_owner_to_be_killed() {
    let Ok(base) = std::env::var("APPSNAP_TEST_BASE") else { return };
    let store = Arc::new(Store::create(Some(Path::new(&base)), 4096).await.unwrap());
    let guest = Guest::start(&Clock::system(), &store, &spec("i-owned", "bp1")).await.unwrap();
    for mount in ["/data", "/logs"] {
        writer::start(&guest, mount).await.unwrap();
        freeze(&guest, mount).await;
    }
    // One that was plugged in, and is mounted where only its guest sees it; another one that was pulled out like that.
    for disk in ["d-bp1more", "d-bp1gone"] {
        store.create_disk(disk, 32, Filesystem::Ext4).await.unwrap();
        guest.attach(disk).await.unwrap();
        let mount = "mkdir -p /run/$1 && mount $(readlink -f /dev/disk/by-id/virtio-$1) /run/$1";
        let mounted = guest.exec(mount, &[&disk[2..]], b"", SHORT).await.unwrap();
        mounted.checked("not mounted").unwrap();
    }
    guest.detach("d-bp1gone").await.unwrap();
    freeze(&guest, "/run/bp1more").await;
    freeze(&guest, "/").await;
    let line = format!("{} {} {}", store.state().display(), store.reaper(), guest.init());
    std::fs::write(Path::new(&base).join("owned"), line).unwrap();
    Clock::system().sleep(Duration::from_secs(60)).await;
}

/// Starts the helper in a directory of its own, waits until all is frozen, kills it; tells reaper and guest.
async fn kill_an_owner(base: &Path, and_reaper: bool) -> (std::path::PathBuf, Vec<u32>) {
    std::fs::create_dir_all(base).unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner.args(["--ignored", "--exact", "an_owner_to_be_killed"]).env("APPSNAP_TEST_BASE", base);
    let mut owner = owner.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(async || base.join("owned").exists()).await;
    let said = std::fs::read_to_string(base.join("owned")).unwrap();
    let words: Vec<&str> = said.split(' ').collect();
    let pids: Vec<u32> = words[1..].iter().map(|pid| pid.parse().unwrap()).collect();
    if and_reaper {
        let reaper = appsnap::local::host::pid(pids[0]).unwrap();
        rustix::process::kill_process(reaper, rustix::process::Signal::KILL).unwrap();
    }
    owner.kill().unwrap(); // SIGKILL
    owner.wait().unwrap();
    (Path::new(words[0]).to_owned(), pids)
}

#[tokio::test]
async fn the_reaper_cleans_up_after_a_killed_owner() {
    if !needs() {
        return;
    }
    let base = std::env::temp_dir().join(format!("appsnap-test-reaper-{}", std::process::id()));
    let (state, pids) = kill_an_owner(&base, false).await;
    assert_gone(&state, &pids).await;
    std::fs::remove_dir_all(&base).unwrap();
}

#[tokio::test]
async fn the_sweep_cleans_up_when_the_reaper_was_killed_too() {
    if !needs() {
        return;
    }
    let base = std::env::temp_dir().join(format!("appsnap-test-sweep-{}", std::process::id()));
    let (state, pids) = kill_an_owner(&base, true).await;
    assert!(state.exists() && !own_devices(&state).is_empty(), "something to sweep");
    assert_eq!(sweep::sweep(&base).await.unwrap(), std::slice::from_ref(&state));
    assert_gone(&state, &pids).await;
    std::fs::remove_dir_all(&base).unwrap();
}
