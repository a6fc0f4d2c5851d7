//! Faults of links that Docker's engines show (row A11.28 a–h), and that are not here; under `--icc=false`, in both families.

use crate::asking::{addr4, addr6, all, hosts, reached, world};
use lab::{Engine, Host, Lab};
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// An engine that keeps containers apart and has four addresses of each family to give, so that a freed one is soon another's.
fn tight(lab: &Lab) -> Engine {
    let four = ["--bip", "172.30.0.1/24", "--fixed-cidr", "172.30.0.8/30"];
    let six = ["--ipv6", "--bip6", "fd00:7::1/64", "--fixed-cidr-v6", "fd00:7::8/126"];
    world(lab, &[&["--icc=false"], &four[..], &six].concat())
}

/// Where a container can be asked at a port, by both families.
fn at(engine: &Engine, name: &str, port: u16) -> [String; 2] {
    [format!("{}:{port}", addr4(engine, name)), format!("[{}]:{port}", addr6(engine, name))]
}

fn asks<'a>(host: &'a Host, to: &[[String; 2]]) -> Vec<(&'a Host, String)> {
    to.iter().flatten().map(|to| (host, to.clone())).collect()
}

/// Says so when it goes, also where a test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// (a) (b) (h): the target comes back with other addresses, and somebody else has its old ones.
#[test]
fn a_target_with_another_address_is_followed_and_a_stranger_gets_nothing() {
    lab::alone(|lab| {
        let engine = tight(lab);
        engine.sleeper("db", &["--expose", "3306"]);
        engine.sleeper("web", &["--link", "db:db", "--link", "db:sql", "--add-host", "db:10.9.9.9"]);
        engine.sleeper("fill0", &[]);
        engine.sleeper("fill1", &[]);
        let web = lab.container(&engine, "web");
        let host = engine.told("{{.Config.Hostname}}", "db");
        let file = engine.data_root().join("containers").join(engine.told("{{.Id}}", "web")).join("hosts");
        engine.ok(&["exec", "web", "sh", "-c", "printf '10.8.8.8\\tmine\\n' >> /etc/hosts"]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let finish = Done(&done);
            // Who reads the file meanwhile never misses a line that is always there.
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) {
                    let text = std::fs::read_to_string(&file).unwrap();
                    for line in ["127.0.0.1\tlocalhost", "10.9.9.9\tdb", "10.8.8.8\tmine"] {
                        assert!(text.lines().any(|have| have == line), "{line} is missing in {text:?}");
                    }
                    reads += 1;
                }
                reads
            });
            for turn in 0..3 {
                let old = at(&engine, "db", 3306);
                let mut under_way = {
                    let db = lab.container(&engine, "db");
                    let _served = db.serve_echo("[::]:3306");
                    old.clone().map(|to| web.connect(&to).unwrap())
                };
                engine.ok(&["stop", "-t", "0", "db"]);
                // Nobody is called by that name while it is away.
                assert_eq!(hosts(&engine, "web", &host), [""; 0]);
                let answer = engine.berth(&["exec", "web", "nslookup", "sql"]).stdout;
                assert!(!answer.contains("172.30.0."), "{answer}");
                let stranger = format!("stranger{turn}");
                engine.sleeper(&stranger, &["--expose", "3306"]);
                assert_eq!(at(&engine, &stranger, 3306), old, "the stranger has another address");
                engine.ok(&["rm", "-f", &format!("fill{turn}")]);
                let started = Instant::now();
                engine.ok(&["start", "db"]);
                let took = started.elapsed();
                // All of it is true as soon as the start is answered.
                let told = std::fs::read_to_string(&file).unwrap();
                let new = at(&engine, "db", 3306);
                assert!(new[0] != old[0] && new[1] != old[1], "the target has its old address");
                let lines = |addr: String| format!("\n{addr}\tdb {host}\n");
                for line in ["\n10.9.9.9\tdb\n".to_owned(), lines(addr4(&engine, "db")), lines(addr6(&engine, "db"))] {
                    assert!(told.contains(&line), "{line:?} is not in {told} after {took:?}");
                }
                let answer = engine.ok(&["exec", "web", "nslookup", "sql"]);
                for addr in [addr4(&engine, "db"), addr6(&engine, "db")] {
                    assert!(answer.contains(&format!("Address: {addr}\n")), "{addr} is not in {answer}");
                }
                let (db, other) = (lab.container(&engine, "db"), lab.container(&engine, &stranger));
                let _served = [db.serve_tcp("[::]:3306", "db"), other.serve_tcp("[::]:3306", "stranger")];
                let wanted = [true, true, false, false];
                assert_eq!(reached(&asks(&web, &[new, old.clone()])), wanted, "to the target, to the stranger");
                // Not even by what was under way to the target.
                for flow in &mut under_way {
                    // The kernel may know already that the other end is gone.
                    let _ = flow.write_all(b"are you there?");
                    assert!(!matches!(flow.read(&mut [0; 64]), Ok(1..)), "somebody answers");
                }
                engine.ok(&["rename", &stranger, &format!("fill{}", turn + 2)]);
            }
            drop(finish);
            assert!(reader.join().unwrap() > 10);
        });
    });
}

/// (c): the target cannot come by its exposed port to whatever its source serves.
#[test]
fn the_targets_port_is_no_way_back() {
    lab::alone(|lab| {
        let engine = tight(lab);
        engine.sleeper("db", &["--expose", "3306", "--expose", "3306/udp"]);
        engine.sleeper("web", &["--link", "db:db"]);
        let (db, web) = (lab.container(&engine, "db"), lab.container(&engine, "web"));
        let _served = [web.serve_tcp("[::]:9", "web"), web.serve_tcp("[::]:3306", "web")];
        // So that the two know each other.
        let served = db.serve_tcp("[::]:3306", "db");
        assert_eq!(reached(&asks(&web, &[at(&engine, "db", 3306)])), [true, true]);
        drop(served);
        let asked = |addr: String, port: &str| {
            let from = engine.spawn(&["exec", "db", "nc", "-w", "1", "-p", "3306", &addr, port]);
            (addr, from)
        };
        for port in ["9", "3306"] {
            for addr in [addr4(&engine, "web"), addr6(&engine, "web")] {
                let (addr, mut from) = asked(addr, port);
                let out = from.wait(Duration::from_secs(10));
                assert!(out.stdout.is_empty() && out.stderr.contains("timed out"), "{addr} {port}: {out:?}");
            }
        }
    });
}

/// (d): a source is a container like any other while its target is away.
#[test]
fn exec_works_while_a_target_is_stopped() {
    lab::alone(|lab| {
        let engine = tight(lab);
        engine.sleeper("db", &["--expose", "3306"]);
        let health = ["--health-cmd", "touch /checked", "--health-interval", "300ms"];
        engine.sleeper("web", &[&health[..], &["--link", "db:db"]].concat());
        let addr = addr4(&engine, "db");
        engine.ok(&["stop", "-t", "0", "db"]);
        // Neither is its health.
        engine.ok(&["exec", "web", "rm", "-f", "/checked"]);
        lab::wait_for("a check", Duration::from_secs(5), || {
            (engine.berth(&["exec", "web", "test", "-e", "/checked"]).code == 0).then_some(())
        });
        assert_eq!(engine.told("{{.State.Health.Status}} {{.State.Health.FailingStreak}}", "web"), "healthy 0");
        for by in all() {
            let env = by.ok(&engine, &["exec", "web", "env"]);
            assert!(env.contains(&format!("DB_PORT_3306_TCP_ADDR={addr}\n")), "{env}");
        }
        engine.ok(&["rm", "db"]);
        for by in all() {
            let env = by.ok(&engine, &["exec", "web", "env"]);
            assert!(!env.contains("DB_"), "{env}");
        }
    });
}

/// A new flow to a target, and room for what comes.
fn transfer(web: &Host, to: &str) -> (std::net::TcpStream, Vec<u8>) {
    let stream = web.connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (stream, vec![0; 1 << 16])
}

/// (e): an engine that ends, gracefully or not, and comes back keeps its links and what runs through them.
#[test]
fn links_outlive_the_engine() {
    lab::alone(|lab| {
        let engine = tight(lab);
        engine.sleeper("db", &["--expose", "3306"]);
        engine.sleeper("web", &["--link", "db:db"]);
        let (db, web) = (lab.container(&engine, "db"), lab.container(&engine, "web"));
        let served = db.serve_echo("[::]:3306");
        let table = || lab.here().ok(&["nft", "list", "ruleset"]);
        let elements =
            |text: &str| text.lines().filter(|line| line.contains("--link")).map(str::to_owned).collect::<Vec<_>>();
        let before = elements(&table());
        assert_eq!(before.len(), 2, "{before:?}");
        let to = at(&engine, "db", 3306);
        let (done, moved) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
        std::thread::scope(|scope| {
            let finish = Done(&done);
            let under_way: Vec<_> = to
                .iter()
                .zip(&moved)
                .map(|(to, moved)| {
                    let (mut flow, mut room) = transfer(&web, to);
                    room.truncate(4096);
                    let done = &done;
                    scope.spawn(move || {
                        while !done.load(Ordering::Relaxed) {
                            flow.write_all(&[7; 4096])
                                .and_then(|()| flow.read_exact(&mut room))
                                .expect("a transfer under way");
                            moved.fetch_add(1, Ordering::Relaxed);
                            // Flat out on few processors, an engine that ends would wait for the kernel's grace periods.
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    })
                })
                .collect();
            let goes_on = |when: &str| {
                let before = moved.each_ref().map(|moved| moved.load(Ordering::Relaxed));
                lab::wait_for(when, Duration::from_secs(5), || {
                    let more = moved.iter().zip(before).all(|(now, then)| now.load(Ordering::Relaxed) > then + 50);
                    more.then_some(())
                });
            };
            goes_on("a transfer before");
            for ended in ["stopped", "killed"] {
                if ended == "stopped" {
                    engine.stop()
                } else {
                    engine.kill9()
                }
                goes_on("a transfer while the engine is away");
                to.iter().for_each(|to| drop(transfer(&web, to)));
                engine.start_again();
                goes_on("a transfer after it is back");
                assert_eq!(elements(&table()), before, "{ended}");
                to.iter().for_each(|to| drop(transfer(&web, to)));
            }
            drop(finish);
            under_way.into_iter().for_each(|one| one.join().expect("a transfer through all of it"));
        });
        drop(served);
        // The target dies while no engine is there: its line is gone when there is one again, and its way.
        engine.kill9();
        let pid: i32 = lab.here().ok(&["sh", "-c", "pgrep -x sleep | head -1"]).trim().parse().unwrap();
        let of = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert!(!of.contains("DB_PORT"), "the first is the target");
        lab.here().ok(&["kill", "-9", &pid.to_string()]);
        engine.start_again();
        assert_eq!(hosts(&engine, "web", "db"), [""; 0]);
        assert_eq!(elements(&table()), [""; 0]);
    });
}

/// A transfer ends with its target, and the next one finds the target again.
#[test]
fn a_transfer_ends_with_its_target_and_begins_anew() {
    lab::alone(|lab| {
        let engine = tight(lab);
        let serve = "while true; do yes | nc -l -p 3306; done";
        engine.ok(&["run", "-d", "--name", "db", "--expose", "3306", "busybox", "sh", "-c", serve]);
        engine.sleeper("web", &["--link", "db:db"]);
        let web = lab.container(&engine, "web");
        for (nth, words) in [&["restart", "-t", "0", "db"][..], &["kill", "db"]].iter().enumerate() {
            let to = format!("{}:3306", addr4(&engine, "db"));
            let (mut flow, mut room) = lab::wait_for("a transfer", Duration::from_secs(5), || {
                web.connect(&to).ok().map(|flow| (flow, vec![0; 1 << 16]))
            });
            assert!(flow.read(&mut room).unwrap() > 0);
            engine.ok(words);
            if nth == 0 {
                // Its network lives on, so its end is heard.
                let ended = Instant::now();
                while matches!(flow.read(&mut room), Ok(1..)) {}
                assert!(ended.elapsed() < Duration::from_secs(1), "the source waits for a target that is gone");
            } else {
                engine.ok(&["start", "db"]);
            }
            lab::wait_for("the next transfer", Duration::from_secs(5), || {
                engine.ok(&["exec", "web", "sh", "-c", "nc -w 1 db 3306 | head -c 10"]).contains('y').then_some(())
            });
        }
    });
}

/// (f) (g): what a link opened goes with it, and what somebody left there is in nobody's way.
#[test]
fn nothing_is_left_of_a_link() {
    lab::alone(|lab| {
        let engine = tight(lab);
        engine.sleeper("db", &["--expose", "3306", "--expose", "100-199"]);
        let listed = || {
            let sets = ["links4", "links6"].map(|set| lab.here().ok(&["nft", "list", "set", "inet", "berth", set]));
            sets.concat().matches("--link").count()
        };
        let routes = || lab.container(&engine, "db").ok(&["sh", "-c", "ip route; ip -6 route"]);
        let bare = routes();
        for turn in 0..3 {
            engine.sleeper("web", &["--link", "db:db"]);
            assert_eq!(listed(), 2 * 101);
            assert_ne!(routes(), bare);
            match turn {
                0 => drop(engine.ok(&["rm", "--link", "web/db"])),
                1 => drop(engine.ok(&["stop", "-t", "0", "web"])),
                _ => engine.kill9(),
            }
            if turn == 2 {
                engine.start_again();
                assert_eq!(listed(), 2 * 101);
            } else {
                assert_eq!((listed(), routes()), (0, bare.clone()), "turn {turn}");
            }
            engine.ok(&["rm", "-f", "web"]);
        }
        assert_eq!((listed(), routes()), (0, bare.clone()));
        // An element that somebody put there, the same as ours will be.
        let (web, db) = ("172.30.0.9", addr4(&engine, "db"));
        let element = format!("{{ \"berth0\" . {web} . {db} . tcp . 3306 }}");
        lab.here().ok(&["nft", "add", "element", "inet", "berth", "links4", &element]);
        engine.ok(&["run", "-d", "--name", "web", "--link", "db:db", "busybox", "sleep", "99"]);
        assert_eq!(addr4(&engine, "web"), web);
        let inner = lab.container(&engine, "db");
        let _served = inner.serve_tcp("[::]:3306", "db");
        let source = lab.container(&engine, "web");
        assert_eq!(reached(&asks(&source, &[at(&engine, "db", 3306)])), [true, true]);
    });
}

/// Who may change a container's routes can be ahead of the engine.
#[test]
fn a_route_of_a_containers_own_is_in_no_links_way() {
    lab::alone(|lab| {
        let engine = tight(lab);
        engine.sleeper("db", &["--expose", "3306", "--cap-add", "NET_ADMIN"]);
        let gateways = ["172.30.0.1", "fd00:7::1"];
        // Whatever addresses are given next, ours are to be theirs too.
        for (nth, way) in ["via", "dev", "blackhole"].into_iter().enumerate() {
            for (addr, gateway) in
                [(format!("172.30.0.{}", 9 + nth), gateways[0]), (format!("fd00:7::{}", 9 + nth), gateways[1])]
            {
                let mut words = vec!["exec", "db", "ip", "route", "add"];
                match way {
                    "via" => words.extend([&*addr, "via", gateway]),
                    "dev" => words.extend([&*addr, "dev", "eth0"]),
                    way => words.extend([way, &addr]),
                }
                engine.ok(&words);
            }
        }
        let db = lab.container(&engine, "db");
        let _served = db.serve_tcp("[::]:3306", "db");
        for name in ["one", "two", "three"] {
            engine.sleeper(name, &["--link", "db:db"]);
            let source = lab.container(&engine, name);
            assert_eq!(reached(&asks(&source, &[at(&engine, "db", 3306)])), [true, true], "{name}");
        }
    });
}

/// A11.27: a target's sources know it again within a tenth of a second of its start, whoever started it; only the variables of what
/// runs already are those of its own start.
#[test]
fn a_targets_start_is_known_at_once() {
    lab::alone(|lab| {
        let engine = tight(lab);
        engine.sleeper("db", &["--expose", "3306", "--restart", "always"]);
        engine.sleeper("web", &["--link", "db:db"]);
        engine.sleeper("fill0", &[]);
        engine.sleeper("fill1", &[]);
        let (web, first) = (lab.container(&engine, "web"), addr4(&engine, "db"));
        let file = engine.data_root().join("containers").join(engine.told("{{.Id}}", "web")).join("hosts");
        let mut took = Vec::new();
        // When it was started, and its addresses, in one word: each question takes its time.
        let now = || {
            let place = "{{with .NetworkSettings.Networks.bridge}}{{.IPAddress}},{{.GlobalIPv6Address}}{{end}}";
            let text = engine.told(&format!("{{{{.State.StartedAt}}}},{place}"), "db");
            let words: Vec<String> = text.split(',').map(str::to_owned).collect();
            <[String; 3]>::try_from(words).unwrap_or_else(|words| panic!("{words:?}"))
        };
        // All of it is true when it is asked for the first time.
        let mut known = |how: &str, [started, four, six]: [String; 3]| {
            let text = std::fs::read_to_string(&file).unwrap();
            for (what, addr, to) in [("db", &four, format!("{four}:3306")), ("db AAAA", &six, format!("[{six}]:3306"))]
            {
                assert!(text.contains(&format!("\n{addr}\tdb ")), "{how}: {addr} is not in {text}");
                let answer = web.dns("127.0.0.11:53", what).unwrap().to_string();
                assert_eq!(answer, format!("NOERROR {addr}"), "{how}");
                // Nobody listens, and whoever is let through is told so.
                let refused = web.connect(&to).map_err(|error| error.kind());
                assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused), "{how}: {to}");
            }
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
            let started: u128 = lab.here().ok(&["date", "-d", &started, "+%s%N"]).trim().parse().unwrap();
            took.push(Duration::from_nanos(u64::try_from(now - started).unwrap()));
        };
        // Once more, and it would have its first one again.
        for turn in 0..2 {
            engine.ok(&["restart", "-t", "0", "db"]);
            known("by hand", now());
            // By its policy.
            let [before, ..] = now();
            lab.here().ok(&["kill", "-9", &engine.told("{{.State.Pid}}", "db")]);
            let again = lab::wait_for("its policy", Duration::from_secs(10), || {
                Some(now()).filter(|[started, four, _]| *started != before && !four.is_empty())
            });
            known("by its policy", again);
            // With another address.
            engine.ok(&["stop", "-t", "0", "db"]);
            // Somebody has its old one, and another is free.
            engine.sleeper(&format!("fill{}", turn + 2), &[]);
            engine.ok(&["rm", "-f", &format!("fill{turn}")]);
            engine.ok(&["start", "db"]);
            known(&format!("with another address, {turn}"), now());
        }
        took.sort();
        assert!(took[took.len() / 2] < Duration::from_millis(100), "{took:?}");
        let [_, now, _] = now();
        assert_ne!(now, first);
        for by in all() {
            let of_process = by.ok(&engine, &["exec", "web", "cat", "/proc/1/environ"]);
            assert!(of_process.contains(&format!("DB_PORT=tcp://{first}:3306\0")), "{of_process}");
            let of_exec = by.ok(&engine, &["exec", "web", "env"]);
            assert!(of_exec.contains(&format!("DB_PORT=tcp://{now}:3306\n")), "{of_exec}");
        }
    });
}
