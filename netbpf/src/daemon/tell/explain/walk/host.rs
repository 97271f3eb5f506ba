//! A packet that the host receives or sends.

use std::{fs, net::IpAddr};

use netbpf_common::{network::BETWEEN_NETWORKS, reason::Reason};

use super::{super::atlas::Mapped, End, Ground, Step, Walk, group, on, receiver};
use crate::{
    daemon::Error,
    datapath::Sender,
    firewall::{Hook, Passage},
    link::questions::{Route, RouteQuestion},
    model::{Mac, word},
    plan::explain::{
        Code, Source, Way,
        packet::{Packet, Payload, answer, question},
        table::{self, Flow, NewSource, Ruling, Side},
    },
};

/// Where a packet leaves the host.
struct Exit {
    ifindex: u32,
    gateway: Option<IpAddr>,
    /// The address that the kernel chooses for own packets.
    source: Option<IpAddr>,
    /// The largest packet of the route in bytes.
    mtu: Option<u32>,
}

/// Where a packet entered the host.
#[derive(Clone, Copy)]
struct Entrance<'n> {
    /// The ifindex of the interface; 0 for the host's own packets.
    ifindex: u32,
    /// Its name.
    name: &'n str,
    /// The largest packet that the sender sends, in bytes.
    mtu: u32,
}

impl<'a> Walk<'a> {
    /// A packet that the host receives by an interface.
    pub async fn host_receives(
        &mut self,
        ifindex: u32,
        name: &str,
        packet: Packet,
        mtu: u32,
    ) -> Result<End<'a>, Error> {
        let entrance = Entrance { ifindex, name, mtu };
        self.begin(&packet);
        let passage =
            Passage { received_by: Some(name), sent_by: None, is_ipv4: packet.destination.is_ipv4() };
        if self.meets(Ground::Host, Hook::Prerouting, passage).await? {
            return Ok(End::Stopped);
        }
        let arrived = packet;
        let atlas = self.atlas;
        let packet = self.destination(packet, &atlas.side(ifindex, name)).await?;
        let question = RouteQuestion {
            source: Some(packet.source),
            destination: packet.destination,
            received_by: Some(ifindex),
            mark: 0,
        };
        match self.route(Ground::Host, question).await? {
            Route::Local => self.host_takes(entrance, packet).await,
            Route::By { ifindex, gateway, source, mtu } => {
                let exit = Exit { ifindex, gateway, source, mtu };
                self.forward(entrance, exit, arrived, packet).await
            }
            route => {
                let step = not_forwarded(&route, entrance, &packet).await;
                self.stop(step)
            }
        }
    }

    /// A packet of the host itself. Without a source, the kernel chooses one.
    pub async fn host_sends(&mut self, packet: Packet, has_source: bool) -> Result<End<'a>, Error> {
        let source = has_source.then_some(packet.source);
        let question = |packet: &Packet, source| RouteQuestion {
            source,
            destination: packet.destination,
            received_by: None,
            mark: 0,
        };
        let route = self.route(Ground::Host, question(&packet, source)).await?;
        let chosen = match &route {
            Route::Local => Some(packet.destination),
            Route::By { source, .. } => *source,
            _ => None,
        };
        let packet = Packet { source: source.or(chosen).unwrap_or(packet.source), ..packet };
        self.begin(&packet);
        let arrived = packet;
        let packet = match route {
            Route::Local => self.destination(packet, &Side::Own).await?,
            _ => packet,
        };
        // The host's own packets are routed again when their destination has changed.
        let route = match packet == arrived {
            true => route,
            false => self.route(Ground::Host, question(&packet, None)).await?,
        };
        match route {
            Route::Local => {
                let text = format!("{} is the host's own address", packet.destination);
                self.add(Step::good("host", Code::Local, text, Source::Kernel).by("table local"));
                Ok(End::At(Ground::Host, packet))
            }
            Route::By { ifindex, gateway, source, mtu } => {
                let exit = Exit { ifindex, gateway, source, mtu };
                let entrance = Entrance { ifindex: 0, name: "", mtu: 0 };
                let name = self.interface(Ground::Host, ifindex).await?.name;
                let passage = Passage {
                    received_by: None,
                    sent_by: Some(&name),
                    is_ipv4: packet.destination.is_ipv4(),
                };
                if self.meets(Ground::Host, Hook::Output, passage).await? {
                    return Ok(End::Stopped);
                }
                let by = gateway.map_or_else(|| "directly".to_owned(), |gateway| format!("by {gateway}"));
                let text = format!("{} is reached {by} on {name}", packet.destination);
                let entry = format!("dev {name} src {}", packet.source);
                self.add(Step::good("host", Code::Routed, text, Source::Kernel).by(entry));
                self.leave(entrance, exit, arrived, packet, 0).await
            }
            route => {
                let entrance = Entrance { ifindex: 0, name: "", mtu: 0 };
                let step = not_forwarded(&route, entrance, &packet).await;
                self.stop(step)
            }
        }
    }

    /// Replaces the destination: of a packet to a published port, and of an answer to a packet whose source was replaced.
    async fn destination(&mut self, packet: Packet, from: &Side<'_>) -> Result<Packet, Error> {
        if self.way == Way::Back {
            let before = self.passed.filter(|(_, after)| after.reply() == packet);
            let Some((before, _)) = before else { return Ok(packet) };
            // The source follows when it leaves.
            return Ok(Packet { destination: before.source, ..with_destination_port(packet, &before) });
        }
        let atlas = self.atlas;
        let Some((mapping, by)) = table::published(&atlas.mappings, &packet, from) else { return Ok(packet) };
        let question =
            RouteQuestion { source: None, destination: packet.destination, received_by: None, mark: 0 };
        if self.route(Ground::Host, question).await? != Route::Local {
            return Ok(packet);
        }
        let owner = atlas.owner_of(mapping.container);
        let name = owner.map_or_else(|| mapping.container.to_string(), |owner| owner.station.name.clone());
        let protocol = mapping.protocol;
        let text = format!("{protocol}/{} is {name}'s {}", mapping.host_port, mapping.container_port);
        self.add(Step::good("host", Code::Published, text, Source::Table).by(by));
        let payload = match packet.payload {
            Payload::Ports { protocol, source, .. } => {
                Payload::Ports { protocol, source, destination: mapping.container_port }
            }
            payload => payload,
        };
        Ok(Packet { destination: mapping.container, payload, ..packet })
    }

    /// A packet for the host itself.
    async fn host_takes(&mut self, entrance: Entrance<'_>, packet: Packet) -> Result<End<'a>, Error> {
        let atlas = self.atlas;
        let from = atlas.side(entrance.ifindex, entrance.name);
        if let Some(Ruling::Drops { counter, by }) = table::input(&atlas.mappings, &packet, &from) {
            return self.ruled_out("host", counter, &by, &packet);
        }
        let passage = Passage {
            received_by: Some(entrance.name),
            sent_by: None,
            is_ipv4: packet.destination.is_ipv4(),
        };
        if self.meets(Ground::Host, Hook::Input, passage).await? {
            return Ok(End::Stopped);
        }
        let packet = match self.passed {
            Some((before, _)) if self.is_reply() => before.reply(),
            _ => packet,
        };
        Ok(End::At(Ground::Host, packet))
    }

    /// netbpf's table drops a packet, and counts it under a reason's name.
    fn ruled_out(
        &mut self,
        at: &str,
        counter: &'static str,
        by: &str,
        packet: &Packet,
    ) -> Result<End<'a>, Error> {
        let reason = Reason::ALL.iter().find(|reason| reason.name() == counter).copied();
        let reason = reason.unwrap_or(Reason::Unpublished);
        let atlas = self.atlas;
        let ends = [packet.destination, packet.source].map(|address| atlas.network_of(address));
        let is_it = |mapped: &&&Mapped| reason != Reason::Internal || mapped.network.internal;
        let network = ends.iter().flatten().find(is_it).copied();
        let sender = atlas.owner_of(packet.source);
        self.dropped(at, reason, packet, sender, network, (Source::Table, by))
    }

    /// A packet from one interface to another.
    async fn forward(
        &mut self,
        entrance: Entrance<'_>,
        exit: Exit,
        arrived: Packet,
        packet: Packet,
    ) -> Result<End<'a>, Error> {
        let atlas = self.atlas;
        let to = self.interface(Ground::Host, exit.ifindex).await?;
        let from_side = atlas.side(entrance.ifindex, entrance.name);
        let to_side = atlas.side(exit.ifindex, &to.name);
        let mut mark = 0;
        let flow = self.flow(&arrived, &packet);
        match table::forward(&atlas.mappings, &packet, flow, &from_side, &to_side) {
            None => {}
            Some(Ruling::Drops { counter, by }) => return self.ruled_out("host", counter, &by, &packet),
            Some(Ruling::Accepts { mark: is_marked, by }) => {
                mark = if is_marked { BETWEEN_NETWORKS } else { 0 };
                let by_what = exit.gateway.map(|gateway| format!(", {gateway}")).unwrap_or_default();
                let text = format!("goes on by {}{by_what}", to.name);
                self.add(Step::good("host", Code::Admitted, text, Source::Table).by(by));
            }
        }
        let passage = Passage {
            received_by: Some(entrance.name),
            sent_by: Some(&to.name),
            is_ipv4: packet.destination.is_ipv4(),
        };
        if self.meets(Ground::Host, Hook::Forward, passage).await? {
            return Ok(End::Stopped);
        }
        self.leave(entrance, exit, arrived, packet, mark).await
    }

    /// What conntrack knows of a packet's flow. Of a first packet, `arrived` is what came in.
    fn flow(&self, arrived: &Packet, packet: &Packet) -> Flow {
        let (before, after) = match &self.passed {
            Some((before, after)) if self.is_reply() => (before, after),
            Some(_) | None => (arrived, packet),
        };
        Flow { is_reply: self.is_reply(), dnat: before.destination != after.destination }
    }

    /// A packet leaves the host by an interface.
    async fn leave(
        &mut self,
        entrance: Entrance<'_>,
        exit: Exit,
        arrived: Packet,
        packet: Packet,
        mark: u32,
    ) -> Result<End<'a>, Error> {
        let atlas = self.atlas;
        let to = self.interface(Ground::Host, exit.ifindex).await?;
        if !to.is_up {
            let text = format!("{} is down", to.name);
            let help = format!("ip link set {} up", word(&to.name));
            return self.stop(Step::bad("host", Code::LinkDown, text, Source::Kernel).help(help));
        }
        let from_side = match entrance.ifindex {
            0 => Side::Own,
            ifindex => atlas.side(ifindex, entrance.name),
        };
        let to_side = atlas.side(exit.ifindex, &to.name);
        let packet = self.source(arrived, packet, &from_side, &to_side, &exit).await?;
        let passage = Passage {
            received_by: (entrance.ifindex != 0).then_some(entrance.name),
            sent_by: Some(&to.name),
            is_ipv4: packet.destination.is_ipv4(),
        };
        if self.meets(Ground::Host, Hook::Postrouting, passage).await? {
            return Ok(End::Stopped);
        }
        let mtu = exit.mtu.unwrap_or(to.mtu).min(to.mtu);
        if entrance.mtu > mtu && self.way == Way::There {
            let text = format!("packets of {} bytes do not fit: {} takes {mtu}", entrance.mtu, to.name);
            let help = format!("create the network with -o com.docker.network.driver.mtu={mtu}");
            self.add(Step::note("host", Code::Mtu, text, Source::Kernel).help(help));
        }
        match netbpf_common::network::number_of(exit.ifindex).and_then(|number| atlas.numbered(number)) {
            Some(network) => {
                let next = exit.gateway.unwrap_or(packet.destination);
                self.network_receives(network, packet, next, entrance.ifindex, mark).await
            }
            None => {
                let by = exit.gateway.map(|gateway| format!(" to {gateway}")).unwrap_or_default();
                let text = format!("leaves this host by {}{by}, from {}", to.name, packet.source);
                self.add(
                    Step::good(&to.name, Code::Leaves, text, Source::Kernel).by(format!("dev {}", to.name)),
                );
                Ok(End::Left)
            }
        }
    }

    /// Replaces the source of a packet that leaves: of a first packet by the table, of an answer by conntrack.
    async fn source(
        &mut self,
        arrived: Packet,
        packet: Packet,
        from: &Side<'_>,
        to: &Side<'_>,
        exit: &Exit,
    ) -> Result<Packet, Error> {
        if self.way == Way::Back {
            let before = self.passed.filter(|(_, after)| after.reply() == arrived);
            return Ok(before.map_or(packet, |(before, _)| before.reply()));
        }
        let networks: Vec<_> = self.atlas.networks().iter().map(|mapped| &mapped.rules).collect();
        let flow = self.flow(&arrived, &packet);
        let replaced = table::postrouting(&networks, &packet, flow, from, to);
        let packet = match replaced {
            None => packet,
            Some((new, by)) => {
                let source = match new {
                    NewSource::Chosen(address) => address,
                    NewSource::Interface => match exit.source.filter(|_| !matches!(from, Side::Own)) {
                        Some(source) => source,
                        None => self.address_of(packet.destination).await?.unwrap_or(packet.source),
                    },
                };
                let text = format!("its source becomes {source}");
                self.add(Step::good("host", Code::Masqueraded, text, Source::Table).by(by));
                Packet { source, ..packet }
            }
        };
        self.passed = Some((arrived, packet));
        Ok(packet)
    }

    /// The address that the host has for packets to a destination.
    async fn address_of(&self, destination: IpAddr) -> Result<Option<IpAddr>, Error> {
        let question = RouteQuestion { source: None, destination, received_by: None, mark: 0 };
        Ok(match self.route(Ground::Host, question).await? {
            Route::By { source, .. } => source,
            _ => None,
        })
    }

    /// A packet that the host sends into a network: the programs decide.
    async fn network_receives(
        &mut self,
        network: &'a Mapped,
        packet: Packet,
        next: IpAddr,
        received_by: u32,
        mark: u32,
    ) -> Result<End<'a>, Error> {
        let device = network.rules.device.to_string();
        let Some(own) = network.bridge().map(|bridge| bridge.mac()) else { return Ok(End::Left) };
        let number = network.number();
        let Some(mac) = self.neighbour(network, own, next)? else { return Ok(End::Stopped) };
        let frame = packet.frame(own, mac);
        let members = self.atlas.numbers_in(network);
        let sender = Sender::Host { network: number, received_by, mark };
        let judged = match self.ask(sender, &frame, &members) {
            // Before Linux 5.12, the kernel cannot be told who received the packet. The mark says enough, except within a
            // network whose members may not talk to each other.
            Err(Error::Datapath(_)) if received_by != 0 => {
                if network.bridge().is_some_and(|bridge| !bridge.options.icc) {
                    let text = "this kernel cannot be asked about packets that it forwards within a network";
                    self.add(Step::unknown(&device, text, Source::Program));
                }
                self.ask(Sender::Host { network: number, received_by: 0, mark }, &frame, &members)?
            }
            judged => judged?,
        };
        let entry = format!("NETWORKS {number}, FDB {mac}");
        match judged.reason {
            Reason::Forwarded => match receiver(self.atlas, &judged) {
                Some(receiver) => {
                    let text = format!("forwarded to {}", receiver.station.name);
                    let code = Code::Frame(judged.reason);
                    self.add(Step::good(&device, code, text, Source::Program).by(entry));
                    self.container_receives(receiver, packet).await
                }
                None => self.lose(Step::unknown(&device, "forwarded to an unknown member", Source::Program)),
            },
            Reason::Flooded => {
                let text = format!("to all members without guard: nobody leases {mac}");
                self.lose(Step::unknown(&device, text, Source::Program).by(entry))
            }
            reason => {
                let by = (Source::Program, entry.as_str());
                self.dropped(&device, reason, &packet, None, Some(network), by)
            }
        }
    }

    /// The MAC of a member, as the programs answer the host; none if the packet ends.
    fn neighbour(&mut self, network: &'a Mapped, own: Mac, next: IpAddr) -> Result<Option<Mac>, Error> {
        let device = network.rules.device.to_string();
        let address = network.rules.gateways.iter().find(|gateway| gateway.is_ipv4() == next.is_ipv4());
        let source = address.copied().unwrap_or_else(|| table::unspecified(next.is_ipv4()));
        let Some(frame) = question(own, source, next) else { return Ok(None) };
        let sender = Sender::Host { network: network.number(), received_by: 0, mark: 0 };
        let judged = self.ask(sender, &frame, &[])?;
        let entry = format!("NEIGHBOURS {}, {next}", network.network.name);
        if let Some(mac) = answer(&judged.frame)
            && matches!(judged.reason, Reason::AnsweredArp | Reason::AnsweredNd)
        {
            return Ok(Some(mac));
        }
        let owner = self.atlas.owner_of(next).filter(|owner| owner.network.number() == network.number());
        if judged.reason == Reason::Flooded
            && let Some(owner) = owner
        {
            return Ok(Some(owner.endpoint.mac));
        }
        let ended = Packet { source, destination: next, payload: Payload::Echo };
        let by = (Source::Program, entry.as_str());
        self.dropped(&device, judged.reason, &ended, None, Some(network), by)?;
        Ok(None)
    }
}

/// The packet with the port that an answer has at its first sender.
fn with_destination_port(packet: Packet, before: &Packet) -> Packet {
    let payload = match (packet.payload, before.payload) {
        (Payload::Ports { protocol, source, .. }, Payload::Ports { source: port, .. }) => {
            Payload::Ports { protocol, source, destination: port }
        }
        (payload, _) => payload,
    };
    Packet { payload, ..packet }
}

/// Why the host does not pass a packet on.
async fn not_forwarded(route: &Route, entrance: Entrance<'_>, packet: &Packet) -> Step {
    let to = packet.destination;
    let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    let name = entrance.name;
    match route {
        Route::ReversePath => Step::bad(
            "host",
            Code::ReversePath,
            format!("{} is not reached by {name}, so the kernel drops what comes from there", packet.source),
            Source::Kernel,
        )
        .by(format!("net.ipv4.conf.{name}.rp_filter"))
        .help("look at ip route for the source's network, or set rp_filter to 2"),
        Route::Martian => Step::bad(
            "host",
            Code::ReversePath,
            format!("{} cannot come from {name}, or {to} cannot be reached from there", packet.source),
            Source::Kernel,
        ),
        Route::Prohibited => {
            let text = format!("a route or a rule of the host refuses {to}");
            Step::bad("host", Code::Prohibited, text, Source::Kernel).help("look at ip rule and ip route")
        }
        Route::Group => group("host", to),
        _ => {
            let setting = match family {
                "ipv4" => format!("/proc/sys/net/ipv4/conf/{name}/forwarding"),
                _ => "/proc/sys/net/ipv6/conf/all/forwarding".to_owned(),
            };
            let is_off = entrance.ifindex != 0
                && on(Ground::Host, "settings", move || fs::read_to_string(setting))
                    .await
                    .is_ok_and(|value| value.trim() == "0");
            if is_off {
                let text = format!("the host does not forward {family}");
                let setting =
                    if family == "ipv4" { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
                return Step::bad("host", Code::NotForwarding, text, Source::Kernel)
                    .by(format!("{setting} = 0"))
                    .help(format!("sysctl -w {setting}=1 (netbpf turns it on again within a second)"));
            }
            Step::bad("host", Code::NoRoute, format!("the host has no route to {to}"), Source::Kernel)
                .help("look at ip route of the host")
        }
    }
}
