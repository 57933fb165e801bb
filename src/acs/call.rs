//! One OpenAPI call before it is signed. RPC calls carry everything in the query of a POST with an empty body, as
//! the vendor's own clients do.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;

use super::endpoint::Product;

/// What a repeat of the call would mean; decides which failures may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing.
    Read,
    /// A write that may be repeated: by its ClientToken the cloud answers a repeat with the first outcome, or it
    /// sets what is set already.
    Idempotent,
    /// A write that a repeat would do twice: repeated only when it surely was not processed.
    Once,
}

/// A call: what, where, and how it may be repeated.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose API.
    pub product: &'static Product,
    /// `x-acs-action`.
    pub action: &'static str,
    /// Chooses the endpoint.
    pub region_id: String,
    /// What an error names as the thing that was acted on.
    pub resource: String,
    /// What a repeat would mean.
    pub kind: Kind,
    /// Percent-encoded; `/` for RPC.
    pub path: String,
    /// Raw names and values.
    pub query: Vec<(String, String)>,
    /// Further headers, names in lower case; `content-type` and `x-acs-*` among them are signed.
    pub headers: Vec<(String, String)>,
    /// Empty for RPC.
    pub body: Vec<u8>,
    /// Whether an answer that is not JSON is an error.
    pub json: bool,
    /// For one attempt, connection to last byte. Default 15 s.
    pub timeout: Duration,
    /// No attempt starts, and none runs on, after this time; the client's deadline counts besides.
    pub deadline: Option<Timestamp>,
}

impl Call {
    /// An RPC call.
    pub fn new(product: &'static Product, action: &'static str, region_id: &str, kind: Kind) -> Self {
        Self {
            product,
            action,
            region_id: region_id.to_owned(),
            resource: region_id.to_owned(),
            kind,
            path: "/".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
            json: true,
            timeout: Duration::from_secs(15),
            deadline: None,
        }
    }

    /// Names what is acted on, for errors.
    pub fn on(mut self, resource: impl Display) -> Self {
        self.resource = resource.to_string();
        self
    }

    /// A parameter. Booleans print as `true` and `false`, which every gateway takes.
    pub fn param(mut self, name: &str, value: impl Display) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// A parameter that is left out when there is no value.
    pub fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.param(name, value),
            None => self,
        }
    }

    /// `Name.1`, `Name.2`, …
    pub fn list(mut self, name: &str, values: &[String]) -> Self {
        self.query.extend(values.iter().zip(1..).map(|(value, n)| (format!("{name}.{n}"), value.clone())));
        self
    }

    /// `Tag.1.Key`, `Tag.1.Value`, …
    pub fn tags(mut self, tags: &[(String, String)]) -> Self {
        for ((key, value), n) in tags.iter().zip(1..) {
            self.query.push((format!("Tag.{n}.Key"), key.clone()));
            self.query.push((format!("Tag.{n}.Value"), value.clone()));
        }
        self
    }

    /// No attempt after this time.
    pub fn until(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acs::STS;

    #[test]
    fn lists_and_tags_are_flattened_from_one() {
        let call = Call::new(&STS, "X", "r", Kind::Read)
            .list("DiskId", &["d-1".into(), "d-2".into()])
            .tags(&[("k".into(), String::new())])
            .maybe("Absent", None::<&str>)
            .param("Flag", true);
        let pairs: Vec<_> = call.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(pairs, ["DiskId.1=d-1", "DiskId.2=d-2", "Tag.1.Key=k", "Tag.1.Value=", "Flag=true"]);
    }
}
