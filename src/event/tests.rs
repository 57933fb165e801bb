use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::Request;

const ARRIVAL: Arrival =
    Arrival { request_id: "1-67405a1b-1234", async_task_id: None, default_request: None };
const INSTANCE: &str = "i-bp1demo00000000000a";

/// A file of `events/`, as it would be sent.
fn fixture(name: &str) -> Vec<Trigger> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/events/").to_owned() + name;
    let body = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    read(&body, ARRIVAL).unwrap()
}

fn request(trigger: &Trigger) -> Request {
    let Action::Run(request) = &trigger.action else { panic!("not a request: {trigger:?}") };
    Request::parse(request).unwrap()
}

fn error(body: Value) -> String {
    read(body.to_string().as_bytes(), ARRIVAL).unwrap_err().to_string()
}

#[test]
fn every_fixture_is_read() {
    let settle = Action::Settle { invoke_id: "t-hz01demo0000002".into(), instance_id: INSTANCE.into() };
    let first = "orders.release/7f0d4b52-6c0e-4a35-9b59-0c6d1e2f3a4";
    let table = [
        ("timer.json", Kind::Timer, "nightly@2026-11-22T03:00:00Z".to_owned(), 1),
        ("eventbridge-request.json", Kind::EventBridge, format!("{first}b"), 1),
        ("eventbridge-array.json", Kind::EventBridge, format!("{first}c"), 3),
        ("eventbridge-array-strings.json", Kind::EventBridge, format!("{first}c"), 2),
        ("eventbridge-data.json", Kind::Manual, ARRIVAL.request_id.to_owned(), 1),
        ("manual.json", Kind::Manual, ARRIVAL.request_id.to_owned(), 1),
        ("notify.json", Kind::Manual, ARRIVAL.request_id.to_owned(), 1),
    ];
    let by_tags = &fixture("by-tags.json")[0];
    let targets = request(by_tags).targets;
    assert_eq!((by_tags.kind, targets.instance_ids.len(), targets.tags.len()), (Kind::Manual, 0, 2));
    let dry_run = request(&fixture("dry-run.json")[0]);
    assert!(dry_run.dry_run && dry_run.targets.scope[0].region_ids.len() == 2);
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/events")).unwrap().count();
    assert_eq!(files, table.len() + 3, "a fixture that this test does not read");
    for (name, kind, occurrence, count) in table {
        let triggers = fixture(name);
        assert_eq!(triggers.len(), count, "{name}");
        assert_eq!((triggers[0].kind, &triggers[0].occurrence), (kind, &occurrence), "{name}");
        let request = request(&triggers[0]);
        assert_eq!(
            (request.policy.as_str(), request.targets.instance_ids),
            ("orders-db", vec![INSTANCE.into()])
        );
        assert!(triggers.get(1).is_none_or(|it| matches!(it.action, Action::Ignore(_))), "{name}");
        assert!(triggers.get(2).is_none_or(|it| it.action == settle), "{name}");
    }
    let done = fixture("eventbridge-task-completed.json");
    assert_eq!(done[0].occurrence, "acs.ecs/0b1c2d3e-4f50-4617-a829-3b4c5d6e7f80");
    assert_eq!(done[0].action, settle);

    let notify = request(&fixture("timer.json")[0]).notify.unwrap();
    assert_eq!((notify.len(), notify[0].on.len()), (1, 7));
    let notify = request(&fixture("notify.json")[0]).notify.unwrap();
    let kinds: Vec<_> = notify.iter().map(|channel| channel.kind.as_str()).collect();
    assert_eq!(kinds, ["dingtalk", "feishu", "wecom", "webhook"]);
}

#[test]
fn a_trigger_knows_when_it_was_due_also_after_it_was_handed_on() {
    let due: Option<Timestamp> = Some("2026-11-22T03:00:00Z".parse().unwrap());
    for name in
        ["timer.json", "eventbridge-request.json", "eventbridge-array.json", "eventbridge-array-strings.json"]
    {
        assert_eq!(fixture(name)[0].due, due, "{name}");
    }
    for name in ["manual.json", "eventbridge-data.json"] {
        assert_eq!(fixture(name)[0].due, None, "{name}");
    }
    // As Cloud Assistant's events write it.
    let event = json!({"id": "1", "source": "mine", "specversion": "1.0", "type": "x", "time": "2026-11-22T11:00:00+08:00",
                       "data": {"policy": "p"}});
    assert_eq!(read(event.to_string().as_bytes(), ARRIVAL).unwrap()[0].due, due);
    for due in [due, None] {
        let body = handed_on(&json!({"policy": "p"}), due).to_string();
        let arrival = Arrival { async_task_id: Some("r-1"), ..ARRIVAL };
        let trigger = read(body.as_bytes(), arrival).unwrap().remove(0);
        let action = Action::Run(json!({"policy": "p"}));
        assert_eq!(trigger, Trigger { kind: Kind::Manual, occurrence: "r-1".into(), due, action });
    }
}

#[test]
fn a_timer_without_payload_takes_the_request_of_the_environment() {
    let arrival = Arrival { default_request: Some(r#"{"policy":"p"}"#), ..ARRIVAL };
    for payload in [json!(""), json!(null), json!("  ")] {
        let tick = json!({"triggerName": "n", "triggerTime": "t", "payload": payload});
        let triggers = read(tick.to_string().as_bytes(), arrival).unwrap();
        assert_eq!(triggers[0].action, Action::Run(json!({"policy": "p"})));
        assert!(error(tick).starts_with("event.payload: is empty and APPSNAP_REQUEST is not set"));
    }
    let tick = br#"{"triggerName":"n","triggerTime":"t"}"#;
    let broken = Arrival { default_request: Some("{"), ..ARRIVAL };
    assert!(read(tick, broken).unwrap_err().to_string().starts_with("APPSNAP_REQUEST: is not JSON"));
}

#[test]
fn an_async_task_id_goes_before_the_request_id() {
    let body = br#"{"policy":"p"}"#;
    for (task, occurrence) in [(Some("nightly_1"), "nightly_1"), (Some(""), ARRIVAL.request_id)] {
        let triggers = read(body, Arrival { async_task_id: task, ..ARRIVAL }).unwrap();
        assert_eq!(triggers[0].occurrence, occurrence);
    }
}

#[test]
fn bare_data_is_told_apart_by_its_fields() {
    let done = json!({"invokeId": "t-1", "instanceId": "i-1", "invocationStatus": "Failed"});
    let settle = Action::Settle { invoke_id: "t-1".into(), instance_id: "i-1".into() };
    let body = json!([done, {"snapshotId": "s-1", "diskId": "d-1"}, {"policy": "p"}, {"polcy": "p"}]);
    let triggers = read(body.to_string().as_bytes(), ARRIVAL).unwrap();
    assert_eq!(triggers[0].action, settle);
    assert!(matches!(triggers[1].action, Action::Ignore(_)));
    assert_eq!(triggers[2].action, Action::Run(json!({"policy": "p"})));
    assert_eq!(triggers[3].action, Action::Run(json!({"polcy": "p"})));
    assert!(triggers.iter().all(|trigger| trigger.kind == Kind::EventBridge));
    assert_eq!(triggers[3].occurrence, "1-67405a1b-1234[3]");
    assert_eq!(read(done.to_string().as_bytes(), ARRIVAL).unwrap()[0].action, settle);
}

#[test]
fn an_envelope_is_judged_by_data_type_and_source() {
    let event = |source: &str, kind: &str, data: Value| {
        let event = json!({"id": "1", "source": source, "specversion": "1.0", "type": kind, "data": data});
        read(event.to_string().as_bytes(), ARRIVAL).unwrap().remove(0).action
    };
    assert_eq!(event("acs.ecs", "x", json!({"policy": "p"})), Action::Run(json!({"policy": "p"})));
    assert_eq!(event("mine", "x", json!("{\"policy\":\"p\"}")), Action::Run(json!({"policy": "p"})));
    assert_eq!(event("mine", "x", json!({"polcy": "p"})), Action::Run(json!({"polcy": "p"})));
    assert!(matches!(event("acs.ecs", "ecs:Disk:Stalled", json!({})), Action::Ignore(_)));
    assert!(matches!(event("acs.oss", "oss:Object", json!(null)), Action::Ignore(_)));
}

#[test]
fn what_cannot_be_read_is_named_by_its_place() {
    let table = [
        (json!(1), "event: must be a JSON object"),
        (json!([]), "event: is an empty array"),
        (json!([{"policy": "p"}, "{"]), "event[1]: is not JSON"),
        (json!([{"policy": "p"}, 7]), "event[1]: must be an event"),
        (json!(["[]"]), "event[0]: must be an event"),
        (json!({"triggerName": "n"}), "event.triggerTime: must be a string"),
        (json!({"triggerTime": "t", "triggerName": ""}), "event.triggerName: must be a string"),
        (json!({"triggerTime": "t", "triggerName": "n", "payload": {}}), "event.payload: must be a string"),
        (json!({"triggerTime": "t", "triggerName": "n", "payload": "{"}), "event.payload: is not JSON"),
        (
            json!({"triggerTime": "2026-11-22T03:00:00", "triggerName": "n", "payload": r#"{"startWithinSeconds": 60}"#}),
            "event.triggerTime: must be a time like 2026-11-22T03:00:00Z",
        ),
        (json!({"specversion": "1.0"}), "event.id: must be a string"),
        (json!([{"specversion": "1.0", "id": "1", "source": 3}]), "event[0].source: must be a string"),
        (
            json!({"id": "1", "source": "acs.ecs", "type": "ecs:CloudAssistant:TaskCompleted", "data": {}}),
            "event.data: of TaskCompleted must name",
        ),
        (json!({"id": "1", "source": "a", "type": "b", "data": "{"}), "event.data: is not JSON"),
    ];
    for (body, expected) in table {
        let message = error(body.clone());
        assert!(message.starts_with(expected), "{body}: {message}");
    }
    for (body, expected) in
        [(&b" \n"[..], "event: is empty"), (b"{", "event: is not JSON"), (b"\xff", "event: is not")]
    {
        assert!(read(body, ARRIVAL).unwrap_err().to_string().starts_with(expected));
    }
}

proptest! {
    #[test]
    fn no_body_panics(body in prop_oneof![
        any::<Vec<u8>>(),
        r#"[\[{"](id|source|type|data|triggerName|payload|policy|[\[\]{}":, 1]){0,30}"#.prop_map(String::into_bytes),
    ]) {
        if let Ok(triggers) = read(&body, ARRIVAL) {
            prop_assert!(triggers.iter().all(|trigger| !trigger.occurrence.is_empty()));
        }
    }
}
