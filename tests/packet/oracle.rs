//! The names of the tests of `lo`, and a responder that knows them, too.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use netbpf::{
    datapath::{Datapath, NamesInNetwork},
    dns::{Feed, NetworkRecord, Record, Servers, Sockets},
    model::Id,
};

use super::bench::{BLUE, RED, run};

/// A container that asks; the others are those of the tests of the responder.
pub struct World {
    /// The container that asks.
    pub asker: Id,
    /// The names of each container, and its networks with its addresses there.
    pub members: Vec<(Id, Vec<Member>)>,
}

/// A container in a network.
#[derive(Clone)]
pub struct Member {
    network: (u32, Id, &'static str),
    names: &'static [&'static str],
    addresses: Vec<IpAddr>,
}

impl World {
    /// New containers.
    pub fn new() -> Self {
        let (mynet, backend) = ((RED, Id::random(), "mynet"), (BLUE, Id::random(), "back.end"));
        let far = (7, Id::random(), "far");
        let member = |network, names, addresses: &[&str]| Member {
            network,
            names,
            addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        };
        let asker = Id::random();
        let mut members = vec![
            (
                asker,
                vec![
                    member(mynet, &["Web-01", "web", "0123456789ab"], &["192.168.0.2"]),
                    member(backend, &["Web-01"], &["10.0.0.2"]),
                ],
            ),
            (Id::random(), vec![member(mynet, &["my.db", "db", "web"], &["192.168.0.3", "fd00::3"])]),
            (Id::random(), vec![member(backend, &["cache", "db"], &["10.0.0.3"])]),
            (Id::random(), vec![member(backend, &["six"], &["fd00:1::4"])]),
            (Id::random(), vec![member(mynet, &["six"], &["192.168.0.4"])]),
            (Id::random(), vec![member(far, &["secret"], &["10.9.0.2"])]),
        ];
        for host in 0..9 {
            members.push((Id::random(), vec![member(mynet, &["crowd"], &[&format!("192.168.1.{host}")])]));
        }
        Self { asker, members }
    }

    fn record(container: Id, members: &[Member]) -> Record {
        let networks =
            members.iter().map(|Member { network: (number, id, name), names, addresses }| NetworkRecord {
                id: *id,
                number: *number,
                name: (*name).to_owned(),
                internal: false,
                icc: true,
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                ipv4: addresses
                    .iter()
                    .filter_map(|it| if let IpAddr::V4(it) = it { Some(*it) } else { None })
                    .collect(),
                ipv6: addresses
                    .iter()
                    .filter_map(|it| if let IpAddr::V6(it) = it { Some(*it) } else { None })
                    .collect(),
                links: vec![],
            });
        Record { container, networks: networks.collect(), servers: Servers::Inside(vec![]) }
    }

    fn names(member: &Member) -> NamesInNetwork {
        let Member { network: (network, _, name), names, addresses } = member;
        let (with_dots, alone): (Vec<String>, Vec<String>) =
            names.iter().map(|name| (*name).to_owned()).partition(|name| name.contains('.'));
        NamesInNetwork {
            network: *network,
            names: alone.into_iter().chain(names.iter().map(|own| format!("{own}.{name}"))).collect(),
            with_dots,
            full_name: names.first().map(|own| format!("{own}.{name}")),
            addresses: addresses.clone(),
        }
    }

    /// Writes all names to the maps.
    pub fn write_names(&self, datapath: &mut Datapath) {
        for (container, members) in &self.members {
            let names: Vec<_> = members.iter().map(Self::names).collect();
            datapath.set_names(*container, &names).expect("written");
        }
        datapath.set_lookups(self.asker, vec![RED, BLUE]).expect("written");
    }
}

/// A responder with the same names, at a socket of its own.
pub struct Oracle {
    client: UdpSocket,
    feed: Feed,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Oracle {
    /// Starts it.
    pub fn new(world: &World) -> Self {
        run("ip link set lo up");
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let address: SocketAddr = tcp.local_addr().expect("an address");
        let udp = UdpSocket::bind(address).expect("bind");
        let feed = runtime.block_on(async {
            let exe = PathBuf::from(netbpf_tests::engine::netbpf());
            let feed = Feed::start(&exe, folder.path()).await.expect("a responder");
            let mut sockets = Some(Sockets { udp, tcp, lent: vec![] });
            for (container, members) in &world.members {
                let sockets = if *container == world.asker { sockets.take() } else { None };
                feed.upsert(World::record(*container, members), sockets).await.expect("upsert");
            }
            feed
        });
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        client.connect(address).expect("connect");
        client.set_read_timeout(Some(Duration::from_secs(15))).expect("set");
        Self { client, feed, runtime, _folder: folder }
    }

    /// The responder's reply.
    pub fn reply(&self, message: &[u8]) -> Vec<u8> {
        self.client.send(message).expect("send");
        let mut reply = vec![0; 2048];
        let length = self.client.recv(&mut reply).expect("a reply");
        reply.truncate(length);
        reply
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It outlives its feed otherwise.
        self.runtime.block_on(self.feed.stop()).expect("stop the responder");
    }
}
