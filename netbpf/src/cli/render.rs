//! Prints tables and JSON: Docker's columns and spacing, `--format`, `inspect`. Knows no command and no API message.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use gotmpl::Value;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use tabwriter::TabWriter;

use super::{
    Error,
    template::{self, Template},
};

/// The columns of a list.
pub struct Table {
    /// Each field's name in templates, and its heading; in any order.
    pub fields: &'static [(&'static str, &'static str)],
    /// The template to use without `--format`.
    pub default: &'static str,
}

/// One line of a list.
pub struct Row(BTreeMap<Arc<str>, Value>);

impl Row {
    /// Makes a row with a text for each field of the table.
    pub fn new<const N: usize>(cells: [(&'static str, String); N]) -> Self {
        Self(cells.into_iter().map(|(field, text)| (Arc::from(field), Value::from(text))).collect())
    }

    /// Adds `.Labels` as one text, and the function `.Label "key"`.
    pub fn labels(mut self, labels: &BTreeMap<String, String>) -> Self {
        let list: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.0.insert(Arc::from("Labels"), Value::from(list.join(",")));
        let labels = labels.clone();
        let label = move |key: &str| labels.get(key).cloned().unwrap_or_default();
        self.0.insert(Arc::from("Label"), label_function(label));
        self
    }
}

fn label_function(label: impl Fn(&str) -> String + Send + Sync + 'static) -> Value {
    Value::Function(Arc::new(move |args| {
        let key = args.first().and_then(Value::as_str).unwrap_or_default();
        Ok(Value::from(label(key)))
    }))
}

impl Table {
    /// Prints the rows in `format`, as IDs only if `quiet`, or as Docker's table.
    pub fn print(
        &self,
        out: &mut dyn Write,
        format: Option<&str>,
        quiet: bool,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<(), Error> {
        let format = match format {
            None | Some("table") if quiet => "{{.ID}}",
            None | Some("table") => self.default,
            Some("json") => "{{json .}}",
            Some(format) => format,
        };
        let is_table = format.starts_with("table");
        let format = format.strip_prefix("table").unwrap_or(format).trim_matches(' ');
        let format = format.replace(r"\t", "\t").replace(r"\n", "\n");
        let template = Template::parse(&format)?;
        let mut lines = String::new();
        if is_table {
            lines += &Template::parse_header(&format)?.render_value(&self.header())?;
            lines.push('\n');
        }
        for Row(cells) in rows {
            lines += &template.render_value(&Value::Map(Arc::new(cells)))?;
            lines.push('\n');
        }
        let lines = if is_table { align(&lines)? } else { lines };
        Ok(out.write_all(lines.as_bytes())?)
    }

    fn header(&self) -> Value {
        let mut header: BTreeMap<Arc<str>, Value> =
            self.fields.iter().map(|&(field, heading)| (Arc::from(field), Value::from(heading))).collect();
        // The column of `.Label "com.example.some-key"` has the heading `some key`.
        let heading = |key: &str| key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ");
        header.insert(Arc::from("Label"), label_function(heading));
        Value::Map(Arc::new(header))
    }
}

/// Docker's columns: at least 10 characters wide, with three spaces between them.
fn align(lines: &str) -> io::Result<String> {
    let mut writer = TabWriter::new(Vec::new()).minwidth(7).padding(3);
    writer.write_all(lines.as_bytes())?;
    let bytes = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The output format of `inspect`.
pub enum Inspection {
    /// A JSON list.
    Json {
        /// Whether it is in one line, instead of indented by 4.
        compact: bool,
    },
    /// A template, applied to each object.
    Template(Box<Template>),
}

impl Inspection {
    /// The format of `--format`.
    pub fn new(format: Option<&str>) -> Result<Self, template::Error> {
        Ok(match format {
            None | Some("") => Self::Json { compact: false },
            Some("json") => Self::Json { compact: true },
            Some(format) => Self::Template(Box::new(Template::parse(format)?)),
        })
    }

    /// Prints all objects. Returns the errors of the template.
    pub fn print(
        &self,
        out: &mut dyn Write,
        objects: &[serde_json::Value],
    ) -> Result<Vec<template::Error>, Error> {
        let mut errors = Vec::new();
        match self {
            Self::Json { compact: true } => writeln!(out, "{}", serde_json::to_string(objects)?)?,
            Self::Json { compact: false } => writeln!(out, "{}", indented(&objects)?)?,
            Self::Template(template) => {
                let mut text = String::new();
                for object in objects {
                    match template.render(object) {
                        Ok(line) => text += &(line + "\n"),
                        Err(error) => errors.push(error),
                    }
                }
                out.write_all(if text.is_empty() { b"\n" } else { text.as_bytes() })?;
            }
        }
        Ok(errors)
    }
}

/// Prints one object in `format`.
pub fn object(out: &mut dyn Write, format: &str, object: &serde_json::Value) -> Result<(), Error> {
    let format = if format == "json" { "{{json .}}" } else { format };
    Ok(writeln!(out, "{}", Template::parse(format)?.render(object)?)?)
}

/// JSON with Docker's indentation.
fn indented(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TABLE: Table = Table {
        fields: &[("ID", "NETWORK ID"), ("Name", "NAME"), ("Scope", "SCOPE"), ("Labels", "LABELS")],
        default: r"table {{.ID}}\t{{.Name}}\t{{.Scope}}",
    };

    fn print(format: Option<&str>, quiet: bool) -> String {
        let rows = [("0123456789ab", "bridge"), ("ba9876543210", "a-longer-name")];
        let rows = rows.map(|(id, name)| {
            let cells = [("ID", id.to_owned()), ("Name", name.to_owned()), ("Scope", "local".to_owned())];
            let labels = [("com.example.some-key", name), ("other", "1")];
            Row::new(cells).labels(&labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
        });
        let mut out = Vec::new();
        match TABLE.print(&mut out, format, quiet, rows) {
            Ok(()) => String::from_utf8(out).expect("text"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_table_has_docker_s_spacing() {
        let table = "\
NETWORK ID     NAME            SCOPE
0123456789ab   bridge          local
ba9876543210   a-longer-name   local
";
        assert_eq!(print(None, false), table);
        assert_eq!(print(Some("table"), false), table);
    }

    #[test]
    fn a_table_can_have_a_template() {
        let format = r#"table {{.Name | upper}}\t{{truncate .Scope 2}}\t{{.Label "com.example.some-key"}}\t{{.Scope}}"#;
        let table = "\
NAME            SCOPE     some key        SCOPE
BRIDGE          lo        bridge          local
A-LONGER-NAME   lo        a-longer-name   local
";
        assert_eq!(print(Some(format), false), table);
    }

    #[test]
    fn other_formats() {
        assert_eq!(print(None, true), "0123456789ab\nba9876543210\n");
        assert_eq!(print(Some("{{.Name}}"), true), "bridge\na-longer-name\n");
        assert_eq!(
            print(Some("json"), false).lines().next(),
            Some(
                r#"{"ID":"0123456789ab","Labels":"com.example.some-key=bridge,other=1","Name":"bridge","Scope":"local"}"#
            )
        );
        assert_eq!(print(Some("{{.Nope}}"), false), "template parsing error: map has no entry for key: Nope");
    }

    fn inspect(format: Option<&str>, objects: &[serde_json::Value]) -> String {
        let mut out = Vec::new();
        let inspection = Inspection::new(format).expect("a template");
        let errors = inspection.print(&mut out, objects).expect("printed");
        errors.iter().fold(String::from_utf8(out).expect("text"), |text, error| text + &error.to_string())
    }

    #[test]
    fn objects_are_a_list_indented_by_four() {
        let json = "\
[
    {
        \"Name\": \"bridge\",
        \"Id\": \"0123\",
        \"Config\": [],
        \"Labels\": {}
    }
]
";
        let object = json!({ "Name": "bridge", "Id": "0123", "Config": [], "Labels": {} });
        assert_eq!(inspect(None, std::slice::from_ref(&object)), json);
        assert_eq!(
            inspect(Some("json"), std::slice::from_ref(&object)),
            "[{\"Name\":\"bridge\",\"Id\":\"0123\",\"Config\":[],\"Labels\":{}}]\n"
        );
        assert_eq!(inspect(Some("{{.Id}}"), &[object.clone(), object]), "0123\n0123\n");
    }

    #[test]
    fn nothing_found_is_an_empty_list() {
        assert_eq!(inspect(None, &[]), "[]\n");
        assert_eq!(inspect(Some("{{.Id}}"), &[]), "\n");
    }
}
