//! What the daemon reports: events, information, `inspect`, the ways of packets, and what the programs report to it. Changes nothing.

pub(in crate::daemon) mod drops;
pub(in crate::daemon) mod events;
pub(in crate::daemon) mod explain;
pub(in crate::daemon) mod info;
pub(in crate::daemon) mod notices;
pub(in crate::daemon) mod usage;
pub(in crate::daemon) mod view;
