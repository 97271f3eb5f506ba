//! The licenses of a program that is linked statically: a list of its crates, and the texts that must come with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo;

/// The packages whose code is in the program, the second one as an object for the kernel.
const PACKAGES: &[&str] = &["netbpf", "netbpf-ebpf"];

const OWN: &str = "\
netbpf, a container bridge in eBPF
Copyright 2026 netbpf's authors
License: Apache-2.0 or MIT, at your option

On Debian, the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.

The program contains the crates below. Of those with Apache-2.0 as an option, that one is chosen. The licenses of the
others follow the list, as they come with them.

";

/// A crate of the program.
#[derive(Debug)]
struct Crate {
    name: String,
    license: String,
    authors: Vec<String>,
    folder: PathBuf,
}

/// The text of the package's copyright file.
pub fn copyright() -> Result<String> {
    let crates = crates()?;
    let mut copyright = OWN.to_owned();
    // By their texts: many crates come with the same.
    let mut texts = BTreeMap::<String, Vec<&str>>::new();
    for Crate { name, license, authors, folder } in &crates {
        writeln!(copyright, "* {name}: {license}")?;
        if !authors.is_empty() {
            writeln!(copyright, "  Authors: {}", authors.join(", "))?;
        }
        if !is_apache(license) {
            for text in texts_in(folder)? {
                texts.entry(text).or_default().push(name);
            }
        }
    }
    for (text, names) in texts {
        write!(copyright, "\n-- {}\n\n{}\n", names.join(", "), text.trim_end())?;
    }
    Ok(copyright)
}

/// Whether the terms of Apache-2.0 are sufficient.
fn is_apache(license: &str) -> bool {
    let is_option = |part: &str| matches!(part.trim(), "Apache-2.0");
    !license.contains(" AND ") && license.split(" OR ").flat_map(|part| part.split('/')).any(is_option)
}

/// The crates in the program, in the order of their names.
fn crates() -> Result<Vec<Crate>> {
    let linked = linked()?;
    let metadata = ask(&["metadata", "--locked", "--format-version=1"])?;
    let metadata: Value = serde_json::from_str(&metadata).context("parse cargo's metadata")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut crates = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        // Those without a source are netbpf's own.
        if linked.contains(&name) && package["source"].is_string() {
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            let authors = package["authors"].as_array().into_iter().flatten().map(text).collect();
            let license = text(&package["license"]);
            ensure!(!license.is_empty(), "{name} names no license");
            crates.push(Crate { name, license, authors, folder: manifest.with_file_name("") });
        }
    }
    ensure!(!crates.is_empty(), "cargo names no crates");
    crates.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(crates)
}

/// Names and versions of the crates whose code is linked, not only run by a build, as that of macros.
fn linked() -> Result<BTreeSet<String>> {
    let mut args = vec![
        "tree",
        "--locked",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--no-dedupe",
        "--format={p}",
    ];
    args.extend(PACKAGES.iter().flat_map(|package| ["--package", package]));
    let tree = ask(&args)?;
    // Lines such as `aya v0.14.0`, `netbpf v0.1.0 (/home/me/netbpf)`.
    Ok(tree
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(" v")?;
            Some(format!("{name} {}", rest.split(' ').next()?))
        })
        .collect())
}

/// The files with licenses that a crate comes with; at least one.
fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let read = || format!("read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(read)? {
        let path = entry.with_context(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        // Debian has that of Apache already.
        if ["license", "copying", "copyright"].iter().any(|word| name.starts_with(word))
            && !name.contains("apache")
        {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{} has no file with a license", folder.display());
    let texts =
        files.iter().map(|file| fs::read_to_string(file).with_context(|| format!("read {}", file.display())));
    texts.collect()
}

fn ask(args: &[&str]) -> Result<String> {
    let called = || format!("cargo {}", args.join(" "));
    let output = cargo::command().args(args).output().with_context(called)?;
    ensure!(output.status.success(), "{}: {}", called(), String::from_utf8_lossy(&output.stderr).trim_end());
    String::from_utf8(output.stdout).with_context(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apache_is_sufficient_only_as_an_option_for_all() {
        for license in ["MIT OR Apache-2.0", "Apache-2.0", "MIT/Apache-2.0", "Zlib OR Apache-2.0 OR MIT"] {
            assert!(is_apache(license), "{license}");
        }
        for license in ["MIT", "MIT AND BSD-3-Clause", "(MIT OR Apache-2.0) AND Unicode-3.0", "Zlib"] {
            assert!(!is_apache(license), "{license}");
        }
    }

    #[test]
    fn the_texts_of_other_licenses_come_with_the_crates() {
        let copyright = copyright().expect("a text");
        assert!(copyright.contains("\n* aya 0.14."), "{copyright}");
        assert!(copyright.contains("\n-- foldhash 0."), "{copyright}");
        assert!(copyright.contains("UNICODE LICENSE V3"), "{copyright}");
        assert!(!copyright.contains("* proptest "), "only tests link it");
        assert!(!copyright.contains("* netbpf"), "its own are no others'");
    }
}
