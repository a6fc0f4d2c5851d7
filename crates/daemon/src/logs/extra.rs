//! What each entry of a log says besides its line: labels and variables of the container that the user named, and a tag.

use crate::container::Container;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The attributes that the options of the log driver ask for.
pub fn attributes(container: &Container) -> BTreeMap<String, String> {
    let options = container.spec.log.options();
    let named = |option: &str| {
        let list = options.get(option).map_or("", String::as_str);
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    let mut attributes = BTreeMap::new();
    for label in named("labels") {
        if let Some(value) = container.spec.labels.get(label) {
            attributes.insert(label.to_owned(), value.clone());
        }
    }
    for name in named("env") {
        let set = container.spec.env.iter().rev().filter_map(|line| line.split_once('='));
        if let Some((_, value)) = set.into_iter().find(|(known, _)| *known == name) {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(template) = options.get("tag").filter(|template| !template.is_empty()) {
        // Checked when the container was made.
        if let Ok(tag) = filled(template, &|word| value_of(container, word)) {
            attributes.insert("tag".into(), tag);
        }
    }
    attributes
}

/// What a tag may name.
const WORDS: [&str; 7] = ["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName"];

fn value_of(container: &Container, word: &str) -> String {
    let short = |id: &str| id.trim_start_matches("sha256:").chars().take(12).collect();
    match word {
        "ID" => container.id.short().to_string(),
        "FullID" => container.id.to_string(),
        "Name" => container.name.clone(),
        "ImageID" => short(&container.image_id),
        "ImageFullID" => container.image_id.clone(),
        "ImageName" => container.spec.image.clone(),
        _ => "berth".to_owned(),
    }
}

/// Checks a tag's template.
///
/// # Errors
/// It is more than text and names in double braces, or names what there is not.
pub fn check_tag(template: &str) -> Result<()> {
    filled(template, &|_| String::new()).map(drop)
}

fn filled(template: &str, value: &dyn Fn(&str) -> String) -> Result<String> {
    let mut rest = template;
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once("{{") {
        let invalid = || {
            Error::Invalid(format!(
                "invalid value {template:?} for log opt 'tag': braces take one of {{{{.{}}}}}",
                WORDS.join("}}, {{.")
            ))
        };
        let (inside, after) = after.split_once("}}").ok_or_else(invalid)?;
        let word = inside.trim().strip_prefix('.').filter(|word| WORDS.contains(word)).ok_or_else(invalid)?;
        text.push_str(before);
        text.push_str(&value(word));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// Attributes as `logs --details` shows them: `a=1,b=two`, each part as in a query.
pub fn details(attributes: &BTreeMap<String, String>) -> String {
    let pairs = attributes.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_filled_in() {
        let value = |word: &str| format!("<{word}>");
        for (template, want) in [
            ("plain", "plain"),
            ("{{.Name}}/{{ .ID }}", "<Name>/<ID>"),
            ("{{.ImageName}}", "<ImageName>"),
            ("{a}}", "{a}}"),
        ] {
            assert_eq!(filled(template, &value).unwrap(), want);
        }
        for bad in ["{{.Colour}}", "{{.Name", "{{Name}}", "{{with .Name}}"] {
            assert!(check_tag(bad).unwrap_err().to_string().contains("braces take one of {{.ID}}, "), "{bad}");
        }
    }

    #[test]
    fn details_read_as_a_query() {
        let attributes = [("tag", "web 1"), ("com.example/a", "b,c=ä")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(details(&attributes.into()), "com.example%2Fa=b%2Cc%3D%C3%A4,tag=web+1");
        assert_eq!(details(&BTreeMap::new()), "");
    }
}
