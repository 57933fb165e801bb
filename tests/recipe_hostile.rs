//! Recipes where others than root have their hands in: a server that says what it likes, the owner of one database among
//! many, somebody who runs the scripts by hand in the middle of a run.

mod common;
#[allow(dead_code)] // others need the rest of it
#[path = "common/pen.rs"]
mod pen;

use common::need;
use pen::{Pen, Ran, SHELLS};

const POSTGRESQL: &str = include_str!("../src/local/engine/postgresql.sh");
const MARIADB: &str = include_str!("../src/local/engine/mariadb.sh");
const DATA: &str = "/run/data";

fn ended(ran: &Ran, code: i32, words: &str) {
    assert!(ran.code == code && ran.err.contains(words), "{code} {words}: {ran:?}");
}

/// A pen with a running PostgreSQL and the recipe.
fn postgresql(conf: &str) -> Option<Pen> {
    if !need(&[&pen::NEEDS[..], &["setpriv", "psql", "bash", "busybox"]].concat()) {
        return None;
    }
    let pen = Pen::new("dash");
    pen.good(POSTGRESQL, &["make", DATA]);
    pen.good(POSTGRESQL, &["start", DATA]);
    pen.install("postgresql", &format!("{}\n{conf}\n", pen.good(POSTGRESQL, &["conf"])));
    Some(pen)
}
fn ask(pen: &Pen, database: &str, text: &str) -> String {
    let psql = "cd / && printf '%s\\n' \"$2\" | timeout 10 setpriv --reuid postgres --regid postgres --init-groups psql -XqAt \
        -v ON_ERROR_STOP=1 -h /run/appsnap-engine/postgresql -d \"$1\"";
    pen.good(psql, &[database, text])
}

#[test]
fn what_a_databases_owner_calls_by_the_systems_names_is_not_run_by_the_superuser() {
    let Some(pen) = postgresql("") else { return };
    ask(&pen, "postgres", "CREATE ROLE mallory");
    ask(&pen, "postgres", "CREATE DATABASE his OWNER mallory");
    ask(
        &pen,
        "his",
        "SET ROLE mallory; CREATE SCHEMA his; GRANT ALL ON SCHEMA his TO public; CREATE TABLE his.orders (n int);
        CREATE FUNCTION his.concat_ws(text, text, bigint, bigint) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN ALTER ROLE mallory SUPERUSER; RETURN 'tables 0 0'; END $$;
        ALTER DATABASE his SET search_path = his, pg_catalog; ALTER DATABASE his SET quote_all_identifiers = on",
    );
    let pre = pen.pre();
    assert_eq!((pre.code, pre.err.as_str()), (0, ""), "{pre:?}");
    let super_now = "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'";
    assert_eq!(ask(&pen, "postgres", super_now), "f", "he is superuser now");
    let locked = "SELECT string_agg(relation::regclass::text, ' ') FROM pg_locks
        WHERE mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = 'his')";
    let locked = ask(&pen, "his", locked);
    assert!(locked.contains("orders") && !locked.contains("pg_class"), "{locked}");
    assert_eq!(pen.post().code, 0);
    pen.nothing_is_left("postgresql");
}

#[test]
fn a_server_that_warns_of_a_collation_or_has_half_a_database_is_locked_all_the_same() {
    let Some(pen) = postgresql("") else { return };
    ask(&pen, "postgres", "CREATE DATABASE half");
    let odd = "UPDATE pg_database SET datcollversion = '0' WHERE datname = 'postgres';
        UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'";
    ask(&pen, "postgres", odd);
    let pre = pen.pre();
    assert_eq!((pre.code, pre.err.as_str()), (0, ""), "{pre:?}");
    assert!(pre.out.contains("\nappsnap-mark: lsn=0/"), "{pre:?}");
    let post = pen.post();
    assert_eq!((post.code, post.err.as_str()), (0, ""), "{post:?}");
    pen.nothing_is_left("postgresql");
}

#[test]
fn a_backend_that_waits_for_a_lock_goes_with_its_client() {
    let Some(pen) = postgresql("lock_wait=100\nattempt=60000") else { return };
    let reader = "cd / && setsid setpriv --reuid postgres --regid postgres --init-groups psql -XqAt \
        -h /run/appsnap-engine/postgresql -c 'BEGIN' -c 'LOCK TABLE acked IN ROW EXCLUSIVE MODE' \
        -c 'SELECT pg_sleep(100)' >/dev/null 2>&1 &";
    pen.good(reader, &[]);
    let waits = "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND locktype = 'relation' AND NOT granted";
    let until = |number: u32| {
        for _ in 0..100 {
            if ask(&pen, "postgres", waits) == number.to_string() {
                return;
            }
            pen.good("sleep 0.1", &[]);
        }
        panic!("{number} never waited");
    };
    pen.good("setsid sh /etc/appsnap/prescript.sh >/run/told 2>&1 & echo $! >/run/pre", &[]);
    until(1);
    pen.good("kill -KILL $(cat /run/pre)", &[]);
    until(0);
    assert_eq!(pen.post().code, 0);
    pen.nothing_is_left("postgresql");
}

#[test]
fn databases_that_would_take_the_last_connections_are_refused() {
    let Some(pen) = postgresql("") else { return };
    ask(&pen, "postgres", "ALTER SYSTEM SET max_connections = 8");
    pen.good(POSTGRESQL, &["stop", DATA]);
    pen.good(POSTGRESQL, &["start", DATA]);
    for n in 1..4 {
        ask(&pen, "postgres", &format!("CREATE DATABASE more{n}"));
    }
    ended(&pen.pre(), 11, "4 databases need a connection each");
    pen.nothing_is_left("postgresql");
}

/// What bash runs when it reckons with it.
const EVIL: &str = "PATH[$(touch /run/ran)]";

#[test]
fn a_server_cannot_have_its_answers_run_by_root() {
    if !need(&[&pen::NEEDS[..], &["mariadbd", "mariadb", "mariadb-install-db", "bash"]].concat()) {
        return;
    }
    let pen = Pen::new("bash");
    pen.good(MARIADB, &["make", DATA]);
    pen.good(MARIADB, &["start", DATA]);
    pen.install("mariadb", &pen.good(MARIADB, &["conf"]));
    // The client stands for its server.
    let stand_in = "cat >/run/bin/mariadb <<'EOF'\n#!/bin/sh\n\
        sed -u -e 's,@@GLOBAL.innodb_io_capacity_max,\"EVIL\",' -e 's,end-of-log ,&EVIL,' | /usr/bin/mariadb \"$@\"\nEOF\n\
        chmod 755 /run/bin/mariadb; sed -i \"s,EVIL,$1,g\" /run/bin/mariadb";
    let none_ran = || assert_eq!(pen.run("ls /run/ran", &[]).out, "", "it was run");
    pen.good(stand_in, &[EVIL]);
    let pre = pen.pre();
    assert_eq!((pre.code, pre.err.as_str()), (0, ""), "{pre:?}");
    ended(&pen.post(), 16, "is no position in its log");
    none_ran();
    // With much to drain, settings are read, to be changed.
    pen.good(
        "/usr/bin/mariadb --no-defaults -S /run/appsnap-engine/mariadb/socket app -e 'UPDATE item SET hits = hits + 1'",
        &[],
    );
    ended(&pen.pre(), 16, "the server refuses what the recipe has to ask");
    none_ran();
    pen.nothing_is_left("mariadb");
}

fn generic(shell: &str) -> Option<Pen> {
    if !need(&[&pen::NEEDS[..], &["dash", "bash", "busybox"]].concat()) {
        return None;
    }
    let pen = Pen::new(shell);
    pen.install("generic", "lock_command=: >/run/locked\nunlock_command=rm -f /run/locked");
    Some(pen)
}
fn of(pen: &Pen, run: &str, script: &str) -> Ran {
    pen.run("APPSNAP_RUN=$1 exec sh /etc/appsnap/$2script.sh", &[run, script])
}

#[test]
fn a_lock_that_somebody_else_let_go_is_no_good_end_of_this_run() {
    for shell in SHELLS {
        let Some(pen) = generic(shell) else { return };
        assert_eq!(of(&pen, "a", "pre").code, 0);
        assert_eq!(pen.post().code, 0); // by hand
        ended(&of(&pen, "a", "post"), 14, "let go before, by another postscript");
        // And one that another run has locked again meanwhile; that one keeps it.
        assert_eq!(of(&pen, "a", "pre").code, 0);
        pen.good("kill -KILL $1 $2", &[&pen.process("generic", "holder"), &pen.process("generic", "runner")]);
        pen.until("! kill -0 $(cut -d' ' -f1 /run/appsnap-recipe/generic/client) 2>/dev/null");
        assert_eq!(of(&pen, "b", "pre").code, 0);
        ended(&of(&pen, "a", "post"), 14, "run b has it now");
        assert_eq!(of(&pen, "b", "post").code, 0);
        for _ in 0..2 {
            assert_eq!(of(&pen, "b", "post").code, 0, "{shell}: an idle one has nothing to say");
        }
        pen.good("! [ -e /run/locked ] && ! [ -e /run/appsnap-recipe/generic.run ]", &[]);
        pen.nothing_is_left("generic");
    }
}

#[test]
fn a_number_that_a_shell_reads_as_octal_is_refused() {
    let Some(pen) = generic("dash") else { return };
    pen.install("generic", "lock_command=:\nunlock_command=:\nhold=0120");
    ended(&pen.pre(), 2, "hold has to be a number from 10 to 3600, not \"0120\"");
    pen.nothing_is_left("generic");
}

const REDIS: &str = include_str!("../src/local/engine/redis.sh");

#[test]
fn a_setting_of_redis_is_not_changed_after_it_was_put_back_and_a_failed_disk_is_told() {
    if !need(&[&pen::NEEDS[..], &["setpriv", "redis-server", "redis-cli"]].concat()) {
        return;
    }
    let pen = Pen::new("dash");
    pen.good("mkdir -m 750 $1 && chown redis:redis $1", &[DATA]);
    pen.good(REDIS, &["start", DATA]);
    pen.install("redis", &pen.good(REDIS, &["conf"]));
    // The client dies just before another connection would change the setting.
    let late = "cat >/run/bin/redis-cli <<'EOF'\n#!/bin/sh\n\
        case \"$*\" in *'percentage 0') cd /run/appsnap-recipe/redis && read -r p _ <client && kill -KILL \"$p\"\n\
        while [ -e changed ]; do sleep 0.1; done ;; esac\nexec /usr/bin/redis-cli \"$@\"\nEOF\nchmod 755 /run/bin/redis-cli";
    pen.good(late, &[]);
    pen.pre();
    pen.post();
    let socket = "redis-cli -s /run/appsnap-engine/redis/redis.sock CONFIG GET auto-aof-rewrite-percentage";
    assert!(pen.good(socket, &[]).ends_with("\n100"), "the setting is still changed");
    pen.nothing_is_left("redis");
    pen.good("rm /run/bin/redis-cli", &[]);
    // A disk that fails.
    let sync = "cat >/run/bin/sync <<'EOF'\n#!/bin/sh\ncase \"$*\" in *.aof) echo EIO >&2; exit 1 ;; esac\n\
        exec /bin/sync \"$@\"\nEOF\nchmod 755 /run/bin/sync";
    pen.good(sync, &[]);
    ended(&pen.pre(), 16, ".aof did not come to disk: EIO");
    pen.nothing_is_left("redis");
}
