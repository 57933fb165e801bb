//! What the local cloud needs on this machine, installed where we may; no service of this machine is started by it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use super::Failure;
use crate::local::engine::Engine;
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

/// Asked by Debian's packages before they start a service; exit code 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Names every missing tool, and installs them when root may and `allowed`; those of a database too.
pub(super) async fn ensure(allowed: bool, database: Option<Engine>) -> Result<(), Failure> {
    let missing = lacking(database);
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
    let servers = database.map(|engine| (engine.missing(), engine.package()));
    let package = |tool: &&'static str| match &servers {
        Some((programs, package)) if programs.contains(tool) => *package,
        _ => PACKAGES.iter().find(|(name, _)| name == tool).map_or("util-linux", |(_, package)| package),
    };
    let mut packages: Vec<&str> = missing.iter().map(package).collect();
    packages.sort_unstable();
    packages.dedup();
    let command = format!("apt-get install -y {}", packages.join(" "));
    let known = host::missing(&["apt-get"]).is_empty();
    if !allowed || !known {
        return Err(Failure::new(format!("missing here: {}; install them: {command}", missing.join(", "))));
    }
    eprintln!("appsnap: missing here: {}; running: {command}", missing.join(", "));
    let quiet = Quiet::keep(Path::new(POLICY))?;
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
    drop(quiet);
    match lacking(database) {
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

fn lacking(database: Option<Engine>) -> Vec<&'static str> {
    let mut wanted: Vec<&'static str> = store::TOOLS.to_vec();
    wanted.extend(["curl", "setpriv", "fsfreeze", "flock", "setsid", "gzip", "base64"]);
    wanted.sort_unstable();
    wanted.dedup();
    let mut missing = host::missing(&wanted);
    missing.extend(database.map(Engine::missing).unwrap_or_default());
    missing
}

/// While it lives, no package starts a service. A policy that is there already is this machine's own, and stays.
struct Quiet<'a>(Option<&'a Path>);

impl<'a> Quiet<'a> {
    fn keep(policy: &'a Path) -> Result<Self, Failure> {
        if policy.exists() {
            return Ok(Self(None));
        }
        let made = std::fs::write(policy, "#!/bin/sh\nexit 101\n")
            .and_then(|()| std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o755)));
        let kept = Self(Some(policy));
        made.map(|()| kept).map_err(|error| Failure::new(format!("{}: {error}", policy.display())))
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if let Some(policy) = self.0 {
            let _ = std::fs::remove_file(policy); // it was ours, and nobody else knows of it
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_start_nothing_while_they_are_installed_and_a_policy_of_the_machines_own_stays() {
        let policy = std::env::temp_dir().join(format!("appsnap-policy-{}", std::process::id()));
        let quiet = Quiet::keep(&policy).unwrap();
        let code = std::process::Command::new(&policy).status().unwrap().code();
        drop(quiet);
        assert_eq!((code, policy.exists()), (Some(101), false));
        std::fs::write(&policy, "theirs").unwrap();
        drop(Quiet::keep(&policy).unwrap());
        assert_eq!(std::fs::read_to_string(&policy).unwrap(), "theirs");
        std::fs::remove_file(&policy).unwrap();
    }

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
