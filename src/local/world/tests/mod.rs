//! The world as a client sees it.

mod disks;
mod images;
pub(crate) mod lab;
mod power;
mod registered;
mod rights;
mod scope;

use jiff::SignedDuration;
use serde_json::json;

use self::lab::{DISKS, Lab};
use super::*;

const RUN: [(&str, &str); 3] =
    [("Type", "RunShellScript"), ("CommandContent", "true"), ("InstanceId.1", "i-1")];

#[test]
fn a_group_shows_only_after_its_cuts_which_fall_apart_from_each_other() {
    let mut lab = Lab::new(Settings::default());
    let id = lab.ok("CreateSnapshotGroup", &[("InstanceId", "i-1"), ("Name", "n1"), ("Tag.1.Key", "k")])["SnapshotGroupId"].clone();
    assert_eq!(lab.groups(), Vec::<Value>::new(), "not yet");
    let born = lab.now;
    let cuts = lab.pass(399);
    assert!(cuts.len() == 2 && cuts[0] != cuts[1] && cuts[0] >= born);
    assert_eq!(lab.groups(), Vec::<Value>::new(), "cut, but not yet visible");
    lab.pass(1);
    let group = lab.groups().remove(0);
    assert_eq!((&group["SnapshotGroupId"], &group["Status"]), (&id, &json!("progressing")));
    assert_eq!(group["CreationTime"], "2026-11-22T03:00:00Z");
    assert_eq!(group["Tags"]["Tag"][0]["Key"], "k");
    let members = group["Snapshots"]["Snapshot"].as_array().unwrap();
    assert!(
        members
            .iter()
            .all(|m| m["Available"] == true && DISKS.contains(&m["SourceDiskId"].as_str().unwrap()))
    );
    lab.pass(3000);
    assert_eq!(lab.groups()[0]["Status"], "accomplished");
    let all = lab.ok("DescribeSnapshots", &[("Status", "accomplished")]);
    assert_eq!(
        (all["TotalCount"].as_u64(), &all["Snapshots"]["Snapshot"][0]["Progress"]),
        (Some(2), &json!("100%"))
    );
}

#[test]
fn a_slow_or_failed_cut_is_not_hidden() {
    let mut lab = Lab::new(Settings::default());
    lab.ok("CreateSnapshotGroup", &[("DiskId.1", DISKS[0])]);
    lab.now += SignedDuration::from_secs(5);
    let effects = lab.world.due(lab.now);
    let [Effect::CloneDisk { snapshot_id, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(lab.groups().is_empty(), "not cut: not visible, however late");
    let events = lab.world.report(lab.now, Happening::DiskCloneFailed { snapshot_id: snapshot_id.clone() });
    assert!(matches!(&events[..], [Effect::EmitEvent(event)] if event["data"]["result"] == "failed"));
    assert_eq!(lab.groups()[0]["Status"], "failed");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut lab = Lab::new(Settings { seed, ..Settings::default() });
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(format!("{:?}", lab.call("CreateSnapshotGroup", &[("InstanceId", "i-1")])));
            told.push(format!("{:?}", lab.call("RunCommand", &RUN)));
            told.push(format!("{:?}", lab.pass(500)));
            told.push(format!("{:?}", lab.call("DescribeSnapshotGroups", &[])));
        }
        told
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}

#[test]
fn a_client_token_stands_for_one_request() {
    let delay = Duration::from_millis(200);
    let mut lab = Lab::new(Settings { create_delay: delay, ..Settings::default() });
    let first = [("InstanceId", "i-1"), ("ClientToken", "t1")];
    let (reply, _) = lab.call("CreateSnapshotGroup", &first);
    assert_eq!(reply.delivery, Delivery::After(delay));
    assert_eq!(lab.refused("CreateSnapshotGroup", &first), "403 IdempotentProcessing");
    lab.pass(400);
    assert_eq!(lab.ok("CreateSnapshotGroup", &first)["SnapshotGroupId"], reply.body["SnapshotGroupId"]);
    let other = [("InstanceId", "i-1"), ("ClientToken", "t1"), ("Name", "other")];
    assert_eq!(lab.refused("CreateSnapshotGroup", &other), "403 IdempotentParameterMismatch");
    assert_eq!(lab.groups().len(), 1);
}

#[test]
fn requests_that_prove_nothing_are_refused() {
    let mut lab = Lab::new(Settings::default());
    let call = lab.request("DescribeRegions", &[]);
    let handle = |lab: &mut Lab, call: &Call, late: i64| {
        let (reply, _) = lab.world.handle(lab.now + SignedDuration::from_mins(late), call);
        format!("{} {}", reply.status, reply.code().unwrap_or("ok"))
    };
    assert_eq!(handle(&mut lab, &call, 16), "400 InvalidTimeStamp.Expired");
    assert_eq!(handle(&mut lab, &call, -16), "400 InvalidTimeStamp.Expired");
    assert_eq!(handle(&mut lab, &call, 14), "200 ok");
    assert_eq!(handle(&mut lab, &call, 0), "400 SignatureNonceUsed");
    // A nonce is used up for its key, whatever it was used for: not for another key.
    let nonce = call.header("x-acs-signature-nonce").unwrap().parse::<u32>().unwrap();
    let create = lab.request_with("CreateSnapshotGroup", &[("RegionId", "cn-hangzhou")], nonce);
    assert_eq!(handle(&mut lab, &create, 0), "400 SignatureNonceUsed");
    lab.world.add_user("1", "other", ("LTAIother", "s"), Policy::full());
    let own = std::mem::replace(&mut lab.key, ("LTAIother".into(), "s".into(), None));
    let call = lab.request_with("DescribeRegions", &[], nonce);
    assert_eq!(handle(&mut lab, &call, 0), "200 ok");
    lab.key = own;
    lab.key.1 = "wrong".into();
    let call = lab.request("DescribeRegions", &[]);
    assert_eq!(handle(&mut lab, &call, 0), "400 SignatureDoesNotMatch");
    lab.key.0 = "LTAInobody".into();
    let call = lab.request("DescribeRegions", &[]);
    assert_eq!(handle(&mut lab, &call, 0), "404 InvalidAccessKeyId.NotFound");
}

#[test]
fn a_narrowed_session_can_do_one_thing_until_it_expires() {
    let mut lab = Lab::new(Settings::default());
    let policy = json!({ "Version": "1", "Statement": [
        { "Effect": "Allow", "Action": "ecs:CreateSnapshotGroup", "Resource": format!("acs:ecs:*:*:disk/{}", DISKS[0]) },
    ] });
    let role =
        [("RoleArn", "acs:ram::1:role/appsnap"), ("RoleSessionName", "s1"), ("DurationSeconds", "900")];
    let answer = lab.ok("AssumeRole", &[&role[..], &[("Policy", &policy.to_string())]].concat());
    let text = |name: &str| answer["Credentials"][name].as_str().unwrap().to_owned();
    assert_eq!(text("Expiration"), "2026-11-22T03:15:00Z");
    let key = (text("AccessKeyId"), text("AccessKeySecret"), Some(text("SecurityToken")));
    let owner = std::mem::replace(&mut lab.key, key.clone());
    assert_eq!(lab.ok("GetCallerIdentity", &[])["Arn"], "acs:ram::1:assumed-role/appsnap/s1");
    lab.ok("CreateSnapshotGroup", &[("DiskId.1", DISKS[0])]);
    assert_eq!(lab.refused("CreateSnapshotGroup", &[("DiskId.1", DISKS[1])]), "403 Forbidden.RAM");
    assert_eq!(lab.refused("CreateSnapshotGroup", &[("InstanceId", "i-1")]), "403 Forbidden.RAM");
    assert_eq!(lab.refused("RunCommand", &RUN), "403 Forbidden.RAM");
    lab.pass(400);
    assert!(lab.groups().is_empty(), "a denied caller sees an empty list");
    lab.key.2 = None;
    assert_eq!(lab.refused("DescribeRegions", &[]), "400 MissingSecurityToken");
    lab.key = key;
    lab.pass(900_000);
    assert_eq!(lab.refused("DescribeRegions", &[]), "400 InvalidSecurityToken.Expired");
    lab.key = owner;
    assert_eq!(
        lab.ok("DescribeSnapshotGroups", &[])["SnapshotGroups"]["SnapshotGroup"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn roles_are_assumed_only_where_trust_allows() {
    let mut lab = Lab::new(Settings::default());
    let policy = Policy::full();
    lab.world.add_role(Role {
        account_id: "1".into(),
        name: "closed".into(),
        trust: Trust::default(),
        external_id: None,
        policy,
    });
    let arn = |arn| [("RoleArn", arn), ("RoleSessionName", "s1")];
    assert_eq!(lab.refused("AssumeRole", &arn("acs:ram::1:role/closed")), "403 NoPermission");
    assert_eq!(lab.refused("AssumeRole", &arn("acs:ram::1:role/none")), "404 EntityNotExist.Role");
    let bad = [("RoleArn", "acs:ram::1:role/appsnap"), ("RoleSessionName", "a b")];
    assert_eq!(lab.refused("AssumeRole", &bad), "400 InvalidParameter.RoleSessionName");
}

#[test]
fn a_command_lives_from_pending_to_its_end() {
    let mut lab = Lab::new(Settings::default());
    let (reply, effects) =
        lab.call("RunCommand", &[&RUN[..], &[("Tag.1.Key", "run"), ("Tag.1.Value", "r1")]].concat());
    let id = reply.body["InvokeId"].as_str().unwrap().to_owned();
    assert!(
        matches!(&effects[..], [Effect::RunCommand(task)] if task.content == b"true" && task.invoke_id == id)
    );
    assert_eq!(lab.result(&id)["InvocationStatus"], "Pending");
    lab.news(&id, CommandNews::Started);
    lab.news(&id, CommandNews::Output(b"so far".to_vec()));
    assert_eq!(
        (&lab.result(&id)["InvocationStatus"], &lab.result(&id)["Output"]),
        (&json!("Running"), &json!(""))
    );
    lab.news(&id, CommandNews::Finished { exit_code: 3, output: vec![b'x'; 30_000], dropped: 10 });
    let result = lab.result(&id);
    assert_eq!(
        (&result["InvocationStatus"], &result["ErrorCode"]),
        (&json!("Failed"), &json!("ExitCodeNonzero"))
    );
    assert_eq!(
        (result["ExitCode"].as_i64(), result["Dropped"].as_u64()),
        (Some(3), Some(30_000 - 24 * 1024 + 10))
    );
    assert_eq!(result["Output"].as_str().unwrap(), "x".repeat(24 * 1024));
    lab.news(&id, CommandNews::Finished { exit_code: 0, output: vec![], dropped: 0 });
    assert_eq!(lab.result(&id)["InvocationStatus"], "Failed", "an end is an end");
    let found = lab.ok("DescribeInvocations", &[("Tag.1.Key", "run"), ("Tag.1.Value", "r1")]);
    assert_eq!(found["Invocations"]["Invocation"][0]["InvocationStatus"], "Failed");
    let found = lab.ok("DescribeInvocations", &[("Tag.1.Key", "run"), ("Tag.1.Value", "r2")]);
    assert_eq!(found["TotalCount"], 0);
}

#[test]
fn lost_commands_end_by_the_clouds_own_clock() {
    let mut lab = Lab::new(Settings::default());
    let undelivered = lab.ok("RunCommand", &RUN)["InvokeId"].as_str().unwrap().to_owned();
    let lost = lab.ok("RunCommand", &RUN)["InvokeId"].as_str().unwrap().to_owned();
    lab.news(&lost, CommandNews::Started);
    lab.pass(60_000);
    let result = lab.result(&undelivered);
    assert_eq!(
        (&result["InvocationStatus"], &result["ErrorCode"]),
        (&json!("Aborted"), &json!("DeliveryTimeout"))
    );
    lab.pass(30_000);
    let result = lab.result(&lost);
    assert_eq!(
        (&result["ErrorCode"], &result["FinishedTime"]),
        (&json!("ExecutionTimeout"), &json!("2026-11-22T03:01:00Z"))
    );
    let endless = [&RUN[..], &[("Timeout", "18446744073709551615")]].concat();
    let endless = lab.ok("RunCommand", &endless)["InvokeId"].as_str().unwrap().to_owned();
    lab.news(&endless, CommandNews::Started);
    assert_eq!(lab.result(&endless)["InvocationStatus"], "Running");
    let stopped = lab.ok("RunCommand", &RUN)["InvokeId"].as_str().unwrap().to_owned();
    let (_, effects) = lab.call("StopInvocation", &[("InvokeId", &stopped)]);
    assert!(matches!(&effects[..], [Effect::StopCommand { .. }]));
    assert_eq!(lab.result(&stopped)["InvocationStatus"], "Cancelled");
    assert_eq!(lab.refused("StopInvocation", &[("InvokeId", "t-none")]), "404 InvalidInvokeId.NotFound");
}

#[test]
fn tags_reach_snapshots_but_not_groups_and_disks_come_from_snapshots() {
    let mut lab = Lab::new(Settings::default());
    let group = lab.ok("CreateSnapshotGroup", &[("DiskId.1", DISKS[0])])["SnapshotGroupId"]
        .as_str()
        .unwrap()
        .to_owned();
    lab.pass(400);
    let snapshot = lab.groups()[0]["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().unwrap().to_owned();
    let tag = [("ResourceId.1", snapshot.as_str()), ("Tag.1.Key", "APPConsistent"), ("Tag.1.Value", "True")];
    lab.ok("TagResources", &[&tag[..], &[("ResourceType", "snapshot")]].concat());
    let found = lab.ok("DescribeSnapshots", &[("Tag.1.Key", "APPConsistent"), ("Tag.1.Value", "True")]);
    assert_eq!(found["Snapshots"]["Snapshot"][0]["Tags"]["Tag"][0]["TagKey"], "APPConsistent");
    let untag = [("ResourceId.1", snapshot.as_str()), ("ResourceType", "snapshot"), ("TagKey.2", "absent")];
    assert_eq!(lab.refused("UntagResources", &untag[..2]), "404 MissingParameter.TagKey");
    lab.ok("UntagResources", &[&untag[..], &[("TagKey.1", "APPConsistent")]].concat());
    let left = lab.ok("DescribeSnapshots", &[("SnapshotIds", &format!("[{snapshot:?}]"))]);
    assert_eq!(left["Snapshots"]["Snapshot"][0]["Tags"]["Tag"], json!([]));
    let on_group = [("ResourceId.1", group.as_str()), ("Tag.1.Key", "a"), ("ResourceType", "snapshotgroup")];
    assert_eq!(lab.refused("TagResources", &on_group), "404 InvalidResourceType.NotFound");
    let wanted =
        [("SnapshotId", snapshot.as_str()), ("ZoneId", "cn-hangzhou-h"), ("DiskCategory", "cloud_essd")];
    assert_eq!(
        lab.refused("CreateDisk", &[&wanted[..], &[("Size", "19")]].concat()),
        "403 InvalidDiskSize.TooSmall"
    );
    let (reply, effects) = lab.call("CreateDisk", &wanted);
    let disk_id = reply.body["DiskId"].as_str().unwrap().to_owned();
    assert_eq!(effects, [Effect::DiskFromSnapshot { snapshot_id: snapshot, disk_id: disk_id.clone() }]);
    lab.world.report(lab.now, Happening::DiskReady { disk_id });
    assert_eq!(lab.ok("DescribeDisks", &[("Status", "Available")])["TotalCount"], 1);
    let (reply, effects) = lab.call("DeleteSnapshotGroup", &[("SnapshotGroupId", &group)]);
    assert_eq!(reply.body["OperationProgressSet"]["OperationProgress"][0]["OperationStatus"], "Success");
    assert!(matches!(&effects[..], [Effect::DeleteSnapshot { .. }]) && lab.groups().is_empty());
}

#[test]
fn unfit_disks_and_parameters_get_the_vendors_codes() {
    let mut lab = Lab::new(Settings::default());
    let create = "CreateSnapshotGroup";
    assert_eq!(lab.refused(create, &[]), "400 MissingParamter.InstanceId");
    assert_eq!(lab.refused(create, &[("InstanceId", "i-2")]), "404 InvalidInstanceId.NotFound");
    assert_eq!(
        lab.refused(create, &[("InstanceId", "i-1"), ("Name", "1x")]),
        "400 InvalidSnapshotName.Malformed"
    );
    assert_eq!(lab.refused(create, &[("InstanceId", "i-1"), ("Nmae", "x")]), "400 UnsupportedParameter");
    let both = [("DiskId.1", DISKS[0]), ("ExcludeDiskId.1", DISKS[1])];
    assert_eq!(lab.refused(create, &both), "400 InvalidParam.ExcludeDiskIdsAndDiskIds.Conflict");
    lab.world.disk_mut(DISKS[0]).unwrap().category = "cloud_efficiency".into();
    assert_eq!(lab.refused(create, &[("InstanceId", "i-1")]), "400 DiskCategory.OperationNotSupported");
    lab.ok(create, &[("InstanceId", "i-1"), ("ExcludeDiskId.1", DISKS[0])]);
    lab.world.instance_mut("i-1").unwrap().status = "Starting".into();
    assert_eq!(lab.refused(create, &[("InstanceId", "i-1")]), "400 IncorrectInstanceStatus");
    assert_eq!(lab.refused("RunCommand", &RUN), "403 IncorrectInstanceStatus");
    assert_eq!(lab.refused("RebootInstance", &[]), "404 InvalidAction.NotFound");
    assert_eq!(
        lab.refused("DescribeDisks", &[("RegionId", "x")]),
        "400 InvalidParameter.RegionId",
        "given twice"
    );
}

#[test]
fn faults_and_limits_strike_on_demand() {
    let fault = |nth, what| Fault { action: "DescribeDisks".into(), nth: Some(nth), what };
    let faults = vec![
        fault(1, Mishap::Code(503, "ServiceUnavailable".into())),
        fault(2, Mishap::DropReply),
        fault(3, Mishap::Hang),
        Fault { action: "RunCommand".into(), nth: None, what: Mishap::DoneBut(500, "InternalError".into()) },
    ];
    let limits = BTreeMap::from([("DescribeInstances".to_owned(), 2)]);
    let mut lab = Lab::new(Settings { faults, limits, ..Settings::default() });
    assert_eq!(lab.refused("DescribeDisks", &[]), "503 ServiceUnavailable");
    assert_eq!(lab.call("DescribeDisks", &[]).0.delivery, Delivery::Drop);
    assert_eq!(lab.call("DescribeDisks", &[]).0.delivery, Delivery::Hang);
    lab.ok("DescribeDisks", &[]);
    let (reply, effects) = lab.call("RunCommand", &RUN);
    assert_eq!((reply.status, effects.len()), (500, 1), "done, although the answer says otherwise");
    lab.ok("DescribeInstances", &[]);
    lab.ok("DescribeInstances", &[]);
    assert_eq!(lab.refused("DescribeInstances", &[]), "400 Throttling.User");
    lab.pass(60_000);
    lab.ok("DescribeInstances", &[]);
}

#[test]
fn a_changed_world_counts_its_calls_anew_and_a_call_sent_twice_is_done_once() {
    let mut lab = Lab::new(Settings::default());
    lab.ok("DescribeDisks", &[]);
    let fault = |action: &str, what| Fault { action: action.into(), nth: Some(1), what };
    let hit = fault("DescribeDisks", Mishap::Code(503, "ServiceUnavailable".into()));
    let faults = vec![hit, fault("CreateSnapshotGroup", Mishap::Twice)];
    lab.world.change(Settings { faults, ..Settings::default() });
    assert_eq!(lab.refused("DescribeDisks", &[]), "503 ServiceUnavailable");
    lab.ok("DescribeDisks", &[]);
    assert_eq!((lab.world.calls("DescribeDisks"), lab.world.calls("CreateSnapshotGroup")), (2, 0));
    assert_eq!(lab.refused("CreateSnapshotGroup", &[("InstanceId", "i-1")]), "400 SignatureNonceUsed");
    lab.pass(400);
    assert_eq!(lab.groups().len(), 1);
}

#[test]
fn a_guest_acts_with_the_rights_of_its_instances_role() {
    let mut lab = Lab::new(Settings::default());
    let asked = [("InstanceIds", r#"["i-1"]"#), ("PageSize", "50")];
    let role = |lab: &mut Lab| {
        let sets = lab.ok("DescribeInstanceRamRole", &asked)["InstanceRamRoleSets"].clone();
        sets["InstanceRamRoleSet"][0]["RamRoleName"].as_str().unwrap().to_owned()
    };
    assert_eq!(role(&mut lab), "");
    lab.world.instance_mut("i-1").unwrap().ram_role = Some("guest".into());
    assert_eq!(role(&mut lab), "guest");
    let text =
        r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"ecs:CreateSnapshot*","Resource":"*"}]}"#;
    let policy = Policy::parse(text).unwrap();
    lab.world.add_role(Role {
        account_id: "1".into(),
        name: "guest".into(),
        trust: Trust::open(),
        external_id: None,
        policy,
    });
    let mut act = |role: &str, action: &str, pair: (&str, &str)| {
        let pairs = [("RegionId", "cn-hangzhou"), pair].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        lab.world.act(lab.now, role, action, pairs).0.map_err(|error| format!("{error:?}"))
    };
    let (own, on) = ("acs:ram::1:role/guest", ("InstanceId", "i-1"));
    assert!(act(own, "CreateSnapshotGroup", on).unwrap()["SnapshotGroupId"].is_string());
    let seen = act(own, "DescribeSnapshotGroups", on).unwrap();
    assert_eq!(seen["SnapshotGroups"]["SnapshotGroup"], json!([]), "a denied caller sees an empty list");
    let denied = act(own, "DescribeRegions", ("AcceptLanguage", "en")).unwrap_err();
    assert!(denied.contains("Forbidden.RAM"), "{denied}");
    assert!(act("acs:ram::1:role/none", "DescribeInstances", on).unwrap_err().contains("NotFound"));
}
