//! The daemon's directory on the bpffs: locks it, and restores pins that somebody removed, one by one, with their
//! directories or with the whole bpffs.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{io::unix::AsyncFd, task::block_in_place};

use super::host::Host;
use crate::{
    datapath::{self, Datapath, RestoredPins},
    sandbox::register,
    store::{self, Lock},
};

/// The locked directory, which is removed with the daemon if nothing is pinned.
pub struct PinFolder {
    path: PathBuf,
    lock: Mutex<Option<Lock>>,
    /// Why pins could not be restored.
    trouble: Mutex<Option<String>>,
}

impl PinFolder {
    /// Creates and locks the directory.
    pub fn take(path: &Path) -> Result<Self, Unavailable> {
        Datapath::prepare(path)?;
        Ok(Self {
            lock: Mutex::new(Some(Lock::acquire(path)?)),
            path: path.to_owned(),
            trouble: Mutex::default(),
        })
    }

    /// For a host without pins.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { path: PathBuf::new(), lock: Mutex::default(), trouble: Mutex::default() }
    }

    /// Removes the directory if nothing is pinned.
    pub fn leave(&self) {
        // The lock is in the directory.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Err(error) = Datapath::leave(&self.path) {
            tracing::warn!("{error}");
        }
    }

    /// Why pins are missing, if some are.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Locks the directory that has replaced the locked one.
    fn lock_again(&self) -> Result<(), store::Error> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lock.take());
        *lock = Some(Lock::acquire(&self.path)?);
        Ok(())
    }

    /// Reports a failure, if it is a new one.
    fn note(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = trouble.as_ref().filter(|trouble| known.as_ref() != Some(*trouble)) {
            tracing::error!("{trouble}");
        }
        *known = trouble;
    }
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// It could not be created.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// It could not be locked.
    #[error(transparent)]
    Lock(#[from] store::Error),
}

/// Receives the events after which pins may be missing.
pub struct PinWatch {
    inotify: Inotify,
    removals: AsyncFd<OwnedFd>,
    /// The kernel reports mounts and unmounts at this file.
    mounts: AsyncFd<OwnedFd>,
}

impl PinWatch {
    fn open(folders: &[PathBuf]) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let removals = register(inotify.as_fd().try_clone_to_owned()?)?;
        let mounts = register(File::open("/proc/self/mountinfo")?.into())?;
        let watch = Self { inotify, removals, mounts };
        watch.follow(folders)?;
        Ok(watch)
    }

    fn follow(&self, folders: &[PathBuf]) -> nix::Result<()> {
        let kinds = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF;
        folders.iter().try_for_each(|folder| self.inotify.add_watch(folder, kinds).map(drop))
    }

    /// Waits for an event. Loses none if the future is dropped: the caller looks at everything.
    async fn changed(&self) -> std::io::Result<()> {
        tokio::select! {
            ready = self.removals.readable() => {
                let mut ready = ready?;
                while self.inotify.read_events().is_ok() {}
                ready.clear_ready();
            }
            ready = self.mounts.readable() => ready?.clear_ready(),
        }
        Ok(())
    }
}

impl Host {
    /// Watches the pins; without it, they are not restored.
    pub(super) fn watch_pins(&self) -> Option<PinWatch> {
        let folders = self.datapath().pin_folders();
        PinWatch::open(&folders)
            .inspect_err(|error| tracing::error!(%error, "removed pins are not restored"))
            .ok()
    }

    /// Waits until somebody removed pins, and restores them.
    pub(super) async fn restore_lost_pins(&self, watch: Option<&PinWatch>) {
        let Some(watch) = watch else { return std::future::pending().await };
        loop {
            if let Err(error) = watch.changed().await {
                tracing::error!(%error, "removed pins are not restored any more");
                return std::future::pending().await;
            }
            if self.restore_pins(watch) {
                return;
            }
        }
    }

    /// Restores pins that somebody removed; returns whether there were any.
    pub(super) fn restore_pins(&self, watch: &PinWatch) -> bool {
        let mut were_missing = false;
        loop {
            match self.restore_missing(watch) {
                // Something may have been removed before its new directory was watched.
                Ok(true) => were_missing = true,
                Ok(false) => {
                    self.pins.note(None);
                    return were_missing;
                }
                Err(trouble) => {
                    self.pins.note(Some(trouble));
                    return were_missing;
                }
            }
        }
    }

    /// Restores what is missing now, and watches all directories, of which any may be a new one.
    fn restore_missing(&self, watch: &PinWatch) -> Result<bool, String> {
        let restored = block_in_place(|| self.datapath().restore_pins());
        let RestoredPins { pins, is_new_folder } =
            restored.map_err(|error| format!("pins that somebody removed are missing: {error}"))?;
        if is_new_folder {
            let path = self.pins.path.display();
            let count = pins.len();
            let text = format!("somebody removed what is pinned in {path}: {count} are pinned again");
            self.repairs.note(text);
        } else {
            for pin in &pins {
                let text = format!("somebody removed {}: it is pinned again", pin.display());
                self.repairs.note(text);
            }
        }
        let folders = self.datapath().pin_folders();
        watch.follow(&folders).map_err(|error| format!("watch the directories of pins: {error}"))?;
        if is_new_folder {
            self.pins.lock_again().map_err(|error| error.to_string())?;
        }
        Ok(is_new_folder || !pins.is_empty())
    }
}
