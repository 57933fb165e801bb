//! A client over scripted answers, and what was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::acs::{Client, Credentials, Endpoints, Reply, Settings, Transport, Wire};
use crate::clock::Clock;
use crate::secret::Secret;

/// The parameters of every request, with its action as `Action`.
pub type Seen = Arc<Mutex<Vec<BTreeMap<String, String>>>>;

/// Answers each request by `script`.
pub fn cloud(script: impl Fn(&Wire) -> Value + Send + Sync + 'static) -> (Client, Seen) {
    replying(move |wire| Reply::new(200, script(wire).to_string()))
}

/// Gives every request the same answer.
pub fn answering(answer: Value) -> (Client, Seen) {
    cloud(move |_| answer.clone())
}

/// As [`cloud`], with the whole answer.
pub fn replying(script: impl Fn(&Wire) -> Reply + Send + Sync + 'static) -> (Client, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let transport = Transport::scripted(move |wire| {
        let mut params: BTreeMap<_, _> = wire.query.iter().cloned().collect();
        params.insert("Action".to_owned(), wire.action.to_owned());
        log.lock().unwrap().push(params);
        Ok(script(wire))
    });
    let credentials = Credentials {
        access_key_id: "AK".into(),
        access_key_secret: Secret::new("s"),
        security_token: None,
        expires_at: None,
    };
    let settings = Settings {
        transport,
        clock: Clock::system(),
        endpoints: Endpoints::default(),
        region_id: "cn-hangzhou".into(),
        identities: Arc::default(),
    };
    (Client::new(settings, credentials), seen)
}

/// Owned strings.
pub fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| item.to_string()).collect()
}

/// The parameters as `name=value`, without RegionId.
pub fn flat(params: &BTreeMap<String, String>) -> Vec<String> {
    let rest = params.iter().filter(|(name, _)| *name != "RegionId");
    rest.map(|(name, value)| format!("{name}={value}")).collect()
}
