//! The default bridge: its addresses by the flags, a bridge made by hand, none at all; and what sticks to a container.

use lab::{Engine, Host, Lab, residue};
use serde_json::Value;
use std::path::Path;

/// The same of JSON, whose order may differ.
#[track_caller]
fn both_json(engine: &Engine, words: &[&str]) -> Value {
    let parsed =
        |text: String| -> Value { serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err} in {text}")) };
    let ours = parsed(engine.ok(words));
    if lab::has_docker() {
        assert_eq!(parsed(engine.docker_ok(words)), ours, "docker {words:?}");
    }
    ours
}

/// A container's place on the default bridge, by both commands.
#[track_caller]
fn place(engine: &Engine, name: &str) -> Value {
    both_json(engine, &["inspect", "-f", "{{json .NetworkSettings.Networks.bridge}}", name])
}

#[track_caller]
fn addr(engine: &Engine, name: &str) -> String {
    place(engine, name)["IPAddress"].as_str().expect("an address").to_owned()
}

/// The addresses of an interface, without those that it made itself.
fn addrs(host: &Host, link: &str) -> Vec<String> {
    let shown = host.ok(&["ip", "-j", "addr", "show", "dev", link]);
    let shown: Value = serde_json::from_str(&shown).unwrap_or_else(|err| panic!("{err} in {shown}"));
    let addrs = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let addrs = addrs.iter().filter(|addr| addr["scope"] != "link");
    addrs.map(|addr| format!("{}/{}", addr["local"].as_str().unwrap_or_default(), addr["prefixlen"])).collect()
}

fn default_route(host: &Host, family: &str) -> String {
    let shown = host.ok(&["ip", family, "route", "show", "default"]);
    shown.split_whitespace().skip_while(|word| *word != "via").nth(1).unwrap_or_default().to_owned()
}

/// The engine does not start; what it says. No interface is left.
#[track_caller]
fn refused(lab: &Lab, flags: &[&str]) -> String {
    let programs = lab::binaries();
    let dir = lab.dir().join("refused");
    // Of an attempt before, if there was one.
    let _ = std::fs::remove_dir_all(&dir);
    let at = |name: &str| dir.join(name).display().to_string();
    let socket = format!("unix://{}", at("berth.sock"));
    let (data, run, pid) = (at("state"), at("run"), at("pid"));
    let own = ["daemon", "-H", &socket, "--data-root", &data, "--exec-root", &run, "--pidfile", &pid];
    let cgroup = ["--cgroup-parent", lab.cgroup()];
    let mut command = std::process::Command::new(programs.join("berth"));
    command.args(own).args(cgroup).args(flags);
    let out = lab::run(&mut command, &[], std::time::Duration::from_secs(20));
    assert!(out.code == 1 || out.code == 125, "{flags:?}: {out:?}");
    assert!(!lab.here().ok(&["ip", "-br", "link"]).contains("berth0"), "{flags:?} left an interface");
    out.stderr
}

#[test]
fn a_bridges_address_is_its_subnet_and_containers_get_theirs_from_a_part_of_it() {
    lab::alone(|lab| {
        let flags = ["--bip", "192.168.0.129/25", "--fixed-cidr", "192.168.0.192/26"];
        let engine = lab.engine(&flags);
        engine.load_busybox();
        engine.sleeper("one", &[]);
        engine.sleeper("two", &[]);
        let one = place(&engine, "one");
        assert_eq!((&one["IPAddress"], &one["IPPrefixLen"]), (&"192.168.0.192".into(), &25.into()));
        assert_eq!(one["Gateway"], "192.168.0.129");
        assert_eq!(addr(&engine, "two"), "192.168.0.193");
        assert_eq!(addrs(&lab.here(), "berth0"), ["192.168.0.129/25"]);
        let inside = lab.container(&engine, "one");
        assert_eq!(addrs(&inside, "eth0"), ["192.168.0.192/25"]);
        assert_eq!(default_route(&inside, "-4"), "192.168.0.129");
        assert!(inside.ping("192.168.0.129") && inside.ping("192.168.0.193"));
        let config = both_json(&engine, &["network", "inspect", "-f", "{{json .IPAM.Config}}", "bridge"]);
        let wanted = serde_json::json!([
            { "Subnet": "192.168.0.128/25", "IPRange": "192.168.0.192/26", "Gateway": "192.168.0.129" }
        ]);
        assert_eq!(config, wanted);
        engine.ok(&["rm", "-f", "one", "two"]);
        engine.stop();
        // Without the part: the first that is free after the bridge's own.
        lab.here().ok(&["ip", "link", "del", "berth0"]);
        let whole = lab.engine(&["--bip", "192.168.0.129/25"]);
        whole.load_busybox();
        whole.sleeper("one", &[]);
        assert_eq!(addr(&whole, "one"), "192.168.0.130");
    });
}

#[test]
fn both_families_next_hops_and_pools_are_as_told() {
    lab::alone(|lab| {
        let both_families = [
            "--ipv6",
            "--bip",
            "10.9.0.1/24",
            "--bip6",
            "fd00:9::1/64",
            "--fixed-cidr-v6",
            "fd00:9::8000/113",
            "--default-gateway",
            "10.9.0.254",
            "--default-gateway-v6",
            "fd00:9::fe",
        ];
        let engine = lab.engine(&both_families);
        engine.load_busybox();
        engine.sleeper("one", &[]);
        let one = lab.container(&engine, "one");
        assert_eq!(addrs(&one, "eth0"), ["10.9.0.2/24", "fd00:9::8000/64"]);
        assert_eq!((default_route(&one, "-4"), default_route(&one, "-6")), ("10.9.0.254".into(), "fd00:9::fe".into()));
        let place = place(&engine, "one");
        assert_eq!((&place["Gateway"], &place["IPv6Gateway"]), (&"10.9.0.254".into(), &"fd00:9::fe".into()));
        assert_eq!(addrs(&lab.here(), "berth0"), ["10.9.0.1/24", "fd00:9::1/64"]);
        // Nobody gets the next hop's address.
        assert!(one.ping("10.9.0.1") && one.ping("fd00:9::1"));
        engine.ok(&["rm", "-f", "one"]);
        engine.stop();
        lab.here().ok(&["ip", "link", "del", "berth0"]);
        // The default bridge's subnet comes from the pool too, as do those of further networks; and it has an end.
        let pooled = lab.engine(&["--default-address-pool", "base=10.10.0.0/23,size=24", "--ip", "127.0.0.1"]);
        pooled.load_busybox();
        pooled.sleeper("one", &["-p", "80:80"]);
        assert_eq!(addrs(&lab.here(), "berth0"), ["10.10.0.1/24"]);
        assert_eq!(addr(&pooled, "one"), "10.10.0.2");
        pooled.ok(&["network", "create", "app"]);
        let subnet = "{{(index .IPAM.Config 0).Subnet}}";
        assert_eq!(pooled.both(&["network", "inspect", "-f", subnet, "app"]).trim(), "10.10.1.0/24");
        let out = pooled.berth(&["network", "create", "more"]);
        let says = "all predefined address pools have been fully subnetted";
        assert!(out.code == 1 && out.stderr.contains(says), "{out:?}");
        // Ports are published where `--ip` says.
        assert_eq!(pooled.both(&["port", "one"]), "80/tcp -> 127.0.0.1:80\n");
    });
}

#[test]
fn settings_that_cannot_be_are_answered_with_ones_that_can() {
    lab::alone(|lab| {
        lab.here().ok(&["ip", "link", "add", "bare", "type", "bridge"]);
        lab.here().ok(&["ip", "link", "add", "cable", "type", "veth", "peer", "name", "end"]);
        let file = lab.dir().join("daemon.json");
        std::fs::write(&file, r#"{"bip": "10.9.0.1/24", "mtu": 1400}"#).expect("a file in the lab");
        let config = file.to_str().expect("a text");
        let head = "error creating default \"bridge\" network: ";
        for (flags, says) in [
            (&["--bip", "192.168.0.128"][..], "invalid CIDR address: 192.168.0.128: did you mean 192.168.0.129/25?".into()),
            (
                &["--bip", "192.168.0.128/25"],
                "failed to allocate gateway (192.168.0.128): Address already in use: it is the network address of \
                 192.168.0.128/25; did you mean 192.168.0.129/25?"
                    .into(),
            ),
            (&["--fixed-cidr", "10.1.0.0/24", "--bip", "10.0.0.1/24"], "range '10.1.0.0/24' is not in subnet".into()),
            (&["--default-gateway", "10.1.0.9", "--bip", "10.0.0.1/24"], {
                format!("{head}default gateway ip must be part of the network (10.1.0.9 is not in 10.0.0.0/24)")
            }),
            (&["-b", "nosuch"], format!("{head}bridge device with non default name nosuch must be created manually")),
            (&["-b", "bare"], format!("{head}bridge bare has no IPv4 address")),
            (&["-b", "cable"], "cable".into()),
            (
                &["-b", "bare", "--bip", "10.0.0.1/24"],
                "You specified -b & --bip, mutually exclusive options. Please specify only one".into(),
            ),
            (&["--mtu", "-5"], "invalid default MTU: -5".into()),
            (&["-mtu", "1200"], "unknown shorthand flag: 'm' in -mtu: did you mean --mtu?".into()),
            (&["--mtu", "70000"], format!("{head}invalid MTU 70000 for network bridge: it must be from 68 to 65535 bytes")),
            (&["--icc=false", "--iptables=false"], "You specified --iptables=false with --icc=false.".into()),
            (
                &["--icc=false", "--ipv6", "--ip6tables=false"],
                "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function.".into(),
            ),
            (
                &["--config-file", config, "--bip", "10.8.0.1/24"],
                "the following directives are specified both as a flag and in the configuration file: bip: (from flag: \
                 10.8.0.1/24, from file: 10.9.0.1/24)"
                    .into(),
            ),
        ] {
            let said = refused(lab, flags);
            assert!(said.contains(&*says), "{flags:?}: wanted {says:?}, got {said}");
        }
        // What the file says alone is done.
        let engine = lab.engine(&["--config-file", config]);
        assert_eq!(addrs(&lab.here(), "berth0"), ["10.9.0.1/24"]);
        drop(engine);
    });
}

#[test]
fn a_bridge_made_by_hand_is_used_and_never_changed() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let friend = lab.host("friend", "192.0.2.2/24");
        let here = lab.here();
        let batch = "link add mybridge type bridge\nlink set mybridge up address 02:00:00:00:00:77\n\
                     addr add 10.77.0.1/24 dev mybridge\n\
                     link add tap type veth peer name vm\nlink set tap master mybridge up\nlink set vm up\n";
        let file = lab.dir().join("batch");
        std::fs::write(&file, batch).expect("a file in the lab");
        here.ok(&["ip", "-batch", file.to_str().expect("a text")]);
        // Somebody else's machine on it.
        let machine = {
            here.ok(&["ip", "netns", "add", "machine"]);
            here.ok(&["ip", "link", "set", "vm", "netns", "machine"]);
            let machine = lab.inside_path(Path::new("/run/netns/machine"));
            machine.ok(&["ip", "addr", "add", "10.77.0.200/24", "dev", "vm"]);
            machine.ok(&["ip", "link", "set", "vm", "up"]);
            machine
        };
        let bridge = || here.ok(&["ip", "-d", "addr", "show", "dev", "mybridge"]);
        let ports = || here.ok(&["ip", "-br", "link", "show", "master", "mybridge"]);
        let (before, alone) = (bridge_settings(&bridge()), ports());
        let engine = lab.engine(&["-b", "mybridge"]);
        engine.load_busybox();
        let empty = residue::listing(&engine);
        engine.sleeper("one", &["-p", "8080:80"]);
        engine.sleeper("two", &[]);
        let one = place(&engine, "one");
        assert_eq!((&one["IPAddress"], &one["IPPrefixLen"]), (&"10.77.0.2".into(), &24.into()));
        assert_eq!((one["Gateway"].as_str(), addr(&engine, "two").as_str()), (Some("10.77.0.1"), "10.77.0.3"));
        assert!(!here.ok(&["ip", "-br", "link"]).contains("berth0"));
        let name = "{{index .Options \"com.docker.network.bridge.name\"}}";
        assert_eq!(engine.both(&["network", "inspect", "-f", name, "bridge"]).trim(), "mybridge");
        // Everybody reaches whom he should; the machine is as it was, and sends as itself.
        let (one, two) = (lab.container(&engine, "one"), lab.container(&engine, "two"));
        let (web, _out) = (one.serve_tcp("0.0.0.0:80", "web"), friend.serve_tcp("192.0.2.2:7", "out"));
        assert!(two.tcp("10.77.0.2:80").is_ok() && machine.tcp("10.77.0.2:80").is_ok());
        assert_eq!(friend.tcp("192.0.2.1:8080").expect("a published port"), "web 192.0.2.2\n");
        assert_eq!(two.tcp("192.0.2.2:7").expect("a way out"), "out 192.0.2.1\n");
        assert!(here.tcp("192.0.2.1:8080").is_ok() && two.ping("10.77.0.200"));
        // It outlives the engine and all containers.
        engine.stop();
        assert!(machine.tcp("10.77.0.2:80").is_ok());
        engine.start_again();
        assert_eq!(addr(&engine, "one"), "10.77.0.2");
        // A namespace that somebody is in does not go.
        drop((web, one, two));
        engine.ok(&["rm", "-f", "one", "two"]);
        residue::assert_same(&engine, &empty);
        assert_eq!((bridge_settings(&bridge()), ports()), (before.clone(), alone.clone()));
        engine.stop();
        assert_eq!((bridge_settings(&bridge()), ports()), (before, alone));
        assert!(machine.ping("10.77.0.1"));
    });
}

/// A bridge's text without what a port's coming and going changes.
fn bridge_settings(shown: &str) -> Vec<String> {
    // Its link-local address is the kernel's, which finds it tentative for a while.
    let kept = ["inet ", "link/ether"];
    shown
        .lines()
        .map(str::trim)
        .filter(|line| kept.iter().any(|head| line.starts_with(head)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn without_a_default_bridge_containers_have_a_loopback_interface_only() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--bridge=none"]);
        engine.load_busybox();
        assert!(!lab.here().ok(&["ip", "-br", "link"]).contains("berth0"));
        assert!(!engine.both(&["network", "ls", "--format", "{{.Name}}"]).lines().any(|name| name == "bridge"));
        let links = engine.ok(&["run", "--rm", "busybox", "ls", "/sys/class/net"]);
        assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["lo"]);
        // Networks of the user's are as ever.
        engine.ok(&["network", "create", "--subnet", "10.5.0.0/24", "app"]);
        let addr =
            engine.ok(&["run", "--rm", "--net", "app", "busybox", "ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
        assert!(addr.contains("10.5.0.2/24"), "{addr}");
    });
}

#[test]
fn addresses_and_ports_stick_to_a_container_while_it_exists() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6", "--fixed-cidr-v6", "fd00:7::/64"]);
        engine.load_busybox();
        let told = |name: &str| {
            let place = place(&engine, name);
            let fields = ["IPAddress", "GlobalIPv6Address", "MacAddress"];
            (fields.map(|field| place[field].as_str().unwrap_or_default().to_owned()), engine.ok(&["port", name]))
        };
        for name in ["one", "two", "three"] {
            engine.sleeper(name, &["-p", "80"]);
        }
        let (one, two, three) = (told("one"), told("two"), told("three"));
        assert_eq!((one.0[0].as_str(), three.0[0].as_str()), ("172.17.0.2", "172.17.0.4"));
        engine.ok(&["stop", "-t", "0", "one", "three"]);
        // A newcomer takes nothing of theirs, however long they rest.
        engine.sleeper("four", &["-p", "80"]);
        let four = told("four");
        assert_eq!(four.0[0], "172.17.0.5");
        engine.ok(&["start", "three"]);
        assert_eq!(told("three"), three);
        engine.kill9();
        engine.start_again();
        assert_eq!((told("two"), told("three"), told("four")), (two.clone(), three.clone(), four.clone()));
        // Also where the engine that remembered it is gone.
        engine.sleeper("five", &["-p", "80"]);
        assert_eq!(told("five").0[0], "172.17.0.6");
        engine.ok(&["start", "one"]);
        assert_eq!(told("one"), one);
        engine.ok(&["restart", "-t", "0", "two"]);
        assert_eq!(told("two"), two);
        // What is removed gives its address back, which then rests: a stranger does not get it at once.
        engine.ok(&["rm", "-f", "four"]);
        engine.sleeper("six", &[]);
        assert_eq!(addr(&engine, "six"), "172.17.0.7");
        engine.stop();
        engine.start_again();
        engine.sleeper("seven", &[]);
        assert_eq!(addr(&engine, "seven"), "172.17.0.8");
    });
}
