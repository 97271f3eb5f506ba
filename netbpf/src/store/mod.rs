//! The daemon's persistent state: networks and containers, in one redb file. A commit is all or nothing, and is on the
//! disk when it returns. Knows the model, but not the host, the kernel or the API.
//!
//! The file is not trusted: if one record cannot be read, the file is refused and left as it is. One kind of damage cannot
//! be told from an interrupted commit: that of the last commit of a daemon that was killed. Then the commits before it
//! count.

mod file;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
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
    fault,
    ipam::Lent,
    model::{Container, Id, Network},
};
use record::Write;

/// Why the store cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is not a redb file with our tables, or the file is damaged.
    #[error(
        "{path} is no state file of netbpf, or a damaged one, and was left as it is; put a copy of it back, or move \
         it away to start without its networks and containers: {source}"
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Another version of netbpf wrote the file.
    #[error("{path} has format {found}, this netbpf reads format {}; it was left as it is", record::FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u32,
    },
    /// There is no file, and none can be created.
    #[error("create {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: redb::Error,
    },
    /// The file is valid but cannot be opened.
    #[error("open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: redb::Error,
    },
    /// The commit failed. Nothing was stored.
    #[error("store in {path}: {source}")]
    Commit {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: redb::Error,
    },
    /// Another daemon holds the [`Lock`].
    #[error("another netbpf daemon uses {dir}")]
    Locked {
        /// The directory of both daemons.
        dir: PathBuf,
    },
    /// The directory cannot be locked.
    #[error("lock {dir}: {source}")]
    Lock {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// All records, in no particular order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// Networks.
    pub networks: Vec<Network>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Subnets lent to Docker.
    pub lent: Vec<Lent>,
}

/// A change in a commit.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are few, and only during a commit")]
pub enum Change {
    /// Adds or replaces a network.
    PutNetwork(Network),
    /// Removes a network if it is there.
    RemoveNetwork(Id),
    /// Adds or replaces a container.
    PutContainer(Container),
    /// Removes a container if it is there.
    RemoveContainer(Id),
    /// Adds or replaces a lent subnet.
    PutLent(Lent),
    /// Removes a lent subnet if it is there.
    RemoveLent(IpNet),
}

#[cfg(test)]
impl Change {
    /// The container that it changes.
    pub fn container(&self) -> Option<Id> {
        match self {
            Self::PutContainer(container) => Some(container.id),
            Self::RemoveContainer(id) => Some(*id),
            Self::PutNetwork(_) | Self::RemoveNetwork(_) | Self::PutLent(_) | Self::RemoveLent(_) => None,
        }
    }
}

/// The store.
pub struct Store {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failed commit: redb refuses all work after an I/O error, so the next commit opens the file again.
    database: Option<Database>,
    /// Undoes a failed commit, which may be on the disk in spite of the error.
    undo: Vec<Write>,
}

/// Opens the file. Called again after each failed commit.
type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::Error> + Send>;

impl Store {
    /// Opens the file, or creates it if there is none, and reads all records.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Format`] if the file cannot be read; it is left as it is. [`Error::Create`] or
    /// [`Error::Open`] for other failures.
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

    /// Stores all changes in this order, or none of them.
    ///
    /// # Errors
    /// [`Error::Commit`]: nothing was stored, and the store can still be used.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        let writes: Vec<_> = changes.iter().map(Write::from).collect();
        self.write(&writes).map_err(|source| {
            // The failed commit may be on the disk nevertheless. Undo it now; if that fails too (no space), the next
            // commit does it first.
            let _ = self.write(&[]);
            Error::Commit { path: self.path.clone(), source }
        })
    }

    /// Closes the file, so that the next start need not repair it. The next commit would open it again.
    pub fn close(&mut self) {
        self.database = None;
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
        let commit = |()| {
            fault::call("write the store")?;
            Ok(transaction.commit()?)
        };
        match applied.and_then(commit) {
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

/// All records of an open database.
fn read(database: &impl ReadableDatabase) -> Result<Records, record::Error> {
    record::read(&database.begin_read().map_err(redb::Error::from)?)
}

#[cfg(test)]
mod tests;
