//! Checks the signatures of Alibaba Cloud's OpenAPI, ACS3-HMAC-SHA256 ("V3") and HMAC-SHA1 in the query ("V1"),
//! from the bytes of a request as they were received. It shares no line with the signer in `acs`: what both
//! agree on has been said twice, by the vendor's vectors too (`tests/data/acs3-vectors.json`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// A request as it came over the wire.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path as sent, still percent-encoded.
    pub path: String,
    /// The query as sent, without `?`.
    pub query: String,
    /// Headers with lower-case names, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body as sent.
    pub body: Vec<u8>,
}

impl Received {
    /// The values of a header (lower-case name), joined as HTTP joins them; `None` where it is absent.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.trim());
        let first = found.next()?.to_owned();
        Some(found.fold(first, |all, value| all + "," + value))
    }

    /// The parameters of the query and of a form body, decoded (`+` and `%20` are a space).
    pub fn parameters(&self) -> Vec<(String, String)> {
        let mut all = decode_form(&self.query);
        let form = "application/x-www-form-urlencoded";
        if self.header("content-type").is_some_and(|kind| kind.starts_with(form)) {
            all.extend(decode_form(&String::from_utf8_lossy(&self.body)));
        }
        all
    }
}

/// Which of the two signatures a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// ACS3-HMAC-SHA256, in headers.
    V3,
    /// HMAC-SHA1, in the parameters.
    V1,
}

/// What a request claims about itself; nothing in it is proven before [`Claim::matches`].
#[derive(Debug, Clone)]
pub struct Claim {
    /// The signature's kind.
    pub scheme: Scheme,
    /// `AccessKeyId` or `Credential`.
    pub access_key_id: String,
    /// The STS token, where one was sent.
    pub security_token: Option<String>,
    /// `x-acs-date` or `Timestamp`, as sent.
    pub date: String,
    /// `x-acs-signature-nonce` or `SignatureNonce`.
    pub nonce: String,
    /// What the signature is made over, by this side's reckoning.
    pub string_to_sign: String,
    signature: String,
    body_is_as_hashed: bool,
}

/// Why a request carries no checkable signature: the gateway's code and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned(pub &'static str, pub String);

fn incomplete(what: impl Into<String>) -> Unsigned {
    Unsigned("IncompleteSignature", what.into())
}

impl Claim {
    /// Reads the signature's parts out of a request.
    ///
    /// # Errors
    /// `MissingParameter` where a part is absent; `IncompleteSignature` where a header that has to
    /// be signed is not.
    pub fn read(request: &Received) -> Result<Self, Unsigned> {
        match request.header("authorization") {
            Some(authorization) => read_v3(request, &authorization),
            None => read_v1(request),
        }
    }

    /// Whether the signature was made with `secret` over what arrived.
    pub fn matches(&self, secret: &str) -> bool {
        self.body_is_as_hashed
            && match self.scheme {
                // HMAC takes a key of any length.
                Scheme::V3 => hex_bytes(&self.signature)
                    .is_some_and(|sent| verifies(secret, &self.string_to_sign, &sent)),
                Scheme::V1 => {
                    let Ok(mut mac) = Hmac::<sha1::Sha1>::new_from_slice(format!("{secret}&").as_bytes())
                    else {
                        return false;
                    };
                    mac.update(self.string_to_sign.as_bytes());
                    BASE64.decode(&self.signature).is_ok_and(|sent| mac.verify_slice(&sent).is_ok())
                }
            }
    }
}

fn verifies(secret: &str, message: &str, signature: &[u8]) -> bool {
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).is_ok_and(|mut mac| {
        mac.update(message.as_bytes());
        mac.verify_slice(signature).is_ok()
    })
}

fn read_v3(request: &Received, authorization: &str) -> Result<Claim, Unsigned> {
    let fields = authorization
        .strip_prefix("ACS3-HMAC-SHA256 ")
        .ok_or_else(|| incomplete("Authorization does not begin with ACS3-HMAC-SHA256"))?;
    let field = |name: &str| {
        fields
            .split(',')
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
            .ok_or_else(|| incomplete(format!("Authorization lacks {name}")))
    };
    let signed: Vec<&str> = field("SignedHeaders")?.split(';').collect();
    if !signed.is_sorted() {
        return Err(incomplete("SignedHeaders are not sorted"));
    }
    let header = |name: &'static str| {
        request
            .header(name)
            .ok_or_else(|| Unsigned("MissingParameter", format!("the header {name} is absent")))
    };
    let must = ["host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce"];
    for name in must.into_iter().chain(["x-acs-version"]) {
        header(name)?;
    }
    let sent = request.headers.iter().map(|(name, _)| name.as_str());
    let mut must = sent.filter(|n| *n == "host" || *n == "content-type" || n.starts_with("x-acs-"));
    if let Some(name) = must.find(|name| !signed.contains(name)) {
        return Err(incomplete(format!("the header {name} has to be signed")));
    }
    let hash = header("x-acs-content-sha256")?;
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, request.path, canonical_query(&request.query));
    for name in &signed {
        let value =
            request.header(name).ok_or_else(|| incomplete(format!("{name} is signed but not sent")))?;
        let _ = writeln!(canonical, "{name}:{value}"); // writing to a String cannot fail
    }
    let _ = write!(canonical, "\n{}\n{hash}", signed.join(";"));
    Ok(Claim {
        scheme: Scheme::V3,
        access_key_id: field("Credential")?.to_owned(),
        security_token: request.header("x-acs-security-token").filter(|token| !token.is_empty()),
        date: header("x-acs-date")?,
        nonce: header("x-acs-signature-nonce")?,
        string_to_sign: format!("ACS3-HMAC-SHA256\n{}", sha256_hex(canonical.as_bytes())),
        signature: field("Signature")?.to_owned(),
        body_is_as_hashed: hash == sha256_hex(&request.body),
    })
}

fn read_v1(request: &Received) -> Result<Claim, Unsigned> {
    let mut parameters = request.parameters();
    let take = |name: &'static str| {
        let found = parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        found.ok_or_else(|| Unsigned("MissingParameter", format!("{name} is mandatory for this action")))
    };
    let (access_key_id, signature) = (take("AccessKeyId")?, take("Signature")?);
    let (date, nonce) = (take("Timestamp")?, take("SignatureNonce")?);
    if take("SignatureMethod")? != "HMAC-SHA1" || take("SignatureVersion")? != "1.0" {
        return Err(incomplete("only SignatureMethod HMAC-SHA1 with SignatureVersion 1.0 is known"));
    }
    let security_token = take("SecurityToken").ok();
    parameters.retain(|(key, _)| key != "Signature");
    let query = canonical(parameters);
    Ok(Claim {
        scheme: Scheme::V1,
        access_key_id,
        security_token,
        date,
        nonce,
        string_to_sign: format!("{}&%2F&{}", request.method, encode(&query)),
        signature,
        body_is_as_hashed: true, // a form body is part of the signed parameters
    })
}

fn canonical_query(raw: &str) -> String {
    canonical(decode_form(raw))
}

fn canonical(mut parameters: Vec<(String, String)>) -> String {
    parameters.sort();
    let pairs: Vec<String> =
        parameters.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    pairs.join("&")
}

/// RFC 3986: everything but letters, digits and `-_.~` is escaped.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => {
                let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
            }
        }
    }
    out
}

/// Decodes `a=b&c=d`; `+` is a space, broken escapes stay as they are.
pub fn decode_form(raw: &str) -> Vec<(String, String)> {
    raw.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
        out
    })
}

fn hex_bytes(hex: &str) -> Option<Vec<u8>> {
    let hex = hex.as_bytes();
    let pair = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    hex.len().is_multiple_of(2).then(|| hex.chunks(2).map(pair).collect::<Option<Vec<u8>>>()).flatten()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Signs a request for tests of the world and of the server; the vectors keep it honest.
    pub(crate) fn sign(mut request: Received, id: &str, secret: &str) -> Received {
        request.headers.push(("x-acs-content-sha256".into(), sha256_hex(&request.body)));
        let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort();
        let names = names.join(";");
        let unsigned = format!(
            "ACS3-HMAC-SHA256 Credential={id},SignedHeaders={names},Signature=00",
            id = id,
            names = names
        );
        let claim = read_v3(&request, &unsigned).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(claim.string_to_sign.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        request.headers.push(("authorization".into(), unsigned.replace("=00", &format!("={hex}"))));
        request
    }

    fn vectors() -> Vec<(Received, serde_json::Value)> {
        let all: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/data/acs3-vectors.json")).unwrap();
        all.into_iter().map(|vector| (received(&vector), vector)).collect()
    }

    fn received(vector: &serde_json::Value) -> Received {
        let text = |name: &str| vector[name].as_str().unwrap_or_default().to_owned();
        let url = text("url");
        let mut headers: Vec<(String, String)> = vector["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        if !text("authorization").is_empty() {
            headers.push(("authorization".into(), text("authorization")));
        }
        Received {
            method: text("method"),
            path: text("path"),
            query: url.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default(),
            headers,
            body: text("body").into_bytes(),
        }
    }

    #[test]
    fn every_vector_of_the_vendor_verifies() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 12);
        for (index, (request, vector)) in vectors.iter().enumerate() {
            let claim = Claim::read(request).unwrap();
            assert_eq!(claim.string_to_sign, vector["string_to_sign"], "vector {index}");
            assert!(claim.matches(vector["access_key_secret"].as_str().unwrap()), "vector {index}");
            assert!(!claim.matches("another secret"), "vector {index}");
        }
    }

    #[test]
    fn a_plus_on_the_wire_is_the_same_space_as_percent_20() {
        for (request, vector) in vectors() {
            let plus = Received { query: request.query.replace("%20", "+"), ..request };
            assert!(Claim::read(&plus).unwrap().matches(vector["access_key_secret"].as_str().unwrap()));
        }
    }

    #[test]
    fn any_change_of_query_body_method_or_signed_header_breaks_it() {
        for (request, vector) in vectors() {
            let secret = vector["access_key_secret"].as_str().unwrap();
            let broken = |changed: Received| !Claim::read(&changed).is_ok_and(|claim| claim.matches(secret));
            assert!(broken(Received { query: format!("{}&X=1", request.query), ..request.clone() }));
            assert!(broken(Received { method: "DELETE".into(), ..request.clone() }));
            if vector["signature"] == "V3" {
                assert!(broken(Received { body: b"other".to_vec(), ..request.clone() }));
                let mut other = request.clone();
                other.headers.iter_mut().for_each(|(name, value)| {
                    if name == "x-acs-action" {
                        *value = "DeleteSnapshotGroup".into();
                    }
                });
                assert!(broken(other));
                let mut added = request;
                added.headers.push(("x-acs-something".into(), "unsigned".into()));
                assert_eq!(Claim::read(&added).unwrap_err().0, "IncompleteSignature");
            }
        }
    }

    #[test]
    fn a_request_without_a_signature_names_what_is_missing() {
        let error = Claim::read(&Received::default()).unwrap_err();
        assert_eq!((error.0, error.1.contains("AccessKeyId")), ("MissingParameter", true));
    }
}
