//! `link ls`, `link check`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::row::{self, Listing, text};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, switch};
use crate::wire::{Call, escape};
use crate::{human, printer};

/// The flags of `link ls`.
pub fn ls_flags() -> Vec<Arg> {
    vec![
        flags::format(LONG),
        switch("no-trunc", LONG, "Do not shorten anything"),
        switch("watch", 'w', "Go on, and print each link again that changes"),
    ]
}

/// Lists links: all of them, or those of one source.
pub async fn ls(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let source = ask.args.first().map(String::as_str);
    // Heard before the first look, so that nothing lies between.
    let changes = match m.on("watch") {
        true => {
            let filters = json!({ "type": ["container"], "event": CHANGES });
            Some(ask.wire.stream(Call::get("/events").query("filters", filters.to_string())).await?.values())
        }
        false => None,
    };
    let mut shown = links(ask, source).await?;
    let listing = Listing {
        kind: "link.linkContext",
        titles: json!({
            "Source": "SOURCE", "SourceID": "SOURCE ID", "Target": "TARGET", "TargetID": "TARGET ID", "Alias": "ALIAS",
            "Network": "NETWORK", "Ports": "PORTS", "State": "STATE", "Since": "SINCE", "Words": "WORDS"
        }),
        columns: "{{.Source}}\t{{.Target}}\t{{.Alias}}\t{{.Ports}}\t{{.State}}\t{{.Since}}",
    };
    let rows = |links: &[Value]| links.iter().map(|link| shortened(link, m.on("no-trunc"))).collect::<Vec<_>>();
    listing.print(&rows(&shown), m.get("format"))?;
    let format = m.get("format").map_or("", str::trim);
    let is_table = matches!(format, "" | "table") || format.starts_with("table ");
    let Some(mut changes) = changes else { return Ok(0) };
    // By its id from now on: it may be renamed.
    let id = source.and(shown.first()).map(|link| text(link, "SourceID").to_owned());
    let source = id.as_deref().or(source);
    while changes.next().await?.is_some() {
        let now = links(ask, source).await?;
        let changed: Vec<Value> = now.iter().filter(|link| !shown.contains(link)).cloned().collect();
        if !changed.is_empty() && is_table {
            // Laid out with the others, so that columns stay where they are.
            let table = listing.text(&rows(&now), m.get("format"))?;
            let lines = table.lines().skip(1).zip(&now).filter(|(_, link)| changed.contains(link));
            lines.for_each(|(line, _)| printer::line(line));
        } else if !changed.is_empty() {
            listing.print(&rows(&changed), m.get("format"))?;
        }
        shown = now;
    }
    Ok(0)
}

/// What may change a line of the listing.
const CHANGES: [&str; 8] = ["link ready", "link broken", "link stale", "create", "start", "die", "rename", "destroy"];

async fn links(ask: &Ask<'_>, source: Option<&str>) -> Result<Vec<Value>, Failure> {
    let found = ask.wire.ask(Call::get("/berth/links").query_if("source", source)).await?;
    Ok(found.as_array().cloned().unwrap_or_default())
}

/// A link as a row.
fn shortened(link: &Value, whole: bool) -> Value {
    let id = |key: &str| if whole { text(link, key).to_owned() } else { row::short_id(text(link, key)) };
    let since = text(link, "Since");
    let since = match human::parse_instant(since) {
        Some((seconds, _)) if !whole => row::ago(seconds),
        _ => since.to_owned(),
    };
    json!({
        "Source": text(link, "Source"), "SourceID": id("SourceID"), "Target": text(link, "Target"),
        "TargetID": id("TargetID"), "Alias": text(link, "Alias"), "Network": text(link, "Network"), "Ports": ports(link), "State": text(link, "State"),
        "Since": since, "Words": text(link, "Words"),
    })
}

fn ports(link: &Value) -> String {
    let ports = link["Ports"].as_array().into_iter().flatten();
    ports.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Tries the links of a container as its program would; 1 if not all of them are ready.
pub async fn check(ask: &Ask<'_>) -> Result<u8, Failure> {
    let path = format!("/berth/containers/{}/links/check", escape(&ask.args[0]));
    let links = ask.wire.ask(Call::post(path)).await?;
    let mut code = 0;
    for link in links.as_array().into_iter().flatten() {
        code |= u8::from(text(link, "State") != "ready");
        printer::line(&verdict(link));
    }
    Ok(code)
}

/// `db as sql: not listening: port 3306 refused (172.17.0.2:3306)`
fn verdict(link: &Value) -> String {
    let shut = link["Checks"].as_array().into_iter().flatten().filter(|check| text(check, "Seen") != "accepted");
    let shut: Vec<String> =
        shut.map(|check| format!("port {} {} ({})", check["Port"], text(check, "Seen"), text(check, "At"))).collect();
    let colon = if shut.is_empty() { "" } else { ": " };
    let (target, alias, state) = (text(link, "Target"), text(link, "Alias"), text(link, "State"));
    format!("{target} as {alias}: {state}{colon}{}", shut.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_a_line() {
        let mut link = json!({ "Target": "db", "Alias": "sql", "State": "ready", "Checks": [] });
        assert_eq!(verdict(&link), "db as sql: ready");
        link["State"] = "not listening".into();
        link["Checks"] = json!([
            { "Port": 80, "At": "10.0.0.2:80", "Seen": "accepted" }, { "Port": 81, "At": "10.0.0.2:81", "Seen": "refused" },
        ]);
        assert_eq!(verdict(&link), "db as sql: not listening: port 81 refused (10.0.0.2:81)");
    }
}
