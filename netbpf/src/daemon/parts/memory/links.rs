//! Links, routes and settings in memory, with the methods of the real ones.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Link, Machine, place};
use crate::{
    link::{Error, Family, FilterAtLo, OwnedLink, Received, Uplink, WayOut},
    model::{self, Mac},
    plan::{Device, EndpointWiring, Mend, NetworkWiring, Shapers},
};

/// See [`crate::link::Links`].
#[derive(Default)]
pub struct Links {
    pub machine: Machine,
}

/// See [`crate::link::Namespace`]. It exists as long as its file does.
pub struct Namespace {
    pub path: PathBuf,
}

/// See [`crate::link::Lo`].
pub struct Lo {
    machine: Machine,
    path: PathBuf,
}

/// See [`crate::link::sysctl::Sysctls`].
#[derive(Clone, Default)]
pub struct Sysctls {
    pub machine: Machine,
}

pub(super) fn refused(operation: &'static str, object: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let object = object.into();
    move |error| Error::Failed { operation, object, source: error.into() }
}

fn no_such_link(ifindex: u32) -> Error {
    refused("find", format!("link {ifindex}"))(nix::errno::Errno::ENODEV.into())
}

impl Links {
    pub fn open() -> Result<Self, Error> {
        Ok(Self::default())
    }

    pub fn namespace(&self, named: &model::Namespace) -> Result<Namespace, Error> {
        let path = place(named);
        match path.try_exists() {
            Ok(true) => Ok(Namespace { path }),
            _ => Err(refused("open", path.display().to_string())(nix::errno::Errno::ENOENT.into())),
        }
    }

    pub fn name_of(&self, ifindex: u32) -> Option<String> {
        self.machine.state().links.get(&ifindex).map(|link| link.device.name.clone())
    }

    pub fn index_of(&self, interface: &str) -> Option<u32> {
        let is_it = |link: &Link| {
            link.device.name == interface || (link.peer.1.is_none() && link.peer.0 == interface)
        };
        self.machine.state().links.iter().find(|(_, link)| is_it(link)).map(|(ifindex, _)| *ifindex)
    }

    pub async fn create_host_device(&self, network: &NetworkWiring, group: u32) -> Result<(), Error> {
        self.add(
            network.ifindex(),
            Link {
                device: Device::of_network(network, group),
                peer: (network.peer.clone(), None),
                addresses: Vec::new(),
                shapers: Shapers::default(),
            },
        )
    }

    pub async fn create_endpoint(
        &self,
        endpoint: &EndpointWiring,
        group: u32,
        namespace: Option<&Namespace>,
    ) -> Result<(), Error> {
        let addresses = endpoint.ipv4.map(IpNet::V4).into_iter().chain(endpoint.ipv6.map(IpNet::V6));
        self.add(
            endpoint.ifindex(),
            Link {
                device: Device { up: false, ..Device::of_endpoint(endpoint, group) },
                peer: (endpoint.interface.clone(), namespace.map(|namespace| namespace.path.clone())),
                addresses: addresses.collect(),
                shapers: Shapers::default(),
            },
        )
    }

    fn add(&self, ifindex: u32, link: Link) -> Result<(), Error> {
        let name = link.device.name.clone();
        let taken = |name: &str, place: &str| {
            Err(Error::NameTaken { name: name.to_owned(), place: place.to_owned() })
        };
        let added = self.machine.call("create a link", |state| {
            if let Some(other) = state.links.get(&ifindex) {
                let Device { name, group, .. } = other.device.clone();
                return Err(Error::NumberTaken { ifindex, name, group });
            }
            if state.links.values().any(|other| other.device.name == link.device.name) {
                return taken(&link.device.name, "this network namespace");
            }
            if state.links.values().any(|other| other.peer == link.peer) {
                return taken(&link.peer.0, "its network namespace");
            }
            state.links.insert(ifindex, link);
            Ok(())
        });
        added.map_err(refused("create", name))?
    }

    pub async fn set_up(&self, ifindex: u32) -> Result<(), Error> {
        let set = self.machine.call("set a link up", |state| {
            state.links.get_mut(&ifindex).map(|link| link.device.up = true).ok_or(no_such_link(ifindex))
        });
        set.map_err(refused("set up", format!("link {ifindex}")))?
    }

    pub async fn delete(&self, ifindex: u32) -> Result<bool, Error> {
        let deleted = self.machine.call("delete a link", |state| state.delete_link(ifindex));
        deleted.map_err(refused("delete", format!("link {ifindex}")))
    }

    pub async fn mend(&self, ifindex: u32, name: &str, mend: &Mend) -> Result<(), Error> {
        let mended = self.machine.call("mend a link", |state| {
            let Some(link) = state.links.get_mut(&ifindex) else { return Err(no_such_link(ifindex)) };
            let device = &mut link.device;
            if mend.renamed.is_some() {
                device.name = name.to_owned();
            }
            device.mac = mend.mac.or(device.mac);
            device.group = mend.group.unwrap_or(device.group);
            device.settings.extend(mend.settings.clone());
            device.addresses.extend(&mend.addresses);
            Ok(())
        });
        mended.map_err(refused("change", name))?
    }

    pub async fn shape(
        &self,
        _: Option<&EndpointWiring>,
        after: &EndpointWiring,
        _: Option<&Namespace>,
    ) -> Result<(), Error> {
        let (ifindex, shapers) = (after.ifindex(), after.shapers());
        let shaped = self.machine.call("shape an endpoint", |state| {
            state.links.get_mut(&ifindex).map(|link| link.shapers = shapers).ok_or(no_such_link(ifindex))
        });
        shaped.map_err(refused("shape", &after.host_interface))?
    }

    pub async fn shapers(&self, endpoint: &EndpointWiring, _: Option<&Namespace>) -> Result<Shapers, Error> {
        let links = self.machine.state().links;
        Ok(links.get(&endpoint.ifindex()).map(|link| link.shapers).unwrap_or_default())
    }

    pub async fn lo(&self, netns: &Namespace) -> Result<Lo, Error> {
        // Others go on meanwhile.
        tokio::task::yield_now().await;
        Ok(Lo { machine: self.machine.clone(), path: netns.path.clone() })
    }

    pub async fn check_filter_at_lo(&self, _: impl AsFd) -> Result<(), Error> {
        self.machine.ask("check a filter").map_err(refused("add a filter at", "lo"))
    }

    pub async fn set_default_route(&self, netns: &Namespace, gateway: IpAddr) -> Result<(), Error> {
        let path = netns.path.clone();
        let set = self.machine.call("set a default route", |state| {
            let mut near = state.links.values().filter(|link| link.peer.1.as_deref() == Some(&*path));
            // The kernel wants a gateway on a link.
            if !near.any(|link| link.addresses.iter().any(|net| net.contains(&gateway))) {
                return Err(refused("set", "the default route")(nix::errno::Errno::ENETUNREACH.into()));
            }
            state.routes.insert((path, gateway.is_ipv6()), gateway);
            Ok(())
        });
        set.map_err(refused("set", "the default route"))?
    }

    pub async fn remove_default_route(&self, netns: &Namespace, family: Family) -> Result<(), Error> {
        let key = (netns.path.clone(), family == Family::Ipv6);
        let removed = self.machine.call("remove a default route", |state| state.routes.remove(&key));
        removed.map(drop).map_err(refused("remove", "the default route"))
    }

    pub async fn announce(&self, _: &Namespace, interface: &str, _: IpAddr, _: Mac) -> Result<(), Error> {
        self.machine.call("announce an address", |_| ()).map_err(refused("announce", interface))
    }

    pub async fn device(&self, ifindex: u32, _: &Device) -> Result<Option<Device>, Error> {
        Ok(self.machine.state().links.get(&ifindex).map(|link| link.device.clone()))
    }

    pub async fn owned(&self, group: u32) -> Result<Vec<OwnedLink>, Error> {
        let links = self.machine.state().links;
        let owned = links.iter().filter(|(_, link)| link.device.group == group);
        let owned = owned.map(|(ifindex, link)| OwnedLink {
            ifindex: *ifindex,
            name: link.device.name.clone(),
            up: link.device.up,
            mtu: 1500,
            mac: link.device.mac,
            discipline: "noqueue".to_owned(),
        });
        Ok(owned.collect())
    }

    pub async fn received(&self, _: u32) -> Result<HashMap<u32, Received>, Error> {
        Ok(HashMap::new())
    }

    pub async fn on_link_routes(&self) -> Result<Vec<Ipv4Net>, Error> {
        Ok(self
            .nets()
            .filter_map(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None })
            .collect())
    }

    pub async fn on_link_routes_ipv6(&self) -> Result<Vec<Ipv6Net>, Error> {
        Ok(self
            .nets()
            .filter_map(|net| if let IpNet::V6(net) = net { Some(net.trunc()) } else { None })
            .collect())
    }

    pub async fn destinations(&self) -> Result<Vec<IpNet>, Error> {
        Ok(self.nets().flat_map(|net| [net.trunc(), IpNet::from(net.addr())]).collect())
    }

    fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.machine.state().links.into_values().flat_map(|link| link.device.addresses)
    }

    pub async fn interfaces_in(&self, netns: &Namespace) -> Result<Vec<String>, Error> {
        let links = self.machine.state().links.into_values();
        let inside = links.filter(|link| link.peer.1.as_deref() == Some(&*netns.path));
        Ok(inside.map(|link| link.peer.0).collect())
    }

    pub async fn addresses_in(
        &self,
        netns: &Namespace,
        interface: &str,
    ) -> Result<Option<Vec<IpNet>>, Error> {
        let mut links = self.machine.state().links.into_values();
        let peer = (interface.to_owned(), Some(netns.path.clone()));
        Ok(links.find(|link| link.peer == peer).map(|link| link.addresses))
    }

    pub async fn default_routes_in(&self, netns: &Namespace) -> Result<Vec<IpAddr>, Error> {
        let routes = self.machine.state().routes.into_iter();
        Ok(routes
            .filter(|((namespace, _), _)| *namespace == netns.path)
            .map(|(_, gateway)| gateway)
            .collect())
    }

    pub async fn listening_to_routers(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    pub async fn bridges(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    pub async fn way_out(&self, _: Ipv4Addr) -> Result<Option<WayOut>, Error> {
        Ok(None)
    }

    pub async fn disciplines(&self) -> Result<Vec<(u32, String)>, Error> {
        Ok(Vec::new())
    }

    pub async fn has_routing_rules(&self) -> Result<bool, Error> {
        Ok(false)
    }

    pub async fn uplink(&self, _: &str) -> Result<Option<Uplink>, Error> {
        Ok(None)
    }
}

impl Lo {
    pub async fn add_discipline(&self) -> Result<bool, Error> {
        let path = self.path.clone();
        let added = self.machine.call("add a discipline", |state| state.disciplines.insert(path));
        added.map_err(refused("add clsact at", "lo"))
    }

    pub async fn remove_discipline(&self) -> Result<(), Error> {
        let removed = self.machine.call("remove a discipline", |state| {
            if !state.at_lo.contains_key(&self.path) {
                state.disciplines.remove(&self.path);
            }
        });
        removed.map_err(refused("remove clsact from", "lo"))
    }

    pub async fn add_filter(&self, _: impl AsFd, class: u16) -> Result<(), Error> {
        let path = self.path.clone();
        let added = self.machine.call("add a filter", |state| state.at_lo.insert(path, class));
        added.map(drop).map_err(refused("add a filter at", "lo"))
    }

    pub async fn remove_filter(&self) -> Result<(), Error> {
        let removed = self.machine.call("remove a filter", |state| state.at_lo.remove(&self.path));
        removed.map(drop).map_err(refused("remove a filter from", "lo"))
    }

    pub async fn filter(&self) -> Result<Option<FilterAtLo>, Error> {
        let class = self.machine.state().at_lo.remove(&self.path);
        Ok(class.map(|class| FilterAtLo { class, program: 0 }))
    }
}

impl Namespace {
    pub fn inode(&self) -> Result<u64, Error> {
        let metadata = std::fs::metadata(&self.path);
        metadata
            .map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
            .map_err(refused("look at", self.path.display().to_string()))
    }

    pub fn same_as_current(&self) -> Result<bool, Error> {
        Ok(false)
    }
}

impl std::os::fd::AsFd for Namespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        unreachable!("no unit test starts a sandbox in another one's namespace")
    }
}

impl Sysctls {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn read(&self, setting: &str) -> Result<String, Error> {
        Ok(self.machine.state().settings.get(setting).cloned().unwrap_or_else(|| "0".to_owned()))
    }

    pub fn write(&self, setting: &str, value: &str) -> Result<bool, Error> {
        let written = self.machine.call("write a setting", |state| match value {
            "0" => state.settings.remove(setting).is_some(),
            value => state.settings.insert(setting.to_owned(), value.to_owned()).as_deref() != Some(value),
        });
        written.map_err(refused("write", setting))
    }
}
