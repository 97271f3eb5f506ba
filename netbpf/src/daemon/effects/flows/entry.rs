//! The entry of an established flow: what the programs look for, and what they write.

use std::net::SocketAddrV4;

use netbpf_common::{
    flow::{FlowKey, Way},
    wire::protocol,
};

use crate::{
    datapath::Shortcut,
    firewall::{Direction, Transport},
    link::WayOut,
};

/// The packets of a key, as conntrack knows them; none if it is neither TCP nor UDP.
pub(super) fn direction(key: &FlowKey) -> Option<Direction> {
    let transport = match u8::try_from(key.protocol).ok()? {
        protocol::TCP => Transport::Tcp,
        protocol::UDP => Transport::Udp,
        _ => return None,
    };
    let socket = |address: [u8; 4], port| SocketAddrV4::new(address.into(), u16::from_be_bytes(port));
    Some(Direction {
        transport,
        source: socket(key.source, key.source_port),
        destination: socket(key.destination, key.destination_port),
    })
}

/// The entry of a flow whose packets of the container get another source.
pub(super) fn shortcut(endpoint: u32, uplink: &WayOut, key: FlowKey, source: SocketAddrV4) -> Shortcut {
    let (address, port) = (source.ip().octets(), source.port().to_be_bytes());
    let back = FlowKey {
        ifindex: uplink.ifindex,
        source: key.destination,
        destination: address,
        source_port: key.destination_port,
        destination_port: port,
        protocol: key.protocol,
    };
    Shortcut {
        endpoint,
        uplink: uplink.ifindex,
        out: Way { key, address, port, reserved: [0; 2] },
        back: Way { key: back, address: key.source, port: key.source_port, reserved: [0; 2] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_the_other_way() {
        let key = FlowKey {
            ifindex: 1_000_000,
            source: [172, 17, 0, 2],
            destination: [203, 0, 113, 7],
            source_port: 80u16.to_be_bytes(),
            destination_port: 5000u16.to_be_bytes(),
            protocol: protocol::TCP.into(),
        };
        let uplink = WayOut { ifindex: 2, name: "eth0".to_owned() };
        let flow = shortcut(9, &uplink, key, "198.51.100.1:8080".parse().unwrap());
        let sent = direction(&flow.out.key).unwrap();
        assert_eq!(
            (sent.source.to_string(), sent.destination.to_string()),
            ("172.17.0.2:80".into(), "203.0.113.7:5000".into())
        );
        let back = direction(&flow.back.key).unwrap();
        assert_eq!((back.source, back.destination), (sent.destination, "198.51.100.1:8080".parse().unwrap()));
        assert_eq!(
            (flow.back.key.ifindex, flow.back.address, flow.back.port),
            (2, key.source, key.source_port)
        );
        assert_eq!(direction(&FlowKey { protocol: 132, ..key }), None);
    }
}
