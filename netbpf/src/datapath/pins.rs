//! Where things are pinned: paths, and which versions have some.
//!
//! ```text
//! <bpffs>/v5/maps/ENDPOINTS              the maps, by name
//! <bpffs>/v5/programs/from_container the programs, by name
//! <bpffs>/v5/links/veth1a2b3c4       the links, by the interface that they attach a program to (tcx only)
//! <bpffs>/v5/uplinks/eth0            the same for XDP; a dot in a name, which a bpffs does not take, is a colon
//! ```
//! The version is that of the map layouts: a daemon never meets maps that it would misread.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use netbpf_common::LAYOUT;

use super::Error;

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

    /// Those of the other versions that have a folder beside this one.
    pub fn other_versions(&self) -> Result<Vec<Self>, Error> {
        let Some(bpffs) = self.root.parent() else { return Ok(Vec::new()) };
        let failed = |error: io::Error| Error::failed("list", bpffs.display(), error);
        let mut others = Vec::new();
        for entry in fs::read_dir(bpffs).map_err(failed)? {
            let root = entry.map_err(failed)?.path();
            let name = root.file_name().and_then(|name| name.to_str());
            let version = name.and_then(|name| name.strip_prefix('v')).and_then(|text| text.parse().ok());
            if version.is_some_and(|version: u32| version != LAYOUT) {
                others.push(Self { root });
            }
        }
        Ok(others)
    }

    /// The folder of this version.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All folders, outer ones first.
    pub fn folders(&self) -> [PathBuf; 5] {
        let [maps, programs] = ["maps", "programs"].map(|folder| self.root.join(folder));
        [self.root.clone(), maps, programs, self.links(), self.uplinks()]
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

    /// The folder of all links at uplinks.
    pub fn uplinks(&self) -> PathBuf {
        self.root.join("uplinks")
    }

    /// The link's at an uplink. No interface has a colon in its name.
    pub fn uplink(&self, interface: &str) -> PathBuf {
        self.uplinks().join(interface.replace('.', ":"))
    }

    /// The uplink of a pin in their folder.
    pub fn uplink_of(pin: &str) -> String {
        pin.replace(':', ".")
    }
}
