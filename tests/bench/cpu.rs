//! The CPU time that the machine has spent, from `/proc/stat`: packets are processed in the context of whatever happens
//! to run.

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// The time in seconds that these CPUs have been busy since the machine started.
pub fn busy(cpus: &[usize]) -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let ticks = busy_ticks(&stat, cpus).context("/proc/stat does not name the CPUs")?;
    let second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel's ticks have no length")?;
    Ok(ticks as f64 / second as f64)
}

/// Parses `cpu1 user nice system idle iowait irq softirq steal …`: everything except idle, iowait and steal.
fn busy_ticks(stat: &str, cpus: &[usize]) -> Option<u64> {
    cpus.iter()
        .map(|cpu| {
            let name = format!("cpu{cpu} ");
            let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
            let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
            [0, 1, 2, 5, 6].iter().map(|column| ticks.get(*column).copied()).sum::<Option<u64>>()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_not_busy() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 100 50 4 5 70 8 9\ncpu1 10 0 0 100 0 0 0 0 0 0\n";
        assert_eq!(busy_ticks(stat, &[0]), Some(15));
        assert_eq!(busy_ticks(stat, &[0, 1]), Some(25));
        assert_eq!(busy_ticks(stat, &[2]), None);
    }
}
