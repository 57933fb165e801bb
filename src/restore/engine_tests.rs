//! Engines, each in its own words.

use super::tests::{facts, wish};
use super::*;
use crate::api::ecs::Tag;

/// The engine's step for these marks in the place of the usual ones: its script, and its notes.
fn told(marks: &[(&str, &str)], wish: &Wish) -> Option<(String, String)> {
    let mut facts = facts();
    for one in &mut facts.snapshots {
        one.tags.retain(|tag| !tag.key.starts_with("appsnap:mark:"));
        let tag =
            |(key, value): &(&str, &str)| Tag { key: format!("appsnap:mark:{key}"), value: (*value).into() };
        one.tags.extend(marks.iter().map(tag));
    }
    let plan = plan(&facts, wish).unwrap();
    // The one before it mounts.
    let step = plan.steps.iter().filter(|step| step.command.is_some()).nth(1)?;
    Some((step.command.as_ref()?.shell.clone(), step.notes.join("\n")))
}

#[test]
fn each_engine_is_started_by_its_units_and_tells_what_a_later_point_takes() {
    let table = [
        ("postgresql", "units='postgresql-12 postgresql'", "recovery.signal"),
        ("mariadb", "units='mysql mariadb'", "mariadb-binlog --start-position"),
        ("mysql", "units='mysql mysqld'", "--exclude-gtids"),
        ("redis", "units='redis valkey-server valkey redis-server'", "keeps no log"),
        ("mongodb", "units=mongod", "oplog"),
    ];
    for (engine, units, later) in table {
        let marks = [("engine", engine), ("version", "12.3"), ("datadir", "/data/db"), ("binlog", "b.7:42")];
        let (script, notes) = told(&marks, &wish()).unwrap();
        assert!(script.contains("dir=/data/db\n") && script.contains(units), "{engine}: {script}");
        assert!(notes.contains(later) && notes.contains("it was 12.3"), "{engine}: {notes}");
        assert!(notes.contains("position at the cut: binlog b.7:42"), "{engine}: {notes}");
        let (script, notes) = told(&marks, &Wish { beside: true, ..wish() }).unwrap();
        assert!(
            script.contains("dir=/restore/data/db\n") && !script.contains("units="),
            "{engine}: {script}"
        );
        assert!(notes.contains("beside the running one: ") && notes.contains("/restore/data/db"), "{notes}");
    }
    let (script, notes) = told(&[("engine", "sqlite"), ("datadir", "/data/db")], &wish()).unwrap();
    assert!(!script.contains("systemctl") && notes.contains("integrity_check"), "{script} {notes}");
}

#[test]
fn an_engine_that_nobody_knows_is_left_to_whoever_does() {
    assert_eq!(told(&[], &wish()), None);
    let (script, notes) = told(&[("engine", "oracle"), ("datadir", "/data/db")], &wish()).unwrap();
    assert!(script.contains("dir=/data/db\n") && !script.contains("systemctl"), "{script}");
    assert!(notes.contains("which engine it is"), "{notes}");
    let start = Wish { start: Some("ora start".into()), ..wish() };
    assert!(told(&[], &start).unwrap().0.ends_with("\nora start\n"));
}

#[test]
fn a_mark_never_becomes_a_command() {
    let marks = [("engine", "postgresql"), ("version", "$(reboot)"), ("datadir", "/a'; reboot;'")];
    let (script, _) = told(&marks, &wish()).unwrap();
    assert!(!script.contains("$(reboot)"), "{script}");
    assert!(script.contains(r"dir='/a'\''; reboot;'\'''"), "{script}");
}
