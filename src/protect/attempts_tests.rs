//! Several attempts at one unit over a scripted cloud: what follows what, and what a repeat finds.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::*;
use crate::policy::Request;
use crate::protect::testing::*;

fn attempt(number: u32) -> String {
    crate::policy::ids::attempt_id("r-1", "i-1", number)
}

fn throttled(number: u32) -> Answer {
    ended(&failed(&attempt(number), r#""1 400 Throttling.User""#))
}

fn unanswered(number: u32) -> Answer {
    ended(&failed(&attempt(number), r#""1 503 ServiceUnavailable","2 000","3 500 InternalError""#))
}

/// Tokens of the commands that start a window, in order, each once.
fn windows(asked: &Asked) -> Vec<String> {
    let all = ["RunCommand go", "RunCommand go 2", "RunCommand go 3"].map(|call| calls(asked, call));
    all.into_iter().flatten().map(|params| params["ClientToken"].clone()).collect()
}

fn note_of(unit: &Unit, code: &str) -> Vec<String> {
    unit.findings.iter().filter(|f| f.code == code).map(|f| f.message.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_throttled_attempt_is_followed_by_another_with_a_new_token() {
    let (outcome, asked, task) = play(|call| (call == "result go").then(|| throttled(1))).await;
    let unit = outcome.unit;
    assert_eq!((outcome.status, unit.level, unit.attempt), (Status::Succeeded, Level::Application, 2));
    assert!(unit.reasons.is_empty());
    let notes = note_of(&unit, "attempt.failed");
    assert!(notes.len() == 1 && notes[0].contains("attempt 1") && notes[0].contains("Throttling.User"));
    assert_eq!(
        windows(&asked),
        [1, 2].map(|n| crate::policy::ids::client_token(&format!("go-{}", attempt(n))))
    );
    let noted: Vec<_> = noted(&asked).into_iter().map(|(id, _, value)| (id, value)).collect();
    assert_eq!(
        noted,
        [("go".into(), "again".into()), ("go 2".into(), "succeeded".into())] as [(String, String); 2]
    );
    let taken = task.client.clock().now().duration_since(task.started).as_secs();
    assert!((10..30).contains(&taken), "{taken} s");
}

#[tokio::test(start_paused = true)]
async fn after_three_attempts_the_unit_has_failed() {
    let (outcome, asked, task) = play(|call| match call {
        "result go" => Some(throttled(1)),
        "result go 2" => Some(unanswered(2)),
        "result go 3" => Some(throttled(3)),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.attempt), (Status::Failed, 3));
    assert_eq!(outcome.unit.reasons, ["create.failed"]);
    assert_eq!((windows(&asked).len(), closed(&asked).as_deref()), (3, Some("failed")));
    assert_eq!(note_of(&outcome.unit, "attempt.failed").len(), 2);
    // Pauses of 10 to 15 and 30 to 45 s; the second attempt may have made a group, which is waited for.
    let taken = task.client.clock().now().duration_since(task.started).as_secs();
    assert!((55..100).contains(&taken), "{taken} s");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_by_itself_ends_the_unit_at_once() {
    let denied = || ended(&failed(&attempt(1), r#""1 403 Forbidden.RAM""#));
    let (outcome, asked, _) = play(move |call| (call == "result go").then(denied)).await;
    assert_eq!((outcome.status, outcome.unit.attempt), (Status::Failed, 1));
    assert_eq!((windows(&asked).len(), closed(&asked).as_deref()), (1, Some("failed")));
}

#[tokio::test(start_paused = true)]
async fn without_time_for_a_whole_attempt_there_is_none() {
    let (mut task, asked) = scripted(|call| (call == "result go").then(|| throttled(1)));
    task.deadline = task.started + SignedDuration::from_secs(120);
    let outcome = protect(&task, blank(&task)).await;
    assert_eq!((outcome.status, outcome.unit.attempt, windows(&asked).len()), (Status::Failed, 1, 1));
    let pause = outcome.unit.timeline.iter().find(|step| step.step == "pause").unwrap();
    assert!(pause.detail.contains("no time"), "{pause:?}");
    // A repeat may go on from here.
    assert_eq!(closed(&asked).as_deref(), Some("again"));
}

#[tokio::test(start_paused = true)]
async fn no_other_attempt_begins_when_the_schedule_forbids_it() {
    for (field, value) in [
        ("startWithinSeconds", json!(5)),
        ("notDuring", json!([{ "from": "03:00", "to": "04:00", "timezone": "UTC" }])),
    ] {
        let (mut task, asked) = scripted(|call| (call == "result go").then(|| throttled(1)));
        let mut request = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] }, "linux": { "scriptTimeoutInSeconds": 30 } });
        request[field] = value;
        task.request = Request::parse(&request).unwrap();
        task.due = Some(task.started);
        let outcome = protect(&task, blank(&task)).await;
        assert_eq!(
            (outcome.status, outcome.unit.attempt, windows(&asked).len()),
            (Status::Failed, 1, 1),
            "{field}"
        );
        assert!(outcome.unit.findings.iter().any(|finding| finding.code.starts_with("schedule.")), "{field}");
        // A repeat in good time may go on from here.
        assert_eq!(closed(&asked).as_deref(), Some("again"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_shows_late_is_the_result_and_no_other_window_is_opened() {
    let closings = AtomicU32::new(0);
    let (outcome, asked, _) = play(move |call| {
        match call {
            "result go" => return Some(unanswered(1)),
            "TagResources" => drop(closings.fetch_add(1, Ordering::Relaxed)),
            // Not while it is waited for, but after the attempt was closed.
            "groups of the run" if closings.load(Ordering::Relaxed) > 0 => {
                return Some(groups(&["ssg-late"], &[]));
            }
            _ => {}
        }
        None
    })
    .await;
    assert_eq!(
        (outcome.status, outcome.unit.level, outcome.unit.attempt),
        (Status::Degraded, Level::Crash, 1)
    );
    assert_eq!(outcome.unit.snapshot_group_id.as_deref(), Some("ssg-late"));
    assert_eq!(outcome.unit.reasons, ["create.failed"]);
    assert_eq!((windows(&asked).len(), closed(&asked).as_deref()), (1, Some("degraded")));
    assert!(!format!("{:?}", calls(&asked, "TagResources")).contains("Consistent"));
}

#[tokio::test(start_paused = true)]
async fn a_group_of_an_earlier_attempt_that_shows_at_the_end_is_told_and_is_crash() {
    let second = AtomicU32::new(0);
    let (outcome, asked, _) = play(move |call| {
        match call {
            "result go" => return Some(unanswered(1)),
            "RunCommand go 2" => drop(second.fetch_add(1, Ordering::Relaxed)),
            "groups of the run" if second.load(Ordering::Relaxed) > 0 => {
                return Some(groups(&["ssg-1", "ssg-late"], &[]));
            }
            _ => {}
        }
        None
    })
    .await;
    assert_eq!(
        (outcome.status, outcome.unit.level, outcome.unit.attempt),
        (Status::Succeeded, Level::Application, 2)
    );
    assert_eq!(outcome.unit.snapshot_group_id.as_deref(), Some("ssg-1"));
    assert!(note_of(&outcome.unit, "group.extra")[0].contains("ssg-late"));
    let tags = calls(&asked, "TagResources");
    let late: Vec<_> = tags.iter().filter(|p| p["ResourceId.1"] == "s-of-ssg-late").collect();
    assert_eq!(late.len(), 1);
    assert_eq!((&*late[0]["Tag.4.Key"], &*late[0]["Tag.4.Value"]), ("appsnap:level", "crash"));
    assert!(!format!("{late:?}").contains("Consistent"));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_goes_on_where_the_last_delivery_ended() {
    // (what the cloud has on record, status, level, attempt, windows opened now)
    type Case = (fn() -> Answer, Status, Level, u32, usize);
    const AGAIN: [(&str, &str); 1] = [("appsnap:outcome", "again")];
    let table: [Case; 4] = [
        (|| record(vec![invocation(1, "Success", &AGAIN)]), Status::Succeeded, Level::Application, 2, 1),
        (
            || record(vec![invocation(2, "Running", &[]), invocation(1, "Success", &AGAIN)]),
            Status::Pending,
            Level::None,
            2,
            0,
        ),
        // Its function died, and with it the key by which one could ask whether others fired its creates.
        (
            || record(vec![invocation(2, "Success", &[]), invocation(1, "Success", &AGAIN)]),
            Status::Degraded,
            Level::Crash,
            2,
            0,
        ),
        (
            || {
                record(vec![
                    invocation(1, "Success", &AGAIN),
                    invocation(3, "Success", &[("appsnap:outcome", "failed")]),
                ])
            },
            Status::Skipped,
            Level::None,
            3,
            0,
        ),
    ];
    for (index, (record, status, level, number, opened)) in table.into_iter().enumerate() {
        let (outcome, asked, _) = play(move |call| (call == "DescribeInvocations").then(record)).await;
        let unit = &outcome.unit;
        assert_eq!((outcome.status, unit.level, unit.attempt), (status, level, number), "{index}");
        assert_eq!(windows(&asked).len(), opened, "{index}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_opens_no_window_while_a_group_of_any_attempt_exists() {
    let (outcome, asked, _) = play(|call| match call {
        "DescribeInvocations" => {
            Some(record(vec![invocation(2, "Success", &[("appsnap:outcome", "again")])]))
        }
        "result go 2" => Some(unanswered(2)),
        "groups of the run" => Some(groups(&["ssg-of-the-first"], &[])),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Degraded, Level::Crash));
    assert_eq!(outcome.unit.snapshot_group_id.as_deref(), Some("ssg-of-the-first"));
    assert_eq!((windows(&asked).len(), closed(&asked).as_deref()), (0, Some("degraded")));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_died_between_two_attempts_is_followed_by_the_next() {
    let (outcome, asked, _) = play(|call| match call {
        "DescribeInvocations" => Some(record(vec![invocation(1, "Failed", &[])])),
        "result go" => Some(throttled(1)),
        _ => None,
    })
    .await;
    assert_eq!(
        (outcome.status, outcome.unit.level, outcome.unit.attempt),
        (Status::Succeeded, Level::Application, 2)
    );
    let noted: Vec<_> = noted(&asked).into_iter().map(|(id, _, value)| (id, value)).collect();
    assert_eq!(
        noted,
        [("go".into(), "again".into()), ("go 2".into(), "succeeded".into())] as [(String, String); 2]
    );
}

/// Ids of snapshots and the level that was written on them.
fn labels(asked: &Asked) -> Vec<(String, String)> {
    let level = |params: &std::collections::BTreeMap<String, String>| {
        let key =
            (1..20).find(|n| params.get(&format!("Tag.{n}.Key")).is_some_and(|k| k == "appsnap:level"))?;
        Some((params["ResourceId.1"].clone(), params[&format!("Tag.{key}.Value")].clone()))
    };
    let all = calls(asked, "TagResources").into_iter().filter(|p| p["ResourceType"] == "snapshot");
    all.filter_map(|params| level(&params)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_group_that_shows_after_the_last_attempt_belongs_to_the_next_delivery() {
    let (outcome, asked, _) = play(|call| match call {
        "result go" => Some(unanswered(1)),
        "result go 2" => Some(unanswered(2)),
        "result go 3" => Some(unanswered(3)),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, closed(&asked).as_deref()), (Status::Failed, Some("failed")));
    assert!(note_of(&outcome.unit, "group.unseen")[0].contains("appsnap:run=r-1"));
    for (shown, status, level) in [
        (&["ssg-late", "ssg-later"][..], Status::Degraded, Level::Crash),
        (&[], Status::Skipped, Level::None),
    ] {
        let (outcome, asked, _) = play(move |call| match call {
            "DescribeInvocations" => {
                Some(record(vec![invocation(3, "Success", &[("appsnap:outcome", "failed")])]))
            }
            "result go 3" => Some(unanswered(3)),
            "groups of the run" => Some(groups(shown, &[])),
            _ => None,
        })
        .await;
        let unit = &outcome.unit;
        assert_eq!((outcome.status, unit.level), (status, level), "{shown:?}");
        assert_eq!(unit.snapshot_group_id.as_deref(), shown.first().copied());
        let labelled: Vec<_> = shown.iter().map(|id| (format!("s-of-{id}"), "crash".to_string())).collect();
        assert_eq!(labels(&asked), labelled);
        assert_eq!(note_of(unit, "group.extra").len(), shown.len().saturating_sub(1));
        assert_eq!(closed(&asked).as_deref(), (!shown.is_empty()).then_some("degraded"));
        assert_eq!(windows(&asked).len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_labels_what_showed_only_after_the_run_was_settled() {
    let good = [("appsnap:outcome", "succeeded"), ("appsnap:level", "application")];
    // The label of the late one, and whether it gets one now.
    for (label, told) in [(None, 1), (Some("crash"), 0), (Some("application"), 0)] {
        let (outcome, asked, task) = play(move |call| match call {
            "DescribeInvocations" => Some(record(vec![invocation(2, "Success", &good)])),
            "groups of the run" => {
                let shown = [tagged("ssg-late", 1, label), tagged("ssg-1", 2, Some("application"))];
                Some(ok(json!({ "SnapshotGroups": { "SnapshotGroup": shown } })))
            }
            _ => None,
        })
        .await;
        let unit = &outcome.unit;
        assert_eq!((outcome.status, unit.level), (Status::Skipped, Level::Application), "{label:?}");
        assert_eq!(unit.snapshot_group_id.as_deref(), Some("ssg-1"), "{label:?}");
        let late = vec![("s-of-ssg-late".to_string(), "crash".to_string()); told];
        assert_eq!(labels(&asked), late, "{label:?}");
        assert_eq!(note_of(unit, "group.extra").len(), told, "{label:?}");
        assert_eq!(task.client.clock().now(), task.started, "nothing is waited for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_labels_nothing_where_the_runs_own_group_is_not_known() {
    let good = [("appsnap:outcome", "succeeded"), ("appsnap:level", "application")];
    let (outcome, asked, _) = play(move |call| match call {
        "DescribeInvocations" => Some(record(vec![invocation(2, "Success", &good)])),
        "groups of the run" => Some(groups(&["ssg-1", "ssg-2"], &[])),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.snapshot_group_id), (Status::Skipped, None));
    assert_eq!(labels(&asked), []);
}

/// A group of the attempt of this number, with this level on its snapshot.
fn tagged(id: &str, number: u32, label: Option<&str>) -> serde_json::Value {
    let labels: Vec<_> =
        label.iter().map(|level| json!({ "Key": "appsnap:level", "Value": level })).collect();
    json!({ "SnapshotGroupId": id, "CreationTime": "2026-11-22T03:00:00Z", "Status": "progressing",
        "Tags": { "Tag": [{ "Key": "appsnap:attempt", "Value": attempt(number) }] },
        "Snapshots": { "Snapshot": [{ "SnapshotId": format!("s-of-{id}"), "SourceDiskId": "d-1",
            "Tags": { "Tag": labels } }] } })
}

#[tokio::test(start_paused = true)]
async fn groups_that_could_not_be_looked_for_or_labelled_are_left_for_a_repeat() {
    type Script = fn(&str, &std::collections::BTreeMap<String, String>) -> Option<Answer>;
    let table: [(&str, Script); 2] = [
        ("group.unseen", |call, _| (call == "groups of the run").then(|| refuse("Forbidden.RAM"))),
        ("tag.failed", |call, params| match call {
            "groups of the run" => Some(groups(&["ssg-1", "ssg-late"], &[])),
            "TagResources" if params["ResourceId.1"] == "s-of-ssg-late" => Some(refuse("Forbidden.RAM")),
            _ => None,
        }),
    ];
    for (note, script) in table {
        let (task, asked) = scripted_with(script);
        let outcome = protect(&task, blank(&task)).await;
        assert_eq!((outcome.status, outcome.unit.level), (Status::Succeeded, Level::Application), "{note}");
        assert!(note_of(&outcome.unit, note)[0].contains("Forbidden.RAM"), "{note}");
        assert_eq!(closed(&asked), None, "{note}");
    }
}
