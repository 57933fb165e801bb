//! Drives `rig.sh`: a guest for the sequence without an agent or a cloud.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use appsnap::guest::render::{self, Plan, Signed, ThawOn};
use appsnap::report::Level;

pub const DISKS: [&str; 2] = ["d-bp1ext4", "d-bp1xfs"];

pub struct Rig {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub dir: PathBuf,
}

impl Rig {
    pub fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("appsnap-rig-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = PathBuf::from("/var/tmp").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/rig.sh");
        let mut child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private", "sh", script])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // Ctrl-C is for its owner, with whom it goes
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "--ready--\n", "the rig did not come up");
        Rig { child, input, output, dir }
    }

    /// A process in the guest's mounts.
    #[allow(dead_code)] // one test looks from outside
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs one line of shell in the guest; its output and its exit status.
    pub fn sh(&mut self, line: &str) -> (String, i32) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{}", line.replace('\n', " ")).unwrap();
        let mut text = String::new();
        loop {
            let mut got = String::new();
            assert!(self.output.read_line(&mut got).unwrap() > 0, "the rig died: {text}");
            let status = got.trim_end().strip_prefix("--").and_then(|rest| rest.strip_suffix("--"));
            if let Some(status) = status.and_then(|status| status.parse().ok()) {
                return (text, status);
            }
            text.push_str(&got);
        }
    }

    pub fn write(&mut self, path: &str, text: &str, mode: &str) {
        let temp = self.dir.join("file");
        std::fs::write(&temp, text).unwrap();
        let (out, status) = self.sh(&format!("cp {} {path} && chmod {mode} {path}", temp.display()));
        assert_eq!(status, 0, "{out}");
    }

    /// Scripts that leave a trace: `/run/post` is the outcome that the postscript was told.
    pub fn scripts(&mut self, pre: &str, post: &str) {
        self.write("/run/scripts/pre.sh", &format!("#!/bin/sh\n{pre}\n"), "700");
        self.write(
            "/run/scripts/post.sh",
            &format!("#!/bin/sh\n{post}\necho $APPSNAP_OUTCOME >>/run/post.$APPSNAP_RUN\n"),
            "700",
        );
    }

    /// Puts the rendered commands of a plan where `sh` finds them.
    pub fn load(&mut self, plan: &Plan, port: u16, ca: &str) {
        std::fs::write(self.dir.join("ca.pem"), ca).unwrap();
        let signed = signed(&plan.attempt, port);
        for (name, bytes) in [
            ("find", render::find(plan)),
            ("go", render::go(&plan.attempt, &signed)),
            ("settle", render::settle(&plan.attempt)),
        ] {
            std::fs::write(self.dir.join(name), bytes.unwrap()).unwrap();
        }
    }

    pub fn plan(&self, attempt: &str) -> Plan {
        Plan {
            attempt: attempt.into(),
            policy: "orders-db".into(),
            disks: DISKS.map(String::from).to_vec(),
            want: Level::Application,
            minimum: Level::Crash,
            pre_script: Some("/run/scripts/pre.sh".into()),
            post_script: Some("/run/scripts/post.sh".into()),
            script_timeout: 20,
            freeze: true,
            window: 5,
            thaw_on: ThawOn::Visible,
            visible: 3,
            ca_bundle: Some(self.dir.join("ca.pem").display().to_string()),
            fast_freeze: false,
        }
    }

    /// What is left frozen, by trying to thaw: a thaw that succeeds tells that something was (and mends it).
    pub fn left_frozen(&mut self) -> String {
        self.sh("for m in d x; do fsfreeze --unfreeze /mnt/$m 2>/dev/null && echo $m; done; :").0
    }

    /// Processes in the guest besides the rig's own shell.
    pub fn processes(&mut self) -> String {
        let mut found = String::new();
        for _ in 0..20 {
            found = self.sh("for p in /proc/[0-9]*; do p=${p#/proc/}; case $p in 1|self) ;; *) read -r c 2>/dev/null <$p/comm; tr '\\0' ' ' 2>/dev/null </proc/$p/cmdline; echo; esac; done | grep -v -e rig.sh -e ^tr -e ^grep -e '^$'; :").0;
            if found.is_empty() {
                break;
            }
            self.sh("sleep 0.1"); // what was killed may still be going
        }
        found
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

pub fn signed(attempt: &str, port: u16) -> Signed {
    Signed {
        host: format!("localhost:{port}"),
        access_key_id: "STS.test".into(),
        security_token: "token+/=".into(),
        signed_headers: "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version".into(),
        date: "2026-11-22T03:00:00Z".into(),
        date_seconds: 1_795_316_400,
        nonce: format!("n-{attempt}"),
        create_query: format!("RegionId=cn-hangzhou&Run={attempt}"),
        describe_query: format!("RegionId=cn-hangzhou&Run={attempt}"),
        creates: (0..3).map(|i| format!("c{i:063}")).collect(),
        describes: (0..24).map(|i| format!("d{i:063}")).collect(),
    }
}
