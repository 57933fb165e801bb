//! Figures of a cell, and the table of all with the goals.

use std::time::Duration;

use crate::contender::{self, Contender};
use crate::figures::rank;

/// What one contender did on one file system, load and delay.
pub struct Row {
    /// Who.
    pub contender: Contender,
    /// `ext4`, `xfs`, `both`.
    pub target: &'static str,
    /// `idle`, `fio`.
    pub load: &'static str,
    /// `0ms`, `319ms`.
    pub delay: &'static str,
    /// Rounds that went wrong, and are in no figure.
    pub failed: usize,
    /// From the first freeze to the last thaw.
    pub frozen: Vec<Duration>,
    /// The same without the time that the endpoint itself took.
    pub beyond: Vec<Duration>,
    /// Longest gap of the writer.
    pub stall: Vec<Duration>,
}

impl Row {
    fn same_cell(&self, other: &Row) -> bool {
        (self.target, self.load, self.delay) == (other.target, other.load, other.delay)
    }
}

/// The head tells what is compared.
pub const HEAD: &str = "\
Times in ms. `frozen`: from just before the first freeze to just after the last thaw, by the contender's own stamps.
`beyond`: that without the time that the endpoint held the request (0 or 319 ms) and, for appsnap alone, without the
time from the answer until the group shows (0 or 400 ms), since only appsnap waits for that: its polling stays in. `stall`:
longest gap of a process that writes and fsyncs every millisecond, over the whole run of the contender, API time included.
`× (a)`, `× (b)`, `× (c)`: medians of `beyond`. With fewer than 100 rounds p99 is the maximum.

In short, medians of `beyond`, in brackets of `stall`:";

/// All figures, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = "\
| fs | load | delay | contender | n | frozen | beyond: median | p90 | p99 | max | × (a) | × (b) | × (c) | stall: median | max | goals |
|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|
"
    .to_string();
    for row in rows {
        let median = |peer: Contender| {
            let peer = rows.iter().find(|other| other.contender == peer && other.same_cell(row));
            peer.map(|peer| rank(&peer.beyond, 50)).filter(|median| !median.is_nan())
        };
        let ratio = |peer| {
            median(peer).map_or("–".into(), |peer: f64| format!("{:.2}", rank(&row.beyond, 50) / peer))
        };
        let count = match row.failed {
            0 => row.beyond.len().to_string(),
            failed => format!("{} ({failed} failed)", row.beyond.len()),
        };
        text.push_str(&format!(
            "| {} | {} | {} | {} | {count} | {:.1} | **{:.1}** | {:.1} | {:.1} | {:.1} | {} | {} | {} | {:.1} | {:.1} | {} |\n",
            row.target,
            row.load,
            row.delay,
            row.contender.name(),
            rank(&row.frozen, 50),
            rank(&row.beyond, 50),
            rank(&row.beyond, 90),
            rank(&row.beyond, 99),
            rank(&row.beyond, 100),
            ratio(Contender::Script),
            ratio(Contender::Bare),
            ratio(Contender::Agent),
            rank(&row.stall, 50),
            rank(&row.stall, 100),
            goals(row, median(Contender::Bare)).join("; "),
        ));
    }
    text
}

/// One line a cell: the median of `beyond`, and of the longest stalls.
pub fn summary(rows: &[Row]) -> String {
    let names: Vec<&str> = contender::ALL.iter().map(|who| who.name()).collect();
    let mut text =
        format!("| fs | load | delay | {} |\n|---|---|---|{}\n", names.join(" | "), "--:|".repeat(5));
    for (at, first) in rows.iter().enumerate() {
        if at > 0 && rows[at - 1].same_cell(first) {
            continue;
        }
        text.push_str(&format!("| {} | {} | {} |", first.target, first.load, first.delay));
        for who in contender::ALL {
            let row = rows.iter().find(|row| row.contender == who && row.same_cell(first));
            match row.filter(|row| !row.beyond.is_empty()) {
                Some(row) => text.push_str(&format!(
                    " **{:.1}** ({:.0}) |",
                    rank(&row.beyond, 50),
                    rank(&row.stall, 50)
                )),
                None => text.push_str(" – |"),
            }
        }
        text.push('\n');
    }
    text
}

/// The goals of this row, each met or missed.
fn goals(row: &Row, bare: Option<f64>) -> Vec<String> {
    let (median, p99) = (rank(&row.beyond, 50), rank(&row.beyond, 99));
    let mut goals = Vec::new();
    let mut goal = |what: &str, value: f64, limit: f64| {
        let verdict = if value <= limit { "met" } else { "**missed**" };
        goals.push(format!("{what} ({limit:.1}): {verdict}"));
    };
    match (row.contender, row.load, bare) {
        (Contender::Default, "idle", Some(bare)) => goal("≤ (b) + 10", median, bare + 10.0),
        (Contender::Fast, "idle", _) => {
            goal("median", median, if row.target == "both" { 15.0 } else { 10.0 });
            goal("p99", p99, 40.0);
        }
        (Contender::Default | Contender::Fast, "fio", Some(bare)) => goal("≤ 1.2 × (b)", median, bare * 1.2),
        _ => {}
    }
    if let (Contender::Default, "fio", Some(bare)) = (row.contender, row.load, bare) {
        goal("≤ (b) + 10", median, bare + 10.0);
    }
    goals
}
