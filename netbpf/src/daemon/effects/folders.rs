//! Directories of containers, and the group that may use the API.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tokio::task::block_in_place;

use super::{files, lo, retry::retry_at_once};
use crate::{
    daemon::{Error, fault},
    model::Id,
};

/// The group whose members may use the API, if it exists.
pub(in crate::daemon) const GROUP: &str = "netbpf";
/// The log of a container, in its directory.
pub(in crate::daemon) const LOG: &str = "log.jsonl";

/// Where containers have their directories.
pub struct Folders {
    state_dir: PathBuf,
    run_dir: PathBuf,
}

impl Folders {
    /// Below the daemon's own directories.
    pub fn below(state_dir: &Path, run_dir: &Path) -> Self {
        let [state_dir, run_dir] = [state_dir, run_dir].map(|dir| dir.join("containers"));
        Self { state_dir, run_dir }
    }

    /// The directory of a container's files: `/etc` files and log.
    pub fn of(&self, container: &Id) -> PathBuf {
        self.state_dir.join(container.to_string())
    }

    /// The directory of the supervisor's socket.
    pub fn of_supervisor(&self, container: &Id) -> PathBuf {
        self.run_dir.join(container.to_string())
    }

    /// The log of a container.
    pub fn log_of(&self, container: &Id) -> PathBuf {
        self.of(container).join(LOG)
    }

    /// The containers that have directories.
    ///
    /// # Errors
    /// [`Error::File`] if they cannot be listed.
    pub fn containers(&self) -> Result<BTreeSet<Id>, Error> {
        let mut found = BTreeSet::new();
        for path in [&self.state_dir, &self.run_dir] {
            let entries = match fs::read_dir(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => {
                    entries.map_err(|source| Error::File { operation: "read", path: path.clone(), source })?
                }
            };
            let names = entries.flatten().map(|entry| entry.file_name());
            found.extend(names.filter_map(|name| name.to_str()?.parse::<Id>().ok()));
        }
        Ok(found)
    }

    /// Remove the directories of a removed container, unless its filter at `lo` could not be removed: that is tried
    /// again.
    pub fn remove(&self, container: &Id) {
        if lo::is_noted(&self.of(container)) {
            tracing::error!(container = %container.short(), "the filter at lo could not be removed: it is tried again");
            return;
        }
        if let Err(error) = block_in_place(|| files::give_back(&self.of(container))) {
            tracing::error!(container = %container.short(), %error, "give resolv.conf back");
        }
        for dir in [self.of(container), self.of_supervisor(container)] {
            retry_at_once("remove a folder", || {
                fault::before("remove a folder")?;
                match fs::remove_dir_all(&dir) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        Err(Error::File { operation: "remove", path: dir.clone(), source })
                    }
                    Ok(()) | Err(_) => {
                        fault::after("remove a folder");
                        Ok(())
                    }
                }
            });
        }
    }
}

/// The group's number, if it exists.
pub(in crate::daemon) fn group() -> Option<u32> {
    nix::unistd::Group::from_name(GROUP).ok().flatten().map(|group| group.gid.as_raw())
}
