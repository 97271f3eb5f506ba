//! `info` and `version`.

use serde_json::{Map, json};

use super::{Error, console::Console, render};
use crate::api::client::Client;

/// `info`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf info --format '{{.ContainersRunning}}'")]
pub struct Info {
    /// Format: json or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

impl Info {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let info = client.info().await?;
        if let Some(format) = &self.format {
            render::object(&mut console.out, format, &serde_json::to_value(&info)?)?;
            return Ok(0);
        }
        writeln!(
            console.out,
            "Containers: {}\n Running: {}\n Stopped: {}\nNetworks: {}\nEndpoints: {}\nAttachment: {}\n\
             BPF File System: {}\nState Dir: {}\nRun Dir: {}\nKernel Version: {}\nName: {}\nServer Version: {}",
            info.containers,
            info.containers_running,
            info.containers_stopped,
            info.networks,
            info.endpoints,
            info.attachment,
            info.bpffs.display(),
            info.state_dir.display(),
            info.run_dir.display(),
            info.kernel_version,
            info.name,
            info.server_version,
        )?;
        for uplink in &info.uplinks {
            let standing = if uplink.trouble.is_empty() { &uplink.mode } else { "not attached" };
            writeln!(console.out, "Uplink {}: {standing}", uplink.interface)?;
        }
        Ok(0)
    }
}

/// `version`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf version --format '{{.Server.Version}}'")]
pub struct Version {
    /// Format: json or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

impl Version {
    /// Runs the command. Prints the client's version even without a daemon.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let own = env!("CARGO_PKG_VERSION");
        let server = client.version().await;
        if let Some(format) = &self.format {
            let mut versions = Map::from_iter([("Client".to_owned(), json!({ "Version": own }))]);
            if let Ok(server) = &server {
                versions.insert("Server".to_owned(), serde_json::to_value(server)?);
            }
            render::object(&mut console.out, format, &versions.into())?;
            return Ok(u8::from(server.is_err()));
        }
        writeln!(console.out, "Client:\n Version:   {own}")?;
        let server = server?;
        writeln!(
            console.out,
            "\nServer:\n Version:   {}\n Layout:    {}\n Kernel:    {}\n Arch:      {}",
            server.version, server.layout, server.kernel_version, server.arch
        )?;
        Ok(0)
    }
}
