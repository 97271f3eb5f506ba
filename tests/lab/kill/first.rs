//! Faults in the first command of a host that forwards no IPv6: it turns that on, and closes the host to others. Both stay
//! until the daemon stops and nothing of netbpf's is left; so they may also stay if the daemon is killed before the
//! command is complete.

use super::Case;

const CREATE: &str = "network create --ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64 fresh";

cases! {
    [
        killed: survives_kills;
        failing: survives_failures;
        refused: survives_failed_calls;
    ]
    {
        network_with_ipv6: Case::new(&[], CREATE, &["?network rm fresh", "!restart"])
            .with_first_half("network rm fresh")
            .bare();
    }
}
