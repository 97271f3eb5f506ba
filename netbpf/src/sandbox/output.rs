//! Turns the output of the command into records of the log.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use jiff::Timestamp;

use super::{logs::Record, rotation::Log};

/// The maximum length of a record's text in bytes. A longer line becomes several records, of which only the last has a
/// newline, as in Docker's log.
const MAX_RECORD: usize = 16 * 1024;

/// One output stream of the command.
pub(super) struct Output {
    pipe: File,
    /// Whether all writers have closed the pipe.
    pub ended: bool,
    lines: Lines,
}

impl Output {
    /// `pipe` must be non-blocking.
    pub fn new(pipe: OwnedFd, stream: &'static str) -> Output {
        Output { pipe: pipe.into(), ended: false, lines: Lines { stream, begun: Vec::new() } }
    }

    /// Reads at most one buffer and appends it to the log.
    pub fn forward(&mut self, log: &mut Log) {
        let mut buffer = [0; MAX_RECORD];
        match self.pipe.read(&mut buffer) {
            Ok(0) => {
                log.append(&self.lines.rest());
                self.ended = true;
            }
            Ok(length) => log.append(&self.lines.take(&buffer[..length])),
            // Nothing to read after all.
            Err(_) => {}
        }
    }

    /// Reads everything that is in the pipe and appends it, an unfinished line included. Does not wait for more: a
    /// process outside the container may hold the pipe open.
    pub fn finish(&mut self, log: &mut Log) {
        let mut buffer = [0; MAX_RECORD];
        while let Ok(length @ 1..) = self.pipe.read(&mut buffer) {
            log.append(&self.lines.take(&buffer[..length]));
        }
        log.append(&self.lines.rest());
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

struct Lines {
    stream: &'static str,
    begun: Vec<u8>,
}

impl Lines {
    /// The records that `bytes` complete.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            self.begun.extend_from_slice(piece);
            while self.begun.len() > MAX_RECORD {
                let rest = self.begun.split_off(boundary(&self.begun, MAX_RECORD));
                self.record(&mut records);
                self.begun = rest;
            }
            if self.begun.ends_with(b"\n") {
                self.record(&mut records);
            }
        }
        records
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        if !self.begun.is_empty() {
            self.record(&mut records);
        }
        records
    }

    fn record(&mut self, records: &mut Vec<u8>) {
        let line = Record {
            log: String::from_utf8_lossy(&self.begun).into_owned(),
            stream: self.stream.to_owned(),
            time: format!("{:.9}", Timestamp::now()),
        };
        self.begun.clear();
        // Cannot fail: strings always have a JSON form, and a vector accepts every write.
        if serde_json::to_writer(&mut *records, &line).is_ok() {
            records.push(b'\n');
        }
    }
}

/// The last position up to `limit` that is not within a UTF-8 character.
fn boundary(bytes: &[u8], limit: usize) -> usize {
    let is_start = |&i: &usize| bytes[i] & 0b1100_0000 != 0b1000_0000;
    (limit - 3..=limit).rev().find(is_start).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines { stream: "stdout", begun: Vec::new() };
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend(lines.take(piece));
        }
        bytes.extend(lines.rest());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().log).collect()
    }

    #[test]
    fn a_line_is_one_record_however_it_was_written() {
        assert_eq!(logged(&[b"a\nb", b"c\n\n", b"d"]), ["a\n", "bc\n", "\n", "d"]);
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let text = format!("x{}\n", "ä".repeat(MAX_RECORD));
        let records = logged(&[text.as_bytes()]);
        assert_eq!(records.concat(), text);
        assert_eq!(records.iter().map(String::len).collect::<Vec<_>>(), [MAX_RECORD - 1, MAX_RECORD, 3]);
    }

    #[test]
    fn a_line_of_the_maximum_length_is_one_record() {
        let text = "y".repeat(MAX_RECORD - 1) + "\n";
        assert_eq!(logged(&[text.as_bytes()]), [text]);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(logged(&[b"\xff\n"]), ["\u{fffd}\n"]);
    }

    #[test]
    fn times_have_nanoseconds() {
        let mut lines = Lines { stream: "stderr", begun: Vec::new() };
        let line: Record = serde_json::from_slice(&lines.take(b"a\n")).unwrap();
        assert_eq!(
            (line.time.len(), line.stream.as_str()),
            ("2026-01-01T00:00:00.000000000Z".len(), "stderr")
        );
    }
}
