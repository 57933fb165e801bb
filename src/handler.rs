//! One event in, one report out: the way of an event through the house, top to bottom.

mod places;
mod run;
mod settle;
mod sum;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::acs::{Client, Credentials, Endpoints, Identities, Settings, Transport, https_client};
use crate::clock::Clock;
use crate::eligibility::Support;
use crate::event::{self, Action, Arrival, Kind, Trigger};
use crate::policy::ids;
use crate::report::{ErrorReport, NotificationReport, Report, Status, Unit};
use crate::{api, notify};

/// What is kept of an invocation's time for the report: a channel has 20 s.
const FAREWELL: SignedDuration = SignedDuration::from_secs(25);

/// What lives as long as the instance of the function.
pub struct App {
    clock: Clock,
    transport: Transport,
    endpoints: Endpoints,
    identities: Arc<Identities>,
    /// For webhooks.
    http: reqwest::Client,
    /// `APPSNAP_PINNED`: the guests run the operator's registered commands only.
    pinned: bool,
    env: BTreeMap<String, String>,
    /// What the operator knows better than our tables.
    support: Support,
}

/// What the platform tells of an invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The platform's request id.
    pub request_id: String,
    /// Of an asynchronous task.
    pub async_task_id: Option<String>,
    /// Region of the function.
    pub region_id: Option<String>,
    /// Account of the function.
    pub account_id: Option<String>,
    /// The function's name and qualifier, for handing an event on.
    pub function: Option<(String, Option<String>)>,
    /// Of the function's role.
    pub credentials: Option<Credentials>,
    /// When the platform ends the invocation.
    pub deadline: Timestamp,
}

/// Where a report comes from: what is known before the request is read.
struct Origin {
    kind: Kind,
    occurrence: String,
    /// When it was due; see [`Trigger`].
    due: Option<Timestamp>,
    started: Timestamp,
    /// Nothing else came with it.
    alone: bool,
}

impl App {
    /// Reads the environment once; what is wrong there is told by name.
    pub fn new(clock: Clock, env: BTreeMap<String, String>) -> Result<Self, String> {
        let get = |name: &str| env.get(name).cloned().filter(|value| !value.is_empty());
        let bundle = get("APPSNAP_CA_BUNDLE");
        let bundle = bundle.as_deref().map(Path::new);
        let support =
            get("APPSNAP_SUPPORT").map_or_else(|| Ok(Support::default()), |text| Support::parse(&text));
        Ok(Self {
            clock,
            transport: Transport::https(bundle).map_err(|error| error.to_string())?,
            endpoints: Endpoints::from_env(&get, &api::PRODUCTS).map_err(|error| error.to_string())?,
            identities: Arc::default(),
            pinned: match get("APPSNAP_PINNED").as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => return Err(format!("APPSNAP_PINNED: neither true nor false: {other:?}")),
            },
            http: https_client(bundle).map_err(|error| error.to_string())?,
            support: support.map_err(|error| format!("APPSNAP_SUPPORT: {error}"))?,
            env,
        })
    }

    fn get(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned().filter(|value| !value.is_empty())
    }

    /// Handles an event; one report for each trigger in it.
    pub async fn handle(&self, body: &[u8], invocation: &Invocation) -> Vec<Report> {
        let started = self.clock.now();
        let default = self.get("APPSNAP_REQUEST");
        let arrival = Arrival {
            request_id: &invocation.request_id,
            async_task_id: invocation.async_task_id.as_deref(),
            default_request: default.as_deref(),
        };
        let triggers = match event::read(body, arrival) {
            Ok(triggers) => triggers,
            Err(error) => {
                let occurrence = invocation.request_id.clone();
                let origin = Origin { kind: Kind::Manual, occurrence, due: None, started, alone: true };
                let report =
                    self.report(&origin, "", Status::Failed, Vec::new(), Some(ErrorReport::from(&error)), 0);
                return vec![self.notified(report, None, &origin, invocation).await];
            }
        };
        let mut reports = Vec::new();
        let alone = triggers.len() == 1;
        for Trigger { kind, occurrence, due, action } in triggers {
            let origin = Origin { kind, occurrence, due, started, alone };
            tracing::info!(trigger = kind.as_str(), occurrence = origin.occurrence, "event");
            reports.push(match action {
                Action::Run(request) => self.run(&origin, &request, invocation).await,
                Action::Settle { invoke_id, instance_id } => {
                    self.settle(&origin, &invoke_id, &instance_id, invocation).await
                }
                Action::Ignore(reason) => self.ignored(&origin, reason),
            });
        }
        reports
    }

    /// A client for this invocation.
    fn client(&self, region_id: &str, invocation: &Invocation) -> Result<Client, ErrorReport> {
        let env = |name: &str| self.get(name);
        let credentials =
            Credentials::resolve(invocation.credentials.clone(), &env).map_err(|error| ErrorReport {
                code: "credentials.none".into(),
                message: error.to_string(),
                ..ErrorReport::default()
            })?;
        let settings = Settings {
            transport: self.transport.clone(),
            clock: self.clock.clone(),
            endpoints: self.endpoints.clone(),
            region_id: invocation.region_id.clone().unwrap_or_else(|| region_id.to_string()),
            identities: self.identities.clone(),
        };
        Ok(Client::new(settings, credentials).until(invocation.deadline))
    }

    fn ignored(&self, origin: &Origin, reason: String) -> Report {
        let error = ErrorReport { code: "event.ignored".into(), message: reason, ..ErrorReport::default() };
        self.report(origin, "", Status::Skipped, Vec::new(), Some(error), 0)
    }

    fn report(
        &self,
        origin: &Origin,
        policy: &str,
        status: Status,
        units: Vec<Unit>,
        error: Option<ErrorReport>,
        api_calls: u64,
    ) -> Report {
        let finished = self.clock.now();
        Report {
            schema: 1,
            version: env!("CARGO_PKG_VERSION").into(),
            run: ids::run_id(policy, &origin.occurrence),
            policy: policy.into(),
            occurrence: origin.occurrence.clone(),
            trigger: origin.kind.as_str().into(),
            dry_run: false,
            status,
            repeats: None,
            outcome: None,
            summary: BTreeMap::new(),
            started_at: origin.started.to_string(),
            finished_at: finished.to_string(),
            duration_ms: finished.duration_since(origin.started).as_millis() as i64,
            api_calls,
            units,
            notifications: Vec::new(),
            error,
        }
    }

    /// Tells the channels; their failure is in the report, never in its status.
    async fn notified(
        &self,
        mut report: Report,
        wanted: Option<&[crate::policy::Channel]>,
        origin: &Origin,
        invocation: &Invocation,
    ) -> Report {
        let env = |name: &str| self.get(name);
        // A throttled channel must not take the time of the next run in the same event.
        let soon = self.clock.now() + FAREWELL;
        let deadline = if origin.alone { invocation.deadline } else { invocation.deadline.min(soon) };
        match notify::channels(wanted, &env) {
            Ok(channels) => {
                report.notifications =
                    notify::send(&report, &channels, &env, &self.http, &self.clock, deadline).await
            }
            Err(error) => report.notifications.push(NotificationReport {
                channel: "none".into(),
                status: "failed".into(),
                attempts: 0,
                error: Some(error.to_string()), // it begins with the variable's name
            }),
        }
        tracing::info!(run = report.run, status = report.status.as_str(), "report");
        report
    }
}

#[cfg(test)]
mod tests;
