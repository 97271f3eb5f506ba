//! All that a refused command could have changed: links, addresses, routes, map entries, pins, files, records.

use std::collections::BTreeSet;

use netbpf_tests::lab::Lab;

/// One line a thing. The counters are left out: frames may pass at any time.
const LOOK: &str = r#"
ip -o link | sed 's/^/link /'
ip -o addr | sed 's/^/address /'
ip route show table all | sed 's/^/route /'
find /sys/fs/bpf /run -path /run/state/netbpf.redb -prune -o -printf 'file %p\n'
for map in FDB NEIGHBOURS; do
    bpftool -j map dump pinned /sys/fs/bpf/netbpf/v1/maps/$map | tr -d ' \n' | sed "s/},{\"key\"/}\n$map {\"key\"/g"
    echo
done
# The first hundreds of entries: numbers are given out from 0 on.
for map in NETWORKS PORTS; do
    echo "$map $(bpftool map dump pinned /sys/fs/bpf/netbpf/v1/maps/$map | head -n 3000 | md5sum)"
done
"#;

/// A host and its daemon at one moment.
pub struct World(BTreeSet<String>);

impl World {
    /// As it is.
    pub fn of(lab: &Lab) -> Self {
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

    /// Panics if anything is not as it was.
    #[track_caller]
    pub fn assert_unchanged(&self, lab: &Lab, by: &str) {
        let now = Self::of(lab);
        let new: Vec<_> = now.0.difference(&self.0).map(|thing| format!("is new: {thing}")).collect();
        let gone: Vec<_> = self.0.difference(&now.0).map(|thing| format!("is gone: {thing}")).collect();
        assert!(new.is_empty() && gone.is_empty(), "after {by}:\n{}", [new, gone].concat().join("\n"));
    }
}
