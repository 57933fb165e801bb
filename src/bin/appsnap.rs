//! The operator's command: reads the command line, runs a verb, ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    appsnap::cli::main()
}
