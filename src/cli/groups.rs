//! `appsnap groups`: which snapshot group for a point in time and a level.

use jiff::Timestamp;

use super::{Failure, operator, out};
use crate::api::ecs;
use crate::clock::Clock;
use crate::report::Level;
use crate::restore::groups::{Wanted, rows, table};

/// List snapshot groups, newest first. Exit 1 where none fits.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of this policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Of this instance.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Of each instance the last one at or before this time, as 2026-11-25T10:00Z or 2026-11-25T18:00+08:00.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// At least this level.
    #[arg(long, value_name = "LEVEL", value_parser = ["crash", "filesystem", "application"])]
    level: Option<String>,
    /// Only what was verified, and not found broken.
    #[arg(long)]
    verified: bool,
    /// Where.
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", default_value = "cn-hangzhou")]
    region: String,
    /// A role to assume; default: the key's own rights.
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// One JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    let said = |error: crate::acs::Error| Failure::new(error.to_string());
    let region = &args.region;
    let client = operator(&Clock::system(), region, args.role_arn.as_deref(), "restore")?;
    let groups = ecs::list_snapshot_groups(&client, region, args.instance.as_deref()).await.map_err(said)?;
    let ids: Vec<String> =
        groups.iter().flat_map(|group| &group.snapshots).map(|one| one.snapshot_id.clone()).collect();
    let snapshots = ecs::describe_snapshots(&client, region, &ids).await.map_err(said)?;
    let level = [Level::Crash, Level::Filesystem, Level::Application]
        .into_iter()
        .find(|level| args.level.as_deref() == Some(level.as_str()));
    let wanted = Wanted { policy: args.policy, at: args.at, level, verified: args.verified };
    let found = rows(&groups, &snapshots, &wanted);
    let code = u8::from(found.is_empty());
    if args.json {
        let found = serde_json::json!({ "regionId": region, "groups": found });
        out(&format!("{found:#}\n"))?;
    } else if found.is_empty() {
        out(&format!(
            "none of {} groups in {region} fits; what the key may not see is not among them \
             (ecs:DescribeSnapshotGroups, ecs:DescribeSnapshots: a denial is an empty list)\n",
            groups.len()
        ))?;
    } else {
        out(&table(&found))?;
    }
    Ok(code)
}
