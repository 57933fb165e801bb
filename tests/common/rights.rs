//! Roles of the local cloud made of the documents in `policies/`: whole, or with one right less.

use appsnap::local::cloud::{ACCOUNT, names, role};
use appsnap::local::world::{Policy, Role};
use appsnap::ram::{Names, document};
use serde_json::{Value, json};

use crate::bench::Bench;

/// One action on one resource, under its condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Right {
    pub action: String,
    pub resource: String,
    pub condition: Value,
}

impl Right {
    /// `instance` of `acs:ecs:cn-x:1:instance/*`; `*` where the action is not resource-level.
    pub fn kind(&self) -> &str {
        let last = self.resource.rsplit(':').next().unwrap();
        last.split('/').next().unwrap()
    }
}

/// What these documents allow in the demo's account, one by one.
pub fn rights(documents: &[&str]) -> Vec<Right> {
    rights_for(documents, &names())
}

/// As [`rights`], for other names.
pub fn rights_for(documents: &[&str], names: &Names) -> Vec<Right> {
    let list = |value: &Value| -> Vec<String> {
        let many = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        many.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut all = Vec::new();
    for name in documents {
        let filled = document(name).unwrap().filled(names);
        for one in filled["Statement"].as_array().unwrap() {
            assert_eq!(one["Effect"], "Allow");
            for action in list(&one["Action"]) {
                let condition = &one["Condition"];
                all.extend(list(&one["Resource"]).into_iter().map(|resource| Right {
                    action: action.clone(),
                    resource,
                    condition: condition.clone(),
                }));
            }
        }
    }
    all
}

/// A policy of exactly these rights.
pub fn policy(rights: &[Right]) -> Policy {
    let statements = rights.iter().map(|right| {
        let mut one = json!({ "Effect": "Allow", "Action": right.action, "Resource": right.resource });
        if !right.condition.is_null() {
            one["Condition"] = right.condition.clone();
        }
        one
    });
    let document = json!({ "Version": "1", "Statement": statements.collect::<Vec<_>>() });
    Policy::parse(&document.to_string()).unwrap()
}

/// Lets the demo's role of this name have exactly these rights from now on; its trust is that of a document.
pub fn give(bench: &Bench, name: &str, trust: &str, rights: &[Right]) {
    let role = Role { policy: policy(rights), ..role(name, trust, &[]) };
    assert_eq!(role.account_id, ACCOUNT);
    bench.cloud.server.cloud.look(|world, _| world.add_role(role));
}

/// All rights but one.
pub fn without(rights: &[Right], less: &Right) -> Vec<Right> {
    rights.iter().filter(|right| *right != less).cloned().collect()
}
