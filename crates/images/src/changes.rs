//! `--change` of `import` and `commit`: the Dockerfile instructions that only change the configuration.

use serde_json::Value;

use crate::config::RunConfig;
use crate::error::Refusal;

/// Applies instructions such as `CMD ["sh"]` or `ENV A=b` in order.
///
/// # Errors
/// [`Refusal::BadChange`] with the instruction that is not understood.
pub fn apply_changes(config: &mut RunConfig, changes: &[impl AsRef<str>]) -> Result<(), Refusal> {
    for change in changes.iter().map(AsRef::as_ref) {
        let change = change.trim();
        // `docker import --change ""` has always been nothing.
        if !change.is_empty() {
            apply(config, change)?;
        }
    }
    Ok(())
}

fn apply(config: &mut RunConfig, change: &str) -> Result<(), Refusal> {
    let (word, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    let bad = |why: String| Refusal::BadChange(format!("change `{change}`: {why}"));
    if rest.is_empty() && !matches!(word.as_str(), "CMD" | "ENTRYPOINT") && KNOWN.contains(&word.as_str()) {
        return Err(bad(format!("{word} requires at least one argument")));
    }
    match word.as_str() {
        "CMD" => config.cmd = command(rest, config).map_err(bad)?,
        "ENTRYPOINT" => config.entrypoint = command(rest, config).map_err(bad)?,
        "ENV" => {
            for (name, value) in pairs(rest).map_err(bad)? {
                let line = format!("{name}={value}");
                let same = |old: &&mut String| old.split_once('=').map_or(old.as_str(), |(old, _)| old) == name;
                match config.env.iter_mut().find(same) {
                    Some(old) => *old = line,
                    None => config.env.push(line),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs(rest).map_err(bad)?),
        "EXPOSE" => {
            for port in words(rest).map_err(bad)? {
                for port in ports(&port).map_err(bad)? {
                    config.exposed_ports.insert(port, Value::Object(Default::default()));
                }
            }
        }
        "VOLUME" => {
            for volume in list(rest).map_err(bad)? {
                if volume.trim().is_empty() {
                    return Err(bad("VOLUME specified can not be an empty string".to_owned()));
                }
                config.volumes.insert(volume, Value::Object(Default::default()));
            }
        }
        "USER" => config.user = single(rest).map_err(bad)?,
        "WORKDIR" => {
            let dir = single(rest).map_err(bad)?;
            config.working_dir = absolute(&config.working_dir, &dir);
        }
        "STOPSIGNAL" => config.stop_signal = Some(single(rest).map_err(bad)?),
        "ONBUILD" | "HEALTHCHECK" | "SHELL" => {
            return Err(bad(format!("{word} is not supported here; supported are {}", KNOWN.join(" "))));
        }
        "FROM" | "RUN" | "COPY" | "ADD" | "ARG" | "MAINTAINER" => {
            return Err(bad(format!("{word} is not a valid change command; valid are {}", KNOWN.join(" "))));
        }
        _ => return Err(bad(format!("unknown instruction: {word}; valid are {}", KNOWN.join(" ")))),
    }
    Ok(())
}

const KNOWN: [&str; 9] = ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

/// The JSON form is taken as it is; anything else is a line for the shell.
fn command(rest: &str, config: &RunConfig) -> Result<Option<Vec<String>>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    if let Ok(list) = serde_json::from_str(rest) {
        return Ok(Some(list));
    }
    let mut shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    shell.push(rest.to_owned());
    Ok(Some(shell))
}

fn list(rest: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(rest).or_else(|_| words(rest))
}

fn single(rest: &str) -> Result<String, String> {
    match &words(rest)?[..] {
        [word] => Ok(word.clone()),
        _ => Err("exactly one argument is expected".to_owned()),
    }
}

/// `name=value …`, or the old form `name value with spaces`.
fn pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let first = rest.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            return Err(format!("`{rest}` is not of the form name=value"));
        };
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words(rest)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err("names can not be blank".to_owned()),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("`{word}` is not of the form name=value")),
        })
        .collect()
}

/// Splits at blanks outside quotes; backslash takes the next character as it is, except in single quotes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().push(chars.next().unwrap_or('\\'));
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("invalid containerPort: {text}");
    let (range, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let proto = proto.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&proto.as_str()) {
        return Err(format!("invalid proto: {proto} (of {text}); known are tcp, udp and sctp"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first == 0 || first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{proto}")).collect())
}

/// A working directory relative to the one in force, without `.` and `..`.
fn absolute(current: &str, dir: &str) -> String {
    let whole = if dir.starts_with('/') { dir.to_owned() } else { format!("{current}/{dir}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> RunConfig {
        let mut config = RunConfig::default();
        apply_changes(&mut config, changes).unwrap_or_else(|error| panic!("{changes:?}: {error}"));
        config
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = applied(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint echo $HOME",
            "ENV A=1 B=\"two words\" C='x'\\ y",
            "ENV A 3 and more",
            "EXPOSE 80 53/udp 8000-8002",
            "LABEL a=b \"c d\"=e",
            "USER 1000:1000",
            "WORKDIR /srv",
            "WORKDIR app/../data",
            "VOLUME [\"/a\", \"/b\"]",
            "VOLUME /c /d",
            "STOPSIGNAL SIGINT",
            "",
        ]);
        assert_eq!(config.cmd, Some(vec!["a".to_owned(), "b c".to_owned()]));
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(config.env, ["A=3 and more", "B=two words", "C=x y"]);
        let ports: Vec<&String> = config.exposed_ports.keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(config.labels["c d"], "e");
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/srv/data"));
        assert_eq!(config.volumes.len(), 4);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(applied(&["CMD x", "CMD"]).cmd, None);
    }

    #[test]
    fn wrong_instructions_are_refused_by_name() {
        let cases = [
            ("FOO bar", "unknown instruction: FOO"),
            ("RUN true", "RUN is not a valid change command"),
            ("ONBUILD RUN true", "ONBUILD is not supported here"),
            ("HEALTHCHECK NONE", "HEALTHCHECK is not supported here"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV lonely", "`lonely` is not of the form name=value"),
            ("ENV =x", "names can not be blank"),
            ("LABEL a=\"b", "a quote is not closed"),
            ("EXPOSE http", "invalid containerPort: http"),
            ("EXPOSE 90-80", "invalid containerPort: 90-80"),
            ("EXPOSE 80/xyz", "invalid proto: xyz"),
            ("EXPOSE 70000", "invalid containerPort: 70000"),
            ("USER a b", "exactly one argument"),
            ("VOLUME [\"\"]", "can not be an empty string"),
        ];
        for (change, expected) in cases {
            let error = apply_changes(&mut RunConfig::default(), &[change]).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(change), "{change}: {error}");
        }
    }
}
