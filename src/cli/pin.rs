//! `appsnap pin`: registers the commands that a request needs, once in each region, so that the function's role may do
//! without RunCommand.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Failure, client, credentials, out, request_in};
use crate::acs::{Client, Endpoints};
use crate::api::PRODUCTS;
use crate::api::command::{create_command, describe_commands};
use crate::clock::Clock;
use crate::guest::pinned::Command;
use crate::policy::{Engine, Request};
use crate::protect::{order, session};

/// Register the guest's commands of a request with Cloud Assistant; what is there already is found again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The request as the function gets it: its scripts, CA bundle, endpoint and region count.
    request: PathBuf,
    /// Where to register, if the request names no region.
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", default_value = "cn-hangzhou")]
    region: String,
    /// Only print the texts that would be registered; nothing is called.
    #[arg(long, conflicts_with = "json")]
    print: bool,
    /// One JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    let place = args.request.display();
    let value = Value::Object(request_in(&args.request)?);
    let request = Request::parse(&value).map_err(|invalid| Failure::usage(format!("{place}: {invalid}")))?;
    if request.linux.engine == Engine::Plugin {
        return Err(Failure::usage(format!("{place}: linux.engine: the vendor's plugin cannot be pinned")));
    }
    let region = request.region_id.as_deref().unwrap_or(&args.region);
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let said = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let endpoints = Endpoints::from_env(&env, &PRODUCTS).map_err(|error| said(&error))?;
    let endpoint =
        session::guest_endpoint(&endpoints, &request.linux.endpoint, region).map_err(Failure::new)?;
    let commands =
        order::needed(&order::pins_of(&request.linux, endpoint.host())).map_err(|error| said(&error))?;
    if args.print {
        let texts: Vec<&str> = commands.iter().map(|command| command.text.as_str()).collect();
        out(&format!("{}\n", texts.join("\n\n")))?;
        return Ok(0);
    }
    let bundle = env("APPSNAP_CA_BUNDLE");
    let credentials = credentials(&env)?;
    let client = client(&Clock::system(), &env, region, bundle.as_deref().map(Path::new), credentials)?;
    let registered = register(&client, region, &commands).await?;
    if args.json {
        let shown = |one: &Registered| json!({ "name": one.name, "commandId": one.id, "new": one.new });
        let (key, sequence) = order::tag();
        let told = json!({ "regionId": region, key: sequence,
            "commands": registered.iter().map(shown).collect::<Vec<_>>() });
        out(&format!("{told:#}\n"))?;
    } else {
        let mut text = String::new();
        for one in &registered {
            let how = if one.new { "registered" } else { "was there" };
            text += &format!("{region}  {}  {}  {how}\n", one.id, one.name);
        }
        let ids: Vec<String> = registered.iter().map(|one| format!(" --pinned {}", one.id)).collect();
        text += &format!(
            "\nThe role's policy, in place of protect: appsnap ram --account ACCOUNT --region {region}{}\n\
             Then set APPSNAP_PINNED=true for the function.\n",
            ids.concat()
        );
        out(&text)?;
    }
    Ok(0)
}

/// What stands in the cloud.
struct Registered {
    name: String,
    id: String,
    new: bool,
}

async fn register(client: &Client, region: &str, commands: &[Command]) -> Result<Vec<Registered>, Failure> {
    let tag = order::tag();
    let there =
        describe_commands(client, region, &tag).await.map_err(|error| Failure::new(error.to_string()))?;
    let mut all = Vec::new();
    for command in commands {
        let name = command.name.clone();
        all.push(match there.iter().find(|one| one.runs(&command.text)) {
            Some(found) => Registered { name, id: found.command_id.clone(), new: false },
            None => {
                let tags = std::slice::from_ref(&tag);
                let created = create_command(client, region, &name, &command.text, tags).await;
                Registered { name, id: created.map_err(|error| Failure::new(error.to_string()))?, new: true }
            }
        });
    }
    Ok(all)
}
