//! Proves that a snapshot group restores: disks are made from it, mounted, its engine is started on them, and what that
//! engine's own log says is judged.

pub mod judge;
