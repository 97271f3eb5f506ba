//! Docker's streams of output: raw for a terminal, and otherwise with a frame around each piece that names its stream.
//! Pure.

use axum::{body::Bytes, http::HeaderValue};

use super::ApiVersion;
use crate::daemon::{Record, Source};

/// The content type of a stream. Clients before API 1.42 know only one.
pub fn content_type(version: ApiVersion, is_terminal: bool) -> HeaderValue {
    HeaderValue::from_static(match !is_terminal && version >= ApiVersion::of(1, 42) {
        true => "application/vnd.docker.multiplexed-stream",
        false => "application/vnd.docker.raw-stream",
    })
}

/// A piece of output with its header: the number of the stream, three zeros, and the length (big endian).
pub fn frame(source: Source, bytes: &[u8]) -> Bytes {
    let number = match source {
        Source::Stdout => 1,
        Source::Stderr => 2,
    };
    // A piece is at most as long as a line in a log, or as what is read at once.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let header = [number, 0, 0, 0].into_iter().chain(length.to_be_bytes());
    header.chain(bytes.iter().take(length as usize).copied()).collect()
}

/// Which output a client wants, and how.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Whether standard output.
    pub stdout: bool,
    /// Whether standard error.
    pub stderr: bool,
    /// Whether each line begins with its time.
    pub timestamps: bool,
}

impl Selection {
    /// The frame of a line; `None` if it is not wanted.
    pub fn frame(&self, record: &Record) -> Option<Bytes> {
        let (source, is_wanted) = match record.stream.as_str() {
            "stderr" => (Source::Stderr, self.stderr),
            _ => (Source::Stdout, self.stdout),
        };
        let text = match self.timestamps {
            true => format!("{} {}", record.time, record.log),
            false => record.log.clone(),
        };
        is_wanted.then(|| frame(source, text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_names_its_stream_and_its_length() {
        assert_eq!(&frame(Source::Stdout, b"hi\n")[..], b"\x01\0\0\0\0\0\0\x03hi\n");
        assert_eq!(&frame(Source::Stderr, &[b'x'; 300])[..8], b"\x02\0\0\0\0\0\x01\x2c");
        assert_eq!(&frame(Source::Stdout, b"")[..], b"\x01\0\0\0\0\0\0\0");
    }

    #[test]
    fn only_wanted_lines_have_a_frame() {
        let record = |stream: &str| Record {
            log: "hi\n".into(),
            stream: stream.into(),
            time: "2026-01-02T03:04:05Z".into(),
        };
        let only_out = Selection { stdout: true, stderr: false, timestamps: false };
        assert_eq!(only_out.frame(&record("stdout")).as_deref(), Some(&b"\x01\0\0\0\0\0\0\x03hi\n"[..]));
        assert_eq!(only_out.frame(&record("stderr")), None);
        let timed = Selection { stdout: false, stderr: true, timestamps: true };
        assert_eq!(
            timed.frame(&record("stderr")).map(|frame| frame[8..].to_vec()).as_deref(),
            Some(&b"2026-01-02T03:04:05Z hi\n"[..])
        );
    }

    #[test]
    fn the_content_type_depends_on_the_version_and_the_terminal() {
        let (old, new) = (ApiVersion::of(1, 41), ApiVersion::of(1, 42));
        assert_eq!(content_type(old, false), "application/vnd.docker.raw-stream");
        assert_eq!(content_type(new, false), "application/vnd.docker.multiplexed-stream");
        assert_eq!(content_type(new, true), "application/vnd.docker.raw-stream");
    }
}
