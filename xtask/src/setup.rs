//! `cargo xtask setup`, and the first step of the other tasks: finds what a task needs on the machine besides
//! Rust and a C compiler. Says what is missing, then installs exactly that. Fast if nothing is missing. Must
//! not change anything else.

use std::{fs, process::Command};

use anyhow::{Result, bail};
use xtask::toolchain::{self, Compiler};

use crate::{
    apt, cargo,
    step::{self, Progress},
    tools::{self, For, Lack, TOOLS, Tool},
};

/// Install what a task needs, and do no more
#[derive(clap::Args)]
pub struct Options {
    /// The task to install for
    #[arg(default_value = "run")]
    task: Scope,
}

/// The purpose of the setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// Building and running.
    Run,
    /// The acceptance story.
    Demo,
    /// The benchmark.
    Bench,
    /// Fuzzing.
    Fuzz,
    /// Debian packages.
    Package,
    /// Building only.
    #[value(skip)]
    Build,
    /// The tests on this machine.
    #[value(skip)]
    TestHere,
    /// The tests on this machine and on other kernels.
    Test,
}

/// Packages of Debian's compiler with `core` prebuilt for the bpf targets.
const COMPILER: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// The LLVM version of that compiler. bpf-linker is built with the same one, because it reads the compiler's
/// bitcode.
const LLVM: &str = "22";
/// The version of bpf-linker for that LLVM.
const LINKER: &str = "=0.13.0";

/// Prepares the machine, and prints the result.
pub fn run(options: Options) -> Result<()> {
    prepare(options.task)?;
    println!("nothing is missing");
    Ok(())
}

/// Installs what `scope` needs.
pub fn prepare(scope: Scope) -> Result<()> {
    let missing = Missing::find(scope);
    if missing.is_empty() {
        return Ok(());
    }
    let machine = Machine::this();
    if !(machine.is_debian_12 && machine.is_root) {
        let why = if machine.is_debian_12 {
            "only root can install it"
        } else {
            "only on Debian 12 it is installed for you"
        };
        bail!("{}{why}. By hand:\n{}", missing.listed(), missing.by_hand(&machine));
    }
    eprintln!("{}It is installed now; the log is {}.", missing.listed(), step::log_path().display());
    missing.install().map_err(|error| {
        error.context(format!("the machine is not ready. By hand:\n{}", missing.by_hand(&machine)))
    })?;
    let still = Missing::find(scope);
    if !still.is_empty() {
        bail!(
            "all was installed, but something is still missing: another program may come first on the PATH. {}",
            still.listed()
        );
    }
    Ok(())
}

/// What is missing.
#[derive(Debug)]
struct Missing {
    compiler: bool,
    /// bpf-linker for the output of this compiler.
    linker: Option<Compiler>,
    /// Packages to build bpf-linker with.
    packages_of_linker: Vec<String>,
    tools: Vec<(&'static Tool, Lack)>,
}

impl Missing {
    fn find(scope: Scope) -> Self {
        let compiler = toolchain::compiler();
        let linker = toolchain::linker().is_none().then_some(compiler.unwrap_or(Compiler::Debian));
        let mut packages_of_linker = Vec::new();
        if linker == Some(Compiler::Debian) {
            if !fs::exists(format!("{}/bin/llvm-config", llvm_prefix())).unwrap_or(false) {
                packages_of_linker.push(format!("llvm-{LLVM}-dev"));
            }
            if tools::find("c++").is_none() {
                packages_of_linker.push("g++".to_owned());
            }
        }
        let tools = TOOLS
            .iter()
            .filter(|tool| tool.wanted.iter().any(|what| scope.wants(*what)))
            .filter_map(|tool| tool.find().err().map(|lack| (tool, lack)));
        Self { compiler: compiler.is_none(), linker, packages_of_linker, tools: tools.collect() }
    }

    fn is_empty(&self) -> bool {
        let Self { compiler, linker, packages_of_linker, tools } = self;
        !compiler && linker.is_none() && packages_of_linker.is_empty() && tools.is_empty()
    }

    fn packages(&self) -> Vec<&str> {
        let mut packages = Vec::new();
        if self.compiler {
            packages.extend(COMPILER);
        }
        packages.extend(self.packages_of_linker.iter().map(String::as_str));
        for (tool, _) in &self.tools {
            if !packages.contains(&tool.package) {
                packages.push(tool.package);
            }
        }
        packages
    }

    /// What is missing, with its use, one line each.
    fn listed(&self) -> String {
        let mut lines = vec!["netbpf needs what this machine does not have:".to_owned()];
        if self.compiler {
            lines.push(format!("  {}: a compiler for the kernel programs", COMPILER.join(", ")));
        }
        if self.linker.is_some() {
            lines.push("  bpf-linker: links them (goes into target/tools)".to_owned());
        }
        lines.extend(self.packages_of_linker.iter().map(|package| format!("  {package}: builds bpf-linker")));
        for tools in self.tools.chunk_by(|(one, _), (other, _)| one.package == other.package) {
            let uses: Vec<_> = tools.iter().map(|(tool, lack)| tool.use_of(lack)).collect();
            lines.push(format!("  {}: {}", tools[0].0.package, uses.join(", ")));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// The commands to install what is missing by hand.
    fn by_hand(&self, machine: &Machine) -> String {
        let mut commands = Vec::new();
        let sudo = if machine.is_root { "" } else { "sudo " };
        let packages = self.packages();
        match machine.family {
            Family::Debian if machine.is_debian_12 => {
                if !packages.is_empty() {
                    commands.push(format!("{sudo}apt-get update"));
                    commands.push(format!(
                        "{sudo}apt-get install --no-install-recommends {}",
                        packages.join(" ")
                    ));
                }
                commands.extend(self.linker.map(linker_by_hand));
            }
            family => {
                if self.compiler {
                    commands.push("rustup toolchain install nightly --component rust-src".to_owned());
                }
                if self.linker.is_some() {
                    commands.push(linker_by_hand(Compiler::Nightly));
                }
                if !self.tools.is_empty() {
                    commands.push(format!("{sudo}{}", family.install(&self.tools)));
                }
            }
        }
        commands.iter().map(|command| format!("  {command}")).collect::<Vec<_>>().join("\n")
    }

    fn install(&self) -> Result<()> {
        let packages = self.packages();
        if !packages.is_empty() {
            apt::install(&packages)?;
        }
        if let Some(compiler) = self.linker {
            step::run("building bpf-linker", install_linker(compiler), cargo_progress)?;
        }
        Ok(())
    }
}

impl Scope {
    fn wants(self, tool: For) -> bool {
        match self {
            Self::Build => false,
            Self::Run => matches!(tool, For::Daemon | For::Readme),
            Self::Demo => tool == For::Demo,
            Self::Bench => tool == For::Bench,
            Self::Fuzz => tool == For::Fuzz,
            Self::Package => tool == For::Package,
            Self::TestHere => matches!(tool, For::Lab | For::Fuzz),
            Self::Test => matches!(tool, For::Lab | For::Fuzz | For::Kernels | For::Qemu),
        }
    }
}

fn llvm_prefix() -> String {
    format!("/usr/lib/llvm-{LLVM}")
}

/// The arguments and the environment for cargo to build a bpf-linker for the bitcode of `compiler`.
fn linker_recipe(compiler: Compiler) -> (Vec<String>, Option<(&'static str, String)>) {
    let mut args = vec!["install", "bpf-linker", "--version", LINKER, "--locked"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    match compiler {
        // With its default features it loads rustup's LLVM.
        Compiler::Nightly => (args, None),
        Compiler::Debian => {
            args.extend([
                "--no-default-features".to_owned(),
                "--features".to_owned(),
                format!("llvm-{LLVM}"),
            ]);
            (args, Some(("LLVM_PREFIX", llvm_prefix())))
        }
    }
}

fn install_linker(compiler: Compiler) -> Command {
    let (args, environment) = linker_recipe(compiler);
    let mut command = cargo::command();
    command.args(args).arg("--root").arg(toolchain::tools()).envs(environment);
    // Its release profile has full debug information, which takes a while to write and is not used.
    command.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    command
}

fn linker_by_hand(compiler: Compiler) -> String {
    let (args, environment) = linker_recipe(compiler);
    let environment = environment.map(|(name, value)| format!("{name}={value} ")).unwrap_or_default();
    format!("{environment}cargo {}", args.join(" "))
}

/// Parses `   Compiling llvm-sys v221.0.0`.
fn cargo_progress(line: &str) -> Option<Progress> {
    let line = line.trim_start();
    ["Updating", "Downloading", "Downloaded", "Compiling", "Installing"]
        .iter()
        .any(|verb| line.starts_with(verb))
        .then(|| Progress::Doing(line.to_owned()))
}

/// This machine's distribution and user.
struct Machine {
    family: Family,
    is_debian_12: bool,
    is_root: bool,
}

/// Distributions with the same package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Debian,
    Fedora,
    Other,
}

impl Machine {
    fn this() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self::from_release(&release, nix::unistd::geteuid().is_root())
    }

    fn from_release(release: &str, is_root: bool) -> Self {
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let id = field("ID");
        let like = format!("{id} {}", field("ID_LIKE"));
        let is_like = |family: &str| like.split(' ').any(|word| word == family);
        let family = match () {
            () if is_like("debian") => Family::Debian,
            () if is_like("fedora") => Family::Fedora,
            () => Family::Other,
        };
        Self { family, is_debian_12: id == "debian" && field("VERSION_ID") == "12", is_root }
    }
}

impl Family {
    /// The command that installs `tools`.
    fn install(self, tools: &[(&Tool, Lack)]) -> String {
        let programs = || tools.iter().map(|(tool, _)| tool.program);
        match self {
            Self::Debian => {
                let mut packages: Vec<_> = tools.iter().map(|(tool, _)| tool.package).collect();
                packages.dedup();
                format!("apt-get install --no-install-recommends {}", packages.join(" "))
            }
            // dnf finds packages by their files.
            Self::Fedora => format!(
                "dnf install {}",
                programs().map(|it| format!("'*bin/{it}'")).collect::<Vec<_>>().join(" ")
            ),
            Self::Other => {
                format!("true  # the packages that bring: {}", programs().collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOKWORM: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
    const FEDORA: &str = "NAME=\"Fedora Linux\"\nVERSION_ID=43\nID=fedora\n";
    const UBUNTU: &str = "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"12\"\n";

    fn everything() -> Missing {
        Missing {
            compiler: true,
            linker: Some(Compiler::Debian),
            packages_of_linker: vec!["llvm-22-dev".to_owned()],
            tools: TOOLS
                .iter()
                .filter(|tool| tool.package == "util-linux")
                .map(|tool| (tool, Lack::Absent))
                .collect(),
        }
    }

    #[test]
    fn only_debian_12_is_debian_12() {
        let is = |release: &str| Machine::from_release(release, true).is_debian_12;
        assert!(is(BOOKWORM));
        assert!(!is(FEDORA));
        assert!(!is(UBUNTU));
    }

    #[test]
    fn a_user_of_debian_12_gets_the_commands_for_root() {
        let commands = everything().by_hand(&Machine::from_release(BOOKWORM, false));
        assert_eq!(
            commands,
            "  sudo apt-get update\n  \
             sudo apt-get install --no-install-recommends rustc-web cargo-web libstd-rust-web-dev-bpf llvm-22-dev util-linux\n  \
             LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version =0.13.0 --locked --no-default-features \
             --features llvm-22"
        );
    }

    #[test]
    fn missing_tools_are_listed_with_their_use() {
        assert_eq!(
            everything().listed(),
            "netbpf needs what this machine does not have:\n  \
             rustc-web, cargo-web, libstd-rust-web-dev-bpf: a compiler for the kernel programs\n  \
             bpf-linker: links them (goes into target/tools)\n  \
             llvm-22-dev: builds bpf-linker\n  \
             util-linux: nsenter (commands in a namespace), unshare (namespaces of a test's own), \
             setpriv (users and rights of processes), flock (locks of other processes), taskset (ends of a connection on a CPU of their own, or on the \
             same)\n"
        );
    }

    #[test]
    fn an_unsuitable_program_is_named() {
        let tools = TOOLS.iter().filter(|tool| tool.program == "busybox");
        let lack = Lack::Unfit("/bin/busybox".into(), "not statically linked".to_owned());
        let missing = Missing {
            compiler: false,
            linker: None,
            packages_of_linker: Vec::new(),
            tools: tools.map(|tool| (tool, lack.clone())).collect(),
        };
        let listed = missing.listed();
        assert!(
            listed.contains("  busybox-static: busybox (")
                && listed.contains("; /bin/busybox is not statically linked)"),
            "{listed}"
        );
    }

    #[test]
    fn elsewhere_rustup_provides_the_compiler() {
        let commands = everything().by_hand(&Machine::from_release(FEDORA, true));
        assert_eq!(
            commands,
            "  rustup toolchain install nightly --component rust-src\n  \
             cargo install bpf-linker --version =0.13.0 --locked\n  \
             dnf install '*bin/nsenter' '*bin/unshare' '*bin/setpriv' '*bin/flock' '*bin/taskset'"
        );
        assert_eq!(Machine::from_release(UBUNTU, true).family, Family::Debian);
    }

    #[test]
    fn without_missing_tools_there_is_nothing_to_do() {
        let nothing =
            Missing { compiler: false, linker: None, packages_of_linker: Vec::new(), tools: Vec::new() };
        assert!(nothing.is_empty() && nothing.packages().is_empty());
        assert!(!everything().is_empty());
    }
}
