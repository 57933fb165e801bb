use super::*;
use crate::guest::verify::Place;
use crate::verify::subject::Marked;

fn subject(engine: Option<&str>) -> Subject {
    let place = |disk: &str, mount: &str| Place {
        source_disk_id: disk.into(),
        mount: mount.into(),
        kind: "ext4".into(),
        uuid: "u".into(),
    };
    Subject {
        group_id: "ssg-1".into(),
        instance_id: "i-1".into(),
        policy: Some("p".into()),
        level: Default::default(),
        members: Vec::new(),
        places: vec![place("d-1", "/"), place("d-2", "/data")],
        marked: engine.map(|engine| Marked {
            engine: engine.into(),
            data_dir: "/data".into(),
            log_dir: None,
        }),
        left_out: Vec::new(),
    }
}

fn judged(engine: Option<&str>, output: &str) -> Result<Verified, String> {
    of(&subject(engine), &Told::read(output), output)
}

const GOOD: &str = "fs: d-1|/|ext4|clean|yes|good|\nfs: d-2|/data|ext4|clean|yes|good|\n";
const DB: &str = "fs: d-1|/|ext4|clean|yes|-|\nfs: d-2|/data|ext4|clean|yes|-|\n";

#[test]
fn file_systems_alone_are_judged_by_journal_mount_and_check_and_it_is_said() {
    let table = [
        ("", "clean", "file systems only"),
        ("|clean|yes|good| |replay|yes|good|", "redo-small", "/data had to be replayed"),
        ("|ext4|clean|yes|good| |vfat|none|yes|-|", "clean", "1 checked whole"),
        ("|clean|yes|good| |unknown|yes|good|", "redo-small", "was not read"),
        ("|clean|yes|good| |clean|yes|late|", "redo-small", "not checked whole"),
        ("|clean|yes|good| |clean|no|good|bad superblock", "broken", "/data does not mount: bad superblock"),
        ("|clean|yes|good| |clean|yes|bad|4 errors", "broken", "/data is damaged: 4 errors"),
        ("d-2|/data d-2|-", "broken", "/data of d-2 is not on its copy"),
    ];
    for (change, state, why) in table {
        let (from, to) = change.split_once(' ').unwrap_or(("x|x", "x|x"));
        let (first, last) = GOOD.split_once('\n').unwrap();
        let output = format!("{first}\n{}end: done\n", last.replace(from, to));
        let verified = judged(None, &output).unwrap();
        assert_eq!(verified.state, state, "{output}: {verified:?}");
        assert!(verified.why.contains(why) && verified.why.contains("file systems only"), "{verified:?}");
        assert_eq!((verified.evidence.len(), verified.engine), (2, None));
    }
}

#[test]
fn an_engine_that_is_marked_and_was_not_started_is_no_verdict() {
    let table = [
        (format!("{DB}fact: engineExit=2\nend: done\n"), "not installed"),
        (format!("{DB}note: verify.datadir /data is not on the copies\nend: done\n"), "not on the copies"),
        (format!("{DB}fact: engineExit=137\nend: done\n"), "137"),
        (format!("{DB}end: ended\n"), "before it was through"),
        ("end: done\n".into(), "no file system"),
        ("{\"appsnap\":\"1\",\"reason\":[\"state.space /run has no room\"]}\n".into(), "no room"),
    ];
    for (output, why) in table {
        let told = judged(Some("redis"), &output).unwrap_err();
        assert!(told.contains(why), "{output}: {told}");
    }
}

#[test]
fn the_verdict_is_as_the_worst_of_engine_and_file_systems() {
    let engine = "fact: started=yes\nfact: answer=42\nlog: DB loaded from disk: 0.001 seconds\nfact: engineExit=0\nend: done\n";
    let clean = judged(Some("redis"), &format!("{DB}{engine}")).unwrap();
    assert_eq!((clean.state.as_str(), clean.engine.as_deref()), ("clean", Some("redis")), "{clean:?}");
    assert!(clean.answer.as_deref() == Some("42") && clean.evidence.len() == 3, "{clean:?}");
    assert!(clean.why.ends_with("2 file systems mounted, not checked"), "{clean:?}");
    let replayed = format!("{}{engine}", DB.replace("|/data|ext4|clean", "|/data|ext4|replay"));
    let replayed = judged(Some("redis"), &replayed).unwrap();
    assert_eq!(replayed.state, "redo-small", "{replayed:?}");
    let dead = engine.replace("started=yes", "started=no").replace("engineExit=0", "engineExit=1");
    assert_eq!(judged(Some("redis"), &format!("{DB}{dead}")).unwrap().state, "broken");
}

#[test]
fn a_disk_that_was_not_looked_into_is_neither_good_nor_broken() {
    let lvm = "note: verify.stacked d-2: vdc holds LVM2_member, which is not looked into\n";
    let missing = "note: disk.not_found d-2: its copy d-9 is attached, and no device has its serial\n";
    let root = GOOD.lines().next().unwrap();
    let redis = "fact: started=yes\nlog: DB loaded from disk: 0.001 seconds\nfact: engineExit=0\n";
    for note in [lvm, missing] {
        let why = judged(None, &format!("{root}\n{note}end: done\n")).unwrap_err();
        assert!(why.contains("d-2: ") && !why.contains("not on its copy"), "{why}");
        // What is shown of the others stays true.
        let broken = root.replace("|good|", "|bad|9 errors");
        let broken = judged(None, &format!("{broken}\n{note}end: done\n")).unwrap();
        assert!(broken.state == "broken" && broken.why.contains("d-2: "), "{broken:?}");
    }
    let started = judged(Some("redis"), &format!("{root}\n{lvm}{redis}end: done\n")).unwrap();
    assert!(started.state == "redo-small" && started.why.contains("LVM2_member"), "{started:?}");
    assert!(judged(Some("redis"), &format!("{root}\n{missing}{redis}end: done\n")).is_err());
}

#[test]
fn a_disk_whose_only_file_system_is_gone_is_broken_though_no_uuid_was_known() {
    let mut subject = subject(None);
    subject.places[1].uuid = "-".into();
    let root = format!("{}\nend: done\n", GOOD.lines().next().unwrap());
    let verified = of(&subject, &Told::read(&root), &root).unwrap();
    assert!(
        verified.state == "broken" && verified.why.contains("/data of d-2 is not on its copy"),
        "{verified:?}"
    );
}

#[test]
fn an_engine_that_was_still_starting_when_the_time_was_up_is_no_verdict() {
    let late =
        "fact: started=no\nfact: late=yes\nfact: why=no answer within 40 s\nfact: engineExit=1\nend: done\n";
    for name in ["redis", "mariadb", "postgresql"] {
        let why = judged(Some(name), &format!("{DB}{late}")).unwrap_err();
        assert!(why.contains("time"), "{why}");
    }
}

#[test]
fn each_engine_that_can_be_started_can_be_judged() {
    for (name, _) in crate::guest::verify::ENGINES {
        assert!(judge::of(name).is_some(), "{name}");
    }
}

#[test]
fn figures_fit_into_a_tag() {
    let at = "2026-11-22T03:00:00Z".parse().unwrap();
    let verified = Verified {
        state: "redo-small".into(),
        engine: Some("postgresql".into()),
        redo_bytes: Some(176),
        rolled_back: Some(0),
        why: format!("see https://x\n{}", "ü".repeat(200)),
        ..Verified::default()
    };
    let [state, (key, detail)] = tags(&verified, at);
    assert_eq!(state, ("appsnap:verified".into(), "redo-small".into()));
    assert_eq!((key.as_str(), detail.chars().count()), ("appsnap:verified:detail", 128));
    assert!(detail.starts_with("2026-11-22T03:00Z postgresql redo=176 rolledBack=0: see x ü"), "{detail}");
}

#[test]
fn exit_codes_are_by_state() {
    for (state, code) in [("clean", 0), ("redo-small", 0), ("rollback", 3), ("broken", 1)] {
        assert_eq!(exit_code(&Verified { state: state.into(), ..Verified::default() }), code);
    }
}
