//! Registered commands: CreateCommand, DescribeCommands, InvokeCommand. Values take the place of `{{name}}` in the text
//! as they are: nothing is quoted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::command::Task;
use super::params::{Params, invalid};
use super::reply::{ApiError, page};
use super::tag::Tags;
use super::{Context, World, seconds};

/// Content and values in base64, in bytes, by InvokeCommand's page.
const CONTENT_LIMIT: usize = 18 * 1024;
/// Commands of one region, by CreateCommand's page.
const COMMANDS: usize = 500;

#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) account_id: String,
    pub(super) region_id: String,
    name: String,
    kind: String,
    content: String,
    timeout: u64,
    working_dir: Option<String>,
    substitutes: bool,
    pub(super) tags: Tags,
    created: Timestamp,
}

fn too_long() -> ApiError {
    ApiError::new(403, "CmdContent.ExceedLimit", "The maximum length of a command is exceeded.")
}

fn encoded(length: usize) -> usize {
    length.div_ceil(3) * 4
}

/// The text in pieces, between them the names of its parameters in lower case (case does not count, nor do spaces).
fn pieces(content: &str) -> Result<Vec<(&str, Option<String>)>, ApiError> {
    let (mut found, mut rest) = (Vec::new(), content);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        let name = name.trim().to_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            let why = format!("The parameter name {name:?} is not valid.");
            return Err(ApiError::new(400, "CmdParamName.InvalidParamName", why));
        }
        if name.len() > 64 {
            return Err(ApiError::new(403, "CmdParamName.ExceedLimit", "A parameter name is too long."));
        }
        found.push((before, Some(name)));
        rest = behind;
    }
    found.push((rest, None));
    let names: BTreeSet<_> = found.iter().filter_map(|(_, name)| name.as_ref()).collect();
    match names.len() {
        0..=20 => Ok(found),
        _ => Err(ApiError::new(403, "CmdParamCount.ExceedLimit", "At most 20 parameters are allowed.")),
    }
}

/// What a guest gets.
fn substituted(command: &Registered, given: Option<&str>) -> Result<String, ApiError> {
    let Some(given) = given.filter(|given| *given != "{}") else {
        let asks = command.substitutes && pieces(&command.content)?.len() > 1;
        let why = "The parameter value of this command is required.";
        return if asks {
            Err(ApiError::new(400, "Parameter.MissingValue", why))
        } else {
            Ok(command.content.clone())
        };
    };
    if !command.substitutes {
        return Err(ApiError::new(400, "Parameter.Disabled", "This command takes no parameters."));
    }
    let object: serde_json::Map<String, Value> =
        serde_json::from_str(given).map_err(|_| invalid("Parameters", "it has to be a JSON object"))?;
    if object.len() > 10 {
        return Err(ApiError::new(403, "ParameterCount.ExceedLimit", "At most 10 parameters may be passed."));
    }
    let mut values = BTreeMap::new();
    for (name, value) in object {
        if name.chars().count() > 64 {
            return Err(ApiError::new(403, "ParameterKey.ExceedLimit", "A parameter name is too long."));
        }
        let Value::String(value) = value else {
            return Err(ApiError::new(403, "ParameterType.NotSupported", "Values have to be strings."));
        };
        if values.insert(name.to_lowercase(), value).is_some() {
            return Err(ApiError::new(
                403,
                "ParameterKey.Duplicate",
                "Parameter names cannot be duplicated.",
            ));
        }
    }
    let pieces = pieces(&command.content)?;
    let known = |name: &String| pieces.iter().any(|(_, own)| own.as_ref() == Some(name));
    if !values.keys().all(known) {
        let why = "The passed-in parameters do not match those of the command.";
        return Err(ApiError::new(403, "Parameter.NotMatched", why));
    }
    // One that is not given is empty.
    let value =
        |name: &Option<String>| name.as_ref().and_then(|name| values.get(name)).map_or("", |value| value);
    let text: String = pieces.iter().map(|(text, name)| format!("{text}{}", value(name))).collect();
    if encoded(text.len()) > CONTENT_LIMIT { Err(too_long()) } else { Ok(text) }
}

impl World {
    pub(super) fn create_command(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let name = params.required("Name")?;
        let kinds = ["RunShellScript", "RunBatScript", "RunPowerShellScript"];
        let kind = params
            .one_of("Type", &kinds)?
            .ok_or_else(|| ApiError::new(400, "MissingParameter.Type", "The parameter Type is mandatory."))?;
        let content = params.required("CommandContent")?;
        // The other way round than RunCommand: what is no known encoding is base64.
        let plain = params
            .optional("ContentEncoding")
            .is_some_and(|encoding| encoding.eq_ignore_ascii_case("plaintext"));
        let timeout = params.number("Timeout")?.unwrap_or(60);
        let working_dir = params.text("WorkingDir", 1..=200)?;
        params.text("Description", 1..=512)?;
        let substitutes = params.boolean("EnableParameter")?.unwrap_or(false);
        let tags = params.tags()?;
        params.finish()?;
        context.require("ecs:CreateCommand", &context.arn(&region, "command", "*"))?;
        if name.chars().count() > 128 {
            return Err(ApiError::new(403, "CmdName.ExceedLimit", "The command name is too long."));
        }
        if timeout < 10 {
            return Err(invalid("Timeout", "at least 10 seconds"));
        }
        let undecoded = || ApiError::new(400, "CmdContent.DecodeError", "The content is no base64 of UTF-8.");
        let content = if plain {
            content
        } else {
            let bytes = BASE64.decode(&content).map_err(|_| undecoded())?;
            String::from_utf8(bytes).map_err(|_| undecoded())?
        };
        if encoded(content.len()) > CONTENT_LIMIT {
            return Err(too_long());
        }
        if substitutes {
            pieces(&content)?;
        }
        let account_id = context.caller.account_id.clone();
        let own = |one: &&Registered| one.account_id == account_id && one.region_id == region;
        if self.commands.values().filter(own).count() >= COMMANDS {
            let why = format!("At most {COMMANDS} commands are kept in {region}.");
            return Err(ApiError::new(403, "CmdCount.ExceedQuota", why));
        }
        let command_id = format!("c-hz0{}", self.dice.word(12));
        let created = context.now;
        let command = Registered {
            account_id,
            region_id: region,
            name,
            kind,
            content,
            timeout,
            working_dir,
            substitutes,
            tags,
            created,
        };
        self.commands.insert(command_id.clone(), command);
        Ok(json!({ "CommandId": command_id }))
    }

    pub(super) fn describe_commands(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let (id, name) = (params.optional("CommandId"), params.optional("Name"));
        let plain = params.optional("ContentEncoding").is_some_and(|encoding| encoding == "PlainText");
        let tags = params.tags()?;
        let (size, token) = params.paging(50, None)?;
        params.finish()?;
        let mut found: Vec<(&String, &Registered)> = self
            .commands
            .iter()
            .filter(|(own, one)| {
                one.account_id == context.caller.account_id
                    && one.region_id == region
                    && id.as_ref().is_none_or(|id| id == *own)
                    && name.as_ref().is_none_or(|name| *name == one.name)
                    && one.tags.match_filter(&tags)
                    && context.may("ecs:DescribeCommands", &context.arn(&region, "command", own), &one.tags)
            })
            .collect();
        found.sort_by_key(|(_, one)| std::cmp::Reverse(one.created));
        let show = |(id, one): &(&String, &Registered)| {
            let content = if plain { one.content.clone() } else { BASE64.encode(&one.content) };
            json!({
                "CommandId": id, "Name": one.name, "Type": one.kind, "CommandContent": content, "Timeout": one.timeout,
                "WorkingDir": one.working_dir.clone().unwrap_or_default(), "EnableParameter": one.substitutes,
                "CreationTime": seconds(one.created), "Tags": one.tags.shown(),
            })
        };
        let all: Vec<Value> = found.iter().map(show).collect();
        let total = all.len();
        let (all, next) = page(all, size, token.as_deref())?;
        Ok(json!({ "Commands": { "Command": all }, "NextToken": next, "TotalCount": total }))
    }

    /// Launcher, containers and schedules are not in this cloud.
    pub(super) fn invoke_command(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let command_id = params.required("CommandId")?;
        let ids = params.list("InstanceId", 100)?;
        let given = params.optional("Parameters");
        let timeout = params.number("Timeout")?;
        let working_dir = params.text("WorkingDir", 1..=200)?;
        let username = params.text("Username", 1..=255)?;
        let mode = params.one_of("TerminationMode", &["Process", "ProcessTree"])?.unwrap_or("Process".into());
        params.one_of("RepeatMode", &["Once"])?;
        let tags = params.tags()?;
        params.finish()?;
        let tags_of = self.commands.get(&command_id).map(|one| one.tags.clone()).unwrap_or_default();
        context.require_on("ecs:InvokeCommand", &context.arn(&region, "command", &command_id), &tags_of)?;
        let own = |one: &&Registered| one.account_id == context.caller.account_id && one.region_id == region;
        let command = self.commands.get(&command_id).filter(own).cloned();
        let command = command.ok_or_else(|| {
            ApiError::new(404, "InvalidCmdId.NotFound", "The specified command ID does not exist.")
        })?;
        if ids.is_empty() {
            let why = "The parameter instanceId is missing or empty.";
            return Err(ApiError::new(400, "MissingParam.InstanceId", why));
        }
        for id in &ids {
            let instance = self.own_instance(context, &region, id)?;
            context.require_on("ecs:InvokeCommand", &context.arn(&region, "instance", id), &instance.tags)?;
            if instance.status != "Running" {
                let why = format!("The instance {id} is not running.");
                return Err(ApiError::new(403, "IncorrectInstanceStatus", why));
            }
        }
        if timeout.is_some_and(|timeout| timeout < 10) {
            return Err(invalid("Timeout", "at least 10 seconds"));
        }
        let task = Task {
            invoke_id: String::new(),
            command_id,
            instance_id: String::new(),
            kind: command.kind.clone(),
            content: substituted(&command, given.as_deref())?.into_bytes(),
            timeout: Duration::from_secs(timeout.unwrap_or(command.timeout)),
            working_dir: working_dir.or_else(|| command.working_dir.clone()),
            username,
            termination_mode: mode,
            name: Some(command.name),
        };
        let invoke_id = self.launch(context, region, &ids, task, tags);
        Ok(json!({ "InvokeId": invoke_id }))
    }
}
