//! The recipes, one row each. What is said here of settings and defaults is compared with the scripts by a test.

use super::{Recipe, Setting};

const fn setting(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default, meaning }
}

const HOLD: Setting = setting(
    "hold",
    "120",
    "seconds after which the lock ends whatever happens; longer than a freeze may last",
);
const PASSWORD: Setting =
    setting("passwordfile", "", "a file of root's alone, whose first line is the password");
const DATADIR: Setting =
    setting("datadir", "", "where its data is seen from here, if it calls that otherwise (a container)");

/// All of them, in the order in which they are listed.
pub const ALL: [Recipe; 7] = [
    Recipe {
        name: "postgresql",
        title: "PostgreSQL",
        versions: "12 to 17",
        proven: Some("PostgreSQL 15; 16.2, 17.10 by hand"),
        holds: "LOCK TABLE ... IN EXCLUSIVE MODE on all tables of all databases, after checkpoints, and one more under it: writers wait, reads go on; nothing on a standby",
        settings: &[
            setting(
                "role",
                "primary",
                "primary, standby or any: a server of the other kind is not our turn (exit 75)",
            ),
            setting("wait", "30", "seconds for open transactions that have written"),
            setting("lock_wait", "10", "seconds for the lock"),
            setting("attempt", "500", "milliseconds of one attempt, in which writers queue behind it"),
            HOLD,
            setting(
                "user",
                "postgres",
                "the system's and the server's name of a superuser who may log in through the socket",
            ),
            setting("socket", "", "the socket's directory, if not /run/postgresql or /tmp"),
            setting("port", "5432", "its port"),
            setting("database", "postgres", "one that this user may always connect to"),
            setting("psql", "", "the client's path, if not the newest one that is installed"),
        ],
        pre: include_str!("postgresql/prescript.sh"),
        post: include_str!("postgresql/postscript.sh"),
    },
    Recipe {
        name: "mariadb",
        title: "MariaDB with InnoDB",
        versions: "10.4 and later",
        proven: Some("MariaDB 10.11"),
        holds: "FLUSH TABLES WITH READ LOCK, taken when no transaction has written, after dirty pages were drained: writers wait, reads go on",
        settings: &[
            setting("socket", "", "the server's socket, if it is not the client's default"),
            setting(
                "options",
                "",
                "an option file of root's, mode 0600, with user and password, if root may not log in",
            ),
            setting("role", "any", "any, primary or replica: on the other one it is not our turn (exit 75)"),
            setting("drain", "60", "seconds for writing dirty pages before the lock"),
            setting("wait", "15", "seconds for open transactions that have written, and for the lock"),
            setting("settle", "5", "seconds for what is left to be written under the lock; 0 leaves it"),
            HOLD,
        ],
        pre: include_str!("mariadb/prescript.sh"),
        post: include_str!("mariadb/postscript.sh"),
    },
    Recipe {
        name: "mysql",
        title: "MySQL with InnoDB",
        versions: "5.7 and later",
        proven: Some("MySQL 5.7, 8.0, 9.7 by hand"),
        holds: "FLUSH TABLES WITH READ LOCK, taken when no transaction has written and no statement runs for long, after dirty pages were drained: writers wait, reads go on",
        settings: &[
            setting("socket", "", "the server's socket, if it is not the client's default"),
            setting(
                "options",
                "",
                "an option file of root's, mode 0600, with user and password, if root may not log in",
            ),
            setting("role", "any", "any, primary or replica: on the other one it is not our turn (exit 75)"),
            setting("drain", "60", "seconds for writing dirty pages before the lock"),
            setting("wait", "15", "seconds for open transactions that have written, and for the lock"),
            setting("settle", "10", "seconds for what is left to be written under the lock; 0 leaves it"),
            HOLD,
        ],
        pre: include_str!("mysql/prescript.sh"),
        post: include_str!("mysql/postscript.sh"),
    },
    Recipe {
        name: "redis",
        title: "Redis and Valkey",
        versions: "6.2 and later",
        proven: Some("Redis 7.0; 6.2, 8.0, Valkey 8.1 by hand"),
        holds: "CLIENT PAUSE ... WRITE with the append-only file on disk: writers wait, reads go on; a server without such a file saves a dump under the pause",
        settings: &[
            setting("socket", "", "the server's unix socket; without it host and port count"),
            setting("host", "127.0.0.1", "where it listens"),
            setting("port", "6379", "where it listens"),
            setting("tls", "no", "yes: over TLS"),
            setting("cacert", "", "a file with the certificates to believe, if not the system's"),
            setting("clientcert", "", "a file with our own certificate"),
            setting("clientkey", "", "a file with our own key"),
            setting("user", "", "the name to log in with, where there are ACLs"),
            PASSWORD,
            setting("role", "any", "any, primary or replica: on the other one it is not our turn (exit 75)"),
            setting(
                "wait",
                "10",
                "seconds, each: for an answer, for rewrites to end, for the append-only file",
            ),
            setting("save", "60", "seconds for the dump of a server without an append-only file"),
            HOLD,
            DATADIR,
        ],
        pre: include_str!("redis/prescript.sh"),
        post: include_str!("redis/postscript.sh"),
    },
    Recipe {
        name: "mongodb",
        title: "MongoDB with WiredTiger",
        versions: "3.6 and later",
        proven: Some("MongoDB 3.6 by hand"),
        holds: "fsyncLock, after a flush and a checkpoint, until the server says that nothing is locked: writers wait, reads go on",
        settings: &[
            setting("host", "127.0.0.1", "where the server listens, or its unix socket"),
            setting("port", "27017", "where it listens"),
            setting("tls", "no", "yes: over TLS"),
            setting("tlscafile", "", "a file with the certificates to believe"),
            setting("tlscertificatekeyfile", "", "a file with our own certificate and key"),
            setting("user", "", "the name to log in with"),
            PASSWORD,
            setting("role", "any", "any, primary or secondary: on another one it is not our turn (exit 75)"),
            setting("wait", "20", "seconds for open transactions, and for the flush"),
            HOLD,
            DATADIR,
        ],
        pre: include_str!("mongodb/prescript.sh"),
        post: include_str!("mongodb/postscript.sh"),
    },
    Recipe {
        name: "sqlite",
        title: "files of SQLite, up to 200",
        versions: "3",
        proven: Some("SQLite 3.40"),
        holds: "BEGIN IMMEDIATE in each file, its write-ahead log emptied: writers wait, readers go on",
        settings: &[
            setting("files", "", "the databases: absolute paths or patterns, with blanks between them"),
            setting("wait", "10", "seconds for a writer to end its transaction"),
            HOLD,
        ],
        pre: include_str!("sqlite/prescript.sh"),
        post: include_str!("sqlite/postscript.sh"),
    },
    Recipe {
        name: "generic",
        title: "a lock of your own, to build on",
        versions: "any",
        proven: None,
        holds: "what lock_command does, until unlock_command",
        settings: &[
            setting(
                "lock_command",
                "",
                "run with sh as root: stops the writers, leaves all that counts on disk, ends with 0",
            ),
            setting("unlock_command", "", "undoes that; run whatever happened, so fit for an unlocked state"),
            setting("check_command", "", "0: it is still locked; asked by the postscript before the unlock"),
            setting("mark_command", "", "prints positions while it is locked, lines KEY=VALUE"),
            setting("lock_wait", "30", "seconds that lock_command may take"),
            HOLD,
        ],
        pre: include_str!("generic/prescript.sh"),
        post: include_str!("generic/postscript.sh"),
    },
];
