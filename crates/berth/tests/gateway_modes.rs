//! How packets get out of networks and others in, for every gateway mode: a table of networks, one of places, and what each
//! place must reach of each network, which is asked for all of them at once.

use lab::{Engine, Host, Lab};
use serde_json::{Value, json};

fn engine(lab: &Lab) -> Engine {
    let engine = lab.engine(&[]);
    engine.load_busybox();
    engine
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nat,
    Unprotected,
    Routed,
    Isolated,
}

/// A network of the matrix; its number is in its addresses.
struct Net {
    name: &'static str,
    four: Mode,
    six: Mode,
    internal: bool,
    more: &'static [&'static str],
}

const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade=false";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces=up1";
const SOURCE: &str = "com.docker.network.host_ipv4=192.0.2.9";

const NETS: [Net; 9] = [
    Net { name: "nat", four: Mode::Nat, six: Mode::Nat, internal: false, more: &[] },
    Net { name: "open", four: Mode::Unprotected, six: Mode::Unprotected, internal: false, more: &[] },
    Net { name: "routed", four: Mode::Routed, six: Mode::Routed, internal: false, more: &[] },
    Net { name: "mixed", four: Mode::Nat, six: Mode::Routed, internal: false, more: &[] },
    Net { name: "inner", four: Mode::Nat, six: Mode::Nat, internal: true, more: &[] },
    Net { name: "cell", four: Mode::Isolated, six: Mode::Isolated, internal: true, more: &[] },
    Net { name: "plain", four: Mode::Nat, six: Mode::Nat, internal: false, more: &["-o", MASQUERADE] },
    Net { name: "trusting", four: Mode::Nat, six: Mode::Nat, internal: false, more: &["-o", TRUSTED] },
    Net { name: "told", four: Mode::Nat, six: Mode::Nat, internal: false, more: &["-o", SOURCE] },
];

impl Net {
    fn mode(&self, v6: bool) -> Mode {
        if v6 { self.six } else { self.four }
    }

    fn create(&self, engine: &Engine, number: usize) {
        let word = |mode| match mode {
            Mode::Nat => "nat",
            Mode::Unprotected => "nat-unprotected",
            Mode::Routed => "routed",
            Mode::Isolated => "isolated",
        };
        let option = |family, mode| format!("com.docker.network.bridge.gateway_mode_{family}={}", word(mode));
        let (four, six) = (option("ipv4", self.four), option("ipv6", self.six));
        let (net4, net6) = (format!("10.{number}.0.0/24"), format!("fd00:{number}::/64"));
        let internal: &[&str] = if self.internal { &["--internal"] } else { &[] };
        let words = ["network", "create", "--ipv6", "--subnet", &net4, "--subnet", &net6, "-o", &four, "-o", &six];
        engine.ok(&[&words[..], internal, self.more, &[self.name]].concat());
    }

    /// Does a place reach a port, or an echo, of one of its containers by that container's own address?
    fn lets_in(&self, from: From, v6: bool, what: What) -> bool {
        let elsewhere = matches!(from, From::Outside | From::Friend);
        match (from, self.mode(v6)) {
            (From::Sibling, _) => true,
            (From::Host, mode) => mode != Mode::Isolated,
            _ if self.internal => false,
            (From::Friend, _) if self.name == "trusting" => true,
            (_, Mode::Unprotected) => elsewhere,
            (_, Mode::Routed) => what == What::Published || (what == What::Echo && elsewhere),
            (_, Mode::Nat | Mode::Isolated) => false,
        }
    }

    /// Does a port of the host lead to it?
    fn publishes(&self, v6: bool) -> bool {
        !self.internal && matches!(self.mode(v6), Mode::Nat | Mode::Unprotected)
    }

    /// As whom its containers are seen by others; `None`: they see nobody.
    fn seen_as(&self, v6: bool) -> Option<Seen> {
        match self.mode(v6) {
            _ if self.internal => None,
            Mode::Routed => Some(Seen::Itself),
            _ if self.name == "plain" => Some(Seen::Itself),
            _ if self.name == "told" && !v6 => Some(Seen::Told),
            _ => Some(Seen::Host),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    /// A machine on the host's first segment, that has routes to all containers.
    Outside,
    /// The same on its second segment.
    Friend,
    /// The host itself.
    Host,
    /// Another container of the same network.
    Sibling,
    /// A container of another network.
    Neighbour,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Published,
    Unpublished,
    Echo,
}

enum Seen {
    Host,
    Itself,
    Told,
}

#[test]
fn every_mode_lets_in_and_out_what_it_should() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 192.0.2.9/24 2001:db8::1/64");
        lab.uplink_on("lan2", "up1", "198.51.100.1/24 2001:db8:1::1/64");
        let outside = lab.host("outside", "192.0.2.2/24 2001:db8::2/64");
        let friend = lab.host_on("lan2", "friend", "198.51.100.2/24 2001:db8:1::2/64");
        for (place, four, six) in [(&outside, "192.0.2.1", "2001:db8::1"), (&friend, "198.51.100.1", "2001:db8:1::1")] {
            place.route(&format!("10.0.0.0/8 via {four}"));
            place.route(&format!("fd00::/8 via {six}"));
        }
        let engine = engine(lab);
        // The rules and the few elements that are the engine's own say so in their comments.
        let rules = || lab.here().ok(&["nft", "list", "table", "inet", "berth"]).matches("[engine]\"").count();
        engine.ok(&["network", "create", "--subnet", "10.99.0.0/24", "--subnet", "fd00:99::/64", "--ipv6", "away"]);
        engine.ok(&["run", "-d", "--name", "neighbour", "--network", "away", "busybox", "sleep", "1000"]);
        let neighbour = lab.container(&engine, "neighbour");
        let here = lab.here();
        let constant = rules();
        let mut members = Vec::new();
        for (at, net) in NETS.iter().enumerate() {
            let number = at + 1;
            net.create(&engine, number);
            let port = format!("80{number}0:80");
            for (name, address, flags) in [("a", 2, &["-p", &port][..]), ("b", 3, &[])] {
                let (name, four, six) = (
                    format!("{}-{name}", net.name),
                    format!("10.{number}.0.{address}"),
                    format!("fd00:{number}::{address}"),
                );
                let words = ["run", "-d", "--name", &name, "--network", net.name, "--ip", &four, "--ip6", &six];
                engine.ok(&[&words[..], flags, &["busybox", "sleep", "1000"]].concat());
            }
            let [a, b] = ["a", "b"].map(|name| lab.container(&engine, &format!("{}-{name}", net.name)));
            members.push((net, number, a, b));
        }
        let serve = |place: &Host| [place.serve_tcp("[::]:80", "in"), place.serve_tcp("[::]:81", "in")];
        let _inside: Vec<_> = members.iter().map(|(_, _, a, _)| serve(a)).collect();
        let _outside = outside.serve_tcp("[::]:80", "out");
        let _host = here.serve_tcp("[::]:99", "host");

        // Who is on an internal network may make himself a way out, and finds none.
        for (net, number, a, _) in members.iter().filter(|(net, ..)| net.internal) {
            for way in ["192.0.2.2", "2001:db8::2"] {
                let v6 = way.contains(':');
                let gate = if v6 { format!("fd00:{number}::1") } else { format!("10.{number}.0.1") };
                a.route(&format!("{way} via {gate} dev eth0"));
            }
            // The host answers for each of its addresses on every interface, unless the network is isolated from it.
            a.route("192.0.2.1 dev eth0");
            assert_eq!(a.tcp("192.0.2.1:99").is_ok(), net.four != Mode::Isolated, "{}", net.name);
        }
        let mut probes: Vec<Probe<'_>> = Vec::new();
        for (net, number, a, b) in &members {
            for v6 in [false, true] {
                let own = if v6 { format!("[fd00:{number}::2]") } else { format!("10.{number}.0.2") };
                let bare = own.trim_matches(['[', ']']).to_owned();
                let places = [
                    (From::Outside, &outside),
                    (From::Friend, &friend),
                    (From::Host, &here),
                    (From::Sibling, b),
                    (From::Neighbour, &neighbour),
                ];
                for (from, place) in places {
                    for (what, port) in [(What::Published, 80), (What::Unpublished, 81), (What::Echo, 0)] {
                        let (own, bare) = (own.clone(), bare.clone());
                        let wanted = net.lets_in(from, v6, what);
                        probes.push(Box::new(move || {
                            let got = match what {
                                What::Echo => place.ping(&bare),
                                _ => place.tcp(&format!("{own}:{port}")).is_ok(),
                            };
                            (got != wanted)
                                .then(|| format!("{from:?} -> {what:?} of {} {own}: {got}, not {wanted}", net.name))
                        }));
                    }
                    let at_host =
                        if v6 { format!("[2001:db8::1]:80{number}0") } else { format!("192.0.2.1:80{number}0") };
                    // Who is on an internal network has no way to the host's other addresses.
                    let wanted = net.publishes(v6) && !(from == From::Sibling && net.internal);
                    if from != From::Friend {
                        probes.push(Box::new(move || {
                            let got = place.tcp(&at_host).is_ok();
                            (got != wanted)
                                .then(|| format!("{from:?} -> {at_host} of {}: {got}, not {wanted}", net.name))
                        }));
                    }
                }
                let out = if v6 { "[2001:db8::2]:80" } else { "192.0.2.2:80" };
                let wanted = net.seen_as(v6).map(|seen| match (seen, v6) {
                    (Seen::Host, false) => "192.0.2.1".to_owned(),
                    (Seen::Host, true) => "2001:db8::1".to_owned(),
                    (Seen::Told, _) => "192.0.2.9".to_owned(),
                    (Seen::Itself, _) => bare.clone(),
                });
                probes.push(Box::new(move || {
                    let got = a.tcp(out).ok().map(|said| {
                        let peer = said.trim().trim_start_matches("out ").trim_start_matches("::ffff:");
                        peer.trim_matches(['[', ']']).to_owned()
                    });
                    (got != wanted).then(|| format!("{} -> {out}: seen as {got:?}, not {wanted:?}", net.name))
                }));
            }
            if net.four == Mode::Isolated {
                // The host has no way back, so whether it hears is asked of the host.
                let host = here.clone();
                probes.push(Box::new(move || {
                    let heard = host.serve_udp("192.0.2.1:98", "host");
                    let _ = a.udp("192.0.2.1:98", "?");
                    let peers = heard.peers();
                    (!peers.is_empty()).then(|| format!("{} -> the host: it hears {peers:?}", net.name))
                }));
            }
        }
        let started = std::time::Instant::now();
        let wrong = mismatches(&probes);
        assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), probes.len(), wrong.join("\n"));
        assert_eq!(rules(), constant, "networks add elements, and no rule");
        println!("{} probes in {:?}", probes.len(), started.elapsed());

        // What a missing rule lets in is tracked, and let in for as long as it is.
        for family in ["icmp", "icmpv6"] {
            std::fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{family}_timeout"), "1").unwrap();
        }
        // The matrix sees what it should: with a rule less, for which no engine is there to see it, it does not come out.
        for rules in [&BROKEN[..1], &BROKEN[1..]] {
            engine.kill9();
            for (chain, text, _) in rules {
                take_out(&here, chain, text);
            }
            let wrong = mismatches(&probes);
            for (chain, text, sign) in rules {
                let seen = wrong.iter().any(|one| one.contains(sign));
                assert!(seen, "without {text:?} of {chain} nothing about {sign:?} is seen:\n{}", wrong.join("\n"));
            }
            println!("without {} rules: {} mismatches, among them one of each", rules.len(), wrong.len());
            // Which puts it back.
            engine.start_again();
            std::thread::sleep(std::time::Duration::from_millis(1500));
        }
        let wrong = mismatches(&probes);
        assert!(wrong.is_empty(), "all is as before:\n{}", wrong.join("\n"));
    });
}

/// What is wrong, if something is.
type Probe<'a> = Box<dyn Fn() -> Option<String> + Send + Sync + 'a>;

/// Asks all of it at once.
fn mismatches(probes: &[Probe<'_>]) -> Vec<String> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = probes.iter().map(|probe| scope.spawn(probe)).collect();
        asked.into_iter().filter_map(|probe| probe.join().unwrap()).collect()
    })
}

/// Rules by their chain and their comment, and what of the matrix tells that they are not there. Without the first, what the others
/// let in is let in anyway; so it is missed by itself.
const BROKEN: [(&str, &str, &str); 8] = [
    ("forward", "nothing else reaches a container", "Outside -> Unpublished of nat 10.1.0.2: true"),
    ("forward", "no way out of an internal network", "inner -> 192.0.2.2:80: seen as Some"),
    ("direct", "to a published port of a container that is routed", "Outside -> Published of routed 10.3.0.2: false"),
    (
        "direct",
        "to any port of a container that is not protected, from elsewhere",
        "Outside -> Unpublished of open 10.2.0.2: false",
    ),
    ("direct", "to any port, from an interface that is trusted", "Friend -> Unpublished of trusting 10.8.0.2: false"),
    ("postrouting", "containers leave with the host's address", "nat -> 192.0.2.2:80: seen as Some(\"10.1.0.2\")"),
    ("published", "ports of every address", "Outside -> 192.0.2.1:8010 of nat: false"),
    ("input", "no way from an isolated network to the host", "cell -> the host: it hears"),
];

/// Takes the first rule with this comment out of a chain.
#[track_caller]
fn take_out(here: &Host, chain: &str, text: &str) {
    let listed = here.ok(&["nft", "-a", "list", "chain", "inet", "berth", chain]);
    let rule = listed.lines().find(|line| line.contains(&format!("comment \"{text}")));
    let handle = rule.and_then(|line| line.rsplit_once("# handle ")).map(|(_, handle)| handle.trim());
    let handle = handle.unwrap_or_else(|| panic!("no rule {text:?} in {listed}"));
    here.ok(&["nft", "delete", "rule", "inet", "berth", chain, "handle", handle]);
}

#[test]
fn modes_are_checked_and_shown() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let engine = engine(lab);
        let mode = |family: &str, mode: &str| format!("com.docker.network.bridge.gateway_mode_{family}={mode}");
        let isolated = "Error response from daemon: gateway mode 'isolated' can only be used for an internal network\n";
        for (option, says) in [
            (mode("ipv4", "isolated"), isolated),
            (mode("ipv6", "isolated"), isolated),
            (mode("ipv4", "bent"), "Error response from daemon: unknown gateway mode bent\n"),
        ] {
            let words = ["network", "create", "-o", &option, "x1"];
            let docker = lab::has_docker().then(|| engine.docker(&words));
            for out in [engine.berth(&words)].into_iter().chain(docker) {
                assert_eq!((out.code, out.stderr.as_str()), (1, says));
            }
        }
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "-o", &mode("ipv4", "routed"), "routed"]);
        engine.ok(&[
            "network",
            "create",
            "--internal",
            "--subnet",
            "10.2.0.0/24",
            "-o",
            &mode("ipv4", "isolated"),
            "cell",
        ]);
        let inspected = |words: &[&str]| -> Value { serde_json::from_str(&engine.ok(words)).unwrap() };
        let cell = inspected(&["network", "inspect", "cell"]);
        assert_eq!(cell[0]["IPAM"]["Config"], json!([{"Subnet": "10.2.0.0/24"}]), "the host is nobody's gateway there");
        // The port of the host means nothing there: two containers may ask for the same.
        for name in ["one", "two"] {
            engine.ok(&[
                "run",
                "-d",
                "--name",
                name,
                "--network",
                "routed",
                "-p",
                "8080:80",
                "busybox",
                "sleep",
                "1000",
            ]);
            let ports = inspected(&["inspect", "-f", "{{json .NetworkSettings.Ports}}", name]);
            assert_eq!(ports, json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}]}));
        }
        // Nobody else is kept from the port.
        let _taken = lab.here().serve_tcp("192.0.2.1:8080", "mine");
        // Over a restart of the engine, and while it runs.
        engine.kill9();
        engine.start_again();
        engine.ok(&["port", "add", "one", "81:81"]);
        engine.ok(&["port", "rm", "one", "80"]);
        let ports = inspected(&["inspect", "-f", "{{json .NetworkSettings.Ports}}", "one"]);
        assert_eq!(ports, json!({"80/tcp": null, "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}]}));
        let out = engine.berth(&["run", "--network", "routed", "-p", "127.0.0.1:80:80", "busybox", "true"]);
        assert!(out.code == 125 && out.stderr.contains("network routed is routed"), "{out:?}");
    });
}
