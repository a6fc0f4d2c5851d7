//! Objects of a stream, printed a line each: in our words, as JSON, or by a template.

use serde_json::Value;

use crate::failure::Failure;
use crate::template::{Missing, Template, json_text, unescape};

/// How to print them.
pub enum Lines {
    /// In our words.
    Plain,
    /// As JSON.
    Json,
    /// By a template.
    Shaped(Template),
}

impl Lines {
    /// What `--format` says; `wrong` is how a complaint about a template begins.
    ///
    /// # Errors
    /// A template that is none; exit code 64, as Docker's.
    pub fn read(format: Option<&str>, wrong: &str) -> Result<Lines, Failure> {
        match format.filter(|format| !format.is_empty()) {
            None => Ok(Lines::Plain),
            Some("json") => Ok(Lines::Json),
            Some(format) => Template::parse(&unescape(format))
                .map(Lines::Shaped)
                .map_err(|why| Failure::Exit { text: format!("{wrong}: {why}"), code: 64 }),
        }
    }

    /// One of them; `plain` has our words.
    ///
    /// # Errors
    /// A template that does not fit it.
    pub fn line(&self, value: &Value, plain: fn(&Value) -> String) -> Result<String, Failure> {
        match self {
            Lines::Plain => Ok(plain(value)),
            Lines::Json => Ok(json_text(value)),
            Lines::Shaped(template) => template
                .print(value, Missing::Message)
                .map_err(|why| Failure::refused(format!("failed to execute template: {why}"))),
        }
    }
}
