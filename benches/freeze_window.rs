//! How long a guest is frozen, and what a writer sees of it: appsnap beside its peers, in the same run, on the same
//! file systems, against the same endpoint. As root, on Linux:
//!
//!     cargo bench --bench freeze_window
//!     ROUNDS=100 ONLY='ext4 idle 0ms' cargo bench --bench freeze_window
//!
//! ROUNDS (20; half of that with the API delay), PAUSE_MS (200; back-to-back freezes are faster than any in real life),
//! ONLY (words that have to be in `FS LOAD DELAY CONTENDER`). Contenders take turns round by round, so that noise hits
//! all alike. Everything happens in the tests' rig: loop devices, a private mount namespace, servers on loopback.
//!
//! What was expected before anything was measured, as median beyond the API's own time, idle, one file system:
//! (b) 40 to 50 ms, nearly all of it RCU grace periods inside FIFREEZE; (a) 20 to 30 ms more, for curl's start and TLS;
//! (c) as (b) and some ms for its RPC; appsnap by default some 10 ms above (b), for the forks of fsfreeze and the first
//! look at the group; with fastFreeze 6 to 8 ms on ext4, less on XFS, and the sum of both for two. Two file systems
//! cost nearly twice as much as one in all others. Under fio everybody pays for the flush, and differences drown. With
//! the API's delay appsnap looks at the group with growing pauses, up to 100 ms after 0.4 s, and so misses
//! (b) + 10 ms by half a pause.
#![allow(clippy::disallowed_methods)] // it measures real time

#[path = "freeze_window/contender.rs"]
mod contender;
#[path = "../tests/common/endpoint.rs"]
#[allow(dead_code)] // the tests use the rest
mod endpoint;
#[path = "common/figures.rs"]
mod figures;
#[path = "../tests/common/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "freeze_window/table.rs"]
mod table;
#[path = "freeze_window/writer.rs"]
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contender::{Contender, Target};
use endpoint::{Endpoint, Manners};
use figures::{chosen, machine, number, read};
use rig::Rig;
use table::Row;
use writer::Writer;

const TARGETS: [Target; 3] = [
    Target { name: "ext4", disks: &["d-bp1ext4"], mounts: &["/mnt/d"] },
    Target { name: "xfs", disks: &["d-bp1xfs"], mounts: &["/mnt/x"] },
    Target { name: "both", disks: &rig::DISKS, mounts: &["/mnt/d", "/mnt/x"] },
];
/// Name, from the request to its answer, from the answer to the group showing, milliseconds; as once observed.
const DELAYS: [(&str, u64, u64); 2] = [("0ms", 0, 0), ("319ms", 319, 400)];
const RCU: &str = "/sys/kernel/rcu_expedited";

static STOPPED: AtomicBool = AtomicBool::new(false);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == "writer") {
        return writer::run(&args[1..]);
    }
    if !args.iter().any(|word| word == "--bench") {
        return println!("freeze_window: not measured: this is for `cargo bench`");
    }
    let tools = [
        "unshare",
        "losetup",
        "mkfs.ext4",
        "mkfs.xfs",
        "fsfreeze",
        "curl",
        "setsid",
        "awk",
        "gzip",
        "base64",
    ];
    let missing = appsnap::local::host::missing(&tools);
    if !appsnap::local::host::is_root() || !missing.is_empty() {
        return println!("freeze_window: not measured: needs root and {}", tools.join(", "));
    }
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(tokio::signal::ctrl_c()).unwrap();
        eprintln!("stopped: the round ends, and everything is taken away");
        STOPPED.store(true, Ordering::Relaxed);
    });
    let rounds = number("ROUNDS", 20);
    let pause = Duration::from_millis(number("PAUSE_MS", 200));
    let rcu = std::fs::read_to_string(RCU).unwrap_or_default();
    println!("{}\n", machine(rounds, pause));
    if std::fs::File::options().write(true).open(RCU).is_err() {
        println!("{RCU} cannot be written: fastFreeze has no effect here\n");
    }
    let start = Instant::now();
    let mut rows = Vec::new();
    for target in &TARGETS {
        for load in ["idle", "fio"] {
            measure(&mut rows, target, load, rounds, pause);
        }
    }
    println!("{}\n\n{}\n{}", table::HEAD, table::summary(&rows), table::table(&rows));
    println!("Took {} s; load average now {}.", start.elapsed().as_secs(), read("/proc/loadavg"));
    let after = std::fs::read_to_string(RCU).unwrap_or_default();
    if after != rcu {
        println!("{RCU} WAS {} AND IS {}", rcu.trim(), after.trim());
    }
}

/// One file system under one load, with every delay and contender.
fn measure(rows: &mut Vec<Row>, target: &'static Target, load: &'static str, rounds: u64, pause: Duration) {
    for (delay, answer, show) in DELAYS {
        let chosen = |who: &Contender| chosen(&format!("{} {load} {delay} {}", target.name, who.name()));
        let mut contenders: Vec<Contender> = contender::ALL.into_iter().filter(chosen).collect();
        if contenders.is_empty() || STOPPED.load(Ordering::Relaxed) {
            continue;
        }
        let visible_after = Duration::from_millis(show);
        let endpoint = Endpoint::start(Manners { visible_after, hang: false }, target.disks);
        endpoint.answer_after(Duration::from_millis(answer));
        let mut rig = Rig::start();
        contender::prepare(&mut rig, &endpoint);
        contenders.retain(|who| {
            let lacks = who.lacks(&mut rig);
            let told = lacks.filter(|_| rows.is_empty()); // once is enough
            told.iter().for_each(|what| println!("{}: not measured: needs {what}", who.name()));
            lacks.is_none()
        });
        if load == "fio" && !start_fio(&mut rig, target) {
            println!("{} fio {delay}: fio not installed: not measured", target.name);
            continue;
        }
        let mut writer = Writer::start(&mut rig, target.mounts);
        let first = rows.len();
        rows.extend(contenders.iter().map(|&contender| Row {
            contender,
            target: target.name,
            load,
            delay,
            failed: 0,
            frozen: vec![],
            beyond: vec![],
            stall: vec![],
        }));
        let rounds = if answer == 0 { rounds } else { rounds.div_ceil(2) };
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                if STOPPED.load(Ordering::Relaxed) {
                    return;
                }
                let row = &mut rows[first + (turn + round as usize) % contenders.len()];
                let id = format!("r{round}-{turn}");
                row.contender.load(&mut rig, &endpoint, target, &id);
                std::thread::sleep(pause);
                writer.longest();
                let done = row.contender.run(&mut rig, endpoint.port, target, &id);
                std::thread::sleep(Duration::from_millis(20)); // the gap over the thaw comes to its end
                let stall = writer.longest();
                match done {
                    Ok(frozen) => {
                        let show =
                            if row.contender.waits_for_visible() { visible_after } else { Duration::ZERO };
                        row.frozen.push(frozen);
                        row.beyond.push(frozen.saturating_sub(endpoint.spent() + show));
                        row.stall.push(stall);
                    }
                    Err(why) => {
                        row.failed += 1;
                        eprintln!("{} {load} {delay}, {}: {why}", target.name, row.contender.name());
                    }
                }
            }
        }
        eprintln!("{} {load} {delay}: {rounds} rounds", target.name);
    }
}

/// Starts the load; `false`: there is no fio.
fn start_fio(rig: &mut Rig, target: &Target) -> bool {
    let jobs: Vec<String> = target.mounts.iter().map(|at| format!("--name=load --directory={at}")).collect();
    let options = "--rw=randwrite --bs=4k --size=16m --fsync=16 --ioengine=psync --time_based --runtime=3600";
    let line = format!(
        "command -v fio >/dev/null || exit 1; fio --output=/dev/null {options} {} & sleep 2; pidof fio",
        jobs.join(" ")
    );
    rig.sh(&line).1 == 0
}
