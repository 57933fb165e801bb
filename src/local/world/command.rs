//! Cloud Assistant: commands, their delivery to an agent, their results.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::invocation::{Invocation, Run};
use super::params::{Params, invalid};
use super::reply::ApiError;
use super::tag::Tags;
use super::{CommandNews, Context, Effect, Timer, World, seconds};

/// CommandContent in base64, in bytes.
const CONTENT_LIMIT: usize = 24 * 1024;

/// What an agent is asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// `t-…`
    pub invoke_id: String,
    /// `c-…`
    pub command_id: String,
    /// `i-…`
    pub instance_id: String,
    /// `RunShellScript`, `RunBatScript` or `RunPowerShellScript`.
    pub kind: String,
    /// The script, decoded.
    pub content: Vec<u8>,
    /// After this the agent kills its direct child.
    pub timeout: Duration,
    /// Default: the home directory.
    pub working_dir: Option<String>,
    /// Default: root.
    pub username: Option<String>,
    /// `Process` or `ProcessTree`.
    pub termination_mode: String,
    /// The command's name; part of the script's file name.
    pub name: Option<String>,
}

/// `wait` later.
pub(super) fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

impl World {
    pub(super) fn run_command(&mut self, context: &Context, params: &mut Params) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let kinds = ["RunShellScript", "RunBatScript", "RunPowerShellScript"];
        let kind = params
            .one_of("Type", &kinds)?
            .ok_or_else(|| ApiError::new(400, "MissingParameter.Type", "The parameter Type is mandatory."))?;
        let text = params.required("CommandContent")?;
        let base64 = params
            .optional("ContentEncoding")
            .is_some_and(|encoding| encoding.eq_ignore_ascii_case("base64"));
        let ids = params.list("InstanceId", 100)?;
        let timeout = params.number("Timeout")?.unwrap_or(60);
        let working_dir = params.text("WorkingDir", 1..=200)?;
        let username = params.text("Username", 1..=255)?;
        let mode = params.one_of("TerminationMode", &["Process", "ProcessTree"])?.unwrap_or("Process".into());
        let name = params.text("Name", 1..=128)?;
        params.text("Description", 1..=512)?;
        let repeat = params.one_of("RepeatMode", &["Once", "DryRun"])?;
        let substitutes = params.boolean("EnableParameter")?.unwrap_or(false);
        params.boolean("KeepCommand")?;
        let tags = params.tags()?;
        params.finish()?;
        let content = if base64 {
            BASE64.decode(&text).map_err(|_| invalid("CommandContent", "it is no base64"))?
        } else {
            text.into_bytes()
        };
        if content.len().div_ceil(3) * 4 > CONTENT_LIMIT {
            return Err(ApiError::new(
                400,
                "CmdContent.ExceedLimit",
                "The length of the command content exceeds 24 KB after base64.",
            ));
        }
        if timeout < 10 {
            return Err(invalid("Timeout", "at least 10 seconds"));
        }
        if substitutes {
            return Err(invalid("EnableParameter", "the local cloud substitutes nothing"));
        }
        if ids.is_empty() {
            return Err(ApiError::new(
                400,
                "MissingParameter.InstanceId",
                "The parameter InstanceId is mandatory.",
            ));
        }
        // RunCommand makes a command too, so it takes both rights.
        context.require("ecs:RunCommand", &context.arn(&region, "command", "*"))?;
        for id in &ids {
            let instance = self.own_instance(context, &region, id)?;
            context.require_on("ecs:RunCommand", &context.arn(&region, "instance", id), &instance.tags)?;
            if instance.status != "Running" {
                return Err(ApiError::new(
                    403,
                    "IncorrectInstanceStatus",
                    format!("The instance {id} is not running."),
                ));
            }
        }
        if repeat.as_deref() == Some("DryRun") {
            return match ids.iter().find(|id| !self.instances.get(*id).is_some_and(|i| i.agent_alive)) {
                Some(id) => Err(ApiError::new(
                    400,
                    "ClientNotRunning",
                    format!("The Cloud Assistant client of {id} is not running."),
                )),
                None => Err(ApiError::dry_run()),
            };
        }
        let command_id = format!("c-hz0{}", self.dice.word(12));
        let task = Task {
            invoke_id: String::new(),
            command_id: command_id.clone(),
            instance_id: String::new(),
            kind,
            content,
            timeout: Duration::from_secs(timeout),
            working_dir,
            username,
            termination_mode: mode,
            name,
        };
        let invoke_id = self.launch(context, region, &ids, task, tags);
        Ok(json!({ "InvokeId": invoke_id, "CommandId": command_id }))
    }

    /// Hands a command to the agents of these instances; the id of the invocation. `task` lacks that and the instance's.
    pub(super) fn launch(
        &mut self,
        context: &Context,
        region: String,
        ids: &[String],
        task: Task,
        tags: Tags,
    ) -> String {
        let invoke_id = format!("t-hz0{}", self.dice.word(12));
        let task = Task { invoke_id: invoke_id.clone(), ..task };
        let of = |id: &String| Task { instance_id: id.clone(), ..task.clone() };
        for id in ids {
            self.arm(
                after(context.now, self.settings.delivery_timeout),
                Timer::Undelivered(invoke_id.clone(), id.clone()),
            );
            if self.instances.get(id).is_some_and(|instance| instance.agent_alive) {
                self.effects.push(Effect::RunCommand(of(id)));
            }
        }
        self.order += 1;
        let runs = ids.iter().map(|id| (id.clone(), Run { status: "Pending", ..Run::default() })).collect();
        let invocation = Invocation {
            command_id: task.command_id.clone(),
            account_id: context.caller.account_id.clone(),
            region_id: region,
            tags,
            command_tags: Tags::default(),
            created: context.now,
            order: self.order,
            task: of(&ids[0]),
            runs,
        };
        self.invocations.insert(invoke_id.clone(), invocation);
        invoke_id
    }

    pub(super) fn stop_invocation(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let invoke_id = params.required("InvokeId")?;
        let ids = params.list("InstanceId", 50)?;
        params.finish()?;
        let own = |i: &&mut Invocation| i.account_id == context.caller.account_id && i.region_id == region;
        let missing = || ApiError::not_found("InvokeId", &invoke_id);
        let invocation = self.invocations.get_mut(&invoke_id).filter(own).ok_or_else(missing)?;
        for (instance_id, run) in &mut invocation.runs {
            if !ids.is_empty() && !ids.contains(instance_id) {
                continue;
            }
            let tags = self.instances.get(instance_id).map(|one| one.tags.clone()).unwrap_or_default();
            context.require_on(
                "ecs:StopInvocation",
                &context.arn(&region, "instance", instance_id),
                &tags,
            )?;
            match run.status {
                "Pending" => (run.status, run.stopped) = ("Cancelled", Some(context.now)),
                "Running" => run.status = "Stopping",
                _ => continue,
            }
            self.effects
                .push(Effect::StopCommand { invoke_id: invoke_id.clone(), instance_id: instance_id.clone() });
        }
        Ok(json!({}))
    }

    pub(super) fn command_news(
        &mut self,
        now: Timestamp,
        invoke_id: &str,
        instance_id: &str,
        news: CommandNews,
    ) {
        let Some(invocation) = self.invocations.get_mut(invoke_id) else { return };
        let timeout = invocation.task.timeout;
        let Some(run) = invocation.runs.get_mut(instance_id).filter(|run| run.open()) else { return };
        match news {
            CommandNews::Started => {
                (run.status, run.started) = ("Running", Some(now));
                let late = after(after(now, timeout), self.settings.result_grace);
                self.arm(late, Timer::ResultOverdue(invoke_id.into(), instance_id.into()));
                return;
            }
            CommandNews::Output(bytes) => return run.keep(&bytes),
            CommandNews::Finished { exit_code, output, dropped } => {
                run.replace(&output, dropped);
                run.exit_code = Some(exit_code);
                (run.status, run.error_code) = if exit_code == 0 {
                    ("Success", String::new())
                } else {
                    ("Failed", "ExitCodeNonzero".into())
                };
                run.finished = Some(now);
            }
            CommandNews::TimedOut { output, dropped } => {
                run.replace(&output, dropped);
                run.time_out(now, timeout);
            }
            CommandNews::Stopped => (run.status, run.stopped) = ("Terminated", Some(now)),
            CommandNews::Refused(code) => {
                let invalid = ["DirectoryNotExists", "AccountNotExists", "CommandNotApplicable"]
                    .contains(&code.as_str());
                (run.status, run.finished) = (if invalid { "Invalid" } else { "Error" }, Some(now));
                run.error_code = code;
            }
        }
        self.command_event(now, invoke_id, instance_id);
    }

    pub(super) fn undelivered(&mut self, at: Timestamp, invoke_id: &str, instance_id: &str) {
        let alive = self.instances.get(instance_id).is_some_and(|instance| instance.agent_alive);
        let run = self.invocations.get_mut(invoke_id).and_then(|i| i.runs.get_mut(instance_id));
        let Some(run) = run.filter(|run| run.status == "Pending") else { return };
        (run.status, run.finished) = ("Aborted", Some(at));
        run.error_code = if alive { "DeliveryTimeout" } else { "ClientNotRunning" }.into();
        self.command_event(at, invoke_id, instance_id);
    }

    pub(super) fn result_overdue(&mut self, at: Timestamp, invoke_id: &str, instance_id: &str) {
        let Some(invocation) = self.invocations.get_mut(invoke_id) else { return };
        let timeout = invocation.task.timeout;
        let Some(run) = invocation.runs.get_mut(instance_id).filter(|run| run.open()) else { return };
        run.time_out(at, timeout);
        self.command_event(at, invoke_id, instance_id);
    }

    fn command_event(&mut self, at: Timestamp, invoke_id: &str, instance_id: &str) {
        let Some(invocation) = self.invocations.get(invoke_id) else { return };
        let Some(run) = invocation.runs.get(instance_id) else { return };
        let shown = |time: Option<Timestamp>| time.map(seconds).unwrap_or_default();
        let data = json!({
            "commandId": invocation.command_id, "commandName": invocation.task.name.clone().unwrap_or_default(),
            "exitCode": run.exit_code.map(|code| code.to_string()).unwrap_or_default(), "finishTime": shown(run.finished.or(run.stopped)),
            "instanceId": instance_id, "invocationStatus": run.status, "invokeId": invoke_id, "repeatMode": "Once", "repeats": "1",
            "startTime": shown(run.started), "errorCode": if run.error_code.is_empty() { "0" } else { &run.error_code }, "errorDesc": "",
        });
        let (account, region) = (invocation.account_id.clone(), invocation.region_id.clone());
        self.emit(
            at,
            "ecs:CloudAssistant:TaskCompleted",
            &account,
            &region,
            &format!("instance/{instance_id}"),
            data,
        );
    }

    /// Emits a CloudEvents object as EventBridge delivers it.
    pub(super) fn emit(
        &mut self,
        at: Timestamp,
        kind: &str,
        account: &str,
        region: &str,
        subject: &str,
        data: Value,
    ) {
        let event = json!({
            "id": self.dice.uuid().to_lowercase(), "source": "acs.ecs", "specversion": "1.0", "type": kind,
            "datacontenttype": "application/json;charset=utf-8", "subject": format!("acs:ecs:{region}:{account}:{subject}"),
            "time": seconds(at), "aliyunaccountid": account, "aliyunpublishtime": seconds(at), "aliyunregionid": region,
            "aliyuneventbusname": "default", "data": data,
        });
        self.effects.push(Effect::EmitEvent(event));
    }
}
