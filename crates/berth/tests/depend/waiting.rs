use crate::asking::{SOON, addr4, sleeping, world};
use lab::{Engine, Running};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A container `web` whose start waits for `db` as the words say, and is known to wait.
#[track_caller]
fn waiting(engine: &Engine, words: &str) -> Running {
    let link = format!("db:sql,{words}");
    let running = engine.spawn(&sleeping("run", "web", &["--link", &link]));
    lab::wait_for("a start that waits", SOON, || engine.log().contains("waits for what it is linked to").then_some(()));
    running
}

/// Where sandboxes are pinned now.
fn pins(engine: &Engine) -> Vec<PathBuf> {
    std::fs::read_dir(engine.exec_root().join("netns")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn words_that_say_nothing_are_refused_with_their_rule() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        engine.sleeper("db", &[]);
        for (words, want) in [
            ("wait=udp:53", "wait=udp:53: it is tcp:PORT[+PORT…], exposed or healthy"),
            ("wait=tcp:70000", "\"70000\" is no port; a port is a number from 1 to 65535"),
            ("wait=healthy", "db has no health check: give it one (--health-cmd), or wait for its ports"),
            ("wait=exposed", "db exposes no TCP port: expose one (--expose PORT), or name what to wait for"),
            ("timeout=3s", "timeout is how long a start waits, and this link does not say for what: add wait="),
            (
                "on-loss=pause",
                "on-loss says what becomes of a source that cannot do without its target: add required=true",
            ),
            ("soon", "\"soon\" is no word of a link; there are wait=tcp:PORT"),
        ] {
            let link = format!("db:sql,{words}");
            let line = sleeping("create", "web", &["--link", &link]);
            let out = engine.berth(&line);
            let starts = format!("Error response from daemon: bad format for links: {link}: ");
            assert!(out.code != 0 && out.stderr.contains(&starts) && out.stderr.contains(want), "{out:?}");
            // Docker's command takes one colon in a link.
            if lab::has_docker() && !words.contains(':') {
                let docker = engine.docker(&line);
                assert!(
                    docker.code != 0 && docker.stderr.contains(&starts) && docker.stderr.contains(want),
                    "{docker:?}"
                );
            }
        }
        engine.ok(&["network", "create", "app"]);
        for network in ["bridge", "app"] {
            let soon = engine.berth(&sleeping("create", "web", &["--net", network, "--link", "db:sql,soon"]));
            assert!(soon.code != 0 && soon.stderr.contains("\"soon\" is no word of a link"), "{soon:?}");
            let links = ["--net", network, "--link", "db:sql", "--link", "db:sql,required=true"];
            let twice = engine.berth(&sleeping("create", "web", &links));
            let want =
                "the link to db as sql is named twice, and says \"\" and \"required=true,on-loss=stop\"; say all of";
            assert!(twice.code != 0 && twice.stderr.contains(want), "{twice:?}");
        }
    });
}

#[test]
fn a_start_waits_for_ports_and_asks_from_inside() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        engine.sleeper("db", &["--expose", "3306"]);
        let db = lab.container(&engine, "db");
        let mut start = waiting(&engine, "wait=tcp:3306+3307");
        let _one = db.serve_tcp("0.0.0.0:3306", "db");
        std::thread::sleep(Duration::from_millis(600));
        assert!(start.is_running(), "one of two ports is enough: {}", start.stderr());
        assert_eq!(engine.told("{{.State.Status}} {{.State.Pid}}", "web"), "created 0");
        let two = db.serve_tcp("0.0.0.0:3307", "db");
        let answered = Instant::now();
        let out = start.wait(SOON);
        assert!(out.code == 0 && answered.elapsed() < Duration::from_secs(3), "{:?} {out:?}", answered.elapsed());
        let web = addr4(&engine, "web");
        let peers = two.peers();
        assert!(!peers.is_empty() && peers.iter().all(|peer| peer.ip().to_string() == web), "{peers:?} is not {web}");
        assert!(engine.ok(&["exec", "web", "env"]).contains("SQL_PORT_3306_TCP_PORT=3306\n"));
        // By Docker's command, whose grammar has one colon.
        if lab::has_docker() {
            engine.docker_ok(&sleeping("run", "other", &["--link", "db:sql,wait=tcp/3306"]));
            engine.docker_ok(&sleeping("run", "third", &["--link", "db,wait=exposed,timeout=5s"]));
        }
    });
}

/// What of which target, after how long, and what was seen.
#[test]
fn who_waits_in_vain_is_told_what_was_seen() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        engine.sleeper("db", &["--expose", "3306", "--expose", "3307", "--health-cmd", "false"]);
        let (db, at) = (lab.container(&engine, "db"), addr4(&engine, "db"));
        let _served = db.serve_tcp("0.0.0.0:3306", "db");
        let refused = |words: &str, left: usize| {
            let began = Instant::now();
            let link = format!("db:sql,{words}");
            let out = engine.berth(&sleeping("run", "web", &["--link", &link]));
            assert!(out.code == 125, "{out:?}");
            let told = engine.told("{{.State.Status}} {{.State.Error}}", "web");
            let text = out.stderr.split("daemon: ").last().unwrap_or_default().trim().to_owned();
            let text = text.lines().next().unwrap_or_default().to_owned();
            assert_eq!(told, format!("created {text}"));
            assert_eq!(pins(&engine).len(), left, "a sandbox is left");
            engine.ok(&["rm", "web"]);
            (text.replacen("container web was not started: its link db:sql waits for ", "", 1), began.elapsed())
        };
        let (text, took) = refused("wait=tcp:3306+3307,timeout=300ms", 1);
        assert_eq!(text, format!("tcp:3306+3307, and after 300ms port 3307 of db did not answer: refused ({at}:3307)"));
        assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&took), "{took:?}");
        let (text, _) = refused("wait=exposed,timeout=300ms", 1);
        assert_eq!(text, format!("exposed, and after 300ms port 3307 of db did not answer: refused ({at}:3307)"));
        let (text, _) = refused("wait=healthy,timeout=300ms", 1);
        assert_eq!(text, "healthy, and after 300ms db is starting");
        db.ok(&[
            "nft",
            "add table inet t; add chain inet t c { type filter hook input priority 0; }; \
                        add rule inet t c tcp dport 3308 drop",
        ]);
        let (text, _) = refused("wait=tcp:3308,timeout=400ms", 1);
        assert_eq!(text, format!("tcp:3308, and after 400ms port 3308 of db did not answer: timed out ({at}:3308)"));
        engine.ok(&["stop", "-t", "0", "db"]);
        let (text, _) = refused("wait=tcp:3306,timeout=200ms", 0);
        assert_eq!(text, "tcp:3306, and after 200ms db does not run (it is exited)");
    });
}

#[test]
fn what_a_source_cannot_reach_is_not_there_for_it() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        engine.sleeper("db", &["--expose", "3306"]);
        let (db, at) = (lab.container(&engine, "db"), addr4(&engine, "db"));
        let of_db = pins(&engine);
        let mut start = waiting(&engine, "wait=tcp:3306,timeout=2s");
        let of_web = pins(&engine).into_iter().find(|pin| !of_db.contains(pin)).unwrap();
        lab.inside_path(&of_web).ok(&["ip", "route", "add", "unreachable", &at]);
        // Others reach it, and the source does not.
        let _served = db.serve_tcp("0.0.0.0:3306", "db");
        lab.here().tcp(&format!("{at}:3306")).unwrap();
        let out = start.wait(SOON);
        let want = format!("after 2s port 3306 of db did not answer: no route ({at}:3306)");
        assert!(out.code == 125 && out.stderr.contains(&want), "{out:?}");
    });
}

#[test]
fn a_link_that_is_the_only_way_is_the_one_that_is_tried() {
    lab::alone(|lab| {
        let engine = world(lab, &["--icc=false"]);
        engine.sleeper("db", &["--expose", "3306"]);
        let db = lab.container(&engine, "db");
        let _served = [db.serve_tcp("0.0.0.0:3306", "db"), db.serve_tcp("0.0.0.0:3307", "db")];
        engine.ok(&sleeping("run", "web", &["--link", "db:sql,wait=exposed"]));
        let out = engine.berth(&sleeping("run", "other", &["--link", "db:sql,wait=tcp:3306+3307,timeout=3s"]));
        let warned = "The link to db waits for what db does not expose (3307), and with --icc=false a link opens only";
        // Time enough for a first packet that is lost on a busy machine: it is sent again after a second.
        let want = "after 3s port 3307 of db did not answer: timed out";
        assert!(out.code == 125 && out.stderr.contains(warned) && out.stderr.contains(want), "{out:?}");
    });
}

#[test]
fn a_target_may_be_started_after_its_source() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        let healthy = ["--health-cmd", "cat /up", "--health-interval", "200ms"];
        engine.ok(&sleeping("create", "db", &healthy));
        let mut start = waiting(&engine, "wait=healthy");
        std::thread::sleep(Duration::from_millis(300));
        assert!(start.is_running());
        engine.ok(&["start", "db"]);
        std::thread::sleep(Duration::from_millis(500));
        assert!(start.is_running(), "it is not healthy yet: {}", start.stderr());
        engine.ok(&["exec", "db", "touch", "/up"]);
        assert_eq!(start.wait(SOON).code, 0);
        // What the source is told is the target's as it is now.
        let (at, file) = (addr4(&engine, "db"), engine.ok(&["exec", "web", "cat", "/etc/hosts"]));
        assert!(file.contains(&format!("\n{at}\tsql ")), "{file}");
        // One that goes for good is not waited for.
        engine.ok(&["rm", "-f", "web", "db"]);
        engine.ok(&sleeping("create", "db", &[]));
        let mut start = engine.spawn(&sleeping("run", "late", &["--link", "db:sql,wait=tcp:1"]));
        lab::wait_for("a start that waits", SOON, || engine.log().contains("container=late targets").then_some(()));
        engine.ok(&["rm", "db"]);
        let out = start.wait(Duration::from_secs(5));
        assert!(
            out.code == 125 && out.stderr.contains("its link db:sql waits for a container that is no more"),
            "{out:?}"
        );
    });
}

/// A start that waits holds nobody up, and ends when somebody wants it to.
#[test]
fn a_start_that_waits_is_given_up() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        engine.sleeper("db", &[]);
        let is_left = |name: &str| engine.berth(&["inspect", name]).code == 0;
        for words in [&["stop", "web"][..], &["kill", "web"], &["rm", "-f", "web"]] {
            let mut start = engine.spawn(&sleeping("run", "web", &["--link", "db:sql,wait=tcp:3306,timeout=1h"]));
            let waits = || (pins(&engine).len() == 2).then_some(());
            lab::wait_for("a sandbox", SOON, waits);
            std::thread::sleep(Duration::from_millis(200));
            let began = Instant::now();
            assert_eq!(engine.told("{{.State.Status}}", "web"), "created");
            assert_eq!(engine.ok(&["link", "ls", "--format", "{{.Alias}} {{.State}}"]), "sql source waits\n");
            for held in [
                &["pause", "web"][..],
                &["update", "--memory", "64m", "web"],
                &["rename", "web", "other"],
                &["rm", "web"],
            ] {
                let out = engine.berth(held);
                let want =
                    "container web is being started and waits for what it is linked to (db): stop it, or try again";
                assert!(out.code == 1 && out.stderr.contains(want), "{held:?} {out:?}");
            }
            engine.ok(words);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            let out = start.wait(Duration::from_secs(5));
            let want =
                "container web was not started: it was stopped, or given up by who started it, while it waited for";
            assert!(out.code == 125 && out.stderr.contains(want), "{out:?}");
            assert_eq!(is_left("web"), words[0] != "rm");
            assert_eq!(pins(&engine).len(), 1, "a sandbox is left");
            engine.berth(&["rm", "-f", "web"]);
        }
        // Nobody waits for whom nobody waits.
        let mut start = engine.spawn(&sleeping("run", "web", &["--link", "db:sql,wait=tcp:3306,timeout=1h"]));
        lab::wait_for("a sandbox", SOON, || (pins(&engine).len() == 2).then_some(()));
        start.kill();
        lab::wait_for("the end of a start that nobody wants", SOON, || (pins(&engine).len() == 1).then_some(()));
        assert_eq!(engine.told("{{.State.Status}}", "web"), "created");
        // Nor does an engine that comes back.
        let waits = || engine.log().matches("waits for what it is linked to").count();
        let before = waits();
        let mut start = engine.spawn(&["start", "web"]);
        lab::wait_for("a start that waits", SOON, || (waits() > before).then_some(()));
        engine.kill9();
        start.kill();
        engine.start_again();
        assert_eq!(pins(&engine).len(), 1);
        let _served = lab.container(&engine, "db").serve_tcp("0.0.0.0:3306", "db");
        engine.ok(&["start", "web"]);
    });
}
