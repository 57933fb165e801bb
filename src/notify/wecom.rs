//! WeCom's group robots: a small subset of Markdown. There is no signature: the key is in the address.
//!
//! Source: <https://developer.work.weixin.qq.com/document/path/91770>

use std::time::Duration;

use reqwest::Url;
use serde_json::json;

use super::answer::{Again, Meaning};
use super::message::{Line, Message, Tone};
use super::target::Post;

/// Bytes of `markdown.content` (code 40058 above).
const LIMIT: usize = 4096;

pub(super) fn post(url: Url, message: &Message) -> Post {
    // There are three colors.
    let color = match message.tone {
        Tone::Good => "info",
        Tone::Neutral => "comment",
        Tone::Warning | Tone::Bad => "warning",
    };
    let content = message.fitting(LIMIT, |lines| text(color, &message.title, lines));
    let body = json!({ "msgtype": "markdown", "markdown": { "content": content } }).to_string();
    Post { url, headers: Vec::new(), body }
}

fn text(color: &str, title: &str, lines: &[Line]) -> String {
    let title = format!("### <font color=\"{color}\">{}</font>", harmless(title));
    let lines = lines.iter().map(|line| format!("\n**{}:** {}", line.label, harmless(&line.text)));
    lines.fold(title, |all, line| all + &line)
}

/// This Markdown has no way to escape: what would be markup (or a mention, `<@…>`) becomes a look-alike. Underscores
/// are not markup here and stay, so that codes and paths can be copied.
fn harmless(text: &str) -> String {
    let alike = |c: char| match c {
        '<' => '‹',
        '>' => '›',
        '*' => '∗',
        '`' => '\'',
        '[' => '［',
        ']' => '］',
        other => other,
    };
    text.chars().map(alike).collect()
}

pub(super) fn meaning(code: i64, _: &str) -> Meaning {
    let never = |cure| Meaning { again: Again::Never, cure };
    match code {
        -1 => Meaning { again: Again::Soon, cure: "WeCom is busy; nothing to do if this stays rare" },
        45009 => Meaning {
            again: Again::After(Duration::from_secs(60)),
            cure: "a robot takes 20 messages a minute: name fewer statuses in `on`, or use a robot of its own",
        },
        93000 => never("the key in `url` is not known: copy the robot's webhook address again"),
        40058 => never("WeCom did not understand the message, or it was too large: report this"),
        _ => never("look the code up at https://open.work.weixin.qq.com/devtool/query"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{degraded, message};
    use super::*;

    #[test]
    fn the_message_is_this() {
        let url: Url = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=K".parse().unwrap();
        let post = post(url.clone(), &message(degraded()));
        assert_eq!(post.url, url);
        let content = "### <font color=\"warning\">appsnap: orders-db degraded, crash</font>
**Instance:** i-1 in cn-hangzhou
**Disks:** d-1, d-2
**Level:** crash, wanted application
**Copy:** ssg-1, 2 snapshots, frozen for 607 ms
**Step:** guest.freeze failed: 1 of 2 thawed by us
**Why:** fs.not_quiet: d-2: something that cannot be frozen was written: ‹b›/srv/a_b‹/b› ∗vfat∗ # see
**Cure:** leave its disk out, or stop the writer in the prescript
**Why:** script.mode: a script's mode is not 0700: '/tmp/［x］(y)' has mode 0755
**Cure:** chmod 0700 the script
**Next:** the copy restores as after a power failure; with the causes mended, the next run reaches more
**Run:** r-74b05ade85c6bfc0 at 2026-11-22 03:00:01 UTC, timer nightly@2026-11-22T03:00:00Z";
        let body = json!({ "msgtype": "markdown", "markdown": { "content": content } });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&post.body).unwrap(), body);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let mut report = degraded();
        let unit = report["units"][0].clone();
        report["units"] = vec![unit; 20].into();
        for unit in report["units"].as_array_mut().unwrap() {
            unit["findings"][0]["message"] = "快".repeat(400).into();
        }
        let body = post("https://w.example/".parse().unwrap(), &message(report)).body;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let content = body["markdown"]["content"].as_str().unwrap();
        assert!((3000..=LIMIT).contains(&content.len()), "{}", content.len());
        let [out, run] = content.lines().collect::<Vec<_>>()[content.lines().count() - 2..] else { panic!() };
        assert!(out.starts_with("**Left out:** ") && out.contains("more lines"), "{out}");
        assert!(run.starts_with("**Run:** r-74b05ade85c6bfc0"), "{run}");
    }

    #[test]
    fn codes_have_cures_and_only_throttling_passes() {
        for (code, cure) in [
            (93000, "webhook address again"),
            (40058, "report this"),
            (45033, "https://open.work.weixin.qq.com/devtool/query"),
        ] {
            let meaning = meaning(code, "");
            assert!(meaning.cure.contains(cure) && meaning.again == Again::Never, "{code}: {}", meaning.cure);
        }
        assert_eq!(meaning(45009, "").again, Again::After(Duration::from_secs(60)));
    }
}
