//! Three hundred containers on one network.

use std::{
    fs::File,
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use netbpf_tests::lab::Lab;
use nix::sched::{CloneFlags, setns};

const CONTAINERS: usize = 300;
/// How often the time of a `connect` is compared with that of another network.
const PAIRS: usize = 20;
const PORT: u16 = 7777;

#[test]
fn three_hundred_containers_on_one_network() {
    let lab = Lab::start_alone();
    lab.network("big", "--subnet 10.50.0.0/16");
    lab.network("small", "--subnet 10.51.0.0/24");
    let add = format!("(seq -f 'netns add c%g' {CONTAINERS}; seq -f 'netns add s%g' {PAIRS}) | ip -batch -");
    lab.host(["sh", "-c", &add]).ok();
    let connect = |network: &str, namespace: String| {
        let start = Instant::now();
        lab.netbpf(["connect", network, &format!("netns:{namespace}")]).ok();
        start.elapsed()
    };
    for number in 1..=CONTAINERS - PAIRS {
        connect("big", format!("c{number}"));
    }
    // In turns, because the machine may have other work at any time.
    let (small, big): (Vec<Duration>, Vec<Duration>) = (1..=PAIRS)
        .map(|number| {
            let small = connect("small", format!("s{number}"));
            (small, connect("big", format!("c{}", CONTAINERS - PAIRS + number)))
        })
        .unzip();
    let (small, big) = (median(&small), median(&big));
    println!("connect: {small:?} to a small network, {big:?} to a big one");
    assert!(big < small.mul_f64(1.5), "connect takes {small:?} to a small network, {big:?} to a big one");
    let inspected = lab.netbpf(["network", "inspect", "big"]).ok().json();
    assert_eq!(inspected[0]["Containers"].as_object().map(serde_json::Map::len), Some(CONTAINERS));

    // Each one resolves the address of the first and gets its answer.
    let ping = format!(
        "for number in $(seq 2 {CONTAINERS}); do ip netns exec c$number ping -qc1 -W5 10.50.0.2 >/dev/null || echo $number; done"
    );
    assert_eq!(lab.host(["sh", "-c", &ping]).ok().stdout, "");
    let stats = lab.netbpf(["stats", "--no-stream", "--format", "json"]).ok();
    println!("{}", stats.stdout.lines().next().unwrap_or_default());

    // A broadcast reaches all others exactly once.
    let sockets: Vec<UdpSocket> =
        (1..=CONTAINERS).map(|number| socket_in(&lab, &format!("c{number}"))).collect();
    sockets[0].send_to(b"all", (Ipv4Addr::new(10, 50, 255, 255), PORT)).expect("a broadcast");
    let mut buffer = [0; 16];
    let missed: Vec<usize> = (1..CONTAINERS)
        .filter(|index| !matches!(sockets[*index].recv(&mut buffer), Ok(3)))
        .map(|index| index + 1)
        .collect();
    assert!(missed.is_empty(), "a broadcast did not reach {missed:?}");
    // The first socket receives its own broadcast from its own kernel.
    for socket in &sockets[1..] {
        socket.set_nonblocking(true).expect("a socket");
        let again = socket.recv(&mut buffer).map_err(|error| error.kind());
        assert_eq!(again, Err(ErrorKind::WouldBlock), "each gets it once");
    }
    drop(sockets);

    // Half of them are disconnected, the namespaces of the other half are deleted.
    let leave = format!(
        "set -e; for number in $(seq {}); do {} disconnect big netns:c$number; done",
        CONTAINERS / 2,
        crate::world::netbpf()
    );
    lab.host(["sh", "-c", &leave]).ok();
    let delete = add.replace("netns add", "netns del");
    lab.host(["sh", "-c", &delete]).ok();
    let give_up = Instant::now() + Duration::from_secs(20);
    while !lab.netbpf(["ps", "-aq"]).ok().stdout.is_empty() {
        assert!(Instant::now() < give_up, "namespaces that have gone are forgotten");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(lab.host(["sh", "-c", "ip -o link | grep -c veth || true"]).ok().text(), "0");
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// A socket for broadcasts in a network namespace of the lab.
fn socket_in(lab: &Lab, name: &str) -> UdpSocket {
    let namespace = File::open(lab.path(format!("/run/netns/{name}"))).expect("a namespace");
    let made = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok::<_, std::io::Error>(socket)
    });
    made.join().expect("the thread ends").expect("a socket")
}
