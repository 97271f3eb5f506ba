//! Refuses a change before its first step, with the reason, if too few file descriptors are free. Later, the
//! C library would report a missing interface instead.

use std::{fs::File, io};

use crate::daemon::Error;

/// More than the start of a container, or a connection to a network, opens at once. Published ports are not
/// counted: each reports its own error.
const NEEDED: usize = 48;

/// Checks that enough descriptors are free.
pub fn check() -> Result<(), Error> {
    open(NEEDED).map(drop).map_err(Error::Descriptors)
}

fn open(count: usize) -> io::Result<Vec<File>> {
    let first = File::open("/dev/null")?;
    let mut files = (1..count).map(|_| first.try_clone()).collect::<io::Result<Vec<_>>>()?;
    files.push(first);
    Ok(files)
}
