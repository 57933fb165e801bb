//! The commands on the instance that lends itself, through Cloud Assistant.

use std::time::Duration;

use super::subject::Subject;
use super::{Job, soon, until};
use crate::acs::{Error, past_limits};
use crate::api::assistant::{self, RunCommand};
use crate::guest::render::RenderError;
use crate::guest::verify::{self as script, Copied, Database, Work};
use crate::policy::ids;
use crate::ram;
use crate::report::ErrorReport;

/// Until a command begins, and until its result is there, beside what it does, in seconds.
const DELIVERY: u32 = 75;
/// How long the record of a command is looked for, in seconds.
const SHOWS: i64 = 15;

/// Does the work; its output. `made` are the disks in the order of the members.
pub(super) async fn work(job: &Job, subject: &Subject, made: &[String]) -> Result<String, ErrorReport> {
    let copies = made.iter().zip(&subject.members);
    let database = subject.marked.as_ref().and_then(|marked| {
        Some(Database {
            engine: marked.engine.clone(),
            script: script::engine_script(&marked.engine)?.to_owned(),
            data_dir: marked.data_dir.clone(),
            log_dir: marked.log_dir.clone(),
            query: job.query.clone(),
        })
    });
    let work = Work {
        run: job.run.clone(),
        group_id: job.group_id.clone(),
        limit: job.limit,
        disks: copies
            .map(|(disk_id, member)| Copied {
                disk_id: disk_id.clone(),
                source_disk_id: member.source_disk_id.clone(),
            })
            .collect(),
        places: subject.places.clone(),
        database,
    };
    let content = script::render(&work).map_err(unfit)?;
    run(job, "verify", &content, job.limit + 30).await
}

/// Ends what a verification of the group left there, and unmounts it.
pub(super) async fn clean(job: &Job, group_id: &str) -> Result<String, ErrorReport> {
    // Each time a command of its own.
    let nonce = job.client.clock().nonce();
    let name = format!("clean-{}", nonce.get(..8).unwrap_or(&nonce));
    let content = script::clean(&job.run, group_id).map_err(unfit)?;
    run(job, &name, &content, 60).await
}

async fn run(job: &Job, name: &str, content: &[u8], seconds: u32) -> Result<String, ErrorReport> {
    let failed = |error: Error| ErrorReport::from(&error);
    let (client, region_id, instance_id) = (&job.client, &job.region_id, &job.instance_id);
    let command = RunCommand {
        region_id,
        instance_id,
        name: &format!("appsnap-{name}-{}", job.group_id),
        kind: "RunShellScript",
        content,
        timeout: Duration::from_secs(u64::from(seconds)),
        client_token: &ids::client_token(&format!("{name}-{}", job.run)),
        tags: &[],
    };
    let deadline = soon(job, i64::from(seconds + DELIVERY));
    let send = || assistant::run_command(client, &command);
    let started = past_limits(client.clock(), deadline, send).await.map_err(failed)?;
    let id = &started.invoke_id;
    let result = || assistant::invocation_result(client, region_id, id, instance_id);
    if until(job, soon(job, SHOWS), result).await.map_err(failed)?.is_none() {
        let action = "ecs:DescribeInvocationResults";
        return Err(ErrorReport {
            code: "verify.lost".into(),
            message: format!(
                "DescribeInvocationResults does not show the command {id} (a denial is an empty list)"
            ),
            action: Some("DescribeInvocationResults".into()),
            resource: Some(instance_id.clone()),
            request_id: None,
            cure: Some(ram::addition(action, region_id, instance_id)),
        });
    }
    let ended = || async { Ok(result().await?.filter(|result| result.invocation_status.is_end())) };
    let ended = until(job, deadline, ended).await.map_err(failed)?;
    let lost = |why: String| ErrorReport {
        code: "verify.lost".into(),
        message: format!("the instance did not tell what it found: {why}"),
        action: Some("RunCommand".into()),
        resource: Some(instance_id.clone()),
        request_id: None,
        cure: Some("check that Cloud Assistant is alive there, and that the limit is long enough".into()),
    };
    let Some(ended) = ended else { return Err(lost("no result in time".into())) };
    let spoke = |line: &str| line.starts_with("end: ") || line.starts_with("{\"appsnap\":");
    match ended.output.lines().any(spoke) {
        true => Ok(ended.output),
        false => Err(lost(format!(
            "{:?}, exit {:?} {} {}",
            ended.invocation_status, ended.exit_code, ended.error_code, ended.error_info
        ))),
    }
}

fn unfit(error: RenderError) -> ErrorReport {
    ErrorReport {
        code: "guest.command".into(),
        message: error.to_string(),
        cure: Some("see the message; fewer disks, shorter paths or names".into()),
        ..ErrorReport::default()
    }
}
