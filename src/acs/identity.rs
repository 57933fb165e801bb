//! Assumed roles: temporary credentials by STS AssumeRole, kept until shortly before they expire, refreshed by
//! one caller while the others wait for it.
//!
//! Old and new tokens are valid side by side, so a refresh never disturbs calls under way. Source of the limits:
//! <https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole>.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::call::{Call, Kind};
use super::client::Client;
use super::credentials::Credentials;
use super::endpoint::Product;
use super::error::Error;
use crate::secret::Secret;

/// The Security Token Service.
pub static STS: Product = Product {
    name: "sts",
    version: "2015-04-01",
    public: "sts.{region}.aliyuncs.com",
    vpc: "sts-vpc.{region}.aliyuncs.com",
};

/// Temporary credentials are refreshed when less than this is left, and up to a minute earlier by chance.
const EARLY: SignedDuration = SignedDuration::from_mins(5);

/// A role to assume. Everything in it is part of the session, so sessions are shared by equal roles only: give it a
/// session name that stays the same from run to run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Role {
    arn: String,
    policy: Option<String>,
    external_id: Option<String>,
    session_name: String,
    duration: Duration,
}

/// A session policy longer than STS takes; make it coarser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session policy has {length} characters, STS takes 2048: name fewer resources")]
pub struct PolicyTooLong {
    /// Its characters.
    pub length: usize,
}

impl Role {
    /// `arn` is `acs:ram::<account>:role/<name>`. The session name is what audit logs show; it is made fit for
    /// STS: letters, digits and `.@-_`, 2 to 32 of them (newer pages allow 64). Sessions last an hour, which
    /// every role allows.
    pub fn new(arn: &str, session_name: &str) -> Self {
        let fit = |c: char| if c.is_ascii_alphanumeric() || ".@-_".contains(c) { c } else { '-' };
        let name: String = session_name.chars().map(fit).take(32).collect();
        Self {
            arn: arn.to_owned(),
            policy: None,
            external_id: None,
            session_name: format!("{name:-<2}"),
            duration: Duration::from_secs(3600),
        }
    }

    /// Narrows the session: it may do what role and policy both allow.
    ///
    /// # Errors
    /// When the policy is longer than 2048 characters.
    pub fn narrowed(mut self, policy: &str) -> Result<Self, PolicyTooLong> {
        let length = policy.chars().count();
        if length > 2048 {
            return Err(PolicyTooLong { length });
        }
        self.policy = Some(policy.to_owned());
        Ok(self)
    }

    /// For a role of another account whose trust policy asks for it.
    pub fn external_id(mut self, id: &str) -> Self {
        self.external_id = Some(id.to_owned());
        self
    }

    /// How long a session lasts: 900 s (anything shorter becomes that) up to the role's MaxSessionDuration.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration.max(Duration::from_secs(900));
        self
    }

    fn call(&self, region_id: &str) -> Call {
        Call::new(&STS, "AssumeRole", region_id, Kind::Read)
            .on(&self.arn)
            .param("RoleArn", &self.arn)
            .param("RoleSessionName", &self.session_name)
            .param("DurationSeconds", self.duration.as_secs())
            .maybe("Policy", self.policy.as_deref())
            .maybe("ExternalId", self.external_id.as_deref())
    }
}

/// Assumes the role now.
///
/// # Errors
/// Those of the call, or an answer without credentials.
async fn assume(client: &Client, role: &Role) -> Result<Credentials, Error> {
    let answer = client.call(&role.call(client.region_id())).await?;
    let given = &answer["Credentials"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let read = || {
        Some(Credentials {
            access_key_id: text(&given["AccessKeyId"])?,
            access_key_secret: Secret::new(text(&given["AccessKeySecret"])?),
            security_token: Some(Secret::new(text(&given["SecurityToken"])?)),
            expires_at: Some(text(&given["Expiration"])?.parse().ok()?),
        })
    };
    read().ok_or_else(|| {
        let mut error =
            Error::invalid("AssumeRole", &role.arn, "the answer lacks credentials or their Expiration");
        error.code = "answer.malformed".to_owned();
        error.request_id = answer["RequestId"].as_str().map(str::to_owned);
        error
    })
}

/// Credentials and the time from which they count as old.
struct Session {
    credentials: Credentials,
    expires_at: Timestamp,
    refresh_at: Timestamp,
}

type Slot = Arc<tokio::sync::Mutex<Option<Session>>>;

/// The sessions of a process; they outlive the invocation, so that a warm function assumes its role once an hour.
#[derive(Default)]
pub struct Identities(Mutex<HashMap<Role, Slot>>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities")
    }
}

impl Identities {
    /// Credentials that live for `at_least`, from the cache or by `client`. Callers for one role wait for each
    /// other, so that one AssumeRole serves all. When a refresh fails, a session that lives long enough is used.
    pub(super) async fn get(
        &self,
        client: &Client,
        role: &Role,
        at_least: SignedDuration,
    ) -> Result<Credentials, Error> {
        let slot = self.slot(role, client.clock().now());
        let mut session = slot.lock().await;
        let now = client.clock().now();
        let lasting = |session: &&Session| session.expires_at.duration_since(now) >= at_least;
        if let Some(fresh) = session.as_ref().filter(lasting).filter(|session| now < session.refresh_at) {
            return Ok(fresh.credentials.clone());
        }
        match assume(client, role).await {
            Ok(credentials) => {
                let expires_at = credentials.expires_at.unwrap_or(now);
                let early = EARLY + SignedDuration::from_millis((client.clock().jitter() * 60_000.0) as i64);
                *session = Some(Session {
                    credentials: credentials.clone(),
                    expires_at,
                    refresh_at: expires_at - early,
                });
                Ok(credentials)
            }
            Err(error) => match session.as_ref().filter(lasting).filter(|old| now < old.expires_at) {
                Some(old) => {
                    tracing::warn!(%error, "the role could not be assumed afresh; the old session is still good");
                    Ok(old.credentials.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Drops a session that the cloud refused, so that the next call assumes the role afresh.
    pub(super) fn forget(&self, role: &Role) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(role);
    }

    /// The role's slot; those whose session has expired are dropped on the way.
    fn slot(&self, role: &Role, now: Timestamp) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        slots.retain(|_, slot| {
            let alive = |slot: &Slot| match slot.try_lock() {
                Ok(session) => session.as_ref().is_some_and(|session| now < session.expires_at),
                Err(_) => true,
            };
            // Somebody may hold the slot without having locked it yet.
            Arc::strong_count(slot) > 1 || alive(slot)
        });
        slots.entry(role.clone()).or_default().clone()
    }
}
