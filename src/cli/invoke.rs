//! `appsnap invoke`: sends an event to the function, deployed or in the local cloud, and shows its report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Failure, client, credentials, out, report_in, show};
use crate::api::fc::{Invoke, Mode, invoke_function};
use crate::clock::Clock;
use crate::report::Report;

/// Send an event to the function.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The event: a request, a timer tick or an EventBridge event; see events/.
    event: PathBuf,
    /// To the local cloud of `appsnap local`: its variables have to be set.
    #[arg(long)]
    local: bool,
    /// Name of the function.
    #[arg(long, default_value = "appsnap")]
    function: String,
    /// Version or alias.
    #[arg(long)]
    qualifier: Option<String>,
    /// Region of the function.
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", default_value = "cn-hangzhou")]
    region: String,
    /// Longest wait, seconds.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// One JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    let said = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let place = args.event.display();
    let event = std::fs::read(&args.event).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
    if let Err(error) = serde_json::from_slice::<Value>(&event) {
        return Err(Failure::usage(format!("{place} is no JSON: {error}")));
    }
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if args.local && env("APPSNAP_FC_ENDPOINT").is_none() {
        return Err(Failure::usage(
            "--local: APPSNAP_FC_ENDPOINT is not set: start `appsnap local` and export what it prints",
        ));
    }
    let bundle = env("APPSNAP_CA_BUNDLE");
    let credentials = credentials(&env)?;
    let invoked = invoke_function(
        &client(&Clock::system(), &env, &args.region, bundle.as_deref().map(Path::new), credentials)?,
        &Invoke {
            region_id: &args.region,
            function_name: &args.function,
            qualifier: args.qualifier.as_deref(),
            event: &event,
            mode: Mode::Sync(Duration::from_secs(args.timeout)),
        },
    )
    .await
    .map_err(|error| said(&error))?;
    let answer: Value = serde_json::from_slice(&invoked.body).unwrap_or_default();
    let body = report_in(&answer);
    // An event that held several triggers is answered by several reports.
    let bodies = body["reports"].as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
    let reports: Result<Vec<Report>, _> = bodies.into_iter().map(serde_json::from_value).collect();
    let Ok(reports) = reports else {
        let text = String::from_utf8_lossy(&invoked.body);
        return Err(Failure::new(format!("the function gave no report: {text}")));
    };
    if args.json {
        out(&format!("{body:#}\n"))?;
    } else {
        out(&reports.iter().map(show::report).collect::<Vec<_>>().join("\n"))?;
    }
    let worst = reports.iter().max_by_key(|report| report.outcome.unwrap_or(report.status));
    Ok(worst.map_or(1, Report::exit_code))
}
