//! Directories of containers, and the group that may use the API.

use std::{fs, io::ErrorKind, path::PathBuf};

use tokio::task::block_in_place;

use super::{files, retry::retry_at_once};
use crate::{
    daemon::{Daemon, Error, fault},
    model::Id,
};

/// The group whose members may use the API, if it exists.
pub(in crate::daemon) const GROUP: &str = "netbpf";
/// The log of a container, in its directory.
pub(in crate::daemon) const LOG: &str = "log.jsonl";

impl Daemon {
    /// The directory of a container's files: `/etc` files and log.
    pub(in crate::daemon) fn container_dir(&self, id: &Id) -> PathBuf {
        self.options.state_dir.join("containers").join(id.to_string())
    }

    /// The directory of the supervisor's socket.
    pub(in crate::daemon) fn supervisor_dir(&self, id: &Id) -> PathBuf {
        self.options.run_dir.join("containers").join(id.to_string())
    }

    pub(in crate::daemon) fn log_path(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join(LOG)
    }

    /// Remove the directories of a removed container.
    pub(in crate::daemon) fn remove_dirs(&self, id: &Id) {
        if let Err(error) = block_in_place(|| files::give_back(&self.container_dir(id))) {
            tracing::error!(container = %id.short(), %error, "give resolv.conf back");
        }
        for dir in [self.container_dir(id), self.supervisor_dir(id)] {
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
