//! Which disks of an instance are meant.

use super::facts::DiskFacts;
use super::finding;
use crate::report::Finding;

/// Which kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskKind {
    /// System and data disks.
    #[default]
    All,
    /// Data disks only.
    Data,
    /// The system disk only.
    System,
}

/// What the user said about disks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskSelection {
    /// The kind.
    pub kind: DiskKind,
    /// Only these, where not empty; the kind is then `All`.
    pub disk_ids: Vec<String>,
    /// All but these.
    pub exclude_disk_ids: Vec<String>,
}

impl DiskSelection {
    fn takes(&self, disk: &DiskFacts) -> bool {
        let kind = match self.kind {
            DiskKind::All => true,
            DiskKind::Data => disk.disk_type != "system",
            DiskKind::System => disk.disk_type == "system",
        };
        let named = self.disk_ids.is_empty() || self.disk_ids.contains(&disk.disk_id);
        kind && named && !self.exclude_disk_ids.contains(&disk.disk_id)
    }
}

/// The chosen disks of one instance, in their order, and a note for each that is left out: a copy without
/// it must not pass for a copy of the whole machine.
pub fn pick_disks(disks: &[DiskFacts], selection: &DiskSelection) -> (Vec<DiskFacts>, Vec<Finding>) {
    let (chosen, left): (Vec<_>, Vec<_>) = disks.iter().cloned().partition(|disk| selection.takes(disk));
    let note = |disk: &DiskFacts| {
        let detail = format!("a {} disk, {}, {} GiB", disk.disk_type, disk.category, disk.size_gib);
        finding("disk.left_out", &disk.disk_id, &detail)
    };
    let notes = left.iter().map(note).collect();
    (chosen, notes)
}

/// Disks that the request names and that are attached to none of its instances; `disks` are those of all.
/// A wanted one blocks, an excluded one is told.
pub fn unknown_disks(disks: &[DiskFacts], selection: &DiskSelection) -> Vec<Finding> {
    let missing = |code, ids: &[String]| -> Vec<Finding> {
        let unknown = ids.iter().filter(|id| !disks.iter().any(|disk| disk.disk_id == **id));
        unknown.map(|id| finding(code, id, "")).collect()
    };
    let mut found = missing("disk.unknown", &selection.disk_ids);
    found.extend(missing("disk.exclude_unknown", &selection.exclude_disk_ids));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Severity;

    fn disks() -> Vec<DiskFacts> {
        vec![
            DiskFacts::good("d-sys", "system"),
            DiskFacts::good("d-1", "data"),
            DiskFacts::good("d-2", "data"),
        ]
    }

    fn selection(kind: DiskKind, only: &[&str], without: &[&str]) -> DiskSelection {
        let owned = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
        DiskSelection { kind, disk_ids: owned(only), exclude_disk_ids: owned(without) }
    }

    #[test]
    fn chosen_and_left_out_are_all_there_is() {
        let table: [(DiskSelection, &[&str]); 6] = [
            (DiskSelection::default(), &["d-sys", "d-1", "d-2"]),
            (selection(DiskKind::Data, &[], &[]), &["d-1", "d-2"]),
            (selection(DiskKind::System, &[], &[]), &["d-sys"]),
            (selection(DiskKind::All, &["d-2"], &[]), &["d-2"]),
            (selection(DiskKind::Data, &[], &["d-1"]), &["d-2"]),
            (selection(DiskKind::All, &["d-9"], &[]), &[]),
        ];
        for (selection, expected) in table {
            let (chosen, left) = pick_disks(&disks(), &selection);
            let ids: Vec<_> = chosen.iter().map(|disk| disk.disk_id.as_str()).collect();
            assert_eq!(ids, expected, "{selection:?}");
            assert_eq!(chosen.len() + left.len(), 3);
            assert!(left.iter().all(|note| note.code == "disk.left_out" && note.severity == Severity::Note));
        }
    }

    #[test]
    fn a_wanted_disk_that_is_not_there_blocks() {
        let found = unknown_disks(&disks(), &selection(DiskKind::All, &["d-1", "d-9"], &[]));
        assert_eq!(
            (found.len(), found[0].resource.as_str(), found[0].severity),
            (1, "d-9", Severity::Blocker)
        );
        let found = unknown_disks(&disks(), &selection(DiskKind::All, &[], &["d-8", "d-2"]));
        assert_eq!((found.len(), found[0].resource.as_str(), found[0].severity), (1, "d-8", Severity::Note));
    }
}
