//! Who is told, and about what.

use super::fields::{Invalid, Object, Problems, Section, kind, one_of};
use super::secretref::SecretRef;
use super::sections::NOTIFY;
use crate::report::Status;

/// What kind of receiver a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Any receiver of Standard Webhooks: gets the whole report as JSON.
    Webhook,
    /// A custom robot in a DingTalk group.
    DingTalk,
    /// A custom bot in a Feishu (Lark) group.
    Feishu,
    /// A robot in a WeCom group.
    WeCom,
}

impl ChannelKind {
    /// The word in requests and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            ChannelKind::Webhook => "webhook",
            ChannelKind::DingTalk => "dingtalk",
            ChannelKind::Feishu => "feishu",
            ChannelKind::WeCom => "wecom",
        }
    }
}

/// One receiver of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// What it is.
    pub kind: ChannelKind,
    /// The address; a secret too, since the token is in it.
    pub url: SecretRef,
    /// The key of the signature. A webhook always has one (`whsec_` and base64); the robots of DingTalk and Feishu
    /// have one where they are secured by signature, not by keyword or address; those of WeCom never.
    pub secret: Option<SecretRef>,
    /// The statuses that are sent; default failed, degraded, refused and missed.
    pub on: Vec<Status>,
}

const CHANNELS: &[(&str, Option<ChannelKind>)] = &[
    ("webhook", Some(ChannelKind::Webhook)),
    ("dingtalk", Some(ChannelKind::DingTalk)),
    ("feishu", Some(ChannelKind::Feishu)),
    ("wecom", Some(ChannelKind::WeCom)),
    ("slack", None),
    ("teams", None),
    ("eventbridge", None),
];

const STATUSES: &[(&str, Option<Status>)] = &[
    ("succeeded", Some(Status::Succeeded)),
    ("skipped", Some(Status::Skipped)),
    ("pending", Some(Status::Pending)),
    ("degraded", Some(Status::Degraded)),
    ("missed", Some(Status::Missed)),
    ("refused", Some(Status::Refused)),
    ("failed", Some(Status::Failed)),
    ("recovered", None),
];

const DEFAULT_ON: [Status; 4] = [Status::Failed, Status::Degraded, Status::Refused, Status::Missed];
const MAX_CHANNELS: usize = 10;

impl Channel {
    /// The channels of env `APPSNAP_NOTIFY`: a JSON list of the same shape as `notify` in the request.
    pub fn parse_list(json: &str) -> Result<Vec<Self>, Invalid> {
        let problems = Problems::default();
        // The parser's own message tells line and column only, never the text.
        let wrapped = match serde_json::from_str::<serde_json::Value>(json) {
            Ok(list) => serde_json::json!({ "APPSNAP_NOTIFY": list }),
            Err(error) => {
                problems.add("APPSNAP_NOTIFY", format!("not JSON: {error}"));
                serde_json::Value::Null
            }
        };
        let section = Section { name: "environment", due: &["APPSNAP_NOTIFY"], later: &[] };
        let environment = Object::open(Some(&wrapped), String::new(), &section, &[], &problems);
        let channels = parse(&environment, "APPSNAP_NOTIFY");
        problems.finish().map(|()| channels.unwrap_or_default())
    }
}

/// `None` where the list is absent: then the function's default channels are used.
pub(super) fn parse(object: &Object, field: &str) -> Option<Vec<Channel>> {
    object.value(field)?;
    let items = object.list(field);
    if items.len() > MAX_CHANNELS {
        object.problem(field, format!("has {} channels, at most {MAX_CHANNELS} are possible", items.len()));
    }
    let channel = |(i, item)| {
        let place = format!("{}[{i}]", object.field_path(field));
        let channel = Object::open(Some(item), place.clone(), &NOTIFY, &[], object.problems);
        if !item.is_object() {
            if item.is_null() {
                object.problems.add(place, "must be an object, not null");
            }
            return None;
        }
        let kind = kind_of(&channel);
        if channel.value("url").is_none() {
            channel.problem("url", "required: env:NAME");
        }
        match (kind, channel.value("secret").is_some()) {
            (Some(ChannelKind::Webhook), false) => channel.problem("secret", "required: env:NAME"),
            (Some(ChannelKind::WeCom), true) => {
                channel.problem("secret", "WeCom's robots take no signature: the key is in the url")
            }
            _ => {}
        }
        let (url, secret) = (reference(&channel, "url"), reference(&channel, "secret"));
        let on = on(&channel);
        Some(Channel { kind: kind?, url: url?, secret, on })
    };
    Some(items.iter().enumerate().take(MAX_CHANNELS).filter_map(channel).collect())
}

fn kind_of(channel: &Object) -> Option<ChannelKind> {
    let problem = match channel.text("channel").map(|word| one_of(word, CHANNELS)) {
        Some(Ok(kind)) => return Some(kind),
        Some(Err(message)) => message,
        None if channel.value("channel").is_none() => "required: webhook, dingtalk, feishu or wecom".into(),
        None => return None,
    };
    channel.problem("channel", problem);
    None
}

fn reference(channel: &Object, field: &str) -> Option<SecretRef> {
    let reference = SecretRef::parse(channel.text(field)?);
    reference.map_err(|message| channel.problem(field, message)).ok()
}

fn on(channel: &Object) -> Vec<Status> {
    let Some(value) = channel.value("on") else { return DEFAULT_ON.to_vec() };
    if value.as_array().is_some_and(Vec::is_empty) {
        channel.problem("on", "would never be sent: name a status, or leave it out");
    }
    let mut statuses = Vec::new();
    for (i, word) in channel.list("on").iter().enumerate() {
        match word.as_str().map(|word| one_of(word, STATUSES)) {
            Some(Ok(status)) => statuses.push(status),
            Some(Err(message)) => channel.problem(&format!("on[{i}]"), message),
            None => channel.problem(&format!("on[{i}]"), format!("must be a status, not {}", kind(word))),
        }
    }
    statuses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_holds_the_same_shape() {
        let json = r#"[{"channel":"webhook","url":"env:U","secret":"env:S"}]"#;
        let channels = Channel::parse_list(json).unwrap();
        assert_eq!(channels[0].on, DEFAULT_ON);
        assert_eq!(Channel::parse_list("[]"), Ok(vec![]));
    }

    #[test]
    fn a_robot_may_go_without_a_signature_and_a_webhook_may_not() {
        for (word, kind) in CHANNELS.iter().filter_map(|(word, kind)| Some((word, (*kind)?))) {
            assert_eq!(kind.as_str(), *word);
            let parsed = Channel::parse_list(&format!(r#"[{{"channel":"{word}","url":"env:U"}}]"#));
            assert_eq!(parsed.is_ok(), kind != ChannelKind::Webhook, "{parsed:?}");
            for channel in parsed.into_iter().flatten() {
                assert_eq!((channel.kind, channel.secret), (kind, None));
            }
        }
    }

    #[test]
    fn every_channel_problem_is_named_and_no_literal_is_repeated() {
        let table = [
            ("{", "APPSNAP_NOTIFY: not JSON"),
            ("{}", "APPSNAP_NOTIFY: must be a list, not an object"),
            ("[null]", "APPSNAP_NOTIFY[0]: must be an object, not null"),
            ("[1]", "APPSNAP_NOTIFY[0]: must be an object, not a number"),
            (r#"[{"url":"env:U","secret":"env:S"}]"#, "APPSNAP_NOTIFY[0].channel: required"),
            (r#"[{"channel":"slack"}]"#, "APPSNAP_NOTIFY[0].channel: not supported yet: slack"),
            (r#"[{"channel":"webhook"}]"#, "APPSNAP_NOTIFY[0].url: required"),
            (r#"[{"channel":"webhook","url":"env:U"}]"#, "APPSNAP_NOTIFY[0].secret: required"),
            (r#"[{"channel":"wecom","secret":"env:S"}]"#, "APPSNAP_NOTIFY[0].secret: WeCom's robots take no"),
            (r#"[{"channel":"dingtalk","secret":"hunter2"}]"#, "APPSNAP_NOTIFY[0].secret: a secret is never"),
            (
                r#"[{"channel":"feishu","url":"kms:hunter2"}]"#,
                "APPSNAP_NOTIFY[0].url: not supported yet: kms",
            ),
            (r#"[{"channel":"webhook","url":"hunter2"}]"#, "APPSNAP_NOTIFY[0].url: a secret is never"),
            (r#"[{"channel":"webhook","url":["hunter2"]}]"#, "APPSNAP_NOTIFY[0].url: must be a string"),
            (r#"[{"channel":"webhook","Secret":"hunter2"}]"#, "did you mean secret?"),
            (r#"[{"on":["recovered"]}]"#, "APPSNAP_NOTIFY[0].on[0]: not supported yet: recovered"),
            (r#"[{"on":[]}]"#, "APPSNAP_NOTIFY[0].on: would never be sent"),
            (r#"[{"on":[7]}]"#, "APPSNAP_NOTIFY[0].on[0]: must be a status, not a number"),
        ];
        for (json, expected) in table {
            let message = Channel::parse_list(json).unwrap_err().to_string();
            assert!(message.contains(expected), "{json}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
