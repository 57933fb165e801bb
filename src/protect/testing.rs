//! A scripted cloud under paused time, for the tests of the saga.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::saga::{Next, earlier, protect};
use super::{Outcome, Task, attempts};
use crate::acs::{Client, Credentials, Endpoints, Failure, Reply, Settings, Stage, Transport, Wire};
use crate::clock::Clock;
use crate::eligibility::DiskFacts;
use crate::policy::{Request, ids};
use crate::report::Unit;

const FOUND: &str = r#"{"appsnap":"1","run":"A","fs":["d-1 ext4 u-1 /data"],"phase":"found"}"#;
/// What the guest tells after a good run of attempt `A`.
pub const DONE: &str = r#"{"appsnap":"1","run":"A","disk":["d-1 /dev/vdb"],"fs":["d-1 ext4 u-1 /data"],"pre.exit":"0","warm":"200 Sun, 22 Nov 2026 03:00:00 GMT","freeze":"1000 4000 1 1 1","created":"200 R1","try":["1 200"],"group":"ssg-1","visible":"1","post.exit":"0","phase":"done"}"#;

/// When every test begins.
pub const START: &str = "2026-11-22T03:00:00Z";

pub type Answer = Result<Reply, Failure>;
pub type Asked = Arc<Mutex<Vec<(String, BTreeMap<String, String>)>>>;

pub fn ok(value: Value) -> Answer {
    Ok(Reply::new(200, value.to_string()))
}

pub fn refuse(code: &str) -> Answer {
    Ok(Reply::new(403, json!({ "Code": code, "Message": "no", "RequestId": "R" }).to_string()))
}

pub fn silence() -> Answer {
    Err(Failure { stage: Stage::Answer, message: "nobody answers".into() })
}

pub fn ended(output: &str) -> Answer {
    let result = json!({ "InvokeId": "t", "InstanceId": "i-1", "InvocationStatus": "Success", "ExitCode": 0, "Output": output });
    ok(json!({ "Invocation": { "InvocationResults": { "InvocationResult": [result] } } }))
}

pub fn running() -> Answer {
    ok(json!({ "Invocation": { "InvocationResults": { "InvocationResult":
        [{ "InvokeId": "t", "InstanceId": "i-1", "InvocationStatus": "Running" }] } } }))
}

/// An invocation of the unit with these tags besides its own.
pub fn invocation(number: u32, status: &str, tags: &[(&str, &str)]) -> Value {
    let attempt = ids::attempt_id("r-1", "i-1", number);
    let all = [&[("appsnap:attempt", attempt.as_str())], tags].concat();
    let tags: Vec<Value> = all.iter().map(|(k, v)| json!({ "TagKey": k, "TagValue": v })).collect();
    let id = if number == 1 { "go".to_string() } else { format!("go {number}") };
    json!({ "InvokeId": id, "InvocationStatus": status, "Tags": { "Tag": tags } })
}

/// What DescribeInvocations answers.
pub fn record(invocations: Vec<Value>) -> Answer {
    ok(json!({ "Invocations": { "Invocation": invocations } }))
}

/// What DescribeSnapshotGroups answers: groups of the one disk, their snapshots with these tags.
pub fn groups(list: &[&str], tags: &[(&str, &str)]) -> Answer {
    let tags: Vec<Value> = tags.iter().map(|(k, v)| json!({ "Key": k, "Value": v })).collect();
    let group = |id: &&str| {
        json!({ "SnapshotGroupId": id, "CreationTime": "2026-11-22T03:00:00Z", "Status": "progressing",
            "Snapshots": { "Snapshot": [{ "SnapshotId": format!("s-of-{id}"), "SourceDiskId": "d-1",
                "Tags": { "Tag": tags } }] } })
    };
    let list: Vec<Value> = list.iter().map(group).collect();
    ok(json!({ "SnapshotGroups": { "SnapshotGroup": list } }))
}

/// What the guest tells of an attempt whose creates were answered like this.
pub fn failed(attempt: &str, tries: &str) -> String {
    let told = DONE.replace("\"A\"", &format!("{attempt:?}")).replace(r#""1 200""#, tries);
    let told = told.replace(r#","group":"ssg-1","visible":"1""#, "").replace("200 R1", "503 R1");
    told.replace(r#""phase""#, r#""reason":["create.failed HTTP 503"],"phase""#)
}

/// What the good cloud answers; `call` is the action, for commands with their kind and the attempt if it is not the
/// first: `RunCommand go`, `result go 2`. A group is asked for by id, or (`groups of the run`) by tag. `nonce c2`: a
/// look with the nonce of the second create.
fn good(call: &str) -> Answer {
    let number = call.rsplit(' ').next().and_then(|last| last.parse().ok()).unwrap_or(1);
    let attempt = ids::attempt_id("r-1", "i-1", number);
    match call.trim_end_matches([' ', '2', '3']) {
        "RunCommand find" | "RunCommand go" | "RunCommand settle" => ok(json!({ "InvokeId": &call[11..] })),
        "result find" => ended(FOUND),
        "result go" | "result settle" => ended(&DONE.replace("\"A\"", &format!("{attempt:?}"))),
        "record find" => record(vec![json!({ "InvokeId": &call[7..] })]),
        "DescribeInstances" | "DescribeInvocations" | "TagResources" | "UntagResources" => ok(json!({})),
        "DescribeSnapshotGroups" => groups(&["ssg-1"], &[]),
        "groups of the run" => ok(json!({})),
        "nonce d1" | "nonce c1" => refuse("SignatureNonceUsed"),
        "nonce c" => ok(json!({})),
        other => panic!("not expected: {other}"),
    }
}

fn name(wire: &Wire, params: &BTreeMap<String, String>) -> String {
    let nonce = wire.header("x-acs-signature-nonce").and_then(|nonce| nonce.split_once('-'));
    match (wire.action, nonce) {
        ("RunCommand", _) => {
            let kind = params["Name"].split('-').nth(1).unwrap();
            let of = |number: &u32| {
                let token = params.get("ClientToken").map_or("", String::as_str);
                token.ends_with(&ids::attempt_id("r-1", "i-1", *number))
            };
            match (1..=attempts::ATTEMPTS).find(of) {
                Some(number) if number > 1 => format!("RunCommand {kind} {number}"),
                _ => format!("RunCommand {kind}"),
            }
        }
        ("DescribeInvocationResults", _) => format!("result {}", params["InvokeId"]),
        ("DescribeInvocations", _) if params.contains_key("InvokeId") => {
            format!("record {}", params["InvokeId"])
        }
        ("DescribeSnapshotGroups", Some((_, variant))) => format!("nonce {variant}"),
        ("DescribeSnapshotGroups", None) if !params.contains_key("SnapshotGroupId.1") => {
            "groups of the run".into()
        }
        (action, _) => action.into(),
    }
}

/// A unit of one disk whose cloud is `script`; what it does not answer is left to the good cloud.
pub fn scripted(script: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> (Task, Asked) {
    scripted_with(move |call, _| script(call))
}

/// As [`scripted`], for a cloud that reads the parameters.
pub fn scripted_with(
    script: impl Fn(&str, &BTreeMap<String, String>) -> Option<Answer> + Send + Sync + 'static,
) -> (Task, Asked) {
    let request = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] }, "linux": { "scriptTimeoutInSeconds": 30 } });
    let asked = Asked::default();
    let log = asked.clone();
    let transport = Transport::scripted(move |wire: &Wire| {
        let params: BTreeMap<String, String> = wire.query.iter().cloned().collect();
        let call = name(wire, &params);
        let answer = script(&call, &params);
        log.lock().unwrap().push((call.clone(), params));
        answer.unwrap_or_else(|| good(&call))
    });
    let task = task_over(transport, &request);
    (task, asked)
}

/// A unit of one disk in the cloud behind `transport`, with ten minutes' time.
pub fn task_over(transport: Transport, request: &Value) -> Task {
    let start: Timestamp = START.parse().unwrap();
    let keys = Credentials::new(Some("AK".into()), Some("s".into()), None).unwrap();
    let settings = Settings {
        transport,
        clock: Clock::seeded(start, 1),
        endpoints: Endpoints::default(),
        region_id: "cn-hangzhou".into(),
        identities: Arc::default(),
    };
    let deadline = start + SignedDuration::from_mins(10);
    Task {
        client: Client::new(settings, keys).until(deadline),
        role_arn: None,
        external_id: None,
        request: Request::parse(request).unwrap(),
        run: "r-1".into(),
        unit: "u-1".into(),
        region_id: "cn-hangzhou".into(),
        account_id: "1".into(),
        instance_id: "i-1".into(),
        os_type: "linux".into(),
        at_rest: false,
        disks: vec![DiskFacts::named("d-1")],
        pinned: false,
        due: None,
        started: start,
        deadline: deadline - SignedDuration::from_secs(25),
    }
}

/// Delivers the event once.
pub async fn play(script: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> (Outcome, Asked, Task) {
    let (task, asked) = scripted(script);
    let outcome = match earlier(&task).await {
        Next::Over(outcome) => outcome,
        Next::Attempt(unit) => protect(&task, unit).await,
    };
    assert!(task.client.clock().now() <= task.deadline + SignedDuration::from_secs(25), "over its deadline");
    // Every reason has its meaning and its cure.
    for reason in &outcome.unit.reasons {
        assert!(outcome.unit.findings.iter().any(|f| f.code == *reason), "{reason} without a cure");
    }
    (outcome, asked, task)
}

pub fn calls(asked: &Asked, call: &str) -> Vec<BTreeMap<String, String>> {
    asked.lock().unwrap().iter().filter(|(name, _)| name == call).map(|(_, params)| params.clone()).collect()
}

/// What was noted on invocations: id, first key, first value.
pub fn noted(asked: &Asked) -> Vec<(String, String, String)> {
    let tags = calls(asked, "TagResources").into_iter().filter(|p| p["ResourceType"] == "invocation");
    tags.map(|p| (p["ResourceId.1"].clone(), p["Tag.1.Key"].clone(), p["Tag.1.Value"].clone())).collect()
}

/// The status that the unit was closed with.
pub fn closed(asked: &Asked) -> Option<String> {
    let close = noted(asked).into_iter().rfind(|(_, key, _)| key == "appsnap:outcome")?;
    Some(close.2)
}

pub fn undo(unit: &Unit) -> Option<&str> {
    unit.timeline.iter().find(|step| step.step == "settle-in-guest").map(|step| &*step.outcome)
}

pub fn code(unit: &Unit) -> Option<&str> {
    unit.error.as_ref().map(|error| &*error.code)
}
