//! How long netbpf may take for what users or containers wait for.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use netbpf_tests::lab::{Lab, eventually};

use crate::{
    names::{question, with_mynet},
    ports::{filter, is_free, is_held, serve},
};

#[test]
fn a_killed_responder_is_back_within_200_ms() {
    let lab = with_mynet(Lab::start_alone());
    let client = lab.inside("tomcat01", || UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    client.connect("127.0.0.11:53").expect("an address");
    client.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
    let question = question("tomcat02");
    let is_answered = || {
        // Between two responders, sending may fail or get no answer.
        let _ = client.send(&question);
        let mut answer = [0; 512];
        client.recv(&mut answer).is_ok_and(|length| answer[..length].ends_with(&[10, 1, 0, 3]))
    };
    eventually("an answer", || is_answered().then_some(()));
    let times: Vec<Duration> = (0..3)
        .map(|_| {
            let [responder] = lab.processes("netbpf responder")[..] else { panic!("one responder") };
            // Drop earlier answers.
            while client.recv(&mut [0; 512]).is_ok() {}
            let killed = Instant::now();
            lab.host(["kill", "-9", &responder.to_string()]).ok();
            eventually("another responder", || {
                lab.processes("netbpf responder").iter().any(|pid| *pid != responder).then_some(())
            });
            eventually("an answer of the next responder", || is_answered().then_some(()));
            killed.elapsed()
        })
        .collect();
    assert!(times.iter().all(|time| *time < Duration::from_millis(200)), "{times:?}");
}

#[test]
fn a_thousand_ports_of_both_families_take_two_seconds() {
    let lab = Lab::start_alone();
    lab.network("six", "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64");
    let start = Instant::now();
    lab.run("web", "--net six -p 20000-20999:20000-20999 -p 20000-20999:20000-20999/udp");
    let took = start.elapsed();
    println!("1000 ports of TCP and UDP in both families: {took:?}");
    let start = Instant::now();
    lab.run("more", "--net six -p 30000-30999:20000-20999");
    let took = start.elapsed();
    println!("1000 ports in both families: {took:?}");
    assert!(took < Duration::from_secs(2), "1000 ports took {took:?}");
    assert_eq!(lab.netbpf(["port", "more"]).ok().stdout.lines().count(), 2000);
}

#[test]
fn a_thousand_ports_take_two_seconds_and_no_process() {
    let lab = Lab::start_alone();
    serve(&lab, "warm", "-p 8080:80");
    let before = processes(&lab);
    let start = Instant::now();
    lab.run("web", "-p 20000-20999:20000-20999");
    let took = start.elapsed();
    println!("1000 ports: {took:?}");
    assert!(took < Duration::from_secs(2), "1000 ports took {took:?}");
    // The container's own processes, and threads that the daemon's runtime keeps for a while.
    let (few, now) = (20, processes(&lab));
    assert!(now <= before + few, "{before} processes and threads before, {now} with a thousand ports");
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout.lines().count(), 2000);
    assert_eq!(
        lab.netbpf(["ps", "--filter", "name=web", "--format", "{{.Ports}}"]).ok().text(),
        "0.0.0.0:20000-20999->20000-20999/tcp, [::]:20000-20999->20000-20999/tcp"
    );
    for port in [20000, 20500, 20999] {
        is_held(&lab, &format!("TCP-LISTEN:{port}"));
    }
    let start = Instant::now();
    lab.netbpf(["rm", "-f", "web"]).ok();
    println!("… and gone: {:?}", start.elapsed());
    is_free(&lab, 20999);
    assert!(!filter(&lab).contains("20500"));
}

/// Counts threads, too.
#[track_caller]
fn processes(lab: &Lab) -> usize {
    lab.host(["sh", "-c", "ls -d /proc/[0-9]*/task/* | wc -l"]).ok().text().parse().expect("a number")
}
