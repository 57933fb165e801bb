//! In the middle of a freeze window of a whole run, somebody dies whom the recipe needs: the level is lowered and says
//! why, and nothing stays behind in the guest.
#![allow(clippy::disallowed_methods)] // tests wait in real time

#[allow(dead_code)] // others need the rest of it
#[path = "common/bench.rs"]
mod bench;
#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "common/database.rs"]
mod database;

use std::time::Duration;

use appsnap::local::engine::{Engine, Load};
use appsnap::local::world::Settings;
use appsnap::report::Level;
use bench::{NEEDS, read, tick};
use common::need;
use database::{Field, Layout};
use serde_json::json;

#[tokio::test]
async fn a_postgresql_whose_holder_or_server_dies_in_the_window_is_told_and_left_free() {
    all_deaths(Engine::PostgreSql, "postgres").await;
}

#[tokio::test]
async fn a_mariadb_whose_holder_or_server_dies_in_the_window_is_told_and_left_free() {
    all_deaths(Engine::MariaDb, "mariadbd").await;
}

#[tokio::test]
async fn a_redis_whose_holder_or_server_dies_in_the_window_is_told_and_left_free() {
    all_deaths(Engine::Redis, "redis-server").await;
}

/// `$1` is the file in which the recipe keeps the process.
const KILL: &str = r#"read -r pid _ <"$1" && kill -KILL "$pid" && echo "$pid""#;
/// `$1` is the name of the server's processes.
const KILL_ALL: &str = r#"for p in /proc/[0-9]*; do
    read -r name <$p/comm && [ "$name" = "$1" ] && kill -KILL ${p#/proc/} && echo ${p#/proc/}
done 2>/dev/null; true"#;

async fn all_deaths(engine: Engine, process: &str) {
    if !(need(&NEEDS) && need(&engine.missing())) {
        return;
    }
    // The window stays open for so long.
    let settings = Settings { visible_after: Duration::from_secs(2), ..Settings::default() };
    let field = Field::start(engine, Layout::One, settings).await;
    let before = field.settings().await;
    for (n, who) in ["holder", "client", "runner", "server"].into_iter().enumerate() {
        let what = format!("{}, its {who} dies", engine.name());
        field.server.load(Load::Acked, 120).await.unwrap();
        let creates = field.creates();
        let run = field.bench.send_off(tick(&format!("2026-11-22T03:0{n}:00Z"), json!({})));
        while field.creates() == creates {
            assert!(!run.is_finished(), "{what}: no request for a snapshot came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let state = format!("/run/appsnap-recipe/{}/{who}", engine.name());
        let (script, whom) = if who == "server" { (KILL_ALL, process) } else { (KILL, &*state) };
        let killed =
            field.bench.cloud.guest.exec(script, &[whom], b"", Duration::from_secs(10)).await.unwrap();
        assert!(killed.ok() && !killed.text().is_empty(), "{what}: nobody was killed");
        assert!(field.bench.cloud.guest.is_frozen("/logs").await.unwrap(), "{what}: the window was over");

        let report = read(run.await.unwrap()).report;
        let unit = &report.units[0];
        assert_eq!(
            (unit.level, &unit.reasons[..]),
            (Level::Filesystem, &["script.post".to_owned()][..]),
            "{what}"
        );
        let why = unit.findings.iter().find(|finding| finding.code == "script.post").unwrap();
        assert!(why.message.contains("exit 14"), "{what}: {why:?}");
        if who == "server" {
            field.server.unload().await.unwrap();
            field.server.start().await.unwrap();
            field.server.load(Load::Acked, 120).await.unwrap();
        }
        assert!(field.writes().await, "{what}: no client can write any more");
        field.server.unload().await.unwrap();
        assert_eq!(field.left(&before).await, Vec::<String>::new(), "{what}: left in the guest");
    }
    field.server.stop().await.unwrap();
    field.bench.close().await;
}
