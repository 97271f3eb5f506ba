//! The addresses in networks that nobody has. A connection to one of them belongs to a container that was removed.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// Addresses in the subnets of networks, without those that somebody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unleased {
    subnets: Vec<IpNet>,
    addresses: BTreeSet<IpAddr>,
    parts: Vec<IpNet>,
}

impl Unleased {
    /// Adds a network's subnet.
    pub fn add(&mut self, subnet: IpNet) {
        self.subnets.push(subnet);
    }

    /// Leaves an address out: somebody has it.
    pub fn leave_out(&mut self, address: IpAddr) {
        self.addresses.insert(address);
    }

    /// Leaves all addresses in `part` out: any of them may be somebody's.
    pub fn leave_out_all(&mut self, part: IpNet) {
        self.parts.push(part);
    }

    /// Leaves the addresses out that a route of the host leads to, unless it leads to a whole network, as the
    /// network's own.
    pub fn leave_out_route(&mut self, route: IpNet) {
        if !self.subnets.iter().any(|subnet| route.contains(subnet)) {
            self.parts.push(route);
        }
    }

    /// Whether there may be such addresses of a family.
    pub fn has_family(&self, is_ipv4: bool) -> bool {
        self.subnets.iter().any(|subnet| subnet.addr().is_ipv4() == is_ipv4)
    }

    /// Whether nobody has an address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        is_in(&self.subnets) && !self.addresses.contains(&address) && !is_in(&self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_what_is_in_a_subnet_and_not_left_out() {
        let mut unleased = Unleased::default();
        unleased.add("10.1.0.0/16".parse().unwrap());
        unleased.leave_out("10.1.0.1".parse().unwrap());
        unleased.leave_out_route("10.1.8.0/24".parse().unwrap());
        unleased.leave_out_route("10.1.0.0/16".parse().unwrap());
        unleased.leave_out_route("0.0.0.0/0".parse().unwrap());
        let contains = |address: &str| unleased.contains(address.parse().unwrap());
        assert!(contains("10.1.0.2") && contains("10.1.9.1"));
        for address in ["10.1.0.1", "10.1.8.1", "10.2.0.2", "fd00::2"] {
            assert!(!contains(address), "{address}");
        }
        assert!(unleased.has_family(true) && !unleased.has_family(false));
        unleased.leave_out_all("10.1.0.0/16".parse().unwrap());
        assert!(!unleased.contains("10.1.0.2".parse().unwrap()));
    }
}
