//! Function Compute 2023-03-30: invoking a function, also this very one for work that outlasts its trigger.
//!
//! Source: <https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/developer-reference/api-fc-2023-03-30-invokefunction>.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::acs::{Call, Client, Error, Kind, Product, encode_path};

/// Function Compute 3.0; its documented endpoint is the same inside and outside a VPC.
pub static FC: Product = Product {
    name: "fc",
    version: "2023-03-30",
    public: "fcv3.{region}.aliyuncs.com",
    vpc: "fcv3.{region}.aliyuncs.com",
};

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoke<'a> {
    /// Where the function is.
    pub region_id: &'a str,
    /// Its name, without `/`.
    pub function_name: &'a str,
    /// Version or alias; the platform's default is `LATEST`.
    pub qualifier: Option<&'a str>,
    /// The event: 32 MB at most, asynchronously 128 KB.
    pub event: &'a [u8],
    /// Whether to wait for its answer.
    pub mode: Mode<'a>,
}

/// How to invoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode<'a> {
    /// Waits for the answer, this long at most: give it the function's timeout and some seconds.
    Sync(Duration),
    /// Only hands the event over. With a task id (a letter or `_`, then letters, digits, `_`, `-`; 128 at most),
    /// a function that has tasks switched on refuses the same id with 409.
    Async {
        /// The task id.
        task_id: Option<&'a str>,
    },
}

/// What an invocation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoked {
    /// `x-fc-request-id`, by which the logs are found.
    pub request_id: Option<String>,
    /// `x-fc-error-type`: the function failed, although the call did not.
    pub error_type: Option<String>,
    /// The function's answer; empty when asynchronous.
    pub body: Vec<u8>,
    /// The last 4 KB of the log; synchronous only.
    pub log_tail: Option<String>,
}

/// Invokes a function. It is sent a second time only when the first was surely not taken.
///
/// # Errors
/// Those of the call; a failure of the function itself is in [`Invoked::error_type`] and its body.
pub async fn invoke_function(client: &Client, invoke: &Invoke<'_>) -> Result<Invoked, Error> {
    let function = encode_path(invoke.function_name);
    let mut call = Call::new(&FC, "InvokeFunction", invoke.region_id, Kind::Once)
        .on(invoke.function_name)
        .maybe("qualifier", invoke.qualifier);
    call.path = format!("/{}/functions/{function}/invocations", FC.version);
    call.body = invoke.event.to_vec();
    call.json = false;
    let mut header = |name: &str, value: &str| call.headers.push((name.to_owned(), value.to_owned()));
    header("content-type", "application/octet-stream");
    match invoke.mode {
        Mode::Sync(timeout) => {
            header("x-fc-invocation-type", "Sync");
            header("x-fc-log-type", "Tail");
            call.timeout = timeout;
        }
        Mode::Async { task_id } => {
            header("x-fc-invocation-type", "Async");
            if let Some(id) = task_id {
                header("x-fc-async-task-id", id);
            }
        }
    }
    let reply = client.send(&call).await?;
    let text = |name: &str| reply.header(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let log = text("x-fc-log-result").and_then(|log| BASE64_STANDARD.decode(log).ok());
    Ok(Invoked {
        request_id: text("x-fc-request-id"),
        error_type: text("x-fc-error-type"),
        log_tail: log.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        body: reply.body,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::acs::Reply;
    use crate::api::testing::replying;

    fn invoke(mode: Mode<'static>) -> Invoke<'static> {
        Invoke {
            region_id: "cn-hangzhou",
            function_name: "app snap",
            qualifier: Some("LATEST"),
            event: b"{}",
            mode,
        }
    }

    /// The answer to `reply`, and the request's URL and headers.
    async fn invoked(mode: Mode<'static>, reply: Reply) -> (Result<Invoked, Error>, String) {
        let sent = Arc::new(Mutex::new(String::new()));
        let log = sent.clone();
        let (client, _) = replying(move |wire| {
            let headers: Vec<_> =
                wire.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            *log.lock().unwrap() = format!("{}\n{}{}", wire.url, headers.concat(), wire.body.len());
            reply.clone()
        });
        let outcome = invoke_function(&client, &invoke(mode)).await;
        let sent = sent.lock().unwrap().clone();
        (outcome, sent)
    }

    #[tokio::test]
    async fn a_synchronous_answer_comes_with_its_log() {
        let headers = [("x-fc-request-id", "1-2-3"), ("x-fc-log-result", "aGk="), ("x-fc-error-type", "")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let reply = Reply { headers, ..Reply::new(200, "not json") };
        let (outcome, sent) = invoked(Mode::Sync(Duration::from_secs(60)), reply).await;
        let outcome = outcome.unwrap();
        assert_eq!((outcome.log_tail.as_deref(), outcome.error_type), (Some("hi"), None));
        assert_eq!((outcome.request_id.as_deref(), &*outcome.body), (Some("1-2-3"), &b"not json"[..]));
        let url = "https://fcv3.cn-hangzhou.aliyuncs.com/2023-03-30/functions/app%20snap/invocations?qualifier=LATEST";
        assert!(sent.starts_with(url), "{sent}");
        assert!(sent.contains("x-fc-invocation-type: Sync\n") && sent.ends_with("\n2"), "{sent}");
        assert!(sent.contains("SignedHeaders=content-type;host;x-acs-action;"), "{sent}");
    }

    #[tokio::test]
    async fn an_event_that_may_have_been_taken_is_not_sent_again() {
        let mode = Mode::Async { task_id: Some("orders_1") };
        let (outcome, sent) = invoked(mode, Reply::new(202, "")).await;
        assert!(outcome.unwrap().body.is_empty());
        assert!(sent.contains("x-fc-async-task-id: orders_1\n"), "{sent}");
        let (outcome, _) = invoked(mode, Reply::new(500, r#"{"Code":"InternalServerError"}"#)).await;
        let error = outcome.unwrap_err();
        assert!(error.unknown_outcome && error.attempts == 1, "{error}");
    }
}
