//! The tasks under test, and the contents of directories afterwards.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The program named by an environment variable, or the one of this name that cargo has built.
#[track_caller]
fn program(variable: &str, name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug").join(name);
    let program = std::env::var_os(variable).map_or(built, PathBuf::from);
    assert!(program.exists(), "no {}: run `cargo build --workspace`", program.display());
    program
}

/// The program to install.
pub fn netbpf() -> PathBuf {
    program("NETBPF_BIN", "netbpf")
}

/// The program with the tasks.
pub fn xtask() -> PathBuf {
    program("XTASK_BIN", "xtask")
}

/// A directory in place of `/`.
pub struct Root(tempfile::TempDir);

/// The result of a task.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Root {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// The file that users would see at `path`.
    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// Runs `cargo xtask TASK`; words are separated by spaces.
    pub fn task(&self, task: &str) -> Ended {
        let mut command = Command::new(xtask());
        command.args(task.split_whitespace()).arg("--root").arg(self.0.path());
        let output = command.output().expect("the task runs");
        Ended {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Installs the built program.
    #[track_caller]
    pub fn install(&self) -> String {
        self.task(&install("")).ok()
    }

    /// All files and directories with their modes.
    pub fn things(&self) -> Vec<String> {
        let mut things = Vec::new();
        self.add(self.0.path(), &mut things);
        things.sort();
        things
    }

    fn add(&self, folder: &Path, things: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let metadata = entry.path().symlink_metadata().expect("a file");
            let name = entry.path().strip_prefix(self.0.path()).expect("a path below").display().to_string();
            if metadata.is_dir() {
                things.push(format!("/{name}/"));
                self.add(&entry.path(), things);
            } else {
                things.push(format!("/{name} {:o}", metadata.permissions().mode() & 0o7777));
            }
        }
    }
}

/// The arguments of `install` for the built program, with options.
pub fn install(options: &str) -> String {
    format!("install --program {} {options}", netbpf().display())
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "{self:?}");
        self.stdout
    }

    /// Asserts a usage error, which clap prints in several lines.
    #[track_caller]
    pub fn fails_with_usage(self, message: &str) {
        assert!(!self.success && self.stderr.contains(message), "expected: {message}\n{self:?}");
    }

    /// Asserts that it failed with this message in one line.
    #[track_caller]
    pub fn fails_with(self, message: &str) {
        assert!(!self.success, "{self:?}");
        assert!(self.stderr.starts_with("error: ") && self.stderr.lines().count() == 1, "{self:?}");
        assert!(self.stderr.contains(message), "expected: {message}\n{self:?}");
    }
}
