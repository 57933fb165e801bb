//! Famous failures: what happens, who fell for it, what appsnap does. `demo --fault NAME` lets one happen.

use serde_json::{Value, json};

use super::Failure;
use crate::policy::distance;
use crate::report::Level;

/// What is let happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    FreezeTooSlow,
    AgentKilled,
    SequenceKilled,
    ApiSilent,
    ApiThrottled,
    ScriptHangs,
    LockLost,
    FreezeForeign,
    FunctionKilled,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) happens: &'static str,
    /// Who fell for it, and how it went.
    pub(super) victims: &'static str,
    pub(super) answer: &'static str,
    /// A higher level cannot be true.
    pub(super) ceiling: Level,
}

/// Those that can be shown. Issue numbers are those of the tool's own tracker.
pub(super) const FAULTS: [Fault; 9] = [
    Fault {
        kind: Kind::FreezeTooSlow,
        name: "freeze-too-slow",
        happens: "The disks stall, so that the freeze itself takes longer than timeoutInSeconds.",
        victims: "Alibaba's snapshot plugin 1.8: with a freeze of 20 s and a limit of 10 s the server hung, / frozen. Azure VM Backup (#1868): the freezer waits in the kernel, where its own time limit never fires.",
        answer: "The watchdog is another process: it fires at the limit, and its thaw takes effect as soon as the kernel lets go. No copy is called consistent.",
        ceiling: Level::Crash,
    },
    Fault {
        kind: Kind::AgentKilled,
        name: "agent-killed",
        happens: "The Cloud Assistant agent dies while all is frozen; the command's result is lost.",
        victims: "Google's guest agent: restarted between the scripts, it leaves the application quiesced. VMware Tools (#27): the order to thaw never came.",
        answer: "The thaw needs no agent and no order. The report is kept in the guest, and a second command fetches it.",
        ceiling: Level::Application,
    },
    Fault {
        kind: Kind::SequenceKilled,
        name: "sequence-killed",
        happens: "SIGKILL to the process that froze, while all is frozen.",
        victims: "qemu-guest-agent and Azure's safefreeze: the file system stays frozen for good (measured with both).",
        answer: "The watchdog sees the end of the sequence, thaws at once, runs the postscript and writes the report.",
        ceiling: Level::Crash,
    },
    Fault {
        kind: Kind::ApiSilent,
        name: "api-silent",
        happens: "The request for the snapshot is never answered.",
        victims: "ec2-consistent-snapshot (#2): the call hung with the root frozen, and nobody was left to thaw. Azure VM Backup (PR #2021): an answer took 60 s inside the freeze.",
        answer: "The wait ends within timeoutInSeconds; then it thaws and runs the postscript. After three windows it says that there is no copy.",
        ceiling: Level::None,
    },
    Fault {
        kind: Kind::ApiThrottled,
        name: "api-throttled",
        happens: "The first request for the snapshot is refused with Throttling.",
        victims: "AWS Ops Automator (#2): stuck at one copy for hours, until a row was deleted by hand. AWS SDK for .NET (#1355): no token, so a retry may make two snapshots.",
        answer: "It thaws at once instead of waiting it out frozen. Each attempt has a token and a window of its own; no copy from outside a freeze gets a better label.",
        ceiling: Level::Application,
    },
    Fault {
        kind: Kind::ScriptHangs,
        name: "script-hangs",
        happens: "The prescript hangs, with a child, and does not mind SIGTERM.",
        victims: "Velero: it reports an error at its limit, the command runs on, and no post hook follows. qemu-guest-agent: its hook has no limit at all.",
        answer: "Its whole group is ended at scriptTimeoutInSeconds, before anything is frozen. The postscript runs, and the level is not application.",
        ceiling: Level::Filesystem,
    },
    Fault {
        kind: Kind::LockLost,
        name: "lock-lost",
        happens: "The session that holds the database's lock ends before the postscript.",
        victims: "AWS's MySQL sample for Data Lifecycle Manager: the lock goes with the client that took it, others write at once, and the copy is called application-consistent.",
        answer: "The postscript asks whether the same session still holds the lock, and fails if not: the level is filesystem, with the reason.",
        ceiling: Level::Filesystem,
    },
    Fault {
        kind: Kind::FreezeForeign,
        name: "freeze-foreign",
        happens: "Another backup tool has frozen /data already.",
        victims: "qemu-guest-agent passes over it as if it were its own, and thaws whatever is frozen. Azure VM Backup thaws file systems that it never froze.",
        answer: "What somebody else froze is theirs: it stays frozen. What appsnap froze it thaws at once, and the copy is crash-consistent, with the reason.",
        ceiling: Level::Crash,
    },
    Fault {
        kind: Kind::FunctionKilled,
        name: "function-killed",
        happens: "The function is killed while all is frozen; the same event comes again.",
        victims: "Velero (#511): an error between its two hooks, and the file system stays frozen. Snapshot functions on AWS (ebs_snapper #11): the time limit ends them in mid-run.",
        answer: "The guest goes on alone: snapshot, thaw, postscript. The repeat of the event finds the run, settles it, and makes no second copy. It claims crash only: the key that could show whose group it is died with the function.",
        ceiling: Level::Crash,
    },
];

/// The fault of that name, or an error that names those that there are.
pub(super) fn find(name: &str) -> Result<&'static Fault, Failure> {
    if let Some(fault) = FAULTS.iter().find(|fault| fault.name == name) {
        return Ok(fault);
    }
    let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    let there_are = format!("There are: {}; `appsnap demo --fault list` tells of each", names.join(", "));
    if name.is_empty() {
        return Err(Failure::usage(format!("--fault wants the name of a fault\n{there_are}")));
    }
    let near = FAULTS.iter().map(|fault| (distance(name, fault.name), fault.name)).min();
    let hint = near.filter(|(edits, known)| *edits < known.len() / 2);
    let hint = hint.map(|(_, known)| format!(", did you mean {known}?")).unwrap_or_default();
    Err(Failure::usage(format!("--fault {name}: no such fault{hint}\n{there_are}")))
}

/// All of them, for machines.
pub(super) fn list() -> Value {
    FAULTS
        .iter()
        .map(|fault| {
            json!({ "name": fault.name, "happens": fault.happens, "victims": fault.victims, "answer": fault.answer })
        })
        .collect()
}

/// All of them, for people.
pub(super) fn table() -> String {
    let mut out = row(["NAME", "WHAT HAPPENS", "WHO FELL FOR IT", "WHAT APPSNAP DOES"]);
    for fault in &FAULTS {
        out += "\n";
        out += &row([fault.name, fault.happens, fault.victims, fault.answer]);
    }
    out
}

fn row(cells: [&str; 4]) -> String {
    const WIDTHS: [usize; 4] = [15, 28, 38, 38];
    let cells: Vec<Vec<String>> =
        cells.iter().zip(WIDTHS).map(|(cell, width)| wrapped(cell, width)).collect();
    let mut out = String::new();
    for n in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
        let line: Vec<String> = cells
            .iter()
            .zip(WIDTHS)
            .map(|(cell, width)| format!("{:<width$}", cell.get(n).map_or("", String::as_str)))
            .collect();
        out += line.join("  ").trim_end();
        out += "\n";
    }
    out
}

/// Lines of at most `width` characters; a longer word has a line of its own.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_name_is_told_and_nonsense_gets_the_list() {
        let said = |name: &str| find(name).unwrap_err();
        assert_eq!(said("api-silnet").code, 2);
        assert!(said("api-silnet").message.contains("did you mean api-silent?"));
        assert!(!said("x").message.contains("did you mean"));
        for fault in &FAULTS {
            assert_eq!(find(fault.name).unwrap(), fault);
            assert!(said("x").message.contains(fault.name));
        }
    }

    #[test]
    fn the_table_tells_all_and_fits_a_wide_terminal() {
        let table = table();
        for word in FAULTS.iter().flat_map(|fault| fault.answer.split_whitespace()) {
            assert!(table.contains(word), "{word}");
        }
        assert!(table.lines().all(|line| line.chars().count() <= 125));
        assert_eq!(wrapped("ab cd efghijk l", 5), ["ab cd", "efghijk", "l"]);
    }
}
