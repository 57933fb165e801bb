//! Our guard over the vendor's freezer, where the plugin's manager says that all is well.
#![allow(clippy::disallowed_methods)] // real time is measured

#[allow(dead_code)] // some of it is for other tests only
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use appsnap::guest::plugin::{Order, Os, PluginTold, render};
use appsnap::local::plugin::set_faults;
use appsnap::local::world::{PluginFault, Settings};
use appsnap::report::Level;
use bench::{Bench, NEEDS};
use common::need;

/// Gives its freezer up while that is on its way in the kernel, and ends with 0.
const MANAGER: &str = "#!/bin/sh
/usr/local/share/aliyun-assist/plugin/app-snapshot-plugin/1.8/fsfreezer 2 / </dev/null >/dev/null 2>&1 &
sleep 3
kill -KILL $!
exit 0
";

#[tokio::test]
async fn a_freeze_that_comes_after_the_plugins_good_end_is_thawed() {
    if !need(&NEEDS) {
        return;
    }
    let bench = Bench::start(Settings::default(), "true").await;
    let guest = &bench.cloud.guest;
    // Whatever becomes of the guard: this guest will not stay frozen.
    guest.spawn("sleep 60; fsfreeze --unfreeze /", &[]).await.unwrap();
    set_faults(guest, &[PluginFault::SlowFreeze(Duration::from_secs(8))]).await.unwrap();
    let manager = "/usr/local/share/aliyun-assist/acs-plugin-manager";
    guest.write_file(manager, MANAGER.as_bytes(), "755").await.unwrap();
    let os = Os::Linux { freeze: true, window: 2, scripts: 30, pre: None, post: None };
    let (attempt, name) = ("a-1".to_string(), "n-a-1".to_string());
    let (want, minimum) = (Level::Application, Level::Crash);
    let order =
        Order { attempt, role: "AppSnapshotRole".into(), name, exclude: None, limit: 60, want, minimum, os };
    let script = render(&order).unwrap();
    let start = Instant::now();
    let output = guest.exec("sh -s", &[], &script, Duration::from_secs(90)).await.unwrap();
    // The freeze came, or is still to come where nobody waited for it.
    tokio::time::sleep(Duration::from_secs(12).saturating_sub(start.elapsed())).await;
    let frozen = guest.is_frozen("/").await.unwrap();
    guest.thaw_all().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = PluginTold::read(&said, "a-1").unwrap_or_else(|| panic!("{said}"));
    assert!(!frozen, "/ stays frozen: {said}");
    assert!(told.exit() == Some(0) && told.thawed_by_guard(), "{said}");
    bench.close().await;
}
