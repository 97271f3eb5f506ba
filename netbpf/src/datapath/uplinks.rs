//! Attaches `from_uplink` to interfaces to other hosts, and maintains the subnets that it closes to them.
//!
//! As with tcx, the link is pinned: it outlives the daemon, and a new daemon replaces the program of the same
//! link. The pin has the interface's name, but another interface may have got that name. So the program that
//! the kernel reports for the interface decides whether the link belongs to it.

use std::{net::IpAddr, path::PathBuf, thread, time::Duration};

use aya::programs::{
    ProgramError, Xdp, XdpMode as Mode,
    links::{FdLink, LinkError},
    xdp::XdpLink,
};
use ipnet::IpNet;
use netbpf_common::uplink::{ADDRESS_BITS, ClosedSubnet, Uplink, mapped};
use nix::libc::{EBUSY, EEXIST, EINVAL, ENOMEM, ENOSPC, EOPNOTSUPP, ERANGE};

use super::{
    Datapath, Error,
    folders::list,
    pins::{Pins, remove},
    programs::{FROM_UPLINK, errno, is_absent},
    tables::Prefix,
    warn,
};
use crate::{
    fault,
    model::{Mac, XdpMode},
    plan::Closed,
};

/// The kernel detaches a link some time after its last pin was removed: attempts to attach, and the pause
/// between them.
const MAX_ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// State of an interface to other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkDevice {
    /// Its ifindex.
    pub ifindex: u32,
    /// Its MAC: the destination of frames for the host.
    pub mac: Mac,
    /// The attached XDP program.
    pub program: Option<XdpProgram>,
}

/// An XDP program at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// Its ID.
    pub id: u32,
    /// Its mode.
    pub mode: XdpMode,
}

impl Datapath {
    /// Attaches `from_uplink` to an uplink, and replaces an older version. False: it is attached already.
    ///
    /// # Errors
    /// [`Error::Missing`], with its remedy, if another XDP program is attached, or the driver has no native
    /// XDP or refuses it as the interface is now. Otherwise the error of a map, a pin or the attachment. The
    /// uplink may be in the map by then, and an older program detached.
    pub fn attach_uplink(
        &mut self,
        interface: &str,
        device: &UplinkDevice,
        mode: XdpMode,
    ) -> Result<bool, Error> {
        let failed = |error: ProgramError| refused(interface, mode, error);
        self.programs.need(&[FROM_UPLINK])?;
        // Before it is attached, so that the program knows the host's MAC from the first frame on.
        let entry = Uplink { mac: device.mac.octets(), reserved: [0; 2] };
        self.tables.set_uplink(device.ifindex, entry)?;
        fault::call("attach").map_err(|error| Error::failed("attach XDP to", interface, error))?;
        let pin = self.pins.uplink(interface);
        let mut attempts = 1;
        let known = self.programs.take_link(&pin)?.map(with_program).transpose()?;
        let program = xdp(&mut self.programs)?;
        let own = program.info().map_err(failed)?.id();
        if let Some((link, id)) = known {
            if device.program == Some(XdpProgram { id, mode }) {
                let attached = match id == own {
                    true => Some(link),
                    false => match program.attach_to_link(link) {
                        Ok(id) => Some(program.take_link(id).map_err(failed)?),
                        Err(error) if is_absent(&error) => None,
                        Err(error) => return Err(failed(error)),
                    },
                };
                if let Some(link) = attached {
                    self.pin_uplink(interface, pin, link)?;
                    return Ok(id != own);
                }
            }
            // The mode changes, or the pin belongs to another interface that had this name.
            remove(&pin)?;
            attempts = MAX_ATTEMPTS;
        }
        let program = xdp(&mut self.programs)?;
        let mode = match mode {
            XdpMode::Native => Mode::Driver,
            XdpMode::Generic => Mode::Skb,
        };
        let id = loop {
            attempts -= 1;
            match program.attach_to_if_index(device.ifindex, mode) {
                Err(error) if attempts > 0 && is_busy(&error) => thread::sleep(PAUSE),
                attached => break attached.map_err(failed)?,
            }
        };
        let link = program.take_link(id).map_err(failed)?;
        self.pin_uplink(interface, pin, link)?;
        Ok(true)
    }

    fn pin_uplink(&mut self, interface: &str, pin: PathBuf, link: XdpLink) -> Result<(), Error> {
        let link =
            FdLink::try_from(link).map_err(|error| Error::failed("take the link at", interface, error))?;
        self.programs.pin_link(pin, link)
    }

    /// Detaches from an uplink, which may be gone already.
    ///
    /// # Errors
    /// [`Error::Failed`] if the pin cannot be removed: the program stays attached.
    pub fn detach_uplink(&mut self, interface: &str) -> Result<(), Error> {
        self.programs.unpin_link(&self.pins.uplink(interface))
    }

    /// The uplinks that have, or had, the program.
    ///
    /// # Errors
    /// [`Error::Failed`] if the directory of their pins cannot be read. A directory that does not exist has
    /// none.
    pub fn uplinks(&self) -> Result<Vec<String>, Error> {
        let pins = list(&self.pins.uplinks())?;
        Ok(pins.iter().map(|pin| Pins::uplink_of(pin)).collect())
    }

    /// Removes all uplinks from the map except those with these ifindexes.
    ///
    /// # Errors
    /// [`Error::Failed`] if the map cannot be read, or an entry cannot be removed. Those before it are
    /// removed.
    pub fn forget_uplinks_but(&mut self, ifindexes: &[u32]) -> Result<(), Error> {
        let others = self.tables.uplinks()?.into_keys().filter(|ifindex| !ifindexes.contains(ifindex));
        others.collect::<Vec<_>>().into_iter().try_for_each(|ifindex| self.tables.remove_uplink(ifindex))
    }

    /// The closed subnets of a network.
    pub(super) fn closed(&self, number: u32) -> Closed {
        self.closed.get(&number).copied().unwrap_or_default()
    }

    /// Sets the closed subnets of a network, all or none. Subnets that stay closed are not open in between.
    pub(super) fn close(&mut self, number: u32, closed: Closed) -> Result<(), Error> {
        let before = self.closed(number);
        self.exchange_closed(number, before, closed)
            .inspect_err(|_| warn(self.exchange_closed(number, closed, before)))?;
        match closed == Closed::default() {
            true => self.closed.remove(&number),
            false => self.closed.insert(number, closed),
        };
        Ok(())
    }

    fn exchange_closed(&mut self, number: u32, before: Closed, after: Closed) -> Result<(), Error> {
        let stays: Vec<_> = after.subnets().collect();
        for subnet in before.subnets().filter(|subnet| !stays.contains(subnet)) {
            self.tables.open_subnet(prefix(subnet))?;
        }
        let value = ClosedSubnet { network: number, internal: u32::from(after.internal) };
        stays.into_iter().try_for_each(|subnet| self.tables.close_subnet(prefix(subnet), value))
    }

    /// Reads the closed subnets, and removes those without a network.
    pub(super) fn mend_closed(&mut self) -> Result<(), Error> {
        self.closed.clear();
        for (prefix, subnet) in self.tables.closed_subnets()? {
            if !self.networks.contains_key(&subnet.network) {
                self.tables.open_subnet(prefix)?;
                continue;
            }
            let closed = self.closed.entry(subnet.network).or_default();
            closed.internal = subnet.internal != 0;
            match net(prefix) {
                Some(IpNet::V4(net)) => closed.ipv4 = Some(net),
                Some(IpNet::V6(net)) => closed.ipv6 = Some(net),
                None => self.tables.open_subnet(prefix)?,
            }
        }
        Ok(())
    }
}

fn xdp(programs: &mut super::Programs) -> Result<&mut Xdp, Error> {
    let failed = |error: ProgramError| Error::failed("open the program", FROM_UPLINK, error);
    let program = programs.object().program_mut(FROM_UPLINK);
    let program =
        program.ok_or_else(|| Error::failed("find the program", FROM_UPLINK, "the object has none"))?;
    program.try_into().map_err(failed)
}

/// A link with the ID of its program.
fn with_program(link: FdLink) -> Result<(XdpLink, u32), Error> {
    let failed = |error: LinkError| Error::failed("open the link of", FROM_UPLINK, error);
    let program = link.info().map_err(failed)?.program_id();
    Ok((XdpLink::try_from(link).map_err(failed)?, program))
}

/// Whether another program is attached.
fn is_busy(error: &ProgramError) -> bool {
    matches!(errno(error), Some(EBUSY | EEXIST))
}

/// The reason of a failed attachment, and how to fix it.
fn refused(interface: &str, mode: XdpMode, error: ProgramError) -> Error {
    let number = errno(&error);
    match (number, mode) {
        _ if is_busy(&error) => Error::missing(
            format!("uplink {interface} has another XDP program"),
            format!("take that off (bpftool net detach xdp dev {interface}), or leave out --xdp {interface}"),
        ),
        (Some(EOPNOTSUPP), XdpMode::Native) => Error::missing(
            format!("the driver of uplink {interface} has no native XDP"),
            format!("start with --xdp {interface}=generic, or without --xdp {interface}"),
        ),
        // Drivers return these errors for an MTU, an offload or a number of queues that does not work with
        // XDP.
        (Some(EINVAL | ERANGE | ENOMEM | ENOSPC), XdpMode::Native) => Error::missing(
            format!("the driver of uplink {interface} refuses native XDP as the interface is now ({error})"),
            format!("see its kernel log, lower its MTU, or start with --xdp {interface}=generic"),
        ),
        _ => Error::failed("attach XDP to", interface, error),
    }
}

fn prefix(net: IpNet) -> Prefix {
    let unused = ADDRESS_BITS - u32::from(net.max_prefix_len());
    let address = match net.network() {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    };
    // IPv4 addresses are mapped into ::ffff:0:0/96.
    Prefix::new(u32::from(net.prefix_len()) + unused, address)
}

fn net(prefix: Prefix) -> Option<IpNet> {
    let address = IpAddr::from(prefix.data()).to_canonical();
    let bits = prefix.prefix_len();
    let bits = if address.is_ipv4() { bits.checked_sub(ADDRESS_BITS - 32)? } else { bits };
    IpNet::new(address, u8::try_from(bits).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_the_prefix_that_all_of_its_addresses_have() {
        for (subnet, bits) in [("172.17.0.0/16", 112), ("10.0.0.0/32", 128), ("fd00:1::/64", 64), ("::/0", 0)]
        {
            let subnet: IpNet = subnet.parse().unwrap();
            assert_eq!(prefix(subnet).prefix_len(), bits, "{subnet}");
            assert_eq!(net(prefix(subnet)), Some(subnet));
        }
    }
}
