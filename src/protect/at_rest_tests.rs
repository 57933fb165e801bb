use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::policy::Request;
use crate::protect::testing::{Answer, Asked, calls, ok, refuse, scripted_with, silence};
use crate::protect::{earlier as any_earlier, protect as any_protect};

type Tags = Vec<(String, String)>;

/// The group that the cloud holds.
#[derive(Default, Clone)]
struct Held {
    disks: Vec<String>,
    tags: Tags,
    of_members: Tags,
    failed: bool,
}

/// What the cloud does otherwise than well.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Refused(&'static str),
    /// No answer; the group is made or not.
    Silent(bool),
    Hidden,
    NoTags,
    Failed,
    OtherDisks,
    /// It is started while its group is made.
    Started,
}

#[derive(Clone, Default)]
struct Cloud(Arc<Mutex<Option<Held>>>);

fn list(params: &BTreeMap<String, String>, name: &str, part: &str) -> Vec<String> {
    (1..).map_while(|n| params.get(&format!("{name}.{n}{part}")).cloned()).collect()
}

fn shown(tags: &Tags) -> Value {
    json!({ "Tag": tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect::<Vec<_>>() })
}

impl Cloud {
    fn answer(&self, call: &str, params: &BTreeMap<String, String>, trouble: Trouble) -> Option<Answer> {
        let mut held = self.0.lock().unwrap();
        let tags = || list(params, "Tag", ".Key").into_iter().zip(list(params, "Tag", ".Value")).collect();
        match (call, trouble) {
            ("CreateSnapshotGroup", Trouble::Refused(code)) => Some(refuse(code)),
            ("CreateSnapshotGroup", _) => {
                let mut disks = list(params, "DiskId", "");
                if trouble == Trouble::OtherDisks {
                    disks.push("d-9".into());
                }
                let failed = trouble == Trouble::Failed;
                let new = Held { disks, tags: tags(), of_members: Vec::new(), failed };
                if trouble != Trouble::Silent(false) {
                    held.get_or_insert(new);
                }
                let silent = matches!(trouble, Trouble::Silent(_));
                Some(if silent { silence() } else { ok(json!({ "SnapshotGroupId": "ssg-1" })) })
            }
            ("DescribeSnapshotGroups" | "groups of the run", _) => {
                let group = |held: &Held| {
                    let member = |disk: &String| json!({ "SnapshotId": format!("s-of-{disk}"), "SourceDiskId": disk, "Tags": shown(&held.of_members) });
                    json!({ "SnapshotGroupId": "ssg-1", "CreationTime": "2026-11-22T03:00:00Z", "InstanceId": "i-1",
                        "Status": if held.failed { "failed" } else { "progressing" }, "Tags": shown(&held.tags),
                        "Snapshots": { "Snapshot": held.disks.iter().map(member).collect::<Vec<_>>() } })
                };
                let groups: Vec<Value> =
                    held.iter().filter(|_| trouble != Trouble::Hidden).map(group).collect();
                Some(ok(json!({ "SnapshotGroups": { "SnapshotGroup": groups } })))
            }
            ("DescribeInstances", Trouble::Started) => {
                let instance = json!({ "InstanceId": "i-1", "Status": if held.is_some() { "Starting" } else { "Stopped" } });
                Some(ok(json!({ "Instances": { "Instance": [instance] } })))
            }
            ("TagResources", Trouble::NoTags) => Some(refuse("Forbidden.RAM")),
            ("TagResources", _) => {
                let held = held.as_mut().unwrap();
                held.of_members.extend::<Tags>(tags());
                Some(ok(json!({})))
            }
            _ => None,
        }
    }
}

/// One delivery of the event.
async fn deliver(
    cloud: &Cloud,
    trouble: Trouble,
    at_rest: bool,
    change: impl Fn(&mut Task),
) -> (Outcome, Asked) {
    let cloud = cloud.clone();
    let (mut task, asked) = scripted_with(move |call, params| cloud.answer(call, params, trouble));
    task.at_rest = at_rest;
    change(&mut task);
    let outcome = match any_earlier(&task).await {
        Next::Over(outcome) => outcome,
        Next::Attempt(unit) => any_protect(&task, unit).await,
    };
    for reason in &outcome.unit.reasons {
        assert!(outcome.unit.findings.iter().any(|f| f.code == *reason), "{reason} without a cure");
    }
    (outcome, asked)
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_is_snapshotted_without_a_command_and_is_no_alarm() {
    let cloud = Cloud::default();
    let (outcome, asked) = deliver(&cloud, Trouble::None, true, |_| ()).await;
    let unit = &outcome.unit;
    assert_eq!((outcome.status, unit.level, &*unit.engine), (Status::Succeeded, Level::Crash, "none"));
    assert_eq!((&unit.reasons[..], unit.snapshots.len()), (&["instance.stopped".to_string()][..], 1));
    assert_eq!(unit.snapshot_group_id.as_deref(), Some("ssg-1"));
    let create = &calls(&asked, "CreateSnapshotGroup")[0];
    let attempt = ids::attempt_id("r-1", "i-1", 1);
    assert_eq!((&*create["InstanceId"], &*create["DiskId.1"]), ("i-1", "d-1"));
    assert_eq!(create["ClientToken"], ids::client_token(&attempt));
    let tags = calls(&asked, "TagResources");
    let written: BTreeMap<_, _> =
        list(&tags[0], "Tag", ".Key").into_iter().zip(list(&tags[0], "Tag", ".Value")).collect();
    assert_eq!((&*written["appsnap:level"], &*written["appsnap:reason"]), ("crash", "instance.stopped"));
    assert!(!asked.lock().unwrap().iter().any(|(call, _)| call.starts_with("RunCommand")));
    // A repeat is one, also when the instance runs by then.
    for at_rest in [true, false] {
        let (again, asked) = deliver(&cloud, Trouble::None, at_rest, |_| ()).await;
        assert_eq!((again.status, again.settled), (Status::Skipped, Some(Status::Succeeded)));
        assert_eq!((again.unit.level, again.unit.snapshots.len()), (Level::Crash, 1));
        let made = |call: &str| call == "CreateSnapshotGroup" || call.starts_with("RunCommand");
        assert!(!asked.lock().unwrap().iter().any(|(call, _)| made(call)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_function_left_is_labelled_by_the_next_delivery() {
    for running in [false, true] {
        let cloud = Cloud::default();
        // It died before it wrote its tags.
        deliver(&cloud, Trouble::NoTags, true, |_| ()).await;
        assert!(cloud.0.lock().unwrap().as_ref().unwrap().of_members.is_empty());
        let (outcome, asked) = deliver(&cloud, Trouble::None, !running, |_| ()).await;
        assert_eq!((outcome.status, outcome.unit.level), (Status::Succeeded, Level::Crash));
        assert!(calls(&asked, "CreateSnapshotGroup").is_empty());
        assert!(!cloud.0.lock().unwrap().as_ref().unwrap().of_members.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn every_trouble_is_told_and_none_is_hidden() {
    use Trouble::*;
    type End = (Trouble, Status, Level, &'static [&'static str]);
    const STOPPED: &str = "instance.stopped";
    let table: [End; 10] = [
        (Refused("QuotaExceed.Snapshot"), Status::Failed, Level::None, &["disk.quota"]),
        (Refused("InvalidParameter.KMSKeyId.CMKNotEnabled"), Status::Failed, Level::None, &["disk.kms"]),
        (Refused("Forbidden.RAM"), Status::Failed, Level::None, &["group.none"]),
        (Refused("IdempotentParameterMismatch"), Status::Pending, Level::None, &[]),
        (Silent(true), Status::Succeeded, Level::Crash, &[STOPPED]),
        (Silent(false), Status::Failed, Level::None, &["group.none"]),
        (Hidden, Status::Degraded, Level::Crash, &[STOPPED, "group.unseen"]),
        (NoTags, Status::Degraded, Level::Crash, &[STOPPED, "tag.failed"]),
        (OtherDisks, Status::Degraded, Level::Crash, &[STOPPED, "group.disks"]),
        (Started, Status::Degraded, Level::Crash, &[STOPPED, "instance.started"]),
    ];
    for (trouble, status, level, reasons) in table {
        let (outcome, _) = deliver(&Cloud::default(), trouble, true, |_| ()).await;
        let got = (outcome.status, outcome.unit.level, &outcome.unit.reasons[..]);
        assert_eq!(
            got,
            (status, level, &reasons.iter().map(|r| r.to_string()).collect::<Vec<_>>()[..]),
            "{trouble:?}"
        );
    }
    let cloud = Cloud::default();
    let (outcome, _) = deliver(&cloud, Failed, true, |_| ()).await;
    assert_eq!((outcome.status, &outcome.unit.reasons[0][..]), (Status::Failed, "group.failed"));
    let (again, _) = deliver(&cloud, None, true, |_| ()).await;
    assert_eq!((again.settled, again.unit.level), (Some(Status::Failed), Level::None));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_tells_what_was_settled_whatever_disks_there_are_today() {
    let table = [
        (Trouble::None, Status::Succeeded),
        (Trouble::OtherDisks, Status::Degraded),
        (Trouble::Started, Status::Degraded),
    ];
    for (trouble, settled) in table {
        let cloud = Cloud::default();
        let (first, _) = deliver(&cloud, trouble, true, |_| ()).await;
        assert_eq!(first.status, settled, "{trouble:?}");
        // Released since, or with another disk.
        for disks in [&[][..], &["d-9"], &["d-1", "d-9"]] {
            let change = |task: &mut Task| {
                task.disks = disks.iter().map(|id| crate::eligibility::DiskFacts::named(id)).collect();
            };
            let (again, _) = deliver(&cloud, Trouble::None, disks.len() == 2, change).await;
            assert_eq!(
                (again.status, again.settled),
                (Status::Skipped, Some(settled)),
                "{trouble:?} {disks:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_windows_needs_no_plugin() {
    let change = |task: &mut Task| task.os_type = "windows".into();
    let (outcome, asked) = deliver(&Cloud::default(), Trouble::None, true, change).await;
    assert_eq!((outcome.status, &*outcome.unit.engine), (Status::Succeeded, "none"));
    let asked = asked.lock().unwrap();
    assert!(!asked.iter().any(|(call, _)| call.starts_with("RunCommand") || call.contains("RamRole")));
}

#[tokio::test(start_paused = true)]
async fn where_no_more_is_wanted_nothing_is_missing() {
    let wanted = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] }, "consistency": "crash" });
    let change = |task: &mut Task| {
        task.request = Request::parse(&wanted).unwrap();
    };
    let (outcome, _) = deliver(&Cloud::default(), Trouble::None, true, change).await;
    assert_eq!((outcome.status, outcome.unit.reasons.len()), (Status::Succeeded, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_for_since_nothing_is_frozen() {
    for action in ["groups of the run", "CreateSnapshotGroup"] {
        let (cloud, asked_for) = (Cloud::default(), Arc::new(AtomicU32::new(0)));
        let (mut task, _) = scripted_with(move |call, params| {
            let throttled = call == action && asked_for.fetch_add(1, Ordering::Relaxed) < 5;
            if throttled {
                Some(refuse("Throttling.User"))
            } else {
                cloud.answer(call, params, Trouble::None)
            }
        });
        task.at_rest = true;
        let Next::Attempt(unit) = any_earlier(&task).await else { panic!("{action}: it has given up") };
        let outcome = any_protect(&task, unit).await;
        assert_eq!((outcome.status, outcome.unit.level), (Status::Succeeded, Level::Crash), "{action}");
    }
}
