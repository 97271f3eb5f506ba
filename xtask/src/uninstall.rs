//! `cargo xtask uninstall`: removes what `install` installed, and nothing else.

use std::{fs, io, os::unix::net::UnixStream, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::install::{
    change::Changes,
    layout::{Manifest, Place},
    need_root,
    systemd::Systemd,
};

/// Stop netbpf and remove what `install` installed
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Also remove what the daemon stored (/var/lib/netbpf)
    #[arg(long)]
    purge: bool,
}

/// Default paths of the daemon's state, pins and socket.
const STATE: &str = "/var/lib/netbpf";
const BPFFS: &str = "/sys/fs/bpf/netbpf";
const SOCKET: &str = "/run/netbpf/netbpf.sock";

/// Uninstalls it.
pub fn run(options: Options) -> Result<()> {
    let Options { place, purge } = options;
    need_root(&place, "uninstall")?;
    let Some(manifest) = Manifest::read(&place)? else {
        bail!(
            "netbpf is not installed below {}: there is no {}",
            place.prefix.display(),
            place.on_disk(&place.manifest()).display()
        );
    };
    let is_staged = place.root.is_some();
    if purge && !is_staged {
        refuse_in_use(&place)?;
    }
    let systemd = if is_staged { None } else { Systemd::running() };
    if let Some(systemd) = systemd {
        systemd.stop()?;
    }
    let mut changes = Changes::default();
    if let Err(error) = manifest.files.iter().try_for_each(|file| changes.remove(&place.on_disk(file))) {
        drop(changes);
        systemd.map_or(Ok(()), Systemd::start)?;
        return Err(error);
    }
    changes.keep()?;
    for folder in manifest.folders.iter().rev() {
        // A directory stays if somebody else uses it.
        let _ = fs::remove_dir(place.on_disk(folder));
    }
    if let Some(systemd) = systemd {
        systemd.reload()?;
    }
    println!("removed {} files below {}", manifest.files.len(), place.prefix.display());
    let state = place.on_disk(Path::new(STATE));
    if purge {
        match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", state.display()));
            }
            Ok(()) | Err(_) => println!("removed {}", state.display()),
        }
    } else if state.exists() {
        println!("kept {}: --purge removes it", state.display());
    }
    if !is_staged && UnixStream::connect(SOCKET).is_ok() {
        println!("a daemon that was started by hand still runs");
    } else if !is_staged && Path::new(BPFFS).exists() {
        println!(
            "containers and networks continue until the machine is rebooted; a newly installed netbpf finds them"
        );
    }
    Ok(())
}

/// Refuses if anything still runs: without the daemon's records, it could not be removed any more.
fn refuse_in_use(place: &Place) -> Result<()> {
    let program = place.on_disk(&place.program());
    let list = |arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).lines().count())
    };
    match (list(&["ps", "-aq"]), list(&["network", "ls", "-q", "--filter", "type=custom"])) {
        (Some(0), Some(0)) => Ok(()),
        (Some(containers), Some(networks)) => bail!(
            "{containers} containers and {networks} networks are left: remove them first (netbpf rm -f, netbpf network rm)"
        ),
        _ if Path::new(BPFFS).exists() => {
            bail!(
                "programs are still attached ({BPFFS}) and no daemon answers: start it, and remove its containers and networks first"
            )
        }
        _ => Ok(()),
    }
}
