//! The message as such, and that it fits every channel.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::notify::{dingtalk, feishu, wecom};

/// The report of a degraded run whose texts hold markup of all kinds.
pub fn degraded() -> Value {
    json!({
        "schema": 1, "version": "0.1.0", "run": "r-74b05ade85c6bfc0", "policy": "orders-db",
        "occurrence": "nightly@2026-11-22T03:00:00Z", "trigger": "timer", "status": "degraded",
        "summary": { "degraded": 1 }, "startedAt": "2026-11-22T03:00:01.771235753Z",
        "finishedAt": "2026-11-22T03:00:04Z", "durationMs": 2308, "apiCalls": 23, "notifications": [],
        "units": [{
            "regionId": "cn-hangzhou", "instanceIds": ["i-1"], "diskIds": ["d-1", "d-2"],
            "wanted": "application", "level": "crash", "reasons": ["fs.not_quiet", "script.mode"],
            "snapshotGroupId": "ssg-1", "frozenMs": 607.231,
            "snapshots": [{ "snapshotId": "s-1", "diskId": "d-1", "status": "progressing" },
                          { "snapshotId": "s-2", "diskId": "d-2", "status": "progressing" }],
            "findings": [
                { "code": "fs.not_quiet", "severity": "downgrade", "resource": "d-2",
                  "message": "something that cannot be frozen was written: <b>/srv/a_b</b> *vfat*\n# see",
                  "cure": "leave its disk out, or stop the writer in the prescript" },
                { "code": "script.mode", "severity": "downgrade", "resource": "i-1",
                  "message": "a script's mode is not 0700: `/tmp/[x](y)` has mode 0755",
                  "cure": "chmod 0700 the script" }],
            "timeline": [{ "step": "find", "startMs": 0, "endMs": 9, "outcome": "ok", "detail": "" },
                { "step": "guest.freeze", "startMs": 10, "endMs": 90, "outcome": "failed",
                  "detail": "1 of 2 thawed by us" }],
        }],
    })
}

pub fn message(report: Value) -> Message {
    Message::of(&serde_json::from_value(report).unwrap())
}

fn told(report: Value) -> Vec<String> {
    let lines = message(report).lines;
    lines.into_iter().map(|line| format!("{}: {}", line.label, line.text)).collect()
}

#[test]
fn a_dry_run_says_so_first_and_promises_no_copy() {
    let mut report = degraded();
    report["dryRun"] = json!(true);
    report["units"][0]["level"] = json!("none");
    report["units"][0]["expectedLevel"] = json!("filesystem");
    report["units"][0]["snapshotGroupId"] = json!(null);
    assert_eq!(message(report.clone()).title, "dry run: appsnap: orders-db degraded, filesystem");
    let lines = told(report.clone());
    assert!(lines.contains(&"Expected: filesystem, wanted application".to_string()), "{lines:?}");
    assert!(lines.contains(&"Next: nothing was touched; mend the causes, then check again".to_string()));
    assert!(!lines.iter().any(|line| line.starts_with("Copy") || line.starts_with("Step")), "{lines:?}");
    (report["status"], report["units"][0]["expectedLevel"]) = (json!("succeeded"), json!("application"));
    let lines = told(report);
    assert!(lines.contains(&"Expected: application".to_string()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("Next")), "{lines:?}");
}

#[test]
fn each_status_says_what_to_do_next() {
    let table = [
        ("succeeded", None),
        ("skipped", None),
        ("pending", Some("Next: it goes on; the same event, sent again later, settles it")),
        (
            "degraded",
            Some(
                "Next: the copy restores as after a power failure; with the causes mended, the next run reaches more",
            ),
        ),
        ("refused", Some("Next: nothing was touched; mend the causes, then send the event again")),
        ("missed", Some("Next: nothing was touched; start a run by hand if this copy is needed")),
        ("failed", Some("Next: do not count on this run; mend the causes, then start a new one")),
    ];
    for (status, expected) in table {
        let mut report = degraded();
        report["status"] = json!(status);
        let lines = told(report);
        let next = lines.iter().find(|line| line.starts_with("Next"));
        assert_eq!(next.map(String::as_str), expected);
    }
    let mut lost = degraded();
    lost["status"] = json!("failed");
    lost["units"][0]["reasons"] = json!(["report.lost"]);
    assert!(told(lost).iter().all(|line| !line.starts_with("Next")));
}

#[test]
fn the_step_is_the_one_that_failed_or_the_first_reasons() {
    let table = [
        ("create.failed", "create, while frozen"),
        ("group.not_visible", "create, while frozen"),
        ("group.disks", "confirm"),
        ("script.mode", "look before the start"),
        ("script.postscript", "postscript"),
        ("disk.category", "look before the start"),
    ];
    for (code, step) in table {
        let mut report = degraded();
        report["units"][0]["reasons"] = json!([code]);
        report["units"][0]["timeline"].as_array_mut().unwrap().truncate(1);
        let lines = told(report);
        assert!(lines.contains(&format!("Step: {step}")), "{code}: {lines:?}");
    }
    assert!(told(degraded()).contains(&"Step: guest.freeze failed: 1 of 2 thawed by us".to_owned()));
}

#[test]
fn a_request_that_cannot_be_read_is_told_whole() {
    let mut report = degraded();
    report["policy"] = json!("");
    report["status"] = json!("failed");
    report["units"] = json!([]);
    report["error"] = json!({ "code": "InvalidRequest", "message": "polcy: unknown field", "cure": "correct it",
                              "action": "read", "requestId": "R-1" });
    assert_eq!(message(report.clone()).title, "appsnap: a request failed");
    assert_eq!(
        told(report)[..2],
        ["Error: InvalidRequest: polcy: unknown field, in read, RequestId R-1", "Cure: correct it"]
    );
}

#[test]
fn of_a_fleet_the_worst_come_first_and_the_good_are_counted() {
    let mut report = degraded();
    let unit = |id: usize, level: &str| {
        let mut unit = degraded()["units"][0].clone();
        unit["instanceIds"] = json!([format!("i-{id}")]);
        unit["level"] = json!(level);
        unit
    };
    let levels =
        ["application", "crash", "filesystem", "none", "filesystem", "crash", "application", "crash"];
    report["units"] = levels.iter().enumerate().map(|(id, level)| unit(id, level)).collect();
    report["summary"] = json!({ "degraded": 5, "failed": 1, "succeeded": 2 });
    report["status"] = json!("failed");
    let lines = told(report);
    let of = |label: &str| -> Vec<_> { lines.iter().filter(|line| line.starts_with(label)).collect() };
    assert_eq!(of("Instances"), ["Instances: 5 degraded, 1 failed, 2 succeeded"]);
    let shown = ["i-3", "i-1", "i-5", "i-7"].map(|id| format!("Instance: {id} in cn-hangzhou"));
    assert_eq!(of("Instance: "), shown.iter().collect::<Vec<_>>());
    assert_eq!(of("Also"), ["Also: i-2, i-4"]);
}

#[test]
fn one_that_declined_is_no_bad_news_and_hides_none() {
    let declined = json!({ "instanceIds": ["i-2"], "regionId": "cn-hangzhou", "wanted": "application",
                           "level": "none", "reasons": ["script.declined"] });
    let mut report = degraded();
    let mut other = degraded()["units"][0].clone();
    other["level"] = json!("filesystem");
    report["units"] = json!([declined, other]);
    report["summary"] = json!({ "degraded": 1, "skipped": 1 });
    let lines = told(report.clone());
    assert_eq!(lines[0], "Instances: 1 degraded, 1 skipped");
    assert!(!lines.iter().any(|line| line.contains("i-2")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("Next: the copy restores with clean file")),
        "{lines:?}"
    );
    // None did it.
    report["units"] = json!([declined]);
    report["status"] = json!("failed");
    report["error"] = json!({ "code": "units.few", "message": "of 1 instances 0 are done" });
    let lines = told(report);
    assert_eq!(lines[0], "Error: units.few: of 1 instances 0 are done");
    assert!(lines.iter().any(|line| line.starts_with("Level: none: the prescript declined")), "{lines:?}");
}

#[test]
fn a_copy_that_does_not_restore_is_told_with_what_to_do() {
    let mut report = degraded();
    report["units"][0]["level"] = json!("application");
    report["units"][0]["reasons"] = json!([]);
    report["units"][0]["timeline"] = json!([]);
    report["units"][0]["verified"] =
        json!({ "state": "broken", "groupId": "ssg-0", "why": "/data does not mount" });
    let lines = told(report.clone());
    assert!(lines.contains(&"Verified: ssg-0 broken: /data does not mount".to_string()), "{lines:?}");
    let next = lines.iter().find(|line| line.starts_with("Next")).unwrap();
    assert!(next.contains("verify an older one"), "{next}");
    report["units"][0]["verified"]["state"] = json!("clean");
    assert!(!told(report).iter().any(|line| line.contains("verify an older one")));
}

#[test]
fn a_scope_that_could_not_be_looked_into_is_told_by_account_and_region() {
    let mut report = degraded();
    let error =
        json!({ "code": "NoPermission", "message": "no", "action": "AssumeRole", "cure": "allow it" });
    let scope =
        json!({ "accountId": "2", "regionId": "cn-beijing", "wanted": "application", "error": error });
    report["units"] = json!([degraded()["units"][0], scope]);
    report["summary"] = json!({ "degraded": 1, "failed": 1 });
    report["status"] = json!("failed");
    let lines = told(report);
    let at = lines.iter().position(|line| line == "Scope: account 2 in cn-beijing").unwrap();
    assert_eq!(lines[at + 1..at + 3], ["Error: NoPermission: no, in AssumeRole", "Cure: allow it"]);
}

#[test]
fn a_missed_run_says_why_and_of_a_fleet_only_what_was_missed_is_untouched() {
    let mut report = degraded();
    report["status"] = json!("missed");
    report["units"] = json!([]);
    report["summary"] = json!({});
    report["error"] = json!({ "code": "schedule.late", "message": "too late", "cure": "see why" });
    let lines = told(report.clone());
    assert_eq!(lines[..2], ["Why: schedule.late: too late", "Cure: see why"]);
    assert!(lines[2].starts_with("Next: nothing was touched; "), "{lines:?}");
    report["summary"] = json!({ "succeeded": 50, "missed": 10 });
    assert!(told(report)[2].starts_with("Next: what was missed was not touched; "));
}

#[test]
fn a_repeat_names_the_run_and_its_outcome() {
    let mut report = degraded();
    report["status"] = json!("skipped");
    report["outcome"] = json!("failed");
    report["repeats"] = json!("r-1");
    assert_eq!(told(report.clone())[0], "Repeat: of r-1, which failed");
    assert_eq!(message(report).tone, Tone::Bad);
}

#[test]
fn a_text_is_cut_at_a_character_and_cannot_hide() {
    assert_eq!(shortened("快照组快照组", 3), "快照组…");
    assert_eq!(shortened("abc", 3), "abc");
    assert_eq!(shortened(" a\r\nb\t\u{202e}c\u{200b}\u{2028}d ", 20), "a  b c d");
}

/// Words that are long in bytes, or longer still once escaped.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,400}", "[\\\\*_<\"\u{1}\n`]{1,400}", "[快照\u{1F9CA}]{1,400}", any::<String>()]
}

proptest! {
    #[test]
    fn every_message_fits_its_channel_and_names_its_run(
        words in prop::collection::vec(word(), 8),
        status in prop::sample::select(vec!["succeeded", "degraded", "failed", "refused", "pending"]),
        units in 0..7usize,
    ) {
        let mut report = degraded();
        let unit = &mut report["units"][0];
        unit["findings"][0]["message"] = json!(words[0]);
        unit["findings"][0]["cure"] = json!(words[1]);
        unit["findings"][1]["message"] = json!(words[2]);
        unit["findings"][1]["resource"] = json!(words[3]);
        unit["timeline"][1]["detail"] = json!(words[4]);
        unit["error"] = json!({ "code": "x", "message": words[5], "resource": words[6], "cure": words[7] });
        let unit = unit.clone();
        report["units"] = vec![unit; units].into();
        report["status"] = json!(status);
        report["occurrence"] = json!(words[7]);
        report["policy"] = json!(words[6]);
        let message = message(report);
        let url: reqwest::Url = "https://robot.example/?key=k".parse().unwrap();
        let read = |body: &str| serde_json::from_str::<Value>(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();

        let body = dingtalk::post(url.clone(), None, &message, Timestamp::UNIX_EPOCH).body;
        prop_assert!(body.len() <= 20_000);
        let dingtalk = text(&read(&body)["markdown"]["text"]);
        let body = feishu::post(url.clone(), None, &message, Timestamp::UNIX_EPOCH).body;
        prop_assert!(body.len() <= 20_000);
        let feishu = text(&read(&body)["card"]["elements"][0]["text"]["content"]);
        let wecom = text(&read(&wecom::post(url, &message).body)["markdown"]["content"]);
        prop_assert!(wecom.len() <= 4096);
        for shown in [dingtalk, feishu, wecom] {
            let last = shown.lines().last().unwrap();
            prop_assert!(last.contains("r-74b05ade85c6bfc0"), "{shown}");
            let labelled = |line: &str| line.starts_with(['#', '-', '*']) || line.contains(": ") || line.is_empty();
            prop_assert!(shown.lines().all(labelled), "{shown}");
        }
    }
}
