//! The recipe for files of SQLite with the real sqlite3, in a namespace of its own and under each shell; and the check of
//! such files on a copy. Nothing is frozen here.

mod common;
#[path = "common/pen.rs"]
#[allow(dead_code)] // each test file uses its part
mod pen;

use appsnap::verify::judge::{State, Told, Verdict, sqlite};
use common::need;
use pen::{Pen, Ran, SHELLS};

const VERIFY: &str = include_str!("../src/guest/verify/sqlite.sh");
const NAME: &str = "sqlite";

fn needed() -> bool {
    need(&[&pen::NEEDS[..], &["setpriv", "sqlite3", "dash", "bash", "busybox"]].concat())
}

/// A pen with a database in WAL mode, one with a rollback journal and one with an odd name, a table t in each.
fn files(shell: &str, conf: &str) -> Pen {
    let pen = Pen::new(shell);
    pen.good(
        r#"mkdir "/run/d d"; cd "/run/d d"; mkdir sub; for f in wal.db roll.db "sub/o'dd na=me.db"; do
            m=wal; [ $f != roll.db ] || m=delete
            sqlite3 "$f" "PRAGMA journal_mode=$m; CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (0)" >/dev/null
        done; : >empty.db; echo no database >readme.txt"#,
        &[],
    );
    pen.install(NAME, &format!("files=/run/d?d/*.db* /run/d?d/sub/*.db\n{conf}\n"));
    pen
}
fn write(pen: &Pen, file: &str) -> Ran {
    pen.run("sqlite3 \"/run/d d/$1\" 'INSERT INTO t SELECT max(n) + 1 FROM t'", &[file])
}
const EACH: [&str; 3] = ["wal.db", "roll.db", "sub/o'dd na=me.db"];

fn ended(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, code, "{words}: {ran:?}");
    assert!(ran.err.starts_with("sqlite: ") && ran.err.contains(words), "{words}: {ran:?}");
}
/// No process, no state, no lock is left.
fn nothing_is_left(pen: &Pen) {
    pen.nothing_is_left(NAME);
    for file in EACH {
        assert_eq!(write(pen, file).code, 0, "{file} is locked");
    }
    assert_eq!(pen.run("grep -lsa batch.-bai[l] /proc/[0-9]*/cmdline", &[]).out, "", "a sqlite3 is left");
}
/// What the check tells of a copy that is made now.
fn copied(pen: &Pen) -> Verdict {
    pen.good("rm -rf /run/copy /run/work; cp -a '/run/d d' /run/copy; mkdir -m 711 /run/work", &[]);
    let query = "SELECT max(n) FROM t"; // roll.db is the first that answers
    let ran = pen.run(&format!("export WORK=/run/work QUERY='{query}'\n{VERIFY}"), &["/run/copy", "-", "30"]);
    sqlite::verdict(&Told::read(&ran.out))
}

#[test]
fn writers_wait_readers_go_on_and_nothing_is_left_to_replay() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = files(shell, "");
        for file in ["wal.db", "roll.db"] {
            // What it wrote is acknowledged when it ended well; the number is on tmpfs then.
            let writer = "n=0; while :; do sqlite3 -cmd '.timeout 60000' \"/run/d d/$1\" \
                \"INSERT INTO t VALUES ($((n + 1)))\" && n=$((n + 1)) && echo $n 1<>/run/acked.$1; done";
            pen.good(
                &format!("setsid sh -c '{}' w \"$1\" >/dev/null 2>&1 &", writer.replace('\'', "'\\''")),
                &[file],
            );
        }
        // A connection that stays keeps its WAL.
        pen.good("setsid sh -c 'sleep 100 | sqlite3 \"/run/d d/wal.db\"' >/dev/null 2>&1 &", &[]);
        pen.until("[ -s /run/acked.wal.db ] && [ -s /run/acked.roll.db ]");
        let pre = pen.pre();
        assert_eq!((pre.code, pre.err.as_str()), (0, ""), "{shell}: {pre:?}");
        let marks = ["engine=sqlite", "version=3.", "datadir=/run/d d", "files=3", "wal=0"];
        for (line, mark) in pre.out.lines().zip(marks) {
            assert!(line.starts_with(&format!("appsnap-mark: {mark}")), "{shell}: {pre:?}");
        }
        let acked = pen.good("cat /run/acked.roll.db", &[]);
        let copy = copied(&pen);
        assert_eq!((copy.state, copy.redo_bytes), (State::Clean, Some(0)), "{shell}: {copy:?}");
        let numbers = [copy.answer.unwrap(), acked.clone()].map(|text| text.parse::<u32>().unwrap());
        assert!(numbers[0] == numbers[1] || numbers[0] == numbers[1] + 1, "{shell}: {numbers:?}");
        for file in EACH {
            assert!(write(&pen, file).err.contains("locked"), "{shell}: {file}");
            assert_eq!(pen.run("sqlite3 \"/run/d d/$1\" 'SELECT 1 FROM t LIMIT 1'", &[file]).out, "1\n");
        }
        ended(&pen.pre(), 11, "an earlier run holds");
        assert_eq!(pen.good("cat /run/acked.roll.db", &[]), acked, "{shell}: it was written to");
        let post = pen.post();
        assert_eq!((post.code, post.err.as_str()), (0, ""), "{shell}: {post:?}");
        pen.until(&format!("[ $(cat /run/acked.roll.db) -gt {acked} ]"));
        assert_eq!(pen.post().code, 0, "an idle postscript has nothing to say");
        pen.nothing_is_left(NAME);
    }
}

#[test]
fn a_transaction_that_stays_open_is_named_and_no_lock_is_left() {
    if !needed() {
        return;
    }
    for (shell, file) in [("dash", "wal.db"), ("busybox", "roll.db")] {
        let pen = files(shell, "wait=2");
        let open = "setsid sh -c '(echo \"BEGIN IMMEDIATE; INSERT INTO t VALUES (-1);\"; until [ -e /run/go ]; do sleep 0.1; done) \
            | sqlite3 -cmd \".timeout 9000\" \"/run/d d/$1\"' w $1 >/dev/null 2>&1 &";
        pen.good(open, &[file]);
        pen.until(&format!("! sqlite3 '/run/d d/{file}' 'BEGIN IMMEDIATE; ROLLBACK;' 2>/dev/null"));
        ended(&pen.pre(), 10, &format!("/run/d d/{file}: somebody has kept a transaction open for 2 s"));
        pen.good(": >/run/go", &[]);
        pen.until(&format!("sqlite3 '/run/d d/{file}' 'BEGIN IMMEDIATE; ROLLBACK;' 2>/dev/null"));
        nothing_is_left(&pen);
    }
}

#[test]
fn a_reader_that_stays_leaves_a_log_to_replay_and_the_mark_says_how_much() {
    if !needed() {
        return;
    }
    let pen = files("dash", "");
    let open = "setsid sh -c '(echo \"BEGIN; SELECT * FROM t;\"; sleep 100) | sqlite3 \"/run/d d/wal.db\"' \
        >/run/read 2>&1 &";
    pen.good(open, &[]);
    pen.until("[ -s /run/read ]");
    assert_eq!(write(&pen, "wal.db").code, 0);
    let pre = pen.pre();
    assert!(pre.code == 0 && pre.out.contains("appsnap-mark: wal=4152\n"), "{pre:?}");
    let copy = copied(&pen);
    assert_eq!(
        (copy.state, copy.redo_bytes, copy.rolled_back),
        (State::RedoSmall, Some(4152), Some(0)),
        "{copy:?}"
    );
    assert_eq!(pen.post().code, 0);
    nothing_is_left(&pen);
}

#[test]
fn whoever_dies_all_locks_are_gone_and_the_postscript_knows() {
    if !needed() {
        return;
    }
    for shell in ["dash", "busybox"] {
        let pen = files(shell, "hold=15");
        for who in ["client", "holder", "runner", "one", "all"] {
            assert_eq!(pen.pre().code, 0, "{who}");
            assert!(write(&pen, "wal.db").err.contains("locked"), "{who}");
            match who {
                "one" => pen.good(
                    "kill -KILL $(grep -lsa 'null./run/d d/roll.d[b]' /proc/[0-9]*/cmdline | cut -d/ -f3)",
                    &[],
                ),
                "all" => pen.good(
                    "kill -KILL $1 $2 $3",
                    &[
                        &pen.process(NAME, "client"),
                        &pen.process(NAME, "holder"),
                        &pen.process(NAME, "runner"),
                    ],
                ),
                who => pen.good("kill -KILL $1", &[&pen.process(NAME, who)]),
            };
            for file in EACH {
                let tenths = pen
                    .until(&format!("sqlite3 \"/run/d d/{file}\" 'BEGIN IMMEDIATE; ROLLBACK;' 2>/dev/null"));
                assert!(tenths < 100, "{shell}: {who}: {file}: {tenths} tenths of a second");
            }
            ended(&pen.post(), 14, "let go");
            nothing_is_left(&pen);
        }
        // And the deadline, with everybody alive.
        assert_eq!(pen.pre().code, 0);
        let tenths = pen.until("sqlite3 '/run/d d/wal.db' 'BEGIN IMMEDIATE; ROLLBACK;' 2>/dev/null");
        assert!(tenths > 50 && tenths < 250, "{shell}: {tenths}");
        ended(&pen.post(), 14, "by their deadline");
        nothing_is_left(&pen);
    }
}

#[test]
fn a_file_that_was_replaced_under_its_lock_is_not_the_one_that_was_locked() {
    if !needed() {
        return;
    }
    let pen = files("bash", "");
    assert_eq!(pen.pre().code, 0);
    pen.good("cd '/run/d d' && cp roll.db new && mv new roll.db", &[]);
    ended(&pen.post(), 14, "/run/d d/roll.db was replaced");
    nothing_is_left(&pen);
}

#[test]
fn what_is_no_database_is_told_and_forty_of_them_are_locked() {
    if !needed() {
        return;
    }
    let pen = files("dash", "");
    for (conf, words) in [
        ("", "names 0 databases"),
        ("files=/run/nowhere/*.db", "there is no file /run/nowhere/*.db"),
        ("files=d/x.db", "not an absolute path"),
        ("files=/run/d?d/readme.txt", "is no SQLite database, or is encrypted"),
        ("files=/run/d?d/empty.db", "names 0 databases"),
        ("files=/run/d?d/wal.db\nwait=0", "wait has to be a number from 1 to 300"),
    ] {
        pen.install(NAME, conf);
        ended(&pen.pre(), 2, words);
        pen.nothing_is_left(NAME);
    }
    pen.good("mkdir /run/m; for n in 1 2 3 4; do for m in 0 1 2 3 4 5 6 7 8 9; do cp '/run/d d/wal.db' /run/m/$n$m.db; done; done", &[]);
    pen.install(NAME, "files=/run/m/*.db /run/m/1*.db");
    let pre = pen.pre();
    assert!(pre.code == 0 && pre.out.contains("appsnap-mark: files=40\n"), "{pre:?}");
    let locked =
        "for f in /run/m/*.db; do sqlite3 $f 'BEGIN IMMEDIATE; ROLLBACK;' 2>/dev/null && echo $f; done; :";
    assert_eq!(pen.good(locked, &[]), "");
    let post = pen.post();
    assert_eq!((post.code, post.err.as_str()), (0, ""), "{post:?}");
    assert_eq!(pen.good(locked, &[]).lines().count(), 40);
    pen.nothing_is_left(NAME);
    // A check of a copy looks below one directory; the whole system is none.
    pen.good("mount -t tmpfs r /mnt; cp /run/m/10.db /mnt", &[]);
    pen.install(NAME, "files=/run/m/10.db /mnt/10.db");
    let pre = pen.pre();
    assert!(pre.code == 0 && !pre.out.contains("datadir=") && pre.out.contains("files=2"), "{pre:?}");
    assert_eq!(pen.post().code, 0);
}
