//! The model in memory, and what is derived from it: names, members, free addresses and numbers. Every method
//! is fast and does no I/O, because the lock of [`World`] is not held while waiting.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use netbpf_common::{
    endpoint::{MAX_ENDPOINTS, MAX_MEMBERS, USUAL_ENDPOINTS},
    network::{MAX_NETWORKS, USUAL_NETWORKS},
};

use crate::{
    daemon::{
        error::Error,
        state::{check_options, numbers::Numbers, pools::Pools},
    },
    fault,
    ipam::Lent,
    model::{
        AccessOptions, Bridge, Container, Endpoint, EndpointRequest, Id, InterfaceName, Mac, Network, Origin,
        lookup::{self, Directory},
    },
};

/// Networks and containers.
pub struct World {
    networks: Directory<Network>,
    containers: Directory<Container>,
    /// Containers with links. Few have any, and a search of all would take long.
    linking: BTreeSet<Id>,
    /// Subnets lent to Docker.
    lent: BTreeMap<IpNet, Lent>,
    pools: HashMap<Id, Pools>,
    members: HashMap<Id, Members>,
    network_numbers: Numbers,
    endpoint_numbers: Numbers,
}

/// Containers that have an endpoint in a network, or lease one.
#[derive(Default)]
struct Members {
    macs: HashMap<Id, Mac>,
    /// The same MACs as a set: two stored endpoints may have the same.
    taken: HashSet<Mac>,
    /// The last MAC of each released address.
    former: HashMap<IpAddr, Mac>,
}

impl World {
    /// The stored state. If two endpoints have the same address, the first one gets it.
    pub fn new(networks: Vec<Network>, containers: Vec<Container>, lent: Vec<Lent>) -> Self {
        let mut world = Self {
            networks: Directory::default(),
            containers: Directory::default(),
            linking: BTreeSet::new(),
            lent: lent.into_iter().map(|lent| (lent.subnet, lent)).collect(),
            pools: HashMap::new(),
            members: HashMap::new(),
            network_numbers: Numbers::below(
                fault::limit("usual-networks", USUAL_NETWORKS),
                fault::limit("networks", MAX_NETWORKS),
            ),
            endpoint_numbers: Numbers::below(
                fault::limit("usual-endpoints", USUAL_ENDPOINTS),
                fault::limit("endpoints", MAX_ENDPOINTS),
            ),
        };
        for network in networks {
            if let Some(bridge) = network.bridge() {
                world.network_numbers.take(bridge.number);
            }
            world.insert_network(network);
        }
        for mut container in containers {
            for attachment in &mut container.attachments {
                if attachment.network_name.is_empty()
                    && let Some(network) = world.networks.get(&attachment.network)
                {
                    // Stored by a version without names.
                    attachment.network_name.clone_from(&network.name);
                }
                let Some(endpoint) = &attachment.endpoint else { continue };
                world.endpoint_numbers.take(endpoint.number);
                if let Some(pools) = world.pools.get_mut(&attachment.network)
                    && let Err(error) = pools.lease_again(endpoint)
                {
                    tracing::warn!(container = container.name, ?endpoint, %error, "lease");
                }
                world.members.entry(attachment.network).or_default().insert(container.id, endpoint.mac);
            }
            world.put_container(container);
        }
        world
    }

    /// All networks.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }

    /// All containers.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    /// A network by ID.
    pub fn network(&self, id: &Id) -> Option<&Network> {
        self.networks.get(id)
    }

    /// A container by ID.
    pub fn container(&self, id: &Id) -> Option<&Container> {
        self.containers.get(id)
    }

    /// Finds the network that a user names.
    pub fn find_network(&self, key: &str) -> Result<&Network, Error> {
        self.networks.find(key).map_err(|error| match error {
            lookup::Error::NotFound => Error::NoNetwork(key.to_owned()),
            lookup::Error::Ambiguous { matches, by } => {
                Error::Invalid(format!("network {key} is ambiguous ({matches} matches found {by})"))
            }
        })
    }

    /// Finds the container that a user names.
    pub fn find_container(&self, key: &str) -> Result<&Container, Error> {
        let key = key.strip_prefix('/').unwrap_or(key);
        if key.is_empty() {
            return Err(Error::Invalid("invalid container name or ID: value is empty".to_owned()));
        }
        self.containers.find(key).map_err(|error| match error {
            lookup::Error::NotFound => Error::NoContainer(key.to_owned()),
            lookup::Error::Ambiguous { .. } => {
                Error::Invalid(format!("multiple IDs found with provided prefix: {key}"))
            }
        })
    }

    /// The container with this name.
    pub fn container_named(&self, name: &str) -> Option<&Container> {
        self.containers.named(name).next()
    }

    /// Containers with links.
    pub fn linking(&self) -> impl Iterator<Item = &Container> {
        self.linking.iter().filter_map(|id| self.containers.get(id))
    }

    /// Containers that have an endpoint in a network, or lease one.
    pub fn members(&self, network: &Id) -> impl Iterator<Item = &Container> {
        self.members
            .get(network)
            .into_iter()
            .flat_map(|members| members.macs.keys())
            .filter_map(|container| self.containers.get(container))
    }

    /// The IDs of containers that have an endpoint in a network, or lease one and are not known yet.
    pub fn member_ids(&self, network: &Id) -> impl Iterator<Item = Id> {
        self.members.get(network).into_iter().flat_map(|members| members.macs.keys().copied())
    }

    /// How many members the largest network has.
    pub fn most_members(&self) -> usize {
        self.members.values().map(|members| members.macs.len()).max().unwrap_or_default()
    }

    /// Whether a network has members.
    pub fn has_members(&self, network: &Id) -> bool {
        self.members.get(network).is_some_and(|members| !members.macs.is_empty())
    }

    /// Endpoints in use.
    pub fn endpoints_in_use(&self) -> usize {
        self.endpoint_numbers.in_use()
    }

    /// A number for a new network.
    pub fn lease_network_number(&mut self) -> Result<u32, Error> {
        self.network_numbers.lease().ok_or(Error::NoNumber("network", self.network_numbers.limit()))
    }

    /// Release the number of a network that was removed, or not created.
    pub fn release_network_number(&mut self, number: u32) {
        self.network_numbers.release(number);
    }

    /// Add a network. Its number must be leased.
    pub fn insert_network(&mut self, network: Network) {
        if let Some(bridge) = network.bridge() {
            self.pools.insert(network.id, Pools::new(bridge));
        }
        self.networks.insert(network);
    }

    /// Subnets lent to Docker.
    pub fn lent_subnets(&self) -> impl Iterator<Item = IpNet> {
        self.lent.keys().copied()
    }

    /// A subnet lent to Docker.
    pub fn lent(&self, subnet: &IpNet) -> Option<&Lent> {
        self.lent.get(subnet)
    }

    /// Add or replace a lent subnet.
    pub fn put_lent(&mut self, lent: Lent) {
        self.lent.insert(lent.subnet, lent);
    }

    /// Remove a subnet that Docker returned.
    pub fn remove_lent(&mut self, subnet: &IpNet) {
        self.lent.remove(subnet);
    }

    /// Replace a network; its bridge must be the same, except for [`AccessOptions`].
    pub fn replace_network(&mut self, network: Network) {
        let before = self.networks.get(&network.id).and_then(Network::bridge);
        if let (Some(pools), Some(before), Some(after)) =
            (self.pools.get_mut(&network.id), before, network.bridge())
        {
            // The new ones first, so that addresses of both remain.
            pools.hold(&after.options.access);
            pools.unhold(&before.options.access);
        }
        self.networks.insert(network);
    }

    /// Undo the removal of a network.
    pub fn put_back_network(&mut self, network: Network) {
        let id = network.id;
        self.insert_network(network);
        let Some(pools) = self.pools.get_mut(&id) else { return };
        let attachments = self.containers.values().flat_map(|container| &container.attachments);
        attachments
            .filter(|attachment| attachment.network == id)
            .for_each(|attachment| pools.note(&attachment.request));
    }

    /// Remove a network without members. Its number stays leased until its device is deleted.
    pub fn remove_network(&mut self, id: &Id) -> Option<Network> {
        self.pools.remove(id);
        self.members.remove(id);
        self.networks.remove(id)
    }

    /// Add or replace a container.
    pub fn put_container(&mut self, container: Container) {
        if container.attachments.iter().any(|attachment| !attachment.request.links.is_empty()) {
            self.linking.insert(container.id);
        } else {
            self.linking.remove(&container.id);
        }
        // New requests first, so that requests of both versions remain.
        self.for_requests(&container, Pools::note);
        if let Some(before) = self.containers.remove(&container.id) {
            self.for_requests(&before, Pools::forget);
        }
        self.containers.insert(container);
    }

    /// Remove a container without endpoints.
    pub fn remove_container(&mut self, id: &Id) -> Option<Container> {
        self.linking.remove(id);
        let removed = self.containers.remove(id);
        if let Some(container) = &removed {
            self.for_requests(container, Pools::forget);
        }
        removed
    }

    /// Notes a container's `--ip` and `--ip6`, which are leased to others last, and its further addresses, which
    /// are not leased, even while the container does not run.
    fn for_requests(&mut self, container: &Container, note: impl Fn(&mut Pools, &EndpointRequest)) {
        for attachment in &container.attachments {
            if let Some(pools) = self.pools.get_mut(&attachment.network) {
                note(pools, &attachment.request);
            }
        }
    }

    /// Whether somebody uses an address in a network without a lease.
    pub fn is_further(&self, network: &Id, address: IpAddr) -> bool {
        self.pools.get(network).is_some_and(|pools| pools.is_held(address))
    }

    /// The container of a runtime in the network namespace with this inode.
    pub fn plugin_container_in(&self, inode: u64) -> Option<&Container> {
        self.containers()
            .find(|container| container.plugin_container().is_some_and(|plugin| plugin.inode == inode))
    }

    /// Checks that a network has a free address of each of its families.
    ///
    /// # Errors
    /// [`Error::Ipam`] with [`ipam::Error::NoAddressLeft`](crate::ipam::Error::NoAddressLeft).
    pub fn check_free(&self, network: &Id) -> Result<(), Error> {
        match self.pools.get(network) {
            Some(pools) => Ok(pools.check_free()?),
            None => Err(Error::NoNetwork(network.to_string())),
        }
    }

    /// Checks that the listed single addresses are nobody's in the network: not the host's, and not leased; and that a
    /// frame fits into the bursts.
    ///
    /// # Errors
    /// [`Error::FurtherInUse`], [`Error::Invalid`].
    pub fn check_access(&self, access: &AccessOptions, network: &Network) -> Result<(), Error> {
        check_options(access, network)?;
        let Some(pools) = self.pools.get(&network.id) else { return Ok(()) };
        for address in access.single_addresses() {
            let has_it = |endpoint: &Endpoint| {
                endpoint.addresses().any(|own| own == address)
                    || (endpoint.ipv6.is_some() && IpAddr::from(endpoint.mac.link_local()) == address)
            };
            let member = self.members(&network.id).find(|member| {
                let attachments = member.attachments.iter();
                attachments
                    .filter(|attachment| attachment.network == network.id)
                    .any(|attachment| attachment.endpoint.as_ref().is_some_and(has_it))
            });
            let by = match member {
                Some(member) => member.shown().1.to_owned(),
                // It is being connected.
                None if pools.is_leased(address) => "another container".to_owned(),
                None => continue,
            };
            return Err(Error::FurtherInUse { address, by, network: network.name.clone() });
        }
        Ok(())
    }

    /// Lease everything for an endpoint: addresses, a number, a MAC, names. `taken` are the names of the
    /// container's other interfaces.
    pub fn lease_endpoint(
        &mut self,
        container: &Id,
        network: &Id,
        request: &EndpointRequest,
        taken: &[String],
    ) -> Result<Endpoint, Error> {
        let found = self.networks.get(network).ok_or_else(|| Error::NoNetwork(network.to_string()))?;
        let (name, gateway, prefix) = match found.bridge() {
            Some(bridge) => (found.name.clone(), bridge.mac(), bridge.options.interface_prefix.clone()),
            None => return Err(Error::ConnectToHost),
        };
        self.check_access(&request.options.access, found)?;
        let most = fault::limit("members", MAX_MEMBERS);
        if self.members.get(network).is_some_and(|members| members.macs.len() >= most as usize) {
            return Err(Error::NoNumber("member of one network", most));
        }
        // If Docker leases addresses by itself, netbpf takes the highest ones, as far from Docker's as
        // possible.
        let mut nets = found.bridge().into_iter().flat_map(Bridge::nets);
        let is_dockers = found.origin == Origin::Docker && !nets.any(|net| self.lent.contains_key(&net));
        let pools = self.pools.get_mut(network).ok_or_else(|| Error::NoNetwork(name.clone()))?;
        let number = self
            .endpoint_numbers
            .lease()
            .ok_or(Error::NoNumber("endpoint", self.endpoint_numbers.limit()))?;
        let (ipv4, ipv6) = match pools.lease(request, is_dockers) {
            Ok(addresses) => addresses,
            Err(error) => {
                self.endpoint_numbers.release(number);
                return Err(error.in_network(found).into());
            }
        };
        let members = self.members.entry(*network).or_default();
        let is_taken = |mac: &Mac| *mac == gateway || members.taken.contains(mac);
        // The MAC of its address may be taken by an endpoint whose user chose it.
        let of_address = Mac::of_addresses(ipv4, ipv6);
        let free = match request.mac {
            Some(mac) => Some(mac).filter(|mac| !is_taken(mac)),
            None => of_address.and_alternatives().find(|mac| !is_taken(mac)),
        };
        let Some(mac) = free else {
            pools.release(ipv4, ipv6);
            self.endpoint_numbers.release(number);
            return Err(Error::MacInUse { mac: request.mac.unwrap_or(of_address), network: name });
        };
        members.insert(*container, mac);
        let id = Id::random();
        // If two endpoints request the same name, the kernel refuses the second.
        let interface = request.options.interface.clone().unwrap_or_else(|| {
            (0..)
                .map(|index| InterfaceName::made_of(&prefix, &index.to_string()))
                .find(|interface| !taken.iter().any(|taken| **interface == **taken))
                .expect("more indices than interfaces")
        });
        Ok(Endpoint {
            id,
            number,
            ipv4,
            ipv6,
            mac,
            host_interface: InterfaceName::made_of("veth", &id.to_string()[..7]),
            interface,
            sysctls: request.options.sysctls.clone(),
        })
    }

    /// Release an endpoint.
    pub fn release_endpoint(&mut self, container: &Id, network: &Id, endpoint: &Endpoint) {
        if let Some(pools) = self.pools.get_mut(network) {
            pools.release(endpoint.ipv4, endpoint.ipv6);
        }
        if let Some(members) = self.members.get_mut(network) {
            members.remove(container);
            members.former.extend(endpoint.addresses().map(|address| (address, endpoint.mac)));
        }
        self.endpoint_numbers.release(endpoint.number);
    }

    /// Release the endpoints of a container in these networks.
    pub fn release_endpoints(&mut self, container: &Container, networks: &[Id]) {
        for attachment in
            container.attachments.iter().filter(|attachment| networks.contains(&attachment.network))
        {
            if let Some(endpoint) = &attachment.endpoint {
                self.release_endpoint(&container.id, &attachment.network, endpoint);
            }
        }
    }

    /// Addresses of an endpoint that neighbours may know with another MAC: because the last endpoint with the
    /// address had another one, or, if there was none since the daemon's start, because its MAC is not the
    /// one derived from the address.
    pub fn known_otherwise(&self, network: &Id, endpoint: &Endpoint) -> Vec<IpAddr> {
        let former = self.members.get(network).map(|members| &members.former);
        let is_usual = endpoint.mac == Mac::of_addresses(endpoint.ipv4, endpoint.ipv6);
        let is_known_otherwise = |address: &IpAddr| match former.and_then(|former| former.get(address)) {
            Some(mac) => *mac != endpoint.mac,
            None => !is_usual,
        };
        endpoint.addresses().filter(is_known_otherwise).collect()
    }
}

impl Members {
    fn insert(&mut self, container: Id, mac: Mac) {
        self.macs.insert(container, mac);
        self.taken.insert(mac);
    }

    fn remove(&mut self, container: &Id) {
        if let Some(mac) = self.macs.remove(container) {
            self.taken.remove(&mac);
        }
    }
}
