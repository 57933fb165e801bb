//! A recorded tree of /sys, /proc and /dev for what only looks: layouts that a test machine's kernel cannot have.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A recorded tree and a run directory, removed at the end.
pub struct Tree(PathBuf);

impl Tree {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("appsnap-tree-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let tree = Tree(std::env::temp_dir().join(name));
        tree.file("proc/self/mountinfo", "");
        tree
    }

    pub fn file(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A block device as /sys has it: below its disk where `name` is `disk/partition`, and in /sys/class/block.
    pub fn device(&self, name: &str, dev: &str) {
        let own = name.rsplit('/').next().unwrap();
        self.file(&format!("sys/block/{name}/dev"), &format!("{dev}\n"));
        if name.contains('/') {
            self.file(&format!("sys/block/{name}/partition"), "1\n");
        }
        let class = self.0.join("sys/class/block");
        std::fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink(self.0.join("sys/block").join(name), class.join(own)).unwrap();
    }

    /// `upper` stands on `lower`.
    pub fn stack(&self, lower: &str, upper: &str) {
        let below = lower.rsplit('/').next().unwrap();
        self.file(&format!("sys/block/{lower}/holders/{upper}/uevent"), "");
        self.file(&format!("sys/block/{upper}/slaves/{below}/uevent"), "");
    }

    pub fn mounts(&self, lines: &[(&str, &str, &str, &str)]) {
        let line = |(n, (dev, kind, source, at)): (usize, &(&str, &str, &str, &str))| {
            format!("{} 1 {dev} / {at} rw,relatime shared:{n} - {kind} {source} rw\n", n + 20)
        };
        let text: String = lines.iter().enumerate().map(line).collect();
        self.file("proc/self/mountinfo", &text);
    }

    /// Runs a script in a mode, with this data and the tree as its root, under each shell that is here: what it printed
    /// and what it left in its run directory's log. The directory stays for a look until the next shell.
    pub fn run(&self, mode: &str, script: &str, data: &str) -> Vec<(&'static str, String, String)> {
        let run = self.run_dir();
        let shells =
            [("sh", &["sh"][..]), ("dash", &["dash"]), ("bash", &["bash"]), ("busybox", &["busybox", "sh"])];
        let told = shells.into_iter().filter_map(|(name, shell)| {
            let _ = std::fs::remove_dir_all(&run);
            std::fs::create_dir_all(&run).unwrap();
            std::fs::write(run.join("sequence.sh"), script).unwrap();
            std::fs::write(run.join("data"), data).unwrap();
            let mut command = Command::new(shell[0]);
            command.args(&shell[1..]).arg(run.join("sequence.sh")).arg(mode).arg(&run);
            let output = command.env("APPSNAP_ROOT", &self.0).output().ok()?;
            let log = std::fs::read_to_string(run.join("log")).unwrap_or_default();
            Some((name, String::from_utf8_lossy(&output.stdout).into_owned(), log))
        });
        let told: Vec<_> = told.collect();
        assert!(!told.is_empty(), "there is no shell");
        told
    }

    /// Where the scripts keep their state.
    pub fn run_dir(&self) -> PathBuf {
        self.0.join("run")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
