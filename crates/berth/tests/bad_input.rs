//! Bad input gets the right code or status and a text that names the value, and leaves nothing behind.

use lab::residue;

/// Words for the command line, the exit code, and what standard error must say.
const COMMAND_LINES: &[(&[&str], i32, &str)] = &[
    (&["run", "--dns", "foo", "busybox"], 125, "IP address is not correctly formatted: foo"),
    (&["run", "--dns-search", "-bad-", "busybox"], 125, "-bad- is not a valid domain"),
    (&["run", "--add-host", "test:foo", "busybox"], 125, "invalid IP address in add-host: \"foo\""),
    (&["run", "--add-host", "test", "busybox"], 125, "bad format for add-host: \"test\""),
    (&["run", "-p", "70000:80", "busybox"], 125, "invalid hostPort: 70000"),
    (&["run", "-p", "80:abc", "busybox"], 125, "invalid containerPort: abc"),
    (&["run", "-p", "80:80/foo", "busybox"], 125, "invalid proto: foo"),
    (&["run", "-p", "1.2.3.999:80:80", "busybox"], 125, "invalid IP address: 1.2.3.999"),
    (&["run", "-p", "9090-9089:80", "busybox"], 125, "9090-9089"),
    (
        &["run", "-p", "90-93:80-82", "busybox"],
        125,
        "invalid ranges specified for container and host Ports: 80-82 and 90-93",
    ),
    (&["run", "--expose", "abc", "busybox"], 125, "abc"),
    (&["run", "--link", "a:b:c", "busybox"], 125, "bad format for links: a:b:c"),
    (&["run", "--ip", "foo", "busybox"], 125, "foo"),
    (&["run", "--mac-address", "zz", "busybox"], 125, "zz is not a valid mac address"),
    (&["run", "-m", "2x", "busybox"], 125, "2x"),
    (&["run", "-m", "1m", "busybox"], 125, "Minimum memory limit allowed is 6MB"),
    (&["run", "--cpus", "many", "busybox"], 125, "many"),
    (&["run", "--ulimit", "nofile=x", "busybox"], 125, "nofile=x"),
    (&["run", "--ulimit", "nosuch=1", "busybox"], 125, "nosuch"),
    (&["run", "--restart", "sometimes", "busybox"], 125, "sometimes"),
    (&["run", "--restart", "always", "--rm", "busybox"], 125, "--rm"),
    (&["run", "--name", "we b", "busybox"], 125, "Invalid container name (we b)"),
    (
        &["run", "--hostname", "a", "--net", "container:x", "busybox"],
        125,
        "conflicting options: hostname and the network mode",
    ),
    (&["run", "--net", "container:", "busybox"], 125, "invalid container format container:<name|id>"),
    (&["run", "--net", "nosuchnet", "busybox"], 125, "network nosuchnet not found"),
    (
        &["run", "-p", "80:80", "--net", "container:x", "busybox"],
        125,
        "conflicting options: port publishing and the container type network mode",
    ),
    (
        &["run", "--dns", "1.1.1.1", "--net", "container:x", "busybox"],
        125,
        "conflicting options: dns and the network mode",
    ),
    (&["run", "--cap-add", "NOSUCH", "busybox"], 125, "NOSUCH"),
    (&["run", "--security-opt", "nosuch=1", "busybox"], 125, "nosuch"),
    (&["run", "--security-opt", "seccomp=/nosuch/file", "busybox"], 125, "/nosuch/file"),
    (&["run", "--sysctl", "kernel.panic=1", "busybox"], 125, "kernel.panic"),
    (&["run", "-v", "relative/path:/x:bad", "busybox"], 125, "bad"),
    (&["run", "-v", "/a:relative", "busybox"], 125, "relative"),
    (&["run", "--mount", "type=bind,source=/nosuch/source,target=/x", "busybox"], 125, "/nosuch/source"),
    (&["run", "--mount", "type=nosuch,target=/x", "busybox"], 125, "nosuch"),
    (&["run", "--tmpfs", "relative", "busybox"], 125, "relative"),
    (&["run", "--device", "/dev/nosuch", "busybox"], 127, "/dev/nosuch"),
    (&["run", "--stop-signal", "SIGNOSUCH", "busybox"], 125, "SIGNOSUCH"),
    (&["run", "-w", "relative", "busybox"], 125, "relative"),
    (&["run", "--runtime", "nosuch", "busybox"], 125, "nosuch"),
    (&["run", "--log-driver", "nosuch", "busybox"], 125, "nosuch"),
    (&["run", "--pids-limit", "x", "busybox"], 125, "x"),
    (&["run", "-e", "", "busybox"], 125, "invalid environment variable"),
    (&["run", "--env-file", "/nosuch/env", "busybox"], 125, "/nosuch/env"),
    (&["run", "--nosuch", "busybox"], 125, "--nosuch"),
    (&["run"], 1, "run"),
    (&["run", "Upper"], 125, "must be lowercase"),
    (&["run", "a//b"], 125, "invalid reference format"),
    (&["start", "nosuch"], 1, "No such container: nosuch"),
    (&["stop", "nosuch"], 1, "No such container: nosuch"),
    (&["rm", "nosuch"], 1, "No such container: nosuch"),
    (&["logs", "nosuch"], 1, "No such container: nosuch"),
    (&["port", "nosuch"], 1, "No such container: nosuch"),
    (&["inspect", "nosuch"], 1, "nosuch"),
    (&["tag", "nosuch", "x"], 1, "No such image: nosuch"),
    (&["tag", "busybox", "UPPER"], 1, "UPPER"),
    (&["rmi", "nosuch"], 1, "No such image: nosuch"),
    (&["save", "nosuch"], 1, "nosuch"),
    (&["pull", "localhost:1/x"], 1, "localhost:1"),
    (&["pull", "192.0.2.9:5000/x"], 1, "192.0.2.9:5000"),
    (&["load", "-i", "/nosuch/file"], 1, "/nosuch/file"),
    (&["import", "/nosuch/file"], 1, "/nosuch/file"),
    (&["nosuchcommand"], 1, "nosuchcommand"),
];

/// Method, path, body, status, and what the message must say.
const REQUESTS: &[(&str, &str, &str, u16, &str)] = &[
    ("GET", "/v9.99/containers/json", "", 400, "client version 9.99 is too new"),
    ("GET", "/v1.10/containers/json", "", 400, "client version 1.10 is too old"),
    ("GET", "/v1.41/nosuch", "", 404, "page not found"),
    ("POST", "/v1.41/containers/create", "", 400, ""),
    ("POST", "/v1.41/containers/create", "{", 400, ""),
    ("POST", "/v1.41/containers/create", "[]", 400, ""),
    ("POST", "/v1.41/containers/create", "{\"Image\":7}", 400, ""),
    ("POST", "/v1.41/containers/create", "{\"Image\":\"nosuch\"}", 404, "No such image: nosuch"),
    ("POST", "/v1.41/containers/create?name=a%20b", "{\"Image\":\"busybox\"}", 400, "a b"),
    ("POST", "/v1.41/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":-5}}", 400, ""),
    (
        "POST",
        "/v1.41/containers/create",
        "{\"Image\":\"busybox\",\"HostConfig\":{\"PortBindings\":{\"80/foo\":[]}}}",
        400,
        "invalid proto: foo",
    ),
    ("POST", "/v1.41/containers/create", "{\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"x\"]}}", 400, "x"),
    (
        "POST",
        "/v1.41/containers/create",
        "{\"Image\":\"busybox\",\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"odd\"}}}",
        400,
        "odd",
    ),
    ("POST", "/v1.41/containers/nosuch/start", "", 404, "No such container: nosuch"),
    ("POST", "/v1.41/containers/nosuch/kill?signal=9", "", 404, "No such container: nosuch"),
    ("POST", "/v1.41/containers/nosuch/wait", "", 404, "No such container: nosuch"),
    ("DELETE", "/v1.41/containers/nosuch", "", 404, "No such container: nosuch"),
    ("GET", "/v1.41/containers/nosuch/json", "", 404, "No such container: nosuch"),
    ("GET", "/v1.41/containers/json?filters=nojson", "", 400, ""),
    ("GET", "/v1.41/containers/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D", "", 400, "nosuch"),
    ("GET", "/v1.41/containers/json?limit=x", "", 400, "x"),
    ("POST", "/v1.41/exec/nosuch/start", "{}", 404, "No such exec instance: nosuch"),
    ("GET", "/v1.41/exec/nosuch/json", "", 404, "No such exec instance: nosuch"),
    ("GET", "/v1.41/images/nosuch/json", "", 404, "No such image: nosuch"),
    ("DELETE", "/v1.41/images/nosuch", "", 404, "No such image: nosuch"),
    ("GET", "/v1.41/volumes/nosuch", "", 404, "nosuch"),
    ("POST", "/v1.41/volumes/create", "{\"Name\":\"../x\"}", 400, "../x"),
    ("GET", "/v1.41/networks/nosuch", "", 404, "network nosuch not found"),
    ("GET", "/v1.41/swarm", "", 503, "swarm"),
    ("GET", "/v1.41/services", "", 503, "swarm"),
    ("POST", "/v1.41/build", "", 501, "build"),
    ("GET", "/v1.41/events?since=abc", "", 400, "abc"),
];

#[test]
fn every_bad_input_is_refused_by_name_and_leaves_nothing() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let before = residue::listing(&engine);
        let mut wrong = Vec::new();
        for (words, code, says) in COMMAND_LINES {
            let out = engine.berth(words);
            if out.code != *code || !out.stderr.contains(says) {
                wrong.push(format!("{words:?}: wanted {code} and {says:?}, got {out:?}"));
            }
        }
        for (method, path, body, status, says) in REQUESTS {
            let (got, text) = engine.http(method, path, body);
            let message = serde_json::from_str::<serde_json::Value>(&text).ok();
            let message = message.as_ref().and_then(|m| m["message"].as_str()).map(str::to_owned);
            if got != *status
                || !message.as_deref().is_some_and(|message| !message.is_empty() && message.contains(says))
            {
                wrong.push(format!("{method} {path} {body}: wanted {status} and {says:?}, got {got} {text:?}"));
            }
        }
        assert!(COMMAND_LINES.len() + REQUESTS.len() >= 60);
        // A run that fails at its start leaves its container behind, as with Docker; nothing else may be there.
        let left = engine.ok(&["ps", "-aq"]);
        for id in left.split_whitespace() {
            engine.ok(&["rm", "-v", id]);
        }
        residue::assert_same(&engine, &before);
        assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    });
}

#[test]
fn archives_that_are_none_are_refused() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        let before = residue::listing(&engine);
        for (name, bytes) in [
            ("empty", &b""[..]),
            ("text", b"this is no archive"),
            ("zeros", &[0u8; 20480]),
            ("gzip", b"\x1f\x8b\x08\x00junk"),
        ] {
            let file = lab.dir().join(name);
            std::fs::write(&file, bytes).unwrap();
            let out = engine.berth(&["load", "-i", file.to_str().unwrap()]);
            assert_ne!(out.code, 0, "{name}: {out:?}");
            assert!(!out.stderr.trim().is_empty(), "{name}: no word of why");
        }
        assert_eq!(engine.ok(&["images", "-q"]), "");
        residue::assert_same(&engine, &before);
    });
}
