//! The rules of `docs/firewall.md`, taken from there: they do what the page says, beside berth's own, and outlive whatever
//! happens to those.

use lab::{Engine, Host, Lab, probe};
use std::time::Duration;

/// The page's rules of this name.
fn example(table: &str) -> String {
    let page = include_str!("../../../docs/firewall.md");
    let blocks = page.split("```nft\n").skip(1).filter_map(|rest| rest.split("```").next());
    let head = format!("table inet {table} {{");
    blocks
        .into_iter()
        .find(|block| block.starts_with(&head))
        .unwrap_or_else(|| panic!("no {head} in the page"))
        .to_owned()
}

fn load(lab: &Lab, table: &str) {
    let file = lab.dir().join(table);
    std::fs::write(&file, example(table)).expect("a file in the lab");
    lab.here().ok(&["nft", "-f", file.to_str().expect("a text")]);
}

struct World {
    engine: Engine,
    /// In the network that the examples favour.
    friend: Host,
    /// In another.
    stranger: Host,
}

fn world(lab: &Lab) -> World {
    lab.uplink_on("lan", "eth0", "192.0.2.1/24 198.51.100.1/24 2001:db8::1/64 2001:db8:1::1/64");
    let friend = lab.host("friend", "192.0.2.2/24 192.0.2.66/24 2001:db8::2/64");
    let stranger = lab.host("stranger", "198.51.100.2/24 2001:db8:1::2/64");
    let engine = lab.engine(&[]);
    engine.load_busybox();
    World { engine, friend, stranger }
}

fn container(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Host {
    engine.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", name]);
    lab.inside_pid(pid.trim().parse().expect("a pid is a number"))
}

/// Who reaches what, asked at once, for a refusal takes a probe's whole patience.
#[track_caller]
fn reached(what: &str, probes: &[(&Host, &str, bool)]) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let asked = probes.iter().map(|(host, addr, wanted)| {
            let (udp, addr) = addr.strip_prefix("udp ").map_or((false, *addr), |addr| (true, addr));
            // Long enough to tell that nobody answers.
            let patience = if *wanted { probe::PATIENCE } else { Duration::from_millis(700) };
            let to = addr.parse().expect(addr);
            let ask = move || if udp { probe::udp(to, "?", patience) } else { probe::tcp(to, patience) };
            let probe = scope.spawn(move || host.enter(ask).is_ok());
            (host, addr, wanted, probe)
        });
        let asked: Vec<_> = asked.collect();
        let wrong = asked.into_iter().filter_map(|(host, addr, wanted, probe)| {
            let got = probe.join().expect("a probe does not panic");
            (got != *wanted).then(|| format!("{} to {addr}: {got}", host.name()))
        });
        wrong.collect()
    });
    assert!(wrong.is_empty(), "{what}: {wrong:?}");
}

/// Asks the same after everything that could touch somebody else's rules.
fn whatever_happens(lab: &Lab, engine: &Engine, table: &str, ask: impl Fn(&str)) {
    let shown = || lab.here().ok(&["nft", "-s", "list", "table", "inet", table]);
    let rules = shown();
    ask("loaded");
    let _other = container(lab, engine, "other", &["-p", "9090:90"]);
    ask("another container was started");
    lab.here().ok(&["nft", "delete", "table", "inet", "berth"]);
    lab::wait_for("berth's own table", Duration::from_secs(5), || {
        lab.here().ok(&["nft", "list", "tables"]).contains("table inet berth").then_some(())
    });
    ask("berth's table was deleted");
    engine.stop();
    engine.start_again();
    ask("the engine was started again");
    engine.ok(&["rm", "-f", "other"]);
    assert_eq!(shown(), rules);
}

#[test]
fn a_port_can_be_for_some_only() {
    lab::alone(|lab| {
        let World { engine, friend, stranger } = world(lab);
        let (web, two) =
            (container(lab, &engine, "web", &["-p", "8080:80", "-p", "81:80"]), container(lab, &engine, "two", &[]));
        let _web = web.serve_tcp("0.0.0.0:80", "web");
        let here = lab.here();
        load(lab, "only_some");
        let ask = |when: &str| {
            let probes = [
                (&friend, "192.0.2.1:8080", true),
                (&stranger, "198.51.100.1:8080", false),
                (&stranger, "192.0.2.1:8080", false),
                (&stranger, "198.51.100.1:81", true),
                // Relayed by the engine, for the container has no IPv6.
                (&friend, "[2001:db8::1]:8080", true),
                (&stranger, "[2001:db8:1::1]:8080", false),
                (&stranger, "[2001:db8:1::1]:81", true),
                (&two, "192.0.2.1:8080", true),
                (&here, "127.0.0.1:8080", true),
            ];
            reached(when, &probes);
        };
        stranger.route("192.0.2.0/24 via 198.51.100.1");
        whatever_happens(lab, &engine, "only_some", ask);
    });
}

#[test]
fn a_client_can_be_unwanted_and_others_held_back() {
    lab::alone(|lab| {
        let World { engine, friend, stranger } = world(lab);
        let web = container(lab, &engine, "web", &["-p", "8080:80", "-p", "81:80"]);
        let (_web, _echo) = (web.serve_tcp("0.0.0.0:80", "web"), web.serve_echo("0.0.0.0:7"));
        engine.ok(&["port", "add", "web", "7:7"]);
        load(lab, "manners");
        // The friend's second address.
        friend.ok(&["ip", "route", "add", "198.51.100.1/32", "dev", "eth0", "src", "192.0.2.66"]);
        let ask = |when: &str| {
            reached(when, &[(&friend, "198.51.100.1:81", false), (&friend, "192.0.2.1:81", true)]);
        };
        whatever_happens(lab, &engine, "manners", ask);
        let quick = |_| stranger.tcp("198.51.100.1:8080").is_ok();
        assert_eq!([1, 2, 3].map(quick), [true; 3], "three at once");
        assert!(!quick(4), "a fourth at once");
        reached("others", &[(&friend, "192.0.2.1:8080", true), (&stranger, "198.51.100.1:81", true)]);
        // Whoever becomes unwanted is cut off in the middle.
        let mut flow = stranger.connect("198.51.100.1:7").expect("an echo server");
        let mut says = || {
            use std::io::{Read, Write};
            flow.write_all(b"?").and_then(|()| flow.read_exact(&mut [0])).is_ok()
        };
        assert!(says());
        lab.here().ok(&["nft", "add", "element", "inet", "manners", "unwanted", "{ 198.51.100.0/24 }"]);
        assert!(!says());
    });
}

#[test]
fn all_ports_can_be_closed_but_those_of_a_list() {
    lab::alone(|lab| {
        let World { engine, friend, .. } = world(lab);
        let flags = ["-p", "8080:80", "-p", "8081:80", "-p", "53:53/udp", "-p", "54:53/udp"];
        let (web, two) = (container(lab, &engine, "web", &flags), container(lab, &engine, "two", &[]));
        let (_web, _dns) = (web.serve_tcp("0.0.0.0:80", "web"), web.serve_udp("0.0.0.0:53", "dns"));
        let here = lab.here();
        load(lab, "listed");
        let ask = |when: &str| {
            let probes = [
                (&friend, "192.0.2.1:8080", true),
                (&friend, "192.0.2.1:8081", false),
                (&friend, "udp 192.0.2.1:53", true),
                (&friend, "udp 192.0.2.1:54", false),
                (&friend, "[2001:db8::1]:8080", true),
                (&friend, "[2001:db8::1]:8081", false),
                (&here, "127.0.0.1:8081", true),
                (&here, "[::1]:8081", true),
                (&two, "192.0.2.1:8081", true),
            ];
            reached(when, &probes);
        };
        whatever_happens(lab, &engine, "listed", ask);
    });
}

#[test]
fn a_port_can_be_closed_to_the_host_itself() {
    lab::alone(|lab| {
        let World { engine, friend, .. } = world(lab);
        let db = container(lab, &engine, "db", &["-p", "5432:80", "-p", "81:80"]);
        let _db = db.serve_tcp("0.0.0.0:80", "db");
        let here = lab.here();
        load(lab, "not_this_host");
        let ask = |when: &str| {
            let probes = [
                (&here, "127.0.0.1:5432", false),
                (&here, "192.0.2.1:5432", false),
                (&here, "127.0.0.1:81", true),
                (&friend, "192.0.2.1:5432", true),
            ];
            reached(when, &probes);
        };
        whatever_happens(lab, &engine, "not_this_host", ask);
    });
}
