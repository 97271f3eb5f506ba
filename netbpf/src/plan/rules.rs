//! A network's rules for the host's packet filter: which traffic may enter and leave, and the source address
//! of leaving traffic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{Bridge, GatewayMode, HostInterface, InterfaceName, Network, Options};

/// A network's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRules {
    /// Its host device.
    pub device: InterfaceName,
    /// The host's addresses in it.
    pub gateways: Vec<IpAddr>,
    /// Whether traffic can neither leave nor enter it.
    pub internal: bool,
    /// Limit of conntrack entries for each container.
    pub max_flows: Option<u32>,
    /// Interfaces of the host whose neighbours may use open ports directly.
    pub trusted: Vec<HostInterface>,
    /// For IPv4.
    pub ipv4: Way<Ipv4Addr>,
    /// For IPv6.
    pub ipv6: Way<Ipv6Addr>,
}

/// Traffic that leaves and enters, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<Address> {
    /// The source address of leaving packets.
    pub source: Source<Address>,
    /// Traffic that may enter.
    pub inbound: Inbound,
}

/// The source address of packets that leave a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<Address> {
    /// The container's.
    Own,
    /// The address of the outgoing interface.
    Interface,
    /// A chosen address of the host.
    Chosen(Address),
}

/// What may enter from other hosts and networks, besides replies and traffic to published host ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Nothing.
    Published,
    /// Traffic to open ports, and echo requests.
    Open,
    /// Everything.
    All,
}

impl NetworkRules {
    /// The rules by a network's options; `host` and `none` have none.
    pub fn of(network: &Network) -> Option<Self> {
        let bridge = network.bridge()?;
        let options = &bridge.options;
        Some(Self {
            device: bridge.device.clone(),
            gateways: gateways(bridge),
            internal: network.internal,
            max_flows: options.max_flows,
            trusted: options.trusted.clone(),
            ipv4: way(network, options, options.gateway_mode_ipv4, options.host_ipv4),
            ipv6: way(network, options, options.gateway_mode_ipv6, options.host_ipv6),
        })
    }
}

/// The host's addresses in the network.
fn gateways(bridge: &Bridge) -> Vec<IpAddr> {
    let ipv4 = bridge.ipv4.as_ref().filter(|_| bridge.options.host_has_ipv4());
    let ipv6 = bridge.ipv6.as_ref().filter(|_| bridge.options.host_has_ipv6());
    let ipv4 = ipv4.and_then(|subnet| subnet.gateway).map(IpAddr::from);
    ipv4.into_iter().chain(ipv6.and_then(|subnet| subnet.gateway).map(IpAddr::from)).collect()
}

fn way<Address>(
    network: &Network,
    options: &Options,
    mode: GatewayMode,
    chosen: Option<Address>,
) -> Way<Address> {
    let source = match (mode, chosen) {
        _ if network.internal || !options.masquerade => Source::Own,
        (GatewayMode::Routed | GatewayMode::Isolated, _) => Source::Own,
        (GatewayMode::Nat | GatewayMode::NatUnprotected, Some(address)) => Source::Chosen(address),
        (GatewayMode::Nat | GatewayMode::NatUnprotected, None) => Source::Interface,
    };
    let inbound = match mode {
        GatewayMode::Nat | GatewayMode::Isolated => Inbound::Published,
        GatewayMode::NatUnprotected => Inbound::All,
        GatewayMode::Routed => Inbound::Open,
    };
    Way { source, inbound }
}
