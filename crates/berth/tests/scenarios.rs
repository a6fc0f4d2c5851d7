//! The classic scenarios of container networks that no other file has by their numbers, each by `berth` and by `docker`:
//! S4 to S8 and S11 (what a bridge and an open container are), S24 to S36 (published ports, and who is kept apart).
//! S1 to S3 and S10 are in `four_kinds`, S9 is `matrix`, S44 to S50 are in `joined`.

use lab::{Ask, Engine, Host, Lab, Output};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// One of the two clients.
struct Client<'a> {
    name: &'static str,
    engine: &'a Engine,
}

impl Client<'_> {
    fn say(&self, words: &[&str]) -> Output {
        if self.name == "docker" { self.engine.docker(words) } else { self.engine.berth(words) }
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let out = self.say(words);
        assert_eq!(out.code, 0, "{} {words:?}: {out:?}", self.name);
        out.stdout
    }

    /// Starts a container that sleeps, with these flags; its place.
    #[track_caller]
    fn run(&self, lab: &Lab, name: &str, flags: &[&str]) -> Host {
        self.ok(&[&["run", "-d", "--name", name][..], flags, &["busybox", "sleep", "1000"]].concat());
        lab.inside_pid(self.told(name, "{{.State.Pid}}").parse().expect("a pid is a number"))
    }

    #[track_caller]
    fn told(&self, name: &str, what: &str) -> String {
        self.ok(&["inspect", "-f", what, name]).trim().to_owned()
    }

    #[track_caller]
    fn address(&self, name: &str) -> Ipv4Addr {
        let addr = self.told(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
        addr.parse().unwrap_or_else(|_| panic!("{name} has {addr:?}"))
    }
}

/// Each client that there is, one after the other.
fn each_client(engine: &Engine, scenario: impl Fn(&Client)) {
    scenario(&Client { name: "berth", engine });
    if lab::has_docker() {
        scenario(&Client { name: "docker", engine });
    } else {
        println!("no docker command here: berth alone is judged");
    }
}

/// The engine's host has two addresses on a segment, and a neighbour there who knows the way to containers.
fn world(lab: &Lab, flags: &[&str]) -> (Engine, Host) {
    lab.uplink("192.0.2.1/24 192.0.2.32/24");
    let outside = lab.host("outside", "192.0.2.2/24");
    outside.route("172.16.0.0/12 via 192.0.2.1");
    let engine = lab.engine(flags);
    engine.load_busybox();
    (engine, outside)
}

/// The number before a link's name and the one after its `@if`.
fn numbers(line: &str) -> (u32, u32) {
    let mut words = line.split(':');
    let own = words.next().and_then(|word| word.trim().parse().ok());
    let other = words.next().and_then(|name| name.split("@if").nth(1)).and_then(|word| word.trim().parse().ok());
    own.zip(other).unwrap_or_else(|| panic!("no pair of numbers in {line:?}"))
}

#[test]
fn s4_to_s7_containers_are_behind_a_bridge_that_routes() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab, &[]);
        each_client(&engine, |client| {
            let names = ["one", "two", "three"];
            let places = names.map(|name| client.run(lab, name, &[]));
            // S4: an address of one's own.
            let addrs: BTreeSet<Ipv4Addr> = names.iter().map(|name| client.address(name)).collect();
            assert_eq!(addrs.len(), 3, "{addrs:?}");
            let gate = Ipv4Addr::new(172, 17, 0, 1);
            assert!(addrs.iter().all(|addr| addr.octets()[..2] == [172, 17] && *addr != gate), "{addrs:?}");
            // S6: a pair for each, whose ends know each other.
            let ports = lab.here().ok(&["ip", "-o", "link", "show", "master", "berth0"]);
            let ports: BTreeSet<(u32, u32)> = ports.lines().map(numbers).collect();
            let inner = places.each_ref().map(|place| numbers(&place.ok(&["ip", "-o", "link", "show", "dev", "eth0"])));
            let inner: BTreeSet<(u32, u32)> = inner.into_iter().map(|(own, other)| (other, own)).collect();
            assert_eq!(ports, inner, "{}", client.name);
            // S5: unseen from outside, though the way is known.
            for addr in &addrs {
                assert!(outside.try_ping(&addr.to_string(), Duration::from_millis(300)).is_err(), "{addr} is seen");
                assert!(lab.here().ping(&addr.to_string()), "S7: the host does not reach {addr}");
            }
            // S7: the bridge is the way out, and outside it is the host who speaks.
            let heard = outside.serve_udp("192.0.2.2:7", "outside");
            for name in names {
                assert_eq!(client.say(&["exec", name, "ping", "-c", "1", "-w", "2", "172.17.0.1"]).code, 0);
                assert_eq!(client.say(&["exec", name, "ping", "-c", "1", "-w", "2", "192.0.2.2"]).code, 0);
            }
            assert!(places[0].udp("192.0.2.2:7", "?").expect("an answer").contains("192.0.2.1"));
            assert!(heard.peers().iter().all(|peer| peer.ip().to_string() == "192.0.2.1"));
            client.ok(&[&["rm", "-f"][..], &names].concat());
            // A namespace that somebody is in does not go.
            drop(places);
            lab::wait_for("the end of the pairs", Duration::from_secs(3), || {
                lab.here().ok(&["ip", "-o", "link", "show", "master", "berth0"]).is_empty().then_some(())
            });
        });
    });
}

#[test]
fn s8_it_is_the_host_that_keeps_containers_apart() {
    lab::alone(|lab| {
        let (engine, _) = world(lab, &["--icc=false"]);
        let client = Client { name: "berth", engine: &engine };
        let (one, _two) = (client.run(lab, "one", &[]), client.run(lab, "two", &[]));
        let two = client.address("two").to_string();
        assert!(!one.ping(&two), "with all that the engine made");
        // Without it, what is left is namespaces.
        engine.kill9();
        for family in ["inet", "bridge"] {
            lab.here().ok(&["nft", "delete", "table", family, "berth"]);
        }
        let ports = lab.here().ok(&["ip", "-o", "link", "show", "master", "berth0"]);
        for port in ports.lines().filter_map(|line| line.split(':').nth(1)?.trim().split('@').next()) {
            lab.here().ok(&["bridge", "link", "set", "dev", port, "isolated", "off"]);
        }
        assert!(one.ping(&two), "without all that the engine made");
        engine.start_again();
        lab::wait_for("containers to be kept apart again", Duration::from_secs(5), || {
            one.try_ping(&two, Duration::from_millis(300)).is_err().then_some(())
        });
    });
}

#[test]
fn s11_an_open_container_has_the_hosts_low_ports() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab, &[]);
        each_client(&engine, |client| {
            let listen = ["busybox", "nc", "-ll", "-p", "80", "-e", "echo", client.name];
            client.ok(&[&["run", "-d", "--name", "open", "--net", "host"][..], &listen].concat());
            let said = lab::wait_for("port 80", Duration::from_secs(5), || outside.tcp("192.0.2.1:80").ok());
            assert_eq!(said.trim(), client.name);
            client.ok(&["rm", "-f", "open"]);
        });
    });
}

/// The host's port in a line of `port`, as in `3333/tcp -> 0.0.0.0:49153`.
fn host_port(line: &str) -> u16 {
    let port = line.trim().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or_else(|| panic!("no port in {line:?}"))
}

#[test]
fn s24_to_s30_the_forms_of_publishing() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab, &[]);
        let reaches = |addr: &str| outside.tcp(addr).ok();
        each_client(&engine, |client| {
            // S24: nothing is published, nothing is reached.
            let plain = client.run(lab, "plain", &[]);
            let _plain = plain.serve_tcp("0.0.0.0:3333", "plain");
            assert_eq!(reaches(&format!("{}:3333", client.address("plain"))), None);
            assert_eq!(reaches("192.0.2.1:3333"), None);
            client.ok(&["rm", "-f", "plain"]);
            // S25: two spellings; S26 to S29: the four forms; S30: many of them.
            let two = "--publish=192.0.2.32:1111:1111";
            let flags = ["-p", "5555", "--publish", "3333:3333", "-p", "192.0.2.32::2222", two, "-p", "6666/udp"];
            let web = client.run(lab, "web", &flags);
            let _served = ["1111", "2222", "3333", "5555"].map(|port| web.serve_tcp(&format!("0.0.0.0:{port}"), port));
            let _udp = web.serve_udp("0.0.0.0:6666", "6666");
            let port = |inner: &str| client.ok(&["port", "web", inner]).lines().next().unwrap_or_default().to_owned();
            let any = host_port(&port("5555"));
            for (addr, inner) in [
                (format!("192.0.2.1:{any}"), "5555"),
                (format!("192.0.2.32:{any}"), "5555"),
                ("192.0.2.1:3333".into(), "3333"),
                ("192.0.2.32:3333".into(), "3333"),
                (port("2222"), "2222"),
                ("192.0.2.32:1111".into(), "1111"),
            ] {
                let said = reaches(&addr).unwrap_or_else(|| panic!("{}: {addr} is not reached", client.name));
                assert_eq!(said, format!("{inner} 192.0.2.2\n"), "{}: {addr}", client.name);
            }
            let said = outside.udp(&format!("192.0.2.1:{}", host_port(&port("6666/udp"))), "?").expect("an answer");
            assert_eq!(said, "6666 192.0.2.2\n");
            assert!(port("2222").starts_with("192.0.2.32:"), "{}", port("2222"));
            for addr in ["192.0.2.1:1111".to_owned(), format!("192.0.2.1:{}", host_port(&port("2222")))] {
                assert_eq!(reaches(&addr), None, "{addr} is another address");
            }
            client.ok(&["rm", "-f", "web"]);
        });
    });
}

#[test]
fn s31_to_s34_what_an_image_exposes() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab, &[]);
        engine.ok(&["create", "--name", "mould", "busybox", "true"]);
        engine.ok(&["commit", "--change", "EXPOSE 5000 6000 7000", "mould", "exposing"]);
        each_client(&engine, |client| {
            let start = |name: &str, flags: &[&str]| {
                client.ok(&[&["run", "-d", "--name", name][..], flags, &["exposing", "sleep", "1000"]].concat());
                client.ok(&["port", name])
            };
            let dawson = start("dawson", &["-p", "5000", "-p", "6000", "-p", "7000"]);
            let woolery = start("woolery", &["-P"]);
            let philbin = start("philbin", &["--expose", "8000", "--publish-all"]);
            let inner = |text: &str| -> Vec<String> {
                text.lines().filter_map(|line| Some(line.split_once(" -> 0.0.0.0:")?.0.to_owned())).collect()
            };
            // S31: the same ports either way. S32, S33: and one more, a line for each, in order.
            assert_eq!(inner(&dawson), ["5000/tcp", "6000/tcp", "7000/tcp"]);
            assert_eq!(inner(&dawson), inner(&woolery));
            assert_eq!(inner(&philbin), ["5000/tcp", "6000/tcp", "7000/tcp", "8000/tcp"]);
            let numbers: BTreeSet<u16> =
                [&dawson, &woolery, &philbin].into_iter().flat_map(|text| text.lines().map(host_port)).collect();
            assert_eq!(numbers.len(), 10, "a number for each: {dawson}{woolery}{philbin}");
            // S34: three ways to ask, one answer.
            for (name, text) in [("dawson", &dawson), ("woolery", &woolery), ("philbin", &philbin)] {
                let column = client.ok(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"]);
                let column: BTreeSet<&str> =
                    column.trim().split(", ").filter(|part| part.starts_with("0.0.0.0")).collect();
                let ports = client.told(name, "{{json .NetworkSettings.Ports}}");
                let ports: serde_json::Value = serde_json::from_str(&ports).expect("JSON");
                let lines: Vec<(&str, u16)> = text
                    .lines()
                    .filter(|line| line.contains("0.0.0.0"))
                    .map(|line| (line.split(' ').next().unwrap_or_default(), host_port(line)))
                    .collect();
                let shown: BTreeSet<String> = lines.iter().map(|(of, port)| format!("0.0.0.0:{port}->{of}")).collect();
                assert_eq!(column, shown.iter().map(String::as_str).collect(), "{name}");
                for (of, port) in lines {
                    assert_eq!(ports[of][0]["HostPort"], port.to_string(), "{name} {of}: {ports}");
                }
            }
            let place = lab.inside_pid(client.told("philbin", "{{.State.Pid}}").parse().expect("a pid is a number"));
            let _served = place.serve_tcp("0.0.0.0:8000", "philbin");
            let last = host_port(philbin.lines().rfind(|line| line.starts_with("8000")).unwrap_or_default());
            assert_eq!(outside.tcp(&format!("192.0.2.1:{last}")).expect("an answer"), "philbin 192.0.2.2\n");
            client.ok(&["rm", "-f", "dawson", "woolery", "philbin"]);
        });
    });
}

/// The engine as it was started in Docker's first years: `berth -d FLAGS`. It is killed when the guard goes.
struct OldSpelling(std::process::Child);

impl OldSpelling {
    fn start(engine: &Engine) -> OldSpelling {
        let usual = engine.daemon_command();
        let flags = usual.get_args().skip_while(|word| *word == "daemon");
        let child = Command::new(usual.get_program()).arg("-d").args(flags).stdin(Stdio::null()).spawn();
        let child = child.expect("the engine is started");
        lab::wait_for("the engine's answer", Duration::from_secs(20), || {
            let answer = lab::http::request(&engine.socket(), "GET", "/_ping", &[], b"").ok()?;
            (answer.status == 200).then_some(())
        });
        OldSpelling(child)
    }
}

impl Drop for OldSpelling {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn s35_and_s36_containers_reach_each_other_unless_the_daemon_says_no() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab, &[]);
        let _outside = outside.serve_tcp("192.0.2.2:7", "outside");
        let check = |engine: &Engine, icc: bool| {
            each_client(engine, |client| {
                let (one, two) = (client.run(lab, "one", &[]), client.run(lab, "two", &[]));
                // A port that nobody exposed.
                let _served = one.serve_tcp("0.0.0.0:7", "one");
                let one = client.address("one");
                let tcp = |addr: Ipv4Addr| Ask::Tcp((addr, 7).into());
                let asks = [
                    (Ask::Echo(one.into()), icc),
                    (tcp(one), icc),
                    (tcp(Ipv4Addr::new(192, 0, 2, 2)), true),
                    (Ask::Echo(Ipv4Addr::new(192, 0, 2, 2).into()), true),
                    (Ask::Echo(Ipv4Addr::new(172, 17, 0, 1).into()), true),
                ];
                let answers = two.sweep(&asks.map(|(ask, _)| ask), Duration::from_secs(1));
                for ((ask, wanted), answer) in asks.into_iter().zip(answers) {
                    assert_eq!(answer.is_some(), wanted, "{}, icc {icc}: {ask:?}", client.name);
                }
                client.ok(&["rm", "-f", "one", "two"]);
            });
        };
        check(&engine, true);
        engine.stop();
        let apart = lab.engine(&["--icc=false"]);
        apart.stop();
        let _daemon = OldSpelling::start(&apart);
        apart.load_busybox();
        check(&apart, false);
    });
}
