//! What a repeat of the same event finds. The unit's invocations are its record: none means fresh, one with
//! `appsnap:outcome` is settled, one under way is somebody else's, one that ended without it died in between.

use super::{Stop, Task};
use crate::api::assistant::{self, Invocation};
use crate::report::{Level, Status};

/// The state of a unit as the cloud records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Never started.
    Fresh,
    /// Settled, with this status and level.
    Settled(Status, Level),
    /// The guest is at work.
    Running(String),
    /// Ended (or lost) and never settled: the invocation to settle.
    Died(String),
}

/// Tags of the invocation that runs the sequence of an attempt.
pub fn tags(task: &Task, attempt: &str) -> Vec<(String, String)> {
    let request = &task.request;
    [
        ("appsnap:policy", request.policy.as_str()),
        ("appsnap:run", &task.run),
        ("appsnap:unit", &task.unit),
        ("appsnap:attempt", attempt),
        ("appsnap:wanted", request.consistency.as_str()),
        ("appsnap:minimum", request.minimum_level.as_str()),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into()
}

/// Looks the unit up.
pub async fn find(task: &Task) -> Result<Found, Stop> {
    let tags = [("appsnap:unit".to_string(), task.unit.clone())];
    let mut found = assistant::invocations_by_tag(&task.client, &task.region_id, &tags).await?;
    found.sort_by(|a, b| a.creation_time.cmp(&b.creation_time));
    Ok(found.last().map_or(Found::Fresh, judge))
}

fn judge(invocation: &Invocation) -> Found {
    let tag = |key: &str| invocation.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
    if let Some(status) = tag("appsnap:outcome").and_then(Status::parse) {
        let level = match tag("appsnap:level") {
            Some("application") => Level::Application,
            Some("filesystem") => Level::Filesystem,
            Some("crash") => Level::Crash,
            _ => Level::None,
        };
        return Found::Settled(status, level);
    }
    let id = invocation.invoke_id.clone();
    if invocation.invocation_status.is_end() { Found::Died(id) } else { Found::Running(id) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::assistant::InvocationStatus;
    use crate::api::ecs::Tag;

    #[test]
    fn an_invocation_tells_the_state_of_its_unit() {
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        let mut invocation = Invocation {
            invoke_id: "t-1".into(),
            invocation_status: InvocationStatus::Running,
            ..Default::default()
        };
        assert_eq!(judge(&invocation), Found::Running("t-1".into()));
        invocation.invocation_status = InvocationStatus::Timeout;
        assert_eq!(judge(&invocation), Found::Died("t-1".into()));
        invocation.tags = vec![tag("appsnap:outcome", "degraded"), tag("appsnap:level", "filesystem")];
        assert_eq!(judge(&invocation), Found::Settled(Status::Degraded, Level::Filesystem));
    }
}
