//! Flags as Docker's users type them, on top of clap: a switch takes an optional `=false`, a value may begin with
//! a dash, a flag given twice keeps its last value.

use clap::builder::{IntoResettable, ValueParser};
use clap::{Arg, ArgAction, ArgMatches};

use crate::literal;

/// Says that a flag has no one-letter form.
pub const LONG: char = '\0';

/// A flag without a value; `--name=false` switches it off again.
pub fn switch(name: &'static str, short: char, help: &'static str) -> Arg {
    named(name, short, help)
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("bool")
        .hide_possible_values(true)
        .value_parser(literal::boolean)
}

/// A flag with one value of free text; given twice, the last one counts.
pub fn text(name: &'static str, short: char, value: &'static str, help: &'static str) -> Arg {
    valued(name, short, value, help).action(ArgAction::Set)
}

/// A flag that may be repeated, each value of free text.
pub fn list(name: &'static str, short: char, value: &'static str, help: &'static str) -> Arg {
    valued(name, short, value, help).action(ArgAction::Append)
}

/// A flag with one value that `parser` reads.
pub fn parsed(
    name: &'static str,
    short: char,
    value: &'static str,
    help: &'static str,
    parser: impl IntoResettable<ValueParser>,
) -> Arg {
    text(name, short, value, help).value_parser(parser)
}

/// A flag that may be repeated, each value read by `parser`.
pub fn parsed_list(
    name: &'static str,
    short: char,
    value: &'static str,
    help: &'static str,
    parser: impl IntoResettable<ValueParser>,
) -> Arg {
    list(name, short, value, help).value_parser(parser)
}

/// `--filter name=value`, with `-f` unless the command uses that letter for something else.
pub fn filters(short: char) -> Arg {
    parsed_list("filter", short, "filter", "Show only what matches: name=value, may be repeated", literal::filter)
}

/// `--format`, with `-f` where Docker has it.
pub fn format(short: char) -> Arg {
    text("format", short, "string", "How to print: 'table', 'table TEMPLATE', 'json', or a Go template")
}

fn named(name: &'static str, short: char, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).help(help);
    if short == LONG { arg } else { arg.short(short) }
}

fn valued(name: &'static str, short: char, value: &'static str, help: &'static str) -> Arg {
    named(name, short, help).value_name(value).allow_hyphen_values(true)
}

/// Reads flags of a parsed command line. Asking for a flag that the command does not define is a bug here, and panics.
pub trait Flags {
    /// Whether a switch is on.
    fn on(&self, name: &str) -> bool;
    /// The value of a switch, if it was given at all.
    fn given_switch(&self, name: &str) -> Option<bool>;
    /// The text of a flag, if given.
    fn get(&self, name: &str) -> Option<&str>;
    /// The texts of a repeated flag, in order.
    fn all(&self, name: &str) -> Vec<String>;
    /// The parsed value of a flag, if given.
    fn value<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Option<T>;
    /// The parsed values of a repeated flag, in order.
    fn values<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Vec<T>;
}

impl Flags for ArgMatches {
    fn on(&self, name: &str) -> bool {
        self.given_switch(name).unwrap_or(false)
    }

    fn given_switch(&self, name: &str) -> Option<bool> {
        self.get_one::<bool>(name).copied()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.get_one::<String>(name).map(String::as_str)
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.values(name)
    }

    fn value<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Option<T> {
        self.get_one::<T>(name).cloned()
    }

    fn values<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Vec<T> {
        self.get_many::<T>(name).into_iter().flatten().cloned().collect()
    }
}
