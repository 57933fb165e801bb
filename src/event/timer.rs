//! The timer trigger: `{"triggerTime", "triggerName", "payload"}`.
//!
//! Source: Alibaba Cloud, Function Compute 3.0, "Timer triggers": the payload is always a string.

use serde_json::{Map, Value};

use super::{Action, Arrival, EventError, Kind, Trigger, required};

pub(super) fn is_timer(fields: &Map<String, Value>) -> bool {
    fields.contains_key("triggerName") || fields.contains_key("triggerTime")
}

pub(super) fn read(fields: &Map<String, Value>, arrival: Arrival) -> Result<Trigger, EventError> {
    let name = required(fields, "triggerName", "event")?;
    let time = required(fields, "triggerTime", "event")?;
    let payload = match fields.get("payload") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text.trim(),
        Some(_) => {
            return Err(EventError::new("event.payload", "must be a string that holds the request as JSON"));
        }
    };
    let (place, text) = match (payload, arrival.default_request) {
        ("", None | Some("")) => {
            let message = "is empty and APPSNAP_REQUEST is not set: put the request into one of the two";
            return Err(EventError::new("event.payload", message));
        }
        ("", Some(request)) => ("APPSNAP_REQUEST", request),
        (payload, _) => ("event.payload", payload),
    };
    let request: Value = serde_json::from_str(text)
        .map_err(|error| EventError::new(place, format!("is not JSON: {error}")))?;
    let occurrence = format!("{name}@{time}");
    let due = super::time(fields.get("triggerTime"));
    if due.is_none() && request.get("startWithinSeconds").is_some_and(|limit| !limit.is_null()) {
        let message = "must be a time like 2026-11-22T03:00:00Z: startWithinSeconds counts from it";
        return Err(EventError::new("event.triggerTime", message));
    }
    Ok(Trigger { kind: Kind::Timer, occurrence, due, action: Action::Run(request) })
}
