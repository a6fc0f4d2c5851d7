//! `network ls`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::row::{self, Listing, text};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, switch};
use crate::wire::Call;
use crate::{human, printer};

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
