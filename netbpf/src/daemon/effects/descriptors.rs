//! Free file descriptors: a change that needs some is refused before its first step, with the reason. Half way, the C
//! library reports a missing interface instead.

use std::{fs::File, io};

use crate::daemon::Error;

/// More than the start of a container, or a connection to a network, has open at one time. Published ports are not
/// counted: each reports for itself.
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
