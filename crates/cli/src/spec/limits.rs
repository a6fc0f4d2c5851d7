//! `--ulimit`, `--restart`, `--sysctl` and the checks that need no engine.

use serde_json::{Value, json};

/// The names of resource limits that a container can set.
const ULIMITS: [&str; 16] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
    "as",
];

/// `NAME=SOFT[:HARD]`, -1 for no limit.
pub fn ulimit(text: &str) -> Result<Value, String> {
    let refused = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(refused)?;
    if !ULIMITS.contains(&name) || name == "as" {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    if hard.contains(':') {
        return Err(format!("too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"));
    }
    let soft = crate::literal::int(soft)?;
    let hard = crate::literal::int(hard)?;
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// `no`, `always`, `unless-stopped`, `on-failure[:MAX]`.
pub fn restart_policy(text: &str) -> Result<Value, String> {
    let (name, count) = match text.split_once(':') {
        None => (text, 0),
        Some(("", _)) => {
            return Err("invalid restart policy format: no policy provided before colon".to_owned());
        }
        Some((name, count)) => {
            let count: i64 = count
                .parse()
                .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?;
            (name, count)
        }
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

/// `KEY=VALUE` of a sysctl that belongs to a namespace.
pub fn sysctl(text: &str) -> Result<(String, String), String> {
    const ALONE: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let refused = || format!("sysctl '{text}' is not allowed");
    let (key, value) = text.split_once('=').ok_or_else(refused)?;
    if ALONE.contains(&key) || key.starts_with("net.") || key.starts_with("fs.mqueue.") {
        Ok((key.to_owned(), value.to_owned()))
    } else {
        Err(refused())
    }
}

/// `stdin`, `stdout` or `stderr`.
pub fn stream(text: &str) -> Result<String, String> {
    let name = text.to_lowercase();
    match name.as_str() {
        "stdin" | "stdout" | "stderr" => Ok(name),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// A capability as the API wants it: upper case with `CAP_` before it; `ALL` stays.
pub fn capability(text: &str) -> String {
    let name = text.trim().to_uppercase();
    if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// `--security-opt`: a profile of seccomp is read here and sent as text, because the engine may see other files.
pub fn security_opt(text: &str) -> Result<String, String> {
    let refused = || format!("Invalid --security-opt: \"{text}\"");
    let (name, value) = match text.find(['=', ':']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None if matches!(text, "no-new-privileges" | "writable-cgroups") => return Ok(text.to_owned()),
        None => return Err(refused()),
    };
    if name == "seccomp" && !matches!(value, "unconfined" | "builtin") {
        let profile = std::fs::read_to_string(value).map_err(|err| {
            format!("opening seccomp profile ({value}) failed: {}", crate::spec::envs::open_error(value, &err))
        })?;
        let profile: Value = serde_json::from_str(&profile)
            .map_err(|err| format!("compacting json for seccomp profile ({value}) failed: {err}"))?;
        return Ok(format!("seccomp={profile}"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        for (text, wanted) in [
            ("nofile=1:2", r#"{"Hard":2,"Name":"nofile","Soft":1}"#),
            ("core=-1", r#"{"Hard":-1,"Name":"core","Soft":-1}"#),
            ("nproc=5", r#"{"Hard":5,"Name":"nproc","Soft":5}"#),
            ("foo", "invalid ulimit argument: foo"),
            ("foo=1", "invalid ulimit type: foo"),
            ("nofile=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("nofile=5:2", "ulimit soft limit must be less than or equal to hard limit: 5 > 2"),
        ] {
            let got = ulimit(text).map_or_else(|why| why, |limit| limit.to_string());
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    #[test]
    fn restart_policies() {
        for (text, wanted) in [
            ("no", r#"{"MaximumRetryCount":0,"Name":"no"}"#),
            ("on-failure:3", r#"{"MaximumRetryCount":3,"Name":"on-failure"}"#),
            ("on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
            (":3", "invalid restart policy format: no policy provided before colon"),
        ] {
            let got = restart_policy(text).map_or_else(|why| why, |policy| policy.to_string());
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    #[test]
    fn sysctls_streams_capabilities_and_security() {
        assert!(sysctl("net.ipv4.ip_forward=1").is_ok());
        assert_eq!(sysctl("foo"), Err("sysctl 'foo' is not allowed".to_owned()));
        assert_eq!(sysctl("vm.swappiness=1"), Err("sysctl 'vm.swappiness=1' is not allowed".to_owned()));
        assert_eq!(stream("STDOUT"), Ok("stdout".to_owned()));
        assert_eq!(stream("foo"), Err("valid streams are STDIN, STDOUT and STDERR".to_owned()));
        assert_eq!(capability("net_admin"), "CAP_NET_ADMIN");
        assert_eq!(capability("all"), "ALL");
        assert_eq!(security_opt("no-new-privileges"), Ok("no-new-privileges".to_owned()));
        assert_eq!(security_opt("seccomp=unconfined"), Ok("seccomp=unconfined".to_owned()));
        assert_eq!(security_opt("foo"), Err("Invalid --security-opt: \"foo\"".to_owned()));
        assert_eq!(
            security_opt("seccomp=/nonexistent"),
            Err("opening seccomp profile (/nonexistent) failed: open /nonexistent: no such file or directory"
                .to_owned())
        );
    }
}
