use std::collections::BTreeSet;

use super::*;
use crate::eligibility::{
    DiskFacts, DiskKind, DiskSelection, Facts, Snapshots, Support, blocked, finding, findings, pick_disks,
    unknown_disks,
};
use crate::report::Level;

/// What is judged of a world: everything that this room can say of it.
struct World {
    facts: Facts,
    attached: Vec<DiskFacts>,
    selection: DiskSelection,
    support: Support,
    minimum: Level,
    /// What CreateSnapshotGroup answers.
    create: &'static str,
}

fn good() -> World {
    let facts = Facts::good();
    World {
        attached: facts.disks.clone(),
        facts,
        selection: DiskSelection::default(),
        support: Support::default(),
        minimum: Level::Crash,
        create: "",
    }
}

fn judged(change: impl Fn(&mut World)) -> Vec<Finding> {
    let mut world = good();
    change(&mut world);
    let (_, mut found) = pick_disks(&world.attached, &world.selection);
    found.extend(unknown_disks(&world.attached, &world.selection));
    found.extend(findings(&world.facts, &world.support, world.minimum));
    found.extend(refused(world.create).map(|rule| rule.finding("i-1", world.create)));
    found
}

fn disks(count: usize) -> Vec<DiskFacts> {
    (0..count).map(|i| DiskFacts::good(&format!("d-{i}"), "data")).collect()
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn windows(world: &mut World, name: &str) {
    world.facts.instance.os_type = "windows".into();
    world.facts.instance.os_name = name.into();
}

fn refuse(world: &mut World, code: &str) {
    world.facts.disks[0].snapshots = Snapshots::Refused(code.into(), "no".into());
}

/// Each rule: a world that it is not met in, and the nearest one that it is met in.
type Change = fn(&mut World);
const WORLDS: &[(&str, Change, Change)] = &[
    (
        "region.unknown",
        |w| w.facts.instance.region_id = "me-central-1".into(),
        |w| {
            w.facts.instance.region_id = "me-central-1".into();
            w.support = Support::parse(r#"{"regions": ["me-central-1"]}"#).unwrap();
        },
    ),
    ("instance.unknown", |w| w.create = "InvalidInstanceId.NotFound", |_| ()),
    (
        "instance.state",
        |w| w.facts.instance.status = "Starting".into(),
        |w| w.facts.instance.status = "Running".into(),
    ),
    ("instance.state", |w| w.facts.instance.status.clear(), |w| w.facts.instance.status = "Stopped".into()),
    ("instance.stopped", |w| w.facts.instance.status = "Stopped".into(), |_| ()),
    ("instance.locked", |w| w.facts.instance.locks = vec!["security".into()], |_| ()),
    (
        "account.arrears",
        |w| w.facts.instance.locks = vec!["financial".into()],
        |w| w.facts.instance.locks = vec!["security".into()],
    ),
    ("account.arrears", |w| w.facts.disks[1].locks = vec!["financial".into()], |_| ()),
    ("account.arrears", |w| refuse(w, "InvalidAccountStatus.NotEnoughBalance"), |_| ()),
    (
        "os.windows",
        |w| windows(w, "Windows Server  2019 Datacenter"),
        |w| {
            windows(w, "Windows Server  2019 Datacenter");
            w.facts.instance.status = "Stopped".into();
        },
    ),
    (
        "os.windows_version",
        |w| windows(w, "Windows Server  2008 R2 Enterprise"),
        |w| windows(w, "Windows Server  2012 R2 Datacenter"),
    ),
    (
        "os.windows_version",
        |w| windows(w, "Windows Server  2025 Datacenter"),
        |w| {
            windows(w, "Windows Server  2025 Datacenter");
            w.support = Support::parse(r#"{"systems": ["Windows Server 2025"]}"#).unwrap();
        },
    ),
    (
        "os.unsupported",
        |w| w.facts.instance.os_name = "CentOS  7.5 64 bit".into(),
        |w| w.facts.instance.os_name = "CentOS  7.6 64 bit".into(),
    ),
    ("os.unsupported", |w| w.facts.instance.os_type.clear(), |_| ()),
    ("agent.offline", |w| w.facts.agent.online = Some(false), |_| ()),
    (
        "agent.offline",
        |w| w.facts.agent.online = Some(false),
        |w| {
            w.facts.agent.online = Some(false);
            w.facts.instance.status = "Stopped".into();
        },
    ),
    ("agent.unknown", |w| w.facts.agent.online = None, |_| ()),
    (
        "agent.old",
        |w| w.facts.agent.version = Some("2.2.3.309".into()),
        |w| w.facts.agent.version = Some("2.2.3.578".into()),
    ),
    ("disk.none", |w| w.facts.disks.clear(), |w| w.facts.disks.truncate(1)),
    (
        "disk.unknown",
        |w| w.selection.disk_ids = ids(&["d-1", "d-2", "d-9"]),
        |w| w.selection.disk_ids = ids(&["d-1", "d-2"]),
    ),
    (
        "disk.exclude_unknown",
        |w| w.selection.exclude_disk_ids = ids(&["d-9"]),
        |w| w.selection.exclude_disk_ids = ids(&["d-2"]),
    ),
    ("disk.left_out", |w| w.selection.kind = DiskKind::Data, |_| ()),
    (
        "disk.category",
        |w| w.facts.disks[0].category = "cloud_efficiency".into(),
        |w| w.facts.disks[0].category = "cloud_auto".into(),
    ),
    (
        "disk.category",
        |w| w.facts.disks[0].category.clear(),
        |w| w.facts.disks[0].category = "cloud_essd_entry".into(),
    ),
    ("disk.local", |w| w.facts.disks[0].category = "local_ssd_pro".into(), |_| ()),
    (
        "disk.local",
        |w| w.facts.disks[0].category = "elastic_ephemeral_disk_premium".into(),
        |w| w.facts.disks[0].category = "cloud_ssd".into(),
    ),
    (
        "disk.regional",
        |w| w.facts.disks[1].category = "cloud_regional_disk_auto".into(),
        |w| {
            for disk in &mut w.facts.disks {
                disk.category = "cloud_regional_disk_auto".into();
                disk.zone_id.clear();
            }
        },
    ),
    (
        "disk.state",
        |w| w.facts.disks[1].status = "ReIniting".into(),
        |w| w.facts.disks[1].status = "Available".into(),
    ),
    (
        "disk.locked",
        |w| w.facts.disks[1].locks = vec!["security".into()],
        |w| w.facts.disks[1].locks = vec!["financial".into()],
    ),
    ("disk.multi_attach", |w| w.facts.disks[0].multi_attach = true, |_| ()),
    ("disk.encrypted", |w| w.facts.disks[0].key_id = Some("key-1".into()), |_| ()),
    ("disk.kms", |w| w.create = "InvalidParameter.KMSKeyId.CMKNotEnabled", |_| ()),
    (
        "disk.tasks",
        |w| w.facts.disks[0].snapshots = Snapshots::Counted { under_way: 10, manual: 0 },
        |w| w.facts.disks[0].snapshots = Snapshots::Counted { under_way: 9, manual: 255 },
    ),
    (
        "disk.quota",
        |w| w.facts.disks[0].snapshots = Snapshots::Counted { under_way: 0, manual: 256 },
        |w| w.facts.disks[0].snapshots = Snapshots::NotAsked,
    ),
    ("disk.snapshots_unknown", |w| refuse(w, "Forbidden.RAM"), |_| ()),
    (
        "disk.zone",
        |w| w.facts.disks[0].zone_id = "cn-hangzhou-i".into(),
        |w| w.facts.disks[0].zone_id.clear(),
    ),
    ("group.size", |w| w.facts.disks = disks(129), |w| w.facts.disks = disks(128)),
    (
        "group.size",
        |w| {
            w.support =
                Support::parse(r#"{"groupLimits": {"cn-hangzhou": {"disks": 20, "tib": 1}}}"#).unwrap();
            w.facts.disks = disks(21);
        },
        |w| {
            w.support =
                Support::parse(r#"{"groupLimits": {"cn-hangzhou": {"disks": 20, "tib": 1}}}"#).unwrap();
            w.facts.disks = disks(20);
        },
    ),
    (
        "group.region",
        |w| w.facts.disks = disks(17),
        |w| {
            w.facts.disks = disks(17);
            w.facts.instance.region_id = "ap-southeast-1".into();
        },
    ),
    ("group.region", |w| w.facts.disks[0].size_gib = 32 << 10, |w| w.facts.disks[0].size_gib = 31 << 10),
    ("snapshot.service", |w| refuse(w, "InvalidAccountStatus.SnapshotServiceUnavailable"), |_| ()),
    ("snapshot.service", |w| w.create = "InvalidAccountStatus.SnapshotServiceUnavailable", |_| ()),
];

#[test]
fn every_rule_has_a_world_that_fails_it_and_one_that_passes() {
    assert_eq!(judged(|_| ()), vec![], "nothing stands against a good world");
    for (code, fail, pass) in WORLDS {
        let failed = judged(fail);
        let told: Vec<_> = failed.iter().filter(|finding| finding.code == *code).collect();
        assert_eq!(told.len(), 1, "{code}: {failed:?}");
        let rule = rule(code).unwrap();
        assert_eq!((told[0].severity, &*told[0].cure), (rule.severity, rule.cure), "{code}");
        assert!(told[0].message.starts_with(rule.message) && !told[0].resource.is_empty(), "{:?}", told[0]);
        let passed = judged(pass);
        assert!(passed.iter().all(|finding| finding.code != *code), "{code}: {passed:?}");
    }
    let tested: BTreeSet<_> = WORLDS.iter().map(|(code, ..)| *code).collect();
    let rules: BTreeSet<_> = RULES.iter().map(|rule| rule.code).collect();
    assert_eq!(tested, rules);
}

#[test]
fn a_downgrade_refuses_where_the_minimum_is_above_crash() {
    for (minimum, refuses) in [(Level::Crash, false), (Level::Filesystem, true), (Level::Application, true)] {
        let stopped = judged(|world| {
            world.facts.instance.status = "Stopped".into();
            world.minimum = minimum;
        });
        assert_eq!(blocked(&stopped), refuses, "{minimum:?}: {stopped:?}");
        let old = judged(|world| {
            windows(world, "Windows Server  2008");
            world.minimum = minimum;
        });
        assert_eq!(blocked(&old), refuses, "{minimum:?}: {old:?}");
    }
}

#[test]
fn every_row_says_something_and_stands_once() {
    let all: Vec<&Rule> = TABLES.iter().flat_map(|(_, rules)| *rules).collect();
    let codes: BTreeSet<_> = all.iter().map(|rule| rule.code).collect();
    assert_eq!(codes.len(), all.len());
    for rule in all {
        let texts = [rule.code, rule.message, rule.cure, rule.source];
        assert!(texts.iter().all(|text| !text.is_empty() && !text.contains(['|', '\n'])), "{rule:?}");
    }
    assert!(REFUSALS.iter().all(|(_, code)| rule(code).is_some()));
    assert_eq!(refused("Throttling.User"), None);
    assert_eq!(finding("no.rule", "i-1", "x").code, "no.rule");
}

/// The page as it has to be.
fn page() -> String {
    let mut page = String::from(
        "# Rules\n\n\
         Every condition that is judged before anything is touched, by `src/eligibility/`. Made from its tables: change\n\
         those, and take over what `cargo test --lib rules` prints. A **blocker** refuses the unit untouched; a\n\
         **downgrade** leaves `crash` at best, and refuses where `minimumLevel` is above that; a **note** changes nothing.\n\
         Why a level is lower, once a run has begun: [reasons.md](reasons.md).\n",
    );
    for (title, rules) in TABLES {
        page.push_str(&format!(
            "\n## {title}\n\n| code | weight | rule | cure | source |\n|---|---|---|---|---|\n"
        ));
        for Rule { code, severity, message, cure, source } in *rules {
            let weight = format!("{severity:?}").to_lowercase();
            page.push_str(&format!("| `{code}` | {weight} | {message} | {cure} | {source} |\n"));
        }
    }
    page
}

#[test]
fn the_page_of_rules_is_current() {
    let (page, written) = (page(), include_str!("../../docs/rules.md"));
    let differs = page.lines().find(|line| !written.lines().any(|other| other == *line));
    assert!(page == written, "docs/rules.md differs, first in {differs:?}. It has to be:\n{page}");
}
