//! The local cloud: a small, strict Alibaba Cloud on one machine.

pub mod fc;
pub mod server;
pub mod sink;
pub mod verify;
pub mod world;
