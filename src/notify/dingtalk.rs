//! DingTalk's custom robots: Markdown, signed in the query.
//!
//! Source: <https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages> and the error codes beside it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::json;

use super::answer::{Again, Meaning};
use super::message::{Line, Message};
use super::signature::hmac;
use super::target::Post;
use crate::secret::Secret;

/// Bytes of a body (code 460101 above).
const LIMIT: usize = 20_000;
/// How long a robot is blocked that was sent more than 20 messages in a minute.
const BLOCKED: Duration = Duration::from_secs(600);

pub(super) fn post(mut url: Url, secret: Option<&Secret>, message: &Message, now: Timestamp) -> Post {
    if let Some(secret) = secret {
        let timestamp = now.as_millisecond();
        let sign = sign(secret, timestamp);
        url.query_pairs_mut().append_pair("timestamp", &timestamp.to_string()).append_pair("sign", &sign);
    }
    let body = message.fitting(LIMIT, |lines| {
        let markdown = json!({ "title": message.title, "text": text(&message.title, lines) });
        json!({ "msgtype": "markdown", "markdown": markdown }).to_string()
    });
    Post { url, headers: Vec::new(), body }
}

/// `timestamp` in milliseconds, which the robot takes for an hour.
fn sign(secret: &Secret, timestamp: i64) -> String {
    let secret = secret.expose();
    hmac(secret.as_bytes(), format!("{timestamp}\n{secret}").as_bytes())
}

fn text(title: &str, lines: &[Line]) -> String {
    let line = |line: &Line| format!("- **{}:** {}\n", line.label, escaped(&line.text));
    format!("#### {}\n\n{}", escaped(title), lines.iter().map(line).collect::<String>())
}

/// What is Markdown within a line; what is so at its start only never stands there.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\`*_[]<>~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

pub(super) fn meaning(code: i64, said: &str) -> Meaning {
    let says = |words: &[&str]| words.iter().any(|word| said.to_lowercase().contains(word));
    let never = |cure| Meaning { again: Again::Never, cure };
    match code {
        -1 => Meaning { again: Again::Soon, cure: "DingTalk is busy; nothing to do if this stays rare" },
        130101 | 410100 => Meaning {
            again: Again::After(BLOCKED),
            cure: "a robot takes 20 messages a minute and is blocked for ten after that: name fewer statuses in `on`, \
                   or use a robot of its own",
        },
        310000 if says(&["keyword", "关键词"]) => {
            never("the robot asks for a keyword: add `appsnap` to its keywords, which every message holds")
        }
        310000 if says(&["whitelist", "白名单"]) => never(
            "the robot takes only listed addresses, and a function has a fixed one only behind a NAT gateway: list \
             that, or secure the robot by signature",
        ),
        310000 if says(&["sign", "签名"]) => never(
            "`secret` is not this robot's: copy it from the robot's security settings (it starts with SEC)",
        ),
        310000 => never("the robot's security settings refuse it: compare `secret`, keywords and addresses"),
        300001 | 300005 | 400101 | 400106 | 40035 => {
            never("the access_token in `url` is not known: copy the robot's webhook address again")
        }
        400013 | 400102 => never("the robot was stopped or its group dissolved: set one up again"),
        _ => never("see DingTalk's list of error codes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{degraded, message};
    use super::*;

    #[test]
    fn the_signature_is_the_robots() {
        let sign = sign(&Secret::new("SECtest"), 1_700_000_000_000);
        assert_eq!(sign, "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g=");
    }

    #[test]
    fn the_message_is_this() {
        let now = Timestamp::from_millisecond(1_700_000_000_000).unwrap();
        let url: Url = "https://oapi.dingtalk.com/robot/send?access_token=T".parse().unwrap();
        let post = post(url, Some(&Secret::new("SECtest")), &message(degraded()), now);
        assert_eq!(
            post.url.as_str(),
            "https://oapi.dingtalk.com/robot/send?access_token=T&timestamp=1700000000000\
             &sign=aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g%3D"
        );
        let text = r"#### appsnap: orders-db degraded, crash

- **Instance:** i-1 in cn-hangzhou
- **Disks:** d-1, d-2
- **Level:** crash, wanted application
- **Copy:** ssg-1, 2 snapshots, frozen for 607 ms
- **Step:** guest.freeze failed: 1 of 2 thawed by us
- **Why:** fs.not\_quiet: d-2: something that cannot be frozen was written: \<b\>/srv/a\_b\</b\> \*vfat\* # see
- **Cure:** leave its disk out, or stop the writer in the prescript
- **Why:** script.mode: a script's mode is not 0700: \`/tmp/\[x\](y)\` has mode 0755
- **Cure:** chmod 0700 the script
- **Next:** the copy restores as after a power failure; with the causes mended, the next run reaches more
- **Run:** r-74b05ade85c6bfc0 at 2026-11-22 03:00:01 UTC, timer nightly@2026-11-22T03:00:00Z
";
        let title = "appsnap: orders-db degraded, crash";
        let body = json!({ "msgtype": "markdown", "markdown": { "title": title, "text": text } });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&post.body).unwrap(), body);
    }

    #[test]
    fn one_code_has_several_meanings_and_each_its_cure() {
        let table = [
            (310000, "keywords not in content", "add `appsnap` to its keywords"),
            (310000, "sign not match", "`secret` is not this robot's"),
            (310000, "ip 1.2.3.4 not in whitelist", "NAT gateway"),
            (310000, "描述:关键词不匹配", "add `appsnap` to its keywords"),
            (310000, "", "compare `secret`, keywords and addresses"),
            (300005, "token is not exist", "copy the robot's webhook address again"),
            (999, "", "DingTalk's list of error codes"),
        ];
        for (code, said, cure) in table {
            let meaning = meaning(code, said);
            assert!(
                meaning.cure.contains(cure) && meaning.again == Again::Never,
                "{code} {said}: {}",
                meaning.cure
            );
        }
        assert_eq!(meaning(130101, "send too fast").again, Again::After(BLOCKED));
        assert_eq!(meaning(-1, "system busy").again, Again::Soon);
    }
}
