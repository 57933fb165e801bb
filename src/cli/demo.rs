//! `appsnap demo`: one timer tick from `events/` through the function's binary against a fresh local cloud, shown whole,
//! then disks made from the group set beside equally atomic copies taken without a freeze. With `--fault NAME` something
//! goes wrong meanwhile; with `--database NAME` the guest has a database, and the copies are its.

mod check;
mod database;
mod diary;
mod faulty;
mod story;
mod strike;

use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, bootstrap, client, fault, install, out, progress, report_in, show};
use crate::acs::{Client, Credentials};
use crate::api::ecs::{self, CreateDisk};
use crate::clock::Clock;
use crate::local::cloud::{DISKS, INSTANCE, LocalCloud, OPERATOR, REGION};
use crate::local::engine::Engine;
use crate::local::fc::Outcome;
use crate::local::inspect;
use crate::local::world;
use crate::local::writer;
use crate::report::{Level, Report};

/// The guest shares this machine's kernel, and nothing here may turn that one's switches.
const OWN_RCU: &str = "echo 0 >/run/rcu && mount --bind /run/rcu /sys/kernel/rcu_expedited";
const TICK: &str = include_str!("../../events/timer.json");

/// One timer tick against a fresh local cloud.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON document on standard output, nothing else.
    #[arg(long)]
    json: bool,
    /// Mode of the scripts in the guest, e.g. 0755 to see what a wrong one does.
    #[arg(long, default_value = "0700", value_parser = mode)]
    script_mode: String,
    /// The request's minimumLevel.
    #[arg(long, value_parser = ["crash", "filesystem", "application"])]
    minimum_level: Option<String>,
    /// Install nothing; name what is missing instead.
    #[arg(long)]
    no_install: bool,
    /// Seed of the local cloud (ids, instants of the cuts).
    #[arg(long)]
    seed: Option<u64>,
    /// Ask for linux.fastFreeze. The guest of the demo has an rcu_expedited of its own: this machine's is not touched.
    #[arg(long)]
    fast_freeze: bool,
    /// A famous failure of others to survive; `list` tells which there are. Exit code 0: it was survived as promised
    /// (nothing is frozen, the label is not overstated, the postscript ran), 1: it was not.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["script_mode", "minimum_level"])]
    fault: Option<String>,
    /// A database under load in the guest (postgresql, mariadb, redis), and how it starts on three copies: of the disks
    /// as they were, of the frozen ones, and with its recipe. Exit code 0: the last one is clean, with every acknowledged
    /// write.
    #[arg(long, value_name = "NAME", value_parser = engine, conflicts_with_all = ["fault", "fast_freeze"])]
    database: Option<Engine>,
    /// Also write a page; not supported yet.
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
}

fn mode(text: &str) -> Result<String, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(format!("{mode:04o}")),
        _ => Err("not an octal mode such as 0700".into()),
    }
}

fn engine(name: &str) -> Result<Engine, String> {
    let known = || Engine::ALL.map(Engine::name).join(", ");
    Engine::named(name).ok_or_else(|| format!("no server of it can be started here; known are: {}", known()))
}

/// The last webhook message as the sink received it.
pub(super) struct Received {
    pub(super) bytes: usize,
    pub(super) fault: Option<String>,
    pub(super) text: String,
}

/// What a run came to, in both forms.
struct Shown {
    json: Value,
    text: String,
    code: u8,
}

pub(super) async fn run(args: Args) -> Result<u8, Failure> {
    if args.html.is_some() {
        return Err(Failure::usage("--html is not supported yet"));
    }
    let fault = match args.fault.as_deref() {
        Some("list") if args.json => return out(&format!("{:#}\n", fault::list())).map(|()| 0),
        Some("list") => return out(&fault::table()).map(|()| 0),
        Some(name) => Some(fault::find(name)?),
        None => None,
    };
    install::ensure(!args.no_install, args.database).await?;
    let function = bootstrap::find(args.json).await?;
    let clock = Clock::system();
    let seed = args.seed.unwrap_or_else(|| (clock.jitter() * 1e9) as u64);
    let settings = match fault {
        Some(fault) => strike::settings(fault.kind, seed),
        None => world::Settings { seed, ..world::Settings::default() },
    };
    progress(args.json, "starting the local cloud: API over HTTPS, one guest with three disks ...");
    let cloud = LocalCloud::start(&clock, settings, &function, 0).await?;
    let work = async {
        if args.fast_freeze {
            let own = cloud.guest.exec(OWN_RCU, &[], b"", Duration::from_secs(10)).await?;
            own.checked("the guest gets no rcu_expedited of its own")?;
        }
        match (fault, args.database) {
            (Some(fault), _) => faulty::run(&args, &clock, &cloud, fault, seed).await,
            (None, Some(engine)) => database::run(&args, &clock, &cloud, engine, seed).await,
            (None, None) => tick(&args, &clock, &cloud, seed).await,
        }
    };
    let shown = tokio::select! {
        shown = work => shown,
        _ = tokio::signal::ctrl_c() => Err(Failure { message: "interrupted; everything is taken away".into(), code: 130 }),
    };
    let closed = cloud.close().await;
    let shown = shown?;
    closed?;
    out(&if args.json { format!("{:#}\n", shown.json) } else { shown.text })?;
    Ok(shown.code)
}

/// The request inside the tick, with what the command line changes and with `fields`.
fn event(args: &Args, clock: &Clock, fields: &Value) -> Result<Value, Failure> {
    let read = |text: &str| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| Failure::new(format!("events/timer.json: {error}")))
    };
    let mut event = read(TICK)?;
    let mut request = read(event["payload"].as_str().unwrap_or_default())?;
    if let Some(level) = &args.minimum_level {
        request["minimumLevel"] = json!(level);
    }
    for (name, value) in fields.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    if args.fast_freeze {
        request["linux"]["fastFreeze"] = json!(true);
    }
    event["triggerTime"] = json!(clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    event["payload"] = json!(request.to_string());
    Ok(event)
}

async fn tick(args: &Args, clock: &Clock, cloud: &LocalCloud, seed: u64) -> Result<Shown, Failure> {
    cloud.write_scripts(&args.script_mode).await?;
    let before = at_work(args, clock, cloud).await?;
    progress(args.json, "the timer ticks: bootstrap gets the event ...");
    let event = event(args, clock, &json!({}))?;
    let (body, report) = read(&cloud.function.invoke(event.to_string().into_bytes()).await)?;
    progress(args.json, "disks are made from the group and looked at ...");
    let disks = copies(clock, cloud, &operator(clock, cloud)?, &report, &before).await?;
    let (webhook, received) = received(cloud);
    let json = json!({ "report": body, "disks": disks, "webhook": webhook });
    let text = show::demo(&json, &report, received.as_ref(), seed);
    Ok(Shown { json, text, code: report.exit_code() })
}

/// Writers at work on the data disks, and a copy of each without a freeze; what each writer had been told to be safe.
async fn at_work(args: &Args, clock: &Clock, cloud: &LocalCloud) -> Result<Vec<u64>, Failure> {
    let data = &DISKS[1..];
    for (_, _, mount, _) in data {
        writer::start(&cloud.guest, mount).await?;
    }
    progress(args.json, "a writer on each data disk writes and fsyncs ...");
    let mut before = Vec::new();
    for (id, _, mount, _) in data {
        while writer::acknowledged(&cloud.guest, mount).await? < 40 {
            clock.sleep(Duration::from_millis(50)).await;
        }
        cloud.store.take_snapshot(id, &format!("s-plain-{id}"))?;
        before.push(writer::acknowledged(&cloud.guest, mount).await?);
    }
    Ok(before)
}

/// The report in the function's answer.
fn read(outcome: &Outcome) -> Result<(Value, Report), Failure> {
    let answer: Value = serde_json::from_slice(&outcome.body).unwrap_or_default();
    let body = report_in(&answer);
    let report = serde_json::from_value(body.clone()).map_err(|_| {
        Failure::new(format!(
            "the function gave no report: {}\n{}",
            String::from_utf8_lossy(&outcome.body),
            outcome.log.join("\n")
        ))
    })?;
    Ok((body.clone(), report))
}

/// Disks made from the group, beside the copies without a freeze.
async fn copies(
    clock: &Clock,
    cloud: &LocalCloud,
    client: &Client,
    report: &Report,
    before: &[u64],
) -> Result<Vec<Value>, Failure> {
    let mut disks = Vec::new();
    for ((id, filesystem, ..), before) in DISKS[1..].iter().zip(before) {
        let Some(restored) = restore(clock, client, report, id).await? else { continue };
        let copy = inspect::judge(&cloud.store.disk(&restored), *filesystem).await?;
        let plain = inspect::judge(&cloud.store.snapshot(&format!("s-plain-{id}")), *filesystem).await?;
        let mounted = inspect::mount(&cloud.store, &cloud.store.disk(&restored), *filesystem, true).await?;
        let kept = tokio::fs::read(mounted.path(writer::FILE))
            .await
            .ok()
            .and_then(|bytes| writer::count(&bytes))
            .unwrap_or_default();
        mounted.unmount().await?;
        disks.push(json!({
            "diskId": id,
            "tags": tags(client, report, id).await?,
            "filesystem": filesystem.name(),
            "snapshotCopy": { "clean": copy.clean, "evidence": copy.evidence },
            "plainCopy": { "clean": plain.clean, "evidence": plain.evidence },
            "acknowledgedBefore": before,
            "keptInSnapshot": kept,
        }));
    }
    Ok(disks)
}

/// The last webhook message: its body, and how it came.
fn received(cloud: &LocalCloud) -> (Option<Value>, Option<Received>) {
    let delivery = cloud.sink.deliveries().into_iter().next_back();
    let webhook = delivery.as_ref().map(|d| serde_json::from_slice::<Value>(&d.body).unwrap_or_default());
    let received = delivery.map(|d| Received {
        bytes: d.body.len(),
        fault: d.fault,
        text: String::from_utf8_lossy(&d.body).into_owned(),
    });
    (webhook, received)
}

/// A disk made from the group's snapshot of `disk`, by the API; `None` where there is no such snapshot.
async fn restore(
    clock: &Clock,
    client: &Client,
    report: &Report,
    disk: &str,
) -> Result<Option<String>, Failure> {
    let snapshots =
        report.units.iter().filter(|unit| unit.level > Level::None).flat_map(|unit| &unit.snapshots);
    let Some(snapshot) = snapshots.into_iter().find(|snapshot| snapshot.disk_id == disk) else {
        return Ok(None);
    };
    let said = |error: crate::acs::Error| Failure::new(error.to_string());
    let made = ecs::create_disk(
        client,
        &CreateDisk {
            region_id: REGION,
            zone_id: &format!("{REGION}-k"),
            snapshot_id: &snapshot.snapshot_id,
            category: "cloud_essd",
            size: DISKS[1].3 as i64,
            name: "restored",
            client_token: &clock.nonce(),
            tags: &[],
            ..CreateDisk::default()
        },
    )
    .await
    .map_err(said)?;
    for _ in 0..100 {
        let seen = ecs::describe_disks(client, REGION, std::slice::from_ref(&made)).await.map_err(said)?;
        if seen.iter().any(|disk| disk.status == "Available") {
            return Ok(Some(made));
        }
        clock.sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::new(format!(
        "the disk {made}, made from {} of {INSTANCE}, did not become available",
        snapshot.snapshot_id
    )))
}

/// The tags that the cloud shows on the group's snapshot of `disk`.
async fn tags(client: &Client, report: &Report, disk: &str) -> Result<Value, Failure> {
    let ids: Vec<String> = report
        .units
        .iter()
        .flat_map(|unit| &unit.snapshots)
        .filter(|s| s.disk_id == disk)
        .map(|s| s.snapshot_id.clone())
        .collect();
    let seen = ecs::describe_snapshots(client, REGION, &ids)
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok(seen
        .iter()
        .flat_map(|snapshot| &snapshot.tags)
        .map(|tag| (tag.key.clone(), json!(tag.value)))
        .collect::<serde_json::Map<_, _>>()
        .into())
}

/// A client with the operator's key of the local cloud.
fn operator(clock: &Clock, cloud: &LocalCloud) -> Result<Client, Failure> {
    let endpoint = cloud.endpoint();
    let env = |name: &str| matches!(name, "APPSNAP_ECS_ENDPOINT").then(|| endpoint.clone());
    let (id, secret) = OPERATOR;
    let credentials =
        Credentials::new(Some(id.into()), Some(secret.into()), None).ok_or_else(|| Failure::new("no key"))?;
    client(clock, &env, REGION, Some(&cloud.ca_file), credentials)
}
