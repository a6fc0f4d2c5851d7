//! Networks whose containers are stations on the segment of an interface of the host's; through `berth` and `docker`. The host is
//! the lab's namespace, and the segment has other machines.

use lab::{Engine, Host, Lab, Output, residue};
use serde_json::{Value, json};
use std::time::Duration;

const RESOLVER: &str = "127.0.0.11:53";

fn each(engine: &Engine, words: &[&str]) -> Vec<Output> {
    let docker = lab::has_docker().then(|| engine.docker(words));
    [engine.berth(words)].into_iter().chain(docker).collect()
}

/// Both refuse to make such a network, saying this.
#[track_caller]
fn refused(engine: &Engine, flags: &[&str], says: &str) {
    let words = [&["network", "create", "-d", "macvlan"][..], flags, &["x1"]].concat();
    for out in each(engine, &words) {
        assert!(out.code == 1 && out.stderr.contains(says), "{words:?}: wanted {says:?}, got {out:?}");
    }
}

/// Starts a container that sleeps; its place.
#[track_caller]
fn run(lab: &Lab, engine: &Engine, docker: bool, name: &str, flags: &[&str]) -> Host {
    let words = [&["run", "-d", "--name", name][..], flags, &["busybox", "sleep", "1000"]].concat();
    if docker && lab::has_docker() {
        engine.docker_ok(&words)
    } else {
        engine.ok(&words)
    };
    lab.container(engine, name)
}

#[track_caller]
fn address(engine: &Engine, name: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    engine.ok(&["inspect", "-f", &format, name]).trim().to_owned()
}

#[track_caller]
fn shown(engine: &Engine, network: &str) -> Value {
    let read = |out: Output| {
        let mut all: Value = serde_json::from_str(&out.stdout).unwrap();
        // `docker` speaks an older version of the API.
        all[0].as_object_mut().unwrap().remove("Status");
        all
    };
    let mut all = each(engine, &["network", "inspect", network]).into_iter().map(read);
    let first = all.next().unwrap();
    assert!(all.all(|other| other == first));
    first[0].clone()
}

/// Nobody answers within a time in which others do.
#[track_caller]
fn silent(from: &Host, to: &str) {
    assert!(from.try_ping(to, Duration::from_millis(400)).is_err(), "{} reaches {to}", from.name());
}

fn routes(engine: &Engine, name: &str) -> String {
    engine.ok(&["exec", name, "ip", "route"])
}

#[test]
fn containers_are_machines_of_the_hosts_segment() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let outside = lab.host("outside", "192.0.2.2/24 2001:db8::2/64");
        let router = lab.host("router", "192.0.2.254/24 2001:db8::254/64");
        router.ok(&["ip", "addr", "add", "198.51.100.1/32", "dev", "lo"]);
        let names = outside.serve_dns("192.0.2.2:53", "who.example A 192.0.2.80");
        lab.resolv_conf("nameserver 192.0.2.2\n");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let before = residue::listing(&engine);
        // Addresses may have been on trial at first.
        let uplink = || lab.here().ok(&["ip", "addr", "show", "up0"]).replace(" tentative", "");
        let uplink_before = uplink();
        let words = [
            "network",
            "create",
            "-d",
            "macvlan",
            "--ipv6",
            "--subnet",
            "192.0.2.0/24",
            "--ip-range",
            "192.0.2.64/26",
            "--gateway",
            "192.0.2.254",
            "--subnet",
            "2001:db8::/64",
            "--gateway",
            "2001:db8::254",
            "--aux-address",
            "six=2001:db8::2",
            "--aux-address",
            "host=2001:db8::1",
            "-o",
            "parent=up0",
            "lan",
        ];
        engine.ok(&words);
        let network = shown(&engine, "lan");
        assert_eq!(
            (&network["Driver"], &network["Options"], &network["Internal"], &network["Scope"]),
            (&json!("macvlan"), &json!({"parent": "up0"}), &json!(false), &json!("local"))
        );
        assert_eq!(network["IPAM"]["Config"][0]["Gateway"], "192.0.2.254");
        for out in each(&engine, &["network", "ls", "--filter", "driver=macvlan", "--format", "{{.Name}} {{.Driver}}"])
        {
            assert_eq!(out.stdout, "lan macvlan\n");
        }
        // What is published is not: it would have to pass the host.
        let a = run(lab, &engine, false, "a1", &["--network", "lan", "-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
        let b = run(
            lab,
            &engine,
            true,
            "b1",
            &["--network", "lan", "--ip", "192.0.2.77", "--mac-address", "02:00:00:00:00:77"],
        );
        assert_eq!(
            (address(&engine, "a1", "lan"), address(&engine, "b1", "lan")),
            ("192.0.2.64".into(), "192.0.2.77".into())
        );
        assert_eq!(engine.ok(&["port", "a1"]), "");
        let own = a.serve_tcp("[::]:80", "a1");
        assert!(lab.here().tcp("127.0.0.1:8081").is_err() && outside.tcp("192.0.2.1:8080").is_err());
        let refusal = engine.berth(&["port", "add", "a1", "8082:80"]);
        assert!(refusal.code == 1 && refusal.stderr.contains("network lan has no bridge"), "{refusal:?}");
        // Machines among machines: with their own addresses, both ways, and the router is one of them.
        let served = outside.serve_tcp("[::]:80", "outside");
        let check = |a: &Host, b: &Host, why: &str| {
            assert_eq!(a.tcp("192.0.2.2:80").expect(why), "outside 192.0.2.64\n", "{why}");
            assert!(a.tcp("[2001:db8::2]:80").expect(why).starts_with("outside 2001:db8::"), "{why}");
            assert_eq!(outside.tcp("192.0.2.64:80").expect(why), "a1 192.0.2.2\n", "{why}");
            assert!(a.ping("192.0.2.77") && b.ping("192.0.2.64") && outside.ping("192.0.2.77"), "{why}");
            assert!(a.ping("198.51.100.1"), "{why}: by the router");
            // The host and its stations do not hear each other.
            silent(&lab.here(), "192.0.2.64");
            silent(a, "192.0.2.1");
            assert_eq!(a.dns(RESOLVER, "b1").expect(why).to_string(), "NOERROR 192.0.2.77", "{why}");
            assert_eq!(a.dns(RESOLVER, "who.example").expect(why).to_string(), "NOERROR 192.0.2.80", "{why}");
        };
        check(&a, &b, "as started");
        assert!(
            names.askers().iter().all(|peer| peer.ip().to_string() == "192.0.2.1"),
            "the host asks: {:?}",
            names.askers()
        );
        assert!(routes(&engine, "a1").contains("default via 192.0.2.254 dev eth0"), "{}", routes(&engine, "a1"));
        engine.ok(&["restart", "-t", "0", "a1", "b1"]);
        check(&a, &b, "after a restart");
        engine.kill9();
        assert!(a.ping("192.0.2.77") && a.tcp("192.0.2.2:80").is_ok(), "no engine is needed for it");
        engine.start_again();
        lab::wait_for("the resolver", Duration::from_secs(5), || a.dns(RESOLVER, "b1").ok());
        check(&a, &b, "after the engine's death");
        // Somebody deletes a station's interface: it is made again.
        b.ok(&["ip", "link", "del", "eth0"]);
        lab::wait_for("the repair", Duration::from_secs(20), || b.ping("192.0.2.64").then_some(()));
        check(&a, &b, "after a repair");
        assert!(engine.ok(&["exec", "b1", "ip", "link", "show", "eth0"]).contains("02:00:00:00:00:77"));
        // Also on another network, whose bridge leads out; and taken off again.
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        engine.ok(&["network", "connect", "--gw-priority", "1", "app", "a1"]);
        assert!(routes(&engine, "a1").contains("default via 10.1.0.1 dev eth1"));
        assert!(engine.ok(&["port", "a1"]).contains("80/tcp -> 0.0.0.0:8080"), "now there is a bridge to publish by");
        engine.ok(&["network", "disconnect", "lan", "a1"]);
        silent(&outside, "192.0.2.64");
        engine.ok(&["network", "connect", "--gw-priority", "2", "lan", "a1"]);
        assert_eq!(engine.ok(&["port", "a1"]), "");
        assert!(routes(&engine, "a1").contains("default via 192.0.2.254 dev eth0"));
        // In use while somebody runs there; then nothing is left, and the host's interface is as it was.
        let busy = engine.berth(&["network", "rm", "lan"]);
        assert!(busy.code == 1 && busy.stderr.contains("network lan has active endpoints"), "{busy:?}");
        drop((a, b, own, served));
        engine.ok(&["rm", "-f", "a1", "b1"]);
        engine.ok(&["network", "rm", "lan", "app"]);
        assert_eq!(uplink(), uplink_before);
        residue::assert_same(&engine, &before);
    });
}

#[test]
fn a_vlan_is_made_for_its_network_and_goes_with_it() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let probe = lab.here().run(&["ip", "link", "add", "link", "up0", "name", "up0.9", "type", "vlan", "id", "9"]);
        if probe.code != 0 {
            println!(
                "this kernel has no VLANs (CONFIG_VLAN_8021Q), so only their refusal is judged: {}",
                probe.stderr.trim()
            );
            return refuses_vlans(lab);
        }
        lab.here().ok(&["ip", "link", "del", "up0.9"]);
        let outside = lab.host("outside", "192.0.2.2/24");
        for (id, addr) in [("10", "198.51.100.2/24"), ("20", "203.0.113.2/24")] {
            let name = format!("eth0.{id}");
            outside.ok(&["ip", "link", "add", "link", "eth0", "name", &name, "type", "vlan", "id", id]);
            outside.ok(&["ip", "addr", "add", addr, "dev", &name]);
            outside.ok(&["ip", "link", "set", &name, "up"]);
        }
        // One is there already, and stays the host's.
        let here = lab.here();
        here.ok(&["ip", "link", "add", "link", "up0", "name", "up0.20", "type", "vlan", "id", "20"]);
        here.ok(&["ip", "link", "set", "up0.20", "up"]);
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let before = residue::listing(&engine);
        let create = |docker: bool, parent: &str, subnet: &str, name: &str| {
            let parent = format!("parent={parent}");
            let words =
                ["network", "create", "-d", "macvlan", "--subnet", subnet, "--gateway", "", "-o", &parent, name];
            let words: Vec<&str> = words.iter().copied().filter(|word| !["--gateway", ""].contains(word)).collect();
            if docker && lab::has_docker() {
                engine.docker_ok(&words)
            } else {
                engine.ok(&words)
            };
        };
        create(false, "up0.10", "198.51.100.0/24", "ten");
        create(true, "up0.20", "203.0.113.0/24", "twenty");
        let link = |name: &str| here.run(&["ip", "-d", "link", "show", name]);
        assert!(link("up0.10").stdout.contains("vlan protocol 802.1Q id 10"), "{:?}", link("up0.10"));
        let a = run(lab, &engine, true, "a1", &["--network", "ten", "--ip", "198.51.100.9"]);
        let b = run(lab, &engine, false, "b1", &["--network", "twenty", "--ip", "203.0.113.9"]);
        assert!(a.ping("198.51.100.2") && b.ping("203.0.113.2"));
        a.route("203.0.113.0/24 dev eth0");
        silent(&a, "203.0.113.9");
        // Somebody deletes the interface, and with it all stations; and while no engine runs.
        here.ok(&["ip", "link", "del", "up0.10"]);
        lab::wait_for("the repair", Duration::from_secs(5), || a.ping("198.51.100.2").then_some(()));
        engine.kill9();
        here.ok(&["ip", "link", "del", "up0.10"]);
        engine.start_again();
        assert!(a.ping("198.51.100.2"));
        // As after a boot: nothing is in the kernel, and the run directory is empty.
        engine.ok(&["stop", "-t", "0", "a1", "b1"]);
        engine.stop();
        drop((a, b));
        here.ok(&["ip", "link", "del", "up0.10"]);
        std::fs::remove_file(engine.exec_root().join("boot.redb")).unwrap();
        engine.start_again();
        assert!(link("up0.10").stdout.contains("id 10"), "it is there before its containers are");
        engine.ok(&["start", "a1"]);
        assert!(lab.container(&engine, "a1").ping("198.51.100.2"));
        assert_eq!(address(&engine, "a1", "ten"), "198.51.100.9");
        engine.ok(&["rm", "-f", "a1", "b1"]);
        engine.ok(&["network", "rm", "ten", "twenty"]);
        assert!(link("up0.10").code != 0 && link("up0.20").code == 0);
        residue::assert_same(&engine, &before);
    });
}

/// Where the kernel has no VLANs it says so, and nothing is left of what was asked for. A sub-interface that somebody made is as
/// good as any other interface.
fn refuses_vlans(lab: &Lab) {
    let outside = lab.host("outside", "198.51.100.2/24");
    let engine = lab.engine(&[]);
    engine.load_busybox();
    let before = residue::listing(&engine);
    refused(&engine, &["--subnet", "198.51.100.0/24", "-o", "parent=up0.10"], "add vlan interface up0.10");
    assert_eq!(engine.ok(&["network", "ls", "-q", "--filter", "type=custom"]), "");
    residue::assert_same(&engine, &before);
    for words in [&["set", "up0", "down"][..], &["set", "up0", "name", "up0.10"], &["set", "up0.10", "up"]] {
        lab.here().ok(&[&["ip", "link"], words].concat());
    }
    engine.ok(&["network", "create", "-d", "macvlan", "--subnet", "198.51.100.0/24", "-o", "parent=up0.10", "ten"]);
    let a = run(lab, &engine, true, "a1", &["--network", "ten", "--ip", "198.51.100.9"]);
    assert!(a.ping("198.51.100.2") && outside.ping("198.51.100.9"));
    engine.ok(&["rm", "-f", "a1"]);
    engine.ok(&["network", "rm", "ten"]);
    lab.here().ok(&["ip", "link", "show", "up0.10"]);
}

#[test]
fn without_a_parent_containers_are_among_themselves() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let outside = lab.host("outside", "192.0.2.2/24");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let id = engine.ok(&["network", "create", "-d", "macvlan", "--subnet", "10.5.0.0/24", "alone"]);
        let own = format!("dm-{}", &id[..12]);
        let network = shown(&engine, "alone");
        assert_eq!((&network["Options"]["parent"], &network["Internal"]), (&json!(own), &json!(true)));
        lab.here().ok(&["ip", "link", "show", &own]);
        let a = run(lab, &engine, false, "a1", &["--network", "alone"]);
        let _b = run(lab, &engine, true, "b1", &["--network", "alone"]);
        assert!(a.ping("10.5.0.3"));
        assert_eq!(a.dns(RESOLVER, "b1").unwrap().to_string(), "NOERROR 10.5.0.3");
        assert!(!routes(&engine, "a1").contains("default"), "{}", routes(&engine, "a1"));
        silent(&lab.here(), "10.5.0.2");
        // Internal on the host's segment: its members have no way beyond that segment.
        let words = [
            "network",
            "create",
            "-d",
            "macvlan",
            "--internal",
            "--subnet",
            "192.0.2.0/24",
            "--ip-range",
            "192.0.2.64/26",
        ];
        engine.ok(&[&words[..], &["-o", "parent=up0", "inner"]].concat());
        let c = run(lab, &engine, true, "c1", &["--network", "inner"]);
        assert!(!routes(&engine, "c1").contains("default") && c.ping("192.0.2.2") && outside.ping("192.0.2.64"));
        // In private mode they do not hear each other, and others hear them.
        let words = [
            "network",
            "create",
            "-d",
            "macvlan",
            "--subnet",
            "10.6.0.0/24",
            "-o",
            "parent=up0",
            "-o",
            "macvlan_mode=private",
        ];
        engine.ok(&[&words[..], &["shy"]].concat());
        let d = run(lab, &engine, false, "d1", &["--network", "shy"]);
        let _e = run(lab, &engine, false, "e1", &["--network", "shy"]);
        outside.ok(&["ip", "addr", "add", "10.6.0.200/24", "dev", "eth0"]);
        assert!(d.ping("10.6.0.200"));
        silent(&d, "10.6.0.3");
    });
}

#[test]
fn parents_and_modes_are_checked() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let engine = lab.engine(&[]);
        for (flags, says) in [
            (&["-o", "parent=lo"][..], "loopback interface is not a valid macvlan parent link"),
            (&["-o", "parent=nope"], "invalid subinterface vlan name nope, example formatting is eth0.10"),
            (&["-o", "parent=nope.10"], "failed to find master interface nope on the host"),
            (&["-o", "parent=up0.5000"], "vlan id must be between 1-4094, received: 5000"),
            (
                &["-o", "parent=up0", "-o", "macvlan_mode=odd"],
                "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan driver default",
            ),
            (&["-o", "parent=up0", "-o", "macvlan_mode=passthru"], "the macvlan mode 'passthru' is not there"),
            (
                &["-o", "parent=up0", "-o", "com.docker.network.driver.mtu=9000"],
                "its parent up0 takes at most 1500 bytes",
            ),
            (
                &["-o", "parent=up0", "--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24"],
                "more than one subnet of a family is not there",
            ),
            (&["-o", "parent=berth0"], "network bridge has made interface berth0"),
        ] {
            refused(&engine, flags, says);
        }
        for (driver, says) in [
            ("ipvlan", "networks of the driver ipvlan are not there"),
            ("host", "only one instance of \"host\" network is allowed"),
            ("null", "only one instance of \"null\" network is allowed"),
        ] {
            for out in each(&engine, &["network", "create", "-d", driver, "x1"]) {
                assert!(out.code == 1 && out.stderr.contains(says), "{driver}: {out:?}");
            }
        }
        assert_eq!(engine.ok(&["network", "ls", "-q", "--filter", "type=custom"]), "");
        let left = lab.here().ok(&["ip", "-o", "link"]);
        assert!(!left.contains("up0.") && !left.contains("dm-"), "{left}");
    });
}
