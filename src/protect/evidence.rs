//! Gathers the evidence for the label from what the guest told and what the cloud shows. Pure.

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::label::Evidence;
use crate::api::ecs::SnapshotGroup;
use crate::guest::told::Told;

/// Evidence of one attempt. `told` is `None` when the guest's report never came.
pub fn gather(
    told: Option<&Told>,
    group: Option<&SnapshotGroup>,
    disks: &[String],
    thaw_on_visible: bool,
) -> Evidence {
    let mut evidence = Evidence { group_exists: group.is_some(), ..Evidence::default() };
    if let Some(group) = group {
        let mut members: Vec<&str> = group.snapshots.iter().map(|s| s.source_disk_id.as_str()).collect();
        let mut wanted: Vec<&str> = disks.iter().map(String::as_str).collect();
        members.sort_unstable();
        wanted.sort_unstable();
        evidence.all_disks = members == wanted;
    }
    let Some(told) = told else { return evidence };
    let reason = |code: &str| told.reasons.iter().any(|(told, _)| told.starts_with(code));
    evidence.group_exists |= told.group.is_some();
    // A run that the sequence itself did not bring to its end claims nothing of its window.
    evidence.report_received = told.phase == "done";
    let read_before =
        told.warm.as_ref().and_then(|(status, date)| (status == "200").then(|| server_time(date)).flatten());
    evidence.absent_before = read_before.is_some() && !reason("group.exists");
    let created = group.and_then(SnapshotGroup::created_at);
    evidence.born_in_window = matches!((read_before, created), (Some(before), Some(born)) if born >= before);
    let same = matches!((&told.group, group), (Some(told), Some(seen)) if *told == seen.snapshot_group_id);
    let freeze = told.freeze.unwrap_or_default();
    let accepted = told.created.as_ref().is_some_and(|(status, _)| status == "200");
    evidence.all_frozen = freeze.wanted > 0
        && freeze.frozen == freeze.wanted
        && !reason("disk.")
        && !reason("freeze.")
        && !other_fs(told);
    evidence.accepted_while_frozen = same && accepted && evidence.all_frozen;
    evidence.visible_or_not_asked = told.visible || !thaw_on_visible;
    evidence.rest_quiet = !reason("fs.not_quiet");
    evidence.all_thawed_by_us = freeze.thawed == freeze.frozen && freeze.frozen > 0 && !reason("thaw.");
    evidence.watchdog_silent = !told.fired && !reason("watchdog.");
    evidence.prescript_good = told.pre_exit.as_deref() == Some("0") && !reason("script.");
    evidence.postscript_good = told.post_exit.as_deref() == Some("0") && !reason("script.");
    evidence
}

/// Reasons about file systems that were missed (`fs.not_quiet` is evidence of its own).
fn other_fs(told: &Told) -> bool {
    told.reasons.iter().any(|(code, _)| code.starts_with("fs.") && code != "fs.not_quiet")
}

/// The HTTP `Date` header, to the second.
fn server_time(date: &str) -> Option<Timestamp> {
    // `Sun, 22 Nov 2026 16:55:41 GMT` is RFC 2822 but for the zone's name, which RFC 2822 calls obsolete.
    rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::told::Freeze;
    use crate::protect::label::decide;
    use crate::report::Level;

    fn disks() -> Vec<String> {
        vec!["d-1".into(), "d-2".into()]
    }

    fn good() -> (Told, SnapshotGroup) {
        let told = Told {
            phase: "done".into(),
            pre_exit: Some("0".into()),
            post_exit: Some("0".into()),
            warm: Some(("200".into(), "Sun, 22 Nov 2026 03:00:10 GMT".into())),
            freeze: Some(Freeze { micros: 5000, frozen: 2, thawed: 2, wanted: 2 }),
            created: Some(("200".into(), "R".into())),
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
        decide(&gather(told, group, &disks(), true)).0
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
        let flaws: [Flaw; 14] = [
            ("born before the read", |_, g| g.creation_time = "2026-11-22T03:00:09Z".into(), Level::Crash),
            ("no time of birth", |_, g| g.creation_time = String::new(), Level::Crash),
            ("another group", |_, g| g.snapshot_group_id = "ssg-2".into(), Level::Crash),
            ("a disk is missing", |_, g| drop(g.snapshots.pop()), Level::Crash),
            ("one froze, one did not", |t, _| t.freeze.as_mut().unwrap().frozen = 1, Level::Crash),
            ("nothing to freeze", |t, _| t.freeze = Some(Freeze::default()), Level::Crash),
            ("somebody thawed first", |t, _| t.freeze.as_mut().unwrap().thawed = 1, Level::Crash),
            ("the watchdog fired", |t, _| t.fired = true, Level::Crash),
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

    #[test]
    fn without_a_report_a_group_is_crash_consistent_at_best() {
        let (told, group) = good();
        assert_eq!(level(None, Some(&group)), Level::Crash);
        assert_eq!(level(None, None), Level::None);
        // Accepted, yet the cloud shows nothing: the group is believed to be there, nothing more.
        assert_eq!(level(Some(&told), None), Level::Crash);
    }
}
