//! What outlives the daemon: networks and containers, in one redb file. A commit is all or nothing and on the disk when
//! it returns. Knows the model and nothing of the host, the kernel or the API.
//!
//! The file is never trusted: what cannot be read to the last record is refused and left as it is.

mod file;
mod lock;
mod record;

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
};

use redb::{Database, ReadableDatabase};

pub use lock::Lock;

use ipnet::IpNet;

use crate::{
    ipam::Lent,
    model::{Container, Id, Network},
};
use record::Write;

/// Why the store cannot be used, or did not change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path leads to something else, or to a file that is damaged.
    #[error("{path} is no state file of netbpf, or a damaged one, and was left as it is: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Another netbpf wrote it.
    #[error("{path} has format {found}, this netbpf reads format {}; it was left as it is", record::FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// There is no file, and none can be made.
    #[error("create {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: redb::Error,
    },
    /// The file is right but cannot be opened.
    #[error("open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: redb::Error,
    },
    /// Nothing was stored.
    #[error("store in {path}: {source}")]
    Commit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: redb::Error,
    },
    /// Another daemon holds the [`Lock`].
    #[error("another netbpf daemon uses {dir}")]
    Locked {
        /// What both want.
        dir: PathBuf,
    },
    /// The directory cannot be locked.
    #[error("lock {dir}: {source}")]
    Lock {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// All that was stored, in no particular order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// Networks.
    pub networks: Vec<Network>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Subnets that are lent to Docker.
    pub lent: Vec<Lent>,
}

/// A step of a commit.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are a few, for as long as a commit takes")]
pub enum Change {
    /// Adds or replaces a network.
    PutNetwork(Network),
    /// Removes it, if it is there.
    RemoveNetwork(Id),
    /// Adds or replaces a container.
    PutContainer(Container),
    /// Removes it, if it is there.
    RemoveContainer(Id),
    /// Adds or replaces a lent subnet.
    PutLent(Lent),
    /// Removes it, if it is there.
    RemoveLent(IpNet),
}

/// The store.
pub struct Store {
    path: PathBuf,
    opener: Opener,
    /// Closed by a failed commit, opened again by the next one: redb refuses all work after an I/O error.
    database: Option<Database>,
    /// Takes back what a failed commit may have left on the disk all the same.
    undo: Vec<Write>,
}

/// How the file is opened, again and again.
type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::Error> + Send>;

impl Store {
    /// Opens the file, and makes it if there is none. Reads all of it.
    pub fn open(path: &Path) -> Result<(Self, Records), Error> {
        Self::open_with(path, Box::new(file::open))
    }

    fn open_with(path: &Path, opener: Opener) -> Result<(Self, Records), Error> {
        let records = match file::examine(path)? {
            Some(records) => records,
            None => {
                file::create(path).map_err(|source| Error::Create { path: path.to_owned(), source })?;
                Records::default()
            }
        };
        let database = opener(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Ok((Self { path: path.to_owned(), opener, database: Some(database), undo: Vec::new() }, records))
    }

    /// Stores all changes, in this order, or none of them.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        let writes: Vec<_> = changes.iter().map(Write::from).collect();
        self.write(&writes).map_err(|source| {
            // On the disk the commit may have gone through but for its last word. If it cannot be taken back now, for
            // lack of space, the next commit does it first.
            let _ = self.write(&[]);
            Error::Commit { path: self.path.clone(), source }
        })
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.opener)(&self.path)?,
        };
        let transaction = database.begin_write()?;
        let mut undo = Vec::new();
        let applied =
            self.undo.iter().try_for_each(|write| write.apply(&transaction).map(drop)).and_then(|()| {
                writes
                    .iter()
                    .try_for_each(|write| write.apply(&transaction).map(|inverse| undo.insert(0, inverse)))
            });
        match applied.and_then(|()| Ok(transaction.commit()?)) {
            Ok(()) => {
                self.undo.clear();
                self.database = Some(database);
                Ok(())
            }
            Err(error) => {
                self.undo.append(&mut undo);
                Err(error)
            }
        }
    }
}

/// What an open database holds.
fn read(database: &impl ReadableDatabase) -> Result<Records, record::Error> {
    record::read(&database.begin_read().map_err(redb::Error::from)?)
}

#[cfg(test)]
mod tests;
