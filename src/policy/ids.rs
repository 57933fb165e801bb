//! Ids that a repeat of the same event finds again: pure functions of policy, occurrence, unit and attempt.
//!
//! 64 bits of SHA-256 each: short enough for tags and names, and two of a billion runs meet with a chance
//! of three percent; they would have to be of one policy and account to do harm.

use sha2::{Digest, Sha256};

/// `r-` and 16 hexadecimal digits: the same policy and occurrence are the same run.
pub fn run_id(policy: &str, occurrence: &str) -> String {
    hashed("r", &[policy, occurrence])
}

/// `u-…`: one group of disks within a run.
pub fn unit_id(run: &str, instance_id: &str) -> String {
    hashed("u", &[run, instance_id])
}

/// `a-…`: one attempt (counted from 1) at a unit, that is one freeze window.
pub fn attempt_id(run: &str, instance_id: &str, attempt: u32) -> String {
    hashed("a", &[run, instance_id, &attempt.to_string()])
}

/// The ClientToken of every call of an attempt: ASCII, at most 64 characters as CreateSnapshotGroup and
/// RunCommand ask for. One window, one token; a new attempt has a new one.
pub fn client_token(attempt_id: &str) -> String {
    let token: String = attempt_id.chars().filter(char::is_ascii_graphic).take(56).collect();
    format!("appsnap-{token}")
}

/// `v-…`: the verification of a group in a run.
pub fn verification_id(run: &str, group_id: &str) -> String {
    hashed("v", &[run, group_id])
}

fn hashed(prefix: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new_with_prefix("appsnap 1 ");
    hash.update(prefix);
    for part in parts {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_what_they_are() {
        // Tags of existing groups are found by these: a change would orphan what is under way.
        assert_eq!(run_id("orders-db", "nightly@2026-11-22T03:00:00Z"), "r-7908f47fc2f4bbf8");
        assert_eq!(client_token(&attempt_id("r-1", "i-1", 1)), "appsnap-a-92048c90cd8eb1f1");
    }

    #[test]
    fn every_part_counts() {
        let ids = [
            run_id("ab", "c"),
            run_id("a", "bc"),
            unit_id("ab", "c"),
            attempt_id("ab", "c", 1),
            attempt_id("ab", "c", 2),
        ];
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 18);
            assert!(!ids[..i].contains(id), "{id}");
        }
        assert!(client_token(&"ü".repeat(99)).is_ascii() && client_token(&"x".repeat(99)).len() == 64);
    }
}
