//! Published ports that the engine relays: from IPv6 to containers that have only IPv4, and from ::1.

use lab::{Engine, Host, Lab, residue};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// The engine's host has an address of each family on the segment, and a neighbour there.
fn world(lab: &Lab, flags: &[&str]) -> (Engine, Host) {
    lab.uplink("192.0.2.1/24 2001:db8::1/64 2001:db8::32/64");
    let neighbour = lab.host("neighbour", "192.0.2.2/24 2001:db8::2/64");
    let engine = lab.engine(flags);
    engine.load_busybox();
    (engine, neighbour)
}

/// Starts a container that sleeps, and gives its network as a place to serve from.
#[track_caller]
fn run(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Host {
    let words = [&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat();
    engine.ok(&words);
    lab.container(engine, name)
}

/// Nobody is behind that port: the connection is refused, or broken at once.
#[track_caller]
fn is_dead(host: &Host, addr: &str) {
    let said = host.tcp(addr);
    let kind = said.as_ref().map_err(std::io::Error::kind);
    assert!(
        matches!(kind, Err(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::TimedOut)),
        "{addr}: {said:?}"
    );
}

/// The port on which the engine relays.
fn relay_port() -> u16 {
    let out = std::process::Command::new("nft").args(["list", "set", "inet", "berth", "relay"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let port = text.split_once("tcp . ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    port.unwrap_or_else(|| panic!("no relay in {text}"))
}

#[test]
fn ipv6_leads_to_a_container_without_it() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        let before = residue::listing(&engine);
        let flags = ["-p", "8080:80", "-p", "5353:53/udp", "-p", "[2001:db8::1]:81:80", "-p", "[::1]:82:80"];
        let web = run(lab, &engine, "web", &flags);
        assert_eq!(
            engine.both(&["port", "web"]),
            "53/udp -> 0.0.0.0:5353\n53/udp -> [::]:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [2001:db8::1]:81\n\
             80/tcp -> [::1]:82\n80/tcp -> [::]:8080\n"
        );
        assert_eq!(engine.both(&["port", "web", "53/udp"]), "0.0.0.0:5353\n[::]:5353\n");
        let ports = "{{json (index .NetworkSettings.Ports \"53/udp\")}}";
        assert_eq!(
            engine.both(&["inspect", "-f", ports, "web"]).trim(),
            r#"[{"HostIp":"0.0.0.0","HostPort":"5353"},{"HostIp":"::","HostPort":"5353"}]"#
        );
        let served = (web.serve_tcp("0.0.0.0:80", "web"), web.serve_udp("0.0.0.0:53", "dns"));
        let here = lab.here();
        for (who, addr, sees) in [
            (&here, "127.0.0.1:8080", "172.17.0.1"),
            (&here, "192.0.2.1:8080", "192.0.2.1"),
            (&here, "[::1]:8080", "172.17.0.1"),
            (&here, "[2001:db8::1]:8080", "172.17.0.1"),
            (&here, "[2001:db8::32]:8080", "172.17.0.1"),
            (&here, "[2001:db8::1]:81", "172.17.0.1"),
            (&here, "[::1]:82", "172.17.0.1"),
            (&neighbour, "192.0.2.1:8080", "192.0.2.2"),
            (&neighbour, "[2001:db8::1]:8080", "172.17.0.1"),
            (&neighbour, "[2001:db8::32]:8080", "172.17.0.1"),
            (&neighbour, "[2001:db8::1]:81", "172.17.0.1"),
        ] {
            let said = who.tcp(addr).unwrap_or_else(|err| panic!("{} to {addr}: {err}", who.name()));
            assert_eq!(said, format!("web {sees}\n"), "{} to {addr}", who.name());
        }
        for (who, addr, sees) in [
            (&here, "127.0.0.1:5353", "172.17.0.1"),
            (&here, "[::1]:5353", "172.17.0.1"),
            (&here, "[2001:db8::32]:5353", "172.17.0.1"),
            (&neighbour, "192.0.2.1:5353", "192.0.2.2"),
            (&neighbour, "[2001:db8::1]:5353", "172.17.0.1"),
            (&neighbour, "[2001:db8::32]:5353", "172.17.0.1"),
        ] {
            let said = who.udp(addr, "?").unwrap_or_else(|err| panic!("{} to {addr}: {err}", who.name()));
            assert_eq!(said, format!("dns {sees}\n"), "{} to {addr}", who.name());
        }
        let by_name = here.enter(|| {
            TcpStream::connect("localhost:8080").and_then(|mut stream| {
                let mut said = String::new();
                stream.read_to_string(&mut said).map(|_| said)
            })
        });
        assert_eq!(by_name.unwrap(), "web 172.17.0.1\n");
        // Only where it is published; and the relay itself is no way in.
        let relay = relay_port();
        std::thread::scope(|scope| {
            for (who, addr) in [
                (&neighbour, "[2001:db8::32]:81".to_owned()),
                (&neighbour, "[2001:db8::1]:82".to_owned()),
                (&here, "[::1]:81".to_owned()),
                (&neighbour, format!("[2001:db8::1]:{relay}")),
                (&here, format!("[::1]:{relay}")),
            ] {
                scope.spawn(move || is_dead(who, &addr));
            }
        });
        // Held like any port.
        let taken = here.enter(|| TcpListener::bind("[::]:8080").map(drop)).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        // Nobody listens inside: broken at once, not answered for.
        drop(served);
        let broken = here.tcp("[::1]:8080").unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
        drop(web);
        engine.ok(&["rm", "-f", "web"]);
        is_dead(&here, "[::1]:8080");
        residue::assert_same(&engine, &before);
    });
}

#[test]
fn a_container_with_ipv6_is_relayed_from_the_loopback_only() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &["--ipv6", "--fixed-cidr-v6", "fd00:7::/64"]);
        let web = run(lab, &engine, "web", &["-p", "80:80", "-p", "[::1]:81:80/udp", "-p", "90-99:90-99"]);
        let _served =
            (web.serve_tcp("[::]:80", "web"), web.serve_udp("[::]:80", "udp"), web.serve_tcp("[::]:95", "range"));
        let here = lab.here();
        let answer = || here.tcp("[::1]:80").ok();
        lab::wait_for("IPv6 of the container", Duration::from_secs(10), answer);
        assert_eq!(here.tcp("[::1]:80").unwrap(), "web fd00:7::1\n");
        assert_eq!(here.tcp("[::1]:95").unwrap(), "range fd00:7::1\n");
        assert_eq!(here.udp("[::1]:81", "?").unwrap(), "udp fd00:7::1\n");
        // The kernel's way for all else, by which the container sees who asks.
        assert_eq!(neighbour.tcp("[2001:db8::1]:80").unwrap(), "web 2001:db8::2\n");
        assert_eq!(neighbour.tcp("[2001:db8::1]:95").unwrap(), "range 2001:db8::2\n");
        // So does a neighbour on the bridge, and the container itself.
        let two = run(lab, &engine, "two", &[]);
        for from in [&two, &web] {
            assert!(from.tcp("[2001:db8::1]:80").unwrap().starts_with("web fd00:7::"), "{}", from.name());
        }
    });
}

/// Takes all that comes on each connection, and answers how much it was.
fn counting(web: &Host) {
    let listener = web.enter(|| TcpListener::bind("0.0.0.0:80")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut got = Vec::new();
                // A client that breaks the connection wants no answer.
                if stream.read_to_end(&mut got).is_ok() {
                    let sum: u64 = got.iter().map(|byte| u64::from(*byte)).sum();
                    let _ = stream.write_all(format!("{} {sum}", got.len()).as_bytes());
                }
            });
        }
    });
}

#[test]
fn much_many_and_broken_connections() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        let web = run(lab, &engine, "web", &["-p", "8080:80"]);
        counting(&web);
        let threads = || std::fs::read_dir(format!("/proc/{}/task", engine.pid().unwrap())).unwrap().count();
        let before = threads();
        let ask = |size: usize| {
            let mut stream = neighbour.connect("[2001:db8::1]:8080").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
            assert_eq!(answer, format!("{size} {sum}"));
        };
        // One end stops sending, and still hears the answer.
        ask(32 << 20);
        // Clients that go in the middle.
        for _ in 0..50 {
            let mut stream = neighbour.connect("[2001:db8::1]:8080").unwrap();
            stream.write_all(&[7; 3000]).unwrap();
            lab::probe::break_off(stream);
        }
        // Two hundred at once, all of them open before the first one ends.
        let mut open: Vec<TcpStream> = (0..200).map(|_| neighbour.connect("[2001:db8::1]:8080").unwrap()).collect();
        for (nth, stream) in open.iter_mut().enumerate() {
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(&vec![1; nth + 1]).unwrap();
        }
        assert!(threads() <= before + 2, "threads for connections: {} after {before}", threads());
        for (nth, stream) in open.iter_mut().enumerate() {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, format!("{0} {0}", nth + 1));
        }
        ask(1000);
    });
}

#[test]
fn the_relay_comes_back_with_the_engine_and_goes_with_the_port() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        let web = run(lab, &engine, "web", &["-p", "8080:80", "-p", "7:7", "-p", "5353:53/udp"]);
        let _served =
            (web.serve_tcp("0.0.0.0:80", "web"), web.serve_echo("0.0.0.0:7"), web.serve_udp("0.0.0.0:53", "dns"));
        let datagrams = neighbour.enter(|| UdpSocket::bind("[::]:0")).unwrap();
        datagrams.connect("[2001:db8::1]:5353").unwrap();
        datagrams.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let asks = || datagrams.send(b"?").and_then(|_| datagrams.recv(&mut [0; 64])).is_ok();
        assert!(asks());
        let port = relay_port();
        engine.kill9();
        is_dead(&neighbour, "[2001:db8::1]:8080");
        // What the kernel forwards goes on.
        assert_eq!(neighbour.tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.2\n");
        engine.start_again();
        assert_eq!(relay_port(), port);
        assert_eq!(neighbour.tcp("[2001:db8::1]:8080").unwrap(), "web 172.17.0.1\n");
        // A client of datagrams need not know.
        assert!(asks());
        let talk = || {
            let mut stream = neighbour.connect("[2001:db8::1]:7").unwrap();
            stream.write_all(b"?").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream
        };
        // A port that goes takes its connections along, and no others.
        let mut flow = talk();
        engine.ok(&["port", "rm", "web", "80", "53/udp"]);
        assert!(!asks(), "datagrams through a port that is gone");
        flow.write_all(b"!").unwrap();
        flow.read_exact(&mut [0]).unwrap();
        engine.ok(&["port", "rm", "web", "7"]);
        let cut = flow.read(&mut [0]).map_err(|err| err.kind());
        assert!(matches!(cut, Ok(0) | Err(ErrorKind::ConnectionReset)), "{cut:?}");
        is_dead(&neighbour, "[2001:db8::1]:7");
        // Another's socket is where the relay was: it takes another port.
        engine.ok(&["port", "add", "web", "7:7"]);
        engine.kill9();
        let thief = lab.here().serve_tcp(&format!("[::]:{port}"), "thief");
        engine.start_again();
        assert_ne!(relay_port(), port);
        drop(talk());
        drop(thief);
    });
}

/// Sends a datagram every few milliseconds from one socket that never pauses, until it is answered with this text.
#[track_caller]
fn until_answered(client: &UdpSocket, with: &str, limit: Duration) -> Duration {
    client.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let started = Instant::now();
    let mut buffer = [0; 256];
    loop {
        // Refusals (ICMP) of earlier ones are what a client meets while nobody is there.
        let _ = client.send(b"?");
        if let Ok(count) = client.recv(&mut buffer)
            && String::from_utf8_lossy(&buffer[..count]).starts_with(with)
        {
            return started.elapsed();
        }
        assert!(started.elapsed() < limit, "no answer {with:?} within {limit:?}");
    }
}

#[test]
fn datagrams_find_a_restarted_container_at_once() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        let clients = ["192.0.2.1:5000", "[2001:db8::1]:5000"].map(|addr| {
            let any = if addr.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let client = neighbour.enter(|| UdpSocket::bind(any)).unwrap();
            client.connect(addr).unwrap();
            client
        });
        let bystander = neighbour.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
        bystander.connect("192.0.2.1:5001").unwrap();
        let beside = run(lab, &engine, "beside", &["-p", "5001:53/udp"]);
        let _beside = beside.serve_udp("0.0.0.0:53", "beside");
        until_answered(&bystander, "beside", Duration::from_secs(2));
        // They send before, between and after: each finds the one that runs now.
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let _ = client.send(b"?");
                        std::thread::sleep(Duration::from_millis(3));
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(50));
            // Another container takes the first address on the way, so that the second life has another one.
            let first = run(lab, &engine, "first", &["-p", "5000:53/udp"]);
            let served = first.serve_udp("0.0.0.0:53", "first");
            for client in &clients {
                until_answered(client, "first", Duration::from_secs(1));
            }
            drop((served, first));
            engine.ok(&["rm", "-f", "first"]);
            std::thread::sleep(Duration::from_millis(50));
            let second = run(lab, &engine, "second", &["-p", "5000:54/udp"]);
            let served = second.serve_udp("0.0.0.0:54", "second");
            for client in &clients {
                until_answered(client, "second", Duration::from_secs(1));
            }
            drop((served, second));
            engine.ok(&["restart", "-t", "0", "second"]);
            let second = lab.container(&engine, "second");
            let _served = second.serve_udp("0.0.0.0:54", "third");
            for client in &clients {
                until_answered(client, "third", Duration::from_secs(1));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        until_answered(&bystander, "beside", Duration::from_millis(500));
    });
}

/// Sends on each connection what it likes, when it likes.
fn talking(web: &Host, port: u16) {
    let listener = web.enter(|| TcpListener::bind(("0.0.0.0", port))).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                while stream.write_all(b"tick").is_ok() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
    });
}

#[test]
fn a_removed_port_is_cut_also_where_the_container_talks_first() {
    lab::alone(|lab| {
        let (engine, neighbour) = world(lab, &[]);
        // The same number inside and outside: what the container sends by itself would look like an answer.
        let web = run(lab, &engine, "web", &["-p", "7000:7000", "-p", "7001:7001"]);
        for port in [7000, 7001] {
            talking(&web, port);
        }
        let here = lab.here();
        let hears = |stream: &mut TcpStream| stream.read_exact(&mut [0; 40]);
        for (who, at) in
            [(&neighbour, "192.0.2.1"), (&here, "127.0.0.1"), (&here, "192.0.2.1"), (&neighbour, "[2001:db8::1]")]
        {
            let connect = |port: u16| who.connect(&format!("{at}:{port}")).unwrap();
            let (mut cut, mut lives) = (connect(7000), connect(7001));
            hears(&mut cut).unwrap();
            hears(&mut lives).unwrap();
            engine.ok(&["port", "rm", "web", "7000"]);
            cut.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            // What was on its way still arrives.
            let ended = (0..10).find_map(|_| hears(&mut cut).err());
            assert!(ended.is_some(), "{} hears the container by {at} after the port is gone", who.name());
            hears(&mut lives).unwrap_or_else(|err| panic!("{} by {at}: {err}", who.name()));
            engine.ok(&["port", "add", "web", "7000:7000"]);
        }
        // Stopped: clients are told at once, and do not wait for somebody who is gone.
        let mut flow = neighbour.connect("192.0.2.1:7001").unwrap();
        hears(&mut flow).unwrap();
        drop(web);
        engine.ok(&["stop", "-t", "0", "web"]);
        let told = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            flow.write_all(b"?").err()
        });
        assert!(told.is_some());
    });
}
