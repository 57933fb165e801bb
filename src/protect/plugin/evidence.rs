//! Gathers what is known of a run of the plugin: how its command ended, and what the cloud shows of its group.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::Task;
use super::super::command::undelivered;
use super::label::{self, Shown};
use crate::acs::{Error, Pace, past_limits, wait_until};
use crate::api::assistant::{self, InvocationResult, InvocationStatus};
use crate::api::ecs::{self, GroupFilter, SnapshotGroup};
use crate::eligibility::DiskFacts;
use crate::guest::plugin::{PluginTold, exit_of};
use crate::report::Level;

const NO_MANAGER: &str = "plugin.manager_missing";
/// How long a group, or its tags, that must be there are looked for.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);

/// How the command ended.
#[derive(Default)]
pub struct End {
    /// Its last line.
    pub told: Option<PluginTold>,
    /// With 0, and with a last line.
    pub well: bool,
    /// Nothing was touched.
    pub refused: bool,
    /// Why it is not `well`.
    pub reason: &'static str,
    /// In words.
    pub detail: String,
}

impl End {
    /// From the result of the command; `None`: it did not end in time.
    pub fn of(result: Option<&InvocationResult>, attempt: &str) -> Self {
        let Some(result) = result else {
            let detail = "the command did not end in time".into();
            return Self { reason: "report.lost", detail, ..Self::default() };
        };
        let told = PluginTold::read(&result.output, attempt);
        let status = &result.invocation_status;
        let finished = matches!(status, InvocationStatus::Success | InvocationStatus::Failed);
        let code = told.as_ref().and_then(PluginTold::exit).or(result.exit_code).filter(|_| finished);
        let missing = told.iter().flat_map(PluginTold::reasons).any(|(code, _)| code == NO_MANAGER);
        let (reason, detail) = match code {
            None if *status == InvocationStatus::Timeout => ("plugin.timeout", undelivered(result)),
            Some(0) if told.is_some() => ("", "exit 0".into()),
            None | Some(0) => ("report.lost", undelivered(result)),
            Some(code) if missing => (NO_MANAGER, format!("exit {code}")),
            Some(code) => match exit_of(code) {
                Some(exit) => (exit.reason, format!("exit {code}, {}", exit.name)),
                None => ("plugin.failed", format!("exit {code}, of the plugin itself")),
            },
        };
        let refused = told.as_ref().is_some_and(|told| told.phase == "refused");
        Self { well: reason.is_empty(), refused, told, reason, detail }
    }
}

/// What the cloud shows.
#[derive(Default)]
pub struct Seen {
    /// The plugin's group.
    pub group: Option<SnapshotGroup>,
    /// Others of its name, made since the command was sent.
    pub others: Vec<SnapshotGroup>,
    /// What of it is evidence.
    pub shown: Shown,
}

/// The group and its members' tags, waited for where they must be there. Fills in the disks of a task that does not
/// know them: all that are attached but for the excluded one.
pub async fn look(
    task: &mut Task,
    name: &str,
    attempt: &str,
    excluded: Option<&str>,
    well: bool,
) -> Result<Seen, Error> {
    if task.disks.is_empty() {
        let disks = ecs::describe_disks_of(&task.client, &task.region_id, &task.instance_id).await?;
        let chosen = disks.iter().filter(|disk| excluded != Some(&disk.disk_id));
        task.disks = chosen.map(|disk| DiskFacts::named(&disk.disk_id)).collect();
    }
    let task = &*task;
    let born = [("appsnap:attempt".to_string(), attempt.to_string())];
    let invocations = || assistant::invocations_by_tag(&task.client, &task.region_id, &born);
    let invocations = past_limits(task.client.clock(), task.deadline, invocations).await?;
    let sent: Option<Timestamp> = invocations.iter().filter_map(|one| one.creation_time.parse().ok()).min();
    let pace = Pace { first: Duration::from_millis(200), factor: 1.5, longest: Duration::from_secs(2) };
    let patience = if well { PATIENCE } else { SignedDuration::from_secs(5) };
    let until = (task.client.clock().now() + patience).min(task.deadline);
    // At the end of the patience what there is has to do.
    let over = || task.client.clock().now() >= until;
    let find = || async {
        let mut found = named(task, name).await?;
        // An older one of that name is not the plugin's.
        found.retain(|group| sent.is_none() || group.created_at().is_none_or(|born| Some(born) >= sent));
        let whole = found.iter().any(|group| group.snapshots.len() >= task.disks.len());
        Ok::<_, Error>((whole || over()).then_some(found))
    };
    let found = wait_until(task.client.clock(), pace, until, find).await?.unwrap_or_default();
    let Some(group) = found.first() else { return Ok(Seen::default()) };
    let ids: Vec<String> = group.snapshots.iter().map(|one| one.snapshot_id.clone()).collect();
    let tagged = well && super::freezes(task);
    let read = || async {
        let seen = ecs::describe_snapshots(&task.client, &task.region_id, &ids).await?;
        let levels: Vec<Option<Level>> = ids
            .iter()
            .map(|id| {
                seen.iter().find(|one| one.snapshot_id == *id).and_then(|one| label::told_by(&one.tags))
            })
            .collect();
        // What all of them have; `None` is less than any level.
        let least = levels.into_iter().min().flatten();
        let failed = seen.iter().any(|one| one.status.eq_ignore_ascii_case("failed"));
        Ok::<_, Error>((least.is_some() || !tagged || failed || over()).then_some((least, failed)))
    };
    let (tag, failed) = wait_until(task.client.clock(), pace, until, read).await?.unwrap_or_default();
    let shown = Shown {
        group: true,
        usable: !failed && !group.failed(),
        only_one: found.len() == 1,
        born_after_start: matches!((sent, group.created_at()), (Some(sent), Some(born)) if born >= sent),
        all_disks: group.holds_exactly(&task.disk_ids()),
        tag,
        ..Shown::default()
    };
    Ok(Seen { shown, group: Some(group.clone()), others: found[1..].to_vec() })
}

/// Groups of this name on the instance.
pub async fn named(task: &Task, name: &str) -> Result<Vec<SnapshotGroup>, Error> {
    let filter =
        GroupFilter { instance_id: Some(&task.instance_id), name: Some(name), ..GroupFilter::default() };
    let look = || ecs::describe_snapshot_groups(&task.client, &task.region_id, &filter);
    past_limits(task.client.clock(), task.deadline, look).await
}
