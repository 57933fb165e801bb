//! PostgreSQL. It has no undo: what a transaction wrote that never committed is invisible from the start on, so nothing is
//! ever rolled back. What a copy shows is how much log had to be replayed: `redo done at` names where the last record
//! begins, and where that is the latest checkpoint's record itself, there was nothing behind it.

use super::{State, Told, Verdict};

/// So much redo tells of nobody's work, in bytes: the checkpoint's own record, and what a background process writes every
/// 15 s of the transactions that run (`RUNNING_XACTS`), be there any or none.
const OWN: u64 = 1024;
/// More redo than this is what a crash leaves, in bytes.
const LITTLE: u64 = 1 << 20;

/// What the log of a start on a copy shows, beside what pg_controldata said before it.
pub fn verdict(told: &Told) -> Verdict {
    let begin = position(told, "redo starts at ").or_else(|| fact(told, "redo"));
    let done = position(told, "redo done at ");
    // A standby's copy stays a standby: it replays up to where it is consistent, and waits there.
    let end = done.or_else(|| position(told, "consistent recovery state reached at "));
    let has = |words: &str| !told.lines_with(&[words]).is_empty();
    let mut redo_bytes = None;
    let (state, why) = if !told.started() {
        let why = told.lines_with(&["PANIC", "FATAL"]).first().cloned();
        let why = why.or_else(|| told.facts.get("why").map(|why| why.to_string()));
        (State::Broken, format!("it did not start: {}", why.unwrap_or("nothing is known".to_owned())))
    } else if has("redo is not required") {
        redo_bytes = Some(0);
        (State::Clean, "redo was not required".to_owned())
    } else if let (Some(begin), Some(end)) = (begin, end) {
        let bytes = end.saturating_sub(begin);
        redo_bytes = Some(bytes);
        if done.is_some() && done == fact(told, "checkpoint") {
            (State::Clean, format!("redo ended at its own checkpoint's record, after {bytes} bytes"))
        } else if done.is_some() && bytes <= OWN {
            (
                State::Clean,
                format!("{bytes} bytes of log were replayed, hardly more than its own checkpoint's record"),
            )
        } else if bytes <= LITTLE {
            (State::RedoSmall, format!("{bytes} bytes of log were replayed"))
        } else {
            (State::Rollback, format!("{bytes} bytes of log were replayed, as after a crash"))
        }
    } else if has("database system was shut down at") {
        redo_bytes = Some(0);
        (State::Clean, "it was shut down".to_owned())
    } else {
        (State::Rollback, "it started, and did not tell what it had to replay".to_owned())
    };
    let evidence = match state {
        State::Broken => told.lines_with(&["PANIC", "FATAL", "invalid", "could not"]),
        _ => told.lines_with(&["was shut down at", "redo ", "consistent recovery state reached"]),
    };
    let answer = told.facts.get("answer").map(|answer| answer.to_string());
    Verdict { state, redo_bytes, rolled_back: None, why, evidence, answer }
}

/// A position in the log: two numbers of 32 bits in hexadecimal digits, `0/5260FF8`.
fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |digits| u32::from_str_radix(digits, 16).ok();
    Some(u64::from(half(high)?) << 32 | u64::from(half(low)?))
}

/// The position that follows these words in the log.
fn position(told: &Told, words: &str) -> Option<u64> {
    let rest = told.log.iter().find_map(|line| line.split_once(words))?.1;
    lsn(rest.split_whitespace().next()?)
}

fn fact(told: &Told, key: &str) -> Option<u64> {
    told.facts.get(key).and_then(|text| lsn(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    // All of these were told by 15.18.
    const STOPPED: &str = "fact: state=shut down\nfact: checkpoint=0/5594D98\nfact: redo=0/5594D98\nfact: started=yes\n\
        log: LOG:  database system was shut down at 2026-11-29 02:10:51 GMT\n\
        log: LOG:  database system is ready to accept connections\n";
    const IDLE: &str = "fact: checkpoint=0/2DD5670\nfact: redo=0/2DD5670\nfact: started=yes\n\
        log: LOG:  database system was interrupted; last known up at 2026-11-29 01:54:04 GMT\n\
        log: LOG:  database system was not properly shut down; automatic recovery in progress\n\
        log: LOG:  invalid record length at 0/2DD56E8: wanted 24, got 0\nlog: LOG:  redo is not required\n";
    const LOCKED: &str = "fact: checkpoint=0/5260FF8\nfact: redo=0/5260FC0\nfact: started=yes\nfact: answer=10831\n\
        log: LOG:  database system was interrupted; last known up at 2026-11-29 02:10:49 GMT\n\
        log: LOG:  database system was not properly shut down; automatic recovery in progress\n\
        log: LOG:  redo starts at 0/5260FC0\nlog: LOG:  invalid record length at 0/5261070: wanted 24, got 0\n\
        log: LOG:  redo done at 0/5260FF8 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.00 s\n";
    const CRASHED: &str = "fact: checkpoint=0/2DD5670\nfact: redo=0/2DD5670\nfact: started=yes\nfact: answer=7301\n\
        log: LOG:  database system was not properly shut down; automatic recovery in progress\n\
        log: LOG:  redo starts at 0/2DD56E8\nlog: LOG:  invalid record length at 0/44B84D8: wanted 24, got 0\n\
        log: LOG:  redo done at 0/44B84B0 system usage: CPU: user: 0.01 s, system: 0.02 s, elapsed: 0.12 s\n";
    const STANDBY: &str = "fact: checkpoint=0/6000060\nfact: redo=0/6000028\nfact: standby=yes\nfact: started=yes\n\
        log: LOG:  starting backup recovery with redo LSN 0/6000028, checkpoint LSN 0/6000060, on timeline ID 1\n\
        log: LOG:  redo starts at 0/6000028\nlog: LOG:  consistent recovery state reached at 0/6000100\n\
        log: LOG:  database system is ready to accept read-only connections\n";
    const NO_LOG: &str = "fact: checkpoint=0/5594D98\nfact: started=no\n\
        log: LOG:  database system was shut down at 2026-11-29 02:10:51 GMT\nlog: LOG:  invalid primary checkpoint record\n\
        log: PANIC:  could not locate a valid checkpoint record\nlog: LOG:  database system is shut down\n";
    const NO_CONTROL: &str = "fact: why=pg_controldata cannot read /run/d/pg\nfact: started=no\n";

    fn judged(output: &str) -> Verdict {
        verdict(&Told::read(output))
    }

    #[test]
    fn what_a_server_tells_of_each_kind_of_copy_is_told_apart() {
        for (output, state, bytes) in [
            (STOPPED, State::Clean, Some(0)),
            (IDLE, State::Clean, Some(0)),
            (LOCKED, State::Clean, Some(56)),
            (CRASHED, State::Rollback, Some(0x44B84B0 - 0x2DD56E8)),
            (STANDBY, State::RedoSmall, Some(0xD8)),
            (NO_LOG, State::Broken, None),
            (NO_CONTROL, State::Broken, None),
        ] {
            let judged = judged(output);
            assert_eq!(
                (judged.state, judged.redo_bytes, judged.rolled_back),
                (state, bytes, None),
                "{output}"
            );
            assert!(judged.evidence.is_empty() == (output == NO_CONTROL), "{judged:?}");
        }
        assert_eq!(judged(LOCKED).answer.as_deref(), Some("10831"));
        assert_eq!(
            judged(NO_LOG).why,
            "it did not start: PANIC:  could not locate a valid checkpoint record"
        );
        assert_eq!(judged(NO_CONTROL).why, "it did not start: pg_controldata cannot read /run/d/pg");
    }

    #[test]
    fn a_kibibyte_behind_the_checkpoint_is_the_servers_own_and_a_mebibyte_is_a_crash() {
        // As LOCKED, with the last record elsewhere.
        for (last, state) in [
            ("0/5261070", State::Clean),
            ("0/52613C0", State::Clean), // 1 KiB
            ("0/52613C8", State::RedoSmall),
            ("0/5360FC0", State::RedoSmall), // 1 MiB
            ("0/5360FC8", State::Rollback),
            ("1/0", State::Rollback),
        ] {
            let judged = judged(&LOCKED.replace("redo done at 0/5260FF8", &format!("redo done at {last}")));
            assert_eq!(judged.state, state, "{judged:?}");
        }
    }

    #[test]
    fn a_start_that_told_nothing_of_itself_is_not_called_clean() {
        assert_eq!(judged("fact: started=yes\n").state, State::Rollback);
        let unread = judged(&LOCKED.replace("redo done at 0/5260FF8", "redo done at somewhere"));
        assert_eq!(unread.state, State::Rollback, "{unread:?}");
    }

    #[test]
    fn positions_are_two_halves_of_32_bits() {
        assert_eq!(lsn("2/1"), Some((2 << 32) + 1));
        assert!(["", "1", "x/1", "1/123456789", "1/"].iter().all(|text| lsn(text).is_none()));
    }
}
