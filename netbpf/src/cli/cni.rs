//! `cni`: lets runtimes use a network by CNI, with a configuration and links to this program in their directories.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Error, console::Console};
use crate::{
    api::{SOCKET, client::Client},
    cni,
};

/// The start of a configuration's file name. Runtimes take the first file as the network of a cluster, so this comes late.
const PREFIX: &str = "90-netbpf-";
/// The end of its file name.
const SUFFIX: &str = ".conflist";
/// The extensions of files that runtimes read.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];
/// The names by which runtimes execute the program.
const PROGRAMS: [&str; 2] = ["netbpf", "loopback"];

/// `cni`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Let runtimes use a network by CNI
    Enable(Enable),
    /// Undo enable
    Disable(Disable),
}

/// `cni enable`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf cni enable mynet")]
pub struct Enable {
    /// The network
    network: String,
    /// Another network that a pod may name by the annotation netbpf.io/network; may be repeated
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<String>,
    #[command(flatten)]
    folders: Folders,
}

/// `cni disable`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf cni disable mynet")]
pub struct Disable {
    /// The network
    network: String,
    #[command(flatten)]
    folders: Folders,
}

/// The directories of runtimes.
#[derive(clap::Args)]
struct Folders {
    /// Directory of configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Directory of plugins; may be repeated [default: /opt/cni/bin, and /usr/lib/cni if it exists]
    #[arg(long, value_name = "DIR")]
    bin_dir: Vec<PathBuf>,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        match self {
            Self::Enable(args) => args.run(client, console).await,
            Self::Disable(args) => args.run(client, console).await,
        }
    }
}

impl Enable {
    /// Prints the file of the configuration.
    async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let Self { network, allow, folders } = self;
        let name = bridge(client, &network).await?;
        let mut allowed = Vec::new();
        for other in &allow {
            allowed.push(bridge(client, other).await?);
        }
        let file = folders.file(&name)?;
        let program =
            env::current_exe().map_err(|error| failed("find", Path::new("/proc/self/exe"), error))?;
        let links = folders.links();
        for folder in [&folders.conf_dir].into_iter().chain(&folders.bin_dirs()) {
            fs::create_dir_all(folder).map_err(|error| failed("create", folder, error))?;
        }
        for link in links {
            if link.is_symlink() && !link.exists() {
                fs::remove_file(&link).map_err(|error| failed("remove", &link, error))?;
            }
            match symlink(&program, &link) {
                // The program itself, a link to it, or CNI's own plugin.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => done.map_err(|error| failed("create", &link, error))?,
            }
        }
        let text = serde_json::to_string_pretty(&configuration(&name, &allowed, client.socket()))?;
        let part = file.with_extension("part");
        let written = fs::write(&part, text + "\n").and_then(|()| fs::rename(&part, &file));
        written.map_err(|error| failed("write", &file, error))?;
        writeln!(console.out, "{}", file.display())?;
        Ok(0)
    }
}

impl Disable {
    /// Prints the file that is gone.
    async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let Self { network, folders } = self;
        let file = folders.file(&network)?;
        match fs::remove_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotEnabled { network, file });
            }
            done => done.map_err(|error| failed("remove", &file, error))?,
        }
        writeln!(console.out, "{}", file.display())?;
        // A runtime needs the program as long as it has anything to detach.
        let containers = client.containers(true, &[]).await;
        let are_attached =
            containers.map_or(true, |all| all.iter().any(|container| container.image == "cni"));
        if are_attached || folders.has_others()? {
            return Ok(0);
        }
        for link in folders.links() {
            let target = fs::read_link(&link);
            if target.is_ok_and(|target| target.file_name().is_some_and(|name| name == PROGRAMS[0])) {
                fs::remove_file(&link).map_err(|error| failed("remove", &link, error))?;
            }
        }
        Ok(0)
    }
}

impl Folders {
    /// The file of a network's configuration.
    fn file(&self, network: &str) -> Result<PathBuf, Error> {
        match cni::is_name(network) {
            true => Ok(self.conf_dir.join(format!("{PREFIX}{network}{SUFFIX}"))),
            false => Err(Error::NoCniName(network.to_owned())),
        }
    }

    /// The directories of plugins. Debian's containerd looks in the second one.
    fn bin_dirs(&self) -> Vec<PathBuf> {
        let [usual, debian] = ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from);
        match self.bin_dir.is_empty() {
            true => [usual].into_iter().chain(Some(debian).filter(|folder| folder.exists())).collect(),
            false => self.bin_dir.clone(),
        }
    }

    /// The links to the program.
    fn links(&self) -> Vec<PathBuf> {
        let folders = self.bin_dirs();
        folders.iter().flat_map(|folder| PROGRAMS.map(|name| folder.join(name))).collect()
    }

    /// Whether there are other configurations, which may use a plugin that is linked.
    fn has_others(&self) -> Result<bool, Error> {
        let entries = fs::read_dir(&self.conf_dir).map_err(|error| failed("read", &self.conf_dir, error))?;
        let is_configuration = |path: PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
        };
        Ok(entries.flatten().any(|entry| is_configuration(entry.path())))
    }
}

/// The name of a network that containers can join.
async fn bridge(client: &Client, network: &str) -> Result<String, Error> {
    let found = client.network(network).await?;
    match found.has_endpoints() {
        true => Ok(found.name),
        false => Err(Error::NoEndpoints(found.name)),
    }
}

/// The configuration. `cniVersion` is one that older runtimes know; others take the highest of `cniVersions`.
/// `disableGC`: several runtimes may use the network, and none knows the containers of the others.
fn configuration(network: &str, allowed: &[String], socket: &Path) -> serde_json::Value {
    let mut plugin = json!({
        "type": PROGRAMS[0],
        "network": network,
        "capabilities": {
            "aliases": true,
            "bandwidth": true,
            "dns": true,
            "io.kubernetes.cri.pod-annotations": true,
            "ips": true,
            "mac": true,
            "portMappings": true,
        },
    });
    if !allowed.is_empty() {
        plugin["allowedNetworks"] = allowed.into();
    }
    if socket != Path::new(SOCKET) {
        plugin["socket"] = socket.display().to_string().into();
    }
    json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": network,
        "disableGC": true,
        "plugins": [plugin],
    })
}

fn failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), error }
}
