//! Permitted differences in the output, and why: the one place where a difference is removed from a text. All other
//! differences are marked in the steps.

use std::sync::LazyLock;

use regex::Regex;

/// A pattern, its replacement, and the reason.
const NORMAL: &[(&str, &str, &str)] = &[
    (r"\b[0-9a-f]{64}\b", "<ID>", "Docker makes IDs by chance"),
    (r"\b[0-9a-f]{12}\b", "<ID>", "their beginnings too"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-][0-9:]+)", "<TIME>", "the time of day"),
    (r"time=[0-9.]+ ?ms", "time=<TIME>", "how long a round trip took"),
    (r"(round-trip|rtt) .*", "$1 <TIMES>", "the same"),
    (r"time \d+ms", "time <TIME>", "the same"),
    (r#""(bridge|netbpf)""#, r#""<DRIVER>""#, "the word that was typed"),
    (
        r"(?m)(\S+ +)(bridge|netbpf)( +local)$",
        "$1<DRIVER> local",
        "the same, in a table that is as wide as it",
    ),
    (r"(?m)^\d+: (\w+)@if\d+:", "$1:", "the kernel's number of an interface, and of its peer"),
    (r"(?m)^\d+: (\w+)", "$1", "the same"),
    (r"link-netnsid \d+", "link-netnsid <N>", "the kernel's number of a namespace"),
    (r"link tentative ", "link ", "how long it takes to see that nobody else has an address"),
    (r"remote: ", "", "what Docker puts before the words of a driver that is not its own"),
    (r"\b(3[2-9]|4\d|5\d|6[0-5])\d{3}\b", "<PORT>", "any free port of the host"),
];

/// The same with engines from 28 on.
const SINCE_28: &[(&str, &str, &str)] = &[
    (
        r"Bind for (0\.0\.0\.0|::):(\d+) failed",
        "Bind for <ANY>:$2 failed",
        "they name the address of either family, by chance",
    ),
    (
        r"\b[0-9a-f][26ae](:[0-9a-f]{2}){5}\b",
        "<MAC>",
        "their bridge driver makes MACs by chance, netbpf by the address; one that a user asks for stays",
    ),
    (r"\bfe80::[0-9a-f:]+", "<LINK-LOCAL>", "so it does with the addresses of these MACs"),
];

static PATTERNS: LazyLock<[Vec<(Regex, &str)>; 2]> = LazyLock::new(|| {
    let compile = |(pattern, stands, _): &(&str, &'static str, &str)| {
        (Regex::new(pattern).expect("a pattern"), *stands)
    };
    [NORMAL, SINCE_28].map(|patterns| patterns.iter().map(compile).collect())
});

/// A text without the differences that are permitted with an engine of this major version.
pub fn normal(text: &str, version: u32) -> String {
    let [always, since] = &*PATTERNS;
    let patterns = always.iter().chain(since.iter().filter(|_| version >= 28));
    patterns.fold(text.to_owned(), |text, (pattern, stands)| pattern.replace_all(&text, *stands).into_owned())
}

#[test]
fn other_texts_stay_unchanged() {
    let text = "64 bytes from 192.168.0.3: seq=0 ttl=64 time=0.087 ms\n";
    let normal = |text: &str| super::texts::normal(text, 20);
    assert_eq!(normal(text), "64 bytes from 192.168.0.3: seq=0 ttl=64 time=<TIME>\n");
    assert_eq!(normal("eth0 02:42:c0:a8:00:02 mtu 1500 8080"), "eth0 02:42:c0:a8:00:02 mtu 1500 8080");
    assert_eq!(normal("0123456789ab   mynet   bridge   local\n"), "<ID>   mynet   <DRIVER> local\n");
    let macs = "de:ff:81:13:7f:82 00:00:5e:00:53:04 fe80::dcff:81ff:fe13:7f82/64";
    assert_eq!(normal(macs), macs);
    assert_eq!(super::texts::normal(macs, 28), "<MAC> 00:00:5e:00:53:04 <LINK-LOCAL>/64");
}
