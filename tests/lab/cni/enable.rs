//! `cni enable` and `disable`: the files and links that runtimes need.

use netbpf_tests::lab::eventually;
use serde_json::{Value, json};

use super::lab;

#[test]
fn a_network_is_enabled_for_runtimes_and_disabled() {
    let lab = lab(&[]);
    let [enable, disable] = ["enable", "disable"].map(|verb| {
        let lab = &lab;
        move |network: &str| {
            lab.netbpf(["cni", verb, network, "--conf-dir", "/run/cni/net.d", "--bin-dir", "/run/cni/bin"])
        }
    });
    enable("nonet").fails_with(1, "network nonet not found");
    enable("host").fails_with(1, "network host has no endpoints");
    lab.host(["sh", "-ec", "mkdir -p /run/cni/bin; ln -s /nowhere /run/cni/bin/netbpf"]).ok();
    let file = enable("mynet").ok();
    assert_eq!(file.text(), "/run/cni/net.d/90-netbpf-mynet.conflist");
    let list: Value = lab.host(["cat", file.text()]).ok().json();
    assert_eq!((&list["name"], &list["disableGC"]), (&json!("mynet"), &json!(true)));
    assert_eq!(list["plugins"][0]["type"], "netbpf");
    enable("mynet").ok();
    lab.host(["ip", "netns", "add", "aa"]).ok();
    // As a runtime does: the first plugin of the list, with the list's name and version.
    let mut plugin = list["plugins"][0].clone();
    plugin["name"] = list["name"].clone();
    plugin["cniVersion"] = list["cniVersion"].clone();
    let script = "printf %s \"$0\" | CNI_COMMAND=ADD CNI_CONTAINERID=aa CNI_NETNS=/run/netns/aa CNI_IFNAME=eth0 \
                  CNI_PATH=/run/cni/bin exec /run/cni/bin/netbpf";
    lab.host(["sh", "-c", script, &plugin.to_string()]).ok();
    assert_eq!(lab.containers(), ["aa"]);
    lab.network("second", "--subnet 10.2.0.0/24");
    enable("second").ok();
    disable("second").ok();
    disable("mynet").ok();
    // The container must be detached by the program.
    lab.host(["test", "-e", "/run/cni/bin/netbpf"]).ok();
    lab.host(["ip", "netns", "del", "aa"]).ok();
    eventually("the container is gone", || lab.containers().is_empty().then_some(()));
    enable("mynet").ok();
    lab.host(["touch", "/run/cni/net.d/10-other.conf"]).ok();
    disable("mynet").ok();
    lab.host(["test", "-e", "/run/cni/bin/loopback"]).ok();
    lab.host(["rm", "/run/cni/net.d/10-other.conf"]).ok();
    enable("mynet").ok();
    disable("mynet").ok();
    disable("mynet").fails_with(1, "network mynet is not enabled");
    assert_eq!(lab.host(["find", "/run/cni", "-not", "-type", "d"]).ok().text(), "");
    lab.network("with blank", "--subnet 10.3.0.0/24");
    enable("with blank").fails_with(1, "a CNI configuration has a name of");
    lab.host(["rm", "-r", "/run/cni"]).ok();
}
