//! The state that a refused command must not change: links, addresses, routes, rules, map entries, pins, files,
//! records.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
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
for map in NETWORKS ENDPOINTS; do
    echo "$map in use: $(bpftool map dump pinned /sys/fs/bpf/netbpf/v*/maps/$map | grep -c '"mac": \[2,')"
done
ss -Hltun | awk '{ print "socket", $1, $5 }'
grep -H . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/forwarding
for process in /proc/[0-9]*; do
    [ "$process" = /proc/1 ] || tr '\0' ' ' < $process/cmdline 2>/dev/null | sed -E 's/^/process /; s/$/\n/'
done | grep -vE '^process (sh|find|sed|tr|grep) |^process $|^process .* relay '
"#;

/// Maps of which each entry counts.
const MAPS: &[&str] = &["FDB", "NEIGHBOURS", "OWNED", "ALLOWED"];

/// What is another each time: of a container or a network at any depth.
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
/// The same of an entry of a map.
const NUMBERS: &[&str] = &["network", "ifindex", "owner", "endpoint", "from", "to"];

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
        for map in MAPS {
            let dump = format!("bpftool -j map dump pinned /sys/fs/bpf/netbpf/v*/maps/{map}");
            for entry in lab.host(["sh", "-c", &dump]).ok().json().as_array().into_iter().flatten() {
                let mut entry_fields = Vec::new();
                fields(&entry["formatted"], NUMBERS, "", &mut entry_fields);
                things.push(format!("{map}{}", entry_fields.concat()));
            }
        }
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

    /// What is new and what is gone since `before`, a line each.
    pub fn since(&self, before: &Self) -> String {
        let more = |one: &Self, other: &Self, what: &str| {
            let things = one.0.iter().filter(|(thing, count)| other.0.get(*thing).unwrap_or(&0) < count);
            things.map(|(thing, _)| format!("  {what}: {thing}\n")).collect::<String>()
        };
        more(self, before, "is new") + &more(before, self, "is gone")
    }
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
