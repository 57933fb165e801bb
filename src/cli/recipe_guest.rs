//! A recipe in a guest: its commands are sent through Cloud Assistant, one after the other, and what they read back is
//! compared with what was meant.

use std::fmt::Write;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Failure, operator, progress};
use crate::acs::{Client, Pace, past_limits, wait_until};
use crate::api::assistant::{self, RunCommand};
use crate::clock::Clock;
use crate::guest::install::{self, File, Task};
use crate::guest::recipes::{DIRECTORY, Recipe, sha256};
use crate::report::Status;

/// A command's time in the guest; it needs a second or two.
const LIMIT: Duration = Duration::from_secs(60);
/// Until it is there, is done, and its result is back.
const PATIENCE: SignedDuration = SignedDuration::from_secs(180);
const PACE: Pace = Pace { first: Duration::from_millis(250), factor: 1.3, longest: Duration::from_secs(2) };

/// Which guest, and as whom.
pub(super) struct Place<'a> {
    pub region_id: &'a str,
    pub instance_id: &'a str,
    pub role_arn: Option<&'a str>,
}

/// What became of it.
pub(super) struct Done {
    removed: bool,
    files: Vec<File>,
    invoke_ids: Vec<String>,
}

/// Does it, and compares what is there then.
pub(super) async fn act(place: &Place<'_>, recipe: &Recipe, task: Task<'_>) -> Result<Done, Failure> {
    let clock = Clock::system();
    let client = operator(&clock, place.region_id, place.role_arn, "recipe")?;
    let nonce = clock.nonce();
    let token: String = nonce.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let commands =
        install::commands(recipe, task, &token).map_err(|error| Failure::new(error.to_string()))?;
    let mut done = Done { removed: task == Task::Remove, files: Vec::new(), invoke_ids: Vec::new() };
    for (number, content) in (1..).zip(&commands) {
        progress(false, &format!("command {number} of {} to {}", commands.len(), place.instance_id));
        let name = format!("appsnap-recipe-{}", recipe.name);
        let token = format!("recipe-{token}-{number}");
        let (invoke_id, files) = send(&client, place, &name, &token, content).await?;
        done.invoke_ids.push(invoke_id);
        done.files = files;
    }
    let wanted = |file: &str, text: &str| (format!("{DIRECTORY}/{file}"), sha256(text));
    let mut all =
        vec![wanted("prescript.sh", &recipe.prescript()), wanted("postscript.sh", &recipe.postscript())];
    if let Task::Install { conf: Some(conf), .. } = task {
        all.push(wanted(&format!("{}.conf", recipe.name), conf));
    }
    for (path, sum) in all.iter().filter(|_| !done.removed) {
        let found = done.files.iter().find(|file| file.path == *path).and_then(|file| file.sha256.clone());
        if found.as_ref() != Some(sum) {
            return Err(Failure::new(format!(
                "{}: {path} has sha256 {} and should have {sum}: somebody else wrote to it; see who, then install again",
                place.instance_id,
                found.as_deref().unwrap_or("of nothing")
            )));
        }
    }
    Ok(done)
}

async fn send(
    client: &Client,
    place: &Place<'_>,
    name: &str,
    client_token: &str,
    content: &[u8],
) -> Result<(String, Vec<File>), Failure> {
    let clock = client.clock();
    let deadline = clock.now() + PATIENCE;
    let command = RunCommand {
        region_id: place.region_id,
        instance_id: place.instance_id,
        name,
        kind: "RunShellScript",
        content,
        timeout: LIMIT,
        client_token,
        tags: &[],
    };
    let failed = |error: crate::acs::Error| Failure::new(error.to_string());
    let run = || assistant::run_command(client, &command);
    let started = past_limits(clock, deadline, run).await.map_err(failed)?;
    let id = started.invoke_id;
    let look = || async {
        let (region_id, instance_id) = (place.region_id, place.instance_id);
        let seen = assistant::invocation_result(client, region_id, &id, instance_id).await?;
        Ok(seen.filter(|result| result.invocation_status.is_end()))
    };
    let cure = "check that Cloud Assistant works on the instance, then do this again: what is installed stays as it is";
    let Some(result) = wait_until(clock, PACE, deadline, look).await.map_err(failed)? else {
        return Err(Failure::new(format!(
            "{}: no result of {id} within {} s (ecs:DescribeInvocationResults shows nothing to whom it is denied); {cure}",
            place.instance_id,
            PATIENCE.as_secs()
        )));
    };
    match install::told(&result.output) {
        Some(Ok(files)) => Ok((id, files)),
        Some(Err(why)) => {
            let message = format!("{}: refused: {why}", place.instance_id);
            Err(Failure { message, code: Status::Refused.exit_code() })
        }
        None => Err(Failure::new(format!(
            "{}: {id} did not come to its end: {:?}, exit {:?} {} {}; {cure}",
            place.instance_id,
            result.invocation_status,
            result.exit_code,
            result.error_code,
            result.error_info
        ))),
    }
}

impl Done {
    /// In a word: `installed`, `unchanged`, `removed`, `absent`.
    fn outcome(&self) -> &'static str {
        let any = |states: &[&str]| self.files.iter().any(|file| states.contains(&file.state.as_str()));
        match self.removed {
            true if any(&["removed"]) => "removed",
            true => "absent",
            false if any(&["new", "replaced"]) => "installed",
            false => "unchanged",
        }
    }

    /// For machines.
    pub(super) fn document(&self, place: &Place, recipe: &Recipe) -> Value {
        let file = |one: &File| json!({ "path": one.path, "sha256": one.sha256, "state": one.state, "before": one.before });
        json!({ "recipe": recipe.name, "instanceId": place.instance_id, "regionId": place.region_id,
            "outcome": self.outcome(), "files": self.files.iter().map(file).collect::<Vec<_>>(),
            "invokeIds": self.invoke_ids })
    }

    /// For people.
    pub(super) fn text(&self, place: &Place, recipe: &Recipe) -> String {
        let what = match self.outcome() {
            "installed" => "is installed",
            "unchanged" => "was there already: nothing was changed",
            "removed" => "is removed",
            _ => "was not there: nothing was changed",
        };
        let mut text = format!("{} {what} on {}\n", recipe.name, place.instance_id);
        for File { path, sha256, state, before } in &self.files {
            let sum = sha256.as_ref().map(|sum| format!("  sha256 {sum}")).unwrap_or_default();
            let before = before.as_ref().map(|path| format!(", the old one is {path}")).unwrap_or_default();
            // Writing to a String does not fail.
            let _ = writeln!(text, "  {path}  {state}{before}{sum}");
        }
        if !self.removed {
            let _ = writeln!(
                text,
                "\nSee whether it would run: appsnap check --region {} --instance {}",
                place.region_id, place.instance_id
            );
        }
        text
    }
}
