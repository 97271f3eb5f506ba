//! Names of containers, which the programs answer (`NAMES`, `POINTERS`), and the networks in which a container's names are
//! looked up: by a program on the way to another name server (`VIEWS`), and by the one at `lo` of a container
//! (`RESOLVERS`). Must not know DNS messages, or how the maps are accessed.

/// Maximum number of names in all networks: eight for each endpoint.
pub const MAX_NAMES: u32 = 65_536;

/// Maximum length of a name in bytes, in the form of [`NameKey::name`]. Longer names are not answered.
pub const MAX_NAME: usize = 64;

/// Maximum number of addresses of a name in each family: those of the first containers, in random order.
pub const MAX_ADDRESSES: usize = 8;

/// Maximum number of networks in which a container's names are looked up.
pub const MAX_VIEW: usize = 8;

/// Seconds for which a client may keep an answer, as in Docker's resolver.
pub const TTL: u32 = 600;

/// Maximum number of containers whose queries are answered at `lo`: a filter's class has 16 bits, and zero is none.
pub const MAX_RESOLVERS: u32 = u16::MAX as u32;

/// Added to [`NameKey::network`] for a container's own name with dots. Alone, without its network's, it may also be a
/// public name: only those who ask netbpf's responder get an answer for it.
pub const WITH_DOTS: u32 = 1 << 31;

/// Length in bytes of [`Pointer::name`].
pub const MAX_POINTER: usize = 80;

/// Key of the hashes `NAMES` and `POINTERS`: a name within a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey {
    /// Network number; [`WITH_DOTS`] may be added.
    pub network: u32,
    /// The labels in lower case, each after its length (RFC 1035, section 3.1), without the root's; zeros follow.
    pub name: [u8; MAX_NAME],
}
const _: () = assert!(size_of::<NameKey>() == 68);

impl NameKey {
    /// The key of a name with dots between its labels; none if the name is too long, or no name of DNS.
    pub fn new(network: u32, text: &str) -> Option<Self> {
        let mut name = [0; MAX_NAME];
        let mut rest = &mut name[..];
        for label in text.split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
            if rest.len() <= label.len() || label.contains('\0') {
                return None;
            }
            let (place, after) = rest.split_at_mut(1 + label.len());
            place[0] = length;
            place[1..].copy_from_slice(label.as_bytes());
            place[1..].make_ascii_lowercase();
            rest = after;
        }
        Some(Self { network, name })
    }
}

/// Value of `NAMES`: the addresses of the containers with the name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// How many of `ipv4` there are.
    pub ipv4_count: u8,
    /// How many of `ipv6` there are.
    pub ipv6_count: u8,
    /// Not 0 if there are more than that.
    pub is_cut: u8,
    /// Always zero.
    pub reserved: u8,
    /// IPv4 addresses, network order.
    pub ipv4: [[u8; 4]; MAX_ADDRESSES],
    /// IPv6 addresses, network order.
    pub ipv6: [[u8; 16]; MAX_ADDRESSES],
}
const _: () = assert!(size_of::<Addresses>() == 164);

/// Value of `POINTERS`: the full name of the container with an address, whose key is `4.3.2.1.in-addr.arpa`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Length of `name` with the root's label; zero if only the responder can tell the name.
    pub length: u32,
    /// The labels, each after its length, with the root's; zeros follow.
    pub name: [u8; MAX_POINTER],
}
const _: () = assert!(size_of::<Pointer>() == 84);

impl Pointer {
    /// The value for a name with dots between its labels. Without a name, or if that is too long, the responder is left to
    /// tell it.
    pub fn new(text: Option<&str>) -> Self {
        let mut pointer = Self { length: 0, name: [0; MAX_POINTER] };
        let mut rest = &mut pointer.name[..];
        let Some(text) = text else { return pointer };
        let mut length = 1;
        for label in text.split('.') {
            // The root follows.
            let fits = (1..64).contains(&label.len()) && label.len() + 1 < rest.len();
            if !fits {
                return Self { length: 0, name: [0; MAX_POINTER] };
            }
            let (place, after) = rest.split_at_mut(1 + label.len());
            place[0] = label.len() as u8;
            place[1..].copy_from_slice(label.as_bytes());
            rest = after;
            length += 1 + label.len() as u32;
        }
        pointer.length = length;
        pointer
    }
}

/// Value of the hash `RESOLVERS`: how the queries of a container are answered at `lo`. Key: the class of the filter
/// there, as a `u32`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// The container, by its ID.
    pub container: [u8; 32],
    /// The address of its name server, which is the responder.
    pub address: [u8; 4],
    /// The port where the responder listens, network order. Clients send to port 53.
    pub port: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 2],
    /// How many of `networks` there are; none if all queries are left to the responder.
    pub count: u32,
    /// Numbers of its networks, in the order in which names are looked up.
    pub networks: [u32; MAX_VIEW],
}
const _: () = assert!(size_of::<Resolver>() == 76);

/// Value of the hash `VIEWS` (key: [`Endpoint::owner`](crate::endpoint::Endpoint::owner)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How many of `networks` there are.
    pub count: u32,
    /// Numbers of networks.
    pub networks: [u32; MAX_VIEW],
}
const _: () = assert!(size_of::<View>() == 36);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_key_as_its_labels_with_their_lengths() {
        let key = NameKey::new(3, "Web.My-Net").unwrap();
        assert_eq!((key.network, &key.name[..12]), (3, &b"\x03web\x06my-net\0"[..]));
        assert_eq!(key.name[12..], [0; 52]);
        let longest = format!("{}.{}", "a".repeat(31), "b".repeat(31));
        assert_eq!(NameKey::new(0, &longest).unwrap().name[63], b'b');
    }

    #[test]
    fn a_pointer_is_the_full_name_with_the_root() {
        let pointer = Pointer::new(Some("Web.my-net"));
        assert_eq!((pointer.length, &pointer.name[..13]), (12, &b"\x03Web\x06my-net\0\0"[..]));
        let longest = format!("{}.{}", "a".repeat(38), "b".repeat(39));
        assert_eq!(Pointer::new(Some(&longest)).length, 80);
        for other in [None, Some("a..b"), Some(""), Some(&*format!("{longest}b")), Some(&*"a".repeat(64))] {
            assert_eq!(Pointer::new(other), Pointer { length: 0, name: [0; MAX_POINTER] }, "{other:?}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_or_no_name_of_dns_has_no_key() {
        let long = "a".repeat(64);
        for name in
            ["", ".", "a.", ".a", "a..b", "a\0", &long, &format!("{}.{}", "a".repeat(31), "b".repeat(32))]
        {
            assert_eq!(NameKey::new(0, name), None, "{name}");
        }
        assert!(NameKey::new(0, &long[1..]).is_some());
    }
}
