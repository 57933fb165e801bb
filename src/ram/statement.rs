//! The statement that a denied call lacks, from the documents: in one line, to be added to a policy of the role that
//! called.

use serde_json::{Value, json};

use super::DOCUMENTS;

/// The statement that allows `action` (`ecs:RunCommand`) in a region (empty: any) on `resource`: ids, as errors name
/// them, or an ARN. Instances and disks are named; what is made anew in each run cannot be.
pub fn statement(action: &str, region: &str, resource: &str) -> String {
    let patterns = patterns(action);
    let region = if region.is_empty() { "*" } else { region };
    let mut resources: Vec<String> = Vec::new();
    for pattern in &patterns {
        let filled = pattern.replace("{region}", region).replace("{account}", "*");
        let more = match filled.rsplit_once('/') {
            // Whose role or function it is, only the caller knows.
            _ if filled.contains('{') && resource.starts_with("acs:") => vec![resource.to_owned()],
            Some((kind, _)) if filled.contains('{') => {
                ids(kind, resource).unwrap_or_else(|| vec![format!("{kind}/{resource}")])
            }
            Some((kind, "*")) => ids(kind, resource).unwrap_or_else(|| vec![filled.clone()]),
            _ => vec![filled],
        };
        resources.extend(more);
    }
    resources.dedup();
    let resource: Value = match resources.len() {
        0 => "*".into(),
        1 => resources.remove(0).into(),
        _ => resources.into(),
    };
    json!({ "Effect": "Allow", "Action": action, "Resource": resource }).to_string()
}

/// A cure for a right that may be missing: the statement, and the tag where a document asks for one instead.
pub fn addition(action: &str, region: &str, resource: &str) -> String {
    let tag = match conditioned(action) {
        Some(document) => format!(
            "; or, where the statement that it has asks for a tag (policies/{document}.json: appsnap=allowed), \
             set that tag on the instance"
        ),
        None => String::new(),
    };
    format!("add {} to a policy of the role{tag}", statement(action, region, resource))
}

/// The statements of the policies that name the action.
fn naming(action: &str) -> Vec<(&'static str, Value)> {
    let policies = DOCUMENTS.iter().filter(|one| !one.is_trust() && one.name != "instance");
    let statements = policies.flat_map(|one| {
        let document: Value = serde_json::from_str(one.text).unwrap_or_default();
        let statements = document["Statement"].as_array().cloned().unwrap_or_default();
        statements.into_iter().map(|statement| (one.name, statement))
    });
    statements.filter(|(_, one)| texts(&one["Action"]).any(|name| name == action)).collect()
}

/// The resources on which the documents allow the action, each once.
fn patterns(action: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, one) in naming(action) {
        for pattern in texts(&one["Resource"]) {
            if !found.iter().any(|known| known == pattern) {
                found.push(pattern.to_owned());
            }
        }
    }
    found
}

/// The document that allows the action only where the tag is.
fn conditioned(action: &str) -> Option<&'static str> {
    let asks = |statement: &Value| statement["Condition"].to_string().contains("{tagKey}");
    naming(action).iter().find(|(_, one)| asks(one)).map(|(document, _)| *document)
}

/// The ids of this kind in the text, as ARNs; `None`: all of the kind are to be allowed.
fn ids(kind: &str, resource: &str) -> Option<Vec<String>> {
    let prefix = match kind.rsplit(':').next()? {
        "instance" => "i-",
        "disk" => "d-",
        "command" => "c-",
        _ => return None,
    };
    let words = || resource.split([' ', ',']).filter(|word| !word.is_empty());
    let cut = resource.contains(" more"); // some are not named
    let ids: Vec<String> =
        words().filter(|word| word.starts_with(prefix)).map(|id| format!("{kind}/{id}")).collect();
    Some(ids).filter(|ids| !ids.is_empty() && !cut)
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let many = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    value.as_str().into_iter().chain(many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_what_stays_and_no_more_than_the_documents() {
        let table = [
            (
                ("ecs:RunCommand", "cn-a", "i-1"),
                r#"{"Effect":"Allow","Action":"ecs:RunCommand","Resource":["acs:ecs:cn-a:*:instance/i-1","acs:ecs:cn-a:*:command/*"]}"#,
            ),
            (
                ("ecs:CreateSnapshotGroup", "cn-a", "i-1 d-1 d-2"),
                r#"{"Effect":"Allow","Action":"ecs:CreateSnapshotGroup","Resource":["acs:ecs:cn-a:*:instance/i-1","acs:ecs:cn-a:*:disk/d-1","acs:ecs:cn-a:*:disk/d-2"]}"#,
            ),
            (
                ("ecs:TagResources", "cn-a", "s-1, s-2, s-3 and 13 more"),
                r#"{"Effect":"Allow","Action":"ecs:TagResources","Resource":["acs:ecs:cn-a:*:snapshot/*","acs:ecs:cn-a:*:invocation/*"]}"#,
            ),
            (
                ("ecs:DescribeDisks", "", "i-1"),
                r#"{"Effect":"Allow","Action":"ecs:DescribeDisks","Resource":"acs:ecs:*:*:disk/*"}"#,
            ),
            (
                ("ecs:DescribeCloudAssistantStatus", "cn-a", "i-1, i-2, i-3 and 4 more"),
                r#"{"Effect":"Allow","Action":"ecs:DescribeCloudAssistantStatus","Resource":"acs:ecs:cn-a:*:instance/*"}"#,
            ),
            (
                ("sts:AssumeRole", "cn-a", "acs:ram::1:role/r"),
                r#"{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"acs:ram::1:role/r"}"#,
            ),
            (
                ("fc:InvokeFunction", "cn-a", "appsnap"),
                r#"{"Effect":"Allow","Action":"fc:InvokeFunction","Resource":"acs:fc:cn-a:*:functions/appsnap"}"#,
            ),
            (
                ("ecs:DescribeInstanceRamRole", "cn-a", "i-1"),
                r#"{"Effect":"Allow","Action":"ecs:DescribeInstanceRamRole","Resource":"*"}"#,
            ),
            (
                ("ecs:InvokeCommand", "cn-a", "c-1 on i-1"),
                r#"{"Effect":"Allow","Action":"ecs:InvokeCommand","Resource":["acs:ecs:cn-a:*:instance/i-1","acs:ecs:*:*:command/c-1"]}"#,
            ),
            (("ecs:Unheard", "cn-a", "x"), r#"{"Effect":"Allow","Action":"ecs:Unheard","Resource":"*"}"#),
        ];
        for ((action, region, resource), expected) in table {
            assert_eq!(statement(action, region, resource), expected);
        }
    }

    #[test]
    fn the_tag_is_told_where_a_document_asks_for_it() {
        assert!(addition("ecs:RunCommand", "cn-a", "i-1").contains("appsnap=allowed"));
        let pinned = addition("ecs:InvokeCommand", "cn-a", "c-1 on i-1");
        assert!(pinned.contains("policies/protect-pinned.json: appsnap=allowed"), "{pinned}");
        assert!(!addition("ecs:DescribeDisks", "cn-a", "i-1").contains("appsnap=allowed"));
    }
}
