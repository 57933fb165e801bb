//! The label: evidence in, level and reasons out. A pure function, decided last, after the thaw. What cannot be shown
//! is not claimed: every piece of evidence defaults to "not shown".

use std::fmt;

use crate::report::Level;

/// What the guest and the cloud showed. Every field is `false` until shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The cloud has the group (seen in a describe, or answered by the create).
    pub group_exists: bool,
    /// The cloud does not say that the group, or a member, failed.
    pub usable: bool,
    /// The group holds a snapshot of each chosen disk, and of no other.
    pub all_disks: bool,
    /// The read just before the freeze showed no group of this attempt.
    pub absent_before: bool,
    /// The group's CreationTime is not before that read, by the server's clock.
    pub born_in_window: bool,
    /// Nobody fired one of our signed creates before us: the first that we sent was answered at once, and the cloud has
    /// seen none of the others.
    pub first_use: bool,
    /// The create was accepted while everything was frozen.
    pub accepted_while_frozen: bool,
    /// The group showed all disks while everything was frozen, or the policy thaws on `accepted`.
    pub visible_or_not_asked: bool,
    /// Every file system of the disks was found and frozen by us.
    pub all_frozen: bool,
    /// What cannot be frozen was not written to.
    pub rest_quiet: bool,
    /// Every file system frozen by us was thawed by us: nobody was earlier.
    pub all_thawed_by_us: bool,
    /// The watchdog was alive and silent.
    pub watchdog_silent: bool,
    /// The prescript ran and exited with 0.
    pub prescript_good: bool,
    /// The postscript ran and exited with 0.
    pub postscript_good: bool,
    /// The guest's own report was received whole.
    pub report_received: bool,
}

/// Why a level was not reached, when the guest gave no reason of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There is no group.
    Group,
    /// The cloud says that the group, or a member, failed.
    Failed,
    /// The guest's report never came.
    Report,
    /// A disk is missing in the group, or one is too many.
    Disks,
    /// A group of this attempt was there before the freeze, or nothing shows that it was not.
    Absent,
    /// The group is older than the freeze.
    Born,
    /// Somebody else may have fired the signed create before us.
    FirstUse,
    /// The create was not accepted inside the window.
    Accepted,
    /// The group did not show while frozen.
    Visible,
    /// Something was not frozen.
    Frozen,
    /// Something that cannot be frozen was written to.
    Quiet,
    /// Somebody else thawed first.
    Thawed,
    /// The watchdog fired, or died.
    Watchdog,
    /// No good prescript.
    Prescript,
    /// No good postscript.
    Postscript,
}

impl Missing {
    /// The reason code in report and tags.
    pub fn code(self) -> &'static str {
        match self {
            Missing::Group => "group.none",
            Missing::Failed => "group.failed",
            Missing::Report => "report.lost",
            Missing::Disks => "group.disks",
            Missing::Absent => "group.exists",
            Missing::Born => "group.too_old",
            Missing::FirstUse => "group.unproven",
            Missing::Accepted => "create.failed",
            Missing::Visible => "group.not_visible",
            Missing::Frozen => "freeze.incomplete",
            Missing::Quiet => "fs.not_quiet",
            Missing::Thawed => "thaw.early",
            Missing::Watchdog => "watchdog.fired",
            Missing::Prescript => "script.prescript",
            Missing::Postscript => "script.postscript",
        }
    }

    /// Whether this keeps a run from the level that it wants: scripts are asked for by `application` only.
    pub fn concerns(self, wanted: Level) -> bool {
        wanted == Level::Application || !matches!(self, Missing::Prescript | Missing::Postscript)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The level that the evidence carries, and what kept it from being higher, in order.
pub fn decide(evidence: &Evidence) -> (Level, Vec<Missing>) {
    let e = evidence;
    if !e.group_exists {
        return (Level::None, vec![Missing::Group]);
    }
    if !e.usable {
        return (Level::None, vec![Missing::Failed]);
    }
    let filesystem = missing(&[
        (e.report_received, Missing::Report),
        (e.all_disks, Missing::Disks),
        (e.absent_before, Missing::Absent),
        (e.born_in_window, Missing::Born),
        (e.first_use, Missing::FirstUse),
        (e.accepted_while_frozen, Missing::Accepted),
        (e.visible_or_not_asked, Missing::Visible),
        (e.all_frozen, Missing::Frozen),
        (e.rest_quiet, Missing::Quiet),
        (e.all_thawed_by_us, Missing::Thawed),
        (e.watchdog_silent, Missing::Watchdog),
    ]);
    let application =
        missing(&[(e.prescript_good, Missing::Prescript), (e.postscript_good, Missing::Postscript)]);
    match (filesystem.is_empty(), application.is_empty()) {
        (true, true) => (Level::Application, Vec::new()),
        (true, false) => (Level::Filesystem, application),
        (false, _) => (Level::Crash, filesystem.into_iter().chain(application).collect()),
    }
}

fn missing(table: &[(bool, Missing)]) -> Vec<Missing> {
    table.iter().filter(|(shown, _)| !shown).map(|(_, what)| *what).collect()
}

/// The vendor's tag for a level, written on every snapshot of the group: key and value are case-sensitive
/// (the vendor's pages of 2021 and 2026 agree on this spelling; one page of 2025 prints `AppConsistent`).
pub fn vendor_tag(level: Level) -> Option<(&'static str, &'static str)> {
    match level {
        Level::Application => Some(("APPConsistent", "True")),
        Level::Filesystem => Some(("FsConsistent", "True")),
        Level::Crash | Level::None => None,
    }
}

/// Every spelling of a vendor's tag of a level that is known: what a lower level must not stand beside.
pub const VENDOR_KEYS: [&str; 3] = ["APPConsistent", "AppConsistent", "FsConsistent"];

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: usize = 15;

    fn from_bits(bits: u32) -> Evidence {
        let bit = |i: u32| bits & (1 << i) != 0;
        Evidence {
            group_exists: bit(0),
            all_disks: bit(1),
            absent_before: bit(2),
            born_in_window: bit(3),
            accepted_while_frozen: bit(4),
            visible_or_not_asked: bit(5),
            all_frozen: bit(6),
            rest_quiet: bit(7),
            all_thawed_by_us: bit(8),
            watchdog_silent: bit(9),
            report_received: bit(10),
            first_use: bit(11),
            usable: bit(12),
            prescript_good: bit(13),
            postscript_good: bit(14),
        }
    }

    /// The whole table: the level is read off the bits in the words of the contract.
    #[test]
    fn every_combination_of_evidence_gives_the_level_of_the_contract() {
        for bits in 0..1u32 << FIELDS {
            let group = bits & 1 != 0 && bits & 1 << 12 != 0;
            let frozen = bits & 0x1fff == 0x1fff;
            let scripts = bits >> 13 == 0b11;
            let expected = match (group, frozen, scripts) {
                (false, ..) => Level::None,
                (true, true, true) => Level::Application,
                (true, true, false) => Level::Filesystem,
                (true, false, _) => Level::Crash,
            };
            let (level, reasons) = decide(&from_bits(bits));
            assert_eq!(level, expected, "{bits:015b}");
            assert_eq!(reasons.is_empty(), level == Level::Application, "{bits:015b}");
        }
    }

    #[test]
    fn removing_any_piece_of_evidence_never_raises_the_level() {
        for bits in 0..1u32 << FIELDS {
            let level = decide(&from_bits(bits)).0;
            for field in 0..FIELDS {
                let fewer = decide(&from_bits(bits & !(1 << field))).0;
                assert!(fewer <= level, "{bits:015b} without {field}");
            }
        }
    }

    #[test]
    fn nothing_shown_claims_nothing() {
        assert_eq!(decide(&Evidence::default()).0, Level::None);
        assert_eq!(vendor_tag(Level::Crash), None);
        assert_eq!(vendor_tag(Level::Application), Some(("APPConsistent", "True")));
    }
}
