//! The dry run as its users have it: by an event and by `appsnap check`, the same findings; and nothing is touched.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use appsnap::local::cloud::{INSTANCE, OPERATOR, REGION, role_arn};
use appsnap::local::windows;
use appsnap::local::world::Settings;
use appsnap::report::{Level, Report, Severity, Status};
use bench::{Bench, NEEDS, read, request, tick, verdict};
use common::need;
use serde_json::{Value, json};

const AT: &str = "2026-11-22T03:00:00Z";
/// Files and their times on the guest's disks and on /run, mounts, processes; without the agent's own files.
const STATE: &str = r"(find / /data /logs -xdev \( -path /opt/aliyun-assist -o -path /proc -o -path /run \) -prune -o ! -path / -printf '%p %m %s %T@ %C@\n'
  find /run -xdev -mindepth 1 -printf '%p %m %s %T@ %C@\n') | sort; cat /proc/self/mountinfo; cat /proc/[0-9]*/comm | grep -vx -e sh -e sort -e cat -e grep -e find";

/// `appsnap check` with these words and this environment.
fn cli(words: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appsnap"));
    command.arg("check").args(words).stdin(Stdio::null());
    for name in [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_REGION_ID",
        "APPSNAP_ROLE_ARN",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    ] {
        command.env_remove(name);
    }
    let output = command.envs(env.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// As [`cli`] against a local cloud: with the function's keys, by which its role is assumed, or the operator's own.
async fn by_command(bench: &Bench, words: &[&str], as_function: bool) -> (i32, String, String) {
    let (endpoint, ca) = (bench.cloud.endpoint(), bench.cloud.ca_file.display().to_string());
    let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
    let mut env = vec![
        ("APPSNAP_ECS_ENDPOINT", endpoint.clone()),
        ("APPSNAP_STS_ENDPOINT", endpoint),
        ("APPSNAP_CA_BUNDLE", ca),
    ];
    if as_function {
        env.push(("APPSNAP_ROLE_ARN", role_arn()));
        env.extend(bench.cloud.function_keys().unwrap());
    } else {
        let (id, secret) = OPERATOR;
        env.push(("ALIBABA_CLOUD_ACCESS_KEY_ID", id.to_owned()));
        env.push(("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret.to_owned()));
    }
    let work = move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        cli(&words, &env)
    };
    // The cloud's own work goes on meanwhile.
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn told(report: &Report) -> Vec<(String, Severity, String, String)> {
    let findings = report.units.iter().flat_map(|unit| &unit.findings);
    findings.map(|f| (f.code.clone(), f.severity, f.resource.clone(), f.message.clone())).collect()
}

async fn state(bench: &Bench) -> BTreeSet<String> {
    let output = bench.cloud.guest.exec(STATE, &[], b"", Duration::from_secs(20)).await.unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_event_that_is_a_dry_run_touches_nothing_and_the_run_after_it_is_no_repeat() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    bench.send(tick(AT, json!({ "dryRun": true }))).await; // brings the tools into memory
    let before = state(&bench).await;
    // A run would be missed by now; a check may be made at any time.
    let report = bench.send(tick(AT, json!({ "dryRun": true, "startWithinSeconds": 60 }))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::None, vec![]), "{report:#?}");
    assert!(report.dry_run && report.units[0].expected_level == Some(Level::Application));
    let after = state(&bench).await;
    let changed: Vec<&String> = before.symmetric_difference(&after).collect();
    assert!(changed.is_empty() && before.len() > 100, "the guest is not what it was: {changed:?}");
    assert!(bench.trace().await.is_empty(), "a script ran");
    assert!(bench.groups().await.is_empty() && bench.records().await.is_empty(), "a run left its mark");
    let writes = ["CreateSnapshotGroup", "TagResources", "UntagResources", "CreateDisk"];
    let made = bench.cloud.server.cloud.look(|world, _| writes.map(|action| world.calls(action)));
    assert_eq!(made, [0; 4], "{writes:?}");
    let message: Value = serde_json::from_slice(&bench.cloud.sink.deliveries().last().unwrap().body).unwrap();
    assert_eq!((&message["dryRun"], &message["status"]), (&true.into(), &"succeeded".into()));
    // The same tick, for real.
    let run = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&run), (Status::Succeeded, Level::Application, vec![]));
    assert!(!run.dry_run && run.run != report.run);
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    let again = bench.send(tick(AT, json!({ "dryRun": true }))).await.report;
    assert_eq!(again.status, Status::Succeeded, "a check is no repeat of the run");
    bench.close().await;
}

#[tokio::test]
async fn a_dry_run_that_is_handed_on_keeps_its_id_and_is_no_run_of_the_same_event() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let event = |fields: Value| {
        let event = json!({ "id": "7f0d4b52", "source": "orders.release", "specversion": "1.0", "time": AT,
            "type": "orders:Release:Planned", "data": request(fields) });
        json!([event]).to_string().into_bytes()
    };
    let mut runs = Vec::new();
    for (fields, level) in [(json!({ "dryRun": true }), Level::None), (json!({}), Level::Application)] {
        let dry = level == Level::None;
        let first = bench.send(event(fields)).await.report;
        assert_eq!((first.status, first.dry_run), (Status::Pending, dry));
        let handed_on = bench.cloud.function.finish_queue().await;
        let report = read(handed_on.into_iter().next().expect("it was handed on")).report;
        assert_eq!(verdict(&report), (Status::Succeeded, level, vec![]));
        assert_eq!((&report.run, report.dry_run), (&first.run, dry), "one id");
        runs.push(report.run);
    }
    assert_ne!(runs[0], runs[1]);
    bench.close().await;
}

#[tokio::test]
async fn by_command_and_by_event_the_findings_are_the_same() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let guest = &bench.cloud.guest;
    let worlds = [
        ("", "crash", Status::Succeeded, Some(Level::Application)),
        ("chmod 755 /tmp/prescript.sh", "crash", Status::Degraded, Some(Level::Filesystem)),
        ("", "application", Status::Refused, Some(Level::None)),
        (": >/etc/ssl/certs/ca-certificates.crt", "crash", Status::Refused, Some(Level::None)),
    ];
    for (line, minimum, status, expected) in worlds {
        guest.exec(line, &[], b"", Duration::from_secs(5)).await.unwrap().checked(line).unwrap();
        let fields = json!({ "minimumLevel": minimum, "dryRun": true });
        let event = bench.send(request(fields).to_string().into_bytes()).await.report;
        let words = [
            "--instance",
            INSTANCE,
            "--region",
            REGION,
            "--policy",
            "orders-db",
            "--json",
            "--minimum-level",
            minimum,
        ];
        let (code, text, errors) = by_command(&bench, &words, true).await;
        let command: Report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}"));
        assert_eq!((event.status, event.units[0].expected_level), (status, expected), "{line}: {event:#?}");
        assert_eq!(told(&event), told(&command), "{line}");
        assert_eq!((command.status, code), (status, i32::from(status.exit_code())), "{line}");
        let findings = event.units.iter().flat_map(|unit| &unit.findings);
        assert!(findings.into_iter().all(|finding| !finding.cure.is_empty()), "{line}: {event:#?}");
    }
    bench.close().await;
}

#[tokio::test]
async fn with_the_vendors_plugin_the_instance_needs_its_role_and_check_says_how() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let ask = json!({ "dryRun": true, "linux": { "engine": "plugin" } });
    let report = bench.send(request(ask.clone()).to_string().into_bytes()).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::None, vec![]), "{report:#?}");
    let world = &bench.cloud.server.cloud;
    world.look(|world, _| {
        let instance = world.instance_mut(INSTANCE).unwrap();
        (instance.ram_role, instance.plugins) = (None, Vec::new());
    });
    let report = bench.send(request(ask).to_string().into_bytes()).await.report;
    assert_eq!(verdict(&report), (Status::Refused, Level::None, vec!["plugin.role_none"]), "{report:#?}");
    let role = report.units[0].findings.iter().find(|finding| finding.code == "plugin.role_none").unwrap();
    assert!(role.cure.contains("AttachInstanceRamRole"), "{role:?}");
    // Who may ask for the plugin's state is told that too: here the operator himself.
    let file = std::env::temp_dir().join(format!("appsnap-check-{}.json", std::process::id()));
    let request = json!({ "targets": { "instanceIds": [INSTANCE] }, "linux": { "engine": "plugin" } });
    std::fs::write(&file, request.to_string()).unwrap();
    let path = file.display().to_string();
    let (code, text, errors) = by_command(&bench, &[&path, "--region", REGION, "--json"], false).await;
    std::fs::remove_file(&file).unwrap();
    let report: Report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}"));
    let codes: Vec<String> = told(&report).into_iter().map(|(code, ..)| code).collect();
    assert_eq!(code, 4, "{codes:?}");
    assert!(
        ["plugin.absent", "plugin.role_none"].iter().all(|code| codes.iter().any(|one| one == code)),
        "{codes:?}"
    );
    bench.close().await;
}

#[test]
fn a_local_check_shows_its_instances_and_leaves_nothing() {
    if !need(&NEEDS) {
        return;
    }
    let (code, text, errors) = cli(&["--local", "--json"], &[]);
    let report: Report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}"));
    let ids: Vec<&str> = report.units.iter().map(|unit| unit.instance_ids[0].as_str()).collect();
    assert_eq!((code, ids), (0, vec![INSTANCE, windows::INSTANCE]), "{report:#?}");
    assert!(
        report.dry_run && report.units.iter().all(|unit| unit.expected_level == Some(Level::Application))
    );
    let (code, text, errors) = cli(&["--local", "--instance", INSTANCE, "--instance", "i-bp1nowhere"], &[]);
    assert_eq!(code, 4, "{text}{errors}");
    assert!(text.starts_with("REFUSED: a run would be refused; policy check, nothing was changed"), "{text}");
    assert!(
        text.contains("  to freeze: /")
            && text.contains("/logs (xfs) of d-")
            && text.contains("  blocks  instance.unknown"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_outside_of_the_instances_is_said_plainly() {
    let keys = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")];
    let nowhere = [&keys[..], &[("APPSNAP_ECS_ENDPOINT", "https://127.0.0.1:1")]].concat();
    let one = ["--instance", "i-1", "--region", "cn-hangzhou"];
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);
    let table: [Case; 6] = [
        (&["--instance", "i-1", "--consistency", "best"], &keys, 2, "invalid value 'best'"),
        (&["--instance", "web"], &keys, 2, "targets.instanceIds[0]: must be an id like i-"),
        (&["/nowhere.json"], &keys, 2, "/nowhere.json: No such file"),
        (
            &one,
            &[],
            1,
            "no credentials: ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET not set",
        ),
        (&one, &nowhere, 1, "network.unreachable"),
        (&["--instance", "i-1"], &keys, 1, "region.none"),
    ];
    for (words, env, expected, said) in table {
        let (code, text, errors) = cli(words, env);
        assert_eq!(code, expected, "{words:?}: {text}{errors}");
        assert!(format!("{text}{errors}").contains(said), "{words:?}: {text}{errors}");
    }
}
