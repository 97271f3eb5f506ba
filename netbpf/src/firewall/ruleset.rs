//! The host's packet filter as the kernel has it: those tables of others that filter IP packets, with their chains and
//! rules as far as [`walk`](super::walk) judges them. Read over netlink, because nft's lists hide what iptables' own
//! matches and targets are (before nft 1.0.6) and say (comments). Changes nothing.

use std::{collections::BTreeMap, fmt, io};

use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, HookNumber,
        Immediate, InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, RuleAttribute,
        RuleMessage, TableAttribute, TableFlags, TableMessage, VerdictAttribute,
    },
};
use rtnetlink::packet_core::{DefaultNla, NLM_F_DUMP, NLM_F_REQUEST, Nla};

use super::kernel::{self, Kernel};

/// How often a list is read that changes while it is read.
const MAX_ATTEMPTS: usize = 20;
/// `NF_DROP`, as a policy and as a verdict.
const DROP: u32 = 0;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;
/// `NFTA_TARGET_NAME` and `NFTA_MATCH_NAME`.
const XT_NAME: u16 = 1;
/// `NFTA_TARGET_INFO` and `NFTA_MATCH_INFO`.
const XT_INFO: u16 = 3;
/// iptables' targets after which a packet goes on to the next rule.
const GOING_ON: [&str; 12] = [
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
/// Expressions that neither look at a packet nor end its way. Those that read something into a register are among them:
/// it is the comparison after them that may fail.
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

/// A table of somebody's.
#[derive(Debug)]
pub struct Table {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its name.
    pub name: String,
    /// Nobody but the process that made it may change it (flag `owner`, Linux 5.12).
    pub is_owned: bool,
    /// By name.
    pub chains: BTreeMap<String, Chain>,
}

/// A chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// Where packets enter it, if they do so by themselves.
    pub base: Option<Base>,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// What a chain is that packets enter by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Base {
    /// Where.
    pub hook: InetHookNumber,
    /// Its policy is `drop`.
    pub drops: bool,
}

/// A rule, as far as it is judged.
#[derive(Debug, Default)]
pub struct Rule {
    /// Its number within the table.
    pub handle: u64,
    /// Empty if there is none.
    pub comment: String,
    /// All must hold.
    pub tests: Vec<Test>,
    /// What becomes of the packet; none if it goes on to the next rule.
    pub verdict: Option<Verdict>,
}

/// What a rule asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// That an interface has such a name, or has it not.
    Interface {
        /// Which one.
        side: Side,
        /// `eth0`, or `eth*` for all names that begin so.
        name: String,
        /// It is to have the name.
        is_equal: bool,
    },
    /// Anything else.
    Other,
}

/// The interface that a packet came in by, or the one that it leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// `iifname`.
    In,
    /// `oifname`.
    Out,
}

/// What a rule does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This chain lets it pass, or hands it to a process that decides.
    Accept,
    /// It ends here, with an answer (`reject`) or without.
    Drop,
    /// Back to the chain that it came from.
    Return,
    /// To another chain, and back.
    Jump(String),
    /// To another chain, and back to where this one was jumped to from.
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

/// All tables but the one of this name that filter IP packets. The kernel answers at once, but a list may be long: not for
/// a worker of tokio's.
pub fn read(own: &str) -> io::Result<Vec<Table>> {
    let kernel = Kernel::open()?;
    for _ in 1..MAX_ATTEMPTS {
        match read_once(&kernel, own) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
    read_once(&kernel, own)
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

/// By number of the family and name.
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
        if name != own && !flags.contains(TableFlags::Dormant) {
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
        // One of a chain that came after the chains were read: its event is on the way.
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

/// A rule's comment as nft keeps it: a type, a length and a value each, type 0 being the comment.
fn comment(mut data: &[u8]) -> String {
    while let [kind, length, rest @ ..] = data {
        let Some((value, behind)) = rest.split_at_checked((*length).into()) else { break };
        if *kind == 0 {
            return text(value);
        }
        data = behind;
    }
    String::new()
}

/// Up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

impl Rule {
    fn judge(&mut self, expressions: Vec<ListAttribute<ExpressionAttribute>>) {
        // The interface whose name is in the register that was written last.
        let mut loaded = None;
        let parts = expressions.into_iter().filter_map(|expression| match expression {
            ListAttribute::Element(parts) => Some(parts),
            _ => None,
        });
        for part in parts.flatten() {
            let ExpressionAttribute::Data(expression) = part else { continue };
            match expression {
                Expressions::Meta(meta) => loaded = side(&meta),
                Expressions::Cmp(cmp) => self.tests.push(test(loaded.take(), &cmp)),
                Expressions::Immediate(parts) => self.verdict = self.verdict.take().or(verdict(parts)),
                Expressions::Payload(_) | Expressions::Bitwise(_) => loaded = None,
                Expressions::Other { expression_type, attributes } => {
                    loaded = None;
                    self.judge_other(&expression_type, &attributes);
                }
                Expressions::Lookup(_) | Expressions::Unknown(_) | _ => self.tests.push(Test::Other),
            }
        }
    }

    fn judge_other(&mut self, kind: &str, attributes: &[DefaultNla]) {
        match kind {
            "reject" => self.verdict = Some(Verdict::Drop),
            "queue" => self.verdict = Some(Verdict::Accept),
            "target" => match text(&value(attributes, XT_NAME)).as_str() {
                "REJECT" => self.verdict = Some(Verdict::Drop),
                "NFQUEUE" | "QUEUE" => self.verdict = Some(Verdict::Accept),
                name if GOING_ON.contains(&name) => {}
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

/// The interface whose name is read.
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
        // Names are compared with their zero, or only as far as they are to agree.
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
    fn a_comment_is_found_among_a_rule_s_data() {
        assert_eq!(comment(&[7, 2, 1, 2, 0, 4, b'a', b'b', b'c', 0]), "abc");
        assert_eq!(comment(&[0, 9, b'a']), "");
        assert_eq!(comment(&[]), "");
    }

    #[test]
    fn a_name_without_its_end_stands_for_all_that_begin_so() {
        let cmp =
            |data: &[u8]| vec![Cmp::Op(Operator::Equal), Cmp::Data(DataAttribute::Value(data.to_vec()))];
        let interface =
            |name: &str| Test::Interface { side: Side::In, name: name.to_owned(), is_equal: true };
        assert_eq!(test(Some(Side::In), &cmp(b"eth0\0\0\0\0")), interface("eth0"));
        assert_eq!(test(Some(Side::In), &cmp(b"eth")), interface("eth*"));
        assert_eq!(test(None, &cmp(b"eth0\0")), Test::Other);
    }
}
