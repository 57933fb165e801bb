//! A local cloud with its function, and what the tests ask of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use appsnap::acs::{Client, Credentials, Endpoints, Identities, Settings as Caller, Transport};
use appsnap::api::ecs::{self, GroupFilter, SnapshotGroup};
use appsnap::api::{PRODUCTS, assistant};
use appsnap::clock::Clock;
use appsnap::local::cloud::{INSTANCE, LocalCloud, OPERATOR, REGION};
use appsnap::local::fc::Outcome;
use appsnap::local::world::{Fault, Mishap, Settings};
use appsnap::report::{Level, Report, Status};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What the tools of a local cloud are.
pub const NEEDS: [&str; 8] =
    ["root", "loop", "fsfreeze", "mkfs.xfs", "mkfs.ext4", "losetup", "curl", "setpriv"];

/// Holds the prescript until `/run/go-on` is there, so that a test can act in mid-run.
pub const HOLD: &str =
    "touch /run/at-work; n=0; while [ ! -e /run/go-on ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done";

/// A running local cloud.
pub struct Bench {
    /// The cloud.
    pub cloud: LocalCloud,
    /// With the operator's key.
    pub client: Client,
    clock: Clock,
}

/// An answer of the function.
pub struct Answer {
    /// Its report.
    pub report: Report,
    /// As the platform gave it.
    pub outcome: Outcome,
}

/// One thing that goes wrong: the `nth` call of `action`.
pub fn fault(action: &str, nth: Option<u64>, what: Mishap) -> Settings {
    let fault = Fault { action: action.into(), nth, what };
    Settings { faults: vec![fault], ..Settings::default() }
}

/// A timer tick; `fields` go on top of the request.
pub fn tick(time: &str, fields: Value) -> Vec<u8> {
    json!({ "triggerTime": time, "triggerName": "nightly", "payload": request(fields).to_string() })
        .to_string()
        .into_bytes()
}

/// A request that tells the sink everything.
pub fn request(fields: Value) -> Value {
    let on = ["succeeded", "skipped", "pending", "degraded", "missed", "refused", "failed"];
    let mut request = json!({
        "policy": "orders-db", "regionId": REGION, "targets": { "instanceIds": [INSTANCE] },
        "linux": { "scriptTimeoutInSeconds": 30 },
        "notify": [{ "channel": "webhook", "url": "env:APPSNAP_DEMO_WEBHOOK_URL",
                     "secret": "env:APPSNAP_DEMO_WEBHOOK_SECRET", "on": on }],
    });
    for (key, value) in fields.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

/// Status, level and reasons of the only unit.
pub fn verdict(report: &Report) -> (Status, Level, Vec<&str>) {
    let unit = &report.units[0];
    (report.status, unit.level, unit.reasons.iter().map(String::as_str).collect())
}

/// Kills the function in mid-run.
pub fn kill(bench: &Bench) {
    for pid in bench.cloud.function.pids() {
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    }
}

/// The vendor's tag that every snapshot of the only group has.
pub async fn vendor_tags(bench: &Bench) -> Vec<&'static str> {
    vendor_tags_in(&bench.tags().await)
}

/// The vendor's tags among the tags of a group's snapshots: each is on all of them or on none.
pub fn vendor_tags_in(tags: &[BTreeMap<String, String>]) -> Vec<&'static str> {
    let all = |key: &str| tags.iter().filter(|tags| tags.contains_key(key)).count();
    let known = ["APPConsistent", "FsConsistent"];
    assert!(known.iter().all(|key| [0, tags.len()].contains(&all(key))), "{tags:?}");
    known.into_iter().filter(|key| all(key) > 0).collect()
}

impl Bench {
    /// Starts one, with good scripts in its guest; `pre` is what the prescript does.
    pub async fn start(settings: Settings, pre: &str) -> Self {
        let clock = Clock::system();
        let cloud = LocalCloud::start(&clock, settings, Path::new(env!("CARGO_BIN_EXE_bootstrap")), 0);
        let cloud = cloud.await.unwrap();
        for (phase, what) in [("pre", pre), ("post", "true")] {
            let outcome = if phase == "post" { " $APPSNAP_OUTCOME" } else { "" };
            let text = format!("#!/bin/sh\necho \"{phase}{outcome}\" >>/run/trace\n{what}\n");
            cloud.guest.write_file(&format!("/tmp/{phase}script.sh"), text.as_bytes(), "700").await.unwrap();
        }
        let endpoint = cloud.endpoint();
        let own = ["APPSNAP_ECS_ENDPOINT", "APPSNAP_STS_ENDPOINT"];
        let own = |name: &str| own.contains(&name).then(|| endpoint.clone());
        let caller = Caller {
            transport: Transport::https(Some(&cloud.ca_file)).unwrap(),
            clock: clock.clone(),
            endpoints: Endpoints::from_env(&own, &PRODUCTS).unwrap(),
            region_id: REGION.into(),
            identities: std::sync::Arc::new(Identities::default()),
        };
        let keys = Credentials::new(Some(OPERATOR.0.into()), Some(OPERATOR.1.into()), None).unwrap();
        Self { client: Client::new(caller, keys), cloud, clock }
    }

    /// Sends an event and waits for the report.
    pub async fn send(&self, event: Vec<u8>) -> Answer {
        let outcome = self.cloud.function.invoke(event).await;
        read(outcome)
    }

    /// Sends an event and does not wait.
    pub fn send_off(&self, event: Vec<u8>) -> tokio::task::JoinHandle<Outcome> {
        let function = self.cloud.function.clone();
        tokio::spawn(async move { function.invoke(event).await })
    }

    /// Waits until `script` succeeds in the guest.
    pub async fn until(&self, script: &str) {
        for _ in 0..300 {
            let done = self.cloud.guest.exec(script, &[], b"", Duration::from_secs(5)).await.unwrap();
            if done.status == Some(0) {
                return;
            }
            self.clock.sleep(Duration::from_millis(100)).await;
        }
        panic!("this never came true in the guest: {script}");
    }

    /// What the scripts did, in order.
    pub async fn trace(&self) -> Vec<String> {
        let bytes = self.cloud.guest.read_file("/run/trace").await.unwrap_or_default();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    /// All groups that the cloud shows.
    pub async fn groups(&self) -> Vec<SnapshotGroup> {
        let filter = GroupFilter { instance_id: Some(INSTANCE), ..GroupFilter::default() };
        ecs::describe_snapshot_groups(&self.client, REGION, &filter).await.unwrap()
    }

    /// The tags of the snapshots of the only group.
    pub async fn tags(&self) -> Vec<BTreeMap<String, String>> {
        let groups = self.groups().await;
        assert_eq!(groups.len(), 1, "{groups:?}");
        self.tags_of(&groups[0]).await
    }

    /// The tags of the snapshots of a group.
    pub async fn tags_of(&self, group: &SnapshotGroup) -> Vec<BTreeMap<String, String>> {
        let ids: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
        let seen = ecs::describe_snapshots(&self.client, REGION, &ids).await.unwrap();
        assert_eq!(seen.len(), 3);
        seen.into_iter().map(|one| map(one.tags)).collect()
    }

    /// The tags of the only invocation that ran a sequence.
    pub async fn record(&self) -> BTreeMap<String, String> {
        let mut found = self.records().await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// The tags of all invocations that ran a sequence, in order.
    pub async fn records(&self) -> Vec<BTreeMap<String, String>> {
        let tags = [("appsnap:policy".to_owned(), "orders-db".to_owned())];
        let mut found = assistant::invocations_by_tag(&self.client, REGION, &tags).await.unwrap();
        found.sort_by(|a, b| a.creation_time.cmp(&b.creation_time));
        found.into_iter().map(|one| map(one.tags)).collect()
    }

    /// The event that ECS emits when the only sequence is over.
    pub async fn task_completed(&self) -> Vec<u8> {
        let tags = [("appsnap:policy".to_owned(), "orders-db".to_owned())];
        let found = assistant::invocations_by_tag(&self.client, REGION, &tags).await.unwrap();
        let data =
            json!({ "invokeId": found[0].invoke_id, "instanceId": INSTANCE, "invocationStatus": "Success" });
        json!({ "id": "e-1", "source": "acs.ecs", "specversion": "1.0",
                "type": "ecs:CloudAssistant:TaskCompleted", "data": data })
        .to_string()
        .into_bytes()
    }

    /// Nothing is frozen; takes everything away.
    pub async fn close(self) {
        for mount in self.cloud.guest.mounts() {
            assert!(!self.cloud.guest.is_frozen(mount).await.unwrap(), "{mount} is frozen");
        }
        self.cloud.close().await.unwrap();
    }
}

/// The report in an answer, plain or inside an error.
pub fn read(outcome: Outcome) -> Answer {
    let body: Value = serde_json::from_slice(&outcome.body).unwrap_or_default();
    let report = body.get("report").unwrap_or(&body).clone();
    let report = serde_json::from_value(report);
    let shown = || format!("{}\n{}", String::from_utf8_lossy(&outcome.body), outcome.log.join("\n"));
    Answer { report: report.unwrap_or_else(|_| panic!("no report: {}", shown())), outcome }
}

fn map(tags: Vec<ecs::Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}
