//! Pinned runs in the local cloud, by a role without RunCommand: `policies/protect-pinned.json` as `appsnap pin` fills it.

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)] // others need the rest of it
#[path = "common/rights.rs"]
mod rights;

use std::time::Duration;

use appsnap::acs::{Client, Credentials, Endpoints, Role, Settings as Caller, Transport};
use appsnap::api::PRODUCTS;
use appsnap::api::assistant::{RunCommand, invocation_result, run_command};
use appsnap::api::command::{InvokeCommand, create_command, invoke_command};
use appsnap::clock::Clock;
use appsnap::local::cloud::{ACCOUNT, INSTANCE, OPERATOR, REGION, names};
use appsnap::local::fc::Fc;
use appsnap::local::world::Settings;
use appsnap::ram::Names;
use appsnap::report::{Level, Status};
use bench::{Bench, HOLD, NEEDS, read, request, tick, vendor_tags, verdict};
use common::need;
use rights::{Right, give, rights_for};
use serde_json::{Value, json};

const AT: &str = "2026-11-22T03:00:00Z";
const WORK: [&str; 2] = ["survey", "protect-pinned"];

/// A local cloud whose function is pinned; nothing is registered yet.
async fn start(pre: &str) -> Bench {
    let mut bench = Bench::start(Settings::default(), pre).await;
    let mut function = bench.cloud.function.function().clone();
    function.env.insert("APPSNAP_PINNED".into(), "true".into());
    bench.cloud.function = Fc::new(function, bench.cloud.server.cloud.clone(), Clock::system());
    bench
}

/// `appsnap pin` as an operator calls it; gives the role what it prints, in place of all that it may do.
async fn pin(bench: &Bench) -> (Value, Vec<Right>) {
    let file = bench.cloud.store.state().join("request.json");
    std::fs::write(&file, request(json!({})).to_string()).unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_appsnap"))
        .arg("pin")
        .arg(&file)
        .arg("--json")
        .env("APPSNAP_ECS_ENDPOINT", bench.cloud.endpoint())
        .env("APPSNAP_CA_BUNDLE", &bench.cloud.ca_file)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", OPERATOR.0)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OPERATOR.1)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let ids = told["commands"].as_array().unwrap().iter();
    let commands = ids.map(|one| one["commandId"].as_str().unwrap().to_owned()).collect();
    let all = rights_for(&WORK, &Names { commands, ..names() });
    give(bench, &names().work_role, "trust-snapshots", &all);
    (told, all)
}

/// A holder of the function's keys, who assumes the role.
fn holder(bench: &Bench) -> Client {
    let role = |name: &str| format!("acs:ram::{ACCOUNT}:role/{name}");
    let session = bench.cloud.server.cloud.look(|world, now| {
        world.service_session(now, "fc.aliyuncs.com", &role(&names().function_role), "thief", 3600)
    });
    let session = session.unwrap();
    let keys = Credentials::new(
        Some(session.access_key_id.clone()),
        Some(session.access_key_secret.expose().into()),
        Some(session.security_token.expose().into()),
    );
    let endpoint = bench.cloud.endpoint();
    let here = |name: &str| name.ends_with("S_ENDPOINT").then(|| endpoint.clone());
    let caller = Caller {
        transport: Transport::https(Some(&bench.cloud.ca_file)).unwrap(),
        clock: Clock::system(),
        endpoints: Endpoints::from_env(&here, &PRODUCTS).unwrap(),
        region_id: REGION.into(),
        identities: std::sync::Arc::default(),
    };
    Client::new(caller, keys.unwrap()).assuming(Role::new(&role(&names().work_role), "thief"))
}

#[tokio::test]
async fn a_run_without_run_command_reaches_application_and_its_repeat_is_one() {
    if !need(&NEEDS) {
        return;
    }
    let bench = start("true").await;
    let early = bench.send(tick("2026-11-21T03:00:00Z", json!({}))).await.report;
    assert_eq!(verdict(&early), (Status::Failed, Level::None, vec![]));
    assert_eq!(early.units[0].error.as_ref().unwrap().code, "pinned.missing");
    let (first, rights) = pin(&bench).await;
    assert_eq!(first["commands"].as_array().unwrap().len(), 3);
    assert!(first["commands"].as_array().unwrap().iter().all(|one| one["new"] == true), "{first:#}");
    let (again, _) = pin(&bench).await;
    assert!(again["commands"].as_array().unwrap().iter().all(|one| one["new"] == false), "{again:#}");
    let report = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]), "{report:?}");
    assert_eq!(vendor_tags(&bench).await, ["APPConsistent"]);
    let repeat = bench.send(tick(AT, json!({}))).await.report;
    assert_eq!((repeat.status, repeat.outcome), (Status::Skipped, Some(Status::Succeeded)));
    assert_eq!(bench.record().await["appsnap:outcome"], "succeeded");
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    let calls = |action: &str| bench.cloud.server.cloud.look(|world, _| world.calls(action));
    assert_eq!((calls("InvokeCommand"), calls("RunCommand")), (2, 0));
    // Other scripts are another text.
    let linux = json!({ "scriptTimeoutInSeconds": 30, "preScriptPath": "/opt/mine.sh" });
    let other = bench.send(tick("2026-11-23T03:00:00Z", json!({ "linux": linux }))).await.report;
    assert_eq!(other.units[0].error.as_ref().unwrap().code, "pinned.missing");
    // Each right that protect does not have is needed.
    for (action, kind, code) in [
        ("ecs:InvokeCommand", "instance", "Forbidden.RAM"),
        ("ecs:InvokeCommand", "command", "Forbidden.RAM"),
        ("ecs:DescribeCommands", "command", "pinned.missing"),
    ] {
        let less: Vec<Right> =
            rights.iter().filter(|right| right.action != action || right.kind() != kind).cloned().collect();
        assert!(less.len() < rights.len());
        give(&bench, &names().work_role, "trust-snapshots", &less);
        let report = bench.send(tick("2026-11-24T03:00:00Z", json!({}))).await.report;
        let error = report.units[0].error.as_ref().unwrap();
        let cure = error.cure.as_deref().unwrap();
        assert!(error.code == code && cure.contains(&action[4..]), "without {action} on {kind}: {error:?}");
    }
    bench.close().await;
}

#[tokio::test]
async fn a_lost_report_is_fetched_by_the_registered_command() {
    if !need(&NEEDS) {
        return;
    }
    let bench = start(HOLD).await;
    pin(&bench).await;
    let under_way = bench.send_off(tick(AT, json!({})));
    bench.until("[ -e /run/at-work ]").await;
    bench.cloud.agent.restart();
    bench.until("touch /run/go-on").await;
    let report = read(under_way.await.unwrap()).report;
    assert_eq!(verdict(&report), (Status::Succeeded, Level::Application, vec![]), "{report:?}");
    assert_eq!(bench.cloud.server.cloud.look(|world, _| world.calls("RunCommand")), 0);
    assert_eq!(bench.trace().await, ["pre", "post application"]);
    bench.close().await;
}

#[tokio::test]
async fn whoever_holds_the_role_runs_nothing_of_his_own() {
    if !need(&NEEDS) {
        return;
    }
    let bench = start("true").await;
    let (told, _) = pin(&bench).await;
    let holder = holder(&bench);
    let run = RunCommand {
        region_id: REGION,
        instance_id: INSTANCE,
        name: "mine",
        kind: "RunShellScript",
        content: b"touch /run/evil",
        timeout: Duration::from_secs(60),
        client_token: "t-1",
        tags: &[],
    };
    assert_eq!(run_command(&holder, &run).await.unwrap_err().code, "Forbidden.RAM");
    let created = create_command(&holder, REGION, "mine", "touch /run/evil", &[]).await;
    assert_eq!(created.unwrap_err().code, "Forbidden.RAM");
    // A command that somebody else has registered is none of the three.
    let other = create_command(&bench.client, REGION, "other", "touch /run/evil", &[]).await.unwrap();
    let invoke = async |command_id: &str, value: &str, token: &str| {
        let command = InvokeCommand {
            region_id: REGION,
            instance_id: INSTANCE,
            command_id,
            parameter: ("values", value),
            timeout: Duration::from_secs(60),
            client_token: token,
            tags: &[],
        };
        invoke_command(&holder, &command).await
    };
    assert_eq!(invoke(&other, "", "t-2").await.unwrap_err().code, "Forbidden.RAM");
    let mut started = Vec::new();
    for (number, command) in told["commands"].as_array().unwrap().iter().enumerate() {
        for (nth, value) in
            ["\ntouch /run/evil\n", "$(touch /run/evil)", "'\n#=\ntouch /run/evil"].iter().enumerate()
        {
            let id = command["commandId"].as_str().unwrap();
            started.push(invoke(id, value, &format!("t-{number}-{nth}")).await.unwrap().invoke_id);
        }
    }
    for invoke_id in started {
        let mut seen = None;
        while seen.is_none() {
            Clock::system().sleep(Duration::from_millis(100)).await;
            let result = invocation_result(&holder, REGION, &invoke_id, INSTANCE).await.unwrap().unwrap();
            seen = Some(result).filter(|result| result.invocation_status.is_end());
        }
        let seen = seen.unwrap();
        assert!(seen.exit_code == Some(20) && seen.output.contains("pinned.value"), "{seen:?}");
    }
    bench.until("[ ! -e /run/evil ] && [ ! -e /run/appsnap ]").await;
    bench.close().await;
}
