//! Fault points: places where a test has the daemon killed, or has a step fail, to see that nothing is lost. Only debug
//! builds have them, and only where the environment variable `NETBPF_FAULT` names a file with an order in it:
//!
//! ```text
//! kill 7    end the daemon by SIGKILL at the seventh point from now
//! fail 7    let the step at the seventh point from now fail
//! ```
//! The daemon counts down in the file. Afterwards the file says what was hit: `killed before WriteEndpoint`.

use crate::daemon::Error;

/// A point before a step: the daemon can be killed here, and the step can fail.
///
/// # Errors
/// What the test ordered, as if the disk were full.
pub fn before(step: &str) -> Result<(), Error> {
    orders::follow("before", step)
}

/// A point after a step that is done: the daemon can be killed here.
pub fn after(step: &str) {
    let followed = orders::follow("after", step);
    debug_assert!(followed.is_ok(), "a step that is done cannot fail: {followed:?}");
}

/// A release build follows no orders.
#[cfg(not(debug_assertions))]
mod orders {
    use super::Error;

    #[inline(always)]
    pub fn follow(_: &str, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(debug_assertions)]
mod orders {
    use std::{
        env, fs, io,
        path::PathBuf,
        sync::{LazyLock, Mutex, PoisonError},
    };

    use nix::{
        libc,
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::Error;

    /// The file with the order, read and written by one at a time.
    static FILE: LazyLock<Option<Mutex<PathBuf>>> =
        LazyLock::new(|| env::var_os("NETBPF_FAULT").map(|path| Mutex::new(path.into())));

    pub fn follow(when: &str, step: &str) -> Result<(), Error> {
        let Some(file) = &*FILE else { return Ok(()) };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let order = fs::read_to_string(&*file).unwrap_or_default();
        let Some((what, left)) = order.trim().split_once(' ') else { return Ok(()) };
        let Ok(left) = left.parse::<u32>() else { return Ok(()) };
        let write = |text: String| {
            if let Err(error) = fs::write(&*file, text) {
                tracing::error!(%error, "write the order of a fault");
            }
        };
        match (what, left) {
            ("fail", _) if when == "after" => {}
            ("kill" | "fail", 2..) => write(format!("{what} {}", left - 1)),
            ("kill", 1) => {
                write(format!("killed {when} {step}"));
                let _ = kill(Pid::this(), Signal::SIGKILL);
            }
            ("fail", 1) => {
                write(format!("failed {when} {step}"));
                let source = io::Error::from_raw_os_error(libc::ENOSPC);
                return Err(Error::File { operation: "take the step", path: step.into(), source });
            }
            _ => {}
        }
        Ok(())
    }
}
