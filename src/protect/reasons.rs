//! What each reason means and what to do about it: the table behind findings and docs/reasons.md.

use crate::eligibility::rules::STOPPED;
use crate::guest::plugin::EXITS;
use crate::report::{Finding, Severity};

/// Code, meaning, cure: why a level is lower, or a run was refused.
pub const TABLE: &[(&str, &str, &str)] = &[
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
        "see the cloud's code; what passes by itself was tried again in other windows: run again later",
    ),
    (
        "disk.not_found",
        "a chosen disk is not seen in the guest",
        "check that the disk is attached and that its serial shows in /sys/block",
    ),
    (
        "freeze.busy",
        "a file system was frozen by somebody else",
        "find the other backup tool; two of them must not run at once",
    ),
    (
        "freeze.failed",
        "a file system could not be frozen",
        "see the detail; ext2 to ext4, XFS, btrfs, f2fs and jfs can be frozen",
    ),
    ("freeze.incomplete", "not every file system was frozen", "see the other reasons"),
    (
        "freeze.off",
        "enableFsFreeze is false",
        "set linux.enableFsFreeze to true for more than crash consistency",
    ),
    (
        "freeze.watched",
        "a daemon in the guest decides about every program's start (fanotify): if it waits for a frozen disk, nobody could thaw",
        "stop it in the prescript (fapolicyd, a virus scanner), or leave the disks that it writes to out",
    ),
    ("fs.changed", "a file system was mounted or unmounted meanwhile", "run again when nobody mounts"),
    (
        "fs.hidden",
        "a file system cannot be reached under its mount point",
        "unmount what lies over it, or remount it",
    ),
    (
        "fs.namespace",
        "a file system is mounted where the host does not see it (a container, or unmounted lazily)",
        "mount it in the host's namespace too, end whoever still uses it, or leave its disk out",
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
        "a group of this attempt existed before the freeze, or nothing shows that it did not",
        "check who can read Cloud Assistant's commands; run again",
    ),
    (
        "group.failed",
        "the cloud says that the group, or a snapshot of it, failed: nothing can be restored from it",
        "look at the snapshots in the console; run again, and ask the vendor if it stays so",
    ),
    ("group.none", "there is no group", "see the other reasons"),
    (
        "group.not_visible",
        "the group did not show all its disks while frozen",
        "let the role call ecs:DescribeSnapshotGroups (a denial is an empty list); else raise linux.visibleTimeoutInSeconds, or accept thawOn: accepted",
    ),
    ("group.too_old", "the group was created before the freeze", "do not trust this group; run again"),
    (
        "group.unproven",
        "somebody else may have fired a signed create before the guest did: nothing shows that nobody did",
        "see the detail; check who can read Cloud Assistant's commands; if the cloud no longer knows our own nonces, let guest and function use one endpoint (linux.endpoint, APPSNAP_NETWORK)",
    ),
    // Its words are those of the rule: the survey has told it already.
    (
        "instance.excluded",
        "named in targets.instanceIds, and left out by targets.excludeTags",
        "none needed while that is meant; else take the tag off, or the instance out of instanceIds",
    ),
    (
        "instance.started",
        "the instance was started while its group was made, as of a stopped one: nothing was frozen in it",
        "start a new run",
    ),
    (STOPPED.code, STOPPED.message, STOPPED.cure),
    (
        "pinned.file",
        "Cloud Assistant did not run the registered command from a file of its own, from which it reads its values",
        "free space on the guest's system disk, where Cloud Assistant keeps its commands; run again",
    ),
    (
        "pinned.mixed",
        "the registered commands that came first and second are of two versions",
        "use one version of appsnap at a time; run again",
    ),
    (
        "pinned.value",
        "a value was refused by the registered command: it is not of the kind that this place takes",
        "report this, if appsnap sent it; else find out who else may invoke the command",
    ),
    (
        "report.lost",
        "the guest's report did not come, or the sequence did not reach its end",
        "check that Cloud Assistant is alive in the guest, then send the event again: it settles the run",
    ),
    (
        "request.old",
        "the signed request was too old when its turn came",
        "shorten the prescript: signatures live 15 minutes",
    ),
    (
        "schedule.blackout",
        "an attempt may not begin now: it is a time that notDuring names",
        "send the event again outside of it, or change notDuring",
    ),
    (
        "schedule.late",
        "an attempt may not begin any more: startWithinSeconds have passed since the run was due",
        "see why the event came late; start a run by hand if this copy is needed",
    ),
    (
        "script.declined",
        "the prescript said that it is not this instance's turn (exit 75)",
        "none needed where another instance of the run is done (atLeast counts them); else let one of them say 0",
    ),
    ("script.failed", "the prescript failed", "see its exit code and its last words"),
    (
        "script.links",
        "a script has more names than one (hard links)",
        "copy it to a file of its own: somebody may have linked another program there",
    ),
    (
        "script.missing",
        "a script does not exist",
        "put it into /etc/appsnap, or where the request's preScriptPath or postScriptPath says; owner root, mode 0700",
    ),
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
    ("state.space", "/run has no room", "free some space on /run"),
    (
        "tag.failed",
        "the level could not be written on the snapshots, or the tag of a higher one could not be removed",
        "let the role call ecs:TagResources and ecs:UntagResources, then send the event again",
    ),
    ("thaw.early", "a file system was thawed by somebody else", "find who else thaws"),
    (
        "thaw.failed",
        "our own thaw failed; the watchdog goes on trying",
        "check the guest; what is still frozen: fsfreeze --unfreeze MOUNT",
    ),
    ("tool.https", "the guest has neither curl (7.36 or newer) nor openssl", "install curl"),
    (
        "tool.missing",
        "a tool that the sequence needs is missing in the guest",
        "install it (util-linux, coreutils, awk)",
    ),
    (
        "watchdog.fired",
        "the freeze lasted longer than timeoutInSeconds",
        "see the timeline; raise linux.timeoutInSeconds if the file system needs longer",
    ),
    (
        "watchdog.lost",
        "the watchdog died, or did not answer (before the freeze: nothing was frozen then)",
        "see the guest's load and memory; run again",
    ),
    (
        "watchdog.missing",
        "the watchdog did not come up; nothing was frozen",
        "see the guest's load and memory; run again",
    ),
];

/// The same of notes, which lower nothing.
pub const NOTES: &[(&str, &str, &str)] = &[
    (
        "attempt.failed",
        "an attempt ended without a group, by something that passes by itself",
        "none needed where a later attempt succeeded; a rate limit: spread the runs of a fleet",
    ),
    (
        "fast.none",
        "linux.fastFreeze did nothing: the guest's kernel does not let itself be hurried",
        "none needed: the freeze is as long as without it",
    ),
    (
        "fast.used",
        "linux.fastFreeze hurried the kernel (rcu_expedited) for the window, and put back what was there",
        "none needed",
    ),
    (
        "fs.network",
        "a network file system of the guest is not in the snapshot",
        "back it up by its own means",
    ),
    (
        "group.extra",
        "another group carries the tags (or, by the plugin, the name) of this run: of an earlier attempt, or made by somebody else; it is labelled crash",
        "delete it where it is not needed; if no attempt failed, find out who made it",
    ),
    (
        "group.unseen",
        "a group of this run may be there that has not shown yet; it would carry this tag",
        "send the event again later: that looks again, tells what it finds and labels it",
    ),
    (
        "look.pinned",
        "in pinned mode a check does not look into the guest: its look is RunCommand's, which the role does not have",
        "none needed: a run looks before it touches anything; a function without APPSNAP_PINNED can check more",
    ),
    (
        "option.unused",
        "an option says nothing to this instance's system, and was not used",
        "leave it out, or name instances of the other system in a policy of their own",
    ),
    (
        "role.none",
        "without roleArn the guest's requests are signed by whoever acts (the function's own role), and cannot be narrowed",
        "set roleArn, or APPSNAP_ROLE_ARN, to a role that the function may assume",
    ),
    (
        "session.instance",
        "the guest's session is narrowed to the instance: the disks do not fit a session policy",
        "nothing to do; fewer disks in the group would narrow it further",
    ),
    (
        "window.accepted",
        "thawed on the answer of the create (thawOn: accepted): that the cut was made by then is not shown",
        "leave out linux.thawOn for the stronger evidence",
    ),
];

/// Code, meaning, cure of the vendor's plugin as engine; [`EXITS`] has its manager's exit codes.
pub const PLUGIN: &[(&str, &str, &str)] = &[
    (
        "pinned.engine",
        "in pinned mode the vendor's plugin cannot be run: it takes RunCommand",
        "on Linux use engine sequence; for Windows a function of its own without APPSNAP_PINNED",
    ),
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
        r#"attach the role that `appsnap ram --plugin` prints: aliyun ecs AttachInstanceRamRole --RegionId … --RamRoleName appsnap-plugin --InstanceIds '["i-…"]'"#,
    ),
    (
        "plugin.silent",
        "the plugin's command did not end in time",
        "look at the guest; then send the event again: it settles the run",
    ),
    (
        "plugin.tag",
        "the plugin's own tags on the snapshots claimed more than was shown; they were removed",
        "none needed: trust appsnap:level",
    ),
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

/// The finding for a reason or note; one that is not known is told as it is.
pub fn finding(code: &str, detail: &str, resource: &str, severity: Severity) -> Finding {
    let row = TABLE.iter().chain(NOTES).chain(PLUGIN).find(|(known, ..)| *known == code);
    let exit = || EXITS.iter().find(|exit| exit.reason == code).map(|exit| (exit.meaning, exit.cure));
    let told = row.map(|(_, meaning, cure)| (*meaning, *cure)).or_else(exit);
    let (meaning, cure) = told.unwrap_or(("a reason of the guest", "see the detail"));
    let message = if detail.is_empty() { meaning.to_string() } else { format!("{meaning}: {detail}") };
    Finding { code: code.into(), severity, resource: resource.into(), message, cure: cure.into() }
}

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod tests;
