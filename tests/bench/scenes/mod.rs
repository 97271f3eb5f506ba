//! The scenes: each measures one aspect for every subject that has it.

pub mod bulk;
pub mod commands;
pub mod connections;
pub mod engines;
pub mod names;
pub mod published;
pub mod rate;
pub mod round_trip;
pub mod scale;

use anyhow::Result;

use crate::{measure::Session, world::World};

/// A scene.
pub struct Scene {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its title in the report.
    pub title: &'static str,
    /// Whether it belongs to the most important ones.
    pub quick: bool,
    /// Takes the measurements.
    pub run: fn(&World<'_>, &Session) -> Result<()>,
}

/// All scenes in the order of the report.
pub const SCENES: &[Scene] = &[
    Scene { name: "round-trip", title: "Round trip, one way", quick: true, run: round_trip::run },
    Scene { name: "rate", title: "Small packets", quick: true, run: rate::run },
    Scene { name: "bulk", title: "TCP bulk", quick: true, run: bulk::run },
    Scene { name: "connections", title: "New connections", quick: false, run: connections::run },
    Scene { name: "published", title: "Published port, from another host", quick: true, run: published::run },
    Scene {
        name: "hairpin",
        title: "Published port, from its own network",
        quick: false,
        run: published::hairpin,
    },
    Scene { name: "names", title: "Name lookup", quick: true, run: names::run },
    Scene { name: "commands", title: "Command line", quick: true, run: commands::run },
    Scene {
        name: "engines",
        title: "Engines in their own networks and in netbpf's",
        quick: false,
        run: engines::run,
    },
    Scene { name: "scale", title: "Many containers on one network", quick: false, run: scale::run },
];
