//! The command that runs the vendor's app-snapshot-plugin, what its manager's exit codes mean, and what it told.
//!
//! Observed or read in the public source: the manager's flags, its exit codes, the arguments of a Linux run that the
//! console made. **Never observed: the argument list on Windows and the plugin's own exit codes.**

use serde::Deserialize;

use super::render::RenderError;
use crate::report::Level;

const LINUX: &str = include_str!("plugin.sh");
const WINDOWS: &str = include_str!("plugin.ps1");

/// What differs between the two kinds of guest.
#[derive(Debug, Clone)]
pub enum Os {
    /// Freezes file systems; runs the two scripts.
    Linux {
        /// `EnableFsFreeze`.
        freeze: bool,
        /// `TimeoutInSeconds`: the plugin's own limit of the freeze.
        window: u64,
        /// `ScriptTimeoutInSeconds`.
        scripts: u64,
        /// `None`: `/etc/appsnap/prescript.sh` where present, else `/tmp/prescript.sh`.
        pre: Option<String>,
        /// As `pre`.
        post: Option<String>,
    },
    /// VSS.
    Windows {
        /// `EnableWriters`: the applications' writers are asked too.
        writers: bool,
    },
}

/// One run of the plugin.
#[derive(Debug, Clone)]
pub struct Order {
    /// Id of the attempt.
    pub attempt: String,
    /// The instance's RAM role, with which the plugin calls the API.
    pub role: String,
    /// Name of the group.
    pub name: String,
    /// The one attached disk that is not to be in the group (no more than one was ever observed).
    pub exclude: Option<String>,
    /// Seconds that the manager gives the plugin (its own default is 60).
    pub limit: u64,
    /// Scripts are wanted for `application` only.
    pub want: Level,
    /// Below this level nothing is touched.
    pub minimum: Level,
    /// The guest.
    pub os: Os,
}

/// Renders the command: a shell script, or a PowerShell script for Windows.
pub fn render(order: &Order) -> Result<Vec<u8>, RenderError> {
    // The manager splits the parameters at commas, and each part as a shell does.
    let fit = |field: &'static str, value: &str| {
        let odd = |c: char| c == ',' || c.is_whitespace() || c.is_control() || "'\"`$\\".contains(c);
        let unfit = || RenderError::Unfit { field, value: value.to_string() };
        if value.contains(odd) { Err(unfit()) } else { Ok(()) }
    };
    fit("attempt", &order.attempt)?;
    fit("the instance's RAM role", &order.role)?;
    fit("snapshot.name", &order.name)?;
    fit("targets.excludeDiskIds", order.exclude.as_deref().unwrap_or_default())?;
    let (attempt, role, name, limit) = (&order.attempt, &order.role, &order.name, order.limit);
    let exclude = order.exclude.as_deref().unwrap_or_default();
    let text = match &order.os {
        Os::Linux { freeze, window, scripts, pre, post } => {
            let (pre, post) = (pre.as_deref().unwrap_or_default(), post.as_deref().unwrap_or_default());
            fit("linux.preScriptPath", pre)?;
            fit("linux.postScriptPath", post)?;
            let (want, min) = (order.want.as_str(), order.minimum.as_str());
            format!(
                "attempt='{attempt}' role='{role}' name='{name}' exclude='{exclude}' freeze={freeze} window={window}\n\
                 scripts={scripts} limit={limit} want={want} min={min} pre='{pre}' post='{post}'\n{}",
                code(LINUX)
            )
        }
        Os::Windows { writers } => {
            let exclude =
                order.exclude.as_ref().map(|id| format!(",-ExcludeDiskId={id}")).unwrap_or_default();
            format!(
                "$attempt = '{attempt}'; $limit = {limit}\n\
                 $params = '--RamRoleName={role},-EnableWriters={writers}{exclude},-Name={name}'\n{}",
                code(WINDOWS)
            )
        }
    };
    Ok(text.into_bytes())
}

/// The script without its comments: the guest keeps the command's file for ever.
fn code(source: &str) -> String {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// One exit code of acs-plugin-manager.
pub struct Exit {
    /// The number.
    pub code: i64,
    /// The vendor's name.
    pub name: &'static str,
    /// Our reason.
    pub reason: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it.
    pub cure: &'static str,
}

const fn exit(
    code: i64,
    name: &'static str,
    reason: &'static str,
    meaning: &'static str,
    cure: &'static str,
) -> Exit {
    Exit { code, name, reason, meaning, cure }
}

const REACH: &str =
    "let the guest reach 100.100.100.200, the region's Cloud Assistant endpoint and its OSS; run again";
const UPDATE: &str = "update Cloud Assistant in the guest; if it stays so, ask the vendor";

/// The manager's own exit codes (public source of the agent, `errcode.go`); any other is the plugin's.
pub const EXITS: [Exit; 16] = [
    exit(
        232,
        "LOCKING_ERR",
        "plugin.locked",
        "another plugin manager was at work",
        "wait until it has ended; run again",
    ),
    exit(
        233,
        "CHECK_ENDPOINT_FAIL",
        "plugin.endpoint",
        "the plugin manager found no endpoint of Cloud Assistant",
        REACH,
    ),
    exit(
        234,
        "PACKAGE_NOT_FOUND",
        "plugin.package_not_found",
        "the vendor has no app-snapshot-plugin for this guest",
        "check that the vendor supports this system and region; on Linux use engine sequence",
    ),
    exit(235, "PACKAGE_FORMAT_ERR", "plugin.package_format", "the plugin's package is damaged", UPDATE),
    exit(
        236,
        "UNZIP_ERR",
        "plugin.unzip",
        "the plugin's package could not be unpacked",
        "free space on the system disk; run again",
    ),
    exit(
        237,
        "UNMARSHAL_ERR",
        "plugin.unmarshal",
        "the plugin manager could not read an answer or a configuration",
        UPDATE,
    ),
    exit(
        238,
        "PLUGIN_FORMAT_ERR",
        "plugin.format",
        "the plugin does not fit this system",
        "check that the vendor supports this system; on Linux use engine sequence",
    ),
    exit(
        239,
        "MD5_CHECK_FAIL",
        "plugin.md5",
        "the plugin's package is not what its checksum says",
        "run again; if it stays so, find who changes the download",
    ),
    exit(240, "DOWNLOAD_FAIL", "plugin.download", "the plugin could not be downloaded", REACH),
    exit(
        241,
        "LOAD_INSTALLEDPLUGINS_ERR",
        "plugin.database_read",
        "the list of installed plugins cannot be read",
        UPDATE,
    ),
    exit(
        242,
        "DUMP_INSTALLEDPLUGINS_ERR",
        "plugin.database_write",
        "the list of installed plugins cannot be written",
        "free space on the system disk; run again",
    ),
    exit(
        243,
        "GET_ONLINE_PACKAGE_INFO_ERR",
        "plugin.package_info",
        "the vendor's list of plugins could not be had",
        REACH,
    ),
    exit(
        244,
        "EXECUTABLE_PERMISSION_ERR",
        "plugin.permission",
        "the plugin may not be executed",
        "mount the file system of /usr/local/share/aliyun-assist without noexec",
    ),
    exit(
        245,
        "REMOVE_FILE_ERR",
        "plugin.remove",
        "an old version of the plugin could not be removed",
        "look for what holds its files open; run again",
    ),
    exit(
        246,
        "EXECUTE_FAILED",
        "plugin.execute",
        "the plugin could not be started",
        "see the output of the command in Cloud Assistant",
    ),
    exit(
        247,
        "EXECUTE_TIMEOUT",
        "plugin.timeout",
        "the plugin did not end in time and was killed",
        "shorten the scripts, or raise linux.scriptTimeoutInSeconds",
    ),
];

/// The row of a manager's exit code; `None`: the plugin's own.
pub fn exit_of(code: i64) -> Option<&'static Exit> {
    EXITS.iter().find(|exit| exit.code == code)
}

/// What the command told in its last line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PluginTold {
    #[serde(rename = "appsnap-plugin")]
    version: String,
    /// Attempt it belongs to.
    pub run: String,
    /// `refused` (nothing was touched) or `done`.
    pub phase: String,
    exit: String,
    thawed: String,
    reason: Vec<String>,
}

impl PluginTold {
    /// Reads the last such line of an output; `None` where there is none, or it belongs to another attempt.
    pub fn read(output: &str, attempt: &str) -> Option<Self> {
        let line = output.lines().rev().find(|line| line.starts_with("{\"appsnap-plugin\":"))?;
        serde_json::from_str(line.trim())
            .ok()
            .filter(|told: &Self| told.run == attempt && told.version == "1")
    }

    /// As the manager ended.
    pub fn exit(&self) -> Option<i64> {
        self.exit.parse().ok()
    }

    /// Whether our guard had to thaw what the plugin's freezer left frozen.
    pub fn thawed_by_guard(&self) -> bool {
        self.thawed == "1"
    }

    /// Code and detail of what will lower the level, as far as it shows in the guest.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, &str)> {
        self.reason.iter().map(|item| item.split_once(' ').unwrap_or((item, "")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux() -> Order {
        let (pre, post) = (None, Some("/opt/post.sh".to_string()));
        Order {
            attempt: "a-1".into(),
            role: "snap".into(),
            name: "appsnap-orders-a-1".into(),
            exclude: Some("d-9".into()),
            limit: 130,
            want: Level::Application,
            minimum: Level::Crash,
            os: Os::Linux { freeze: true, window: 10, scripts: 30, pre, post },
        }
    }

    #[test]
    fn what_a_comma_would_tear_apart_is_refused_by_name() {
        type Spoil = fn(&mut Order);
        let table: [(&str, Spoil); 4] = [
            ("the instance's RAM role", |o| o.role = "a,b".into()),
            ("snapshot.name", |o| o.name = "a b".into()),
            ("targets.excludeDiskIds", |o| o.exclude = Some("d-1,d-2".into())),
            ("linux.preScriptPath", |o| {
                if let Os::Linux { pre, .. } = &mut o.os {
                    *pre = Some("/a,b".into());
                }
            }),
        ];
        for (field, spoil) in table {
            let mut order = linux();
            spoil(&mut order);
            let error = render(&order).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(render(&linux()).unwrap().len() < crate::guest::render::LIMIT);
    }

    #[test]
    fn windows_is_asked_with_the_documented_parameters() {
        let text = render(&Order { os: Os::Windows { writers: false }, ..linux() }).unwrap();
        let text = String::from_utf8(text).unwrap();
        let params = "'--RamRoleName=snap,-EnableWriters=false,-ExcludeDiskId=d-9,-Name=appsnap-orders-a-1'";
        assert!(text.contains(params) && text.contains("\"--params=$params\""), "{text}");
    }

    #[test]
    fn every_exit_code_of_the_manager_has_its_row() {
        let codes: Vec<i64> = EXITS.iter().map(|exit| exit.code).collect();
        assert_eq!(codes, (232..=247).collect::<Vec<_>>());
        let reasons: std::collections::BTreeSet<_> = EXITS.iter().map(|exit| exit.reason).collect();
        assert_eq!(reasons.len(), EXITS.len());
        assert_eq!((exit_of(240).unwrap().name, exit_of(3).is_none()), ("DOWNLOAD_FAIL", true));
    }

    #[test]
    fn the_last_line_is_read_if_it_is_of_this_attempt() {
        let line = r#"{"appsnap-plugin":"1","run":"a-1","phase":"done","exit":"3","thawed":"1","reason":["script.mode /tmp/x has mode 755"]}"#;
        let told = PluginTold::read(&format!("noise\n{line}\r\n"), "a-1").unwrap();
        assert_eq!((told.exit(), told.thawed_by_guard()), (Some(3), true));
        assert_eq!(told.reasons().collect::<Vec<_>>(), [("script.mode", "/tmp/x has mode 755")]);
        assert_eq!(PluginTold::read(line, "a-2"), None);
        assert_eq!(PluginTold::read(&line[..40], "a-1"), None);
    }
}
