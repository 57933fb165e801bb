//! The plugin's saga over a scripted cloud under paused time.

use serde_json::json;

use super::*;
use crate::acs::{Failure, Stage, Transport, Wire};
use crate::protect::testing::{Answer, Asked, START, ok, refuse, task_over};

type Script = fn(&str) -> Option<Answer>;

fn ended(status: &str, exit: i64, line: &str) -> Answer {
    let result = json!({ "InvokeId": "t", "InstanceId": "i-1", "InvocationStatus": status, "ExitCode": exit,
        "Output": line.replace("ATTEMPT", &attempt()) });
    ok(json!({ "Invocation": { "InvocationResults": { "InvocationResult": [result] } } }))
}

const WELL: &str =
    r#"{"appsnap-plugin":"1","run":"ATTEMPT","phase":"done","exit":"0","thawed":"","reason":[]}"#;

fn attempt() -> String {
    ids::attempt_id("r-1", "i-1", 1)
}

/// Groups of the attempt's name, each with its time of birth and its disks.
fn shown(groups: &[(&str, &[&str])]) -> Answer {
    let member = |disk: &&str| json!({ "SnapshotId": format!("s-{disk}"), "SourceDiskId": disk });
    let group = |(born, disks): &(&str, &[&str])| {
        json!({ "SnapshotGroupId": "ssg-1", "CreationTime": born,
                "Snapshots": { "Snapshot": disks.iter().map(member).collect::<Vec<_>>() } })
    };
    ok(json!({ "SnapshotGroups": { "SnapshotGroup": groups.iter().map(group).collect::<Vec<_>>() } }))
}

/// Groups of the one disk by their ids and states, whose snapshots the plugin has tagged.
fn named(groups: &[(&str, &str)]) -> Answer {
    let group = |(id, status): &(&str, &str)| {
        let tags = json!({ "Tag": [{ "Key": "APPConsistent", "Value": "True" }] });
        json!({ "SnapshotGroupId": id, "CreationTime": START, "Status": status, "Snapshots": { "Snapshot":
            [{ "SnapshotId": format!("s-{id}"), "SourceDiskId": "d-1", "Tags": tags }] } })
    };
    ok(json!({ "SnapshotGroups": { "SnapshotGroup": groups.iter().map(group).collect::<Vec<_>>() } }))
}

fn tagged(key: &str) -> Answer {
    let one =
        |id: &str| json!({ "SnapshotId": id, "Tags": { "Tag": [{ "TagKey": key, "TagValue": "True" }] } });
    ok(json!({ "Snapshots": { "Snapshot": [one("s-d-1"), one("s-d-9")] } }))
}

/// What the good cloud answers.
fn good(call: &str) -> Answer {
    match call {
        "DescribeDisks" => ok(json!({ "Disks": { "Disk": [{ "DiskId": "d-1" }] } })),
        "DescribeInstanceRamRole" => ok(json!({ "InstanceRamRoleSets": { "InstanceRamRoleSet":
            [{ "InstanceId": "i-1", "RamRoleName": "snap" }] } })),
        "RunCommand" => ok(json!({ "InvokeId": "t" })),
        "DescribeInvocationResults" => ended("Success", 0, WELL),
        "DescribeInvocations" => ok(json!({ "Invocations": { "Invocation":
            [{ "InvokeId": "t", "InvocationStatus": "Success", "CreationTime": START }] } })),
        "DescribeSnapshotGroups" => shown(&[(START, &["d-1"])]),
        "DescribeSnapshots" => tagged("APPConsistent"),
        "TagResources" | "UntagResources" => ok(json!({})),
        other => panic!("not expected: {other}"),
    }
}

async fn play(script: Script) -> (Outcome, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let transport = Transport::scripted(move |wire: &Wire| {
        log.lock().unwrap().push((wire.action.to_string(), wire.query.iter().cloned().collect()));
        script(wire.action).unwrap_or_else(|| good(wire.action))
    });
    let request = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] },
        "linux": { "engine": "plugin", "scriptTimeoutInSeconds": 30 } });
    let task = task_over(transport, &request);
    let outcome = protect(&task, blank(&task)).await;
    assert!(
        task.client.clock().now() <= task.deadline + jiff::SignedDuration::from_secs(25),
        "over its deadline"
    );
    (outcome, asked)
}

/// Whether the unit was closed, and whether a vendor's tag was written.
fn written(asked: &Asked) -> (bool, bool) {
    let asked = asked.lock().unwrap();
    let mut tags = asked.iter().filter(|(action, _)| action == "TagResources").map(|(_, params)| params);
    let closed = tags.clone().any(|params| params["ResourceType"] == "invocation");
    (closed, tags.any(|params| params.values().any(|value| value.ends_with("Consistent"))))
}

#[tokio::test(start_paused = true)]
async fn what_the_cloud_shows_decides_the_level() {
    let table: [(&str, Script, Status, Level, &[&str]); 12] = [
        ("all is well", |_| None, Status::Succeeded, Level::Application, &[]),
        (
            "somebody else's group has the name too",
            |c| (c == "DescribeSnapshotGroups").then(|| shown(&[(START, &["d-1"]), (START, &["d-1"])])),
            Status::Degraded,
            Level::Crash,
            &["group.exists"],
        ),
        (
            "an older group has the name: it is not the plugin's",
            |c| (c == "DescribeSnapshotGroups").then(|| shown(&[("2026-11-22T02:59:59Z", &["d-1"])])),
            Status::Failed,
            Level::None,
            &["group.none"],
        ),
        (
            "the group failed",
            |c| (c == "DescribeSnapshotGroups").then(|| named(&[("ssg-1", "failed")])),
            Status::Failed,
            Level::None,
            &["group.failed"],
        ),
        (
            "a snapshot failed",
            |c| {
                let one = json!({ "SnapshotId": "s-ssg-1", "Status": "failed" });
                match c {
                    "DescribeSnapshotGroups" => Some(named(&[("ssg-1", "progressing")])),
                    "DescribeSnapshots" => Some(ok(json!({ "Snapshots": { "Snapshot": [one] } }))),
                    _ => None,
                }
            },
            Status::Failed,
            Level::None,
            &["group.failed"],
        ),
        (
            "a disk too many",
            |c| (c == "DescribeSnapshotGroups").then(|| shown(&[(START, &["d-1", "d-9"])])),
            Status::Degraded,
            Level::Crash,
            &["group.disks"],
        ),
        (
            "nothing shows when the command was sent",
            |c| (c == "DescribeInvocations").then(|| ok(json!({}))),
            Status::Degraded,
            Level::Crash,
            &["group.too_old"],
        ),
        (
            "one snapshot has no tag",
            |c| (c == "DescribeSnapshots").then(|| ok(json!({}))),
            Status::Degraded,
            Level::Crash,
            &["plugin.untagged"],
        ),
        (
            "less than wanted",
            |c| (c == "DescribeSnapshots").then(|| tagged("FSConsistent")),
            Status::Degraded,
            Level::Filesystem,
            &["plugin.lowered"],
        ),
        (
            "the guard thawed",
            |c| {
                let line = WELL.replace(r#""thawed":"""#, r#""thawed":"1""#);
                (c == "DescribeInvocationResults").then(|| ended("Success", 0, &line))
            },
            Status::Degraded,
            Level::Crash,
            &["plugin.thawed"],
        ),
        (
            "the last line is missing",
            |c| (c == "DescribeInvocationResults").then(|| ended("Success", 0, "cut")),
            Status::Degraded,
            Level::Crash,
            &["report.lost"],
        ),
        (
            "killed at its timeout, with a group",
            |c| (c == "DescribeInvocationResults").then(|| ended("Timeout", 0, "")),
            Status::Degraded,
            Level::Crash,
            &["plugin.timeout"],
        ),
    ];
    for (what, script, status, level, reasons) in table {
        let (outcome, asked) = play(script).await;
        let unit = &outcome.unit;
        let why: Vec<&str> = unit.reasons.iter().map(|reason| &**reason).collect();
        assert_eq!((outcome.status, unit.level, why), (status, level, reasons.to_vec()), "{what}");
        let closed = !reasons.contains(&"report.lost");
        assert_eq!(written(&asked), (closed, level >= Level::Filesystem), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_left_for_a_repeat() {
    let table: [(&str, Script, Status, Level, Option<&str>); 5] = [
        (
            "its record is denied",
            |c| (c == "DescribeInvocationResults").then(|| ok(json!({}))),
            Status::Failed,
            Level::Crash,
            Some("record.unseen"),
        ),
        (
            "it does not end",
            |c| {
                let result = json!({ "InvokeId": "t", "InstanceId": "i-1", "InvocationStatus": "Running" });
                let answer =
                    json!({ "Invocation": { "InvocationResults": { "InvocationResult": [result] } } });
                (c == "DescribeInvocationResults").then(|| ok(answer))
            },
            Status::Failed,
            Level::Crash,
            Some("plugin.silent"),
        ),
        (
            "groups cannot be read",
            |c| (c == "DescribeSnapshotGroups").then(|| refuse("X")),
            Status::Failed,
            Level::None,
            Some("X"),
        ),
        (
            "the label cannot be written",
            |c| (c == "TagResources").then(|| refuse("X")),
            Status::Degraded,
            Level::Crash,
            Some("X"),
        ),
        (
            "it cannot be started",
            |c| (c == "RunCommand").then(|| refuse("X")),
            Status::Failed,
            Level::None,
            Some("X"),
        ),
    ];
    for (what, script, status, level, code) in table {
        let (outcome, asked) = play(script).await;
        let told = outcome.unit.error.as_ref().map(|error| &*error.code);
        assert_eq!((outcome.status, outcome.unit.level, told), (status, level, code), "{what}");
        assert!(!written(&asked).0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_of_unknown_outcome_is_repeated_and_looked_for() {
    let (outcome, asked) = play(|call| {
        let silence = || Failure { stage: Stage::Answer, message: "nobody answers".into() };
        (call == "RunCommand").then(|| Err(silence()))
    })
    .await;
    // The cloud shows the command after all.
    assert_eq!((outcome.status, outcome.unit.level), (Status::Succeeded, Level::Application));
    let starts: Vec<_> =
        asked.lock().unwrap().iter().filter(|(call, _)| call == "RunCommand").cloned().collect();
    for key in ["ClientToken", "CommandContent"] {
        assert!(
            starts.len() > 1 && starts.iter().all(|(_, params)| params[key] == starts[0].1[key]),
            "{key}"
        );
    }
    let (outcome, _) =
        play(|call| (call == "RunCommand").then(|| refuse("IdempotentParameterMismatch"))).await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Pending, Level::None));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_never_arrived_has_no_group() {
    let (outcome, _) = play(|call| match call {
        "DescribeInvocationResults" => Some(ended("Aborted", 0, "")),
        "DescribeSnapshotGroups" => Some(ok(json!({}))),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Failed, Level::None));
    assert_eq!(outcome.unit.reasons, ["report.lost"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_group_of_the_name_is_told_and_loses_the_plugins_tag() {
    let two = |c: &str| {
        let both = || named(&[("ssg-1", "progressing"), ("ssg-2", "progressing")]);
        (c == "DescribeSnapshotGroups").then(both)
    };
    let (outcome, asked) = play(two).await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Degraded, Level::Crash));
    assert!(outcome.unit.findings.iter().any(|one| one.code == "group.extra" && one.resource == "ssg-2"));
    let of_second = |action: &str, value: &str| {
        let asked = asked.lock().unwrap();
        let mut calls = asked.iter().filter(|(call, params)| {
            call == action && params.get("ResourceId.1").is_some_and(|id| id == "s-ssg-2")
        });
        calls.any(|(_, params)| params.values().any(|told| told == value))
    };
    assert!(of_second("UntagResources", "APPConsistent") && of_second("TagResources", "crash"));
    // Where that cannot be done, a repeat has to.
    let (_, asked) = play(|c| match c {
        "DescribeSnapshotGroups" => Some(named(&[("ssg-1", "progressing"), ("ssg-2", "progressing")])),
        "UntagResources" => Some(refuse("X")),
        _ => None,
    })
    .await;
    assert!(!written(&asked).0);
}
