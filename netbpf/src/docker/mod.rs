//! Docker's remote network driver and IPAM driver: the messages as Docker sends them, their conversion, and the socket
//! that they come in on. Makes no decisions, and sends Docker no requests.
//!
//! | file | owns |
//! |---|---|
//! | `wire` | the messages of the network driver |
//! | `ipam` | the messages of the IPAM driver, and their methods |
//! | `convert` | conversion between messages and the daemon's requests |
//! | `server` | methods, time limit, refusals |

mod convert;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod ipam;
mod server;
mod wire;

pub use server::serve;
