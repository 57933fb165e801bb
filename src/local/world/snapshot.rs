//! Member snapshots: the cut, the upload, DescribeSnapshots.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::params::Params;
use super::reply::{ApiError, page};
use super::tag::Tags;
use super::{Context, Effect, Timer, World, seconds};

#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) account_id: String,
    pub(super) region_id: String,
    pub(super) size: u64,
    pub(super) encrypted: bool,
    pub(super) kms_key_id: String,
    pub(super) tags: Tags,
    /// Empty: it is of no group.
    pub(super) group_id: String,
    /// Made by an automatic policy.
    pub(super) automatic: bool,
    pub(super) name: String,
    pub(super) disk_id: String,
    pub(super) disk_kind: String,
    pub(super) instance_id: Option<String>,
    pub(super) created: Timestamp,
    pub(super) cloned: Option<Timestamp>,
    pub(super) status: &'static str,
}

impl Snapshot {
    /// Usable for a disk: ESSD snapshots are from the cut on (instant access).
    pub(super) fn available(&self) -> bool {
        self.cloned.is_some() && self.status != "failed"
    }
}

impl World {
    /// Gives a disk snapshots of its own, of no group: `progressing` (for good) or `accomplished`.
    pub fn add_snapshots(
        &mut self,
        now: Timestamp,
        disk_id: &str,
        count: usize,
        automatic: bool,
        status: &'static str,
    ) {
        let Some(disk) = self.disks.get(disk_id).cloned() else { return };
        for _ in 0..count {
            let snapshot = Snapshot {
                account_id: disk.account_id.clone(),
                region_id: disk.region_id.clone(),
                size: disk.size,
                encrypted: disk.encrypted,
                kms_key_id: disk.kms_key_id.clone(),
                tags: Tags::default(),
                group_id: String::new(),
                automatic,
                name: String::new(),
                disk_id: disk.id.clone(),
                disk_kind: disk.kind.clone(),
                instance_id: disk.instance_id.clone(),
                created: now,
                cloned: (status == "accomplished").then_some(now),
                status,
            };
            let id = self.dice.id("s");
            self.snapshots.insert(id, snapshot);
        }
    }

    /// One of a group shows with it.
    fn is_shown(&self, now: Timestamp, snapshot: &Snapshot) -> bool {
        snapshot.group_id.is_empty() || self.shows(now, &snapshot.group_id)
    }

    pub(super) fn account_in_order(&self) -> Result<(), ApiError> {
        let refused = |why: &String| {
            ApiError::new(403, format!("InvalidAccountStatus.{why}"), "The account cannot use snapshots.")
        };
        self.settings.account_status.as_ref().map_or(Ok(()), |why| Err(refused(why)))
    }

    /// The snapshot `id` where the caller's account has it and it already shows.
    pub(super) fn own_snapshot(
        &self,
        context: &Context,
        region: &str,
        id: &str,
    ) -> Result<&Snapshot, ApiError> {
        let own = |s: &&Snapshot| {
            s.account_id == context.caller.account_id
                && s.region_id == region
                && self.is_shown(context.now, s)
        };
        self.snapshots.get(id).filter(own).ok_or_else(|| ApiError::not_found("SnapshotId", id))
    }

    pub(super) fn cut(&mut self, at: Timestamp, snapshot_id: String) {
        if let Some(snapshot) = self.snapshots.get(&snapshot_id) {
            let disk_id = snapshot.disk_id.clone();
            self.effects.push(Effect::CloneDisk { disk_id, snapshot_id, at });
        }
    }

    pub(super) fn cloned(&mut self, now: Timestamp, snapshot_id: &str, good: bool) {
        let Some(snapshot) = self.snapshots.get_mut(snapshot_id).filter(|s| s.status == "progressing") else {
            return;
        };
        if good {
            snapshot.cloned = Some(now);
            let done = self.later(now, self.settings.upload.as_millis() as u64);
            self.arm(done, Timer::Uploaded(snapshot_id.into()));
        } else {
            snapshot.status = "failed";
            self.snapshot_event(now, snapshot_id);
        }
    }

    pub(super) fn uploaded(&mut self, at: Timestamp, snapshot_id: &str) {
        if let Some(snapshot) = self.snapshots.get_mut(snapshot_id) {
            snapshot.status = "accomplished";
            self.snapshot_event(at, snapshot_id);
        }
    }

    /// One that is not there is no error, but the right to delete it is asked for first.
    pub(super) fn delete_snapshot(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let id = params.required("SnapshotId")?;
        let own = || self.snapshots.get(&id).map(|one| one.region_id.clone());
        let region = params.optional("RegionId").or_else(own).unwrap_or_default();
        let force = params.boolean("Force")?.unwrap_or(false);
        params.finish()?;
        let there = self.own_snapshot(context, &region, &id).ok();
        let tags = there.map(|one| one.tags.clone()).unwrap_or_default();
        context.require_on("ecs:DeleteSnapshot", &context.arn(&region, "snapshot", &id), &tags)?;
        if there.is_none() {
            return Ok(json!({}));
        }
        let used = |code: &str, by: &str| {
            Err(ApiError::new(403, code, format!("The snapshot {id} has been used to create {by}.")))
        };
        if self.is_imaged(&id) {
            return used("SnapshotCreatedImage", "an image");
        }
        if !force && self.disks.values().any(|disk| disk.source_snapshot_id.as_ref() == Some(&id)) {
            return used("SnapshotCreatedDisk", "a disk");
        }
        self.snapshots.remove(&id);
        self.effects.push(Effect::DeleteSnapshot { snapshot_id: id });
        Ok(json!({}))
    }

    fn snapshot_event(&mut self, at: Timestamp, id: &str) {
        let Some(s) = self.snapshots.get(id) else { return };
        let data = json!({
            "result": s.status, "snapshotId": id, "snapshotName": s.name, "snapshotType": "user", "diskId": s.disk_id,
            "startTime": seconds(s.created), "endTime": seconds(at),
        });
        let (account, region) = (s.account_id.clone(), s.region_id.clone());
        self.emit(
            at,
            "ecs:Snapshot:CreateSnapshotCompleted",
            &account,
            &region,
            &format!("snapshot/{id}"),
            data,
        );
    }

    pub(super) fn progress(&self, now: Timestamp, snapshot: &Snapshot) -> String {
        let upload = self.settings.upload.as_millis().max(1) as i64;
        let gone = snapshot.cloned.map_or(0, |cloned| now.duration_since(cloned).as_millis() as i64);
        let percent =
            if snapshot.status == "accomplished" { 100 } else { (gone * 100 / upload).clamp(0, 99) };
        format!("{percent}%")
    }

    pub(super) fn describe_snapshots(
        &mut self,
        context: &Context,
        params: &mut Params,
    ) -> Result<Value, ApiError> {
        let region = self.region(params)?;
        let ids = params.json_list("SnapshotIds")?;
        let (instance, disk, name) =
            (params.optional("InstanceId"), params.optional("DiskId"), params.optional("SnapshotName"));
        let status = params
            .one_of("Status", &["progressing", "accomplished", "failed", "all"])?
            .filter(|one| one != "all");
        let kind = params.one_of("SnapshotType", &["auto", "user", "all"])?;
        let disk_kind = params.one_of("SourceDiskType", &["system", "data"])?;
        let tags = params.tags()?;
        let (size, token) = params.paging(100, None)?;
        params.finish()?;
        self.account_in_order()?;
        let wanted = |(id, s): &(&String, &Snapshot)| {
            ids.as_ref().is_none_or(|ids| ids.contains(id)) // the sharpest test first: there may be thousands
                && s.account_id == context.caller.account_id
                && s.region_id == region
                && kind.as_deref().is_none_or(|kind| kind == "all" || (kind == "auto") == s.automatic)
                && self.is_shown(context.now, s)
                && instance.as_ref().is_none_or(|wanted| s.instance_id.as_ref() == Some(wanted))
                && disk.as_ref().is_none_or(|wanted| *wanted == s.disk_id)
                && name.as_ref().is_none_or(|wanted| *wanted == s.name)
                && status.as_ref().is_none_or(|wanted| wanted == s.status)
                && disk_kind.as_ref().is_none_or(|wanted| *wanted == s.disk_kind)
                && s.tags.match_filter(&tags)
                && context.may("ecs:DescribeSnapshots", &context.arn(&region, "snapshot", id), &s.tags)
        };
        let mut found: Vec<(&String, &Snapshot)> = self.snapshots.iter().filter(wanted).collect();
        found.sort_by_key(|(_, snapshot)| std::cmp::Reverse(snapshot.created));
        let total = found.len();
        let (found, next) = page(found, size.min(self.settings.page_limit), token.as_deref())?;
        let show = |(id, s): (&String, &Snapshot)| {
            json!({
                "SnapshotId": id, "SnapshotName": s.name, "Description": "", "Status": s.status, "Progress": self.progress(context.now, s),
                "Available": s.available(), "CreationTime": seconds(s.created), "LastModifiedTime": seconds(s.cloned.unwrap_or(s.created)),
                "SourceDiskId": s.disk_id, "SourceDiskSize": s.size.to_string(), "SourceDiskType": s.disk_kind, "RegionId": region,
                "SnapshotType": if s.automatic { "auto" } else { "user" }, "Category": "Standard", "Encrypted": s.encrypted, "KMSKeyId": s.kms_key_id, "Usage": "none", "InstantAccess": false,
                "SnapshotLinkId": format!("sl-{}", s.disk_id.trim_start_matches("d-")), "Tags": s.tags.shown(),
            })
        };
        Ok(json!({
            "Snapshots": { "Snapshot": found.into_iter().map(show).collect::<Vec<_>>() },
            "NextToken": next, "TotalCount": total, "PageNumber": 1, "PageSize": size,
        }))
    }
}
