//! Published ports: who reaches them, what is shown of them, who else wants them, and how they change and last; through
//! `berth` and `docker`.

use lab::{Engine, Host, Lab, residue};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// The engine's host has two addresses on the segment, and a neighbour there.
fn world(lab: &Lab, flags: &[&str]) -> (Engine, Host) {
    lab.uplink("192.0.2.1/24 192.0.2.32/24 2001:db8::1/64");
    let neighbour = lab.host("neighbour", "192.0.2.2/24 2001:db8::2/64");
    let engine = lab.engine(flags);
    engine.load_busybox();
    (engine, neighbour)
}

/// Both commands refuse with this code, saying this.
#[track_caller]
fn refused(engine: &Engine, words: &[&str], code: i32, says: &str) {
    let docker = lab::has_docker().then(|| engine.docker(words));
    for out in [engine.berth(words)].into_iter().chain(docker) {
        assert!(out.code == code && out.stderr.contains(says), "{words:?}: wanted {code} and {says:?}, got {out:?}");
    }
}

#[track_caller]
fn is_refused(host: &Host, addr: &str) {
    let error = host.tcp(addr).expect_err(addr);
    assert!(matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::TimedOut), "{addr}: {error}");
}

/// The host's port in a line of `port`, as in `3333/tcp -> 0.0.0.0:49153`.
fn host_port(line: &str) -> u16 {
    line.trim()
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .unwrap_or_else(|| panic!("no port in {line:?}"))
}

#[test]
fn neighbours_reach_what_is_published_and_nothing_else() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        // The four forms, many of them, and one number in two protocols.
        let flags = ["-p", "3333", "-p", "4444:4444", "-p", "192.0.2.32::2222", "--publish=192.0.2.32:1111:1111"];
        engine.sleeper("web", &[&flags[..], &["-p", "4444:4444/udp"]].concat());
        let space = lab.container(&engine, "web");
        let _served: Vec<_> =
            ["3333", "4444", "2222", "1111", "9"].map(|port| space.serve_tcp(&format!("0.0.0.0:{port}"), port)).into();
        let _udp = space.serve_udp("0.0.0.0:4444", "datagram");
        // The container sees who asks.
        let says = |addr: &str| neighbour.tcp(addr).unwrap_or_else(|err| panic!("{addr}: {err}"));
        assert!(says("192.0.2.1:4444").starts_with("4444 192.0.2.2"));
        assert!(says("192.0.2.32:4444").starts_with("4444 192.0.2.2"));
        let datagram = neighbour.udp("192.0.2.1:4444", "?").unwrap();
        assert!(datagram.starts_with("datagram 192.0.2.2"), "{datagram}");
        let any = host_port(&engine.ok(&["port", "web", "3333"]));
        assert!(says(&format!("192.0.2.1:{any}")).starts_with("3333 "));
        let bound = engine.ok(&["port", "web", "2222"]);
        assert!(bound.starts_with("192.0.2.32:"), "{bound}");
        assert!(says(bound.trim()).starts_with("2222 "));
        assert!(says("192.0.2.32:1111").starts_with("1111 "));
        // Only on its address; and never what nobody published.
        is_refused(&neighbour, "192.0.2.1:1111");
        is_refused(&neighbour, &format!("192.0.2.1:{}", host_port(&bound)));
        is_refused(&neighbour, "192.0.2.1:9");
        neighbour.route("172.16.0.0/12 via 192.0.2.1");
        let own = engine.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web"]);
        is_refused(&neighbour, &format!("{}:9", own.trim()));
        engine.ok(&["rm", "-f", "web"]);
        is_refused(&neighbour, "192.0.2.1:4444");
    });
}

#[test]
fn port_ps_and_inspect_agree() {
    lab::alone(|lab| {
        let (engine, _) = world(lab, &[]);
        // `-P` and `-p` come to the same container ports (S31, S32); `--expose` with a range.
        engine.sleeper("dawson", &["-p", "5000", "-p", "6000", "-p", "7000"]);
        engine.sleeper("philbin", &["-P", "--expose", "5000-5001", "--expose", "7000", "--expose", "8000/udp"]);
        // Each stands twice: for IPv4 and, with the same number, for IPv6.
        let names = |text: &str| -> Vec<String> {
            let lines: Vec<&str> = text.lines().collect();
            let pair = |two: &[&str]| {
                assert_eq!(two[0].replace("0.0.0.0:", "[::]:"), two[1]);
                two[0].split(' ').next().unwrap_or_default().to_owned()
            };
            lines.chunks(2).map(pair).collect()
        };
        let dawson = engine.both(&["port", "dawson"]);
        assert_eq!(names(&dawson), ["5000/tcp", "6000/tcp", "7000/tcp"]);
        let philbin = engine.both(&["port", "philbin"]);
        assert_eq!(names(&philbin), ["5000/tcp", "5001/tcp", "7000/tcp", "8000/udp"]);
        // A number for each: one of TCP may be one of UDP too.
        let tcp = |text: &str| -> Vec<u16> { text.lines().filter(|l| l.contains("/tcp")).map(host_port).collect() };
        let mut numbers = [tcp(&dawson), tcp(&philbin)].concat();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 6, "{dawson}{philbin}");
        let of = |name: &str| engine.both(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"]);
        for (name, text) in [("dawson", &dawson), ("philbin", &philbin)] {
            let column = of(name);
            for line in text.lines() {
                let (inner, host) = line.split_once(" -> ").unwrap();
                assert!(column.contains(&format!("{host}->{inner}")), "{line} is not in {column}");
                let at = format!("{{{{(index (index .NetworkSettings.Ports \"{inner}\") 0).HostPort}}}}");
                assert_eq!(engine.both(&["inspect", "-f", &at, name]).trim(), host_port(line).to_string());
            }
            assert_eq!(column.matches("->").count(), text.lines().count(), "{column}");
        }
        // Groups only where the numbers are the same on both sides.
        let flags =
            ["-p", "192.0.2.1:9998-9999:9998-9999/udp", "-p", "8887-8888:80-81", "--expose", "700-702", "-p", "53:53"];
        engine.sleeper("forms", &flags);
        assert_eq!(
            of("forms").trim(),
            "0.0.0.0:53->53/tcp, [::]:53->53/tcp, 700-702/tcp, 192.0.2.1:9998-9999->9998-9999/udp, 0.0.0.0:8887->80/tcp, \
             [::]:8887->80/tcp, 0.0.0.0:8888->81/tcp, [::]:8888->81/tcp"
        );
        assert_eq!(engine.both(&["port", "forms", "53"]), "0.0.0.0:53\n[::]:53\n");
        assert_eq!(engine.both(&["port", "forms", "9999/udp"]), "192.0.2.1:9999\n");
        for words in [["port", "forms", "9"], ["port", "forms", "53/udp"]] {
            let out = engine.berth(&words);
            let says = format!("Error: No public port '{}' published for forms", words[2]);
            assert!(out.code == 1 && out.stderr.contains(&says), "{out:?}");
        }
        refused(&engine, &["port", "nosuch"], 1, "No such container: nosuch");
        let wished = engine.both(&["inspect", "-f", "{{json .HostConfig.PortBindings}}", "dawson"]);
        let wished: serde_json::Value = serde_json::from_str(&wished).unwrap();
        let empty = serde_json::json!([{ "HostIp": "", "HostPort": "" }]);
        assert_eq!(wished, serde_json::json!({ "5000/tcp": empty, "6000/tcp": empty, "7000/tcp": empty }));
        let ports = "{{json .NetworkSettings.Ports}}";
        let shown: serde_json::Value = serde_json::from_str(&engine.both(&["inspect", "-f", ports, "forms"])).unwrap();
        assert_eq!(shown["700/tcp"], serde_json::Value::Null);
        let on = |ip: &str| serde_json::json!({ "HostIp": ip, "HostPort": "53" });
        assert_eq!(shown["53/tcp"], serde_json::json!([on("0.0.0.0"), on("::")]));
        // Stopped: none.
        engine.ok(&["stop", "-t", "0", "dawson"]);
        assert_eq!(engine.both(&["port", "dawson"]), "");
        assert_eq!(engine.both(&["inspect", "-f", ports, "dawson"]), "{}\n");
        // Kept over stop and start.
        engine.ok(&["start", "dawson"]);
        assert_eq!(engine.both(&["port", "dawson"]), dawson);
        // A host without a range of its own: the first that is free, for one port inside.
        engine.sleeper("first", &["-p", "53-60:80"]);
        assert_eq!(engine.ok(&["port", "first"]), "80/tcp -> 0.0.0.0:54\n80/tcp -> [::]:54\n");
        // Modes that publish nothing.
        let open = engine.berth(&["run", "--rm", "--net", "host", "-p", "80:80", "busybox", "true"]);
        assert_eq!(open.stderr, "WARNING: Published ports are discarded when using host network mode\n", "{open:?}");
        let closed =
            engine.berth(&["run", "-d", "--name", "shut", "--net", "none", "-p", "80:80", "busybox", "sleep", "9"]);
        assert_eq!((closed.code, closed.stderr.as_str()), (0, ""), "{closed:?}");
        assert_eq!(engine.both(&["port", "shut"]), "");
    });
}

#[test]
fn both_families_are_published() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &["--ipv6", "--fixed-cidr-v6", "fd00:7::/64"]);
        engine.sleeper("web", &["-p", "80:80", "-p", "[2001:db8::1]:81:81"]);
        assert_eq!(
            engine.both(&["port", "web"]),
            "80/tcp -> 0.0.0.0:80\n80/tcp -> [::]:80\n81/tcp -> [2001:db8::1]:81\n"
        );
        let column = engine.both(&["ps", "--format", "{{.Ports}}"]);
        assert_eq!(column.trim(), "0.0.0.0:80->80/tcp, [::]:80->80/tcp, [2001:db8::1]:81->81/tcp");
        let space = lab.container(&engine, "web");
        let _web = space.serve_tcp("[::]:80", "web");
        let _more = space.serve_tcp("[::]:81", "more");
        lab::wait_for("IPv6 through the port", Duration::from_secs(10), || neighbour.tcp("[2001:db8::1]:80").ok());
        assert!(neighbour.tcp("[2001:db8::1]:80").unwrap().starts_with("web 2001:db8::2"));
        assert!(neighbour.tcp("[2001:db8::1]:81").unwrap().starts_with("more 2001:db8::2"));
        assert!(neighbour.tcp("192.0.2.1:80").unwrap().starts_with("web "));
        is_refused(&neighbour, "192.0.2.1:81");
    });
}

#[test]
fn a_port_that_somebody_has_stops_the_start_and_leaves_nothing() {
    lab::alone(|lab| {
        let (engine, _) = world(lab, &[]);
        engine.sleeper("holder", &["-p", "3333:3333", "-p", "127.0.0.1:80:80"]);
        let here = lab.here();
        let tcp = here.serve_tcp("0.0.0.0:4444", "host");
        let udp = here.serve_udp("192.0.2.1:5353", "host");
        let before = residue::listing(&engine);
        let head = "Error response from daemon: failed to set up container networking: driver failed programming external \
                    connectivity on endpoint ";
        for (spec, why) in [
            ("3333:1", "Bind for 0.0.0.0:3333 failed: port is already allocated"),
            ("127.0.0.1:3333:1", "Bind for 0.0.0.0:3333 failed: port is already allocated"),
            ("3330-3339:1-10", "Bind for 0.0.0.0:3333 failed: port is already allocated"),
            ("80:80", "Bind for 0.0.0.0:80 failed: port is already allocated"),
            ("4444:80", "failed to bind host port 0.0.0.0:4444/tcp: address already in use"),
            ("4440-4449:80-89", "failed to bind host port 0.0.0.0:4444/tcp: address already in use"),
            ("4000-4499:1000-1499", "failed to bind host port 0.0.0.0:4444/tcp: address already in use"),
            ("5353:53/udp", "failed to bind host port 0.0.0.0:5353/udp: address already in use"),
            ("10.9.9.9:81:80", "failed to bind host port 10.9.9.9:81/tcp: cannot assign requested address"),
        ] {
            refused(&engine, &["run", "-d", "-p", spec, "busybox", "sleep", "1000"], 125, why);
            refused(&engine, &["run", "-d", "-p", spec, "busybox", "sleep", "1000"], 125, head);
            let all = engine.both(&["ps", "-a", "--filter", "status=created", "--format", "{{.ID}} {{.Status}}"]);
            assert!(!all.is_empty(), "{spec}");
            for line in all.lines() {
                let (id, status) = line.split_once(' ').unwrap();
                assert_eq!(status, "Created");
                assert_eq!(engine.http("POST", &format!("/containers/{id}/start"), "").0, 500, "{spec}");
                engine.ok(&["rm", id]);
            }
        }
        refused(
            &engine,
            &["run", "--rm", "-p", "[::1]:80:80/sctp", "busybox", "true"],
            125,
            "cannot publish [::1]:80:80/sctp: from that address the engine would have to relay it, which it does for TCP and \
             UDP only",
        );
        let left = engine.both(&["ps", "-aq"]);
        assert_eq!(left.lines().count(), 1, "{left}");
        residue::assert_same(&engine, &before);
        // Another address, another protocol: in nobody's way.
        engine.sleeper("beside", &["-p", "127.0.0.2:80:80", "-p", "192.0.2.32:5353:53/udp", "-p", "4444:80/udp"]);
        // Freed: taken, though a connection lingers that the host's program closed.
        assert!(here.tcp("127.0.0.1:4444").unwrap().starts_with("host "));
        drop((tcp, udp));
        let waiting = here.ok(&["ss", "-tanH", "state", "time-wait"]);
        assert!(waiting.contains(":4444"), "{waiting}");
        engine.sleeper("then", &["-p", "4444:80"]);
        engine.ok(&["rm", "-f", "holder", "then"]);
        drop(here.serve_tcp("0.0.0.0:3333", "host"));
        drop(here.serve_tcp("0.0.0.0:4444", "host"));
        engine.sleeper("again", &["-p", "3333:3333", "-p", "4444:80"]);
    });
}

#[test]
fn held_ports_are_taken_by_nobody_else() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        let here = lab.here();
        // Ephemeral ports pass by those that the host's programs have.
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40009").unwrap();
        let _busy: Vec<_> = (40_000..40_004).map(|port| here.serve_tcp(&format!("0.0.0.0:{port}"), "host")).collect();
        engine.sleeper("web", &["-p", "80", "-p", "7:7", "-p", "192.0.2.32:7:8", "-p", "192.0.2.1:9:9/udp"]);
        let chosen = host_port(&engine.ok(&["port", "web", "80"]));
        assert_eq!(chosen, 40_004);
        let taken = |tcp: &str| here.enter(|| std::net::TcpListener::bind(tcp).map(drop)).map_err(|err| err.kind());
        let held = || {
            assert_eq!(taken("0.0.0.0:40004"), Err(ErrorKind::AddrInUse));
            assert_eq!(taken("0.0.0.0:7"), Err(ErrorKind::AddrInUse));
            assert_eq!(taken("127.0.0.1:7"), Err(ErrorKind::AddrInUse));
            let udp = here.enter(|| std::net::UdpSocket::bind("192.0.2.1:9").map(drop)).map_err(|err| err.kind());
            assert_eq!(udp, Err(ErrorKind::AddrInUse));
            assert_eq!(taken("0.0.0.0:9"), Ok(()));
        };
        held();
        let space = lab.container(&engine, "web");
        let _web = space.serve_tcp("0.0.0.0:80", "web");
        // On every address, and elsewhere on one of them.
        let (_any, _one) = (space.serve_tcp("0.0.0.0:7", "any"), space.serve_tcp("0.0.0.0:8", "one"));
        assert!(neighbour.tcp("192.0.2.1:7").unwrap().starts_with("any "));
        assert!(neighbour.tcp("192.0.2.32:7").unwrap().starts_with("one "));
        let reaches = || assert!(neighbour.tcp("192.0.2.1:40004").unwrap().starts_with("web 192.0.2.2"));
        reaches();
        // The engine is gone, and comes back.
        engine.kill9();
        reaches();
        let thief = here.serve_tcp("0.0.0.0:7", "host");
        engine.start_again();
        reaches();
        assert_eq!(taken("0.0.0.0:40004"), Err(ErrorKind::AddrInUse));
        assert!(engine.log().contains("published port 0.0.0.0:7/tcp cannot be held: address already in use"));
        drop(thief);
        engine.stop();
        engine.start_again();
        held();
        // What was chosen before the engine's restart is chosen again.
        engine.ok(&["stop", "-t", "0", "web"]);
        assert_eq!(taken("0.0.0.0:40004"), Ok(()));
        assert_eq!(taken("0.0.0.0:7"), Ok(()));
        engine.ok(&["start", "web"]);
        assert_eq!(host_port(&engine.ok(&["port", "web", "80"])), chosen);
        engine.ok(&["rm", "-f", "web"]);
        assert_eq!(taken("0.0.0.0:40004"), Ok(()));
    });
}

#[test]
fn ports_change_while_the_container_runs() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        let before = residue::listing(&engine);
        engine.sleeper("web", &["-p", "7:7"]);
        engine.sleeper("other", &["-p", "3333:3333"]);
        let space = lab.container(&engine, "web");
        let (echo, web) = (space.serve_echo("0.0.0.0:7"), space.serve_tcp("0.0.0.0:80", "web"));
        let mut flow = neighbour.connect("192.0.2.1:7").unwrap();
        let mut alive = |round: &str| {
            flow.write_all(b"?").unwrap_or_else(|err| panic!("{round}: {err}"));
            flow.read_exact(&mut [0]).unwrap_or_else(|err| panic!("{round}: {err}"));
        };
        alive("first");
        is_refused(&neighbour, "192.0.2.1:8080");
        engine.ok(&["port", "add", "web", "8080:80", "9000-9002:9000-9002/udp"]);
        alive("ports were added");
        assert!(neighbour.tcp("192.0.2.1:8080").unwrap().starts_with("web 192.0.2.2"));
        let all: String = [("7/tcp", 7), ("80/tcp", 8080), ("9000/udp", 9000), ("9001/udp", 9001), ("9002/udp", 9002)]
            .iter()
            .map(|(inner, port)| format!("{inner} -> 0.0.0.0:{port}\n{inner} -> [::]:{port}\n"))
            .collect();
        assert_eq!(engine.both(&["port", "web"]), all);
        let held = lab.here().enter(|| std::net::TcpListener::bind("0.0.0.0:8080").map(drop));
        assert_eq!(held.unwrap_err().kind(), ErrorKind::AddrInUse);
        // Refused whole, as at a start.
        let host = lab.here().serve_tcp("0.0.0.0:4444", "host");
        for (words, code, says) in [
            (
                &["port", "add", "web", "81:81", "3333:1"][..],
                1,
                "Bind for 0.0.0.0:3333 failed: port is already allocated",
            ),
            (&["port", "add", "web", "8080:81"], 1, "port is already allocated (by `web`)"),
            (&["port", "add", "web", "4444:1"], 1, "failed to bind host port 0.0.0.0:4444/tcp: address already in use"),
            (&["port", "add", "web", "70000:1"], 1, "invalid hostPort: 70000"),
            (&["port", "add", "nosuch", "1:1"], 1, "No such container: nosuch"),
            (&["port", "rm", "web", "80", "81"], 1, "no public port '81/tcp' published for web"),
            (&["port", "rm", "web", "8081:80"], 1, "no public port '80/tcp' published for web"),
        ] {
            let out = engine.berth(words);
            assert!(out.code == code && out.stderr.contains(says), "{words:?}: {out:?}");
            assert_eq!(engine.ok(&["port", "web"]), all, "{words:?}");
        }
        drop(host);
        // Out of the middle of a range; the rest stays.
        engine.ok(&["port", "rm", "web", "9001:9001/udp"]);
        alive("a port was removed");
        let rest = all.replace("9001/udp -> 0.0.0.0:9001\n9001/udp -> [::]:9001\n", "");
        assert_eq!(engine.both(&["port", "web"]), rest);
        let freed = lab.here().enter(|| std::net::UdpSocket::bind("0.0.0.0:9001").map(drop));
        freed.unwrap();
        // It lasts: over a crash of the engine, and over stop and start.
        engine.kill9();
        engine.start_again();
        assert_eq!(engine.ok(&["port", "web"]), rest);
        alive("the engine came back");
        engine.ok(&["stop", "-t", "0", "web"]);
        refused_change(&engine);
        engine.ok(&["start", "web"]);
        assert_eq!(engine.both(&["port", "web"]), rest);
        let wished = engine.ok(&["inspect", "-f", "{{json .HostConfig.PortBindings}}", "web"]);
        let wished: serde_json::Value = serde_json::from_str(&wished).unwrap();
        assert_eq!(wished["80/tcp"], serde_json::json!([{ "HostIp": "", "HostPort": "8080" }]));
        assert_eq!(wished.get("9001/udp"), None);
        engine.ok(&["port", "rm", "web", "80"]);
        is_refused(&neighbour, "192.0.2.1:8080");
        // Of `-P`, one goes and the others stay, now and later.
        engine.sleeper("all", &["-P", "--expose", "1-3"]);
        engine.ok(&["port", "rm", "all", "2"]);
        let left = engine.ok(&["port", "all"]);
        assert_eq!(left.lines().count(), 4, "{left}");
        engine.ok(&["restart", "-t", "0", "all"]);
        assert_eq!(engine.ok(&["port", "all"]), left);
        // A namespace that somebody is in does not go.
        drop((echo, web, space));
        engine.ok(&["rm", "-f", "web", "other", "all"]);
        residue::assert_same(&engine, &before);
    });
}

#[track_caller]
fn refused_change(engine: &Engine) {
    for verb in ["add", "rm"] {
        let out = engine.berth(&["port", verb, "web", "7:7"]);
        assert!(out.code == 1 && out.stderr.contains("is not running"), "{out:?}");
    }
}

#[test]
fn a_thousand_ports_cost_little() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        let before = residue::listing(&engine);
        let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", engine.pid().unwrap())).unwrap().count();
        engine.sleeper("plain", &[]);
        let (rules, open) = (lines_of_rules(), descriptors());
        engine.sleeper("big", &["-p", "20000-20999:20000-20999/udp"]);
        assert_eq!(lines_of_rules(), rules, "rules grow with ports");
        assert!(descriptors() < open + 32, "a descriptor for each of a thousand ports");
        let space = lab.container(&engine, "big");
        for port in [20_000, 20_500, 20_999] {
            let _udp = space.serve_udp(&format!("0.0.0.0:{port}"), "big");
            assert!(neighbour.udp(&format!("192.0.2.1:{port}"), "?").unwrap().starts_with("big 192.0.2.2"));
        }
        assert_eq!(
            engine.both(&["ps", "--filter", "name=big", "--format", "{{.Ports}}"]),
            "0.0.0.0:20000-20999->20000-20999/udp, [::]:20000-20999->20000-20999/udp\n"
        );
        drop(space);
        engine.ok(&["rm", "-f", "plain", "big"]);
        residue::assert_same(&engine, &before);
    });
}

/// Rules without the elements of sets and maps.
fn lines_of_rules() -> usize {
    let out = std::process::Command::new("nft").args(["-st", "list", "table", "inet", "berth"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).lines().count()
}
