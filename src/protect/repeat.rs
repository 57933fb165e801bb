//! What a repeat of the same event finds. The unit's invocations, one for each attempt, are its record; the latest
//! attempt counts: with `appsnap:outcome` it is settled (`again`: another may follow), under way it is somebody else's,
//! and if it ended without one, its function died in between.

use super::{Stop, Task, attempts};
use crate::acs::past_limits;
use crate::api::assistant::{self, Invocation};
use crate::policy::ThawOn;
use crate::report::{Level, Status};

/// The latest attempt at a unit, as the cloud records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// Its number.
    pub number: u32,
    /// `t-…`
    pub invoke_id: String,
    /// Whether it was noted that nobody else fired its signed creates.
    pub first_use: bool,
    /// How it stands.
    pub state: State,
}

/// How an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Settled, with this status and level.
    Settled(Status, Level),
    /// Settled, without a group, and another attempt may follow.
    Again,
    /// The guest is at work.
    Running,
    /// Ended (or lost) and never settled.
    Died,
}

/// What `appsnap:outcome` says of an attempt that another may follow.
const AGAIN: &str = "again";

/// The record of a settled attempt.
pub fn outcome_tags(status: Status, level: Level) -> Vec<(String, String)> {
    owned(&[("appsnap:outcome", status.as_str()), ("appsnap:level", level.as_str())])
}

/// The record of an attempt that another may follow.
pub fn again_tags() -> Vec<(String, String)> {
    owned(&[("appsnap:outcome", AGAIN), ("appsnap:level", Level::None.as_str())])
}

/// The note of a function that could ask, for one that cannot.
pub fn first_use_tags() -> Vec<(String, String)> {
    owned(&[("appsnap:first-use", "shown")])
}

fn owned(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Tags of the invocation that runs the sequence of an attempt.
pub fn tags(task: &Task, attempt: &str) -> Vec<(String, String)> {
    let request = &task.request;
    owned(&[
        ("appsnap:policy", request.policy.as_str()),
        ("appsnap:run", &task.run),
        ("appsnap:unit", &task.unit),
        ("appsnap:attempt", attempt),
        ("appsnap:wanted", request.consistency.as_str()),
        ("appsnap:minimum", request.minimum_level.as_str()),
        ("appsnap:thaw-on", if request.linux.thaw_on == ThawOn::Accepted { "accepted" } else { "visible" }),
    ])
}

/// Looks the unit up; `None`: no attempt was ever started.
pub async fn find(task: &Task) -> Result<Option<Latest>, Stop> {
    let tags = [("appsnap:unit".to_string(), task.unit.clone())];
    let look = || assistant::invocations_by_tag(&task.client, &task.region_id, &tags);
    let found = past_limits(task.client.clock(), task.deadline, look).await?;
    Ok(found.iter().map(|invocation| judge(task, invocation)).max_by_key(|latest| latest.number))
}

/// The level that a tag names.
pub fn level_of(word: &str) -> Level {
    let known = [Level::Application, Level::Filesystem, Level::Crash];
    known.into_iter().find(|level| level.as_str() == word).unwrap_or_default()
}

fn judge(task: &Task, invocation: &Invocation) -> Latest {
    let tag = |key: &str| invocation.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
    let state = match (tag("appsnap:outcome"), tag("appsnap:outcome").and_then(Status::parse)) {
        (_, Some(status)) => State::Settled(status, tag("appsnap:level").map_or(Level::None, level_of)),
        (Some(AGAIN), _) => State::Again,
        _ if invocation.invocation_status.is_end() => State::Died,
        _ => State::Running,
    };
    Latest {
        number: attempts::number(task, tag("appsnap:attempt").unwrap_or_default()),
        invoke_id: invocation.invoke_id.clone(),
        first_use: tag("appsnap:first-use") == Some("shown"),
        state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::assistant::InvocationStatus;
    use crate::api::ecs::Tag;
    use crate::protect::testing::scripted;

    #[tokio::test]
    async fn an_invocation_tells_the_state_of_its_attempt() {
        let (task, _) = scripted(|_| None);
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        let second = tag("appsnap:attempt", &attempts::id(&task, 2));
        let mut invocation = Invocation {
            invoke_id: "t-1".into(),
            invocation_status: InvocationStatus::Running,
            tags: vec![second.clone()],
            ..Default::default()
        };
        let seen = judge(&task, &invocation);
        assert_eq!((seen.number, &*seen.invoke_id, seen.state), (2, "t-1", State::Running));
        invocation.invocation_status = InvocationStatus::Timeout;
        assert_eq!(judge(&task, &invocation).state, State::Died);
        let of = |tags: Vec<(String, String)>| {
            let tags = tags.iter().map(|(key, value)| tag(key, value)).chain([second.clone()]);
            judge(&task, &Invocation { tags: tags.collect(), ..invocation.clone() })
        };
        let settled = of(outcome_tags(Status::Degraded, Level::Filesystem));
        assert_eq!(settled.state, State::Settled(Status::Degraded, Level::Filesystem));
        assert_eq!(of(again_tags()).state, State::Again);
        assert!(of(first_use_tags()).first_use && !settled.first_use);
        // Nothing follows an attempt that is not known.
        invocation.tags.clear();
        assert_eq!(judge(&task, &invocation).number, attempts::ATTEMPTS);
    }
}
