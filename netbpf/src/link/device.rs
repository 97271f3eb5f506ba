//! A link on the host's side: what is read of it, and what is put back when somebody changed it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use nix::errno::Errno;

use super::{
    Error, Links,
    create::add_addresses,
    error::Refusal,
    links::{up, with_index},
    sysctl,
};
use crate::plan::{Device, Mend};

impl Links {
    /// What is read of a link, with the settings that `like` has, and addresses where it has any or carries a MAC of
    /// netbpf's; none if there is no link of this number.
    pub async fn device(&self, ifindex: u32, like: &Device) -> Result<Option<Device>, Error> {
        let failed = |refusal: Refusal| Error::failed("look at", format!("link {ifindex}"), refusal);
        let answer = self.socket.get(RouteNetlinkMessage::GetLink(with_index(ifindex))).await.map_err(failed);
        let link = match answer {
            Ok(RouteNetlinkMessage::NewLink(link)) => link,
            Err(error) if error.is_missing() => return Ok(None),
            Ok(_) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut device = read(&link);
        if like.mac.is_some() {
            device.addresses = self.addresses(ifindex).await?;
        }
        device.settings = like
            .settings
            .keys()
            .filter_map(|setting| Some((*setting, sysctl::read(&setting_of(setting, &device.name)).ok()?)))
            .collect();
        Ok(Some(device))
    }

    /// Puts back what somebody changed of the link that is to have this name.
    pub async fn mend(&self, ifindex: u32, name: &str, mend: &Mend) -> Result<(), Error> {
        if mend.renamed.is_some() {
            self.rename(ifindex, name).await?;
        }
        let mut changes = with_index(ifindex);
        changes.attributes.extend(mend.mac.map(|mac| LinkAttribute::Address(mac.octets().to_vec())));
        changes.attributes.extend(mend.group.map(LinkAttribute::Group));
        if !changes.attributes.is_empty() {
            self.change(changes, name).await?;
        }
        // Before the addresses, which the kernel takes away with some of them.
        self.write_settings(name, &mend.settings).await?;
        add_addresses(&self.socket, ifindex, name, &mend.addresses).await?;
        if let Some(peer) = mend.peer {
            up(&self.socket, with_index(peer))
                .await
                .map_err(|refusal| Error::failed("set up", format!("the other end of {name}"), refusal))?;
        }
        Ok(())
    }

    async fn rename(&self, ifindex: u32, name: &str) -> Result<(), Error> {
        let renamed = || {
            let mut message = with_index(ifindex);
            message.attributes.push(LinkAttribute::IfName(name.to_owned()));
            message
        };
        match self.change(renamed(), name).await {
            // Before Linux 6.2 a link that is up keeps its name.
            Err(error) if error.errno() == Some(Errno::EBUSY) => {
                let mut down = with_index(ifindex);
                down.header.change_mask = LinkFlags::Up;
                self.change(down, name).await?;
                self.change(renamed(), name).await?;
                up(&self.socket, with_index(ifindex))
                    .await
                    .map_err(|refusal| Error::failed("set up", name, refusal))
            }
            result => result,
        }
    }

    async fn change(&self, message: LinkMessage, name: &str) -> Result<(), Error> {
        let changed = self.socket.ask(RouteNetlinkMessage::SetLink(message), 0).await;
        changed.map_err(|refusal| Error::failed("change", name, refusal))
    }

    async fn write_settings(
        &self,
        name: &str,
        settings: &BTreeMap<&'static str, String>,
    ) -> Result<(), Error> {
        let settings: Vec<_> =
            settings.iter().map(|(setting, value)| (setting_of(setting, name), value.clone())).collect();
        // Writing may wait for the kernel's lock on all links: not on a worker.
        let write =
            move || settings.iter().try_for_each(|(setting, value)| sysctl::write(setting, value).map(drop));
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|_| Err(Error::Panicked("this network namespace".to_owned())))
    }

    async fn addresses(&self, ifindex: u32) -> Result<BTreeSet<IpNet>, Error> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addresses =
            self.socket.dump(request).await.map_err(|refusal| Error::failed("list", "addresses", refusal))?;
        Ok(addresses
            .iter()
            .filter_map(|entry| match entry {
                RouteNetlinkMessage::NewAddress(address) if address.header.index == ifindex => net(address),
                _ => None,
            })
            .collect())
    }
}

fn setting_of(setting: &str, name: &str) -> String {
    // A dot in a name is no separator here.
    format!("net/{}", setting.replace('*', name))
}

fn read(link: &LinkMessage) -> Device {
    let flags = link.header.flags;
    let mut device = Device {
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ..Device::default()
    };
    let mut is_peer_elsewhere = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Group(group) => device.group = *group,
            LinkAttribute::Link(peer) => device.peer = Some(*peer),
            LinkAttribute::LinkNetNsId(_) => is_peer_elsewhere = true,
            LinkAttribute::Address(octets) => {
                let octets = <[u8; 6]>::try_from(octets.as_slice());
                device.mac = octets.ok().and_then(|octets| octets.try_into().ok());
            }
            _ => {}
        }
    }
    device.peer = device.peer.filter(|_| !is_peer_elsewhere);
    device
}

fn net(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    // IPv6 has no local one beside it.
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    IpNet::new(address?, message.header.prefix_len).ok()
}
