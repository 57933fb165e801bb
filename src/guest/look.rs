//! The look of a check: one command that looks at a guest, changes nothing in it, and tells what a run would find.

use serde_json::Value;

use super::render::{CLOUD, COMMON, Data, FIND, Plan, RenderError, command, pack, plan_data, strip};
use super::told::Told;

const LOOK: &str = include_str!("look.sh");

/// What a run would be, as far as the look has to know it.
#[derive(Debug, Clone)]
pub struct Look {
    /// The run's plan; its `attempt` names the look's directory on `/run`.
    pub plan: Plan,
    /// `host` or `host:port` that a run's requests would be signed for; `None`: not asked for.
    pub host: Option<String>,
    /// Whether the vendor's plugin would do the run.
    pub plugin: bool,
}

/// What the guest told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Looked {
    /// Reasons, notes, disks, file systems, scripts, steps. Its phase is `looked`, or `refused` where the look could not
    /// even begin.
    pub told: Told,
    /// `ID` and `VERSION_ID` of os-release.
    pub os: Option<(String, String)>,
    /// Devices of the chosen disks that cannot be frozen and have to stay quiet.
    pub quiet: Vec<String>,
    /// Mount points on the chosen disks, of types that cannot be frozen.
    pub calm: Vec<String>,
    /// Swap among `quiet`.
    pub swap: Vec<String>,
    /// SELinux enforces: the context of a command of the agent.
    pub selinux: Option<String>,
    /// Free on `/run`, KiB.
    pub room_kib: Option<u64>,
    /// The tool for HTTPS, `curl` or `openssl`.
    pub via: Option<String>,
    /// Whether the host was reached and its certificate trusted.
    pub https: bool,
    /// What a tool said that should have said nothing.
    pub said: Option<String>,
    /// It was too much for an answer: notes are left out, and it may be that file systems are.
    pub cut: bool,
}

impl Looked {
    /// Reads the report line of an output; `None` when there is none.
    pub fn read(output: &str) -> Option<Self> {
        let told = Told::read(output)?;
        let line = output.lines().rev().find(|line| line.starts_with("{\"appsnap\":"))?;
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| {
            let text = value[key].as_str().map(str::trim).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let words = |key: &str| {
            text(key).map(|text| text.split(' ').map(str::to_owned).collect()).unwrap_or_default()
        };
        let os = text("os").map(|os| {
            let (id, version) = os.split_once(' ').unwrap_or((&os, ""));
            (id.to_owned(), version.to_owned())
        });
        Some(Self {
            told,
            os,
            quiet: words("quiet"),
            calm: words("calm"),
            swap: words("swap"),
            selinux: text("selinux"),
            room_kib: text("room").and_then(|room| room.parse().ok()),
            via: text("via"),
            https: text("https").is_some(),
            said: text("said"),
            cut: text("cut").is_some(),
        })
    }
}

/// The command, at most [`LIMIT`](super::render::LIMIT) bytes.
pub fn render(look: &Look) -> Result<Vec<u8>, RenderError> {
    let mut data = Data(plan_data(&look.plan)?);
    data.set("HOST", look.host.as_deref().unwrap_or_default())?;
    data.set("ENGINE", if look.plugin { "plugin" } else { "sequence" })?;
    let body = format!(
        // A look that was killed could not take its directory away.
        "d=/run/appsnap-look-{0}\n\
         find /run -maxdepth 1 -name 'appsnap-look-*' -mtime +0 -exec rm -rf {{}} + 2>/dev/null\n\
         mkdir $d || e 'state.space /run cannot be written'\n\
         u '{1}' >$d/look.sh && u '{2}' >$d/data || {{ rm -rf $d; e 'state.space /run has no room'; }}\n\
         exec sh $d/look.sh look $d\n",
        look.plan.attempt,
        pack(&script()),
        pack(&data.0)
    );
    command("look", &look.plan.attempt, &body)
}

/// What runs: the functions of the sequence that only look, and the look's own.
pub fn script() -> String {
    // Where the modes part the sequence would begin.
    let common = COMMON.split_once("\nexec 3>&1 ").map_or(COMMON, |(functions, _)| functions);
    [strip(FIND), strip(common), function(&strip(CLOUD), "find_tool"), strip(LOOK)].concat()
}

/// The text of a function in stripped source; its closing brace stands alone on a line, as no other line of it does.
fn function(source: &str, name: &str) -> String {
    let from = source.find(&format!("{name}() {{\n")).unwrap_or(source.len());
    let text = &source[from..];
    text.split_once("\n}\n").map(|(body, _)| format!("{body}\n}}\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::render::{LIMIT, ThawOn};
    use super::*;
    use crate::report::Level;

    pub(crate) fn plan(disks: usize) -> Plan {
        Plan {
            attempt: "l-0123456789abcdef".into(),
            policy: "p".repeat(40),
            disks: (0..disks).map(|i| format!("d-bp1{:017}", i * 7_654_321)).collect(),
            want: Level::Application,
            minimum: Level::Crash,
            pre_script: Some(format!("/{}", "a".repeat(254))),
            post_script: Some(format!("/{}", "b".repeat(254))),
            script_timeout: 780,
            freeze: true,
            window: 60,
            thaw_on: ThawOn::Visible,
            visible: 60,
            ca_bundle: Some(format!("/{}", "c".repeat(254))),
            fast_freeze: true,
        }
    }

    #[test]
    fn the_look_fits_into_a_command_whatever_is_chosen() {
        let look = Look { plan: plan(128), host: Some("h".repeat(253)), plugin: false };
        let size = render(&look).unwrap().len();
        println!("look {size}");
        assert!(size <= LIMIT, "{size}");
    }

    #[test]
    fn it_holds_what_looks_and_nothing_that_acts() {
        let script = script();
        for function in ["find_disks", "find_mounts", "vet_scripts", "find_tool", "look", "render", "reserve"]
        {
            assert_eq!(script.matches(&format!("\n{function}() {{")).count(), 1, "{function}");
        }
        for acts in ["--freeze", "--unfreeze", "--unfr", "rest.sh", "setsid sh", "take_lock", "ln -s"] {
            assert!(!script.contains(acts), "{acts}");
        }
    }

    #[test]
    fn what_was_told_is_read() {
        let line = r#"{"appsnap":"1","run":"l-1","os":"debian 12","room":"2048","via":"curl","https":"ok","quiet":"vda1 vdb","calm":"/boot/efi","swap":"vdb","selinux":"system_u:system_r:initrc_t:s0","reason":["script.mode /x"],"phase":"looked"}"#;
        let looked = Looked::read(&format!("noise\n{line}\n")).unwrap();
        assert_eq!(looked.os, Some(("debian".into(), "12".into())));
        assert_eq!(
            (looked.quiet.len(), looked.calm[0].as_str(), looked.swap[0].as_str()),
            (2, "/boot/efi", "vdb")
        );
        assert_eq!((looked.room_kib, looked.https, looked.said), (Some(2048), true, None));
        assert_eq!(looked.told.reasons[0].0, "script.mode");
        assert_eq!(Looked::read(r#"{"appsnap":"1","phase":"looked","via":"","os":" "}"#).unwrap().os, None);
        assert_eq!(Looked::read("cut"), None);
    }
}
