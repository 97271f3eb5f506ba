//! Subnets lent to Docker: Docker's networks, of any driver, take their addresses one by one. Pure: records which
//! addresses are taken, not by whom; that is Docker's knowledge.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::Block;

/// A lent subnet and its addresses in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Lent {
    /// The subnet. Docker also uses it as the pool's ID.
    pub subnet: IpNet,
    /// The range for leases without a requested address; the whole subnet if absent.
    pub range: Option<IpNet>,
    /// The addresses in use, gateways included.
    pub addresses: BTreeSet<IpAddr>,
}

/// A lent subnet as it is stored.
#[derive(Deserialize)]
struct Unchecked {
    subnet: IpNet,
    range: Option<IpNet>,
    addresses: BTreeSet<IpAddr>,
}

impl TryFrom<Unchecked> for Lent {
    type Error = String;

    fn try_from(Unchecked { subnet, range, addresses }: Unchecked) -> Result<Self, String> {
        if let Some(range) = range.filter(|range| !subnet.contains(range)) {
            return Err(format!("the range {range} is not in {subnet}"));
        }
        match addresses.iter().find(|address| !subnet.contains(*address)) {
            Some(outside) => Err(format!("{outside} is not in {subnet}")),
            None => Ok(Self { subnet, range, addresses }),
        }
    }
}

impl Lent {
    /// Leases the requested address, which may be anywhere in the subnet, or the lowest free one of the range.
    /// `is_taken` reports addresses that somebody other than Docker uses.
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::InUse`] or [`Error::NoAddressLeft`].
    pub fn lease(
        &mut self,
        wanted: Option<IpAddr>,
        is_taken: impl Fn(IpAddr) -> bool,
    ) -> Result<IpNet, Error> {
        let range = self.range.unwrap_or(self.subnet);
        let is_free = |address: IpAddr| !self.addresses.contains(&address) && !is_taken(address);
        let address = match (wanted, self.subnet, range) {
            (Some(wanted), subnet, _) if !subnet.contains(&wanted) => return Err(Error::Outside(wanted)),
            (Some(wanted), ..) if is_free(wanted) => wanted,
            (Some(_), ..) => return Err(Error::InUse),
            (None, IpNet::V4(subnet), IpNet::V4(range)) => lowest::<Ipv4Net>(subnet, range, is_free)?,
            (None, IpNet::V6(subnet), IpNet::V6(range)) => lowest::<Ipv6Net>(subnet, range, is_free)?,
            (None, ..) => unreachable!("a range is in its subnet"),
        };
        self.addresses.insert(address);
        Ok(IpNet::new_assert(address, self.subnet.prefix_len()))
    }

    /// Frees an address, which may be free already.
    pub fn release(&mut self, address: IpAddr) {
        self.addresses.remove(&address);
    }
}

fn lowest<Net: Block>(subnet: Net, range: Net, is_free: impl Fn(IpAddr) -> bool) -> Result<IpAddr, Error> {
    let ends = subnet.ends();
    (Net::number(range.first())..=Net::number(range.last()))
        .filter_map(Net::address)
        .filter(|address| !ends.contains(address))
        .map(Into::into)
        .find(|address| is_free(*address))
        .ok_or(Error::NoAddressLeft(Net::FAMILY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(subnet: &str, range: Option<&str>) -> Lent {
        Lent {
            subnet: subnet.parse().unwrap(),
            range: range.map(|range| range.parse().unwrap()),
            addresses: BTreeSet::new(),
        }
    }

    fn lease(lent: &mut Lent, wanted: &str) -> Result<String, String> {
        let leased = lent.lease(wanted.parse().ok(), |address| address.to_string().ends_with(".3"));
        leased.map(|net| net.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_lowest_address_that_nobody_uses_is_leased() {
        let mut lent = lent("10.1.0.0/29", None);
        let all: Vec<_> = std::iter::from_fn(|| lease(&mut lent, "").ok()).collect();
        assert_eq!(all, ["10.1.0.1/29", "10.1.0.2/29", "10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29"]);
        assert!(lease(&mut lent, "").unwrap_err().starts_with("no available IPv4 addresses"));
        lent.release("10.1.0.4".parse().unwrap());
        assert_eq!(lease(&mut lent, "").unwrap(), "10.1.0.4/29");
    }

    #[test]
    fn a_requested_address_may_be_outside_the_range_but_not_outside_the_subnet() {
        let mut lent = lent("fd00::/64", Some("fd00::100/120"));
        assert_eq!(lease(&mut lent, "").unwrap(), "fd00::100/64");
        assert_eq!(lease(&mut lent, "fd00::1").unwrap(), "fd00::1/64");
        assert_eq!(lease(&mut lent, "fd00::1").unwrap_err(), "Address already in use");
        assert_eq!(
            lease(&mut lent, "fd01::1").unwrap_err(),
            "no configured subnet contains IP address fd01::1"
        );
    }
}
