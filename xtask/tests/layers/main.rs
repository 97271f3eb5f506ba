//! Checks which module of netbpf may import which, by a table and the paths in the source. In the daemon it
//! also checks which module may call methods of which. A layer that does not know another can be understood,
//! tested and replaced without it.

mod crate_paths;
#[path = "../source/mod.rs"]
mod source;

use std::{collections::BTreeMap, path::Path};

/// A module of netbpf and the modules that it may know. A file belongs to the layer with the longest matching
/// name.
struct Layer {
    module: &'static str,
    may_know: &'static [&'static str],
    because: &'static str,
}

const PURE: &str = "it is pure: no I/O, no clock, nothing to fake in a test";
const APART: &str = "modules with I/O know values only; the daemon joins them";
const EDGE: &str = "a client knows only the API, so that it works from another process and another version";

const LAYERS: &[Layer] = &[
    Layer { module: "model", may_know: &[], because: PURE },
    Layer { module: "ipam", may_know: &["model"], because: PURE },
    Layer { module: "plan", may_know: &["model", "ipam"], because: PURE },
    Layer { module: "fault", may_know: &[], because: "it injects failures and knows nothing about them" },
    Layer { module: "logging", may_know: &["model"], because: "it knows texts and not who logs them" },
    Layer { module: "private", may_know: &[], because: "it knows files and not what is in them" },
    Layer { module: "multicast", may_know: &[], because: "it knows sockets and not what they receive" },
    Layer { module: "detached", may_know: &[], because: "it knows files and not who writes them" },
    Layer { module: "process", may_know: &[], because: "it knows processes and not what they do" },
    Layer { module: "heap", may_know: &[], because: "it knows the allocator and not what is allocated" },
    Layer { module: "datapath", may_know: &["model", "plan", "private", "fault"], because: APART },
    Layer { module: "link", may_know: &["model", "plan", "process", "multicast", "fault"], because: APART },
    Layer { module: "firewall", may_know: &["model", "plan", "multicast", "fault"], because: APART },
    Layer { module: "store", may_know: &["model", "ipam", "plan", "fault"], because: APART },
    Layer { module: "confined", may_know: &["logging"], because: "it knows processes and not their purpose" },
    Layer { module: "dns", may_know: &["model", "confined"], because: APART },
    Layer { module: "relay", may_know: &["model", "confined"], because: APART },
    Layer { module: "engine", may_know: &["model"], because: APART },
    Layer { module: "sandbox", may_know: &["model", "process", "fault"], because: APART },
    Layer {
        module: "daemon",
        may_know: &[
            "model", "ipam", "plan", "fault", "private", "process", "datapath", "link", "firewall", "store",
            "dns", "relay", "engine", "sandbox",
        ],
        because: "it joins the layers below; api and docker convert their messages for it",
    },
    Layer {
        module: "daemon::service",
        may_know: &[
            "model",
            "ipam",
            "plan",
            "private",
            "detached",
            "datapath",
            "link",
            "firewall",
            "store",
            "dns",
            "relay",
            "engine",
            "sandbox",
            "logging",
            "api::server",
            "docker",
            "daemon",
        ],
        because: "it starts the daemon, including its server",
    },
    Layer {
        module: "api::server",
        may_know: &["model", "ipam", "api", "daemon"],
        because: "it turns requests into calls of the daemon",
    },
    Layer {
        module: "docker",
        may_know: &["model", "ipam", "api::connections", "daemon"],
        because: "it turns Docker's requests into calls of the daemon",
    },
    Layer { module: "api", may_know: &["model", "heap"], because: EDGE },
    Layer {
        module: "cli",
        may_know: &[
            "api",
            "cni::is_name",
            "model::push_escaped",
            "sandbox::exec",
            "sandbox::Error",
            "sandbox::SOCKET",
        ],
        because: EDGE,
    },
    Layer { module: "cni", may_know: &["api::blocking", "api::types", "detached"], because: EDGE },
    Layer { module: "cni::loopback", may_know: &["cni", "link"], because: "it needs no daemon" },
    Layer { module: "netavark", may_know: &["api::blocking", "api::types", "detached"], because: EDGE },
    Layer {
        module: "fuzz",
        may_know: &["model", "ipam", "store", "firewall", "dns", "docker", "api", "cli", "cni", "netavark"],
        because: "it lists the targets of other modules",
    },
];
/// Modules that are not included in their parent: `api` does not include this one.
const NEVER_BY_PREFIX: &[&str] = &["api::server"];

#[test]
fn each_layer_knows_only_those_below() {
    let root = source::workspace().join("netbpf/src");
    let mut wrong = Vec::new();
    for file in source::rust_files(&root) {
        let Some(module) = module_of(file.strip_prefix(&root).expect("a file below the root")) else {
            continue;
        };
        let Some(layer) = layer_of(&module) else {
            wrong.push(format!(
                "{}: no layer in the table of xtask/tests/layers is `{module}`",
                file.display()
            ));
            continue;
        };
        let names = crate_paths::read(&source::text(&file), &module);
        let names = names.unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
        for import in names.paths {
            // A module may re-export what is below it.
            if !may_know(layer, &import) && !is_in(&import, &module) {
                let Layer { module, because, .. } = layer;
                wrong.push(format!("{}: `{module}` may not know `{import}`: {because}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The modules of the daemon, the lowest first. Each may know those above it in this list. All may know the
/// daemon's own file and its errors.
const PARTS: &[(&str, &str)] = &[
    ("fault", "it ends the daemon where a test wants, in any module"),
    ("parts", "it names the modules with I/O, or replaces them in tests"),
    ("state", "all modules read it; it reads none"),
    ("ports", "it reserves host ports for other modules"),
    ("effects", "it makes the host as the state says, and does not decide what the state says"),
    ("names", "it brings names and files to what the state says, and does not change the state"),
    ("tell", "it reads; modules that change something call it"),
    ("membership", "a network does not depend on the kinds of its containers"),
    ("owners", "containers start and end while the daemon runs"),
    ("service", "it starts the daemon and ends it"),
    ("tests", "they use the daemon on a host in memory"),
];

/// The modules that have methods of `Daemon`: the use cases, which join the other modules. Those have structs of their
/// own (`State`, `Host`, `Ports`, `Names`, `Events`), so that a method can change only what its type and its arguments
/// hold. With a `Daemon`, an effect could begin a use case.
const USE_CASES: &[&str] = &["", "membership", "owners", "service", "tests"];

#[test]
fn each_module_of_the_daemon_calls_only_those_below() {
    let root = source::workspace().join("netbpf/src/daemon");
    let order = |part: &str| PARTS.iter().position(|(name, _)| *name == part);
    let files: Vec<_> = source::rust_files(&root)
        .into_iter()
        .map(|file| {
            let module =
                module_of(&Path::new("daemon").join(file.strip_prefix(&root).expect("a file of it")));
            let module = module.expect("no root of the crate");
            let names = crate_paths::read(&source::text(&file), &module);
            (file.clone(), module, names.unwrap_or_else(|error| panic!("read {}: {error}", file.display())))
        })
        .collect();
    let mut method_parts = BTreeMap::new();
    for (file, module, names) in &files {
        let part = part_of(module);
        if !matches!(part, "" | "error") && order(part).is_none() {
            panic!(
                "{}: `{part}` is not in the table of the daemon's modules in xtask/tests/layers",
                file.display()
            );
        }
        method_parts.extend(names.methods.get("Daemon").into_iter().flatten().map(|method| (method, part)));
    }
    let mut wrong = Vec::new();
    for (file, module, names) in &files {
        if !USE_CASES.contains(&part_of(module))
            && (names.paths.contains("daemon::Daemon") || names.methods.contains_key("Daemon"))
        {
            wrong.push(format!(
                "{}: `{}` may not know `Daemon`: its methods are use cases, and what this module has must not begin one",
                file.display(),
                part_of(module)
            ));
        }
        let Some(own) = order(part_of(module)) else { continue };
        let paths = names.paths.iter().filter(|path| is_in(path, "daemon"));
        let paths = paths.map(|path| (part_of(path), path));
        let calls = [names.calls.get("Daemon"), names.calls_on.get("daemon")].into_iter().flatten().flatten();
        let calls = calls.filter_map(|method| Some((*method_parts.get(method)?, method)));
        for (part, named) in paths.chain(calls) {
            if order(part).is_some_and(|part| part > own) {
                let (own, because) = PARTS[own];
                wrong.push(format!(
                    "{}: `{own}` may not know `{named}` of `{part}`: {because}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// `daemon::tell::info` is in `tell`; `daemon::Error` is in none.
fn part_of(path: &str) -> &str {
    let part = path.strip_prefix("daemon::").and_then(|rest| rest.split("::").next()).unwrap_or_default();
    if part.starts_with(char::is_uppercase) { "" } else { part }
}

/// `api/server.rs` is `api::server`. The crate's roots are in no layer, because they name all of them.
fn module_of(file: &Path) -> Option<String> {
    let mut parts: Vec<_> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    let module = parts.join("::");
    (!matches!(module.as_str(), "lib" | "main")).then_some(module)
}

fn layer_of(module: &str) -> Option<&'static Layer> {
    LAYERS.iter().filter(|layer| is_in(module, layer.module)).max_by_key(|layer| layer.module.len())
}

fn may_know(layer: &Layer, import: &str) -> bool {
    let own = layer_of(import).is_some_and(|of_import| of_import.module == layer.module);
    let hidden =
        NEVER_BY_PREFIX.iter().any(|module| is_in(import, module) && !layer.may_know.contains(module));
    own || (!hidden && layer.may_know.iter().any(|module| is_in(import, module)))
}

/// `api::types::Foo` is in `api::types` and in `api`.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn only_the_server_knows_the_daemon() {
    let layer = |module| layer_of(module).expect("a layer");
    assert!(may_know(layer("api::server"), "daemon"));
    assert!(!may_know(layer("daemon"), "api::server"));
    assert!(!may_know(layer("daemon"), "api::types"));
    assert!(!may_know(layer("daemon::service"), "api::types"));
    assert!(!may_know(layer("cli"), "api::server"));
    assert!(may_know(layer("cli::network"), "api::types"));
    assert!(!may_know(layer("link"), "datapath"));
    assert_eq!(layer("api::server::stream").module, "api::server");
}
