//! `appsnap sequence`: what runs in a guest, for people to read and for allow-lists to pin.

use super::{Failure, out};
use crate::guest::render;

/// Print the in-guest script.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only the sha256 of what is run.
    #[arg(long, conflicts_with = "comments")]
    sha256: bool,
    /// With its comments, as in the source.
    #[arg(long)]
    comments: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    if args.sha256 {
        out(&format!("{}\n", render::sequence_sha256()))?;
    } else if args.comments {
        out(&render::commented_sequence())?;
    } else {
        out(&render::sequence())?;
    }
    Ok(0)
}
