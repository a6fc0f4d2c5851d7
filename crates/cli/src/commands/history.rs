//! `history`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::image::path;
use super::row::{self, Listing, text as at};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, switch, text};
use crate::wire::Call;
use crate::{human, printer, table};

/// The flags of `history`.
pub fn flags() -> Vec<Arg> {
    vec![
        flags::format(LONG),
        switch("human", 'H', "Print sizes and times in words [true]"),
        switch("no-trunc", LONG, "Do not shorten anything"),
        text("platform", LONG, "string", "Show this platform"),
        switch("quiet", 'q', "Print IDs only"),
    ]
}

/// Shows how an image was made, the newest step first.
pub async fn history(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let steps = ask.wire.ask(Call::get(format!("/images/{}/history", path(&ask.args[0])))).await?;
    let steps = steps.as_array().map(Vec::as_slice).unwrap_or_default();
    let whole = m.on("no-trunc");
    let in_words = m.given_switch("human").unwrap_or(true);
    let id = |step: &Value| match at(step, "Id") {
        id if whole => id.to_owned(),
        id => row::short_id(id),
    };
    if m.on("quiet") {
        for step in steps {
            printer::line(&id(step));
        }
        return Ok(0);
    }
    let rows: Vec<Value> = steps
        .iter()
        .map(|step| {
            let created = step["Created"].as_i64().unwrap_or(0);
            let size = step["Size"].as_i64().unwrap_or(0);
            let by = at(step, "CreatedBy").replace('\t', " ");
            let stamp = human::rfc3339(created, 0);
            let stamp = stamp.split('.').next().unwrap_or_default().to_owned() + "Z";
            json!({
                "ID": id(step),
                "CreatedSince": if !in_words { stamp.clone() } else if created > 0 { row::ago(created) } else { "N/A".into() },
                "CreatedAt": stamp,
                "CreatedBy": if whole { by } else { table::ellipsis(&by, 45) },
                "Size": if in_words { human::size_with(size as f64, 3) } else { size.to_string() },
                "Comment": at(step, "Comment"),
            })
        })
        .collect();
    let listing = Listing {
        kind: "formatter.historyContext",
        titles: json!({
            "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
            "Size": "SIZE", "Comment": "COMMENT"
        }),
        columns: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    };
    listing.print(&rows, m.get("format"))?;
    Ok(0)
}
