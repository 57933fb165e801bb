//! What benchmarks share: their settings, the machine, ranks.

use std::time::Duration;

/// The value below which `percent` of all are, in ms (nearest rank); not a number where there is none.
pub fn rank(values: &[Duration], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |value| value.as_secs_f64() * 1000.0)
}

/// Whether the words of ONLY are all in this.
pub fn chosen(row: &str) -> bool {
    let only = std::env::var("ONLY").unwrap_or_default();
    only.split_whitespace().all(|word| row.contains(word))
}

/// A number of the environment.
pub fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number"))
}

/// A file of this machine's, whole.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

/// Where and when.
pub fn machine(rounds: u64, pause: Duration) -> String {
    let release = read("/etc/os-release");
    let distro = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?");
    format!(
        "Machine: {} cores, Linux {}, {}; {}; {rounds} rounds, pauses of {} ms; load average {}.",
        std::thread::available_parallelism().map_or(0, usize::from),
        read("/proc/sys/kernel/osrelease"),
        distro.trim_matches('"'),
        jiff::Timestamp::now().strftime("%F %H:%M UTC"),
        pause.as_millis(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    )
}
