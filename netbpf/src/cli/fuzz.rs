//! Fuzz targets: the parsers of option values, and templates. A value that a parser returns is accepted by it again; a
//! template gives the same text each time.

use serde_json::json;

use super::{
    attachment, parsers,
    template::{Error, Template},
};

/// Checks one text as each kind of value.
pub(crate) fn check_values(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    for parser in [parsers::extra_host, parsers::address, parsers::search_domain] {
        if let Ok(value) = parser(text) {
            assert_eq!(parser(&value), Ok(value));
        }
    }
    for parser in [parsers::pair, parsers::label, parsers::filter, parsers::driver_option] {
        if let Ok((key, value)) = parser(text) {
            assert!(!key.contains('='));
            assert_eq!(parser(&format!("{key}={value}")), Ok((key, value)));
        }
    }
    if let Ok(variable) = parsers::env(text) {
        assert_eq!(parsers::set_variables(vec![variable.clone()]).len(), usize::from(variable.contains('=')));
    }
    if let Ok(policy) = parsers::restart(text)
        && !policy.name.is_empty()
    {
        let again = format!("{}:{}", policy.name, policy.maximum_retry_count);
        assert_eq!(parsers::restart(&again), Ok(policy));
    }
    let _ = (parsers::since(text), parsers::tail(text));
    if let Ok(network) = attachment::parse(text) {
        assert!(text.is_empty() || !network.network.is_empty());
    }
}

/// A network, as `network inspect` prints it.
pub(super) fn network() -> serde_json::Value {
    json!({
        "Name": "mynet",
        "Id": "0123",
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": [
            { "Subnet": "192.168.0.0/16", "Gateway": "192.168.0.1" },
            { "Subnet": "10.0.0.0/8" },
        ] },
        "Containers": { "ab": { "Name": "web", "IPv4Address": "192.168.0.2/16" } },
        "Labels": { "a": "1", "b.c": "2" },
    })
}

/// Checks a template of `--format`.
pub(crate) fn check_templates(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    let document = network();
    let render = |parse: fn(&str) -> Result<Template, Error>| {
        let rendered = parse(text).and_then(|template| template.render(&document));
        rendered.map_err(|error| error.to_string())
    };
    for parse in [Template::parse, Template::parse_header] {
        let rendered = render(parse);
        assert_eq!(render(parse), rendered);
        if !text.contains("{{") {
            assert_eq!(rendered.as_deref(), Ok(text));
        }
    }
}

/// Values of all kinds.
pub(crate) fn values() -> Vec<Vec<u8>> {
    [
        "name=mynet,alias=db,ip=10.1.0.9,mac-address=02:42:ac:11:00:02,gw-priority=3,driver-opt=a=b",
        "name=x,\"driver-opt=a=b,c\"",
        "host=[::1]",
        "host:host-gateway",
        "on-failure:3",
        "1700000000.5",
        "1h30m",
        "2023-11-14T22:13:20Z",
        "example.com.",
        "KEY=VALUE",
        " app = web ",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Templates with all functions and actions.
pub(crate) fn templates() -> Vec<Vec<u8>> {
    [
        "{{.Name}} {{json .IPAM.Config}}",
        "{{range $i, $c := .IPAM.Config}}{{$i}} {{$c.Subnet}};{{else}}none{{end}}",
        "{{with index .Labels \"b.c\"}}{{. | printf \"%-8s|\"}}{{end}}",
        "{{if and (eq .Name \"x\") (not .EnableIPv6)}}{{upper .Name}}{{else if .Id}}{{lower .Id}}{{end}}",
        "{{join (split \"a,b\" \",\") \"-\"}} {{title .Name}} {{len .Labels}} {{.Label \"a\"}}",
        "{{pad .Name 1 2}}{{truncate .Name 2}}{{- /* comment */ -}}{{println 1 2.5 true nil}}",
        "{{define \"x\"}}{{.}}{{end}}{{template \"x\" .Name}}{{slice .Name 1 2}}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
