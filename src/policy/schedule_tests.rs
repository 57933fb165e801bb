use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::Request;

fn schedule(fields: Value) -> Result<Schedule, String> {
    let mut request = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] } });
    for (key, value) in fields.as_object().unwrap() {
        request[key] = value.clone();
    }
    Request::parse(&request).map(|request| request.schedule).map_err(|invalid| invalid.to_string())
}

fn window(from: &str, to: &str, timezone: &str) -> Schedule {
    schedule(json!({ "notDuring": [{ "from": from, "to": to, "timezone": timezone }] })).unwrap()
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

#[test]
fn nothing_is_forbidden_where_nothing_is_said() {
    let none = schedule(json!({ "notDuring": [], "startWithinSeconds": null })).unwrap();
    assert_eq!(none, Schedule::default());
    assert_eq!(none.forbids(at("2026-11-22T08:00:00Z"), Some(at("1999-01-01T00:00:00Z"))), None);
}

#[test]
fn a_run_begins_within_its_time_after_it_was_due() {
    let hour = schedule(json!({ "startWithinSeconds": 3600 })).unwrap();
    let due = at("2026-11-22T03:00:00Z");
    let table = [
        ("2026-11-22T03:00:00Z", false),
        ("2026-11-22T04:00:00Z", false),
        ("2026-11-22T04:00:00.999Z", false),
        ("2026-11-22T04:00:01Z", true),
        ("2026-11-22T08:00:00Z", true),
        // A clock that is behind the platform's.
        ("2026-11-22T02:59:58Z", false),
    ];
    for (now, late) in table {
        let told = hour.forbids(at(now), Some(due));
        assert_eq!(told.as_ref().map(|told| told.code), late.then_some("schedule.late"), "{now}");
    }
    let told = hour.forbids(at("2026-11-22T08:00:00Z"), Some(due)).unwrap();
    assert_eq!(told.detail, "due at 2026-11-22T03:00:00Z, 18000 s ago; startWithinSeconds is 3600");
    // Without a due time it says nothing.
    assert_eq!(hour.forbids(at("2026-11-22T08:00:00Z"), None), None);
}

#[test]
fn a_window_is_closed_at_its_beginning_and_open_at_its_end() {
    let day = window("08:00", "20:00", "Asia/Shanghai");
    let night = window("22:30", "05:00", "Asia/Shanghai");
    let midnight = window("20:00", "00:00", "UTC");
    let table = [
        (&day, "2026-11-22T00:00:00Z", true), // 08:00 there
        (&day, "2026-11-21T23:59:59.999Z", false),
        (&day, "2026-11-22T11:59:59Z", true),
        (&day, "2026-11-22T12:00:00Z", false),
        (&night, "2026-11-22T14:29:59Z", false),
        (&night, "2026-11-22T14:30:00Z", true),
        (&night, "2026-11-22T16:00:00Z", true), // midnight there
        (&night, "2026-11-22T20:59:59Z", true),
        (&night, "2026-11-22T21:00:00Z", false),
        (&midnight, "2026-11-22T19:59:59Z", false),
        (&midnight, "2026-11-22T23:59:59Z", true),
        (&midnight, "2026-11-23T00:00:00Z", false),
    ];
    for (schedule, now, forbidden) in table {
        assert_eq!(schedule.forbids(at(now), None).is_some(), forbidden, "{schedule:?} {now}");
    }
    let told = day.forbids(at("2026-11-22T01:30:00Z"), None).unwrap();
    assert_eq!(told.code, "schedule.blackout");
    assert_eq!(told.detail, "it is 09:30 in Asia/Shanghai; notDuring is 08:00 to 20:00");
}

#[test]
fn a_window_goes_by_the_clock_on_the_wall_when_that_is_changed() {
    // Berlin, 2026: forward on 29 March at 01:00 UTC (02:00 becomes 03:00), back on 25 October at 01:00 UTC.
    let early = window("02:15", "02:45", "Europe/Berlin");
    let later = window("02:30", "03:30", "Europe/Berlin");
    let table = [
        // On other days.
        (&early, "2026-03-28T01:15:00Z", true),
        (&early, "2026-06-01T00:30:00Z", true),
        (&early, "2026-06-01T01:30:00Z", false),
        // The hour that is left out has no time in it.
        (&early, "2026-03-29T00:59:59Z", false),
        (&early, "2026-03-29T01:00:00Z", false),
        (&early, "2026-03-29T01:30:00Z", false),
        // Half of it is.
        (&later, "2026-03-29T00:59:59Z", false),
        (&later, "2026-03-29T01:00:00Z", true),
        (&later, "2026-03-29T01:30:00Z", false),
        // The hour that comes twice counts both times.
        (&early, "2026-10-25T00:14:59Z", false),
        (&early, "2026-10-25T00:15:00Z", true),
        (&early, "2026-10-25T00:45:00Z", false),
        (&early, "2026-10-25T01:15:00Z", true),
        (&early, "2026-10-25T01:45:00Z", false),
    ];
    for (schedule, now, forbidden) in table {
        assert_eq!(schedule.forbids(at(now), None).is_some(), forbidden, "{now}");
    }
}

#[test]
fn any_of_several_windows_forbids() {
    let windows = json!([
        { "from": "08:00", "to": "12:00", "timezone": "Asia/Shanghai" },
        { "from": "13:00", "to": "18:00", "timezone": "Asia/Shanghai" },
    ]);
    let both = schedule(json!({ "notDuring": windows })).unwrap();
    for (hour, forbidden) in [(8, true), (12, false), (13, true), (18, false)] {
        let now = at(&format!("2026-11-22T{:02}:30:00Z", hour - 8));
        assert_eq!(both.forbids(now, None).is_some(), forbidden, "{hour}:30");
    }
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let with = |from: &str, to: &str, zone: &str| json!([{ "from": from, "to": to, "timezone": zone }]);
    let table = [
        (json!({ "startWithinSeconds": 0 }), "startWithinSeconds: must be a whole number of seconds from 1"),
        (json!({ "startWithinSeconds": "1h" }), "startWithinSeconds: must be a whole number"),
        (json!({ "startWithinSeconds": 604801 }), "from 1 to 604800, not 604801"),
        (json!({ "notDuring": {} }), "notDuring: must be a list, not an object"),
        (json!({ "notDuring": [null] }), "notDuring[0]: must be an object, not null"),
        (json!({ "notDuring": ["08:00"] }), "notDuring[0]: must be an object, not a string"),
        (json!({ "notDuring": [{ "from": "08:00", "to": "09:00" }] }), "notDuring[0].timezone: required"),
        (
            json!({ "notDuring": [{ "timezon": "UTC" }] }),
            "notDuring[0].timezon: unknown field, did you mean timezone?",
        ),
        (json!({ "notDuring": with("8:00", "20:00", "UTC") }), "notDuring[0].from: must be HH:MM"),
        (json!({ "notDuring": with("08:00", "24:00", "UTC") }), "notDuring[0].to: must be HH:MM"),
        (json!({ "notDuring": with("08:00", "+2:00", "UTC") }), "notDuring[0].to: must be HH:MM"),
        (json!({ "notDuring": with(" 8:00", "20:00", "UTC") }), "notDuring[0].from: must be HH:MM"),
        (json!({ "notDuring": with("08:00", "20: 5", "UTC") }), "notDuring[0].to: must be HH:MM"),
        (json!({ "notDuring": with("08:00", "08:00", "UTC") }), "notDuring[0].to: is the same as from"),
        (json!({ "notDuring": with("08:00", "20:00", "CST") }), "notDuring[0].timezone: must be a name"),
        (json!({ "notDuring": with("08:00", "20:00", "+08:00") }), "notDuring[0].timezone: must be a name"),
        (json!({ "notDuring": vec![json!({}); 21] }), "notDuring: has 21 entries, at most 20"),
    ];
    for (fields, expected) in table {
        let message = schedule(fields.clone()).unwrap_err();
        assert!(message.contains(expected), "{fields}: {message}");
    }
}

proptest! {
    /// Counted in minutes around the clock: since the window's beginning, against its length.
    #[test]
    fn a_minute_is_in_a_window_if_it_is_nearer_to_its_beginning_than_the_window_is_long(
        from in 0..1440_i64, length in 1..1440_i64, minute in 0..1440_i64, day in 0..20_000_i64,
        zone in prop::sample::select(vec![("UTC", 0), ("Asia/Shanghai", 480), ("Asia/Kolkata", 330)]),
    ) {
        // Shanghai had summer time until 1991, Kolkata in the war.
        let now = Timestamp::from_second(86_400 * (8_000 + day) + 60 * minute).unwrap();
        let clock = |minute: i64| format!("{:02}:{:02}", minute.rem_euclid(1440) / 60, minute.rem_euclid(60));
        let schedule = window(&clock(from), &clock(from + length), zone.0);
        let since = (minute + zone.1 - from).rem_euclid(1440);
        prop_assert_eq!(schedule.forbids(now, None).is_some(), since < length);
    }

    #[test]
    fn any_request_about_time_is_read_or_refused_and_never_panics(from in ".{0,6}", to in ".{0,6}", zone in ".{0,12}") {
        let _ = schedule(json!({ "notDuring": [{ "from": from, "to": to, "timezone": zone }] }));
    }
}
