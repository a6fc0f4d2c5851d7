//! Who reaches whom on one bridge, with and without `--icc=false`, and with and without br_netfilter looking at frames.

use lab::{Engine, Host, Lab};

/// Whether frames within a bridge are looked at by the firewall (`net.bridge.bridge-nf-call-*`), which
/// other software of a host may switch on. The settings are of the lab's network namespace.
fn look_at_frames(on: bool) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        // Without br_netfilter in the kernel nothing looks at frames, and there is nothing to switch.
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, if on { "1" } else { "0" }).unwrap_or_else(|err| panic!("{path}: {err}"));
        }
    }
}

/// A container that sleeps, and its network.
struct Place {
    name: &'static str,
    host: Host,
    addr4: String,
    addr6: String,
}

fn place(lab: &Lab, engine: &Engine, name: &'static str, publish: &[&str]) -> Place {
    let words: Vec<&str> =
        ["run", "-d", "--name", name].iter().chain(publish).chain(&["busybox", "sleep", "1000"]).copied().collect();
    engine.ok(&words);
    let told = |what: &str| engine.ok(&["inspect", "-f", what, name]).trim().to_owned();
    let pid = told("{{.State.Pid}}").parse().expect("a pid is a number");
    let networks = |field: &str| told(&format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"));
    let (addr4, addr6) = (networks("IPAddress"), networks("GlobalIPv6Address"));
    assert!(!addr4.is_empty() && !addr6.is_empty(), "{name} has {addr4:?} and {addr6:?}");
    let host = lab.inside_pid(pid);
    // A link-local address is of use once its owner has waited for objections (RFC 4862 §5.4).
    lab::wait_for("the link-local address", std::time::Duration::from_secs(5), || {
        let said = host.ok(&["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]);
        (said.contains("fe80") && !said.contains("tentative")).then_some(())
    });
    Place { name, host, addr4, addr6 }
}

/// A container's link-local address, as its neighbour has to write it: with the number of the neighbour's own interface.
fn link_local(of: &Place, seen_by: &Place) -> String {
    let said = of.host.ok(&["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]);
    let addr = said.split_whitespace().skip_while(|word| *word != "inet6").nth(1);
    let addr = addr.and_then(|addr| addr.split('/').next()).unwrap_or_else(|| panic!("no link-local address: {said}"));
    let link = seen_by.host.ok(&["ip", "-o", "link", "show", "dev", "eth0"]);
    format!("{addr}%{}", link.split(':').next().unwrap_or_default())
}

/// Every way from one container to another that is not a published port.
fn ways(from: &Place, to: &Place) -> Vec<(&'static str, bool)> {
    let _tcp4 = to.host.serve_tcp("0.0.0.0:7", "direct");
    let _tcp6 = to.host.serve_tcp(&format!("[{}]:7", to.addr6), "direct");
    let _udp4 = to.host.serve_udp(&format!("{}:7", to.addr4), "direct");
    let _udp6 = to.host.serve_udp(&format!("[{}]:7", to.addr6), "direct");
    let _local = to.host.serve_tcp("[::]:9", "direct");
    let host = &from.host;
    let local = format!("[{}]:9", link_local(to, from));
    let (tcp4, tcp6) = (format!("{}:7", to.addr4), format!("[{}]:7", to.addr6));
    let probes: [(&'static str, &(dyn Fn() -> bool + Sync)); 7] = [
        ("ICMP", &|| host.ping(&to.addr4)),
        ("ICMPv6", &|| host.ping(&to.addr6)),
        ("a link-local address", &|| host.tcp(&local).is_ok()),
        ("TCP", &|| host.tcp(&tcp4).is_ok()),
        ("TCP over IPv6", &|| host.tcp(&tcp6).is_ok()),
        ("UDP", &|| host.udp(&tcp4, "?").is_ok()),
        ("UDP over IPv6", &|| host.udp(&tcp6, "?").is_ok()),
    ];
    // Side by side, for what is not open takes its time.
    let mut ways: Vec<(&'static str, bool)> = std::thread::scope(|scope| {
        let asked: Vec<_> = probes.iter().map(|(name, probe)| (*name, scope.spawn(probe))).collect();
        asked.into_iter().map(|(name, asked)| (name, asked.join().expect("a probe does not panic"))).collect()
    });
    // What the neighbour's Ethernet address is can be learnt by asking it only.
    host.run(&["ip", "neigh", "flush", "dev", "eth0"]);
    let _ = host.try_ping(&to.addr4, std::time::Duration::from_millis(300));
    ways.push(("ARP", host.ok(&["ip", "neigh", "show", "to", &to.addr4]).contains("lladdr")));
    ways
}

/// What must work whatever `--icc` says.
fn everything_else(lab: &Lab, outside: &Host, web: &Place, two: &Place, how: &str) {
    let _tcp = outside.serve_tcp("192.0.2.2:7", "outside");
    assert_eq!(two.host.tcp("192.0.2.2:7").expect(how), "outside 192.0.2.1\n", "{how}");
    assert!(two.host.ping("192.0.2.2"), "{how}: no echo from outside");
    for place in [web, two] {
        assert!(lab.here().ping(&place.addr4), "{how}: the host does not reach {}", place.name);
        assert!(lab.here().ping(&place.addr6), "{how}: the host does not reach {} over IPv6", place.name);
        assert!(place.host.ping("172.17.0.1"), "{how}: {} does not reach the host", place.name);
    }
    let _web = web.host.serve_tcp("0.0.0.0:80", "web");
    assert_eq!(outside.tcp("192.0.2.1:8080").expect(how), "web 192.0.2.2\n", "{how}");
    assert!(lab.here().tcp("172.17.0.1:8080").expect(how).starts_with("web "), "{how}");
    assert!(lab.here().tcp("127.0.0.1:8080").expect(how).starts_with("web "), "{how}");
    assert!(!outside.ping(&two.addr4), "{how}: an outside host reaches a container by a direct route");
}

fn by_the_host(from: &Place) -> Vec<bool> {
    ["172.17.0.1:8080", "192.0.2.1:8080"].iter().map(|to| from.host.tcp(to).is_ok()).collect()
}

#[test]
fn containers_of_a_bridge_reach_each_other_unless_they_are_kept_apart() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let outside = lab.host("outside", "192.0.2.2/24");
        outside.route("172.17.0.0/16 via 192.0.2.1");
        for apart in [false, true] {
            let flags: &[&str] = if apart { &["--ipv6", "--icc=false"] } else { &["--ipv6"] };
            let engine = lab.engine(flags);
            engine.load_busybox();
            let web = place(lab, &engine, "web", &["-p", "8080:80"]);
            let two = place(lab, &engine, "two", &[]);
            for frames in [false, true] {
                look_at_frames(frames);
                let how = format!("apart {apart}, br_netfilter {frames}");
                for (from, to) in [(&two, &web), (&web, &two)] {
                    let wrong: Vec<_> = ways(from, to).into_iter().filter(|(_, open)| *open == apart).collect();
                    assert!(wrong.is_empty(), "{how}, {} to {}: {wrong:?}", from.name, to.name);
                }
                everything_else(lab, &outside, &web, &two, &how);
                let _web = web.host.serve_tcp("0.0.0.0:80", "web");
                // Where br_netfilter translates a frame it stays within the bridge, and there isolation holds.
                let open = !(apart && frames);
                assert_eq!(by_the_host(&two), [open; 2], "{how}: a neighbour by the host's address");
                assert_eq!(by_the_host(&web), [open; 2], "{how}: itself by the host's address");
            }
            look_at_frames(false);
            engine.ok(&["rm", "-f", "web", "two"]);
            engine.stop();
        }
    });
}

/// Who is kept apart could still hand the host a packet for a neighbour, as the two ends of a link do.
#[test]
fn only_a_link_leads_from_one_to_another_by_way_of_the_host() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6", "--icc=false"]);
        engine.load_busybox();
        let db = place(lab, &engine, "db", &["--expose", "3306"]);
        let web = place(lab, &engine, "web", &["--link", "db:db"]);
        let (router, framer) = (place(lab, &engine, "router", &[]), place(lab, &engine, "framer", &[]));
        let bridge = lab.here().ok(&["ip", "-o", "-6", "addr", "show", "dev", "berth0", "scope", "global"]);
        let gateway6 =
            bridge.split_whitespace().find_map(|word| word.strip_suffix("/64")).expect("the bridge has IPv6");
        let mac = lab.here().ok(&["cat", "/sys/class/net/berth0/address"]);
        for of in [&db, &web] {
            for (addr, gateway) in [(&of.addr4, "172.17.0.1"), (&of.addr6, gateway6)] {
                // A route like that of a link; and the neighbour's address at the host's Ethernet address.
                router.host.ok(&["ip", "route", "add", addr, "via", gateway]);
                framer.host.ok(&["ip", "neigh", "replace", addr, "lladdr", mac.trim(), "dev", "eth0"]);
            }
        }
        let at = |addr: &str, port: u16| std::net::SocketAddr::new(addr.parse().expect("an address"), port).to_string();
        let _served: Vec<_> = [&db, &web]
            .iter()
            .flat_map(|of| [3306, 9].map(|port| of.host.serve_tcp(&format!("[::]:{port}"), "x")))
            .collect();
        for frames in [false, true] {
            look_at_frames(frames);
            for addr in [&db.addr4, &db.addr6] {
                // Often enough for the kernel to tell of a shorter way, which is none.
                for turn in 0..6 {
                    let said = web.host.tcp(&at(addr, 3306)).unwrap_or_else(|e| panic!("{addr} {frames} {turn}: {e}"));
                    assert!(said.contains(&web.addr4) || said.contains(&web.addr6), "the source is hidden: {said}");
                }
            }
            let strangers = [(&router, &db), (&router, &web), (&framer, &db), (&framer, &web)];
            let mut tries = vec![(&web, &db, 9), (&db, &web, 9), (&db, &web, 3306)];
            tries.extend(strangers.iter().flat_map(|(from, to)| [(*from, *to, 3306), (*from, *to, 9)]));
            let open: Vec<String> = std::thread::scope(|scope| {
                let asked =
                    tries.iter().flat_map(|(from, to, port)| [(from, &to.addr4, port), (from, &to.addr6, port)]);
                let asked: Vec<_> = asked
                    .map(|(from, addr, port)| {
                        scope.spawn(move || {
                            let open = from.host.tcp(&at(addr, *port)).is_ok() || from.host.ping(addr);
                            open.then(|| format!("{} to {addr}:{port}", from.name))
                        })
                    })
                    .collect();
                asked.into_iter().filter_map(|one| one.join().expect("a probe does not panic")).collect()
            });
            assert!(open.is_empty(), "br_netfilter {frames}: {open:?}");
        }
        look_at_frames(false);
    });
}

#[test]
fn a_port_on_the_hosts_loopback_is_the_hosts_alone() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let outside = lab.host("outside", "192.0.2.2/24");
        let engine = lab.engine(&["--ipv6"]);
        engine.load_busybox();
        let web = place(lab, &engine, "web", &["-p", "127.0.0.1:8081:80", "-p", "8080:80"]);
        let two = place(lab, &engine, "two", &[]);
        let _web = web.host.serve_tcp("0.0.0.0:80", "web");
        for port in ["127.0.0.1:8080", "127.0.0.1:8081"] {
            assert!(lab.here().tcp(port).expect(port).starts_with("web "), "{port}");
        }
        assert!(outside.tcp("192.0.2.1:8080").is_ok());
        // One trick sends packets for 127.0.0.1 to this host; the other goes to the container itself.
        for (place, via, device) in [(&outside, "192.0.2.1", "eth0"), (&two.host, "172.17.0.1", "eth0")] {
            place.ok(&["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"]);
            place.enter(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")).expect("a sysctl");
            place.ok(&["ip", "route", "add", "127.0.0.1/32", "via", via, "dev", device]);
            let source = place.ok(&["ip", "route", "get", "127.0.0.1"]);
            assert!(source.contains(via), "the trick is not played: {source}");
            for port in ["127.0.0.1:8081", "127.0.0.1:8080"] {
                assert!(place.tcp(port).is_err(), "{} reaches {port} of the host", place.name());
            }
        }
        outside.route("172.17.0.0/16 via 192.0.2.1");
        assert!(outside.tcp(&format!("{}:80", web.addr4)).is_err(), "by a direct route");
        assert!(outside.tcp("192.0.2.1:8081").is_err(), "by another address of the host");
        // Somebody switches it off: the engine switches it on again at its next look.
        lab.here().ok(&["ip", "addr", "add", "172.17.9.9/16", "dev", "berth0"]);
        let setting = "/proc/sys/net/ipv4/conf/berth0/route_localnet";
        lab.here().enter(|| std::fs::write(setting, "0")).expect("a sysctl");
        lab.here().ok(&["ip", "link", "set", "berth0", "down"]);
        lab::wait_for("the bridge to be repaired", std::time::Duration::from_secs(15), || {
            lab.here().tcp("127.0.0.1:8081").ok()
        });
    });
}
