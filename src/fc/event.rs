//! The event: the raw body of `POST /invoke`, up to the platform's limit. Its content type says nothing (the
//! platform sends `application/octet-stream`), so it is bytes until the handler reads it.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body, Bytes, Incoming};
use serde::de::DeserializeOwned;

use super::answer::Failure;

/// The platform's limit for the body of a synchronous invocation: 32 MiB. (An asynchronous one has 128 KB.)
pub const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;

/// What the caller or trigger sent.
#[derive(Debug, Clone)]
pub struct Event(Bytes);

impl Event {
    /// An event with this body, for tests of a handler.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self(body.into())
    }

    /// The body as it came; empty if the caller gave none.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// `InvalidEvent`, naming the field by its path and the place by line and column.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if self.0.trim_ascii().is_empty() {
            return Err(Failure::new("InvalidEvent", "the event is empty: send a JSON document"));
        }
        let invalid =
            |what: String| Failure::new("InvalidEvent", format!("the event is not as expected: {what}"));
        let mut json = serde_json::Deserializer::from_slice(&self.0);
        let value =
            serde_path_to_error::deserialize(&mut json).map_err(|error| match error.path().to_string() {
                path if path != "." && error.inner().is_data() => {
                    invalid(format!("{path}: {}", error.inner()))
                }
                _ => invalid(error.inner().to_string()),
            })?;
        json.end().map_err(|error| invalid(error.to_string()))?;
        Ok(value)
    }

    /// Reads the body of a request, refusing one above the limit as soon as that is known.
    pub(super) async fn read(body: Incoming) -> Result<Self, (StatusCode, Failure)> {
        let too_large = || {
            let message =
                format!("the event is over {MAX_EVENT_BYTES} bytes: send a smaller one, or a reference");
            (StatusCode::PAYLOAD_TOO_LARGE, Failure::new("EventTooLarge", message))
        };
        if body.size_hint().lower() > MAX_EVENT_BYTES as u64 {
            return Err(too_large()); // by Content-Length, unread
        }
        match Limited::new(body, MAX_EVENT_BYTES).collect().await {
            Ok(collected) => Ok(Self(collected.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => {
                let failure = Failure::new("EventIncomplete", format!("the event's body broke off: {error}"));
                Err((StatusCode::BAD_REQUEST, failure))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Order {
        items: Vec<u8>,
    }

    fn message<T: DeserializeOwned + std::fmt::Debug>(body: &'static str) -> String {
        let failure = Event::new(body).json::<T>().unwrap_err();
        assert_eq!(failure.error_type, "InvalidEvent");
        failure.error_message
    }

    #[test]
    fn broken_json_is_told_with_its_place() {
        assert_eq!(
            message::<Value>("{\"a\": 1,\n \"b\" 2}"),
            "the event is not as expected: expected `:` at line 2 column 6"
        );
        assert_eq!(
            message::<Value>("{} {}"),
            "the event is not as expected: trailing characters at line 1 column 4"
        );
        assert_eq!(message::<Value>(" \n"), "the event is empty: send a JSON document");
    }

    #[test]
    fn a_wrong_field_is_told_with_its_path() {
        assert_eq!(
            message::<Order>(r#"{"items": [1, "two"]}"#),
            "the event is not as expected: items[1]: invalid type: string \"two\", expected u8 at line 1 column 19"
        );
    }

    #[test]
    fn good_json_is_read() {
        assert_eq!(Event::new(r#"{"items": [1]}"#).json::<Order>().unwrap().items, [1]);
        assert_eq!(Event::new("null").json::<Value>().unwrap(), Value::Null);
    }
}
