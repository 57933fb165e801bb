//! Attempts to get a label above crash for a group that was not made in the freeze: by somebody who reads the command
//! and fires what was signed in it, and by somebody with rights of his own in the account.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use appsnap::acs::{Call, Kind};
use appsnap::api::ecs::ECS;
use appsnap::local::cloud::{INSTANCE, REGION};
use appsnap::local::world::Settings;
use appsnap::report::{Level, Status};
use bench::{Bench, HOLD, NEEDS, tick, vendor_tags, vendor_tags_in, verdict};
use common::need;
use serde_json::json;

const AT: &str = "2026-11-22T03:00:00Z";

/// For whoever reads the command (here its copy on the guest's tmpfs; Cloud Assistant shows the same): `loot` keeps it,
/// `fire N` sends its Nth create and notes the answer in /run/fired.
const READER: &str = r#"
loot() { for d in /run/appsnap/a-*/; do cp "$d/data" /run/loot; done; }
fire() (
  . /run/loot
  i=0
  for disk in $DISKS; do i=$((i + 1)) && Qc=$(echo "$Qc" | sed "s/DiskId.$i=@/DiskId.$i=$disk/"); done
  n=$1
  set -- $Sc
  shift $((n - 1))
  curl -s -k -X POST -d '' -H 'Content-Type:' -H 'Accept: application/json' -H "x-acs-security-token: $TOKEN" \
    -H 'x-acs-action: CreateSnapshotGroup' -H 'x-acs-version: 2014-05-26' -H "x-acs-date: $DATE" \
    -H 'x-acs-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' \
    -H "x-acs-signature-nonce: $NONCE-c$n" \
    -H "Authorization: ACS3-HMAC-SHA256 Credential=$KEY,SignedHeaders=$SIGNED,Signature=$1" \
    "https://$HOST/?$Qc" >>/run/fired
  echo >>/run/fired
)
new_second() { s=$(date +%s) && while [ "$(date +%s)" = "$s" ]; do :; done; }
loot
"#;

/// A group that shows late: it is there, and a look does not tell.
fn slow() -> Settings {
    Settings { visible_after: Duration::from_secs(3), ..Settings::default() }
}

async fn fired(bench: &Bench) -> String {
    String::from_utf8(bench.cloud.guest.read_file("/run/fired").await.unwrap_or_default()).unwrap()
}

/// No snapshot of any group has a label above crash.
async fn all_crash(bench: &Bench) {
    for group in bench.groups().await {
        let tags = bench.tags_of(&group).await;
        assert_eq!(vendor_tags_in(&tags), [] as [&str; 0], "{group:?}");
        assert!(tags.iter().all(|tags| tags["appsnap:level"] == "crash"), "{tags:?}");
    }
}

#[tokio::test]
async fn a_signed_create_fired_before_the_freeze_gives_no_label() {
    if !need(&NEEDS) {
        return;
    }
    // It shows before the freeze begins.
    let bench = Bench::start(Settings::default(), &format!("{READER}fire 1; sleep 1")).await;
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Crash, vec!["group.exists"]));
    assert!(fired(&bench).await.contains("ssg-"), "{}", fired(&bench).await);
    assert_eq!(
        (bench.groups().await.len(), bench.trace().await),
        (1, vec!["pre".into(), "post none".into()])
    );
    all_crash(&bench).await;
    bench.close().await;
}

/// In the second of the freeze, so that the time of the group's creation tells nothing, and before the group shows.
#[tokio::test]
async fn a_signed_create_fired_in_the_second_of_the_freeze_gives_no_label() {
    if !need(&NEEDS) {
        return;
    }
    for (variant, at) in [(1, "new_second; fire 1"), (2, "new_second; fire 2"), (3, "new_second; fire 3")] {
        let bench = Bench::start(slow(), &format!("{READER}{at}")).await;
        let report = bench.send(tick(AT, json!({}))).await.report;
        assert!(fired(&bench).await.contains("ssg-"), "{variant}: {}", fired(&bench).await);
        let (status, level, reasons) = verdict(&report);
        assert_eq!((status, level), (Status::Degraded, Level::Crash), "{variant}");
        assert!(reasons.contains(&"group.unproven"), "{variant}: {reasons:?}");
        assert_eq!(bench.groups().await.len(), 1, "one token, one group");
        all_crash(&bench).await;
        bench.close().await;
    }
}

#[tokio::test]
async fn a_signed_create_fired_between_the_last_look_and_the_freeze_gives_no_label() {
    if !need(&NEEDS) {
        return;
    }
    let wait =
        "( until grep -q '^warm ' /run/appsnap/a-*/state; do :; done; fire 2 ) </dev/null >/dev/null 2>&1 &";
    let bench = Bench::start(Settings::default(), &format!("{READER}{wait}")).await;
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert!(fired(&bench).await.contains("ssg-"), "{}", fired(&bench).await);
    // Whether he was first or we: what cannot be told apart is not claimed.
    assert_eq!(verdict(&report), (Status::Degraded, Level::Crash, vec!["group.unproven"]));
    let finding = report.units[0].findings.iter().find(|finding| finding.code == "group.unproven").unwrap();
    assert!(finding.message.contains("c2 was fired by somebody else"), "{finding:?}");
    all_crash(&bench).await;
    bench.close().await;
}

#[tokio::test]
async fn after_a_run_nothing_that_was_signed_for_it_is_good_any_more() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), READER).await;
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    let again = format!("{}fire 1; fire 2; fire 3", READER.replace("\nloot\n", "\n"));
    bench.cloud.guest.exec(&again, &[], b"", Duration::from_secs(30)).await.unwrap();
    assert_eq!(
        fired(&bench).await.matches(r#""Code":"SignatureNonceUsed""#).count(),
        3,
        "{}",
        fired(&bench).await
    );
    assert_eq!((bench.groups().await.len(), vendor_tags(&bench).await), (1, vec!["APPConsistent"]));
    bench.close().await;
}

/// The parameters of the create, as whoever reads the command knows them.
async fn parameters(bench: &Bench) -> Vec<(String, String)> {
    let data = String::from_utf8(bench.cloud.guest.read_file("/run/loot").await.unwrap()).unwrap();
    let value = |name: &str| {
        let line = data.lines().find_map(|line| line.strip_prefix(&format!("{name}='"))).unwrap();
        line.trim_end_matches('\'').to_string()
    };
    let disks: Vec<String> = value("DISKS").split(' ').map(str::to_string).collect();
    let decoded = |text: &str| percent_decoded(text);
    let mut all = Vec::new();
    for pair in value("Qc").split('&') {
        let (key, value) = pair.split_once('=').unwrap();
        let place = key.strip_prefix("DiskId.").filter(|_| value == "@");
        let value = place.map_or_else(|| decoded(value), |n| disks[n.parse::<usize>().unwrap() - 1].clone());
        all.push((decoded(key), value));
    }
    all
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex: Vec<u8> = if byte == b'%' { rest.by_ref().take(2).collect() } else { Vec::new() };
        let hex = String::from_utf8(hex).unwrap();
        bytes.push(u8::from_str_radix(&hex, 16).unwrap_or(byte));
    }
    String::from_utf8(bytes).unwrap()
}

/// Creates a group with the operator's own key.
async fn create(bench: &Bench, parameters: &[(String, String)]) -> String {
    let call = Call::new(&ECS, "CreateSnapshotGroup", REGION, Kind::Idempotent).on(INSTANCE);
    let add = |call: Call, (key, value): &(String, String)| Call {
        query: [call.query.clone(), vec![(key.clone(), value.clone())]].concat(),
        ..call
    };
    let call = parameters.iter().fold(call, add);
    bench.client.call(&call).await.unwrap()["SnapshotGroupId"].as_str().unwrap().to_string()
}

/// Runs until the prescript, lets `meddle` do its work with the parameters of the create, and runs on.
async fn meddled(
    settings: Settings,
    meddle: impl AsyncFnOnce(&Bench, Vec<(String, String)>) -> String,
) -> (Bench, appsnap::report::Report, String) {
    let bench = Bench::start(settings, &format!("{READER}{HOLD}")).await;
    let run = bench.send_off(tick(AT, json!({})));
    bench.until("[ -e /run/at-work ]").await;
    let known = parameters(&bench).await;
    let made = meddle(&bench, known).await;
    bench.until("touch /run/go-on").await;
    let report = bench::read(run.await.unwrap()).report;
    (bench, report, made)
}

fn with(known: &[(String, String)], change: &[(&str, &str)]) -> Vec<(String, String)> {
    let changed = |key: &String| change.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
    known.iter().map(|(key, value)| (key.clone(), changed(key).unwrap_or(value).to_string())).collect()
}

#[tokio::test]
async fn a_token_that_somebody_used_before_us_gives_no_label() {
    if !need(&NEEDS) {
        return;
    }
    // The same parameters: our create is answered with his group, which is older than the freeze.
    let settings = Settings { visible_after: Duration::from_secs(5), ..Settings::default() };
    let (bench, report, made) = meddled(settings, async |bench: &Bench, known| {
        let made = create(bench, &known).await;
        bench.until("sleep 1.2").await;
        made
    })
    .await;
    let (status, level, reasons) = verdict(&report);
    assert_eq!((status, level), (Status::Degraded, Level::Crash), "{reasons:?}");
    assert_eq!(report.units[0].snapshot_group_id.as_ref(), Some(&made));
    assert!(reasons.iter().any(|code| code.starts_with("group.")), "{reasons:?}");
    all_crash(&bench).await;
    bench.close().await;
    // Other parameters: our create is refused, and his group is not ours.
    let (bench, report, made) = meddled(Settings::default(), async |bench: &Bench, known| {
        let other: Vec<_> = with(&known, &[("Name", "other")]);
        create(bench, &other.into_iter().filter(|(key, _)| !key.starts_with("Tag.")).collect::<Vec<_>>())
            .await
    })
    .await;
    assert_eq!(verdict(&report), (Status::Failed, Level::None, vec!["create.failed"]));
    let groups = bench.groups().await;
    assert_eq!(groups.iter().map(|group| &group.snapshot_group_id).collect::<Vec<_>>(), [&made]);
    let tags: Vec<BTreeMap<String, String>> = bench.tags_of(&groups[0]).await;
    assert!(tags.iter().all(BTreeMap::is_empty), "{tags:?}");
    bench.close().await;
}

#[tokio::test]
async fn a_group_of_the_same_name_and_tags_gives_no_label_and_takes_none() {
    if !need(&NEEDS) {
        return;
    }
    // With the tag of the attempt: the guest sees it before the freeze, and makes none.
    let (bench, report, made) = meddled(Settings::default(), async |bench: &Bench, known| {
        let made = create(bench, &with(&known, &[("ClientToken", "mine")])).await;
        bench.until("sleep 1").await;
        made
    })
    .await;
    assert_eq!(verdict(&report), (Status::Degraded, Level::Crash, vec!["group.exists"]));
    assert_eq!(report.units[0].snapshot_group_id.as_ref(), Some(&made));
    all_crash(&bench).await;
    bench.close().await;
    // With all tags but that one, and a tag on its snapshots that claims more than is true.
    let (bench, report, made) = meddled(Settings::default(), async |bench: &Bench, known| {
        let attempt = known.iter().find(|(key, value)| key.ends_with(".Key") && value == "appsnap:attempt");
        let value = attempt.unwrap().0.replace(".Key", ".Value");
        let made = create(bench, &with(&known, &[("ClientToken", "mine"), (&value, "another")])).await;
        bench.until("sleep 1").await;
        let group = bench.groups().await.remove(0);
        let ids: Vec<String> = group.snapshots.into_iter().map(|one| one.snapshot_id).collect();
        let tags = [("APPConsistent".to_string(), "True".to_string())];
        appsnap::api::ecs::tag_resources(&bench.client, REGION, "snapshot", &ids, &tags).await.unwrap();
        made
    })
    .await;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    let extra = report.units[0].findings.iter().find(|finding| finding.code == "group.extra").unwrap();
    assert_eq!(extra.resource, made);
    for group in bench.groups().await {
        let tags = bench.tags_of(&group).await;
        let theirs = group.snapshot_group_id == made;
        let (level, vendor) = if theirs { ("crash", vec![]) } else { ("application", vec!["APPConsistent"]) };
        assert!(tags.iter().all(|tags| tags["appsnap:level"] == level), "{tags:?}");
        assert_eq!(vendor_tags_in(&tags), vendor);
    }
    assert_eq!(bench.groups().await.len(), 2);
    bench.close().await;
}
