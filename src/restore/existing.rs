//! The instance is still there: its disks are rolled back in place, or copies are put beside them.

use super::engine;
use super::facts::{Facts, Machine, Member, Wish};
use super::guest::{How, mounts};
use super::plan::{Call, Plan, Step, call, numbered};
use super::said::Said;
use super::warnings::warnings;
use crate::acs::json_list;

/// A day: a first upload of a large disk takes hours.
const UPLOAD: u32 = 24 * 3600;
/// What a change of state may take.
pub const STATE: u32 = 600;

/// Rolls the disks back where they are.
pub fn in_place(facts: &Facts, wish: &Wish, onto: &Machine, members: &[Member]) -> Plan {
    let (region, instance) = (facts.region_id.as_str(), onto.id());
    let here = |member: &&Member| onto.disks.iter().any(|disk| disk.disk_id == member.disk_id);
    let (back, others): (Vec<&Member>, Vec<&Member>) = members.iter().partition(here);
    let lost: Vec<&Member> = others.into_iter().filter(|member| !member.system).collect();
    let mut steps = Vec::new();
    steps.extend(ready(facts, members));
    if onto.instance.status != "Stopped" {
        let stop = call("StopInstance", &[("InstanceId", instance), ("StoppedMode", "KeepCharging")]);
        steps.push(
            Step::calls(
                format!("Stop {instance}"),
                "A disk is rolled back only while its instance is stopped; the system shuts down properly, and the \
                 engine with it.",
                stop,
            )
            .until(instance_call(region, instance), INSTANCE, "Stopped", STATE)
            .note(
                "KeepCharging, since StopCharging gives the place in the zone back: the instance might not start again \
                 for lack of stock, and its public address might change",
            ),
        );
    }
    if !back.is_empty() {
        steps.push(protective(facts, wish, instance, &back));
    }
    for member in &back {
        let reset = call("ResetDisk", &[("DiskId", &member.disk_id), ("SnapshotId", &member.snapshot_id)]);
        let kind = if member.system { "system disk" } else { "disk" };
        let mut step = Step::calls(
            format!("Roll {kind} {} back", member.disk_id),
            "It becomes what it was at the cut, in place: same disk, same serial, same UUIDs.",
            reset,
        )
        .until(disk_call(region, &member.disk_id), DISK, "In_use", STATE);
        if member.system {
            step = step.note(
                "with it come the system's files and settings of that time; where only the data is wanted, leave this \
                 step out; login stays by the instance's present key pair or password",
            );
        }
        steps.push(step);
    }
    let made = make(facts, wish, onto, &lost, &mut steps);
    steps.push(
        Step::calls(
            format!("Start {instance}"),
            "The disks are what they were; the guest boots from them.",
            call("StartInstance", &[("InstanceId", instance)]),
        )
        .until(instance_call(region, instance), INSTANCE, "Running", STATE)
        .note("IncorrectDiskStatus means that a disk is still being rolled back: try again"),
    );
    let kept = back.iter().map(|member| (member.disk_id.clone(), *member));
    let disks: Vec<(String, &Member)> = kept.chain(made).collect();
    finish(facts, wish, "in-place", onto, steps, (&disks, How::Booted))
}

/// Puts copies beside, on the same instance or on another one.
pub fn beside(facts: &Facts, wish: &Wish, onto: &Machine, members: &[Member]) -> Plan {
    let wanted = needed(facts, members);
    let mut steps = Vec::new();
    let made = make(facts, wish, onto, &wanted, &mut steps);
    let same = facts.instance.as_ref().is_some_and(|own| own.id() == onto.id());
    finish(facts, wish, "beside", onto, steps, (&made, How::Beside { dir: &wish.mount_under, same }))
}

/// The members of which copies are made: the data disks, and the system disk where the engine's data lies on it, or
/// where there is nothing else.
pub fn needed<'a>(facts: &Facts, members: &'a [Member]) -> Vec<&'a Member> {
    let said = Said::of(&facts.group, &facts.snapshots);
    let alone = members.iter().all(|member| member.system);
    let under = |member: &Member| {
        ["datadir", "logdir"]
            .iter()
            .filter_map(|key| said.mark(key))
            .any(|dir| engine::home(members, dir).is_some_and(|home| home.disk_id == member.disk_id))
    };
    members.iter().filter(|member| !member.system || alone || under(member)).collect()
}

/// The guest's part, and the whole.
pub fn finish(
    facts: &Facts,
    wish: &Wish,
    way: &'static str,
    onto: &Machine,
    mut steps: Vec<Step>,
    (disks, how): (&[(String, &Member)], How),
) -> Plan {
    let said = Said::of(&facts.group, &facts.snapshots);
    // What runs in a guest here is for Linux.
    if onto.instance.os_type != "windows" {
        steps.extend(mounts(onto.id(), disks, how));
        steps.extend(engine::step(&said, wish, onto.id(), disks, how));
    }
    whole(facts, way, Some(onto), said, steps)
}

/// The plan of these steps.
pub fn whole(facts: &Facts, way: &'static str, onto: Option<&Machine>, said: Said, steps: Vec<Step>) -> Plan {
    let (steps, actions) = numbered(steps);
    Plan {
        snapshot_group_id: facts.group.snapshot_group_id.clone(),
        region_id: facts.region_id.clone(),
        creation_time: facts.group.creation_time.clone(),
        way,
        warnings: warnings(facts, way, onto, &said),
        said,
        fill: Default::default(),
        steps,
        actions,
    }
}

/// A group of the present state, so that the way there is a way back too.
fn protective(facts: &Facts, wish: &Wish, instance: &str, disks: &[&Member]) -> Step {
    let region = facts.region_id.as_str();
    let name = format!("before-restore-{}", wish.nonce);
    let about = format!("the state before {} was brought back", facts.group.snapshot_group_id);
    let token = format!("restore-{}-before", wish.nonce);
    let mut group = call(
        "CreateSnapshotGroup",
        &[
            ("RegionId", region),
            ("InstanceId", instance),
            ("Name", &name),
            ("Description", &about),
            ("ClientToken", &token),
        ],
    );
    for (member, n) in disks.iter().zip(1..) {
        group.parameters.insert(format!("DiskId.{n}"), member.disk_id.clone());
    }
    Step::calls(
        "Keep the present state",
        "A roll back cannot be undone; after this nothing is lost, since the present state is a group of its own.",
        group,
    )
    .yields("group.1", "/SnapshotGroupId")
    .until(
        call("DescribeSnapshotGroups", &[("RegionId", region), ("SnapshotGroupId.1", "${group.1}")]),
        "/SnapshotGroups/SnapshotGroup/0/Status",
        "accomplished",
        UPLOAD,
    )
    .note(
        "after the stop, so that everything written until then is in it; a disk is not rolled back while a snapshot of it \
         is being made, and its upload takes minutes to hours: where that is too long, use --beside",
    )
    .note(
        "once the engine has run on what was brought back, do not follow these lines again, print a new plan: to the same \
         ClientToken the cloud answers with the same group, and what was written since would be in none",
    )
    .note("delete it (DeleteSnapshotGroup) when it is no longer wanted: it does not expire")
}

/// Waits for snapshots that are not done yet.
pub fn ready(facts: &Facts, members: &[Member]) -> Option<Step> {
    let (region, id) = (facts.region_id.as_str(), facts.group.snapshot_group_id.as_str());
    let look = || call("DescribeSnapshotGroups", &[("RegionId", region), ("SnapshotGroupId.1", id)]);
    members.iter().any(|member| !member.accomplished).then(|| {
        Step::calls(
            "Wait until the group is done",
            "Its snapshots are still being uploaded, and this takes whole ones.",
            look(),
        )
        .until(look(), "/SnapshotGroups/SnapshotGroup/0/Status", "accomplished", UPLOAD)
    })
}

/// Makes a disk of each member and attaches it, in their order; the names of the disks.
pub fn make<'a>(
    facts: &Facts,
    wish: &Wish,
    onto: &Machine,
    members: &[&'a Member],
    steps: &mut Vec<Step>,
) -> Vec<(String, &'a Member)> {
    let (region, zone, instance) = (facts.region_id.as_str(), onto.instance.zone_id.as_str(), onto.id());
    let mut names = Vec::new();
    for (member, n) in members.iter().zip(1..) {
        let name = format!("disk.{n}");
        let bound = format!("${{{name}}}");
        let mut step = Step::calls(
            format!("Make a disk from {} (of {})", member.snapshot_id, member.disk_id),
            format!("A copy of its own, in {zone}, since a disk can only be attached within its zone."),
            create(facts, wish, zone, member, n),
        )
        .yields(&name, "/DiskId")
        .until(disk_call(region, &bound), DISK, "Available", STATE);
        if n == 1 {
            step = step.note(
                "InvalidSnapshotId.NotReady: its snapshot is not done yet, try again; QuotaExceed...: raise the quota of \
                 pay-as-you-go disks; InvalidSnapshotId.NotDataDiskSnapshot: the cloud wants an image for this one",
            );
        }
        steps.push(step);
        steps.push(
            Step::calls(
                format!("Attach it to {instance}"),
                "In the order of the originals; the guest may call it something else, its serial is the disk's id \
                 without d-.",
                call("AttachDisk", &[("InstanceId", instance), ("DiskId", &bound)]),
            )
            .until(disk_call(region, &bound), DISK, "In_use", STATE),
        );
        names.push((bound, *member));
    }
    names
}

fn create(facts: &Facts, wish: &Wish, zone: &str, member: &Member, n: usize) -> Call {
    let source = facts.disk(&member.disk_id);
    let category = source.map_or(CATEGORY, |disk| &disk.category);
    // Where the category is a guess, so is the least size: that of an ESSD of PL1.
    let least = source.map_or(20, |disk| disk.size.unwrap_or_default());
    let size = least.max(member.size).to_string();
    let (name, token) = (format!("restored-{}", member.disk_id), format!("restore-{}-{n}", wish.nonce));
    let mut create = call(
        "CreateDisk",
        &[
            ("RegionId", &facts.region_id),
            ("SnapshotId", &member.snapshot_id),
            ("DiskCategory", category),
            ("Size", &size),
            ("DiskName", &name),
            ("ClientToken", &token),
            ("Tag.1.Key", "restored-from"),
            ("Tag.1.Value", &facts.group.snapshot_group_id),
        ],
    );
    // A regional disk is in no zone.
    if !category.starts_with("cloud_regional") {
        create.parameters.insert("ZoneId".into(), zone.into());
    }
    if let Some(level) = source.map(|disk| &disk.performance_level).filter(|level| !level.is_empty()) {
        create.parameters.insert("PerformanceLevel".into(), level.clone());
    }
    create
}

/// Where nothing tells another one: a group holds ESSDs only, and only these can be made before the upload is over.
pub const CATEGORY: &str = "cloud_essd";

/// Where a disk's state stands.
pub const DISK: &str = "/Disks/Disk/0/Status";
/// Where an instance's state stands.
pub const INSTANCE: &str = "/Instances/Instance/0/Status";

/// Looks at a disk.
pub fn disk_call(region: &str, id: &str) -> Call {
    call("DescribeDisks", &[("RegionId", region), ("DiskIds", &json_list(&[id.to_owned()]))])
}

/// Looks at an instance.
pub fn instance_call(region: &str, id: &str) -> Call {
    call("DescribeInstances", &[("RegionId", region), ("InstanceIds", &json_list(&[id.to_owned()]))])
}
