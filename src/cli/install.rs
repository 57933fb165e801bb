//! What the local cloud needs on this machine, installed where we may.

use std::path::Path;
use std::process::Stdio;

use super::Failure;
use crate::local::{host, store};

/// Tool and the Debian package that has it.
const PACKAGES: [(&str, &str); 10] = [
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_db", "xfsprogs"),
    ("xfs_logprint", "xfsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("dumpe2fs", "e2fsprogs"),
    ("curl", "curl"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("awk", "mawk"),
    ("setpriv", "util-linux"),
];

/// Names every missing tool, and installs them when root may and `allowed`.
pub(super) async fn ensure(allowed: bool) -> Result<(), Failure> {
    let missing = lacking();
    if missing.is_empty() && host::is_root() {
        return room();
    }
    if !host::is_root() {
        return Err(Failure::new(format!(
            "the local cloud mounts and freezes real file systems, so it needs root: sudo {}",
            std::env::args().collect::<Vec<_>>().join(" ")
        )));
    }
    if let Some(text) = beside_path(&missing) {
        return Err(Failure::new(text));
    }
    let mut packages: Vec<&str> = missing
        .iter()
        .map(|tool| {
            PACKAGES.iter().find(|(name, _)| name == tool).map_or("util-linux", |(_, package)| package)
        })
        .collect();
    packages.sort_unstable();
    packages.dedup();
    let command = format!("apt-get install -y {}", packages.join(" "));
    let known = host::missing(&["apt-get"]).is_empty();
    if !allowed || !known {
        return Err(Failure::new(format!("missing here: {}; install them: {command}", missing.join(", "))));
    }
    eprintln!("appsnap: missing here: {}; running: {command}", missing.join(", "));
    for step in ["apt-get update -q", &command] {
        let mut words = step.split(' ');
        let status = tokio::process::Command::new(words.next().unwrap_or_default())
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .await
            .map_err(|error| Failure::new(format!("{step}: {error}")))?;
        if !status.success() {
            return Err(Failure::new(format!("{step}: {status}; install by hand: {}", packages.join(" "))));
        }
    }
    match lacking() {
        left if left.is_empty() => room(),
        left => Err(Failure::new(format!("still missing after the installation: {}", left.join(", ")))),
    }
}

/// Images and snapshots grow to some hundred megabytes; a store that fills up in mid-run fails in odd ways.
fn room() -> Result<(), Failure> {
    const WANTED_MIB: u64 = 1024;
    let place = "/var/tmp";
    let free = rustix::fs::statvfs(place).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) >> 20);
    match free {
        Ok(free) if free < WANTED_MIB => Err(Failure::new(format!(
            "{place} has {free} MiB free, the local cloud needs {WANTED_MIB}: free some space there"
        ))),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(format!("{place}: {error}"))),
    }
}

/// Tools that are installed where PATH does not look (a plain `su` keeps a user's PATH): no package would help.
fn beside_path(missing: &[&str]) -> Option<String> {
    let there = |tool: &&&str| ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(tool).exists());
    let hidden: Vec<&str> = missing.iter().filter(there).copied().collect();
    (!hidden.is_empty()).then(|| {
        format!(
            "installed in /usr/sbin or /sbin, where PATH does not look: {}; export PATH=$PATH:/usr/sbin:/sbin",
            hidden.join(", ")
        )
    })
}

fn lacking() -> Vec<&'static str> {
    let mut wanted: Vec<&'static str> = store::TOOLS.to_vec();
    wanted.extend(["curl", "setpriv", "fsfreeze", "flock", "setsid", "gzip", "base64"]);
    wanted.sort_unstable();
    wanted.dedup();
    host::missing(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_outside_of_path_is_told_as_such() {
        let text = beside_path(&["no-such-tool", "chroot"]).unwrap();
        assert!(
            text.contains("does not look: chroot; ") && text.contains("export PATH=$PATH:/usr/sbin"),
            "{text}"
        );
        assert_eq!(beside_path(&["no-such-tool"]), None);
    }
}
