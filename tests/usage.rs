//! Wrong usage of `appsnap`: told by place and cure, before anything is asked or made; nothing is passed over.

mod common;

use std::fs::File;
use std::process::{Command, Stdio};

use common::need;

fn appsnap(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appsnap"));
    let kept = ["APPSNAP_CA_BUNDLE", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"];
    kept.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn told(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_would_be_passed_over_is_refused() {
    let ram = ["ram", "--account", "1234567890123456"];
    let table = [
        ([&ram[..], &["--pinned", "c-1"]].concat(), "three for each region"),
        ([&ram[..], &["--pinned", "c-1", "--pinned", "c-1", "--pinned", "c-2"]].concat(), "each once"),
        ([&ram[..], &["--instance-role", "web"]].concat(), "--plugin"),
        (vec!["pin", "events/timer.json"], "this is a timer's tick"),
        (vec!["invoke", "events/manual.json", "--timeout", "0"], "0 is not in 1..=86400"),
        (vec!["restore", "ssg-1"], "restore without --plan is not supported"),
        (vec!["restore", "ssg-1", "--plan", "--mount-under", "/"], "and not / itself"),
        (vec!["groups", "--at", "yesterday"], "--at"),
        (vec!["pin", "--print", "events/eventbridge-request.json"], "this is an EventBridge event"),
    ];
    for (args, expected) in table {
        let (code, said) = told(appsnap(&args));
        assert!(code == Some(2) && said.contains(expected), "{args:?}: {code:?} {said}");
    }
}

#[test]
fn a_variable_that_is_wrong_is_named_once() {
    let mut check = appsnap(&["check", "--region", "cn-hangzhou", "--instance", "i-1"]);
    check.envs([("ALIBABA_CLOUD_ACCESS_KEY_ID", "k"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")]);
    check.env("APPSNAP_CA_BUNDLE", "/nowhere/ca.pem");
    let (code, said) = told(check);
    assert!(code == Some(1) && said.contains("/nowhere/ca.pem: No such file"), "{said}");
    assert_eq!(said.matches("APPSNAP_CA_BUNDLE").count(), 1, "{said}");
}

#[test]
fn the_local_cloud_ends_with_an_error_where_its_addresses_cannot_be_written() {
    if !need(&["root", "mkfs.xfs", "mkfs.ext4", "losetup", "unshare", "fsfreeze", "curl", "setpriv"]) {
        return;
    }
    let mut local = appsnap(&["local", "--no-install"]);
    local.stdout(File::options().write(true).open("/dev/full").unwrap());
    let (code, said) = told(local);
    assert!(code == Some(1) && said.contains("appsnap: standard output: No space left"), "{code:?} {said}");
}
