//! Which instances a run is about: those that are named and those that have the wanted tags, in each account and region
//! of the scope, each once. What an earlier delivery of the same event has begun belongs to it, whatever its tags are
//! today: it has to be settled.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::reasons;
use super::survey::{Surveyed, missing, survey};
use crate::acs::{Client, past_limits};
use crate::api::ecs::GroupFilter;
use crate::api::{assistant, ecs};
use crate::eligibility::{self, DiskFacts, Support};
use crate::policy::{MAX_UNITS, Request};
use crate::report::{ErrorReport, Severity};

/// How many questions are put at once.
const AT_ONCE: usize = 10;
/// As many resources match a tag filter at most; what is beyond is not shown, and nothing says so. Source: the pages of
/// DescribeSnapshots; taken for that of instances too.
const SHOWN_BY_TAG: usize = 1000;

/// An account and region that is looked into, with a role.
#[derive(Clone)]
pub struct Place {
    /// Calls in that role.
    pub client: Client,
    /// The role; `None`: the function's own.
    pub role_arn: Option<String>,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
    /// The role's account.
    pub account_id: String,
    /// e.g. `cn-hangzhou`
    pub region_id: String,
    /// What is known of the vendor's support there.
    pub support: Support,
    /// When no rate limit is waited for any more.
    pub deadline: Timestamp,
}

/// What came of looking.
#[derive(Default)]
pub struct Resolved {
    /// Each instance once, with the place where it is: in the order of the scope, the named ones first.
    pub units: Vec<(Place, Surveyed)>,
    /// Places that could not be looked into, and why.
    pub failed: Vec<(Place, ErrorReport)>,
    /// Those of an earlier delivery of the event; not asked for where one place is to do what is named.
    pub begun: BTreeSet<String>,
}

impl Resolved {
    /// What is left where this many cannot be done: what has begun is settled all the same.
    ///
    /// # Errors
    /// `error`, where nothing has begun.
    pub fn settle_only(mut self, place: &Place, error: ErrorReport) -> Result<Self, ErrorReport> {
        self.units.retain(|(_, one)| self.begun.contains(&one.instance_id));
        if self.units.is_empty() {
            return Err(error);
        }
        self.failed.push((place.clone(), error));
        Ok(self)
    }
}

/// What one place shows.
#[derive(Default)]
struct Seen {
    instances: Vec<ecs::Instance>,
    /// Begun by an earlier delivery and not shown any more.
    gone: Vec<String>,
    /// Named, and left out by `excludeTags` all the same.
    excluded: BTreeSet<String>,
    /// Not named, and left out.
    left_out: usize,
    /// More have the wanted tags than the cloud shows: then it is about those of `begun` only.
    too_many: Option<ErrorReport>,
}

/// Finds the instances of a run and looks at each. While nothing may begin (`forbidden`) and nothing has begun, nothing
/// is looked at, and there are no units.
///
/// # Errors
/// `targets.none`, or `targets.too_many` where nothing has begun: nothing is to be touched then. A place that fails hides
/// no other; its error is in the result, and so is `targets.too_many` beside what has begun.
pub async fn resolve(
    places: &[Place],
    request: &Request,
    run: &str,
    forbidden: bool,
) -> Result<Resolved, ErrorReport> {
    // Whether a named one has begun its unit finds out, where it is clear whom to ask even if it was released since.
    let begun = match forbidden || !request.targets.tags.is_empty() || places.len() > 1 {
        true => side_by_side(places.to_vec(), |place| begun(place, run.to_string())).await,
        false => places.iter().map(|_| Ok(Vec::new())).collect(),
    };
    if forbidden && begun.iter().flatten().all(Vec::is_empty) {
        let failed =
            places.iter().cloned().zip(begun).filter_map(|(place, begun)| Some((place, begun.err()?)));
        return Ok(Resolved { failed: failed.collect(), ..Resolved::default() });
    }
    let all_begun = begun.iter().flatten().flatten().cloned().collect();
    let mut resolved = Resolved { begun: all_begun, ..Resolved::default() };
    let looks = places.iter().cloned().zip(begun).collect();
    let seen = side_by_side(looks, |(place, begun)| {
        let request = request.clone();
        async move { look(&place, &request, &begun?).await }
    });
    let mut known = Vec::new();
    for (place, seen) in places.iter().cloned().zip(seen.await) {
        match seen {
            Ok(mut seen) => {
                resolved.failed.extend(seen.too_many.take().map(|error| (place.clone(), error)));
                known.push((place, seen));
            }
            Err(error) => resolved.failed.push((place, error)),
        }
    }
    once(&mut known);
    let shown = |id: &String| {
        known
            .iter()
            .any(|(_, seen)| seen.gone.contains(id) || seen.instances.iter().any(|i| i.instance_id == *id))
    };
    let mut unknown: Vec<String> =
        request.targets.instance_ids.iter().filter(|id| !shown(id)).cloned().collect();
    let count =
        unknown.len() + known.iter().map(|(_, seen)| seen.instances.len() + seen.gone.len()).sum::<usize>();
    if count > MAX_UNITS {
        let error =
            too_many(format!("{count} instances are meant, a run takes {MAX_UNITS}"), &resolved.begun);
        if resolved.begun.is_empty() {
            return Err(error);
        }
        for (_, seen) in &mut known {
            seen.instances.retain(|instance| resolved.begun.contains(&instance.instance_id));
        }
        unknown.clear();
        resolved.failed.extend(places.first().map(|place| (place.clone(), error)));
    }
    if count == 0 && resolved.failed.is_empty() {
        return Err(none(places, request, known.iter().map(|(_, seen)| seen.left_out).sum()));
    }
    let surveys = side_by_side(known, |(place, seen)| {
        let request = request.clone();
        async move { (survey(&place, &request, &seen.instances).await, place, seen) }
    });
    let mut disks: Vec<DiskFacts> = Vec::new();
    for (found, place, seen) in surveys.await {
        let gone =
            seen.gone.iter().map(|id| missing(id, &place.region_id, &told(std::slice::from_ref(&place))));
        match found {
            Ok((mut found, all)) => {
                disks.extend(all);
                found.iter_mut().for_each(|one| exclude(one, &seen.excluded));
                resolved.units.extend(found.into_iter().chain(gone).map(|one| (place.clone(), one)));
            }
            Err(error) => resolved.failed.push((place, ErrorReport::from(&error))),
        }
    }
    // Where none of the places shows it, any will do for saying so.
    for id in unknown {
        let asked =
            places.iter().filter(|place| !resolved.failed.iter().any(|(failed, _)| same(failed, place)));
        let asked: Vec<Place> = asked.cloned().collect();
        if let Some(place) = asked.first() {
            resolved.units.push((place.clone(), missing(&id, &place.region_id, &told(&asked))));
        }
    }
    // An instance of a place that failed may have them.
    if let Some((_, first)) = resolved.units.first_mut().filter(|_| resolved.failed.is_empty()) {
        first.findings.extend(eligibility::unknown_disks(&disks, &request.targets.disks));
    }
    Ok(resolved)
}

/// The instances on which an earlier delivery of the event has begun, by the tags of its invocations, and of its groups:
/// of a stopped instance there is no invocation.
async fn begun(place: Place, run: String) -> Result<Vec<String>, ErrorReport> {
    let tags = [("appsnap:run".to_string(), run)];
    let look = || assistant::invocations_by_tag(&place.client, &place.region_id, &tags);
    let found = past_limits(place.client.clock(), place.deadline, look).await;
    let found = found.map_err(|error| ErrorReport::from(&error))?;
    let mut ids: BTreeSet<String> =
        found.into_iter().flat_map(|one| one.instances).map(|on| on.instance_id).collect();
    let filter = GroupFilter { tags: &tags, ..GroupFilter::default() };
    let look = || ecs::describe_snapshot_groups(&place.client, &place.region_id, &filter);
    let groups = past_limits(place.client.clock(), place.deadline, look).await;
    let groups = groups.map_err(|error| ErrorReport::from(&error))?;
    ids.extend(groups.into_iter().map(|group| group.instance_id).filter(|id| !id.is_empty()));
    Ok(ids.into_iter().collect())
}

/// The instances of one place: those that are named or begun in their order, then by id.
async fn look(place: &Place, request: &Request, begun: &[String]) -> Result<Seen, ErrorReport> {
    let targets = &request.targets;
    let mut ids = targets.instance_ids.clone();
    ids.extend(begun.iter().filter(|id| !targets.instance_ids.contains(id)).cloned());
    let describe = async |ids: &[String], tags: &[(String, String)]| {
        let look = || ecs::describe_instances(&place.client, &place.region_id, ids, tags);
        let found = past_limits(place.client.clock(), place.deadline, look).await;
        found.map_err(|error| ErrorReport::from(&error))
    };
    let (mut found, mut seen): (BTreeMap<String, ecs::Instance>, _) = (BTreeMap::new(), Seen::default());
    let keyed = |all: Vec<ecs::Instance>| all.into_iter().map(|one| (one.instance_id.clone(), one));
    found.extend(keyed(describe(&ids, &[]).await?));
    for tags in targets.queries() {
        let all = describe(&[], &tags).await?;
        if all.len() >= SHOWN_BY_TAG {
            let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let what =
                format!("{SHOWN_BY_TAG} instances or more in {} have {}", place.region_id, tags.join(", "));
            let begun = begun.iter().cloned().collect();
            let error = too_many(format!("{what}: the cloud does not show all of them"), &begun);
            if begun.is_empty() {
                return Err(error);
            }
            seen.too_many = Some(error);
            found.retain(|id, _| begun.contains(id));
            break;
        }
        found.extend(keyed(all.into_iter().filter(|one| targets.wants(&one.tags)).collect()));
    }
    seen.gone.extend(begun.to_vec());
    seen.gone.retain(|id| !found.contains_key(id));
    for id in &ids {
        if let Some(instance) = found.remove(id) {
            if targets.excludes(&instance.tags) && !begun.contains(id) {
                seen.excluded.insert(id.clone());
            }
            seen.instances.push(instance);
        }
    }
    let (out, kept): (Vec<_>, Vec<_>) = found.into_values().partition(|one| targets.excludes(&one.tags));
    seen.left_out = out.len();
    seen.instances.extend(kept);
    Ok(seen)
}

/// An instance that two scopes show belongs to the first; one that has begun rather to a scope that shows it.
fn once(known: &mut [(Place, Seen)]) {
    let mut taken = BTreeSet::new();
    let mut first = |place: &Place, id: &String| {
        taken.insert((place.account_id.clone(), place.region_id.clone(), id.clone()))
    };
    for (place, seen) in known.iter_mut() {
        seen.instances.retain(|instance| first(place, &instance.instance_id));
    }
    for (place, seen) in known {
        seen.gone.retain(|id| first(place, id));
    }
}

/// Who names an instance and leaves it out by its tag has to be told which of the two counts.
fn exclude(one: &mut Surveyed, excluded: &BTreeSet<String>) {
    if excluded.contains(&one.instance_id) {
        let finding = reasons::finding("instance.excluded", "", &one.instance_id, Severity::Blocker);
        one.findings.push(finding);
    }
}

fn same(one: &Place, other: &Place) -> bool {
    let key = |place: &Place| (place.role_arn.clone(), place.external_id.clone(), place.region_id.clone());
    key(one) == key(other)
}

/// Places in words.
fn told(places: &[Place]) -> String {
    let one = |place: &Place| match place.account_id.as_str() {
        "" => place.region_id.clone(),
        account => format!("{} of account {account}", place.region_id),
    };
    let named: Vec<String> = places.iter().take(8).map(one).collect();
    let more = places.len() - named.len();
    named.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// A target that matches nothing is no success: somebody relies on it.
fn none(places: &[Place], request: &Request, left_out: usize) -> ErrorReport {
    let tags = request.targets.tags.iter().map(|(key, values)| format!("{key}={}", values.join("|")));
    let tags: Vec<String> = tags.collect();
    let out =
        if left_out > 0 { format!(", but {left_out} that excludeTags leaves out") } else { String::new() };
    ErrorReport {
        code: "targets.none".into(),
        message: format!(
            "no instance has the tags {} in {}{out}; a caller without permission gets an empty list too",
            tags.join(", "),
            told(places)
        ),
        action: Some("DescribeInstances".into()),
        resource: None,
        request_id: None,
        cure: Some(
            "check tags, excludeTags, scope and regions; let the role call ecs:DescribeInstances on these instances"
                .into(),
        ),
    }
}

fn too_many(message: String, begun: &BTreeSet<String>) -> ErrorReport {
    let so = match begun.len() {
        0 => "nothing was touched".into(),
        some => format!("only the {some} on which an earlier delivery of the event has begun were seen to"),
    };
    ErrorReport {
        code: "targets.too_many".into(),
        message: format!("{message}; {so}"),
        cure: Some("name fewer instances, or split them by tags into several policies".into()),
        ..ErrorReport::default()
    }
}

/// Does `work` for all items, some at once; what came of it in the order of the items.
pub async fn side_by_side<I, T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    items: Vec<I>,
    work: impl Fn(I) -> F,
) -> Vec<T> {
    let (mut at_work, mut done) = (JoinSet::new(), BTreeMap::new());
    let mut items = items.into_iter().enumerate();
    loop {
        while at_work.len() < AT_ONCE
            && let Some((index, item)) = items.next()
        {
            let work = work(item);
            at_work.spawn(async move { (index, work.await) });
        }
        match at_work.join_next().await {
            Some(Ok((index, one))) => drop(done.insert(index, one)),
            // A fault of ours: as if it had happened here.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return done.into_values().collect(),
        }
    }
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
