//! Reading answers: lists in their wrappers, pages, and fields that come as one type or another.

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::acs::{Call, Client, Error};

/// More pages than this are a loop, not an account.
const PAGES: usize = 1000;

/// Reads one value out of an answer.
pub(super) fn read<T: DeserializeOwned>(call: &Call, mut answer: Value) -> Result<T, Error> {
    drop_nulls(&mut answer);
    let request_id = answer["RequestId"].as_str().map(str::to_owned);
    serde_json::from_value(answer).map_err(|error| malformed(call, request_id, error.to_string()))
}

/// All items of the list at `list` (a JSON pointer), over all pages; the token of the next page is at `next`.
pub(super) async fn pages<T: DeserializeOwned>(
    client: &Client,
    call: Call,
    list: &str,
    next: &str,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    let mut tokens: Vec<String> = Vec::new();
    loop {
        let page = call.clone().maybe("NextToken", tokens.last());
        let mut answer = client.call(&page).await?;
        let token = answer.pointer(next).and_then(Value::as_str).unwrap_or_default().to_owned();
        let items = answer.pointer_mut(list).map_or_else(|| Value::Array(Vec::new()), Value::take);
        let request_id = answer["RequestId"].clone();
        let items: Page<T> = read(&call, serde_json::json!({ "items": items, "RequestId": request_id }))?;
        found.extend(items.items);
        if token.is_empty() {
            return Ok(found);
        }
        if tokens.contains(&token) || tokens.len() >= PAGES {
            let id = request_id.as_str().map(str::to_owned);
            return Err(malformed(&call, id, format!("its pages do not end ({} read)", tokens.len() + 1)));
        }
        tokens.push(token);
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    #[serde(default)]
    items: Vec<T>,
}

fn malformed(call: &Call, request_id: Option<String>, problem: String) -> Error {
    let mut error = Error::invalid(call.action, &call.resource, format!("cannot read the answer: {problem}"));
    error.code = "answer.malformed".to_owned();
    error.request_id = request_id;
    error
}

/// Names what a call is about without naming a hundred ids.
pub(super) fn named(ids: &[String]) -> String {
    match ids {
        [first, second, third, _, rest @ ..] => {
            format!("{first}, {second}, {third} and {} more", rest.len() + 1)
        }
        few => few.join(", "),
    }
}

/// A null means the same as an absent field.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A list in its wrapper, `{"Tag": […]}`, or bare.
pub(super) fn listed<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    let items = match Value::deserialize(from)? {
        Value::Object(wrapper) => {
            wrapper.into_iter().next().map_or(Value::Array(Vec::new()), |(_, items)| items)
        }
        other => other,
    };
    serde_json::from_value(items).map_err(D::Error::custom)
}

/// `true`, `"true"` or `"True"`.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match Value::deserialize(from)? {
        Value::Bool(flag) => Ok(flag),
        Value::String(text) => Ok(text.eq_ignore_ascii_case("true")),
        other => Err(D::Error::custom(format!("{other} is neither true nor false"))),
    }
}

/// A number, also as a string; an empty string is none.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(from)? {
        Value::Number(number) => Ok(number.as_i64()),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(D::Error::custom),
        other => Err(D::Error::custom(format!("{other} is not a number"))),
    }
}

/// A tag; ECS spells its parts `Key`/`Value` in some answers and `TagKey`/`TagValue` in others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tag {
    /// Case counts.
    #[serde(rename = "Key", alias = "TagKey", default)]
    pub key: String,
    /// May be empty.
    #[serde(rename = "Value", alias = "TagValue", default)]
    pub value: String,
}

/// Why the cloud has locked a resource, e.g. `security` or `financial`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OperationLock {
    /// The vendor's word.
    pub lock_reason: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::acs::Kind;
    use crate::api::testing::{answering, cloud};

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Item {
        name: String,
        #[serde(deserialize_with = "flag")]
        on: bool,
        #[serde(deserialize_with = "number")]
        size: Option<i64>,
        #[serde(deserialize_with = "listed")]
        tags: Vec<Tag>,
    }

    fn call() -> Call {
        Call::new(&crate::api::ecs::ECS, "DescribeThings", "cn-hangzhou", Kind::Read)
    }

    #[test]
    fn fields_are_read_in_all_their_spellings() {
        let tag = |key: &str| vec![Tag { key: key.into(), value: "v".into() }];
        let table = [
            (json!({"Name": null, "Tags": null, "New": {"x": 1}}), Item::default()),
            (
                json!({"Name": "a", "On": "True", "Size": "20", "Tags": {"Tag": [{"TagKey": "k", "TagValue": "v"}]}}),
                Item { name: "a".into(), on: true, size: Some(20), tags: tag("k") },
            ),
            (
                json!({"On": true, "Size": 20, "Tags": [{"Key": "k", "Value": "v"}]}),
                Item { on: true, size: Some(20), tags: tag("k"), ..Item::default() },
            ),
            (json!({"On": "false", "Size": "", "Tags": {}}), Item::default()),
        ];
        for (answer, item) in table {
            assert_eq!(read::<Item>(&call(), answer.clone()).unwrap(), item, "{answer}");
        }
        let error = read::<Item>(&call(), json!({"Size": "big", "RequestId": "R-1"})).unwrap_err();
        assert_eq!((error.code.as_str(), error.request_id.as_deref()), ("answer.malformed", Some("R-1")));
    }

    #[test]
    fn many_ids_are_named_in_short() {
        use crate::api::testing::strings;
        assert_eq!(named(&strings(&["a", "b", "c"])), "a, b, c");
        assert_eq!(named(&strings(&["a", "b", "c", "d", "e"])), "a, b, c and 2 more");
    }

    #[tokio::test]
    async fn pages_are_followed_to_the_end() {
        let (client, seen) = cloud(|wire| {
            let page = wire.param("NextToken").unwrap_or("1");
            let next = match page {
                "1" => "2",
                "2" => "3",
                _ => "",
            };
            json!({"Things": {"Thing": [{"Name": page}]}, "NextToken": next})
        });
        let things: Vec<Item> = pages(&client, call(), "/Things/Thing", "/NextToken").await.unwrap();
        let names: Vec<_> = things.iter().map(|thing| thing.name.as_str()).collect();
        assert_eq!((names, seen.lock().unwrap().len()), (vec!["1", "2", "3"], 3));
    }

    #[tokio::test]
    async fn pages_in_a_circle_are_an_error_and_a_missing_list_is_empty() {
        let (client, _) = answering(json!({"NextToken": "again"}));
        let error = pages::<Item>(&client, call(), "/Things/Thing", "/NextToken").await.unwrap_err();
        assert!(error.to_string().contains("pages do not end (2 read)"), "{error}");
        let (client, _) = answering(json!({"RequestId": "R"}));
        assert!(pages::<Item>(&client, call(), "/Things/Thing", "/NextToken").await.unwrap().is_empty());
    }
}
