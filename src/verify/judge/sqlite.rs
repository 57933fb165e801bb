//! Files of SQLite. Each is checked whole; what its first opening had to do is read from the files beside it: a
//! write-ahead log is replayed, a hot journal is a transaction that is rolled back.

use super::{State, Told, Verdict};

/// Bytes of write-ahead log above which a copy is what a crash leaves. SQLite's own checkpoint keeps a log at some 4 MiB
/// (1,000 pages).
const SMALL: u64 = 1 << 20;

/// What the check of all files told.
pub fn verdict(told: &Told) -> Verdict {
    let redo_bytes = told.number("redoBytes");
    let rolled_back = told.number("rolledBack");
    let files = told.number("files").unwrap_or_default();
    let (state, why) = match (told.started(), redo_bytes, rolled_back) {
        (false, ..) => {
            let why = told.facts.get("why").or(told.facts.get("unable")).unwrap_or(&"nothing is known");
            (State::Broken, why.to_string())
        }
        (true, Some(0), Some(0)) => {
            (State::Clean, format!("{files} databases, each whole; nothing to replay"))
        }
        (true, Some(bytes), Some(0)) => {
            let state = if bytes <= SMALL { State::RedoSmall } else { State::Rollback };
            (state, format!("{files} databases, each whole; {bytes} bytes of write-ahead log to replay"))
        }
        (true, _, Some(hot)) if hot > 0 => {
            (State::Rollback, format!("{files} databases, each whole; {hot} transactions were rolled back"))
        }
        (true, ..) => (State::Broken, "what there was to replay is not known".to_owned()),
    };
    Verdict {
        state,
        redo_bytes,
        rolled_back,
        why,
        evidence: told.log.iter().map(|line| line.to_string()).collect(),
        answer: told.facts.get("answer").map(|answer| answer.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(redo: &str, rolled_back: &str, damaged: &str, started: &str) -> Verdict {
        verdict(&Told::read(&format!(
            "fact: version=3.40.1\nfact: files=2\nfact: redoBytes={redo}\nfact: rolledBack={rolled_back}\n\
             fact: damaged={damaged}\nfact: startMs=50\nfact: answer=7\nfact: started={started}\n\
             fact: why=1 of 2 databases do not check\nlog: /srv/a.db: ok\nlog: /srv/b.db: ok\n"
        )))
    }

    #[test]
    fn the_log_to_replay_and_the_journals_to_roll_back_decide() {
        for (redo, rolled_back, state) in [
            ("0", "0", State::Clean),
            ("8272", "0", State::RedoSmall),
            ("1048576", "0", State::RedoSmall),
            ("1048577", "0", State::Rollback),
            ("0", "1", State::Rollback),
            ("8272", "1", State::Rollback),
            ("", "0", State::Broken),
        ] {
            let judged = judged(redo, rolled_back, "0", "yes");
            assert_eq!(judged.state, state, "{redo} {rolled_back}: {}", judged.why);
            assert_eq!(judged.answer.as_deref(), Some("7"));
        }
    }

    #[test]
    fn a_file_that_does_not_check_is_broken() {
        let judged = judged("0", "0", "1", "no");
        assert_eq!((judged.state, judged.why.as_str()), (State::Broken, "1 of 2 databases do not check"));
        assert_eq!(judged.evidence, ["/srv/a.db: ok", "/srv/b.db: ok"]);
        let none = verdict(&Told::read("fact: started=no\nfact: unable=no sqlite3 here\n"));
        assert_eq!((none.state, none.why.as_str()), (State::Broken, "no sqlite3 here"));
    }
}
