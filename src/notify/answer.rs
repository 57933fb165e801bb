//! What a robot answered. All of them answer HTTP 200 with a code in the body, and only 0 means delivered.

use std::time::Duration;

use serde_json::Value;

use super::message::shortened;

/// What a code means.
pub(super) struct Meaning {
    pub again: Again,
    /// What to do about it.
    pub cure: &'static str,
}

/// Whether the same message may be taken later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    Soon,
    /// Throttled: after this time.
    After(Duration),
}

/// The code in a body, and what was said with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub code: i64,
    pub said: String,
    /// How long to wait, where the robot says it.
    pub wait: Option<Duration>,
}

impl Answer {
    /// `errcode`/`errmsg` (DingTalk, WeCom), `code`/`msg` (Feishu), or Feishu's old `StatusCode`, which may be 0
    /// beside a `code` that is not: it counts only where nothing else does.
    pub fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let fields = [("errcode", "errmsg"), ("code", "msg"), ("StatusCode", "StatusMessage")];
        let (code, said) = fields.into_iter().find_map(|(code, said)| Some((body[code].as_i64()?, said)))?;
        let said = body[said].as_str().unwrap_or_default();
        // DingTalk's gateway names its seconds when it throttles.
        let wait = body["wait"].as_u64().map(Duration::from_secs);
        Some(Self { code, said: shortened(said, 120), wait })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channels_body_is_read_and_a_zero_beside_a_code_is_not_believed() {
        let table = [
            (r#"{"errcode":0,"errmsg":"ok"}"#, Some((0, "ok", None))),
            (r#"{"errcode":310000,"errmsg":"sign not match"}"#, Some((310000, "sign not match", None))),
            (
                r#"{"status":1111,"wait":5,"punish":"deny","errcode":130101,"errmsg":"send too fast"}"#,
                Some((130101, "send too fast", Some(5))),
            ),
            (r#"{"code":0,"data":{},"msg":"success","StatusCode":0}"#, Some((0, "success", None))),
            (
                r#"{"StatusCode":0,"StatusMessage":"","code":9499,"msg":"too many request"}"#,
                Some((9499, "too many request", None)),
            ),
            (r#"{"StatusCode":0,"StatusMessage":"success"}"#, Some((0, "success", None))),
            (r#"{"code":"0"}"#, None),
            ("{}", None),
            ("ok", None),
            ("<html>0</html>", None),
            ("", None),
        ];
        for (body, expected) in table {
            let got = Answer::read(body.as_bytes());
            let got = got.as_ref().map(|it| (it.code, it.said.as_str(), it.wait.map(|wait| wait.as_secs())));
            assert_eq!(got, expected, "{body}");
        }
    }
}
