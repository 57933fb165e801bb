//! The local cloud: a small, strict Alibaba Cloud on one Linux machine, with real guests and real disks.
//!
//! `world` is the cloud as plain state; `server` speaks HTTPS for it; `fc` drives the function's binary as the platform
//! does; `sink` takes what channels send, `robot` is a chat's. `guest`, `agent` and `store` are effects on this
//! machine's kernel; `cloud` joins both, `scene` says which instances there are. `engine` is a database in a guest, `scratch`
//! a guest for a copy of it.

pub mod fc;
pub mod robot;
pub mod server;
pub mod sink;
pub mod verify;
pub mod world;

pub mod agent;
pub mod cloud;
pub mod engine;
pub mod guest;
mod hands;
pub mod host;
pub mod inspect;
pub mod lent;
pub mod plugin;
mod power;
pub mod reaper;
pub mod scene;
pub mod scratch;
pub mod seed;
pub mod store;
pub mod sweep;
pub mod windows;
pub mod writer;
