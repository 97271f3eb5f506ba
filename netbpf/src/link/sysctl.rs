//! Settings below `/proc/sys`: for those below `net`, of the namespace that the calling thread is in. None is created.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

use super::Error;

/// The value of a setting: `net/ipv4/ip_forward` is `/proc/sys/net/ipv4/ip_forward`.
pub fn read(setting: &str) -> Result<String, Error> {
    let path = path(setting);
    let text = fs::read_to_string(&path)
        .map_err(|error| Error::failed("read", path.display().to_string(), error))?;
    Ok(text.trim_end().to_owned())
}

/// Gives a setting a value; says whether it had another one.
pub fn write(setting: &str, value: &str) -> Result<bool, Error> {
    if read(setting)? == value {
        return Ok(false);
    }
    set(setting, value)?;
    Ok(true)
}

/// Turns IPv6 off on an interface. It is off where the kernel has none, and where the MTU is too small for it.
///
/// Written without a look before: the kernel's way to a setting grows with the number of namespaces, so it is gone once.
pub(super) fn disable_ipv6(interface: &str) -> Result<(), Error> {
    match set(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1") {
        Err(error) if error.is_missing() => Ok(()),
        result => result,
    }
}

fn set(setting: &str, value: &str) -> Result<(), Error> {
    let path = path(setting);
    File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|error| Error::failed("write", format!("{value} to {}", path.display()), error))
}

fn path(setting: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(setting)
}
