//! What the world asks the outside to do, and what the outside tells back.

use jiff::Timestamp;
use serde_json::Value;

use super::command::Task;

/// What somebody outside has to do; the world has already decided it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Hand a command to the agent of an instance.
    RunCommand(Task),
    /// Tell the agent to stop it.
    StopCommand {
        /// `t-…`
        invoke_id: String,
        /// `i-…`
        instance_id: String,
    },
    /// Cut now: make the snapshot's atomic copy of the disk; answer with `DiskCloned` or `DiskCloneFailed`.
    CloneDisk {
        /// `d-…`
        disk_id: String,
        /// `s-…`
        snapshot_id: String,
        /// The instant that was drawn for this disk.
        at: Timestamp,
    },
    /// Make a disk from a snapshot; answer with `DiskReady`.
    DiskFromSnapshot {
        /// `s-…`
        snapshot_id: String,
        /// `d-…`
        disk_id: String,
    },
    /// Plug a disk into the instance, running or not; answer with `DiskReady` or `DiskFailed`.
    AttachDisk {
        /// `d-…`
        disk_id: String,
        /// `i-…`
        instance_id: String,
    },
    /// Pull a disk out of the instance, mounted or not; answer with `DiskReady` or `DiskFailed`.
    DetachDisk {
        /// `d-…`
        disk_id: String,
        /// `i-…`
        instance_id: String,
    },
    /// Start a new instance from these disks, the system disk first, as they are made; answer with `Instance`.
    RunInstance {
        /// `i-…`
        instance_id: String,
        /// What it calls itself.
        host_name: String,
        /// `d-…`
        disk_ids: Vec<String>,
    },
    /// The instance is no more; answer with `DiskReady` for each disk that is kept.
    DeleteInstance {
        /// `i-…`
        instance_id: String,
        /// `d-…`
        kept: Vec<String>,
    },
    /// Stop the instance, by force as by pulling the plug; answer with `Instance`.
    StopInstance {
        /// `i-…`
        instance_id: String,
        /// Whether its system is not asked to shut down.
        force: bool,
    },
    /// Start the instance from its disks; answer with `Instance`.
    StartInstance {
        /// `i-…`
        instance_id: String,
    },
    /// Make the disk what the snapshot is; answer with `DiskReady`.
    ResetDisk {
        /// `d-…`
        disk_id: String,
        /// `s-…`
        snapshot_id: String,
    },
    /// The disk is not needed any more.
    DeleteDisk {
        /// `d-…`
        disk_id: String,
    },
    /// The copy is not needed any more.
    DeleteSnapshot {
        /// `s-…`
        snapshot_id: String,
    },
    /// An EventBridge event (CloudEvents) for whoever listens.
    EmitEvent(Value),
}

/// What those who carry out effects tell back.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The agent's heartbeat began or ended.
    Agent {
        /// `i-…`
        instance_id: String,
        /// Whether it answers.
        alive: bool,
    },
    /// The instance runs now, or it does not.
    Instance {
        /// `i-…`
        instance_id: String,
        /// Whether it does.
        running: bool,
    },
    /// Something about a running command.
    Command {
        /// `t-…`
        invoke_id: String,
        /// `i-…`
        instance_id: String,
        /// What.
        news: CommandNews,
    },
    /// The cut is made.
    DiskCloned {
        /// `s-…`
        snapshot_id: String,
    },
    /// The cut could not be made.
    DiskCloneFailed {
        /// `s-…`
        snapshot_id: String,
    },
    /// What was begun with the disk is done: it was made, attached, detached, reset.
    DiskReady {
        /// `d-…`
        disk_id: String,
    },
    /// What was begun with the disk could not be done.
    DiskFailed {
        /// `d-…`
        disk_id: String,
    },
}

/// What an agent reports of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandNews {
    /// It was taken up.
    Started,
    /// More of its output, while it runs.
    Output(Vec<u8>),
    /// It ended by itself; a signal counts as -1.
    Finished {
        /// Its exit code.
        exit_code: i64,
        /// All that is kept of its output: takes the place of what was told before.
        output: Vec<u8>,
        /// Bytes of output that the agent threw away.
        dropped: u64,
    },
    /// The agent gave up waiting.
    TimedOut {
        /// All that is kept of its output.
        output: Vec<u8>,
        /// Bytes of output that the agent threw away.
        dropped: u64,
    },
    /// The agent says that it stopped it (which does not mean that it is dead).
    Stopped,
    /// The agent could not run it: the vendor's ErrorCode, e.g. `DirectoryNotExists`.
    Refused(String),
}
