//! A database server in a guest: Debian's own, under load, for the demo and the tests. What is done to it stands in
//! `engine/NAME.sh`, which is put into the guest.

use std::sync::Arc;
use std::time::Duration;

use super::guest::Guest;
use super::host::{self, Failure};

/// A verb makes a database at most, on a machine that has other work too.
const LIMIT: Duration = Duration::from_secs(120);

/// A server that can be tried here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// 12 or later.
    PostgreSql,
    /// 10.4 or later.
    MariaDb,
    /// 6 or later.
    Redis,
}

/// What clients do meanwhile. Every kind but `Idle` includes the writer of `Acked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Nothing.
    Idle,
    /// Many short writes.
    Busy,
    /// A writer that counts, and notes each number after the server has acknowledged it.
    Acked,
    /// A transaction that has written and stays open.
    OpenTransaction,
    /// A query that takes longer than the snapshot.
    LongSelect,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PostgreSql, Self::MariaDb, Self::Redis];

    /// As its recipe is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MariaDb => "mariadb",
            Self::Redis => "redis",
        }
    }

    /// By that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Debian's package.
    pub fn package(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MariaDb => "mariadb-server",
            Self::Redis => "redis-server",
        }
    }

    /// Its programs that are not on this machine.
    pub fn missing(self) -> Vec<&'static str> {
        match self {
            Self::PostgreSql => {
                let mut missing = host::missing(&["psql", "pgbench"]);
                let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
                if !versions.into_iter().any(|version| version.path().join("bin/postgres").exists()) {
                    missing.push("postgres"); // Debian keeps it out of PATH
                }
                missing
            }
            Self::MariaDb => host::missing(&["mariadbd", "mariadb", "mariadb-install-db"]),
            Self::Redis => host::missing(&["redis-server", "redis-cli"]),
        }
    }

    /// Asks a copy for what [`Server::count`] tells.
    pub fn query(self) -> &'static str {
        match self {
            Self::PostgreSql => "SELECT coalesce(max(n), 0) FROM acked",
            Self::MariaDb => "SELECT COALESCE(MAX(n), 0) FROM app.acked",
            Self::Redis => "GET acked",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::PostgreSql => include_str!("engine/postgresql.sh"),
            Self::MariaDb => include_str!("engine/mariadb.sh"),
            Self::Redis => include_str!("engine/redis.sh"),
        }
    }
}

impl Load {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Acked, Self::Busy, Self::OpenTransaction, Self::LongSelect, Self::Idle];

    /// As the engine's script calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Acked => "acked",
            Self::OpenTransaction => "open-transaction",
            Self::LongSelect => "long-select",
        }
    }
}

/// A server in a guest; it ends with the guest, if not before.
pub struct Server {
    /// What it is.
    pub engine: Engine,
    guest: Arc<Guest>,
    data: String,
}

impl Server {
    /// Makes a database in `data`, with its log in `log` if that is another place, and starts the server. Redis takes no
    /// other place.
    pub async fn make(
        engine: Engine,
        guest: &Arc<Guest>,
        data: &str,
        log: Option<&str>,
    ) -> Result<Self, Failure> {
        let server = Self { engine, guest: guest.clone(), data: data.to_owned() };
        guest.write_file(&server.place(), engine.script().as_bytes(), "755").await?;
        let places = [&[data], log.as_slice()].concat();
        server.verb(&[&["make"], &places[..]].concat()).await?;
        // A crash copy has to show what the server loses, not what its making did not bring to disk.
        let written = guest.exec(r#"for at; do sync -f "$at" || exit; done"#, &places, b"", LIMIT).await?;
        written.checked("the new database is not brought to disk")?;
        server.start().await?;
        Ok(server)
    }

    /// Starts it; returns when it answers.
    pub async fn start(&self) -> Result<(), Failure> {
        self.verb(&["start", &self.data]).await.map(drop)
    }

    /// Shuts it down.
    pub async fn stop(&self) -> Result<(), Failure> {
        self.verb(&["stop", &self.data]).await.map(drop)
    }

    /// Puts it under load, for so many seconds at most.
    pub async fn load(&self, load: Load, seconds: u32) -> Result<(), Failure> {
        self.verb(&["load", load.name(), &seconds.to_string()]).await.map(drop)
    }

    /// Ends the load.
    pub async fn unload(&self) -> Result<(), Failure> {
        self.verb(&["unload"]).await.map(drop)
    }

    /// The highest number that the server has acknowledged; 0 before the first.
    pub async fn acked(&self) -> Result<u64, Failure> {
        self.number("acked").await
    }

    /// The highest number in the database.
    pub async fn count(&self) -> Result<u64, Failure> {
        self.number("count").await
    }

    /// What `/etc/appsnap/NAME.conf` needs so that the recipe finds this server; nothing, often.
    pub async fn conf(&self) -> Result<String, Failure> {
        self.verb(&["conf"]).await
    }

    async fn number(&self, verb: &str) -> Result<u64, Failure> {
        let text = self.verb(&[verb]).await?;
        let wrong = |_| Failure(format!("{}.sh {verb}: no number: {text:?}", self.engine.name()));
        if text.is_empty() { Ok(0) } else { text.parse().map_err(wrong) }
    }

    async fn verb(&self, words: &[&str]) -> Result<String, Failure> {
        let output =
            self.guest.exec(r#"exec "$@""#, &[&[&*self.place()], words].concat(), b"", LIMIT).await?;
        let what = format!("{}.sh {}", self.engine.name(), words.join(" "));
        output.checked(&what).map(|output| output.text())
    }

    fn place(&self) -> String {
        format!("/run/appsnap-engine.{}.sh", self.engine.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_found_by_the_name_of_its_recipe() {
        assert!(Engine::ALL.into_iter().all(|engine| Engine::named(engine.name()) == Some(engine)));
        assert_eq!(Engine::named("oracle"), None);
    }
}
