//! Finds the function's binary: beside this one, else built from the source that this one was built from.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::Failure;

/// The binary, built first where that is needed and possible. A stale one is not used: cargo is asked whenever the
/// source is there.
pub(super) async fn find(quiet: bool) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::new(format!("where am I? {error}")))?;
    let beside = own.with_file_name("bootstrap");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(profile) = profile(&own, source) {
        if !quiet {
            eprintln!(
                "appsnap: cargo build --bin bootstrap: the function's binary; the first time takes minutes"
            );
        }
        let mut cargo = tokio::process::Command::new("cargo");
        cargo
            .args(["build", "--bin", "bootstrap"])
            .current_dir(source)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if quiet {
            cargo.arg("--quiet");
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| set_by_cargo(&name.to_string_lossy())) {
            cargo.env_remove(name);
        }
        if profile == "release" {
            cargo.arg("--release");
        }
        if let Some(target) = own.parent().and_then(Path::parent) {
            cargo.env("CARGO_TARGET_DIR", target);
        }
        match cargo.status().await {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(Failure::new(format!("cargo build --bin bootstrap: {status}"))),
            Err(_) => {} // no cargo here: what is there has to do
        }
    }
    if beside.exists() {
        return Ok(beside);
    }
    Err(Failure::new(format!(
        "the function's binary is not at {}: build it (cargo build --release --bin bootstrap) and put it there",
        beside.display()
    )))
}

/// What `cargo run` sets for its program, and what would move the binary elsewhere: the inner cargo would build
/// everything anew for it. The user's own settings (CARGO_HOME, the network) stay.
fn set_by_cargo(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
        || ["CARGO", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_BUILD_TARGET"].contains(&name)
}

/// `debug` or `release` when this binary runs from cargo's target folder and its source is still there.
fn profile<'a>(own: &'a Path, source: &Path) -> Option<&'a str> {
    let profile = own.parent()?.file_name()?.to_str()?;
    (matches!(profile, "debug" | "release") && source.join("Cargo.toml").exists()).then_some(profile)
}
