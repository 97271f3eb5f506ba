//! The foreign tables of the kernel's packet filter that filter IP packets: their chains, and as much of their rules as
//! [`walk`](super::walk) needs. Read over netlink, because nft before 1.0.6 does not print iptables' own matches and
//! targets, nor the comments in them. Changes nothing.

use std::{collections::BTreeMap, fmt, io};

use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, HookNumber,
        Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Register,
        RuleAttribute, RuleMessage, TableAttribute, TableFlags, TableMessage, VerdictAttribute,
    },
};
use rtnetlink::packet_core::{DefaultNla, NLM_F_DUMP, NLM_F_REQUEST, Nla};

use super::kernel::{self, Kernel};

/// How many times a list is read that changes while it is read.
const MAX_ATTEMPTS: usize = 20;
/// `NF_DROP`, as a policy and as a verdict.
const DROP: u32 = 0;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;
/// `NFTA_TARGET_NAME` and `NFTA_MATCH_NAME`.
const XT_NAME: u16 = 1;
/// `NFTA_TARGET_INFO` and `NFTA_MATCH_INFO`.
const XT_INFO: u16 = 3;
/// iptables targets that do not end a packet's way through the chain.
const NON_TERMINAL: [&str; 12] = [
    "LOG",
    "NFLOG",
    "TRACE",
    "MARK",
    "CONNMARK",
    "CONNSECMARK",
    "SECMARK",
    "CLASSIFY",
    "TCPMSS",
    "TOS",
    "DSCP",
    "HL",
];
/// Expressions that cannot fail to match and give no verdict. Some of them only load a register; the comparison after
/// them is what may fail.
const NEUTRAL: [&str; 12] = [
    "counter",
    "log",
    "notrack",
    "last",
    "ct",
    "exthdr",
    "socket",
    "rt",
    "byteorder",
    "fib",
    "flow_offload",
    "numgen",
];

/// A table.
#[derive(Debug)]
pub struct Table {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// The name of the table.
    pub name: String,
    /// Only the process that made the table may change it (flag `owner`, Linux 5.12).
    pub is_owned: bool,
    /// Its chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// A chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// The hook, if it is a base chain.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// The hook and policy of a base chain.
#[derive(Clone, Copy, Debug)]
pub struct Base {
    /// The netfilter hook.
    pub hook: InetHookNumber,
    /// Whether the policy is `drop`.
    pub drops: bool,
}

/// The parts of a rule that `walk` needs.
#[derive(Debug, Default)]
pub struct Rule {
    /// Its number, unique within the table.
    pub handle: u64,
    /// Its comment; empty if it has none.
    pub comment: String,
    /// Its conditions; all must match.
    pub tests: Vec<Test>,
    /// Its verdict; `None` if the packet goes on to the next rule.
    pub verdict: Option<Verdict>,
    /// Whether something else may give any verdict: a map of verdicts, or a program that takes packets from a queue.
    pub is_open: bool,
    /// Whether it has other parts than names of interfaces, counters and a verdict.
    pub has_other_parts: bool,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The name of an interface is, or is not, a certain one.
    Interface {
        /// Which interface.
        side: Side,
        /// `eth0`, or `eth*` for all names with this prefix.
        name: String,
        /// Whether the name must match (`==`), or must not (`!=`).
        is_equal: bool,
    },
    /// Anything else.
    Other,
}

/// The interface that a packet came in by, or the one that it goes out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// `iifname`.
    In,
    /// `oifname`.
    Out,
}

/// The verdict of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The chain accepts the packet, or queues it to a process that decides.
    Accept,
    /// The packet is dropped, silently or with an error to the sender (`reject`).
    Drop,
    /// Back to the calling chain.
    Return,
    /// To another chain, which may return here.
    Jump(String),
    /// To another chain, which returns to the caller of this one.
    Goto(String),
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::In => "iifname",
            Self::Out => "oifname",
        })
    }
}

/// All tables that filter IP packets, except the one named `own` of the family `inet`. Netlink requests block and a list
/// may be long, so do not call this on a tokio worker.
pub fn read(own: &str) -> io::Result<Vec<Table>> {
    consistently(|kernel| read_once(kernel, own))
}

/// The number of rules in a table of the family `inet`; 0 if there is no such table. Blocks, as [`read`] does.
pub fn count(table: &str) -> io::Result<usize> {
    consistently(|kernel| {
        let attributes = vec![RuleAttribute::Table(table.to_owned())];
        let rules = NfTablesMessage::GetRule(RuleMessage { attributes });
        Ok(list(kernel, NetfilterProtoFamily::Inet, rules)?.len())
    })
}

/// Reads again if the kernel changed a list in the meantime.
fn consistently<T>(read: impl Fn(&Kernel) -> io::Result<T>) -> io::Result<T> {
    let kernel = Kernel::open()?;
    for _ in 1..MAX_ATTEMPTS {
        match read(&kernel) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
    read(&kernel)
}

fn read_once(kernel: &Kernel, own: &str) -> io::Result<Vec<Table>> {
    let mut tables = tables(kernel, own)?;
    chains(kernel, &mut tables)?;
    tables.retain(|_, table| table.chains.values().any(|chain| chain.base.is_some()));
    for ((family, _), table) in &mut tables {
        rules(kernel, (*family).into(), table)?;
    }
    Ok(tables.into_values().collect())
}

/// Tables by family number and name.
type Tables = BTreeMap<(u8, String), Table>;

fn tables(kernel: &Kernel, own: &str) -> io::Result<Tables> {
    let all = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
    let mut tables = Tables::new();
    for message in list(kernel, NetfilterProtoFamily::Unspec, all)? {
        let family = message.header.family;
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = message.inner else {
            continue;
        };
        let Some(word) = word(family) else { continue };
        let (mut name, mut flags) = (String::new(), TableFlags::empty());
        for attribute in table.attributes {
            match attribute {
                TableAttribute::Name(said) => name = said,
                TableAttribute::Flags(said) => flags = said,
                _ => {}
            }
        }
        if (word, name.as_str()) != ("inet", own) && !flags.contains(TableFlags::Dormant) {
            let is_owned = flags.contains(TableFlags::Owner);
            let table = Table { family: word, name: name.clone(), is_owned, chains: BTreeMap::new() };
            tables.insert((family.into(), name), table);
        }
    }
    Ok(tables)
}

fn word(family: NetfilterProtoFamily) -> Option<&'static str> {
    match family {
        NetfilterProtoFamily::IPv4 => Some("ip"),
        NetfilterProtoFamily::IPv6 => Some("ip6"),
        NetfilterProtoFamily::Inet => Some("inet"),
        _ => None,
    }
}

fn chains(kernel: &Kernel, tables: &mut Tables) -> io::Result<()> {
    let all = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    for message in list(kernel, NetfilterProtoFamily::Unspec, all)? {
        let family = u8::from(message.header.family);
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) = message.inner else {
            continue;
        };
        let (mut table, mut name, mut kind) = Default::default();
        let (mut hook, mut drops) = (None, false);
        for attribute in chain.attributes {
            match attribute {
                ChainAttribute::Table(said) => table = said,
                ChainAttribute::Name(said) => name = said,
                ChainAttribute::Type(said) => kind = said,
                ChainAttribute::Policy(policy) => drops = policy == DROP,
                ChainAttribute::Hook(parts) => {
                    hook = parts.into_iter().find_map(|part| match part {
                        Hook::Number(HookNumber::Inet(hook)) => Some(hook),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let base = hook.filter(|_| kind == "filter").map(|hook| Base { hook, drops });
        if let Some(table) = tables.get_mut(&(family, table)) {
            table.chains.insert(name, Chain { base, rules: Vec::new() });
        }
    }
    Ok(())
}

/// The chains of devices (`netdev`), whatever they are for.
pub fn of_devices() -> io::Result<Vec<String>> {
    let all = || NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    let found = consistently(|kernel| list(kernel, NetfilterProtoFamily::NetDev, all()))?;
    let chains = found.into_iter().filter_map(|message| match message.inner {
        NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) => Some(chain.attributes),
        _ => None,
    });
    Ok(chains
        .map(|attributes| {
            let names = attributes.iter().filter_map(|attribute| match attribute {
                ChainAttribute::Table(name) | ChainAttribute::Name(name) => Some(name.as_str()),
                _ => None,
            });
            ["netdev"].into_iter().chain(names).collect::<Vec<_>>().join(" ")
        })
        .collect())
}

fn rules(kernel: &Kernel, family: NetfilterProtoFamily, table: &mut Table) -> io::Result<()> {
    let attributes = vec![RuleAttribute::Table(table.name.clone())];
    for message in list(kernel, family, NfTablesMessage::GetRule(RuleMessage { attributes }))? {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(message)) = message.inner else {
            continue;
        };
        let mut chain = String::new();
        let mut rule = Rule::default();
        for attribute in message.attributes {
            match attribute {
                RuleAttribute::Chain(name) => chain = name,
                RuleAttribute::Handle(handle) => rule.handle = handle,
                RuleAttribute::UserData(data) => rule.comment = comment(&data),
                RuleAttribute::Expressions(expressions) => rule.judge(expressions),
                _ => {}
            }
        }
        // The chain may be newer than the list of chains. Its event will cause another read.
        if let Some(chain) = table.chains.get_mut(&chain) {
            chain.rules.push(rule);
        }
    }
    Ok(())
}

fn list(
    kernel: &Kernel,
    family: NetfilterProtoFamily,
    all: NfTablesMessage,
) -> io::Result<Vec<NetfilterMessage>> {
    kernel.ask(&kernel::request(family, all, NLM_F_REQUEST | NLM_F_DUMP))
}

/// The comment in a rule's user data: a list of type, length and value, where type 0 is the comment.
pub(super) fn comment(mut data: &[u8]) -> String {
    while let [kind, length, rest @ ..] = data {
        let Some((value, behind)) = rest.split_at_checked((*length).into()) else { break };
        if *kind == 0 {
            return text(value);
        }
        data = behind;
    }
    String::new()
}

/// The text up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

impl Rule {
    fn judge(&mut self, expressions: Vec<ListAttribute<ExpressionAttribute>>) {
        // The interface whose name the last expression loaded into a register.
        let mut loaded = None;
        let parts = expressions.into_iter().filter_map(|expression| match expression {
            ListAttribute::Element(parts) => Some(parts),
            _ => None,
        });
        for part in parts.flatten() {
            let ExpressionAttribute::Data(expression) = part else { continue };
            match expression {
                Expressions::Meta(meta) => {
                    loaded = side(&meta);
                    self.has_other_parts |= loaded.is_none();
                }
                Expressions::Cmp(cmp) => self.tests.push(test(loaded.take(), &cmp)),
                Expressions::Immediate(parts) => {
                    let verdict = verdict(parts);
                    self.has_other_parts |= verdict.is_none();
                    self.verdict = self.verdict.take().or(verdict);
                }
                Expressions::Payload(_) | Expressions::Bitwise(_) => {
                    (loaded, self.has_other_parts) = (None, true);
                }
                Expressions::Other { expression_type, attributes } => {
                    loaded = None;
                    self.has_other_parts |= expression_type != "counter";
                    self.judge_other(&expression_type, &attributes);
                }
                Expressions::Lookup(parts) => {
                    self.is_open |= parts.contains(&Lookup::DestinationRegister(Register::Verdict));
                    self.tests.push(Test::Other);
                }
                Expressions::Unknown(_) | _ => self.tests.push(Test::Other),
            }
        }
    }

    fn judge_other(&mut self, kind: &str, attributes: &[DefaultNla]) {
        match kind {
            "reject" => self.verdict = Some(Verdict::Drop),
            "queue" => (self.verdict, self.is_open) = (Some(Verdict::Accept), true),
            "target" => match text(&value(attributes, XT_NAME)).as_str() {
                "REJECT" => self.verdict = Some(Verdict::Drop),
                "NFQUEUE" | "QUEUE" => (self.verdict, self.is_open) = (Some(Verdict::Accept), true),
                name if NON_TERMINAL.contains(&name) => {}
                _ => self.tests.push(Test::Other),
            },
            "match" if value(attributes, XT_NAME) == b"comment\0" => {
                self.comment = text(&value(attributes, XT_INFO));
            }
            kind if NEUTRAL.contains(&kind) => {}
            _ => self.tests.push(Test::Other),
        }
    }
}

/// The interface whose name a `meta` expression loads.
fn side(meta: &[Meta]) -> Option<Side> {
    meta.iter().find_map(|part| match part {
        Meta::Key(MetaKey::Iifname) => Some(Side::In),
        Meta::Key(MetaKey::Oifname) => Some(Side::Out),
        _ => None,
    })
}

fn test(loaded: Option<Side>, cmp: &[Cmp]) -> Test {
    let is_equal = cmp.iter().find_map(|part| match part {
        Cmp::Op(Operator::Equal) => Some(true),
        Cmp::Op(Operator::NotEqual) => Some(false),
        _ => None,
    });
    let data = cmp.iter().find_map(|part| match part {
        Cmp::Data(DataAttribute::Value(data)) => Some(data),
        _ => None,
    });
    match (loaded, is_equal, data) {
        // A full name is compared with its zero byte, a prefix without one.
        (Some(side), Some(is_equal), Some(data)) if data.contains(&0) => {
            Test::Interface { side, name: text(data), is_equal }
        }
        (Some(side), Some(is_equal), Some(data)) => {
            Test::Interface { side, name: format!("{}*", text(data)), is_equal }
        }
        _ => Test::Other,
    }
}

fn verdict(parts: Vec<Immediate>) -> Option<Verdict> {
    use netlink_packet_netfilter::nftables::Verdict as Code;
    let parts = parts.into_iter().find_map(|part| match part {
        Immediate::Data(DataAttribute::Verdict(parts)) => Some(parts),
        _ => None,
    })?;
    let (mut code, mut chain) = (None, String::new());
    for part in parts {
        match part {
            VerdictAttribute::Code(said) => code = Some(said),
            VerdictAttribute::Chain(name) => chain = name,
            _ => {}
        }
    }
    match code? {
        Code::Other(ACCEPT) => Some(Verdict::Accept),
        Code::Other(DROP) => Some(Verdict::Drop),
        Code::Return => Some(Verdict::Return),
        Code::Jump => Some(Verdict::Jump(chain)),
        Code::Goto => Some(Verdict::Goto(chain)),
        _ => None,
    }
}

fn value(attributes: &[DefaultNla], kind: u16) -> Vec<u8> {
    let attribute = attributes.iter().find(|attribute| attribute.kind() == kind);
    attribute.map_or_else(Vec::new, |attribute| {
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_is_found_in_the_user_data_of_a_rule() {
        assert_eq!(comment(&[7, 2, 1, 2, 0, 4, b'a', b'b', b'c', 0]), "abc");
        assert_eq!(comment(&[0, 9, b'a']), "");
        assert_eq!(comment(&[]), "");
    }

    #[test]
    fn a_name_without_a_zero_byte_is_a_prefix() {
        let cmp =
            |data: &[u8]| vec![Cmp::Op(Operator::Equal), Cmp::Data(DataAttribute::Value(data.to_vec()))];
        let interface =
            |name: &str| Test::Interface { side: Side::In, name: name.to_owned(), is_equal: true };
        assert_eq!(test(Some(Side::In), &cmp(b"eth0\0\0\0\0")), interface("eth0"));
        assert_eq!(test(Some(Side::In), &cmp(b"eth")), interface("eth*"));
        assert_eq!(test(None, &cmp(b"eth0\0")), Test::Other);
    }
}
