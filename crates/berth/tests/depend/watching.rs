use crate::asking::{SOON, addr4, sleeping, world};
use lab::{Engine, Running};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What must be known of a link within this time.
const SECOND: Duration = Duration::from_secs(1);
/// A program that listens on port 3306 for as long as it runs.
const SERVE: &str = "while true; do nc -l -p 3306 </dev/null; done";

/// A target that listens.
#[track_caller]
fn server(engine: &Engine, name: &str, flags: &[&str]) {
    let head = ["run", "-d", "--name", name, "--expose", "3306"];
    engine.ok(&[&head[..], flags, &["busybox", "sh", "-c", SERVE]].concat());
}

/// How links stand now: `source alias state`, a line each.
fn stand(engine: &Engine) -> String {
    engine.ok(&["link", "ls", "--format", "{{.Source}} {{.Alias}} {{.State}}"])
}

#[track_caller]
fn becomes(engine: &Engine, line: &str) {
    let want = format!("{line}\n");
    let began = Instant::now();
    while stand(engine) != want {
        assert!(began.elapsed() < SOON, "{:?} does not become {line:?}", stand(engine));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Links' events as they come.
struct Told(Running);

impl Told {
    fn of(engine: &Engine) -> Told {
        let format = "{{.Action}}: {{.Actor.Attributes.name}} {{.Actor.Attributes.alias}} {{.Actor.Attributes.target}}: \
                      {{.Actor.Attributes.state}}";
        let mut words = vec!["events", "--since", "1h", "--filter", "type=container", "--format", format];
        for event in ["event=link ready", "event=link broken", "event=link stale"] {
            words.extend(["--filter", event]);
        }
        Told(engine.spawn(&words))
    }

    fn lines(&self) -> Vec<String> {
        self.0.stdout().lines().map(str::to_owned).collect()
    }

    /// Waits for a line after the first `seen` ones, and says how many there are then.
    #[track_caller]
    fn until(&self, seen: usize, line: &str, limit: Duration) -> usize {
        lab::wait_for(&format!("{line:?} after {seen} of {:?}", self.lines()), limit, || {
            self.lines().iter().skip(seen).position(|have| have == line).map(|at| seen + at + 1)
        })
    }
}

#[test]
fn a_target_that_is_killed_is_known_to_be_down_within_a_second() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        server(&engine, "db", &[]);
        engine.sleeper("web", &["--link", "db:sql"]);
        becomes(&engine, "web sql ready");
        let told = Told::of(&engine);
        let mut seen = told.until(0, "link ready: web sql db: ready", SOON);
        let mut slowest = Duration::ZERO;
        for turn in 0..10 {
            let began = Instant::now();
            engine.ok(&["kill", "db"]);
            seen = told.until(seen, "link broken: web sql db: target down", SECOND.saturating_sub(began.elapsed()));
            assert_eq!(stand(&engine), "web sql target down\n");
            let took = began.elapsed();
            assert!(took < SECOND, "turn {turn}: {took:?}");
            slowest = slowest.max(took);
            engine.ok(&["start", "db"]);
            let began = Instant::now();
            seen = told.until(seen, "link ready: web sql db: ready", SECOND * 2);
            slowest = slowest.max(began.elapsed());
        }
        println!("slowest of ten ends and starts, with the commands: {slowest:?}");
    });
}

#[test]
fn a_server_that_ends_is_seen_though_its_container_runs() {
    lab::alone(|lab| {
        let engine = world(lab, &["--ipv6", "--bip6", "fd00:7::1/64"]);
        engine.sleeper("db", &["--expose", "3306", "--expose", "53/udp"]);
        engine.sleeper("web", &["--link", "db:sql"]);
        let (db, told) = (lab.container(&engine, "db"), Told::of(&engine));
        let mut seen = told.until(0, "link broken: web sql db: not listening", SOON);
        for addr in ["0.0.0.0:3306", "[::]:3306", &format!("{}:3306", addr4(&engine, "db"))] {
            let served = db.serve_tcp(addr, "db");
            seen = told.until(seen, "link ready: web sql db: ready", SECOND);
            // Nobody has connected to find that out.
            std::thread::sleep(SECOND);
            assert_eq!(served.peers(), []);
            drop(served);
            seen = told.until(seen, "link broken: web sql db: not listening", SECOND);
        }
        // It listens, and nobody else could reach it.
        let _served = db.serve_tcp("127.0.0.1:3306", "db");
        std::thread::sleep(SECOND);
        assert_eq!(stand(&engine), "web sql not listening\n");
        let out = engine.berth(&["link", "check", "web"]);
        let at = addr4(&engine, "db");
        assert_eq!((out.code, out.stdout), (1, format!("db as sql: not listening: port 3306 refused ({at}:3306)\n")));
    });
}

#[test]
fn a_check_connects_as_the_source_would() {
    lab::alone(|lab| {
        let engine = world(lab, &["--icc=false"]);
        engine.sleeper("db", &["--expose", "3306"]);
        engine.sleeper("web", &["--link", "db:sql", "--link", "db"]);
        let db = lab.container(&engine, "db");
        let served = db.serve_tcp("0.0.0.0:3306", "db");
        let out = engine.berth(&["link", "check", "web"]);
        assert_eq!((out.code, out.stdout), (0, "db as sql: ready\ndb as db: ready\n".to_owned()));
        let web = addr4(&engine, "web");
        assert!(served.peers().iter().all(|peer| peer.ip().to_string() == web), "{:?}", served.peers());
        // What the target lets nobody through to is not there for the source, though somebody listens.
        db.ok(&[
            "nft",
            "add table inet t; add chain inet t c { type filter hook input priority 0; }; \
                        add rule inet t c tcp dport 3306 reject with tcp reset",
        ]);
        assert_eq!(stand(&engine), "web sql ready\nweb db ready\n");
        assert_eq!(engine.berth(&["link", "check", "web"]).code, 1);
        engine.ok(&["stop", "-t", "0", "db"]);
        let out = engine.berth(&["link", "check", "web"]);
        assert_eq!((out.code, out.stdout), (1, "db as sql: target down\ndb as db: target down\n".to_owned()));
        engine.ok(&["rm", "db"]);
        assert_eq!(engine.berth(&["link", "check", "web"]).code, 1);
        engine.ok(&["stop", "-t", "0", "web"]);
        let out = engine.berth(&["link", "check", "web"]);
        assert!(out.code == 1 && out.stderr.contains("is not running"), "{out:?}");
        engine.sleeper("plain", &[]);
        assert_eq!(engine.ok(&["link", "check", "plain"]), "");
    });
}

#[test]
fn a_target_with_another_address_makes_variables_stale() {
    lab::alone(|lab| {
        let few = ["--bip", "172.30.0.1/24", "--fixed-cidr", "172.30.0.8/30"];
        let engine = world(lab, &few);
        server(&engine, "db", &[]);
        engine.sleeper("web", &["--link", "db:sql"]);
        for name in ["fill0", "fill1"] {
            engine.sleeper(name, &[]);
        }
        becomes(&engine, "web sql ready");
        let told = Told::of(&engine);
        let seen = told.until(0, "link ready: web sql db: ready", SOON);
        engine.ok(&["kill", "db"]);
        engine.sleeper("stranger", &[]);
        engine.ok(&["rm", "-f", "fill0"]);
        engine.ok(&["start", "db"]);
        let stale = "address changed since start: variables are stale";
        told.until(seen, &format!("link stale: web sql db: {stale}"), SECOND * 2);
        assert_eq!(stand(&engine), format!("web sql {stale}\n"));
        assert_eq!(engine.berth(&["link", "check", "web"]).stdout, format!("db as sql: {stale}\n"));
        // So it stays when the engine comes back, and ends when the source does.
        engine.kill9();
        engine.start_again();
        assert_eq!(stand(&engine), format!("web sql {stale}\n"));
        engine.ok(&["restart", "-t", "0", "web"]);
        becomes(&engine, "web sql ready");
        assert_eq!(engine.berth(&["link", "check", "web"]).code, 0);
    });
}

#[test]
fn a_source_that_is_told_no_variables_has_none_that_could_be_stale() {
    lab::alone(|lab| {
        let few = ["--bip", "172.30.0.1/24", "--fixed-cidr", "172.30.0.8/30", "--link-env=off"];
        let engine = world(lab, &few);
        server(&engine, "db", &[]);
        engine.sleeper("web", &["--link", "db:sql"]);
        for name in ["fill0", "fill1"] {
            engine.sleeper(name, &[]);
        }
        let before = addr4(&engine, "db");
        engine.ok(&["kill", "db"]);
        engine.sleeper("stranger", &[]);
        engine.ok(&["rm", "-f", "fill0"]);
        engine.ok(&["start", "db"]);
        assert_ne!(addr4(&engine, "db"), before);
        becomes(&engine, "web sql ready");
    });
}

#[test]
fn a_source_that_cannot_do_without_its_target_is_stopped() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        server(&engine, "db", &[]);
        engine.ok(&sleeping("run", "web", &["--init", "--restart", "always", "--link", "db:sql,required=true"]));
        engine.sleeper("other", &["--link", "db:sql"]);
        let status = |name: &str| engine.told("{{.State.Status}}", name);
        // One that comes back at once has not gone.
        engine.ok(&["restart", "-t", "0", "db"]);
        becomes(&engine, "other sql ready\nweb sql ready");
        assert_eq!(status("web"), "running");
        engine.ok(&["kill", "db"]);
        lab::wait_for("the end of the source", SOON, || (status("web") == "exited").then_some(()));
        // It is stopped as if by hand: its restart policy leaves it alone. And only what cannot do without is.
        std::thread::sleep(SECOND);
        assert_eq!((status("web"), status("other")), ("exited".to_owned(), "running".to_owned()));
        assert_eq!(stand(&engine), "other sql target down\nweb sql source down\n");
        // While no engine is there, too.
        engine.ok(&["start", "db", "web"]);
        becomes(&engine, "other sql ready\nweb sql ready");
        let pid = engine.told("{{.State.Pid}}", "db");
        engine.kill9();
        lab.here().ok(&["kill", "-9", &pid]);
        engine.start_again();
        lab::wait_for("the end of the source", SOON, || (status("web") == "exited").then_some(()));
        assert_eq!(status("other"), "running");
        // Nor does it start without one that is gone for good.
        engine.ok(&["rm", "db"]);
        let out = engine.berth(&["start", "web"]);
        let want = "container web was not started: its link db:sql is required, and db is no more";
        assert!(out.code == 1 && out.stderr.contains(want), "{out:?}");
        engine.ok(&["rm", "--link", "web/sql"]);
        engine.ok(&["start", "web"]);
    });
}

/// One whose restart policy gives up has gone after all.
#[test]
fn a_target_that_its_restart_policy_brings_back_has_not_gone() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        let again = ["run", "-d", "--name", "db", "--restart", "on-failure:1", "busybox", "sh", "-c"];
        let lives = "while [ ! -e /end ]; do sleep 0.1; done; rm /end; exit 3";
        engine.ok(&[&again[..], &[lives]].concat());
        engine.sleeper("web", &["--init", "--link", "db:sql,required=true"]);
        becomes(&engine, "web sql ready");
        let started = engine.told("{{.State.StartedAt}}", "db");
        engine.ok(&["exec", "db", "touch", "/end"]);
        lab::wait_for("the restart", SOON, || {
            (engine.told("{{.State.StartedAt}} {{.State.Status}}", "db") != format!("{started} running")).then_some(())
        });
        becomes(&engine, "web sql ready");
        assert_eq!(engine.told("{{.State.Status}}", "web"), "running");
        engine.ok(&["exec", "db", "touch", "/end"]);
        lab::wait_for("the end of the source", SOON, || {
            (engine.told("{{.State.Status}}", "web") == "exited").then_some(())
        });
    });
}

#[test]
fn a_source_may_be_frozen_until_its_target_is_back() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        server(&engine, "db", &[]);
        engine.sleeper("web", &["--link", "db:sql,wait=exposed,required=true,on-loss=pause"]);
        becomes(&engine, "web sql ready");
        let status = || engine.told("{{.State.Status}}", "web");
        let is = |want: &str| {
            lab::wait_for(&format!("{want}, and it is {}", status()), SOON, || (status() == want).then_some(()));
        };
        engine.ok(&["kill", "db"]);
        is("paused");
        engine.ok(&["start", "db"]);
        is("running");
        becomes(&engine, "web sql ready");
        // An engine that was away meanwhile goes on where the other was.
        engine.ok(&["kill", "db"]);
        is("paused");
        engine.kill9();
        engine.start_again();
        assert_eq!(status(), "paused");
        engine.ok(&["start", "db"]);
        is("running");
        // What somebody does by hand is his.
        engine.ok(&["kill", "db"]);
        is("paused");
        engine.ok(&["unpause", "web"]);
        std::thread::sleep(SECOND);
        assert_eq!(status(), "running");
        engine.ok(&["start", "db"]);
        becomes(&engine, "web sql ready");
        engine.ok(&["pause", "web"]);
        engine.ok(&["kill", "db"]);
        becomes(&engine, "web sql target down");
        engine.ok(&["start", "db"]);
        becomes(&engine, "web sql ready");
        assert_eq!(status(), "paused");
        // And one that is frozen for its links can be stopped.
        engine.ok(&["unpause", "web"]);
        engine.ok(&["kill", "db"]);
        is("paused");
        let began = Instant::now();
        engine.ok(&["stop", "-t", "1", "web"]);
        assert!(status() == "exited" && began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    });
}

#[test]
fn a_listing_says_all_and_goes_on() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        server(&engine, "db", &["--expose", "53/udp"]);
        let words = "wait=exposed,timeout=90s,required=true,on-loss=pause";
        engine.sleeper("web", &["--link", &format!("db:sql,{words}"), "--link", "db"]);
        becomes(&engine, "web sql ready\nweb db ready");
        let table = engine.ok(&["link", "ls"]);
        let mut lines = table.lines();
        assert_eq!(
            lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
            ["SOURCE", "TARGET", "ALIAS", "PORTS", "STATE", "SINCE"]
        );
        let line = lines.next().unwrap();
        let starts = ["web", "db", "sql", "53/udp,", "3306/tcp", "ready"];
        assert_eq!(line.split_whitespace().take(6).collect::<Vec<_>>(), starts, "{line}");
        let json: Value =
            serde_json::from_str(engine.ok(&["link", "ls", "--format", "json", "web"]).lines().next().unwrap())
                .unwrap();
        assert_eq!((&json["Words"], &json["Alias"]), (&words.replace("90s", "1m30s").into(), &"sql".into()));
        assert_eq!(json["TargetID"], engine.told("{{slice .Id 0 12}}", "db"));
        let all = engine.json("/berth/links?source=web");
        assert_eq!((all.as_array().unwrap().len(), &all[1]["Ports"]), (2, &serde_json::json!(["53/udp", "3306/tcp"])));
        assert_eq!(engine.json("/berth/links?source=db"), serde_json::json!([]));
        assert_eq!(engine.http("GET", "/berth/links?source=nobody", "").0, 404);
        // Since when outlives the engine.
        let since = all[0]["Since"].clone();
        engine.stop();
        engine.start_again();
        assert_eq!(engine.json("/berth/links")[0]["Since"], since);
        // Docker's list is Docker's, and what berth adds is beside it.
        let shown = |field: &str| engine.json("/containers/web/json")["HostConfig"][field].clone();
        assert_eq!(shown("Links"), serde_json::json!(["/db:/web/sql", "/db:/web/db"]));
        let said = serde_json::json!([{
            "Link": "/db:/web/sql", "Network": "bridge", "Wait": "exposed", "Timeout": "1m30s", "Required": true, "OnLoss": "pause"
        }]);
        assert_eq!(shown("BerthLinks"), said);
        assert_eq!(engine.json("/containers/db/json")["HostConfig"].get("BerthLinks"), None);
        if lab::has_docker() {
            let docker = engine.docker_ok(&["inspect", "-f", "{{json .HostConfig.Links}}", "web"]);
            assert_eq!(docker.trim(), r#"["/db:/web/sql","/db:/web/db"]"#);
        }
        let mut watch = engine.spawn(&["link", "ls", "--watch", "--format", "{{.Alias}} {{.State}}"]);
        lab::wait_for("a first listing", SOON, || (watch.stdout() == "sql ready\ndb ready\n").then_some(()));
        engine.ok(&["kill", "db"]);
        lab::wait_for("what has changed", SOON, || {
            watch.stdout().ends_with("sql target down\ndb target down\n").then_some(())
        });
        watch.kill();
        // Frozen for its link, it could not be ended by the lab.
        engine.ok(&["rm", "-f", "web"]);
    });
}

/// Who listens to Docker's events hears of links, and nothing that he does not understand.
#[test]
fn dockers_command_hears_of_links() {
    lab::alone(|lab| {
        if !lab::has_docker() {
            println!("there is no docker command here: nothing to judge by");
            return;
        }
        let engine = world(lab, &[]);
        server(&engine, "db", &[]);
        engine.docker_ok(&sleeping("run", "web", &["--link", "db:sql,required=false"]));
        becomes(&engine, "web sql ready");
        engine.ok(&["kill", "db"]);
        becomes(&engine, "web sql target down");
        let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1;
        let until = until.to_string();
        std::thread::sleep(SECOND);
        let words = [
            "events",
            "--since",
            "1h",
            "--until",
            &until,
            "--filter",
            "container=web",
            "--filter",
            "event=link broken",
        ];
        let format = ["--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.state}} {{.Actor.Attributes.target}}"];
        let heard = engine.docker_ok(&[&words[..], &format].concat());
        assert!(heard.ends_with("container link broken target down db\n"), "{heard}");
        assert!(engine.docker_ok(&words).contains(" container link broken "));
    });
}
