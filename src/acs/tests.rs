//! The client as a whole against scripted answers, under paused time: what is repeated, when, and what is said.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::clock::Clock;
use crate::secret::Secret;

const START: &str = "2026-11-22T03:00:00Z";
static ECS: Product = Product {
    name: "ecs",
    version: "2014-05-26",
    public: "ecs.{region}.aliyuncs.com",
    vpc: "ecs-vpc.{region}",
};

/// One request; `at` in seconds since the start.
#[derive(Debug, Clone)]
struct Sent {
    action: &'static str,
    at: i64,
    nonce: String,
    token: Option<String>,
    authorization: String,
}

type Log = Arc<Mutex<Vec<Sent>>>;

/// A client whose nth request gets the nth answer, the last one again and again.
fn client(answers: Vec<Result<Reply, Failure>>) -> (Client, Log) {
    scripted(move |_, n| answers[n.min(answers.len() - 1)].clone())
}

fn scripted(
    script: impl Fn(&Wire, usize) -> Result<Reply, Failure> + Send + Sync + 'static,
) -> (Client, Log) {
    let start: Timestamp = START.parse().unwrap();
    let clock = Clock::seeded(start, 42);
    let log = Log::default();
    let (times, sent) = (clock.clone(), log.clone());
    let transport = Transport::scripted(move |wire| {
        let mut sent = sent.lock().unwrap();
        let header = |name| wire.header(name).unwrap().to_owned();
        sent.push(Sent {
            action: wire.action,
            at: times.now().duration_since(start).as_secs(),
            nonce: header("x-acs-signature-nonce"),
            token: wire.param("ClientToken").map(str::to_owned),
            authorization: header("authorization"),
        });
        script(wire, sent.len() - 1)
    });
    let settings = Settings {
        transport,
        clock,
        endpoints: Endpoints::default(),
        region_id: "cn-hangzhou".into(),
        identities: Arc::default(),
    };
    (Client::new(settings, key("AK", Some("tok+en="))), log)
}

fn key(id: &str, token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: id.into(),
        access_key_secret: Secret::new("top-secret"),
        security_token: token.map(Secret::new),
        expires_at: None,
    }
}

fn call(kind: Kind) -> Call {
    Call::new(&ECS, "CreateSnapshotGroup", "cn-hangzhou", kind).param("ClientToken", "token-1").on("i-1")
}

fn refusal(status: u16, code: &str) -> Result<Reply, Failure> {
    Ok(Reply::new(status, format!(r#"{{"Code":"{code}","Message":"m","RequestId":"R-1"}}"#)))
}

fn good() -> Result<Reply, Failure> {
    Ok(Reply::new(200, r#"{"RequestId":"R-2"}"#))
}

fn broken(stage: Stage) -> Result<Reply, Failure> {
    Err(Failure { stage, message: "gone".into() })
}

#[tokio::test(start_paused = true)]
async fn each_kind_meets_each_failure_as_it_should() {
    type Fault = (&'static str, fn() -> Result<Reply, Failure>);
    let faults: [Fault; 7] = [
        ("throttled", || refusal(400, "Throttling.User")),
        ("not sent", || broken(Stage::Connect)),
        ("no answer", || broken(Stage::Answer)),
        ("server error", || refusal(500, "InternalError")),
        ("garbage", || Ok(Reply::new(200, "<html>"))),
        ("nonce used", || refusal(400, "SignatureNonceUsed")),
        ("denied", || refusal(403, "Forbidden.RAM")),
    ];
    for (name, fault) in faults {
        for kind in [Kind::Read, Kind::Idempotent, Kind::Once] {
            let safe = ["throttled", "not sent"].contains(&name);
            let repeats = name != "denied" && (safe || kind != Kind::Once);
            let (client, log) = client(vec![fault(), good()]);
            let outcome = client.call(&call(kind)).await;
            assert_eq!(outcome.is_ok(), repeats, "{name} {kind:?}");
            assert_eq!(log.lock().unwrap().len(), 1 + usize::from(repeats), "{name} {kind:?}");

            let (client, log) = self::client(vec![fault()]);
            let error = client.call(&call(kind)).await.unwrap_err();
            let doubt = kind != Kind::Read && !safe && name != "denied";
            assert_eq!(error.unknown_outcome, doubt, "{name} {kind:?}: {error}");
            assert_eq!(error.attempts, if repeats { 4 } else { 1 }, "{name} {kind:?}");
            assert_eq!(client.api_calls(), log.lock().unwrap().len() as u64);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_signed_afresh_with_the_same_client_token() {
    let (client, log) = client(vec![broken(Stage::Answer), refusal(503, "ServiceUnavailable"), good()]);
    client.call(&call(Kind::Idempotent)).await.unwrap();
    let log = log.lock().unwrap();
    let nonces: HashSet<_> = log.iter().map(|sent| &sent.nonce).collect();
    let signatures: HashSet<_> = log.iter().map(|sent| &sent.authorization).collect();
    assert_eq!((log.len(), nonces.len(), signatures.len()), (3, 3, 3));
    assert!(log.iter().all(|sent| sent.token.as_deref() == Some("token-1")));
}

#[tokio::test(start_paused = true)]
async fn doubt_once_raised_stays() {
    let (client, _) = client(vec![broken(Stage::Answer), refusal(403, "IdempotentParameterMismatch")]);
    let error = client.call(&call(Kind::Idempotent)).await.unwrap_err();
    assert!(error.unknown_outcome && error.attempts == 2, "{error}");
    assert!(error.to_string().contains("look up what it made"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_throttle_is_waited_out_for_as_long_as_the_cloud_asks() {
    for header in [("x-acs-retry-after", "7000"), ("x-ratelimit-user-api", "Limit:1,Remain:0,TimeLeft:7000")]
    {
        let headers = vec![(header.0.to_owned(), header.1.to_owned())];
        let throttled = Reply { headers, ..refusal(403, "Throttling").unwrap() };
        let (client, log) = client(vec![Ok(throttled), good()]);
        client.call(&call(Kind::Once)).await.unwrap();
        assert_eq!(log.lock().unwrap()[1].at, 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_reaches_past_the_deadline_is_not_begun() {
    let headers = vec![("x-acs-retry-after".to_owned(), "60000".to_owned())];
    let throttled = Reply { headers, ..refusal(400, "Throttling").unwrap() };
    let (client, log) = client(vec![Ok(throttled), good()]);
    let start: Timestamp = START.parse().unwrap();
    let error =
        client.call(&call(Kind::Read).until(start + SignedDuration::from_secs(30))).await.unwrap_err();
    assert!(error.is_throttled() && error.attempts == 1 && error.elapsed < Duration::from_secs(1), "{error}");
    let late = client.until(start).call(&call(Kind::Read)).await.unwrap_err();
    assert_eq!((late.code.as_str(), late.attempts, log.lock().unwrap().len()), ("request.deadline", 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_meets_nothing_but_failures_stops_repeating() {
    let (client, log) = client(vec![broken(Stage::Connect)]);
    for _ in 0..20 {
        client.clone().call(&call(Kind::Read)).await.unwrap_err();
    }
    assert_eq!(log.lock().unwrap().len(), 20 + 20); // one each, and 20 retries in the budget
}

#[tokio::test(start_paused = true)]
async fn errors_tell_the_story_without_a_secret() {
    let (client, _) = scripted(|wire, _| {
        let token = wire.header("x-acs-security-token").unwrap();
        let signature = wire.header("authorization").unwrap().rsplit('=').next().unwrap().to_owned();
        let body = serde_json::json!({
            "Code": "SignatureDoesNotMatch", "RequestId": "R-9",
            "Message": format!("server string to sign is x-acs-security-token:{token} not {signature}, top-secret"),
        });
        Ok(Reply::new(400, body.to_string()))
    });
    let error = client.call(&call(Kind::Read)).await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", crate::report::ErrorReport::from(&error));
    for word in
        ["CreateSnapshotGroup on i-1", "HTTP 400", "R-9", "1 attempt in", "belong together", "<redacted>"]
    {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(!shown.contains("tok+en=") && !shown.contains("top-secret"), "{shown}");
    let long_hex = shown.split(|c: char| !c.is_ascii_hexdigit()).any(|run| run.len() >= 64);
    assert!(!long_hex, "{shown}");
}

/// STS answers with the nth key for an hour; everything else is good.
fn with_sts(sts: fn(usize) -> bool) -> (Client, Log) {
    let issued = Mutex::new(0);
    let start: Timestamp = START.parse().unwrap();
    let clock = Arc::new(Mutex::new(None::<Clock>));
    let times = clock.clone();
    let (client, log) = scripted(move |wire, _| {
        if wire.action != "AssumeRole" {
            return good();
        }
        let mut issued = issued.lock().unwrap();
        *issued += 1;
        if !sts(*issued) {
            return refusal(403, "NoPermission");
        }
        let now = times.lock().unwrap().as_ref().map_or(start, Clock::now);
        let body = serde_json::json!({ "Credentials": {
            "AccessKeyId": format!("STS.{issued}"), "AccessKeySecret": "s", "SecurityToken": "t",
            "Expiration": (now + SignedDuration::from_secs(3600)).to_string(),
        }});
        Ok(Reply::new(200, body.to_string()))
    });
    *clock.lock().unwrap() = Some(client.clock().clone());
    (client, log)
}

fn count(log: &Log, action: &str) -> usize {
    log.lock().unwrap().iter().filter(|sent| sent.action == action).count()
}

fn role() -> Role {
    Role::new("acs:ram::1:role/appsnap", "run 1")
}

#[tokio::test(start_paused = true)]
async fn callers_of_one_role_share_one_assume_role() {
    let (client, log) = with_sts(|_| true);
    let client = client.assuming(role());
    let read = call(Kind::Read);
    let (other, same) = (client.clone(), read.clone());
    let spawned = tokio::spawn(async move { other.call(&same).await });
    let (a, b) = tokio::join!(client.call(&read), client.call(&read));
    assert!(a.is_ok() && b.is_ok() && spawned.await.unwrap().is_ok());
    assert_eq!(count(&log, "AssumeRole"), 1);
    assert!(log.lock().unwrap().last().unwrap().authorization.contains("Credential=STS.1,"));
    // Another policy is another session.
    let narrowed = client.assuming(role().narrowed("{}").unwrap());
    narrowed.call(&read).await.unwrap();
    assert_eq!(count(&log, "AssumeRole"), 2);
    assert_eq!(client.api_calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_refreshed_before_it_expires() {
    let (client, log) = with_sts(|_| true);
    let client = client.assuming(role());
    let read = call(Kind::Read);
    for (minutes, assumed) in [(0, 1), (53, 1), (3, 2), (50, 2)] {
        client.clock().sleep(Duration::from_secs(minutes * 60)).await;
        client.call(&read).await.unwrap();
        assert_eq!(count(&log, "AssumeRole"), assumed, "after {minutes} more minutes");
    }
    // Signing ahead wants a session that lasts.
    let credentials = client.credentials(Duration::from_secs(900)).await.unwrap();
    assert_eq!((count(&log, "AssumeRole"), credentials.access_key_id.as_str()), (3, "STS.3"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_falls_back_on_a_session_that_is_still_good() {
    let (client, log) = with_sts(|n| n == 1);
    let client = client.assuming(role());
    client.call(&call(Kind::Read)).await.unwrap();
    client.clock().sleep(Duration::from_secs(57 * 60)).await;
    client.call(&call(Kind::Read)).await.unwrap();
    assert_eq!(count(&log, "AssumeRole"), 2);
    client.clock().sleep(Duration::from_secs(5 * 60)).await;
    let error = client.call(&call(Kind::Read)).await.unwrap_err();
    assert_eq!((error.action.as_str(), error.code.as_str()), ("AssumeRole", "NoPermission"));
    assert!(error.to_string().contains("trust policy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_cloud_refuses_is_not_used_again() {
    let (client, log) = scripted(|wire, n| match (wire.action, n) {
        ("AssumeRole", _) => {
            let keys = r#""AccessKeyId":"STS.1","AccessKeySecret":"s","SecurityToken":"t""#;
            let body = format!(r#"{{"Credentials":{{{keys},"Expiration":"2026-11-22T04:00:00Z"}}}}"#);
            Ok(Reply::new(200, body))
        }
        (_, 1) => refusal(400, "InvalidSecurityToken.Expired"),
        _ => good(),
    });
    let client = client.assuming(role());
    assert!(client.call(&call(Kind::Read)).await.unwrap_err().cure().unwrap().contains("expire"));
    client.call(&call(Kind::Read)).await.unwrap();
    assert_eq!(count(&log, "AssumeRole"), 2);
}

#[test]
fn a_policy_that_sts_would_refuse_is_refused_here() {
    assert!(role().narrowed(&"ü".repeat(2048)).is_ok());
    assert_eq!(role().narrowed(&"x".repeat(2049)).unwrap_err().length, 2049);
}

#[tokio::test(start_paused = true)]
async fn session_names_and_durations_are_made_fit_for_sts() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let (client, _) = scripted(move |wire, _| {
        let param = |name| wire.param(name).unwrap().to_owned();
        log.lock().unwrap().push((param("RoleSessionName"), param("DurationSeconds")));
        refusal(403, "NoPermission")
    });
    for (name, seconds) in [("", 1), ("orders db/ü:1", 3600), (&"x".repeat(99), 7200)] {
        let role = Role::new("acs:ram::1:role/r", name).duration(Duration::from_secs(seconds));
        client.assuming(role).call(&call(Kind::Read)).await.unwrap_err();
    }
    let seen = seen.lock().unwrap();
    let expected = [("--", "900"), ("orders-db---1", "3600"), (&*"x".repeat(32), "7200")];
    let expected = expected.map(|(name, seconds)| (name.to_owned(), seconds.to_owned()));
    assert_eq!(*seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_given_nonce_is_sent_once_and_with_the_given_key() {
    let refusal = r#"{"Code":"SignatureNonceUsed","Message":"used","RequestId":"R"}"#;
    let (client, log) = client(vec![Ok(Reply::new(400, refusal))]);
    let other = Credentials::new(Some("STS.other".into()), Some("s".into()), None).unwrap();
    let call = Call::new(&ECS, "DescribeThings", "cn-hangzhou", Kind::Read);
    let error = client.once(&call, &other, "n-1").await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.attempts, error.unknown_outcome),
        ("SignatureNonceUsed", 1, false)
    );
    let sent = log.lock().unwrap();
    assert_eq!((sent.len(), sent[0].nonce.as_str(), client.api_calls()), (1, "n-1", 1));
    assert!(sent[0].authorization.contains("Credential=STS.other,"), "{}", sent[0].authorization);
}
