//! A packet that a container sends, and one that reaches a container.

use std::{io, net::IpAddr};

use netbpf_common::reason::Reason;
use nix::net::if_::if_nametoindex;

use super::{
    super::atlas::{Mapped, Member, Station},
    End, Ground, Step, Walk, group, on, receiver,
};
use crate::{
    daemon::Error,
    datapath::Sender,
    firewall::{Hook, Passage},
    link::questions::{self, Interface, Route, RouteQuestion},
    model::{Mac, word},
    plan::explain::{
        Code, Source,
        packet::{Packet, answer, macs, question},
    },
};

impl<'a> Walk<'a> {
    /// A packet that a container sends. Without a source, the container's kernel chooses one.
    pub async fn container_sends(
        &mut self,
        station: &'a Station,
        packet: Packet,
        has_source: bool,
    ) -> Result<End<'a>, Error> {
        let ground = Ground::Station(station);
        let name = station.name.as_str();
        let source = has_source.then_some(packet.source);
        let question = RouteQuestion { source, destination: packet.destination, received_by: None, mark: 0 };
        let (ifindex, gateway, chosen, mtu) = match self.route(ground, question).await? {
            Route::Local => {
                let text = format!("{} is its own address", packet.destination);
                self.add(Step::good(name, Code::Local, text, Source::Kernel).by("table local"));
                let source = if has_source { packet.source } else { packet.destination };
                return Ok(End::At(ground, Packet { source, ..packet }));
            }
            Route::By { ifindex, gateway, source, mtu } => (ifindex, gateway, source, mtu),
            route => return self.stop(no_route(station, &route, &packet, self.atlas.members_of(station))),
        };
        let packet = match chosen.filter(|_| !has_source) {
            Some(source) => Packet { source, ..packet },
            None => packet,
        };
        self.begin(&packet);
        let interface = self.interface(ground, ifindex).await?;
        let passage = Passage {
            received_by: None,
            sent_by: Some(&interface.name),
            is_ipv4: packet.destination.is_ipv4(),
        };
        if self.meets(ground, Hook::Output, passage).await? {
            return Ok(End::Stopped);
        }
        let next = gateway.unwrap_or(packet.destination);
        let to = gateway.map_or_else(|| "directly".to_owned(), |gateway| format!("by {gateway}"));
        let entry = format!("dev {} src {}", interface.name, packet.source);
        if !interface.is_up {
            let text = format!("{} is down", interface.name);
            let help = format!("in {name}: ip link set {} up", word(&interface.name));
            return self.stop(Step::bad(name, Code::LinkDown, text, Source::Kernel).by(entry).help(help));
        }
        let Some(member) = self.member_at(station, &interface) else {
            let text = format!("{} leaves by {}, which is not netbpf's", packet.destination, interface.name);
            return self.lose(Step::unknown(name, text, Source::Kernel).by(entry));
        };
        let text = format!("{} is reached {to} on {}", packet.destination, interface.name);
        self.add(Step::good(name, Code::Routed, text, Source::Kernel).by(entry));
        let mtu = mtu.unwrap_or(interface.mtu).min(interface.mtu);
        match self.resolve(member, &packet, next).await? {
            Ok(mac) => self.endpoint_sends(member, packet, mac, mtu).await,
            Err(end) => Ok(end),
        }
    }

    /// The endpoint of an interface in a container.
    fn member_at(&self, station: &'a Station, interface: &Interface) -> Option<Member<'a>> {
        let own = || self.atlas.members_of(station);
        // Engines may rename an interface.
        let by_mac = || own().find(|member| Some(member.endpoint.mac.octets()) == interface.mac);
        by_mac().or_else(|| own().find(|member| *member.endpoint.interface == *interface.name))
    }

    /// The MAC of the next station, as the programs answer. `Err` if the packet ends.
    async fn resolve(
        &mut self,
        member: Member<'a>,
        packet: &Packet,
        next: IpAddr,
    ) -> Result<Result<Mac, End<'a>>, Error> {
        let Member { station, network, endpoint } = member;
        let name = station.name.as_str();
        let Some(frame) = question(endpoint.mac, packet.source, next) else {
            let text = format!("{next} is of another family than {}", packet.source);
            return Ok(Err(self.lose(Step::unknown(name, text, Source::Kernel))?));
        };
        let judged = self.ask(Sender::Endpoint(endpoint.number), &frame, &[])?;
        let entry = format!("NEIGHBOURS {}, {next}", network.network.name);
        match judged.reason {
            Reason::AnsweredArp | Reason::AnsweredNd => match answer(&judged.frame) {
                Some(mac) => {
                    let text = format!("{next} has {mac}");
                    self.add(Step::good(name, Code::Frame(judged.reason), text, Source::Program).by(entry));
                    Ok(Ok(mac))
                }
                None => {
                    Ok(Err(self.lose(Step::unknown(name, "its neighbour is not told", Source::Program))?))
                }
            },
            // Nobody leases it, but an open endpoint may have it: such a member answers itself.
            Reason::Flooded => match self.open_owner(network, next) {
                Some(mac) => {
                    let text = format!("{next} is asked of all: netbpf.guard=off is on here");
                    let code = Code::Frame(Reason::Flooded);
                    self.add(Step::good(name, code, text, Source::Program).by(entry));
                    Ok(Ok(mac))
                }
                None => {
                    let text = format!("nobody leases {next}: only who has it can tell");
                    Ok(Err(self.lose(Step::unknown(name, text, Source::Program).by(entry))?))
                }
            },
            _ => {
                let ended = Packet { destination: next, ..*packet };
                let by = (Source::Program, entry.as_str());
                let ended = self.dropped(name, judged.reason, &ended, Some(member), Some(network), by)?;
                Ok(Err(ended))
            }
        }
    }

    /// The MAC of a member with an address, for networks with open members.
    fn open_owner(&self, network: &Mapped, address: IpAddr) -> Option<Mac> {
        let owner = self.atlas.owner_of(address)?;
        (owner.network.number() == network.number()).then_some(owner.endpoint.mac)
    }

    /// The programs decide about the packet.
    async fn endpoint_sends(
        &mut self,
        member: Member<'a>,
        packet: Packet,
        mac: Mac,
        mtu: u32,
    ) -> Result<End<'a>, Error> {
        let Member { network, endpoint, .. } = member;
        let at = &*endpoint.host_interface;
        let members = self.atlas.numbers_in(network);
        let frame = packet.frame(endpoint.mac, mac);
        let judged = self.ask(Sender::Endpoint(endpoint.number), &frame, &members)?;
        let entry = format!("ENDPOINTS {}", endpoint.number);
        match judged.reason {
            Reason::Forwarded => match receiver(self.atlas, &judged) {
                Some(receiver) => {
                    let text = format!("forwarded to {}", receiver.station.name);
                    let entry = format!("{entry}, FDB {mac}");
                    let code = Code::Frame(judged.reason);
                    self.add(Step::good(at, code, text, Source::Program).by(entry));
                    self.container_receives(receiver, packet).await
                }
                None => self.lose(Step::unknown(at, "forwarded to an unknown member", Source::Program)),
            },
            Reason::Delivered => {
                // A packet from the container's address in another network is handed over there.
                let host = macs(&judged.frame).and_then(|(to, _)| self.atlas.with_mac(to)).unwrap_or(network);
                let text = format!("handed to the host in {}", host.network.name);
                let code = Code::Frame(judged.reason);
                self.add(Step::good(at, code, text, Source::Program).by(entry));
                let ifindex = netbpf_common::network::ifindex_of(host.number());
                let device = host.rules.device.to_string();
                self.host_receives(ifindex, &device, packet, mtu).await
            }
            Reason::Flooded => {
                let text = format!("to all members without guard: nobody leases {mac}");
                self.lose(Step::unknown(at, text, Source::Program).by(entry))
            }
            reason => {
                let by = (Source::Program, entry.as_str());
                self.dropped(at, reason, &packet, Some(member), Some(network), by)
            }
        }
    }

    /// A packet that reaches a container's interface.
    pub(super) async fn container_receives(
        &mut self,
        member: Member<'a>,
        packet: Packet,
    ) -> Result<End<'a>, Error> {
        let Member { station, endpoint, .. } = member;
        let (ground, name) = (Ground::Station(station), station.name.as_str());
        let (source, destination) = (Some(packet.source), packet.destination);
        let (own, mac) = (endpoint.interface.to_string(), endpoint.mac.octets());
        let (interface, route) = on(ground, "its interface", move || {
            let index = find(&own, mac)?;
            let interface = questions::interface(index)?;
            let question = RouteQuestion { source, destination, received_by: Some(index), mark: 0 };
            let route = if interface.is_up { questions::route(&question)? } else { Route::None };
            Ok((interface, route))
        })
        .await?;
        if !interface.is_up {
            let text = format!("{} is down", interface.name);
            let help = format!("in {name}: ip link set {} up", word(&interface.name));
            return self.stop(Step::bad(name, Code::LinkDown, text, Source::Kernel).help(help));
        }
        let passage =
            Passage { received_by: Some(&interface.name), sent_by: None, is_ipv4: destination.is_ipv4() };
        match route {
            Route::Local => {}
            Route::ReversePath | Route::Martian => {
                let text = format!("{} would not be answered by {}", packet.source, interface.name);
                let entry = format!("net.ipv4.conf.{}.rp_filter", interface.name);
                let help = format!("look at the routes in {name}, or set rp_filter to 2");
                return self
                    .stop(Step::bad(name, Code::ReversePath, text, Source::Kernel).by(entry).help(help));
            }
            Route::By { .. } => {
                let text = format!("{name} passes it on: {destination} is not its own");
                return self.lose(Step::unknown(name, text, Source::Kernel));
            }
            Route::Group | Route::None | Route::Prohibited => {
                let text = format!("{name} has not {destination}, and forwards nothing there");
                return self.stop(Step::bad(name, Code::NoRoute, text, Source::Kernel));
            }
        }
        for hook in [Hook::Prerouting, Hook::Input] {
            if self.meets(ground, hook, passage).await? {
                return Ok(End::Stopped);
            }
        }
        Ok(End::At(ground, packet))
    }
}

/// The ifindex of an interface in the namespace of the calling thread, by name, or by MAC if it was renamed.
fn find(name: &str, mac: [u8; 6]) -> io::Result<u32> {
    if let Ok(index) = if_nametoindex(name)
        && questions::interface(index)?.mac == Some(mac)
    {
        return Ok(index);
    }
    let others = questions::addresses()?.into_iter().map(|(index, _)| index);
    others
        .filter(|index| questions::interface(*index).is_ok_and(|interface| interface.mac == Some(mac)))
        .min()
        .ok_or_else(|| io::Error::other(format!("{name} is gone")))
}

fn no_route<'a>(
    station: &Station,
    route: &Route,
    packet: &Packet,
    mut members: impl Iterator<Item = Member<'a>>,
) -> Step {
    let name = station.name.as_str();
    let to = packet.destination;
    match route {
        Route::Prohibited => {
            let text = format!("a route or a rule in {name} refuses {to}");
            Step::bad(name, Code::Prohibited, text, Source::Kernel).help("look at ip rule and ip route in it")
        }
        Route::Group => group(name, to),
        _ => {
            let (networks, are_internal) = members.by_ref().fold((0, true), |(count, internal), member| {
                (count + 1, internal && member.network.network.internal)
            });
            let help = match (networks, are_internal) {
                (0, _) => format!("connect it to a network: netbpf connect NETWORK {}", word(name)),
                (_, true) => "its networks are internal: connect it to another one".to_owned(),
                _ => format!("in {name}: ip route add …; or connect it to a network that leads there"),
            };
            Step::bad(name, Code::NoRoute, format!("{name} has no route to {to}"), Source::Kernel).help(help)
        }
    }
}
