//! InvokeFunction (FC 2023-03-30, ROA) as the local cloud's server offers it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::Fc;
use crate::local::server::Cloud;
use crate::local::world::Call;

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({ "Code": code, "Message": message, "RequestId": "" }).to_string().into_bytes();
    (status, Vec::new(), body)
}

/// Answers `POST /2023-03-30/functions/NAME/invocations`: 200 with the body (synchronous; a function's error is in
/// `x-fc-error-type`), 202 (`x-fc-invocation-type: Async`), 409 for a repeated task id.
pub(crate) async fn answer(cloud: &Cloud, fc: Option<&Fc>, call: &Call) -> Answer {
    let caller = match cloud.look(|world, now| world.authenticate(now, call)) {
        Ok(caller) => caller,
        Err(refused) => return error(refused.status, &refused.code, &refused.message),
    };
    let named =
        call.path.strip_prefix("/2023-03-30/functions/").and_then(|rest| rest.strip_suffix("/invocations"));
    let Some(name) = named else {
        return error(404, "InvalidAction.NotFound", "Only InvokeFunction is in the local cloud.");
    };
    if call.method != "POST" {
        return error(405, "UnsupportedHTTPMethod", "InvokeFunction is a POST.");
    }
    let Some(fc) =
        fc.filter(|fc| fc.function().name == name && fc.function().account_id == caller.account_id)
    else {
        return error(404, "FunctionNotFound", &format!("function {name} does not exist"));
    };
    let function = fc.function();
    let arn = format!("acs:fc:{}:{}:functions/{name}", function.region_id, function.account_id);
    if !caller.allows("fc:InvokeFunction", &arn) {
        return error(
            403,
            "AccessDenied",
            &format!("the caller is not authorized to perform fc:InvokeFunction on {arn}"),
        );
    }
    let header = |name: &str| call.header(name).filter(|value| !value.is_empty());
    if header("x-fc-invocation-type").as_deref() == Some("Async") {
        if call.body.len() > 128 << 10 {
            return error(400, "EntityTooLarge", "an asynchronous payload has at most 128 KB");
        }
        let task_id = header("x-fc-async-task-id");
        return match fc.invoke_async(call.body.clone(), task_id).await {
            Some(request_id) => (202, vec![("x-fc-request-id".into(), request_id)], Vec::new()),
            None => error(409, "AsyncTaskAlreadyExists", "there was an asynchronous call with this task id"),
        };
    }
    // The invocation goes on although its caller may hang up.
    let (fc, body) = (fc.clone(), call.body.clone());
    let Ok(outcome) = tokio::spawn(async move { fc.invoke(body).await }).await else {
        return error(500, "InternalServerError", "the local platform failed");
    };
    if outcome.error_type == Some("ResourceThrottled") {
        return error(429, "ResourceThrottled", "no instance is free");
    }
    let mut headers = vec![
        ("x-fc-request-id".to_owned(), outcome.request_id),
        ("content-type".to_owned(), "application/octet-stream".to_owned()),
    ];
    headers.extend(outcome.error_type.map(|kind| ("x-fc-error-type".to_owned(), kind.to_owned())));
    if header("x-fc-log-type").as_deref() == Some("Tail") {
        let log = outcome.log.join("\n");
        let tail = &log.as_bytes()[log.len().saturating_sub(4096)..];
        headers.push(("x-fc-log-result".to_owned(), BASE64.encode(tail)));
    }
    (200, headers, outcome.body)
}
