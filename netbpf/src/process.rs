//! Processes as `/proc` describes them: a PID and a start time together name one process, and never a later one with
//! the same PID. Must not know what the processes do.

use std::{
    fs::File,
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

/// Field 22 of the line, unless the state in field 3 is that of a dead process. Field 2 is a name in parentheses, which
/// may contain any character.
fn parse(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    fields.nth(18)?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn the_start_time_is_found_whatever_the_name_is() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse(&format!("7 (sh) {rest}")), Some(4711));
        assert_eq!(parse(&format!("7 (a) b ( c) {rest}")), Some(4711));
        assert_eq!(parse("7 (sh"), None);
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
