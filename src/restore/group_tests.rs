//! What a group says of itself, in a list and before a plan.

use super::tests::{disk, facts, machine, tags, wish};
use super::*;
use crate::api::ecs::OperationLock;
use crate::report::Level;

#[test]
fn what_is_less_than_expected_is_told_first() {
    type Change = fn(&mut Facts);
    let table: [(Change, &str); 11] = [
        (|facts| drop(facts.snapshots.remove(2)), "of d-data there is no snapshot any more"),
        (|facts| facts.snapshots[0].tags[0].value = "crash".into(), "the level is crash"),
        (
            |facts| {
                facts
                    .snapshots
                    .iter_mut()
                    .for_each(|one| one.tags[0] = tags(&[("appsnap:level", "filesystem")])[0].clone())
            },
            "the level is filesystem",
        ),
        (|facts| drop(facts.snapshots[0].tags.remove(0)), "are missing on s-log"),
        (|facts| facts.snapshots.iter_mut().for_each(|one| drop(one.tags.remove(2))), "nobody has tried"),
        (|facts| facts.snapshots[1].tags[2].value = "broken".into(), "verified: broken"),
        (
            |facts| (facts.snapshots[1].encrypted, facts.snapshots[1].kms_key_id) = (true, "key-1".into()),
            "encrypted with key-1",
        ),
        (|facts| facts.snapshots[1].tags[3].value = "x".repeat(128), "too short for all mount points"),
        (
            |facts| facts.instance.as_mut().unwrap().disks[0].disk_id = "d-new".into(),
            "no longer the system disk of i-1",
        ),
        (
            |facts| facts.instance.as_mut().unwrap().disks.push(disk("d-more", "/dev/xvdd")),
            "d-more is not in the group",
        ),
        (
            |facts| {
                let lock = OperationLock { lock_reason: "security".into() };
                facts.instance.as_mut().unwrap().instance.operation_locks.push(lock);
            },
            "i-1 is locked: security",
        ),
    ];
    for (change, expected) in table {
        let mut facts = facts();
        change(&mut facts);
        let plan = plan(&facts, &wish()).unwrap();
        assert!(
            plan.warnings.iter().any(|one| one.message.contains(expected)),
            "{expected}: {:?}",
            plan.warnings
        );
    }
    let mut far = Facts { to: Some(machine("i-2", &[])), ..facts() };
    far.to.as_mut().unwrap().instance.zone_id = "cn-x-c".into();
    let plan = plan(&far, &wish()).unwrap();
    assert!(
        plan.warnings.iter().any(|one| one.message.contains("were in cn-x-b, i-2 is in cn-x-c")),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn a_group_is_what_all_its_members_say_together() {
    let level = |change: fn(&mut Facts)| {
        let mut facts = facts();
        change(&mut facts);
        let said = said::Said::of(&facts.group, &facts.snapshots);
        (said.level, said.by, said.lost.len())
    };
    let all = |facts: &mut Facts, of: &[(&str, &str)]| {
        facts.snapshots.iter_mut().for_each(|one| one.tags = tags(of))
    };
    assert_eq!(level(|_| {}), (Level::Application, "appsnap", 0));
    assert_eq!(
        level(|facts| facts.snapshots[1].tags[0].value = "filesystem".into()),
        (Level::Filesystem, "appsnap", 0)
    );
    assert_eq!(
        level(|facts| facts.snapshots[1].tags.retain(|tag| tag.key != "appsnap:level")),
        (Level::Crash, "appsnap", 1)
    );
    let none = |facts: &mut Facts| facts.snapshots.iter_mut().for_each(|one| one.tags = tags(&[("k", "v")]));
    assert_eq!(level(none), (Level::Crash, "appsnap", 3));
    assert_eq!(level(|facts| facts.group.status = "failed".into()), (Level::None, "appsnap", 0));
    // The vendor's plugin's own groups, which were not born with a run of ours.
    fn all_tags(facts: &mut Facts, of: &[(&str, &str)]) {
        facts.group.tags.clear();
        facts.snapshots.iter_mut().for_each(|one| one.tags = tags(of));
    }
    assert_eq!(
        level(|facts| all_tags(facts, &[("APPConsistent", "True")])),
        (Level::Application, "vendor", 0)
    );
    assert_eq!(level(|facts| all_tags(facts, &[("FsConsistent", "True")])), (Level::Filesystem, "vendor", 0));
    let mixed = |facts: &mut Facts| {
        all_tags(facts, &[("APPConsistent", "True")]);
        facts.snapshots[0].tags = tags(&[("k", "v")]);
    };
    assert_eq!(level(mixed), (Level::Crash, "vendor", 1));
    let mut foreign = facts();
    all(&mut foreign, &[("k", "v")]);
    foreign.group.tags.clear();
    assert_eq!(said::Said::of(&foreign.group, &foreign.snapshots).by, "");
}

#[test]
fn a_point_in_time_has_one_group_that_is_good_enough() {
    let mut all = Vec::new();
    let mut snapshots = Vec::new();
    for (n, level, time) in
        [(1, "application", "03"), (2, "crash", "05"), (3, "application", "07"), (4, "none", "09")]
    {
        let mut facts = facts();
        facts.group.snapshot_group_id = format!("ssg-{n}");
        facts.group.creation_time = format!("2026-11-25T{time}:00:00Z");
        for (one, shown) in facts.snapshots.iter_mut().zip(&mut facts.group.snapshots) {
            one.snapshot_id = format!("{}-{n}", one.snapshot_id);
            shown.snapshot_id.clone_from(&one.snapshot_id);
            one.tags[0].value = level.into();
        }
        all.push(facts.group);
        snapshots.extend(facts.snapshots);
    }
    let ids = |wanted: groups::Wanted| {
        let rows = groups::rows(&all, &snapshots, &wanted);
        rows.into_iter().map(|row| row.snapshot_group_id).collect::<Vec<_>>().join(" ")
    };
    let at = |time: &str| Some(time.parse().unwrap());
    let wanted = groups::Wanted::default;
    assert_eq!(ids(wanted()), "ssg-4 ssg-3 ssg-2 ssg-1");
    assert_eq!(ids(groups::Wanted { at: at("2026-11-25T06:59Z"), ..wanted() }), "ssg-2");
    assert_eq!(ids(groups::Wanted { at: at("2026-11-25T07:00Z"), ..wanted() }), "ssg-3");
    assert_eq!(ids(groups::Wanted { at: at("2026-11-25T23:00Z"), ..wanted() }), "ssg-3");
    let level = Some(Level::Application);
    assert_eq!(ids(groups::Wanted { at: at("2026-11-25T06:00Z"), level, ..wanted() }), "ssg-1");
    assert_eq!(ids(groups::Wanted { at: at("2026-11-25T02:00Z"), ..wanted() }), "");
    assert_eq!(ids(groups::Wanted { policy: Some("other".into()), ..wanted() }), "");
    assert_eq!(ids(groups::Wanted { verified: true, level, ..wanted() }), "ssg-3 ssg-1");
    let table = groups::table(&groups::rows(&all, &snapshots, &wanted()));
    assert_eq!(table.lines().next().unwrap().split_whitespace().count(), 9);
}
