//! Tests that measure, or that need the whole machine: they run one at a time, after the other tests of the lab.
//! `cargo xtask test` knows them by the name of this module.

mod bulk;
mod fast_flows;
mod hitless;
mod scale;
mod shaping;
mod soak;
mod throughput;
mod times;
mod web;
