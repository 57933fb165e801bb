//! The session that the guest's requests are signed in: narrowed to this group, short, and its secret stays here.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::command::{DELIVERY, sequence_seconds};
use super::nonces::Nonces;
use super::{Stop, Task, reasons};
use crate::acs::{Call, Endpoints, Network, Role, presign};
use crate::api::ecs::{
    CreateSnapshotGroup, GroupFilter, create_snapshot_group_call, describe_snapshot_groups_call,
};
use crate::guest::render::Signed;
use crate::policy::{Endpoint, ids};
use crate::report::{ErrorReport, Finding, Severity};

/// Variants of the create: the first and two repeats inside the window.
const CREATES: usize = 3;
/// Variants of the look at the group: the warm-up and at most 23 looks.
const DESCRIBES: usize = 24;
/// What STS takes as a session policy.
const POLICY_LIMIT: usize = 2048;

/// The group's name.
pub fn group_name(task: &Task) -> String {
    let own = || format!("appsnap-{}", task.request.policy);
    task.request.snapshot.name.clone().unwrap_or_else(own)
}

/// The group's description.
pub fn group_description(task: &Task) -> String {
    task.request.snapshot.description.clone().unwrap_or_else(|| format!("appsnap run {}", task.run))
}

/// Tags that a group is created with; the level starts at `crash` and is raised last, on the member snapshots.
pub fn group_tags(task: &Task, attempt: &str, mounts: &[(String, String)]) -> Vec<(String, String)> {
    let mut tags: Vec<(String, String)> = [
        ("appsnap:policy", task.request.policy.as_str()),
        ("appsnap:run", &task.run),
        ("appsnap:attempt", attempt),
        ("appsnap:level", "crash"),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into();
    tags.extend(task.request.snapshot.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
    // Should they reach the members, these get reason, mount, the vendor's tag and marks besides: 20 is the limit.
    let room = 12_usize.saturating_sub(tags.len());
    tags.extend(
        mounts.iter().take(room).map(|(disk, place)| (format!("appsnap:mount:{disk}"), place.clone())),
    );
    tags
}

/// The session policy: create this group and look at groups, nothing else. Named by disk as far as STS's 2,048
/// characters carry, else by instance (`true` in the second place).
pub fn session_policy(region: &str, account: &str, instance: &str, disks: &[String]) -> (String, bool) {
    let statement = |resources: Vec<String>| {
        json!({ "Version": "1", "Statement": [
            { "Effect": "Allow", "Action": "ecs:CreateSnapshotGroup", "Resource": resources },
            { "Effect": "Allow", "Action": "ecs:DescribeSnapshotGroups", "Resource": "*" },
        ]})
        .to_string()
    };
    let of = |kind: &str, id: &str| format!("acs:ecs:{region}:{account}:{kind}/{id}");
    let exact = statement(
        std::iter::once(of("instance", instance)).chain(disks.iter().map(|id| of("disk", id))).collect(),
    );
    if exact.len() <= POLICY_LIMIT {
        return (exact, false);
    }
    (statement(vec![of("instance", instance), of("disk", "*")]), true)
}

/// Where the guest reaches ECS.
///
/// # Errors
/// What is wrong, in words.
pub fn guest_endpoint(
    endpoints: &Endpoints,
    wanted: &Endpoint,
    region_id: &str,
) -> Result<crate::acs::Endpoint, String> {
    let ecs = &crate::api::ecs::ECS;
    match wanted {
        Endpoint::Host(host) => crate::acs::Endpoint::parse("linux.endpoint", host),
        Endpoint::Public => endpoints.seen_from(Network::Public, ecs, region_id),
        Endpoint::Vpc => endpoints.seen_from(Network::Vpc, ecs, region_id),
    }
    .map_err(|error| error.to_string())
}

/// How far the guest's session can be narrowed, where that is not to the disks.
pub fn findings(task: &Task) -> Vec<Finding> {
    let tell = |code: &str| vec![reasons::finding(code, "", &task.instance_id, Severity::Note)];
    if task.role_arn.is_none() {
        return tell("role.none");
    }
    match session_policy(&task.region_id, &task.account_id, &task.instance_id, &task.disk_ids()) {
        (_, true) => tell("session.instance"),
        _ => Vec::new(),
    }
}

/// The host that the guest's requests are signed for.
pub fn endpoint(task: &Task) -> Result<crate::acs::Endpoint, ErrorReport> {
    let wanted = &task.request.linux.endpoint;
    guest_endpoint(task.client.endpoints(), wanted, &task.region_id).map_err(|message| ErrorReport {
        code: "endpoint".into(),
        message,
        cure: Some("check regionId and linux.endpoint".into()),
        ..ErrorReport::default()
    })
}

/// Signs the variants: one date, one token, a nonce each. Also what can later be asked about their nonces, and the
/// findings about how far the session is narrowed.
pub async fn sign(
    task: &Task,
    attempt: &str,
    mounts: &[(String, String)],
) -> Result<(Signed, Nonces, Vec<Finding>), Stop> {
    let disks = task.disk_ids();
    let client = match &task.role_arn {
        Some(arn) => {
            let (policy, _) = session_policy(&task.region_id, &task.account_id, &task.instance_id, &disks);
            let role = Role::new(arn, "appsnap-guest")
                .narrowed(&policy)
                .map_err(|error| own("session.policy", error.to_string()))?;
            task.client.assuming(match &task.external_id {
                Some(id) => role.external_id(id),
                None => role,
            })
        }
        None => task.client.clone(),
    };
    // Long enough to ask about the nonces after the longest postscript.
    let life = sequence_seconds(task) + 2 * DELIVERY;
    let credentials = client.credentials(Duration::from_secs(life)).await?;
    let endpoint = endpoint(task).map_err(Stop::Failed)?;
    let tags = group_tags(task, attempt, mounts);
    let create = create_snapshot_group_call(&CreateSnapshotGroup {
        region_id: &task.region_id,
        instance_id: Some(&task.instance_id),
        disk_ids: &disks,
        name: &group_name(task),
        description: &group_description(task),
        client_token: &ids::client_token(attempt),
        tags: &tags,
        resource_group_id: task.request.snapshot.resource_group_id.as_deref(),
    });
    let look = describe_snapshot_groups_call(
        &task.region_id,
        &GroupFilter { tags: &[("appsnap:attempt".into(), attempt.into())], ..GroupFilter::default() },
    );
    let clock = task.client.clock();
    let (date, nonce) = (clock.now(), clock.nonce());
    let variants = |call: &Call, letter: char, count: usize| -> Vec<_> {
        (1..=count)
            .map(|n| presign(call, &endpoint, &credentials, date, &format!("{nonce}-{letter}{n}")))
            .collect()
    };
    let (creates, describes) = (variants(&create, 'c', CREATES), variants(&look, 'd', DESCRIBES));
    let signed = Signed {
        host: endpoint.host().to_string(),
        access_key_id: credentials.access_key_id.clone(),
        security_token: credentials
            .security_token
            .as_ref()
            .map(|token| token.expose().to_string())
            .unwrap_or_default(),
        signed_headers: creates[0].signed_headers.clone(),
        date: seconds(date),
        date_seconds: date.as_second(),
        nonce,
        create_query: creates[0].query.clone(),
        describe_query: describes[0].query.clone(),
        creates: creates.into_iter().map(|variant| variant.signature).collect(),
        describes: describes.into_iter().map(|variant| variant.signature).collect(),
    };
    let nonces = Nonces { credentials, prefix: signed.nonce.clone(), creates: CREATES };
    Ok((signed, nonces, findings(task)))
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn own(code: &str, message: String) -> Stop {
    Stop::Failed(ErrorReport { code: code.into(), message, ..ErrorReport::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eligibility::DiskFacts;
    use crate::protect::testing::{ok, scripted};

    #[tokio::test(start_paused = true)]
    async fn how_far_the_session_is_narrowed_is_a_finding() {
        let keys = json!({ "Credentials": { "AccessKeyId": "STS.a", "AccessKeySecret": "s", "SecurityToken": "t",
            "Expiration": "2026-11-22T04:00:00Z" } });
        let table =
            [(None, 1, Some("role.none")), (Some("r"), 1, None), (Some("r"), 128, Some("session.instance"))];
        for (role, disks, expected) in table {
            let keys = keys.clone();
            let (mut task, _) = scripted(move |call| (call == "AssumeRole").then(|| ok(keys.clone())));
            task.role_arn = role.map(|name| format!("acs:ram::1:role/{name}"));
            task.disks = (0..disks).map(|n| DiskFacts::named(&format!("d-bp1{n:017}"))).collect();
            let (_, _, findings) = sign(&task, "A", &[]).await.unwrap();
            let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
            assert_eq!(codes, Vec::from_iter(expected), "{disks} disks as {role:?}");
            assert!(findings.iter().all(|finding| finding.severity == Severity::Note));
        }
    }

    #[test]
    fn a_session_names_each_disk_until_the_policy_is_full() {
        let disks = |n: usize| -> Vec<String> { (0..n).map(|i| format!("d-bp1{i:017}")).collect() };
        let (small, coarse) = session_policy("cn-hangzhou", "1234567890123456", "i-bp1", &disks(16));
        assert!(!coarse && small.contains("disk/d-bp100000000000000015") && small.len() <= POLICY_LIMIT);
        let (large, coarse) = session_policy("cn-hangzhou", "1234567890123456", "i-bp1", &disks(128));
        assert!(coarse && large.contains("disk/*") && large.len() <= POLICY_LIMIT);
        assert!(!small.contains("TagResources"));
    }
}
