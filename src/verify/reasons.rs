//! What a verification tells besides its verdict: the table behind its findings and docs/reasons.md. None of it changes
//! the level of a run.

use crate::protect::reasons;
use crate::report::{Finding, Severity};

/// Code, meaning, cure.
pub const TABLE: &[(&str, &str, &str)] = &[
    (
        "verify.broken",
        "a copy did not come up as it should: the run is degraded",
        "do not count on that group; see the evidence, find what damaged it, and verify an older one",
    ),
    (
        "verify.datadir",
        "the engine's data is not on the copies, so that it was not started",
        "check what the prescript marks (datadir, logdir), and that those disks are in the group",
    ),
    (
        "verify.ended",
        "the work on the instance that lends itself was ended before it was through",
        "give it more time (verify.limitSeconds, --limit); look at that instance's memory and log",
    ),
    (
        "verify.failed",
        "a group was to be verified, and it was not found out how it comes up",
        "see the detail; the next run tries again",
    ),
    (
        "verify.late",
        "a group may be due to be verified, and too little of the function's time was left",
        "raise the function's timeout, lower verify.limitSeconds, or verify it by hand: appsnap verify GROUP",
    ),
    (
        "verify.place",
        "what the tags say of the copies' places or of their engine cannot be used",
        "see the detail; many or long mount points do not fit a tag: verify such a copy by hand",
    ),
    (
        "verify.stacked",
        "a disk holds LVM, RAID, an encrypted volume or what that kernel does not know: it was not looked into",
        "verify this copy by hand: appsnap restore GROUP --plan",
    ),
    (
        "verify.stuck",
        "something of a verification is still there",
        "the next verification takes it away; by hand: detach and delete the disks tagged appsnap:verify",
    ),
    (
        "verify.untagged",
        "the verdict could not be written on the snapshots",
        "let the role call ecs:TagResources on them (policies/verify.json); a snapshot has room for 20 tags",
    ),
];

/// The finding for a code of a verification, or of the guest.
pub fn finding(code: &str, detail: &str, resource: &str) -> Finding {
    let Some((_, meaning, cure)) = TABLE.iter().find(|(known, ..)| *known == code) else {
        return reasons::finding(code, detail, resource, Severity::Note);
    };
    let message = if detail.is_empty() { meaning.to_string() } else { format!("{meaning}: {detail}") };
    Finding {
        code: code.into(),
        severity: Severity::Note,
        resource: resource.into(),
        message,
        cure: (*cure).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page is for people; this table is the source.
    #[test]
    fn the_page_of_reasons_says_what_the_table_says() {
        let page = include_str!("../../docs/reasons.md");
        let section = page.split("\n## Notes of a verification\n").nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap();
        let written: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        let row = |(code, meaning, cure): &(&str, &str, &str)| format!("| `{code}` | {meaning} | {cure} |");
        let rows: Vec<String> = TABLE.iter().map(row).collect();
        assert!(written == rows, "docs/reasons.md has to say:\n{}", rows.join("\n"));
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn every_note_of_the_guest_has_a_meaning() {
        let script = include_str!("../guest/verify/verify.sh");
        let codes: Vec<&str> =
            script.split("note: ").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
        assert!(codes.len() > 5, "{codes:?}");
        for code in codes.iter().filter(|code| code.contains('.')) {
            assert!(finding(code, "", "i-1").cure != "see the detail", "{code} has no meaning");
        }
    }
}
