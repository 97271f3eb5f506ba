//! The reasons for which a frame ends. One list generates the enum that the programs return, their counters,
//! and the names for users, so that they always match.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident $field:ident $name:literal $drop:literal,)+) => {
        /// Why a frame ended: passed on, answered or dropped.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that CLI and logs print.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whether the frame was dropped.
            pub const fn is_drop(self) -> bool {
                match self { $(Self::$variant => $drop,)+ }
            }
        }

        /// One CPU's counters by reason: the only value of the per-CPU array `REASONS`.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Reasons { $($(#[doc = $doc])+ pub $field: crate::stats::Counter,)+ }

        impl Reasons {
            /// The counter of a reason.
            #[inline(always)]
            pub fn of(&mut self, reason: Reason) -> &mut crate::stats::Counter {
                match reason { $(Reason::$variant => &mut self.$field,)+ }
            }

            /// The value of a reason's counter.
            pub const fn get(&self, reason: Reason) -> crate::stats::Counter {
                match reason { $(Reason::$variant => self.$field,)+ }
            }
        }
    };
}

reasons! {
    /// To a container of the same network.
    Forwarded forwarded "forwarded" false,
    /// Broadcast or multicast, to every other member of the network.
    Flooded flooded "flooded" false,
    /// To the host, by the network's host device.
    Delivered delivered "delivered" false,
    /// Past the host's stack, as part of an established flow: from a container to an uplink, or the other way.
    Shortcut shortcut "shortcut" false,
    /// An ARP request, answered by the program.
    AnsweredArp answered_arp "answered-arp" false,
    /// A neighbour solicitation, answered by the program.
    AnsweredNd answered_nd "answered-nd" false,
    /// A DNS query for the name of a container, answered by the program.
    AnsweredName answered_name "answered-name" false,
    /// Shorter than its headers say.
    Malformed malformed "malformed" true,
    /// From an interface that is no endpoint of any network.
    UnknownEndpoint unknown_endpoint "unknown-endpoint" true,
    /// To a MAC that no member of the network has.
    UnknownDestination unknown_destination "unknown-destination" true,
    /// To an address that no station of the network has: an ARP request, a neighbour solicitation (also one
    /// for the sender's own address), or a packet that the host would route back into the network, without
    /// finding its neighbour.
    UnknownAddress unknown_address "unknown-address" true,
    /// From a MAC that is not the sender's.
    SpoofedMac spoofed_mac "spoofed-mac" true,
    /// From an IPv4 address that is not the sender's.
    SpoofedIpv4 spoofed_ipv4 "spoofed-ipv4" true,
    /// From an IPv6 address that is not the sender's.
    SpoofedIpv6 spoofed_ipv6 "spoofed-ipv6" true,
    /// An ARP packet that claims a MAC or address that is not the sender's.
    SpoofedArp spoofed_arp "spoofed-arp" true,
    /// A message of neighbour discovery with a MAC or address that is not the sender's, or one that only
    /// routers may send, or one behind extension headers.
    SpoofedNd spoofed_nd "spoofed-nd" true,
    /// From or to 127.0.0.0/8, which must not appear on a network.
    Loopback loopback "loopback" true,
    /// To the endpoint that it came from.
    Hairpin hairpin "hairpin" true,
    /// To another member of a network whose members must not talk to each other (`enable_icc=false`).
    NoIcc no_icc "no-icc" true,
    /// From one network to another.
    Isolated isolated "isolated" true,
    /// To the reserved group 01:80:c2:00:00:0x, which no bridge forwards (IEEE 802.1Q 8.6.3).
    Reserved reserved "reserved" true,
    /// To a group, from a member that has reached the limit of copies of its network
    /// (`netbpf.max_flood_copies`).
    FloodLimit flood_limit "flood-limit" true,
    /// From a member that sends faster than its limit (`netbpf.egress_rate`): it has removed the queueing discipline of
    /// its interface.
    EgressLimit egress_limit "egress-limit" true,
    /// The kernel refused to pass the frame on.
    Failed failed "failed" true,
    /// From another host directly to a container that other hosts may not reach directly.
    Unpublished unpublished "unpublished" true,
    /// From another host to an internal network. The packet filter also counts packets from an internal
    /// network.
    Internal internal "internal" true,
    /// From a container to another host, with the container's own address although it should have one of the
    /// host's: conntrack considers the packet invalid or does not track it, so it is not translated. Only the
    /// packet filter counts it.
    Untranslated untranslated "untranslated" true,
    /// Forwarded by the host from and to interfaces that are not netbpf's, if the host forwards only because
    /// of netbpf. Only the packet filter counts it.
    Transit transit "transit" true,
    /// The first packet of a flow of a container that has reached the limit of flows of its network
    /// (`netbpf.max_flows`). Only the packet filter counts it.
    Flows flows "flows" true,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_count_up_and_names_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(Reason::ALL.iter().filter(|other| other.name() == reason.name()).count() == 1);
        }
    }
}
