//! ACS3-HMAC-SHA256, the OpenAPI's signature V3, as a pure function in three stages: canonical request, string to
//! sign, signature. No I/O, no clock; checked stage by stage against recorded vectors.
//!
//! Source: <https://help.aliyun.com/document_detail/2593177.html>.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::encode;
use crate::secret::Secret;

/// Name of the algorithm, as it opens the string to sign and the `Authorization` header.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// The parts of a request that are signed.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `POST`, …
    pub method: &'a str,
    /// Percent-encoded path; `/` for RPC calls.
    pub path: &'a str,
    /// Raw names and values, in any order.
    pub query: &'a [(String, String)],
    /// The headers to sign (all that are given are signed), names in lower case, in any order.
    pub headers: &'a [(String, String)],
    /// [`payload_hash`] of the body.
    pub payload_hash: &'a str,
}

/// sha256 of the body in lower-case hexadecimal, the value of `x-acs-content-sha256`.
pub fn payload_hash(body: &[u8]) -> String {
    encode::hex(&Sha256::digest(body))
}

/// The query as it is signed and as it goes over the wire.
pub fn canonical_query(query: &[(String, String)]) -> String {
    encode::query(query)
}

/// The sorted names joined by `;`.
pub fn signed_headers(headers: &[(String, String)]) -> String {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.join(";")
}

/// Stage one.
pub fn canonical_request(parts: &Parts) -> String {
    let mut headers: Vec<_> = parts.headers.iter().collect();
    headers.sort();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    [
        parts.method,
        parts.path,
        &canonical_query(parts.query),
        &headers,
        &signed_headers(parts.headers),
        parts.payload_hash,
    ]
    .join("\n")
}

/// Stage two.
pub fn string_to_sign(canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{}", encode::hex(&Sha256::digest(canonical_request)))
}

/// Stage three: lower-case hexadecimal. The secret is the key as it is, nothing is derived from it.
pub fn signature(secret: &Secret, string_to_sign: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(string_to_sign.as_bytes());
    encode::hex(&mac.finalize().into_bytes())
}

/// The value of the `Authorization` header.
pub fn authorization(access_key_id: &str, signed_headers: &str, signature: &str) -> String {
    format!("{ALGORITHM} Credential={access_key_id},SignedHeaders={signed_headers},Signature={signature}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        signature: String,
        description: String,
        method: String,
        path: String,
        query: BTreeMap<String, String>,
        headers: BTreeMap<String, String>,
        body: String,
        access_key_id: String,
        access_key_secret: String,
        canonical_query: String,
        #[serde(default)]
        hashed_payload: String,
        #[serde(default)]
        signed_headers: String,
        #[serde(default)]
        canonical_request: String,
        string_to_sign: String,
        #[serde(default)]
        authorization: String,
    }

    /// Every V3 vector; the V1 vectors of the file are for the local cloud, which still takes V1.
    fn vectors() -> Vec<Vector> {
        let all: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/data/acs3-vectors.json")).unwrap();
        let v3: Vec<_> = all.into_iter().filter(|vector| vector.signature == "V3").collect();
        assert_eq!(v3.len(), 9);
        v3
    }

    #[test]
    fn every_vector_agrees_in_three_stages() {
        for vector in vectors() {
            let query: Vec<_> = vector.query.into_iter().collect();
            let signed: Vec<&str> = vector.signed_headers.split(';').collect();
            let headers: Vec<_> =
                vector.headers.into_iter().filter(|(name, _)| signed.contains(&name.as_str())).collect();
            let payload_hash = payload_hash(vector.body.as_bytes());
            let parts = Parts {
                method: &vector.method,
                path: &vector.path,
                query: &query,
                headers: &headers,
                payload_hash: &payload_hash,
            };
            let case = &vector.description;
            assert_eq!(payload_hash, vector.hashed_payload, "{case}");
            assert_eq!(canonical_query(&query), vector.canonical_query, "{case}");
            assert_eq!(canonical_request(&parts), vector.canonical_request, "{case}");
            assert_eq!(string_to_sign(&vector.canonical_request), vector.string_to_sign, "{case}");
            let signature = signature(&Secret::new(vector.access_key_secret), &vector.string_to_sign);
            let authorization = authorization(&vector.access_key_id, &signed_headers(&headers), &signature);
            assert_eq!(authorization, vector.authorization, "{case}");
        }
    }

    #[test]
    fn header_values_are_trimmed_and_their_order_does_not_matter() {
        let headers = [("x-acs-date".to_owned(), " a ".to_owned()), ("host".to_owned(), "h".to_owned())];
        let parts = Parts { method: "POST", path: "/", query: &[], headers: &headers, payload_hash: "p" };
        assert_eq!(canonical_request(&parts), "POST\n/\n\nhost:h\nx-acs-date:a\n\nhost;x-acs-date\np");
    }
}
