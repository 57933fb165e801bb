//! What the operator knows better than our tables: env `APPSNAP_SUPPORT`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::matrix;

/// The platform allows 4 KB for all variables together.
const LIMIT: usize = 4096;

/// Additions to what is supported, e.g. `{"regions": ["me-central-1"], "groupLimits": {"cn-hangzhou": {"disks": 128,
/// "tib": 256}}, "systems": ["Debian 12", "Windows Server 2025"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Support {
    /// Regions that count as known.
    pub regions: Vec<String>,
    /// By region, what a group may hold there.
    pub group_limits: BTreeMap<String, GroupLimit>,
    /// Systems that count as listed: what OSName begins with; case and the number of spaces do not count.
    pub systems: Vec<String>,
}

/// What a group may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupLimit {
    /// Disks, 1 to 128: more CreateSnapshotGroup does not take in one call.
    pub disks: usize,
    /// TiB of all disks together.
    pub tib: u64,
}

impl Support {
    /// Reads the variable's JSON.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LIMIT {
            return Err(format!("has {} bytes, at most {LIMIT} are possible", text.len()));
        }
        let support: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(empty) = support.systems.iter().find(|name| name.trim().len() < 3) {
            return Err(format!("systems: {empty:?} would fit too much"));
        }
        let wrong =
            |limit: &GroupLimit| !(1..=128).contains(&limit.disks) || !(1..=4096).contains(&limit.tib);
        match support.group_limits.iter().find(|(_, limit)| wrong(limit)) {
            Some((region, _)) => {
                Err(format!("groupLimits.{region}: disks must be from 1 to 128, tib from 1 to 4096"))
            }
            None => Ok(support),
        }
    }

    pub(super) fn knows_region(&self, region_id: &str) -> bool {
        matrix::REGIONS.contains(&region_id) || self.regions.iter().any(|region| region == region_id)
    }

    pub(super) fn lists(&self, os_name: &str) -> bool {
        let name = matrix::folded(os_name);
        self.systems.iter().any(|system| name.starts_with(&matrix::folded(system)))
    }

    /// The operator's own limit for a region: disks and GiB.
    pub(super) fn group_limit(&self, region_id: &str) -> Option<(usize, u64)> {
        self.group_limits.get(region_id).map(|limit| (limit.disks, limit.tib << 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_read_strictly() {
        let good = r#"{"regions": ["me-central-1"], "groupLimits": {"cn-hangzhou": {"disks": 128, "tib": 256}},
            "systems": ["Debian 12"]}"#;
        let support = Support::parse(good).unwrap();
        assert!(support.knows_region("me-central-1") && support.knows_region("cn-beijing"));
        assert!(support.lists("Debian  12.5 64 bit") && !support.lists("Debian  11.9 64 bit"));
        assert_eq!(support.group_limit("cn-hangzhou"), Some((128, 256 << 10)));
        assert_eq!(Support::parse("{}"), Ok(Support::default()));
        let table = [
            ("nonsense", "expected"),
            (r#"{"region": []}"#, "unknown field `region`"),
            (r#"{"systems": [" "]}"#, "would fit too much"),
            (r#"{"groupLimits": {"cn-x": {"disks": 200, "tib": 1}}}"#, "from 1 to 128"),
            (&format!(r#"{{"regions": ["{}"]}}"#, "x".repeat(LIMIT)), "at most 4096"),
        ];
        for (text, expected) in table {
            let error = Support::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
