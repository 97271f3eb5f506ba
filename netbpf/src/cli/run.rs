//! `run`: creates and starts a container. In the foreground it prints the output and forwards signals until the
//! container ends.

use std::path::PathBuf;

use clap::ArgAction;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Error, attachment, console::Console, logs, network, parsers};
use crate::api::{
    client::{Client, LogQuery},
    ports::{self, Exposed, Published},
    types::{ContainerCreate, EndpointSettings, HostConfig, NetworkAttachment, RestartPolicy},
};

/// `run`.
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Example:\n  \
        netbpf run --rm -- ip address\n  \
        netbpf run -d --name tomcat01 --net mynet --ip 192.168.0.9 -- python3 -m http.server 80\n  \
        netbpf run -d --name web -p 8080:80 -p 127.0.0.1:5353:53/udp -- python3 -m http.server 80\n\n\
        A sandbox is no security boundary against root inside it. Members of the group netbpf may use the daemon's \
        socket, which makes them root on this host."
)]
pub struct Run {
    /// Run in the background and print the container's ID
    #[arg(short, long)]
    detach: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// When to restart it: no, on-failure[:MAX-RETRIES], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", hide_default_value = true, value_parser = parsers::restart)]
    restart: RestartPolicy,
    /// Name of the container; generated if absent
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Network: bridge, none, host, container:NAME or a network's name; may be repeated. With options for that network:
    /// name=NETWORK,alias=NAME,ip=ADDRESS,mac-address=MAC,gw-priority=NUMBER,driver-opt=KEY=VALUE
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = attachment::parse)]
    network: Vec<NetworkAttachment>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    ip: String,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    ip6: String,
    /// MAC address
    #[arg(long, value_name = "MAC", default_value = "", hide_default_value = true)]
    mac_address: String,
    /// Another name in its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Option of the endpoint in its network
    #[arg(long, value_name = "KEY=VALUE", value_parser = parsers::driver_option)]
    driver_opt: Vec<(String, String)>,
    /// Publish a port on the host: [ip:][hostPort:]containerPort[/protocol]; ranges are allowed
    #[arg(short, long, value_name = "PORT", value_parser = ports::parse_publish)]
    publish: Vec<Published>,
    /// Publish all exposed ports on free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports: containerPort[/protocol]
    #[arg(long, value_name = "PORT", value_parser = ports::parse_expose)]
    expose: Vec<Exposed>,
    /// Link to another container: only this container can resolve the alias
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Host name of the container
    #[arg(short = 'h', long, default_value = "", hide_default_value = true)]
    hostname: String,
    /// Another line for /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = parsers::extra_host)]
    add_host: Vec<String>,
    /// Name server, instead of the host's
    #[arg(long, value_name = "ADDRESS", value_parser = parsers::address)]
    dns: Vec<String>,
    /// Search domain, instead of the host's; . for none
    #[arg(long, value_name = "DOMAIN", value_parser = parsers::search_domain)]
    dns_search: Vec<String>,
    /// Option for /etc/resolv.conf
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Environment variable; without a value, it is taken from this environment
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = parsers::env)]
    env: Vec<String>,
    /// Directory where the command starts
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// Label of the container
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parsers::label)]
    label: Vec<(String, String)>,
    /// Root directory, instead of the host's
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// no-new-privileges: set-user-ID bits and file capabilities have no effect
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Not supported, but often typed
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Not supported, but often typed
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

impl Run {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        if self.interactive || self.tty {
            return Err(Error::NoTerminal);
        }
        if self.rm && !matches!(self.restart.name.as_str(), "" | "no") {
            return Err(Error::Conflict("cannot specify both --restart and --rm"));
        }
        let detach = self.detach;
        let (name, message) = self.message()?;
        let created = client.create_container(&name, &message).await.map_err(Error::Run)?;
        created.warnings.iter().for_each(|warning| console.warn(warning));
        if detach {
            client.start(&created.id).await.map_err(Error::Run)?;
            writeln!(console.out, "{}", created.id)?;
            return Ok(0);
        }
        foreground(client, console, &created.id).await
    }

    fn message(self) -> Result<(String, ContainerCreate), Error> {
        let options = self.driver_opt;
        let flags = EndpointSettings {
            ipam_config: network::endpoint_ipam(self.ip, self.ip6),
            links: network::some(self.link),
            aliases: network::some(self.network_alias),
            mac_address: self.mac_address,
            driver_opts: (!options.is_empty()).then(|| options.into_iter().collect()),
            ..Default::default()
        };
        let (first, networks) = attachment::first_and_others(self.network, flags)?;
        let mut message = ContainerCreate {
            cmd: self.command,
            env: parsers::set_variables(self.env),
            working_dir: self.workdir,
            hostname: self.hostname,
            rootfs: self.rootfs,
            auto_remove: self.rm,
            network_mode: first.network,
            endpoint_config: first.endpoint_config,
            networks,
            extra_hosts: self.add_host,
            dns: self.dns,
            dns_search: self.dns_search,
            dns_options: self.dns_option,
            labels: self.label.into_iter().collect(),
            host_config: HostConfig {
                publish_all_ports: self.publish_all,
                restart_policy: self.restart,
                security_opt: self.security_opt,
                ..Default::default()
            },
            ..Default::default()
        };
        ports::ask(&mut message, self.publish, self.expose);
        Ok((self.name, message))
    }
}

/// Prints the output of a container that has not been started yet, until it has ended, and forwards signals to it.
/// Returns its exit code.
async fn foreground(client: &Client, console: &mut Console, id: &str) -> Result<u8, Error> {
    let mut signals = Signals::catch().map_err(Error::Signals)?;
    // Follow the log before the start, because a container that ends at once may be removed.
    let mut output =
        client.logs(id, &LogQuery { follow: true, ..Default::default() }).await.map_err(Error::Run)?;
    client.start(id).await.map_err(Error::Run)?;
    let mut interrupts = 0;
    loop {
        tokio::select! {
            line = output.next() => match line? {
                Some(line) => logs::print(console, &line, false)?,
                None => break,
            },
            name = signals.next() => {
                interrupts += u8::from(matches!(name, "INT" | "TERM"));
                if interrupts == 3 {
                    console.print_error(&"got 3 SIGTERM/SIGINTs, forcefully exiting");
                    return Ok(1);
                }
                // Fails if the container has just ended, which `output` will report.
                if let Err(error) = client.kill(id, name).await {
                    console.print_error(&error);
                }
            }
        }
    }
    let end = client.wait(id).await?;
    Ok(super::exit_code(end.status_code))
}

/// The signals that are forwarded to the container.
struct Signals(Vec<(&'static str, Signal)>);

impl Signals {
    fn catch() -> std::io::Result<Self> {
        let kinds = [
            ("INT", SignalKind::interrupt()),
            ("TERM", SignalKind::terminate()),
            ("HUP", SignalKind::hangup()),
            ("QUIT", SignalKind::quit()),
            ("USR1", SignalKind::user_defined1()),
            ("USR2", SignalKind::user_defined2()),
        ];
        kinds.into_iter().map(|(name, kind)| Ok((name, signal(kind)?))).collect::<Result<_, _>>().map(Self)
    }

    /// Waits for the next signal and returns its name.
    async fn next(&mut self) -> &'static str {
        let received = self.0.iter_mut().map(|(name, signal)| {
            Box::pin(async {
                signal.recv().await;
                *name
            })
        });
        futures::future::select_all(received).await.0
    }
}
