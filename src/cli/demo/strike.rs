//! How each fault is made to happen: what the cloud, the request and the scripts are like, and what is done in mid-run.

use std::pin::pin;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::diary::{Diary, WORTH_TELLING};
use crate::cli::Failure;
use crate::cli::fault::Kind;
use crate::clock::Clock;
use crate::local::cloud::LocalCloud;
use crate::local::guest::Guest;
use crate::local::host;
use crate::local::world::{Fault, Mishap, Settings};

/// The freeze window's limit, seconds: short where it has to be reached.
pub(super) fn window(kind: Kind) -> u64 {
    match kind {
        Kind::FreezeTooSlow => 2,
        Kind::ApiSilent => 4,
        _ => 10,
    }
}

/// How long the disks stall.
const STALL: Duration = Duration::from_secs(7);
/// How late the answer is during which the stall begins.
const LEAD: Duration = Duration::from_secs(2);
/// How long a window stays open in which something is to be done.
const HELD_OPEN: Duration = Duration::from_secs(3);
/// When something that has to come has not come.
const PATIENCE: SignedDuration = SignedDuration::from_secs(90);

const CREATE: &str = "CreateSnapshotGroup";

/// The mount point that another backup tool freezes.
pub(super) const THEIRS: &str = "/data";

/// What the cloud is like.
pub(super) fn settings(kind: Kind, seed: u64) -> Settings {
    let settings = Settings { seed, ..Settings::default() };
    let fault = |action: &str, nth, what| Settings {
        faults: vec![Fault { action: action.into(), nth, what }],
        ..settings.clone()
    };
    match kind {
        // The guest's first look, just before the freeze; the one before is the function's.
        Kind::FreezeTooSlow => fault("DescribeSnapshotGroups", Some(2), Mishap::Delay(LEAD)),
        Kind::ApiSilent => fault(CREATE, None, Mishap::Hang),
        Kind::ApiThrottled => fault(CREATE, Some(1), Mishap::Code(400, "Throttling.User".into())),
        Kind::AgentKilled | Kind::SequenceKilled | Kind::LockLost | Kind::FunctionKilled => {
            Settings { visible_after: HELD_OPEN, ..settings }
        }
        Kind::ScriptHangs | Kind::FreezeForeign => settings,
    }
}

/// What is asked for: the request's `linux`.
pub(super) fn linux(kind: Kind) -> Value {
    let script = if kind == Kind::ScriptHangs { 2 } else { 30 };
    json!({ "scriptTimeoutInSeconds": script, "timeoutInSeconds": window(kind) })
}

/// Both keep a trace in memory of how often they ran.
const PRE: &str = "#!/bin/sh\necho pre >>/run/trace\n";
const POST: &str = "#!/bin/sh\necho \"post $APPSNAP_OUTCOME\" >>/run/trace\n";
const HANG: &str = "trap '' TERM\necho $$ >/run/hanging\nsleep 4711 &\nsleep 4711\n";
/// A client in the background whose session is the lock, for a minute at most.
const LOCK: &str = "setsid sh -c 'exec 9>/run/db.lock; flock 9; echo $$ >/run/db.session; exec sleep 60' </dev/null >/dev/null 2>&1 &
n=0; until [ -s /run/db.session ]; do [ $((n += 1)) -le 100 ] || exit 1; sleep 0.05; done\n";
const UNLOCK: &str = "read -r session </run/db.session
if kill -0 \"$session\" && ! flock --nonblock /run/db.lock true; then kill \"$session\"; exit 0; fi
echo 'the session that took the lock is gone: others may have written meanwhile'; exit 1\n";

/// Puts the scripts into the guest, and does what has to be done before the tick.
pub(super) async fn prepare(kind: Kind, cloud: &LocalCloud, diary: &Diary) -> Result<(), Failure> {
    let (pre, post) = match kind {
        Kind::ScriptHangs => (HANG, ""),
        Kind::LockLost => (LOCK, UNLOCK),
        _ => ("", ""),
    };
    for (path, text) in [("/tmp/prescript.sh", [PRE, pre]), ("/tmp/postscript.sh", [POST, post])] {
        cloud.guest.write_file(path, text.concat().as_bytes(), "700").await?;
    }
    if kind == Kind::FreezeForeign {
        // Their watchdog first.
        cloud.guest.spawn("sleep 120; fsfreeze --unfreeze \"$1\"", &[THEIRS]).await?;
        in_guest(&cloud.guest, "fsfreeze --freeze \"$1\"", &[THEIRS]).await?;
        diary.note(format!("another backup tool has frozen {THEIRS}"));
    }
    Ok(())
}

/// Does in mid-run what has to be done then; what it did, or why it could not.
pub(super) async fn strike(
    kind: Kind,
    clock: &Clock,
    cloud: &LocalCloud,
    diary: &Diary,
) -> Result<String, Failure> {
    let guest = &cloud.guest;
    let done = match kind {
        Kind::FreezeTooSlow => {
            came(clock, cloud, "DescribeSnapshotGroups", 2).await?;
            diary.note("the disks stall: nothing that is written to them arrives");
            let long = freeze_under_a_stall(clock, cloud).await?;
            let limit = SignedDuration::from_secs(window(kind) as i64);
            if long <= limit {
                return Err(Failure::new(format!("the freeze took {} ms only", long.as_millis())));
            }
            format!(
                "the disks go on; a freeze has been in the kernel for {} ms, timeoutInSeconds is {}",
                long.as_millis(),
                limit.as_secs()
            )
        }
        Kind::AgentKilled => {
            frozen(clock, cloud, diary).await?;
            cloud.agent.restart();
            "the agent is dead and starts anew: the result of its command is lost".to_owned()
        }
        Kind::SequenceKilled => {
            frozen(clock, cloud, diary).await?;
            let script = "read -r pid rest <<END\n$(cat /run/appsnap/a-*/main)\nEND\nkill -KILL \"$pid\" && echo \"$pid\"";
            format!("SIGKILL to the sequence, process {} in the guest", in_guest(guest, script, &[]).await?)
        }
        Kind::LockLost => {
            frozen(clock, cloud, diary).await?;
            let script = "read -r pid </run/db.session && kill -KILL \"$pid\" && flock --timeout 5 /run/db.lock true && echo \"$pid\"";
            format!(
                "the database ends the session that holds the lock (process {}): another client gets it",
                in_guest(guest, script, &[]).await?
            )
        }
        Kind::FunctionKilled => {
            frozen(clock, cloud, diary).await?;
            let pids = cloud.function.pids();
            for pid in pids.iter().copied().filter_map(host::pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL); // its end is seen
            }
            format!("SIGKILL to the function: {} process(es) of it", pids.len())
        }
        Kind::ScriptHangs => {
            until(clock, guest, "[ -s /run/hanging ]").await?;
            "the prescript hangs, and so does its child".to_owned()
        }
        Kind::FreezeForeign => format!("{THEIRS} is frozen by somebody else"),
        Kind::ApiSilent | Kind::ApiThrottled => {
            came(clock, cloud, CREATE, 1).await?;
            match kind {
                Kind::ApiSilent => "the request for the snapshot has come; it will never be answered",
                _ => "the request for the snapshot has come; the answer is Throttling.User",
            }
            .to_owned()
        }
    };
    if kind != Kind::FreezeForeign {
        diary.note(done.clone());
    }
    Ok(done)
}

/// Lets the disks stall, and tells how long a freeze was seen in the guest meanwhile.
async fn freeze_under_a_stall(clock: &Clock, cloud: &LocalCloud) -> Result<SignedDuration, Failure> {
    const FREEZING: &str = "grep -lz '^--freeze$' /proc/[0-9]*/cmdline 2>/dev/null | head -n 1";
    let mut stall = pin!(cloud.store.stall(STALL));
    let (mut process, mut since, mut longest) = (String::new(), clock.now(), SignedDuration::ZERO);
    loop {
        let seen = tokio::select! {
            over = &mut stall => return over.map(|()| longest).map_err(Failure::from),
            seen = in_guest(&cloud.guest, FREEZING, &[]) => seen?,
        };
        if seen != process {
            (process, since) = (seen, clock.now());
        } else if !process.is_empty() {
            longest = longest.max(clock.now().duration_since(since));
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
}

/// The request comes from inside the freeze: when it is there, everything is frozen. A writer has to feel it as well.
async fn frozen(clock: &Clock, cloud: &LocalCloud, diary: &Diary) -> Result<(), Failure> {
    came(clock, cloud, CREATE, 1).await?;
    let from = clock.now();
    while diary.waiting("/") < WORTH_TELLING {
        patient(clock, from, "no writer was seen to wait")?;
        clock.sleep(Duration::from_millis(10)).await;
    }
    diary.note("all is frozen: a writer on / waits, the request for the snapshot has come");
    Ok(())
}

async fn came(clock: &Clock, cloud: &LocalCloud, action: &str, calls: u64) -> Result<(), Failure> {
    let from = clock.now();
    while cloud.server.cloud.look(|world, _| world.calls(action)) < calls {
        patient(clock, from, &format!("no {action} came"))?;
        clock.sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn until(clock: &Clock, guest: &Guest, script: &str) -> Result<(), Failure> {
    let from = clock.now();
    while !guest.exec(script, &[], b"", Duration::from_secs(5)).await?.ok() {
        patient(clock, from, &format!("this never came true in the guest: {script}"))?;
        clock.sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn patient(clock: &Clock, from: Timestamp, why: &str) -> Result<(), Failure> {
    if clock.now().duration_since(from) < PATIENCE { Ok(()) } else { Err(Failure::new(why)) }
}

/// What a script in the guest printed.
pub(super) async fn in_guest(guest: &Guest, script: &str, args: &[&str]) -> Result<String, Failure> {
    let output = guest.exec(script, args, b"", Duration::from_secs(10)).await?;
    Ok(output.checked("a script in the guest")?.text())
}
