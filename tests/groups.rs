//! `appsnap groups` against the local cloud.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::process::{Output, Stdio};

use appsnap::api::ecs;
use appsnap::local::cloud::{INSTANCE, OPERATOR, REGION};
use appsnap::local::world::Settings;
use bench::{Bench, NEEDS, tick};
use common::need;
use serde_json::{Value, json};

async fn appsnap(bench: &Bench, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_appsnap"));
    command.args(args).args(["--region", REGION]).stdin(Stdio::null()).kill_on_drop(true);
    command.env("APPSNAP_ECS_ENDPOINT", bench.cloud.endpoint());
    command.env("APPSNAP_CA_BUNDLE", &bench.cloud.ca_file);
    command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.0).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.1);
    command.output().await.unwrap()
}

async fn listed(bench: &Bench, args: &[&str]) -> Vec<Value> {
    let output = appsnap(bench, &[&["groups", "--json"], args].concat()).await;
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = list["groups"].as_array().unwrap().clone();
    assert_eq!(output.status.code(), Some(i32::from(groups.is_empty())), "{list:#}");
    groups
}

#[tokio::test]
async fn the_list_goes_over_all_pages_and_tells_of_tags_that_were_lost() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings { page_limit: 1, ..Settings::default() }, "true").await;
    assert!(listed(&bench, &[]).await.is_empty());
    for (minute, policy) in [(1, "orders-db"), (2, "orders-db"), (3, "other")] {
        let tick = tick(&format!("2026-11-22T03:0{minute}:00Z"), json!({ "policy": policy }));
        assert_eq!(bench.send(tick).await.report.units[0].level.as_str(), "application");
    }
    let all = listed(&bench, &[]).await;
    assert_eq!((all.len(), &all[0]["policy"], &all[0]["level"]), (3, &json!("other"), &json!("application")));
    let own = listed(&bench, &["--policy", "orders-db", "--instance", INSTANCE]).await;
    assert_eq!(own.len(), 2);
    let newest = own[0]["snapshotGroupId"].as_str().unwrap().to_owned();
    // One member loses its tags, as by a tool that tidies up.
    let groups = bench.groups().await;
    let group = groups.iter().find(|group| group.snapshot_group_id == newest).unwrap();
    let member = [group.snapshots[0].snapshot_id.clone()];
    let keys = ["appsnap:level".to_owned(), "APPConsistent".to_owned()];
    ecs::untag_resources(&bench.client, REGION, "snapshot", &member, &keys).await.unwrap();
    let good = listed(&bench, &["--policy", "orders-db", "--level", "application"]).await;
    assert!(good.len() == 1 && good[0]["snapshotGroupId"] != newest.as_str(), "{good:?}");
    let table = String::from_utf8(appsnap(&bench, &["groups"]).await.stdout).unwrap();
    assert!(table.lines().count() == 4 && table.contains("(tags lost on 1 of 3)"), "{table}");
    let plan = appsnap(&bench, &["restore", &newest, "--plan"]).await;
    let text = String::from_utf8(plan.stdout).unwrap();
    assert!(text.contains(&format!("are missing on {}: the group counts as crash", member[0])), "{text}");
    // Nothing of another place, or that is not there, is taken for an empty answer.
    for (args, expected) in [
        (&["restore", "ssg-none", "--plan"][..], "ssg-none is not shown in cn-hangzhou"),
        (&["restore", &newest, "--plan", "--to", "i-none"], "--to: i-none is not shown in cn-hangzhou"),
        (&["restore", &newest, "--plan", "--vswitch", "vsw-1"], "are for a new instance"),
    ] {
        let output = appsnap(&bench, args).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{args:?}: {said}");
    }
    bench.close().await;
}
