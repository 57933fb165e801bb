//! A run in which something goes wrong, and the judgement of what came of it.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::check::Seen;
use super::diary::Diary;
use super::strike::{self, THEIRS};
use super::{Args, Shown, at_work, copies, event, operator, read, received};
use crate::cli::fault::{Fault, Kind};
use crate::cli::{Failure, progress};
use crate::clock::Clock;
use crate::local::cloud::LocalCloud;
use crate::report::{Report, Status};

/// How long the same event is sent again while the run is under way.
const REPEATS: SignedDuration = SignedDuration::from_secs(90);
/// So much longer than the window allows is for good.
const TOO_LONG: Duration = Duration::from_secs(20);

pub(super) async fn run(
    args: &Args,
    clock: &Clock,
    cloud: &LocalCloud,
    fault: &'static Fault,
    seed: u64,
) -> Result<Shown, Failure> {
    let before = at_work(args, clock, cloud).await?;
    let diary = Diary::new(clock);
    strike::prepare(fault.kind, cloud, &diary).await?;
    progress(args.json, &format!("the timer ticks. {}", fault.happens));
    let theirs = |mount: &&String| fault.kind == Kind::FreezeForeign && *mount == THEIRS;
    let mounts = cloud.guest.mounts().iter().filter(|mount| !theirs(mount)).cloned().collect();
    let writers = diary.writers(&cloud.guest, mounts);
    let event = event(args, clock, &json!({ "linux": strike::linux(fault.kind) }))?.to_string().into_bytes();
    diary.note("the timer ticks");
    let rescued = Cell::new(false);
    let (body, report, struck) = tokio::select! {
        invoked = invoked(clock, cloud, fault.kind, &diary, event) => invoked?,
        failure = rescue(clock, cloud, fault.kind, &diary, &rescued) => return Err(failure),
    };
    drop(writers);
    diary.note(format!("the function's report is there: {}", report.status.as_str()));
    progress(args.json, "the guest, the cloud and the copies are asked how it went ...");
    let client = operator(clock, cloud)?;
    let disks = copies(clock, cloud, &client, &report, &before).await?;
    let seen = Seen {
        clock,
        cloud,
        client: &client,
        fault,
        report: &report,
        diary: &diary,
        rescued: rescued.get(),
        struck: struck.map_err(|failure| failure.message),
        disks: &disks,
    };
    let checks = seen.checks().await?;
    let survived = checks.iter().all(|check| check.ok);
    let text = super::story::tell(fault, &diary, &report, &checks, survived) + &format!("\n(seed {seed})\n");
    let (webhook, _) = received(cloud);
    let fault = json!({ "name": fault.name, "survived": survived, "checks": checks });
    let json = json!({ "report": body, "disks": disks, "webhook": webhook, "fault": fault });
    Ok(Shown { json, text, code: u8::from(!survived) })
}

/// Should the promise be broken, the demo still has an end: what is frozen for far too long is thawed from outside.
async fn rescue(
    clock: &Clock,
    cloud: &LocalCloud,
    kind: Kind,
    diary: &Diary,
    rescued: &Cell<bool>,
) -> Failure {
    let limit = Duration::from_secs(strike::window(kind)) + TOO_LONG;
    loop {
        clock.sleep(Duration::from_secs(1)).await;
        let frozen = cloud.guest.mounts().iter().find(|mount| diary.waiting(mount) > limit);
        if let Some(mount) = frozen {
            rescued.set(true);
            diary.note(format!("{mount} IS LEFT FROZEN; the demo thaws everything from outside"));
            if let Err(failure) = cloud.guest.thaw_all().await {
                return failure.into();
            }
        }
    }
}

/// Sends the event and strikes meanwhile; then the same event again, as long as the run is under way.
async fn invoked(
    clock: &Clock,
    cloud: &LocalCloud,
    kind: Kind,
    diary: &Diary,
    event: Vec<u8>,
) -> Result<(Value, Report, Result<String, Failure>), Failure> {
    let mut invoke = pin!(cloud.function.invoke(event.clone()));
    let mut strike = pin!(strike::strike(kind, clock, cloud, diary));
    let (mut outcome, struck) = tokio::select! {
        outcome = &mut invoke => (outcome, Err(Failure::new("the run was over before it could happen"))),
        struck = &mut strike => (invoke.await, struck),
    };
    if kind == Kind::FunctionKilled {
        let how = outcome.error_type.unwrap_or("it lived");
        diary.note(format!("the platform: {how}; the same event is sent again until the run is settled"));
        let from = clock.now();
        loop {
            outcome = cloud.function.invoke(event.clone()).await;
            let pending = read(&outcome).is_ok_and(|(_, report)| report.status == Status::Pending);
            if !pending || clock.now().duration_since(from) > REPEATS {
                break;
            }
            clock.sleep(Duration::from_millis(500)).await;
        }
    }
    let (body, report) = read(&outcome)?;
    Ok((body, report, struck))
}
