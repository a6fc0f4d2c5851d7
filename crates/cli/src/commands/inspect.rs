//! `inspect` of everything: the engine's own JSON, whole or through a template.

use clap::Arg;
use serde_json::Value;

use super::Ask;
use super::lines::Lines;
use crate::failure::Failure;
use crate::flags::{Flags, LONG, switch, text};
use crate::printer;
use crate::template::Missing;
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
            // The last version whose answer has the address at the top of `NetworkSettings` too, where scripts have looked for
            // it for ten years; all else is the same in later ones.
            Self::Container => Call::get(format!("/v1.51/containers/{name}/json")).switch("size", size),
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
    let lines = Lines::read(ask.m.get("format"), "template parsing error")?;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    'names: for name in &ask.args {
        for &kind in kinds {
            match ask.wire.text(kind.call(name, size)).await {
                Ok(text) => {
                    found.push(text);
                    continue 'names;
                }
                // What cannot be answered for one kind may be there as another.
                Err(Failure::Engine { status: 404 | 501, .. }) if kinds.len() > 1 => {}
                Err(failure @ Failure::Engine { .. }) => {
                    failed.push(failure.to_string());
                    continue 'names;
                }
                Err(failure) => return Err(failure),
            }
        }
        failed.push(format!("Error: No such object: {name}"));
    }
    match lines {
        Lines::Plain => printer::line(&indented(&format!("[{}]", found.join(",")))),
        Lines::Json => {
            printer::line(&format!("[{}]", found.iter().map(|text| text.trim()).collect::<Vec<_>>().join(",")))
        }
        Lines::Shaped(template) => {
            let mut printed = 0;
            for text in &found {
                let value: Value = serde_json::from_str(text).map_err(|err| Failure::Garbled {
                    request: "the inspection".to_owned(),
                    reason: format!("it is no JSON: {err}"),
                })?;
                match template.print(&value, Missing::Entry) {
                    Ok(text) => {
                        printer::line(&text);
                        printed += 1;
                    }
                    Err(why) => failed.push(format!("template parsing error: {why}")),
                }
            }
            if printed == 0 {
                // As Docker does: scripts that read one line get an empty one.
                printer::line("");
            }
        }
    }
    if failed.is_empty() { Ok(0) } else { Err(Failure::refused(failed.join("\n"))) }
}

/// JSON with an indent of four blanks, in the order in which the engine wrote it; empty lists and objects on one line.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    let mut chars = json.chars().filter(|c| !matches!(c, '\n' | '\r')).peekable();
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            in_text = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                out.push(c);
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indent_is_four_blanks() {
        assert_eq!(
            indented(r#"[{"Z": {"B":[ ]},"A":{},"t":"a\\\"b: {\\\\","n":[1,2]}]"#),
            r#"[
    {
        "Z": {
            "B": []
        },
        "A": {},
        "t": "a\\\"b: {\\\\",
        "n": [
            1,
            2
        ]
    }
]"#
        );
        assert_eq!(indented("[]"), "[]");
    }

    #[test]
    fn names_of_images_keep_their_slashes() {
        let call = Kind::Image.call("localhost:5000/a b", false);
        assert!(format!("{call:?}").contains("/images/localhost%3A5000/a%20b/json"), "{call:?}");
    }
}
