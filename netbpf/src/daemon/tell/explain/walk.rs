//! Follows one packet from where it begins to where it ends, and its answer back. At each hop it asks who decides there:
//! the programs, the kernel, netbpf's table. Sends nothing and changes nothing.

mod container;
mod host;

use std::{collections::HashMap, io, mem, net::IpAddr, sync::Arc};

use netbpf_common::reason::Reason;
use tokio::task::{block_in_place, spawn_blocking};

use super::atlas::{Atlas, Mapped, Member, Place, Station};
use crate::{
    daemon::Error,
    datapath::{Judge, Judged, Sender},
    firewall::{Bystanders, Hook, Passage, Verdicts},
    link::{
        Namespace,
        questions::{self, Interface, Route, RouteQuestion},
    },
    model::{self, Dropped, Id, Mapping, why, word},
    plan::explain::{Code, Hop, Mark, Source, Way, packet::Packet},
};

/// A packet on its way.
pub struct Walk<'a> {
    atlas: &'a Atlas,
    judge: Judge,
    /// The name of netbpf's table.
    table: String,
    /// The chains of others, by container; of the host without one.
    bystanders: HashMap<Option<Id>, Arc<Bystanders>>,
    /// What happened so far.
    pub hops: Vec<Hop>,
    way: Way,
    /// The first packet as it came to the host, and as it went on: how conntrack translates answers.
    passed: Option<(Packet, Packet)>,
    /// The source of the first packet.
    first: Option<IpAddr>,
}

/// A network namespace, and its owner.
#[derive(Clone, Copy)]
pub enum Ground<'a> {
    /// The host's.
    Host,
    /// A container's.
    Station(&'a Station),
}

impl Ground<'_> {
    /// As users know it.
    pub fn name(&self) -> &str {
        match self {
            Self::Host => "host",
            Self::Station(station) => &station.name,
        }
    }

    fn id(&self) -> Option<Id> {
        match self {
            Self::Host => None,
            Self::Station(station) => Some(station.id),
        }
    }
}

/// Where a packet ends.
pub enum End<'a> {
    /// In a namespace that it is for, as it is then.
    At(Ground<'a>, Packet),
    /// Elsewhere: nobody here knows.
    Left,
    /// On the way, as the last hop says.
    Stopped,
}

/// A step, to be completed.
pub struct Step {
    mark: Mark,
    at: String,
    code: Code,
    text: String,
    source: Source,
    entry: String,
    help: String,
}

impl Step {
    fn new(mark: Mark, at: &str, code: Code, text: impl Into<String>, source: Source) -> Self {
        let (text, entry, help) = (text.into(), String::new(), String::new());
        Self { mark, at: at.to_owned(), code, text, source, entry, help }
    }

    /// The packet goes on.
    pub fn good(at: &str, code: Code, text: impl Into<String>, source: Source) -> Self {
        Self::new(Mark::Good, at, code, text, source)
    }

    /// It ends.
    pub fn bad(at: &str, code: Code, text: impl Into<String>, source: Source) -> Self {
        Self::new(Mark::Bad, at, code, text, source)
    }

    /// Nobody can tell.
    pub fn unknown(at: &str, text: impl Into<String>, source: Source) -> Self {
        Self::new(Mark::Unknown, at, Code::Undecided, text, source)
    }

    /// It goes on, but somebody should know this.
    pub fn note(at: &str, code: Code, text: impl Into<String>, source: Source) -> Self {
        Self::new(Mark::Note, at, code, text, source)
    }

    /// The entry that decided.
    pub fn by(mut self, entry: impl Into<String>) -> Self {
        self.entry = entry.into();
        self
    }

    /// What would help.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl<'a> Walk<'a> {
    /// At the beginning.
    pub fn new(atlas: &'a Atlas, judge: Judge, table: String) -> Self {
        Self {
            atlas,
            judge,
            table,
            bystanders: HashMap::new(),
            hops: Vec::new(),
            way: Way::There,
            passed: None,
            first: None,
        }
    }

    /// At the end: the programs that were asked.
    pub fn into_judge(self) -> Judge {
        self.judge
    }

    /// Begins with the next packet. Returns the hops of the last one.
    pub fn again(&mut self) -> Vec<Hop> {
        (self.way, self.passed, self.first) = (Way::There, None, None);
        mem::take(&mut self.hops)
    }

    /// The source of the first packet, if it was sent.
    pub fn first_source(&self) -> Option<IpAddr> {
        self.first
    }

    /// Goes on with the answer.
    pub fn turn(&mut self) {
        self.way = Way::Back;
    }

    /// Adds a step.
    pub fn add(&mut self, step: Step) {
        let Step { mark, at, code, text, source, entry, help } = step;
        self.hops.push(Hop { way: self.way, mark, at, code, text, source, entry, help });
    }

    /// The packet ends at this step.
    fn stop(&mut self, step: Step) -> Result<End<'a>, Error> {
        self.add(step);
        Ok(End::Stopped)
    }

    /// Nobody can tell where it goes from here.
    fn lose(&mut self, step: Step) -> Result<End<'a>, Error> {
        self.add(step);
        Ok(End::Left)
    }

    /// Notes the source of the first packet.
    fn begin(&mut self, packet: &Packet) {
        self.first = self.first.or(Some(packet.source));
    }

    fn is_reply(&self) -> bool {
        self.way == Way::Back
    }

    /// That a port of the host is published at another of its addresses only.
    pub fn published_elsewhere(&self, ground: Ground<'_>, packet: &Packet) -> Option<Step> {
        let (protocol, port) = packet.port().filter(|_| matches!(ground, Ground::Host))?;
        let is_it = |mapping: &&Mapping| (mapping.protocol, mapping.host_port) == (protocol, port);
        let mapping = self.atlas.mappings.iter().find(is_it)?;
        let owner = self.atlas.owner_of(mapping.container);
        let name = owner.map_or_else(|| mapping.container.to_string(), |owner| owner.station.name.clone());
        let text = format!("{protocol}/{port} is published at {} only, by {name}", mapping.host);
        let help = "publish it at all addresses (-p without one), or use that address";
        Some(Step::bad("host", Code::NotPublished, text, Source::Table).help(help))
    }

    /// Asks the programs.
    fn ask(&mut self, sender: Sender, frame: &[u8], members: &[u32]) -> Result<Judged, Error> {
        // The first time, the verifier has to look at a program.
        Ok(block_in_place(|| self.judge.ask(sender, frame, members))?)
    }

    /// A packet is dropped for a reason of the programs, by them or by netbpf's table, on the way into a network.
    fn dropped(
        &mut self,
        at: &str,
        reason: Reason,
        packet: &Packet,
        sender: Option<Member<'_>>,
        network: Option<&Mapped>,
        by: (Source, &str),
    ) -> Result<End<'a>, Error> {
        let addresses: Vec<IpAddr> = sender.iter().flat_map(|member| member.endpoint.addresses()).collect();
        let receiver = self.atlas.owner_of(packet.destination);
        let dropped = Dropped {
            sender: sender.map(|member| member.station.name.as_str()),
            addresses: &addresses,
            sender_network: sender.map(|member| member.network.network.name.as_str()),
            network: network.map(|mapped| mapped.network.name.as_str()),
            receiver: receiver.map(|member| member.station.name.as_str()),
            source: Some(packet.source),
            destination: Some(packet.destination),
        };
        let sentence = why(reason, &dropped);
        let (text, help) = sentence.split_once(": ").unwrap_or((&sentence, ""));
        self.stop(Step::bad(at, Code::Frame(reason), text, by.0).by(by.1).help(help))
    }

    async fn route(&self, ground: Ground<'_>, question: RouteQuestion) -> Result<Route, Error> {
        on(ground, "routes", move || questions::route(&question)).await
    }

    async fn interface(&self, ground: Ground<'_>, ifindex: u32) -> Result<Interface, Error> {
        on(ground, "interfaces", move || questions::interface(ifindex)).await
    }

    /// Notes what chains of others do with a packet. Returns whether one of them drops it for certain.
    async fn meets(&mut self, ground: Ground<'_>, hook: Hook, passage: Passage<'_>) -> Result<bool, Error> {
        let known = self.bystanders.get(&ground.id()).cloned();
        let all = match known {
            Some(all) => all,
            None => {
                let table = self.table.clone();
                let read = on(ground, "the packet filter", move || Bystanders::read(&table)).await?;
                let read = Arc::new(read);
                self.bystanders.insert(ground.id(), Arc::clone(&read));
                read
            }
        };
        let mut drops = false;
        for opinion in all.opinions(hook, passage) {
            let policy = if opinion.policy_drops { ", policy drop" } else { "" };
            let entry = match opinion.rules {
                1 => format!("1 rule{policy}"),
                rules => format!("{rules} rules{policy}"),
            };
            let at = ground.name();
            match opinion.verdict {
                Verdicts::Drops => {
                    drops = true;
                    let text = format!("{} drops it", opinion.chain);
                    let help = help_for(&opinion.chain, passage);
                    self.add(
                        Step::bad(at, Code::ForeignFirewall, text, Source::Firewall).by(entry).help(help),
                    );
                }
                Verdicts::Perhaps => {
                    let text = format!("{} may drop it: its rules are not judged", opinion.chain);
                    let help = format!("look at its rules: {}", listing(&opinion.chain));
                    self.add(Step::unknown(at, text, Source::Firewall).by(entry).help(help));
                }
            }
        }
        Ok(drops)
    }
}

/// How to list the rules of a chain.
fn listing(chain: &str) -> String {
    match chain.strip_prefix("iptables-legacy ") {
        Some(table) => format!("iptables-legacy -t {table} -S"),
        // Their names are text of others.
        None => {
            let words: Vec<_> = chain.split(' ').map(word).collect();
            format!("nft list chain {}", words.join(" "))
        }
    }
}

fn help_for(chain: &str, passage: Passage<'_>) -> String {
    let (word, name) = match (passage.received_by, passage.sent_by) {
        (Some(name), _) => ("iifname", name),
        (None, Some(name)) => ("oifname", name),
        (None, None) => return listing(chain),
    };
    format!("let it accept: nft insert rule {chain} {word} '\"{name}\"' accept")
}

/// Asks the kernel about a namespace, on a thread that may block.
pub async fn on<T: Send + 'static>(
    ground: Ground<'_>,
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let place = match ground {
        Ground::Host => Place::Host,
        Ground::Station(station) => station.place().ok_or_else(|| Error::NotRunning(station.name.clone()))?,
    };
    let answered = match place {
        Place::Host => spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error))),
        Place::Own(model::Namespace::Path(path)) => Namespace::open_path(&path)?.run(work).await?,
        Place::Own(model::Namespace::Process { pid, start_time }) => {
            Namespace::open_process(pid, start_time)?.run(work).await?
        }
    };
    answered.map_err(|source| Error::Question { what, source })
}

/// A packet for many: who of them takes it, nobody can tell.
fn group(at: &str, address: IpAddr) -> Step {
    let text = format!("{address} is the address of a group, or a broadcast");
    Step::unknown(at, text, Source::Kernel).help("ask about one of its receivers")
}

/// The receiver of a packet that the programs forward.
fn receiver<'a>(atlas: &'a Atlas, judged: &Judged) -> Option<Member<'a>> {
    atlas.member(judged.receiver?)
}
