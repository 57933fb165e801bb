//! What a round does: which crime, at which instant, under which request. All of it comes from seed and number.

use std::time::Duration;

use appsnap::local::world::{Fault, Mishap, Settings};
use serde_json::{Value, json};

/// splitmix64: the same seed and round give the same plan.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, salt: u64) -> Self {
        Self(seed ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }
}

/// Who is hit by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Sequence,
    SequenceGroup,
    Freezer,
    Watchdog,
    /// Of the watchdog's group, any but itself and the holders.
    Sibling,
    Holder,
    Holders,
    Timer,
    Curl,
    Prescript,
    PrescriptGroup,
    /// The parent of the sequence, where it is the agent's: the agent sees nothing any more.
    Agent,
}

/// A crime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crime {
    Kill(Whom),
    /// SIGSTOP, and SIGCONT later.
    Stop(Whom),
    /// Watchdog and sequence at once, also their groups: only a `settle` from outside remains.
    Both,
    Function,
    /// The vendor's StopInvocation.
    StopInvocation,
    /// The agent comes back without its results.
    AgentRestart,
    /// A freezer that takes longer than the limit, before or after the real freeze.
    Slow,
    /// FIFREEZE hangs in the kernel: what its file system lies on was frozen by somebody else.
    Jam,
    /// Calls of the guest: the create, or the looks at the group.
    Create,
    Look,
    /// The group shows after the window.
    LateGroup,
    /// The create is answered after the window.
    LateAnswer,
    /// Calls of the function.
    FunctionApi,
    /// The same event twice at once.
    TwoEvents,
    /// Everything of the run but the watchdog itself is killed at once.
    AllButWatchdog,
    /// The holders are killed, then the sequence with its group.
    HoldersAndSequence,
    /// The watchdog's clocks are killed and the sequence is stopped.
    TimersAndStop,
    /// A helper is killed, and an innocent process gets its id.
    Innocent(Whom),
    /// Another event for the same guest meanwhile; `true`: after the sequence was killed.
    Rival(bool),
    /// The prescript's launcher is slow to start, and the sequence is killed meanwhile.
    SlowLaunch,
}

/// Crimes with their names and how many there are of each in a deck.
pub const KINDS: [(&str, Crime, u32); 31] = [
    ("sequence-kill", Crime::Kill(Whom::Sequence), 3),
    ("sequence-stop", Crime::Stop(Whom::Sequence), 2),
    ("group-kill", Crime::Kill(Whom::SequenceGroup), 3),
    ("group-stop", Crime::Stop(Whom::SequenceGroup), 2),
    ("freezer-kill", Crime::Kill(Whom::Freezer), 2),
    ("freezer-stop", Crime::Stop(Whom::Freezer), 2),
    ("watchdog-kill", Crime::Kill(Whom::Watchdog), 1),
    ("watchdog-stop", Crime::Stop(Whom::Watchdog), 1),
    ("sibling-kill", Crime::Kill(Whom::Sibling), 2),
    ("sibling-stop", Crime::Stop(Whom::Sibling), 1),
    ("holder-kill", Crime::Kill(Whom::Holder), 2),
    ("holders-kill", Crime::Kill(Whom::Holders), 1),
    ("holders-stop", Crime::Stop(Whom::Holders), 1),
    ("timer-kill", Crime::Kill(Whom::Timer), 1),
    ("curl-kill", Crime::Kill(Whom::Curl), 2),
    ("curl-stop", Crime::Stop(Whom::Curl), 1),
    ("prescript-kill", Crime::Kill(Whom::Prescript), 1),
    ("prescript-group-kill", Crime::Kill(Whom::PrescriptGroup), 1),
    ("prescript-stop", Crime::Stop(Whom::PrescriptGroup), 1),
    ("agent-stop", Crime::Stop(Whom::Agent), 1),
    ("agent-kill", Crime::Kill(Whom::Agent), 1),
    ("agent-restart", Crime::AgentRestart, 1),
    ("both-kill", Crime::Both, 2),
    ("function-kill", Crime::Function, 2),
    ("invocation-stop", Crime::StopInvocation, 2),
    ("freeze-slow", Crime::Slow, 2),
    ("freeze-jam", Crime::Jam, 2),
    ("api-create", Crime::Create, 3),
    ("api-look", Crime::Look, 2),
    ("api-late", Crime::LateGroup, 1),
    ("api-late-answer", Crime::LateAnswer, 1),
];

/// Kinds that strike outside of the guest; kept apart since the list above is as long as it may be read.
pub const OUTSIDE: [(&str, Crime, u32); 2] =
    [("api-function", Crime::FunctionApi, 2), ("event-twice", Crime::TwoEvents, 1)];

/// Two things at once.
pub const DOUBLE: [(&str, Crime, u32); 9] = [
    ("all-but-watchdog", Crime::AllButWatchdog, 2),
    ("holders-and-sequence", Crime::HoldersAndSequence, 1),
    ("timers-and-stop", Crime::TimersAndStop, 1),
    ("pid-again-holder", Crime::Innocent(Whom::Holder), 1),
    ("pid-again-curl", Crime::Innocent(Whom::Curl), 1),
    ("pid-again-timer", Crime::Innocent(Whom::Timer), 1),
    ("rival", Crime::Rival(false), 1),
    ("rival-after-kill", Crime::Rival(true), 1),
    ("launch-slow", Crime::SlowLaunch, 1),
];

/// The instant of a crime, in milliseconds after something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The event was sent.
    Sent(u64),
    /// The sequence is at work.
    Started(u64),
    /// The prescript is at work.
    Prescript(u64),
    /// The prescript may start.
    Launch(u64),
    /// The window is open.
    Armed(u64),
    /// The window is over.
    Over(u64),
    /// Before the event is sent a trap is set, which springs by itself.
    Set,
}

/// A round.
#[derive(Debug, Clone)]
pub struct Plan {
    pub round: u64,
    pub kind: &'static str,
    pub crime: Crime,
    pub when: When,
    /// How long a stop lasts, or a freeze is slow.
    pub millis: u64,
    /// Which one, where there are several.
    pub which: u64,
    /// `timeoutInSeconds`.
    pub limit: u64,
    /// Whether the system disk is in the group.
    pub root: bool,
    pub fast: bool,
    /// What rcu_expedited was before.
    pub rcu: &'static str,
    /// `filesystem`: without scripts.
    pub consistency: &'static str,
    pub prescript_millis: u64,
    pub settings: Settings,
}

/// The names of all kinds.
pub fn names() -> Vec<&'static str> {
    KINDS.iter().chain(&OUTSIDE).chain(&DOUBLE).map(|(name, ..)| *name).collect()
}

/// The kinds are dealt as cards are, so that few rounds have many of them.
fn deal(seed: u64, round: u64, only: Option<&str>) -> (&'static str, Crime) {
    let mut deck: Vec<(&'static str, Crime)> = Vec::new();
    for (name, crime, count) in KINDS.iter().chain(&OUTSIDE).chain(&DOUBLE) {
        if only.is_none_or(|only| *name == only) {
            deck.extend((0..*count).map(|_| (*name, *crime)));
        }
    }
    assert!(!deck.is_empty(), "ONLY: one of {:?}", names());
    let mut dice = Dice::new(seed, 1_000_000 + round / deck.len() as u64);
    for at in (1..deck.len()).rev() {
        deck.swap(at, dice.below(at as u64 + 1) as usize);
    }
    deck[(round % deck.len() as u64) as usize]
}

impl Plan {
    pub fn draw(seed: u64, round: u64, only: Option<&str>) -> Self {
        let (kind, crime) = deal(seed, round, only);
        let mut dice = Dice::new(seed, round);
        let limit = dice.between(2, 4);
        let shows = dice.between(150, 700);
        let prescript_millis = dice.between(50, 400);
        let mut settings = Settings {
            seed: dice.below(u64::MAX),
            visible_after: Duration::from_millis(shows),
            upload: Duration::from_millis(300),
            ..Settings::default()
        };
        let when = match (crime, dice.below(20)) {
            (Crime::Slow | Crime::Jam | Crime::Create | Crime::Look | Crime::LateGroup, _) => When::Set,
            (Crime::LateAnswer | Crime::FunctionApi | Crime::TwoEvents, _) => When::Set,
            (Crime::SlowLaunch, _) => When::Launch(dice.below(600)),
            (Crime::AllButWatchdog | Crime::HoldersAndSequence | Crime::TimersAndStop, _) => {
                When::Armed(dice.below(shows + 100))
            }
            (Crime::Innocent(Whom::Curl), _) => When::Armed(dice.below(shows)),
            (Crime::Kill(Whom::Freezer) | Crime::Stop(Whom::Freezer), _) => When::Armed(0),
            (Crime::Kill(whom) | Crime::Stop(whom), _) if is_prescript(whom) => {
                When::Prescript(dice.below(prescript_millis))
            }
            (Crime::Kill(Whom::Curl) | Crime::Stop(Whom::Curl), _) => When::Armed(dice.below(shows + 100)),
            (_, 0..13) => When::Armed(dice.below(shows + 150)),
            (Crime::Kill(_) | Crime::Stop(_) | Crime::Both, 13..15) => When::Started(dice.below(400)),
            (_, 13..16) => When::Prescript(dice.below(400)),
            (Crime::Both, _) => When::Armed(dice.below(shows)),
            (_, 16..18) => When::Over(dice.below(150)),
            (Crime::Function, _) => When::Sent(dice.below(2500)),
            _ => When::Started(dice.below(900)),
        };
        settings.faults = faults(crime, &mut dice);
        match crime {
            Crime::LateGroup => settings.visible_after = Duration::from_millis(dice.between(1300, 5000)),
            Crime::LateAnswer => settings.create_delay = Duration::from_millis(dice.between(800, 5000)),
            _ => {}
        }
        let consistency = match crime {
            Crime::Kill(whom) | Crime::Stop(whom) if is_prescript(whom) => "application",
            Crime::SlowLaunch => "application",
            _ if dice.below(10) == 0 => "filesystem",
            _ => "application",
        };
        Self {
            round,
            kind,
            crime,
            when,
            millis: dice.between(50, limit * 1000 + 2500),
            which: dice.below(u64::MAX),
            limit,
            // With a frozen root the agent is deaf: nobody could settle from outside.
            root: crime != Crime::Both && dice.below(4) > 0,
            fast: dice.below(2) == 0,
            rcu: if dice.below(4) == 0 { "1" } else { "0" },
            consistency,
            prescript_millis,
            settings,
        }
    }

    /// The timer's tick for this round: every round has an occurrence of its own.
    pub fn event(&self) -> Vec<u8> {
        self.event_of(22)
    }

    /// Another event for the same guest.
    pub fn rival(&self) -> Vec<u8> {
        self.event_of(23)
    }

    fn event_of(&self, day: u64) -> Vec<u8> {
        let (hours, minutes, seconds) = (self.round / 3600 % 24, self.round / 60 % 60, self.round % 60);
        let time = format!("2026-11-{day}T{hours:02}:{minutes:02}:{seconds:02}Z");
        let fields = json!({
            "consistency": self.consistency,
            "targets": { "instanceIds": [appsnap::local::cloud::INSTANCE], "disks": if self.root { "all" } else { "data" } },
            "linux": { "scriptTimeoutInSeconds": 8, "timeoutInSeconds": self.limit, "visibleTimeoutInSeconds": 1,
                       "fastFreeze": self.fast },
        });
        super::bench::tick(&time, fields)
    }

    /// What a failure is found again by.
    pub fn replay(&self, seed: u64, only: Option<&str>) -> String {
        let only = only.map(|only| format!("ONLY={only} ")).unwrap_or_default();
        format!("{only}SEED={seed} ROUND={} cargo test --test torture -- --ignored --nocapture", self.round)
    }

    /// In a line.
    pub fn told(&self) -> Value {
        json!({ "round": self.round, "kind": self.kind, "when": format!("{:?}", self.when), "millis": self.millis, "limit": self.limit,
                "root": self.root, "fast": self.fast, "rcu": self.rcu, "consistency": self.consistency,
                "visibleAfter": format!("{:?}", self.settings.visible_after), "createDelay": format!("{:?}", self.settings.create_delay),
                "faults": format!("{:?}", self.settings.faults) })
    }
}

/// One of these has to be in a report whose level is lower than wanted: codes of reasons, findings and errors, or names
/// of steps that went wrong. What a machine under load brings about by itself is always allowed.
pub fn fitting(crime: Crime) -> Vec<&'static str> {
    let own: &[&str] = match crime {
        Crime::Kill(Whom::Sequence | Whom::SequenceGroup) | Crime::Both => {
            &["report.lost", "settle-in-guest"]
        }
        Crime::AllButWatchdog | Crime::HoldersAndSequence => &["report.lost", "settle-in-guest"],
        Crime::StopInvocation | Crime::AgentRestart | Crime::SlowLaunch => {
            &["report.lost", "settle-in-guest"]
        }
        Crime::Kill(Whom::Agent) | Crime::Stop(Whom::Agent) | Crime::Function => {
            &["report.lost", "settle-in-guest", "guest."]
        }
        // A watchdog without clocks does not wait for one that stands still.
        Crime::TimersAndStop => &["report.lost", "settle-in-guest", "watchdog.", "create.failed"],
        Crime::Stop(Whom::Sequence | Whom::SequenceGroup) => {
            &["watchdog.", "create.failed", "script.timeout", "connect.failed"]
        }
        Crime::Kill(Whom::Freezer) | Crime::Stop(Whom::Freezer) | Crime::Slow | Crime::Jam => &["freeze."],
        Crime::Kill(Whom::Watchdog | Whom::Holder | Whom::Holders)
        | Crime::Stop(Whom::Watchdog | Whom::Sibling | Whom::Holder | Whom::Holders)
        | Crime::Innocent(Whom::Holder) => &["watchdog.", "fs.hidden", "freeze.failed"],
        // A clock that dies says that time is up: the run is ended.
        Crime::Kill(Whom::Sibling) => &["watchdog.", "report.lost", "settle-in-guest"],
        Crime::Kill(Whom::Timer) | Crime::Stop(Whom::Timer) | Crime::Innocent(_) => {
            &["script.", "watchdog.", "create.failed", "connect.failed", "report.lost", "settle-in-guest"]
        }
        Crime::Kill(Whom::Curl) | Crime::Stop(Whom::Curl) => &["create.failed", "connect.failed"],
        Crime::Kill(Whom::Prescript | Whom::PrescriptGroup) => &["script.failed"],
        Crime::Stop(Whom::Prescript | Whom::PrescriptGroup) => &["script.timeout"],
        Crime::Create | Crime::LateAnswer => &["create.failed"],
        Crime::Look => &["connect.failed", "group.exists"],
        Crime::LateGroup => &["group.not_visible"],
        Crime::FunctionApi => {
            &["tag.failed", "settle-in-guest", "guest.", "Throttling.User", "ServiceUnavailable"]
        }
        Crime::Rival(true) => &["report.lost", "settle-in-guest", "busy"],
        Crime::TwoEvents | Crime::Rival(false) => &["busy"],
    };
    [own, &["group.not_visible", "group.unproven", "watchdog.fired", "thaw.early"]].concat()
}

fn is_prescript(whom: Whom) -> bool {
    matches!(whom, Whom::Prescript | Whom::PrescriptGroup)
}

fn faults(crime: Crime, dice: &mut Dice) -> Vec<Fault> {
    let code = |status, code: &str| Mishap::Code(status, code.into());
    let (action, nth, what) = match (crime, dice.below(8)) {
        (Crime::Create, 0) => ("CreateSnapshotGroup", None, Mishap::Hang),
        (Crime::Create, 1) => ("CreateSnapshotGroup", Some(1), Mishap::Hang),
        (Crime::Create, 2) => ("CreateSnapshotGroup", Some(1), Mishap::DropReply),
        (Crime::Create, 3) => ("CreateSnapshotGroup", Some(1), Mishap::DropRequest),
        (Crime::Create, 4) => ("CreateSnapshotGroup", Some(1), code(400, "Throttling.User")),
        (Crime::Create, 5) => ("CreateSnapshotGroup", Some(1), Mishap::DoneBut(500, "InternalError".into())),
        (Crime::Create, 6) => ("CreateSnapshotGroup", Some(1), Mishap::Twice),
        (Crime::Create, _) => ("CreateSnapshotGroup", None, Mishap::DropReply),
        // The first look is the function's, the second proves the guest's connection before the freeze; the others are
        // inside the window.
        (Crime::Look, 0) => ("DescribeSnapshotGroups", Some(2), code(400, "Throttling.User")),
        (Crime::Look, 1) => ("DescribeSnapshotGroups", Some(2), Mishap::DropReply),
        (Crime::Look, 2) => ("DescribeSnapshotGroups", Some(3), Mishap::DropReply),
        (Crime::Look, 3) => ("DescribeSnapshotGroups", Some(4), code(503, "ServiceUnavailable")),
        (Crime::Look, 4) => ("DescribeSnapshotGroups", Some(3), Mishap::Twice),
        (Crime::Look, 5) => ("DescribeSnapshotGroups", Some(3), Mishap::Delay(Duration::from_secs(4))),
        (Crime::Look, _) => ("DescribeSnapshotGroups", Some(3 + dice.below(4)), Mishap::Hang),
        (Crime::FunctionApi, 0) => ("RunCommand", Some(1), Mishap::DropReply),
        (Crime::FunctionApi, 1) => ("RunCommand", Some(2), Mishap::DropReply),
        (Crime::FunctionApi, 2) => ("RunCommand", Some(2), Mishap::Twice),
        (Crime::FunctionApi, 3) => {
            ("DescribeInvocationResults", Some(1 + dice.below(6)), code(503, "ServiceUnavailable"))
        }
        (Crime::FunctionApi, 4) => {
            ("DescribeInvocationResults", Some(1 + dice.below(6)), code(400, "Throttling.User"))
        }
        (Crime::FunctionApi, 5) => ("TagResources", Some(1 + dice.below(4)), Mishap::DropReply),
        (Crime::FunctionApi, 6) => ("TagResources", Some(1 + dice.below(4)), code(400, "Throttling.User")),
        (Crime::FunctionApi, _) => ("RunCommand", Some(2), Mishap::DoneBut(500, "InternalError".into())),
        _ => return Vec::new(),
    };
    vec![Fault { action: action.into(), nth, what }]
}
