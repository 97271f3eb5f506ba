//! Runs cargo builds and finds the built executables. Cargo shows its own progress.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::toolchain;

/// All packages except the eBPF programs, which netbpf's build script builds. The same for all commands, so
/// that cargo chooses the same features of dependencies and builds each of them once.
pub const PACKAGES: &[&str] = &["--workspace", "--exclude", "netbpf-ebpf"];

/// A built executable.
#[derive(Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its target's name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The directory of its package.
    pub package: PathBuf,
    /// Its path.
    pub path: PathBuf,
}

/// The kind of an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program.
    Program,
    /// Unit tests of a program or a library.
    UnitTests,
    /// An integration test.
    Tests,
}

/// A call of the cargo that runs this task.
pub fn command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(toolchain::workspace());
    command
}

/// Runs `cargo ARGS` and returns the executables, also those that were up to date.
pub fn build(args: &[&str]) -> Result<Vec<Executable>> {
    let mut child = command()
        .args(args)
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo")?;
    let mut executables = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            executables.extend(executable(&line.context("read cargo's messages")?));
        }
    }
    let status = child.wait().context("wait for cargo")?;
    if !status.success() {
        bail!("cargo {} failed", args.join(" "));
    }
    Ok(executables)
}

/// The program `name` among the built executables.
pub fn program(executables: &[Executable], name: &str) -> Result<PathBuf> {
    executables
        .iter()
        .find(|executable| executable.name == name && executable.kind == Kind::Program)
        .map(|executable| executable.path.clone())
        .with_context(|| format!("cargo built no program {name}"))
}

fn executable(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    let kind = match (message["profile"]["test"].as_bool()?, message["target"]["kind"][0].as_str()?) {
        (false, _) => Kind::Program,
        (true, "test") => Kind::Tests,
        (true, _) => Kind::UnitTests,
    };
    let package = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let name = message["target"]["name"].as_str()?.to_owned();
    Some(Executable { name, kind, package, path: message["executable"].as_str()?.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artefact_with_an_executable_is_parsed() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"kind":["test"],"name":"lab"},
            "profile":{"test":true},"executable":"/t/debug/deps/lab-1"}"#;
        let path = PathBuf::from("/t/debug/deps/lab-1");
        let package = PathBuf::from("/w/tests");
        assert_eq!(
            executable(message),
            Some(Executable { name: "lab".to_owned(), kind: Kind::Tests, package, path })
        );
    }

    #[test]
    fn a_library_is_no_executable() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/netbpf/Cargo.toml","target":{"kind":["lib"],"name":"netbpf"},
            "profile":{"test":false},"executable":null}"#;
        assert_eq!(executable(message), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
