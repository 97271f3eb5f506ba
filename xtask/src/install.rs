//! `cargo xtask install`: installs the program, completions, manual pages and systemd units, completely or
//! not at all. Lists all files for `uninstall`.

pub mod change;
pub mod layout;
pub mod systemd;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{
    run,
    setup::{self, Scope},
};
use change::Changes;
use layout::{Content, File, Manifest, Place};
use systemd::Systemd;

/// Build netbpf, install it with its completions, manual pages and systemd units, and start it
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Neither enable nor start the daemon
    #[arg(long)]
    no_start: bool,
    /// Install this program instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Installs it.
pub fn run(options: Options) -> Result<()> {
    let Options { place, no_start, program } = options;
    need_root(&place, "install")?;
    let program = match program {
        Some(program) => program,
        None => {
            setup::prepare(Scope::Run)?;
            run::build()?
        }
    };
    let before = Manifest::read(&place)?;
    let files = place.files(&program)?;
    refuse_others_files(&place, &files, before.as_ref())?;
    let mut changes = Changes::default();
    let installed = put(&place, &files, before.as_ref(), &mut changes)?;
    let systemd = if place.root.is_none() { Systemd::running() } else { None };
    if let Some(systemd) = systemd {
        systemd.reload()?;
        if !no_start && let Err(error) = systemd.start() {
            take_back(systemd, before.is_none(), changes);
            return Err(error
                .context("the daemon does not start, and nothing was installed; see journalctl -u netbpf"));
        }
    }
    changes.keep()?;
    println!("installed {} files below {}", installed.files.len(), place.prefix.display());
    println!("{}", what_next(&place, systemd, no_start));
    Ok(())
}

/// Checks that only root changes the machine itself.
pub fn need_root(place: &Place, task: &str) -> Result<()> {
    if place.root.is_none() && !nix::unistd::geteuid().is_root() {
        bail!(
            "only root may {task} netbpf below {}: sudo --preserve-env=HOME env \"PATH=$PATH\" cargo xtask {task}, or choose a directory with --root",
            place.prefix.display()
        );
    }
    Ok(())
}

/// Refuses to overwrite files that netbpf did not install.
fn refuse_others_files(place: &Place, files: &[File], before: Option<&Manifest>) -> Result<()> {
    let is_ours = |file: &File| before.is_some_and(|before| before.files.contains(&file.path));
    for file in files {
        let path = place.on_disk(&file.path);
        if path.symlink_metadata().is_ok() && !is_ours(file) {
            bail!(
                "{} is there already and was not installed: remove it, or choose another --prefix",
                path.display()
            );
        }
    }
    Ok(())
}

/// Installs all files, and removes those of an earlier version that are no longer needed.
fn put(place: &Place, files: &[File], before: Option<&Manifest>, changes: &mut Changes) -> Result<Manifest> {
    let mut manifest = Manifest {
        files: files.iter().map(|file| file.path.clone()).chain([place.manifest()]).collect(),
        folders: before.map(|before| before.folders.clone()).unwrap_or_default(),
    };
    let root = place.root.clone().unwrap_or_else(|| "/".into());
    // Not in the manifest: `uninstall` keeps it.
    changes.make_folder(&root)?;
    let put = |file: &File, changes: &mut Changes| {
        let path = place.on_disk(&file.path);
        let made = path.parent().map(|folder| changes.make_folder(folder)).transpose()?.unwrap_or_default();
        changes.put(file, &path)?;
        anyhow::Ok(made)
    };
    let as_seen = |folder: PathBuf| PathBuf::from("/").join(folder.strip_prefix(&root).unwrap_or(&folder));
    for file in files {
        manifest.folders.extend(put(file, changes)?.into_iter().map(as_seen));
    }
    for gone in before.iter().flat_map(|before| before.files.difference(&manifest.files)) {
        changes.remove(&place.on_disk(gone))?;
    }
    // The manifest's own directory is listed before it is created.
    let folder = place.manifest().parent().map(PathBuf::from).unwrap_or_default();
    if !place.on_disk(&folder).exists() {
        manifest.folders.insert(folder);
    }
    let list = File { path: place.manifest(), content: Content::Text(manifest.text().into()), mode: 0o644 };
    put(&list, changes)?;
    Ok(manifest)
}

/// Restores the previous state: nothing, or the earlier version.
fn take_back(systemd: Systemd, is_new: bool, changes: Changes) {
    let complain = |done: Result<()>| {
        if let Err(error) = done {
            eprintln!("warning: {error:#}");
        }
    };
    if is_new {
        complain(systemd.stop());
    }
    drop(changes);
    complain(systemd.reload());
    if !is_new {
        complain(systemd.start());
    }
}

fn what_next(place: &Place, systemd: Option<Systemd>, no_start: bool) -> String {
    let program = place.program();
    match (&place.root, systemd) {
        (Some(root), _) => format!("staged in {}: nothing is enabled or started", root.display()),
        (None, None) => {
            format!(
                "systemd does not run here; to start the daemon by hand, as root: {} daemon",
                program.display()
            )
        }
        (None, Some(_)) if no_start => {
            "to start the daemon, now and at boot: systemctl enable --now netbpf.socket netbpf.service".into()
        }
        (None, Some(_)) => "the daemon runs, and starts at boot: systemctl status netbpf".into(),
    }
}
