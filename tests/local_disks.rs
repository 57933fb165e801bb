//! Disks on their way through the local cloud with typed calls: made from a snapshot, plugged into a real guest that runs,
//! mounted there, pulled out, deleted; nothing of it stays behind.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "common/guests.rs"]
mod guests;

use std::time::Duration;

use appsnap::acs::{Call, Error, Kind};
use appsnap::api::ecs::{self, CreateDisk, Disk, disk_becomes};
use appsnap::clock::Clock;
use appsnap::local::cloud::{DISKS, INSTANCE, REGION, SECURITY_GROUP, VSWITCH};
use appsnap::local::guest::Guest;
use appsnap::local::store::TOOLS;
use appsnap::local::world::Settings;
use bench::{Bench, NEEDS};
use guests::{assert_gone, text};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

fn needs() -> bool {
    common::need(&[&NEEDS[..], &TOOLS, &["findmnt", "lsblk"]].concat())
}

fn soon() -> Timestamp {
    Clock::system().now() + SignedDuration::from_secs(30)
}

/// A snapshot group of the guest as it is; its snapshots by source disk.
async fn group(bench: &Bench) -> Vec<(String, String)> {
    let wanted = ecs::CreateSnapshotGroup {
        region_id: REGION,
        instance_id: Some(INSTANCE),
        disk_ids: &[],
        name: "by-hand",
        description: "for a test",
        client_token: &Clock::system().nonce(),
        tags: &[],
        resource_group_id: None,
    };
    let id = ecs::create_snapshot_group(&bench.client, &wanted).await.unwrap();
    for _ in 0..100 {
        if let Some(group) = bench.groups().await.into_iter().find(|one| one.snapshot_group_id == id) {
            return group.snapshots.into_iter().map(|one| (one.source_disk_id, one.snapshot_id)).collect();
        }
        Clock::system().sleep(Duration::from_millis(100)).await;
    }
    panic!("the group never showed");
}

/// A disk of the snapshot of that source, available.
async fn made(bench: &Bench, group: &[(String, String)], source: &str) -> Disk {
    let (_, snapshot) = group.iter().find(|(disk, _)| disk == source).unwrap();
    let wanted = CreateDisk {
        region_id: REGION,
        zone_id: "cn-hangzhou-k",
        snapshot_id: snapshot,
        category: "cloud_essd",
        size: 40,
        name: "restored",
        client_token: &Clock::system().nonce(),
        tags: &[("made-by".to_owned(), "a test".to_owned())],
        ..CreateDisk::default()
    };
    let id = ecs::create_disk(&bench.client, &wanted).await.unwrap();
    disk_becomes(&bench.client, REGION, &id, "Available", soon()).await.unwrap()
}

async fn attached(bench: &Bench, disk: &str, instance: &str) -> Result<Disk, Error> {
    ecs::attach_disk(&bench.client, REGION, disk, instance, false).await?;
    disk_becomes(&bench.client, REGION, disk, "In_use", soon()).await
}

async fn detached(bench: &Bench, disk: &str, instance: &str) -> Result<Disk, Error> {
    ecs::detach_disk(&bench.client, REGION, disk, instance).await?;
    disk_becomes(&bench.client, REGION, disk, "Available", soon()).await
}

/// All that a guest shows of its disks.
async fn seen(guest: &Guest) -> String {
    text(guest, "cd /sys/block && echo * && cat */serial && ls /dev/disk/by-id /sys/dev/block && ls /dev")
        .await
}

#[tokio::test]
async fn a_disk_is_plugged_into_a_running_guest_and_pulled_out_again() {
    if !needs() {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let guest = bench.cloud.guest.clone();
    for mount in ["/data", "/logs"] {
        guest.write_file(&format!("{mount}/kept"), b"as it was\n", "644").await.unwrap();
    }
    text(&guest, "sync").await;
    let before = seen(&guest).await;
    let group = group(&bench).await;
    let tag = [("made-by".to_owned(), "a test".to_owned())];
    for (source, options) in [(DISKS[1].0, "ro"), (DISKS[2].0, "ro,nouuid")] {
        let disk = made(&bench, &group, source).await;
        let disk = attached(&bench, &disk.disk_id, INSTANCE).await.unwrap();
        assert_eq!((disk.instance_id.as_str(), disk.device.as_str()), (INSTANCE, "/dev/xvdd"));
        assert_eq!(ecs::describe_disks_of(&bench.client, REGION, INSTANCE).await.unwrap().len(), 4);
        assert_eq!(ecs::describe_disks_tagged(&bench.client, REGION, &tag).await.unwrap().len(), 1);
        // As a guest of the real cloud finds it: by its serial.
        let find = r#"for one in /sys/block/*; do [ "$(cat $one/serial)" != "$1" ] || echo ${one##*/}; done"#;
        let found = guest.exec(find, &[&disk.serial_number], b"", guests::SHORT).await.unwrap().text();
        assert_eq!(found, "vdd");
        assert_eq!(
            text(&guest, &format!("readlink -f /dev/disk/by-id/virtio-{}", disk.serial_number)).await,
            "/dev/vdd"
        );
        let mount = format!(
            "mkdir -p /mnt/copy && mount -o {options} /dev/vdd /mnt/copy && cat /mnt/copy/kept && umount /mnt/copy"
        );
        assert_eq!(text(&guest, &mount).await, "as it was");
        let error = attached(&bench, &disk.disk_id, INSTANCE).await.unwrap_err();
        assert_eq!(error.code, "IncorrectDiskStatus");
        detached(&bench, &disk.disk_id, INSTANCE).await.unwrap();
        assert_eq!(seen(&guest).await, before);
        ecs::delete_disk(&bench.client, REGION, &disk.disk_id).await.unwrap();
        assert!(ecs::describe_disks(&bench.client, REGION, &[disk.disk_id]).await.unwrap().is_empty());
    }
    let state = bench.cloud.store.state().to_owned();
    bench.close().await;
    assert_gone(&state, &[]).await;
}

#[tokio::test]
async fn a_mounted_disk_is_pulled_out_under_whoever_uses_it_and_comes_back_when_he_has_let_go() {
    if !needs() {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let guest = bench.cloud.guest.clone();
    let group = group(&bench).await;
    for (source, options) in [(DISKS[1].0, "rw"), (DISKS[2].0, "rw,nouuid")] {
        let disk = made(&bench, &group, source).await.disk_id;
        attached(&bench, &disk, INSTANCE).await.unwrap();
        let mount = format!(
            "mkdir -p /mnt/copy && mount -o {options} /dev/vdd /mnt/copy && touch /mnt/copy/a && echo ok"
        );
        assert_eq!(text(&guest, &mount).await, "ok");
        detached(&bench, &disk, INSTANCE).await.unwrap();
        assert_eq!(text(&guest, "touch /mnt/copy/b 2>&1 | grep -c 'Input/output error'").await, "1");
        assert_eq!(text(&guest, "ls /dev | grep -c vdd; true").await, "0");
        // Still held: this attachment fails, and the disk is available as before.
        ecs::attach_disk(&bench.client, REGION, &disk, INSTANCE, false).await.unwrap();
        disk_becomes(&bench.client, REGION, &disk, "Available", soon()).await.unwrap();
        text(&guest, "umount /mnt/copy").await;
        attached(&bench, &disk, INSTANCE).await.unwrap();
        text(
            &guest,
            &format!(
                "mount -o {options} /dev/vdd /mnt/copy && touch /mnt/copy/c && umount /mnt/copy && echo ok"
            ),
        )
        .await;
        detached(&bench, &disk, INSTANCE).await.unwrap();
    }
    // One that is mounted where only its guest sees it, pulled out and deleted: it goes with its guest.
    let disk = made(&bench, &group, DISKS[1].0).await.disk_id;
    attached(&bench, &disk, INSTANCE).await.unwrap();
    assert_eq!(text(&guest, "unshare -m sh -c 'mount /dev/vdd /mnt && touch /mnt/a && echo ok && exec sleep 60' >/run/out & sleep 1; cat /run/out").await, "ok");
    detached(&bench, &disk, INSTANCE).await.unwrap();
    ecs::delete_disk(&bench.client, REGION, &disk).await.unwrap();
    let state = bench.cloud.store.state().to_owned();
    bench.close().await;
    assert_gone(&state, &[]).await;
}

/// One call of the vendor's by its name, with the operator's key.
async fn call(bench: &Bench, action: &'static str, params: &[(&str, &str)]) -> Value {
    let mut call = Call::new(&ecs::ECS, action, REGION, Kind::Once);
    for (name, value) in params {
        call = call.param(name, value);
    }
    bench.client.call(&call).await.unwrap()
}

/// Waits until the instance is in this state.
async fn instance_becomes(bench: &Bench, id: &str, status: &str) {
    for _ in 0..300 {
        let found = ecs::describe_instances(&bench.client, REGION, &[id.to_owned()], &[]).await.unwrap();
        if found[0].status == status {
            return;
        }
        Clock::system().sleep(Duration::from_millis(100)).await;
    }
    panic!("{id} is never {status}");
}

/// Runs a command by Cloud Assistant and gives its output.
async fn by_assistant(bench: &Bench, instance: &str, script: &str) -> String {
    let wanted = [("Type", "RunShellScript"), ("CommandContent", script), ("InstanceId.1", instance)];
    let region = ("RegionId", REGION);
    let run = call(bench, "RunCommand", &[&wanted[..], &[region]].concat()).await;
    let id = run["InvokeId"].as_str().unwrap().to_owned();
    for _ in 0..100 {
        let asked = [region, ("InvokeId", &id), ("ContentEncoding", "PlainText")];
        let all = call(bench, "DescribeInvocationResults", &asked).await;
        let result = &all["Invocation"]["InvocationResults"]["InvocationResult"][0];
        if result["InvokeRecordStatus"] == "Finished" {
            return result["Output"].as_str().unwrap().trim().to_owned();
        }
        Clock::system().sleep(Duration::from_millis(100)).await;
    }
    panic!("the command never ended");
}

#[tokio::test]
async fn a_guest_is_stopped_rolled_back_and_started_again_from_its_disks() {
    if !needs() {
        return;
    }
    let bench =
        Bench::start(Settings { upload: Duration::from_millis(200), ..Settings::default() }, "true").await;
    let guest = bench.cloud.guest.clone();
    for path in ["/data/kept", "/logs/kept", "/root/kept"] {
        guest.write_file(path, b"then\n", "644").await.unwrap();
    }
    text(&guest, "sync").await;
    let group = group(&bench).await;
    for path in ["/data/kept", "/logs/kept", "/root/kept"] {
        guest.write_file(path, b"now\n", "644").await.unwrap();
    }
    // One that goes on until it is asked to end, and then tells; and one more disk.
    let polite = r#"trap 'echo asked >/data/told; sync; exit' TERM; while :; do sleep 0.1; done"#;
    guest.spawn(polite, &[]).await.unwrap();
    let extra = made(&bench, &group, DISKS[1].0).await;
    attached(&bench, &extra.disk_id, INSTANCE).await.unwrap();
    let instance = ("InstanceId", INSTANCE);
    call(&bench, "StopInstance", &[instance, ("StoppedMode", "KeepCharging")]).await;
    instance_becomes(&bench, INSTANCE, "Stopped").await;
    assert!(!guest.exec("true", &[], b"", guests::SHORT).await.is_ok_and(|done| done.ok()), "it is off");
    let logs = group.iter().find(|(disk, _)| disk == DISKS[2].0).unwrap();
    call(&bench, "ResetDisk", &[("DiskId", &logs.0), ("SnapshotId", &logs.1)]).await;
    disk_becomes(&bench.client, REGION, &logs.0, "In_use", soon()).await.unwrap();
    call(&bench, "StartInstance", &[instance]).await;
    instance_becomes(&bench, INSTANCE, "Running").await;
    // What was reset is as it was then, all else as it was at the end; the mounts are those of before.
    let seen = "cat /data/kept /data/told /logs/kept /root/kept; ls /mnt; cat /sys/block/vdd/serial";
    assert_eq!(
        by_assistant(&bench, INSTANCE, seen).await,
        format!("now\nasked\nthen\nnow\n{}", extra.serial_number)
    );
    let prescript = text(&guest, "mount -t ext4,xfs | wc -l; cat /run/appsnap-metadata | wc -l").await;
    assert_eq!(prescript, "4\n1", "three disks and the agent's directory; the plugin finds its role");
    // While it is off, disks change hands all the same.
    call(&bench, "StopInstance", &[instance, ("ForceStop", "true")]).await;
    instance_becomes(&bench, INSTANCE, "Stopped").await;
    detached(&bench, &extra.disk_id, INSTANCE).await.unwrap();
    let other = made(&bench, &group, DISKS[2].0).await;
    attached(&bench, &other.disk_id, INSTANCE).await.unwrap();
    call(&bench, "StartInstance", &[instance]).await;
    instance_becomes(&bench, INSTANCE, "Running").await;
    assert_eq!(
        text(&guest, "cat /sys/block/vdd/serial; ls /sys/block | wc -l").await,
        format!("{}\n4", other.serial_number)
    );
    let state = bench.cloud.store.state().to_owned();
    bench.close().await;
    assert_gone(&state, &[]).await;
}

#[tokio::test]
async fn an_instance_that_is_gone_comes_back_from_an_image_of_its_group() {
    if !needs() {
        return;
    }
    let settings = Settings { upload: Duration::from_millis(200), ..Settings::default() };
    let bench = Bench::start(settings, "true").await;
    let guest = bench.cloud.guest.clone();
    for path in ["/data/kept", "/logs/kept", "/root/kept"] {
        guest.write_file(path, format!("{path}\n").as_bytes(), "644").await.unwrap();
    }
    text(&guest, "sync").await;
    let group = group(&bench).await;
    let kept = made(&bench, &group, DISKS[1].0).await.disk_id;
    attached(&bench, &kept, INSTANCE).await.unwrap();
    call(&bench, "DeleteInstance", &[("InstanceId", INSTANCE), ("Force", "true")]).await;
    let kept = disk_becomes(&bench.client, REGION, &kept, "Available", soon()).await.unwrap();
    assert_eq!(kept.instance_id, "");
    let old: Vec<String> = DISKS.iter().map(|(id, ..)| id.to_string()).collect();
    assert!(ecs::describe_disks(&bench.client, REGION, &old).await.unwrap().is_empty());
    assert!(
        ecs::describe_instances(&bench.client, REGION, &[INSTANCE.into()], &[]).await.unwrap().is_empty()
    );

    let region = ("RegionId", REGION);
    let mut image = vec![region, ("ImageName", "back")];
    let names: Vec<[String; 2]> = (1..=3)
        .map(|n| ["SnapshotId", "Device"].map(|field| format!("DiskDeviceMapping.{n}.{field}")))
        .collect();
    for ((names, (source, ..)), device) in
        names.iter().zip(&DISKS).zip(["/dev/xvda", "/dev/xvdb", "/dev/xvdc"])
    {
        let (_, snapshot) = group.iter().find(|(disk, _)| disk == source).unwrap();
        image.extend([(names[0].as_str(), snapshot.as_str()), (names[1].as_str(), device)]);
    }
    let image = call(&bench, "CreateImage", &image).await["ImageId"].as_str().unwrap().to_owned();
    loop {
        let found = call(&bench, "DescribeImages", &[region, ("ImageId", &image)]).await;
        if found["TotalCount"] == 1 {
            break;
        }
        Clock::system().sleep(Duration::from_millis(100)).await;
    }
    let wanted = [
        region,
        ("ImageId", &image),
        ("InstanceType", "ecs.g7.large"),
        ("VSwitchId", VSWITCH),
        ("SecurityGroupId", SECURITY_GROUP),
        ("HostName", "orders-db"),
        ("SystemDisk.Category", "cloud_essd"),
        ("DataDisk.1.Device", "/dev/xvdb"),
        ("DataDisk.1.Category", "cloud_essd"),
    ];
    let run = call(&bench, "RunInstances", &wanted).await;
    let id = run["InstanceIdSets"]["InstanceIdSet"][0].as_str().unwrap().to_owned();
    instance_becomes(&bench, &id, "Running").await;
    assert_eq!(ecs::describe_disks_of(&bench.client, REGION, &id).await.unwrap().len(), 3);
    let look = "hostname; cat /root/kept; mkdir -p /data /logs && mount /dev/vdb /data && mount /dev/vdc /logs && cat /data/kept /logs/kept";
    assert_eq!(by_assistant(&bench, &id, look).await, "orders-db\n/root/kept\n/data/kept\n/logs/kept");
    // It is an instance like any other: what is left over is plugged in, it stops, it starts.
    attached(&bench, &kept.disk_id, &id).await.unwrap();
    call(&bench, "StopInstance", &[("InstanceId", &id)]).await;
    instance_becomes(&bench, &id, "Stopped").await;
    call(&bench, "StartInstance", &[("InstanceId", &id)]).await;
    instance_becomes(&bench, &id, "Running").await;
    assert_eq!(by_assistant(&bench, &id, "cat /sys/block/vdd/serial").await, kept.serial_number);
    assert_eq!(bench.cloud.guest_of(&id).unwrap().instance_id(), id);
    let state = bench.cloud.store.state().to_owned();
    bench.cloud.close().await.unwrap();
    assert_gone(&state, &[]).await;
}
