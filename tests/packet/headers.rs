//! The headers of a frame, as its receiver reads them, for the plain model. Must not know networks or rules.

use netbpf_common::reason::Reason;

use super::frame::Frame;

/// The headers of a frame.
pub struct Headers<'a> {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    pub content: Content<'a>,
    /// Where the content starts.
    pub offset: usize,
}

/// What a frame carries.
pub enum Content<'a> {
    Arp {
        request: bool,
        sender_mac: [u8; 6],
        sender_ip: [u8; 4],
        target_ip: [u8; 4],
    },
    Ipv4(Ipv4<'a>),
    Ipv6(Ipv6<'a>),
    /// A frame in a VLAN, or another protocol.
    Other,
}

pub struct Ipv4<'a> {
    pub source: [u8; 4],
    pub destination: [u8; 4],
    protocol: u8,
    has_options: bool,
    is_later_fragment: bool,
    rest: Rest<'a>,
}

pub struct Ipv6<'a> {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub next_header: u8,
    hop_limit: u8,
    /// The length in the header.
    length: usize,
    pub rest: Rest<'a>,
}

/// What follows a fixed header: the bytes in the frame, of which the header's length says how many are the packet's.
pub struct Rest<'a> {
    bytes: &'a [u8],
    length: usize,
}

/// A message of neighbour discovery.
pub struct Discovery<'a> {
    pub kind: u8,
    pub length: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// None if the frame is shorter than its headers, or if they are not valid.
    pub fn of(frame: &'a Frame) -> Option<Self> {
        let bytes = &frame.0[..];
        let mut offset = 14;
        let mut ethertype: [u8; 2] = *bytes.get(12..)?.first_chunk()?;
        let is_tag = |ethertype: [u8; 2]| matches!(ethertype, [0x81, 0] | [0x88, 0xa8]);
        let mut in_vlan = false;
        if is_tag(ethertype) {
            let [high, low, inner @ ..] = *bytes.get(14..)?.first_chunk::<4>()?;
            (ethertype, offset, in_vlan) = (inner, 18, [high & 0x0f, low] != [0, 0]);
            if !in_vlan && is_tag(ethertype) {
                return None;
            }
        }
        let content = match ethertype {
            _ if in_vlan => Content::Other,
            [8, 6] => arp(bytes.get(offset..)?)?,
            [8, 0] => Content::Ipv4(Ipv4::of(bytes.get(offset..)?)?),
            [0x86, 0xdd] => Content::Ipv6(Ipv6::of(bytes.get(offset..)?)?),
            _ => Content::Other,
        };
        Some(Self {
            destination: *bytes.first_chunk()?,
            source: *bytes.get(6..)?.first_chunk()?,
            content,
            offset,
        })
    }

    /// Protocol and ports, for rules about them. Ports are 0 in a later fragment.
    pub fn ports(&self) -> Result<(u8, [u16; 2]), Reason> {
        let (protocol, rest) = match &self.content {
            Content::Ipv4(ipv4) if ipv4.has_options => return Err(Reason::NoIcc),
            Content::Ipv4(ipv4) if ipv4.is_later_fragment => return Ok((ipv4.protocol, [0, 0])),
            Content::Ipv4(ipv4) => (ipv4.protocol, &ipv4.rest),
            Content::Ipv6(ipv6) => (ipv6.next_header, &ipv6.rest),
            Content::Arp { .. } | Content::Other => return Err(Reason::NoIcc),
        };
        if ![6, 17, 132].contains(&protocol) {
            return Err(Reason::NoIcc);
        }
        let [a, b, c, d] = rest.read::<4>(0).ok_or(Reason::Malformed)?;
        let ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        if ports.contains(&0) { Err(Reason::NoIcc) } else { Ok((protocol, ports)) }
    }
}

fn arp(bytes: &[u8]) -> Option<Content<'static>> {
    let bytes = bytes.first_chunk::<28>()?;
    let part = |at: usize| -> [u8; 4] { [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] };
    let is_known = bytes[..6] == [0, 1, 8, 0, 6, 4];
    is_known.then(|| Content::Arp {
        request: bytes[6..8] == [0, 1],
        sender_mac: *bytes[8..].first_chunk().expect("enough bytes"),
        sender_ip: part(14),
        target_ip: part(24),
    })
}

impl<'a> Ipv4<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<20>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        // A packet whose length does not fit into the header has none there.
        let length = if length == 0 { rest.len() } else { length.saturating_sub(20) };
        (0x45..=0x4f).contains(&header[0]).then(|| Self {
            source: *header[12..].first_chunk().expect("enough bytes"),
            destination: *header[16..].first_chunk().expect("enough bytes"),
            protocol: header[9],
            has_options: header[0] != 0x45,
            is_later_fragment: u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0,
            rest: Rest { bytes: rest, length },
        })
    }
}

impl<'a> Ipv6<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<40>()?;
        let said = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let next_header = header[6];
        let length = if said == 0 && [0, 6].contains(&next_header) { rest.len() } else { said };
        (header[0] >> 4 == 6).then(|| Self {
            source: *header[8..].first_chunk().expect("enough bytes"),
            destination: *header[24..].first_chunk().expect("enough bytes"),
            next_header,
            hop_limit: header[7],
            length: said,
            rest: Rest { bytes: rest, length },
        })
    }

    /// The message of neighbour discovery in it, if there is one; an error if it is not valid.
    pub fn discovery(&self) -> Result<Option<Discovery<'a>>, ()> {
        if self.next_header != 58 {
            return Ok(None);
        }
        let [kind, code, ..] = self.rest.read::<4>(0).ok_or(())?;
        match kind {
            133..=137 if self.hop_limit != 255 || code != 0 => Err(()),
            133..=137 => Ok(Some(Discovery { kind, length: self.length, bytes: self.rest.bytes })),
            _ => Ok(None),
        }
    }
}

impl Rest<'_> {
    /// Bytes that are in the frame and in the packet.
    pub fn read<const COUNT: usize>(&self, at: usize) -> Option<[u8; COUNT]> {
        let bytes = self.bytes.get(at..)?.first_chunk::<COUNT>()?;
        (at + COUNT <= self.length).then_some(*bytes)
    }
}

impl Discovery<'_> {
    /// The address that it is about.
    pub fn target(&self) -> Option<[u8; 16]> {
        let message = self.bytes.first_chunk::<24>()?;
        message[8..].first_chunk().copied()
    }

    /// Checks the option behind the `fixed` bytes, if there is one: it has this kind and the sender's MAC, which a
    /// sender with an address only may tell; or it is a nonce in a solicitation.
    pub fn option(&self, fixed: usize, kind: u8, mac: [u8; 6], has_address: bool) -> Result<(), Reason> {
        if self.length == fixed {
            return Ok(());
        }
        let option = self.bytes.get(fixed..).and_then(|bytes| bytes.first_chunk::<8>());
        let option = option.filter(|_| self.length == fixed + 8).ok_or(Reason::Malformed)?;
        let is_nonce = option[0] == 14 && kind == 1;
        match option[1] == 1 && (is_nonce || option[0] == kind) {
            false => Err(Reason::Malformed),
            true if is_nonce || option[2..] == mac && has_address => Ok(()),
            true => Err(Reason::SpoofedNd),
        }
    }
}

/// Whether a next header is an extension header: hop-by-hop, routing, fragment, authentication, destination.
pub fn is_extension(kind: u8) -> bool {
    [0, 43, 44, 51, 60].contains(&kind)
}

/// The length of an extension header in bytes.
pub fn length_of_extension(kind: u8, length: u8) -> usize {
    let length = usize::from(length);
    match kind {
        44 => 8,
        51 => 4 * (length + 2),
        _ => 8 * (length + 1),
    }
}
