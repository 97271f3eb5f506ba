//! What a DNS query over UDP and its reply have at fixed places (RFC 768, RFC 1035, RFC 6891).

/// A UDP header with the header of a DNS message behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsPacket {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Length in bytes with this header.
    pub length: [u8; 2],
    /// Checksum; zero for none, with IPv4 only.
    pub checksum: [u8; 2],
    /// Chosen by the client.
    pub id: [u8; 2],
    /// Flags and codes.
    pub flags: [u8; 2],
    /// How many questions there are.
    pub questions: [u8; 2],
    /// How many answers there are.
    pub answers: [u8; 2],
    /// How many records of name servers there are.
    pub authorities: [u8; 2],
    /// How many additional records there are.
    pub additionals: [u8; 2],
}

/// Port of name servers.
pub const DNS_PORT: [u8; 2] = 53u16.to_be_bytes();

impl DnsPacket {
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 6;

    /// Whether it asks one question, and has at most one additional record.
    #[inline(always)]
    pub const fn is_query(&self) -> bool {
        // No flags but "recursion desired" and, in the second byte, "authentic data" and "checking disabled".
        self.flags[0] & !1 == 0
            && self.flags[1] & !0x30 == 0
            && u16::from_be_bytes(self.questions) == 1
            && u16::from_be_bytes(self.answers) == 0
            && u16::from_be_bytes(self.authorities) == 0
            && u16::from_be_bytes(self.additionals) <= 1
    }

    /// The authoritative reply with so many answers, in a datagram of `length` bytes. It has the query's checksum.
    #[inline(always)]
    pub const fn reply(self, answers: u16, length: u16) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            length: length.to_be_bytes(),
            // Reply, authoritative, "recursion desired" as asked; recursion available, "checking disabled" as asked.
            flags: [0x84 | self.flags[0], 0x80 | self.flags[1] & 0x10],
            answers: answers.to_be_bytes(),
            ..self
        }
    }
}

/// The end of a question.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndOfQuestion {
    /// The last byte of the name's last label.
    pub last: u8,
    /// The length of the root's label.
    pub root: u8,
    /// The type of the records.
    pub kind: [u8; 2],
    /// Their class.
    pub class: [u8; 2],
}

impl EndOfQuestion {
    /// Type A.
    pub const A: [u8; 2] = 1u16.to_be_bytes();
    /// Type AAAA (RFC 3596).
    pub const AAAA: [u8; 2] = 28u16.to_be_bytes();
    /// Type PTR.
    pub const PTR: [u8; 2] = 12u16.to_be_bytes();

    /// Whether a name ends here, and the class is IN.
    #[inline(always)]
    pub const fn is_valid(&self) -> bool {
        self.last != 0 && self.root == 0 && u16::from_be_bytes(self.class) == 1
    }
}

/// Bytes of a message.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<const N: usize>(pub [u8; N]);

impl Bytes<12> {
    /// Whether it is the option of a client that asks for a cookie (RFC 7873, section 4): code 10, eight bytes.
    #[inline(always)]
    pub const fn is_cookie(&self) -> bool {
        matches!(self.0, [0, 10, 0, 8, ..])
    }

    /// The start of a record of type PTR with the question's name; a name of `length` bytes follows. `ttl` is in seconds.
    #[inline(always)]
    pub const fn start_of_pointer(ttl: u32, length: u16) -> Self {
        let ([t, u, v, w], [high, low]) = (ttl.to_be_bytes(), length.to_be_bytes());
        Self([0xc0, 12, 0, 12, 0, 1, t, u, v, w, high, low])
    }
}

impl Bytes<16> {
    /// A record of type A with the question's name. `ttl` is in seconds.
    #[inline(always)]
    pub const fn ipv4_record(ttl: u32, [a, b, c, d]: [u8; 4]) -> Self {
        let [t, u, v, w] = ttl.to_be_bytes();
        Self([0xc0, 12, 0, 1, 0, 1, t, u, v, w, 0, 4, a, b, c, d])
    }
}

impl Bytes<28> {
    /// A record of type AAAA with the question's name. `ttl` is in seconds.
    #[inline(always)]
    pub const fn ipv6_record(ttl: u32, address: [u8; 16]) -> Self {
        let [t, u, v, w] = ttl.to_be_bytes();
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
        Self([0xc0, 12, 0, 28, 0, 1, t, u, v, w, 0, 16, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

/// An OPT record of version 0 without its options (RFC 6891, section 6.1.2).
impl Bytes<11> {
    /// The length of the option of a client that asks for a cookie, in bytes.
    pub const COOKIE: usize = size_of::<Bytes<12>>();

    /// Whether it is such a record, with options of so many bytes.
    #[inline(always)]
    pub const fn is_opt(&self, options: u8) -> bool {
        matches!(self.0, [0, 0, 41, _, _, 0, 0, _, _, 0, length] if length == options)
    }

    /// The record of a reply: without options; the largest datagram is as the client's, between 512 and 1232 bytes.
    #[inline(always)]
    pub const fn opt_of_reply(self) -> Self {
        let [_, _, _, high, low, ..] = self.0;
        let payload = match u16::from_be_bytes([high, low]) {
            0..512 => 512,
            payload @ 512..1232 => payload,
            _ => 1232u16,
        };
        let [high, low] = payload.to_be_bytes();
        Self([0, 0, 41, high, low, 0, 0, 0, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_one_question_and_no_answer() {
        let query =
            DnsPacket { flags: [1, 0x20], questions: [0, 1], additionals: [0, 1], ..DnsPacket::default() };
        assert!(query.is_query());
        for other in [
            DnsPacket { flags: [0x80, 0], ..query },
            DnsPacket { flags: [0x10, 0], ..query },
            DnsPacket { flags: [2, 0], ..query },
            DnsPacket { flags: [1, 0x40], ..query },
            DnsPacket { flags: [1, 1], ..query },
            DnsPacket { questions: [0, 2], ..query },
            DnsPacket { questions: [1, 1], ..query },
            DnsPacket { answers: [0, 1], ..query },
            DnsPacket { authorities: [0, 1], ..query },
            DnsPacket { additionals: [0, 2], ..query },
        ] {
            assert!(!other.is_query(), "{other:?}");
        }
    }

    #[test]
    fn a_cookie_of_a_client_has_eight_bytes() {
        let cookie = |start: [u8; 4]| {
            let mut option = [7; 12];
            option[..4].copy_from_slice(&start);
            Bytes(option).is_cookie()
        };
        assert!(cookie([0, 10, 0, 8]));
        for other in [[0, 11, 0, 8], [1, 10, 0, 8], [0, 10, 0, 9], [0, 10, 1, 8]] {
            assert!(!cookie(other), "{other:?}");
        }
    }

    #[test]
    fn an_opt_record_of_another_version_or_with_other_options_is_refused() {
        let record = [0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 12];
        assert!(Bytes(record).is_opt(12) && !Bytes(record).is_opt(0));
        for (place, value) in [(0, 1), (1, 1), (2, 1), (5, 1), (6, 1), (9, 1), (10, 8)] {
            let mut other = record;
            other[place] = value;
            assert!(!Bytes(other).is_opt(12), "{place}");
        }
    }
}
