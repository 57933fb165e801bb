//! Custom bots of Feishu (and Lark): a card of plain text, signed in the body.
//!
//! Source: <https://open.feishu.cn/document/ukTMukTMukTM/ucTM5YjL3ETO24yNxkjN>

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::json;

use super::answer::{Again, Meaning};
use super::message::{Line, Message, Tone};
use super::signature::hmac;
use super::target::Post;
use crate::secret::Secret;

/// Bytes of a body: "20 KB".
const LIMIT: usize = 20_000;
/// Full and half hours are when Feishu throttles (11232) and asks to keep away; these seconds of them are left out.
const CROWDED: i64 = 10;

pub(super) fn post(url: Url, secret: Option<&Secret>, message: &Message, now: Timestamp) -> Post {
    let timestamp = now.as_second();
    let color = match message.tone {
        Tone::Good => "green",
        Tone::Neutral => "grey",
        Tone::Warning => "orange",
        Tone::Bad => "red",
    };
    let body = message.fitting(LIMIT, |lines| {
        // Plain text: nothing in it is markup, so nothing has to be escaped.
        let card = json!({
            "config": { "wide_screen_mode": true },
            "header": { "template": color, "title": { "tag": "plain_text", "content": message.title } },
            "elements": [{ "tag": "div", "text": { "tag": "plain_text", "content": text(lines) } }],
        });
        let mut body = json!({ "msg_type": "interactive", "card": card });
        if let Some(secret) = secret {
            body["timestamp"] = json!(timestamp.to_string());
            body["sign"] = json!(sign(secret, timestamp));
        }
        body.to_string()
    });
    Post { url, headers: Vec::new(), body }
}

/// `timestamp` in seconds, which the bot takes for an hour. The other way round than DingTalk's: the key is the text,
/// and the message is empty.
fn sign(secret: &Secret, timestamp: i64) -> String {
    hmac(format!("{timestamp}\n{}", secret.expose()).as_bytes(), b"")
}

fn text(lines: &[Line]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| format!("{}: {}", line.label, line.text)).collect();
    lines.join("\n")
}

/// How long a message waits at a full or half hour; `jitter` in 0..1.
pub(super) fn put_off(now: Timestamp, jitter: f64) -> Duration {
    let since = now.as_second().rem_euclid(1800);
    if since >= CROWDED {
        return Duration::ZERO;
    }
    Duration::from_secs((CROWDED - since).unsigned_abs()) + Duration::from_secs(5).mul_f64(jitter)
}

pub(super) fn meaning(code: i64, said: &str) -> Meaning {
    let never = |cure| Meaning { again: Again::Never, cure };
    match code {
        11232 => throttled(),
        9499 if said.to_lowercase().contains("too many") => throttled(),
        9499 | 19036 => never("Feishu did not understand the message, or it was too large: report this"),
        19001 => never("the token in `url` is not known: copy the bot's webhook address again"),
        19007 => never("the bot is switched off: enable it in the group's settings"),
        19021 => never("`secret` is not this bot's: copy it from the bot's security settings"),
        19022 => never(
            "the bot takes only listed addresses, and a function has a fixed one only behind a NAT gateway: list that, \
             or secure the bot by signature",
        ),
        19024 => {
            never("the bot asks for a keyword: add `appsnap` to its keywords, which every message holds")
        }
        _ => never("see Feishu's list of error codes"),
    }
}

/// 5 messages a second, 100 a minute, or Feishu's own load.
fn throttled() -> Meaning {
    Meaning {
        again: Again::After(Duration::from_secs(10)),
        cure: "Feishu throttles: name fewer statuses in `on`, or let the timer tick off the full and half hour",
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{degraded, message};
    use super::*;

    #[test]
    fn the_signature_is_the_bots() {
        let sign = sign(&Secret::new("SECtest"), 1_700_000_000);
        assert_eq!(sign, "G7XpBpG8NgG02fJOAhX6FRAObIljmFoxVReo8I62pEk=");
    }

    #[test]
    fn the_message_is_this() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let url: Url = "https://open.feishu.cn/open-apis/bot/v2/hook/T".parse().unwrap();
        let post = post(url.clone(), Some(&Secret::new("SECtest")), &message(degraded()), now);
        assert_eq!(post.url, url);
        let text = "Instance: i-1 in cn-hangzhou
Disks: d-1, d-2
Level: crash, wanted application
Copy: ssg-1, 2 snapshots, frozen for 607 ms
Step: guest.freeze failed: 1 of 2 thawed by us
Why: fs.not_quiet: d-2: something that cannot be frozen was written: <b>/srv/a_b</b> *vfat* # see
Cure: leave its disk out, or stop the writer in the prescript
Why: script.mode: a script's mode is not 0700: `/tmp/[x](y)` has mode 0755
Cure: chmod 0700 the script
Next: the copy restores as after a power failure; with the causes mended, the next run reaches more
Run: r-74b05ade85c6bfc0 at 2026-11-22 03:00:01 UTC, timer nightly@2026-11-22T03:00:00Z";
        let body = json!({
            "timestamp": "1700000000", "sign": "G7XpBpG8NgG02fJOAhX6FRAObIljmFoxVReo8I62pEk=",
            "msg_type": "interactive",
            "card": {
                "config": { "wide_screen_mode": true },
                "header": { "template": "orange",
                            "title": { "tag": "plain_text", "content": "appsnap: orders-db degraded, crash" } },
                "elements": [{ "tag": "div", "text": { "tag": "plain_text", "content": text } }],
            },
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&post.body).unwrap(), body);
    }

    #[test]
    fn a_message_keeps_away_from_the_full_and_half_hour() {
        let table = [
            ("02:59:59", 0, 0),
            ("03:00:00", 10, 15),
            ("03:00:04", 6, 11),
            ("03:00:10", 0, 0),
            ("03:30:09", 1, 6),
            ("03:15:00", 0, 0),
        ];
        for (time, least, most) in table {
            let now: Timestamp = format!("2026-11-22T{time}Z").parse().unwrap();
            let waits = [put_off(now, 0.0), put_off(now, 1.0)].map(|wait| wait.as_secs());
            assert_eq!(waits, [least, most], "{time}");
        }
    }

    #[test]
    fn codes_have_cures_and_only_throttling_passes() {
        for (code, said, cure) in [
            (
                19021,
                "sign match fail or timestamp is not within one hour from current time",
                "`secret` is not",
            ),
            (19022, "Ip Not Allowed", "NAT gateway"),
            (19024, "Key Words Not Found", "add `appsnap` to its keywords"),
            (19001, "param invalid: incoming webhook access token invalid", "webhook address again"),
            (9499, "Bad Request", "report this"),
            (7, "", "Feishu's list of error codes"),
        ] {
            let meaning = meaning(code, said);
            assert!(meaning.cure.contains(cure) && meaning.again == Again::Never, "{code}: {}", meaning.cure);
        }
        for (code, said) in [(11232, "frequency limited"), (9499, "too many request")] {
            assert_ne!(meaning(code, said).again, Again::Never, "{code}");
        }
    }
}
