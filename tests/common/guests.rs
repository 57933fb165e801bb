//! What tests with real guests share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use appsnap::clock::Clock;
use appsnap::local::guest::{DiskSpec, Guest, GuestSpec};
use appsnap::local::host;
use appsnap::local::store::{Filesystem, Store, TOOLS};

pub const SHORT: Duration = Duration::from_secs(10);

/// Says what is missing for real guests, if anything is.
pub fn needs() -> bool {
    super::common::need(&[&["root", "loop", "ps", "pgrep", "findmnt"], &TOOLS[..]].concat())
}

/// A guest with a system disk, an ext4 at /data and an XFS at /logs.
pub fn spec(instance_id: &str, prefix: &str) -> GuestSpec {
    let disk = |name: &str, size_mib, filesystem, mount: &str| DiskSpec {
        disk_id: format!("d-{prefix}{name}"),
        size_mib,
        filesystem,
        mount: Some(mount.to_owned()),
    };
    GuestSpec {
        instance_id: instance_id.to_owned(),
        host_name: instance_id.to_owned(),
        disks: vec![
            disk("root", 256, Filesystem::Ext4, "/"),
            disk("data", 256, Filesystem::Ext4, "/data"),
            disk("logs", 320, Filesystem::Xfs, "/logs"),
        ],
        ca_pem: "PEM\n".to_owned(),
        hosts: vec!["ecs.test".to_owned()],
    }
}

/// A store and a guest in it.
pub async fn start(instance_id: &str) -> (Arc<Store>, Arc<Guest>) {
    let store = Arc::new(Store::create(None, 8192).await.unwrap());
    let guest = Guest::start(&Clock::system(), &store, &spec(instance_id, "bp1")).await.unwrap();
    (store, Arc::new(guest))
}

/// Standard output of a script in the guest.
pub async fn text(guest: &Guest, script: &str) -> String {
    guest.exec(script, &[], b"", SHORT).await.unwrap().text()
}

/// Freezes a mount of a guest, with a thaw armed before, by the guest itself.
pub async fn freeze(guest: &Guest, mount: &str) {
    guest.spawn(r#"sleep 20; fsfreeze --unfreeze "$1""#, &[mount]).await.unwrap();
    let frozen = guest.exec(r#"fsfreeze --freeze "$1""#, &[mount], b"", SHORT).await.unwrap();
    frozen.checked("cannot freeze").unwrap();
}

/// Waits until it is so, at most 20 s.
pub async fn wait_until(mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if so().await {
            return;
        }
        Clock::system().sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 20 s");
}

/// Waits until no directory, loop device, mount or process of a state directory is left on this machine.
pub async fn assert_gone(state: &Path, pids: &[u32]) {
    let name = state.file_name().unwrap().to_str().unwrap();
    let mut left = Vec::new();
    for _ in 0..400 {
        left = leftovers(state, name, pids);
        if left.is_empty() {
            return;
        }
        Clock::system().sleep(Duration::from_millis(50)).await;
    }
    panic!("left behind after 20 s: {left:?}");
}

fn leftovers(state: &Path, name: &str, pids: &[u32]) -> Vec<String> {
    let mut left: Vec<String> = state.exists().then(|| state.display().to_string()).into_iter().collect();
    let read = |path: String| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    for entry in std::fs::read_dir("/sys/block").unwrap().flatten() {
        let file = format!("/sys/block/{}/loop/backing_file", entry.file_name().to_string_lossy());
        left.extend(read(file).ok().filter(|file| file.contains(name)));
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        for file in ["cmdline", "mountinfo"] {
            if read(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.contains(name)) {
                left.push(format!("{file} of process {pid}"));
            }
        }
    }
    left.extend(pids.iter().filter(|pid| host::process(**pid).is_some()).map(|pid| format!("process {pid}")));
    left
}
