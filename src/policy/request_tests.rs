use serde_json::json;

use super::*;
use crate::eligibility::DiskKind;

fn parse(text: &str) -> Result<Request, String> {
    Request::parse(&serde_json::from_str(text).unwrap()).map_err(|invalid| invalid.to_string())
}

/// A good request with `fields` set on top.
fn with(fields: Value) -> Result<Request, String> {
    let mut request = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] } });
    for (key, value) in fields.as_object().unwrap() {
        request[key] = value.clone();
    }
    Request::parse(&request).map_err(|invalid| invalid.to_string())
}

#[test]
fn defaults_are_those_of_the_contract() {
    let request = with(json!({})).unwrap();
    assert_eq!((request.consistency, request.minimum_level), (Level::Application, Level::Crash));
    assert_eq!((request.region_id, request.role_arn, request.notify), (None, None, None));
    assert_eq!(request.targets.disks.kind, DiskKind::All);
    let linux = request.linux;
    assert_eq!((linux.script_timeout_in_seconds, linux.timeout_in_seconds), (600, 10));
    assert_eq!((linux.visible_timeout_in_seconds, linux.thaw_on), (5, linux::ThawOn::Visible));
    assert_eq!((linux.endpoint, linux.enable_fs_freeze), (linux::Endpoint::Vpc, true));
    assert_eq!((linux.pre_script_path, linux.ca_bundle), (None, None));
}

#[test]
fn everything_that_is_due_is_read() {
    let request = parse(
        r#"{ "policy": "orders-db", "regionId": "cn-hangzhou", "roleArn": "acs:ram::1234:role/appsnap",
            "targets": { "instanceIds": ["i-1", "i-2"], "disks": "data", "excludeDiskIds": ["d-1"] },
            "consistency": "filesystem", "minimumLevel": "filesystem", "belowMinimum": "keep",
            "linux": { "engine": "sequence", "preScriptPath": "/a", "postScriptPath": "/b",
                       "scriptTimeoutInSeconds": 780, "enableFsFreeze": true, "timeoutInSeconds": 3,
                       "thawOn": "accepted", "endpoint": "127.0.0.1:8443", "caBundle": "/etc/ca.pem",
                       "fastFreeze": false, "lastResortSysrq": false },
            "snapshot": { "name": "nightly", "description": "of it", "tags": { "team": "ops" },
                          "resourceGroupId": "rg-1" },
            "notify": [ { "channel": "webhook", "url": "env:U", "secret": "env:S", "on": ["failed"] } ],
            "dryRun": true }"#,
    )
    .unwrap();
    assert_eq!(request.targets.instance_ids, ["i-1", "i-2"]);
    assert_eq!(request.targets.disks.exclude_disk_ids, ["d-1"]);
    assert_eq!(request.linux.endpoint, linux::Endpoint::Host("127.0.0.1:8443".into()));
    assert_eq!(
        (request.linux.visible_timeout_in_seconds, request.linux.thaw_on),
        (3, linux::ThawOn::Accepted)
    );
    assert_eq!(request.snapshot.tags["team"], "ops");
    assert_eq!((request.notify.unwrap().len(), request.dry_run), (1, true));
}

#[test]
fn the_vendors_plugin_takes_the_options_that_it_has() {
    let linux = json!({ "engine": "plugin", "preScriptPath": "/a", "timeoutInSeconds": 30 });
    let request = with(json!({ "linux": linux, "windows": { "enableWriters": false } })).unwrap();
    assert_eq!((request.linux.engine, request.enable_writers), (linux::Engine::Plugin, false));
    let request = with(json!({})).unwrap();
    assert_eq!((request.linux.engine, request.enable_writers), (linux::Engine::Sequence, true));
}

#[test]
fn every_problem_is_named_by_its_path() {
    let ids = |count: usize| (0..count).map(|i| format!("i-{i}")).collect::<Vec<_>>();
    let table = [
        (json!({"policy": "Orders"}), "policy: must be 1 to 40 of a-z, 0-9 and -, not \"Orders\""),
        (json!({"policy": null}), "policy: required"),
        (json!({"polcy": "x"}), "polcy: unknown field, did you mean policy?"),
        (
            json!({"linux": {"preScriptpath": "/x"}}),
            "linux.preScriptpath: unknown field, did you mean preScriptPath?",
        ),
        (json!({"preScriptPath": "/x"}), "preScriptPath: unknown field, did you mean linux.preScriptPath?"),
        (json!({"linux": {"policy": "x"}}), "linux.policy: unknown field here, it belongs at the top level"),
        (json!({"whatever": 1}), "whatever: unknown field, known are: policy, "),
        (json!({"whatever": 1, "wherever": 2, "whoever": 3}), "dryRun; wherever: unknown field; whoever: "),
        (json!({"regionId": "evil.example/"}), "regionId: must be a region like"),
        (json!({"roleArn": "acs:ram::x:role/a"}), "roleArn: must be like acs:ram::"),
        (json!({"targets": null}), "targets.instanceIds: name at least one"),
        (json!({"targets": []}), "targets: must be an object, not a list"),
        (json!({"targets": {"instanceIds": []}}), "targets.instanceIds: name at least one"),
        (json!({"targets": {"instanceIds": "i-1"}}), "targets.instanceIds: must be a list, not a string"),
        (json!({"targets": {"instanceIds": ["i-1", "x"]}}), "targets.instanceIds[1]: must be an id like i-"),
        (json!({"targets": {"instanceIds": ["i-1", "i-1"]}}), "targets.instanceIds[1]: i-1 is listed twice"),
        (json!({"targets": {"instanceIds": ids(201)}}), "targets.instanceIds: has 201 entries, at most 200"),
        (
            json!({"targets": {"instanceIds": ["i-1"], "disks": "root"}}),
            "targets.disks: unknown word \"root\"",
        ),
        (
            json!({"targets": {"instanceIds": ["i-1"], "disks": "data", "diskIds": ["d-1"]}}),
            "targets.disks: diskIds names the disks already",
        ),
        (
            json!({"targets": {"instanceIds": ["i-1"], "diskIds": ["d-1"], "excludeDiskIds": ["d-2"]}}),
            "targets.excludeDiskIds: diskIds names the disks already",
        ),
        (json!({"consistency": "none"}), "consistency: unknown word \"none\", expected one of: application"),
        (json!({"consistency": "crash", "minimumLevel": "filesystem"}), "minimumLevel: filesystem is above"),
        (
            json!({"linux": {"enableFsFreeze": false}, "minimumLevel": "filesystem"}),
            "minimumLevel: filesystem cannot be reached",
        ),
        (json!({"linux": {"enableFsFreeze": "yes"}}), "linux.enableFsFreeze: must be true or false"),
        (json!({"linux": {"scriptTimeoutInSeconds": 781}}), "from 1 to 780, not 781"),
        (json!({"linux": {"timeoutInSeconds": 0}}), "linux.timeoutInSeconds: must be a whole number"),
        (json!({"linux": {"timeoutInSeconds": 1.5}}), "from 1 to 60, not 1.5"),
        (json!({"linux": {"visibleTimeoutInSeconds": 11}}), "from 1 to 10, not 11"),
        (json!({"linux": {"caBundle": "ca.pem"}}), "linux.caBundle: must be the absolute path"),
        (json!({"linux": {"endpoint": "http://x"}}), "linux.endpoint: must be vpc, public, or a host"),
        (
            json!({"linux": {"engine": "plugin", "fastFreeze": true}}),
            "linux.fastFreeze: belongs to engine sequence",
        ),
        (json!({"windows": {"enableWriters": 1}}), "windows.enableWriters: must be true or false"),
        (json!({"enableWriters": true}), "enableWriters: unknown field, did you mean windows.enableWriters?"),
        (json!({"linux": {"thawOn": 1}}), "linux.thawOn: must be a string, not a number"),
        (json!({"snapshot": {"tags": {"a": 1}}}), "snapshot.tags[\"a\"]: the value must be a string"),
        (json!({"snapshot": {"tags": {"FsConsistent": "True"}}}), "set by appsnap alone"),
        (json!({"snapshot": {"name": "1"}}), "snapshot.name: must have 2 to 128"),
        (json!({"notify": [{"channel": "webhook"}]}), "notify[0].secret: required"),
    ];
    for (fields, expected) in table {
        let message = with(fields.clone()).unwrap_err();
        assert!(message.contains(expected), "{fields}: {message}");
    }
    for (value, expected) in [(json!(null), "request: must be an object, not null"), (json!([]), "a list")] {
        assert!(Request::parse(&value).unwrap_err().to_string().contains(expected));
    }
}

#[test]
fn what_is_not_due_is_refused_and_never_ignored() {
    let table = [
        json!({"roles": {"retain": "acs:ram::1:role/x"}}),
        json!({"expectEvery": "24h"}),
        json!({"retention": null}),
        json!({"lock": {}}),
        json!({"copyTo": []}),
        json!({"belowMinimum": "delete"}),
        json!({"linux": {"lastResortSysrq": true}}),
        json!({"snapshot": {"copyTags": []}}),
        json!({"notify": [{"channel": "slack"}]}),
        json!({"notify": [{"url": "kms:x"}]}),
    ];
    for fields in table {
        let message = with(fields.clone()).unwrap_err();
        assert!(message.contains(": not supported yet"), "{fields}: {message}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let invalid = Request::parse(&json!({"linux": {"engin": 1}, "dryRun": 3, "copyTo": 1})).unwrap_err();
    let paths: Vec<_> = invalid.0.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["copyTo", "policy", "targets.instanceIds", "linux.engin", "dryRun"]);
}

#[test]
fn the_requests_role_goes_before_the_environments() {
    let own = with(json!({"roleArn": "acs:ram::1:role/own"})).unwrap();
    let env = |_: &str| Some("acs:ram::1:role/env".to_owned());
    assert_eq!(own.role(&env).unwrap().as_deref(), Some("acs:ram::1:role/own"));
    let none = with(json!({})).unwrap();
    assert_eq!(none.role(&env).unwrap().as_deref(), Some("acs:ram::1:role/env"));
    assert_eq!(none.role(&|_| Some(String::new())), Ok(None));
    let message = none.role(&|_| Some("own".into())).unwrap_err().to_string();
    assert!(message.starts_with("APPSNAP_ROLE_ARN: must be like acs:ram::"), "{message}");
}

#[test]
fn limits_have_to_fit_the_time_that_is_left() {
    let request = with(json!({"linux": {"scriptTimeoutInSeconds": 100}})).unwrap();
    assert_eq!(request.seconds_needed(), 60 + 200 + 10 + 60);
    assert_eq!(request.check_deadline(Duration::from_secs(330), 50), Ok(()));
    let message = request.check_deadline(Duration::from_millis(329_900), 1).unwrap_err().to_string();
    assert!(message.contains("330 s") && message.contains("has 329 s left"), "{message}");
    // The next wave waits for the one before.
    assert_eq!(request.check_deadline(Duration::from_secs(600), 51), Ok(()));
    let message = request.check_deadline(Duration::from_secs(599), 51).unwrap_err().to_string();
    assert!(message.contains("600 s") && message.contains("51 instances, 50 at a time"), "{message}");
    assert!(request.check_deadline(Duration::from_secs(600), 101).is_err());
    assert_eq!(with(json!({"consistency": "filesystem"})).unwrap().seconds_needed(), 130);
    assert_eq!(with(json!({"consistency": "crash"})).unwrap().seconds_needed(), 120);
}

#[test]
fn at_least_so_many_are_asked_for_that_there_can_be() {
    assert_eq!(with(json!({})).unwrap().at_least, 1);
    let tags = json!({ "tags": { "backup": ["nightly"] } });
    assert_eq!(with(json!({ "targets": tags, "atLeast": 200 })).unwrap().at_least, 200);
    let two = json!({ "instanceIds": ["i-1", "i-2"] });
    assert_eq!(with(json!({ "targets": two, "atLeast": 2 })).unwrap().at_least, 2);
    let wrong = |value: Value| with(json!({ "targets": two, "atLeast": value })).unwrap_err();
    assert!(wrong(json!(3)).contains("atLeast: 3 is more than targets.instanceIds names (2)"));
    for value in [json!(0), json!(201), json!(-1), json!(1.5)] {
        let said = wrong(value.clone());
        assert!(
            said.contains(&format!("must be a whole number of instances from 1 to 200, not {value}")),
            "{said}"
        );
    }
}
