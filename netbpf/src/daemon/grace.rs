//! Grace periods of RCU. To hang a program on an interface (tcx), and to take one off, the kernel waits for a grace
//! period while it holds its lock on all links: 4 to 10 ms, in which nobody's links can change. Where it changes
//! interfaces itself it asks for expedited ones (`synchronize_net`, since Linux 3.0), which take a tenth of a
//! millisecond; tcx does not. So they are expedited for the time of such a step, by the setting that the kernel has for
//! that (`/sys/kernel/rcu_expedited`, Documentation/admin-guide/kernel-parameters.txt). A host that was told to have
//! none (`rcu_normal`, real time) has none: that setting is the stronger one.
//!
//! Knows no step and no interface.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The kernel's setting.
const SETTING: &str = "/sys/kernel/rcu_expedited";
/// Where a daemon notes that the setting is its to change: one that was killed may have left it on.
const NOTE: &str = "rcu_expedited";

/// The setting, where it is ours to change: it can be written, and nobody else has turned it on.
pub struct GracePeriods {
    setting: Option<Setting>,
}

struct Setting {
    file: File,
    note: PathBuf,
    /// How many steps want it on.
    users: Mutex<usize>,
}

/// Grace periods are expedited for as long as this lives.
pub struct Expedited<'a>(Option<&'a Setting>);

impl GracePeriods {
    /// Puts the setting back if a daemon that used the same folder was killed while it was on.
    pub fn open(run_dir: &Path) -> Self {
        Self::open_at(Path::new(SETTING), run_dir.join(NOTE))
    }

    fn open_at(setting: &Path, note: PathBuf) -> Self {
        let take = || -> io::Result<Option<Setting>> {
            let file = OpenOptions::new().write(true).open(setting)?;
            if note.exists() {
                write(&file, false)?;
            } else if fs::read_to_string(setting)?.trim() != "0" {
                return Ok(None);
            }
            fs::write(&note, "")?;
            Ok(Some(Setting { file, note: note.clone(), users: Mutex::new(0) }))
        };
        let setting = take().unwrap_or_else(|error| {
            tracing::debug!(%error, "grace periods take their time");
            None
        });
        Self { setting }
    }

    /// Until what is returned is dropped.
    pub fn expedite(&self) -> Expedited<'_> {
        let Some(setting) = &self.setting else { return Expedited(None) };
        let mut users = setting.users();
        if *users == 0
            && let Err(error) = write(&setting.file, true)
        {
            tracing::debug!(%error, "grace periods take their time");
            return Expedited(None);
        }
        *users += 1;
        Expedited(Some(setting))
    }
}

impl Setting {
    fn users(&self) -> MutexGuard<'_, usize> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Expedited<'_> {
    fn drop(&mut self) {
        let Some(setting) = self.0 else { return };
        let mut users = setting.users();
        *users -= 1;
        if *users == 0
            && let Err(error) = write(&setting.file, false)
        {
            tracing::warn!(%error, "{SETTING} stays on");
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.note) {
            tracing::warn!(%error, "remove {}", self.note.display());
        }
    }
}

fn write(mut setting: &File, on: bool) -> io::Result<()> {
    setting.write_all(if on { b"1" } else { b"0" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setting that says `value`, in a folder of its own.
    fn host(value: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("setting");
        fs::write(&setting, value).unwrap();
        (folder, setting)
    }

    /// What was written last: a file of sysfs has one value, a file on disk all that was written to it.
    fn last(setting: &Path) -> char {
        fs::read_to_string(setting).unwrap().chars().last().unwrap()
    }

    #[test]
    fn it_is_on_from_the_first_to_the_last_that_wants_it() {
        let (folder, setting) = host("0");
        let note = folder.path().join(NOTE);
        let periods = GracePeriods::open_at(&setting, note.clone());
        let first = periods.expedite();
        let second = periods.expedite();
        assert_eq!(last(&setting), '1');
        drop(first);
        assert_eq!(last(&setting), '1');
        drop(second);
        assert_eq!(last(&setting), '0');
        assert!(note.exists());
        drop(periods);
        assert!(!note.exists());
    }

    #[test]
    fn what_somebody_else_turned_on_stays_on() {
        let (folder, setting) = host("1\n");
        let periods = GracePeriods::open_at(&setting, folder.path().join(NOTE));
        drop(periods.expedite());
        assert_eq!(fs::read_to_string(&setting).unwrap(), "1\n");
        assert!(!folder.path().join(NOTE).exists());
    }

    #[test]
    fn what_a_killed_daemon_left_on_is_turned_off() {
        let (folder, setting) = host("1");
        fs::write(folder.path().join(NOTE), "").unwrap();
        let _periods = GracePeriods::open_at(&setting, folder.path().join(NOTE));
        assert_eq!(last(&setting), '0');
    }

    #[test]
    fn a_host_without_the_setting_does_without() {
        let folder = tempfile::tempdir().unwrap();
        let periods = GracePeriods::open_at(&folder.path().join("none"), folder.path().join(NOTE));
        drop(periods.expedite());
        assert!(!folder.path().join("none").exists());
    }
}
