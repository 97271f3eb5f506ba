//! The free addresses of one network, of both families. Must not know who leases them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    ipam::{self, Pool},
    model::{AccessOptions, Bridge, Endpoint, EndpointRequest},
};

/// The free addresses of a network.
pub struct Pools {
    ipv4: Option<Pool<Ipv4Net>>,
    ipv6: Option<Pool<Ipv6Net>>,
}

impl Pools {
    /// All addresses are free, except the reserved ones and those that all members may use.
    pub fn new(bridge: &Bridge) -> Self {
        let mut pools =
            Self { ipv4: bridge.ipv4.as_ref().map(Pool::new), ipv6: bridge.ipv6.as_ref().map(Pool::new) };
        pools.hold(&bridge.options.access);
        pools
    }

    /// Lease an address of each requested family of the network: those requested, or the lowest free ones, or the
    /// highest. All or none.
    pub fn lease(
        &mut self,
        request: &EndpointRequest,
        highest: bool,
    ) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), ipam::Error> {
        let ipv4 = match (&mut self.ipv4, request.ipv4) {
            (Some(pool), None) if highest => Some(pool.lease_highest()?),
            (Some(pool), wanted) => Some(pool.lease(wanted)?),
            (None, Some(wanted)) => return Err(ipam::Error::Outside(wanted.into())),
            (None, None) => None,
        };
        let ipv6 = match (&mut self.ipv6, request.ipv6) {
            (_, None) if request.without_ipv6 => Ok(None),
            (Some(pool), None) if highest => pool.lease_highest().map(Some),
            (Some(pool), wanted) => pool.lease(wanted).map(Some),
            (None, Some(wanted)) => Err(ipam::Error::Outside(wanted.into())),
            (None, None) => Ok(None),
        };
        match ipv6 {
            Ok(ipv6) => Ok((ipv4, ipv6)),
            Err(error) => {
                self.release(ipv4, None);
                Err(error)
            }
        }
    }

    /// Check that an address of each family is free.
    pub fn check_free(&self) -> Result<(), ipam::Error> {
        self.ipv4.as_ref().map_or(Ok(()), |pool| pool.free().map(drop))?;
        self.ipv6.as_ref().map_or(Ok(()), |pool| pool.free().map(drop))
    }

    /// Lease the addresses of a stored endpoint, as far as they are free.
    pub fn lease_again(&mut self, endpoint: &Endpoint) -> Result<(), ipam::Error> {
        let ipv4 = match (&mut self.ipv4, endpoint.ipv4) {
            (Some(pool), Some(address)) => pool.lease(Some(address)).map(drop),
            _ => Ok(()),
        };
        let ipv6 = match (&mut self.ipv6, endpoint.ipv6) {
            (Some(pool), Some(address)) => pool.lease(Some(address)).map(drop),
            _ => Ok(()),
        };
        ipv4.and(ipv6)
    }

    /// Note what a container wants in this network, even while it does not run: addresses that others get last
    /// (`--ip`, `--ip6`), and addresses that it uses without a lease, which others do not get.
    pub fn note(&mut self, request: &EndpointRequest) {
        if let (Some(pool), Some(address)) = (&mut self.ipv4, request.ipv4) {
            pool.wish(address);
        }
        if let (Some(pool), Some(address)) = (&mut self.ipv6, request.ipv6) {
            pool.wish(address);
        }
        self.hold(&request.options.access);
    }

    /// Withdraw that.
    pub fn forget(&mut self, request: &EndpointRequest) {
        if let (Some(pool), Some(address)) = (&mut self.ipv4, request.ipv4) {
            pool.unwish(address);
        }
        if let (Some(pool), Some(address)) = (&mut self.ipv6, request.ipv6) {
            pool.unwish(address);
        }
        self.unhold(&request.options.access);
    }

    /// Note the single addresses that are used without a lease.
    pub fn hold(&mut self, access: &AccessOptions) {
        for address in access.single_addresses() {
            match (address, &mut self.ipv4, &mut self.ipv6) {
                (IpAddr::V4(address), Some(pool), _) => pool.hold(address),
                (IpAddr::V6(address), _, Some(pool)) => pool.hold(address),
                _ => {}
            }
        }
    }

    /// Withdraw that.
    pub fn unhold(&mut self, access: &AccessOptions) {
        for address in access.single_addresses() {
            match (address, &mut self.ipv4, &mut self.ipv6) {
                (IpAddr::V4(address), Some(pool), _) => pool.unhold(address),
                (IpAddr::V6(address), _, Some(pool)) => pool.unhold(address),
                _ => {}
            }
        }
    }

    /// Whether an address is used without a lease.
    pub fn is_held(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.as_ref().is_some_and(|pool| pool.is_held(address)),
            IpAddr::V6(address) => self.ipv6.as_ref().is_some_and(|pool| pool.is_held(address)),
        }
    }

    /// Whether an address is leased.
    pub fn is_leased(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.as_ref().is_some_and(|pool| pool.is_leased(address)),
            IpAddr::V6(address) => self.ipv6.as_ref().is_some_and(|pool| pool.is_leased(address)),
        }
    }

    /// Release leased addresses.
    pub fn release(&mut self, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) {
        if let (Some(pool), Some(address)) = (&mut self.ipv4, ipv4) {
            pool.release(address);
        }
        if let (Some(pool), Some(address)) = (&mut self.ipv6, ipv6) {
            pool.release(address);
        }
    }
}
