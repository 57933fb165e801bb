//! What goes back to the platform. It discards our HTTP status for event invocations: a failure is known only by
//! the header `x-fc-status: 404`, and the caller sees only the body. Status and header always agree here.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

/// The HTTP answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// An invocation that failed. The caller gets it as `{"errorMessage", "errorType", "report"}`, the shape of the
/// built-in runtimes.
///
/// Every error turns into one by `?`; its sources are told after it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What happened, on what, and what to do about it.
    pub error_message: String,
    /// The kind of error, for machines.
    pub error_type: String,
    /// What is known besides, such as the outcome of the work so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
}

impl Failure {
    /// A failure of a kind, with a message.
    pub fn new(error_type: impl Into<String>, error_message: impl Into<String>) -> Self {
        Self { error_type: error_type.into(), error_message: error_message.into(), report: None }
    }

    /// Adds a report.
    pub fn with_report(self, report: Value) -> Self {
        Self { report: Some(report), ..self }
    }
}

// Failure itself is no std::error::Error, else this would collide with the identity conversion.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            message = format!("{message}: {inner}");
            source = inner.source();
        }
        Self::new("HandlerError", message)
    }
}

/// 200, with a JSON body.
pub(super) fn success(body: &Value) -> Answer {
    answer(StatusCode::OK, "200", body.to_string())
}

/// A failure as the platform knows it, with `status` for whoever speaks to us directly.
pub(super) fn failure(status: StatusCode, failure: &Failure) -> Answer {
    let body = serde_json::json!(failure);
    answer(status, "404", body.to_string())
}

fn answer(status: StatusCode, fc_status: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-fc-status", HeaderValue::from_static(fc_status));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_has_the_shape_of_the_built_in_runtimes() {
        let plain = Failure::new("Denied", "no");
        assert_eq!(json!(plain), json!({ "errorMessage": "no", "errorType": "Denied" }));
        let full = plain.with_report(json!({ "status": "failed" }));
        assert_eq!(
            json!(full),
            json!({ "errorMessage": "no", "errorType": "Denied", "report": { "status": "failed" } })
        );
    }

    #[test]
    fn any_error_becomes_a_failure_with_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot greet")]
        struct Outer(#[source] std::num::ParseIntError);

        fn handler() -> Result<Value, Failure> {
            "x".parse::<u8>().map_err(Outer)?;
            Ok(Value::Null)
        }
        assert_eq!(
            handler(),
            Err(Failure::new("HandlerError", "cannot greet: invalid digit found in string"))
        );
    }

    #[test]
    fn header_and_status_agree() {
        let good = success(&json!({}));
        assert_eq!(
            (good.status().as_u16(), &good.headers()["x-fc-status"]),
            (200, &HeaderValue::from_static("200"))
        );
        let bad = failure(StatusCode::PAYLOAD_TOO_LARGE, &Failure::new("a", "b"));
        assert_eq!(
            (bad.status().as_u16(), &bad.headers()["x-fc-status"]),
            (413, &HeaderValue::from_static("404"))
        );
    }
}
