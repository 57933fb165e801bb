//! The sweep at the start: cleans up state directories whose owner is gone, should its reaper have been killed as well.

use std::path::{Path, PathBuf};

use super::host::{self, Failure};
use super::reaper;

/// How every state directory's name begins; the rest is random.
pub const PREFIX: &str = "appsnap-local-";

/// What the file `owner` of a state directory says: process id and start time, since ids come again.
pub fn owner(pid: u32) -> Option<String> {
    let (_, _, start) = host::process(pid)?;
    Some(format!("{pid} {start}\n"))
}

/// The state directories under `base` whose owner is gone.
pub fn leftovers(base: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let states =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)).map(|e| e.path());
    states.filter(|state| is_left(state)).collect()
}

fn is_left(state: &Path) -> bool {
    // Somebody else's directory without an owner file is not ours to remove.
    let Ok(text) = std::fs::read_to_string(state.join("owner")) else { return false };
    let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
    pid.and_then(owner).is_none_or(|now| now != text)
}

/// Cleans up all [`leftovers`] under `base` and returns them; an error names those that would not go.
pub async fn sweep(base: &Path) -> Result<Vec<PathBuf>, Failure> {
    let states = leftovers(base);
    for state in &states {
        reaper::sweep(state).await?;
        if state.exists() {
            return Err(Failure(format!(
                "cannot clean up {}: see `losetup -l` and `grep {} /proc/*/mountinfo`",
                state.display(),
                state.display()
            )));
        }
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_dead_owners_are_left_over() {
        let base = std::env::temp_dir().join(format!("appsnap-sweep-test-{}", std::process::id()));
        let own = owner(std::process::id()).unwrap();
        let reused = format!("{} 1\n", std::process::id()); // the same id, another process
        for (name, text) in
            [("a", Some(own.as_str())), ("b", Some(&reused)), ("c", Some("4194999 5\n")), ("d", None)]
        {
            let state = base.join(format!("{PREFIX}{name}"));
            std::fs::create_dir_all(&state).unwrap();
            if let Some(text) = text {
                std::fs::write(state.join("owner"), text).unwrap();
            }
        }
        let mut left = leftovers(&base);
        left.sort();
        std::fs::remove_dir_all(&base).unwrap();
        assert_eq!(left, [base.join("appsnap-local-b"), base.join("appsnap-local-c")]);
    }
}
