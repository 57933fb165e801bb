//! Who calls: access keys, RAM roles, STS sessions, and the proof of a request's signature.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::params::{Params, invalid};
use super::policy::{Asked, Policy};
use super::reply::ApiError;
use super::tag::Tags;
use super::trust::Trust;
use super::{Call, Context, World};
use crate::local::verify::Claim;
use crate::secret::Secret;

/// Requests have to be this fresh, and a nonce is remembered this long.
const WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// A user, or a session of a role.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The account that it acts in.
    pub account_id: String,
    /// `acs:ram::1:user/name` or `acs:ram::1:assumed-role/name/session`.
    pub arn: String,
    id: String,
    role_id: Option<String>,
    policies: Vec<Policy>, // all of them have to allow
}

impl Principal {
    /// Whether its policies, session policy included, allow `action` on `resource`, which has no tags.
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let none = Tags::default();
        self.may(&Asked { action, resource, tags: &none, sent: &none })
    }

    /// Whether its policies, session policy included, allow it.
    pub fn may(&self, asked: &Asked) -> bool {
        self.policies.iter().all(|policy| policy.allows(asked))
    }
}

/// A RAM role.
#[derive(Debug, Clone, Default)]
pub struct Role {
    /// The account it belongs to.
    pub account_id: String,
    /// Its name.
    pub name: String,
    /// Who may assume it.
    pub trust: Trust,
    /// What its trust policy asks callers to send as ExternalId.
    pub external_id: Option<String>,
    /// What it may do; a change takes hold of its sessions at once.
    pub policy: Policy,
}

impl Role {
    /// `acs:ram::ACCOUNT:role/NAME`.
    pub fn arn(&self) -> String {
        format!("acs:ram::{}:role/{}", self.account_id, self.name)
    }
}

/// Temporary credentials.
#[derive(Debug, Clone)]
pub struct Session {
    /// `STS.…`
    pub access_key_id: String,
    /// Its secret.
    pub access_key_secret: Secret,
    /// The token that goes with them.
    pub security_token: Secret,
    /// The end of their life.
    pub expiration: Timestamp,
}

#[derive(Debug, Clone)]
struct Key {
    secret: Secret,
    session: Option<(Secret, Timestamp)>,
    principal: Arc<Principal>,
    role: Option<(String, Option<Policy>)>, // of a session: whose policy counts now, and what narrows it
}

#[derive(Debug, Default)]
pub(super) struct Identities {
    keys: BTreeMap<String, Key>,
    roles: BTreeMap<String, Role>,
    nonces: BTreeSet<(String, String)>,
    nonces_by_age: VecDeque<(Timestamp, (String, String))>,
}

impl World {
    /// Adds a RAM user with one access key.
    pub fn add_user(&mut self, account_id: &str, name: &str, key: (&str, &str), policy: Policy) {
        let id = format!("2{}", self.dice.below(99_999_999_999_999_999));
        let arn = format!("acs:ram::{account_id}:user/{name}");
        let principal =
            Principal { account_id: account_id.into(), arn, id, role_id: None, policies: vec![policy] };
        let (secret, principal) = (Secret::new(key.1), Arc::new(principal));
        let key_of = Key { secret, session: None, principal, role: None };
        self.identities.keys.insert(key.0.into(), key_of);
    }

    /// Adds a RAM role, or puts it in the place of the one of its name.
    pub fn add_role(&mut self, role: Role) {
        self.identities.roles.insert(role.arn(), role);
    }

    /// Credentials of a role's session, as a service (`fc.aliyuncs.com`) gets them; `None`: there is no such role, or it
    /// does not trust the service.
    pub fn service_session(
        &mut self,
        now: Timestamp,
        service: &str,
        role_arn: &str,
        name: &str,
        seconds: u32,
    ) -> Option<Session> {
        self.identities.roles.get(role_arn).filter(|role| role.trust.serves(service))?;
        self.session(now, role_arn, name, seconds, None)
    }

    fn session(
        &mut self,
        now: Timestamp,
        role_arn: &str,
        name: &str,
        seconds: u32,
        narrowed: Option<Policy>,
    ) -> Option<Session> {
        let role = self.identities.roles.get(role_arn)?;
        let role_id = format!(
            "3{:017}",
            role.name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31) + byte as u64)
                % 100_000_000_000_000_000
        );
        let principal = Principal {
            account_id: role.account_id.clone(),
            arn: format!("acs:ram::{}:assumed-role/{}/{name}", role.account_id, role.name),
            id: format!("{role_id}:{name}"),
            role_id: Some(role_id),
            policies: std::iter::once(role.policy.clone()).chain(narrowed.clone()).collect(),
        };
        let session = Session {
            access_key_id: format!("STS.N{}", self.dice.word(23)),
            access_key_secret: Secret::new(self.dice.word(44)),
            security_token: Secret::new(format!("CAIS{}+/{}==", self.dice.word(400), self.dice.word(120))),
            expiration: now + SignedDuration::from_secs(seconds.into()),
        };
        let secret = session.access_key_secret.clone();
        let key = Key {
            secret,
            session: Some((session.security_token.clone(), session.expiration)),
            principal: Arc::new(principal),
            role: Some((role_arn.to_owned(), narrowed)),
        };
        self.identities.keys.insert(session.access_key_id.clone(), key);
        Some(session)
    }

    /// A session of a role, for a call that needs no signature.
    pub(super) fn principal(&mut self, now: Timestamp, role_arn: &str) -> Option<Arc<Principal>> {
        let session = self.service_session(now, "ecs.aliyuncs.com", role_arn, "guest", 900)?;
        Some(self.identities.keys[&session.access_key_id].principal.clone())
    }

    /// Proves who sent a request.
    ///
    /// # Errors
    /// The gateway's codes, from `InvalidAccessKeyId.NotFound` to `SignatureNonceUsed`.
    pub fn authenticate(&mut self, now: Timestamp, call: &Call) -> Result<Arc<Principal>, ApiError> {
        let error = |status, code: &str, message: &str| Err(ApiError::new(status, code, message));
        let claim = Claim::read(call).map_err(|unsigned| ApiError::new(400, unsigned.0, unsigned.1))?;
        let Some(key) = self.identities.keys.get(&claim.access_key_id) else {
            return error(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.");
        };
        match (&key.session, &claim.security_token) {
            (Some(_), None) => {
                return error(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.");
            }
            (Some((token, expires)), Some(sent)) => {
                if token.expose() != sent {
                    return error(
                        400,
                        "InvalidSecurityToken.MismatchWithAccessKey",
                        "Specified SecurityToken mismatch with the AccessKey.",
                    );
                }
                if *expires <= now {
                    return error(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.");
                }
            }
            (None, Some(_)) => {
                return error(400, "InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.");
            }
            (None, None) => {}
        }
        let Ok(date) = claim.date.parse::<Timestamp>() else {
            return error(
                400,
                "InvalidTimeStamp.Format",
                "Specified time stamp or date value is not well formatted.",
            );
        };
        if now.duration_since(date).abs() > WINDOW {
            return error(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.");
        }
        if !claim.matches(key.secret.expose()) {
            let why = format!(
                "Specified signature is not matched with our calculation. server string to sign is:{}",
                claim.string_to_sign
            );
            return error(400, "SignatureDoesNotMatch", &why);
        }
        let caller = match &key.role {
            None => key.principal.clone(),
            // Without its role a session may do nothing.
            Some((arn, narrowed)) => {
                let policy =
                    self.identities.roles.get(arn).map(|role| role.policy.clone()).unwrap_or_default();
                let policies = std::iter::once(policy).chain(narrowed.clone()).collect();
                Arc::new(Principal { policies, ..(*key.principal).clone() })
            }
        };
        let nonce = (claim.access_key_id, claim.nonce);
        let Identities { nonces, nonces_by_age, .. } = &mut self.identities;
        while nonces_by_age.front().is_some_and(|(seen, _)| now.duration_since(*seen) > WINDOW + WINDOW) {
            if let Some((_, old)) = nonces_by_age.pop_front() {
                nonces.remove(&old);
            }
        }
        if !nonces.insert(nonce.clone()) {
            return error(400, "SignatureNonceUsed", "Specified signature nonce was used already.");
        }
        nonces_by_age.push_back((now, nonce));
        Ok(caller)
    }

    pub(super) fn assume_role(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let arn = params.required("RoleArn")?;
        let name = params.required("RoleSessionName")?;
        let seconds = params.number("DurationSeconds")?.unwrap_or(3600);
        let policy = params.text("Policy", 1..=2048)?;
        let external_id = params.text("ExternalId", 2..=1224)?;
        params.finish()?;
        if !(2..=64).contains(&name.len())
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || ".@-_".contains(c))
        {
            return Err(invalid("RoleSessionName", "2 to 64 letters, digits and .@-_ are allowed"));
        }
        if !(900..=3600).contains(&seconds) {
            return Err(invalid(
                "DurationSeconds",
                "it has to be within 900 and the role's MaxSessionDuration, 3600",
            ));
        }
        let narrowed = policy.map(|text| Policy::parse(&text)).transpose();
        let narrowed = narrowed.map_err(|why| invalid("PolicyGrammar", why))?;
        let denied = |why| ApiError::new(403, "NoPermission", why);
        if !context.caller.allows("sts:AssumeRole", &arn) {
            return Err(denied("You are not authorized to do this action. You should be authorized by RAM."));
        }
        match self.identities.roles.get(&arn) {
            None => {
                return Err(ApiError::new(
                    404,
                    "EntityNotExist.Role",
                    format!("The role not exists: {arn}."),
                ));
            }
            Some(role) if !role.trust.admits(&context.caller.arn) => {
                return Err(denied("The role's trust policy does not name the caller."));
            }
            Some(role) if role.external_id.is_some() && role.external_id != external_id => {
                return Err(denied("The ExternalId is not the one that the role's trust policy asks for."));
            }
            Some(_) => {}
        }
        let Some(session) = self.session(context.now, &arn, &name, seconds as u32, narrowed) else {
            return Err(ApiError::new(500, "InternalError", "The role is gone."));
        };
        let principal = &self.identities.keys[&session.access_key_id].principal;
        Ok(json!({
            "Credentials": {
                "AccessKeyId": session.access_key_id, "AccessKeySecret": session.access_key_secret.expose(),
                "SecurityToken": session.security_token.expose(), "Expiration": super::seconds(session.expiration),
            },
            "AssumedRoleUser": { "Arn": principal.arn, "AssumedRoleId": principal.id },
        }))
    }

    pub(super) fn get_caller_identity(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        params.finish()?;
        let who = &context.caller;
        let mut answer = json!({ "AccountId": who.account_id, "Arn": who.arn, "PrincipalId": who.id });
        match &who.role_id {
            Some(role_id) => {
                answer["IdentityType"] = "AssumedRoleUser".into();
                answer["RoleId"] = role_id.as_str().into();
            }
            None => {
                answer["IdentityType"] = "RAMUser".into();
                answer["UserId"] = who.id.as_str().into();
            }
        }
        Ok(answer)
    }
}
