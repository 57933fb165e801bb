//! Which instances, where, and which of their disks.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{Object, kind, quoted};
use super::request::{region_id, role_arn};
use super::sections::SCOPE;
use crate::api::ecs::Tag;
use crate::eligibility::{DiskKind, DiskSelection};

/// What is to be protected: each instance is a unit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// At most [`MAX_UNITS`], each once; may be empty if there are tags.
    pub instance_ids: Vec<String>,
    /// Instances that have all of these keys, each with one of its values, exactly.
    pub tags: BTreeMap<String, Vec<String>>,
    /// An instance that has any of these keys with one of its values is left out.
    pub exclude_tags: BTreeMap<String, Vec<String>>,
    /// Where they are looked for; empty: in the request's region, with the request's role.
    pub scope: Vec<Scope>,
    /// Which of their disks.
    pub disks: DiskSelection,
}

/// A role, and regions that are looked into with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// `None`: the request's.
    pub role_arn: Option<String>,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
    /// Empty: the request's region.
    pub region_ids: Vec<String>,
}

/// Instances in one run; more are refused, untouched.
pub const MAX_UNITS: usize = 200;
/// Limit of `DiskId.N` and `ExcludeDiskId.N` of CreateSnapshotGroup.
const MAX_DISKS: usize = 128;
/// Limit of `Tag.N`.
const MAX_KEYS: usize = 20;
const MAX_VALUES: usize = 50;
const MAX_SCOPES: usize = 20;
const MAX_REGIONS: usize = 20;

impl Targets {
    /// Whether an instance with these tags is meant by `tags`.
    pub fn wants(&self, own: &[Tag]) -> bool {
        !self.tags.is_empty() && self.tags.iter().all(|wanted| has(own, wanted))
    }

    /// Whether an instance with these tags is left out by `excludeTags`.
    pub fn excludes(&self, own: &[Tag]) -> bool {
        self.exclude_tags.iter().any(|unwanted| has(own, unwanted))
    }

    /// The tags that the cloud is asked for, call by call: the API takes one value for a key and joins keys by AND.
    /// Together the answers hold all that is wanted, and more: [`wants`](Self::wants) has the last word. (Whether an
    /// empty value stands for any is not documented; both readings do.)
    pub fn queries(&self) -> Vec<Vec<(String, String)>> {
        let alone = |(key, values): (&String, &Vec<String>)| match &values[..] {
            [value] => Some((key.clone(), value.clone())),
            _ => None,
        };
        let sure: Vec<_> = self.tags.iter().filter_map(alone).collect();
        if !sure.is_empty() {
            return vec![sure];
        }
        let fewest = self.tags.iter().min_by_key(|(_, values)| values.len());
        let each = |(key, values): (&String, &Vec<String>)| {
            values.iter().map(|value| vec![(key.clone(), value.clone())]).collect()
        };
        fewest.map(each).unwrap_or_default()
    }
}

fn has(own: &[Tag], (key, values): (&String, &Vec<String>)) -> bool {
    own.iter().any(|tag| tag.key == *key && values.contains(&tag.value))
}

pub(super) fn parse(targets: &Object) -> Targets {
    let instance_ids = ids(targets, "instanceIds", "i-", MAX_UNITS);
    let none = targets.value("instanceIds").is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
    if none && targets.value("tags").is_none() {
        targets.problem(
            "instanceIds",
            "name at least one instance, e.g. [\"i-bp1…\"], or say by tags which ones",
        );
    }
    let kinds =
        [("all", Some(DiskKind::All)), ("data", Some(DiskKind::Data)), ("system", Some(DiskKind::System))];
    let disks = DiskSelection {
        kind: targets.word("disks", DiskKind::All, &kinds),
        disk_ids: ids(targets, "diskIds", "d-", MAX_DISKS),
        exclude_disk_ids: ids(targets, "excludeDiskIds", "d-", MAX_DISKS),
    };
    if !disks.disk_ids.is_empty() && disks.kind != DiskKind::All {
        targets.problem("disks", "diskIds names the disks already: leave one of the two out");
    }
    if !disks.disk_ids.is_empty() && !disks.exclude_disk_ids.is_empty() {
        targets.problem("excludeDiskIds", "diskIds names the disks already: leave one of the two out");
    }
    let (tags, exclude_tags) = (tags(targets, "tags"), tags(targets, "excludeTags"));
    for key in
        tags.keys().filter(|key| ["aliyun", "acs:"].iter().any(|own| key.to_lowercase().starts_with(own)))
    {
        targets.problem(&format!("tags[{}]", quoted(key)), "the API takes no key that begins so");
    }
    Targets { instance_ids, tags, exclude_tags, scope: scopes(targets), disks }
}

/// Keys, each with its values.
fn tags(targets: &Object, field: &str) -> BTreeMap<String, Vec<String>> {
    let mut tags = BTreeMap::new();
    let Some(value) = targets.value(field) else { return tags };
    let Some(map) = value.as_object() else {
        targets.problem(field, format!("must be an object of lists, not {}", kind(value)));
        return tags;
    };
    if map.len() > MAX_KEYS {
        targets.problem(field, format!("has {} keys, at most {MAX_KEYS} are possible", map.len()));
    }
    if map.is_empty() && field == "tags" {
        targets.problem(field, "name at least one tag, or leave it out");
    }
    for (key, values) in map {
        let place = format!("{field}[{}]", quoted(key));
        if !(1..=128).contains(&key.chars().count()) || key.contains("http://") || key.contains("https://") {
            targets.problem(&place, "a key has 1 to 128 characters, without http:// and https://");
        }
        let Some(list) = values.as_array().filter(|list| (1..=MAX_VALUES).contains(&list.len())) else {
            let message = "must be a list of 1 to 50 values, any of which will do, e.g. [\"nightly\"]";
            targets.problem(&place, message);
            continue;
        };
        let mut found: Vec<String> = Vec::new();
        for (i, value) in list.iter().enumerate() {
            match value.as_str() {
                Some(text) if found.iter().any(|known| known == text) => {
                    targets.problem(&format!("{place}[{i}]"), format!("{} is listed twice", quoted(text)));
                }
                Some(text) if text.chars().count() <= 128 => found.push(text.to_owned()),
                _ => targets.problem(&format!("{place}[{i}]"), "must be a string of at most 128 characters"),
            }
        }
        tags.insert(key.clone(), found);
    }
    tags
}

fn scopes(targets: &Object) -> Vec<Scope> {
    let items = targets.list("scope");
    if targets.value("scope").is_some_and(|value| value.as_array().is_some_and(Vec::is_empty)) {
        targets.problem("scope", "name at least one scope, or leave it out");
    }
    if items.len() > MAX_SCOPES {
        targets.problem("scope", format!("has {} entries, at most {MAX_SCOPES} are possible", items.len()));
    }
    let scope = |(i, item)| {
        let place = format!("{}[{i}]", targets.field_path("scope"));
        let scope = Object::open(Some(item), place.clone(), &SCOPE, &[], targets.problems);
        if item.is_null() {
            targets.problems.add(place, "must be an object, not null");
        }
        Scope {
            role_arn: scope.checked("roleArn", role_arn),
            external_id: scope.checked("externalId", external_id),
            region_ids: regions(&scope),
        }
    };
    items.iter().enumerate().take(MAX_SCOPES).map(scope).collect()
}

fn regions(scope: &Object) -> Vec<String> {
    let items = scope.list("regionIds");
    if items.len() > MAX_REGIONS {
        scope
            .problem("regionIds", format!("has {} entries, at most {MAX_REGIONS} are possible", items.len()));
    }
    let mut found: Vec<String> = Vec::new();
    for (i, item) in items.iter().enumerate().take(MAX_REGIONS) {
        let place = format!("regionIds[{i}]");
        match item.as_str() {
            Some(id) if found.iter().any(|known| known == id) => {
                scope.problem(&place, format!("{} is listed twice", quoted(id)));
            }
            Some(id) => match region_id(id) {
                Ok(()) => found.push(id.to_owned()),
                Err(message) => scope.problem(&place, message),
            },
            None => scope.problem(&place, "must be a string like \"cn-hangzhou\""),
        }
    }
    found
}

/// What STS takes as ExternalId.
fn external_id(id: &str) -> Result<(), String> {
    let good = id.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c));
    if good && (2..=1224).contains(&id.len()) {
        Ok(())
    } else {
        Err(format!("must have 2 to 1224 letters, digits and _+=,.@:/- only, not {}", quoted(id)))
    }
}

fn ids(object: &Object, field: &str, prefix: &str, max: usize) -> Vec<String> {
    let items = object.list(field);
    if items.len() > max {
        object.problem(field, format!("has {} entries, at most {max} are possible", items.len()));
    }
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate().take(max) {
        let place = format!("{field}[{i}]");
        match item.as_str() {
            Some(id) if !is_id(id, prefix) => {
                object.problem(&place, format!("must be an id like {prefix}bp1…, not {}", quoted(id)));
            }
            Some(id) if !seen.insert(id) => object.problem(&place, format!("{id} is listed twice")),
            Some(_) => {}
            None => object.problem(&place, format!("must be a string like \"{prefix}bp1…\"")),
        }
    }
    items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
}

fn is_id(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| {
        (1..=40).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
