//! RAM policies, as far as a narrowed session needs them: Allow and Deny by Action and Resource with wildcards.

use serde_json::Value;

/// A parsed policy document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy(Vec<Statement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Vec<String>,
    resources: Vec<String>,
}

impl Policy {
    /// Parses a document of version 1.
    ///
    /// # Errors
    /// A sentence that names the field. `Condition`, `NotAction`, `NotResource` and unknown fields are refused:
    /// a rule that is not understood must not look as if it were in force.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        if document["Version"] != "1" {
            return Err("Version has to be \"1\"".into());
        }
        let statements = document["Statement"].as_array().ok_or("Statement has to be an array")?;
        statements
            .iter()
            .enumerate()
            .map(|(at, one)| statement(one).map_err(|e| format!("Statement {at}: {e}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Everything is allowed.
    pub fn full() -> Self {
        Self(vec![Statement { allow: true, actions: vec!["*".into()], resources: vec!["*".into()] }])
    }

    /// Whether `action` (`ecs:RunCommand`) is allowed on `resource` (`acs:ecs:cn-x:1:instance/i-1`): a Deny wins.
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let action = action.to_lowercase();
        let hits = |one: &&Statement| {
            one.actions.iter().any(|pattern| matches(&pattern.to_lowercase(), &action))
                && one.resources.iter().any(|pattern| matches(pattern, resource))
        };
        let mut any = false;
        for one in self.0.iter().filter(hits) {
            if !one.allow {
                return false;
            }
            any = true;
        }
        any
    }
}

fn statement(value: &Value) -> Result<Statement, String> {
    let fields = value.as_object().ok_or("has to be an object")?;
    if let Some(name) = fields.keys().find(|name| !["Effect", "Action", "Resource"].contains(&name.as_str()))
    {
        return Err(format!("{name} is not understood by the local cloud"));
    }
    let allow = match value["Effect"].as_str() {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err("Effect has to be Allow or Deny".into()),
    };
    Ok(Statement { allow, actions: strings(value, "Action")?, resources: strings(value, "Resource")? })
}

fn strings(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{name} has to be a string or an array of strings");
    match &value[name] {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(many) if !many.is_empty() => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// `*` stands for any run of characters, `?` for one.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_policy_is_narrow() {
        let policy = Policy::parse(
            r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":["ecs:CreateSnapshotGroup","ecs:Describe*"],
                "Resource":"acs:ecs:*:1:disk/d-1"},{"Effect":"Deny","Action":"ecs:DescribeDisks","Resource":"*"}]}"#,
        )
        .unwrap();
        assert!(policy.allows("ecs:CreateSnapshotGroup", "acs:ecs:cn-x:1:disk/d-1"));
        assert!(policy.allows("ecs:describesnapshots", "acs:ecs:cn-x:1:disk/d-1"));
        assert!(!policy.allows("ecs:CreateSnapshotGroup", "acs:ecs:cn-x:1:disk/d-12"));
        assert!(!policy.allows("ecs:CreateSnapshotGroup", "acs:ecs:cn-x:2:disk/d-1"));
        assert!(!policy.allows("ecs:DescribeDisks", "acs:ecs:cn-x:1:disk/d-1"), "a Deny wins");
        assert!(!Policy::default().allows("ecs:DescribeDisks", "*"), "nothing is allowed by nothing");
    }

    #[test]
    fn wildcards_match_as_the_vendor_documents() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let with =
            r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}]}"#;
        assert!(Policy::parse(with).unwrap_err().contains("Condition"));
    }
}
