//! The state that a refused command must not change: links, addresses, routes, rules, map entries, pins, files,
//! records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::LazyLock,
};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use netbpf_common::{
    LAYOUT,
    allowed::{Allowed, AllowedKey},
    endpoint::{Endpoint, FdbKey, Neighbour, NeighbourKey, Owned, OwnedKey, Station},
    network::Network,
};
use netbpf_tests::lab::{Lab, eventually};

/// A shell script that prints one line for each object. Counters are left out, because there may be frames at any time.
const LOOK: &str = r#"
ip -o link | sed 's/^/link /'
ip -o addr | sed 's/^/address /'
ip route show table all | sed 's/^/route /'
find /sys/fs/bpf /run -path /run/state/netbpf.redb -prune -o -printf 'file %p\n'
nft -s list ruleset | sed 's/^/filter /'
for map in FDB NEIGHBOURS ALLOWED; do
    bpftool -j map dump pinned /sys/fs/bpf/netbpf/v*/maps/$map | tr -d ' \n' | sed "s/},{\"key\"/}\n$map {\"key\"/g"
    echo
done
# The first hundreds of entries: numbers are given out from 0 on.
for map in NETWORKS ENDPOINTS; do
    echo "$map $(bpftool map dump pinned /sys/fs/bpf/netbpf/v*/maps/$map | head -n 3000 | md5sum)"
done
"#;

/// The state of a host and its daemon at one moment.
pub struct World(BTreeSet<String>);

impl World {
    /// The current state, once the kernel has set the operational state of new veth pairs, a moment after they are up.
    pub fn of(lab: &Lab) -> Self {
        eventually("an operational state of all veth pairs", || {
            let links = lab.host(["ip", "-o", "link", "show", "type", "veth"]).ok().stdout;
            (!links.contains(" state UNKNOWN ")).then_some(())
        });
        let mut things: BTreeSet<String> =
            lab.host(["sh", "-c", LOOK]).ok().stdout.lines().map(str::to_owned).collect();
        for list in [["network", "ls", "-q", "--no-trunc"], ["ps", "-a", "-q", "--no-trunc"]] {
            let ids = lab.netbpf(list).ok().stdout;
            if !ids.is_empty() {
                let inspect = ["inspect", "--format", "{{json .}}"].into_iter().chain(ids.lines());
                things.extend(lab.netbpf(inspect).ok().stdout.lines().map(str::to_owned));
            }
        }
        Self(things)
    }

    /// Panics if anything has changed.
    #[track_caller]
    pub fn assert_unchanged(&self, lab: &Lab, by: &str) {
        self.assert_same(lab, by, |_| true);
    }

    /// The same, but a container that could not be started may have been stored.
    #[track_caller]
    pub fn assert_kernel_unchanged(&self, lab: &Lab, by: &str) {
        self.assert_same(lab, by, |thing| !thing.starts_with('{') && !thing.contains("/containers/"));
    }

    #[track_caller]
    fn assert_same(&self, lab: &Lab, by: &str, counts: impl Fn(&String) -> bool) {
        let now = Self::of(lab);
        let difference = |one: &Self, other: &Self, what: &str| {
            let things = one.0.difference(&other.0).filter(|thing| counts(thing));
            things.map(|thing| format!("{what}: {thing}")).collect::<Vec<_>>()
        };
        let new = difference(&now, self, "is new");
        let gone = difference(self, &now, "is gone");
        assert!(new.is_empty() && gone.is_empty(), "after {by}:\n{}", [new, gone].concat().join("\n"));
    }
}

/// The path of the program under test, for commands that another program starts.
pub fn netbpf() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        std::env::var("NETBPF_BIN")
            .unwrap_or_else(|_| format!("{}/../target/debug/netbpf", env!("CARGO_MANIFEST_DIR")))
    });
    &PATH
}

/// All that there is on a host, apart from numbers, IDs and times: two that came about in different ways can be equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Shape(BTreeMap<String, usize>);

/// One line a thing, but for what [`Shape::of`] asks of netbpf.
const SHAPE: &str = r#"
ip -o link | sed -E 's/^[0-9]+: /link /; s/link-netnsid [0-9]+//; s/@if[0-9]+/@if/; /link (veth|nbp)/s/link.ether [0-9a-f:]+//'
ip -o addr | sed -E 's/^[0-9]+: /address /'
ip route show table all | sed 's/^/route /'
find /sys/fs/bpf /run -path /run/state/netbpf.redb -prune -o -path /run/fault -prune -o -path '*/relay.*' -prune -o -name exit.json -prune -o -printf 'file %p\n'
nft -s list ruleset | sed 's/^/filter /'
ss -Hltun | awk '{ print "socket", $1, $5 }'
grep -H . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/forwarding
"#;

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
    /// The present one.
    pub fn of(lab: &Lab) -> Self {
        eventually("an operational state of all veth pairs", || {
            let links = lab.host(["ip", "-o", "link", "show", "type", "veth"]).ok().stdout;
            (!links.contains(" state UNKNOWN ")).then_some(())
        });
        let mut things: Vec<String> =
            lab.host(["sh", "-c", SHAPE]).ok().stdout.lines().map(str::to_owned).collect();
        for list in [["network", "ls", "-q", "--no-trunc"], ["ps", "-a", "-q", "--no-trunc"]] {
            let ids = lab.netbpf(list).ok().stdout;
            if !ids.is_empty() {
                let inspected = lab.netbpf(["inspect"].into_iter().chain(ids.lines())).ok().json();
                for thing in inspected.as_array().into_iter().flatten() {
                    fields(thing, VOLATILE, &format!("inspect {}:", thing["Name"]), &mut things);
                }
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

    /// The same without containers that do not run, and their files.
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

/// All processes but process 1 and the relay, which may go on without a port to relay.
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
    let open = |name: &str| MapData::from_pin(lab.path(format!("/sys/fs/bpf/netbpf/v{LAYOUT}/maps/{name}")));
    let mut things = Vec::new();
    let networks = Array::<_, Network>::try_from(Map::Array(open("NETWORKS")?))?;
    for network in
        networks.iter().collect::<Result<Vec<_>, _>>()?.iter().filter(|network| network.ifindex != 0)
    {
        things.push(format!("NETWORKS {:?} {:?}", network.mac, network.gateway));
    }
    let endpoints = Array::<_, Endpoint>::try_from(Map::Array(open("ENDPOINTS")?))?;
    for endpoint in
        endpoints.iter().collect::<Result<Vec<_>, _>>()?.iter().filter(|endpoint| endpoint.ifindex != 0)
    {
        things.push(format!("ENDPOINTS {:?} {:?} {:?}", endpoint.mac, endpoint.ipv4, endpoint.ipv6));
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
    Ok(things)
}

/// One line for each value that is no object or array, but for those of these names.
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
