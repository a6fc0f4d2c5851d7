//! What containers asked the resolver: berth's own extension of the Engine API.
//!
//! `GET /berth/dns-log` streams a JSON object for each question, oldest first: `container` names one container, `follow=1` goes on
//! with what comes.
//!
//! ```json
//! { "Time": "2026-01-02T03:04:05.678901234Z", "Container": "web", "Name": "db", "Type": "A", "AnsweredBy": "network app",
//!   "Rcode": "NOERROR", "Micros": 35 }
//! ```
//!
//! `{ "Lost": 7 }` stands where so many were not told, for the reader was too slow.

use super::answer::{Answer, streamed};
use super::ask::Ask;
use crate::engine::Engine;
use crate::error::Result;
use crate::resolver::{Batch, By, Line};
use crate::time;
use futures_util::stream;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn dns_log(ask: &Ask) -> Result<Answer> {
    let batches = ask.engine.questions(ask.query.text("container"), ask.query.is("follow"))?;
    let engine = ask.engine.clone();
    let lines = stream::unfold(batches, move |mut batches| {
        let engine = engine.clone();
        async move { batches.recv().await.map(|batch| (Ok(text(&engine, &batch).into()), batches)) }
    });
    Ok(streamed("application/x-ndjson", lines))
}

fn text(engine: &Arc<Engine>, batch: &Batch) -> String {
    let lost = (batch.lost > 0).then(|| json!({ "Lost": batch.lost }));
    let all = lost.into_iter().chain(batch.lines.iter().map(|line| shown(engine, line)));
    all.map(|line| format!("{line}\n")).collect()
}

fn shown(engine: &Arc<Engine>, line: &Line) -> Value {
    // One that has gone meanwhile is known by its number alone.
    let container = engine.asker_of(&line.sandbox).unwrap_or_else(|| line.sandbox.short().to_string());
    let by = match &line.by {
        By::AddedHost => "added host".to_owned(),
        By::Link => "link".to_owned(),
        By::Itself => "own name".to_owned(),
        By::Member(id) => {
            format!("network {}", engine.network_name(id).unwrap_or_else(|| id.short().to_string()))
        }
        By::Rule => "rule".to_owned(),
        By::Kept => "cache".to_owned(),
        By::Stale => "old cache".to_owned(),
        By::Server(addr) => format!("server {}", addr.ip()),
        By::Nobody => "nobody".to_owned(),
        By::TooMany => "limit".to_owned(),
    };
    json!({
        "Time": time::rfc3339_fixed(line.at),
        "Container": container,
        "Name": if line.name.is_empty() { "." } else { line.name.as_str() },
        "Type": kind(line.kind),
        "AnsweredBy": by,
        "Rcode": rcode(line.rcode),
        "Micros": u64::try_from(line.took.as_micros()).unwrap_or(u64::MAX),
    })
}

/// The mnemonics of IANA's list that one meets; others as RFC 3597 §5 has them.
fn kind(number: u16) -> String {
    let known = [
        (1, "A"),
        (2, "NS"),
        (5, "CNAME"),
        (6, "SOA"),
        (12, "PTR"),
        (15, "MX"),
        (16, "TXT"),
        (28, "AAAA"),
        (33, "SRV"),
        (35, "NAPTR"),
        (43, "DS"),
        (48, "DNSKEY"),
        (52, "TLSA"),
        (64, "SVCB"),
        (65, "HTTPS"),
        (255, "ANY"),
        (257, "CAA"),
    ];
    let found = known.iter().find(|(known, _)| *known == number);
    found.map_or_else(|| format!("TYPE{number}"), |(_, word)| (*word).to_owned())
}

fn rcode(number: u8) -> String {
    match number {
        0 => "NOERROR".to_owned(),
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE{other}"),
    }
}
