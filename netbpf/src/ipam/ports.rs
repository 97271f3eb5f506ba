//! Host ports: which container has which, and which one a container gets. Docker's order and errors. Pure: does not
//! know which ports the host's own processes use; the daemon tries to bind a port and asks for the next one if it
//! cannot.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use crate::model::{Id, PortRange, Protocol};

/// Why no port can be given. The texts are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// A container has the port.
    #[error("Bind for {0} failed: port is already allocated")]
    Taken(SocketAddr),
    /// Containers have all ports of the range.
    #[error("all ports are allocated")]
    NoneLeft,
}

/// The range for host ports that nobody chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ephemeral {
    range: PortRange,
    reserved: Vec<PortRange>,
}

impl Ephemeral {
    /// Docker's fallback if the host names no range: IANA's dynamic ports, 49152 left out.
    const FALLBACK: (u16, u16) = (49153, 65535);

    /// Parses `net.ipv4.ip_local_port_range` (two numbers) and `ip_local_reserved_ports` (a list of ports and ranges).
    pub fn parse(range: &str, reserved: &str) -> Self {
        let mut words = range.split_whitespace().map(str::parse::<u16>);
        let range = match (words.next(), words.next()) {
            (Some(Ok(first)), Some(Ok(last))) => PortRange::new(first, last),
            _ => None,
        };
        let (first, last) = Self::FALLBACK;
        Self {
            range: range.or(PortRange::new(first, last)).expect("the fallback is a range"),
            reserved: reserved.trim().split(',').filter_map(|range| range.parse().ok()).collect(),
        }
    }

    fn is_reserved(&self, port: u16) -> bool {
        self.reserved.iter().any(|range| (range.first()..=range.last()).contains(&port))
    }
}

/// The host ports of containers, and where the next search of each range starts.
#[derive(Debug, Default)]
pub struct Ports {
    /// The owners of a port, by host address.
    taken: BTreeMap<(Protocol, u16), Vec<(IpAddr, Id)>>,
    /// The port of a range that was leased last. The next search starts behind it, so that a port just released is not
    /// leased again at once.
    cursors: HashMap<(Protocol, PortRange), u16>,
}

impl Ports {
    /// Leases one port, the same at all addresses of `hosts`: the first of `range`, or else of the ephemeral ports,
    /// that no container has and for which `is_free` returns `Ok`.
    ///
    /// # Errors
    ///
    /// [`PortError`] if containers have all ports; else the last error of `is_free`.
    pub fn lease<E: From<PortError>>(
        &mut self,
        owner: Id,
        protocol: Protocol,
        hosts: &[IpAddr],
        range: Option<PortRange>,
        ephemeral: &Ephemeral,
        mut is_free: impl FnMut(u16) -> Result<(), E>,
    ) -> Result<u16, E> {
        let candidates = range.unwrap_or(ephemeral.range);
        let skips = |port| range.is_none() && ephemeral.is_reserved(port);
        let mut failed = None;
        for port in self.behind_cursor(protocol, candidates) {
            if skips(port) {
                continue;
            }
            if let Some(host) = hosts.iter().find(|host| self.owner_of(protocol, **host, port).is_some()) {
                if candidates.count() == 1 {
                    return Err(PortError::Taken(SocketAddr::new(*host, port)).into());
                }
                continue;
            }
            match is_free(port) {
                Ok(()) => {
                    self.cursors.insert((protocol, candidates), port);
                    self.take(owner, protocol, hosts, port);
                    return Ok(port);
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| PortError::NoneLeft.into()))
    }

    /// All ports of a range, starting behind the one that was leased last.
    fn behind_cursor(&self, protocol: Protocol, range: PortRange) -> impl Iterator<Item = u16> + use<> {
        let first = match self.cursors.get(&(protocol, range)) {
            Some(last) if *last < range.last() => last + 1,
            _ => range.first(),
        };
        (first..=range.last()).chain(range.first()..first)
    }

    /// Takes a port without a search: one that a container already had when the daemon started.
    pub fn take(&mut self, owner: Id, protocol: Protocol, hosts: &[IpAddr], port: u16) {
        let owners = self.taken.entry((protocol, port)).or_default();
        owners.extend(hosts.iter().map(|host| (*host, owner)));
    }

    /// Releases a port. Returns whether this owner had it.
    pub fn release(&mut self, owner: Id, protocol: Protocol, host: IpAddr, port: u16) -> bool {
        let Some(owners) = self.taken.get_mut(&(protocol, port)) else { return false };
        let before = owners.len();
        owners.retain(|entry| *entry != (host, owner));
        let is_released = owners.len() < before;
        if owners.is_empty() {
            self.taken.remove(&(protocol, port));
        }
        is_released
    }

    /// The owner of this port at an overlapping address: an unspecified address overlaps all addresses of its family.
    fn owner_of(&self, protocol: Protocol, host: IpAddr, port: u16) -> Option<Id> {
        let overlaps = |other: &IpAddr| {
            other.is_ipv4() == host.is_ipv4()
                && (*other == host || other.is_unspecified() || host.is_unspecified())
        };
        let owners = self.taken.get(&(protocol, port))?;
        owners.iter().find(|(other, _)| overlaps(other)).map(|(_, owner)| *owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{Tcp, Udp};

    const LOCAL_PORTS: &str = "32768\t60999\n";

    struct Host {
        ports: Ports,
        owner: Id,
        ephemeral: Ephemeral,
        /// Ports that processes of the host use.
        busy: Vec<u16>,
    }

    impl Host {
        fn new(local: &str, reserved: &str) -> Self {
            let ephemeral = Ephemeral::parse(local, reserved);
            Self { ports: Ports::default(), owner: Id::random(), ephemeral, busy: Vec::new() }
        }

        fn lease(&mut self, protocol: Protocol, hosts: &[&str], range: &str) -> Result<u16, String> {
            let hosts: Vec<IpAddr> = hosts.iter().map(|host| host.parse().unwrap()).collect();
            let range = (!range.is_empty()).then(|| range.parse().unwrap());
            let busy = self.busy.clone();
            let is_free = |port| if busy.contains(&port) { Err(Failure::Busy(port)) } else { Ok(()) };
            self.ports
                .lease(self.owner, protocol, &hosts, range, &self.ephemeral, is_free)
                .map_err(|error| error.to_string())
        }

        fn release(&mut self, protocol: Protocol, host: &str, port: u16) -> bool {
            self.ports.release(self.owner, protocol, host.parse().unwrap(), port)
        }
    }

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("{0} is busy")]
        Busy(u16),
        #[error(transparent)]
        Ports(#[from] PortError),
    }

    #[test]
    fn a_port_is_leased_once() {
        let mut host = Host::new(LOCAL_PORTS, "");
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "80"), Ok(80));
        let taken = "Bind for 0.0.0.0:80 failed: port is already allocated";
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "80").unwrap_err(), taken);
        assert_eq!(host.lease(Udp, &["0.0.0.0"], "80"), Ok(80), "another protocol");
        assert!(host.release(Tcp, "0.0.0.0", 80));
        assert!(!host.release(Tcp, "0.0.0.0", 80), "it was released before");
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "80"), Ok(80));
        assert!(
            !host.ports.release(Id::random(), Tcp, "0.0.0.0".parse().unwrap(), 80),
            "it belongs to another container"
        );
    }

    #[test]
    fn the_unspecified_address_conflicts_with_every_address_of_its_family() {
        let conflict = |first: &str, second: &str| {
            let mut host = Host::new(LOCAL_PORTS, "");
            host.lease(Tcp, &[first], "80").unwrap();
            host.lease(Tcp, &[second], "80").is_err()
        };
        assert!(conflict("0.0.0.0", "10.0.0.1"));
        assert!(conflict("10.0.0.1", "0.0.0.0"));
        assert!(conflict("::", "fd00::1"));
        assert!(conflict("fd00::1", "::"));
        assert!(conflict("10.0.0.1", "10.0.0.1"));
        assert!(!conflict("127.0.1.2", "127.0.1.3"));
        assert!(!conflict("0.0.0.0", "::"));
        assert!(!conflict("0.0.0.0", "fd00::1"));
    }

    #[test]
    fn a_port_published_in_both_families_has_one_number() {
        let mut host = Host::new(LOCAL_PORTS, "");
        assert_eq!(host.lease(Tcp, &["::"], "8000"), Ok(8000));
        assert_eq!(host.lease(Tcp, &["0.0.0.0", "::"], "8000-8001"), Ok(8001));
        assert!(host.lease(Tcp, &["0.0.0.0"], "8001").is_err());
        assert!(host.lease(Tcp, &["::"], "8001").is_err());
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000"), Ok(8000), "a failed search took nothing");
    }

    #[test]
    fn a_range_gives_the_next_free_port_behind_the_last_lease() {
        let mut host = Host::new(LOCAL_PORTS, "");
        host.lease(Tcp, &["10.0.0.1"], "8001").unwrap();
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000-8003"), Ok(8000));
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000-8003"), Ok(8002));
        host.release(Tcp, "0.0.0.0", 8000);
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000-8003"), Ok(8003));
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000-8003"), Ok(8000));
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000-8003").unwrap_err(), "all ports are allocated");
    }

    #[test]
    fn ports_of_host_processes_are_skipped_in_ranges_and_an_error_otherwise() {
        let mut host = Host::new(LOCAL_PORTS, "");
        host.busy = vec![80, 8000, 8001];
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "80").unwrap_err(), "80 is busy");
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000-8002"), Ok(8002));
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "8000-8002").unwrap_err(), "8001 is busy");
        host.busy.clear();
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "80"), Ok(80), "a failed search took nothing");
    }

    #[test]
    fn ephemeral_ports_come_from_the_host_s_range_without_the_reserved_ones() {
        let mut host = Host::new("40000 40004", "40001,40003-40004\n");
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], ""), Ok(40000));
        assert_eq!(host.lease(Tcp, &["127.0.0.1"], ""), Ok(40002), "the port at all addresses is taken");
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "").unwrap_err(), "all ports are allocated");
        assert_eq!(host.lease(Tcp, &["0.0.0.0"], "40003"), Ok(40003), "a reserved port can be requested");
        for unusable in ["", "x y", "0 10", "10 5", "70000 80000"] {
            assert_eq!(Host::new(unusable, "\n").lease(Tcp, &["0.0.0.0"], ""), Ok(49153), "{unusable}");
        }
    }

    proptest::proptest! {
        /// Leases never overlap, and every released port can be leased again.
        #[test]
        fn leases_never_overlap(asked in proptest::collection::vec((0usize..4, 0u16..4, 0u16..4), 1..40)) {
            let addresses = ["0.0.0.0", "10.0.0.1", "10.0.0.2", "::"];
            let mut host = Host::new(LOCAL_PORTS, "");
            let mut given: Vec<(IpAddr, u16)> = Vec::new();
            for (address, first, length) in asked {
                let range = format!("{}-{}", 100 + first, 100 + first + length);
                let Ok(port) = host.lease(Tcp, &[addresses[address]], &range) else { continue };
                let address: IpAddr = addresses[address].parse().unwrap();
                let conflicts = |other: &&(IpAddr, u16)| {
                    other.1 == port
                        && other.0.is_ipv4() == address.is_ipv4()
                        && (other.0 == address || other.0.is_unspecified() || address.is_unspecified())
                };
                assert_eq!(given.iter().find(conflicts), None);
                given.push((address, port));
            }
            for (address, port) in given {
                assert!(host.ports.release(host.owner, Tcp, address, port));
            }
            assert!(host.ports.taken.is_empty());
        }
    }
}
