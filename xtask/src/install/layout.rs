//! The files to install, their paths, and the manifest that lists them for `uninstall`. The program itself
//! generates completions and manual pages, because it knows its command line.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// Where netbpf is installed.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Folder that all goes below
    #[arg(long, value_name = "DIR", default_value = "/usr/local", value_parser = prefix)]
    pub prefix: PathBuf,
    /// Folder that stands for /, for packages and images: nothing is enabled, started or stopped
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// A file to install.
#[derive(Debug)]
pub struct File {
    /// Its path without `--root`.
    pub path: PathBuf,
    /// Its content.
    pub content: Content,
    /// Its permissions.
    pub mode: u32,
}

/// Content of a file.
#[derive(Debug)]
pub enum Content {
    /// This text.
    Text(Vec<u8>),
    /// A copy of this program without its symbols.
    Program(PathBuf),
    /// A symbolic link to this path, relative to its directory.
    Link(PathBuf),
}

/// Everything that an installation created.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Files, without `--root`.
    pub files: BTreeSet<PathBuf>,
    /// Directories that were created for them.
    pub folders: BTreeSet<PathBuf>,
}

/// Shells and files below the prefix, where the shells look by default.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "share/bash-completion/completions/netbpf"),
    ("zsh", "share/zsh/site-functions/_netbpf"),
    ("fish", "share/fish/vendor_completions.d/netbpf.fish"),
];

/// Units and their text; `@program@` is replaced by the program's path.
const UNITS: &[(&str, &str)] =
    &[("netbpf.socket", include_str!("netbpf.socket")), ("netbpf.service", include_str!("netbpf.service"))];

/// What shows the metrics, below `share/netbpf`.
const MONITORING: &[(&str, &str)] =
    &[("alerts.yml", include_str!("alerts.yml")), ("dashboard.json", include_str!("dashboard.json"))];

/// Parses an absolute path that needs no quotes in a unit.
fn prefix(text: &str) -> Result<PathBuf, String> {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c));
    let path = Path::new(text);
    let goes_down = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && is_plain && goes_down {
        Ok(path.components().collect())
    } else {
        Err("expected an absolute path of letters, digits and ._+-".to_owned())
    }
}

impl Place {
    /// The program.
    pub fn program(&self) -> PathBuf {
        self.prefix.join("bin/netbpf")
    }

    /// The manifest's path.
    pub fn manifest(&self) -> PathBuf {
        self.prefix.join("share/netbpf/manifest")
    }

    /// The path of a file with `--root`.
    pub fn on_disk(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// The directory of units: systemd looks below /usr and /usr/local, but below no other prefix.
    fn units(&self) -> PathBuf {
        let is_searched = [Path::new("/usr"), Path::new("/usr/local")].contains(&self.prefix.as_path());
        if is_searched { self.prefix.join("lib/systemd/system") } else { "/etc/systemd/system".into() }
    }

    /// All files to install with `program`.
    pub fn files(&self, program: &Path) -> Result<Vec<File>> {
        let text = |path: PathBuf, text: Vec<u8>| File { path, content: Content::Text(text), mode: 0o644 };
        let mut files =
            vec![File { path: self.program(), content: Content::Program(program.to_owned()), mode: 0o755 }];
        // podman looks for plugins in a directory of this name.
        files.push(File {
            path: self.prefix.join("lib/netavark/netbpf"),
            content: Content::Link("../../bin/netbpf".into()),
            mode: 0o777,
        });
        for (shell, path) in COMPLETIONS {
            files.push(text(self.prefix.join(path), ask(program, &["completion", shell])?));
        }
        let pages = tempfile::tempdir().context("make a folder for the manual pages")?;
        ask(program, &["man", &pages.path().to_string_lossy()])?;
        for page in fs::read_dir(&pages).context("read the manual pages")? {
            let page = page.context("read the manual pages")?;
            let content = fs::read(page.path()).context("read the manual pages")?;
            files.push(text(self.prefix.join("share/man/man1").join(page.file_name()), content));
        }
        for (name, unit) in UNITS {
            let unit = unit.replace("@program@", &self.program().to_string_lossy());
            files.push(text(self.units().join(name), unit.into_bytes()));
        }
        for (name, content) in MONITORING {
            files.push(text(self.prefix.join("share/netbpf").join(name), (*content).into()));
        }
        Ok(files)
    }
}

/// The output of the program.
fn ask(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let called = || format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(called)?;
    if !output.status.success() {
        bail!("{}: {}", called(), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output.stdout)
}

impl Manifest {
    /// Reads the manifest of the installed version; none if nothing is installed.
    pub fn read(place: &Place) -> Result<Option<Self>> {
        let path = place.on_disk(&place.manifest());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        Self::parse(&text).map(Some).with_context(|| format!("read {}", path.display()))
    }

    /// Parses one path for each line; that of a directory ends with a slash.
    fn parse(text: &str) -> Result<Self> {
        let mut manifest = Self::default();
        for line in text.lines() {
            let path = Path::new(line);
            let goes_down = !path.components().any(|part| part == Component::ParentDir);
            ensure!(path.is_absolute() && goes_down, "{line:?} is no absolute path");
            match line.strip_suffix('/') {
                Some(folder) => manifest.folders.insert(folder.into()),
                None => manifest.files.insert(path.to_owned()),
            };
        }
        Ok(manifest)
    }

    /// The text of the manifest file.
    pub fn text(&self) -> String {
        let files = self.files.iter().map(|file| format!("{}\n", file.display()));
        let folders = self.folders.iter().map(|folder| format!("{}/\n", folder.display()));
        files.chain(folders).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_parsed_as_it_was_written() {
        let manifest = Manifest {
            files: ["/usr/local/bin/netbpf".into(), "/usr/local/share/netbpf/manifest".into()].into(),
            folders: ["/usr/local/share/netbpf".into()].into(),
        };
        assert_eq!(Manifest::parse(&manifest.text()).expect("a manifest"), manifest);
        for wrong in ["bin/netbpf\n", "/usr/../etc/passwd\n", "\n"] {
            assert!(Manifest::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn units_are_installed_where_systemd_looks() {
        let units = |prefix: &str| Place { prefix: prefix.into(), root: None }.units();
        assert_eq!(units("/usr"), Path::new("/usr/lib/systemd/system"));
        assert_eq!(units("/usr/local"), Path::new("/usr/local/lib/systemd/system"));
        assert_eq!(units("/opt/netbpf"), Path::new("/etc/systemd/system"));
    }

    #[test]
    fn a_prefix_is_absolute_and_plain() {
        assert_eq!(prefix("/opt/netbpf/"), Ok("/opt/netbpf".into()));
        for wrong in ["opt", "/opt/../etc", "/opt/my programs", "/opt/100%", ""] {
            assert!(prefix(wrong).is_err(), "{wrong:?}");
        }
    }
}
