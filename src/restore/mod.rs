//! The way back: which group for a point in time, and the plan that brings a machine back from it. Pure, but for
//! [`look`], which gathers the facts and changes nothing: appsnap itself does not restore.
//!
//! A [`plan::Plan`] is a list of steps, each with its reason, and either one call to the cloud or one script for a guest.
//! What a step makes has a name, `${disk.1}` say, which later steps use: a machine can follow it, and a test does.

pub mod engine;
mod existing;
pub mod facts;
mod gone;
pub mod groups;
pub mod guest;
pub mod look;
pub mod plan;
pub mod said;
pub mod text;
mod warnings;

pub use self::facts::{Facts, Wish};
pub use self::plan::Plan;

/// The plan for these facts and this wish.
///
/// # Errors
/// Why nothing can be planned, with the cure.
pub fn plan(facts: &Facts, wish: &Wish) -> Result<Plan, String> {
    let group = &facts.group.snapshot_group_id;
    if facts.group.failed() {
        return Err(format!(
            "{group} failed: the cloud says that nothing can be made of it; take another group"
        ));
    }
    let members = facts.members();
    if members.is_empty() {
        return Err(format!(
            "none of {group}'s snapshots is shown: they were deleted, or the key may not call ecs:DescribeSnapshots \
             (a denial is an empty list); take another group, or allow it"
        ));
    }
    match (&facts.instance, &facts.to) {
        (Some(instance), None) if !wish.beside && instance.disks.is_empty() => Err(format!(
            "no disk of {} is shown, so that nothing tells which ones can be rolled back: the key may not call \
             ecs:DescribeDisks (a denial is an empty list); allow it",
            instance.id()
        )),
        (Some(instance), None) if !wish.beside => Ok(existing::in_place(facts, wish, instance, &members)),
        (instance, to) => match to.as_ref().or(instance.as_ref()) {
            Some(onto) if wish.beside || instance.is_some() => {
                Ok(existing::beside(facts, wish, onto, &members))
            }
            Some(onto) => Ok(gone::onto(facts, wish, onto, &members)),
            None if wish.beside => Err(format!(
                "--beside: the instance of {group} is not shown in {}: it was deleted, or the key may not call \
                 ecs:DescribeInstances; name another one by --to",
                facts.region_id
            )),
            None => gone::anew(facts, wish, &members),
        },
    }
}

#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod safe_tests;
#[cfg(test)]
mod tests;
