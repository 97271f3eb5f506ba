//! What the daemon tells of itself: events, information, and what `inspect` shows. Changes nothing.

pub(in crate::daemon) mod events;
pub(in crate::daemon) mod info;
pub(in crate::daemon) mod view;
