//! Rewriting a file that is bind-mounted somewhere: a rename would leave the old one there.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Makes `contents` the file's contents and keeps the file, so that every sandbox it is mounted in sees them. It is
/// never empty between the two. A missing file is made, readable by all.
pub fn write_in_place(path: &Path, contents: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    file.write_all_at(contents, 0)?;
    file.set_len(contents.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_stays_and_its_contents_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        write_in_place(&path, b"127.0.0.1\tlocalhost\n10.0.0.1\ta\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        write_in_place(&path, b"127.0.0.1\tlocalhost\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"127.0.0.1\tlocalhost\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }
}
