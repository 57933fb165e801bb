//! appsnap takes application-consistent snapshots of Alibaba Cloud ECS instances from a serverless function, never
//! leaves a guest frozen and never lies about what it got.
//!
//! # The story of a run
//!
//! A timer ticks. Function Compute posts the event to [`fc`], the custom runtime, which hands it to the [`handler`] with
//! what the platform tells: request id, credentials, deadline. From here the way leads down the list of rooms, once:
//!
//! 1. [`event`] tells what arrived (a timer tick, an EventBridge event, a manual request) and what makes a repeat of it
//!    the same run; [`policy`] reads the request, strictly.
//! 2. [`protect::targets`] finds the instances, by id and tag, in each account and region; [`protect::survey`] looks at
//!    them: state, disks, agents, by typed calls ([`api`]) over a signed client ([`acs`]). [`eligibility`] judges the facts; a blocker ends the unit as refused, untouched.
//! 3. [`protect::saga`] walks the steps of one unit. `find` sends the first command into the guest ([`guest`]): it only
//!    looks. `sign` narrows the role to this one group and signs a few requests ahead. `quiesce` sends the second
//!    command, which does everything in the guest: watchdog, prescript, freeze, one request, thaw, postscript, report.
//!    If that report is lost, the undo fetches it and finishes what was left.
//! 4. [`protect::settle`] confirms with the cloud, lets [`protect::label`] decide the level from [`protect::evidence`],
//!    writes it on the snapshots, and marks the unit as settled. What failed by something that passes is tried again in
//!    another window ([`protect::attempts`]).
//! 5. [`report`] is the answer; [`notify`] tells the channels.
//!
//! There is no database: ids come from policy, event, unit and attempt, and the cloud's tags and records are the
//! working state ([`protect::repeat`]).
//!
//! The way back is a plan: [`restore`] finds a group and tells how to bring it back; it changes nothing.
//!
//! Beside the way stand [`clock`] (the one source of time and randomness), [`secret`], [`ram`] (rights), [`cli`] (the operator's command)
//! and [`local`], a small strict Alibaba Cloud on one machine in which all of the above is run for real.

pub mod acs;
pub mod api;
pub mod cli;
pub mod clock;
pub mod eligibility;
pub mod event;
pub mod fc;
pub mod guest;
pub mod handler;
pub mod local;
pub mod notify;
pub mod policy;
pub mod protect;
pub mod ram;
pub mod report;
pub mod restore;
pub mod secret;
pub mod verify;
