//! What an interface to other hosts is, as far as a program at it must know. Changes nothing.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
};

use super::{Error, Links};
use crate::model::{Mac, XdpMode};

/// An interface to other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its number.
    pub ifindex: u32,
    /// Its MAC; none if it is not Ethernet.
    pub mac: Option<Mac>,
    /// The number of the XDP program that is attached to it, and how that runs.
    pub program: Option<(u32, XdpMode)>,
}

impl Links {
    /// The interface of this name, if there is one.
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

/// What is attached in one mode only: a device that runs one program in the driver and another in the stack has none of
/// ours, which shares with nobody.
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
    fn a_program_is_known_by_its_number_and_its_mode() {
        let attached = |mode| [LinkXdp::Attached(mode), LinkXdp::ProgId(7)];
        assert_eq!(program(&attached(XdpAttached::Driver)), Some((7, XdpMode::Native)));
        assert_eq!(program(&attached(XdpAttached::SocketBuffer)), Some((7, XdpMode::Generic)));
        assert_eq!(program(&attached(XdpAttached::Multiple)), None);
        assert_eq!(program(&[LinkXdp::Attached(XdpAttached::None)]), None);
    }
}
