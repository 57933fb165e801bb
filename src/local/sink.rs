//! A sink on loopback for what channels send: a webhook that checks the Standard Webhooks signature and keeps what
//! arrived, byte for byte, and a robot of each brand.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::robot::{BRANDS, Brand, Robot, brand_of};
use super::verify::Received;
use crate::clock::Clock;
use crate::secret::Secret;

/// Timestamps have to be this close, in seconds, as in the specification's libraries.
const TOLERANCE: i64 = 300;

/// One message to the webhook as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `webhook-id`.
    pub id: String,
    /// Headers with lower-case names.
    pub headers: Vec<(String, String)>,
    /// The body, untouched.
    pub body: Vec<u8>,
    /// What is wrong with the signature; `None`: it is good.
    pub fault: Option<String>,
    /// What was answered.
    pub status: u16,
}

struct Shared {
    secret: Secret,
    clock: Clock,
    deliveries: Mutex<Vec<Delivery>>,
    answers: Mutex<VecDeque<u16>>,
    /// In the order of `BRANDS`.
    robots: [Mutex<Robot>; 3],
}

impl Shared {
    fn robot(&self, brand: Brand) -> MutexGuard<'_, Robot> {
        self.robots[brand as usize].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A sink that listens; it stops when dropped.
pub struct Sink {
    /// Where.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Sink {
    /// Listens on 127.0.0.1 for messages signed with `secret` (`whsec_` and base64).
    ///
    /// # Errors
    /// No address can be bound.
    pub async fn start(secret: Secret, clock: Clock) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let robots = BRANDS.map(|brand| Mutex::new(Robot::new(brand)));
        let shared = Arc::new(Shared {
            secret,
            clock,
            deliveries: Mutex::default(),
            answers: Mutex::default(),
            robots,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// `http://127.0.0.1:PORT/`
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The address of a robot.
    pub fn robot_url(&self, brand: Brand) -> String {
        format!("http://{}{}", self.address, self.robot(brand).address())
    }

    /// A robot: what it got, what it wants.
    pub fn robot(&self, brand: Brand) -> MutexGuard<'_, Robot> {
        self.shared.robot(brand)
    }

    /// What came to the webhook so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.deliveries.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The next messages get these statuses, in turn, before the usual 204 (or 401 for a bad signature).
    pub fn answer_with(&self, statuses: &[u16]) {
        self.shared.answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(statuses);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| receive(request, shared.clone()));
                    let mut http = hyper::server::conn::http1::Builder::new();
                    // A broken connection is the sender's to notice.
                    let _ = http.header_read_timeout(None).serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
            else => shared.clock.sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn receive(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<hyper::Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let header = |name: &str| {
        headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let Ok(body) = Limited::new(body, 1 << 20).collect().await else { return Ok(answer(413, "")) };
    let body = body.to_bytes().to_vec();
    if let Some(brand) = brand_of(head.uri.path()) {
        let (path, query) = (head.uri.path().into(), head.uri.query().unwrap_or_default().into());
        let request = Received { method: head.method.to_string(), path, query, headers, body };
        let answered = shared.robot(brand).take(&request, shared.clock.now());
        let Some((status, text)) = answered else { return std::future::pending().await };
        return Ok(answer(status, &text));
    }
    let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
    let now = shared.clock.now().as_second();
    let fault = check(&shared.secret, now, id, time, header("webhook-signature"), &body).err();
    let usual = if fault.is_some() { 401 } else { 204 };
    let status =
        shared.answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front().unwrap_or(usual);
    let delivery = Delivery { id: id.to_owned(), headers, body, fault, status };
    shared.deliveries.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(delivery);
    Ok(answer(status, ""))
}

fn answer(status: u16, text: &str) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::from(text.to_owned()));
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Checks a Standard Webhooks signature: HMAC-SHA256 over `id.timestamp.body`, any of several `v1,…`.
fn check(
    secret: &Secret,
    now: i64,
    id: &str,
    time: &str,
    signatures: &str,
    body: &[u8],
) -> Result<(), String> {
    if id.is_empty() || id.contains('.') {
        return Err("webhook-id is absent or has a dot".into());
    }
    let sent: i64 = time.parse().map_err(|_| "webhook-timestamp is not in seconds")?;
    if (now - sent).abs() > TOLERANCE {
        return Err(format!("webhook-timestamp is {} s away", now - sent));
    }
    let key = secret.expose().strip_prefix("whsec_").ok_or("the sink's own secret lacks whsec_")?;
    let key = BASE64.decode(key).map_err(|_| "the sink's own secret is no base64")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| "the sink's own secret is no key")?;
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    let good = |one: &str| {
        let signature = one.strip_prefix("v1,").and_then(|text| BASE64.decode(text).ok());
        signature.is_some_and(|bytes| mac.clone().verify_slice(&bytes).is_ok())
    };
    if signatures.split(' ').any(good) { Ok(()) } else { Err("webhook-signature does not match".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_specifications_vector_verifies_and_nothing_near_it_does() {
        let secret = Secret::new(KEY);
        let check = |now, id, signature: &str, body: &str| {
            check(&secret, now, id, "1614265330", signature, body.as_bytes()).is_ok()
        };
        assert!(check(1614265330, ID, SIGNATURE, BODY));
        assert!(check(1614265330, ID, &format!("v1,AAAA v1a,x {SIGNATURE}"), BODY));
        assert!(!check(1614265330 + 301, ID, SIGNATURE, BODY));
        assert!(!check(1614265330, "msg_other", SIGNATURE, BODY));
        assert!(!check(1614265330, ID, SIGNATURE, "{}"));
        assert!(!check(1614265330, ID, "", BODY));
    }

    #[tokio::test]
    async fn bodies_are_kept_as_received_and_answers_can_be_chosen() {
        let clock = Clock::seeded("2021-02-25T15:02:10Z".parse().unwrap(), 1);
        let sink = Sink::start(Secret::new(KEY), clock).await.unwrap();
        sink.answer_with(&[503]);
        let mut codes = Vec::new();
        for signature in [SIGNATURE, SIGNATURE, "v1,AAAA"] {
            let mut stream = tokio::net::TcpStream::connect(sink.address).await.unwrap();
            let request = format!(
                "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nwebhook-id: {ID}\r\nwebhook-timestamp: 1614265330\r\n\
                 webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{BODY}",
                BODY.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            codes.push(answer[9..12].to_owned());
        }
        assert_eq!(codes, ["503", "204", "401"]);
        let deliveries = sink.deliveries();
        assert!(deliveries.iter().all(|one| one.body == BODY.as_bytes()));
        assert_eq!(deliveries.iter().map(|one| one.fault.is_none()).collect::<Vec<_>>(), [true, true, false]);
    }
}
