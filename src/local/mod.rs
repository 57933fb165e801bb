//! The local cloud: a small Alibaba Cloud on one Linux machine, with real guests and real disks.

// The real-guest side: effects on this machine's kernel.
pub mod agent;
pub mod guest;
pub mod host;
pub mod inspect;
pub mod reaper;
pub mod store;
pub mod sweep;
pub mod writer;
