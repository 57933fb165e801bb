//! The custom runtime over real sockets, spoken to as Function Compute speaks: raw HTTP/1.1.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appsnap::clock::Clock;
use appsnap::fc::{self, Log};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinHandle;

/// A server in this process, its log in a buffer.
struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<u8>>>,
    stop: Arc<Notify>,
    ended: JoinHandle<Result<(), fc::Error>>,
    _tracing: tracing::subscriber::DefaultGuard,
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn start<H, F>(handler: H) -> Server
where
    H: Fn(fc::Event, fc::Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, fc::Failure>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let log = Log::to(Sink(buffer.clone()));
    // For this thread only, which is all that a current_thread runtime has.
    let tracing = tracing::subscriber::set_default(log.subscriber("info", Clock::system()).unwrap());
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let stop_now = async move { stopped.notified().await };
    let ended = tokio::spawn(fc::serve_on(listener, Clock::system(), log, stop_now, handler));
    Server { address, log: buffer, stop, ended, _tracing: tracing }
}

impl Server {
    fn lines(&self) -> Vec<String> {
        let log = String::from_utf8(self.log.lock().unwrap().clone()).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    async fn connect(&self) -> Client {
        Client(BufStream::new(TcpStream::connect(self.address).await.unwrap()))
    }
}

/// One keep-alive connection.
struct Client(BufStream<TcpStream>);

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Value,
}

impl Reply {
    fn fc_status(&self) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix("x-fc-status: "));
        line.unwrap_or_else(|| panic!("no x-fc-status in {}", self.head))
    }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn reply(&mut self) -> Reply {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).await.unwrap(), 0, "closed after {head:?}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        Reply { status: head[9..12].parse().unwrap(), head, body: serde_json::from_slice(&body).unwrap() }
    }

    async fn call(&mut self, line: &str, headers: &str, body: &str) -> Reply {
        self.send(request(line, headers, body)).await;
        self.reply().await
    }

    async fn invoke(&mut self, id: &str, body: &str) -> Reply {
        let headers =
            format!("x-fc-control-path: /invoke\r\nx-fc-request-id: {id}\r\nx-fc-function-timeout: 60\r\n");
        self.call("POST /invoke", &headers, body).await
    }

    /// Whether the server has closed the connection, without a byte more.
    async fn is_closed(&mut self) -> bool {
        self.0.read(&mut [0]).await.is_ok_and(|n| n == 0)
    }
}

fn request(line: &str, headers: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn echo(event: fc::Event, context: fc::Context) -> Result<Value, fc::Failure> {
    let event: Value = event.json()?;
    tracing::info!(at = "echo", "working");
    match event["do"].as_str() {
        Some("fail") => Err(fc::Failure::new("Refused", "not today").with_report(json!({ "level": "none" }))),
        Some("panic") => panic!("spilled {}", event["what"]),
        _ => Ok(json!({ "event": event, "requestId": context.request_id, "region": context.region })),
    }
}

#[tokio::test]
async fn an_invocation_goes_the_whole_way() {
    let server = start(echo).await;
    let mut client = server.connect().await;
    let headers = "x-fc-request-id: 1-a\r\nx-fc-region: cn-hangzhou\r\nx-fc-access-key-secret: hunter2\r\n";
    let reply = client.call("POST /invoke", headers, r#"{"n": 1}"#).await;
    assert_eq!((reply.status, reply.fc_status()), (200, "200"));
    assert_eq!(reply.body, json!({ "event": { "n": 1 }, "requestId": "1-a", "region": "cn-hangzhou" }));

    let lines = server.lines();
    assert_eq!(lines[0], "FC Invoke Start RequestId: 1-a");
    let line: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!((&line["message"], &line["span"]["requestId"]), (&json!("working"), &json!("1-a")));
    assert_eq!(lines[2..], ["FC Invoke End RequestId: 1-a"]);
    assert!(!lines.concat().contains("hunter2"));
}

#[tokio::test]
async fn a_failure_is_told_in_the_header_the_body_and_the_log() {
    let server = start(echo).await;
    let reply = server.connect().await.invoke("1-a", r#"{"do": "fail"}"#).await;
    assert_eq!((reply.status, reply.fc_status()), (404, "404"));
    let expected =
        json!({ "errorMessage": "not today", "errorType": "Refused", "report": { "level": "none" } });
    assert_eq!(reply.body, expected);
    let end = server.lines().pop().unwrap();
    assert_eq!(end, "FC Invoke End RequestId: 1-a, Error: Unhandled function error");
}

#[tokio::test]
async fn a_panic_is_answered_and_the_process_lives() {
    let server = start(echo).await;
    let mut client = server.connect().await;
    let reply = client.invoke("1-a", r#"{"do": "panic", "what": "beans"}"#).await;
    assert_eq!((reply.status, reply.fc_status()), (404, "404"));
    let expected =
        json!({ "errorMessage": "the handler panicked: spilled \"beans\"", "errorType": "HandlerPanicked" });
    assert_eq!(reply.body, expected);
    assert!(server.lines().last().unwrap().ends_with(", Error: Unhandled function error"));
    assert_eq!(client.invoke("1-b", "{}").await.status, 200);
}

#[tokio::test]
async fn a_bad_event_gets_a_clear_answer() {
    let server = start(echo).await;
    for (body, message) in [
        ("{", "the event is not as expected: EOF while parsing an object at line 1 column 1"),
        ("", "the event is empty: send a JSON document"),
    ] {
        let reply = server.connect().await.invoke("1-a", body).await;
        assert_eq!((reply.status, reply.fc_status()), (404, "404"));
        assert_eq!(reply.body, json!({ "errorMessage": message, "errorType": "InvalidEvent" }));
    }
}

#[tokio::test]
async fn an_event_above_the_limit_is_refused_by_its_announced_and_by_its_real_size() {
    let server = start(|event: fc::Event, _| async move { Ok(json!(event.bytes().len())) }).await;
    let limit = fc::MAX_EVENT_BYTES;

    let mut announced = server.connect().await;
    announced
        .send(format!("POST /invoke HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", limit + 1))
        .await;
    let chunked = async |size: usize| {
        let mut client = server.connect().await;
        let head =
            format!("POST /invoke HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n");
        client.send([head.as_bytes(), &vec![b'x'; size], b"\r\n0\r\n\r\n"].concat()).await;
        client.reply().await
    };
    for reply in [announced.reply().await, chunked(limit + 1).await] {
        assert_eq!((reply.status, reply.fc_status()), (413, "404"));
        assert_eq!(reply.body["errorType"], "EventTooLarge");
        assert!(reply.body["errorMessage"].as_str().unwrap().starts_with("the event is over 33554432 bytes"));
    }
    assert_eq!(chunked(limit).await.body, json!(limit));
}

#[tokio::test]
async fn what_is_no_event_is_refused_and_health_answered() {
    let server = start(echo).await;
    let mut client = server.connect().await;
    let http = "x-fc-control-path: /http-invoke\r\n";
    for (line, headers, status, kind) in [
        ("POST /invoke", http, 404, "HttpTriggerNotSupported"),
        ("GET /", http, 404, "HttpTriggerNotSupported"),
        ("GET /invoke", "", 405, "MethodNotAllowed"),
        ("GET /nowhere", "", 404, "NotFound"),
    ] {
        let reply = client.call(line, headers, "").await;
        assert_eq!((reply.status, reply.fc_status()), (status, "404"), "{line}");
        assert_eq!(reply.body["errorType"], kind, "{line}");
        assert_eq!(reply.head.contains("allow: POST\r\n"), status == 405, "{line}");
    }
    assert_eq!(client.call("GET /healthz", http, "").await.status, 200);
    let before = server.lines().len();
    assert_eq!(client.call("POST /initialize", "x-fc-request-id: uuid\r\n", "").await.status, 200);
    assert_eq!(
        server.lines()[before..],
        ["FC Initialize Start RequestId: uuid", "FC Initialize End RequestId: uuid"]
    );
}

#[tokio::test]
async fn invocations_run_at_once_and_their_log_lines_stay_whole() {
    const MANY: usize = 8;
    let barrier = Arc::new(Barrier::new(MANY));
    let server = start(move |event: fc::Event, context: fc::Context| {
        let barrier = barrier.clone();
        async move {
            for step in 0..20 {
                barrier.wait().await; // passes only when all are in here
                tracing::info!(id = context.request_id, step, filler = "x".repeat(5000), "step");
            }
            event.json()
        }
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..MANY {
        let mut client = server.connect().await;
        clients
            .push(tokio::spawn(async move { client.invoke(&format!("1-{n}"), &n.to_string()).await.body }));
    }
    for (n, client) in clients.into_iter().enumerate() {
        assert_eq!(client.await.unwrap(), json!(n));
    }
    let lines = server.lines();
    let (json, marks): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with('{'));
    assert_eq!((json.len(), marks.len()), (MANY * 20, MANY * 2));
    for line in json {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["span"]["requestId"], line["id"]);
    }
    assert!(marks.iter().all(|line| line.starts_with("FC Invoke ")));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_never_closed() {
    let server = start(echo).await;
    let mut unused = server.connect().await;
    let mut used = server.connect().await;
    used.invoke("1-a", "{}").await;
    Clock::system().sleep(Duration::from_secs(25 * 3600)).await;
    assert_eq!(used.invoke("1-b", "{}").await.status, 200);
    assert_eq!(unused.invoke("1-c", "{}").await.status, 200);
}

/// A handler that says when it began, and ends when it may.
async fn held() -> (Server, Arc<Notify>, Arc<Notify>) {
    let (began, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, ends) = (began.clone(), may_end.clone());
    let server = start(move |_, _| {
        let (begins, ends) = (begins.clone(), ends.clone());
        async move {
            begins.notify_one();
            ends.notified().await;
            Ok(json!("done"))
        }
    })
    .await;
    (server, began, may_end)
}

#[tokio::test]
async fn work_goes_on_when_the_connection_breaks() {
    let (server, began, may_end) = held().await;
    let mut client = server.connect().await;
    client.send(request("POST /invoke", "x-fc-request-id: 1-a\r\n", "{}")).await;
    began.notified().await;
    drop(client);
    Clock::system().sleep(Duration::from_millis(50)).await;
    assert_eq!(server.lines(), ["FC Invoke Start RequestId: 1-a"]);
    server.stop.notify_one();
    may_end.notify_one();
    server.ended.await.unwrap().unwrap();
    assert!(server.log.lock().unwrap().ends_with(b"FC Invoke End RequestId: 1-a\n"));
}

#[tokio::test]
async fn pre_stop_answers_after_what_is_in_flight_and_ends_the_server() {
    let (server, began, may_end) = held().await;
    let mut idle = server.connect().await;
    let mut working = server.connect().await;
    working.send(request("POST /invoke", "x-fc-request-id: 1-a\r\n", "{}")).await;
    began.notified().await;
    let mut stopping = server.connect().await;
    stopping.send(request("GET /pre-stop", "x-fc-request-id: uuid\r\n", "")).await;

    assert!(idle.is_closed().await);
    assert!(TcpStream::connect(server.address).await.is_err(), "still accepting");
    assert!(!server.ended.is_finished());
    may_end.notify_one();
    assert_eq!(working.reply().await.body, json!("done"));
    assert_eq!(stopping.reply().await.status, 200);
    assert!(working.is_closed().await && stopping.is_closed().await);
    let lines = server.lines();
    server.ended.await.unwrap().unwrap();
    assert_eq!(
        lines,
        [
            "FC Invoke Start RequestId: 1-a",
            "FC PreStop Start RequestId: uuid",
            "FC Invoke End RequestId: 1-a",
            "FC PreStop End RequestId: uuid"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_beyond_the_deadline() {
    let (server, began, _may_end) = held().await;
    let mut working = server.connect().await;
    working.send(request("POST /invoke", "x-fc-function-timeout: 60\r\n", "{}")).await;
    began.notified().await;
    let mut stopping = server.connect().await;
    let reply = stopping.call("GET /pre-stop", "x-fc-function-timeout: 3\r\n", "").await;
    assert_eq!(reply.body["errorMessage"], "1 invocation(s) still running at the deadline");
    assert!(!server.ended.is_finished());
    let error = server.ended.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "stopped with 1 invocation(s) still running at their deadline");
}
