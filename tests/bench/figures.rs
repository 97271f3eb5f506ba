//! Figures: measurements of several subjects in the same rounds, and their statistics. Pure.
//!
//! The samples of one round are taken right after each other, so that noise of the machine affects all subjects alike.
//! Therefore ratios and differences are computed for each round and then reduced to their median, never the other way
//! round.

/// The subject of a measurement: a column of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A veth pair between two namespaces: the upper limit.
    Bare,
    /// Docker's bridge without br_netfilter, as in Docker since 28.
    Bridge,
    /// Docker's bridge with br_netfilter, as in Docker up to 27, and with `icc=false`.
    Filtered,
    /// The Docker engine as a whole: its command line, its DNS server.
    Docker,
    /// Another build of netbpf (`--against`).
    Against,
    /// netbpf.
    Netbpf,
    /// A network of netbpf whose containers send packets of up to 256 KB, whatever the uplinks accept.
    Large,
    /// A network of netbpf with `netbpf.guard=off`: it learns MACs, like a bridge.
    Unguarded,
}

impl Subject {
    /// All subjects in the order of the columns.
    pub const ALL: [Self; 8] = [
        Self::Bare,
        Self::Bridge,
        Self::Filtered,
        Self::Docker,
        Self::Against,
        Self::Netbpf,
        Self::Large,
        Self::Unguarded,
    ];

    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare veth",
            Self::Bridge => "bridge",
            Self::Filtered => "br_netfilter",
            Self::Docker => "Docker",
            Self::Against => "other netbpf",
            Self::Netbpf => "netbpf",
            Self::Large => "netbpf, 256 KB",
            Self::Unguarded => "netbpf, guard off",
        }
    }
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// 10⁹ bits per second.
    Gigabits,
    /// Thousands per second: packets, connections, queries.
    Thousands,
    /// Seconds of CPU time per 10⁹ bytes.
    CpuPerGigabyte,
    /// Seconds of CPU time per 10⁶ packets.
    CpuPerMillion,
    /// 10⁶ bytes.
    Megabytes,
    /// Number of containers.
    Containers,
}

impl Unit {
    /// Whether larger numbers are better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::Gigabits | Self::Thousands)
    }

    /// The symbol behind numbers.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Gigabits => "Gbit/s",
            Self::Thousands => "k/s",
            Self::CpuPerGigabyte => "CPU s/GB",
            Self::CpuPerMillion => "CPU s/million",
            Self::Megabytes => "MB",
            Self::Containers => "",
        }
    }
}

/// A line of the tables.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The scene of the figure.
    pub scene: &'static str,
    /// The description of the measurement, which identifies the figure.
    pub name: String,
    /// The unit of its numbers.
    pub unit: Unit,
    /// One number per round for each subject.
    pub samples: Vec<(Subject, Vec<f64>)>,
}

impl Figure {
    /// The samples of a subject, by round.
    pub fn of(&self, subject: Subject) -> Option<&[f64]> {
        self.samples.iter().find(|(of, _)| *of == subject).map(|(_, values)| values.as_slice())
    }

    /// The median and quartiles of a subject's samples.
    pub fn spread(&self, subject: Subject) -> Option<Spread> {
        Spread::of(self.of(subject)?)
    }

    /// The samples of one subject divided by another's in the same round.
    pub fn ratio(&self, subject: Subject, to: Subject) -> Option<Spread> {
        ratio(self.of(subject)?, self.of(to)?)
    }

    /// How many times better one subject is than another, from samples of the same round: faster, or more.
    pub fn times_better(&self, subject: Subject, than: Subject) -> Option<Spread> {
        if self.unit.more_is_better() { self.ratio(subject, than) } else { self.ratio(than, subject) }
    }

    /// The samples of one subject minus another's in the same round.
    pub fn difference(&self, subject: Subject, above: Subject) -> Option<Spread> {
        Spread::of(&pairs(self.of(subject)?, self.of(above)?, |a, b| a - b))
    }

    /// The overhead of one subject over [`Subject::Bare`], divided by another's. The differences are computed for each
    /// round, but then their medians are divided, because a single difference may be close to zero.
    pub fn overhead_ratio(&self, subject: Subject, to: Subject) -> Option<f64> {
        let above = |subject| Some(self.difference(subject, Subject::Bare)?.median);
        let (above, others) = (above(subject)?, above(to)?);
        (others > 0.0).then(|| above / others)
    }
}

/// Ratios of samples from the same rounds.
pub fn ratio(values: &[f64], to: &[f64]) -> Option<Spread> {
    Spread::of(&pairs(values, to, |a, b| a / b))
}

fn pairs(values: &[f64], to: &[f64], combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    values.iter().zip(to).map(|(a, b)| combine(*a, *b)).filter(|value| value.is_finite()).collect()
}

/// The median and quartiles of samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lower quartile.
    pub lower: f64,
    /// The upper quartile.
    pub upper: f64,
}

impl Spread {
    /// Of any number of samples; `None` if there are none. Ignores NaN, which stands for a round without a result.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            lower: quantile(&sorted, 0.25)?,
            upper: quantile(&sorted, 0.75)?,
        })
    }

    /// Half the distance between the quartiles.
    pub fn half_width(self) -> f64 {
        (self.upper - self.lower) / 2.0
    }
}

/// A quantile of sorted samples, with linear interpolation.
pub fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = part * last as f64;
    let below = place.floor();
    let (low, high) = (sorted[below as usize], sorted[(below as usize + 1).min(last)]);
    Some(low + (high - low) * (place - below))
}

/// A figure for tests: three rounds with the same value for each subject.
#[cfg(test)]
pub fn steady(name: &str, unit: Unit, samples: &[(Subject, f64)]) -> Figure {
    let samples = samples.iter().map(|(subject, value)| (*subject, vec![*value; 3])).collect();
    Figure { scene: "", name: name.to_owned(), unit, samples }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(samples: &[(Subject, &[f64])]) -> Figure {
        Figure {
            scene: "round-trip",
            name: "UDP".to_owned(),
            unit: Unit::Microseconds,
            samples: samples.iter().map(|(subject, values)| (*subject, values.to_vec())).collect(),
        }
    }

    #[test]
    fn the_median_is_in_the_middle_and_the_quartiles_around_it() {
        let spread = Spread::of(&[5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, lower: 2.0, upper: 4.0 });
        assert_eq!(spread.half_width(), 1.0);
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(&[7.0]).unwrap(), Spread { median: 7.0, lower: 7.0, upper: 7.0 });
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[f64::NAN, 7.0]).unwrap().median, 7.0);
    }

    /// The rounds differ by more than the subjects, so medians of each subject would be useless.
    #[test]
    fn ratios_are_of_the_same_round() {
        let noisy = figure(&[
            (Subject::Bridge, &[2.0, 20.0, 4.0, 100.0, 8.0]),
            (Subject::Netbpf, &[1.0, 10.0, 2.0, 50.0, 4.0]),
        ]);
        assert_eq!(noisy.ratio(Subject::Netbpf, Subject::Bridge).unwrap().median, 0.5);
        assert_eq!(noisy.ratio(Subject::Netbpf, Subject::Docker), None);
    }

    #[test]
    fn overhead_is_what_is_above_the_bare_pair() {
        let measured = figure(&[
            (Subject::Bare, &[3.0, 6.0, 3.0]),
            (Subject::Bridge, &[3.5, 7.0, 3.5]),
            (Subject::Netbpf, &[3.1, 6.2, 3.1]),
        ]);
        let ratio = measured.overhead_ratio(Subject::Netbpf, Subject::Bridge).unwrap();
        assert!((ratio - 0.2).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn an_overhead_of_nothing_is_no_measure() {
        let measured =
            figure(&[(Subject::Bare, &[3.0]), (Subject::Bridge, &[3.0]), (Subject::Netbpf, &[3.1])]);
        assert_eq!(measured.overhead_ratio(Subject::Netbpf, Subject::Bridge), None);
    }

    #[test]
    fn quantiles_are_on_the_line_between_neighbours() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&sorted, 0.99), Some(99.0));
        assert_eq!(quantile(&[0.0, 10.0], 0.25), Some(2.5));
    }
}
