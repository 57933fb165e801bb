//! Verifications whole: a group of the local cloud's guest, made by the function, proven on a guest that lends itself, by
//! the command and as a policy's step.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "common/guests.rs"]
mod guests;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use appsnap::acs::Client;
use appsnap::api::ecs::{self, Disk};
use appsnap::clock::Clock;
use appsnap::local::cloud::{ACCOUNT, DISKS, INSTANCE, OPERATOR, REGION, names, role};
use appsnap::local::guest::Guest;
use appsnap::local::world::{Mishap, Role, Settings, Trust};
use appsnap::local::{lent, writer};
use appsnap::report::{Report, Status};
use appsnap::verify::{Job, Proof, verdict, verify};
use bench::{Bench, NEEDS, fault, tick, verdict as ended};
use common::need;
use guests::{text, wait_until};
use jiff::SignedDuration;
use serde_json::{Value, json};

const AT: &str = "2026-11-22T03:00:00Z";
const LATER: &str = "2026-11-23T03:00:00Z";

/// A cloud with a group of the guest, and with the guest that lends itself.
async fn site(settings: Settings, fields: Value) -> (Bench, Arc<Guest>, String) {
    let bench = Bench::start(settings, "true").await;
    for mount in ["/data", "/logs"] {
        writer::start(&bench.cloud.guest, mount).await.unwrap();
    }
    let report = bench.send(tick(AT, fields)).await.report;
    let group = report.units[0].snapshot_group_id.clone().unwrap_or_else(|| panic!("{report:#?}"));
    let guest = lent::add(&bench.cloud).await.unwrap();
    (bench, guest, group)
}

fn job(client: &Client, group: &str) -> Job {
    let clock = Clock::system();
    Job {
        client: client.clone(),
        region_id: REGION.into(),
        group_id: group.into(),
        instance_id: lent::INSTANCE.into(),
        run: format!("v-{}", &clock.nonce()[..16]),
        limit: 90,
        query: None,
        patience: SignedDuration::from_secs(30),
        deadline: clock.now() + SignedDuration::from_mins(10),
        started: clock.now(),
    }
}

/// Disks of verifications that are there.
async fn disks(bench: &Bench) -> Vec<Disk> {
    let tag = [("appsnap:verify:on".to_owned(), lent::INSTANCE.to_owned())];
    ecs::describe_disks_tagged(&bench.client, REGION, &tag).await.unwrap()
}

/// The tags that tell how a group came up, by snapshot.
async fn labels(bench: &Bench, group: &str) -> Vec<BTreeMap<String, String>> {
    let groups = bench.groups().await;
    let group = groups.iter().find(|one| one.snapshot_group_id == group).unwrap();
    let mut tags = bench.tags_of(group).await;
    tags.iter_mut().for_each(|tags| tags.retain(|key, _| key.starts_with("appsnap:verified")));
    tags
}

/// Nothing is left of it in the guest or in the cloud.
async fn assert_clean(bench: &Bench, guest: &Guest) {
    assert!(disks(bench).await.is_empty(), "{:?}", disks(bench).await);
    let look = "mkdir -p /run/appsnap-verify; ls /run/appsnap-verify /var/tmp; ls /sys/block; grep -c appsnap-verify /proc/self/mountinfo; true";
    let mut seen = String::new();
    for _ in 0..100 {
        seen = text(guest, look).await;
        if seen == "/run/appsnap-verify:\n\n/var/tmp:\nvda\n0" {
            return;
        }
        Clock::system().sleep(Duration::from_millis(200)).await;
    }
    panic!("left: {seen}");
}

fn state(proof: &Proof) -> (&str, u8) {
    let verified = proof.verified.as_ref().unwrap_or_else(|| panic!("{proof:#?}"));
    (&verified.state, verdict::exit_code(verified))
}

fn code(proof: &Proof) -> &str {
    proof.error.as_ref().map_or("", |error| &error.code)
}

#[tokio::test]
async fn a_frozen_group_is_clean_a_crash_copy_is_worse_and_both_are_labelled() {
    if !need(&NEEDS) {
        return;
    }
    for (fields, expected) in
        [(json!({}), ("clean", 0)), (json!({ "consistency": "crash" }), ("redo-small", 0))]
    {
        let (bench, guest, group) = site(Settings::default(), fields).await;
        let proof = verify(&job(&bench.client, &group)).await;
        assert_eq!(state(&proof), expected, "{proof:#?}");
        let verified = proof.verified.as_ref().unwrap();
        assert!(verified.why.contains("file systems only") && verified.evidence.len() == 3, "{verified:#?}");
        assert!(proof.findings.is_empty() && proof.error.is_none(), "{proof:#?}");
        for tags in labels(&bench, &group).await {
            assert_eq!(tags["appsnap:verified"], expected.0);
            assert!(tags["appsnap:verified:detail"].contains("file systems"), "{tags:?}");
        }
        assert_clean(&bench, &guest).await;
        bench.close().await;
    }
}

#[tokio::test]
async fn a_copy_that_does_not_mount_is_broken() {
    if !need(&NEEDS) {
        return;
    }
    let (bench, guest, group) = site(Settings::default(), json!({})).await;
    let groups = bench.groups().await;
    let data = groups[0].snapshots.iter().find(|one| one.source_disk_id == DISKS[1].0).unwrap();
    let image = bench.cloud.store.snapshot(&data.snapshot_id);
    // The superblock is there, so that it is known for an ext4, and what it leads to is not.
    let file = std::fs::OpenOptions::new().write(true).open(image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; 4 << 20], 4096).unwrap();
    drop(file);
    let proof = verify(&job(&bench.client, &group)).await;
    assert_eq!(state(&proof), ("broken", 1), "{proof:#?}");
    assert!(proof.verified.as_ref().unwrap().why.contains("/data"), "{proof:#?}");
    assert!(labels(&bench, &group).await.iter().all(|tags| tags["appsnap:verified"] == "broken"));
    assert_clean(&bench, &guest).await;
    bench.close().await;
}

#[tokio::test]
async fn a_disk_that_is_taken_away_under_the_look_is_no_verdict() {
    if !need(&NEEDS) {
        return;
    }
    let (bench, guest, group) = site(Settings::default(), json!({})).await;
    let job = job(&bench.client, &group);
    let thief = async {
        wait_until(async || text(&guest, "ls /run/appsnap-verify 2>&1").await.contains("v-")).await;
        let disk = disks(&bench).await.remove(0).disk_id;
        ecs::detach_disk(&bench.client, REGION, &disk, lent::INSTANCE).await.unwrap();
    };
    let (proof, ()) = tokio::join!(verify(&job), thief);
    assert_eq!(code(&proof), "verify.lost", "{proof:#?}");
    assert!(labels(&bench, &group).await.iter().all(BTreeMap::is_empty));
    assert_clean(&bench, &guest).await;
    bench.close().await;
}

#[tokio::test]
async fn an_instance_that_cannot_lend_itself_is_told_before_anything_is_made() {
    if !need(&NEEDS) {
        return;
    }
    let (bench, guest, group) = site(Settings::default(), json!({})).await;
    let with = |id: &str| Job { instance_id: id.into(), ..job(&bench.client, &group) };
    for (id, said) in [("i-none", "does not show it"), (INSTANCE, "the group is of this instance")] {
        let proof = verify(&with(id)).await;
        let error = proof.error.as_ref().unwrap();
        assert!(error.code == "verify.instance" && error.message.contains(said), "{error:?}");
    }
    let set = |tags: &[&str], status: &str, zone: &str| {
        bench.cloud.server.cloud.look(|world, _| {
            let instance = world.instance_mut(lent::INSTANCE).unwrap();
            instance.tags.0.retain(|key, _| tags.contains(&key.as_str()));
            (instance.status, instance.zone_id) = (status.into(), zone.into());
        });
    };
    set(&["appsnap", "appsnap:verify"], "Stopped", "cn-hangzhou-k");
    let proof = verify(&with(lent::INSTANCE)).await;
    assert!(proof.error.as_ref().unwrap().message.contains("Stopped"), "{proof:?}");
    // The disks are made where it is.
    set(&["appsnap", "appsnap:verify"], "Running", "cn-hangzhou-b");
    assert_eq!(state(&verify(&with(lent::INSTANCE)).await), ("clean", 0));
    assert_clean(&bench, &guest).await;
    set(&["appsnap"], "Running", "cn-hangzhou-k");
    let proof = verify(&with(lent::INSTANCE)).await;
    let error = proof.error.as_ref().unwrap();
    assert!(error.cure.as_ref().unwrap().contains("--Tag.1.Key appsnap:verify"), "{error:?}");
    let calls = |action: &str| bench.cloud.server.cloud.look(|world, _| world.calls(action));
    assert_eq!((calls("CreateDisk"), calls("AttachDisk")), (3, 3), "for the one that was good");
    let proof = verify(&Job { group_id: "ssg-none".into(), ..with(lent::INSTANCE) }).await;
    assert_eq!(code(&proof), "verify.unseen");
    bench.close().await;
}

#[tokio::test]
async fn whatever_fails_on_the_way_the_disks_are_gone() {
    if !need(&NEEDS) {
        return;
    }
    let denied = || Mishap::Code(403, "Forbidden.RAM".into());
    for (action, nth, what, expected) in [
        ("CreateDisk", 2, denied(), "Forbidden.RAM"),
        ("AttachDisk", 2, denied(), "Forbidden.RAM"),
        ("DescribeInvocationResults", 1, denied(), "Forbidden.RAM"),
        ("CreateDisk", 1, Mishap::DropReply, ""),
        ("AttachDisk", 1, Mishap::DropReply, ""),
        ("DetachDisk", 1, Mishap::DropReply, ""),
        ("DeleteDisk", 1, Mishap::DropReply, ""),
    ] {
        let (bench, guest, group) = site(Settings::default(), json!({})).await;
        bench.cloud.server.cloud.look(|world, _| world.change(fault(action, Some(nth), what.clone())));
        let proof = verify(&job(&bench.client, &group)).await;
        assert_eq!(code(&proof), expected, "{action}: {proof:#?}");
        assert!(!proof.findings.iter().any(|one| one.code == "verify.stuck"), "{action}: {proof:#?}");
        assert_clean(&bench, &guest).await;
        bench.close().await;
    }
}

/// Lets every identity of the account assume the role, as an operator would be named in its trust policy.
fn trust_everybody(bench: &Bench) {
    let text = json!({ "Version": "1", "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole",
                       "Principal": { "RAM": [format!("acs:ram::{ACCOUNT}:root")] } }] });
    let trust = Trust::parse(&text.to_string()).unwrap();
    let role = Role { trust, ..role(&names().verify_role, "trust-verify", &["verify"]) };
    bench.cloud.server.cloud.look(|world, _| world.add_role(role));
}

/// The command, with the operator's key.
fn command(bench: &Bench, words: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_appsnap"));
    command.arg("verify").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.0).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.1);
    command.env("APPSNAP_ECS_ENDPOINT", bench.cloud.endpoint());
    command.env("APPSNAP_STS_ENDPOINT", bench.cloud.endpoint());
    command.env("APPSNAP_CA_BUNDLE", &bench.cloud.ca_file).env("ALIBABA_CLOUD_REGION_ID", REGION);
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_command_that_is_killed_leaves_disks_that_the_next_one_takes_away() {
    if !need(&NEEDS) {
        return;
    }
    let (bench, guest, group) = site(Settings::default(), json!({})).await;
    let mut child = command(&bench, &[&group]).spawn().unwrap();
    wait_until(async || disks(&bench).await.iter().any(|disk| disk.status == "In_use")).await;
    child.kill().await.unwrap();
    let left: Vec<String> = disks(&bench).await.into_iter().map(|disk| disk.disk_id).collect();
    assert_eq!(left.len(), 3, "nobody took them away");
    let role = format!("acs:ram::{ACCOUNT}:role/{}", names().verify_role);
    trust_everybody(&bench);
    let done = command(&bench, &[&group, "--role-arn", &role, "--json"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let report: Report =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((done.status.code(), report.status), (Some(0), Status::Succeeded), "{report:#?}");
    let unit = &report.units[0];
    assert_eq!(unit.verified.as_ref().unwrap().group_id, group);
    assert_eq!(unit.instance_ids, [INSTANCE]);
    let earlier = unit.timeline.iter().find(|step| step.step == "earlier").unwrap();
    assert!(left.iter().all(|id| earlier.detail.contains(id.as_str())), "{earlier:?}");
    assert_clean(&bench, &guest).await;
    // Without --on the one with the tag lends itself; a group that does not show is no verdict.
    let done = command(&bench, &["ssg-none"]).output().await.unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.code() == Some(1) && told.contains("verify.unseen"), "{told}");
    bench.close().await;
}

#[tokio::test]
async fn a_policy_verifies_one_of_so_many_groups_and_says_when_it_cannot() {
    if !need(&NEEDS) {
        return;
    }
    let role = format!("acs:ram::{ACCOUNT}:role/{}", names().verify_role);
    let plan = |every: u32, on: &str, limit: u32| json!({ "verify": { "every": every, "instanceId": on, "limitSeconds": limit }, "roles": { "verify": role } });
    let (bench, guest, _) = site(Settings::default(), json!({})).await;
    let tags =
        |report: &Report| report.units[0].findings.iter().map(|one| one.code.clone()).collect::<Vec<_>>();
    // The run's own, if it is uploaded by then, else the one before.
    let report = bench.send(tick(LATER, plan(3, lent::INSTANCE, 60))).await.report;
    assert_eq!(ended(&report).0, Status::Succeeded, "{report:#?}");
    let verified = report.units[0].verified.as_ref().expect("nothing was verified");
    let first = verified.group_id.clone();
    assert_eq!(verified.state, "clean");
    assert!(labels(&bench, &first).await.iter().all(|tags| tags["appsnap:verified"] == "clean"));
    assert_clean(&bench, &guest).await;
    let told = bench.cloud.sink.deliveries().pop().unwrap();
    assert!(String::from_utf8_lossy(&told.body).contains(r#""verified""#), "the webhook is told");
    // One of the last three has it.
    let report = bench.send(tick("2026-11-24T03:00:00Z", plan(3, lent::INSTANCE, 60))).await.report;
    assert!(report.units[0].verified.is_none() && tags(&report).is_empty(), "{report:#?}");
    // A repeat verifies nothing.
    let report = bench.send(tick("2026-11-24T03:00:00Z", plan(1, lent::INSTANCE, 60))).await.report;
    assert!(report.status == Status::Skipped && report.units[0].verified.is_none(), "{report:#?}");
    for (on, limit, told) in [("i-none", 60, "verify.failed"), (lent::INSTANCE, 7200, "verify.late")] {
        let at = format!("2026-11-25T03:{:02}:00Z", limit / 150);
        let report = bench.send(tick(&at, plan(1, on, limit))).await.report;
        assert_eq!((report.status, tags(&report)), (Status::Succeeded, vec![told.to_owned()]), "{report:#?}");
    }
    bench.close().await;
}

#[tokio::test]
async fn a_function_that_is_killed_leaves_disks_that_its_next_run_takes_away_also_on_a_full_instance() {
    if !need(&NEEDS) {
        return;
    }
    let role = format!("acs:ram::{ACCOUNT}:role/{}", names().verify_role);
    let fields = json!({ "verify": { "every": 1, "instanceId": lent::INSTANCE, "limitSeconds": 60 },
                         "roles": { "verify": role } });
    let (bench, guest, _) = site(Settings::default(), json!({})).await;
    let run = bench.send_off(tick(LATER, fields.clone()));
    wait_until(async || disks(&bench).await.iter().any(|disk| disk.status == "In_use")).await;
    bench::kill(&bench);
    let _ = run.await;
    let left: Vec<String> = disks(&bench).await.into_iter().map(|disk| disk.disk_id).collect();
    assert_eq!(left.len(), 3, "nobody took them away");
    text(&guest, "cat /dev/zero >/home/ballast 2>/dev/null; sync").await;
    let of =
        disks(&bench).await[0].tags.iter().find(|tag| tag.key == "appsnap:verify").unwrap().value.clone();
    // By hand, of the same group: its time is not over yet.
    let proof = verify(&job(&bench.client, &of)).await;
    assert_eq!(state(&proof), ("clean", 0), "{proof:#?}");
    assert!(proof.timeline.iter().any(|step| step.step == "earlier" && step.detail.contains(&left[0])));
    assert_clean(&bench, &guest).await;
    bench.close().await;
}
