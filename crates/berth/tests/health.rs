//! Health checks: what is run, what it says, who hears of it, and what becomes of it over pauses, ends and crashes; through
//! `berth` and `docker`.

use lab::{Engine, Lab};
use serde_json::Value;
use std::time::Duration;

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn engine(lab: &Lab) -> Engine {
    let engine = lab.engine(&[]);
    engine.load_busybox();
    engine
}

/// Starts a container that sleeps, with these flags.
#[track_caller]
fn run(engine: &Engine, name: &str, flags: &[&str]) {
    let mut words = vec!["run", "-d", "--name", name];
    words.extend(flags);
    words.extend(["busybox", "sleep", "1000"]);
    engine.ok(&words);
}

fn health(engine: &Engine, name: &str) -> Value {
    engine.json(&format!("/containers/{name}/json"))["State"]["Health"].clone()
}

#[track_caller]
fn becomes(engine: &Engine, name: &str, status: &str) -> Value {
    lab::wait_for(&format!("{name} to be {status}"), SOON, || {
        let health = health(engine, name);
        (health["Status"] == status).then_some(health)
    })
}

#[test]
fn a_container_is_starting_then_healthy_then_not() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let check = ["--health-cmd", "cat /up", "--health-interval", "300ms", "--health-retries", "2"];
        run(&engine, "c1", &[&check[..], &["--health-timeout", "10s"]].concat());
        run(&engine, "plain", &[]);
        assert_eq!(health(&engine, "plain"), Value::Null);
        let first = lab::wait_for("a failed check", SOON, || {
            let health = health(&engine, "c1");
            (health["FailingStreak"] == 1).then_some(health)
        });
        assert_eq!(first["Status"], "starting");
        engine.ok(&["exec", "c1", "sh", "-c", "echo here > /up"]);
        let healthy = becomes(&engine, "c1", "healthy");
        assert_eq!(healthy["FailingStreak"], 0);
        let log = healthy["Log"].as_array().unwrap();
        let (bad, good) = (&log[0], &log[log.len() - 1]);
        assert_eq!(
            (&bad["ExitCode"], bad["Output"].as_str()),
            (&1.into(), Some("cat: can't open '/up': No such file or directory\n"))
        );
        assert_eq!((&good["ExitCode"], &good["Output"]), (&0.into(), &"here\n".into()));
        assert!(good["Start"].as_str() < good["End"].as_str(), "{good}");
        assert!(
            engine
                .both(&["ps", "--format", "{{.Names}} {{.Status}}"])
                .lines()
                .any(|line| line.starts_with("c1 Up") && line.ends_with("(healthy)"))
        );
        let names = |filter: &str| engine.both(&["ps", "-a", "--format", "{{.Names}}", "--filter", filter]);
        assert_eq!((names("health=healthy").as_str(), names("health=none").as_str()), ("c1\n", "plain\n"));
        let refused = engine.berth(&["ps", "--filter", "health=fine"]);
        assert!(refused.stderr.contains("unrecognized filter value for health: fine"), "{refused:?}");
        engine.ok(&["exec", "c1", "rm", "/up"]);
        let unhealthy = becomes(&engine, "c1", "unhealthy");
        assert!(unhealthy["FailingStreak"].as_u64() >= Some(2), "{unhealthy}");
        assert_eq!(names("health=unhealthy"), "c1\n");
        lab::wait_for("a log of five", SOON, || (health(&engine, "c1")["Log"].as_array()?.len() == 5).then_some(()));
        engine.ok(&["stop", "-t", "0", "c1"]);
        assert_eq!(health(&engine, "c1")["Status"], "unhealthy");
        let ran = health(&engine, "c1")["Log"].clone();
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(health(&engine, "c1")["Log"], ran, "a stopped container is not checked");
        let events = engine.ok(&[
            "events",
            "--since",
            "1h",
            "--until",
            &now(),
            "--filter",
            "container=c1",
            "--filter",
            "event=health_status",
            "--format",
            "{{.Action}}",
        ]);
        assert_eq!(events, "health_status: healthy\nhealth_status: unhealthy\n");
        // The commands of checks are told as every exec's.
        let events = engine.ok(&[
            "events",
            "--since",
            "1h",
            "--until",
            &now(),
            "--filter",
            "container=c1",
            "--format",
            "{{.Action}}",
        ]);
        for action in ["exec_create: /bin/sh -c cat /up", "exec_start: /bin/sh -c cat /up", "exec_die"] {
            assert!(events.lines().any(|line| line == action), "no {action} in {events}");
        }
        engine.ok(&["start", "c1"]);
        assert_eq!(health(&engine, "c1")["Status"], "starting");
        engine.ok(&["rm", "-f", "c1", "plain"]);
    });
}

/// A second from now: clients send whole seconds.
fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    std::thread::sleep(Duration::from_millis(1000 - u64::from(now.subsec_millis())));
    (now.as_secs() + 1).to_string()
}

#[test]
fn a_check_that_hangs_is_killed_and_one_that_cannot_run_has_failed() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let quick = ["--health-interval", "200ms", "--health-retries", "1", "--health-timeout", "1s"];
        run(&engine, "hangs", &[&quick[..], &["--health-cmd", "echo so far; exec sleep 777"]].concat());
        run(&engine, "floods", &[&quick[..], &["--health-cmd", "yes; true"]].concat());
        let body = serde_json::json!({"Image": "busybox", "Cmd": ["sleep", "1000"],
            "Healthcheck": {"Test": ["CMD", "nosuch"], "Interval": 200_000_000, "Retries": 1}});
        let (status, text) = engine.http("POST", "/containers/create?name=lacks", &body.to_string());
        assert_eq!(status, 201, "{text}");
        engine.ok(&["start", "lacks"]);
        let last = |name: &str| becomes(&engine, name, "unhealthy")["Log"][0].clone();
        let hangs = last("hangs");
        assert_eq!(
            (&hangs["ExitCode"], &hangs["Output"]),
            (&(-1).into(), &"Health check exceeded timeout (1s): so far\n".into())
        );
        let floods = last("floods");
        let said = floods["Output"].as_str().unwrap();
        assert!(
            said.starts_with("Health check exceeded timeout (1s): y\ny\n")
                && said.ends_with("...")
                && said.len() < 4200,
            "{floods}"
        );
        let lacks = last("lacks");
        assert_eq!(lacks["ExitCode"], -1);
        assert!(
            lacks["Output"].as_str().unwrap().contains("\"nosuch\": executable file not found in $PATH"),
            "{lacks}"
        );
        // The killed do not pile up: at most the one that runs now.
        std::thread::sleep(Duration::from_secs(2));
        let top = engine.ok(&["top", "hangs"]);
        assert!(top.matches("sleep 777").count() <= 1, "{top}");
        engine.ok(&["rm", "-f", "hangs", "floods", "lacks"]);
    });
}

#[test]
fn whoever_waits_for_health_hears_of_it() {
    lab::alone(|lab| {
        let engine = engine(lab);
        let check = ["--health-interval", "200ms", "--health-retries", "3"];
        run(&engine, "good", &[&check[..], &["--health-cmd", "test -e /up"]].concat());
        run(&engine, "bad", &[&check[..], &["--health-cmd", "false"]].concat());
        run(&engine, "plain", &[]);
        let wait = |name: &str| {
            let (status, text) = engine.http("POST", &format!("/containers/{name}/wait?condition=healthy"), "");
            assert_eq!(status, 200, "{text}");
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let refused = |name: &str, why: &str| {
            assert_eq!(wait(name), serde_json::json!({"StatusCode": 1, "Error": {"Message": why}}));
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait("good"));
            engine.ok(&["exec", "good", "touch", "/up"]);
            assert_eq!(waiting.join().unwrap(), serde_json::json!({"StatusCode": 0}));
        });
        assert_eq!(wait("good")["StatusCode"], 0, "it is healthy already");
        refused("bad", "container bad is unhealthy");
        refused("plain", "container plain has no healthcheck configured");
        engine.ok(&["kill", "good"]);
        refused("good", "container good exited (137)");
        engine.ok(&["rm", "-f", "good", "bad", "plain"]);
    });
}

#[test]
fn the_image_says_how_unless_the_user_does() {
    lab::alone(|lab| {
        let engine = engine(lab);
        engine.ok(&[
            "create",
            "--name",
            "base",
            "--health-cmd",
            "false",
            "--health-interval",
            "200ms",
            "--health-retries",
            "1",
            "busybox",
            "sleep",
            "1000",
        ]);
        engine.ok(&["commit", "base", "checked"]);
        let shown = |name: &str| engine.json(&format!("/containers/{name}/json"))["Config"]["Healthcheck"].clone();
        let start = |name: &str, flags: &[&str]| {
            let mut words = vec!["run", "-d", "--name", name];
            words.extend(flags);
            words.push("checked");
            engine.ok(&words);
        };
        start("c1", &[]);
        start("c2", &["--no-healthcheck"]);
        start("c3", &["--health-cmd", "true"]);
        // Its failures do not count in the first minute, and are looked for more often.
        start("c4", &["--health-start-period", "1m", "--health-start-interval", "100ms", "--health-interval", "50s"]);
        becomes(&engine, "c1", "unhealthy");
        becomes(&engine, "c3", "healthy");
        assert_eq!(health(&engine, "c2"), Value::Null);
        let early = lab::wait_for("five checks", SOON, || {
            let health = health(&engine, "c4");
            (health["Log"].as_array()?.len() == 5).then_some(health)
        });
        assert_eq!((&early["Status"], &early["FailingStreak"]), (&"starting".into(), &0.into()));
        assert_eq!(shown("c2"), serde_json::json!({"Test": ["NONE"]}));
        assert_eq!(
            shown("c3"),
            serde_json::json!({"Test": ["CMD-SHELL", "true"], "Interval": 200_000_000, "Retries": 1})
        );
        engine.ok(&["rm", "-f", "base", "c1", "c2", "c3", "c4"]);
    });
}

#[test]
fn checks_rest_while_it_is_frozen_and_go_on_after_a_crash_of_the_engine() {
    lab::alone(|lab| {
        let engine = engine(lab);
        run(&engine, "c1", &["--health-cmd", "echo x >> /count", "--health-interval", "200ms"]);
        becomes(&engine, "c1", "healthy");
        engine.ok(&["pause", "c1"]);
        assert!(engine.ok(&["ps"]).contains("(Paused)"));
        let count = || {
            let log = health(&engine, "c1")["Log"].clone();
            log.as_array().map_or(Value::Null, |log| log[log.len() - 1]["Start"].clone())
        };
        let before = count();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(count(), before, "a frozen container was checked");
        engine.ok(&["unpause", "c1"]);
        becomes(&engine, "c1", "healthy");
        // An engine that was killed knows what the one before it knew, and goes on.
        run(
            &engine,
            "c2",
            &[
                "--health-cmd",
                "true",
                "--health-interval",
                "1h",
                "--health-start-interval",
                "200ms",
                "--health-start-period",
                "1h",
            ],
        );
        run(&engine, "c3", &["--health-cmd", "exec sleep 888", "--health-interval", "200ms", "--health-timeout", "1h"]);
        becomes(&engine, "c2", "healthy");
        let hanging = || -> Vec<String> {
            let top = engine.ok(&["top", "c3"]);
            let hanging = top.lines().filter(|line| line.contains("sleep 888"));
            hanging.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect()
        };
        let left = lab::wait_for("a check that hangs", SOON, || Some(hanging()).filter(|pids| pids.len() == 1));
        let log = health(&engine, "c2")["Log"].clone();
        engine.kill9();
        std::thread::sleep(Duration::from_millis(300));
        engine.start_again();
        let kept = health(&engine, "c2");
        assert_eq!((&kept["Status"], &kept["Log"]), (&"healthy".into(), &log));
        let before = count();
        lab::wait_for("the next check", SOON, || (count() != before).then_some(()));
        assert_eq!(health(&engine, "c1")["Status"], "healthy");
        // What the dead engine was waiting for is ended, and not doubled.
        lab::wait_for("a check of the new engine alone", SOON, || {
            let now = hanging();
            (now.len() == 1 && now != left).then_some(())
        });
        engine.ok(&["rm", "-f", "c1", "c2", "c3"]);
    });
}
