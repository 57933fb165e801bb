//! A minimal HTTPS endpoint for the sequence's tests: it knows two actions, one group, and how to misbehave.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// How the endpoint behaves.
#[derive(Clone, Copy)]
pub struct Manners {
    /// From the create to the group showing in a describe.
    pub visible_after: Duration,
    /// The create is never answered.
    pub hang: bool,
}

/// One request as it arrived.
#[derive(Clone)]
pub struct Seen {
    pub action: String,
    pub nonce: String,
    pub connection: usize,
}

/// A running endpoint on its own thread; it ends with the test process.
pub struct Endpoint {
    pub port: u16,
    pub ca_pem: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer_after: Arc<Mutex<Duration>>,
    spent: Arc<Mutex<Duration>>,
}

impl Endpoint {
    pub fn start(manners: Manners, disks: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let members: Vec<String> =
            disks.iter().map(|d| format!("{{\"SnapshotId\":\"s-{d}\",\"SourceDiskId\":\"{d}\"}}")).collect();
        let group = format!(
            "{{\"SnapshotGroupId\":\"ssg-1\",\"Snapshots\":{{\"Snapshot\":[{}]}}}}",
            members.join(",")
        );
        let log = seen.clone();
        let (answer_after, spent) = (Arc::<Mutex<Duration>>::default(), Arc::<Mutex<Duration>>::default());
        let (late, took) = (answer_after.clone(), spent.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                // Groups by run: the query of a run names it.
                let created: Arc<Mutex<Vec<(String, Instant)>>> = Arc::default();
                let mut connection = 0;
                while let Ok((socket, _)) = listener.accept().await {
                    let _ = socket.set_nodelay(true);
                    connection += 1;
                    let (acceptor, log, group, created) = (acceptor.clone(), log.clone(), group.clone(), created.clone());
                    let (late, took) = (late.clone(), took.clone());
                    tokio::spawn(async move {
                        let Ok(mut stream) = acceptor.accept(socket).await else { return };
                        let mut buffer = Vec::new();
                        loop {
                            while !buffer.windows(4).any(|w| w == b"\r\n\r\n") {
                                let mut chunk = [0; 8192];
                                match stream.read(&mut chunk).await {
                                    Ok(n) if n > 0 => buffer.extend_from_slice(&chunk[..n]),
                                    _ => return,
                                }
                            }
                            let head = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
                            let header = |name: &str| {
                                let find = |line: &str| line.split_once(": ").filter(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_string());
                                head.lines().find_map(find).unwrap_or_default()
                            };
                            let run = head.split("Run=").nth(1).unwrap_or_default().split([' ', '&']).next().unwrap_or_default().to_string();
                            let action = header("x-acs-action");
                            log.lock().unwrap().push(Seen { action: action.clone(), nonce: header("x-acs-signature-nonce"), connection });
                            let body = if action == "CreateSnapshotGroup" {
                                if manners.hang {
                                    std::future::pending::<()>().await;
                                }
                                let received = Instant::now();
                                let wait = *late.lock().unwrap();
                                if !wait.is_zero() {
                                    tokio::time::sleep(wait).await;
                                }
                                *took.lock().unwrap() = received.elapsed();
                                let mut created = created.lock().unwrap();
                                if !created.iter().any(|(id, _)| *id == run) {
                                    created.push((run, Instant::now()));
                                }
                                "{\"RequestId\":\"R-1\",\"SnapshotGroupId\":\"ssg-1\"}".to_string()
                            } else {
                                let shown = created.lock().unwrap().iter().any(|(id, at)| *id == run && at.elapsed() >= manners.visible_after);
                                format!("{{\"RequestId\":\"R-2\",\"SnapshotGroups\":{{\"SnapshotGroup\":[{}]}}}}", if shown { &group } else { "" })
                            };
                            let reply = format!("HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 03:00:00 GMT\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                            if stream.write_all(reply.as_bytes()).await.is_err() || head.contains("Connection: close") {
                                let _ = stream.shutdown().await;
                                return;
                            }
                        }
                    });
                }
            });
        });
        Endpoint { port, ca_pem: made.cert.pem(), seen, answer_after, spent }
    }

    /// From now on a create is answered this late; its group is born with the answer.
    #[allow(dead_code)] // for the bench
    pub fn answer_after(&self, wait: Duration) {
        *self.answer_after.lock().unwrap() = wait;
    }

    /// How long the last create was held here.
    #[allow(dead_code)] // for the bench
    pub fn spent(&self) -> Duration {
        *self.spent.lock().unwrap()
    }

    /// What arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}
