//! Gathers the evidence for the label from what the guest told and what the cloud shows. Pure.

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::label::Evidence;
use crate::api::ecs::SnapshotGroup;
use crate::guest::told::Told;

/// What the first words of a reason speak against. A reason that is none of these speaks against the create.
const KNOWN: [&str; 8] = ["disk.", "freeze.", "fs.", "group.", "script.", "state.", "thaw.", "watchdog."];

/// Evidence of one attempt. `told` is `None` when the guest's report never came; `unused` says that the cloud has seen
/// none of the signed creates that the guest did not send.
pub fn gather(
    told: Option<&Told>,
    group: Option<&SnapshotGroup>,
    disks: &[String],
    thaw_on_visible: bool,
    unused: bool,
) -> Evidence {
    // A group that was accepted and is not seen yet was not seen to fail either.
    let usable = group.is_none_or(|group| !group.failed());
    let mut evidence = Evidence { group_exists: group.is_some(), usable, ..Evidence::default() };
    if let Some(group) = group {
        evidence.all_disks = group.holds_exactly(disks);
    }
    let Some(told) = told else { return evidence };
    let reason = |code: &str| told.reasons.iter().any(|(told, _)| told.starts_with(code));
    let odd = told.reasons.iter().any(|(told, _)| !KNOWN.iter().any(|known| told.starts_with(known)));
    evidence.group_exists |= told.group.is_some();
    // A run that the sequence itself did not bring to its end, or could not note down, claims nothing of its window.
    evidence.report_received = told.phase == "done" && !reason("state.");
    let read_before =
        told.warm.as_ref().and_then(|(status, date)| (status == "200").then(|| server_time(date)).flatten());
    evidence.absent_before = read_before.is_some() && !reason("group.exists");
    let created = group.and_then(SnapshotGroup::created_at);
    evidence.born_in_window = matches!((read_before, created), (Some(before), Some(born)) if born >= before);
    let same = matches!((&told.group, group), (Some(told), Some(seen)) if *told == seen.snapshot_group_id);
    let freeze = told.freeze.unwrap_or_default();
    let accepted = told.created.as_ref().is_some_and(|(status, _)| status == "200");
    // `fs.not_quiet` is evidence of its own.
    let missed = told.reasons.iter().any(|(code, _)| code.starts_with("fs.") && code != "fs.not_quiet");
    evidence.all_frozen = freeze.wanted > 0
        && freeze.frozen == freeze.wanted
        && !reason("disk.")
        && !reason("freeze.")
        && !missed;
    evidence.first_use = first_try(told) && unused;
    evidence.accepted_while_frozen = same && accepted && evidence.all_frozen && !odd;
    evidence.visible_or_not_asked = (told.visible || !thaw_on_visible) && !reason("group.");
    evidence.rest_quiet = !reason("fs.not_quiet");
    evidence.all_thawed_by_us = freeze.thawed == freeze.frozen && freeze.frozen > 0 && !reason("thaw.");
    evidence.watchdog_silent = !told.fired && !reason("watchdog.");
    evidence.prescript_good = told.pre_exit.as_deref() == Some("0") && !reason("script.");
    evidence.postscript_good = told.post_exit.as_deref() == Some("0") && !reason("script.");
    evidence
}

/// Whether the first create that was sent was answered at once. After any other answer a group may be somebody else's:
/// a nonce that was used already says so, and silence or a fault of the cloud says nothing.
pub fn first_try(told: &Told) -> bool {
    matches!(&told.tries[..], [only] if only.number == 1 && only.status == "200")
}

/// The HTTP `Date` header, to the second.
fn server_time(date: &str) -> Option<Timestamp> {
    // `Sun, 22 Nov 2026 16:55:41 GMT` is RFC 2822 but for the zone's name, which RFC 2822 calls obsolete.
    rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::told::{Freeze, Try};
    use crate::protect::label::decide;
    use crate::report::Level;

    fn disks() -> Vec<String> {
        vec!["d-1".into(), "d-2".into()]
    }

    fn tried(number: u32, status: &str) -> Try {
        Try { number, status: status.into(), code: String::new() }
    }

    fn good() -> (Told, SnapshotGroup) {
        let told = Told {
            phase: "done".into(),
            pre_exit: Some("0".into()),
            post_exit: Some("0".into()),
            warm: Some(("200".into(), "Sun, 22 Nov 2026 03:00:10 GMT".into())),
            freeze: Some(Freeze { micros: 5000, frozen: 2, thawed: 2, wanted: 2 }),
            created: Some(("200".into(), "R".into())),
            tries: vec![tried(1, "200")],
            group: Some("ssg-1".into()),
            visible: true,
            ..Told::default()
        };
        let member =
            |id: &str| crate::api::ecs::GroupSnapshot { source_disk_id: id.into(), ..Default::default() };
        let group = SnapshotGroup {
            snapshot_group_id: "ssg-1".into(),
            creation_time: "2026-11-22T03:00:10Z".into(),
            snapshots: vec![member("d-2"), member("d-1")],
            ..SnapshotGroup::default()
        };
        (told, group)
    }

    fn level(told: Option<&Told>, group: Option<&SnapshotGroup>) -> Level {
        decide(&gather(told, group, &disks(), true, true)).0
    }

    #[test]
    fn a_good_run_is_application_consistent() {
        let (told, group) = good();
        assert_eq!(level(Some(&told), Some(&group)), Level::Application);
    }

    /// Each way in which a group can be less than it looks.
    #[test]
    fn each_flaw_lowers_the_level() {
        type Flaw = (&'static str, fn(&mut Told, &mut SnapshotGroup), Level);
        let flaws: [Flaw; 19] = [
            ("born before the read", |_, g| g.creation_time = "2026-11-22T03:00:09Z".into(), Level::Crash),
            ("no time of birth", |_, g| g.creation_time = String::new(), Level::Crash),
            ("another group", |_, g| g.snapshot_group_id = "ssg-2".into(), Level::Crash),
            ("it failed", |_, g| g.status = "failed".into(), Level::None),
            ("a member failed", |_, g| g.snapshots[1].status = "failed".into(), Level::None),
            ("a disk is missing", |_, g| drop(g.snapshots.pop()), Level::Crash),
            ("one froze, one did not", |t, _| t.freeze.as_mut().unwrap().frozen = 1, Level::Crash),
            ("nothing to freeze", |t, _| t.freeze = Some(Freeze::default()), Level::Crash),
            ("somebody thawed first", |t, _| t.freeze.as_mut().unwrap().thawed = 1, Level::Crash),
            ("the watchdog fired", |t, _| t.fired = true, Level::Crash),
            ("not the first try", |t, _| t.tries.insert(0, tried(1, "503")), Level::Crash),
            ("not the first variant", |t, _| t.tries[0].number = 2, Level::Crash),
            ("/run was full", |t, _| t.reasons.push(("state.space".into(), String::new())), Level::Crash),
            ("not visible in time", |t, _| t.visible = false, Level::Crash),
            (
                "the read failed",
                |t, _| t.warm = Some(("503".into(), "Sun, 22 Nov 2026 03:00:10 GMT".into())),
                Level::Crash,
            ),
            (
                "a disk was not found",
                |t, _| t.reasons.push(("disk.not_found".into(), String::new())),
                Level::Crash,
            ),
            ("the sequence died", |t, _| t.phase = "lost".into(), Level::Crash),
            ("a script failed", |t, _| t.pre_exit = Some("1".into()), Level::Filesystem),
            ("the postscript failed", |t, _| t.post_exit = Some("timeout".into()), Level::Filesystem),
        ];
        for (what, flaw, expected) in flaws {
            let (mut told, mut group) = good();
            flaw(&mut told, &mut group);
            assert_eq!(level(Some(&told), Some(&group)), expected, "{what}");
        }
    }

    /// The reasons that the guest's own level counts with: their first words, and the level that is left.
    fn of_the_shell() -> Vec<(String, Level)> {
        let sequence = crate::guest::render::commented_sequence();
        let level = sequence.split("\nlevel() {").nth(1).unwrap().split("\n}").next().unwrap();
        let mut found = Vec::new();
        for line in level.lines().filter(|line| line.contains("OUTCOME=")) {
            let left = if line.contains("OUTCOME=crash") { Level::Crash } else { Level::Filesystem };
            found.extend(
                line.split("*' ").skip(1).map(|rest| (rest.split('\'').next().unwrap().into(), left)),
            );
        }
        found
    }

    #[test]
    fn a_reason_weighs_at_least_as_much_as_in_the_guest() {
        let table = of_the_shell();
        assert!(table.len() >= 8 && table.iter().any(|(code, _)| code == "script."), "{table:?}");
        for (code, left) in table {
            let (mut told, group) = good();
            told.reasons.push((format!("{code}new"), String::new()));
            assert!(level(Some(&told), Some(&group)) <= left, "{code}");
        }
    }

    /// Takes a piece of evidence away: from what was told, from the group, from what the cloud said of our signatures.
    type Removal = fn(&mut Option<Told>, &mut Option<SnapshotGroup>, &mut bool);

    const REMOVALS: [Removal; 17] = [
        |t, _, _| t.iter_mut().for_each(|t| t.phase = "lost".into()),
        |t, _, _| t.iter_mut().for_each(|t| t.warm = None),
        |t, _, _| t.iter_mut().for_each(|t| t.freeze = None),
        |t, _, _| t.iter_mut().for_each(|t| t.created = None),
        |t, _, _| t.iter_mut().for_each(|t| drop(t.tries.pop())),
        |t, _, _| t.iter_mut().for_each(|t| t.group = None),
        |t, _, _| t.iter_mut().for_each(|t| t.visible = false),
        |t, _, _| t.iter_mut().for_each(|t| t.fired = true), // its silence is the evidence
        |t, _, _| t.iter_mut().for_each(|t| t.pre_exit = None),
        |t, _, _| t.iter_mut().for_each(|t| t.post_exit = None),
        |t, _, _| *t = None,
        |_, g, _| g.iter_mut().for_each(|g| g.status = "failed".into()),
        |_, g, _| g.iter_mut().for_each(|g| g.snapshots[0].status = "failed".into()),
        |_, g, _| g.iter_mut().for_each(|g| drop(g.snapshots.pop())),
        |_, g, _| g.iter_mut().for_each(|g| g.creation_time = String::new()),
        |_, g, _| *g = None,
        |_, _, unused| *unused = false,
    ];

    /// The pieces above that let the group fail, and the one that takes it away.
    const FAILED: usize = 0b11 << 11;
    const GONE: usize = 15;

    /// What is left after these removals, with one reason more.
    fn left(removed: usize, reason: Option<&str>) -> Level {
        let (told, group) = good();
        let (mut told, mut group, mut unused) = (Some(told), Some(group), true);
        let chosen = REMOVALS.iter().enumerate().filter(|(index, _)| removed & (1 << index) != 0);
        chosen.for_each(|(_, remove)| remove(&mut told, &mut group, &mut unused));
        if let (Some(told), Some(reason)) = (&mut told, reason) {
            told.reasons.push((reason.into(), String::new()));
        }
        decide(&gather(told.as_ref(), group.as_ref(), &disks(), true, unused)).0
    }

    #[test]
    fn whatever_is_taken_away_the_level_never_rises() {
        let levels: Vec<Level> = (0..1 << REMOVALS.len()).map(|removed| left(removed, None)).collect();
        assert_eq!(levels[0], Level::Application);
        for (removed, level) in levels.iter().enumerate() {
            for piece in 0..REMOVALS.len() {
                // What is not seen any more cannot be seen to have failed.
                if piece == GONE && removed & FAILED != 0 {
                    continue;
                }
                assert!(levels[removed | 1 << piece] <= *level, "{removed:b} without {piece}");
            }
        }
        // Each piece counts by itself.
        for piece in 0..REMOVALS.len() {
            assert!(levels[1 << piece] < Level::Application, "{piece}");
        }
    }

    #[test]
    fn a_reason_more_never_raises_the_level() {
        let shell: Vec<String> = of_the_shell().into_iter().map(|(code, _)| format!("{code}new")).collect();
        let table = crate::protect::reasons::TABLE.iter().map(|(code, ..)| *code);
        for reason in table.chain(shell.iter().map(String::as_str)).chain(["new", "new.kind"]) {
            for removed in std::iter::once(0).chain((0..REMOVALS.len()).map(|piece| 1 << piece)) {
                assert!(left(removed, Some(reason)) <= left(removed, None), "{reason}, {removed:b}");
            }
            assert!(left(0, Some(reason)) < Level::Application, "{reason}");
        }
    }

    #[test]
    fn without_a_report_a_group_is_crash_consistent_at_best() {
        let (told, group) = good();
        assert_eq!(level(None, Some(&group)), Level::Crash);
        assert_eq!(level(None, None), Level::None);
        // Accepted, yet the cloud shows nothing: the group is believed to be there, nothing more.
        assert_eq!(level(Some(&told), None), Level::Crash);
    }
}
