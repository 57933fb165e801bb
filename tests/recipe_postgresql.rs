//! The recipe for PostgreSQL against a real server of Debian's, in a namespace of its own and under each shell. Nothing is
//! frozen here: what a frozen copy then shows is told by `tests/databases.rs`.

mod common;
#[path = "common/pen.rs"]
mod pen;

use common::need;
use pen::{Pen, Ran, SHELLS};

const ENGINE: &str = include_str!("../src/local/engine/postgresql.sh");
const DATA: &str = "/run/d/data";
const NAME: &str = "postgresql";

fn needed() -> bool {
    let psql = "/usr/lib/postgresql/15/bin/psql";
    need(&[&pen::NEEDS[..], &["setpriv", "runuser", "dash", "bash", "busybox", psql]].concat())
}

/// A pen with a running server and the recipe.
fn server(shell: &str, conf: &str) -> Pen {
    let pen = Pen::new(shell);
    pen.good(ENGINE, &["make", DATA, "/run/d/wal"]);
    pen.good(ENGINE, &["start", DATA]);
    pen.install(NAME, &format!("{}\n{conf}", pen.good(ENGINE, &["conf"])));
    pen
}

/// A pen in which the recipe's lock is held.
fn locked(conf: &str) -> Pen {
    let pen = server("dash", conf);
    assert_eq!(pen.pre().code, 0);
    assert_ne!(sql(&pen, "postgres", WRITE).code, 0);
    pen
}

/// SQL in one database; fails where it would have to wait for more than 300 ms.
fn sql(pen: &Pen, database: &str, text: &str) -> Ran {
    let script = "export PGHOST=/run/appsnap-engine/postgresql PGOPTIONS='-c lock_timeout=300' PGDATABASE=\"$1\"
        echo \"$2\" | setpriv --reuid postgres --regid postgres --init-groups /usr/lib/postgresql/15/bin/psql -XqAt \
        -v ON_ERROR_STOP=1";
    pen.run(script, &[database, text])
}
fn ask(pen: &Pen, text: &str) -> String {
    let ran = sql(pen, "postgres", text);
    assert_eq!(ran.code, 0, "{text}: {ran:?}");
    ran.out.trim_end().to_owned()
}
const WRITE: &str = "UPDATE pgbench_accounts SET abalance = 0 WHERE aid = 1";

/// In the shell: succeeds once a write goes through.
const WRITES: &str = "echo 'UPDATE pgbench_accounts SET abalance = 0 WHERE aid = 1' |
    PGHOST=/run/appsnap-engine/postgresql PGOPTIONS='-c lock_timeout=100' setpriv --reuid postgres --regid postgres \
    --init-groups /usr/lib/postgresql/15/bin/psql -XqAt -v ON_ERROR_STOP=1 postgres";

/// Begins a transaction of somebody else, and waits until it has done this.
fn other(pen: &Pen, begin: &str) {
    let text = WRITES.replace(WRITE, &format!("{begin}; SELECT pg_sleep(60)"));
    pen.good("exec >/dev/null 2>&1; eval \"$1\" &", &[&text]);
    let sleeps =
        WRITES.replace(WRITE, "SELECT count(*) FROM pg_stat_activity WHERE wait_event ~ $$PgSleep$$");
    pen.until(&format!("[ $({sleeps}) = 1 ]"));
}

/// What ended this way, and said why in one sentence.
fn ended(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.err.starts_with("postgresql: ") && ran.err.contains(words), "{words}: {ran:?}");
}
/// Nothing of the recipe is left: no process, no state, no session, no lock.
fn nothing_is_left(pen: &Pen) {
    pen.nothing_is_left(NAME);
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $$appsnap$$";
    pen.until(&format!("[ $({}) = 0 ]", WRITES.replace(WRITE, ours))); // a session ends soon after its client
    ask(pen, WRITE);
}

#[test]
fn writers_of_all_databases_stop_while_it_is_locked_and_readers_go_on() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = server(shell, "");
        ask(&pen, "CREATE DATABASE \"o'dd na=me\"");
        assert_eq!(sql(&pen, "o'dd na=me", "CREATE UNLOGGED TABLE other (n int)").code, 0);
        pen.good(ENGINE, &["load", "busy", "100"]);
        let pre = pen.pre();
        assert_eq!(pre.code, 0, "{shell}: {pre:?}");
        let place = ["engine=postgresql", "version=15.", "datadir=/run/d/data", "logdir=/run/d/wal"];
        let marks = [&place[..], &["lsn=0/", "unlogged=1"]].concat();
        assert_eq!(pre.out.lines().count(), marks.len(), "{pre:?}");
        for (line, mark) in pre.out.lines().zip(marks) {
            assert!(line.starts_with(&format!("appsnap-mark: {mark}")), "{pre:?}");
        }
        let acked = pen.good(ENGINE, &["acked"]);
        // The last record of the log is the checkpoint's own.
        let behind = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), checkpoint_lsn) FROM pg_control_checkpoint()";
        assert!(ask(&pen, behind).parse::<u32>().unwrap() < 500, "{shell}");
        assert_eq!(ask(&pen, "SELECT count(*) FROM pgbench_accounts"), "200000");
        for writer in [WRITE, "SELECT 1 FROM acked LIMIT 1 FOR UPDATE", "SELECT lo_from_bytea(0, 'x')"] {
            let ran = sql(&pen, "postgres", writer);
            assert!(ran.err.contains("lock timeout"), "{shell}: {writer}: {ran:?}");
        }
        let other = sql(&pen, "o'dd na=me", "INSERT INTO other VALUES (1)");
        assert!(other.err.contains("lock timeout"), "{shell}: {other:?}");
        ended(&pen.pre(), 11, "an earlier run holds");
        assert_eq!(pen.good(ENGINE, &["acked"]), acked, "{shell}: a commit was acknowledged under the lock");
        let post = pen.post();
        assert_eq!((post.code, post.err.as_str()), (0, ""), "{shell}: {post:?}");
        pen.until(&format!("[ $(cat /run/appsnap-engine/postgresql/acked) -gt {acked} ]"));
        pen.good(ENGINE, &["unload"]);
        assert_eq!(pen.post().code, 0, "an idle postscript has nothing to say");
        nothing_is_left(&pen);
    }
}

#[test]
fn whoever_dies_no_lock_stays_and_the_postscript_says_that_it_was_lost() {
    if !needed() {
        return;
    }
    let pen = locked("");
    for (n, who) in ["holder", "runner", "client", "psql", "session"].into_iter().enumerate() {
        assert!(n == 0 || pen.pre().code == 0, "{who}");
        let kill =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'appsnap'";
        let psql =
            "for p in /proc/[0-9]*; do ! grep -qsa 'psq[l].-XqAtw' $p/cmdline || echo ${p#/proc/}; done";
        match who {
            "session" => assert_eq!(ask(&pen, kill), "t"),
            "psql" => drop(pen.good(&format!("kill -9 $({psql})"), &[])),
            _ => drop(pen.good("kill -9 $1", &[&pen.process(NAME, who)])),
        }
        let waited = pen.until(&format!("{} >/dev/null 2>&1", WRITES));
        assert!(waited < 50, "{who}: {waited} tenths of a second");
        ended(&pen.post(), 14, "the lock was lost");
        nothing_is_left(&pen);
    }
    // While it waits for the lock: killed, after which nobody says anything any more, and ended as the sequence does first.
    for (signal, exit) in [("KILL", 137), ("TERM", 16)] {
        other(&pen, "BEGIN; LOCK TABLE pgbench_accounts IN ROW EXCLUSIVE MODE");
        pen.good(
            "exec >/run/pre.out 2>&1; (setsid sh /etc/appsnap/prescript.sh; echo $? >/run/pre.exit) &",
            &[],
        );
        pen.until("grep -qs . /run/appsnap-recipe/postgresql/holder");
        pen.good("kill -$1 -$(cut -d' ' -f1 /run/appsnap-recipe/postgresql/owner)", &[signal]);
        pen.until("[ -s /run/pre.exit ]");
        assert_eq!(pen.good("cat /run/pre.exit; rm /run/pre.exit", &[]), exit.to_string());
        let gone = "! kill -0 $(cut -d' ' -f1 /run/appsnap-recipe/postgresql/holder) 2>/dev/null";
        pen.until(&format!("[ ! -e /run/appsnap-recipe/postgresql ] || {gone}"));
        assert_eq!(pen.post().code, 0, "what never came to be locked was not lost");
        nothing_is_left(&pen);
        ask(&pen, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    }
}

#[test]
fn a_server_that_dies_under_the_lock_comes_back_without_it() {
    if !needed() {
        return;
    }
    let pen = locked("");
    pen.good("kill -9 $(head -n 1 $1/postmaster.pid)", &[DATA]);
    pen.until("! kill -0 $(head -n 1 /run/d/data/postmaster.pid) 2>/dev/null");
    ended(&pen.post(), 14, "the lock was lost");
    ended(&pen.pre(), 12, "cannot log in");
    pen.nothing_is_left(NAME);
    pen.good(ENGINE, &["start", DATA]);
    nothing_is_left(&pen);
}

#[test]
fn the_deadline_unlocks_and_a_late_postscript_says_so() {
    if !needed() {
        return;
    }
    let pen = locked("hold=10");
    let waited = pen.until(&format!("{} >/dev/null 2>&1", WRITES));
    assert!((20..130).contains(&waited), "{waited} tenths of a second");
    ended(&pen.post(), 14, "the lock was lost");
    nothing_is_left(&pen);
}

#[test]
fn a_transaction_that_has_written_and_stays_open_is_told_and_nothing_is_held() {
    if !needed() {
        return;
    }
    let pen = server("dash", "wait=2\nlock_wait=2");
    pen.good(ENGINE, &["load", "open-transaction", "100"]);
    // It may be too young for the first look: then it is seen where the lock was not got.
    for _ in 0..2 {
        ended(&pen.pre(), 10, "transactions have written and stay open");
        pen.nothing_is_left(NAME);
        assert_eq!(pen.post().code, 0);
    }
    pen.good(ENGINE, &["unload"]);
    pen.good(ENGINE, &["load", "long-select", "100"]);
    assert_eq!(pen.pre().code, 0, "a long SELECT has written nothing");
    assert_eq!(pen.post().code, 0);
    pen.good(ENGINE, &["unload"]);
    // Of temporary tables no lock of ours knows.
    other(&pen, "BEGIN; CREATE TEMPORARY TABLE t AS SELECT 1");
    ended(&pen.pre(), 10, "transactions have written and stay open");
    nothing_is_left(&pen);
}

#[test]
fn a_server_of_the_other_kind_is_not_our_turn_and_on_a_standby_nothing_is_held() {
    if !needed() {
        return;
    }
    let pen = server("dash", "");
    let copy = "PGHOST=/run/appsnap-engine/postgresql setpriv --reuid postgres --regid postgres --init-groups \
        /usr/lib/postgresql/15/bin/pg_basebackup -U postgres -D /run/d/standby -R -X stream -c fast";
    pen.good(&format!("mkdir -m 700 /run/d/standby && chown postgres /run/d/standby && {copy}"), &[]);
    let role =
        "sed -i \"s/^role=.*//\" /etc/appsnap/postgresql.conf; echo role=$1 >>/etc/appsnap/postgresql.conf";
    pen.good(role, &["standby"]);
    ended(&pen.pre(), 75, "this is a primary");
    pen.good(ENGINE, &["stop", DATA]);
    pen.good(ENGINE, &["start", "/run/d/standby"]);
    for role_of_it in ["standby", "any"] {
        pen.good(role, &[role_of_it]);
        let pre = pen.pre();
        assert!(pre.code == 0 && pre.out.contains("appsnap-mark: datadir=/run/d/standby\n"), "{pre:?}");
        assert!(pre.out.contains("mark: lsn=0/") && !pre.out.contains("logdir"), "{pre:?}");
        pen.nothing_is_left(NAME);
        assert_eq!(pen.post().code, 0);
    }
    pen.good(role, &["primary"]);
    ended(&pen.pre(), 75, "this is a standby");
    pen.nothing_is_left(NAME);
}

#[test]
fn what_is_wrong_before_the_lock_is_told_and_other_ways_to_the_servers_user_are_found() {
    if !needed() {
        return;
    }
    let pen = server("dash", "");
    for (line, code, words) in [
        ("user=nobody", 12, "cannot log in"),
        ("user=nobody-at-all", 2, "there is no user"),
        ("port=1", 12, "cannot log in"),
        ("psql=/nowhere/psql", 13, "psql is not installed"),
        ("role=both", 2, "role has to be"),
        ("hold=1", 2, "hold has to be a number"),
        ("holds=100", 2, "is no setting"),
    ] {
        pen.good("cd /etc/appsnap; cp -p postgresql.conf kept; echo $1 >>postgresql.conf", &[line]);
        ended(&pen.pre(), code, words);
        pen.nothing_is_left(NAME);
        pen.good("mv /etc/appsnap/kept /etc/appsnap/postgresql.conf", &[]);
    }
    for gone in ["setpriv", "runuser"] {
        pen.good("mount --bind /dev/null $(command -v $1)", &[gone]); // what is left is runuser, then su
        let pre = pen.pre();
        assert_eq!((pre.code, pen.post().code), (0, 0), "without {gone}: {pre:?}");
        pen.nothing_is_left(NAME);
    }
}

#[test]
fn who_locks_crosswise_is_not_made_to_fail_and_what_cannot_be_locked_is_told() {
    if !needed() {
        return;
    }
    let pen = server("dash", "wait=2\nlock_wait=20");
    pen.good(ENGINE, &["stop", DATA]);
    let more = "printf '%s\\n' 'max_prepared_transactions = 5' 'max_locks_per_transaction = 10' >>$1/postgresql.conf";
    pen.good(more, &[DATA]);
    pen.good(ENGINE, &["start", DATA]);
    // Locked in the order of their making, written in the opposite one.
    ask(&pen, "CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE z AS SELECT 1 AS n");
    let work = "BEGIN; UPDATE z SET n = n; SELECT pg_sleep(0.02); UPDATE a SET n = n; COMMIT;";
    let bench = "echo \"$1\" >/run/work.sql; exec >/run/bench.log 2>&1; PGHOST=/run/appsnap-engine/postgresql setpriv \
        --reuid postgres --regid postgres --init-groups /usr/lib/postgresql/15/bin/pgbench -n -c 4 -T 8 -f /run/work.sql \
        postgres &";
    pen.good(bench, &[work]);
    pen.until("grep -q pgbench /run/bench.log");
    for _ in 0..2 {
        let pre = pen.pre();
        assert_eq!((pre.code, pen.post().code), (0, 0), "{pre:?}");
    }
    pen.until("grep -q 'failed transactions' /run/bench.log");
    let log = pen.good("cat /run/bench.log", &[]);
    assert!(!log.contains("deadlock") && log.contains("failed transactions: 0"), "{log}");

    ask(&pen, &format!("BEGIN; {WRITE}; PREPARE TRANSACTION 'theirs'"));
    pen.good("sleep 1.2", &[]);
    ended(&pen.pre(), 10, "prepared transaction theirs");
    ask(&pen, "ROLLBACK PREPARED 'theirs'");
    nothing_is_left(&pen);

    // 10 * (50 + 5) locks is what there is room for.
    ask(&pen, "SELECT format('CREATE TABLE many%s (n int)', n) FROM generate_series(1, 300) n \\gexec");
    ended(&pen.pre(), 11, "raise max_locks_per_transaction");
    nothing_is_left(&pen);
}
