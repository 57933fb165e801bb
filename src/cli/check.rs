//! `appsnap check`: whether, and how far, instances could be protected. The function's own code judges, with the
//! operator's credentials; nothing is changed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::{Failure, credentials, install, out, progress, request_in, show};
use crate::clock::Clock;
use crate::handler::{App, Invocation};
use crate::local::cloud::{LocalCloud, REGION, role_arn};
use crate::local::scene::Scene;
use crate::local::world;
use crate::policy::Request;
use crate::report::{Finding, Level, Report, Severity, Status, Unit};

/// How long it may take: the platform's limits do not count here.
const TIME: SignedDuration = SignedDuration::from_hours(24);

/// Judge whether, and how far, instances could be protected; nothing is changed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A request, as an event holds it; the flags go on top. Its channels are not told.
    request: Option<PathBuf>,
    /// Name of the policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Region of the instances; default: the request's, else ALIBABA_CLOUD_REGION_ID.
    #[arg(long)]
    region: Option<String>,
    /// An instance; may be given more than once.
    #[arg(long = "instance", value_name = "ID")]
    instances: Vec<String>,
    /// Instances with this tag; may be given more than once.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Which of their disks.
    #[arg(long, value_parser = ["all", "data", "system"])]
    disks: Option<String>,
    /// The role to assume.
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// The level that is wanted.
    #[arg(long, value_name = "LEVEL", value_parser = ["crash", "filesystem", "application"])]
    consistency: Option<String>,
    /// Below it a run would be refused.
    #[arg(long, value_name = "LEVEL", value_parser = ["crash", "filesystem", "application"])]
    minimum_level: Option<String>,
    /// Against a local cloud that is started for it; without instances, all of its are checked.
    #[arg(long)]
    local: bool,
    /// Which instances that cloud has.
    #[arg(long, value_name = "NAME", default_value = "demo", requires = "local", value_parser = super::scene)]
    world: Scene,
    /// The report as one JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
    /// With --local: install nothing; name what is missing instead.
    #[arg(long)]
    no_install: bool,
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    let request = request(&args)?;
    let clock = Clock::system();
    let report = match args.local {
        true => locally(&args, &clock, &request).await?,
        false => judge(&clock, std::env::vars().collect(), &request).await?,
    };
    let text = if args.json {
        format!("{:#}\n", serde_json::to_value(&report).map_err(|error| Failure::new(error.to_string()))?)
    } else {
        table(&report)
    };
    out(&text)?;
    Ok(report.exit_code())
}

/// The request of the file with the flags on top; what is wrong with it is wrong usage.
fn request(args: &Args) -> Result<Value, Failure> {
    let mut request = match &args.request {
        None => Map::new(),
        Some(path) => request_in(path)?,
    };
    let regionless = request.get("regionId").is_none_or(Value::is_null);
    let region = args.region.clone().or_else(|| (args.local && regionless).then(|| REGION.to_owned()));
    let texts = [
        ("policy", &args.policy),
        ("regionId", &region),
        ("roleArn", &args.role_arn),
        ("consistency", &args.consistency),
        ("minimumLevel", &args.minimum_level),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            request.insert(field.into(), json!(text));
        }
    }
    request.entry("policy").or_insert(json!("check"));
    let targets = request.entry("targets").or_insert_with(|| json!({}));
    if !targets.is_object() {
        return Err(Failure::usage("targets: must be an object"));
    }
    if !args.instances.is_empty() {
        targets["instanceIds"] = json!(args.instances);
    }
    if !args.tags.is_empty() {
        let mut tags = BTreeMap::<&String, Vec<&String>>::new();
        args.tags.iter().for_each(|(key, value)| tags.entry(key).or_default().push(value));
        targets["tags"] = json!(tags);
    }
    if let Some(disks) = &args.disks {
        targets["disks"] = json!(disks);
    }
    if args.local && ["instanceIds", "tags", "scope"].iter().all(|field| targets[*field].is_null()) {
        for (field, value) in args.world.targets() {
            targets[&field] = value;
        }
    }
    request.insert("dryRun".into(), json!(true));
    // Who asks reads the answer, and the channels' secrets are the function's.
    request.insert("notify".into(), json!([]));
    let request = Value::Object(request);
    Request::parse(&request).map_err(|invalid| Failure::usage(invalid.to_string()))?;
    Ok(request)
}

/// Hands the request to the function's own code, as an invocation would.
async fn judge(clock: &Clock, env: BTreeMap<String, String>, request: &Value) -> Result<Report, Failure> {
    let get = |name: &str| env.get(name).cloned().filter(|value| !value.is_empty());
    credentials(&get)?;
    let region_id = get("ALIBABA_CLOUD_REGION_ID");
    let app = App::new(clock.clone(), env).map_err(Failure::new)?;
    let invocation = Invocation {
        request_id: format!("check-{}", clock.nonce()),
        async_task_id: None,
        region_id,
        account_id: None,
        function: None,
        credentials: None,
        deadline: clock.now() + TIME,
    };
    let mut reports = app.handle(request.to_string().as_bytes(), &invocation).await;
    reports.pop().ok_or_else(|| Failure::new("there is no report"))
}

async fn locally(args: &Args, clock: &Clock, request: &Value) -> Result<Report, Failure> {
    install::ensure(!args.no_install, None).await?;
    progress(args.json, "starting the local cloud ...");
    // Its function is not asked.
    let function = Path::new("bootstrap");
    let cloud = LocalCloud::start(clock, world::Settings::default(), function, 0).await?;
    let work = async {
        args.world.set(&cloud).await?;
        let mut env = vec![
            ("APPSNAP_ECS_ENDPOINT", cloud.endpoint()),
            ("APPSNAP_STS_ENDPOINT", cloud.endpoint()),
            ("APPSNAP_CA_BUNDLE", cloud.ca_file.display().to_string()),
            ("APPSNAP_ROLE_ARN", role_arn()),
        ];
        // With the function's own rights, which are those of the documents in `policies/`.
        env.extend(cloud.function_keys().ok_or_else(|| Failure::new("the function has no role"))?);
        judge(clock, env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), request).await
    };
    let report = tokio::select! {
        report = work => report,
        _ = tokio::signal::ctrl_c() => Err(Failure { message: "interrupted; everything is taken away".into(), code: 130 }),
    };
    let closed = cloud.close().await;
    let report = report?;
    closed?;
    Ok(report)
}

/// For people: what a run would reach on each instance, and all that stands against more.
fn table(report: &Report) -> String {
    let mut out = String::new();
    let line = |out: &mut String, words: std::fmt::Arguments| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{words}");
    };
    let counts: Vec<String> =
        report.summary.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
    let status = report.status.as_str().to_uppercase();
    let short = report.units.iter().any(|unit| unit.expected_level < Some(unit.wanted));
    let verdict = match report.status {
        Status::Succeeded if short => {
            "a run would reach what is wanted, or all that a stopped instance can give"
        }
        Status::Succeeded => "a run would reach what is wanted",
        Status::Degraded => "a run would reach less than is wanted",
        Status::Refused => "a run would be refused",
        _ => "not everything could be judged",
    };
    line(
        &mut out,
        format_args!("{status}: {verdict}; policy {}, nothing was changed{counts}", report.policy),
    );
    if let Some(error) = &report.error {
        show::error(&mut out, "  ", error);
    }
    for unit in &report.units {
        if unit.instance_ids.is_empty() {
            line(&mut out, format_args!("\n{} of account {}:", unit.region_id, unit.account_id));
            unit.error.iter().for_each(|error| show::error(&mut out, "  ", error));
            continue;
        }
        let expected = unit.expected_level.map_or("unknown", Level::as_str);
        let by = match unit.engine.as_str() {
            "plugin" => "by the vendor's plugin",
            "sequence" => "by the sequence",
            _ => "stopped: by the function alone",
        };
        // Of what the cloud does not show, no system is known.
        let unseen = unit.findings.iter().any(|finding| finding.code == "instance.unknown");
        let how = if unseen { String::new() } else { format!(" ({}, {by})", unit.os_type) };
        let (ids, wanted) = (unit.instance_ids.join(", "), unit.wanted.as_str());
        line(
            &mut out,
            format_args!("\n{ids} in {}{how}: expected {expected}, wanted {wanted}", unit.region_id),
        );
        if let Some(step) = unit.timeline.iter().find(|step| step.step == "guest.look") {
            line(&mut out, format_args!("  {}", step.detail));
        }
        if let Some(error) = &unit.error {
            show::error(&mut out, "  ", error);
        }
        let mut findings: Vec<&Finding> = unit.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        for finding in findings.iter().filter(|finding| finding.severity > Severity::Note) {
            let weight = if finding.severity == Severity::Blocker { "blocks" } else { "lowers" };
            let at = place(unit, &[finding]);
            line(&mut out, format_args!("  {weight}  {:<18} {at}{}", finding.code, finding.message));
            line(&mut out, format_args!("          cure: {}", finding.cure));
        }
        notes(unit, &mut out);
        if unit.findings.is_empty() && unit.error.is_none() {
            line(&mut out, format_args!("  nothing stands against it"));
        }
    }
    out
}

/// The notes, those of one code and text together.
fn notes(unit: &Unit, out: &mut String) {
    let notes: Vec<&Finding> =
        unit.findings.iter().filter(|finding| finding.severity == Severity::Note).collect();
    let mut told: Vec<(&str, &str)> = Vec::new();
    for note in &notes {
        let what = (note.code.as_str(), note.message.as_str());
        if told.contains(&what) {
            continue;
        }
        told.push(what);
        let same: Vec<&Finding> =
            notes.iter().copied().filter(|one| (one.code.as_str(), one.message.as_str()) == what).collect();
        let at = place(unit, &same);
        // Writing to a String does not fail.
        let _ = writeln!(out, "  note    {:<18} {at}{}", note.code, note.message);
        let _ = writeln!(out, "          cure: {}", note.cure);
    }
}

/// What findings are about, where it is not the instance itself.
fn place(unit: &Unit, findings: &[&Finding]) -> String {
    let others = findings.iter().map(|finding| finding.resource.as_str());
    let others: Vec<&str> = others.filter(|one| !unit.instance_ids.iter().any(|id| id == one)).collect();
    if others.is_empty() { String::new() } else { format!("{}: ", others.join(", ")) }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
