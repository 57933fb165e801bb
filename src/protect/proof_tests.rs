//! What is shown, and what it does to the label: signed creates that somebody else fired, tags that say too much.

use serde_json::json;

use super::*;
use crate::protect::testing::*;

/// Status, level, reasons.
fn verdict(outcome: &Outcome) -> (Status, Level, Vec<&str>) {
    (outcome.status, outcome.unit.level, outcome.unit.reasons.iter().map(String::as_str).collect())
}

#[tokio::test(start_paused = true)]
async fn a_signed_create_that_somebody_else_may_have_fired_proves_no_group() {
    type Script = fn(&str) -> Option<Answer>;
    let told = |tries: &str| {
        ended(
            &DONE
                .replace("\"A\"", &format!("{:?}", crate::policy::ids::attempt_id("r-1", "i-1", 1)))
                .replace(r#""1 200""#, tries),
        )
    };
    let table: [(&str, Script, &str); 6] = [
        (
            "c2 was fired",
            |c| (c == "nonce c2").then(|| refuse("SignatureNonceUsed")),
            "c2 was fired by somebody else",
        ),
        (
            "c3 was fired",
            |c| (c == "nonce c3").then(|| refuse("SignatureNonceUsed")),
            "c3 was fired by somebody else",
        ),
        ("the cloud forgets", |c| (c == "nonce d1").then(|| ok(json!({}))), "no longer knows that d1"),
        ("nonces count by action", |c| (c == "nonce c1").then(|| ok(json!({}))), "no longer knows that c1"),
        ("throttled", |c| (c == "nonce c2").then(|| refuse("Throttling")), "no answer about c2"),
        ("silence", |c| (c == "nonce c3").then(silence), "no answer about c3"),
    ];
    for (what, script, word) in table {
        let (outcome, asked, _) = play(script).await;
        assert_eq!(verdict(&outcome), (Status::Degraded, Level::Crash, vec!["group.unproven"]), "{what}");
        let finding = outcome.unit.findings.iter().find(|f| f.code == "group.unproven").unwrap();
        assert!(finding.message.contains(word) && !finding.cure.is_empty(), "{what}: {finding:?}");
        assert_eq!(closed(&asked).as_deref(), Some("degraded"), "{what}");
        assert!(!format!("{:?}", calls(&asked, "TagResources")).contains("Consistent"), "{what}");
    }
    // Where the guest's own first create was not answered at once, nobody needs to be asked.
    for tries in [
        r#""1 400 SignatureNonceUsed","2 200""#,
        r#""1 503 ServiceUnavailable","2 200""#,
        r#""1 000","2 200""#,
    ] {
        let answer = told(tries);
        let (outcome, asked, _) = play(move |call| (call == "result go").then(|| answer.clone())).await;
        assert_eq!(verdict(&outcome), (Status::Degraded, Level::Crash, vec!["group.unproven"]), "{tries}");
        assert!(calls(&asked, "nonce c2").is_empty(), "{tries}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_that_question_is_noted_for_who_settles_the_unit_later() {
    let died = |tags: &'static [(&str, &str)]| {
        move |call: &str| {
            (call == "DescribeInvocations").then(|| record(vec![invocation(1, "Success", tags)]))
        }
    };
    let (outcome, ..) = play(died(&[])).await;
    assert_eq!(verdict(&outcome), (Status::Degraded, Level::Crash, vec!["group.unproven"]));
    let (outcome, ..) = play(died(&[("appsnap:first-use", "shown")])).await;
    assert_eq!(verdict(&outcome), (Status::Succeeded, Level::Application, vec![]));
}

/// A function labelled the snapshots and died before it closed the unit: what a repeat can show is less.
#[tokio::test(start_paused = true)]
async fn a_vendor_tag_never_stays_beside_a_lower_level() {
    let labelled = |call: &str| match call {
        "DescribeInvocations" => Some(record(vec![invocation(1, "Success", &[])])),
        "DescribeSnapshotGroups" => {
            Some(groups(&["ssg-1"], &[("APPConsistent", "True"), ("appsnap:level", "application")]))
        }
        _ => None,
    };
    let (outcome, asked, _) = play(labelled).await;
    assert_eq!(verdict(&outcome), (Status::Degraded, Level::Crash, vec!["group.unproven"]));
    let removed = calls(&asked, "UntagResources");
    assert_eq!(removed.len(), 1);
    assert_eq!((&*removed[0]["ResourceId.1"], &*removed[0]["TagKey.1"]), ("s-of-ssg-1", "APPConsistent"));
    assert_eq!(closed(&asked).as_deref(), Some("degraded"));
    // Denied: the true level is written, and the report is loud.
    let (outcome, asked, _) =
        play(
            move |call| if call == "UntagResources" { Some(refuse("Forbidden.RAM")) } else { labelled(call) },
        )
        .await;
    assert_eq!(verdict(&outcome), (Status::Degraded, Level::Crash, vec!["group.unproven", "tag.failed"]));
    assert_eq!(code(&outcome.unit), Some("Forbidden.RAM"));
    let finding = outcome.unit.findings.iter().find(|f| f.code == "tag.failed").unwrap();
    assert!(finding.message.contains("UntagResources"), "{finding:?}");
    let levels = calls(&asked, "TagResources")
        .into_iter()
        .filter(|p| p.get("Tag.4.Key").is_some_and(|k| k == "appsnap:level"));
    assert_eq!(levels.map(|p| p["Tag.4.Value"].clone()).collect::<Vec<_>>(), ["crash"]);
    assert_eq!(closed(&asked), None, "a repeat has to try once more");
}

#[tokio::test(start_paused = true)]
async fn a_good_label_stays_and_nothing_is_removed_beside_it() {
    let (outcome, asked, _) = play(|call| {
        (call == "DescribeSnapshotGroups").then(|| groups(&["ssg-1"], &[("APPConsistent", "True")]))
    })
    .await;
    assert_eq!(verdict(&outcome), (Status::Succeeded, Level::Application, vec![]));
    assert!(calls(&asked, "UntagResources").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_says_no_more_than_the_snapshots_do() {
    const CLOSED: [(&str, &str); 2] = [("appsnap:outcome", "succeeded"), ("appsnap:level", "application")];
    for (written, level, outcome) in
        [("application", Level::Application, Status::Succeeded), ("crash", Level::Crash, Status::Degraded)]
    {
        let (repeat, ..) = play(move |call| match call {
            "DescribeInvocations" => Some(record(vec![invocation(1, "Success", &CLOSED)])),
            "groups of the run" => Some(groups(&["ssg-1"], &[("appsnap:level", written)])),
            _ => None,
        })
        .await;
        assert_eq!((repeat.status, repeat.settled), (Status::Skipped, Some(outcome)), "{written}");
        assert_eq!(repeat.unit.level, level, "{written}");
    }
}
