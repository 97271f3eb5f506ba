//! Where a program looks at what other hosts send before the host's own stack does.

use std::fmt;

/// Where XDP runs at an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// In the driver, before there is an skb.
    Native,
    /// In the stack's first function, with an skb: any interface can.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}
