//! Another attempt at a unit: after which failures, and when. An attempt is one freeze window, with an id and so a
//! ClientToken of its own; it is settled before the next one begins.

use std::time::Duration;

use super::{Task, reasons};
use crate::acs::is_passing;
use crate::guest::told::{Told, Try};
use crate::policy::ids;
use crate::report::{Finding, Severity};

/// How many attempts a unit gets.
pub const ATTEMPTS: u32 = 3;

/// Of the attempt of this number.
pub fn id(task: &Task, number: u32) -> String {
    ids::attempt_id(&task.run, &task.instance_id, number)
}

/// The number of an attempt. One that is not known counts as the last: nothing is started after it.
pub fn number(task: &Task, attempt: &str) -> u32 {
    (1..=ATTEMPTS).find(|number| id(task, *number) == attempt).unwrap_or(ATTEMPTS)
}

/// How long to wait after the attempt of this number: 10 s, then three times as long, and up to half of it more by
/// chance. A rate limit opens with the next minute.
pub fn pause(number: u32, jitter: f64) -> Duration {
    Duration::from_secs(10 * 3_u64.pow(number.saturating_sub(1))).mul_f64(1.0 + jitter / 2.0)
}

/// Whether another attempt can do better than one that has no group: the guest is through and thawed, and what failed
/// passes by itself.
pub fn hopeful(told: &Told) -> bool {
    let thawed = told.freeze.is_none_or(|freeze| freeze.thawed == freeze.frozen);
    let of_script = |code: &str| code.starts_with("script.") && code != "script.declined";
    let known = |code: &str| matches!(code, "create.failed" | "connect.failed" | "freeze.off");
    told.phase == "done"
        && !told.fired
        && thawed
        && told.group.is_none()
        && told.reasons.iter().all(|(code, _)| of_script(code) || known(code))
        && passing(told)
}

/// Whether each create that was sent, or the connection before, failed by something that passes.
fn passing(told: &Told) -> bool {
    let unreached = || {
        let (_, detail) = told.reasons.iter().find(|(code, _)| code == "connect.failed")?;
        // `HTTP STATUS [CODE] …`, and what the tool says; who does not trust a certificate will not do so in a minute.
        let mut words = detail.split_whitespace().skip(1);
        let (status, code) = (words.next()?, words.next().unwrap_or_default());
        Some(passes(status, code) && !detail.contains("certificate"))
    };
    match &told.tries[..] {
        [] => unreached().unwrap_or(false),
        tries => tries.iter().all(|one| passes(&one.status, &one.code)),
    }
}

fn passes(status: &str, code: &str) -> bool {
    status == "000" || status.parse().is_ok_and(|status| is_passing(status, code))
}

/// Whether a create without a group may have made one all the same: no answer, a fault of the cloud, a hint that
/// somebody else's is under way, or a sequence that died and cannot tell. A rate limit and every other refusal leave no
/// doubt.
pub fn in_doubt(told: &Told) -> bool {
    let unknown = |one: &Try| {
        passes(&one.status, &one.code) && !one.code.starts_with("Throttling")
            || ["SignatureNonceUsed", "Idempotent"].iter().any(|code| one.code.starts_with(code))
    };
    told.phase == "lost" || told.tries.iter().any(unknown)
}

/// The creates of an attempt in words: `c1: HTTP 503 ServiceUnavailable`.
pub fn in_words(told: &Told) -> String {
    let one = |t: &Try| format!("c{}: HTTP {} {}", t.number, t.status, t.code).trim_end().to_string();
    match &told.tries[..] {
        [] => told.reasons.last().map(|(code, detail)| format!("{code} {detail}")).unwrap_or_default(),
        tries => tries.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// The note on an attempt that another one follows, or could.
pub fn note(task: &Task, number: u32, how: &str) -> Finding {
    reasons::finding("attempt.failed", &format!("attempt {number}, {how}"), &task.instance_id, Severity::Note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::told::Freeze;

    fn tried(number: u32, status: &str, code: &str) -> Try {
        Try { number, status: status.into(), code: code.into() }
    }

    /// A guest whose create failed like this.
    fn failed(tries: &[(&str, &str)]) -> Told {
        let tries: Vec<Try> = (1..).zip(tries).map(|(n, (status, code))| tried(n, status, code)).collect();
        Told {
            phase: "done".into(),
            reasons: vec![("create.failed".into(), String::new())],
            freeze: Some(Freeze { micros: 1, frozen: 2, thawed: 2, wanted: 2 }),
            created: tries.last().map(|last| (last.status.clone(), String::new())),
            tries,
            ..Told::default()
        }
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        type Tries = &'static [(&'static str, &'static str)];
        let table: [(Tries, bool, bool); 9] = [
            (&[("400", "Throttling.User")], true, false),
            (&[("503", "ServiceUnavailable")], true, true),
            (&[("500", "InternalError"), ("000", "")], true, true),
            (&[("000", "")], true, true),
            (&[("403", "Forbidden.RAM")], false, false),
            (&[("403", "QuotaExceed.Snapshot")], false, false),
            (&[("403", "IncorrectDiskStatus")], false, false),
            (&[("403", "IdempotentParameterMismatch")], false, true),
            // Somebody fired it: the group will show.
            (&[("400", "SignatureNonceUsed"), ("503", "ServiceUnavailable")], false, true),
        ];
        for (tries, again, doubt) in table {
            let told = failed(tries);
            assert_eq!((hopeful(&told), in_doubt(&told)), (again, doubt), "{tries:?}");
        }
    }

    #[test]
    fn a_guest_that_is_not_through_or_has_another_trouble_gets_no_other_attempt() {
        type Trouble = fn(&mut Told);
        let troubles: [Trouble; 8] = [
            |t| t.phase = "lost".into(),
            |t| t.fired = true,
            |t| t.freeze.as_mut().unwrap().thawed = 1,
            |t| t.group = Some("ssg-1".into()),
            |t| t.reasons.push(("freeze.busy".into(), String::new())),
            |t| t.reasons.push(("watchdog.lost".into(), String::new())),
            |t| t.reasons.push(("script.declined".into(), String::new())),
            |t| t.tries.clear(),
        ];
        for (index, trouble) in troubles.iter().enumerate() {
            let mut told = failed(&[("503", "ServiceUnavailable")]);
            trouble(&mut told);
            assert!(!hopeful(&told), "{index}");
        }
    }

    #[test]
    fn a_connection_is_tried_again_unless_it_is_not_trusted() {
        let table = [
            ("HTTP 503 ServiceUnavailable", true),
            ("HTTP 400 Throttling.User", true),
            ("HTTP 000  curl: (7) Failed to connect to ecs: Connection refused", true),
            ("HTTP 000  curl: (60) SSL certificate problem: self-signed certificate", false),
            ("HTTP 403 Forbidden.RAM", false),
        ];
        for (detail, again) in table {
            let told = Told {
                phase: "done".into(),
                reasons: vec![("connect.failed".into(), detail.into())],
                ..Told::default()
            };
            assert_eq!(hopeful(&told), again, "{detail}");
        }
    }

    #[test]
    fn pauses_grow_and_vary() {
        assert_eq!((pause(1, 0.0).as_secs(), pause(1, 1.0).as_secs()), (10, 15));
        assert_eq!((pause(2, 0.0).as_secs(), pause(2, 1.0).as_secs()), (30, 45));
    }
}
