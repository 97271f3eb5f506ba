//! Foreign chains: chains of other programs and of the administrator. Some would drop the traffic that netbpf forwards:
//! by a policy of `drop` (ufw, dockerd) or by a last rule that drops or rejects everything else (firewalld, many
//! iptables scripts). An `accept` in netbpf's own chain does not help, because every chain at the hook must accept. So
//! netbpf adds rules for its devices to those chains, marked with a comment, **behind all other rules**: at the end of
//! a chain with policy `drop`, or right before the rule that drops the rest, which may be in a chain that is jumped to.
//! So every rule of the administrator that drops by address, port or device still comes first. iptables lists netbpf's
//! rules like its own.
//!
//! A chain that accepts unmatched packets is left alone. So are chains at other hooks: the administrator decides what
//! containers may reach on the host itself, as with Docker. A chain that drops container traffic is logged once, when
//! it starts to, and listed on request. A chain that cannot be changed makes no command fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use netlink_packet_netfilter::nftables::InetHookNumber as Hook;

use super::{
    Error, advice, in_background, nft,
    ruleset::{self, Base, Rule, Side, Table, Test, Verdict},
    walk::{self, End, Interface, Place},
};

/// Docker's chain with the rules for traffic into its bridges.
const DOCKER: &str = "DOCKER";

/// The foreign chains that drop unmatched packets, and what that means for containers.
#[derive(Debug)]
pub struct ForeignChains {
    /// The comment of netbpf's rules, which is also the name of netbpf's table.
    owner: String,
    known: BTreeMap<String, Standing>,
    /// The devices that netbpf's rules are for.
    devices: BTreeSet<String>,
}

/// What a foreign chain means for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it drops their traffic.
    pub state: State,
    /// What the chain does, and how to change it.
    pub text: String,
}

/// Whether a foreign chain drops container traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No: netbpf's rules in it accept the traffic.
    Answered,
    /// Yes: a rule drops it on purpose, or the hook is about traffic of the host itself.
    Closed,
    /// Yes: netbpf's rules could not be added to it.
    Refused,
}

/// A table or a chain with a name that nft cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nft has no way to name {0:?}")]
pub(super) struct Unwritable(String);

/// A rule of netbpf: the interfaces that it matches, and whether it accepts or drops.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OurRule {
    interfaces: Vec<(Side, String)>,
    accepts: bool,
}

/// Rules of netbpf by their place.
type Placed = BTreeMap<Place, Vec<OurRule>>;

impl ForeignChains {
    /// Starts without knowledge; [`Self::admit`] reads the chains.
    pub fn new(owner: String) -> Self {
        Self { owner, known: BTreeMap::new(), devices: BTreeSet::new() }
    }

    /// What each foreign chain means for containers, by `FAMILY TABLE CHAIN`, as of the last [`Self::admit`].
    pub fn standing(&self) -> &BTreeMap<String, Standing> {
        &self.known
    }

    /// Adds rules that accept all traffic from and to these devices, and removes those of other devices. Failures are
    /// logged and reported by [`Self::standing`] only.
    pub async fn admit(&mut self, devices: &BTreeSet<&str>) {
        let names = names(devices);
        let (known, changed) = match self.try_admit(&names).await {
            Ok(seen) => seen,
            Err(error) => {
                let text = format!("{error}: they may drop container traffic");
                ([("foreign chains".to_owned(), Standing { state: State::Refused, text })].into(), Vec::new())
            }
        };
        // Netbpf's rules were there, for the same devices.
        let is_answered = |chain: &str| {
            [&self.known, &known]
                .iter()
                .all(|all| all.get(chain).is_some_and(|it| it.state == State::Answered))
        };
        for chain in changed.iter().filter(|chain| self.devices == names && is_answered(chain)) {
            tracing::info!("somebody changed {chain}: netbpf's rules are put in place again");
        }
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
        self.devices = names;
    }

    /// Returns what foreign chains mean, and the chains of those tables where rules were added or removed.
    async fn try_admit(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<(BTreeMap<String, Standing>, Vec<String>), Error> {
        let mut known = BTreeMap::new();
        let mut changed = Vec::new();
        for table in self.tables().await? {
            let commands = self.changes(&table, names);
            let is_changed = commands.as_ref().is_ok_and(|commands| !commands.is_empty());
            let refusal = self.admit_in(&table, names, commands).await?;
            for (chain, base) in bases(&table) {
                if let Some(standing) = self.judge(&table, chain, base, names, refusal.as_deref()) {
                    let name = format!("{} {} {chain}", table.family, table.name);
                    let name = name.escape_debug().to_string();
                    changed.extend(is_changed.then(|| name.clone()));
                    known.insert(name, standing);
                }
            }
        }
        Ok((known, changed))
    }

    async fn tables(&self) -> Result<Vec<Table>, Error> {
        let owner = self.owner.clone();
        in_background(move || ruleset::read(&owner)).await.map_err(Error::Others)
    }

    /// Adds and removes netbpf's rules in a table. Returns why that was impossible, if it was.
    async fn admit_in(
        &self,
        table: &Table,
        names: &BTreeSet<String>,
        commands: Result<String, Unwritable>,
    ) -> Result<Option<String>, Error> {
        let mut commands = match commands {
            Ok(commands) if commands.is_empty() => return Ok(None),
            _ if table.is_owned => {
                return Ok(Some("its table belongs to the process that made it".to_owned()));
            }
            Ok(commands) => commands,
            Err(unwritable) => return Ok(Some(unwritable.to_string())),
        };
        loop {
            let Err(error) = nft::run("add rules to foreign chains", &commands).await else {
                return Ok(None);
            };
            // The table may have changed since it was read: compute the commands again.
            let same = |now: &Table| (now.family, &now.name) == (table.family, &table.name);
            let now = self.tables().await?.iter().find(|now| same(now)).map(|now| self.changes(now, names));
            match now.transpose() {
                Ok(Some(now)) if now == commands => return Ok(Some(error.to_string())),
                Ok(Some(now)) if !now.is_empty() => commands = now,
                Ok(_) => return Ok(None),
                Err(unwritable) => return Ok(Some(unwritable.to_string())),
            }
        }
    }

    /// The commands that turn the present rules into the wanted ones.
    pub(super) fn changes(&self, table: &Table, names: &BTreeSet<String>) -> Result<String, Unwritable> {
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
            if let Some(odd) = [name, chain].into_iter().find(|name| !is_identifier(name)) {
                return Err(Unwritable(odd.clone()));
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
        Ok(commands)
    }

    /// netbpf's rules that are in the table.
    fn present(&self, table: &Table) -> Placed {
        let mut placed = Placed::new();
        for (chain, rules) in table.chains.iter().map(|(name, chain)| (name, &chain.rules)) {
            let mut before = None;
            for rule in rules.iter().rev() {
                if rule.comment == self.owner {
                    let place = Place { chain: chain.clone(), before };
                    placed.entry(place).or_default().insert(0, OurRule::of(rule));
                } else {
                    before = Some(rule.handle);
                }
            }
        }
        placed
    }

    /// netbpf's rules that should be in the table.
    fn wanted(&self, table: &Table, names: &BTreeSet<String>) -> Placed {
        let mut placed = Placed::new();
        for (chain, _) in bases(table).filter(|(_, base)| base.hook == Hook::Forward) {
            for side in [Side::In, Side::Out] {
                for name in names {
                    let End::Dropped(place) = walk::end(table, chain, Interface { side, name }, &self.owner)
                    else {
                        continue;
                    };
                    let bridges = if side == Side::In && place.chain == *chain {
                        docker_bridges(&table.chains[chain].rules)
                    } else {
                        BTreeSet::new()
                    };
                    let rules = placed.entry(place).or_default();
                    let shut = bridges.into_iter().map(|bridge| OurRule {
                        interfaces: vec![(side, name.clone()), (Side::Out, bridge.to_owned())],
                        accepts: false,
                    });
                    rules.extend(shut);
                    rules.push(OurRule { interfaces: vec![(side, name.clone())], accepts: true });
                }
            }
        }
        placed
    }

    /// What a chain means for containers; `None` if it accepts their unmatched packets.
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
        let (mut unmatched, mut denied) = (BTreeSet::new(), BTreeSet::new());
        for interface in all {
            match walk::end(table, chain, interface, &self.owner) {
                End::Passes => {}
                End::Dropped(_) => drop(unmatched.insert(interface)),
                End::Denied => drop(denied.insert(interface)),
            }
        }
        let place = advice::Chain { family: table.family, table: &table.name, name: chain, hook: base.hook };
        let is_forward = base.hook == Hook::Forward;
        match refusal {
            Some(reason) if is_forward && !unmatched.is_empty() => {
                let text = place.refused(reason, &unmatched, table.is_owned);
                Some(Standing { state: State::Refused, text })
            }
            _ if !denied.is_empty() => Some(Standing { state: State::Closed, text: place.denies(&denied) }),
            _ if unmatched.is_empty() => None,
            _ if is_forward => Some(Standing { state: State::Answered, text: advice::ANSWERED.to_owned() }),
            _ => Some(Standing { state: State::Closed, text: place.closed(&unmatched) }),
        }
    }
}

fn bases(table: &Table) -> impl Iterator<Item = (&String, Base)> {
    table.chains.iter().filter_map(|(name, chain)| Some((name, chain.base?)))
}

/// The interface names to match: one pattern for all devices with generated names, and each other name.
fn names(devices: &BTreeSet<&str>) -> BTreeSet<String> {
    let names = devices.iter().map(|device| if device.starts_with("nb-") { "nb-*" } else { device });
    names.map(str::to_owned).collect()
}

/// The Docker bridges that only the end of this chain protects from other networks (up to Docker 27): the chain jumps
/// to [`DOCKER`] for packets to such a bridge.
fn docker_bridges<'a>(rules: &'a [Rule]) -> BTreeSet<&'a str> {
    let bridge = |rule: &'a Rule| match (rule.tests.as_slice(), &rule.verdict) {
        ([Test::Interface { side: Side::Out, name, is_equal: true }], Some(Verdict::Jump(to))) => {
            (to == DOCKER && is_plain(name)).then_some(name.as_str())
        }
        _ => None,
    };
    rules.iter().filter_map(bridge).collect()
}

/// Whether a name that somebody else chose is an identifier in nft's language, which has no quotes for names of tables
/// and chains. The kernel accepts any text, iptables many: `a;b` and `a{b`.
fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || b"_.".contains(&byte))
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"/-_.:".contains(&byte))
}

/// Whether a name that somebody else chose is safe between nft's quotes.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl OurRule {
    fn of(rule: &Rule) -> Self {
        let interfaces = rule.tests.iter().map_while(|test| match test {
            Test::Interface { side, name, is_equal: true } => Some((*side, name.clone())),
            _ => None,
        });
        let interfaces: Vec<_> = interfaces.collect();
        // A changed rule equals no wanted rule, so it is replaced.
        let interfaces = if interfaces.len() == rule.tests.len() { interfaces } else { Vec::new() };
        Self { interfaces, accepts: rule.verdict == Some(Verdict::Accept) }
    }

    fn command(&self, owner: &str) -> String {
        let verdict = if self.accepts { "accept" } else { "drop" };
        format!("{self}counter {verdict} comment \"{owner}\"")
    }
}

impl fmt::Display for OurRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interfaces.iter().try_for_each(|(side, name)| write!(formatter, "{side} \"{name}\" "))
    }
}
