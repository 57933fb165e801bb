//! The throw-away disks: made of the members, attached, and taken away; known by their tags alone.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::place::Lent;
use super::subject::Subject;
use super::subject::unseen;
use super::{Job, LENT, PACE, soon, until};
use crate::acs::{Error, is_denied, past_limits};
use crate::api::ecs::{self, CreateDisk, Disk};
use crate::policy::ids;
use crate::report::ErrorReport;

/// How long a disk may take to be made, or to be attached, in seconds.
const STEP: i64 = 180;
/// How long one that was made and does not show is looked for.
const SHOWS: SignedDuration = SignedDuration::from_secs(15);
/// After so many denials the rest is left: a disk that is just going has no tags any more, which looks the same.
const DENIALS: u32 = 20;
/// The category where the source's is not known any more; the only family for snapshots that are not uploaded.
const CATEGORY: &str = "cloud_essd";

fn tags(job: &Job) -> Vec<(String, String)> {
    let until = job.deadline.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    [
        (LENT, job.group_id.as_str()),
        ("appsnap:verify:run", &job.run),
        ("appsnap:verify:on", &job.instance_id),
        ("appsnap:verify:until", &until),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

/// Makes a disk of each member, in their order, where the instance is; `made` has those that may be there.
pub(super) async fn make(
    job: &Job,
    subject: &Subject,
    lent: &Lent,
    made: &mut Vec<String>,
) -> Result<(), ErrorReport> {
    let failed = |error: Error| ErrorReport::from(&error);
    let (client, region_id) = (&job.client, &job.region_id);
    let sources: Vec<String> = subject.members.iter().map(|one| one.source_disk_id.clone()).collect();
    let sources = ecs::describe_disks(client, region_id, &sources).await.map_err(failed)?;
    let tags = tags(job);
    for (index, member) in subject.members.iter().enumerate() {
        let source = sources.iter().find(|disk| disk.disk_id == member.source_disk_id);
        let category = source.map(|disk| disk.category.as_str()).filter(|name| !name.is_empty());
        let wanted = CreateDisk {
            region_id,
            zone_id: &lent.zone_id,
            snapshot_id: &member.snapshot_id,
            category: category.unwrap_or(CATEGORY),
            size: member.size.max(1),
            name: &format!("appsnap-verify-{}", job.run),
            client_token: &ids::client_token(&format!("{}-{index}", job.run)),
            tags: &tags,
            ..CreateDisk::default()
        };
        let create = || ecs::create_disk(client, &wanted);
        match past_limits(client.clock(), soon(job, STEP), create).await {
            Ok(id) => made.push(id),
            Err(error) => {
                // One whose answer was lost is there all the same.
                let run = [("appsnap:verify:run".to_owned(), job.run.clone())];
                let seen = ecs::describe_disks_tagged(client, region_id, &run).await.unwrap_or_default();
                *made = seen.into_iter().map(|disk| disk.disk_id).chain(made.drain(..)).collect();
                made.sort_unstable();
                made.dedup();
                return Err(failed(error));
            }
        }
    }
    let look = || async {
        Ok(Some(ecs::describe_disks(client, region_id, made).await?).filter(|seen| !seen.is_empty()))
    };
    if until(job, soon(job, SHOWS.as_secs()), look).await.map_err(failed)?.is_none() {
        return Err(unseen(job, "DescribeDisks", &made.join(" ")));
    }
    for id in made.iter() {
        ecs::disk_becomes(client, region_id, id, "Available", soon(job, STEP)).await.map_err(failed)?;
    }
    Ok(())
}

/// Attaches them, one after the other: an instance takes one such change at a time.
pub(super) async fn attach(job: &Job, made: &[String]) -> Result<(), ErrorReport> {
    let (client, region_id) = (&job.client, &job.region_id);
    for id in made {
        let call = || ecs::attach_disk(client, region_id, id, &job.instance_id, true);
        match past_limits(client.clock(), soon(job, STEP), call).await {
            // Its state tells what came of it.
            Err(error) if error.unknown_outcome => {}
            done => done.map_err(|error| ErrorReport::from(&error))?,
        }
        let attached = ecs::disk_becomes(client, region_id, id, "In_use", soon(job, STEP)).await;
        attached.map_err(|error| ErrorReport::from(&error))?;
    }
    Ok(())
}

/// Whether all of them are attached as they were: a later verification of the same group takes away those of an earlier
/// one, also on another instance.
pub(super) async fn still_there(job: &Job, made: &[String]) -> Result<(), ErrorReport> {
    let seen = ecs::describe_disks(&job.client, &job.region_id, made).await;
    let seen = seen.map_err(|error| ErrorReport::from(&error))?;
    let there = |id: &&String| {
        seen.iter().any(|disk| {
            disk.disk_id == **id && disk.status == "In_use" && disk.instance_id == job.instance_id
        })
    };
    let gone: Vec<&str> = made.iter().filter(|id| !there(id)).map(String::as_str).collect();
    if gone.is_empty() {
        return Ok(());
    }
    Err(ErrorReport {
        code: "verify.lost".into(),
        message: format!("disks were taken away while they were looked at: {}", gone.join(" ")),
        resource: Some(gone.join(" ")),
        cure: Some("verify it again, one verification of a group at a time".into()),
        ..ErrorReport::default()
    })
}

/// What verifications that are over left: of this group, since a later one takes its place, and of others for the same
/// instance whose time has passed.
pub(super) async fn earlier(job: &Job) -> Result<Vec<Disk>, Error> {
    let now = job.client.clock().now();
    let mut found: Vec<Disk> = Vec::new();
    for tag in [(LENT, &job.group_id), ("appsnap:verify:on", &job.instance_id)] {
        let tag = [(tag.0.to_owned(), tag.1.clone())];
        let seen = ecs::describe_disks_tagged(&job.client, &job.region_id, &tag).await?;
        found.extend(seen.into_iter().filter(|disk| is_left(disk, &job.group_id, now)));
    }
    found.sort_by(|a, b| a.disk_id.cmp(&b.disk_id));
    found.dedup_by(|a, b| a.disk_id == b.disk_id);
    Ok(found)
}

fn is_left(disk: &Disk, group_id: &str, now: Timestamp) -> bool {
    let tag = |key: &str| disk.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
    // Without all of the tags it is none of ours.
    let (Some(of), Some(_), Some(until)) =
        (tag(LENT), tag("appsnap:verify:run"), tag("appsnap:verify:until"))
    else {
        return false;
    };
    of == group_id || until.parse::<Timestamp>().is_ok_and(|until| until < now)
}

/// Detaches and deletes these disks, whatever state they are in, and gives those that stay, with the reason.
pub(super) async fn take_away(
    job: &Job,
    disk_ids: &[String],
    until: Timestamp,
) -> Result<(), (Vec<String>, String)> {
    let (client, region_id, clock) = (&job.client, &job.region_id, job.client.clock());
    let began = clock.now();
    let mut left: BTreeSet<String> = disk_ids.iter().cloned().collect();
    let (mut deleted, mut why, mut denied) = (BTreeSet::new(), String::new(), 0);
    loop {
        let ids: Vec<String> = left.iter().cloned().collect();
        match ecs::describe_disks(client, region_id, &ids).await {
            Err(error) => why = error.to_string(),
            Ok(seen) => {
                for id in &ids {
                    let disk = seen.iter().find(|disk| disk.disk_id == *id);
                    let done = match disk.map(|disk| (disk.status.as_str(), disk)) {
                        None if deleted.contains(id) => {
                            left.remove(id);
                            continue;
                        }
                        None if clock.now() < began + SHOWS => Ok(()),
                        // It may be that it is only not shown: of one that is not there the cloud says nothing. One that
                        // was seen, and is not any more after an attempt, is gone, whatever was answered.
                        None | Some(("Available", _)) => {
                            let done = ecs::delete_disk(client, region_id, id).await;
                            if done.is_ok() || disk.is_some() {
                                deleted.insert(id.clone());
                            }
                            done
                        }
                        Some(("In_use", disk)) => {
                            ecs::detach_disk(client, region_id, id, &disk.instance_id).await
                        }
                        Some(_) => Ok(()),
                    };
                    if let Err(error) = done {
                        denied += u32::from(is_denied(&error.code));
                        why = error.to_string();
                    }
                }
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        // A right that is missing does not come back by itself.
        if clock.now() >= until || denied > DENIALS {
            let why = if why.is_empty() { "the time is up".to_owned() } else { why };
            return Err((left.into_iter().collect(), why));
        }
        clock.sleep(PACE.first).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ecs::Tag;

    #[test]
    fn only_what_is_marked_as_a_verifications_and_is_over_is_taken_away() {
        let now: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        let disk = |tags: &[(&str, &str)]| Disk {
            tags: tags.iter().map(|(k, v)| Tag { key: k.to_string(), value: v.to_string() }).collect(),
            ..Disk::default()
        };
        let run = ("appsnap:verify:run", "v-1");
        let until = |time: &'static str| ("appsnap:verify:until", time);
        let (past, later) = (until("2026-11-22T02:59:59Z"), until("2026-11-22T03:00:01Z"));
        let table: [(&[(&str, &str)], bool); 5] = [
            (&[(LENT, "ssg-1"), run, later], true),
            (&[(LENT, "ssg-2"), run, later], false),
            (&[(LENT, "ssg-2"), run, past], true),
            (&[(LENT, "ssg-1")], false),
            (&[("appsnap:policy", "p"), run, past], false),
        ];
        for (tags, expected) in table {
            assert_eq!(is_left(&disk(tags), "ssg-1", now), expected, "{tags:?}");
        }
    }
}
