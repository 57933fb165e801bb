//! The look of a check in a guest: route and trust, tools, scripts, watchers; and that nothing in the guest is changed.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;
#[path = "common/watched.rs"]
mod watched;

use appsnap::guest::look::{self, Look, Looked};
use appsnap::guest::render::Plan;
use victim::{Guest, SOON};

/// What nobody may change: files and their times on the disks and on /run, mounts.
const STATE: &str = "(find /mnt/d /mnt/x -xdev -printf '%p %m %s %T@ %C@\\n'; find /run -xdev -mindepth 1 -printf '%p %m %s %T@ %C@\\n') | sort; \
                     cat /proc/self/mountinfo";
/// Takes tools away from the guest.
const LACKS: &str = r#"
lacks() {
  mkdir /run/real /run/sreal /run/bin; mount --bind /usr/bin /run/real; mount --bind /usr/sbin /run/sreal
  for t in /usr/bin/*; do ln -s /run/real/${t##*/} /run/bin/${t##*/}; done
  for t in /usr/sbin/*; do [ -L /run/bin/${t##*/} ] || ln -s /run/sreal/${t##*/} /run/bin/${t##*/}; done
  for t; do rm -f /run/bin/$t; done
  mount -t tmpfs none /usr/local; mount --bind /run/bin /usr/bin; mount --bind /run/bin /usr/sbin
}
"#;

/// Looks at the guest as a check does, with the plan and the host as edited.
fn look(guest: &mut Guest, edit: impl Fn(&mut Plan, &mut Option<String>)) -> (Looked, String) {
    let mut plan = guest.rig.plan("l-1");
    let mut host = Some(format!("localhost:{}", guest.endpoint.port));
    std::fs::write(guest.rig.dir.join("ca.pem"), &guest.endpoint.ca_pem).unwrap();
    edit(&mut plan, &mut host);
    let command = look::render(&Look { plan, host, plugin: false }).unwrap();
    std::fs::write(guest.rig.dir.join("look"), command).unwrap();
    let out = guest.sh("sh /run/w/look");
    (Looked::read(&out).unwrap_or_else(|| panic!("no report of the look in: {out}")), out)
}

fn codes(looked: &Looked) -> Vec<&str> {
    looked.told.reasons.iter().map(|(code, _)| code.as_str()).collect()
}

#[test]
fn a_good_guest_has_nothing_to_tell_and_is_as_it_was() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.scripts("touch /run/ran", "touch /run/ran");
    look(&mut guest, |_, _| {}); // the first one brings tools into memory, and ca.pem and look into place
    let before = guest.sh(STATE);
    let (looked, out) = look(&mut guest, |_, _| {});
    let after = guest.sh(STATE);
    assert_eq!(codes(&looked), Vec::<&str>::new(), "{out}");
    assert!(looked.https && looked.via.as_deref() == Some("curl") && looked.said.is_none(), "{out}");
    let mounts: Vec<&str> = looked.told.file_systems.iter().map(|fs| fs.mount.as_str()).collect();
    assert_eq!((mounts.len(), looked.told.disks.len()), (2, 2), "{out}");
    assert_eq!(before, after, "something in the guest is not what it was");
    assert_eq!(guest.sh("ls -d /run/appsnap* /run/ran /run/blkid 2>/dev/null"), "");
    assert_eq!(guest.rig.left_frozen(), "");
    assert_eq!(guest.rig.processes(), "");
    assert!(guest.endpoint.seen().iter().all(|seen| seen.action.is_empty()), "nothing signed was sent");
}

#[test]
fn what_a_look_that_was_killed_left_is_taken_away_a_day_later() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    let left =
        "mkdir /run/appsnap-look-l-8 /run/appsnap-look-l-9 && touch -d '2 days ago' /run/appsnap-look-l-8";
    guest.sh(left);
    let (looked, out) = look(&mut guest, |_, _| {});
    assert!(looked.https, "{out}");
    assert_eq!(
        guest.sh("ls -d /run/appsnap-look*").trim(),
        "/run/appsnap-look-l-9",
        "another one may be at it"
    );
}

#[test]
fn a_guest_that_the_cloud_is_out_of_reach_of_is_told_how() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    for via in ["curl", "openssl"] {
        if via == "openssl" {
            guest.rig.write("/run/no-curl", "#!/bin/sh\nexit 127\n", "755");
            guest.sh("mount --bind /run/no-curl /usr/bin/curl");
        }
        let (looked, out) = look(&mut guest, |_, _| {});
        assert!(looked.https && codes(&looked).is_empty(), "{via}: {out}");
        assert_eq!(looked.via.as_deref(), Some(via), "{out}");
        type Change = fn(&mut Plan, &mut Option<String>);
        let table: [(&str, Change); 3] = [
            ("trust", |plan, _| plan.ca_bundle = None),
            ("route", |_, host| *host = Some("localhost:1".into())),
            ("name", |_, host| *host = Some("no-such-host.invalid".into())),
        ];
        for (what, change) in table {
            let (looked, out) = look(&mut guest, change);
            assert_eq!(
                (codes(&looked), looked.https),
                (vec!["connect.failed"], false),
                "{via}, {what}: {out}"
            );
            let told = &looked.told.reasons[0].1;
            assert!(told.starts_with(&format!("{via} to ")) && told.len() > 40, "{via}, {what}: {told}");
        }
    }
    assert_eq!(guest.rig.processes(), "");
}

#[test]
fn a_host_that_never_answers_is_given_up() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    // Takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    guest.rig.write("/run/no-curl", "#!/bin/sh\nexit 127\n", "755");
    for via in ["curl", "openssl"] {
        if via == "openssl" {
            guest.sh("mount --bind /run/no-curl /usr/bin/curl");
        }
        let begin = std::time::Instant::now();
        let (looked, out) = look(&mut guest, |_, host| *host = Some(format!("localhost:{port}")));
        assert_eq!(codes(&looked), ["connect.failed"], "{via}: {out}");
        assert!(begin.elapsed() < std::time::Duration::from_secs(40), "{via}: {:?}", begin.elapsed());
    }
    assert_eq!(guest.rig.processes(), "");
}

#[test]
fn tools_that_are_missing_are_named_together() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    guest.rig.write("/run/lacks.sh", LACKS, "600");
    assert_eq!(guest.sh(". /run/lacks.sh; lacks curl openssl setsid fsfreeze"), "");
    let (looked, out) = look(&mut guest, |_, _| {});
    let told: Vec<&str> = looked.told.reasons.iter().map(|(_, detail)| detail.as_str()).collect();
    for tool in ["setsid is not", "fsfreeze is not", "neither curl"] {
        assert!(told.iter().any(|detail| detail.contains(tool)), "{tool}: {out}");
    }
}

#[test]
fn scripts_are_vetted_as_a_run_does() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    type Case = (&'static str, &'static [&'static str]);
    let table: [Case; 4] = [
        (":", &[]),
        ("chmod 755 /run/scripts/pre.sh", &["script.mode"]),
        ("chown 65534 /run/scripts/post.sh", &["script.mode", "script.owner"]),
        ("rm /run/scripts/pre.sh", &["script.missing", "script.owner"]),
    ];
    for (line, expected) in table {
        guest.sh(line);
        let (looked, out) = look(&mut guest, |_, _| {});
        assert_eq!(codes(&looked), expected, "{line}: {out}");
        assert_eq!(looked.told.pre_script.0.as_deref(), Some("/run/scripts/pre.sh"), "{out}");
    }
    let (looked, out) = look(&mut guest, |plan, _| plan.want = appsnap::report::Level::Filesystem);
    assert!(codes(&looked).is_empty() && looked.told.pre_script.0.is_none(), "no script would run: {out}");
}

#[test]
fn a_full_run_directory_is_told_and_left_as_it_was() {
    let Some(mut guest) = Guest::new(SOON) else { return };
    look(&mut guest, |_, _| {});
    guest.sh("mount -o remount,size=1m /run; head -c 2000000 /dev/zero >/run/ballast 2>/dev/null");
    let (looked, out) = look(&mut guest, |_, _| {});
    assert!(codes(&looked).contains(&"state.space"), "{out}");
    guest.sh("rm /run/ballast; mount -o remount,size=64m /run");
    assert_eq!(guest.sh("ls -d /run/appsnap* 2>/dev/null"), "");
    assert!(codes(&look(&mut guest, |_, _| {}).0).is_empty());
}

#[test]
fn a_daemon_that_decides_about_every_exec_is_seen_before_a_run() {
    if !common::need(&["python3"]) {
        return;
    }
    let Some(mut guest) = Guest::new(SOON) else { return };
    watched::watch(&mut guest);
    let (looked, out) = look(&mut guest, |_, _| {});
    assert_eq!(codes(&looked), ["freeze.watched"], "{out}");
    assert!(looked.told.reasons[0].1.starts_with("python3 ("), "{out}");
    guest.sh("kill -KILL $(cat /run/daemon.pid); sleep 0.2");
    assert!(codes(&look(&mut guest, |_, _| {}).0).is_empty());
}
