//! A reference to a secret. The request never holds the secret itself: requests lie in trigger payloads,
//! in logs of the platform and in version control.

use crate::secret::Secret;

/// The environment, handed in: a name to its value.
pub type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// `env:NAME`, resolved only where the secret is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    name: String,
}

impl SecretRef {
    /// Reads `env:NAME`. The error never repeats the text: it may be a secret that was written out.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("kms:") {
            return Err("not supported yet: kms (today: env:NAME)".into());
        }
        let Some(name) = text.strip_prefix("env:") else {
            return Err("a secret is never written out here: put it into an environment variable of the \
                        function and write env:NAME"
                .into());
        };
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if first && name.len() <= 64 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            Ok(Self { name: name.to_owned() })
        } else {
            Err("env: must be followed by the name of an environment variable (letters, digits, _)".into())
        }
    }

    /// The secret. An unset or empty variable is an error that names it.
    pub fn resolve(&self, env: Env) -> Result<Secret, String> {
        match env(&self.name) {
            Some(value) if !value.trim().is_empty() => Ok(Secret::new(value.trim())),
            _ => Err(format!("{self} is not set: add it to the function's environment variables")),
        }
    }
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "env:{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_env_names_are_taken_and_a_literal_is_never_repeated() {
        assert_eq!(SecretRef::parse("env:OPS_URL").unwrap().to_string(), "env:OPS_URL");
        for text in ["hunter2", "env:", "env:1A", "env:A-B", "https://host/hunter2", "ENV:hunter2"] {
            let message = SecretRef::parse(text).unwrap_err();
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(SecretRef::parse("kms:key").unwrap_err().contains("not supported yet"));
    }

    #[test]
    fn resolving_names_the_variable_that_is_missing() {
        let reference = SecretRef::parse("env:A").unwrap();
        assert_eq!(reference.resolve(&|_| Some("s3cret\n".into())).unwrap().expose(), "s3cret");
        for missing in [None, Some(String::new())] {
            assert!(reference.resolve(&|_| missing.clone()).unwrap_err().contains("env:A is not set"));
        }
    }
}
