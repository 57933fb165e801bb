//! Alibaba Cloud's unmodified Python SDK works against the local cloud. Needs `python3` with the packages of
//! `tests/requirements.txt`; `APPSNAP_VENDOR_PYTHON` names another interpreter (of a virtual environment).

use appsnap::clock::Clock;
use appsnap::local::server::{Cloud, Server};
use appsnap::local::world::{
    CommandNews, Disk, Effect, Happening, Instance, Network, Policy, Role, Settings, Tags, Trust, World,
};
use tokio::sync::mpsc;

/// Shows a group late enough for a slow machine to see it absent first.
fn world() -> World {
    let mut world =
        World::new(Settings { visible_after: std::time::Duration::from_secs(2), ..Settings::default() });
    let (account_id, region_id, zone_id) =
        ("1".to_owned(), "cn-hangzhou".to_owned(), "cn-hangzhou-h".to_owned());
    world.add_region(&region_id);
    world.add_user("1", "vendor", ("LTAI5tVendor", "vendor-secret"), Policy::full());
    world.add_role(Role {
        account_id: "1".into(),
        name: "appsnap".into(),
        trust: Trust::open(),
        external_id: None,
        policy: Policy::full(),
    });
    world.add_instance(Instance {
        id: "i-vendor".into(),
        ram_role: Some("GuestRole".into()),
        account_id: account_id.clone(),
        region_id: region_id.clone(),
        zone_id: zone_id.clone(),
        status: "Running".into(),
        os_type: "linux".into(),
        agent_alive: true,
        tags: Tags([("backup".to_owned(), "every night + more".to_owned())].into()),
        ..Instance::default()
    });
    let network = Network {
        account_id: account_id.clone(),
        region_id: region_id.clone(),
        zone_id: zone_id.clone(),
        security_group_id: "sg-vendor".into(),
    };
    world.add_network("vsw-vendor", network);
    for (id, kind) in [("d-bp1vendor0000000001", "system"), ("d-bp1vendor0000000002", "data")] {
        world.add_disk(Disk {
            id: id.into(),
            account_id: account_id.clone(),
            region_id: region_id.clone(),
            zone_id: zone_id.clone(),
            instance_id: Some("i-vendor".into()),
            category: "cloud_essd".into(),
            size: 20,
            status: "In_use".into(),
            kind: kind.into(),
            ..Disk::default()
        });
    }
    world
}

/// Plays agent and store: every command succeeds, every cut is made at once.
async fn play(cloud: Cloud, mut effects: mpsc::UnboundedReceiver<Effect>) {
    while let Some(effect) = effects.recv().await {
        match effect {
            Effect::RunCommand(task) => {
                assert!(String::from_utf8(task.content).unwrap().contains("ünï * ~ + %"));
                let finished = CommandNews::Finished { exit_code: 0, output: "ran ünï".into(), dropped: 0 };
                for news in [CommandNews::Started, finished] {
                    let (invoke_id, instance_id) = (task.invoke_id.clone(), task.instance_id.clone());
                    cloud.report(Happening::Command { invoke_id, instance_id, news });
                }
            }
            Effect::CloneDisk { snapshot_id, .. } => cloud.report(Happening::DiskCloned { snapshot_id }),
            Effect::DiskFromSnapshot { disk_id, .. }
            | Effect::AttachDisk { disk_id, .. }
            | Effect::DetachDisk { disk_id, .. }
            | Effect::ResetDisk { disk_id, .. } => cloud.report(Happening::DiskReady { disk_id }),
            Effect::StopInstance { instance_id, .. } => {
                cloud.report(Happening::Instance { instance_id, running: false });
            }
            Effect::StartInstance { instance_id } | Effect::RunInstance { instance_id, .. } => {
                cloud.report(Happening::Instance { instance_id, running: true });
            }
            Effect::DeleteInstance { kept, .. } => {
                kept.into_iter().for_each(|disk_id| cloud.report(Happening::DiskReady { disk_id }));
            }
            Effect::StopCommand { .. }
            | Effect::DeleteDisk { .. }
            | Effect::DeleteSnapshot { .. }
            | Effect::EmitEvent(_) => {}
        }
    }
}

#[tokio::test]
async fn the_vendors_sdk_works_unmodified() {
    let (sender, effects) = mpsc::unbounded_channel();
    let cloud = Cloud::new(world(), Clock::system(), sender);
    let player = tokio::spawn(play(cloud.clone(), effects));
    let server = Server::on_loopback(cloud).await.unwrap();
    let ca = std::env::temp_dir().join(format!("appsnap-vendor-sdk-{}.pem", std::process::id()));
    std::fs::write(&ca, &server.ca_pem).unwrap();
    let python = std::env::var("APPSNAP_VENDOR_PYTHON").unwrap_or("python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vendor_sdk.py");
    let mut command = tokio::process::Command::new(&python);
    command.arg(script).arg(server.address.port().to_string()).arg(&ca).kill_on_drop(true);
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(proxy); // the server is on this machine
    }
    let done = command.output().await;
    std::fs::remove_file(&ca).unwrap();
    let done = match done {
        Ok(done) if done.status.code() != Some(3) => done,
        _ => {
            // Straight to the descriptor: the harness keeps what the macros of a passing test print.
            let line =
                format!("SKIPPED: vendor_sdk: needs {python} with the packages of tests/requirements.txt\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            return;
        }
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!player.is_finished(), "the player did not panic");
}
