//! The operator's command, one file per verb. Exit codes are those of the report's status; 2 is wrong usage.

mod bootstrap;
mod check;
mod demo;
mod fault;
mod groups;
mod install;
mod invoke;
mod local;
mod pin;
mod ram;
mod recipe;
mod recipe_guest;
mod restore;
mod sequence;
mod show;
mod verify;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use serde_json::{Map, Value};

use crate::acs::{Client, Credentials, Endpoints, Role, Settings, Transport};
use crate::clock::Clock;
use crate::local::scene::Scene;

/// Application-consistent snapshots of Alibaba Cloud ECS instances.
#[derive(Debug, Parser)]
#[command(name = "appsnap", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// One timer tick against a fresh local cloud: freeze, snapshot, label, webhook, restored disks compared.
    Demo(demo::Args),
    /// Run the local cloud until Ctrl-C and print what to point a client at.
    Local(local::Args),
    /// Judge whether, and how far, instances could be protected; nothing is changed.
    Check(check::Args),
    /// Send an event to the function.
    Invoke(invoke::Args),
    /// Print the in-guest script as it is run, for review and allow-lists.
    Sequence(sequence::Args),
    /// Print the RAM policies and trust documents to paste.
    Ram(ram::Args),
    /// List, print or install prescript and postscript for a database.
    Recipe(recipe::Args),
    /// Register the guest's commands, so that the role needs no RunCommand.
    Pin(pin::Args),
    /// List snapshot groups, newest first: by policy, instance, time, level.
    Groups(groups::Args),
    /// Print the plan that brings a snapshot group back: calls and commands, in order.
    Restore(restore::Args),
    /// Prove that a snapshot group restores: disks made from it, mounted, its engine started.
    Verify(verify::Args),
    /// Any verb that is planned and not built yet.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Verbs of the public face that are still to come.
const PLANNED: [&str; 2] = ["run", "status"];

/// Reads the command line and runs the verb.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return wrong(&format!("the runtime does not start: {error}")),
    };
    let done = runtime.block_on(async {
        match args.verb {
            Verb::Demo(args) => demo::run(args).await,
            Verb::Local(args) => local::run(args).await,
            Verb::Check(args) => check::run(args).await,
            Verb::Invoke(args) => invoke::run(args).await,
            Verb::Sequence(args) => sequence::run(&args),
            Verb::Ram(args) => ram::run(&args),
            Verb::Recipe(args) => recipe::run(args).await,
            Verb::Pin(args) => pin::run(args).await,
            Verb::Groups(args) => groups::run(args).await,
            Verb::Restore(args) => restore::run(args).await,
            Verb::Verify(args) => verify::run(args).await,
            Verb::Other(words) => Err(other(&words)),
        }
    });
    // Blocking reads of standard input or of a stuck file system must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("appsnap: {}", error.message);
            ExitCode::from(error.code)
        }
    }
}

fn other(words: &[String]) -> Failure {
    let verb = words.first().map(String::as_str).unwrap_or_default();
    if PLANNED.contains(&verb) || verb == "schema" {
        Failure::usage(format!("`{verb}` is not supported yet"))
    } else {
        Failure::usage(format!("`{verb}` is no verb of appsnap; see `appsnap --help`"))
    }
}

fn wrong(message: &str) -> ExitCode {
    eprintln!("appsnap: {message}");
    ExitCode::from(1)
}

/// Why a verb could not do its work, and the exit code for it.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }
}

impl From<crate::local::host::Failure> for Failure {
    fn from(failure: crate::local::host::Failure) -> Self {
        Self::new(failure.0)
    }
}

/// A world of the local cloud by its name.
fn scene(name: &str) -> Result<Scene, String> {
    Scene::named(name)
        .ok_or_else(|| format!("there is no such world; known are: {}", Scene::NAMES.join(", ")))
}

/// The operator's access key; of the function's own places nothing is said.
fn credentials(env: &dyn Fn(&str) -> Option<String>) -> Result<Credentials, Failure> {
    Credentials::resolve(None, env).map_err(|lack| {
        Failure::new(format!(
            "no credentials: {} not set; export the access key (with temporary keys ALIBABA_CLOUD_SECURITY_TOKEN too)",
            lack.missing
        ))
    })
}

/// The request in a file; of an event, which part of it is wanted.
fn request_in(path: &Path) -> Result<Map<String, Value>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    match serde_json::from_slice(&text).map_err(|error| wrong(&error))? {
        Value::Object(event) if event.contains_key("payload") => {
            Err(wrong(&"this is a timer's tick; here the request alone is wanted, which is its payload"))
        }
        Value::Object(event) if event.contains_key("specversion") => {
            Err(wrong(&"this is an EventBridge event; here the request alone is wanted, which is its data"))
        }
        Value::Object(request) => Ok(request),
        _ => Err(wrong(&"a request is an object")),
    }
}

/// The report in the function's answer: alone, or inside the platform's error shape.
fn report_in(answer: &Value) -> &Value {
    answer.get("report").unwrap_or(answer)
}

/// A client for a verb: endpoints by `env`, additional roots from `ca`.
fn client(
    clock: &Clock,
    env: &dyn Fn(&str) -> Option<String>,
    region_id: &str,
    ca: Option<&Path>,
    credentials: Credentials,
) -> Result<Client, Failure> {
    let settings = Settings {
        transport: Transport::https(ca).map_err(|error| Failure::new(error.to_string()))?,
        clock: clock.clone(),
        endpoints: Endpoints::from_env(env, &crate::api::PRODUCTS)
            .map_err(|error| Failure::new(error.to_string()))?,
        region_id: region_id.to_owned(),
        identities: Arc::default(),
    };
    Ok(Client::new(settings, credentials))
}

/// A client with the operator's own key and what the environment says, or with a role's rights where one is named; its
/// session is named for the verb.
fn operator(clock: &Clock, region_id: &str, role_arn: Option<&str>, verb: &str) -> Result<Client, Failure> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let bundle = env("APPSNAP_CA_BUNDLE");
    let client = client(clock, &env, region_id, bundle.as_deref().map(Path::new), credentials(&env)?)?;
    Ok(match role_arn {
        Some(arn) => client.assuming(Role::new(arn, &format!("appsnap-{verb}"))),
        None => client,
    })
}

/// Writes to standard output; a reader that has gone is no error of ours, a full disk is.
fn out(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A line of progress, for people only.
fn progress(quiet: bool, line: &str) {
    if !quiet && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprintln!("{line}");
    }
}
