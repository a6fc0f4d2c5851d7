//! What the engine does without where it is told to: its firewall, forwarding, the host's address for what leaves.

use lab::{Engine, Host, Lab};
use std::time::Duration;

fn world(lab: &Lab) -> Host {
    lab.uplink("192.0.2.1/24 2001:db8::1/64");
    let friend = lab.host("friend", "192.0.2.2/24 2001:db8::2/64");
    friend.route("172.17.0.0/16 via 192.0.2.1");
    friend
}

fn container(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Host {
    engine.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", name]);
    lab.inside_pid(pid.trim().parse().expect("a pid is a number"))
}

/// Both commands refuse, saying this; nothing but a container that was made is left.
#[track_caller]
fn refused(engine: &Engine, words: &[&str], says: &str) {
    let docker = lab::has_docker().then(|| engine.docker(words));
    for out in [engine.berth(words)].into_iter().chain(docker) {
        assert!(out.code != 0 && out.stderr.contains(says), "{words:?}: wanted {says:?}, got {out:?}");
    }
}

fn tables(lab: &Lab) -> String {
    lab.here().ok(&["nft", "list", "tables"])
}

#[test]
fn without_the_firewall_there_are_no_rules_and_ports_are_relayed() {
    lab::alone(|lab| {
        let friend = world(lab);
        let file = lab.dir().join("daemon.json");
        let settings = |text: &str| std::fs::write(&file, text).expect("a file in the lab");
        settings(r#"{"iptables": false, "ip6tables": false}"#);
        let engine = lab.engine(&["--config-file", file.to_str().expect("a text")]);
        engine.load_busybox();
        let (one, two) = (container(lab, &engine, "one", &[]), container(lab, &engine, "two", &[]));
        assert_eq!(tables(lab), "");
        let localnet = || lab.here().enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/berth0/route_localnet"));
        assert_eq!(localnet().expect("a sysctl").trim(), "0", "nothing would keep others from using it");
        // Neighbours reach each other, and others as far as routes lead back: nothing is translated, nothing is refused.
        let (_one, _friend) = (one.serve_tcp("0.0.0.0:80", "one"), friend.serve_tcp("192.0.2.2:7", "friend"));
        assert_eq!(two.tcp("172.17.0.2:80").expect("a neighbour"), "one 172.17.0.3\n");
        assert_eq!(two.tcp("192.0.2.2:7").expect("a host outside"), "friend 172.17.0.3\n");
        assert_eq!(friend.tcp("172.17.0.2:80").expect("the container itself"), "one 192.0.2.2\n");
        // Ports are relayed, and held as ever; the container sees the host's address.
        engine.ok(&["port", "add", "one", "8080:80", "192.0.2.1:53:53/udp"]);
        let _dns = one.serve_udp("0.0.0.0:53", "dns");
        let ways = |host: &Host, addr: &str| host.tcp(addr).unwrap_or_else(|err| panic!("{addr}: {err}"));
        for addr in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            assert_eq!(ways(&friend, addr), "one 172.17.0.1\n", "{addr}");
        }
        for addr in ["127.0.0.1:8080", "[::1]:8080", "192.0.2.1:8080"] {
            assert_eq!(ways(&lab.here(), addr), "one 172.17.0.1\n", "{addr}");
        }
        assert_eq!(ways(&two, "192.0.2.1:8080"), "one 172.17.0.1\n", "a neighbour");
        assert_eq!(ways(&one, "172.17.0.1:8080"), "one 172.17.0.1\n", "itself");
        assert_eq!(friend.udp("192.0.2.1:53", "?").expect("a relayed datagram"), "dns 172.17.0.1\n");
        refused(&engine, &["run", "-d", "-p", "8080:80", "busybox", "sleep", "1"], "port is already allocated");
        let sctp = "without firewall rules it has to relay what comes, which it does for TCP and UDP only";
        refused(&engine, &["run", "-d", "-p", "9:9/sctp", "busybox", "sleep", "1"], sctp);
        // Long ranges too, which are else only tried; and what is given back is free at once.
        for _ in 0..3 {
            let range = container(lab, &engine, "range", &["-p", "20000-20099:20000-20099/udp", "-p", "81:81"]);
            let _last = range.serve_udp("0.0.0.0:20099", "last");
            assert_eq!(friend.udp("192.0.2.1:20099", "?").expect("the last of a range"), "last 172.17.0.1\n");
            engine.ok(&["rm", "-f", "range"]);
        }
        engine.ok(&["port", "rm", "one", "53/udp"]);
        assert!(friend.udp("192.0.2.1:53", "?").is_err());
        engine.kill9();
        assert!(friend.tcp("192.0.2.1:8080").is_err(), "nobody relays while the engine is down");
        engine.start_again();
        assert_eq!(ways(&friend, "192.0.2.1:8080"), "one 172.17.0.1\n", "the engine is back");
        let only = "only its firewall rules can do that";
        refused(&engine, &["network", "create", "--internal", "vault"], only);
        refused(&engine, &["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart"], only);
        refused(&engine, &["network", "inspect", "vault"], "not found");
        // What runs is protected as soon as the engine may, and no longer when it may not.
        engine.stop();
        settings("{}");
        engine.start_again();
        assert_eq!(tables(lab), "table inet berth\ntable bridge berth\n");
        assert!(friend.tcp("172.17.0.2:80").is_err(), "by a direct route");
        assert_eq!(two.tcp("192.0.2.2:7").expect("a host outside"), "friend 192.0.2.1\n");
        assert_eq!(ways(&friend, "192.0.2.1:8080"), "one 192.0.2.2\n", "by rules");
        engine.ok(&["network", "create", "--internal", "vault"]);
        engine.stop();
        settings(r#"{"iptables": false}"#);
        engine.start_again();
        assert_eq!(ways(&friend, "192.0.2.1:8080"), "one 172.17.0.1\n", "relayed again");
        assert_eq!(friend.tcp("172.17.0.2:80").expect("IPv4, which is left alone again"), "one 192.0.2.2\n");
        let warnings = engine.ok(&["info", "-f", "{{json .Warnings}}"]);
        assert!(warnings.contains("network vault is internal, which only rules can do"), "{warnings}");
    });
}

/// What keeps the containers of a bridge apart there works without rules, and what makes exceptions for links does not.
#[test]
fn links_of_containers_that_are_kept_apart_need_the_firewall() {
    lab::alone(|lab| {
        // Containers that run through it keep the network of before.
        let file = lab.dir().join("daemon.json");
        let settings = |text: &str| std::fs::write(&file, text).expect("a file in the lab");
        settings(r#"{"icc": false, "ipv6": true}"#);
        let engine = lab.engine(&["--config-file", file.to_str().expect("a text")]);
        engine.load_busybox();
        let db = container(lab, &engine, "db", &["--expose", "80"]);
        let web = container(lab, &engine, "web", &["--link", "db:db"]);
        let _served = [db.serve_tcp("[::]:80", "db"), db.serve_tcp("[::]:81", "db"), web.serve_tcp("[::]:80", "web")];
        let addr = |name: &str, field: &str| {
            engine
                .ok(&["inspect", "-f", &format!("{{{{.NetworkSettings.Networks.bridge.{field}}}}}"), name])
                .trim()
                .to_owned()
        };
        let addrs = |of: &str| [addr(of, "IPAddress"), format!("[{}]", addr(of, "GlobalIPv6Address"))];
        let (to_db, to_web) = (addrs("db"), addrs("web"));
        // By family: to the port of the link, to another, and back; side by side, for what is closed takes its time.
        let reached = || {
            let asks = [0, 1]
                .map(|family| [(&web, &to_db[family], 80), (&web, &to_db[family], 81), (&db, &to_web[family], 80)]);
            std::thread::scope(|scope| {
                let ask = |(from, addr, port): (&Host, &String, u16)| {
                    let (from, addr) = (from.clone(), format!("{addr}:{port}"));
                    scope.spawn(move || from.tcp(&addr).is_ok())
                };
                asks.map(|family| family.map(ask))
                    .map(|family| family.map(|one| one.join().expect("a probe does not panic")))
            })
        };
        let open = [true, false, false];
        let closed = [false; 3];
        assert_eq!(reached(), [open, open]);
        for (text, flag, wanted) in [
            (r#"{"iptables": false, "ipv6": true}"#, "iptables", [closed, open]),
            (r#"{"ip6tables": false, "ipv6": true}"#, "ip6tables", [open, closed]),
            (r#"{"iptables": false, "ip6tables": false, "ipv6": true}"#, "iptables", [closed, closed]),
        ] {
            engine.stop();
            settings(text);
            engine.start_again();
            assert_eq!(reached(), wanted, "{text}");
            let says = format!("kept apart since before the engine was started with --{flag}=false");
            refused(&engine, &["run", "--link", "db:db", "busybox", "true"], &says);
            // The rest of it goes on.
            engine.ok(&["run", "--rm", "busybox", "true"]);
        }
        // Nobody is left on it: it is made anew, as the engine is told now.
        engine.ok(&["rm", "-f", "db", "web"]);
        engine.stop();
        engine.start_again();
        let db = container(lab, &engine, "db", &["--expose", "80"]);
        let web = container(lab, &engine, "web", &["--link", "db:db"]);
        let _served = db.serve_tcp("[::]:81", "db");
        assert!(web.tcp(&format!("{}:81", addr("db", "IPAddress"))).is_ok());
    });
}

#[test]
fn each_family_has_a_firewall_of_its_own() {
    lab::alone(|lab| {
        let friend = world(lab);
        friend.route("fd00:7::/64 via 2001:db8::1");
        let engine = lab.engine(&["--ip6tables=false", "--ipv6", "--fixed-cidr-v6", "fd00:7::/64"]);
        engine.load_busybox();
        let web = container(lab, &engine, "web", &["-p", "8080:80"]);
        let _web = web.serve_tcp("[::]:80", "web");
        assert_eq!(engine.ok(&["port", "web"]), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
        assert!(friend.tcp("192.0.2.1:8080").expect("a published port").starts_with("web "));
        assert!(friend.tcp("172.17.0.2:80").is_err(), "IPv4 by a direct route");
        assert_eq!(friend.tcp("[fd00:7::2]:80").expect("IPv6, which is left alone"), "web 2001:db8::2\n");
        assert_eq!(friend.tcp("[2001:db8::1]:8080").expect("a relayed port"), "web fd00:7::1\n");
        // Who a container is, is its port's affair and not a family's.
        assert_eq!(tables(lab), "table inet berth\ntable bridge berth\n");
    });
}

#[test]
fn forwarding_is_left_alone_where_it_is_to_be() {
    lab::alone(|lab| {
        let friend = world(lab);
        let setting = "/proc/sys/net/ipv4/ip_forward";
        let engine = lab.engine(&["--ip-forward=false"]);
        engine.load_busybox();
        let web = container(lab, &engine, "web", &["-p", "8080:80"]);
        let (_web, _friend) = (web.serve_tcp("0.0.0.0:80", "web"), friend.serve_tcp("192.0.2.2:7", "friend"));
        assert_eq!(std::fs::read_to_string(setting).expect("a sysctl").trim(), "0");
        // The host itself forwards nothing and reaches all the same.
        assert!(lab.here().tcp("192.0.2.1:8080").expect("the host's own way").starts_with("web "));
        assert!(web.tcp("192.0.2.2:7").is_err());
        let warnings = || engine.ok(&["info", "-f", "{{json .Warnings}}"]);
        let words = "IPv4 forwarding is off, and berth was told to leave it alone (--ip-forward=false)";
        assert!(warnings().contains(words) && warnings().contains("what helps: sysctl -w net.ipv4.ip_forward=1"));
        assert!(engine.log().contains(words));
        lab.here().ok(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        assert!(web.tcp("192.0.2.2:7").is_ok());
        assert!(friend.tcp("192.0.2.1:8080").is_ok());
        lab::wait_for("the warning's end", Duration::from_secs(5), || (!warnings().contains(words)).then_some(()));
    });
}

#[test]
fn containers_may_leave_with_their_own_address() {
    lab::alone(|lab| {
        let friend = world(lab);
        let engine = lab.engine(&["--ip-masq=false"]);
        engine.load_busybox();
        let web = container(lab, &engine, "web", &["-p", "8080:80"]);
        let (_web, _friend) = (web.serve_tcp("0.0.0.0:80", "web"), friend.serve_tcp("192.0.2.2:7", "friend"));
        assert_eq!(web.tcp("192.0.2.2:7").expect("a way out"), "friend 172.17.0.2\n");
        // All else is as it was.
        assert_eq!(friend.tcp("192.0.2.1:8080").expect("a published port"), "web 192.0.2.2\n");
        assert!(friend.tcp("172.17.0.2:80").is_err(), "by a direct route");
        assert!(lab.here().tcp("127.0.0.1:8080").is_ok() && web.tcp("192.0.2.1:8080").is_ok());
    });
}
