//! Reads what the guest told: one line of JSON, last in the output of a command, each value a string or a list of
//! strings. Nothing here judges; `protect::label` does.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Most bytes of `key=value` that the guest tells of a mark (`common.sh`).
const MARK_LINE: usize = 200;

/// A file system that the guest found on a disk of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// `d-…`
    pub disk_id: String,
    /// `ext4`, `xfs`, …
    pub kind: String,
    /// Where it is known.
    pub uuid: Option<String>,
    /// Mount point (octal escapes as in mountinfo).
    pub mount: String,
}

/// A step with its times in microseconds by the guest's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `find`, `sync`, `prescript`, `connect`, `freeze`, `postscript`.
    pub name: String,
    /// Start, µs.
    pub start: i64,
    /// End, µs.
    pub end: i64,
    /// `ok` or `failed`.
    pub outcome: String,
    /// In words.
    pub detail: String,
}

/// What the guest's freeze came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freeze {
    /// From just before the first freeze to just after the last thaw, µs.
    pub micros: i64,
    /// How many were frozen, by us.
    pub frozen: u32,
    /// How many were thawed by us.
    pub thawed: u32,
    /// How many had to be frozen.
    pub wanted: u32,
}

/// One create that was sent inside the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// Which signed variant: the nonce is `PREFIX-cNUMBER`.
    pub number: u32,
    /// HTTP status; `000`: no answer.
    pub status: String,
    /// The cloud's error code; empty where there was none.
    pub code: String,
}

/// The guest's report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// Attempt it belongs to.
    pub attempt: String,
    /// `found`, `refused`, `busy`, `running`, `done`, `lost` (the sequence died), `idle`, `absent`.
    pub phase: String,
    /// sha256 of the sequence that ran.
    pub sequence: Option<String>,
    /// Code and detail, in the order told.
    pub reasons: Vec<(String, String)>,
    /// As `reasons`, but they lower nothing.
    pub notes: Vec<(String, String)>,
    /// Chosen disks that the guest found.
    pub disks: Vec<String>,
    /// File systems to be frozen.
    pub file_systems: Vec<FileSystem>,
    /// Exit of the prescript: a number or `timeout`; `None`: it did not run.
    pub pre_exit: Option<String>,
    /// As `pre_exit`.
    pub post_exit: Option<String>,
    /// Path and sha256.
    pub pre_script: (Option<String>, Option<String>),
    /// Path and sha256.
    pub post_script: (Option<String>, Option<String>),
    /// The last line that the prescript printed, where a script went wrong.
    pub pre_said: Option<String>,
    /// As `pre_said`.
    pub post_said: Option<String>,
    /// HTTP status and `Date` of the read just before the freeze.
    pub warm: Option<(String, String)>,
    /// The freeze.
    pub freeze: Option<Freeze>,
    /// HTTP status and RequestId of the create.
    pub created: Option<(String, String)>,
    /// Each create that was sent, in order.
    pub tries: Vec<Try>,
    /// `ssg-…` as the create answered.
    pub group: Option<String>,
    /// Whether the group showed all disks while frozen.
    pub visible: bool,
    /// Whether the watchdog fired.
    pub fired: bool,
    /// µs from letting the request go to its condition.
    pub api_micros: Option<i64>,
    /// µs from the start of the prescript to the end of the postscript.
    pub quiesced_micros: Option<i64>,
    /// Whether the guest's `date` knows nanoseconds; else its figures step by 10 ms.
    pub fine_clock: bool,
    /// Marks of the scripts.
    pub marks: BTreeMap<String, String>,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Told {
    /// Reads the last report line of an output; `None` when there is none (cut, lost, not ours).
    pub fn read(output: &str) -> Option<Told> {
        let line = output.lines().rev().find(|line| line.starts_with("{\"appsnap\":"))?;
        let line = without_token(line);
        let Value::Object(map) = serde_json::from_str(&line).ok()? else { return None };
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_string);
        let words =
            |key: &str| -> Option<Vec<i64>> { text(key)?.split(' ').map(|word| word.parse().ok()).collect() };
        let list = |key: &str| -> Vec<String> {
            let items = map.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(Value::as_str).map(str::to_string).collect()
        };
        let pairs = |key: &str| -> Vec<(String, String)> { list(key).iter().map(|item| cut(item)).collect() };
        let freeze = words("freeze").and_then(|w| match w[..] {
            [start, end, frozen, thawed, wanted] => Some(Freeze {
                micros: end.saturating_sub(start),
                frozen: u32::try_from(frozen).ok()?,
                thawed: u32::try_from(thawed).ok()?,
                wanted: u32::try_from(wanted).ok()?,
            }),
            _ => None,
        });
        Some(Told {
            attempt: text("run").unwrap_or_default(),
            phase: text("phase")?,
            sequence: text("sequence"),
            reasons: pairs("reason"),
            notes: pairs("note"),
            disks: pairs("disk").into_iter().map(|(id, _)| id).collect(),
            file_systems: list("fs").iter().filter_map(|item| file_system(item)).collect(),
            pre_exit: text("pre.exit"),
            post_exit: text("post.exit"),
            pre_script: (text("pre.path"), text("pre.sha256")),
            post_script: (text("post.path"), text("post.sha256")),
            pre_said: text("pre.tail").and_then(|tail| last_line(&tail)),
            post_said: text("post.tail").and_then(|tail| last_line(&tail)),
            warm: text("warm").map(|value| cut(&value)),
            freeze,
            created: text("created").map(|value| cut(&value)),
            tries: list("try").iter().filter_map(|item| tried(item)).collect(),
            group: text("group").filter(|id| id.starts_with("ssg-")),
            visible: text("visible").as_deref() == Some("1"),
            fired: text("fired").as_deref() == Some("1"),
            api_micros: text("api").and_then(|value| value.split(' ').next()?.parse().ok()),
            quiesced_micros: text("quiesced").and_then(|value| value.parse().ok()),
            fine_clock: text("fine").as_deref() == Some("1"),
            marks: list("mark")
                .iter()
                .filter_map(|m| m.split_once('='))
                .map(|(k, v)| (k.trim().into(), mark(k, v)))
                .collect(),
            steps: list("step").iter().filter_map(|item| step(item)).collect(),
        })
    }
}

/// A gateway may quote what it was sent, to say why a signature is wrong; the guest tells its message.
fn without_token(line: &str) -> String {
    let (mut parts, mut clean) = (line.split("x-acs-security-token:"), String::new());
    clean += parts.next().unwrap_or_default();
    for part in parts {
        let token = |c: char| c.is_ascii_alphanumeric() || "+/=%._-".contains(c);
        clean += "x-acs-security-token:<redacted>";
        clean += part.trim_start_matches(' ').trim_start_matches(token);
    }
    clean
}

/// The value of a mark. The guest cuts the line; half a position is none, and has to look like it.
fn mark(key: &str, value: &str) -> String {
    let cut = key.len() + 1 + value.len() >= MARK_LINE;
    format!("{}{}", value.trim(), if cut { "…" } else { "" })
}

/// Of a script's output, whose end comes as Base64; what is a mark is told as one.
fn last_line(tail: &str) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(tail).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().rev().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with("appsnap-mark:"))?;
    Some(line.chars().filter(|c| !c.is_control()).take(300).collect())
}

fn cut(item: &str) -> (String, String) {
    let (code, detail) = item.split_once(' ').unwrap_or((item, ""));
    (code.to_string(), detail.trim().to_string())
}

fn tried(item: &str) -> Option<Try> {
    let mut words = item.splitn(3, ' ');
    Some(Try {
        number: words.next()?.parse().ok()?,
        status: words.next()?.into(),
        code: words.next().unwrap_or_default().trim().into(),
    })
}

fn file_system(item: &str) -> Option<FileSystem> {
    let mut words = item.splitn(4, ' ');
    Some(FileSystem {
        disk_id: words.next()?.into(),
        kind: words.next()?.into(),
        uuid: Some(words.next()?.to_string()).filter(|uuid| uuid != "-"),
        mount: words.next()?.into(),
    })
}

fn step(item: &str) -> Option<Step> {
    let mut words = item.splitn(5, ' ');
    Some(Step {
        name: words.next()?.into(),
        start: words.next()?.parse().ok()?,
        end: words.next()?.parse().ok()?,
        outcome: words.next()?.into(),
        detail: words.next().unwrap_or_default().trim().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"appsnap":"1","run":"a1","sequence":"abc","fine":"1","fs":["d-1 ext4 0a-b /data\\0401","d-2 xfs - /x"],"pre.exit":"0","warm":"200 Sun, 22 Nov 2026 16:55:41 GMT","freeze":"1000 4000 2 2 2","api":"450000 0.000774 8","created":"200 R1","try":["1 503 ServiceUnavailable","2 200"],"group":"ssg-1","visible":"1","post.exit":"0","step":["find 1 2 ok ","freeze 5 9 failed 1 of 2"],"reason":["script.mode /tmp/x has mode 0755"],"mark":["lsn=42"],"phase":"done"}"#;

    #[test]
    fn the_last_report_line_is_read_whole() {
        let told = Told::read(&format!("noise\n{LINE}\n")).unwrap();
        assert_eq!((told.attempt.as_str(), told.phase.as_str()), ("a1", "done"));
        assert_eq!(told.freeze, Some(Freeze { micros: 3000, frozen: 2, thawed: 2, wanted: 2 }));
        assert_eq!(told.file_systems[0].mount, "/data\\0401");
        assert_eq!(told.file_systems[1].uuid, None);
        assert_eq!(told.reasons, [("script.mode".into(), "/tmp/x has mode 0755".into())]);
        assert_eq!((told.api_micros, told.visible, told.fired), (Some(450_000), true, false));
        assert_eq!(told.marks["lsn"], "42");
        assert_eq!((told.tries[0].code.as_str(), told.tries[1].number), ("ServiceUnavailable", 2));
        assert_eq!(told.steps[1].outcome, "failed");
    }

    #[test]
    fn figures_that_cannot_be_true_break_nothing() {
        let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
        let lie = LINE.replace("1000 4000 2", &format!("{least} {most} 2"));
        let lie =
            lie.replace("450000 ", &format!("{least} ")).replace("find 1 2", &format!("find {least} {most}"));
        let told = Told::read(&lie).unwrap();
        assert_eq!((told.freeze.unwrap().micros, told.api_micros), (i64::MAX, Some(i64::MIN)));
        assert_eq!((told.steps[0].start, told.steps[0].end), (i64::MIN, i64::MAX));
        for counts in ["-1 2 2", "2 4294967296 2", "2 2 99999999999999999999"] {
            assert_eq!(
                Told::read(&LINE.replace("4000 2 2 2", &format!("4000 {counts}"))).unwrap().freeze,
                None
            );
        }
    }

    #[test]
    fn a_token_that_the_cloud_quotes_is_not_told() {
        let quoted = r"canonical request is: POST\\n/\\nx-acs-security-token:CAIS+a/b==\\nx-acs-version";
        let told = Told::read(&LINE.replace("/tmp/x has mode 0755", quoted)).unwrap();
        let clean = quoted.replace("CAIS+a/b==", "<redacted>").replace(r"\\n", r"\n");
        assert_eq!(told.reasons, [("script.mode".to_owned(), clean)]);
    }

    #[test]
    fn a_cut_or_foreign_output_is_no_report() {
        assert_eq!(Told::read(""), None);
        assert_eq!(Told::read(&LINE[..LINE.len() - 9]), None);
        assert_eq!(Told::read("{\"other\":1}"), None);
    }

    #[test]
    fn a_scripts_last_words_are_its_last_line_that_is_no_mark() {
        let read = |text: &[u8]| {
            let line =
                format!(r#"{{"appsnap":"1","phase":"done","pre.tail":"{}"}}"#, BASE64_STANDARD.encode(text));
            Told::read(&line).unwrap().pre_said
        };
        let text = b"\xbcne\nlast\x1b[0m words\nappsnap-mark: lsn=1\n\n";
        assert_eq!(read(text).as_deref(), Some("last[0m words"));
        assert_eq!((read(b"appsnap-mark: a=1\n"), read(b"")), (None, None));
    }

    #[test]
    fn a_mark_that_the_guest_has_cut_shows_that_it_is() {
        let read = |value: &str| {
            let line = format!(r#"{{"appsnap":"1","phase":"done","mark":["gtid={value}"]}}"#);
            Told::read(&line).unwrap().marks["gtid"].clone()
        };
        assert_eq!(read("a:1-9"), "a:1-9");
        assert_eq!(read(&"x".repeat(194)), "x".repeat(194));
        assert_eq!(read(&"x".repeat(195)), "x".repeat(195) + "…");
        let common = include_str!("common.sh");
        assert!(common.contains(&format!("cut -c1-{MARK_LINE} ")));
    }
}
