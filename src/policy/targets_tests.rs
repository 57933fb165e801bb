use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::Request;

fn targets(targets: Value) -> Result<Targets, String> {
    let request = json!({ "policy": "p", "targets": targets });
    Request::parse(&request).map(|request| request.targets).map_err(|invalid| invalid.to_string())
}

fn own(tags: &[(&str, &str)]) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: key.to_string(), value: value.to_string() }).collect()
}

#[test]
fn keys_are_joined_by_and_their_values_by_or() {
    let wanted = targets(json!({
        "tags": { "backup": ["nightly", "weekly"], "env": ["prod"] }, "excludeTags": { "appsnap": ["off", "no"], "x": [""] },
    }));
    let wanted = wanted.unwrap();
    type Own = &'static [(&'static str, &'static str)];
    let table: [(Own, bool, bool); 8] = [
        (&[("backup", "nightly"), ("env", "prod")], true, false),
        (&[("backup", "weekly"), ("env", "prod"), ("more", "1")], true, false),
        (&[("backup", "nightly")], false, false),
        (&[("backup", "nightly"), ("env", "test")], false, false),
        (&[("backup", "Nightly"), ("env", "prod")], false, false),
        (&[], false, false),
        (&[("backup", "nightly"), ("env", "prod"), ("appsnap", "off")], true, true),
        (&[("x", "")], false, true),
    ];
    for (tags, wants, excludes) in table {
        let tags = own(tags);
        assert_eq!((wanted.wants(&tags), wanted.excludes(&tags)), (wants, excludes), "{tags:?}");
    }
    let named = targets(json!({ "instanceIds": ["i-1"] })).unwrap();
    assert!(!named.wants(&own(&[("a", "b")])) && named.queries().is_empty());
}

#[test]
fn the_cloud_is_asked_as_sharply_as_one_value_for_a_key_allows() {
    let table = [
        (json!({ "a": ["1"] }), vec![vec![("a", "1")]]),
        // What stands alone is surely wanted; the rest is looked at here.
        (json!({ "a": ["1"], "b": ["2", "3"], "c": ["4"] }), vec![vec![("a", "1"), ("c", "4")]]),
        (json!({ "a": ["1", "2", "3"], "b": ["4", "5"] }), vec![vec![("b", "4")], vec![("b", "5")]]),
    ];
    for (tags, expected) in table {
        let asked = targets(json!({ "tags": tags })).unwrap().queries();
        let asked: Vec<Vec<(&str, &str)>> =
            asked.iter().map(|call| call.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()).collect();
        assert_eq!(asked, expected, "{tags}");
    }
}

#[test]
fn scopes_are_read() {
    let scope = json!([
        { "roleArn": "acs:ram::2:role/appsnap", "externalId": "appsnap/2", "regionIds": ["cn-beijing", "eu-central-1"] },
        { "regionIds": ["cn-shanghai"] },
        {},
    ]);
    let found = targets(json!({ "tags": { "a": ["b"] }, "scope": scope })).unwrap().scope;
    assert_eq!(found[0].role_arn.as_deref(), Some("acs:ram::2:role/appsnap"));
    assert_eq!((found[0].external_id.as_deref(), found[0].region_ids.len()), (Some("appsnap/2"), 2));
    assert_eq!(found[1], Scope { region_ids: vec!["cn-shanghai".into()], ..Scope::default() });
    assert_eq!(found[2], Scope::default());
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let scope = |scope: Value| json!({ "instanceIds": ["i-1"], "scope": [scope] });
    let many = |count: usize| (0..count).map(|n| json!(format!("cn-x{n}"))).collect::<Vec<_>>();
    let keys: serde_json::Map<String, Value> = (0..21).map(|n| (format!("k{n}"), json!(["v"]))).collect();
    let table = [
        (json!({}), "targets.instanceIds: name at least one instance, e.g. [\"i-bp1…\"], or say by tags"),
        (json!({ "excludeTags": { "a": ["b"] } }), "targets.instanceIds: name at least one"),
        (json!({ "tags": {} }), "targets.tags: name at least one tag"),
        (json!({ "tags": [] }), "targets.tags: must be an object of lists, not a list"),
        (json!({ "tags": { "a": "b" } }), "targets.tags[\"a\"]: must be a list of 1 to 50 values"),
        (json!({ "tags": { "a": [] } }), "targets.tags[\"a\"]: must be a list of 1 to 50 values"),
        (json!({ "tags": { "a": many(51) } }), "targets.tags[\"a\"]: must be a list of 1 to 50 values"),
        (json!({ "tags": { "a": [1] } }), "targets.tags[\"a\"][0]: must be a string"),
        (json!({ "tags": { "a": ["b", "b"] } }), "targets.tags[\"a\"][1]: \"b\" is listed twice"),
        (json!({ "tags": { "": ["b"] } }), "targets.tags[\"\"]: a key has 1 to 128 characters"),
        (
            json!({ "tags": { "acs:x": ["b"] } }),
            "targets.tags[\"acs:x\"]: the API takes no key that begins so",
        ),
        (json!({ "tags": keys }), "targets.tags: has 21 keys, at most 20"),
        (json!({ "excludeTags": 1 }), "targets.excludeTags: must be an object of lists, not a number"),
        (json!({ "scope": [] }), "targets.scope: name at least one scope"),
        (json!({ "scope": vec![json!({}); 21] }), "targets.scope: has 21 entries, at most 20"),
        (scope(json!(null)), "targets.scope[0]: must be an object, not null"),
        (scope(json!("cn-hangzhou")), "targets.scope[0]: must be an object, not a string"),
        (
            scope(json!({ "regionId": "cn-x" })),
            "targets.scope[0].regionId: unknown field, did you mean regionIds?",
        ),
        (scope(json!({ "roleArn": "x" })), "targets.scope[0].roleArn: must be like acs:ram::"),
        (scope(json!({ "externalId": "a" })), "targets.scope[0].externalId: must have 2 to 1224"),
        (scope(json!({ "externalId": "a b" })), "targets.scope[0].externalId: must have 2 to 1224"),
        (scope(json!({ "regionIds": ["x"] })), "targets.scope[0].regionIds[0]: must be a region"),
        (
            scope(json!({ "regionIds": ["cn-x", "cn-x"] })),
            "targets.scope[0].regionIds[1]: \"cn-x\" is listed twice",
        ),
        (scope(json!({ "regionIds": many(21) })), "targets.scope[0].regionIds: has 21 entries, at most 20"),
    ];
    for (fields, expected) in table {
        let message = targets(fields.clone()).unwrap_err();
        assert!(message.contains(expected), "{fields}: {message}");
    }
    // The cloud's own keys may be excluded: that is looked at here.
    assert!(targets(json!({ "tags": { "a": ["b"] }, "excludeTags": { "acs:x": ["y"] } })).is_ok());
}

fn some_tags() -> impl Strategy<Value = BTreeMap<String, Vec<String>>> {
    let values = prop::collection::btree_set("[xyz]?", 1..4).prop_map(|values| values.into_iter().collect());
    prop::collection::btree_map("[abc]", values, 1..4)
}

proptest! {
    /// However an empty value in a query is read: as any value, or as the empty one.
    #[test]
    fn no_instance_that_is_wanted_escapes_the_queries(
        tags in some_tags(), own in prop::collection::btree_map("[abc]", "[xyz]?", 0..4), any in any::<bool>(),
    ) {
        let wanted = targets(json!({ "tags": tags })).unwrap();
        let shown = |query: &Vec<(String, String)>| {
            query.iter().all(|(key, value)| {
                own.get(key).is_some_and(|own| own == value || any && value.is_empty())
            })
        };
        let queries = wanted.queries();
        prop_assert!(queries.iter().all(|query| !query.is_empty()));
        let own: Vec<Tag> = own.iter().map(|(k, v)| Tag { key: k.clone(), value: v.clone() }).collect();
        if wanted.wants(&own) {
            prop_assert!(queries.iter().any(shown), "{queries:?} {own:?}");
        }
    }
}
