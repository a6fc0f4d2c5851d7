//! Who makes packets by hand, on the outside or in a container, and wants to where nothing is published for him.

use lab::frame::{self, ICMP, Mac, TCP, UDP, kind};
use lab::{Engine, Host, Lab, Server, Wire};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const LOCAL4: Ipv4Addr = Ipv4Addr::LOCALHOST;
const LOCAL6: Ipv6Addr = Ipv6Addr::LOCALHOST;
/// A service of the host on its own 127.0.0.1 and ::1.
const SECRET: u16 = 7777;
/// The port of the container's service, unpublished; and one of the same that is published on 127.0.0.1 only.
const INNER: u16 = 80;
const LOOPBACK: u16 = 8081;

fn mac_of(host: &Host, link: &str) -> Mac {
    let said = host.ok(&["ip", "-o", "link", "show", "dev", link]);
    let ether = said.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    frame::mac(ether.unwrap_or_default())
}

struct Container {
    host: Host,
    mac: Mac,
    addr4: Ipv4Addr,
    addr6: Ipv6Addr,
}

fn container(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Container {
    engine.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
    let told = |what: &str| engine.ok(&["inspect", "-f", what, name]).trim().to_owned();
    let network = |field: &str| told(&format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"));
    Container {
        host: lab.inside_pid(told("{{.State.Pid}}").parse().expect("a pid is a number")),
        mac: frame::mac(&network("MacAddress")),
        addr4: network("IPAddress").parse().expect("an IPv4 address"),
        addr6: network("GlobalIPv6Address").parse().expect("an IPv6 address"),
    }
}

/// What must hear nothing, by name.
fn services(lab: &Lab, web: &Container) -> Vec<(String, Server)> {
    let here = lab.here();
    let secret = |addr: IpAddr| here.serve_udp(&format!("{}", std::net::SocketAddr::new(addr, SECRET)), "secret");
    let web = |addr: IpAddr| web.host.serve_udp(&format!("{}", std::net::SocketAddr::new(addr, INNER)), "web");
    vec![
        ("the host's 127.0.0.1".into(), secret(LOCAL4.into())),
        ("the host's ::1".into(), secret(LOCAL6.into())),
        ("the container".into(), web(Ipv4Addr::UNSPECIFIED.into())),
    ]
}

/// Frames by name, each with a mark by which it is known again wherever it comes out.
#[derive(Default)]
struct Frames(Vec<(String, Vec<u8>)>);

impl Frames {
    fn add(&mut self, name: String, make: impl FnOnce(&[u8]) -> Vec<u8>) {
        let mark = format!("<frame {:04}>", self.0.len());
        self.0.push((name, make(mark.as_bytes())));
    }

    /// Datagrams, the beginning of a connection and an echo request from one address to another.
    fn to(&mut self, mac: (Mac, Mac), from: IpAddr, to: IpAddr, ports: &[u16]) {
        let packet = |protocol: u8, payload: &[u8]| match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (kind::IPV4, frame::ipv4(from, to, protocol, payload)),
            (IpAddr::V6(from), IpAddr::V6(to)) => (kind::IPV6, frame::ipv6(from, to, protocol, payload)),
            _ => panic!("{from} and {to} are of two families"),
        };
        let mut say = |what: String, protocol: u8, payload: &dyn Fn(&[u8]) -> Vec<u8>| {
            self.add(what, |mark| {
                let (kind, packet) = packet(protocol, &payload(mark));
                frame::ethernet(mac.0, mac.1, kind, &packet)
            });
        };
        for port in ports {
            say(format!("UDP from {from} to {to} port {port}"), UDP, &|mark| match (from, to) {
                (IpAddr::V6(from), IpAddr::V6(to)) => frame::udp6(from, to, (5555, *port), mark),
                _ => frame::udp(5555, *port, mark),
            });
            say(format!("TCP from {from} to {to} port {port}"), TCP, &|mark| {
                let [high, low] = port.to_be_bytes();
                [&[0x15, 0xb3, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0], mark].concat()
            });
        }
        if let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) {
            say(format!("an echo from {from} to {to}"), frame::ICMPV6, &|mark| frame::icmp6(from, to, 128, mark));
        } else {
            let echo = |mark: &[u8]| frame::icmp(8, 0, &[&[0; 4], mark].concat());
            say(format!("an echo from {from} to {to}"), ICMP, &echo);
        }
    }

    fn send(&self, wire: &Wire) {
        for (name, frame) in &self.0 {
            wire.send(frame).unwrap_or_else(|err| panic!("{name}: {err}"));
        }
    }

    fn among(&self, heard: &[Vec<u8>]) -> Vec<&str> {
        let there = |nth: usize| {
            let mark = format!("<frame {nth:04}>").into_bytes();
            heard.iter().any(|frame| frame.windows(mark.len()).any(|part| part == mark))
        };
        self.0.iter().enumerate().filter(|(nth, _)| there(*nth)).map(|(_, (name, _))| name.as_str()).collect()
    }
}

/// Who was asked, and by whom.
fn asked(services: &[(String, Server)]) -> Vec<String> {
    let of =
        |(name, server): &(String, Server)| server.peers().iter().map(|peer| format!("{name} by {peer}")).collect();
    services.iter().flat_map(|service| -> Vec<String> { of(service) }).collect()
}

#[test]
fn nobody_outside_gets_past_what_is_published() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let outside = lab.host("outside", "192.0.2.2/24 2001:db8::2/64");
        let engine = lab.engine(&["--ipv6"]);
        engine.load_busybox();
        let flags = ["-p", "127.0.0.1:8081:80/udp", "-p", "127.0.0.1:8081:80", "-p", "8080:81/udp"];
        let web = container(lab, &engine, "web", &flags);
        let other = container(lab, &engine, "other", &[]);
        let here = lab.here();
        let (from, host) = (mac_of(&outside, "eth0"), mac_of(&here, "up0"));
        let services = services(lab, &web);
        let (gate4, gate6) = (Ipv4Addr::new(172, 17, 0, 1), Ipv6Addr::from(web.addr6.to_bits() & !0xffff | 1));
        let mut frames = Frames::default();
        // By their own names, by names of the host and of containers, and by no name at all.
        let v4 = [Ipv4Addr::new(192, 0, 2, 2), gate4, other.addr4, web.addr4, Ipv4Addr::new(192, 0, 2, 1), LOCAL4];
        let v6 = ["2001:db8::2".parse().expect("an address"), gate6, other.addr6, web.addr6, LOCAL6];
        // To the host's Ethernet address, and to everybody's, in which a host might not look as closely.
        for to in [host, [0xff; 6]] {
            for sender in v4 {
                frames.to((to, from), sender.into(), web.addr4.into(), &[INNER, 81, 9]);
                frames.to((to, from), sender.into(), LOCAL4.into(), &[LOOPBACK, SECRET]);
                frames.to((to, from), sender.into(), Ipv4Addr::new(192, 0, 2, 1).into(), &[LOOPBACK, SECRET]);
                frames.to((to, from), sender.into(), gate4.into(), &[LOOPBACK, SECRET]);
            }
            for sender in v6 {
                frames.to((to, from), sender.into(), web.addr6.into(), &[INNER, 81, 9]);
                frames.to((to, from), sender.into(), LOCAL6.into(), &[LOOPBACK, SECRET]);
            }
        }
        let (me, you) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 1));
        frames.add("to a published port".into(), |mark| {
            frame::ethernet(host, from, kind::IPV4, &frame::ipv4(me, you, UDP, &frame::udp(5555, 8080, mark)))
        });
        // A host that is neither strict nor loose about where a sender should be (rp_filter).
        for link in ["all", "up0", "berth0"] {
            let path = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
            here.enter(|| std::fs::write(path, "0")).expect("a setting");
        }
        let ear = web.host.wire("eth0");
        frames.send(&outside.wire("eth0"));
        let heard = ear.heard(Duration::from_millis(500)).expect("what was heard");
        assert_eq!(frames.among(&heard), ["to a published port"]);
        assert_eq!(asked(&services), [""; 0]);
        // It is there for whom it is meant.
        assert!(here.udp("127.0.0.1:8081", "?").expect("an answer").starts_with("web "));
        assert!(here.udp("127.0.0.1:7777", "?").expect("an answer").starts_with("secret "));
    });
}

/// How a container asks the host for what is the host's alone.
fn by_the_gate(evil: &Container, gate: Mac, web: &Container) -> Frames {
    let mut frames = Frames::default();
    for to in [gate, web.mac, [0xff; 6]] {
        for sender in [evil.addr4, LOCAL4] {
            frames.to((to, evil.mac), sender.into(), LOCAL4.into(), &[LOOPBACK, SECRET]);
            frames.to((to, evil.mac), sender.into(), Ipv4Addr::new(127, 0, 0, 53).into(), &[LOOPBACK, SECRET]);
            frames.to((to, evil.mac), sender.into(), Ipv4Addr::new(172, 17, 0, 1).into(), &[LOOPBACK, SECRET]);
        }
        for sender in [evil.addr6, LOCAL6] {
            frames.to((to, evil.mac), sender.into(), LOCAL6.into(), &[LOOPBACK, SECRET]);
        }
    }
    frames
}

#[test]
fn the_hosts_loopback_is_not_for_containers() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6"]);
        engine.load_busybox();
        let web = container(lab, &engine, "web", &["-p", "127.0.0.1:8081:80/udp", "-p", "127.0.0.1:8081:80"]);
        let evil = container(lab, &engine, "evil", &[]);
        let services = services(lab, &web);
        let gate = mac_of(&lab.here(), "berth0");
        let frames = by_the_gate(&evil, gate, &web);
        for looked_at in ["0", "1"] {
            look_at_frames(looked_at);
            frames.send(&evil.host.wire("eth0"));
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(asked(&services), [""; 0], "br_netfilter {looked_at}");
        }
        // The neighbour itself is there, by its own address and port.
        assert!(evil.host.udp(&format!("{}:{INNER}", web.addr4), "?").expect("an answer").starts_with("web "));
    });
}

#[test]
fn another_network_gets_only_what_is_published() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6"]);
        engine.load_busybox();
        engine.ok(&["network", "create", "--ipv6", "second"]);
        let web = container(lab, &engine, "web", &["-p", "8080:81/udp"]);
        let evil = container(lab, &engine, "evil", &["--net", "second"]);
        let services = services(lab, &web);
        let said = evil.host.ok(&["ip", "-4", "route", "show", "default"]);
        let gate4 = said.split_whitespace().nth(2).expect("a gateway");
        assert!(evil.host.ping(gate4), "so that it knows the gateway's Ethernet address");
        let said = evil.host.ok(&["ip", "neigh", "show", "to", gate4]);
        let gate = said.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).expect("an Ethernet address");
        let (gate, gate4): (Mac, Ipv4Addr) = (frame::mac(gate), gate4.parse().expect("an address"));
        let mut frames = Frames::default();
        for to in [gate, web.mac, [0xff; 6]] {
            // Its own name is the only one that it can have; the others would be welcome at the container's own bridge.
            for sender in [evil.addr4, gate4, web.addr4, Ipv4Addr::new(172, 17, 0, 1)] {
                frames.to((to, evil.mac), sender.into(), web.addr4.into(), &[INNER, 81, 9]);
            }
            for sender in [evil.addr6, web.addr6] {
                frames.to((to, evil.mac), sender.into(), web.addr6.into(), &[INNER, 81, 9]);
            }
        }
        frames.add("to a published port".into(), |mark| {
            let datagram = frame::udp(5555, 8080, mark);
            frame::ethernet(gate, evil.mac, kind::IPV4, &frame::ipv4(evil.addr4, gate4, UDP, &datagram))
        });
        for looked_at in ["0", "1"] {
            look_at_frames(looked_at);
            let ear = web.host.wire("eth0");
            frames.send(&evil.host.wire("eth0"));
            let heard = ear.heard(Duration::from_millis(300)).expect("what was heard");
            assert_eq!(frames.among(&heard), ["to a published port"], "br_netfilter {looked_at}");
            assert_eq!(asked(&services), [""; 0]);
        }
    });
}

/// Whether frames within a bridge are looked at by the firewall, as other software of a host may have it.
fn look_at_frames(value: &str) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, value).unwrap_or_else(|err| panic!("{path}: {err}"));
        }
    }
}
