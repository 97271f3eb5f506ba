//! `--network` of `run`: a network, or a network with options (`name=mynet,alias=db,ip=10.1.0.9`). Other options of
//! `run` apply to the first network. Error messages are Docker's.

use std::collections::BTreeMap;

use super::{Error, network, parsers};
use crate::api::types::{EndpointSettings, NetworkAttachment};

/// Parses one `--network`.
pub fn parse(text: &str) -> Result<NetworkAttachment, String> {
    // Docker takes a text that contains `\w+=\w+` for the long form.
    let is_long = text.match_indices('=').any(|(at, _)| {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        is_word(text[..at].chars().next_back()) && is_word(text[at + 1..].chars().next())
    });
    if !is_long {
        return Ok(NetworkAttachment { network: text.to_owned(), ..NetworkAttachment::default() });
    }
    let mut attachment = NetworkAttachment::default();
    let (mut ip, mut ip6) = (String::new(), String::new());
    let mut aliases = Vec::new();
    let mut options = BTreeMap::new();
    for field in fields(text)? {
        let (key, value) = field
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        match key.to_lowercase().as_str() {
            "name" => attachment.network = value.to_owned(),
            "alias" => aliases.push(value.to_owned()),
            "ip" => ip = value.to_owned(),
            "ip6" => ip6 = value.to_owned(),
            "mac-address" => attachment.endpoint_config.mac_address = value.to_owned(),
            "driver-opt" => options.extend([parsers::driver_option(value)?]),
            "gw-priority" => {
                let number =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"));
                attachment.endpoint_config.gw_priority = number?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.network.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    attachment.endpoint_config = EndpointSettings {
        ipam_config: network::endpoint_ipam(ip, ip6),
        aliases: network::some(aliases),
        driver_opts: (!options.is_empty()).then_some(options),
        ..attachment.endpoint_config
    };
    Ok(attachment)
}

/// The first network with the options that apply to it, and the others. Without `--network`, the first is the default
/// network.
pub fn first_and_others(
    networks: Vec<NetworkAttachment>,
    flags: EndpointSettings,
) -> Result<(NetworkAttachment, Vec<NetworkAttachment>), Error> {
    let mut networks = networks.into_iter();
    let NetworkAttachment { network, endpoint_config: own } = networks.next().unwrap_or_default();
    let conflict = match () {
        () if own.aliases.is_some() && flags.aliases.is_some() => {
            "cannot specify both --network-alias and per-network alias"
        }
        () if own.ipam_config.is_some() && flags.ipam_config.is_some() => {
            "cannot specify both --ip and per-network IPv4 address"
        }
        () if !own.mac_address.is_empty() && !flags.mac_address.is_empty() => {
            "cannot specify both --mac-address and per-network MAC address"
        }
        () if own.driver_opts.is_some() && flags.driver_opts.is_some() => {
            "cannot specify both --driver-opt and per-network driver-opt"
        }
        () => {
            let endpoint_config = EndpointSettings {
                aliases: own.aliases.or(flags.aliases),
                ipam_config: own.ipam_config.or(flags.ipam_config),
                mac_address: own.mac_address + &flags.mac_address,
                driver_opts: own.driver_opts.or(flags.driver_opts),
                gw_priority: own.gw_priority,
                ..flags
            };
            return Ok((NetworkAttachment { network, endpoint_config }, networks.collect()));
        }
    };
    Err(Error::Conflict(conflict))
}

/// Splits a text at commas. A field in double quotes may contain commas, and `""` for a quote (RFC 4180).
fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is one from the start");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            character => field.push(character),
        }
    }
    if quoted { Err(format!("invalid network {text}: missing closing quote")) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_name_or_a_list_of_fields() {
        assert_eq!(parse("my-net").expect("a name").network, "my-net");
        assert_eq!(parse("container:web").expect("a mode").network, "container:web");
        let all = parse(
            "name=mynet,alias=db,alias=store,ip=10.1.0.9,mac-address=02:42:0a:01:00:09,gw-priority=-1,\
             \"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.a=1,net.ipv4.conf.IFNAME.b=2\"",
        );
        let NetworkAttachment { network, endpoint_config } = all.expect("a network");
        assert_eq!(network, "mynet");
        assert_eq!(endpoint_config.aliases, Some(vec!["db".to_owned(), "store".to_owned()]));
        assert_eq!(endpoint_config.ipam_config.expect("an address").ipv4_address, "10.1.0.9");
        assert_eq!(endpoint_config.mac_address, "02:42:0a:01:00:09");
        assert_eq!(endpoint_config.gw_priority, -1);
        assert_eq!(
            endpoint_config.driver_opts.expect("options")["com.docker.network.endpoint.sysctls"],
            "net.ipv4.conf.IFNAME.a=1,net.ipv4.conf.IFNAME.b=2"
        );
        for (text, message) in [
            ("alias=db", "network name/id is not specified"),
            ("name=x,colour=red", "invalid field key colour"),
            ("name=x,alias", "invalid field alias"),
            ("name=x,gw-priority=high", "invalid gw-priority (high): invalid syntax"),
            ("name=x,\"alias=y", "invalid network name=x,\"alias=y: missing closing quote"),
        ] {
            assert_eq!(parse(text).map(|_| ()), Err(message.to_owned()));
        }
    }

    #[test]
    fn options_apply_to_the_first_network() {
        let networks = ["name=one,gw-priority=3", "two"].map(|text| parse(text).expect("a network"));
        let flags = EndpointSettings { aliases: Some(vec!["a".to_owned()]), ..Default::default() };
        let (first, others) = first_and_others(networks.into(), flags.clone()).expect("no conflict");
        assert_eq!((first.network.as_str(), first.endpoint_config.gw_priority), ("one", 3));
        assert_eq!(first.endpoint_config.aliases, flags.aliases);
        assert_eq!(others.iter().map(|other| other.network.as_str()).collect::<Vec<_>>(), ["two"]);
        let options = [("netbpf.guard".to_owned(), "off".to_owned())];
        let with_options = EndpointSettings { driver_opts: Some(options.into()), ..Default::default() };
        let (first, _) = first_and_others(Vec::new(), with_options.clone()).expect("no conflict");
        assert_eq!(first.endpoint_config.driver_opts, with_options.driver_opts);
        let networks = vec![parse("name=one,driver-opt=netbpf.guard=on").expect("a network")];
        let conflict = first_and_others(networks, with_options).map(|_| ()).expect_err("options twice");
        assert!(conflict.to_string().contains("cannot specify both --driver-opt and per-network driver-opt"));
        let networks = vec![parse("name=one,alias=b").expect("a network")];
        let conflict = first_and_others(networks, flags).map(|_| ()).expect_err("two aliases");
        assert!(conflict.to_string().contains("cannot specify both --network-alias and per-network alias"));
    }
}
