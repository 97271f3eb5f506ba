//! Processes of netbpf that tests leave behind. Must not know the tests.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Processes of this program, with their arguments, by PID.
pub type Processes = BTreeMap<u32, String>;

/// The present processes.
pub fn processes(program: &Path) -> Processes {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let mut arguments = arguments.split_terminator('\0');
        (arguments.next() == program.to_str()).then(|| (pid, arguments.collect::<Vec<_>>().join(" ")))
    })
    .collect()
}

/// The processes that were not there before, and do not end within a time.
pub fn since(before: &Processes, program: &Path, time: Duration) -> Processes {
    let deadline = Instant::now() + time;
    loop {
        let mut left = processes(program);
        left.retain(|pid, _| !before.contains_key(pid));
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_new_unless_it_was_there_before() {
        let program = std::env::args().next().expect("a name");
        let present = processes(Path::new(&program));
        assert!(present.contains_key(&std::process::id()));
        assert!(since(&present, Path::new(&program), Duration::ZERO).is_empty());
        let new = since(&Processes::new(), Path::new(&program), Duration::ZERO);
        assert!(new.contains_key(&std::process::id()));
    }
}
