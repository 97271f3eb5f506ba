//! The code that tests share. [`lab`] creates hosts from namespaces and runs the real daemon and command line in them;
//! [`engine`] runs a real Docker engine beside them, [`containerd`] and [`podman`] these; [`groups`] makes
//! control groups, and [`rate`] measures transfers.

pub mod containerd;
pub mod engine;
pub mod groups;
pub mod lab;
pub mod podman;
pub mod rate;
