//! `explain`: why a packet arrives, or does not, and what to do about it.

use super::{
    Error,
    console::{Colour, Console},
    template::Template,
};
use crate::api::{
    client::Client,
    types::{Explanation, Hop, Party},
};

/// The exit code if a packet does not arrive, or is not answered.
const BLOCKED: u8 = 3;
/// The exit code if that cannot be told.
const UNDECIDED: u8 = 4;

/// `explain`.
#[derive(clap::Args)]
#[command(
    after_help = "A and B are a container, an address, host, outside or outside:ADDRESS; B may end in a port, as in \
                  host:8080, or be a name that A looks up. Without B: A's ways to the host, to other hosts, and to its \
                  published ports. Nothing is sent but a query for a name, and nothing is changed.\n\n\
                  Exit codes: 0 it passes (and is answered, or leaves this host), 3 it is blocked, 4 that cannot be told, \
                  1 the question is wrong, or netbpf fails\n\n\
                  Example:\n  netbpf explain web db tcp/5432\n  netbpf explain outside host:8080\n  \
                  netbpf explain web"
)]
pub struct Explain {
    /// Who sends: a container, host, outside, outside:ADDRESS or an address
    #[arg(value_name = "A")]
    from: String,
    /// Who is to get it
    #[arg(value_name = "B")]
    to: Option<String>,
    /// Protocol and port: tcp/80, udp/53, icmp (the default without a port)
    #[arg(value_name = "PROTO[/PORT]")]
    what: Option<String>,
    /// Print one line only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Format: json or a Go template
    #[arg(long)]
    format: Option<String>,
}

impl Explain {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let all = client.explain(&self.from, self.to.as_deref(), self.what.as_deref()).await?;
        match self.format.as_deref() {
            None | Some("") => {
                for (index, explained) in all.iter().enumerate() {
                    if index > 0 && !self.quiet {
                        writeln!(console.out)?;
                    }
                    print(console, explained, self.quiet)?;
                }
            }
            Some("json" | "{{json .}}") => {
                for explained in &all {
                    writeln!(console.out, "{}", serde_json::to_string(explained)?)?;
                }
            }
            Some(text) => {
                let template = Template::parse(text)?;
                for explained in &all {
                    writeln!(console.out, "{}", template.render(&serde_json::to_value(explained)?)?)?;
                }
            }
        }
        Ok(exit_code(&all))
    }
}

fn exit_code(all: &[Explanation]) -> u8 {
    let has = |verdict: &str| all.iter().any(|explained| explained.verdict == verdict);
    match (has("blocked"), has("undecided")) {
        (true, _) => BLOCKED,
        (false, true) => UNDECIDED,
        (false, false) => 0,
    }
}

fn print(console: &mut Console, explained: &Explanation, quiet: bool) -> Result<(), Error> {
    let title = title(explained);
    let summary = summary(explained);
    let colour = match explained.verdict.as_str() {
        "passes" => Colour::Green,
        "blocked" => Colour::Red,
        _ => Colour::Yellow,
    };
    if quiet {
        let line = format!("{title}: {summary}");
        let line = console.paint(colour, &line);
        return Ok(writeln!(console.out.raw(), "{line}")?);
    }
    writeln!(console.out, "{title}\n")?;
    let widths = [
        explained.hops.iter().map(|hop| hop.at.chars().count()).max().unwrap_or_default(),
        explained.hops.iter().map(|hop| hop.text.chars().count()).max().unwrap_or_default().min(60),
        explained.hops.iter().map(|hop| hop.origin.chars().count()).max().unwrap_or_default(),
    ];
    let mut way = "there";
    for hop in &explained.hops {
        if hop.way != way {
            writeln!(console.out, "back:")?;
            way = &hop.way;
        }
        let line = line(hop, widths);
        let line = match hop.mark.as_str() {
            "bad" => console.paint(Colour::Red, &line),
            "unknown" | "note" => console.paint(Colour::Yellow, &line),
            _ => console.shown(&line).into_owned(),
        };
        writeln!(console.out.raw(), "{line}")?;
    }
    let line = console.paint(colour, &summary);
    writeln!(console.out.raw(), "\n{line}")?;
    if !explained.advice.is_empty() {
        writeln!(console.out, "Try: {}", explained.advice)?;
    }
    let notes = explained.hops.iter().filter(|hop| hop.mark == "note" && !hop.advice.is_empty());
    for note in notes {
        writeln!(console.out, "Note: {}. Try: {}", note.text, note.advice)?;
    }
    Ok(())
}

/// ` ✓  web      nginx (812) listens at 0.0.0.0:80     sockets   tcp 0.0.0.0:80`.
fn line(hop: &Hop, [at, text, origin]: [usize; 3]) -> String {
    let mark = match hop.mark.as_str() {
        "good" => "✓",
        "bad" => "✗",
        "note" => "!",
        _ => "?",
    };
    let line = format!(" {mark}  {:at$}  {:text$}  {:origin$}  {}", hop.at, hop.text, hop.origin, hop.entry);
    line.trim_end().to_owned()
}

/// `web 172.18.0.2 → db 172.18.0.3   tcp/5432   network shop`.
fn title(explained: &Explanation) -> String {
    let Explanation { source, destination, protocol, port, .. } = explained;
    let what = if *port == 0 { protocol.clone() } else { format!("{protocol}/{port}") };
    let networks = match (source.network.as_str(), destination.network.as_str()) {
        ("", "") => String::new(),
        (one, other) if one == other || other.is_empty() => format!("   network {one}"),
        ("", other) => format!("   network {other}"),
        (one, other) => format!("   networks {one}, {other}"),
    };
    format!("{} → {}   {what}{networks}", party(source), party(destination))
}

fn party(party: &Party) -> String {
    let is_told = party.address.is_empty() || party.address == party.name;
    if is_told { party.name.clone() } else { format!("{} {}", party.name, party.address) }
}

fn summary(explained: &Explanation) -> String {
    let Explanation { code, summary, .. } = explained;
    // A published port leads to another than the destination.
    let last = explained.hops.iter().rfind(|hop| hop.way == "there" && hop.mark == "good");
    let receiver = last.map_or("", |hop| hop.at.as_str());
    match explained.verdict.as_str() {
        "passes" if code == "leaves" => format!("It {summary}. What happens there, nobody here knows."),
        "passes" => format!("It arrives at {receiver}, and the answer comes back."),
        "blocked" => format!("Blocked ({code}): {summary}."),
        _ => format!("Undecided: {summary}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(mark: &str, at: &str, code: &str, text: &str, entry: &str) -> Hop {
        Hop {
            way: "there".to_owned(),
            mark: mark.to_owned(),
            at: at.to_owned(),
            code: code.to_owned(),
            text: text.to_owned(),
            origin: "kernel".to_owned(),
            entry: entry.to_owned(),
            advice: String::new(),
        }
    }

    fn explained(verdict: &str, code: &str, hops: Vec<Hop>) -> Explanation {
        let party = |name: &str, address: &str| Party {
            kind: "container".to_owned(),
            name: name.to_owned(),
            id: "0123".to_owned(),
            network: "shop".to_owned(),
            address: address.to_owned(),
        };
        Explanation {
            kind: "explanation".to_owned(),
            time: jiff::Timestamp::UNIX_EPOCH,
            version: "0".to_owned(),
            source: party("web", "172.18.0.2"),
            destination: party("db", "172.18.0.3"),
            protocol: "tcp".to_owned(),
            port: 5432,
            verdict: verdict.to_owned(),
            code: code.to_owned(),
            summary: hops.last().map(|hop| hop.text.clone()).unwrap_or_default(),
            advice: "let it listen at 0.0.0.0".to_owned(),
            hops,
        }
    }

    #[test]
    fn an_explanation_is_read_from_top_to_bottom() {
        let hops = vec![
            hop("good", "web", "routed", "172.18.0.3 is reached directly on eth0", "dev eth0"),
            hop("bad", "db", "listens-on-loopback", "nobody listens at 172.18.0.3:5432", ""),
        ];
        let all = [explained("blocked", "listens-on-loopback", hops)];
        let (mut console, output) = Console::of_test();
        print(&mut console, &all[0], false).expect("printed");
        let text = "\
web 172.18.0.2 → db 172.18.0.3   tcp/5432   network shop

 ✓  web  172.18.0.3 is reached directly on eth0  kernel  dev eth0
 ✗  db   nobody listens at 172.18.0.3:5432       kernel

Blocked (listens-on-loopback): nobody listens at 172.18.0.3:5432.
Try: let it listen at 0.0.0.0
";
        assert_eq!(output.out(), text);
        assert_eq!(exit_code(&all), BLOCKED);
        let (mut console, output) = Console::of_test();
        print(&mut console, &all[0], true).expect("printed");
        assert_eq!(
            output.out(),
            "web 172.18.0.2 → db 172.18.0.3   tcp/5432   network shop: Blocked (listens-on-loopback): \
             nobody listens at 172.18.0.3:5432.\n"
        );
    }

    #[test]
    fn the_worst_verdict_is_the_exit_code() {
        let of = |verdicts: &[&str]| {
            let all: Vec<_> = verdicts.iter().map(|verdict| explained(verdict, "", Vec::new())).collect();
            exit_code(&all)
        };
        assert_eq!(of(&["passes"]), 0);
        assert_eq!(of(&["passes", "undecided"]), UNDECIDED);
        assert_eq!(of(&["undecided", "blocked", "passes"]), BLOCKED);
    }
}
