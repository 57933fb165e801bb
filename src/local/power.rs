//! Starting and stopping the real guests: what the world's effects on instances mean on this machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::agent::{Agent, HOME};
use super::cloud::{ACCOUNT, REGION};
use super::guest::{DiskSpec, Guest, GuestSpec};
use super::host::{Failure, lock};
use super::plugin::{self, Metadata};
use super::server::Cloud;
use super::store::{Filesystem, Store};
use super::world::{Happening, PluginFault};
use crate::clock::Clock;

/// Seconds that the guest's credentials last: for an `appsnap local` that is forgotten over a weekend.
const LONG: u32 = 7 * 24 * 3600;
/// How often an agent reports output.
const TICK: Duration = Duration::from_millis(300);

/// The real guests and what they are started with; cheap to clone.
#[derive(Clone)]
pub(super) struct Power {
    pub(super) cloud: Cloud,
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    /// The agents of the real guests, by instance; one of a stopped guest stays.
    pub(super) agents: Arc<Mutex<BTreeMap<String, Agent>>>,
    /// What guests trust.
    pub(super) ca_pem: String,
    /// The API.
    pub(super) endpoint: String,
    pub(super) plugin_faults: Vec<PluginFault>,
}

impl Power {
    /// The agent of an instance that has a real guest.
    pub(super) fn agent(&self, instance_id: &str) -> Option<Agent> {
        lock(&self.agents).get(instance_id).cloned()
    }

    /// Starts a guest for an instance of the world, with its agent.
    pub(super) async fn add(&self, instance_id: String, disks: Vec<DiskSpec>) -> Result<Arc<Guest>, Failure> {
        let host_name = instance_id.clone();
        self.add_named(instance_id, host_name, disks).await
    }

    async fn add_named(
        &self,
        instance_id: String,
        host_name: String,
        disks: Vec<DiskSpec>,
    ) -> Result<Arc<Guest>, Failure> {
        let ca_pem = self.ca_pem.clone();
        let spec =
            GuestSpec { instance_id: instance_id.clone(), host_name, disks, ca_pem, hosts: Vec::new() };
        let guest = Arc::new(Guest::start(&self.clock, &self.store, &spec).await?);
        lock(&self.agents).insert(instance_id, Agent::new(&self.clock, &guest, TICK));
        Ok(guest)
    }

    /// Lays the vendor's plugin into a guest whose instance has a role.
    pub(super) async fn install_plugin(&self, guest: &Guest) -> Result<(), Failure> {
        let session = self.cloud.look(|world, now| {
            let name = world.instance_mut(guest.instance_id())?.ram_role.clone()?;
            let role = format!("acs:ram::{ACCOUNT}:role/{name}");
            world.service_session(now, "ecs.aliyuncs.com", &role, guest.instance_id(), LONG)
        });
        let Some(session) = &session else { return Ok(()) };
        let metadata = Metadata { endpoint: &self.endpoint, region_id: REGION, session };
        plugin::install(guest, &metadata, &self.plugin_faults).await
    }

    /// Starts the guest of a new instance. Of its disks, which are images already, the system disk is mounted; the others
    /// are the guest's to mount.
    pub(super) async fn create(self, instance_id: String, host_name: String, disk_ids: Vec<String>) {
        let spec = |(n, disk_id): (usize, String)| {
            let (filesystem, mount) =
                if n == 0 { (Filesystem::Ext4, Some("/".into())) } else { (Filesystem::None, None) };
            DiskSpec { disk_id, size_mib: 0, filesystem, mount }
        };
        let disks: Vec<DiskSpec> = disk_ids.into_iter().enumerate().map(spec).collect();
        // Made from the snapshot of a disk that was never a guest's, it has no image and cannot boot.
        let whole = disks.iter().all(|disk| self.store.disk(&disk.disk_id).exists());
        let running = whole && self.add_named(instance_id.clone(), host_name, disks).await.is_ok();
        self.cloud.report(Happening::Instance { instance_id, running });
    }

    /// Ends the guest of an instance that is no more, and lets go of its disks.
    pub(super) async fn delete(self, instance_id: String, kept: Vec<String>) {
        let agent = lock(&self.agents).remove(&instance_id);
        if let Some(agent) = agent
            && agent.guest().stop().await.is_err()
        {
            return; // its disks are Detaching for good
        }
        for disk_id in kept {
            self.cloud.report(Happening::DiskReady { disk_id });
        }
    }

    /// An instance without a guest stops at once.
    pub(super) async fn stop(self, instance_id: String, force: bool) {
        if let Some(agent) = self.agent(&instance_id) {
            let done = match force {
                true => agent.guest().stop().await,
                false => agent.guest().shut_down().await,
            };
            agent.restart(); // what it ran is lost, as far as it is not told yet
            if done.is_err() {
                return; // it is Stopping for good, as one that hangs
            }
        }
        self.cloud.report(Happening::Instance { instance_id, running: false });
    }

    /// An instance without a guest starts at once; one whose guest does not boot is stopped again.
    pub(super) async fn start(self, instance_id: String) {
        let running = match self.agent(&instance_id) {
            None => true,
            Some(agent) => self.boot(&agent).await.is_ok(),
        };
        self.cloud.report(Happening::Instance { instance_id, running });
    }

    async fn boot(&self, agent: &Agent) -> Result<(), Failure> {
        let guest = agent.guest();
        guest.boot().await?;
        agent.restart();
        // It finds its instance's credentials where it found them before.
        let known = guest.exec(r#"[ -e "$1" ]"#, &[&format!("{HOME}/plugin")], b"", TICK * 30).await?;
        if known.ok() { self.install_plugin(guest).await } else { Ok(()) }
    }

    /// An instance without a guest has its disks on paper only.
    pub(super) async fn plug(self, instance_id: String, disk_id: String, attach: bool) {
        let done = match self.agent(&instance_id) {
            None => Ok(()),
            Some(agent) if attach => agent.guest().attach(&disk_id).await,
            Some(agent) => agent.guest().detach(&disk_id).await,
        };
        self.cloud.report(match done {
            Ok(()) => Happening::DiskReady { disk_id },
            Err(_) => Happening::DiskFailed { disk_id },
        });
    }
}
