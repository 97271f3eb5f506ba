//! Chains of others that would drop what we forward: by a policy of `drop` (ufw, dockerd) or by a last rule that drops or
//! rejects the rest (firewalld, many an iptables script). Accepting in our own chain does not help there, because each
//! chain at the hook has to accept. So rules for our devices, marked as ours by their comment, are put **behind all
//! others**: at the end of the chain whose policy drops, or right before the rule that drops the rest, which may be in a
//! chain that is jumped to. Every rule of an administrator's that drops by address, port or device comes before them.
//! iptables shows them as its own.
//!
//! A chain that lets pass what it has no rule for is left alone. So are chains at other hooks: what containers may ask
//! of the host itself is the administrator's to say, as with Docker. Whatever cuts containers off is named, once when it
//! begins and to whoever asks; a chain that cannot be changed is no reason for anything to fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

use netlink_packet_netfilter::nftables::InetHookNumber as Hook;

use super::{
    Error, advice, nft,
    ruleset::{self, Base, Rule, Side, Table, Test, Verdict},
    walk::{self, End, Interface, Place},
};

/// Docker's chain of what may come in to a bridge of its.
const DOCKER: &str = "DOCKER";

/// The chains of others that drop what they have no rule for, and how containers fare there.
#[derive(Debug)]
pub struct Others {
    /// The comment of our rules, and the name of our table.
    owner: String,
    known: BTreeMap<String, Standing>,
}

/// How containers fare in a chain of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether they are cut off.
    pub state: State,
    /// What the chain does, and what there is to do.
    pub text: String,
}

/// Whether a chain cuts containers off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Our rules let them pass.
    Answered,
    /// Somebody means it, or it is about the host itself.
    Closed,
    /// Our rules should let them pass, and could not be put there.
    Refused,
}

/// A rule of ours: conditions, and whether it lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    interfaces: Vec<(Side, String)>,
    accepts: bool,
}

/// Rules of ours by the place that they are at.
type Placed = BTreeMap<Place, Vec<Own>>;

impl Others {
    /// Nothing is known of them yet.
    pub fn new(owner: String) -> Self {
        Self { owner, known: BTreeMap::new() }
    }

    /// How it stands, by chain.
    pub fn standing(&self) -> &BTreeMap<String, Standing> {
        &self.known
    }

    /// Lets everything pass from and to these devices, and takes away what let others pass. What cannot be done is told,
    /// and no more.
    pub async fn admit(&mut self, devices: &BTreeSet<&str>) {
        let names = names(devices);
        let known = match self.try_admit(&names).await {
            Ok(known) => known,
            Err(error) => {
                let text = format!("{error}: whether they cut containers off is not known");
                [("chains of others".to_owned(), Standing { state: State::Refused, text })].into()
            }
        };
        for (chain, Standing { state, text }) in &known {
            if self.known.get(chain).is_some_and(|before| before.state == *state) {
                continue;
            }
            match state {
                State::Answered => tracing::info!("{chain} {text}"),
                State::Closed | State::Refused => tracing::warn!("{chain} {text}"),
            }
        }
        self.known = known;
    }

    async fn try_admit(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, Standing>, Error> {
        let mut known = BTreeMap::new();
        for table in self.tables().await? {
            let refusal = self.admit_in(&table, names).await?;
            for (chain, base) in bases(&table) {
                if let Some(standing) = self.judge(&table, chain, base, names, refusal.as_deref()) {
                    known.insert(format!("{} {} {chain}", table.family, table.name), standing);
                }
            }
        }
        Ok(known)
    }

    async fn tables(&self) -> Result<Vec<Table>, Error> {
        let owner = self.owner.clone();
        let read = tokio::task::spawn_blocking(move || ruleset::read(&owner)).await;
        read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(Error::Others)
    }

    /// Brings our rules in a table to what is wanted. What keeps it from being done, if anything does.
    async fn admit_in(&self, table: &Table, names: &BTreeSet<String>) -> Result<Option<String>, Error> {
        let mut commands = self.changes(table, names);
        if commands.is_empty() {
            return Ok(None);
        }
        if table.is_owned {
            return Ok(Some("its table belongs to the process that made it".to_owned()));
        }
        loop {
            let Err(error) = nft::run("let traffic pass others' chains", &commands).await else {
                return Ok(None);
            };
            // What was to be changed may have changed itself.
            let same = |now: &Table| (now.family, &now.name) == (table.family, &table.name);
            let now = self.tables().await?.iter().find(|now| same(now)).map(|now| self.changes(now, names));
            match now {
                Some(now) if now == commands => return Ok(Some(error.to_string())),
                Some(now) if !now.is_empty() => commands = now,
                _ => return Ok(None),
            }
        }
    }

    /// The commands that are missing to what is wanted.
    fn changes(&self, table: &Table, names: &BTreeSet<String>) -> String {
        let (present, wanted) = (self.present(table), self.wanted(table, names));
        let mut commands = String::new();
        let Table { family, name, .. } = table;
        for (chain, rules) in table.chains.iter().map(|(name, chain)| (name, &chain.rules)) {
            let here = |placed: &Placed| -> Placed {
                placed
                    .iter()
                    .filter(|(at, _)| at.chain == *chain)
                    .map(|(a, b)| (a.clone(), b.clone()))
                    .collect()
            };
            let wanted = here(&wanted);
            if here(&present) == wanted {
                continue;
            }
            for rule in rules.iter().filter(|rule| rule.comment == self.owner) {
                commands += &format!("delete rule {family} {name} {chain} handle {}\n", rule.handle);
            }
            for (place, rule) in
                wanted.iter().flat_map(|(at, rules)| rules.iter().map(move |rule| (at, rule)))
            {
                let (verb, at) = match place.before {
                    Some(handle) => ("insert", format!(" handle {handle}")),
                    None => ("add", String::new()),
                };
                let own = rule.command(&self.owner);
                commands += &format!("{verb} rule {family} {name} {chain}{at} {own}\n");
            }
        }
        commands
    }

    /// Our rules as they are.
    fn present(&self, table: &Table) -> Placed {
        let mut placed = Placed::new();
        for (chain, rules) in table.chains.iter().map(|(name, chain)| (name, &chain.rules)) {
            let mut before = None;
            for rule in rules.iter().rev() {
                if rule.comment == self.owner {
                    let place = Place { chain: chain.clone(), before };
                    placed.entry(place).or_default().insert(0, Own::of(rule));
                } else {
                    before = Some(rule.handle);
                }
            }
        }
        placed
    }

    /// Our rules as they should be.
    fn wanted(&self, table: &Table, names: &BTreeSet<String>) -> Placed {
        let mut placed = Placed::new();
        for (chain, _) in bases(table).filter(|(_, base)| base.hook == Hook::Forward) {
            for side in [Side::In, Side::Out] {
                for name in names {
                    let End::Falls(place) = walk::end(table, chain, Interface { side, name }, &self.owner)
                    else {
                        continue;
                    };
                    let bridges = if side == Side::In && place.chain == *chain {
                        docker_bridges(&table.chains[chain].rules)
                    } else {
                        BTreeSet::new()
                    };
                    let rules = placed.entry(place).or_default();
                    let shut = bridges.into_iter().map(|bridge| Own {
                        interfaces: vec![(side, name.clone()), (Side::Out, bridge.to_owned())],
                        accepts: false,
                    });
                    rules.extend(shut);
                    rules.push(Own { interfaces: vec![(side, name.clone())], accepts: true });
                }
            }
        }
        placed
    }

    /// How containers fare in a chain; nothing if it lets pass what it has no rule for.
    fn judge(
        &self,
        table: &Table,
        chain: &str,
        base: Base,
        names: &BTreeSet<String>,
        refusal: Option<&str>,
    ) -> Option<Standing> {
        let sides: &[Side] = match base.hook {
            Hook::Forward => &[Side::In, Side::Out],
            Hook::PreRouting | Hook::LocalIn => &[Side::In],
            Hook::LocalOut | Hook::PostRouting => &[Side::Out],
            _ => &[],
        };
        let all = names.iter().flat_map(|name| sides.iter().map(move |side| Interface { side: *side, name }));
        let (mut fall, mut denied) = (BTreeSet::new(), BTreeSet::new());
        for interface in all {
            match walk::end(table, chain, interface, &self.owner) {
                End::Passes => {}
                End::Falls(_) => drop(fall.insert(interface)),
                End::Denied => drop(denied.insert(interface)),
            }
        }
        let place = advice::Chain { family: table.family, table: &table.name, name: chain, hook: base.hook };
        let is_forward = base.hook == Hook::Forward;
        match refusal {
            Some(reason) if is_forward && !fall.is_empty() => {
                let text = place.refused(reason, &fall, table.is_owned);
                Some(Standing { state: State::Refused, text })
            }
            _ if !denied.is_empty() => Some(Standing { state: State::Closed, text: place.denies(&denied) }),
            _ if fall.is_empty() => None,
            _ if is_forward => Some(Standing { state: State::Answered, text: advice::ANSWERED.to_owned() }),
            _ => Some(Standing { state: State::Closed, text: place.closed(&fall) }),
        }
    }
}

fn bases(table: &Table) -> impl Iterator<Item = (&String, Base)> {
    table.chains.iter().filter_map(|(name, chain)| Some((name, chain.base?)))
}

/// What our rules match: one name for all devices with names of our making, one for each other.
fn names(devices: &BTreeSet<&str>) -> BTreeSet<String> {
    let names = devices.iter().map(|device| if device.starts_with("nb-") { "nb-*" } else { device });
    names.map(str::to_owned).collect()
}

/// Docker's bridges, as far as nothing but the end of this chain keeps other networks out of them (up to Docker 27): what
/// comes to them is asked for in a chain of Docker's.
fn docker_bridges<'a>(rules: &'a [Rule]) -> BTreeSet<&'a str> {
    let bridge = |rule: &'a Rule| match (rule.tests.as_slice(), &rule.verdict) {
        ([Test::Interface { side: Side::Out, name, is_equal: true }], Some(Verdict::Jump(to))) => {
            (to == DOCKER && is_plain(name)).then_some(name.as_str())
        }
        _ => None,
    };
    rules.iter().filter_map(bridge).collect()
}

/// Whether a name that somebody chose may stand in nft's quotes as it is.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl Own {
    fn of(rule: &Rule) -> Self {
        let interfaces = rule.tests.iter().map_while(|test| match test {
            Test::Interface { side, name, is_equal: true } => Some((*side, name.clone())),
            _ => None,
        });
        let interfaces: Vec<_> = interfaces.collect();
        // One that is not as we make them is like none that is wanted.
        let interfaces = if interfaces.len() == rule.tests.len() { interfaces } else { Vec::new() };
        Self { interfaces, accepts: rule.verdict == Some(Verdict::Accept) }
    }

    fn command(&self, owner: &str) -> String {
        let verdict = if self.accepts { "accept" } else { "drop" };
        format!("{self}counter {verdict} comment \"{owner}\"")
    }
}

impl fmt::Display for Own {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interfaces.iter().try_for_each(|(side, name)| write!(formatter, "{side} \"{name}\" "))
    }
}
