//! A test that cannot run here says so by name and is counted by CI: `SKIPPED: NAME: needs WHAT`.

/// Whether everything is there; `root` stands for uid 0.
pub fn need(test: &str, what: &[&str]) -> bool {
    let missing: Vec<&str> = what.iter().copied().filter(|tool| !have(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    // Past the test harness' capture, so that CI sees it.
    let line = format!("SKIPPED: {test}: needs {}\n", missing.join(", "));
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    false
}

fn have(tool: &str) -> bool {
    if tool == "root" {
        return rustix::process::geteuid().is_root();
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').any(|dir| std::path::Path::new(dir).join(tool).exists())
}
