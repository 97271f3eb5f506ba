//! Processes as `/proc` describes them: a PID and a start time together name one process, and never a later one with
//! the same PID. Also what they have used, and their children. Must not know what the processes do.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::fs::{Mode, OFlags, openat};

/// Start time of a process in clock ticks since boot. None if the process does not exist, or is dead and not yet
/// reaped.
pub fn start_time(pid: u32) -> Option<u64> {
    start_time_in(&folder(pid).ok()?)
}

/// The `/proc` directory of a process. It leads nowhere once the process is gone, even if its PID is used again.
///
/// # Errors
/// `ENOENT` if there is no such process.
pub fn folder(pid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?)
}

/// [`start_time`] of the process with this `/proc` directory.
pub fn start_time_in(folder: impl AsFd) -> Option<u64> {
    let stat = openat(folder, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    parse(&io::read_to_string(File::from(stat)).ok()?)
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, of its ended children too, in clock ticks.
    pub user: u64,
    /// The same in kernel mode.
    pub system: u64,
    /// Anonymous memory, in bytes.
    pub memory: u64,
}

/// The usage of a process; zero if it does not exist.
pub fn usage(pid: u32) -> Usage {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (user, system) = times(&read("stat")).unwrap_or_default();
    Usage { user, system, memory: kilobytes(&read("status"), "RssAnon:").unwrap_or_default() * 1024 }
}

/// Fields 14 to 17: its own times, and those of its children.
fn times(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).take(4);
    let times: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    match times[..] {
        [user, system, of_children, system_of_children] => {
            Some((user + of_children, system + system_of_children))
        }
        _ => None,
    }
}

/// A value with the unit kB in a file of `/proc` that has a key and a value in each line.
pub fn kilobytes(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

/// The PIDs of all children of a process and of theirs, parents first (`CONFIG_PROC_CHILDREN`; without it, none). Those
/// that start or end meanwhile may be missing.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(children(parent));
        next += 1;
    }
    found
}

/// The children of a process: each belongs to the thread that started it.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| text.split_ascii_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
}

/// Field 22 of the line, unless the state in field 3 is that of a dead process. Field 2 is a name in parentheses, which
/// may contain any character.
fn parse(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    fields.nth(18)?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_start_time_is_found_whatever_the_name_is() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse(&format!("7 (sh) {rest}")), Some(4711));
        assert_eq!(parse(&format!("7 (a) b ( c) {rest}")), Some(4711));
        assert_eq!(parse("7 (sh"), None);
    }

    #[test]
    fn usage_includes_ended_children_and_no_files() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 18 19 20 4711";
        assert_eq!(times(&format!("7 (a) b) {rest}")), Some((103, 24)));
        assert_eq!(times("7 (sh) S 1"), None);
        let status = "Name:\tsh\nVmRSS:\t 900 kB\nRssAnon:\t     180 kB\n";
        assert_eq!(kilobytes(status, "RssAnon:"), Some(180));
        assert_eq!(kilobytes(status, "Name:"), None);
        assert_eq!(usage(u32::MAX), Usage::default());
        assert!(usage(std::process::id()).memory > 0);
    }

    #[test]
    fn descendants_are_found_with_their_parents_before_them() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let own = std::process::id();
        let mut found = Vec::new();
        while found.len() < 2 {
            found = descendants(own);
            found.retain(|pid| *pid == shell.id() || children(shell.id()).contains(pid));
        }
        assert_eq!(found[0], shell.id());
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(found[1] as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        shell.wait().unwrap();
        assert!(descendants(u32::MAX).is_empty());
    }

    #[test]
    fn each_process_has_a_start_time() {
        let own = start_time(std::process::id()).unwrap();
        assert!(own >= start_time(1).unwrap());
        assert_eq!(start_time(u32::MAX), None);
    }

    #[test]
    fn a_dead_process_has_no_start_time() {
        let mut child = Command::new("true").spawn().unwrap();
        let mut status = String::new();
        while !status.contains(") Z") {
            status = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        }
        assert_eq!(start_time(child.id()), None);
        child.wait().unwrap();
    }
}
