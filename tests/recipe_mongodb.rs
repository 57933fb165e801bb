//! The recipe for MongoDB against a stand-in: Debian has no MongoDB, so `mongosh` is a script here that keeps one lock in a
//! file, as the server does beyond the end of its clients, and answers the lines of the recipe. What it shows is that on
//! every path the lock is counted down to nothing; what a real server says it does not show.

mod common;
#[path = "common/pen.rs"]
#[allow(dead_code)] // each test file uses its part
mod pen;

use common::need;
use pen::{Pen, Ran, SHELLS};

const NAME: &str = "mongodb";

/// /run/server holds the server: `up` while it runs, `locks`, `role`, `start`, `password`; `hang` lets a lock wait, and
/// `asked` is one that waits. Arguments and words that it does not know are told in `strange`.
const MONGOSH: &str = r#"#!/bin/sh
cd /run/server || exit
echo "$*" >>arguments
[ -e up ] || { echo "MongoNetworkError: connect ECONNREFUSED 127.0.0.1:27017"; exit 1; }
sleep 0.3 # its start takes a while
in='' && [ -s password ] || in=1
locked() { [ "$(cat locks)" -gt 0 ] && echo true || echo false; }
unlock() { # counted down, as often as it was locked
  while [ "$(cat locks)" -gt 0 ]; do echo $(($(cat locks) - 1)) >locks; echo unlock >>said; done
}
printf 'admin> '
while read -r line; do
  case $line in
  'var admin'* | 'function '* | 'var h ='* | 'h = run'* | 'var s ='* | "}"*) ;;
  'var in_ = admin.auth("appsnap", "'*'");') [ "$line" != "var in_ = admin.auth(\"appsnap\", \"$(cat password)\");" ] || in=1 ;;
  *'tell("role"'*) printf '\nrole %s\n\n' "$(cat role)" ;;
  *'tell("path"'*) [ "$in" ] && printf '\npath /run/db\n\n' || printf '\npath ? command getCmdLineOpts requires authentication\n\n' ;;
  *'tell("server"'*) printf '\nserver 7.0.5 1 %s wiredTiger\n\n' "$(cat start)" ;;
  *'tell("before"'*) printf '\nbefore %s\n\n' "$(locked)" ;;
  *'fsync: 1, lock: true'*)
    : >asked && while [ -e hang ]; do sleep 0.1; done
    rm asked && echo $(($(cat locks) + 1)) >locks && printf '\nlocked %s\n\n' "$(cat locks)" ;;
  *'tell("offset"'*) printf '\noffset 1795917962.7\n\n' ;;
  *'tell("still"'*) [ -e up ] && printf '\nstill %s 1 %s\n\n' "$(locked)" "$(cat start)" ;;
  *'killOp: 1'*) rm -f asked hang ;;
  'for (var n = 0; n < 100 && locked(); n++) { run({ fsyncUnlock: 1 }); }') unlock ;;
  *'tell("after"'*) printf '\nafter %s\n\n' "$(locked)" ;;
  *'tell("free"'*) printf '\nfree %s %s\n\n' "$(locked)" "$([ -e asked ] && echo 1 || echo 0)" ;;
  exit) exit ;;
  *) echo "$line" >>strange ;;
  esac
  printf 'admin> '
done
"#;

fn needed() -> bool {
    need(&[&pen::NEEDS[..], &["dash", "bash", "busybox"]].concat())
}

fn server(shell: &str, conf: &str) -> Pen {
    let pen = Pen::new(shell);
    pen.good("printf %s \"$1\" >/run/bin/mongosh; chmod 755 /run/bin/mongosh", &[MONGOSH]);
    pen.good("mkdir /run/server /run/db; cd /run/server; : >up; echo 0 >locks; echo primary >role; echo 1795918000 >start", &[]);
    pen.install(NAME, &format!("{conf}\n"));
    pen
}
fn ended(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, code, "{words}: {ran:?}");
    assert!(ran.err.starts_with("mongodb: ") && ran.err.contains(words), "{words}: {ran:?}");
}
fn locks(pen: &Pen) -> String {
    pen.good("cat /run/server/locks", &[])
}
/// No process, no state, no lock, and no line that the stand-in does not know.
fn nothing_is_left(pen: &Pen) {
    pen.nothing_is_left(NAME);
    assert_eq!(locks(pen), "0");
    assert_eq!(pen.good("cat /run/server/strange 2>/dev/null; ls /run/server/asked 2>/dev/null; :", &[]), "");
}

#[test]
fn the_lock_is_taken_asked_for_and_let_go_in_one_session() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = server(shell, "");
        let pre = pen.pre();
        assert_eq!((pre.code, pre.err.as_str()), (0, ""), "{shell}: {pre:?}");
        let marks = "engine=mongodb version=7.0.5 datadir=/run/db offset=1795917962.7";
        let told: Vec<&str> =
            pre.out.lines().filter_map(|line| line.strip_prefix("appsnap-mark: ")).collect();
        assert_eq!(told.join(" "), marks, "{shell}");
        assert_eq!(locks(&pen), "1");
        ended(&pen.pre(), 11, "an earlier run holds");
        let post = pen.post();
        assert_eq!((post.code, post.err.as_str()), (0, ""), "{shell}: {post:?}");
        assert_eq!(
            pen.good("cat /run/server/said; wc -l </run/server/arguments", &[]),
            "unlock\n1",
            "{shell}: one session"
        );
        assert_eq!(pen.post().code, 0, "an idle postscript has nothing to say");
        nothing_is_left(&pen);
    }
}

#[test]
fn whoever_dies_the_lock_that_outlives_its_client_is_taken_away() {
    if !needed() {
        return;
    }
    for shell in ["dash", "busybox"] {
        let pen = server(shell, "hold=10");
        for who in ["client", "holder", "runner"] {
            assert_eq!(pen.pre().code, 0, "{who}");
            pen.good("kill -KILL $1", &[&pen.process(NAME, who)]);
            assert!(pen.until("[ $(cat /run/server/locks) = 0 ]") < 90, "{shell}: {who}");
            ended(&pen.post(), 14, "the session that locked is gone");
            nothing_is_left(&pen);
        }
        assert_eq!(pen.pre().code, 0);
        let tenths = pen.until("[ $(cat /run/server/locks) = 0 ]");
        assert!(tenths > 50, "{shell}: the deadline of 10 s came after {tenths} tenths");
        ended(&pen.post(), 14, "by its deadline");
        nothing_is_left(&pen);
    }
}

#[test]
fn a_lock_that_comes_too_late_is_not_left_behind() {
    if !needed() {
        return;
    }
    let pen = server("dash", "wait=2");
    pen.good(": >/run/server/hang", &[]);
    ended(&pen.pre(), 10, "not locked after 2 s: it waits for open transactions");
    nothing_is_left(&pen);
    // The same, of a prescript that is killed meanwhile.
    pen.good(
        ": >/run/server/hang; setsid sh /etc/appsnap/prescript.sh >/dev/null 2>&1 & echo $! >/run/pre",
        &[],
    );
    pen.until("[ -e /run/server/asked ]");
    pen.good("kill -KILL $(cat /run/pre)", &[]);
    pen.until("[ ! -e /run/server/asked ]");
    let post = pen.post();
    assert!(post.code == 0 || post.code == 14, "{post:?}");
    nothing_is_left(&pen);
}

#[test]
fn a_lock_of_somebody_else_or_one_that_he_took_away_is_told() {
    if !needed() {
        return;
    }
    let pen = server("bash", "");
    pen.good("echo 1 >/run/server/locks", &[]);
    ended(&pen.pre(), 11, "locked already, by somebody else's fsyncLock");
    assert_eq!(locks(&pen), "1", "another's lock was taken away");
    pen.good("echo 0 >/run/server/locks", &[]);
    assert_eq!(pen.pre().code, 0);
    pen.good("echo 0 >/run/server/locks", &[]);
    ended(&pen.post(), 14, "the server is not locked any more");
    nothing_is_left(&pen);
    assert_eq!(pen.pre().code, 0);
    pen.good("echo 1795919999 >/run/server/start", &[]);
    ended(&pen.post(), 14, "the server was started anew");
    nothing_is_left(&pen);
    // A dead server has no lock, and keeps nobody waiting.
    assert_eq!(pen.pre().code, 0);
    pen.good("rm /run/server/up; echo 0 >/run/server/locks; kill -KILL $1", &[&pen.process(NAME, "client")]);
    assert_eq!(pen.post().code, 14);
    nothing_is_left(&pen);
}

#[test]
fn the_role_the_login_and_the_place_are_judged_before_anything_is_locked() {
    if !needed() {
        return;
    }
    let pen = server("busybox", "role=secondary");
    ended(&pen.pre(), 75, "is a primary");
    for (role, code, words) in [("mongos", 16, "is a mongos"), ("other", 75, "neither primary nor secondary")]
    {
        pen.good("echo $1 >/run/server/role", &[role]);
        ended(&pen.pre(), code, words);
    }
    pen.good("echo secondary >/run/server/role; echo 'p a$s' >/run/server/password", &[]);
    ended(&pen.pre(), 12, "requires authentication: see user and passwordfile");
    pen.good("umask 077; echo 'p a$s' >/etc/appsnap/secret", &[]);
    pen.install(NAME, "role=secondary\nuser=appsnap\npasswordfile=/etc/appsnap/secret\n");
    assert_eq!(pen.pre().code, 0);
    assert_eq!(pen.post().code, 0);
    assert!(!pen.good("cat /run/server/arguments", &[]).contains("a$s"), "a password in an argument");
    pen.good("chmod 644 /etc/appsnap/secret", &[]);
    ended(&pen.pre(), 2, "must be root's alone");
    pen.good("chmod 600 /etc/appsnap/secret; rm /run/server/up", &[]);
    ended(&pen.pre(), 12, "ECONNREFUSED");
    nothing_is_left(&pen);
}
