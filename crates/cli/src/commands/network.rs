//! `network ls`, `create`, `rm`, `connect`, `disconnect`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::lines::Lines;
use super::row::{self, Listing, text};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, list, parsed, parsed_list, switch, text as text_flag};
use crate::spec::{addresses, envs, names, networks};
use crate::wire::{Call, escape};
use crate::{human, literal, printer};

/// The flags of `network ls`.
pub fn ls_flags() -> Vec<Arg> {
    vec![
        flags::filters('f'),
        flags::format(LONG),
        switch("no-trunc", LONG, "Do not shorten anything"),
        switch("quiet", 'q', "Print IDs only"),
    ]
}

/// The engine's time as listings show it.
fn created(text: &str) -> String {
    match human::parse_instant(text) {
        Some((seconds, 0)) => human::instant(seconds),
        Some((seconds, nanos)) => {
            let fraction = format!("{nanos:09}");
            human::instant(seconds).replacen(" +0000", &format!(".{} +0000", fraction.trim_end_matches('0')), 1)
        }
        None => text.to_owned(),
    }
}

/// Lists networks, by name.
pub async fn ls(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let found = ask.wire.ask(Call::get("/networks").query_if("filters", row::filters(m))).await?;
    let mut found: Vec<Value> = found.as_array().cloned().unwrap_or_default();
    found.sort_by(|a, b| text(a, "Name").cmp(text(b, "Name")));
    let id = |network: &Value| match text(network, "Id") {
        id if m.on("no-trunc") => id.to_owned(),
        id => row::short_id(id),
    };
    if m.on("quiet") && m.get("format").is_none() {
        for network in &found {
            printer::line(&id(network));
        }
        return Ok(0);
    }
    let rows: Vec<Value> = found
        .iter()
        .map(|network| {
            json!({
                "ID": id(network), "Name": text(network, "Name"), "Driver": text(network, "Driver"),
                "Scope": text(network, "Scope"), "IPv4": (network["EnableIPv4"] != false).to_string(),
                "IPv6": (network["EnableIPv6"] == true).to_string(),
                "Internal": (network["Internal"] == true).to_string(), "Labels": row::joined(&network["Labels"]),
                "CreatedAt": created(text(network, "Created")), crate::template::LABELS: network["Labels"],
            })
        })
        .collect();
    let listing = Listing {
        kind: "network.networkContext",
        titles: json!({
            "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
            "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT"
        }),
        columns: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    };
    listing.print(&rows, m.get("format"))?;
    Ok(0)
}

/// The flags of `network create`.
pub fn create_flags() -> Vec<Arg> {
    vec![
        switch("attachable", LONG, "Accepted: every network here can be joined by hand"),
        list("aux-address", LONG, "map", "Address that is kept for something else: NAME=ADDRESS"),
        text_flag("config-from", LONG, "string", "Network whose configuration is copied"),
        switch("config-only", LONG, "Make a network that is only a configuration"),
        text_flag("driver", 'd', "string", "Driver of the network [bridge]"),
        list("gateway", LONG, "ipSlice", "Address of the network's bridge"),
        switch("ingress", LONG, "Make a swarm's network for published ports"),
        switch("internal", LONG, "No way out of the network and none into it"),
        list("ip-range", LONG, "ipNetSlice", "Part of the subnet from which addresses are given"),
        text_flag("ipam-driver", LONG, "string", "Who manages addresses [default]"),
        list("ipam-opt", LONG, "map", "Option for who manages addresses"),
        switch("ipv4", LONG, "Whether it has IPv4 [true]"),
        switch("ipv6", LONG, "Whether it has IPv6"),
        parsed_list("label", LONG, "list", "Set a label", envs::label),
        list("opt", 'o', "map", "Option of the driver"),
        text_flag("scope", LONG, "string", "Accepted as 'local'"),
        list("subnet", LONG, "ipNetSlice", "Block of addresses of the network"),
    ]
}

/// Makes a network and prints its id.
pub async fn create(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let refused = Failure::refused;
    let aux: Vec<(String, String)> = m.all("aux-address").iter().map(|value| literal::pair(value)).collect();
    let config = addresses::consolidated(&m.all("subnet"), &m.all("ip-range"), &m.all("gateway"), &aux);
    let mut body = json!({
        "Name": ask.args[0],
        "Driver": m.get("driver").unwrap_or("bridge"),
        "Scope": m.get("scope").unwrap_or_default(),
        "Internal": m.on("internal"),
        "Attachable": m.on("attachable"),
        "Ingress": m.on("ingress"),
        "ConfigOnly": m.on("config-only"),
        "IPAM": {
            "Driver": m.get("ipam-driver").unwrap_or("default"),
            "Options": networks::options(&m.all("ipam-opt")),
            "Config": config.map_err(refused)?,
        },
        "Options": networks::options(&m.all("opt")),
        "Labels": envs::labels(&[], &m.all("label")).map_err(Failure::Refused)?,
    });
    for (flag, field) in [("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")] {
        if let Some(on) = m.given_switch(flag) {
            body[field] = on.into();
        }
    }
    if let Some(from) = m.get("config-from").filter(|from| !from.is_empty()) {
        body["ConfigFrom"] = json!({ "Network": from });
    }
    let made = ask.wire.ask(Call::post("/networks/create").json(body)).await?;
    let warning = text(&made, "Warning");
    if !warning.is_empty() {
        printer::complain(&format!("WARNING: {warning}"));
    }
    printer::line(text(&made, "Id"));
    Ok(0)
}

/// The flags of `network dns-log`.
pub fn dns_log_flags() -> Vec<Arg> {
    vec![
        switch("follow", 'f', "Go on with what is asked from now on"),
        text_flag("format", LONG, "string", "How to print: 'json', or a Go template"),
    ]
}

/// Prints what a container, or every one, asked the resolver lately.
pub async fn dns_log(ask: &Ask<'_>) -> Result<u8, Failure> {
    let lines = Lines::read(ask.m.get("format"), "Error parsing format")?;
    let call = Call::get("/berth/dns-log")
        .query_if("container", ask.args.first())
        .query_if("follow", ask.m.on("follow").then_some("1"));
    let mut questions = ask.wire.stream(call).await?.values();
    while let Some(question) = questions.next().await? {
        if question.get("Lost").is_some() && !matches!(lines, Lines::Json) {
            printer::complain(&format!("{} questions came faster than they were read", question["Lost"]));
        } else {
            printer::line(&lines.line(&question, dns_line)?);
        }
    }
    Ok(0)
}

/// `TIME CONTAINER NAME TYPE: RCODE by WHOM in SPAN`
fn dns_line(question: &Value) -> String {
    let field = |name| text(question, name);
    let micros = question["Micros"].as_u64().unwrap_or_default();
    let took =
        if micros < 1000 { format!("{micros}µs") } else { format!("{}.{}ms", micros / 1000, micros % 1000 / 100) };
    format!(
        "{} {} {} {}: {} by {} in {took}",
        field("Time"),
        field("Container"),
        field("Name"),
        field("Type"),
        field("Rcode"),
        field("AnsweredBy")
    )
}

/// The flags of `network rm`.
pub fn rm_flags() -> Vec<Arg> {
    vec![switch("force", 'f', "What does not exist is no error")]
}

/// Removes networks, each as far as it can be.
pub async fn rm(ask: &Ask<'_>) -> Result<u8, Failure> {
    let mut code = 0;
    for name in &ask.args {
        match ask.wire.ask(Call::delete(format!("/networks/{}", escape(name)))).await {
            Ok(_) => printer::line(name),
            Err(Failure::Engine { status: 404, .. }) if ask.m.on("force") => {}
            Err(failure @ Failure::Engine { .. }) => {
                printer::complain(&failure.to_string());
                code = 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(code)
}

/// The flags of `network connect`.
pub fn connect_flags() -> Vec<Arg> {
    vec![
        list("alias", LONG, "strings", "Further name of the container on the network"),
        list("driver-opt", LONG, "strings", "Option for the driver: NAME=VALUE"),
        parsed("gw-priority", LONG, "int", "The network with the highest has the default route [0]", literal::int),
        parsed("ip", LONG, "ip", "IPv4 address", names::ipv4),
        parsed("ip6", LONG, "ip", "IPv6 address", names::ipv6),
        parsed_list("link", LONG, "list", crate::spec::LINK, names::link),
        list("link-local-ip", LONG, "strings", "Link-local address"),
    ]
}

/// Puts a container on a network.
pub async fn connect(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let mut place = networks::Attachment {
        target: ask.args[0].clone(),
        aliases: m.all("alias"),
        ip: m.get("ip").unwrap_or_default().to_owned(),
        ip6: m.get("ip6").unwrap_or_default().to_owned(),
        link_local: m.all("link-local-ip"),
        links: m.all("link"),
        ..networks::Attachment::default()
    };
    place.gw_priority = m.value("gw-priority").unwrap_or(0);
    for option in m.all("driver-opt") {
        let Some((name, value)) = option.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::refused("invalid key/value pair format in driver options"));
        };
        place.driver_opts.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    let body = json!({ "Container": ask.args[1], "EndpointConfig": networks::endpoint(&place) });
    ask.wire.ask(Call::post(format!("/networks/{}/connect", escape(&place.target))).json(body)).await?;
    Ok(0)
}

/// The flags of `network disconnect`.
pub fn disconnect_flags() -> Vec<Arg> {
    vec![switch("force", 'f', "Also a container that is gone")]
}

/// Takes a container off a network.
pub async fn disconnect(ask: &Ask<'_>) -> Result<u8, Failure> {
    let body = json!({ "Container": ask.args[1], "Force": ask.m.on("force") });
    ask.wire.ask(Call::post(format!("/networks/{}/disconnect", escape(&ask.args[0]))).json(body)).await?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_fraction() {
        for (text, wanted) in [
            ("2024-01-01T00:00:00Z", "2024-01-01 00:00:00 +0000 UTC"),
            ("2024-01-01T00:00:00.120Z", "2024-01-01 00:00:00.12 +0000 UTC"),
            ("", ""),
        ] {
            assert_eq!(created(text), wanted);
        }
    }
}
