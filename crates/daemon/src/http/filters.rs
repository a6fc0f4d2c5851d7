//! `filters={"name":["web"]}` of a query, in both of its spellings.

use super::ask::Query;
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Values by filter name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads them; `known` are those that are understood.
    ///
    /// # Errors
    /// Not JSON of this form, or a name that is not known: `invalid filter 'x'`.
    pub fn read(query: &Query, known: &[&str]) -> Result<Filters> {
        let Some(text) = query.text("filters") else { return Ok(Filters::default()) };
        let invalid = || Error::Invalid(format!("invalid filter {text:?}: it is an object of lists of texts"));
        let object: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut filters = BTreeMap::new();
        for (name, values) in object {
            if !known.contains(&name.as_str()) {
                return Err(Error::Invalid(format!("invalid filter '{name}'")));
            }
            let values: Vec<String> = match values {
                Value::Array(list) => list
                    .iter()
                    .map(|value| value.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(invalid)?,
                // The old spelling: {"name":{"web":true}}.
                Value::Object(map) => {
                    map.into_iter().filter(|(_, on)| on.as_bool() == Some(true)).map(|(value, _)| value).collect()
                }
                _ => return Err(invalid()),
            };
            if !values.is_empty() {
                filters.insert(name, values);
            }
        }
        Ok(Filters(filters))
    }

    /// The values of one.
    pub fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// It is asked for.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Nobody asks for it, or one of its values fits.
    pub fn fits(&self, name: &str, fit: impl Fn(&str) -> bool) -> bool {
        !self.has(name) || self.get(name).iter().any(|value| fit(value))
    }

    /// A switch: `dangling=true`.
    ///
    /// # Errors
    /// `invalid filter 'dangling=[x]'`, Docker's words.
    pub fn switch(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            [] => Ok(None),
            [value] if ["true", "1"].contains(&value.as_str()) => Ok(Some(true)),
            [value] if ["false", "0"].contains(&value.as_str()) => Ok(Some(false)),
            values => Err(Error::Invalid(format!("invalid filter '{name}=[{}]'", values.join(" ")))),
        }
    }

    /// All of `label=key` and `label=key=value` hold, and none of `label!=…`.
    pub fn labels_fit(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(holds) && !self.get("label!").iter().any(holds)
    }

    /// The moment of `until=…`.
    ///
    /// # Errors
    /// It is no time.
    pub fn until(&self) -> Result<Option<std::time::SystemTime>> {
        match self.get("until") {
            [] => Ok(None),
            [text] => {
                let when = crate::time::parse_when(text, std::time::SystemTime::now());
                when.map(Some).ok_or_else(|| Error::Invalid(format!("invalid value {text:?} for the filter until")))
            }
            _ => Err(Error::Invalid("more than one until filter specified".into())),
        }
    }
}

/// Does a name fit a pattern as Docker's name filters do: anywhere in it, with `^` and `$` at the ends and `.*`, `*` and `?`?
pub fn name_fits(pattern: &str, name: &str) -> bool {
    let (from_start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (to_end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |rest| (true, rest));
    let pattern = pattern.replace(".*", "*");
    let pattern = pattern.strip_prefix('/').filter(|_| !name.starts_with('/')).unwrap_or(&pattern);
    let mut whole = String::new();
    if !from_start {
        whole.push('*');
    }
    whole.push_str(pattern);
    if !to_end {
        whole.push('*');
    }
    glob(whole.as_bytes(), name.as_bytes())
}

/// `*` is any text, `?` any one character.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when a star has to take one more character.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Filters> {
        let quoted: String = json.bytes().map(|b| format!("%{b:02x}")).collect();
        Filters::read(&Query::of(&format!("filters={quoted}")), &["name", "label", "label!", "dangling", "until"])
    }

    #[test]
    fn both_spellings_are_read() {
        let new = read(r#"{"name":["a","b"],"label":[]}"#).unwrap();
        assert_eq!(new.get("name"), ["a", "b"]);
        assert!(!new.has("label"));
        assert_eq!(read(r#"{"name":{"a":true,"b":true,"c":false}}"#).unwrap(), new);
        for (bad, text) in [
            ("x", "invalid filter \"x\""),
            (r#"{"colour":["red"]}"#, "invalid filter 'colour'"),
            (r#"{"name":"a"}"#, "it is an object of lists of texts"),
            (r#"{"name":[1]}"#, "it is an object of lists of texts"),
        ] {
            assert!(read(bad).unwrap_err().to_string().contains(text), "{bad}");
        }
        assert_eq!(read(r#"{"dangling":["true"]}"#).unwrap().switch("dangling").unwrap(), Some(true));
        assert!(read(r#"{"dangling":["maybe"]}"#).unwrap().switch("dangling").is_err());
        assert!(read(r#"{"until":["then"]}"#).unwrap().until().is_err());
    }

    #[test]
    fn labels_all_have_to_fit() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (json, fits) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1","b"]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["a","c"]}"#, false),
            (r#"{"label!":["a"]}"#, false),
            (r#"{"label!":["c"]}"#, true),
            (r#"{"label!":["b="]}"#, false),
        ] {
            assert_eq!(read(json).unwrap().labels_fit(&labels), fits, "{json}");
        }
    }

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, fits) in [
            ("web", "my-web-1", true),
            ("^web", "my-web", false),
            ("^/web$", "web", true),
            ("^web$", "web2", false),
            ("w*b", "wxxb", true),
            ("^w.*1$", "web1", true),
            ("w?b$", "web", true),
            ("z", "web", false),
        ] {
            assert_eq!(name_fits(pattern, name), fits, "{pattern} {name}");
        }
    }
}
