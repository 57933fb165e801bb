//! A database under load, and three copies of it side by side: of the running disks, of the frozen ones, and with the
//! engine's recipe. The engine is started on each, and its own log tells which is which.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Args, Shown, event, operator, read, received, restore, tags};
use crate::acs::Client;
use crate::cli::{Failure, progress, show};
use crate::clock::Clock;
use crate::guest::{recipes, verify};
use crate::local::cloud::{DISKS, LocalCloud};
use crate::local::engine::{Engine, Load, Server};
use crate::local::guest::DiskSpec;
use crate::local::scratch;
use crate::report::{Level, Report};
use crate::verify::judge::{self, State, Told, Verdict};

const DATA: &str = "/data/db";
/// Data on one disk and log on another can be torn apart.
const LOG: &str = "/logs/db";
/// How long the load goes on at most, seconds.
const LONG: u32 = 300;
/// How long an engine may take to come up on a copy, seconds.
const LIMIT: &str = "120";
/// How many lines of a log are shown to people.
const LINES: usize = 12;

/// How a copy came to be.
struct Made<'a> {
    name: &'static str,
    how: &'static str,
    /// The highest number that a client had been told to be safe before the copy was begun.
    acknowledged: u64,
    /// Of the run that made it.
    report: Option<&'a Report>,
    /// Disks made from it, in the order of [`DISKS`].
    disks: Vec<String>,
}

/// How the engine came up on a copy.
struct Proved {
    name: &'static str,
    level: Level,
    verdict: Verdict,
    lost: u64,
    json: Value,
}

pub(super) async fn run(
    args: &Args,
    clock: &Clock,
    cloud: &LocalCloud,
    engine: Engine,
    seed: u64,
) -> Result<Shown, Failure> {
    let name = engine.name();
    progress(args.json, &format!("{name} is made in the guest ..."));
    let server = Server::make(engine, &cloud.guest, DATA, log(engine)).await?;
    install(args, cloud, &server).await?;
    server.load(Load::Busy, LONG).await?;
    progress(args.json, "clients write to it; the disks are copied as they are ...");
    let enough = server.acked().await? + 100;
    while server.acked().await? < enough {
        clock.sleep(Duration::from_millis(50)).await;
    }
    let at_crash = server.acked().await?;
    for (id, ..) in DISKS {
        cloud.store.take_snapshot(id, &format!("s-plain-{id}"))?;
        clock.sleep(Duration::from_millis(50)).await; // each disk at an instant of its own
    }
    progress(args.json, "a first tick: the file systems are frozen, the database is not asked ...");
    let at_frozen = server.acked().await?;
    let (_, frozen) =
        tick(args, clock, cloud, &json!({ "consistency": "filesystem", "minimumLevel": "crash" })).await?;
    progress(args.json, "a second tick: with the recipe ...");
    let at_application = server.acked().await?;
    let (body, report) = tick(args, clock, cloud, &json!({})).await?;
    let (webhook, received) = received(cloud);
    server.unload().await?;

    progress(args.json, &format!("{name} is started on each of the copies ..."));
    let mut plain = Vec::new();
    for (id, ..) in DISKS {
        let disk = format!("d-plain{}", &id[2..]);
        cloud.store.disk_from_snapshot(&format!("s-plain-{id}"), &disk)?;
        plain.push(disk);
    }
    let client = operator(clock, cloud)?;
    let (frozen_disks, disks) =
        (restored(clock, &client, &frozen).await?, restored(clock, &client, &report).await?);
    let made = [
        ("crash", "the disks as they were, each at an instant of its own", at_crash, None, plain),
        ("frozen", "the file systems frozen, the database not asked", at_frozen, Some(&frozen), frozen_disks),
        ("application", "the recipe's scripts around the freeze", at_application, Some(&report), disks),
    ];
    let mut copies = Vec::new();
    for (name, how, acknowledged, report, disks) in made {
        if disks.len() == DISKS.len() {
            let made = Made { name, how, acknowledged, report, disks };
            copies.push(prove(clock, cloud, &client, engine, made).await?);
        }
    }
    let kept = copies.iter().any(Proved::as_promised);
    let code = if report.exit_code() == 0 { u8::from(!kept) } else { report.exit_code() };
    let disks: Vec<&Value> = copies.iter().map(|copy| &copy.json).collect();
    let json = json!({ "report": body, "disks": disks, "webhook": webhook });
    let mut text = show::run(&report, received.as_ref());
    text += &told(engine, &copies, kept);
    text += &format!("\n(seed {seed})\n");
    Ok(Shown { json, text, code })
}

/// Redis has no log on another disk.
fn log(engine: Engine) -> Option<&'static str> {
    (engine != Engine::Redis).then_some(LOG)
}

/// Puts the recipe where the sequence looks for scripts.
async fn install(args: &Args, cloud: &LocalCloud, server: &Server) -> Result<(), Failure> {
    let name = server.engine.name();
    let recipe = recipes::find(name).ok_or_else(|| Failure::new(format!("there is no recipe {name}")))?;
    let made = cloud.guest.exec("mkdir -m 755 /etc/appsnap", &[], b"", Duration::from_secs(10)).await?;
    made.checked("the guest gets no /etc/appsnap")?;
    let (pre, post, conf) = (recipe.prescript(), recipe.postscript(), server.conf().await? + "\n");
    let own = format!("{name}.conf");
    for (file, text, mode) in [
        ("prescript.sh", pre, &*args.script_mode),
        ("postscript.sh", post, &args.script_mode),
        (&own, conf, "0600"),
    ] {
        cloud.guest.write_file(&format!("/etc/appsnap/{file}"), text.as_bytes(), mode).await?;
    }
    Ok(())
}

async fn tick(
    args: &Args,
    clock: &Clock,
    cloud: &LocalCloud,
    fields: &Value,
) -> Result<(Value, Report), Failure> {
    let event = event(args, clock, fields)?;
    read(&cloud.function.invoke(event.to_string().into_bytes()).await)
}

/// Disks made from the run's group by the API; none where there is no group.
async fn restored(clock: &Clock, client: &Client, report: &Report) -> Result<Vec<String>, Failure> {
    let mut disks = Vec::new();
    for (id, ..) in DISKS {
        disks.extend(restore(clock, client, report, id).await?);
    }
    Ok(disks)
}

/// Starts the engine on a copy, in a guest of its own.
async fn prove(
    clock: &Clock,
    cloud: &LocalCloud,
    client: &Client,
    engine: Engine,
    made: Made<'_>,
) -> Result<Proved, Failure> {
    let name = engine.name();
    let (Some(script), Some(verdict)) = (verify::engine_script(name), judge::of(name)) else {
        return Err(Failure::new(format!("{name} cannot be tried on a copy")));
    };
    let disks = DISKS.iter().zip(made.disks).map(|((_, filesystem, mount, _), disk_id)| DiskSpec {
        disk_id,
        size_mib: 0,
        filesystem: *filesystem,
        mount: Some((*mount).into()),
    });
    let args = [DATA, log(engine).unwrap_or("-"), LIMIT];
    let output = scratch::run(clock, &cloud.store, disks.collect(), script, &args, engine.query()).await?;
    let text = output.text();
    let told = Told::read(&text);
    if output.status == Some(2) || told.facts.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!(
            "{name} cannot be judged on the copy {}: {text} {said}",
            made.name
        )));
    }
    let verdict = verdict(&told);
    let kept: u64 = verdict.answer.as_deref().and_then(|answer| answer.parse().ok()).unwrap_or(0);
    let unit = made.report.and_then(|report| report.units.first());
    let level = unit.map_or(Level::Crash, |unit| unit.level);
    let tags = match made.report {
        Some(report) => tags(client, report, DISKS[1].0).await?,
        None => json!({}),
    };
    let json = json!({
        "copy": made.name,
        "how": made.how,
        "engine": name,
        "version": told.facts.get("version"),
        "level": level,
        "snapshotGroupId": unit.and_then(|unit| unit.snapshot_group_id.clone()),
        "tags": tags,
        "state": verdict.state.as_str(),
        "clean": verdict.state == State::Clean,
        "redoBytes": verdict.redo_bytes,
        "rolledBack": verdict.rolled_back,
        "why": verdict.why,
        "evidence": verdict.evidence,
        "startMs": told.number("startMs"),
        "acknowledgedBefore": made.acknowledged,
        "keptInCopy": kept,
    });
    Ok(Proved { name: made.name, level, lost: made.acknowledged.saturating_sub(kept), verdict, json })
}

impl Proved {
    /// The copy with the recipe: clean, nothing lost.
    fn as_promised(&self) -> bool {
        self.name == "application"
            && self.level == Level::Application
            && self.verdict.state == State::Clean
            && self.lost == 0
    }
}

/// The copies, side by side.
fn told(engine: Engine, copies: &[Proved], kept: bool) -> String {
    let name = engine.name();
    let place = log(engine).map_or("on one disk", |_| "on two disks");
    let mut out =
        format!("\nCopies of {name} under load, data and log {place}, and its own words on each:\n");
    for copy in copies {
        let (json, verdict) = (&copy.json, &copy.verdict);
        let number = |key: &str| json[key].as_u64().map_or("?".to_owned(), |number| number.to_string());
        out += &format!(
            "\n  {}: {}\n    level {}; {}: {}\n    up after {} ms; of {} acknowledged writes {} lost\n",
            copy.name,
            json["how"].as_str().unwrap_or_default(),
            copy.level.as_str(),
            verdict.state.as_str(),
            verdict.why,
            number("startMs"),
            number("acknowledgedBefore"),
            copy.lost,
        );
        verdict.evidence.iter().take(LINES).for_each(|line| out += &format!("      {line}\n"));
        let more = verdict.evidence.len().saturating_sub(LINES);
        if more > 0 {
            out += &format!("      ... and {more} lines more\n");
        }
    }
    out + match kept {
        true => "\nKEPT: the application copy starts clean, with every acknowledged write\n",
        false => "\nNOT KEPT: there is no application copy that starts clean with every acknowledged write\n",
    }
}
