//! A log of limited size. A full file is renamed to `NAME.1`, the one before to `NAME.2`, and the oldest is deleted. A
//! record is never split between files, and every file has a name at every moment, so readers miss none.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AtFlags, OFlag, openat, renameat},
    libc,
    sys::stat::Mode,
    unistd::{UnlinkatFlags, linkat, unlinkat},
};

/// The size of a file in bytes and the number of files: those of Docker's `local` log driver (`max-size`, `max-file`).
const SIZE: u64 = 20 * 1024 * 1024;
const FILES: usize = 5;

const MODE: u32 = 0o640;

/// The log of a container, opened for writing.
#[derive(Debug)]
pub(super) struct Log {
    /// The open directory: its path may mean something else in the container's root.
    dir: OwnedFd,
    name: OsString,
    file: File,
    written: u64,
    size: u64,
}

impl Log {
    /// Opens the log at `path` for appending, or creates it.
    pub fn open(path: &Path) -> io::Result<Log> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
        let dir = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(dir)?.into();
        Ok(Log { dir, name: name.to_owned(), written: file.metadata()?.len(), file, size: SIZE })
    }

    /// Appends all records in one write, so that readers see whole ones. If the disk is full they are lost: that must
    /// not stop the command.
    pub fn append(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let length = records.len() as u64;
        if self.written > 0 && self.written + length > self.size {
            // If rotation fails, the file grows beyond its limit.
            let _ = self.rotate();
        }
        if self.file.write_all(records).is_ok() {
            self.written += length;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let name = |number| generation(&self.name, number);
        // Create the new file first: it is the only step that needs disk space.
        let fresh = name(FILES);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_APPEND | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.dir, fresh.as_os_str(), flags, Mode::from_bits_truncate(MODE))?);
        for number in (1..FILES - 1).rev() {
            match renameat(&self.dir, name(number).as_os_str(), &self.dir, name(number + 1).as_os_str()) {
                Ok(()) | Err(nix::Error::ENOENT) => {}
                Err(errno) => {
                    let _ = unlinkat(&self.dir, fresh.as_os_str(), UnlinkatFlags::NoRemoveDir);
                    return Err(errno.into());
                }
            }
        }
        linkat(&self.dir, self.name.as_os_str(), &self.dir, name(1).as_os_str(), AtFlags::empty())?;
        renameat(&self.dir, fresh.as_os_str(), &self.dir, self.name.as_os_str())?;
        // Closes the full file, which notifies followers.
        self.file = file;
        self.written = 0;
        Ok(())
    }
}

/// The possible files of the log at `path`, the newest first.
pub(super) fn files(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = path.file_name().unwrap_or_default();
    (0..FILES).map(move |number| path.with_file_name(generation(name, number)))
}

/// `NAME`, `NAME.1`, …
fn generation(name: &std::ffi::OsStr, number: usize) -> OsString {
    let mut name = name.to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// A log with this file size.
    pub fn small(path: &Path, size: u64) -> Log {
        Log { size, ..Log::open(path).unwrap() }
    }

    #[test]
    fn a_log_has_a_limited_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = small(&path, 10);
        for number in 0..100 {
            log.append(format!("{number:02} four\n").as_bytes());
        }
        let texts: Vec<_> = files(&path).map(|file| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(texts, ["99 four\n", "98 four\n", "97 four\n", "96 four\n", "95 four\n"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), FILES);
    }

    #[test]
    fn a_log_continues_an_existing_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        small(&path, 10).append(b"first\n");
        small(&path, 10).append(b"2nd\n");
        assert_eq!(fs::read(&path).unwrap(), b"first\n2nd\n");
        small(&path, 10).append(b"third\n");
        let texts: Vec<_> = files(&path).take(2).map(|file| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(texts, ["third\n", "first\n2nd\n"]);
    }

    #[test]
    fn one_long_record_has_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = small(&path, 4);
        log.append(b"long\nlong\n");
        log.append(b"a\n");
        assert_eq!(fs::read(&path).unwrap(), b"a\n");
    }
}
