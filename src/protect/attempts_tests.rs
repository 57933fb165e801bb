//! Several attempts at one unit over a scripted cloud: what follows what, and what a repeat finds.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
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
