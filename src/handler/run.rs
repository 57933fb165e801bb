//! A request: survey, judge, protect each unit, sum up.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{App, FAREWELL, Invocation, Origin};
use crate::api::fc::{Invoke, Mode, invoke_function};
use crate::eligibility;
use crate::event::{self, Kind};
use crate::policy::{Request, UNITS_AT_ONCE, ids};
use crate::protect::saga::Next;
use crate::protect::targets::{self, Place};
use crate::protect::{self, Outcome, Task, reasons, survey};
use crate::report::{ErrorReport, Report, Severity, Status, Unit};

impl App {
    pub(super) async fn run(&self, origin: &Origin, value: &Value, invocation: &Invocation) -> Report {
        let policy = value.get("policy").and_then(Value::as_str).unwrap_or_default();
        // Also of a request that cannot be read: whoever asked for a check is not told of a run.
        let dry_run = !matches!(value.get("dryRun"), None | Some(Value::Null | Value::Bool(false)));
        let origin = &Origin { occurrence: occurrence(dry_run, &origin.occurrence), ..*origin };
        let failed = |error: ErrorReport| Report {
            dry_run,
            ..self.report(origin, policy, Status::Failed, Vec::new(), Some(error), 0)
        };
        let request = match Request::parse(value) {
            Ok(request) => request,
            Err(invalid) => {
                return self.notified(failed(ErrorReport::from(&invalid)), None, origin, invocation).await;
            }
        };
        let mut report = match self.handed_on(origin, value, &request, invocation).await {
            Some(Ok(report)) => return report,
            Some(Err(error)) => failed(error),
            None => match self.work(origin, &request, invocation).await {
                Ok(report) => report,
                Err(error) => failed(error),
            },
        };
        report.dry_run = request.dry_run;
        self.verified(&request, invocation, &mut report).await;
        self.notified(report, request.notify.as_deref(), origin, invocation).await
    }

    /// Event sources cap an invocation at five minutes: such an event goes to an asynchronous invocation of the same
    /// function. The task's id comes from the occurrence, so that a repeat is known as one.
    async fn handed_on(
        &self,
        origin: &Origin,
        value: &Value,
        request: &Request,
        invocation: &Invocation,
    ) -> Option<Result<Report, ErrorReport>> {
        let (name, qualifier) = invocation.function.as_ref().filter(|_| origin.kind == Kind::EventBridge)?;
        let region_id =
            request.region_id.clone().or_else(|| invocation.region_id.clone()).unwrap_or_default();
        let client = match self.client(&region_id, invocation) {
            Ok(client) => client,
            Err(error) => return Some(Err(error)),
        };
        let task_id = ids::run_id(&request.policy, &origin.occurrence);
        let event = event::handed_on(value, origin.due).to_string();
        let invoke = Invoke {
            region_id: client.region_id(),
            function_name: name,
            qualifier: qualifier.as_deref(),
            event: event.as_bytes(),
            mode: Mode::Async { task_id: Some(&task_id) },
        };
        let pending = || {
            let calls = client.api_calls();
            let mut report = self.report(origin, &request.policy, Status::Pending, Vec::new(), None, calls);
            // There the task's id is the occurrence.
            report.run = ids::run_id(&request.policy, &occurrence(request.dry_run, &task_id));
            report.dry_run = request.dry_run;
            report
        };
        match invoke_function(&client, &invoke).await {
            Ok(_) => Some(Ok(pending())),
            // The task's id is taken: the event came twice.
            Err(error) if error.status == Some(409) => Some(Ok(pending())),
            Err(error) => Some(Err(ErrorReport::from(&error))),
        }
    }

    async fn work(
        &self,
        origin: &Origin,
        request: &Request,
        invocation: &Invocation,
    ) -> Result<Report, ErrorReport> {
        let fits = |units: usize| {
            let remaining = invocation.deadline.duration_since(self.clock.now());
            let remaining = std::time::Duration::try_from(remaining).unwrap_or_default();
            request.check_deadline(remaining, units).map_err(|invalid| ErrorReport::from(&invalid))
        };
        fits(1)?;
        let places = self.places(request, invocation)?;
        let run = ids::run_id(&request.policy, &origin.occurrence);
        // A check may be made at any time.
        let forbidden = request.schedule.forbids(self.clock.now(), origin.due).filter(|_| !request.dry_run);
        let mut found = targets::resolve(&places, request, &run, forbidden.is_some()).await?;
        let client = &places[0].client;
        if let Some(why) = forbidden.filter(|_| found.units.is_empty() && found.failed.is_empty()) {
            let told = reasons::finding(why.code, &why.detail, &request.policy, Severity::Blocker);
            let message = format!("{}; nothing was touched", told.message);
            let missed =
                ErrorReport { code: told.code, message, cure: Some(told.cure), ..Default::default() };
            let calls = client.api_calls();
            return Ok(self.report(origin, &request.policy, Status::Missed, Vec::new(), Some(missed), calls));
        }
        // A place that is the only one is the whole run.
        if let ([_], [(_, error)], []) = (&places[..], &found.failed[..], &found.units[..]) {
            return Err(error.clone());
        }
        if let Err(error) = fits(found.units.len()) {
            found = found.settle_only(&places[0], error)?;
        }
        let turns = Arc::new(Semaphore::new(UNITS_AT_ONCE));
        let mut at_work = JoinSet::new();
        let mut started = std::collections::HashMap::new();
        let units = found.units.len();
        for (index, (place, surveyed)) in found.units.into_iter().enumerate() {
            let task = Task {
                client: place.client,
                role_arn: place.role_arn,
                external_id: place.external_id,
                request: request.clone(),
                run: run.clone(),
                unit: ids::unit_id(&run, &surveyed.instance_id),
                region_id: place.region_id,
                account_id: place.account_id,
                instance_id: surveyed.instance_id.clone(),
                // Of an instance that is not shown nothing is known; it is refused.
                os_type: if surveyed.os_type.is_empty() { "linux".into() } else { surveyed.os_type.clone() },
                at_rest: surveyed.at_rest(),
                disks: surveyed.disks.clone(),
                pinned: self.pinned,
                due: origin.due,
                started: origin.started,
                deadline: invocation.deadline - FAREWELL,
            };
            let unit = protect::blank(&task);
            let turns = turns.clone();
            let handle = at_work.spawn(async move {
                // It is never closed.
                let _turn = turns.acquire_owned().await;
                (index, one(task, surveyed).await)
            });
            started.insert(handle.id(), (index, unit));
        }
        let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
        while let Some(done) = at_work.join_next().await {
            match done {
                Ok((index, outcome)) => drop(outcomes.insert(index, outcome)),
                // What breaks there is one unit's failure and hides nobody's group.
                Err(error) => {
                    let unit = started.remove(&error.id());
                    outcomes.extend(unit.map(|(index, unit)| (index, broken(unit, &error))));
                }
            }
        }
        let failed = found.failed.into_iter().map(|(place, error)| unseen(request, place, error));
        outcomes.extend((units..).zip(failed));
        Ok(self.summed_up(origin, request, outcomes.into_values().collect(), client))
    }
}

/// A check is no run: what it leaves is never a run's, and the run of the same event is no repeat of it.
fn occurrence(dry_run: bool, occurrence: &str) -> String {
    if dry_run { format!("dry run of {occurrence}") } else { occurrence.to_owned() }
}

/// A unit that ended by a fault of ours.
fn broken(mut unit: Unit, error: &tokio::task::JoinError) -> Outcome {
    unit.error = Some(ErrorReport {
        code: "unit.broken".into(),
        message: format!("ended by a fault of appsnap: {error}"),
        cure: Some("report this, then send the event again: it settles the run".into()),
        ..ErrorReport::default()
    });
    Outcome { status: Status::Failed, settled: None, again: false, unit }
}

/// An account and region that could not be looked into: a unit without an instance, which nobody may take for a copy.
fn unseen(request: &Request, place: Place, error: ErrorReport) -> Outcome {
    let unit = Unit {
        account_id: place.account_id,
        region_id: place.region_id,
        wanted: request.consistency,
        error: Some(error),
        ..Unit::default()
    };
    Outcome { status: Status::Failed, settled: None, again: false, unit }
}

/// A repeat stays one, whatever the survey finds today, and what it left is settled at any time; else a unit whose time
/// it is not is missed, and one with a blocker is refused, untouched.
async fn one(task: Task, surveyed: survey::Surveyed) -> Outcome {
    if task.request.dry_run {
        return protect::check::check(&task, surveyed).await;
    }
    let mut outcome = match protect::earlier(&task).await {
        Next::Over(outcome) => outcome,
        Next::Attempt(mut unit) => {
            let now = task.client.clock().now();
            let work = SignedDuration::from_secs(task.request.seconds_of_work() as i64);
            let blockers = surveyed.findings.iter().filter(|f| f.severity == Severity::Blocker);
            if let Some(why) = task.request.schedule.forbids(now, task.due) {
                let finding = reasons::finding(why.code, &why.detail, &task.instance_id, Severity::Blocker);
                unit.reasons = vec![why.code.into()];
                unit.findings.push(finding);
                untouched(unit, Status::Missed)
            } else if eligibility::blocked(&surveyed.findings) {
                unit.reasons = blockers.map(|f| f.code.clone()).collect();
                untouched(unit, Status::Refused)
            } else if now + work > task.deadline {
                unit.error = Some(no_time(&task));
                untouched(unit, Status::Failed)
            } else {
                protect::protect(&task, unit).await
            }
        }
    };
    let own = std::mem::replace(&mut outcome.unit.findings, surveyed.findings);
    own.into_iter().for_each(|finding| protect::add_finding(&mut outcome.unit.findings, finding));
    outcome.unit.timeline.sort_by_key(|step| (step.start_ms, step.end_ms));
    outcome
}

/// A unit that is not begun; an earlier attempt has touched the guest all the same.
fn untouched(unit: Unit, status: Status) -> Outcome {
    let status = if unit.attempt > 1 { Status::Failed } else { status };
    Outcome { status, settled: None, again: false, unit }
}

/// Those before it needed more time than their limits say, by other attempts or rate limits.
fn no_time(task: &Task) -> ErrorReport {
    ErrorReport {
        code: "unit.late".into(),
        message: format!(
            "its turn came when less than {} s were left; nothing was touched",
            task.request.seconds_of_work()
        ),
        resource: Some(task.instance_id.clone()),
        cure: Some(
            "raise the function's timeout, name fewer instances, or lower the limits; then start a new run"
                .into(),
        ),
        ..ErrorReport::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protect::testing::{ended, failed, invocation, ok, record, scripted};
    use crate::report::{Finding, Level};

    fn surveyed(task: &Task, findings: Vec<Finding>) -> survey::Surveyed {
        survey::Surveyed {
            instance_id: "i-1".into(),
            os_type: "linux".into(),
            os_name: String::new(),
            disks: task.disks.clone(),
            findings,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_guest_that_no_attempt_has_touched_is_refused() {
        for (attempts, status) in [(0, Status::Refused), (1, Status::Failed)] {
            let again =
                move || (1..=attempts).map(|n| invocation(n, "Success", &[("appsnap:outcome", "again")]));
            let (task, _) =
                scripted(move |call| (call == "DescribeInvocations").then(|| record(again().collect())));
            let blocker = Finding {
                code: "agent.offline".into(),
                severity: Severity::Blocker,
                resource: "i-1".into(),
                message: String::new(),
                cure: String::new(),
            };
            let surveyed = surveyed(&task, vec![blocker]);
            let outcome = one(task, surveyed).await;
            assert_eq!((outcome.status, outcome.unit.attempt), (status, attempts + 1));
            assert_eq!(outcome.unit.reasons, ["agent.offline"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_is_settled_in_a_blackout_window_too_and_nothing_else_begins() {
        let attempt = || ids::attempt_id("r-1", "i-1", 1);
        let throttled = move || ended(&failed(&attempt(), r#""1 400 Throttling.User""#));
        type Tags = &'static [(&'static str, &'static str)];
        let table: [(Option<Tags>, bool, Status, Level); 4] = [
            (None, false, Status::Missed, Level::None),
            // Its function died: the copy cannot be proven any more.
            (Some(&[]), false, Status::Degraded, Level::Crash),
            (Some(&[]), true, Status::Failed, Level::None),
            (Some(&[("appsnap:outcome", "again")]), true, Status::Failed, Level::None),
        ];
        for (tags, no_group, status, level) in table {
            let (mut task, asked) = scripted(move |call| match call {
                "DescribeInvocations" => tags.map(|tags| record(vec![invocation(1, "Success", tags)])),
                "result go" if no_group => Some(throttled()),
                "groups of the run" | "DescribeSnapshotGroups" if no_group => Some(ok(json!({}))),
                _ => None,
            });
            let window = json!([{ "from": "02:00", "to": "04:00", "timezone": "UTC" }]);
            let request = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] }, "notDuring": window,
                                  "linux": { "scriptTimeoutInSeconds": 30 } });
            task.request = Request::parse(&request).unwrap();
            let surveyed = surveyed(&task, Vec::new());
            let outcome = one(task, surveyed).await;
            assert_eq!((outcome.status, outcome.unit.level), (status, level), "{tags:?} {no_group}");
            let told = outcome.unit.findings.iter().any(|finding| finding.code == "schedule.blackout");
            assert_eq!(told, status != Status::Degraded, "{tags:?} {no_group}");
            let asked = asked.lock().unwrap();
            assert!(!asked.iter().any(|(call, _)| call.starts_with("RunCommand")), "{asked:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_whose_turn_comes_too_late_for_its_limits_is_not_begun() {
        // Delivery, two scripts of 30 s, freeze.
        for (seconds, begun) in [(129, false), (131, true)] {
            let (mut task, asked) = scripted(|_| None);
            task.deadline = task.started + SignedDuration::from_secs(seconds);
            let surveyed = surveyed(&task, Vec::new());
            let outcome = one(task, surveyed).await;
            let code = outcome.unit.error.as_ref().map(|error| error.code.as_str());
            let asked = asked.lock().unwrap();
            let ran = asked.iter().any(|(call, _)| call.starts_with("RunCommand"));
            assert_eq!((ran, code), (begun, (!begun).then_some("unit.late")), "{seconds}");
        }
    }

    #[tokio::test]
    async fn pinned_is_true_or_false_and_nothing_else() {
        let app = |value: &str| {
            let env = [("APPSNAP_PINNED".to_string(), value.to_string())].into();
            App::new(crate::clock::Clock::system(), env).map(|app| app.pinned)
        };
        assert_eq!((app(""), app("false"), app("true")), (Ok(false), Ok(false), Ok(true)));
        assert!(app("yes").unwrap_err().contains("APPSNAP_PINNED"));
    }
}
