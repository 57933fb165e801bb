//! Tags: what resources carry, TagResources, which overwrites by key, and UntagResources.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::params::Params;
use super::reply::ApiError;
use super::{Asked, Context, World};

/// Tags by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(pub BTreeMap<String, String>);

impl Tags {
    /// As most answers show them: `TagKey` and `TagValue`.
    pub(super) fn shown(&self) -> Value {
        self.named("TagKey", "TagValue")
    }

    /// As snapshot groups and their members show them: `Key` and `Value`.
    pub(super) fn shown_in_groups(&self) -> Value {
        self.named("Key", "Value")
    }

    fn named(&self, key: &str, value: &str) -> Value {
        json!({ "Tag": self.0.iter().map(|(k, v)| json!({ key: k, value: v })).collect::<Vec<_>>() })
    }

    /// Whether all tags of a filter are here; an empty value in the filter stands for any.
    pub(super) fn match_filter(&self, filter: &Tags) -> bool {
        filter
            .0
            .iter()
            .all(|(key, value)| self.0.get(key).is_some_and(|own| value.is_empty() || own == value))
    }
}

impl World {
    /// TagResources: all or nothing.
    pub(super) fn tag_resources(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let (kind, ids) = resources(params)?;
        let tags = params.tags()?;
        params.finish()?;
        if tags.0.is_empty() {
            return Err(ApiError::new(404, "MissingParameter.Tags", "The parameter Tags is required."));
        }
        for id in &ids {
            let there = self.tags_of(context, &region, &kind, id).map(|tags| tags.clone());
            let resource = context.arn(&region, &kind, id);
            let of = there.as_ref().map_or_else(|_| Tags::default(), Tags::clone);
            let action = "ecs:TagResources";
            context.require_asked(&Asked { action, resource: &resource, tags: &of, sent: &tags })?;
            let there = there?;
            if there.0.len() + tags.0.keys().filter(|key| !there.0.contains_key(*key)).count() > 20 {
                return Err(ApiError::new(
                    403,
                    "QuotaExceed.Tags",
                    format!("{id} would have more than 20 tags."),
                ));
            }
        }
        for id in &ids {
            self.tags_of(context, &region, &kind, id)?.0.extend(tags.0.clone());
        }
        Ok(json!({}))
    }

    /// UntagResources: all or nothing; a key that is not there is no error.
    pub(super) fn untag_resources(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let (kind, ids) = resources(params)?;
        let keys = params.list("TagKey", 20)?;
        let all = params.boolean("All")?.unwrap_or(false);
        params.finish()?;
        if keys.is_empty() && !all {
            return Err(ApiError::new(404, "MissingParameter.TagKey", "The parameter TagKey is required."));
        }
        for id in &ids {
            let there = self.tags_of(context, &region, &kind, id).map(|tags| tags.clone());
            let of = there.as_ref().map_or_else(|_| Tags::default(), Tags::clone);
            context.require_on("ecs:UntagResources", &context.arn(&region, &kind, id), &of)?;
            there?;
        }
        for id in &ids {
            let tags = &mut self.tags_of(context, &region, &kind, id)?.0;
            // `All` counts only where no key is named.
            tags.retain(|key, _| !keys.is_empty() && !keys.contains(key));
        }
        Ok(json!({}))
    }

    fn tags_of(
        &mut self,
        context: &Context,
        region: &str,
        kind: &str,
        id: &str,
    ) -> Result<&mut Tags, ApiError> {
        let account = &context.caller.account_id;
        let own = |owner: &str, at: &str| owner == account && at == region;
        let found = match kind {
            "instance" => {
                self.instances.get_mut(id).filter(|i| own(&i.account_id, &i.region_id)).map(|i| &mut i.tags)
            }
            "disk" => {
                self.disks.get_mut(id).filter(|d| own(&d.account_id, &d.region_id)).map(|d| &mut d.tags)
            }
            "snapshot" => {
                self.snapshots.get_mut(id).filter(|s| own(&s.account_id, &s.region_id)).map(|s| &mut s.tags)
            }
            "invocation" => {
                self.invocations.get_mut(id).filter(|i| own(&i.account_id, &i.region_id)).map(|i| &mut i.tags)
            }
            "command" if self.commands.contains_key(id) => {
                self.commands.get_mut(id).filter(|c| own(&c.account_id, &c.region_id)).map(|c| &mut c.tags)
            }
            "command" => {
                let mut all = self.invocations.values_mut();
                all.find(|i| i.command_id == id && own(&i.account_id, &i.region_id))
                    .map(|i| &mut i.command_tags)
            }
            // Groups too: their tags can be set only when they are created.
            _ => {
                let why = format!("The specified ResourceType {kind} is not found.");
                return Err(ApiError::new(404, "InvalidResourceType.NotFound", why));
            }
        };
        found.ok_or_else(|| ApiError::not_found("ResourceId", id))
    }
}

/// ResourceType and the 1 to 50 ResourceIds.
fn resources(params: &mut Params) -> Result<(String, Vec<String>), ApiError> {
    let kind = params.required("ResourceType")?;
    let ids = params.list("ResourceId", usize::MAX)?;
    match ids.len() {
        0 => {
            Err(ApiError::new(404, "MissingParameter.ResourceIds", "The parameter ResourceIds is required."))
        }
        1..=50 => Ok((kind, ids)),
        _ => Err(ApiError::new(400, "NumberExceed.ResourceIds", "At most 50 ResourceIds are allowed.")),
    }
}
