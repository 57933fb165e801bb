//! The platform's side of Function Compute: drives the real `bootstrap` binary as FC 3.0 drives a custom runtime.
//!
//! One request at a time per instance; an instance is stopped (SIGSTOP) between requests, killed at the timeout,
//! and our HTTP status is dropped: `x-fc-status` alone tells a failure. Asynchronous calls are retried.

pub mod api;
mod instance;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use self::instance::{Instance, Pids};
use super::server::Cloud;
use super::world::Session;
use crate::clock::Clock;

/// A function as it was deployed.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Region.
    pub region_id: String,
    /// Account.
    pub account_id: String,
    /// Its role; `None`: it gets no credentials.
    pub role_arn: Option<String>,
    /// The program.
    pub bootstrap: PathBuf,
    /// User variables.
    pub env: BTreeMap<String, String>,
    /// MB; only told to the function.
    pub memory: u32,
    /// An invocation that takes longer is killed.
    pub timeout: Duration,
    /// How long it may take until its port answers; the platform's own limit is 120 s.
    pub start_limit: Duration,
    /// Whether it has an Initializer.
    pub initialize: bool,
    /// Whether it has a PreStop hook.
    pub pre_stop: bool,
    /// How often a failed asynchronous call is repeated: 0 to 8.
    pub max_async_retries: u32,
    /// More calls at once are refused with 429.
    pub max_instances: usize,
}

impl Default for Function {
    fn default() -> Self {
        Self {
            name: "appsnap".into(),
            region_id: "cn-hangzhou".into(),
            account_id: "1".into(),
            role_arn: None,
            bootstrap: PathBuf::new(),
            env: BTreeMap::new(),
            memory: 512,
            timeout: Duration::from_secs(600),
            start_limit: Duration::from_secs(20),
            initialize: false,
            pre_stop: true,
            max_async_retries: 3,
            max_instances: 4,
        }
    }
}

/// What the caller of InvokeFunction gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `1-…`
    pub request_id: String,
    /// The function's body, or the platform's error.
    pub body: Vec<u8>,
    /// `X-Fc-Error-Type`: `HandledInvocationError` where the function said so, `UnhandledInvocationError` where it
    /// died or timed out, `InitializationError`, `FunctionNotStarted`, `ResourceThrottled`.
    pub error_type: Option<&'static str>,
    /// Its lines of log.
    pub log: Vec<String>,
    /// Of an asynchronous call: how often it was repeated.
    pub retries: u32,
}

impl Outcome {
    fn error(request_id: &str, error_type: &'static str, message: String) -> Self {
        let body = json!({ "errorMessage": message, "errorType": error_type }).to_string().into_bytes();
        Self {
            request_id: request_id.into(),
            body,
            error_type: Some(error_type),
            log: Vec::new(),
            retries: 0,
        }
    }
}

/// One call, as an instance needs it.
struct Request<'a> {
    id: &'a str,
    body: Vec<u8>,
    session: Option<Session>,
    retries: u32,
    task_id: Option<&'a str>,
}

/// One function and its instances, cheap to clone. Dropping the last clone kills what runs.
#[derive(Clone)]
pub struct Fc(Arc<State>);

struct State {
    function: Function,
    cloud: Cloud,
    clock: Clock,
    idle: Mutex<Vec<Instance>>,
    pids: Pids,
    busy: Mutex<usize>,
    tasks: Mutex<BTreeSet<String>>,
    queue: tokio::sync::Mutex<JoinSet<Outcome>>,
}

impl Fc {
    /// Deploys a function; its credentials come from the role in `cloud`.
    pub fn new(function: Function, cloud: Cloud, clock: Clock) -> Self {
        Self(Arc::new(State {
            function,
            cloud,
            clock,
            idle: Mutex::default(),
            pids: Pids::default(),
            busy: Mutex::default(),
            tasks: Mutex::default(),
            queue: Default::default(),
        }))
    }

    /// The function.
    pub fn function(&self) -> &Function {
        &self.0.function
    }

    /// Invokes it and waits.
    pub async fn invoke(&self, body: Vec<u8>) -> Outcome {
        self.attempt(&self.request_id(), body, 0, None).await
    }

    /// Queues a call, retried on failure; `None`: there was a call of this task id already.
    pub async fn invoke_async(&self, body: Vec<u8>, task_id: Option<String>) -> Option<String> {
        if let Some(task_id) = &task_id
            && !lock(&self.0.tasks).insert(task_id.clone())
        {
            return None;
        }
        let (id, this) = (self.request_id(), self.clone());
        let request_id = id.clone();
        self.0.queue.lock().await.spawn(async move {
            let mut retries = 0;
            loop {
                let outcome = this.attempt(&request_id, body.clone(), retries, task_id.as_deref()).await;
                if outcome.error_type.is_none() || retries >= this.0.function.max_async_retries {
                    return outcome;
                }
                retries += 1;
            }
        });
        Some(id)
    }

    /// Waits until all queued calls are over, and tells how they ended.
    pub async fn finish_queue(&self) -> Vec<Outcome> {
        let mut queue = std::mem::take(&mut *self.0.queue.lock().await);
        let mut outcomes = Vec::new();
        while let Some(done) = queue.join_next().await {
            outcomes.extend(done.ok()); // a panic of the platform's own task has no outcome
        }
        outcomes
    }

    /// Process ids of all instances, busy or stopped; each leads its process group.
    pub fn pids(&self) -> Vec<u32> {
        lock(&self.0.pids).iter().copied().collect()
    }

    /// Ends all idle instances as the platform does: PreStop, then SIGTERM, then SIGKILL.
    pub async fn stop(&self) {
        let idle = std::mem::take(&mut *lock(&self.0.idle));
        for instance in idle {
            instance.stop(&self.0.clock, self.0.function.pre_stop).await;
        }
    }

    async fn attempt(&self, id: &str, body: Vec<u8>, retries: u32, task_id: Option<&str>) -> Outcome {
        let Some(_slot) = Slot::take(&self.0) else {
            return Outcome::error(id, "ResourceThrottled", "Reach the maximum number of instances.".into());
        };
        let session = self.session();
        let warm =
            std::iter::from_fn(|| lock(&self.0.idle).pop()).find_map(|mut one| one.alive().then_some(one));
        let mut instance = match warm {
            Some(instance) => instance,
            None => match self.start(session.as_ref()).await {
                Ok(instance) => instance,
                Err(outcome) => return Outcome { request_id: id.into(), ..outcome },
            },
        };
        let request = Request { id, body, session, retries, task_id };
        let (mut outcome, usable) = instance.invoke(&self.0.function, &self.0.clock, request).await;
        outcome.retries = retries;
        if usable {
            lock(&self.0.idle).push(instance);
        }
        outcome
    }

    async fn start(&self, session: Option<&Session>) -> Result<Instance, Outcome> {
        let (function, clock) = (&self.0.function, &self.0.clock);
        let not_started = |why: String| Outcome::error("", "FunctionNotStarted", why);
        let mut instance =
            Instance::start(function, clock, session, &self.0.pids).await.map_err(not_started)?;
        if function.initialize {
            let id = self.request_id();
            let initialized = instance.initialize(function, clock, session, &id).await;
            initialized.map_err(|why| Outcome::error("", "InitializationError", why))?;
        }
        Ok(instance)
    }

    fn session(&self) -> Option<Session> {
        let role = self.0.function.role_arn.as_deref()?;
        self.0
            .cloud
            .look(|world, now| world.service_session(now, "fc.aliyuncs.com", role, "fc-appsnap", 3600))
    }

    /// `1-` and 8, 8 and 12 hexadecimal digits: not a UUID.
    fn request_id(&self) -> String {
        let (nonce, seconds) = (self.0.clock.nonce(), self.0.clock.now().as_second());
        format!("1-{:08x}-{}-{}", seconds as u32, &nonce[..8], &nonce[8..20])
    }
}

/// One of the instances that may run at once.
struct Slot<'a>(&'a State);

impl<'a> Slot<'a> {
    fn take(state: &'a State) -> Option<Self> {
        let mut busy = lock(&state.busy);
        (*busy < state.function.max_instances).then(|| *busy += 1).map(|()| Self(state))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *lock(&self.0.busy) -= 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
