//! What is deployed: s.yaml as it renders, and the zip that build.sh packs.

#[path = "deployment/check.rs"]
mod check;
mod common;
#[path = "deployment/render.rs"]
mod render;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use check::check;
use common::need;
use render::{all_on, render};

const S_YAML: &str = include_str!("../s.yaml");

/// A copy with one thing changed, which has to be there.
fn spoilt(from: &str, to: &str) -> String {
    assert!(S_YAML.contains(from), "s.yaml has no {from:?}");
    S_YAML.replacen(from, to, 1)
}

#[test]
fn s_yaml_deploys_what_the_function_takes() {
    assert_eq!(check(&render(S_YAML).unwrap()), Vec::<String>::new());
}

#[test]
fn what_is_off_in_s_yaml_can_be_switched_on() {
    let on = render(&all_on(S_YAML)).unwrap();
    assert_eq!(check(&on), Vec::<String>::new());
    let props = &on["resources"]["appsnap"]["props"];
    let destination = &props["asyncInvokeConfig"]["destinationConfig"]["onFailure"]["destination"];
    assert_eq!(destination, "acs:mns:cn-shanghai:1234567890123456:/queues/appsnap-failed/messages");
    assert_eq!(props["environmentVariables"]["OPS_SECRET"], "SEC0");
}

#[test]
fn a_spoilt_s_yaml_is_refused_for_its_own_reason() {
    let behind = "        - triggerName: late\n          triggerType: timer\n          triggerConfig: {}\n";
    let variable = |value: &str| spoilt("APPSNAP_LOG: info", value);
    let long = format!("APPSNAP_LOG: {}", "x".repeat(4096));
    let table = [
        (spoilt("instanceConcurrency:", "instanceConcurency:"), "props: unknown key instanceConcurency"),
        (spoilt("edition: 3.0.0\n", ""), "edition is missing"),
        (spoilt("component: fc3", "component: fc"), "not so: component is fc3"),
        (spoilt("asyncTask: true", "asyncTask: false"), "not so: tasks have ids"),
        (
            spoilt("maxAsyncRetryAttempts: 0", "maxAsyncRetryAttempts: 3"),
            "not so: the platform repeats nothing",
        ),
        (spoilt("maxAsyncRetryAttempts: 0", "maxAsyncRetries: 0"), "unknown key maxAsyncRetries"),
        (spoilt("internetAccess: true", "internetAccess: false"), "not so: there is a way out"),
        (spoilt("APPSNAP_NETWORK: public", "APPSNAP_NETWORK: vpc"), "not so: there is a way out"),
        (spoilt("cpu: 0.35", "cpu: 0.6"), "not so: memorySize is 1 to 4 GB"),
        (spoilt("cpu: 0.35", "cpu: 0.1"), "not so: memorySize is 1 to 4 GB"),
        (spoilt("timeout: 90", "timout: 90"), "props.instanceLifecycleConfig.preStop: unknown key timout"),
        (spoilt("timeout: 3600", "timeout: 600"), "nightly: linux: the limits add up to"),
        (spoilt("role/appsnap-function", "role/AppsnapFunction"), "is not in small letters"),
        (spoilt("role/appsnap-snapshots", "role/AppsnapSnapshots"), "is not in small letters"),
        (spoilt("role/appsnap-snapshots", "role/snapshots"), "is not the role appsnap-snapshots"),
        (spoilt("functionName: appsnap", "functionName: snap"), "the rights are for the function appsnap"),
        (variable("APPSNAP_LOGS: info"), "APPSNAP_LOGS: appsnap reads no such variable"),
        (variable("FC_LOG: info"), "FC_LOG: not allowed"),
        (variable("APPSNAP_LOG: 1"), "APPSNAP_LOG is no string"),
        (variable(&long), "4096 are the limit"),
        (spoilt("APPSNAP_NETWORK: public", "APPSNAP_NETWORK: internet"), "APPSNAP_NETWORK"),
        (
            spoilt("cronExpression: CRON_TZ=Asia/Shanghai 0 17", "cronExpression: 17"),
            "has not the six fields",
        ),
        (spoilt("CRON_TZ=Asia/Shanghai", "CRON_TZ=Shanghai"), "CRON_TZ=Area/City"),
        (spoilt("cronExpression:", "cronexpression:"), "nightly: unknown key cronexpression"),
        (spoilt("triggerType: timer", "triggerType: timers"), "nightly: \"timers\" is not known"),
        (spoilt("triggerType: timer", "triggerType: eventbridge"), "stands behind EventBridge's"),
        (
            spoilt("\"policy\": \"nightly\"", "\"polcy\": \"nightly\""),
            "polcy: unknown field, did you mean policy?",
        ),
        (spoilt("\"endpoint\": \"vpc\"}}", "\"endpoint\": \"vpc\"}"), "nightly: event.payload: is not JSON"),
        (spoilt("[\"acs.ecs\"]", "[\"acs.oss\"]"), "does not let TaskCompleted through"),
        (spoilt("eventSourceType: Default", "eventSourceType: MNS"), "come on the default bus"),
        (
            spoilt("            eventSourceConfig:", "            sourceConfig:"),
            "eventSourceConfig is missing",
        ),
        (format!("{S_YAML}{behind}"), "a trigger stands behind EventBridge's"),
        (format!("{S_YAML}{behind}"), "late: payload is missing"),
    ];
    for (text, expected) in table {
        let wrong = check(&render(&text).unwrap());
        assert!(wrong.iter().any(|problem| problem.contains(expected)), "{expected}: {wrong:#?}");
    }
    for (text, expected) in [
        (spoilt("${vars.functionRole}", "${vars.functionrole}"), "nothing fills in ${vars.functionrole}"),
        (
            spoilt("env('APPSNAP_INSTANCE_ID')", "env('APPSNAP_INSTANCE')"),
            "nothing fills in ${env('APPSNAP_INSTANCE')}",
        ),
        (spoilt("cpu: 0.35", "memorySize: 512"), "duplicated key"),
    ] {
        let message = render(&text).unwrap_err();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

/// The vendor's schema, where it is at hand: `FC3_SCHEMA=FILE cargo test --test deployment -- --ignored`. Needs python3
/// with the packages of .ci/requirements.txt.
#[test]
#[ignore = "needs the vendor's schema: FC3_SCHEMA"]
fn the_vendors_schema_takes_s_yaml_and_refuses_spoilt_copies() {
    let schema = std::env::var("FC3_SCHEMA").expect("FC3_SCHEMA names the vendor's schema");
    let judged = |text: &str| {
        let mut python = Command::new("python3")
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deployment/fc3_schema.py"), &schema])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let props = render(text).unwrap()["resources"]["appsnap"]["props"].to_string();
        python.stdin.take().unwrap().write_all(props.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)) && failed.is_empty(), "{said}{failed}");
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        said
    };
    assert_eq!(judged(S_YAML), "");
    assert_eq!(judged(&all_on(S_YAML)), "");
    for (text, expected) in [
        (spoilt("region: ${vars.region}", "region: nowhere"), "/region:"),
        (spoilt("runtime: custom.debian11", "runtime: rust"), "/runtime:"),
        (spoilt("memorySize: 512", "memorySize: 500"), "/memorySize:"),
        (spoilt("diskSize: 512", "diskSize: 600"), "/diskSize:"),
        (spoilt("timeout: 3600", "timeout: 86401"), "/timeout:"),
        (spoilt("instanceConcurrency: 10", "instanceConcurrency: 201"), "/instanceConcurrency:"),
        (spoilt("logConfig: auto", "logConfig: on"), "/logConfig:"),
        (
            spoilt("maxAsyncRetryAttempts: 0", "maxAsyncRetryAttempts: 9"),
            "/asyncInvokeConfig/maxAsyncRetryAttempts:",
        ),
        (spoilt("- triggerName: nightly", "- name: nightly"), "/triggers/0:"),
        (spoilt("cronExpression:", "cron:"), "/triggers/0/triggerConfig:"),
        (spoilt("code: ./pkg/appsnap.zip", "codeUri: ./pkg"), "\"code\""),
    ] {
        let said = judged(&text);
        assert!(said.contains(expected), "{expected}: {said:?}");
    }
}

#[test]
fn appsnap_invoke_calls_the_function_by_its_deployed_name() {
    let help = Command::new(env!("CARGO_BIN_EXE_appsnap")).args(["invoke", "--help"]).output().unwrap();
    let name = render(S_YAML).unwrap()["resources"]["appsnap"]["props"]["functionName"].clone();
    let expected = format!(
        "--function <FUNCTION>\n          Name of the function [default: {}]",
        name.as_str().unwrap()
    );
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = squeezed(&String::from_utf8_lossy(&help.stdout));
    assert!(help.contains(&squeezed(&expected)), "{help}");
}

/// A directory of one test, gone at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("appsnap-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// The smallest file that counts as a static program for x86_64.
    fn program(&self, name: &str) -> PathBuf {
        let mut elf = vec![0; 64];
        elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
        elf[18] = 62;
        self.file(name, &elf)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn packed(binary: &Path, zip: &Path) -> std::process::Output {
    Command::new("sh")
        .arg("build.sh")
        .args([binary, zip])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

#[test]
fn the_zip_is_the_same_each_time_and_its_bootstrap_is_executable() {
    if !need(&["python3"]) {
        return;
    }
    let dir = Dir::new("zip");
    let zips = ["one.zip", "two.zip"].map(|name| {
        // Another name, another time: neither counts.
        let output = packed(&dir.program(&format!("program-{name}")), &dir.0.join(name));
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.lines().next().unwrap().ends_with("  bootstrap"), "{said}");
        std::fs::read(dir.0.join(name)).unwrap()
    });
    assert!(zips[0] == zips[1]);
    let list = "import sys, zipfile\nfor e in zipfile.ZipFile(sys.argv[1]).infolist():\n    print(oct(e.external_attr >> 16), e.filename)";
    let listed = Command::new("python3").args(["-c", list]).arg(dir.0.join("one.zip")).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.starts_with("0o100755 bootstrap\n0o100644 LICENSE\n"), "{listed}");
    for name in ["s.yaml", "README.md", "events/manual.json", "policies/ram.sh"] {
        assert!(listed.contains(&format!("0o100644 {name}\n")), "{listed}");
    }
}

#[test]
fn what_would_not_start_on_the_platform_is_not_packed() {
    if !need(&["python3"]) {
        return;
    }
    let dir = Dir::new("nozip");
    let zip = dir.0.join("out.zip");
    let dynamic = PathBuf::from(env!("CARGO_BIN_EXE_bootstrap"));
    let table = [
        (dir.0.join("none"), "no such file"),
        (dir.file("script", b"#!/bin/sh\n"), "no program for Linux on x86_64"),
        (dynamic, "is not static"),
    ];
    for (binary, expected) in table {
        // Where the tests are built for musl, this one is static.
        if expected == "is not static" && cfg!(target_env = "musl") {
            continue;
        }
        let output = packed(&binary, &zip);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
        assert!(!zip.exists());
    }
}
