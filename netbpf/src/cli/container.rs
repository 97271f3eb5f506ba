//! `ps`, and the commands that take names of containers and print those that it was done to.

use futures::{StreamExt, stream};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    Error,
    console::Console,
    parsers,
    render::{Row, Table},
};
use crate::api::{
    client::{self, Client},
    types::ContainerSummary,
};

/// `ps`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  netbpf ps -a --filter name=tomcat --format 'table {{.Names}}\\t{{.Status}}'"
)]
pub struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
    /// Whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only some: name, id, status, network, label, exited, publish, expose
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parsers::filter)]
    filter: Vec<(String, String)>,
    /// table, json, "table TEMPLATE" or a Go template
    #[arg(long)]
    format: Option<String>,
}

const CONTAINERS: Table = Table {
    fields: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Networks", "NETWORKS"),
    ],
    default: r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};

impl Ps {
    /// Does it.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let containers = client.containers(self.all, &self.filter).await?;
        let now = Timestamp::now();
        let rows = containers.into_iter().map(|container| row(container, self.no_trunc, now));
        CONTAINERS.print(&mut console.out, self.format.as_deref(), self.quiet, rows)?;
        Ok(0)
    }
}

fn row(container: ContainerSummary, whole: bool, now: Timestamp) -> Row {
    let names: Vec<&str> = container.names.iter().map(|name| name.trim_start_matches('/')).collect();
    let command = if whole { container.command } else { crate::api::human::ellipsis(&container.command, 20) };
    let created = Timestamp::from_second(container.created)
        .map(|time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string());
    Row::new([
        ("ID", if whole { container.id } else { container.id.chars().take(12).collect() }),
        ("Image", container.image),
        ("Command", format!("{command:?}")),
        ("CreatedAt", created.unwrap_or_default()),
        ("RunningFor", format!("{} ago", crate::api::human::duration(now.as_second() - container.created))),
        ("State", container.state),
        ("Status", container.status),
        ("Ports", super::port::column(container.ports)),
        ("Names", names.join(",")),
        ("Networks", container.networks.join(",")),
    ])
    .labels(&container.labels)
}

/// `start`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf start tomcat01 tomcat02")]
pub struct Start {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Start {
    /// Does it.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let failed = each(console, &self.containers, |name| done(client.start(name))).await?;
        if failed.is_empty() {
            return Ok(0);
        }
        console.complain(&format_args!("failed to start containers: {}", failed.join(", ")));
        Ok(1)
    }
}

/// `stop`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf stop -t 2 tomcat01")]
pub struct Stop {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Patience before SIGKILL, in seconds
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<u64>,
    /// What is sent first
    #[arg(short, long)]
    signal: Option<String>,
}

impl Stop {
    /// Does it.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let signal = self.signal.as_deref();
        let failed =
            each(console, &self.containers, |name| done(client.stop(name, self.timeout, signal))).await?;
        Ok(u8::from(!failed.is_empty()))
    }
}

/// `restart`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf restart tomcat01")]
pub struct Restart {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Patience before SIGKILL, in seconds
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Restart {
    /// Does it.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let failed = each(console, &self.containers, |name| done(client.restart(name, self.timeout))).await?;
        Ok(u8::from(!failed.is_empty()))
    }
}

/// `kill`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf kill --signal HUP tomcat01")]
pub struct Kill {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Name or number
    #[arg(short, long, default_value = "KILL")]
    signal: String,
}

impl Kill {
    /// Does it.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let failed = each(console, &self.containers, |name| done(client.kill(name, &self.signal))).await?;
        Ok(u8::from(!failed.is_empty()))
    }
}

/// `rename`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf rename tomcat01 tomcat02")]
pub struct Rename {
    /// Name or ID
    container: String,
    /// What it shall be called
    new_name: String,
}

impl Rename {
    /// Does it; prints nothing, as Docker does.
    pub async fn run(self, client: &Client) -> Result<u8, Error> {
        client.rename(&self.container, &self.new_name).await?;
        Ok(0)
    }
}

/// `rm`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf rm -f tomcat01 tomcat02")]
pub struct Rm {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Also running ones; what does not exist is no error
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    /// Does it.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let failed = each(console, &self.containers, |name| async {
            match client.remove_container(name.trim_matches('/'), self.force).await {
                Err(error) if self.force && error.is_not_found() => Ok(false),
                removed => removed.map(|()| true),
            }
        })
        .await?;
        Ok(u8::from(!failed.is_empty()))
    }
}

/// Requests under way at the same time.
const AT_ONCE: usize = 50;

/// Does something to all containers, and prints the names of those that it was done to, in their order; those that
/// `act` has nothing to do to (`false`) are passed over. Returns the names that it failed for.
async fn each<'a, F>(
    console: &mut Console,
    names: &'a [String],
    act: impl Fn(&'a str) -> F,
) -> Result<Vec<&'a str>, Error>
where
    F: Future<Output = Result<bool, client::Error>>,
{
    let act = &act;
    let mut results =
        stream::iter(names).map(|name| async move { (name, act(name).await) }).buffered(AT_ONCE);
    let mut failed = Vec::new();
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(true) => writeln!(console.out, "{name}")?,
            Ok(false) => {}
            Err(error) => {
                console.complain(&error);
                failed.push(name.as_str());
            }
        }
    }
    Ok(failed)
}

async fn done(act: impl Future<Output = Result<(), client::Error>>) -> Result<bool, client::Error> {
    act.await.map(|()| true)
}
