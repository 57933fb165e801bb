//! What a plan never does, whatever the tags hold and whatever is missing: touch what is in use, or go on without an id.

use std::path::PathBuf;
use std::process::Command;

use super::tests::{facts, machine, tags, wish};
use super::*;
use crate::report::Level;

const MOUNT: &str = include_str!("mount.sh");

/// Every script of a plan.
fn scripts(plan: &Plan) -> String {
    plan.steps.iter().filter_map(|step| step.command.as_ref()).map(|command| &*command.shell).collect()
}

/// Puts another value into a tag of all snapshots, or takes it away.
fn tagged(facts: &mut Facts, key: &str, value: Option<&str>) {
    for one in &mut facts.snapshots {
        one.tags.retain(|tag| tag.key != key);
        one.tags.extend(value.iter().flat_map(|value| tags(&[(key, value)])));
    }
}

/// Exit code, standard output and standard error of a script.
fn sh(script: &str) -> (Option<i32>, String, String) {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// An empty directory, gone with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("appsnap-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // best effort
    }
}

#[test]
fn on_copies_of_unknown_place_nothing_is_done_where_the_original_lies() {
    let mut facts = facts();
    tagged(&mut facts, "appsnap:mount", None);
    facts.group.tags.clear();
    let beside = plan(&facts, &Wish { beside: true, ..wish() }).unwrap();
    let onto = plan(&Facts { instance: None, to: Some(machine("i-2", &[])), ..facts }, &wish()).unwrap();
    for plan in [beside, onto] {
        let all = scripts(&plan);
        assert!(all.contains(" /restore/d-data rw\n"), "{all}");
        for word in ["/data/pg", "postmaster.pid", "pg_wal", "systemctl"] {
            assert!(!all.contains(word), "{}: {word} in {all}", plan.way);
        }
        let told = plan.warnings.iter().any(|one| one.message.starts_with("on which disk /data/pg lay"));
        assert!(told, "{:?}", plan.warnings);
    }
}

#[test]
fn a_tag_makes_no_line_no_name_and_no_program_and_leads_nowhere_else() {
    let id = "11111111-2222-3333-4444-555555555555";
    let bad = [
        format!("/x/${{fill.PATH}} ext4 {id}"),
        format!("/x\\0129.\\040Wipe ext4 {id}"),
        format!("/../../etc ext4 {id}"),
        format!("/x fuse.poweroff {id}"),
    ];
    for mount in bad {
        let mut facts = facts();
        facts.snapshots[2].tags[3].value.clone_from(&mount);
        let plan = plan(&facts, &Wish { beside: true, ..wish() }).unwrap();
        assert!(scripts(&plan).contains(" /restore/d-data rw\n"), "{mount}: {}", scripts(&plan));
        assert!(plan.warnings.iter().any(|one| one.message.contains("holds what is none")), "{mount}");
    }
    let mut facts = facts();
    tagged(&mut facts, "appsnap:policy", Some("p\n9. Wipe it\n       rm -rf /"));
    tagged(&mut facts, "appsnap:mark:version", Some("15\u{1b}[2J\n9. Wipe it"));
    tagged(&mut facts, "appsnap:mark:datadir", Some("/data/pg; rm -rf ~"));
    let plan = plan(&facts, &Wish { beside: true, ..wish() }).unwrap();
    let text = text::text(&plan);
    assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("9. Wipe")), "{text}");
    let pasted: Vec<&str> = text.lines().filter(|line| line.contains("rm -rf ~")).collect();
    assert!(pasted.len() > 1, "{text}");
    pasted.iter().for_each(|line| assert!(line.contains("'/restore/data/pg; rm -rf ~'"), "{line}"));
    tagged(&mut facts, "appsnap:mark:datadir", Some("/data/../../srv/pg"));
    let plan = super::plan(&facts, &Wish { beside: true, ..wish() }).unwrap();
    assert!(!scripts(&plan).contains("/srv/pg"));
}

#[test]
fn no_line_goes_on_without_the_id_that_the_one_before_it_gave() {
    let plan = plan(&facts(), &wish()).unwrap();
    let text = text::text(&plan);
    let wait = text.lines().find(|line| line.contains("DescribeSnapshotGroups")).unwrap();
    assert!(wait.contains(r#""${group_1:?}""#), "{wait}");
    for shell in ["sh", "bash"] {
        // Each line as typed: the shell of the operator stays, the call is not made.
        let typed = format!("aliyun() {{ echo called; }}\ngroup_1=\neval '{}'", wait.replace('\'', r"'\''"));
        let output = Command::new(shell).args(["-c", &typed.replace(">/dev/null", "")]).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_refused_call_does_not_look_like_one_that_has_worked() {
    let text = text::text(&plan(&facts(), &wish()).unwrap());
    let lines: Vec<&str> = text.lines().skip_while(|line| !line.contains("ResetDisk")).take(2).collect();
    // The disk is in the state that is waited for before the call, too.
    for (refused, seen) in [("ResetDisk", false), ("nothing", true)] {
        let stub = format!("aliyun() {{ [ \"$2\" != {refused} ]; }}\n");
        let (code, said, _) = sh(&format!("{stub}{}", lines.join("\n")));
        assert_eq!((code == Some(0), said.contains("step 3 is done")), (seen, seen), "{lines:?}");
    }
}

#[test]
fn without_a_view_of_the_disks_nothing_is_planned_in_place() {
    let mut facts = facts();
    facts.disks.clear();
    facts.instance.as_mut().unwrap().disks.clear();
    let why = plan(&facts, &wish()).unwrap_err();
    assert!(why.contains("ecs:DescribeDisks"), "{why}");
}

#[test]
fn a_member_without_tags_does_not_make_more_of_one_that_is_none() {
    let mut facts = facts();
    facts.snapshots[0].tags[0].value = "none".into();
    facts.snapshots[1].tags.clear();
    assert_eq!(said::Said::of(&facts.group, &facts.snapshots).level, Level::None);
    // Of a group that appsnap had made its own word counts, and where that is lost nobody's.
    facts.snapshots.iter_mut().for_each(|one| one.tags = tags(&[("APPConsistent", "True")]));
    let said = said::Said::of(&facts.group, &facts.snapshots);
    assert_eq!((said.level, said.by, said.lost.len()), (Level::Crash, "appsnap", 3));
}

#[test]
fn a_group_that_has_lost_a_snapshot_is_not_the_one_for_a_point_in_time() {
    let mut facts = facts();
    let at = Some("2026-11-26T00:00Z".parse().unwrap());
    let rows = |facts: &Facts, at| {
        groups::rows(
            std::slice::from_ref(&facts.group),
            &facts.snapshots,
            &groups::Wanted { at, ..Default::default() },
        )
    };
    assert_eq!(rows(&facts, at).len(), 1);
    // A policy may have more instances than one: none of them is left out.
    let mut other = facts.group.clone();
    other.instance_id = "i-2".into();
    let wanted = groups::Wanted { at, ..Default::default() };
    assert_eq!(groups::rows(&[facts.group.clone(), other], &facts.snapshots, &wanted).len(), 2);
    // The cloud no longer lists it; the tag with which the group was born does.
    facts.group.snapshots.remove(2);
    facts.snapshots.remove(2);
    assert!(rows(&facts, at).is_empty());
    let table = groups::table(&rows(&facts, None));
    assert!(table.contains("(no snapshot any more of d-data)"), "{table}");
}

#[test]
fn postgresql_is_ready_only_if_the_server_of_that_directory_says_so() {
    let dir = Dir::new("ready");
    let at = dir.0.display();
    let file = |pid: u32| std::fs::write(dir.0.join("postmaster.pid"), format!("{pid}\n{at}\nready   \n"));
    let up = engine::RUNS.to_owned() + &engine::READY.replace("-lt 600", "-lt 1");
    let again = format!("dir={at}\n{}{}", engine::RUNS, engine::PID);
    let there = || dir.0.join("postmaster.pid").exists();
    // Of the server that ran at the cut; its number is somebody else's here.
    file(std::process::id()).unwrap();
    let (code, _, said) = sh(&format!("dir={at}\n{up}"));
    assert!(code == Some(1) && said.contains("it is not ready"), "{code:?} {said}");
    let mut server = Command::new("sleep").arg("60").current_dir(&dir.0).spawn().unwrap();
    file(server.id()).unwrap();
    let (code, _, said) = sh(&format!("dir={at}\n{up}"));
    // Done again, the step takes nothing from the server that it has started: it would end.
    assert!(sh(&again).0 == Some(0) && there());
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(sh(&again).0 == Some(0) && !there());
}

#[test]
fn on_another_machine_a_server_that_has_other_data_is_not_taken_for_the_one_brought_back() {
    let mut facts = Facts { instance: None, to: Some(machine("i-2", &[])), ..facts() };
    tagged(&mut facts, "appsnap:mark:engine", Some("mariadb"));
    let plan = plan(&facts, &wish()).unwrap();
    assert!(scripts(&plan).contains(engine::ON_IT), "{}", scripts(&plan));
    let dir = Dir::new("on-it");
    let script = |pid: u32| {
        let stub = format!("systemctl() {{ echo MainPID={pid}; }}\nlast=mariadb dir={}\n", dir.0.display());
        sh(&(stub + &engine::ON_IT.replace("-lt 30", "-lt 1")))
    };
    let (code, _, said) = script(std::process::id());
    assert!(code == Some(1) && said.contains("mariadb runs, but not on"), "{code:?} {said}");
    let mut server = Command::new("sleep").arg("60").current_dir(&dir.0).spawn().unwrap();
    let (code, _, said) = script(server.id());
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn nothing_is_mounted_over_what_lies_there() {
    let dir = Dir::new("over");
    let at = dir.0.display();
    let stubs = "device() { echo /dev/x; }\nparts() { echo /dev/x; }\nmountpoint() { return 1; }\n\
                 is() { case $2 in UUID) echo u-1 ;; *) echo ext4 ;; esac; }\nmount() { echo \"mount $*\"; }\n";
    let put = format!("{MOUNT}{stubs}put d-1 u-1 ext4 {at} rw");
    let (code, said, _) = sh(&put);
    assert!(
        code == Some(0) && said.contains(&format!("mount -t ext4 -o rw /dev/x {at}\n")),
        "{code:?} {said}"
    );
    std::fs::write(dir.0.join("ibdata1"), "in use").unwrap();
    let (code, said, why) = sh(&put);
    assert!(
        code == Some(1) && !said.contains("mount") && why.contains("is not empty"),
        "{code:?} {said}{why}"
    );
}

#[test]
fn a_second_copy_of_a_volume_group_gets_names_of_its_own_too() {
    // Beside an earlier copy, which is called appsnap_copy; this one still has its original's name.
    let stubs = "device() { echo /dev/x; }\nparts() { echo /dev/x; }\nis() { echo LVM2_member; }\nname=vg0\n\
                 vgs() { return 0; }\nlvs() { :; }\nvgchange() { echo \"vgchange $*\"; }\npvs() { echo \"  $name\"; }\n\
                 vgimportclone() { echo \"vgimportclone $*\"; name=appsnap_copy1; }\n";
    let (code, said, why) = sh(&format!("{MOUNT}{stubs}volumes copy d-1\nvolumes copy d-1"));
    let expected = "vgimportclone --basevgname appsnap_copy /dev/x\nvgchange -ay appsnap_copy1\nvgchange -ay appsnap_copy1\n";
    assert_eq!((code, said.as_str()), (Some(0), expected), "{why}");
}
