//! The instance is gone: a new one from an image of the group, or its disks on another instance.

use super::engine;
use super::existing::{CATEGORY, INSTANCE, STATE, finish, instance_call, make, needed, ready, whole};
use super::facts::{Facts, Machine, Member, Wish};
use super::guest::{How, mounts};
use super::plan::{Plan, Step, call};
use super::said::Said;

/// An image takes so many data disks.
const IMAGE_DISKS: usize = 16;
const HOUR: u32 = 3600;

/// The disks on another instance, mounted where they were.
pub fn onto(facts: &Facts, wish: &Wish, onto: &Machine, members: &[Member]) -> Plan {
    let wanted = needed(facts, members);
    let mut steps = Vec::new();
    let made = make(facts, wish, onto, &wanted, &mut steps);
    finish(facts, wish, "onto", onto, steps, (&made, How::Moved(&wish.mount_under)))
}

/// A new instance.
pub fn anew(facts: &Facts, wish: &Wish, members: &[Member]) -> Result<Plan, String> {
    let group = &facts.group.snapshot_group_id;
    let data = members.iter().filter(|member| !member.system).count();
    if !members.iter().any(|member| member.system) {
        return Err(format!(
            "{group} holds no system disk, and its instance is not shown in {}: it was deleted, or the key may not call \
             ecs:DescribeInstances; name an instance of the same zone and system to attach the disks to: --to INSTANCE",
            facts.region_id
        ));
    }
    if data > IMAGE_DISKS {
        return Err(format!(
            "{group} holds {data} data disks, an image takes {IMAGE_DISKS}; make an instance of the same system, and \
             attach them to it: --to INSTANCE"
        ));
    }
    let region = facts.region_id.as_str();
    let mut steps = Vec::new();
    steps.extend(ready(facts, members));
    let (name, token) = (format!("restored-{}", wish.nonce), format!("restore-{}-image", wish.nonce));
    let mut image =
        call("CreateImage", &[("RegionId", region), ("ImageName", &name), ("ClientToken", &token)]);
    let token = format!("restore-{}-instance", wish.nonce);
    let mut run = call(
        "RunInstances",
        &[
            ("RegionId", region),
            ("ImageId", "${image.1}"),
            ("InstanceName", &name),
            ("SystemDisk.Category", CATEGORY),
            ("ClientToken", &token),
        ],
    );
    let mut fill = std::collections::BTreeMap::new();
    let wanted = [
        (
            "InstanceType",
            &wish.instance_type,
            "e.g. ecs.g7.large; of the same architecture (--instance-type)",
        ),
        ("VSwitchId", &wish.vswitch, "vsw-…; its zone is the new instance's (--vswitch)"),
        ("SecurityGroupId", &wish.security_group, "sg-…, of the same VPC (--security-group)"),
    ];
    for (parameter, given, what) in wanted {
        let value = given.clone().unwrap_or_else(|| {
            fill.insert(format!("fill.{parameter}"), what.to_owned());
            format!("${{fill.{parameter}}}")
        });
        run.parameters.insert(parameter.into(), value);
    }
    for (member, n) in members.iter().zip(0_u8..) {
        let device = format!("/dev/xvd{}", char::from(b'a' + n));
        let mapped = format!("DiskDeviceMapping.{}", n + 1);
        let kind = if member.system { "system" } else { "data" };
        let fields = [("SnapshotId", &*member.snapshot_id), ("Device", &*device), ("DiskType", kind)];
        for (field, value) in fields {
            image.parameters.insert(format!("{mapped}.{field}"), value.into());
        }
        if !member.system {
            run.parameters.insert(format!("DataDisk.{n}.Device"), device);
            run.parameters.insert(format!("DataDisk.{n}.Category"), CATEGORY.into());
        }
    }
    steps.push(
        Step::calls(
            "Make an image of the group",
            "A new system disk can only come from an image; with the data disks in it, all come from one cut.",
            image,
        )
        .yields("image.1", "/ImageId")
        .until(
            call("DescribeImages", &[("RegionId", region), ("ImageId", "${image.1}"), ("Status", "Available")]),
            "/Images/Image/0/Status",
            "Available",
            HOUR,
        )
        .note("if the original booted by UEFI, add BootMode=UEFI; on ARM, Architecture=arm64")
        .note("while the image is there, its snapshots cannot be deleted: DeleteImage when all is well"),
    );
    let instance = "${instance.1}";
    steps.push(
        Step::calls(
            "Start an instance from it",
            "Disks of their own, from the group's snapshots; the zone is that of the VSwitch.",
            run,
        )
        .yields("instance.1", "/InstanceIdSets/InstanceIdSet/0")
        .until(instance_call(region, instance), INSTANCE, "Running", STATE)
        .note("to log in, add KeyPairName, or Password; addresses, RAM role and tags of the old one are not restored")
        .note("cloud-init takes it for a new machine: host name and SSH host keys are new"),
    );
    let disks: Vec<(String, &Member)> = members.iter().map(|member| ("-".to_owned(), member)).collect();
    steps.extend(mounts(instance, &disks, How::Booted));
    let said = Said::of(&facts.group, &facts.snapshots);
    steps.extend(engine::step(&said, wish, instance, &disks, How::Booted));
    Ok(Plan { fill, ..whole(facts, "anew", None, said, steps) })
}
