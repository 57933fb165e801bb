//! `appsnap restore GROUP --plan`: how to bring it back. appsnap itself changes nothing.

use super::{Failure, operator, out};
use crate::clock::Clock;
use crate::restore::look::{Trouble, look};
use crate::restore::{Wish, plan, text};

/// Print the plan that brings a snapshot group back: calls and commands, in order. Nothing is changed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group, ssg-…
    group: String,
    /// Print the plan; appsnap does not follow it.
    #[arg(long)]
    plan: bool,
    /// Leave what is there as it is: disks made from the group, attached beside, mounted.
    #[arg(long)]
    beside: bool,
    /// The instance that gets the disks, in place of the one that they were of.
    #[arg(long, value_name = "INSTANCE")]
    to: Option<String>,
    /// Where copies are mounted beside the originals.
    #[arg(long, value_name = "DIR", default_value = "/restore", value_parser = directory)]
    mount_under: String,
    /// How the engine is started, if not by its unit of systemd.
    #[arg(long, value_name = "COMMAND")]
    start: Option<String>,
    /// For a new instance.
    #[arg(long, value_name = "TYPE")]
    instance_type: Option<String>,
    /// For a new instance: its VSwitch.
    #[arg(long, value_name = "ID")]
    vswitch: Option<String>,
    /// For a new instance: its security group.
    #[arg(long, value_name = "ID")]
    security_group: Option<String>,
    /// Where the group is.
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", default_value = "cn-hangzhou")]
    region: String,
    /// A role to assume; default: the key's own rights.
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// The plan as one JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
}

fn directory(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    match text.starts_with('/') && !text.contains("/../") && !text.ends_with("/..") {
        true => Ok(text.to_owned()),
        false => Err("an absolute path of a directory is wanted, and not / itself".to_owned()),
    }
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    if !args.plan {
        return Err(Failure::usage(
            "restore without --plan is not supported: appsnap prints how, and changes nothing",
        ));
    }
    let clock = Clock::system();
    let client = operator(&clock, &args.region, args.role_arn.as_deref(), "restore")?;
    let facts = look(&client, &args.region, &args.group, args.to.as_deref()).await;
    let facts = facts.map_err(|trouble| match trouble {
        Trouble::Call(error) => Failure::new(error.to_string()),
        Trouble::Absent(why) => Failure::new(why),
    })?;
    let fields = [&args.instance_type, &args.vswitch, &args.security_group];
    if (facts.to.is_some() || facts.instance.is_some()) && fields.iter().any(|field| field.is_some()) {
        let why = "--instance-type, --vswitch and --security-group are for a new instance; here one is there";
        return Err(Failure::usage(why));
    }
    let wish = Wish {
        beside: args.beside,
        mount_under: args.mount_under,
        nonce: clock.nonce().chars().filter(char::is_ascii_alphanumeric).take(12).collect(),
        start: args.start,
        instance_type: args.instance_type,
        vswitch: args.vswitch,
        security_group: args.security_group,
    };
    let plan = plan(&facts, &wish).map_err(Failure::new)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&plan).map_err(|error| Failure::new(error.to_string()))? + "\n",
        false => text::text(&plan),
    };
    out(&text)?;
    Ok(0)
}
