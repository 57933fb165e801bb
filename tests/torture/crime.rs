//! Commits the crimes.

use std::time::Duration;

use appsnap::acs::{Call, Kind};
use appsnap::api::{assistant, ecs};
use appsnap::local::cloud::REGION;
use appsnap::local::host;
use rustix::process::{Signal, kill_process_group};
use tokio::process::Command;

use super::inside::{Process, signal};
use super::plan::{Crime, Plan, Whom};
use super::site::Site;

/// What stays to be done after a crime.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// SIGCONT to these, once the stop is over.
    pub stopped: Vec<Process>,
    /// And to their groups.
    pub groups: bool,
    /// Has the id of one that was killed.
    pub innocent: Option<Process>,
}

/// What is set up before the event is sent; the guest's fsfreeze runs `/run/crime` once, before its first freeze.
pub async fn set(site: &Site, plan: &Plan) {
    let slow = plan.limit as f64 + 0.2 + (plan.millis as f64 / 3000.0);
    if plan.crime == Crime::SlowLaunch {
        std::fs::write(
            site.inside.path("slow-launch"),
            format!("{:.2}\n", 0.2 + plan.millis as f64 / 2000.0),
        )
        .unwrap();
    }
    let script = match plan.crime {
        Crime::Slow if plan.which.is_multiple_of(2) => format!("sleep {slow:.2}\n"),
        Crime::Slow => format!("/usr/sbin/fsfreeze \"$@\"; code=$?; sleep {slow:.2}; exit $code\n"),
        Crime::Jam => {
            lay_loop(site).await;
            // Their thaw is armed before their freeze, and does not hold our lifeline.
            format!(
                "dd if=/dev/urandom of=/mnt/jam/dirty bs=64k count=40 2>/dev/null\n\
                 setsid sh -c 'sleep {slow:.2}; exec /usr/sbin/fsfreeze --unfreeze /data' </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &\n\
                 /usr/sbin/fsfreeze --freeze /data\n"
            )
        }
        _ => return,
    };
    std::fs::write(site.inside.path("crime"), script).unwrap();
}

/// Takes away what was set up.
pub async fn unset(site: &Site, plan: &Plan) -> Result<(), String> {
    let _ = std::fs::remove_file(site.inside.path("crime"));
    let _ = std::fs::remove_file(site.inside.path("crime.done"));
    let _ = std::fs::remove_file(site.inside.path("slow-launch"));
    if plan.crime != Crime::Jam {
        return Ok(());
    }
    // A file system that is frozen is unmounted all the same, and stays frozen: so only after the checks.
    let gone =
        site.sh("umount /mnt/jam && rm -rf /sys/block/loop* /sys/class/block/loop* /dev/loop* /data/jam.img");
    gone.await.map(|_| ())
}

/// A file system in a file on /data, seen by the sequence as one of the group, on top of /data.
async fn lay_loop(site: &Site) {
    let made = site.sh("truncate -s 24M /data/jam.img && mkfs.ext4 -qF /data/jam.img && mkdir -p /mnt/jam");
    made.await.unwrap();
    let image = format!("/proc/{}/root/data/jam.img", site.bench.cloud.guest.init());
    let mut command = Command::new("losetup");
    command.args(["--find", "--show"]).arg(&image);
    let device =
        host::run(command, b"", Duration::from_secs(10)).await.unwrap().checked("losetup").unwrap().text();
    let name = device.trim_start_matches("/dev/").to_owned();
    let number = std::fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap().trim().to_owned();
    let minor = number.split(':').nth(1).unwrap();
    let mounted = site
        .sh(&format!(
            "mknod -m 660 /dev/{name} b 7 {minor} && mkdir -p /sys/block/{name}/loop && echo {number} >/sys/block/{name}/dev && \
             echo /data/jam.img >/sys/block/{name}/loop/backing_file && ln -s ../../block/{name} /sys/class/block/{name} && \
             mount /dev/{name} /mnt/jam"
        ))
        .await;
    let mut command = Command::new("losetup");
    command.args(["--detach", &device]); // it goes with its mount
    host::run(command, b"", Duration::from_secs(10)).await.unwrap().checked("losetup --detach").unwrap();
    mounted.unwrap();
}

/// Whether a trap that was set before the event has sprung.
pub fn sprung(site: &Site, plan: &Plan) -> bool {
    let called =
        |action: &str, nth: u64| site.bench.cloud.server.cloud.look(|world, _| world.calls(action)) >= nth;
    match plan.crime {
        Crime::Slow => site.inside.has("crime.done"),
        // In D state, where no signal reaches it.
        Crime::Jam => site.inside.processes().iter().any(|one| one.name == "fsfreeze" && one.state == 'D'),
        Crime::LateGroup | Crime::LateAnswer => called("CreateSnapshotGroup", 1),
        Crime::Create | Crime::Look | Crime::FunctionApi => {
            plan.settings.faults.iter().any(|fault| called(&fault.action, fault.nth.unwrap_or(1)))
        }
        Crime::TwoEvents => true,
        _ => false,
    }
}

/// Commits it; `None`: there was nobody to hit.
pub async fn commit(site: &Site, plan: &Plan) -> Option<Aftermath> {
    let mut after = Aftermath::default();
    match plan.crime {
        Crime::Kill(whom) => {
            let hit = find(site, whom, plan.which);
            send(&hit, group_of(whom), Signal::KILL);
            (!hit.is_empty()).then_some(after)
        }
        Crime::Stop(whom) => {
            let hit = find(site, whom, plan.which);
            send(&hit, group_of(whom), Signal::STOP);
            after = Aftermath { stopped: hit, groups: group_of(whom), innocent: None };
            (!after.stopped.is_empty()).then_some(after)
        }
        Crime::Both => {
            let (watchdog, sequence) = (find(site, Whom::Watchdog, 0), find(site, Whom::SequenceGroup, 0));
            if watchdog.is_empty() || sequence.is_empty() {
                return None;
            }
            send(&watchdog, plan.which.is_multiple_of(2), Signal::KILL);
            send(&sequence, true, Signal::KILL);
            Some(after)
        }
        Crime::Function => {
            let pids = site.bench.cloud.function.pids();
            pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
            (!pids.is_empty()).then_some(after)
        }
        Crime::StopInvocation => stop_invocation(site).await.then_some(after),
        Crime::AgentRestart => {
            site.bench.cloud.agent.restart();
            Some(after)
        }
        Crime::AllButWatchdog => {
            let all = site.inside.processes();
            let watchdog = site.inside.named(&all, "watch")?;
            if site.inside.attempts().iter().any(|attempt| site.inside.begun(attempt, "post").is_some()) {
                return None; // a postscript that is killed cannot have run to its end
            }
            let ours: Vec<Process> = all.into_iter().filter(|one| one.pid != watchdog.pid).collect();
            send(&ours, false, Signal::KILL);
            Some(after)
        }
        Crime::HoldersAndSequence => {
            let (holders, sequence) = (find(site, Whom::Holders, 0), find(site, Whom::SequenceGroup, 0));
            send(&holders, false, Signal::KILL);
            send(&sequence, true, Signal::KILL);
            (!holders.is_empty() && !sequence.is_empty()).then_some(after)
        }
        Crime::TimersAndStop => {
            let all = site.inside.processes();
            let watchdog = site.inside.named(&all, "watch")?;
            let timers: Vec<Process> = all
                .iter()
                .filter(|one| one.group == watchdog.group && one.name == "sleep")
                .cloned()
                .collect();
            after = Aftermath { stopped: find(site, Whom::Sequence, 0), groups: false, innocent: None };
            send(&after.stopped, false, Signal::STOP);
            send(&timers, false, Signal::KILL);
            (!timers.is_empty() && !after.stopped.is_empty()).then_some(after)
        }
        Crime::Innocent(whom) => {
            let hit = find(site, whom, plan.which);
            send(&hit, false, Signal::KILL);
            after.innocent = Some(take_id(site, hit.first()?).await?);
            Some(after)
        }
        Crime::Rival(true) => {
            let hit = find(site, Whom::SequenceGroup, 0);
            send(&hit, true, Signal::KILL);
            (!hit.is_empty()).then_some(after)
        }
        Crime::SlowLaunch => {
            let hit = find(site, Whom::Sequence, 0);
            send(&hit, plan.which.is_multiple_of(2), Signal::KILL);
            (!hit.is_empty()).then_some(after)
        }
        // Set before, or done by the round.
        _ => Some(after),
    }
}

/// Starts a process that has the id (in the guest) of one that was killed.
async fn take_id(site: &Site, dead: &Process) -> Option<Process> {
    let id = dead.guest_pid;
    let taken = site
        .sh(&format!(
            "n=0; while [ $n -lt 200 ]; do n=$((n + 1)); [ -e /proc/{id} ] && {{ sleep 0.005; continue; }}; \
             echo {} >/proc/sys/kernel/ns_last_pid; setsid sleep 77 </dev/null >/dev/null 2>&1 & \
             [ $! = {id} ] && exit 0; kill $!; done; exit 1",
            id - 1
        ))
        .await;
    taken.ok()?;
    site.inside.processes().into_iter().find(|one| one.guest_pid == id)
}

/// The stop is over.
pub fn go_on(after: &Aftermath, site: &Site) {
    for one in &after.stopped {
        signal(one.pid, Signal::CONT);
        if after.groups {
            let _ = host::pid(one.group).map(|group| kill_process_group(group, Signal::CONT));
        }
    }
    // nsenter stops with its child.
    agents(site).iter().for_each(|pid| signal(*pid, Signal::CONT));
}

/// Whom the agent waits by for the sequence: on the host's side, the first ancestor that is not in the guest.
fn agents(site: &Site) -> Vec<u32> {
    let all = site.inside.processes();
    let Some(mut one) = site.inside.named(&all, "main") else { return Vec::new() };
    while let Some(parent) = all.iter().find(|parent| parent.pid == one.parent) {
        one = parent.clone();
    }
    Some(one.parent).filter(|pid| *pid > 1 && *pid != site.bench.cloud.guest.init()).into_iter().collect()
}

/// Whether a signal goes to the whole group.
fn group_of(whom: Whom) -> bool {
    matches!(whom, Whom::SequenceGroup | Whom::PrescriptGroup)
}

fn send(hit: &[Process], group: bool, what: Signal) {
    for one in hit {
        let led = host::pid(one.group).filter(|_| group);
        match led {
            Some(group) => drop(kill_process_group(group, what)), // ESRCH: it is gone by itself
            None => signal(one.pid, what),
        }
    }
}

/// Who is there to be hit.
fn find(site: &Site, whom: Whom, which: u64) -> Vec<Process> {
    let all = site.inside.processes();
    let named = |file: &str| site.inside.named(&all, file).into_iter().collect::<Vec<_>>();
    let one_of = |found: Vec<Process>| -> Vec<Process> {
        let at = which as usize % found.len().max(1);
        found.into_iter().nth(at).into_iter().collect()
    };
    let like = |so: &dyn Fn(&Process) -> bool| all.iter().filter(|one| so(one)).cloned().collect::<Vec<_>>();
    match whom {
        Whom::Sequence | Whom::SequenceGroup => named("main"),
        Whom::Watchdog => named("watch"),
        Whom::Holder => one_of(holders(site, &all)),
        Whom::Holders => holders(site, &all),
        Whom::Freezer => one_of(like(&|one| one.name == "fsfreeze" && one.arguments.contains(" --freeze "))),
        Whom::Curl => like(&|one| one.name == "curl"),
        Whom::Prescript | Whom::PrescriptGroup => {
            let attempt = site.inside.attempts().pop().unwrap_or_default();
            let begun = site.inside.begun(&attempt, "pre");
            like(&|one| Some(one.guest_pid) == begun)
        }
        Whom::Sibling => {
            let Some(watchdog) = site.inside.named(&all, "watch") else { return Vec::new() };
            let holders = holders(site, &all);
            let holds = |one: &Process| holders.iter().any(|holder| holder.pid == one.pid);
            one_of(like(&|one| one.group == watchdog.group && one.pid != watchdog.pid && !holds(one)))
        }
        Whom::Timer => one_of(like(&|one| one.name == "sleep")),
        Whom::Agent => {
            let agent = |pid: u32| Process {
                pid,
                guest_pid: 0,
                parent: 0,
                group: pid,
                state: 'S',
                name: "nsenter".into(),
                arguments: String::new(),
            };
            agents(site).into_iter().map(agent).collect()
        }
    }
}

/// A process for each file system.
fn holders(site: &Site, all: &[Process]) -> Vec<Process> {
    (1..=4).filter_map(|number| site.inside.named(all, &format!("held.{number}"))).collect()
}

/// The vendor's call on the invocation that runs the sequence.
async fn stop_invocation(site: &Site) -> bool {
    let Some(attempt) = site.inside.attempts().pop() else { return false };
    let client = &site.bench.client;
    let tags = [("appsnap:attempt".to_owned(), attempt)];
    let found = assistant::invocations_by_tag(client, REGION, &tags).await;
    let Ok(found) = found else { return false };
    let Some(invocation) = found.first() else { return false };
    let call = Call::new(&ecs::ECS, "StopInvocation", REGION, Kind::Idempotent)
        .param("RegionId", REGION)
        .param("InvokeId", &invocation.invoke_id);
    client.call(&call).await.is_ok()
}
