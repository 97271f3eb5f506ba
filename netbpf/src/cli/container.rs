//! `ps`, and the commands that take names of containers.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Error,
    console::Console,
    each::{done, each},
    inspect::Inspect,
    logs::Logs,
    parsers,
    port::Port,
    render::{Row, Table},
};
use crate::api::{
    client::Client,
    types::{ContainerSummary, ContainerUpdate},
};

/// `ps`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  netbpf ps -a --filter name=tomcat --format 'table {{.Names}}\\t{{.Status}}'"
)]
pub struct Ps {
    /// Also list containers that are not running
    #[arg(short, long)]
    all: bool,
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Print full IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// List this many of the newest containers, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true, default_value_t = -1, hide_default_value = true)]
    last: i64,
    /// List the newest container, running or not
    #[arg(short, long)]
    latest: bool,
    /// Add a column with zeros, because sandboxes have no size
    #[arg(short, long, hide = true)]
    size: bool,
    /// Filter the list by name, id, status, network, label, exited, publish, expose or ancestor
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parsers::filter)]
    filter: Vec<(String, String)>,
    /// Format: table, json, "table TEMPLATE" or a Go template
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
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
    ],
    default: r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};

impl Ps {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        // As in Docker: no number, or 0, lists all running containers.
        let last = if self.latest { 1 } else { usize::try_from(self.last).unwrap_or(0) };
        let containers = client.containers(self.all || last > 0, &self.filter).await?;
        let now = Timestamp::now();
        let most = if last > 0 { last } else { usize::MAX };
        let rows = containers.into_iter().take(most).map(|container| row(container, self.no_trunc, now));
        let with_size = format!(r"{}\t{{{{.Size}}}}", CONTAINERS.default);
        let format = match self.format.as_deref() {
            None | Some("table") if self.size && !self.quiet => Some(with_size.as_str()),
            format => format,
        };
        CONTAINERS.print(&mut console.out, format, self.quiet, rows)?;
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
        ("Mounts", String::new()),
        ("LocalVolumes", "0".to_owned()),
        ("Size", "0B".to_owned()),
    ])
    .labels(&container.labels)
}

/// `container …`: the same commands, grouped as in Docker.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Ps),
    /// Show details of containers
    Inspect(Inspect),
    /// Start stopped containers
    Start(Start),
    /// Stop running containers
    Stop(Stop),
    /// Stop containers and start them again
    Restart(Restart),
    /// Send a signal to running containers
    Kill(Kill),
    /// Rename a container
    Rename(Rename),
    /// Change what containers may send in a network
    Update(Update),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// List the published ports of a container
    Port(Port),
    /// Show a container's output
    Logs(Logs),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        match self {
            Self::Ls(args) => args.run(client, console).await,
            Self::Inspect(args) => args.containers(client, console).await,
            Self::Start(args) => args.run(client, console).await,
            Self::Stop(args) => args.run(client, console).await,
            Self::Restart(args) => args.run(client, console).await,
            Self::Kill(args) => args.run(client, console).await,
            Self::Rename(args) => args.run(client).await,
            Self::Update(args) => args.run(client, console).await,
            Self::Rm(args) => args.run(client, console).await,
            Self::Port(args) => args.run(client, console).await,
            Self::Logs(args) => args.run(client, console).await,
        }
    }
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
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let failed = each(console, &self.containers, |name| done(client.start(name))).await?;
        if failed.is_empty() {
            return Ok(0);
        }
        console.print_error(&format_args!("failed to start containers: {}", failed.join(", ")));
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
    /// Seconds to wait before SIGKILL
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<u64>,
    /// First signal to send
    #[arg(short, long)]
    signal: Option<String>,
}

impl Stop {
    /// Runs the command.
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
    /// Seconds to wait before SIGKILL
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Restart {
    /// Runs the command.
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
    /// Name or number of the signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
}

impl Kill {
    /// Runs the command.
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
    /// New name
    new_name: String,
}

impl Rename {
    /// Runs the command. Prints nothing, as Docker.
    pub async fn run(self, client: &Client) -> Result<u8, Error> {
        client.rename(&self.container, &self.new_name).await?;
        Ok(0)
    }
}

/// `update`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    netbpf update --network mynet --driver-opt netbpf.addresses=192.168.0.100 tomcat01\n  \
    netbpf update --network mynet --driver-opt netbpf.guard=off netns:blue")]
pub struct Update {
    /// Names or IDs of containers, netns:NAME, netns:/PATH or pid:N
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Name or ID of the network whose endpoints are changed
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: String,
    /// netbpf.guard=on|off, netbpf.addresses=ADDRESS|SUBNET,..., netbpf.redirect=peer|plain, or a limit such as
    /// netbpf.egress_rate=10mbit; an empty value removes the option, so that the network's holds again
    #[arg(long, required = true, value_name = "KEY=VALUE", value_parser = parsers::driver_option)]
    driver_opt: Vec<(String, String)>,
}

impl Update {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let request =
            ContainerUpdate { network: self.network, driver_opts: self.driver_opt.into_iter().collect() };
        let failed = each(console, &self.containers, |name| done(client.update(name, &request))).await?;
        Ok(u8::from(!failed.is_empty()))
    }
}

/// `rm`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf rm -f tomcat01 tomcat02")]
pub struct Rm {
    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Also remove running containers; ignore missing ones
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    /// Runs the command.
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
