//! After a run: the verification of a group that is due. It changes no level; what it finds, or why it was not done, is
//! told in the unit of the instance.

use jiff::SignedDuration;

use super::places::account_of;
use super::{App, FAREWELL, Invocation};
use crate::acs::Role;
use crate::policy::{Request, Verify, ids};
use crate::report::{Report, Status, Unit};
use crate::verify::due::due;
use crate::verify::{BESIDE, Job, reasons, verify};

impl App {
    /// Verifies what is due, an instance after the other, while there is time. Each run begins with another one, so that
    /// those whose turn never came do not wait for ever.
    pub(super) async fn verified(&self, request: &Request, invocation: &Invocation, report: &mut Report) {
        let Some(plan) = &request.verify else { return };
        if !matches!(report.status, Status::Succeeded | Status::Degraded | Status::Failed) || report.dry_run {
            return;
        }
        let mut order: Vec<usize> =
            (0..report.units.len()).filter(|at| !report.units[*at].instance_ids.is_empty()).collect();
        let first = report.run.bytes().map(usize::from).sum::<usize>() % order.len().max(1);
        order.rotate_left(first);
        for at in order {
            let unit = &mut report.units[at];
            self.verify_one(plan, request, invocation, &report.run, unit).await;
            if unit.verified.as_ref().is_some_and(|verified| verified.state == "broken") {
                noise(&mut report.status, &mut report.summary, unit);
            }
        }
    }

    async fn verify_one(
        &self,
        plan: &Verify,
        request: &Request,
        invocation: &Invocation,
        run: &str,
        unit: &mut Unit,
    ) {
        let (region_id, instance_id) = (unit.region_id.clone(), unit.instance_ids[0].clone());
        let mut note =
            |code: &str, detail: &str| unit.findings.push(reasons::finding(code, detail, &instance_id));
        let role_account = account_of(&plan.role_arn).unwrap_or_default();
        if !unit.account_id.is_empty() && unit.account_id != role_account {
            return note("verify.failed", &format!("{} is a role of another account", plan.role_arn));
        }
        let now = self.clock.now();
        let deadline = invocation.deadline - FAREWELL;
        if now + SignedDuration::from_secs(i64::from(plan.limit + BESIDE)) > deadline {
            let left = deadline.duration_since(now).as_secs().max(0);
            let needed = plan.limit + BESIDE;
            return note("verify.late", &format!("{left} s are left, {needed} s may be needed"));
        }
        let client = match self.client(&region_id, invocation) {
            Ok(client) => client.assuming(Role::new(&plan.role_arn, "appsnap-verify")),
            Err(error) => return note("verify.failed", &error.message),
        };
        let group_id = match due(&client, &region_id, &request.policy, &instance_id, plan.every).await {
            Ok(Some(group_id)) => group_id,
            Ok(None) => return,
            Err(error) => {
                let cure = error.cure().map(|cure| format!("; {cure}")).unwrap_or_default();
                return note("verify.failed", &format!("{error}{cure}"));
            }
        };
        let job = Job {
            client,
            region_id,
            run: ids::verification_id(run, &group_id),
            group_id,
            instance_id: plan.instance_id.clone(),
            limit: plan.limit,
            query: None,
            patience: SignedDuration::ZERO,
            deadline,
            started: now,
        };
        tracing::info!(group = job.group_id, on = job.instance_id, "verification");
        let proof = verify(&job).await;
        if let Some(error) = &proof.error {
            let cure = error.cure.as_deref().map(|cure| format!("; {cure}")).unwrap_or_default();
            note("verify.failed", &format!("{}: {}: {}{cure}", job.group_id, error.code, error.message));
        }
        if let Some(verified) = proof.verified.as_ref().filter(|verified| verified.state == "broken") {
            note("verify.broken", &format!("{}: {}", verified.group_id, verified.why));
        }
        unit.findings.extend(proof.findings);
        let offset = unit.timeline.iter().map(|step| step.end_ms).max().unwrap_or(0);
        unit.timeline.extend(proof.timeline.into_iter().map(|mut step| {
            step.step = format!("verify.{}", step.step);
            (step.start_ms, step.end_ms) = (step.start_ms + offset, step.end_ms + offset);
            step
        }));
        unit.verified = proof.verified;
    }
}

/// A copy that does not restore must not pass in silence, though the level of this run's own copy is what it is.
fn noise(status: &mut Status, summary: &mut std::collections::BTreeMap<String, u32>, unit: &Unit) {
    if *status == Status::Succeeded {
        *status = Status::Degraded;
    }
    if unit.level < unit.wanted {
        return; // it counts as less than succeeded already
    }
    if let Some(count) = summary.get_mut("succeeded").filter(|count| **count > 0) {
        *count -= 1;
        *summary.entry("degraded".into()).or_insert(0) += 1;
        summary.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;

    #[test]
    fn a_broken_copy_degrades_a_run_and_lifts_none() {
        let unit = Unit { wanted: Level::Crash, level: Level::Crash, ..Unit::default() };
        for (before, after) in [
            (Status::Succeeded, Status::Degraded),
            (Status::Degraded, Status::Degraded),
            (Status::Failed, Status::Failed),
        ] {
            let (mut status, mut summary) = (before, [("succeeded".to_owned(), 1)].into());
            noise(&mut status, &mut summary, &unit);
            assert_eq!((status, summary), (after, [("degraded".to_owned(), 1)].into()), "{before:?}");
        }
    }
}
