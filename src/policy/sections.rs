//! The fields of the request, section by section: what is read, and what has a place in the contract but is
//! refused until it does something.

use super::fields::Section;

pub(super) const TOP: Section = Section {
    name: "",
    due: &[
        "policy",
        "regionId",
        "roleArn",
        "targets",
        "consistency",
        "minimumLevel",
        "belowMinimum",
        "atLeast",
        "startWithinSeconds",
        "notDuring",
        "linux",
        "windows",
        "snapshot",
        "notify",
        "verify",
        "roles",
        "dryRun",
    ],
    later: &["expectEvery", "retention", "lock", "copyTo"],
};
pub(super) const TARGETS: Section = Section {
    name: "targets",
    due: &["instanceIds", "tags", "excludeTags", "disks", "diskIds", "excludeDiskIds", "scope"],
    later: &[],
};
pub(super) const SCOPE: Section =
    Section { name: "targets.scope[]", due: &["roleArn", "externalId", "regionIds"], later: &[] };
pub(super) const NOT_DURING: Section =
    Section { name: "notDuring[]", due: &["from", "to", "timezone"], later: &[] };
pub(super) const LINUX: Section = Section {
    name: "linux",
    due: &[
        "engine",
        "preScriptPath",
        "postScriptPath",
        "scriptTimeoutInSeconds",
        "enableFsFreeze",
        "timeoutInSeconds",
        "thawOn",
        "visibleTimeoutInSeconds",
        "endpoint",
        "caBundle",
        "fastFreeze",
        "lastResortSysrq",
    ],
    later: &[],
};
pub(super) const WINDOWS: Section = Section { name: "windows", due: &["enableWriters"], later: &[] };
pub(super) const SNAPSHOT: Section = Section {
    name: "snapshot",
    due: &["name", "description", "tags", "resourceGroupId"],
    later: &["copyTags"],
};
pub(super) const NOTIFY: Section =
    Section { name: "notify[]", due: &["channel", "url", "secret", "on"], later: &[] };

pub(super) const VERIFY: Section =
    Section { name: "verify", due: &["every", "instanceId", "limitSeconds"], later: &[] };
pub(super) const ROLES: Section = Section { name: "roles", due: &["verify"], later: &["retain"] };

/// Where a field that stands in the wrong place may belong.
pub(super) const ALL: [&Section; 10] =
    [&TOP, &TARGETS, &SCOPE, &NOT_DURING, &LINUX, &WINDOWS, &SNAPSHOT, &NOTIFY, &VERIFY, &ROLES];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_every_field() {
        let readme = include_str!("../../README.md");
        let section = readme.split("\n## Ask for it\n").nth(1).unwrap().split("\n## ").next().unwrap();
        for Section { name, due, .. } in ALL {
            for field in *due {
                let named = [format!("\"{field}\""), format!("`{field}`"), format!("`{name}.{field}`")];
                assert!(named.iter().any(|named| section.contains(named)), "{name}: {field}");
            }
        }
    }
}
