//! Cloud Assistant's registered commands: CreateCommand, DescribeCommands, InvokeCommand.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::answer::{flag, pages, read};
use super::assistant::Started;
use super::ecs::call;
use crate::acs::{Client, Error, Kind};

/// Registers a shell script with parameters, which runs in `/`; its id (`c-…`). A region keeps 500 of them or more.
///
/// # Errors
/// Those of the call.
pub async fn create_command(
    client: &Client,
    region_id: &str,
    name: &str,
    content: &str,
    tags: &[(String, String)],
) -> Result<String, Error> {
    let call = call("CreateCommand", region_id, Kind::Idempotent)
        .on(name)
        .param("Name", name)
        .param("Type", "RunShellScript")
        .param("ContentEncoding", "Base64")
        .param("CommandContent", BASE64_STANDARD.encode(content))
        .param("EnableParameter", true)
        .param("WorkingDir", "/")
        .param("ClientToken", client.clock().nonce())
        .tags(tags);
    let created: Created = read(&call, client.call(&call).await?)?;
    Ok(created.command_id)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    command_id: String,
}

/// A command as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Registered {
    /// `c-…`
    pub command_id: String,
    /// As it was given.
    pub name: String,
    /// `RunShellScript`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// The script.
    #[serde(rename = "CommandContent")]
    pub content: String,
    /// Where it runs; empty: in the home directory.
    pub working_dir: String,
    /// What runs the script in place of its first line; empty: nothing.
    pub launcher: String,
    /// Whether `{{name}}` is replaced.
    #[serde(deserialize_with = "flag")]
    pub enable_parameter: bool,
}

impl Registered {
    /// Whether it runs exactly this, in `/`, by its own first line. The vendor may keep the end of a text in another way.
    pub fn runs(&self, content: &str) -> bool {
        self.kind == "RunShellScript"
            && self.working_dir == "/"
            && self.launcher.is_empty()
            && self.enable_parameter
            && self.content.trim_end() == content.trim_end()
    }
}

/// The registered commands that have this tag, by their ids. An empty list may mean no permission.
///
/// # Errors
/// Those of the call.
pub async fn describe_commands(
    client: &Client,
    region_id: &str,
    tag: &(String, String),
) -> Result<Vec<Registered>, Error> {
    let call = call("DescribeCommands", region_id, Kind::Read)
        .on(format!("commands with {}={}", tag.0, tag.1))
        .param("ContentEncoding", "Base64")
        .param("MaxResults", 50)
        .tags(std::slice::from_ref(tag));
    let mut found: Vec<Registered> = pages(client, call, "/Commands/Command", "/NextToken").await?;
    for command in &mut found {
        let decoded = BASE64_STANDARD.decode(command.content.trim()).ok();
        if let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
            command.content = text;
        }
    }
    found.sort_by(|a, b| a.command_id.cmp(&b.command_id));
    Ok(found)
}

/// A run of a registered command on one instance; see [`RunCommand`](super::assistant::RunCommand) for its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeCommand<'a> {
    /// Where the instance is.
    pub region_id: &'a str,
    /// `i-…`
    pub instance_id: &'a str,
    /// `c-…`
    pub command_id: &'a str,
    /// Name and value of its one parameter; the cloud puts the value into the script as it is.
    pub parameter: (&'a str, &'a str),
    /// In full seconds, at least 10.
    pub timeout: Duration,
    /// At most 64 ASCII characters.
    pub client_token: &'a str,
    /// On the invocation, at most 20.
    pub tags: &'a [(String, String)],
}

/// Runs a registered command as root, as [`run_command`](super::assistant::run_command) would.
///
/// # Errors
/// Those of the call.
pub async fn invoke_command(client: &Client, command: &InvokeCommand<'_>) -> Result<Started, Error> {
    let (name, value) = command.parameter;
    let call = call("InvokeCommand", command.region_id, Kind::Idempotent)
        .on(format!("{} on {}", command.command_id, command.instance_id))
        .param("CommandId", command.command_id)
        .list("InstanceId", &[command.instance_id.to_owned()])
        .param("Parameters", serde_json::json!({ name: value }))
        .param("Timeout", command.timeout.as_secs().max(10))
        .param("Username", "root")
        .param("TerminationMode", "Process")
        .param("ClientToken", command.client_token)
        .tags(command.tags);
    read(&call, client.call(&call).await?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::testing::{answering, flat};

    #[tokio::test]
    async fn a_command_is_registered_with_parameters() {
        let (client, seen) = answering(json!({"CommandId": "c-1", "RequestId": "R"}));
        let tags = [("appsnap:sequence".to_owned(), "ab".to_owned())];
        let id = create_command(&client, "cn-hangzhou", "appsnap-find-1", "echo {{x}}", &tags).await.unwrap();
        assert_eq!(id, "c-1");
        let mut params = seen.lock().unwrap()[0].clone();
        assert!(!params.remove("ClientToken").unwrap().is_empty());
        let expected = [
            "Action=CreateCommand",
            "CommandContent=ZWNobyB7e3h9fQ==",
            "ContentEncoding=Base64",
            "EnableParameter=true",
            "Name=appsnap-find-1",
            "Tag.1.Key=appsnap:sequence",
            "Tag.1.Value=ab",
            "Type=RunShellScript",
            "WorkingDir=/",
        ];
        assert_eq!(flat(&params), expected);
    }

    #[tokio::test]
    async fn only_what_runs_the_same_counts_as_registered() {
        let good = json!({"CommandId": "c-2", "Name": "n", "Type": "RunShellScript", "WorkingDir": "/",
            "EnableParameter": true, "CommandContent": BASE64_STANDARD.encode("echo {{x}}\n")});
        let mut list = vec![good.clone()];
        for (field, value) in [
            ("CommandContent", json!(BASE64_STANDARD.encode("echo {{y}}"))),
            ("Launcher", json!("sh -x {{ACS::ScriptFileName}}")),
            ("WorkingDir", json!("/tmp")),
            ("EnableParameter", json!("false")),
            ("Type", json!("RunBatScript")),
        ] {
            let mut bad = good.clone();
            bad["CommandId"] = json!("c-1");
            bad[field] = value;
            list.push(bad);
        }
        let (client, _) = answering(json!({"Commands": {"Command": list}}));
        let tag = ("k".to_owned(), "v".to_owned());
        let found = describe_commands(&client, "cn-hangzhou", &tag).await.unwrap();
        let runs: Vec<_> =
            found.iter().filter(|one| one.runs("echo {{x}}")).map(|one| &*one.command_id).collect();
        assert_eq!((found.len(), runs), (6, vec!["c-2"]));
    }

    #[tokio::test]
    async fn a_registered_command_gets_its_value_as_json() {
        let (client, seen) = answering(json!({"InvokeId": "t-1", "CommandId": "c-1"}));
        let command = InvokeCommand {
            region_id: "cn-hangzhou",
            instance_id: "i-1",
            command_id: "c-1",
            parameter: ("values", "a\"b"),
            timeout: Duration::from_secs(3),
            client_token: "t",
            tags: &[],
        };
        assert_eq!(invoke_command(&client, &command).await.unwrap().invoke_id, "t-1");
        let expected = [
            "Action=InvokeCommand",
            "ClientToken=t",
            "CommandId=c-1",
            "InstanceId.1=i-1",
            "Parameters={\"values\":\"a\\\"b\"}",
            "TerminationMode=Process",
            "Timeout=10",
            "Username=root",
        ];
        assert_eq!(flat(&seen.lock().unwrap()[0]), expected);
    }
}
