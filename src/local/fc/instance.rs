//! One running copy of `bootstrap`: its process group, its port, its log.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::{Function, Outcome, Request, lock};
use crate::clock::Clock;
use crate::local::world::Session;

/// Lines of log that are kept per instance.
const LOG_LINES: usize = 10_000;

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grew: Notify,
}

/// The ids of all processes that run, leaders of their groups.
pub(super) type Pids = Arc<Mutex<BTreeSet<u32>>>;

/// A process group that is killed when dropped, stopped processes too: nothing is left behind.
struct Group {
    leader: Pid,
    pids: Pids,
}

impl Group {
    fn signal(&self, signal: Signal) {
        // ESRCH: it is gone; the next request will say so.
        let _ = kill_process_group(self.leader, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        lock(&self.pids).remove(&(self.leader.as_raw_pid() as u32));
    }
}

pub(super) struct Instance {
    child: Child,
    group: Group,
    http: SendRequest<Full<Bytes>>,
    log: Arc<Log>,
}

impl Instance {
    /// Starts the program and waits until its port answers.
    pub(super) async fn start(
        function: &Function,
        clock: &Clock,
        session: Option<&Session>,
        pids: &Pids,
    ) -> Result<Self, String> {
        let free = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| format!("no free port: {error}"))?.port();
        let id = format!("c-{}", &clock.nonce()[..24]);
        // It dies with the platform, however that ends: a stopped process would otherwise stay for ever.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&function.bootstrap);
        command.env_clear().envs(environment(function, session, port, &id)).envs(&function.env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", function.bootstrap.display()))?;
        let pid = child.id().ok_or("the process has no id")?;
        let leader = Pid::from_raw(pid as i32).ok_or("the process has no id")?;
        lock(pids).insert(pid);
        let group = Group { leader, pids: pids.clone() };
        let log = Arc::new(Log::default());
        let out = child.stdout.take().map(|out| tokio::spawn(pump(out, log.clone())));
        let err = child.stderr.take().map(|err| tokio::spawn(pump(err, log.clone())));
        match open(&mut child, clock, port, function.start_limit).await {
            Ok(http) => Ok(Self { child, group, http, log }),
            Err(why) => {
                group.signal(Signal::KILL);
                let _ = child.wait().await; // reaped
                // What it wrote last may still be in the pipes; a child of it may hold them for ever.
                let read = async {
                    for pump in [out, err].into_iter().flatten() {
                        let _ = pump.await;
                    }
                };
                let _ = tokio::time::timeout(Duration::from_secs(1), read).await;
                Err(format!("{why}; its last lines: {}", lock(&log.lines).join(" | ")))
            }
        }
    }

    /// Whether the process is still there.
    pub(super) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None)) && !self.http.is_closed()
    }

    pub(super) async fn initialize(
        &mut self,
        function: &Function,
        clock: &Clock,
        session: Option<&Session>,
        id: &str,
    ) -> Result<(), String> {
        let call = Request { id, body: Vec::new(), session: session.cloned(), retries: 0, task_id: None };
        let request = post("/initialize", function, call)?;
        let done = limited(clock, Duration::from_secs(300), self.send(request)).await?;
        let (status, _, body) = done.map_err(|error| format!("initializer: {error}"))?;
        self.group.signal(Signal::STOP);
        if (200..300).contains(&status) {
            Ok(())
        } else {
            Err(format!("initializer answered {status}: {}", String::from_utf8_lossy(&body)))
        }
    }

    /// Runs one invocation; `false`: this instance is not to be used again.
    pub(super) async fn invoke(
        &mut self,
        function: &Function,
        clock: &Clock,
        call: Request<'_>,
    ) -> (Outcome, bool) {
        self.group.signal(Signal::CONT);
        let (id, begun) = (call.id.to_owned(), clock.now());
        let request = match post("/invoke", function, call) {
            Ok(request) => request,
            Err(why) => return (Outcome::error(&id, "FunctionNotStarted", why), false),
        };
        let failed = |message| Outcome::error(&id, "UnhandledInvocationError", message);
        let (mut outcome, usable) = match limited(clock, function.timeout, self.send(request)).await {
            Err(_) => {
                self.group.signal(Signal::KILL);
                let seconds = function.timeout.as_secs_f64();
                (failed(format!("Function timed out after {seconds} seconds, requestId: {id}")), false)
            }
            Ok(Err(_)) => {
                let taken = clock.now().duration_since(begun).as_millis();
                (
                    failed(format!(
                        "Process exited unexpectedly before completing request (duration: {taken}ms)"
                    )),
                    false,
                )
            }
            Ok(Ok((_, fc_status, body))) => {
                // As the platform: the HTTP status is dropped, only the header counts, and its absence means success.
                let error_type = fc_status.filter(|status| status != "200").map(|_| "HandledInvocationError");
                (Outcome { request_id: id.clone(), body, error_type, log: Vec::new(), retries: 0 }, true)
            }
        };
        outcome.log = self.log_of(clock, &id).await;
        self.group.signal(Signal::STOP);
        (outcome, usable)
    }

    /// PreStop where there is one, then SIGTERM, a moment, SIGKILL by dropping.
    pub(super) async fn stop(mut self, clock: &Clock, pre_stop: bool) {
        self.group.signal(Signal::CONT);
        if pre_stop
            && let Ok(request) =
                hyper::Request::get("/pre-stop").header("host", "127.0.0.1").body(Full::default())
        {
            // Its failure does not keep the platform from stopping.
            let _ = limited(clock, Duration::from_secs(3), self.send(request)).await;
        }
        self.group.signal(Signal::TERM);
        let _ = limited(clock, Duration::from_secs(2), self.child.wait()).await;
    }

    async fn send(
        &mut self,
        request: hyper::Request<Full<Bytes>>,
    ) -> Result<(u16, Option<String>, Vec<u8>), hyper::Error> {
        let answer = self.http.send_request(request).await?;
        let status = answer.status().as_u16();
        let header =
            answer.headers().get("x-fc-status").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((status, header, answer.into_body().collect().await?.to_bytes().to_vec()))
    }

    /// The lines from `FC Invoke Start` to `FC Invoke End` of this request; all since then where it never ended.
    async fn log_of(&self, clock: &Clock, request_id: &str) -> Vec<String> {
        let (start, end) = (
            format!("FC Invoke Start RequestId: {request_id}"),
            format!("FC Invoke End RequestId: {request_id}"),
        );
        let ended = async {
            loop {
                let grew = self.log.grew.notified();
                if lock(&self.log.lines).iter().any(|line| line.contains(&end)) {
                    return;
                }
                grew.await;
            }
        };
        let _ = limited(clock, Duration::from_millis(300), ended).await; // a crash prints no end
        let lines = lock(&self.log.lines);
        let from = lines.iter().position(|line| line.contains(&start)).unwrap_or(lines.len());
        let to = lines.iter().position(|line| line.contains(&end)).map_or(lines.len(), |at| at + 1);
        lines.get(from..to.max(from)).unwrap_or_default().to_vec()
    }
}

async fn limited<T>(clock: &Clock, limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    tokio::select! {
        done = work => Ok(done),
        () = clock.sleep(limit) => Err(format!("not done within {limit:?}")),
    }
}

async fn open(
    child: &mut Child,
    clock: &Clock,
    port: u16,
    limit: Duration,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let connect = async {
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("the process exited before its port answered: {status}"));
            }
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                return Ok(stream);
            }
            clock.sleep(Duration::from_millis(10)).await;
        }
    };
    let stream = limited(clock, limit, connect)
        .await
        .map_err(|_| format!("port {port} did not answer within {limit:?}"))??;
    let (http, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection); // ends with the process or with `http`
    Ok(http)
}

async fn pump(from: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut kept = lock(&log.lines);
        if kept.len() >= LOG_LINES {
            kept.drain(..LOG_LINES / 2);
        }
        kept.push(line);
        drop(kept);
        log.grew.notify_waiters();
    }
}

fn environment(
    function: &Function,
    session: Option<&Session>,
    port: u16,
    id: &str,
) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", "/tmp".to_owned()),
        ("FC_SERVER_PORT", port.to_string()),
        ("FC_CUSTOM_LISTEN_PORT", port.to_string()),
        ("FC_FUNC_CODE_PATH", "/code/".to_owned()),
        ("FC_ACCOUNT_ID", function.account_id.clone()),
        ("FC_FUNCTION_HANDLER", "index.handler".to_owned()),
        ("FC_FUNCTION_MEMORY_SIZE", function.memory.to_string()),
        ("FC_FUNCTION_NAME", function.name.clone()),
        ("FC_REGION", function.region_id.clone()),
        ("FC_INSTANCE_ID", id.to_owned()),
        ("FC_FUNCTION_VERSION", "LATEST".to_owned()),
    ];
    if let Some(session) = session {
        all.push(("ALIBABA_CLOUD_ACCESS_KEY_ID", session.access_key_id.clone()));
        all.push(("ALIBABA_CLOUD_ACCESS_KEY_SECRET", session.access_key_secret.expose().to_owned()));
        all.push(("ALIBABA_CLOUD_SECURITY_TOKEN", session.security_token.expose().to_owned()));
    }
    all
}

fn post(path: &str, function: &Function, call: Request<'_>) -> Result<hyper::Request<Full<Bytes>>, String> {
    let session = |part: fn(&Session) -> &str| call.session.as_ref().map(part).unwrap_or_default();
    let headers = [
        ("host", "127.0.0.1".to_owned()),
        ("content-type", "application/octet-stream".to_owned()),
        ("x-fc-request-id", call.id.to_owned()),
        ("x-fc-access-key-id", session(|session| &session.access_key_id).to_owned()),
        ("x-fc-access-key-secret", session(|session| session.access_key_secret.expose()).to_owned()),
        ("x-fc-security-token", session(|session| session.security_token.expose()).to_owned()),
        ("x-fc-account-id", function.account_id.clone()),
        ("x-fc-region", function.region_id.clone()),
        ("x-fc-function-name", function.name.clone()),
        ("x-fc-function-handler", "index.handler".to_owned()),
        ("x-fc-function-memory", function.memory.to_string()),
        ("x-fc-function-timeout", function.timeout.as_secs().to_string()),
        ("x-fc-qualifier", "LATEST".to_owned()),
        ("x-fc-control-path", path.to_owned()),
        ("x-fc-retry-count", call.retries.to_string()),
        ("x-fc-service-name", String::new()),
    ];
    let mut request = hyper::Request::post(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(task_id) = call.task_id {
        request = request.header("x-fc-async-task-id", task_id);
    }
    request
        .body(Full::new(call.body.into()))
        .map_err(|error| format!("cannot be sent to the function: {error}"))
}
