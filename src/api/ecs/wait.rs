//! Waiting until a disk is in a wanted state.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::{Disk, describe_disks};
use crate::acs::{Client, Detail, Error, Pace, wait_until};

const PACE: Pace = Pace { first: Duration::from_millis(500), factor: 1.5, longest: Duration::from_secs(5) };

/// Waits until the disk is in this state (`Available`, `In_use`): what is done with disks goes on after its answer. An
/// attachment that fails in the cloud leaves the disk `Available`, so that waiting for `In_use` ends at the deadline.
///
/// # Errors
/// Those of the look, but for rate limits; `request.deadline`, with the state it is in.
pub async fn disk_becomes(
    client: &Client,
    region_id: &str,
    disk_id: &str,
    status: &str,
    deadline: Timestamp,
) -> Result<Disk, Error> {
    let ids = [disk_id.to_owned()];
    let last = Mutex::new("not to be seen".to_owned());
    let found = wait_until(client.clock(), PACE, deadline, || async {
        match describe_disks(client, region_id, &ids).await.map(|mut found| found.pop()) {
            Ok(Some(disk)) if disk.status == status => Ok(Some(disk)),
            Ok(disk) => {
                let seen = disk.map_or("not to be seen".to_owned(), |disk| disk.status);
                *last.lock().unwrap_or_else(PoisonError::into_inner) = seen;
                Ok(None)
            }
            Err(error) if error.is_throttled() => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await?;
    found.ok_or_else(|| {
        Error::new(Detail {
            action: "DescribeDisks".into(),
            resource: disk_id.into(),
            code: "request.deadline".into(),
            message: format!("the time is up: it is {}, not {status}", last.into_inner().unwrap_or_default()),
            ..Detail::default()
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::SignedDuration;
    use serde_json::json;

    use crate::acs::Reply;
    use crate::api::ecs::disk_becomes;
    use crate::api::testing::replying;

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_waited_for_past_limits_and_the_deadline_tells_its_state() {
        let script = Mutex::new(vec!["In_use", "Attaching", "", "Throttling.User"]);
        let (client, _) = replying(move |_| {
            let mut script = script.lock().unwrap();
            let next = if script.len() > 1 { script.pop().unwrap() } else { script[0] };
            let list = if next.is_empty() { json!([]) } else { json!([{"DiskId": "d-1", "Status": next}]) };
            match next {
                "Throttling.User" => Reply::new(400, json!({"Code": next}).to_string()),
                _ => Reply::new(200, json!({"Disks": {"Disk": list}}).to_string()),
            }
        });
        let deadline = client.clock().now() + SignedDuration::from_mins(5);
        let waiting = disk_becomes(&client, "cn-hangzhou", "d-1", "In_use", deadline);
        fn spawnable<T: Send>(future: T) -> T {
            future
        }
        assert_eq!(spawnable(waiting).await.unwrap().status, "In_use");
        let error = disk_becomes(&client, "cn-hangzhou", "d-1", "Available", client.clock().now()).await;
        let error = error.unwrap_err();
        assert_eq!(error.code, "request.deadline");
        assert!(error.to_string().contains("it is In_use, not Available"), "{error}");
    }
}
