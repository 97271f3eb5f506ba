//! Reads an interface to other hosts: its ifindex, MAC and XDP program. Changes nothing.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
};

use super::{Error, Links};
use crate::model::{Mac, XdpMode};

/// An interface to other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its ifindex.
    pub ifindex: u32,
    /// Its MAC; none if it is not Ethernet.
    pub mac: Option<Mac>,
    /// The ID of the attached XDP program, and its mode.
    pub program: Option<(u32, XdpMode)>,
}

impl Links {
    /// The interface with this name, if there is one.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell. That there is no such interface is no error.
    pub async fn uplink(&self, name: &str) -> Result<Option<Uplink>, Error> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.socket.get(RouteNetlinkMessage::GetLink(question)).await {
            Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(uplink(&link))),
            Ok(_) => Ok(None),
            Err(refusal) => match Error::failed("look at", format!("link {name}"), refusal) {
                error if error.is_missing() => Ok(None),
                error => Err(error),
            },
        }
    }
}

fn uplink(link: &LinkMessage) -> Uplink {
    let mut uplink = Uplink { ifindex: link.header.index, mac: None, program: None };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(octets) if link.header.link_layer_type == LinkLayerType::Ether => {
                uplink.mac = <[u8; 6]>::try_from(octets.as_slice()).ok().map(Mac::from_octets);
            }
            LinkAttribute::Xdp(xdp) => uplink.program = program(xdp),
            _ => {}
        }
    }
    uplink
}

/// The program, if one is attached in one mode only. A device with one program in the driver and another in
/// the kernel's stack has none of netbpf's, which is never attached beside another.
fn program(xdp: &[LinkXdp]) -> Option<(u32, XdpMode)> {
    let mode = xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        _ => None,
    })?;
    let id = xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    })?;
    Some((id, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_an_id_and_a_mode() {
        let attached = |mode| [LinkXdp::Attached(mode), LinkXdp::ProgId(7)];
        assert_eq!(program(&attached(XdpAttached::Driver)), Some((7, XdpMode::Native)));
        assert_eq!(program(&attached(XdpAttached::SocketBuffer)), Some((7, XdpMode::Generic)));
        assert_eq!(program(&attached(XdpAttached::Multiple)), None);
        assert_eq!(program(&[LinkXdp::Attached(XdpAttached::None)]), None);
    }
}
