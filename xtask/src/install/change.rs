//! Changes of files that are undone when they are dropped before [`Changes::keep`]. Must not know what is in
//! the files.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::layout::{Content, File};

/// The changes so far.
#[derive(Debug, Default)]
pub struct Changes(Vec<Undo>);

#[derive(Debug)]
enum Undo {
    /// The file did not exist: remove it.
    Remove(PathBuf),
    /// The directory did not exist: remove it.
    RemoveFolder(PathBuf),
    /// The previous file was renamed: restore it.
    Restore { file: PathBuf, aside: PathBuf },
}

impl Changes {
    /// Creates a directory and its parents; returns the new ones, outermost first.
    pub fn make_folder(&mut self, folder: &Path) -> Result<Vec<PathBuf>> {
        // The last ancestor of a relative path is empty.
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let mut missing: Vec<_> = folder.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
        missing.reverse();
        for folder in &missing {
            fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
            self.0.push(Undo::RemoveFolder(folder.clone()));
        }
        Ok(missing)
    }

    /// Writes a file at `path`. An existing file is replaced atomically.
    pub fn put(&mut self, file: &File, path: &Path) -> Result<()> {
        let new = beside(path, "new");
        let mut unfinished = Self(vec![Undo::Remove(new.clone())]);
        let write = || {
            match &file.content {
                Content::Text(text) => fs::write(&new, text)?,
                Content::Program(program) => strip(program, &new)?,
                Content::Link(target) => {
                    // Left by an interrupted task.
                    let _ = fs::remove_file(&new);
                    return Ok(symlink(target, &new)?);
                }
            }
            fs::set_permissions(&new, fs::Permissions::from_mode(file.mode))?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("write {}", path.display()))?;
        let undo = match path.symlink_metadata() {
            Ok(_) => {
                let aside = beside(path, "old");
                // Left by an interrupted task.
                let _ = fs::remove_file(&aside);
                fs::hard_link(path, &aside).with_context(|| format!("keep {}", path.display()))?;
                Undo::Restore { file: path.to_owned(), aside }
            }
            Err(_) => Undo::Remove(path.to_owned()),
        };
        self.0.push(undo);
        fs::rename(&new, path).with_context(|| format!("write {}", path.display()))?;
        unfinished.0.clear();
        Ok(())
    }

    /// Removes a file if it exists.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        let aside = beside(path, "old");
        match fs::rename(path, &aside) {
            Ok(()) => {
                self.0.push(Undo::Restore { file: path.to_owned(), aside });
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
        }
    }

    /// Makes the changes permanent.
    pub fn keep(mut self) -> Result<()> {
        for undo in self.0.drain(..) {
            if let Undo::Restore { aside, .. } = undo {
                fs::remove_file(&aside).with_context(|| format!("remove {}", aside.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        for undo in self.0.drain(..).rev() {
            let undone = match &undo {
                Undo::Remove(file) => fs::remove_file(file),
                Undo::RemoveFolder(folder) => fs::remove_dir(folder),
                Undo::Restore { file, aside } => fs::rename(aside, file),
            };
            match undone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    eprintln!("warning: cannot undo {undo:?}: {error}");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}

/// Copies a program without its symbols, which are most of its size. It keeps its build ID, with which
/// debuggers find it in the symbols.
fn strip(program: &Path, copy: &Path) -> Result<()> {
    let output =
        Command::new("strip").arg("-o").arg(copy).arg(program).output().context("start strip (binutils)")?;
    if !output.status.success() {
        bail!("strip {}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

/// A temporary name beside `path`.
fn beside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.netbpf-{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> File {
        File { path: PathBuf::new(), content: Content::Text(text.into()), mode: 0o644 }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn dropped_changes_are_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("old"), "old").expect("a file");
        fs::write(at("other"), "other").expect("a file");
        let mut changes = Changes::default();
        assert_eq!(changes.make_folder(&at("a/b")).expect("folders"), [at("a"), at("a/b")]);
        changes.put(&text("new"), &at("a/b/new")).expect("a file");
        changes.put(&text("newer"), &at("old")).expect("a file");
        changes.remove(&at("other")).expect("no file");
        assert_eq!(fs::read_to_string(at("old")).expect("a file"), "newer");
        assert!(!at("other").exists());
        drop(changes);
        assert_eq!(names(folder.path()), ["old", "other"]);
        assert_eq!(fs::read_to_string(at("old")).expect("a file"), "old");
    }

    #[test]
    fn kept_changes_leave_no_temporary_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("old"), "old").expect("a file");
        fs::write(at("other"), "other").expect("a file");
        let mut changes = Changes::default();
        changes.put(&text("newer"), &at("old")).expect("a file");
        changes.remove(&at("other")).expect("no file");
        changes.remove(&at("nobody")).expect("no file, as before");
        changes.keep().expect("nothing aside");
        assert_eq!(names(folder.path()), ["old"]);
        assert_eq!(fs::read_to_string(at("old")).expect("a file"), "newer");
    }
}
