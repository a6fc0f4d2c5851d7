//! What users know of links: what a source is told and whom it reaches (rows A11; S51–S68).

use crate::asking::{addr4, addr6, all, hosts, reached, world};
use lab::{Engine, Host};
use std::collections::BTreeMap;

/// The program of the book's image `ch5_ff`.
const FF: &str = r#"#!/bin/sh

if [ -z ${DATABASE_PORT+x} ]
then
    echo "Link alias 'database' was not set!"
    exit
else
    exec "$@"
fi
"#;

/// Variables by name, of the output of `env`.
fn variables(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The image `ch5_ff`.
fn ff(engine: &Engine) {
    let made = engine
        .berth_fed(&["run", "-i", "--name", "ff", "busybox", "sh", "-c", "cat > /ff; chmod +x /ff"], FF.as_bytes());
    assert!(made.code == 0, "{made:?}");
    engine.ok(&["commit", "-c", "ENTRYPOINT [\"/ff\"]", "ff", "dockerinaction/ch5_ff"]);
    engine.ok(&["rm", "ff"]);
}

/// S51–S53, S55, S57, S59–S66.
#[test]
fn a_link_tells_its_source_where_the_target_is() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        ff(&engine);
        let serve = "while true; do echo mysql | nc -l -p 3306; done";
        for by in all() {
            by.ok(&engine, &["run", "-d", "--name", "importantData", "--expose", "3306", "busybox", "sh", "-c", serve]);
            by.ok(
                &engine,
                &["run", "-d", "--name", "importantWebapp", "--link", "importantData:db", "busybox", "sleep", "99"],
            );
            by.ok(&engine, &["run", "-d", "--name", "buggyProgram", "busybox", "sleep", "99"]);
            let addr = addr4(&engine, "importantData");
            let id = engine.told("{{.Config.Hostname}}", "importantData");
            assert_eq!(by.ok(&engine, &["exec", "importantWebapp", "nc", "db", "3306"]), "mysql\n");
            assert_eq!(hosts(&engine, "importantWebapp", "db"), [format!("{addr} db {id} importantData")]);
            let env = variables(&by.ok(&engine, &["exec", "importantWebapp", "env"]));
            assert_eq!(env["DB_PORT_3306_TCP_ADDR"], addr);
            assert_eq!(env["DB_NAME"], "/importantWebapp/db");
            // Who has no link has no name for it, but gets there all the same as long as nobody forbids it.
            assert_eq!(hosts(&engine, "buggyProgram", "db"), [""; 0]);
            assert_eq!(by.ok(&engine, &["exec", "buggyProgram", "nc", &addr, "3306"]), "mysql\n");
            // The target knows nothing of it.
            let target = variables(&by.ok(&engine, &["exec", "importantData", "env"]));
            assert!(!target.keys().any(|name| name.starts_with("DB_")), "{target:?}");
            assert!(!by.ok(&engine, &["exec", "importantData", "cat", "/etc/hosts"]).contains("importantWebapp"));
            engine.ok(&["rm", "-f", "importantWebapp", "importantData", "buggyProgram"]);

            by.ok(&engine, &["run", "-d", "--name", "mydb", "--expose", "3306", "busybox", "sleep", "99"]);
            let run = |link: &[&str], words: &[&str]| {
                let words = [&["run", "--rm"], link, &["dockerinaction/ch5_ff"], words].concat();
                let out = by.run(&engine, &words);
                (out.code, out.stdout)
            };
            let not_set = "Link alias 'database' was not set!";
            for (link, words, says) in [
                (&[][..], &["echo", "This", "shouldn't", "work."][..], not_set),
                (&["--link", "mydb:wrongalias"], &["echo", "Wrong."], not_set),
                (&["--link", "mydb:database"], &["echo", "It", "worked."], "It worked."),
            ] {
                assert_eq!(run(link, words), (0, format!("{says}\n")));
                // On a terminal, as the text has it.
                assert_eq!(run(&[&["-t"], link].concat(), words), (0, format!("{says}\r\n")));
            }
            assert_eq!(by.ok(&engine, &["stop", "-t", "0", "mydb"]), "mydb\n");
            assert_eq!(by.ok(&engine, &["rm", "mydb"]), "mydb\n");

            let ports = ["--expose", "2222", "--expose", "3333", "--expose", "4444/udp"];
            by.ok(&engine, &[&["run", "-d", "--name", "mydb"][..], &ports, &["busybox", "sleep", "99"]].concat());
            let addr = addr4(&engine, "mydb");
            let words =
                ["run", "-t", "--name", "reverent_snyder", "--link", "mydb:database", "dockerinaction/ch5_ff", "env"];
            let text = by.ok(&engine, &words);
            let env = variables(&text);
            let mut want = BTreeMap::from([
                ("DATABASE_PORT".to_owned(), format!("tcp://{addr}:2222")),
                ("DATABASE_NAME".to_owned(), "/reverent_snyder/database".to_owned()),
            ]);
            for (port, proto) in [(2222, "tcp"), (3333, "tcp"), (4444, "udp")] {
                let name = format!("DATABASE_PORT_{port}_{}", proto.to_uppercase());
                want.insert(format!("{name}_ADDR"), addr.clone());
                want.insert(format!("{name}_PORT"), port.to_string());
                want.insert(format!("{name}_PROTO"), proto.to_owned());
                want.insert(name, format!("{proto}://{addr}:{port}"));
            }
            assert_eq!(want.len(), 14);
            let (database, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
                env.into_iter().partition(|(name, _)| name.starts_with("DATABASE_"));
            assert_eq!(database, want);
            assert_eq!(rest["HOSTNAME"], engine.told("{{slice .Id 0 12}}", "reverent_snyder"));
            assert_eq!((rest["TERM"].as_str(), rest["HOME"].as_str()), ("xterm", "/root"));
            let others: Vec<&str> = rest.keys().map(String::as_str).collect();
            assert_eq!(others, ["HOME", "HOSTNAME", "PATH", "PWD", "SHLVL", "TERM"]);
            let filtered: Vec<&str> =
                text.lines().map(str::trim_end).filter(|line| line.contains("TCP_PORT")).collect();
            assert_eq!(filtered.len(), 2, "{filtered:?}");
            assert!(filtered.contains(&"DATABASE_PORT_3333_TCP_PORT=3333"), "{filtered:?}");
            engine.ok(&["rm", "-f", "mydb", "reverent_snyder"]);

            // Three of them.
            for name in ["aa", "bb", "cc"] {
                by.ok(&engine, &["run", "-d", "--name", name, "--expose", "80", "busybox", "sleep", "99"]);
            }
            let links = ["--link", "aa:alias-aa", "--link", "bb:alias-bb", "--link", "cc:alias-cc"];
            let words = [&["run", "--rm"], &links[..], &["busybox", "sh", "-c", "cat /etc/hosts; env"]].concat();
            let text = by.ok(&engine, &words);
            let env = variables(&text);
            for name in ["aa", "bb", "cc"] {
                let addr = addr4(&engine, name);
                assert!(text.contains(&format!("{addr}\talias-{name} ")), "{text}");
                assert_eq!(env[&format!("ALIAS_{}_PORT", name.to_uppercase())], format!("tcp://{addr}:80"));
            }
            engine.ok(&["rm", "-f", "aa", "bb", "cc"]);
        }
    });
}

/// A11.2, A11.8, A11.10–A11.13.
#[test]
fn variables_of_targets_and_their_owners() {
    lab::alone(|lab| {
        let engine = world(lab, &["--ipv6"]);
        let given = ["-e", "MYSQL_ROOT_PASSWORD=secret", "-e", "HOME=/x", "--expose", "6379-6381"];
        engine.sleeper("my-data.base", &given);
        let id = engine.told("{{.Id}}", "my-data.base");
        engine.sleeper("bare", &[]);
        engine.ok(&["commit", "-c", "EXPOSE 7000", "-c", "ENV FROM_IMAGE=1", "bare", "with-port"]);
        engine.ok(&["run", "-d", "--name", "ports", "-p", "127.0.0.1::8000/udp", "with-port", "sleep", "1000"]);
        for by in all() {
            let env = |flags: &[&str]| {
                let words = [&["run", "--rm", "--name", "src"], flags, &["busybox", "env"]].concat();
                variables(&by.ok(&engine, &words))
            };
            // The short form; and what the target was given but its places.
            let all = env(&["--link", "my-data.base"]);
            let addr = addr4(&engine, "my-data.base");
            assert_eq!(all["MY_DATA.BASE_PORT"], format!("tcp://{addr}:6379"));
            assert_eq!(all["MY_DATA.BASE_PORT_6379_TCP_START"], format!("tcp://{addr}:6379"));
            assert_eq!(all["MY_DATA.BASE_PORT_6379_TCP_PORT_END"], "6381");
            assert_eq!(all["MY_DATA.BASE_ENV_MYSQL_ROOT_PASSWORD"], "secret");
            assert!(!all.contains_key("MY_DATA.BASE_ENV_HOME") && !all.contains_key("MY_DATA.BASE_ENV_PATH"));
            // The user's own variable wins; an id serves as a name.
            let own = env(&["--link", &format!("{}:db", &id[..12]), "-e", "DB_PORT=mine"]);
            assert_eq!((own["DB_PORT"].as_str(), own["DB_NAME"].as_str()), ("mine", "/src/db"));
            // What the image exposes and what is published; TCP before UDP.
            let ports = env(&["--link", "ports:p"]);
            let addr = addr4(&engine, "ports");
            assert_eq!(
                (&ports["P_PORT"], &ports["P_PORT_7000_TCP"]),
                (&format!("tcp://{addr}:7000"), &ports["P_PORT"])
            );
            assert_eq!((ports["P_PORT_8000_UDP_PORT"].as_str(), ports["P_ENV_FROM_IMAGE"].as_str()), ("8000", "1"));
            // Without a port only the name.
            let bare = env(&["--link", "bare"]);
            let of_it: Vec<_> = bare.iter().filter(|(name, _)| name.starts_with("BARE_")).collect();
            assert_eq!(of_it, [(&"BARE_NAME".to_owned(), &"/src/bare".to_owned())]);
        }
        // One line of names for each family, the shorter where alias and name are one.
        engine.sleeper("two", &["--link", "my-data.base", "--add-host", "db:10.9.9.9", "--link", "my-data.base:db"]);
        let (four, six, host) = (addr4(&engine, "my-data.base"), addr6(&engine, "my-data.base"), &id[..12]);
        assert_eq!(
            hosts(&engine, "two", "db"),
            [
                "10.9.9.9 db".to_owned(),
                format!("{four} db {host} my-data.base"),
                format!("{six} db {host} my-data.base"),
            ]
        );
        let text = engine.ok(&["exec", "two", "cat", "/etc/hosts"]);
        let lines: Vec<&str> = text.lines().skip(6).collect();
        assert_eq!(
            lines,
            [
                "10.9.9.9\tdb".to_owned(),
                format!("{four}\tmy-data.base {host}"),
                format!("{six}\tmy-data.base {host}"),
                format!("{four}\tdb {host} my-data.base"),
                format!("{six}\tdb {host} my-data.base"),
                format!("{}\t{}", addr4(&engine, "two"), engine.told("{{.Config.Hostname}}", "two")),
                format!("{}\t{}", addr6(&engine, "two"), engine.told("{{.Config.Hostname}}", "two")),
            ]
        );
        engine.ok(&["rm", "-f", "two"]);
        // The engine can be told to keep secrets, or to say nothing.
        for (told, secret, ports) in [("ports", false, true), ("off", false, false)] {
            engine.stop();
            let other = lab.engine(&["--link-env", told]);
            other.load_busybox();
            other.sleeper("db", &["-e", "PASSWORD=secret", "--expose", "80"]);
            let env = variables(&other.ok(&["run", "--rm", "--link", "db", "busybox", "env"]));
            assert_eq!((env.contains_key("DB_ENV_PASSWORD"), env.contains_key("DB_PORT")), (secret, ports), "{told}");
            other.ok(&["rm", "-f", "db"]);
            other.stop();
            engine.start_again();
        }
    });
}

/// A11.15–A11.20 and A11.22's refusals.
#[test]
fn what_cannot_be_linked_is_refused() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        engine.sleeper("aa", &[]);
        engine.sleeper("open", &["--net", "host"]);
        engine.sleeper("closed", &["--net", "none"]);
        engine.sleeper("beside", &["--net", "container:open"]);
        engine.ok(&["create", "--name", "idle", "busybox"]);
        let closed = engine.told("{{.Id}}", "closed");
        let host = "conflicting options: host type networking can't be used with links. This would result in undefined behavior";
        let flag = "invalid argument \"aa:b:c\" for \"--link\" flag: bad format for links: aa:b:c";
        let create = |flags: &[&str], says: &str| {
            for by in all() {
                let out = by.run(&engine, &[&["run", "--name", "src"], flags, &["busybox", "true"]].concat());
                assert!(out.code == 125 && out.stderr.contains(says), "{flags:?}: wanted {says:?}, got {out:?}");
                // Of a start that failed the container is left, of a wrong request nothing.
                let left = engine.ok(&["ps", "-aq", "--filter", "name=^src$", "--filter", "status=created"]);
                if !left.is_empty() {
                    engine.ok(&["rm", "src"]);
                }
                let should = ["non running", "not attached", "not belong"].iter().any(|words| says.contains(words));
                assert_eq!(!left.is_empty(), should, "{flags:?}");
            }
        };
        create(&["--link", "nobody:x"], "could not get container for nobody: No such container: nobody");
        create(
            &["--link", "idle:x"],
            "Error response from daemon: Cannot link to a non running container: /idle AS /src/x",
        );
        create(&["--link", "open:x"], host);
        create(&["--link", "beside:x"], host);
        create(&["--net", "host", "--link", "aa:x"], host);
        create(&["--link", "closed:x"], &format!("container {closed} not attached to default bridge network"));
        create(&["--link", "closed:x"], "Cannot link to /closed, as it does not belong to the default network");
        create(&["--link", "aa:b:c"], flag);
        create(&["--link", ""], "empty string specified for links");
        create(&["--link", "aa:"], "bad format for links: aa:");
        create(&["--link", "aa:x y"], "an alias has letters, digits, `_`, `.` and `-`");
        let (status, body) =
            engine.http("POST", "/containers/create", r#"{"Image":"busybox","HostConfig":{"Links":["x:y"]}}"#);
        assert_eq!(
            (status, body.trim()),
            (400, "{\"message\":\"could not get container for x: No such container: x\"}")
        );
        let (status, body) = engine.http(
            "POST",
            "/containers/create",
            r#"{"Image":"busybox","HostConfig":{"Links":["aa:b","aa:c:d"]}}"#,
        );
        assert_eq!((status, body.trim()), (400, "{\"message\":\"bad format for links: aa:c:d\"}"));
        for by in all() {
            for (words, says) in [
                (["rm", "--link", "aa"], "Conflict, cannot remove the default link name of the container"),
                (["rm", "--link", "nobody"], "No such container: nobody"),
                (["rm", "--link", "aa/x"], "No such container: aa/x"),
                (["rm", "--link", "nobody/x"], "Cannot get parent /nobody for link name /nobody/x"),
            ] {
                let out = by.run(&engine, &words);
                assert!(out.code == 1 && out.stderr.contains(says), "{words:?}: {out:?}");
            }
        }
        // Made while the target runs, started after it has ended; and the other way round.
        engine.sleeper("later", &[]);
        engine.ok(&["create", "--name", "src", "--link", "later:db", "busybox", "sleep", "1000"]);
        engine.ok(&["stop", "-t", "0", "later"]);
        let out = engine.berth(&["start", "src"]);
        assert!(
            out.code == 1 && out.stderr.contains("Cannot link to a non running container: /later AS /src/db"),
            "{out:?}"
        );
        engine.ok(&["start", "later"]);
        engine.ok(&["start", "src"]);
        assert_eq!(hosts(&engine, "src", "db").len(), 1);
        // Whoever shares a network is reached by the one whose network it is.
        engine.sleeper("guest", &["--net", "container:aa"]);
        engine.sleeper("asker", &["--link", "guest:g"]);
        assert_eq!(
            hosts(&engine, "asker", "g"),
            [format!("{} g {} aa", addr4(&engine, "aa"), engine.told("{{.Config.Hostname}}", "aa"))]
        );
    });
}

/// A11.14, A11.26, A11.22; S58.
#[test]
fn links_are_shown_renamed_and_removed() {
    lab::alone(|lab| {
        let engine = world(lab, &["--icc=false"]);
        engine.sleeper("aa", &["--expose", "80"]);
        engine.sleeper("bb", &["--expose", "80"]);
        engine.sleeper("src", &["--link", "aa:db", "--link", "bb"]);
        for by in all() {
            assert_eq!(
                by.ok(&engine, &["inspect", "-f", "{{.HostConfig.Links}}", "src"]),
                "[/aa:/src/db /bb:/src/bb]\n"
            );
            assert_eq!(by.ok(&engine, &["inspect", "-f", "{{.Name}}", "src/db"]), "/aa\n");
            let names = |flags: &[&str]| {
                let words = [&["ps", "--format", "{{.Names}}", "--filter", "name=^aa$"], flags].concat();
                by.ok(&engine, &words)
            };
            assert_eq!(names(&["--no-trunc"]), "aa,src/db\n");
            assert_eq!(names(&[]), "aa\n");
        }
        assert_eq!(engine.told("{{.HostConfig.Links}}", "aa"), "[]");
        let (a, b, src) = (lab.container(&engine, "aa"), lab.container(&engine, "bb"), lab.container(&engine, "src"));
        let _served = [a.serve_tcp("0.0.0.0:80", "aa"), b.serve_tcp("0.0.0.0:80", "bb")];
        let to = |name: &str| format!("{}:80", addr4(&engine, name));
        assert!(src.tcp(&to("aa")).unwrap().starts_with("aa "));
        // Another name: for people and files; the link is to the container.
        let host = engine.told("{{.Config.Hostname}}", "aa");
        for by in all() {
            by.ok(&engine, &["rename", "aa", "renamed"]);
            assert_eq!(engine.told("{{.HostConfig.Links}}", "src"), "[/renamed:/src/db /bb:/src/bb]");
            by.ok(&engine, &["rename", "renamed", "aa"]);
            assert_eq!(engine.told("{{.HostConfig.Links}}", "src"), "[/aa:/src/db /bb:/src/bb]");
        }
        engine.ok(&["rename", "aa", "renamed"]);
        assert_eq!(hosts(&engine, "src", "db"), [format!("{} db {host} renamed", addr4(&engine, "renamed"))]);
        assert!(src.tcp(&to("renamed")).unwrap().starts_with("aa "));
        let table = lab.here().ok(&["nft", "list", "set", "inet", "berth", "links4"]);
        assert!(table.contains("src: --link renamed:db"), "{table}");
        // Gone: name, line, variable, and the way; also what was under way.
        let mut open = src.connect(&to("renamed")).unwrap();
        for (by, link) in all().into_iter().zip(["src/db", "src/bb"]) {
            assert_eq!(by.ok(&engine, &["rm", "--link", link]), format!("{link}\n"));
        }
        if !lab::has_docker() {
            engine.ok(&["rm", "--link", "src/bb"]);
        }
        assert_eq!(engine.told("{{.HostConfig.Links}}", "src"), "[]");
        assert_eq!((hosts(&engine, "src", "db"), hosts(&engine, "src", "bb")), (vec![], vec![]));
        assert_eq!(reached(&[(&src, to("renamed")), (&src, to("bb"))]), [false, false]);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut open, &mut said).ok();
        let table = lab.here().ok(&["nft", "list", "set", "inet", "berth", "links4"]);
        assert!(!table.contains("--link"), "{table}");
        assert!(!src.ok(&["ip", "route"]).contains("172.17.0.2"), "a route is left");

        // One alias for two: a word of warning, the first counts, and both are reached.
        for by in all() {
            let out = by.run(
                &engine,
                &["run", "-d", "--name", "two", "--link", "renamed:db", "--link", "bb:db", "busybox", "sleep", "99"],
            );
            let says = "WARNING: The links to renamed and to bb have one alias, db: it stands for renamed, which was named first; \
                        the ports of both can be reached\n";
            assert_eq!((out.code, out.stderr.as_str()), (0, says), "{out:?}");
            assert_eq!(hosts(&engine, "two", "db"), [format!("{} db {host} renamed", addr4(&engine, "renamed"))]);
            let env = variables(&engine.ok(&["exec", "two", "env"]));
            assert_eq!(env["DB_PORT"], format!("tcp://{}", to("renamed")));
            let two = lab.container(&engine, "two");
            assert_eq!(reached(&[(&two, to("renamed")), (&two, to("bb"))]), [true, true]);
            // The first goes: the second takes its place.
            engine.ok(&["rm", "--link", "two/db"]);
            assert_eq!(hosts(&engine, "two", "db")[0].split(' ').next(), Some(addr4(&engine, "bb").as_str()));
            assert_eq!(reached(&[(&two, to("renamed")), (&two, to("bb"))]), [false, true]);
            engine.ok(&["rm", "-f", "two"]);
        }
        // A target that is removed takes its links along.
        engine.sleeper("last", &["--link", "bb:db"]);
        engine.ok(&["rm", "-f", "bb"]);
        assert_eq!(engine.told("{{.HostConfig.Links}}", "last"), "[]");
        engine.ok(&["restart", "-t", "0", "last"]);
    });
}

/// S37, S54, S56, S67, S68: under `--icc=false`, both families.
#[test]
fn a_link_opens_exactly_what_the_target_exposes() {
    lab::alone(|lab| {
        let engine = world(lab, &["--icc=false", "--ipv6"]);
        for by in all() {
            by.sleeper(&engine, "far", &["--expose", "3306"]);
            by.sleeper(&engine, "db", &["--expose", "3306", "--expose", "53/udp", "--link", "far:far"]);
            by.sleeper(&engine, "web", &["--link", "db:db"]);
            by.sleeper(&engine, "other", &[]);
            let place = |name: &str| (lab.container(&engine, name), addr4(&engine, name), addr6(&engine, name));
            let (db, db4, db6) = place("db");
            let (far, far4, far6) = place("far");
            let (web, web4, web6) = place("web");
            let other = lab.container(&engine, "other");
            let _served: Vec<_> = ["3306", "3307", "9"]
                .iter()
                .flat_map(|port| [&db, &far, &web].map(|of| of.serve_tcp(&format!("[::]:{port}"), "here")))
                .collect();
            let _udp = [db.serve_udp(&format!("{db4}:53"), "dns"), db.serve_udp(&format!("[{db6}]:53"), "dns")];
            let at = |four: &str, six: &str, port: &str| [format!("{four}:{port}"), format!("[{six}]:{port}")];
            for to in at(&db4, &db6, "3306") {
                let said = web.tcp(&to).unwrap_or_else(|error| panic!("{to}: {error}"));
                // The target sees who asks.
                assert!(said.contains(&web4) || said.contains(&web6), "{to}: {said}");
            }
            for to in at(&db4, &db6, "53") {
                assert!(web.udp(&to, "?").unwrap_or_else(|error| panic!("{to}: {error}")).starts_with("dns "));
            }
            // Of what its target is linked to the source is told nothing.
            assert!(!by.ok(&engine, &["exec", "web", "env"]).contains("FAR_"));
            assert_eq!(hosts(&engine, "web", "far"), [""; 0]);
            let mut asks: Vec<(&Host, String)> = Vec::new();
            for port in ["3307", "9"] {
                asks.extend(at(&db4, &db6, port).map(|to| (&web, to)));
            }
            for port in ["3306", "9"] {
                // Not back, not on, and nobody else.
                asks.extend(at(&web4, &web6, port).map(|to| (&db, to)));
                asks.extend(at(&far4, &far6, port).map(|to| (&web, to)));
                asks.extend(at(&db4, &db6, port).map(|to| (&other, to)));
            }
            let wrong: Vec<_> = reached(&asks).into_iter().zip(&asks).filter(|(open, _)| *open).collect();
            assert!(wrong.is_empty(), "{wrong:?}");
            assert!(!web.ping(&db4) && !web.ping(&db6));
            for to in at(&far4, &far6, "3306") {
                assert!(db.tcp(&to).is_ok(), "{to}");
            }
            // One more port of the target, at its next making.
            engine.ok(&["rm", "-f", "web", "db"]);
            by.sleeper(&engine, "db", &["--expose", "3306", "--expose", "9"]);
            by.sleeper(&engine, "web", &["--link", "db:db"]);
            let (db, db4, db6) = place("db");
            let web = lab.container(&engine, "web");
            let _served = [db.serve_tcp("[::]:9", "nine"), db.serve_tcp("[::]:3307", "no")];
            let asks: Vec<_> =
                at(&db4, &db6, "9").into_iter().chain(at(&db4, &db6, "3307")).map(|to| (&web, to)).collect();
            assert_eq!(reached(&asks), [true, true, false, false]);
            engine.ok(&["rm", "-f", "web", "db", "far", "other"]);
        }
    });
}

/// A14.6: after a reboot the restart policies start targets before their sources.
#[test]
fn after_a_reboot_targets_come_first() {
    lab::alone(|lab| {
        let engine = world(lab, &["--icc=false"]);
        let always = ["--restart", "always", "--expose", "80"];
        // Of several, the last of a chain has the most to wait for.
        let names = ["last", "more", "some", "first"];
        engine.sleeper("last", &always);
        for pair in names.windows(2) {
            engine.sleeper(pair[1], &[&always[..], &["--link", &format!("{}:next", pair[0])]].concat());
        }
        engine.kill9();
        // What a reboot takes: processes, namespaces, the run directory.
        for pid in lab.here().ok(&["pgrep", "-x", "berth-shim|sleep"]).lines() {
            lab.here().run(&["kill", "-9", pid]);
        }
        let run = engine.exec_root().display().to_string();
        let mounts = format!("awk '$2 ~ \"^{run}/\" {{ print $2 }}' /proc/mounts | sort -r | xargs -r umount -l");
        lab.here().ok(&["sh", "-c", &format!("{mounts}; rm -rf {run}/*")]);
        engine.start_again();
        lab::wait_for("all to run", std::time::Duration::from_secs(10), || {
            (engine.ok(&["ps", "-q"]).lines().count() == names.len()).then_some(())
        });
        let started = names.map(|name| engine.told("{{.State.StartedAt}}", name));
        assert!(started.is_sorted(), "{names:?} {started:?}");
        for pair in names.windows(2) {
            let line = format!(
                "{} next {} {}",
                addr4(&engine, pair[0]),
                engine.told("{{.Config.Hostname}}", pair[0]),
                pair[0]
            );
            assert_eq!(hosts(&engine, pair[1], "next"), [line]);
        }
    });
}
