//! The files that netbpf creates for its sandboxes: written before each start, and changed as little as
//! possible while the sandbox runs. They are bind-mounted, so each must stay the same file. Only the sandbox
//! uses them, and it may write them too.

use std::path::Path;

use super::{
    failed,
    hosts::{self, Hosts},
    kept, resolv_conf,
};
use crate::{daemon::Error, sandbox::SharedFile};

const HOSTS: &str = "hosts";
const RESOLV_CONF: &str = "resolv.conf";
const HOSTNAME: &str = "hostname";

/// The lines of `hosts` that are netbpf's.
const LINES: &str = "hosts.lines";

/// The texts of a container's files.
pub struct Texts {
    /// `/etc/hosts`.
    pub hosts: Hosts,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// The content before a change.
#[derive(Default)]
pub struct Before {
    lines: Option<Vec<String>>,
    resolv_conf: Option<Vec<u8>>,
}

/// Creates the files of a container that does not run. As in Docker, the user's changes in `hosts` are lost;
/// an edited `resolv.conf` stays.
pub fn make(dir: &Path, texts: &Texts, hostname: &str) -> Result<(), Error> {
    for (name, text) in [(HOSTS, texts.hosts.text()), (HOSTNAME, hosts::hostname(hostname))] {
        open_or_create(dir, name)?.replace(text.as_bytes()).map_err(failed("write", &dir.join(name)))?;
    }
    kept::write(dir, LINES, &texts.hosts.lines)?;
    match open(dir, RESOLV_CONF)? {
        Some(_) => set_resolv_conf(dir, texts.resolv_conf.as_bytes()).map(drop),
        // An empty file, left by a failed write, would count as edited.
        None => kept::write_whole(dir, RESOLV_CONF, texts.resolv_conf.as_bytes()),
    }
}

/// Updates the files of a running container, and returns what [`take_back`] needs. A file that the user made
/// too large to read is left alone.
pub fn update(dir: &Path, texts: &Texts) -> Result<Before, Error> {
    let lines = set_lines(dir, &texts.hosts.lines)?;
    let mut before = Before { lines, resolv_conf: None };
    let resolv_conf = set_resolv_conf(dir, texts.resolv_conf.as_bytes());
    match resolv_conf {
        Ok(replaced) => {
            before.resolv_conf = replaced;
            Ok(before)
        }
        Err(error) => {
            take_back(dir, before)?;
            Err(error)
        }
    }
}

/// Undoes a change.
pub fn take_back(dir: &Path, before: Before) -> Result<(), Error> {
    if let Some(lines) = before.lines {
        set_lines(dir, &lines)?;
    }
    match before.resolv_conf {
        Some(text) => set_resolv_conf(dir, &text).map(drop),
        None => Ok(()),
    }
}

/// Returns the previous lines, if they changed.
fn set_lines(dir: &Path, after: &[String]) -> Result<Option<Vec<String>>, Error> {
    let before: Vec<String> = kept::read(dir, LINES)?.unwrap_or_default();
    let Some(file) = open(dir, HOSTS)?.filter(|_| before != after) else { return Ok(None) };
    let path = dir.join(HOSTS);
    let Some(text) = file.read().map_err(failed("read", &path))? else {
        say_edited(&path);
        return Ok(None);
    };
    // The note comes afterwards: a daemon that is killed between both writes the same lines again, which
    // changes nothing.
    file.replace(&hosts::exchanged(&text, &before, after)).map_err(failed("write", &path))?;
    if let Err(error) = kept::write(dir, LINES, &after) {
        // The error to return is that of the note.
        if let Err(error) = file.replace(&text).map_err(failed("write", &path)) {
            tracing::warn!("undo: {error}");
        }
        return Err(error);
    }
    Ok(Some(before))
}

/// Returns the previous text, if it changed.
fn set_resolv_conf(dir: &Path, after: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let Some(file) = open(dir, RESOLV_CONF)? else { return Ok(None) };
    let path = dir.join(RESOLV_CONF);
    match file.read().map_err(failed("read", &path))? {
        Some(before) if before == after => Ok(None),
        Some(before) if !is_edited(&before) => {
            file.replace(after).map_err(failed("write", &path))?;
            Ok(Some(before))
        }
        _ => {
            say_edited(&path);
            Ok(None)
        }
    }
}

fn is_edited(text: &[u8]) -> bool {
    resolv_conf::is_edited(&String::from_utf8_lossy(text))
}

fn say_edited(path: &Path) {
    tracing::info!(path = %path.display(), "it was edited by hand and stays as it is");
}

fn open(dir: &Path, name: &str) -> Result<Option<SharedFile>, Error> {
    SharedFile::open(dir, name.as_ref()).map_err(failed("open", &dir.join(name)))
}

fn open_or_create(dir: &Path, name: &str) -> Result<SharedFile, Error> {
    SharedFile::open_or_create(dir, name.as_ref()).map_err(failed("open", &dir.join(name)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::daemon::effects::files::resolv_conf::ResolvConf;

    fn texts(addresses: &[[u8; 4]], server: &str) -> Texts {
        Texts {
            hosts: Hosts::new(false, &[], "web", addresses.iter().map(|address| (*address).into())),
            resolv_conf: ResolvConf::parse("", &format!("nameserver {server}\n")).unchanged(),
        }
    }

    /// A container's directory with its files, and their texts.
    fn made() -> (tempfile::TempDir, Texts) {
        let dir = tempfile::tempdir().expect("a folder");
        let texts = texts(&[[10, 0, 0, 2]], "10.0.0.1");
        make(dir.path(), &texts, "web").expect("made");
        (dir, texts)
    }

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join(name)).expect("a text")
    }

    #[test]
    fn an_undo_keeps_the_users_lines() {
        let (dir, first) = made();
        let hosts = format!("{}10.9.8.7 mine\n", first.hosts.text());
        fs::write(dir.path().join(HOSTS), &hosts).expect("the user writes");
        let second = texts(&[[10, 0, 0, 2], [10, 1, 0, 2]], "10.0.0.9");
        let before = update(dir.path(), &second).expect("updated");
        assert_eq!(read(&dir, HOSTS), format!("{hosts}10.1.0.2\tweb\n"));
        assert_eq!(read(&dir, RESOLV_CONF), second.resolv_conf);
        take_back(dir.path(), before).expect("taken back");
        assert_eq!((read(&dir, HOSTS), read(&dir, RESOLV_CONF)), (hosts, first.resolv_conf));
    }

    #[test]
    fn a_start_writes_all_files_except_an_edited_resolv_conf() {
        let (dir, first) = made();
        for name in [HOSTS, HOSTNAME, RESOLV_CONF] {
            fs::write(dir.path().join(name), "mine\n").expect("the user writes");
        }
        make(dir.path(), &first, "web").expect("made");
        assert_eq!(read(&dir, HOSTS), first.hosts.text());
        assert_eq!((read(&dir, HOSTNAME).as_str(), read(&dir, RESOLV_CONF).as_str()), ("web\n", "mine\n"));
    }

    #[test]
    fn a_huge_file_is_left_alone() {
        let (dir, first) = made();
        let huge =
            |name: &str| File::options().write(true).open(dir.path().join(name)).unwrap().set_len(1 << 40);
        for name in [HOSTS, RESOLV_CONF, HOSTNAME] {
            huge(name).expect("a sparse file");
        }
        let before = update(dir.path(), &texts(&[], "10.0.0.9")).expect("left alone");
        assert!(before.lines.is_none() && before.resolv_conf.is_none());
        let size = |name: &str| fs::metadata(dir.path().join(name)).expect("a file").len();
        assert_eq!((size(HOSTS), size(RESOLV_CONF)), (1 << 40, 1 << 40));
        make(dir.path(), &first, "web").expect("made");
        assert_eq!((read(&dir, HOSTS), read(&dir, HOSTNAME)), (first.hosts.text(), "web\n".to_owned()));
        assert_eq!(size(RESOLV_CONF), 1 << 40);
    }

    #[test]
    fn missing_files_are_not_created_while_it_runs() {
        let (dir, _) = made();
        for name in [HOSTS, RESOLV_CONF] {
            fs::remove_file(dir.path().join(name)).expect("a file");
        }
        update(dir.path(), &texts(&[], "10.0.0.9")).expect("nothing to do");
        assert!(!dir.path().join(HOSTS).exists() && !dir.path().join(RESOLV_CONF).exists());
    }
}
