//! `drops`: what was dropped, and why.

use jiff::Timestamp;

use super::{
    Error,
    console::Console,
    parsers::{self, Tail},
    render::{Row, Table},
    template::Template,
};
use crate::api::{
    client::{Client, DropQuery},
    types::{DropParty, Dropped},
};

/// `drops`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf drops --since 10m tomcat01")]
pub struct Drops {
    /// Names or IDs: only what they sent, or what was for them
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Only what was dropped since this time: 2026-01-31T12:00:00Z, seconds since the epoch, or 10m
    #[arg(long, value_name = "TIME", value_parser = parsers::since)]
    since: Option<Timestamp>,
    /// Print only this many lines from the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = parsers::tail)]
    tail: Tail,
    /// Format: table, json, "table TEMPLATE" or a Go template
    #[arg(long)]
    format: Option<String>,
}

const DROPS: Table = Table {
    fields: &[
        ("Last", "LAST"),
        ("First", "FIRST"),
        ("From", "FROM"),
        ("To", "TO"),
        ("Protocol", "PROTOCOL"),
        ("Reason", "REASON"),
        ("Frames", "FRAMES"),
        ("Why", "WHY"),
        ("Network", "NETWORK"),
        ("Interface", "INTERFACE"),
    ],
    default: r"table {{.Last}}\t{{.From}}\t{{.To}}\t{{.Protocol}}\t{{.Reason}}\t{{.Frames}}\t{{.Why}}",
};

impl Drops {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let query = DropQuery { containers: self.containers, since: self.since, tail: self.tail.0 };
        let is_whole = query.containers.is_empty() && query.since.is_none();
        let mut lines = client.drops(&query).await?;
        let mut drops = Vec::new();
        while let Some(dropped) = lines.next().await? {
            drops.push(dropped);
        }
        print(console, &drops, self.format.as_deref(), is_whole, Timestamp::now())?;
        Ok(0)
    }
}

fn print(
    console: &mut Console,
    drops: &[Dropped],
    format: Option<&str>,
    is_whole: bool,
    now: Timestamp,
) -> Result<(), Error> {
    match format {
        None | Some("") if drops.is_empty() => {
            let said = match is_whole {
                true => "Nothing was dropped since netbpf's programs were loaded.",
                false => "Nothing of this is remembered as dropped.",
            };
            writeln!(console.out, "{said}")?;
        }
        Some("json" | "{{json .}}") => {
            for dropped in drops {
                writeln!(console.out, "{}", serde_json::to_string(dropped)?)?;
            }
        }
        Some(format) if !format.is_empty() && !format.starts_with("table") => {
            let template = Template::parse(format)?;
            for dropped in drops {
                writeln!(console.out, "{}", template.render(&serde_json::to_value(dropped)?)?)?;
            }
        }
        format => {
            let format = format.filter(|format| !format.is_empty());
            DROPS.print(&mut console.out, format, false, drops.iter().map(|dropped| row(dropped, now)))?;
        }
    }
    Ok(console.out.flush()?)
}

fn row(dropped: &Dropped, now: Timestamp) -> Row {
    let time = |time: Option<Timestamp>| {
        time.map_or_else(|| "-".to_owned(), |time| ago(now.duration_since(time).as_secs()))
    };
    let party = |party: &Option<DropParty>| party.as_ref().map_or_else(|| "-".to_owned(), party_text);
    let from = match dropped.source {
        None if dropped.by == "packet filter" => dropped.by.clone(),
        _ => party(&dropped.source),
    };
    let protocol = if dropped.protocol.is_empty() { "-".to_owned() } else { dropped.protocol.clone() };
    Row::new([
        ("Last", time(dropped.time)),
        ("First", time(dropped.first)),
        ("From", from),
        ("To", party(&dropped.destination)),
        ("Protocol", protocol),
        ("Reason", dropped.reason.clone()),
        ("Frames", dropped.frames.to_string()),
        ("Why", dropped.why.clone()),
        ("Network", dropped.network.clone()),
        ("Interface", dropped.interface.clone()),
    ])
}

/// `web:80`, or `172.18.0.9:80`: a name if there is one.
fn party_text(party: &DropParty) -> String {
    let name = if party.name.is_empty() { &party.address } else { &party.name };
    match party.port {
        Some(port) if name.contains(':') => format!("[{name}]:{port}"),
        Some(port) => format!("{name}:{port}"),
        None => name.clone(),
    }
}

/// `3s`, `2m`, `5h`, `3d`.
fn ago(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped() -> Dropped {
        let line = r#"{"Type":"drop","Time":"2026-01-31T12:00:00Z","First":"2026-01-31T10:00:00Z","Reason":"isolated",
            "Frames":14,"Why":"apart: connect","By":"programs",
            "Source":{"Kind":"container","Name":"web","ID":"ab","Network":"shop","Address":"10.0.0.2","Port":4321},
            "Destination":{"Kind":"other","Address":"fd00::1","Port":80},"Protocol":"tcp"}"#;
        serde_json::from_str(line).expect("a message")
    }

    fn printed(drops: &[Dropped], format: Option<&str>, is_whole: bool) -> String {
        let (mut console, output) = Console::of_test();
        let now = "2026-01-31T12:02:59Z".parse().expect("a time");
        print(&mut console, drops, format, is_whole, now).expect("printed");
        output.out()
    }

    #[test]
    fn drops_are_a_table() {
        let counted = Dropped {
            time: None,
            source: None,
            destination: None,
            by: "packet filter".into(),
            reason: "unpublished".into(),
            protocol: String::new(),
            ..dropped()
        };
        let table = "\
LAST      FROM            TO             PROTOCOL   REASON        FRAMES    WHY
-         packet filter   -              -          unpublished   14        apart: connect
2m        web:4321        [fd00::1]:80   tcp        isolated      14        apart: connect
";
        assert_eq!(printed(&[counted, dropped()], None, true), table);
        assert_eq!(printed(&[dropped()], Some("{{.Source.Name}} {{.Frames}}"), true), "web 14\n");
        assert_eq!(printed(&[dropped()], Some("table {{.First}}"), true), "FIRST\n2h\n");
    }

    #[test]
    fn nothing_dropped_is_said() {
        assert_eq!(printed(&[], None, true), "Nothing was dropped since netbpf's programs were loaded.\n");
        assert_eq!(printed(&[], None, false), "Nothing of this is remembered as dropped.\n");
        assert_eq!(printed(&[], Some("json"), true), "");
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(-1, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (172_800, "2d")] {
            assert_eq!(ago(seconds), text);
        }
    }
}
