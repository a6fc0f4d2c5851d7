//! `top`, `port`, `diff`.

use serde_json::{Value, json};

use super::Ask;
use super::row::text;
use crate::failure::Failure;
use crate::spec::ports;
use crate::wire::{Call, escape};
use crate::{literal, natural, printer, table};

/// Shows the processes of a container.
pub async fn top(ask: &Ask<'_>) -> Result<u8, Failure> {
    let arguments = ask.args[1..].join(" ");
    let call = Call::get(format!("/containers/{}/top", escape(&ask.args[0])))
        .query_if("ps_args", Some(arguments).filter(|text| !text.is_empty()));
    let found = ask.wire.ask(call).await?;
    let line = |row: &Value| {
        let cells = row.as_array().into_iter().flatten().map(|cell| cell.as_str().unwrap_or_default());
        cells.collect::<Vec<_>>().join("\t")
    };
    let mut lines = vec![line(&found["Titles"])];
    lines.extend(found["Processes"].as_array().into_iter().flatten().map(line));
    printer::out(&table::layout(&lines, table::PROCESSES));
    Ok(0)
}

/// Shows what a container changed in its file system.
pub async fn diff(ask: &Ask<'_>) -> Result<u8, Failure> {
    let changes = ask.wire.ask(Call::get(format!("/containers/{}/changes", escape(&ask.args[0])))).await?;
    for change in changes.as_array().into_iter().flatten() {
        let kind = match change["Kind"].as_u64() {
            Some(0) => "C",
            Some(1) => "A",
            Some(2) => "D",
            _ => "?",
        };
        printer::line(&format!("{kind} {}", text(change, "Path")));
    }
    Ok(0)
}

/// Lists the published ports of a container.
pub async fn port(ask: &Ask<'_>) -> Result<u8, Failure> {
    let (name, wanted) = match ask.args.as_slice() {
        [verb, container, specs @ ..] if !specs.is_empty() && (verb == "add" || verb == "rm") => {
            return change_ports(ask, verb, container, specs).await;
        }
        [name] => (name, None),
        [name, port] => (name, Some(port)),
        _ => {
            return Err(Failure::refused(
                "berth: 'berth port' requires at least 1 and at most 2 arguments\n\nUsage:  berth port CONTAINER [PRIVATE_PORT[/PROTO]]\n        berth port add|rm CONTAINER PUBLISH [PUBLISH...]\n\nRun 'berth port --help' for more information",
            ));
        }
    };
    let container = ask.wire.ask(Call::get(format!("/containers/{}/json", escape(name)))).await?;
    let published = &container["NetworkSettings"]["Ports"];
    match wanted {
        None => printer::out(&listing(published)),
        Some(port) => {
            let (number, proto) = port.split_once('/').unwrap_or((port, "tcp"));
            literal::uint16(number).map_err(|_| {
                Failure::refused(format!("Error: invalid port ({number}): value must be a number from 1 to 65535"))
            })?;
            let hosts = addresses(&published[format!("{number}/{proto}")]);
            if hosts.is_empty() {
                return Err(Failure::refused(format!("Error: No public port '{port}' published for {name}")));
            }
            for host in hosts {
                printer::line(&host);
            }
        }
    }
    Ok(0)
}

/// `port add` and `port rm`: what is published changes while the container runs. The words after it are those of `-p`;
/// `rm 80` ends all that leads to port 80.
async fn change_ports(ask: &Ask<'_>, verb: &str, container: &str, specs: &[String]) -> Result<u8, Failure> {
    let (_, bindings) = ports::published(specs).map_err(|why| Failure::refused(format!("berth: {why}")))?;
    let path = format!("/berth/containers/{}/ports", escape(container));
    let call = if verb == "add" { Call::post(path) } else { Call::delete(path) };
    ask.wire.ask(call.json(json!({ "PortBindings": ports::bindings_json(&bindings) }))).await?;
    Ok(0)
}

/// The host addresses of one port, in the order in which Docker's command lists them: `0.0.0.0:80`, `[::]:80`.
fn addresses(bindings: &Value) -> Vec<String> {
    let bindings = bindings.as_array().into_iter().flatten();
    let mut all: Vec<String> = bindings
        .map(|binding| match text(binding, "HostIp") {
            ip if ip.contains(':') => format!("[{ip}]:{}", text(binding, "HostPort")),
            ip => format!("{ip}:{}", text(binding, "HostPort")),
        })
        .collect();
    all.sort_by(|a, b| natural::compare(a, b));
    all
}

fn listing(ports: &Value) -> String {
    let ports = ports.as_object().into_iter().flatten();
    let line = |(port, bindings): (&String, &Value)| {
        let port = port.clone();
        addresses(bindings).into_iter().map(move |host| format!("{port} -> {host}\n"))
    };
    let mut all: Vec<String> = ports.flat_map(line).collect();
    all.sort_by(|a, b| natural::compare(a, b));
    all.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_sorted_by_number() {
        let ports = json!({
            "10000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "5"}],
            "5000/udp": [{"HostIp": "0.0.0.0", "HostPort": "7"}],
            "5000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32774"}, {"HostIp": "::", "HostPort": "32774"}],
            "9/tcp": null
        });
        assert_eq!(
            listing(&ports),
            "5000/tcp -> 0.0.0.0:32774\n5000/tcp -> [::]:32774\n5000/udp -> 0.0.0.0:7\n10000/tcp -> 0.0.0.0:5\n"
        );
        assert_eq!(listing(&Value::Null), "");
    }
}
