//! The platform against a toy `bootstrap`: this test binary itself, started as a function.

use std::os::unix::fs::PermissionsExt;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::*;
use crate::local::world::tests::lab;

/// Not a test when run as one; as a child of the platform it is the function.
#[test]
fn toy_bootstrap() {
    let Ok(port) = std::env::var("FC_SERVER_PORT") else { return };
    let ticks = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (counted, runtime) =
        (ticks.clone(), tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    std::thread::spawn(move || {
        loop {
            #[allow(clippy::disallowed_methods)]
            // shows whether the process runs, which no clock in it can tell
            std::thread::sleep(Duration::from_millis(10));
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind(format!("0.0.0.0:{port}")).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let ticks = ticks.clone();
            let service = service_fn(move |request| toy(request, ticks.clone()));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}

type Toy = hyper::Response<http_body_util::Full<hyper::body::Bytes>>;

async fn toy(
    request: hyper::Request<hyper::body::Incoming>,
    ticks: Arc<std::sync::atomic::AtomicU32>,
) -> Result<Toy, hyper::Error> {
    use http_body_util::BodyExt;
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let id = header("x-fc-request-id");
    let body = body.collect().await?.to_bytes();
    let asked = std::str::from_utf8(&body).unwrap();
    if head.uri.path() == "/pre-stop" {
        let _ = std::fs::write(std::env::var("TOY_MARK").unwrap(), "pre-stop"); // read by the test
    }
    println!("FC Invoke Start RequestId: {id}\nasked {asked}");
    let mut answer = hyper::Response::builder();
    let text = match asked {
        "die" => std::process::exit(7),
        "sleep" => std::future::pending::<String>().await,
        "ticks" => ticks.load(std::sync::atomic::Ordering::Relaxed).to_string(),
        "whoami" => format!(
            "{} {} {} {}",
            head.uri.path(),
            header("x-fc-access-key-id"),
            std::env::var("ALIBABA_CLOUD_ACCESS_KEY_ID").unwrap(),
            header("x-fc-control-path")
        ),
        "status 500" => {
            answer = answer.status(500);
            "the status is dropped".into()
        }
        "twice" if header("x-fc-retry-count") == "2" => "at last".into(),
        "fail" | "twice" => {
            answer = answer.header("x-fc-status", "404");
            format!("failed at {}", header("x-fc-retry-count"))
        }
        _ => "initialized".into(),
    };
    println!("FC Invoke End RequestId: {id}");
    Ok(answer.body(text.into_bytes().into()).unwrap())
}

struct Stage {
    fc: Fc,
    dir: PathBuf,
}

impl Stage {
    fn new(name: &str, change: impl FnOnce(&mut Function)) -> Self {
        let dir = std::env::temp_dir().join(format!("appsnap-fc-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let bootstrap = dir.join("bootstrap");
        let exe = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nexec '{}' --exact local::fc::tests::toy_bootstrap --nocapture\n",
            exe.display()
        );
        std::fs::write(&bootstrap, script).unwrap();
        std::fs::set_permissions(&bootstrap, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mark = ("TOY_MARK".to_owned(), dir.join("mark").display().to_string());
        let role_arn = Some("acs:ram::1:role/appsnap".into());
        let mut function = Function { bootstrap, role_arn, env: [mark].into(), ..Function::default() };
        change(&mut function);
        let (effects, _) = mpsc::unbounded_channel();
        let clock = Clock::system();
        let cloud = Cloud::new(lab::small(Default::default()), clock.clone(), effects);
        Self { fc: Fc::new(function, cloud, clock), dir }
    }

    async fn ask(&self, what: &str) -> (String, Option<&'static str>) {
        let outcome = self.fc.invoke(what.into()).await;
        (String::from_utf8(outcome.body).unwrap(), outcome.error_type)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir); // a leftover in the temporary directory is harmless
    }
}

fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test]
async fn failure_is_known_by_the_header_alone_and_logs_are_sliced() {
    let stage = Stage::new("status", |_| {});
    assert_eq!(stage.ask("status 500").await, ("the status is dropped".into(), None));
    assert_eq!(stage.ask("fail").await, ("failed at 0".into(), Some("HandledInvocationError")));
    let (who, _) = stage.ask("whoami").await;
    let who: Vec<&str> = who.split(' ').collect();
    assert!(
        who[0] == "/invoke" && who[1].starts_with("STS.N") && who[2].starts_with("STS.N") && who[1] != who[2]
    );
    let outcome = stage.fc.invoke("ticks".into()).await;
    assert_eq!(outcome.request_id.split('-').map(str::len).collect::<Vec<_>>(), [1, 8, 8, 12]);
    assert_eq!((outcome.log.len(), outcome.log[1].as_str()), (3, "asked ticks"));
}

#[tokio::test]
async fn between_requests_the_process_is_stopped_and_stopping_leaves_nothing() {
    let stage = Stage::new("stop", |function| function.initialize = true);
    let clock = Clock::system();
    let ticks = |text: (String, _)| text.0.parse::<u32>().unwrap();
    let before = ticks(stage.ask("ticks").await);
    let pids = stage.fc.pids();
    clock.sleep(Duration::from_millis(500)).await;
    assert_eq!((pids.len(), state_of(pids[0])), (1, Some('T')));
    let after = ticks(stage.ask("ticks").await);
    assert!(after - before < 25, "{before} to {after}: it ran between the requests");
    assert_eq!(stage.fc.pids(), pids, "the same instance served both");
    stage.fc.stop().await;
    assert_eq!(std::fs::read_to_string(stage.dir.join("mark")).unwrap(), "pre-stop");
    assert_eq!(state_of(pids[0]), None);
}

#[tokio::test]
async fn timeouts_and_deaths_are_answered_and_the_next_call_gets_a_new_instance() {
    let stage = Stage::new("death", |function| function.timeout = Duration::from_secs(2));
    let (body, kind) = stage.ask("die").await;
    assert!(
        body.contains("Process exited unexpectedly") && kind == Some("UnhandledInvocationError"),
        "{body}"
    );
    let (body, kind) = stage.ask("sleep").await;
    assert!(body.contains("timed out after 2 seconds") && kind == Some("UnhandledInvocationError"), "{body}");
    assert_eq!(stage.fc.pids().len(), 0);
    assert_eq!(stage.ask("ticks").await.1, None);
    let killed = rustix::process::Pid::from_raw(stage.fc.pids()[0] as i32).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    let threads =
        || std::fs::read_dir(format!("/proc/{}/task", killed.as_raw_pid())).map_or(0, Iterator::count);
    while threads() > 1 || !matches!(state_of(killed.as_raw_pid() as u32), None | Some('Z')) {
        Clock::system().sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stage.ask("ticks").await.1, None, "one that died while idle is not used");
    let pid = stage.fc.pids()[0];
    drop(stage);
    for _ in 0..100 {
        if matches!(state_of(pid), None | Some('Z')) {
            return;
        }
        Clock::system().sleep(Duration::from_millis(20)).await;
    }
    panic!("{pid} is left behind");
}

#[tokio::test]
async fn asynchronous_calls_are_retried_and_their_task_ids_are_unique() {
    let stage = Stage::new("async", |function| function.max_async_retries = 2);
    let first = stage.fc.invoke_async("twice".into(), Some("task".into())).await;
    assert!(first.is_some() && stage.fc.invoke_async("twice".into(), Some("task".into())).await.is_none());
    stage.fc.invoke_async("fail".into(), None).await.unwrap();
    let mut outcomes = stage.fc.finish_queue().await;
    outcomes.sort_by_key(|outcome| outcome.error_type.is_some());
    let shown: Vec<(&[u8], u32)> = outcomes.iter().map(|one| (&one.body[..], one.retries)).collect();
    assert_eq!(shown, [(&b"at last"[..], 2), (&b"failed at 2"[..], 2)]);
}

#[tokio::test]
async fn a_program_that_does_not_listen_is_not_started() {
    let stage = Stage::new("mute", |function| function.bootstrap = "/bin/true".into());
    let (body, kind) = stage.ask("ticks").await;
    assert!(body.contains("exited before its port answered") && kind == Some("FunctionNotStarted"), "{body}");
    let stage = Stage::new("none", |function| function.bootstrap = "/nowhere/bootstrap".into());
    let (body, _) = stage.ask("ticks").await;
    assert!(body.contains("/nowhere/bootstrap"), "{body}");
    let stage = Stage::new("full", |function| function.max_instances = 0);
    assert_eq!(stage.ask("ticks").await.1, Some("ResourceThrottled"));
}
