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
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The kernel's setting.
const SETTING: &str = "/sys/kernel/rcu_expedited";
/// Where a daemon notes that it has turned the setting on: one that was killed leaves it so.
const NOTE: &str = "rcu_expedited";

/// The setting, where it can be written.
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

    /// Until what is returned is dropped.
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

    /// False: somebody else has it on, and it is not ours to turn off.
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

    /// A setting that says `value`, in a folder of its own.
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
    fn it_is_on_from_the_first_to_the_last_that_wants_it() {
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
    fn what_somebody_else_turned_on_stays_on() {
        let (folder, setting) = host("1\n");
        let periods = GracePeriods::open_at(&setting, folder.path().join(NOTE));
        let first = periods.expedite();
        assert!(!folder.path().join(NOTE).exists());
        drop(first);
        assert_eq!(value(&setting), "1\n");
        // Another one on the same host, whose step has ended.
        fs::write(&setting, "0\n").unwrap();
        let second = periods.expedite();
        assert_eq!(value(&setting), "1\n");
        drop(second);
        assert_eq!(value(&setting), "0\n");
    }

    #[test]
    fn what_a_killed_daemon_left_on_is_turned_off() {
        let (folder, setting) = host("1\n");
        let note = folder.path().join(NOTE);
        fs::write(&note, "").unwrap();
        let _periods = GracePeriods::open_at(&setting, note.clone());
        assert_eq!((&*value(&setting), note.exists()), ("0\n", false));
    }

    #[test]
    fn a_host_without_the_setting_does_without() {
        let folder = tempfile::tempdir().unwrap();
        let periods = GracePeriods::open_at(&folder.path().join("none"), folder.path().join(NOTE));
        drop(periods.expedite());
        assert!(!folder.path().join("none").exists());
    }
}
