//! Reads the logs of the programs, if they were built with logs, and passes the lines to tracing with the
//! target `programs`. Replaces reason numbers with names.

use std::{convert::Infallible, io, os::fd::AsFd, thread};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use netbpf_common::reason::Reason;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Datapath, Error};

/// Reader of the programs' logs.
pub struct ProgramLogs(EbpfLogger<ToTracing>);

impl ProgramLogs {
    /// Opens the logs of an object that was built with logs.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, Error> {
        EbpfLogger::init_with_logger(object, ToTracing)
            .map(Self)
            .map_err(|error| Error::failed("open", "the logs of the programs", error))
    }

    /// Passes on each line at once, in a thread of its own.
    ///
    /// # Errors
    /// That of the thread.
    pub fn follow(self) -> io::Result<()> {
        let spawned = thread::Builder::new().name("program-logs".into()).spawn(move || {
            let Err(error) = self.read();
            tracing::error!(%error, "read the programs' logs");
        });
        spawned.map(drop)
    }

    /// Passes on each line at once. Never returns without an error: it needs a thread of its own.
    ///
    /// # Errors
    /// That of `poll`; nothing else ends it.
    pub fn read(mut self) -> io::Result<Infallible> {
        loop {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => self.0.flush(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Datapath {
    /// The reader of the programs' logs; only the first call returns it, and only if logs are enabled.
    pub fn take_logs(&mut self) -> Option<ProgramLogs> {
        self.logs.take()
    }
}

/// aya-log writes to a logger of the `log` crate; this one writes to tracing.
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::info!(target: "programs", "{}", named(&record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Formats a line of a program: in `98 bytes at 1000000: 1`, 1 is the number of a reason.
fn named(line: &str) -> String {
    let reason = |(how, number): (&str, &str)| {
        let reason = Reason::ALL.get(number.parse::<usize>().ok()?)?;
        Some(format!("{how}: {}", reason.name()))
    };
    line.rsplit_once(": ").and_then(reason).unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_printed_by_its_name() {
        let number = Reason::SpoofedMac as usize;
        assert_eq!(named(&format!("98 bytes at 1000000: {number}")), "98 bytes at 1000000: spoofed-mac");
        for line in ["98 bytes at 1000000: 4711", "something else"] {
            assert_eq!(named(line), line);
        }
    }
}
