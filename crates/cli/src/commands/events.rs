//! `events`.

use clap::Arg;
use serde_json::Value;

use super::lines::Lines;
use super::row::{self, text};
use super::{Ask, logs};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, text as text_flag};
use crate::wire::Call;
use crate::{human, printer};

/// The flags of `events`.
pub fn flags() -> Vec<Arg> {
    vec![
        flags::filters('f'),
        text_flag("format", LONG, "string", "How to print: 'json', or a Go template"),
        text_flag("since", LONG, "string", "Begin with what happened since this time or in this span"),
        text_flag("until", LONG, "string", "End at this time"),
    ]
}

/// Follows what happens in the engine.
pub async fn events(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let at = |flag: &str| match m.get(flag).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => logs::moment(text, row::now()).map(Some).map_err(Failure::Refused),
    };
    let lines = Lines::read(m.get("format"), "Error parsing format")?;
    let call = Call::get("/events")
        .query_if("since", at("since")?)
        .query_if("until", at("until")?)
        .query_if("filters", row::filters(m));
    let mut messages = ask.wire.stream(call).await?.values();
    while let Some(event) = messages.next().await? {
        printer::line(&lines.line(&event, line)?);
    }
    Ok(0)
}

/// `TIME TYPE ACTION ID (attributes)`
fn line(event: &Value) -> String {
    let nanos = event["timeNano"].as_i64().unwrap_or_else(|| event["time"].as_i64().unwrap_or(0) * 1_000_000_000);
    let time = human::rfc3339(nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) as u32);
    let actor = &event["Actor"];
    let mut attributes: Vec<String> = actor["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    attributes.sort();
    let attributes = if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    format!("{time} {} {} {}{attributes}", text(event, "Type"), text(event, "Action"), text(actor, "ID"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::{Missing, Template, json_text};

    #[test]
    fn templates_know_the_names_of_dockers_go_type() {
        let event = json!({"Type": "container", "Action": "die", "scope": "local", "time": 5, "timeNano": 5_000_000_007_i64,
            "Actor": {"ID": "abc", "Attributes": {"name": "web"}}});
        let printed = |format: &str| Template::parse(format).unwrap().print(&event, Missing::Message);
        for (format, want) in [
            ("{{.Type}} {{.Action}} {{.Scope}} {{.Time}} {{.TimeNano}}", "container die local 5 5000000007"),
            ("{{.Actor.ID}} {{.Actor.Attributes.name}} {{.Actor.Attributes.none}}", "abc web <no value>"),
            ("{{.ID}}{{.Status}}{{.From}}|{{.timeNano}}", "|5000000007"),
            ("{{json .}}", &json_text(&event)),
        ] {
            assert_eq!(printed(format).unwrap(), want, "{format}");
        }
        let why = printed("{{.Colour}}").unwrap_err();
        assert!(why.ends_with("at <.Colour>: can't evaluate field Colour in type *events.Message"), "{why}");
    }

    #[test]
    fn a_line_an_event() {
        let event = json!({"Type": "network", "Action": "connect", "timeNano": 1_700_000_000_000_000_005_i64,
            "Actor": {"ID": "abc", "Attributes": {"type": "bridge", "container": "c1", "name": "n"}}});
        assert_eq!(
            line(&event),
            "2023-11-14T22:13:20.000000005Z network connect abc (container=c1, name=n, type=bridge)"
        );
    }
}
