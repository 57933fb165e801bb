//! Name, description and tags of the snapshot group; the limits are CreateSnapshotGroup's.

use std::collections::BTreeMap;

use super::fields::{Object, kind, quoted};

/// What the group is called; absent parts are decided when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// 2 to 128 characters.
    pub name: Option<String>,
    /// 2 to 256 characters.
    pub description: Option<String>,
    /// The user's tags, at most 12.
    pub tags: BTreeMap<String, String>,
    /// `rg-…`
    pub resource_group_id: Option<String>,
}

/// A group takes 20 tags; 8 are kept for those that tell policy, run, level and where the disk lived.
const MAX_TAGS: usize = 12;

pub(super) fn parse(snapshot: &Object) -> Snapshot {
    Snapshot {
        name: snapshot.checked("name", name),
        description: snapshot.checked("description", description),
        tags: tags(snapshot),
        resource_group_id: snapshot.checked("resourceGroupId", resource_group_id),
    }
}

fn name(name: &str) -> Result<(), String> {
    let first = name.chars().next().is_some_and(char::is_alphabetic);
    let rest = name.chars().all(|c| c.is_alphanumeric() || "._-:".contains(c));
    if (2..=128).contains(&name.chars().count()) && first && rest {
        Ok(())
    } else {
        Err(format!(
            "must have 2 to 128 characters, a letter first, then letters, digits and . _ - : only, not {}",
            quoted(name)
        ))
    }
}

fn description(text: &str) -> Result<(), String> {
    if !(2..=256).contains(&text.chars().count()) {
        return Err("must have 2 to 256 characters".into());
    }
    if text.chars().any(char::is_control) {
        return Err("must be without line breaks and control characters".into());
    }
    no_link(text)
}

fn resource_group_id(id: &str) -> Result<(), String> {
    let good = id.strip_prefix("rg-").is_some_and(|rest| {
        (1..=60).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    if good { Ok(()) } else { Err(format!("must be an id like rg-…, not {}", quoted(id))) }
}

fn no_link(text: &str) -> Result<(), String> {
    let lower = text.to_lowercase();
    if lower.contains("http://") || lower.contains("https://") {
        return Err("must be without http:// and https:// (the API refuses them)".into());
    }
    Ok(())
}

fn tags(snapshot: &Object) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    let Some(value) = snapshot.value("tags") else { return tags };
    let Some(map) = value.as_object() else {
        snapshot.problem("tags", format!("must be an object of strings, not {}", kind(value)));
        return tags;
    };
    if map.len() > MAX_TAGS {
        snapshot.problem("tags", format!("has {}, at most {MAX_TAGS} are possible", map.len()));
    }
    for (key, value) in map {
        let place = format!("tags[{}]", quoted(key));
        if let Err(message) = tag_key(key) {
            snapshot.problem(&place, message);
        }
        match value.as_str().map(tag_value) {
            Some(Ok(())) => {
                tags.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
            }
            Some(Err(message)) => snapshot.problem(&place, message),
            None => snapshot
                .problem(&place, format!("the value must be a string (quote it), not {}", kind(value))),
        }
    }
    tags
}

fn tag_key(key: &str) -> Result<(), String> {
    let lower = key.to_lowercase();
    if !(1..=128).contains(&key.chars().count()) || key.chars().any(char::is_control) {
        return Err("a tag's key must have 1 to 128 printable characters".into());
    }
    if lower.starts_with("aliyun") || lower.starts_with("acs:") {
        return Err("a tag's key must not start with aliyun or acs: (the vendor's)".into());
    }
    // The label is decided from evidence: nobody may write it into the request.
    if lower.starts_with("appsnap:") || matches!(lower.as_str(), "appconsistent" | "fsconsistent") {
        return Err("this key tells what was reached and is set by appsnap alone".into());
    }
    no_link(key)
}

fn tag_value(value: &str) -> Result<(), String> {
    if value.chars().count() > 128 || value.chars().any(char::is_control) {
        return Err("a tag's value must have at most 128 printable characters".into());
    }
    no_link(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_vendors_rule() {
        for good in ["ab", "orders-db_2026.11:1", "订单库"] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "1a", "a b", "http://a", "a/b", &"x".repeat(129)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tag_keys_leave_the_label_and_the_vendor_alone() {
        for good in ["team", "环境", "apps"] {
            assert_eq!(tag_key(good), Ok(()), "{good}");
        }
        for bad in
            ["", "Aliyun-x", "acs:x", "appsnap:level", "APPConsistent", "FsConsistent", "a https://b", "a\n"]
        {
            assert!(tag_key(bad).is_err(), "{bad}");
        }
        assert!(tag_key(&"x".repeat(129)).is_err() && tag_value(&"x".repeat(129)).is_err());
        assert_eq!(tag_value(""), Ok(()));
    }

    #[test]
    fn descriptions_and_resource_groups() {
        assert_eq!(description("nightly copy"), Ok(()));
        for bad in ["x", "see https://wiki", "two\nlines", &"x".repeat(257)] {
            assert!(description(bad).is_err(), "{bad}");
        }
        assert_eq!(resource_group_id("rg-bp67acfmxazb4p"), Ok(()));
        assert!(resource_group_id("bp67").is_err() && resource_group_id("rg-&x=1").is_err());
    }
}
