//! Go templates over JSON with the functions of Docker's `--format`. The engine is gotmpl; this file adds Docker's
//! functions, `.Label "k"`, the order of keys in `json`, and fields that JSON omits when they are empty.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use gotmpl::{FuncMap, MissingKey, TemplateError, Value, ValueFunc};
use serde_json::{Map, Value as Json};

/// A template is invalid, or cannot be applied to the data.
#[derive(Debug, thiserror::Error)]
#[error("template parsing error: {0}")]
pub struct Error(#[from] TemplateError);

/// A parsed template.
pub struct Template {
    program: gotmpl::Template,
    shapes: Shapes,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::with(text, functions)
    }

    /// Parses a template for the headings of a table: functions return their argument unchanged.
    pub fn parse_header(text: &str) -> Result<Self, Error> {
        Self::with(text, header_functions)
    }

    fn with(text: &str, functions: fn(&Shapes) -> FuncMap) -> Result<Self, Error> {
        let shapes = Shapes::default();
        let program = gotmpl::Template::new("").missing_key(MissingKey::Error).funcs(functions(&shapes));
        Ok(Self { program: program.parse(&call_labels(text))?, shapes })
    }

    /// Applies the template to a JSON document.
    pub fn render(&self, document: &Json) -> Result<String, Error> {
        let mut document = document.clone();
        fill_omitted(&mut document);
        self.shapes.learn(&document);
        name_as_go_does(&mut document);
        self.render_value(&gotmpl::to_value(&document)?)
    }

    /// Applies the template to a value. Its maps are sorted by key.
    pub fn render_value(&self, value: &Value) -> Result<String, Error> {
        Ok(self.program.execute_to_string(value)?)
    }
}

/// The order of the keys of each kind of object, by its sorted keys. The engine sorts its maps, but `json` prints the
/// keys in their original order.
#[derive(Clone, Default)]
struct Shapes(Arc<Mutex<HashMap<Vec<String>, Vec<String>>>>);

impl Shapes {
    fn learn(&self, json: &Json) {
        match json {
            Json::Object(object) => {
                let keys: Vec<String> = object.keys().cloned().collect();
                let mut sorted = keys.clone();
                sorted.sort();
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sorted, keys);
                object.values().for_each(|value| self.learn(value));
            }
            Json::Array(values) => values.iter().for_each(|value| self.learn(value)),
            _ => {}
        }
    }

    fn json(&self, value: &Value) -> Json {
        match value {
            Value::Bool(value) => Json::from(*value),
            Value::Int(value) => Json::from(*value),
            Value::Uint(value) => Json::from(*value),
            Value::Float(value) => Json::from(*value),
            Value::String(value) => Json::from(value.as_ref()),
            Value::List(values) => values.iter().map(|value| self.json(value)).collect(),
            Value::Map(map) => {
                let is_shown = |key: &str| key != GO_ID || !map.contains_key(ID);
                let sorted: Vec<String> =
                    map.keys().map(ToString::to_string).filter(|key| is_shown(key)).collect();
                let shapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let keys = shapes.get(&sorted).cloned().unwrap_or(sorted);
                drop(shapes);
                let optional = OMITTED.iter().any(|(_, fields)| keys == **fields);
                let entries = keys.into_iter().filter_map(|key| {
                    let value = map.get(key.as_str())?;
                    let left_out = value.is_function() || (optional && !value.is_truthy());
                    (!left_out).then(|| (key, self.json(value)))
                });
                Json::Object(entries.collect())
            }
            Value::Nil | Value::Function(_) => Json::Null,
        }
    }
}

/// Fields that JSON omits when they are empty, by the key of their object. A template may still name them.
const OMITTED: [(&str, &[&str]); 2] = [
    ("Config", &["Subnet", "IPRange", "Gateway", "AuxiliaryAddresses"]),
    ("IPAMConfig", &["IPv4Address", "IPv6Address"]),
];

/// The JSON key of an ID, and the field's name in Go. Templates know both; `json` prints the JSON key.
const ID: &str = "Id";
const GO_ID: &str = "ID";

fn name_as_go_does(document: &mut Json) {
    if let Json::Object(object) = document
        && let Some(id) = object.get(ID).cloned()
    {
        object.insert(GO_ID.to_owned(), id);
    }
}

fn fill_omitted(json: &mut Json) {
    match json {
        Json::Object(object) => {
            for (key, value) in object.iter_mut() {
                fill_omitted(value);
                let fields = OMITTED.iter().find(|(parent, _)| parent == key).map(|(_, fields)| *fields);
                match (fields, value) {
                    (Some(fields), Json::Array(entries)) => {
                        entries
                            .iter_mut()
                            .filter_map(Json::as_object_mut)
                            .for_each(|entry| fill(entry, fields));
                    }
                    (Some(fields), Json::Object(entry)) if key == "IPAMConfig" => fill(entry, fields),
                    _ => {}
                }
            }
        }
        Json::Array(values) => values.iter_mut().for_each(fill_omitted),
        _ => {}
    }
}

fn fill(entry: &mut Map<String, Json>, fields: &[&str]) {
    let mut typed = std::mem::take(entry);
    *entry = fields
        .iter()
        .map(|&field| {
            let empty = if field == "AuxiliaryAddresses" { Json::Object(Map::new()) } else { Json::from("") };
            (field.to_owned(), typed.remove(field).unwrap_or(empty))
        })
        .collect();
}

/// `.Label "k"` is a method call in Docker; the engine needs `call .Label "k"`.
fn call_labels(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for (index, part) in text.split("{{").enumerate() {
        if index == 0 {
            result.push_str(part);
            continue;
        }
        let (action, rest) = part.split_at(part.find("}}").unwrap_or(part.len()));
        result.push_str("{{");
        result.push_str(&action.replace(".Label ", "call .Label "));
        result.push_str(rest);
    }
    result
}

fn functions(shapes: &Shapes) -> FuncMap {
    let mut functions = FuncMap::new();
    let mut add = |name: &str, function: ValueFunc| functions.insert(name.to_owned(), function);
    let shapes = shapes.clone();
    add(
        "json",
        Arc::new(move |args| one("json", args).map(|value| Value::from(shapes.json(value).to_string()))),
    );
    add("index", Arc::new(index));
    add("split", Arc::new(split));
    add("join", Arc::new(join));
    add("title", Arc::new(|args| of_text("title", args, title)));
    add("lower", Arc::new(|args| of_text("lower", args, str::to_lowercase)));
    add("upper", Arc::new(|args| of_text("upper", args, str::to_uppercase)));
    add("pad", Arc::new(pad));
    add("truncate", Arc::new(truncate));
    functions
}

/// Docker's rule: all functions except `pad` leave a heading unchanged.
fn header_functions(shapes: &Shapes) -> FuncMap {
    let mut functions = functions(shapes);
    for (_, function) in functions.iter_mut().filter(|(name, _)| *name != "pad") {
        *function = Arc::new(|args: &[Value]| Ok(args.first().cloned().unwrap_or(Value::Nil)));
    }
    functions
}

/// Go's `index`, which returns an empty text for a missing key.
fn index(args: &[Value]) -> gotmpl::Result<Value> {
    let [value, keys @ ..] = args else { return Err(exec("index: needs a value")) };
    let found = keys.iter().try_fold(value.clone(), |value, key| value.index(key))?;
    Ok(if matches!(found, Value::Nil) { Value::from("") } else { found })
}

fn split(args: &[Value]) -> gotmpl::Result<Value> {
    let [text, separator] = args else { return Err(exec("split: needs a text and a separator")) };
    Ok(Value::from(text.to_string().split(&separator.to_string()).map(Value::from).collect::<Vec<_>>()))
}

fn pad(args: &[Value]) -> gotmpl::Result<Value> {
    let [text, Value::Int(before), Value::Int(after)] = args else {
        return Err(exec("pad: needs a text and two numbers"));
    };
    let text = text.to_string();
    let spaces = |count: &i64| " ".repeat(usize::try_from(*count).unwrap_or(0).min(1000));
    let padded = format!("{}{text}{}", spaces(before), spaces(after));
    Ok(Value::from(if text.is_empty() { text } else { padded }))
}

fn truncate(args: &[Value]) -> gotmpl::Result<Value> {
    let [text, Value::Int(length)] = args else { return Err(exec("truncate: needs a text and a number")) };
    let length = usize::try_from(*length).unwrap_or(0);
    Ok(Value::from(text.to_string().chars().take(length).collect::<String>()))
}

fn join(args: &[Value]) -> gotmpl::Result<Value> {
    let parts: Vec<String> = match args {
        [Value::Nil, _] => Vec::new(),
        [Value::List(values), _] => values.iter().map(ToString::to_string).collect(),
        [Value::Map(map), _] => {
            let mut values: Vec<String> = map.values().map(ToString::to_string).collect();
            values.sort();
            values
        }
        _ => return Err(exec("join: needs a list and a separator")),
    };
    Ok(Value::from(parts.join(&args[1].to_string())))
}

fn title(text: &str) -> String {
    let mut start = true;
    let upper = |character: char| {
        let first = std::mem::replace(&mut start, !character.is_alphanumeric());
        if first { character.to_ascii_uppercase() } else { character }
    };
    text.chars().map(upper).collect()
}

fn of_text(name: &str, args: &[Value], function: impl Fn(&str) -> String) -> gotmpl::Result<Value> {
    one(name, args).map(|text| Value::from(function(&text.to_string())))
}

fn one<'a>(name: &str, args: &'a [Value]) -> gotmpl::Result<&'a Value> {
    let [value] = args else { return Err(exec(&format!("{name}: needs one value"))) };
    Ok(value)
}

fn exec(message: &str) -> TemplateError {
    TemplateError::Exec(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fuzz;

    fn render(template: &str) -> String {
        match Template::parse(template).and_then(|template| template.render(&fuzz::network())) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn templates_of_docker_users_work() {
        for (template, text) in [
            ("{{.Name}}", "mynet"),
            ("{{.Name}} {{.EnableIPv6}}", "mynet false"),
            (
                "{{json .IPAM.Config}}",
                r#"[{"Subnet":"192.168.0.0/16","Gateway":"192.168.0.1"},{"Subnet":"10.0.0.0/8"}]"#,
            ),
            ("{{json .Name}}", "\"mynet\""),
            ("{{.Id}} {{.ID}}", "0123 0123"),
            (
                "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}};{{end}}",
                "192.168.0.0/16 192.168.0.1;10.0.0.0/8 ;",
            ),
            ("{{(index .IPAM.Config 0).Subnet}}", "192.168.0.0/16"),
            ("{{index .Labels \"b.c\"}}", "2"),
            ("{{index .Labels \"none\"}}", ""),
            ("{{.Labels.a}}", "1"),
            ("{{len .Containers}}", "1"),
            ("{{range $id, $c := .Containers}}{{$id}}={{$c.Name}}{{end}}", "ab=web"),
            ("{{range .Containers}}{{println .Name}}{{end}}", "web\n"),
            ("{{.Name | printf \"%-8s|\"}}", "mynet   |"),
            ("{{printf \"%s/%d\" .Name (len .Labels)}}", "mynet/2"),
            ("{{upper .Name}} {{lower \"ABC\"}} {{title \"a bc\"}}", "MYNET abc A Bc"),
            ("{{join (split \"a,b\" \",\") \"-\"}}", "a-b"),
            ("{{truncate .Name 2}}|{{pad .Id 1 2}}|", "my| 0123  |"),
            ("{{if .EnableIPv6}}six{{else}}four{{end}}", "four"),
            ("{{with .IPAM}}{{.Driver}}{{end}}", "default"),
            ("{{if and (eq .Name \"mynet\") (not .EnableIPv6)}}yes{{end}}", "yes"),
            ("{{- .Name -}}  \n", "mynet"),
            ("no action", "no action"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }

    #[test]
    fn json_keeps_the_order_of_keys() {
        assert_eq!(
            render("{{json .}}"),
            "{\"Name\":\"mynet\",\"Id\":\"0123\",\"EnableIPv6\":false,\"IPAM\":{\"Driver\":\"default\",\
             \"Options\":null,\"Config\":[{\"Subnet\":\"192.168.0.0/16\",\"Gateway\":\"192.168.0.1\"},\
             {\"Subnet\":\"10.0.0.0/8\"}]},\"Containers\":{\"ab\":{\"Name\":\"web\",\
             \"IPv4Address\":\"192.168.0.2/16\"}},\"Labels\":{\"a\":\"1\",\"b.c\":\"2\"}}"
        );
    }

    #[test]
    fn bad_templates_are_refused() {
        for template in
            ["{{.Nmae}}", "{{.Name", "{{nope .Name}}", "{{.Name.Deeper}}", "{{index .IPAM.Config 7}}"]
        {
            let text = render(template);
            assert!(text.starts_with("template parsing error: "), "{template}: {text}");
        }
    }
}
