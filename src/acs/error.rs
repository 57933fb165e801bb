//! What went wrong with a call, in full: action, resource, HTTP status, the cloud's code, message and RequestId,
//! attempts, elapsed time, whether the call may have happened all the same, and a cure. Never a secret.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde_json::Value;

use super::transport::Reply;
use crate::ram;
use crate::report::ErrorReport;

/// An error of a call; its fields are those of [`Detail`].
#[derive(Debug, Clone)]
pub struct Error(Box<Detail>);

/// The story of a failed call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// What was attempted, e.g. `CreateSnapshotGroup`.
    pub action: String,
    /// On which instance, disk, role, …
    pub resource: String,
    /// The product as RAM calls it, e.g. `ecs`; empty for a call that was never made.
    pub product: String,
    /// Where.
    pub region_id: String,
    /// Of the endpoint.
    pub host: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The cloud's `Code`, or one of ours: `network.unreachable`, `network.untrusted`, `network.no_answer`,
    /// `answer.malformed`, `request.invalid`, `request.deadline`.
    pub code: String,
    /// The cloud's `Message`, or ours.
    pub message: String,
    /// The cloud's.
    pub request_id: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
    /// From the first attempt to giving up.
    pub elapsed: Duration,
    /// A write that may have happened although it seemed to fail: look before repeating it.
    pub unknown_outcome: bool,
}

impl Error {
    /// Wraps the story.
    pub fn new(detail: Detail) -> Self {
        Self(Box::new(detail))
    }

    /// For a call that was never sent because what it asks for cannot be right.
    pub fn invalid(action: &str, resource: &str, message: impl Into<String>) -> Self {
        Self::new(Detail {
            action: action.into(),
            resource: resource.into(),
            code: "request.invalid".into(),
            message: message.into(),
            ..Detail::default()
        })
    }

    /// Whether the cloud said that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code.contains(".NotFound") || self.code.starts_with("EntityNotExist")
    }

    /// Whether a rate limit was the last word; it opens again in the next minute.
    pub fn is_throttled(&self) -> bool {
        self.code.starts_with("Throttling") || self.status == Some(429)
    }

    /// What to do about it, for the codes that are well known.
    pub fn cure(&self) -> Option<String> {
        let code = self.code.as_str();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| code.starts_with(prefix));
        let cure = if is_denied(code) {
            let action = format!("{}:{}", self.product, self.action);
            let addition = ram::addition(&action, &self.region_id, &self.resource);
            let trust = if self.action == "AssumeRole" {
                ", and name the caller in the trust policy of the role that is assumed"
            } else {
                ""
            };
            return Some(format!(
                "allow {action} on {} for the role that calls: {addition}{trust}",
                self.resource
            ));
        } else if starts(&["InvalidTimeStamp"]) {
            "set the clock of the machine that signs: it is more than 15 minutes off, or the request was signed too early"
        } else if self.is_throttled() {
            "spread the runs of a fleet over more minutes, or raise the limit in Quota Center > API Rate Limits"
        } else if starts(&["SignatureDoesNotMatch", "IncompleteSignature", "InvalidAccessKeySecret"]) {
            "check that access key id and secret belong together"
        } else if starts(&["InvalidAccessKeyId", "InvalidSecurityToken", "MissingSecurityToken"]) {
            "use an active key; temporary keys (STS.…) need their security token and expire"
        } else if starts(&["EntityNotExist.Role"]) {
            "check the account id and the name in the role's ARN"
        } else if code.starts_with("IdempotentParameterMismatch") {
            "an earlier call used this ClientToken: look up what it made instead of repeating"
        } else if code == "network.unreachable" {
            "check the route, DNS and security group to the endpoint; inside a VPC without internet set APPSNAP_NETWORK=vpc"
        } else if code == "network.untrusted" {
            "add the certificate authority of the endpoint or proxy to the file named by APPSNAP_CA_BUNDLE"
        } else if self.is_not_found() {
            "check the id and the region"
        } else if self.unknown_outcome {
            "look whether it happened before repeating it"
        } else {
            return None;
        };
        Some(cure.to_owned())
    }

    /// The message with what happened around it.
    fn story(&self) -> String {
        let mut facts = Vec::new();
        facts.extend(self.status.map(|status| format!("HTTP {status}")));
        if !self.host.is_empty() {
            facts.push(self.host.clone());
        }
        if self.attempts > 0 {
            let plural = if self.attempts == 1 { "" } else { "s" };
            facts.push(format!("{} attempt{plural} in {:.1} s", self.attempts, self.elapsed.as_secs_f64()));
        }
        if self.unknown_outcome {
            facts.push("outcome unknown: it may have happened".to_owned());
        }
        if facts.is_empty() {
            self.message.clone()
        } else {
            format!("{} ({})", self.message, facts.join(", "))
        }
    }
}

impl Deref for Error {
    type Target = Detail;
    fn deref(&self) -> &Detail {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Detail {
        &mut self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {}: {}", self.action, self.resource, self.code, self.story())?;
        if let Some(id) = &self.request_id {
            write!(f, ", RequestId {id}")?;
        }
        self.cure().map_or(Ok(()), |cure| write!(f, "; {cure}"))
    }
}

impl std::error::Error for Error {}

impl From<&Error> for ErrorReport {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code.clone(),
            message: error.story(),
            action: Some(error.action.clone()),
            resource: Some(error.resource.clone()),
            request_id: error.request_id.clone(),
            cure: error.cure(),
        }
    }
}

/// Whether a code of the cloud says that the caller has no right.
pub fn is_denied(code: &str) -> bool {
    // `Forbbiden.SubUser` is the vendor's spelling; `AccessDenied` is Function Compute's.
    let known = [
        "Forbidden",
        "Forbbiden",
        "NoPermission",
        "ImplicitDeny",
        "ExplicitDeny",
        "AuthenticationFail.NoPermission",
        "InvalidAction.Unauthor",
        "AccessDenied",
    ];
    known.iter().any(|start| code.starts_with(start))
}

/// What the cloud says in an answer that is not a success: (code, message, RequestId). JSON in both spellings
/// that gateways use, XML, or whatever a proxy in between wrote.
pub(super) fn read_refusal(reply: &Reply) -> (String, String, Option<String>) {
    let text = String::from_utf8_lossy(&reply.body);
    let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let field = |names: [&str; 2]| {
        let in_json = || names.iter().find_map(|name| json[*name].as_str()).map(str::to_owned);
        in_json().or_else(|| between(&text, names[0])).filter(|value| !value.is_empty())
    };
    let mut message = field(["Message", "message"]).unwrap_or_else(|| excerpt(&text));
    let denied = &json["AccessDeniedDetail"];
    for name in ["AuthAction", "NoPermissionType"] {
        if let Some(value) = denied[name].as_str() {
            message.push_str(&format!("; {name} {value}"));
        }
    }
    let code = field(["Code", "code"]).unwrap_or_else(|| format!("HTTP {}", reply.status));
    let id =
        field(["RequestId", "requestId"]).or_else(|| reply.header("x-acs-request-id").map(str::to_owned));
    (code, message, id)
}

/// The text of the first such XML element.
fn between(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
}

/// The beginning of a body that is in no known form, fit for one line.
fn excerpt(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if line.trim().is_empty() {
        "empty answer".to_owned()
    } else {
        format!("not an API answer: {}", line.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> (String, String, Option<String>) {
        read_refusal(&Reply::new(status, body))
    }

    #[test]
    fn refusals_are_read_in_every_known_form() {
        let expected = ("Forbidden.RAM".to_owned(), "denied".to_owned(), Some("R-1".to_owned()));
        let forms = [
            r#"{"RequestId":"R-1","HostId":"h","Code":"Forbidden.RAM","Message":"denied"}"#,
            r#"{"requestId":"R-1","code":"Forbidden.RAM","message":"denied"}"#,
            "<?xml version='1.0'?><Error><RequestId>R-1</RequestId><Code>Forbidden.RAM</Code><Message>denied</Message></Error>",
        ];
        for form in forms {
            assert_eq!(refusal(403, form), expected, "{form}");
        }
        let (code, message, id) = refusal(502, "<html>\nBad Gateway</html>");
        assert_eq!((code.as_str(), id), ("HTTP 502", None));
        assert_eq!(message, "not an API answer: <html> Bad Gateway</html>");
        assert_eq!(refusal(500, "").1, "empty answer");
    }

    #[test]
    fn an_error_tells_the_whole_story() {
        let error = Error::new(Detail {
            action: "CreateSnapshotGroup".into(),
            resource: "i-1".into(),
            product: "ecs".into(),
            region_id: "cn-hangzhou".into(),
            host: "ecs.cn-hangzhou.aliyuncs.com".into(),
            status: Some(403),
            code: "Forbidden.RAM".into(),
            message: "User not authorized.".into(),
            request_id: Some("R-1".into()),
            attempts: 2,
            elapsed: Duration::from_millis(1250),
            unknown_outcome: true,
        });
        assert_eq!(
            error.to_string(),
            "CreateSnapshotGroup on i-1: Forbidden.RAM: User not authorized. (HTTP 403, \
             ecs.cn-hangzhou.aliyuncs.com, 2 attempts in 1.2 s, outcome unknown: it may have happened), RequestId \
             R-1; allow ecs:CreateSnapshotGroup on i-1 for the role that calls: add {\"Effect\":\"Allow\",\"Action\":\
             \"ecs:CreateSnapshotGroup\",\"Resource\":[\"acs:ecs:cn-hangzhou:*:instance/i-1\",\
             \"acs:ecs:cn-hangzhou:*:disk/*\"]} to a policy of the role"
        );
        let report = ErrorReport::from(&error);
        assert_eq!((report.code.as_str(), report.request_id.as_deref()), ("Forbidden.RAM", Some("R-1")));
        assert!(report.cure.unwrap().starts_with("allow ecs:CreateSnapshotGroup on i-1"));
    }

    #[test]
    fn well_known_codes_have_a_cure() {
        let codes = [
            ("NoPermission", "trust policy"),
            ("Forbbiden.SubUser", r#""Effect":"Allow""#),
            ("AccessDenied", r#""Effect":"Allow""#),
            ("InvalidTimeStamp.Expired", "clock"),
            ("Throttling.User", "Quota Center"),
            ("InvalidSecurityToken.Expired", "expire"),
            ("network.unreachable", "APPSNAP_NETWORK"),
            ("network.untrusted", "APPSNAP_CA_BUNDLE"),
            ("InvalidDiskId.NotFound", "region"),
        ];
        for (code, word) in codes {
            let mut error = Error::invalid("AssumeRole", "role", "m");
            error.code = code.into();
            assert!(error.cure().unwrap().contains(word), "{code}");
        }
        assert_eq!(Error::invalid("A", "r", "m").cure(), None);
    }
}
