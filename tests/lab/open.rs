//! What the host's packet filter does with packets of open endpoints, whose sources may be outside of their network.

use netbpf_tests::lab::eventually;

use crate::outside::Neighbourhood;

/// Two networks on a host with neighbours: `red01` in `red` has these options; `blue01` in `blue` has published ports.
fn town(options: &str) -> Neighbourhood {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.network("blue", "--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64");
    lab.run("red01", &format!("--net red --driver-opt {options}"));
    lab.run("blue01", "--net blue -p 9000:9000/udp -p 9001:9001");
    lab
}

const ROUTER: &str = "netbpf.addresses=0.0.0.0/0,::/0";
const UNGUARDED: &str = "netbpf.guard=off";

/// conntrack finds a flow by addresses and ports only, from whichever interface a packet comes.
#[test]
fn a_packet_of_an_open_endpoint_does_not_enter_a_flow_of_another_network() {
    for options in [ROUTER, UNGUARDED] {
        let lab = town(options);
        let blue = lab.station("blue01", "eth0");
        for address in ["192.0.2.2", "[2001:db8:1::2]"] {
            let word = format!("echo x | socat -u - UDP:{address}:4001,sourceport=4000");
            lab.exec_script("blue01", &word).ok();
        }
        for address in ["192.0.2.1", "[2001:db8:1::1]"] {
            let word = format!("echo first | socat -u - UDP:{address}:9000,sourceport=5000");
            lab.on("far", &word).ok();
        }
        eventually("the packets of the neighbour", || (blue.heard_ending_in(b"first\n") == 2).then_some(()));

        let lie = "
            ip addr add 192.0.2.2/32 dev lo; ip addr add 2001:db8:1::2/128 dev lo nodad
            for ports in 4000,sourceport=4001 9000,sourceport=5000; do
                echo lie | socat -u - UDP:192.0.2.1:$ports,bind=192.0.2.2
                echo lie | socat -u - UDP6:[2001:db8:1::1]:$ports,bind=[2001:db8:1::2]
            done";
        let before = lab.reasons();
        lab.in_network_of("red01", lie).ok();
        lab.exec("red01", "ping -c1 -W2 10.1.0.1").ok();
        assert_eq!(lab.drops_since(&before), [("unpublished".to_owned(), 4)].into(), "{options}");
        assert_eq!(blue.heard_ending_in(b"lie\n"), 0, "{options}");
    }
}
