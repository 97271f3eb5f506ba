//! Reading a sandbox's log, also while it grows.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::{
    Supervisor,
    error::{Error, call},
    sys,
};
use crate::api::types::LogLine;

const BLOCK: usize = 64 * 1024;

/// A position in a log.
#[derive(Debug)]
pub struct Logs {
    path: PathBuf,
    file: File,
    /// Read but not handed out, from `next` on.
    buffer: Vec<u8>,
    next: usize,
    /// Tells that the log has grown, or that its writer has closed it.
    watch: Option<AsyncFd<OwnedFd>>,
}

/// Reads the log at `path`: its last `tail` lines, all if absent. With `follow`, also those to come, until that
/// supervisor's container has ended. A log that was never written is empty.
pub fn read(path: &Path, tail: Option<usize>, follow: Option<&Supervisor>) -> Result<Logs, Error> {
    let failed = || call::<io::Error>("read", path.display());
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && follow.is_none() => {
            File::open("/dev/null").map_err(failed())?
        }
        result => result.map_err(failed())?,
    };
    let watch = follow.map(|_| watch(path)).transpose().map_err(failed())?;
    // If it lives now, its closing of the log is still to come, and the watch will tell.
    let watch = watch.filter(|_| follow.is_some_and(Supervisor::is_alive));
    if let Some(lines) = tail {
        seek_to_last(&mut file, lines).map_err(failed())?;
    }
    Ok(Logs { path: path.to_owned(), file, buffer: Vec::new(), next: 0, watch })
}

impl Logs {
    /// The next line; `None` at the end. Can be dropped at any point and called again.
    pub async fn next(&mut self) -> Result<Option<LogLine>, Error> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(Some(line));
            }
            if self.fill().map_err(call("read", self.path.display()))? > 0 {
                continue;
            }
            let Some(watch) = &self.watch else { return Ok(None) };
            let failed = || call::<io::Error>("watch", self.path.display());
            let mut ready = watch.readable().await.map_err(failed())?;
            match ready.try_io(|watch| closed(watch.get_ref())) {
                Ok(Ok(true)) => {
                    drop(ready);
                    self.watch = None;
                }
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => return Err(failed()(error)),
            }
        }
    }

    /// A whole line that was read. One that is no record is passed over.
    fn buffered(&mut self) -> Option<LogLine> {
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
        self.buffer.drain(..self.next);
        self.next = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + BLOCK, 0);
        let read = self.file.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + read.as_ref().unwrap_or(&0));
        read
    }
}

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, path, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE)?;
    sys::register(watch)
}

/// Takes what the watch has to say: whether the log's writer has closed it.
fn closed(watch: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut closed = events.next()?.events().contains(ReadFlags::CLOSE_WRITE);
    while !events.is_buffer_empty() {
        closed |= events.next()?.events().contains(ReadFlags::CLOSE_WRITE);
    }
    Ok(closed)
}

/// From the end backwards, so that the size of the log does not matter.
fn seek_to_last(file: &mut File, lines: usize) -> io::Result<()> {
    let mut position = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    // The last line's own newline is not a boundary before it.
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
    file.seek(SeekFrom::Start(target)).map(drop)
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
    async fn a_log_that_was_never_written_is_empty() {
        assert_eq!(texts(Path::new("/nonexistent/log"), Some(3)).await.len(), 0);
    }

    #[tokio::test]
    async fn what_is_no_record_is_passed_over() {
        let (_dir, path) = log(1);
        let text = format!("garbage\n{}{{\"log\":", fs::read_to_string(&path).unwrap());
        fs::write(&path, text).unwrap();
        assert_eq!(texts(&path, None).await, ["0"]);
    }
}
