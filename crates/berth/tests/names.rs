//! Names: what containers find in their files, and what the resolver answers them; through `berth` and `docker`.

use lab::dns::{self, Manner, NameServer, Reply};
use lab::{Engine, Host, Lab, Output, RESOLVER, residue};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whom containers ask.
const ATTENTIVE: Duration = Duration::from_secs(5);

/// The engine's host, whose only name server is outside and has this table; and that outside, which has more addresses.
fn world(lab: &Lab, flags: &[&str], table: &str) -> (Engine, Host, NameServer) {
    lab.uplink("192.0.2.1/24 2001:db8::1/64");
    let outside = lab.host("outside", "192.0.2.53/24 192.0.2.54/24 192.0.2.55/24 2001:db8::53/64");
    let server = outside.serve_dns("192.0.2.53:53", table);
    lab.resolv_conf("nameserver 192.0.2.53\n");
    let engine = lab.engine(flags);
    engine.load_busybox();
    (engine, outside, server)
}

/// What each of the two commands has to say of these words.
fn each(engine: &Engine, words: &[&str]) -> Vec<Output> {
    let docker = lab::has_docker().then(|| engine.docker(words));
    [engine.berth(words)].into_iter().chain(docker).collect()
}

/// Both commands run a container to its good end and print what contains this.
#[track_caller]
fn says(engine: &Engine, words: &[&str], wanted: &str) {
    for out in each(engine, &[&["run", "--rm"], words].concat()) {
        assert!(out.code == 0 && out.stdout.contains(wanted), "{words:?}: wanted {wanted:?}, got {out:?}");
    }
}

/// Both commands refuse with this code, saying this.
#[track_caller]
fn refused(engine: &Engine, words: &[&str], code: i32, wanted: &str) {
    for out in each(engine, words) {
        assert!(out.code == code && out.stderr.contains(wanted), "{words:?}: wanted {code} {wanted:?}, got {out:?}");
    }
}

/// Starts a container that sleeps, and answers its network as a place to ask from.
#[track_caller]
fn start(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Host {
    engine.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
    lab.container(engine, name)
}

/// A line of a file in a container.
fn file(engine: &Engine, name: &str, path: &str) -> String {
    engine.ok(&["exec", name, "cat", path])
}

fn own_address(engine: &Engine, name: &str) -> String {
    engine.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name]).trim().to_owned()
}

#[test]
fn a_container_finds_itself_and_what_was_added() {
    lab::alone(|lab| {
        let (engine, _, server) = world(lab, &[], "docker.com A 192.0.2.80; docker.com TXT hello");
        // S12, S21, S23: the commands of the text as written, with a busybox that asks DNS only.
        says(&engine, &["--hostname", "barker", "busybox", "nslookup", "barker"], "Name:\tbarker\nAddress: 172.17.0.");
        says(&engine, &["-h", "barker", "busybox", "ping", "-c", "1", "barker"], "1 packets received");
        let test = ["--add-host", "test:10.10.10.255"];
        says(&engine, &[&test[..], &["busybox", "nslookup", "test"]].concat(), "Name:\ttest\nAddress: 10.10.10.255");
        says(&engine, &[&test[..], &["busybox", "cat", "/etc/hosts"]].concat(), "\n10.10.10.255\ttest\n172.17.0.");
        let real = ["--add-host", "docker.com:127.0.0.1", "busybox", "nslookup", "docker.com"];
        says(&engine, &real, "Address: 127.0.0.1");
        assert_eq!(server.asked(), [""; 0], "of such names nobody else is asked");
        // S22: repeated and in order, one name twice, in both families; a gateway; and no flag of the daemon's.
        let flags = ["--add-host", "a=10.0.0.1", "--add-host", "b:[fd00::1]", "--add-host", "a:10.0.0.2"];
        let flags =
            [&flags[..], &["--add-host", "gate:host-gateway", "-h", "foobar", "--domainname", "example.com"]].concat();
        let all = start(lab, &engine, "all", &flags);
        let own = own_address(&engine, "all");
        let hosts = file(&engine, "all", "/etc/hosts");
        let added =
            format!("10.0.0.1\ta\nfd00::1\tb\n10.0.0.2\ta\n172.17.0.1\tgate\n{own}\tfoobar.example.com foobar\n");
        assert!(hosts.ends_with(&added), "{hosts}");
        assert_eq!(file(&engine, "all", "/etc/hostname"), "foobar\n");
        all.answers("a", "NOERROR 10.0.0.2 10.0.0.1");
        all.answers("B AAAA", "NOERROR fd00::1");
        all.answers("b", "NOERROR");
        all.answers("gate", "NOERROR 172.17.0.1");
        // By each of its names, and back.
        let short = engine.ok(&["inspect", "-f", "{{.Id}}", "all"])[..12].to_owned();
        for name in ["foobar", "FooBar", "foobar.example.com", "all", &short] {
            all.answers(name, &format!("NOERROR {own}"));
            all.answers(&format!("{name} AAAA"), "NOERROR");
        }
        let reverse = |addr: &str| addr.split('.').rev().collect::<Vec<_>>().join(".") + ".in-addr.arpa PTR";
        all.answers(&reverse(&own), "NOERROR foobar.example.com");
        all.answers(&reverse("172.17.0.99"), "NXDOMAIN");
        all.answers("localhost", "NOERROR 127.0.0.1");
        assert_eq!(all.ask("foobar").ttl, Some(1));
        assert_eq!(server.asked(), [""; 0]);
        // S13: nobody else finds it by name, on the default bridge.
        let other = start(lab, &engine, "other", &[]);
        for name in ["foobar", "all", &short] {
            other.answers(name, "NXDOMAIN");
        }
        assert_eq!(server.asked(), [""; 0]);
        // Who joins it has its names and its files.
        let out = engine.ok(&["run", "--rm", "--net", "container:all", "busybox", "nslookup", "foobar"]);
        assert!(out.contains(&format!("Address: {own}\n")), "{out}");
        for path in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
            let joined = ["run", "--rm", "--net", "container:all", "busybox", "stat", "-c", "%d:%i", path];
            assert_eq!(engine.ok(&joined), engine.ok(&["exec", "all", "stat", "-c", "%d:%i", path]), "{path}");
        }
        // Renamed, it is found by its new name, and is still nobody else's business by its old one.
        engine.ok(&["rename", "all", "every"]);
        all.answers("every", &format!("NOERROR {own}"));
        all.answers("all", "NXDOMAIN");
        let out = engine.berth(&["daemon", "--add-host", "a:10.0.0.1"]);
        assert!(out.code == 125 && out.stderr.contains("unknown flag: --add-host"), "{out:?}");
        for (bad, text) in
            [("test:foo", "invalid IP address in add-host: \"foo\""), ("test", "bad format for add-host: \"test\"")]
        {
            refused(&engine, &["run", "--add-host", bad, "busybox"], 125, text);
        }
    })
}

#[test]
fn servers_searches_and_options_are_replaced_kind_by_kind() {
    lab::alone(|lab| {
        let table = "docker.com A 192.0.2.80; registry.hub.docker.com A 192.0.2.81";
        let flags = ["--dns", "192.0.2.54", "--dns-search", "dev.mycompany", "--dns-opt", "timeout:3"];
        let (engine, outside, hosts) = world(lab, &flags, table);
        let mine = "docker.com A 192.0.2.90; registry.hub.docker.com A 192.0.2.91";
        let services = "myservice.dev.mycompany A 192.0.2.92; myservice.test.mycompany A 192.0.2.93";
        let daemons = outside.serve_dns("192.0.2.54:53", &format!("{mine}; {services}"));
        let own = outside.serve_dns("192.0.2.55:53", "docker.com A 192.0.2.95");
        // S17, S20: all containers get the daemon's.
        says(&engine, &["busybox", "nslookup", "docker.com"], "Address: 192.0.2.90");
        says(&engine, &["busybox", "nslookup", "myservice"], "Address: 192.0.2.92");
        // S19: the same image, another answer.
        says(&engine, &["--dns-search", "test.mycompany", "busybox", "nslookup", "myservice"], "Address: 192.0.2.93");
        // S18: the name with the domain behind it is asked for in the end.
        // (This busybox's `nslookup` adds a domain only to names without a dot; a C library does so to all.)
        for words in [&["nslookup", "registry.hub"][..], &["ping", "-c", "1", "-W", "1", "registry.hub"]] {
            each(&engine, &[&["run", "--rm", "--dns-search", "docker.com", "busybox"], words].concat());
        }
        assert!(daemons.asked().contains(&"registry.hub A".to_owned()), "{:?}", daemons.asked());
        assert!(daemons.asked().contains(&"registry.hub.docker.com A".to_owned()), "{:?}", daemons.asked());
        // S14: the container's own replace them, and are asked from where it is: the host gives them its address.
        says(&engine, &["--dns", "192.0.2.55", "busybox", "nslookup", "docker.com"], "Address: 192.0.2.95");
        assert!(own.askers().iter().all(|peer| peer.ip().to_string() == "192.0.2.1"), "{:?}", own.askers());
        assert_eq!(hosts.asked(), [""; 0], "the host's own server has no say");
        let lines = |flags: &[&str]| {
            let out = engine.ok(&[&["run", "--rm"], flags, &["busybox", "cat", "/etc/resolv.conf"]].concat());
            let kept = |line: &&str| {
                ["nameserver", "search", "options", "# ExtServers", "# Overrides"]
                    .iter()
                    .any(|word| line.starts_with(word))
            };
            out.lines().filter(kept).collect::<Vec<_>>().join("|")
        };
        let overrides = "# Overrides: [nameservers search options]";
        assert_eq!(
            lines(&[]),
            format!(
                "nameserver 127.0.0.11|search dev.mycompany|options timeout:3 ndots:0|# ExtServers: [192.0.2.54]|{overrides}"
            )
        );
        // S15, S16, S20: order kept, and each kind by itself.
        assert_eq!(
            lines(&[
                "--dns",
                "192.0.2.55",
                "--dns",
                "192.0.2.54",
                "--dns-search",
                "a.example",
                "--dns-search",
                "b.example"
            ]),
            format!(
                "nameserver 127.0.0.11|search a.example b.example|options timeout:3 ndots:0|\
                 # ExtServers: [192.0.2.55 192.0.2.54]|{overrides}"
            )
        );
        assert_eq!(
            lines(&["--dns-search", ".", "--dns-option", "ndots:2"]),
            format!("nameserver 127.0.0.11|options ndots:2|# ExtServers: [192.0.2.54]|{overrides}")
        );
        for (flag, bad, text) in [
            ("--dns", "foo", "invalid argument \"foo\" for \"--dns\" flag: IP address is not correctly formatted: foo"),
            ("--dns-search", "-x-", "invalid argument \"-x-\" for \"--dns-search\" flag: -x- is not a valid domain"),
        ] {
            refused(&engine, &["run", flag, bad, "busybox"], 125, text);
        }
        // A closed container has nobody to ask, and an open one asks as the host does.
        assert!(lines(&["--net", "none"]).starts_with("nameserver 192.0.2.54|"));
        assert!(lines(&["--net", "host"]).starts_with("nameserver 192.0.2.54|search dev.mycompany|"));
        // Every server of a list can be the one that answers.
        let space = start(lab, &engine, "two", &["--dns", "192.0.2.99", "--dns", "192.0.2.55"]);
        space.answers("docker.com", "NOERROR 192.0.2.95");
    })
}

#[test]
fn the_hosts_name_servers_are_followed() {
    lab::alone(|lab| {
        // A file system of its own, so that files can be replaced as resolvconf and others do.
        let (etc, run) = (lab.dir().join("etc"), Path::new("/run/somewhere"));
        lab.here().ok(&["cp", "-a", "/etc", etc.to_str().unwrap()]);
        lab.here().ok(&["mount", "--bind", etc.to_str().unwrap(), "/etc"]);
        std::fs::create_dir(run).unwrap();
        let put = |path: &Path, text: &str| {
            let draft = path.with_extension("new");
            std::fs::write(&draft, text).unwrap();
            std::fs::rename(draft, path).unwrap();
        };
        let link = |target: &str| {
            std::os::unix::fs::symlink(target, "/etc/draft").unwrap();
            std::fs::rename("/etc/draft", "/etc/resolv.conf").unwrap();
        };
        lab.uplink("192.0.2.1/24");
        let outside = lab.host("outside", "192.0.2.53/24 192.0.2.54/24");
        let first = outside.serve_dns("192.0.2.53:53", "who.example A 192.0.2.153");
        let second = outside.serve_dns("192.0.2.54:53", "who.example A 192.0.2.154");
        put(&run.join("one"), "nameserver 192.0.2.53\nsearch one.example\n");
        link("/run/somewhere/one");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let bridged = start(lab, &engine, "bridged", &[]);
        engine.ok(&["run", "-d", "--name", "open", "--net", "host", "busybox", "sleep", "1000"]);
        start(lab, &engine, "own", &["--dns", "192.0.2.53", "--dns-search", "own.example"]);
        start(lab, &engine, "edited", &[]);
        engine.ok(&["exec", "edited", "sh", "-c", "echo '# mine' >> /etc/resolv.conf"]);
        let inode = || engine.ok(&["exec", "bridged", "stat", "-c", "%d:%i", "/etc/resolv.conf"]);
        let before = inode();
        let check = |what: &str, wanted: &str, domain: &str| {
            lab::wait_for(what, ATTENTIVE, || (bridged.ask("who.example").to_string() == wanted).then_some(()));
            lab::wait_for(what, ATTENTIVE, || {
                let both = [file(&engine, "bridged", "/etc/resolv.conf"), file(&engine, "open", "/etc/resolv.conf")];
                both.iter().all(|text| text.contains(&format!("\nsearch {domain}\n"))).then_some(())
            });
        };
        check("the beginning", "NOERROR 192.0.2.153", "one.example");
        put(&run.join("one"), "nameserver 192.0.2.54\nsearch two.example\n");
        let started = Instant::now();
        check("a replaced file", "NOERROR 192.0.2.154", "two.example");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        let text = file(&engine, "bridged", "/etc/resolv.conf");
        assert!(
            text.starts_with("# Generated")
                && text.contains("nameserver 127.0.0.11\n")
                && text.contains("host(192.0.2.54)")
        );
        assert!(file(&engine, "open", "/etc/resolv.conf").contains("nameserver 192.0.2.54\n"));
        std::fs::write(run.join("two"), "search three.example\nnameserver 192.0.2.53\noptions edns0").unwrap();
        link("../run/somewhere/two");
        check("another link", "NOERROR 192.0.2.153", "three.example");
        // In place, a shorter text.
        std::fs::write(run.join("two"), "nameserver 192.0.2.54\nsearch x\n").unwrap();
        check("a file that was written again", "NOERROR 192.0.2.154", "x");
        assert_eq!(inode(), before, "it is the same file still");
        assert!(!file(&engine, "bridged", "/etc/resolv.conf").contains("edns0"));
        // What somebody has edited is his, also after a restart; what he asked for stays asked for.
        assert!(file(&engine, "own", "/etc/resolv.conf").contains("search own.example\n"));
        engine.ok(&["restart", "-t", "0", "edited", "bridged"]);
        let edited = file(&engine, "edited", "/etc/resolv.conf");
        assert!(edited.contains("search one.example\n") && edited.ends_with("# mine\n"), "{edited}");
        assert!(file(&engine, "bridged", "/etc/resolv.conf").contains("search x\n"));
        // The hosts file is made anew at each start.
        engine.ok(&["exec", "bridged", "sh", "-c", "echo 1.2.3.4 mine >> /etc/hosts"]);
        engine.ok(&["restart", "-t", "0", "bridged"]);
        assert!(!file(&engine, "bridged", "/etc/hosts").contains("mine"));
        // Without any server of its own the host has nobody to ask.
        let asked = first.asked().len() + second.asked().len();
        std::fs::write(run.join("two"), "").unwrap();
        lab::wait_for("no server", ATTENTIVE, || {
            ask_patiently(&lab.container(&engine, "bridged"), "no.example")
                .ok()
                .filter(|reply| reply.rcode == "SERVFAIL")
        });
        assert_eq!(
            first.asked().len() + second.asked().len(),
            asked + usize::from(second.asked().contains(&"no.example A".into()))
        );
    })
}

/// As long as the resolver may think.
fn ask_patiently(from: &Host, what: &str) -> std::io::Result<Reply> {
    let server: SocketAddr = RESOLVER.parse().unwrap();
    from.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(8)))?;
        socket.send(&dns::question(what, 7, None))?;
        let mut buffer = [0; 1500];
        let count = socket.recv(&mut buffer)?;
        dns::reply(&buffer[..count], 7).ok_or_else(|| std::io::Error::other("no reply"))
    })
}

#[test]
fn port_53_stays_the_containers() {
    lab::alone(|lab| {
        let (engine, outside, _server) = world(lab, &[], "docker.com A 192.0.2.80");
        let space = start(lab, &engine, "own", &["-h", "barker", "-p", "53:53/udp", "-p", "53:53"]);
        let _own = space.serve_dns("0.0.0.0:53", "inner.example A 10.0.0.1");
        let tcp = Manner { tcp: true, edns: None };
        let addr = own_address(&engine, "own");
        for manner in [Manner::default(), tcp] {
            let says = |from: &Host, server: &str, what: &str| from.dns_as(server, what, manner).unwrap().to_string();
            assert_eq!(says(&space, "127.0.0.1:53", "inner.example"), "NOERROR 10.0.0.1");
            assert_eq!(says(&space, RESOLVER, "inner.example"), "NXDOMAIN");
            assert_eq!(says(&space, RESOLVER, "barker"), format!("NOERROR {addr}"));
            assert_eq!(says(&space, RESOLVER, "docker.com"), "NOERROR 192.0.2.80");
            assert_eq!(says(&lab.here(), &format!("{addr}:53"), "inner.example"), "NOERROR 10.0.0.1");
            assert_eq!(says(&outside, "192.0.2.1:53", "inner.example"), "NOERROR 10.0.0.1");
        }
        // A container that is asked by itself, and asks nobody else.
        let itself = start(lab, &engine, "itself", &["--dns", "127.0.0.1"]);
        let _of_itself = itself.serve_dns("127.0.0.1:53", "mine.example A 10.0.0.9");
        itself.answers("mine.example", "NOERROR 10.0.0.9");
        // In circles nobody goes.
        let circle = start(lab, &engine, "circle", &["--dns", "127.0.0.11"]);
        circle.answers("docker.com", "SERVFAIL");
    })
}

#[test]
fn answers_of_others_come_whole_and_are_kept() {
    lab::alone(|lab| {
        let table = "web.example A 192.0.2.80 50; web.example A 192.0.2.81 20; brief.example A 192.0.2.82 0; big.example TXT 3000; \
                     broken.example A !2; medium.example TXT 900; six.example AAAA 2001:db8::80";
        let (engine, outside, server) = world(lab, &[], table);
        let (one, two) = (start(lab, &engine, "one", &[]), start(lab, &engine, "two", &[]));
        let first = one.ask("Web.Example");
        assert_eq!((first.to_string().as_str(), first.name.as_str()), ("NOERROR 192.0.2.80 192.0.2.81", "Web.Example"));
        std::thread::sleep(Duration::from_millis(1100));
        // Another container, spelling it otherwise: nobody is asked again, and it has grown older.
        let again = two.ask("weB.exaMple");
        assert_eq!((again.data.len(), again.name.as_str()), (2, "weB.exaMple"));
        assert!(again.ttl.is_some_and(|ttl| (45..50).contains(&ttl)), "{again:?}");
        assert_eq!(server.asked(), ["Web.Example A"]);
        server.forget();
        // That there is nothing is kept too; what has no lifetime is not, and a failure neither.
        for what in ["web.example AAAA", "nosuch.example", "brief.example", "broken.example"] {
            let both = [one.ask(what).to_string(), two.ask(what).to_string()];
            assert_eq!(both[0], both[1], "{what}");
        }
        let times = |what: &str| server.asked().iter().filter(|asked| *asked == what).count();
        assert_eq!((times("web.example AAAA"), times("nosuch.example A")), (1, 1));
        assert_eq!((times("brief.example A"), times("broken.example A")), (2, 2));
        one.answers("nosuch.example", "NXDOMAIN");
        one.answers("broken.example", "SERVFAIL");
        // Too long for a datagram: by TCP to the server, and as much to the asker as it takes.
        assert_eq!(one.ask("big.example TXT").to_string(), "NOERROR truncated");
        let edns = |size| one.dns_as(RESOLVER, "big.example TXT", Manner { tcp: false, edns: Some(size) }).unwrap();
        assert_eq!(edns(1232).to_string(), "NOERROR truncated");
        let whole = edns(4096);
        assert_eq!((whole.data, whole.edns), (vec!["3012 bytes".to_owned()], Some(1232)));
        let tcp = one.dns_as(RESOLVER, "big.example TXT", Manner { tcp: true, edns: None }).unwrap();
        assert_eq!(tcp.data, ["3012 bytes"]);
        let medium =
            |edns| one.dns_as(RESOLVER, "medium.example TXT", Manner { tcp: false, edns }).unwrap().to_string();
        assert_eq!((medium(None).as_str(), medium(Some(1232)).as_str()), ("NOERROR truncated", "NOERROR 904 bytes"));
        one.answers("six.example AAAA", "NOERROR 2001:db8::80");
        // Many at once over one connection, and a client that says no more but waits.
        one.enter(|| {
            let mut stream = TcpStream::connect(RESOLVER).unwrap();
            let names = ["web.example", "nosuch.example", "one", "fresh.example"];
            for (id, name) in names.iter().enumerate() {
                let question = dns::question(name, id as u16, None);
                stream.write_all(&[&(question.len() as u16).to_be_bytes()[..], &question].concat()).unwrap();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut all = Vec::new();
            stream.set_read_timeout(Some(ATTENTIVE)).unwrap();
            stream.read_to_end(&mut all).unwrap();
            let mut answered = 0;
            let mut rest = &all[..];
            while let Some((len, more)) = rest.split_first_chunk::<2>() {
                rest = &more[usize::from(u16::from_be_bytes(*len))..];
                answered += 1;
            }
            assert_eq!(answered, names.len());
        });
        // When nobody answers any more, an old answer is better than none.
        server.set("old.example A 192.0.2.83 1");
        one.answers("old.example", "NOERROR 192.0.2.83");
        drop(server);
        std::thread::sleep(Duration::from_millis(1100));
        let old = ask_patiently(&one, "old.example").unwrap();
        assert_eq!((old.to_string().as_str(), old.ttl), ("NOERROR 192.0.2.83", Some(30)));
        assert_eq!(ask_patiently(&one, "never.example").unwrap().to_string(), "SERVFAIL");
        // It is asked again when it is there again.
        let _server = outside.serve_dns("192.0.2.53:53", "new.example A 192.0.2.84");
        lab::wait_for("the server's return", ATTENTIVE, || {
            (ask_patiently(&one, "new.example").unwrap().to_string() == "NOERROR 192.0.2.84").then_some(())
        });
    })
}

#[test]
fn names_of_containers_never_leak() {
    lab::alone(|lab| {
        let (engine, _, server) = world(lab, &[], "com A 192.0.2.1");
        let asker = start(lab, &engine, "asker", &["--dns-search", "corp.example"]);
        start(lab, &engine, "runs", &["-h", "called"]);
        engine.ok(&["create", "--name", "created", "busybox"]);
        start(lab, &engine, "stopped", &[]);
        engine.ok(&["stop", "-t", "0", "stopped"]);
        start(lab, &engine, "removed", &[]);
        engine.ok(&["rm", "-f", "removed"]);
        start(lab, &engine, "before", &[]);
        engine.ok(&["rename", "before", "after"]);
        let short = engine.ok(&["inspect", "-f", "{{.Id}}", "runs"])[..12].to_owned();
        let names = ["runs", "RUNS", "called", "created", "stopped", "removed", "before", "after", &short];
        for name in names {
            for kind in ["A", "AAAA", "TXT", "HTTPS"] {
                asker.answers(&format!("{name} {kind}"), "NXDOMAIN");
            }
        }
        assert_eq!(server.asked(), [""; 0]);
        // All of it once more after a restart of the engine, but for what it had only in mind.
        engine.kill9();
        engine.start_again();
        for name in names.iter().filter(|name| !["removed", "before"].contains(name)) {
            lab::wait_for("the resolver", ATTENTIVE, || {
                asker.dns(RESOLVER, name).ok().filter(|r| r.rcode == "NXDOMAIN")
            });
        }
        assert_eq!(server.asked(), [""; 0]);
        // Others' names are asked for, also single ones, unless the user says that there must be dots.
        asker.answers("com", "NOERROR 192.0.2.1");
        asker.answers("runs.corp.example", "NXDOMAIN");
        assert_eq!(server.asked(), ["com A", "runs.corp.example A"]);
        let dotted = start(lab, &engine, "dotted", &["--dns-opt", "ndots:1"]);
        dotted.answers("com", "NXDOMAIN");
        assert_eq!(server.asked().len(), 2);
    })
}

/// Names are numbered through, so that none is asked for twice.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Asks name after name for so long; how long each answer took, and what it was.
fn ask_on(from: &Host, time: Duration) -> Vec<(Duration, Result<Reply, ErrorKind>)> {
    let started = Instant::now();
    let mut took = Vec::new();
    while started.elapsed() < time {
        let asked = Instant::now();
        let nth = ASKED.fetch_add(1, Ordering::Relaxed);
        let reply = from.dns(RESOLVER, &format!("n{nth}.example")).map_err(|err| err.kind());
        took.push((asked.elapsed(), reply));
        std::thread::sleep(Duration::from_millis(3));
    }
    took
}

#[test]
fn a_server_that_dies_under_load_costs_less_than_a_tenth_of_a_second() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let outside = lab.host("outside", "192.0.2.53/24 192.0.2.54/24");
        lab.resolv_conf("nameserver 192.0.2.53\nnameserver 192.0.2.54\n");
        // Neither has such names: nothing is the harder case, for it is not believed of the second at once.
        let mut first = Some(outside.serve_dns("192.0.2.53:53", ""));
        let second = outside.serve_dns("192.0.2.54:53", "");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let space = start(lab, &engine, "one", &[]);
        // Dead by being gone, and by being silent. The machine that tests may be busy, so the best of some rounds counts.
        for silent in [false, true] {
            let mut best = Duration::MAX;
            for _ in 0..4 {
                let server = first.take().unwrap_or_else(|| outside.serve_dns("192.0.2.53:53", ""));
                lab::wait_for("the first server's turn", Duration::from_secs(20), || {
                    server.forget();
                    ask_on(&space, Duration::from_millis(100));
                    (server.asked().len() > 5).then_some(())
                });
                second.forget();
                let asking = std::thread::scope(|scope| {
                    let asking = scope.spawn(|| ask_on(&space, Duration::from_millis(900)));
                    std::thread::sleep(Duration::from_millis(300));
                    if silent {
                        server.be_silent(true)
                    } else {
                        drop(server)
                    }
                    asking.join().unwrap()
                });
                for (nth, (_, reply)) in asking.iter().enumerate() {
                    assert_eq!(reply.as_ref().map(Reply::to_string), Ok("NXDOMAIN".to_owned()), "question {nth}");
                }
                assert!(second.asked().len() > 20, "the second was asked only {} questions", second.asked().len());
                best = best.min(asking.iter().map(|(took, _)| *took).max().unwrap());
                if best < Duration::from_millis(100) {
                    break;
                }
            }
            assert!(best < Duration::from_millis(100), "an answer took {best:?}");
        }
        let log = engine.log();
        assert!(log.contains("a name server does not answer") && log.contains("a name server answers again"), "{log}");
    })
}

#[test]
fn the_first_servers_word_counts_for_more_and_failures_go_on_to_the_next() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let outside = lab.host("outside", "192.0.2.53/24 192.0.2.54/24");
        lab.resolv_conf("nameserver 192.0.2.53\nnameserver 192.0.2.54\n");
        let company =
            outside.serve_dns("192.0.2.53:53", "intra.example A 10.9.9.9; later.example A 10.9.9.8; bad.example A !2");
        let _public = outside.serve_dns("192.0.2.54:53", "bad.example A 192.0.2.80");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let space = start(lab, &engine, "one", &[]);
        space.answers("intra.example", "NOERROR 10.9.9.9");
        space.answers("bad.example", "NOERROR 192.0.2.80");
        // Slower than the other, which knows nothing of the name and says so.
        company.think_for(Duration::from_millis(55));
        space.answers("later.example", "NOERROR 10.9.9.8");
    })
}

#[test]
fn names_outlive_the_engine() {
    lab::alone(|lab| {
        let (engine, _, _server) = world(lab, &[], "docker.com A 192.0.2.80");
        let before = residue::listing(&engine);
        let space = start(lab, &engine, "web", &["-h", "barker", "--add-host", "test:10.10.10.255"]);
        engine.ok(&["run", "-d", "--name", "joined", "--net", "container:web", "busybox", "sleep", "1000"]);
        let own = own_address(&engine, "web");
        let check = || {
            lab::wait_for("an answer", ATTENTIVE, || space.dns(RESOLVER, "barker").ok());
            space.answers("barker", &format!("NOERROR {own}"));
            space.answers("test", "NOERROR 10.10.10.255");
            space.answers("docker.com", "NOERROR 192.0.2.80");
            let tcp = space.dns_as(RESOLVER, "barker", Manner { tcp: true, edns: None }).unwrap();
            assert_eq!(tcp.to_string(), format!("NOERROR {own}"));
        };
        check();
        // With connections that the old engine leaves behind.
        let _left = space.connect(RESOLVER).unwrap();
        engine.kill9();
        engine.start_again();
        check();
        engine.ok(&["restart", "-t", "0", "web"]);
        check();
        // A stranger's hand in the container's own firewall is mended too.
        space.ok(&["nft", "flush", "ruleset"]);
        assert!(space.dns(RESOLVER, "barker").is_err());
        lab::wait_for("the repair", Duration::from_secs(15), || space.dns(RESOLVER, "barker").ok());
        check();
        let out = engine.ok(&["run", "--rm", "--net", "container:web", "busybox", "nslookup", "barker"]);
        assert!(out.contains(&own), "{out}");
        drop((space, _left));
        engine.ok(&["rm", "-f", "web", "joined"]);
        residue::assert_same(&engine, &before);
    })
}

#[test]
fn no_container_keeps_the_resolver_from_the_others() {
    lab::alone(|lab| {
        let (engine, _, server) = world(lab, &[], "docker.com A 192.0.2.80");
        let (bad, good) = (start(lab, &engine, "bad", &[]), start(lab, &engine, "good", &[]));
        let resolver: SocketAddr = RESOLVER.parse().unwrap();
        // Bytes that look random and are the same in every run (xorshift; Marsaglia 2003).
        let mut seed = 0x5eed_u64;
        let mut byte = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        bad.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let good = dns::question("bad.example", 9, Some(1232));
            for n in 0..20_000usize {
                let mut packet = good.clone();
                if n % 3 == 0 {
                    packet = (0..n % 97).map(|_| byte()).collect();
                } else {
                    for _ in 0..n % 5 {
                        let at = usize::from(byte()) % packet.len();
                        packet[at] = byte();
                    }
                }
                // A full buffer of the resolver's is no failure.
                let _ = socket.send_to(&packet, resolver);
            }
        });
        good.answers("good", &format!("NOERROR {}", own_address(&engine, "good")));
        // Connections that say nothing, half a length, half a question, or too much; more than one container may have.
        let open: Vec<TcpStream> = bad.enter(|| {
            let parts: [&[u8]; 5] = [b"", b"\0", b"\0\x30\x12", &[0xff; 70_000], b"\0\0\0\0\0\0"];
            let connect = |n: usize| {
                let mut stream = TcpStream::connect(resolver).ok()?;
                stream.set_nonblocking(true).ok()?;
                // The resolver may have closed it by now.
                let _ = stream.write(parts[n % parts.len()]);
                Some(stream)
            };
            (0..100).filter_map(connect).collect()
        });
        let tcp = Manner { tcp: true, edns: None };
        assert_eq!(good.dns_as(RESOLVER, "docker.com", tcp).unwrap().to_string(), "NOERROR 192.0.2.80");
        drop(open);
        lab::wait_for("room for connections again", ATTENTIVE, || bad.dns_as(RESOLVER, "docker.com", tcp).ok());
        // More questions than one container may have on their way.
        server.be_silent(true);
        let refused = bad.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            let (mut refused, mut buffer) = (0, [0; 512]);
            for n in 0..600u16 {
                socket.send_to(&dns::question(&format!("flood{n}.example"), n, None), resolver).unwrap();
                while n % 20 == 19
                    && let Ok(count) = socket.recv(&mut buffer)
                {
                    let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                    refused +=
                        usize::from(dns::reply(&buffer[..count], id).is_some_and(|reply| reply.rcode == "REFUSED"));
                }
            }
            refused
        });
        // 256 may be on their way.
        assert!((250..=344).contains(&refused), "{refused} of 600 questions were refused");
        server.be_silent(false);
        lab::wait_for("the other container's answer", ATTENTIVE, || {
            good.dns(RESOLVER, "fresh.example").ok().filter(|reply| reply.rcode == "NXDOMAIN")
        });
    })
}

#[test]
fn both_families() {
    lab::alone(|lab| {
        let (engine, outside, server) =
            world(lab, &["--ipv6", "--fixed-cidr-v6", "fd17::/64"], "docker.com AAAA 2001:db8::80");
        drop(server);
        let server = outside.serve_dns("[2001:db8::53]:53", "docker.com AAAA 2001:db8::80");
        lab.resolv_conf("nameserver 2001:db8::53\n");
        let space = start(lab, &engine, "web", &["-h", "barker", "--add-host", "test:fd00::9"]);
        let own = engine.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.GlobalIPv6Address}}", "web"]);
        space.answers("barker AAAA", &format!("NOERROR {}", own.trim()));
        space.answers("barker A", &format!("NOERROR {}", own_address(&engine, "web")));
        space.answers("test AAAA", "NOERROR fd00::9");
        space.answers("test A", "NOERROR");
        lab::wait_for("the host's server", ATTENTIVE, || space.dns(RESOLVER, "docker.com AAAA").ok());
        space.answers("docker.com AAAA", "NOERROR 2001:db8::80");
        let hosts = file(&engine, "web", "/etc/hosts");
        let lines = format!("fd00::9\ttest\n{}\tbarker\n{}\tbarker\n", own_address(&engine, "web"), own.trim());
        assert!(hosts.ends_with(&lines), "{hosts}");
        let bits: u128 = own.trim().parse::<std::net::Ipv6Addr>().unwrap().into();
        let reverse: String = (0..32).map(|nth| format!("{:x}.", bits >> (4 * nth) & 15)).collect();
        space.answers(&format!("{reverse}ip6.arpa PTR"), "NOERROR barker");
        // By its own servers too, from where it is.
        let own = start(lab, &engine, "own", &["--dns", "2001:db8::53"]);
        own.answers("docker.com AAAA", "NOERROR 2001:db8::80");
        assert!(server.askers().iter().any(|peer| peer.ip().to_string() == "2001:db8::1"), "{:?}", server.askers());
    })
}

#[test]
fn a_link_is_found_by_name() {
    lab::alone(|lab| {
        let (engine, _, server) = world(lab, &[], "");
        start(lab, &engine, "importantData", &["-h", "mydb"]);
        let source = start(lab, &engine, "web", &["--link", "importantData:db"]);
        let target = own_address(&engine, "importantData");
        for name in ["db", "mydb", "importantData"] {
            source.answers(name, &format!("NOERROR {target}"));
        }
        says(&engine, &["--link", "importantData:db", "busybox", "nslookup", "db"], &format!("Address: {target}"));
        let other = start(lab, &engine, "other", &[]);
        other.answers("db", "NXDOMAIN");
        engine.ok(&["stop", "-t", "0", "importantData"]);
        source.answers("db", "NXDOMAIN");
        engine.ok(&["start", "importantData"]);
        source.answers("db", &format!("NOERROR {}", own_address(&engine, "importantData")));
        assert_eq!(server.asked(), [""; 0]);
    })
}

#[test]
fn members_of_a_network_find_each_other() {
    lab::alone(|lab| {
        let (engine, _, server) = world(lab, &[], "docker.com A 192.0.2.80");
        engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
        engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
        engine.ok(&["network", "create", "--subnet", "10.3.0.0/24", "--internal", "vault"]);
        let db = start(
            lab,
            &engine,
            "db",
            &["--net", "app", "--network-alias", "store", "-h", "called", "--ip", "10.1.0.10"],
        );
        let two = start(lab, &engine, "two", &["--net", "app", "--network-alias", "store", "--ip", "10.1.0.11"]);
        let far = start(lab, &engine, "far", &["--net", "back", "--ip", "10.2.0.10"]);
        let short = engine.ok(&["inspect", "-f", "{{.Id}}", "db"])[..12].to_owned();
        for from in [&db, &two] {
            for name in ["db", "DB", "called", &short, "db.app", "called.app"] {
                from.answers(name, "NOERROR 10.1.0.10");
            }
            from.answers("db AAAA", "NOERROR");
            from.answers("db MX", "NOERROR");
            from.answers("10.0.1.10.in-addr.arpa PTR", "NOERROR db.app");
            from.answers("99.0.1.10.in-addr.arpa PTR", "NXDOMAIN");
            from.answers("far", "NXDOMAIN");
        }
        says(&engine, &["--net", "app", "busybox", "nslookup", "db"], "Address: 10.1.0.10");
        // All that have a name, one after the other first.
        let order: Vec<String> = (0..4).map(|_| two.ask("store").to_string()).collect();
        for first in ["NOERROR 10.1.0.10 10.1.0.11", "NOERROR 10.1.0.11 10.1.0.10"] {
            assert!(order.iter().any(|answer| answer == first), "{order:?}");
        }
        far.answers("db", "NXDOMAIN");
        two.answers("docker.com", "NOERROR 192.0.2.80");
        // At once, and only as long as it is there; what its file of names held besides stays.
        let edit = ["exec", "far", "sh", "-c", "echo '1.2.3.4 mine' >> /etc/hosts"];
        engine.ok(&edit);
        let before = file(&engine, "far", "/etc/hosts");
        engine.ok(&["network", "connect", "--ip", "10.1.0.12", "--alias", "late", "app", "far"]);
        far.answers("db", "NOERROR 10.1.0.10");
        for name in ["far", "late", "far.app"] {
            two.answers(name, "NOERROR 10.1.0.12");
        }
        let own = engine.ok(&["exec", "far", "hostname"]).trim().to_owned();
        assert_eq!(file(&engine, "far", "/etc/hosts"), format!("{before}10.1.0.12\t{own}\n"));
        engine.ok(&["network", "disconnect", "app", "far"]);
        far.answers("db", "NXDOMAIN");
        two.answers("far", "NXDOMAIN");
        two.answers("late", "NXDOMAIN");
        far.answers("far", "NOERROR 10.2.0.10");
        assert_eq!(file(&engine, "far", "/etc/hosts"), before);
        engine.ok(&["rename", "db", "data"]);
        two.answers("data", "NOERROR 10.1.0.10");
        two.answers("db", "NXDOMAIN");
        two.answers("10.0.1.10.in-addr.arpa PTR", "NOERROR data.app");
        engine.ok(&["stop", "-t", "0", "two"]);
        db.answers("store", "NOERROR 10.1.0.10");
        assert_eq!(server.asked(), ["docker.com A"]);
        // The same after the engine was away.
        engine.kill9();
        engine.start_again();
        lab::wait_for("the resolver", ATTENTIVE, || db.dns(RESOLVER, "data").ok());
        engine.ok(&["start", "two"]);
        let two = lab.container(&engine, "two");
        two.answers("data", "NOERROR 10.1.0.10");
        two.answers("store.app", "NOERROR 10.1.0.10 10.1.0.11");
        // Who has no way out has nobody outside to ask, but names all the same.
        let closed = start(lab, &engine, "closed", &["--net", "vault"]);
        closed.answers("closed.vault", "NOERROR 10.3.0.2");
        server.forget();
        closed.answers("docker.com", "SERVFAIL");
        assert_eq!(server.asked(), [""; 0]);
    })
}
