//! The addresses in networks that nobody has. A connection to one of them belongs to a container that was removed.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// Addresses in the subnets of networks, without those that somebody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unleased {
    /// Each with parts of which any address may be somebody's.
    subnets: Vec<(IpNet, Vec<IpNet>)>,
    addresses: BTreeSet<IpAddr>,
    routes: Vec<IpNet>,
}

impl Unleased {
    /// Adds a network's subnet, without parts of it that may have any addresses.
    pub fn add(&mut self, subnet: IpNet, parts: Vec<IpNet>) {
        self.subnets.push((subnet, parts));
    }

    /// Leaves an address out: somebody has it.
    pub fn leave_out(&mut self, address: IpAddr) {
        self.addresses.insert(address);
    }

    /// Leaves the addresses out that a route of the host leads to, unless it leads to a whole network, as the
    /// network's own.
    pub fn leave_out_route(&mut self, route: IpNet) {
        if !self.subnets.iter().any(|(subnet, _)| route.contains(subnet)) {
            self.routes.push(route);
        }
    }

    /// Whether there may be such addresses of a family.
    pub fn has_family(&self, is_ipv4: bool) -> bool {
        self.subnets.iter().any(|(subnet, _)| subnet.addr().is_ipv4() == is_ipv4)
    }

    /// Whether nobody has an address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        let is_free = |(subnet, parts): &(IpNet, Vec<IpNet>)| subnet.contains(&address) && !is_in(parts);
        self.subnets.iter().any(is_free) && !self.addresses.contains(&address) && !is_in(&self.routes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_what_is_in_a_subnet_and_not_left_out() {
        let mut unleased = Unleased::default();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        // A router in the second network does not count in the first.
        unleased.add(net("10.1.0.0/16"), vec![net("10.1.7.0/24")]);
        unleased.add(net("10.3.0.0/16"), vec![net("0.0.0.0/0")]);
        unleased.leave_out("10.1.0.1".parse().unwrap());
        // A part behind a gateway, an address of the host, the network's own route, the default route.
        for route in ["10.1.8.0/24", "10.1.0.77/32", "10.1.0.0/16", "0.0.0.0/0"] {
            unleased.leave_out_route(net(route));
        }
        let contains = |address: &str| unleased.contains(address.parse().unwrap());
        assert!(contains("10.1.0.2") && contains("10.1.9.1"));
        for address in ["10.1.0.1", "10.1.7.1", "10.1.8.1", "10.1.0.77", "10.2.0.2", "10.3.0.2", "fd00::2"] {
            assert!(!contains(address), "{address}");
        }
        assert!(unleased.has_family(true) && !unleased.has_family(false));
    }
}
