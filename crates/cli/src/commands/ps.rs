//! `ps`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::row::{self, Listing, text};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, parsed, switch};
use crate::wire::Call;
use crate::{human, literal, printer, table};

/// The flags of `ps`.
pub fn flags() -> Vec<Arg> {
    vec![
        switch("all", 'a', "List those that do not run too"),
        flags::filters('f'),
        flags::format(LONG),
        parsed("last", 'n', "int", "List only the n that were made last, whether they run or not", literal::int),
        switch("latest", 'l', "List only the one that was made last"),
        switch("no-trunc", LONG, "Do not shorten anything"),
        switch("quiet", 'q', "Print IDs only"),
        switch("size", 's', "Show sizes"),
    ]
}

/// Lists containers.
pub async fn ps(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let format = m.get("format");
    let limit = match m.value::<i64>("last") {
        Some(count) => Some(count),
        None if m.on("latest") => Some(1),
        None => None,
    };
    let sized = m.on("size") || format.is_some_and(|format| format.contains(".Size"));
    let call = Call::get("/containers/json")
        .switch("all", m.on("all"))
        .switch("size", sized)
        .query_if("limit", limit.filter(|&n| n > 0).map(|n| n.to_string()))
        .query_if("filters", row::filters(m));
    let found = ask.wire.ask(call).await?;
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    let whole = m.on("no-trunc");
    if m.on("quiet") && format.is_none() {
        for container in found {
            let id = text(container, "Id");
            printer::line(&if whole { id.to_owned() } else { row::short_id(id) });
        }
        return Ok(0);
    }
    let rows: Vec<Value> = found.iter().map(|container| row(container, whole)).collect();
    let columns = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
    let with_size = format!("{columns}\t{{{{.Size}}}}");
    let listing = Listing {
        kind: "formatter.ContainerContext",
        titles: titles(),
        columns: if m.on("size") { &with_size } else { columns },
    };
    listing.print(&rows, format)?;
    Ok(0)
}

fn titles() -> Value {
    json!({
        "ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE",
        "Labels": "LABELS", "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS",
        "Platform": "PLATFORM"
    })
}

fn row(container: &Value, whole: bool) -> Value {
    let names: Vec<&str> = container["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|name| name.trim_start_matches('/'))
        // A name with a slash is the alias that a link gave; it is shown only in full listings.
        .filter(|name| whole || !name.contains('/'))
        .collect();
    let id = text(container, "Id");
    let image = match text(container, "Image") {
        "" => "<no image>".to_owned(),
        // The ID of an image, where its name went to another one.
        name if !whole
            && text(container, "ImageID").strip_prefix("sha256:") == Some(name.trim_start_matches("sha256:")) =>
        {
            row::short_id(name)
        }
        name => name.to_owned(),
    };
    let command = text(container, "Command");
    let command = if whole { command.to_owned() } else { table::ellipsis(command, 20) };
    let created = container["Created"].as_i64().unwrap_or(0);
    let written = human::size_with(container["SizeRw"].as_f64().unwrap_or(0.0), 3);
    let size = match container["SizeRootFs"].as_f64() {
        Some(whole) if whole > 0.0 => format!("{written} (virtual {})", human::size_with(whole, 3)),
        _ => written,
    };
    let mounts: Vec<String> = container["Mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mount| match text(mount, "Name") {
            "" => text(mount, "Source"),
            name => name,
        })
        .map(|name| if whole { name.to_owned() } else { table::ellipsis(name, 15) })
        .collect();
    let volumes = container["Mounts"].as_array().into_iter().flatten().filter(|mount| text(mount, "Driver") == "local");
    let networks: Vec<&str> = container["NetworkSettings"]["Networks"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    json!({
        "ID": if whole { id.to_owned() } else { row::short_id(id) },
        "Names": names.join(","),
        "Image": image,
        "Command": literal::quoted(&command),
        "CreatedAt": human::instant(created),
        "RunningFor": row::ago(created),
        "Ports": ports(&container["Ports"]),
        "State": text(container, "State"),
        "Status": text(container, "Status"),
        "Size": size,
        "Labels": row::joined(&container["Labels"]),
        "Mounts": mounts.join(","),
        "LocalVolumes": volumes.count().to_string(),
        "Networks": networks.join(","),
        "Platform": container.get("ImageManifestDescriptor").and_then(|d| d.get("platform")).cloned(),
        crate::template::LABELS: container["Labels"],
    })
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    inside: u64,
    ip: String,
    outside: u64,
    proto: String,
}

/// `ADDRESS:PORTS`, an IPv6 address in brackets.
fn host(ip: &str, ports: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{ports}") } else { format!("{ip}:{ports}") }
}

/// The PORTS column: runs of ports that are the same outside as inside are grouped, those that differ come last and
/// one by one.
pub fn ports(list: &Value) -> String {
    let mut all: Vec<Port> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| Port {
            inside: port["PrivatePort"].as_u64().unwrap_or(0),
            ip: text(port, "IP").to_owned(),
            outside: port["PublicPort"].as_u64().unwrap_or(0),
            proto: text(port, "Type").to_owned(),
        })
        .collect();
    all.sort();
    // Open runs by (address, protocol), in the order they began; a run that is interrupted is shown at once.
    let mut runs: Vec<(String, String, u64, u64)> = Vec::new();
    let (mut shown, mut shifted) = (Vec::new(), Vec::new());
    for port in all {
        if !port.ip.is_empty() && port.outside != port.inside {
            shifted.push(format!("{}->{}/{}", host(&port.ip, &port.outside.to_string()), port.inside, port.proto));
            continue;
        }
        match runs.iter_mut().find(|(ip, proto, ..)| *ip == port.ip && *proto == port.proto) {
            None => runs.push((port.ip, port.proto, port.inside, port.inside)),
            Some((.., last)) if port.inside == *last + 1 => *last = port.inside,
            Some(run) => {
                shown.push(run_text(run));
                (run.2, run.3) = (port.inside, port.inside);
            }
        }
    }
    shown.extend(runs.iter().map(run_text));
    shown.extend(shifted);
    shown.join(", ")
}

fn run_text((ip, proto, first, last): &(String, String, u64, u64)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{range}/{proto}") } else { format!("{}->{range}/{proto}", host(ip, &range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_column() {
        let port = |ip: &str, outside: u64, inside: u64, proto: &str| {
            let mut port = json!({"PrivatePort": inside, "Type": proto});
            if !ip.is_empty() {
                port["IP"] = json!(ip);
                port["PublicPort"] = json!(outside);
            }
            port
        };
        for (ports_given, wanted) in [
            (vec![], ""),
            (vec![port("", 0, 5000, "tcp")], "5000/tcp"),
            (vec![port("0.0.0.0", 80, 80, "tcp"), port("::", 80, 80, "tcp")], "0.0.0.0:80->80/tcp, [::]:80->80/tcp"),
            (
                vec![port("1.2.3.4", 9998, 9998, "udp"), port("1.2.3.4", 9999, 9999, "udp")],
                "1.2.3.4:9998-9999->9998-9999/udp",
            ),
            (
                vec![port("1.2.3.4", 8887, 9998, "udp"), port("1.2.3.4", 8888, 9999, "udp")],
                "1.2.3.4:8887->9998/udp, 1.2.3.4:8888->9999/udp",
            ),
            (
                vec![port("1.2.3.4", 7766, 6677, "tcp"), port("", 0, 9988, "udp"), port("4.3.2.1", 3322, 2233, "tcp")],
                "9988/udp, 4.3.2.1:3322->2233/tcp, 1.2.3.4:7766->6677/tcp",
            ),
            (vec![port("", 0, 702, "tcp"), port("", 0, 700, "tcp"), port("", 0, 701, "tcp")], "700-702/tcp"),
            (vec![port("", 0, 1, "tcp"), port("", 0, 3, "tcp")], "1/tcp, 3/tcp"),
        ] {
            assert_eq!(ports(&json!(ports_given)), wanted);
        }
    }

    #[test]
    fn a_row_has_all_columns() {
        let container = json!({
            "Id": "0123456789abcdef0123", "Names": ["/web", "/app/db"], "Image": "busybox", "ImageID": "sha256:bb",
            "Command": "sh -c 'sleep 1000 and more text'", "Created": 1_700_000_000, "State": "running",
            "Status": "Up 3 seconds", "Ports": [], "Labels": {"k": "v"}, "SizeRw": 12345, "SizeRootFs": 4_500_000,
            "Mounts": [{"Type": "volume", "Name": "data", "Driver": "local"}],
            "NetworkSettings": {"Networks": {"bridge": {}}}
        });
        let listing = Listing {
            kind: "formatter.ContainerContext",
            titles: titles(),
            columns: "{{.ID}}\t{{.Command}}\t{{.Size}}\t{{.Mounts}}\t{{.LocalVolumes}}\t{{.Networks}}\t{{.Names}}",
        };
        assert_eq!(
            listing.text(&[row(&container, false)], None).expect("a table"),
            "CONTAINER ID   COMMAND                  SIZE                     MOUNTS    LOCAL VOLUMES   NETWORKS   NAMES\n\
             0123456789ab   \"sh -c 'sleep 1000 a…\"   12.3kB (virtual 4.5MB)   data      1               bridge     web\n"
        );
        assert_eq!(listing.text(&[row(&container, true)], Some("{{.Names}}")).expect("names"), "web,app/db\n");
        assert_eq!(
            listing.text(&[row(&container, true)], Some("{{.Foo}}")).expect_err("no column").to_string(),
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
    }
}
