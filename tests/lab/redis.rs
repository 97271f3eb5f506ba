//! A cluster of six Redis servers with fixed addresses and published ports, set up as users do it, and its behaviour
//! when a master dies.

use netbpf_tests::lab::eventually;

use super::outside::Neighbourhood;

/// The configuration of a node; `N` is its number.
const CONFIG: &str = "port 6379
bind 0.0.0.0
protected-mode no
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 5000
cluster-announce-ip 172.16.0.1N
cluster-announce-port 6379
cluster-announce-bus-port 16379
appendonly yes
save \"\"
";

/// The directory of a node, which outlives its container.
fn folder(node: usize) -> String {
    format!("/run/redis-{node}")
}

/// The answer to redis-cli in a container of the cluster's network.
fn cli(lab: &Neighbourhood, arguments: &str) -> String {
    lab.exec("client", &format!("redis-cli -c {arguments}")).ok().text().to_owned()
}

/// The roles of the live nodes, by address.
fn nodes(lab: &Neighbourhood, by: usize) -> Vec<(String, &'static str)> {
    let listed = lab.exec("client", &format!("redis-cli -h 172.16.0.1{by} cluster nodes")).ok().stdout;
    let node = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let flags = words[2];
        let role = match () {
            () if flags.contains("fail") => "failed",
            () if flags.contains("master") => "master",
            () => "replica",
        };
        (words[1].split(':').next().unwrap_or_default().to_owned(), role)
    };
    listed.lines().map(node).collect()
}

fn role(lab: &Neighbourhood, by: usize, node: usize) -> &'static str {
    let address = format!("172.16.0.1{node}");
    nodes(lab, by).into_iter().find(|(known, _)| *known == address).map_or("unknown", |(_, role)| role)
}

#[test]
fn a_redis_cluster_survives_the_death_of_a_master() {
    let lab = Neighbourhood::start();
    lab.network("redis", "--subnet 172.16.0.0/16");
    for node in 1..=6 {
        let folder = folder(node);
        std::fs::create_dir(lab.path(&folder)).expect("a folder for the node");
        let config = CONFIG.replace("1N", &format!("1{node}"));
        std::fs::write(lab.path(format!("{folder}/redis.conf")), config).expect("its configuration");
        lab.netbpf([
            "run",
            "-d",
            "--name",
            &format!("redis-{node}"),
            "--net",
            "redis",
            "--ip",
            &format!("172.16.0.1{node}"),
            "-p",
            &format!("637{node}:6379"),
            "-p",
            &format!("1637{node}:16379"),
            "--",
            "sh",
            "-c",
            &format!("cd {folder} && exec redis-server redis.conf"),
        ])
        .ok();
    }
    lab.run("client", "--net redis");
    for node in 1..=6 {
        eventually("the node answers", || {
            let asked = lab.exec("client", &format!("redis-cli -h redis-{node} ping"));
            (asked.stdout.trim() == "PONG").then_some(())
        });
    }
    let all: String = (1..=6).map(|node| format!(" 172.16.0.1{node}:6379")).collect();
    let made =
        lab.exec("redis-1", &format!("redis-cli --cluster create{all} --cluster-replicas 1 --cluster-yes"));
    assert!(made.ok().stdout.contains("[OK] All 16384 slots covered."));
    let by = 2;
    eventually("all know the roles", || {
        let roles = nodes(&lab, by);
        let count = |what| roles.iter().filter(|(_, role)| *role == what).count();
        (count("master") == 3 && count("replica") == 3).then_some(())
    });
    // A replica that never had its master's data does not replace it.
    for node in 1..=6 {
        eventually("replicas are in step", || {
            let info = lab.exec("client", &format!("redis-cli -h redis-{node} info replication")).ok().stdout;
            (!info.contains("role:slave") || info.contains("master_link_status:up")).then_some(())
        });
    }

    // From inside, by name. For a key of another node, the client is redirected to the address that the cluster
    // announces.
    for key in 0..30 {
        assert_eq!(cli(&lab, &format!("-h redis-1 set key{key} value{key}")), "OK");
    }
    for key in 0..30 {
        assert_eq!(cli(&lab, &format!("-h redis-6 get key{key}")), format!("value{key}"));
    }
    // From another host, by published ports: exactly one master has the key.
    let from_far = |node: usize, command: &str| {
        lab.on("far", &format!("redis-cli -h 192.0.2.1 -p 637{node} {command}")).ok().text().to_owned()
    };
    let owners: Vec<usize> = (1..=6).filter(|node| from_far(*node, "get key7") == "value7").collect();
    let [owner] = owners[..] else { panic!("{owners:?} have the key") };
    assert_eq!(from_far(owner, "set key7 seven"), "OK");
    assert_eq!(cli(&lab, "-h redis-1 get key7"), "seven");

    // The master with the key dies; its replica takes over, and clients go on.
    let by = if owner == by { 3 } else { by };
    assert_eq!(role(&lab, by, owner), "master");
    lab.netbpf(["kill", &format!("redis-{owner}")]).ok();
    eventually("its replica is the master", || {
        let roles = nodes(&lab, by);
        let masters = roles.iter().filter(|(_, role)| *role == "master").count();
        (role(&lab, by, owner) == "failed" && masters == 3).then_some(())
    });
    eventually("the cluster serves again", || {
        let info = lab.exec("client", &format!("redis-cli -h 172.16.0.1{by} cluster info")).ok().stdout;
        info.contains("cluster_state:ok").then_some(())
    });
    // A node may name the dead master for a moment; clients retry.
    let again = |arguments: &str, answer: &str| {
        let command = format!("timeout 2 redis-cli -c -h redis-{by} {arguments}");
        eventually("clients go on", || {
            let told = lab.exec("client", &command).stdout;
            (told.trim() == answer).then_some(())
        });
    };
    again("get key7", "seven");
    for key in 0..30 {
        again(&format!("set key{key} again{key}"), "OK");
    }

    // The old master starts again with its address, port and directory, as a replica that catches up.
    lab.netbpf(["start", &format!("redis-{owner}")]).ok();
    assert_eq!(lab.address(&format!("redis-{owner}"), "redis"), format!("172.16.0.1{owner}"));
    eventually("the old master is a replica", || (role(&lab, by, owner) == "replica").then_some(()));
    eventually("it has what it missed", || {
        let info = from_far(owner, "info replication");
        (info.contains("role:slave") && info.contains("master_link_status:up")).then_some(())
    });
    assert_eq!(cli(&lab, &format!("-h redis-{owner} get key7")), "again7");
    assert!(from_far(owner, "get key7").contains("MOVED"), "another node is its master now");

    for node in 1..=6 {
        lab.netbpf(["rm", "-f", &format!("redis-{node}")]).ok();
        std::fs::remove_dir_all(lab.path(folder(node))).expect("the node's folder");
    }
}
