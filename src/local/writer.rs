//! A program in a guest that writes and fsyncs a counter, and tells in memory what has been acknowledged: whoever has a
//! copy of the disk can tell whether the copy lost something.

use super::guest::Guest;
use super::host::Failure;

/// The counter's file, relative to the mount point.
pub const FILE: &str = "appsnap-writer/counter";

/// 20 digits within one block: never half written. The little files beside it keep the journal busy. It ends by itself
/// after 200,000 rounds.
const SCRIPT: &str = r#"dir=$1/appsnap-writer n=0; mkdir -p "$dir"
while [ "$n" -lt 200000 ]; do
    n=$((n + 1)); echo "$n" >"$dir/file.$((n % 50))"; rm -f "$dir/file.$((n % 7))"
    printf '%020d\n' "$n" | dd of="$dir/counter" conv=notrunc,fsync 2>/dev/null || exit
    echo "$n" >"$2.new" && mv "$2.new" "$2"
done"#;

fn acknowledgements(mount: &str) -> String {
    format!("/run/appsnap-writer{}", mount.replace('/', "-"))
}

/// Starts a writer on a mounted file system of the guest.
pub async fn start(guest: &Guest, mount: &str) -> Result<(), Failure> {
    guest.spawn(SCRIPT, &[mount, &acknowledgements(mount)]).await
}

/// The last number whose fsync has returned; 0 before the first. Works while the file system is frozen.
pub async fn acknowledged(guest: &Guest, mount: &str) -> Result<u64, Failure> {
    match guest.read_file(&acknowledgements(mount)).await {
        Ok(bytes) => count(&bytes).ok_or_else(|| Failure(format!("the writer on {mount} left no number"))),
        Err(_) => Ok(0),
    }
}

/// The number in a counter file.
pub fn count(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}
