//! What the cloud answers: a status and a JSON body, errors in the vendor's shape.

use std::time::Duration;

use serde_json::{Value, json};

/// An error as the API states it: HTTP status, `Code`, `Message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The vendor's code.
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl ApiError {
    /// An error of this status and code.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// The caller's identity does not allow `action` on `resource` (ECS).
    pub fn forbidden(action: &str, resource: &str) -> Self {
        Self::new(
            403,
            "Forbidden.RAM",
            format!("User not authorized to operate on the specified resource: {action} on {resource}."),
        )
    }

    /// Nothing stands in the way of what was asked for, and nothing is done.
    pub fn dry_run() -> Self {
        Self::new(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")
    }

    /// The resource that parameter `name` points to is not there, e.g. `InvalidDiskId.NotFound`.
    pub fn not_found(name: &str, id: &str) -> Self {
        Self::new(
            404,
            format!("Invalid{name}.NotFound"),
            format!("The specified {name} {id} does not exist."),
        )
    }
}

/// How the answer travels; everything but [`Delivery::Now`] comes from a setting or a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Now,
    /// Late.
    After(Duration),
    /// Never: the connection stays open.
    Hang,
    /// Never: the connection is closed.
    Drop,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body, `RequestId` included.
    pub body: Value,
    /// The root element where the caller did not ask for JSON: the gateway's default is XML.
    pub xml_root: Option<String>,
    /// When and whether it arrives.
    pub delivery: Delivery,
}

impl Reply {
    /// An answer of `body` (an object) with the request's id, or the vendor's error body.
    pub(super) fn new(result: Result<Value, ApiError>, request_id: &str, host: &str) -> Self {
        let (status, body) = match result {
            Ok(mut body) => {
                body["RequestId"] = request_id.into();
                (200, body)
            }
            Err(error) => (
                error.status,
                json!({
                    "RequestId": request_id, "HostId": host, "Code": error.code, "Message": error.message,
                    "Recommend": format!("https://api.aliyun.com/troubleshoot?q={}", error.code),
                }),
            ),
        };
        Self { status, body, xml_root: None, delivery: Delivery::Now }
    }

    /// Content type and text of the body as it goes over the wire.
    pub fn rendered(&self) -> (&'static str, String) {
        match &self.xml_root {
            None => ("application/json;charset=utf-8", self.body.to_string()),
            Some(root) => {
                let mut text = String::from("<?xml version='1.0' encoding='UTF-8'?>");
                write_xml(&mut text, root, &self.body);
                ("text/xml;charset=utf-8", text)
            }
        }
    }

    /// `Code` of an error.
    pub fn code(&self) -> Option<&str> {
        self.body["Code"].as_str()
    }
}

fn write_xml(out: &mut String, name: &str, value: &Value) {
    if let Value::Array(items) = value {
        return items.iter().for_each(|item| write_xml(out, name, item));
    }
    out.push_str(&format!("<{name}>"));
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| write_xml(out, name, value)),
        Value::String(text) => {
            out.push_str(&text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
        }
        Value::Null => {}
        other => out.push_str(&other.to_string()),
    }
    out.push_str(&format!("</{name}>"));
}

/// Cuts one page out of a list and names the token of the next (`""` at the end).
///
/// # Errors
/// `InvalidParameter.NextToken` for a token that this cloud did not hand out.
pub(super) fn page<T>(all: Vec<T>, size: usize, token: Option<&str>) -> Result<(Vec<T>, String), ApiError> {
    let bad = || ApiError::new(400, "InvalidParameter.NextToken", "The specified NextToken is not valid.");
    let start = match token {
        None => 0,
        Some(token) => {
            let hex = token.strip_prefix("AAAAA").ok_or_else(bad)?;
            usize::from_str_radix(hex, 16).map_err(|_| bad())?
        }
    };
    if start > 0 && start >= all.len() {
        return Ok((Vec::new(), String::new()));
    }
    let more = all.len() > start + size;
    let next = if more { format!("AAAAA{:08x}", start + size) } else { String::new() };
    Ok((all.into_iter().skip(start).take(size).collect(), next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_complete_and_do_not_overlap() {
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let (items, next) = page((0..25).collect(), 10, token.as_deref()).unwrap();
            seen.extend(items);
            if next.is_empty() {
                break;
            }
            token = Some(next);
        }
        assert_eq!(seen, (0..25).collect::<Vec<_>>());
        assert_eq!(page(vec![1], 10, Some("made-up")).unwrap_err().code, "InvalidParameter.NextToken");
    }

    #[test]
    fn who_does_not_ask_for_json_gets_xml() {
        let body = json!({ "Regions": { "Region": [ { "RegionId": "a" }, { "RegionId": "b&c", "N": 1 } ] } });
        let mut reply = Reply::new(Ok(body), "R", "h");
        assert!(reply.rendered().1.starts_with('{'));
        reply.xml_root = Some("DescribeRegionsResponse".into());
        let wanted = "<?xml version='1.0' encoding='UTF-8'?><DescribeRegionsResponse><Regions><Region><RegionId>a</RegionId></Region>\
                      <Region><RegionId>b&amp;c</RegionId><N>1</N></Region></Regions><RequestId>R</RequestId></DescribeRegionsResponse>";
        assert_eq!(reply.rendered(), ("text/xml;charset=utf-8", wanted.to_owned()));
    }

    #[test]
    fn errors_have_the_vendors_body() {
        let reply = Reply::new(Err(ApiError::not_found("DiskId", "d-1")), "R", "ecs.cn-x.aliyuncs.com");
        assert_eq!((reply.status, reply.code()), (404, Some("InvalidDiskId.NotFound")));
        assert_eq!(reply.body["HostId"], "ecs.cn-x.aliyuncs.com");
    }
}
