//! When a run may begin: not too long after it was due, and not in a blackout window. Pure: the time is handed in.
//!
//! What is judged is the beginning of an attempt. One that has begun is brought to its end, also into a window; what
//! an earlier delivery left behind is settled at any time.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::fields::{Object, quoted};
use super::sections::NOT_DURING;

/// When attempts may begin; the default is always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// No attempt begins so many seconds after the run was due. It says nothing where no due time is known.
    pub start_within_seconds: Option<u64>,
    /// No attempt begins within any of these.
    pub not_during: Vec<Blackout>,
}

/// A part of every day, by the clock on a wall in its time zone: from `from` on, before `to`. Where `to` is not later,
/// it goes over midnight. An hour that the clock repeats counts both times; one that it leaves out has no time in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blackout {
    from: Time,
    to: Time,
    timezone: TimeZone,
}

/// Why an attempt may not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// `schedule.late` or `schedule.blackout`.
    pub code: &'static str,
    /// In words, with the times.
    pub detail: String,
}

const MAX_WINDOWS: usize = 20;
/// A week: longer than any event of Function Compute can wait.
const MAX_SECONDS: u64 = 7 * 24 * 3600;

impl Schedule {
    /// Whether an attempt of a run that was due at `due` may not begin at `now`.
    pub fn forbids(&self, now: Timestamp, due: Option<Timestamp>) -> Option<Forbidden> {
        let late = |limit: u64| {
            let seconds = now.duration_since(due?).as_secs();
            let detail =
                format!("due at {}, {seconds} s ago; startWithinSeconds is {limit}", to_second(due?));
            (seconds > limit as i64).then_some(Forbidden { code: "schedule.late", detail })
        };
        let within = |window: &Blackout| {
            let detail = window.told(now);
            window.covers(now).then_some(Forbidden { code: "schedule.blackout", detail })
        };
        self.start_within_seconds.and_then(late).or_else(|| self.not_during.iter().find_map(within))
    }
}

impl Blackout {
    fn covers(&self, now: Timestamp) -> bool {
        let time = self.timezone.to_datetime(now).time();
        let (begun, open) = (self.from <= time, time < self.to);
        if self.from < self.to { begun && open } else { begun || open }
    }

    fn told(&self, now: Timestamp) -> String {
        let zone = self.timezone.iana_name().unwrap_or_default();
        let short = |time: Time| time.strftime("%H:%M").to_string();
        let time = self.timezone.to_datetime(now).time();
        format!("it is {} in {zone}; notDuring is {} to {}", short(time), short(self.from), short(self.to))
    }
}

fn to_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

pub(super) fn parse(top: &Object) -> Schedule {
    let limit = top.value("startWithinSeconds").is_some();
    let start_within_seconds = limit.then(|| top.seconds("startWithinSeconds", 1, 1..=MAX_SECONDS));
    let items = top.list("notDuring");
    if items.len() > MAX_WINDOWS {
        top.problem("notDuring", format!("has {} entries, at most {MAX_WINDOWS} are possible", items.len()));
    }
    let window = |(i, item): (usize, &Value)| {
        let place = format!("notDuring[{i}]");
        if item.is_null() {
            top.problem(&place, "must be an object, not null");
        }
        let window = Object::open(Some(item), place, &NOT_DURING, &[], top.problems);
        if !item.is_object() {
            return None;
        }
        for field in ["from", "to", "timezone"] {
            if window.value(field).is_none() {
                window.problem(field, "required, e.g. {\"from\": \"08:00\", \"to\": \"20:00\", \"timezone\": \"Asia/Shanghai\"}");
            }
        }
        let (from, to) = (time(&window, "from"), time(&window, "to"));
        let timezone = zone(&window);
        let (from, to, timezone) = (from?, to?, timezone?);
        if from == to {
            window.problem("to", "is the same as from: nothing could ever begin");
        }
        Some(Blackout { from, to, timezone })
    };
    let not_during = items.iter().enumerate().take(MAX_WINDOWS).filter_map(window).collect();
    Schedule { start_within_seconds, not_during }
}

fn time(window: &Object, field: &str) -> Option<Time> {
    let text = window.text(field)?;
    // strptime takes a blank for a zero.
    let fits = |(at, byte): (usize, u8)| if at == 2 { byte == b':' } else { byte.is_ascii_digit() };
    let good = text.len() == 5 && text.bytes().enumerate().all(fits);
    let time = good.then(|| Time::strptime("%H:%M", text).ok()).flatten();
    if time.is_none() {
        window.problem(field, format!("must be HH:MM, 00:00 to 23:59, not {}", quoted(text)));
    }
    time
}

fn zone(window: &Object) -> Option<TimeZone> {
    let name = window.text("timezone")?;
    // Of the database that is linked in: images of Function Compute have none.
    let zone = TimeZone::get(name).ok().filter(|zone| zone.iana_name().is_some());
    if zone.is_none() {
        let message =
            format!("must be a name of the IANA database, like Asia/Shanghai, not {}", quoted(name));
        window.problem("timezone", message);
    }
    zone
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
