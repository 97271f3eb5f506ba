//! Reads the state of a link on the host's side, and restores what somebody changed.

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
    /// Reads a link: those settings that `like` has, and the addresses if `like` has a MAC. None if there is
    /// no link with this ifindex.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell about the link or its addresses. A setting that cannot
    /// be read is left out.
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

    /// Restores what somebody changed on a link. `name` is the name that it should have.
    ///
    /// # Errors
    /// [`Error::Failed`] at the first change that the kernel refuses; those before it are done, in the order
    /// name, MAC and group, settings, addresses, other end. An address that the link has already is no error.
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
        // Before the addresses, because the kernel removes addresses when some settings change.
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
            // Before Linux 6.2 a link that is up cannot be renamed.
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
        // Writing may wait for the kernel's lock on all links, so it must not run on a worker thread.
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
    // In a path, a dot in a name is not a separator.
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
    // For IPv6 there is only this attribute.
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    IpNet::new(address?, message.header.prefix_len).ok()
}
