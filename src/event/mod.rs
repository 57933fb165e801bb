//! What arrived: a timer tick, an EventBridge event or a manual request, told apart by shape alone.
//!
//! [`read`] turns the body of an invocation into triggers. Each carries an occurrence: what makes a repeat
//! of the same event the same run. The request inside stays JSON here; `policy` judges it.

mod eventbridge;
mod timer;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::report::ErrorReport;

/// Which way an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A timer trigger.
    Timer,
    /// EventBridge: a rule's target or an event stream.
    EventBridge,
    /// Somebody's own invocation.
    Manual,
}

impl Kind {
    /// The word in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Timer => "timer",
            Kind::EventBridge => "eventbridge",
            Kind::Manual => "manual",
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Which way it came.
    pub kind: Kind,
    /// Equal for every delivery of the same event. Timer: `name@time`; EventBridge: `source/id`; manual: the
    /// async task id, else the request id of Function Compute.
    pub occurrence: String,
    /// When it was due: the tick's time, or the event's; a manual request has none. It may have waited long since.
    pub due: Option<Timestamp>,
    /// What it asks for.
    pub action: Action,
}

/// The body by which this function hands a request on to an invocation of its own: there its due time would be lost.
pub fn handed_on(request: &Value, due: Option<Timestamp>) -> Value {
    json!({ HANDED_ON: { "due": due.map(|due| due.to_string()) }, "request": request })
}

const HANDED_ON: &str = "appsnapHandedOn";

/// A time as the platform writes it; one that cannot be read is none.
fn time(value: Option<&Value>) -> Option<Timestamp> {
    value?.as_str()?.trim().parse().ok()
}

/// What a trigger asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Run this request (not yet checked).
    Run(Value),
    /// A Cloud Assistant command has ended: settle the run that it belongs to.
    Settle {
        /// `t-…`
        invoke_id: String,
        /// `i-…`
        instance_id: String,
    },
    /// Acknowledge and do nothing, for this reason.
    Ignore(String),
}

/// What came beside the body.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// `x-fc-request-id`
    pub request_id: &'a str,
    /// `x-fc-async-task-id`
    pub async_task_id: Option<&'a str>,
    /// Env `APPSNAP_REQUEST`: the request of a timer without payload.
    pub default_request: Option<&'a str>,
}

impl Arrival<'_> {
    /// The occurrence of an event that has no id of its own.
    fn occurrence(&self) -> String {
        self.async_task_id.filter(|id| !id.is_empty()).unwrap_or(self.request_id).to_owned()
    }
}

/// The body cannot be read; names the place and the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct EventError {
    /// Where, e.g. `event`, `event[2]`, `event.payload`, `APPSNAP_REQUEST`.
    pub place: String,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl EventError {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl From<&EventError> for ErrorReport {
    fn from(error: &EventError) -> Self {
        ErrorReport {
            code: "InvalidEvent".into(),
            message: error.to_string(),
            cure: Some("correct the place named; nothing was touched".into()),
            ..Default::default()
        }
    }
}

/// Reads the body of an invocation; an array gives one trigger for each element, in order.
pub fn read(body: &[u8], arrival: Arrival) -> Result<Vec<Trigger>, EventError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(EventError::new(
            "event",
            "is empty: send a request, e.g. s invoke -f events/manual.json",
        ));
    }
    let event: Value = serde_json::from_slice(body)
        .map_err(|error| EventError::new("event", format!("is not JSON: {error}")))?;
    match &event {
        Value::Array(items) => eventbridge::batch(items, arrival),
        Value::Object(fields) if timer::is_timer(fields) => timer::read(fields, arrival).map(|it| vec![it]),
        Value::Object(fields) if fields.contains_key(HANDED_ON) => Ok(vec![Trigger {
            kind: Kind::Manual,
            occurrence: arrival.occurrence(),
            due: time(event.pointer(&format!("/{HANDED_ON}/due"))),
            action: Action::Run(event["request"].clone()),
        }]),
        Value::Object(_) => eventbridge::single(event, arrival).map(|it| vec![it]),
        _ => Err(EventError::new("event", "must be a JSON object or an array of events")),
    }
}

/// A field that must be a string with something in it.
fn required<'a>(
    fields: &'a serde_json::Map<String, Value>,
    field: &str,
    place: &str,
) -> Result<&'a str, EventError> {
    match fields.get(field).and_then(Value::as_str) {
        Some(text) if !text.trim().is_empty() => Ok(text),
        _ => Err(EventError::new(format!("{place}.{field}"), "must be a string that is not empty")),
    }
}

#[cfg(test)]
mod tests;
