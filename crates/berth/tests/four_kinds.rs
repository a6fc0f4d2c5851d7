//! The four kinds of containers, through `berth` and through the unmodified `docker` command.

use lab::{Engine, Lab, Output};

/// Runs the same words through each client that there is.
fn each_client(engine: &Engine, words: &[&str], judge: impl Fn(&str, Output)) {
    judge("berth", engine.berth(words));
    if lab::has_docker() {
        judge("docker", engine.docker(words));
    } else {
        println!("no docker command here: {words:?} is judged by berth alone");
    }
}

fn engine(lab: &Lab) -> Engine {
    let engine = lab.engine(&[]);
    engine.load_busybox();
    engine
}

#[test]
fn a_closed_container_has_only_its_loopback() {
    lab::alone(|lab| {
        let engine = engine(lab);
        each_client(&engine, &["run", "--rm", "--net", "none", "busybox", "ip", "addr"], |client, out| {
            assert_eq!(out.code, 0, "{client}: {out:?}");
            let links: Vec<&str> = out.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
            assert_eq!(links.len(), 1, "{client}: {}", out.stdout);
            assert!(links[0].starts_with("1: lo: <LOOPBACK,UP,LOWER_UP>"), "{client}: {}", out.stdout);
            assert!(out.stdout.contains("inet 127.0.0.1/8"), "{client}: {}", out.stdout);
            assert!(out.stdout.contains("inet6 ::1/128"), "{client}: {}", out.stdout);
        });
        each_client(
            &engine,
            &["run", "--rm", "--net", "none", "busybox", "ping", "-w", "2", "8.8.8.8"],
            |client, out| {
                assert_eq!(out.code, 1, "{client}: {out:?}");
                let said = out.stderr.contains("Network is unreachable") || out.stderr.contains("Network unreachable");
                assert!(said, "{client}: {out:?}");
            },
        );
        each_client(&engine, &["run", "--rm", "--net", "none", "busybox", "cat", "/etc/hosts"], |client, out| {
            assert!(out.stdout.contains("127.0.0.1\tlocalhost"), "{client}: {}", out.stdout);
            assert!(!out.stdout.contains("172."), "{client}: {}", out.stdout);
        });
    });
}

#[test]
fn a_bridged_container_reaches_the_outside_with_the_hosts_address() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let friend = lab.host("friend", "192.0.2.2/24");
        let server = friend.serve_tcp("192.0.2.2:8000", "hello");
        let engine = engine(lab);
        for net in [&["--net", "bridge"][..], &[]] {
            let words: Vec<&str> =
                ["run", "--rm"].iter().chain(net).chain(&["busybox", "ip", "addr"]).copied().collect();
            each_client(&engine, &words, |client, out| {
                assert_eq!(out.code, 0, "{client}: {out:?}");
                let links: Vec<&str> = out.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
                assert_eq!(links.len(), 2, "{client}: {}", out.stdout);
                assert!(links[1].contains(": eth0@if"), "{client}: {}", out.stdout);
                assert!(links[1].contains("UP,LOWER_UP") && links[1].contains("mtu 1500"), "{client}: {}", out.stdout);
                let addrs: Vec<&str> =
                    out.stdout.lines().filter(|l| l.contains("inet ") && l.contains("eth0")).collect();
                assert_eq!(addrs.len(), 1, "{client}: {}", out.stdout);
                assert!(addrs[0].contains("inet 172.17.0.") && addrs[0].contains("/16 "), "{client}: {}", out.stdout);
                assert!(!out.stdout.contains("inet6 fe80"), "{client}: {}", out.stdout);
            });
        }
        each_client(&engine, &["run", "--rm", "busybox", "nc", "192.0.2.2", "8000"], |client, out| {
            assert_eq!(out.code, 0, "{client}: {out:?}");
            assert!(out.stdout.starts_with("hello 192.0.2.1"), "{client}: {out:?}");
        });
        let strangers: Vec<_> =
            server.peers().into_iter().filter(|peer| peer.ip().to_string() != "192.0.2.1").collect();
        assert!(strangers.is_empty(), "the friend saw other addresses than the host's: {strangers:?}");
        each_client(&engine, &["run", "--rm", "busybox", "ping", "-c", "1", "-w", "2", "192.0.2.2"], |client, out| {
            assert_eq!(out.code, 0, "{client}: {out:?}");
        });
    });
}

#[test]
fn bridged_containers_have_addresses_of_their_own_and_the_host_reaches_them() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let friend = lab.host("friend", "192.0.2.2/24");
        friend.route("172.17.0.0/16 via 192.0.2.1");
        let engine = engine(lab);
        let mut addrs = std::collections::BTreeSet::new();
        for n in 0..4 {
            let name = format!("c{n}");
            engine.ok(&["run", "-d", "--name", &name, "busybox", "nc", "-ll", "-p", "80", "-e", "hostname"]);
            let addr = engine.ok(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &name]);
            let addr = addr.trim().to_owned();
            assert!(addr.starts_with("172.17.0.") && addr != "172.17.0.1", "{addr}");
            assert!(addrs.insert(addr.clone()), "{addr} was given out twice");
            assert!(lab.here().ping(&addr), "the host does not reach {name}");
            assert!(!friend.ping(&addr), "an outside host reaches {name} by a direct route");
            assert!(friend.tcp(&format!("{addr}:80")).is_err(), "an outside host reaches {name} by a direct route");
        }
        let ports = lab.here().ok(&["ip", "-o", "link", "show", "master", "berth0"]);
        assert_eq!(ports.lines().count(), 4, "{ports}");
        let first = addrs.iter().next().unwrap();
        each_client(&engine, &["run", "--rm", "busybox", "nc", first, "80"], |client, out| {
            assert_eq!(out.stdout.trim().len(), 12, "{client}: {out:?}");
        });
        engine.ok(&["rm", "-f", "c0", "c1", "c2", "c3"]);
    });
}

#[test]
fn a_bridged_container_has_ipv6_where_the_bridge_has() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let friend = lab.host("friend", "192.0.2.2/24 2001:db8::2/64");
        let server = friend.serve_tcp("[2001:db8::2]:8000", "hello");
        let engine = lab.engine(&["--ipv6", "--fixed-cidr-v6", "fd00:beef::/64"]);
        engine.load_busybox();
        each_client(&engine, &["run", "--rm", "busybox", "ip", "addr", "show", "eth0"], |client, out| {
            let addrs: Vec<&str> = out.stdout.lines().filter(|line| line.contains("inet6 fd00:beef::")).collect();
            assert_eq!(addrs.len(), 1, "{client}: {}", out.stdout);
            assert!(addrs[0].contains("/64") && !addrs[0].contains("tentative"), "{client}: {}", out.stdout);
            assert!(out.stdout.contains("inet 172.17.0."), "{client}: {}", out.stdout);
        });
        each_client(&engine, &["run", "--rm", "busybox", "nc", "2001:db8::2", "8000"], |client, out| {
            assert_eq!(out.code, 0, "{client}: {out:?}");
            assert!(out.stdout.starts_with("hello 2001:db8::1"), "{client}: {out:?}");
        });
        let strangers: Vec<_> = server.peers().into_iter().filter(|p| p.ip().to_string() != "2001:db8::1").collect();
        assert!(strangers.is_empty(), "the friend saw other addresses than the host's: {strangers:?}");
        each_client(
            &engine,
            &["run", "--rm", "busybox", "ping", "-c", "1", "-w", "3", "2001:db8::2"],
            |client, out| {
                assert_eq!(out.code, 0, "{client}: {out:?}");
            },
        );
    });
}

#[test]
fn a_joined_container_shares_the_stack() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine
            .ok(&["run", "-d", "--name", "brady", "--net", "none", "busybox", "nc", "-ll", "-p", "3333", "-e", "cat"]);
        each_client(
            &engine,
            &["run", "--rm", "--net", "container:brady", "busybox", "netstat", "-al"],
            |client, out| {
                assert_eq!(out.code, 0, "{client}: {out:?}");
                let listens = out.stdout.lines().any(|line| line.contains(":3333") && line.contains("LISTEN"));
                assert!(listens, "{client}: {}", out.stdout);
            },
        );
        each_client(&engine, &["run", "--rm", "--net", "container:brady", "busybox", "ip", "addr"], |client, out| {
            assert!(!out.stdout.contains("eth0"), "{client}: {}", out.stdout);
        });
        let talk = ["run", "--rm", "-i", "--net", "container:brady", "busybox", "nc", "-w", "2", "127.0.0.1", "3333"];
        let out = engine.berth_fed(&talk, b"over lo\n");
        assert_eq!(out.stdout, "over lo\n", "{out:?}");
        // The target restarts; the joiner keeps the stack and everything in it.
        engine.ok(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
        engine.ok(&["run", "-d", "--name", "side", "--net", "container:web", "busybox", "sleep", "1000"]);
        let before = engine.ok(&["exec", "side", "ip", "addr"]);
        assert!(before.contains("eth0"), "{before}");
        engine.ok(&["restart", "-t", "0", "web"]);
        assert_eq!(engine.ok(&["exec", "side", "ip", "addr"]), before);
        assert_eq!(engine.ok(&["exec", "web", "ip", "addr"]), before);
        engine.ok(&["rm", "-f", "web"]);
        assert_eq!(engine.ok(&["exec", "side", "ip", "addr"]), before, "the joiner lost the stack with its target");
        engine.ok(&["rm", "-f", "side", "brady"]);
        // The kernel takes a moment to clear a namespace that nobody is in any more.
        lab::wait_for("the end of the sandbox with its last user", std::time::Duration::from_secs(3), || {
            lab.here().ok(&["ip", "-o", "link", "show", "master", "berth0"]).is_empty().then_some(())
        });
    });
}

#[test]
fn joining_is_refused_with_dockers_words() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&["create", "--name", "st", "busybox", "true"]);
        for (target, words) in [
            ("nosuch", "joining network namespace of container: No such container: nosuch"),
            ("st", "cannot join network namespace of a non running container: container st is created"),
        ] {
            let net = format!("container:{target}");
            each_client(&engine, &["run", "--net", &net, "busybox", "true"], |client, out| {
                assert_eq!(out.code, 125, "{client}: {out:?}");
                assert!(out.stderr.contains(words), "{client}: {out:?}");
            });
        }
    });
}

#[test]
fn an_open_container_sees_the_host() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let friend = lab.host("friend", "192.0.2.2/24");
        let engine = engine(lab);
        each_client(&engine, &["run", "--rm", "--net", "host", "busybox", "ip", "addr"], |client, out| {
            assert_eq!(out.code, 0, "{client}: {out:?}");
            for link in ["lo:", "berth0:", "up0"] {
                assert!(out.stdout.contains(link), "{client}: no {link} in {}", out.stdout);
            }
        });
        engine
            .ok(&["run", "-d", "--name", "low", "--net", "host", "busybox", "nc", "-ll", "-p", "80", "-e", "hostname"]);
        let answer = lab::wait_for("the open container's port", std::time::Duration::from_secs(5), || {
            friend.tcp("192.0.2.1:80").ok()
        });
        assert!(!answer.trim().is_empty(), "no answer from the open container");
        engine.ok(&["rm", "-f", "low"]);
    });
}
