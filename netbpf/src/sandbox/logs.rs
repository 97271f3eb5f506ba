//! Reads a sandbox's log, also while it grows and is rotated.

use std::{
    collections::VecDeque,
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::{
    Supervisor,
    error::{Error, call},
    rotation, sys,
};

const BLOCK: usize = 64 * 1024;

/// A line of output in the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The text, with its newline if it had one. Invalid UTF-8 is replaced.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339, with nanoseconds.
    pub time: String,
}

/// A position in a log.
#[derive(Debug)]
pub struct Logs {
    path: PathBuf,
    /// The files that are not read to their end, the oldest first. Only the last one is still being written.
    files: VecDeque<File>,
    /// Data that was read; the lines from `next` on have not been returned yet.
    buffer: Vec<u8>,
    next: usize,
    follow: Option<Follow>,
}

/// Notifies a follower about new records, and about the end.
#[derive(Debug)]
struct Follow {
    /// An inotify watch on the log's directory.
    watch: AsyncFd<OwnedFd>,
    /// Readable when the supervisor, which writes the log, has ended.
    supervisor: AsyncFd<OwnedFd>,
    ended: bool,
}

/// Opens the log at `path` for reading: its last `tail` lines, or all. With `follow`, also the lines to come until that
/// supervisor's container has ended. A missing log is empty.
///
/// # Errors
/// [`Error::Call`] if a file cannot be opened or read, or, with `follow`, its directory cannot be watched: `EMFILE` if
/// root's inotify instances are used up.
pub fn read(path: &Path, tail: Option<usize>, follow: Option<&Supervisor>) -> Result<Logs, Error> {
    let failed = || call::<io::Error>("read", path.display());
    // Start watching first, so that no change is missed.
    let follow = follow.map(|supervisor| Follow::new(path, supervisor)).transpose().map_err(failed())?;
    let mut files = newer_than(path, None).map_err(failed())?;
    if let Some(lines) = tail {
        seek_to_last(&mut files, lines).map_err(failed())?;
    }
    Ok(Logs { path: path.to_owned(), files, buffer: Vec::new(), next: 0, follow })
}

impl Logs {
    /// The next line; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Call`] if a file cannot be read, or the watch is broken.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(Some(line));
            }
            if self.fill().map_err(call("read", self.path.display()))? > 0 {
                continue;
            }
            if self.files.len() > 1 {
                self.files.pop_front();
                // An incomplete record, left by a full disk.
                (self.buffer, self.next) = (Vec::new(), 0);
                continue;
            }
            let Some(follow) = &mut self.follow else { return Ok(None) };
            let newer =
                newer_than(&self.path, self.files.back()).map_err(call("read", self.path.display()))?;
            if !newer.is_empty() {
                // The file may have got more records before it was rotated: read it once more.
                self.files.extend(newer);
                continue;
            }
            if follow.ended {
                return Ok(None);
            }
            follow.wait().await.map_err(call("watch", self.path.display()))?;
        }
    }

    /// The next complete line in the buffer. Lines that are not records are skipped.
    fn buffered(&mut self) -> Option<Record> {
        loop {
            let rest = &self.buffer[self.next..];
            let length = rest.iter().position(|&b| b == b'\n')? + 1;
            let line = serde_json::from_slice(&rest[..length]).ok();
            self.next += length;
            if line.is_some() {
                return line;
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let Some(file) = self.files.front_mut() else { return Ok(0) };
        self.buffer.drain(..self.next);
        self.next = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + BLOCK, 0);
        let read = file.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + read.as_ref().unwrap_or(&0));
        read
    }
}

impl Follow {
    fn new(path: &Path, supervisor: &Supervisor) -> io::Result<Follow> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, path.parent().unwrap_or(path), events)?;
        Ok(Follow { watch: sys::register(watch)?, supervisor: supervisor.watch_end()?, ended: false })
    }

    /// Returns when there may be more records, or when the container has ended.
    async fn wait(&mut self) -> io::Result<()> {
        tokio::select! {
            ready = self.watch.readable() => match ready?.try_io(|watch| drain(watch.get_ref())) {
                Ok(drained) => drained,
                // A spurious wake-up.
                Err(_) => Ok(()),
            },
            ended = self.supervisor.readable() => {
                self.ended = ended.is_ok();
                ended.map(drop)
            }
        }
    }
}

/// Reads all events of the watch. Their content does not matter.
fn drain(watch: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    events.next()?;
    while !events.is_buffer_empty() {
        events.next()?;
    }
    Ok(())
}

/// The log's files after `known`, or all if `known` is absent or deleted; the oldest first.
fn newer_than(path: &Path, known: Option<&File>) -> io::Result<VecDeque<File>> {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let mut seen: Vec<_> = known.map(File::metadata).transpose()?.map(identity).into_iter().collect();
    let mut files = VecDeque::new();
    // From the newest to the oldest: a file that is renamed meanwhile is seen twice, but never missed.
    for path in rotation::files(path) {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let found = identity(file.metadata()?);
        if known.is_some() && found == seen[0] {
            break;
        }
        if !seen.contains(&found) {
            seen.push(found);
            files.push_front(file);
        }
    }
    Ok(files)
}

/// Positions the files at the last `lines` lines and removes those before them.
fn seek_to_last(files: &mut VecDeque<File>, lines: usize) -> io::Result<()> {
    let mut missing = lines;
    for index in (0..files.len()).rev() {
        missing = seek_in(&mut files[index], missing)?;
        if missing == 0 {
            files.drain(..index);
            break;
        }
    }
    Ok(())
}

/// Searches backwards from the end, so that the size of the file does not matter. Returns the number of missing lines.
fn seek_in(file: &mut File, lines: usize) -> io::Result<usize> {
    let mut position = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    // The newline at the end of the last line is not the start of a line.
    let mut left = lines + 1;
    let mut target = position;
    while position > 0 && left > 0 {
        let length = position.min(block.len() as u64);
        position -= length;
        file.seek(SeekFrom::Start(position))?;
        let bytes = &mut block[..length as usize];
        file.read_exact(bytes)?;
        for (offset, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            left -= 1;
            if left == 0 {
                target = position + offset as u64 + 1;
                break;
            }
        }
    }
    if left > 0 {
        target = 0;
    }
    file.seek(SeekFrom::Start(target))?;
    Ok(left.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn log(count: usize) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let text: String = (0..count)
            .map(|i| format!("{{\"log\":\"{i}\\n\",\"stream\":\"stdout\",\"time\":\"\"}}\n"))
            .collect();
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    async fn texts(path: &Path, tail: Option<usize>) -> Vec<String> {
        let mut logs = read(path, tail, None).unwrap();
        let mut texts = Vec::new();
        while let Some(line) = logs.next().await.unwrap() {
            texts.push(line.log.trim_end().to_owned());
        }
        texts
    }

    #[tokio::test]
    async fn the_tail_is_the_last_lines() {
        let (_dir, path) = log(5000);
        assert_eq!(texts(&path, Some(2)).await, ["4998", "4999"]);
        assert_eq!(texts(&path, Some(300)).await.len(), 300);
        assert_eq!(texts(&path, Some(0)).await.len(), 0);
        assert_eq!(texts(&path, Some(9000)).await.len(), 5000);
        assert_eq!(texts(&path, None).await.len(), 5000);
    }

    #[tokio::test]
    async fn the_tail_reaches_into_older_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = rotation::tests::small(&path, 200);
        for number in 0..40 {
            log.append(
                format!("{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"\"}}\n").as_bytes(),
            );
        }
        let all = texts(&path, None).await;
        assert!(all.len() > 10 && all.len() < 40, "the oldest are gone: {all:?}");
        for tail in 0..all.len() {
            assert_eq!(texts(&path, Some(tail)).await, all[all.len() - tail..], "{tail}");
        }
        assert_eq!(all.last().map(String::as_str), Some("39"));
    }

    #[tokio::test]
    async fn a_missing_log_is_empty() {
        assert_eq!(texts(Path::new("/nonexistent/log"), Some(3)).await.len(), 0);
    }

    #[tokio::test]
    async fn lines_that_are_not_records_are_skipped() {
        let (_dir, path) = log(1);
        let text = format!("garbage\n{}{{\"log\":", fs::read_to_string(&path).unwrap());
        fs::write(&path, text).unwrap();
        assert_eq!(texts(&path, None).await, ["0"]);
    }
}
