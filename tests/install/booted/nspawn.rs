//! systemd-nspawn's containers in netbpf's networks, as README says, on a Debian 12 with netbpf's package.

use std::fs;

use netbpf_tests::lab::eventually;

use super::{Machine, package::PACKAGES, root_of};

/// A container without an operating system, as a service.
const SERVICE: &str = "\
[Service]
ExecStartPre=ip netns add web
ExecStartPre=netbpf connect mynet netns:web
ExecStart=systemd-nspawn --quiet --keep-unit --register=no --directory=/web --network-namespace-path=/run/netns/web --resolv-conf=off httpd -f -h /etc
ExecStopPost=ip netns del web
";

/// Its root directory, in which busybox is all there is.
const PREPARE: &str = "
mkdir -p /web/bin /web/etc /web/usr
mv /tmp/busybox /web/bin
for applet in sh httpd ping nslookup; do ln -s busybox /web/bin/$applet; done
echo ID=web > /web/etc/os-release
echo nameserver 127.0.0.11 > /web/etc/resolv.conf
systemctl daemon-reload
";

#[test]
fn its_container_has_a_name_and_ends_with_its_service() {
    let machine = Machine::boot(&root_of("bookworm"));
    PACKAGES.give_to(&machine);
    machine.succeeds("dpkg -i /tmp/debs/first.deb");
    let busybox = std::env::split_paths(&std::env::var_os("PATH").expect("PATH"))
        .map(|folder| folder.join("busybox"))
        .find(|file| file.exists());
    fs::copy(busybox.expect("busybox"), machine.path("/tmp/busybox")).expect("a copy");
    fs::write(machine.path("/run/systemd/system/web.service"), SERVICE).expect("a unit");
    machine.succeeds(PREPARE);
    machine.succeeds("netbpf network create --subnet 10.1.0.0/24 mynet");
    machine.succeeds("netbpf run -d --name own --net mynet -- sleep infinity");

    for _ in 0..2 {
        machine.succeeds("systemctl restart web.service");
        machine.succeeds("netbpf exec own ping -c1 -W1 web");
        // From a process in the container.
        let pid = eventually("its server", || {
            let found = machine.succeeds("grep -l '^httpd' /proc/[0-9]*/comm || true");
            Some(found.lines().next()?.split('/').nth(2)?.to_owned())
        });
        let inside = machine.succeeds(&format!(
            "nsenter --target {pid} --net --mount --pid sh -c 'nslookup own && ping -c1 -W1 own'"
        ));
        assert!(inside.contains("Address: 10.1.0.2"), "{inside}");
    }
    machine.succeeds("systemctl stop web.service");
    eventually("no container but netbpf's own", || {
        (machine.succeeds("netbpf ps --format '{{.Names}}'") == "own").then_some(())
    });
    machine.succeeds("netbpf rm -f own && netbpf network rm mynet && dpkg --purge netbpf");
}
