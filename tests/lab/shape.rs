//! The state of a host, in a form that does not depend on the way to that state. Reading it is fast, because
//! tests do so after each of hundreds of steps. Must not know what happened.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::LazyLock,
};

use aya::maps::{Array, HashMap, Map, MapData, MapError, lpm_trie::LpmTrie};
use netbpf_common::{
    allowed::{Allowed, AllowedKey},
    endpoint::{Endpoint, FdbKey, Neighbour, NeighbourKey, Owned, OwnedKey, Station},
    limit::EgressLimit,
    network::Network,
    uplink::{ClosedSubnet, Uplink},
};
use netbpf_tests::lab::{Lab, eventually};
use regex::Regex;

use crate::pins::pin;

/// The state of a host, without numbers, IDs and times.
#[derive(Clone, PartialEq, Eq)]
pub struct Shape(BTreeMap<String, usize>);

/// Prints one line for each object, in one part for each of [`PARTS`].
const LOOK: &str = r"
ip -o link; echo ---
ip -o addr; echo ---
ip route show table all; echo ---
nft -s list ruleset; echo ---
ss -Hltun; echo ---
for name in $(ip netns | cut -d' ' -f1); do tc -n $name qdisc | grep -E 'tbf|clsact'; done; echo ---
grep -Hs . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/forwarding
# A link may have gone since its name was read.
true
";
const PARTS: [&str; 7] = ["link", "address", "route", "filter", "socket", "discipline", "setting"];

/// Texts that differ between two readings, or between veth pairs.
static NUMBERS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\d+: | link-netnsid \d+|@if\d+| +$").expect("an expression"));
/// The MAC of a host side, which the kernel chooses.
static MAC_OF_HOST_SIDE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^((?:veth|nbp).*)link/ether [0-9a-f:]+").expect("an expression"));

/// Fields that differ each time, of a container or a network at any depth.
const VOLATILE: &[&str] = &[
    "Created",
    "CreatedAt",
    "StartedAt",
    "FinishedAt",
    "Pid",
    "SandboxKey",
    "SandboxID",
    "Error",
    "ExitCode",
];

impl Shape {
    /// The present state, once the kernel has completed the delayed set-up of new veth pairs.
    #[track_caller]
    pub fn of(lab: &Lab) -> Self {
        let seen = eventually("what the kernel knows of new veth pairs", || {
            let seen = lab.host(["sh", "-c", LOOK]).ok().stdout;
            (!seen.lines().any(|line| is_settling(line, &seen))).then_some(seen)
        });
        let mut things = Vec::new();
        for (what, lines) in PARTS.iter().zip(seen.split("---\n")) {
            things.extend(lines.lines().map(|line| format!("{what} {}", without_numbers(line))));
        }
        files(lab, Path::new("/sys/fs/bpf"), &mut things);
        files(lab, Path::new("/run"), &mut things);
        for (list, one) in
            [("/networks", "/networks/ID"), ("/containers/json?all=true", "/containers/ID/json")]
        {
            for found in lab.ask(list).as_array().into_iter().flatten() {
                let thing = lab.ask(&one.replace("ID", found["Id"].as_str().unwrap_or_default()));
                fields(&thing, VOLATILE, &format!("inspect {}:", thing["Name"]), &mut things);
            }
        }
        things.extend(processes(lab));
        things.extend(entries(lab).unwrap_or_else(|error| panic!("read the maps: {error}")));
        let mut counted = BTreeMap::new();
        for thing in things {
            *counted.entry(without_ids(&thing)).or_insert(0) += 1;
        }
        Self(counted)
    }

    /// The same without stopped containers and their files.
    pub fn without_stopped(&self) -> Self {
        let stopped: Vec<&str> = self
            .0
            .keys()
            .filter(|thing| {
                thing.ends_with(r#".Status = "created""#) || thing.ends_with(r#".Status = "exited""#)
            })
            .filter_map(|thing| thing.split_inclusive(": ").next())
            .collect();
        let counts = |thing: &str| {
            !thing.contains("/containers/") && !stopped.iter().any(|container| thing.starts_with(container))
        };
        let kept = self.0.iter().filter(|(thing, _)| counts(thing));
        Self(kept.map(|(thing, count)| (thing.clone(), *count)).collect())
    }

    /// Added and removed lines since `before`.
    pub fn since(&self, before: &Self) -> String {
        let more = |one: &Self, other: &Self, what: &str| {
            let things = one.0.iter().filter(|(thing, count)| other.0.get(*thing).unwrap_or(&0) < count);
            things.map(|(thing, _)| format!("  {what}: {thing}\n")).collect::<String>()
        };
        more(self, before, "is new") + &more(before, self, "is gone")
    }
}

/// Whether a link is up, or has a carrier, but the kernel does not show it yet; or a link-local address has
/// no route yet.
fn is_settling(line: &str, seen: &str) -> bool {
    if let [_, device, "inet6", address, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
        && let Some(address) = address.strip_suffix("/64").filter(|address| address.starts_with("fe80:"))
    {
        return !seen.contains(&format!("local {address} dev {device} "));
    }
    (line.contains(" state UNKNOWN ") && !line.contains(": lo: "))
        || (line.contains("<NO-CARRIER,") && line.contains(",LOWER_UP>"))
}

/// A line of `ip`, `ss` or `nft`.
fn without_numbers(line: &str) -> String {
    let line = NUMBERS.replace_all(line, "");
    MAC_OF_HOST_SIDE.replace(&line, "$1").into_owned()
}

/// Everything below a directory, except the store, the file that fills its disk, the order of a fault, the
/// relay, and the exit codes of containers.
fn files(lab: &Lab, folder: &Path, things: &mut Vec<String>) {
    for entry in fs::read_dir(lab.path(folder)).into_iter().flatten().flatten() {
        let path = folder.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(&*name, "netbpf.redb" | "ballast" | "fault" | "exit.json") || name.starts_with("relay.") {
            continue;
        }
        things.push(format!("file {}", path.display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(lab, &path, things);
        }
    }
}

/// All processes except process 1 and the relay, which may continue without a port to relay.
fn processes(lab: &Lab) -> Vec<String> {
    let folders = fs::read_dir(lab.path("/proc")).into_iter().flatten().flatten();
    let numbered = folders.filter(|folder| {
        folder.file_name().to_str().is_some_and(|name| name.parse() != Ok(1) && name.parse::<u32>().is_ok())
    });
    numbered
        .filter_map(|folder| fs::read_to_string(folder.path().join("cmdline")).ok())
        .filter(|line| !line.is_empty() && !line.contains("\0relay\0"))
        .map(|line| format!("process {}", line.replace('\0', " ")))
        .collect()
}

/// The content of the maps, without numbers of networks and endpoints.
fn entries(lab: &Lab) -> Result<Vec<String>, MapError> {
    let open = |name: &str| open(lab, name);
    let mut things = Vec::new();
    for network in Array::<_, Network>::try_from(Map::Array(open("NETWORKS")?))?.iter() {
        let network = network?;
        if network.ifindex != 0 {
            things.push(format!("NETWORKS {:?} {:?}", network.mac, network.gateway));
        }
    }
    for endpoint in endpoints(lab)? {
        things.push(format!(
            "ENDPOINTS {:?} {:?} {:?} {}",
            endpoint.mac, endpoint.ipv4, endpoint.ipv6, endpoint.access
        ));
    }
    for limit in Array::<_, EgressLimit>::try_from(Map::Array(open("LIMITS")?))?.iter() {
        let EgressLimit { rate, burst, .. } = limit?;
        if rate != 0 {
            things.push(format!("LIMITS {rate} {burst}"));
        }
    }
    for key in HashMap::<_, FdbKey, Station>::try_from(Map::HashMap(open("FDB")?))?.keys() {
        things.push(format!("FDB {:?}", key?.mac));
    }
    for entry in HashMap::<_, NeighbourKey, Neighbour>::try_from(Map::HashMap(open("NEIGHBOURS")?))?.iter() {
        let (key, neighbour) = entry?;
        things.push(format!("NEIGHBOURS {} {:?}", key.ip(), neighbour.mac));
    }
    for key in HashMap::<_, OwnedKey, Owned>::try_from(Map::HashMap(open("OWNED")?))?.keys() {
        things.push(format!("OWNED {:?}", key?.address));
    }
    for key in HashMap::<_, AllowedKey, Allowed>::try_from(Map::HashMap(open("ALLOWED")?))?.keys() {
        let AllowedKey { protocol, port, .. } = key?;
        things.push(format!("ALLOWED {protocol} {port:?}"));
    }
    let closed = LpmTrie::<_, [u8; 16], ClosedSubnet>::try_from(Map::LpmTrie(open("CLOSED_SUBNETS")?))?;
    for key in closed.keys() {
        let key = key?;
        things.push(format!("CLOSED_SUBNETS {}/{}", Ipv6Addr::from(key.data()), key.prefix_len()));
    }
    for key in HashMap::<_, u32, Uplink>::try_from(Map::HashMap(open("UPLINKS")?))?.keys() {
        things.push(format!("UPLINKS {}", key?));
    }
    Ok(things)
}

/// The number of entries of each map that has any.
#[track_caller]
pub fn entry_counts(lab: &Lab) -> BTreeMap<String, u64> {
    let entries = entries(lab).unwrap_or_else(|error| panic!("read the maps: {error}"));
    let mut counts = BTreeMap::new();
    for map in entries.iter().filter_map(|entry| entry.split(' ').next()) {
        *counts.entry(map.to_owned()).or_insert(0) += 1;
    }
    counts
}

fn open(lab: &Lab, map: &str) -> Result<MapData, MapError> {
    MapData::from_pin(lab.path(pin(&format!("maps/{map}"))))
}

fn endpoints(lab: &Lab) -> Result<Vec<Endpoint>, MapError> {
    let all = Array::<_, Endpoint>::try_from(Map::Array(open(lab, "ENDPOINTS")?))?;
    let first: Vec<Endpoint> = all.iter().collect::<Result<_, _>>()?;
    Ok(first.into_iter().filter(|endpoint| endpoint.ifindex != 0).collect())
}

/// The IPv4 addresses in the map of endpoints.
#[track_caller]
pub fn endpoint_addresses(lab: &Lab) -> Vec<Ipv4Addr> {
    let endpoints = endpoints(lab).unwrap_or_else(|error| panic!("read the map of endpoints: {error}"));
    endpoints.iter().map(|endpoint| endpoint.ipv4.into()).collect()
}

/// One line for each value that is no object or array, except those with these names.
fn fields(value: &serde_json::Value, except: &[&str], path: &str, lines: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(named) => {
            for (name, value) in named.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
                fields(value, except, &format!("{path} .{name}"), lines);
            }
        }
        serde_json::Value::Array(items) if items.iter().all(serde_json::Value::is_number) => {
            lines.push(format!("{path} = {value}"));
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| fields(item, except, &format!("{path}[]"), lines));
        }
        _ => lines.push(format!("{path} = {value}")),
    }
}

/// Each run of seven or more hexadecimal digits becomes a `#`: IDs, and names and numbers made of them.
fn without_ids(line: &str) -> String {
    let mut kept = String::new();
    let mut run = String::new();
    for letter in line.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() {
            run.push(letter);
            continue;
        }
        match run.len() {
            ..7 => kept.push_str(&run),
            _ => kept.push('#'),
        }
        run.clear();
        kept.push(letter);
    }
    kept.trim_end().to_owned()
}
