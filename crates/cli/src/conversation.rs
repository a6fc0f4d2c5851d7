//! Whole commands against a small engine of words: which requests they send, in which order, and the exit code that
//! comes of the answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::failure::Failure;

/// An answer of the engine of words.
enum Reply {
    /// A status and a body.
    Json(u16, Value),
    /// The connection handed over, these bytes, and the end.
    Stream(Vec<u8>),
}

type Script = fn(&str, usize) -> Reply;

/// Serves one connection: answers each request as the script says, given the request line and how often it came.
fn serve(stream: UnixStream, script: Script, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        let request = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let count = {
            let mut log = log.lock().expect("the log");
            log.push(request.clone());
            log.iter().filter(|known| **known == request).count()
        };
        match script(&request, count) {
            Reply::Json(status, body) => {
                let body = if body.is_null() { String::new() } else { body.to_string() };
                write!(writer, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            }
            Reply::Stream(bytes) => {
                write!(writer, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
                writer.write_all(&bytes)?;
                return Ok(());
            }
        }
    }
}

/// Runs a command line against a script: its exit code with the text of a failure, and the requests in order.
fn converse(line: &str, script: Script) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&seen);
            // A client that goes away in the middle is a part of some scripts.
            std::thread::spawn(move || drop(serve(stream, script, &log)));
        }
    });
    let host = format!("unix://{}", path.display());
    let words = ["berth", "-H", &host].into_iter().chain(line.split(' '));
    let matches = crate::command().try_get_matches_from(words).expect("a good command line");
    let outcome = match crate::act(&matches) {
        Ok(code) => code.to_string(),
        Err(failure) => match (failure.code(), failure.to_string()) {
            (code, text) if text.is_empty() => code.to_string(),
            (code, text) => format!("{code}: {}", text.lines().next().unwrap_or_default()),
        },
    };
    let requests = log.lock().expect("the log").clone();
    (outcome, requests)
}

/// A container that ends with 7.
fn good(request: &str, _: usize) -> Reply {
    match request {
        r if r.starts_with("POST /containers/create") => Reply::Json(201, json!({"Id": "c1"})),
        r if r.contains("/attach") => Reply::Stream(Vec::new()),
        r if r.contains("/wait") => Reply::Json(200, json!({"StatusCode": 7})),
        r if r.contains("/start") => Reply::Json(204, Value::Null),
        _ => Reply::Json(404, json!({"message": format!("what is {request}?")})),
    }
}

#[test]
fn run_asks_four_things_and_starts_last() {
    let (outcome, mut requests) = converse("run --rm busybox true", good);
    assert_eq!(outcome, "7");
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert_eq!(requests[0], "POST /containers/create");
    assert_eq!(requests[3], "POST /containers/c1/start");
    requests[1..3].sort();
    assert_eq!(
        requests[1..3],
        ["POST /containers/c1/attach?stream=1&stdout=1&stderr=1", "POST /containers/c1/wait?condition=removed"]
    );
}

#[test]
fn run_detached_neither_attaches_nor_waits() {
    let (outcome, requests) = converse("run -d --name web --platform linux/amd64 busybox", good);
    assert_eq!(outcome, "0");
    assert_eq!(requests, ["POST /containers/create?name=web&platform=linux%2Famd64", "POST /containers/c1/start"]);
}

#[test]
fn a_missing_image_is_pulled_once() {
    fn script(request: &str, count: usize) -> Reply {
        match request {
            "POST /containers/create" if count == 1 => {
                Reply::Json(404, json!({"message": "No such image: busybox:latest"}))
            }
            r if r.starts_with("POST /images/create") => Reply::Json(200, json!({"status": "Digest: sha256:x"})),
            _ => good(request, count),
        }
    }
    let (outcome, requests) = converse("run -d busybox", script);
    assert_eq!(outcome, "0");
    assert_eq!(
        requests,
        [
            "POST /containers/create",
            "POST /images/create?fromImage=docker.io%2Flibrary%2Fbusybox&tag=latest",
            "POST /containers/create",
            "POST /containers/c1/start"
        ]
    );
    let (outcome, requests) = converse("run -d --pull never busybox", script);
    assert_eq!(outcome, "125: berth: Error response from daemon: No such image: busybox:latest");
    assert_eq!(requests.len(), 1);
}

#[test]
fn a_pull_that_fails_in_the_middle_is_told() {
    fn script(request: &str, count: usize) -> Reply {
        match request {
            "POST /containers/create" => Reply::Json(404, json!({"message": "No such image: busybox:latest"})),
            r if r.starts_with("POST /images/create") => {
                Reply::Json(200, json!({"errorDetail": {"message": "the digest is wrong"}, "error": "x"}))
            }
            _ => good(request, count),
        }
    }
    let (outcome, _) = converse("run busybox", script);
    assert_eq!(outcome, "125: berth: the digest is wrong");
}

#[test]
fn exit_codes_of_what_cannot_start() {
    fn script(request: &str, count: usize) -> Reply {
        let refused = |message: &str| Reply::Json(400, json!({"message": message}));
        match request {
            "POST /containers/create?name=missing" => Reply::Json(201, json!({"Id": "missing"})),
            "POST /containers/create?name=plain" => Reply::Json(201, json!({"Id": "plain"})),
            "POST /containers/create?name=net" => Reply::Json(201, json!({"Id": "net"})),
            "POST /containers/create?name=taken" => Reply::Json(409, json!({"message": "Conflict. taken"})),
            "POST /containers/missing/start" => refused(r#"exec: "x": executable file not found in $PATH"#),
            "POST /containers/plain/start" => refused("exec /x: permission denied"),
            "POST /containers/net/start" => refused("network n not found"),
            _ => good(request, count),
        }
    }
    for (line, wanted) in [
        (
            "run --name missing busybox x",
            "127: berth: Error response from daemon: exec: \"x\": executable file not found in $PATH",
        ),
        ("run -d --name plain busybox x", "126: berth: Error response from daemon: exec /x: permission denied"),
        ("run --rm --name net busybox", "125: berth: Error response from daemon: network n not found"),
        ("run --name taken busybox", "125: berth: Error response from daemon: Conflict. taken"),
        ("create --name taken busybox", "1: Error response from daemon: Conflict. taken"),
        ("start missing", "1: Error: failed to start containers: missing"),
        ("start c1 missing plain", "1: Error: failed to start containers: missing, plain"),
    ] {
        assert_eq!(converse(line, script).0, wanted, "{line}");
    }
}

#[test]
fn attach_and_start_follow_the_container() {
    fn script(request: &str, count: usize) -> Reply {
        match request {
            "GET /containers/web/json" => Reply::Json(
                200,
                json!({"Id": "w1", "Config": {"Tty": false, "OpenStdin": false}, "State": {"Running": true}}),
            ),
            "GET /containers/dead/json" => Reply::Json(200, json!({"Id": "d1", "State": {"Running": false}})),
            _ => good(request, count),
        }
    }
    assert_eq!(converse("attach web", script).0, "7");
    assert_eq!(converse("start -a web", script).0, "7");
    assert_eq!(converse("attach dead", script).0, "1: cannot attach to a stopped container, start it first");
    assert_eq!(converse("start -a web dead", script).0, "1: you cannot start and attach multiple containers at once");
}

#[test]
fn exec_ends_with_the_commands_code() {
    fn script(request: &str, _: usize) -> Reply {
        match request {
            "POST /containers/web/exec" => Reply::Json(201, json!({"Id": "e1"})),
            "POST /containers/bad/exec" => Reply::Json(201, json!({"Id": "e2"})),
            "POST /exec/e1/start" => Reply::Stream(Vec::new()),
            "POST /exec/e2/start" => Reply::Json(400, json!({"message": "x: executable file not found in $PATH"})),
            "GET /exec/e1/json" => Reply::Json(200, json!({"ExitCode": 3})),
            _ => Reply::Json(404, json!({"message": "No such container: gone"})),
        }
    }
    assert_eq!(converse("exec web ls", script).0, "3");
    assert_eq!(
        converse("exec bad x", script).0,
        "127: Error response from daemon: x: executable file not found in $PATH"
    );
    assert_eq!(converse("exec gone ls", script).0, "1: Error response from daemon: No such container: gone");
}

#[test]
fn a_wait_that_goes_wrong_is_125() {
    fn script(request: &str, count: usize) -> Reply {
        if request.contains("/wait") {
            return Reply::Json(200, json!({"StatusCode": 0, "Error": {"Message": "the container is lost"}}));
        }
        good(request, count)
    }
    assert_eq!(converse("run busybox", script).0, "125: error waiting for container: the container is lost");
}

#[test]
fn several_names_are_done_one_after_another_whatever_fails() {
    fn script(request: &str, _: usize) -> Reply {
        match request {
            r if r.contains("bad") => Reply::Json(404, json!({"message": "No such container: bad"})),
            _ => Reply::Json(204, Value::Null),
        }
    }
    for (line, wanted) in [("stop -t 3 a bad b", "1"), ("rm a bad", "1"), ("rm -f a bad", "0"), ("kill -s HUP a", "0")]
    {
        assert_eq!(converse(line, script).0, wanted, "{line}");
    }
    assert_eq!(
        converse("stop -t 3 -s INT a bad", script).1,
        ["POST /containers/a/stop?signal=INT&t=3", "POST /containers/bad/stop?signal=INT&t=3"]
    );
}

#[test]
fn inspect_looks_for_every_kind() {
    fn script(request: &str, _: usize) -> Reply {
        match request {
            "GET /networks/net" => Reply::Json(200, json!({"Name": "net"})),
            "GET /networks/x" => Reply::Json(501, json!({"message": "networks cannot be inspected yet"})),
            _ => Reply::Json(404, json!({"message": "no"})),
        }
    }
    let (outcome, requests) = converse("inspect net", script);
    assert_eq!(outcome, "0");
    assert_eq!(requests, ["GET /v1.51/containers/net/json", "GET /images/net/json", "GET /networks/net"]);
    assert_eq!(converse("inspect x", script).0, "1: Error: No such object: x");
    assert_eq!(converse("container inspect x", script).0, "1: Error response from daemon: no");
}

#[test]
fn an_engine_that_is_not_there() {
    let matches = crate::command()
        .try_get_matches_from(["berth", "-H", "unix:///nonexistent", "ps"])
        .expect("a good command line");
    let failure = crate::act(&matches).expect_err("nobody listens");
    assert!(matches!(failure, Failure::Unreachable { .. }));
    assert_eq!(
        failure.to_string(),
        "Cannot connect to the berth daemon at unix:///nonexistent. Is the berth daemon running?"
    );
}
