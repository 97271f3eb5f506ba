//! A published port as elements of sets and maps in netbpf's table, in nft's language and in the kernel's format. Pure.
//! Ports change often, so they are sent to the kernel as they are: to run `nft` takes milliseconds, and more for each
//! element that a set has.

use std::{fmt, iter, net::IpAddr};

use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage,
};

use crate::model::{Mapping, Protocol};

/// The most elements of one message. The length of its list of elements is a `u16`, and an element takes up to 88 bytes.
const MAX_ELEMENTS: usize = 512;

/// An element of a set, or of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The set's or the map's name.
    pub set: &'static str,
    key: Vec<Field>,
    /// Empty in a set.
    value: Vec<Field>,
}

/// A part of a key or of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    /// `ipv4_addr` or `ipv6_addr`.
    Address(IpAddr),
    /// `inet_proto`.
    Protocol(Protocol),
    /// `inet_service`.
    Port(u16),
}

impl Element {
    /// The elements of a published port.
    pub fn of(mapping: &Mapping) -> Vec<Self> {
        let Mapping { protocol, host, host_port, container, container_port } = *mapping;
        let protocol = Field::Protocol(protocol);
        let at_port = vec![protocol, Field::Port(host_port)];
        let at_address = vec![Field::Address(host), protocol, Field::Port(host_port)];
        let target = vec![Field::Address(container), Field::Port(container_port)];
        let opened = vec![Field::Address(container), protocol, Field::Port(container_port)];
        let [any, at, open] = match container {
            IpAddr::V4(_) => ["any4", "at4", "open4"],
            IpAddr::V6(_) => ["any6", "at6", "open6"],
        };
        let is_at_all = host.is_unspecified();
        let mut elements = Vec::new();
        // The host accepts the clients of a relayed port itself. Containers of internal networks must not connect to it.
        match (mapping.is_relayed() && host.is_ipv6(), is_at_all) {
            (true, true) => elements.push(Self::in_set("relayed", at_port.clone())),
            (true, false) => elements.push(Self::in_set("relayed_at", at_address.clone())),
            (false, _) => {}
        }
        if mapping.is_translated() {
            elements.push(Self::in_set(open, opened));
            match (host_port, is_at_all) {
                (0, _) => {}
                (_, true) => elements.push(Self { set: any, key: at_port, value: target }),
                (_, false) => elements.push(Self { set: at, key: at_address, value: target }),
            }
        }
        elements
    }

    fn in_set(set: &'static str, key: Vec<Field>) -> Self {
        Self { set, key, value: Vec::new() }
    }

    fn attributes(&self) -> Vec<SetElementAttribute> {
        let bytes = |fields: &[Field]| DataAttribute::Value(fields.iter().flat_map(Field::bytes).collect());
        let key = SetElementAttribute::Key(bytes(&self.key));
        let value = (!self.value.is_empty()).then(|| SetElementAttribute::Data(bytes(&self.value)));
        iter::once(key).chain(value).collect()
    }
}

/// As nft reads and prints it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |fields: &[Field]| fields.iter().map(Field::to_string).collect::<Vec<_>>().join(" . ");
        f.write_str(&joined(&self.key))?;
        if self.value.is_empty() { Ok(()) } else { write!(f, " : {}", joined(&self.value)) }
    }
}

impl Field {
    /// In the kernel's format: network byte order, each field filled up to a multiple of four bytes.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(address)) => address.octets().to_vec(),
            Self::Address(IpAddr::V6(address)) => address.octets().to_vec(),
            Self::Protocol(protocol) => vec![protocol.number(), 0, 0, 0],
            Self::Port(port) => [port.to_be_bytes(), [0; 2]].concat(),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

/// What is done with elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They may exist already.
    Add,
    /// They must exist.
    Delete,
}

/// The messages that add or delete elements of a table.
pub fn messages(table: &str, change: Change, elements: &[Element]) -> Vec<NfTablesMessage> {
    let of_one_set = elements.chunk_by(|one, other| one.set == other.set);
    let chunks = of_one_set.flat_map(|elements| elements.chunks(MAX_ELEMENTS));
    let message = |chunk: &[Element]| {
        let elements = chunk.iter().map(|element| ListAttribute::Element(element.attributes()));
        let message = SetElementMessage {
            attributes: vec![
                SetElementList::Table(table.to_owned()),
                SetElementList::Set(chunk[0].set.to_owned()),
                SetElementList::Elements(elements.collect()),
            ],
        };
        match change {
            Change::Add => NfTablesMessage::NewSetElement(message),
            Change::Delete => NfTablesMessage::DeleteSetElement(message),
        }
    };
    chunks.map(message).collect()
}

#[cfg(test)]
mod tests {
    use netlink_packet_netfilter::nftables::NfTablesMessage;
    use rtnetlink::packet_core::Emitable;

    use super::*;

    fn mapping(host: &str, container: &str) -> Mapping {
        Mapping {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            host_port: 8080,
            container: container.parse().unwrap(),
            container_port: 80,
        }
    }

    fn texts(mapping: &Mapping) -> Vec<String> {
        Element::of(mapping).iter().map(|element| format!("{} {{ {element} }}", element.set)).collect()
    }

    #[test]
    fn a_port_is_in_the_sets_of_its_families() {
        assert_eq!(
            texts(&mapping("0.0.0.0", "10.0.0.2")),
            ["open4 { 10.0.0.2 . tcp . 80 }", "any4 { tcp . 8080 : 10.0.0.2 . 80 }"]
        );
        assert_eq!(
            texts(&mapping("2001:db8::1", "fd00::2")),
            [
                "relayed_at { 2001:db8::1 . tcp . 8080 }",
                "open6 { fd00::2 . tcp . 80 }",
                "at6 { 2001:db8::1 . tcp . 8080 : fd00::2 . 80 }",
            ]
        );
        assert_eq!(texts(&mapping("::", "10.0.0.2")), ["relayed { tcp . 8080 }"]);
        assert_eq!(texts(&mapping("0.0.0.0", "fd00::2")), [""; 0]);
        let routed = Mapping { host_port: 0, ..mapping("0.0.0.0", "10.0.0.2") };
        assert_eq!(texts(&routed), ["open4 { 10.0.0.2 . tcp . 80 }"]);
    }

    #[test]
    fn fields_are_filled_up_to_four_bytes() {
        let elements = Element::of(&mapping("127.0.0.1", "10.0.0.2"));
        let bytes = |fields: &[Field]| fields.iter().flat_map(Field::bytes).collect::<Vec<_>>();
        assert_eq!(elements[1].set, "at4");
        assert_eq!(bytes(&elements[1].key), [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(bytes(&elements[1].value), [10, 0, 0, 2, 0, 80, 0, 0]);
    }

    #[test]
    fn no_message_has_a_list_longer_than_its_length_can_say() {
        let mappings =
            (1..=u16::MAX).map(|port| Mapping { host_port: port, ..mapping("2001:db8::1", "fd00::2") });
        let mut elements: Vec<_> = mappings.flat_map(|mapping| Element::of(&mapping)).collect();
        elements.sort();
        elements.dedup();
        let messages = messages("netbpf", Change::Add, &elements);
        let count = |message: &NfTablesMessage| match message {
            NfTablesMessage::NewSetElement(message) => match &message.attributes[2] {
                SetElementList::Elements(elements) => elements.len(),
                _ => 0,
            },
            _ => 0,
        };
        assert_eq!(messages.iter().map(count).sum::<usize>(), 2 * usize::from(u16::MAX) + 1);
        assert!(messages.iter().all(|message| message.buffer_len() < usize::from(u16::MAX)));
    }
}
