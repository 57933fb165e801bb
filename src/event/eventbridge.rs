//! EventBridge: one CloudEvents object, an array of objects or of JSON strings (event streams differ), or
//! the bare `data` (eventSchema RawData).
//!
//! Bare data has no id, and one bare request alone looks exactly like a manual one: its occurrence is the
//! invocation's own id, so a second delivery of it is another run. Keep the envelope where that matters.
//!
//! Source: Alibaba Cloud, Function Compute 3.0, "EventBridge triggers"; EventBridge, "ECS events".

use serde_json::{Map, Value};

use super::{Action, Arrival, EventError, Kind, Trigger, required};

const TASK_COMPLETED: &str = "ecs:CloudAssistant:TaskCompleted";

pub(super) fn batch(items: &[Value], arrival: Arrival) -> Result<Vec<Trigger>, EventError> {
    if items.is_empty() {
        return Err(EventError::new("event", "is an empty array: nothing was delivered"));
    }
    let element = |(i, item): (usize, &Value)| {
        let place = format!("event[{i}]");
        let item = unpack(item, &place)?;
        let occurrence = format!("{}[{i}]", arrival.occurrence());
        match &item {
            Value::Object(fields) if is_envelope(fields) => envelope(fields, &place),
            Value::Object(_) => Ok(bare(item, Kind::EventBridge, occurrence)),
            _ => Err(EventError::new(place, "must be an event (an object, or a string that holds one)")),
        }
    };
    items.iter().enumerate().map(element).collect()
}

pub(super) fn single(event: Value, arrival: Arrival) -> Result<Trigger, EventError> {
    match &event {
        Value::Object(fields) if is_envelope(fields) => envelope(fields, "event"),
        _ => Ok(bare(event, Kind::Manual, arrival.occurrence())),
    }
}

/// A string that holds JSON is taken for what it holds.
fn unpack(value: &Value, place: &str) -> Result<Value, EventError> {
    match value {
        Value::String(text) => serde_json::from_str(text)
            .map_err(|error| EventError::new(place, format!("is not JSON: {error}"))),
        other => Ok(other.clone()),
    }
}

fn is_envelope(fields: &Map<String, Value>) -> bool {
    fields.contains_key("specversion")
        || ["id", "source", "type"].iter().all(|name| fields.contains_key(*name))
}

fn envelope(fields: &Map<String, Value>, place: &str) -> Result<Trigger, EventError> {
    let (id, source) = (required(fields, "id", place)?, required(fields, "source", place)?);
    let kind = required(fields, "type", place)?;
    let data = fields.get("data").map(|data| unpack(data, &format!("{place}.data"))).transpose()?;
    let data = data.unwrap_or_default();
    let action = if is_request(&data) {
        Action::Run(data)
    } else if kind == TASK_COMPLETED {
        settle(&data).ok_or_else(|| {
            EventError::new(format!("{place}.data"), "of TaskCompleted must name invokeId and instanceId")
        })?
    } else if source.starts_with("acs.") {
        Action::Ignore(format!("{kind} from {source} asks for nothing: its data is no request"))
    } else {
        // Somebody's own event can only mean a request: let the parser say what it lacks.
        Action::Run(data)
    };
    let due = super::time(fields.get("time"));
    Ok(Trigger { kind: Kind::EventBridge, occurrence: format!("{source}/{id}"), due, action })
}

/// Data without an envelope; `otherwise` is what a request in it counts as.
fn bare(data: Value, otherwise: Kind, occurrence: String) -> Trigger {
    let has = |names: &[&str]| names.iter().all(|name| data.get(name).is_some());
    let ended = if has(&["invokeId", "invocationStatus"]) { settle(&data) } else { None };
    if is_request(&data) {
        Trigger { kind: otherwise, occurrence, due: None, action: Action::Run(data) }
    } else if let Some(action) = ended {
        Trigger { kind: Kind::EventBridge, occurrence, due: None, action }
    } else if has(&["snapshotId", "diskId"]) || has(&["operation", "diskId"]) || has(&["resourceId", "state"])
    {
        let action = Action::Ignore("data of an ECS event that asks for nothing".into());
        Trigger { kind: Kind::EventBridge, occurrence, due: None, action }
    } else {
        Trigger { kind: otherwise, occurrence, due: None, action: Action::Run(data) }
    }
}

fn is_request(data: &Value) -> bool {
    data.get("policy").is_some()
}

fn settle(data: &Value) -> Option<Action> {
    let text = |field: &str| data.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty());
    let (invoke_id, instance_id) = (text("invokeId")?.to_owned(), text("instanceId")?.to_owned());
    Some(Action::Settle { invoke_id, instance_id })
}
