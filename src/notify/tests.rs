use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::report::Status;
use crate::secret::Secret;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TOKEN: &str = "t0ken-in-the-path";

/// A receiver on loopback that gives the answers in turn (then none) and keeps what it got.
async fn receiver(answers: &'static [&'static str]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(vec![])));
    let kept = seen.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !complete(&request) {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "cut off: {request}");
                request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            }
            kept.lock().unwrap().push(request);
            let answer = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, seen)
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn complete(request: &str) -> bool {
    request.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        header(head, "content-length").and_then(|length| length.parse().ok()) == Some(body.len())
    })
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have been first
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let roots = rustls::RootCertStore::empty();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    builder.tls_backend_preconfigured(tls).build().unwrap()
}

fn report(status: Status) -> Report {
    let report = serde_json::json!({
        "schema": 1, "version": "0.1.0", "run": "r-7908f47fc2f4bbf8", "policy": "orders-db", "occurrence": "o",
        "trigger": "timer", "status": status, "summary": {}, "startedAt": "", "finishedAt": "", "durationMs": 0,
        "apiCalls": 0, "units": [], "notifications": [],
    });
    serde_json::from_value(report).unwrap()
}

fn webhook(on: &str) -> Vec<Channel> {
    let json = format!(r#"[{{"channel":"webhook","url":"env:U","secret":"env:S","on":["{on}"]}}]"#);
    Channel::parse_list(&json).unwrap()
}

/// What the handler keeps of an invocation for its channels.
fn soon(clock: &Clock) -> Timestamp {
    clock.now() + jiff::SignedDuration::from_secs(25)
}

/// Sends a failed report to `url`.
async fn sent(url: &str, secret: &str) -> NotificationReport {
    let env = |name: &str| Some(if name == "U" { url } else { secret }.to_owned());
    let channels = webhook("failed");
    let (clock, deadline) = (Clock::system(), soon(&Clock::system()));
    let mut told = send(&report(Status::Failed), &channels, &env, &client(), &clock, deadline).await;
    assert_eq!(told.len(), 1);
    told.remove(0)
}

#[tokio::test]
async fn a_message_is_signed_and_holds_the_report() {
    let (address, seen) = receiver(&["204 No Content"]).await;
    let told = sent(&format!("http://{address}/hook/{TOKEN}?k=1"), SECRET).await;
    assert_eq!((told.channel.as_str(), told.status.as_str(), told.attempts), ("webhook", "delivered", 1));
    let seen = seen.lock().unwrap();
    let (head, body) = seen[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("POST /hook/{TOKEN}?k=1 HTTP/1.1")), "{head}");
    assert_eq!(serde_json::from_str::<Report>(body).unwrap(), report(Status::Failed));
    let (id, time) = (header(head, "webhook-id").unwrap(), header(head, "webhook-timestamp").unwrap());
    assert_eq!(id, "r-7908f47fc2f4bbf8-failed");
    let key = signature::Key::parse(&Secret::new(SECRET)).unwrap();
    let signature = key.sign(id, time.parse().unwrap(), body);
    assert_eq!(header(head, "webhook-signature"), Some(signature.as_str()));
}

#[tokio::test]
async fn failures_are_repeated_and_refusals_are_not() {
    let table: [(&'static [&'static str], &str, u32, &str); 6] = [
        (&["503 x\r\nretry-after: 0", "500 x\r\nretry-after: 0", "200 OK"], "delivered", 3, ""),
        (&["503 x\r\nretry-after: 0", "503 x\r\nretry-after: 0", "503 x"], "failed", 3, "answered 503"),
        (&["429 x\r\nretry-after: 60"], "failed", 1, "retry after 60 s"),
        (&["410 Gone"], "failed", 1, "answered 410 Gone"),
        (&["401 Unauthorized"], "failed", 1, "answered 401"),
        (&["307 x\r\nlocation: https://elsewhere.example/"], "failed", 1, "redirected (307"),
    ];
    for (answers, status, attempts, error) in table {
        let (address, seen) = receiver(answers).await;
        let told = sent(&format!("http://{address}/{TOKEN}"), SECRET).await;
        assert_eq!((told.status.as_str(), told.attempts), (status, attempts), "{answers:?}");
        let message = told.error.unwrap_or_default();
        assert!(message.contains(error) && !message.contains(TOKEN), "{message}");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), attempts as usize);
        assert!(seen.iter().all(|it| header(it, "webhook-id") == header(&seen[0], "webhook-id")));
    }
}

#[tokio::test]
async fn errors_name_the_host_and_keep_the_rest_to_themselves() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let table = [
        (format!("https://{closed}/{TOKEN}"), SECRET, "https://127.0.0.1: "),
        (format!("http://hooks.example/{TOKEN}"), SECRET, "env:U must be an https URL"),
        (format!("file:///{TOKEN}"), SECRET, "env:U must be an https URL"),
        (TOKEN.to_owned(), SECRET, "env:U is no URL"),
        (String::new(), SECRET, "env:U is not set"),
        (format!("https://{closed}/"), TOKEN, "env:S must be whsec_"),
    ];
    for (url, secret, expected) in table {
        let told = sent(&url, secret).await;
        let message = told.error.unwrap();
        assert!(message.starts_with(expected) && !message.contains(TOKEN), "{message}");
        assert_eq!(told.status, "failed");
    }
}

#[tokio::test]
async fn only_the_statuses_that_were_asked_for_are_sent() {
    let env = |_: &str| None;
    let clock = Clock::system();
    let told =
        send(&report(Status::Succeeded), &webhook("failed"), &env, &client(), &clock, soon(&clock)).await;
    assert_eq!(told, vec![]);
}

#[tokio::test]
async fn a_silent_channel_ends_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let channel = &webhook("failed")[0];
    let env = |name: &str| Some(if name == "U" { url.clone() } else { SECRET.into() });
    let target = Target::resolve(channel, &env).ok().unwrap();
    let letter =
        Letter { id: "m".into(), report: "{}".into(), message: Message::of(&report(Status::Failed)) };
    let (client, clock) = (client(), Clock::seeded("2026-11-22T03:00:00Z".parse().unwrap(), 1));
    let deadline = soon(&clock);
    tokio::time::pause(); // the receiver never answers, so nothing but the timers can move
    let (attempts, error) = delivery::deliver(&target, &letter, &client, &clock, deadline).await;
    assert!(attempts >= 2 && error.unwrap().contains("timed out"));
    let start: jiff::Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
    let took = clock.now().duration_since(start).as_millis();
    assert!((16_000..20_100).contains(&took), "{took} ms"); // tokio's timers round up
}

#[test]
fn the_requests_own_channels_go_before_the_environments() {
    let default = |_: &str| Some(r#"[{"channel":"webhook","url":"env:U","secret":"env:S"}]"#.to_owned());
    let own = webhook("failed");
    assert_eq!(channels(Some(&own), &default), Ok(own.clone()));
    assert_eq!(channels(Some(&[]), &default), Ok(vec![]));
    assert_eq!(channels(None, &default).unwrap()[0].on.len(), 4);
    assert_eq!(channels(None, &|_| None), Ok(vec![]));
    assert!(channels(None, &|_| Some("{}".into())).unwrap_err().to_string().contains("APPSNAP_NOTIFY"));
}
