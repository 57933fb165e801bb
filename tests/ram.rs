//! Least privilege, proven: with exactly the rights of the documents in `policies/` a run is good; each right that is taken
//! away is missed, and told with the statement that would give it back.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[path = "common/rights.rs"]
mod rights;

use appsnap::clock::Clock;
use appsnap::local::cloud::{ACCOUNT, DISKS, INSTANCE, names, role};
use appsnap::local::fc::Fc;
use appsnap::local::windows;
use appsnap::local::world::{PluginFault, Policy, Role, Settings, Tags, Trust};
use appsnap::ram::Names;
use appsnap::report::{Level, Report, Severity, Status};
use bench::{Bench, NEEDS, read, request, tick, verdict};
use common::need;
use rights::{Right, give, rights, rights_for, without};
use serde_json::{Value, json};

/// What is missed where this action on this kind of resource is not allowed: how the run ends, and the code of what
/// tells of it.
type Case = (&'static str, &'static str, Status, &'static str);

const SEEN: [Case; 5] = [
    ("ecs:DescribeInstances", "instance", Status::Refused, "instance.unknown"),
    ("ecs:DescribeCloudAssistantStatus", "instance", Status::Succeeded, "agent.unknown"),
    ("ecs:DescribeDisks", "disk", Status::Refused, "disk.none"),
    ("ecs:RunCommand", "instance", Status::Failed, "Forbidden.RAM"),
    ("ecs:RunCommand", "command", Status::Failed, "Forbidden.RAM"),
];
const RECORDS: [Case; 4] = [
    ("ecs:DescribeInvocations", "instance", Status::Failed, "record.unseen"),
    ("ecs:DescribeInvocations", "command", Status::Failed, "record.unseen"),
    ("ecs:DescribeInvocationResults", "instance", Status::Failed, "record.unseen"),
    ("ecs:DescribeInvocationResults", "command", Status::Failed, "record.unseen"),
];
const GROUPS: [Case; 5] = [
    ("ecs:CreateSnapshotGroup", "instance", Status::Failed, "create.failed"),
    ("ecs:CreateSnapshotGroup", "disk", Status::Failed, "create.failed"),
    ("ecs:DescribeSnapshotGroups", "snapshotgroup", Status::Degraded, "group.not_visible"),
    ("ecs:TagResources", "snapshot", Status::Degraded, "tag.failed"),
    ("ecs:TagResources", "invocation", Status::Succeeded, "tag.failed"),
];
const PLUGIN: [Case; 3] = [
    ("ecs:UntagResources", "snapshot", Status::Degraded, "tag.failed"),
    ("ecs:DescribeInstanceRamRole", "*", Status::Failed, "Forbidden.RAM"),
    ("ecs:DescribeSnapshots", "snapshot", Status::Degraded, "plugin.untagged"),
];
const FUNCTION: [Case; 2] = [
    ("sts:AssumeRole", "role", Status::Failed, "NoPermission"),
    ("fc:InvokeFunction", "functions", Status::Failed, "AccessDenied"),
];

const WORK: [&str; 2] = ["survey", "protect"];

/// Sends one event after the other, each an occurrence of its own.
struct Runs {
    bench: Bench,
    count: u32,
    fields: Value,
}

impl Runs {
    async fn start(settings: Settings, fields: Value) -> Self {
        Self { bench: Bench::start(settings, "true").await, count: 0, fields }
    }

    fn work(&self, rights: &[Right]) {
        give(&self.bench, &names().work_role, "trust-snapshots", rights);
    }

    async fn run(&mut self) -> Report {
        self.count += 1;
        let at = format!("2026-11-22T03:{:02}:00Z", self.count);
        self.bench.send(tick(&at, self.fields.clone())).await.report
    }

    /// Takes each right away in turn, and sees what it says of that in the cases.
    async fn miss(&mut self, all: &[Right], cases: &[Case]) {
        for (action, kind, status, code) in cases {
            let fits = |right: &&Right| right.action == *action && right.kind() == *kind;
            let less = all.iter().find(fits).unwrap_or_else(|| panic!("nothing allows {action} on {kind}"));
            self.work(&without(all, less));
            let report = self.run().await;
            assert_eq!(report.status, *status, "without {action} on {kind}: {report:#?}");
            assert!(told(&report, code).contains(action), "{action} on {kind}: {}", told(&report, code));
        }
        self.work(all);
        let report = self.run().await;
        assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]), "whole again");
    }
}

/// Message and cure of the error or finding of this code.
fn told(report: &Report, code: &str) -> String {
    let unit = report.units.first();
    let errors = report.error.iter().chain(unit.and_then(|unit| unit.error.as_ref()));
    let errors = errors.filter(|error| error.code == code);
    let errors = errors.map(|error| format!("{} {}", error.message, error.cure.clone().unwrap_or_default()));
    let findings = unit.into_iter().flat_map(|unit| &unit.findings).filter(|finding| finding.code == code);
    let findings = findings.map(|finding| format!("{} {}", finding.message, finding.cure));
    let all: Vec<String> = errors.chain(findings).collect();
    assert!(!all.is_empty(), "nothing of {code}: {report:#?}");
    all.join(" ")
}

#[test]
fn every_right_of_the_documents_is_taken_away_by_a_case() {
    let cases = [&SEEN[..], &RECORDS, &GROUPS, &PLUGIN, &FUNCTION].concat();
    let mut known: Vec<(String, String)> =
        cases.iter().map(|(action, kind, ..)| (action.to_string(), kind.to_string())).collect();
    let all = rights(&["survey", "protect", "plugin", "function"]);
    let mut given: Vec<(String, String)> =
        all.iter().map(|right| (right.action.clone(), right.kind().to_owned())).collect();
    known.sort();
    given.sort();
    given.dedup(); // both roles that the function may assume; tests/verify_rights.rs has the other
    assert_eq!(known, given);
}

#[tokio::test]
async fn a_good_run_takes_the_rights_of_the_documents_and_each_look_and_command_is_missed() {
    if !need(&NEEDS) {
        return;
    }
    let mut runs = Runs::start(Settings::default(), json!({})).await;
    let all = rights(&WORK);
    runs.work(&all);
    let report = runs.run().await;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    assert_eq!(report.units[0].findings, [], "and nothing is to be said");
    runs.miss(&all, &SEEN).await;
    // Each of them says which statement to add.
    runs.work(&without(&all, &all[0]));
    let statement = r#""Action":"ecs:DescribeInstances","Resource":"acs:ecs:cn-hangzhou:*:instance/i-bp1demo00000000000a""#;
    assert!(told(&runs.run().await, "instance.unknown").contains(statement));
    // An instance without the tag.
    runs.work(&all);
    let tags = |runs: &Runs, tags: Tags| {
        runs.bench.cloud.server.cloud.look(|world, _| world.instance_mut(INSTANCE).unwrap().tags = tags)
    };
    tags(&runs, Tags([("appsnap".into(), "no".into())].into()));
    let report = runs.run().await;
    let why = told(&report, "Forbidden.RAM");
    assert!(why.contains("appsnap=allowed") && why.contains("ecs:RunCommand on acs:ecs:"), "{why}");
    let error = report.units[0].error.as_ref().unwrap();
    assert_eq!((error.action.as_deref(), error.resource.as_deref()), (Some("RunCommand"), Some(INSTANCE)));
    tags(&runs, Tags([names().tag].into()));
    // The right rights, elsewhere.
    for wrong in [
        Names { regions: vec!["cn-shanghai".into()], ..names() },
        Names { account: "6543210987654321".into(), ..names() },
    ] {
        runs.work(&rights_for(&WORK, &wrong));
        assert!(told(&runs.run().await, "instance.unknown").contains("ecs:DescribeInstances"));
    }
    runs.bench.close().await;
}

#[tokio::test]
async fn a_record_that_may_not_be_seen_ends_the_run_before_anything_is_touched() {
    if !need(&NEEDS) {
        return;
    }
    let mut runs = Runs::start(Settings::default(), json!({})).await;
    runs.miss(&rights(&WORK), &RECORDS).await;
    // Only the last one, with all rights, got that far.
    assert_eq!(runs.bench.trace().await, ["pre", "post application"]);
    runs.bench.close().await;
}

#[tokio::test]
async fn what_is_denied_of_the_group_or_its_tags_is_missed() {
    if !need(&NEEDS) {
        return;
    }
    let mut runs = Runs::start(Settings::default(), json!({})).await;
    let all = rights(&WORK);
    runs.miss(&all, &GROUPS).await;
    // The session's policy names the disks, and counts only together with the role's.
    let mut other = all.clone();
    let disk = other.iter_mut().find(|right| right.action.ends_with("Group") && right.kind() == "disk");
    disk.unwrap().resource = format!("acs:ecs:cn-hangzhou:{ACCOUNT}:disk/d-other");
    runs.work(&other);
    let why = told(&runs.run().await, "create.failed");
    let statement = r#"{"Effect":"Allow","Action":"ecs:CreateSnapshotGroup","Resource":["acs:ecs:cn-hangzhou:*:instance/i-"#;
    assert!(why.contains(statement) && why.contains("disk/d-bp1demodata000000000"), "{why}");
    runs.bench.close().await;
}

#[tokio::test]
async fn with_the_vendors_plugin_its_extras_are_missed_and_so_is_the_right_to_untag() {
    if !need(&NEEDS) {
        return;
    }
    // It writes a tag in another spelling, which is taken away.
    let settings = Settings { plugin_faults: vec![PluginFault::Misspelt], ..Settings::default() };
    let fields = json!({ "targets": { "instanceIds": [windows::INSTANCE] } });
    let mut runs = Runs::start(settings, fields).await;
    runs.miss(&rights(&["survey", "protect", "plugin"]), &PLUGIN).await;
    runs.bench.cloud.server.cloud.look(|world, _| {
        world.instance_mut(windows::INSTANCE).unwrap().ram_role = None;
    });
    let report = runs.run().await;
    assert_eq!(report.status, Status::Refused);
    assert!(told(&report, "plugin.role_none").contains("aliyun ecs AttachInstanceRamRole"));
    runs.bench.close().await;
}

#[tokio::test]
async fn a_dry_run_asks_for_more_and_judges_less_where_that_is_denied() {
    if !need(&NEEDS) {
        return;
    }
    let fields = json!({ "dryRun": true, "linux": { "engine": "plugin", "scriptTimeoutInSeconds": 30 } });
    let mut runs = Runs::start(Settings::default(), fields).await;
    runs.bench.cloud.server.cloud.look(|world, now| {
        world.instance_mut(INSTANCE).unwrap().plugins.clear();
        world.add_snapshots(now, DISKS[1].0, 256, false, "accomplished");
    });
    let all = rights(&["survey", "protect", "check", "plugin"]);
    let seen = ["disk.quota", "plugin.absent"];
    for (action, unseen) in
        [("", ""), ("ecs:DescribeSnapshots", "disk.quota"), ("ecs:ListPluginStatus", "plugin.absent")]
    {
        assert!(action.is_empty() || rights(&["check"]).iter().any(|right| right.action == action));
        runs.work(&all.iter().filter(|right| right.action != action).cloned().collect::<Vec<_>>());
        let report = runs.run().await;
        for code in seen {
            let told = report.units[0].findings.iter().any(|finding| finding.code == code);
            assert_eq!(told, code != unseen, "without {action}: {report:#?}");
        }
    }
    assert_eq!(rights(&["check"]).len(), seen.len());
    runs.bench.close().await;
}

#[tokio::test]
async fn the_function_may_assume_its_role_and_invoke_itself_and_nobody_else_is_trusted() {
    if !need(&NEEDS) {
        return;
    }
    let mut runs = Runs::start(Settings::default(), json!({})).await;
    let all = rights(&["function"]);
    let handed_on = |n: u32| {
        json!({ "id": format!("e-{n}"), "source": "orders", "specversion": "1.0", "type": "orders:Planned",
                "data": request(json!({})) })
        .to_string()
        .into_bytes()
    };
    let own = async |runs: &Runs, rights: &[Right]| {
        give(&runs.bench, &names().function_role, "trust-function", rights);
        runs.bench.cloud.function.stop().await; // a warm function has its sessions
    };
    let [(assume, _, _, denied), (invoke, _, _, closed)] = FUNCTION;
    let less = |action: &str| all.iter().find(|right| right.action == action).unwrap();
    own(&runs, &without(&all, less(assume))).await;
    let why = told(&runs.run().await, denied);
    let statement = r#"{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"acs:ram::1234567890123456:role/appsnap-snapshots"}"#;
    assert!(why.contains(statement) && why.contains("trust policy"), "{why}");
    own(&runs, &without(&all, less(invoke))).await;
    let why = told(&runs.bench.send(handed_on(1)).await.report, closed);
    let statement = r#"{"Effect":"Allow","Action":"fc:InvokeFunction","Resource":"acs:fc:cn-hangzhou:*:functions/appsnap"}"#;
    assert!(why.contains(statement), "{why}");
    own(&runs, &all).await;
    assert_eq!(runs.bench.send(handed_on(2)).await.report.status, Status::Pending);
    let done = runs.bench.cloud.function.finish_queue().await.remove(0);
    assert_eq!(read(done).report.status, Status::Succeeded);
    // Another function of the account may not assume the role, though its own policy lets it.
    let add = |runs: &Runs, role: Role| runs.bench.cloud.server.cloud.look(|world, _| world.add_role(role));
    let work = || role(&names().work_role, "trust-snapshots", &WORK);
    let other = r#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::1234567890123456:role/other"]}}]}"#;
    add(&runs, Role { trust: Trust::parse(other).unwrap(), ..work() });
    runs.bench.cloud.function.stop().await;
    assert!(told(&runs.run().await, "NoPermission").contains("name the caller in the trust policy"));
    add(&runs, work());
    // The platform may not take a role that does not trust it.
    give(&runs.bench, &names().function_role, "trust-instance", &all);
    runs.bench.cloud.function.stop().await;
    assert!(told(&runs.run().await, "credentials.none").contains("role"));
    runs.bench.close().await;
}

#[tokio::test]
async fn without_a_role_to_assume_a_finding_says_that_nothing_is_narrowed() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    // The function's own role does the work itself.
    give(&bench, &names().function_role, "trust-function", &rights(&WORK));
    let mut alone = bench.cloud.function.function().clone();
    alone.env.remove("APPSNAP_ROLE_ARN").unwrap();
    let alone = Fc::new(alone, bench.cloud.server.cloud.clone(), Clock::system());
    let report = read(alone.invoke(tick("2026-11-22T03:00:00Z", json!({}))).await).report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]));
    let finding = report.units[0].findings.iter().find(|finding| finding.code == "role.none").unwrap();
    assert_eq!(finding.severity, Severity::Note);
    alone.stop().await;
    bench.close().await;
}

/// `appsnap ram` with these words: exit status, standard output, standard error.
fn ram(words: &[&str]) -> (i32, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_appsnap"));
    let done = command.arg("ram").args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_script_makes_the_roles_that_the_local_cloud_runs_with() {
    let dir = std::env::temp_dir().join(format!("appsnap-ram-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    // In the place of the CLI: keeps its arguments, one call after the other.
    let fake = "#!/bin/sh\nfor word in \"$@\"; do printf '%s\\037' \"$word\"; done >>\"$0.log\"\necho >>\"$0.log\"\n";
    std::fs::write(dir.join("aliyun"), fake).unwrap();
    std::fs::write(dir.join("ram.sh"), ram(&["--account", ACCOUNT, "--region", "cn-hangzhou", "--plugin"]).1)
        .unwrap();
    let run = "chmod 755 aliyun && PATH=$PWD:$PATH sh -e ram.sh";
    let done = std::process::Command::new("sh").args(["-c", run]).current_dir(&dir).status().unwrap();
    let log = std::fs::read_to_string(dir.join("aliyun.log")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(done.success());
    let calls: Vec<Vec<&str>> = log
        .split("\u{1f}\n")
        .filter(|call| !call.is_empty())
        .map(|call| call.split('\u{1f}').collect())
        .collect();
    let of = |action: &str, option: &str, value: &str| -> Vec<&Vec<&str>> {
        let has =
            |call: &&Vec<&str>| call[1] == action && call.windows(2).any(|pair| pair == [option, value]);
        calls.iter().filter(has).collect()
    };
    let argument = |call: &[&str], option: &str| -> String {
        call[call.iter().position(|word| *word == option).unwrap() + 1].to_owned()
    };
    for (name, trust, policies) in [
        ("appsnap-function", "trust-function", &["function"][..]),
        ("appsnap-snapshots", "trust-snapshots", &["survey", "protect", "check", "plugin"]),
        ("appsnap-plugin", "trust-instance", &["instance"]),
    ] {
        let [made] = of("CreateRole", "--RoleName", name)[..] else { panic!("{name}: {log}") };
        let attached = of("AttachPolicyToRole", "--RoleName", name);
        let attached = attached.iter().map(|call| argument(call, "--PolicyName"));
        let texts: Vec<String> = attached
            .map(|policy| argument(of("CreatePolicy", "--PolicyName", &policy)[0], "--PolicyDocument"))
            .collect();
        let expected = role(name, trust, policies);
        assert_eq!(Trust::parse(&argument(made, "--AssumeRolePolicyDocument")).unwrap(), expected.trust);
        assert_eq!(Policy::all(&texts).unwrap(), expected.policy, "{name}");
    }
    assert_eq!(calls.len(), 3 + 2 * 6, "and nothing else is done: {log}");
}

#[test]
fn the_verb_prints_one_document_or_all_for_machines_and_refuses_what_is_no_name() {
    let (status, text, _) =
        ram(&["--account", ACCOUNT, "--region", "cn-hangzhou", "--only", "protect", "--tag", "a=b"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &document["Statement"][0]["Condition"]["StringEquals"]["acs:ResourceTag/a"]),
        (0, &json!("b"))
    );
    let (_, text, _) = ram(&["--account", ACCOUNT, "--json"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(all["documents"].as_array().unwrap().len(), 6, "{text}");
    assert_eq!(
        all["documents"][3]["document"]["Statement"][1]["Resource"],
        format!("acs:ecs:*:{ACCOUNT}:disk/*")
    );
    assert_eq!(all["deployment"]["roleArn"], format!("acs:ram::{ACCOUNT}:role/appsnap-snapshots"));
    for (words, said) in [
        (&["--region", "cn-hangzhou"][..], "--account"),
        (&["--account", "me"], "account \"me\""),
        (&["--account", ACCOUNT, "--region", "x"], "region \"x\""),
        (&["--account", ACCOUNT, "--work-role", "AppSnap"], "small letters"),
        (&["--account", ACCOUNT, "--tag", "alone"], "key=value"),
        (&["--account", ACCOUNT, "--only", "all"], "none of trust-function"),
        (
            &["--account", ACCOUNT, "--pinned", "c-1", "--pinned", "c-2", "--pinned", "c-1"],
            "three for each region",
        ),
    ] {
        let (status, text, told) = ram(words);
        assert!(status == 2 && text.is_empty() && told.contains(said), "{words:?}: {status} {told}");
    }
}
