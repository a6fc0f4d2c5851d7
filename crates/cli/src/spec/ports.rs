//! `-p` and `--expose`: from `[IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTO]`, or the long form
//! `published=…,target=…,protocol=…`, to the ports and bindings of the create body.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

/// Ports as the API writes them: `80/tcp`.
pub type Exposed = BTreeSet<String>;
/// For each container port its host addresses and host ports, in the order given; an empty text lets the engine choose.
pub type Bindings = BTreeMap<String, Vec<(String, String)>>;

/// Reads all values of `-p`.
pub fn published(values: &[String]) -> Result<(Exposed, Bindings), String> {
    let mut exposed = Exposed::new();
    let mut bindings = Bindings::new();
    for value in values {
        let short = if value.contains('=') { short_form(value)? } else { value.clone() };
        for (port, ip, host) in parse(&short)? {
            exposed.insert(port.clone());
            bindings.entry(port).or_default().push((ip, host));
        }
    }
    Ok((exposed, bindings))
}

/// Reads all values of `--expose`: `PORT[-PORT][/PROTO]`.
pub fn exposed(values: &[String]) -> Result<Exposed, String> {
    let mut ports = Exposed::new();
    for value in values {
        if value.contains(':') {
            return Err(format!("invalid port format for --expose: {value}"));
        }
        let (range, proto) = protocol(value)
            .map_err(|_| format!("invalid port format for --expose: {value}: the protocol is tcp, udp or sctp"))?;
        let refused = |why| format!("invalid range format for --expose: {range}, error: {why}");
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first = number(first).map_err(refused)?;
        let last = number(last).map_err(refused)?;
        if last < first {
            return Err(refused(format!("invalid range specified for port: {range}")));
        }
        ports.extend((first..=last).map(|port| format!("{port}/{proto}")));
    }
    Ok(ports)
}

/// The API's map of exposed ports.
pub fn exposed_json(ports: &Exposed) -> Value {
    ports.iter().map(|port| (port.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into()
}

/// The API's map of bindings.
pub fn bindings_json(bindings: &Bindings) -> Value {
    let list = |hosts: &Vec<(String, String)>| -> Value {
        hosts.iter().map(|(ip, port)| json!({"HostIp": ip, "HostPort": port})).collect()
    };
    bindings.iter().map(|(port, hosts)| (port.clone(), list(hosts))).collect::<serde_json::Map<_, _>>().into()
}

/// The long form as the short one.
fn short_form(value: &str) -> Result<String, String> {
    let (mut target, mut published, mut proto) = ("", "", "tcp");
    for field in value.split(',') {
        let (key, text) = field
            .split_once('=')
            .filter(|(_, text)| !text.is_empty())
            .ok_or_else(|| format!("invalid publish opts format (should be name=value but got '{field}')"))?;
        match key {
            "target" => target = text,
            "published" => published = text,
            "protocol" => proto = text,
            // `mode` says how a swarm publishes; one host has only one way.
            _ => {}
        }
    }
    Ok(if published.is_empty() && !target.is_empty() {
        format!("{target}/{proto}")
    } else {
        format!("{published}:{target}/{proto}")
    })
}

fn protocol(value: &str) -> Result<(&str, String), String> {
    let (ports, proto) = value.split_once('/').unwrap_or((value, "tcp"));
    let lower = proto.to_lowercase();
    match lower.as_str() {
        "tcp" | "udp" | "sctp" => Ok((ports, lower)),
        _ => Err(format!("invalid proto: {proto}")),
    }
}

fn number(text: &str) -> Result<u16, String> {
    crate::literal::uint16(text)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// The address, the host port and the container port of a short form; the first two may be empty.
fn parts(value: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = value.rsplit_once(':') else {
        return ("", "", value);
    };
    match rest.rsplit_once(':') {
        None => ("", rest, container),
        Some((ip, host)) => (ip, host, container),
    }
}

fn parse(value: &str) -> Result<Vec<(String, String, String)>, String> {
    let (ip, host, container) = parts(value);
    let (container, proto) = match protocol(container) {
        Ok(("", _)) => {
            return Err(format!("no port specified: {value}<empty>"));
        }
        other => other?,
    };
    let address = if ip.is_empty() { String::new() } else { address(ip)? };
    let (first, last) = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    if let Some((low, high)) = hosts
        && high - low != last - first
        && last != first
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    Ok((first..=last)
        .map(|port| {
            let host = match hosts {
                None => String::new(),
                // One container port with a range of host ports: the engine takes the first that is free.
                Some((low, high)) if last == first && low != high => format!("{low}-{high}"),
                Some((low, _)) => (low + (port - first)).to_string(),
            };
            (format!("{port}/{proto}"), address.clone(), host)
        })
        .collect())
}

fn address(ip: &str) -> Result<String, String> {
    let bare = match ip.strip_prefix('[') {
        None => ip,
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {ip}: address {ip}:: missing ']' in address"))?,
    };
    bare.parse::<IpAddr>().map(|_| bare.to_owned()).map_err(|_| format!("invalid IP address: {ip}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &[&str]) -> String {
        let values: Vec<String> = values.iter().map(|&v| v.to_owned()).collect();
        match published(&values) {
            Err(why) => why,
            Ok((_, bindings)) => bindings
                .iter()
                .flat_map(|(port, hosts)| hosts.iter().map(move |(ip, host)| format!("{ip}:{host}->{port}")))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn forms_of_publish() {
        for (value, wanted) in [
            ("80", ":->80/tcp"),
            ("8080:80", ":8080->80/tcp"),
            ("0:80", ":0->80/tcp"),
            ("127.0.0.1::53/udp", "127.0.0.1:->53/udp"),
            ("127.0.0.1:5353:53/UDP", "127.0.0.1:5353->53/udp"),
            ("[::1]:9-10:19-20", "::1:9->19/tcp ::1:10->20/tcp"),
            ("[::1]::80", "::1:->80/tcp"),
            ("8000-8002", ":->8000/tcp :->8001/tcp :->8002/tcp"),
            ("8000-8010:80", ":8000-8010->80/tcp"),
            ("80/sctp", ":->80/sctp"),
            ("published=81,target=82,protocol=udp", ":81->82/udp"),
            ("target=82,mode=host", ":->82/tcp"),
            ("abc", "invalid containerPort: abc"),
            ("80:70000", "invalid containerPort: 70000"),
            ("70000:80", "invalid hostPort: 70000"),
            ("80/foo", "invalid proto: foo"),
            ("1.2.3.999:80:80", "invalid IP address: 1.2.3.999"),
            ("80:80:80:80", "invalid IP address: 80:80"),
            ("[::1:80:80", "invalid IP address [::1: address [::1:: missing ']' in address"),
            ("9090-9089:1-2", "invalid hostPort: 9090-9089"),
            ("90-93:80-82", "invalid ranges specified for container and host Ports: 80-82 and 90-93"),
            ("", "no port specified: <empty>"),
            (":", "no port specified: :<empty>"),
            ("foo=bar", "no port specified: :/tcp<empty>"),
            ("published=80", "no port specified: 80:/tcp<empty>"),
            ("published=80,x", "invalid publish opts format (should be name=value but got 'x')"),
        ] {
            assert_eq!(shown(&[value]), wanted, "{value:?}");
        }
    }

    #[test]
    fn one_container_port_may_have_several_bindings() {
        assert_eq!(shown(&["80", "8080:80"]), ":->80/tcp :8080->80/tcp");
    }

    #[test]
    fn forms_of_expose() {
        for (value, wanted) in [
            ("7", "7/tcp"),
            ("100-102/udp", "100/udp 101/udp 102/udp"),
            (
                "abc",
                "invalid range format for --expose: abc, error: strconv.ParseUint: parsing \"abc\": invalid syntax",
            ),
            ("1-0", "invalid range format for --expose: 1-0, error: invalid range specified for port: 1-0"),
            ("1:2", "invalid port format for --expose: 1:2"),
        ] {
            let got = match exposed(&[value.to_owned()]) {
                Ok(ports) => ports.into_iter().collect::<Vec<_>>().join(" "),
                Err(why) => why,
            };
            assert_eq!(got, wanted, "{value:?}");
        }
        assert!(exposed(&["80/foo".to_owned()]).is_err());
    }
}
