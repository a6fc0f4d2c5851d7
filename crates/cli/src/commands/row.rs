//! Listings: rows printed as a table, by a template, or as JSON.

use clap::ArgMatches;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::flags::Flags;
use crate::printer;
use crate::table;
use crate::template::{Missing, Template, unescape};

/// A kind of listing.
pub struct Listing<'a> {
    /// Go's name of a row, for refusals.
    pub kind: &'static str,
    /// The title of each column.
    pub titles: Value,
    /// The columns without `--format`, tabs between them.
    pub columns: &'a str,
}

impl Listing<'_> {
    /// Prints rows as `--format` says.
    pub fn print(&self, rows: &[Value], format: Option<&str>) -> Result<(), Failure> {
        printer::out(&self.text(rows, format)?);
        Ok(())
    }

    /// The text of rows, as `--format` says.
    pub fn text(&self, rows: &[Value], format: Option<&str>) -> Result<String, Failure> {
        let format = match format.map(str::trim) {
            None | Some("" | "table") => format!("table {}", self.columns),
            Some("json") => "{{json .}}".to_owned(),
            Some(other) => other.to_owned(),
        };
        let (template, is_table) = match format.strip_prefix("table ") {
            Some(columns) => (columns.trim(), true),
            None => (format.as_str(), false),
        };
        let parsed = Template::parse(&unescape(template))
            .map_err(|why| Failure::refused(format!("failed to parse template: {why}")))?;
        let broken = |why: String| {
            let what = if is_table { "template parsing error" } else { "failed to execute template" };
            Failure::refused(format!("{what}: {why}"))
        };
        let mut lines = Vec::new();
        for row in rows {
            lines.push(parsed.print(row, Missing::Column(self.kind)).map_err(broken)?);
        }
        if !is_table {
            return Ok(lines.iter().map(|line| format!("{line}\n")).collect());
        }
        lines.insert(0, parsed.header(&self.titles));
        Ok(table::layout(&lines, table::LISTING))
    }
}

/// The filters of a listing as the API takes them: a JSON object of lists.
pub fn filters(m: &ArgMatches) -> Option<String> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in m.values::<(String, String)>("filter") {
        all.entry(name).or_default().push(value);
    }
    encode(&all)
}

/// Filters as the API takes them; none where there are none.
pub fn encode(all: &BTreeMap<String, Vec<String>>) -> Option<String> {
    (!all.is_empty()).then(|| serde_json::json!(all).to_string())
}

/// The first twelve characters of an ID, without the name of its hash.
pub fn short_id(id: &str) -> String {
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    bare.chars().take(12).collect()
}

/// `a=b,c=d`
pub fn joined(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

/// The text at a key, empty if there is none.
pub fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// Seconds since 1970, now.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// How long ago an instant was, in words, with `ago`.
pub fn ago(unix: i64) -> String {
    let seconds = u64::try_from(now() - unix).unwrap_or(0);
    format!("{} ago", crate::human::span(std::time::Duration::from_secs(seconds)))
}
