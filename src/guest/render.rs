//! Renders the three guest commands. Comments stay in the source; what is sent is stripped and packed, since
//! RunCommand takes 16 KB of Base64 by its oldest documentation (24 KB by its newest).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use crate::report::Level;

/// Most bytes of a rendered command: 16 KB once it is Base64.
pub const LIMIT: usize = 12_000;

pub(super) const FIND: &str = include_str!("find.sh");
pub(super) const COMMON: &str = include_str!("common.sh");
const SCRIPTS: &str = include_str!("scripts.sh");
const WATCHDOG: &str = include_str!("watchdog.sh");
pub(super) const CLOUD: &str = include_str!("cloud.sh");
const SEQUENCE: &str = include_str!("sequence.sh");

/// When the guest may thaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThawOn {
    /// When the group shows all disks.
    Visible,
    /// When the create call was answered.
    Accepted,
}

/// What the guest is to do; all of it comes from the request and the survey.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Id of this attempt: `[A-Za-z0-9_-]`, also the name of its directory below `/run/appsnap`.
    pub attempt: String,
    /// The policy's name, for the scripts.
    pub policy: String,
    /// `d-…`
    pub disks: Vec<String>,
    /// The wanted level: scripts run for `application` only.
    pub want: Level,
    /// Below this level the sequence stops before it touches anything.
    pub minimum: Level,
    /// Path of the prescript; `None`: `/etc/appsnap/prescript.sh` where present, else `/tmp/prescript.sh`.
    pub pre_script: Option<String>,
    /// As `pre_script`.
    pub post_script: Option<String>,
    /// Limit of each script, seconds.
    pub script_timeout: u32,
    /// Whether file systems are frozen.
    pub freeze: bool,
    /// The freeze window, seconds.
    pub window: u32,
    /// See [`ThawOn`].
    pub thaw_on: ThawOn,
    /// How long the group is looked for inside the window, seconds.
    pub visible: u32,
    /// CA bundle in the guest, where its own trust store does not do.
    pub ca_bundle: Option<String>,
    /// Sets `rcu_expedited` around the window.
    pub fast_freeze: bool,
}

/// Requests signed ahead: they carry no secret, are good for 15 minutes, and differ in nonce and signature only.
#[derive(Debug, Clone)]
pub struct Signed {
    /// `host` or `host:port`, as signed.
    pub host: String,
    /// AccessKeyId of the narrowed session.
    pub access_key_id: String,
    /// Its security token (useless without the secret); empty for a long-lived key.
    pub security_token: String,
    /// Names of the signed headers, `;` between.
    pub signed_headers: String,
    /// `x-acs-date`.
    pub date: String,
    /// The same, in seconds since 1970.
    pub date_seconds: i64,
    /// Nonces are `PREFIX-c1`, `PREFIX-c2`, … for creates and `PREFIX-d1`, … for describes.
    pub nonce: String,
    /// Canonical query of CreateSnapshotGroup.
    pub create_query: String,
    /// Canonical query of DescribeSnapshotGroups.
    pub describe_query: String,
    /// Signatures (hex) of the creates.
    pub creates: Vec<String>,
    /// Signatures (hex) of the describes; the first is the warm-up's.
    pub describes: Vec<String>,
}

/// Why a command cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The command would not fit.
    #[error("the {command} command takes {size} bytes, {limit} is the limit: choose fewer disks")]
    TooLarge {
        /// Which.
        command: &'static str,
        /// Its size.
        size: usize,
        /// Its limit.
        limit: usize,
    },
    /// A value that may not be put into a script, by its characters, its length or its size.
    #[error("{field} is nothing that can be handed to the guest: {value:?}")]
    Unfit {
        /// Which.
        field: &'static str,
        /// The value; a token or a signature is not shown.
        value: String,
    },
}

impl RenderError {
    pub(super) fn unfit(field: &'static str, value: &str) -> Self {
        let value = if ["TOKEN", "Sc", "Sd"].contains(&field) { "<redacted>" } else { value };
        Self::Unfit { field, value: value.into() }
    }
}

/// The sequence as it runs, without comments: what a security team reviews and pins.
pub fn sequence() -> String {
    base() + &rest()
}

/// sha256 (hex) of [`sequence`].
pub fn sequence_sha256() -> String {
    Sha256::digest(sequence()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sequence with its comments, for people.
pub fn commented_sequence() -> String {
    [FIND, SCRIPTS, WATCHDOG, COMMON, CLOUD, SEQUENCE].concat()
}

fn base() -> String {
    [FIND, SCRIPTS, WATCHDOG, COMMON].map(strip).concat()
}

/// What only the second command needs, and therefore brings.
fn rest() -> String {
    [CLOUD, SEQUENCE].map(strip).concat()
}

/// Drops comments, indentation and empty lines. A comment ends a line as ` # …` without a quote, `$` or `}` in it.
pub(super) fn strip(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for line in source.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let code = match line.rfind(" # ") {
            Some(at) if !line[at..].contains(['"', '\'', '$', '}']) => line[..at].trim_end(),
            _ => line,
        };
        out.push_str(code);
        out.push('\n');
    }
    out
}

/// The first command: the sequence goes to tmpfs, looks around and tells.
pub fn find(plan: &Plan) -> Result<Vec<u8>, RenderError> {
    command("find", &plan.attempt, &find_body(&format!("u '{}'", pack(&plan_data(plan)?))))
}

/// The second command: the signed requests, and go; the plan is there since the first.
pub fn go(attempt: &str, signed: &Signed) -> Result<Vec<u8>, RenderError> {
    let data = format!("u '{}'", pack(&signed_data(signed)?));
    command("go", attempt, &go_body(&data))
}

/// The command for a lost result: the kept report, after finishing what the run left.
pub fn settle(attempt: &str) -> Result<Vec<u8>, RenderError> {
    command("settle", attempt, SETTLE_BODY)
}

/// `data` is what prints the plan.
pub(super) fn find_body(data: &str) -> String {
    format!(
        "[ ! -e $d/once ] || e 'busy this attempt has been run here already'\n\
         mkdir -p /run/appsnap && find /run/appsnap -mindepth 1 -maxdepth 1 -mtime +2 ! -name lock -exec rm -rf {{}} + 2>/dev/null\n\
         rm -rf $d; mkdir -p $d || e 'state.space /run/appsnap cannot be written'\n\
         u '{}' >$d/sequence.sh && {data} >$d/data || e 'state.space /run has no room'\n\
         exec sh $d/sequence.sh find $d\n",
        pack(&base())
    )
}

/// `data` is what prints the signed requests.
pub(super) fn go_body(data: &str) -> String {
    format!(
        "[ -s $d/sequence.sh ] || e 'state.absent the guest has been restarted since the first command'\n\
         mkdir $d/once 2>/dev/null || e 'busy this attempt has been run here already'\n\
         u '{}' >$d/rest.sh && {data} >>$d/data || e 'state.space /run has no room'\n\
         exec sh $d/sequence.sh go $d\n",
        pack(&rest())
    )
}

pub(super) const SETTLE_BODY: &str = "[ -s $d/sequence.sh ] || { echo '{\"appsnap\":\"1\",\"phase\":\"absent\"}'; exit 0; }\n\
     exec sh $d/sequence.sh settle $d\n";

/// The command file is deleted where the agent keeps it (the signed request is in it, and it would end up in the
/// snapshot), if it is the agent's own regular file; and what has to be there is looked for.
pub(super) const PREPARE: &str = "case $0 in /usr/local/share/aliyun-assist/work/script/*) [ -f \"$0\" ] && [ ! -L \"$0\" ] && [ \"$(stat -c %u \"$0\")\" = 0 ] && rm -f \"$0\" ;; esac\n\
     for t in stat awk base64 gzip; do command -v $t >/dev/null || e \"tool.missing $t is not installed\"; done\n\
     [ \"$(stat -f -c %T /run)\" = tmpfs ] || e 'state.not_tmpfs /run is not on tmpfs: a frozen disk could not be written to'\n";

/// `e` tells an error as the report would and leaves; `u` unpacks.
pub(super) fn command(name: &'static str, attempt: &str, body: &str) -> Result<Vec<u8>, RenderError> {
    if attempt.is_empty() || !attempt.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(RenderError::Unfit { field: "attempt", value: attempt.into() });
    }
    let text = format!(
        "#!/bin/sh\n# appsnap {name} {attempt}; `appsnap sequence` prints what is packed here\numask 077\nd=/run/appsnap/{attempt}\n\
         u() {{ printf %s \"$1\" | base64 -d | gzip -dc; }}\n\
         e() {{ printf '{{\"appsnap\":\"1\",\"run\":\"{attempt}\",\"phase\":\"refused\",\"reason\":[\"%s\"]}}\\n' \"$1\"; exit 20; }}\n\
         {PREPARE}{body}"
    );
    match text.len() {
        size if size > LIMIT => Err(RenderError::TooLarge { command: name, size, limit: LIMIT }),
        _ => Ok(text.into_bytes()),
    }
}

pub(super) fn plan_data(plan: &Plan) -> Result<String, RenderError> {
    let scripts = if plan.want == Level::Application { plan.script_timeout } else { 0 };
    let mut data = Data::default();
    data.set("RUN", &plan.attempt)?;
    data.set("POLICY", &plan.policy)?;
    data.set("DISKS", &plan.disks.join(" "))?;
    data.set("WANT", plan.want.as_str())?;
    data.set("MIN", plan.minimum.as_str())?;
    data.set("PRE", plan.pre_script.as_deref().unwrap_or_default())?;
    data.set("POST", plan.post_script.as_deref().unwrap_or_default())?;
    data.set("LIMIT", &plan.script_timeout.to_string())?;
    data.set("FREEZE", if plan.freeze { "1" } else { "0" })?;
    data.set("WINDOW", &plan.window.to_string())?;
    data.set("THAWON", if plan.thaw_on == ThawOn::Visible { "visible" } else { "accepted" })?;
    data.set("VISTIME", &plan.visible.to_string())?;
    // The watchdog's own limit for a sequence that is stuck outside of the window.
    data.set("TOTAL", &(2 * scripts + plan.window + 120).to_string())?;
    data.set("CA", plan.ca_bundle.as_deref().unwrap_or_default())?;
    data.set("FAST", if plan.fast_freeze { "1" } else { "" })?;
    data.set("SEQUENCE", &sequence_sha256())?;
    Ok(data.0)
}

pub(super) fn signed_data(signed: &Signed) -> Result<String, RenderError> {
    let mut data = Data::default();
    data.set("HOST", &signed.host)?;
    data.set("KEY", &signed.access_key_id)?;
    data.set("TOKEN", &signed.security_token)?;
    data.set("SIGNED", &signed.signed_headers)?;
    data.set("DATE", &signed.date)?;
    data.set("SIGNTIME", &signed.date_seconds.to_string())?;
    data.set("NONCE", &signed.nonce)?;
    data.set("Qc", &without_disks(&signed.create_query))?;
    data.set("Qd", &signed.describe_query)?;
    data.set("Sc", &signed.creates.join(" "))?;
    data.set("Sd", &signed.describes.join(" "))?;
    Ok(data.0)
}

/// The disks' names are the plan's, in its order, and came with the first command: the guest puts them in again.
fn without_disks(query: &str) -> String {
    let short = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.starts_with("DiskId.") => format!("{key}=@"),
        _ => pair.to_string(),
    };
    query.split('&').map(short).collect::<Vec<_>>().join("&")
}

/// Shell assignments; every value is quoted, and what would also need quoting for curl is refused.
#[derive(Default)]
pub(super) struct Data(pub(super) String);

impl Data {
    pub(super) fn set(&mut self, name: &'static str, value: &str) -> Result<(), RenderError> {
        if value.chars().any(|c| c.is_control() || matches!(c, '\'' | '"' | '\\' | '`' | '$')) {
            return Err(RenderError::unfit(name, value));
        }
        self.0.push_str(&format!("{name}='{value}'\n"));
        Ok(())
    }
}

pub(super) fn pack(text: &str) -> String {
    let mut packed = Vec::new();
    // A Vec takes every write; what was not packed would fail in the guest before it touches anything.
    let done =
        zopfli::compress(zopfli::Options::default(), zopfli::Format::Gzip, text.as_bytes(), &mut packed);
    BASE64.encode(done.map(|()| packed).unwrap_or_default())
}

#[cfg(test)]
#[path = "render_tests.rs"]
pub(crate) mod tests;
