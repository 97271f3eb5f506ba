//! The limits that a runtime or a pod asks for, as options of the endpoint: the capability `bandwidth`, by the rules of
//! CNI's own plugin of that name, and the annotations of Kubernetes. What the options may be, the daemon knows.

use std::collections::BTreeMap;

use super::{
    configuration::{Bandwidth, RuntimeConfig},
    error::{Code, Error},
};

const INGRESS_RATE: &str = "netbpf.ingress_rate";
const INGRESS_BURST: &str = "netbpf.ingress_burst";
const EGRESS_RATE: &str = "netbpf.egress_rate";
const EGRESS_BURST: &str = "netbpf.egress_burst";

/// The annotations of a pod, and the options that they stand for.
const ANNOTATIONS: [(&str, &str); 2] =
    [("kubernetes.io/ingress-bandwidth", INGRESS_RATE), ("kubernetes.io/egress-bandwidth", EGRESS_RATE)];

/// The burst in bits by which runtimes say that they ask for none.
const ANY_BURST: u64 = 0xffff_ffff;

/// The suffixes of a quantity of Kubernetes.
const SUFFIXES: [(&str, f64); 14] = [
    ("", 1.0),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

/// The options. What the runtime asks for has priority over the annotations.
///
/// # Errors
/// [`Code::Configuration`] for a rate without a burst, a burst without a rate, one of 4 GiB or more, and an annotation that
/// is no quantity.
pub fn options(runtime: &RuntimeConfig) -> Result<BTreeMap<String, String>, Error> {
    let mut options = BTreeMap::new();
    for (annotation, option) in ANNOTATIONS {
        if let Some(text) = runtime.annotations.get(annotation) {
            let bits = quantity(text).ok_or_else(|| {
                let message = format!("{annotation}: {} is no quantity such as 10M", text.escape_debug());
                Error::new(Code::Configuration, message)
            })?;
            options.insert(option.to_owned(), bits.to_string());
        }
    }
    let Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst } = runtime.bandwidth;
    for (rate, burst, names) in [
        (ingress_rate, ingress_burst, ["ingress", INGRESS_RATE, INGRESS_BURST]),
        (egress_rate, egress_burst, ["egress", EGRESS_RATE, EGRESS_BURST]),
    ] {
        let [way, rate_option, burst_option] = names;
        let Some(burst) = checked(rate, burst)
            .map_err(|reason| Error::new(Code::Configuration, format!("bandwidth, {way}: {reason}")))?
        else {
            continue;
        };
        options.insert(rate_option.to_owned(), rate.to_string());
        if burst != ANY_BURST {
            options.insert(burst_option.to_owned(), (burst / 8).max(1).to_string());
        }
    }
    Ok(options)
}

/// The burst in bits; none if there is no limit.
fn checked(rate: u64, burst: u64) -> Result<Option<u64>, &'static str> {
    match (rate, burst) {
        (0, 0) => Ok(None),
        (0, _) => Err("if burst is set, rate must also be set"),
        (_, 0) => Err("if rate is set, burst must also be set"),
        (_, burst) if burst / 8 >= u64::from(u32::MAX) => Err("burst cannot be more than 4GB"),
        (_, burst) => Ok(Some(burst)),
    }
}

/// Parses a quantity of Kubernetes: a decimal number with a suffix or an exponent. Rounded up, as there.
fn quantity(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let factor = match SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        Some((_, factor)) => *factor,
        None => 10_f64.powi(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let number = digits.parse::<f64>().ok().filter(|_| digits.contains(|c: char| c.is_ascii_digit()))?;
    Some((number * factor).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::configuration::Configuration;

    fn asked(runtime: &str) -> Result<Vec<String>, Error> {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"n","runtimeConfig":{runtime}}}"#);
        let options = options(&Configuration::parse(text.as_bytes())?.runtime)?;
        Ok(options.iter().map(|(key, value)| format!("{key}={value}")).collect())
    }

    #[test]
    fn rates_are_in_bits_and_bursts_of_runtimes_too() {
        let all = r#"{"bandwidth":{"ingressRate":10000000,"ingressBurst":800000,"egressRate":5000000,"egressBurst":8}}"#;
        assert_eq!(
            asked(all).unwrap(),
            [
                "netbpf.egress_burst=1",
                "netbpf.egress_rate=5000000",
                "netbpf.ingress_burst=100000",
                "netbpf.ingress_rate=10000000",
            ]
        );
        // containerd
        let of_go = r#"{"bandwidth":{"IngressRate":10000000,"IngressBurst":4294967295,"EgressRate":0,"EgressBurst":0}}"#;
        assert_eq!(asked(of_go).unwrap(), ["netbpf.ingress_rate=10000000"]);
        for none in [r#"{"bandwidth":null}"#, "{}", r#"{"bandwidth":{}}"#] {
            assert!(asked(none).unwrap().is_empty(), "{none}");
        }
    }

    #[test]
    fn the_rules_of_cnis_plugin_hold() {
        for (bandwidth, message) in [
            (r#"{"ingressRate":1000}"#, "bandwidth, ingress: if rate is set, burst must also be set"),
            (r#"{"egressBurst":1000}"#, "bandwidth, egress: if burst is set, rate must also be set"),
            (
                r#"{"ingressRate":1000,"ingressBurst":34359738360}"#,
                "bandwidth, ingress: burst cannot be more than 4GB",
            ),
        ] {
            let error = asked(&format!(r#"{{"bandwidth":{bandwidth}}}"#)).unwrap_err();
            assert_eq!((error.code, &*error.message), (Code::Configuration, message));
        }
        let negative = asked(r#"{"bandwidth":{"ingressRate":-1,"ingressBurst":1}}"#).unwrap_err();
        assert_eq!(negative.code, Code::Decoding);
    }

    #[test]
    fn annotations_are_quantities() {
        for (text, bits) in [
            ("10M", 10_000_000),
            ("1Gi", 1 << 30),
            ("1.5k", 1500),
            ("1500", 1500),
            ("2e6", 2_000_000),
            ("1m", 1),
        ] {
            assert_eq!(quantity(text), Some(bits), "{text}");
        }
        for text in ["", "M", "10 M", "10MB", "-5M", ".", "1.2.3", "eM", "fast"] {
            assert_eq!(quantity(text), None, "{text}");
        }
        let pod = |text: &str| {
            format!(
                r#"{{"io.kubernetes.cri.pod-annotations":{{"kubernetes.io/egress-bandwidth":"{text}"}}}}"#
            )
        };
        assert_eq!(asked(&pod("10M")).unwrap(), ["netbpf.egress_rate=10000000"]);
        let refused = asked(&pod("fast")).unwrap_err();
        assert_eq!(refused.message, "kubernetes.io/egress-bandwidth: fast is no quantity such as 10M");
    }
}
