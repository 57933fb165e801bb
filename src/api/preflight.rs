//! Cloud Assistant asked beforehand (part of the ECS API): would a command arrive, and is a plugin there?
//!
//! Source: <https://www.alibabacloud.com/help/en/ecs/developer-reference/api-ecs-2014-05-26-dir-cloud-assistant>.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::answer::{listed, pages};
use super::ecs::call;
use crate::acs::{Client, Error, Kind};

/// Asks RunCommand to check request, instance and agent, and to run nothing (RepeatMode `DryRun`). It sees a dead agent
/// sooner than the heartbeat, which may be two minutes old. `kind` as in [`RunCommand`](super::assistant::RunCommand).
///
/// # Errors
/// Why a command would not be run, or those of the call. How a passed check is answered is not documented: by 200, or as
/// DryRun of other calls is, by an error whose code begins with `DryRunOperation`. Both count as passed.
pub async fn dry_run(client: &Client, region_id: &str, instance_id: &str, kind: &str) -> Result<(), Error> {
    let call = call("RunCommand", region_id, Kind::Read)
        .on(instance_id)
        .param("Type", kind)
        .param("ContentEncoding", "Base64")
        .param("CommandContent", BASE64_STANDARD.encode("exit 0\n"))
        .list("InstanceId", &[instance_id.to_owned()])
        .param("Name", "appsnap-dry-run")
        .param("Timeout", 60)
        .param("RepeatMode", "DryRun");
    match client.call(&call).await {
        Err(error) if !error.code.starts_with("DryRunOperation") => Err(error),
        _ => Ok(()),
    }
}

/// A plugin of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Plugin {
    /// E.g. `app-snapshot-plugin`.
    #[serde(rename = "PluginName")]
    pub name: String,
    /// E.g. `1.8`.
    #[serde(rename = "PluginVersion")]
    pub version: String,
    /// `NotInstalled`, `Installed`, `Running`, `Stopped`, `Crashed`, `Removed` or `Unknown`.
    #[serde(rename = "PluginStatus")]
    pub status: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct OnInstance {
    instance_id: String,
    #[serde(deserialize_with = "listed", rename = "PluginStatusSet")]
    plugins: Vec<Plugin>,
}

/// A plugin of an instance; `None` when the answer does not name it.
///
/// # Errors
/// Those of the call.
pub async fn plugin_status(
    client: &Client,
    region_id: &str,
    instance_id: &str,
    name: &str,
) -> Result<Option<Plugin>, Error> {
    let call = call("ListPluginStatus", region_id, Kind::Read)
        .on(instance_id)
        .list("InstanceId", &[instance_id.to_owned()])
        .param("Name", name)
        .param("MaxResults", 50);
    let list = "/InstancePluginStatusSet/InstancePluginStatus";
    let found: Vec<OnInstance> = pages(client, call, list, "/NextToken").await?;
    let own = found.into_iter().filter(|one| one.instance_id == instance_id).flat_map(|one| one.plugins);
    Ok(own.into_iter().find(|plugin| plugin.name == name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::acs::Reply;
    use crate::api::testing::{answering, flat, replying};

    #[tokio::test]
    async fn a_passed_dry_run_is_answered_either_way_and_runs_nothing() {
        let (client, seen) = answering(json!({ "RequestId": "R" }));
        dry_run(&client, "cn-hangzhou", "i-1", "RunShellScript").await.unwrap();
        let asked = flat(&seen.lock().unwrap()[0]);
        assert!(
            asked.contains(&"RepeatMode=DryRun".into()) && asked.contains(&"InstanceId.1=i-1".into()),
            "{asked:?}"
        );
        assert!(
            !asked.iter().any(|pair| pair.starts_with("Tag") || pair.starts_with("ClientToken")),
            "{asked:?}"
        );
        for (code, passed) in [("DryRunOperation", true), ("ClientNotRunning", false)] {
            let body = json!({ "Code": code, "Message": "m", "RequestId": "R" }).to_string();
            let (client, _) = replying(move |_| Reply::new(400, body.clone()));
            let answer = dry_run(&client, "cn-hangzhou", "i-1", "RunShellScript").await;
            assert_eq!(answer.is_ok(), passed, "{code}");
        }
    }

    #[tokio::test]
    async fn a_plugin_is_found_by_its_name() {
        let plugins = json!([{ "PluginName": "other", "PluginStatus": "Running" },
            { "PluginName": "app-snapshot-plugin", "PluginStatus": "Installed", "PluginVersion": "1.8" }]);
        let (client, seen) = answering(json!({ "InstancePluginStatusSet": { "InstancePluginStatus": [
            { "InstanceId": "i-1", "PluginStatusSet": { "PluginStatus": plugins } }] } }));
        let found =
            plugin_status(&client, "cn-hangzhou", "i-1", "app-snapshot-plugin").await.unwrap().unwrap();
        assert_eq!((found.status.as_str(), found.version.as_str()), ("Installed", "1.8"));
        assert_eq!(seen.lock().unwrap()[0]["Name"], "app-snapshot-plugin");
        assert_eq!(plugin_status(&client, "cn-hangzhou", "i-2", "app-snapshot-plugin").await.unwrap(), None);
    }
}
