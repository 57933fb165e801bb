//! A request: survey, judge, protect each unit, sum up.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{App, FAREWELL, Invocation, Origin};
use crate::acs::{Client, Role};
use crate::api::fc::{Invoke, Mode, invoke_function};
use crate::eligibility;
use crate::event::Kind;
use crate::policy::{Request, ids};
use crate::protect::saga::Next;
use crate::protect::{self, Outcome, Task, survey};
use crate::report::{ErrorReport, Report, Status, Unit};

impl App {
    pub(super) async fn run(&self, origin: &Origin, value: &Value, invocation: &Invocation) -> Report {
        let policy = value.get("policy").and_then(Value::as_str).unwrap_or_default();
        let failed =
            |error: ErrorReport| self.report(origin, policy, Status::Failed, Vec::new(), Some(error), 0);
        let request = match Request::parse(value) {
            Ok(request) => request,
            Err(invalid) => {
                return self.notified(failed(ErrorReport::from(&invalid)), None, origin, invocation).await;
            }
        };
        let report = match self.handed_on(origin, value, &request, invocation).await {
            Some(Ok(report)) => return report,
            Some(Err(error)) => failed(error),
            None => match self.work(origin, &request, invocation).await {
                Ok(report) => report,
                Err(error) => failed(error),
            },
        };
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
        let event = json!(value).to_string();
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
            report.run = ids::run_id(&request.policy, &task_id);
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
        let plain = |code: &str, message: &str, cure: &str| ErrorReport {
            code: code.into(),
            message: message.into(),
            cure: Some(cure.into()),
            ..ErrorReport::default()
        };
        let remaining = std::time::Duration::try_from(invocation.deadline.duration_since(self.clock.now()))
            .unwrap_or_default();
        request.check_deadline(remaining).map_err(|invalid| ErrorReport::from(&invalid))?;
        let region_id = request.region_id.clone().or_else(|| invocation.region_id.clone());
        let region_id = region_id.ok_or_else(|| {
            plain("region.none", "neither the request nor the platform names a region", "set regionId")
        })?;
        let base = self.client(&region_id, invocation)?;
        let role_arn =
            request.role(&|name: &str| self.get(name)).map_err(|invalid| ErrorReport::from(&invalid))?;
        let client = match &role_arn {
            Some(arn) => base.assuming(Role::new(arn, "appsnap")),
            None => base,
        };
        let account_id = role_arn
            .as_deref()
            .and_then(account_of)
            .or_else(|| invocation.account_id.clone())
            .unwrap_or_default();
        let found = survey::survey(&client, &region_id, request, &self.support)
            .await
            .map_err(|error| ErrorReport::from(&error))?;
        let run = ids::run_id(&request.policy, &origin.occurrence);
        let mut at_work = JoinSet::new();
        let mut started = std::collections::HashMap::new();
        for (index, surveyed) in found.into_iter().enumerate() {
            let task = Task {
                client: client.clone(),
                role_arn: role_arn.clone(),
                request: request.clone(),
                run: run.clone(),
                unit: ids::unit_id(&run, &surveyed.instance_id),
                region_id: region_id.clone(),
                account_id: account_id.clone(),
                instance_id: surveyed.instance_id.clone(),
                // Of an instance that is not shown nothing is known; it is refused.
                os_type: if surveyed.os_type.is_empty() { "linux".into() } else { surveyed.os_type.clone() },
                at_rest: surveyed.at_rest(),
                disks: surveyed.disks.clone(),
                started: origin.started,
                deadline: invocation.deadline - FAREWELL,
            };
            let unit = protect::blank(&task);
            let handle = at_work.spawn(async move { (index, one(task, surveyed).await) });
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
        Ok(self.summed_up(origin, request, outcomes.into_values().collect(), &client))
    }

    /// A run is as its worst unit; one of only settled units is a repeat.
    pub(super) fn summed_up(
        &self,
        origin: &Origin,
        request: &Request,
        outcomes: Vec<Outcome>,
        client: &Client,
    ) -> Report {
        let repeat = !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.settled.is_some());
        let of = |outcome: &Outcome| outcome.settled.unwrap_or(outcome.status);
        let worst = outcomes.iter().map(of).max().unwrap_or(Status::Refused);
        let mut summary = BTreeMap::new();
        for outcome in &outcomes {
            *summary.entry(outcome.status.as_str().to_string()).or_insert(0) += 1;
        }
        let units: Vec<Unit> = outcomes.into_iter().map(|outcome| outcome.unit).collect();
        let mut report = self.report(origin, &request.policy, worst, units, None, client.api_calls());
        report.summary = summary;
        if repeat {
            report.status = Status::Skipped;
            report.repeats = Some(report.run.clone());
            report.outcome = Some(worst);
        }
        report
    }
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

/// A repeat stays one, whatever the survey finds today; else a unit with a blocker is refused untouched.
async fn one(task: Task, surveyed: survey::Surveyed) -> Outcome {
    let mut outcome = match protect::earlier(&task).await {
        Next::Over(outcome) => outcome,
        Next::Attempt(unit) if eligibility::blocked(&surveyed.findings) => {
            let blockers =
                surveyed.findings.iter().filter(|f| f.severity == crate::report::Severity::Blocker);
            let reasons = blockers.map(|f| f.code.clone()).collect();
            // An earlier attempt has touched the guest.
            let status = if unit.attempt > 1 { Status::Failed } else { Status::Refused };
            Outcome { status, settled: None, again: false, unit: Unit { reasons, ..unit } }
        }
        Next::Attempt(unit) => protect::protect(&task, unit).await,
    };
    let own = std::mem::replace(&mut outcome.unit.findings, surveyed.findings);
    own.into_iter().for_each(|finding| protect::add_finding(&mut outcome.unit.findings, finding));
    outcome.unit.timeline.sort_by_key(|step| (step.start_ms, step.end_ms));
    outcome
}

/// `acs:ram::<account>:role/<name>`
pub(super) fn account_of(arn: &str) -> Option<String> {
    arn.split(':').nth(3).filter(|account| !account.is_empty()).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::testing::{invocation, record, scripted};
    use crate::report::{Finding, Severity};

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
            let surveyed = survey::Surveyed {
                instance_id: "i-1".into(),
                os_type: "linux".into(),
                disks: task.disks.clone(),
                findings: vec![blocker],
            };
            let outcome = one(task, surveyed).await;
            assert_eq!((outcome.status, outcome.unit.attempt), (status, attempts + 1));
            assert_eq!(outcome.unit.reasons, ["agent.offline"]);
        }
    }

    #[test]
    fn the_account_is_read_from_the_role() {
        assert_eq!(account_of("acs:ram::1234:role/appsnap").as_deref(), Some("1234"));
        assert_eq!(account_of("nonsense"), None);
    }
}
