//! With exactly the rights of `policies/verify.json` a verification is good; each right that is taken away is missed and
//! named, and what could not be taken away for want of it is taken away by the next verification.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "common/rights.rs"]
mod rights;

use appsnap::acs::Role as Assumed;
use appsnap::api::ecs;
use appsnap::clock::Clock;
use appsnap::local::cloud::{ACCOUNT, REGION, names, role};
use appsnap::local::lent;
use appsnap::local::world::{Role, Settings, Trust};
use appsnap::verify::{Job, Proof, verify};
use bench::{Bench, NEEDS, tick};
use common::need;
use jiff::SignedDuration;
use rights::{Right, policy, rights, without};
use serde_json::json;

/// Action, kind of resource, and the code that tells of it; `-`: a verdict is found all the same.
const CASES: [(&str, &str, &str); 17] = [
    ("ecs:DescribeInstances", "instance", "verify.instance"),
    ("ecs:DescribeSnapshotGroups", "snapshotgroup", "verify.unseen"),
    ("ecs:DescribeSnapshots", "snapshot", "verify.unseen"),
    ("ecs:DescribeDisks", "disk", "verify.unseen"),
    ("ecs:CreateDisk", "snapshot", "Forbidden.RAM"),
    ("ecs:CreateDisk", "disk", "Forbidden.RAM"),
    ("ecs:AttachDisk", "disk", "Forbidden.RAM"),
    ("ecs:AttachDisk", "instance", "Forbidden.RAM"),
    ("ecs:RunCommand", "instance", "Forbidden.RAM"),
    ("ecs:RunCommand", "command", "Forbidden.RAM"),
    ("ecs:DescribeInvocationResults", "instance", "verify.lost"),
    ("ecs:DescribeInvocationResults", "command", "verify.lost"),
    ("ecs:DetachDisk", "disk", "verify.stuck"),
    ("ecs:DetachDisk", "instance", "verify.stuck"),
    ("ecs:DeleteDisk", "disk", "verify.stuck"),
    ("ecs:TagResources", "snapshot", "verify.untagged"),
    ("", "", ""),
];

/// Gives the role exactly these rights, and whoever asks may assume it.
fn give(bench: &Bench, rights: &[Right]) {
    let text = json!({ "Version": "1", "Statement": [{ "Effect": "Allow", "Action": "sts:AssumeRole",
                       "Principal": { "RAM": [format!("acs:ram::{ACCOUNT}:root")] } }] });
    let trust = Trust::parse(&text.to_string()).unwrap();
    let role = Role { trust, policy: policy(rights), ..role(&names().verify_role, "trust-verify", &[]) };
    bench.cloud.server.cloud.look(|world, _| world.add_role(role));
}

async fn run(bench: &Bench, group: &str) -> Proof {
    let clock = Clock::system();
    let arn = format!("acs:ram::{ACCOUNT}:role/{}", names().verify_role);
    let job = Job {
        client: bench.client.assuming(Assumed::new(&arn, "verify")),
        region_id: REGION.into(),
        group_id: group.into(),
        instance_id: lent::INSTANCE.into(),
        run: format!("v-{}", &clock.nonce()[..16]),
        limit: 60,
        query: None,
        patience: SignedDuration::from_secs(10),
        deadline: clock.now() + SignedDuration::from_mins(6),
        started: clock.now(),
    };
    verify(&job).await
}

/// All that is told of this code.
fn told(proof: &Proof, code: &str) -> String {
    let error = proof.error.iter().filter(|error| error.code == code);
    let error = error.map(|error| format!("{} {}", error.message, error.cure.as_deref().unwrap_or_default()));
    let findings = proof.findings.iter().filter(|one| one.code == code);
    let all: Vec<String> = error.chain(findings.map(|one| format!("{} {}", one.message, one.cure))).collect();
    assert!(!all.is_empty(), "nothing of {code}: {proof:#?}");
    all.join(" ")
}

#[test]
fn every_right_of_the_document_is_taken_away_by_a_case() {
    let pairs = |all: Vec<(String, String)>| {
        let mut all = all;
        all.sort();
        all
    };
    let given =
        rights(&["verify"]).iter().map(|right| (right.action.clone(), right.kind().to_owned())).collect();
    let known = CASES.iter().filter(|case| !case.0.is_empty());
    assert_eq!(
        pairs(given),
        pairs(known.map(|(action, kind, _)| (action.to_string(), kind.to_string())).collect())
    );
}

#[tokio::test]
async fn each_right_is_missed_by_name_and_nothing_is_left_when_all_are_there_again() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let report = bench.send(tick("2026-11-22T03:00:00Z", json!({}))).await.report;
    let group = report.units[0].snapshot_group_id.clone().unwrap();
    lent::add(&bench.cloud).await.unwrap();
    let all = rights(&["verify"]);
    for (action, kind, code) in CASES {
        let less = all.iter().find(|right| right.action == action && right.kind() == kind);
        give(&bench, &less.map_or(all.clone(), |less| without(&all, less)));
        let proof = run(&bench, &group).await;
        match action {
            "" => assert_eq!(proof.verified.unwrap().state, "clean"),
            action => assert!(told(&proof, code).contains(&action[4..]), "{action}: {}", told(&proof, code)),
        }
    }
    let tag = [("appsnap:verify:on".to_owned(), lent::INSTANCE.to_owned())];
    let left = ecs::describe_disks_tagged(&bench.client, REGION, &tag).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    bench.close().await;
}
