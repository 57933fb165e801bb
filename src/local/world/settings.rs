//! How this cloud behaves, and what goes wrong in it on demand.

use std::collections::BTreeMap;
use std::time::Duration;

/// The knobs; the defaults are what was seen or documented of the real cloud.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of ids and of the instants of cuts: the same seed and calls give the same history.
    pub seed: u64,
    /// How late the answer to CreateSnapshotGroup is.
    pub create_delay: Duration,
    /// From receipt of a create to the group's visibility; each disk's cut falls in between.
    pub visible_after: Duration,
    /// From the cut to `accomplished` (the upload).
    pub upload: Duration,
    /// An invocation that no agent took up by then is `Aborted`.
    pub delivery_timeout: Duration,
    /// How much longer than its Timeout the cloud waits for the result of a command.
    pub result_grace: Duration,
    /// Whether DescribeInvocationResults shows output while the command runs (the vendor does not say).
    pub running_output: bool,
    /// Whether a group's tags reach its member snapshots (the vendor does not say).
    pub tags_reach_members: bool,
    /// Disks and GiB in a group: 16 and 32 TiB in most regions.
    pub group_limit: (usize, u64),
    /// Disks of an instance, the system disk among them: 17 for most types, 65 for the newest.
    pub disk_limit: usize,
    /// What the account's state forbids: CreateSnapshotGroup and DescribeSnapshots answer `InvalidAccountStatus.` and this,
    /// e.g. `SnapshotServiceUnavailable` or `NotEnoughBalance`.
    pub account_status: Option<String>,
    /// Calls per minute, account and region by action; the next is `Throttling.User` until the minute is over.
    pub limits: BTreeMap<String, u32>,
    /// No page of an answer is longer, whatever was asked for.
    pub page_limit: usize,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What goes wrong with the vendor's plugin in the guests.
    pub plugin_faults: Vec<PluginFault>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            create_delay: Duration::ZERO,
            visible_after: Duration::from_millis(400),
            upload: Duration::from_secs(2),
            delivery_timeout: Duration::from_secs(60),
            result_grace: Duration::from_secs(30),
            running_output: false,
            tags_reach_members: false,
            group_limit: (16, 32 * 1024),
            disk_limit: 17,
            account_status: None,
            limits: BTreeMap::new(),
            page_limit: usize::MAX,
            faults: Vec::new(),
            plugin_faults: Vec::new(),
        }
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The action, e.g. `CreateSnapshotGroup`.
    pub action: String,
    /// Which call of it, counted from 1; `None` means every one.
    pub nth: Option<u64>,
    /// What happens.
    pub what: Mishap,
}

/// The ways in which the vendor's plugin fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginFault {
    /// Its manager ends at once with this code.
    Exit(u8),
    /// It writes `AppConsistent` where it should write `APPConsistent`.
    Misspelt,
    /// It tags nothing.
    Untagged,
    /// The first freeze takes so long (whole seconds) that the plugin gives up before; on Linux.
    SlowFreeze(Duration),
}

/// The ways in which a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing is done; this is answered.
    Code(u16, String),
    /// It is done, but this is answered: an unknown outcome.
    DoneBut(u16, String),
    /// It is done, the answer comes late.
    Delay(Duration),
    /// It is done, the connection is closed without an answer.
    DropReply,
    /// Nothing is done, the connection is closed without an answer.
    DropRequest,
    /// Nothing is done, no answer ever comes.
    Hang,
    /// A gateway on the way sends it twice: it is done by the first, and the second's answer comes back.
    Twice,
}
