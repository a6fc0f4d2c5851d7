//! `net explain`.

use clap::Arg;
use serde_json::Value;

use super::Ask;
use super::row::text;
use crate::failure::Failure;
use crate::flags::{Flags, LONG, switch, text as flag};
use crate::printer;
use crate::terminal;
use crate::wire::Call;

/// The answer is no, and it cannot be told.
const NO: u8 = 1;
const UNKNOWN: u8 = 2;

pub fn flags() -> Vec<Arg> {
    vec![
        switch("probe", LONG, "Send real packets from FROM as well, and set what comes of them beside the answer"),
        switch("all", 'a', "Show the way of every address that was tried, not only of the first"),
        flag("format", LONG, "string", "'text', or 'json' for all that is known"),
    ]
}

/// Says whether one place reaches another, and why.
pub async fn explain(ask: &Ask<'_>) -> Result<u8, Failure> {
    let format = ask.m.get("format").unwrap_or("text");
    if !["text", "json"].contains(&format) {
        return Err(Failure::Exit { text: format!("Error: unknown format {format:?}: text or json"), code: UNKNOWN });
    }
    let call = Call::get("/berth/explain").query("from", &ask.args[0]).query("to", &ask.args[1]);
    let answer = ask.wire.ask(call.switch("probe", ask.m.on("probe"))).await;
    // 1 would be an answer.
    let answer = answer.map_err(|failure| Failure::Exit { text: failure.to_string(), code: UNKNOWN })?;
    if format == "json" {
        printer::line(&serde_json::to_string_pretty(&answer).unwrap_or_default());
    } else {
        printer::out(&told(&answer, ask.m.on("all"), terminal::width()));
    }
    Ok(match answer["Reachable"].as_bool() {
        Some(true) => 0,
        Some(false) => NO,
        None => UNKNOWN,
    })
}

/// The answer for people: what it comes to, the way, and what would change it.
fn told(answer: &Value, all: bool, width: usize) -> String {
    let mut out = Page { lines: String::new(), width };
    let (from, to) = (text(answer, "From"), text(answer, "To"));
    let short = match text(answer, "Verdict") {
        "reachable" => format!("yes: {from} reaches {to}"),
        "leaks" => format!("yes, though it should not: {from} reaches {to}"),
        "by-design" => format!("no, by design: {from} does not reach {to}"),
        "broken" => format!("no, though it should: {from} does not reach {to}"),
        "kept-out" => format!("no: something that is not berth's keeps {from} from {to}"),
        "nobody-listens" => format!("no: nothing is there to answer {from} at {to}"),
        _ => format!("it cannot be told whether {from} reaches {to}"),
    };
    out.wrapped("", &short);
    if !text(answer, "Reason").is_empty() {
        out.wrapped("  ", text(answer, "Reason"));
    }
    if !text(answer, "Found").is_empty() {
        out.wrapped("  ", text(answer, "Found"));
    }
    let tries = answer["Tries"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (nth, one) in tries.iter().enumerate() {
        if nth == 0 || all {
            way(&mut out, one);
        }
    }
    if !all {
        others(&mut out, tries);
    }
    remedies(&mut out, answer);
    probed(&mut out, &answer["Probe"]);
    out.lines
}

/// One address's way, hop by hop.
fn way(out: &mut Page, one: &Value) {
    out.lines.push('\n');
    out.wrapped("", &format!("{}, {}", target(one), in_short(one)));
    let seen = &one["Seen"];
    let hops = seen["Hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    let column = hops.iter().map(|hop| text(hop, "Place").chars().count()).max().unwrap_or_default();
    let mut leg = "there";
    for hop in hops {
        if text(hop, "Leg") != leg {
            leg = text(hop, "Leg");
            out.wrapped("  ", "and back:");
        }
        out.hop("  ", text(hop, "At"), text(hop, "Place"), column, text(hop, "Text"));
        if let Some(rule) = hop["Rule"].as_str() {
            let element = hop["Element"].as_str().map(|element| format!(" ({element})")).unwrap_or_default();
            out.hop("  ", "", "", column, &format!("by {rule}{element}"));
        }
    }
    match text(seen, "End") {
        "refused" | "unknown" => {
            let back = text(seen, "Leg") == "back" && leg == "there";
            if back {
                out.wrapped("  ", "and back:");
            }
            let mark = if text(seen, "End") == "refused" { "✗" } else { "?" };
            out.hop(&format!("{mark} "), "here", "", 0, text(seen, "Text"));
        }
        "left" => out.hop("  ", "", "", column, text(seen, "Text")),
        _ => {}
    }
}

/// Addresses that were tried as well.
fn others(out: &mut Page, tries: &[Value]) {
    let Some(more) = tries.get(1..).filter(|more| !more.is_empty()) else { return };
    out.lines.push('\n');
    for one in more {
        out.wrapped("", &format!("{}, {} (--all shows its way)", target(one), in_short(one)));
        if !text(one, "Reason").is_empty() {
            out.wrapped("  ", text(one, "Reason"));
        }
    }
}

fn remedies(out: &mut Page, answer: &Value) {
    let remedies = answer["Remedies"].as_array().map(Vec::as_slice).unwrap_or_default();
    if remedies.is_empty() {
        return;
    }
    out.lines.push('\n');
    out.wrapped("", "What would change it:");
    for remedy in remedies {
        // Commands are not broken, so that they can be copied.
        out.lines.push_str(&format!("  - {}\n", remedy.as_str().unwrap_or_default()));
    }
}

fn probed(out: &mut Page, probe: &Value) {
    if probe.is_null() {
        return;
    }
    let said = match text(probe, "Outcome") {
        "answered" => "answered".to_owned(),
        "refused" => format!("refused ({})", text(probe, "Text")),
        "silent" => "not answered".to_owned(),
        _ => format!("not tried: {}", text(probe, "Text")),
    };
    let agrees = match probe["Agrees"].as_bool() {
        Some(true) => ", as was said",
        Some(false) => ", and something else was said: this is a defect of berth, please report it",
        None => "",
    };
    out.lines.push('\n');
    out.wrapped("", &format!("Real packets to {}: {said}{agrees}", target(probe)));
}

fn target(one: &Value) -> String {
    let addr = text(one, "Address");
    match (one["Port"].as_u64(), text(one, "Proto")) {
        (_, "icmp") => format!("{addr} (ping)"),
        (port, proto) if addr.contains(':') => format!("[{addr}]:{}/{proto}", port.unwrap_or_default()),
        (port, proto) => format!("{addr}:{}/{proto}", port.unwrap_or_default()),
    }
}

fn in_short(one: &Value) -> &'static str {
    match one["Reachable"].as_bool() {
        Some(true) => "reached",
        Some(false) => "not reached",
        None => "not known",
    }
}

/// Lines no wider than a terminal.
struct Page {
    lines: String,
    width: usize,
}

impl Page {
    /// Words from a margin on.
    fn wrapped(&mut self, margin: &str, words: &str) {
        let room = self.width.saturating_sub(margin.chars().count()).max(20);
        for line in broken(words, room) {
            self.lines.push_str(&format!("{margin}{line}\n"));
        }
    }

    /// What kind of place, whose, and what happens there.
    fn hop(&mut self, margin: &str, at: &str, place: &str, column: usize, what: &str) {
        let head = format!("{margin}{at:<9}{place:<column$}  ");
        let blank = " ".repeat(head.chars().count());
        let room = self.width.saturating_sub(blank.len()).max(20);
        for (nth, line) in broken(what, room).iter().enumerate() {
            let before = if nth == 0 { &head } else { &blank };
            self.lines.push_str(&format!("{before}{line}\n"));
        }
    }
}

/// Words in lines of at most so many characters; a longer word has a line of its own.
fn broken(words: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let full =
            lines.last().is_some_and(|line| !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_told_with_the_refusal_marked() {
        let answer = json!({
            "From": "web", "To": "db:80", "Verdict": "by-design", "Reachable": false,
            "Reason": "the bridge keeps its containers apart", "Found": "", "Remedies": ["berth network create NEW"],
            "Tries": [{
                "Address": "10.1.0.3", "Port": 80, "Proto": "tcp", "Reachable": false,
                "Seen": {
                    "Leg": "there", "End": "refused", "Text": "it keeps them apart",
                    "Hops": [
                        { "Leg": "there", "At": "route", "Place": "web", "Text": "10.1.0.0/24 dev eth0" },
                        { "Leg": "there", "At": "rule", "Place": "host", "Text": "let through",
                          "Rule": "inet berth early: containers speak as themselves", "Element": "bridges: app: its bridge" }
                    ]
                }
            }],
            "Probe": { "Address": "10.1.0.3", "Port": 80, "Proto": "tcp", "Outcome": "silent", "Text": "", "Agrees": true }
        });
        let wanted = "\
no, by design: web does not reach db:80
  the bridge keeps its containers apart

10.1.0.3:80/tcp, not reached
  route    web   10.1.0.0/24 dev eth0
  rule     host  let through
                 by inet berth early: containers speak as
                 themselves (bridges: app: its bridge)
✗ here       it keeps them apart

What would change it:
  - berth network create NEW

Real packets to 10.1.0.3:80/tcp: not answered, as was
said
";
        assert_eq!(told(&answer, false, 57), wanted);
    }
}
