//! What is supported, as data with its sources.

/// Regions that the vendor's first page on application-consistent snapshots lists (2021). Its newer pages
/// carry no list, so another region is worth a note and no more.
/// Source: Alibaba Cloud, ECS user guide, "Create application-consistent snapshots".
pub(super) const REGIONS: [&str; 5] =
    ["cn-hangzhou", "cn-shanghai", "cn-beijing", "cn-hongkong", "ap-southeast-1"];

/// A disk category that CreateSnapshotGroup takes.
pub(super) struct Category {
    /// The API's word.
    pub name: &'static str,
    /// Regional (zone-redundant) disks can be grouped with regional disks only.
    pub regional: bool,
}

/// Source: Alibaba Cloud, ECS user guide, "Create a snapshot-consistent group"; API reference,
/// CreateSnapshotGroup (DiskCategory.OperationNotSupported, InvalidDisk.DiskCategoryInconsistent).
pub(super) const CATEGORIES: [Category; 4] = [
    Category { name: "cloud_essd", regional: false },
    Category { name: "cloud_auto", regional: false },
    Category { name: "cloud_essd_entry", regional: false },
    Category { name: "cloud_regional_disk_auto", regional: true },
];

/// CreateSnapshotGroup takes disks that are attached, or were once.
/// Source: as for the categories.
pub(super) const DISK_STATES: [&str; 2] = ["In_use", "Available"];

/// Disks and GiB of one group: in every region, and in those that allow most.
/// Source: Alibaba Cloud, ECS user guide, "Create a snapshot-consistent group" (2026-04: by region).
pub(super) const GROUP_EVERYWHERE: (usize, u64) = (16, 32 << 10);
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
}
