//! The name responder, queried from real containers.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use netbpf_tests::lab::Lab;

/// The answer to a query with dig.
struct Answer {
    status: String,
    flags: String,
    /// Owner, type and data of each record.
    records: Vec<(String, String, String)>,
}

impl Answer {
    fn data(&self) -> Vec<&str> {
        self.records.iter().map(|(_, _, data)| data.as_str()).collect()
    }

    fn is_empty_noerror(&self) -> bool {
        self.status == "NOERROR" && self.records.is_empty()
    }
}

#[track_caller]
fn dig(lab: &Lab, container: &str, question: &str) -> Answer {
    let output =
        lab.exec(container, &format!("dig +noall +comments +answer +time=5 +tries=1 {question}")).ok();
    let after = |start: &str, end: char| {
        let rest = output.stdout.split_once(start).map_or("", |(_, rest)| rest);
        rest.split(end).next().unwrap_or_default().trim().to_owned()
    };
    let record = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        Some((words.first()?.to_string(), words.get(3)?.to_string(), words.get(4..)?.join(" ")))
    };
    Answer {
        status: after("status: ", ','),
        flags: after("flags: ", ';'),
        records: output.stdout.lines().filter(|line| !line.starts_with(';')).filter_map(record).collect(),
    }
}

/// A network with `tomcat01` at 10.1.0.2, and `tomcat02` at 10.1.0.3 with an alias and a host name.
fn lab() -> Lab {
    let lab = Lab::start();
    with_mynet(lab)
}

pub fn with_mynet(lab: Lab) -> Lab {
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("tomcat01", "--net mynet");
    lab.run("tomcat02", "--net mynet --network-alias web --hostname shop.example.org");
    lab
}

#[test]
fn every_name_of_a_container_resolves_with_and_without_its_network() {
    let lab = lab();
    let short = lab.inspect("tomcat02")["Id"].as_str().expect("an ID")[..12].to_owned();
    for name in ["tomcat02", "web", "shop.example.org", &short] {
        for question in [name.to_owned(), format!("{name}.mynet")] {
            let answer = dig(&lab, "tomcat01", &question);
            assert_eq!((answer.status.as_str(), answer.data()), ("NOERROR", vec!["10.1.0.3"]), "{question}");
        }
    }
    // A container can resolve its own name.
    assert_eq!(dig(&lab, "tomcat02", "tomcat02").data(), ["10.1.0.3"]);
    assert_eq!(dig(&lab, "tomcat01", "-x 10.1.0.3").data(), ["tomcat02.mynet."]);
    // The answer repeats the name with the letter case of the question.
    let answer = dig(&lab, "tomcat01", "ToMcAt02.MYNET");
    assert_eq!(answer.records, [("ToMcAt02.MYNET.".into(), "A".into(), "10.1.0.3".into())]);
}

#[test]
fn other_types_of_a_known_name_get_an_empty_noerror_answer() {
    let lab = lab();
    for kind in ["AAAA", "MX", "TXT", "HTTPS", "SRV", "NS"] {
        for name in ["tomcat02", "web.mynet"] {
            assert!(dig(&lab, "tomcat01", &format!("{name} {kind}")).is_empty_noerror(), "{name} {kind}");
        }
    }
}

#[test]
fn tcp_and_edns_are_supported() {
    let lab = lab();
    for how in ["+tcp", "+tcp +noedns", "+noedns", "+edns=0 +bufsize=4096", "+dnssec"] {
        assert_eq!(dig(&lab, "tomcat01", &format!("{how} tomcat02")).data(), ["10.1.0.3"], "{how}");
    }
    assert_eq!(dig(&lab, "tomcat01", "+edns=1 +noednsneg tomcat02").status, "BADVERS");
}

#[test]
fn containers_with_the_same_alias_are_answered_in_turns() {
    let lab = lab();
    lab.run("tomcat03", "--net mynet --network-alias web");
    lab.network("other", "--subnet 10.2.0.0/24");
    lab.run("tomcat04", "--net other");
    lab.netbpf(["network", "connect", "--alias", "web", "mynet", "tomcat04"]).ok();
    let mut first = BTreeSet::new();
    for _ in 0..40 {
        let answer = dig(&lab, "tomcat01", "web");
        let all: BTreeSet<_> = answer.data().into_iter().collect();
        assert_eq!(all, ["10.1.0.3", "10.1.0.4", "10.1.0.5"].into());
        first.insert(answer.data()[0].to_owned());
        if first.len() == 3 {
            break;
        }
    }
    assert_eq!(first.len(), 3, "each comes first at times");
    lab.netbpf(["network", "disconnect", "mynet", "tomcat04"]).ok();
    assert_eq!(dig(&lab, "tomcat01", "web").data().len(), 2);
    assert_eq!(dig(&lab, "tomcat01", "tomcat04").status, "SERVFAIL");
    lab.netbpf(["rm", "-f", "tomcat03"]).ok();
    assert_eq!(dig(&lab, "tomcat01", "web").data(), ["10.1.0.3"]);
}

#[test]
fn a_long_answer_is_truncated_over_udp_and_complete_over_tcp() {
    const MANY: usize = 34;
    let lab = lab();
    for number in 0..MANY {
        lab.run(&format!("many{number}"), "--net mynet --network-alias many");
    }
    let short = dig(&lab, "tomcat01", "+noedns +ignore many");
    assert!(short.flags.split(' ').any(|flag| flag == "tc"), "{}", short.flags);
    assert!(short.records.len() < MANY);
    assert_eq!(dig(&lab, "tomcat01", "+noedns many").records.len(), MANY, "dig asks again over TCP");
    assert_eq!(dig(&lab, "tomcat01", "+bufsize=4096 +ignore many").records.len(), MANY);
}

#[test]
fn a_container_in_two_networks_has_the_names_of_both_and_one_outside_has_none() {
    let lab = lab();
    lab.network("other", "--subnet 10.2.0.0/24");
    lab.run("tomcat05", "--net other");
    assert_eq!(dig(&lab, "tomcat05", "tomcat01").status, "SERVFAIL");
    assert_eq!(dig(&lab, "tomcat05", "tomcat01.mynet").status, "SERVFAIL");
    assert_eq!(dig(&lab, "tomcat05", "-x 10.1.0.2").status, "SERVFAIL");
    lab.netbpf(["connect", "mynet", "tomcat05"]).ok();
    for (name, address) in
        [("tomcat01", "10.1.0.2"), ("tomcat05.mynet", "10.1.0.4"), ("tomcat05.other", "10.2.0.2")]
    {
        assert_eq!(dig(&lab, "tomcat05", name).data(), [address]);
    }
    assert_eq!(dig(&lab, "tomcat01", "tomcat05").data(), ["10.1.0.4"]);
    lab.netbpf(["disconnect", "mynet", "tomcat05"]).ok();
    assert_eq!(dig(&lab, "tomcat05", "tomcat01").status, "SERVFAIL");
    assert_eq!(dig(&lab, "tomcat01", "tomcat05").status, "SERVFAIL");
}

#[test]
fn the_default_network_has_no_names_and_no_responder() {
    let lab = lab();
    lab.run("plain", "");
    let conf = lab.exec("plain", "cat /etc/resolv.conf").ok();
    assert!(!conf.text().contains("127.0.0.11"), "{conf}");
    lab.exec("plain", "dig +time=1 +tries=1 @127.0.0.11 tomcat01").fails_with(9, "");
    // The container gets the responder with its first user-defined network, and loses it with the last one.
    lab.netbpf(["connect", "mynet", "plain"]).ok();
    let conf = lab.exec("plain", "cat /etc/resolv.conf").ok();
    assert!(conf.text().contains("\nnameserver 127.0.0.11\n"), "{conf}");
    assert_eq!(dig(&lab, "plain", "tomcat01").data(), ["10.1.0.2"]);
    lab.netbpf(["disconnect", "mynet", "plain"]).ok();
    let conf = lab.exec("plain", "cat /etc/resolv.conf").ok();
    assert!(!conf.text().contains("127.0.0.11"), "{conf}");
    lab.exec("plain", "dig +time=1 +tries=1 @127.0.0.11 tomcat01").fails_with(9, "");
}

#[test]
fn names_resolve_without_the_daemon() {
    let lab = lab();
    // `netbpf exec` needs the daemon, so this uses nsenter.
    let pid = lab.pid("tomcat01").to_string();
    let ask = |name: &str| {
        let asked = lab.host(["nsenter", "-t", &pid, "-n", "dig", "+short", "+tries=1", "@127.0.0.11", name]);
        asked.ok().text().to_owned()
    };
    lab.stop_daemon();
    assert_eq!(ask("tomcat02"), "10.1.0.3");
    lab.start_daemon();
    assert_eq!(ask("tomcat02"), "10.1.0.3");
    lab.run("tomcat03", "--net mynet");
    assert_eq!(ask("tomcat03"), "10.1.0.4");
    lab.kill_daemon();
    assert_eq!(ask("tomcat03"), "10.1.0.4");
    lab.start_daemon();
    assert_eq!(lab.processes("netbpf responder").len(), 1);
}

#[test]
fn the_responder_has_its_own_user_and_no_files_or_privileges() {
    let lab = lab();
    let [responder] = lab.processes("netbpf responder")[..] else { panic!("one responder") };
    is_confined(&lab, responder);
    assert_eq!(dig(&lab, "tomcat01", "tomcat02").data(), ["10.1.0.3"]);
    assert_eq!(lab.processes("netbpf responder"), [responder]);
}

/// Asserts that a process has no privileges, and that no other user can signal it. Returns its UID.
#[track_caller]
pub fn is_confined(lab: &Lab, process: u32) -> u32 {
    let status = lab.host(["cat", &format!("/proc/{process}/status")]).ok().stdout;
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(of(set), "0000000000000000", "{set}");
    }
    assert_eq!((of("NoNewPrivs:"), of("Seccomp:"), of("Groups:")), ("1".into(), "2".into(), String::new()));
    let user: u32 = of("Uid:").split(' ').next().and_then(|uid| uid.parse().ok()).expect("a user");
    assert!((60578..=61183).contains(&user), "{status}");
    assert_eq!(of("Uid:"), [user.to_string().as_str(); 4].join(" "));
    assert_eq!(of("Gid:"), of("Uid:"));
    assert_eq!(lab.host(["ls", "-A", &format!("/proc/{process}/root/")]).ok().text(), "");
    // Another user without privileges.
    let kill = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "busybox", "kill", "-9"];
    let killed = lab.host(kill.into_iter().chain([process.to_string().as_str()]));
    assert!(!killed.status.success(), "{killed}");
    user
}

/// A query for A records.
pub fn question(name: &str) -> Vec<u8> {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], &[name.len() as u8], name.as_bytes(), &[0, 0, 1, 0, 1]].concat()
}

#[test]
fn unknown_names_go_to_the_hosts_resolvers() {
    let lab = Lab::without_daemon();
    let upstream = Upstream::start(&lab, "nameserver 10.9.9.9\nsearch example.org\n");
    lab.start_daemon();
    let lab = with_mynet(lab);
    for how in ["", "+tcp"] {
        let before = upstream.asked();
        assert_eq!(dig(&lab, "tomcat01", &format!("{how} known.example")).data(), ["203.0.113.9"]);
        assert_eq!(dig(&lab, "tomcat01", &format!("{how} nobody.example")).status, "NXDOMAIN");
        assert_eq!(upstream.asked() - before, 2);
    }
    let before = upstream.asked();
    assert_eq!(dig(&lab, "tomcat01", "tomcat02").data(), ["10.1.0.3"]);
    assert!(dig(&lab, "tomcat01", "tomcat02 MX").is_empty_noerror());
    assert_eq!(upstream.asked(), before, "what is known here is asked nowhere else");
    let conf = lab.exec("tomcat01", "cat /etc/resolv.conf").ok();
    assert!(conf.text().contains("\nsearch example.org\n"), "{conf}");
    lab.run("plain", "");
    let conf = lab.exec("plain", "cat /etc/resolv.conf").ok();
    assert!(conf.text().contains("\nnameserver 10.9.9.9\n"), "{conf}");
    upstream.stop(&lab);
    assert_eq!(dig(&lab, "tomcat01", "known.example").status, "SERVFAIL");
}

/// Name servers at one address that know one name.
pub struct Upstream {
    asked: Arc<AtomicUsize>,
    askers: Arc<Mutex<BTreeSet<IpAddr>>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    /// Starts one on the host at 10.9.9.9, with this `/etc/resolv.conf`.
    pub fn start(lab: &Lab, conf: &str) -> Self {
        fs::write(lab.path("/run/resolv.conf"), conf).expect("a resolv.conf");
        lab.host(["busybox", "mount", "-o", "bind", "/run/resolv.conf", "/etc/resolv.conf"]).ok();
        lab.host(["ip", "address", "add", "10.9.9.9/32", "dev", "lo"]).ok();
        Self::at(lab.on_host(|| sockets([10, 9, 9, 9])))
    }

    /// Starts one in a container's network namespace at one of its own addresses.
    pub fn inside(lab: &Lab, container: &str, address: [u8; 4]) -> Self {
        Self::at(lab.inside(container, || sockets(address)))
    }

    fn at((udp, tcp): (UdpSocket, TcpListener)) -> Self {
        udp.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        tcp.set_nonblocking(true).expect("a listener that does not wait");
        let (asked, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let askers = Arc::new(Mutex::new(BTreeSet::new()));
        let note = {
            let (asked, askers) = (Arc::clone(&asked), Arc::clone(&askers));
            move |asker: SocketAddr| {
                asked.fetch_add(1, Ordering::Relaxed);
                askers.lock().expect("a list").insert(asker.ip());
            }
        };
        let (count, end) = (note.clone(), Arc::clone(&ended));
        let datagrams = thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, asker)) = udp.recv_from(&mut buffer) {
                    count(asker);
                    let _ = udp.send_to(&answer(&buffer[..length]), asker);
                }
            }
        });
        let (count, end) = (note, Arc::clone(&ended));
        let connections = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok((mut stream, asker)) = tcp.accept() else {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                };
                count(asker);
                let mut length = [0; 2];
                let _ = stream.set_nonblocking(false);
                let _ = stream.read_exact(&mut length);
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                let _ = stream.read_exact(&mut question);
                let answer = answer(&question);
                let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat());
            }
        });
        Self { asked, askers, ended, threads: vec![datagrams, connections] }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The addresses of all clients so far.
    pub fn askers(&self) -> Vec<String> {
        self.askers.lock().expect("a list").iter().map(IpAddr::to_string).collect()
    }

    /// Ends one in a container.
    pub fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a name server ends");
        }
    }

    /// Ends the one on the host.
    pub fn stop(self, lab: &Lab) {
        self.end();
        lab.host(["busybox", "umount", "/etc/resolv.conf"]).ok();
        lab.host(["ip", "address", "del", "10.9.9.9/32", "dev", "lo"]).ok();
        fs::remove_file(lab.path("/run/resolv.conf")).expect("the file goes");
    }
}

fn sockets(address: [u8; 4]) -> (UdpSocket, TcpListener) {
    let address = SocketAddr::from((address, 53));
    (UdpSocket::bind(address).expect("a socket"), TcpListener::bind(address).expect("a listener"))
}

/// Answers 203.0.113.9 for `known.example`, and NXDOMAIN for all others.
fn answer(question: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
    let is_known = question[12..end].starts_with(b"\x05known\x07example\0");
    let (code, count) = if is_known { (0x80, 1) } else { (0x83, 0) };
    let header = [question[0], question[1], 0x81, code, 0, 1, 0, count, 0, 0, 0, 0];
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 9];
    let record: &[u8] = if is_known { &record } else { &[] };
    [&header[..], &question[12..end], record].concat()
}

#[test]
fn dns_servers_are_asked_from_the_containers_own_namespace() {
    let lab = Lab::without_daemon();
    let upstream = Upstream::start(&lab, "nameserver 10.9.9.9\n");
    lab.start_daemon();
    let lab = with_mynet(lab);
    // A server on the container's own loopback interface.
    lab.run("local", "--net mynet --dns 127.0.0.1");
    let server = Upstream::inside(&lab, "local", [127, 0, 0, 1]);
    for how in ["", "+tcp"] {
        assert_eq!(dig(&lab, "local", &format!("{how} known.example")).data(), ["203.0.113.9"], "{how}");
    }
    assert_eq!(dig(&lab, "local", "tomcat02").data(), ["10.1.0.3"]);
    // The next daemon's responder can still ask it.
    lab.kill_daemon();
    let [responder] = lab.processes("netbpf responder")[..] else { panic!("one responder") };
    lab.host(["kill", "-9", &responder.to_string()]).ok();
    lab.start_daemon();
    assert_eq!(dig(&lab, "local", "known.example").data(), ["203.0.113.9"]);
    assert_eq!(server.askers(), ["127.0.0.1"]);
    assert_eq!(upstream.asked(), 0);
    server.end();

    // A server that others reach as well is asked with the container's address.
    lab.run("told", "--net mynet --dns 10.9.9.9");
    assert_eq!(dig(&lab, "told", "known.example").data(), ["203.0.113.9"]);
    assert_eq!(upstream.askers(), [lab.address("told", "mynet")]);

    // Containers with only internal networks reach servers in these only.
    lab.network("inner", "--internal --subnet 10.2.0.0/24");
    lab.run("confined", "--net inner --dns 10.9.9.9 --dns 10.2.0.3");
    assert_eq!(dig(&lab, "confined", "known.example").status, "SERVFAIL");
    lab.run("server", "--net inner --ip 10.2.0.3");
    let server = Upstream::inside(&lab, "server", [10, 2, 0, 3]);
    assert_eq!(dig(&lab, "confined", "known.example").data(), ["203.0.113.9"]);
    assert_eq!(server.askers(), ["10.2.0.2"]);
    assert_eq!(upstream.askers().len(), 1, "nobody else asked the host's");
    server.end();
    upstream.stop(&lab);
}

#[test]
fn an_address_that_the_asker_may_talk_to_comes_first() {
    let lab = Lab::start();
    lab.network("closed", "--subnet 10.3.0.0/24 -o com.docker.network.bridge.enable_icc=false");
    lab.network("inner", "--internal --subnet 10.4.0.0/24");
    for name in ["one", "two"] {
        lab.run(name, "--net closed");
        lab.netbpf(["connect", "inner", name]).ok();
    }
    assert_eq!(dig(&lab, "one", "two").data(), ["10.4.0.3"]);
    lab.exec("one", "ping -c1 -W2 two").ok();
    // A name with its network, or a container in no other network, gives the address nevertheless.
    assert_eq!(dig(&lab, "one", "two.closed").data(), ["10.3.0.3"]);
    lab.netbpf(["disconnect", "inner", "two"]).ok();
    assert_eq!(dig(&lab, "one", "two").data(), ["10.3.0.3"]);
}

#[test]
fn the_container_s_files_contain_the_options_of_run() {
    let lab = lab();
    lab.run(
        "told",
        "--net mynet --hostname shop.example.com --add-host db:10.9.0.9 --add-host gate:host-gateway \
         --dns 10.9.9.7 --dns-search example.net",
    );
    let hosts = lab.exec("told", "cat /etc/hosts").ok();
    for line in
        ["127.0.0.1\tlocalhost", "10.9.0.9\tdb", "172.17.0.1\tgate", "10.1.0.4\tshop.example.com shop"]
    {
        assert!(hosts.text().lines().any(|other| other == line), "{line}\n{hosts}");
    }
    assert_eq!(lab.exec("told", "cat /etc/hostname").ok().text(), "shop.example.com");
    assert_eq!(lab.exec("told", "hostname").ok().text(), "shop.example.com");
    let conf = lab.exec("told", "cat /etc/resolv.conf").ok();
    for line in ["nameserver 127.0.0.11", "search example.net", "options ndots:0"] {
        assert!(conf.text().lines().any(|other| other == line), "{line}\n{conf}");
    }
    lab.netbpf(["connect", "bridge", "told"]).ok();
    let hosts = lab.exec("told", "cat /etc/hosts").ok();
    assert!(
        hosts.text().ends_with("10.1.0.4\tshop.example.com shop\n172.17.0.2\tshop.example.com shop"),
        "{hosts}"
    );
    lab.netbpf(["disconnect", "mynet", "told"]).ok();
    let hosts = lab.exec("told", "cat /etc/hosts").ok();
    assert!(!hosts.text().contains("10.1.0.4"), "{hosts}");

    lab.run("plain", "--dns 10.9.9.8 --dns-search .");
    let conf = lab.exec("plain", "cat /etc/resolv.conf").ok();
    assert!(conf.text().contains("\nnameserver 10.9.9.8\n") && !conf.text().contains("\nsearch"), "{conf}");
}
