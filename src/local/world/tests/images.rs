//! Images of snapshots, new instances from them, and instances that go.

use serde_json::json;

use super::lab::{DISKS, Lab};
use super::*;

/// A cloud whose first disk is the system disk, with accomplished snapshots of both.
fn with_snapshots() -> (Lab, String, String) {
    let mut lab = Lab::new(Settings::default());
    let system = lab.world.disk_mut(DISKS[0]).unwrap();
    (system.kind, system.delete_with_instance) = ("system".into(), true);
    let network = Network {
        account_id: "1".into(),
        region_id: "cn-hangzhou".into(),
        zone_id: "cn-hangzhou-h".into(),
        security_group_id: "sg-1".into(),
    };
    lab.world.add_network("vsw-1", network);
    lab.ok("CreateSnapshotGroup", &[("InstanceId", "i-1"), ("Tag.1.Key", "appsnap:policy")]);
    lab.pass(3000);
    let members = lab.groups()[0]["Snapshots"]["Snapshot"].clone();
    let of = |disk: &str| {
        let mut all = members.as_array().unwrap().iter();
        all.find(|one| one["SourceDiskId"] == disk).unwrap()["SnapshotId"].as_str().unwrap().to_owned()
    };
    let both = (of(DISKS[0]), of(DISKS[1]));
    (lab, both.0, both.1)
}

fn imaged(lab: &mut Lab, system: &str, data: &str) -> String {
    let map = [
        ("DiskDeviceMapping.1.SnapshotId", data),
        ("DiskDeviceMapping.1.Device", "/dev/xvdb"),
        ("DiskDeviceMapping.1.DiskType", "data"),
        ("DiskDeviceMapping.2.SnapshotId", system),
        ("DiskDeviceMapping.2.Device", "/dev/xvda"),
        ("DiskDeviceMapping.2.DiskType", "system"),
        ("ImageName", "of-a-group"),
        ("ClientToken", "image-1"),
    ];
    let id = lab.ok("CreateImage", &map)["ImageId"].as_str().unwrap().to_owned();
    assert_eq!(lab.ok("CreateImage", &map)["ImageId"], id.as_str(), "one token, one image");
    id
}

const RUN: [(&str, &str); 3] =
    [("InstanceType", "ecs.g7.large"), ("VSwitchId", "vsw-1"), ("SecurityGroupId", "sg-1")];

#[test]
fn an_instance_starts_from_an_image_with_the_disks_of_its_snapshots() {
    let (mut lab, system, data) = with_snapshots();
    let image = imaged(&mut lab, &system, &data);
    let seen = |lab: &mut Lab, status| {
        lab.ok("DescribeImages", &[("ImageId", &image), ("Status", status)])["Images"]["Image"][0].clone()
    };
    assert_eq!(seen(&mut lab, "Available"), Value::Null);
    let run = [&RUN[..], &[("ImageId", image.as_str())]].concat();
    assert_eq!(lab.refused("RunInstances", &run), "403 OperationDenied.ImageNotValid");
    assert_eq!(seen(&mut lab, "Creating")["Status"], "Creating");
    lab.pass(500);
    let shown = seen(&mut lab, "Available");
    let mapped = shown["DiskDeviceMappings"]["DiskDeviceMapping"].as_array().unwrap().clone();
    let mapped: Vec<_> =
        mapped.iter().map(|one| (&one["Device"], &one["SnapshotId"], &one["Type"])).collect();
    assert_eq!(
        mapped,
        [
            (&json!("/dev/xvda"), &json!(system), &json!("system")),
            (&json!("/dev/xvdb"), &json!(data), &json!("data"))
        ]
    );
    let more = [
        ("ZoneId", "cn-hangzhou-h"),
        ("InstanceName", "back-again"),
        ("HostName", "orders-db"),
        ("SystemDisk.Category", "cloud_essd"),
        ("DataDisk.1.Device", "/dev/xvdb"),
        ("DataDisk.1.Category", "cloud_essd"),
        ("DataDisk.1.PerformanceLevel", "PL2"),
        ("DataDisk.2.SnapshotId", data.as_str()),
        ("DataDisk.2.Category", "cloud_auto"),
        ("DataDisk.2.DeleteWithInstance", "false"),
        ("Tag.1.Key", "appsnap"),
        ("Tag.1.Value", "allowed"),
        ("ClientToken", "run-1"),
        ("Amount", "1"),
    ];
    let run = [&run[..], &more].concat();
    assert_eq!(
        lab.refused("RunInstances", &[&run[..], &[("DryRun", "true")]].concat()),
        "400 DryRunOperation"
    );
    let (reply, effects) = lab.call("RunInstances", &run);
    let id = reply.body["InstanceIdSets"]["InstanceIdSet"][0].as_str().unwrap().to_owned();
    let [made @ .., Effect::RunInstance { instance_id, host_name, disk_ids }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((instance_id, host_name.as_str(), made.len(), disk_ids.len()), (&id, "orders-db", 3, 3));
    assert_eq!(lab.ok("RunInstances", &run)["InstanceIdSets"]["InstanceIdSet"][0], id.as_str());
    for disk_id in disk_ids.clone() {
        lab.world.report(lab.now, Happening::DiskReady { disk_id });
    }
    lab.world.report(lab.now, Happening::Instance { instance_id: id.clone(), running: true });
    let one = lab.ok("DescribeInstances", &[("InstanceIds", &format!("[{id:?}]"))])["Instances"]["Instance"]
        [0]
    .clone();
    assert_eq!((&one["Status"], &one["InstanceName"]), (&json!("Running"), &json!("back-again")));
    assert_eq!((&one["ImageId"], &one["VpcAttributes"]["VSwitchId"]), (&json!(image), &json!("vsw-1")));
    let disks = lab.ok("DescribeDisks", &[("InstanceId", &id), ("Status", "In_use")]);
    let mut disks: Vec<String> = disks["Disks"]["Disk"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            format!(
                "{} {} {} {} {}",
                d["Device"], d["Type"], d["Category"], d["PerformanceLevel"], d["DeleteWithInstance"]
            )
        })
        .collect();
    disks.sort();
    assert_eq!(
        disks,
        [
            r#""/dev/xvda" "system" "cloud_essd" "PL1" true"#,
            r#""/dev/xvdb" "data" "cloud_essd" "PL2" true"#,
            r#""/dev/xvdc" "data" "cloud_auto" "" false"#,
        ]
    );
    // Its snapshots are bound by the image, and then by the disks.
    assert_eq!(lab.refused("DeleteSnapshot", &[("SnapshotId", &data)]), "403 SnapshotCreatedImage");
    lab.ok("DeleteImage", &[("ImageId", &image)]);
    assert_eq!(lab.refused("DeleteImage", &[("ImageId", &image)]), "404 InvalidImageId.NotFound");
    assert_eq!(lab.refused("DeleteSnapshot", &[("SnapshotId", &data)]), "403 SnapshotCreatedDisk");
    let (_, effects) = lab.call("DeleteSnapshot", &[("SnapshotId", &data), ("Force", "true")]);
    assert_eq!(effects, [Effect::DeleteSnapshot { snapshot_id: data.clone() }]);
    lab.ok("DeleteSnapshot", &[("SnapshotId", &data)]);
}

#[test]
fn what_an_image_needs_outlives_its_group() {
    let (mut lab, system, data) = with_snapshots();
    lab.ok("CreateImage", &[("SnapshotId", &system)]);
    let group = lab.groups()[0]["SnapshotGroupId"].as_str().unwrap().to_owned();
    let (reply, effects) = lab.call("DeleteSnapshotGroup", &[("SnapshotGroupId", &group)]);
    assert_eq!(effects, [Effect::DeleteSnapshot { snapshot_id: data }]);
    let progress = reply.body["OperationProgressSet"]["OperationProgress"].as_array().unwrap().clone();
    let failed: Vec<_> = progress.iter().filter(|one| one["ErrorCode"] == "SnapshotCreatedImage").collect();
    assert_eq!((failed.len(), progress.len(), lab.groups().len()), (1, 2, 0));
    let left = lab.ok("DescribeSnapshots", &[]);
    assert_eq!(left["Snapshots"]["Snapshot"][0]["SnapshotId"], system.as_str());
}

#[test]
fn what_makes_no_image_gets_the_vendors_code() {
    let (mut lab, system, data) = with_snapshots();
    lab.world.add_snapshots(lab.now, DISKS[0], 1, false, "progressing");
    let late =
        lab.ok("DescribeSnapshots", &[("Status", "progressing")])["Snapshots"]["Snapshot"][0]["SnapshotId"]
            .clone();
    let one = |field: &str| format!("DiskDeviceMapping.1.{field}");
    for (pairs, code) in [
        (vec![], "400 MissingParameter"),
        (vec![("SnapshotId", "s-0")], "404 InvalidSnapshotId.NotFound"),
        (vec![("SnapshotId", late.as_str().unwrap())], "403 InvalidSnapshotId.NotReady"),
        (vec![("SnapshotId", &data)], "400 OperationDenied"),
        (vec![("SnapshotId", &system), (&one("SnapshotId"), &system)], "400 OperationDenied"),
        (vec![("SnapshotId", &system), ("ImageName", "1x")], "400 InvalidImageName.Malformed"),
        (vec![(&one("Device"), "/dev/xvdb")], "400 InvalidParameter.DiskDeviceMapping"),
        (vec![(&one("SnapshotId"), &system), (&one("Device"), "/dev/xvdb")], "400 InvalidDevice.Malformed"),
        (vec![(&one("SnapshotId"), &system), (&one("Size"), "19")], "400 InvalidSize.ValueNotSupported"),
        (
            vec![(&one("SnapshotId"), &system), (&one("DiskType"), "data")],
            "400 InvalidDiskType.ValueNotSupported",
        ),
        (vec![(&one("SnapshotId"), &data), (&one("DiskType"), "system")], "403 UserNotInTheWhiteList"),
        (vec![(&one("SnapshotId"), &system), (&one("Name"), "x")], "400 UnsupportedParameter"),
    ] {
        assert_eq!(lab.refused("CreateImage", &pairs), code, "{pairs:?}");
    }
    let twice = [
        ("SnapshotId", system.as_str()),
        (&one("SnapshotId"), &data),
        (&one("Device"), "/dev/vdb"),
        ("DiskDeviceMapping.2.SnapshotId", &data),
        ("DiskDeviceMapping.2.Device", "/dev/xvdb"),
    ];
    assert_eq!(lab.refused("CreateImage", &twice), "400 InvalidDevice.InUse");
    lab.ok("CreateImage", &[("SnapshotId", &system), ("ImageName", "taken")]);
    let again = [("SnapshotId", system.as_str()), ("ImageName", "taken")];
    assert_eq!(lab.refused("CreateImage", &again), "400 InvalidImageName.Duplicated");
}

#[test]
fn what_starts_no_instance_gets_the_vendors_code() {
    let (mut lab, system, data) = with_snapshots();
    let image = imaged(&mut lab, &system, &data);
    lab.pass(500);
    let refused = |lab: &mut Lab, changes: &[(&'static str, &str)]| {
        let mut all = BTreeMap::from(RUN);
        all.insert("ImageId", &image);
        all.extend(changes.iter().copied());
        lab.refused("RunInstances", &all.into_iter().collect::<Vec<_>>())
    };
    for (changes, code) in [
        (&[("ImageId", "")][..], "400 MissingParameter.ImageId"),
        (&[("ImageId", "m-0")], "404 InvalidImageId.NotFound"),
        (&[("InstanceType", "large")], "400 InvalidInstanceType.ValueNotSupported"),
        (&[("VSwitchId", "vsw-0")], "404 InvalidVSwitchId.NotFound"),
        (&[("SecurityGroupId", "sg-0")], "404 InvalidSecurityGroupId.NotFound"),
        (&[("ZoneId", "cn-hangzhou-k")], "400 InvalidParameter.Mismatch"),
        (&[("Amount", "2")], "403 InvalidParam.Amount"),
        (&[("InstanceName", "1x")], "400 InvalidInstanceName.Malformed"),
        (&[("HostName", "a b")], "400 InvalidHostName.Malformed"),
        (&[("SystemDisk.Category", "cloud")], "400 InvalidSystemDiskCategory.ValueNotSupported"),
        (&[("SystemDisk.Size", "19")], "404 InvalidSystemDiskSize.LessThanImageSize"),
        (
            &[("DataDisk.1.Device", "/dev/xvdb"), ("DataDisk.1.Category", "cloud")],
            "400 InvalidDataDiskCategory.ValueNotSupported",
        ),
        (&[("DataDisk.1.Device", "/dev/xvdb"), ("DataDisk.1.Size", "19")], "403 InvalidDiskSize.TooSmall"),
        (&[("DataDisk.1.Device", "/dev/xvda")], "400 InvalidDataDevice.Malformed"),
        (&[("DataDisk.1.Device", "/dev/xvdc")], "400 InvalidParameter.DataDisk"),
        (&[("DataDisk.1.Device", "/dev/xvdb"), ("DataDisk.2.Device", "/dev/vdb")], "403 InvalidDevice.InUse"),
        (&[("DataDisk.1.SnapshotId", "s-0")], "404 InvalidDataDiskSnapshotId.NotFound"),
        (&[("DataDisk.1.SnapshotId", &system)], "403 InvalidSnapshotId.NotDataDiskSnapshot"),
        (&[("DataDisk.1.Nmae", "x")], "400 UnsupportedParameter"),
    ] {
        assert_eq!(refused(&mut lab, changes), code, "{changes:?}");
    }
    lab.world.change(Settings { disk_limit: 1, ..Settings::default() });
    assert_eq!(refused(&mut lab, &[]), "403 InstanceDiskNumLimitExceed");
}

#[test]
fn an_instance_goes_with_the_disks_that_belong_to_it_and_leaves_the_others() {
    let (mut lab, ..) = with_snapshots();
    let one = [("InstanceId", "i-1")];
    assert_eq!(lab.refused("DeleteInstance", &one), "403 IncorrectInstanceStatus");
    assert_eq!(lab.refused("DeleteInstance", &[("InstanceId", "i-0")]), "404 InvalidInstanceId.NotFound");
    assert_eq!(
        lab.refused("DeleteInstance", &[one[0], ("Force", "true"), ("DryRun", "true")]),
        "400 DryRunOperation"
    );
    lab.world.instance_mut("i-1").unwrap().status = "Starting".into();
    assert_eq!(lab.refused("DeleteInstance", &one), "403 IncorrectInstanceStatus.Initializing");
    lab.world.instance_mut("i-1").unwrap().status = "Running".into();
    lab.world.instance_mut("i-1").unwrap().locks = vec!["security".into()];
    assert_eq!(lab.refused("DeleteInstance", &[one[0], ("Force", "true")]), "403 InstanceLockedForSecurity");
    lab.world.instance_mut("i-1").unwrap().locks.clear();
    let (_, effects) = lab.call("DeleteInstance", &[one[0], ("Force", "true")]);
    let (disk_id, instance_id) = (DISKS[0].to_owned(), "i-1".to_owned());
    let kept = vec![DISKS[1].to_owned()];
    assert_eq!(effects, [Effect::DeleteDisk { disk_id }, Effect::DeleteInstance { instance_id, kept }]);
    assert_eq!(lab.ok("DescribeInstances", &[])["TotalCount"], 0);
    assert_eq!(lab.ok("DescribeDisks", &[("Status", "Detaching")])["TotalCount"], 1);
    lab.world.report(lab.now, Happening::DiskReady { disk_id: DISKS[1].into() });
    let disks = lab.ok("DescribeDisks", &[])["Disks"]["Disk"].clone();
    assert_eq!((disks.as_array().unwrap().len(), &disks[0]["Status"]), (1, &json!("Available")));
    assert_eq!(lab.ok("DescribeSnapshots", &[])["TotalCount"], 2, "snapshots stay");
}
