//! The recipe for Redis against a real server of Debian's, in a namespace of its own and under each shell. Nothing is
//! frozen here: what a frozen copy then shows is told by `tests/databases.rs`.

mod common;
#[path = "common/pen.rs"]
#[allow(dead_code)] // each test file uses its part
mod pen;

use common::need;
use pen::{Pen, Ran, SHELLS};

const ENGINE: &str = include_str!("../src/local/engine/redis.sh");
const VERIFY: &str = include_str!("../src/guest/verify/redis.sh");
const DATA: &str = "/run/data";
const NAME: &str = "redis";

fn needed() -> bool {
    need(
        &[&pen::NEEDS[..], &["setpriv", "redis-server", "redis-cli", "redis-benchmark", "dash", "busybox"]]
            .concat(),
    )
}

/// A pen with a running server that is nearly empty, and the recipe.
fn server(shell: &str, conf: &str) -> Pen {
    let pen = Pen::new(shell);
    pen.good("mkdir -m 750 $1 && chown redis:redis $1", &[DATA]);
    pen.good(ENGINE, &["start", DATA]);
    pen.install(NAME, &format!("{}\n{conf}\n", pen.good(ENGINE, &["conf"])));
    pen
}

/// A command of the server, waited for half a second: 124 then.
fn ask(pen: &Pen, words: &str) -> Ran {
    pen.run(&format!("timeout 0.5 redis-cli -s /run/appsnap-engine/redis/redis.sock {words}"), &[])
}
fn answer(pen: &Pen, words: &str) -> String {
    let ran = ask(pen, words);
    assert_eq!(ran.code, 0, "{words}: {ran:?}");
    ran.out.trim_end().to_owned()
}
fn paused(pen: &Pen) -> bool {
    ask(pen, "INCR writer").code == 124
}
const PERCENTAGE: &str = "CONFIG GET auto-aof-rewrite-percentage";
const WRITES: &str = "timeout 0.5 redis-cli -s /run/appsnap-engine/redis/redis.sock INCR writer";

/// What ended this way, and said why in one sentence.
fn ended(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, code, "{words}: {ran:?}");
    assert!(ran.err.starts_with("redis: ") && ran.err.contains(words), "{words}: {ran:?}");
}
fn good(ran: &Ran) {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}
/// Nothing of the recipe is left: no process, no state, no pause, no setting.
fn nothing_is_left(pen: &Pen) {
    pen.nothing_is_left(NAME);
    assert!(!paused(pen), "writers still wait");
    assert_eq!(answer(pen, PERCENTAGE), "auto-aof-rewrite-percentage\n100");
    assert!(
        !pen.run("grep -lsa PUBLIS[H] /proc/[0-9]*/cmdline", &[]).out.contains("/proc"),
        "the guard is left"
    );
}
/// The engine's start on a copy that is made now; what it answers, and all that it told.
fn copy(pen: &Pen, query: &str) -> (String, String) {
    pen.good("rm -rf /run/copy /run/work && cp -a $1 /run/copy && mkdir -m 711 /run/work", &[DATA]);
    let told =
        pen.good(&format!("export WORK=/run/work QUERY='{query}'\n{VERIFY}"), &["/run/copy", "-", "30"]);
    let answer = told.lines().find_map(|line| line.strip_prefix("fact: answer=")).unwrap_or_default();
    (answer.to_owned(), told.clone())
}

#[test]
fn writers_wait_while_paused_and_all_that_was_acknowledged_is_in_the_file() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = server(shell, "");
        pen.good(ENGINE, &["load", "busy", "100"]);
        answer(&pen, "SET short-lived 1 PX 400");
        let pre = pen.pre();
        good(&pre);
        for (line, mark) in
            pre.out.lines().zip(["engine=redis", "version=7.", "datadir=/run/data", "replid=", "offset="])
        {
            assert!(line.starts_with(&format!("appsnap-mark: {mark}")), "{shell}: {pre:?}");
        }
        let (acked, keys) = (pen.good(ENGINE, &["acked"]), answer(&pen, "DBSIZE"));
        assert!(paused(&pen), "{shell}: a writer was served");
        assert_eq!(answer(&pen, PERCENTAGE), "auto-aof-rewrite-percentage\n0");
        let (copied, told) = copy(&pen, "GET acked");
        // One number may have been given and not been heard of yet.
        let (copied, told_acked): (u64, u64) = (copied.parse().unwrap(), acked.parse().unwrap());
        assert!(copied >= told_acked && copied <= told_acked + 1, "{shell}: {copied} of {acked}: {told}");
        ended(&pen.pre(), 11, "an earlier run holds");
        assert_eq!(pen.good(ENGINE, &["acked"]), acked, "{shell}: a write was acknowledged during the pause");
        assert_eq!(answer(&pen, "DBSIZE"), keys, "{shell}: a key expired during the pause");
        good(&pen.post());
        pen.until(&format!("[ $(cat /run/appsnap-engine/redis/acked) -gt {acked} ]"));
        pen.good(ENGINE, &["unload"]);
        good(&pen.post()); // an idle one has nothing to say
        nothing_is_left(&pen);
    }
}

#[test]
fn a_server_without_an_append_only_file_saves_a_dump_under_the_pause() {
    if !needed() {
        return;
    }
    let pen = server("dash", "");
    answer(&pen, "CONFIG SET appendonly no");
    answer(&pen, "SET kept 41");
    pen.good("rm -rf $1/*", &[DATA]);
    let pre = pen.pre();
    good(&pre);
    assert!(pre.out.contains("redis: the dump took"), "{pre:?}");
    assert!(paused(&pen));
    let (copied, told) = copy(&pen, "GET kept");
    assert!(copied == "41" && told.contains("fact: source=rdb"), "{told}");
    good(&pen.post());
    answer(&pen, "CONFIG SET save ''");
    ended(&pen.pre(), 16, "a snapshot can keep nothing of it");
    nothing_is_left(&pen);
}

#[test]
fn whoever_dies_writers_go_on_the_setting_is_back_and_the_postscript_knows() {
    if !needed() {
        return;
    }
    for shell in ["dash", "busybox"] {
        let pen = server(shell, "");
        for who in ["client", "holder", "runner", "guard"] {
            good(&pen.pre());
            assert!(paused(&pen), "{who}");
            pen.good("kill -KILL $1", &[&pen.process(NAME, who)]);
            if who != "guard" {
                let tenths = pen.until(WRITES);
                assert!(tenths < 200, "{who}: {tenths} tenths of a second, the deadline is at 120 s");
            }
            let post = pen.post();
            assert_eq!(post.code, 14, "{shell}: {who}: {post:?}");
            nothing_is_left(&pen);
        }
    }
}

#[test]
fn a_prescript_that_is_ended_while_writers_wait_lets_them_go() {
    if !needed() {
        return;
    }
    for signal in ["KILL", "TERM"] {
        let pen = server("dash", "");
        // The dump takes 20 s or more, so the prescript is in the middle.
        answer(&pen, "CONFIG SET appendonly no");
        answer(&pen, "CONFIG SET rdb-key-save-delay 2000");
        answer(&pen, "EVAL 'for i = 1, 10000 do redis.call(\"set\", i, i) end' 0");
        pen.good("setsid sh /etc/appsnap/prescript.sh >/run/told 2>&1 & echo $! >/run/pre", &[]);
        pen.until("[ -e /run/appsnap-recipe/redis/guard ]");
        pen.until(&format!("! {WRITES}"));
        pen.good("kill -$1 $(cat /run/pre)", &[signal]);
        let tenths = pen.until(WRITES);
        assert!(tenths < 150, "{signal}: {tenths} tenths of a second");
        answer(&pen, "CONFIG SET rdb-key-save-delay 0");
        let post = pen.post(); // the sequence runs it whenever a prescript has begun
        assert!(post.code == 0 || post.code == 14, "{signal}: {post:?}");
        nothing_is_left(&pen);
    }
}

#[test]
fn a_dead_server_takes_the_pause_with_it_and_the_postscript_knows() {
    if !needed() {
        return;
    }
    let pen = server("bash", "");
    good(&pen.pre());
    let kill = "kill -KILL $(cat /run/appsnap-engine/redis/pid); sleep 0.3; rm /run/appsnap-engine/redis/pid";
    pen.good(kill, &[]);
    ended(&pen.post(), 14, "the server broke off during the pause");
    pen.good(ENGINE, &["start", DATA]);
    nothing_is_left(&pen);
    good(&pen.pre());
    pen.good(kill, &[]);
    pen.good(ENGINE, &["start", DATA]);
    assert!(!paused(&pen));
    ended(&pen.post(), 14, "the server broke off during the pause");
    nothing_is_left(&pen);
}

#[test]
fn the_server_ends_a_pause_at_its_deadline_when_all_of_ours_are_dead() {
    if !needed() {
        return;
    }
    let pen = server("dash", "hold=10");
    good(&pen.pre());
    pen.good("kill -KILL $1 $2", &[&pen.process(NAME, "holder"), &pen.process(NAME, "runner")]);
    assert!(paused(&pen));
    assert!(pen.until(WRITES) <= 150);
    // Nobody was left to put the setting back: the next prescript does.
    good(&pen.pre());
    good(&pen.post());
    nothing_is_left(&pen);
    // And the holder's own deadline, with everybody alive.
    good(&pen.pre());
    pen.until(WRITES);
    assert_eq!(pen.post().code, 14);
    nothing_is_left(&pen);
}

#[test]
fn a_pause_that_somebody_else_ended_is_lost_and_his_own_is_left_alone() {
    if !needed() {
        return;
    }
    let pen = server("busybox", "");
    good(&pen.pre());
    answer(&pen, "CLIENT UNPAUSE");
    answer(&pen, "CLIENT PAUSE 60000 WRITE");
    ended(&pen.post(), 14, "the pause ended early");
    assert!(paused(&pen), "another's pause was ended");
    answer(&pen, "CLIENT UNPAUSE");
    nothing_is_left(&pen);
}

#[test]
fn a_script_that_keeps_the_server_busy_may_have_written_and_no_pause_comes_late() {
    if !needed() {
        return;
    }
    let pen = server("dash", "wait=2");
    pen.good(ENGINE, &["load", "open-transaction", "60"]);
    ended(&pen.pre(), 10, "has not answered for 2 s");
    pen.good(ENGINE, &["unload"]);
    nothing_is_left(&pen);
    // What is only queued is no transaction yet: it comes after the pause.
    let queued = "( (echo MULTI; echo SET queued 1; until [ -e /run/go ]; do sleep 0.1; done; echo EXEC) | redis-cli -s \
        /run/appsnap-engine/redis/redis.sock >/run/queued; ) >/dev/null 2>&1 & sleep 0.5";
    pen.good(queued, &[]);
    good(&pen.pre());
    pen.good(": >/run/go; sleep 1", &[]);
    assert_eq!(answer(&pen, "EXISTS queued"), "0");
    good(&pen.post());
    pen.until("grep -q OK /run/queued && tail -n 1 /run/queued | grep -q OK");
    assert_eq!(answer(&pen, "EXISTS queued"), "1");
    nothing_is_left(&pen);
}

#[test]
fn a_wrong_login_is_told_and_a_password_is_in_no_argument() {
    if !needed() {
        return;
    }
    let pen = server("dash", "");
    let conf = pen.good(ENGINE, &["conf"]);
    answer(
        &pen,
        "ACL SETUSER appsnap on '>p a$s' resetchannels '&appsnap' +ping +info +role +bgsave +publish '+client|pause' \
         '+client|unpause' '+config|get' '+config|set'",
    );
    let login = |password: &str, mode: &str| {
        pen.good(
            "printf '%s\\n' \"$1\" >/etc/appsnap/secret && chmod $2 /etc/appsnap/secret",
            &[password, mode],
        );
        pen.install(NAME, &format!("{conf}\nuser=appsnap\npasswordfile=/etc/appsnap/secret\n"));
    };
    login("wrong", "600");
    ended(&pen.pre(), 12, "WRONGPASS");
    login("p a$s", "644");
    ended(&pen.pre(), 2, "must be root's alone");
    login("p a$s", "600");
    good(&pen.pre());
    assert!(paused(&pen));
    let arguments = pen.good("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; :", &[]);
    let guard = "-s /run/appsnap-engine/redis/redis.sock --user appsnap PUBLISH appsnap over";
    assert!(arguments.contains(guard) && !arguments.contains("a$s"), "{arguments}");
    good(&pen.post());
    answer(&pen, "CONFIG SET requirepass other");
    pen.install(NAME, &conf);
    ended(&pen.pre(), 12, "NOAUTH");
    pen.install(NAME, "socket=/run/nowhere");
    ended(&pen.pre(), 12, "/run/nowhere");
    pen.install(NAME, &format!("{conf}\nrole=leader"));
    ended(&pen.pre(), 2, "role is primary, replica or any");
    pen.nothing_is_left(NAME);
}

#[test]
fn on_the_other_node_it_is_not_our_turn_and_a_replica_is_copied_within_its_stream() {
    if !needed() {
        return;
    }
    let pen = server("dash", "role=replica");
    ended(&pen.pre(), 75, "is a primary");
    let port = (20000 + std::process::id() % 10000).to_string();
    pen.good(
        "mkdir /run/primary; cd /run/primary; redis-server --bind 127.0.0.1 --port $1 --save '' --daemonize yes >/dev/null",
        &[&port],
    );
    pen.until(&format!("redis-cli -p {port} PING"));
    answer(&pen, &format!("REPLICAOF 127.0.0.1 {port}"));
    pen.until(
        "redis-cli -s /run/appsnap-engine/redis/redis.sock INFO replication | grep -q master_link_status:up",
    );
    pen.good("redis-benchmark -p $1 -c 4 -r 10000 -n 10000000 -q -t set >/dev/null 2>&1 & sleep 1", &[&port]);
    let pre = pen.pre();
    good(&pre);
    assert!(copy(&pen, "DBSIZE").0.parse::<u64>().unwrap() > 1000, "{pre:?}");
    good(&pen.post());
    pen.install(NAME, &format!("{}\nrole=primary", pen.good(ENGINE, &["conf"])));
    ended(&pen.pre(), 75, "is a replica");
    pen.nothing_is_left(NAME);
}
