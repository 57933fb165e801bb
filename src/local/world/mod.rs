//! The local cloud as plain state: a call or a happening goes in with the time, an answer and effects come out.
//! Nothing in here waits, reads a clock or touches a disk: HTTP ([`super::server`]), real guests and simulated
//! ones only hand calls in and carry effects out. The same seed and calls give the same history.

mod actions;
mod attach;
mod command;
mod context;
mod dice;
mod disk;
mod effect;
mod group;
mod identity;
mod image;
mod instance;
mod invocation;
mod launch;
mod params;
mod plugins;
mod policy;
mod power;
mod registered;
mod reply;
mod settings;
mod snapshot;
mod tag;
#[cfg(test)]
pub(super) mod tests;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

pub use self::command::Task;
pub use self::disk::Disk;
pub use self::effect::{CommandNews, Effect, Happening};
pub use self::identity::{Principal, Role, Session};
pub use self::instance::Instance;
pub use self::launch::Network;
pub use self::policy::{Asked, Policy};
pub use self::reply::{ApiError, Delivery, Reply};
pub use self::settings::{Fault, Mishap, PluginFault, Settings};
pub use self::tag::Tags;
pub use self::trust::Trust;
/// One call: the request as it was received.
pub use super::verify::Received as Call;
use actions::{Handler, IDEMPOTENT};
use context::Context;
use params::Params;

#[derive(Debug)]
enum Timer {
    Cut(String),
    Uploaded(String),
    ImageMade(String),
    Undelivered(String, String),
    ResultOverdue(String, String),
}

/// One answer that a ClientToken stands for.
#[derive(Debug)]
struct Remembered {
    parameters: String,
    answer: Value,
    busy_until: Timestamp,
}

/// The cloud.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    dice: dice::Dice,
    regions: BTreeSet<String>,
    identities: identity::Identities,
    instances: BTreeMap<String, Instance>,
    disks: BTreeMap<String, Disk>,
    snapshots: BTreeMap<String, snapshot::Snapshot>,
    groups: BTreeMap<String, group::Group>,
    images: BTreeMap<String, image::Image>,
    networks: BTreeMap<String, Network>,
    invocations: BTreeMap<String, invocation::Invocation>,
    commands: BTreeMap<String, registered::Registered>,
    tokens: BTreeMap<(String, String, String), Remembered>,
    calls: BTreeMap<String, u64>,
    minutes: BTreeMap<(String, String, String), (i64, u32)>,
    timers: BTreeMap<(Timestamp, u64), Timer>,
    order: u64,
    effects: Vec<Effect>,
}

impl World {
    /// An empty cloud.
    pub fn new(settings: Settings) -> Self {
        Self {
            dice: dice::Dice::new(settings.seed),
            settings,
            regions: BTreeSet::new(),
            identities: Default::default(),
            instances: BTreeMap::new(),
            disks: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            groups: BTreeMap::new(),
            images: BTreeMap::new(),
            networks: BTreeMap::new(),
            invocations: BTreeMap::new(),
            commands: BTreeMap::new(),
            tokens: BTreeMap::new(),
            calls: BTreeMap::new(),
            minutes: BTreeMap::new(),
            timers: BTreeMap::new(),
            order: 0,
            effects: Vec::new(),
        }
    }

    /// Behaves like this from now on, and counts calls for its faults from one again.
    pub fn change(&mut self, settings: Settings) {
        self.settings = settings;
        self.calls.clear();
    }

    /// Opens a region.
    pub fn add_region(&mut self, region_id: &str) {
        self.regions.insert(region_id.into());
    }

    /// How many calls of an action have come since the start or the last [`change`](Self::change), answered or not.
    pub fn calls(&self, action: &str) -> u64 {
        self.calls.get(action).copied().unwrap_or_default()
    }

    /// The open regions.
    pub fn regions(&self) -> Vec<String> {
        self.regions.iter().cloned().collect()
    }

    /// Answers one call.
    pub fn handle(&mut self, now: Timestamp, call: &Call) -> (Reply, Vec<Effect>) {
        self.advance(now);
        let parameters = call.parameters();
        let common = |header: &str, parameter: &str| {
            let found =
                || parameters.iter().find(|(name, _)| name == parameter).map(|(_, value)| value.clone());
            call.header(header).or_else(found).unwrap_or_default()
        };
        let (action, version) = (common("x-acs-action", "Action"), common("x-acs-version", "Version"));
        let json = match common("", "Format") {
            format if format.is_empty() => common("accept", "").contains("application/json"),
            format => format.eq_ignore_ascii_case("json"),
        };
        let request_id = self.dice.uuid();
        let host = call.header("host").unwrap_or_default();
        let reply = |result| Reply::new(result, &request_id, &host);
        let not_delivered = |delivery| Reply { delivery, ..reply(Ok(Value::Object(Default::default()))) };
        let mishap = self.mishap(&action);
        let mut answer = match &mishap {
            Some(Mishap::Code(status, code)) => {
                reply(Err(ApiError::new(*status, code, "A fault on demand.")))
            }
            Some(Mishap::DropRequest) => not_delivered(Delivery::Drop),
            Some(Mishap::Hang) => not_delivered(Delivery::Hang),
            _ => reply(self.answer(now, call, &version, &action, parameters.clone())),
        };
        if mishap == Some(Mishap::Twice) {
            answer = reply(self.answer(now, call, &version, &action, parameters));
        }
        match mishap {
            Some(Mishap::DoneBut(status, code)) => {
                answer = reply(Err(ApiError::new(status, code, "A fault on demand.")));
            }
            Some(Mishap::Delay(late)) => answer.delivery = Delivery::After(late),
            Some(Mishap::DropReply) => answer.delivery = Delivery::Drop,
            None if action == "CreateSnapshotGroup" && !self.settings.create_delay.is_zero() => {
                answer.delivery = Delivery::After(self.settings.create_delay);
            }
            _ => {}
        }
        if !json {
            answer.xml_root =
                Some(if answer.status == 200 { format!("{action}Response") } else { "Error".into() });
        }
        (answer, std::mem::take(&mut self.effects))
    }

    /// Takes in what the outside tells.
    pub fn report(&mut self, now: Timestamp, happening: Happening) -> Vec<Effect> {
        self.advance(now);
        match happening {
            Happening::Agent { instance_id, alive } => {
                if let Some(instance) = self.instances.get_mut(&instance_id) {
                    instance.agent_alive = alive;
                    if alive {
                        instance.last_heartbeat = Some(now);
                    }
                }
            }
            Happening::Instance { instance_id, running } => self.instance_settled(now, &instance_id, running),
            Happening::Command { invoke_id, instance_id, news } => {
                self.command_news(now, &invoke_id, &instance_id, news)
            }
            Happening::DiskCloned { snapshot_id } => self.cloned(now, &snapshot_id, true),
            Happening::DiskCloneFailed { snapshot_id } => self.cloned(now, &snapshot_id, false),
            Happening::DiskReady { disk_id } => self.disk_settled(&disk_id, true),
            Happening::DiskFailed { disk_id } => self.disk_settled(&disk_id, false),
        }
        std::mem::take(&mut self.effects)
    }

    /// Does what is due by `now`.
    pub fn due(&mut self, now: Timestamp) -> Vec<Effect> {
        self.advance(now);
        std::mem::take(&mut self.effects)
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    fn advance(&mut self, now: Timestamp) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let at = entry.key().0;
            match entry.remove() {
                Timer::Cut(snapshot_id) => self.cut(at, snapshot_id),
                Timer::ImageMade(image_id) => self.image_made(&image_id),
                Timer::Uploaded(snapshot_id) => self.uploaded(at, &snapshot_id),
                Timer::Undelivered(invoke_id, instance_id) => self.undelivered(at, &invoke_id, &instance_id),
                Timer::ResultOverdue(invoke_id, instance_id) => {
                    self.result_overdue(at, &invoke_id, &instance_id)
                }
            }
        }
    }

    fn arm(&mut self, at: Timestamp, timer: Timer) {
        self.order += 1;
        self.timers.insert((at, self.order), timer);
    }

    fn mishap(&mut self, action: &str) -> Option<Mishap> {
        let count = self.calls.entry(action.into()).or_default();
        *count += 1;
        let hit = |fault: &&Fault| fault.action == action && fault.nth.is_none_or(|nth| nth == *count);
        self.settings.faults.iter().find(hit).map(|fault| fault.what.clone())
    }

    fn answer(
        &mut self,
        now: Timestamp,
        call: &Call,
        version: &str,
        action: &str,
        pairs: Vec<(String, String)>,
    ) -> Result<Value, ApiError> {
        let handler = Self::handler(version, action)?;
        if !["GET", "POST"].contains(&call.method.as_str()) || call.path != "/" {
            return Err(ApiError::new(405, "UnsupportedHTTPMethod", "RPC calls are GET or POST of /."));
        }
        let caller = self.authenticate(now, call)?;
        self.perform(&Context { now, caller }, action, handler, pairs)
    }

    /// Carries out a call of a simulated guest with a role's rights, as if it had been signed.
    pub fn act(
        &mut self,
        now: Timestamp,
        role_arn: &str,
        action: &str,
        pairs: Vec<(String, String)>,
    ) -> (Result<Value, ApiError>, Vec<Effect>) {
        self.advance(now);
        let answer = match self.principal(now, role_arn) {
            Some(caller) => Self::handler("2014-05-26", action)
                .and_then(|handler| self.perform(&Context { now, caller }, action, handler, pairs)),
            None => Err(ApiError::not_found("RamRole", role_arn)),
        };
        (answer, std::mem::take(&mut self.effects))
    }

    fn perform(
        &mut self,
        context: &Context,
        action: &str,
        handler: Handler,
        pairs: Vec<(String, String)>,
    ) -> Result<Value, ApiError> {
        let now = context.now;
        let region = pairs.iter().find(|(name, _)| name == "RegionId").map(|(_, value)| value.clone());
        self.throttle(context, action, region.unwrap_or_default())?;
        let mut params = Params::new(pairs)?;
        let idempotent = IDEMPOTENT.contains(&action);
        let parameters = params.fingerprint();
        let token = if idempotent { params.client_token()? } else { None };
        let Some(token) = token else { return handler(self, context, &mut params) };
        let key = (context.caller.account_id.clone(), action.to_owned(), token);
        match self.tokens.get(&key) {
            Some(first) if first.parameters != parameters => {
                return Err(ApiError::new(
                    403,
                    "IdempotentParameterMismatch",
                    "The specified ClientToken was used with other parameters.",
                ));
            }
            Some(first) if now < first.busy_until => {
                return Err(ApiError::new(
                    403,
                    "IdempotentProcessing",
                    "The previous idempotent request(s) is still processing.",
                ));
            }
            Some(first) => return Ok(first.answer.clone()),
            None => {}
        }
        let answer = handler(self, context, &mut params)?;
        let delay = if action == "CreateSnapshotGroup" { self.settings.create_delay } else { Duration::ZERO };
        self.tokens.insert(key, Remembered { parameters, answer: answer.clone(), busy_until: now + delay });
        Ok(answer)
    }

    fn throttle(&mut self, context: &Context, action: &str, region: String) -> Result<(), ApiError> {
        let Some(limit) = self.settings.limits.get(action) else { return Ok(()) };
        let minute = context.now.as_second() / 60;
        let used =
            self.minutes.entry((context.caller.account_id.clone(), region, action.into())).or_default();
        if used.0 != minute {
            *used = (minute, 0);
        }
        used.1 += 1;
        if used.1 > *limit {
            return Err(ApiError::new(
                400,
                "Throttling.User",
                "Request was denied due to user flow control.",
            ));
        }
        Ok(())
    }

    fn region(&self, params: &mut Params) -> Result<String, ApiError> {
        let region = params.required("RegionId")?;
        if self.regions.contains(&region) {
            Ok(region)
        } else {
            Err(ApiError::not_found("RegionId", &region))
        }
    }
}

/// ISO 8601 UTC to the second, as the API writes times.
fn seconds(at: Timestamp) -> String {
    let whole = at.as_second();
    Timestamp::from_second(whole).unwrap_or(at).to_string()
}
