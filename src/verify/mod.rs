//! Proves that a snapshot group restores: disks are made from it, attached to an instance that lends itself to it and
//! mounted there, the engine is started on them, and what its own log says is judged. Everything that was made is taken
//! away again, whatever happens:
//!
//! | step | does | undo |
//! |---|---|---|
//! | group, instance | reads what is to be proven, and where | nothing was changed |
//! | earlier | takes away what a verification that was killed left | – |
//! | disks | makes a disk of each member, tagged for what it is | deletes it |
//! | attach | attaches them | detaches them |
//! | guest | sends the command, waits for its end | one more command ends it and unmounts |
//!
//! There is no list of what was made but the tags of the disks: so the undo of a run that died is the `earlier` of the
//! next one.

mod disks;
pub mod due;
mod guest;
pub mod judge;
mod place;
pub mod reasons;
pub mod subject;
pub mod verdict;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::acs::{Client, Error, Pace, past_limits, wait_until};
use crate::api::ecs;
use crate::ram;
use crate::report::{ErrorReport, Finding, TimelineStep, Verified};
use subject::Subject;

/// What is kept of the time to take everything away, in seconds.
const UNDO: i64 = 150;
/// What a verification takes beside its work in the guest, in seconds: disks made, attached, detached, deleted.
pub const BESIDE: u32 = 300;
/// How long the work in the guest may take where nothing else is said, in seconds.
pub const LIMIT: u32 = 600;
/// The key of the tag that says how a copy came up.
pub const TAG: &str = "appsnap:verified";
/// The key of the tag without which no instance lends itself; also of the disks that are made, with the group's id.
pub const LENT: &str = "appsnap:verify";
const PACE: Pace = Pace { first: Duration::from_secs(1), factor: 1.5, longest: Duration::from_secs(5) };

/// A verification that is to be done.
#[derive(Clone)]
pub struct Job {
    /// With the rights of `policies/verify.json`.
    pub client: Client,
    /// Of group and instance.
    pub region_id: String,
    /// `ssg-…`
    pub group_id: String,
    /// The instance that lends itself.
    pub instance_id: String,
    /// `v-…`: never the same twice.
    pub run: String,
    /// Of the work in the guest, seconds.
    pub limit: u32,
    /// What is asked of the engine when it is up.
    pub query: Option<String>,
    /// How long a group that is not uploaded yet is waited for.
    pub patience: SignedDuration,
    /// When all of it has to be over, the undo included.
    pub deadline: Timestamp,
    /// What the timeline counts from.
    pub started: Timestamp,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Proof {
    /// What was read of the group.
    pub subject: Option<Subject>,
    /// How the copy came up; `None`: that was not found out, see `error`.
    pub verified: Option<Verified>,
    /// What is to be known besides.
    pub findings: Vec<Finding>,
    /// The steps.
    pub timeline: Vec<TimelineStep>,
    /// Why there is no verdict.
    pub error: Option<ErrorReport>,
}

impl Proof {
    fn step(&mut self, job: &Job, step: &str, from: Timestamp, outcome: &str, detail: impl Into<String>) {
        let step = TimelineStep::new(step, job.started, (from, job.client.clock().now()), outcome);
        self.timeline.push(TimelineStep { detail: detail.into(), ..step });
    }

    fn note(&mut self, code: &str, detail: &str, resource: &str) {
        self.findings.push(reasons::finding(code, detail, resource));
    }

    /// Keeps what a step gave, and tells of it.
    fn did<T>(
        &mut self,
        job: &Job,
        step: &str,
        from: Timestamp,
        done: Result<T, ErrorReport>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<T, ErrorReport> {
        match &done {
            Ok(value) => {
                let detail = detail(value);
                self.step(job, step, from, "ok", detail);
            }
            Err(error) => self.step(job, step, from, "failed", format!("{}: {}", error.code, error.message)),
        }
        done
    }
}

/// Does it. What it made is gone when this returns, or told as `verify.stuck`.
pub async fn verify(job: &Job) -> Proof {
    let mut proof = Proof::default();
    match prove(job, &mut proof).await {
        Ok(verified) => {
            label(job, &verified, &mut proof).await;
            proof.verified = Some(verified);
        }
        Err(error) => proof.error = Some(error),
    }
    proof
}

/// Takes away what a verification of the group left: for whoever drops [`verify`] before its end.
///
/// # Errors
/// `verify.stuck`, with the disks that stay.
pub async fn take_back(job: &Job) -> Result<(), ErrorReport> {
    take_away_earlier(job, &mut Proof::default()).await
}

async fn prove(job: &Job, proof: &mut Proof) -> Result<Verified, ErrorReport> {
    let now = || job.client.clock().now();
    let from = now();
    let read = subject::read(job).await;
    let told = |subject: &Subject| format!("{}, {} snapshots", subject.group_id, subject.members.len());
    let subject = proof.did(job, "group", from, read, told)?;
    proof.subject = Some(subject.clone());
    subject.left_out.iter().for_each(|what| proof.note("verify.place", what, &subject.group_id));
    let from = now();
    let lent = place::lent(job, &subject).await;
    let lent = proof.did(job, "instance", from, lent, |lent| format!("{} in {}", lent.id, lent.zone_id))?;
    take_away_earlier(job, proof).await?;
    // Everything from here on is undone.
    let (mut made, mut begun) = (Vec::new(), false);
    let output = work(job, &subject, &lent, &mut made, &mut begun, proof).await;
    if begun {
        let from = now();
        let ended = guest::clean(job, &job.group_id).await;
        let outcome = if ended.is_ok() { "ok" } else { "stuck" };
        let detail = ended.err().map(|error| error.message).unwrap_or_default();
        proof.step(job, "guest.clean", from, outcome, detail);
    }
    let from = now();
    let gone = disks::take_away(job, &made, job.deadline).await;
    let all = made.join(" ");
    match &gone {
        Ok(()) => proof.step(job, "disks.gone", from, "ok", all),
        Err((stuck, why)) => {
            proof.step(job, "disks.gone", from, "stuck", format!("{}: {why}", stuck.join(" ")));
            proof.note("verify.stuck", &format!("{}: {why}", stuck.join(" ")), &job.instance_id);
        }
    }
    let output = output?;
    let told = crate::guest::verify::Told::read(&output);
    told.notes.iter().for_each(|(code, words)| proof.note(code, words, &job.instance_id));
    verdict::of(&subject, &told, &output).map_err(|why| ErrorReport {
        code: "verify.unjudged".into(),
        message: format!("{} was not judged: {why}", job.group_id),
        resource: Some(job.group_id.clone()),
        cure: Some(
            "see the notes; an engine of the same version, as the copy's, has to be installed on the instance".into(),
        ),
        ..ErrorReport::default()
    })
}

/// Makes and attaches the disks and does the work; `made` and `begun` say what has to be undone.
async fn work(
    job: &Job,
    subject: &Subject,
    lent: &place::Lent,
    made: &mut Vec<String>,
    begun: &mut bool,
    proof: &mut Proof,
) -> Result<String, ErrorReport> {
    let from = job.client.clock().now();
    let disks = disks::make(job, subject, lent, made).await;
    proof.did(job, "disks", from, disks, |()| made.join(" "))?;
    let from = job.client.clock().now();
    let attached = disks::attach(job, made).await;
    proof.did(job, "attach", from, attached, |()| made.join(" "))?;
    let from = job.client.clock().now();
    *begun = true;
    let output = guest::work(job, subject, made).await;
    let output = proof.did(job, "guest", from, output, |output| format!("{} bytes", output.len()))?;
    // What was taken away under the engine looks as if it were broken.
    let from = job.client.clock().now();
    let there = disks::still_there(job, made).await;
    proof.did(job, "disks.there", from, there, |()| String::new())?;
    // It says so itself when all is unmounted.
    *begun = !output.lines().any(|line| line.starts_with("end: "));
    Ok(output)
}

async fn take_away_earlier(job: &Job, proof: &mut Proof) -> Result<(), ErrorReport> {
    let from = job.client.clock().now();
    let left = disks::earlier(job).await.map_err(|error| ErrorReport::from(&error))?;
    if left.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = left.iter().map(|disk| disk.disk_id.clone()).collect();
    if left.iter().any(|disk| disk.instance_id == job.instance_id) {
        // What still has them mounted there; an error shows at the detach, if at all.
        let cleaned = guest::clean(job, &job.group_id).await;
        let detail = cleaned.as_ref().err().map(|error| error.message.clone()).unwrap_or_default();
        let outcome = if cleaned.is_ok() { "ok" } else { "failed" };
        proof.step(job, "earlier.guest", from, outcome, detail);
    }
    let gone = disks::take_away(job, &ids, soon(job, UNDO)).await;
    let gone = gone.map_err(|(stuck, why)| ErrorReport {
        code: "verify.stuck".into(),
        message: format!("disks of an earlier verification cannot be taken away: {}: {why}", stuck.join(" ")),
        resource: Some(stuck.join(" ")),
        cure: Some("detach and delete them by hand; they are tagged appsnap:verify".into()),
        ..ErrorReport::default()
    });
    proof.did(job, "earlier", from, gone, |()| ids.join(" "))
}

/// Writes the verdict on the members; what cannot be written is told.
async fn label(job: &Job, verified: &Verified, proof: &mut Proof) {
    let from = job.client.clock().now();
    let members = proof.subject.iter().flat_map(|subject| &subject.members);
    let ids: Vec<String> = members.map(|member| member.snapshot_id.clone()).collect();
    let tags = verdict::tags(verified, from);
    let write = || ecs::tag_resources(&job.client, &job.region_id, "snapshot", &ids, &tags);
    match past_limits(job.client.clock(), job.deadline, write).await {
        Ok(()) => proof.step(job, "label", from, "ok", format!("{TAG}={}", verified.state)),
        Err(error) => {
            let addition = ram::addition("ecs:TagResources", &job.region_id, "snapshot");
            proof.step(job, "label", from, "failed", error.to_string());
            proof.note("verify.untagged", &format!("{error}; {addition}"), &job.group_id);
        }
    }
}

/// Waits for something that shows; an error of the look ends it.
async fn until<T, F: Future<Output = Result<Option<T>, Error>>>(
    job: &Job,
    deadline: Timestamp,
    look: impl Fn() -> F,
) -> Result<Option<T>, Error> {
    wait_until(job.client.clock(), PACE, deadline, look).await
}

/// Until when work may go on, so that there is time to take it away.
fn soon(job: &Job, seconds: i64) -> Timestamp {
    let now = job.client.clock().now();
    (now + SignedDuration::from_secs(seconds)).min(job.deadline - SignedDuration::from_secs(UNDO))
}
