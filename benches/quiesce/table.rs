//! Figures of a contender, and the table of all with the goals.

use std::time::Duration;

use appsnap::local::engine::Engine;

use crate::contender::Contender;
use crate::figures::rank;

/// What one contender did to one engine.
pub struct Row {
    /// Whose clients waited.
    pub engine: Engine,
    /// For whom.
    pub contender: Contender,
    /// Rounds that went wrong, and are in no figure.
    pub failed: usize,
    stall: Vec<Duration>,
    frozen: Vec<Duration>,
    beyond: Vec<Duration>,
}

impl Row {
    /// Without figures.
    pub fn new(engine: Engine, contender: Contender) -> Self {
        Self { engine, contender, failed: 0, stall: vec![], frozen: vec![], beyond: vec![] }
    }

    /// One round.
    pub fn add(&mut self, stall: Duration, frozen: Duration) {
        self.stall.push(stall);
        self.frozen.push(frozen);
        self.beyond.push(stall.saturating_sub(frozen));
    }

    /// Milliseconds beyond the freeze window.
    fn goal(&self) -> Option<f64> {
        match (self.contender, self.engine) {
            (Contender::Recipe, Engine::MariaDb) => Some(500.0),
            (Contender::Recipe, _) => Some(300.0),
            _ => None,
        }
    }
}

/// The head tells what is compared.
pub const HEAD: &str = "\
Times in ms. `wait`: the longest time between two acknowledged commits of one client, from the start of a run until a
second after its end, beside a busy load. `frozen`: from just before the first freeze to just after the last thaw, as the
sequence tells. `beyond`: the wait of a round without its freeze window. `×`: medians of `wait`, as a multiple of the one
with a freeze only, and of the naive recipe. The goals are those of `beyond`.";

/// All figures, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = "\
| engine | scripts | n | wait: p50 | max | frozen: p50 | beyond: p50 | max | × freeze only | × naive | goal |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|
"
    .to_string();
    for row in rows {
        let ratio = |to: Contender| {
            let other = rows.iter().find(|other| other.contender == to && other.engine == row.engine);
            let median = other.map(|other| rank(&other.stall, 50)).filter(|median| !median.is_nan());
            median.map_or("–".into(), |median| format!("{:.2}", rank(&row.stall, 50) / median))
        };
        let count = match row.failed {
            0 => row.stall.len().to_string(),
            failed => format!("{} ({failed} failed)", row.stall.len()),
        };
        let goal = row.goal().map_or(String::new(), |goal| {
            let met = |value: f64| if value <= goal { "met" } else { "**missed**" };
            let (median, max) = (rank(&row.beyond, 50), rank(&row.beyond, 100));
            format!("≤ {goal:.0}: p50 {}, max {}", met(median), met(max))
        });
        if row.stall.is_empty() {
            let (engine, name) = (row.engine.name(), row.contender.name(row.engine));
            text.push_str(&format!("| {engine} | {name} | {count} | – | – | – | – | – | – | – | |\n"));
            continue;
        }
        text.push_str(&format!(
            "| {} | {} | {count} | {:.0} | {:.0} | {:.0} | **{:.0}** | {:.0} | {} | {} | {goal} |\n",
            row.engine.name(),
            row.contender.name(row.engine),
            rank(&row.stall, 50),
            rank(&row.stall, 100),
            rank(&row.frozen, 50),
            rank(&row.beyond, 50),
            rank(&row.beyond, 100),
            ratio(Contender::Freeze),
            ratio(Contender::Naive),
        ));
    }
    text
}
