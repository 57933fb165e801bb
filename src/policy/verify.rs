//! The step that verifies a policy's groups, and the role that it takes.

use std::ops::RangeInclusive;

use super::fields::{Object, kind, quoted};
use super::request::role_arn;

/// When a group is verified, where, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// One of so many groups of an instance.
    pub every: u32,
    /// The instance that lends itself.
    pub instance_id: String,
    /// How long the work on it may take, seconds.
    pub limit: u32,
    /// `roles.verify`
    pub role_arn: String,
}

/// The longest the work may take: a function has a day, its credentials an hour or so less.
const SECONDS: RangeInclusive<u64> = 60..=7200;
const DEFAULT_SECONDS: u64 = 600;

pub(super) fn parse(top: &Object, verify: &Object, roles: &Object) -> Option<Verify> {
    let role = roles.checked("verify", role_arn);
    top.value("verify")?;
    let limit = verify.seconds("limitSeconds", DEFAULT_SECONDS, SECONDS);
    let every = match verify.value("every") {
        None => 7,
        Some(value) => match value.as_u64() {
            Some(every @ 1..=90) => every as u32,
            _ => {
                let got = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
                verify.problem("every", format!("must be a whole number of groups from 1 to 90, not {got}"));
                7
            }
        },
    };
    if verify.value("instanceId").is_none() {
        verify.problem("instanceId", "required: the instance to which copies are attached, e.g. \"i-…\"");
    }
    let instance_id = verify.checked("instanceId", instance_id);
    if roles.value("verify").is_none() {
        roles.problem("verify", "required by verify: the role with the rights of policies/verify.json");
    }
    Some(Verify { every, instance_id: instance_id?, limit: limit as u32, role_arn: role? })
}

fn instance_id(id: &str) -> Result<(), String> {
    let good = id.strip_prefix("i-").is_some_and(|rest| {
        (1..=60).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    if good { Ok(()) } else { Err(format!("must be an instance's id like i-…, not {}", quoted(id))) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::Request;

    fn parse(verify: Value, roles: Value) -> Result<Request, String> {
        let request =
            json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] }, "verify": verify, "roles": roles });
        Request::parse(&request).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn a_verification_names_its_instance_and_its_role() {
        let role = json!({ "verify": "acs:ram::1:role/appsnap-verify" });
        let verify = parse(json!({ "instanceId": "i-2" }), role.clone()).unwrap().verify.unwrap();
        assert_eq!((verify.every, verify.limit, &*verify.instance_id), (7, 600, "i-2"));
        assert_eq!(verify.role_arn, "acs:ram::1:role/appsnap-verify");
        assert_eq!(parse(Value::Null, role.clone()).unwrap().verify, None);
        for (verify, roles, said) in [
            (json!({ "every": 7 }), role.clone(), "verify.instanceId: required"),
            (json!({ "instanceId": "i-2" }), Value::Null, "roles.verify: required by verify"),
            (json!({ "instanceId": "x" }), role.clone(), "verify.instanceId: must be"),
            (json!({ "instanceId": "i-2", "every": 0 }), role.clone(), "verify.every: must be"),
            (json!({ "instanceId": "i-2", "limitSeconds": 7201 }), role, "verify.limitSeconds: must be"),
            (json!({ "instanceId": "i-2" }), json!({ "verify": "x" }), "roles.verify: must be"),
            (Value::Null, json!({ "retain": "acs:ram::1:role/x" }), "roles.retain: not supported yet"),
        ] {
            let told = parse(verify, roles).unwrap_err();
            assert!(told.contains(said), "{said}: {told}");
        }
    }
}
