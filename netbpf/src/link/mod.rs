//! Links, addresses, routes and network namespaces, through rtnetlink; settings below `/proc/sys/net`. Everything here
//! does what it is told to the kernel and undoes it where it fails half way. It must not know networks, containers,
//! maps or programs.
//!
//! | file | owns |
//! |---|---|
//! | `create` | veth pairs: a network's host device, a container's endpoint |
//! | `device` | a link on the host's side: what is read of it, what is put back |
//! | `links` | what is done to a link that exists, the default routes |
//! | `announce` | what a new interface says of itself |
//! | `observe` | what is there: links of ours, their counters, routes |
//! | `size` | how large packets may be |
//! | `uplink` | what an interface to other hosts is |
//! | `watch` | which links go, which change |
//! | `neighbours` | room in the kernel's tables of neighbours |
//! | `netconf` | when forwarding is turned off |
//! | `routers` | which interfaces listen to routers, which are bridges |
//! | `netns` | namespaces, and visits to them |
//! | `sysctl` | settings |
//! | `socket` | one netlink request and its answer |

mod announce;
mod create;
mod device;
mod error;
mod links;
pub mod neighbours;
mod netconf;
mod netns;
mod observe;
mod routers;
mod size;
mod socket;
pub mod sysctl;
mod uplink;
mod watch;

pub use error::{Error, Refusal};
pub use links::{Family, Links};
pub use netconf::{ForwardingChanges, NotForwarding};
pub use netns::{Namespace, start_time};
pub use observe::{OwnedLink, Received};
pub use uplink::Uplink;
pub use watch::{Changes, Deletions, Heard, Touches};
