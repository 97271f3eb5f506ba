//! Links, addresses, routes and network namespaces, through rtnetlink; settings below `/proc/sys/net`. An
//! operation that fails half way is undone. Must not know networks, containers, maps or programs.
//!
//! | file | owns |
//! |---|---|
//! | `create` | veth pairs: a network's host device, a container's endpoint |
//! | `device` | a link on the host's side: reads it, restores it |
//! | `links` | changes to a link that exists, the default routes |
//! | `announce` | announcements of the addresses of new interfaces |
//! | `observe` | reads netbpf's links, their counters, the routes |
//! | `shape` | queueing disciplines of limited endpoints |
//! | `filter` | the filter at `lo` of a namespace |
//! | `size` | the largest packet of a link (GSO) |
//! | `uplink` | reads an interface to other hosts |
//! | `way_out` | the uplink of packets to another host; rules of routing |
//! | `ipsec` | whether there are policies of IPsec |
//! | `watch` | announcements of links that are deleted or change |
//! | `neighbours` | size limits of the kernel's neighbour tables |
//! | `netconf` | announcements that forwarding was turned off |
//! | `questions` | where a packet goes, who listens, in the namespace of the calling thread |
//! | `routers` | interfaces that use router advertisements; bridges |
//! | `netns` | opens and visits namespaces |
//! | `sysctl` | settings |
//! | `socket` | netlink requests and their answers |

mod announce;
mod create;
mod device;
mod error;
mod filter;
mod ipsec;
mod links;
pub mod loopback;
pub mod neighbours;
mod netconf;
mod netns;
mod observe;
pub mod questions;
mod routers;
mod shape;
mod size;
mod socket;
pub mod sysctl;
mod uplink;
mod watch;
mod way_out;

pub use error::{Error, Refusal};
pub use filter::{FilterAtLo, Lo};
pub use ipsec::IpsecPolicies;
pub use links::{Family, Links};
pub use netconf::{ForwardingChanges, NotForwarding};
pub use netns::Namespace;
pub use observe::{OwnedLink, Received};
pub use uplink::Uplink;
pub use watch::{Deletions, Heard, LinkChanges, Touches};
pub use way_out::{RouteChanges, WayOut};
