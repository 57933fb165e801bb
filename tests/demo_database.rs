//! `appsnap demo --database` as its users run it.

mod common;

use std::process::{Command, Stdio};

use appsnap::local::engine::Engine;
use common::need;
use serde_json::Value;

const TOOLS: [&str; 8] =
    ["root", "mkfs.xfs", "mkfs.ext4", "losetup", "unshare", "fsfreeze", "curl", "setpriv"];

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appsnap"));
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

/// The copies that a demo shows, and its exit code.
fn copies(args: &[&str]) -> ([Value; 3], Option<i32>) {
    let output = demo(&[&["--json"], args].concat()).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let copies: Vec<Value> = json["disks"].as_array().unwrap().clone();
    (copies.try_into().unwrap_or_else(|_| panic!("{said}")), output.status.code())
}

#[test]
fn three_copies_of_a_database_are_shown_and_the_one_with_the_recipe_keeps_its_promise() {
    if !(need(&TOOLS) && need(&Engine::PostgreSql.missing())) {
        return;
    }
    let (copies, code) = copies(&["--database", "postgresql"]);
    let [crash, frozen, application] = &copies;
    assert_eq!(code, Some(0), "{copies:#?}");
    let levels = [(crash, "crash"), (frozen, "filesystem"), (application, "application")];
    for (copy, level) in levels {
        assert_eq!((&copy["level"], &copy["engine"]), (&level.into(), &"postgresql".into()));
        assert!(!copy["evidence"].as_array().unwrap().is_empty(), "{copy:#}");
    }
    // An online copy's redo is never shorter than its checkpoint's record.
    let replays = |copy: &Value| copy["redoBytes"].as_u64().unwrap() > 1024;
    assert_eq!([crash, frozen, application].map(replays), [true, true, false], "{copies:#?}");
    assert_eq!(
        (&application["state"], &application["tags"]["APPConsistent"]),
        (&"clean".into(), &"True".into())
    );
    let acknowledged = application["acknowledgedBefore"].as_u64().unwrap();
    assert!(
        acknowledged >= 100 && application["keptInCopy"].as_u64() >= Some(acknowledged),
        "{application:#}"
    );
}

#[test]
fn a_recipe_that_does_not_run_is_no_promise_kept() {
    if !(need(&TOOLS) && need(&Engine::Redis.missing())) {
        return;
    }
    let (copies, code) = copies(&["--database", "redis", "--script-mode", "0755"]);
    assert_eq!((code, &copies[2]["level"]), (Some(3), &"filesystem".into()), "{copies:#?}");
}

#[test]
fn a_server_that_is_missing_is_named_with_its_package() {
    if !(need(&TOOLS) && need(&Engine::Redis.missing())) {
        return;
    }
    let dir = std::env::temp_dir().join(format!("appsnap-path-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for place in ["/usr/bin", "/usr/sbin"] {
        for tool in std::fs::read_dir(place).unwrap().flatten() {
            if tool.file_name() != "redis-server" {
                let _ = std::os::unix::fs::symlink(tool.path(), dir.join(tool.file_name())); // some are in both
            }
        }
    }
    let output = demo(&["--database", "redis", "--no-install"]).env("PATH", &dir).output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("missing here: redis-server; install them: apt-get install -y redis-server"),
        "{said}"
    );
    let unknown = demo(&["--database", "oracle"]).output().unwrap();
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        unknown.status.code() == Some(2) && said.contains("known are: postgresql, mariadb, redis"),
        "{said}"
    );
}
