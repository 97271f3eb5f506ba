//! `events`: prints events as they happen, one per line.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{Error, console::Console, parsers, template::Template};
use crate::api::{client::Client, events::Event};

/// `events`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf events --since 10m --filter type=network --filter event=connect")]
pub struct Events {
    /// Also show earlier events since this time: 2026-01-31T12:00:00Z, seconds since the epoch, or 10m
    #[arg(long, value_name = "TIME", value_parser = parsers::since)]
    since: Option<Timestamp>,
    /// Show events until this time, then end
    #[arg(long, value_name = "TIME", value_parser = parsers::since)]
    until: Option<Timestamp>,
    /// Filter the events by container, event, label, network, scope or type
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parsers::filter)]
    filter: Vec<(String, String)>,
    /// Format: json or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// The output format.
enum Format {
    Line,
    Json,
    Template(Box<Template>),
}

impl Events {
    /// Runs the command until the time of `--until`, or until the daemon ends.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let format = match self.format.as_deref() {
            None | Some("") => Format::Line,
            Some("json" | "{{json .}}") => Format::Json,
            Some(text) => Format::Template(Box::new(Template::parse(text)?)),
        };
        let mut events = client.events(self.since, self.until, &self.filter).await?;
        while let Some(event) = events.next().await? {
            let line = match &format {
                Format::Line => line(&event),
                Format::Json => serde_json::to_string(&event)?,
                Format::Template(template) => template.render(&fields(&event))?,
            };
            writeln!(console.out, "{line}")?;
            console.out.flush()?;
        }
        Ok(0)
    }
}

/// `2026-01-31T12:00:00.123456789+01:00 network connect ID (container=ID, name=mynet, type=bridge)`.
fn line(event: &Event) -> String {
    let time = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
    let time = time.to_zoned(TimeZone::system());
    let offset = match time.offset().is_zero() {
        true => "Z".to_owned(),
        false => time.strftime("%:z").to_string(),
    };
    let time = time.strftime("%Y-%m-%dT%H:%M:%S.%9f");
    let attributes: Vec<String> =
        event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let attributes = match attributes.is_empty() {
        true => String::new(),
        false => format!(" ({})", attributes.join(", ")),
    };
    format!("{time}{offset} {} {} {}{attributes}", event.kind, event.action, event.actor.id)
}

/// The fields for templates, with Docker's names in Go.
fn fields(event: &Event) -> Value {
    json!({
        "Status": event.status,
        "ID": event.id,
        "From": event.from,
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.actor.id, "Attributes": event.actor.attributes },
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.time_nano,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::events::Actor;

    #[test]
    fn a_line_has_docker_s_format() {
        let event = Event {
            status: String::new(),
            id: String::new(),
            from: String::new(),
            kind: "network".into(),
            action: "connect".into(),
            actor: Actor {
                id: "e2e1".into(),
                attributes: [("type".into(), "bridge".into()), ("container".into(), "0fdb".into())].into(),
            },
            scope: "local".into(),
            time: 1_700_000_000,
            time_nano: 1_700_000_000_000_000_007,
        };
        let (time, rest) =
            line(&event).split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("words");
        assert_eq!(rest, "network connect e2e1 (container=0fdb, type=bridge)");
        assert!(time.contains(".000000007"), "{time}");
        assert_eq!(time.parse::<Timestamp>().expect("a time").as_second(), 1_700_000_000);
        let none = Event { actor: Actor { id: String::new(), attributes: Default::default() }, ..event };
        assert!(line(&none).ends_with("network connect "));
    }
}
