//! Who may import whom in netbpf: the table, held against the paths of the source. Within the daemon, methods count too:
//! who calls whom. A layer that may not know another can be understood, tested and replaced without it.

mod crate_paths;
#[path = "../source/mod.rs"]
mod source;

use std::{collections::BTreeMap, path::Path};

/// A module of netbpf and the others that it may know. The longest name that fits a file is its layer.
struct Layer {
    module: &'static str,
    may_know: &'static [&'static str],
    because: &'static str,
}

const PURE: &str = "it is pure: no I/O, no clock, nothing to fake in a test";
const APART: &str = "what does I/O knows values only; the daemon is the one that joins it with the rest";
const EDGE: &str =
    "a client knows the API and nothing behind it, so that it works from another process and another version";

const LAYERS: &[Layer] = &[
    Layer { module: "model", may_know: &[], because: PURE },
    Layer { module: "ipam", may_know: &["model"], because: PURE },
    Layer { module: "plan", may_know: &["model", "ipam"], because: PURE },
    Layer { module: "private", may_know: &[], because: "it knows files and nothing of what is in them" },
    Layer { module: "datapath", may_know: &["model", "plan", "private"], because: APART },
    Layer { module: "link", may_know: &["model", "plan"], because: APART },
    Layer { module: "firewall", may_know: &["model", "plan"], because: APART },
    Layer { module: "store", may_know: &["model", "ipam", "plan"], because: APART },
    Layer {
        module: "confined",
        may_know: &[],
        because: "it knows processes and nothing of what they are for",
    },
    Layer { module: "dns", may_know: &["model", "confined"], because: APART },
    Layer { module: "relay", may_know: &["model", "confined"], because: APART },
    Layer { module: "engine", may_know: &["model"], because: APART },
    Layer { module: "sandbox", may_know: &["model", "api::types"], because: APART },
    Layer {
        module: "daemon",
        may_know: &[
            "model", "ipam", "plan", "private", "datapath", "link", "firewall", "store", "dns", "relay",
            "engine", "sandbox", "api",
        ],
        because: "it joins the layers below and is served by api::server, which knows it and not the other way round",
    },
    Layer {
        module: "daemon::service",
        may_know: &[
            "model",
            "ipam",
            "plan",
            "private",
            "datapath",
            "link",
            "firewall",
            "store",
            "dns",
            "relay",
            "engine",
            "sandbox",
            "api",
            "api::server",
            "docker",
            "daemon",
        ],
        because: "it puts the daemon together, its server too",
    },
    Layer {
        module: "api::server",
        may_know: &["model", "api", "daemon"],
        because: "it turns requests into calls of the daemon",
    },
    Layer {
        module: "docker",
        may_know: &["model", "api::types", "api::connections", "daemon"],
        because: "it turns Docker's requests into calls of the daemon",
    },
    Layer { module: "api", may_know: &["model"], because: EDGE },
    Layer {
        module: "cli",
        may_know: &["api", "sandbox::exec", "sandbox::Error", "sandbox::SOCKET"],
        because: EDGE,
    },
];
/// Named in full only: `api` alone does not mean it.
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
            // What is below a module may be passed on by it.
            if !may_know(layer, &import) && !is_in(&import, &module) {
                let Layer { module, because, .. } = layer;
                wrong.push(format!("{}: `{module}` may not know `{import}`: {because}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The rooms of the daemon, the lowest first: each knows those above it in this list, and is called by those below it.
/// All know the daemon's own file and its errors.
const ROOMS: &[(&str, &str)] = &[
    ("fault", "it ends the daemon where a test wants it to, in any room"),
    ("state", "what is known is looked at from everywhere and looks at nothing"),
    ("ports", "it holds ports of the host for whoever leases them"),
    ("effects", "it does what it is told and does not ask why"),
    ("names", "it makes records and texts of what is known"),
    ("tell", "it reads; whoever changes something tells it"),
    ("membership", "who owns a container does not matter to its networks"),
    ("owners", "containers begin and end while the daemon runs"),
    ("service", "it starts the daemon and ends it"),
];

#[test]
fn each_room_of_the_daemon_calls_only_those_below() {
    let root = source::workspace().join("netbpf/src/daemon");
    let order = |room: &str| ROOMS.iter().position(|(name, _)| *name == room);
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
    let mut method_rooms = BTreeMap::new();
    for (file, module, names) in &files {
        let room = room_of(module);
        if !matches!(room, "" | "error") && order(room).is_none() {
            panic!("{}: no room in the table of xtask/tests/layers is `{room}`", file.display());
        }
        method_rooms.extend(names.methods.get("Daemon").into_iter().flatten().map(|method| (method, room)));
    }
    let mut wrong = Vec::new();
    for (file, module, names) in &files {
        let Some(own) = order(room_of(module)) else { continue };
        let paths = names.paths.iter().filter(|path| is_in(path, "daemon"));
        let paths = paths.map(|path| (room_of(path), path));
        let calls = [names.calls.get("Daemon"), names.calls_on.get("daemon")].into_iter().flatten().flatten();
        let calls = calls.filter_map(|method| Some((*method_rooms.get(method)?, method)));
        for (room, named) in paths.chain(calls) {
            if order(room).is_some_and(|room| room > own) {
                let (own, because) = ROOMS[own];
                wrong.push(format!(
                    "{}: `{own}` may not know `{named}` of `{room}`: {because}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// `daemon::tell::info` is in `tell`; `daemon::Error` is in no room.
fn room_of(path: &str) -> &str {
    let room = path.strip_prefix("daemon::").and_then(|rest| rest.split("::").next()).unwrap_or_default();
    if room.starts_with(char::is_uppercase) { "" } else { room }
}

/// `api/server.rs` is `api::server`. The crate's roots are in no layer: they name all of them.
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
fn the_server_is_the_daemons_edge_and_nobody_elses() {
    let layer = |module| layer_of(module).expect("a layer");
    assert!(may_know(layer("api::server"), "daemon"));
    assert!(!may_know(layer("daemon"), "api::server"));
    assert!(!may_know(layer("cli"), "api::server"));
    assert!(may_know(layer("cli::network"), "api::types"));
    assert!(!may_know(layer("link"), "datapath"));
    assert_eq!(layer("api::server::stream").module, "api::server");
}
