//! Settings of the host that the daemon changed, with their previous values, in a file: if a daemon is
//! killed, the next one can restore them. A boot resets the settings, so the file is valid for one boot. Must
//! not know settings by name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::files;
use crate::daemon::{Error, parts::Sysctls};

/// A value that is different after each boot.
const BOOT: &str = "kernel/random/boot_id";

/// The name of the file.
const FILE: &str = "settings.json";

/// The changed settings.
pub struct Settings {
    dir: PathBuf,
    sysctls: Sysctls,
    changed: Mutex<Record>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    boot: String,
    /// The changes in their order.
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    /// Below `/proc/sys`.
    setting: String,
    before: String,
    after: String,
}

impl Settings {
    /// Loads the changes of earlier daemons. A setting that somebody else changed since does not count any
    /// more.
    ///
    /// # Errors
    /// [`Error::Link`] if the boot ID cannot be read; [`Error::File`] if the file cannot be.
    pub fn open(state_dir: &Path, sysctls: Sysctls) -> Result<Self, Error> {
        let path = state_dir.join(FILE);
        let boot = sysctls.read(BOOT)?;
        let mut record = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Record>(&bytes).map_err(|error| Error::File {
                operation: "read",
                path: path.clone(),
                source: error.into(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(source) => return Err(Error::File { operation: "read", path, source }),
        };
        if record.boot != boot {
            record.changes.clear();
        }
        record
            .changes
            .retain(|change| sysctls.read(&change.setting).is_ok_and(|value| value == change.after));
        Ok(Self { dir: state_dir.to_owned(), sysctls, changed: Mutex::new(Record { boot, ..record }) })
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// [`Error::Link`] if this kernel has no such setting.
    pub fn read(&self, setting: &str) -> Result<String, Error> {
        Ok(self.sysctls.read(setting)?)
    }

    /// Writes a setting that must have this value as long as the daemon runs, without keeping the previous
    /// one.
    ///
    /// # Errors
    /// [`Error::Link`] if the kernel refuses the value.
    pub fn write(&self, setting: &str, value: &str) -> Result<(), Error> {
        Ok(self.sysctls.write(setting, value).map(drop)?)
    }

    /// Whether netbpf changed the setting.
    pub fn is_ours(&self, setting: &str) -> bool {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.changes.iter().any(|change| change.setting == setting)
    }

    /// Changes a setting. Its previous value is stored before. Returns whether this changed it: if not, it
    /// had the value already, or netbpf changed it earlier.
    ///
    /// # Errors
    /// [`Error::Link`] or [`Error::File`]: nothing was changed.
    pub fn change(&self, setting: &str, value: &str) -> Result<bool, Error> {
        let before = self.read(setting)?;
        if before == value {
            return Ok(false);
        }
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !changed.changes.iter().any(|change| change.setting == setting);
        if is_new {
            let change = Change { setting: setting.into(), before: before.clone(), after: value.into() };
            changed.changes.push(change);
        }
        let written = self.save(&changed).and_then(|()| self.write(setting, value));
        if let Err(error) = written {
            if is_new {
                changed.changes.pop();
                // The error to return is that of the change.
                if let Err(error) = self.save(&changed) {
                    tracing::warn!("undo: {error}");
                }
            }
            return Err(error);
        }
        tracing::info!("set {} to {value}; it was {before}", setting.replace('/', "."));
        Ok(is_new)
    }

    /// Restores a setting, if it still has netbpf's value.
    ///
    /// # Errors
    /// [`Error::Link`] or [`Error::File`]: the next attempt restores it.
    pub fn restore(&self, setting: &str) -> Result<(), Error> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let index = changed.changes.iter().position(|change| change.setting == setting);
        if let Some(index) = index {
            self.write_before(&changed.changes[index])?;
            let restored = changed.changes.remove(index);
            // Kept until the file no longer has it, so that the next attempt writes the file again.
            self.save(&changed).inspect_err(|_| changed.changes.insert(index, restored))?;
        }
        Ok(())
    }

    /// Restores all settings that still have netbpf's value, in reverse order.
    ///
    /// # Errors
    /// [`Error::Link`] or [`Error::File`]: the next attempt restores the rest.
    pub fn put_back(&self) -> Result<(), Error> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(change) = changed.changes.last() {
            self.write_before(change)?;
            changed.changes.pop();
        }
        self.save(&changed)
    }

    fn write_before(&self, Change { setting, before, after }: &Change) -> Result<(), Error> {
        // The interface may not exist any more.
        if self.read(setting).is_ok_and(|value| value == *after) {
            self.write(setting, before)?;
            tracing::info!("set {} back to {before}", setting.replace('/', "."));
        }
        Ok(())
    }

    /// Writes the file completely, or removes it if there are no changes.
    fn save(&self, record: &Record) -> Result<(), Error> {
        let path = self.dir.join(FILE);
        let failed = |source| Error::File { operation: "write", path: path.clone(), source };
        if record.changes.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            };
        }
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        files::write_whole(&self.dir, FILE, &text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::daemon::parts::Machine;

    const FORWARD: &str = "net/ipv4/ip_forward";
    const FORWARD_IPV6: &str = "net/ipv6/conf/all/forwarding";

    /// A host on which both settings were changed.
    fn changed(dir: &Path) -> (Machine, Settings) {
        let machine = Machine::default();
        let settings = Settings::open(dir, Sysctls { machine: machine.clone() }).unwrap();
        for setting in [FORWARD, FORWARD_IPV6] {
            assert!(settings.change(setting, "1").unwrap());
        }
        (machine, settings)
    }

    /// Whether the file has this setting.
    fn notes(dir: &Path, setting: &str) -> bool {
        fs::read_to_string(dir.join(FILE)).is_ok_and(|text| text.contains(setting))
    }

    #[test]
    fn a_setting_that_cannot_be_restored_is_restored_by_the_next_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let (machine, settings) = changed(dir.path());
        machine.fail_at(1);
        settings.put_back().unwrap_err();
        assert!(settings.is_ours(FORWARD_IPV6) && notes(dir.path(), FORWARD_IPV6));
        settings.put_back().unwrap();
        assert_eq!(machine.state().settings, BTreeMap::new());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_written_by_the_next_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let (_, settings) = changed(dir.path());
        fs::remove_dir_all(dir.path()).unwrap();
        settings.restore(FORWARD).unwrap_err();
        fs::create_dir(dir.path()).unwrap();
        settings.restore(FORWARD).unwrap();
        assert!(notes(dir.path(), FORWARD_IPV6) && !notes(dir.path(), FORWARD));
    }
}
