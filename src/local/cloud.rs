//! The local cloud put together: the world behind HTTPS, one real guest with its agent, the store, a webhook sink and
//! the function. Effects of the world become acts on this machine here, and what came of them is reported back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::agent::Agent;
use super::fc::{Fc, Function};
use super::guest::{DiskSpec, Guest};
use super::hands::Hands;
use super::host::Failure;
use super::plugin::ROLE;
use super::power::Power;
use super::robot::Brand;
use super::server::{Cloud, Server};
use super::sink::Sink;
use super::store::{Filesystem, Store};
use super::windows;
use super::world::{self, Policy, Settings, Tags, Trust, World};
use crate::clock::Clock;
use crate::ram::{self, Names};
use crate::secret::Secret;

/// The one region that is open.
pub const REGION: &str = "cn-hangzhou";
/// The one account.
pub const ACCOUNT: &str = "1234567890123456";
/// The instance of the fixtures in `events/`.
pub const INSTANCE: &str = "i-bp1demo00000000000a";
/// Its disks: id, file system, mount point, GiB as the API tells.
pub const DISKS: [(&str, Filesystem, &str, u64); 3] = [
    ("d-bp1demosystem0000000", Filesystem::Ext4, "/", 20),
    ("d-bp1demodata000000000", Filesystem::Ext4, "/data", 40),
    ("d-bp1demologs000000000", Filesystem::Xfs, "/logs", 40),
];
/// Where instances are, and new ones can be.
pub const VSWITCH: &str = "vsw-bp1demo0000000000";
/// The security group of its VPC.
pub const SECURITY_GROUP: &str = "sg-bp1demo0000000000a";
/// What the guest says of its system: the same as the API.
const OS_RELEASE: &str =
    "NAME=\"Alibaba Cloud Linux\"\nVERSION=\"3 (local cloud)\"\nID=\"alinux\"\nVERSION_ID=\"3\"\n";
/// An operator's key in this cloud, which may do everything.
pub const OPERATOR: (&str, &str) = ("LTAI5tLocalOperator00000", "local-operator-secret-000000");
/// What the webhook's signature is checked with: 32 bytes in Base64.
pub const WEBHOOK_SECRET: &str = "whsec_YXBwc25hcC1sb2NhbC1jbG91ZC13ZWJob29rLWtleSE=";
/// What the robots' signatures are checked with.
const ROBOT_SECRETS: [(Brand, &str); 2] =
    [(Brand::DingTalk, "SEClocal0dingtalk"), (Brand::Feishu, "local0feishu")];

/// MiB of an image, which is sparse: room for a database and its log.
const IMAGE_MIB: u64 = 768;
const PRESCRIPT: &str =
    "#!/bin/sh\n# A real one locks the database here.\necho \"appsnap-mark: phase=$APPSNAP_PHASE\"\n";
const POSTSCRIPT: &str = "#!/bin/sh\n# A real one unlocks here; it is told what was reached.\necho \"outcome so far: $APPSNAP_OUTCOME\"\n";

/// A running local cloud with one guest. [`close`](Self::close) takes it away; if the process dies, its reaper does.
pub struct LocalCloud {
    /// The API.
    pub server: Server,
    /// The disks.
    pub store: Arc<Store>,
    /// The instance.
    pub guest: Arc<Guest>,
    /// Its agent.
    pub agent: Agent,
    /// Where reports go.
    pub sink: Sink,
    /// The function.
    pub function: Fc,
    /// The CA that clients have to trust.
    pub ca_file: PathBuf,
    /// Its state: instances, disks, roles.
    pub cloud: Cloud,
    power: Power,
    _work: JoinSet<()>,
}

impl LocalCloud {
    /// Starts everything; `port` 0 takes a free one.
    pub async fn start(
        clock: &Clock,
        settings: Settings,
        bootstrap: &Path,
        port: u16,
    ) -> Result<Self, Failure> {
        let io = |what: &str| {
            let what = what.to_string();
            move |error: std::io::Error| Failure(format!("{what}: {error}"))
        };
        let (effects, todo) = mpsc::unbounded_channel();
        let plugin_faults = settings.plugin_faults.clone();
        let cloud = Cloud::new(populated(settings), clock.clone(), effects);
        let server = Server::start(cloud.clone(), std::net::Ipv4Addr::LOCALHOST.into(), port, &[])
            .await
            .map_err(io("the API cannot listen"))?;
        let store = Arc::new(Store::create(None, 8 * 1024).await?);
        let power = Power {
            cloud: cloud.clone(),
            store: store.clone(),
            clock: clock.clone(),
            agents: Arc::default(),
            ca_pem: server.ca_pem.clone(),
            endpoint: endpoint(&server),
            plugin_faults,
        };
        let disks = DISKS.iter().map(|(id, filesystem, mount, _)| DiskSpec {
            disk_id: (*id).into(),
            size_mib: IMAGE_MIB,
            filesystem: *filesystem,
            mount: Some((*mount).into()),
        });
        let guest = power.add(INSTANCE.into(), disks.collect()).await?;
        let own = "rm -f /etc/os-release && cat >/etc/os-release";
        let written = guest.exec(own, &[], OS_RELEASE.as_bytes(), Duration::from_secs(10)).await?;
        written.checked("the guest gets no os-release")?;
        power.install_plugin(&guest).await?;
        let agent = power.agent(INSTANCE).ok_or_else(|| Failure("the guest has no agent".into()))?;
        let sink = Sink::start(Secret::new(WEBHOOK_SECRET), clock.clone())
            .await
            .map_err(io("the webhook sink cannot listen"))?;
        for (brand, secret) in ROBOT_SECRETS {
            sink.robot(brand).secret = Some(Secret::new(secret));
        }
        let ca_file = store.state().join("ca.pem");
        tokio::fs::write(&ca_file, &server.ca_pem).await.map_err(io("the CA cannot be written"))?;
        let function = Fc::new(deployed(&server, &sink, &ca_file, bootstrap), cloud.clone(), clock.clone());
        server.serve_function(function.clone());
        let mut work = JoinSet::new();
        work.spawn(Hands { power: power.clone() }.work(todo));
        Ok(Self { server, store, guest, agent, sink, function, ca_file, cloud, power, _work: work })
    }

    /// Starts guests for further instances, side by side; the world has to know instances and disks.
    pub async fn add_guests(
        &self,
        wanted: Vec<(String, Vec<DiskSpec>)>,
    ) -> Result<BTreeMap<String, Arc<Guest>>, Failure> {
        let mut starting = JoinSet::new();
        for (instance_id, disks) in wanted {
            let power = self.power.clone();
            starting.spawn(async move { power.add(instance_id, disks).await });
        }
        let mut guests = BTreeMap::new();
        while let Some(started) = starting.join_next().await {
            let guest = started.map_err(|error| Failure(format!("a guest does not start: {error}")))??;
            guests.insert(guest.instance_id().to_owned(), guest);
        }
        Ok(guests)
    }

    /// The real guest of an instance, running or stopped.
    pub fn guest_of(&self, instance_id: &str) -> Option<Arc<Guest>> {
        self.power.agent(instance_id).map(|agent| agent.guest().clone())
    }

    /// Writes the vendor's pair of scripts into the guest, with an octal mode.
    pub async fn write_scripts(&self, mode: &str) -> Result<(), Failure> {
        for (path, text) in [("/tmp/prescript.sh", PRESCRIPT), ("/tmp/postscript.sh", POSTSCRIPT)] {
            self.guest.write_file(path, text.as_bytes(), mode).await?;
        }
        Ok(())
    }

    /// Keys of the function's role, with the variables that hold them, for whoever acts in its place.
    pub fn function_keys(&self) -> Option<[(&'static str, String); 3]> {
        let role = format!("acs:ram::{ACCOUNT}:role/{}", names().function_role);
        let cloud = &self.server.cloud;
        let session =
            cloud.look(|world, now| world.service_session(now, "fc.aliyuncs.com", &role, "check", 3600))?;
        Some([
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", session.access_key_id),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", session.access_key_secret.expose().to_owned()),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", session.security_token.expose().to_owned()),
        ])
    }

    /// Where clients are pointed.
    pub fn endpoint(&self) -> String {
        endpoint(&self.server)
    }

    /// Stops function and guest, takes disks and mounts away.
    pub async fn close(self) -> Result<(), Failure> {
        self.function.stop().await;
        self.store.close().await
    }
}

fn endpoint(server: &Server) -> String {
    format!("https://localhost:{}", server.address.port())
}

/// The role that the function assumes.
pub fn role_arn() -> String {
    format!("acs:ram::{ACCOUNT}:role/{}", names().work_role)
}

/// What stands in the documents of the demo's roles.
pub fn names() -> Names {
    Names { account: ACCOUNT.into(), regions: vec![REGION.into()], ..Names::default() }
}

/// The demo's roles as a user would make them.
pub(super) fn roles(names: &Names) -> [world::Role; 4] {
    [
        filled(names, &names.function_role, "trust-function", &["function"]),
        filled(names, &names.work_role, "trust-snapshots", &["survey", "protect", "check", "plugin"]),
        filled(names, &names.verify_role, "trust-verify", &["verify"]),
        filled(names, ROLE, "trust-instance", &["instance"]),
    ]
}

/// A role of the demo made of documents in `policies/`.
pub fn role(name: &str, trust: &str, policies: &[&str]) -> world::Role {
    filled(&names(), name, trust, policies)
}

/// A document that cannot be read gives no right, which shows at once.
fn filled(names: &Names, name: &str, trust: &str, policies: &[&str]) -> world::Role {
    let text = |name: &str| ram::document(name).map(|one| one.filled(names).to_string()).unwrap_or_default();
    let policies: Vec<String> = policies.iter().map(|name| text(name)).collect();
    world::Role {
        account_id: ACCOUNT.into(),
        name: name.into(),
        trust: Trust::parse(&text(trust)).unwrap_or_default(),
        external_id: None,
        policy: Policy::all(&policies).unwrap_or_default(),
    }
}

/// Account, roles, instance and disks of the demo.
fn populated(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.add_region(REGION);
    world.add_user(ACCOUNT, "operator", OPERATOR, Policy::full());
    roles(&names()).into_iter().for_each(|role| world.add_role(role));
    let [account_id, region_id, zone_id] = [ACCOUNT.into(), REGION.into(), format!("{REGION}-k")];
    let network = world::Network { account_id, region_id, zone_id, security_group_id: SECURITY_GROUP.into() };
    world.add_network(VSWITCH, network);
    windows::add(&mut world);
    world.add_instance(world::Instance {
        tags: tagged(),
        plugins: vec![("app-snapshot-plugin".into(), "1.8".into())],
        ..instance(INSTANCE, "orders-db")
    });
    for (index, (id, _, _, size)) in DISKS.iter().enumerate() {
        world.add_disk(world::Disk {
            size: *size,
            // As the API tells; the guest calls them vda, vdb, ….
            device: format!("/dev/xvd{}", char::from(b'a' + index as u8)),
            ..disk(id, INSTANCE, index)
        });
    }
    world
}

/// A good instance, on which commands may be run.
pub(super) fn instance(id: &str, name: &str) -> world::Instance {
    world::Instance {
        id: id.into(),
        name: name.into(),
        account_id: ACCOUNT.into(),
        region_id: REGION.into(),
        zone_id: format!("{REGION}-k"),
        status: "Running".into(),
        os_type: "linux".into(),
        os_name: "Alibaba Cloud Linux  3.2104 LTS 64 bit".into(),
        agent_alive: true,
        agent_version: "2.2.4.900".into(),
        ram_role: Some(ROLE.into()),
        image_id: "aliyun_3_x64_20G_alibase_20260101.vhd".into(),
        instance_type: "ecs.g7.large".into(),
        host_name: id.into(),
        vswitch_id: VSWITCH.into(),
        security_group_id: SECURITY_GROUP.into(),
        tags: allowed(),
        ..world::Instance::default()
    }
}

/// An ESSD of an instance: the first one is its system disk.
pub(super) fn disk(id: &str, instance_id: &str, index: usize) -> world::Disk {
    world::Disk {
        id: id.into(),
        account_id: ACCOUNT.into(),
        region_id: REGION.into(),
        zone_id: format!("{REGION}-k"),
        instance_id: Some(instance_id.into()),
        category: "cloud_essd".into(),
        performance_level: "PL1".into(),
        size: 40,
        status: "In_use".into(),
        kind: if index == 0 { "system" } else { "data" }.into(),
        delete_with_instance: true,
        ..world::Disk::default()
    }
}

/// The tag of instances on which commands may be run.
pub(super) fn allowed() -> Tags {
    Tags([names().tag].into())
}

/// With those by which `events/by-tags.json` finds the guest.
fn tagged() -> Tags {
    let mut tags = allowed();
    tags.0.extend([("backup", "nightly"), ("env", "prod")].map(|(key, value)| (key.into(), value.into())));
    tags
}

fn deployed(server: &Server, sink: &Sink, ca_file: &Path, bootstrap: &Path) -> Function {
    let endpoint = endpoint(server);
    let role = |name: &str| format!("acs:ram::{ACCOUNT}:role/{name}");
    let env: [(&str, String); 12] = [
        ("APPSNAP_ROLE_ARN", role_arn()),
        ("APPSNAP_ECS_ENDPOINT", endpoint.clone()),
        ("APPSNAP_STS_ENDPOINT", endpoint.clone()),
        ("APPSNAP_FC_ENDPOINT", endpoint),
        ("APPSNAP_CA_BUNDLE", ca_file.display().to_string()),
        ("APPSNAP_DEMO_WEBHOOK_URL", sink.url()),
        ("APPSNAP_DEMO_WEBHOOK_SECRET", WEBHOOK_SECRET.into()),
        ("APPSNAP_DEMO_DINGTALK_URL", sink.robot_url(Brand::DingTalk)),
        ("APPSNAP_DEMO_DINGTALK_SECRET", ROBOT_SECRETS[0].1.into()),
        ("APPSNAP_DEMO_FEISHU_URL", sink.robot_url(Brand::Feishu)),
        ("APPSNAP_DEMO_FEISHU_SECRET", ROBOT_SECRETS[1].1.into()),
        ("APPSNAP_DEMO_WECOM_URL", sink.robot_url(Brand::WeCom)),
    ];
    Function {
        name: "appsnap".into(),
        region_id: REGION.into(),
        account_id: ACCOUNT.into(),
        role_arn: Some(role(&names().function_role)),
        bootstrap: bootstrap.to_path_buf(),
        env: env.into_iter().map(|(name, value)| (name.to_string(), value)).collect::<BTreeMap<_, _>>(),
        timeout: Duration::from_secs(3600),
        ..Function::default()
    }
}
