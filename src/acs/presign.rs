//! Signs one call for one moment: for our own transport, and ahead of time for a guest that holds no key.
//!
//! Presigned variants of one call share everything but nonce and signature when they are made with the same
//! date and credentials; the guest gets the shared part once and a pair per variant. The sender adds
//! `accept: application/json` (else the answer is XML), and no `content-type`: it would have to be signed.

use jiff::Timestamp;

use super::call::Call;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::{encode, signature};

/// A signed request. It carries the security token (useless without its secret) and is good for one use within
/// 15 minutes of its date, so it has no `Debug`.
#[derive(Clone)]
pub struct Presigned {
    /// `https://HOST[:PORT]/path?query`, percent-encoded.
    pub url: String,
    /// Percent-encoded, sorted.
    pub query: String,
    /// The signed headers, `host` among them, sorted by name; without `authorization`.
    pub headers: Vec<(String, String)>,
    /// Their names, joined by `;`.
    pub signed_headers: String,
    /// Value of the `Authorization` header.
    pub authorization: String,
    /// The signature in it, 64 hexadecimal digits.
    pub signature: String,
}

/// Signs `host`, `content-type` (if the call has one) and every `x-acs-*`, nothing else: proxies and HTTP clients
/// may alter the rest. The nonce must be new for each request sent.
pub fn presign(
    call: &Call,
    endpoint: &Endpoint,
    credentials: &Credentials,
    date: Timestamp,
    nonce: &str,
) -> Presigned {
    let payload_hash = signature::payload_hash(&call.body);
    let mut headers: Vec<(String, String)> = [
        ("host", endpoint.host()),
        ("x-acs-action", call.action),
        ("x-acs-content-sha256", &payload_hash),
        ("x-acs-date", &date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("x-acs-signature-nonce", nonce),
        ("x-acs-version", call.product.version),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if let Some(token) = &credentials.security_token {
        headers.push(("x-acs-security-token".to_owned(), token.expose().to_owned()));
    }
    let must_be_signed = |name: &str| name == "content-type" || name.starts_with("x-acs-");
    headers.extend(call.headers.iter().filter(|(name, _)| must_be_signed(name)).cloned());
    headers.sort();

    let parts = signature::Parts {
        method: "POST",
        path: &call.path,
        query: &call.query,
        headers: &headers,
        payload_hash: &payload_hash,
    };
    let to_sign = signature::string_to_sign(&signature::canonical_request(&parts));
    let signed = signature::signature(&credentials.access_key_secret, &to_sign);
    let signed_headers = signature::signed_headers(&headers);
    let query = encode::query(&call.query);
    let mark = if query.is_empty() { "" } else { "?" };
    Presigned {
        url: format!("{}{}{mark}{query}", endpoint.base(), call.path),
        authorization: signature::authorization(&credentials.access_key_id, &signed_headers, &signed),
        query,
        headers,
        signed_headers,
        signature: signed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acs::{Kind, Product};
    use crate::secret::Secret;

    const ECS: Product =
        Product { name: "ecs", version: "2014-05-26", public: "ecs.{region}.aliyuncs.com", vpc: "" };

    fn signed(nonce: &str) -> Presigned {
        let call = Call::new(&ECS, "CreateSnapshotGroup", "cn-shanghai", Kind::Idempotent)
            .param("RegionId", "cn-shanghai")
            .param("InstanceId", "i-uf6fake0000000000001")
            .param("Description", "a  b")
            .tags(&[("k".into(), String::new())]);
        let credentials = Credentials {
            access_key_id: "STS.NFAKEfakeFAKEfakeFAKE01".into(),
            access_key_secret: Secret::new("FAKEstsSecret/+FAKEstsSecretFAKE"),
            security_token: Some(Secret::new("CAISfakeSecurityToken+/=abcDEF0123456789==")),
            expires_at: None,
        };
        let endpoint = Endpoint::parse("test", "ecs.cn-shanghai.aliyuncs.com").unwrap();
        presign(&call, &endpoint, &credentials, "2026-11-22T08:00:00.75Z".parse().unwrap(), nonce)
    }

    /// The recorded request with minimal signed headers, made here from a [`Call`].
    #[test]
    fn a_call_becomes_the_recorded_request() {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/acs3-vectors.json")).unwrap();
        let vector = &all[8];
        let signed = signed(vector["headers"]["x-acs-signature-nonce"].as_str().unwrap());
        assert_eq!(signed.authorization, vector["authorization"]);
        assert_eq!(signed.url, vector["url"]);
        assert_eq!(signed.signed_headers, vector["signed_headers"]);
        assert!(signed.authorization.ends_with(&format!(",Signature={}", signed.signature)));
    }

    #[test]
    fn variants_differ_in_nonce_and_signature_only() {
        let (a, b) = (signed("1"), signed("2"));
        let shared = |p: &Presigned| {
            let rest: Vec<_> =
                p.headers.iter().filter(|(name, _)| name != "x-acs-signature-nonce").cloned().collect();
            (rest, p.url.clone(), p.signed_headers.clone())
        };
        assert_eq!(shared(&a), shared(&b));
        assert_ne!(a.signature, b.signature);
    }
}
