//! The seed world: each condition of the vendor's first page is told by its own code, with its cure, to `appsnap check`
//! and to the function alike.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
mod common;

use std::collections::BTreeMap;
use std::process::Command;

use appsnap::local::scene::Scene;
use appsnap::local::seed;
use appsnap::local::world::Settings;
use appsnap::report::{Level, Report, Severity, Status, Unit};
use bench::{Bench, NEEDS};
use serde_json::{Value, json};

use Severity::{Blocker, Downgrade, Note};

/// What is told of an instance: its own finding (any Windows has a note besides), and the level that is left.
type Told = (&'static str, Option<(&'static str, Severity)>, Level);

/// By the name of the case.
const TOLD: [Told; 22] = [
    ("good", None, Level::Application),
    ("region", Some(("region.unknown", Note)), Level::Application),
    ("oldos", Some(("os.unsupported", Note)), Level::Application),
    ("oldwindows", Some(("os.windows_version", Downgrade)), Level::Crash),
    ("disk", Some(("disk.category", Blocker)), Level::None),
    ("local", Some(("disk.local", Blocker)), Level::None),
    ("shared", Some(("disk.multi_attach", Blocker)), Level::None),
    ("zones", Some(("disk.zone", Blocker)), Level::None),
    ("regional", Some(("disk.regional", Blocker)), Level::None),
    ("large", Some(("group.size", Blocker)), Level::None),
    ("kms", Some(("disk.encrypted", Note)), Level::Application),
    ("rawdisk", Some(("fs.quiet", Note)), Level::Application),
    ("network", Some(("fs.network", Note)), Level::Application),
    ("offline", Some(("agent.offline", Blocker)), Level::None),
    ("norights", Some(("agent.refused", Blocker)), Level::None),
    ("norole", Some(("plugin.role_none", Blocker)), Level::None),
    ("noscript", Some(("script.missing", Downgrade)), Level::Filesystem),
    ("owner", Some(("script.owner", Downgrade)), Level::Filesystem),
    ("mode", Some(("script.mode", Downgrade)), Level::Filesystem),
    ("tmp", Some(("script.tmp", Note)), Level::Application),
    ("stopped", Some(("instance.stopped", Downgrade)), Level::Crash),
    ("locked", Some(("instance.locked", Blocker)), Level::None),
];

/// Units by the name of their case.
fn by_case(report: &Report) -> BTreeMap<String, &Unit> {
    let name = |unit: &Unit| unit.instance_ids[0].trim_start_matches("i-bp1seed").to_owned();
    report.units.iter().map(|unit| (name(unit), unit)).collect()
}

/// Everything about the findings of all units, in an order of its own.
fn findings(report: &Report) -> BTreeMap<String, Vec<String>> {
    let told = |unit: &&Unit| {
        let mut told: Vec<String> = unit.findings.iter().map(|finding| json!(finding).to_string()).collect();
        told.sort();
        told
    };
    by_case(report).into_iter().map(|(name, unit)| (name, told(&unit))).collect()
}

#[tokio::test]
async fn each_condition_is_told_by_its_own_code_with_its_cure_by_command_and_by_event() {
    if !common::need(&NEEDS) {
        return;
    }
    let mut check = Command::new(env!("CARGO_BIN_EXE_appsnap"));
    check.args(["check", "--local", "--world", "seed", "--json", "--no-install"]);
    let output = tokio::task::spawn_blocking(move || check.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.status, report.dry_run), (Status::Refused, true));
    let units = by_case(&report);
    assert_eq!(units.len(), TOLD.len());
    for (name, expected, level) in TOLD {
        let unit = units.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(unit.error.is_none(), "{name}: {:?}", unit.error);
        assert_eq!(unit.expected_level, Some(level), "{name}: {:#?}", unit.findings);
        let own = unit.findings.iter().filter(|finding| finding.code != "os.windows");
        let mut codes: Vec<_> = own.map(|finding| (finding.code.as_str(), finding.severity)).collect();
        codes.dedup(); // both scripts are missing
        assert_eq!(codes, expected.into_iter().collect::<Vec<_>>(), "{name}: {:#?}", unit.findings);
        for finding in &unit.findings {
            assert!(!finding.cure.is_empty() && !finding.message.is_empty(), "{name}: {finding:?}");
        }
    }

    let bench = Bench::start(Settings::default(), "true").await;
    seed::populate(&bench.cloud).await.unwrap();
    let event = include_bytes!("../events/dry-run.json");
    let request: Value = serde_json::from_slice(event).unwrap();
    assert_eq!(request["targets"], Value::Object(Scene::Seed.targets()), "what the command asked for");
    let answer = bench.send(event.to_vec()).await;
    assert_eq!(answer.outcome.error_type, None, "refused is no failure of the function");
    assert_eq!((answer.report.status, answer.report.dry_run), (Status::Refused, true));
    assert_eq!(findings(&answer.report), findings(&report));
    bench.close().await;
}

#[test]
fn every_case_of_the_world_is_expected_here() {
    let cases: Vec<&str> = seed::CASES.iter().map(|case| case.name).collect();
    assert_eq!(cases, TOLD.map(|(name, ..)| name));
}
