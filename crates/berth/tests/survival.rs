//! The engine is killed; containers, their connections, their exit codes and their logs live on, and nothing is left over.

use lab::{Engine, residue};
use std::io::{Read, Write};
use std::time::Duration;

const MANY: usize = 20;

fn address(engine: &Engine, name: &str) -> String {
    engine.ok(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name]).trim().to_owned()
}

#[test]
fn twenty_containers_under_traffic_live_through_kill_9() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let before = residue::listing(&engine);
        for n in 0..MANY {
            let name = format!("c{n}");
            engine.ok(&["run", "-d", "--name", &name, "busybox", "nc", "-ll", "-p", "7", "-e", "cat"]);
        }
        // These end while the engine is down, each with its own code and a line in its log.
        for n in 0..3 {
            let script = format!("echo early; while [ ! -e /go ]; do sleep 0.1; done; echo late; exit {}", 40 + n);
            engine.ok(&["run", "-d", "--name", &format!("mortal{n}"), "busybox", "sh", "-c", &script]);
        }
        let mut flows: Vec<_> = (0..MANY)
            .map(|n| {
                let addr = format!("{}:7", address(&engine, &format!("c{n}")));
                lab::wait_for("an echo server", Duration::from_secs(10), || lab.here().connect(&addr).ok())
            })
            .collect();
        let mut echo = |round: &str| {
            for (n, flow) in flows.iter_mut().enumerate() {
                let text = format!("{round} {n}\n");
                flow.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                flow.write_all(text.as_bytes()).unwrap_or_else(|err| panic!("{round}, c{n}: {err}"));
                let mut back = vec![0; text.len()];
                flow.read_exact(&mut back).unwrap_or_else(|err| panic!("{round}, c{n}: {err}"));
                assert_eq!(String::from_utf8_lossy(&back), text);
            }
        };
        echo("before");
        let addresses: Vec<String> = (0..MANY).map(|n| address(&engine, &format!("c{n}"))).collect();
        let pids: Vec<String> = (0..3)
            .map(|n| engine.ok(&["inspect", "-f", "{{.State.Pid}}", &format!("mortal{n}")]).trim().to_owned())
            .collect();
        engine.kill9();
        echo("while the engine is down");
        for pid in &pids {
            std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
        }
        lab::wait_for("the mortals' ends", Duration::from_secs(10), || {
            pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}/root")).exists()).then_some(())
        });
        engine.start_again();
        echo("after the engine came back");
        let now: Vec<String> = (0..MANY).map(|n| address(&engine, &format!("c{n}"))).collect();
        assert_eq!(now, addresses);
        for n in 0..3 {
            let name = format!("mortal{n}");
            let state = engine.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &name]);
            assert_eq!(state.trim(), format!("exited {}", 40 + n));
            assert_eq!(engine.ok(&["logs", &name]), "early\nlate\n");
        }
        // What was running is still followed: a signal arrives, and the end is seen.
        engine.ok(&["stop", "-t", "0", "c0"]);
        assert_eq!(engine.ok(&["inspect", "-f", "{{.State.Status}}", "c0"]).trim(), "exited");
        let all = engine.ok(&["ps", "-aq"]);
        let mut words = vec!["rm", "-f"];
        words.extend(all.split_whitespace());
        engine.ok(&words);
        residue::assert_same(&engine, &before);
    });
}

#[test]
fn a_container_ends_when_its_shim_is_killed() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let before = residue::listing(&engine);
        engine.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
        let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "c1"]);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
        let shim: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        lab.here().ok(&["kill", "-9", &shim.to_string()]);
        let code = engine.ok(&["wait", "c1"]);
        assert_eq!(code.trim(), "137");
        assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "its process lives on");
        engine.ok(&["start", "c1"]);
        engine.ok(&["rm", "-f", "c1"]);
        residue::assert_same(&engine, &before);
    });
}

#[test]
fn restart_policies_and_auto_remove_survive_the_engine() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let before = residue::listing(&engine);
        engine.ok(&["run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000"]);
        engine.ok(&["run", "-d", "--name", "brief", "--rm", "busybox", "sleep", "1000"]);
        let pid_of = |name: &str| engine.ok(&["inspect", "-f", "{{.State.Pid}}", name]).trim().to_owned();
        let (always, brief) = (pid_of("always"), pid_of("brief"));
        engine.kill9();
        lab.here().ok(&["kill", "-9", &always, &brief]);
        engine.start_again();
        lab::wait_for("the restart policy", Duration::from_secs(10), || {
            let pid = pid_of("always");
            (pid != "0" && pid != always).then_some(())
        });
        let names = engine.ok(&["ps", "-a", "--format", "{{.Names}}"]);
        assert_eq!(names.trim(), "always", "a container that was to be removed at its end is still there");
        engine.ok(&["rm", "-f", "always"]);
        residue::assert_same(&engine, &before);
    });
}

/// The lines of a listing without the numbers of the firewall's: a table that was made anew comes last.
fn whatever_order(listing: &str) -> Vec<String> {
    let mut lines: Vec<String> = listing
        .lines()
        .map(|line| match line.strip_prefix("nft ").and_then(|rest| rest.split_once(' ')) {
            Some((_, text)) => format!("nft {text}"),
            None => line.to_owned(),
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_somebody_breaks_is_put_right_within_a_second() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let friend = lab.host("friend", "192.0.2.2/24");
        let _server = friend.serve_tcp("192.0.2.2:8000", "hello");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        engine.ok(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
        let before = whatever_order(&residue::listing(&engine));
        let veth = lab.here().ok(&["ip", "-o", "link", "show", "master", "berth0"]);
        let veth = veth.split_whitespace().nth(1).unwrap().split('@').next().unwrap().to_owned();
        let mut damaged = Vec::new();
        for damage in [
            &["nft", "flush", "ruleset"][..],
            &["nft", "delete", "table", "inet", "berth"],
            &["ip", "link", "del", &veth],
            &["nft", "delete", "table", "bridge", "berth"],
            &["ip", "addr", "flush", "dev", "berth0"],
            &["ip", "addr", "del", "172.17.0.1/16", "dev", "berth0"],
            &["sysctl", "-qw", "net.ipv4.ip_forward=0"],
            &["ip", "link", "del", "berth0"],
        ] {
            damaged.push(std::time::SystemTime::now());
            lab.here().ok(damage);
            // Looking takes many commands; that it was done within a second is told by the event below.
            lab::wait_for(&format!("the repair after {damage:?}"), Duration::from_secs(10), || {
                (whatever_order(&residue::listing(&engine)) == before).then_some(())
            });
            let out = engine.berth(&["exec", "c1", "nc", "-w", "5", "192.0.2.2", "8000"]);
            assert!(out.stdout.starts_with("hello 192.0.2.1"), "after {damage:?}: {out:?}");
        }
        std::thread::sleep(Duration::from_millis(1100));
        let events =
            engine.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "type=daemon", "--format", "json"]);
        let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["timeNano"].as_u64().unwrap();
        let repaired: Vec<u64> = events.lines().map(event).collect();
        for at in damaged {
            let nanos = at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_nanos();
            let within_a_second = |told: &u64| (nanos..nanos + 1_000_000_000).contains(&u128::from(*told));
            assert!(repaired.iter().any(within_a_second), "no repair within a second of {nanos}: {repaired:?}");
        }
        engine.ok(&["rm", "-f", "c1"]);
    });
}
