//! The state of a host for a comparison with an earlier one: links, rules, processes, mounts, pins, files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{Process, STATE_DIR, host::Host};

/// How long the kernel may take to clean up: it deletes the links of a namespace some time after its last process,
/// without an event, and one namespace after the other.
const SETTLING: Duration = Duration::from_secs(20);

/// The state at one moment, with one line for each object.
pub struct Snapshot {
    things: BTreeSet<String>,
    scope: Scope,
}

enum Scope {
    /// Everything except the daemon's state directory, which stays.
    Host,
    Files(PathBuf),
}

impl Snapshot {
    /// The state of a host, without the daemon's state directory.
    pub fn of_host(host: &Host) -> Self {
        Self { things: things(host, &Scope::Host), scope: Scope::Host }
    }

    /// The files below a directory.
    pub fn of_files(host: &Host, folder: &Path) -> Self {
        let scope = Scope::Files(folder.to_owned());
        Self { things: things(host, &scope), scope }
    }

    /// Panics with the differences between the state now and this one.
    pub fn assert_unchanged(&self, host: &Host) {
        let give_up = Instant::now() + SETTLING;
        let mut now = things(host, &self.scope);
        while now != self.things && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(10));
            now = things(host, &self.scope);
        }
        let left: Vec<_> = now.difference(&self.things).map(|thing| format!("is left: {thing}")).collect();
        let lost: Vec<_> = self.things.difference(&now).map(|thing| format!("is gone: {thing}")).collect();
        assert!(
            left.is_empty() && lost.is_empty(),
            "the host is not as it was\n{}",
            [left, lost].concat().join("\n")
        );
    }
}

fn things(host: &Host, scope: &Scope) -> BTreeSet<String> {
    let mut things = BTreeSet::new();
    match scope {
        Scope::Files(folder) => files(host, folder, "", &mut things),
        Scope::Host => {
            files(host, Path::new("/run"), STATE_DIR, &mut things);
            files(host, Path::new("/sys/fs/bpf"), "", &mut things);
            processes(host, &mut things);
            mounts(host, &mut things);
            links(host, &mut things);
            filters(host, &mut things);
        }
    }
    things
}

fn links(host: &Host, things: &mut BTreeSet<String>) {
    let mut ip = Command::new("ip");
    ip.args(["-j", "link", "show"]);
    let links = Process::start(host, ip).output().ok().json();
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    things.extend(names.map(|name| format!("link {name}")));
}

/// The packet filter's rules, without counters.
fn filters(host: &Host, things: &mut BTreeSet<String>) {
    let mut nft = Command::new("nft");
    nft.args(["-s", "list", "ruleset"]);
    let rules = Process::start(host, nft).output().ok().stdout;
    things.extend(
        rules.lines().map(str::trim).filter(|line| *line != "}").map(|line| format!("filter {line}")),
    );
}

/// All processes except process 1, which is the host's own.
fn processes(host: &Host, things: &mut BTreeSet<String>) {
    let numbers =
        entries(&host.path("/proc")).filter_map(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    things.extend(numbers.filter(|number| *number != 1).map(|number| {
        let command = fs::read(host.path(format!("/proc/{number}/cmdline"))).unwrap_or_default();
        format!("process {number}: {}", String::from_utf8_lossy(&command).replace('\0', " "))
    }));
}

fn mounts(host: &Host, things: &mut BTreeSet<String>) {
    let table = fs::read_to_string(host.path("/proc/1/mountinfo")).expect("a host's mounts");
    // "36 35 98:0 /root /point options … - type source options": mount point and type identify a mount.
    things.extend(table.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        Some(format!("mount {} on {}", kind.split(' ').next()?, place.split(' ').nth(4)?))
    }));
}

/// The files below a directory, except those below `except`.
fn files(host: &Host, folder: &Path, except: &str, things: &mut BTreeSet<String>) {
    for path in entries(&host.path(folder)) {
        let inside = folder.join(path.file_name().unwrap_or_default());
        if inside == Path::new(except) {
            continue;
        }
        let Ok(metadata) = path.symlink_metadata() else { continue };
        things.insert(format!("file {}", inside.display()));
        if metadata.is_dir() {
            files(host, &inside, except, things);
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
