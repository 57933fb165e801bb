//! The whole walk over a scripted cloud under paused time: each step fails in turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::acs::{Client, Credentials, Endpoints, Failure, Reply, Settings, Stage, Transport, Wire};
use crate::clock::Clock;
use crate::policy::Request;

const FOUND: &str = r#"{"appsnap":"1","run":"A","fs":["d-1 ext4 u-1 /data"],"phase":"found"}"#;
const DONE: &str = r#"{"appsnap":"1","run":"A","disk":["d-1 /dev/vdb"],"fs":["d-1 ext4 u-1 /data"],"pre.exit":"0","warm":"200 Sun, 22 Nov 2026 03:00:00 GMT","freeze":"1000 4000 1 1 1","created":"200 R1","group":"ssg-1","visible":"1","post.exit":"0","phase":"done"}"#;

type Answer = Result<Reply, Failure>;
type Asked = Arc<Mutex<Vec<(String, BTreeMap<String, String>)>>>;

fn ok(value: Value) -> Answer {
    Ok(Reply::new(200, value.to_string()))
}

fn refuse(code: &str) -> Answer {
    Ok(Reply::new(403, json!({ "Code": code, "Message": "no", "RequestId": "R" }).to_string()))
}

fn silence() -> Answer {
    Err(Failure { stage: Stage::Answer, message: "nobody answers".into() })
}

fn ended(output: &str) -> Answer {
    let result = json!({ "InvokeId": "t", "InstanceId": "i-1", "InvocationStatus": "Success", "ExitCode": 0, "Output": output });
    ok(json!({ "Invocation": { "InvocationResults": { "InvocationResult": [result] } } }))
}

fn running() -> Answer {
    ok(json!({ "Invocation": { "InvocationResults": { "InvocationResult":
        [{ "InvokeId": "t", "InstanceId": "i-1", "InvocationStatus": "Running" }] } } }))
}

/// What the good cloud answers; `call` is the action, for commands with their kind: `RunCommand go`, `result go`.
fn good(call: &str, attempt: &str) -> Answer {
    match call {
        "RunCommand find" | "RunCommand go" | "RunCommand settle" => ok(json!({ "InvokeId": &call[11..] })),
        "result find" => ended(FOUND),
        "result go" | "result settle" => ended(&DONE.replace("\"A\"", &format!("{attempt:?}"))),
        "DescribeInvocations" | "TagResources" => ok(json!({})),
        "DescribeSnapshotGroups" => ok(json!({ "SnapshotGroups": { "SnapshotGroup": [{
            "SnapshotGroupId": "ssg-1", "CreationTime": "2026-11-22T03:00:00Z", "Status": "progressing",
            "Snapshots": { "Snapshot": [{ "SnapshotId": "s-1", "SourceDiskId": "d-1" }] } }] } })),
        other => panic!("not expected: {other}"),
    }
}

/// Protects one unit of one disk; `script` answers first, `None` leaves it to the good cloud.
async fn play(script: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> (Outcome, Asked, Task) {
    let start: jiff::Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
    let clock = Clock::seeded(start, 1);
    let request = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] }, "linux": { "scriptTimeoutInSeconds": 30 } });
    let (asked, attempt) = (Asked::default(), ids::attempt_id("r-1", "i-1", 1));
    let log = asked.clone();
    let transport = Transport::scripted(move |wire: &Wire| {
        let params: BTreeMap<String, String> = wire.query.iter().cloned().collect();
        let call = match wire.action {
            "RunCommand" => format!("RunCommand {}", params["Name"].split('-').nth(1).unwrap()),
            "DescribeInvocationResults" => format!("result {}", params["InvokeId"]),
            action => action.to_string(),
        };
        log.lock().unwrap().push((call.clone(), params));
        script(&call).unwrap_or_else(|| good(&call, &attempt))
    });
    let keys = Credentials::new(Some("AK".into()), Some("s".into()), None).unwrap();
    let settings = Settings {
        transport,
        clock,
        endpoints: Endpoints::default(),
        region_id: "cn-hangzhou".into(),
        identities: Arc::default(),
    };
    let deadline = start + jiff::SignedDuration::from_mins(10);
    let task = Task {
        client: Client::new(settings, keys).until(deadline),
        role_arn: None,
        request: Request::parse(&request).unwrap(),
        run: "r-1".into(),
        unit: "u-1".into(),
        region_id: "cn-hangzhou".into(),
        account_id: "1".into(),
        instance_id: "i-1".into(),
        os_type: "linux".into(),
        disks: vec![DiskFacts::named("d-1")],
        started: start,
        deadline: deadline - jiff::SignedDuration::from_secs(25),
    };
    let outcome = match earlier(&task).await {
        Some(outcome) => outcome,
        None => protect(&task).await,
    };
    assert!(task.client.clock().now() <= deadline, "over its deadline");
    (outcome, asked, task)
}

fn calls(asked: &Asked, call: &str) -> Vec<BTreeMap<String, String>> {
    asked.lock().unwrap().iter().filter(|(name, _)| name == call).map(|(_, params)| params.clone()).collect()
}

/// The status that the unit was closed with.
fn closed(asked: &Asked) -> Option<String> {
    let tags = calls(asked, "TagResources");
    let close = tags.into_iter().find(|params| params["ResourceType"] == "invocation")?;
    assert_eq!(close["Tag.1.Key"], "appsnap:outcome");
    close.get("Tag.1.Value").cloned()
}

fn undo(unit: &Unit) -> Option<&str> {
    unit.timeline.iter().find(|step| step.step == "settle-in-guest").map(|step| &*step.outcome)
}

fn code(unit: &Unit) -> Option<&str> {
    unit.error.as_ref().map(|error| &*error.code)
}

#[tokio::test(start_paused = true)]
async fn a_good_run_is_labelled_closed_and_never_taken_back() {
    let (outcome, asked, task) = play(|_| None).await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Succeeded, Level::Application));
    assert_eq!((closed(&asked).as_deref(), undo(&outcome.unit)), (Some("succeeded"), None));
    // Whatever id a guest tells: the group has to carry the attempt's own tag.
    let confirm = &calls(&asked, "DescribeSnapshotGroups")[0];
    assert_eq!((&*confirm["Tag.1.Key"], &confirm["Tag.1.Value"]), ("appsnap:attempt", &attempt_of(&task)));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_before_the_guest_is_touched_ends_the_run_there() {
    type Script = fn(&str) -> Option<Answer>;
    let table: [(&str, Script, Status, Option<&str>); 6] = [
        ("the record", |c| (c == "DescribeInvocations").then(|| refuse("X")), Status::Failed, Some("X")),
        ("find", |c| (c == "RunCommand find").then(|| refuse("X")), Status::Failed, Some("X")),
        ("silent", |c| (c == "result find").then(running), Status::Failed, Some("guest.silent")),
        ("no report", |c| (c == "result find").then(|| ended("")), Status::Failed, Some("guest.silent")),
        ("go", |c| (c == "RunCommand go").then(|| refuse("X")), Status::Failed, Some("X")),
        (
            "somebody was first",
            |c| (c == "RunCommand go").then(|| refuse("IdempotentParameterMismatch")),
            Status::Pending,
            None,
        ),
    ];
    for (what, script, status, error) in table {
        let (outcome, asked, _) = play(script).await;
        assert_eq!((outcome.status, code(&outcome.unit)), (status, error), "{what}");
        assert_eq!((outcome.unit.level, closed(&asked)), (Level::None, None), "{what}");
        assert!(calls(&asked, "RunCommand settle").is_empty(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_result_is_taken_back_from_the_guest() {
    let (outcome, asked, task) = play(|call| (call == "result go").then(running)).await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Succeeded, Level::Application));
    assert_eq!((undo(&outcome.unit), closed(&asked).as_deref()), (Some("undone"), Some("succeeded")));
    let taken = task.client.clock().now().duration_since(task.started).as_secs();
    assert!((20..40).contains(&taken), "the guest is asked early: {taken} s");
}

#[tokio::test(start_paused = true)]
async fn a_start_of_unknown_outcome_is_looked_for_in_the_guest() {
    let (outcome, asked, _) = play(|call| match call {
        "RunCommand go" => Some(silence()),
        "result settle" => Some(ended(r#"{"appsnap":"1","phase":"idle"}"#)),
        "DescribeSnapshotGroups" => Some(ok(json!({}))),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Failed, Level::None));
    assert_eq!((undo(&outcome.unit), code(&outcome.unit)), (Some("undone"), Some("guest.lost")));
    // Each try of the start carries one token.
    let mut tokens: Vec<_> =
        calls(&asked, "RunCommand go").iter().map(|p| p["ClientToken"].clone()).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_stuck_and_loud_whatever_group_there_is() {
    let (outcome, asked, _) = play(|call| match call {
        "result go" => Some(running()),
        "RunCommand settle" => Some(refuse("X")),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Failed, Level::Crash));
    assert_eq!((undo(&outcome.unit), code(&outcome.unit)), (Some("stuck"), Some("guest.stuck")));
    assert_eq!(outcome.unit.reasons, ["report.lost"]);
    assert_eq!(closed(&asked), None, "a repeat has to settle it");
    assert!(!format!("{:?}", calls(&asked, "TagResources")).contains("Consistent"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_confirmed_or_written_is_left_for_a_repeat() {
    type Script = fn(&str) -> Option<Answer>;
    let table: [(&str, Script, &[&str], Option<&str>); 3] = [
        (
            "confirm",
            |c| (c == "DescribeSnapshotGroups").then(|| refuse("X")),
            &["group.not_visible"],
            Some("X"),
        ),
        (
            "not shown",
            |c| (c == "DescribeSnapshotGroups").then(|| ok(json!({}))),
            &["group.not_visible"],
            None,
        ),
        ("label", |c| (c == "TagResources").then(|| refuse("X")), &["tag.failed"], Some("X")),
    ];
    for (what, script, reasons, error) in table {
        let (outcome, asked, _) = play(script).await;
        assert_eq!((outcome.status, outcome.unit.level), (Status::Degraded, Level::Crash), "{what}");
        assert_eq!(
            (outcome.unit.reasons.iter().map(|r| &**r).collect::<Vec<_>>(), code(&outcome.unit)),
            (reasons.to_vec(), error),
            "{what}"
        );
        assert_eq!(closed(&asked), None, "{what}");
    }
}
