//! The name responder as a process with a real feed, and sockets on 127.0.0.1 in place of a container's. Needs no root.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record as DnsRecord, RecordType},
};
use netbpf::{
    dns::{Error, Feed, NetworkRecord, Record, Servers, Sockets},
    model::Id,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::runtime::Runtime;

const EXE: &str = env!("CARGO_BIN_EXE_netbpf");

/// Sockets as the daemon would open them, and their address.
fn sockets() -> (Sockets, SocketAddr) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = tcp.local_addr().expect("an address");
        if let Ok(udp) = UdpSocket::bind(address) {
            return (Sockets { udp, tcp, lent: Vec::new() }, address);
        }
    }
}

fn record(container: Id, network: Id, names: &[&str], address: &str) -> Record {
    let network = NetworkRecord {
        id: network,
        number: 0,
        name: "mynet".into(),
        internal: false,
        icc: true,
        names: names.iter().map(|name| name.to_string()).collect(),
        ipv4: vec![address.parse().expect("an address")],
        ipv6: vec![],
        links: vec![],
    };
    Record { container, networks: vec![network], servers: Servers::Host }
}

fn query(name: &str) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    message
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
    client.set_read_timeout(Some(Duration::from_secs(15))).expect("set the timeout");
    client
}

fn send(client: &UdpSocket, server: SocketAddr, query: &Message) {
    client.send_to(&query.to_vec().expect("a query"), server).expect("send");
}

fn receive(client: &UdpSocket) -> Message {
    let mut buffer = [0; 4096];
    let length = loop {
        match client.recv(&mut buffer) {
            // A child of the feed has died.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received.expect("a reply"),
        }
    };
    Message::from_vec(&buffer[..length]).expect("a reply that parses")
}

fn ask(server: SocketAddr, name: &str) -> Message {
    let (client, query) = (client(), query(name));
    send(&client, server, &query);
    let reply = receive(&client);
    assert_eq!(reply.metadata.id, query.metadata.id);
    reply
}

fn write_framed(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().expect("a message");
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length, &bytes[..]].concat()).expect("send");
}

fn read_framed(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a message");
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).expect("a message");
    Message::from_vec(&bytes).expect("a message that parses")
}

fn exchange(stream: &mut TcpStream, query: &Message) -> Message {
    write_framed(stream, query);
    read_framed(stream)
}

fn addresses(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

/// A server on loopback whose replies are what `reply` makes of the query. Over UDP it sends invalid replies first.
fn upstream(reply: impl Fn(&Message) -> Message + Send + Clone + 'static) -> SocketAddr {
    let (Sockets { udp, tcp, .. }, address) = sockets();
    let by_tcp = reply.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).expect("a query that parses");
            let mut of_another_id = reply(&query);
            of_another_id.metadata.id ^= 1;
            let mut of_another_question = reply(&query);
            of_another_question.queries[0].set_query_type(RecordType::MX);
            for reply in [of_another_id, of_another_question, reply(&query)] {
                // Fails if the client already has its reply and has closed its socket.
                let _ = udp.send_to(&reply.to_vec().expect("a reply"), client);
            }
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let query = read_framed(&mut stream);
            write_framed(&mut stream, &by_tcp(&query));
        }
    });
    address
}

fn replying(
    code: ResponseCode,
    addresses: &'static [&'static str],
) -> impl Fn(&Message) -> Message + Send + Clone {
    move |query| {
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata.response_code = code;
        reply.add_queries(query.queries.iter().cloned());
        for address in addresses {
            let data = RData::A(address.parse().expect("an address"));
            reply.add_answer(DnsRecord::from_rdata(query.queries[0].name().clone(), 7, data));
        }
        reply
    }
}

/// A run directory. Responders that still run for it are killed on drop.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn run_dir(&self) -> &Path {
        self.0.path()
    }

    async fn feed(&self) -> Feed {
        Feed::start(Path::new(EXE), self.run_dir()).await.expect("a feed")
    }

    /// A feed and one container, `alice`, with sockets.
    async fn with_alice(&self) -> (Feed, Record, SocketAddr) {
        let feed = self.feed().await;
        let (sockets, at) = sockets();
        let alice = record(Id::random(), Id::random(), &["alice"], "192.168.0.2");
        feed.upsert(alice.clone(), Some(sockets)).await.expect("upsert");
        (feed, alice, at)
    }

    /// Runs a daemon's life to its end. Nothing of the daemon outlives it: neither its copies of sockets, nor the task
    /// that restarts a lost responder.
    fn daemon<T>(&self, life: impl AsyncFnOnce(&Self) -> T) -> T {
        Runtime::new().expect("a runtime").block_on(life(self))
    }

    /// The processes whose standard input is the control socket in this directory.
    fn responders(&self) -> Vec<Pid> {
        let path = self.run_dir().join("responder.sock");
        let path = path.to_str().expect("a path");
        let sockets = fs::read_to_string("/proc/net/unix").expect("read /proc/net/unix");
        let inodes = sockets.lines().filter(|line| line.ends_with(path));
        let inodes: Vec<String> =
            inodes.filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(6)?))).collect();
        let pids = fs::read_dir("/proc").expect("read /proc");
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let listens = |pid: &i32| {
            let input = fs::read_link(format!("/proc/{pid}/fd/0"));
            input.is_ok_and(|input| inodes.iter().any(|inode| Path::new(inode) == input))
        };
        pids.filter(listens).map(Pid::from_raw).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pid in self.responders() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_resolves_its_neighbours_over_udp_and_tcp() {
    let lab = Lab::new();
    let (feed, alice, at) = lab.with_alice().await;
    let (network, bob) = (alice.networks[0].id, Id::random());
    feed.upsert(record(bob, network, &["bob"], "192.168.0.3"), None).await.expect("upsert");
    assert_eq!(addresses(&ask(at, "bob.")), ["192.168.0.3"]);
    assert_eq!(addresses(&ask(at, "BOB.mynet.")), ["192.168.0.3"]);

    let mut stream = TcpStream::connect(at).expect("connect");
    for name in ["bob.", "alice.", "bob.mynet."] {
        let reply = exchange(&mut stream, &query(name));
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.answers.len(), 1, "{name}");
    }

    feed.upsert(record(bob, network, &["robert"], "192.168.0.4"), None).await.expect("upsert");
    assert_eq!(addresses(&ask(at, "robert.")), ["192.168.0.4"]);
    assert_eq!(ask(at, "bob.").metadata.response_code, ResponseCode::ServFail, "there are no other servers");
    feed.remove(bob).await.expect("remove");
    assert_eq!(ask(at, "robert.").metadata.response_code, ResponseCode::ServFail);

    feed.remove(alice.container).await.expect("remove");
    UdpSocket::bind(at).expect("the sockets are closed on return");
    feed.stop().await.expect("stop");
    assert!(lab.responders().is_empty());
    assert!(!lab.run_dir().join("responder.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_get_no_answer_and_do_no_harm() {
    let lab = Lab::new();
    let (feed, _, at) = lab.with_alice().await;
    let client = client();
    for length in 0..64 {
        let garbage: Vec<u8> = (0..length).map(|_| rand::random::<u8>() | 0x80).collect();
        client.send_to(&garbage, at).expect("send");
    }
    TcpStream::connect(at).expect("connect").write_all(b"\x40\x00").expect("send");
    assert_eq!(addresses(&ask(at, "alice.")), ["192.168.0.2"]);
    client.set_nonblocking(true).expect("set");
    assert_eq!(client.recv(&mut [0; 512]).expect_err("no reply").kind(), ErrorKind::WouldBlock);
    feed.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_forwarded_to_one_server_after_another() {
    let lab = Lab::new();
    let (feed, mut alice, at) = lab.with_alice().await;

    let closed: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let failing = upstream(replying(ResponseCode::ServFail, &[]));
    let refusing = upstream(replying(ResponseCode::Refused, &[]));
    let denying = upstream(replying(ResponseCode::NXDomain, &[]));
    let knowing = upstream(replying(ResponseCode::NoError, &["10.20.30.40"]));
    feed.set_host_servers(vec![closed, failing, knowing]).await.expect("set");
    let start = Instant::now();
    let reply = ask(at, "example.com.");
    assert_eq!(addresses(&reply), ["10.20.30.40"]);
    assert!(!reply.metadata.authoritative);
    assert!(start.elapsed() < Duration::from_secs(2), "nobody waits for a closed port");
    let mut stream = TcpStream::connect(at).expect("connect");
    assert_eq!(addresses(&exchange(&mut stream, &query("example.com."))), ["10.20.30.40"]);
    assert_eq!(addresses(&exchange(&mut stream, &query("alice."))), ["192.168.0.2"]);

    feed.set_host_servers(vec![closed, failing, refusing, knowing]).await.expect("set");
    assert_eq!(ask(at, "example.com.").metadata.response_code, ResponseCode::ServFail, "three are asked");
    feed.set_host_servers(vec![denying, knowing]).await.expect("set");
    assert_eq!(ask(at, "example.com.").metadata.response_code, ResponseCode::NXDomain);

    // With internal networks only, this container cannot use the host's servers.
    alice.networks[0].internal = true;
    feed.upsert(alice, None).await.expect("upsert");
    feed.set_host_servers(vec![knowing]).await.expect("set");
    assert_eq!(ask(at, "example.com.").metadata.response_code, ResponseCode::ServFail);
    assert_eq!(addresses(&ask(at, "alice.")), ["192.168.0.2"]);
    feed.stop().await.expect("stop");
}

/// A server that never answers, and its address.
fn mute() -> (UdpSocket, SocketAddr) {
    let mute = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let address = mute.local_addr().expect("an address");
    (mute, address)
}

/// The number of queries that a mute server got since the last call.
fn sent_to(mute: &UdpSocket) -> usize {
    mute.set_nonblocking(true).expect("set");
    let count = std::iter::from_fn(|| mute.recv(&mut [0; 512]).ok()).count();
    mute.set_nonblocking(false).expect("set");
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_causes_little_delay_and_is_asked_last_afterwards() {
    let lab = Lab::new();
    let (feed, _, at) = lab.with_alice().await;
    let (mute, mute_at) = mute();
    let knowing = upstream(replying(ResponseCode::NoError, &["10.20.30.40"]));
    feed.set_host_servers(vec![mute_at, knowing]).await.expect("set");

    let start = Instant::now();
    let by_tcp = thread::spawn(move || {
        let mut stream = TcpStream::connect(at).expect("connect");
        addresses(&exchange(&mut stream, &query("example.com.")))
    });
    assert_eq!(addresses(&ask(at, "example.com.")), ["10.20.30.40"]);
    assert_eq!(by_tcp.join().expect("an answer"), ["10.20.30.40"]);
    assert!((150..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());

    // A server has four seconds, in which the datagram is sent again twice.
    while start.elapsed() < Duration::from_millis(4500) {
        mute.set_read_timeout(Some(Duration::from_millis(4600) - start.elapsed())).expect("set");
        let _ = mute.recv(&mut [0; 512]);
    }
    for _ in 0..20 {
        assert_eq!(addresses(&ask(at, "example.com.")), ["10.20.30.40"]);
    }
    assert_eq!(sent_to(&mute), 0, "nobody waits for it any more");
    feed.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negative_reply_of_the_second_server_waits_for_the_first() {
    let lab = Lab::new();
    let (feed, _, at) = lab.with_alice().await;
    let knowing = replying(ResponseCode::NoError, &["10.20.30.40"]);
    let slow = upstream(move |query| {
        thread::sleep(Duration::from_millis(400));
        knowing(query)
    });
    for code in [ResponseCode::NXDomain, ResponseCode::NoError, ResponseCode::ServFail] {
        let ignorant = upstream(replying(code, &[]));
        feed.set_host_servers(vec![slow, ignorant]).await.expect("set");
        assert_eq!(addresses(&ask(at, "intranet.example.")), ["10.20.30.40"], "{code}");
    }
    // A server that never answers is not waited for as long.
    let (_mute, mute_at) = mute();
    let ignorant = upstream(replying(ResponseCode::NXDomain, &[]));
    feed.set_host_servers(vec![mute_at, ignorant]).await.expect("set");
    let start = Instant::now();
    assert_eq!(ask(at, "nobody.example.").metadata.response_code, ResponseCode::NXDomain);
    assert!((1900..3500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    feed.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_queries_are_limited_and_do_not_delay_known_names() {
    let lab = Lab::new();
    let (feed, _, at) = lab.with_alice().await;
    let (_mute, mute_at) = mute();
    feed.set_host_servers(vec![mute_at]).await.expect("set");
    let client = client();
    for burst in 0..1024 {
        send(&client, at, &query("example.com."));
        // Known names in between, so that the socket's buffer does not overflow.
        if burst % 64 == 0 {
            assert_eq!(addresses(&ask(at, "alice.")), ["192.168.0.2"]);
        }
    }
    assert_eq!(ask(at, "example.com.").metadata.response_code, ResponseCode::Refused);
    assert_eq!(addresses(&ask(at, "alice.")), ["192.168.0.2"]);
    feed.stop().await.expect("stop");
}

#[test]
fn a_responder_without_lent_sockets_does_not_hold_all_sockets() {
    let lab = Lab::new();
    let (mut alice, at) = lab.daemon(async |lab| {
        let (_feed, alice, at) = lab.with_alice().await;
        (alice, at)
    });
    lab.daemon(async |lab| {
        let feed = lab.feed().await;
        assert_eq!(feed.held_port(&alice, None).await.ok(), Some(Some(at.port())));
        alice.servers = Servers::Inside(vec!["127.0.0.1:53".parse().expect("an address")]);
        assert_eq!(feed.held_port(&alice, Some(at.port())).await.ok(), Some(None));
        UdpSocket::bind(at).expect("its sockets are closed, to be opened anew");
        feed.stop().await.expect("stop");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_too_large_for_the_client_is_truncated() {
    let lab = Lab::new();
    let (feed, _, at) = lab.with_alice().await;
    let large = upstream(replying(ResponseCode::NoError, &["10.20.30.40"; 100]));
    feed.set_host_servers(vec![large]).await.expect("set");
    let reply = ask(at, "example.com.");
    assert!(reply.metadata.truncation && reply.answers.is_empty());
    let mut stream = TcpStream::connect(at).expect("connect");
    assert_eq!(exchange(&mut stream, &query("example.com.")).answers.len(), 100);
    feed.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_responder_is_back_within_200_ms_with_all_records() {
    let lab = Lab::new();
    let feed = lab.feed().await;
    let network = Id::random();
    let upstream = upstream(replying(ResponseCode::NoError, &["10.20.30.40"]));
    feed.set_host_servers(vec![upstream]).await.expect("set");
    let mut askers = vec![];
    for host in 0..100 {
        let (sockets, at) = sockets();
        let (name, address) = (format!("c{host}"), format!("192.168.0.{host}"));
        let record = record(Id::random(), network, &[&name], &address);
        feed.upsert(record, Some(sockets)).await.expect("upsert");
        askers.push(at);
    }
    for _ in 0..2 {
        let [pid] = lab.responders()[..] else { panic!("one responder") };
        kill(pid, Signal::SIGKILL).expect("kill");
        let start = Instant::now();
        assert_eq!(addresses(&ask(askers[0], "c99.")), ["192.168.0.99"]);
        let pause = start.elapsed();
        assert!(pause < Duration::from_millis(200), "{pause:?}");
    }
    assert_eq!(addresses(&ask(askers[99], "c0.mynet.")), ["192.168.0.0"]);
    assert_eq!(addresses(&ask(askers[50], "example.com.")), ["10.20.30.40"]);
    feed.stop().await.expect("stop");
}

#[test]
fn the_responder_outlives_the_daemon_and_the_next_one_takes_it_over() {
    let lab = Lab::new();
    let (sockets_of_bob, at_bob) = sockets();
    let (stays, at, bob) = lab.daemon(async |lab| {
        let (feed, stays, at) = lab.with_alice().await;
        let bob = record(Id::random(), stays.networks[0].id, &["bob"], "192.168.0.3");
        feed.upsert(bob.clone(), Some(sockets_of_bob)).await.expect("upsert");
        (stays, at, bob)
    });
    let before = lab.responders();
    assert_eq!(before.len(), 1);
    assert_eq!(addresses(&ask(at, "bob.")), ["192.168.0.3"], "nobody feeds it");

    lab.daemon(async |lab| {
        let feed = lab.feed().await;
        assert_eq!(lab.responders(), before);
        let carol = record(Id::random(), stays.networks[0].id, &["carol"], "192.168.0.4");
        for (record, is_held) in [(&stays, true), (&bob, true), (&carol, false)] {
            assert_eq!(feed.held_port(record, None).await.expect("told").is_some(), is_held);
        }
        assert_eq!(addresses(&ask(at_bob, "alice.")), ["192.168.0.2"], "its state holds until settled");
        feed.upsert(stays, None).await.expect("upsert");
        feed.upsert(carol, None).await.expect("upsert");
        feed.settle().await.expect("settle");
        assert_eq!(addresses(&ask(at, "carol.")), ["192.168.0.4"]);
        assert_eq!(ask(at, "bob.").metadata.response_code, ResponseCode::ServFail);
        UdpSocket::bind(at_bob).expect("its sockets are closed");

        // The next daemon has the sockets, so another death loses nothing either.
        kill(before[0], Signal::SIGKILL).expect("kill");
        assert_eq!(addresses(&ask(at, "carol.")), ["192.168.0.4"]);
        feed.stop().await.expect("stop");
    });
    assert!(lab.responders().is_empty());
}

#[test]
fn the_responder_ends_without_daemon_and_containers() {
    let lab = Lab::new();
    lab.daemon(async |lab| drop(lab.feed().await));
    let end = Instant::now() + Duration::from_secs(5);
    while !lab.responders().is_empty() {
        assert!(Instant::now() < end, "it ends");
        thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_to_start_or_inform_a_responder_are_errors() {
    let lab = Lab::new();
    let failed = Feed::start(Path::new("/nonexistent/netbpf"), lab.run_dir()).await.err().expect("an error");
    assert_eq!(
        failed.to_string(),
        "start name responder /nonexistent/netbpf: No such file or directory (os error 2)"
    );
    let feed = lab.feed().await;
    let names: Vec<String> = (0..2000).map(|name| format!("{name:0100}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let record = record(Id::random(), Id::random(), &names, "192.168.0.2");
    assert!(matches!(feed.upsert(record, None).await, Err(Error::TooLarge { .. })));
    feed.stop().await.expect("stop");
}
