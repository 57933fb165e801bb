//! A small cloud for tests, driven by signed requests.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::local::verify::{encode, tests::sign};
use crate::local::world::*;

pub(crate) const KEY: (&str, &str) = ("LTAI5tTest", "test-secret");
pub(crate) const DISKS: [&str; 2] = ["d-bp1aaaaaaaaaaaaaaaaa", "d-bp1bbbbbbbbbbbbbbbbb"];

/// One account, region and instance with two data disks.
pub(crate) fn small(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.add_region("cn-hangzhou");
    world.add_user("1", "tester", KEY, Policy::full());
    let policy = Policy::full();
    world.add_role(Role {
        account_id: "1".into(),
        name: "appsnap".into(),
        trust: Trust::open(),
        external_id: None,
        policy,
    });
    world.add_instance(Instance {
        id: "i-1".into(),
        account_id: "1".into(),
        region_id: "cn-hangzhou".into(),
        zone_id: "cn-hangzhou-h".into(),
        status: "Running".into(),
        os_type: "linux".into(),
        agent_alive: true,
        ..Instance::default()
    });
    for id in DISKS {
        world.add_disk(Disk {
            id: id.into(),
            account_id: "1".into(),
            region_id: "cn-hangzhou".into(),
            zone_id: "cn-hangzhou-h".into(),
            instance_id: Some("i-1".into()),
            category: "cloud_essd".into(),
            size: 20,
            status: "In_use".into(),
            kind: "data".into(),
            ..Disk::default()
        });
    }
    world
}

pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    nonce: u32,
    pub(crate) key: (String, String, Option<String>),
}

impl Lab {
    pub(crate) fn new(settings: Settings) -> Self {
        let now = "2026-11-22T03:00:00Z".parse().unwrap();
        Self { world: small(settings), now, nonce: 0, key: (KEY.0.into(), KEY.1.into(), None) }
    }

    pub(crate) fn request(&mut self, action: &str, pairs: &[(&str, &str)]) -> Call {
        self.nonce += 1;
        self.request_with(action, pairs, self.nonce)
    }

    /// As `request`, with a nonce of the caller's choice.
    pub(crate) fn request_with(&self, action: &str, pairs: &[(&str, &str)], nonce: u32) -> Call {
        let sts = ["AssumeRole", "GetCallerIdentity"].contains(&action);
        let mut headers = vec![
            ("host".into(), "ecs.cn-hangzhou.aliyuncs.com".into()),
            ("x-acs-action".into(), action.into()),
            ("x-acs-version".into(), if sts { "2015-04-01" } else { "2014-05-26" }.into()),
            ("x-acs-date".into(), seconds(self.now)),
            ("x-acs-signature-nonce".into(), nonce.to_string()),
        ];
        headers.extend(self.key.2.clone().map(|token| ("x-acs-security-token".into(), token)));
        let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
        let call =
            Call { method: "POST".into(), path: "/".into(), query: pairs.join("&"), headers, body: vec![] };
        sign(call, &self.key.0, &self.key.1)
    }

    /// InvokeFunction, signed.
    pub(crate) fn invocation(&mut self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Call {
        self.nonce += 1;
        let mut all: Vec<(String, String)> = vec![
            ("host".into(), "1.cn-hangzhou.fc.aliyuncs.com".into()),
            ("x-acs-action".into(), "InvokeFunction".into()),
            ("x-acs-version".into(), "2023-03-30".into()),
            ("x-acs-date".into(), seconds(self.now)),
            ("x-acs-signature-nonce".into(), self.nonce.to_string()),
        ];
        all.extend(headers.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let (method, path, query) = ("POST".into(), path.into(), String::new());
        sign(Call { method, path, query, headers: all, body: body.into() }, &self.key.0, &self.key.1)
    }

    pub(crate) fn call(&mut self, action: &str, pairs: &[(&str, &str)]) -> (Reply, Vec<Effect>) {
        let mut all = vec![("RegionId", "cn-hangzhou")];
        all.extend(pairs);
        let call = self.request(
            action,
            if ["AssumeRole", "GetCallerIdentity", "DescribeRegions"].contains(&action) {
                pairs
            } else {
                &all
            },
        );
        self.world.handle(self.now, &call)
    }

    pub(crate) fn ok(&mut self, action: &str, pairs: &[(&str, &str)]) -> Value {
        let (reply, _) = self.call(action, pairs);
        assert_eq!(reply.status, 200, "{action}: {}", reply.body);
        reply.body
    }

    pub(crate) fn refused(&mut self, action: &str, pairs: &[(&str, &str)]) -> String {
        let (reply, effects) = self.call(action, pairs);
        assert!(reply.status >= 400 && effects.is_empty(), "{action}: {}", reply.body);
        format!("{} {}", reply.status, reply.code().unwrap())
    }

    /// Lets time pass and makes every cut as it falls due; returns the cuts' instants.
    pub(crate) fn pass(&mut self, millis: i64) -> Vec<Timestamp> {
        let (end, mut cuts) = (self.now + SignedDuration::from_millis(millis), Vec::new());
        while let Some(at) = self.world.next_due().filter(|at| *at <= end) {
            for effect in self.world.due(at) {
                if let Effect::CloneDisk { snapshot_id, at, .. } = effect {
                    cuts.push(at);
                    self.world.report(at, Happening::DiskCloned { snapshot_id });
                }
            }
        }
        self.now = end;
        cuts
    }

    pub(crate) fn groups(&mut self) -> Vec<Value> {
        let all = self.ok("DescribeSnapshotGroups", &[("InstanceId", "i-1")]);
        all["SnapshotGroups"]["SnapshotGroup"].as_array().unwrap().clone()
    }

    pub(crate) fn news(&mut self, invoke_id: &str, news: CommandNews) {
        let happening = Happening::Command { invoke_id: invoke_id.into(), instance_id: "i-1".into(), news };
        self.world.report(self.now, happening);
    }

    pub(crate) fn result(&mut self, invoke_id: &str) -> Value {
        let asked = [("InvokeId", invoke_id), ("ContentEncoding", "PlainText")];
        let all = self.ok("DescribeInvocationResults", &asked);
        all["Invocation"]["InvocationResults"]["InvocationResult"][0].clone()
    }
}
