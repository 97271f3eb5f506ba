//! Established flows that skip the host's stack: asks conntrack about those that send much, enters them, keeps their
//! conntrack entries while they last, and ends them all when something changes that could lead them elsewhere. Where that
//! would not be noticed, or others must see each packet, no flow skips the stack.
//!
//! A change and a busy flow may be heard at the same time. Changes come first, and the epoch that a flow is entered for is
//! read before conntrack is asked: an entry that was made too late does not count.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddrV4,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use netbpf_common::{
    endpoint,
    flow::{Flow, FlowKey, Way},
    network,
    wire::protocol,
};
use nix::{
    net::if_::if_nametoindex,
    time::{ClockId, clock_gettime},
};
use tokio::{
    sync::mpsc::{self, Receiver},
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};

use super::host::Host;
use crate::{
    daemon::Error,
    datapath::{BusyFlows, Shortcut},
    firewall::{Direction, FilterChanges, TrackedFlows, Transport, is_bridge_of_docker},
    link::{RouteChanges, WayOut},
};

/// Entries count for so many seconds without a sign of life of the daemon.
const ALIVE: u32 = 20;

/// Pause between signs of life; and how many of them pass between two looks at all flows, which keep their conntrack entries.
const TICK: Duration = Duration::from_secs(1);
const TICKS_BETWEEN_LOOKS: u32 = 5;

/// A flow that has sent nothing for so many seconds goes through the stack again.
const IDLE: u32 = 30;

/// How many flows are entered in a second at most, and how many wait.
const MAX_A_SECOND: usize = 500;

/// Whether established flows skip the host's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowsStanding {
    /// Yes, so many at present.
    Fast(usize),
    /// No, as the user wants.
    Off,
    /// Not all, or none: so many at present, because the host has this.
    Hindered(usize, Vec<String>),
}

/// What the user wants, and what there is.
pub struct FastFlows {
    is_wanted: bool,
    standing: Mutex<FlowsStanding>,
}

impl FastFlows {
    /// As the daemon's options say.
    pub fn new(is_wanted: bool) -> Self {
        let standing = if is_wanted { FlowsStanding::Fast(0) } else { FlowsStanding::Off };
        Self { is_wanted, standing: Mutex::new(standing) }
    }

    fn set(&self, now: FlowsStanding) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*standing, &now) {
            (FlowsStanding::Hindered(_, before), FlowsStanding::Hindered(_, now)) if before == now => {}
            (_, FlowsStanding::Hindered(_, by)) => {
                tracing::info!("established flows do not skip the host's stack: {}", by.join("; "));
            }
            (FlowsStanding::Hindered(..), _) => tracing::info!("established flows skip the host's stack"),
            _ => {}
        }
        *standing = now;
    }
}

impl Host {
    /// Whether established flows skip the host's stack.
    pub fn standing_of_flows(&self) -> FlowsStanding {
        self.fast_flows.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks after the flows that skip the stack.
pub struct FlowGuard {
    host: Arc<Host>,
    tracked: TrackedFlows,
    busy: Receiver<FlowKey>,
    rules: FilterChanges,
    routes: RouteChanges,
    /// Flows to be entered at the next look.
    waiting: Vec<FlowKey>,
    /// What hinders; none if that must be found out first.
    hindrances: Option<Vec<String>>,
    /// The uplinks with a program; and those that others' programs are at.
    uplinks: BTreeMap<u32, String>,
    taken: BTreeMap<u32, String>,
    /// The queueing disciplines of all interfaces.
    disciplines: Vec<(u32, String)>,
    /// When a flow had sent its last packet, at the last look.
    seen: HashMap<u32, u32>,
    entered: usize,
    /// Until when entries count.
    until: u32,
}

impl FlowGuard {
    /// Begins to listen, if the user wants it.
    ///
    /// # Errors
    /// If the kernel gives no netlink socket, or no thread.
    pub fn begin(host: Arc<Host>) -> anyhow::Result<Option<Self>> {
        if !host.fast_flows.is_wanted {
            return Ok(None);
        }
        let Some(reports) = host.datapath().take_busy_flows() else { return Ok(None) };
        let (sender, busy) = mpsc::channel(MAX_A_SECOND);
        thread::Builder::new().name("busy-flows".into()).spawn(move || {
            if let Err(error) = pass_on(reports, &sender) {
                tracing::error!(%error, "wait for busy flows");
            }
        })?;
        let (tracked, rules, routes) =
            (TrackedFlows::open()?, FilterChanges::watch()?, RouteChanges::watch()?);
        Ok(Some(Self {
            host,
            tracked,
            busy,
            rules,
            routes,
            waiting: Vec::new(),
            hindrances: None,
            uplinks: BTreeMap::new(),
            taken: BTreeMap::new(),
            disciplines: Vec::new(),
            seen: HashMap::new(),
            entered: 0,
            until: 0,
        }))
    }

    /// Works as long as the daemon runs.
    pub async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            let done = tokio::select! {
                biased;
                heard = self.rules.heard() => heard.map_err(Error::from).and_then(|()| self.end_all()),
                heard = self.routes.next() => heard.map_err(unheard).and_then(|()| self.end_all()),
                _ = ticks.tick() => {
                    count += 1;
                    self.entered = 0;
                    self.tick(count % TICKS_BETWEEN_LOOKS == 1).await
                }
                Some(key) = self.busy.recv() => self.enter_or_wait(key).await,
            };
            if let Err(error) = done {
                tracing::error!(%error, "flows that skip the stack");
                if let Err(error) = self.stop() {
                    tracing::error!(%error, "stop flows that skip the stack");
                }
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Something has changed: no flow skips the stack before it was looked at again.
    fn end_all(&mut self) -> Result<(), Error> {
        self.hindrances = None;
        Ok(self.host.datapath().end_flows()?)
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.hindrances = None;
        self.waiting.clear();
        self.uplinks.clear();
        self.seen.clear();
        Ok(self.host.datapath().stop_flows()?)
    }

    async fn tick(&mut self, is_time_for_look: bool) -> Result<(), Error> {
        if self.hindrances.is_none() || is_time_for_look {
            return self.look().await;
        }
        match self.hindrances.as_ref().is_some_and(Vec::is_empty) {
            true => self.admit(),
            false => Ok(()),
        }
    }

    /// Signs that the daemon lives. After a pause in which it did not, no entry counts before it was looked at.
    fn admit(&mut self) -> Result<(), Error> {
        let now = now()?;
        if now >= self.until {
            self.end_all()?;
        }
        self.until = now + ALIVE;
        Ok(self.host.datapath().admit_flows(self.until)?)
    }

    /// Looks at the host, then at all flows.
    async fn look(&mut self) -> Result<(), Error> {
        let hindrances = self.find_hindrances().await?;
        let is_hindered = !hindrances.is_empty();
        if is_hindered || !self.host.datapath().has_endpoints() {
            self.stop()?;
            let standing = if is_hindered {
                FlowsStanding::Hindered(0, hindrances.clone())
            } else {
                FlowsStanding::Fast(0)
            };
            self.host.fast_flows.set(standing);
            self.hindrances = Some(hindrances);
            return Ok(());
        }
        self.disciplines = self.host.links.disciplines().await?;
        self.host.datapath().load_flow_programs()?;
        self.admit()?;
        self.look_at_uplinks()?;
        self.look_at_flows()?;
        self.hindrances = Some(Vec::new());
        for key in std::mem::take(&mut self.waiting) {
            self.enter(key).await?;
        }
        let count = self.host.datapath().flows()?.len();
        let standing = match self.taken.is_empty() {
            true => FlowsStanding::Fast(count),
            false => FlowsStanding::Hindered(count, self.taken.values().map(|name| taken(name)).collect()),
        };
        self.host.fast_flows.set(standing);
        Ok(())
    }

    async fn find_hindrances(&self) -> Result<Vec<String>, Error> {
        let mut found: Vec<String> =
            self.host.links.routing_policies().await?.into_iter().map(str::to_owned).collect();
        match &self.hindrances {
            // Only a change of rules, which is heard, can change that.
            Some(known) => found.extend(known.iter().filter(|known| known.starts_with(RULES)).cloned()),
            None => {
                let chains = self.host.firewall.watching_chains().await?.into_iter();
                found.extend(chains.map(|chain| format!("{RULES}{chain}")));
            }
        }
        if !self.host.datapath().can_shortcut() {
            found.push("the kernel has no tcx (Linux 6.6)".to_owned());
        }
        Ok(found)
    }

    /// Detaches from uplinks that have programs of others by now, or are gone. Their flows end.
    fn look_at_uplinks(&mut self) -> Result<(), Error> {
        self.taken.clear();
        for (ifindex, name) in self.uplinks.clone() {
            let is_same = if_nametoindex(name.as_str()) == Ok(ifindex);
            if is_same && self.is_free(&WayOut { ifindex, name })? {
                continue;
            }
            self.uplinks.remove(&ifindex);
            self.host.datapath().detach_flow_back(ifindex);
            self.host.datapath().end_flows()?;
        }
        Ok(())
    }

    /// Whether no programs or filters of others are at an uplink.
    fn is_free(&mut self, uplink: &WayOut) -> Result<bool, Error> {
        let is_ingress = |(ifindex, kind): &(u32, String)| {
            *ifindex == uplink.ifindex && matches!(kind.as_str(), "ingress" | "clsact")
        };
        let is_free = self.host.datapath().is_alone_at_uplink(&uplink.name)?
            && !self.disciplines.iter().any(is_ingress);
        if !is_free {
            self.taken.insert(uplink.ifindex, uplink.name.clone());
        }
        Ok(is_free)
    }

    /// Keeps the conntrack entries of flows that go on, and removes all others. Those that only a change has ended are
    /// entered again.
    fn look_at_flows(&mut self) -> Result<(), Error> {
        let (flows, epoch, now) = {
            let datapath = self.host.datapath();
            (datapath.flows()?, datapath.flow_epoch(), now()?)
        };
        let before = std::mem::take(&mut self.seen);
        for (index, flow) in flows {
            let is_moving = now.saturating_sub(flow.seen) < IDLE;
            if flow.epoch == epoch
                && is_moving
                && self.goes_on(&flow, before.get(&index) != Some(&flow.seen))?
            {
                self.seen.insert(index, flow.seen);
                continue;
            }
            self.host.datapath().remove_flow(index)?;
            if flow.epoch != epoch && is_moving && flow.is_over == 0 {
                self.waiting.push(flow.out.key);
            }
        }
        Ok(())
    }

    /// Whether conntrack has the flow as it was entered. If it `has_sent`, its entry is kept.
    fn goes_on(&self, flow: &Flow, has_sent: bool) -> Result<bool, Error> {
        let Some(sent) = direction(&flow.out.key).filter(|_| flow.is_over == 0) else { return Ok(false) };
        let source = SocketAddrV4::new(flow.out.address.into(), u16::from_be_bytes(flow.out.port));
        block_in_place(|| {
            Ok(self.tracked.translated_source(&sent)? == Some(source)
                && (!has_sent || self.tracked.keep(&sent)?))
        })
    }

    async fn enter_or_wait(&mut self, key: FlowKey) -> Result<(), Error> {
        self.entered += 1;
        match &self.hindrances {
            _ if self.entered > MAX_A_SECOND => Ok(()),
            Some(hindrances) if hindrances.is_empty() => self.enter(key).await,
            Some(_) => Ok(()),
            None => {
                self.waiting.push(key);
                Ok(())
            }
        }
    }

    /// Enters a flow, if it is established and may skip the stack.
    async fn enter(&mut self, key: FlowKey) -> Result<(), Error> {
        let (epoch, sender) = {
            let datapath = self.host.datapath();
            (datapath.flow_epoch(), datapath.sender(key.ifindex))
        };
        let Some((endpoint, at)) = sender else { return Ok(()) };
        // A discipline at the devices of the container or its network must see its packets.
        let devices = [key.ifindex, network::ifindex_of(at.network)];
        if self.disciplines.iter().any(|(ifindex, _)| devices.contains(ifindex)) {
            return Ok(());
        }
        let Some(sent) = direction(&key).filter(|_| at.ipv4 == key.source) else { return Ok(()) };
        let Some(source) = block_in_place(|| self.tracked.translated_source(&sent))? else { return Ok(()) };
        let Some(uplink) = self.host.links.way_out(*sent.destination.ip()).await? else { return Ok(()) };
        if !self.has_program(&uplink)? || !block_in_place(|| self.tracked.keep(&sent))? {
            return Ok(());
        }
        let flow = shortcut(endpoint, &uplink, key, source);
        let Some(index) = self.host.datapath().add_flow(epoch, flow, now()?)? else { return Ok(()) };
        // It may have ended since it was looked at, with packets that the program did not see.
        if block_in_place(|| self.tracked.translated_source(&sent))? != Some(source) {
            self.host.datapath().remove_flow(index)?;
        }
        Ok(())
    }

    fn has_program(&mut self, uplink: &WayOut) -> Result<bool, Error> {
        if self.uplinks.contains_key(&uplink.ifindex) {
            return Ok(true);
        }
        // What passes between networks, of this daemon or of Docker, is for others to see.
        let is_netbpfs = endpoint::number_of(uplink.ifindex).or(network::number_of(uplink.ifindex)).is_some();
        if is_netbpfs || is_bridge_of_docker(&uplink.name) {
            return Ok(false);
        }
        if self.taken.contains_key(&uplink.ifindex) || !self.is_free(uplink)? {
            return Ok(false);
        }
        self.host.datapath().attach_flow_back(&uplink.name, uplink.ifindex)?;
        self.uplinks.insert(uplink.ifindex, uplink.name.clone());
        Ok(true)
    }
}

/// What stands before the name of a foreign chain that hinders.
const RULES: &str = "rules that must see each packet: ";

fn taken(uplink: &str) -> String {
    format!("other tc programs or an ingress discipline at {uplink}")
}

fn unheard(error: io::Error) -> Error {
    Error::Firewall(crate::firewall::Error::Watch(error))
}

/// Passes on the keys of busy flows, in a thread of its own. While too many wait, the next ones are left out: they are
/// reported again.
fn pass_on(mut busy: BusyFlows, to: &mpsc::Sender<FlowKey>) -> io::Result<()> {
    while !to.is_closed() {
        busy.wait(Duration::from_secs(60))?;
        for key in busy.by_ref().take(MAX_A_SECOND) {
            let _full = to.try_send(key);
        }
    }
    Ok(())
}

/// Seconds of the monotonic clock.
fn now() -> Result<u32, Error> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|errno| unheard(errno.into()))?;
    Ok(u32::try_from(time.tv_sec()).unwrap_or(u32::MAX))
}

fn direction(key: &FlowKey) -> Option<Direction> {
    let transport = match u8::try_from(key.protocol).ok()? {
        protocol::TCP => Transport::Tcp,
        protocol::UDP => Transport::Udp,
        _ => return None,
    };
    let socket = |address: [u8; 4], port| SocketAddrV4::new(address.into(), u16::from_be_bytes(port));
    Some(Direction {
        transport,
        source: socket(key.source, key.source_port),
        destination: socket(key.destination, key.destination_port),
    })
}

/// The entry of a flow whose packets of the container get another source.
fn shortcut(endpoint: u32, uplink: &WayOut, key: FlowKey, source: SocketAddrV4) -> Shortcut {
    let (address, port) = (source.ip().octets(), source.port().to_be_bytes());
    let back = FlowKey {
        ifindex: uplink.ifindex,
        source: key.destination,
        destination: address,
        source_port: key.destination_port,
        destination_port: port,
        protocol: key.protocol,
    };
    Shortcut {
        endpoint,
        uplink: uplink.ifindex,
        out: Way { key, address, port, reserved: [0; 2] },
        back: Way { key: back, address: key.source, port: key.source_port, reserved: [0; 2] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_the_other_way() {
        let key = FlowKey {
            ifindex: 1_000_000,
            source: [172, 17, 0, 2],
            destination: [203, 0, 113, 7],
            source_port: 80u16.to_be_bytes(),
            destination_port: 5000u16.to_be_bytes(),
            protocol: protocol::TCP.into(),
        };
        let uplink = WayOut { ifindex: 2, name: "eth0".to_owned() };
        let flow = shortcut(9, &uplink, key, "198.51.100.1:8080".parse().unwrap());
        let sent = direction(&flow.out.key).unwrap();
        assert_eq!(
            (sent.source.to_string(), sent.destination.to_string()),
            ("172.17.0.2:80".into(), "203.0.113.7:5000".into())
        );
        let back = direction(&flow.back.key).unwrap();
        assert_eq!((back.source, back.destination), (sent.destination, "198.51.100.1:8080".parse().unwrap()));
        assert_eq!(
            (flow.back.key.ifindex, flow.back.address, flow.back.port),
            (2, key.source, key.source_port)
        );
        assert_eq!(direction(&FlowKey { protocol: 132, ..key }), None);
    }
}
