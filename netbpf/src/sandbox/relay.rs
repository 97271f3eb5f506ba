//! Copies bytes from one descriptor to another in a poll loop: between the user's terminal and a program in a
//! container.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::PollFlags,
};

const BLOCK: usize = 8 * 1024;

/// One direction. Reads again only when everything is written, so a slow reader holds back the writer and nothing is
/// lost.
pub(super) struct Relay {
    /// `None` after its end.
    from: Option<File>,
    /// Closed after the end of `from`, so that the reader gets the end, too.
    to: Option<File>,
    waiting: Vec<u8>,
}

impl Relay {
    pub fn new(from: OwnedFd, to: OwnedFd) -> Relay {
        Relay { from: Some(from.into()), to: Some(to.into()), waiting: Vec::new() }
    }

    /// The descriptor and the event to wait for.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (&self.from, &self.to) {
            (_, Some(to)) if !self.waiting.is_empty() => Some((to.as_fd(), PollFlags::POLLOUT)),
            (Some(from), Some(_)) => Some((from.as_fd(), PollFlags::POLLIN)),
            _ => None,
        }
    }

    /// Reads or writes, as announced by [`Relay::interest`].
    pub fn advance(&mut self) {
        if self.waiting.is_empty() {
            self.read();
        } else {
            self.write();
        }
        if self.from.is_none() && self.waiting.is_empty() {
            self.to = None;
        }
    }

    /// Copies everything that is there now. `from` must be non-blocking.
    pub fn drain(&mut self) {
        while let Some(to) = self.to.as_mut().filter(|_| !self.waiting.is_empty() || self.from.is_some()) {
            if to.write_all(&self.waiting).is_err() {
                return;
            }
            self.waiting.clear();
            self.read();
            if self.waiting.is_empty() {
                return;
            }
        }
    }

    fn read(&mut self) {
        let Some(from) = &mut self.from else { return };
        let mut block = [0; BLOCK];
        match from.read(&mut block) {
            Ok(length @ 1..) => self.waiting.extend_from_slice(&block[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The end. A terminal whose other side is closed reports it as an error.
            Ok(0) | Err(_) => self.from = None,
        }
    }

    fn write(&mut self) {
        let Some(to) = &mut self.to else { return };
        match to.write(&self.waiting) {
            Ok(length) => {
                self.waiting.drain(..length);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Nobody reads it any more.
            Err(_) => {
                self.waiting.clear();
                self.from = None;
                self.to = None;
            }
        }
    }
}

/// Only for descriptors that this program opened: the flag is shared by all holders of the same open file.
pub(super) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_input_closes_the_output() {
        let (from, mut writer) = io::pipe().unwrap();
        let (mut reader, to) = io::pipe().unwrap();
        let mut relay = Relay::new(from.into(), to.into());
        writer.write_all(b"hello").unwrap();
        relay.advance();
        relay.advance();
        let mut text = [0; 5];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
        drop(writer);
        relay.advance();
        assert!(relay.interest().is_none());
        assert_eq!(reader.read(&mut text).unwrap(), 0);
    }

    #[test]
    fn a_closed_reader_ends_the_relay() {
        let (from, mut writer) = io::pipe().unwrap();
        let (reader, to) = io::pipe().unwrap();
        let mut relay = Relay::new(from.into(), to.into());
        drop(reader);
        writer.write_all(b"x").unwrap();
        relay.advance();
        relay.advance();
        assert!(relay.interest().is_none());
    }

    #[test]
    fn draining_copies_what_is_there_and_does_not_wait() {
        let (from, mut writer) = io::pipe().unwrap();
        let (mut reader, to) = io::pipe().unwrap();
        set_nonblocking(&from).unwrap();
        let mut relay = Relay::new(from.into(), to.into());
        writer.write_all(&[b'z'; 3 * BLOCK]).unwrap();
        relay.drain();
        let mut bytes = vec![0; 3 * BLOCK];
        reader.read_exact(&mut bytes).unwrap();
        assert!(bytes.iter().all(|&b| b == b'z'));
    }
}
