//! The label of a run of the vendor's plugin. The plugin's own tag is the only thing that tells what its freeze was
//! worth, so a level takes that tag and everything else that can be shown. Pure.

use crate::api::ecs::Tag;
use crate::report::Level;

/// What was shown; every field is worth nothing until it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// Why the command did not end well; `None` only where it was seen to end with 0.
    pub ended_well: bool,
    /// There is a group of the attempt's name.
    pub group: bool,
    /// The cloud does not say that it, or a member, failed.
    pub usable: bool,
    /// And no second one.
    pub only_one: bool,
    /// Created after the command was sent, both by the cloud's clock.
    pub born_after_start: bool,
    /// It holds exactly the chosen disks.
    pub all_disks: bool,
    /// The plugin was asked to freeze (Linux), or to use VSS (Windows).
    pub freeze_asked: bool,
    /// Our guard did not have to thaw.
    pub undisturbed: bool,
    /// What the vendor's tags on **all** members say, in either spelling.
    pub tag: Option<Level>,
    /// Nothing that was seen in the guest, or asked for, rules out `application`.
    pub application_possible: bool,
}

/// The level, and why it is not higher: codes that weigh most first. `failure` is the reason of a command that did not
/// end well, `lowered` what was seen to rule out `application`.
pub fn decide(shown: &Shown, failure: &str, lowered: &[String]) -> (Level, Vec<String>) {
    if !shown.group {
        let why = if shown.ended_well { "group.none" } else { failure };
        return (Level::None, vec![why.into()]);
    }
    if !shown.usable {
        return (Level::None, vec!["group.failed".into()]);
    }
    let needed = [
        (shown.ended_well, failure),
        (shown.only_one, "group.exists"),
        (shown.born_after_start, "group.too_old"),
        (shown.all_disks, "group.disks"),
        (shown.freeze_asked, "freeze.off"),
        // Of a command that did not end well it is not known, or told beside.
        (shown.undisturbed || !shown.ended_well, "plugin.thawed"),
        (shown.tag.is_some(), "plugin.untagged"),
    ];
    let mut reasons: Vec<String> =
        needed.iter().filter(|(shown, _)| !shown).map(|(_, code)| (*code).to_string()).collect();
    let frozen = reasons.is_empty();
    let application = shown.application_possible && shown.tag == Some(Level::Application);
    if !application {
        reasons.extend_from_slice(lowered);
    }
    if frozen && !application && reasons.is_empty() {
        reasons.push("plugin.lowered".into());
    }
    let level = match (frozen, application) {
        (true, true) => Level::Application,
        (true, false) => Level::Filesystem,
        (false, _) => Level::Crash,
    };
    (level, reasons)
}

/// What one snapshot's tags say. The vendor's pages spell the keys in several ways; nothing but `True` counts.
pub fn told_by(tags: &[Tag]) -> Option<Level> {
    let has = |key: &str| {
        tags.iter().any(|tag| tag.key.eq_ignore_ascii_case(key) && tag.value.eq_ignore_ascii_case("true"))
    };
    match (has("APPConsistent"), has("FsConsistent")) {
        (true, _) => Some(Level::Application),
        (false, true) => Some(Level::Filesystem),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bits: u32, tag: Option<Level>) -> Shown {
        let bit = |n: u32| bits >> n & 1 == 1;
        Shown {
            ended_well: bit(0),
            group: bit(1),
            only_one: bit(2),
            born_after_start: bit(3),
            all_disks: bit(4),
            freeze_asked: bit(5),
            undisturbed: bit(6),
            application_possible: bit(7),
            usable: bit(8),
            tag,
        }
    }

    const TAGS: [Option<Level>; 3] = [None, Some(Level::Filesystem), Some(Level::Application)];

    #[test]
    fn each_level_takes_all_of_its_evidence_in_every_combination() {
        for bits in 0..512 {
            for tag in TAGS {
                let (level, reasons) = decide(&shown(bits, tag), "plugin.failed", &[]);
                let frozen = bits & 0x7f == 0x7f && tag.is_some();
                let expected = match bits {
                    _ if bits & 0x102 != 0x102 => Level::None,
                    511 if tag == Some(Level::Application) => Level::Application,
                    _ if frozen => Level::Filesystem,
                    _ => Level::Crash,
                };
                assert_eq!(level, expected, "{bits:09b} {tag:?}");
                assert_eq!(level == Level::Application, reasons.is_empty(), "{bits:09b} {tag:?}");
            }
        }
    }

    #[test]
    fn less_evidence_never_raises_the_level() {
        for bits in 0..512 {
            for (n, tag) in TAGS.into_iter().enumerate() {
                let level = |bits, tag| decide(&shown(bits, tag), "x", &[]).0;
                let all = level(bits, tag);
                for bit in 0..9 {
                    assert!(level(bits & !(1 << bit), tag) <= all, "{bits:09b} less bit {bit}, {tag:?}");
                }
                assert!(TAGS[..n].iter().all(|less| level(bits, *less) <= all), "{bits:09b} {tag:?}");
            }
        }
    }

    #[test]
    fn what_was_seen_to_lower_the_level_is_the_reason() {
        let script = ["script.missing".to_string()];
        let lowered = decide(&shown(0x17f, Some(Level::Filesystem)), "x", &script);
        assert_eq!(lowered, (Level::Filesystem, script.to_vec()));
        // A tag that says more than the guest showed is not believed.
        assert_eq!(decide(&shown(0x17f, Some(Level::Application)), "x", &script).0, Level::Filesystem);
        let silent = decide(&shown(0x1ff, Some(Level::Filesystem)), "x", &[]);
        assert_eq!(silent, (Level::Filesystem, vec!["plugin.lowered".to_string()]));
        assert_eq!(decide(&shown(0x1fd, None), "plugin.failed", &[]).1, ["group.none"]);
        assert_eq!(decide(&shown(0x1fc, None), "plugin.download", &[]).1, ["plugin.download"]);
    }

    #[test]
    fn both_spellings_are_read() {
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        let table = [
            (vec![tag("APPConsistent", "True")], Some(Level::Application)),
            (vec![tag("AppConsistent", "True")], Some(Level::Application)),
            (vec![tag("FSConsistent", "true")], Some(Level::Filesystem)),
            (vec![tag("FsConsistent", "True"), tag("APPConsistent", "True")], Some(Level::Application)),
            (vec![tag("APPConsistent", "False")], None),
            (vec![tag("Consistent", "True")], None),
            (vec![], None),
        ];
        for (tags, expected) in table {
            assert_eq!(told_by(&tags), expected, "{tags:?}");
        }
    }
}
