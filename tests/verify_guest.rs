//! The work of a verification in a real guest: journals are read before anything changes them, an engine gets a copy
//! that it may write to and no network, and whatever happens nothing stays mounted or running.
#![allow(clippy::disallowed_methods)] // tests measure real time

#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)] // others need the rest of it
#[path = "common/guests.rs"]
mod guests;

use std::sync::Arc;
use std::time::Duration;

use appsnap::clock::Clock;
use appsnap::guest::verify::{Copied, Database, Journal, Place, Told, Work, clean, render};
use appsnap::local::guest::{DiskSpec, Guest};
use appsnap::local::store::{Filesystem, Store};
use appsnap::local::writer;
use common::need;
use guests::{freeze, needs, spec, start, text, wait_until};

const MEMBERS: [(&str, Filesystem, &str); 3] = [
    ("d-bp1root", Filesystem::Ext4, "/"),
    ("d-bp1data", Filesystem::Ext4, "/data"),
    ("d-bp1logs", Filesystem::Xfs, "/logs"),
];

/// A guest that lends itself, with the copies of `kind` attached; and the source, which still runs.
struct Site {
    store: Arc<Store>,
    source: Arc<Guest>,
    lent: Guest,
    work: Work,
}

impl Site {
    /// Copies taken while all is frozen, or while writers are at it; `before` is done in the source.
    async fn new(before: &str, frozen: bool) -> Self {
        let (store, source) = start("i-source").await;
        assert_eq!(text(&source, &format!("{before}; sync; echo done")).await, "done");
        for mount in ["/data", "/logs"] {
            writer::start(&source, mount).await.unwrap();
        }
        for mount in ["/data", "/logs"] {
            wait_until(async || writer::acknowledged(&source, mount).await.is_ok_and(|count| count > 20))
                .await;
        }
        let uuid = "for d in vda vdb vdc; do blkid -o value -s UUID /dev/$d; done";
        let uuids = text(&source, uuid).await;
        for mount in ["/data", "/logs", "/"].iter().filter(|_| frozen) {
            freeze(&source, mount).await;
        }
        let mut lent = spec("i-lent", "bp9");
        lent.disks.truncate(1);
        let mut work = Work {
            run: "v-1".into(),
            group_id: "ssg-1".into(),
            limit: 100,
            disks: Vec::new(),
            places: Vec::new(),
            database: None,
        };
        for ((id, filesystem, mount), uuid) in MEMBERS.iter().zip(uuids.lines()) {
            let (snapshot, copy) = (format!("s-{id}"), id.replace("bp1", "bp7"));
            store.take_snapshot(id, &snapshot).unwrap();
            store.disk_from_snapshot(&snapshot, &copy).unwrap();
            let disk = DiskSpec { disk_id: copy.clone(), size_mib: 0, filesystem: *filesystem, mount: None };
            lent.disks.push(disk);
            work.disks.push(Copied { disk_id: copy, source_disk_id: id.to_string() });
            let (mount, kind) = (mount.to_string(), filesystem.name().to_string());
            work.places.push(Place { source_disk_id: id.to_string(), mount, kind, uuid: uuid.into() });
        }
        source.thaw_all().await.unwrap();
        let lent = Guest::start(&Clock::system(), &store, &lent).await.unwrap();
        Self { store, source, lent, work }
    }

    fn database(&mut self, script: &str, data_dir: &str, log_dir: Option<&str>) {
        self.work.database = Some(Database {
            engine: "postgresql".into(),
            script: format!("#!/bin/sh\n{script}\n"),
            data_dir: data_dir.into(),
            log_dir: log_dir.map(str::to_owned),
            query: Some("select 'it''s'".into()),
        });
    }

    /// Runs the command as the agent does.
    async fn run(&self) -> (Told, String) {
        let command = String::from_utf8(render(&self.work).unwrap()).unwrap();
        let out = self.lent.exec(&command, &[], b"", Duration::from_secs(120)).await.unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        (Told::read(&said), said + &String::from_utf8_lossy(&out.stderr))
    }

    /// Nothing of it is mounted, running or lying about in the guest.
    async fn assert_clean(&self) {
        let look = "grep -c -E 'vd[bcd]|appsnap-verify' /proc/self/mountinfo; ls /run/appsnap-verify /var/tmp; \
                    ps -e -o args= | grep -v -E 'ps -e|grep|appsnap-init|sleep 86400|init$|sh -c' ; ls -d /data /logs /srv/deep 2>/dev/null; true";
        for _ in 0..100 {
            let seen = text(&self.lent, look).await;
            if seen == "0\n/run/appsnap-verify:\n\n/var/tmp:" {
                return;
            }
            Clock::system().sleep(Duration::from_millis(200)).await;
        }
        panic!("left: {}", text(&self.lent, look).await);
    }

    async fn close(self) {
        self.lent.stop().await.unwrap();
        self.source.stop().await.unwrap();
        self.store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_frozen_copy_is_at_rest_and_a_crash_copy_has_to_be_replayed() {
    if !needs() {
        return;
    }
    for frozen in [true, false] {
        let site = Site::new("true", frozen).await;
        let (told, out) = site.run().await;
        assert!(told.done && told.notes.is_empty() && told.file_systems.len() == 3, "{out}");
        for one in &told.file_systems {
            assert!(one.mounted && one.check == "good", "{out}");
            let expected = MEMBERS.iter().find(|member| member.0 == one.source_disk_id).unwrap();
            assert_eq!((one.mount.as_str(), one.kind.as_str()), (expected.2, expected.1.name()), "{out}");
            assert_eq!(matches!(one.journal, Journal::Rest(_)), frozen, "{out}");
        }
        site.assert_clean().await;
        site.close().await;
    }
}

#[tokio::test]
async fn a_damaged_file_system_is_bad_and_one_for_booting_is_no_lesser_copy() {
    if !need(&["mkfs.vfat"]) || !needs() {
        return;
    }
    let site = Site::new("cp -r /etc /data/", true).await;
    text(
        &site.lent,
        "dd if=/dev/urandom of=/dev/vdc bs=64k seek=1 count=40 conv=notrunc; mkfs.vfat /dev/vdd; sync",
    )
    .await;
    let (told, out) = site.run().await;
    assert!(told.done, "{out}");
    let of = |id: &str| told.file_systems.iter().find(|one| one.source_disk_id == id).unwrap();
    assert!(of("d-bp1data").check == "bad" || !of("d-bp1data").mounted, "{out}");
    assert!(of("d-bp1root").check == "good", "{out}");
    match told.file_systems.iter().find(|one| one.source_disk_id == "d-bp1logs") {
        Some(boot) => {
            assert_eq!(
                (boot.kind.as_str(), &boot.journal, boot.check.as_str()),
                ("vfat", &Journal::None, "-")
            );
            assert!(boot.mounted, "{out}");
        }
        // A kernel that does not know it cannot say that it is broken.
        None => {
            assert!(!std::fs::read_to_string("/proc/filesystems").unwrap().contains("vfat"), "{out}");
            assert!(out.contains("note: verify.stacked d-bp1logs: vdd holds vfat"), "{out}");
        }
    }
    site.assert_clean().await;
    site.close().await;
}

#[tokio::test]
async fn an_engine_gets_the_copy_at_its_own_place_writable_and_without_a_network() {
    if !needs() {
        return;
    }
    let before = "mkdir -p /data/db /var/lib/logs && echo one >/data/db/f && echo two >/var/lib/logs/g && chown 7:8 /data/db && chmod 700 /data/db";
    let mut site = Site::new(before, true).await;
    let script = r#"echo "fact: args=$*"; echo "fact: has=$(cat $1/f) $(cat $2/g)"; echo "fact: mode=$(stat -c '%u:%g %a' $1)"
        echo three >$1/f && echo four >$2/g && rm -f /logs/writer* && echo "fact: wrote=$(cat $1/f $2/g | tr '\n' ' ')"
        echo "fact: net=$(sed -n 's/:.*//p' /proc/net/dev | tr -d ' \n')"; echo "fact: answer=$QUERY"
        echo "fact: work=$(stat -c %a "$WORK") $(stat -f -c %T "$WORK")"; echo noise; echo "log: a line"; setsid sleep 500 & exit 0"#;
    site.database(script, "/data/db", Some("/var/lib/logs"));
    let (told, out) = site.run().await;
    assert!(told.done && told.notes.is_empty(), "{out}");
    for line in [
        "fact: has=one two",
        "fact: mode=7:8 700",
        "fact: wrote=three four ",
        "fact: answer=select 'it''s'",
        "fact: net=lo",
        "fact: work=711 tmpfs",
        "fact: layer=memory",
        "log: a line",
        "fact: engineExit=0",
    ] {
        assert!(out.lines().any(|said| said == line), "{line}: {out}");
    }
    assert!(out.contains("fact: args=/data/db /var/lib/logs ") && !out.contains("noise"), "{out}");
    assert!(told.file_systems.iter().all(|one| one.check == "-"), "{out}");
    site.assert_clean().await;
    // What it wrote is nowhere.
    site.work.database.as_mut().unwrap().script = "echo \"fact: has=$(cat $1/f) $(cat $2/g)\"".into();
    assert!(site.run().await.1.contains("fact: has=one two\n"));
    site.close().await;
}

#[tokio::test]
async fn a_data_directory_that_is_not_on_the_copies_is_told() {
    if !needs() {
        return;
    }
    let mut site = Site::new("true", true).await;
    site.database("echo 'fact: started=yes'", "/data/elsewhere", None);
    let (told, out) = site.run().await;
    assert!(told.done && !out.contains("started"), "{out}");
    assert_eq!(told.notes[0].0, "verify.datadir", "{out}");
    site.work.disks[1].disk_id = "d-nowhere".into();
    let (told, out) = site.run().await;
    assert!(told.notes[0].0 == "disk.not_found" && told.notes[0].1.starts_with("d-bp1data"), "{out}");
    site.assert_clean().await;
    site.close().await;
}

#[tokio::test]
async fn what_a_copy_brings_gets_neither_at_the_instances_own_files_nor_to_run() {
    if !needs() {
        return;
    }
    let before = "mkdir /data/db /logs/bin /var/lib/real && ln -s /var/lib/own /data/away && ln -s /var/lib/own /var/lib/sys && \
                  cp /bin/true /data/db/true && chmod 4755 /data/db/true";
    let mut site = Site::new(before, true).await;
    text(&site.lent, "mkdir /var/lib/own && echo own >/var/lib/own/f").await;
    let script = "rm -f $1/f; echo 'fact: started=yes'";
    for path in ["/data/away", "/var/lib/sys", "/etc", "/usr/lib", "/"] {
        site.database(script, path, None);
        let (told, out) = site.run().await;
        assert!(told.done && !out.contains("started"), "{path}: {out}");
        assert_eq!(told.notes[0].0, "verify.datadir", "{path}: {out}");
    }
    // A file system of programs stays aside.
    site.work.places[2].mount = "/usr".into();
    let script = r#"echo new >$1/f && echo "fact: started=yes"
        $1/true && echo "fact: ran=yes"; rm -f /var/lib/own/f; ls /usr/bin/env && ! ls -d /usr/writer* && echo "fact: usr=own""#;
    site.database(script, "/data/db", None);
    let (told, out) = site.run().await;
    assert!(told.done && out.contains("fact: started=yes\n") && out.contains("fact: usr=own"), "{out}");
    assert!(!out.contains("ran=yes"), "{out}");
    let [(code, words)] = &told.notes[..] else { panic!("{out}") };
    assert!(code == "verify.place" && words.starts_with("/usr"), "{out}");
    assert_eq!(text(&site.lent, "cat /var/lib/own/f").await, "own");
    site.assert_clean().await;
    site.close().await;
}

#[tokio::test]
async fn work_that_does_not_end_is_ended_and_so_is_what_a_killed_one_left() {
    if !needs() {
        return;
    }
    let mut site = Site::new("mkdir /data/db", true).await;
    site.database(
        "trap '' TERM; echo 'fact: started=no'; : >/data/db/begun; sleep 300 & setsid sleep 300",
        "/data/db",
        None,
    );
    site.work.limit = 8;
    let began = std::time::Instant::now();
    let (told, out) = site.run().await;
    assert!(!told.done && told.file_systems.len() == 3, "{out}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    site.assert_clean().await;
    // The agent's kill reaches its direct child only.
    site.work.limit = 100;
    let command = String::from_utf8(render(&site.work).unwrap()).unwrap();
    let busy = "ls /run/appsnap-verify/*/work >/dev/null 2>&1 && echo yes || echo no";
    for (kill, cured_by_next) in [
        ("for p in $(pgrep -f 'verify.sh run'); do kill -KILL $p; done", false),
        ("for p in $(pgrep -f 'verify.sh guard') $(pgrep -f 'verify.sh run'); do kill -KILL $p; done", true),
    ] {
        site.lent.spawn(&command, &[]).await.unwrap();
        wait_until(async || text(&site.lent, busy).await == "yes").await;
        text(&site.lent, kill).await;
        if cured_by_next {
            let command = clean("v-2", "ssg-1").unwrap();
            let out = text(&site.lent, &String::from_utf8(command).unwrap()).await;
            assert!(Told::read(&out).done, "{out}");
        }
        site.assert_clean().await;
    }
    site.close().await;
}
