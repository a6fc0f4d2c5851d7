//! Debian's `docker-compose` with five files of its own kind: projects come up, work, and go without a trace.

use lab::{Engine, Host, Lab, residue};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Python, and sometimes a health check to wait for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A file under `tests/compose`, as a project of the same name.
struct Project<'a> {
    engine: &'a Engine,
    name: &'static str,
    /// What the engine's host looked like before.
    before: String,
}

impl<'a> Project<'a> {
    fn new(engine: &'a Engine, name: &'static str) -> Project<'a> {
        Project { engine, name, before: residue::listing(engine) }
    }

    fn run(&self, words: &[&str]) -> lab::Output {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose").join(self.name).with_extension("yml");
        let mut command = Command::new("docker-compose");
        command.args(["--ansi", "never", "-p", self.name, "-f"]).arg(file).args(words);
        command.env("DOCKER_HOST", self.engine.host()).env("DOCKER_CONFIG", self.engine.data_root());
        command.env_remove("COMPOSE_API_VERSION");
        assert!(Path::new("/usr/bin/docker-compose").exists(), "Debian package docker-compose is missing");
        lab::run(&mut command, &[], PATIENCE)
    }

    /// Must succeed; what it printed, of both streams. A thread of it that dies is only told of.
    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let out = self.run(words);
        let text = out.stdout + &out.stderr;
        assert!(out.code == 0 && !text.contains("Traceback"), "{words:?} ended with {}: {text}", out.code);
        text
    }

    /// What a command in a service says, whether it succeeds or not.
    #[track_caller]
    fn exec(&self, service: &str, words: &str) -> String {
        let words: Vec<&str> = ["exec", "-T", service].into_iter().chain(words.split(' ')).collect();
        let out = self.run(&words);
        out.stdout + &out.stderr
    }

    /// The addresses that a service finds by a name, sorted and joined.
    #[track_caller]
    fn finds(&self, service: &str, name: &str) -> String {
        let out = self.exec(service, &format!("nslookup {name}"));
        let answer = out.split_once("\n\n").map_or("", |(_, answer)| answer);
        let mut addrs: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("Address: ")).collect();
        addrs.sort_unstable();
        addrs.join(" ")
    }

    /// A container's address on a network.
    #[track_caller]
    fn addr(&self, container: &str, network: &str) -> String {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        self.engine.ok(&["inspect", "-f", &format, container]).trim().to_owned()
    }

    fn status(&self, container: &str) -> String {
        self.engine.ok(&["inspect", "-f", "{{.State.Status}}", container]).trim().to_owned()
    }

    /// Ends all of it: nothing may be left.
    #[track_caller]
    fn down(self) {
        self.ok(&["down", "-v"]);
        assert_eq!(self.engine.ok(&["volume", "ls", "-q"]), "");
        residue::assert_same(self.engine, &self.before);
    }
}

fn world(lab: &Lab) -> (Engine, Host) {
    lab.uplink("192.0.2.1/24");
    let outside = lab.host("outside", "192.0.2.2/24 192.0.2.53/24");
    let engine = lab.engine(&[]);
    engine.load_busybox();
    (engine, outside)
}

/// A web page, from outside; or why there is none.
fn page(from: &Host, server: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = from.connect(server)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, page)| page.to_owned()))
    };
    ask().unwrap_or_else(|err| err.to_string())
}

#[test]
fn three_services_on_two_networks() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab);
        let shop = Project::new(&engine, "shop");
        shop.ok(&["up", "-d"]);
        // In order, and not before the one before is well.
        let at = |what: &str, name: &str| engine.ok(&["inspect", "-f", &format!("{{{{{what}}}}}"), name]);
        assert_eq!(at(".State.Health.Status", "shop_api_1"), "healthy\n");
        let begun = ["shop_db_1", "shop_api_1", "shop_web_1"].map(|name| at(".State.StartedAt", name));
        assert!(begun.is_sorted(), "{begun:?}");
        let ps = shop.ok(&["ps"]);
        for line in ["shop_api_1", "Up (healthy)", "0.0.0.0:8080->80/tcp"] {
            assert!(ps.contains(line), "{ps}");
        }
        let logs = shop.ok(&["logs"]);
        assert!(logs.contains("web starts") && logs.contains("api starts"), "{logs}");
        // Names follow the networks: the one in the middle finds both, and they do not find each other.
        let api = [shop.addr("shop_api_1", "shop_front"), shop.addr("shop_api_1", "shop_back")];
        for name in ["api", "backend", "api.internal", "shop_api_1"] {
            assert_eq!(shop.finds("web", name), api[0], "{name}");
        }
        assert_eq!(shop.finds("db", "api"), api[1]);
        for name in ["db", "store", "storage"] {
            assert_eq!(shop.finds("api", name), shop.addr("shop_db_1", "shop_back"), "{name}");
            assert_eq!(shop.finds("web", name), "", "{name}");
        }
        assert!(shop.exec("db", "env").contains("MODE=test"));
        assert_eq!(page(&outside, "192.0.2.1:8080"), "page\n");
        // One more of it takes the next port of the range, and stands beside the first under its service's name.
        shop.ok(&["up", "-d", "--scale", "web=2"]);
        assert_eq!(page(&outside, "192.0.2.1:8081"), "page\n");
        let mut both = ["shop_web_1", "shop_web_2"].map(|name| shop.addr(name, "shop_front"));
        both.sort_unstable();
        assert_eq!(shop.finds("api", "web"), both.join(" "));
        // Others stay as they are, and what is asked for anew is made anew, volumes kept.
        let ids = || engine.ok(&["ps", "-q", "--no-trunc", "--filter", "name=shop_db"]);
        let before = ids();
        shop.exec("db", "touch /data/kept");
        shop.ok(&["restart", "api"]);
        shop.ok(&["up", "-d", "--scale", "web=1"]);
        assert_eq!(ids(), before);
        shop.ok(&["up", "-d", "--force-recreate", "--no-deps", "db"]);
        assert_ne!(ids(), before);
        assert_eq!(shop.exec("db", "ls /data"), "kept\n");
        assert_eq!(shop.finds("api", "store"), shop.addr("shop_db_1", "shop_back"));
        let once = shop.ok(&["run", "--rm", "--no-deps", "-T", "api", "echo", "only once"]);
        assert!(once.contains("only once"), "{once}");
        shop.ok(&["pause", "db"]);
        shop.ok(&["unpause", "db"]);
        shop.ok(&["stop"]);
        assert!(page(&outside, "192.0.2.1:8080").contains("refused"));
        shop.ok(&["start"]);
        assert_eq!(page(&outside, "192.0.2.1:8080"), "page\n");
        shop.down();
    })
}

#[test]
fn services_joined_open_closed_and_on_the_default_bridge() {
    lab::alone(|lab| {
        let (engine, _outside) = world(lab);
        let kinds = Project::new(&engine, "kinds");
        kinds.ok(&["up", "-d"]);
        let inside = "wget -q -O - http://127.0.0.1:8000/";
        let check = || {
            assert_eq!(kinds.exec("side", inside), "inside\n");
            assert!(kinds.exec("open", "ip -o link").contains("berth0"));
            assert_eq!(kinds.exec("closed", "ip -o link").lines().count(), 1);
            assert!(kinds.addr("kinds_old_1", "bridge").starts_with("172.17.0."));
        };
        check();
        // All at once: who shares another's network waits for it.
        for _ in 0..2 {
            kinds.ok(&["restart", "-t", "1"]);
            check();
        }
        // The one that others share, alone: they stay with it.
        kinds.ok(&["restart", "web"]);
        check();
        assert!(kinds.ok(&["ps"]).lines().filter(|line| line.contains("Up")).count() == 5);
        // Made anew with who shares it; it is another network then.
        kinds.ok(&["up", "-d", "--force-recreate"]);
        check();
        kinds.down();
    })
}

#[test]
fn addresses_by_number_and_what_is_said_of_names() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab);
        let _names = outside.serve_dns("192.0.2.53:53", "web.shop.example A 192.0.2.80; web.example A 192.0.2.81");
        let fixed = Project::new(&engine, "fixed");
        fixed.ok(&["up", "-d"]);
        let addrs = fixed.exec("one", "ip -o addr show eth0");
        for part in ["inet 10.60.0.10/24", "inet6 fd60::10/64"] {
            assert!(addrs.contains(part), "{addrs}");
        }
        assert!(fixed.exec("one", "ip addr show eth1").contains("inet 10.61.0.10/24"));
        let link = fixed.exec("one", "ip link show eth0");
        assert!(link.contains("mtu 1400") && link.contains("02:00:00:00:60:10"), "{link}");
        let hosts = fixed.exec("one", "cat /etc/hosts");
        for line in ["10.60.0.1\tgate\n", "192.0.2.9\tfar.example\n", "10.60.0.10\tfirst.example.org first\n"] {
            assert!(hosts.contains(line), "{hosts}");
        }
        let conf = fixed.exec("one", "cat /etc/resolv.conf");
        assert!(conf.contains("search shop.example\n") && conf.contains("options timeout:2"), "{conf}");
        for (name, addr) in [
            ("gate.", "10.60.0.1"),
            ("far.example", "192.0.2.9"),
            ("first.example.org", "10.60.0.10 10.61.0.10 fd60::10"),
            ("two.", &format!("10.60.0.11 {}", six(&engine, "fixed_two_1", "fixed_lan"))),
            ("web", "192.0.2.80"),
            ("web.example", "192.0.2.81"),
        ] {
            assert_eq!(fixed.finds("one", name), addr, "{name}");
        }
        assert_eq!(fixed.finds("two", "one"), "10.60.0.10 fd60::10");
        assert_eq!(fixed.finds("two", "gate"), "");
        assert!(fixed.exec("two", "ping -c 1 -W 2 10.60.0.10").contains("1 packets received"));
        assert!(fixed.exec("two", "ping -c 1 -W 2 fd60::10").contains("1 packets received"));
        // Anew at the same addresses.
        fixed.ok(&["up", "-d", "--force-recreate"]);
        assert_eq!(fixed.addr("fixed_one_1", "fixed_lan"), "10.60.0.10");
        fixed.ok(&["restart", "-t", "1"]);
        assert_eq!(fixed.finds("two", "one"), "10.60.0.10 fd60::10");
        fixed.down();
    })
}

fn six(engine: &Engine, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").GlobalIPv6Address}}}}");
    engine.ok(&["inspect", "-f", &format, container]).trim().to_owned()
}

#[test]
fn links_on_a_network_of_the_users() {
    lab::alone(|lab| {
        let (engine, _outside) = world(lab);
        engine.ok(&["network", "create", "elders"]);
        engine.ok(&["run", "-d", "--init", "--name", "veteran", "--network", "elders", "busybox", "sleep", "1000"]);
        let links = Project::new(&engine, "links");
        links.ok(&["up", "-d"]);
        let db = || links.addr("links_db_1", "elders");
        for name in ["database", "db", "links_db_1", "db_1"] {
            assert_eq!(links.finds("app", name), db(), "{name}");
        }
        assert_eq!(links.finds("app", "elder"), links.addr("veteran", "elders"));
        assert_eq!(links.finds("app", "cache"), links.addr("links_cache_1", "elders"));
        // Such links are for one, and are names alone.
        for name in ["database", "elder"] {
            assert_eq!(links.finds("db", name), "", "{name}");
        }
        assert!(!links.exec("app", "env").contains("PASSWORD"));
        assert!(!links.exec("app", "cat /etc/hosts").contains("database"));
        // They follow: a target that is away, back, and another container of that name.
        links.ok(&["stop", "-t", "1", "db"]);
        assert_eq!(links.finds("app", "database"), "");
        links.ok(&["start", "db"]);
        assert_eq!(links.finds("app", "database"), db());
        engine.ok(&["rm", "-f", "links_db_1"]);
        links.ok(&["up", "-d", "--no-deps", "db"]);
        assert_eq!(links.finds("app", "database"), db());
        links.ok(&["kill", "cache"]);
        lab::wait_for("the end", PATIENCE, || (links.status("links_cache_1") == "exited").then_some(()));
        links.ok(&["up", "-d"]);
        assert_eq!(links.status("links_cache_1"), "running");
        let shown = engine.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.elders.Links}}", "links_app_1"]);
        assert!(shown.contains("links_db_1:database") && shown.contains("veteran:elder"), "{shown}");
        links.down();
    })
}

#[test]
fn a_vault_and_a_service_that_is_there_several_times() {
    lab::alone(|lab| {
        let (engine, outside) = world(lab);
        let vault = Project::new(&engine, "vault");
        vault.ok(&["up", "-d"]);
        assert_eq!(vault.finds("worker", "safe"), vault.addr("vault_keeper_1", "vault_vault"));
        assert_eq!(vault.exec("worker", "nc -w 5 safe 7000"), "kept\n");
        // No way out of it, and none in.
        assert!(!vault.exec("keeper", "ip route").contains("default"));
        assert!(vault.exec("keeper", "ping -c 1 -W 1 192.0.2.2").contains("unreachable"));
        assert!(vault.exec("worker", "ping -c 1 -W 2 192.0.2.2").contains("1 packets received"));
        assert!(lab.here().run(&["ip", "link", "show", "wide0"]).code == 0);
        // More and fewer, each at a port of its own.
        let found = |count: usize| {
            let addrs = vault.finds("keeper", "worker");
            assert_eq!(addrs.split(' ').count(), count, "{addrs}");
        };
        found(2);
        vault.ok(&["scale", "worker=4"]);
        found(4);
        let ps = vault.ok(&["ps"]);
        let ports = (9000..=9010).filter(|port| ps.contains(&format!("0.0.0.0:{port}->7000/tcp"))).count();
        assert_eq!(ports, 4, "{ps}");
        vault.ok(&["scale", "-t", "1", "worker=1"]);
        found(1);
        assert!(outside.tcp("192.0.2.1:9000").is_err() || outside.tcp("192.0.2.1:9001").is_err());
        let logs = vault.ok(&["logs", "--no-color", "worker"]);
        assert_eq!(logs.lines().filter(|line| line.contains("| ")).count(), 1, "{logs}");
        vault.ok(&["kill", "keeper"]);
        vault.ok(&["rm", "-f", "keeper"]);
        assert_eq!(vault.finds("worker", "safe"), "");
        vault.down();
    })
}
