use std::collections::BTreeSet;

use super::facts::Machine;
use super::plan::Step;
use super::*;
use crate::api::ecs::{Disk, GroupSnapshot, Instance, Snapshot, SnapshotGroup, Tag};

const UUID: &str = "11111111-2222-3333-4444-555555555555";

pub(super) fn tags(pairs: &[(&str, &str)]) -> Vec<Tag> {
    pairs.iter().map(|(key, value)| Tag { key: (*key).into(), value: (*value).into() }).collect()
}

fn snapshot(id: &str, disk: &str, kind: &str, mount: &str) -> Snapshot {
    Snapshot {
        snapshot_id: id.into(),
        status: "accomplished".into(),
        source_disk_id: disk.into(),
        source_disk_size: "40".into(),
        source_disk_type: kind.into(),
        available: true,
        tags: tags(&[
            ("appsnap:level", "application"),
            ("appsnap:policy", "orders-db"),
            ("appsnap:verified", "clean"),
            ("appsnap:mount", mount),
            ("appsnap:mark:engine", "postgresql"),
            ("appsnap:mark:version", "15.18"),
            ("appsnap:mark:datadir", "/data/pg"),
            ("appsnap:mark:lsn", "0/2FD28C8"),
        ]),
        ..Snapshot::default()
    }
}

pub(super) fn disk(id: &str, device: &str) -> Disk {
    Disk {
        disk_id: id.into(),
        device: device.into(),
        category: "cloud_essd".into(),
        performance_level: "PL1".into(),
        instance_id: "i-1".into(),
        zone_id: "cn-x-b".into(),
        size: Some(50),
        ..Disk::default()
    }
}

pub(super) fn machine(id: &str, disks: &[Disk]) -> Machine {
    let instance = Instance {
        instance_id: id.into(),
        status: "Running".into(),
        os_type: "linux".into(),
        zone_id: "cn-x-b".into(),
        ..Instance::default()
    };
    Machine { instance, disks: disks.to_vec() }
}

/// A system disk and two data disks, which the group does not have in the order of their devices.
pub(super) fn facts() -> Facts {
    let snapshots = vec![
        snapshot("s-log", "d-log", "data", &format!("/data/log xfs {UUID}")),
        snapshot("s-sys", "d-sys", "system", &format!("/ ext4 {UUID}")),
        snapshot("s-data", "d-data", "data", &format!("/data ext4 {UUID}")),
    ];
    let shown = |one: &Snapshot| GroupSnapshot {
        snapshot_id: one.snapshot_id.clone(),
        source_disk_id: one.source_disk_id.clone(),
        ..GroupSnapshot::default()
    };
    let disks = [disk("d-sys", "/dev/xvda"), disk("d-data", "/dev/xvdb"), disk("d-log", "/dev/xvdc")];
    Facts {
        region_id: "cn-x".into(),
        group: SnapshotGroup {
            snapshot_group_id: "ssg-1".into(),
            creation_time: "2026-11-25T03:17:05Z".into(),
            status: "accomplished".into(),
            instance_id: "i-1".into(),
            snapshots: snapshots.iter().map(shown).collect(),
            tags: tags(&[("appsnap:run", "r-1"), ("appsnap:mount:d-data", "/data ext4 x")]),
            ..SnapshotGroup::default()
        },
        snapshots,
        disks: disks.to_vec(),
        instance: Some(machine("i-1", &disks)),
        to: None,
    }
}

/// The instance and its disks are no more.
fn gone() -> Facts {
    Facts { instance: None, disks: Vec::new(), ..facts() }
}

pub(super) fn wish() -> Wish {
    Wish { mount_under: "/restore".into(), nonce: "n1".into(), ..Wish::default() }
}

/// The steps in short: `ResetDisk d-data`, or `sh i-1`.
fn short(plan: &Plan) -> Vec<String> {
    let word = |step: &Step| match (&step.call, &step.command) {
        (Some(call), _) => {
            let on =
                ["DiskId", "SnapshotId", "InstanceId"].iter().find_map(|name| call.parameters.get(*name));
            format!("{} {}", call.action, on.map_or("", String::as_str)).trim_end().to_owned()
        }
        (_, command) => format!("sh {}", command.as_ref().unwrap().on),
    };
    plan.steps.iter().map(word).collect()
}

fn script(plan: &Plan, n: usize) -> &str {
    plan.steps.iter().filter_map(|step| step.command.as_ref()).nth(n).map_or("", |command| &command.shell)
}

#[test]
fn in_place_the_present_state_is_kept_before_anything_is_rolled_back() {
    let plan = plan(&facts(), &wish()).unwrap();
    let expected = [
        "StopInstance i-1",
        "CreateSnapshotGroup i-1",
        "ResetDisk d-sys",
        "ResetDisk d-data",
        "ResetDisk d-log",
        "StartInstance i-1",
        "sh i-1",
        "sh i-1",
    ];
    assert_eq!((plan.way, short(&plan)), ("in-place", expected.map(str::to_owned).to_vec()));
    let stop = plan.steps[0].call.as_ref().unwrap();
    assert_eq!(stop.parameters["StoppedMode"], "KeepCharging");
    let kept = plan.steps[1].call.as_ref().unwrap();
    assert_eq!(
        ["DiskId.1", "DiskId.2", "DiskId.3"].map(|n| &*kept.parameters[n]),
        ["d-sys", "d-data", "d-log"]
    );
    assert_eq!(plan.steps[3].call.as_ref().unwrap().parameters["SnapshotId"], "s-data");
    assert!(script(&plan, 0).ends_with(&format!(
        "volumes own d-sys d-data d-log\nput d-sys {UUID} ext4 / rw\nput d-data {UUID} ext4 /data rw\n\
         put d-log {UUID} xfs /data/log rw\n"
    )));
    assert!(
        script(&plan, 1).contains("dir=/data/pg\n")
            && script(&plan, 1).contains("units='postgresql-15 postgresql'")
    );
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn a_stopped_instance_is_not_stopped_again_and_a_disk_that_is_gone_is_made_anew() {
    let mut facts = facts();
    let machine = facts.instance.as_mut().unwrap();
    (machine.instance.status, machine.instance.stopped_mode) = ("Stopped".into(), "StopCharging".into());
    machine.disks.retain(|disk| disk.disk_id != "d-log");
    facts.disks.retain(|disk| disk.disk_id != "d-log");
    let plan = plan(&facts, &wish()).unwrap();
    let expected = [
        "CreateSnapshotGroup i-1",
        "ResetDisk d-sys",
        "ResetDisk d-data",
        "CreateDisk s-log",
        "AttachDisk ${disk.1}",
        "StartInstance i-1",
        "sh i-1",
        "sh i-1",
    ];
    assert_eq!(short(&plan), expected);
    assert!(script(&plan, 0).contains(&format!("put ${{disk.1}} {UUID} xfs /data/log rw\n")));
    let told: Vec<&str> = plan.warnings.iter().map(|one| one.message.as_str()).collect();
    assert!(told.iter().any(|one| one.contains("economical mode")), "{told:?}");
    assert!(told.iter().any(|one| one.contains("d-log is not attached to i-1 any more")), "{told:?}");
}

#[test]
fn beside_copies_are_attached_in_order_and_do_not_take_the_place_of_the_originals() {
    let plan = plan(&facts(), &Wish { beside: true, ..wish() }).unwrap();
    let disks = ["CreateDisk s-data", "AttachDisk ${disk.1}", "CreateDisk s-log", "AttachDisk ${disk.2}"];
    assert_eq!(short(&plan), [&disks[..], &["sh i-1", "sh i-1"]].concat());
    let create = &plan.steps[0].call.as_ref().unwrap().parameters;
    assert_eq!([&*create["ZoneId"], &*create["Size"], &*create["PerformanceLevel"]], ["cn-x-b", "50", "PL1"]);
    assert!(script(&plan, 0).ends_with(&format!(
        "volumes copy ${{disk.1}} ${{disk.2}}\nput ${{disk.1}} {UUID} ext4 /restore/data rw\n\
         put ${{disk.2}} {UUID} xfs /restore/data/log rw,nouuid\n"
    )));
    assert!(script(&plan, 1).contains("dir=/restore/data/pg\n") && !script(&plan, 1).contains("systemctl"));
    let told = plan.steps.last().unwrap().notes.join("\n");
    assert!(told.contains("postgres -D /restore/data/pg -p 5433"), "{told}");
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn a_btrfs_does_not_come_beside_itself() {
    let mut all = facts();
    all.snapshots[0].tags[3].value = format!("/data/log btrfs {UUID}");
    let beside = Wish { beside: true, ..wish() };
    let told = |plan: &Plan| {
        plan.steps.iter().any(|step| step.notes.iter().any(|note| note.contains("btrfs must not")))
    };
    let same = plan(&all, &beside).unwrap();
    assert!(told(&same) && !script(&same, 0).contains(" btrfs /restore"));
    let other = plan(&Facts { to: Some(machine("i-2", &[])), ..all }, &beside).unwrap();
    assert!(!told(&other) && script(&other, 0).contains(" btrfs /restore/data/log rw\n"));
}

#[test]
fn the_system_disk_is_copied_where_the_engines_data_lies_on_it() {
    let mut facts = facts();
    for one in &mut facts.snapshots {
        one.tags
            .iter_mut()
            .filter(|tag| tag.key == "appsnap:mark:datadir")
            .for_each(|tag| tag.value = "/srv/pg".into());
    }
    let plan = plan(&facts, &Wish { beside: true, start: Some("start-it".into()), ..wish() }).unwrap();
    assert_eq!(short(&plan)[0], "CreateDisk s-sys");
    assert!(script(&plan, 0).contains(&format!("put ${{disk.1}} {UUID} ext4 /restore/rootfs rw\n")));
    assert!(
        script(&plan, 1).contains("dir=/restore/rootfs/srv/pg\n") && script(&plan, 1).contains("start-it\n")
    );
}

#[test]
fn a_machine_that_is_gone_comes_anew_from_an_image_of_all_its_disks() {
    let plan = plan(&gone(), &wish()).unwrap();
    assert_eq!(
        (plan.way, short(&plan)),
        (
            "anew",
            ["CreateImage", "RunInstances", "sh ${instance.1}", "sh ${instance.1}"]
                .map(str::to_owned)
                .to_vec()
        )
    );
    let image = &plan.steps[0].call.as_ref().unwrap().parameters;
    let mapped = |n: usize| {
        ["SnapshotId", "Device", "DiskType"].map(|field| &*image[&format!("DiskDeviceMapping.{n}.{field}")])
    };
    assert_eq!(mapped(1), ["s-sys", "/dev/xvda", "system"]);
    // Without the disks nothing tells their order but the group.
    assert_eq!((mapped(2), mapped(3)), (["s-log", "/dev/xvdb", "data"], ["s-data", "/dev/xvdc", "data"]));
    let fill: Vec<&str> = plan.fill.keys().map(String::as_str).collect();
    assert_eq!(fill, ["fill.InstanceType", "fill.SecurityGroupId", "fill.VSwitchId"]);
    let given = |text: &str| Some(text.to_owned());
    let wish = Wish {
        instance_type: given("ecs.g7.large"),
        vswitch: given("vsw-1"),
        security_group: given("sg-1"),
        ..wish()
    };
    let plan = super::plan(&gone(), &wish).unwrap();
    assert!(plan.fill.is_empty() && plan.steps[1].call.as_ref().unwrap().parameters["VSwitchId"] == "vsw-1");
}

#[test]
fn the_disks_of_a_machine_that_is_gone_go_to_another_one_and_stay_mounted() {
    let facts = Facts { to: Some(machine("i-2", &[])), ..gone() };
    let plan = plan(&facts, &wish()).unwrap();
    assert_eq!((plan.way, short(&plan).len(), short(&plan)[1].as_str()), ("onto", 6, "AttachDisk ${disk.1}"));
    assert!(
        script(&plan, 0).contains(&format!("put ${{disk.2}} {UUID} ext4 /data rw\nkeep {UUID} ext4 /data\n"))
    );
    assert!(script(&plan, 1).contains("dir=/data/pg\n") && script(&plan, 1).contains("systemctl start"));
    assert_eq!(plan.steps[0].call.as_ref().unwrap().parameters["DiskCategory"], "cloud_essd");
}

#[test]
fn what_is_not_done_yet_is_waited_for_where_whole_snapshots_are_needed() {
    let mut facts = facts();
    facts.snapshots[0].status = "progressing".into();
    assert_eq!(short(&plan(&facts, &wish()).unwrap())[0], "DescribeSnapshotGroups");
    let plan = plan(&facts, &Wish { beside: true, ..wish() }).unwrap();
    assert_eq!(short(&plan)[0], "CreateDisk s-data");
    assert!(plan.warnings[0].message.starts_with("s-log is still being uploaded"), "{:?}", plan.warnings);
}

#[test]
fn every_name_is_bound_once_and_before_it_is_used() {
    let other = Facts { to: Some(machine("i-2", &[])), ..gone() };
    let cases = [
        plan(&facts(), &wish()),
        plan(&facts(), &Wish { beside: true, ..wish() }),
        plan(&gone(), &wish()),
        plan(&other, &wish()),
    ];
    for plan in cases.map(Result::unwrap) {
        let mut known: BTreeSet<String> = plan.fill.keys().cloned().collect();
        for step in &plan.steps {
            let used = |text: &str, known: &BTreeSet<String>| {
                let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
                for name in names.filter(|name| name.contains('.')) {
                    assert!(known.contains(name), "{}: {name} in step {}", plan.way, step.number);
                }
            };
            step.call.iter().flat_map(|call| call.parameters.values()).for_each(|value| used(value, &known));
            step.command
                .iter()
                .for_each(|command| used(&format!("{} {}", command.on, command.shell), &known));
            for name in step.yields.keys() {
                assert!(known.insert(name.clone()), "{}: {name} is bound twice", plan.way);
            }
            step.until
                .iter()
                .flat_map(|until| until.call.parameters.values())
                .for_each(|value| used(value, &known));
        }
    }
}

#[test]
fn what_cannot_be_planned_is_told_with_its_cure() {
    let failed = {
        let mut facts = facts();
        facts.group.status = "failed".into();
        facts
    };
    let empty = Facts { snapshots: Vec::new(), ..facts() };
    let mut data = gone();
    data.snapshots.remove(1);
    let table = [
        (failed, false, "take another group"),
        (empty, false, "ecs:DescribeSnapshots"),
        (data, false, "--to INSTANCE"),
        (gone(), true, "name another one by --to"),
    ];
    for (facts, beside, expected) in table {
        let why = plan(&facts, &Wish { beside, ..wish() }).unwrap_err();
        assert!(why.contains("ssg-1") && why.contains(expected), "{why}");
    }
}

#[test]
fn a_tag_is_a_word_to_the_shell_whatever_it_holds() {
    let mut facts = facts();
    facts.snapshots[0].tags[3].value = "/a'; reboot;' xfs 1;reboot".into();
    facts.snapshots[2].tags[3].value = format!("/a'; reboot;' $(reboot)\\040x xfs {UUID}, /b ext4 -");
    let plan = plan(&facts, &wish()).unwrap();
    let expected =
        format!("put d-data {UUID} xfs '/a'\\''; reboot;'\\'' $(reboot) x' rw\nput d-data - ext4 /b rw\n");
    assert!(script(&plan, 0).ends_with(&expected), "{}", script(&plan, 0));
}

#[test]
fn people_get_lines_to_paste() {
    let text = text::text(&plan(&facts(), &Wish { beside: true, ..wish() }).unwrap());
    let lines = [
        "ssg-1 of 2026-11-25T03:17:05Z in cn-x, as copies beside what is there",
        "       disk_1=$(aliyun ecs CreateDisk --region cn-x --ClientToken restore-n1-1 --DiskCategory cloud_essd --DiskName restored-d-data \
         --PerformanceLevel PL1 --RegionId cn-x --Size 50 --SnapshotId s-data --Tag.1.Key restored-from --Tag.1.Value ssg-1 \
         --ZoneId cn-x-b |",
        "           grep -o '\"d-[0-9a-z]*\"' | head -n 1 | tr -d '\"')",
        "       aliyun ecs DescribeDisks --region cn-x --DiskIds \"[\\\"${disk_1:?}\\\"]\" --RegionId cn-x --waiter \
         expr='to_string(Disks.Disk[0].Status)' to=Available timeout=600 interval=5 >/dev/null && echo 'step 1 is done'",
        "       aliyun ecs AttachDisk --region cn-x --DiskId \"${disk_1:?}\" --InstanceId i-1 &&",
        "   on i-1, as root, in a shell of POSIX:",
        "       disk_2=   # fill in what was printed above",
        &format!("       put ${{disk_2:?}} {UUID} xfs /restore/data/log rw,nouuid"),
    ];
    for line in lines {
        assert!(text.lines().any(|one| one == line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("${disk."), "{text}");
}
