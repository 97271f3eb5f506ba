//! Expedites RCU grace periods. To attach a program to an interface (tcx) and to detach it, the kernel waits
//! for a grace period while it holds its lock on all links: 4 to 10 ms in which no link can change. For its
//! own changes of interfaces the kernel uses expedited ones (`synchronize_net`, since Linux 3.0), which take
//! a tenth of a millisecond; tcx does not. So all grace periods are expedited during such a step, by the
//! kernel's setting (`/sys/kernel/rcu_expedited`, Documentation/admin-guide/kernel-parameters.txt). On a host
//! that forbids expedited ones (`rcu_normal`, real time), that setting takes precedence.
//!
//! Must not know steps or interfaces.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The kernel's setting.
const SETTING: &str = "/sys/kernel/rcu_expedited";
/// The file that notes that a daemon turned the setting on, in case it is killed.
const NOTE: &str = "rcu_expedited";

/// The setting, if it can be written.
pub struct GracePeriods {
    setting: Option<Setting>,
}

struct Setting {
    file: File,
    note: PathBuf,
    /// Number of steps that need it.
    users: Mutex<usize>,
}

/// Grace periods are expedited until this is dropped.
pub struct Expedited<'a>(Option<&'a Setting>);

impl GracePeriods {
    /// Restores the setting if a daemon with the same directory was killed while it was on.
    pub fn open(run_dir: &Path) -> Self {
        Self::open_at(Path::new(SETTING), run_dir.join(NOTE))
    }

    /// For a host without the setting.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { setting: None }
    }

    fn open_at(setting: &Path, note: PathBuf) -> Self {
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(setting)?;
            let setting = Setting { file, note, users: Mutex::new(0) };
            if setting.note.exists() {
                setting.turn_off()?;
            }
            Ok(setting)
        };
        let setting = open().inspect_err(told).ok();
        Self { setting }
    }

    /// Expedite grace periods until the result is dropped.
    pub fn expedite(&self) -> Expedited<'_> {
        let Some(setting) = &self.setting else { return Expedited(None) };
        let mut users = setting.users();
        if *users == 0 && !setting.turn_on().inspect_err(told).unwrap_or_default() {
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

    /// False if somebody else has turned it on: then it must stay on.
    fn turn_on(&self) -> io::Result<bool> {
        let mut value = [0];
        self.file.read_exact_at(&mut value, 0)?;
        if value != *b"0" {
            return Ok(false);
        }
        fs::write(&self.note, "")?;
        self.file.write_all_at(b"1", 0)?;
        Ok(true)
    }

    fn turn_off(&self) -> io::Result<()> {
        self.file.write_all_at(b"0", 0)?;
        fs::remove_file(&self.note)
    }
}

impl Drop for Expedited<'_> {
    fn drop(&mut self) {
        let Some(setting) = self.0 else { return };
        let mut users = setting.users();
        *users -= 1;
        if *users == 0
            && let Err(error) = setting.turn_off()
        {
            tracing::warn!(%error, "turn {SETTING} off");
        }
    }
}

fn told(error: &io::Error) {
    tracing::debug!(%error, "grace periods take their time");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setting with `value`, in a directory of its own.
    fn host(value: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("setting");
        fs::write(&setting, value).unwrap();
        (folder, setting)
    }

    fn value(setting: &Path) -> String {
        fs::read_to_string(setting).unwrap()
    }

    #[test]
    fn it_is_on_from_the_first_step_to_the_last() {
        let (folder, setting) = host("0\n");
        let note = folder.path().join(NOTE);
        let periods = GracePeriods::open_at(&setting, note.clone());
        let first = periods.expedite();
        let second = periods.expedite();
        assert_eq!((&*value(&setting), note.exists()), ("1\n", true));
        drop(first);
        assert_eq!((&*value(&setting), note.exists()), ("1\n", true));
        drop(second);
        assert_eq!((&*value(&setting), note.exists()), ("0\n", false));
    }

    #[test]
    fn it_stays_on_if_somebody_else_turned_it_on() {
        let (folder, setting) = host("1\n");
        let periods = GracePeriods::open_at(&setting, folder.path().join(NOTE));
        let first = periods.expedite();
        assert!(!folder.path().join(NOTE).exists());
        drop(first);
        assert_eq!(value(&setting), "1\n");
        // Another daemon on the same host, whose step has ended.
        fs::write(&setting, "0\n").unwrap();
        let second = periods.expedite();
        assert_eq!(value(&setting), "1\n");
        drop(second);
        assert_eq!(value(&setting), "0\n");
    }

    #[test]
    fn it_is_turned_off_after_a_killed_daemon() {
        let (folder, setting) = host("1\n");
        let note = folder.path().join(NOTE);
        fs::write(&note, "").unwrap();
        let _periods = GracePeriods::open_at(&setting, note.clone());
        assert_eq!((&*value(&setting), note.exists()), ("0\n", false));
    }

    #[test]
    fn a_host_without_the_setting_needs_none() {
        let folder = tempfile::tempdir().unwrap();
        let periods = GracePeriods::open_at(&folder.path().join("none"), folder.path().join(NOTE));
        drop(periods.expedite());
        assert!(!folder.path().join("none").exists());
    }
}
