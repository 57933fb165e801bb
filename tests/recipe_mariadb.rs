//! The recipe for MariaDB against a real server of Debian's, in a namespace of its own and under each shell. Nothing is
//! frozen here: what a frozen copy then shows is told by `tests/databases.rs`.

mod common;
#[allow(dead_code)] // others need the rest of it
#[path = "common/pen.rs"]
mod pen;

use appsnap::verify::judge::{State, Told, mariadb::verdict};
use common::need;
use pen::{Pen, Ran, SHELLS};

const ENGINE: &str = include_str!("../src/local/engine/mariadb.sh");
const VERIFY: &str = include_str!("../src/guest/verify/mariadb.sh");
const DATA: &str = "/run/d/data";
const NAME: &str = "mariadb";

/// Settings that no default is: whoever puts back defaults is found out.
const OWN: &str = "SET GLOBAL innodb_io_capacity_max = 1234; SET GLOBAL innodb_io_capacity = 321;
    SET GLOBAL innodb_max_dirty_pages_pct = 77; SET GLOBAL innodb_max_dirty_pages_pct_lwm = 7";
const SETTINGS: &str = "SELECT @@innodb_io_capacity, @@innodb_io_capacity_max, @@innodb_max_dirty_pages_pct,
    @@innodb_max_dirty_pages_pct_lwm";
const KEPT: &str = "321\t1234\t77.000000\t7.000000";

/// In the shell: succeeds once a write goes through.
const WRITES: &str = "echo 'SET max_statement_time = 0.3; UPDATE item SET hits = hits + 1 WHERE id = 9999' |
    mariadb --no-defaults --socket=/run/appsnap-engine/mariadb/socket app";

fn needed() -> bool {
    need(
        &[&pen::NEEDS[..], &["mariadbd", "mariadb", "mariadb-install-db", "dash", "bash", "busybox"]]
            .concat(),
    )
}

/// A pen with a running server and the recipe.
fn server(shell: &str, conf: &str) -> Pen {
    let pen = Pen::new(shell);
    pen.good(ENGINE, &["make", DATA, "/run/d/log"]);
    pen.good(ENGINE, &["start", DATA]);
    pen.install(NAME, &format!("{}\n{conf}\n", pen.good(ENGINE, &["conf"])));
    ask(&pen, OWN);
    pen
}

fn sql(pen: &Pen, text: &str) -> Ran {
    let client = "mariadb --no-defaults --socket=/run/appsnap-engine/mariadb/socket -N -B -e \"$1\" app";
    pen.run(client, &[text])
}
fn ask(pen: &Pen, text: &str) -> String {
    let ran = sql(pen, text);
    assert_eq!(ran.code, 0, "{text}: {ran:?}");
    ran.out.trim_end().to_owned()
}
fn locked(pen: &Pen) -> bool {
    let ran = pen.run(WRITES, &[]);
    assert!(ran.code == 0 || ran.err.contains("max_statement_time"), "{ran:?}");
    ran.code != 0
}

/// What ended this way, and said why.
fn ended(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.err.starts_with("mariadb: ") && ran.err.contains(words), "{words}: {ran:?}");
}
/// Nothing of the recipe is left: no process, no state, no lock, no changed setting, no session but this one.
fn nothing_is_left(pen: &Pen) {
    pen.nothing_is_left(NAME);
    assert!(!locked(pen), "writers still wait");
    assert_eq!(ask(pen, SETTINGS), KEPT);
}

#[test]
fn writers_stop_while_it_is_locked_and_a_copy_made_then_is_clean() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        assert!((0..3).any(|_| copied(shell)), "{shell}: the server always wrote log of its own");
    }
}

/// Locked, copied, let go and started on the copy; `false` where InnoDB wrote of its own accord under the lock, as it seldom
/// does, and the postscript said so.
fn copied(shell: &str) -> bool {
    let pen = server(shell, "");
    pen.good(ENGINE, &["load", "busy", "100"]);
    let pre = pen.pre();
    assert_eq!((pre.code, pre.err.as_str()), (0, ""), "{shell}: {pre:?}");
    let marks = ["engine=mariadb", "version=10.", "datadir=/run/d/data", "logdir=/run/d/log"];
    let marks = [&marks[..], &["gtid=0-1-", "binlog=binlog.0"]].concat();
    assert_eq!(pre.out.lines().count(), marks.len(), "{pre:?}");
    for (line, mark) in pre.out.lines().zip(marks) {
        assert!(line.starts_with(&format!("appsnap-mark: {mark}")), "{pre:?}");
    }
    let acked = pen.good(ENGINE, &["acked"]);
    assert!(locked(&pen), "{shell}");
    assert_eq!(ask(&pen, "SELECT COUNT(*) FROM item"), "180000", "{shell}: readers go on");
    assert_eq!(ask(&pen, SETTINGS), KEPT, "{shell}: put back as soon as the lock stands");
    pen.good("cp -a /run/d /run/copy", &[]);
    ended(&pen.pre(), 11, "an earlier run holds");
    assert_eq!(pen.good(ENGINE, &["acked"]), acked, "{shell}: a commit was acknowledged under the lock");
    let post = pen.post();
    if post.code == 16 && post.err.contains("log of its own") {
        pen.good(ENGINE, &["unload"]);
        nothing_is_left(&pen);
        return false;
    }
    assert_eq!((post.code, post.err.as_str()), (0, ""), "{shell}: {post:?}");
    pen.until(&format!("[ $(tail -n 1 /run/appsnap-engine/mariadb/acked) -gt {acked} ]"));
    pen.good(ENGINE, &["unload"]);
    assert_eq!(pen.post().code, 0, "an idle postscript has nothing to say");
    nothing_is_left(&pen);
    pen.good("printf %s \"$1\" >/run/verify && mkdir -m 711 /run/work", &[VERIFY]);
    let verify = "export WORK=/run/work QUERY='SELECT MAX(n) FROM app.acked'
        unshare -m sh -c 'mount --bind /run/copy /run/d && sh /run/verify /run/d/data /run/d/log 30'";
    let told = pen.good(verify, &[]);
    let verdict = verdict(&Told::read(&told));
    assert_eq!(verdict.state, State::Clean, "{shell}: {told}");
    assert_eq!((verdict.rolled_back, verdict.redo_bytes), (Some(0), Some(0)), "{told}");
    let kept: u64 = verdict.answer.as_deref().unwrap().parse().unwrap();
    assert!(kept >= acked.parse().unwrap(), "{shell}: acknowledged {acked}, in the copy {kept}");
    assert!(told.contains("fact: unclosed=0"), "the table without transactions was closed: {told}");
    true
}

#[test]
fn whoever_dies_no_lock_stays_and_the_postscript_says_that_it_was_lost() {
    if !needed() {
        return;
    }
    let pen = server("dash", "");
    for who in ["holder", "runner", "client", "session"] {
        assert_eq!(pen.pre().code, 0, "{who}");
        assert!(locked(&pen), "{who}");
        match who {
            "session" => {
                let id = pen.good("cat /run/appsnap-recipe/mariadb/noted.session", &[]);
                ask(&pen, &format!("KILL {id}"));
            }
            _ => drop(pen.good("kill -9 $1", &[&pen.process(NAME, who)])),
        }
        let waited = pen.until(&format!("{WRITES} 2>/dev/null"));
        assert!(waited < 60, "{who}: {waited} tenths of a second");
        ended(&pen.post(), 14, "the lock was lost");
        nothing_is_left(&pen);
    }
    // The server itself: nothing of it is left to be put back.
    assert_eq!(pen.pre().code, 0);
    pen.good("kill -9 $(cat /run/appsnap-engine/mariadb/server)", &[]);
    ended(&pen.post(), 14, "the lock was lost");
    pen.nothing_is_left(NAME);
}

#[test]
fn whoever_dies_while_pages_are_drained_the_settings_are_put_back() {
    if !needed() {
        return;
    }
    let pen = server("busybox", "");
    let dying = r#"setsid sh /etc/appsnap/prescript.sh >/run/pre.out 2>&1 & echo $! >/run/pre.pid
        S=/run/appsnap-recipe/mariadb n=0
        until [ -e $S/changed ]; do [ $((n += 1)) -le 3000 ] || exit 1; sleep 0.01; done
        for who; do read -r pid _ <$S/$who && kill -9 $pid; done"#;
    pen.good(ENGINE, &["load", "busy", "300"]);
    let dirty = "SELECT variable_value > 600 FROM information_schema.global_status
        WHERE variable_name = 'INNODB_BUFFER_POOL_PAGES_DIRTY'";
    let deaths: [&[&str]; 6] =
        [&["owner"], &["client"], &["holder"], &["runner"], &["owner", "runner"], &["owner", "holder"]];
    for who in deaths {
        pen.until(&format!(
            "[ \"$(mariadb --no-defaults --socket=/run/appsnap-engine/mariadb/socket -N -B -e \
            \"{dirty}\")\" = 1 ]"
        ));
        pen.good(dying, who);
        pen.until("! kill -0 $(cat /run/pre.pid) 2>/dev/null");
        pen.until("! [ -e /run/appsnap-recipe/mariadb/changed ]");
        let post = pen.post();
        assert!([0, 14].contains(&post.code), "{who:?}: {post:?}");
        nothing_is_left(&pen);
    }
    // The server dies: whoever puts back finds that there is nothing to put back, and does not wait for it.
    pen.until(&format!(
        "[ \"$(mariadb --no-defaults --socket=/run/appsnap-engine/mariadb/socket -N -B -e \
        \"{dirty}\")\" = 1 ]"
    ));
    pen.good(&dying.replace("for who;", "kill -9 $(cat /run/appsnap-engine/mariadb/server)\nfor who;"), &[]);
    let waited = pen.until("! kill -0 $(cat /run/pre.pid) 2>/dev/null");
    assert!(waited < 100, "{waited} tenths of a second");
    let said = pen.good("cat /run/pre.out", &[]);
    assert!(said.starts_with("mariadb: the session with the server ended"), "{said}");
    pen.nothing_is_left(NAME);
}

#[test]
fn the_lock_ends_at_its_deadline_whatever_happens() {
    if !needed() {
        return;
    }
    let pen = server("bash", "hold=20");
    assert_eq!(pen.pre().code, 0);
    let waited = pen.until(&format!("{WRITES} 2>/dev/null"));
    assert!(waited > 20, "{waited} tries of 0.3 s and more are less than 20 s");
    ended(&pen.post(), 14, "the lock was lost");
    nothing_is_left(&pen);
}

#[test]
fn an_open_transaction_that_has_written_is_10_and_a_long_update_is_11_and_writers_go_on() {
    if !needed() {
        return;
    }
    let pen = server("dash", "wait=3");
    pen.good(ENGINE, &["load", "open-transaction", "60"]);
    let (before, pre) = (pen.good(ENGINE, &["acked"]), pen.pre());
    ended(&pre, 10, "1000 rows");
    let after = pen.good(ENGINE, &["acked"]);
    assert!(after.parse::<u64>().unwrap() > before.parse::<u64>().unwrap() + 100, "{before} {after}");
    nothing_is_left(&pen);
    pen.good(ENGINE, &["unload"]);
    // It changes no row, so it is no transaction that has written; the lock would have to wait for its end.
    pen.good(ENGINE, &["load", "acked", "60"]);
    let long = "echo 'UPDATE item SET hits = hits WHERE id < 200 AND SLEEP(0.1) = 0' | setsid mariadb --no-defaults \
        --socket=/run/appsnap-engine/mariadb/socket app >/dev/null 2>&1 & sleep 1";
    pen.good(long, &[]);
    let (before, pre) = (pen.good(ENGINE, &["acked"]), pen.pre());
    ended(&pre, 11, "max_statement_time exceeded");
    let after = pen.good(ENGINE, &["acked"]);
    assert!(after.parse::<u64>().unwrap() > before.parse::<u64>().unwrap() + 100, "{before} {after}");
    nothing_is_left(&pen);
}

#[test]
fn a_long_reader_is_not_waited_for_and_an_old_read_view_does_not_hold_the_lock_up() {
    if !needed() {
        return;
    }
    let pen = server("dash", "");
    pen.good(ENGINE, &["load", "long-select", "100"]);
    assert_eq!(pen.pre().code, 0);
    assert!(locked(&pen));
    let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(0.1)%' AND id <> CONNECTION_ID()";
    assert_eq!(ask(&pen, running), "1");
    assert_eq!(pen.post().code, 0);
    pen.good(ENGINE, &["unload"]);
    nothing_is_left(&pen);
}

#[test]
fn an_older_server_that_cannot_be_told_to_checkpoint_is_waited_for() {
    if !needed() {
        return;
    }
    let pen = server("dash", "settle=20");
    pen.good("sed -i s/innodb_log_checkpoint_now/innodb_none_such/ /etc/appsnap/prescript.sh", &[]);
    pen.good(ENGINE, &["load", "busy", "100"]);
    let pre = pen.pre();
    assert_eq!(pre.code, 0, "{pre:?}");
    let age = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_CHECKPOINT_AGE'";
    assert!(ask(&pen, age).parse::<u64>().unwrap() < 1000);
    assert_eq!(pen.post().code, 0);
    pen.good(ENGINE, &["unload"]);
    nothing_is_left(&pen);
}

#[test]
fn a_server_of_the_other_role_is_not_its_turn() {
    if !needed() {
        return;
    }
    let pen = server("dash", "role=replica");
    ended(&pen.pre(), 75, "is no replica");
    nothing_is_left(&pen);
    ask(&pen, "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_USER = 'nobody'");
    assert_eq!(pen.pre().code, 0);
    assert_eq!(pen.post().code, 0);
    pen.install(NAME, &format!("{}\nrole=primary\n", pen.good(ENGINE, &["conf"])));
    ended(&pen.pre(), 75, "is a replica");
    nothing_is_left(&pen);
}

#[test]
fn a_login_that_is_refused_is_12_and_one_with_the_rights_it_needs_is_enough() {
    if !needed() {
        return;
    }
    let pen = server("dash", "options=/etc/appsnap/login.cnf");
    let login = "printf '[client]\\nuser=snap\\npassword=%s\\n' \"$1\" >/etc/appsnap/login.cnf
        chmod \"$2\" /etc/appsnap/login.cnf";
    ask(&pen, "CREATE USER snap@localhost IDENTIFIED BY 'right'");
    pen.good(login, &["wrong", "600"]);
    ended(&pen.pre(), 12, "Access denied");
    pen.nothing_is_left(NAME);
    pen.good(login, &["right", "644"]);
    ended(&pen.pre(), 2, "mode 0600");
    pen.good(login, &["right", "600"]);
    ended(&pen.pre(), 16, "the server refuses");
    nothing_is_left(&pen);
    ask(&pen, "GRANT RELOAD, PROCESS, SUPER, BINLOG MONITOR, REPLICA MONITOR ON *.* TO snap@localhost");
    let pre = pen.pre();
    assert_eq!((pre.code, pre.out.lines().count()), (0, 6), "{pre:?}");
    assert_eq!(pen.post().code, 0);
    nothing_is_left(&pen);
    pen.good(ENGINE, &["stop", DATA]);
    ended(&pen.pre(), 12, "Can't connect");
    pen.nothing_is_left(NAME);
}
