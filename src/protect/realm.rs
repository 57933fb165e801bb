//! For tests: the local cloud's world without HTTP, under paused time, with two accounts and several regions.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::targets::Place;
use crate::acs::{Client, Credentials, Endpoints, Reply, Role, Settings as Caller, Transport, Wire};
use crate::clock::Clock;
use crate::eligibility::Support;
use crate::local::world::{
    self, Call, Disk, Effect, Happening, Instance, Policy, Settings, Tags, Trust, World,
};

/// The function's region, and another one.
pub const REGIONS: [&str; 2] = ["cn-hangzhou", "cn-shanghai"];
/// A role of the function's account and one of another, which asks for [`EXTERNAL_ID`].
pub const ROLES: [&str; 2] = ["acs:ram::1:role/appsnap", "acs:ram::2:role/appsnap"];
pub const EXTERNAL_ID: &str = "orders";
const KEY: (&str, &str) = ("LTAI5tFunction", "function-secret");

/// A world and its clock.
#[derive(Clone)]
pub struct Realm {
    pub world: Arc<Mutex<World>>,
    pub clock: Clock,
}

impl Realm {
    /// An empty one, at three in the morning. Call inside a tokio runtime.
    pub fn new(settings: Settings) -> Self {
        let mut world = World::new(settings);
        REGIONS.iter().for_each(|region| world.add_region(region));
        world.add_user("1", "function", KEY, Policy::full());
        for (account, external_id) in [("1", None), ("2", Some(EXTERNAL_ID.to_string()))] {
            let (account_id, name, policy) = (account.into(), "appsnap".into(), Policy::full());
            world.add_role(world::Role { account_id, name, trust: Trust::open(), external_id, policy });
        }
        let clock = Clock::seeded("2026-11-22T03:00:00Z".parse().unwrap(), 1);
        Self { world: Arc::new(Mutex::new(world)), clock }
    }

    /// An instance with one disk and a dead agent, so that nothing can begin on it.
    pub fn add(&self, id: &str, account: &str, region: &str, tags: &[(&str, &str)]) {
        let tags = tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let mut world = self.world.lock().unwrap();
        world.add_instance(Instance {
            id: id.into(),
            account_id: account.into(),
            region_id: region.into(),
            zone_id: format!("{region}-h"),
            status: "Running".into(),
            os_type: "linux".into(),
            os_name: "Alibaba Cloud Linux  3.2104 LTS 64 bit".into(),
            tags: Tags(tags),
            ..Instance::default()
        });
        world.add_disk(Disk {
            id: format!("d-of{}", id.replace('-', "")),
            account_id: account.into(),
            region_id: region.into(),
            zone_id: format!("{region}-h"),
            instance_id: Some(id.into()),
            category: "cloud_essd".into(),
            size: 20,
            status: "In_use".into(),
            kind: "system".into(),
            ..Disk::default()
        });
    }

    /// Makes of the instance a living one under Windows, whose guest never ends a command.
    pub fn enliven(&self, id: &str) {
        let mut world = self.world.lock().unwrap();
        let instance = world.instance_mut(id).unwrap();
        instance.agent_alive = true;
        instance.os_type = "windows".into();
        instance.os_name = "Windows Server  2022 Datacenter Edition 64bit".into();
        instance.last_heartbeat = Some(self.clock.now());
        instance.ram_role = Some("guest".into());
    }

    /// How often the cloud was called.
    pub fn calls(&self, action: &str) -> u64 {
        self.world.lock().unwrap().calls(action)
    }

    pub fn transport(&self) -> Transport {
        let Self { world, clock } = self.clone();
        Transport::scripted(move |wire: &Wire| {
            let url = wire.url.split_once("://").unwrap().1;
            let (host, rest) = url.split_once('/').unwrap();
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let mut headers = wire.headers.clone();
            headers.push(("host".into(), host.into()));
            let (method, path, query) = ("POST".into(), format!("/{path}"), query.into());
            let call = Call { method, path, query, headers, body: wire.body.clone() };
            let mut world = world.lock().unwrap();
            let (reply, effects) = world.handle(clock.now(), &call);
            for effect in effects {
                // Cuts are made at once; no guest carries out a command.
                if let Effect::CloneDisk { snapshot_id, .. } = effect {
                    world.report(clock.now(), Happening::DiskCloned { snapshot_id });
                }
            }
            Ok(Reply::new(reply.status, reply.rendered().1))
        })
    }

    pub fn credentials(&self) -> Credentials {
        Credentials::new(Some(KEY.0.into()), Some(KEY.1.into()), None).unwrap()
    }

    pub fn deadline(&self) -> Timestamp {
        self.clock.now() + SignedDuration::from_mins(50)
    }

    /// A place in the role of an account.
    pub fn place(&self, account: usize, region: &str, external_id: Option<&str>) -> Place {
        let settings = Caller {
            transport: self.transport(),
            clock: self.clock.clone(),
            endpoints: Endpoints::default(),
            region_id: REGIONS[0].into(),
            identities: Arc::default(),
        };
        let mut role = Role::new(ROLES[account - 1], "appsnap");
        if let Some(id) = external_id {
            role = role.external_id(id);
        }
        Place {
            client: Client::new(settings, self.credentials()).until(self.deadline()).assuming(role),
            role_arn: Some(ROLES[account - 1].into()),
            external_id: external_id.map(str::to_owned),
            account_id: account.to_string(),
            region_id: region.into(),
            support: Support::default(),
            deadline: self.deadline(),
        }
    }
}
