//! Of `appsnap check`: what is made of flags, and what its table tells.

use clap::Parser;

use super::*;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parsed(words: &[&str]) -> Result<Value, String> {
    let line = [&["check"], words].concat();
    let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
    request(&line.args).map_err(|failure| format!("{} ({})", failure.message, failure.code))
}

#[test]
fn flags_make_a_request_that_only_looks_and_tells_nobody() {
    let words =
        ["--instance", "i-1", "--instance", "i-2", "--region", "cn-beijing", "--minimum-level", "filesystem"];
    let expected = json!({ "policy": "check", "regionId": "cn-beijing", "minimumLevel": "filesystem",
        "targets": { "instanceIds": ["i-1", "i-2"] }, "dryRun": true, "notify": [] });
    assert_eq!(parsed(&words), Ok(expected));
    let tags = ["--tag", "backup=nightly", "--tag", "backup=weekly", "--tag", "env=prod=1"];
    let expected = json!({ "tags": { "backup": ["nightly", "weekly"], "env": ["prod=1"] } });
    assert_eq!(parsed(&tags).unwrap()["targets"], expected);
    let local = parsed(&["--local", "--disks", "data"]).unwrap();
    assert_eq!(
        local["targets"],
        json!({ "disks": "data", "instanceIds": ["i-bp1demo00000000000a", "i-bp1demowindows00000"] })
    );
}

#[test]
fn what_is_wrong_is_told_as_wrong_usage() {
    let table = [
        (vec![], "targets.instanceIds: name at least one instance"),
        (vec!["--instance", "web-1"], "targets.instanceIds[0]: must be an id like i-"),
        (vec!["--instance", "i-1", "--policy", "My Policy"], "policy: must be 1 to 40 of a-z"),
        (vec!["/nowhere/request.json"], "/nowhere/request.json: No such file"),
        (vec!["--local", "--world", "moon"], "there is no such world; known are: demo, seed"),
        (vec!["--instance", "i-1", "--consistency", "best"], "invalid value 'best'"),
        (vec!["--tag", "backup"], "not KEY=VALUE"),
        (vec!["events/timer.json"], "this is a timer's tick; here the request alone is wanted"),
        (vec!["events/eventbridge-request.json"], "the request alone is wanted, which is its data"),
    ];
    for (words, expected) in table {
        let told = parsed(&words).unwrap_err();
        assert!(told.contains(expected), "{words:?}: {told}");
        assert!(told.ends_with("(2)") || told.starts_with("error: "), "{told}");
    }
}

#[test]
fn the_table_tells_each_finding_once_with_its_cure() {
    let finding = |code: &str, severity: &str, resource: &str| {
        json!({ "code": code, "severity": severity, "resource": resource, "message": format!("about {code}"),
                "cure": format!("mend {code}") })
    };
    let report = json!({ "schema": 1, "version": "1", "run": "r-1", "policy": "p", "occurrence": "o",
        "trigger": "manual", "dryRun": true, "status": "refused", "summary": { "refused": 1 }, "startedAt": "",
        "finishedAt": "", "durationMs": 3, "apiCalls": 0, "notifications": [], "units": [{
            "regionId": "cn-hangzhou", "instanceIds": ["i-1"], "osType": "linux", "engine": "sequence",
            "wanted": "application", "expectedLevel": "none",
            "findings": [finding("disk.left_out", "note", "d-1"), finding("script.mode", "downgrade", "i-1"),
                finding("disk.left_out", "note", "d-2"), finding("disk.category", "blocker", "d-3")] }] });
    let text = table(&serde_json::from_value(report).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("REFUSED: a run would be refused; policy p, nothing was changed"), "{text}");
    assert_eq!(lines[2], "i-1 in cn-hangzhou (linux, by the sequence): expected none, wanted application");
    assert_eq!(lines[3], "  blocks  disk.category      d-3: about disk.category");
    assert_eq!(lines[4], "          cure: mend disk.category");
    assert_eq!(lines[5], "  lowers  script.mode        about script.mode");
    assert_eq!(lines[7], "  note    disk.left_out      d-1, d-2: about disk.left_out");
    assert_eq!(lines.len(), 9, "{text}");
}

#[test]
fn of_an_instance_that_is_not_shown_no_system_is_told() {
    let unit = |id: &str, engine: &str, code: &str| {
        json!({ "regionId": "r-1", "instanceIds": [id], "osType": "linux", "engine": engine,
                "wanted": "crash", "expectedLevel": "none", "findings": [{ "code": code, "severity": "blocker",
                "resource": id, "message": "m", "cure": "c" }] })
    };
    let report = json!({ "schema": 1, "version": "1", "run": "r-1", "policy": "p", "occurrence": "o",
        "trigger": "manual", "dryRun": true, "status": "failed", "summary": {}, "startedAt": "",
        "finishedAt": "", "durationMs": 3, "apiCalls": 0, "notifications": [], "units": [
            unit("i-1", "sequence", "instance.unknown"), unit("i-2", "none", "instance.stopped")] });
    let text = table(&serde_json::from_value(report).unwrap());
    assert!(text.contains("\ni-1 in r-1: expected none, wanted crash\n"), "{text}");
    assert!(text.contains("\ni-2 in r-1 (linux, stopped: by the function alone): expected none"), "{text}");
    assert!(text.starts_with("FAILED: not everything could be judged;"), "{text}");
}

#[test]
fn without_a_key_only_the_operators_own_variables_are_named() {
    let told = credentials(&|name| (name == "ALIBABA_CLOUD_ACCESS_KEY_ID").then(|| "k".into())).unwrap_err();
    assert!(told.message.starts_with("no credentials: ALIBABA_CLOUD_ACCESS_KEY_SECRET not set;"), "{told:?}");
    assert!(!told.message.contains("x-fc-"), "{told:?}");
}

#[test]
fn the_verdict_does_not_promise_of_a_stopped_instance_what_it_cannot_give() {
    let verdict = |expected: &str| {
        let report = json!({ "schema": 1, "version": "1", "run": "r-1", "policy": "p", "occurrence": "o",
            "trigger": "manual", "dryRun": true, "status": "succeeded", "summary": {}, "startedAt": "",
            "finishedAt": "", "durationMs": 3, "apiCalls": 0, "notifications": [], "units": [{
                "regionId": "r-1", "instanceIds": ["i-1"], "osType": "linux", "engine": "none",
                "wanted": "application", "expectedLevel": expected }] });
        table(&serde_json::from_value(report).unwrap())
    };
    let told = verdict("crash");
    assert!(told.contains("what is wanted, or all that a stopped instance can give;"), "{told}");
    let told = verdict("application");
    assert!(told.contains("a run would reach what is wanted;"), "{told}");
}
