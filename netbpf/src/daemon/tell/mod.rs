//! What the daemon reports: events, information, `inspect`, and what the programs report to it. Changes nothing.

pub(in crate::daemon) mod events;
pub(in crate::daemon) mod info;
pub(in crate::daemon) mod notices;
pub(in crate::daemon) mod usage;
pub(in crate::daemon) mod view;
