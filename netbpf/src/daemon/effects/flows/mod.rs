//! Established flows that skip the host's stack: asks conntrack about those that send much, enters them, keeps their
//! conntrack entries while they last, and ends them all when something changes that could lead them elsewhere. Where that
//! would not be noticed, or others must see each packet, no flow skips the stack.
//!
//! A change and a busy flow may be heard at the same time. Changes come first, and the epoch that a flow is entered for is
//! read before conntrack is asked: an entry that was made too late does not count.
//!
//! An error about one flow or one uplink concerns nothing else. After any other error no flow skips the stack, until all was
//! looked at again.

mod entry;
mod hindrances;
mod reports;
mod standing;
mod uplinks;

use std::{collections::BTreeMap, future::pending, net::SocketAddrV4, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use futures::FutureExt as _;
use netbpf_common::{
    flow::{Flow, FlowKey, MAX_FLOWS},
    network,
};
use nix::time::{ClockId, clock_gettime};
use tokio::{
    sync::mpsc::{self, Receiver},
    task::{block_in_place, unconstrained},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

pub use self::standing::{FastFlows, FlowsStanding};
use self::{
    entry::{direction, shortcut},
    reports::{MAX_A_SECOND, pass_on},
    uplinks::Uplink,
};
use super::host::Host;
use crate::{
    datapath::Shortcut,
    firewall::{Direction, FilterChanges, Timeouts, TrackedFlows},
    link::{IpsecPolicies, RouteChanges},
};

/// Entries count for so many seconds after the daemon has said so, which it does each [`TICK`].
const VALID_SECONDS: u32 = 5;

/// Pause between looks for what nobody announces; and how many of them pass between two looks at all flows.
const TICK: Duration = Duration::from_secs(1);
const TICKS_BETWEEN_LOOKS: u32 = 5;

/// How long it must be quiet after a change before all is looked at again, at the next tick at the latest. A reload of rules
/// makes many changes. The pause is so many times longer than a look, too.
const QUIET: Duration = Duration::from_millis(50);
const LOOKS_IN_A_PAUSE: u32 = 10;

/// A flow that has sent nothing for so many seconds goes through the stack again.
const IDLE: u32 = 30;

/// What fails if announcements of routes are not received.
const ROUTES: &str = "hear of changed routes";

/// Looks after the flows that skip the stack.
pub struct FlowGuard {
    host: Arc<Host>,
    tracked: TrackedFlows,
    timeouts: Timeouts,
    ipsec: IpsecPolicies,
    busy: Receiver<FlowKey>,
    rules: FilterChanges,
    routes: RouteChanges,
    /// Flows to be entered at the next look.
    waiting: Vec<FlowKey>,
    /// What hinders all flows, and of which changes are announced; none if it must be found out first.
    announced: Option<Vec<String>>,
    /// What hinders all flows without an announcement, at the last tick.
    unannounced: Vec<String>,
    /// The interfaces to other hosts, by ifindex, that a flow has or wanted.
    uplinks: BTreeMap<u32, Uplink>,
    /// The queueing disciplines of all interfaces. Their changes are announced.
    disciplines: Vec<(u32, String)>,
    /// The epoch in which all flows were looked at.
    epoch: u32,
    /// Flows that were entered since the last tick.
    new: Vec<u32>,
    /// When all is to be looked at after a change; none if there was none.
    look_due: Option<Instant>,
    /// How long the last look took.
    look_took: Duration,
    /// Whether an error about a flow was logged since the last look.
    has_warned: bool,
    /// Until when entries count: seconds of the monotonic clock; 0 if none does.
    until: u32,
}

impl FlowGuard {
    /// Begins to listen, if the user wants it.
    ///
    /// # Errors
    /// If the kernel gives no netlink socket, or no thread.
    pub fn begin(host: Arc<Host>) -> anyhow::Result<Option<Self>> {
        if !host.fast_flows.is_wanted() {
            return Ok(None);
        }
        let Some(reports) = host.datapath().take_busy_flows() else { return Ok(None) };
        let rules = host.firewall.changes_by_others()?;
        let (sender, busy) = mpsc::channel(MAX_A_SECOND);
        thread::Builder::new().name("busy-flows".into()).spawn(move || {
            if let Err(error) = pass_on(reports, &sender) {
                tracing::error!(%error, "wait for busy flows");
            }
        })?;
        Ok(Some(Self {
            host,
            tracked: TrackedFlows::open()?,
            timeouts: Timeouts::default(),
            ipsec: IpsecPolicies::open()?,
            busy,
            rules,
            routes: RouteChanges::watch()?,
            waiting: Vec::new(),
            announced: None,
            unannounced: Vec::new(),
            uplinks: BTreeMap::new(),
            disciplines: Vec::new(),
            epoch: 0,
            new: Vec::new(),
            look_due: None,
            look_took: Duration::ZERO,
            has_warned: false,
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
                heard = self.rules.heard() => heard.map_err(anyhow::Error::from).and_then(|()| self.end_all()),
                heard = self.routes.next() => heard.context(ROUTES).and_then(|()| self.end_all()),
                () = at(self.look_due) => self.look_after_change().await,
                _ = ticks.tick() => {
                    count += 1;
                    self.tick(count % TICKS_BETWEEN_LOOKS == 1).await
                }
                Some(key) = self.busy.recv() => self.enter_or_wait(key).await,
            };
            if let Err(error) = done {
                tracing::error!("look after established flows: {error:#}");
                if let Err(error) = self.begin_anew() {
                    tracing::error!("let established flows go through the stack: {error:#}");
                }
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Something has changed: no flow skips the stack before it was looked at again.
    fn end_all(&mut self) -> anyhow::Result<()> {
        self.announced = None;
        self.look_due = Some(Instant::now() + QUIET.max(LOOKS_IN_A_PAUSE * self.look_took));
        Ok(self.host.datapath().end_flows()?)
    }

    /// No flow skips the stack.
    fn stop(&mut self) -> anyhow::Result<()> {
        self.announced = None;
        self.look_due = None;
        self.until = 0;
        self.waiting.clear();
        self.new.clear();
        self.uplinks.clear();
        Ok(self.host.datapath().stop_flows()?)
    }

    /// The same after an error. Answers of the kernel may be unread, so the sockets are opened again.
    fn begin_anew(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.tracked = TrackedFlows::open()?;
        self.ipsec = IpsecPolicies::open()?;
        Ok(())
    }

    async fn tick(&mut self, is_time_for_look: bool) -> anyhow::Result<()> {
        let found = block_in_place(|| self.find_unannounced())?;
        let is_new = found != self.unannounced;
        self.unannounced = found;
        if self.announced.is_none() || is_new || is_time_for_look {
            return self.look().await;
        }
        if self.until == 0 {
            return Ok(());
        }
        self.admit()?;
        if self.announced.is_none() {
            return self.look().await;
        }
        self.look_at_uplinks()?;
        // The daemon itself ends all flows when it changes a network.
        let epoch = self.host.datapath().flow_epoch();
        if epoch == self.epoch { self.look_at_new() } else { self.look_at_flows().await }
    }

    async fn look_after_change(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        self.unannounced = block_in_place(|| self.find_unannounced())?;
        self.look().await?;
        self.look_took = begin.elapsed();
        Ok(())
    }

    /// Says that entries count for a while. If they did not in the meantime, none counts before it was looked at.
    fn admit(&mut self) -> anyhow::Result<()> {
        let now = now()?;
        if now >= self.until {
            self.end_all()?;
        }
        self.until = now + VALID_SECONDS;
        Ok(self.host.datapath().admit_flows(self.until)?)
    }

    /// Looks at what changes are announced of, if there were some, then at all flows.
    async fn look(&mut self) -> anyhow::Result<()> {
        self.has_warned = false;
        let announced = match self.announced.take() {
            Some(known) => known,
            None => self.find_announced().await?,
        };
        let hindrances = [&announced[..], &self.unannounced[..]].concat();
        if !hindrances.is_empty() || !self.host.datapath().has_endpoints() {
            self.stop()?;
            self.announced = Some(announced);
            self.host.fast_flows.set(FlowsStanding::of(0, hindrances));
            return Ok(());
        }
        self.host.datapath().load_flow_programs()?;
        self.admit()?;
        (self.announced, self.look_due) = (Some(announced), None);
        self.look_at_uplinks()?;
        self.look_at_flows().await
    }

    /// Keeps the conntrack entries of flows that go on, and removes all others. Those that only a change has ended are
    /// entered again.
    async fn look_at_flows(&mut self) -> anyhow::Result<()> {
        self.new.clear();
        let (flows, now) = {
            let datapath = self.host.datapath();
            self.epoch = datapath.flow_epoch();
            (datapath.flows()?, now()?)
        };
        for (index, flow) in flows {
            if self.has_heard_change()? {
                return self.end_all();
            }
            let (is_of_now, silence) = (flow.epoch == self.epoch, now.saturating_sub(flow.seen));
            if is_of_now || silence >= IDLE || flow.is_over != 0 {
                self.keep_or_remove(index, &flow, silence)?;
            } else if self.enter(flow.out.key).await?.is_none() {
                self.host.datapath().remove_flow(index)?;
                self.waiting.push(flow.out.key);
            }
        }
        while !self.waiting.is_empty() {
            if self.has_heard_change()? {
                return self.end_all();
            }
            if let Some(key) = self.waiting.pop() {
                self.enter(key).await?;
            }
        }
        self.tell_standing()
    }

    /// Looks once more at flows that were entered since the last tick. A packet that had passed the program before could be on
    /// its way to conntrack, which looks at numbers again since then.
    fn look_at_new(&mut self) -> anyhow::Result<()> {
        let now = now()?;
        for index in std::mem::take(&mut self.new) {
            let Some(flow) = self.host.datapath().flow(index)? else { continue };
            self.keep_or_remove(index, &flow, now.saturating_sub(flow.seen))?;
        }
        Ok(())
    }

    fn keep_or_remove(&mut self, index: u32, flow: &Flow, silence: u32) -> anyhow::Result<()> {
        if !self.goes_on(flow, silence)? {
            self.host.datapath().remove_flow(index)?;
        }
        Ok(())
    }

    /// Whether a change was announced since the last was heard. With many flows, a look takes a while.
    fn has_heard_change(&mut self) -> anyhow::Result<bool> {
        let rules = unconstrained(self.rules.heard()).now_or_never().transpose()?;
        let routes = unconstrained(self.routes.next()).now_or_never().transpose();
        Ok(rules.or(routes.context(ROUTES)?).is_some())
    }

    fn tell_standing(&mut self) -> anyhow::Result<()> {
        let flows = self.host.datapath().flows()?;
        self.leave_unused_uplinks(&flows);
        let some = self.taken_uplinks().chain(self.short_timeouts()).collect();
        self.host.fast_flows.set(FlowsStanding::of(flows.len(), some));
        Ok(())
    }

    /// Whether conntrack has the flow as it was entered, and it has sent something lately. Its entry lasts as if conntrack had
    /// seen that.
    fn goes_on(&mut self, flow: &Flow, silence: u32) -> anyhow::Result<bool> {
        let is_idle = silence >= IDLE;
        match block_in_place(|| self.keep(flow, silence, is_idle)) {
            Ok(is_kept) => Ok(is_kept && !is_idle),
            Err(error) => self.pass_over(&error).map(|()| false),
        }
    }

    fn keep(&self, flow: &Flow, silence: u32, is_last: bool) -> anyhow::Result<bool> {
        let Some(sent) = direction(&flow.out.key).filter(|_| flow.is_over == 0) else { return Ok(false) };
        let Some(timeout) = self.timeouts.of(sent.transport) else { return Ok(false) };
        let source = SocketAddrV4::new(flow.out.address.into(), u16::from_be_bytes(flow.out.port));
        let found = self.tracked.find(&sent)?.filter(|found| found.source == source);
        let Some(found) = found else { return Ok(false) };
        let takes_all = found.takes_all || self.tracked.take_all(&sent)?;
        Ok(takes_all
            && match found.extension(timeout, silence, is_last) {
                Some(seconds) => self.tracked.extend(&sent, seconds)?,
                None => true,
            })
    }

    /// An error about one flow concerns that flow only. The next answer may be that to the request about it, so the socket is
    /// opened again.
    fn pass_over(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!("an established flow goes through the stack: {error:#}");
        }
        self.tracked = TrackedFlows::open()?;
        Ok(())
    }

    async fn enter_or_wait(&mut self, key: FlowKey) -> anyhow::Result<()> {
        match self.announced {
            _ if self.until == 0 => {}
            Some(_) => drop(self.enter(key).await?),
            None if self.waiting.len() < MAX_FLOWS as usize => self.waiting.push(key),
            None => {}
        }
        Ok(())
    }

    /// Enters a flow, if it is established and may skip the stack, and returns its index.
    async fn enter(&mut self, key: FlowKey) -> anyhow::Result<Option<u32>> {
        let changes = self.host.datapath().flow_changes();
        match self.find(key).await {
            Ok(Some(found)) => self.add(changes, &found),
            Ok(None) => Ok(None),
            Err(error) => self.pass_over(&error).map(|()| None),
        }
    }

    /// The entry for a flow; none if it goes through the stack.
    async fn find(&mut self, key: FlowKey) -> anyhow::Result<Option<Shortcut>> {
        let Some((endpoint, at)) = self.host.datapath().sender(key.ifindex) else { return Ok(None) };
        // A discipline at the devices of the container or its network must see its packets.
        let devices = [key.ifindex, network::ifindex_of(at.network)];
        if self.disciplines.iter().any(|(ifindex, _)| devices.contains(ifindex)) {
            return Ok(None);
        }
        let Some(sent) = direction(&key).filter(|_| at.ipv4 == key.source) else { return Ok(None) };
        if self.timeouts.of(sent.transport).is_none() {
            return Ok(None);
        }
        let Some(found) = block_in_place(|| self.tracked.find(&sent))? else { return Ok(None) };
        let Some(uplink) = self.host.links.way_out(*sent.destination.ip()).await? else { return Ok(None) };
        let is_ready = self.has_program(&uplink);
        Ok(is_ready.then(|| shortcut(endpoint, &uplink, key, found.source)))
    }

    /// Adds an entry that was found after so many changes. Conntrack takes all segments before the first one skips the stack:
    /// the answer to that may not. If there is no room, its entry is not changed. Its timeout never is, because conntrack has
    /// just set it.
    fn add(&mut self, changes: u64, flow: &Shortcut) -> anyhow::Result<Option<u32>> {
        let Some(sent) = direction(&flow.out.key) else { return Ok(None) };
        if !self.host.datapath().would_add_flow(changes, flow) {
            return Ok(None);
        }
        match block_in_place(|| self.tracked.take_all(&sent)) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return self.pass_over(&error.into()).map(|()| None),
        }
        let Some(index) = self.host.datapath().add_flow(changes, flow, now()?)? else { return Ok(None) };
        match block_in_place(|| self.holds(flow, &sent)) {
            Ok(true) => {
                self.new.push(index);
                Ok(Some(index))
            }
            other => {
                self.host.datapath().remove_flow(index)?;
                other.map(drop).or_else(|error| self.pass_over(&error))?;
                Ok(None)
            }
        }
    }

    /// Whether a flow that was added is still what it was before. Packets that the program did not see may have ended it, or let
    /// conntrack look at numbers again.
    fn holds(&self, flow: &Shortcut, sent: &Direction) -> anyhow::Result<bool> {
        let source = SocketAddrV4::new(flow.out.address.into(), u16::from_be_bytes(flow.out.port));
        match self.tracked.find(sent)?.filter(|found| found.source == source) {
            Some(found) => Ok(found.takes_all || self.tracked.take_all(sent)?),
            None => Ok(false),
        }
    }
}

/// Waits for a time, if there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// Seconds of the monotonic clock.
fn now() -> anyhow::Result<u32> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read the clock")?;
    Ok(u32::try_from(time.tv_sec()).unwrap_or(u32::MAX))
}
