//! What Cloud Assistant tells of its plugins on an instance.

use serde_json::{Value, json};

use super::params::Params;
use super::reply::{ApiError, page};
use super::{Context, World};

impl World {
    pub(super) fn list_plugin_status(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let ids = params.list("InstanceId", 50)?;
        let name = params.optional("Name");
        let (size, token) = params.paging(50, Some(10))?;
        params.finish()?;
        let mut found = Vec::new();
        for id in &ids {
            let instance = self.own_instance(context, &region, id)?;
            context.require("ecs:ListPluginStatus", &context.arn(&region, "instance", id))?;
            let wanted =
                instance.plugins.iter().filter(|(plugin, _)| name.as_ref().is_none_or(|name| name == plugin));
            let plugins: Vec<Value> = wanted
                .map(|(name, version)| json!({ "PluginName": name, "PluginVersion": version, "PluginStatus": "Installed" }))
                .collect();
            found.push(json!({ "InstanceId": id, "PluginStatusSet": { "PluginStatus": plugins } }));
        }
        let total = found.len();
        let (found, next) = page(found, size, token.as_deref())?;
        Ok(json!({
            "InstancePluginStatusSet": { "InstancePluginStatus": found }, "NextToken": next, "TotalCount": total,
            "PageNumber": 1, "PageSize": size,
        }))
    }
}
