//! What may be less than expected: told before the steps.

use super::facts::{Facts, Machine};
use super::plan::Warning;
use super::said::Said;
use crate::report::Level;

/// All of them, what weighs most first.
pub fn warnings(facts: &Facts, way: &str, onto: Option<&Machine>, said: &Said) -> Vec<Warning> {
    let members = facts.members();
    let mut all = Vec::new();
    let mut warn = |message: String, cure: &str| all.push(Warning { message, cure: cure.into() });
    if said.verified.as_deref() == Some("broken") {
        warn("verified: broken, the engine did not come up on a copy of it".into(), "take another group");
    }
    let missing = facts.missing();
    if !missing.is_empty() {
        let which = missing.join(", ");
        warn(
            format!("of {which} there is no snapshot any more, though the group was made with it"),
            "take another group where their data belongs to it",
        );
    }
    if !said.lost.is_empty() {
        warn(
            format!(
                "the tags that tell the level are missing on {}: the group counts as crash",
                said.lost.join(", ")
            ),
            "look in the run's report, by its id, what was reached",
        );
    }
    if said.level < Level::Application {
        let because = match said.reasons.is_empty() {
            true => String::new(),
            false => format!(", because of {} (docs/reasons.md)", said.reasons.join(", ")),
        };
        let cure = match said.level {
            Level::Filesystem => "expect clean file systems, and an engine that recovers as after a crash",
            _ => {
                "expect what a power failure leaves: journals are replayed, the engine recovers, what it had not synced is lost"
            }
        };
        warn(format!("the level is {}{because}", said.level.as_str()), cure);
    }
    if said.by == "vendor" {
        warn(
            "the level is the vendor's plugin's word alone".into(),
            "verify it, or read the engine's log with care",
        );
    }
    match said.verified.as_deref() {
        None => {
            warn("nobody has tried this group yet".into(), "appsnap verify GROUP, where there is time for it")
        }
        Some("rollback") => {
            warn(
                "verified: rollback, transactions were rolled back on a copy of it".into(),
                "none needed if that is known",
            );
        }
        Some(_) => {}
    }
    let under_way: Vec<&str> =
        members.iter().filter(|one| !one.accomplished).map(|one| one.snapshot_id.as_str()).collect();
    if !under_way.is_empty() {
        warn(
            format!("{} still being uploaded, without redundancy over zones until then", are(&under_way)),
            "wait until the group's status is accomplished, where the zone is sound",
        );
    }
    let mut keys: Vec<&str> = members
        .iter()
        .filter(|one| one.encrypted)
        .map(|one| if one.kms_key_id.is_empty() { "the service's own key" } else { &*one.kms_key_id })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    if !keys.is_empty() {
        warn(
            format!("encrypted with {}: so is what is made of it", keys.join(", ")),
            "the key has to be enabled, and ECS be allowed to use it; with a deleted key it cannot be read",
        );
    }
    if members.iter().any(|one| one.cut) {
        warn(
            "a tag was too short for all mount points, or holds what is none: some are not in the plan"
                .into(),
            "compare with the run's report",
        );
    }
    let Some(onto) = onto else { return all };
    let zones: Vec<&str> = facts.disks.iter().map(|disk| disk.zone_id.as_str()).collect();
    if let Some(zone) = zones.iter().find(|zone| way != "in-place" && **zone != onto.instance.zone_id) {
        warn(
            format!("the disks were in {zone}, {} is in {}", onto.id(), onto.instance.zone_id),
            "none needed: disks are made from snapshots in any zone of the region that has their category",
        );
    }
    if let Some(lock) = onto.instance.operation_locks.first() {
        warn(
            format!("{} is locked: {}", onto.id(), lock.lock_reason),
            "have it unlocked first: every step would be refused",
        );
    }
    if way != "in-place" && onto.instance.status != "Running" {
        warn(
            format!("{} is {}: what runs in it needs it running", onto.id(), onto.instance.status),
            "start it before the steps in the guest",
        );
    }
    if onto.instance.stopped_mode == "StopCharging" && onto.instance.status == "Stopped" {
        warn(
            format!("{} was stopped in economical mode: it has no place in the zone now", onto.id()),
            "start it, and let the plan stop it; where there is no stock, use --to another instance",
        );
    }
    if onto.instance.os_type == "windows" {
        warn(
            "Windows: what is to be done in the guest is not in the plan".into(),
            "bring the disks online (Set-Disk -IsOffline $false, -IsReadOnly $false); of copies beside Windows changes the \
             signature; then start the services",
        );
    }
    if let Some(dir) = said.mark("datadir").filter(|_| way != "in-place")
        && super::engine::home(&members, dir).is_none()
    {
        warn(
            format!("on which disk {dir} lay no tag tells: no step for the engine's data is in the plan"),
            "look for it on the copies, which are mounted by their disks' ids; how it is started then tells --start",
        );
    }
    if way == "in-place" {
        let here = |id: &str| onto.disks.iter().any(|disk| disk.disk_id == id);
        for member in members.iter().filter(|member| !here(&member.disk_id)) {
            if member.system {
                warn(
                    format!(
                        "{} is no longer the system disk of {}: it cannot be rolled back",
                        member.disk_id,
                        onto.id()
                    ),
                    "the present system disk stays as it is; --beside shows what is on the old one",
                );
            } else {
                warn(
                    format!("{} is not attached to {} any more", member.disk_id, onto.id()),
                    "a new disk takes its place; what is there now under its mount point has to be unmounted first",
                );
            }
        }
        let of = |id: &str| members.iter().any(|member| member.disk_id == id);
        let outside: Vec<&str> = onto
            .disks
            .iter()
            .map(|disk| disk.disk_id.as_str())
            .filter(|id| !of(id) && !missing.iter().any(|one| one == id))
            .collect();
        if !outside.is_empty() {
            warn(
                format!("{} not in the group: it stays as it is now, later than the rest", are(&outside)),
                "take care where its data belongs together with theirs",
            );
        }
    }
    all
}

fn are(ids: &[&str]) -> String {
    format!("{} {}", ids.join(", "), if ids.len() == 1 { "is" } else { "are" })
}
