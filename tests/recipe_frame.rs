//! The frame of all recipes, by its generic pair: a lock and its undo in the user's own words, under each shell.

mod common;
#[path = "common/pen.rs"]
mod pen;

use common::need;
use pen::{Pen, Ran, SHELLS};

const CONF: &str = "lock_command=echo lock >>/run/done; touch /run/locked
unlock_command=echo unlock >>/run/done; test ! -e /run/jammed && rm -f /run/locked
check_command=test -e /run/locked
mark_command=echo lsn=12/34
lock_wait=2
hold=10
";

fn needed() -> bool {
    need(&[&pen::NEEDS[..], &["setpriv", "dash", "bash", "busybox"]].concat())
}

fn pen(shell: &str) -> Pen {
    let pen = Pen::new(shell);
    pen.install("generic", CONF);
    pen
}

/// What was done since it was last asked.
fn done(pen: &Pen) -> String {
    pen.good("tr '\\n' ' ' </run/done; rm /run/done", &[])
}

fn ended(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.err.starts_with("generic: ") && ran.err.contains(words), "{words}: {ran:?}");
}

const UNLOCKED: &str = "[ ! -e /run/locked ]";

#[test]
fn a_lock_outlives_its_prescript_until_the_postscript_ends_it() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = pen(shell);
        assert_eq!(pen.post().code, 0, "idle");
        let pre = pen.pre();
        let told = (pre.code, pre.out.as_str(), pre.err.as_str());
        assert_eq!(told, (0, "appsnap-mark: engine=generic\nappsnap-mark: lsn=12/34\n", ""), "{shell}");
        ended(&pen.pre(), 11, "an earlier run holds generic");
        pen.good("[ -e /run/locked ]", &[]);
        let post = pen.post();
        assert_eq!((post.code, post.err.as_str()), (0, ""), "{shell}");
        assert_eq!(done(&pen), "lock unlock", "{shell}");
        pen.nothing_is_left("generic");

        assert_eq!(pen.pre().code, 0);
        pen.good("rm /run/locked", &[]);
        ended(&pen.post(), 14, "locked no more");
        pen.nothing_is_left("generic");
    }
}

#[test]
fn whoever_dies_it_is_unlocked_once_and_the_postscript_says_that_it_was_lost() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = pen(shell);
        for who in ["holder", "runner", "client", "nobody"] {
            assert_eq!(pen.pre().code, 0, "{shell} {who}");
            if who != "nobody" {
                pen.good("kill -9 $1", &[&pen.process("generic", who)]);
            } // else the deadline comes, after 10 s
            let waited = pen.until(UNLOCKED);
            assert!(waited < if who == "nobody" { 200 } else { 60 }, "{shell} {who}: {waited}");
            ended(&pen.post(), 14, "let go before the postscript");
            assert_eq!(done(&pen), "lock unlock", "{shell} {who}");
            pen.nothing_is_left("generic");
        }
        // Both at once: whoever comes next does it.
        for next in ["post", "pre"] {
            assert_eq!(pen.pre().code, 0);
            pen.good(
                "kill -9 $1 $2",
                &[&pen.process("generic", "holder"), &pen.process("generic", "runner")],
            );
            pen.until("! grep -qsa 'recipe/generic/scrip[t]' /proc/[0-9]*/cmdline");
            pen.good("[ -e /run/locked ]", &[]);
            if next == "pre" {
                assert_eq!((pen.pre().code, pen.post().code), (0, 0));
                assert_eq!(done(&pen), "lock unlock lock unlock", "{shell}");
            } else {
                ended(&pen.post(), 14, "let go before the postscript");
                assert_eq!(done(&pen), "lock unlock", "{shell}");
            }
            pen.nothing_is_left("generic");
        }
    }
}

#[test]
fn a_prescript_that_fails_or_is_ended_has_let_go_of_everything() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = pen(shell);
        let lock =
            "sed -i \"s#^lock_command=.*#lock_command=touch /run/locked; $1#\" /etc/appsnap/generic.conf";
        pen.good(lock, &["exit 3"]);
        ended(&pen.pre(), 11, "it ended with 3");
        assert_eq!(done(&pen), "unlock");
        pen.nothing_is_left("generic");
        pen.good(lock, &["sleep 1000"]);
        ended(&pen.pre(), 11, "in 2 s");
        pen.good(UNLOCKED, &[]);
        pen.nothing_is_left("generic");
        pen.until("! grep -qsa 'slee[p].1000' /proc/[0-9]*/cmdline");
        for (signal, exit) in [("TERM", "16"), ("KILL", "137")] {
            pen.good(
                "exec >/run/pre.out 2>&1; (sh /etc/appsnap/prescript.sh; echo $? >/run/pre.exit) &",
                &[],
            );
            pen.until("[ -e /run/locked ]");
            pen.good("kill -s $1 $2", &[signal, &pen.process("generic", "owner")]);
            pen.until("[ -s /run/pre.exit ]");
            assert_eq!(pen.good("cat /run/pre.exit; rm /run/pre.exit", &[]), exit, "{shell}");
            pen.until(UNLOCKED);
            assert_eq!(pen.post().code, 0, "{shell}");
            pen.nothing_is_left("generic");
        }
    }
}

#[test]
fn what_cannot_be_put_back_is_told_and_tried_again_by_the_next_run() {
    if !needed() {
        return;
    }
    let pen = pen("dash");
    assert_eq!(pen.pre().code, 0);
    pen.good("touch /run/jammed", &[]);
    ended(&pen.post(), 15, "a setting was not put back");
    ended(&pen.pre(), 15, "a setting was not put back");
    pen.good("rm /run/jammed /run/done", &[]);
    assert_eq!((pen.pre().code, pen.post().code), (0, 0));
    assert_eq!(done(&pen), "unlock lock unlock");
    pen.nothing_is_left("generic");
}

#[test]
fn settings_that_others_may_write_or_that_nobody_knows_are_refused() {
    if !needed() {
        return;
    }
    for shell in SHELLS {
        let pen = pen(shell);
        let file = "/etc/appsnap/generic.conf";
        for (change, words) in [
            ("chmod 622 $1", "not writable by others"),
            ("chmod 620 $1", "not writable by others"),
            ("chown 1 $1", "must be root's"),
            ("echo hold=x >>$1", "hold has to be a number from 10 to 3600, not \"x\""),
            ("echo hold=9 >>$1", "hold has to be a number"),
            ("echo password=x >>$1", "\"password\" is no setting"),
            ("echo hold >>$1", "\"hold\" is no setting"),
            ("echo lock_command= >>$1", "lock_command and unlock_command have to be set"),
        ] {
            pen.good(&format!("cp -p $1 $1.kept; {change}"), &[file]);
            ended(&pen.pre(), 2, words);
            pen.nothing_is_left("generic");
            pen.good("mv $1.kept $1", &[file]);
        }
        let words = pen.run("sh /etc/appsnap/prescript.sh now", &[]);
        ended(&words, 2, "takes no arguments");
    }
}
