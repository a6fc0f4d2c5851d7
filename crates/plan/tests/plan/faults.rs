//! Facts that must never be, and whether `check` finds them.

use crate::scenario::{endpoint_id, network_id, sandbox_id, world};
use plan::check::check;
use plan::world::{Endpoint, Network, World};

const GOOD: &str = "net app 10.1.0.0/24 fd01::/64; net web 10.2.0.0/24; net in 10.3.0.0/24 internal;
                    run a on app publish 80:80; run b on app publish 81:80; join b web; join b in";

/// The faults of good facts after a change for the worse.
fn faults(worsen: impl FnOnce(&mut World)) -> String {
    let mut world = world(GOOD);
    worsen(&mut world);
    check(&world).iter().map(|fault| fault.to_string()).collect::<Vec<_>>().join("; ")
}

fn of_endpoint(container: &str, network: &str, worsen: impl FnOnce(&mut Endpoint)) -> String {
    faults(|world| worsen(world.endpoints.get_mut(&endpoint_id(container, network)).unwrap()))
}

fn of_network(network: &str, worsen: impl FnOnce(&mut Network)) -> String {
    faults(|world| worsen(world.networks.get_mut(&network_id(network)).unwrap()))
}

#[test]
fn good_facts_have_none() {
    assert_eq!(faults(|_| {}), "");
}

#[test]
fn every_fault_is_found() {
    let (a, b) = (endpoint_id("a", "app").short(), endpoint_id("b", "app").short());
    let contains = |found: String, words: &str| assert!(found.contains(words), "{words:?} is not in {found:?}");
    contains(of_endpoint("b", "app", |e| e.addr4 = Some("10.1.0.2".parse().unwrap())), "address 10.1.0.2 is of ");
    contains(
        of_endpoint("b", "app", |e| e.addr4 = Some("10.9.0.2".parse().unwrap())),
        &format!("endpoint {b} has address 10.9.0.2, which network app cannot give"),
    );
    contains(of_endpoint("b", "app", |e| e.addr4 = Some("10.1.0.1".parse().unwrap())), "10.1.0.1, which network app");
    contains(of_endpoint("b", "app", |e| e.addr6 = None), &format!("endpoint {b} has no IPv6 address"));
    contains(of_endpoint("b", "web", |e| e.addr6 = Some("fd01::9".parse().unwrap())), "fd01::9, which network web");
    contains(
        of_endpoint("b", "app", |e| e.mac = "02:42:0a:01:00:02".parse().unwrap()),
        "MAC address 02:42:0a:01:00:02",
    );
    contains(
        of_endpoint("b", "app", |e| e.mac = "02:42:0a:01:00:01".parse().unwrap()),
        "MAC address 02:42:0a:01:00:01",
    );
    contains(of_endpoint("b", "web", |e| e.inner = "eth0".parse().unwrap()), "interface eth0 in");
    contains(of_endpoint("b", "web", |e| e.gateway = true), "has 2 endpoints with the default route and 2 that could");
    contains(of_endpoint("a", "app", |e| e.gateway = false), "has 0 endpoints with the default route and 1 that could");
    contains(of_endpoint("a", "app", |e| e.network = network_id("x")), &format!("endpoint {a} is on network"));
    contains(of_endpoint("a", "app", |e| e.sandbox = sandbox_id("x")), &format!("endpoint {a} is of sandbox"));
    contains(of_endpoint("b", "web", |e| e.network = network_id("app")), "the place of ");
    contains(of_endpoint("a", "app", |e| e.id = endpoint_id("x", "app")), "stands under the id");
    contains(of_endpoint("b", "app", |e| e.ports[0].host_port = 80), "are the same port of the host");
    contains(of_endpoint("a", "app", |e| e.ports[0].count = 2), "are the same port of the host");
    contains(of_endpoint("a", "app", |e| e.ports[0].count = 0), "is no port");
    let host = world(GOOD).endpoints[&endpoint_id("a", "app")].host.clone();
    contains(of_endpoint("b", "app", |e| e.host = host.clone()), &format!("interface {host} is of"));
    contains(of_network("app", |n| n.bridge = host.clone()), &format!("interface {host} is of"));
    contains(of_network("web", |n| n.name = "app".into()), "network name app is of");
    contains(of_network("web", |n| n.v4.as_mut().unwrap().net = "10.1.0.0/16".parse().unwrap()), "overlaps");
    let outside = |n: &mut Network| n.v4.as_mut().unwrap().gateway = "10.9.0.1".parse().unwrap();
    contains(of_network("web", outside), "network web: gateway 10.9.0.1 is not inside of 10.2.0.0/24");
    let outside = |n: &mut Network| n.v4.as_mut().unwrap().range = "10.2.0.0/23".parse().unwrap();
    contains(of_network("web", outside), "network web: range 10.2.0.0/23 is not inside of 10.2.0.0/24");
    let opened = |port, count| plan::world::Opened { proto: plan::world::Proto::Tcp, v6: false, port, count };
    let twice = of_endpoint("a", "app", |e| e.opened = [opened(80, 3), opened(82, 1)].into());
    contains(twice, "are none, or are named twice");
    contains(of_endpoint("a", "app", |e| e.opened = [opened(65535, 2)].into()), "are none, or are named twice");
    let rest = plan::world::Rest { since: 0, container: "a".repeat(64).parse().unwrap() };
    let resting = |addr: &str| [(addr.parse().unwrap(), rest.clone())].into();
    contains(
        faults(|world| drop(world.resting.insert(network_id("app"), resting("10.1.0.2")))),
        "address 10.1.0.2 of network",
    );
    contains(faults(|world| drop(world.resting.insert(network_id("x"), resting("10.1.0.9")))), "which is not there");
}
