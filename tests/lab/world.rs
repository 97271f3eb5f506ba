//! The state that a refused command must not change: links, addresses, routes, rules, map entries, pins, files,
//! records.

use std::{collections::BTreeSet, sync::LazyLock};

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
