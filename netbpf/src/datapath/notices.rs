//! Reads what the programs report (`NOTICES`). Must not know what follows from it.

use std::{io, os::fd::AsFd, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use netbpf_common::notice::{NOTICES_BYTES, Notice};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Datapath, Error, tables};

/// Reader of the programs' notices.
pub struct Notices(RingBuf<MapData>);

impl Notices {
    /// Takes the ring buffer from a loaded object. What was reported while no daemon read it is left out: an endpoint's
    /// number may be another's by now.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, Error> {
        let mut notices = tables::take(object, "NOTICES").map(Self)?;
        notices.by_ref().take(NOTICES_BYTES as usize).for_each(drop);
        Ok(notices)
    }

    /// Waits for a notice, at most as long as `timeout`.
    ///
    /// # Errors
    /// That of `poll`.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Datapath {
    /// The reader of the programs' notices; only the first call returns it.
    pub fn take_notices(&mut self) -> Option<Notices> {
        self.notices.take()
    }
}

/// The notices that were not read yet.
impl Iterator for Notices {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        Notice::read(&self.0.next()?)
    }
}
