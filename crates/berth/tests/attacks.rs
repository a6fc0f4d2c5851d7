//! A container that makes its frames by hand: as whom it speaks, what it makes others believe, and where it gets.

use lab::frame::{self, ICMP, ICMPV6, Mac, TCP, UDP, kind};
use lab::{Engine, Host, Lab, Wire};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// All nodes of a link, as IPv6 and as Ethernet have it (RFC 4291 §2.7.1, RFC 2464 §7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// Headers that may stand before ICMPv6 (RFC 8200 §4).
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Types of ICMPv6: an echo request, and neighbour discovery (RFC 4861 §4).
const ECHO: u8 = 128;
const ROUTER: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// The port that datagrams made by hand go to.
const PORT: u16 = 7777;
/// Nobody here.
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// Somebody on the bridge.
#[derive(Clone)]
struct Place {
    name: &'static str,
    host: Host,
    link: &'static str,
    mac: Mac,
    addr4: Ipv4Addr,
    addr6: Ipv6Addr,
    local: Ipv6Addr,
}

impl Place {
    fn of(name: &'static str, host: Host, link: &'static str) -> Place {
        let addr = |family: &str, scope: &str| {
            let said = host.ok(&["ip", family, "-o", "addr", "show", "dev", link, "scope", scope]);
            let addr = said.split_whitespace().skip_while(|word| !word.starts_with("inet")).nth(1);
            addr.and_then(|addr| addr.split('/').next()).unwrap_or_default().to_owned()
        };
        // A link-local address is of use once its owner has waited for objections (RFC 4862 §5.4).
        let local = lab::wait_for("the link-local address", Duration::from_secs(5), || {
            let said = host.ok(&["ip", "-6", "-o", "addr", "show", "dev", link, "scope", "link"]);
            (!said.contains("tentative")).then(|| addr("-6", "link").parse().ok()).flatten()
        });
        let said = host.ok(&["ip", "-o", "link", "show", "dev", link]);
        let ether = said.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        let (addr4, addr6) = (addr("-4", "global"), addr("-6", "global"));
        Place {
            mac: frame::mac(ether.unwrap_or_default()),
            addr4: addr4.parse().unwrap_or_else(|_| panic!("{name} has {addr4:?}")),
            addr6: addr6.parse().unwrap_or_else(|_| panic!("{name} has {addr6:?}")),
            name,
            host,
            link,
            local,
        }
    }

    fn wire(&self) -> Wire {
        self.host.wire(self.link)
    }

    /// What it believes of another's Ethernet addresses.
    fn believes(&self, of: &Place) -> [String; 2] {
        [of.addr4.to_string(), of.addr6.to_string()].map(|addr| {
            let said = self.host.ok(&["ip", "neigh", "show", "to", &addr, "dev", self.link]);
            said.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
        })
    }
}

/// Evil and good are containers, and the gate is the host on their bridge.
struct Scene {
    evil: Place,
    good: Place,
    gate: Place,
}

fn scene(lab: &Lab, engine: &Engine) -> Scene {
    engine.load_busybox();
    let container = |name| {
        engine.ok(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
        let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", name]).trim().parse().expect("a pid is a number");
        Place::of(name, lab.inside_pid(pid), "eth0")
    };
    Scene { evil: container("evil"), good: container("good"), gate: Place::of("gate", lab.here(), "berth0") }
}

/// Whether frames within a bridge are looked at by the firewall, as other software of a host may have it.
fn look_at_frames(on: bool) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, if on { "1" } else { "0" }).unwrap_or_else(|err| panic!("{path}: {err}"));
        }
    }
}

/// Frames by name, each with a mark by which it is known again wherever it comes out.
#[derive(Default)]
struct Frames(Vec<(String, Vec<u8>)>);

impl Frames {
    fn add(&mut self, name: String, make: impl FnOnce(&[u8]) -> Vec<u8>) {
        // Sixteen bytes, so that it can be an option of neighbour discovery, of a type that nobody knows.
        let mark = format!("~\u{2}<frame {:04}>..", self.0.len());
        self.0.push((name, make(mark.as_bytes())));
    }

    fn send(&self, wire: &Wire) {
        for (name, frame) in &self.0 {
            wire.send(frame).unwrap_or_else(|err| panic!("{name}: {err}"));
        }
    }

    /// The names of those that are among what was heard.
    fn among(&self, heard: &[Vec<u8>]) -> Vec<&str> {
        let there = |nth: usize| {
            let mark = format!("<frame {nth:04}>").into_bytes();
            heard.iter().any(|frame| frame.windows(mark.len()).any(|part| part == mark))
        };
        self.0.iter().enumerate().filter(|(nth, _)| there(*nth)).map(|(_, (name, _))| name.as_str()).collect()
    }
}

fn datagram(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    frame::ipv4(from, to, UDP, &frame::udp(PORT, PORT, payload))
}

/// A router advertisement: this is the way to everywhere, and a prefix to make addresses of.
fn router(from: &Place, to: Ipv6Addr, mark: &[u8]) -> Vec<u8> {
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0).octets();
    let prefix = [&[3, 4, 64, 0xc0][..], &[0xff; 8], &[0; 4], &prefix].concat();
    let head = [64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    frame::icmp6(from.local, to, ROUTER, &[&head[..], &frame::nd_ethernet(1, from.mac), &prefix, mark].concat())
}

/// The body of a neighbour advertisement that overrides what was known, or of a solicitation, with an option.
fn neighbour(target: Ipv6Addr, option: &[u8], mark: &[u8]) -> Vec<u8> {
    [&[0x20, 0, 0, 0][..], &target.octets(), option, mark].concat()
}

/// Eight bytes of options that say nothing, as the first of two headers.
fn before(next: u8, rest: &[u8]) -> Vec<u8> {
    [&[next, 0, 1, 4, 0, 0, 0, 0], rest].concat()
}

/// A fragment's header (RFC 8200 §4.5): of a packet of its own, at this offset in units of eight bytes.
fn fragment(next: u8, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    [&[next, 0, high, low, 0, 0, 0, 9], rest].concat()
}

/// What speaks as `other`, or as a router, in every way there is; and what cannot be known to speak as its sender.
fn lies(frames: &mut Frames, evil: &Place, to: &Place, other: &Place) {
    let mut say = |what: &str, kind: u16, packet: &dyn Fn(&[u8]) -> Vec<u8>| {
        frames.add(format!("{what}, to {}", to.name), |mark| frame::ethernet(to.mac, evil.mac, kind, &packet(mark)));
    };
    for from in [other.addr4, Ipv4Addr::new(172, 17, 200, 200), STRANGER, Ipv4Addr::LOCALHOST] {
        say(&format!("IPv4 of {from}"), kind::IPV4, &|mark| datagram(from, to.addr4, mark));
    }
    for from in [other.addr6, other.local, evil.addr6.octets().map(|byte| byte ^ 1).into()] {
        let echo = |mark: &[u8]| frame::icmp6_packet(from, to.addr6, ECHO, mark);
        say(&format!("IPv6 of {from}"), kind::IPV6, &echo);
    }
    for operation in [1, 2] {
        let asked = (to.mac, to.addr4);
        let arp = |mark: &[u8]| [frame::arp(operation, (evil.mac, other.addr4), asked), mark.to_vec()].concat();
        say(&format!("ARP {operation} with another's address"), kind::ARP, &arp);
        let arp = |mark: &[u8]| [frame::arp(operation, (other.mac, evil.addr4), asked), mark.to_vec()].concat();
        say(&format!("ARP {operation} with another's Ethernet address"), kind::ARP, &arp);
    }
    // Tags on the outside, of one VLAN or two; number 0 stands for no VLAN at all.
    for tags in [&[0x8100][..], &[0x88a8], &[0x8100, 0x8100], &[0x88a8, 0x8100], &[0x88a8, 0x88a8]] {
        for id in [0, 5] {
            let arp =
                |mark: &[u8]| [frame::arp(2, (evil.mac, other.addr4), (to.mac, to.addr4)), mark.to_vec()].concat();
            let ip = |mark: &[u8]| datagram(other.addr4, to.addr4, mark);
            for (what, inner, packet) in
                [("ARP", kind::ARP, &arp as &dyn Fn(&[u8]) -> Vec<u8>), ("IPv4", kind::IPV4, &ip)]
            {
                let tagged = |mark: &[u8]| {
                    let inside = (inner, packet(mark));
                    tags.iter().rev().fold(inside, |(of, rest), tag| (*tag, frame::tag(id, of, &rest))).1
                };
                say(&format!("{what} in {tags:x?} of {id}"), tags[0], &tagged);
            }
        }
    }
    let discovery = |from: Ipv6Addr, kind: u8, body: Vec<u8>| frame::icmp6_packet(from, to.addr6, kind, &body);
    let own = frame::nd_ethernet(2, evil.mac);
    for target in [other.addr6, other.local] {
        let claim = |mark: &[u8]| discovery(evil.local, ADVERTISEMENT, neighbour(target, &own, mark));
        say(&format!("an advertisement of {target}"), kind::IPV6, &claim);
        let wish = |mark: &[u8]| discovery(Ipv6Addr::UNSPECIFIED, SOLICITATION, neighbour(target, &[], mark));
        say(&format!("a wish for {target}"), kind::IPV6, &wish);
    }
    let claim = |mark: &[u8]| frame::icmp6(evil.addr6, to.addr6, ADVERTISEMENT, &neighbour(other.addr6, &own, mark));
    let redirect = |mark: &[u8]| {
        let body = [&[0; 4][..], &evil.local.octets(), &other.addr6.octets(), &own, mark].concat();
        frame::icmp6(evil.addr6, to.addr6, REDIRECT, &body)
    };
    let router = |mark: &[u8]| router(evil, to.addr6, mark);
    let routers = |mark: &[u8]| (evil.local, router(mark));
    let others = |mark: &[u8]| (evil.addr6, claim(mark));
    let redirects = |mark: &[u8]| (evil.addr6, redirect(mark));
    type Message<'a> = &'a dyn Fn(&[u8]) -> (Ipv6Addr, Vec<u8>);
    for (what, message) in [("a router", &routers as Message), ("a neighbour", &others), ("a redirect", &redirects)] {
        let packet = |next: u8, wrap: &dyn Fn(&[u8]) -> Vec<u8>, mark: &[u8]| {
            let (from, message) = message(mark);
            frame::ipv6(from, to.addr6, next, &wrap(&message))
        };
        say(what, kind::IPV6, &|mark| packet(ICMPV6, &|rest| rest.to_vec(), mark));
        for options in [HOP_BY_HOP, DESTINATION] {
            say(&format!("{what} behind options {options}"), kind::IPV6, &|mark| {
                packet(options, &|rest| before(ICMPV6, rest), mark)
            });
        }
        say(&format!("{what} in a fragment that is the whole"), kind::IPV6, &|mark| {
            packet(FRAGMENT, &|rest| fragment(ICMPV6, 0, false, rest), mark)
        });
    }
    for (what, number) in [("LLDP", 0x88cc), ("EAPOL", 0x888e), ("PPPoE", 0x8864), ("RARP", 0x8035), ("IEEE 802.2", 40)]
    {
        say(what, number, &|mark| [&[0x42, 0x42, 3, 0, 0, 0, 0], mark].concat());
    }
    frames.add(format!("an Ethernet address of another, to {}", to.name), |mark| {
        frame::ethernet(to.mac, other.mac, kind::IPV4, &datagram(evil.addr4, to.addr4, mark))
    });
}

/// What a container may well send, in order to know that the ears are open.
fn truths(frames: &mut Frames, evil: &Place, to: &Place) {
    let mut say = |what: &str, kind: u16, packet: &dyn Fn(&[u8]) -> Vec<u8>| {
        frames.add(format!("{what}, to {}", to.name), |mark| frame::ethernet(to.mac, evil.mac, kind, &packet(mark)));
    };
    say("IPv4", kind::IPV4, &|mark| datagram(evil.addr4, to.addr4, mark));
    say("ARP", kind::ARP, &|mark| [frame::arp(2, (evil.mac, evil.addr4), (to.mac, to.addr4)), mark.to_vec()].concat());
    for from in [evil.addr6, evil.local] {
        say(&format!("IPv6 of {from}"), kind::IPV6, &|mark| frame::icmp6_packet(from, to.addr6, ECHO, mark));
    }
    let claim = |mark: &[u8]| {
        let body = neighbour(evil.addr6, &frame::nd_ethernet(2, evil.mac), mark);
        frame::icmp6_packet(evil.addr6, to.addr6, ADVERTISEMENT, &body)
    };
    say("an advertisement", kind::IPV6, &claim);
}

#[test]
fn no_frame_passes_that_lies_about_its_sender() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6"]);
        let Scene { evil, good, gate } = scene(lab, &engine);
        let (mut lied, mut honest) = (Frames::default(), Frames::default());
        for (to, other) in [(&good, &gate), (&gate, &good)] {
            lies(&mut lied, &evil, to, other);
            truths(&mut honest, &evil, to);
        }
        for frames in [false, true] {
            look_at_frames(frames);
            for (sent, all) in [(&honest, true), (&lied, false)] {
                let ears = [good.wire(), gate.wire()];
                sent.send(&evil.wire());
                let heard = ears.map(|ear| ear.heard(Duration::from_millis(300)).expect("what was heard")).concat();
                let arrived = sent.among(&heard);
                let missing = sent.0.iter().filter(|(name, _)| !arrived.contains(&name.as_str())).count();
                assert!(if all { missing == 0 } else { arrived.is_empty() }, "br_netfilter {frames}: {arrived:#?}");
            }
        }
        // Every rule that drops has met its frame, so each is needed and is right.
        let table = lab.here().ok(&["nft", "list", "table", "bridge", "berth"]);
        let idle = |line: &&str| line.contains(" drop ") && line.contains("packets 0 ");
        let idle: Vec<&str> = table.lines().filter(idle).collect();
        assert!(table.contains(" drop ") && idle.is_empty(), "nothing met {idle:#?}");
    });
}

#[test]
fn the_bridge_itself_takes_nothing_from_containers() {
    lab::alone(|lab| {
        // Without IPv6 of its own the host would listen to routers.
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let [evil, good] = ["evil", "good"].map(|name| {
            engine.ok(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
            let told = |what: &str| engine.ok(&["inspect", "-f", what, name]).trim().to_owned();
            let network = |field| told(&format!("{{{{.NetworkSettings.Networks.bridge.{field}}}}}"));
            let host = lab.inside_pid(told("{{.State.Pid}}").parse().expect("a pid is a number"));
            let addr4: Ipv4Addr = network("IPAddress").parse().expect("an address");
            (host, frame::mac(&network("MacAddress")), addr4)
        });
        let gate = Ipv4Addr::new(172, 17, 0, 1);
        let served = lab.here().serve_udp(&format!("0.0.0.0:{PORT}"), "host");
        assert!(good.0.ping("172.17.0.1") && evil.0.ping("172.17.0.1"), "so that the bridge knows where they are");
        let state = || {
            let fdb = lab.here().ok(&["bridge", "fdb", "show", "br", "berth0"]);
            let mut learnt: Vec<&str> = fdb.lines().filter(|line| !line.contains("permanent")).collect();
            learnt.sort_unstable();
            [learnt.join("\n"), lab.here().ok(&["ip", "-6", "route"]), lab.here().ok(&["ip", "-6", "neigh"])]
        };
        let before = state();
        let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);
        let liar =
            Place { name: "evil", host: evil.0.clone(), link: "eth0", mac: evil.1, addr4: evil.2, addr6: local, local };
        let wire = liar.wire();
        // The group addresses that a bridge keeps to itself (IEEE 802.1D, table 7-10).
        let reserved = (0..16).map(|last| [0x01, 0x80, 0xc2, 0, 0, last]);
        for (to, from) in reserved.flat_map(|to| [(to, evil.1), (to, good.1)]) {
            let send = |kind, packet: &[u8]| {
                wire.send(&frame::ethernet(to, from, kind, packet)).expect("a frame is sent");
            };
            for addr in [good.2, STRANGER] {
                send(kind::IPV4, &datagram(addr, gate, b"?"));
            }
            let advertisement = router(&liar, ALL_NODES, &[]);
            send(kind::IPV6, &frame::ipv6(local, ALL_NODES, ICMPV6, &advertisement));
            send(0x88cc, &[2, 7, 4, 0, 0, 0, 0, 0, 0]);
        }
        // The same router by the ordinary way.
        let advertisement = frame::ipv6(local, ALL_NODES, ICMPV6, &router(&liar, ALL_NODES, &[]));
        wire.send(&frame::ethernet(ALL_NODES_MAC, evil.1, kind::IPV6, &advertisement)).expect("a frame is sent");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(state(), before, "learnt from evil");
        assert_eq!(served.peers(), [], "heard from evil");
        assert!(good.0.ping("172.17.0.1") && lab.here().ping(&good.2.to_string()));
        // Whoever asks for members of groups (RFC 2710) would decide which of them the bridge lets through.
        let snooping = std::fs::read_to_string("/sys/class/net/berth0/bridge/multicast_snooping");
        assert_eq!(snooping.expect("a setting of the bridge").trim(), "0");
    });
}

#[test]
fn who_speaks_as_himself_makes_nobody_believe_more() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6"]);
        let Scene { evil, good, gate } = scene(lab, &engine);
        let meet =
            |from: &Place, to: &Place| from.host.ping(&to.addr4.to_string()) && from.host.ping(&to.addr6.to_string());
        let all = [(&good, &gate), (&gate, &good), (&good, &evil), (&gate, &evil)];
        assert!(all.iter().all(|(from, to)| meet(from, to)));
        let state = || {
            let routes = [&good, &gate].map(|place| {
                let way = place.host.run(&["ip", "route", "get", &STRANGER.to_string()]).stdout;
                [place.host.ok(&["ip", "route"]), place.host.ok(&["ip", "-6", "route"]), way]
            });
            (routes, good.believes(&gate), gate.believes(&good))
        };
        let before = state();
        let wire = evil.wire();
        for (to, other) in [(&good, &gate), (&gate, &good)] {
            let send = |kind, packet: &[u8]| {
                wire.send(&frame::ethernet(to.mac, evil.mac, kind, packet)).expect("a frame is sent");
            };
            // Its own address is where another is.
            for mac in [other.mac, to.mac] {
                for (message, option) in [(ADVERTISEMENT, 2), (SOLICITATION, 1)] {
                    let target = if message == ADVERTISEMENT { evil.addr6 } else { to.addr6 };
                    let body = neighbour(target, &frame::nd_ethernet(option, mac), &[]);
                    send(kind::IPV6, &frame::icmp6_packet(evil.addr6, to.addr6, message, &body));
                }
            }
            // A better way to elsewhere (RFC 792), as only the gateway in use may tell.
            let quoted = datagram(to.addr4, STRANGER, b"12345678");
            let redirect = frame::icmp(5, 1, &[&evil.addr4.octets()[..], &quoted].concat());
            send(kind::IPV4, &frame::ipv4(evil.addr4, to.addr4, ICMP, &redirect));
            // A router in two fragments, the first of which does not tell what it is (RFC 6980 forbids to listen).
            let whole = before_icmp(&router(&evil, to.local, &[]));
            let (first, second) = whole.split_at(8);
            send(kind::IPV6, &frame::ipv6(evil.local, to.local, FRAGMENT, &fragment(DESTINATION, 0, true, first)));
            send(kind::IPV6, &frame::ipv6(evil.local, to.local, FRAGMENT, &fragment(DESTINATION, 1, false, second)));
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(state(), before, "somebody believes evil");
        assert!(meet(&good, &gate) && meet(&gate, &good));
    });
}

fn before_icmp(message: &[u8]) -> Vec<u8> {
    before(ICMPV6, message)
}

#[test]
fn the_host_carries_nothing_between_containers_that_are_kept_apart() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6", "--icc=false"]);
        let Scene { evil, good, gate } = scene(lab, &engine);
        // Good speaks with the host: that is a flow to which somebody could belong.
        let _served = lab.here().serve_udp(&format!("0.0.0.0:{PORT}"), "host");
        let (from, to) = ((good.addr4, 5555), (gate.addr4, PORT));
        good.host.enter(|| {
            let socket = std::net::UdpSocket::bind(from).expect("a socket");
            socket.send_to(b"?", to).expect("a datagram is sent");
        });
        let mut frames = Frames::default();
        for (via, mac) in [("the host", gate.mac), ("the bridge", good.mac), ("everybody", [0xff; 6])] {
            let mut say = |what: &str, kind: u16, packet: &dyn Fn(&[u8]) -> Vec<u8>| {
                frames.add(format!("{what} by {via}"), |mark| frame::ethernet(mac, evil.mac, kind, &packet(mark)));
            };
            say("IPv4", kind::IPV4, &|mark| datagram(evil.addr4, good.addr4, mark));
            let tcp = [0x15, 0xb3, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
            say("TCP", kind::IPV4, &|mark| frame::ipv4(evil.addr4, good.addr4, TCP, &[&tcp[..], mark].concat()));
            say("an echo", kind::IPV4, &|mark| {
                frame::ipv4(evil.addr4, good.addr4, ICMP, &frame::icmp(8, 0, &[&[0; 4], mark].concat()))
            });
            say("IPv6", kind::IPV6, &|mark| frame::icmp6_packet(evil.addr6, good.addr6, ECHO, mark));
            say("IPv6 to the link-local address", kind::IPV6, &|mark| {
                frame::icmp6_packet(evil.local, good.local, ECHO, mark)
            });
            let source_route = |mark: &[u8]| {
                // RFC 791, loose source route: to the host, and from there to good.
                let mut packet = datagram(evil.addr4, gate.addr4, mark);
                let options = [&[131, 7, 4][..], &good.addr4.octets(), &[0]].concat();
                packet.splice(20..20, options);
                packet[0] = 0x47;
                packet[3] += 8;
                frame::with_checksum(packet)
            };
            say("a source route", kind::IPV4, &source_route);
            let error = |mark: &[u8]| {
                let quoted = frame::ipv4(from.0, to.0, UDP, &frame::udp(from.1, to.1, b"?"));
                frame::ipv4(evil.addr4, good.addr4, ICMP, &frame::icmp(3, 3, &[&[0; 4], &quoted[..], mark].concat()))
            };
            say("an error about a flow of good's", kind::IPV4, &error);
        }
        let mut honest = Frames::default();
        truths(&mut honest, &evil, &gate);
        for looked_at in [false, true] {
            look_at_frames(looked_at);
            let (ear, control) = (good.wire(), gate.wire());
            frames.send(&evil.wire());
            honest.send(&evil.wire());
            let heard = ear.heard(Duration::from_millis(300)).expect("what was heard");
            let arrived = frames.among(&heard);
            assert!(arrived.is_empty(), "br_netfilter {looked_at}: good hears {arrived:#?}");
            let control = control.heard(Duration::from_millis(100)).expect("what was heard");
            assert_eq!(honest.among(&control).len(), honest.0.len(), "the host does not hear evil");
        }
    });
}
