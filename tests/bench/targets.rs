//! netbpf's performance targets, and whether this run meets them. Pure.

use crate::{
    figures::{Figure, Subject, ratio},
    pair::Service,
    scenes::{bulk, commands, names, published, rate, round_trip, scale},
};

/// A target.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The description of the comparison.
    pub what: String,
    /// The required value.
    pub limit: Limit,
    /// The measured value; `None` if a figure for it is missing.
    pub value: Option<f64>,
    /// The unit of the value: `×`, `ms`, ….
    pub unit: &'static str,
}

/// The required value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
}

impl Target {
    /// Whether the target is met; `None` if it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        self.value.map(|value| match self.limit {
            Limit::AtMost(limit) => value <= limit,
            Limit::AtLeast(limit) => value >= limit,
        })
    }
}

/// All targets with the values of this run.
pub fn targets(figures: &[Figure]) -> Vec<Target> {
    use Limit::{AtLeast, AtMost};
    use Subject::{Bare, Bridge, Docker, Filtered, Large, Netbpf, Unguarded};

    let mut targets = Vec::new();
    let find = |name: &str| figures.iter().find(|figure| figure.name == name);
    let mut times = |what: String, limit, value| targets.push(Target { what, limit, value, unit: "×" });

    for service in [Service::UdpEcho, Service::TcpEcho] {
        let name = round_trip::name("", service, true);
        for (to, limit) in [(Bridge, 0.35), (Filtered, 0.15)] {
            let value = find(&name).and_then(|figure| figure.overhead_ratio(Netbpf, to));
            times(format!("{name}: overhead to that of {}", to.name()), AtMost(limit), value);
        }
    }
    let median_ratio =
        |name: &str, to| find(name).and_then(|figure| figure.ratio(Netbpf, to)).map(|ratio| ratio.median);
    for (to, limit) in [(Bridge, 1.15), (Filtered, 1.45), (Bare, 0.93)] {
        times(
            format!("{}: to {}", rate::CARRIED, to.name()),
            AtLeast(limit),
            median_ratio(rate::CARRIED, to),
        );
    }
    // A network that learns costs a little, and is not worse than a bridge.
    for service in [Service::UdpEcho, Service::TcpEcho] {
        let name = round_trip::name("", service, true);
        let value = find(&name).and_then(|figure| figure.ratio(Unguarded, Bare)).map(|ratio| ratio.median);
        times(format!("{name}: {} to {}", Unguarded.name(), Bare.name()), AtMost(1.12), value);
    }
    let value =
        find(rate::CARRIED).and_then(|figure| figure.ratio(Unguarded, Bridge)).map(|ratio| ratio.median);
    times(format!("{}: {} to {}", rate::CARRIED, Unguarded.name(), Bridge.name()), AtLeast(1.0), value);
    for (shares_cpu, limit) in [(false, 1.35), (true, 2.3)] {
        let name = bulk::name(1500, 1, shares_cpu);
        for (subject, to) in [(Netbpf, Bridge), (Netbpf, Filtered), (Large, Bridge), (Large, Filtered)] {
            let value = find(&name).and_then(|figure| figure.ratio(subject, to)).map(|ratio| ratio.median);
            times(format!("{name}: {} to {}", subject.name(), to.name()), AtLeast(limit), value);
        }
    }
    for name in published::figures() {
        for to in [Bridge, Filtered] {
            let value = find(&name).and_then(|figure| better_by(figure, Netbpf, to));
            times(format!("{name}: better than {}", to.name()), AtLeast(1.1), value);
        }
    }
    times(format!("{}: to Docker", names::MEDIAN), AtMost(0.8), median_ratio(names::MEDIAN, Docker));
    times(format!("{}: to Docker", names::RATE), AtLeast(1.5), median_ratio(names::RATE, Docker));
    times(format!("{}: to Docker", commands::CONNECT), AtMost(0.3), median_ratio(commands::CONNECT, Docker));
    let connect = find(commands::CONNECT).and_then(|figure| figure.spread(Netbpf));
    targets.push(Target {
        what: commands::CONNECT.to_owned(),
        limit: AtMost(8.0),
        value: connect.map(|spread| spread.median),
        unit: "ms",
    });
    let beside =
        ratio_of(find(&scale::with(scale::ROUND_TRIP, 3000)), find(&scale::beside(3000)), |large, small| {
            Some(ratio(large.of(Netbpf)?, small.of(Netbpf)?)?.median)
        });
    // Hundreds of commands lie between these two, so they do not come from the same round.
    let later = ratio_of(
        find(&scale::with(scale::CONNECT, 1000)),
        find(&scale::with(scale::CONNECT, 10)),
        |later, early| Some(later.spread(Netbpf)?.median / early.spread(Netbpf)?.median),
    );
    let median = |name: String| find(&name)?.spread(Netbpf).map(|spread| spread.median);
    for (what, limit, value, unit) in [
        ("TCP round trip with 3,000 containers: to one with 2", 1.05, beside, "×"),
        ("connect with 1,000 containers: to one with 10", 1.2, later, "×"),
        ("daemon with 1,000 containers", 60.0, median(scale::with(scale::DAEMON, 1000)), "MB"),
        (
            "woken by an ARP request, of 1,000 containers",
            0.0,
            median(scale::with(scale::ARP, 1000)),
            "containers",
        ),
    ] {
        targets.push(Target { what: what.to_owned(), limit: AtMost(limit), value, unit });
    }
    targets
}

fn ratio_of(
    figure: Option<&Figure>,
    to: Option<&Figure>,
    divide: impl Fn(&Figure, &Figure) -> Option<f64>,
) -> Option<f64> {
    divide(figure?, to?)
}

/// The median of [`Figure::times_better`].
pub fn better_by(figure: &Figure, subject: Subject, than: Subject) -> Option<f64> {
    figure.times_better(subject, than).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Unit, steady};

    #[test]
    fn a_target_is_met_missed_or_not_measured() {
        let round_trip = steady(
            &round_trip::name("", Service::UdpEcho, true),
            Unit::Microseconds,
            &[
                (Subject::Bare, 3.0),
                (Subject::Bridge, 3.5),
                (Subject::Filtered, 4.25),
                (Subject::Netbpf, 3.25),
            ],
        );
        let targets = targets(&[round_trip]);
        let met = |what: &str| {
            targets.iter().find(|target| target.what.contains(what)).map(Target::is_met).expect("a target")
        };
        assert_eq!(met("UDP round trip, one CPU: overhead to that of bridge"), Some(false));
        assert_eq!(met("UDP round trip, one CPU: overhead to that of br_netfilter"), Some(false));
        assert_eq!(met("TCP round trip"), None);
        let exact = Target { what: String::new(), limit: Limit::AtMost(0.5), value: Some(0.5), unit: "×" };
        assert_eq!(exact.is_met(), Some(true));
    }

    #[test]
    fn better_is_less_time_and_more_of_everything_else() {
        let samples = [(Subject::Bridge, 10.0), (Subject::Netbpf, 5.0)];
        let time = steady("t", Unit::Microseconds, &samples);
        assert_eq!(better_by(&time, Subject::Netbpf, Subject::Bridge), Some(2.0));
        let rate = steady("r", Unit::Gigabits, &samples);
        assert_eq!(better_by(&rate, Subject::Netbpf, Subject::Bridge), Some(0.5));
    }
}
