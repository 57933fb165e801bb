//! Who quiesces: nobody, the freeze alone, appsnap's recipe, and what peers ship. All but the first go through appsnap's own
//! sequence, so that nothing differs but the scripts.

use std::time::Duration;

use appsnap::guest::recipes;
use appsnap::guest::render::{self, Plan, ThawOn};
use appsnap::local::engine::{Engine, Server};
use appsnap::local::guest::Guest;
use appsnap::report::Level;

use crate::rig;

/// One way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// No snapshot at all: how long the client waits for the load of others.
    Nothing,
    /// No scripts.
    Freeze,
    /// As `appsnap recipe` installs it.
    Recipe,
    /// What peers do and hold: PostgreSQL `CHECKPOINT`, MariaDB `FLUSH TABLES WITH READ LOCK` in a session in the background,
    /// without draining, Redis `SAVE`.
    Naive,
    /// MariaDB's lock from a client that ends at once: it holds nothing.
    OneShot,
}

/// In the order of the table.
pub const ALL: [Contender; 5] =
    [Contender::Nothing, Contender::Freeze, Contender::Recipe, Contender::Naive, Contender::OneShot];

/// A session that keeps the lock until somebody ends its `sleep`; a minute at most.
const MARIADB: &str = "mariadb --no-defaults -S /run/appsnap-engine/mariadb/socket -u root -NB";

impl Contender {
    /// In the table.
    pub fn name(self, engine: Engine) -> &'static str {
        match (self, engine) {
            (Self::Nothing, _) => "no snapshot",
            (Self::Freeze, _) => "freeze only",
            (Self::Recipe, _) => "recipe",
            (Self::Naive, Engine::PostgreSql) => "naive: CHECKPOINT",
            (Self::Naive, Engine::MariaDb) => "naive: FTWRL held, nothing drained",
            (Self::Naive, Engine::Redis) => "naive: SAVE",
            (Self::OneShot, _) => "naive: one-shot FTWRL (holds nothing)",
        }
    }

    /// Whether there is such a way.
    pub fn is_for(self, engine: Engine) -> bool {
        self != Self::OneShot || engine == Engine::MariaDb
    }

    fn scripts(self, engine: Engine) -> Option<[String; 2]> {
        let pair =
            |pre: String, post: &str| Some([format!("#!/bin/sh\n{pre}\n"), format!("#!/bin/sh\n{post}\n")]);
        match (self, engine) {
            (Self::Nothing | Self::Freeze, _) => None,
            (Self::Recipe, _) => {
                let recipe = recipes::find(engine.name()).unwrap();
                Some([recipe.prescript(), recipe.postscript()])
            }
            (_, Engine::PostgreSql) => pair(
                "cd / && exec setpriv --reuid postgres --regid postgres --init-groups psql -h /run/appsnap-engine/postgresql -qc CHECKPOINT".to_owned(),
                "true",
            ),
            (Self::OneShot, _) => pair(format!("{MARIADB} -e 'FLUSH TABLES WITH READ LOCK'"), "true"),
            (_, Engine::MariaDb) => pair(
                format!(
                    "(echo 'FLUSH TABLES WITH READ LOCK; SELECT 1;'; exec sleep 60) 2>/dev/null | {MARIADB} --unbuffered >/run/naive.out 2>&1 &
                    n=0; until grep -q 1 /run/naive.out; do [ $((n += 1)) -lt 600 ] || exit 1; sleep 0.05; done"
                ),
                "n=$(grep -lx 'sleep' /proc/[0-9]*/comm | while read -r f; do p=${f%/comm}; tr '\\0' ' ' <$p/cmdline | grep -q '^sleep 60 ' && echo ${p#/proc/}; done); rm -f /run/naive.out; kill $n",
            ),
            (_, Engine::Redis) => {
                pair("exec redis-cli -s /run/appsnap-engine/redis/redis.sock SAVE".to_owned(), "true")
            }
        }
    }

    fn place(self) -> &'static str {
        match self {
            Self::Recipe => "/run/scripts/recipe",
            Self::OneShot => "/run/scripts/oneshot",
            _ => "/run/scripts/naive",
        }
    }

    /// The two commands of a run; none where there is no run.
    pub fn commands(self, engine: Engine, id: &str, port: u16, disks: &[&str]) -> Vec<Vec<u8>> {
        if self == Self::Nothing {
            return Vec::new();
        }
        let scripts = self.scripts(engine).is_some();
        let script = |phase: &str| scripts.then(|| format!("{}.{phase}.sh", self.place()));
        let plan = Plan {
            attempt: id.into(),
            policy: "bench".into(),
            disks: disks.iter().map(|disk| disk.to_string()).collect(),
            want: if scripts { Level::Application } else { Level::Filesystem },
            minimum: Level::Crash,
            pre_script: script("pre"),
            post_script: script("post"),
            script_timeout: 60,
            freeze: true,
            window: 10,
            thaw_on: ThawOn::Visible,
            visible: 5,
            ca_bundle: None,
            fast_freeze: false,
        };
        vec![render::find(&plan).unwrap(), render::go(id, &rig::signed(id, port)).unwrap()]
    }
}

/// Puts all scripts into the guest.
pub async fn prepare(guest: &Guest, server: &Server) {
    let engine = server.engine;
    let made = guest.exec("mkdir -m 755 /etc/appsnap /run/scripts", &[], b"", Duration::from_secs(10)).await;
    made.unwrap().checked("directories").unwrap();
    let conf = format!("{}\n", server.conf().await.unwrap());
    guest.write_file(&format!("/etc/appsnap/{}.conf", engine.name()), conf.as_bytes(), "600").await.unwrap();
    for who in ALL {
        for (phase, text) in ["pre", "post"].iter().zip(who.scripts(engine).into_iter().flatten()) {
            let path = format!("{}.{phase}.sh", who.place());
            guest.write_file(&path, text.as_bytes(), "700").await.unwrap();
        }
    }
}
