//! Limits by CNI: the capability `bandwidth`, and the annotations of pods.

use serde_json::{Value, json};

use super::{
    lab,
    plugin::{call, conf},
};

/// The rates towards a namespace's `eth0` and from it, as `tc` shows them.
fn rates(lab: &netbpf_tests::lab::Lab, name: &str) -> [Option<String>; 2] {
    let inner = lab.host(["ip", "-n", name, "-j", "link", "show", "eth0"]).ok().json();
    let links = lab.host(["ip", "-j", "link"]).ok().json();
    let mut links = links.as_array().expect("links").iter();
    let outer = links.find(|link| link["ifindex"] == inner[0]["link_index"]).expect("a host side");
    let host_side = outer["ifname"].as_str().expect("a name");
    let outer = lab.host(["tc", "qdisc", "show", "dev", host_side]).ok();
    let inner = lab.host(["tc", "-n", name, "qdisc", "show", "dev", "eth0"]).ok();
    [outer, inner].map(|shown| {
        let tbf = shown.stdout.lines().find(|line| line.starts_with("qdisc tbf "))?;
        tbf.split(" rate ").nth(1)?.split(' ').next().map(str::to_owned)
    })
}

#[test]
fn a_container_has_the_limits_that_its_runtime_or_its_pod_asks_for() {
    let lab = lab(&["aa"]);
    let of_containerd = json!({ "bandwidth":
        { "IngressRate": 10_000_000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 5_000_000, "EgressBurst": 4_294_967_295_u64 } });
    let of_specification = json!({ "bandwidth": { "ingressRate": 10_000_000, "ingressBurst": 800_000, "egressRate": 5_000_000, "egressBurst": 800_000 } });
    let of_pod = json!({ "io.kubernetes.cri.pod-annotations":
        { "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "5000k" } });
    for asked in [of_containerd, of_specification, of_pod] {
        let configuration = conf("1.0.0", json!({ "runtimeConfig": asked }));
        call("ADD", "aa", configuration.clone()).result(&lab);
        assert_eq!(rates(&lab, "aa"), [Some("10Mbit".to_owned()), Some("5Mbit".to_owned())], "{asked}");
        let options =
            lab.inspect(&lab.containers()[0])["NetworkSettings"]["Networks"]["mynet"]["DriverOpts"].take();
        assert_eq!(options["netbpf.ingress_rate"], "10mbit", "{options}");
        call("DEL", "aa", configuration).run(&lab).ok();
    }
    // The configuration's own option, for those who ask for nothing.
    let configuration = conf("1.0.0", json!({ "options": { "netbpf.egress_rate": "1mbit" } }));
    call("ADD", "aa", configuration.clone()).result(&lab);
    assert_eq!(rates(&lab, "aa"), [None, Some("1Mbit".to_owned())]);
    call("DEL", "aa", configuration).run(&lab).ok();
    lab.host(["ip", "netns", "del", "aa"]).ok();
}

#[test]
fn bad_limits_get_the_errors_of_the_protocol() {
    let lab = lab(&["aa"]);
    let bandwidth = |bandwidth: Value| json!({ "bandwidth": bandwidth });
    for (asked, code, said) in [
        (bandwidth(json!({ "ingressRate": 1000 })), 7, "if rate is set, burst must also be set"),
        (bandwidth(json!({ "egressBurst": 1000 })), 7, "if burst is set, rate must also be set"),
        (
            bandwidth(json!({ "egressRate": 1000, "egressBurst": 34_359_738_360_u64 })),
            7,
            "burst cannot be more than 4GB",
        ),
        (bandwidth(json!({ "egressRate": -1, "egressBurst": 8 })), 6, "decode"),
        (
            bandwidth(json!({ "egressRate": 10_000_000_000_000_u64, "egressBurst": 4_294_967_295_u64 })),
            999,
            "expected 1kbit to 1tbit",
        ),
        (
            bandwidth(json!({ "egressRate": 1_000_000, "egressBurst": 8000 })),
            999,
            "a burst of 1000 bytes is too small",
        ),
        (
            json!({ "io.kubernetes.cri.pod-annotations": { "kubernetes.io/egress-bandwidth": "fast" } }),
            7,
            "fast is no quantity such as 10M",
        ),
    ] {
        let bad = call("ADD", "aa", conf("1.0.0", json!({ "runtimeConfig": asked })));
        let (found, message) = bad.error(&lab);
        assert!(found == code && message.contains(said), "{said}: {found} {message}");
    }
    assert_eq!(lab.containers(), [""; 0]);
    let links = lab.host(["ip", "-n", "aa", "-o", "link"]).ok();
    assert_eq!(links.text().lines().count(), 1, "{links}");
    lab.host(["ip", "netns", "del", "aa"]).ok();
}
