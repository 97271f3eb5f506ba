//! What the processes of containers use, and what the host has: CPU time and memory, as `/proc` tells. A sandbox has no
//! cgroup. Changes nothing.

use std::{fs, num::NonZero, thread::available_parallelism};

use crate::process;

/// Nanoseconds in one of the kernel's clock ticks for user space: there are 100 in a second (`USER_HZ`).
const TICK: u64 = 10_000_000;

/// What the processes of a container use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of processes.
    pub processes: u64,
    /// CPU time in user mode, in nanoseconds. Ended processes are included if their parent runs.
    pub user: u64,
    /// CPU time in kernel mode, in nanoseconds.
    pub system: u64,
    /// Anonymous memory, in bytes.
    pub memory: u64,
}

/// What the host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Number of CPUs.
    pub cpus: usize,
    /// Time of all CPUs since the boot, idle time included, in nanoseconds.
    pub time: u64,
    /// Memory in bytes.
    pub memory: u64,
}

/// The usage of processes.
pub fn of_processes(pids: &[u32]) -> Usage {
    let mut all = Usage { processes: pids.len() as u64, ..Usage::default() };
    for usage in pids.iter().map(|pid| process::usage(*pid)) {
        all.user += usage.user * TICK;
        all.system += usage.system * TICK;
        all.memory += usage.memory;
    }
    all
}

/// This process.
pub fn own() -> Usage {
    of_processes(&[std::process::id()])
}

/// This host.
pub fn machine() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    Machine {
        cpus: available_parallelism().map_or(1, NonZero::get),
        time: time(&read("/proc/stat")) * TICK,
        memory: process::kilobytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default() * 1024,
    }
}

/// The sum of the first eight fields: those after them are parts of others.
fn time(stat: &str) -> u64 {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    line.split_ascii_whitespace().take(8).filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_all_cpus_includes_idle_time_and_counts_guests_once() {
        assert_eq!(time("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1 1 1 1\n"), 36);
        assert_eq!(time(""), 0);
    }

    #[test]
    fn this_process_uses_memory_and_this_host_has_more() {
        let (own, host) = (of_processes(&[std::process::id()]), machine());
        assert!(own.memory > 0 && own.memory < host.memory, "{own:?} {host:?}");
        assert!(host.cpus > 0 && host.time > own.user + own.system);
    }
}
