//! The pinned mode: the three commands are registered once, by the operator; a run only sends values to them.
//!
//! Cloud Assistant puts a value into the text as it is, without quoting. So the place for it is the very end, behind
//! the last line that a shell comes to: the fixed part reads it back from its own file as data, takes it only if it is
//! one line of Base64, and what is in it only as a list of values, one a line, in a fixed order, each of few characters
//! and of limited length or size. What decides about code (the scripts, the CA, the host) is in the text, not in a value.

use sha2::{Digest, Sha256};

use super::render::{
    Data, PREPARE, Plan, RenderError, SETTLE_BODY, Signed, find_body, go_body, pack, plan_data,
    sequence_sha256, signed_data, strip,
};

/// Most bytes of a registered text with its value: 18 KB of Base64, which is what InvokeCommand takes by its page
/// (RunCommand's says 24 KB by now).
pub const LIMIT: usize = 13_824;
/// Name of the one parameter of each command.
pub const PARAMETER: &str = "values";
const HEAD: &str = include_str!("pinned.sh");

/// What a registered text has fixed, of what a run may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// As in [`Plan`].
    pub pre_script: Option<String>,
    /// As in [`Plan`].
    pub post_script: Option<String>,
    /// As in [`Plan`].
    pub ca_bundle: Option<String>,
    /// The ECS endpoint as the guest reaches it.
    pub host: String,
}

/// A command to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// `find`, `go` or `settle`.
    pub kind: &'static str,
    /// `appsnap-KIND-` and the start of the text's sha256.
    pub name: String,
    /// What is registered; its only parameter is [`PARAMETER`].
    pub text: String,
}

/// A value of the list: name of its variable, its characters as a bracket expression, its greatest length. Of
/// [`NUMBER`] it is the greatest number. Only `FAST` and `TOKEN` may be empty.
type Field = (&'static str, &'static str, u64);

const NUMBER: &str = "0-9";
const RUN: Field = ("RUN", "a-f0-9-", 40); // and `a-` in front: it becomes a directory's name
const FIND: [Field; 12] = [
    RUN,
    ("POLICY", "a-z0-9-", 40),
    ("DISKS", "A-Za-z0-9 -", 4096),
    ("WANT", "a-z", 11),
    ("MIN", "a-z", 11),
    ("LIMIT", NUMBER, 780),
    ("FREEZE", "01", 1),
    ("WINDOW", NUMBER, 60),
    ("VISTIME", NUMBER, 60),
    ("TOTAL", NUMBER, 1740),
    ("FAST", "1", 1),
    ("THAWON", "a-z", 8),
];
const GO: [Field; 11] = [
    RUN,
    ("KEY", "A-Za-z0-9.", 128),
    ("TOKEN", "A-Za-z0-9+/=._-", 4096),
    ("SIGNED", "a-z0-9;-", 256),
    ("DATE", "0-9TZ:-", 20),
    ("SIGNTIME", NUMBER, 9_999_999_999),
    ("NONCE", "A-Za-z0-9-", 64),
    ("Qc", "A-Za-z0-9%&=._~@-", 16_384),
    ("Qd", "A-Za-z0-9%&=._~@-", 2048),
    ("Sc", "a-f0-9 ", 256),
    ("Sd", "a-f0-9 ", 2048),
];

/// The first command.
pub fn find_command(pins: &Pins) -> Result<Command, RenderError> {
    let mut data = Data::default();
    data.set("PRE", pins.pre_script.as_deref().unwrap_or_default())?;
    data.set("POST", pins.post_script.as_deref().unwrap_or_default())?;
    data.set("CA", pins.ca_bundle.as_deref().unwrap_or_default())?;
    data.set("SEQUENCE", &sequence_sha256())?;
    command("find", &FIND, &data, &find_body(OUT))
}

/// The second command.
pub fn go_command(pins: &Pins) -> Result<Command, RenderError> {
    let mut data = Data::default();
    data.set("HOST", &pins.host)?;
    let same = format!(
        "[ ! -e $d/data ] || grep -qx \"SEQUENCE='{}'\" $d/data || e 'pinned.mixed the first command was of another version'\n",
        sequence_sha256()
    );
    command("go", &GO, &data, &(same + &go_body(OUT)))
}

/// The command for a lost result.
pub fn settle_command() -> Result<Command, RenderError> {
    command("settle", &[RUN], &Data::default(), SETTLE_BODY)
}

/// What prints the checked values.
const OUT: &str = "printf %s \"$o\"";

fn command(kind: &'static str, fields: &[Field], fixed: &Data, body: &str) -> Result<Command, RenderError> {
    let list: String = fields.iter().map(|(name, class, most)| format!(" '{name}:{class}:{most}'")).collect();
    let (read, fixed) = (strip(HEAD), &fixed.0);
    let head = format!(
        "#!/bin/sh\n# appsnap {kind}, pinned; `appsnap sequence` prints what is packed here. \
         What follows the line #= is data, and never run\n\
         {read}{PREPARE}r\no=\"{fixed}\"\np{list}\nd=/run/appsnap/$a\n"
    );
    let text = format!("{head}{}; exit 1\n#=\n{{{{{PARAMETER}}}}}", body.trim_end());
    // The vendor would take any other pair of braces for a parameter too.
    if text.matches("{{").count() != 1 {
        return Err(RenderError::Unfit { field: "registered text", value: "{{".into() });
    }
    let hash: String = Sha256::digest(&text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Ok(Command { kind, name: format!("appsnap-{kind}-{hash}"), text })
}

/// The first command's value.
pub fn find_value(plan: &Plan) -> Result<String, RenderError> {
    value(&FIND, &plan_data(plan)?)
}

/// The second command's value.
pub fn go_value(attempt: &str, signed: &Signed) -> Result<String, RenderError> {
    let mut data = Data(signed_data(signed)?);
    data.set("RUN", attempt)?;
    value(&GO, &data.0)
}

/// The third command's value.
pub fn settle_value(attempt: &str) -> Result<String, RenderError> {
    let mut data = Data::default();
    data.set("RUN", attempt)?;
    value(&[RUN], &data.0)
}

/// From assignments, by the names of their variables.
fn value(fields: &[Field], data: &str) -> Result<String, RenderError> {
    let mut lines = String::new();
    for field in fields {
        let mut all = data.lines();
        let value = all.find_map(|line| line.strip_prefix(field.0)?.strip_prefix("='")?.strip_suffix('\''));
        let value = value.unwrap_or_default();
        if !fits(field, value) {
            return Err(RenderError::unfit(field.0, value));
        }
        lines += value;
        lines.push('\n');
    }
    Ok(pack(lines.trim_end_matches('\n')))
}

/// What `p` decides in the guest.
fn fits((name, class, most): &Field, value: &str) -> bool {
    let chars: Vec<char> = class.chars().collect();
    let within = |c: char| match c {
        '-' => class.ends_with('-'),
        _ => chars.contains(&c) || chars.windows(3).any(|w| w[1] == '-' && (w[0]..=w[2]).contains(&c)),
    };
    let size = match *class == NUMBER {
        true if value.starts_with('0') => None,
        true => value.parse().ok(),
        false => Some(value.len() as u64),
    };
    value.chars().all(within)
        && size.is_some_and(|size| size <= *most)
        && (!value.is_empty() || ["FAST", "TOKEN"].contains(name))
        && (*name != "RUN" || value.starts_with("a-"))
}

/// Whether a command with its value is within the vendor's limit.
///
/// # Errors
/// [`RenderError::TooLarge`].
pub fn check_size(command: &Command, value: &str) -> Result<(), RenderError> {
    match command.text.len() - PARAMETER.len() - 4 + value.len() {
        size if size > LIMIT => Err(RenderError::TooLarge { command: command.kind, size, limit: LIMIT }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "pinned_tests.rs"]
mod tests;
