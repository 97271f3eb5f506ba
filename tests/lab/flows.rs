//! The limit on the conntrack flows of one container.

use netbpf_tests::lab::Lab;

/// A Python program that opens flows to a number of ports. Arguments: the address, the number.
const BEGIN: &str = "
import ipaddress, socket, sys
family = socket.AF_INET if ipaddress.ip_address(sys.argv[1]).version == 4 else socket.AF_INET6
client = socket.socket(family, socket.SOCK_DGRAM)
for port in range(10000, 10000 + int(sys.argv[2])): client.sendto(b'x', (sys.argv[1], port))
";

#[track_caller]
fn begin(lab: &Lab, container: &str, address: &str, count: u32) {
    lab.netbpf(["exec", container, "python3", "-c", BEGIN, address, &count.to_string()]).ok();
}

#[test]
fn a_container_opens_no_more_flows_than_its_network_allows() {
    let lab = Lab::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 -o netbpf.max_flows=20");
    lab.network("blue", "--subnet 10.2.0.0/24");
    for (name, network) in [("greedy", "red"), ("modest", "red"), ("free", "blue")] {
        lab.run(name, &format!("--net {network}"));
    }
    let flows = |word: &str| lab.drops_since(&[].into()).get(word).copied().unwrap_or_default();
    // Flows of both families count together.
    begin(&lab, "greedy", "10.1.0.1", 15);
    assert_eq!(flows("flows"), 0);
    begin(&lab, "greedy", "fd00:1::1", 15);
    assert_eq!(flows("flows"), 10);
    begin(&lab, "modest", "10.1.0.1", 15);
    begin(&lab, "free", "10.2.0.1", 500);
    assert_eq!(flows("flows"), 10);
    // The limit is also in the table that the next daemon loads, and is removed with the network.
    lab.restart_daemon();
    begin(&lab, "modest", "10.1.0.1", 15);
    assert_eq!(flows("flows"), 0, "it counts anew");
    begin(&lab, "modest", "fd00:1::1", 25);
    assert!(flows("flows") > 0);
    lab.netbpf(["rm", "-f", "greedy", "modest"]).ok();
    lab.netbpf(["network", "rm", "red"]).ok();
    let table = lab.host(["nft", "list", "table", "inet", "netbpf"]).ok();
    assert!(!table.stdout.contains("flows-"), "{table}");
}
