//! Checks a user's request for an endpoint against its network, with Docker's rules. Must not know leases.

use std::net::IpAddr;

use crate::{
    daemon::{Error, state::check_options},
    ipam,
    model::{EndpointRequest, Network},
};

/// Checks that an endpoint in `network` can have what the user requests.
pub(in crate::daemon) fn check_request(request: &EndpointRequest, network: &Network) -> Result<(), Error> {
    let EndpointRequest { ipv4, ipv6, .. } = request;
    if network.name == Network::DEFAULT {
        if ipv4.is_some() || ipv6.is_some() {
            return Err(Error::AddressOnDefaultNetwork);
        }
        if !request.aliases.is_empty() {
            return Err(Error::AliasOnDefaultNetwork);
        }
        if !request.links.is_empty() {
            return Err(Error::LinkOnDefaultNetwork);
        }
    }
    if let Some(bridge) = network.bridge() {
        let stray = [
            ipv4.filter(|_| bridge.ipv4.is_none()).map(IpAddr::from),
            ipv6.filter(|_| bridge.ipv6.is_none()).map(IpAddr::from),
        ];
        if let Some(address) = stray.into_iter().flatten().next() {
            return Err(ipam::Error::Outside(address).into());
        }
    }
    let access = &request.options.access;
    let leased = [ipv4.map(IpAddr::from), ipv6.map(IpAddr::from)];
    if access.single_addresses().any(|address| leased.contains(&Some(address))) {
        return Err(ipam::Error::InUse.into());
    }
    check_options(access, network)
}
