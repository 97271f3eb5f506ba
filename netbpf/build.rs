//! Builds the kernel programs from source, twice: as they are, and with logs. The daemon embeds both objects.
//!
//! Cargo has no way to say that a crate for another target is needed, so this script runs a cargo of its own, with the
//! toolchain that [`xtask::toolchain`] finds.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use xtask::toolchain::{self, Machine, Toolchain};

fn main() {
    for source in ["netbpf-ebpf", "netbpf-common"] {
        println!("cargo::rerun-if-changed=../{source}/src");
        println!("cargo::rerun-if-changed=../{source}/Cargo.toml");
    }
    for variable in ["NETBPF_TOOLS", "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let toolchain = toolchain::find().map_err(|missing| missing.to_string())?;
    let machine =
        Machine { arch: variable("CARGO_CFG_TARGET_ARCH")?, endian: variable("CARGO_CFG_TARGET_ENDIAN")? };
    let out = PathBuf::from(variable("OUT_DIR")?);
    object(&toolchain, &machine, &[], &out.join("programs.o"))?;
    object(&toolchain, &machine, &["--features", "log"], &out.join("programs-log.o"))
}

fn object(toolchain: &Toolchain, machine: &Machine, features: &[&str], to: &Path) -> Result<(), String> {
    let workspace = toolchain::workspace();
    // One folder for all profiles: the programs are the same in each.
    let target = workspace.join("target/ebpf");
    let mut cargo = toolchain.build(machine);
    cargo.args(["--package", "netbpf-ebpf", "--bin", "netbpf-ebpf"]).args(features);
    cargo.arg("--manifest-path").arg(workspace.join("Cargo.toml")).arg("--target-dir").arg(&target);
    run(&mut cargo)?;
    let from = toolchain.output(machine, &target, "netbpf-ebpf");
    fs::copy(&from, to).map_err(|error| format!("copy {}: {error}", from.display()))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("start {program}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("building the kernel programs failed: {program}: {status}"))
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
