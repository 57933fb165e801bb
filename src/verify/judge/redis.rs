//! Redis and Valkey. A start replays the append-only file, after a clean shutdown as after a crash, so what counts is
//! whether all of it could be read. That a file is whole does not show that all of what the server had acknowledged was
//! in it: with `appendfsync everysec` a crash copy loads as well, and lacks what was not written yet.

use super::{State, Told, Verdict};

/// Lines that say that something could not be read (7.0 and 8.1).
const DAMAGE: [&str; 12] = [
    "Bad file format",
    "short read",
    "Short read",
    "Unexpected end of file",
    "Truncating the AOF",
    "incomplete MULTI",
    "is not valid",
    "RDB checksum",
    "Internal error in RDB",
    "Wrong signature",
    "Can't handle RDB",
    "No such file",
];

/// What the log of a start on a copy shows.
pub fn verdict(told: &Told) -> Verdict {
    let damage = told.lines_with(&DAMAGE);
    let loaded = told.lines_with(&["DB loaded from"]);
    let redo_bytes = told.number("redoBytes");
    let rolled_back = told.lines_with(&["incomplete MULTI"]).len() as u64;
    // 124: it was not through within the limit, and the server's own reading counts.
    let bad_check = !matches!(told.number("check"), None | Some(0 | 124));
    let (state, why) = if !told.started() {
        let why = told.facts.get("why").or(told.facts.get("unable")).unwrap_or(&"nothing is known");
        (State::Broken, format!("it did not start: {why}"))
    } else if !damage.is_empty() || bad_check {
        (State::Broken, "its file is damaged or cut short: the end of it is lost".to_owned())
    } else if loaded.is_empty() {
        (State::Broken, "it started, and loaded nothing".to_owned())
    } else {
        let what = match redo_bytes {
            Some(bytes) => format!("the append-only file loaded whole, {bytes} bytes of it replayed"),
            None => "the dump loaded whole".to_owned(),
        };
        (State::Clean, what)
    };
    let evidence = if damage.is_empty() { loaded } else { damage };
    Verdict {
        state,
        redo_bytes,
        rolled_back: told.started().then_some(rolled_back),
        why,
        evidence,
        answer: told.facts.get("answer").map(|answer| answer.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(output: &str) -> Verdict {
        verdict(&Told::read(output))
    }

    #[test]
    fn a_file_that_loads_whole_is_clean_however_much_is_replayed() {
        let judged = judged(
            "fact: source=aof\nfact: baseBytes=29289002\nfact: redoBytes=33058985\nfact: maker=redis 7.0.15\n\
             fact: version=7.0.15\nfact: check=0\nfact: started=yes\nfact: startMs=400\nfact: keys=189693\n\
             fact: answer=19890\nlog: All AOF files and manifest are valid\n\
             log: 14663:M 29 Nov 2026 01:44:56.860 * Reading RDB base file on AOF loading...\n\
             log: 14663:M 29 Nov 2026 01:44:56.942 * Done loading RDB, keys loaded: 100001, keys expired: 0.\n\
             log: 14663:M 29 Nov 2026 01:44:56.942 * DB loaded from base file appendonly.aof.2.base.rdb: 0.082 seconds\n\
             log: 14663:M 29 Nov 2026 01:44:57.222 * DB loaded from incr file appendonly.aof.2.incr.aof: 0.280 seconds\n\
             log: 14663:M 29 Nov 2026 01:44:57.222 * DB loaded from append only file: 0.361 seconds\n",
        );
        assert_eq!(
            (judged.state, judged.redo_bytes, judged.rolled_back),
            (State::Clean, Some(33058985), Some(0))
        );
        assert_eq!((judged.answer.as_deref(), judged.evidence.len()), (Some("19890"), 3));
    }

    #[test]
    fn a_dump_that_loads_whole_is_clean_and_replays_nothing() {
        let judged = judged(
            "fact: source=rdb\nfact: baseBytes=40052043\nfact: started=yes\n\
             log: 15391:M 29 Nov 2026 01:45:02.794 * Done loading RDB, keys loaded: 189693, keys expired: 0.\n\
             log: 15391:M 29 Nov 2026 01:45:02.794 * DB loaded from disk: 0.382 seconds\n",
        );
        assert_eq!((judged.state, judged.redo_bytes), (State::Clean, None));
    }

    #[test]
    fn a_tail_that_is_cut_short_is_broken_though_the_server_starts() {
        let judged = judged(
            "fact: source=aof\nfact: redoBytes=33059027\nfact: check=1\nfact: started=yes\n\
             log: 15183:M 29 Nov 2026 01:45:01.426 * DB loaded from base file appendonly.aof.2.base.rdb: 0.208 seconds\n\
             log: 15183:M 29 Nov 2026 01:45:02.081 # Revert incomplete MULTI/EXEC transaction in AOF file appendonly.aof.2.incr.aof\n\
             log: 15183:M 29 Nov 2026 01:45:02.081 # !!! Warning: short read while loading the AOF file appendonly.aof.2.incr.aof!!!\n\
             log: 15183:M 29 Nov 2026 01:45:02.081 # !!! Truncating the AOF appendonly.aof.2.incr.aof at offset 33058985 !!!\n\
             log: 15183:M 29 Nov 2026 01:45:02.081 # AOF appendonly.aof.2.incr.aof loaded anyway because aof-load-truncated is enabled\n\
             log: 15183:M 29 Nov 2026 01:45:02.081 * DB loaded from append only file: 0.863 seconds\n",
        );
        assert_eq!((judged.state, judged.rolled_back, judged.evidence.len()), (State::Broken, Some(1), 3));
    }

    #[test]
    fn a_server_that_does_not_start_is_broken_and_its_line_is_the_evidence() {
        for line in [
            "15004:M 29 Nov 2026 01:45:00.055 # Bad file format reading the append only file appendonly.aof.2.incr.aof: \
             make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>",
            "15068:M 29 Nov 2026 01:45:00.496 # Wrong RDB checksum expected: (a0d824b95d8bb692) but got (244ecb18d7062732).",
            "15473:M 29 Nov 2026 01:45:03.048 # Short read or OOM loading DB. Unrecoverable error, aborting now.",
            "19041:M 29 Nov 2026 01:45:59.184 # Unable to obtain the AOF file appendonly.aof.2.incr.aof length. \
             stat: No such file or directory",
        ] {
            let judged = judged(&format!("fact: started=no\nfact: why=the server ended\nlog: {line}\n"));
            assert_eq!((judged.state, judged.rolled_back), (State::Broken, None));
            assert_eq!(judged.evidence, [line]);
            assert!(judged.why.ends_with("the server ended"));
        }
    }

    #[test]
    fn a_server_that_loaded_nothing_or_whose_file_does_not_check_is_broken() {
        assert_eq!(judged("fact: started=yes\nfact: check=0\n").state, State::Broken);
        let loaded = "log: DB loaded from append only file: 0.361 seconds\n";
        assert_eq!(judged(&format!("fact: started=yes\nfact: check=1\n{loaded}")).state, State::Broken);
        assert_eq!(judged(&format!("fact: started=yes\nfact: check=124\n{loaded}")).state, State::Clean);
    }
}
