//! MariaDB and MySQL. What counts is what InnoDB says: how much log lay behind the checkpoint, and how many transactions
//! had written and not committed. That the binary log was open at the copy (`Starting table crash recovery...`) says
//! nothing by itself; neither does MySQL's `Database was not shutdown normally!`, which 5.7 says of every copy of a
//! running server.

use super::{State, Told, Verdict};

/// A replay of more than this is what a crash leaves.
const SMALL_REDO: u64 = 1 << 20;

/// MySQL 5.7 names the files it writes to behind each checkpoint: 9 to 116 bytes on a quiet server.
const CHECKPOINT_RECORDS: u64 = 256;

/// The number behind the first of these words that a line has.
fn number_behind(told: &Told, words: &[&str]) -> Option<u64> {
    told.log.iter().find_map(|line| {
        let (_, rest) = words.iter().find_map(|word| line.split_once(word))?;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    })
}

/// Bytes of log that were replayed; 0 where no replay is told of, which is what a clean start looks like.
fn replayed(told: &Told) -> Option<u64> {
    let begun = ["Starting crash recovery from checkpoint LSN=", "Doing recovery: scanned up to"];
    if told.lines_with(&begun).is_empty() {
        return Some(0);
    }
    let from =
        number_behind(told, &["checkpoint LSN=", "checkpoint is at lsn = ", "past the checkpoint lsn "])?;
    let to = number_behind(told, &["End of log at LSN=", "scanned up to log sequence number "])?;
    to.checked_sub(from)
}

/// What the log of a start on a copy shows.
pub fn verdict(told: &Told) -> Verdict {
    let redo = replayed(told);
    // Prepared ones were in the middle of their commit: the binary log decides what becomes of them, which 8.0 tells.
    let prepared = told.number("prepared").unwrap_or(0);
    let undone_rows = number_behind(told, &["cleaned up in total "]).unwrap_or(0);
    let rolled_back = told.number("rolledBack").unwrap_or(0)
        + number_behind(told, &["Successfully rolled back "]).unwrap_or(0);
    let damaged = told.number("damaged").unwrap_or(0);
    let (state, why) = if !told.started() {
        let why = told.facts.get("why").or(told.facts.get("unable")).unwrap_or(&"nothing is known");
        (State::Broken, format!("it did not start: {why}"))
    } else if damaged > 0 {
        (State::Broken, format!("{damaged} tables without transactions are damaged"))
    } else if rolled_back > 0 || undone_rows > 0 {
        (State::Rollback, format!("{rolled_back} transactions were rolled back"))
    } else if prepared > 0 {
        (State::Rollback, format!("{prepared} transactions were in the middle of their commit"))
    } else {
        match redo {
            Some(bytes) if bytes <= CHECKPOINT_RECORDS => {
                (State::Clean, format!("nothing to roll back, {bytes} bytes of log to replay"))
            }
            Some(bytes) if bytes <= SMALL_REDO => {
                (State::RedoSmall, format!("{bytes} bytes of log replayed, nothing rolled back"))
            }
            Some(bytes) => (State::Rollback, format!("{bytes} bytes of log replayed: what a crash leaves")),
            None => (State::Rollback, "log was replayed, and it does not say how much".to_owned()),
        }
    };
    let mut evidence = told.lines_with(&[
        "InnoDB: Starting crash recovery",
        "End of log at",
        "checkpoint is at lsn",
        "checkpoint lsn",
        "Doing recovery: scanned",
        "must be rolled back",
        "olled back",
        "Rolling back trx",
        "prepared transaction",
        "ERROR",
        "check\t",
    ]);
    evidence.truncate(12);
    Verdict {
        state,
        redo_bytes: redo.filter(|_| told.started()),
        rolled_back: told.started().then_some(rolled_back),
        why,
        evidence,
        answer: told.facts.get("answer").map(|answer| answer.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(output: &str) -> (State, Option<u64>, Option<u64>) {
        let verdict = verdict(&Told::read(output));
        (verdict.state, verdict.redo_bytes, verdict.rolled_back)
    }

    #[test]
    fn a_copy_made_under_the_recipes_lock_is_clean_though_the_binary_log_was_open() {
        let output = "fact: version=10.11.19\nfact: maker=MariaDB 10.11.19\nfact: started=yes\nfact: startMs=530\n\
            fact: unclosed=0\nfact: damaged=0\nfact: answer=230561\t230561\nfact: rolledBack=0\nfact: prepared=0\n\
            log: 2026-11-29  2:00:36 0 [Note] InnoDB: End of log at LSN=360250378\n\
            log: 2026-11-29  2:00:37 0 [Note] Recovering after a crash using /tmp/mdb/data/binlog\n\
            log: 2026-11-29  2:00:37 0 [Note] Starting table crash recovery...\n\
            log: 2026-11-29  2:00:37 0 [Note] Crash table recovery finished.\n";
        assert_eq!(judged(output), (State::Clean, Some(0), Some(0)));
        let verdict = verdict(&Told::read(output));
        assert_eq!(verdict.answer.as_deref(), Some("230561\t230561"));
        assert_eq!(verdict.evidence.len(), 1, "{:?}", verdict.evidence);
    }

    #[test]
    fn a_crash_copy_of_mariadb_rolls_back_and_replays() {
        let log = "fact: started=yes\nfact: unclosed=1\nfact: damaged=0\nfact: rolledBack=1\nfact: prepared=1\n\
            log: app.visit\tcheck\twarning\t1 client is using or hasn't closed the table properly\n\
            log: 2026-11-29  2:06:42 0 [Note] InnoDB: Starting crash recovery from checkpoint LSN=471255274\n\
            log: 2026-11-29  2:06:42 0 [Note] InnoDB: End of log at LSN=471560773\n\
            log: 2026-11-29  2:06:43 0 [Note] InnoDB: 2 transaction(s) which must be rolled back or cleaned up \
            in total 1000 row operations to undo\n\
            log: 2026-11-29  2:06:43 0 [Note] InnoDB: To recover: 6 pages\n\
            log: 2026-11-29  2:06:43 0 [Note] InnoDB: Rolled back recovered transaction 2225154\n";
        assert_eq!(judged(log), (State::Rollback, Some(305_499), Some(1)));
        // Without open transactions the same replay is a small one.
        let quiet = "fact: started=yes\nfact: rolledBack=0\nfact: prepared=0\n\
            log: 2026-11-29  2:06:42 0 [Note] InnoDB: Starting crash recovery from checkpoint LSN=471255274\n\
            log: 2026-11-29  2:06:42 0 [Note] InnoDB: End of log at LSN=471560773\n";
        assert_eq!(judged(quiet), (State::RedoSmall, Some(305_499), Some(0)));
    }

    #[test]
    fn transactions_in_the_middle_of_their_commit_are_what_a_crash_leaves() {
        let log = "fact: started=yes\nfact: rolledBack=0\nfact: prepared=4\n\
            log: 2026-11-29  1:40:32 0 [Note] InnoDB: Starting crash recovery from checkpoint LSN=93893827\n\
            log: 2026-11-29  1:40:32 0 [Note] InnoDB: End of log at LSN=102016548\n\
            log: 2026-11-29  1:40:32 0 [Note] InnoDB: 4 transaction(s) which must be rolled back or cleaned up \
            in total 0 row operations to undo\n\
            log: 2026-11-29  1:40:32 0 [Note] Found 4 prepared transaction(s) in InnoDB\n";
        assert_eq!(judged(log), (State::Rollback, Some(8_122_721), Some(0)));
        let much = log.replace("prepared=4", "prepared=0");
        assert_eq!(judged(&much).0, State::Rollback, "8 MB of log");
    }

    #[test]
    fn mysql_tells_the_same_in_words_of_its_own() {
        let crash_8_0 = "fact: version=8.0.46\nfact: started=yes\nfact: rolledBack=1\nfact: prepared=1\n\
            log: 2026-11-29T02:11:22.833770Z 1 [Note] [MY-013883] [InnoDB] The latest found checkpoint is at \
            lsn = 20928341 in redo log file /tmp/mdb/mydata80/#innodb_redo/#ib_redo6.\n\
            log: 2026-11-29T02:11:22.833816Z 1 [Note] [MY-012551] [InnoDB] Database was not shutdown normally!\n\
            log: 2026-11-29T02:11:22.846627Z 1 [Note] [MY-012550] [InnoDB] Doing recovery: scanned up to log \
            sequence number 21312482\n\
            log: 2026-11-29T02:11:23.564376Z 0 [Note] [MY-013911] [Server] Crash recovery finished in InnoDB \
            engine. Successfully rolled back 1 internal transaction(s). \n\
            log: 2026-11-29T02:11:23.576924Z 0 [Note] [MY-013011] [InnoDB] Rolling back trx with id 3599, 300 \
            rows to undo\n";
        assert_eq!(judged(crash_8_0), (State::Rollback, Some(384_141), Some(2)));
        let clean_8_0 = "fact: version=8.0.46\nfact: started=yes\nfact: rolledBack=0\nfact: prepared=0\n\
            log: 2026-11-29T02:11:27.003056Z 1 [Note] [MY-013883] [InnoDB] The latest found checkpoint is at \
            lsn = 21384264 in redo log file /tmp/mdb/mydata80/#innodb_redo/#ib_redo6.\n\
            log: 2026-11-29T02:11:27.248535Z 1 [Note] [MY-012532] [InnoDB] Applying a batch of 0 redo log records ...\n";
        assert_eq!(judged(clean_8_0), (State::Clean, Some(0), Some(0)));
        let locked_8_0 = clean_8_0.to_owned()
            + "log: 2026-11-29T02:22:04.042532Z 1 [Note] [MY-012551] [InnoDB] Database was not shutdown normally!\n\
               log: 2026-11-29T02:21:58.060865Z 1 [Note] [MY-012550] [InnoDB] Doing recovery: scanned up to log \
               sequence number 21384264\n";
        assert_eq!(judged(&locked_8_0), (State::Clean, Some(0), Some(0)));
        let locked_5_7 = "fact: version=5.7.42\nfact: started=yes\nfact: rolledBack=0\nfact: prepared=0\n\
            log: 2026-11-29T02:23:07.060416Z 0 [Note] InnoDB: Log scan progressed past the checkpoint lsn 10940709\n\
            log: 2026-11-29T02:23:07.060425Z 0 [Note] InnoDB: Doing recovery: scanned up to log sequence number \
            10940825\n";
        assert_eq!(judged(locked_5_7), (State::Clean, Some(116), Some(0)));
        let crash_5_7 = "fact: version=5.7.42\nfact: started=yes\nfact: rolledBack=1\nfact: prepared=1\n\
            log: 2026-11-29T02:12:15.980243Z 0 [Note] InnoDB: Log scan progressed past the checkpoint lsn 4316000\n\
            log: 2026-11-29T02:12:15.981927Z 0 [Note] InnoDB: Doing recovery: scanned up to log sequence number \
            4593315\n\
            log: 2026-11-29T02:12:15.982020Z 0 [Note] InnoDB: Database was not shutdown normally!\n\
            log: 2026-11-29T02:12:15.982022Z 0 [Note] InnoDB: Starting crash recovery.\n";
        assert_eq!(judged(crash_5_7), (State::Rollback, Some(277_315), Some(1)));
    }

    #[test]
    fn what_does_not_start_or_is_damaged_is_broken() {
        let refused = "fact: started=no\nfact: why=the server ended\nfact: rolledBack=0\n\
            log: 2026-11-29  1:40:33 0 [ERROR] InnoDB: The Auto-extending data file './ibdata1' is of a different \
            size 0 pages than specified by innodb_data_file_path\n\
            log: 2026-11-29  1:40:33 0 [ERROR] Aborting\n";
        assert_eq!(judged(refused), (State::Broken, None, None));
        assert_eq!(verdict(&Told::read(refused)).why, "it did not start: the server ended");
        assert_eq!(judged("fact: started=yes\nfact: damaged=1\n").0, State::Broken);
        assert_eq!(judged("").0, State::Broken);
    }
}
