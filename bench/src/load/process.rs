//! How much CPU and memory do a target's broker processes use?

use super::{Figure, Target};

/// Clock ticks a second of `/proc/PID/stat` on every Linux this runs on.
const TICKS: f64 = 100.0;

/// CPU seconds (user and system) that the target's processes have used so far.
pub(crate) fn cpu_seconds(target: &Target) -> f64 {
    target.pids.iter().filter_map(|pid| one_cpu(*pid)).sum()
}

fn one_cpu(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS)
}

/// Resident megabytes (10^6) of each process on average.
pub(crate) fn memory(target: &Target, when: &str) -> Option<Figure> {
    let kib: Vec<f64> = target.pids.iter().filter_map(|pid| one_rss(*pid)).collect();
    if kib.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of processes")]
    let mean = kib.iter().sum::<f64>() / kib.len() as f64;
    Some(Figure::new(
        target,
        &format!("RSS per broker, {when}"),
        "MB",
        mean * 1024.0 / 1e6,
    ))
}

fn one_rss(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}
