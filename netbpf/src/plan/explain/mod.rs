//! The words in which the way of a packet is explained: hops, what decided at each, and what follows. Asks nobody.

pub mod packet;
pub mod table;

use netbpf_common::reason::Reason;

use self::packet::Payload;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal,)+) => {
        /// What happens to a packet at a hop. Names are stable: programs read them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            /// A program decided.
            Frame(Reason),
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// All codes but those of the programs.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Frame(reason) => reason.name(),
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

codes! {
    /// The kernel has a route.
    Routed "routed",
    /// It is for the namespace itself.
    Local "local",
    /// A name has an address.
    Resolved "resolved",
    /// The packet filter lets it pass.
    Admitted "admitted",
    /// Its destination is replaced, because the port is published.
    Published "published",
    /// Its source is replaced.
    Masqueraded "masqueraded",
    /// A process takes it.
    Listening "listening",
    /// It leaves this host.
    Leaves "leaves",
    /// No route leads there.
    NoRoute "no-route",
    /// A route or a rule of routing refuses it.
    Prohibited "prohibited",
    /// `rp_filter`: its source would be answered by another interface.
    ReversePath "reverse-path",
    /// The host does not forward.
    NotForwarding "not-forwarding",
    /// No process takes it.
    NotListening "not-listening",
    /// A process takes it from its own namespace only.
    ListensOnLoopback "listens-on-loopback",
    /// No container publishes the port.
    NotPublished "not-published",
    /// The containers share no network.
    OtherNetwork "other-network",
    /// A chain of another program drops it.
    ForeignFirewall "foreign-firewall",
    /// Nothing answers pings there.
    NoEcho "no-echo",
    /// Larger packets do not fit through an interface on the way.
    Mtu "mtu",
    /// Nobody has the name.
    NoName "no-name",
    /// The container does not run.
    Stopped "stopped",
    /// The container has no address.
    NoLease "no-lease",
    /// An interface is down.
    LinkDown "link-down",
    /// netbpf's table is not in the packet filter.
    NoTable "no-table",
    /// A network here and another route have the same addresses.
    Overlap "overlap",
    /// It cannot be told.
    Undecided "undecided",
}

/// Whether a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It does.
    Good,
    /// It does not.
    Bad,
    /// Nobody can tell without sending it.
    Unknown,
    /// It does, but somebody should know this.
    Note,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the destination.
    There,
    /// The answer.
    Back,
}

/// Who told what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The eBPF programs, run on such a frame.
    Program,
    /// The kernel: routes, interfaces, settings.
    Kernel,
    /// netbpf's table in the packet filter.
    Table,
    /// The kernel's list of sockets.
    Sockets,
    /// Chains of other programs in the packet filter.
    Firewall,
    /// The responder, or a file of names.
    Names,
    /// The daemon's own records.
    Daemon,
}

impl Source {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Kernel => "kernel",
            Self::Table => "table",
            Self::Sockets => "sockets",
            Self::Firewall => "foreign",
            Self::Names => "names",
            Self::Daemon => "daemon",
        }
    }
}

/// One step on a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The direction.
    pub way: Way,
    /// Whether the packet goes on.
    pub mark: Mark,
    /// Where it is: a container's name, an interface, `host`.
    pub at: String,
    /// What happens.
    pub code: Code,
    /// The same as a sentence.
    pub text: String,
    /// Who told.
    pub source: Source,
    /// The entry that decided.
    pub entry: String,
    /// What would help; empty if nothing has to.
    pub help: String,
}

/// Where a packet comes from or goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// `container`, `host`, `outside`, `address`.
    pub kind: &'static str,
    /// As users know it.
    pub name: String,
    /// The container's ID.
    pub id: String,
    /// The network that the packet uses there.
    pub network: String,
    /// Its address.
    pub address: String,
}

/// Whether a packet arrives and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Passes,
    /// It does not.
    Blocked,
    /// It depends on what cannot be told.
    Undecided,
}

impl Verdict {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Blocked => "blocked",
            Self::Undecided => "undecided",
        }
    }
}

/// The way of one packet and of its answer.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Who sends it.
    pub from: Party,
    /// Who is to get it.
    pub to: Party,
    /// `icmp`, `tcp`, …
    pub protocol: &'static str,
    /// The destination port; 0 if the protocol has none.
    pub port: u16,
    /// The steps in order.
    pub hops: Vec<Hop>,
}

impl Explanation {
    /// Whether it arrives and is answered: the first hop that ends it, else the first that nobody can tell.
    pub fn verdict(&self) -> Verdict {
        match self.decisive() {
            Some(Hop { mark: Mark::Bad, .. }) => Verdict::Blocked,
            Some(Hop { mark: Mark::Unknown, .. }) => Verdict::Undecided,
            Some(_) | None => Verdict::Passes,
        }
    }

    /// The hop that decides: the first that ends the packet, else the first that nobody can tell, else the last on the way
    /// there.
    pub fn decisive(&self) -> Option<&Hop> {
        let marked = |mark: Mark| self.hops.iter().find(|hop| hop.mark == mark);
        let there = || self.hops.iter().rev().find(|hop| hop.way == Way::There && hop.mark == Mark::Good);
        marked(Mark::Bad).or_else(|| marked(Mark::Unknown)).or_else(there)
    }
}

/// `tcp/80`, `icmp`.
pub fn protocol(payload: &Payload) -> (&'static str, u16) {
    match *payload {
        Payload::Echo | Payload::EchoReply => ("icmp", 0),
        Payload::Ports { protocol, destination, .. } => {
            let name = match protocol {
                crate::model::Protocol::Tcp => "tcp",
                crate::model::Protocol::Udp => "udp",
                crate::model::Protocol::Sctp => "sctp",
            };
            (name, destination)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_different_names_and_none_of_a_reason() {
        for code in Code::ALL {
            assert_eq!(Code::ALL.iter().filter(|other| other.name() == code.name()).count(), 1);
            assert!(Reason::ALL.iter().all(|reason| reason.name() != code.name()), "{}", code.name());
        }
    }

    #[test]
    fn what_ends_a_packet_decides_before_what_nobody_can_tell() {
        let hop = |mark, code| Hop {
            way: Way::There,
            mark,
            at: String::new(),
            code,
            text: String::new(),
            source: Source::Kernel,
            entry: String::new(),
            help: String::new(),
        };
        let explained = |hops| Explanation {
            from: Party::default(),
            to: Party::default(),
            protocol: "icmp",
            port: 0,
            hops,
        };
        let unknown = hop(Mark::Unknown, Code::Undecided);
        let bad = hop(Mark::Bad, Code::NoRoute);
        let good = hop(Mark::Good, Code::Routed);
        assert_eq!(explained(vec![good.clone(), unknown.clone(), bad]).verdict(), Verdict::Blocked);
        assert_eq!(explained(vec![good.clone(), unknown]).verdict(), Verdict::Undecided);
        assert_eq!(explained(vec![good]).verdict(), Verdict::Passes);
    }
}
