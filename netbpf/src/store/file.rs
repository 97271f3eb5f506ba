//! The file of the store: created atomically, examined before redb opens it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use redb::{
    Database, StorageBackend,
    backends::{FileBackend, InMemoryBackend},
};

use super::{Error, Records, record};

/// The size of redb's cache in bytes; the records of a thousand containers fit.
const CACHE_BYTES: usize = 4 << 20;

/// The first bytes of every redb file.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Opens a file that [`examine`] accepted.
pub fn open(path: &Path) -> Result<Database, redb::Error> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES).open(path)?)
}

/// Creates an empty store under another name and renames it, so that a crash leaves no incomplete store. Only root may
/// read it, because the records contain environment variables.
pub fn create(path: &Path) -> Result<(), redb::Error> {
    let fresh = path.with_added_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&fresh)?;
    let database =
        Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(FileBackend::new(file)?)?;
    let transaction = database.begin_write()?;
    record::initialise(&transaction)?;
    transaction.commit()?;
    drop(database);
    File::open(&fresh)?.sync_all()?;
    fs::rename(&fresh, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Reads the records from a copy in memory. redb writes to every file that it opens, even to a damaged one or one that
/// is not netbpf's. `None` if there is no file.
pub fn examine(path: &Path) -> Result<Option<Records>, Error> {
    let refused =
        |source: Box<dyn std::error::Error + Send + Sync>| Error::Refused { path: path.to_owned(), source };
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error.into())),
    };
    let database = open_copy(&bytes).map_err(|error| refused(error.into()))?;
    match super::read(&database) {
        Ok(records) => Ok(Some(records)),
        Err(record::Error::Format(found)) => Err(Error::Format { path: path.to_owned(), found }),
        Err(error) => Err(refused(error.into())),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut bytes = vec![0; MAGIC.len()];
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(io::Error::other("truncated")),
        Err(error) => Err(error),
        Ok(()) if bytes != MAGIC => Err(io::Error::other("not a redb file")),
        Ok(()) => file.read_to_end(&mut bytes).map(|_| bytes),
    }
}

/// Opens a copy of a file.
pub fn open_copy(bytes: &[u8]) -> Result<Database, redb::Error> {
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64)?;
    copy.write(0, bytes)?;
    Ok(Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(copy)?)
}
