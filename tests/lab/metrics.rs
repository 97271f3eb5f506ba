//! What Prometheus reads: counters and facts, which go with what they are about.

use std::collections::{BTreeMap, BTreeSet};

use netbpf_tests::lab::{Lab, Output, eventually};
use nix::sys::signal::Signal;
use regex::Regex;

/// The samples of a text in Prometheus' format, by name and labels. Each must belong to the family described before it.
#[track_caller]
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut described) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<_> = comment.splitn(3, ' ').collect();
            assert!(words.len() == 3 && ["HELP", "TYPE"].contains(&words[0]), "{line}");
            if words[0] == "HELP" {
                assert!(!described.contains(&words[1].to_owned()), "{line}: described twice");
                described.push(words[1].to_owned());
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a sample");
        let name = sample.split('{').next().unwrap_or_default();
        assert_eq!(described.last().map(String::as_str), Some(name), "{line}");
        let value = value.parse().expect("a number");
        assert_eq!(samples.insert(sample.to_owned(), value), None, "{line}: twice");
    }
    samples
}

#[track_caller]
fn printed(lab: &Lab) -> BTreeMap<String, f64> {
    samples(&lab.netbpf(["metrics"]).ok().stdout)
}

#[test]
fn metrics_tell_of_what_exists_and_are_what_stats_shows() {
    let lab = Lab::start();
    lab.network("mynet", "--ipv6 --subnet 10.1.0.0/29 --subnet fd00:1::/120 --internal");
    lab.netbpf(["network", "create", "--subnet", "10.2.0.0/24", "say \"hi\""]).ok();
    lab.run("web", "--net mynet --ip 10.1.0.4 --mac-address 02:42:0a:01:00:04");
    lab.run("client", "--net mynet");
    lab.run("public", "-p 8080:80");
    lab.exec("client", "ping -c3 10.1.0.4").ok();
    let now = printed(&lab);
    let of_web = r#"container="web",network="mynet",interface="eth0""#;
    let of_endpoint =
        |what: &str, peer: &str| now[&format!("netbpf_endpoint_{what}_total{{{of_web},peer=\"{peer}\"}}")];
    assert!(of_endpoint("receive_frames", "member") >= 3.0, "{now:?}");
    assert!(of_endpoint("transmit_bytes", "member") >= 3.0 * 98.0, "{now:?}");
    assert_eq!(now[&format!("netbpf_endpoint_dropped_frames_total{{{of_web}}}")], 0.0);
    assert_eq!(now[r#"netbpf_map_entries{map="ENDPOINTS"}"#], 3.0);
    assert_eq!(now[r#"netbpf_map_capacity{map="ENDPOINTS"}"#], 65536.0);
    let forwarded = now[r#"netbpf_frames_total{reason="forwarded",verdict="passed"}"#];
    assert_eq!(forwarded, lab.reasons()["forwarded"] as f64);
    for (sample, value) in [
        (r#"netbpf_network_endpoints{network="mynet"}"#, 2.0),
        (r#"netbpf_network_endpoints{network="say \"hi\""}"#, 0.0),
        (r#"netbpf_network_addresses{network="mynet",family="ipv4",state="all"}"#, 5.0),
        (r#"netbpf_network_addresses{network="mynet",family="ipv4",state="leased"}"#, 2.0),
        (r#"netbpf_network_addresses{network="mynet",family="ipv6",state="all"}"#, 255.0),
        (r#"netbpf_published_ports{protocol="tcp"}"#, 2.0),
    ] {
        assert_eq!(now.get(sample), Some(&value), "{sample}: {now:?}");
    }
    let info = now.keys().find(|sample| sample.starts_with(r#"netbpf_endpoint_info{container="web""#));
    let info = info.expect("facts");
    for label in [r#"ipv4="10.1.0.4""#, r#"mac="02:42:0a:01:00:04""#, r#"network="mynet""#] {
        assert!(info.contains(label), "{info}");
    }
    assert!(now["process_cpu_seconds_total"] > 0.0 && now["process_resident_memory_bytes"] > 1e6);

    lab.netbpf(["rm", "-f", "web"]).ok();
    let later = printed(&lab);
    assert!(!later.keys().any(|sample| sample.contains(r#""web""#)), "{later:?}");
    assert_eq!(later[r#"netbpf_network_endpoints{network="mynet"}"#], 1.0);
}

#[test]
fn alerts_and_the_dashboard_are_of_metrics_that_exist() {
    let lab = Lab::start();
    lab.run("web", "-p 8080:80");
    let metrics = printed(&lab);
    let names: BTreeSet<&str> = metrics.keys().filter_map(|sample| sample.split('{').next()).collect();
    let name = Regex::new("(netbpf|process)_[a-z_]+").expect("an expression");
    for (file, text, least) in [
        ("alerts.yml", include_str!("../../xtask/src/install/alerts.yml"), 4),
        ("dashboard.json", include_str!("../../xtask/src/install/dashboard.json"), 11),
    ] {
        let named: BTreeSet<&str> = name.find_iter(text).map(|found| found.as_str()).collect();
        let missing: Vec<_> = named.difference(&names).collect();
        assert!(missing.is_empty() && named.len() >= least, "{file}: {missing:?} of {named:?}");
    }
    let dashboard = include_str!("../../xtask/src/install/dashboard.json");
    assert!(serde_json::from_str::<serde_json::Value>(dashboard).is_ok());
}

#[test]
fn traffic_with_the_host_is_told_apart_from_that_with_members() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("web", "--net mynet");
    lab.run("client", "--net mynet");
    let counted = || {
        let now = printed(&lab);
        ["receive", "transmit"].map(|way| {
            ["member", "host"].map(|peer| {
                let labels = format!(r#"container="web",network="mynet",interface="eth0",peer="{peer}""#);
                now[&format!("netbpf_endpoint_{way}_frames_total{{{labels}}}")]
            })
        })
    };
    let [[received, received_of_host], [_, sent_to_host]] = counted();
    lab.exec("client", "ping -c5 -i0.2 10.1.0.2").ok();
    let [[after, of_host], [_, to_host]] = counted();
    assert_eq!((after - received, of_host - received_of_host, to_host - sent_to_host), (5.0, 0.0, 0.0));
    lab.host(["ping", "-c3", "-i0.2", "10.1.0.2"]).ok();
    let [[later, of_host], [_, to_host]] = counted();
    assert_eq!((later - after, of_host - received_of_host, to_host - sent_to_host), (0.0, 3.0, 3.0));
    let stats = lab.netbpf(["stats", "--no-stream", "--format", "{{.HostRX}} {{.HostTX}}", "web"]).ok();
    assert_eq!(stats.text(), "3 / 294B 3 / 294B");
}

#[test]
fn metrics_are_served_where_the_user_says() {
    let lab = Lab::start();
    let server = lab.spawn_netbpf(["metrics", "--listen", "127.0.0.1:9477"]);
    let get = || -> Output { lab.host(["curl", "-sS", "-i", "http://127.0.0.1:9477/metrics"]) };
    let answer = eventually("it answers", || Some(get()).filter(|answer| answer.status.success()));
    let (head, text) = answer.stdout.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(samples(text).contains_key(r#"netbpf_network_endpoints{network="bridge"}"#), "{text}");
    lab.netbpf(["metrics", "--listen", "127.0.0.1:9477"])
        .fails_with(1, "listen at 127.0.0.1:9477: Address already in use (os error 98)");
    // Prometheus takes the host for down, and goes on when the daemon is back.
    lab.kill_daemon();
    assert!(get().ok().stdout.starts_with("HTTP/1.1 502"));
    lab.start_daemon();
    assert!(get().ok().stdout.starts_with("HTTP/1.1 200"));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.output().text(), "http://127.0.0.1:9477/metrics");
}
