//! Networks of the user's: made, listed, removed, joined by containers, apart from each other; through `berth` and `docker`.

use lab::{Engine, Lab};
use serde_json::{Value, json};
use std::io::{Read, Write};

fn engine(lab: &Lab) -> Engine {
    let engine = lab.engine(&[]);
    engine.load_busybox();
    engine
}

/// The same for JSON, whose fields may come in another order.
#[track_caller]
fn both_json(engine: &Engine, words: &[&str]) -> Value {
    let read =
        |text: String| serde_json::from_str::<Value>(&text).unwrap_or_else(|err| panic!("{words:?}: {err}: {text}"));
    let mut ours = read(engine.ok(words));
    // `docker` speaks an older version of the API, in which networks do not tell how far they are used up.
    for network in ours.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        network.remove("Status");
    }
    if lab::has_docker() {
        assert_eq!(read(engine.docker_ok(words)), ours, "docker {words:?}");
    }
    ours
}

/// Both commands refuse with this code, saying this.
#[track_caller]
fn refused(engine: &Engine, words: &[&str], code: i32, says: &str) {
    let docker = lab::has_docker().then(|| engine.docker(words));
    for out in [engine.berth(words)].into_iter().chain(docker) {
        assert!(out.code == code && out.stderr.contains(says), "{words:?}: wanted {code} and {says:?}, got {out:?}");
    }
}

/// One field of a container's place on a network.
#[track_caller]
fn field(engine: &Engine, container: &str, network: &str, field: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").{field}}}}}");
    engine.ok(&["inspect", "-f", &format, container]).trim().to_owned()
}

#[track_caller]
fn inspected(engine: &Engine, network: &str) -> Value {
    both_json(engine, &["network", "inspect", network])[0].clone()
}

/// Interfaces and routes of a container.
#[track_caller]
fn ip(engine: &Engine, container: &str, words: &[&str]) -> String {
    engine.ok(&[&["exec", container, "ip"][..], words].concat())
}

#[track_caller]
fn default_route(engine: &Engine, container: &str) -> String {
    let routes = ip(engine, container, &["route"]);
    let default = routes.lines().filter(|line| line.starts_with("default")).map(str::trim);
    default.collect::<Vec<_>>().join("\n")
}

/// `network create` with these words.
fn create<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["network", "create"][..], words].concat()
}

#[test]
fn networks_are_made_listed_and_removed() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = engine.ok(&["network", "create", "--label", "tier=web", "--label", "plain", "app"]);
        let id = id.trim();
        assert!(id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        if lab::has_docker() {
            let made = engine.docker_ok(&["network", "create", "--driver", "bridge", "-o", "colour=red", "dock"]);
            assert_eq!(made.trim().len(), 64);
        } else {
            engine.ok(&["network", "create", "--driver", "bridge", "-o", "colour=red", "dock"]);
        }
        // The table, and what it can be asked.
        let table = engine.both(&["network", "ls"]);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
        let names: Vec<&str> = rows[1..].iter().map(|row| row[1]).collect();
        assert_eq!(names, ["app", "bridge", "dock", "host", "none"]);
        assert_eq!(rows[1], [&id[..12], "app", "bridge", "local"]);
        let listed = |flags: &[&str]| {
            let words = [&["network", "ls", "--format", "{{.Name}}"][..], flags].concat();
            engine.both(&words).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for (filter, names) in [
            ("driver=bridge", "app bridge dock"),
            ("driver=null", "none"),
            ("name=pp", "app"),
            ("label=tier", "app"),
            ("label=tier=db", ""),
            ("type=builtin", "bridge host none"),
            ("type=custom", "app dock"),
            ("dangling=true", "app dock"),
            ("dangling=false", "bridge host none"),
            ("scope=local", "app bridge dock host none"),
            ("scope=swarm", ""),
        ] {
            assert_eq!(listed(&["--filter", filter]), names, "{filter}");
        }
        assert_eq!(engine.both(&["network", "ls", "-q", "--no-trunc", "--filter", "name=app"]).trim(), id);
        assert_eq!(listed(&["--filter", &format!("id={}", &id[..5])]), "app");
        refused(&engine, &["network", "ls", "--filter", "colour=red"], 1, "invalid filter 'colour'");
        // What inspect shows.
        let shown = inspected(&engine, "app");
        for field in [
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
        ] {
            assert!(shown.get(field).is_some(), "{field} is missing in {shown}");
        }
        assert_eq!(shown["Labels"], json!({ "tier": "web", "plain": "" }));
        assert_eq!(
            (&shown["Scope"], &shown["Driver"], &shown["Internal"]),
            (&json!("local"), &json!("bridge"), &json!(false))
        );
        assert_eq!(shown["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().rsplit('.').next(), Some("1"));
        assert_eq!(inspected(&engine, "dock")["Options"], json!({ "colour": "red" }));
        assert_eq!(inspected(&engine, &id[..7])["Name"], "app", "by the beginning of its id");
        let none = engine.berth(&["network", "inspect", "nope"]);
        assert_eq!((none.code, none.stdout.as_str()), (1, "[]\n"));
        refused(&engine, &["network", "inspect", "nope"], 1, "Error response from daemon: network nope not found");
        // What cannot be.
        refused(&engine, &create(&["app"]), 1, "Error response from daemon: network with name app already exists");
        for name in ["bridge", "host", "none"] {
            let says = format!("Error response from daemon: operation is not permitted on predefined {name} network");
            refused(&engine, &create(&[name]), 1, &says);
            let says = format!("{name} is a pre-defined network and cannot be removed");
            refused(&engine, &["network", "rm", name], 1, &says);
        }
        refused(&engine, &create(&["-d", "foo", "x1"]), 1, "plugin \"foo\" not found");
        refused(&engine, &create(&["-d", "host", "x1"]), 1, "only one instance of \"host\" network is allowed");
        refused(&engine, &create(&["-d", "overlay", "x1"]), 1, "This node is not a swarm manager.");
        let (status, said) = engine.http("POST", "/networks/create", r#"{"Name":""}"#);
        assert_eq!((status, said.contains("invalid name: name is empty")), (400, true), "{said}");
        refused(&engine, &create(&["-o", "com.docker.network.bridge.enable_icc=maybe", "x1"]), 1, "maybe");
        // Any name that is not empty.
        for name in ["dashes-and_under.scores", "with space", "ünï/côdé", "{}&?"] {
            engine.ok(&["network", "create", name]);
            assert_eq!(engine.ok(&["network", "inspect", "-f", "{{.Name}}", name]), format!("{name}\n"));
            assert_eq!(engine.ok(&["network", "rm", name]), format!("{name}\n"));
        }
        // A name is found before the beginning of another's id.
        engine.ok(&["network", "create", &id[..6]]);
        assert_eq!(engine.ok(&["network", "rm", &id[..6]]), format!("{}\n", &id[..6]));
        assert_eq!(inspected(&engine, id)["Name"], "app");
        // Removing goes on after what is not there.
        let out = engine.berth(&["network", "rm", "nope", "dock"]);
        assert!(out.code == 1 && out.stdout == "dock\n" && out.stderr.contains("network nope not found"), "{out:?}");
        assert_eq!(engine.berth(&["network", "rm", "-f", "nope"]).code, 0);
        // In use by a container that runs, and not by one that does not.
        engine.sleeper("web", &["--network", "app"]);
        let says = "error while removing network: network app has active endpoints (name:\"web\" id:\"";
        refused(&engine, &["network", "rm", "app"], 1, says);
        assert_eq!(listed(&["--filter", "dangling=true"]), "");
        engine.ok(&["network", "create", "idle"]);
        engine.ok(&["network", "create", "--label", "keep", "kept"]);
        engine.ok(&["stop", "-t", "0", "web"]);
        assert_eq!(engine.ok(&["network", "prune", "-f", "--filter", "until=1h"]), "");
        let pruned = engine.ok(&["network", "prune", "-f", "--filter", "label!=keep"]);
        assert_eq!(pruned, "Deleted Networks:\napp\nidle\n\n");
        let asked = engine.berth_fed(&["network", "prune"], b"n\n");
        let warning = "WARNING! This will remove all custom networks not used by at least one container.\n\
                       Are you sure you want to continue? [y/N] ";
        assert_eq!((asked.code, asked.stdout.as_str()), (0, warning), "{asked:?}");
        if lab::has_docker() {
            assert_eq!(engine.docker_ok(&["network", "prune", "-f"]), "Deleted Networks:\nkept\n\n");
        }
        refused(&engine, &["start", "web"], 1, "network app not found");
        // Another one of the same name is not the one that it was on.
        engine.ok(&["network", "create", "app"]);
        let says =
            "failed to set up container networking: network app not found: the one that the container was on is gone";
        refused(&engine, &["start", "web"], 1, says);
        assert_eq!(engine.ok(&["inspect", "-f", "{{.State.Status}}", "web"]), "exited\n");
        engine.ok(&["network", "connect", "app", "web"]);
        engine.ok(&["start", "web"]);
        assert_eq!(inspected(&engine, "app")["Containers"].as_object().unwrap().len(), 1);
        // What is gone can be left, too.
        engine.ok(&["stop", "-t", "0", "web"]);
        engine.ok(&["network", "rm", "app"]);
        refused(&engine, &["network", "disconnect", "app", "web"], 1, "network app not found");
        engine.ok(&["network", "disconnect", "-f", "app", "web"]);
        engine.ok(&["start", "web"]);
        assert_eq!(ip(&engine, "web", &["-o", "link"]).lines().count(), 1, "lo alone");
    });
}

#[test]
fn addresses_of_networks_are_checked() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let config = "Error response from daemon: invalid network config:\n";
        for (flags, says) in [
            (
                &["--subnet", "10.1.0.5/16"][..],
                &*format!("{config}invalid subnet 10.1.0.5/16: it should be 10.1.0.0/16"),
            ),
            (
                &["--subnet", "10.1.0.0/16", "--ip-range", "10.1.0.5/24"],
                &format!("{config}invalid ip-range 10.1.0.5/24: it should be 10.1.0.0/24"),
            ),
            (
                &["--subnet", "10.1.0.0/16", "--ip-range", "10.1.0.0/8"],
                "CIDR block is bigger than its parent subnet 10.1.0.0/16",
            ),
            (&["--subnet", "10.1.0.0/16", "--ip-range", "10.2.0.0/24"], "no matching subnet for range 10.2.0.0/24"),
            (&["--subnet", "10.1.0.0/16", "--gateway", "10.2.0.1"], "no matching subnet for gateway 10.2.0.1"),
            (&["--gateway", "10.2.0.1"], "every ip-range or gateway must have a corresponding subnet"),
            (&["--ip-range", "10.2.0.0/24"], "every ip-range or gateway must have a corresponding subnet"),
            (
                &["--subnet", "10.1.0.0/16", "--aux-address", "r=10.2.0.1"],
                "no matching subnet for aux-address 10.2.0.1",
            ),
            (
                &["--subnet", "10.1.0.0/16", "--subnet", "10.1.1.0/24"],
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                &[
                    "--subnet",
                    "10.1.0.0/16",
                    "--subnet",
                    "10.2.0.0/16",
                    "--gateway",
                    "10.1.0.1",
                    "--gateway",
                    "10.1.0.2",
                ],
                "for the same subnet (10.1.0.0/16)",
            ),
            (&["--subnet", "10.1.0.0/16", "--subnet", "10.2.0.0/16"], "bridge driver doesn't support multiple subnets"),
        ] {
            refused(&engine, &create(&[flags, &["x"]].concat()), 1, says);
        }
        for (body, says) in [
            (
                json!({"Subnet": "10.1.0.0/16", "IPRange": "10.2.0.0/24"}),
                "invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range",
            ),
            (
                json!({"Subnet": "10.1.0.0/16", "Gateway": "10.2.0.1"}),
                "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
            ),
            (
                json!({"Subnet": "10.1.0.0/16", "Gateway": "fd00::1"}),
                "invalid gateway fd00::1: parent subnet is an IPv4 block",
            ),
            (
                json!({"Subnet": "10.1.0.0/16", "AuxiliaryAddresses": {"r": "10.2.0.1"}}),
                "invalid auxiliary address r: 10.2.0.1: parent subnet",
            ),
        ] {
            let body = json!({"Name": "x1", "IPAM": {"Config": [body]}}).to_string();
            let (status, said) = engine.http("POST", "/networks/create", &body);
            assert!(status == 400 && said.contains(says), "{body}: {status} {said}");
        }
        let off = engine.http("POST", "/networks/create", r#"{"Name":"x1","EnableIPv4":false}"#);
        assert!(off.1.contains("IPv4 or IPv6 must be enabled"), "{off:?}");
        engine.ok(&["network", "create", "--subnet", "10.7.0.0/24", "seven"]);
        let overlaps = "invalid pool request: Pool overlaps with other one on this address space";
        refused(&engine, &["network", "create", "--subnet", "10.7.0.128/25", "x1"], 1, overlaps);
        engine.ok(&["network", "create", "-o", "com.docker.network.bridge.name=own0", "named"]);
        let same = "networks have same bridge name";
        refused(&engine, &["network", "create", "-o", "com.docker.network.bridge.name=own0", "x1"], 1, same);
        // All of it together, and what inspect says of it.
        engine.ok(&[
            "network",
            "create",
            "--ipv6",
            "--subnet",
            "10.8.0.0/16",
            "--subnet",
            "fd08::/64",
            "--ip-range",
            "10.8.5.0/24",
            "--gateway",
            "10.8.0.9",
            "--gateway",
            "fd08::9",
            "--aux-address",
            "router=10.8.5.0",
            "--aux-address",
            "six=fd08::1",
            "-o",
            "com.docker.network.driver.mtu=1400",
            "full",
        ]);
        assert_eq!(
            inspected(&engine, "full")["IPAM"]["Config"],
            json!([
                {"Subnet": "10.8.0.0/16", "IPRange": "10.8.5.0/24", "Gateway": "10.8.0.9", "AuxiliaryAddresses": {"router": "10.8.5.0"}},
                {"Subnet": "fd08::/64", "Gateway": "fd08::9", "AuxiliaryAddresses": {"six": "fd08::1"}},
            ])
        );
        engine.sleeper("a1", &["--network", "full"]);
        assert_eq!(field(&engine, "a1", "full", "IPAddress"), "10.8.5.1");
        assert_eq!(field(&engine, "a1", "full", "GlobalIPv6Address"), "fd08::2");
        assert_eq!(default_route(&engine, "a1"), "default via 10.8.0.9 dev eth0");
        assert!(ip(&engine, "a1", &["link", "show", "eth0"]).contains("mtu 1400"));
        // IPv6 alone.
        engine.ok(&["network", "create", "--ipv4=false", "--ipv6", "six"]);
        engine.sleeper("b1", &["--network", "six"]);
        assert_eq!(field(&engine, "b1", "six", "IPAddress"), "");
        assert!(field(&engine, "b1", "six", "GlobalIPv6Address").starts_with("fd"));
        assert!(ip(&engine, "b1", &["-6", "route"]).contains("default via fd"));
    });
}

#[test]
fn containers_get_the_addresses_that_they_ask_for() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&["network", "create", "--ipv6", "--subnet", "10.1.0.0/24", "--subnet", "fd01::/64", "app"]);
        engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "four"]);
        let asked = [
            "--network",
            "app",
            "--ip",
            "10.1.0.2",
            "--ip6",
            "fd01::77",
            "--mac-address",
            "02:00:00:00:00:77",
            "--network-alias",
            "db",
        ];
        engine.sleeper("fixed", &asked);
        let all = |container: &str| {
            ["IPAddress", "IPPrefixLen", "GlobalIPv6Address", "MacAddress"]
                .map(|name| field(&engine, container, "app", name))
                .join(" ")
        };
        assert_eq!(all("fixed"), "10.1.0.2 24 fd01::77 02:00:00:00:00:77");
        let place = both_json(&engine, &["inspect", "-f", "{{json .NetworkSettings.Networks.app}}", "fixed"]);
        assert_eq!(place["IPAMConfig"], json!({"IPv4Address": "10.1.0.2", "IPv6Address": "fd01::77"}));
        assert_eq!(place["Aliases"], json!(["db"]));
        let id = engine.ok(&["inspect", "-f", "{{.Id}}", "fixed"]);
        assert_eq!(place["DNSNames"], json!(["fixed", "db", &id[..12]]));
        // By the beginning of the network's id, and by the long form.
        let network = engine.ok(&["network", "ls", "-q", "--filter", "name=app"]);
        engine.sleeper("by-id", &["--network", network.trim()]);
        assert_eq!(field(&engine, "by-id", "app", "IPAddress"), "10.1.0.3");
        engine
            .sleeper("long", &["--network", "name=app,ip=10.1.0.50,alias=one,alias=two,mac-address=02:00:00:00:00:50"]);
        assert_eq!(field(&engine, "long", "app", "IPAddress"), "10.1.0.50");
        if lab::has_docker() {
            engine.docker_ok(&[
                "run",
                "-d",
                "--name",
                "dock",
                "--network",
                "app",
                "--ip",
                "10.1.0.60",
                "busybox",
                "sleep",
                "1000",
            ]);
            assert_eq!(field(&engine, "dock", "app", "IPAddress"), "10.1.0.60");
        }
        // Kept while it does not run, and not given to others.
        engine.ok(&["stop", "-t", "0", "fixed"]);
        for name in ["c1", "d1"] {
            engine.sleeper(name, &["--network", "app"]);
        }
        assert_eq!(field(&engine, "c1", "app", "IPAddress"), "10.1.0.4");
        engine.ok(&["start", "fixed"]);
        assert_eq!(all("fixed"), "10.1.0.2 24 fd01::77 02:00:00:00:00:77");
        // Also one that has never run.
        engine.ok(&["create", "--name", "later", "--network", "app", "--ip", "10.1.0.6", "busybox", "true"]);
        engine.sleeper("e1", &["--network", "app"]);
        assert_eq!(field(&engine, "e1", "app", "IPAddress"), "10.1.0.7");
        // What cannot be; the container stays, as made.
        let refused = |flags: &[&str], says: &str| {
            let words = [&["run", "-d"][..], flags, &["busybox", "sleep", "1"]].concat();
            refused(&engine, &words, 125, says);
        };
        let settings = |network: &str| format!("invalid config for network {network}: invalid endpoint settings:\n");
        refused(&["--network", "nope"], "failed to set up container networking: network nope not found");
        let created = engine.ok(&["ps", "-aq", "--filter", "status=created"]);
        assert_eq!(created.lines().count(), if lab::has_docker() { 3 } else { 2 }, "{created}");
        refused(
            &["--ip", "172.17.0.9"],
            &(settings("bridge") + "user-specified IP address is supported on user-defined networks only"),
        );
        refused(
            &["--network", "app", "--ip", "10.9.0.9"],
            &(settings("app") + "no configured subnet contains IP address 10.9.0.9"),
        );
        refused(
            &["--network", "four", "--ip6", "fd01::9"],
            &(settings("four") + "no configured subnet contains IP address fd01::9"),
        );
        refused(
            &["--network", "app", "--ip", "10.1.0.2"],
            "failed to set up container networking: Address already in use",
        );
        refused(&["--network-alias", "db"], "network-scoped aliases are only supported for user-defined networks");
        refused(&["--network", "app", "--mac-address", "zz"], "zz");
        refused(&["--network", "app", "--network", "app"], "network \"app\" is specified multiple times");
        refused(
            &["--network", "app", "--network", "host"],
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        );
        refused(
            &["--network", "name=app,alias=x", "--network-alias", "y1"],
            "conflicting options: cannot specify both --network-alias and per-network alias",
        );
        refused(&["--network", "name=app,zz=1"], "invalid field key zz");
        refused(&["--network", "alias=x"], "network name/id is not specified");
        // A network without addresses left.
        engine.ok(&["network", "create", "--subnet", "10.3.0.0/30", "tiny"]);
        engine.sleeper("only", &["--network", "tiny"]);
        refused(&["--network", "tiny"], "no available IPv4 addresses on this network's address pools: tiny (");
    });
}

#[test]
fn networks_are_apart_from_each_other() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let outside = lab.host("outside", "192.0.2.2/24 2001:db8::2/64");
        let engine = engine(lab);
        for (name, subnet, six, more) in [
            ("one", "10.1.0.0/24", "fd01::/64", &[][..]),
            ("two", "10.2.0.0/24", "fd02::/64", &[]),
            ("vault", "10.3.0.0/24", "fd03::/64", &["--internal"]),
            ("apart", "10.4.0.0/24", "fd04::/64", &["-o", "com.docker.network.bridge.enable_icc=false"]),
        ] {
            let words =
                [&["network", "create", "--ipv6", "--subnet", subnet, "--subnet", six][..], more, &[name]].concat();
            engine.ok(&words);
        }
        let at = |network: &str, number: u8| (format!("10.{network}.0.{number}"), format!("fd0{network}::{number}"));
        for (name, network, number, flags) in [
            ("a1", "one", 2, &[][..]),
            ("b1", "one", 3, &[]),
            ("c1", "two", 2, &["-p", "8080:80"]),
            ("v1", "vault", 2, &["-p", "8081:80"]),
            ("w1", "vault", 3, &[]),
            ("x1", "apart", 2, &["-p", "8082:80"]),
            ("y1", "apart", 3, &[]),
        ] {
            let digit = match network {
                "one" => "1",
                "two" => "2",
                "vault" => "3",
                _ => "4",
            };
            let (four, six) = at(digit, number);
            engine.sleeper(name, &[&["--network", network, "--ip", &four, "--ip6", &six][..], flags].concat());
        }
        let [a, b, c, v, w, x, y] = ["a1", "b1", "c1", "v1", "w1", "x1", "y1"].map(|name| lab.container(&engine, name));
        let spaces = [
            (&a, ("1", 2)),
            (&b, ("1", 3)),
            (&c, ("2", 2)),
            (&v, ("3", 2)),
            (&w, ("3", 3)),
            (&x, ("4", 2)),
            (&y, ("4", 3)),
        ];
        let _served: Vec<_> = spaces.iter().map(|(space, _)| space.serve_tcp("[::]:80", "inside")).collect();
        let _out = outside.serve_tcp("[::]:80", "outside");
        outside.route("10.0.0.0/8 via 192.0.2.1");
        // Who reaches whom directly: only within one network, and there unless it keeps its members apart.
        let mut wanted = Vec::new();
        for (from, (network, number)) in &spaces {
            for (_, (other, target)) in &spaces {
                if (network, number) != (other, target) {
                    let reach = network == other && *network != "4";
                    let (four, six) = at(other, *target);
                    wanted.push((*from, format!("{four}:80"), reach));
                    wanted.push((*from, format!("[{six}]:80"), reach));
                }
            }
            let (four, _) = at(network, *number);
            wanted.push((&outside, format!("{four}:80"), false));
            let out = *network != "3";
            wanted.push((*from, "192.0.2.2:80".to_owned(), out));
            wanted.push((*from, "[2001:db8::2]:80".to_owned(), out));
            // A published port by the host's address, but for the network without a way out.
            wanted.push((*from, "192.0.2.1:8080".to_owned(), out));
        }
        wanted.push((&outside, "192.0.2.1:8080".to_owned(), true));
        wanted.push((&outside, "192.0.2.1:8082".to_owned(), true));
        wanted.push((&outside, "192.0.2.1:8081".to_owned(), false));
        let wrong: Vec<String> = std::thread::scope(|scope| {
            let probes: Vec<_> = wanted
                .iter()
                .map(|(from, to, wanted)| {
                    scope.spawn(move || {
                        let got = from.tcp(to);
                        (got.is_ok() != *wanted)
                            .then(|| format!("{} -> {to}: wanted {wanted}, got {got:?}", from.name()))
                    })
                })
                .collect();
            probes.into_iter().filter_map(|probe| probe.join().unwrap()).collect()
        });
        assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), wanted.len(), wrong.join("\n"));
        assert!(!a.ping("10.2.0.2") && a.ping("10.1.0.3") && !a.ping("fd02::2") && !x.ping("10.4.0.3"));
        // The host reaches the members of an internal network, and nothing was published of it.
        assert!(lab.here().tcp("10.3.0.2:80").is_ok());
        assert_eq!(engine.ok(&["port", "v1"]), "");
        assert_eq!(default_route(&engine, "v1"), "");
    });
}

#[test]
fn a_container_on_several_networks_has_one_way_out() {
    lab::alone(|lab| {
        let engine = engine(lab);
        for (name, subnet) in [("app", "10.1.0.0/24"), ("mid", "10.2.0.0/24"), ("zoo", "10.3.0.0/24")] {
            engine.ok(&["network", "create", "--subnet", subnet, name]);
        }
        engine.ok(&["network", "create", "--internal", "--subnet", "10.4.0.0/24", "inner"]);
        // The first that is named is eth0; the way out is by name.
        engine.sleeper("a1", &["--network", "zoo", "--network", "app", "--network", "inner"]);
        let addrs = |name: &str| {
            let shown = ip(&engine, name, &["-o", "-4", "addr"]);
            let words = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            words
                .filter(|words| words[1] != "lo")
                .map(|words| format!("{} {}", words[1], words[3]))
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(addrs("a1"), "eth0 10.3.0.2/24, eth1 10.1.0.2/24, eth2 10.4.0.2/24");
        assert_eq!(default_route(&engine, "a1"), "default via 10.1.0.1 dev eth1");
        let networks =
            engine.both(&["inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", "a1"]);
        assert_eq!(networks.trim(), "app inner zoo");
        engine.ok(&["restart", "-t", "0", "a1"]);
        assert_eq!(addrs("a1"), "eth0 10.3.0.2/24, eth1 10.1.0.2/24, eth2 10.4.0.2/24");
        engine.ok(&["stop", "-t", "0", "a1"]);
        engine.ok(&["start", "a1"]);
        assert_eq!(addrs("a1"), "eth0 10.3.0.2/24, eth1 10.1.0.2/24, eth2 10.4.0.2/24");
        assert_eq!(default_route(&engine, "a1"), "default via 10.1.0.1 dev eth1");
        // The priority comes first.
        engine.sleeper("b1", &["--network", "app", "--network", "name=zoo,gw-priority=1"]);
        assert_eq!(default_route(&engine, "b1"), "default via 10.3.0.1 dev eth1");
        assert_eq!(field(&engine, "b1", "zoo", "GwPriority"), "1");
        // A connection on one network does not feel what is done to the others.
        let (here, there) = (lab.container(&engine, "a1"), lab.container(&engine, "b1"));
        let _echo = there.serve_echo("10.1.0.3:7");
        let mut stream = here.connect("10.1.0.3:7").unwrap();
        let mut talk = |text: &str| {
            stream.write_all(text.as_bytes()).unwrap();
            let mut back = vec![0; text.len()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, text.as_bytes());
        };
        talk("before");
        engine.ok(&["network", "connect", "--gw-priority", "5", "mid", "a1"]);
        assert_eq!(addrs("a1"), "eth0 10.3.0.2/24, eth1 10.1.0.2/24, eth2 10.4.0.2/24, eth3 10.2.0.2/24");
        assert_eq!(default_route(&engine, "a1"), "default via 10.2.0.1 dev eth3");
        talk("one more");
        engine.ok(&["network", "disconnect", "zoo", "a1"]);
        engine.ok(&["network", "disconnect", "mid", "a1"]);
        assert_eq!(addrs("a1"), "eth1 10.1.0.2/24, eth2 10.4.0.2/24");
        assert_eq!(default_route(&engine, "a1"), "default via 10.1.0.1 dev eth1");
        talk("two less");
    });
}

#[test]
fn networks_and_their_members_outlive_the_engine() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = engine.ok(&["network", "create", "--label", "a=b", "--subnet", "10.1.0.0/24", "app"]);
        engine.sleeper("web", &["--network", "app", "--ip", "10.1.0.9", "--network-alias", "www"]);
        engine.sleeper("db", &["--network", "app"]);
        engine.ok(&["create", "--name", "later", "--network", "app", "--ip", "10.1.0.3", "busybox", "sleep", "1000"]);
        let before = inspected(&engine, "app");
        let address = |name: &str| field(&engine, name, "app", "IPAddress");
        assert_eq!((address("web"), address("db")), ("10.1.0.9".into(), "10.1.0.2".into()));
        engine.kill9();
        engine.start_again();
        assert_eq!(inspected(&engine, "app"), before);
        assert_eq!((before["Id"].as_str(), address("db")), (Some(id.trim()), "10.1.0.2".into()));
        engine.sleeper("more", &["--network", "app"]);
        assert_eq!(address("more"), "10.1.0.4", "10.1.0.3 belongs to one that has not run yet");
        engine.ok(&["start", "later"]);
        assert_eq!(address("later"), "10.1.0.3");
        // As after a boot: the run directory is empty and nobody lives.
        for name in ["web", "db", "later", "more"] {
            engine.ok(&["kill", name]);
        }
        engine.stop();
        std::fs::remove_file(engine.exec_root().join("boot.redb")).unwrap();
        engine.start_again();
        let after = inspected(&engine, "app");
        assert_eq!(
            (&after["Id"], &after["Created"], &after["Labels"]),
            (&before["Id"], &before["Created"], &before["Labels"])
        );
        engine.ok(&["start", "web"]);
        assert_eq!((address("web"), field(&engine, "web", "app", "Aliases")), ("10.1.0.9".into(), "[www]".into()));
    });
}

#[test]
fn what_happens_to_networks_is_told() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let id = engine.ok(&["network", "create", "app"]);
        engine.sleeper("web", &["--network", "app"]);
        engine.ok(&["network", "create", "two"]);
        engine.ok(&["network", "connect", "two", "web"]);
        engine.ok(&["network", "disconnect", "two", "web"]);
        engine.ok(&["rm", "-f", "web"]);
        engine.ok(&["network", "rm", "app"]);
        // Clients send whole seconds: what happened in the running one is after "now".
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let events = engine.ok(&[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "--filter",
            "type=network",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}",
        ]);
        assert_eq!(
            events.lines().collect::<Vec<_>>(),
            [
                "create app bridge",
                "connect app bridge",
                "create two bridge",
                "connect two bridge",
                "disconnect two bridge",
                "disconnect app bridge",
                "destroy app bridge"
            ]
        );
        let text = engine.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=connect"]);
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains(&format!("network connect {} (container=", id.trim())), "{text}");
        assert!(first.ends_with("name=app, type=bridge)"), "{text}");
    });
}
