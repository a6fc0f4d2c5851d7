use crate::{addr, bridge, id, inside, name, open, up, veth};
use kernel::watch::{Moved, Watch, around, surprising};
use plan::apply::Kernel;
use plan::firewall;
use plan::flows::{Answers, Flows};
use plan::netstate::{IpFamily, NetState, Ns, Op};
use plan::nft::{Data, Element, Owner, TableName, Value, Why};
use std::time::Duration;

#[test]
fn facts_tell_of_the_host() {
    lab::alone(|lab| {
        let mut host = open(lab);
        let facts = host.facts().unwrap();
        assert_eq!(facts.default_mtu, None);
        assert!(facts.ipv6);
        lab.uplink("192.0.2.1/24");
        let here = lab.here();
        let uplink = host.facts().unwrap();
        let (link, _) = uplink.addrs.iter().find(|(_, a)| a.contains(&"192.0.2.1/24".parse().unwrap())).unwrap();
        here.ok(&["ip", "link", "set", link.as_str(), "mtu", "1480"]);
        here.ok(&["ip", "route", "add", "default", "via", "192.0.2.9", "metric", "50"]);
        here.ok(&["ip", "route", "add", "default", "via", "192.0.2.8", "metric", "5", "mtu", "1300"]);
        here.ok(&["ip", "route", "add", "unreachable", "10.9.0.0/16"]);
        here.ok(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 50000"]);
        here.ok(&["sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=41000-41010,42000"]);
        host.perform(&bridge("br0", 1500)).unwrap();
        host.perform(&Op::SetForwarding { ns: Ns::Host, family: IpFamily::V4 }).unwrap();
        let facts = host.facts().unwrap();
        assert_eq!(facts.default_mtu, Some(1300));
        assert_eq!(facts.ephemeral, (40000, 50000));
        assert_eq!(facts.reserved, [(41000, 41010), (42000, 42000)]);
        assert_eq!(facts.forwarding.iter().collect::<Vec<_>>(), [&IpFamily::V4]);
        assert!(facts.routes.iter().any(|route| route.to == "10.9.0.0/16".parse().unwrap()), "{:?}", facts.routes);
        let bridge = &facts.links[&name("br0")];
        assert!(bridge.ours && bridge.bridge && !bridge.up);
        let uplink = &facts.links[link];
        assert!(!uplink.ours && uplink.up && uplink.mtu == 1480);
        here.ok(&["ip", "route", "del", "default", "metric", "5"]);
        assert_eq!(host.facts().unwrap().default_mtu, Some(1480));
    })
}

/// All that moves until nothing has for a moment.
fn settled(watch: &mut Watch) -> Vec<Moved> {
    let mut all = Vec::new();
    loop {
        let moved = watch.wait(Some(Duration::from_millis(150))).unwrap();
        if moved.is_empty() {
            return all;
        }
        all.extend(moved);
    }
}

#[test]
fn movements_are_noticed_with_who_made_them() {
    lab::alone(|lab| {
        let mut host = open(lab);
        let mut watch = Watch::open(&host).unwrap();
        assert!(settled(&mut watch).is_empty());
        host.perform(&bridge("br0", 1500)).unwrap();
        host.perform(&Op::ReplaceTable { ns: Ns::Host, name: TableName::inet(), table: firewall::skeleton() }).unwrap();
        host.perform(&Op::SetForwarding { ns: Ns::Host, family: IpFamily::V4 }).unwrap();
        host.perform(&addr(Ns::Host, "br0", "10.1.0.1/24")).unwrap();
        host.perform(&up(Ns::Host, "br0", true)).unwrap();
        host.perform(&Op::AddSpace(id('a'))).unwrap();
        host.perform(&veth("veth0", "br0", "eth0", 'a')).unwrap();
        host.perform(&up(inside('a'), "eth0", true)).unwrap();
        let believed = host.observe().unwrap();
        let moved = settled(&mut watch);
        assert!(moved.contains(&Moved::Firewall { by_us: true }), "{moved:?}");
        assert!(moved.contains(&Moved::Address { by_us: true }), "{moved:?}");
        assert!(moved.iter().any(|one| matches!(one, Moved::Link(now) if now.name == name("veth0"))), "{moved:?}");
        assert!(!surprising(&moved, &believed), "{moved:?}");
        assert!(surprising(&moved, &NetState::default()), "{moved:?}");
        // Not even what a bridge tells of our ports, which does not say that they are ours, is about others.
        let links: Vec<_> = moved.iter().filter(|one| matches!(one, Moved::Link(_))).cloned().collect();
        assert!(links.iter().any(|one| matches!(one, Moved::Link(now) if !now.ours)) && !around(&links), "{links:?}");

        for words in
            ["link add other type bridge", "link set other up", "addr add 10.9.0.1/24 dev lo", "link del other"]
        {
            lab.here().ok(&[&["ip"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        }
        let strangers = settled(&mut watch);
        let links: Vec<_> = strangers.iter().filter(|one| !matches!(one, Moved::Address { .. })).cloned().collect();
        assert!(!links.is_empty() && !surprising(&links, &believed), "{strangers:?}");
        for words in ["ip route add 10.8.0.0/16 dev br0", "sysctl -qw net.ipv6.conf.all.forwarding=1"] {
            lab.here().ok(&words.split(' ').collect::<Vec<_>>());
            let moved = settled(&mut watch);
            assert!(around(&moved) && !surprising(&moved, &believed), "{words}: {moved:?}");
        }

        for words in [
            "ip link set br0 down",
            "ip link set veth0 nomaster",
            "ip link set br0 mtu 1300",
            "nft flush ruleset",
            "ip addr flush dev br0",
            "sysctl -qw net.ipv4.ip_forward=0",
        ] {
            lab.here().ok(&words.split(' ').collect::<Vec<_>>());
            let moved = settled(&mut watch);
            assert!(surprising(&moved, &believed), "{words}: {moved:?}");
        }
        let believed = host.observe().unwrap();
        lab.here().ok(&["ip", "link", "del", "veth0"]);
        let moved = settled(&mut watch);
        assert!(moved.contains(&Moved::NoLink(name("veth0"))) && surprising(&moved, &believed), "{moved:?}");
        let believed = host.observe().unwrap();
        host.perform(&Op::DelSpace(id('a'))).unwrap();
        assert!(!surprising(&settled(&mut watch), &believed));
    })
}

#[test]
fn flows_are_forgotten_by_what_they_were_for() {
    lab::alone(|lab| {
        let mut host = open(lab);
        for op in [
            Op::AddSpace(id('a')),
            bridge("br0", 1500),
            up(Ns::Host, "br0", true),
            addr(Ns::Host, "br0", "10.1.0.1/24"),
            addr(Ns::Host, "br0", "fd00:1::1/64"),
            veth("veth0", "br0", "eth0", 'a'),
            up(inside('a'), "eth0", true),
            addr(inside('a'), "eth0", "10.1.0.2/24"),
            addr(inside('a'), "eth0", "fd00:1::2/64"),
        ] {
            host.perform(&op).unwrap();
        }
        // Ports 1053 and 1054 lead to 53 and 54 inside.
        let mut table = firewall::skeleton();
        let (four, six): (std::net::Ipv4Addr, std::net::Ipv6Addr) =
            ("10.1.0.2".parse().unwrap(), "fd00:1::2".parse().unwrap());
        for (set, port, addr) in [
            ("published4", 53, Value::Addr4(four)),
            ("published4", 54, Value::Addr4(four)),
            ("published6", 53, Value::Addr6(six)),
        ] {
            let data = Some(Data::Parts(vec![addr, Value::Port(port)]));
            let element = Element { data, why: Why::new("test", Owner::Engine) };
            let key = vec![Value::Proto(17), Value::Port(1000 + port)];
            table.sets.get_mut(set).unwrap().elements.insert(key, element);
        }
        host.perform(&Op::ReplaceTable { ns: Ns::Host, name: TableName::inet(), table }).unwrap();
        let sandbox = lab.inside_path(&host.pin(&id('a')));
        let _served = ["10.1.0.2:53", "[fd00:1::2]:53", "10.1.0.2:54"].map(|at| sandbox.serve_udp(at, "hello"));
        for to in ["10.1.0.1:1053", "[fd00:1::1]:1053", "10.1.0.1:1054"] {
            lab.here().udp(to, "?").unwrap();
        }
        let tracked = || {
            let all = std::fs::read_to_string("/proc/net/nf_conntrack").unwrap();
            let to = |port: u16| all.lines().filter(|line| line.contains(&format!(" dport={port} "))).count();
            [1053, 1054].map(to)
        };
        assert_eq!(tracked(), [2, 1]);
        let flows = |ports, answers| Flows { v6: false, proto: 17, to: None, ports, answers };
        let container = Answers::Address(four.into());
        let mut forget = |flows: &[Flows]| {
            host.perform(&Op::ForgetFlows(flows.to_vec())).unwrap();
            tracked()
        };
        // Another protocol, another who answers, another port, and who is no container.
        let other = Answers::Address("10.1.0.3".parse().unwrap());
        let others = [
            Flows { proto: 6, ..flows((1053, 1053), container) },
            flows((1053, 1053), other),
            flows((1055, 60000), container),
            flows((1, 1052), container),
            flows((1053, 1054), Answers::Host),
            Flows { v6: true, ..flows((1053, 1053), Answers::Host) },
        ];
        assert_eq!(forget(&others), [2, 1]);
        for one in &others {
            assert_eq!(forget(std::slice::from_ref(one)), [2, 1], "{one}");
        }
        assert_eq!(forget(&[flows((1053, 1053), container)]), [1, 1]);
        assert_eq!(forget(&[Flows { v6: true, ..flows((1, 2000), Answers::Address(six.into())) }]), [0, 1]);
        assert_eq!(forget(&[flows((1054, 1054), other), flows((1040, 1060), container)]), [0, 0]);
        // What was for the host itself, and not what was for somebody else.
        host.perform(&Op::ReplaceTable { ns: Ns::Host, name: TableName::inet(), table: firewall::skeleton() }).unwrap();
        let _here = lab.here().serve_udp("10.1.0.1:1053", "here");
        sandbox.udp("10.1.0.1:1053", "?").unwrap();
        assert_eq!(tracked(), [1, 0]);
        let mut forget = |answers| {
            host.perform(&Op::ForgetFlows(vec![flows((1053, 1053), answers)])).unwrap();
            tracked()
        };
        assert_eq!(forget(Answers::Address("10.1.0.1".parse().unwrap())), [1, 0]);
        assert_eq!(forget(Answers::Host), [0, 0]);
    })
}

#[test]
fn a_translated_flow_is_asked_whom_it_was_for() {
    lab::alone(|lab| {
        let mut host = open(lab);
        let mut table = firewall::skeleton();
        let relayed = table.sets.get_mut("relayed6").unwrap();
        for proto in [6, 17] {
            let data = Some(Data::Parts(vec![Value::Port(7000)]));
            let element = Element { data, why: Why::new("test", Owner::Engine) };
            relayed.elements.insert(vec![Value::Proto(proto), Value::Port(80)], element);
        }
        host.perform(&Op::ReplaceTable { ns: Ns::Host, name: TableName::inet(), table }).unwrap();
        let socket = std::net::UdpSocket::bind("[::]:7000").unwrap();
        let client = std::net::UdpSocket::bind("[::1]:0").unwrap();
        client.send_to(b"?", "[::1]:80").unwrap();
        let (_, from) = socket.recv_from(&mut [0; 8]).unwrap();
        let mut tracked = kernel::conntrack::Tracked::open().unwrap();
        let mut find = |from, answers: &str| tracked.original(17, from, answers.parse().unwrap()).unwrap();
        assert_eq!(find(from, "[::1]:7000"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(find(from, "[::1]:7001"), None);
        // The answer comes from where the question went.
        client.connect("[::1]:80").unwrap();
        socket.send_to(b"!", from).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
        let relayed = Flows { v6: true, proto: 17, to: None, ports: (80, 80), answers: Answers::Relay(7000) };
        tracked.forget(std::slice::from_ref(&relayed), |flow| flow.to.port() == 80).unwrap();
        assert!(tracked.original(17, from, "[::1]:7000".parse().unwrap()).unwrap().is_some());
        tracked.forget(&[relayed], |_| false).unwrap();
        assert_eq!(tracked.original(17, from, "[::1]:7000".parse().unwrap()).unwrap(), None);
        let _served = lab.here().serve_tcp("[::]:7000", "relay");
        let stream = lab.here().connect("[::1]:80").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), "[::1]:80".parse().unwrap());
    })
}
