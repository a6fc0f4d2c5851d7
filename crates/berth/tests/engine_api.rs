//! The Engine API as clients other than our own and Docker's see it: headers, streams, orders of events, shapes by version.

use lab::{Engine, Lab};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn engine(lab: &Lab) -> Engine {
    let engine = lab.engine(&[]);
    engine.load_busybox();
    engine
}

/// Makes a container of busybox with these fields, and tells its id.
#[track_caller]
fn create(engine: &Engine, fields: Value) -> String {
    let mut body = json!({"Image": "busybox"});
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    let (status, text) = engine.http("POST", "/v1.44/containers/create", &body.to_string());
    assert_eq!(status, 201, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["Id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn post(engine: &Engine, path: &str, status: u16) -> String {
    let (got, text) = engine.http("POST", path, "");
    assert_eq!(got, status, "POST {path}: {text}");
    text
}

/// A request whose connection stays open: what of the answer follows its head is not read yet.
struct Open {
    head: String,
    stream: UnixStream,
}

#[track_caller]
fn open(engine: &Engine, method: &str, path: &str, upgrade: bool, body: &str) -> Open {
    let mut stream = engine.dial();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let upgrade = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: berth\r\n{upgrade}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    Open { head: String::from_utf8(head).unwrap().to_lowercase(), stream }
}

/// Frames until the end: which stream, and what came over it.
fn frames(stream: &mut UnixStream) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    let mut header = [0; 8];
    while stream.read_exact(&mut header).is_ok() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut text = vec![0; length as usize];
        stream.read_exact(&mut text).unwrap();
        frames.push((header[0], String::from_utf8(text).unwrap()));
    }
    frames
}

/// The lines of a chunked answer until one fits.
fn lines_until(open: &mut Open, mut last: impl FnMut(&Value) -> bool) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut text = Vec::new();
    loop {
        let mut byte = [0];
        open.stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
        if byte[0] == b'\n' {
            // What is no JSON object are the lengths of chunks.
            if let Ok(value @ Value::Object(_)) = serde_json::from_slice(&text) {
                lines.push(value);
                if last(&lines[lines.len() - 1]) {
                    return lines;
                }
            }
            text.clear();
        }
    }
}

#[test]
fn the_door_says_who_answers() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        for (method, path) in [("GET", "/_ping"), ("HEAD", "/_ping"), ("GET", "/v1.24/_ping"), ("GET", "/v1.53/_ping")]
        {
            let answer = engine.http_as(method, path, "", b"");
            assert_eq!(answer.status, 200, "{method} {path}");
            assert_eq!(answer.header("api-version"), Some("1.53"));
            assert_eq!(answer.header("ostype"), Some("linux"));
            assert_eq!(answer.header("docker-experimental"), Some("false"));
            assert!(answer.header("server").is_some_and(|server| server.starts_with("berth/")));
            assert_eq!(answer.body, if method == "HEAD" { &b""[..] } else { b"OK" });
        }
        let version = engine.json("/version");
        assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.53"), &json!("1.24")));
        let (status, text) = engine.http("GET", "/v1.54/_ping", "");
        assert_eq!(status, 400);
        assert!(text.contains("client version 1.54 is too new. Maximum supported API version is 1.53"), "{text}");
        let answer = engine.http_as("POST", "/containers/create", "text/plain", b"{}");
        assert_eq!(answer.status, 400);
        assert!(String::from_utf8_lossy(&answer.body).contains("must be 'application/json'"));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(engine.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    });
}

#[test]
fn an_attach_before_the_start_misses_nothing_and_closes_each_way_by_itself() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let script = "cat; echo done >&2";
        let id = create(&engine, json!({"Cmd": ["sh", "-c", script], "OpenStdin": true, "StdinOnce": true}));
        let path = format!("/v1.44/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        // The body must not become the container's first input.
        let mut attached = open(&engine, "POST", &path, true, "{\"not\":\"input\"}");
        assert!(attached.head.starts_with("http/1.1 101 "), "{}", attached.head);
        assert!(
            attached.head.contains("content-type: application/vnd.docker.multiplexed-stream\r\n"),
            "{}",
            attached.head
        );
        let asked = Instant::now();
        let mut waiting = open(&engine, "POST", &format!("/containers/{id}/wait?condition=next-exit"), false, "");
        assert!(waiting.head.starts_with("http/1.1 200 ") && asked.elapsed() < Duration::from_secs(2));
        post(&engine, &format!("/containers/{id}/start"), 204);
        attached.stream.write_all(b"typed\n").unwrap();
        attached.stream.shutdown(Shutdown::Write).unwrap();
        let said = frames(&mut attached.stream);
        let of =
            |stream: u8| said.iter().filter(|(of, _)| *of == stream).map(|(_, text)| text.as_str()).collect::<String>();
        assert_eq!((of(1).as_str(), of(2).as_str()), ("typed\n", "done\n"));
        let ended = lines_until(&mut waiting, |_| true);
        assert_eq!(ended[0], json!({"StatusCode": 0}));
        let past = format!("/v1.41/containers/{id}/attach?logs=1&stdout=1&stderr=1");
        let answer = engine.http_as("POST", &past, "", b"");
        assert_eq!(answer.header("content-type"), Some("application/vnd.docker.raw-stream"), "before API 1.42");
        assert_eq!(answer.body, b"\x01\0\0\0\0\0\0\x06typed\n\x02\0\0\0\0\0\0\x05done\n");
    });
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let silent = create(&engine, json!({"Cmd": ["sleep", "1000"]}));
        let unstarted = create(&engine, json!({"Cmd": ["sleep", "1000"]}));
        post(&engine, &format!("/containers/{silent}/start"), 204);
        let open_files = || {
            let files = std::fs::read_dir(format!("/proc/{}/fd", engine.pid().unwrap())).unwrap();
            files.count()
        };
        engine.http("GET", "/_ping", "");
        let before = open_files();
        let attached: Vec<Open> = [&silent, &unstarted]
            .into_iter()
            .cycle()
            .take(20)
            .map(|id| open(&engine, "POST", &format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1"), true, ""))
            .collect();
        for client in &attached[..10] {
            // As clients do that have no input.
            client.stream.shutdown(Shutdown::Write).unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!(open_files() >= before + 20, "{} files, {before} before", open_files());
        drop(attached);
        lab::wait_for("the engine to notice", Duration::from_secs(10), || (open_files() <= before).then_some(()));
        engine.ok(&["rm", "-f", &silent, &unstarted]);
    });
}

#[test]
fn the_engine_watches_for_the_keys_that_detach() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = create(&engine, json!({"Cmd": ["cat"], "Tty": true, "OpenStdin": true}));
        post(&engine, &format!("/containers/{id}/start"), 204);
        let path = |keys: &str| format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&detachKeys={keys}");
        let mut attached = open(&engine, "POST", &path("ctrl-a,x"), true, "");
        assert!(attached.head.contains("application/vnd.docker.raw-stream"), "{}", attached.head);
        attached.stream.write_all(b"one\n\x01x").unwrap();
        let mut said = String::new();
        attached.stream.read_to_string(&mut said).unwrap();
        assert!(!said.contains('x'), "{said:?}");
        assert_eq!(engine.json(&format!("/containers/{id}/json"))["State"]["Running"], true);
        let (status, text) = engine.http("POST", &path("ctrl-"), "");
        assert_eq!(status, 400, "{text}");
        assert!(text.contains("Invalid detach keys (ctrl-) provided"), "{text}");
        engine.ok(&["rm", "-f", &id]);
    });
}

#[test]
fn an_exec_that_cannot_run_says_so_on_its_stream() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = create(&engine, json!({"Cmd": ["sleep", "1000"]}));
        let exec = json!({"Cmd": ["nosuch"], "AttachStdout": true, "AttachStderr": true}).to_string();
        let (status, text) = engine.http("POST", &format!("/containers/{id}/exec"), &exec);
        assert_eq!(status, 409, "it does not run yet: {text}");
        post(&engine, &format!("/containers/{id}/start"), 204);
        let (status, text) = engine.http("POST", &format!("/containers/{id}/exec"), &exec);
        assert_eq!(status, 201, "{text}");
        let exec: Value = serde_json::from_str(&text).unwrap();
        let exec = exec["Id"].as_str().unwrap();
        let mut started =
            open(&engine, "POST", &format!("/exec/{exec}/start"), true, "{\"Detach\":false,\"Tty\":false}");
        assert!(started.head.starts_with("http/1.1 101 "), "{}", started.head);
        let said = frames(&mut started.stream);
        assert!(said.len() == 1 && said[0].1.contains("nosuch"), "{said:?}");
        assert_eq!(engine.json(&format!("/exec/{exec}/json"))["ExitCode"], 127);
        let (status, text) = engine.http("POST", &format!("/exec/{exec}/start"), "{\"Detach\":true}");
        assert_eq!(status, 409, "{text}");
        engine.ok(&["rm", "-f", &id]);
    });
}

#[test]
fn events_come_in_dockers_order_to_old_and_new_clients() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let mut live = open(
            &engine,
            "GET",
            "/v1.44/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D",
            false,
            "",
        );
        let id = create(&engine, json!({"Cmd": ["true"], "Labels": {"tier": "front"}}));
        post(&engine, &format!("/containers/{id}/start"), 204);
        let seen = lines_until(&mut live, |event| event["Action"] == "disconnect");
        let order: Vec<String> = seen
            .iter()
            .map(|event| format!("{} {}", event["Type"].as_str().unwrap(), event["Action"].as_str().unwrap()))
            .collect();
        let want = ["container create", "network connect", "container start", "container die", "network disconnect"];
        assert_eq!(order, want);
        assert_eq!(seen[0]["status"], "create", "an old client's field");
        assert_eq!(seen[0]["Actor"]["Attributes"]["tier"], "front");
        assert_eq!(seen[1]["Actor"]["Attributes"]["container"], id.as_str());
        assert_eq!(seen[3]["Actor"]["Attributes"]["exitCode"], "0");
        // The past, for who asks for it; the end is now.
        let (status, text) =
            engine.http("GET", "/v1.53/events?since=10m&until=0s&filters=%7B%22event%22%3A%5B%22die%22%5D%7D", "");
        assert_eq!(status, 200);
        let die: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(die["Actor"]["ID"], id.as_str());
        assert!(die.get("status").is_none(), "a new client's form: {die}");
    });
}

#[test]
fn logs_are_followed_to_the_containers_end() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.2; done";
        let id = create(&engine, json!({"Cmd": ["sh", "-c", script]}));
        post(&engine, &format!("/containers/{id}/start"), 204);
        let path = |query: &str| format!("/v1.44/containers/{id}/logs?{query}");
        let answer = engine.http_as("GET", &path("stdout=1&follow=1"), "", b"");
        assert_eq!(String::from_utf8_lossy(&answer.body).matches("out").count(), 3, "{answer:?}");
        let (status, text) = engine.http("GET", &path("follow=1"), "");
        assert_eq!((status, text.contains("you must choose at least one stream")), (400, true), "{text}");
        let (_, text) = engine.http("GET", &path("stderr=1&tail=2"), "");
        assert_eq!(text.matches("err").count(), 1, "the tail counts lines of both streams: {text:?}");
        let (_, text) = engine.http("GET", &path("stdout=1&since=2"), "");
        assert_eq!(text.matches("out").count(), 3);
        let (_, text) = engine.http("GET", &path("stdout=1&until=2"), "");
        assert_eq!(text, "");
    });
}

#[test]
fn a_stream_of_stats_goes_on_from_sample_to_sample() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id =
            create(&engine, json!({"Cmd": ["sh", "-c", "while :; do :; done"], "HostConfig": {"Memory": 64 << 20}}));
        post(&engine, &format!("/containers/{id}/start"), 204);
        let mut stream = open(&engine, "GET", &format!("/containers/{id}/stats"), false, "");
        let mut count = 0;
        let samples = lines_until(&mut stream, |_| {
            count += 1;
            count == 3
        });
        assert_eq!(samples[1]["cpu_stats"], samples[2]["precpu_stats"]);
        let used = |sample: &Value| sample["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap();
        assert!(used(&samples[2]) > used(&samples[1]), "{} {}", used(&samples[2]), used(&samples[1]));
        assert_eq!(samples[0]["memory_stats"]["limit"], 64 << 20);
        assert!(samples[0]["networks"]["eth0"]["rx_bytes"].is_u64(), "{}", samples[0]);
        drop(stream);
        engine.ok(&["rm", "-f", &id]);
    });
}

#[test]
fn inspect_has_the_shape_of_the_clients_version() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = create(&engine, json!({"Cmd": ["sleep", "1000"]}));
        let created = engine.json(&format!("/v1.44/containers/{id}/json"));
        assert_eq!(created["State"]["Status"], "created");
        assert_eq!(created["NetworkSettings"]["IPAddress"], "");
        assert!(created["NetworkSettings"]["Networks"]["bridge"].is_object());
        post(&engine, &format!("/containers/{id}/start"), 204);
        post(&engine, &format!("/containers/{id}/start"), 304);
        let (old, new) =
            (engine.json(&format!("/v1.44/containers/{id}/json")), engine.json(&format!("/containers/{id}/json")));
        let address = &new["NetworkSettings"]["Networks"]["bridge"]["IPAddress"];
        assert!(address.as_str().is_some_and(|address| address.starts_with("172.")), "{address}");
        assert_eq!(&old["NetworkSettings"]["IPAddress"], address);
        assert!(new["NetworkSettings"].get("IPAddress").is_none());
        assert_eq!(old["Config"]["Hostname"], id[..12]);
        assert_eq!(old["HostConfig"]["NetworkMode"], "default");
        let network = engine.json("/networks/bridge");
        assert_eq!(network["Containers"][&id]["IPv4Address"].as_str().unwrap().split('/').next(), address.as_str());
        let listed = engine.json("/containers/json");
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["State"], "running");
        engine.ok(&["rm", "-f", &id]);
        assert_eq!(engine.json("/networks/bridge")["Containers"], json!({}));
    });
}
