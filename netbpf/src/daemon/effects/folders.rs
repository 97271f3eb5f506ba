//! Folders of containers, and who may pass through them.

use std::{fs, io::ErrorKind, path::PathBuf};

use tokio::task::block_in_place;

use super::{files, insist::insist_at_once};
use crate::{
    daemon::{Daemon, Error, fault},
    model::Id,
};

/// Who besides root may use the API, if the group exists.
pub(in crate::daemon) const GROUP: &str = "netbpf";
/// What a container prints, in its folder.
pub(in crate::daemon) const LOG: &str = "log.jsonl";

impl Daemon {
    /// What a container's sandbox keeps on disk: its `/etc` files and its output.
    pub(in crate::daemon) fn container_dir(&self, id: &Id) -> PathBuf {
        self.options.state_dir.join("containers").join(id.to_string())
    }

    /// Where a container's supervisor listens.
    pub(in crate::daemon) fn supervisor_dir(&self, id: &Id) -> PathBuf {
        self.options.run_dir.join("containers").join(id.to_string())
    }

    pub(in crate::daemon) fn log_path(&self, id: &Id) -> PathBuf {
        self.container_dir(id).join(LOG)
    }

    /// Remove what a container that is forgotten has left.
    pub(in crate::daemon) fn remove_dirs(&self, id: &Id) {
        if let Err(error) = block_in_place(|| files::give_back(&self.container_dir(id))) {
            tracing::error!(container = %id.short(), %error, "give resolv.conf back");
        }
        for dir in [self.container_dir(id), self.supervisor_dir(id)] {
            insist_at_once("remove a folder", || {
                fault::before("remove a folder")?;
                match fs::remove_dir_all(&dir) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        Err(Error::File { operation: "remove", path: dir.clone(), source })
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            });
        }
    }
}

/// The group's number, if it exists.
pub(in crate::daemon) fn group() -> Option<u32> {
    nix::unistd::Group::from_name(GROUP).ok().flatten().map(|group| group.gid.as_raw())
}
