//! What an endpoint may send beyond its lease, how frames reach it, and how much: the options `netbpf.guard`,
//! `netbpf.addresses` and `netbpf.redirect` of networks and endpoints, and those of [`LimitOptions`]. Must not know leases, the kernel or maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    limits::{LimitOptions, Limits},
    options::{BadOption, bad},
};

const GUARD: &str = "netbpf.guard";
const ADDRESSES: &str = "netbpf.addresses";
const REDIRECT: &str = "netbpf.redirect";

/// The most further addresses and subnets of an endpoint.
const MOST: usize = 64;

/// The options in effect for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether the addresses and MACs of its frames are checked.
    pub guard: bool,
    /// Addresses and subnets that it may use besides its leased addresses: sorted, without duplicates, at most
    /// 64.
    pub addresses: Vec<IpNet>,
    /// Whether frames are sent to it by the host side of its veth pair, and not directly into the container's
    /// namespace.
    pub plain: bool,
    /// How much it may receive and send.
    pub limits: Limits,
}

impl Access {
    /// What the endpoint may use besides its leases, in words; none if there is nothing.
    pub fn openness(&self) -> Option<String> {
        match &self.addresses[..] {
            _ if !self.guard => Some("guard off".to_owned()),
            [] => None,
            nets => Some(format!("addresses {}", list(nets))),
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self { guard: true, addresses: Vec::new(), plain: false, limits: Limits::default() }
    }
}

/// The user's options for one endpoint, or for all of a network. An absent option is the network's, or the
/// default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<String, String>", try_from = "BTreeMap<String, String>")]
pub struct AccessOptions {
    guard: Option<bool>,
    /// Sorted, without duplicates.
    addresses: Option<Vec<IpNet>>,
    plain: Option<bool>,
    limits: LimitOptions,
}

impl AccessOptions {
    /// The names of the options.
    pub const KEYS: [&str; 7] = {
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] = LimitOptions::KEYS;
        [ADDRESSES, GUARD, REDIRECT, ingress_rate, ingress_burst, egress_rate, egress_burst]
    };

    /// Sets an option. Returns false if the name is that of no such option.
    ///
    /// # Errors
    /// [`BadOption::Value`] for an invalid value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, BadOption> {
        match key {
            GUARD => self.guard = Some(one_of(GUARD, value, ["off", "on"])?),
            REDIRECT => self.plain = Some(one_of(REDIRECT, value, ["peer", "plain"])?),
            ADDRESSES => self.addresses = Some(addresses(value)?),
            _ => return self.limits.set(key, value),
        }
        Ok(true)
    }

    fn unset(&mut self, key: &str) {
        match key {
            GUARD => self.guard = None,
            REDIRECT => self.plain = None,
            ADDRESSES => self.addresses = None,
            _ => self.limits.unset(key),
        }
    }

    /// The options in effect for an endpoint with these options in a network with the options `network`.
    pub fn within(&self, network: &Self) -> Access {
        Access {
            guard: self.guard.or(network.guard).unwrap_or(true),
            addresses: self.addresses.as_ref().or(network.addresses.as_ref()).cloned().unwrap_or_default(),
            plain: self.plain.or(network.plain).unwrap_or(false),
            limits: self.limits.or(network.limits).limits(),
        }
    }

    /// The listed addresses and subnets.
    pub fn addresses(&self) -> &[IpNet] {
        self.addresses.as_deref().unwrap_or_default()
    }

    /// The listed single addresses.
    pub fn single_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses().iter().filter(|net| is_single(net)).map(IpNet::addr)
    }

    /// The options of limits.
    pub fn limits(&self) -> LimitOptions {
        self.limits
    }

    /// The options as the user types them.
    pub fn given(&self) -> BTreeMap<String, String> {
        let guard = self.guard.map(|guard| if guard { "on" } else { "off" }.to_owned());
        let redirect = self.plain.map(|plain| if plain { "plain" } else { "peer" }.to_owned());
        let addresses = self.addresses.as_ref().map(|nets| list(nets));
        let given = [(ADDRESSES, addresses), (GUARD, guard), (REDIRECT, redirect)];
        let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        given.chain(self.limits.given()).collect()
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A change of an endpoint's or a network's options. An option without a value is removed, so that the network's
/// holds again, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessChange {
    set: AccessOptions,
    unset: Vec<String>,
}

impl AccessChange {
    /// Parses what the user types.
    ///
    /// # Errors
    /// [`BadOption::Value`] for an invalid value; [`BadOption::Fixed`] for an option that cannot be changed.
    pub fn parse(given: BTreeMap<String, String>) -> Result<Self, BadOption> {
        let mut change = Self::default();
        for (key, value) in given {
            let is_known = match value.as_str() {
                "" => AccessOptions::KEYS.contains(&key.as_str()),
                value => change.set.set(&key, value)?,
            };
            if !is_known {
                return Err(BadOption::Fixed(key));
            }
            if value.is_empty() {
                change.unset.push(key);
            }
        }
        Ok(change)
    }

    /// The options after the change.
    pub fn apply(&self, options: &AccessOptions) -> AccessOptions {
        let AccessOptions { guard, addresses, plain, limits } = self.set.clone();
        let mut changed = AccessOptions {
            guard: guard.or(options.guard),
            addresses: addresses.or_else(|| options.addresses.clone()),
            plain: plain.or(options.plain),
            limits: limits.or(options.limits),
        };
        self.unset.iter().for_each(|key| changed.unset(key));
        changed
    }
}

impl From<AccessOptions> for BTreeMap<String, String> {
    fn from(options: AccessOptions) -> Self {
        options.given()
    }
}

impl TryFrom<BTreeMap<String, String>> for AccessOptions {
    type Error = BadOption;

    fn try_from(given: BTreeMap<String, String>) -> Result<Self, BadOption> {
        let mut options = Self::default();
        for (key, value) in given {
            if !options.set(&key, &value)? {
                return Err(BadOption::Unknown(key));
            }
        }
        Ok(options)
    }
}

/// Addresses and subnets as the user types them: an address without the length of its prefix.
fn list(nets: &[IpNet]) -> String {
    let texts = nets.iter().map(|net| if is_single(net) { net.addr().to_string() } else { net.to_string() });
    texts.collect::<Vec<_>>().join(",")
}

fn is_single(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// Whether a value is the second of two words.
fn one_of(key: &'static str, value: &str, words: [&str; 2]) -> Result<bool, BadOption> {
    let [no, yes] = words;
    match value {
        _ if value == no => Ok(false),
        _ if value == yes => Ok(true),
        _ => Err(bad(key, value, format!("expected {no} or {yes}"))),
    }
}

fn addresses(value: &str) -> Result<Vec<IpNet>, BadOption> {
    let refuse = |reason| bad(ADDRESSES, value, reason);
    let nets = value.split(',').map(further).collect::<Result<BTreeSet<IpNet>, _>>().map_err(refuse)?;
    if nets.len() > MOST {
        return Err(refuse(format!("{} addresses and subnets, at most {MOST} are possible", nets.len())));
    }
    Ok(nets.into_iter().collect())
}

/// Parses one further address or subnet. The error is the reason.
fn further(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let net = address.or_else(|_| text.parse()).map_err(|_| match text {
        "" => "an address is missing between two commas, or at an end".to_owned(),
        text => format!("invalid subnet {}: invalid CIDR block notation", text.escape_debug()),
    })?;
    if net != net.trunc() {
        return Err(format!("invalid subnet {net}: it should be {}", net.trunc()));
    }
    // A subnet that has others too may contain such addresses: a router's.
    let first = net.addr();
    let unusable = match (first, net.prefix_len()) {
        (IpAddr::V4(first), 4..) if first.is_multicast() => "multicast",
        (IpAddr::V6(first), 8..) if first.is_multicast() => "multicast",
        (IpAddr::V4(first), 32) if first.is_broadcast() => "broadcast",
        (_, 8..) if first.is_loopback() => "loopback",
        // The maps have IPv4 addresses in this form.
        (IpAddr::V6(first), 96..) if first.to_ipv4_mapped().is_some() => {
            "an IPv4 address in the form of IPv6"
        }
        _ if first.is_unspecified() && is_single(&net) => "unspecified",
        _ => return Ok(net),
    };
    Err(format!("{} is {unusable}: a container cannot have it", list(&[net])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> Result<AccessOptions, String> {
        let given: BTreeMap<_, _> =
            given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        AccessOptions::try_from(given).map_err(|error| error.to_string())
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a subnet")).collect()
    }

    #[test]
    fn without_options_all_is_checked() {
        let none = AccessOptions::default();
        assert_eq!(none.within(&none), Access { plain: false, ..Access::default() });
        assert_eq!(none.within(&none), Access::default());
        assert!(none.given().is_empty());
    }

    #[test]
    fn addresses_are_sorted_and_an_address_alone_is_a_subnet_of_one() {
        let listed = options(&[(ADDRESSES, "2001:db8::/64,10.244.1.0/24,10.5.0.100,10.5.0.100/32,fd00::5")]);
        let listed = listed.expect("addresses");
        let expected = nets(&["10.5.0.100/32", "10.244.1.0/24", "2001:db8::/64", "fd00::5/128"]);
        assert_eq!(listed.within(&AccessOptions::default()).addresses, expected);
        let single: Vec<_> = listed.single_addresses().map(|address| address.to_string()).collect();
        assert_eq!(single, ["10.5.0.100", "fd00::5"]);
        assert_eq!(listed.given()[ADDRESSES], "10.5.0.100,10.244.1.0/24,2001:db8::/64,fd00::5");
    }

    #[test]
    fn a_router_has_all_addresses() {
        let router = options(&[(ADDRESSES, "0.0.0.0/0,::/0")]).expect("all addresses");
        assert_eq!(router.addresses(), nets(&["0.0.0.0/0", "::/0"]));
        assert!(options(&[(ADDRESSES, "0.0.0.0/1,128.0.0.0/1,fe80::1")]).is_ok());
    }

    #[test]
    fn each_option_of_an_endpoint_replaces_that_of_its_network() {
        let network =
            options(&[(GUARD, "off"), (ADDRESSES, "10.1.0.0/16"), (REDIRECT, "plain")]).expect("options");
        let none = AccessOptions::default();
        let all =
            Access { guard: false, addresses: nets(&["10.1.0.0/16"]), plain: true, ..Access::default() };
        assert_eq!(none.within(&network), all);
        let own = |key, value| options(&[(key, value)]).expect("an option").within(&network);
        assert_eq!(own(GUARD, "on"), Access { guard: true, ..all.clone() });
        assert_eq!(own(REDIRECT, "peer"), Access { plain: false, ..all.clone() });
        assert_eq!(own(ADDRESSES, "fd00::/8"), Access { addresses: nets(&["fd00::/8"]), ..all });
    }

    #[test]
    fn a_change_sets_and_removes_options_and_leaves_the_others() {
        let change = |key: &str, value: &str| {
            let given = [(key.to_owned(), value.to_owned())].into();
            AccessChange::parse(given).map_err(|error| error.to_string())
        };
        let mut own = options(&[(GUARD, "on"), (ADDRESSES, "10.1.0.0/16")]).expect("options");
        own = change(GUARD, "off").expect("a change").apply(&own);
        own = change(REDIRECT, "plain").expect("a change").apply(&own);
        let all = [(ADDRESSES, "10.1.0.0/16"), (GUARD, "off"), (REDIRECT, "plain")];
        assert_eq!(Ok(own.clone()), options(&all));
        own = change("netbpf.egress_rate", "10mbit").expect("a change").apply(&own);
        assert_eq!(own.given()["netbpf.egress_rate"], "10mbit");
        for key in AccessOptions::KEYS {
            own = change(key, "").expect("a removal").apply(&own);
            assert!(!own.given().contains_key(key));
            assert_eq!(own, change(key, "").expect("a removal").apply(&own), "it is removed already");
        }
        assert!(own.is_default());
        assert_eq!(AccessChange::default().apply(&own), own);
        for value in ["262144", ""] {
            assert_eq!(
                change("netbpf.gso_max_size", value).expect_err("a fixed option"),
                "netbpf.gso_max_size cannot be changed: only netbpf.addresses, netbpf.guard, netbpf.redirect, \
                 netbpf.ingress_rate, netbpf.ingress_burst, netbpf.egress_rate, netbpf.egress_burst can"
            );
        }
        assert!(change(GUARD, "x").expect_err("no such word").contains("expected off or on"));
    }

    #[test]
    fn what_is_open_is_said_in_words() {
        let said = |given: &[(&str, &str)]| {
            options(given).expect("options").within(&AccessOptions::default()).openness()
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[(REDIRECT, "plain"), (GUARD, "on")]), None);
        assert_eq!(said(&[(GUARD, "off"), (ADDRESSES, "10.1.0.9")]).as_deref(), Some("guard off"));
        let addresses = said(&[(ADDRESSES, "10.1.0.9,::/0")]);
        assert_eq!(addresses.as_deref(), Some("addresses 10.1.0.9,::/0"));
    }

    #[test]
    fn invalid_values_are_refused_with_the_reason() {
        let many: Vec<String> = (0..65).map(|host| format!("10.0.0.{host}")).collect();
        for (key, value, reason) in [
            (GUARD, "no", "expected off or on"),
            (GUARD, "", "expected off or on"),
            (REDIRECT, "Plain", "expected peer or plain"),
            (ADDRESSES, "", "an address is missing between two commas, or at an end"),
            (ADDRESSES, "10.0.0.1,", "an address is missing between two commas, or at an end"),
            (ADDRESSES, "10.0.0.1, 10.0.0.2", "invalid subnet  10.0.0.2: invalid CIDR block notation"),
            (ADDRESSES, "10.0.0.0/33", "invalid subnet 10.0.0.0/33: invalid CIDR block notation"),
            (ADDRESSES, "10.5.0.100/24", "invalid subnet 10.5.0.100/24: it should be 10.5.0.0/24"),
            (ADDRESSES, "fd00::1/8", "invalid subnet fd00::1/8: it should be fd00::/8"),
            (ADDRESSES, "239.1.1.1", "239.1.1.1 is multicast: a container cannot have it"),
            (ADDRESSES, "224.0.0.0/4", "224.0.0.0/4 is multicast: a container cannot have it"),
            (ADDRESSES, "ff02::/16", "ff02::/16 is multicast: a container cannot have it"),
            (ADDRESSES, "255.255.255.255", "255.255.255.255 is broadcast: a container cannot have it"),
            (ADDRESSES, "127.0.0.0/8", "127.0.0.0/8 is loopback: a container cannot have it"),
            (ADDRESSES, "127.8.0.1", "127.8.0.1 is loopback: a container cannot have it"),
            (ADDRESSES, "::1", "::1 is loopback: a container cannot have it"),
            (
                ADDRESSES,
                "::ffff:10.0.0.1",
                "::ffff:10.0.0.1 is an IPv4 address in the form of IPv6: a container cannot have it",
            ),
            (ADDRESSES, "0.0.0.0", "0.0.0.0 is unspecified: a container cannot have it"),
            (ADDRESSES, "::", ":: is unspecified: a container cannot have it"),
            (ADDRESSES, &many.join(","), "65 addresses and subnets, at most 64 are possible"),
        ] {
            let said = format!("failed to parse {key} value: {value} ({reason})");
            assert_eq!(options(&[(key, value)]), Err(said));
        }
        assert!(options(&[(ADDRESSES, &many[..64].join(","))]).is_ok());
    }

    #[test]
    fn options_are_stored_as_the_user_types_them() {
        let given = r#"{"netbpf.addresses":"10.1.0.0/16,fd00::9","netbpf.egress_rate":"10mbit","netbpf.guard":"off","netbpf.ingress_burst":"64k","netbpf.redirect":"plain"}"#;
        let stored: AccessOptions = serde_json::from_str(given).expect("options");
        assert_eq!(serde_json::to_string(&stored).expect("a text"), given);
        for bad in [r#"{"netbpf.guard":"maybe"}"#, r#"{"netbpf.addresses":"127.0.0.1"}"#, r#"{"x":"y"}"#] {
            assert!(serde_json::from_str::<AccessOptions>(bad).is_err(), "{bad} is accepted");
        }
    }
}
