//! What is supported, as data with its sources.

/// Regions in which the vendor's pages place application-consistent snapshots (the first five, 2021) or snapshot-consistent
/// groups (2026-04-01; Riyadh, me-central-1, is left out: Cloud Backup excludes it from application consistency). Another
/// region is worth a note and no more: the newest pages carry no list.
/// Source: Alibaba Cloud, ECS user guide, "Create application-consistent snapshots", "Create a snapshot-consistent group".
#[rustfmt::skip]
pub(super) const REGIONS: [&str; 30] = [
    "cn-hangzhou", "cn-shanghai", "cn-beijing", "cn-hongkong", "ap-southeast-1",
    "ap-northeast-1", "ap-northeast-2", "ap-southeast-3", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7",
    "cn-chengdu", "cn-fuzhou", "cn-guangzhou", "cn-heyuan", "cn-huhehaote", "cn-nanjing", "cn-qingdao",
    "cn-shanghai-finance-1", "cn-shenzhen", "cn-shenzhen-finance-1", "cn-wuhan-lr", "cn-wulanchabu",
    "cn-zhangjiakou", "eu-central-1", "eu-west-1", "me-east-1", "na-south-1", "us-east-1", "us-west-1",
];

/// Regions in which a group may hold [`GROUP_AT_MOST`]; elsewhere it is [`GROUP_EVERYWHERE`] by this page, while others of
/// the vendor's name the larger limit for all.
/// Source: Alibaba Cloud, ECS user guide, "Create a snapshot-consistent group" (2026-04-01).
#[rustfmt::skip]
const LARGE_GROUPS: [&str; 26] = [
    "cn-huhehaote", "ap-southeast-7", "ap-northeast-2", "ap-southeast-3", "eu-west-1", "me-central-1", "me-east-1",
    "ap-northeast-1", "ap-southeast-6", "cn-guangzhou", "cn-qingdao", "us-west-1", "cn-hongkong", "ap-southeast-1",
    "cn-fuzhou", "cn-nanjing", "cn-wuhan-lr", "na-south-1", "ap-southeast-5", "cn-shanghai-finance-1",
    "cn-shenzhen-finance-1", "cn-chengdu", "us-east-1", "cn-wulanchabu", "cn-zhangjiakou", "cn-heyuan",
];

/// Disks and GiB that a group may hold in a region, as documented.
pub(super) fn group_limit(region_id: &str) -> (usize, u64) {
    if LARGE_GROUPS.contains(&region_id) { GROUP_AT_MOST } else { GROUP_EVERYWHERE }
}

/// A disk category that CreateSnapshotGroup takes.
pub(super) struct Category {
    /// The API's word.
    pub name: &'static str,
    /// Regional (zone-redundant) disks can be grouped with regional disks only.
    pub regional: bool,
}

/// Source: Alibaba Cloud, ECS user guide, "Create a snapshot-consistent group"; API reference,
/// CreateSnapshotGroup (DiskCategory.OperationNotSupported, InvalidDisk.DiskCategoryInconsistent).
pub(super) const CATEGORIES: [Category; 5] = [
    Category { name: "cloud_essd", regional: false },
    Category { name: "cloud_auto", regional: false },
    Category { name: "cloud_essd_entry", regional: false },
    Category { name: "cloud_regional_disk_auto", regional: true },
    Category { name: "cloud_essd_zrs", regional: true }, // another spelling of the same, in a tool of the vendor's
];

/// What the names of categories begin with whose disks live on one host and can be in no snapshot. Source: as above.
pub(super) const LOCAL: [&str; 3] = ["local", "ephemeral", "elastic_ephemeral"];

/// CreateSnapshotGroup takes disks that are attached, or were once.
/// Source: as for the categories.
pub(super) const DISK_STATES: [&str; 2] = ["In_use", "Available"];

/// Disks and GiB of one group: in every region, and in those that allow most. Source: as for [`LARGE_GROUPS`].
const GROUP_EVERYWHERE: (usize, u64) = (16, 32 << 10);
pub(super) const GROUP_AT_MOST: (usize, u64) = (128, 256 << 10);

/// An operating system that the vendor lists.
pub(super) struct Os {
    /// What its name starts with, in lower case.
    pub name: &'static str,
    /// First listed version.
    pub from: (u32, u32),
    /// Last listed major version.
    pub to_major: u32,
}

/// Source: as for the regions; Alibaba Cloud Linux 3 from the newer edition of that page.
pub(super) const LINUX: [Os; 4] = [
    Os { name: "centos", from: (7, 6), to_major: u32::MAX },
    Os { name: "ubuntu", from: (18, 4), to_major: u32::MAX },
    Os { name: "alibaba cloud linux", from: (2, 0), to_major: 3 },
    Os { name: "aliyun linux", from: (2, 0), to_major: 3 },
];

/// Whether the vendor lists the system; `name` as DescribeInstances gives it.
pub(super) fn lists_linux(name: &str) -> bool {
    let name = name.to_lowercase();
    LINUX.iter().any(|os| {
        name.strip_prefix(os.name)
            .and_then(version)
            .is_some_and(|version| version >= os.from && version.0 <= os.to_major)
    })
}

/// Versions of Windows Server that the vendor lists. Source: as for the regions; 2022 from the newer edition of that page.
const WINDOWS: [&str; 4] = ["2012 r2", "2016", "2019", "2022"];

/// Whether the vendor lists the version of Windows; `name` as DescribeInstances gives it.
pub(super) fn lists_windows(name: &str) -> bool {
    let name = folded(name);
    let version = name.split_once("windows server ").map(|(_, version)| version);
    version.is_some_and(|version| WINDOWS.iter().any(|listed| version.starts_with(listed)))
}

/// In lower case, with single spaces: `"CentOS  7.9 64 bit"` has two.
pub(super) fn folded(name: &str) -> String {
    name.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The oldest build of the Cloud Assistant client whose source we have read, the last of its version's four numbers:
/// 2.x.x.578 of January 2024.
const AGENT: (u32, u32) = (2, 578);

/// Whether the client is older than that; a version that cannot be read is not.
pub(super) fn old_agent(version: &str) -> bool {
    let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([major, _, _, build]) => *major < AGENT.0 || *major == AGENT.0 && *build < AGENT.1,
        _ => false,
    }
}

/// The first number after the name: `"  7.9 64 bit"` is 7.9, `" stream 9"` is 9.0.
fn version(rest: &str) -> Option<(u32, u32)> {
    let number = rest.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.');
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let listed = [
            "CentOS  7.6 64 bit",
            "CentOS 7.9 64位",
            "CentOS Stream  9 64 bit",
            "Ubuntu  18.04 64 bit",
            "Ubuntu 22.04",
            "Alibaba Cloud Linux  3.2104 LTS 64 bit",
            "Aliyun Linux  2.1903 LTS 64 bit",
        ];
        let other = [
            "CentOS  7.5 64 bit",
            "CentOS  6.10 64 bit",
            "Ubuntu  16.04 64 bit",
            "Debian  12.5 64 bit",
            "Alibaba Cloud Linux",
            "Aliyun Linux  17.1 64 bit",
            "",
        ];
        for name in listed {
            assert!(lists_linux(name), "{name}");
        }
        for name in other {
            assert!(!lists_linux(name), "{name}");
        }
    }

    #[test]
    fn windows_is_listed_by_its_year() {
        let listed = [
            "Windows Server  2012 R2 Datacenter Edition 64bit English",
            "Windows Server  2016 数据中心版 64位中文版",
            "Windows Server 2019 Datacenter",
            "Windows Server  2022 Datacenter Edition 64bit",
        ];
        let other = [
            "Windows Server  2012 Datacenter",
            "Windows Server  2008 R2",
            "Windows Server  2025",
            "Windows",
            "",
        ];
        for name in listed {
            assert!(lists_windows(name), "{name}");
        }
        for name in other {
            assert!(!lists_windows(name), "{name}");
        }
    }

    #[test]
    fn an_agent_is_old_by_its_build() {
        for old in ["2.2.3.577", "2.1.3.309", "1.0.2.999"] {
            assert!(old_agent(old), "{old}");
        }
        for good in ["2.2.3.578", "2.1.4.900", "3.0.0.1", "2.2", "unknown", ""] {
            assert!(!old_agent(good), "{good}");
        }
    }

    #[test]
    fn a_groups_limit_is_the_regions() {
        assert_eq!((group_limit("cn-hangzhou").0, group_limit("ap-southeast-1").0), (16, 128));
        assert_eq!(group_limit("nowhere"), (16, 32 << 10));
        assert!(LARGE_GROUPS.iter().all(|region| REGIONS.contains(region) || *region == "me-central-1"));
    }
}
