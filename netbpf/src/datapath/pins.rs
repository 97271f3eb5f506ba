//! Where things are pinned: paths, and nothing but paths.
//!
//! ```text
//! <bpffs>/v2/maps/PORTS              the maps, by name
//! <bpffs>/v2/programs/from_container the programs, by name
//! <bpffs>/v2/links/veth1a2b3c4       the links, by the interface that they attach a program to (tcx only)
//! ```
//! The version is that of the map layouts: a daemon never meets maps that it would misread.

use std::path::{Path, PathBuf};

use netbpf_common::LAYOUT;

/// The paths below one bpffs folder.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Those of this version of netbpf.
    pub fn below(bpffs: &Path) -> Self {
        Self { root: bpffs.join(format!("v{LAYOUT}")) }
    }

    /// The folder of this version.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All folders, outer ones first.
    pub fn folders(&self) -> [PathBuf; 4] {
        [self.root.clone(), self.root.join("maps"), self.root.join("programs"), self.links()]
    }

    /// A map's.
    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    /// A program's.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    /// The folder of all links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The link's at an interface.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface)
    }
}
