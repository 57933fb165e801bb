//! What the documents for further steps allow, by calls of this cloud.

use super::lab::{DISKS, KEY, Lab};
use super::*;
use crate::ram::{Names, document};

const OTHER: (&str, &str) = ("LTAI5tOther", "other-secret");

/// A cloud with a second user, who may do what these documents say.
fn with(documents: &[&str]) -> Lab {
    let mut lab = Lab::new(Settings::default());
    // The lab's account is too short to be one.
    let names = Names { account: "1".into(), regions: vec!["cn-hangzhou".into()], ..Names::default() };
    let texts: Vec<String> =
        documents.iter().map(|name| document(name).unwrap().filled(&names).to_string()).collect();
    lab.world.add_user("1", "other", OTHER, Policy::all(&texts).unwrap());
    lab
}

fn as_user(lab: &mut Lab, key: (&str, &str)) {
    lab.key = (key.0.into(), key.1.into(), None);
}

/// A group of the tester's, with or without the tag of appsnap; its id and that of its snapshot.
fn group(lab: &mut Lab, tagged: bool) -> (String, String) {
    as_user(lab, KEY);
    let tag = [("Tag.1.Key", "appsnap:policy"), ("Tag.1.Value", "orders")];
    let tag = if tagged { &tag[..] } else { &[] };
    let made = lab.ok("CreateSnapshotGroup", &[&[("DiskId.1", DISKS[0])], tag].concat());
    let id = made["SnapshotGroupId"].as_str().unwrap().to_owned();
    lab.pass(400);
    let shown = lab.groups().into_iter().find(|group| group["SnapshotGroupId"] == id.as_str()).unwrap();
    let member = shown["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().unwrap().to_owned();
    if tagged {
        let on = [("ResourceType", "snapshot"), ("ResourceId.1", member.as_str())];
        lab.ok("TagResources", &[&on[..], tag].concat());
    }
    as_user(lab, OTHER);
    (id, member)
}

#[test]
fn whoever_retains_deletes_groups_and_snapshots_of_appsnap_and_no_others() {
    let mut lab = with(&["retain"]);
    let (foreign, their_member) = group(&mut lab, false);
    let (own, member) = group(&mut lab, true);
    assert_eq!(lab.refused("DeleteSnapshot", &[("SnapshotId", &their_member)]), "403 Forbidden.RAM");
    lab.ok("DeleteSnapshot", &[("SnapshotId", &member)]);
    assert_eq!(lab.refused("DeleteSnapshotGroup", &[("SnapshotGroupId", &foreign)]), "403 Forbidden.RAM");
    assert_eq!(lab.groups().len(), 2);
    let (reply, _) = lab.call("DeleteSnapshotGroup", &[("SnapshotGroupId", &own)]);
    assert_eq!((reply.status, lab.groups().len()), (200, 1), "{}", reply.body);
    assert_eq!(lab.refused("CreateSnapshotGroup", &[("DiskId.1", DISKS[0])]), "403 Forbidden.RAM");
}

#[test]
fn whoever_verifies_makes_tagged_disks_of_appsnaps_snapshots_and_no_others() {
    let mut lab = with(&["verify"]);
    let (_, foreign) = group(&mut lab, false);
    let (_, own) = group(&mut lab, true);
    let mut make = |snapshot: &str, tagged: bool| {
        let wanted = [("SnapshotId", snapshot), ("ZoneId", "cn-hangzhou-h"), ("DiskCategory", "cloud_essd")];
        let tag = [("Tag.1.Key", "appsnap:verify"), ("Tag.1.Value", "r-1")];
        let (reply, _) = lab.call("CreateDisk", &[&wanted[..], if tagged { &tag[..] } else { &[] }].concat());
        (reply.status, reply.body["Message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(make(&own, true).0, 200);
    let (status, why) = make(&own, false);
    assert!(status == 403 && why.contains("disk/*"), "{why}");
    let (status, why) = make(&foreign, true);
    assert!(status == 403 && why.contains("snapshot/s-"), "{why}");
}

#[test]
fn whoever_verifies_attaches_and_deletes_only_what_is_marked_for_it() {
    let mut lab = with(&["verify"]);
    let mark = |lab: &mut Lab, disk: &str, marked: bool| {
        let disk = lab.world.disk_mut(disk).unwrap();
        (disk.instance_id, disk.status, disk.tags) = (None, "Available".into(), Tags::default());
        if marked {
            disk.tags.0.insert("appsnap:verify".into(), "r-1".into());
        }
    };
    as_user(&mut lab, OTHER);
    mark(&mut lab, DISKS[0], true);
    mark(&mut lab, DISKS[1], false);
    let both = |disk| [("DiskId", disk), ("InstanceId", "i-1")];
    assert_eq!(lab.refused("AttachDisk", &both(DISKS[0])), "403 Forbidden.RAM", "the instance is not marked");
    lab.world.instance_mut("i-1").unwrap().tags.0.insert("appsnap:verify".into(), "allowed".into());
    assert_eq!(lab.refused("AttachDisk", &both(DISKS[1])), "403 Forbidden.RAM");
    assert_eq!(lab.refused("DeleteDisk", &[("DiskId", DISKS[1])]), "403 Forbidden.RAM");
    let done = |lab: &mut Lab| lab.world.report(lab.now, Happening::DiskReady { disk_id: DISKS[0].into() });
    lab.ok("AttachDisk", &both(DISKS[0]));
    done(&mut lab);
    lab.ok("DetachDisk", &both(DISKS[0]));
    done(&mut lab);
    lab.ok("DeleteDisk", &[("DiskId", DISKS[0])]);
    // What is gone has no tag any more, so the right to delete it again is missing.
    assert_eq!(lab.refused("DeleteDisk", &[("DiskId", DISKS[0])]), "403 Forbidden.RAM");
}

#[test]
fn a_command_takes_the_tag_on_its_instance_and_the_right_to_make_commands() {
    let mut lab = with(&["protect"]);
    as_user(&mut lab, OTHER);
    assert_eq!(lab.refused("RunCommand", &super::RUN), "403 Forbidden.RAM");
    lab.world.instance_mut("i-1").unwrap().tags.0.insert("appsnap".into(), "allowed".into());
    let id = lab.ok("RunCommand", &super::RUN)["InvokeId"].as_str().unwrap().to_owned();
    assert_eq!(lab.result(&id)["InvocationStatus"], "Pending");
    assert_eq!(lab.refused("StopInvocation", &[("InvokeId", &id)]), "403 Forbidden.RAM");
    // Its tags may be put on snapshots and invocations only: nobody tags himself into another instance.
    let tag = |kind, id| {
        [("ResourceType", kind), ("ResourceId.1", id), ("Tag.1.Key", "appsnap"), ("Tag.1.Value", "allowed")]
    };
    assert_eq!(lab.refused("TagResources", &tag("instance", "i-1")), "403 Forbidden.RAM");
    lab.ok("TagResources", &tag("invocation", &id));
}
