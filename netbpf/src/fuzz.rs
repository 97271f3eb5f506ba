//! The list of fuzz targets. A target is a function in the module that it checks (`dns::fuzz`, …): it gets any bytes,
//! and panics if they break a promise of that module. libFuzzer runs all (`cargo xtask fuzz`); the unit tests run each
//! with its seeds and with all inputs that once broke it. Must not know what a target checks.

use crate::{api, cli, cni, dns, docker, firewall, ipam, model, netavark, store};

/// A check that any input must pass.
#[derive(Debug)]
pub struct Target {
    /// Its name, and the name of its folder of regressions.
    pub name: &'static str,
    /// Inputs to start from: valid ones of every kind.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics if the input breaks a promise.
    pub check: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "dns-queries", seeds: dns::fuzz::queries, check: dns::fuzz::check_query },
    Target { name: "dns-replies", seeds: dns::fuzz::replies, check: dns::fuzz::check_reply },
    Target { name: "api-messages", seeds: api::fuzz::messages, check: api::fuzz::check_messages },
    Target { name: "api-filters", seeds: api::fuzz::filters, check: api::fuzz::check_filters },
    Target { name: "docker-messages", seeds: docker::fuzz::messages, check: docker::fuzz::check_messages },
    Target { name: "cni-calls", seeds: cni::fuzz::calls, check: cni::fuzz::check_call },
    Target {
        name: "netavark-messages",
        seeds: netavark::fuzz::messages,
        check: netavark::fuzz::check_messages,
    },
    Target { name: "options", seeds: model::fuzz::options, check: model::fuzz::check_options },
    Target { name: "ports", seeds: model::fuzz::ports, check: model::fuzz::check_ports },
    Target { name: "words", seeds: model::fuzz::words, check: model::fuzz::check_words },
    Target { name: "subnets", seeds: ipam::fuzz::subnets, check: ipam::fuzz::check_subnets },
    Target { name: "option-values", seeds: cli::fuzz::values, check: cli::fuzz::check_values },
    Target { name: "templates", seeds: cli::fuzz::templates, check: cli::fuzz::check_templates },
    Target { name: "records", seeds: store::fuzz::records, check: store::fuzz::check_records },
    Target { name: "state-file", seeds: store::fuzz::changes, check: store::fuzz::check_file },
    Target { name: "nft-names", seeds: firewall::fuzz::names, check: firewall::fuzz::check_names },
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn targets_pass_with_their_seeds_and_with_inputs_that_broke_them() {
        let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions");
        for Target { name, seeds, check } in TARGETS {
            seeds().iter().for_each(|seed| check(seed));
            check(&[]);
            for file in fs::read_dir(regressions.join(name)).into_iter().flatten() {
                let path = file.expect("a regression").path();
                println!("{}", path.display());
                check(&fs::read(&path).expect("a regression"));
            }
        }
        for folder in fs::read_dir(&regressions).into_iter().flatten() {
            let folder = folder.expect("a folder").file_name();
            let is_read = TARGETS.iter().any(|target| folder == target.name);
            assert!(is_read, "{} is no target", folder.display());
        }
    }
}
