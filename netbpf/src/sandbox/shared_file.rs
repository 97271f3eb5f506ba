//! Files that a container can change while the daemon reads and writes them. Everything about such a file is hostile:
//! its size, its type, and the target of its path at the moment it is opened. Knows no file format.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use nix::libc;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::fault;

/// The maximum size that is read, in bytes. Only a user of the container would make a larger file.
const LIMIT: usize = 64 * 1024;

/// A file that a container can change, held open so that the file that was checked is the one that is written.
#[derive(Debug)]
pub struct SharedFile(File);

impl SharedFile {
    /// Opens `name` below `dir`; `None` if there is no such file. The path to `dir` may contain symlinks. Below it,
    /// symlinks are refused (`openat2`, Linux 5.6), as is everything but a regular file with one name, and opening
    /// never blocks.
    ///
    /// # Errors
    /// `ELOOP` for a symlink and `EXDEV` for a name that leads out of `dir`; `EISDIR`, `ENXIO` or
    /// [`io::ErrorKind::InvalidInput`] for anything else but a regular file with one name.
    pub fn open(dir: &Path, name: &Path) -> io::Result<Option<SharedFile>> {
        match open_below(dir, name, OFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Like [`SharedFile::open`], but creates a missing file, empty and readable by all. `dir` must exist.
    ///
    /// # Errors
    /// As of [`SharedFile::open`]; also `ENOENT` if there is no `dir`, and `ENOSPC` on a full disk.
    pub fn open_or_create(dir: &Path, name: &Path) -> io::Result<SharedFile> {
        open_below(dir, name, OFlags::CREATE)
    }

    /// Reads the contents; `None` if they are longer than 64 KiB. A huge sparse file costs nothing.
    ///
    /// # Errors
    /// If the file system cannot read it (`EIO`).
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        // Reads one byte beyond the limit, which also notices a file that grows meanwhile.
        let mut content = vec![0; LIMIT + 1];
        let mut length = 0;
        loop {
            match self.0.read_at(&mut content[length..], length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        content.truncate(length);
        Ok((length <= LIMIT).then_some(content))
    }

    /// Replaces the contents. The inode stays the same, so every sandbox with this mount sees the change, and the file
    /// is never empty in between.
    ///
    /// # Errors
    /// If the file system cannot write it (`ENOSPC`, `EIO`). The file may then have the beginning of the new contents
    /// and the rest of the old ones.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        fault::call("write a file")?;
        self.0.write_all_at(content, 0)?;
        self.0.set_len(content.len() as u64)
    }
}

fn open_below(dir: &Path, name: &Path, more: OFlags) -> io::Result<SharedFile> {
    let dir: OwnedFd =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir)?.into();
    // Without O_NONBLOCK, a FIFO of this name would block us until somebody opens its other end.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mode = if more.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
    let file = File::from(openat2(&dir, name, flags | more, mode, resolve)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file with one name"));
    }
    Ok(SharedFile(file))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    const NAME: &str = "hosts";

    fn open(dir: &Path) -> io::Result<Option<SharedFile>> {
        SharedFile::open(dir, NAME.as_ref())
    }

    #[test]
    fn replacing_the_contents_keeps_the_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        assert!(open(dir.path()).unwrap().is_none());
        let file = SharedFile::open_or_create(dir.path(), NAME.as_ref()).unwrap();
        file.replace(b"127.0.0.1\tlocalhost\n10.0.0.1\ta\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        file.replace(b"127.0.0.1\tlocalhost\n").unwrap();
        for _ in 0..2 {
            assert_eq!(file.read().unwrap().unwrap(), b"127.0.0.1\tlocalhost\n");
        }
        assert_eq!(fs::read(&path).unwrap(), b"127.0.0.1\tlocalhost\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn a_file_larger_than_the_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = SharedFile::open_or_create(dir.path(), NAME.as_ref()).unwrap();
        file.0.set_len(LIMIT as u64).unwrap();
        assert_eq!(file.read().unwrap().unwrap().len(), LIMIT);
        for size in [LIMIT as u64 + 1, 1 << 40] {
            file.0.set_len(size).unwrap();
            assert!(file.read().unwrap().is_none(), "{size}");
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        mkfifo(&path, Mode::S_IRUSR).unwrap();
        assert_eq!(open(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(open(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        symlink(&outside, inside.join(NAME)).unwrap();
        assert!(open(&inside).is_err(), "a dangling link");
        assert!(SharedFile::open_or_create(&inside, NAME.as_ref()).is_err());
        assert!(!outside.exists(), "nothing is created behind a link");
        fs::write(&outside, "").unwrap();
        assert!(open(&inside).is_err(), "a link to a file");
        fs::remove_file(inside.join(NAME)).unwrap();
        fs::hard_link(&outside, inside.join(NAME)).unwrap();
        assert!(open(&inside).is_err(), "a file with another name");
        symlink("inside", dir.path().join("link")).unwrap();
        fs::write(inside.join("other"), "").unwrap();
        assert!(SharedFile::open(dir.path(), "link/other".as_ref()).is_err(), "a link on the way");
        assert!(SharedFile::open(&dir.path().join("link"), "other".as_ref()).unwrap().is_some());
        assert!(SharedFile::open(&inside, "../outside".as_ref()).is_err(), "a way out");
    }
}
