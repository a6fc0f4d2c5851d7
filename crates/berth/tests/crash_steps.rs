//! The engine dies at every step of a start and of a removal; the next one leaves nothing half-done.

use lab::{Engine, residue};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Starts an engine that dies at its `at`-th step; whether it answered before it died.
fn start_doomed(engine: &Engine, at: usize) -> Option<std::process::Child> {
    let mut command = engine.daemon_command();
    command.env("BERTH_CRASH_AT", at.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        let answer = lab::http::request(&engine.socket(), "GET", "/_ping", &[], b"");
        if answer.is_ok_and(|answer| answer.status == 200) {
            return Some(child);
        }
        assert!(started.elapsed() < Duration::from_secs(20), "step {at}: the engine neither answers nor ends");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether it lives on. A client sees the connection of a dying process break before the process is gone.
fn survives(child: &mut std::process::Child) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Does `work` with an engine that dies at step 1, 2, 3 … until one survives it; after each death a whole engine starts,
/// `after` judges and clears, and nothing may be left. How many steps there were.
fn at_every_step(engine: &Engine, work: impl Fn(), after: impl Fn(usize)) -> usize {
    let before = residue::listing(engine);
    engine.stop();
    for at in 1.. {
        let Some(mut child) = start_doomed(engine, at) else {
            engine.start_again();
            engine.stop();
            continue;
        };
        work();
        let survived = survives(&mut child);
        let _ = child.kill();
        let _ = child.wait();
        engine.start_again();
        after(at);
        residue::assert_same(engine, &before);
        if survived {
            return at;
        }
        engine.stop();
    }
    unreachable!("the loop only ends by surviving")
}

#[test]
fn a_crash_at_any_step_of_a_start_leaves_nothing_half_done() {
    lab::alone_for(Duration::from_secs(400), |lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let steps = at_every_step(
            &engine,
            || drop(engine.berth(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"])),
            |at| {
                // Either the client never got an answer and may find it created, or it runs; never anything between.
                let state = engine.berth(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "c1"]);
                if state.code == 0 {
                    let words: Vec<&str> = state.stdout.split_whitespace().collect();
                    match words[0] {
                        "running" => {
                            assert!(std::path::Path::new(&format!("/proc/{}", words[1])).exists(), "step {at}")
                        }
                        "created" => assert_eq!(words[1], "0", "step {at}"),
                        other => panic!("step {at}: the container is {other}"),
                    }
                    let started = engine.berth(&["start", "c1"]);
                    assert_eq!(started.code, 0, "step {at}: {started:?}");
                    engine.ok(&["exec", "c1", "ip", "addr", "show", "eth0"]);
                    engine.ok(&["rm", "-f", "c1"]);
                }
            },
        );
        println!("a start has {steps} steps at which the engine died");
        assert!(steps > 10, "only {steps} steps: the places to crash are not reached");
    });
}

#[test]
fn a_crash_at_any_step_of_a_removal_leaves_nothing_half_done() {
    lab::alone_for(Duration::from_secs(400), |lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        // The engine that makes the container lives; the doomed one only removes it.
        let before = residue::listing(&engine);
        let mut steps = 0;
        for at in 1.. {
            engine.ok(&["run", "-d", "--name", "c1", "-v", "/data", "busybox", "sleep", "1000"]);
            engine.stop();
            let survived = match start_doomed(&engine, at) {
                None => false,
                Some(mut child) => {
                    drop(engine.berth(&["rm", "-f", "-v", "c1"]));
                    let survived = survives(&mut child);
                    let _ = child.kill();
                    let _ = child.wait();
                    survived
                }
            };
            engine.start_again();
            if engine.berth(&["inspect", "c1"]).code == 0 {
                engine.ok(&["rm", "-f", "-v", "c1"]);
            }
            residue::assert_same(&engine, &before);
            steps = at;
            if survived {
                break;
            }
        }
        println!("a removal has {steps} steps at which the engine died");
        assert!(steps > 4, "only {steps} steps: the places to crash are not reached");
    });
}
