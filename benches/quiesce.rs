//! How long clients of a database wait for a snapshot: with appsnap's recipe, beside a freeze alone and the recipes that
//! peers ship, in the same run, on the same server under the same load. As root, on Linux, with the servers installed:
//!
//!     cargo bench --bench quiesce
//!     ROUNDS=30 ONLY='mariadb' cargo bench --bench quiesce
//!
//! ROUNDS (10), ONLY (words that have to be in `ENGINE CONTENDER`). A wait is the longest gap between two acknowledged
//! commits of one client, from the start of a run until a second after its end, while others keep the server busy. Contenders
//! take turns round by round. What was expected, and what came of it, is in docs/quiesce.md. Everything happens in a guest
//! of the local cloud: loop devices, namespaces, servers on unix sockets.
#![allow(clippy::disallowed_methods)] // it measures real time

#[path = "quiesce/contender.rs"]
mod contender;
#[path = "../tests/common/endpoint.rs"]
#[allow(dead_code)] // the tests use the rest
mod endpoint;
#[path = "common/figures.rs"]
mod figures;
#[path = "../tests/common/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "quiesce/table.rs"]
mod table;
#[path = "quiesce/watch.rs"]
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use appsnap::clock::Clock;
use appsnap::guest::told::Told;
use appsnap::local::engine::{Engine, Load, Server};
use appsnap::local::guest::{DiskSpec, Guest, GuestSpec};
use appsnap::local::store::{Filesystem, Store};
use contender::Contender;
use endpoint::{Endpoint, Manners};
use figures::{chosen, machine, number, read};
use table::Row;
use watch::Watch;

const DISKS: [(&str, Filesystem, &str); 3] = [
    ("d-bp1system", Filesystem::Ext4, "/"),
    ("d-bp1data", Filesystem::Ext4, "/data"),
    ("d-bp1logs", Filesystem::Xfs, "/logs"),
];
/// Until the group shows: a window as in the cloud.
const SHOWS: Duration = Duration::from_millis(300);
/// What is held may be let go of a little later than the report comes.
const AFTER: Duration = Duration::from_secs(1);

fn main() {
    if !std::env::args().any(|word| word == "--bench") {
        return println!("quiesce: not measured: this is for `cargo bench`");
    }
    if !appsnap::local::host::is_root() {
        return println!("quiesce: not measured: needs root");
    }
    let rounds = number("ROUNDS", 10);
    println!("{}\n", machine(rounds, AFTER));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    let mut rows = Vec::new();
    for engine in Engine::ALL {
        let missing = engine.missing();
        if missing.is_empty() {
            runtime.block_on(measure(&mut rows, engine, rounds));
        } else {
            let (name, package) = (engine.name(), engine.package());
            println!("{name}: not measured: needs {} (package {package})", missing.join(", "));
        }
    }
    println!("{}\n\n{}", table::HEAD, table::table(&rows));
    println!("Took {} s; load average now {}.", start.elapsed().as_secs(), read("/proc/loadavg"));
}

/// One engine, every contender.
async fn measure(rows: &mut Vec<Row>, engine: Engine, rounds: u64) {
    let who = contender::ALL.into_iter().filter(|who| who.is_for(engine));
    let who: Vec<Contender> =
        who.filter(|who| chosen(&format!("{} {}", engine.name(), who.name(engine)))).collect();
    if who.is_empty() {
        return;
    }
    let ids: Vec<&str> = DISKS.iter().map(|(id, ..)| *id).collect();
    let endpoint = Endpoint::start(Manners { visible_after: SHOWS, hang: false }, &ids);
    let clock = Clock::system();
    let store = Arc::new(Store::create(None, 8 * 1024).await.unwrap());
    let disks = DISKS.iter().map(|(id, filesystem, mount)| DiskSpec {
        disk_id: (*id).into(),
        size_mib: 1024,
        filesystem: *filesystem,
        mount: Some((*mount).into()),
    });
    let spec = GuestSpec {
        instance_id: "i-bench".into(),
        host_name: "bench".into(),
        disks: disks.collect(),
        ca_pem: endpoint.ca_pem.clone(),
        hosts: Vec::new(),
    };
    let guest = Arc::new(Guest::start(&clock, &store, &spec).await.unwrap());
    let log = (engine != Engine::Redis).then_some("/logs/db");
    let server = Server::make(engine, &guest, "/data/db", log).await.unwrap();
    contender::prepare(&guest, &server).await;
    server.load(Load::Busy, 3600).await.unwrap();
    let mut watch = Watch::start(&guest, engine);
    let first = rows.len();
    rows.extend(who.iter().map(|who| Row::new(engine, *who)));
    for round in 0..rounds {
        for turn in 0..who.len() {
            let row = &mut rows[first + (turn + round as usize) % who.len()];
            let id = format!("r{round}-{turn}");
            let commands = row.contender.commands(engine, &id, endpoint.port, &ids);
            for (name, bytes) in ["find", "go"].iter().zip(&commands) {
                guest.write_file(&format!("/run/{name}"), bytes, "600").await.unwrap();
            }
            tokio::time::sleep(AFTER).await;
            watch.longest();
            let script = if commands.is_empty() { "sleep 1" } else { "sh /run/find; sh /run/go" };
            let output = guest.exec(script, &[], b"", Duration::from_secs(120)).await.unwrap();
            tokio::time::sleep(AFTER).await;
            let stall = watch.longest();
            match frozen(&output.text(), commands.is_empty()) {
                Ok(frozen) => row.add(stall, frozen),
                Err(why) => {
                    row.failed += 1;
                    eprintln!("{}, {}: {why}", engine.name(), row.contender.name(engine));
                }
            }
        }
    }
    eprintln!("{}: {rounds} rounds", engine.name());
    watch.stop();
    server.unload().await.unwrap();
    server.stop().await.unwrap();
    store.close().await.unwrap();
}

/// From the first freeze to the last thaw, of a run that reached all that it wanted.
fn frozen(output: &str, nothing: bool) -> Result<Duration, String> {
    if nothing {
        return Ok(Duration::ZERO);
    }
    let told = Told::read(output).ok_or_else(|| format!("no report in {output:?}"))?;
    let all = u32::try_from(DISKS.len()).unwrap();
    match told.freeze {
        Some(freeze) if told.reasons.is_empty() && [freeze.wanted, freeze.thawed] == [all; 2] => {
            Ok(Duration::from_micros(u64::try_from(freeze.micros).map_err(|_| "the clock was set back")?))
        }
        _ => Err(format!("{:?}, frozen: {:?}", told.reasons, told.freeze)),
    }
}
