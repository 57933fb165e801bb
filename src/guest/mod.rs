//! The in-guest sequence: what runs as root in the guest, how it gets there and what it tells.
//!
//! Three commands are sent through Cloud Assistant, each at most [`render::LIMIT`] bytes:
//! 1. `find` brings the sequence to tmpfs and looks: disks, file systems, scripts, tools. It changes nothing.
//! 2. `go` brings the signed requests and runs the sequence: watchdog, prescript, freeze, request, thaw,
//!    postscript.
//! 3. `settle`, only when the result of `go` was lost: reads the kept report and finishes what was left.
//!
//! The source is in six files of shell beside this one (`sequence.sh` tells the story); [`render`] packs them,
//! [`told`] reads the one line of JSON that comes back.
//!
//! [`pinned`] is the same with commands that the operator has registered: a run sends only values to them.
//!
//! [`plugin`] is the other engine: one command that runs the vendor's app-snapshot-plugin. [`look`] is the command of a
//! check, which only looks. [`verify`] is the work of a verification, on an instance that lends itself to it.
//!
//! [`recipes`] are scripts for databases, which an operator installs ([`install`]); no run needs them.

pub mod install;
pub mod look;
pub mod pinned;
pub mod plugin;
pub mod recipes;
pub mod render;
pub mod told;
pub mod verify;
