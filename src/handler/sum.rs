//! What a run came to: as its worst unit, unless too few of its units are done.

use std::collections::BTreeMap;

use super::{App, Origin};
use crate::acs::Client;
use crate::policy::Request;
use crate::protect::{Outcome, at_rest};
use crate::report::{ErrorReport, Report, Status, Unit};

impl App {
    /// The report over all units; one of only settled units is a repeat.
    pub(super) fn summed_up(
        &self,
        origin: &Origin,
        request: &Request,
        outcomes: Vec<Outcome>,
        client: &Client,
    ) -> Report {
        let repeat = !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.settled.is_some());
        let (status, error) = verdict(request, &outcomes);
        let mut summary = BTreeMap::new();
        for outcome in &outcomes {
            *summary.entry(outcome.status.as_str().to_string()).or_insert(0) += 1;
        }
        let units: Vec<Unit> = outcomes.into_iter().map(|outcome| outcome.unit).collect();
        let mut report = self.report(origin, &request.policy, status, units, error, client.api_calls());
        report.summary = summary;
        if repeat {
            report.status = Status::Skipped;
            report.repeats = Some(report.run.clone());
            report.outcome = Some(status);
        }
        report
    }
}

/// The worst status of those that did not decline; `failed`, with the reason, where fewer are done than `atLeast` asks
/// for and nothing worse says so: a cluster in which every node declines has no copy.
fn verdict(request: &Request, outcomes: &[Outcome]) -> (Status, Option<ErrorReport>) {
    let of = |outcome: &Outcome| outcome.settled.unwrap_or(outcome.status);
    let declined = outcomes.iter().filter(|outcome| of(outcome) == Status::Skipped).count();
    let took_part = || outcomes.iter().filter(|outcome| of(outcome) != Status::Skipped);
    let worst = took_part().map(of).max().unwrap_or(Status::Refused);
    // What lay still has no part in a cluster's decision: its copy may be of last month.
    let stands_in = |outcome: &&Outcome| declined == 0 || outcome.unit.engine != at_rest::ENGINE;
    let so_many = |wanted: &[Status]| {
        took_part().filter(stands_in).filter(|outcome| wanted.contains(&of(outcome))).count()
    };
    let done = so_many(&[Status::Succeeded, Status::Degraded]);
    let enough = done + so_many(&[Status::Pending]) >= request.at_least;
    if enough || declined == 0 && worst > Status::Degraded {
        return (worst, None);
    }
    let error = ErrorReport {
        code: "units.few".into(),
        message: format!(
            "of {} instances {done} are done and {declined} declined (exit 75 of the prescript); atLeast is {}",
            outcomes.len(),
            request.at_least
        ),
        resource: Some(request.policy.clone()),
        cure: Some(
            "let the prescript say on one of them that it is its turn, name more instances, or lower atLeast; a run \
             whose function died is settled unit by unit: send the event again, and all are counted"
                .into(),
        ),
        ..ErrorReport::default()
    };
    (Status::Failed, Some(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `s` succeeded, `d` degraded, `r` refused, `f` failed, `p` pending, `-` declined, `o` stopped; a capital: a repeat.
    fn outcomes(word: &str) -> Vec<Outcome> {
        let one = |letter: char| {
            let status = match letter.to_ascii_lowercase() {
                's' | 'o' => Status::Succeeded,
                'd' => Status::Degraded,
                'r' => Status::Refused,
                'f' => Status::Failed,
                'p' => Status::Pending,
                _ => Status::Skipped,
            };
            let engine = if letter == 'o' { at_rest::ENGINE } else { "sequence" };
            let unit = Unit { engine: engine.into(), ..Unit::default() };
            let settled = letter.is_ascii_uppercase().then_some(status);
            Outcome { status: settled.map_or(status, |_| Status::Skipped), settled, again: false, unit }
        };
        word.chars().map(one).collect()
    }

    #[test]
    fn a_run_is_as_its_worst_unit_that_did_not_decline_and_never_done_by_too_few() {
        use Status::*;
        let table = [
            ("s", 1, Succeeded, false),
            ("s-", 1, Succeeded, false),
            ("d--", 1, Degraded, false),
            ("-", 1, Failed, true),
            ("---", 1, Failed, true),
            ("s-", 2, Failed, true),
            ("ss-", 2, Succeeded, false),
            ("ss", 3, Failed, true),
            // Nobody declined, and it is told already.
            ("r", 1, Refused, false),
            ("rs", 2, Refused, false),
            // One declined, and the other could not: that is no mere refusal.
            ("r-", 1, Failed, true),
            ("rs-", 1, Refused, false),
            ("f-s", 1, Failed, false),
            // It may still be done.
            ("p-", 1, Pending, false),
            ("p-", 2, Failed, true),
            // A stopped one is a success, and stands in for nobody.
            ("o", 1, Succeeded, false),
            ("o-", 1, Failed, true),
            ("os-", 1, Succeeded, false),
            // A repeat comes to the same.
            ("S-", 1, Succeeded, false),
            ("D-", 2, Failed, true),
        ];
        for (word, at_least, status, few) in table {
            let ids: Vec<String> = (0..3).map(|n| format!("i-{n}")).collect();
            let request = json!({ "policy": "p", "targets": { "instanceIds": ids }, "atLeast": at_least });
            let request = Request::parse(&request).unwrap();
            let (told, error) = verdict(&request, &outcomes(word));
            assert_eq!((told, error.is_some()), (status, few), "{word} of {at_least}");
        }
    }
}
