//! HMAC-SHA256 in Base64, as all channels that sign want it, and the key of Standard Webhooks.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks>, "Symmetric signatures".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// HMAC-SHA256 in Base64.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> String {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    hmac.update(message);
    STANDARD.encode(hmac.finalize().into_bytes())
}

/// A decoded key of Standard Webhooks.
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Reads `whsec_` and base64 of 24 to 64 bytes; the error never shows it.
    pub fn parse(secret: &Secret) -> Result<Self, String> {
        let wrong = || "must be whsec_ and base64 of 24 to 64 random bytes".to_owned();
        let encoded = secret.expose().strip_prefix("whsec_").ok_or_else(wrong)?;
        let key = STANDARD.decode(encoded).map_err(|_| wrong())?;
        if (24..=64).contains(&key.len()) { Ok(Self(key)) } else { Err(wrong()) }
    }

    /// The value of `webhook-signature`: over `id.timestamp.body`; `timestamp` in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        format!("v1,{}", hmac(&self.0, format!("{id}.{timestamp}.{body}").as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector_is_met() {
        let key = Key::parse(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_wrong_key_is_refused_unseen() {
        for wrong in
            ["", "hunter2", "whsec_hunter2!", "whsec_aHVudGVyMg==", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        {
            let message = Key::parse(&Secret::new(wrong)).err().unwrap();
            assert!(!message.contains("hunter2") && !message.contains("MfKQ"), "{message}");
        }
    }
}
