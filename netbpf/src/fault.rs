//! Fault points: tests kill a process or let something fail there, to check that nothing is lost. Only debug
//! builds have them, and only if the environment variable `NETBPF_FAULT` names a file with an order. Must not
//! know steps or calls. `NETBPF_LIMITS` lowers limits that no test can reach: `networks=3 endpoints=5`.
//!
//! ```text
//! kill step 7            end this process by SIGKILL at the seventh point beside a step from now
//! kill step 7 responder  end the youngest process that has this word in its command line instead
//! fail step 7            let the step at the seventh point from now fail, as if the disk were full
//! fail call 7            let the seventh call from now of the kernel, of nft or of the disk fail
//! ```
//! Points are counted down in the file, which then tells what happened: `killed before WriteEndpoint`.

use std::io;

use nix::libc::{EIO, ENOSPC};

/// A point before a step: a process can be killed here, and the step can fail.
///
/// # Errors
/// The error that the test ordered.
pub fn before(step: &str) -> io::Result<()> {
    if orders::follow("step", "before", step) { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
}

/// A point after a completed step: a process can be killed here.
pub fn after(step: &str) {
    let fails = orders::follow("step", "after", step);
    debug_assert!(!fails, "a step that is done cannot fail");
}

/// A point before a call of the kernel, of another program or of the disk: a process can be killed here, and
/// the call can fail.
///
/// # Errors
/// The error that the test ordered.
pub fn call(what: &str) -> io::Result<()> {
    if orders::follow("call", "before", what) { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
}

/// How many of these there may be: `most`, or what a test has set.
pub fn limit(what: &str, most: u32) -> u32 {
    orders::limit(what).map_or(most, |limit| limit.min(most))
}

/// Release builds follow no orders.
#[cfg(not(debug_assertions))]
mod orders {
    #[inline(always)]
    pub fn limit(_: &str) -> Option<u32> {
        None
    }

    #[inline(always)]
    pub fn follow(_: &str, _: &str, _: &str) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
mod orders {
    use std::{
        env, fs,
        path::PathBuf,
        sync::{LazyLock, Mutex, PoisonError},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    /// The file with the order, locked while it is read and written.
    static FILE: LazyLock<Option<Mutex<PathBuf>>> =
        LazyLock::new(|| env::var_os("NETBPF_FAULT").map(|path| Mutex::new(path.into())));

    /// The lowered limit.
    pub fn limit(what: &str) -> Option<u32> {
        let limits = env::var("NETBPF_LIMITS").unwrap_or_default();
        let mut limits = limits.split_whitespace().filter_map(|limit| limit.split_once('='));
        limits.find_map(|(name, limit)| limit.parse().ok().filter(|_| name == what))
    }

    /// Follows the order at this point. True if the step or call must fail.
    pub fn follow(kind: &str, when: &str, point: &str) -> bool {
        let Some(file) = &*FILE else { return false };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let order = fs::read_to_string(&*file).unwrap_or_default();
        let words: Vec<&str> = order.split_whitespace().collect();
        let [what, of, left, victim @ ..] = words.as_slice() else { return false };
        let Ok(left) = left.parse::<u32>() else { return false };
        if *of != kind || (*what, when) == ("fail", "after") {
            return false;
        }
        let write = |text: String| {
            if let Err(error) = fs::write(&*file, text) {
                tracing::error!(%error, "write the order of a fault");
            }
        };
        match (*what, left) {
            ("kill" | "fail", 2..) => {
                let rest: String = victim.iter().map(|word| format!(" {word}")).collect();
                write(format!("{what} {of} {}{rest}", left - 1));
            }
            ("kill", 1) => {
                let victim = match victim.first() {
                    None => Some(Pid::this()),
                    Some(word) => youngest(word),
                };
                if let Some(victim) = victim {
                    write(format!("killed {when} {point}"));
                    let _ = kill(victim, Signal::SIGKILL);
                }
            }
            ("fail", 1) => {
                write(format!("failed {when} {point}"));
                return true;
            }
            _ => {}
        }
        false
    }

    /// The PID of the youngest process with this word in its command line.
    fn youngest(word: &str) -> Option<Pid> {
        let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<i32>().ok());
        let has_word = |number: &i32| {
            let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
        };
        numbers.filter(has_word).max().map(Pid::from_raw)
    }
}
