//! Finds a toolchain that builds the eBPF programs, and provides the flags for it. Never installs.
//!
//! There are two kinds. Developers have rustup's nightly with `rust-src`, and cargo builds `core` with it.
//! Debian has a stable compiler with `core` prebuilt for the bpf targets, without rustup. Both link with
//! bpf-linker.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A toolchain for the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    compiler: Compiler,
    /// bpf-linker.
    linker: PathBuf,
}

/// A compiler for the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// `rustup run nightly`, which builds `core` from rust-src.
    Nightly,
    /// Debian's, with its prebuilt `core`.
    Debian,
}

/// The missing parts of a toolchain. The message says how to fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whether both compilers are missing.
    pub compiler: bool,
    /// Whether bpf-linker is missing.
    pub linker: bool,
}

/// The machine that the programs run on, with the values of `CARGO_CFG_TARGET_ARCH` and
/// `CARGO_CFG_TARGET_ENDIAN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `x86_64`, `aarch64`, …
    pub arch: String,
    /// `little` or `big`.
    pub endian: String,
}

/// Debian's compiler, even if rustup's is first on `PATH`.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Debian's cargo.
pub const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// The toolchain of this machine; rustup's takes precedence over Debian's.
///
/// # Errors
/// [`Missing`] if there is no compiler or no bpf-linker; its message says what to install.
pub fn find() -> Result<Toolchain, Missing> {
    match (compiler(), linker()) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        (compiler, linker) => Err(Missing { compiler: compiler.is_none(), linker: linker.is_none() }),
    }
}

/// The compiler of this machine; rustup's nightly takes precedence over Debian's.
pub fn compiler() -> Option<Compiler> {
    if nightly_has_source() { Some(Compiler::Nightly) } else { debian_has_core().then_some(Compiler::Debian) }
}

/// bpf-linker, on `PATH` or among netbpf's own tools.
pub fn linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([tools().join("bin")])
        .map(|folder| folder.join("bpf-linker"))
        .find(|program| program.is_file())
}

/// netbpf's own directory of tools: `$NETBPF_TOOLS`, else `target/tools` in the workspace. Programs are in
/// its `bin`, as `cargo install --root` puts them.
pub fn tools() -> PathBuf {
    env::var_os("NETBPF_TOOLS").map_or_else(|| workspace().join("target/tools"), PathBuf::from)
}

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

impl Toolchain {
    /// The compiler.
    pub fn compiler(&self) -> Compiler {
        self.compiler
    }

    /// `cargo build` for the machine's bpf target, with all flags and a clean environment. The caller adds
    /// the package and the target directory; see [`Toolchain::output`].
    pub fn build(&self, machine: &Machine) -> Command {
        let mut command = match self.compiler {
            Compiler::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
                command.env_remove("RUSTC");
                command
            }
            Compiler::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                command.arg("build");
                // The compiler is stable, but aya-ebpf needs `asm_experimental_arch`.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        // The outer cargo passes its own compiler, flags and directories to build scripts: none of them are
        // for the inner cargo.
        for variable in OUTER {
            command.env_remove(variable);
        }
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PROFILE_")) {
                command.env_remove(name);
            }
        }
        command
            .env("PATH", self.path())
            .env("CARGO_ENCODED_RUSTFLAGS", machine.rustflags().join("\u{1f}"))
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .args(["--release", "--target", machine.target()]);
        command
    }

    /// The object of the binary `name`, after a [`Toolchain::build`] with `--target-dir target_dir`.
    pub fn output(&self, machine: &Machine, target_dir: &Path, name: &str) -> PathBuf {
        target_dir.join(machine.target()).join("release").join(name)
    }

    /// The search path with the linker's directory first, because the target names `bpf-linker` without a
    /// path.
    fn path(&self) -> std::ffi::OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let first = self.linker.parent().map(Path::to_path_buf);
        env::join_paths(first.into_iter().chain(env::split_paths(&path))).unwrap_or(path)
    }
}

impl Machine {
    fn target(&self) -> &'static str {
        if self.endian == "big" { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
    }

    fn rustflags(&self) -> Vec<String> {
        vec![
            format!("--cfg=bpf_target_arch=\"{}\"", self.arch),
            "--check-cfg=cfg(bpf_target_arch,values(any()))".to_owned(),
            // The instruction set of Linux 5.1. The oldest kernel that netbpf supports, 5.10, has no newer
            // one.
            "-Ctarget-cpu=v3".to_owned(),
            // Here and not in the profile: `core` needs it too, or the kernel rejects the BTF's function
            // info.
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
        ]
    }
}

/// Variables of the outer cargo that would affect the inner build.
const OUTER: &[&str] = &[
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
    "TARGET",
];

fn nightly_has_source() -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    sysroot(&mut rustup)
        .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file())
}

fn debian_has_core() -> bool {
    let mut rustc = Command::new(DEBIAN_RUSTC);
    rustc.args(["--print", "sysroot"]);
    let Some(root) = sysroot(&mut rustc) else { return false };
    Path::new(DEBIAN_CARGO).is_file() && root.join("lib/rustlib/bpfel-unknown-none/lib").is_dir()
}

/// The output of `rustc --print sysroot`; none if it fails.
fn sysroot(command: &mut Command) -> Option<PathBuf> {
    for variable in OUTER {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compiler = "no compiler for bpf (rustup's nightly with rust-src, or Debian's rustc with libstd-rust-web-dev-bpf)";
        f.write_str("cannot build the kernel programs: ")?;
        match (self.compiler, self.linker) {
            (true, true) => write!(f, "{compiler} and no bpf-linker")?,
            (true, false) => f.write_str(compiler)?,
            (false, _) => f.write_str("no bpf-linker on PATH")?,
        }
        f.write_str("; `cargo xtask run` installs what is missing")
    }
}

impl std::error::Error for Missing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_what_is_missing_and_the_remedy() {
        let linker = Missing { compiler: false, linker: true }.to_string();
        assert!(linker.contains("no bpf-linker") && !linker.contains("rust-src"), "{linker}");
        let both = Missing { compiler: true, linker: true }.to_string();
        assert!(both.contains("rust-src") && both.contains("no bpf-linker"), "{both}");
        assert!(both.ends_with("`cargo xtask run` installs what is missing"), "{both}");
    }

    #[test]
    fn the_object_has_the_byte_order_of_its_machine() {
        let machine = |endian: &str| Machine { arch: "x86_64".to_owned(), endian: endian.to_owned() };
        assert_eq!(machine("little").target(), "bpfel-unknown-none");
        assert_eq!(machine("big").target(), "bpfeb-unknown-none");
    }
}
