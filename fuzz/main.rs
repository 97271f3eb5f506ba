//! Runs one fuzz target in libFuzzer: the one that `FUZZ_TARGET` names, with libFuzzer's own arguments. Writes the target's
//! seeds into the folder `FUZZ_SEEDS` first. Without these variables it prints the names of all targets. Must not know what
//! a target checks.

#![no_main]

use std::{env, fs, path::PathBuf, process, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use netbpf::fuzz::{TARGETS, Target};

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        let (Ok(name), Some(folder)) = (env::var("FUZZ_TARGET"), env::var_os("FUZZ_SEEDS")) else {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            process::exit(0);
        };
        let folder = PathBuf::from(folder);
        let chosen = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
        for (index, seed) in (chosen.seeds)().iter().enumerate() {
            fs::write(folder.join(index.to_string()), seed).expect("a seed is written");
        }
        CHOSEN.get_or_init(|| chosen);
    },
    |bytes: &[u8]| {
        let chosen = CHOSEN.get().expect("chosen before the first input");
        (chosen.check)(bytes);
    }
);
