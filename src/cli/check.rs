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
    install::ensure(!args.no_install).await?;
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
    let verdict = match report.status {
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
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Result<Value, String> {
        let line = [&["check"], words].concat();
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        request(&line.args).map_err(|failure| format!("{} ({})", failure.message, failure.code))
    }

    #[test]
    fn flags_make_a_request_that_only_looks_and_tells_nobody() {
        let words = [
            "--instance",
            "i-1",
            "--instance",
            "i-2",
            "--region",
            "cn-beijing",
            "--minimum-level",
            "filesystem",
        ];
        let expected = json!({ "policy": "check", "regionId": "cn-beijing", "minimumLevel": "filesystem",
            "targets": { "instanceIds": ["i-1", "i-2"] }, "dryRun": true, "notify": [] });
        assert_eq!(parsed(&words), Ok(expected));
        let tags = ["--tag", "backup=nightly", "--tag", "backup=weekly", "--tag", "env=prod=1"];
        let expected = json!({ "tags": { "backup": ["nightly", "weekly"], "env": ["prod=1"] } });
        assert_eq!(parsed(&tags).unwrap()["targets"], expected);
        let local = parsed(&["--local", "--disks", "data"]).unwrap();
        assert_eq!(
            local["targets"],
            json!({ "disks": "data", "instanceIds": ["i-bp1demo00000000000a", "i-bp1demowindows00000"] })
        );
    }

    #[test]
    fn what_is_wrong_is_told_as_wrong_usage() {
        let table = [
            (vec![], "targets.instanceIds: name at least one instance"),
            (vec!["--instance", "web-1"], "targets.instanceIds[0]: must be an id like i-"),
            (vec!["--instance", "i-1", "--policy", "My Policy"], "policy: must be 1 to 40 of a-z"),
            (vec!["/nowhere/request.json"], "/nowhere/request.json: No such file"),
            (vec!["--local", "--world", "moon"], "there is no such world; known are: demo, seed"),
            (vec!["--instance", "i-1", "--consistency", "best"], "invalid value 'best'"),
            (vec!["--tag", "backup"], "not KEY=VALUE"),
            (vec!["events/timer.json"], "this is a timer's tick; here the request alone is wanted"),
            (vec!["events/eventbridge-request.json"], "the request alone is wanted, which is its data"),
        ];
        for (words, expected) in table {
            let told = parsed(&words).unwrap_err();
            assert!(told.contains(expected), "{words:?}: {told}");
            assert!(told.ends_with("(2)") || told.starts_with("error: "), "{told}");
        }
    }

    #[test]
    fn the_table_tells_each_finding_once_with_its_cure() {
        let finding = |code: &str, severity: &str, resource: &str| {
            json!({ "code": code, "severity": severity, "resource": resource, "message": format!("about {code}"),
                    "cure": format!("mend {code}") })
        };
        let report = json!({ "schema": 1, "version": "1", "run": "r-1", "policy": "p", "occurrence": "o",
            "trigger": "manual", "dryRun": true, "status": "refused", "summary": { "refused": 1 }, "startedAt": "",
            "finishedAt": "", "durationMs": 3, "apiCalls": 0, "notifications": [], "units": [{
                "regionId": "cn-hangzhou", "instanceIds": ["i-1"], "osType": "linux", "engine": "sequence",
                "wanted": "application", "expectedLevel": "none",
                "findings": [finding("disk.left_out", "note", "d-1"), finding("script.mode", "downgrade", "i-1"),
                    finding("disk.left_out", "note", "d-2"), finding("disk.category", "blocker", "d-3")] }] });
        let text = table(&serde_json::from_value(report).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("REFUSED: a run would be refused; policy p, nothing was changed"),
            "{text}"
        );
        assert_eq!(
            lines[2],
            "i-1 in cn-hangzhou (linux, by the sequence): expected none, wanted application"
        );
        assert_eq!(lines[3], "  blocks  disk.category      d-3: about disk.category");
        assert_eq!(lines[4], "          cure: mend disk.category");
        assert_eq!(lines[5], "  lowers  script.mode        about script.mode");
        assert_eq!(lines[7], "  note    disk.left_out      d-1, d-2: about disk.left_out");
        assert_eq!(lines.len(), 9, "{text}");
    }

    #[test]
    fn of_an_instance_that_is_not_shown_no_system_is_told() {
        let unit = |id: &str, engine: &str, code: &str| {
            json!({ "regionId": "r-1", "instanceIds": [id], "osType": "linux", "engine": engine,
                    "wanted": "crash", "expectedLevel": "none", "findings": [{ "code": code, "severity": "blocker",
                    "resource": id, "message": "m", "cure": "c" }] })
        };
        let report = json!({ "schema": 1, "version": "1", "run": "r-1", "policy": "p", "occurrence": "o",
            "trigger": "manual", "dryRun": true, "status": "failed", "summary": {}, "startedAt": "",
            "finishedAt": "", "durationMs": 3, "apiCalls": 0, "notifications": [], "units": [
                unit("i-1", "sequence", "instance.unknown"), unit("i-2", "none", "instance.stopped")] });
        let text = table(&serde_json::from_value(report).unwrap());
        assert!(text.contains("\ni-1 in r-1: expected none, wanted crash\n"), "{text}");
        assert!(
            text.contains("\ni-2 in r-1 (linux, stopped: by the function alone): expected none"),
            "{text}"
        );
        assert!(text.starts_with("FAILED: not everything could be judged;"), "{text}");
    }

    #[test]
    fn without_a_key_only_the_operators_own_variables_are_named() {
        let told =
            credentials(&|name| (name == "ALIBABA_CLOUD_ACCESS_KEY_ID").then(|| "k".into())).unwrap_err();
        assert!(
            told.message.starts_with("no credentials: ALIBABA_CLOUD_ACCESS_KEY_SECRET not set;"),
            "{told:?}"
        );
        assert!(!told.message.contains("x-fc-"), "{told:?}");
    }
}
