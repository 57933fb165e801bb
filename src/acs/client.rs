//! Sends calls: signs each attempt afresh, judges the answer, tries again where that is safe, counts.

use std::cmp::min;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::call::Call;
use super::credentials::Credentials;
use super::encode;
use super::endpoint::Endpoints;
use super::error::{Detail, Error, read_refusal};
use super::identity::{Identities, Role};
use super::presign::{Presigned, presign};
use super::retry::{self, Budget, Class};
use super::transport::{Failure, Reply, Stage, Transport, Wire};
use crate::clock::Clock;

/// How often a call is sent at most.
const ATTEMPTS: u32 = 4;
/// What retries may add to a call that has no deadline.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// A repeat that has less time than this would more likely leave doubt than an answer.
const USEFUL: Duration = Duration::from_secs(1);

/// What a client is made of.
#[derive(Clone)]
pub struct Settings {
    /// Shared by all clients of the process.
    pub transport: Transport,
    /// Time, sleep, nonces, jitter.
    pub clock: Clock,
    /// Where calls go.
    pub endpoints: Endpoints,
    /// Whose STS is asked for roles: the function's own region.
    pub region_id: String,
    /// Shared by all clients of the process.
    pub identities: Arc<Identities>,
}

/// A caller of the OpenAPI: made per invocation, cheap to clone; clones share retries and the count of calls.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
    credentials: Credentials,
    role: Option<Role>,
    deadline: Option<Timestamp>,
    budget: Arc<Budget>,
    calls: Arc<AtomicU64>,
}

/// An attempt that failed.
struct Miss {
    class: Class,
    asked: Option<Duration>,
    status: Option<u16>,
    code: String,
    message: String,
    request_id: Option<String>,
}

impl Client {
    /// A client that signs with `credentials`.
    pub fn new(settings: Settings, credentials: Credentials) -> Self {
        Self {
            settings: Arc::new(settings),
            credentials,
            role: None,
            deadline: None,
            budget: Arc::new(Budget::full()),
            calls: Arc::default(),
        }
    }

    /// The same client in a role: it is assumed at the first call and again before it expires.
    pub fn assuming(&self, role: Role) -> Self {
        Self { role: Some(role), ..self.clone() }
    }

    /// The same client with a time after which nothing is sent and nothing waited for; an earlier one stays.
    pub fn until(&self, deadline: Timestamp) -> Self {
        let deadline = self.deadline.map_or(deadline, |earlier| min(earlier, deadline));
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// Time, sleep, nonces.
    pub fn clock(&self) -> &Clock {
        &self.settings.clock
    }

    /// Where calls go.
    pub fn endpoints(&self) -> &Endpoints {
        &self.settings.endpoints
    }

    /// The function's own region.
    pub fn region_id(&self) -> &str {
        &self.settings.region_id
    }

    /// Requests sent so far by this client and its clones, retries and AssumeRole counted.
    pub fn api_calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The credentials it signs with. Those of a role last for `at_least` from now; its own are as they came.
    ///
    /// # Errors
    /// Those of AssumeRole.
    pub async fn credentials(&self, at_least: Duration) -> Result<Credentials, Error> {
        let Some(role) = &self.role else { return Ok(self.credentials.clone()) };
        let at_least = SignedDuration::try_from(at_least).unwrap_or(SignedDuration::MAX);
        let own = Self { role: None, ..self.clone() };
        // Boxed, because assuming a role is itself a call.
        Box::pin(self.settings.identities.get(&own, role, at_least)).await
    }

    /// Sends the call and reads its JSON.
    ///
    /// # Errors
    /// Tells the whole story of the last attempt; see [`Detail`].
    pub async fn call(&self, call: &Call) -> Result<Value, Error> {
        Ok(self.run(call).await?.1)
    }

    /// Sends the call and gives the successful answer as it came.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn send(&self, call: &Call) -> Result<Reply, Error> {
        Ok(self.run(call).await?.0)
    }

    async fn run(&self, call: &Call) -> Result<(Reply, Value), Error> {
        let clock = self.clock();
        let started = clock.now();
        let patience = SignedDuration::try_from(call.timeout).unwrap_or(SignedDuration::MAX) + PATIENCE;
        let bounds = [call.deadline, self.deadline, started.checked_add(patience).ok()];
        let deadline = bounds.into_iter().flatten().fold(Timestamp::MAX, min);
        let invalid = |message: String| Error::invalid(call.action, &call.resource, message);
        let endpoint =
            self.endpoints().of(call.product, &call.region_id).map_err(|e| invalid(e.to_string()))?;
        let credentials = self.until(deadline).credentials(Duration::ZERO).await?;

        let mut attempts = 0;
        let mut doubt = false;
        loop {
            let now = clock.now();
            let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
            if left.is_zero() && attempts == 0 {
                let mut error = invalid("its deadline had passed before it could be sent".to_owned());
                error.code = "request.deadline".to_owned();
                return Err(error);
            }
            attempts += 1;
            self.calls.fetch_add(1, Ordering::Relaxed);
            let signed = presign(call, &endpoint, &credentials, now, &clock.nonce());
            let miss = match self.attempt(call, &signed, left).await {
                Ok(answer) => {
                    self.budget.give_back();
                    return Ok(answer);
                }
                Err(miss) => miss,
            };
            tracing::debug!(
                action = call.action,
                attempts,
                code = miss.code,
                request_id = miss.request_id,
                "failed"
            );
            doubt |= retry::leaves_doubt(call.kind, miss.class);
            let pause = retry::pause(miss.class, attempts, miss.asked, clock.jitter());
            let now = clock.now();
            let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
            let in_time = pause + USEFUL <= left;
            let again = attempts < ATTEMPTS && in_time && retry::may_repeat(call.kind, miss.class);
            if again && self.budget.take() {
                clock.sleep(pause).await;
                continue;
            }
            if let Some(role) = self.role.as_ref().filter(|_| retry::is_dead_key(&miss.code)) {
                self.settings.identities.forget(role);
            }
            let elapsed = Duration::try_from(now.duration_since(started)).unwrap_or_default();
            let detail = miss.told(call, endpoint.host(), &credentials, &signed);
            return Err(Error::new(Detail { attempts, elapsed, unknown_outcome: doubt, ..detail }));
        }
    }

    /// Sends the call a single time, within the client's time, signed now with the given credentials and nonce: of a
    /// nonce that the cloud has seen before it says `SignatureNonceUsed`.
    ///
    /// # Errors
    /// The cloud's refusal, or why there was no answer.
    pub async fn once(&self, call: &Call, credentials: &Credentials, nonce: &str) -> Result<Value, Error> {
        let clock = self.clock();
        let endpoint = self.endpoints().of(call.product, &call.region_id);
        let endpoint =
            endpoint.map_err(|error| Error::invalid(call.action, &call.resource, error.to_string()))?;
        let started = clock.now();
        let left =
            self.deadline.map(|end| Duration::try_from(end.duration_since(started)).unwrap_or_default());
        let signed = presign(call, &endpoint, credentials, started, nonce);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let miss = match self.attempt(call, &signed, left.unwrap_or(Duration::MAX)).await {
            Ok((_, value)) => return Ok(value),
            Err(miss) => miss,
        };
        let unknown_outcome = retry::leaves_doubt(call.kind, miss.class);
        let elapsed = Duration::try_from(clock.now().duration_since(started)).unwrap_or_default();
        let detail = miss.told(call, endpoint.host(), credentials, &signed);
        Err(Error::new(Detail { attempts: 1, elapsed, unknown_outcome, ..detail }))
    }

    async fn attempt(&self, call: &Call, signed: &Presigned, left: Duration) -> Result<(Reply, Value), Miss> {
        let mut headers = signed.headers.clone();
        // The client library writes `host` from the URL; it is the same by construction.
        headers.retain(|(name, _)| name != "host");
        let unsigned = |name: &str| !headers.iter().any(|(known, _)| known == name);
        let more: Vec<_> = call.headers.iter().filter(|(name, _)| unsigned(name)).cloned().collect();
        headers.extend(more);
        headers.push(("accept".to_owned(), "application/json".to_owned()));
        headers.push(("authorization".to_owned(), signed.authorization.clone()));
        let wire = Wire {
            action: call.action,
            url: signed.url.clone(),
            query: call.query.clone(),
            headers,
            body: call.body.clone(),
            timeout: min(call.timeout, left),
        };
        let reply = self.settings.transport.send(&wire).await.map_err(Miss::from)?;
        if !(200..300).contains(&reply.status) {
            return Err(Miss::refused(&reply));
        }
        if !call.json {
            return Ok((reply, Value::Null));
        }
        match serde_json::from_slice(&reply.body) {
            Ok(value) => Ok((reply, value)),
            Err(error) => Err(Miss {
                class: Class::Uncertain,
                code: "answer.malformed".to_owned(),
                message: format!("a success whose body is not JSON: {error}"),
                ..Miss::refused(&reply)
            }),
        }
    }
}

impl Miss {
    /// The failure without what only the caller knows: attempts, time, doubt.
    fn told(self, call: &Call, host: &str, credentials: &Credentials, signed: &Presigned) -> Detail {
        Detail {
            action: call.action.to_owned(),
            resource: call.resource.clone(),
            product: call.product.name.to_owned(),
            region_id: call.region_id.clone(),
            host: host.to_owned(),
            status: self.status,
            code: self.code,
            message: redacted(&self.message, credentials, signed),
            request_id: self.request_id,
            ..Detail::default()
        }
    }

    fn refused(reply: &Reply) -> Self {
        let (code, message, request_id) = read_refusal(reply);
        Self {
            class: retry::classify(reply.status, &code),
            asked: retry::asked_pause(reply),
            status: Some(reply.status),
            code,
            message,
            request_id,
        }
    }
}

impl From<Failure> for Miss {
    fn from(failure: Failure) -> Self {
        let code = match failure.stage {
            Stage::Connect => "network.unreachable",
            Stage::Trust => "network.untrusted",
            Stage::Answer => "network.no_answer",
        };
        Self {
            class: retry::classify_failure(failure.stage),
            asked: None,
            status: None,
            code: code.to_owned(),
            message: failure.message,
            request_id: None,
        }
    }
}

/// Gateways quote what they were sent (a wrong signature is answered with the canonical request, token included).
fn redacted(message: &str, credentials: &Credentials, signed: &Presigned) -> String {
    let token = credentials.security_token.iter().map(|token| token.expose());
    let secrets = token.chain([credentials.access_key_secret.expose(), signed.signature.as_str()]);
    let clean = secrets.fold(message.to_owned(), |text, secret| {
        text.replace(secret, "<redacted>").replace(&encode::percent(secret), "<redacted>")
    });
    clean.chars().take(1000).collect()
}
