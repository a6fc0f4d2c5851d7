//! Containers that share another one's network, or the host's: scenarios S44 to S50 and what the engine says to flags that do
//! not go with it; through `berth` and through `docker`.

use lab::{Engine, Host, Lab, Output};
use std::io::{Read, Write};
use std::time::Duration;

/// One of the two clients.
struct Client<'a> {
    name: &'static str,
    engine: &'a Engine,
}

impl Client<'_> {
    fn say(&self, words: &[&str]) -> Output {
        if self.name == "docker" { self.engine.docker(words) } else { self.engine.berth(words) }
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let out = self.say(words);
        assert_eq!(out.code, 0, "{} {words:?}: {out:?}", self.name);
        out.stdout
    }

    /// Starts a container that sleeps, with these flags.
    #[track_caller]
    fn sleeper(&self, name: &str, flags: &[&str]) {
        self.ok(&[&["run", "-d", "--name", name][..], flags, &["busybox", "sleep", "1000"]].concat());
    }

    #[track_caller]
    fn told(&self, name: &str, what: &str) -> String {
        self.ok(&["inspect", "-f", what, name]).trim().to_owned()
    }

    /// It must not go, with this exit code and this text.
    #[track_caller]
    fn refused(&self, words: &[&str], code: i32, says: &str) {
        let out = self.say(words);
        assert!(out.code == code && out.stderr.contains(says), "{} {words:?}: wanted {says:?}, got {out:?}", self.name);
    }
}

/// Each client that there is, one after the other.
fn each_client(engine: &Engine, scenario: impl Fn(&Client)) {
    scenario(&Client { name: "berth", engine });
    if lab::has_docker() {
        scenario(&Client { name: "docker", engine });
    } else {
        println!("no docker command here: berth alone is judged");
    }
}

fn inside(lab: &Lab, client: &Client, name: &str) -> Host {
    lab.inside_pid(client.told(name, "{{.State.Pid}}").parse().expect("a pid is a number"))
}

#[test]
fn s44_s45_and_s47_brady_and_his_guest() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        each_client(&engine, |client| {
            client.ok(&["run", "-d", "--name", "brady", "--net", "none", "busybox", "nc", "-l", "127.0.0.1:3333"]);
            let guest = ["run", "--rm", "--net", "container:brady", "busybox"];
            let listening = lab::wait_for("brady to listen", Duration::from_secs(5), || {
                let said = client.ok(&[&guest[..], &["netstat", "-al"]].concat());
                said.contains(":3333").then_some(said)
            });
            let line = listening.lines().find(|line| line.contains(":3333")).unwrap_or_default();
            assert!(line.contains("LISTEN") && (line.contains("127.0.0.1:") || line.contains("localhost:")), "{line}");
            let links = client.ok(&[&guest[..], &["ip", "-o", "link"]].concat());
            assert!(links.lines().count() == 1 && links.contains(": lo: "), "{links}");
            client.refused(&[&guest[..], &["nc", "-l", "127.0.0.1:3333"]].concat(), 1, "Address already in use");
            client.ok(&[&guest[..], &["sh", "-c", "echo over lo | nc -w 1 127.0.0.1 3333"]].concat());
            assert_eq!(client.ok(&["logs", "brady"]), "over lo\n");
            client.ok(&["rm", "-f", "brady"]);
        });
    });
}

#[test]
fn s46_s48_and_s49_what_a_guest_may_do() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--icc=false"]);
        engine.load_busybox();
        each_client(&engine, |client| {
            client.sleeper("web", &[]);
            client.sleeper("guest", &["--net", "container:web", "--cap-add", "NET_ADMIN"]);
            // S46: nothing stands between them.
            client.ok(&["exec", "-d", "guest", "nc", "-ll", "-p", "7", "-e", "echo", "guest"]);
            lab::wait_for("the guest's service", Duration::from_secs(5), || {
                (client.say(&["exec", "web", "nc", "-w", "1", "127.0.0.1", "7"]).stdout == "guest\n").then_some(())
            });
            // S48: what one changes the other has, and the engine does not take it back.
            client.ok(&["exec", "guest", "ip", "route", "add", "198.51.100.0/24", "via", "172.17.0.1"]);
            client.ok(&["exec", "guest", "ip", "addr", "add", "10.9.9.9/32", "dev", "lo"]);
            client.sleeper("other", &[]);
            assert!(client.ok(&["exec", "web", "ip", "route"]).contains("198.51.100.0/24 via 172.17.0.1"));
            assert!(client.ok(&["exec", "web", "ip", "addr"]).contains("10.9.9.9/32"));
            let out = client.say(&["exec", "web", "ip", "route", "del", "198.51.100.0/24"]);
            assert!(out.code != 0 && out.stderr.contains("Operation not permitted"), "{out:?}");
            // S49: a guest sees what comes and goes.
            let own = client.told("web", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
            let mounts = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"];
            let watch = ["/usr/bin/tcpdump", "-Z", "root", "-n", "-l", "-c", "1", "-i", "eth0", "icmp"];
            let start = ["run", "-d", "--name", "watch", "--net", "container:web"];
            client.ok(&[&start[..], &mounts, &["busybox"], &watch].concat());
            let seen = lab::wait_for("a packet to be seen", Duration::from_secs(10), || {
                let _ = lab.here().try_ping(&own, Duration::from_millis(200));
                let said = client.ok(&["logs", "watch"]);
                said.lines().next().map(str::to_owned)
            });
            assert!(seen.contains(&format!("172.17.0.1 > {own}: ICMP echo request")), "{seen}");
            client.ok(&["rm", "-f", "web", "guest", "other", "watch"]);
        });
    });
}

#[test]
fn s50_a_target_comes_and_goes_and_its_guests_stay() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let outside = lab.host("outside", "192.0.2.2/24");
        let _echo = outside.serve_echo("192.0.2.2:7");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        each_client(&engine, |client| {
            client.sleeper("web", &["-p", "8080:80"]);
            client.sleeper("guest", &["--net", "container:web"]);
            let place = inside(lab, client, "guest");
            let served = place.serve_tcp("0.0.0.0:80", "guest");
            let mut flow = place.connect("192.0.2.2:7").expect("a connection");
            let mut alive = |when: &str| {
                flow.write_all(b"?")
                    .and_then(|()| flow.read_exact(&mut [0]))
                    .unwrap_or_else(|err| panic!("{when}: {err}"));
                let said = outside.tcp("192.0.2.1:8080").unwrap_or_else(|err| panic!("{when}: {err}"));
                assert_eq!(said, "guest 192.0.2.2\n", "{when}");
            };
            alive("at first");
            let addr = || client.ok(&["exec", "guest", "ip", "-o", "addr"]);
            let before = addr();
            client.ok(&["restart", "-t", "0", "web"]);
            alive("the target was restarted");
            client.ok(&["stop", "-t", "0", "web"]);
            alive("the target is stopped");
            client.ok(&["start", "web"]);
            alive("the target was started again");
            engine.kill9();
            engine.start_again();
            alive("the engine was killed");
            client.ok(&["restart", "-t", "0", "web"]);
            assert_eq!(addr(), before);
            assert_eq!(client.ok(&["exec", "web", "ip", "-o", "addr"]), before);
            client.ok(&["rm", "-f", "web"]);
            assert_eq!(addr(), before, "the guest lost the network with its host");
            // A guest that is started anew needs its host.
            let id = client.told("guest", "{{.HostConfig.NetworkMode}}").replace("container:", "");
            let says = format!("joining network namespace of container: No such container: {id}");
            client.refused(&["restart", "-t", "0", "guest"], 1, &says);
            drop((served, place));
            client.ok(&["rm", "-f", "guest"]);
        });
    });
}

#[test]
fn guests_of_guests_and_of_the_host() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        each_client(&engine, |client| {
            client.sleeper("web", &["--add-host", "friend:192.0.2.7", "--hostname", "barker"]);
            client.sleeper("guest", &["--net", "container:web"]);
            client.sleeper("third", &["--net", "container:guest"]);
            let id = client.told("web", "{{.Id}}");
            let by_prefix = format!("container:{}", &id[..7]);
            client.sleeper("fourth", &["--net", &by_prefix]);
            // A10.1 and A10.22: the target's id is kept, and nothing is shown twice.
            for name in ["guest", "fourth"] {
                assert_eq!(client.told(name, "{{.HostConfig.NetworkMode}}"), format!("container:{id}"));
                let shown =
                    "{{len .NetworkSettings.Networks}} {{.NetworkSettings.SandboxID}} {{json .NetworkSettings.Ports}}";
                assert_eq!(client.told(name, shown), "0  {}");
            }
            // A10.20: one network, one host name, the same files.
            let of = |words: &[&str]| {
                ["web", "guest", "third", "fourth"].map(|name| client.ok(&[&["exec", name], words].concat()))
            };
            let alike = |words: &[&str]| {
                let all = of(words);
                assert!(all.iter().all(|said| *said == all[0]), "{words:?}: {all:?}");
                all[0].clone()
            };
            alike(&["readlink", "/proc/self/ns/net"]);
            assert_eq!(alike(&["hostname"]), "barker\n");
            let files = ["stat", "-c", "%d %i", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];
            let before = alike(&files);
            client.ok(&["exec", "third", "sh", "-c", "echo 192.0.2.9 told >> /etc/hosts"]);
            assert!(client.ok(&["exec", "web", "cat", "/etc/hosts"]).contains("192.0.2.9 told\n"));
            // The same files still, after who owns them was started anew.
            client.ok(&["restart", "-t", "0", "web"]);
            assert_eq!(alike(&files), before);
            alike(&["readlink", "/proc/self/ns/net"]);
            // The middle one may go.
            client.ok(&["rm", "-f", "guest"]);
            client.ok(&["exec", "third", "ip", "addr", "show", "eth0"]);
            client.refused(
                &["restart", "-t", "0", "third"],
                1,
                "joining network namespace of container: No such container:",
            );
            // A10.21: guests of an open container are in the host's network.
            client.sleeper("open", &["--net", "host"]);
            client.sleeper("beside", &["--net", "container:open"]);
            client.sleeper("below", &["--net", "container:beside"]);
            let here = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
            for name in ["open", "beside", "below"] {
                let ns = client.ok(&["exec", name, "readlink", "/proc/self/ns/net"]);
                assert_eq!(ns.trim(), here.to_string_lossy(), "{name}");
                assert_eq!(client.ok(&["exec", name, "hostname"]), lab.here().ok(&["hostname"]), "{name}");
            }
            client.ok(&["rm", "-f", "web", "third", "fourth", "open", "beside", "below"]);
        });
    });
}

/// Flags that do not go with `--net container:NAME`, and what is said of them.
const CONFLICTS: &[(&[&str], &str)] = &[
    (&["-h", "name"], "conflicting options: hostname and the network mode"),
    (&["--dns", "192.0.2.53"], "conflicting options: dns and the network mode"),
    (&["--add-host", "a:192.0.2.7"], "conflicting options: custom host-to-IP mapping and the network mode"),
    (&["-p", "80:80"], "conflicting options: port publishing and the container type network mode"),
    (&["-P"], "conflicting options: port publishing and the container type network mode"),
    (&["--expose", "80"], "conflicting options: port exposing and the container type network mode"),
    (
        &["--link", "web:db"],
        "conflicting options: container type network can't be used with links. This would result in undefined behavior",
    ),
    (
        &["--ip", "172.17.0.9"],
        "invalid config for network container:web: invalid endpoint settings:\nuser-specified IP address is supported on",
    ),
    (&["--network-alias", "a"], "network-scoped aliases are only supported for user-defined networks"),
];

/// Flags that are taken and do nothing.
const IDLE: &[&[&str]] = &[
    &["--mac-address", "02:42:ac:11:00:63"],
    &["--dns-search", "example.com"],
    &["--dns-opt", "ndots:3"],
    &["--domainname", "example.com"],
    &["--sysctl", "net.ipv4.ip_default_ttl=33"],
    &["--uts", "host"],
];

#[test]
fn what_does_not_go_with_joining() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        engine.ok(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
        engine.ok(&["create", "--name", "asleep", "busybox", "true"]);
        engine.ok(&["run", "-d", "--name", "restless", "--restart", "always", "busybox", "false"]);
        each_client(&engine, |client| {
            let refused = |net: &str, flags: &[&str], says: &str| {
                client.refused(&[&["run", "--rm", "--net", net], flags, &["busybox", "true"]].concat(), 125, says);
            };
            for (flags, says) in CONFLICTS {
                refused("container:web", flags, says);
            }
            for net in ["container:", "container"] {
                refused(net, &[], "invalid network mode: invalid container format container:<name|id>");
            }
            let no_such = "joining network namespace of container: No such container: nosuch";
            refused("container:nosuch", &[], no_such);
            let asleep = "cannot join network namespace of a non running container: container asleep is created";
            refused("container:asleep", &[], asleep);
            lab::wait_for("a pause between two starts", Duration::from_secs(10), || {
                let out = client.say(&["run", "--rm", "--net", "container:restless", "busybox", "true"]);
                let says = "cannot join network namespace of container: Container ";
                let waits = out.stderr.contains(says)
                    && out.stderr.contains(" is restarting, wait until the container is running");
                (out.code == 125 && waits).then_some(())
            });
            client.refused(
                &["run", "--name", "self", "--net", "container:self", "busybox", "true"],
                125,
                "cannot join own network namespace",
            );
            // Found at the start; made it can be, and it stays.
            assert_eq!(client.told("self", "{{.State.Status}}"), "created");
            client.ok(&["create", "--name", "early", "--net", "container:nosuch", "busybox", "true"]);
            client.refused(&["start", "early"], 1, no_such);
            client.ok(&["rm", "self", "early"]);
            let own = client.ok(&["exec", "web", "ip", "-o", "link", "show", "eth0"]);
            for flags in IDLE {
                let start = [&["run", "--rm", "--net", "container:web"], *flags, &["busybox"]].concat();
                let said = client.ok(&[&start[..], &["ip", "-o", "link", "show", "eth0"]].concat());
                assert_eq!(said, own, "{flags:?}");
            }
            assert_eq!(client.ok(&["exec", "web", "cat", "/proc/sys/net/ipv4/ip_default_ttl"]), "64\n");
        });
    });
}

#[test]
fn what_goes_with_the_hosts_network() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        engine.ok(&["network", "create", "net1"]);
        each_client(&engine, |client| {
            let open = |flags: &[&str], words: &[&str]| {
                client.say(&[&["run", "--rm", "--net", "host"], flags, &["busybox"], words].concat())
            };
            // A1.10: its interfaces and its name, or another name.
            let name = lab.here().ok(&["hostname"]);
            assert_eq!(open(&[], &["hostname"]).stdout, name);
            assert_eq!(open(&["--hostname", "barker"], &["hostname"]).stdout, "barker\n");
            // A1.13
            for flags in [&["-p", "80:80"][..], &["-P"]] {
                let out = open(flags, &["true"]);
                let says = "WARNING: Published ports are discarded when using host network mode\n";
                assert_eq!((out.code, out.stderr.as_str()), (0, says), "{}", client.name);
            }
            // A1.14: a copy of the host's files, and what flags add to it.
            let hosts = std::fs::read_to_string("/etc/hosts").expect("the host's file");
            assert_eq!(open(&[], &["cat", "/etc/hosts"]).stdout, hosts);
            let said = open(&["--add-host", "friend:192.0.2.7"], &["cat", "/etc/hosts"]).stdout;
            assert!(said.starts_with(hosts.trim_end()) && said.ends_with("192.0.2.7\tfriend\n"), "{said}");
            let said =
                open(&["--dns", "192.0.2.53", "--dns-search", "example.com"], &["cat", "/etc/resolv.conf"]).stdout;
            let directives: Vec<&str> =
                said.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            assert_eq!(directives[..2], ["nameserver 192.0.2.53", "search example.com"], "{said}");
            // A1.15
            client.sleeper("open", &["--net", "host"]);
            client.sleeper("web", &[]);
            client.refused(
                &["network", "connect", "net1", "open"],
                1,
                "container sharing network namespace with another container or host cannot be connected to any other network",
            );
            client.refused(
                &["network", "disconnect", "host", "open"],
                1,
                "cannot disconnect container from host network - container was created in host network mode",
            );
            client.refused(
                &["network", "connect", "host", "web"],
                1,
                "cannot connect container to host network - container must be created in host network mode",
            );
            // A1.16 and others that cannot be.
            let refused = |flags: &[&str], says: &str| {
                client.refused(&[&["run", "--rm", "--net", "host"], flags, &["busybox", "true"]].concat(), 125, says);
            };
            refused(&["--uts", "host", "--hostname", "barker"], "conflicting options: hostname and the UTS mode");
            refused(&["--link", "web:db"], "conflicting options: host type networking can't be used with links");
            let says = "sysctl \"net.ipv4.ip_default_ttl\" can't be set since Network Namespace set to host";
            refused(&["--sysctl", "net.ipv4.ip_default_ttl=33"], says);
            // A13.4: the host's traffic is not its own.
            let said = client.ok(&["stats", "--no-stream", "--format", "{{.NetIO}}", "open"]);
            assert_eq!(said, "0B / 0B\n");
            client.ok(&["rm", "-f", "open", "web"]);
        });
    });
}
