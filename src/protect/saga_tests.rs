//! The whole walk over a scripted cloud under paused time: each step fails in turn.

use super::*;
use crate::protect::testing::*;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_good_run_is_labelled_closed_and_never_taken_back() {
    let (outcome, asked, task) = play(|_| None).await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Succeeded, Level::Application));
    assert_eq!((closed(&asked).as_deref(), undo(&outcome.unit)), (Some("succeeded"), None));
    // Whatever id a guest tells: the group has to carry the attempt's own tag.
    let confirm = &calls(&asked, "DescribeSnapshotGroups")[0];
    assert_eq!(
        (&*confirm["Tag.1.Key"], &confirm["Tag.1.Value"]),
        ("appsnap:attempt", &attempts::id(&task, 1))
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_before_the_guest_is_touched_ends_the_run_there() {
    type Script = fn(&str) -> Option<Answer>;
    let none = "record.unseen";
    let table: [(&str, Script, Status, Option<&str>); 8] = [
        ("the record", |c| (c == "DescribeInvocations").then(|| refuse("X")), Status::Failed, Some("X")),
        ("find", |c| (c == "RunCommand find").then(|| refuse("X")), Status::Failed, Some("X")),
        ("no record", |c| (c == "record find").then(|| ok(json!({}))), Status::Failed, Some(none)),
        ("no result", |c| (c == "result find").then(|| ok(json!({}))), Status::Failed, Some(none)),
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
        "groups of the run" => Some(groups(&["ssg-1"], &[])),
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
            |c| (c == "DescribeSnapshotGroups").then(|| groups(&[], &[])),
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
        // Who settles it later can ask nobody whether our creates were fired by others.
        assert_eq!(noted(&asked)[0].1, "appsnap:first-use", "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_of_a_sequence_that_was_killed_in_its_window_is_waited_for() {
    let looks = std::sync::atomic::AtomicU32::new(0);
    let (outcome, asked, _) = play(move |call| match call {
        "result go" => Some(ended("")),
        "result settle" => Some(ended(r#"{"appsnap":"1","pre.exit":"0","fired":"1","phase":"lost"}"#)),
        "groups of the run" => {
            let nth = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Some(groups(if nth < 5 { &[] } else { &["ssg-1"] }, &[]))
        }
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Degraded, Level::Crash));
    assert_eq!(outcome.unit.snapshot_group_id.as_deref(), Some("ssg-1"));
    assert_eq!(closed(&asked).as_deref(), Some("degraded"));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_failed_is_no_copy() {
    let group = |status: &str, member: &str| {
        let member = json!({ "SnapshotId": "s-1", "SourceDiskId": "d-1", "Status": member });
        let group = json!({ "SnapshotGroupId": "ssg-1", "CreationTime": "2026-11-22T03:00:00Z", "Status": status,
            "Snapshots": { "Snapshot": [member] } });
        ok(json!({ "SnapshotGroups": { "SnapshotGroup": [group] } }))
    };
    for (status, member) in [("failed", ""), ("progressing", "failed")] {
        let failed = move |c: &str| (c == "DescribeSnapshotGroups").then(|| group(status, member));
        let (outcome, asked, _) = play(failed).await;
        let unit = &outcome.unit;
        assert_eq!((outcome.status, unit.level), (Status::Failed, Level::None), "{status} {member}");
        assert_eq!((&*unit.reasons[0], &*unit.snapshots[0].status), ("group.failed", "failed"));
        let written = calls(&asked, "TagResources");
        assert!(!written.iter().any(|tags| tags.values().any(|value| value == "APPConsistent")));
    }
}

/// A run with this request.
async fn asking(
    fields: serde_json::Value,
    script: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static,
) -> (Outcome, Asked) {
    let (mut task, asked) = scripted(script);
    let mut request = serde_json::json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] } });
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    task.request = crate::policy::Request::parse(&request).unwrap();
    (protect(&task, blank(&task)).await, asked)
}

#[tokio::test(start_paused = true)]
async fn scripts_that_nobody_asked_for_are_no_reason() {
    let (outcome, _) = asking(serde_json::json!({ "consistency": "filesystem" }), |call| {
        let (task, _) = scripted(|_| None);
        let told = DONE.replace("\"A\"", &format!("{:?}", attempts::id(&task, 1)));
        let told = told.replace(r#""pre.exit":"0","#, "").replace(r#""post.exit":"0","#, "");
        // One was thawed by somebody else.
        (call == "result go").then(|| ended(&told.replace("4000 1 1 1", "4000 1 0 1")))
    })
    .await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Degraded, Level::Crash));
    assert_eq!(outcome.unit.reasons, ["thaw.early"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_nobody_has_seen_is_no_success_however_little_was_wanted() {
    let hidden = |call: &str| (call == "DescribeSnapshotGroups").then(|| groups(&[], &[]));
    let (outcome, asked) = asking(serde_json::json!({ "consistency": "crash" }), hidden).await;
    assert_eq!((outcome.status, outcome.unit.level), (Status::Degraded, Level::Crash));
    assert_eq!(outcome.unit.reasons, ["group.not_visible"]);
    assert!(outcome.unit.findings.iter().any(|finding| finding.code == "group.not_visible"));
    assert_eq!(closed(&asked), None, "a repeat looks again");
    // Once it shows, it is what was wanted.
    let (outcome, asked) = asking(serde_json::json!({ "consistency": "crash" }), |_| None).await;
    assert_eq!((outcome.status, outcome.unit.reasons.len()), (Status::Succeeded, 0));
    assert_eq!(closed(&asked).as_deref(), Some("succeeded"));
}

const IDLE: &str = r#"{"appsnap":"1","phase":"idle"}"#;

#[tokio::test(start_paused = true)]
async fn a_look_at_the_result_that_fails_is_no_end_of_the_run() {
    for errors in [1, 3, 30] {
        let looks = std::sync::atomic::AtomicU32::new(0);
        let (outcome, asked, _) = play(move |call| match call {
            "result go" if looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < errors => {
                Some(refuse("Forbidden.RAM"))
            }
            "result settle" => Some(ended(IDLE)),
            _ => None,
        })
        .await;
        let unit = &outcome.unit;
        assert_eq!((outcome.status, unit.level), (Status::Succeeded, Level::Application), "{errors}");
        assert_eq!((undo(unit), closed(&asked).as_deref()), (None, Some("succeeded")), "{errors}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_may_begin_yet_is_left_for_a_repeat() {
    type Look = fn() -> Answer;
    let open: [Look; 2] = [running, || refuse("Forbidden.RAM")];
    for look in open {
        let (outcome, asked, _) = play(move |call| match call {
            "result go" => Some(look()),
            "result settle" => Some(ended(IDLE)),
            _ => None,
        })
        .await;
        assert_eq!((outcome.status, code(&outcome.unit)), (Status::Failed, Some("guest.late")));
        assert_eq!((undo(&outcome.unit), noted(&asked)), (Some("pending"), vec![]));
    }
    // Over, and never begun: nothing will come of it.
    let (outcome, asked, _) = play(|call| match call {
        "result go" => Some(ended("")),
        "result settle" => Some(ended(IDLE)),
        _ => None,
    })
    .await;
    assert_eq!((outcome.status, code(&outcome.unit)), (Status::Failed, Some("guest.lost")));
    assert_eq!(closed(&asked).as_deref(), Some("failed"));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_meets_a_rate_limit_waits_for_the_next_minute() {
    for command in ["RunCommand find", "RunCommand go"] {
        let asked = std::sync::atomic::AtomicU32::new(0);
        let (outcome, _, task) = play(move |call| {
            let limited = call == command && asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 4;
            limited.then(|| refuse("Throttling.User"))
        })
        .await;
        assert_eq!(
            (outcome.status, outcome.unit.level),
            (Status::Succeeded, Level::Application),
            "{command}"
        );
        let taken = task.client.clock().now().duration_since(task.started).as_secs();
        assert!((60..80).contains(&taken), "{command}: {taken} s");
    }
}

/// What the guest tells of attempt 1 whose prescript said 75.
fn declined(post: &str) -> String {
    let attempt = crate::policy::ids::attempt_id("r-1", "i-1", 1);
    let more = if post == "0" { "" } else { r#","script.post exit 1""# };
    format!(
        r#"{{"appsnap":"1","run":"{attempt}","fs":["d-1 ext4 u-1 /data"],"pre.exit":"75","post.exit":"{post}","reason":["script.declined 75"{more}],"phase":"done"}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_prescript_declines_is_skipped_and_so_is_its_repeat() {
    let (outcome, asked, _) = play(|call| match call {
        "result go" => Some(ended(&declined("0"))),
        "DescribeSnapshotGroups" => Some(ok(json!({}))),
        _ => None,
    })
    .await;
    let unit = &outcome.unit;
    assert_eq!((outcome.status, unit.level, unit.declined()), (Status::Skipped, Level::None, true));
    let told: Vec<_> = unit.findings.iter().map(|f| (f.code.as_str(), f.severity)).collect();
    assert!(told.contains(&("script.declined", Severity::Note)), "{told:?}");
    assert_eq!(closed(&asked).as_deref(), Some("skipped"));
    let tags = [("appsnap:outcome", "skipped"), ("appsnap:level", "none")];
    let settled = move || record(vec![invocation(1, "Success", &tags)]);
    let (outcome, asked, _) = play(move |call| (call == "DescribeInvocations").then(&settled)).await;
    assert_eq!((outcome.status, outcome.settled), (Status::Skipped, Some(Status::Skipped)));
    assert!(outcome.unit.declined() && calls(&asked, "RunCommand go").is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_declines_and_cannot_clear_up_has_failed() {
    let (outcome, ..) = play(|call| match call {
        "result go" => Some(ended(&declined("1"))),
        "DescribeSnapshotGroups" => Some(ok(json!({}))),
        _ => None,
    })
    .await;
    assert_eq!(outcome.status, Status::Failed);
    assert_eq!(outcome.unit.reasons, ["script.declined", "script.post"]);
}
