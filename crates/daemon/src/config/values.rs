//! What was told, by flags and by `daemon.json`, as one set of plain values that fit the table's shapes.

use super::table::{self, Fate, ROWS, Row, Shape};
use crate::error::{Error, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Values by [`Row::name`].
pub type Values = BTreeMap<&'static str, Value>;

/// `berth daemon` with every flag of the table.
pub fn command() -> Command {
    let command = Command::new("daemon").about("Run the engine in the foreground");
    ROWS.iter().filter(|row| !row.flag.is_empty()).fold(command, |command, row| command.arg(arg(row)))
}

fn arg(row: &Row) -> Arg {
    let fate = match row.fate {
        Fate::Used => "",
        Fate::Moot(_) => " (no effect)",
        Fate::Absent(_) => " (not there)",
    };
    let default = if row.default.is_empty() { String::new() } else { format!(" [default: {}]", row.default) };
    let arg = Arg::new(row.flag).long(row.flag).help(format!("{}{fate}{default}", row.help));
    let arg = match row.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match row.shape {
        Shape::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .hide_possible_values(true)
            .action(ArgAction::Set),
        Shape::Number => arg.value_name("NUMBER").allow_negative_numbers(true).action(ArgAction::Set),
        Shape::Text => arg.value_name("TEXT").action(ArgAction::Set),
        Shape::List | Shape::Map | Shape::Object => arg.value_name("TEXT").action(ArgAction::Append),
    }
}

/// What the flags say.
///
/// # Errors
/// A value that does not fit its shape.
pub fn of_flags(matches: &ArgMatches) -> Result<Values> {
    let mut values = Values::new();
    for row in ROWS.iter().filter(|row| !row.flag.is_empty()) {
        if matches.value_source(row.flag) != Some(ValueSource::CommandLine) {
            continue;
        }
        let texts: Vec<String> = matches.get_many::<String>(row.flag).into_iter().flatten().cloned().collect();
        values.insert(row.name(), of_flag(row, texts)?);
    }
    Ok(values)
}

fn of_flag(row: &Row, texts: Vec<String>) -> Result<Value> {
    let bad = |text: &str, rule: &str| {
        Error::Invalid(format!("invalid argument \"{text}\" for \"--{}\" flag: {rule}", row.flag))
    };
    let last = || texts.last().cloned().unwrap_or_default();
    Ok(match row.shape {
        Shape::Text => last().into(),
        Shape::Number => last().parse::<i64>().map_err(|_| bad(&last(), "it is not a whole number"))?.into(),
        // Go's strconv.ParseBool.
        Shape::Switch => match last().as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true.into(),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false.into(),
            other => return Err(bad(other, "it is neither true nor false")),
        },
        Shape::List => texts.into(),
        Shape::Map => {
            let mut map = Map::new();
            for text in &texts {
                let (key, value) = text.split_once('=').ok_or_else(|| bad(text, "it is not of the form KEY=VALUE"))?;
                map.insert(key.into(), value.into());
            }
            map.into()
        }
        Shape::Object => object_of_flag(row, &texts, bad)?,
    })
}

/// The three flags whose value in the file is an object of another form.
fn object_of_flag(row: &Row, texts: &[String], bad: impl Fn(&str, &str) -> Error) -> Result<Value> {
    let mut map = Map::new();
    if row.key == "default-address-pools" {
        let mut pools = Vec::new();
        for text in texts {
            let mut pool = Map::new();
            for part in text.split(',') {
                match part.split_once('=') {
                    Some(("base", base)) => pool.insert("base".into(), base.into()),
                    Some(("size", size)) => {
                        let size: u8 = size.parse().map_err(|_| bad(text, "size is a prefix length"))?;
                        pool.insert("size".into(), size.into())
                    }
                    _ => return Err(bad(text, "it is not of the form base=CIDR,size=BITS")),
                };
            }
            pools.push(pool.into());
        }
        return Ok(Value::Array(pools));
    }
    for text in texts {
        let (key, value) = text.split_once('=').ok_or_else(|| bad(text, "it is not of the form NAME=VALUE"))?;
        let value = match row.key {
            "runtimes" => serde_json::json!({ "path": value }),
            "default-ulimits" => {
                let (soft, hard) = value.split_once(':').unwrap_or((value, value));
                let number = |n: &str| n.parse::<i64>().map_err(|_| bad(text, "limits are whole numbers"));
                serde_json::json!({ "Name": key, "Soft": number(soft)?, "Hard": number(hard)? })
            }
            _ => value.into(),
        };
        map.insert(key.into(), value);
    }
    Ok(map.into())
}

/// What a `daemon.json` says. `source` names it in texts.
///
/// # Errors
/// Not JSON, with the position; a key that nobody knows; a value of another shape.
pub fn of_file(text: &str, source: &Path) -> Result<Values> {
    let failed = |why: String| {
        Error::Invalid(format!("unable to configure the berth daemon with file {}: {why}", source.display()))
    };
    if text.trim().is_empty() {
        return Ok(Values::new());
    }
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| failed(error.to_string()))?;
    let unknown: Vec<&str> = object.keys().map(String::as_str).filter(|key| table::by_key(key).is_none()).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        return Err(failed(format!("the following directives don't match any configuration option: {unknown}")));
    }
    let mut values = Values::new();
    for (key, value) in object {
        let Some(row) = table::by_key(&key) else { continue };
        if value.is_null() {
            continue;
        }
        let fits = match row.shape {
            // Sizes may be numbers, as in Docker's own file.
            Shape::Text => value.is_string() || (key == "default-shm-size" && value.is_u64()),
            Shape::Number => value.is_i64(),
            Shape::Switch => value.is_boolean(),
            Shape::List => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            Shape::Map | Shape::Object if key != "default-address-pools" => value.is_object(),
            Shape::Map | Shape::Object => value.is_array(),
        };
        if !fits {
            let wanted = match row.shape {
                Shape::Text => "a text",
                Shape::Number => "a whole number",
                Shape::Switch => "true or false",
                Shape::List => "a list of texts",
                Shape::Map | Shape::Object if key != "default-address-pools" => "an object",
                Shape::Map | Shape::Object => "a list of objects",
            };
            return Err(failed(format!("{key}: {value} is not {wanted}")));
        }
        values.insert(row.name(), value);
    }
    Ok(values)
}

/// Both together.
///
/// # Errors
/// Something is told by both.
pub fn merged(flags: Values, file: Values, source: &Path) -> Result<Values> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let twice: Vec<String> = flags
        .iter()
        .filter_map(|(name, flag)| {
            let file = file.get(name)?;
            Some(format!("{name}: (from flag: {}, from file: {})", plain(flag), plain(file)))
        })
        .collect();
    if !twice.is_empty() {
        return Err(Error::Invalid(format!(
            "unable to configure the berth daemon with file {}: the following directives are specified both as a flag and \
             in the configuration file: {}",
            source.display(),
            twice.join(", ")
        )));
    }
    let mut all = flags;
    all.extend(file);
    Ok(all)
}

/// Takes out what berth has not, or has no use for: the warnings.
///
/// # Errors
/// Something whose silent absence would be dangerous is asked for.
pub fn fated(values: &mut Values) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for row in ROWS {
        let Some(value) = values.get(row.name()) else { continue };
        match row.fate {
            Fate::Used => continue,
            Fate::Moot(why) => warnings.push(format!("{} has no effect: {why}", spelled(row))),
            // Switched off is what we do anyway.
            Fate::Absent(_) if value == &Value::Bool(false) => {}
            Fate::Absent(why) => return Err(Error::Absent(format!("{}: {why}", spelled(row)))),
        }
        values.remove(row.name());
    }
    Ok(warnings)
}

fn spelled(row: &Row) -> String {
    if row.flag.is_empty() { format!("\"{}\"", row.key) } else { format!("--{}", row.flag) }
}
