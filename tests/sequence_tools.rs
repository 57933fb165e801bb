//! Guests that lack tools, or have old ones.
#![allow(clippy::disallowed_methods)] // tests measure real time

mod common;
#[path = "common/victim.rs"]
#[allow(dead_code)] // each test file uses its part
mod victim;

use appsnap::guest::told::Told;
use victim::{Guest, SOON, codes, whole};

/// `only TOOL...` leaves these in the guest, from busybox where they are its applets; `lacks TOOL...` takes these away.
/// Whatever comes first in /run/bin (`tool NAME LINES` puts it there) stays.
const BARE: &str = r#"
real() { mkdir -p /run/real /run/bin; mount --bind /usr/bin /run/real; mkdir /run/sreal; mount --bind /usr/sbin /run/sreal; }
hide() { mount -t tmpfs none /usr/local; mount --bind /run/bin /usr/bin; mount --bind /run/bin /usr/sbin; }
tool() { mkdir -p /run/bin; printf '#!/bin/sh\n%s\n' "$2" >/run/bin/$1; chmod 755 /run/bin/$1; }
only() {
  real; l=$(busybox --list)
  for t in $l; do [ -e /run/bin/$t ] || /run/real/ln -s /run/real/busybox /run/bin/$t; done
  for t; do /run/real/ln -s /run/real/$t /run/bin/$t; done; hide
}
lacks() {
  real
  for t in /usr/bin/* /usr/sbin/*; do n=${t##*/}; [ -e /run/bin/$n ] || [ -L /run/bin/$n ] || case $t in /usr/bin/*) ln -s /run/real/$n /run/bin/$n;; *) ln -s /run/sreal/$n /run/bin/$n;; esac; done
  for t; do rm -f /run/bin/$t; done; hide
}
"#;

/// As curl 7.29 (CentOS 7) does: no `next` in its configuration.
const OLD_CURL: &str = r#"tool curl 'case " $* " in *" --version "*) echo "curl 7.29.0 (x86_64-redhat-linux-gnu) libcurl/7.29.0 NSS/3.53.1 zlib/1.2.7"; exit;; esac
[ "$2" != -K ] || ! grep -qx next "$3" || { echo "curl: option next: is unknown" >&2; exit 2; }
exec /run/real/curl "$@"'"#;

/// A guest after these lines.
fn bare(lines: &str) -> Option<Guest> {
    let mut guest = Guest::new(SOON)?;
    guest.rig.write("/run/bare.sh", &format!("{BARE}\n{lines}\n"), "600");
    assert_eq!(guest.sh(". /run/bare.sh"), "", "{lines}");
    Some(guest)
}

#[test]
fn a_guest_of_busybox_alone_does_with_either_https_tool_and_says_so_with_neither() {
    for (tools, via) in [("curl", "curl 200"), ("openssl", "openssl 200"), ("curl openssl", "curl 200")] {
        let Some(mut guest) = bare(&format!("only {tools}")) else { return };
        let (told, out) = guest.run(|_| {}, "");
        assert!(
            codes(&told).is_empty() && whole(&told, 2) && told.visible,
            "{tools}: {out}{}",
            guest.sh("cat $A/log $A/state")
        );
        assert!(told.steps.iter().any(|step| step.detail == via), "{tools}: {out}");
        assert_eq!(told.pre_exit.as_deref(), Some("0"), "{tools}: {out}");
        assert_eq!(guest.sh("cat /run/post.a1; cat $A/log"), "application\n", "{tools}");
        guest.clean(1, tools);
    }
    let Some(mut guest) = bare("only") else { return };
    let (told, out) = guest.run(|_| {}, "");
    assert_eq!((told.phase.as_str(), codes(&told)), ("refused", vec!["tool.https"]), "{out}");
    assert!(told.reasons[0].1.contains("install curl"), "the cure: {out}");
    guest.clean(0, "neither");
}

#[test]
fn a_curl_of_before_next_leaves_the_work_to_openssl_or_is_told() {
    let Some(mut guest) = bare(&format!("{OLD_CURL}\nlacks")) else { return };
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    assert!(told.steps.iter().any(|step| step.detail == "openssl 200"), "{out}");
    guest.clean(1, "curl 7.29");
    let Some(mut guest) = bare(&format!("{OLD_CURL}\nlacks openssl")) else { return };
    let (told, out) = guest.run(|_| {}, "");
    assert_eq!((told.phase.as_str(), codes(&told)), ("refused", vec!["tool.https"]), "{out}");
    guest.clean(0, "curl 7.29 alone");
}

/// CentOS 7: coreutils 8.22 (no `sync -f`, names ignored), curl 7.29; no blkid, no iconv, a date without fractions.
#[test]
fn a_guest_with_old_tools_does_as_well() {
    let old = "tool sync 'case ${1:-} in -*) echo \"sync: invalid option\" >&2; exit 1;; esac; exec /run/real/sync'\n\
               tool date 'case \"$*\" in *%N*) echo 1795889046;; *) exec /run/real/date \"$@\";; esac'";
    let Some(mut guest) = bare(&format!("{OLD_CURL}\n{old}\nlacks blkid iconv")) else { return };
    let (told, out) = guest.run(|_| {}, "");
    assert!(codes(&told).is_empty() && whole(&told, 2) && told.visible, "{out}");
    assert!(told.file_systems.iter().all(|fs| fs.uuid.is_none()), "{out}");
    guest.clean(1, "old tools");
}

#[test]
fn a_tool_that_is_missing_is_named_and_nothing_is_touched() {
    for (tool, code) in [
        ("fsfreeze", "tool.missing"),
        ("setsid", "tool.missing"),
        ("sha256sum", "tool.missing"),
        ("mkfifo", "tool.missing"),
        ("base64", "tool.missing"),
        ("gzip", "tool.missing"),
    ] {
        let Some(mut guest) = bare(&format!("lacks {tool}")) else { return };
        let plan = guest.rig.plan("a1");
        guest.rig.load(&plan, guest.endpoint.port, &guest.endpoint.ca_pem);
        let (out, status) = guest.rig.sh("sh /run/w/find");
        let told = Told::read(&out).unwrap_or_else(|| panic!("{tool}: {out}"));
        assert_eq!((codes(&told), status), (vec![code], 20), "{tool}: {out}");
        assert!(told.reasons[0].1.contains(tool), "{tool}: {out}");
        guest.clean(0, tool);
    }
}
