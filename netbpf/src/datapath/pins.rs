//! Paths of pins, and the versions that have some.
//!
//! ```text
//! <bpffs>/vN/maps/ENDPOINTS          maps, by name
//! <bpffs>/vN/programs/from_container programs, by name
//! <bpffs>/vN/links/veth1a2b3c4       links, by interface (tcx only)
//! <bpffs>/vN/uplinks/eth0            the same for XDP; a dot (invalid in a bpffs) becomes a colon
//! ```
//! N is the version of the map layouts, so a daemon never opens maps that it would misread.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use netbpf_common::LAYOUT;

use super::Error;
use crate::private;

/// The paths below one directory of a bpffs.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The paths of this version of netbpf.
    pub fn below(bpffs: &Path) -> Self {
        Self { root: bpffs.join(format!("v{LAYOUT}")) }
    }

    /// The paths of other versions that have a directory beside this one.
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

    /// The directory of this version.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All directories, outer ones first.
    pub fn folders(&self) -> [PathBuf; 5] {
        let [maps, programs] = ["maps", "programs"].map(|folder| self.root.join(folder));
        [self.root.clone(), maps, programs, self.links(), self.uplinks()]
    }

    /// Creates the directories that are missing. Returns the device and inode of the outermost one.
    pub fn make_folders(&self) -> Result<(u64, u64), Error> {
        for folder in self.folders() {
            private::make_folder(&folder, None)?;
        }
        let made =
            fs::metadata(&self.root).map_err(|error| Error::failed("look at", self.root.display(), error))?;
        Ok((made.dev(), made.ino()))
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    /// The pin of a map while one of another size takes its place.
    pub fn former_map(&self, name: &str) -> PathBuf {
        self.map(&format!("{name}_former"))
    }

    /// The pin of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    /// The pin that becomes the pin of a program, and replaces an older one.
    pub fn new_program(&self, name: &str) -> PathBuf {
        self.program(&format!("{name}_new"))
    }

    /// The directory of all links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The pin of an interface's link.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface)
    }

    /// The directory of all links of uplinks.
    pub fn uplinks(&self) -> PathBuf {
        self.root.join("uplinks")
    }

    /// The pin of an uplink's link. No interface has a colon in its name.
    pub fn uplink(&self, interface: &str) -> PathBuf {
        self.uplinks().join(interface.replace('.', ":"))
    }

    /// The name of the uplink that a pin belongs to.
    pub fn uplink_of(pin: &str) -> String {
        pin.replace(':', ".")
    }
}

/// Removes a pin.
///
/// # Errors
/// [`Error::Failed`] if the file cannot be removed. One that does not exist is no error.
pub fn remove(pin: &Path) -> Result<(), Error> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::failed("remove", pin.display(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
