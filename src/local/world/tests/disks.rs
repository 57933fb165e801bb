//! Disks of snapshots, and their way in and out of instances.

use serde_json::json;

use super::lab::{DISKS, Lab};
use super::*;

/// A snapshot of the first disk, cut.
fn snapshot(lab: &mut Lab) -> String {
    lab.ok("CreateSnapshotGroup", &[("DiskId.1", DISKS[0])]);
    lab.pass(400);
    lab.groups()[0]["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().unwrap().to_owned()
}

/// A disk made of it, available.
fn made(lab: &mut Lab, snapshot: &str, more: &[(&str, &str)]) -> String {
    let wanted = [("SnapshotId", snapshot), ("ZoneId", "cn-hangzhou-h"), ("DiskCategory", "cloud_essd")];
    let made = lab.ok("CreateDisk", &[&wanted[..], more].concat());
    let disk_id = made["DiskId"].as_str().unwrap().to_owned();
    assert_eq!(shown(lab, &disk_id)["Status"], "Creating");
    lab.world.report(lab.now, Happening::DiskReady { disk_id: disk_id.clone() });
    disk_id
}

fn shown(lab: &mut Lab, disk_id: &str) -> Value {
    lab.ok("DescribeDisks", &[("DiskIds", &format!("[{disk_id:?}]"))])["Disks"]["Disk"][0].clone()
}

#[test]
fn a_disk_of_a_snapshot_is_attached_detached_and_deleted() {
    let mut lab = Lab::new(Settings::default());
    let snapshot = snapshot(&mut lab);
    let more = [("DiskName", "check-1"), ("Description", "of a group"), ("PerformanceLevel", "PL0")];
    let tag = [("Tag.1.Key", "appsnap:verify"), ("Tag.1.Value", "r-1")];
    let id = made(&mut lab, &snapshot, &[&more[..], &tag].concat());
    let disk = shown(&mut lab, &id);
    assert_eq!((&disk["Status"], &disk["DiskName"]), (&json!("Available"), &json!("check-1")));
    assert_eq!((&disk["PerformanceLevel"], &disk["Portable"]), (&json!("PL0"), &json!(true)));
    assert_eq!((&disk["SourceSnapshotId"], &disk["Description"]), (&json!(snapshot), &json!("of a group")));
    let both = [("DiskId", id.as_str()), ("InstanceId", "i-1")];
    let (reply, effects) = lab.call("AttachDisk", &[&both[..], &[("DeleteWithInstance", "true")]].concat());
    assert_eq!(reply.status, 200, "{}", reply.body);
    let (disk_id, instance_id) = (id.clone(), "i-1".to_owned());
    assert_eq!(effects, [Effect::AttachDisk { disk_id: disk_id.clone(), instance_id: instance_id.clone() }]);
    let disk = shown(&mut lab, &id);
    assert_eq!((&disk["Status"], &disk["InstanceId"]), (&json!("Attaching"), &json!("i-1")));
    assert_eq!(lab.refused("AttachDisk", &both), "403 IncorrectDiskStatus");
    assert_eq!(lab.refused("DetachDisk", &both), "403 IncorrectDiskStatus");
    lab.world.report(lab.now, Happening::DiskReady { disk_id: disk_id.clone() });
    let disk = shown(&mut lab, &id);
    assert_eq!((&disk["Status"], &disk["DeleteWithInstance"]), (&json!("In_use"), &json!(true)));
    assert_eq!(disk["Device"], "/dev/xvdb");
    let found = lab.ok("DescribeDisks", &[("InstanceId", "i-1"), tag[0], tag[1], ("Status", "In_use")]);
    assert_eq!(found["TotalCount"], 1);
    assert_eq!(lab.refused("DeleteDisk", &[("DiskId", &id)]), "403 IncorrectDiskStatus");
    let (_, effects) = lab.call("DetachDisk", &both);
    assert_eq!(effects, [Effect::DetachDisk { disk_id: disk_id.clone(), instance_id }]);
    assert_eq!(shown(&mut lab, &id)["Status"], "Detaching");
    // It fails, and is tried again.
    lab.world.report(lab.now, Happening::DiskFailed { disk_id: disk_id.clone() });
    assert_eq!(shown(&mut lab, &id)["Status"], "In_use");
    lab.ok("DetachDisk", &both);
    lab.world.report(lab.now, Happening::DiskReady { disk_id: disk_id.clone() });
    let disk = shown(&mut lab, &id);
    assert_eq!(
        (&disk["Status"], &disk["InstanceId"], &disk["Device"]),
        (&json!("Available"), &json!(""), &json!(""))
    );
    let (_, effects) = lab.call("DeleteDisk", &[("DiskId", &id)]);
    assert_eq!(effects, [Effect::DeleteDisk { disk_id }]);
    assert_eq!(shown(&mut lab, &id), Value::Null);
    lab.ok("DeleteDisk", &[("DiskId", &id)]);
}

#[test]
fn an_attachment_that_fails_leaves_the_disk_available() {
    let mut lab = Lab::new(Settings::default());
    let snapshot = snapshot(&mut lab);
    let disk_id = made(&mut lab, &snapshot, &[]);
    lab.ok("AttachDisk", &[("DiskId", &disk_id), ("InstanceId", "i-1")]);
    lab.world.report(lab.now, Happening::DiskFailed { disk_id: disk_id.clone() });
    let disk = shown(&mut lab, &disk_id);
    assert_eq!((&disk["Status"], &disk["InstanceId"]), (&json!("Available"), &json!("")));
}

#[test]
fn what_cannot_be_made_of_a_snapshot_gets_the_vendors_code() {
    let mut lab = Lab::new(Settings::default());
    let own = snapshot(&mut lab);
    let refused = |lab: &mut Lab, changes: &[(&'static str, &str)]| {
        let mut all = BTreeMap::from([
            ("SnapshotId", own.as_str()),
            ("ZoneId", "cn-hangzhou-h"),
            ("DiskCategory", "cloud_essd"),
        ]);
        all.extend(changes.iter().copied());
        lab.refused("CreateDisk", &all.into_iter().collect::<Vec<_>>())
    };
    for (changes, code) in [
        (&[("SnapshotId", "s-none")][..], "404 InvalidSnapshotId.NotFound"),
        (&[("ZoneId", "cn-shanghai-b")], "404 InvalidZoneId.NotFound"),
        (&[("ZoneId", "")], "400 MissingParameter.ZoneId"),
        (&[("InstanceId", "i-1")], "400 InvalidParameter.Conflict"),
        (&[("ZoneId", ""), ("InstanceId", "i-1")], "403 InvalidPayMethod"),
        (&[("ZoneId", ""), ("InstanceId", "i-9")], "404 InvalidInstanceId.NotFound"),
        (&[("DiskCategory", "")], "403 InvalidDataDiskCategory.NotSupported"),
        (
            &[("DiskCategory", "cloud_auto"), ("PerformanceLevel", "PL1")],
            "400 InvalidPerformanceLevel.Malformed",
        ),
        (&[("PerformanceLevel", "PL9")], "400 InvalidPerformanceLevel.Malformed"),
        (&[("DiskName", "1st")], "400 InvalidDiskName.Malformed"),
        (&[("KMSKeyId", "key-1")], "400 InvalidParameter.EncryptedIllegal"),
        (&[("Size", "19")], "403 InvalidDiskSize.TooSmall"),
        (&[("DeleteWithInstance", "true")], "400 UnsupportedParameter"),
    ] {
        assert_eq!(refused(&mut lab, changes), code, "{changes:?}");
    }
    lab.world.add_snapshots(lab.now, DISKS[1], 1, false, "progressing");
    let late = lab.ok("DescribeSnapshots", &[("DiskId", DISKS[1])]);
    let late = late["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().unwrap().to_owned();
    assert_eq!(refused(&mut lab, &[("SnapshotId", &late)]), "403 InvalidSnapshotId.NotReady");
}

#[test]
fn a_disk_is_encrypted_where_its_snapshot_is_or_where_it_is_asked_for() {
    let mut lab = Lab::new(Settings::default());
    let plain = snapshot(&mut lab);
    let id = made(&mut lab, &plain, &[("Encrypted", "true"), ("KMSKeyId", "key-2")]);
    let disk = shown(&mut lab, &id);
    assert_eq!((&disk["Encrypted"], &disk["KMSKeyId"]), (&json!(true), &json!("key-2")));
    let source = lab.world.disk_mut(DISKS[1]).unwrap();
    (source.encrypted, source.kms_key_id) = (true, "key-1".into());
    lab.world.add_snapshots(lab.now, DISKS[1], 1, false, "accomplished");
    let seen = lab.ok("DescribeSnapshots", &[("DiskId", DISKS[1])])["Snapshots"]["Snapshot"][0].clone();
    assert_eq!(seen["KMSKeyId"], "key-1");
    let id = made(&mut lab, seen["SnapshotId"].as_str().unwrap(), &[]);
    let disk = shown(&mut lab, &id);
    assert_eq!((&disk["Encrypted"], &disk["KMSKeyId"]), (&json!(true), &json!("key-1")));
}

#[test]
fn what_cannot_be_attached_gets_the_vendors_code() {
    let mut lab = Lab::new(Settings { disk_limit: 3, ..Settings::default() });
    let snapshot = snapshot(&mut lab);
    let id = made(&mut lab, &snapshot, &[]);
    let attach = |lab: &mut Lab, more: &[(&str, &str)]| {
        lab.refused("AttachDisk", &[&[("DiskId", id.as_str()), ("InstanceId", "i-1")], more].concat())
    };
    assert_eq!(
        lab.refused("AttachDisk", &[("DiskId", "d-0"), ("InstanceId", "i-1")]),
        "404 InvalidDiskId.NotFound"
    );
    assert_eq!(
        lab.refused("AttachDisk", &[("DiskId", &id), ("InstanceId", "i-0")]),
        "404 InvalidInstanceId.NotFound"
    );
    assert_eq!(lab.refused("AttachDisk", &[("DiskId", &id)]), "400 MissingParameter.InstanceId");
    assert_eq!(
        lab.refused("AttachDisk", &[("DiskId", DISKS[0]), ("InstanceId", "i-1")]),
        "403 IncorrectDiskStatus"
    );
    assert_eq!(attach(&mut lab, &[("Bootable", "true")]), "400 InvalidParameter.Bootable");
    assert_eq!(attach(&mut lab, &[("Device", "/dev/vdb")]), "400 InvalidDevice.Malformed");
    lab.world.disk_mut(DISKS[0]).unwrap().device = "/dev/xvdb".into();
    assert_eq!(attach(&mut lab, &[("Device", "/dev/xvdb")]), "403 InvalidDevice.InUse");
    for (change, code) in [
        ((|d| d.zone_id = "cn-hangzhou-k".into()) as fn(&mut Disk), "403 ResourcesNotInSameZone"),
        (|d| d.locks = vec!["financial".into()], "403 DiskInArrears"),
        (|d| d.kms_refusal = "CMKNotEnabled".into(), "403 InvalidParameter.KMSKeyId.CMKNotEnabled"),
        (|d| d.multi_attach = true, "403 InvalidInstanceType.NotSupportMultiAttachDisk"),
    ] {
        let good = lab.world.disk_mut(&id).unwrap().clone();
        change(lab.world.disk_mut(&id).unwrap());
        assert_eq!(attach(&mut lab, &[]), code);
        lab.world.add_disk(good);
    }
    for (change, code) in [
        ((|i| i.status = "Starting".into()) as fn(&mut Instance), "400 IncorrectInstanceStatus"),
        (|i| i.locks = vec!["security".into()], "403 InstanceLockedForSecurity"),
        (|i| i.locks = vec!["financial".into()], "403 InstanceExpiredOrInArrears"),
    ] {
        let good = lab.world.instance_mut("i-1").unwrap().clone();
        change(lab.world.instance_mut("i-1").unwrap());
        assert_eq!(attach(&mut lab, &[]), code);
        lab.world.add_instance(good);
    }
    let other = made(&mut lab, &snapshot, &[]);
    lab.ok("AttachDisk", &[("DiskId", &other), ("InstanceId", "i-1")]);
    assert_eq!(shown(&mut lab, &other)["Device"], "/dev/xvdc", "the next free one");
    assert_eq!(attach(&mut lab, &[]), "403 InstanceDiskLimitExceeded");
}

#[test]
fn what_cannot_be_detached_or_deleted_gets_the_vendors_code() {
    let mut lab = Lab::new(Settings::default());
    let snapshot = snapshot(&mut lab);
    let id = made(&mut lab, &snapshot, &[]);
    let detach =
        |lab: &mut Lab, disk: &str| lab.refused("DetachDisk", &[("DiskId", disk), ("InstanceId", "i-1")]);
    assert_eq!(detach(&mut lab, "d-0"), "404 InvalidDiskId.NotFound");
    assert_eq!(detach(&mut lab, &id), "404 InvalidDisk.AlreadyDetached");
    lab.world.disk_mut(DISKS[1]).unwrap().instance_id = Some("i-2".into());
    assert_eq!(detach(&mut lab, DISKS[1]), "403 DependencyViolation");
    lab.world.disk_mut(DISKS[0]).unwrap().kind = "system".into();
    assert_eq!(detach(&mut lab, DISKS[0]), "403 DiskTypeViolation");
    assert_eq!(lab.refused("DeleteDisk", &[("DiskId", DISKS[0])]), "403 DiskTypeViolation");
    lab.world.disk_mut(DISKS[0]).unwrap().kind = "data".into();
    lab.world.instance_mut("i-1").unwrap().status = "Stopping".into();
    assert_eq!(detach(&mut lab, DISKS[0]), "403 IncorrectInstanceStatus");
    lab.world.add_snapshots(lab.now, &id, 1, false, "progressing");
    assert_eq!(lab.refused("DeleteDisk", &[("DiskId", &id)]), "403 DiskCreatingSnapshot");
    assert_eq!(lab.refused("DeleteDisk", &[]), "400 MissingParameter.DiskId");
}
