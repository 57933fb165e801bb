//! What a demo left on this machine.

use std::path::PathBuf;
use std::process::Child;

/// What is on the machine of demos with these state directories: they, loop devices on them, processes that name them.
pub fn left(state: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    let backing = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default()
    };
    for dir in state {
        let name = dir.file_name().unwrap().to_str().unwrap().to_string();
        found.extend(dir.exists().then(|| format!("directory {name}")));
        let loops = std::fs::read_dir("/sys/block").unwrap().flatten();
        found.extend(
            loops
                .filter(|entry| backing(entry).contains(&name))
                .map(|entry| format!("loop {:?}", entry.file_name())),
        );
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let mounts = std::fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
            let all = [line, environment, mounts.into_bytes()].concat();
            if String::from_utf8_lossy(&all).contains(&name) {
                found.push(format!("process {:?}", process.file_name()));
            }
        }
    }
    found
}

fn states() -> Vec<PathBuf> {
    let all = std::fs::read_dir("/var/tmp").unwrap().flatten().map(|entry| entry.path());
    all.filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("appsnap-local-"))
    })
    .collect()
}

/// The state directories that came with this child: their owner is told in them.
pub fn own_states(child: &Child) -> Vec<PathBuf> {
    let pid = child.id().to_string();
    let owner = |path: &PathBuf| std::fs::read_to_string(path.join("owner")).unwrap_or_default();
    states().into_iter().filter(|path| owner(path).split_whitespace().next() == Some(&pid)).collect()
}
