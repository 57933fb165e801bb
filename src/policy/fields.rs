//! A strict walk over JSON: every field is checked against its section's table, every problem is kept
//! with the path of its field.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::report::ErrorReport;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, e.g. `linux.timeoutInSeconds` or `notify[0].url`; empty for the whole document.
    pub path: String,
    /// What is wrong and what would be right; never the value of a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "request" } else { &self.path };
        write!(f, "{path}: {}", self.message)
    }
}

/// Everything that is wrong with a request, in the order of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<Problem>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl From<&Invalid> for ErrorReport {
    fn from(invalid: &Invalid) -> Self {
        ErrorReport {
            code: "InvalidRequest".into(),
            message: invalid.to_string(),
            cure: Some("correct the fields named; nothing was touched".into()),
            ..Default::default()
        }
    }
}

/// The fields of one object of the request.
pub(super) struct Section {
    /// Its name in the request; empty for the request itself.
    pub name: &'static str,
    /// What is read today.
    pub due: &'static [&'static str],
    /// What has a place in the contract and is refused until it does something.
    pub later: &'static [&'static str],
}

/// Collects problems while the walk goes on.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub fn add(&self, path: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem { path: path.into(), message: message.into() });
    }

    pub fn finish(self) -> Result<(), Invalid> {
        let problems = self.0.into_inner();
        if problems.is_empty() { Ok(()) } else { Err(Invalid(problems)) }
    }
}

/// One object of the request; an absent one reads as empty, `null` reads as absent.
pub(super) struct Object<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    pub problems: &'a Problems,
}

impl<'a> Object<'a> {
    /// Opens `value` and refuses what the section does not know.
    pub fn open(
        value: Option<&'a Value>,
        path: String,
        section: &Section,
        all: &[&Section],
        problems: &'a Problems,
    ) -> Self {
        let map = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                problems.add(path.as_str(), format!("must be an object, not {}", kind(other)));
                None
            }
        };
        let object = Self { path, map, problems };
        let mut listed = false;
        for name in map.into_iter().flat_map(Map::keys).map(String::as_str) {
            if section.later.contains(&name) {
                object.problem(name, "not supported yet");
            } else if !section.due.contains(&name) {
                let mut text = unknown(name, section, all);
                // What is known is listed once: some slips in one request would bury themselves in it.
                if let Some((alone, _)) = text.split_once(", known are: ") {
                    text = if std::mem::replace(&mut listed, true) { alone.to_owned() } else { text };
                }
                object.problem(&shown(name), text);
            }
        }
        object
    }

    pub fn field_path(&self, field: &str) -> String {
        if self.path.is_empty() { field.into() } else { format!("{}.{field}", self.path) }
    }

    pub fn problem(&self, field: &str, message: impl Into<String>) {
        self.problems.add(self.field_path(field), message);
    }

    pub fn value(&self, field: &str) -> Option<&'a Value> {
        self.map.and_then(|map| map.get(field)).filter(|value| !value.is_null())
    }

    pub fn text(&self, field: &str) -> Option<&'a str> {
        let value = self.value(field)?;
        if value.as_str().is_none() {
            self.problem(field, format!("must be a string, not {}", kind(value)));
        }
        value.as_str()
    }

    /// A string that has to pass `check`, whose error says what would be right.
    pub fn checked(&self, field: &str, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        let text = self.text(field)?;
        match check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(message) => {
                self.problem(field, message);
                None
            }
        }
    }

    pub fn flag(&self, field: &str, default: bool) -> bool {
        let Some(value) = self.value(field) else { return default };
        if !value.is_boolean() {
            self.problem(field, format!("must be true or false, not {}", kind(value)));
        }
        value.as_bool().unwrap_or(default)
    }

    /// A switch that can only be off for now.
    pub fn off(&self, field: &str) {
        if self.flag(field, false) {
            self.problem(field, "not supported yet: true (leave it out, or false)");
        }
    }

    /// Whole seconds.
    pub fn seconds(&self, field: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.number(field, default, range, "a whole number of seconds")
    }

    /// A whole number; `what` says so where it is none.
    pub fn number(&self, field: &str, default: u64, range: RangeInclusive<u64>, what: &str) -> u64 {
        let Some(value) = self.value(field) else { return default };
        match value.as_u64() {
            Some(number) if range.contains(&number) => number,
            _ => {
                let got = if value.is_number() { value.to_string() } else { kind(value).to_owned() };
                let (from, to) = (range.start(), range.end());
                self.problem(field, format!("must be {what} from {from} to {to}, not {got}"));
                default
            }
        }
    }

    /// One of the words of `table`; those without a meaning are known but not due.
    pub fn word<T: Copy>(&self, field: &str, default: T, table: &[(&str, Option<T>)]) -> T {
        let Some(text) = self.text(field) else { return default };
        one_of(text, table).unwrap_or_else(|message| {
            self.problem(field, message);
            default
        })
    }

    /// A list; anything else is a problem and reads as empty.
    pub fn list(&self, field: &str) -> &'a [Value] {
        match self.value(field) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.problem(field, format!("must be a list, not {}", kind(other)));
                &[]
            }
        }
    }
}

/// The meaning of a word, or what would be right.
pub(super) fn one_of<T: Copy>(text: &str, table: &[(&str, Option<T>)]) -> Result<T, String> {
    let due = || table.iter().filter(|row| row.1.is_some()).map(|row| row.0).collect::<Vec<_>>().join(", ");
    match table.iter().find(|row| row.0 == text) {
        Some((_, Some(meaning))) => Ok(*meaning),
        Some((word, None)) => Err(format!("not supported yet: {word} (today: {})", due())),
        None => Err(format!("unknown word {}, expected one of: {}", quoted(text), due())),
    }
}

/// A value from the user as it may stand in a message: one line, cut short.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    format!("{short:?}{}", if short.len() < text.len() { "…" } else { "" })
}

/// A field's name as it may stand in a path.
fn shown(name: &str) -> String {
    let plain = name.len() <= 60 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if plain && !name.is_empty() { name.to_owned() } else { quoted(name) }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn unknown(name: &str, section: &Section, all: &[&Section]) -> String {
    let names = || section.due.iter().chain(section.later).copied();
    let near = names()
        .map(|known| (distance(&name.to_lowercase(), &known.to_lowercase()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len() / 2);
    let elsewhere = || all.iter().find(|other| other.due.contains(&name) && other.name != section.name);
    match (near, elsewhere()) {
        (Some((_, known)), _) => format!("unknown field, did you mean {known}?"),
        (None, Some(Section { name: "", .. })) => "unknown field here, it belongs at the top level".into(),
        (None, Some(other)) => format!("unknown field, did you mean {}.{name}?", other.name),
        (None, None) if section.due.is_empty() => "unknown field".into(),
        (None, None) => format!("unknown field, known are: {}", section.due.join(", ")),
    }
}

/// Levenshtein's distance; names longer than 40 characters are never near.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    if a.len() > 40 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn a_long_value_is_cut_and_kept_on_one_line() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert!(quoted(&"x".repeat(500)).len() < 70);
    }
}
