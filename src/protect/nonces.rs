//! Whether somebody else fired a signed create. Whoever can read the command can, once for each variant, and all
//! variants carry one ClientToken: ours would then be answered with the group of the other.
//!
//! The cloud takes each nonce of a key once, whatever the call. So after the window each variant that the guest did not
//! send is spent on a harmless look, signed with the same key and nonce: the answer tells whether it was unused.

use super::Task;
use crate::acs::Credentials;
use crate::api::ecs::{GroupFilter, describe_snapshot_groups_call};

const USED: &str = "SignatureNonceUsed";

/// The nonces of one attempt, and the key that they belong to; kept in memory only, and only while the attempt lasts.
pub struct Nonces {
    /// Of the narrowed session.
    pub credentials: Credentials,
    /// `PREFIX-c1`, …
    pub prefix: String,
    /// How many creates were signed.
    pub creates: usize,
}

impl Nonces {
    /// Asks about every create but the first, which the guest has sent.
    ///
    /// # Errors
    /// Why it is not shown that they are unused, in words.
    pub async fn unused(&self, task: &Task) -> Result<(), String> {
        // The warm-up spent d1, the create c1. If the cloud still knows these two, it knows as much of the others: its
        // memory reaches back to before the freeze, and from one kind of call to another.
        let spent = ["d1", "c1"].map(|name| (name.to_string(), true));
        let others = (2..=self.creates).map(|number| (format!("c{number}"), false));
        for (name, spent) in spent.into_iter().chain(others) {
            match (self.ask(task, &name).await, spent) {
                (Ok(true), true) | (Ok(false), false) => {}
                (Ok(true), false) => return Err(format!("{name} was fired by somebody else")),
                (Ok(false), true) => {
                    return Err(format!(
                        "the cloud no longer knows that {name} was used, so it shows nothing of the others"
                    ));
                }
                (Err(error), _) => return Err(format!("the cloud gave no answer about {name}: {error}")),
            }
        }
        Ok(())
    }

    /// Whether the cloud has seen this nonce. Asked once: asking uses it.
    async fn ask(&self, task: &Task, name: &str) -> Result<bool, crate::acs::Error> {
        let tags = [("appsnap:run".to_string(), task.run.clone())];
        let filter = GroupFilter { tags: &tags, ..GroupFilter::default() };
        let call = describe_snapshot_groups_call(&task.region_id, &filter);
        match task.client.once(&call, &self.credentials, &format!("{}-{name}", self.prefix)).await {
            Ok(_) => Ok(false),
            Err(error) if error.code == USED => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Who can tell that nobody fired our signed creates.
pub enum Witness<'a> {
    /// The key that they were signed with is at hand.
    Nonces(&'a Nonces),
    /// The function that signed them asked, and noted it on the invocation.
    Noted,
    /// Neither: the function that signed them is gone, and its key with it.
    Nobody,
}

impl Witness<'_> {
    /// Whether it is shown; else why not.
    ///
    /// # Errors
    /// The reason in words.
    pub async fn unused(&self, task: &Task) -> Result<(), String> {
        match self {
            Witness::Nonces(nonces) => nonces.unused(task).await,
            Witness::Noted => Ok(()),
            Witness::Nobody => {
                Err("the function that signed them has died, and the key with which the cloud could be asked is gone".into())
            }
        }
    }
}
