//! Conventions that no lint checks: the first line of a file, its length, leftovers.

mod source;

use std::path::PathBuf;

const CRATES: &[&str] = &["netbpf", "netbpf-common", "netbpf-ebpf", "tests", "xtask", "fuzz"];
/// A longer file must give a reason in its first comment, beginning with these words.
const LONG: usize = 500;
const REASON: &str = "Long because";

/// Leftovers that are not allowed, and why. In two parts, so that this file does not contain them.
const LEFTOVERS: &[(&str, &str, &str)] = &[
    ("todo", "!(", "finish it or leave it out"),
    ("dbg", "!(", "for debugging only"),
    ("unimplemented", "!(", "it crashes when it is used"),
    ("#[ign", "ore", "a test that does not run proves nothing; one that cannot run fails"),
];

/// The files of the daemon that access files which a container can change. They must use
/// `sandbox::SharedFile`, which limits the size, follows no symlinks and never blocks.
const SHARED_FILES: &[&str] =
    &["effects/files/own.rs", "effects/files/borrowed.rs", "effects/perform.rs", "names/record.rs"];
const BYPASSES: &[&str] = &["fs::read", "fs::write", "fs::copy", "File::open", "File::create", "OpenOptions"];

#[test]
fn files_of_containers_are_opened_in_one_way() {
    let folder = source::workspace().join("netbpf/src/daemon");
    for name in SHARED_FILES {
        let text = code(&folder.join(name));
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().replace("SharedFile::", "");
        let bypass = BYPASSES.iter().find(|bypass| code.contains(*bypass));
        assert_eq!(bypass, None, "{name} opens a file that a container can change past SharedFile");
    }
}

#[test]
fn a_file_begins_with_its_purpose() {
    complain(|file| {
        let first = source::text(file).lines().next().unwrap_or_default().to_owned();
        let says = first.strip_prefix("//! ").is_some_and(|words| words.len() > 10);
        (!says).then(|| "the first line is no `//!` that says what the file owns".to_owned())
    });
}

#[test]
fn a_long_file_has_a_reason() {
    complain(|file| {
        let text = source::text(file);
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let lines = text.lines().count();
        (lines > LONG && !head.contains(REASON))
            .then(|| format!("{lines} lines, and no `{REASON} …` in its `//!`"))
    });
}

#[test]
fn there_are_no_leftovers() {
    complain(|file| {
        let code = code(file);
        LEFTOVERS.iter().find_map(|(begin, end, because)| {
            let leftover = format!("{begin}{end}");
            code.contains(&leftover).then(|| format!("`{leftover}`: {because}"))
        })
    });
}

/// Fails with the complaints of `rule` about each file.
fn complain(rule: impl Fn(&PathBuf) -> Option<String>) {
    let files = CRATES.iter().flat_map(|name| source::rust_files(&source::workspace().join(name)));
    let complaints: Vec<String> =
        files.filter_map(|file| rule(&file).map(|what| format!("{}: {what}", file.display()))).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// A file without its comments.
fn code(file: &std::path::Path) -> String {
    source::text(file)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}
