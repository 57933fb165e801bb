//! Trust policies: who may assume a role.

use serde_json::Value;

use super::policy::{only, statements, strings};

/// A parsed trust document; the default trusts nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust(Vec<Trusted>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trusted {
    Anybody,
    Service(String),
    Ram(String),
}

impl Trust {
    /// Parses a document of version 1.
    ///
    /// # Errors
    /// A sentence that names the field; a Deny, a condition, or another kind of Principal is refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(statements(text, statement)?.into_iter().flatten().collect()))
    }

    /// Trusts every caller and service of this cloud.
    pub fn open() -> Self {
        Self(vec![Trusted::Anybody])
    }

    /// Whether a user or a session of a role is trusted, by its ARN.
    pub(super) fn admits(&self, caller: &str) -> bool {
        // acs:ram::1:assumed-role/name/session is the role's.
        let role = caller
            .split_once(":assumed-role/")
            .map(|(account, rest)| format!("{account}:role/{}", rest.split('/').next().unwrap_or_default()));
        let caller = role.as_deref().unwrap_or(caller);
        let account = caller.rsplit_once(':').map_or("", |(account, _)| account);
        self.0.iter().any(|one| match one {
            Trusted::Anybody => true,
            Trusted::Service(_) => false,
            Trusted::Ram(arn) => arn == caller || *arn == format!("{account}:root"),
        })
    }

    /// Whether a service is trusted, e.g. `fc.aliyuncs.com`.
    pub(super) fn serves(&self, service: &str) -> bool {
        self.0.iter().any(|one| match one {
            Trusted::Anybody => true,
            Trusted::Service(name) => name == service,
            Trusted::Ram(_) => false,
        })
    }
}

fn statement(value: &Value) -> Result<Vec<Trusted>, String> {
    only(value, &["Effect", "Action", "Principal"])?;
    if value["Effect"] != "Allow" || value["Action"] != "sts:AssumeRole" {
        return Err("a trust policy has to Allow sts:AssumeRole".into());
    }
    let principal = &value["Principal"];
    only(principal, &["RAM", "Service"]).map_err(|why| format!("Principal {why}"))?;
    let mut found = Vec::new();
    for kind in principal.as_object().into_iter().flatten().map(|(kind, _)| kind) {
        let make = if kind == "RAM" { Trusted::Ram } else { Trusted::Service };
        found.extend(strings(principal, kind)?.into_iter().map(make));
    }
    if found.is_empty() { Err("Principal has to name somebody".into()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(principal: &str) -> Result<Trust, String> {
        Trust::parse(&format!(
            r#"{{"Version":"1","Statement":[{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{principal}}}]}}"#
        ))
    }

    #[test]
    fn a_role_a_user_an_account_or_a_service_is_trusted_and_nobody_else() {
        let role = trust(r#"{"RAM":["acs:ram::1:role/fn"]}"#).unwrap();
        assert!(role.admits("acs:ram::1:assumed-role/fn/session"));
        for other in ["acs:ram::1:assumed-role/fn2/s", "acs:ram::2:assumed-role/fn/s", "acs:ram::1:user/fn"] {
            assert!(!role.admits(other), "{other}");
        }
        let account = trust(r#"{"RAM":"acs:ram::1:root"}"#).unwrap();
        assert!(account.admits("acs:ram::1:user/u") && account.admits("acs:ram::1:assumed-role/r/s"));
        assert!(!account.admits("acs:ram::2:user/u") && !account.serves("fc.aliyuncs.com"));
        let service = trust(r#"{"Service":["fc.aliyuncs.com"]}"#).unwrap();
        assert!(service.serves("fc.aliyuncs.com") && !service.serves("ecs.aliyuncs.com"));
        assert!(!service.admits("acs:ram::1:user/u"));
        assert!(!Trust::default().admits("acs:ram::1:user/u"));
        assert!(Trust::open().admits("acs:ram::1:user/u") && Trust::open().serves("ecs.aliyuncs.com"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (principal, word) in [(r#"{"Federated":["x"]}"#, "Federated"), ("{}", "somebody")] {
            assert!(trust(principal).unwrap_err().contains(word));
        }
        let deny = r#"{"Version":"1","Statement":[{"Effect":"Deny","Action":"sts:AssumeRole","Principal":{"RAM":"x"}}]}"#;
        assert!(Trust::parse(deny).unwrap_err().contains("Allow"));
        let condition =
            deny.replace("Deny", "Allow").replace("\"Principal\"", "\"Condition\":{},\"Principal\"");
        assert!(Trust::parse(&condition).unwrap_err().contains("Condition"));
    }
}
