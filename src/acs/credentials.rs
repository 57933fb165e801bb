//! Who signs: an access key, with the token that temporary keys need. Taken from the invocation's headers, then
//! from the environment; an empty string counts as missing, because the platform sends empty headers to a
//! function without a role.

use jiff::Timestamp;

use crate::secret::Secret;

const KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Not secret: it stands in every `Authorization` header.
    pub access_key_id: String,
    /// Signs; never leaves this process.
    pub access_key_secret: Secret,
    /// Of temporary credentials; useless without the secret.
    pub security_token: Option<Secret>,
    /// When the cloud stops accepting them, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// Neither place has credentials.
#[derive(Debug, thiserror::Error)]
#[error(
    "no credentials: the invocation's headers (x-fc-access-key-id, x-fc-access-key-secret) carry none and the \
     environment lacks {missing}. Give the function a role, or set {KEY_ID} and {KEY_SECRET} \
     (and {TOKEN} for temporary keys)"
)]
pub struct MissingCredentials {
    /// The variables that are not set.
    pub missing: String,
}

impl Credentials {
    /// From strings as they arrive in headers or variables; none when id or secret is missing or empty.
    pub fn new(id: Option<String>, secret: Option<String>, token: Option<String>) -> Option<Self> {
        let given = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
        Some(Self {
            access_key_id: given(id)?,
            access_key_secret: Secret::new(given(secret)?),
            security_token: given(token).map(Secret::new),
            expires_at: None,
        })
    }

    /// Those of the invocation where it has some, else those of the environment.
    ///
    /// # Errors
    /// Names both places and the variables that are missing.
    pub fn resolve(
        invocation: Option<Self>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, MissingCredentials> {
        invocation.or_else(|| Self::new(env(KEY_ID), env(KEY_SECRET), env(TOKEN))).ok_or_else(|| {
            let absent = |name: &&str| env(name).is_none_or(|value| value.trim().is_empty());
            let missing: Vec<_> = [KEY_ID, KEY_SECRET].into_iter().filter(absent).collect();
            MissingCredentials { missing: missing.join(" and ") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_invocation_comes_first_then_the_environment() {
        let env = |name: &str| (name != TOKEN).then(|| format!("env {name}"));
        let header = Credentials::new(some("STS.a"), some("s"), some("t"));
        assert_eq!(Credentials::resolve(header, &env).unwrap().access_key_id, "STS.a");
        let empty = Credentials::new(some("STS.a"), some(""), some("t"));
        let found = Credentials::resolve(empty, &env).unwrap();
        assert_eq!(found.access_key_id, "env ALIBABA_CLOUD_ACCESS_KEY_ID");
        assert_eq!(found.security_token, None);
    }

    #[test]
    fn an_empty_token_is_no_token() {
        assert_eq!(Credentials::new(some("a"), some("s"), some("")).unwrap().security_token, None);
    }

    #[test]
    fn a_lack_names_both_places_and_the_cure() {
        let env = |name: &str| (name == KEY_ID).then(|| "a".to_owned());
        let text = Credentials::resolve(None, &env).unwrap_err().to_string();
        assert!(text.contains("x-fc-access-key-id") && text.contains("Give the function a role"), "{text}");
        assert!(text.contains(&format!("lacks {KEY_SECRET}. ")), "{text}");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let shown = format!("{:?}", Credentials::new(some("id"), some("hush"), some("token")));
        assert!(!shown.contains("hush") && !shown.contains("token\""), "{shown}");
    }
}
