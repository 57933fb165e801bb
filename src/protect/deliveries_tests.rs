//! One event delivered again and again to functions that die at random, over a cloud that remembers: whatever happens,
//! no window is opened beside a group that shows, and no label says more than is true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::protect::testing::*;

type Tags = BTreeMap<String, String>;

/// How an attempt goes in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Good,
    Throttled,
    Failed,
    /// No answer, and yet there is a group.
    FailedButDone,
    SecondTry,
    /// Somebody fired c2.
    Fired,
    Denied,
}

const COURSES: [Course; 7] = [
    Course::Good,
    Course::Throttled,
    Course::Failed,
    Course::FailedButDone,
    Course::SecondTry,
    Course::Fired,
    Course::Denied,
];

#[derive(Debug)]
struct Window {
    course: Course,
    /// Of its invocation.
    tags: Tags,
    /// Of the snapshot of its group.
    labels: Tags,
    /// Looks until the group shows; `None`: there is no group.
    hidden: Option<u32>,
    asked: Vec<String>,
}

struct Cloud {
    dice: Clock,
    windows: Vec<Window>,
    /// Calls that the function of this delivery has to live.
    life: u32,
    opened_beside_a_group: bool,
}

impl Cloud {
    fn below(&self, limit: usize) -> usize {
        (self.dice.jitter() * limit as f64) as usize
    }

    fn shown(&self) -> Vec<usize> {
        let shows = |window: &Window| window.hidden == Some(0);
        (0..self.windows.len()).filter(|index| shows(&self.windows[*index])).collect()
    }

    fn told(&self, index: usize) -> Answer {
        let attempt = attempts_id(index);
        let good = DONE.replace("\"A\"", &format!("{attempt:?}")).replace("ssg-1", &group_id(index));
        ended(&match self.windows[index].course {
            Course::Good | Course::Fired => good,
            Course::SecondTry => good.replace(r#""1 200""#, r#""1 503 ServiceUnavailable","2 200""#),
            Course::Throttled => failed(&attempt, r#""1 400 Throttling.User""#),
            Course::Failed | Course::FailedButDone => failed(&attempt, r#""1 503 ServiceUnavailable""#),
            Course::Denied => failed(&attempt, r#""1 403 Forbidden.RAM""#),
        })
    }

    fn groups(&mut self, wanted: Option<&String>) -> Answer {
        for window in &mut self.windows {
            window.hidden = window.hidden.map(|looks| looks.saturating_sub(1));
        }
        let chosen = self.shown().into_iter().filter(|index| wanted.is_none_or(|id| *id == group_id(*index)));
        let show = |index: usize| {
            let tags = self.windows[index].labels.iter().map(|(k, v)| json!({ "Key": k, "Value": v }));
            let own = json!({ "Key": "appsnap:attempt", "Value": attempts_id(index) });
            json!({ "SnapshotGroupId": group_id(index), "CreationTime": "2026-11-22T03:00:00Z", "Tags": { "Tag": [own] },
                "Snapshots": { "Snapshot": [{ "SnapshotId": format!("s-{index}"), "SourceDiskId": "d-1",
                    "Tags": { "Tag": tags.collect::<Vec<_>>() } }] } })
        };
        ok(json!({ "SnapshotGroups": { "SnapshotGroup": chosen.map(show).collect::<Vec<_>>() } }))
    }

    fn answer(&mut self, call: &str, params: &BTreeMap<String, String>) -> Option<Answer> {
        if self.life == 0 {
            return Some(silence());
        }
        self.life -= 1;
        let index = call.rsplit(' ').next().and_then(|last| last.parse::<usize>().ok()).unwrap_or(1) - 1;
        match call.trim_end_matches([' ', '2', '3']) {
            "RunCommand go" if index < self.windows.len() => {
                return Some(refuse("IdempotentParameterMismatch"));
            }
            "RunCommand go" => {
                self.opened_beside_a_group |= !self.shown().is_empty();
                let course = COURSES[self.below(COURSES.len())];
                let some = !matches!(course, Course::Throttled | Course::Failed | Course::Denied);
                let hidden =
                    some.then(|| if course == Course::FailedButDone { self.below(30) as u32 } else { 1 });
                let tags = tags_of(params);
                self.windows.push(Window { course, tags, labels: Tags::new(), hidden, asked: Vec::new() });
            }
            "result go" | "result settle" => return Some(self.told(index)),
            "DescribeInvocations" => {
                let all = self.windows.iter().enumerate().map(|(index, window)| {
                    let tags: Vec<_> = window.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                    invocation(index as u32 + 1, "Success", &tags)
                });
                return Some(record(all.collect()));
            }
            "groups of the run" => return Some(self.groups(None)),
            "DescribeSnapshotGroups" => return Some(self.groups(params.get("SnapshotGroupId.1"))),
            "TagResources" => self.resource(&params["ResourceId.1"]).extend(tags_of(params)),
            "UntagResources" => drop(self.resource(&params["ResourceId.1"]).remove(&params["TagKey.1"])),
            _ => {}
        }
        let variant = call.strip_prefix("nonce c").filter(|variant| *variant != "1")?;
        let window = self.windows.last_mut()?;
        let used =
            window.course == Course::Fired && variant == "2" || window.asked.iter().any(|old| old == variant);
        window.asked.push(variant.into());
        Some(if used { refuse("SignatureNonceUsed") } else { ok(json!({})) })
    }

    fn resource(&mut self, id: &str) -> &mut Tags {
        match id.strip_prefix("s-") {
            Some(index) => &mut self.windows[index.parse::<usize>().unwrap()].labels,
            None => {
                let number = id.strip_prefix("go ").map_or(1, |number| number.parse::<usize>().unwrap());
                &mut self.windows[number - 1].tags
            }
        }
    }
}

fn attempts_id(index: usize) -> String {
    crate::policy::ids::attempt_id("r-1", "i-1", index as u32 + 1)
}

fn group_id(index: usize) -> String {
    format!("ssg-{index}")
}

fn tags_of(params: &BTreeMap<String, String>) -> Tags {
    let value = |n: u32| {
        Some((params.get(&format!("Tag.{n}.Key"))?.clone(), params[&format!("Tag.{n}.Value")].clone()))
    };
    (1..).map_while(value).collect()
}

#[tokio::test(start_paused = true)]
async fn whenever_functions_die_no_label_says_more_than_is_true() {
    let start = "2026-11-22T03:00:00Z".parse().unwrap();
    let (first, count) = match std::env::var("SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (0_u64, 40),
    };
    let (mut best, mut several) = (0, 0);
    for seed in first..first + count {
        let dice = Clock::seeded(start, seed);
        let cloud = Cloud { dice, windows: Vec::new(), life: 0, opened_beside_a_group: false };
        let cloud = Arc::new(Mutex::new(cloud));
        let mut last: Option<Outcome> = None;
        for delivery in 0..7 {
            {
                // The last ones live as long as they need, and in the end all groups show.
                let mut cloud = cloud.lock().unwrap();
                cloud.life = if delivery < 3 { 1 + cloud.below(40) as u32 } else { u32::MAX };
                if delivery > 4 {
                    cloud.windows.iter_mut().for_each(|window| window.hidden = window.hidden.map(|_| 0));
                }
            }
            let seen = cloud.clone();
            let (task, _) = scripted_with(move |call, params| seen.lock().unwrap().answer(call, params));
            let outcome = match earlier(&task).await {
                Next::Over(outcome) => outcome,
                Next::Attempt(unit) => protect(&task, unit).await,
            };
            if delivery == 6 {
                let before = last.as_ref().unwrap();
                assert_eq!(outcome.status, Status::Skipped, "SEED={seed}: settled by then, {before:?}");
                assert_eq!(outcome.unit.level, before.unit.level, "SEED={seed}");
            }
            last = Some(outcome);
        }
        let cloud = cloud.lock().unwrap();
        let story = format!("SEED={seed}: {:?}", cloud.windows);
        assert!(!cloud.opened_beside_a_group, "a window beside a group, {story}");
        for window in &cloud.windows {
            let vendor = window.labels.contains_key("APPConsistent");
            assert_eq!(
                vendor,
                window.labels.get("appsnap:level").is_some_and(|level| level == "application"),
                "{story}"
            );
            assert!(!vendor || window.course == Course::Good, "{story}");
            let labelled = window.labels.contains_key("appsnap:level");
            assert_eq!(labelled, window.hidden.is_some(), "each group is noticed, {story}");
            best += u32::from(vendor);
        }
        several += u32::from(cloud.windows.len() > 1);
    }
    // The dice fall so that something was tried.
    assert!(count == 1 || best > 5 && several > 5, "{best} {several}");
}
