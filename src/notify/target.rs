//! Where a message goes: a channel with its secrets resolved.

use jiff::Timestamp;
use reqwest::Url;

use super::answer::Meaning;
use super::signature::Key;
use super::{Letter, dingtalk, feishu, webhook, wecom};
use crate::policy::{Channel, ChannelKind, Env};
use crate::secret::Secret;

/// One request, signed for this moment.
pub(super) struct Post {
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

/// Where to send.
pub(super) struct Target {
    url: Url,
    sender: Sender,
}

/// The channel's way to sign.
enum Sender {
    Webhook(Key),
    DingTalk(Option<Secret>),
    Feishu(Option<Secret>),
    WeCom,
}

impl Target {
    /// Resolves a channel's references; errors name the variable, never its value.
    pub fn resolve(channel: &Channel, env: Env) -> Result<Self, String> {
        let url = channel.url.resolve(env)?;
        let url = Url::parse(url.expose())
            .map_err(|_| format!("{} is no URL: write https://host/path", channel.url))?;
        let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(format!("{} must be an https URL (plain http only to loopback)", channel.url));
        }
        let secret = channel.secret.as_ref().map(|secret| secret.resolve(env)).transpose()?;
        let sender = match channel.kind {
            ChannelKind::Webhook => {
                let name = channel.secret.as_ref().map(ToString::to_string).unwrap_or("secret".into());
                let key = Key::parse(&secret.unwrap_or_default());
                Sender::Webhook(key.map_err(|message| format!("{name} {message}"))?)
            }
            ChannelKind::DingTalk => Sender::DingTalk(secret),
            ChannelKind::Feishu => Sender::Feishu(secret),
            ChannelKind::WeCom => Sender::WeCom,
        };
        Ok(Self { url, sender })
    }

    /// Scheme and host; the rest of the URL may hold a token.
    pub fn shown(&self) -> String {
        format!("{}://{}", self.url.scheme(), self.url.host_str().unwrap_or("?"))
    }

    /// Signed anew for each try: receivers refuse what is older than some minutes.
    pub fn post(&self, letter: &Letter, now: Timestamp) -> Post {
        let (url, message) = (self.url.clone(), &letter.message);
        match &self.sender {
            Sender::Webhook(key) => webhook::post(url, key, letter, now),
            Sender::DingTalk(secret) => dingtalk::post(url, secret.as_ref(), message, now),
            Sender::Feishu(secret) => feishu::post(url, secret.as_ref(), message, now),
            Sender::WeCom => wecom::post(url, message),
        }
    }

    /// Reads a robot's code; `None` for the webhook, which speaks by its HTTP status.
    pub fn meaning(&self) -> Option<fn(i64, &str) -> Meaning> {
        match self.sender {
            Sender::Webhook(_) => None,
            Sender::DingTalk(_) => Some(dingtalk::meaning),
            Sender::Feishu(_) => Some(feishu::meaning),
            Sender::WeCom => Some(wecom::meaning),
        }
    }

    /// How long the first try is put off; `jitter` in 0..1.
    pub fn put_off(&self, now: Timestamp, jitter: f64) -> std::time::Duration {
        match self.sender {
            Sender::Feishu(_) => feishu::put_off(now, jitter),
            _ => std::time::Duration::ZERO,
        }
    }
}
