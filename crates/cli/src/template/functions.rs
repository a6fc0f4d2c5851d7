//! The functions a template can call, and how values look when printed.

use serde_json::Value;

/// Whether there is a function of this name.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

const NAMES: [&str; 24] = [
    "json", "join", "split", "upper", "lower", "title", "pad", "truncate", "len", "index", "slice", "print", "printf",
    "println", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "html",
];

/// Whether a value counts as true: not empty, not zero, not false.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The Go type of a value, for refusals.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "json.Number",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go prints it: lists in brackets, maps as `map[key:value]`.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(show).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut items: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", show(value))).collect();
            items.sort();
            format!("map[{}]", items.join(" "))
        }
    }
}

/// JSON as Go writes it: `<`, `>` and `&` escaped, for pages that embed it.
pub fn json_text(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Calls a function. `Ok(None)` is a value that is not there.
pub fn call(name: &str, arguments: &[Value]) -> Result<Option<Value>, String> {
    let text = |at: usize| match arguments.get(at) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(format!("expected string; found {}", kind(other))),
        None => Err(format!("wrong number of args for {name}: got {}", arguments.len())),
    };
    let number = |at: usize| match arguments.get(at).and_then(Value::as_u64) {
        Some(n) => usize::try_from(n).map_err(|err| err.to_string()),
        None => Err(format!("{name}: argument {} is not a whole number", at + 1)),
    };
    let answer: Value = match (name, arguments) {
        ("json", [value]) => json_text(value).into(),
        ("join", [Value::Array(list), _]) => {
            let parts: Vec<String> = list.iter().map(show).collect();
            parts.join(text(1)?).into()
        }
        ("join", [Value::Null, _]) => "".into(),
        ("split", [_, _]) => {
            let parts: Vec<Value> = text(0)?.split(text(1)?).map(Value::from).collect();
            parts.into()
        }
        ("upper", [value]) => show(value).to_uppercase().into(),
        ("lower", [value]) => show(value).to_lowercase().into(),
        ("title", [value]) => title(&show(value)).into(),
        ("pad", [_, _, _]) => {
            let (value, before, after) = (text(0)?, number(1)?, number(2)?);
            if value.is_empty() {
                "".into()
            } else {
                format!("{}{value}{}", " ".repeat(before), " ".repeat(after)).into()
            }
        }
        ("truncate", [_, _]) => text(0)?.chars().take(number(1)?).collect::<String>().into(),
        ("len", [value]) => match value {
            Value::String(text) => text.len().into(),
            Value::Array(list) => list.len().into(),
            Value::Object(map) => map.len().into(),
            Value::Null => 0.into(),
            other => return Err(format!("len of type {}", kind(other))),
        },
        ("index", [value, keys @ ..]) => return index(value, keys),
        ("slice", [Value::String(text), from, rest @ ..]) => {
            let from = from.as_u64().unwrap_or(0) as usize;
            let to = rest.first().and_then(Value::as_u64).map_or(text.len(), |to| to as usize);
            text.get(from..to).ok_or_else(|| format!("index out of range: {to}"))?.into()
        }
        ("print", values) => values.iter().map(show).collect::<Vec<_>>().join(" ").into(),
        ("println", values) => (values.iter().map(show).collect::<Vec<_>>().join(" ") + "\n").into(),
        ("printf", [Value::String(format), values @ ..]) => printf(format, values).into(),
        ("html", [value]) => show(value).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").into(),
        ("not", [value]) => (!truth(value)).into(),
        ("and", values) if !values.is_empty() => {
            values.iter().find(|value| !truth(value)).or(values.last()).cloned().unwrap_or(Value::Null)
        }
        ("or", values) if !values.is_empty() => {
            values.iter().find(|value| truth(value)).or(values.last()).cloned().unwrap_or(Value::Null)
        }
        ("eq", [first, rest @ ..]) if !rest.is_empty() => rest.iter().any(|other| same(first, other)).into(),
        ("ne", [first, second]) => (!same(first, second)).into(),
        ("lt" | "le" | "gt" | "ge", [first, second]) => {
            let order = order(first, second)?;
            match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
            .into()
        }
        _ => return Err(format!("wrong number or type of args for {name}: got {}", arguments.len())),
    };
    Ok(Some(answer))
}

fn same(first: &Value, second: &Value) -> bool {
    match (first.as_f64(), second.as_f64()) {
        (Some(first), Some(second)) => first == second,
        _ => first == second,
    }
}

fn order(first: &Value, second: &Value) -> Result<std::cmp::Ordering, String> {
    match (first, second) {
        (Value::String(first), Value::String(second)) => Ok(first.cmp(second)),
        _ => first
            .as_f64()
            .zip(second.as_f64())
            .and_then(|(first, second)| first.partial_cmp(&second))
            .ok_or_else(|| "incompatible types for comparison".to_owned()),
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Option<Value>, String> {
    let mut at = value;
    for key in keys {
        at = match (at, key) {
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(value) => value,
                None => return Ok(None),
            },
            (Value::Array(list), Value::Number(n)) => {
                let place = n.as_u64().and_then(|n| usize::try_from(n).ok());
                place
                    .and_then(|place| list.get(place))
                    .ok_or_else(|| format!("error calling index: reflect: slice index out of range: {n}"))?
            }
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("cannot index {} with type {}", kind(other), kind(key))),
        };
    }
    Ok(Some(at.clone()))
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let shown = if start { c.to_ascii_uppercase() } else { c };
            start = !c.is_alphanumeric();
            shown
        })
        .collect()
}

/// The verbs `%s %v %d %q %t %x` with an optional `-` and width, and `%%`.
fn printf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut left = false;
        let mut width = 0usize;
        while let Some(&flag) = chars.peek() {
            match flag {
                '-' => left = true,
                digit if digit.is_ascii_digit() => width = width * 10 + (digit as usize - '0' as usize),
                _ => break,
            }
            chars.next();
        }
        let verb = chars.next();
        let shown = match (verb, verb.filter(|&v| v != '%').and_then(|_| values.next())) {
            (Some('%'), _) => "%".to_owned(),
            (Some('q'), Some(value)) => crate::literal::quoted(&show(value)),
            (Some('x'), Some(value)) if value.is_u64() => format!("{:x}", value.as_u64().unwrap_or(0)),
            (Some(_), Some(value)) => show(value),
            (Some(verb), None) => format!("%!{verb}(MISSING)"),
            (None, _) => "%!(NOVERB)".to_owned(),
        };
        let blanks = " ".repeat(width.saturating_sub(shown.chars().count()));
        if left {
            out.push_str(&shown);
            out.push_str(&blanks);
        } else {
            out.push_str(&blanks);
            out.push_str(&shown);
        }
    }
    out
}
