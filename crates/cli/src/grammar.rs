//! What a malformed command line is told, in the words and with the exit codes that Docker's users know:
//! 125 for a flag that is unknown, lacks its value or has a bad one; 1 for the wrong number of words.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use crate::commands::{ANY, Leaf};
use crate::literal::quoted;

/// A refusal, ready to print.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage {
    /// What to print.
    pub text: String,
    /// The exit code.
    pub code: u8,
    /// Whether it is an answer rather than a complaint (`--help`).
    pub wanted: bool,
}

/// Explains an error of clap for the command line `args` (without the program's name).
pub fn explain(root: &Command, error: &clap::Error, args: &[OsString]) -> Usage {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (path, command, rest) = locate(root, &args);
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let given = context(ContextKind::InvalidArg).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Usage { text: error.to_string().trim_end().to_owned(), code: 0, wanted: true };
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let usage = if path == "berth" { String::new() } else { format!("\n\nUsage:  {path}") };
            return Usage {
                text: format!(
                    "berth: unknown command: {path} {name}{usage}\n\nRun '{path} --help' for more information"
                ),
                code: 1,
                wanted: false,
            };
        }
        // clap has words for commands without subcommands too; there a stray word is a word too many.
        ErrorKind::UnknownArgument if !given.starts_with('-') => {
            return Usage {
                text: format!("berth: unknown command: {path} {given}\n\nRun '{path} --help' for more information"),
                code: 1,
                wanted: false,
            };
        }
        // Commands that name their words one by one: those of the program itself, such as `berth man DIR`.
        ErrorKind::MissingRequiredArgument => {
            return stray(command, &path, format!("requires {given}"));
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if given.starts_with('<') => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let known = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(known)) if !known.is_empty() => format!(", only {}", known.join(", ")),
                _ => String::new(),
            };
            let takes = if value.is_empty() {
                format!("requires {given}")
            } else {
                format!("does not take '{value}' for {given}{known}")
            };
            return stray(command, &path, takes);
        }
        ErrorKind::UnknownArgument => unknown_flag(command, &given, rest),
        ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument {} for {} flag: {why}", quoted(&value), quoted(&flag_name(command, &given, rest)))
        }
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            needs_argument(command, &given, rest)
        }
        ErrorKind::TooManyValues => format!("{given} takes no value"),
        _ => error.to_string().trim_end().to_owned(),
    };
    Usage {
        text: format!("{what}\n\n{}\n\nRun '{path} --help' for more information", usage_line(command)),
        code: 125,
        wanted: false,
    }
}

/// The refusal of words that a command does not take.
fn stray(command: &Command, path: &str, takes: String) -> Usage {
    Usage {
        text: format!("berth: '{path}' {takes}\n\n{}\n\nRun '{path} --help' for more information", usage_line(command)),
        code: 1,
        wanted: false,
    }
}

/// The refusal for a number of words that a command does not take.
pub fn arity(leaf: &Leaf, path: &str, count: usize) -> Option<Usage> {
    let (min, max) = leaf.arity;
    if (min..=max).contains(&count) {
        return None;
    }
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let (takes, verb) = match (min, max) {
        (0, 0) => ("accepts no arguments".to_owned(), "Run"),
        (min, max) if min == max => (format!("requires {min} argument{}", s(min)), "Run"),
        (min, ANY) => (format!("requires at least {min} argument{}", s(min)), "See"),
        (0, max) => (format!("requires at most {max} argument{}", s(max)), "Run"),
        (min, max) => (format!("requires at least {min} and at most {max} arguments"), "Run"),
    };
    let usage = format!("Usage:  {path} {}", leaf.usage);
    Some(Usage {
        text: format!("berth: '{path}' {takes}\n\n{}\n\n{verb} '{path} --help' for more information", usage.trim_end()),
        code: 1,
        wanted: false,
    })
}

/// The command that `args` mean, its name in full, and what follows it.
fn locate<'c, 'a>(root: &'c Command, args: &'a [String]) -> (String, &'c Command, &'a [String]) {
    let (mut path, mut command, mut rest) = ("berth".to_owned(), root, args);
    let mut index = 0;
    while index < rest.len() {
        let word = &rest[index];
        if word.starts_with('-') {
            // A flag that is unknown here is what the complaint is about.
            if !knows(command, word) {
                break;
            }
            // Only flags of the root with a separate value stand before a command.
            let takes_value =
                matches!(word.as_str(), "-H" | "--host" | "-l" | "--log-level" | "--config" | "-c" | "--context");
            index += if takes_value { 2 } else { 1 };
            continue;
        }
        match command.find_subcommand(word) {
            Some(sub) => {
                path = format!("{path} {}", sub.get_name());
                command = sub;
                rest = &rest[index + 1..];
                index = 0;
                if !command.has_subcommands() {
                    break;
                }
            }
            None => break,
        }
    }
    (path, command, rest)
}

/// Whether a command has all flags that a word names.
fn knows(command: &Command, word: &str) -> bool {
    if word.starts_with("--") {
        return argument(command, word).is_some();
    }
    let mut letters = word.trim_start_matches('-').chars().take_while(|c| *c != '=');
    letters.next().is_none_or(|letter| command.get_arguments().any(|arg| arg.get_short() == Some(letter)))
}

fn usage_line(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.replacen("Usage: ", "Usage:  ", 1)
}

fn unknown_flag(command: &Command, given: &str, rest: &[String]) -> String {
    if given.starts_with("--") {
        let name = given.split('=').next().unwrap_or(given);
        return format!("unknown flag: {name}");
    }
    let letter = given.trim_start_matches('-').chars().next().unwrap_or('-');
    // Several letters in one word: the complaint shows the word from the unknown letter on.
    let letters = rest.iter().filter(|word| word.starts_with('-') && !word.starts_with("--"));
    let found = letters.filter_map(|word| word.find(letter).map(|at| (word, &word[at..]))).next();
    let (word, cluster) = found.map_or((given, given.trim_start_matches('-')), |(word, cluster)| (word, cluster));
    // Docker's first years spelled long flags with one dash.
    let long = argument(command, word).and_then(Arg::get_long);
    let hint = long.map(|long| format!(": did you mean --{long}?")).unwrap_or_default();
    format!("unknown shorthand flag: '{letter}' in -{cluster}{hint}")
}

fn argument<'c>(command: &'c Command, given: &str) -> Option<&'c Arg> {
    let name: String =
        given.trim_start_matches('-').chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(&name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name.as_str()))
    })
}

/// `-m, --memory`, or `--dns` where there is no short form; a second spelling as it was typed.
fn flag_name(command: &Command, given: &str, rest: &[String]) -> String {
    let Some(arg) = argument(command, given) else {
        return given.to_owned();
    };
    let typed = |name: &str| {
        rest.iter().any(|word| word.strip_prefix("--").is_some_and(|word| word.split('=').next() == Some(name)))
    };
    let long = arg.get_long().unwrap_or_default();
    if let Some(alias) = arg.get_all_aliases().unwrap_or_default().into_iter().find(|alias| typed(alias))
        && !typed(long)
    {
        return format!("--{alias}");
    }
    match arg.get_short() {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    }
}

fn needs_argument(command: &Command, given: &str, rest: &[String]) -> String {
    let Some(arg) = argument(command, given) else {
        return format!("flag needs an argument: {given}");
    };
    let last = rest.last().map(String::as_str).unwrap_or_default();
    match arg.get_short() {
        Some(short) if !last.starts_with("--") => format!("flag needs an argument: '{short}' in {last}"),
        _ => format!("flag needs an argument: --{}", arg.get_long().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;

    /// What a command line is told, with its exit code; the first line only.
    fn told(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        let mut root = commands::command();
        let all = std::iter::once(OsString::from("berth")).chain(words.iter().cloned());
        let usage = match root.try_get_matches_from_mut(all) {
            Err(error) => explain(&root, &error, &words),
            Ok(matches) => match crate::chosen(&matches) {
                None => return "fine: nothing".to_owned(),
                Some((path, leaf, m)) => match arity(leaf, &format!("berth {path}"), commands::words(m).len()) {
                    None => return format!("fine: {path}"),
                    Some(usage) => usage,
                },
            },
        };
        format!("{}: {}", usage.code, usage.text.lines().next().unwrap_or_default())
    }

    #[test]
    fn an_unknown_flag_before_a_command_is_the_roots() {
        let words: Vec<OsString> = ["-Z", "run"].map(OsString::from).to_vec();
        let mut root = commands::command();
        let all = std::iter::once(OsString::from("berth")).chain(words.iter().cloned());
        let error = root.try_get_matches_from_mut(all).expect_err("-Z is no flag");
        assert_eq!(
            explain(&root, &error, &words).text,
            "unknown shorthand flag: 'Z' in -Z\n\nUsage:  berth [OPTIONS] COMMAND [ARG...]\n\nRun 'berth --help' for more information"
        );
    }

    #[test]
    fn flags_and_words() {
        for (line, wanted) in [
            ("run --foo x", "125: unknown flag: --foo"),
            ("run --foo=3 x", "125: unknown flag: --foo"),
            ("run -Z x", "125: unknown shorthand flag: 'Z' in -Z"),
            ("run -itZ x", "125: unknown shorthand flag: 'Z' in -Z"),
            ("-mtu 1200", "125: unknown shorthand flag: 'm' in -mtu"),
            ("run -name web x", "125: unknown shorthand flag: 'n' in -name: did you mean --name?"),
            ("run -itname=web x", "125: unknown shorthand flag: 'n' in -name=web"),
            ("run --name", "125: flag needs an argument: --name"),
            ("run -p", "125: flag needs an argument: 'p' in -p"),
            ("ps --foo", "125: unknown flag: --foo"),
            ("foo", "1: berth: unknown command: berth foo"),
            ("container foo", "1: berth: unknown command: berth container foo"),
            (
                "run --rm=maybe x",
                "125: invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("run -m foo x", "125: invalid argument \"foo\" for \"-m, --memory\" flag: invalid size: 'foo'"),
            ("run --memory 1x x", "125: invalid argument \"1x\" for \"-m, --memory\" flag: invalid suffix: 'x'"),
            (
                "run --dns foo x",
                "125: invalid argument \"foo\" for \"--dns\" flag: IP address is not correctly formatted: foo",
            ),
            (
                "run --add-host test x",
                "125: invalid argument \"test\" for \"--add-host\" flag: bad format for add-host: \"test\"",
            ),
            (
                "create --link a:b:c x",
                "125: invalid argument \"a:b:c\" for \"--link\" flag: bad format for links: a:b:c",
            ),
            ("run --net a,b=c x", "125: invalid argument \"a,b=c\" for \"--net\" flag: invalid field a"),
            (
                "run -a foo x",
                "125: invalid argument \"foo\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
            ),
            ("run --ulimit foo x", "125: invalid argument \"foo\" for \"--ulimit\" flag: invalid ulimit argument: foo"),
            (
                "run --mount foo x",
                "125: invalid argument \"foo\" for \"--mount\" flag: invalid field 'foo' must be a key=value pair",
            ),
            (
                "run --cpus foo x",
                "125: invalid argument \"foo\" for \"--cpus\" flag: failed to parse foo as a rational number",
            ),
            (
                "run --stop-timeout x x",
                "125: invalid argument \"x\" for \"--stop-timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "ps --filter foo",
                "125: invalid argument \"foo\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
            ),
            ("run", "1: berth: 'berth run' requires at least 1 argument"),
            ("exec a", "1: berth: 'berth exec' requires at least 2 arguments"),
            ("rename a", "1: berth: 'berth rename' requires 2 arguments"),
            ("ps x", "1: berth: 'berth ps' accepts no arguments"),
            ("logs a b", "1: berth: 'berth logs' requires 1 argument"),
            ("images a b", "1: berth: 'berth images' requires at most 1 argument"),
            ("container rm", "1: berth: 'berth container rm' requires at least 1 argument"),
        ] {
            assert_eq!(told(line), wanted, "{line}");
        }
    }

    #[test]
    fn what_is_well_formed() {
        for (line, wanted) in [
            ("run -it --rm busybox sh -c --foo", "fine: run"),
            ("run -itp 80:80 -e=A=1 --name=x --rm=false busybox", "fine: run"),
            ("run --name a --name b busybox", "fine: run"),
            ("run --memory-swap -1 --pids-limit -1 busybox", "fine: run"),
            ("-H unix:///x -D ps -aq", "fine: ps"),
            ("container ls -a", "fine: container ls"),
            ("container list", "fine: container list"),
            ("top web -ef", "fine: top"),
            ("exec -it web ls -l", "fine: exec"),
            ("stop -t 3 web", "fine: stop"),
            ("container", "fine: nothing"),
            ("", "fine: nothing"),
        ] {
            assert_eq!(told(line), wanted, "{line}");
        }
    }
}
