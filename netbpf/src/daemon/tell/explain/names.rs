//! Looks up a name as a container would: at the name server that it asks, from within its namespace.

use std::{fs, io, net::IpAddr, time::Duration};

use super::{
    atlas::{Atlas, Station},
    walk::{Ground, on},
};
use crate::{
    daemon::Error,
    dns::{self, Looked},
    plan::explain::{Code, Hop, Mark, Source, Way},
};

/// How long a name server may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest name (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;

/// The host's name servers.
const SERVERS: &str = "/etc/resolv.conf";

/// What a name server says about a name.
pub struct Found {
    /// The name's address.
    pub address: Option<IpAddr>,
    /// The step that this is.
    pub hop: Hop,
}

/// Looks up a name. None if it can be no host's name, or nobody has it and it has no dot: then it was meant for a
/// container.
pub async fn look_up(atlas: &Atlas, station: &Station, name: &str) -> Result<Option<Found>, Error> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // No host's name is a number: it is an address that does not exist.
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number || name.len() > LONGEST || !name.bytes().all(is_letter) {
        return Ok(None);
    }
    let Some(server) = server(atlas, station) else { return Ok(None) };
    let text = name.to_owned();
    let asked = on(Ground::Station(station), "names", move || dns::look_up(server, &text, PATIENCE)).await;
    let looked = match asked {
        Ok(looked) => looked,
        Err(Error::Question { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
            Looked::Failed("no answer".to_owned())
        }
        Err(Error::Question { source, .. }) => Looked::Failed(source.to_string()),
        Err(error) => return Err(error),
    };
    let entry = format!("server {server}");
    let hop = |mark, code, text, help: &str| Hop {
        way: Way::There,
        mark,
        at: station.name.clone(),
        code,
        text,
        source: Source::Names,
        entry,
        help: help.to_owned(),
    };
    Ok(match looked {
        Looked::Found(addresses) => {
            let address = addresses.first().copied();
            Some(match address {
                Some(address) => {
                    let text = format!("{name} is {address}");
                    Found { address: Some(address), hop: hop(Mark::Good, Code::Resolved, text, "") }
                }
                None => {
                    let text = format!("{name} has no address");
                    Found { address: None, hop: hop(Mark::Bad, Code::NoName, text, "") }
                }
            })
        }
        Looked::NoName | Looked::Failed(_) if !name.contains('.') => None,
        Looked::NoName => {
            let text = format!("nobody has the name {name}");
            Some(Found { address: None, hop: hop(Mark::Bad, Code::NoName, text, "is it spelt right?") })
        }
        Looked::Failed(reason) => {
            let text = format!("{name} is not resolved: {reason}");
            let help = "look at /etc/resolv.conf of the host, and ask its servers from the host";
            Some(Found { address: None, hop: hop(Mark::Bad, Code::NoName, text, help) })
        }
    })
}

/// The name server that a container asks; none if somebody else has chosen it.
fn server(atlas: &Atlas, station: &Station) -> Option<IpAddr> {
    let owners = || station.records().iter().map(|record| record.owner());
    if owners().any(|owner| owner.asks_elsewhere()) {
        return None;
    }
    if atlas.members_of(station).any(|member| member.network.network.has_names()) {
        return owners().next().map(|owner| owner.resolver().into());
    }
    // Without names of containers, it asks the host's servers; those at the host's loopback are not reached.
    let text = fs::read_to_string(SERVERS).ok()?;
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|server| server.trim().parse().ok()).find(|server: &IpAddr| !server.is_loopback())
}
