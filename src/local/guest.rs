//! A guest: a tree of processes with mount, pid, uts and ipc namespaces of its own, its `/` on its own ext4, its disks
//! under ECS's names with ECS's serials. The network is the host's, so that it reaches the local cloud on loopback.
//!
//! Its file systems really freeze. So this process never opens them; children do, and nobody waits for those for ever.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::host::{self, Failure, Output, lock};
use super::reaper;
use super::store::{Filesystem, Store, enter};
use crate::clock::Clock;

const PREPARE: &str = concat!(include_str!("guest-disk.sh"), include_str!("guest-prepare.sh"));
const PLUG: &str = concat!(include_str!("guest-disk.sh"), include_str!("guest-plug.sh"));
const INIT: &str = include_str!("guest-init.sh");
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A disk of a guest. One that the store does not have yet is made; one that it has (restored, say) is used as it is.
#[derive(Debug, Clone)]
pub struct DiskSpec {
    /// `d-…`; the serial in the guest is the part after `d-`, as ECS has it.
    pub disk_id: String,
    /// Size of a disk that has to be made, in MiB; XFS needs 300.
    pub size_mib: u64,
    /// Its file system.
    pub filesystem: Filesystem,
    /// Where it is mounted; the system disk, which comes first, at `/`.
    pub mount: Option<String>,
}

/// What a guest is made of.
#[derive(Debug, Clone)]
pub struct GuestSpec {
    /// `i-…`
    pub instance_id: String,
    /// What it calls itself.
    pub host_name: String,
    /// The system disk first (ext4, `/`), then data disks in the order in which they are mounted. At most 26.
    pub disks: Vec<DiskSpec>,
    /// The guest's trust store: the certificates (PEM) that curl and openssl in it believe, and no others.
    pub ca_pem: String,
    /// Names that lead to loopback, the local cloud's endpoints say.
    pub hosts: Vec<String>,
}

/// A guest. It runs until [`Guest::stop`] or the end of its store, and can be started again.
pub struct Guest {
    store: Arc<Store>,
    clock: Clock,
    instance_id: String,
    mounts: Vec<String>,
    /// With the disks that it has now.
    spec: Mutex<GuestSpec>,
    init: AtomicU32,
    /// Its `unshare`, the parent of its process 1; none while it is stopped.
    parent: Mutex<Option<Child>>,
}

impl Guest {
    /// Makes what disks are missing, mounts them and starts the guest's process 1; a fraction of a second.
    pub async fn start(clock: &Clock, store: &Arc<Store>, spec: &GuestSpec) -> Result<Self, Failure> {
        disk_table(store, spec)?;
        for disk in &spec.disks {
            if !store.disk(&disk.disk_id).exists() {
                store.create_disk(&disk.disk_id, disk.size_mib, disk.filesystem).await?;
            }
        }
        let guest = Self {
            store: store.clone(),
            clock: clock.clone(),
            instance_id: spec.instance_id.clone(),
            mounts: spec.disks.iter().filter_map(|disk| disk.mount.clone()).collect(),
            spec: Mutex::new(spec.clone()),
            init: AtomicU32::new(0),
            parent: Mutex::new(None),
        };
        guest.boot().await?;
        Ok(guest)
    }

    /// Starts it from the disks that it has, after [`stop`](Self::stop). Those that were attached later are not mounted.
    pub async fn boot(&self) -> Result<(), Failure> {
        let (store, spec) = (&self.store, lock(&self.spec).clone());
        let table = disk_table(store, &spec)?;
        let _turn = store.turn.lock().await;
        let top = store.state().join("guests").join(&spec.instance_id);
        if top.with_extension("loops").exists() {
            return Err(Failure(format!("guest {} runs already: stop it first", spec.instance_id)));
        }
        let hosts = format!("127.0.0.1 localhost {} {}\n", spec.host_name, spec.hosts.join(" "));
        for (kind, text) in [("ca", &spec.ca_pem), ("hosts", &hosts), ("loops", &String::new())] {
            let path = top.with_extension(kind);
            std::fs::write(&path, text)
                .map_err(|error| Failure(format!("cannot write {}: {error}", path.display())))?;
        }
        let mut command = enter(store.reaper());
        command.args(["sh", "-c", PREPARE, "appsnap-guest"]).arg(top).args([&spec.host_name, INIT]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        match tokio::time::timeout(Duration::from_secs(60), boot(command, &table)).await {
            Ok(Ok((parent, init))) => {
                self.init.store(init, Ordering::SeqCst);
                *lock(&self.parent) = Some(parent);
                Ok(())
            }
            failed => {
                let why =
                    failed.map_or("no answer for 60 s".to_owned(), |said| said.err().unwrap_or_default());
                let _ = reaper::end_guest(store.reaper(), store.state(), &spec.instance_id).await;
                Err(Failure(format!("cannot start guest {}: {why}", spec.instance_id)))
            }
        }
    }

    /// `i-…`
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// Its process 1, as the host counts.
    pub fn init(&self) -> u32 {
        self.init.load(Ordering::SeqCst)
    }

    /// Where its disks are mounted at the start, `/` first.
    pub fn mounts(&self) -> &[String] {
        &self.mounts
    }

    /// A command that will run in all of the guest's namespaces, as root, with a plain environment. The guest sees a
    /// child of process 0; SIGKILL to it is not SIGKILL to its `nsenter`, see [`host::children`].
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init().to_string(), "-m", "-u", "-i", "-p", "-r", "-w", "--"]).args(argv);
        command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C").process_group(0);
        command
    }

    /// Runs a script of sh in the guest with arguments (`$1`, …) and input, at most `limit`; then all of it is killed.
    /// A session of its own, so that its group has a number in the guest.
    pub async fn exec(
        &self,
        script: &str,
        args: &[&str],
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, Failure> {
        let mut command = self.command(&["setsid", "sh", "-c", script, "sh"]);
        command.args(args);
        host::run(command, input, limit).await
    }

    /// Runs a script of sh in the background of the guest, in a session of its own, output thrown away.
    pub async fn spawn(&self, script: &str, args: &[&str]) -> Result<(), Failure> {
        let all = [&[script, "sh"], args].concat();
        let detach = r#"setsid sh -c "$@" </dev/null >/dev/null 2>&1 &"#;
        self.exec(detach, &all, b"", Duration::from_secs(10))
            .await?
            .checked("cannot start a process")
            .map(|_| ())
    }

    /// Writes a file with the given mode (octal digits, `700`); waits up to 10 s while its file system is frozen.
    pub async fn write_file(&self, path: &str, bytes: &[u8], mode: &str) -> Result<(), Failure> {
        let script = r#"umask 077; cat >"$1" && chmod "$2" "$1""#;
        let output = self.exec(script, &[path, mode], bytes, Duration::from_secs(10)).await?;
        output.checked(&format!("cannot write {path} on {}", self.instance_id)).map(|_| ())
    }

    /// Reads a file; works on a frozen file system too.
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let output = self.exec(r#"cat -- "$1""#, &[path], b"", Duration::from_secs(10)).await?;
        output.checked(&format!("cannot read {path} on {}", self.instance_id)).map(|output| output.stdout)
    }

    /// Whether the file system mounted at `mount` is frozen, without freezing, thawing or changing it.
    ///
    /// `rmdir` of a name that is not there takes the kernel's write permission for the file system first and looks the
    /// name up then: on a live one it fails at once, on a frozen one it waits in D state. It is a process of its own,
    /// left alone when it waits (the thaw lets it fail).
    pub async fn is_frozen(&self, mount: &str) -> Result<bool, Failure> {
        let failed = |why: &dyn std::fmt::Display| self.unprobed(mount, why);
        let mut child = self.probe(mount)?;
        let Some(pid) = child.id() else { return Ok(false) };
        let mut waiting = 0;
        for _ in 0..500 {
            if child.try_wait().map_err(|error| failed(&error))?.is_some() {
                return Ok(false);
            }
            // Twenty looks in a row: a busy disk makes it wait too, but not for so long.
            waiting =
                if host::process(pid).is_some_and(|(state, ..)| state == 'D') { waiting + 1 } else { 0 };
            if waiting == 20 {
                return Ok(true);
            }
            self.clock.sleep(Duration::from_millis(10)).await;
        }
        Err(failed(&"neither an answer nor a wait within 5 s"))
    }

    /// How long somebody who changes the file system at `mount` has to wait now: as long as it is frozen. Nothing is
    /// changed by it, see [`is_frozen`](Self::is_frozen).
    pub async fn wait_of_a_writer(&self, mount: &str) -> Result<Duration, Failure> {
        let from = self.clock.now();
        let mut child = self.probe(mount)?;
        let _ = child.wait().await; // it fails, sooner or later
        Ok(self.clock.now().duration_since(from).unsigned_abs())
    }

    fn probe(&self, mount: &str) -> Result<Child, Failure> {
        let mut command = Command::new("rmdir");
        command.arg(format!("/proc/{}/root{mount}/.appsnap-not-there", self.init()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(|error| self.unprobed(mount, &error))
    }

    fn unprobed(&self, mount: &str, why: &dyn std::fmt::Display) -> Failure {
        Failure(format!("cannot probe {mount} of {}: {why}", self.instance_id))
    }

    /// Plugs a disk of the store in: while it runs, the guest finds it by its serial, under the next free name, not mounted.
    pub async fn attach(&self, disk_id: &str) -> Result<(), Failure> {
        self.plug("attach", disk_id).await?;
        let (disk_id, size_mib) = (disk_id.to_owned(), 0);
        lock(&self.spec).disks.push(DiskSpec {
            disk_id,
            size_mib,
            filesystem: Filesystem::None,
            mount: None,
        });
        Ok(())
    }

    /// Pulls a disk out. File systems of it that are mounted are shut down, as if the device were gone.
    pub async fn detach(&self, disk_id: &str) -> Result<(), Failure> {
        self.plug("detach", disk_id).await?;
        lock(&self.spec).disks.retain(|disk| disk.disk_id != disk_id);
        Ok(())
    }

    async fn plug(&self, verb: &str, disk_id: &str) -> Result<(), Failure> {
        let _turn = self.store.turn.lock().await;
        if lock(&self.parent).is_none() {
            return Ok(());
        }
        let top = self.store.state().join("guests").join(&self.instance_id).display().to_string();
        let image = self.store.inner_disk(disk_id).display().to_string();
        let done = self.store.inside(PLUG, &[verb, &top, serial(disk_id), &image]).await?;
        done.checked(&format!("cannot {verb} {disk_id}, guest {}", self.instance_id)).map(|_| ())
    }

    /// Thaws all of its file systems from outside, at once, whoever froze them; those that are not frozen do not mind.
    pub async fn thaw_all(&self) -> Result<(), Failure> {
        let root = self.store.state().join("guests").join(&self.instance_id).join("root");
        let paths: Vec<String> =
            self.mounts.iter().map(|mount| format!("{}{mount}", root.display())).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        self.store.inside(r#"for at; do fsfreeze --unfreeze "$at" & done; wait"#, &paths).await.map(|_| ())
    }

    /// Asks its processes to end and waits for that, ten seconds at most, as a system that shuts down does; then ends it.
    pub async fn shut_down(&self) -> Result<(), Failure> {
        // Those that were there when it was asked: process 1 starts a new sleeper for one that has ended.
        let ask = r#"all=; for one in /proc/[0-9]*; do one=${one#/proc/}; case $one in 1 | $$) ;; *) all="$all $one" ;; esac; done
            kill -TERM -1
            n=0; while [ $n -lt 100 ]; do
                left=; for one in $all; do [ ! -e "/proc/$one" ] || left=1; done
                [ "$left" ] || exit 0
                sleep 0.1; n=$((n + 1))
            done"#;
        // One that does not answer, frozen say, is ended all the same.
        let _ = self.exec(ask, &[], b"", Duration::from_secs(15)).await;
        self.stop().await
    }

    /// Ends it, frozen or not, like pulling the plug but for a clean unmount; its disks stay in the store.
    pub async fn stop(&self) -> Result<(), Failure> {
        let _turn = self.store.turn.lock().await;
        let ended = reaper::end_guest(self.store.reaper(), self.store.state(), &self.instance_id).await?;
        ended.checked(&format!("cannot stop guest {}", self.instance_id))?;
        *lock(&self.parent) = None;
        Ok(())
    }
}

/// Starts the guest and returns its parent and its process 1; the error is what its scripts said.
async fn boot(mut command: Command, table: &str) -> Result<(Child, u32), String> {
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("its pipes are gone".to_owned());
    };
    let _ = stdin.write_all(table.as_bytes()).await; // a script that died says why
    drop(stdin);
    let mut said = String::new();
    let _ = BufReader::new(stdout).read_line(&mut said).await;
    match said.strip_prefix("ready ").and_then(|pid| pid.trim().parse().ok()) {
        Some(init) => Ok((child, init)),
        None => {
            let _ = stderr.read_to_string(&mut said).await;
            Err(said.trim().to_owned())
        }
    }
}

/// The lines that guest-prepare.sh reads, or what is wrong with the disks.
fn disk_table(store: &Store, spec: &GuestSpec) -> Result<String, Failure> {
    let wrong = |why: &str| Err(Failure(format!("guest {}: {why}", spec.instance_id)));
    match spec.disks.first() {
        Some(disk) if disk.mount.as_deref() == Some("/") && disk.filesystem == Filesystem::Ext4 => {}
        _ => return wrong("the first disk has to be the system disk: ext4, mounted at /"),
    }
    if spec.disks.len() > 26 {
        return wrong("more than 26 disks");
    }
    let is_id = |id: &str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !id.is_empty();
    if !is_id(&spec.instance_id) || !is_id(&spec.host_name.replace('.', "-")) {
        return wrong("its id and name take letters, digits and hyphens");
    }
    let mut table = String::new();
    for (letter, disk) in ('a'..='z').zip(&spec.disks) {
        let at = disk.mount.as_deref().unwrap_or("-");
        let plain =
            at.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.".contains(&b)) && !at.contains("..");
        if !(plain && (at == "-" || at.starts_with('/'))) {
            return wrong(&format!("mount point {at:?}: an absolute path of letters, digits, - _ ."));
        }
        if at != "-" && disk.filesystem == Filesystem::None {
            return wrong(&format!("disk {} has no file system to mount at {at}", disk.disk_id));
        }
        let (serial, image) = (serial(&disk.disk_id), store.inner_disk(&disk.disk_id));
        table += &format!("vd{letter} {serial} {} {at} {}\n", disk.filesystem.name(), image.display());
    }
    Ok(table)
}

/// What the guest finds as a disk's serial.
fn serial(disk_id: &str) -> &str {
    disk_id.strip_prefix("d-").unwrap_or(disk_id)
}
