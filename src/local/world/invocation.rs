//! Invocations: the state of a command on each instance, and the calls that show it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::command::{Task, after};
use super::params::Params;
use super::reply::{ApiError, page};
use super::tag::Tags;
use super::{Context, World, seconds};

/// Output that the cloud keeps, in bytes.
const OUTPUT_LIMIT: usize = 24 * 1024;

#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) command_id: String,
    pub(super) account_id: String,
    pub(super) region_id: String,
    pub(super) tags: Tags,
    pub(super) command_tags: Tags,
    pub(super) created: Timestamp,
    pub(super) order: u64,
    pub(super) task: Task, // of its first instance
    pub(super) runs: BTreeMap<String, Run>,
}

#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) status: &'static str,
    pub(super) error_code: String,
    pub(super) exit_code: Option<i64>,
    pub(super) output: Vec<u8>,
    pub(super) dropped: u64,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
    pub(super) stopped: Option<Timestamp>,
}

impl Run {
    pub(super) fn open(&self) -> bool {
        matches!(self.status, "Pending" | "Running" | "Stopping")
    }

    fn record_status(&self) -> &'static str {
        match self.status {
            "Pending" | "Running" => "Running",
            "Stopping" => "Stopping",
            "Success" => "Finished",
            "Failed" if self.exit_code.is_some() => "Finished", // as documented: also for exit != 0
            "Terminated" | "Cancelled" => "Stopped",
            _ => "Failed",
        }
    }
}

impl Invocation {
    fn status(&self) -> &'static str {
        let any = |status: &str| self.runs.values().any(|run| run.status == status);
        let stopped = |run: &Run| matches!(run.status, "Terminated" | "Cancelled");
        let all = |wanted: &dyn Fn(&Run) -> bool| self.runs.values().all(wanted);
        match () {
            _ if any("Stopping") => "Stopping",
            _ if any("Running") => "Running",
            _ if any("Pending") => "Pending",
            _ if all(&stopped) => "Stopped",
            _ if all(&|run| run.status == "Success" || stopped(run)) => "Success",
            _ if !any("Success") => "Failed",
            _ => "PartialFailed",
        }
    }
}

impl World {
    pub(super) fn active(&self, instance_id: &str) -> usize {
        self.invocations.values().filter(|i| i.runs.get(instance_id).is_some_and(Run::open)).count()
    }

    pub(super) fn describe_invocations(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let name = params.optional("CommandName");
        let with_output = params.boolean("IncludeOutput")?.unwrap_or(false);
        let (found, plain, size, token) =
            self.find_invocations(context, params, "ecs:DescribeInvocations")?;
        let show = |(id, i, runs): &Found| {
            let runs: Vec<Value> = runs
                .iter()
                .map(|(instance, run)| self.show_run(instance, run, plain, with_output, "FinishTime"))
                .collect();
            let content = if plain {
                String::from_utf8_lossy(&i.task.content).into_owned()
            } else {
                BASE64.encode(&i.task.content)
            };
            json!({
                "InvokeId": id, "CommandId": i.command_id, "CommandName": i.task.name.clone().unwrap_or_default(), "CommandType": i.task.kind,
                "CommandContent": content, "CreationTime": seconds(i.created), "InvocationStatus": i.status(), "InvokeStatus": i.status(),
                "Timeout": i.task.timeout.as_secs(), "RepeatMode": "Once", "TerminationMode": i.task.termination_mode,
                "Tags": i.tags.shown(), "InvokeInstances": { "InvokeInstance": runs },
            })
        };
        let named =
            |found: &&Found| name.as_ref().is_none_or(|name| found.1.task.name.as_ref() == Some(name));
        let all: Vec<Value> = found.iter().filter(named).map(show).collect();
        let total = all.len();
        let (all, next) = page(all, size.min(self.settings.page_limit), token.as_deref())?;
        Ok(
            json!({ "Invocations": { "Invocation": all }, "NextToken": next, "TotalCount": total, "PageNumber": 1, "PageSize": size }),
        )
    }

    pub(super) fn describe_invocation_results(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let record = params.optional("InvokeRecordStatus");
        let (found, plain, size, token) =
            self.find_invocations(context, params, "ecs:DescribeInvocationResults")?;
        let mut all = Vec::new();
        for (id, invocation, runs) in &found {
            for (instance, run) in runs
                .iter()
                .filter(|(_, run)| record.as_ref().is_none_or(|wanted| wanted == run.record_status()))
            {
                let mut shown = self.show_run(instance, run, plain, true, "FinishedTime");
                shown["InvokeId"] = id.as_str().into();
                shown["CommandId"] = invocation.command_id.as_str().into();
                shown["InvokeRecordStatus"] = run.record_status().into();
                shown["TerminationMode"] = invocation.task.termination_mode.as_str().into();
                shown["Tags"] = invocation.tags.shown();
                all.push(shown);
            }
        }
        let total = all.len();
        let (all, next) = page(all, size.min(self.settings.page_limit), token.as_deref())?;
        Ok(json!({ "Invocation": {
            "InvocationResults": { "InvocationResult": all }, "NextToken": next, "TotalCount": total, "PageNumber": 1, "PageSize": size,
        } }))
    }

    fn find_invocations(
        &self,
        context: &Context,
        params: &mut Params,
        action: &str,
    ) -> Result<(Vec<Found<'_>>, bool, usize, Option<String>), ApiError> {
        let region = self.region(params)?;
        let (invoke, instance, command) =
            (params.optional("InvokeId"), params.optional("InstanceId"), params.optional("CommandId"));
        let plain = params.optional("ContentEncoding").is_some_and(|encoding| encoding == "PlainText");
        let tags = params.tags()?;
        let (size, token) = params.paging(50, None)?;
        params.finish()?;
        let mut found: Vec<Found> = Vec::new();
        let one = invoke.as_ref().map(|id| self.invocations.get_key_value(id));
        let all = one.is_none().then(|| self.invocations.iter());
        for (id, i) in one.flatten().into_iter().chain(all.into_iter().flatten()) {
            let hit = i.account_id == context.caller.account_id
                && i.region_id == region
                && command.as_ref().is_none_or(|wanted| *wanted == i.command_id)
                && i.tags.match_filter(&tags);
            // The strict reading: the right on the instance and on the command, as the vendor's page names both.
            let hit =
                hit && context.may(action, &context.arn(&region, "command", &i.command_id), &i.command_tags);
            let untagged = Tags::default();
            let may = |id: &str| {
                let tags = self.instances.get(id).map_or(&untagged, |one| &one.tags);
                context.may(action, &context.arn(&region, "instance", id), tags)
            };
            let wanted = |id: &str| instance.as_ref().is_none_or(|wanted| wanted == id) && may(id);
            let runs: Vec<(&String, &Run)> = i.runs.iter().filter(|(id, _)| hit && wanted(id)).collect();
            if !runs.is_empty() {
                found.push((id, i, runs));
            }
        }
        found.sort_by_key(|(_, i, _)| std::cmp::Reverse(i.order)); // the newest first
        Ok((found, plain, size, token))
    }

    fn show_run(
        &self,
        instance_id: &str,
        run: &Run,
        plain: bool,
        with_output: bool,
        finished: &str,
    ) -> Value {
        let time = |at: Option<Timestamp>| at.map(seconds).unwrap_or_default();
        let output: &[u8] = if run.open() && !self.settings.running_output { &[] } else { &run.output };
        let mut shown = json!({
            "InstanceId": instance_id, "InvocationStatus": run.status, "ErrorCode": run.error_code, "ErrorInfo": run.error_code,
            "StartTime": time(run.started), finished: time(run.finished), "StopTime": time(run.stopped), "Dropped": run.dropped,
            "Repeats": u8::from(run.started.is_some()),
        });
        if let Some(code) = run.exit_code {
            shown["ExitCode"] = code.into();
        }
        if with_output {
            shown["Output"] =
                if plain { String::from_utf8_lossy(output).into() } else { BASE64.encode(output).into() };
        }
        shown
    }
}

type Found<'a> = (&'a String, &'a Invocation, Vec<(&'a String, &'a Run)>);

impl Run {
    /// Appends output as far as there is room.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let room = (OUTPUT_LIMIT - self.output.len()).min(bytes.len());
        self.output.extend_from_slice(&bytes[..room]);
        self.dropped += (bytes.len() - room) as u64;
    }

    /// Takes what an agent sends at the end in place of what it sent before.
    pub(super) fn replace(&mut self, output: &[u8], dropped: u64) {
        self.output.clear();
        self.dropped = dropped;
        self.keep(output);
    }

    pub(super) fn time_out(&mut self, now: Timestamp, timeout: Duration) {
        self.status = "Timeout";
        self.error_code = "ExecutionTimeout".into();
        self.finished = Some(self.started.map_or(now, |started| after(started, timeout)));
    }
}
