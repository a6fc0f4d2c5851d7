//! What the lab does with an engine, with a stand-in for the engine: it answers a ping, and says what it was called with.

use lab::Lab;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A directory with a stand-in for each of the engine's programs.
fn programs(lab: &Lab) -> std::path::PathBuf {
    let dir = lab.dir().join("programs");
    std::fs::create_dir(&dir).unwrap();
    let own = std::env::current_exe().unwrap();
    for name in ["berth", "berth-shim", "berth-runtime"] {
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" != daemon ]; then echo \"$BERTH_HOST: $*\"; cat; echo wrong >&2; exit 3; fi\n\
             WORDS=\"$*\" exec {} stand_in --exact --ignored --nocapture\n",
            own.display()
        );
        std::fs::write(dir.join(name), script).unwrap();
        std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    dir
}

#[test]
#[ignore = "serves until it is killed; the other tests start it"]
fn stand_in() {
    let words = std::env::var("WORDS").unwrap();
    eprintln!("called with {words}");
    assert!(!words.contains("--end-at-once"), "as it was told");
    let words: Vec<&str> = words.split(' ').collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).unwrap() + 1];
    let socket = after("-H").strip_prefix("unix://").unwrap();
    let _ = std::fs::remove_file(socket);
    for stream in UnixListener::bind(socket).unwrap().incoming() {
        let mut stream = stream.unwrap();
        let mut first = String::new();
        BufReader::new(&stream).read_line(&mut first).unwrap();
        let (status, body) = if first.contains(" /_ping ") { ("200 OK", "OK") } else { ("404 Not Found", "{}") };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

#[test]
fn an_engine_is_started_asked_killed_and_stopped() {
    lab::alone(|lab| {
        let engine = lab.engine_of(&programs(lab), &["--debug"]);
        let flags = format!("--cgroup-parent {} --debug", lab.cgroup());
        assert!(engine.log().contains(&flags), "{}", engine.log());
        assert_eq!(engine.http("GET", "/_ping", ""), (200, "OK".to_owned()));
        assert_eq!(engine.http("POST", "/v1.41/else", "{}"), (404, "{}".to_owned()));
        let output = engine.berth_fed(&["run", "it"], b"input\n");
        assert_eq!((output.code, output.stderr.as_str()), (3, "wrong\n"));
        assert_eq!(output.stdout, format!("{}: run it\ninput\n", engine.host()));
        let first = engine.pid().unwrap();
        engine.kill9();
        assert_eq!(engine.pid(), None);
        assert!(!std::path::Path::new(&format!("/proc/{first}")).exists());
        engine.start_again();
        assert_ne!(engine.pid().unwrap(), first);
        engine.stop();
        assert_eq!(engine.log().matches("called with daemon").count(), 2);
        let second = lab.engine_of(&lab.dir().join("programs"), &[]);
        assert_ne!(second.socket(), engine.socket());
    })
}

#[test]
fn what_fails_is_told_with_the_log_or_the_output() {
    lab::alone(|lab| {
        let programs = programs(lab);
        let said = panic_of(|| drop(lab.engine_of(&programs, &["--end-at-once"])));
        assert!(said.contains("daemon -H unix://") && said.contains("as it was told"), "{said}");
        let engine = lab.engine_of(&programs, &[]);
        let said = panic_of(|| drop(engine.ok(&["run"])));
        assert!(said.contains("/berth run` ended with 3") && said.contains("wrong"), "{said}");
        let said = panic_of(|| drop(engine.json("/nothing")));
        assert!(said.contains("404"), "{said}");
    })
}

#[test]
fn whatever_is_left_shows_in_the_listing() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let engine = lab.engine_of(&programs(lab), &[]);
        let bundle = engine.exec_root().join("containers/abc");
        std::fs::create_dir_all(engine.exec_root().join("containers")).unwrap();
        let before = lab::residue::listing(&engine);
        lab::residue::assert_same(&engine, &before);
        let here = lab.here();
        let (run, abc) = (engine.exec_root().display().to_string(), bundle.display().to_string());
        let traces = [
            ("link left0", "ip link add left0 type bridge", "ip link del left0"),
            ("route 198.51.100.0/24", "ip route add 198.51.100.0/24 via 192.0.2.2", "ip route del 198.51.100.0/24"),
            ("route6 2001:db8:1::/64", "ip route add 2001:db8:1::/64 via 2001:db8::2", "ip route del 2001:db8:1::/64"),
            ("table inet left", "nft add table inet left", "nft delete table inet left"),
            ("containers/abc", &format!("mkdir {abc}"), &format!("rmdir {abc}")),
            ("mount tmpfs", &format!("mount -t tmpfs left {run}"), &format!("umount {run}")),
        ];
        for (mark, leave, clear) in traces {
            here.ok(&["sh", "-c", leave]);
            let now = lab::residue::listing(&engine);
            assert!(now != before && now.contains(mark), "`{mark}` is not in: {now}");
            here.ok(&["sh", "-c", clear]);
            lab::residue::assert_same(&engine, &before);
        }
        std::fs::create_dir(&bundle).unwrap();
        let said = panic_of(|| lab::residue::assert_same(&engine, &before));
        assert!(said.contains("left behind") && said.contains("containers/abc") && !said.contains("up0"), "{said}");
        if let Some(root) = lab::cgroups::hierarchies().first() {
            let left = root.join(lab.cgroup().trim_start_matches('/')).join("left");
            if std::fs::create_dir_all(&left).is_ok() {
                assert!(lab::residue::listing(&engine).contains(&format!("cgroup {}", left.display())));
            }
        }
    })
}

fn panic_of(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("this should have failed");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("a panic with a text")).to_owned(),
    }
}
