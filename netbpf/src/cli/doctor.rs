//! `doctor`: checks what the host needs to run the daemon, and tells what to do if something is missing. Changes
//! nothing; reads only files that every user may read.

use std::{fs, io, path::Path};

use jiff::Timestamp;
use nix::{
    sys::{
        statfs::{BPF_FS_MAGIC, statfs},
        utsname::uname,
    },
    unistd::Uid,
};

use super::{
    Error,
    console::{Colour, Console},
};
use crate::api::{
    client::{self, Client},
    human,
    types::{Flows, FlowsState, ForeignChain, ForeignChainState, Names, NamesState, Repair, Uplink},
};

/// `doctor`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf doctor")]
pub struct Doctor {}

/// One requirement and its state.
struct Check {
    subject: &'static str,
    finding: Finding,
}

/// The state of a requirement.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It is fulfilled.
    Good(String),
    /// Nothing is missing, but the user may be looking for this.
    Note(String),
    /// It is missing; with what to do.
    Missing(String),
}

impl From<Result<String, String>> for Finding {
    fn from(found: Result<String, String>) -> Self {
        found.map_or_else(Self::Missing, Self::Good)
    }
}

impl Doctor {
    /// Runs the command. Returns 1 if something is missing.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let mut checks = host();
        if let Ok(info) = client.info().await {
            checks.extend(foreign_chains(&info.foreign_chains));
            checks.extend(uplinks(&info.uplinks, &read("/proc/net/route")));
            checks.extend(info.disciplines.iter().map(|discipline| shaping(discipline)));
            checks.extend(open(&info.open));
            checks.push(names(&info.names));
            checks.push(flows(&info.flows));
            let contested = info.contested.into_iter().map(Finding::Missing);
            checks.extend(contested.map(|finding| Check { subject: "contested", finding }));
            checks.extend(info.repairs.iter().map(|repair| repaired(repair, Timestamp::now())));
        }
        checks.push(daemon(client).await);
        for check in &checks {
            let line = line(check, console);
            writeln!(console.out.raw(), "{line}")?;
        }
        Ok(u8::from(checks.iter().any(|check| matches!(check.finding, Finding::Missing(_)))))
    }
}

fn line(Check { subject, finding }: &Check, console: &Console) -> String {
    let (mark, text) = match finding {
        Finding::Good(text) => (console.paint(Colour::Green, "ok     "), text),
        Finding::Note(text) => (console.paint(Colour::Yellow, "note   "), text),
        Finding::Missing(text) => (console.paint(Colour::Red, "missing"), text),
    };
    format!("{mark}  {subject:<11}  {}", console.shown(text))
}

async fn daemon(client: &Client) -> Check {
    let finding = match client.version().await {
        Ok(version) => Ok(format!("{} at unix://{}", version.version, client.socket().display())),
        Err(client::Error::Unreachable { socket, .. }) => {
            Err(format!("nobody listens at unix://{}; start it: netbpf daemon", socket.display()))
        }
        Err(error) => Err(error.to_string()),
    };
    Check { subject: "daemon", finding: finding.into() }
}

fn host() -> Vec<Check> {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let symbols = read("/proc/kallsyms");
    let modules = read(&format!("/lib/modules/{release}/modules.dep"));
    vec![
        Check {
            subject: "root",
            finding: if Uid::effective().is_root() {
                Ok("yes".to_owned())
            } else {
                Err("the daemon needs it: become root (sudo -i)".to_owned())
            }
            .into(),
        },
        Check { subject: "kernel", finding: kernel(&release).into() },
        Check {
            subject: "BTF",
            finding: file("/sys/kernel/btf/vmlinux", "a kernel with CONFIG_DEBUG_INFO_BTF=y").into(),
        },
        Check { subject: "bpffs", finding: bpffs(Path::new("/sys/fs/bpf")).into() },
        Check { subject: "attachment", finding: attachment(&symbols, &modules).into() },
        Check {
            subject: "nft",
            finding: nft(&["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"]).into(),
        },
        Check { subject: "ip_forward", finding: forwarding(&read("/proc/sys/net/ipv4/ip_forward")).into() },
        Check {
            subject: "neighbours",
            finding: neighbours(&read("/proc/sys/net/ipv4/neigh/default/gc_thresh3")).into(),
        },
    ]
}

/// The contents of a file; empty if it cannot be read, so nothing is found in it.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn file(path: &str, needed: &str) -> Result<String, String> {
    if Path::new(path).exists() { Ok(path.to_owned()) } else { Err(format!("no {path}: boot {needed}")) }
}

fn kernel(release: &str) -> Result<String, String> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 10) => Ok(release.to_owned()),
        _ => Err(format!("{release} is too old: boot 5.10 or later")),
    }
}

fn bpffs(path: &Path) -> Result<String, String> {
    let is_mounted =
        statfs(path).map_err(io::Error::from).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    let path = path.display();
    if is_mounted {
        Ok(path.to_string())
    } else {
        Err(format!("mount it: mount -t bpf -o mode=0700 bpf {path}"))
    }
}

/// How programs can be attached to interfaces: tcx is built in since Linux 6.6; clsact may be a module.
fn attachment(symbols: &str, modules: &str) -> Result<String, String> {
    let has = |symbol: &str| symbols.lines().any(|line| line.split_whitespace().nth(2) == Some(symbol));
    let loadable = |module: &str| modules.contains(&format!("/{module}.ko"));
    if has("tcx_link_attach") {
        Ok("tcx".to_owned())
    } else if (has("clsact_init") || loadable("sch_ingress"))
        && (has("cls_bpf_classify") || loadable("cls_bpf"))
    {
        Ok("clsact".to_owned())
    } else {
        Err("neither tcx nor clsact: boot 6.6 or later, or one with the modules sch_ingress and cls_bpf"
            .to_owned())
    }
}

/// The packet filter, for traffic to other hosts and for published ports.
fn nft(places: &[&str]) -> Result<String, String> {
    match places.iter().find(|place| Path::new(place).exists()) {
        Some(place) => Ok((*place).to_owned()),
        None => Err("install nftables 0.9.4 or later".to_owned()),
    }
}

fn forwarding(setting: &str) -> Result<String, String> {
    match setting.trim() {
        "1" => Ok("1".to_owned()),
        _ => Err("the daemon sets it; by hand: sysctl -w net.ipv4.ip_forward=1".to_owned()),
    }
}

/// Foreign chains that drop unmatched packets.
fn foreign_chains(told: &[ForeignChain]) -> Vec<Check> {
    let check = |finding| Check { subject: "firewall", finding };
    if told.is_empty() {
        return vec![check(Finding::Good("no chain of another program drops container traffic".to_owned()))];
    }
    let finding = |ForeignChain { chain, state, text }: &ForeignChain| {
        let text = format!("{chain} {text}");
        match state {
            ForeignChainState::Answered => Finding::Good(text),
            ForeignChainState::Closed => Finding::Note(text),
            ForeignChainState::Refused => Finding::Missing(text),
        }
    };
    told.iter().map(|chain| check(finding(chain))).collect()
}

/// The maximum number of neighbours in all network namespaces together. Only the initial namespace has the setting.
fn neighbours(limit: &str) -> Result<String, String> {
    const ENOUGH: u32 = 65536;
    match limit.trim().parse::<u32>() {
        Err(_) => Ok("only the initial network namespace has the limit".to_owned()),
        Ok(limit) if limit >= ENOUGH => Ok(limit.to_string()),
        Ok(limit) => Err(format!(
            "all containers together may have {limit} neighbours, and 32 containers that talk to each other need as \
             many; the daemon raises the limit; by hand: sysctl -w net.ipv4.neigh.default.gc_thresh3={ENOUGH}"
        )),
    }
}

/// A queueing discipline on a host device or on the host side of a container's veth pair.
fn shaping(discipline: &str) -> Check {
    let finding = Finding::Note(format!(
        "{discipline} is bypassed by traffic between containers and from the host to containers; set it on the \
         container's own interface (nsenter -n tc …)"
    ));
    Check { subject: "shaping", finding }
}

/// Networks and endpoints that may use more than their leases.
fn open(told: &[String]) -> Option<Check> {
    (!told.is_empty()).then(|| Check { subject: "open", finding: Finding::Note(told.join("; ")) })
}

/// Who answers the queries of containers.
fn names(Names { state, containers, text, without_filter }: &Names) -> Check {
    let finding = match state {
        NamesState::Kernel => {
            let good = format!("answered in the kernel, for {containers} containers");
            match without_filter.is_empty() {
                true => Finding::Good(good),
                false => Finding::Note(format!("{good}; by the responder for {}", without_filter.join(", "))),
            }
        }
        NamesState::Off => {
            Finding::Note("answered by the responder (netbpf daemon --fast-names=off)".to_owned())
        }
        NamesState::Lacking => {
            Finding::Note(format!("answered by the responder, because the kernel cannot: {text}"))
        }
    };
    Check { subject: "names", finding }
}

/// Whether packets of established flows skip the host's stack.
fn flows(Flows { state, count, hindrances }: &Flows) -> Check {
    let finding = match state {
        FlowsState::Off => Finding::Good(
            "not requested; to let established ones skip the host's stack: netbpf daemon --fast-flows=on"
                .to_owned(),
        ),
        FlowsState::Fast => Finding::Good(format!("{count} skip the host's stack")),
        FlowsState::Hindered => {
            Finding::Note(format!("{count} skip the host's stack; in the way: {}", hindrances.join("; ")))
        }
    };
    Check { subject: "flows", finding }
}

/// What somebody changed on the host, and the daemon repaired.
fn repaired(Repair { text, count, last }: &Repair, now: Timestamp) -> Check {
    let ago = human::duration(now.as_second() - last.as_second());
    let times = if *count == 1 { String::new() } else { format!("{count} times, the last ") };
    Check { subject: "repaired", finding: Finding::Note(format!("{text} ({times}{ago} ago)")) }
}

/// The uplinks with XDP programs. Whether a driver supports native XDP is known only after the attempt.
fn uplinks(told: &[Uplink], routes: &str) -> Vec<Check> {
    let check = |finding: Result<String, String>| Check { subject: "xdp", finding: finding.into() };
    if told.is_empty() {
        let uplink = default_uplink(routes).unwrap_or("INTERFACE");
        return vec![check(Ok(format!("not requested; to drop floods early: netbpf daemon --xdp {uplink}")))];
    }
    let finding = |uplink: &Uplink| {
        let Uplink { interface, mode, trouble } = uplink;
        match (trouble.as_str(), mode.as_str()) {
            ("", "generic") => {
                Ok(format!("{interface}: generic; native costs less if the driver supports it"))
            }
            ("", mode) => Ok(format!("{interface}: {mode}")),
            (trouble, _) => Err(trouble.to_owned()),
        }
    };
    told.iter().map(|uplink| check(finding(uplink))).collect()
}

/// The interface of the default route (`/proc/net/route`: name, destination, …, with the mask in field 8).
fn default_uplink(routes: &str) -> Option<&str> {
    routes.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000")).then_some(words[0])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_5_10_on_are_supported() {
        for release in ["5.10.0-32-cloud-amd64", "6.1", "6.18.44+", "10.0"] {
            assert_eq!(kernel(release), Ok(release.to_owned()));
        }
        for release in ["5.9.1", "4.19", ""] {
            assert_eq!(kernel(release), Err(format!("{release} is too old: boot 5.10 or later")));
        }
    }

    #[test]
    fn attachments() {
        let tcx = "0000000000000000 T tcx_link_attach\n0000000000000000 t clsact_init\n";
        assert_eq!(attachment(tcx, ""), Ok("tcx".to_owned()));
        let builtin = "0000000000000000 t clsact_init\n0000000000000000 t cls_bpf_classify\t[cls_bpf]\n";
        assert_eq!(attachment(builtin, ""), Ok("clsact".to_owned()));
        let modules = "kernel/net/sched/sch_ingress.ko.xz:\nkernel/net/sched/cls_bpf.ko.xz:\n";
        assert_eq!(attachment("", modules), Ok("clsact".to_owned()));
        assert!(attachment("0000000000000000 t not_clsact_init\n", "").is_err());
    }

    #[test]
    fn tools_and_settings() {
        assert_eq!(nft(&["/no/nft", "/proc/version"]), Ok("/proc/version".to_owned()));
        assert!(nft(&["/no/nft"]).is_err());
        assert_eq!(forwarding("1\n"), Ok("1".to_owned()));
        assert!(forwarding("0\n").is_err());
        assert_eq!(neighbours("65536\n"), Ok("65536".to_owned()));
        assert!(neighbours("1024\n").unwrap_err().contains("1024 neighbours"));
        assert!(neighbours("").is_ok());
    }

    #[test]
    fn uplinks_are_shown_as_the_daemon_reports_them() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\n\
                      eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n";
        let said = |told: &[Uplink]| uplinks(told, routes).into_iter().next().expect("a check").finding;
        let choice = "not requested; to drop floods early: netbpf daemon --xdp eth0";
        assert_eq!(said(&[]), Finding::Good(choice.to_owned()));
        let uplink = |mode: &str, trouble: &str| Uplink {
            interface: "eth0".to_owned(),
            mode: mode.to_owned(),
            trouble: trouble.to_owned(),
        };
        assert_eq!(said(&[uplink("native", "")]), Finding::Good("eth0: native".to_owned()));
        let Finding::Good(generic) = said(&[uplink("generic", "")]) else { panic!("attached") };
        assert!(generic.starts_with("eth0: generic"), "{generic}");
        assert_eq!(said(&[uplink("native", "no native XDP")]), Finding::Missing("no native XDP".to_owned()));
    }

    #[test]
    fn foreign_chains_are_listed() {
        let said = |told: &[ForeignChain]| foreign_chains(told).into_iter().next().expect("a check").finding;
        assert_eq!(
            said(&[]),
            Finding::Good("no chain of another program drops container traffic".to_owned())
        );
        let chain = |state| ForeignChain { chain: "ip filter INPUT".into(), state, text: "drops".into() };
        let text = || "ip filter INPUT drops".to_owned();
        assert_eq!(said(&[chain(ForeignChainState::Answered)]), Finding::Good(text()));
        assert_eq!(said(&[chain(ForeignChainState::Closed)]), Finding::Note(text()));
        assert_eq!(said(&[chain(ForeignChainState::Refused)]), Finding::Missing(text()));
    }

    #[test]
    fn what_is_open_is_one_line_and_nothing_is_none() {
        let (console, _) = Console::of_test();
        assert!(open(&[]).is_none());
        let told = ["all in lab (guard off)", "web in mynet (addresses 10.1.0.9)"].map(str::to_owned);
        let check = open(&told).expect("a check");
        assert_eq!(
            line(&check, &console),
            "note     open         all in lab (guard off); web in mynet (addresses 10.1.0.9)"
        );
    }

    #[test]
    fn it_is_told_who_answers_names() {
        let said = |state, containers, text: &str| {
            let without_filter = Vec::new();
            names(&Names { state, containers, text: text.to_owned(), without_filter }).finding
        };
        let good = Finding::Good("answered in the kernel, for 3 containers".to_owned());
        assert_eq!(said(NamesState::Kernel, 3, ""), good);
        let off = "answered by the responder (netbpf daemon --fast-names=off)";
        assert_eq!(said(NamesState::Off, 0, ""), Finding::Note(off.to_owned()));
        let lacking = "answered by the responder, because the kernel cannot: no clsact";
        assert_eq!(said(NamesState::Lacking, 0, "no clsact"), Finding::Note(lacking.to_owned()));
        let without_filter = ["web (no room)", "db (taken)"].map(str::to_owned).to_vec();
        let some = Names { state: NamesState::Kernel, containers: 3, text: String::new(), without_filter };
        let left = "answered in the kernel, for 3 containers; by the responder for web (no room), db (taken)";
        assert_eq!(names(&some).finding, Finding::Note(left.to_owned()));
    }

    #[test]
    fn it_is_told_what_keeps_flows_in_the_stack() {
        let said = |state, hindrances: &[&str]| {
            let hindrances = hindrances.iter().map(|&text| text.to_owned()).collect();
            flows(&Flows { state, count: 3, hindrances }).finding
        };
        assert_eq!(said(FlowsState::Fast, &[]), Finding::Good("3 skip the host's stack".to_owned()));
        let off =
            "not requested; to let established ones skip the host's stack: netbpf daemon --fast-flows=on";
        assert_eq!(said(FlowsState::Off, &[]), Finding::Good(off.to_owned()));
        let hindered = "3 skip the host's stack; in the way: ip rules; policies";
        assert_eq!(said(FlowsState::Hindered, &["ip rules", "policies"]), Finding::Note(hindered.to_owned()));
    }

    #[test]
    fn a_repair_is_shown_with_how_often_and_when() {
        let now = Timestamp::from_second(1_000).unwrap();
        let said = |count, ago: i64| {
            let last = Timestamp::from_second(1_000 - ago).unwrap();
            repaired(&Repair { text: "somebody set eth0 down".to_owned(), count, last }, now).finding
        };
        let note = |text: &str| Finding::Note(text.to_owned());
        assert_eq!(said(1, 5), note("somebody set eth0 down (5 seconds ago)"));
        assert_eq!(said(3, 120), note("somebody set eth0 down (3 times, the last 2 minutes ago)"));
    }

    #[test]
    fn a_missing_requirement_is_shown_with_its_remedy() {
        let (console, _) = Console::of_test();
        let check = Check { subject: "ip_forward", finding: forwarding("0").into() };
        assert_eq!(
            line(&check, &console),
            "missing  ip_forward   the daemon sets it; by hand: sysctl -w net.ipv4.ip_forward=1"
        );
    }
}
