//! What several integration tests share.

use std::path::Path;

/// Whether this machine has what a test needs: names of tools, `root`, `loop` (loop devices), `fs:NAME` (a file system
/// that the kernel knows), a path. If not, says so on stderr in the form that CI counts: `SKIPPED: <test>: needs <what>`; the test then returns.
pub fn need(what: &[&str]) -> bool {
    let lacks = |name: &str| match name {
        "root" => !appsnap::local::host::is_root(),
        "loop" => !Path::new("/dev/loop-control").exists(),
        kind if kind.starts_with("fs:") => {
            let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
            !known.split_whitespace().any(|word| word == &kind[3..])
        }
        path if path.starts_with('/') => !Path::new(path).exists(),
        tool => !appsnap::local::host::missing(&[tool]).is_empty(),
    };
    let lacking: Vec<&str> = what.iter().copied().filter(|name| lacks(name)).collect();
    if !lacking.is_empty() {
        let thread = std::thread::current();
        // Straight to the descriptor: the test harness keeps what the macros of a passing test print.
        use std::io::Write;
        let line = format!("SKIPPED: {}: needs {}\n", thread.name().unwrap_or("?"), lacking.join(", "));
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    lacking.is_empty()
}
