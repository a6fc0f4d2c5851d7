//! `volume ls`, `volume create`, `volume rm`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::row::{self, Listing, text};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, list, parsed_list, switch, text as text_flag};
use crate::printer;
use crate::spec::{envs, networks};
use crate::wire::{Call, escape};

/// The flags of `volume ls`.
pub fn ls_flags() -> Vec<Arg> {
    vec![flags::filters('f'), flags::format(LONG), switch("quiet", 'q', "Print names only")]
}

/// Lists volumes, by name.
pub async fn ls(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let found = ask.wire.ask(Call::get("/volumes").query_if("filters", row::filters(m))).await?;
    let mut found: Vec<Value> = found["Volumes"].as_array().cloned().unwrap_or_default();
    found.sort_by(|a, b| text(a, "Name").cmp(text(b, "Name")));
    if m.on("quiet") && m.get("format").is_none() {
        for volume in &found {
            printer::line(text(volume, "Name"));
        }
        return Ok(0);
    }
    let rows: Vec<Value> = found
        .iter()
        .map(|volume| {
            json!({
                "Name": text(volume, "Name"), "Driver": text(volume, "Driver"), "Scope": text(volume, "Scope"),
                "Mountpoint": text(volume, "Mountpoint"), "Labels": row::joined(&volume["Labels"]),
                "Links": "N/A", "Size": "N/A", crate::template::LABELS: volume["Labels"],
            })
        })
        .collect();
    let listing = Listing {
        kind: "formatter.volumeContext",
        titles: json!({
            "Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT",
            "Labels": "LABELS", "Links": "LINKS", "Size": "SIZE"
        }),
        columns: "{{.Driver}}\t{{.Name}}",
    };
    listing.print(&rows, m.get("format"))?;
    Ok(0)
}

/// The flags of `volume create`.
pub fn create_flags() -> Vec<Arg> {
    vec![
        text_flag("driver", 'd', "string", "Driver of the volume [local]"),
        parsed_list("label", LONG, "list", "Set a label", envs::label),
        list("opt", 'o', "map", "Option of the driver"),
    ]
}

/// Makes a volume and prints its name.
pub async fn create(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let body = json!({
        "Name": ask.args.first().map_or("", String::as_str),
        "Driver": m.get("driver").unwrap_or("local"),
        "DriverOpts": networks::options(&m.all("opt")),
        "Labels": envs::labels(&[], &m.all("label")).map_err(Failure::Refused)?,
    });
    let made = ask.wire.ask(Call::post("/volumes/create").json(body)).await?;
    printer::line(text(&made, "Name"));
    Ok(0)
}

/// The flags of `volume rm`.
pub fn rm_flags() -> Vec<Arg> {
    vec![switch("force", 'f', "What does not exist is no error")]
}

/// Removes volumes.
pub async fn rm(ask: &Ask<'_>) -> Result<u8, Failure> {
    let mut code = 0;
    for name in &ask.args {
        let call = Call::delete(format!("/volumes/{}", escape(name))).switch("force", ask.m.on("force"));
        match ask.wire.ask(call).await {
            Ok(_) => printer::line(name),
            Err(failure @ Failure::Engine { .. }) => {
                printer::complain(&failure.to_string());
                code = 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(code)
}
