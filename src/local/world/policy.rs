//! RAM policies: Allow and Deny by Action and Resource with wildcards, and the conditions that appsnap's own documents
//! use. What is not understood is refused: a rule that is passed over must not look as if it were in force.

use serde_json::Value;

use super::tag::Tags;

/// A request as a policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `ecs:RunCommand`.
    pub action: &'a str,
    /// `acs:ecs:cn-x:1:instance/i-1`.
    pub resource: &'a str,
    /// The resource's tags: `acs:ResourceTag/KEY`.
    pub tags: &'a Tags,
    /// Tags in the request: `acs:RequestTag/KEY`.
    pub sent: &'a Tags,
}

/// A parsed policy document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy(Vec<Statement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>, // all of them have to hold
}

/// One key of one operator; any of the values will do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    like: bool,
    of_request: bool,
    key: String,
    values: Vec<String>,
}

impl Policy {
    /// Parses a document of version 1.
    ///
    /// # Errors
    /// A sentence that names the field. `NotAction`, `NotResource`, other conditions than `StringEquals` and
    /// `StringLike` on `acs:ResourceTag/KEY` and `acs:RequestTag/KEY`, and unknown fields are refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        statements(text, statement).map(Self)
    }

    /// What all documents of a role say together.
    ///
    /// # Errors
    /// That of the first one which does not parse.
    pub fn all(texts: &[String]) -> Result<Self, String> {
        let parsed = texts.iter().map(|text| Self::parse(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(parsed.into_iter().flat_map(|policy| policy.0).collect()))
    }

    /// Everything is allowed.
    pub fn full() -> Self {
        let any = || vec!["*".to_owned()];
        Self(vec![Statement { allow: true, actions: any(), resources: any(), conditions: Vec::new() }])
    }

    /// Whether it is allowed: a Deny wins.
    pub fn allows(&self, asked: &Asked) -> bool {
        let action = asked.action.to_lowercase();
        let hits = |one: &&Statement| {
            one.actions.iter().any(|pattern| matches(&pattern.to_lowercase(), &action))
                && one.resources.iter().any(|pattern| matches(pattern, asked.resource))
                && one.conditions.iter().all(|condition| condition.holds(asked))
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

impl Condition {
    fn holds(&self, asked: &Asked) -> bool {
        let tags = if self.of_request { asked.sent } else { asked.tags };
        let fits =
            |own: &String, wanted: &String| if self.like { matches(wanted, own) } else { own == wanted };
        tags.0.get(&self.key).is_some_and(|own| self.values.iter().any(|wanted| fits(own, wanted)))
    }
}

/// The statements of a document of version 1.
pub(super) fn statements<T>(
    text: &str,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    if document["Version"] != "1" {
        return Err("Version has to be \"1\"".into());
    }
    only(&document, &["Version", "Statement"])?;
    let statements = document["Statement"].as_array().ok_or("Statement has to be an array")?;
    let numbered = statements.iter().enumerate();
    numbered.map(|(at, one)| read(one).map_err(|why| format!("Statement {at}: {why}"))).collect()
}

/// Refuses what a statement has beside the fields of these names.
pub(super) fn only(value: &Value, known: &[&str]) -> Result<(), String> {
    let fields = value.as_object().ok_or("has to be an object")?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("{name} is not understood by the local cloud")),
        None => Ok(()),
    }
}

fn statement(value: &Value) -> Result<Statement, String> {
    only(value, &["Effect", "Action", "Resource", "Condition"])?;
    let allow = match value["Effect"].as_str() {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err("Effect has to be Allow or Deny".into()),
    };
    let conditions = value.get("Condition").map_or(Ok(Vec::new()), conditions)?;
    let (actions, resources) = (strings(value, "Action")?, strings(value, "Resource")?);
    Ok(Statement { allow, actions, resources, conditions })
}

fn conditions(value: &Value) -> Result<Vec<Condition>, String> {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for (operator, keys) in fields(value) {
        let like = match operator.as_str() {
            "StringEquals" => false,
            "StringLike" => true,
            _ => return Err(format!("Condition {operator} is not understood by the local cloud")),
        };
        if fields(&keys).is_empty() {
            return Err(format!("Condition {operator} has to name a key"));
        }
        for name in fields(&keys).keys() {
            let tag = |of: &str| name.strip_prefix(of).map(str::to_owned);
            let (of_request, key) = match (tag("acs:ResourceTag/"), tag("acs:RequestTag/")) {
                (Some(key), _) => (false, key),
                (_, Some(key)) => (true, key),
                _ => return Err(format!("Condition key {name} is not understood by the local cloud")),
            };
            found.push(Condition { like, of_request, key, values: strings(&keys, name)? });
        }
    }
    if found.is_empty() { Err("Condition has to name an operator and a key".into()) } else { Ok(found) }
}

/// A string, or an array of them.
pub(super) fn strings(value: &Value, name: &str) -> Result<Vec<String>, String> {
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

    fn allows(policy: &Policy, action: &str, resource: &str, tags: &[(&str, &str)]) -> bool {
        let tags = Tags(tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        policy.allows(&Asked { action, resource, tags: &tags, sent: &Tags::default() })
    }

    #[test]
    fn a_narrow_policy_is_narrow() {
        let policy = Policy::parse(
            r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":["ecs:CreateSnapshotGroup","ecs:Describe*"],
                "Resource":"acs:ecs:*:1:disk/d-1"},{"Effect":"Deny","Action":"ecs:DescribeDisks","Resource":"*"}]}"#,
        )
        .unwrap();
        let may = |policy: &Policy, action: &str, on: &str| allows(policy, action, on, &[]);
        assert!(may(&policy, "ecs:CreateSnapshotGroup", "acs:ecs:cn-x:1:disk/d-1"));
        assert!(may(&policy, "ecs:describesnapshots", "acs:ecs:cn-x:1:disk/d-1"));
        assert!(!may(&policy, "ecs:CreateSnapshotGroup", "acs:ecs:cn-x:1:disk/d-12"));
        assert!(!may(&policy, "ecs:CreateSnapshotGroup", "acs:ecs:cn-x:2:disk/d-1"));
        assert!(!may(&policy, "ecs:DescribeDisks", "acs:ecs:cn-x:1:disk/d-1"), "a Deny wins");
        assert!(!may(&Policy::default(), "ecs:DescribeDisks", "*"), "nothing is allowed by nothing");
    }

    #[test]
    fn a_condition_on_a_tag_takes_the_tag_with_its_value() {
        let on = |condition: &str| {
            let text = format!(
                r#"{{"Version":"1","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}]}}"#
            );
            Policy::parse(&text).unwrap()
        };
        let may = |policy: &Policy, tags: &[(&str, &str)]| allows(policy, "ecs:RunCommand", "i", tags);
        let equals = on(r#"{"StringEquals":{"acs:ResourceTag/appsnap":["allowed","yes"]}}"#);
        assert!(may(&equals, &[("appsnap", "allowed")]) && may(&equals, &[("appsnap", "yes"), ("b", "c")]));
        assert!(!may(&equals, &[]) && !may(&equals, &[("appsnap", "no")]) && !may(&equals, &[("b", "yes")]));
        let like = on(r#"{"StringLike":{"acs:ResourceTag/appsnap:policy":"o*"}}"#);
        assert!(may(&like, &[("appsnap:policy", "orders")]) && !may(&like, &[("appsnap:policy", "books")]));
        let both = on(r#"{"StringEquals":{"acs:ResourceTag/a":"1"},"StringLike":{"acs:ResourceTag/b":"*"}}"#);
        assert!(may(&both, &[("a", "1"), ("b", "")]) && !may(&both, &[("a", "1")]), "all have to hold");
        let sent = on(r#"{"StringEquals":{"acs:RequestTag/a":"1"}}"#);
        assert!(!may(&sent, &[("a", "1")]), "a tag of the resource is none of the request");
        let (tags, none) = (Tags([("a".into(), "1".into())].into()), Tags::default());
        let asked = Asked { action: "ecs:CreateDisk", resource: "d", tags: &none, sent: &tags };
        assert!(sent.allows(&asked));
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
        let with = |field: &str| {
            let text = format!(
                r#"{{"Version":"1","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*",{field}}}]}}"#
            );
            Policy::parse(&text).unwrap_err()
        };
        for (field, word) in [
            (r#""Condition":{}"#, "Condition has to"),
            (
                r#""Condition":{"StringLike":[],"StringEquals":{"acs:ResourceTag/a":"1"}}"#,
                "StringLike has to",
            ),
            (r#""Condition":{"IpAddress":{"acs:SourceIp":"10.0.0.0/8"}}"#, "IpAddress"),
            (r#""Condition":{"StringEquals":{"acs:SourceVpc":"v"}}"#, "acs:SourceVpc"),
            (r#""NotAction":"ecs:*""#, "NotAction"),
            (r#""Principal":{}"#, "Principal"),
        ] {
            assert!(with(field).contains(word), "{}", with(field));
        }
        let beside = r#"{"Version":"1","Statement":[],"Statements":[]}"#;
        assert!(Policy::parse(beside).unwrap_err().contains("Statements"));
    }
}
