//! Networks that cannot be made, removed or filled.

use netbpf_tests::lab::Lab;

use super::Setup;
use crate::world::World;

#[test]
fn networks_that_cannot_be_created() {
    let setup = Setup::new();
    let create = |words: &[&'static str], message: &str| {
        setup.daemon_refuses(&[&["network", "create"], words].concat(), message);
    };
    create(&["mynet"], "network with name mynet already exists");
    for name in ["bridge", "host", "none", "default"] {
        create(&[name], &format!("operation is not permitted on predefined {name} network "));
    }
    create(&[""], "invalid name: name is empty");
    create(&["a\nb"], r#"invalid network name "a\nb": it must not contain control characters"#);
    create(
        &["a\u{1b}[31mb"],
        r#"invalid network name "a\u{1b}[31mb": it must not contain control characters"#,
    );
    let long = "n".repeat(300);
    setup.daemon_refuses(
        &["network", "create", &long],
        &format!("invalid network name {}…: it has 300 bytes, at most 255 are allowed", &long[..32]),
    );
    let config = |text: &str| format!("invalid network config:\n{text}");
    create(&["--subnet", "10.0.0.0", "new"], &config("invalid subnet 10.0.0.0: invalid CIDR block notation"));
    create(
        &["--subnet", "10.0.0.0/33", "new"],
        &config("invalid subnet 10.0.0.0/33: invalid CIDR block notation"),
    );
    create(
        &["--subnet", "10.0.0.1/24", "new"],
        &config("invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
    );
    create(
        &["--subnet", "10.0.0.0/24", "--ip-range", "10.0.0.0/16", "new"],
        &config("invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24"),
    );
    create(
        &["--subnet", "10.0.0.0/24", "--aux-address", "router=10.0.0.1", "new"],
        "failed to allocate secondary ip address (router:10.0.0.1): Address already in use",
    );
    create(
        &["--subnet", "10.0.0.0/24", "--gateway", "10.0.0.255", "new"],
        "failed to allocate gateway (10.0.0.255): Address already in use",
    );
    let overlap = "invalid pool request: Pool overlaps with other one on this address space";
    create(&["--subnet", "10.9.0.0/16", "new"], overlap);
    create(&["--subnet", "10.9.0.128/25", "new"], overlap);
    create(
        &["--subnet", "10.0.0.0/24", "--subnet", "10.0.1.0/24", "new"],
        "bridge driver doesn't support multiple subnets",
    );
    let mtu = "com.docker.network.driver.mtu";
    create(
        &["-o", "netbpf.mtu=1400", "new"],
        "unknown driver option netbpf.mtu: known are netbpf.gso_max_size, netbpf.max_flows, netbpf.max_flood_copies, \
         netbpf.dns_intercept, netbpf.addresses, netbpf.guard, netbpf.redirect, netbpf.ingress_rate, \
         netbpf.ingress_burst, netbpf.egress_rate, netbpf.egress_burst",
    );
    create(
        &["-o", "com.docker.network.driver.mtu=big", "new"],
        &format!("failed to parse {mtu} value: big (strconv.Atoi: parsing \"big\": invalid syntax)"),
    );
    create(&["-o", "com.docker.network.driver.mtu=-1", "new"], "invalid MTU number: -1");
    create(&["-o", "com.docker.network.driver.mtu=67", "new"], "invalid MTU number: 67");
    create(&["-o", "com.docker.network.driver.mtu=65536", "new"], "invalid MTU number: 65536");
    create(
        &["-d", "macvlan", "new"],
        "could not find plugin macvlan in v1 plugin registry: plugin not found",
    );
    create(
        &["--ipam-driver", "dhcp", "new"],
        "could not find plugin dhcp in v1 plugin registry: plugin not found",
    );
    // Errors that the command line finds by itself, as Docker's does.
    let mismatch =
        |words: &[&str], message| setup.refuses(&[&["network", "create"], words].concat(), 1, message);
    mismatch(&["--gateway", "10.0.0.1", "new"], "every ip-range or gateway must have a corresponding subnet");
    mismatch(
        &["--subnet", "10.0.0.0/24", "--gateway", "10.0.1.1", "new"],
        "no matching subnet for gateway 10.0.1.1",
    );
    mismatch(
        &["--subnet", "10.0.0.0/24", "--ip-range", "10.0.1.0/25", "new"],
        "no matching subnet for range 10.0.1.0/25",
    );
    mismatch(
        &["--subnet", "10.0.0.0/24", "--aux-address", "a=10.0.1.1", "new"],
        "no matching subnet for aux-address 10.0.1.1",
    );
    mismatch(
        &["--subnet", "10.0.0.0/24", "--subnet", "10.0.0.0/25", "new"],
        "multiple overlapping subnet configuration is not supported",
    );
}

#[test]
fn subnets_that_the_host_has_a_route_to() {
    let setup = Setup::new();
    setup.lab.host(["ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "uplink1"]).ok();
    setup.lab.host(["ip", "addr", "add", "10.77.0.1/16", "dev", "uplink0"]).ok();
    setup.lab.host(["ip", "link", "set", "uplink0", "up"]).ok();
    let world = World::of(&setup.lab);
    setup
        .lab
        .netbpf(["network", "create", "--subnet", "10.77.5.0/24", "new"])
        .fails_with(1, "invalid pool request: Pool overlaps with other one on this address space");
    world.assert_unchanged(&setup.lab, "network create over a route of the host");
    setup.lab.host(["ip", "link", "del", "uplink0"]).ok();
    setup.lab.netbpf(["network", "create", "--subnet", "10.77.5.0/24", "new"]).ok();
}

#[test]
fn networks_that_cannot_be_removed() {
    let setup = Setup::new();
    setup.daemon_refuses(&["network", "rm", "nobody"], "network nobody not found");
    for name in ["bridge", "host", "none"] {
        setup.daemon_refuses(
            &["network", "rm", name],
            &format!("{name} is a pre-defined network and cannot be removed"),
        );
    }
    let id = setup.lab.netbpf(["inspect", "--format", "{{.Id}}", "member"]).ok().text()[..12].to_owned();
    let in_use = format!(
        "error while removing network: network mynet has active endpoints (name:\"member\" id:\"{id}\")"
    );
    setup.daemon_refuses(&["network", "rm", "mynet"], &in_use);
    setup.daemon_refuses(&["network", "rm", "-f", "mynet"], &in_use);
    setup.refuses(
        &["network", "inspect", "nobody"],
        1,
        "Error response from daemon: network nobody not found",
    );
    setup.refuses(&["inspect", "nobody"], 1, "Error: No such object: nobody");
}

#[test]
fn a_subnet_that_is_exhausted_works_again_when_an_address_is_freed() {
    let lab = Lab::start();
    lab.netbpf(["network", "create", "--subnet", "10.0.0.0/30", "tiny"]).ok();
    lab.netbpf(["run", "-d", "--name", "first", "--net", "tiny", "--", "sleep", "infinity"]).ok();
    lab.netbpf(["run", "-d", "--name", "second", "--", "sleep", "infinity"]).ok();
    let id = lab.netbpf(["network", "inspect", "--format", "{{.Id}}", "tiny"]).ok().text().to_owned();
    let message = format!(
        "Error response from daemon: no available IPv4 addresses on this network's address pools: tiny ({id})"
    );
    let world = World::of(&lab);
    lab.netbpf(["connect", "tiny", "second"]).fails_with(1, &message);
    world.assert_unchanged(&lab, "connect to an exhausted network");
    lab.netbpf(["run", "--rm", "--net", "tiny", "--", "true"]).fails_with(125, &message);
    world.assert_unchanged(&lab, "run in an exhausted network");
    lab.netbpf(["disconnect", "tiny", "first"]).ok();
    lab.netbpf(["connect", "tiny", "second"]).ok();
    lab.netbpf(["exec", "second", "ip", "addr", "show", "to", "10.0.0.2"]).ok();
}
