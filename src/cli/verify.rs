//! `appsnap verify`: proves that a snapshot group restores, with the operator's key or a role, on an instance that lends
//! itself to it.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Failure, bootstrap, client, install, operator, out, progress, show};
use crate::acs::{Client, Credentials};
use crate::api::ecs;
use crate::clock::Clock;
use crate::local::cloud::{LocalCloud, OPERATOR, REGION};
use crate::local::{lent, world};
use crate::report::{Report, SnapshotReport, Status, Unit};
use crate::verify::{BESIDE, Job, LENT, LIMIT, Proof, subject, take_back, verdict, verify};

const TICK: &str = include_str!("../../events/timer.json");

/// Prove that a snapshot group restores: disks made from it, mounted, its engine started, all of it taken away again.
/// Exit code 0: clean, or little to redo; 3: a crash shows (rolled back); 1: broken, or not found out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group, ssg-…; with --local one is made.
    #[arg(required_unless_present = "local", conflicts_with = "local")]
    group: Option<String>,
    /// The instance that lends itself; default: the one that has the tag appsnap:verify=allowed.
    #[arg(long, value_name = "INSTANCE", conflicts_with = "local")]
    on: Option<String>,
    /// A role to assume, with the rights of policies/verify.json; default: the key's own rights.
    #[arg(long, value_name = "ARN", conflicts_with = "local")]
    role_arn: Option<String>,
    /// Region of group and instance.
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", default_value = "cn-hangzhou")]
    region: String,
    /// A statement to put to the engine when it is up; its answer is told.
    #[arg(long, value_name = "STATEMENT")]
    query: Option<String>,
    /// How long the work on the instance may take, seconds.
    #[arg(long, default_value_t = LIMIT, value_parser = clap::value_parser!(u32).range(60..=7200))]
    limit: u32,
    /// In a local cloud that is started for it: one timer tick makes a group, and that one is verified.
    #[arg(long)]
    local: bool,
    /// With --local: install nothing; name what is missing instead.
    #[arg(long)]
    no_install: bool,
    /// The report as one JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    let clock = Clock::system();
    let report = match &args.group {
        Some(group_id) => {
            let client = operator(&clock, &args.region, args.role_arn.as_deref(), "verify")?;
            prove(&args, &clock, client, group_id, args.on.as_deref()).await?
        }
        None => locally(&args, &clock).await?,
    };
    let text = if args.json {
        format!("{:#}\n", serde_json::to_value(&report).map_err(|error| Failure::new(error.to_string()))?)
    } else {
        told(&report)
    };
    out(&text)?;
    Ok(report.exit_code())
}

async fn prove(
    args: &Args,
    clock: &Clock,
    client: Client,
    group_id: &str,
    on: Option<&str>,
) -> Result<Report, Failure> {
    let instance_id = match on {
        Some(id) => id.to_owned(),
        None => the_lent_one(&client, &args.region).await?,
    };
    let started = clock.now();
    let run = format!("v-{}", clock.nonce().get(..16).unwrap_or("0"));
    let work = SignedDuration::from_secs(i64::from(args.limit + BESIDE));
    let job = Job {
        client,
        region_id: args.region.clone(),
        group_id: group_id.to_owned(),
        instance_id,
        run,
        limit: args.limit,
        query: args.query.clone(),
        patience: subject::PATIENCE,
        deadline: started + subject::PATIENCE + work + work,
        started,
    };
    progress(args.json, &format!("verifying {group_id} on {} ...", job.instance_id));
    tokio::select! {
        proof = verify(&job) => Ok(report(&job, proof, clock.now())),
        _ = tokio::signal::ctrl_c() => {
            progress(args.json, "interrupted: taking everything away ...");
            let message = match take_back(&job).await {
                Ok(()) => "interrupted; everything is taken away".to_owned(),
                Err(error) => format!("interrupted; {}", error.message),
            };
            Err(Failure { message, code: 130 })
        }
    }
}

/// The only instance that has the tag.
async fn the_lent_one(client: &Client, region_id: &str) -> Result<String, Failure> {
    let tag = [(LENT.to_owned(), "allowed".to_owned())];
    let found = ecs::describe_instances(client, region_id, &[], &tag).await;
    let found = found.map_err(|error| Failure::new(error.to_string()))?;
    let ids: Vec<&str> = found.iter().map(|one| one.instance_id.as_str()).collect();
    match ids[..] {
        [id] => Ok(id.to_owned()),
        [] => Err(Failure::usage(format!(
            "--on: name the instance that lends itself; none that may be seen in {region_id} has the tag {LENT}=allowed"
        ))),
        _ => Err(Failure::usage(format!("--on: name one of {}", ids.join(", ")))),
    }
}

fn report(job: &Job, proof: Proof, finished: Timestamp) -> Report {
    let status = match proof.verified.as_ref().map(verdict::exit_code) {
        Some(0) => Status::Succeeded,
        Some(3) => Status::Degraded,
        _ => Status::Failed,
    };
    let mut unit = Unit {
        region_id: job.region_id.clone(),
        snapshot_group_id: Some(job.group_id.clone()),
        findings: proof.findings,
        timeline: proof.timeline,
        verified: proof.verified,
        error: proof.error,
        ..Unit::default()
    };
    let mut policy = String::new();
    if let Some(subject) = proof.subject {
        unit.instance_ids = vec![subject.instance_id];
        unit.disk_ids = subject.members.iter().map(|member| member.source_disk_id.clone()).collect();
        unit.snapshots = subject
            .members
            .into_iter()
            .map(|member| SnapshotReport {
                snapshot_id: member.snapshot_id,
                disk_id: member.source_disk_id,
                status: "accomplished".into(),
            })
            .collect();
        unit.level = subject.level;
        policy = subject.policy.unwrap_or_default();
    }
    Report {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").into(),
        run: job.run.clone(),
        policy,
        occurrence: format!("verification of {}", job.group_id),
        trigger: "manual".into(),
        dry_run: false,
        status,
        repeats: None,
        outcome: None,
        summary: BTreeMap::from([(status.as_str().to_owned(), 1)]),
        started_at: job.started.to_string(),
        finished_at: finished.to_string(),
        duration_ms: finished.duration_since(job.started).as_millis() as i64,
        api_calls: job.client.api_calls(),
        units: vec![unit],
        notifications: Vec::new(),
        error: None,
    }
}

/// For people.
fn told(report: &Report) -> String {
    let mut out = String::new();
    for unit in &report.units {
        let group = unit.snapshot_group_id.as_deref().unwrap_or_default();
        let of = unit.instance_ids.first().map(|id| format!(" of {id}")).unwrap_or_default();
        let (state, why) = match &unit.verified {
            Some(verified) => (verified.state.to_uppercase(), verified.why.as_str()),
            None => ("NOT VERIFIED".into(), "it was not found out how it comes up"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(out, "{state}: {group}{of}: {why}");
        if let Some(error) = &unit.error {
            show::error(&mut out, "  ", error);
        }
        if let Some(verified) = &unit.verified {
            let answer = verified.answer.iter().map(|answer| format!("answer: {answer}"));
            for line in verified.evidence.iter().cloned().chain(answer) {
                let _ = writeln!(out, "  {line}");
            }
        }
        for finding in &unit.findings {
            let _ = writeln!(out, "  {} {}: {}", finding.code, finding.resource, finding.message);
            let _ = writeln!(out, "    cure: {}", finding.cure);
        }
        for step in &unit.timeline {
            let (name, detail) = (&step.step, &step.detail);
            let (from, to) = (step.start_ms, step.end_ms);
            let _ = writeln!(out, "  {from:>8} .. {to:>6}  {name:<14} {:<8} {detail}", step.outcome);
        }
    }
    out
}

/// Makes a group in a local cloud as a timer would, and verifies it there.
async fn locally(args: &Args, clock: &Clock) -> Result<Report, Failure> {
    install::ensure(!args.no_install, None).await?;
    let function = bootstrap::find(args.json).await?;
    progress(args.json, "starting the local cloud, and a guest that lends itself ...");
    let cloud = LocalCloud::start(clock, world::Settings::default(), &function, 0).await?;
    let work = async {
        cloud.write_scripts("0700").await?;
        let tick: Value = serde_json::from_str(TICK)
            .map_err(|error| Failure::new(format!("events/timer.json: {error}")))?;
        let done = cloud.function.invoke(tick.to_string().into_bytes()).await;
        let answer: Value = serde_json::from_slice(&done.body).unwrap_or_default();
        let group = super::report_in(&answer)["units"][0]["snapshotGroupId"].as_str().map(str::to_owned);
        let group = group.ok_or_else(|| Failure::new(format!("the tick gave no group: {answer:#}")))?;
        lent::add(&cloud).await?;
        let endpoint = cloud.endpoint();
        let ecs_only = |name: &str| (name == "APPSNAP_ECS_ENDPOINT").then(|| endpoint.clone());
        let keys = Credentials::new(Some(OPERATOR.0.into()), Some(OPERATOR.1.into()), None);
        let keys = keys.ok_or_else(|| Failure::new("the operator has no key"))?;
        let client = client(clock, &ecs_only, REGION, Some(&cloud.ca_file), keys)?;
        prove(args, clock, client, &group, Some(lent::INSTANCE)).await
    };
    let report = work.await;
    let closed = cloud.close().await;
    let report = report?;
    closed?;
    Ok(report)
}
