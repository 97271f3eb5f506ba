//! The daemon on a host in memory: each change is tried with every single call failing. Then nothing may have
//! changed, and the same change succeeds afterwards. Needs no root.

mod backlog;
mod changes;
mod docker;
mod engine;
mod lo;
mod plugin;
mod repair;
mod restart;
mod rig;
mod sandbox;
mod update;
