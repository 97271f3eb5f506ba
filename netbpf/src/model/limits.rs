//! How much an endpoint may receive and send: the options `netbpf.ingress_rate`, `netbpf.ingress_burst`,
//! `netbpf.egress_rate` and `netbpf.egress_burst` of networks and endpoints. As in CNI and Kubernetes, ingress is towards
//! the container. Must not know queueing disciplines or maps.

use std::{fmt, str::FromStr};

use super::options::{BadOption, bad};

const INGRESS_RATE: &str = "netbpf.ingress_rate";
const INGRESS_BURST: &str = "netbpf.ingress_burst";
const EGRESS_RATE: &str = "netbpf.egress_rate";
const EGRESS_BURST: &str = "netbpf.egress_burst";

/// What stands for no limit in spite of the network's.
const UNLIMITED: &str = "unlimited";

/// The valid rates, in bits a second.
const RATES: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000;

/// The units of rates, as in `tc`, in bits a second. Those of the first five are shown.
const RATE_UNITS: [(&str, u64); 19] = [
    ("tbit", 1_000_000_000_000),
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
    ("", 1),
    ("kibit", 1 << 10),
    ("mibit", 1 << 20),
    ("gibit", 1 << 30),
    ("tibit", 1 << 40),
    ("bps", 8),
    ("kbps", 8_000),
    ("mbps", 8_000_000),
    ("gbps", 8_000_000_000),
    ("tbps", 8_000_000_000_000),
    ("kibps", 8 << 10),
    ("mibps", 8 << 20),
    ("gibps", 8 << 30),
    ("tibps", 8 << 40),
];

/// The units of bursts, as in `tc`, in bytes. Those of the first four are shown.
const BURST_UNITS: [(&str, u64); 11] = [
    ("g", 1 << 30),
    ("m", 1 << 20),
    ("k", 1 << 10),
    ("", 1),
    ("b", 1),
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("kbit", 128),
    ("mbit", 128 << 10),
    ("gbit", 128 << 20),
];

/// A rate in bits a second; 0 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// In bits a second.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == UNLIMITED {
            return Ok(Self(0));
        }
        match number(text, &RATE_UNITS) {
            Some(bits) if RATES.contains(&bits) => Ok(Self(bits)),
            Some(_) => Err(format!("expected {} to {}", Self(*RATES.start()), Self(*RATES.end()))),
            None => Err("expected a rate such as 500kbit, 10mbit or 1gbit, or unlimited".to_owned()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str(UNLIMITED),
            bits => f.write_str(&shown(bits, &RATE_UNITS[..5])),
        }
    }
}

/// A burst in bytes: how much passes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst(u32);

impl Burst {
    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl FromStr for Burst {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes =
            number(text, &BURST_UNITS).ok_or("expected a number of bytes such as 65536, 64k or 1m")?;
        match u32::try_from(bytes) {
            Ok(bytes @ 1..) => Ok(Self(bytes)),
            Ok(0) => Err("expected at least a frame".to_owned()),
            Err(_) => Err("expected less than 4g".to_owned()),
        }
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.0.into(), &BURST_UNITS[..4]))
    }
}

/// The limit of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its rate.
    pub rate: Rate,
    /// How much passes at once; chosen by the rate if absent.
    pub burst: Option<Burst>,
}

/// The limits in effect for an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of what it receives.
    pub ingress: Option<Limit>,
    /// Of what it sends.
    pub egress: Option<Limit>,
}

impl Limits {
    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        *self != Self::default()
    }
}

/// The user's options for one endpoint, or for all of a network. An absent option is the network's, or the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOptions {
    ingress: OneWay,
    egress: OneWay,
}

/// The options for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OneWay {
    rate: Option<Rate>,
    burst: Option<Burst>,
}

impl OneWay {
    fn or(self, other: Self) -> Self {
        Self { rate: self.rate.or(other.rate), burst: self.burst.or(other.burst) }
    }

    fn limit(self) -> Option<Limit> {
        let rate = self.rate.filter(|rate| rate.0 != 0)?;
        Some(Limit { rate, burst: self.burst })
    }
}

impl LimitOptions {
    /// The names of the options.
    pub const KEYS: [&str; 4] = [INGRESS_RATE, INGRESS_BURST, EGRESS_RATE, EGRESS_BURST];

    /// Sets an option. Returns false if the name is that of no such option.
    ///
    /// # Errors
    /// [`BadOption::Value`] for an invalid value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, BadOption> {
        match key {
            INGRESS_RATE => self.ingress.rate = Some(parse(INGRESS_RATE, value)?),
            INGRESS_BURST => self.ingress.burst = Some(parse(INGRESS_BURST, value)?),
            EGRESS_RATE => self.egress.rate = Some(parse(EGRESS_RATE, value)?),
            EGRESS_BURST => self.egress.burst = Some(parse(EGRESS_BURST, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Removes an option.
    pub fn unset(&mut self, key: &str) {
        match key {
            INGRESS_RATE => self.ingress.rate = None,
            INGRESS_BURST => self.ingress.burst = None,
            EGRESS_RATE => self.egress.rate = None,
            EGRESS_BURST => self.egress.burst = None,
            _ => {}
        }
    }

    /// These options and, for those that are absent, the others.
    pub fn or(self, other: Self) -> Self {
        Self { ingress: self.ingress.or(other.ingress), egress: self.egress.or(other.egress) }
    }

    /// The limits that they make.
    pub fn limits(self) -> Limits {
        Limits { ingress: self.ingress.limit(), egress: self.egress.limit() }
    }

    /// The bursts, with the names of their options.
    pub fn bursts(self) -> impl Iterator<Item = (&'static str, Burst)> {
        let bursts = [(INGRESS_BURST, self.ingress.burst), (EGRESS_BURST, self.egress.burst)];
        bursts.into_iter().filter_map(|(key, burst)| Some((key, burst?)))
    }

    /// The options as the user types them.
    pub fn given(self) -> impl Iterator<Item = (String, String)> {
        let rates = [(INGRESS_RATE, self.ingress.rate), (EGRESS_RATE, self.egress.rate)];
        let rates = rates.into_iter().filter_map(|(key, rate)| Some((key.to_owned(), rate?.to_string())));
        rates.chain(self.bursts().map(|(key, burst)| (key.to_owned(), burst.to_string())))
    }
}

fn parse<T: FromStr<Err = String>>(key: &'static str, value: &str) -> Result<T, BadOption> {
    value.parse().map_err(|reason: String| bad(key, value, reason))
}

/// Parses a decimal number with a unit in any case. None if it is no such text.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let (_, unit) = units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit()) && digits.len() <= 20;
    // A number above the largest one becomes that one.
    digits.parse::<f64>().ok().filter(|_| is_number).map(|number| (number * *unit as f64).round() as u64)
}

/// A number in the largest of the units that gives an integer; these are in descending order.
fn shown(number: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, unit)| number.is_multiple_of(*unit));
    unit.map_or_else(|| number.to_string(), |(name, unit)| format!("{}{name}", number / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_the_units_of_tc_and_are_shown_in_the_largest_one() {
        for (typed, bits, shown) in [
            ("10mbit", 10_000_000, "10mbit"),
            ("10Mbit", 10_000_000, "10mbit"),
            ("1gbit", 1_000_000_000, "1gbit"),
            ("1tbit", 1_000_000_000_000, "1tbit"),
            ("500kbit", 500_000, "500kbit"),
            ("1.5mbit", 1_500_000, "1500kbit"),
            ("1000000", 1_000_000, "1mbit"),
            ("1234bit", 1234, "1234bit"),
            ("1mbps", 8_000_000, "8mbit"),
            ("1kibit", 1024, "1024bit"),
        ] {
            let rate: Rate = typed.parse().expect(typed);
            assert_eq!((rate.bits(), &*rate.to_string()), (bits, shown), "{typed}");
            assert_eq!(shown.parse(), Ok(rate), "{shown}");
        }
        assert_eq!("unlimited".parse(), Ok(Rate(0)));
    }

    #[test]
    fn bursts_have_the_units_of_tc() {
        for (typed, bytes, shown) in
            [("65536", 65536, "64k"), ("64kb", 65536, "64k"), ("1m", 1 << 20, "1m"), ("1600", 1600, "1600")]
        {
            let burst: Burst = typed.parse().expect(typed);
            assert_eq!((burst.bytes(), &*burst.to_string()), (bytes, shown), "{typed}");
            assert_eq!(shown.parse(), Ok(burst), "{shown}");
        }
    }

    #[test]
    fn invalid_values_are_refused_with_the_reason() {
        let rate = "expected a rate such as 500kbit, 10mbit or 1gbit, or unlimited";
        let range = "expected 1kbit to 1tbit";
        for (value, reason) in [
            ("", rate),
            ("fast", rate),
            ("-1", rate),
            ("-5mbit", rate),
            ("10k", rate),
            ("1e6", rate),
            ("1.2.3mbit", rate),
            (".5mbit", rate),
            ("10 mbit", rate),
            ("NaN", rate),
            ("inf", rate),
            ("0", range),
            ("0mbit", range),
            ("999", range),
            ("10tbit", range),
            ("99999999999999999999", range),
        ] {
            for key in [INGRESS_RATE, EGRESS_RATE] {
                let refused = LimitOptions::default().set(key, value).expect_err(value).to_string();
                assert_eq!(refused, format!("failed to parse {key} value: {value} ({reason})"));
            }
        }
        let burst = "expected a number of bytes such as 65536, 64k or 1m";
        for (value, reason) in [
            ("", burst),
            ("x", burst),
            ("-1k", burst),
            ("0", "expected at least a frame"),
            ("4g", "expected less than 4g"),
        ] {
            for key in [INGRESS_BURST, EGRESS_BURST] {
                let refused = LimitOptions::default().set(key, value).expect_err(value).to_string();
                assert_eq!(refused, format!("failed to parse {key} value: {value} ({reason})"));
            }
        }
    }

    #[test]
    fn a_burst_without_a_rate_is_no_limit() {
        let mut options = LimitOptions::default();
        assert_eq!(options.set(INGRESS_BURST, "64k"), Ok(true));
        assert!(!options.limits().is_some());
        assert_eq!(options.set(INGRESS_RATE, "1gbit"), Ok(true));
        assert_eq!(options.set(EGRESS_RATE, "5mbit"), Ok(true));
        let rates = |options: LimitOptions| {
            let Limits { ingress, egress } = options.limits();
            [ingress, egress].map(|limit| limit.map(|limit| limit.rate.to_string()))
        };
        assert_eq!(rates(options), [Some("1gbit".to_owned()), Some("5mbit".to_owned())]);
        let mut own = LimitOptions::default();
        assert_eq!(own.set(EGRESS_RATE, "unlimited"), Ok(true));
        assert_eq!(rates(own.or(options)), [Some("1gbit".to_owned()), None]);
    }
}
