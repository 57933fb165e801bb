//! Every condition as a row: its code, its weight, what it says, the cure and where it comes from. docs/rules.md is made
//! of it. What is seen from outside, by the API, stands here.

use super::guest;
use crate::report::{Finding, Severity};

/// A condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Stable, e.g. `disk.category`.
    pub code: &'static str,
    /// What it weighs where it is not met. A downgrade from outside leaves `crash` at best, and is a blocker where
    /// `minimumLevel` is above that.
    pub severity: Severity,
    /// What is the matter then.
    pub message: &'static str,
    /// What to do about it.
    pub cure: &'static str,
    /// Where the condition comes from: a page of the vendor's, a field or an error code of the API, or a law of ours.
    pub source: &'static str,
}

impl Rule {
    /// The finding about a resource; a detail follows the message.
    pub fn finding(&self, resource: &str, detail: &str) -> Finding {
        let message = match detail {
            "" => self.message.to_string(),
            detail => format!("{}: {detail}", self.message),
        };
        Finding {
            code: self.code.into(),
            severity: self.severity,
            resource: resource.into(),
            message,
            cure: self.cure.into(),
        }
    }
}

/// The tables by where a condition shows, each with its title in docs/rules.md.
pub const TABLES: &[(&str, &[Rule])] =
    &[("Seen from outside, by the API", RULES), ("Seen by a check, in the guest and of it", guest::RULES)];

/// The row of a code.
pub fn rule(code: &str) -> Option<&'static Rule> {
    TABLES.iter().flat_map(|(_, rules)| *rules).find(|rule| rule.code == code)
}

const APPLICATION_PAGE: &str = "ECS user guide, Create application-consistent snapshots (2021; newer editions add Windows Server 2022 and \
     Alibaba Cloud Linux 3)";
const GROUP_PAGE: &str = "ECS user guide, Create a snapshot-consistent group (2026-04-01)";
const GROUP_API: &str = "API reference, CreateSnapshotGroup (2026-01-07)";

/// A stopped instance is snapshotted as it lies, see `protect::at_rest`; the same words are the reason of the level.
pub const STOPPED: Rule = Rule {
    code: "instance.stopped",
    severity: Severity::Downgrade,
    message: "the instance is stopped: its disks are snapshotted as they lie, and nothing shows how it was shut down",
    cure: "none needed if that is meant; a level above crash takes a running instance",
    source: GROUP_API,
};

/// In the order of the way: region, instance, its system, its agent, its disks, the group.
pub const RULES: &[Rule] = &[
    Rule {
        code: "region.unknown",
        severity: Severity::Note,
        message: "no page of the vendor's that we know places snapshot-consistent groups in this region",
        cure: "none needed if a first run succeeds: the API decides; APPSNAP_SUPPORT can name the region",
        source: APPLICATION_PAGE,
    },
    Rule {
        code: "instance.unknown",
        severity: Severity::Blocker,
        message: "the cloud does not show this instance",
        cure: "check id and regionId, and what the role may see (a denial is an empty list)",
        source: "API reference, DescribeInstances",
    },
    Rule {
        code: "instance.state",
        severity: Severity::Blocker,
        message: "the instance is neither Running nor Stopped",
        cure: "wait until it is Running and repeat",
        source: GROUP_API,
    },
    STOPPED,
    Rule {
        code: "instance.locked",
        severity: Severity::Blocker,
        message: "the cloud has locked the instance",
        cure: "settle the lock's reason in the ECS console",
        source: "API reference, DescribeInstances: OperationLocks; CreateSnapshotGroup: InstanceLockedForSecurity",
    },
    Rule {
        code: "account.arrears",
        severity: Severity::Blocker,
        message: "something is not paid for",
        cure: "settle the bill in the console (Expenses and Costs), then repeat",
        source: "API reference, OperationLocks: financial; CreateSnapshotGroup: DiskInArrears, \
                 InvalidAccountStatus.NotEnoughBalance",
    },
    Rule {
        code: "os.windows",
        severity: Severity::Note,
        message: "a Windows guest is protected by the vendor's plugin (VSS), whose arguments there were never observed",
        cure: "do a first run on a test instance with minimumLevel application, and read its report",
        source: "docs/architecture.md, The vendor's plugin as an engine",
    },
    Rule {
        code: "os.windows_version",
        severity: Severity::Downgrade,
        message: "the vendor's plugin is not documented for this version of Windows",
        cure: "documented are Windows Server 2012 R2, 2016, 2019 and 2022; if a first run shows that another one \
               works, name it in APPSNAP_SUPPORT",
        source: APPLICATION_PAGE,
    },
    Rule {
        code: "os.unsupported",
        severity: Severity::Note,
        message: "the vendor does not list this system; the guest itself shows whether it can be frozen",
        cure: "listed are CentOS 7.6 and later, Ubuntu 18.04 and later, Alibaba Cloud Linux 2 and 3; on another \
               Linux do a first run and read its report",
        source: APPLICATION_PAGE,
    },
    Rule {
        code: "agent.offline",
        severity: Severity::Blocker,
        message: "Cloud Assistant is offline: no command arrives in the guest",
        cure: "start or install the client in the guest (service aliyun), and let it reach 100.100.100.200 and \
               the region's axt endpoint",
        source: "API reference, DescribeCloudAssistantStatus: a heartbeat within the last two minutes",
    },
    Rule {
        code: "agent.unknown",
        severity: Severity::Note,
        message: "Cloud Assistant's state is not known: the instance is missing in the answer",
        cure: "check that the instance is in this region, and what the role may see (a denial is an empty list)",
        source: "API reference, DescribeCloudAssistantStatus",
    },
    Rule {
        code: "agent.old",
        severity: Severity::Note,
        message: "the Cloud Assistant client is older than the one whose source the sequence was built against",
        cure: "update the client in the guest; it does so by itself where it reaches its update server",
        source: "aliyun_assist_client, 2.x.x.578 (2024-01)",
    },
    Rule {
        code: "disk.none",
        severity: Severity::Blocker,
        message: "no disk of the instance is chosen",
        cure: "look at targets.disks, targets.diskIds and targets.excludeDiskIds",
        source: "API reference, CreateSnapshotGroup: InvalidInstance.NoDisk",
    },
    Rule {
        code: "disk.unknown",
        severity: Severity::Blocker,
        message: "targets.diskIds names a disk that is attached to none of the instances",
        cure: "correct or remove it; check too that the role may call ecs:DescribeDisks (a denial is an empty list)",
        source: "API reference, CreateSnapshotGroup: InvalidDiskId.NotFound",
    },
    Rule {
        code: "disk.exclude_unknown",
        severity: Severity::Note,
        message: "targets.excludeDiskIds names a disk that is attached to none of the instances",
        cure: "correct or remove it: a slip there may put the wrong disk into the group",
        source: "ours: what is asked for and does nothing is told",
    },
    Rule {
        code: "disk.left_out",
        severity: Severity::Note,
        message: "this disk is attached, and left out by the request",
        cure: "none needed if that is meant; else look at targets.disks, diskIds and excludeDiskIds",
        source: "ours: a copy without it must not pass for a copy of the whole machine",
    },
    Rule {
        code: "disk.category",
        severity: Severity::Blocker,
        message: "snapshot groups do not take disks of this category",
        cure: "change the disk to an ESSD (cloud_essd, cloud_auto, cloud_essd_entry), or leave it out by \
               targets.excludeDiskIds: it is then in no copy",
        source: "API reference, CreateSnapshotGroup: DiskCategory.OperationNotSupported, IncorrectDiskType.NotSupport",
    },
    Rule {
        code: "disk.local",
        severity: Severity::Blocker,
        message: "a local or elastic ephemeral disk can be in no snapshot",
        cure: "leave it out by targets.excludeDiskIds, and protect what is on it by other means",
        source: GROUP_PAGE,
    },
    Rule {
        code: "disk.regional",
        severity: Severity::Blocker,
        message: "zone-redundant disks and others cannot be in one group",
        cure: "protect them by two policies, each with its targets.diskIds",
        source: "API reference, CreateSnapshotGroup: InvalidDisk.DiskCategoryInconsistent",
    },
    Rule {
        code: "disk.state",
        severity: Severity::Blocker,
        message: "the disk is neither In_use nor Available",
        cure: "wait until the operation on the disk has ended and repeat",
        source: "API reference, CreateSnapshotGroup: IncorrectDiskStatus",
    },
    Rule {
        code: "disk.locked",
        severity: Severity::Blocker,
        message: "the cloud has locked the disk",
        cure: "settle the lock's reason in the ECS console",
        source: "API reference, DescribeDisks: OperationLocks",
    },
    Rule {
        code: "disk.multi_attach",
        severity: Severity::Blocker,
        message: "snapshot groups do not take disks with multi-attach",
        cure: "leave it out by targets.excludeDiskIds: a freeze in one guest does not stop the others",
        source: "API reference, CreateSnapshotGroup: InvalidOperation.MultiAttachDisk, InvalidDisk.ShareVolume",
    },
    Rule {
        code: "disk.encrypted",
        severity: Severity::Note,
        message: "the disk is encrypted; whether its key can be used shows when the group is created",
        cure: "none needed while the key is enabled; without it the create is refused (disk.kms)",
        source: "API reference, CreateSnapshotGroup: InvalidParameter.KMSKeyId.*",
    },
    Rule {
        code: "disk.kms",
        severity: Severity::Blocker,
        message: "the key of an encrypted disk cannot be used",
        cure: "enable the key in KMS, and let ECS use it (role AliyunECSDiskEncryptDefaultRole)",
        source: "API reference, CreateSnapshotGroup: InvalidParameter.KMSKeyId.*, InvalidKMSKeyId.NotFound",
    },
    Rule {
        code: "disk.tasks",
        severity: Severity::Blocker,
        message: "ten snapshots of the disk are under way, which is the limit",
        cure: "wait until some of them have ended, and repeat; spread policies over the day",
        source: "API reference, CreateSnapshot; CreateSnapshotGroup: QuotaExceed.ConcurrentSnapshotQuota, \
                 IncorrectDiskStatus.TooManyCreatingSnapshots",
    },
    Rule {
        code: "disk.quota",
        severity: Severity::Blocker,
        message: "the disk has 256 manual snapshots, which is the limit (those of groups count)",
        cure: "delete old groups; appsnap deletes nothing",
        source: "API reference, CreateSnapshot; CreateSnapshotGroup: QuotaExceed.Snapshot",
    },
    Rule {
        code: "disk.snapshots_unknown",
        severity: Severity::Note,
        message: "how many snapshots the disk has cannot be read",
        cure: "grant ecs:DescribeSnapshots to the role, or let the create tell",
        source: "API reference, DescribeSnapshots",
    },
    Rule {
        code: "disk.zone",
        severity: Severity::Blocker,
        message: "the disks of a group must be in one zone",
        cure: "protect them by one policy for each zone, each with its targets.diskIds",
        source: "API reference, CreateSnapshotGroup: InvalidDiskIds.NotInSameZone",
    },
    Rule {
        code: "group.size",
        severity: Severity::Blocker,
        message: "more than a group can hold",
        cure: "choose fewer disks for one group by targets.diskIds",
        source: GROUP_PAGE,
    },
    Rule {
        code: "group.region",
        severity: Severity::Note,
        message: "more than a group can hold in this region by one page of the vendor's; others name no such limit",
        cure: "do a first run: the API decides (NumberExceed.TooManyDisks, CapacityExceed.TooManyDisks); if it \
               takes them, set the limit in APPSNAP_SUPPORT",
        source: GROUP_PAGE,
    },
    Rule {
        code: "snapshot.service",
        severity: Severity::Blocker,
        message: "the account cannot use the snapshot service",
        cure: "activate Snapshot in the ECS console, and check the account's state",
        source: "API reference, CreateSnapshotGroup: InvalidAccountStatus.SnapshotServiceUnavailable",
    },
];

/// The rule by which CreateSnapshotGroup refuses, by the beginning of its code; the first that fits. Some conditions no
/// describe shows: these are known only then.
const REFUSALS: &[(&str, &str)] = &[
    ("InvalidDiskIds.NotInSameZone", "disk.zone"),
    ("IncorrectInstanceStatus", "instance.state"),
    ("InstanceLockedForSecurity", "instance.locked"),
    ("DiskInArrears", "account.arrears"),
    ("InvalidAccountStatus.NotEnoughBalance", "account.arrears"),
    ("InvalidAccountStatus", "snapshot.service"),
    ("DiskCategory.OperationNotSupported", "disk.category"),
    ("IncorrectDiskType.NotSupport", "disk.category"),
    ("DiskId.ValueNotSupported", "disk.category"),
    ("InvalidDisk.DiskCategoryInconsistent", "disk.regional"),
    ("InvalidOperation.MultiAttachDisk", "disk.multi_attach"),
    ("InvalidDisk.ShareVolume", "disk.multi_attach"),
    ("IncorrectDiskStatus.CreatingSnapshot", "disk.tasks"),
    ("IncorrectDiskStatus.TooManyCreatingSnapshots", "disk.tasks"),
    ("QuotaExceed.ConcurrentSnapshotQuota", "disk.tasks"),
    ("QuotaExceed.Snapshot", "disk.quota"),
    ("IncorrectDiskStatus", "disk.state"),
    ("IncorrectVolumeStatus", "disk.state"),
    ("InvalidParameter.KMSKeyId", "disk.kms"),
    ("InvalidKMSKeyId", "disk.kms"),
    ("NumberExceed.TooManyDisks", "group.size"),
    ("CapacityExceed.TooManyDisks", "group.size"),
    ("InvalidInstance.NoDisk", "disk.none"),
    ("InvalidDiskId.NotFound", "disk.unknown"),
    ("InvalidInstanceId.NotFound", "instance.unknown"),
];

/// The rule that an error code of CreateSnapshotGroup stands for.
pub fn refused(code: &str) -> Option<&'static Rule> {
    let (_, found) = REFUSALS.iter().find(|(beginning, _)| code.starts_with(beginning))?;
    rule(found)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
