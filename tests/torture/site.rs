//! Where the crimes are committed: a local cloud whose guest has a trace in its scripts, an fsfreeze that can be made
//! slow, an rcu_expedited of its own, and a probe on its file systems.

use std::time::Duration;

use appsnap::local::world::Settings;

use super::bench::Bench;
use super::inside::Inside;
use super::plan::Plan;
use super::probe::Probe;

/// Shell lines for the guest: its fsfreeze, and a kernel switch that no other guest shares.
const PREPARE: &str = r#"mount -t tmpfs none /usr/local/sbin && cat >/usr/local/sbin/fsfreeze <<'END'
#!/bin/sh
[ "$1" = --freeze ] && [ -e /run/crime ] && mv /run/crime /run/crime.done 2>/dev/null && . /run/crime.done
exec /usr/sbin/fsfreeze "$@"
END
cat >/usr/local/sbin/setsid <<'END'
#!/bin/sh
case $* in */pre\ *prescript.sh*) [ ! -e /run/slow-launch ] || { read -r pause </run/slow-launch && sleep "$pause"; } ;; esac
exec /usr/bin/setsid "$@"
END
chmod 755 /usr/local/sbin/*
echo 0 >/run/rcu && mount --bind /run/rcu /sys/kernel/rcu_expedited && mkdir -p /run/appsnap"#;

/// Each line: what, the attempt, then what else there is to know. `quiet` is a prescript that came to its end.
const PRESCRIPT: &str = "#!/bin/sh\necho \"pre $APPSNAP_RUN\" >>/run/trace\nread -r pause </run/pause\nsleep \"$pause\" || exit\n\
    echo \"quiet $APPSNAP_RUN $(date +%s%N)\" >>/run/trace\n";
const POSTSCRIPT: &str = "#!/bin/sh\necho \"post $APPSNAP_RUN $(date +%s%N) $APPSNAP_OUTCOME\" >>/run/trace\nsleep 0.05\n\
    echo \"posted $APPSNAP_RUN\" >>/run/trace\n";

pub struct Site {
    pub bench: Bench,
    pub inside: Inside,
    pub probe: Probe,
    mounts: String,
}

impl Site {
    pub async fn start() -> Self {
        let bench = Bench::start(Settings::default(), "true").await;
        let guest = &bench.cloud.guest;
        for (path, text) in [("/tmp/prescript.sh", PRESCRIPT), ("/tmp/postscript.sh", POSTSCRIPT)] {
            guest.write_file(path, text.as_bytes(), "700").await.unwrap();
        }
        let limit = Duration::from_secs(10);
        guest.exec(PREPARE, &[], b"", limit).await.unwrap().checked("cannot prepare the guest").unwrap();
        let inside = Inside::new(guest.init());
        let probe = Probe::start(guest.init(), guest.mounts());
        let mounts = inside.mounts();
        Self { bench, inside, probe, mounts }
    }

    /// What the round's scripts and cloud have to know.
    pub fn ready(&self, plan: &Plan) {
        self.bench.cloud.server.cloud.look(|world, _| world.change(plan.settings.clone()));
        let pause = format!("{}.{:03}\n", plan.prescript_millis / 1000, plan.prescript_millis % 1000);
        let rcu = format!("{}\n", plan.rcu);
        for (file, text) in [("pause", pause.as_str()), ("rcu", rcu.as_str()), ("trace", "")] {
            std::fs::write(self.inside.path(file), text).unwrap();
        }
    }

    /// Runs lines of shell in the guest.
    pub async fn sh(&self, lines: &str) -> Result<String, String> {
        let done = self.bench.cloud.guest.exec(lines, &[], b"", Duration::from_secs(10)).await;
        done.and_then(|output| output.checked(lines)).map(|output| output.text()).map_err(|failure| failure.0)
    }

    /// What a run left in the guest that was not there before, in words.
    pub fn left(&self, plan: &Plan) -> Vec<String> {
        let mut left: Vec<String> = self
            .inside
            .processes()
            .iter()
            .filter(|one| one.state != 'Z') // dead, and holds nothing: the agent reaps it with its next child
            .map(|one| format!("process {} ({}, {}): {}", one.guest_pid, one.name, one.state, one.arguments))
            .collect();
        if self.inside.has("appsnap/lock") {
            left.push("the lock".into());
        }
        let rcu = self.inside.read("rcu").unwrap_or_default();
        if rcu.trim() != plan.rcu {
            left.push(format!("rcu_expedited is {:?}, was {:?}", rcu.trim(), plan.rcu));
        }
        left
    }

    /// Whether the guest has the mounts that it had at first.
    pub fn same_mounts(&self) -> bool {
        self.inside.mounts() == self.mounts
    }

    /// What can be seen of the youngest attempts, for a failure.
    pub fn seen(&self) -> String {
        let mut text = String::new();
        for attempt in self.inside.attempts() {
            let dir = self.inside.path(&format!("appsnap/{attempt}"));
            let mut files: Vec<String> = std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect();
            files.sort();
            text += &format!("  /run/appsnap/{attempt}: {}\n", files.join(" "));
            for file in ["state", "report", "log", "curl.err"] {
                let read = self.inside.read(&format!("appsnap/{attempt}/{file}")).unwrap_or_default();
                read.lines().for_each(|line| text += &format!("    {file}: {line}\n"));
            }
        }
        for one in self.inside.processes() {
            let waits = super::inside::waits_for(one.pid);
            text += &format!(
                "  process {} of {} ({}, {}, in {waits}): {}\n",
                one.guest_pid, one.parent, one.name, one.state, one.arguments
            );
        }
        let trace = self.inside.read("trace").unwrap_or_default();
        text + &format!("  trace: {}\n", trace.replace('\n', "; "))
    }
}
