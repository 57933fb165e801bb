//! A local cloud with a database in its guest and the recipe installed; copies of it, and how the engine comes up on each.

use std::time::{Duration, Instant};

use appsnap::clock::Clock;
use appsnap::local::cloud::DISKS;
use appsnap::local::engine::{Engine, Load, Server};
use appsnap::local::guest::DiskSpec;
use appsnap::local::scratch;
use appsnap::local::world::Settings;
use appsnap::report::{Level, Report};
use appsnap::verify::judge::{State, Told, Verdict};
use serde_json::{Value, json};

use crate::bench::{Bench, read, tick};

/// Where data and log lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Both on the XFS disk.
    One,
    /// Data on the ext4 disk, log on the XFS disk.
    Two,
}

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one disk",
            Self::Two => "two disks",
        }
    }

    fn places(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::One => ("/logs/db", None),
            Self::Two => ("/data/db", Some("/logs/db")),
        }
    }
}

/// State of a recipe, and whoever runs its script or has its pipe open.
const HELD: &str = r#"ls -A /run/appsnap-recip[e]/*/ 2>/dev/null
for p in /proc/[0-9]*; do
    case "$(tr '\0' ' ' <$p/cmdline)$(ls -l $p/fd)" in */run/appsnap-recip[e]/*) tr '\0' ' ' <$p/cmdline && echo ;; esac
done 2>/dev/null; true"#;

/// A guest with a database.
pub struct Field {
    pub bench: Bench,
    pub server: Server,
    layout: Layout,
    clock: Clock,
}

/// A copy: a snapshot of each disk.
pub struct Copy {
    /// What surely is in it: acknowledged before it began.
    pub acked: u64,
    pub snapshots: Vec<String>,
    /// Of the run that made it.
    pub report: Option<Report>,
}

/// How the engine came up on it.
pub struct Seen {
    pub verdict: Verdict,
    pub lost: u64,
    pub start_ms: Option<u64>,
}

impl Field {
    pub async fn start(engine: Engine, layout: Layout, settings: Settings) -> Self {
        let bench = Bench::start(settings, "true").await;
        let guest = &bench.cloud.guest;
        let (data, log) = layout.places();
        let server = Server::make(engine, guest, data, log).await.unwrap();
        let recipe = appsnap::guest::recipes::find(engine.name()).unwrap();
        bench.until("rm -f /tmp/*script.sh; mkdir -m 755 /etc/appsnap").await;
        let conf = server.conf().await.unwrap();
        let files = [
            ("prescript.sh".to_owned(), recipe.prescript(), "700"),
            ("postscript.sh".to_owned(), recipe.postscript(), "700"),
            // Less than the recipe's own default: some loads keep a transaction open for as long as they last.
            (format!("{}.conf", engine.name()), format!("{conf}\nwait=5\n"), "600"),
        ];
        for (name, text, mode) in files {
            guest.write_file(&format!("/etc/appsnap/{name}"), text.as_bytes(), mode).await.unwrap();
        }
        Self { bench, server, layout, clock: Clock::system() }
    }

    /// The highest number that clients have been told to be safe.
    async fn acked(&self, load: Load) -> u64 {
        match load {
            Load::Idle => self.server.count().await.unwrap(), // nobody writes: all of it is acknowledged
            _ => self.server.acked().await.unwrap(),
        }
    }

    /// Each disk at an instant of its own, and nothing is frozen.
    pub async fn crash_copy(&self, load: Load) -> Copy {
        let acked = self.acked(load).await;
        let mut snapshots = Vec::new();
        for (disk, ..) in DISKS {
            let snapshot = format!("s-crash-{}-{disk}", load.name());
            self.bench.cloud.store.take_snapshot(disk, &snapshot).unwrap();
            snapshots.push(snapshot);
            self.clock.sleep(Duration::from_millis(60)).await;
        }
        Copy { acked, snapshots, report: None }
    }

    /// By a run of the function.
    pub async fn run(&self, load: Load, time: &str, fields: Value) -> Copy {
        let before = self.creates();
        let run = self.bench.send_off(tick(time, fields));
        // What was read before the request for the snapshot had come was acknowledged before any of it was cut.
        let mut acked = 0;
        loop {
            let now = self.acked(load).await;
            if self.creates() > before || run.is_finished() {
                break;
            }
            acked = now;
            self.clock.sleep(Duration::from_millis(20)).await;
        }
        let report = read(run.await.unwrap()).report;
        let [unit] = &report.units[..] else { panic!("{report:?}") };
        assert!(unit.level > Level::None, "{unit:?}");
        let of = |disk: &str| unit.snapshots.iter().find(|one| one.disk_id == disk).unwrap();
        let snapshots = DISKS.map(|(disk, ..)| of(disk).snapshot_id.clone()).to_vec();
        Copy { acked, snapshots, report: Some(report) }
    }

    /// How many requests for a snapshot have come; while the newest is not answered, all is frozen.
    pub fn creates(&self) -> u64 {
        self.bench.cloud.server.cloud.look(|world, _| world.calls("CreateSnapshotGroup"))
    }

    /// Starts the engine on it, in a guest of its own; the snapshots are deleted.
    pub async fn prove(&self, copy: &Copy) -> Seen {
        let store = &self.bench.cloud.store;
        let mut disks = Vec::new();
        for ((_, filesystem, mount, _), snapshot) in DISKS.iter().zip(&copy.snapshots) {
            let disk_id = format!("d-{}", &self.clock.nonce()[..18]);
            store.disk_from_snapshot(snapshot, &disk_id).unwrap();
            store.delete_snapshot(snapshot).unwrap();
            disks.push(DiskSpec {
                disk_id,
                size_mib: 0,
                filesystem: *filesystem,
                mount: Some((*mount).into()),
            });
        }
        let (data, log) = self.layout.places();
        let engine = self.server.engine;
        let script = appsnap::guest::verify::engine_script(engine.name()).unwrap();
        let args = [data, log.unwrap_or("-"), "120"];
        let output = scratch::run(&self.clock, store, disks, script, &args, engine.query()).await.unwrap();
        let text = output.text();
        let told = Told::read(&text);
        let verdict = (appsnap::verify::judge::of(engine.name()).unwrap())(&told);
        let shown = || format!("{verdict:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.is_some_and(|code| code < 2), "{:?}: {}", output.status, shown());
        assert!(output.ok() || verdict.state == State::Broken, "{}", shown());
        let kept = verdict.answer.as_deref().and_then(|answer| answer.parse().ok()).unwrap_or(0);
        Seen { lost: copy.acked.saturating_sub(kept), start_ms: told.number("startMs"), verdict }
    }

    /// What a recipe left behind in the guest, its processes, its state, a changed setting: nothing, it has to be.
    pub async fn left(&self, settings: &str) -> Vec<String> {
        let mut left = Vec::new();
        // What was told to end may take a moment.
        let since = Instant::now();
        loop {
            left.clear();
            let output = self.bench.cloud.guest.exec(HELD, &[], b"", Duration::from_secs(20)).await.unwrap();
            left.extend(output.text().lines().map(str::to_owned));
            if left.is_empty() || since.elapsed() > Duration::from_secs(5) {
                break;
            }
            self.clock.sleep(Duration::from_millis(200)).await;
        }
        let now = self.settings().await;
        left.extend(now.lines().filter(|line| !settings.lines().any(|was| was == *line)).map(str::to_owned));
        left
    }

    /// All settings of the server, a line each.
    pub async fn settings(&self) -> String {
        let ask = match self.server.engine {
            Engine::PostgreSql => {
                "cd / && setpriv --reuid postgres --regid postgres --init-groups psql -h /run/appsnap-engine/postgresql -Atc 'SELECT name, setting FROM pg_settings ORDER BY 1' postgres"
            }
            Engine::MariaDb => {
                "mariadb --no-defaults -S /run/appsnap-engine/mariadb/socket -u root -NBe 'SHOW GLOBAL VARIABLES' | grep -vE '^(gtid|last_gtid|timestamp)'"
            }
            Engine::Redis => {
                "redis-cli -s /run/appsnap-engine/redis/redis.sock CONFIG GET '*' | paste -d= - -"
            }
        };
        let output = self.bench.cloud.guest.exec(ask, &[], b"", Duration::from_secs(20)).await.unwrap();
        let text = output.checked("the server's settings").unwrap().text();
        assert!(text.lines().count() > 50, "{text}");
        text
    }

    /// Whether a client's write is acknowledged now: the load's next one.
    pub async fn writes(&self) -> bool {
        let before = self.server.acked().await.unwrap();
        for _ in 0..100 {
            if self.server.acked().await.unwrap() > before {
                return true;
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

/// A run that freezes and leaves the database alone.
pub fn frozen_only() -> Value {
    json!({ "consistency": "filesystem" })
}
