//! `inspect` of everything: the engine's own JSON, whole or through a template.

use std::io::Write;

use clap::Arg;
use serde::Serialize;
use serde_json::Value;

use super::Ask;
use crate::failure::Failure;
use crate::flags::{Flags, LONG, switch, text};
use crate::printer;
use crate::template::{Missing, Template, unescape};
use crate::wire::{Call, escape};

fn format_flag() -> Arg {
    text("format", 'f', "string", "How to print: 'json', or a Go template")
}

/// The flags of `image inspect` and `volume inspect`.
pub fn flags() -> Vec<Arg> {
    vec![format_flag()]
}

/// The flags of `container inspect`.
pub fn container_flags() -> Vec<Arg> {
    vec![format_flag(), switch("size", 's', "Show sizes")]
}

/// The flags of `network inspect`.
pub fn network_flags() -> Vec<Arg> {
    vec![format_flag(), switch("verbose", 'v', "Show more for finding faults")]
}

/// The flags of `inspect`.
pub fn any_flags() -> Vec<Arg> {
    vec![
        format_flag(),
        switch("size", 's', "Show sizes of containers"),
        text("type", LONG, "string", "Look only for a container, image, network or volume"),
    ]
}

/// A kind of thing that can be inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    fn call(self, name: &str, size: bool) -> Call {
        let name = match self {
            // Slashes of an image's name are slashes of the path.
            Self::Image => name.split('/').map(escape).collect::<Vec<_>>().join("/"),
            _ => escape(name),
        };
        match self {
            Self::Container => Call::get(format!("/containers/{name}/json")).switch("size", size),
            Self::Image => Call::get(format!("/images/{name}/json")),
            Self::Network => Call::get(format!("/networks/{name}")),
            Self::Volume => Call::get(format!("/volumes/{name}")),
        }
    }
}

/// `inspect`: the first kind that has something of this name.
pub async fn any(ask: &Ask<'_>) -> Result<u8, Failure> {
    let kinds: &[Kind] = match ask.m.get("type").unwrap_or_default() {
        "" => &[Kind::Container, Kind::Image, Kind::Network, Kind::Volume],
        "container" => &[Kind::Container],
        "image" => &[Kind::Image],
        "network" => &[Kind::Network],
        "volume" => &[Kind::Volume],
        other => {
            return Err(Failure::refused(format!(
                "unknown type: {}: must be one of \"container\", \"image\", \"network\", \"volume\"",
                crate::literal::quoted(other)
            )));
        }
    };
    let size = ask.m.on("size");
    inspect(ask, kinds, size).await
}

/// `container inspect`
pub async fn container(ask: &Ask<'_>) -> Result<u8, Failure> {
    let size = ask.m.on("size");
    inspect(ask, &[Kind::Container], size).await
}

/// `image inspect`
pub async fn image(ask: &Ask<'_>) -> Result<u8, Failure> {
    inspect(ask, &[Kind::Image], false).await
}

/// `network inspect`
pub async fn network(ask: &Ask<'_>) -> Result<u8, Failure> {
    inspect(ask, &[Kind::Network], false).await
}

/// `volume inspect`
pub async fn volume(ask: &Ask<'_>) -> Result<u8, Failure> {
    inspect(ask, &[Kind::Volume], false).await
}

async fn inspect(ask: &Ask<'_>, kinds: &[Kind], size: bool) -> Result<u8, Failure> {
    let template = match ask.m.get("format").filter(|format| !format.is_empty()) {
        None => None,
        Some("json") => Some(None),
        Some(format) => {
            let parsed = Template::parse(&unescape(format))
                .map_err(|why| Failure::Exit { text: format!("template parsing error: {why}"), code: 64 })?;
            Some(Some(parsed))
        }
    };
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    'names: for name in &ask.args {
        for &kind in kinds {
            match ask.wire.ask(kind.call(name, size)).await {
                Ok(value) => {
                    found.push(value);
                    continue 'names;
                }
                Err(failure @ Failure::Engine { .. }) if kinds.len() == 1 => {
                    failed.push(failure.to_string());
                    continue 'names;
                }
                // What cannot be answered for one kind may be there as another.
                Err(Failure::Engine { status: 404 | 501, .. }) => {}
                Err(failure @ Failure::Engine { .. }) => {
                    failed.push(failure.to_string());
                    continue 'names;
                }
                Err(failure) => return Err(failure),
            }
        }
        failed.push(format!("Error: No such object: {name}"));
    }
    match template {
        None => printer::line(&indented(&Value::Array(found))),
        Some(None) => printer::line(&crate::template::json_text(&Value::Array(found))),
        Some(Some(template)) => {
            for value in &found {
                match template.print(value, Missing::Entry) {
                    Ok(text) => printer::line(&text),
                    Err(why) => failed.push(format!("template parsing error: {why}")),
                }
            }
            if found.is_empty() {
                // As Docker does: an empty line says that there is nothing to print the template for.
                printer::line("");
            }
        }
    }
    if failed.is_empty() { Ok(0) } else { Err(Failure::refused(failed.join("\n"))) }
}

/// JSON with an indent of four blanks; empty lists and objects on one line.
fn indented(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing a value to memory has nothing that could fail.
    let _ = value.serialize(&mut writer);
    let _ = out.flush();
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indent_is_four_blanks() {
        let value = serde_json::json!([{"A": {"B": []}, "C": {}}]);
        assert_eq!(
            indented(&value),
            "[\n    {\n        \"A\": {\n            \"B\": []\n        },\n        \"C\": {}\n    }\n]"
        );
    }

    #[test]
    fn names_of_images_keep_their_slashes() {
        let call = Kind::Image.call("localhost:5000/a b", false);
        assert!(format!("{call:?}").contains("/images/localhost%3A5000/a%20b/json"), "{call:?}");
    }
}
