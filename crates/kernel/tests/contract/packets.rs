use crate::chance::converge;
use crate::{id, open};
use plan::desired::desired;
use plan::ids::{IfName, Mac};
use plan::world::{Endpoint, Network, PortBinding, Proto, Sandbox, Subnet, World};

/// One container on a network of both families, with a port, a range of one address, and a port of IPv6.
fn world() -> World {
    let mut world = World::default();
    let network: plan::ids::NetworkId = "1".repeat(64).parse().unwrap();
    let (net4, net6) = ("10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap());
    let (gateway4, gateway6) = ("10.1.0.1".parse().unwrap(), "fd00:1::1".parse().unwrap());
    let made = Network {
        joint: Default::default(),
        id: network.clone(),
        name: "app".into(),
        bridge: "br0".parse().unwrap(),
        foreign_bridge: false,
        mac: Mac([2, 0x42, 10, 1, 0, 1]),
        v4: Some(Subnet::new(net4, gateway4)),
        v6: Some(Subnet::new(net6, gateway6)),
        mtu: 1500,
        icc: true,
        masquerade: true,
        internal: false,
        host_ip: None,
        unnumbered: false,
        trusted: Default::default(),
        prefix: None,
        about: Default::default(),
    };
    world.networks.insert(network.clone(), made);
    world.sandboxes.insert(id('a'), Sandbox::new(id('a'), "3".repeat(64).parse().unwrap()));
    let endpoint: plan::ids::EndpointId = "4".repeat(64).parse().unwrap();
    let port = |host_ip: &str, host_port, inner_port, count| PortBinding {
        proto: Proto::Tcp,
        host_ip: host_ip.parse().unwrap(),
        host_port,
        inner_port,
        count,
    };
    let made = Endpoint {
        host: IfName::host_end(&endpoint),
        network,
        sandbox: id('a'),
        container_name: "web".into(),
        inner: IfName::inner(0),
        mac: Mac([2, 0x42, 10, 1, 0, 2]),
        addr4: Some("10.1.0.2".parse().unwrap()),
        addr6: Some("fd00:1::2".parse().unwrap()),
        gateway: true,
        gateway4: false,
        gateway6: false,
        priority: 0,
        names: Vec::new(),
        opened: Default::default(),
        link_local: Default::default(),
        sysctls: Default::default(),
        ports: vec![port("0.0.0.0", 8080, 80, 1), port("192.0.2.1", 9000, 9000, 10), port("::", 8080, 80, 1)],
        id: endpoint.clone(),
    };
    world.endpoints.insert(endpoint, made);
    world
}

#[test]
fn packets_go_where_the_rules_say() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let friend = lab.host("friend", "192.0.2.2/24 2001:db8::2/64");
        let mut host = open(lab);
        converge(&mut host, &desired(&world()), "one container");
        let sandbox = lab.inside_path(&host.pin(&id('a')));
        let _web4 = sandbox.serve_tcp("0.0.0.0:80", "web");
        let _web6 = sandbox.serve_tcp("[fd00:1::2]:80", "web");
        let _range = sandbox.serve_tcp("10.1.0.2:9003", "range");
        let _friendly4 = friend.serve_tcp("192.0.2.2:7", "friend");
        let _friendly6 = friend.serve_tcp("[2001:db8::2]:7", "friend");
        // Published, seen from outside and from the host itself; the container sees who asks.
        assert_eq!(friend.tcp("192.0.2.1:8080").unwrap(), "web 192.0.2.2\n");
        assert_eq!(friend.tcp("[2001:db8::1]:8080").unwrap(), "web 2001:db8::2\n");
        assert_eq!(friend.tcp("192.0.2.1:9003").unwrap(), "range 192.0.2.2\n");
        assert!(lab.here().tcp("192.0.2.1:8080").unwrap().starts_with("web "));
        // Outwards with the host's address.
        assert_eq!(sandbox.tcp("192.0.2.2:7").unwrap(), "friend 192.0.2.1\n");
        assert_eq!(sandbox.tcp("[2001:db8::2]:7").unwrap(), "friend 2001:db8::1\n");
        // What is not published is not reached, even by who knows the way.
        friend.ok(&["ip", "route", "add", "10.1.0.0/24", "via", "192.0.2.1"]);
        assert!(friend.tcp("10.1.0.2:80").is_err());
        assert!(friend.tcp("192.0.2.1:9010").is_err());
        // A withdrawn port no longer answers.
        let mut fewer = world();
        for endpoint in fewer.endpoints.values_mut() {
            endpoint.ports.remove(0);
        }
        converge(&mut host, &desired(&fewer), "without a port");
        assert!(friend.tcp("192.0.2.1:8080").is_err());
        assert_eq!(friend.tcp("192.0.2.1:9003").unwrap(), "range 192.0.2.2\n");
    })
}
