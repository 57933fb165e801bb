//! Cloud Assistant (part of the ECS API): is the agent alive, run a command, what came of it.
//!
//! Source: <https://www.alibabacloud.com/help/en/ecs/developer-reference/api-ecs-2014-05-26-dir-cloud-assistant>.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::answer::{Tag, flag, listed, named, number, pages, read};
use super::ecs::call;
use crate::acs::{Client, Error, Kind};

/// What RunCommand takes after base64. (Some pages say 18 or 16 KB: stay well below.)
const CONTENT_LIMIT: usize = 24 * 1024;

/// What the cloud knows of an instance's agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentStatus {
    /// `i-…`
    pub instance_id: String,
    /// Whether there was a heartbeat within the last two minutes; so it may be that old.
    #[serde(rename = "CloudAssistantStatus", deserialize_with = "flag")]
    pub alive: bool,
    /// UTC; empty when there was none.
    pub last_heartbeat_time: String,
    /// Of the agent, e.g. `2.2.3.857`.
    #[serde(rename = "CloudAssistantVersion")]
    pub version: String,
}

/// The agents of these instances, asked fifty at a time; instances without one, or not to be seen, may be missing.
///
/// # Errors
/// Those of the first call that fails.
pub async fn describe_cloud_assistant_status(
    client: &Client,
    region_id: &str,
    instance_ids: &[String],
) -> Result<Vec<AgentStatus>, Error> {
    let mut found = Vec::new();
    for ids in instance_ids.chunks(50) {
        let call = call("DescribeCloudAssistantStatus", region_id, Kind::Read)
            .on(named(ids))
            .list("InstanceId", ids)
            .param("MaxResults", 50);
        let list = "/InstanceCloudAssistantStatusSet/InstanceCloudAssistantStatus";
        found.extend(pages::<AgentStatus>(client, call, list, "/NextToken").await?);
    }
    Ok(found)
}

/// A command to be run on one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommand<'a> {
    /// Where the instance is.
    pub region_id: &'a str,
    /// `i-…`, running, with a living agent.
    pub instance_id: &'a str,
    /// At most 128 characters; shown in the console.
    pub name: &'a str,
    /// `RunShellScript`: as root in `/`; `RunPowerShellScript`: as System where the agent lives.
    pub kind: &'a str,
    /// At most 18 KB.
    pub content: &'a [u8],
    /// In full seconds, at least 10; then the agent kills it (and only it, not its children).
    pub timeout: Duration,
    /// At most 64 ASCII characters.
    pub client_token: &'a str,
    /// On the invocation; at most 20, keys up to 64 characters.
    pub tags: &'a [(String, String)],
}

/// What RunCommand started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Started {
    /// `t-…`
    pub invoke_id: String,
    /// `c-…`; gone after the run.
    #[serde(default)]
    pub command_id: String,
}

/// Runs a command. `TerminationMode=Process`, so that a timeout does not kill what has to thaw.
///
/// # Errors
/// Those of the call; content that is too long is not sent.
pub async fn run_command(client: &Client, command: &RunCommand<'_>) -> Result<Started, Error> {
    let content = BASE64_STANDARD.encode(command.content);
    if content.len() > CONTENT_LIMIT {
        let message =
            format!("the command has {} bytes as base64; RunCommand takes {CONTENT_LIMIT}", content.len());
        return Err(Error::invalid("RunCommand", command.instance_id, message));
    }
    let posix = command.kind == "RunShellScript";
    let call = call("RunCommand", command.region_id, Kind::Idempotent)
        .on(command.instance_id)
        .param("Type", command.kind)
        .param("ContentEncoding", "Base64")
        .param("CommandContent", content)
        .list("InstanceId", &[command.instance_id.to_owned()])
        .param("Name", command.name)
        .param("Timeout", command.timeout.as_secs().max(10))
        .maybe("Username", posix.then_some("root"))
        .maybe("WorkingDir", posix.then_some("/"))
        .param("TerminationMode", "Process")
        .param("ClientToken", command.client_token)
        .tags(command.tags);
    read(&call, client.call(&call).await?)
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub enum InvocationStatus {
    /// On its way to the guest.
    #[default]
    Pending,
    /// Waits for its time.
    Scheduled,
    /// At work.
    Running,
    /// Being stopped.
    Stopping,
    /// Exit status 0.
    Success,
    /// Another exit status.
    Failed,
    /// Could not be run.
    Error,
    /// Killed at its timeout.
    Timeout,
    /// Stopped before it started.
    Cancelled,
    /// Stopped while it ran.
    Terminated,
    /// Its parameters do not fit the instance.
    Invalid,
    /// Never delivered.
    Aborted,
    /// Of several instances: cancelled or terminated.
    Stopped,
    /// Of several instances: some failed.
    PartialFailed,
    /// A word that is new.
    Other(String),
}

impl From<String> for InvocationStatus {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Pending" => Self::Pending,
            "Scheduled" => Self::Scheduled,
            "Running" => Self::Running,
            "Stopping" => Self::Stopping,
            "Success" => Self::Success,
            "Failed" => Self::Failed,
            "Error" => Self::Error,
            "Timeout" => Self::Timeout,
            "Cancelled" => Self::Cancelled,
            "Terminated" => Self::Terminated,
            "Invalid" => Self::Invalid,
            "Aborted" => Self::Aborted,
            "Stopped" => Self::Stopped,
            "PartialFailed" => Self::PartialFailed,
            _ => Self::Other(word),
        }
    }
}

impl InvocationStatus {
    /// Whether nothing more will come. A word that is new counts as open: the caller's deadline ends the wait.
    pub fn is_end(&self) -> bool {
        !matches!(self, Self::Pending | Self::Scheduled | Self::Running | Self::Stopping | Self::Other(_))
    }
}

/// What came of a run on one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InvocationResult {
    /// `t-…`
    pub invoke_id: String,
    /// `i-…`
    pub instance_id: String,
    /// Where it stands.
    pub invocation_status: InvocationStatus,
    /// Of the script, once it has ended.
    #[serde(deserialize_with = "number")]
    pub exit_code: Option<i64>,
    /// stdout and stderr, at most 24 KB; may lag behind or be empty while it runs.
    pub output: String,
    /// Bytes that were cut off.
    #[serde(deserialize_with = "number")]
    pub dropped: Option<i64>,
    /// Why it could not run, e.g. `ClientNotRunning`; empty when all is well.
    pub error_code: String,
    /// The same in words.
    pub error_info: String,
    /// UTC.
    pub start_time: String,
    /// UTC; after a timeout not the real end but start plus timeout.
    pub finished_time: String,
    /// Of the invocation.
    #[serde(deserialize_with = "listed")]
    pub tags: Vec<Tag>,
}

/// What came of an invocation on an instance; `None` when the cloud does not show it, which may mean not yet, or
/// no permission.
///
/// # Errors
/// Those of the call.
pub async fn invocation_result(
    client: &Client,
    region_id: &str,
    invoke_id: &str,
    instance_id: &str,
) -> Result<Option<InvocationResult>, Error> {
    let call = call("DescribeInvocationResults", region_id, Kind::Read)
        .on(format!("{invoke_id} on {instance_id}"))
        .param("InvokeId", invoke_id)
        .param("InstanceId", instance_id)
        .param("ContentEncoding", "PlainText")
        .param("MaxResults", 50);
    let (list, next) = ("/Invocation/InvocationResults/InvocationResult", "/Invocation/NextToken");
    let found: Vec<InvocationResult> = pages(client, call, list, next).await?;
    Ok(found.into_iter().next().map(|result| InvocationResult { output: plain(result.output), ..result }))
}

/// An invocation, without its output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Invocation {
    /// `t-…`
    pub invoke_id: String,
    /// Over all its instances.
    pub invocation_status: InvocationStatus,
    /// UTC.
    pub creation_time: String,
    /// Those of RunCommand.
    #[serde(deserialize_with = "listed")]
    pub tags: Vec<Tag>,
    /// Where it runs, or ran.
    #[serde(rename = "InvokeInstances", deserialize_with = "listed")]
    pub instances: Vec<InvokedOn>,
}

/// An instance of an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InvokedOn {
    /// `i-…`
    pub instance_id: String,
}

/// The invocations that have all of `tags`; without tags none, and nothing is asked. The cloud forgets them after
/// some four weeks. An empty list may mean no permission.
///
/// # Errors
/// Those of the call.
pub async fn invocations_by_tag(
    client: &Client,
    region_id: &str,
    tags: &[(String, String)],
) -> Result<Vec<Invocation>, Error> {
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let call = call("DescribeInvocations", region_id, Kind::Read)
        .on(format!("invocations with {}", names.join(", ")))
        .param("MaxResults", 50)
        .tags(tags);
    pages(client, call, "/Invocations/Invocation", "/NextToken").await
}

/// An invocation by its id; `None` when the cloud does not show it, which may mean not yet, or no permission.
///
/// # Errors
/// Those of the call.
pub async fn invocation(
    client: &Client,
    region_id: &str,
    invoke_id: &str,
) -> Result<Option<Invocation>, Error> {
    let call = call("DescribeInvocations", region_id, Kind::Read)
        .on(invoke_id)
        .param("InvokeId", invoke_id)
        .param("MaxResults", 50);
    let found: Vec<Invocation> = pages(client, call, "/Invocations/Invocation", "/NextToken").await?;
    Ok(found.into_iter().next())
}

/// Plain text is asked for, yet base64 is the vendor's default. What has 24 characters or more, all of base64,
/// and decodes to printable text, is taken for that: it does not happen by chance.
fn plain(output: String) -> String {
    if output.trim().len() < 24 {
        return output;
    }
    let decoded = BASE64_STANDARD.decode(output.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let printable = |text: &String| text.chars().all(|c| !c.is_control() || "\n\r\t\u{1b}".contains(c));
    decoded.filter(printable).unwrap_or(output)
}

#[cfg(test)]
#[path = "assistant_tests.rs"]
mod tests;
