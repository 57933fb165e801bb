//! What each reason of the guest means and what to do about it: the table behind findings and documentation.

use crate::guest::plugin::EXITS;
use crate::report::{Finding, Severity};

/// Code, meaning, cure.
pub const TABLE: [(&str, &str, &str); 41] = [
    (
        "busy",
        "another run holds the guest",
        "wait until it has ended; one run at a time is allowed in a guest",
    ),
    (
        "connect.failed",
        "the guest did not reach the ECS endpoint before the freeze",
        "let the guest reach linux.endpoint by HTTPS (vpc: inside the VPC without Internet), and check its CA certificates",
    ),
    (
        "create.failed",
        "the cloud did not accept the create inside the window",
        "see the cloud's code; a throttle or a passing fault: run again",
    ),
    (
        "disk.not_found",
        "a chosen disk is not seen in the guest",
        "check that the disk is attached and that its serial shows in /sys/block",
    ),
    (
        "fast.none",
        "fastFreeze was asked for, and the kernel's rcu_expedited cannot be written",
        "nothing is lost but some milliseconds: leave out linux.fastFreeze on this guest",
    ),
    (
        "fast.used",
        "rcu_expedited was set around the freeze and put back (fastFreeze)",
        "nothing to do; leave out linux.fastFreeze if the kernel's setting is not to be touched",
    ),
    (
        "freeze.busy",
        "a file system was frozen by somebody else",
        "find the other backup tool; two of them must not run at once",
    ),
    (
        "freeze.failed",
        "a file system could not be frozen",
        "see the detail; ext3, ext4 and XFS can be frozen",
    ),
    ("freeze.incomplete", "not every file system was frozen", "see the other reasons"),
    (
        "freeze.off",
        "enableFsFreeze is false",
        "set linux.enableFsFreeze to true for more than crash consistency",
    ),
    ("fs.changed", "a file system was mounted or unmounted meanwhile", "run again when nobody mounts"),
    (
        "fs.hidden",
        "a file system cannot be reached under its mount point",
        "unmount what lies over it, or remount it",
    ),
    (
        "fs.namespace",
        "a file system is mounted in another mount namespace only",
        "mount it in the host's namespace too, or leave its disk out",
    ),
    (
        "fs.not_quiet",
        "something that cannot be frozen (swap, vfat, NTFS, a raw disk) was written during the freeze",
        "leave its disk out, or stop the writer in the prescript",
    ),
    (
        "fs.shared",
        "a shared file system lives on a chosen disk",
        "leave the disk out: a freeze on one node does not stop the others",
    ),
    ("fs.spans", "a volume also stands on a disk that is not in the group", "add that disk to the group"),
    ("group.disks", "the group does not hold exactly the chosen disks", "compare the members; run again"),
    (
        "group.exists",
        "a group of this attempt existed before the freeze",
        "somebody fired the signed request early: check who reads Cloud Assistant's commands",
    ),
    ("group.none", "there is no group", "see the other reasons"),
    (
        "group.not_visible",
        "the group did not show all its disks while frozen",
        "raise linux.visibleTimeoutInSeconds, or accept thawOn: accepted",
    ),
    ("group.too_old", "the group was created before the freeze", "do not trust this group; run again"),
    (
        "report.lost",
        "the guest's report never came",
        "check that Cloud Assistant is alive in the guest, then send the event again: it settles the run",
    ),
    (
        "request.old",
        "the signed request was too old when its turn came",
        "shorten the prescript: signatures live 15 minutes",
    ),
    (
        "script.declined",
        "the prescript said that it is not this instance's turn (exit 75)",
        "nothing to do where a replica declines",
    ),
    ("script.failed", "the prescript failed", "see its exit code and its output in the report"),
    (
        "script.links",
        "a script has more names than one (hard links)",
        "copy it to a file of its own: somebody may have linked another program there",
    ),
    ("script.missing", "a script does not exist", "put it there, owner root, mode 0700"),
    ("script.mode", "a script's mode is not 0700", "chmod 0700 the script"),
    ("script.owner", "a script does not belong to root", "chown root the script"),
    (
        "script.parent",
        "a directory above a script can be written by others",
        "use /etc/appsnap, owner root, mode 0755",
    ),
    ("script.post", "the postscript failed", "see its exit code; check that the application works again"),
    ("script.postscript", "no postscript ran well", "see the other reasons"),
    ("script.prescript", "no prescript ran well", "see the other reasons"),
    (
        "script.symlink",
        "a script is a symbolic link, or its path leads over one",
        "put the file itself there, and name it by its real path",
    ),
    (
        "script.timeout",
        "a script took longer than its limit and was ended",
        "raise linux.scriptTimeoutInSeconds (780 at most), or make it faster",
    ),
    ("script.type", "a script is not a regular file", "put a regular file there"),
    ("state.absent", "the guest was restarted between the two commands", "run again"),
    (
        "state.not_tmpfs",
        "/run is not on tmpfs in the guest",
        "mount a tmpfs on /run, as every supported image does",
    ),
    (
        "state.space",
        "/run has no room, or gzip or base64 are missing",
        "free some space on /run; install gzip and coreutils",
    ),
    (
        "tag.failed",
        "the level could not be written on the snapshots",
        "let the role call ecs:TagResources, then send the event again",
    ),
    ("tool.https", "the guest has neither curl (7.36 or newer) nor openssl", "install curl"),
];

/// Code, meaning, cure of the vendor's plugin as engine; [`EXITS`] has its manager's exit codes.
pub const PLUGIN: [(&str, &str, &str); 12] = [
    (
        "plugin.category",
        "the plugin (1.8) was seen to leave out ESSD AutoPL disks as soon as one disk is excluded",
        "choose all disks, or engine sequence, if it ends with an error",
    ),
    (
        "plugin.disks",
        "more than one attached disk would have to be excluded, and the plugin was seen with one only",
        "choose all disks or all but one; on Linux use engine sequence for any choice",
    ),
    (
        "plugin.failed",
        "the plugin itself ended with an error; what its exit codes mean is not known",
        "see the command's output in Cloud Assistant and the plugin's log in its directory in the guest",
    ),
    (
        "plugin.lowered",
        "the plugin tagged less than application and does not tell why",
        "Linux: check both scripts (owner root, mode 0700, exit 0); Windows: check `vssadmin list writers`",
    ),
    (
        "plugin.manager_missing",
        "the guest has no acs-plugin-manager in its PATH",
        "update Cloud Assistant in the guest",
    ),
    (
        "plugin.options",
        "the plugin has no parameter for these options",
        "leave them out; on Linux use engine sequence where they matter",
    ),
    (
        "plugin.role_none",
        "the instance has no RAM role (or ecs:DescribeInstanceRamRole is denied), and the plugin calls the API with it",
        "attach one that may ecs:DescribeDisks, DescribeSnapshot*, CreateSnapshot* and TagResources",
    ),
    (
        "plugin.silent",
        "the plugin's command did not end in time",
        "look at the guest; then send the event again: it settles the run",
    ),
    ("plugin.tag", "the plugin's own tags on the snapshots claim more than was shown", "trust appsnap:level"),
    (
        "plugin.thawed",
        "the plugin's freezer held longer than its limit, or died: our guard thawed",
        "raise linux.timeoutInSeconds if the file systems need longer, or use engine sequence",
    ),
    (
        "plugin.untagged",
        "the plugin tagged none, or not all, of the snapshots as consistent",
        "let the instance's role call ecs:TagResources, and ours ecs:DescribeSnapshots",
    ),
    (
        "writers.off",
        "without VSS writers (windows.enableWriters) no application is asked",
        "set windows.enableWriters to true for application consistency",
    ),
];

/// Codes that need no row of their own: they share meaning and cure.
const SHARED: [(&str, &str, &str); 3] = [
    (
        "thaw.",
        "a file system was thawed by somebody else, or could not be thawed by us",
        "find who else thaws; if one is still frozen, thaw it: fsfreeze --unfreeze",
    ),
    (
        "watchdog.",
        "the freeze lasted longer than timeoutInSeconds, or the watchdog died",
        "see the timeline; raise linux.timeoutInSeconds if the file system needs longer",
    ),
    (
        "tool.",
        "a tool that the sequence needs is missing in the guest",
        "install it (util-linux, coreutils, awk)",
    ),
];

/// The finding for a reason told by the guest.
pub fn finding(code: &str, detail: &str, resource: &str, severity: Severity) -> Finding {
    let row = TABLE.iter().chain(&PLUGIN).find(|(known, ..)| *known == code);
    let row = row.or_else(|| SHARED.iter().find(|(prefix, ..)| code.starts_with(prefix)));
    let exit = || EXITS.iter().find(|exit| exit.reason == code).map(|exit| (exit.meaning, exit.cure));
    let told = row.map(|(_, meaning, cure)| (*meaning, *cure)).or_else(exit);
    let (meaning, cure) = told.unwrap_or(("a reason of the guest", "see the detail"));
    let message = if detail.is_empty() { meaning.to_string() } else { format!("{meaning}: {detail}") };
    Finding { code: code.into(), severity, resource: resource.into(), message, cure: cure.into() }
}

/// The note on a policy that thaws early.
pub fn accepted(resource: &str) -> Finding {
    Finding {
        code: "window.accepted".into(),
        severity: Severity::Note,
        resource: resource.into(),
        message: "thawed on the answer of the create (thawOn: accepted), not when the group showed its disks: the vendor does not state the instant of the cut".into(),
        cure: "leave out linux.thawOn for the stronger evidence".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code in the shell sources and in the label has a meaning of its own here.
    #[test]
    fn every_reason_of_the_sequence_is_explained() {
        let sequence = crate::guest::render::sequence();
        let mut codes: Vec<&str> = Vec::new();
        for word in ["why ", "leave ", "stop ", "FAULT=\""] {
            let told = sequence
                .split(word)
                .skip(1)
                .map(|rest| rest.split([' ', '"', '\n', '%']).next().unwrap_or_default());
            codes.extend(told.filter(|code| code.contains('.') && !code.contains(['$', '{'])));
        }
        assert!(codes.len() > 20, "{codes:?}");
        for code in codes {
            let found = finding(code, "", "i-1", Severity::Downgrade);
            assert!(found.cure != "see the detail", "{code} has no meaning");
        }
    }

    #[test]
    fn the_table_is_in_order_and_has_each_code_once() {
        for table in [&TABLE[..], &PLUGIN] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn every_exit_code_of_the_plugin_manager_has_a_cure() {
        for exit in &EXITS {
            let found = finding(exit.reason, exit.name, "i-1", Severity::Downgrade);
            assert_eq!((found.cure.as_str(), found.message.contains(exit.name)), (exit.cure, true));
        }
    }
}
