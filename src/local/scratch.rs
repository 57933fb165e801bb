//! A scratch guest: started on disks of the store for one script, and taken away with them.

use std::sync::Arc;
use std::time::Duration;

use super::guest::{DiskSpec, Guest, GuestSpec};
use super::host::{Failure, Output};
use super::store::Store;
use crate::clock::Clock;

/// Where its script lies, and the empty directory that it may use.
const SCRIPT: &str = "/run/appsnap-scratch.sh";
const WORK: &str = "/run/appsnap-scratch";

/// A private mount namespace, no network; `$1` is the query, which the script gets in its environment.
const RUN: &str = r#"mkdir -m 0711 "$1" && WORK=$1 QUERY=$2 && export WORK QUERY && shift 2 && exec unshare --mount --net sh "$@""#;

/// Starts a guest on these disks (the system disk first), runs a script of sh in it with arguments, `$WORK` and `$QUERY`,
/// and deletes the disks.
pub async fn run(
    clock: &Clock,
    store: &Arc<Store>,
    disks: Vec<DiskSpec>,
    script: &str,
    args: &[&str],
    query: &str,
) -> Result<Output, Failure> {
    let ids: Vec<String> = disks.iter().map(|disk| disk.disk_id.clone()).collect();
    let instance_id = format!("i-scratch{}", &clock.nonce()[..12]);
    let spec = GuestSpec {
        host_name: instance_id.clone(),
        instance_id,
        disks,
        ca_pem: String::new(),
        hosts: Vec::new(),
    };
    let output = match Guest::start(clock, store, &spec).await {
        Ok(guest) => {
            let output = inside(&guest, script, args, query).await;
            guest.stop().await.and(output)
        }
        Err(failure) => Err(failure),
    };
    for id in &ids {
        store.delete_disk(id)?;
    }
    output
}

async fn inside(guest: &Guest, script: &str, args: &[&str], query: &str) -> Result<Output, Failure> {
    guest.write_file(SCRIPT, script.as_bytes(), "700").await?;
    let words = [&[WORK, query, SCRIPT], args].concat();
    guest.exec(RUN, &words, b"", Duration::from_secs(180)).await
}
