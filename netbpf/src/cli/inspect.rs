//! `inspect` and `network inspect`: the details of objects as Docker's JSON.

use serde_json::Value;

use super::{Error, console::Console, render::Inspection};
use crate::api::client::{self, Client};

/// `inspect`, for objects of all kinds or of one.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    netbpf inspect --format '{{.State.Status}}' tomcat01\n  \
    netbpf network inspect --format '{{json .IPAM.Config}}' mynet")]
pub struct Inspect {
    /// Names or IDs
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Format: json or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// No effect (accepted for compatibility with Docker)
    #[arg(short, long, hide = true)]
    size: bool,
    /// No effect (accepted for compatibility with Docker)
    #[arg(short, long, hide = true)]
    verbose: bool,
    /// Only objects of this kind: container or network
    #[arg(long = "type", value_name = "KIND", value_enum)]
    kind: Option<Kind>,
}

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A container.
    Container,
    /// A network.
    Network,
}

impl Inspect {
    /// Prints containers, or networks for names that no container has.
    pub async fn objects(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let kind = self.kind;
        self.each(console, async |name| {
            if kind != Some(Kind::Network) {
                match client.container(name).await {
                    Err(error) if error.is_not_found() => {}
                    container => return Ok(serde_json::to_value(container?)?),
                }
            }
            if kind != Some(Kind::Container) {
                match client.network(name).await {
                    Err(error) if error.is_not_found() => {}
                    network => return Ok(serde_json::to_value(network?)?),
                }
            }
            Err(Error::NoObject(name.to_owned()))
        })
        .await
    }

    /// Prints containers.
    pub async fn containers(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        Self { kind: Some(Kind::Container), ..self }.objects(client, console).await
    }

    /// Prints networks.
    pub async fn networks(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        self.each(console, async |name| Ok(serde_json::to_value(client.network(name).await?)?)).await
    }

    /// Prints all objects that are found, then the errors.
    async fn each(
        self,
        console: &mut Console,
        find: impl AsyncFn(&str) -> Result<Value, Error>,
    ) -> Result<u8, Error> {
        let inspection = Inspection::new(self.format.as_deref()).map_err(Error::InspectTemplate)?;
        let mut objects = Vec::new();
        let mut errors = Vec::new();
        for name in &self.names {
            match find(name).await {
                Ok(object) => objects.push(object),
                Err(error @ (Error::NoObject(_) | Error::Daemon(client::Error::Refused { .. }))) => {
                    errors.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        errors.extend(inspection.print(&mut console.out, &objects)?.into_iter().map(Error::Template));
        console.out.flush()?;
        errors.iter().for_each(|error| console.print_error(error));
        Ok(u8::from(!errors.is_empty()))
    }
}
