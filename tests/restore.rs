//! A printed restore plan is followed, step by step, to a running database with the acknowledged rows.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[path = "common/follow.rs"]
mod follow;

use std::process::Stdio;

use appsnap::guest::recipes;
use appsnap::local::cloud::{ACCOUNT, INSTANCE, OPERATOR, REGION, SECURITY_GROUP, VSWITCH};
use appsnap::local::guest::DiskSpec;
use appsnap::local::store::Filesystem;
use appsnap::local::world::{Disk, Instance, Settings};
use appsnap::report::{Level, Status};
use bench::{Bench, NEEDS, tick};
use common::need;
use follow::Follower;
use serde_json::{Value, json};

const ENGINE: &str = include_str!("../src/local/engine/postgresql.sh");
const DATA: &str = "/data/pg";
const SOCKET: &str = "/run/appsnap-engine/postgresql";
const WAL: &str = "/logs/wal";
/// A cloud with a database under load, a copy of it, and what happened to it since.
struct Site {
    bench: Bench,
    follower: Follower,
    group: String,
    /// Acknowledged before the copy was made.
    acked: u64,
}

impl Site {
    async fn start() -> Self {
        let bench = Bench::start(Settings::default(), "true").await;
        let follower = Follower::new(&bench.client, REGION);
        follower.run(INSTANCE, "mkdir -p /etc/appsnap").await;
        let recipe = recipes::find("postgresql").unwrap();
        let files = [
            ("/root/engine.sh", ENGINE.to_owned()),
            ("/etc/appsnap/prescript.sh", recipe.prescript()),
            ("/etc/appsnap/postscript.sh", recipe.postscript()),
        ];
        for (path, text) in files {
            bench.cloud.guest.write_file(path, text.as_bytes(), "700").await.unwrap();
        }
        let site = Self { bench, follower, group: String::new(), acked: 0 };
        site.engine(&format!("make {DATA} {WAL}")).await;
        site.run("umask 077; sh /root/engine.sh conf >/etc/appsnap/postgresql.conf").await;
        site.engine(&format!("start {DATA}")).await;
        site.engine("load busy 120").await;
        site.bench.until("[ \"$(sh /root/engine.sh acked)\" -gt 50 ]").await;
        let acked = site.engine("acked").await.parse().unwrap();
        let report = site.bench.send(tick("2026-11-22T03:00:00Z", json!({}))).await.report;
        let unit = &report.units[0];
        assert_eq!((report.status, unit.level), (Status::Succeeded, Level::Application), "{unit:?}");
        let group = unit.snapshot_group_id.clone().unwrap();
        site.engine("unload").await;
        // What came after the copy, and is not wanted.
        let after = "DELETE FROM acked; INSERT INTO acked VALUES (-1); CHECKPOINT;";
        site.run(&format!("$as $bin/psql -XqAt -h /run/appsnap-engine/postgresql -c '{after}' postgres"))
            .await;
        assert_eq!(site.engine("count").await, "-1");
        Self { group, acked, ..site }
    }

    /// A line in the guest, with the means of PostgreSQL's owner.
    async fn run(&self, line: &str) -> String {
        let line = format!(
            "as='setpriv --reuid postgres --regid postgres --init-groups'\nbin=$(dirname \
             \"$(printf '%s\\n' /usr/lib/postgresql/*/bin/psql | sort -V | tail -n 1)\")\n{line}\n"
        );
        self.follower.run(INSTANCE, &line).await.trim().to_owned()
    }

    async fn engine(&self, verb: &str) -> String {
        self.follower.run(INSTANCE, &format!("sh /root/engine.sh {verb}")).await.trim().to_owned()
    }

    /// What `appsnap restore GROUP --plan --json` prints.
    async fn plan(&self, options: &[&str]) -> Value {
        serde_json::from_str(&self.printed(&[&["--json"], options].concat()).await).unwrap()
    }

    async fn printed(&self, options: &[&str]) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_appsnap"));
        command.args(["restore", &self.group, "--plan", "--region", REGION]).args(options);
        command.env("APPSNAP_ECS_ENDPOINT", self.bench.cloud.endpoint());
        command.env("APPSNAP_CA_BUNDLE", &self.bench.cloud.ca_file);
        command
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.0)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.1);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn lose_the_machine(&self) {
        let delete =
            json!({ "action": "DeleteInstance", "parameters": { "InstanceId": INSTANCE, "Force": "true" } });
        self.follower.call(&delete).await;
    }

    /// A running instance in the same zone, with PostgreSQL and an empty system disk.
    async fn another_machine(&self) -> String {
        let (id, disk_id) = ("i-bp1another000000000a", "d-bp1another000000000");
        let zone_id = format!("{REGION}-k");
        self.bench.cloud.cloud.look(|world, _| {
            world.add_instance(Instance {
                id: id.into(),
                account_id: ACCOUNT.into(),
                region_id: REGION.into(),
                zone_id: zone_id.clone(),
                status: "Running".into(),
                os_type: "linux".into(),
                agent_alive: true,
                ..Instance::default()
            });
            world.add_disk(Disk {
                id: disk_id.into(),
                account_id: ACCOUNT.into(),
                region_id: REGION.into(),
                zone_id: zone_id.clone(),
                instance_id: Some(id.into()),
                category: "cloud_essd".into(),
                size: 20,
                status: "In_use".into(),
                kind: "system".into(),
                device: "/dev/xvda".into(),
                ..Disk::default()
            });
        });
        let mount = Some("/".to_owned());
        let disk = DiskSpec { disk_id: disk_id.into(), size_mib: 320, filesystem: Filesystem::Ext4, mount };
        let guests = self.bench.cloud.add_guests(vec![(id.into(), vec![disk])]).await.unwrap();
        guests[id].write_file("/root/engine.sh", ENGINE.as_bytes(), "700").await.unwrap();
        id.to_owned()
    }

    /// Every row that was acknowledged before the copy is there, and none from after it.
    async fn rows_are_as_at_the_copy(&self, on: &str, socket: &str) {
        let ask = format!(
            "setpriv --reuid postgres --regid postgres --init-groups /usr/lib/postgresql/*/bin/psql -XqAt -h {socket} \
             -c 'SELECT count(*) FILTER (WHERE n BETWEEN 1 AND {}), min(n) FROM acked' postgres",
            self.acked
        );
        let rows = self.follower.run(on, &ask).await;
        assert_eq!(rows.trim(), format!("{}|1", self.acked));
    }
}

fn ready() -> bool {
    need(&NEEDS) && need(&["/usr/lib/postgresql"])
}

/// What people are to paste is good for their shell.
fn shells_read(text: &str) {
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("       ")).collect();
    assert!(lines.len() > 50, "{text}");
    for shell in [&["dash"][..], &["bash"], &["busybox", "sh"]] {
        let mut command = std::process::Command::new(shell[0]);
        command.args(&shell[1..]).args(["-n", "-c", &lines.join("\n")]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn beside_the_plan_leads_to_a_second_database_and_the_first_stays_as_it_is() {
    if !ready() {
        return;
    }
    let mut site = Site::start().await;
    // As the plan's own note tells it, in the background.
    let start = "mkdir -p /run/second && chown postgres /run/second && setpriv --reuid postgres --regid postgres \
                 --init-groups $(printf '%s\\n' /usr/lib/postgresql/*/bin/pg_ctl | sort -V | tail -n 1) start -w -s \
                 -D /restore/data/pg -l /run/second/log -o '-p 5433 -c listen_addresses= -c archive_mode=off \
                 -c unix_socket_directories=/run/second' || { cat /run/second/log >&2; exit 1; }";
    let plan = site.plan(&["--beside", "--start", start]).await;
    site.follower.follow(&plan).await;
    shells_read(&site.printed(&["--beside", "--start", start]).await);
    site.rows_are_as_at_the_copy(INSTANCE, "/run/second -p 5433").await;
    assert_eq!(site.engine("count").await, "-1");
    assert_eq!(
        site.run(&format!("readlink {DATA}/pg_wal /restore{DATA}/pg_wal")).await,
        "/logs/wal\n/restore/logs/wal"
    );
    let mounts = site.run("findmnt -no TARGET,OPTIONS /restore/logs || grep restore /proc/mounts").await;
    assert!(mounts.contains("/restore/logs") && mounts.contains("nouuid"), "{mounts}");
    // Done again, the script finds everything; it starts nothing on what somebody else has mounted there.
    let script = site.follower.filled(plan["steps"][4]["command"]["shell"].as_str().unwrap());
    site.follower.run(INSTANCE, &script).await;
    site.run(
        "$as $bin/pg_ctl stop -s -w -D /restore/data/pg && umount /restore/logs && mount -t tmpfs none /restore/logs",
    )
    .await;
    let (code, said) = site.follower.try_run(INSTANCE, &script).await;
    assert!(
        code == Some(1) && said.contains("/restore/logs: something else than /dev/vd"),
        "{code:?} {said}"
    );
    site.bench.close().await;
}

#[tokio::test]
async fn in_place_the_plan_leads_back_to_the_copy_and_from_there_to_the_present_state() {
    if !ready() {
        return;
    }
    let mut site = Site::start().await;
    let start = format!("sh /root/engine.sh start {DATA}");
    let plan = site.plan(&["--start", &start]).await;
    site.follower.follow(&plan).await;
    site.rows_are_as_at_the_copy(INSTANCE, SOCKET).await;
    // The state that was there before is a group of its own. Its tags tell nothing, and it is brought back all the same.
    site.group = site.follower.name("group.1").to_owned();
    let plan = site.plan(&["--start", &start]).await;
    assert_eq!(plan["said"]["level"], "crash");
    site.follower = Follower::new(&site.bench.client, REGION);
    site.follower.follow(&plan).await;
    assert_eq!(site.engine("count").await, "-1");
    site.bench.close().await;
}

#[tokio::test]
async fn of_a_machine_that_is_gone_the_plan_leads_to_a_new_one() {
    if !ready() {
        return;
    }
    let mut site = Site::start().await;
    site.lose_the_machine().await;
    let start = format!("sh /root/engine.sh start {DATA}");
    let new = ["--instance-type", "ecs.g7.large", "--vswitch", VSWITCH, "--security-group", SECURITY_GROUP];
    let plan = site.plan(&[&new[..], &["--start", &start]].concat()).await;
    assert_eq!((&plan["way"], &plan["fill"]), (&json!("anew"), &json!({})));
    site.follower.follow(&plan).await;
    let instance = site.follower.name("instance.1").to_owned();
    site.rows_are_as_at_the_copy(&instance, SOCKET).await;
    site.bench.cloud.close().await.unwrap();
}

#[tokio::test]
async fn of_a_machine_that_is_gone_the_plan_leads_to_its_disks_on_another_one() {
    if !ready() {
        return;
    }
    let mut site = Site::start().await;
    let other = site.another_machine().await;
    site.lose_the_machine().await;
    let start = format!("sh /root/engine.sh start {DATA}");
    let plan = site.plan(&["--to", &other, "--start", &start]).await;
    assert_eq!(plan["way"], "onto");
    site.follower.follow(&plan).await;
    site.rows_are_as_at_the_copy(&other, SOCKET).await;
    let fstab = site.follower.run(&other, "cat /etc/fstab").await;
    assert!(fstab.contains(" /data ext4 defaults,nofail 0 2"), "{fstab}");
    site.bench.cloud.close().await.unwrap();
}
