//! How a Linux guest is quiesced.

use super::fields::{Object, quoted};

/// When the guest thaws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThawOn {
    /// When the group shows all expected disks (the vendor does not state the instant of the cut).
    Visible,
    /// On the answer of the create call.
    Accepted,
}

/// Who freezes the guest and asks for the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Our own sequence of shell.
    #[default]
    Sequence,
    /// The vendor's app-snapshot-plugin; the only one for Windows, where VSS needs the vendor's provider.
    Plugin,
}

/// Where the guest reaches the ECS API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The region's VPC endpoint.
    Vpc,
    /// The region's public endpoint.
    Public,
    /// A host, with a port or not.
    Host(String),
}

/// How a Linux guest is quiesced; some options are of one engine only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linux {
    /// Default: the sequence.
    pub engine: Engine,
    /// `None`: `/etc/appsnap/prescript.sh` where present, else `/tmp/prescript.sh`, decided in the guest.
    pub pre_script_path: Option<String>,
    /// `None`: as above with `postscript.sh`.
    pub post_script_path: Option<String>,
    /// Limit of each script, 1 to 780 s (default 600): above that the request that was signed before the
    /// prescript could be older than the 15 minutes for which a signature is good.
    pub script_timeout_in_seconds: u64,
    /// Off: nothing is frozen and no level above crash can be shown.
    pub enable_fs_freeze: bool,
    /// Limit of the freeze window, 1 to 60 s (default 10).
    pub timeout_in_seconds: u64,
    /// What ends the window.
    pub thaw_on: ThawOn,
    /// How long the group may take to show, 1 s to the window's limit (default 5, or the limit if that is less).
    pub visible_timeout_in_seconds: u64,
    /// Where the guest sends the one request.
    pub endpoint: Endpoint,
    /// A PEM file in the guest, added to its trusted roots.
    pub ca_bundle: Option<String>,
    /// Shortens the freeze by `rcu_expedited`, set around the window and put back on every path.
    pub fast_freeze: bool,
}

/// What the vendor's plugin has no parameter for: it sends its own requests and thaws by its own rules.
const SEQUENCE_ONLY: [&str; 5] = ["thawOn", "visibleTimeoutInSeconds", "endpoint", "caBundle", "fastFreeze"];

impl Linux {
    /// What differs from the defaults; without the engine and the scripts' time, which count on Windows too.
    pub(super) fn given(&self) -> Vec<&'static str> {
        let visible = self.timeout_in_seconds.min(5);
        let given = [
            (self.pre_script_path.is_some(), "linux.preScriptPath"),
            (self.post_script_path.is_some(), "linux.postScriptPath"),
            (!self.enable_fs_freeze, "linux.enableFsFreeze"),
            (self.timeout_in_seconds != 10, "linux.timeoutInSeconds"),
            (self.thaw_on != ThawOn::Visible, "linux.thawOn"),
            (self.visible_timeout_in_seconds != visible, "linux.visibleTimeoutInSeconds"),
            (self.endpoint != Endpoint::Vpc, "linux.endpoint"),
            (self.ca_bundle.is_some(), "linux.caBundle"),
            (self.fast_freeze, "linux.fastFreeze"),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, field)| field).collect()
    }
}

pub(super) fn parse(linux: &Object) -> Linux {
    let engines = [("sequence", Some(Engine::Sequence)), ("plugin", Some(Engine::Plugin))];
    let engine = linux.word("engine", Engine::Sequence, &engines);
    if engine == Engine::Plugin {
        for field in SEQUENCE_ONLY.into_iter().filter(|field| linux.value(field).is_some()) {
            linux.problem(
                field,
                "belongs to engine sequence, the vendor's plugin has nothing like it: leave it out",
            );
        }
    }
    linux.off("lastResortSysrq");
    let timeout_in_seconds = linux.seconds("timeoutInSeconds", 10, 1..=60);
    let thaw_on = [("visible", Some(ThawOn::Visible)), ("accepted", Some(ThawOn::Accepted))];
    Linux {
        engine,
        pre_script_path: linux.checked("preScriptPath", guest_path),
        post_script_path: linux.checked("postScriptPath", guest_path),
        script_timeout_in_seconds: linux.seconds("scriptTimeoutInSeconds", 600, 1..=780),
        enable_fs_freeze: linux.flag("enableFsFreeze", true),
        timeout_in_seconds,
        thaw_on: linux.word("thawOn", ThawOn::Visible, &thaw_on),
        visible_timeout_in_seconds: linux.seconds(
            "visibleTimeoutInSeconds",
            timeout_in_seconds.min(5),
            1..=timeout_in_seconds,
        ),
        endpoint: match linux.checked("endpoint", endpoint).as_deref() {
            None | Some("vpc") => Endpoint::Vpc,
            Some("public") => Endpoint::Public,
            Some(host) => Endpoint::Host(host.to_owned()),
        },
        ca_bundle: linux.checked("caBundle", guest_path),
        fast_freeze: linux.flag("fastFreeze", false),
    }
}

/// The path goes into a shell script on the guest: nothing that a shell could read otherwise.
fn guest_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(format!("must be the absolute path of a file in the guest, not {}", quoted(path)));
    }
    if path.len() > 255 {
        return Err("must be at most 255 bytes".into());
    }
    if path.chars().any(|c| c.is_control() || "'\"`$\\".contains(c)) {
        return Err(format!(
            "must be without quotes, $, backslashes, line breaks and control characters, not {}",
            quoted(path)
        ));
    }
    Ok(())
}

fn endpoint(text: &str) -> Result<(), String> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let named = host.len() <= 253 && host.split('.').all(label);
    let port_good = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    // A lone word is more likely a slip of "vpc" than a host.
    let known = matches!(text, "vpc" | "public") || host.contains('.') || port.is_some();
    if named && port_good && known {
        Ok(())
    } else {
        Err(format!(
            "must be vpc, public, or a host with or without a port (no scheme), not {}",
            quoted(text)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_nothing_for_a_shell_to_read() {
        for good in ["/tmp/prescript.sh", "/opt/my scripts/pre.sh", "/é"] {
            assert_eq!(guest_path(good), Ok(()), "{good}");
        }
        for bad in ["", "pre.sh", "/", "/a/", "/a'b", "/a\"b", "/a\nb", "/a\u{1b}b", "/$x", "/`x`", "/a\\b"] {
            assert!(guest_path(bad).is_err(), "{bad:?}");
        }
        assert!(guest_path(&format!("/{}", "x".repeat(255))).is_err());
    }

    #[test]
    fn what_says_nothing_to_an_instance_is_named() {
        let parse = |linux: serde_json::Value, writers: bool| {
            crate::policy::Request::parse(&serde_json::json!({ "policy": "p",
                "targets": { "instanceIds": ["i-1"] }, "linux": linux, "windows": { "enableWriters": writers } }))
            .unwrap()
        };
        let plain = parse(serde_json::json!({ "scriptTimeoutInSeconds": 30 }), true);
        assert_eq!((plain.unused(true), plain.unused(false)), (vec![], vec![]));
        // Every other field of the section, each with a value of its own.
        let linux = serde_json::json!({ "preScriptPath": "/a", "postScriptPath": "/b", "enableFsFreeze": false,
            "timeoutInSeconds": 20, "thawOn": "accepted", "visibleTimeoutInSeconds": 7, "endpoint": "public",
            "caBundle": "/c", "fastFreeze": true });
        let given = parse(linux.clone(), false);
        let mut fields: Vec<String> =
            linux.as_object().unwrap().keys().map(|field| format!("linux.{field}")).collect();
        let mut unused = given.unused(true);
        fields.sort();
        unused.sort();
        assert_eq!(unused, fields);
        assert_eq!(given.unused(false), ["windows.enableWriters"]);
    }

    #[test]
    fn endpoints_are_two_words_or_a_host() {
        for good in ["vpc", "public", "ecs.cn-hangzhou.aliyuncs.com", "127.0.0.1:8443", "localhost:1"] {
            assert_eq!(endpoint(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "vcp",
            "https://a.b",
            "a.b/c",
            "a.b:0",
            "a.b:70000",
            "a.b:+1",
            "a.b:",
            ":1",
            "-o.b",
            "a..b",
            "a b.c",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
