//! The rounds of the soak: what each does to the host. Must not know how the host is judged.

use std::time::{Duration, Instant};

use super::{Soak, eventually};
use crate::{
    alone::hitless::{REPLACEMENTS, only_present_programs_are_attached},
    kill::{Faults, Walk, kill_somewhere},
    load,
    pins::folder,
    repair::{THEIRS, host_side},
    shape::Shape,
};

/// One kind of round.
pub struct Round {
    pub name: &'static str,
    pub run: fn(&mut Soak<'_>),
    /// The traffic that it may cut.
    pub cuts: &'static [&'static str],
}

/// Rounds after which the daemon and the responder are the same processes as before.
pub const CALM: &[Round] = &[
    Round { name: "commands and failing calls", run: |soak| walk(soak, Faults::WithoutKills), cuts: &[] },
    Round { name: "containers that start and stop", run: start_and_stop, cuts: &[] },
    Round { name: "many clients, and a full subnet", run: many_clients, cuts: &[] },
    Round { name: "no descriptors left", run: no_descriptors, cuts: &[] },
    Round { name: "changes by others", run: |soak| changes_by_others(soak, CHANGES), cuts: &[] },
    Round {
        name: "changes of the packet filter by others",
        run: |soak| changes_by_others(soak, FILTER_CHANGES),
        cuts: &["to another host", "to a published port", "by one connection", "by new connections"],
    },
];

/// Rounds in which processes are killed and replaced.
pub const ROUGH: &[Round] = &[
    Round { name: "commands and kills", run: |soak| walk(soak, Faults::All), cuts: &[] },
    Round { name: "kills at fault points", run: kills, cuts: &[] },
    Round { name: "restarts and upgrades", run: replacements, cuts: &[] },
];

#[track_caller]
fn walk(soak: &mut Soak<'_>, faults: Faults) {
    let seed = soak.random.below(1_000_000) as u64;
    let mut walk = Walk::start(soak.lab, seed, faults);
    for _ in 0..soak.dose(4, 20) {
        walk.step();
    }
    soak.counts.operations += walk.steps;
    soak.counts.kills += walk.kills;
    soak.counts.responder_kills += walk.responder_kills;
    soak.counts.failures += walk.failures;
    walk.leave();
}

#[track_caller]
fn start_and_stop(soak: &mut Soak<'_>) {
    // Clients that never end their requests delay nobody.
    let slow = load::half_requests(soak.lab);
    soak.counts.operations += load::start_and_stop(soak.lab, soak.dose(1, 5));
    drop(slow);
}

#[track_caller]
fn many_clients(soak: &mut Soak<'_>) {
    let time = Duration::from_millis(soak.dose(500, 2000));
    soak.counts.operations += load::mixed(soak.lab, time);
    soak.remove_containers();
    load::fill_the_small_subnet(soak.lab);
}

#[track_caller]
fn no_descriptors(soak: &mut Soak<'_>) {
    load::without_descriptors(soak.lab, |_| ());
}

#[track_caller]
fn kills(soak: &mut Soak<'_>) {
    for _ in 0..soak.dose(2, 6) {
        soak.counts.kills += u64::from(kill_somewhere(soak.lab, &mut soak.random));
        soak.counts.operations += 1;
        soak.clear();
    }
}

#[track_caller]
fn replacements(soak: &mut Soak<'_>) {
    for (_, replace) in REPLACEMENTS {
        replace(soak.lab);
        only_present_programs_are_attached(soak.lab);
        soak.counts.replacements += 1;
    }
}

/// What others do: a shell script, and what the log then says. `$veth` and `$inside` are the host side of a container and
/// the PID of its first process, `$device` is its network's, `$pins` is the directory of the pins.
type Change = (&'static str, &'static str);

const CHANGES: &[Change] = &[
    ("bpftool link detach pinned $pins/links/$veth", "took netbpf's program from "),
    ("rm $pins/maps/FDB $pins/programs/from_host $pins/links/$device", "pinned again"),
    ("rm -rf $pins || true", "pinned again"),
    ("ip link del $veth", "it is made again"),
    ("nsenter -t $inside -n ip link del eth0", "it is made again"),
    ("ip addr flush dev $device", "put back address"),
    ("ip link del $device", "it is made again"),
];

const FILTER_CHANGES: &[Change] = &[
    ("nft flush table inet netbpf", "netbpf's part is put in place again"),
    ("nft delete table inet netbpf", "netbpf's part is put in place again"),
    ("sysctl -qw net.ipv4.ip_forward=0", "somebody set net.ipv4.ip_forward to 0"),
];

/// Others change things, and the daemon restores them.
#[track_caller]
fn changes_by_others(soak: &mut Soak<'_>, changes: &[Change]) {
    let lab = soak.lab;
    lab.network("red", "--subnet 10.70.0.0/24");
    lab.run("web", "--net red -p 8080:80");
    lab.host(["nft", THEIRS]).ok();
    let whole = Shape::of(lab);
    for (script, said) in changes {
        let variables = format!(
            "veth={} inside={} device={} pins={}; {script}",
            host_side(lab, "web", "red"),
            lab.pid("web"),
            lab.device("red"),
            folder()
        );
        let logged = lab.daemon_log().len();
        let began = Instant::now();
        lab.host(["sh", "-ec", &variables]).ok();
        eventually(&format!("{said:?} in the log after {script}"), || {
            lab.daemon_log()[logged..].contains(said).then_some(())
        });
        soak.await_state(&whole, script);
        soak.counts.repairs += 1;
        soak.counts.longest_repair = soak.counts.longest_repair.max(began.elapsed());
    }
    lab.host(["ping", "-c1", "-W2", &lab.address("web", "red")]).ok();
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
}
