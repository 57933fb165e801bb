//! One authenticated call, and what its caller may do.

use std::sync::Arc;

use jiff::Timestamp;

use super::identity::Principal;
use super::policy::Asked;
use super::reply::ApiError;
use super::tag::Tags;

/// One authenticated call.
pub(crate) struct Context {
    pub(super) now: Timestamp,
    pub(super) caller: Arc<Principal>,
}

impl Context {
    pub(super) fn arn(&self, region: &str, kind: &str, id: &str) -> String {
        format!("acs:ecs:{region}:{}:{kind}/{id}", self.caller.account_id)
    }

    /// Whether the caller may do it on a resource with these tags.
    pub(super) fn may(&self, action: &str, resource: &str, tags: &Tags) -> bool {
        self.caller.may(&Asked { action, resource, tags, sent: &Tags::default() })
    }

    pub(super) fn require(&self, action: &str, resource: &str) -> Result<(), ApiError> {
        self.require_on(action, resource, &Tags::default())
    }

    /// As `require`, for a resource that has these tags.
    pub(super) fn require_on(&self, action: &str, resource: &str, tags: &Tags) -> Result<(), ApiError> {
        self.require_asked(&Asked { action, resource, tags, sent: &Tags::default() })
    }

    /// As `require`, for a call that brings tags.
    pub(super) fn require_asked(&self, asked: &Asked) -> Result<(), ApiError> {
        if self.caller.may(asked) { Ok(()) } else { Err(ApiError::forbidden(asked.action, asked.resource)) }
    }
}
