//! The edge: one request out, one answer in. HTTPS for real, or a script for tests and simulations.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// An answer larger than this is not one of the OpenAPI's.
const ANSWER_LIMIT: usize = 16 << 20;

/// A request as it goes out. It carries signature and token, so it has no `Debug`.
pub struct Wire {
    /// `x-acs-action`, for scripts.
    pub action: &'static str,
    /// Signed, encoded.
    pub url: String,
    /// The parameters in the URL, raw.
    pub query: Vec<(String, String)>,
    /// All of them, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty for RPC.
    pub body: Vec<u8>,
    /// From connecting to the last byte.
    pub timeout: Duration,
}

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Up to 16 MiB.
    pub body: Vec<u8>,
}

/// How far a request without an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No connection: it surely was not processed.
    Connect,
    /// The certificate is not trusted: not sent, and trying again will not help.
    Trust,
    /// Sent, at least in part: it may have been processed.
    Answer,
}

/// There is no answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How far it came.
    pub stage: Stage,
    /// Why, without the URL.
    pub message: String,
}

type Script = dyn Fn(&Wire) -> Result<Reply, Failure> + Send + Sync;

/// Carries requests; cheap to clone, keeps connections for reuse.
#[derive(Clone)]
pub enum Transport {
    /// reqwest over rustls.
    Https(Client),
    /// Answers without a network.
    Scripted(Arc<Script>),
}

/// The file of additional certificate authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("APPSNAP_CA_BUNDLE: {path}: {problem}; it has to be a PEM file with at least one certificate")]
pub struct BadBundle {
    path: String,
    problem: String,
}

impl Wire {
    /// The parameter of this name.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Reply {
    /// An answer without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// The header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An HTTPS client with the built-in roots and, added to them, those of a PEM file: TLS by ring, connecting takes
/// 5 s at most, no redirects, no proxy from the environment, no retries of its own, and idle connections are
/// dropped after 20 s, since a function's instance sleeps between invocations.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn https_client(ca_bundle: Option<&Path>) -> Result<Client, BadBundle> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let bad = |problem: String| BadBundle {
        path: ca_bundle.map_or_else(String::new, |path| path.display().to_string()),
        problem,
    };
    if let Some(path) = ca_bundle {
        let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(bad("holds no certificate".to_owned()));
        }
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(20))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(concat!("appsnap/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| bad(error.to_string()))
}

impl Transport {
    /// See [`https_client`].
    ///
    /// # Errors
    /// As there.
    pub fn https(ca_bundle: Option<&Path>) -> Result<Self, BadBundle> {
        https_client(ca_bundle).map(Self::Https)
    }

    /// Answers by `script`.
    pub fn scripted(script: impl Fn(&Wire) -> Result<Reply, Failure> + Send + Sync + 'static) -> Self {
        Self::Scripted(Arc::new(script))
    }

    /// Sends once.
    pub(super) async fn send(&self, wire: &Wire) -> Result<Reply, Failure> {
        match self {
            Self::Https(client) => exchange(client, wire).await.map_err(judge),
            Self::Scripted(script) => {
                // Others get their turn, as they would while a network answers.
                tokio::task::yield_now().await;
                script(wire)
            }
        }
    }
}

async fn exchange(client: &Client, wire: &Wire) -> Result<Reply, Broken> {
    let mut request = client.post(&wire.url).timeout(wire.timeout).body(wire.body.clone());
    if wire.body.is_empty() {
        // The HTTP library says nothing about an empty body; some proxies answer 411 to such a POST.
        request = request.header("content-length", 0);
    }
    for (name, value) in &wire.headers {
        request = request.header(name, value);
    }
    let mut answer = request.send().await?;
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut reply = Reply { status: answer.status().as_u16(), headers, body: Vec::new() };
    while let Some(chunk) = answer.chunk().await? {
        if reply.body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(Broken::TooLarge);
        }
        reply.body.extend_from_slice(&chunk);
    }
    Ok(reply)
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer is larger than 16 MiB")]
    TooLarge,
}

fn judge(broken: Broken) -> Failure {
    let Broken::Http(error) = broken else {
        return Failure { stage: Stage::Answer, message: broken.to_string() };
    };
    // The URL carries every parameter; it does not belong in a log.
    let error = error.without_url();
    let mut stage = if error.is_connect() || error.is_builder() { Stage::Connect } else { Stage::Answer };
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        if is_distrust(current) {
            stage = Stage::Trust;
        }
        let text = current.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = current.source();
    }
    Failure { stage, message }
}

/// An `io::Error` hides what it wraps from `source()`, and one may wrap another.
fn is_distrust(error: &(dyn StdError + 'static)) -> bool {
    if let Some(wrapped) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return is_distrust(wrapped);
    }
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A TLS server of one connection; gives its port, its authority's PEM file and, later, the head it received.
    async fn server(answer: &'static str) -> (u16, Bundle, tokio::task::JoinHandle<String>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(tls)).accept(stream).await else {
                return String::new();
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(head).unwrap()
        });
        (port, Bundle::new(&ca.pem()), task)
    }

    /// A PEM file that goes when it is dropped.
    struct Bundle(PathBuf);

    impl Bundle {
        fn new(pem: &str) -> Self {
            let name = format!("appsnap-ca-{}.pem", crate::clock::Clock::system().nonce());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, pem).unwrap();
            Self(path)
        }
    }

    impl Drop for Bundle {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn wire(port: u16) -> Wire {
        Wire {
            action: "X",
            url: format!("https://localhost:{port}/?Name=a%20b%2Ac~%27%5B%22&Tag.1.Value="),
            query: Vec::new(),
            headers: vec![("x-acs-action".to_owned(), "X".to_owned())],
            body: Vec::new(),
            timeout: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn a_private_authority_is_trusted_by_its_bundle_and_the_wire_is_what_was_signed() {
        let (port, bundle, head) =
            server("HTTP/1.1 403 Forbidden\r\nX-Acs-Request-Id: R\r\ncontent-length: 2\r\n\r\nno").await;
        let transport = Transport::https(Some(&bundle.0)).unwrap();
        let reply = transport.send(&wire(port)).await.unwrap();
        assert_eq!(
            (reply.status, reply.header("x-acs-request-id"), &*reply.body),
            (403, Some("R"), &b"no"[..])
        );
        let head = head.await.unwrap().to_lowercase();
        assert!(head.starts_with("post /?name=a%20b%2ac~%27%5b%22&tag.1.value= http/1.1\r\n"), "{head}");
        assert!(
            head.contains(&format!("host: localhost:{port}\r\n")) && head.contains("x-acs-action: x"),
            "{head}"
        );
        assert!(head.contains("content-length: 0") && !head.contains("content-type"), "{head}");
    }

    #[tokio::test]
    async fn failures_tell_how_far_the_request_came() {
        let (port, _bundle, _) = server("").await;
        let failure = Transport::https(None).unwrap().send(&wire(port)).await.unwrap_err();
        assert_eq!(failure.stage, Stage::Trust, "{failure:?}");

        let (port, bundle, _) = server("").await;
        let transport = Transport::https(Some(&bundle.0)).unwrap();
        let failure = transport.send(&wire(port)).await.unwrap_err();
        assert_eq!(failure.stage, Stage::Answer, "{failure:?}");

        let failure = transport.send(&wire(port)).await.unwrap_err(); // the server is gone
        assert_eq!(failure.stage, Stage::Connect, "{failure:?}");
        assert!(!failure.message.contains("Name="), "{failure:?}");
    }

    #[test]
    fn a_bundle_without_certificates_is_refused_by_name() {
        for path in ["/nonexistent/ca.pem", "/dev/null"] {
            let text = Transport::https(Some(Path::new(path))).err().unwrap().to_string();
            assert!(text.starts_with(&format!("APPSNAP_CA_BUNDLE: {path}: ")), "{text}");
        }
    }
}
