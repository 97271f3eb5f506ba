//! Where netbpf pins its maps, programs and links on a host: below a folder for each version of the maps' layouts.

use netbpf_common::LAYOUT;

/// The folder of all versions.
pub const ROOT: &str = "/sys/fs/bpf/netbpf";

/// The folder of this version.
pub fn folder() -> String {
    folder_of(LAYOUT)
}

/// The folder of a version.
pub fn folder_of(layout: u32) -> String {
    format!("{ROOT}/v{layout}")
}

/// A pin of this version, such as `maps/FDB`.
pub fn pin(name: &str) -> String {
    format!("{}/{name}", folder())
}
