//! Places of containers on networks: joined and left while the container runs, before it has and after it did; what is refused,
//! what is shown to old and new clients, and what others see of it; through `berth` and `docker`.

use lab::{Engine, Lab, Output, dns};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn engine(lab: &Lab) -> Engine {
    let engine = lab.engine(&[]);
    engine.load_busybox();
    engine
}

/// What each of the two commands has to say of these words.
fn each(engine: &Engine, words: &[&str]) -> Vec<Output> {
    let docker = lab::has_docker().then(|| engine.docker(words));
    [engine.berth(words)].into_iter().chain(docker).collect()
}

/// Both refuse with this code, saying this.
#[track_caller]
fn refused(engine: &Engine, words: &[&str], code: i32, says: &str) {
    for out in each(engine, words) {
        assert!(out.code == code && out.stderr.contains(says), "{words:?}: wanted {code} and {says:?}, got {out:?}");
    }
}

/// What both print for these words.
#[track_caller]
fn both(engine: &Engine, words: &[&str]) -> String {
    let mut all = each(engine, words).into_iter();
    let first = all.next().expect("berth");
    assert_eq!(first.code, 0, "{words:?}: {first:?}");
    for other in all {
        assert_eq!((other.code, &other.stdout), (0, &first.stdout), "docker {words:?}: {other:?}");
    }
    first.stdout
}

/// One of the two, in turns, so that each does all of it somewhere.
fn say(engine: &Engine, docker: bool, words: &[&str]) -> String {
    if docker && lab::has_docker() { engine.docker_ok(words) } else { engine.ok(words) }
}

/// Interfaces but `lo`, with their IPv4 addresses: `eth0 10.1.0.2/24, …`.
#[track_caller]
fn addrs(engine: &Engine, name: &str) -> String {
    let shown = engine.ok(&["exec", name, "ip", "-o", "-4", "addr"]);
    let words = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let words = words.filter(|words| words[1] != "lo").map(|words| format!("{} {}", words[1], words[3]));
    words.collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn default_route(engine: &Engine, name: &str) -> String {
    let routes = engine.ok(&["exec", name, "ip", "route"]);
    let default = routes.lines().filter(|line| line.starts_with("default")).map(str::trim);
    default.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

#[test]
fn who_cannot_join_or_leave_is_told_why() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        engine.sleeper("web", &["--network", "app"]);
        engine.sleeper("closed", &["--network", "none"]);
        engine.sleeper("open", &["--network", "host"]);
        engine.sleeper("guest", &["--network", "container:web"]);
        engine.ok(&["create", "--name", "later", "--network", "none", "busybox", "sleep", "1000"]);
        let private =
            "container cannot be connected to multiple networks with one of the networks in private (none) mode";
        let shared = "container sharing network namespace with another container or host cannot be connected to any other network";
        let into_host = "cannot connect container to host network - container must be created in host network mode";
        let off_host = "cannot disconnect container from host network - container was created in host network mode";
        let id = engine.ok(&["inspect", "-f", "{{.Id}}", "web"]);
        for (words, says) in [
            (["connect", "none", "web"], private),
            (["connect", "app", "closed"], private),
            (["connect", "app", "later"], private),
            (["connect", "host", "web"], into_host),
            (["connect", "app", "open"], shared),
            (["connect", "app", "guest"], shared),
            (["disconnect", "host", "open"], off_host),
            (["disconnect", "host", "web"], &format!("container {} is not connected to network host", id.trim())),
            (["disconnect", "bridge", "web"], &format!("container {} is not connected to network bridge", id.trim())),
            (["connect", "app", "web"], "endpoint with name web already exists in network app"),
            (["connect", "nope", "web"], "network nope not found"),
            (["disconnect", "nope", "web"], "network nope not found"),
            (["connect", "app", "nobody"], "No such container: nobody"),
            (["disconnect", "app", "nobody"], "No such container: nobody"),
        ] {
            refused(&engine, &[&["network"], &words[..]].concat(), 1, &format!("Error response from daemon: {says}"));
        }
        // Also by the ids of the two that are not made.
        let none = engine.ok(&["network", "inspect", "-f", "{{.Id}}", "none"]);
        refused(&engine, &["network", "connect", none.trim(), "web"], 1, private);
        // Who is gone is on no network, for those who insist.
        assert!(each(&engine, &["network", "disconnect", "-f", "app", "nobody"]).iter().all(|out| out.code == 0));
        // Who leaves `none` may join others, also while it runs, and then asks the resolver.
        for name in ["closed", "later"] {
            engine.ok(&["network", "disconnect", "none", name]);
            say(&engine, name == "later", &["network", "connect", "app", name]);
        }
        assert_eq!(addrs(&engine, "closed"), "eth0 10.1.0.3/24");
        assert_eq!(default_route(&engine, "closed"), "default via 10.1.0.1 dev eth0");
        let said = engine.ok(&["exec", "closed", "nslookup", "web"]);
        assert!(said.contains("Address: 10.1.0.2"), "{said}");
        engine.ok(&["start", "later"]);
        assert_eq!(addrs(&engine, "later"), "eth0 10.1.0.4/24");
        // Nothing was half done by what was refused.
        assert_eq!(addrs(&engine, "web"), "eth0 10.1.0.2/24");
        let members = read(&engine.ok(&["network", "inspect", "-f", "{{json .Containers}}", "app"]));
        assert_eq!(members.as_object().map(serde_json::Map::len), Some(3), "{members}");
    });
}

#[test]
fn places_change_in_every_state_of_a_container() {
    lab::alone(|lab| {
        let engine = engine(lab);
        for (name, subnet) in [("app", "10.1.0.0/24"), ("back", "10.2.0.0/24"), ("zoo", "10.3.0.0/24")] {
            engine.ok(&["network", "create", "--subnet", subnet, name]);
        }
        engine.sleeper("other", &["--network", "back"]);
        let other = lab.container(&engine, "other");
        for docker in [false, true] {
            let say = |words: &[&str]| say(&engine, docker, words);
            // One that has never run.
            say(&["create", "--name", "c1", "--network", "app", "busybox", "sleep", "1000"]);
            let silent = say(&["network", "connect", "--ip", "10.2.0.77", "--alias", "store", "back", "c1"]);
            say(&["network", "connect", "zoo", "c1"]);
            say(&["network", "disconnect", "app", "c1"]);
            assert_eq!(silent, "");
            let networks = ["inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", "c1"];
            assert_eq!(say(&networks), "back zoo \n");
            say(&["start", "c1"]);
            let all = addrs(&engine, "c1");
            assert!(all.starts_with("eth0 10.2.0.77/24, eth1 10.3.0."), "{all}");
            let store = || other.dns("127.0.0.11:53", "store").map(|reply| reply.to_string());
            assert_eq!(store().unwrap(), "NOERROR 10.2.0.77");
            // One that runs: a connection over the network that it leaves is cut.
            let _echo = lab.container(&engine, "c1").serve_echo("10.2.0.77:7");
            let mut stream = other.connect("10.2.0.77:7").unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            say(&["network", "disconnect", "back", "c1"]);
            assert_eq!(addrs(&engine, "c1"), all.split(", ").nth(1).unwrap());
            assert_eq!(store().unwrap(), "NXDOMAIN");
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            stream.write_all(b"y").unwrap();
            assert!(stream.read_exact(&mut [0]).is_err(), "nobody is left to answer");
            // The next free name of an interface, and what leads out by name.
            say(&["network", "connect", "app", "c1"]);
            assert_eq!(default_route(&engine, "c1"), "default via 10.1.0.1 dev eth0", "app comes before zoo");
            // One that is stopped; what it is put on twice it is on once, with the last wishes.
            say(&["stop", "-t", "0", "c1"]);
            say(&["network", "disconnect", "zoo", "c1"]);
            say(&["network", "connect", "--ip", "10.2.0.78", "back", "c1"]);
            say(&["network", "connect", "--ip", "10.2.0.79", "back", "c1"]);
            say(&["start", "c1"]);
            let all = addrs(&engine, "c1");
            assert!(all.contains("10.2.0.79/24") && !all.contains("10.3.") && all.contains("10.1.0."), "{all}");
            // Down to none at all, and back.
            say(&["network", "disconnect", "back", "c1"]);
            say(&["network", "disconnect", "app", "c1"]);
            assert_eq!(addrs(&engine, "c1"), "");
            say(&["network", "connect", "zoo", "c1"]);
            assert!(addrs(&engine, "c1").starts_with("eth0 10.3.0."));
            say(&["rm", "-f", "c1"]);
        }
    });
}

#[test]
fn containers_are_listed_by_their_networks() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = engine.ok(&["network", "create", "app"]);
        let id = id.trim();
        engine.ok(&["network", "create", "back"]);
        engine.sleeper("a1", &["--network", "app"]);
        engine.sleeper("b1", &["--network", "app", "--network", "back"]);
        engine.sleeper("c1", &[]);
        engine.sleeper("d1", &["--network", "host"]);
        engine.sleeper("e1", &["--network", "none"]);
        engine.ok(&["create", "--name", "f1", "--network", "back", "busybox"]);
        engine.ok(&["create", "--name", "g1", "busybox"]);
        let listed = |filters: &[&str]| {
            let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
            let words = [&["ps", "-a", "--format", "{{.Names}}"][..], &filters].concat();
            let mut names: Vec<String> = both(&engine, &words).lines().map(str::to_owned).collect();
            names.sort();
            names.join(" ")
        };
        for (filter, names) in [
            ("network=app", "a1 b1"),
            ("network=back", "b1 f1"),
            ("network=bridge", "c1 g1"),
            ("network=host", "d1"),
            ("network=none", "e1"),
            ("network=nope", ""),
            (&format!("network={id}"), "a1 b1"),
            (&format!("network={}", &id[..12]), "a1 b1"),
        ] {
            assert_eq!(listed(&[filter]), names, "{filter}");
        }
        assert_eq!(listed(&["network=app", "network=bridge"]), "a1 b1 c1 g1");
        engine.ok(&["network", "disconnect", "app", "b1"]);
        assert_eq!(listed(&["network=app"]), "a1");
        engine.ok(&["network", "connect", "back", "a1"]);
        // (`docker` has no order there.)
        for out in each(&engine, &["ps", "--filter", "name=a1", "--format", "{{.Networks}}"]) {
            assert!(["app,back\n", "back,app\n"].contains(&&*out.stdout), "{out:?}");
        }
    });
}

/// The names of an object's fields, in order.
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn old_and_new_clients_are_shown_what_they_know() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let network =
            engine.ok(&["network", "create", "--ipv6", "--subnet", "10.1.0.0/24", "--subnet", "fd01::/64", "app"]);
        engine.sleeper("web", &["--network", "app", "--network-alias", "www"]);
        engine.sleeper("plain", &[]);
        engine.ok(&["create", "--name", "later", "--network", "app", "--ip", "10.1.0.9", "busybox"]);
        let settings = |version: &str, name: &str| {
            engine.json(&format!("/v{version}/containers/{name}/json"))["NetworkSettings"].clone()
        };
        let new = ["Networks", "Ports", "SandboxID", "SandboxKey"];
        let mut old = vec![
            "Bridge",
            "EndpointID",
            "Gateway",
            "GlobalIPv6Address",
            "GlobalIPv6PrefixLen",
            "HairpinMode",
            "IPAddress",
            "IPPrefixLen",
            "IPv6Gateway",
            "LinkLocalIPv6Address",
            "LinkLocalIPv6PrefixLen",
            "MacAddress",
            "SecondaryIPAddresses",
            "SecondaryIPv6Addresses",
        ];
        old.extend(new);
        old.sort_unstable();
        assert_eq!(fields(&settings("1.52", "web")), new);
        for version in ["1.24", "1.41", "1.51"] {
            assert_eq!(fields(&settings(version, "web")), old, "{version}");
        }
        // At the top stands the default bridge's, and of others nothing.
        let (plain, web) = (settings("1.51", "plain"), settings("1.51", "web"));
        assert_eq!(plain["IPAddress"], plain["Networks"]["bridge"]["IPAddress"]);
        assert_ne!((&plain["IPAddress"], &plain["MacAddress"]), (&json!(""), &json!("")));
        assert_eq!((&web["IPAddress"], &web["EndpointID"], &web["IPPrefixLen"]), (&json!(""), &json!(""), &json!(0)));
        // A place.
        let place = &web["Networks"]["app"];
        let of_place = [
            "Aliases",
            "DNSNames",
            "DriverOpts",
            "EndpointID",
            "Gateway",
            "GlobalIPv6Address",
            "GlobalIPv6PrefixLen",
            "GwPriority",
            "IPAMConfig",
            "IPAddress",
            "IPPrefixLen",
            "IPv6Gateway",
            "Links",
            "MacAddress",
            "NetworkID",
        ];
        assert_eq!(fields(place), of_place);
        assert_eq!(
            (&place["IPAddress"], &place["Gateway"], &place["GlobalIPv6Address"], &place["GlobalIPv6PrefixLen"]),
            (&json!("10.1.0.2"), &json!("10.1.0.1"), &json!("fd01::2"), &json!(64))
        );
        assert_eq!((&place["NetworkID"], &place["Aliases"]), (&json!(network.trim()), &json!(["www"])));
        // One that has never run has its place, and nothing that only a running one has.
        let later = settings("1.52", "later");
        let place = &later["Networks"]["app"];
        assert_eq!(fields(place), of_place);
        assert_eq!(
            (&place["IPAddress"], &place["EndpointID"], &place["MacAddress"], &place["IPAMConfig"]["IPv4Address"]),
            (&json!(""), &json!(""), &json!(""), &json!("10.1.0.9"))
        );
        assert_eq!((&later["SandboxID"], &later["SandboxKey"], &later["Ports"]), (&json!(""), &json!(""), &json!({})));
        // A network, and how far it is used up.
        let shown = |version: &str| engine.json(&format!("/v{version}/networks/app"));
        let mut known = vec![
            "Attachable",
            "ConfigFrom",
            "ConfigOnly",
            "Containers",
            "Created",
            "Driver",
            "EnableIPv4",
            "EnableIPv6",
            "IPAM",
            "Id",
            "Ingress",
            "Internal",
            "Labels",
            "Name",
            "Options",
            "Scope",
        ];
        assert_eq!(fields(&shown("1.51")), known);
        known.push("Status");
        assert_eq!(fields(&shown("1.52")), known);
        let used = |subnet: &str| shown("1.52")["Status"]["IPAM"]["Subnets"][subnet].clone();
        // The subnet's own, its broadcast address, its gateway and a container.
        assert_eq!(used("10.1.0.0/24"), json!({"IPsInUse": 4, "DynamicIPsAvailable": 252}));
        assert_eq!(used("fd01::/64"), json!({"IPsInUse": 3, "DynamicIPsAvailable": u64::MAX - 2}));
        engine.sleeper("more", &["--network", "app"]);
        assert_eq!(used("10.1.0.0/24"), json!({"IPsInUse": 5, "DynamicIPsAvailable": 251}));
        let words = [
            "network",
            "create",
            "--subnet",
            "10.2.0.0/16",
            "--ip-range",
            "10.2.3.0/28",
            "--aux-address",
            "r=10.2.3.1",
        ];
        engine.ok(&[&words[..], &["ranged"]].concat());
        engine.sleeper("ranged", &["--network", "ranged"]);
        let status = engine.json("/networks/ranged")["Status"]["IPAM"]["Subnets"]["10.2.0.0/16"].clone();
        assert_eq!(status, json!({"IPsInUse": 5, "DynamicIPsAvailable": 14}));
        // Listings do not tell.
        let listed = engine.json("/v1.52/networks");
        assert!(listed.as_array().unwrap().iter().all(|network| network.get("Status").is_none()), "{listed}");
        // Only who runs is a member, with addresses and their lengths.
        let members = &shown("1.52")["Containers"];
        let id = engine.ok(&["inspect", "-f", "{{.Id}}", "web"]);
        assert_eq!(members.as_object().unwrap().len(), 2, "{members}");
        let member = &members[id.trim()];
        assert_eq!(fields(member), ["EndpointID", "IPv4Address", "IPv6Address", "MacAddress", "Name"]);
        assert_eq!(
            (&member["Name"], &member["IPv4Address"], &member["IPv6Address"]),
            (&json!("web"), &json!("10.1.0.2/24"), &json!("fd01::2/64"))
        );
    });
}

#[test]
fn networks_are_shown_and_removed_as_asked() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = engine.ok(&["network", "create", "--internal", "--label", "tier=web", "--label", "b", "app"]);
        let id = id.trim();
        engine.ok(&["network", "create", "--ipv6", "back"]);
        let line = |format: &str| both(&engine, &["network", "ls", "--filter", "name=app", "--format", format]);
        assert_eq!(line("{{.ID}} {{.Name}} {{.Driver}} {{.Scope}}"), format!("{} app bridge local\n", &id[..12]));
        assert_eq!(line("{{.IPv4}} {{.IPv6}} {{.Internal}} {{.Label \"tier\"}}"), "true false true web\n");
        assert_eq!(line("{{.Labels}}"), "b=,tier=web\n");
        let year = line("{{.CreatedAt}}");
        assert!(year.starts_with("20") && year.trim().ends_with("UTC"), "{year}");
        assert_eq!(line("table {{.Name}}\t{{.Driver}}"), "NAME      DRIVER\napp       bridge\n");
        for out in each(&engine, &["network", "ls", "--filter", "name=app", "--format", "json"]) {
            let shown = read(&out.stdout);
            assert_eq!(
                (&shown["Name"], &shown["ID"], &shown["Internal"]),
                (&json!("app"), &json!(id[..12]), &json!("true"))
            );
        }
        assert_eq!(both(&engine, &["network", "ls", "-q", "--filter", "name=app"]), format!("{}\n", &id[..12]));
        // Several filters: of one kind any will do, of different kinds all must.
        let names = |filters: &[&str]| {
            let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
            let words = [&["network", "ls", "--format", "{{.Name}}"][..], &filters].concat();
            both(&engine, &words).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&["name=app", "name=back"]), "app back");
        assert_eq!(names(&["name=app", "driver=null"]), "");
        assert_eq!(names(&["label=tier", "label=b"]), "app");
        assert_eq!(names(&["label=tier", "label=c"]), "");
        for bad in ["type=odd", "dangling=perhaps"] {
            refused(&engine, &["network", "ls", "--filter", bad], 1, "invalid filter");
        }
        for out in each(&engine, &["network", "inspect", "--verbose", "app", "back"]) {
            let shown = read(&out.stdout);
            assert_eq!((&shown[0]["Name"], &shown[1]["Name"]), (&json!("app"), &json!("back")));
        }
        // The beginning of an id that two have. There are 16 digits, so of 17 ids two begin alike.
        let more: Vec<String> = (0..15).map(|nth| engine.ok(&["network", "create", &format!("n{nth}")])).collect();
        let ids = engine.ok(&["network", "ls", "-q", "--no-trunc"]);
        let count = |digit: char| ids.lines().filter(|id| id.starts_with(digit)).count();
        let digit = "0123456789abcdef".chars().find(|digit| count(*digit) > 1).expect("two begin alike").to_string();
        let says = format!(
            "network {digit} is ambiguous ({} matches found based on ID prefix)",
            count(digit.chars().next().unwrap())
        );
        refused(&engine, &["network", "inspect", &digit], 1, &says);
        assert_eq!(more.len(), 15);
        // Pruned are those that nobody is on, that are old enough and bear the labels.
        engine.sleeper("web", &["--network", "back"]);
        refused(&engine, &["network", "prune", "-f", "--filter", "colour=red"], 1, "invalid filter 'colour'");
        refused(&engine, &["network", "prune", "-f", "--filter", "until=soon"], 1, "until");
        assert_eq!(both(&engine, &["network", "prune", "-f", "--filter", "until=1h"]), "");
        assert_eq!(both(&engine, &["network", "prune", "-f", "--filter", "label=tier=db"]), "");
        assert_eq!(engine.ok(&["network", "prune", "-f", "--filter", "label=tier=web"]), "Deleted Networks:\napp\n\n");
        std::thread::sleep(Duration::from_millis(1100));
        let pruned = say(&engine, true, &["network", "prune", "-f", "--filter", "until=1s"]);
        let gone: Vec<&str> = pruned.split_whitespace().skip(2).collect();
        assert!(gone.len() == 15 && gone.iter().all(|name| name.starts_with('n')), "{pruned}");
        assert_eq!(names(&["type=custom"]), "back");
        // What is asked for in vain is told, and the rest is done.
        for out in each(&engine, &["network", "rm", "back", "nope"]) {
            assert!(
                out.code == 1 && out.stderr.contains("active endpoints") && out.stderr.contains("nope not found"),
                "{out:?}"
            );
        }
    });
}

#[test]
fn addresses_are_given_as_the_rows_say() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--default-address-pool", "base=10.10.0.0/22,size=24"]);
        engine.load_busybox();
        let subnet = |name: &str| engine.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name]);
        assert_eq!(subnet("bridge"), "10.10.0.0/24\n");
        // What the host reaches by itself is left out.
        lab.uplink("10.10.1.7/24");
        for (name, wanted) in [("one", "10.10.2.0/24\n"), ("two", "10.10.3.0/24\n")] {
            engine.ok(&["network", "create", name]);
            assert_eq!(subnet(name), wanted);
        }
        let says = "all predefined address pools have been fully subnetted";
        refused(&engine, &["network", "create", "three"], 1, says);
        // Of a subnet that the engine chose addresses can be asked for too.
        let field = |name: &str, network: &str, field: &str| {
            let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").{field}}}}}");
            engine.ok(&["inspect", "-f", &format, name]).trim().to_owned()
        };
        engine.sleeper("a1", &["--network", "one", "--ip", "10.10.2.200"]);
        engine.sleeper("b1", &["--network", "one"]);
        assert_eq!(
            (field("a1", "one", "IPAddress"), field("b1", "one", "IPAddress")),
            ("10.10.2.200".into(), "10.10.2.2".into())
        );
        // Two addresses are enough for a bridge and a container (RFC 3021).
        engine.ok(&["network", "create", "--subnet", "10.9.0.0/31", "pair"]);
        engine.sleeper("c1", &["--network", "pair"]);
        assert_eq!(
            (field("c1", "pair", "IPAddress"), field("c1", "pair", "Gateway")),
            ("10.9.0.1".into(), "10.9.0.0".into())
        );
        assert!(lab.container(&engine, "c1").ping("10.9.0.0"));
        refused(&engine, &["run", "--network", "pair", "busybox", "true"], 125, "no available IPv4 addresses");
        // IPv6 without a subnet is unique to this host (RFC 4193), and another one for each network.
        let six = |name: &str| {
            engine.ok(&["network", "create", "--ipv4=false", "--ipv6", name]);
            subnet(name).trim().to_owned()
        };
        let (first, second) = (six("six"), six("seven"));
        assert!(first.starts_with("fd") && first.ends_with("/64") && first != second, "{first} {second}");
        assert_eq!(first.split(':').take(3).collect::<Vec<_>>(), second.split(':').take(3).collect::<Vec<_>>());
        // A static address may be outside of the range from which others are chosen.
        engine.ok(&["network", "create", "--subnet", "10.8.0.0/16", "--ip-range", "10.8.7.0/24", "ranged"]);
        engine.sleeper("d1", &["--network", "ranged"]);
        engine.sleeper("e1", &["--network", "ranged", "--ip", "10.8.0.5"]);
        assert_eq!(
            (field("d1", "ranged", "IPAddress"), field("e1", "ranged", "IPAddress")),
            ("10.8.7.0".into(), "10.8.0.5".into())
        );
        // Words that are no address.
        refused(&engine, &["run", "--network", "one", "--ip", "foo", "busybox"], 125, "foo");
        let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "one"}, "NetworkingConfig": {"EndpointsConfig":
            {"one": {"IPAMConfig": {"IPv4Address": "foo", "IPv6Address": "bar", "LinkLocalIPs": ["zoo"]}}}}});
        let (status, said) = engine.http("POST", "/containers/create", &body.to_string());
        let says = "invalid config for network one: invalid endpoint settings:\\n* invalid IPv4 address: foo\\n* invalid IPv6 address: \
                    bar\\n* invalid link-local IP address: zoo";
        assert!(status == 400 && said.contains(says), "{status} {said}");
        refused(&engine, &["network", "create", "--ipam-driver", "dhcp", "x1"], 1, "dhcp");
        refused(
            &engine,
            &["run", "--network", "one", "--mac-address", "zz", "busybox"],
            125,
            "zz is not a valid mac address",
        );
        let both_mac = [
            "run",
            "--network",
            "name=one,mac-address=02:00:00:00:00:05",
            "--mac-address",
            "02:00:00:00:00:06",
            "busybox",
        ];
        refused(
            &engine,
            &both_mac,
            125,
            "conflicting options: cannot specify both --mac-address and per-network MAC address",
        );
        let both_ip = ["run", "--network", "name=one,ip=10.10.2.50", "--ip", "10.10.2.51", "busybox"];
        refused(&engine, &both_ip, 125, "conflicting options: cannot specify both --ip and per-network IPv4 address");
    });
}

#[test]
fn an_interface_has_further_addresses_of_its_link() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&["network", "create", "--ipv6", "--subnet", "10.1.0.0/24", "--subnet", "fd01::/64", "app"]);
        engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "four"]);
        for (docker, name, four, six) in
            [(false, "a1", "169.254.7.1", "fe80::71"), (true, "b1", "169.254.7.2", "fe80::72")]
        {
            let words =
                ["run", "-d", "--name", name, "--network", "app", "--link-local-ip", four, "--link-local-ip", six];
            say(&engine, docker, &[&words[..], &["busybox", "sleep", "1000"]].concat());
            let shown = engine.ok(&["exec", name, "ip", "addr", "show", "eth0"]);
            assert!(
                shown.contains(&format!("inet {four}/16")) && shown.contains(&format!("inet6 {six}/64")),
                "{shown}"
            );
            let config =
                read(&engine.ok(&["inspect", "-f", "{{json .NetworkSettings.Networks.app.IPAMConfig}}", name]));
            assert_eq!(config["LinkLocalIPs"], json!([four, six]));
        }
        // They are a container's own, so its neighbours may hear from them, and nobody else may use them.
        let (a, b) = (lab.container(&engine, "a1"), lab.container(&engine, "b1"));
        let _served = b.serve_tcp("169.254.7.2:80", "b1");
        assert_eq!(a.tcp("169.254.7.2:80").unwrap().trim(), "b1 169.254.7.1");
        let words = ["run", "--network", "name=app,link-local-ip=169.254.7.1", "busybox", "true"];
        refused(&engine, &words, 125, "Address already in use");
        let words = ["run", "--network", "app", "--link-local-ip", "10.1.0.9", "busybox", "true"];
        refused(&engine, &words, 125, "invalid link-local IP address: 10.1.0.9");
        let words = ["run", "--network", "four", "--link-local-ip", "fe80::9", "busybox", "true"];
        refused(&engine, &words, 125, "invalid link-local IP address: fe80::9: the network has no IPv6");
        // On one more network of a container that runs, over a restart of it, and over the engine's end.
        engine.ok(&["network", "connect", "--link-local-ip", "169.254.9.9", "four", "a1"]);
        let has = |addr: &str| engine.ok(&["exec", "a1", "ip", "addr"]).contains(&format!("inet {addr}/16"));
        assert!(has("169.254.9.9") && has("169.254.7.1"));
        engine.kill9();
        engine.start_again();
        assert!(has("169.254.9.9") && has("169.254.7.1"));
        engine.ok(&["restart", "-t", "0", "a1"]);
        assert!(has("169.254.9.9") && has("169.254.7.1"));
        engine.ok(&["network", "disconnect", "four", "a1"]);
        assert!(!has("169.254.9.9") && has("169.254.7.1"));
    });
}

#[test]
fn a_bridge_is_as_its_options_say() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let option = |name: &str, value: &str| format!("com.docker.network.bridge.{name}={value}");
        let link = |name: &str| lab.here().ok(&["ip", "addr", "show", "dev", name]);
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "-o", &option("name", "own0"), "named"]);
        assert!(link("own0").contains("inet 10.1.0.1/24"));
        let id = engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "plain"]);
        assert!(link(&format!("br-{}", &id[..12])).contains("inet 10.2.0.1/24"));
        // A bridge without an address of its own: somebody else is the gateway.
        let words = ["network", "create", "--subnet", "10.3.0.0/24", "-o", &option("name", "bare0"), "-o"];
        engine.ok(&[&words[..], &[&option("inhibit_ipv4", "true"), "bare"]].concat());
        assert!(!link("bare0").contains("inet "), "{}", link("bare0"));
        engine.sleeper("a1", &["--network", "bare"]);
        engine.sleeper("b1", &["--network", "bare"]);
        assert_eq!(
            (addrs(&engine, "a1"), default_route(&engine, "a1")),
            ("eth0 10.3.0.2/24".into(), "default via 10.3.0.1 dev eth0".into())
        );
        assert!(lab.container(&engine, "a1").ping("10.3.0.3"), "its members reach each other");
        // Names of interfaces.
        engine.ok(&[
            "network",
            "create",
            "--subnet",
            "10.4.0.0/24",
            "-o",
            "com.docker.network.container_iface_prefix=lan",
            "pre",
        ]);
        engine.sleeper("c1", &["--network", "pre", "--network", "named"]);
        assert_eq!(addrs(&engine, "c1"), "eth0 10.1.0.2/24, lan0 10.4.0.2/24");
        // With its network the bridge goes, and everything that was made for it.
        engine.ok(&["rm", "-f", "a1", "b1", "c1"]);
        engine.ok(&["network", "rm", "named", "bare", "plain", "pre"]);
        let left = lab.here().ok(&["ip", "-o", "link"]);
        assert!(!left.contains("own0") && !left.contains("bare0") && !left.contains("br-"), "{left}");
    });
}

#[test]
fn an_interface_is_called_and_set_as_asked() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
        let option = |name: &str, value: &str| format!("driver-opt=com.docker.network.endpoint.{name}={value}");
        let app = format!(
            "name=app,{},{}",
            option("ifname", "lan7"),
            option("sysctls", "net.ipv4.conf.IFNAME.log_martians=1")
        );
        let martians = |name: &str| {
            let path = "/proc/sys/net/ipv4/conf/lan7/log_martians";
            engine.ok(&["exec", name, "cat", path]).trim().to_owned()
        };
        for (docker, name) in [(false, "a1"), (true, "b1")] {
            let words =
                ["run", "-d", "--name", name, "--network", &app, "--network", "back", "busybox", "sleep", "1000"];
            say(&engine, docker, &words);
            let all = addrs(&engine, name);
            assert!(all.contains("lan7 10.1.0.") && all.contains("eth0 10.2.0."), "{all}");
            assert_eq!(martians(name), "1");
        }
        engine.ok(&["restart", "-t", "0", "a1"]);
        assert_eq!(martians("a1"), "1");
        // Of an interface that is made anew, too.
        lab.container(&engine, "a1").ok(&["ip", "link", "del", "lan7"]);
        lab::wait_for("the repair", Duration::from_secs(15), || {
            let out = engine.berth(&["exec", "a1", "cat", "/proc/sys/net/ipv4/conf/lan7/log_martians"]);
            (out.stdout.trim() == "1").then_some(())
        });
        engine.ok(&["network", "disconnect", "back", "a1"]);
        let opt = "com.docker.network.endpoint.ifname=back0";
        engine.ok(&["network", "connect", "--driver-opt", opt, "back", "a1"]);
        assert!(addrs(&engine, "a1").contains("back0 10.2.0."), "{}", addrs(&engine, "a1"));
        let same = format!("name=back,{}", option("ifname", "lan7"));
        refused(
            &engine,
            &["run", "--network", &app, "--network", &same, "busybox", "true"],
            125,
            "an interface lan7 already",
        );
        let bad = format!("name=app,{}", option("sysctls", "net.ipv4.ip_forward=1"));
        refused(
            &engine,
            &["run", "--network", &bad, "busybox", "true"],
            125,
            "unrecognised network interface sysctl 'net.ipv4.ip_forward=1'",
        );
        // The kernel's own word for a setting that it does not have; nothing of the container is left on the network.
        let none = format!("name=app,{}", option("sysctls", "net.ipv4.conf.IFNAME.nonsense=1"));
        refused(
            &engine,
            &["run", "--rm", "--network", &none, "busybox", "true"],
            125,
            "net.ipv4.conf.IFNAME.nonsense=1",
        );
        let members = read(&engine.ok(&["network", "inspect", "-f", "{{json .Containers}}", "app"]));
        assert_eq!(members.as_object().map(serde_json::Map::len), Some(2), "{members}");
    });
}

#[test]
fn networks_and_places_outlive_a_boot() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let name = |name: &str| format!("com.docker.network.bridge.name={name}");
        let words = [
            "network",
            "create",
            "--ipv6",
            "--subnet",
            "10.1.0.0/24",
            "--subnet",
            "fd01::/64",
            "--label",
            "tier=web",
            "-o",
        ];
        engine.ok(&[&words[..], &[&name("app0"), "app"]].concat());
        engine.ok(&["network", "create", "--internal", "-o", &name("back0"), "back"]);
        engine.ok(&["create", "--name", "later", "--network", "app", "--ip", "10.1.0.2", "busybox", "sleep", "1000"]);
        let flags = [
            "--restart",
            "always",
            "--network",
            "name=app,alias=www,gw-priority=3",
            "--network",
            "name=back,alias=inner",
        ];
        engine.sleeper("web", &flags);
        engine.sleeper("db", &["--restart", "always", "--network", "back"]);
        engine.sleeper("mortal", &["--network", "app", "--ip", "10.1.0.77", "--network-alias", "old"]);
        // Between them a name that is given up again, so that addresses are not those of a first start.
        engine.sleeper("gone", &["--network", "back"]);
        engine.ok(&["rm", "-f", "gone"]);
        let networks = || {
            let shown = read(&engine.ok(&["network", "inspect", "app", "back", "bridge"]));
            let mut shown = shown.as_array().unwrap().clone();
            for network in &mut shown {
                // Who runs is another question.
                network.as_object_mut().unwrap().retain(|field, _| !["Containers", "Status"].contains(&field.as_str()));
            }
            shown
        };
        let place = |container: &str, network: &str| {
            let format = format!("{{{{json (index .NetworkSettings.Networks \"{network}\")}}}}");
            let mut place = read(&engine.ok(&["inspect", "-f", &format, container]));
            place.as_object_mut().unwrap().remove("EndpointID");
            place
        };
        let places = || [place("web", "app"), place("web", "back"), place("db", "back")];
        let (networks_before, places_before) = (networks(), places());
        let address = places_before[0]["IPAddress"].as_str().unwrap().to_owned();
        assert_eq!(address, "10.1.0.3", "10.1.0.2 belongs to one that has not run yet");
        let pids = ["web", "db", "mortal"].map(|name| engine.ok(&["inspect", "-f", "{{.State.Pid}}", name]));
        let pids: Vec<&str> = pids.iter().map(|pid| pid.trim()).collect();
        engine.crash_machine(&pids, &["app0", "back0", "berth0"]);
        let links = lab.here().ok(&["ip", "-o", "link"]);
        assert!(!links.contains("veth") && !links.contains("app0") && !links.contains("berth0"), "{links}");
        engine.start_again();
        assert_eq!(networks(), networks_before);
        let running = |name: &str| engine.ok(&["inspect", "-f", "{{.State.Running}}", name]) == "true\n";
        lab::wait_for("those that are always there", Duration::from_secs(10), || {
            (running("web") && running("db")).then_some(())
        });
        assert_eq!(places(), places_before, "addresses, aliases and all else of a place");
        assert!(!running("mortal"));
        let web = lab.container(&engine, "web");
        let ask = |what: &str| web.dns("127.0.0.11:53", what).unwrap().to_string();
        let of_db = places_before[2]["IPAddress"].as_str().unwrap();
        for (what, wanted) in [("www", &*address), ("db", of_db), ("db.back", of_db)] {
            assert_eq!(ask(what), format!("NOERROR {wanted}"), "{what}");
        }
        assert!(web.ping(of_db) && lab.here().ping(&address));
        assert_eq!(default_route(&engine, "web"), "default via 10.1.0.1 dev eth0");
        engine.ok(&["start", "mortal", "later"]);
        assert_eq!((ask("old"), ask("later")), ("NOERROR 10.1.0.77".into(), "NOERROR 10.1.0.2".into()));
    });
}

#[test]
fn names_follow_within_a_twentieth_of_a_second() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
        engine.sleeper("asker", &["--network", "app"]);
        let asker = lab.container(&engine, "asker");
        let ask = |what: &str| asker.dns("127.0.0.11:53", what).map(|reply: dns::Reply| reply.to_string()).unwrap();
        // From the engine's answer to the name's, whose way is asked for again and again until it is the right one.
        let mut slowest = Duration::ZERO;
        let mut soon = |what: &str, wanted: &str| {
            let told = Instant::now();
            let got = lab::wait_for(what, Duration::from_secs(2), || Some(ask(what)).filter(|got| got == wanted));
            slowest = slowest.max(told.elapsed());
            assert_eq!(got, wanted);
        };
        engine.sleeper("web", &["--network", "app", "--ip", "10.1.0.9", "-h", "same"]);
        soon("web", "NOERROR 10.1.0.9");
        engine.ok(&["rename", "web", "www"]);
        soon("www", "NOERROR 10.1.0.9");
        soon("web", "NXDOMAIN");
        engine.sleeper("far", &["--network", "back", "-h", "same"]);
        engine.ok(&["network", "connect", "--ip", "10.1.0.10", "--alias", "late", "app", "far"]);
        soon("late", "NOERROR 10.1.0.10");
        // Two that call themselves the same are both meant.
        let same = ask("same");
        assert!(same.contains("10.1.0.9") && same.contains("10.1.0.10"), "{same}");
        engine.ok(&["network", "disconnect", "app", "far"]);
        soon("late", "NXDOMAIN");
        soon("same", "NOERROR 10.1.0.9");
        engine.ok(&["stop", "-t", "0", "www"]);
        soon("www", "NXDOMAIN");
        engine.ok(&["start", "www"]);
        soon("www", "NOERROR 10.1.0.9");
        assert!(slowest < Duration::from_millis(50), "the slowest name followed after {slowest:?}");
        println!("the slowest name followed after {slowest:?}");
        // What a name of a container has no record of is nobody else's to say (a name server would be asked in vain here).
        for kind in ["MX", "TXT", "33", "SOA", "AAAA"] {
            assert_eq!(ask(&format!("www {kind}")), "NOERROR", "{kind}");
        }
        assert_eq!(asker.dns("127.0.0.11:53", "www").unwrap().ttl, Some(1), "nobody keeps it for long");
    });
}
