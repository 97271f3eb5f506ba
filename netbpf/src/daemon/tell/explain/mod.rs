//! `netbpf explain`: the way of a packet from A to B and back, with who decides at each hop. Changes nothing, and sends
//! nothing but a query for a name to the container's own resolver.
//!
//! | file | owns |
//! |---|---|
//! | `atlas` | a copy of networks and containers |
//! | `parties` | who A and B are |
//! | `names` | looks up a name as A would |
//! | `walk` | follows a packet |
//! | `arrival` | who takes it |

mod arrival;
mod atlas;
mod names;
mod parties;
mod walk;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;

use self::{
    atlas::{Atlas, Station},
    parties::{Parties, Partner, Surroundings},
    walk::{End, Ground, Step, Walk},
};
use crate::{
    daemon::{Error, effects::host::Host, state::State},
    datapath::Judge,
    model::{Protocol, word},
    plan::explain::{
        Code, Explanation, Hop, Mark, Party, Source, Way,
        packet::{CLIENT_PORT, Packet, Payload},
    },
};

/// What a user asks.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Who sends.
    pub from: String,
    /// Who is to get it; none to ask about the sender.
    pub to: Option<String>,
    /// The protocol and port: `tcp/80`; a ping without it.
    pub what: Option<String>,
}

/// Explains the way of a packet, or the usual ways of one container.
pub async fn explain(
    state: &State,
    host: &Host,
    kept: &KeptJudge,
    table: String,
    question: &Question,
) -> Result<Vec<Explanation>, Error> {
    let atlas = Atlas::of(&state.world());
    let words = [Some(question.from.as_str()), question.to.as_deref()];
    let around = Surroundings::of(&words.into_iter().flatten().collect::<Vec<_>>()).await?;
    let parties = Parties::new(&atlas, &around);
    let all = match &question.to {
        Some(to) => vec![parties.pair(&question.from, to, question.what.as_deref()).await?],
        None => parties.of_one(&question.from)?,
    };
    let load = host.datapath().judge(kept.take());
    let judge = tokio::task::spawn_blocking(load).await.unwrap_or_else(|error| {
        Err(crate::datapath::Error::Failed {
            operation: "load",
            object: "an instance of the programs".to_owned(),
            source: error.into(),
        })
    })?;
    let mut walk = Walk::new(&atlas, judge, table);
    if !host.firewall.is_whole().await? {
        let text = "netbpf's table is not as it was loaded: the daemon is about to load it again";
        let step = Step::bad("host", Code::NoTable, text, Source::Table);
        walk.add(step.help("ask again; netbpf doctor"));
    }
    let mut explained = Vec::new();
    for mut pair in all {
        if let Some(address) = pair.address {
            pair.hops.extend(overlap(&atlas, host, address).await?);
        }
        explained.push(explain_one(&mut walk, &atlas, pair).await?);
    }
    kept.keep(walk.into_judge());
    Ok(explained)
}

/// How long an instance of the programs is kept for the next question: the verifier takes most of an answer's time.
const KEPT: Duration = Duration::from_secs(60);

/// The instance of the programs that answered the last question, for a while.
#[derive(Clone, Default)]
pub struct KeptJudge(Arc<Mutex<Option<(Instant, Judge)>>>);

impl KeptJudge {
    fn take(&self) -> Option<Judge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(_, judge)| judge)
    }

    fn keep(&self, judge: Judge) {
        let now = Instant::now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, judge));
        let kept = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.as_ref().is_some_and(|(since, _)| *since == now) {
                *kept = None;
            }
        });
    }
}

/// Who sends what to whom.
pub struct Pair<'a> {
    /// Who sends.
    pub from: Partner<'a>,
    /// Who is to get it.
    pub to: Partner<'a>,
    /// Where it is sent to; none if that is not known.
    pub address: Option<IpAddr>,
    /// What is sent.
    pub payload: Payload,
    /// What was found out on the way to the address.
    pub hops: Vec<Hop>,
}

async fn explain_one<'a>(
    walk: &mut Walk<'a>,
    atlas: &'a Atlas,
    pair: Pair<'a>,
) -> Result<Explanation, Error> {
    let Pair { from, to, address, payload, hops } = pair;
    let mut from_party = from.party();
    let mut to_party = to.party();
    walk.hops.extend(hops);
    let is_hopeless = walk.hops.iter().any(|hop| hop.mark == Mark::Bad);
    if !is_hopeless
        && begins(walk, &from, &to)
        && let Some(address) = address
    {
        to_party.address = address.to_string();
        let packet = Packet { source: from.source(address), destination: address, payload };
        let end = there(walk, &from, packet).await?;
        if let Some(source) = walk.first_source() {
            from_party.address = source.to_string();
        } else if let End::At(_, packet) = &end {
            from_party.address = packet.source.to_string();
        }
        if let End::At(ground, packet) = end
            && arrival::of(walk, ground, &packet).await?
        {
            walk.turn();
            back(walk, &from, ground, &packet, address).await?;
        }
        networks_of(&mut from_party, &mut to_party, &from, &to, atlas, address);
    }
    let (protocol, port) = crate::plan::explain::protocol(&payload);
    let mut explained = Explanation { from: from_party, to: to_party, protocol, port, hops: walk.again() };
    point_out(&mut explained, &from, &to, atlas);
    Ok(explained)
}

/// A note if both a network and another route of the host lead to an address.
async fn overlap(atlas: &Atlas, host: &Host, address: IpAddr) -> Result<Option<Hop>, Error> {
    let Some(network) = atlas.network_of(address) else { return Ok(None) };
    let is_ours = |net: &IpNet| {
        atlas.networks().iter().filter_map(|mapped| mapped.bridge()).any(|bridge| {
            bridge
                .nets()
                .any(|own| own == *net || (own.contains(net) && net.prefix_len() == net.max_prefix_len()))
        })
    };
    let destinations = host.links.destinations().await?;
    let other = destinations.into_iter().find(|net| {
        net.contains(&address)
            && net.prefix_len() > 0
            && net.addr().is_ipv4() == address.is_ipv4()
            && !is_ours(net)
    });
    Ok(other.map(|net| {
        let name = &network.network.name;
        Hop {
            way: Way::There,
            mark: Mark::Note,
            at: "host".to_owned(),
            code: Code::Overlap,
            text: format!(
                "{address} is in network {name} and in {net}, where another route of the host leads"
            ),
            source: Source::Kernel,
            entry: format!("route {net}"),
            help: format!("the more specific of the two wins; create {name} with another --subnet"),
        }
    }))
}

/// Whether both ends are there at all.
fn begins<'a>(walk: &mut Walk<'a>, from: &Partner<'a>, to: &Partner<'a>) -> bool {
    for partner in [from, to] {
        if let Partner::Station(station) = partner {
            let name = &station.name;
            if !station.is_running() && station.place().is_none() {
                let text = format!("{name} does not run");
                let step = Step::bad(name, Code::Stopped, text, Source::Daemon);
                walk.add(step.help(format!("netbpf start {}", word(name))));
                return false;
            }
        }
    }
    true
}

async fn there<'a>(walk: &mut Walk<'a>, from: &Partner<'a>, packet: Packet) -> Result<End<'a>, Error> {
    match from {
        Partner::Station(station) => walk.container_sends(station, packet, false).await,
        Partner::Host => walk.host_sends(packet, false).await,
        Partner::Outside(uplink) => match uplink {
            Some(uplink) => walk.host_receives(uplink.ifindex, &uplink.name, packet, uplink.mtu).await,
            None => {
                let text = "this host has no interface to others: no default route";
                walk.add(Step::bad("host", Code::NoRoute, text, Source::Kernel));
                Ok(End::Stopped)
            }
        },
    }
}

/// The answer goes back. It must come from where the packet was sent to.
async fn back<'a>(
    walk: &mut Walk<'a>,
    from: &Partner<'a>,
    ground: Ground<'a>,
    packet: &Packet,
    address: IpAddr,
) -> Result<(), Error> {
    if let (Partner::Station(station), Ground::Station(other)) = (from, ground)
        && station.id == other.id
        && packet.source == packet.destination
    {
        return Ok(());
    }
    let reply = packet.reply();
    let end = match ground {
        Ground::Station(station) => walk.container_sends(station, reply, true).await?,
        Ground::Host => walk.host_sends(reply, true).await?,
    };
    if let End::At(_, arrived) = end {
        let name = from.party().name;
        if arrived.source == address {
            let text = format!("{name} gets the answer of {address}");
            walk.add(Step::good(&name, Code::Local, text, Source::Kernel));
        } else {
            let text = format!("the answer comes from {}, and not from {address}", arrived.source);
            walk.add(
                Step::bad(&name, Code::ReversePath, text, Source::Kernel)
                    .help("both are in several networks: look at their routes"),
            );
        }
    }
    Ok(())
}

/// The networks that both ends use.
fn networks_of(
    from_party: &mut Party,
    to_party: &mut Party,
    from: &Partner<'_>,
    to: &Partner<'_>,
    atlas: &Atlas,
    address: IpAddr,
) {
    let network_of = |partner: &Partner<'_>, address: Option<IpAddr>| match partner {
        Partner::Station(station) => atlas
            .members_of(station)
            .find(|member| member.endpoint.addresses().any(|own| Some(own) == address))
            .map(|member| member.network.network.name.clone())
            .unwrap_or_default(),
        Partner::Host | Partner::Outside(_) => String::new(),
    };
    from_party.network = network_of(from, from_party.address.parse().ok());
    to_party.network = network_of(to, Some(address));
}

/// Says so if the packet ends because two containers have no network in common.
fn point_out(explained: &mut Explanation, from: &Partner<'_>, to: &Partner<'_>, atlas: &Atlas) {
    let (Partner::Station(from), Partner::Station(to)) = (from, to) else { return };
    let names = |station: &Station| -> Vec<String> {
        atlas.members_of(station).map(|member| member.network.network.name.clone()).collect()
    };
    let (own, theirs) = (names(from), names(to));
    if own.iter().any(|network| theirs.contains(network)) || theirs.is_empty() || own.is_empty() {
        return;
    }
    let published = to.records().iter().flat_map(|record| &record.mappings).find(|mapping| {
        let is_for_others = mapping.host_port != 0 && !mapping.host.is_loopback();
        is_for_others && explained.port == mapping.container_port
    });
    let isolates = ["unpublished", "isolated", "internal", "no-route", "unknown-address"];
    let Some(hop) = explained.hops.iter_mut().find(|hop| hop.mark == Mark::Bad) else { return };
    if !isolates.contains(&hop.code.name()) || hop.way == Way::Back {
        return;
    }
    hop.text = format!(
        "{} is in {}, {} in {}: networks are apart ({})",
        from.name,
        own.join(" and "),
        to.name,
        theirs.join(" and "),
        hop.code.name()
    );
    hop.help = format!("netbpf connect {} {}", word(&theirs[0]), word(&from.name));
    if let Some(mapping) = published {
        hop.help += &format!(", or use its published port: host:{}", mapping.host_port);
    }
    hop.code = Code::OtherNetwork;
}

/// What a user asks for: `tcp/80`, `80`, `icmp`. `port` is that of the destination, as in `host:8080`.
pub fn payload(what: Option<&str>, port: Option<u16>) -> Result<Payload, Error> {
    let Some(what) = what else {
        return Ok(port.map_or(Payload::Echo, |port| ports(Protocol::Tcp, port)));
    };
    let (name, number) = match what.split_once('/') {
        Some((one, other)) if one.parse::<u16>().is_ok() => (other, Some(one)),
        Some((one, other)) => (one, Some(other)),
        None if what.parse::<u16>().is_ok() => ("tcp", Some(what)),
        None => (what, None),
    };
    let bad = |reason: String| Error::Invalid(reason);
    let given = number.map(|number| {
        let parsed = number.parse::<u16>().ok().filter(|port| *port != 0);
        parsed.ok_or_else(|| bad(format!("invalid port {number:?}: expected a number from 1 to 65535")))
    });
    let given = given.transpose()?;
    if let (Some(one), Some(other)) = (given, port)
        && one != other
    {
        return Err(bad(format!("which port, {other} or {one}?")));
    }
    let port = given.or(port);
    if name.eq_ignore_ascii_case("icmp") || name.eq_ignore_ascii_case("ping") {
        return match port {
            None => Ok(Payload::Echo),
            Some(_) => Err(bad("icmp has no ports".to_owned())),
        };
    }
    let protocol: Protocol = name.parse().map_err(|_| {
        bad(format!(
            "unknown protocol {name:?}: known are tcp, udp, sctp (with a port, as in tcp/80) and icmp"
        ))
    })?;
    let port = port.ok_or_else(|| bad(format!("which port? {protocol}/80, for example")))?;
    Ok(ports(protocol, port))
}

fn ports(protocol: Protocol, destination: u16) -> Payload {
    Payload::Ports { protocol, source: CLIENT_PORT, destination }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_many_forms() {
        let tcp = |port| ports(Protocol::Tcp, port);
        for (what, port, expected) in [
            (None, None, Payload::Echo),
            (None, Some(8080), tcp(8080)),
            (Some("80"), None, tcp(80)),
            (Some("tcp/80"), None, tcp(80)),
            (Some("80/tcp"), None, tcp(80)),
            (Some("TCP"), Some(8080), tcp(8080)),
            (Some("udp/53"), None, ports(Protocol::Udp, 53)),
            (Some("icmp"), None, Payload::Echo),
        ] {
            assert_eq!(payload(what, port).unwrap(), expected, "{what:?} {port:?}");
        }
        for (what, port, says) in [
            ("tpc/80", None, "unknown protocol \"tpc\""),
            ("tcp", None, "which port?"),
            ("tcp/0", None, "invalid port"),
            ("tcp/80", Some(81), "which port, 81 or 80?"),
            ("icmp/8", None, "no ports"),
            ("\u{1b}[2J", None, "\\u{1b}"),
        ] {
            let error = payload(Some(what), port).unwrap_err().to_string();
            assert!(error.contains(says), "{what}: {error}");
        }
    }
}
