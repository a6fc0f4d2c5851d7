//! The resolver on networks of the user's, and the log of what it is asked; through `berth` and `docker`. What every container
//! finds, whatever network it is on, is in `names.rs`.

use lab::dns::Manner;
use lab::{Engine, Host, Lab, RESOLVER};
use serde_json::Value;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::{Duration, Instant};

const ATTENTIVE: Duration = Duration::from_secs(5);

fn world(lab: &Lab, table: &str) -> (Engine, lab::dns::NameServer) {
    lab.uplink("192.0.2.1/24");
    let outside = lab.host("outside", "192.0.2.53/24");
    let server = outside.serve_dns("192.0.2.53:53", table);
    lab.resolv_conf("nameserver 192.0.2.53\n");
    let engine = lab.engine(&[]);
    engine.load_busybox();
    (engine, server)
}

/// Starts a container that sleeps, by the `docker` command where there is one, and answers its network as a place.
#[track_caller]
fn start(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Host {
    let words = [&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat();
    if lab::has_docker() {
        engine.docker_ok(&words);
    } else {
        engine.ok(&words);
    }
    lab.container(engine, name)
}

fn reverse6(addr: &str) -> String {
    let bits: u128 = addr.parse::<Ipv6Addr>().unwrap().into();
    (0..32).map(|nth| format!("{:x}.", bits >> (4 * nth) & 15)).collect::<String>() + "ip6.arpa PTR"
}

#[test]
fn every_kind_of_question_about_a_member() {
    lab::alone(|lab| {
        let (engine, server) = world(lab, "_http._tcp.web.example SRV web.example; web.example TXT 10");
        engine.ok(&["network", "create", "--ipv6", "--subnet", "10.1.0.0/24", "--subnet", "fd01::/64", "app"]);
        let flags = |four: &'static str, six: &'static str| {
            ["--net", "app", "--network-alias", "store", "-h", "same", "--ip", four, "--ip6", six]
        };
        let one = start(lab, &engine, "one", &flags("10.1.0.11", "fd01::11"));
        start(lab, &engine, "two", &flags("10.1.0.12", "fd01::12"));
        start(lab, &engine, "three", &flags("10.1.0.13", "fd01::13"));
        // Both families, each by itself; and back.
        one.answers("two", "NOERROR 10.1.0.12");
        one.answers("TWO.App AAAA", "NOERROR fd01::12");
        one.answers("12.0.1.10.in-addr.arpa PTR", "NOERROR two.app");
        one.answers(&reverse6("fd01::12"), "NOERROR two.app");
        one.answers(&reverse6("fd01::99"), "NXDOMAIN");
        // A name has all its addresses, each of them first in its turn: aliases and host names alike.
        for name in ["store", "store AAAA"] {
            let orders: Vec<Vec<String>> = (0..6).map(|_| one.ask(name).data).collect();
            for (nth, order) in orders.iter().enumerate() {
                assert_eq!(order.len(), 3, "{name}: {order:?}");
                assert_eq!(order[0], orders[(nth + 3) % 6][0], "{name}: {orders:?}");
                assert_ne!(order[0], orders[(nth + 1) % 6][0], "{name}: {orders:?}");
            }
        }
        // The asker's own name is its own; others find all who are called so.
        one.answers("same", "NOERROR 10.1.0.11");
        let other = start(lab, &engine, "other", &["--net", "app"]);
        assert_eq!(other.ask("same").data.len(), 3);
        // Other types: the name is here, so nothing of it is asked elsewhere.
        for kind in ["MX", "TXT", "SRV", "SOA", "HTTPS", "CAA"] {
            one.answers(&format!("two {kind}"), "NOERROR");
            one.answers(&format!("two.app {kind}"), "NOERROR");
        }
        assert_eq!(server.asked(), [""; 0]);
        assert_eq!((one.ask("two").ttl, one.ask("two").name), (Some(1), "two".to_owned()));
        // Of names that nobody here has, whatever it is.
        one.answers("_http._tcp.web.example SRV", &other.ask("_http._tcp.web.example SRV").to_string());
        one.answers("web.example TXT", "NOERROR 11 bytes");
        one.answers("web.example", "NOERROR");
        one.answers("nobody.example", "NXDOMAIN");
        // By datagram and stream, with EDNS and without.
        for (tcp, edns) in [(false, None), (false, Some(1232)), (true, None), (true, Some(4096))] {
            let reply = one.dns_as(RESOLVER, "two", Manner { tcp, edns }).unwrap();
            assert_eq!((reply.to_string().as_str(), reply.edns), ("NOERROR 10.1.0.12", edns.map(|_| 1232)));
        }
        let conf = engine.ok(&["exec", "one", "cat", "/etc/resolv.conf"]);
        assert!(conf.contains("nameserver 127.0.0.11\n") && conf.contains("options ndots:0\n"), "{conf}");
    })
}

#[test]
fn more_addresses_than_a_datagram_holds() {
    lab::alone(|lab| {
        let (engine, server) = world(lab, "");
        engine.ok(&["network", "create", "app"]);
        let hosts: Vec<String> = (1..=50).map(|n| format!("--add-host=big:10.9.0.{n}")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let one = start(lab, &engine, "one", &[&["--net", "app"], &hosts[..]].concat());
        one.answers("big", "NOERROR truncated");
        for (tcp, edns) in [(false, Some(1232)), (true, None)] {
            assert_eq!(one.dns_as(RESOLVER, "big", Manner { tcp, edns }).unwrap().data.len(), 50);
        }
        one.answers("big AAAA", "NOERROR");
        assert_eq!(server.asked(), [""; 0]);
    })
}

#[test]
fn a_name_on_several_networks_is_the_first_ones() {
    lab::alone(|lab| {
        let (engine, server) = world(lab, "");
        for (name, subnet) in [("app", "10.1.0.0/24"), ("back", "10.2.0.0/24"), ("zone", "10.3.0.0/24")] {
            engine.ok(&["network", "create", "--subnet", subnet, name]);
        }
        for (name, network, addr) in
            [("db1", "app", "10.1.0.9"), ("db2", "back", "10.2.0.9"), ("db3", "zone", "10.3.0.9")]
        {
            start(lab, &engine, name, &["--net", network, "--network-alias", "db", "--ip", addr]);
        }
        let networks = ["--net", "app", "--net", "back", "--net", "name=zone,gw-priority=1"];
        engine.ok(&[&["run", "-d", "--name", "asker"], &networks[..], &["busybox", "sleep", "1000"]].concat());
        let key = engine.ok(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "asker"]);
        let asker = lab.inside_path(Path::new(key.trim()));
        // The one that leads out, then by their names; each by its own.
        asker.answers("db", "NOERROR 10.3.0.9");
        for (name, addr) in [("db.app", "10.1.0.9"), ("db.back", "10.2.0.9"), ("db.zone", "10.3.0.9")] {
            asker.answers(name, &format!("NOERROR {addr}"));
        }
        engine.ok(&["network", "disconnect", "zone", "asker"]);
        asker.answers("db", "NOERROR 10.1.0.9");
        asker.answers("db3", "NXDOMAIN");
        engine.ok(&["stop", "-t", "0", "db1"]);
        asker.answers("db", "NOERROR 10.2.0.9");
        engine.ok(&["network", "disconnect", "back", "asker"]);
        asker.answers("db", "NXDOMAIN");
        assert_eq!(server.asked(), [""; 0]);
    })
}

#[test]
fn ipv6_alone_closed_networks_and_servers_of_ones_own() {
    lab::alone(|lab| {
        let (engine, server) = world(lab, "web.example A 192.0.2.80");
        engine.ok(&["network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd06::/64", "six"]);
        let one = start(lab, &engine, "one", &["--net", "six", "--ip6", "fd06::11"]);
        one.answers("one AAAA", "NOERROR fd06::11");
        one.answers("one", "NOERROR");
        one.answers(&reverse6("fd06::11"), "NOERROR one.six");
        // The host's server is asked from the host, whatever family the container has.
        one.answers("web.example", "NOERROR 192.0.2.80");
        server.forget();
        // Without a way out nobody is asked, unless the user names somebody; here a neighbour.
        engine.ok(&["network", "create", "--internal", "--subnet", "10.5.0.0/24", "vault"]);
        let keeper = start(lab, &engine, "keeper", &["--net", "vault", "--ip", "10.5.0.53"]);
        let inner = keeper.serve_dns("10.5.0.53:53", "web.example A 10.5.0.80");
        let closed = start(lab, &engine, "closed", &["--net", "vault"]);
        closed.answers("web.example", "SERVFAIL");
        closed.answers("keeper", "NOERROR 10.5.0.53");
        let own = start(lab, &engine, "own", &["--net", "vault", "--dns", "10.5.0.53", "--dns-search", "example"]);
        own.answers("web.example", "NOERROR 10.5.0.80");
        own.answers("keeper", "NOERROR 10.5.0.53");
        let out = engine.ok(&["exec", "own", "nslookup", "web"]);
        assert!(out.contains("Address: 10.5.0.80"), "{out}");
        assert_eq!(server.asked(), [""; 0]);
        assert!(inner.askers().iter().all(|peer| peer.ip().to_string().starts_with("10.5.0.")));
    })
}

#[test]
fn a_link_is_another_name_for_one_container_alone() {
    lab::alone(|lab| {
        let (engine, server) = world(lab, "");
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
        start(lab, &engine, "db", &["--net", "app", "--ip", "10.1.0.10", "-e", "SECRET=1", "--expose", "5432"]);
        start(lab, &engine, "far", &["--net", "back", "--ip", "10.2.0.10"]);
        let links = ["--net", "app", "--link", "db:sql", "--link", "later", "--link", "far:away"];
        let one = start(lab, &engine, "one", &links);
        let other = start(lab, &engine, "other", &["--net", "app"]);
        one.answers("sql", "NOERROR 10.1.0.10");
        // For nobody else, for nobody who is not there, and not over to another network.
        other.answers("sql", "NXDOMAIN");
        for name in ["later", "away"] {
            one.answers(name, "NXDOMAIN");
        }
        assert_eq!(server.asked(), [""; 0]);
        // Names alone: no variables, no lines, no way that was not there.
        assert!(!engine.ok(&["exec", "one", "env"]).contains("SQL"));
        assert!(!engine.ok(&["exec", "one", "cat", "/etc/hosts"]).contains("sql"));
        // It follows whoever has the name, also a container that comes after it.
        engine.ok(&["rm", "-f", "db"]);
        one.answers("sql", "NXDOMAIN");
        start(lab, &engine, "db", &["--net", "app", "--ip", "10.1.0.20"]);
        start(lab, &engine, "later", &["--net", "app", "--ip", "10.1.0.30"]);
        one.answers("sql", "NOERROR 10.1.0.20");
        one.answers("later", "NOERROR 10.1.0.30");
        // It comes and goes with the place that it is of.
        engine.ok(&["network", "connect", "--link", "far:away", "back", "one"]);
        one.answers("away", "NOERROR 10.2.0.10");
        let shown = |network: &str| {
            let format = format!("{{{{json .NetworkSettings.Networks.{network}.Links}}}}");
            engine.ok(&["inspect", "-f", &format, "one"]).trim().to_owned()
        };
        assert_eq!(shown("back"), r#"["far:away"]"#);
        assert_eq!(shown("app"), r#"["db:sql","later:later","far:away"]"#);
        engine.ok(&["network", "disconnect", "back", "one"]);
        one.answers("away", "NXDOMAIN");
        engine.kill9();
        engine.start_again();
        lab::wait_for("the resolver", ATTENTIVE, || one.dns(RESOLVER, "sql").ok());
        one.answers("sql", "NOERROR 10.1.0.20");
        let out = engine.berth(&["network", "connect", "--link", "db:sql", "bridge", "other"]);
        let says = "links are only supported for user-defined networks";
        assert!(out.code == 1 && out.stderr.contains(says), "{out:?}");
    })
}

/// How long until a question has this answer, from when `act` has returned: the best of some rounds, for the machine that tests
/// may be busy. `back` undoes it.
#[track_caller]
fn follows(from: &Host, what: &str, wanted: &str, act: impl Fn(), back: impl Fn()) {
    let mut best = Duration::MAX;
    for _ in 0..4 {
        act();
        let since = Instant::now();
        lab::wait_for(wanted, ATTENTIVE, || (from.ask(what).to_string() == wanted).then_some(()));
        best = best.min(since.elapsed());
        back();
        if best < Duration::from_millis(50) {
            return;
        }
    }
    panic!("{what} was {wanted} only after {best:?}");
}

#[test]
fn answers_follow_what_happens_in_less_than_a_twentieth_of_a_second() {
    lab::alone(|lab| {
        let (engine, _server) = world(lab, "");
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        let one = start(lab, &engine, "one", &["--net", "app"]);
        start(lab, &engine, "db", &["--net", "app", "--ip", "10.1.0.10"]);
        start(lab, &engine, "far", &[]);
        engine.ok(&["create", "--name", "later", "--net", "app", "--ip", "10.1.0.30", "busybox", "sleep", "1000"]);
        let run = |words: &'static [&'static str]| {
            let engine = &engine;
            move || drop(engine.ok(words))
        };
        follows(&one, "later", "NOERROR 10.1.0.30", run(&["start", "later"]), run(&["stop", "-t", "0", "later"]));
        follows(&one, "db", "NXDOMAIN", run(&["stop", "-t", "0", "db"]), run(&["start", "db"]));
        follows(&one, "data", "NOERROR 10.1.0.10", run(&["rename", "db", "data"]), run(&["rename", "data", "db"]));
        follows(&one, "db", "NXDOMAIN", run(&["rename", "db", "data"]), run(&["rename", "data", "db"]));
        let join = &["network", "connect", "--ip", "10.1.0.40", "--alias", "near", "app", "far"];
        let leave = &["network", "disconnect", "app", "far"];
        follows(&one, "near", "NOERROR 10.1.0.40", run(join), run(leave));
        engine.ok(join);
        follows(&one, "near", "NXDOMAIN", run(leave), run(join));
        // One that ends by a signal: from when its end was told.
        let die = || {
            engine.ok(&["kill", "db"]);
            engine.ok(&["wait", "db"]);
        };
        follows(&one, "db", "NXDOMAIN", die, run(&["start", "db"]));
    })
}

/// The log as JSON, a value each question.
fn log(engine: &Engine, words: &[&str]) -> Vec<Value> {
    let out = engine.ok(&[&["network", "dns-log", "--format", "json"], words].concat());
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"))).collect()
}

#[test]
fn what_is_asked_can_be_read() {
    lab::alone(|lab| {
        let (engine, server) = world(lab, "web.example A 192.0.2.80; gone.example A 192.0.2.81 1");
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        start(lab, &engine, "db", &["--net", "app", "--ip", "10.1.0.10"]);
        let flags = ["--net", "app", "--ip", "10.1.0.11", "--add-host", "test:10.9.9.9"];
        let web = start(lab, &engine, "web", &flags);
        let deaf = start(lab, &engine, "deaf", &["--net", "app", "--dns", "10.1.0.99"]);
        engine.ok(&["run", "-d", "--name", "guest", "--net", "container:web", "busybox", "sleep", "1000"]);
        for what in ["DB", "web", "test", "10.0.1.10.in-addr.arpa PTR", "absent AAAA", "localhost"] {
            web.ask(what);
        }
        for what in ["web.example", "web.example", "no.example TXT", "gone.example"] {
            web.ask(what);
        }
        server.be_silent(true);
        std::thread::sleep(Duration::from_millis(1100));
        lab::wait_for("an old answer", Duration::from_secs(10), || web.dns(RESOLVER, "gone.example").ok());
        server.be_silent(false);
        let lines = log(&engine, &["web"]);
        let shown = |line: &Value| {
            let field = |name: &str| line[name].as_str().unwrap_or("?").to_owned();
            ["Container", "Name", "Type", "Rcode", "AnsweredBy"].map(field).join(" ")
        };
        let all: Vec<String> = lines.iter().map(shown).collect();
        for (nth, want) in [
            "web db A NOERROR network app",
            "web web A NOERROR own name",
            "web test A NOERROR added host",
            "web 10.0.1.10.in-addr.arpa PTR NOERROR network app",
            "web absent AAAA NXDOMAIN server 192.0.2.53",
            "web localhost A NOERROR rule",
            "web web.example A NOERROR server 192.0.2.53",
            "web web.example A NOERROR cache",
            "web no.example TXT NXDOMAIN server 192.0.2.53",
            "web gone.example A NOERROR server 192.0.2.53",
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(all[nth], *want, "{all:#?}");
        }
        assert!(all.last().unwrap().ends_with("gone.example A NOERROR old cache"), "{all:#?}");
        let micros: Vec<u64> = lines.iter().map(|line| line["Micros"].as_u64().unwrap()).collect();
        assert!(micros[0] < 100_000 && *micros.last().unwrap() > 10_000, "{micros:?}");
        let times: Vec<&str> = lines.iter().map(|line| line["Time"].as_str().unwrap()).collect();
        assert!(times.is_sorted() && times[0].starts_with("20") && times[0].ends_with('Z'), "{times:?}");
        // Who shares its network asks from there; all together; and as people read it.
        assert_eq!(log(&engine, &["guest"]).len(), lines.len());
        deaf.ask("db");
        let everybody: Vec<String> = log(&engine, &[]).iter().map(shown).collect();
        assert!(
            everybody.len() == lines.len() + 1 && everybody.last().unwrap().starts_with("deaf db A"),
            "{everybody:?}"
        );
        let text = engine.ok(&["network", "dns-log", "deaf"]);
        assert!(text.contains(" deaf db A: NOERROR by network app in ") && text.lines().count() == 1, "{text}");
        assert_eq!(engine.ok(&["network", "dns-log", "--format", "{{.Name}}", "deaf"]), "db\n");
        // What comes, as it comes, and of nobody else.
        let following = engine.spawn(&["network", "dns-log", "-f", "--format", "{{.Name}}", "deaf"]);
        lab::wait_for("the past", ATTENTIVE, || (following.stdout() == "db\n").then_some(()));
        web.ask("db");
        deaf.ask("two.localhost AAAA");
        deaf.ask("web");
        lab::wait_for("the news", ATTENTIVE, || (following.stdout() == "db\ntwo.localhost\nweb\n").then_some(()));
        drop(following);
        // Of each only the last are kept, however many it asks, and others' stay.
        for n in 0..150 {
            web.ask(&format!("n{n}.localhost"));
        }
        let lines = log(&engine, &["web"]);
        assert_eq!((lines.len(), &lines[0]["Name"]), (100, &"n50.localhost".into()));
        assert_eq!(log(&engine, &["deaf"]).len(), 3);
        // Another name shows at once; who asks nobody here is told so.
        engine.ok(&["rename", "deaf", "dumb"]);
        assert_eq!(log(&engine, &["dumb"])[0]["Container"], "dumb");
        engine.ok(&["run", "-d", "--name", "open", "--net", "host", "busybox", "sleep", "1000"]);
        // Who follows one that stops has heard all.
        let mut following = engine.spawn(&["network", "dns-log", "-f", "--format", "{{.Type}}", "dumb"]);
        lab::wait_for("the past", ATTENTIVE, || (following.stdout().lines().count() == 3).then_some(()));
        engine.ok(&["stop", "-t", "0", "dumb"]);
        assert_eq!(following.wait(ATTENTIVE).code, 0);
        for (name, says) in [
            ("open", "container open asks no questions here: it does not run, or is on no network of berth's"),
            ("dumb", "container dumb asks no questions here"),
            ("nope", "No such container: nope"),
        ] {
            let out = engine.berth(&["network", "dns-log", name]);
            assert!(out.code == 1 && out.stderr.contains(says), "{out:?}");
        }
    })
}
