//! `network …` and its short forms.

use std::io::{self, BufRead, Write};

use clap::Subcommand;

use super::{
    Error,
    console::Console,
    each::{done, each},
    inspect::Inspect,
    parsers,
    render::{Row, Table},
    subnet,
};
use crate::api::{
    client::Client,
    types::{
        EndpointIpam, EndpointSettings, Ipam, NetworkConnect, NetworkCreate, NetworkDisconnect,
        NetworkResource, NetworkUpdate,
    },
};

/// The commands for networks.
#[derive(Subcommand)]
pub enum Command {
    /// Create a network and print its ID
    Create(Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show details of networks
    Inspect(Inspect),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Remove all networks that no container uses
    Prune(Prune),
    /// Connect a container to a network
    Connect(Connect),
    /// Disconnect a container from a network
    Disconnect(Disconnect),
    /// Change what the members of networks may send
    Update(Update),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        match self {
            Self::Create(args) => args.run(client, console).await,
            Self::Ls(args) => args.run(client, console).await,
            Self::Inspect(args) => args.networks(client, console).await,
            Self::Rm(args) => args.run(client, console).await,
            Self::Prune(args) => args.run(client, console).await,
            Self::Connect(args) => args.run(client, console).await,
            Self::Disconnect(args) => args.run(client).await,
            Self::Update(args) => args.run(client, console).await,
        }
    }
}

/// `network create`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    netbpf network create mynet\n  \
    netbpf network create --subnet 192.168.0.0/16 --gateway 192.168.0.1 mynet\n  \
    netbpf network create --ipv6 --subnet 192.168.0.0/16 --subnet 2001:db8::/64 mynet")]
pub struct Create {
    /// The network's name
    network: String,
    /// Driver: bridge or netbpf, which are the same
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Subnet (CIDR); chosen automatically if absent
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,
    /// Gateway: the host's address in the subnet; the first one if absent
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Range of the subnet for automatic addresses (CIDR)
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Address that containers do not get
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = parsers::pair)]
    aux_address: Vec<(String, String)>,
    /// No traffic to or from outside of the network
    #[arg(long)]
    internal: bool,
    /// Whether the network has IPv4
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Whether the network has IPv6
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<bool>,
    /// Label of the network
    #[arg(long, value_name = "KEY=VALUE", value_parser = parsers::label)]
    label: Vec<(String, String)>,
    /// Option of the driver
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parsers::pair)]
    opt: Vec<(String, String)>,
    /// Has no effect (accepted for compatibility with Docker)
    #[arg(long)]
    attachable: bool,
    /// Scope: local
    #[arg(long, default_value = "", hide_default_value = true)]
    scope: String,
    /// IPAM driver: default
    #[arg(long, value_name = "DRIVER", default_value = "default", hide_default_value = true)]
    ipam_driver: String,
    /// Option of the IPAM driver
    #[arg(long, value_name = "KEY=VALUE", value_parser = parsers::pair)]
    ipam_opt: Vec<(String, String)>,
}

impl Create {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let created = client.create_network(&self.message()?).await?;
        for warning in created.warning.lines() {
            console.warn(warning);
        }
        writeln!(console.out, "{}", created.id)?;
        Ok(0)
    }

    fn message(self) -> Result<NetworkCreate, subnet::Mismatch> {
        let typed = subnet::Typed {
            subnets: self.subnet,
            ranges: self.ip_range,
            gateways: self.gateway,
            auxiliary: self.aux_address,
        };
        Ok(NetworkCreate {
            name: self.network,
            driver: self.driver,
            scope: self.scope,
            internal: self.internal,
            attachable: self.attachable,
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Ipam {
                driver: self.ipam_driver,
                options: (!self.ipam_opt.is_empty()).then(|| self.ipam_opt.into_iter().collect()),
                config: typed.into_config()?,
            },
            options: self.opt.into_iter().collect(),
            labels: self.label.into_iter().collect(),
        })
    }
}

/// `network ls`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf network ls --filter driver=bridge --format '{{.Name}}'")]
pub struct Ls {
    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Print full IDs
    #[arg(long)]
    no_trunc: bool,
    /// Filter the list by driver, id, label, name, scope, type or dangling
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parsers::filter)]
    filter: Vec<(String, String)>,
    /// Format: table, json, "table TEMPLATE" or a Go template
    #[arg(long)]
    format: Option<String>,
}

const NETWORKS: Table = Table {
    fields: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    default: r"table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};

impl Ls {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let networks = client.networks(&self.filter).await?;
        let rows = networks.into_iter().map(|network| row(network, self.no_trunc));
        NETWORKS.print(&mut console.out, self.format.as_deref(), self.quiet, rows)?;
        Ok(0)
    }
}

fn row(network: NetworkResource, whole_id: bool) -> Row {
    let id = if whole_id { network.id } else { network.id.chars().take(12).collect() };
    // The time as Go prints it: 2024-05-01 12:00:00.123456789 +0000 UTC.
    let created = match network.created.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        Err(_) => network.created,
    };
    Row::new([
        ("ID", id),
        ("Name", network.name),
        ("Driver", network.driver),
        ("Scope", network.scope),
        ("IPv4", network.enable_ipv4.to_string()),
        ("IPv6", network.enable_ipv6.to_string()),
        ("Internal", network.internal.to_string()),
        ("CreatedAt", created),
    ])
    .labels(&network.labels)
}

/// `network rm`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf network rm mynet redis")]
pub struct Rm {
    /// Names or IDs
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Ignore missing networks
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let failed = each(console, &self.networks, |name| async {
            match client.remove_network(name).await {
                Err(error) if self.force && error.is_not_found() => Ok(false),
                removed => removed.map(|()| true),
            }
        })
        .await?;
        Ok(u8::from(!failed.is_empty()))
    }
}

/// `network prune`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf network prune --filter until=24h")]
pub struct Prune {
    /// Do not ask for confirmation
    #[arg(short, long)]
    force: bool,
    /// Filter the networks by until, label or label!
    #[arg(long, value_name = "KEY=VALUE", value_parser = parsers::filter)]
    filter: Vec<(String, String)>,
}

impl Prune {
    async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        if !self.force && !confirmed(&mut console.out, &mut io::stdin().lock())? {
            return Ok(0);
        }
        let pruned = client.prune_networks(&self.filter).await?;
        if !pruned.networks_deleted.is_empty() {
            writeln!(console.out, "Deleted Networks:\n{}\n", pruned.networks_deleted.join("\n"))?;
        }
        Ok(0)
    }
}

fn confirmed(out: &mut dyn Write, input: &mut dyn BufRead) -> io::Result<bool> {
    write!(
        out,
        "WARNING! This will remove all custom networks not used by at least one container.\n\
         Are you sure you want to continue? [y/N] "
    )?;
    out.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// `network connect`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    netbpf connect mynet tomcat01\n  \
    netbpf connect --ip 192.168.0.9 --alias db mynet netns:blue")]
pub struct Connect {
    /// Name or ID of the network
    network: String,
    /// Name or ID of a container, netns:NAME, netns:/PATH or pid:N
    container: String,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    ip: String,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    ip6: String,
    /// Another name of the container in this network
    #[arg(long, value_delimiter = ',')]
    alias: Vec<String>,
    /// Link to another container in this network: only this container can resolve the alias
    #[arg(long, value_name = "CONTAINER[:ALIAS]", value_delimiter = ',')]
    link: Vec<String>,
    /// Option of the endpoint
    #[arg(long, value_name = "KEY=VALUE", value_parser = parsers::driver_option)]
    driver_opt: Vec<(String, String)>,
    /// Priority: the network with the highest one gives the default route
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    gw_priority: i64,
}

impl Connect {
    /// Runs the command. Prints warnings only, as Docker.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let options = self.driver_opt;
        let request = NetworkConnect {
            container: self.container,
            endpoint_config: EndpointSettings {
                ipam_config: endpoint_ipam(self.ip, self.ip6),
                links: some(self.link),
                aliases: some(self.alias),
                driver_opts: (!options.is_empty()).then(|| options.into_iter().collect()),
                gw_priority: self.gw_priority,
                ..Default::default()
            },
        };
        let connected = client.connect(&self.network, &request).await?;
        connected.warnings.iter().for_each(|warning| console.warn(warning));
        Ok(0)
    }
}

/// The API's form of `--ip` and `--ip6`.
pub fn endpoint_ipam(ip: String, ip6: String) -> Option<EndpointIpam> {
    let is_asked = !ip.is_empty() || !ip6.is_empty();
    is_asked.then_some(EndpointIpam { ipv4_address: ip, ipv6_address: ip6 })
}

/// A list, or `None` if it is empty.
pub fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

/// `network disconnect`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf disconnect mynet tomcat01")]
pub struct Disconnect {
    /// Name or ID of the network
    network: String,
    /// Name or ID of a container, netns:NAME, netns:/PATH or pid:N
    container: String,
    /// Also disconnect a container that is gone
    #[arg(short, long)]
    force: bool,
}

impl Disconnect {
    /// Runs the command. Prints nothing, as Docker.
    pub async fn run(self, client: &Client) -> Result<u8, Error> {
        let request = NetworkDisconnect { container: self.container, force: self.force };
        client.disconnect(&self.network, &request).await?;
        Ok(0)
    }
}

/// `network update`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    netbpf network update -o netbpf.guard=off mynet\n  \
    netbpf network update -o netbpf.guard= mynet")]
pub struct Update {
    /// Names or IDs
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// netbpf.guard=on|off, netbpf.addresses=ADDRESS|SUBNET,..., netbpf.redirect=peer|plain, or a limit such as
    /// netbpf.egress_rate=10mbit, for members without an option of their own; an empty value removes the option
    #[arg(short, long, required = true, value_name = "KEY=VALUE", value_parser = parsers::pair)]
    opt: Vec<(String, String)>,
}

impl Update {
    async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let request = NetworkUpdate { options: self.opt.into_iter().collect() };
        let failed =
            each(console, &self.networks, |name| done(client.update_network(name, &request))).await?;
        Ok(u8::from(!failed.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_wants_a_yes() {
        for (answer, yes) in [("y\n", true), (" Y \n", true), ("yes\n", false), ("\n", false), ("", false)] {
            let mut out = Vec::new();
            assert_eq!(confirmed(&mut out, &mut answer.as_bytes()).expect("answered"), yes, "{answer:?}");
            let question = "\
WARNING! This will remove all custom networks not used by at least one container.
Are you sure you want to continue? [y/N] ";
            assert_eq!(String::from_utf8_lossy(&out), question);
        }
    }
}
