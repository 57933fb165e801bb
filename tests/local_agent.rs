//! The local cloud's Cloud Assistant agent against a real guest: its bad manners are what the sequence must survive.

mod common;
#[path = "common/guests.rs"]
#[allow(dead_code)] // each test file uses its part
mod guests;

use std::sync::Arc;
use std::time::Duration;

use appsnap::clock::Clock;
use appsnap::local::agent::{Agent, Command, Event};
use appsnap::local::guest::Guest;
use guests::{SHORT, freeze, needs, start, text, wait_until};
use tokio::sync::mpsc;

const TICK: Duration = Duration::from_millis(100);

fn command(invoke_id: &str, content: &str) -> Command {
    Command {
        invoke_id: invoke_id.to_owned(),
        content: content.to_owned(),
        timeout: SHORT,
        working_dir: None,
    }
}

/// Starts a command; its events.
fn begin(agent: &Agent, command: Command) -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(100);
    agent.run(command, sender);
    events
}

/// All events of a command, to the last.
async fn all(mut events: mpsc::Receiver<Event>) -> Vec<Event> {
    let mut seen = Vec::new();
    let to_end = async {
        while let Some(event) = events.recv().await {
            seen.push(event);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), to_end).await.expect("the command ends");
    seen
}

/// The next event, within ten seconds.
async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(SHORT, events.recv()).await.expect("an event").expect("more events")
}

fn finished(exit_code: i32, output: &str) -> Event {
    Event::Finished { exit_code, output: output.as_bytes().to_vec(), dropped: 0 }
}

async fn agent(instance_id: &str) -> (Arc<Guest>, Agent, Arc<appsnap::local::store::Store>) {
    let (store, guest) = start(instance_id).await;
    let agent = Agent::new(&Clock::system(), &guest, TICK);
    (guest, agent, store)
}

#[tokio::test]
async fn a_command_runs_as_under_the_real_agent() {
    if !needs() {
        return;
    }
    let (guest, agent, _store) = agent("i-agent").await;
    let script = "#!/bin/sh\nread -r x; echo \"$x<\" >&2; pwd; [ \"$(ps -o pgid= $PPID)\" -eq $PPID ] && echo own group; exit 5";
    let events = all(begin(&agent, command("t-plain", script))).await;
    assert_eq!(
        (&events[0], events.last().unwrap()),
        (&Event::Started, &finished(5, "<\n/root\nown group\n"))
    );
    let left = "stat -c %a /usr/local/share/aliyun-assist/work/script/t-plain.sh; findmnt -no TARGET /";
    assert_eq!(text(&guest, left).await, "755\n/", "left behind, for all to read");

    let again = all(begin(&agent, command("t-plain", "exit 0"))).await;
    assert!(matches!(&again[..], [Event::Failed("ScriptFileExisted", _)]), "{again:?}");
    let nowhere = Command { working_dir: Some("/nowhere".to_owned()), ..command("t-dir", "true") };
    let nowhere = all(begin(&agent, nowhere)).await;
    assert!(matches!(&nowhere[..], [Event::Failed("DirectoryNotExists", _)]), "{nowhere:?}");
    let killed = all(begin(&agent, command("t-kill", "#!/bin/sh\nkill -9 $PPID; sleep 0.1"))).await;
    assert_eq!(killed.last(), Some(&finished(-1, "")));
    let off = all(begin(&agent, command("t-off", "exit 193"))).await;
    assert_eq!(off[1..], [finished(193, ""), Event::PowerOff]);
    let reboot = all(begin(&agent, command("t-boot", "exit 194"))).await;
    assert_eq!(reboot.last(), Some(&Event::Reboot));
}

#[tokio::test]
async fn output_is_streamed_in_small_ticks_and_loses_its_middle() {
    if !needs() {
        return;
    }
    let (_guest, agent, _store) = agent("i-output").await;
    let script = "echo head; sleep 0.5; head -c 60000 /dev/zero | tr '\\0' x; sleep 1; echo tail";
    let events = all(begin(&agent, command("t-long", script))).await;
    let ticks: Vec<&Vec<u8>> =
        events.iter().filter_map(|e| if let Event::Output(b) = e { Some(b) } else { None }).collect();
    assert_eq!(ticks[0], b"head\n");
    let streamed: usize = ticks.iter().map(|tick| tick.len()).sum();
    assert!(ticks.iter().all(|tick| tick.len() <= 2048) && (6001..=8048).contains(&streamed), "{streamed}");
    let Some(Event::Finished { exit_code: 0, output, dropped }) = events.last() else { panic!("{events:?}") };
    assert!(output.starts_with(b"head\nxxx") && output.ends_with(b"xxxtail\n"));
    assert_eq!(output.len() as u64 + dropped, 60_010);
    // Who stays in the background is not waited for.
    let began = Clock::system().now();
    let events = all(begin(&agent, command("t-back", "sleep 50 & echo done"))).await;
    assert_eq!(events.last(), Some(&finished(0, "done\n")));
    assert!(Clock::system().now().duration_since(began).as_secs() < 10);
}

#[tokio::test]
async fn only_the_direct_child_is_killed_and_a_restart_loses_the_result() {
    if !needs() {
        return;
    }
    let (guest, agent, _store) = agent("i-kill").await;
    let lives = |name: &'static str| {
        let guest = guest.clone();
        async move { text(&guest, &format!("pgrep -f 'sleep {name}' >/dev/null && echo yes")).await == "yes" }
    };
    let late =
        Command { timeout: Duration::from_secs(1), ..command("t-late", "echo on; sleep 41; echo never") };
    let events = all(begin(&agent, late)).await;
    assert_eq!(events.last(), Some(&Event::TimedOut { output: b"on\n".to_vec(), dropped: 0 }));
    assert!(lives("41").await, "a grandchild lives on");

    let mut events = begin(&agent, command("t-stop", "sleep 42; true"));
    assert_eq!(next(&mut events).await, Event::Started);
    wait_until(async || lives("42").await).await;
    agent.stop("t-stop");
    assert_eq!(all(events).await, [Event::Stopped]);
    assert!(lives("42").await);

    let script = "#!/bin/sh\ntrap '' PIPE; echo one; sleep 2; echo two; echo survived >/root/proof";
    let mut events = begin(&agent, command("t-lost", script));
    assert_eq!(
        [next(&mut events).await, next(&mut events).await],
        [Event::Started, Event::Output(b"one\n".to_vec())]
    );
    agent.restart();
    assert_eq!(all(events).await, [Event::Lost]);
    wait_until(async || text(&guest, "cat /root/proof").await == "survived").await;
    let after = all(begin(&agent, command("t-after", "echo back"))).await;
    assert_eq!(after.last(), Some(&finished(0, "back\n")));
}

#[tokio::test]
async fn a_frozen_root_makes_the_agent_deaf() {
    if !needs() {
        return;
    }
    let (guest, agent, _store) = agent("i-deaf").await;
    let late = Command { timeout: Duration::from_secs(1), ..command("t-late", "#!/bin/sh\nsleep 43; true") };
    let mut late = begin(&agent, late);
    assert_eq!(next(&mut late).await, Event::Started);
    freeze(&guest, "/").await;
    let mut rescue = begin(&agent, command("t-rescue", "fsfreeze --unfreeze /"));
    Clock::system().sleep(Duration::from_secs(3)).await;
    assert!(guest.is_frozen("/").await.unwrap() && !guest.is_frozen("/data").await.unwrap());
    assert!(rescue.try_recv().is_err(), "a rescue command cannot even start");
    assert!(late.try_recv().is_err(), "nor does the timeout strike");
    guest.thaw_all().await.unwrap();
    assert!(matches!(all(late).await[..], [Event::TimedOut { .. }]), "it strikes late");
    assert!(
        matches!(all(rescue).await.last(), Some(Event::Finished { exit_code: 1, .. })),
        "nothing left to thaw"
    );
}
