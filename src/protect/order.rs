//! How a command gets into the guest: as a whole script (RunCommand), or, in pinned mode, as a value for a command that
//! the operator has registered (InvokeCommand). A registered command counts only if it is, to the letter, what this
//! version of appsnap would register for this request: so another version, or a text that somebody changed, is refused.

use std::time::Duration;

use jiff::SignedDuration;

use super::Task;
use super::command::{DELIVERY, sequence_seconds};
use super::session::endpoint;
use super::stop::unfit;
use crate::acs::{Error, past_limits};
use crate::api::assistant::{self, RunCommand};
use crate::api::command::{self, InvokeCommand};
use crate::guest::pinned::{self, Command, Pins};
use crate::guest::render::{self, Plan, RenderError, Signed};
use crate::policy::Linux;
use crate::ram;
use crate::report::ErrorReport;

/// What is sent for a command.
pub enum Order {
    /// All of it.
    Script(Vec<u8>),
    /// What varies, and the id of the registered rest.
    Value(String, String),
}

/// How a command is sent, beside what it is.
pub struct Sending<'a> {
    /// In the console; a registered command keeps its own.
    pub name: &'a str,
    /// Limit in the guest.
    pub timeout: Duration,
    /// The same command has the same.
    pub client_token: &'a str,
    /// On the invocation.
    pub tags: &'a [(String, String)],
}

/// The first command; in pinned mode all that are needed have to be registered.
pub async fn find(task: &Task, plan: &Plan) -> Result<Order, ErrorReport> {
    if !task.pinned {
        return Ok(Order::Script(render::find(plan).map_err(unfit)?));
    }
    let commands = needed(&pins(task)?).map_err(unfit)?;
    let value = pinned::find_value(plan).map_err(unfit)?;
    pinned::check_size(&commands[0], &value).map_err(unfit)?;
    let id = registered(task, &commands).await?;
    Ok(Order::Value(value, id))
}

/// The second command.
pub async fn go(task: &Task, attempt: &str, signed: &Signed) -> Result<Order, ErrorReport> {
    if !task.pinned {
        return Ok(Order::Script(render::go(attempt, signed).map_err(unfit)?));
    }
    let command = pinned::go_command(&pins(task)?).map_err(unfit)?;
    let value = pinned::go_value(attempt, signed).map_err(unfit)?;
    pinned::check_size(&command, &value).map_err(unfit)?;
    let id = registered(task, &[command]).await?;
    Ok(Order::Value(value, id))
}

/// The command for a lost result.
pub async fn settle(task: &Task, attempt: &str) -> Result<Order, String> {
    let said = |error: RenderError| error.to_string();
    if !task.pinned {
        return Ok(Order::Script(render::settle(attempt).map_err(said)?));
    }
    let command = pinned::settle_command().map_err(said)?;
    let value = pinned::settle_value(attempt).map_err(said)?;
    let id = registered(task, &[command]).await.map_err(|error| error.message)?;
    Ok(Order::Value(value, id))
}

/// The call that sends a command, as errors name it.
pub fn action(task: &Task) -> &'static str {
    if task.pinned { "InvokeCommand" } else { "RunCommand" }
}

/// Sends it; the id of the invocation.
pub async fn send(task: &Task, order: &Order, sending: &Sending<'_>) -> Result<String, Error> {
    let &Sending { name, timeout, client_token, tags } = sending;
    let (region_id, instance_id) = (task.region_id.as_str(), task.instance_id.as_str());
    let started = match order {
        Order::Script(content) => {
            let kind = "RunShellScript";
            let command =
                RunCommand { region_id, instance_id, name, kind, content, timeout, client_token, tags };
            assistant::run_command(&task.client, &command).await?
        }
        Order::Value(value, command_id) => {
            let parameter = (pinned::PARAMETER, value.as_str());
            let command =
                InvokeCommand { region_id, instance_id, command_id, parameter, timeout, client_token, tags };
            command::invoke_command(&task.client, &command).await?
        }
    };
    Ok(started.invoke_id)
}

/// The commands that requests of this kind need, in the order of their use.
pub fn needed(pins: &Pins) -> Result<[Command; 3], RenderError> {
    Ok([pinned::find_command(pins)?, pinned::go_command(pins)?, pinned::settle_command()?])
}

/// What a request fixes in the registered texts.
pub fn pins_of(linux: &Linux, host: &str) -> Pins {
    Pins {
        pre_script: linux.pre_script_path.clone(),
        post_script: linux.post_script_path.clone(),
        ca_bundle: linux.ca_bundle.clone(),
        host: host.into(),
    }
}

/// By which the commands of one version are found.
pub fn tag() -> (String, String) {
    ("appsnap:sequence".into(), render::sequence_sha256())
}

fn pins(task: &Task) -> Result<Pins, ErrorReport> {
    Ok(pins_of(&task.request.linux, endpoint(task)?.host()))
}

/// The id of the first of these; all of them have to be there.
async fn registered(task: &Task, commands: &[Command]) -> Result<String, ErrorReport> {
    let limit = task.deadline - SignedDuration::from_secs((sequence_seconds(task) + DELIVERY) as i64);
    let tag = tag();
    let ask = || command::describe_commands(&task.client, &task.region_id, &tag);
    let found = past_limits(task.client.clock(), limit, ask).await;
    let found = found.map_err(|error| ErrorReport::from(&error))?;
    let id_of =
        |command: &Command| found.iter().find(|one| one.runs(&command.text)).map(|one| &one.command_id);
    let missing: Vec<&str> =
        commands.iter().filter(|one| id_of(one).is_none()).map(|one| one.name.as_str()).collect();
    match commands.first().and_then(id_of) {
        Some(id) if missing.is_empty() => Ok(id.clone()),
        _ => Err(ErrorReport {
            code: "pinned.missing".into(),
            message: format!(
                "of {} commands with the tag {}={} none does exactly what this version would register for this request: {}",
                found.len(),
                tag.0,
                tag.1,
                missing.join(", ")
            ),
            action: Some("DescribeCommands".into()),
            resource: Some(task.region_id.clone()),
            cure: Some(format!(
                "run `appsnap pin` of this version with this request, and name the ids that it prints in the role's \
                 policy; where they are there, the role may not see them: {}",
                ram::addition("ecs:DescribeCommands", &task.region_id, "")
            )),
            ..ErrorReport::default()
        }),
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
