//! Cloud Assistant's calls as they go out, and answers as they are read.

use serde_json::json;

use super::*;
use crate::api::testing::{answering, flat, strings};

#[tokio::test]
async fn agents_say_true_in_words() {
    let (client, seen) =
        answering(json!({"InstanceCloudAssistantStatusSet": {"InstanceCloudAssistantStatus": [
            {"InstanceId": "i-1", "CloudAssistantStatus": "true", "CloudAssistantVersion": "2.2.3.857",
             "LastHeartbeatTime": "2026-11-22T03:00:00Z"},
            {"InstanceId": "i-2", "CloudAssistantStatus": "false"},
        ]}}));
    let ids = strings(&["i-1", "i-2"]);
    let found = describe_cloud_assistant_status(&client, "cn-hangzhou", &ids).await.unwrap();
    assert_eq!((found[0].alive, found[1].alive, found[0].version.as_str()), (true, false, "2.2.3.857"));
    assert_eq!(seen.lock().unwrap()[0]["InstanceId.2"], "i-2");
}

fn command(content: &[u8]) -> RunCommand<'_> {
    RunCommand {
        region_id: "cn-hangzhou",
        instance_id: "i-1",
        name: "appsnap",
        kind: "RunShellScript",
        content,
        timeout: Duration::from_secs(900),
        client_token: "t-1",
        tags: &[],
    }
}

#[tokio::test]
async fn a_command_is_sent_as_base64_and_kills_only_its_own_process() {
    let (client, seen) = answering(json!({"InvokeId": "t-9", "CommandId": "c-9", "RequestId": "R"}));
    let started = run_command(&client, &command(b"echo hi\n")).await.unwrap();
    assert_eq!((started.invoke_id.as_str(), started.command_id.as_str()), ("t-9", "c-9"));
    let expected = [
        "Action=RunCommand",
        "ClientToken=t-1",
        "CommandContent=ZWNobyBoaQo=",
        "ContentEncoding=Base64",
        "InstanceId.1=i-1",
        "Name=appsnap",
        "TerminationMode=Process",
        "Timeout=900",
        "Type=RunShellScript",
        "Username=root",
        "WorkingDir=/",
    ];
    assert_eq!(flat(&seen.lock().unwrap()[0]), expected);
}

#[tokio::test]
async fn windows_runs_as_itself_where_it_is() {
    let (client, seen) = answering(json!({"InvokeId": "t-9"}));
    run_command(&client, &RunCommand { kind: "RunPowerShellScript", ..command(b"") }).await.unwrap();
    let names: Vec<_> = seen.lock().unwrap()[0].keys().cloned().collect();
    assert!(!names.iter().any(|name| ["Username", "WorkingDir"].contains(&&**name)), "{names:?}");
}

#[tokio::test]
async fn a_command_that_is_too_long_is_not_sent() {
    let (client, seen) = answering(json!({}));
    let error = run_command(&client, &command(&[b'x'; 18433])).await.unwrap_err();
    assert!(error.to_string().contains("24580 bytes as base64"), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_result_is_read_in_plain_text_or_base64() {
    let report = r#"{"schema":1,"outcome":"ok","frozenMs":12}"#;
    for output in [report.to_owned(), BASE64_STANDARD.encode(report)] {
        let (client, _) = answering(json!({"Invocation": {"InvocationResults": {"InvocationResult": [{
            "InvokeId": "t-9", "InstanceId": "i-1", "InvocationStatus": "Failed", "ExitCode": 3, "Dropped": 0,
            "Output": output, "ErrorCode": "ExitCodeNonzero", "Tags": {"Tag": [{"TagKey": "k", "TagValue": "v"}]},
        }]}}}));
        let found = invocation_result(&client, "cn-hangzhou", "t-9", "i-1").await.unwrap().unwrap();
        assert_eq!((found.output.as_str(), found.exit_code), (report, Some(3)));
        assert!(found.invocation_status.is_end());
    }
    let (client, _) = answering(json!({"Invocation": {}}));
    assert_eq!(invocation_result(&client, "cn-hangzhou", "t-9", "i-1").await.unwrap(), None);
}

#[test]
fn plain_text_is_left_alone() {
    for text in ["abcd", "OK", "", "deadbeefdeadbeefdeadbeefdeadbeef", "line of words\n"] {
        assert_eq!(plain(text.to_owned()), text);
    }
}

#[test]
fn states_end_or_stay_open() {
    for word in ["Pending", "Running", "Stopping", "Scheduled", "Brooding"] {
        assert!(!InvocationStatus::from(word.to_owned()).is_end(), "{word}");
    }
    for word in ["Success", "Failed", "Error", "Timeout", "Cancelled", "Terminated", "Invalid", "Aborted"] {
        assert!(InvocationStatus::from(word.to_owned()).is_end(), "{word}");
    }
    assert_eq!(InvocationStatus::from("Brooding".to_owned()), InvocationStatus::Other("Brooding".into()));
}

#[tokio::test]
async fn invocations_are_found_by_tag_only() {
    let (client, seen) = answering(json!({"Invocations": {"Invocation": [
        {"InvokeId": "t-9", "InvocationStatus": "Running", "CreationTime": "2026-11-22T03:00:00Z",
         "InvokeInstances": {"InvokeInstance": [{"InstanceId": "i-1", "ExitCode": 0}]}},
    ]}}));
    let found =
        invocations_by_tag(&client, "cn-hangzhou", &[("appsnap:run".into(), "r".into())]).await.unwrap();
    assert_eq!(found[0].invocation_status, InvocationStatus::Running);
    assert_eq!(found[0].instances[0].instance_id, "i-1");
    assert!(invocations_by_tag(&client, "cn-hangzhou", &[]).await.unwrap().is_empty());
    assert_eq!(seen.lock().unwrap().len(), 1);
}
