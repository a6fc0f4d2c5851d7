//! `-e`, `--env-file`, `-l`, `--label-file`.

use std::collections::BTreeMap;
use std::io;

use crate::literal::pair;

/// Reads `-e NAME[=VALUE]`: a variable, refused when its name is empty.
pub fn variable(text: &str) -> Result<String, String> {
    if text.starts_with('=') || text.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(text.to_owned())
}

/// Reads `-l NAME[=VALUE]`.
pub fn label(text: &str) -> Result<String, String> {
    if text.starts_with('=') || text.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok(text.to_owned())
}

/// The environment of a container: the files' lines first, then the flags. A name without a value takes it from
/// `own` (our own environment); from a file it is left out if we have none, as a flag it is sent bare, which unsets it.
pub fn environment(
    files: &[String],
    flags: &[String],
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file, "environment")? {
            if line.contains('=') {
                all.push(line);
            } else if let Some(value) = own(&line) {
                all.push(format!("{line}={value}"));
            }
        }
    }
    for flag in flags {
        match own(flag) {
            Some(value) if !flag.contains('=') => all.push(format!("{flag}={value}")),
            _ => all.push(flag.clone()),
        }
    }
    Ok(all)
}

/// Labels: the files' lines first, then the flags; the last value of a name counts.
pub fn labels(files: &[String], flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    for file in files {
        all.extend(lines(file, "label")?.iter().map(|line| pair(line)));
    }
    all.extend(flags.iter().map(|flag| pair(flag)));
    Ok(all)
}

/// The lines of a file that are neither empty nor comments; blanks before a name are dropped.
fn lines(file: &str, kind: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read(file).map_err(|err| open_error(file, &err))?;
    let text = String::from_utf8(text)
        .map_err(|err| format!("{kind} file {file}: invalid UTF-8 after byte {}", err.utf8_error().valid_up_to()))?;
    let mut lines = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("invalid {kind} file ({file}): no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("invalid {kind} file ({file}): variable '{name}' contains whitespaces"));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

/// What opening a file met, in the words Docker's users know.
pub fn open_error(file: &str, err: &io::Error) -> String {
    let why = match err.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => err.to_string(),
    };
    format!("open {file}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("write the temporary file");
        file
    }

    #[test]
    fn files_come_before_flags() {
        let vars = file("A=1\n# c\n\n  B\nHOME\nC=x y\n");
        let path = vars.path().display().to_string();
        let flags = ["A=2".to_owned(), "HOME".to_owned(), "NOSUCH".to_owned()];
        assert_eq!(
            environment(&[path], &flags, &own),
            Ok(["A=1", "HOME=/root", "C=x y", "A=2", "HOME=/root", "NOSUCH"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn files_that_are_refused() {
        for (text, wanted) in
            [("=x\n", "no variable name on line '=x'"), ("a b=c\n", "variable 'a b' contains whitespaces")]
        {
            let vars = file(text);
            let path = vars.path().display().to_string();
            let refusal = environment(std::slice::from_ref(&path), &[], &own).expect_err(text);
            assert_eq!(refusal, format!("invalid environment file ({path}): {wanted}"));
        }
        assert_eq!(
            labels(&["/nonexistent".to_owned()], &[]),
            Err("open /nonexistent: no such file or directory".to_owned())
        );
    }

    #[test]
    fn the_last_label_counts() {
        let map = labels(&[], &["a=1".into(), "b".into(), "a=2".into()]).expect("labels");
        assert_eq!(map["a"], "2");
        assert_eq!(map["b"], "");
        assert_eq!(variable("=x"), Err("invalid environment variable: =x".to_owned()));
        assert_eq!(label("=x"), Err("invalid label '=x': empty name".to_owned()));
    }
}
