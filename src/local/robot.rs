//! A group robot as DingTalk, Feishu and WeCom run them: knows its token, checks signature, keyword, size, shape and
//! rate, and tells what it does not like by a code inside HTTP 200. It shares no line with `notify`.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::Sha256;

use super::verify::{Received, decode_form};
use crate::secret::Secret;

/// Whose robot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brand {
    /// DingTalk (Alibaba).
    DingTalk,
    /// Feishu, abroad Lark (ByteDance).
    Feishu,
    /// WeCom (Tencent).
    WeCom,
}

/// All of them.
pub const BRANDS: [Brand; 3] = [Brand::DingTalk, Brand::Feishu, Brand::WeCom];

/// What a robot does for once instead of judging a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// Answers this: HTTP status and body.
    Answer(u16, String),
    /// Never answers.
    Silent,
}

/// A message as received, and how it was judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The body; `null` if it was no JSON.
    pub body: Value,
    /// What was answered; 0: taken. A mood answers none.
    pub code: Option<i64>,
}

/// One robot.
pub struct Robot {
    /// Whose it is.
    pub brand: Brand,
    /// Asks for a signature.
    pub secret: Option<Secret>,
    /// Asks for this word in every message.
    pub keyword: Option<String>,
    /// What comes first, in turn.
    pub moods: VecDeque<Mood>,
    /// All that came.
    pub received: Vec<Said>,
    /// When the last ones were taken.
    taken: VecDeque<Timestamp>,
    blocked_until: Timestamp,
}

type Fault = (i64, String);

impl Robot {
    /// A robot without wishes.
    pub fn new(brand: Brand) -> Self {
        Self {
            brand,
            secret: None,
            keyword: None,
            moods: VecDeque::new(),
            received: Vec::new(),
            taken: VecDeque::new(),
            blocked_until: Timestamp::MIN,
        }
    }

    /// The token in its address.
    pub fn token(&self) -> &'static str {
        match self.brand {
            Brand::DingTalk => "local-dingtalk-token-0a1b2c3d4e5f",
            Brand::Feishu => "local-feishu-0a1b2c3d-4e5f",
            Brand::WeCom => "local-wecom-0a1b2c3d-4e5f",
        }
    }

    /// Path and query of its address.
    pub fn address(&self) -> String {
        format!("{}{}", path(self.brand), self.token())
    }

    /// Somebody else's messages, which count too.
    pub fn busy(&mut self, messages: usize, now: Timestamp) {
        self.taken.extend(std::iter::repeat_n(now, messages));
    }

    /// Takes one message; `None`: there is no answer.
    pub fn take(&mut self, request: &Received, now: Timestamp) -> Option<(u16, String)> {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if let Some(mood) = self.moods.pop_front() {
            self.received.push(Said { body, code: None });
            return match mood {
                Mood::Answer(status, text) => Some((status, text)),
                Mood::Silent => None,
            };
        }
        let (code, said) = match self.judge(request, &body, now) {
            Ok(()) => (0, if self.brand == Brand::Feishu { "success" } else { "ok" }.to_string()),
            Err(fault) => fault,
        };
        if code == 0 {
            self.taken.push_back(now);
        }
        self.received.push(Said { body, code: Some(code) });
        Some((
            200,
            match self.brand {
                // The old field is 0 whatever happened: seen in the field.
                Brand::Feishu => {
                    json!({ "StatusCode": 0, "StatusMessage": "", "code": code, "data": {}, "msg": said })
                }
                Brand::DingTalk | Brand::WeCom => json!({ "errcode": code, "errmsg": said }),
            }
            .to_string(),
        ))
    }

    fn judge(&mut self, request: &Received, body: &Value, now: Timestamp) -> Result<(), Fault> {
        let fault = |code, said: &str| Err((code, said.to_string()));
        let target = format!("{}?{}", request.path, request.query);
        let known = target.trim_end_matches('?').split('&').next() == Some(&self.address());
        let json = request.header("content-type").is_some_and(|it| it.starts_with("application/json"));
        self.rate(now)?;
        match self.brand {
            Brand::DingTalk if !known => return fault(300005, "token is not exist"),
            Brand::DingTalk if !json => return fault(43004, "无效的HTTP HEADER Content-Type"),
            Brand::DingTalk if request.body.len() > 20_000 => {
                return fault(460101, "message too long, exceed 20000 bytes");
            }
            Brand::Feishu if !known => {
                return fault(19001, "param invalid: incoming webhook access token invalid");
            }
            Brand::Feishu if !json || request.body.len() > 20 << 10 => return fault(9499, "Bad Request"),
            Brand::WeCom if !known => {
                return fault(93000, "invalid webhook url, hint: [1], from ip: 127.0.0.1");
            }
            _ => {}
        }
        if let Some(secret) = &self.secret {
            signed(self.brand, secret.expose(), request, body, now)?;
        }
        let text = text(self.brand, body)?;
        match (&self.keyword, self.brand) {
            (Some(word), Brand::DingTalk) if !text.contains(word) => fault(310000, "keywords not in content"),
            (Some(word), Brand::Feishu) if !text.contains(word) => fault(19024, "Key Words Not Found"),
            _ => Ok(()),
        }
    }

    /// What was taken counts.
    fn rate(&mut self, now: Timestamp) -> Result<(), Fault> {
        let fault = |code, said: &str| Err((code, said.to_string()));
        let taken = &mut self.taken;
        while taken.front().is_some_and(|at| now.duration_since(*at) >= SignedDuration::from_secs(60)) {
            taken.pop_front();
        }
        let last_second =
            taken.iter().filter(|at| now.duration_since(**at) < SignedDuration::from_secs(1)).count();
        match self.brand {
            Brand::DingTalk => {
                if taken.len() >= 20 && now >= self.blocked_until {
                    self.blocked_until = now + SignedDuration::from_mins(10);
                }
                if now >= self.blocked_until {
                    return Ok(());
                }
                fault(130101, "send too fast, exceed 20 times per minute")
            }
            Brand::Feishu if last_second >= 5 || taken.len() >= 100 => {
                fault(11232, "frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]")
            }
            Brand::WeCom if taken.len() >= 20 => fault(45009, "api freq out of limit"),
            _ => Ok(()),
        }
    }
}

/// How the address begins.
fn path(brand: Brand) -> &'static str {
    match brand {
        Brand::DingTalk => "/robot/send?access_token=",
        Brand::Feishu => "/open-apis/bot/v2/hook/",
        Brand::WeCom => "/cgi-bin/webhook/send?key=",
    }
}

/// Whose robot a path belongs to.
pub fn brand_of(at: &str) -> Option<Brand> {
    BRANDS.into_iter().find(|brand| {
        let start = path(*brand).split('?').next().unwrap_or_default();
        at == start || start.ends_with('/') && at.starts_with(start)
    })
}

/// DingTalk: milliseconds, key = secret, text = time and secret. Feishu: seconds, key = time and secret, no text.
fn signed(brand: Brand, secret: &str, request: &Received, body: &Value, now: Timestamp) -> Result<(), Fault> {
    let query = decode_form(&request.query);
    let param = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let field = |name: &str| body[name].as_str().map(str::to_string);
    let (time, sign, now, hour) = match brand {
        Brand::DingTalk => (param("timestamp"), param("sign"), now.as_millisecond(), 3_600_000),
        Brand::Feishu => (field("timestamp"), field("sign"), now.as_second(), 3600),
        Brand::WeCom => return Ok(()),
    };
    let time = time.unwrap_or_default();
    let fresh = time.parse::<i64>().is_ok_and(|sent| (now - sent).abs() <= hour);
    let text = format!("{time}\n{secret}");
    let (key, message) = if brand == Brand::DingTalk { (secret, text.as_str()) } else { (text.as_str(), "") };
    let good = Hmac::<Sha256>::new_from_slice(key.as_bytes()).is_ok_and(|mut mac| {
        mac.update(message.as_bytes());
        BASE64.decode(sign.unwrap_or_default()).is_ok_and(|sign| mac.verify_slice(&sign).is_ok())
    });
    match brand {
        Brand::DingTalk if !fresh => Err((310000, "invalid timestamp".into())),
        Brand::DingTalk if !good => Err((310000, "sign not match".into())),
        Brand::Feishu if !fresh || !good => {
            Err((19021, "sign match fail or timestamp is not within one hour from current time".into()))
        }
        _ => Ok(()),
    }
}

/// The text of a message, if it has the one shape that this robot of ours is sent.
fn text(brand: Brand, body: &Value) -> Result<String, Fault> {
    let some = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_string);
    let joined = |parts: [Option<String>; 2]| Some(parts.into_iter().collect::<Option<Vec<_>>>()?.join("\n"));
    match brand {
        Brand::DingTalk if body["msgtype"] == "markdown" => {
            let markdown = &body["markdown"];
            joined([some(&markdown["title"]), some(&markdown["text"])])
                .ok_or_else(|| (40035, "缺少参数 markdown".into()))
        }
        Brand::DingTalk => Err((400105, "unsupported message type".into())),
        Brand::Feishu => {
            let (card, plain) = (&body["card"], json!("plain_text"));
            let (title, element) = (&card["header"]["title"], &card["elements"][0]);
            let shaped = body["msg_type"] == "interactive"
                && title["tag"] == plain
                && element["tag"] == "div"
                && element["text"]["tag"] == plain;
            let text = joined([some(&title["content"]), some(&element["text"]["content"])]);
            text.filter(|_| shaped).ok_or_else(|| (9499, "Bad Request".into()))
        }
        Brand::WeCom if body["msgtype"] == "markdown" => {
            let content =
                some(&body["markdown"]["content"]).ok_or_else(|| (44004, "empty content".to_string()))?;
            if content.len() > 4096 {
                let said = "markdown.content exceed max length 4096. invalid Request Parameter, hint: [1]";
                return Err((40058, said.into()));
            }
            Ok(content)
        }
        Brand::WeCom => Err((40008, "invalid message type".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn request(robot: &Robot, more: &str, body: &Value) -> Received {
        let address = robot.address();
        let (path, query) = address.split_once('?').unwrap_or((&address, ""));
        Received {
            method: "POST".into(),
            path: path.into(),
            query: format!("{query}{more}"),
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }

    fn good(brand: Brand) -> Value {
        let plain = |text: &str| json!({ "tag": "plain_text", "content": text });
        match brand {
            Brand::DingTalk => {
                json!({ "msgtype": "markdown", "markdown": { "title": "t", "text": "appsnap" } })
            }
            Brand::Feishu => json!({ "msg_type": "interactive", "card": {
                "header": { "title": plain("t") }, "elements": [{ "tag": "div", "text": plain("appsnap") }] } }),
            Brand::WeCom => json!({ "msgtype": "markdown", "markdown": { "content": "appsnap" } }),
        }
    }

    fn code(robot: &mut Robot, request: &Received, after: i64) -> i64 {
        let (status, _) = robot.take(request, start() + SignedDuration::from_secs(after)).unwrap();
        assert_eq!(status, 200);
        robot.received.last().unwrap().code.unwrap()
    }

    #[test]
    fn a_robot_knows_its_address_and_the_shape_of_a_message() {
        let faults = [(300005, 400105), (19001, 9499), (93000, 40008)];
        for (brand, (unknown, shape)) in BRANDS.into_iter().zip(faults) {
            let mut robot = Robot::new(brand);
            assert_eq!(brand_of(robot.address().split('?').next().unwrap()), Some(brand));
            let sent = request(&robot, "", &good(brand));
            assert_eq!(code(&mut robot, &sent, 0), 0);
            let elsewhere =
                Received { path: format!("{}x", sent.path), query: format!("{}x", sent.query), ..sent };
            assert_eq!(code(&mut robot, &elsewhere, 0), unknown);
            let empty = request(&robot, "", &json!({}));
            assert_eq!(code(&mut robot, &empty, 0), shape);
        }
        assert_eq!(brand_of("/"), None);
    }

    #[test]
    fn the_recorded_signatures_are_taken_and_nothing_near_them() {
        let mut robot = Robot { secret: Some(Secret::new("SECtest")), ..Robot::new(Brand::DingTalk) };
        let sign = "&timestamp=1700000000000&sign=aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g%3D";
        let sent = request(&robot, sign, &good(Brand::DingTalk));
        assert_eq!((code(&mut robot, &sent, 3600), code(&mut robot, &sent, 3601)), (0, 310000));
        let other = request(&robot, &sign.replace("aZ", "aY"), &good(Brand::DingTalk));
        assert_eq!(code(&mut robot, &other, 0), 310000);

        let mut robot = Robot { secret: Some(Secret::new("SECtest")), ..Robot::new(Brand::Feishu) };
        let mut body = good(Brand::Feishu);
        body["timestamp"] = json!("1700000000");
        body["sign"] = json!("G7XpBpG8NgG02fJOAhX6FRAObIljmFoxVReo8I62pEk=");
        let sent = request(&robot, "", &body);
        assert_eq!((code(&mut robot, &sent, 3600), code(&mut robot, &sent, 3601)), (0, 19021));
        body["timestamp"] = json!(1_700_000_000);
        let number = request(&robot, "", &body);
        assert_eq!(code(&mut robot, &number, 0), 19021);
    }

    #[test]
    fn too_many_messages_are_refused_until_their_time_is_over() {
        let table = [
            (Brand::DingTalk, 20, 130101, 599, 600),
            (Brand::Feishu, 5, 11232, 0, 1),
            (Brand::WeCom, 20, 45009, 59, 60),
        ];
        for (brand, most, throttled, still, over) in table {
            let mut robot = Robot::new(brand);
            let sent = request(&robot, "", &good(brand));
            robot.busy(most - 1, start());
            assert_eq!(code(&mut robot, &sent, 0), 0);
            assert_eq!(code(&mut robot, &sent, 0), throttled);
            assert_eq!((code(&mut robot, &sent, still), code(&mut robot, &sent, over)), (throttled, 0));
        }
    }

    #[test]
    fn keywords_and_sizes_are_looked_at() {
        for (brand, keyword, size) in [(Brand::DingTalk, 310000, 460101), (Brand::Feishu, 19024, 9499)] {
            let mut robot = Robot { keyword: Some("snapshots".into()), ..Robot::new(brand) };
            let sent = request(&robot, "", &good(brand));
            assert_eq!(code(&mut robot, &sent, 0), keyword);
            let mut large = good(brand);
            large["at"] = json!("x".repeat(21_000));
            let sent = request(&robot, "", &large);
            assert_eq!(code(&mut robot, &sent, 0), size);
        }
        let mut robot = Robot::new(Brand::WeCom);
        for (size, expected) in [(4096, 0), (4097, 40058)] {
            let body = json!({ "msgtype": "markdown", "markdown": { "content": "x".repeat(size) } });
            let sent = request(&robot, "", &body);
            assert_eq!(code(&mut robot, &sent, 0), expected);
        }
    }
}
