//! Instances stop and start, and what takes a stopped one.

use serde_json::json;

use super::lab::{DISKS, Lab};
use super::*;

const ONE: [(&str, &str); 1] = [("InstanceId", "i-1")];

fn shown(lab: &mut Lab) -> (String, String) {
    let one = lab.ok("DescribeInstances", &[])["Instances"]["Instance"][0].clone();
    (one["Status"].as_str().unwrap().into(), one["StoppedMode"].as_str().unwrap().into())
}

fn settled(lab: &mut Lab, running: bool) {
    lab.world.report(lab.now, Happening::Instance { instance_id: "i-1".into(), running });
}

#[test]
fn an_instance_stops_and_starts_and_its_agent_with_it() {
    let mut lab = Lab::new(Settings::default());
    let words = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(shown(&mut lab), words("Running", "Not-applicable"));
    let (_, effects) = lab.call("StopInstance", &[ONE[0], ("ForceStop", "true")]);
    assert_eq!(effects, [Effect::StopInstance { instance_id: "i-1".into(), force: true }]);
    assert_eq!(shown(&mut lab), words("Stopping", "Not-applicable"));
    assert_eq!(lab.refused("StopInstance", &ONE), "403 IncorrectInstanceStatus");
    settled(&mut lab, false);
    assert_eq!(shown(&mut lab), words("Stopped", "KeepCharging"));
    assert_eq!(lab.refused("RunCommand", &super::RUN), "403 IncorrectInstanceStatus");
    let agent = |lab: &mut Lab| {
        let all = lab.ok("DescribeCloudAssistantStatus", &[("InstanceId.1", "i-1")]);
        all["InstanceCloudAssistantStatusSet"]["InstanceCloudAssistantStatus"][0]["CloudAssistantStatus"]
            .clone()
    };
    assert_eq!(agent(&mut lab), "false");
    let (_, effects) = lab.call("StartInstance", &ONE);
    assert_eq!(effects, [Effect::StartInstance { instance_id: "i-1".into() }]);
    assert_eq!(shown(&mut lab).0, "Starting");
    settled(&mut lab, true);
    assert_eq!((shown(&mut lab), agent(&mut lab)), (words("Running", "Not-applicable"), json!("true")));
    lab.ok("RunCommand", &super::RUN);
    lab.ok("StopInstance", &[ONE[0], ("StoppedMode", "StopCharging")]);
    settled(&mut lab, false);
    assert_eq!(shown(&mut lab), words("Stopped", "StopCharging"));
}

#[test]
fn what_cannot_be_stopped_or_started_gets_the_vendors_code() {
    let mut lab = Lab::new(Settings::default());
    assert_eq!(lab.refused("StopInstance", &[]), "400 MissingParameter.InstanceId");
    assert_eq!(lab.refused("StopInstance", &[("InstanceId", "i-0")]), "404 InvalidInstanceId.NotFound");
    assert_eq!(
        lab.refused("StopInstance", &[ONE[0], ("StoppedMode", "x")]),
        "400 InvalidParameter.StoppedMode"
    );
    assert_eq!(lab.refused("StopInstance", &[ONE[0], ("DryRun", "true")]), "400 DryRunOperation");
    assert_eq!(lab.refused("StartInstance", &ONE), "403 IncorrectInstanceStatus");
    lab.world.instance_mut("i-1").unwrap().locks = vec!["security".into()];
    assert_eq!(lab.refused("StopInstance", &ONE), "403 InstanceLockedForSecurity");
    lab.world.instance_mut("i-1").unwrap().locks.clear();
    lab.world.disk_mut(DISKS[1]).unwrap().status = "Detaching".into();
    assert_eq!(lab.refused("StopInstance", &ONE), "403 DiskError");
    lab.world.disk_mut(DISKS[1]).unwrap().status = "In_use".into();
    lab.ok("StopInstance", &ONE);
    settled(&mut lab, false);
    lab.world.disk_mut(DISKS[1]).unwrap().locks = vec!["financial".into()];
    assert_eq!(lab.refused("StartInstance", &ONE), "403 DiskInArrears");
}

#[test]
fn a_disk_is_rolled_back_to_a_snapshot_of_its_own_while_its_instance_is_stopped() {
    let mut lab = Lab::new(Settings::default());
    lab.ok("CreateSnapshotGroup", &ONE);
    lab.pass(400);
    let members = lab.groups()[0]["Snapshots"]["Snapshot"].clone();
    let of = |disk: &str| {
        let mut all = members.as_array().unwrap().iter();
        all.find(|one| one["SourceDiskId"] == disk).unwrap()["SnapshotId"].as_str().unwrap().to_owned()
    };
    let (own, other) = (of(DISKS[0]), of(DISKS[1]));
    let wanted = [("DiskId", DISKS[0]), ("SnapshotId", own.as_str())];
    assert_eq!(lab.refused("ResetDisk", &wanted), "403 IncorrectInstanceStatus");
    lab.ok("StopInstance", &ONE);
    settled(&mut lab, false);
    assert_eq!(lab.refused("ResetDisk", &wanted), "403 Operation.Conflict", "its snapshot is under way");
    lab.pass(3000);
    assert_eq!(lab.refused("ResetDisk", &wanted[..1]), "400 MissingParameter.SnapshotId");
    assert_eq!(lab.refused("ResetDisk", &[("DiskId", "d-0"), wanted[1]]), "404 InvalidDiskId.NotFound");
    assert_eq!(
        lab.refused("ResetDisk", &[wanted[0], ("SnapshotId", "s-0")]),
        "404 InvalidSnapshotId.NotFound"
    );
    assert_eq!(
        lab.refused("ResetDisk", &[wanted[0], ("SnapshotId", &other)]),
        "403 InvalidParameter.Mismatch"
    );
    assert_eq!(lab.refused("ResetDisk", &[wanted[0], wanted[1], ("DryRun", "true")]), "400 DryRunOperation");
    lab.world.instance_mut("i-1").unwrap().locks = vec!["security".into()];
    assert_eq!(lab.refused("ResetDisk", &wanted), "403 InstanceLockedForSecurity");
    lab.world.instance_mut("i-1").unwrap().locks.clear();
    let (_, effects) = lab.call("ResetDisk", &wanted);
    let (disk_id, snapshot_id) = (DISKS[0].to_owned(), own.clone());
    assert_eq!(effects, [Effect::ResetDisk { disk_id: disk_id.clone(), snapshot_id }]);
    assert_eq!(lab.refused("ResetDisk", &wanted), "403 IncorrectDiskStatus");
    assert_eq!(lab.refused("StartInstance", &ONE), "403 DiskError");
    lab.world.report(lab.now, Happening::DiskReady { disk_id });
    let disk = lab.ok("DescribeDisks", &[("InstanceId", "i-1"), ("Status", "In_use")]);
    assert_eq!(disk["TotalCount"], 2);
    lab.world.add_snapshots(lab.now, DISKS[1], 1, false, "progressing");
    let late = lab.ok("DescribeSnapshots", &[("DiskId", DISKS[1]), ("Status", "progressing")]);
    let late = late["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().unwrap().to_owned();
    assert_eq!(
        lab.refused("ResetDisk", &[("DiskId", DISKS[1]), ("SnapshotId", &late)]),
        "403 InvalidSnapshotId.NotReady"
    );
    lab.ok("StartInstance", &ONE);
}
