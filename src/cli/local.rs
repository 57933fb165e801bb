//! `appsnap local`: the local cloud until Ctrl-C, for clients of any kind.

use std::net::SocketAddr;

use serde_json::json;

use super::{Failure, bootstrap, install, out};
use crate::clock::Clock;
use crate::local::cloud::{ACCOUNT, DISKS, INSTANCE, LocalCloud, OPERATOR, REGION};
use crate::local::scene::Scene;
use crate::local::{seed, windows, world};

/// Run the local cloud until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the API listens: loopback only.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// One JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
    /// Install nothing; name what is missing instead.
    #[arg(long)]
    no_install: bool,
    /// Seed of ids and of the instants of the cuts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which instances it has.
    #[arg(long, value_name = "NAME", default_value = "demo", value_parser = super::scene)]
    world: Scene,
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    if args.listen.ip() != std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST) {
        return Err(Failure::usage(format!(
            "--listen {}: the local cloud listens on 127.0.0.1 only",
            args.listen
        )));
    }
    install::ensure(!args.no_install, None).await?;
    let function = bootstrap::find(args.json).await?;
    let clock = Clock::system();
    let settings = world::Settings { seed: args.seed, ..world::Settings::default() };
    let cloud = LocalCloud::start(&clock, settings, &function, args.listen.port()).await?;
    args.world.set(&cloud).await?;
    let cases = seed::CASES.iter().filter(|_| args.world == Scene::Seed);
    let ca = cloud.ca_file.display().to_string();
    if args.json {
        let others: Vec<_> = cases.map(seed::Case::instance_id).collect();
        let disks: Vec<_> = DISKS.iter().map(|(id, ..)| id).collect();
        let told = json!({
            "endpoint": cloud.endpoint(), "caFile": ca, "regionId": REGION, "accountId": ACCOUNT,
            "accessKeyId": OPERATOR.0, "accessKeySecret": OPERATOR.1, "instanceId": INSTANCE, "diskIds": disks,
            "windowsInstanceId": windows::INSTANCE, "seedInstanceIds": others,
        });
        out(&format!("{told:#}\n"))?;
    } else {
        let cases: Vec<&seed::Case> = cases.collect();
        out(&words(&cloud.endpoint(), &ca, &cases))?;
    }
    let _ = tokio::signal::ctrl_c().await;
    cloud.close().await?;
    Ok(0)
}

/// For people: the variables that point a client at it, and what there is.
fn words(endpoint: &str, ca: &str, cases: &[&seed::Case]) -> String {
    let mut text = String::from("The local cloud listens. Point a client at it:\n\n");
    for (name, value) in [
        ("APPSNAP_ECS_ENDPOINT", endpoint),
        ("APPSNAP_STS_ENDPOINT", endpoint),
        ("APPSNAP_FC_ENDPOINT", endpoint),
        ("APPSNAP_CA_BUNDLE", ca),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.0),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.1),
    ] {
        text += &format!("  export {name}={value}\n");
    }
    text += &format!("\n  region {REGION}, account {ACCOUNT}, instance {INSTANCE}\n");
    let windows = windows::INSTANCE;
    text += &format!("  instance {windows} (Windows, simulated: it can run the vendor's plugin only)\n");
    for (id, filesystem, mount, _) in DISKS {
        text += &format!("  disk {id} ({} on {mount})\n", filesystem.name());
    }
    for case in cases {
        text += &format!("  instance {}: {}\n", case.instance_id(), case.what);
    }
    text += "\nIn another terminal, with these variables: appsnap invoke events/timer.json --local\n";
    text + "Ctrl-C ends it and takes everything away.\n"
}
