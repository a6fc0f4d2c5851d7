//! `-v`, `--mount` and `--tmpfs`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::literal::{boolean, bytes};

/// A value of `-v`: an anonymous volume, or something bound to a path of the container.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    /// A new volume without a name, at this path.
    Anonymous(String),
    /// `SOURCE:TARGET[:OPTIONS]`, a relative host path made absolute.
    Bind(String),
}

/// Reads `[SOURCE:]TARGET[:OPTIONS]`; `here` is the directory that relative host paths start from.
pub fn volume(text: &str, here: &Path) -> Result<Volume, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("invalid spec: {text}: empty section between colons"));
    }
    let [source, rest @ ..] = parts.as_slice() else {
        return Err(format!("invalid spec: {text}"));
    };
    if rest.is_empty() {
        return Ok(Volume::Anonymous((*source).to_owned()));
    }
    // A name of a volume has no slash and does not begin with a dot or a tilde; everything else is a path here.
    let relative = source.starts_with("./") || source.starts_with("../") || matches!(*source, "." | "..");
    if relative {
        let absolute = clean(&here.join(source));
        return Ok(Volume::Bind(format!("{}:{}", absolute.display(), rest.join(":"))));
    }
    Ok(Volume::Bind(text.to_owned()))
}

/// The path without `.` and `..`, by its text alone.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// `PATH[:OPTIONS]` of `--tmpfs`, for the API's map.
pub fn tmpfs(values: &[String]) -> BTreeMap<String, String> {
    values
        .iter()
        .map(|value| {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            (path.to_owned(), options.to_owned())
        })
        .collect()
}

/// Reads one value of `--mount` into the API's `Mount`.
pub fn mount(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("value is empty".to_owned());
    }
    let mut mount = Map::new();
    let mut kind = "volume".to_owned();
    let (mut bind, mut volume, mut tmpfs) = (Map::new(), Map::new(), Map::new());
    let (mut options, mut labels) = (Map::new(), Map::new());
    for field in fields(text)? {
        let (key, given) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value.to_owned())),
            None => (field.to_lowercase(), None),
        };
        // These switches may stand alone; everything else is key=value.
        let switch = |name: &str| -> Result<bool, String> {
            match &given {
                None => Ok(true),
                Some(value) => boolean(value).map_err(|_| format!("invalid value for {name}: {value}")),
            }
        };
        match key.as_str() {
            "readonly" | "ro" => {
                mount.insert("ReadOnly".into(), json!(switch(&key)?));
                continue;
            }
            "volume-nocopy" => {
                volume.insert("NoCopy".into(), json!(switch(&key)?));
                continue;
            }
            "bind-nonrecursive" => {
                bind.insert("NonRecursive".into(), json!(switch(&key)?));
                continue;
            }
            "bind-create-src" => {
                bind.insert("CreateMountpoint".into(), json!(switch(&key)?));
                continue;
            }
            _ => {}
        }
        let value = given.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        let (name, detail) = value.split_once('=').unwrap_or((&value, ""));
        let detail = (name.to_owned(), json!(detail));
        match key.as_str() {
            "type" => kind = value.to_lowercase(),
            "source" | "src" => {
                mount.insert("Source".into(), json!(value));
            }
            "target" | "dst" | "destination" => {
                mount.insert("Target".into(), json!(value));
            }
            "consistency" => {
                mount.insert("Consistency".into(), json!(value.to_lowercase()));
            }
            "bind-propagation" => {
                bind.insert("Propagation".into(), json!(value.to_lowercase()));
            }
            "bind-recursive" => match value.as_str() {
                "enabled" => {}
                "disabled" => {
                    bind.insert("NonRecursive".into(), json!(true));
                }
                "writable" => {
                    bind.insert("ReadOnlyNonRecursive".into(), json!(true));
                }
                "readonly" => {
                    bind.insert("ReadOnlyForceRecursive".into(), json!(true));
                }
                _ => {
                    return Err(format!(
                        "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    ));
                }
            },
            "volume-subpath" => {
                volume.insert("Subpath".into(), json!(value));
            }
            "volume-label" => labels.extend([detail]),
            "volume-driver" => {
                options_of(&mut volume).insert("Name".into(), json!(value));
            }
            "volume-opt" => options.extend([detail]),
            "tmpfs-size" => {
                let size = bytes(&value).map_err(|_| format!("invalid value for {key}: {value}"))?;
                tmpfs.insert("SizeBytes".into(), json!(size));
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(&value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
                tmpfs.insert("Mode".into(), json!(mode));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !mount.contains_key("Target") {
        return Err("target is required".to_owned());
    }
    if bind.contains_key("ReadOnlyForceRecursive") {
        let needs = |what: &str| {
            Err(format!("option 'bind-recursive=readonly' requires '{what}' to be specified in conjunction"))
        };
        if mount.get("ReadOnly") != Some(&json!(true)) {
            return needs("readonly");
        }
        if bind.get("Propagation") != Some(&json!("rprivate")) {
            return needs("bind-propagation=rprivate");
        }
    }
    if !options.is_empty() {
        options_of(&mut volume).insert("Options".into(), Value::Object(options));
    }
    if !labels.is_empty() {
        volume.insert("Labels".into(), Value::Object(labels));
    }
    for (owner, place, set) in
        [("volume", "VolumeOptions", volume), ("bind", "BindOptions", bind), ("tmpfs", "TmpfsOptions", tmpfs)]
    {
        if set.is_empty() {
            continue;
        }
        if owner != kind {
            return Err(format!("cannot mix '{owner}-*' options with mount type '{kind}'"));
        }
        mount.insert(place.into(), Value::Object(set));
    }
    mount.insert("Type".into(), json!(kind));
    Ok(Value::Object(mount))
}

fn options_of(volume: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let place = volume.entry("DriverConfig").or_insert_with(|| Value::Object(Map::new()));
    match place {
        Value::Object(map) => map,
        _ => unreachable!("only this function writes DriverConfig, always as an object"),
    }
}

/// The fields of a comma-separated line; a field in double quotes may contain commas, `""` there is one quote.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut in_quotes = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("the list starts with one field and only grows");
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if in_quotes => in_quotes = false,
            '"' if field.is_empty() => in_quotes = true,
            ',' if !in_quotes => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if in_quotes {
        return Err(format!("a quoted field of '{line}' is not closed"));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_volume() {
        let here = Path::new("/home/me");
        for (text, wanted) in [
            ("/anon", Ok(Volume::Anonymous("/anon".into()))),
            ("/a:/b", Ok(Volume::Bind("/a:/b".into()))),
            ("vol:/e", Ok(Volume::Bind("vol:/e".into()))),
            ("/c:/d:ro,z", Ok(Volume::Bind("/c:/d:ro,z".into()))),
            ("./x:/d", Ok(Volume::Bind("/home/me/x:/d".into()))),
            ("..:/d:ro", Ok(Volume::Bind("/home:/d:ro".into()))),
            (":/b", Err("invalid spec: :/b: empty section between colons".into())),
            ("", Err("invalid empty volume spec".into())),
        ] {
            assert_eq!(volume(text, here), wanted, "{text:?}");
        }
    }

    #[test]
    fn forms_of_mount() {
        for (text, wanted) in [
            (
                "type=bind,src=/x,dst=/y,readonly,bind-propagation=rslave",
                r#"{"BindOptions":{"Propagation":"rslave"},"ReadOnly":true,"Source":"/x","Target":"/y","Type":"bind"}"#,
            ),
            (
                "type=volume,source=v,target=/t,volume-opt=a=b,volume-nocopy",
                r#"{"Source":"v","Target":"/t","Type":"volume","VolumeOptions":{"DriverConfig":{"Options":{"a":"b"}},"NoCopy":true}}"#,
            ),
            (
                "type=tmpfs,dst=/tmp,tmpfs-size=1m,tmpfs-mode=700",
                r#"{"Target":"/tmp","TmpfsOptions":{"Mode":448,"SizeBytes":1048576},"Type":"tmpfs"}"#,
            ),
            ("dst=/a", r#"{"Target":"/a","Type":"volume"}"#),
            ("type=bind,\"src=/a,b\",dst=/y", r#"{"Source":"/a,b","Target":"/y","Type":"bind"}"#),
            ("type=bind,src=/a", "target is required"),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=readonly",
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
            ),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=readonly,ro",
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
            ),
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("type=volume,dst=/a,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
            ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("type=tmpfs,dst=/a,tmpfs-size=x", "invalid value for tmpfs-size: x"),
            ("type=bind,src=/a,dst=/b,readonly=z", "invalid value for readonly: z"),
        ] {
            let got = mount(text).map_or_else(|why| why, |mount| mount.to_string());
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    #[test]
    fn forms_of_tmpfs() {
        let map = tmpfs(&["/run".into(), "/x:size=1m".into()]);
        assert_eq!(map["/run"], "");
        assert_eq!(map["/x"], "size=1m");
    }
}
